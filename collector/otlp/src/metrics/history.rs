//! What is stored already of the series that deltas are added up to.

use std::fmt;
use std::sync::Arc;

use model::{Histogram, Labels};

/// The newest sample of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// The series.
    pub labels: Labels,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// When counting began, in milliseconds since the epoch; 0 when that is not known.
    pub start_ms: i64,
    /// The value of a number.
    pub value: f64,
    /// The native histogram, if it is one.
    pub histogram: Option<Arc<Histogram>>,
}

/// Looks up what is stored, so that totals go on where they were before a restart.
pub trait History: fmt::Debug + Send + Sync {
    /// Returns the newest sample, not older than `since_ms`, of each series of the metric `name` that has all of
    /// `labels`; an empty value asks for series without that label.
    ///
    /// # Errors
    /// When storage cannot be read.
    fn newest(&self, name: &str, labels: &[(&str, &str)], since_ms: i64) -> Result<Vec<Newest>, HistoryError>;
}

/// Why nothing could be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the totals of deltas cannot be looked up: {cause}")]
pub struct HistoryError {
    /// What went wrong.
    pub cause: String,
}
