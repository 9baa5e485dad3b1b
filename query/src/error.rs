//! What can go wrong with a query, and the one place that turns it into HTTP.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The result of a query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is malformed.
    #[error("{0}")]
    BadData(String),
    /// The query cannot be executed, or is over a limit.
    #[error("{0}")]
    Execution(String),
    /// The time was up.
    #[error("{0}")]
    Timeout(String),
    /// The client went away.
    #[error("{0}")]
    Cancelled(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Too much is going on, or the server shuts down.
    #[error("{0}")]
    Unavailable(String),
    /// Our fault: corruption, I/O, a bug.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Returns Prometheus' word for the kind of error.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadData(_) => "bad_data",
            Self::Execution(_) => "execution",
            Self::Timeout(_) => "timeout",
            Self::Cancelled(_) => "canceled",
            Self::NotFound(_) => "not_found",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// Returns the HTTP status that Prometheus uses for it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadData(_) => StatusCode::BAD_REQUEST,
            Self::Execution(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Cancelled(_) => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<storage_api::Error> for Error {
    fn from(error: storage_api::Error) -> Self {
        use storage_api::Error as Storage;
        let text = error.to_string();
        match error {
            Storage::Limit { .. } => Self::Execution(text),
            Storage::Cancelled => Self::Cancelled(text),
            Storage::Timeout { .. } => Self::Timeout(text),
            Storage::Invalid(_) => Self::BadData(text),
            Storage::Overloaded { .. } | Storage::Closed | Storage::DiskFull { .. } => Self::Unavailable(text),
            Storage::Io { source, .. } => Self::Internal(format!("{text}: {source}")),
            _ => Self::Internal(text),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = query_wire::prometheus::Response::<()>::failure(self.kind(), self.to_string());
        let text = serde_json::to_string(&body).unwrap_or_default();
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (self.status(), json, text).into_response()
    }
}
