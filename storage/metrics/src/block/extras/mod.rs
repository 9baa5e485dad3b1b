//! What a block has beside plain samples: native histograms, start times and exemplars, each in a table of its own, and
//! the file `extras`, which has their checksums. Layout: docs/format/metrics-block.md.

mod cursor;
pub(crate) mod exemplars;
pub(crate) mod histograms;
pub(crate) mod starts;
pub(crate) mod table;

use std::path::Path;
use std::sync::Arc;

use model::{Exemplar, HistogramSample, Labels};
use storage_api::{MillisRange, Result};
use storage_wal::Faults;

use super::file::{CheckedFile, read_small, write_new_file};
use super::meta::{FileMeta, Meta};
use crate::error::corrupt;
use crate::merge::Column;
use crate::mixed::Mixed;
use crate::varint::{Cursor, put_bytes, put_u64};

pub(crate) use cursor::ExtrasCursor;
use exemplars::ExemplarsWriter;
use histograms::HistogramsWriter;
use starts::StartsWriter;
use table::{Table, Written};

/// The file that has the checksums of the tables, and which series have rows in them.
pub(crate) const EXTRAS_FILE: &str = "extras";
/// Its first bytes: magic and version.
const MAGIC: [u8; 8] = *b"DAYBKXT\x01";
/// Largest such file that is read, in bytes.
const EXTRAS_BYTES_MAX: u64 = 4 << 30;

/// Says in which series of the block rows are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InSeries<'a> {
    pub(crate) labels: &'a Labels,
    /// The series' number; `None` when it has no sample in the block.
    pub(crate) number: Option<u32>,
}

/// Writes the tables of one block; a table without rows is no file.
#[derive(Debug)]
pub(crate) struct ExtrasWriter {
    dir: std::path::PathBuf,
    faults: Faults,
    histograms: Option<HistogramsWriter>,
    starts: Option<StartsWriter>,
    exemplars: Option<ExemplarsWriter>,
}

/// What became of the tables.
#[derive(Debug, Default)]
pub(crate) struct FinishedExtras {
    pub(crate) files: Vec<FileMeta>,
    pub(crate) histograms: u64,
    pub(crate) exemplars: u64,
}

impl ExtrasWriter {
    pub(crate) fn new(dir: &Path, faults: &Faults) -> Self {
        Self { dir: dir.to_owned(), faults: faults.clone(), histograms: None, starts: None, exemplars: None }
    }

    /// Adds a histogram; they come by series, then by time.
    pub(crate) fn push_histogram(&mut self, series: InSeries<'_>, sample: HistogramSample) -> Result<()> {
        let writer = match self.histograms.take() {
            Some(writer) => writer,
            None => HistogramsWriter::create(&self.dir, &self.faults)?,
        };
        self.histograms.insert(writer).push(series, sample)
    }

    /// Adds the start time of a number, 0 where it is not known; they come by series, then by time.
    pub(crate) fn push_start(&mut self, series: InSeries<'_>, time_ms: i64, start_ms: i64) -> Result<()> {
        if start_ms == 0 && self.starts.is_none() {
            return Ok(());
        }
        let writer = match self.starts.take() {
            Some(writer) => writer,
            None => StartsWriter::create(&self.dir, &self.faults)?,
        };
        self.starts.insert(writer).push(series, time_ms, start_ms)
    }

    /// Says that numbers without a start time follow.
    pub(crate) fn end_starts(&mut self) -> Result<()> {
        self.starts.as_mut().map_or(Ok(()), StartsWriter::end_run)
    }

    /// Adds an exemplar; they come by series, then by [`exemplars::order`].
    pub(crate) fn push_exemplar(&mut self, series: InSeries<'_>, exemplar: &Exemplar) -> Result<()> {
        let writer = match self.exemplars.take() {
            Some(writer) => writer,
            None => ExemplarsWriter::create(&self.dir, &self.faults)?,
        };
        self.exemplars.insert(writer).push(series, exemplar)
    }

