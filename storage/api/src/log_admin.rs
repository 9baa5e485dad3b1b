//! Deleting logs by query.

use std::fmt;
use std::sync::Arc;

use model::{Labels, Timestamp};

use crate::{LogRows, LogSelect, QueryContext, Result};

/// Says which rows a query means, for a store that knows no query language.
pub trait RowTest: Send + Sync + fmt::Debug {
    /// Returns the places of the rows that pass, ascending. The rows have lines, and metadata if it was asked for.
    fn passing(&self, stream: &Labels, rows: &LogRows) -> Vec<usize>;
}

/// A delete.
#[derive(Debug, Clone)]
pub struct LogDelete {
    /// The query as it came, to be told in the list of requests.
    pub query: String,
    /// The rows that may be meant.
    pub select: LogSelect,
    /// Which of them are; none for all.
    pub test: Option<Arc<dyn RowTest>>,
}

/// What is known of a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDeleteRequest {
    /// Eight hexadecimal digits.
    pub id: String,
    /// The query as it came.
    pub query: String,
    /// The first timestamp.
    pub start: Timestamp,
    /// The last timestamp, inclusive.
    pub end: Timestamp,
    /// When it was taken.
    pub created: Timestamp,
    /// How many records it deleted.
    pub records: u64,
    /// Blocks that held some of them.
    pub blocks: u64,
    /// Blocks that still do, out of sight.
    pub blocks_left: u64,
}

/// What became of the wish to take a delete back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelete {
    /// There is no request with this id.
    NotFound,
    /// All its records are gone from disk.
    Processed,
    /// Some of its records are gone from disk, and to bring the others back was not asked for.
    PartlyProcessed,
    /// So many records are seen again.
    Done(u64),
}

/// Deletes from logs.
pub trait LogAdmin: Send + Sync + fmt::Debug {
    /// Deletes the rows that are meant. When it returns, no query sees them any more, also after a crash; they are gone from
    /// disk after the next compaction of their block, or [`clean_deletes`](Self::clean_deletes). Rows that came before the
    /// call are meant, and maybe some that come while it runs, but none that comes later. Batches that come again after it
    /// are stored anew.
    ///
    /// # Errors
    /// I/O, corruption, too many requests.
    fn delete(&self, delete: &LogDelete, context: &QueryContext) -> Result<LogDeleteRequest>;

    /// Returns the requests, oldest first.
    fn deletes(&self) -> Vec<LogDeleteRequest>;

    /// Takes a delete back, as far as its records are still there. `force` takes a partly processed one.
    ///
    /// # Errors
    /// I/O.
    fn undelete(&self, id: &str, force: bool) -> Result<Undelete>;

    /// Removes from disk what was deleted.
    ///
    /// # Errors
    /// I/O.
    fn clean_deletes(&self) -> Result<()>;
}
