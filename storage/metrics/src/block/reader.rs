//! Reads samples: of some series at random for queries, of all series in turn for compaction.

use std::sync::Arc;

use model::{Exemplar, Labels};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use storage_api::{MillisRange, Result};

use super::Block;
use super::decimal::{self, Form};
use super::extras::{EXTRAS_FILE, ExtrasCursor};
use super::file::Window;
use super::page::{PageDecoder, SparseValues};
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

/// One column: its page that was decoded last.
#[derive(Debug, Default)]
struct ColumnPages<P> {
    /// Row group and rows of the page, counted from the group's first.
    group: usize,
    rows: std::ops::Range<u64>,
    page: P,
    window: Window,
}

impl<P> ColumnPages<P> {
    /// Makes sure that the page with a row is there, and returns its rows and content.
    fn load(
        &mut self,
        rows: &Place<'_>,
        (group, column, row): (usize, usize, u64),
        decode: impl FnOnce(&[u8], &mut P) -> Option<()>,
    ) -> Result<(std::ops::Range<u64>, &P)> {
        if self.group != group || !self.rows.contains(&row) {
            let bad = |reason: &dyn std::fmt::Display| corrupt(&rows.block.samples.path, reason);
            let locations = rows.footer.page_index().and_then(|index| index.page_locations(group, column));
            let locations = locations.ok_or_else(|| bad(&"a column has no page index"))?;
            let number = locations.partition_point(|page| page.first_row_index as u64 <= row);
            let (Some(page), Some(last)) = (number.checked_sub(1).and_then(|i| locations.get(i)), locations.last())
            else {
                return Err(bad(&format!("no page has row {row}")));
            };
            let next = locations.get(number).map(|next| next.first_row_index);
            let next = next.unwrap_or_else(|| rows.footer.row_group(group).num_rows());
            let (start, length) = (page.offset as u64, page.compressed_page_size as usize);
            let end = (last.offset as u64).saturating_add(last.compressed_page_size as u64);
            let bytes = rows.block.samples.read_in_turn(&mut self.window, start, length, end);
            self.rows = 0..0;
            decode(&bytes.map_err(|error| bad(&error))?, &mut self.page)
                .ok_or_else(|| bad(&format!("the page at {start} makes no sense")))?;
            (self.group, self.rows) = (group, page.first_row_index as u64..next as u64);
        }
        Ok((self.rows.clone(), &self.page))
    }
}

/// Where pages lie.
struct Place<'a> {
    block: &'a Block,
    footer: Arc<ParquetMetaData>,
}

/// Reads rows in ascending order, opening one row group at a time.
struct Rows<'a> {
    block: &'a Block,
    place: Place<'a>,
    /// The first row of each row group, and after the last one the number of rows.
    starts: Vec<u64>,
    times: ColumnPages<Vec<i64>>,
    mantissas: ColumnPages<Vec<i64>>,
    values: ColumnPages<SparseValues>,
    decoder: PageDecoder,
}

impl Place<'_> {
    /// Returns the numbers of rows `at..end` that are in a page.
    fn part<'p>(&self, page: &'p [i64], rows: &std::ops::Range<u64>, at: u64, end: u64) -> Result<&'p [i64]> {
        let (from, to) = ((at - rows.start) as usize, (rows.end.min(end) - rows.start) as usize);
        let part = page.get(from..to).filter(|_| page.len() as u64 == rows.end - rows.start);
        part.ok_or_else(|| corrupt(&self.block.samples.path, format!("rows are missing in the page with row {at}")))
    }
}

impl<'a> Rows<'a> {
    fn new(block: &'a Block) -> Result<Self> {
        let footer = block.footer()?;
        let mut starts = vec![0];
        for group in footer.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            starts.push(starts.last().copied().unwrap_or(0) + rows);
        }
        Ok(Self {
            block,
            place: Place { block, footer },
            starts,
            times: ColumnPages::default(),
            mantissas: ColumnPages::default(),
            values: ColumnPages::default(),
            decoder: PageDecoder::default(),
        })
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
                self.read_times(group, rows, &mut out.0)?;
                self.read_values(group, rows, form, &mut out.1)?;
            }
            at = until;
        }
        Ok(())
    }

    /// Appends the timestamps of rows.
    fn read_times(&mut self, group: usize, (mut at, end): (u64, u64), out: &mut Vec<i64>) -> Result<()> {
        while at < end {
            let decode = |page: &[u8], out: &mut _| self.decoder.numbers(page, out);
            let (rows, times) = self.times.load(&self.place, (group, COLUMN_TIMESTAMP, at), decode)?;
            out.extend_from_slice(self.place.part(times, &rows, at, end)?);
            at = rows.end;
        }
        Ok(())
    }

    /// Appends the values of rows of one run.
    fn read_values(&mut self, group: usize, (from, end): (u64, u64), form: Form, out: &mut Vec<f64>) -> Result<()> {
        let first = out.len();
        if let Form::Decimal { scale, shift, .. } = form {
            let mut at = from;
            while at < end {
                let decode = |page: &[u8], out: &mut _| self.decoder.numbers(page, out);
                let (rows, mantissas) = self.mantissas.load(&self.place, (group, COLUMN_MANTISSA, at), decode)?;
                decimal::decode(scale, shift, self.place.part(mantissas, &rows, at, end)?, out);
                at = rows.end;
            }
        } else {
            // What has no value anywhere would stay so.
            out.resize(first + end.saturating_sub(from) as usize, f64::NAN);
        }
        if !matches!(form, Form::Decimal { has_exceptions: false, .. }) {
            let mut at = from;
            while at < end {
                let decode = |page: &[u8], out: &mut _| self.decoder.values(page, out);
                let (rows, values) = self.values.load(&self.place, (group, COLUMN_VALUE, at), decode)?;
                let until = rows.end.min(end);
                let out = out.get_mut(first + (at - from) as usize..first + (until - from) as usize);
                let overwritten = values.overwrite((at - rows.start) as usize, out.unwrap_or_default());
                let is_whole = values.rows() as u64 == rows.end - rows.start;
                if !is_whole || (form == Form::Plain && overwritten as u64 != until - at) {
                    return Err(corrupt(&self.block.samples.path, "values are missing"));
                }
                at = rows.end;
            }
        }
        Ok(())
    }

    /// Returns the parts of rows `from..to` of a row group whose pages' times touch `range`.
    fn pages(&self, group: usize, from: u64, to: u64, range: MillisRange) -> Vec<(u64, u64)> {
        let whole = vec![(from, to)];
        let Some(index) = self.place.footer.page_index() else { return whole };
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
