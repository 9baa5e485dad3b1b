//! Metrics: a head in memory, covered by the WAL, and immutable Parquet blocks on disk.
//!
//! A sample is durable and queryable when [`append`](storage_api::MetricAppender::append) returns. Samples may come in
//! any order and of any age that the retention keeps; of two for one time the one that was written later wins. Queries
//! see the heads and blocks of one moment and are never stopped by a flush or a merge. Formats are in
//! `docs/format/metrics-block.md`.
//!
//! It does not decide when to flush, to merge or to drop: [`MetricStore::should_flush`], [`MetricStore::compact_once`]
//! and [`MetricStore::apply_retention`] are called by the facade.

mod append;
#[doc(hidden)]
pub mod benched;
mod block;
mod compaction;
mod delete;
mod error;
mod exemplars;
mod flush;
mod head;
mod histogram_codec;
mod merge;
mod metadata;
mod mixed;
mod options;
mod postings;
mod record;
mod remains;
mod replay;
mod select;
mod snapshot;
mod store;
mod telemetry;
mod tombstones;
mod varint;
mod verify;
mod view;

#[cfg(test)]
mod tests;

pub use options::Options;
pub use store::{MetricStore, Stats};
pub use verify::{blocks, verify};
