//! Reads samples: of some series at random for queries, of all series in turn for compaction.

use std::sync::Arc;

use model::{Exemplar, Labels};
use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{DataType, DoubleType, Int64Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use storage_api::{MillisRange, Result};

use super::Block;
use super::decimal::{self, Form};
use super::extras::{EXTRAS_FILE, ExtrasCursor};
use super::writer::{COLUMN_MANTISSA, COLUMN_TIMESTAMP, COLUMN_VALUE};
use crate::error::corrupt;
use crate::merge::{Column, retain, trim};
use crate::tombstones::Deleted;

/// Samples that a compaction decodes at a time.
const BATCH_ROWS: u64 = 8_192;

/// Rows of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
}

/// One column of one row group, read from front to back.
struct ColumnRows<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The row that the reader stands at, counted from the row group's first.
    at: u64,
}

impl<T: DataType> ColumnRows<T> {
    fn open(block: &Block, footer: &ParquetMetaData, group: usize, column: usize) -> Result<Self> {
        let bad = |reason: &dyn std::fmt::Display| corrupt(&block.samples.path, reason);
        let row_group = footer.row_group(group);
        let locations = footer.page_index().and_then(|index| index.page_locations(group, column)).cloned();
        let locations = locations.ok_or_else(|| bad(&"a column has no page index"))?;
        let rows = usize::try_from(row_group.num_rows()).map_err(|error| bad(&error))?;
        let chunk = row_group.column(column);
        let pages = SerializedPageReader::new(Arc::clone(&block.samples), chunk, rows, Some(locations));
        let pages = Box::new(pages.map_err(|error| bad(&error))?);
        let reader = get_column_reader(chunk.column_descr_ptr(), pages);
        Ok(Self { reader: get_typed_column_reader(reader), at: 0 })
    }

    /// Appends rows `from..from + count` to `out`; in a column with nulls those that are none, and a level for each row.
    fn read(
        &mut self,
        block: &Block,
        (from, to): (u64, u64),
        mut levels: Option<&mut Vec<i16>>,
        out: &mut Vec<T::T>,
    ) -> Result<()> {
        let count = to.saturating_sub(from);
        let bad = |reason: &dyn std::fmt::Display| corrupt(&block.samples.path, reason);
        let skip = from.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
        let skip = skip.ok_or_else(|| bad(&"rows are out of order"))?;
        let mut left = usize::try_from(count).map_err(|error| bad(&error))?;
        if skip > 0 && self.reader.skip_records(skip).map_err(|error| bad(&error))? != skip {
            return Err(bad(&format!("there is no row {from}")));
        }
        while left > 0 {
            let (read, ..) =
                self.reader.read_records(left, levels.as_deref_mut(), None, out).map_err(|error| bad(&error))?;
            if read == 0 {
                return Err(bad(&format!("{left} rows are missing")));
            }
            left = left.saturating_sub(read);
        }
        self.at = from + count;
        Ok(())
    }
}

/// The columns of one row group.
struct GroupRows {
    group: usize,
    times: Option<ColumnRows<Int64Type>>,
    values: Option<ColumnRows<DoubleType>>,
    mantissas: Option<ColumnRows<Int64Type>>,
}

/// Memory that is used again from series to series.
#[derive(Default)]
struct Scratch {
    levels: Vec<i16>,
    mantissas: Vec<i64>,
    values: Vec<f64>,
}

/// Reads rows in ascending order, opening one row group at a time.
struct Rows<'a> {
    block: &'a Block,
    footer: Arc<ParquetMetaData>,
    /// The first row of each row group, and after the last one the number of rows.
    starts: Vec<u64>,
    open: Option<GroupRows>,
    scratch: Scratch,
}

