//! What the store tells about itself.

use runtime::{Counter, CounterVec, Gauge, Histogram, Telemetry};

/// Bounds for things that take a disk's time, in seconds.
const SYNC_BOUNDS: [f64; 10] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0];
/// Bounds for things that write a block, in seconds.
const BLOCK_BOUNDS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// The store's own metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) head_series: Gauge,
    pub(crate) head_samples: Gauge,
    pub(crate) head_bytes: Gauge,
    pub(crate) blocks: Gauge,
    pub(crate) block_bytes: Gauge,
    pub(crate) block_samples: Gauge,
    pub(crate) index_bytes: Gauge,
    pub(crate) damaged_blocks: Gauge,
    pub(crate) corruptions: Counter,
    pub(crate) appended: Counter,
    pub(crate) rejected: CounterVec,
    pub(crate) keys: CounterVec,
    pub(crate) head_keys: Gauge,
    pub(crate) keys_forgotten: Counter,
    pub(crate) appended_exemplars: Counter,
    pub(crate) rejected_exemplars: CounterVec,
    pub(crate) flushes: CounterVec,
    pub(crate) flush_seconds: Histogram,
    pub(crate) compactions: CounterVec,
    pub(crate) compaction_seconds: Histogram,
    pub(crate) wal_bytes: Gauge,
    pub(crate) wal_written: Counter,
    pub(crate) wal_syncs: Histogram,
    pub(crate) wal_lost: CounterVec,
    pub(crate) retention_samples: Counter,
    pub(crate) retention_exemplars: Counter,
    pub(crate) tombstones: Gauge,
    pub(crate) deleted_samples: Counter,
    pub(crate) deleted_exemplars: Counter,
    pub(crate) metadata_dropped: CounterVec,
}

impl Metrics {
    pub(crate) fn register(telemetry: &Telemetry) -> Self {
        let gauge = |name, help| telemetry.gauge(name, help);
        Self {
            head_series: gauge("daybook_metrics_head_series", "Series in the head."),
            head_samples: gauge("daybook_metrics_head_samples", "Samples in the head."),
            head_bytes: gauge("daybook_metrics_head_bytes", "Memory of the head, in bytes."),
            blocks: gauge("daybook_metrics_blocks", "Intact blocks on disk."),
            block_bytes: gauge("daybook_metrics_block_bytes", "Size of the intact blocks, in bytes."),
            block_samples: gauge("daybook_metrics_block_samples", "Samples in the intact blocks."),
            index_bytes: gauge(
                "daybook_metrics_block_index_memory_bytes",
                "Memory of the label indexes of the blocks, in bytes.",
            ),
            damaged_blocks: gauge(
                "daybook_metrics_damaged_blocks",
                "Blocks that were damaged when the store was opened, and are left out of answers with a warning.",
            ),
            corruptions: telemetry.counter(
                "daybook_metrics_corruptions_total",
                "Times that a checksum or a length in a block was found wrong.",
            ),
            appended: telemetry.counter("daybook_metrics_appended_samples_total", "Samples that became durable."),
            rejected: telemetry.counter_vec(
                "daybook_metrics_rejected_samples_total",
                "Samples that were refused one by one, by reason.",
                &["reason"],
            ),
            keys: telemetry.counter_vec(
                "daybook_metrics_series_keys_total",
                "Series in requests that were told by a key: known ones, and unknown ones whose labels were decoded.",
                &["result"],
            ),
            head_keys: gauge("daybook_metrics_head_keys", "Keys of series that the head knows."),
            keys_forgotten: telemetry.counter(
                "daybook_metrics_forgotten_keys_total",
                "Keys of series that were forgotten as there were too many for the series in the head.",
            ),
            appended_exemplars: telemetry
                .counter("daybook_metrics_appended_exemplars_total", "Exemplars that became durable."),
            rejected_exemplars: telemetry.counter_vec(
                "daybook_metrics_rejected_exemplars_total",
                "Exemplars that were refused one by one, by reason.",
                &["reason"],
            ),
            flushes: telemetry.counter_vec(
                "daybook_metrics_flushes_total",
                "Times that the head was written to a block, by result.",
                &["result"],
            ),
            flush_seconds: telemetry.histogram(
                "daybook_metrics_flush_duration_seconds",
                "Time to write the head to a block.",
                &BLOCK_BOUNDS,
            ),
            compactions: telemetry.counter_vec(
                "daybook_metrics_compactions_total",
                "Times that blocks were merged, by result.",
                &["result"],
            ),
            compaction_seconds: telemetry.histogram(
                "daybook_metrics_compaction_duration_seconds",
                "Time to merge blocks.",
                &BLOCK_BOUNDS,
            ),
            wal_bytes: gauge("daybook_metrics_wal_bytes", "Size of the metrics WAL, in bytes."),
            wal_written: telemetry
                .counter("daybook_metrics_wal_written_bytes_total", "Bytes written to the metrics WAL."),
            wal_syncs: telemetry.histogram(
                "daybook_metrics_wal_fsync_duration_seconds",
                "Time of one fsync of the metrics WAL; a group of appends shares it.",
                &SYNC_BOUNDS,
            ),
            wal_lost: telemetry.counter_vec(
                "daybook_metrics_wal_lost_bytes_total",
                "Bytes of the metrics WAL that could not be read at start, by reason.",
                &["reason"],
            ),
            retention_samples: telemetry.counter(
                "daybook_metrics_retention_dropped_samples_total",
                "Samples that were dropped with their block as they were older than the retention.",
            ),
            retention_exemplars: telemetry.counter(
                "daybook_metrics_retention_dropped_exemplars_total",
                "Exemplars that were dropped with their block as it was older than the retention.",
            ),
            tombstones: gauge("daybook_metrics_tombstones", "Deletes whose samples still lie in blocks, out of sight."),
            deleted_samples: telemetry.counter(
                "daybook_metrics_deleted_samples_total",
                "Deleted samples that were left out when their block was written anew.",
            ),
            deleted_exemplars: telemetry.counter(
                "daybook_metrics_deleted_exemplars_total",
                "Deleted exemplars that were left out when their block was written anew.",
            ),
            metadata_dropped: telemetry.counter_vec(
                "daybook_metrics_metadata_dropped_total",
                "Metric metadata (kind, help, unit) that was not kept, by reason.",
                &["reason"],
            ),
        }
    }
}
