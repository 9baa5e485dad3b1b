//! Writes a block: samples in order, page by page, then the index, then `meta.json`, then the rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use model::{Labels, METRIC_NAME};
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};
use storage_api::{Error, MillisRange, Result};
use storage_wal::Faults;

use super::file::{ExtentWriter, sync_dir, write_new_file};
use super::index::{INDEX_FILE, IndexWriter};
use super::meta::{BlockName, FORMAT_VERSION, FileMeta, META_FILE, Meta};
use super::{SAMPLES_FILE, TEMPORARY_PREFIX};
use crate::error::{corrupt, writing};

/// Rows in one page. A query decodes whole pages: at 10 s a page holds a series' day.
pub(crate) const PAGE_ROWS: usize = 8_192;
/// Rows in one row group; what a writer holds in memory is one of them.
pub(crate) const ROW_GROUP_ROWS: usize = 512 << 10;
/// Bytes of label text in one row group, so that many short series do not make it large.
const ROW_GROUP_TEXT_BYTES: usize = 8 << 20;
/// Dictionaries must never fall back to repeating the text in each row.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// Levels above 3 gain little on samples and cost much.
const ZSTD_LEVEL: i32 = 3;
/// Text values handed to the Parquet writer at a time.
const TEXT_ROWS: usize = 1_024;

/// The columns, in their order.
pub(crate) const COLUMN_TIMESTAMP: usize = 3;
pub(crate) const COLUMN_VALUE: usize = 4;

/// Returns the columns of `samples.parquet`.
fn schema() -> Result<Arc<Type>, parquet::errors::ParquetError> {
    let column = |name: &str, physical: Physical, logical: Option<LogicalType>| {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        builder.with_logical_type(logical).build().map(Arc::new)
    };
    let timestamp = LogicalType::timestamp(true, TimeUnit::MILLIS);
    let unsigned = LogicalType::integer(32, false);
    let fields = vec![
        column("metric", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        column("labels", Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        column("series", Physical::INT32, Some(unsigned))?,
        column("timestamp", Physical::INT64, Some(timestamp))?,
        column("value", Physical::DOUBLE, None)?,
    ];
    Type::group_type_builder("samples").with_fields(fields).build().map(Arc::new)
}

fn properties() -> Result<WriterProperties, parquet::errors::ParquetError> {
    let (timestamp, value) = (ColumnPath::from("timestamp"), ColumnPath::from("value"));
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by("daybook".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_max_row_group_row_count(None)
        .set_dictionary_enabled(true)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(ColumnPath::from("series"), false)
        .set_column_encoding(ColumnPath::from("series"), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(timestamp.clone(), false)
        .set_column_encoding(timestamp.clone(), Encoding::BYTE_STREAM_SPLIT)
        .set_column_statistics_enabled(timestamp, EnabledStatistics::Page)
        .set_column_dictionary_enabled(value.clone(), false)
        .set_column_encoding(value.clone(), Encoding::BYTE_STREAM_SPLIT)
        // The least and greatest of many series say nothing, and NaNs make them doubtful.
        .set_column_statistics_enabled(value, EnabledStatistics::None);
    Ok(properties.build())
}

/// Returns the labels without the metric's name as a JSON object.
pub(crate) fn labels_json(labels: &Labels) -> String {
    let mut json = String::from("{");
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if json.len() > 1 {
            json.push(',');
        }
        for (text, end) in [(name, ":"), (value, "")] {
            json.push_str(&serde_json::to_string(text).unwrap_or_default());
            json.push_str(end);
        }
    }
    json.push('}');
    json
}

/// A series of the row group that gathers.
#[derive(Debug)]
struct Run {
    metric: ByteArray,
    labels: ByteArray,
    series: i32,
    rows: usize,
}

impl Run {
    fn metric(&self) -> &ByteArray {
        &self.metric
    }
    fn labels(&self) -> &ByteArray {
        &self.labels
    }
}

/// A series that is being written.
#[derive(Debug)]
struct Current {
    labels: Labels,
    first_row: u64,
    range: Option<MillisRange>,
}

/// What a new block is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewBlock {
    pub(crate) name: BlockName,
    pub(crate) wal_first_needed_segment: u64,
}

/// Writes one block. Dropped before [`finish`](Self::finish) it leaves nothing behind.
pub(crate) struct BlockWriter {
    parent: PathBuf,
    temporary: TemporaryDir,
    new: NewBlock,
    faults: Faults,
    parquet: SerializedFileWriter<ExtentWriter>,
    index: IndexWriter,
    current: Option<Current>,
    series_count: u32,
    runs: Vec<Run>,
    text_bytes: usize,
    times: Vec<i64>,
    values: Vec<f64>,
    rows: u64,
    range: Option<MillisRange>,
}

impl std::fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockWriter").field("new", &self.new).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// A folder that is removed unless it was renamed.
#[derive(Debug)]
struct TemporaryDir(PathBuf);

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            tracing::warn!(path = %self.0.display(), %error, "a half-written block could not be removed");
        }
    }
}

