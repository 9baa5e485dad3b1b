//! Writes a block: samples in order, page by page, then the index, then `meta.json`, then the rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use model::{Exemplar, Labels, METRIC_NAME};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};
use storage_api::{Error, MillisRange, Result};
use storage_wal::Faults;

use super::extras::{ExtrasWriter, FinishedExtras, InSeries};
use super::file::{ExtentWriter, sync_dir, write_new_file};
use super::group::{GroupWriter, Run};
use super::index::{INDEX_FILE, IndexWriter};
use super::meta::{BlockName, FORMAT_VERSION, FileMeta, META_FILE, Meta};
use super::times::SeenTimes;
use super::{SAMPLES_FILE, TEMPORARY_PREFIX};
use crate::error::{corrupt, writing};
use crate::mixed::Mixed;

/// Most rows in one page of values. A query decodes whole pages: at 10 s a page holds a series' day.
pub(crate) const PAGE_ROWS: usize = 8_192;
/// Rows after which a row group ends with its run. The more rows, the more series of a scrape share their timestamps in
/// it; a reader that decodes all timestamps of a group at once needs 32 MiB.
pub(crate) const ROW_GROUP_ROWS: usize = 4 << 20;
/// Bytes of label text in one row group, so that many short series do not make it large.
const ROW_GROUP_TEXT_BYTES: usize = 8 << 20;
/// Most rows of one run; a writer holds so many samples in memory.
const RUN_ROWS: usize = 64 << 10;

/// The columns, in their order.
pub(crate) const COLUMN_METRIC: usize = 0;
pub(crate) const COLUMN_LABELS: usize = 1;
pub(crate) const COLUMN_SERIES: usize = 2;
pub(crate) const COLUMN_TIMESTAMP: usize = 3;
pub(crate) const COLUMN_VALUE: usize = 4;
pub(crate) const COLUMN_MANTISSA: usize = 5;
pub(crate) const COLUMN_FACTOR: usize = 6;
pub(crate) const COLUMN_DIVISOR: usize = 7;