impl<'a> Rows<'a> {
    fn new(block: &'a Block) -> Result<Self> {
        let footer = block.footer()?;
        let mut starts = vec![0];
        for group in footer.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            starts.push(starts.last().copied().unwrap_or(0) + rows);
        }
        Ok(Self { block, footer, starts, open: None, scratch: Scratch::default() })
    }

    /// Returns the row group that holds `row`, its first row and the one after its last.
    fn group_of(&self, row: u64) -> Result<(usize, u64, u64)> {
        let group = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        match (self.starts.get(group), self.starts.get(group + 1)) {
            (Some(start), Some(end)) => Ok((group, *start, *end)),
            _ => Err(corrupt(&self.block.samples.path, format!("there is no row {row}"))),
        }
    }

    /// Appends the rows of `wanted` that may lie in `range`: pages whose times are known to lie outside are left out.
    fn read(&mut self, wanted: Wanted, range: MillisRange, out: &mut Column) -> Result<()> {
        let (mut at, end) = (wanted.first_row, wanted.first_row.saturating_add(wanted.rows));
        while at < end {
            let (group, start, group_end) = self.group_of(at)?;
            let run = self.block.index.run(at)?;
            let until = end.min(run.first_row.saturating_add(run.rows));
            if until <= at || until > group_end {
                return Err(corrupt(&self.block.samples.path, format!("the run of row {at} makes no sense")));
            }
            let form = run.form;
            if let Some(list) = run.times {
                let times = self.block.times(list)?;
                if times.len() as u64 != run.rows {
                    return Err(corrupt(&self.block.samples.path, format!("the times of row {at} make no sense")));
                }
                // The times say which rows are wanted: only pages of values with such are read.
                let (first, last) = ((at - run.first_row) as usize, (until - run.first_row) as usize);
                let from = times.partition_point(|time| *time < range.min_ms).max(first);
                let to = times.partition_point(|time| *time <= range.max_ms).min(last);
                if from < to {
                    out.0.extend_from_slice(times.get(from..to).unwrap_or_default());
                    let first_row = run.first_row - start;
                    self.read_values(group, (first_row + from as u64, first_row + to as u64), form, &mut out.1)?;
                }
                at = until;
                continue;
            }
            for rows in self.pages(group, at - start, until - start, range) {
                let block = self.block;
                self.times(group)?.read(block, rows, None, &mut out.0)?;
                self.read_values(group, rows, form, &mut out.1)?;
            }
            at = until;
        }
        Ok(())
    }

    /// Appends the values of rows of one run.
    fn read_values(&mut self, group: usize, rows: (u64, u64), form: Form, out: &mut Vec<f64>) -> Result<()> {
        let Scratch { mut levels, mut mantissas, mut values } = std::mem::take(&mut self.scratch);
        let count = rows.1.saturating_sub(rows.0) as usize;
        let (start, block) = (out.len(), self.block);
        if let Form::Decimal { scale, shift, .. } = form {
            mantissas.clear();
            self.mantissas(group)?.read(block, rows, None, &mut mantissas)?;
            decimal::decode(scale, shift, &mantissas, out);
        } else {
            out.resize(start + count, 0.0);
        }
        if !matches!(form, Form::Decimal { has_exceptions: false, .. }) {
            levels.clear();
            values.clear();
            self.values(group)?.read(block, rows, Some(&mut levels), &mut values)?;
            let missing = || corrupt(&block.samples.path, "values are missing");
            if form == Form::Plain && values.len() != count {
                return Err(missing());
            }
            let mut kept = values.iter();
            for (out, level) in out.get_mut(start..).unwrap_or_default().iter_mut().zip(&levels) {
                if *level > 0 {
                    *out = *kept.next().ok_or_else(missing)?;
                }
            }
        }
        self.scratch = Scratch { levels, mantissas, values };
        Ok(())
    }

    fn times(&mut self, group: usize) -> Result<&mut ColumnRows<Int64Type>> {
        let column = match self.open(group).times.take() {
            Some(column) => column,
            None => ColumnRows::open(self.block, &self.footer, group, COLUMN_TIMESTAMP)?,
        };
        Ok(self.open(group).times.insert(column))
    }

    fn values(&mut self, group: usize) -> Result<&mut ColumnRows<DoubleType>> {
        let column = match self.open(group).values.take() {
            Some(column) => column,
            None => ColumnRows::open(self.block, &self.footer, group, COLUMN_VALUE)?,
        };
        Ok(self.open(group).values.insert(column))
    }

    fn mantissas(&mut self, group: usize) -> Result<&mut ColumnRows<Int64Type>> {
        let column = match self.open(group).mantissas.take() {
            Some(column) => column,
            None => ColumnRows::open(self.block, &self.footer, group, COLUMN_MANTISSA)?,
        };
        Ok(self.open(group).mantissas.insert(column))
    }

    fn open(&mut self, group: usize) -> &mut GroupRows {
        let open = self.open.take().filter(|open| open.group == group);
        self.open.insert(open.unwrap_or(GroupRows { group, times: None, values: None, mantissas: None }))
    }

    /// Returns the parts of rows `from..to` of a row group whose pages' times touch `range`.
    fn pages(&self, group: usize, from: u64, to: u64, range: MillisRange) -> Vec<(u64, u64)> {
        let whole = vec![(from, to)];
        let Some(index) = self.footer.page_index() else { return whole };
        let (Some(locations), Some(ColumnIndexMetaData::INT64(bounds))) =
            (index.page_locations(group, COLUMN_TIMESTAMP), index.column_index(group, COLUMN_TIMESTAMP))
        else {
            return whole;
        };
        let first = locations.partition_point(|page| page.first_row_index as u64 <= from).saturating_sub(1);
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for (number, page) in locations.iter().enumerate().skip(first) {
            let start = (page.first_row_index as u64).max(from);
            if start >= to {
                break;
            }
            let end = locations.get(number + 1).map_or(to, |next| next.first_row_index as u64).min(to);
            let (Some(min_ms), Some(max_ms)) = (bounds.min_values().get(number), bounds.max_values().get(number))
            else {
                return whole;
            };
            if !range.overlaps(&MillisRange { min_ms: *min_ms, max_ms: *max_ms }) {
                continue;
            }
            match parts.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                Some(_) | None => parts.push((start, end)),
            }
        }
        parts
    }
}