fn widen(range: Option<MillisRange>, min_ms: i64, max_ms: i64) -> Option<MillisRange> {
    let range = range.unwrap_or(MillisRange { min_ms, max_ms });
    Some(MillisRange { min_ms: range.min_ms.min(min_ms), max_ms: range.max_ms.max(max_ms) })
}

impl BlockWriter {
    /// Starts a block in `parent` under a temporary name.
    pub(crate) fn create(parent: &Path, new: NewBlock, faults: &Faults) -> Result<Self> {
        let dir = parent.join(format!("{TEMPORARY_PREFIX}{}", new.name));
        // An attempt may have failed after its rename; names are not used again, so what is there is of no use.
        for left in [&dir, &parent.join(new.name.to_string())] {
            if left.exists() {
                fs::remove_dir_all(left).map_err(|source| Error::io("removing", left, source))?;
            }
        }
        fs::create_dir(&dir).map_err(|source| Error::io("creating", &dir, source))?;
        let temporary = TemporaryDir(dir);
        let path = temporary.0.join(SAMPLES_FILE);
        let failed = |error| writing(&path, error);
        let file = ExtentWriter::create(&path, faults)?;
        let properties = Arc::new(properties().map_err(failed)?);
        let parquet = SerializedFileWriter::new(file, schema().map_err(failed)?, properties).map_err(failed)?;
        Ok(Self {
            parent: parent.to_owned(),
            temporary,
            new,
            faults: faults.clone(),
            parquet,
            index: IndexWriter::default(),
            current: None,
            series_count: 0,
            runs: Vec::new(),
            text_bytes: 0,
            times: Vec::new(),
            values: Vec::new(),
            rows: 0,
            range: None,
        })
    }

    /// Starts the next series; they come by metric name, then by label set.
    pub(crate) fn begin_series(&mut self, labels: &Labels) {
        self.end_series();
        self.current = Some(Current { labels: labels.clone(), first_row: self.rows, range: None });
    }

    /// Adds samples to the series; times ascend strictly over all calls for it.
    pub(crate) fn push(&mut self, mut times: &[i64], mut values: &[f64]) -> Result<()> {
        while let (Some(min_ms), Some(_)) = (times.first(), self.current.as_ref()) {
            let room = ROW_GROUP_ROWS - self.times.len();
            let count = room.min(times.len());
            self.ensure_run();
            let (now_times, later_times) = times.split_at(count);
            let (now_values, later_values) = values.split_at(count);
            let max_ms = now_times.last().unwrap_or(min_ms);
            if let Some(current) = &mut self.current {
                current.range = widen(current.range, *min_ms, *max_ms);
            }
            self.range = widen(self.range, *min_ms, *max_ms);
            if let Some(run) = self.runs.last_mut() {
                run.rows += count;
            }
            self.times.extend_from_slice(now_times);
            self.values.extend_from_slice(now_values);
            self.rows += count as u64;
            if self.times.len() >= ROW_GROUP_ROWS || self.text_bytes >= ROW_GROUP_TEXT_BYTES {
                self.write_row_group()?;
            }
            (times, values) = (later_times, later_values);
        }
        Ok(())
    }

    /// Makes sure that the last run is that of the current series.
    fn ensure_run(&mut self) {
        let Some(current) = &self.current else { return };
        let series = self.series_count as i32;
        if self.runs.last().is_some_and(|run| run.series == series) {
            return;
        }
        let (metric, labels) = (current.labels.metric_name(), labels_json(&current.labels));
        self.text_bytes += metric.len() + labels.len();
        let (metric, labels) = (ByteArray::from(metric), ByteArray::from(labels.into_bytes()));
        self.runs.push(Run { metric, labels, series, rows: 0 });
    }

