//! What can go wrong with a query.

use std::fmt;

/// The result of parsing or running a query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where in a query's text something is: both start at 1; 0 when no place can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
}

/// A query that is no LogQL. Prints as Loki does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub at: Position,
    /// What was found and what was expected.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// An error of the whole query.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self { at: Position::default(), message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at == Position::default() {
            write!(f, "parse error : {}", self.message)
        } else {
            write!(f, "parse error at line {}, col {}: {}", self.at.line, self.at.column, self.message)
        }
    }
}

impl std::error::Error for ParseError {}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no LogQL.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A line could not be parsed or converted, and the query does not say what to do then.
    #[error(
        "pipeline error: '{kind}' for series: '{series}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    )]
    Pipeline {
        /// The value of `__error__`.
        kind: String,
        /// The labels of the first such series.
        series: String,
    },
    /// Evaluation met something that has no meaning, such as several matches on the "one" side.
    #[error("{0}")]
    Evaluation(String),
    /// The store failed, or a limit was met.
    #[error(transparent)]
    Storage(#[from] storage_api::Error),
}

impl Error {
    pub(crate) fn evaluation(text: impl Into<String>) -> Self {
        Self::Evaluation(text.into())
    }
}
