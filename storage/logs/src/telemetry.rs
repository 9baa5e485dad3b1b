//! The store's own metrics.

use runtime::{Counter, CounterVec, Gauge, Histogram, Telemetry};

use crate::block::PageCache;

/// Bounds of durations of background work, in seconds.
const WORK_SECONDS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
/// Bounds of an fsync, in seconds.
const SYNC_SECONDS: [f64; 10] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) head_bytes: Gauge,
    pub(crate) head_records: Gauge,
    pub(crate) head_streams: Gauge,
    pub(crate) head_waits: Counter,
    pub(crate) blocks: Gauge,
    pub(crate) block_bytes: Gauge,
    pub(crate) block_records: Gauge,
    pub(crate) cache_bytes: Gauge,
    pub(crate) page_cache_bytes: Gauge,
    page_cache_requests: CounterVec,
    pub(crate) wal_bytes: Gauge,
    pub(crate) wal_sync: Histogram,
    pub(crate) wal_records: Counter,
    pub(crate) wal_corrupt: Counter,
    pub(crate) appended: Counter,
    pub(crate) repeated_batches: Counter,
    pub(crate) repeated_records: Counter,
    pub(crate) flushes: Counter,
    pub(crate) flush_failures: Counter,
    pub(crate) flush_seconds: Histogram,
    pub(crate) compactions: Counter,
    pub(crate) compaction_failures: Counter,
    pub(crate) compaction_seconds: Histogram,
    pub(crate) corrupt_blocks: CorruptBlocks,
    pub(crate) expired_blocks: Counter,
    pub(crate) hidden_records: Gauge,
    pub(crate) deleted: Counter,
    pub(crate) undeleted: Counter,
}

/// What of a block is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// So much that the block cannot be opened, and is set aside.
    Files,
    /// Some rows; answers lack them.
    Rows,
    /// The index; the block is scanned.
    Index,
    /// The counts; rows are counted.
    Counts,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Files, Self::Rows, Self::Index, Self::Counts];

    fn reason(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Rows => "rows",
            Self::Index => "index",
            Self::Counts => "counts",
        }
    }

    /// Returns the bit that stands for it in a set.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Files => 1,
            Self::Rows => 2,
            Self::Index => 4,
            Self::Counts => 8,
        }
    }
}

/// Counts blocks that are found damaged.
#[derive(Debug, Clone)]
pub(crate) struct CorruptBlocks(CounterVec);

impl CorruptBlocks {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let counter = telemetry.counter_vec(
            "daybook_logs_corrupt_blocks_total",
            "Log blocks found damaged, by what of them is.",
            &["reason"],
        );
        // All reasons are there from the start, at zero.
        Damage::ALL.into_iter().for_each(|damage| counter.with(&[damage.reason()]).inc_by(0));
        Self(counter)
    }

    pub(crate) fn count(&self, damage: Damage) {
        self.0.with(&[damage.reason()]).inc();
    }
}

impl Metrics {
    /// Makes a cache of pages that is counted.
    pub(crate) fn page_cache(&self, limit: usize) -> PageCache {
        let [hits, misses] = ["hit", "miss"].map(|outcome| self.page_cache_requests.with(&[outcome]));
        PageCache::new(limit, hits, misses)
    }

    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let gauge = |name, help| telemetry.gauge(name, help);
        let counter = |name, help| telemetry.counter(name, help);
        Self {
            head_bytes: gauge("daybook_logs_head_bytes", "Memory of log records that are not in a block yet."),
            head_records: gauge("daybook_logs_head_records", "Log records that are not in a block yet."),
            head_streams: gauge("daybook_logs_head_streams", "Streams with records that are not in a block yet."),
            hidden_records: gauge(
                "daybook_logs_hidden_records",
                "Deleted log records that still lie in blocks, out of sight.",
            ),
            deleted: counter(
                "daybook_logs_deleted_records_total",
                "Deleted log records that were left out when their block was written anew.",
            ),
            undeleted: counter(
                "daybook_logs_undeleted_records_total",
                "Deleted log records that are seen again, as their delete was taken back.",
            ),
            head_waits: counter(
                "daybook_logs_head_waits_total",
                "Appends that found the logs head full and waited for a flush.",
            ),
            blocks: gauge("daybook_logs_blocks", "Blocks of log records."),
            block_bytes: gauge("daybook_logs_block_bytes", "Size of all log blocks on disk."),
            block_records: gauge("daybook_logs_block_records", "Log records in blocks."),
            cache_bytes: gauge("daybook_logs_cache_bytes", "Memory of the indexes, footers and counts in use."),
            page_cache_bytes: gauge("daybook_logs_page_cache_bytes", "Memory of pages of log blocks read lately."),
            page_cache_requests: telemetry.counter_vec(
                "daybook_logs_page_cache_requests_total",
                "Pages of log blocks asked for that were kept in memory, or not, by outcome.",
                &["outcome"],
            ),
            wal_bytes: gauge("daybook_logs_wal_bytes", "Size of the logs' write-ahead log."),
            wal_sync: telemetry.histogram(
                "daybook_logs_wal_sync_seconds",
                "How long the fsyncs of the logs' write-ahead log took.",
                &SYNC_SECONDS,
            ),
            wal_records: counter("daybook_logs_wal_records_total", "Batches written to the logs' write-ahead log."),
            wal_corrupt: counter(
                "daybook_logs_wal_corrupt_records_total",
                "Damaged places found in the logs' write-ahead log, each at least one lost batch.",
            ),
            appended: counter("daybook_logs_appended_records_total", "Log records stored."),
            repeated_batches: counter(
                "daybook_logs_repeated_batches_total",
                "Batches equal to a recent one: retries, acknowledged and stored once.",
            ),
            repeated_records: counter("daybook_logs_repeated_records_total", "Log records in repeated batches."),
            flushes: counter("daybook_logs_flushes_total", "Heads written to blocks."),
            flush_failures: counter(
                "daybook_logs_flush_failures_total",
                "Flushes that failed; the records stay in the write-ahead log and the flush is tried again.",
            ),
            flush_seconds: telemetry.histogram(
                "daybook_logs_flush_seconds",
                "How long it took to write a head to a block.",
                &WORK_SECONDS,
            ),
            compactions: counter("daybook_logs_compactions_total", "Merges of log blocks."),
            compaction_failures: counter("daybook_logs_compaction_failures_total", "Merges of log blocks that failed."),
            compaction_seconds: telemetry.histogram(
                "daybook_logs_compaction_seconds",
                "How long it took to merge log blocks.",
                &WORK_SECONDS,
            ),
            corrupt_blocks: CorruptBlocks::new(telemetry),
            expired_blocks: counter("daybook_logs_expired_blocks_total", "Log blocks dropped by retention."),
        }
    }
}
