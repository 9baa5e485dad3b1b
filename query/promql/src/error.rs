//! Why a query has no answer.

use crate::parse::ParseError;

/// The result of a query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The expression is malformed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The expression cannot be evaluated on this data; the text is the one that Prometheus gives.
    #[error("{0}")]
    Evaluation(String),
    /// The store refused, a limit was met, or the query was cancelled.
    #[error(transparent)]
    Storage(#[from] storage_api::Error),
}

impl Error {
    pub(crate) fn evaluation(text: impl Into<String>) -> Self {
        Self::Evaluation(text.into())
    }
}
