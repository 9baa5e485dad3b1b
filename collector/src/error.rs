//! Why a whole request was refused, and the one place that knows its HTTP and gRPC status.

use axum::http::StatusCode;
use tonic::Code;

/// The result of a step that may refuse the request.
pub(crate) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// Why a whole request was refused: nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not a content type that the path takes.
    #[error("content type {got:?} is not supported, expected {expected}")]
    MediaType { got: String, expected: &'static str },
    /// Not a compression that the path takes.
    #[error("content encoding {got:?} is not supported, expected {expected}")]
    Encoding { got: String, expected: &'static str },
    /// The bytes are not what they claim to be.
    #[error("{what} cannot be decoded: {cause}")]
    Malformed { what: &'static str, cause: String },
    /// The body is over a limit, now and on every retry.
    #[error("{what} is over the limit of {limit_bytes} bytes")]
    TooLarge { what: &'static str, limit_bytes: u64 },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {limit_ms} ms")]
    BodyTimeout { limit_ms: u64 },
    /// The client stopped sending.
    #[error("the body ended early: {cause}")]
    BodyBroken { cause: String },
    /// No room now; a retry may succeed.
    #[error("overloaded, try again later: {cause}")]
    Overloaded { cause: String },
    /// Storage cannot take anything now; a retry may succeed.
    #[error("storage is unavailable, try again later: {cause}")]
    Unavailable { reason: &'static str, cause: String },
    /// A fault of ours.
    #[error("internal error: {cause}")]
    Internal { cause: String },
}

impl Refusal {
    /// Returns a short word for the `reason` label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::MediaType { .. } => "unsupported_media_type",
            Self::Encoding { .. } => "unsupported_encoding",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::BodyTimeout { .. } => "body_timeout",
            Self::BodyBroken { .. } => "body_broken",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { reason, .. } => reason,
            Self::Internal { .. } => "internal",
        }
    }

    /// Returns the HTTP status and the gRPC status.
    pub(crate) fn status(&self) -> (StatusCode, Code) {
        match self {
            Self::MediaType { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument),
            Self::Encoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented),
            Self::Malformed { .. } | Self::BodyBroken { .. } => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            // Without RetryInfo an OTLP client does not retry RESOURCE_EXHAUSTED.
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            Self::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            Self::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        }
    }

    /// Says whether the client should send the same request again.
    pub(crate) fn retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Unavailable { .. })
    }
}

impl From<storage_api::Error> for Refusal {
    fn from(error: storage_api::Error) -> Self {
        use storage_api::Error;
        let cause = text(&error);
        match error {
            Error::Overloaded { .. } => Self::Overloaded { cause },
            Error::DiskFull { .. } => Self::Unavailable { reason: "disk_full", cause },
            Error::Poisoned { .. } => Self::Unavailable { reason: "poisoned", cause },
            Error::Closed | Error::Cancelled => Self::Unavailable { reason: "shutting_down", cause },
            Error::Io { .. } => Self::Unavailable { reason: "io_error", cause },
            Error::Timeout { .. } => Self::Unavailable { reason: "storage_timeout", cause },
            Error::Invalid(_) => Self::Malformed { what: "the batch", cause },
            // The enum may grow; what is not known here is a fault of ours, not of the client.
            _ => Self::Internal { cause },
        }
    }
}

/// Returns an error with its causes.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