impl Block {
    /// Reads several series, given by ascending rows, and returns the samples of each in `range`.
    pub(crate) fn read(
        &self,
        wanted: &[Wanted],
        range: MillisRange,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Column>> {
        let mut rows = Rows::new(self)?;
        let mut columns = Vec::with_capacity(wanted.len());
        for one in wanted {
            check()?;
            let mut column = Column::default();
            rows.read(*one, range, &mut column)?;
            trim(&mut column.0, &mut column.1, range);
            columns.push(column);
        }
        Ok(columns)
    }
}

/// Walks over all series of a block in their order, a batch of samples in memory at a time.
pub(crate) struct BlockCursor<'a> {
    rows: Rows<'a>,
    next_series: u32,
    /// The labels of the series the cursor stands at.
    pub(crate) labels: Option<Labels>,
    left: Wanted,
    /// The batch that was read last.
    pub(crate) batch: Column,
    /// What the block has beside plain samples; most have nothing.
    pub(crate) extras: Option<ExtrasCursor<'a>>,
    /// What is left out.
    deleted: Option<&'a Deleted>,
    /// How many samples and exemplars were left out so far.
    pub(crate) deleted_samples: u64,
    pub(crate) deleted_exemplars: u64,
}

impl std::fmt::Debug for BlockCursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCursor").field("labels", &self.labels).field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> BlockCursor<'a> {
    /// Stands at the first series. Samples that are `deleted` are left out.
    pub(crate) fn new(block: &'a Block, deleted: Option<&'a Deleted>) -> Result<Self> {
        let rows = Rows::new(block)?;
        let left = Wanted { first_row: 0, rows: 0 };
        let extras = block.meta.file(EXTRAS_FILE).map(|_| ExtrasCursor::new(&block.extras)).transpose()?;
        let batch = Column::default();
        let mut cursor = Self {
            rows,
            next_series: 0,
            labels: None,
            left,
            batch,
            extras,
            deleted,
            deleted_samples: 0,
            deleted_exemplars: 0,
        };
        cursor.next_series()?;
        Ok(cursor)
    }

    pub(crate) fn block(&self) -> &'a Block {
        self.rows.block
    }

    /// Returns the number of the series the cursor stands at.
    pub(crate) fn series(&self) -> u32 {
        self.next_series.saturating_sub(1)
    }

    /// Says whether a sample of the series the cursor stands at is left out.
    pub(crate) fn is_deleted(&self, time: i64) -> bool {
        self.deleted.is_some_and(|deleted| deleted.kept(self.series(), &[time]).is_empty())
    }

    /// Says whether an exemplar is left out.
    pub(crate) fn is_deleted_exemplar(&self, labels: &Labels, exemplar: &Exemplar) -> bool {
        self.deleted.is_some_and(|deleted| deleted.hides_exemplar(labels, exemplar))
    }

    /// Goes to the next series; what is left of this one is passed over.
    pub(crate) fn next_series(&mut self) -> Result<()> {
        let index = &self.rows.block.index;
        self.batch = Column::default();
        if self.next_series >= index.series_len() {
            self.labels = None;
            return Ok(());
        }
        let entry = index.entry(self.next_series)?;
        self.labels = Some(index.labels(&entry)?);
        self.left = Wanted { first_row: entry.first_row, rows: entry.rows };
        self.next_series += 1;
        Ok(())
    }

    /// Reads the series' next samples into [`batch`](Self::batch); `false`, and an empty batch, when there are none.
    pub(crate) fn next_batch(&mut self) -> Result<bool> {
        self.batch.0.clear();
        self.batch.1.clear();
        // A batch of which all is deleted is passed over: an empty one is the end.
        while self.left.rows > 0 && self.batch.0.is_empty() {
            let now = Wanted { first_row: self.left.first_row, rows: self.left.rows.min(BATCH_ROWS) };
            self.rows.read(now, MillisRange::ALL, &mut self.batch)?;
            self.left.first_row += now.rows;
            self.left.rows -= now.rows;
            if let Some(deleted) = self.deleted {
                let before = self.batch.0.len();
                let kept = deleted.kept(self.series(), &self.batch.0);
                retain(&mut self.batch, &kept);
                self.deleted_samples += (before - self.batch.0.len()) as u64;
            }
        }
        Ok(!self.batch.0.is_empty())
    }
}