/// Returns the columns of `samples.parquet`.
fn schema() -> Result<Arc<Type>, parquet::errors::ParquetError> {
    let column = |name: &str, physical: Physical, logical: Option<LogicalType>| {
        // A decimal has no value of its own.
        let repetition = if name == "value" { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
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
        column("mantissa", Physical::INT64, None)?,
        column("factor", Physical::INT64, None)?,
        column("divisor", Physical::INT64, None)?,
    ];
    Type::group_type_builder("samples").with_fields(fields).build().map(Arc::new)
}

/// Pages come encoded: this is for the file around them only.
fn properties() -> WriterProperties {
    let version = WriterVersion::PARQUET_2_0;
    WriterProperties::builder().set_writer_version(version).set_created_by("daybook".to_owned()).build()
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
    /// Values are decimals where they can be.
    pub(crate) is_decimal: bool,
    /// Rows after which a row group ends.
    pub(crate) row_group_rows: usize,
}

/// Writes one block. Dropped before [`finish`](Self::finish) it leaves nothing behind.
pub(crate) struct BlockWriter {
    parent: PathBuf,
    temporary: TemporaryDir,
    new: NewBlock,
    faults: Faults,
    parquet: SerializedFileWriter<ExtentWriter>,
    schema: SchemaDescPtr,
    index: IndexWriter,
    current: Option<Current>,
    series_count: u32,
    /// The samples of the current series that are in no run yet.
    times: Vec<i64>,
    values: Vec<f64>,
    /// The row group that grows.
    group: Option<GroupWriter>,
    rows: u64,
    range: Option<MillisRange>,
    seen_times: SeenTimes,
    /// Made when there is something beside plain samples.
    extras: Option<Box<ExtrasWriter>>,
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
        let properties = Arc::new(properties());
        let schema = schema().map_err(failed)?;
        let parquet = SerializedFileWriter::new(file, Arc::clone(&schema), properties).map_err(failed)?;
        Ok(Self {
            parent: parent.to_owned(),
            temporary,
            new,
            faults: faults.clone(),
            parquet,
            schema: Arc::new(SchemaDescriptor::new(schema)),
            index: IndexWriter::default(),
            current: None,
            series_count: 0,
            times: Vec::new(),
            values: Vec::new(),
            group: None,
            rows: 0,
            range: None,
            seen_times: SeenTimes::default(),
            extras: None,
        })
    }

    /// Starts the next series; they come by metric name, then by label set.
    pub(crate) fn begin_series(&mut self, labels: &Labels) -> Result<()> {
        self.end_series()?;
        self.current = Some(Current { labels: labels.clone(), first_row: self.rows, range: None });
        Ok(())
    }

    /// Adds samples to the series; times ascend strictly over all calls for it.
    pub(crate) fn push(&mut self, mut times: &[i64], mut values: &[f64]) -> Result<()> {
        while let (Some(min_ms), Some(current)) = (times.first(), &mut self.current) {
            let count = (RUN_ROWS - self.times.len()).min(times.len());
            let (now_times, later_times) = times.split_at(count);
            let (now_values, later_values) = values.split_at(count);
            let max_ms = now_times.last().unwrap_or(min_ms);
            current.range = widen(current.range, *min_ms, *max_ms);
            self.range = widen(self.range, *min_ms, *max_ms);
            self.times.extend_from_slice(now_times);
            self.values.extend_from_slice(now_values);
            self.rows += count as u64;
            if self.times.len() >= RUN_ROWS {
                self.end_run()?;
            }
            (times, values) = (later_times, later_values);
        }
        Ok(())
    }

    /// Adds samples of any kind to the series; times ascend strictly over all calls for it.
    pub(crate) fn push_mixed(&mut self, samples: &Mixed) -> Result<()> {
        if samples.is_plain() {
            if let Some(extras) = self.extras.as_mut().filter(|_| !samples.times.is_empty()) {
                extras.end_starts()?;
            }
            return self.push(&samples.times, &samples.values);
        }
        let Some(Current { labels, range, .. }) = &mut self.current else { return Ok(()) };
        let extras = self.extras.get_or_insert_with(|| Box::new(ExtrasWriter::new(&self.temporary.0, &self.faults)));
        let series = InSeries { labels, number: Some(self.series_count) };
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (at, (time, value)) in samples.times.iter().zip(&samples.values).enumerate() {
            match samples.histogram(at) {
                Some(histogram) => extras.push_histogram(series, histogram)?,
                None => {
                    extras.push_start(series, *time, samples.start_ms(at))?;
                    times.push(*time);
                    values.push(*value);
                }
            }
        }
        if let (Some(min_ms), Some(max_ms)) = (samples.times.first(), samples.times.last()) {
            *range = widen(*range, *min_ms, *max_ms);
            self.range = widen(self.range, *min_ms, *max_ms);
        }
        self.push(&times, &values)
    }

    /// Adds a start time without a number.
    #[cfg(test)]
    pub(super) fn push_start(&mut self, time_ms: i64, start_ms: i64) -> Result<()> {
        let Some(Current { labels, .. }) = &self.current else { return Ok(()) };
        let extras = self.extras.get_or_insert_with(|| Box::new(ExtrasWriter::new(&self.temporary.0, &self.faults)));
        extras.push_start(InSeries { labels, number: Some(self.series_count) }, time_ms, start_ms)
    }

    /// Adds an exemplar to the series, after its samples; they come by [`exemplar_order`](super::exemplar_order).
    pub(crate) fn push_exemplar(&mut self, exemplar: &Exemplar) -> Result<()> {
        let Some(Current { labels, range, .. }) = &self.current else { return Ok(()) };
        let extras = self.extras.get_or_insert_with(|| Box::new(ExtrasWriter::new(&self.temporary.0, &self.faults)));
        // The block is kept as long as its exemplars.
        let time_ms = exemplar.sample.timestamp_ms;
        self.range = widen(self.range, time_ms, time_ms);
        extras.push_exemplar(InSeries { labels, number: range.map(|_| self.series_count) }, exemplar)
    }

    fn end_series(&mut self) -> Result<()> {
        self.end_run()?;
        // A series without samples leaves no trace.
        let Some(Current { labels, first_row, range: Some(range) }) = self.current.take() else { return Ok(()) };
        self.index.push(&labels, first_row, self.rows - first_row, range);
        self.series_count += 1;
        Ok(())
    }

    /// Hands the samples of the current series that wait to the row group.
    fn end_run(&mut self) -> Result<()> {
        let Some(current) = self.current.as_ref().filter(|_| !self.times.is_empty()) else { return Ok(()) };
        let (metric, labels) = (current.labels.metric_name().into(), labels_json(&current.labels).into());
        let run = Run { metric, labels, series: self.series_count };
        let path = self.temporary.0.join(SAMPLES_FILE);
        let failed = |error| writing(&path, error);
        let group = match &mut self.group {
            Some(group) => group,
            none => none.insert(GroupWriter::new(&self.schema, self.new.is_decimal).map_err(failed)?),
        };
        group.push(run, &self.times, &self.values).map_err(failed)?;
        self.times.clear();
        self.values.clear();
        if group.rows() >= self.new.row_group_rows || group.text_bytes() >= ROW_GROUP_TEXT_BYTES {
            self.write_row_group()?;
        }
        Ok(())
    }

    fn write_row_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let failed = |error| writing(&self.temporary.0.join(SAMPLES_FILE), error);
        let group = group.finish(&mut self.seen_times).map_err(failed)?;
        let lists: Option<Vec<u32>> =
            group.lists.map(|lists| lists.into_iter().map(|list| self.index.times(list)).collect());
        for run in &group.runs {
            let times = lists.as_ref().and_then(|lists| lists.get(run.list as usize)).copied();
            self.index.push_run(run.rows as u64, run.form, times);
        }
        write_row_group(&mut self.parquet, group.chunks).map_err(failed)
    }

    /// Puts the block in its place, all on disk. `None`, and no block, when there was no sample.
    pub(crate) fn finish(mut self) -> Result<Option<PathBuf>> {
        self.end_series()?;
        self.write_row_group()?;
        let Some(range) = self.range else { return Ok(None) };
        let dir = &self.temporary.0;
        let FinishedExtras { files: extras, histograms, exemplars } =
            self.extras.map(|extras| extras.finish()).transpose()?.unwrap_or_default();
        let samples_path = dir.join(SAMPLES_FILE);
        let file = self.parquet.into_inner().map_err(|error| writing(&samples_path, error))?;
        let (samples_bytes, extents) = file.finish().map_err(|error| Error::io("writing", &samples_path, error))?;
        let index_path = dir.join(INDEX_FILE);
        let index = self.index.finish(&extents).map_err(|reason| corrupt(&index_path, reason))?;
        write_new_file(&index_path, &index, &self.faults)?;
        let mut meta = Meta {
            format_version: FORMAT_VERSION,
            first_sequence: self.new.name.first,
            last_sequence: self.new.name.last,
            level: self.new.name.level,
            min_time_ms: range.min_ms,
            max_time_ms: range.max_ms,
            samples: self.rows,
            series: u64::from(self.series_count),
            histograms,
            exemplars,
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
        meta.files.extend(extras);
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
    chunks: Vec<(Bytes, ColumnCloseResult)>,
) -> Result<(), parquet::errors::ParquetError> {
    let mut group = parquet.next_row_group()?;
    for (content, close) in chunks {
        group.append_column(&content, close)?;
    }
    group.close()?;
    Ok(())
}
