//! Testing new rows as they arrive, for `tail`.

use storage_api::TailBatch;

use crate::ast::LogExpr;
use crate::error::Result;
use crate::eval::LogEntry;
use crate::row::RowLabels;
use crate::stage::Pipeline;

/// A log query that is put to rows as they arrive.
#[derive(Debug)]
pub struct Follower {
    log: LogExpr,
    pipeline: Pipeline,
}

impl Follower {
    /// Prepares a query.
    ///
    /// # Errors
    /// Patterns and templates that do not compile.
    pub fn new(log: LogExpr) -> Result<Self> {
        let pipeline = Pipeline::new(&log)?;
        Ok(Self { log, pipeline })
    }

    /// Returns the rows of a batch that pass, in the order they arrived.
    #[must_use]
    pub fn process(&self, batch: &TailBatch) -> Vec<LogEntry> {
        let passes = |name: &str| batch.stream.get(name).unwrap_or("");
        if !self.log.matchers.iter().all(|matcher| matcher.matches(passes(&matcher.name))) {
            return Vec::new();
        }
        let mut labels = RowLabels::new(&batch.stream);
        let mut out = Vec::new();
        for (row, timestamp) in batch.rows.timestamps.iter().copied().enumerate() {
            let line = batch.rows.lines.get(row);
            if !self.pipeline.passes(line) {
                continue;
            }
            labels.reset(batch.rows.metadata.get(row).iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
            if let Some(line) = self.pipeline.process(timestamp, line, &mut labels) {
                out.push(LogEntry { timestamp, line: line.into_owned(), labels: labels.categorized() });
            }
        }
        out
    }
}
