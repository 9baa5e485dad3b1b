//! The answer of a log query with `dry_run=1`: what it would read.

use serde::{Deserialize, Serialize};

/// `data` of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryPlan {
    /// `plan`.
    pub result_type: String,
    /// What the query would select from the store, in the order it would do it.
    pub selections: Vec<Selection>,
    /// All of them together; at most, as a limit of lines ends the reading early.
    pub total: Total,
}

/// One selection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// The streams.
    pub selector: String,
    /// The first nanosecond.
    pub start_ns: String,
    /// The last nanosecond.
    pub end_ns: String,
    /// What the indexes are asked for, each condition that every line fulfils.
    pub needles: Vec<String>,
    /// What is read of a record: `lines`, `metadata`, both, or `severity` alone.
    pub columns: Vec<String>,
    /// Blocks that lie outside the range.
    pub blocks_outside: u64,
    /// Those inside.
    pub blocks: Vec<BlockPlan>,
    /// Records in memory that would be looked at.
    pub head_records: u64,
}

/// What would be read of one block.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockPlan {
    /// The block's folder.
    pub block: String,
    /// Its records.
    pub records: u64,
    /// Its pages.
    pub pages: u64,
    /// Its streams that are selected.
    pub streams: u64,
    /// Pages that hold records of these streams in the range.
    pub pages_inside: u64,
    /// Whether an index was asked which of them may hold what is looked for.
    pub by_index: bool,
    /// Pages that would be read.
    pub pages_read: u64,
    /// Records in them that would be looked at.
    pub records_read: u64,
    /// Compressed bytes that would be read.
    pub bytes_read: u64,
    /// Records that are counted beside the block, without reading any.
    pub records_counted: u64,
}

/// Sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// Blocks inside the range.
    pub blocks: u64,
    /// Blocks of which something would be read.
    pub blocks_read: u64,
    /// Pages inside.
    pub pages_inside: u64,
    /// Pages that would be read.
    pub pages_read: u64,
    /// Records that would be looked at, those in memory included.
    pub records_read: u64,
    /// Compressed bytes that would be read from blocks.
    pub bytes_read: u64,
    /// Records that are counted without reading any.
    pub records_counted: u64,
}