    fn end_series(&mut self) {
        // A series without samples leaves no trace.
        let Some(Current { labels, first_row, range: Some(range) }) = self.current.take() else { return };
        self.index.push(&labels, first_row, self.rows - first_row, range);
        self.series_count += 1;
    }

    fn write_row_group(&mut self) -> Result<()> {
        if self.times.is_empty() {
            return Ok(());
        }
        let written = write_row_group(&mut self.parquet, &self.runs, &self.times, &self.values);
        written.map_err(|error| writing(&self.temporary.0.join(SAMPLES_FILE), error))?;
        self.runs.clear();
        self.text_bytes = 0;
        self.times.clear();
        self.values.clear();
        Ok(())
    }

    /// Puts the block in its place, all on disk. `None`, and no block, when there was no sample.
    pub(crate) fn finish(mut self) -> Result<Option<PathBuf>> {
        self.end_series();
        self.write_row_group()?;
        let Some(range) = self.range else { return Ok(None) };
        let dir = &self.temporary.0;
        let samples_path = dir.join(SAMPLES_FILE);
        let file = self.parquet.into_inner().map_err(|error| writing(&samples_path, error))?;
        let (samples_bytes, extents) = file.finish().map_err(|error| Error::io("writing", &samples_path, error))?;
        let index_path = dir.join(INDEX_FILE);
        let index = self.index.finish(&extents).map_err(|reason| corrupt(&index_path, reason))?;
        write_new_file(&index_path, &index, &self.faults)?;
        let meta = Meta {
            format_version: FORMAT_VERSION,
            first_sequence: self.new.name.first,
            last_sequence: self.new.name.last,
            level: self.new.name.level,
            min_time_ms: range.min_ms,
            max_time_ms: range.max_ms,
            samples: self.rows,
            series: u64::from(self.series_count),
            wal_first_needed_segment: self.new.wal_first_needed_segment,
            files: vec![
                FileMeta {
                    name: SAMPLES_FILE.to_owned(),
                    size_bytes: samples_bytes,
                    crc32c: checksum_of_extents(&extents),
                },
                FileMeta {
                    name: INDEX_FILE.to_owned(),
                    size_bytes: index.len() as u64,
                    crc32c: crc32c::crc32c(&index),
                },
            ],
        };
        write_new_file(&dir.join(META_FILE), meta.encode().as_bytes(), &self.faults)?;
        sync_dir(dir)?;
        let place = self.parent.join(self.new.name.to_string());
        fs::rename(dir, &place).map_err(|source: io::Error| Error::io("renaming", &place, source))?;
        sync_dir(&self.parent)?;
        Ok(Some(place))
    }
}

/// Returns the checksum over the checksums of a file's extents.
pub(crate) fn checksum_of_extents(extents: &[u32]) -> u32 {
    extents.iter().fold(0, |crc, extent| crc32c::crc32c_append(crc, &extent.to_le_bytes()))
}

fn write_row_group(
    parquet: &mut SerializedFileWriter<ExtentWriter>,
    runs: &[Run],
    times: &[i64],
    values: &[f64],
) -> Result<(), parquet::errors::ParquetError> {
    let mut group = parquet.next_row_group()?;
    for text in [Run::metric as fn(&Run) -> &ByteArray, Run::labels] {
        if let Some(mut column) = group.next_column()? {
            let mut batch: Vec<ByteArray> = Vec::with_capacity(TEXT_ROWS);
            for run in runs {
                let mut left = run.rows;
                while left > 0 {
                    let count = left.min(TEXT_ROWS - batch.len());
                    batch.extend(std::iter::repeat_n(text(run), count).cloned());
                    left -= count;
                    if batch.len() == TEXT_ROWS {
                        column.typed::<ByteArrayType>().write_batch(&batch, None, None)?;
                        batch.clear();
                    }
                }
            }
            column.typed::<ByteArrayType>().write_batch(&batch, None, None)?;
            column.close()?;
        }
    }
    if let Some(mut column) = group.next_column()? {
        let series: Vec<i32> = runs.iter().flat_map(|run| std::iter::repeat_n(run.series, run.rows)).collect();
        column.typed::<Int32Type>().write_batch(&series, None, None)?;
        column.close()?;
    }
    if let Some(mut column) = group.next_column()? {
        column.typed::<Int64Type>().write_batch(times, None, None)?;
        column.close()?;
    }
    if let Some(mut column) = group.next_column()? {
        column.typed::<DoubleType>().write_batch(values, None, None)?;
        column.close()?;
    }
    group.close()?;
    Ok(())
}
