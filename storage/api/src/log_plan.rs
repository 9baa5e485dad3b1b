//! What a query would read, before it does.

/// What a selection would read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPlan {
    /// Blocks that lie outside the range: nothing of them is looked at.
    pub blocks_outside: u64,
    /// The blocks inside, oldest first.
    pub blocks: Vec<LogBlockPlan>,
    /// Records in memory that would be looked at.
    pub head_records: u64,
}

/// What a selection would read of one block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogBlockPlan {
    /// Its name.
    pub name: String,
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
    /// Compressed bytes of the columns that would be read.
    pub bytes_read: u64,
    /// Records that are counted beside the block, without reading any.
    pub records_counted: u64,
}
