//! A Parquet file with rows by series: written in batches, read by series or from front to back.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;
use storage_api::{Error, Result};
use storage_wal::Faults;

use crate::block::file::{CheckedFile, ExtentWriter};
use crate::block::meta::FileMeta;
use crate::block::writer::checksum_of_extents;
use crate::error::{corrupt, writing};

/// Rows of one page, and of one row group.
const PAGE_ROWS: usize = 1_024;
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Bytes of a row group in memory at which it is written.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// As for samples: twice the time of level 1, and smaller.
const ZSTD_LEVEL: i32 = 3;

/// How a column is encoded; text and small numbers go by dictionary.
pub(super) enum Coding {
    Dictionary,
    Delta,
    ByteStreamSplit,
}

/// Writes one table.
pub(super) struct TableWriter {
    path: PathBuf,
    rows: ArrowWriter<ExtentWriter>,
    runs: Vec<(u32, u64)>,
    count: u64,
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter").field("path", &self.path).field("count", &self.count).finish_non_exhaustive()
    }
}

/// A finished table.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: FileMeta,
    pub(super) extents: Vec<u32>,
    /// Series by number, and how many rows they have.
    pub(super) runs: Vec<(u32, u64)>,
    pub(super) rows: u64,
}

impl TableWriter {
    pub(super) fn create(
        dir: &Path,
        name: &str,
        schema: SchemaRef,
        codings: &[(&[&str], Coding)],
        faults: &Faults,
    ) -> Result<Self> {
        let path = dir.join(name);
        let file = ExtentWriter::create(&path, faults)?;
        let zstd = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|error| writing(&path, error))?;
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_created_by("daybook".to_owned())
            .set_compression(Compression::ZSTD(zstd))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
        for (column, coding) in codings {
            let column = ColumnPath::new(column.iter().map(|part| (*part).to_owned()).collect());
            properties = match coding {
                Coding::Dictionary => properties.set_column_dictionary_enabled(column, true),
                Coding::Delta => properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED),
                Coding::ByteStreamSplit => properties.set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT),
            };
        }
        let rows = ArrowWriter::try_new(file, schema, Some(properties.build()));
        let rows = rows.map_err(|error| writing(&path, error))?;
        Ok(Self { path, rows, runs: Vec::new(), count: 0 })
    }

    /// Notes that the next row is of a series; they ascend.
    pub(super) fn count_row(&mut self, series: Option<u32>) {
        self.count += 1;
        match (self.runs.last_mut(), series) {
            (Some(last), Some(series)) if last.0 == series => last.1 += 1,
            (_, Some(series)) => self.runs.push((series, 1)),
            (_, None) => {}
        }
    }

    /// Adds rows that were counted.
    pub(super) fn write(&mut self, batch: Result<RecordBatch, ArrowError>) -> Result<()> {
        let written = batch.map_err(ParquetError::from).and_then(|batch| {
            self.rows.write(&batch)?;
            if self.rows.in_progress_size() >= ROW_GROUP_BYTES { self.rows.flush() } else { Ok(()) }
        });
        written.map_err(|error| writing(&self.path, error))
    }

    /// Writes the rest and waits for the disk.
    pub(super) fn finish(self) -> Result<Written> {
        let file = self.rows.into_inner().map_err(|error| writing(&self.path, error))?;
        let (size_bytes, extents) = file.finish().map_err(|error| Error::io("writing", &self.path, error))?;
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let file = FileMeta { name, size_bytes, crc32c: checksum_of_extents(&extents) };
        Ok(Written { file, extents, runs: self.runs, rows: self.count })
    }
}

/// A file that several readers share.
#[derive(Debug, Clone)]
struct Shared(Arc<CheckedFile>);

