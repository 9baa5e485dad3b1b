//! Limits and sizes of the store.

use std::time::Duration;

use storage_wal::Faults;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long samples are kept; older ones are refused, hidden and dropped. `None` keeps everything and accepts any
    /// timestamp.
    pub retention: Option<Duration>,
    /// Most memory of the heads, in bytes; appends beyond are refused as overload.
    pub head_bytes_max: u64,
    /// Most labels of a series. Kubernetes with promoted resource attributes reaches some 60; a hundred thousand are an
    /// attack or a bug.
    pub labels_per_series_max: usize,
    /// Longest label name, in bytes; the limit that Mimir has.
    pub label_name_bytes_max: usize,
    /// Longest label value, in bytes.
    pub label_value_bytes_max: usize,
    /// Most bytes of all names and values of one series.
    pub series_bytes_max: usize,
    /// Most buckets of a native histogram, its custom bounds counted with them. Clients are content with 160.
    pub histogram_buckets_max: usize,
    /// Most UTF-8 characters of all label names and values of an exemplar: the limit that OpenMetrics sets.
    pub exemplar_label_chars_max: usize,
    /// Most metrics whose kind, help and unit are kept.
    pub metadata_entries_max: usize,
    /// Longest name, help and unit together, in bytes.
    pub metadata_bytes_max: usize,
    /// Most rows of a compacted block.
    pub block_rows_max: u64,
    /// A block of fewer samples keeps its values as plain doubles, which any program reads at once; one of more keeps
    /// decimals, which take half the space.
    pub decimal_rows_min: u64,
    /// Rows after which a row group of a block ends.
    pub row_group_rows: usize,
    /// Failures on demand, for tests: they hit the WAL and the files of blocks.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: None,
            head_bytes_max: 256 << 20,
            labels_per_series_max: 256,
            label_name_bytes_max: 1 << 10,
            label_value_bytes_max: 64 << 10,
            series_bytes_max: 256 << 10,
            histogram_buckets_max: 10_000,
            exemplar_label_chars_max: 128,
            metadata_entries_max: 100_000,
            metadata_bytes_max: 16 << 10,
            block_rows_max: 500_000_000,
            decimal_rows_min: 256 << 10,
            row_group_rows: crate::block::ROW_GROUP_ROWS,
            faults: Faults::default(),
        }
    }
}