    /// Finishes the tables, all on disk.
    pub(crate) fn finish(self) -> Result<FinishedExtras> {
        let mut finished = FinishedExtras::default();
        let mut tables = Vec::new();
        if let Some(writer) = self.histograms {
            let written = writer.finish()?;
            finished.histograms = written.rows;
            tables.push(written);
        }
        if let Some(writer) = self.starts {
            tables.push(writer.finish()?);
        }
        if let Some(writer) = self.exemplars {
            let written = writer.finish()?;
            finished.exemplars = written.rows;
            tables.push(written);
        }
        if tables.is_empty() {
            return Ok(finished);
        }
        let content = encode(&tables);
        write_new_file(&self.dir.join(EXTRAS_FILE), &content, &self.faults)?;
        let (size_bytes, crc32c) = (content.len() as u64, crc32c::crc32c(&content));
        finished.files.push(FileMeta { name: EXTRAS_FILE.to_owned(), size_bytes, crc32c });
        finished.files.extend(tables.into_iter().map(|table| table.file));
        Ok(finished)
    }
}

fn encode(tables: &[Written]) -> Vec<u8> {
    let mut content = MAGIC.to_vec();
    put_u64(&mut content, tables.len() as u64);
    for table in tables {
        put_bytes(&mut content, table.file.name.as_bytes());
        put_u64(&mut content, table.extents.len() as u64);
        for extent in &table.extents {
            content.extend_from_slice(&extent.to_le_bytes());
        }
        put_u64(&mut content, table.runs.len() as u64);
        let mut last = 0;
        for (series, rows) in &table.runs {
            put_u64(&mut content, u64::from(series - last));
            put_u64(&mut content, *rows);
            last = *series;
        }
    }
    content
}

/// What the file says of one table.
#[derive(Debug, Default)]
struct Listed {
    name: String,
    extents: Vec<u32>,
    /// Series, and how many rows it has.
    runs: Vec<(u32, u64)>,
}

fn decode(content: &[u8]) -> Option<Vec<Listed>> {
    let mut cursor = Cursor(content.strip_prefix(&MAGIC)?);
    let mut tables = Vec::new();
    for _ in 0..cursor.count()? {
        let name = cursor.text()?.to_owned();
        let extents = cursor.count()?.checked_mul(4)?;
        let extents = cursor.bytes(extents)?.chunks_exact(4);
        let extents = extents.map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]])).collect();
        let mut runs = Vec::new();
        let mut series = 0_u32;
        for _ in 0..cursor.count()? {
            series = series.checked_add(cursor.u32()?)?;
            runs.push((series, cursor.u64()?));
        }
        runs.is_sorted_by(|a, b| a.0 < b.0).then_some(())?;
        tables.push(Listed { name, extents, runs });
    }
    cursor.is_empty().then_some(tables)
}

/// The tables of an open block.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(crate) histograms: Option<Table>,
    pub(crate) starts: Option<Table>,
    pub(crate) exemplars: Option<Table>,
}

impl Extras {
    /// Opens the tables of the block in `dir`, and checks all but their rows, which are checked as they are read.
    pub(crate) fn open(dir: &Path, meta: &Meta) -> Result<Self> {
        let mut extras = Self::default();
        let Some(expected) = meta.file(EXTRAS_FILE) else { return Ok(extras) };
        let path = dir.join(EXTRAS_FILE);
        let content = read_small(&path, EXTRAS_BYTES_MAX)?;
        if content.len() as u64 != expected.size_bytes || crc32c::crc32c(&content) != expected.crc32c {
            return Err(corrupt(&path, "its size or checksum is not that in meta.json"));
        }
        for listed in decode(&content).ok_or_else(|| corrupt(&path, "it makes no sense"))? {
            let slot = match listed.name.as_str() {
                histograms::FILE => &mut extras.histograms,
                starts::FILE => &mut extras.starts,
                exemplars::FILE => &mut extras.exemplars,
                other => return Err(corrupt(&path, format!("the table {other:?} is not known"))),
            };
            let path = dir.join(&listed.name);
            let expected = meta.file(&listed.name).ok_or_else(|| corrupt(&path, "meta.json does not know it"))?;
            if super::writer::checksum_of_extents(&listed.extents) != expected.crc32c {
                return Err(corrupt(&path, "its checksums are not those in meta.json"));
            }
            let file = Arc::new(CheckedFile::open(&path, expected.size_bytes, listed.extents.into())?);
            *slot = Some(Table::new(file, &listed.runs));
        }
        Ok(extras)
    }

