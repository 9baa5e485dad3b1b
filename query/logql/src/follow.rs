//! Testing new rows as they arrive, for `tail`.

use model::Labels;
use storage_api::{LogRows, RowTest, TailBatch};

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

    /// Says whether every row of a matching stream passes.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.log.stages.is_empty()
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
            labels.reset_row(&batch.rows, row, true);
            if let Some(line) = self.pipeline.process(timestamp, line, &mut labels) {
                out.push(LogEntry { timestamp, line: line.into_owned(), labels: labels.categorized() });
            }
        }
        out
    }
}

/// The stream's labels were tested by whoever selected the rows.
impl RowTest for Follower {
    fn passing(&self, stream: &Labels, rows: &LogRows) -> Vec<usize> {
        let mut labels = RowLabels::new(stream);
        let mut passes = |row: &usize| {
            let line = rows.lines.get(*row);
            let Some(timestamp) = rows.timestamps.get(*row).copied() else { return false };
            if !self.pipeline.passes(line) {
                return false;
            }
            labels.reset_row(rows, *row, true);
            self.pipeline.process(timestamp, line, &mut labels).is_some()
        };
        (0..rows.len()).filter(|row| passes(row)).collect()
    }
}
