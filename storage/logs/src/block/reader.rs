//! Opens a block and reads pages of it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arrow::compute::concat_batches;
use model::TimeRange;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use storage_api::{Error, QueryContext, Result};

use super::cache::{Cache, Kind};
use super::catalog::{CATALOG_FILE, Catalog};
use super::checked_file::{CHECKSUMS_MAGIC, CheckedFile};
use super::counts::{COUNTS_FILE, Counts};
use super::files::{corrupt, read_checked, remove_block, remove_dir, unseal};
use super::meta::BlockMeta;
use super::page_cache::What;
use super::rows::{Columns, LINE_COLUMNS, SCHEMA, SEVERITY_COLUMNS, STREAM_COLUMNS, TIMESTAMP_COLUMN};
use super::writer::{CHECKSUMS_FILE, ROWS_FILE};
use crate::telemetry::Damage;

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Detail {
    /// Timestamps.
    Times,
    /// Timestamps and severities.
    Severities,
    /// Timestamps and lines.
    Lines,
    /// All but lines.
    Metadata,
    /// All.
    All,
}

impl Detail {
    pub(crate) fn new(with_metadata: bool, without_lines: bool) -> Self {
        match (with_metadata, without_lines) {
            (false, true) => Self::Times,
            (false, false) => Self::Lines,
            (true, true) => Self::Metadata,
            (true, false) => Self::All,
        }
    }

    /// Says whether a column is read; the stream's own are for other readers, the catalog has them.
    fn wants(self, name: &str) -> bool {
        match self {
            Self::Times => name == TIMESTAMP_COLUMN,
            Self::Severities => name == TIMESTAMP_COLUMN || SEVERITY_COLUMNS.contains(&name),
            Self::Lines => name == TIMESTAMP_COLUMN || LINE_COLUMNS.contains(&name),
            Self::Metadata => !STREAM_COLUMNS.contains(&name) && !LINE_COLUMNS.contains(&name),
            Self::All => !STREAM_COLUMNS.contains(&name),
        }
    }
}

/// An open block. Its files go when it was [marked](Self::remove_on_drop) and the last user lets go.
#[derive(Debug)]
pub(crate) struct Block {
    dir: PathBuf,
    /// Unlike the folder's name, it never comes again.
    number: u64,
    meta: BlockMeta,
    catalog: Catalog,
    rows: CheckedFile,
    cache: Arc<Cache>,
    /// [`warm`](Self::warm) did what it could.
    pub(super) is_warm: AtomicBool,
    /// The index turned out damaged; the block is searched without it.
    pub(super) index_is_lost: AtomicBool,
    is_doomed: AtomicBool,
    /// What was found damaged, a bit each.
    damaged: AtomicU8,
}