impl Length for Shared {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Shared {
    type T = <CheckedFile as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}

/// A table of an open block.
#[derive(Debug)]
pub(crate) struct Table {
    file: Shared,
    /// Read when first needed.
    footer: OnceLock<ArrowReaderMetadata>,
    series: Vec<u32>,
    /// The row after the last one of each series.
    ends: Vec<u64>,
}

impl Table {
    pub(crate) fn new(file: Arc<CheckedFile>, runs: &[(u32, u64)]) -> Self {
        let mut end = 0_u64;
        let ends = runs.iter().map(|(_, rows)| {
            end = end.saturating_add(*rows);
            end
        });
        let ends = ends.collect();
        Self { file: Shared(file), footer: OnceLock::new(), series: runs.iter().map(|run| run.0).collect(), ends }
    }

    pub(crate) fn file(&self) -> &Arc<CheckedFile> {
        &self.file.0
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.0.path
    }

    /// Returns the rows of a series; `None` when it has none.
    pub(super) fn rows_of(&self, series: u32) -> Option<Range<u64>> {
        let place = self.series.binary_search(&series).ok()?;
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(start..*self.ends.get(place)?)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        (self.series.len() * size_of::<u32>() + self.ends.len() * size_of::<u64>()) as u64
    }

    pub(crate) fn bad(&self, reason: impl std::fmt::Display) -> Error {
        corrupt(self.path(), reason)
    }

    fn footer(&self) -> Result<ArrowReaderMetadata> {
        if let Some(footer) = self.footer.get() {
            return Ok(footer.clone());
        }
        let options = ArrowReaderOptions::new()
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Required);
        let footer = ArrowReaderMetadata::load(&self.file, options).map_err(|error| self.bad(error))?;
        let rows: i64 = footer.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
        let listed = self.ends.last().copied().unwrap_or(0);
        if !self.ends.is_empty() && u64::try_from(rows) != Ok(listed) {
            return Err(self.bad(format!("{rows} rows, expected {listed}")));
        }
        Ok(self.footer.get_or_init(|| footer).clone())
    }

    fn reader(
        &self,
        columns: &[&str],
        rows: Option<&[Range<usize>]>,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let footer = self.footer()?;
        let total: i64 = footer.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
        let total = usize::try_from(total).map_err(|error| self.bad(error))?;
        let fields = footer.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| columns.contains(&field.name().as_str()));
        let mask = ProjectionMask::roots(footer.parquet_schema(), wanted.map(|(number, _)| number));
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), footer);
        builder = builder.with_batch_size(batch_rows).with_projection(mask);
        if let Some(rows) = rows {
            if rows.last().is_some_and(|last| last.end > total) || !rows.is_sorted_by(|a, b| a.end <= b.start) {
                return Err(self.bad("rows are missing"));
            }
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(rows.iter().cloned(), total));
        }
        builder.build().map_err(|error| self.bad(error))
    }

    /// Hands out some rows, a batch at a time.
    pub(super) fn read(
        &self,
        columns: &[&str],
        rows: &[Range<usize>],
        batch_rows: usize,
        each: &mut dyn FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for batch in self.reader(columns, Some(rows), batch_rows)? {
            each(&batch.map_err(|error| self.bad(error))?)?;
        }
        Ok(())
    }

    /// Reads all rows from front to back.
    pub(crate) fn scan(&self, columns: &[&str], batch_rows: usize) -> Result<ParquetRecordBatchReader> {
        self.reader(columns, None, batch_rows)
    }

    /// Returns a column of a batch.
    pub(crate) fn column<'b, T: Array + 'static>(&self, batch: &'b RecordBatch, name: &str) -> Result<&'b T> {
        let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
        column.ok_or_else(|| self.bad(format!("the column {name} is missing or of another type")))
    }

    /// Returns the rows of some series that may be wanted: neighbours are one range.
    pub(super) fn ranges_of(&self, series: &[u32]) -> Result<Vec<Range<usize>>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for rows in series.iter().filter_map(|series| self.rows_of(*series)) {
            let start = usize::try_from(rows.start).map_err(|error| self.bad(error))?;
            let end = usize::try_from(rows.end).map_err(|error| self.bad(error))?;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        Ok(ranges)
    }
}
