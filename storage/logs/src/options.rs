//! How a store is opened.

use std::time::Duration;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long records are kept; `None` keeps everything and accepts any timestamp.
    pub retention: Option<Duration>,
    /// Most memory of records that are not in a block yet, in bytes. Beyond it appends wait a little for a
    /// flush and are then refused as overloaded; a flush is due at half of it, so that there is room while one is under way.
    pub head_bytes_max: u64,
    /// Longest time that an append waits for room in a full head before it is refused as overloaded: as long as most senders
    /// wait for an answer. A sender that gave up and sends it again is told that it is stored.
    pub full_head_wait: Duration,
    /// Longest line, in bytes. Longer ones are refused with reason `line_too_long`.
    pub line_bytes_max: u64,
    /// Most bytes of a record beside its line: attributes, texts, ids.
    pub attributes_bytes_max: u64,
    /// Most attributes of a record.
    pub attributes_max: usize,
    /// Most bytes of a stream's labels, and of resource and scope.
    pub origin_bytes_max: u64,
    /// Recent batches that are remembered, to store a retry once.
    pub recent_batches: usize,
    /// Most memory of indexes, footers and counts of blocks that were used lately, in bytes.
    pub cache_bytes_max: usize,
    /// Most memory of pages that were read lately, and of which of their lines passed a filter, in bytes.
    pub page_cache_bytes_max: usize,
    /// Most rows of a block; compaction makes none larger.
    pub block_rows_max: u64,
    /// Batches that a follower may be behind before it misses some.
    pub tail_batches: usize,
    /// Failures on demand of the write-ahead log, for tests.
    pub wal_faults: storage_wal::Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: None,
            head_bytes_max: 128 << 20,
            full_head_wait: Duration::from_secs(10),
            line_bytes_max: 8 << 20,
            attributes_bytes_max: 1 << 20,
            attributes_max: 1024,
            origin_bytes_max: 256 << 10,
            recent_batches: 16_384,
            cache_bytes_max: 64 << 20,
            page_cache_bytes_max: 64 << 20,
            block_rows_max: 4 << 20,
            tail_batches: 1024,
            wal_faults: storage_wal::Faults::default(),
        }
    }
}
