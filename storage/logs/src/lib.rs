//! Logs: head, Parquet blocks with three page indexes, compaction.
//!
//! A batch is encoded once; those bytes go to the write-ahead log and are the head. A flush sorts the head by (stream,
//! timestamp) into an immutable block. Indexes point at pages and say only "perhaps": whoever reads tests each row.
//! `docs/format/logs-block.md` and `docs/format/logs-wal.md` have the layouts, `docs/adr/0003-logs-blocks.md` the reasons.

mod append;
#[doc(hidden)]
pub mod benched;
mod block;
mod codec;
mod compaction;
mod cross_check;
mod deletes;
mod explain;
mod fault;
mod flush;
mod head;
mod head_rows;
mod index;
mod json;
mod metadata;
mod options;
mod part;
mod query;
mod retry;
mod room;
mod snapshot;
mod store;
mod tally;
mod telemetry;
mod token;
mod verify;

#[cfg(test)]
mod tests;

pub use options::Options;
pub use store::{LogStore, StoreStats};
pub use verify::{blocks, verify};