impl Block {
    /// Opens the block in `dir`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Io`]. Damaged indexes and counts show later.
    pub(crate) fn open(dir: &Path, cache: &Arc<Cache>) -> Result<Self> {
        let meta = BlockMeta::read(dir)?;
        let sealed = |name: &str| read_file(dir, &meta, name);
        let catalog = Catalog::decode(&dir.join(CATALOG_FILE), &sealed(CATALOG_FILE)?)?;
        if u64::from(catalog.rows) != meta.rows || catalog.pages.len() as u64 != meta.pages {
            return Err(corrupt(&dir.join(CATALOG_FILE), "it does not fit meta.json"));
        }
        let path = dir.join(CHECKSUMS_FILE);
        let checksums = unseal(CHECKSUMS_MAGIC, &path, &sealed(CHECKSUMS_FILE)?)?;
        let path = dir.join(ROWS_FILE);
        let file = meta.file(ROWS_FILE).ok_or_else(|| corrupt(&path, "meta.json does not list it"))?;
        let rows = CheckedFile::open(&path, file.size_bytes, checksums).map_err(|source| read_error(&path, source))?;
        Ok(Self {
            dir: dir.to_owned(),
            number: cache.pages.number_block(),
            meta,
            catalog,
            rows,
            cache: Arc::clone(cache),
            is_warm: AtomicBool::new(false),
            index_is_lost: AtomicBool::new(false),
            is_doomed: AtomicBool::new(false),
            damaged: AtomicU8::new(0),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn rows_file(&self) -> &CheckedFile {
        &self.rows
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Says whether the block may hold rows in `range`.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.meta.min_timestamp < range.end.0 && range.start.0 <= self.meta.max_timestamp
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Counts and logs that a part of the block is damaged, once.
    pub(crate) fn note_damage(&self, damage: Damage, error: &Error) {
        if self.damaged.fetch_or(damage.bit(), Ordering::Relaxed) & damage.bit() == 0 {
            self.cache.corrupt_blocks.count(damage);
            tracing::error!(%error, block = %self.dir.display(), ?damage, "a block is damaged");
        }
    }

    /// Returns the error of rows that are not as they should be.
    pub(crate) fn malformed(&self, expected: &str) -> Error {
        corrupt(&self.dir, format!("expected {expected}"))
    }

    /// Notes that rows cannot be read, and warns whoever asked of what the answer lacks. Any other error is given back.
    ///
    /// # Errors
    /// `error`, unless it is [`Error::Corrupt`].
    pub(crate) fn do_without_rows(&self, error: Error, context: &QueryContext) -> Result<()> {
        if !matches!(error, Error::Corrupt { .. }) {
            return Err(error);
        }
        self.note_damage(Damage::Rows, &error);
        let sequence = self.meta.sequence;
        context.warn(format!("rows of the block {sequence} are damaged and left out: the answer is incomplete"));
        Ok(())
    }

    /// Has the folder removed when nobody reads the block any more.
    pub(crate) fn remove_on_drop(&self) {
        self.is_doomed.store(true, Ordering::Release);
    }

    /// Returns the counts of each stream, in the order of the catalog.
    pub(crate) fn counts(&self) -> Result<Arc<Counts>> {
        self.cache.get_or_load((&self.dir, Kind::Counts), || {
            let path = self.dir.join(COUNTS_FILE);
            let counts = super::counts::decode(&path, &read_file(&self.dir, &self.meta, COUNTS_FILE)?)?;
            if counts.streams.len() != self.catalog.streams.len() {
                return Err(corrupt(&path, "it does not fit the catalog"));
            }
            let size_bytes = counts.size_bytes();
            Ok((counts, size_bytes))
        })
    }

    pub(super) fn footer(&self) -> Result<Arc<ArrowReaderMetadata>> {
        self.cache.get_or_load((&self.dir, Kind::Footer), || {
            let options = ArrowReaderOptions::new()
                .with_column_index_policy(PageIndexPolicy::Skip)
                .with_offset_index_policy(PageIndexPolicy::Optional);
            let footer = ArrowReaderMetadata::load(&self.rows, options).map_err(|error| self.parquet_error(error))?;
            let size_bytes = footer.metadata().memory_size();
            Ok((footer, size_bytes))
        })
    }

    pub(super) fn parquet_error(&self, error: ParquetError) -> Error {
        match error {
            ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
                Ok(source) => read_error(self.rows.path(), *source),
                Err(error) => corrupt(self.rows.path(), error.to_string()),
            },
            error => corrupt(self.rows.path(), error.to_string()),
        }
    }

    /// Returns the columns that hold `rows`, which lie in one row group, and the number of the first of them there. Where
    /// less than half of a page is wanted, the page is decoded once for all that want a part of it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_shared(&self, rows: Range<u32>, detail: Detail) -> Result<(Arc<Columns>, usize)> {
        let number = self.catalog.page_of(rows.start);
        let start = self.catalog.pages.get(number).map_or(0, |page| page.first_row);
        let end = self.catalog.page_end(number);
        if rows.end > end || rows.len() * 2 >= (end - start) as usize {
            return Ok((Arc::new(self.read(rows, detail)?), 0));
        }
        let key = (self.number, u32::try_from(number).unwrap_or(u32::MAX), What::Columns(detail));
        let columns = self.cache.pages.get_or_load(key, || {
            let columns = self.read(start..end, detail)?;
            let size_bytes = columns.size_bytes();
            Ok((columns, size_bytes))
        })?;
        Ok((columns, (rows.start - start) as usize))
    }

    /// Returns the compressed bytes of a page's columns that are read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Io`].
    pub(crate) fn stored_bytes(&self, number: usize, detail: Detail) -> Result<u64> {
        let footer = self.footer()?;
        let pages = &self.catalog.pages;
        let page = pages.get(number).ok_or_else(|| corrupt(&self.dir, "a page is missing"))?;
        let index = footer.metadata().page_index();
        let index = index.ok_or_else(|| corrupt(self.rows.path(), "the offset index is missing"))?;
        let fields = footer.schema().fields().iter().enumerate().filter(|(_, field)| detail.wants(field.name()));
        let of_column = fields.map(|(column, _)| {
            let locations = index.page_locations(page.group as usize, column).map_or(&[][..], Vec::as_slice);
            let at = locations.partition_point(|place| place.first_row_index <= i64::from(page.row_in_group));
            let place = at.checked_sub(1).and_then(|at| locations.get(at));
            place.map_or(0, |place| u64::try_from(place.compressed_page_size).unwrap_or(0))
        });
        Ok(of_column.sum())
    }

    /// Decodes a page.
    pub(super) fn read_page(&self, page: usize, detail: Detail) -> Result<Columns> {
        let first_row = self.catalog.pages.get(page).map_or(0, |page| page.first_row);
        self.read(first_row..self.catalog.page_end(page), detail)
    }

    /// Decodes `rows`, which lie in one row group.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Io`].
    pub(crate) fn read(&self, rows: Range<u32>, detail: Detail) -> Result<Columns> {
        self.read_runs(&[rows], detail)
    }

    /// Decodes runs of rows, which ascend and lie in one row group; they follow each other in what it returns.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_runs(&self, runs: &[Range<u32>], detail: Detail) -> Result<Columns> {
        let footer = self.footer()?;
        let first = runs.first().map_or(0, |run| run.start);
        let page = self.catalog.pages.get(self.catalog.page_of(first));
        let page = page.ok_or_else(|| corrupt(&self.dir, "a row lies in no page"))?;
        let group_row = page.first_row.saturating_sub(page.row_in_group);
        let mut selectors = Vec::with_capacity(runs.len() * 2);
        let (mut at, mut length) = (group_row, 0);
        for run in runs {
            selectors.push(RowSelector::skip(run.start.saturating_sub(at) as usize));
            selectors.push(RowSelector::select(run.len()));
            length += run.len();
            at = run.end;
        }
        let fields = footer.schema().fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, field)| detail.wants(field.name())).map(|(i, _)| i).collect();
        if roots.len() != SCHEMA.fields().iter().filter(|field| detail.wants(field.name())).count() {
            return Err(corrupt(self.rows.path(), "a column is missing"));
        }
        let mask = ProjectionMask::roots(footer.parquet_schema(), roots);
        let group = page.group as usize;
        if group >= footer.metadata().num_row_groups() {
            return Err(corrupt(self.rows.path(), "a row group is missing"));
        }
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.rows.clone(), ArrowReaderMetadata::clone(&footer))
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_row_selection(RowSelection::from(selectors))
                .with_batch_size(length.max(1));
        let mut batches = Vec::new();
        let reader = builder.build().map_err(|error| self.parquet_error(error))?;
        let schema = arrow::array::RecordBatchReader::schema(&reader);
        for batch in reader {
            batches.push(batch.map_err(|error| match error {
                arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<ParquetError>() {
                    Ok(error) => self.parquet_error(*error),
                    Err(error) => corrupt(self.rows.path(), error.to_string()),
                },
                error => corrupt(self.rows.path(), error.to_string()),
            })?);
        }
        let batch = match (batches.pop(), batches.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                batches.extend(last);
                concat_batches(&schema, &batches).map_err(|error| corrupt(self.rows.path(), error.to_string()))?
            }
        };
        if batch.num_rows() != length {
            return Err(corrupt(self.rows.path(), format!("{} rows, expected {length}", batch.num_rows())));
        }
        Ok(Columns::new(batch))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.cache.forget(&self.dir);
        self.cache.pages.forget(self.number);
        if self.is_doomed.load(Ordering::Acquire) {
            // What cannot be removed now is seen at the next open: its rows are in another block, or too old.
            if let Err(error) = remove_block(&self.dir) {
                tracing::warn!(%error, "a block that is no longer needed could not be removed");
            }
        }
    }
}

pub(super) fn read_file(dir: &Path, meta: &BlockMeta, name: &str) -> Result<Vec<u8>> {
    let path = dir.join(name);
    let file = meta.file(name).ok_or_else(|| corrupt(&path, "meta.json does not list it"))?;
    read_checked(&path, file.size_bytes, file.crc32c)
}

pub(super) fn read_error(path: &Path, source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => corrupt(path, source.to_string()),
        _ => Error::io("reading", path, source),
    }
}

/// Returns the sequences of the blocks in `dir`, and removes what was never finished.
pub(crate) fn list(dir: &Path) -> Result<Vec<super::Sequence>> {
    let listing = |source| Error::io("listing", dir, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(listing)? {
        let name = entry.map_err(listing)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("tmp-") {
            let path = dir.join(&*name);
            if path.is_dir() {
                remove_dir(&path)?;
            } else {
                fs::remove_file(&path).map_err(|source| Error::io("removing", &path, source))?;
            }
        } else if let Some(sequence) = super::Sequence::parse(&name) {
            found.push(sequence);
        }
    }
    found.sort_unstable();
    Ok(found)
}
