//! Walks over what a block has beside plain samples, from front to back, for compaction.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use model::{Exemplar, HistogramSample, Labels};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use storage_api::Result;

use super::starts::StartRow;
use super::table::Table;
use super::{Extras, exemplars, histograms, starts};

/// Rows of one table, some of them in memory.
struct Rows<'a, T> {
    table: &'a Table,
    reader: ParquetRecordBatchReader,
    decode: fn(&Table, &RecordBatch) -> Result<Vec<T>>,
    ready: VecDeque<T>,
}

impl<T> Rows<'_, T> {
    fn peek(&mut self) -> Result<Option<&T>> {
        while self.ready.is_empty() {
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let batch = batch.map_err(|error| self.table.bad(error))?;
            self.ready = (self.decode)(self.table, &batch)?.into();
        }
        Ok(self.ready.front())
    }

    fn next_if(&mut self, wanted: impl Fn(&T) -> bool) -> Result<Option<T>> {
        let is_wanted = self.peek()?.is_some_and(wanted);
        Ok(if is_wanted { self.ready.pop_front() } else { None })
    }
}

fn rows<'a, T>(
    table: Option<&'a Table>,
    (columns, batch_rows): (&[&str], usize),
    decode: fn(&Table, &RecordBatch) -> Result<Vec<T>>,
) -> Result<Option<Rows<'a, T>>> {
    let Some(table) = table else { return Ok(None) };
    Ok(Some(Rows { table, reader: table.scan(columns, batch_rows)?, decode, ready: VecDeque::new() }))
}

/// Stands at the next row of each table.
pub(crate) struct ExtrasCursor<'a> {
    extras: &'a Extras,
    histograms: Option<Rows<'a, (u32, HistogramSample)>>,
    starts: Option<Rows<'a, (u32, StartRow)>>,
    exemplars: Option<Rows<'a, (Labels, Exemplar)>>,
}

impl std::fmt::Debug for ExtrasCursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtrasCursor").finish_non_exhaustive()
    }
}

impl<'a> ExtrasCursor<'a> {
    pub(crate) fn new(extras: &'a Extras) -> Result<Self> {
        Ok(Self {
            extras,
            histograms: rows(
                extras.histograms.as_ref(),
                (&histograms::COLUMNS, histograms::READ_ROWS),
                histograms::decode,
            )?,
            starts: rows(extras.starts.as_ref(), (&starts::COLUMNS, starts::READ_ROWS), starts::decode)?,
            exemplars: rows(extras.exemplars.as_ref(), (&exemplars::COLUMNS, exemplars::READ_ROWS), exemplars::decode)?,
        })
    }

    /// Says whether a series has histograms or start times.
    pub(crate) fn has_series(&self, series: u32) -> bool {
        self.extras.has_series(series)
    }

    /// Returns the time of the next histogram of a series.
    pub(crate) fn histogram_time(&mut self, series: u32) -> Result<Option<i64>> {
        let Some(rows) = &mut self.histograms else { return Ok(None) };
        Ok(rows.peek()?.filter(|(of, _)| *of == series).map(|(_, sample)| sample.timestamp_ms))
    }

    /// Takes the next histogram of a series.
    pub(crate) fn next_histogram(&mut self, series: u32) -> Result<Option<HistogramSample>> {
        let Some(rows) = &mut self.histograms else { return Ok(None) };
        Ok(rows.next_if(|(of, _)| *of == series)?.map(|(_, sample)| sample))
    }

    /// Takes the next run of numbers with a start time, of whatever series, if it is wanted.
    pub(crate) fn next_run(&mut self, wanted: impl Fn(u32, &StartRow) -> bool) -> Result<Option<(u32, StartRow)>> {
        match &mut self.starts {
            Some(rows) => rows.next_if(|(of, row)| wanted(*of, row)),
            None => Ok(None),
        }
    }

    /// Returns the start time of a series' number; times ascend from call to call.
    pub(crate) fn start_ms(&mut self, series: u32, time_ms: i64) -> Result<i64> {
        let Some(rows) = &mut self.starts else { return Ok(0) };
        let is_over = |(of, row): &(u32, StartRow)| *of < series || (*of == series && row.last_ms < time_ms);
        while rows.next_if(is_over)?.is_some() {}
        let here = rows.peek()?.filter(|(of, row)| *of == series && row.first_ms <= time_ms);
        Ok(here.map_or(0, |(_, row)| row.start_ms))
    }

    /// Returns the series of the next exemplar, and the exemplar.
    pub(crate) fn exemplar(&mut self) -> Result<Option<&(Labels, Exemplar)>> {
        match &mut self.exemplars {
            Some(rows) => rows.peek(),
            None => Ok(None),
        }
    }

    /// Takes the next exemplar.
    pub(crate) fn next_exemplar(&mut self) -> Result<Option<Exemplar>> {
        match &mut self.exemplars {
            Some(rows) => Ok(rows.next_if(|_| true)?.map(|(_, exemplar)| exemplar)),
            None => Ok(None),
        }
    }
}