    /// Says whether a series has histograms or start times.
    pub(crate) fn has_series(&self, series: u32) -> bool {
        let has = |table: &Option<Table>| table.as_ref().is_some_and(|table| table.rows_of(series).is_some());
        has(&self.histograms) || has(&self.starts)
    }

    /// Returns how many histograms a series has.
    pub(crate) fn histograms_of(&self, series: u32) -> u64 {
        let rows = self.histograms.as_ref().and_then(|table| table.rows_of(series));
        rows.map_or(0, |rows| rows.end - rows.start)
    }

    /// Returns the bytes that the tables keep in memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        [&self.histograms, &self.starts, &self.exemplars].into_iter().flatten().map(Table::size_bytes).sum()
    }

    /// Adds what some series have in `range` to their numbers. `series` ascend, and `charge` is told what each batch of
    /// histograms costs a query.
    pub(crate) fn read(
        &self,
        series: &[u32],
        numbers: Vec<Column>,
        range: MillisRange,
        charge: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Vec<Mixed>> {
        let starts = match &self.starts {
            Some(table) => starts::read(table, series, range, charge)?,
            None => Vec::new(),
        };
        let histograms = match &self.histograms {
            Some(table) => histograms::read(table, series, range, charge)?,
            None => Vec::new(),
        };
        let (mut starts, mut histograms) = (starts.into_iter().peekable(), histograms.into_iter().peekable());
        let mut all = Vec::with_capacity(series.len());
        for (number, column) in series.iter().zip(numbers) {
            let mut of_series = Vec::new();
            while let Some((_, row)) = starts.next_if(|(of, _)| of == number) {
                of_series.push(row);
            }
            let mut own = Vec::new();
            while let Some((_, sample)) = histograms.next_if(|(of, _)| of == number) {
                own.push(sample);
            }
            all.push(if of_series.is_empty() && own.is_empty() {
                column.into()
            } else {
                weave(column, &of_series, own)
            });
        }
        Ok(all)
    }
}

/// Puts numbers, their start times and histograms together; all ascend, and no two share a time.
fn weave((times, values): Column, starts: &[starts::StartRow], histograms: Vec<HistogramSample>) -> Mixed {
    let mut starts = starts.iter().peekable();
    let mut start_of = |time: i64| {
        while starts.next_if(|row| row.last_ms < time).is_some() {}
        starts.peek().filter(|row| row.first_ms <= time).map_or(0, |row| row.start_ms)
    };
    if histograms.is_empty() {
        let starts_ms = times.iter().map(|time| start_of(*time)).collect();
        return Mixed { times, values, starts_ms, histograms: Vec::new() };
    }
    let mut mixed = Mixed::default();
    let mut histograms = histograms.into_iter().peekable();
    for (time, value) in times.into_iter().zip(values) {
        while let Some(sample) = histograms.next_if(|sample| sample.timestamp_ms < time) {
            mixed.push_histogram(sample);
        }
        mixed.push(time, value, start_of(time));
    }
    histograms.for_each(|sample| mixed.push_histogram(sample));
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_tables_comes_back() {
        let file = |name: &str| FileMeta { name: name.to_owned(), size_bytes: 1, crc32c: 2 };
        let tables = [
            Written {
                file: file("a"),
                extents: vec![1, u32::MAX],
                runs: vec![(0, 3), (7, 1), (u32::MAX, 9)],
                rows: 13,
            },
            Written { file: file("b"), extents: vec![], runs: vec![], rows: 0 },
        ];
        let content = encode(&tables);
        let got = decode(&content).unwrap();
        assert_eq!(got.len(), 2);
        for (got, table) in got.iter().zip(&tables) {
            assert_eq!((&got.name, &got.extents, &got.runs), (&table.file.name, &table.extents, &table.runs));
        }
        for end in 0..content.len() {
            assert!(decode(&content[..end]).is_none(), "cut at {end}");
        }
    }
}
