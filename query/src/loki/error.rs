//! Errors as Loki tells them: a status and plain text.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A request that has no answer.
#[derive(Debug)]
pub(super) struct LokiError {
    status: StatusCode,
    text: String,
}

impl LokiError {
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    pub(super) fn too_many(text: impl Into<String>) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, text: text.into() }
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, text: text.into() }
    }

    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, text: text.into() }
    }
}

impl std::fmt::Display for LokiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LokiError {}

impl From<crate::Error> for LokiError {
    fn from(error: crate::Error) -> Self {
        use crate::Error as Query;
        let status = match &error {
            Query::BadData(_) | Query::Execution(_) => StatusCode::BAD_REQUEST,
            Query::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Query::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Query::NotFound(_) => StatusCode::NOT_FOUND,
            Query::Cancelled(_) | Query::Internal(_) => error.status(),
        };
        Self { status, text: error.to_string() }
    }
}

impl From<storage_api::Error> for LokiError {
    fn from(error: storage_api::Error) -> Self {
        crate::Error::from(error).into()
    }
}

impl From<query_logql::ParseError> for LokiError {
    fn from(error: query_logql::ParseError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<query_logql::Error> for LokiError {
    fn from(error: query_logql::Error) -> Self {
        match error {
            query_logql::Error::Storage(error) => error.into(),
            // Parsing, a pipeline's error, an ambiguous match: the query is at fault.
            error => Self::bad(error.to_string()),
        }
    }
}

impl IntoResponse for LokiError {
    fn into_response(self) -> Response {
        let text = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
        (self.status, text, self.text).into_response()
    }
}
