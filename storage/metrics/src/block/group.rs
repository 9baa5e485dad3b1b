//! Encodes a row group while its runs come: rows of one series each, that are kept in one form.

use std::io::Write;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor};

use super::chunk::{ChunkWriter, DataPage, ZSTD_LEVEL, ZSTD_LEVEL_PACKED};
use super::decimal::{self, Form};
use super::encode::{byte_stream_split, delta_binary_packed, runs};
use super::times::{GroupTimes, SeenTimes, decode_times};
use super::writer::{
    COLUMN_DIVISOR, COLUMN_FACTOR, COLUMN_LABELS, COLUMN_MANTISSA, COLUMN_METRIC, COLUMN_SERIES, COLUMN_TIMESTAMP,
    COLUMN_VALUE, PAGE_ROWS,
};

/// Rows after which a page ends with its run: a query for one series then decodes hardly more than that series.
const PAGE_ROWS_MIN: usize = 1_024;
/// Rows after which a page of values ends when hardly any row has a value of its own.
const PAGE_ROWS_EMPTY: usize = 64 << 10;
/// Rows in one page of timestamps.
const PAGE_ROWS_TIMES: usize = 8_192;
/// How hard to compress timestamps that repeat: from here on the same is found twice at no more cost.
const ZSTD_LEVEL_TIMES: i32 = 6;
/// How far back they are looked for, as a power of two: 4 MiB, a byte each of the runs of some 1,000 scrape targets.
const ZSTD_WINDOW_TIMES: u32 = 22;

/// Neighbouring rows of one series, up to 65,536.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) metric: Box<str>,
    pub(crate) labels: Box<str>,
    pub(crate) series: u32,
}

/// A run whose values are encoded.
#[derive(Debug)]
struct PushedRun {
    run: Run,
    rows: usize,
    form: Form,
    /// Which of the group's lists has its times.
    list: u32,
}

/// What the index must know of a run.
#[derive(Debug)]
pub(crate) struct EncodedRun {
    pub(crate) rows: usize,
    pub(crate) form: Form,
    /// Its place in [`EncodedGroup::lists`].
    pub(crate) list: u32,
}

/// A row group, ready to be written.
#[derive(Debug)]
pub(crate) struct EncodedGroup {
    /// In the order of the schema.
    pub(crate) chunks: Vec<(Bytes, ColumnCloseResult)>,
    pub(crate) runs: Vec<EncodedRun>,
    /// Encoded lists of timestamps, when the index is to have them.
    pub(crate) lists: Option<Vec<std::sync::Arc<[u8]>>>,
}

/// A row group as it grows: its pages are encoded already, and it holds no more rows than a page takes.
pub(crate) struct GroupWriter {
    schema: SchemaDescPtr,
    is_decimal: bool,
    runs: Vec<PushedRun>,
    rows: usize,
    text_bytes: usize,
    times: GroupTimes,
    mantissas: Mantissas,
    values: PlainValues,
    /// Memory that is used again from run to run.
    scratch: (Vec<i64>, Vec<bool>),
}

impl GroupWriter {
    /// Starts a group; its values are decimals where they can be if `is_decimal`.
    pub(crate) fn new(schema: &SchemaDescPtr, is_decimal: bool) -> Result<Self, ParquetError> {
        Ok(Self {
            schema: SchemaDescPtr::clone(schema),
            is_decimal,
            runs: Vec::new(),
            rows: 0,
            text_bytes: 0,
            times: GroupTimes::default(),
            mantissas: Mantissas::new(schema)?,
            values: PlainValues::new(schema)?,
            scratch: Default::default(),
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the bytes that the runs' texts take.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Adds a run.
    pub(crate) fn push(&mut self, run: Run, times: &[i64], values: &[f64]) -> Result<(), ParquetError> {
        let (mantissas, exceptions) = &mut self.scratch;
        mantissas.clear();
        exceptions.clear();
        let form = if self.is_decimal {
            decimal::encode(values, mantissas, exceptions)
        } else {
            mantissas.resize(values.len(), 0);
            exceptions.resize(values.len(), true);
            Form::Plain
        };
        self.mantissas.push(mantissas)?;
        self.values.push(values, exceptions, form)?;
        self.text_bytes += run.metric.len() + run.labels.len() + size_of::<PushedRun>();
        self.rows += values.len();
        let list = self.times.push(times);
        self.runs.push(PushedRun { run, rows: values.len(), form, list });
        Ok(())
    }

    /// Ends the group.
    pub(crate) fn finish(self, seen: &mut SeenTimes) -> Result<EncodedGroup, ParquetError> {
        let Self { schema, runs, rows, times, mantissas, values, .. } = self;
        let is_shared = seen.shares(&times, rows);
        let columns = ByRun { schema: &schema, runs: &runs };
        let mut chunks: Vec<(Bytes, ColumnCloseResult)> = Vec::with_capacity(schema.num_columns());
        let (mut mantissas, mut values) = (Some(mantissas), Some(values));
        for column in 0..schema.num_columns() {
            chunks.push(match column {
                COLUMN_METRIC => columns.metrics()?,
                COLUMN_LABELS => columns.labels()?,
                COLUMN_SERIES => columns.series()?,
                COLUMN_TIMESTAMP => {
                    let chunk = ChunkWriter::new(schema.column(column), ZSTD_LEVEL)?;
                    timestamps(chunk, &runs, &times, is_shared && times.repeats(rows))?
                }
                COLUMN_VALUE => values.take().map(PlainValues::finish).ok_or_else(|| unknown(column))??,
                COLUMN_MANTISSA => mantissas.take().map(Mantissas::finish).ok_or_else(|| unknown(column))??,
                COLUMN_FACTOR => columns.numbers(column, |form| scaling(form).0)?,
                COLUMN_DIVISOR => columns.numbers(column, |form| scaling(form).1)?,
                _ => return Err(unknown(column)),
            });
        }
        let runs = runs.into_iter().map(|PushedRun { rows, form, list, .. }| EncodedRun { rows, form, list });
        Ok(EncodedGroup { chunks, runs: runs.collect(), lists: is_shared.then_some(times.lists) })
    }
}

fn unknown(column: usize) -> ParquetError {
    ParquetError::General(format!("column {column} is not known"))
}

/// Returns factor and divisor.
fn scaling(form: Form) -> (i64, i64) {
    match form {
        Form::Plain => (1, 1),
        Form::Decimal { scale, shift, .. } => (1_i64 << shift, 10_i64.pow(u32::from(scale))),
    }
}

/// Columns with one value per run.
struct ByRun<'a> {
    schema: &'a SchemaDescriptor,
    runs: &'a [PushedRun],
}

impl ByRun<'_> {
    fn metrics(&self) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let text = |run: Option<&PushedRun>| run.map(|pushed| ByteArray::from(&*pushed.run.metric));
        let statistics = Statistics::byte_array(text(self.runs.first()), text(self.runs.last()), None, Some(0), false);
        self.write(COLUMN_METRIC, |pushed| plain_text(&pushed.run.metric), Some(statistics))
    }

    fn labels(&self) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        self.write(COLUMN_LABELS, |pushed| plain_text(&pushed.run.labels), None)
    }

    fn series(&self) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let series = |run: Option<&PushedRun>| run.map(|pushed| pushed.run.series as i32);
        let statistics = Statistics::int32(series(self.runs.first()), series(self.runs.last()), None, Some(0), false);
        self.write(COLUMN_SERIES, |pushed| pushed.run.series.to_le_bytes().to_vec(), Some(statistics))
    }

    fn numbers(&self, column: usize, of: fn(Form) -> i64) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        self.write(column, |pushed| of(pushed.form).to_le_bytes().to_vec(), None)
    }

    /// Writes a column whose values are given as PLAIN, as a dictionary and RLE runs.
    fn write(
        &self,
        column: usize,
        plain: impl Fn(&PushedRun) -> Vec<u8>,
        statistics: Option<Statistics>,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let mut chunk = ChunkWriter::new(self.schema.column(column), ZSTD_LEVEL)?;
        let mut numbers = std::collections::HashMap::new();
        let mut dictionary = Vec::new();
        let mut numbered: Vec<(u32, usize)> = Vec::new();
        for pushed in self.runs {
            let next = numbers.len() as u32;
            let number = *numbers.entry(plain(pushed)).or_insert_with_key(|value| {
                dictionary.extend_from_slice(value);
                next
            });
            match numbered.last_mut() {
                Some(last) if last.0 == number => last.1 += pushed.rows,
                Some(_) | None => numbered.push((number, pushed.rows)),
            }
        }
        chunk.dictionary(&dictionary, numbers.len())?;
        let bit_width = (u32::BITS - (numbers.len() as u32).saturating_sub(1).leading_zeros()).max(1);
        let mut page = vec![bit_width as u8];
        runs(numbered, bit_width, &mut page);
        let rows = self.runs.iter().map(|pushed| pushed.rows).sum();
        let encoding = Encoding::RLE_DICTIONARY;
        chunk.page(DataPage { rows, nulls: 0, definition_levels: &[], values: &page, encoding, bounds: None })?;
        chunk.finish(statistics)
    }
}

fn plain_text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// Writes the timestamps: as one page when they repeat and are read from the index, in which those of one scrape are
/// found again over any distance.
fn timestamps(
    mut chunk: ChunkWriter,
    runs: &[PushedRun],
    times: &GroupTimes,
    is_one_page: bool,
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let bad = || ParquetError::General("the times of a row group do not ascend".to_owned());
    let rows = runs.iter().map(|run| run.rows).sum();
    let mut all: Option<(i64, i64)> = None;
    let mut note = |times: &[i64]| {
        for time in times.first().into_iter().chain(times.last()) {
            all = Some(widen(all, *time));
        }
    };
    if is_one_page {
        let lists: Option<Vec<Vec<i64>>> = times.lists.iter().map(|list| decode_times(list)).collect();
        let lists = lists.ok_or_else(bad)?;
        lists.iter().for_each(|times| note(times));
        let of_run: Vec<&[i64]> =
            runs.iter().filter_map(|run| lists.get(run.list as usize)).map(Vec::as_slice).collect();
        let plain_bytes = rows * size_of::<i64>();
        let page = pack_planes(&of_run, plain_bytes)?;
        let encoding = Encoding::BYTE_STREAM_SPLIT;
        let page = DataPage { rows, nulls: 0, definition_levels: &[], values: &page, encoding, bounds: all };
        chunk.packed_page(page, Some(plain_bytes))?;
    } else {
        let mut waiting = Vec::with_capacity(PAGE_ROWS_TIMES);
        let mut page = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let list = times.lists.get(run.list as usize).and_then(|list| decode_times(list)).ok_or_else(bad)?;
            note(&list);
            waiting.extend(list);
            let is_last = number + 1 == runs.len();
            while waiting.len() >= PAGE_ROWS_TIMES || (is_last && !waiting.is_empty()) {
                let now = waiting.get(..PAGE_ROWS_TIMES).unwrap_or(&waiting);
                page.clear();
                delta_binary_packed(now, &mut page);
                let bounds = now.iter().fold(None, |bounds, time| Some(widen(bounds, *time)));
                let rows = now.len();
                let encoding = Encoding::DELTA_BINARY_PACKED;
                chunk.page(DataPage { rows, nulls: 0, definition_levels: &[], values: &page, encoding, bounds })?;
                waiting.drain(..rows);
            }
        }
    }
    let (min, max) = all.unzip();
    chunk.finish(Some(Statistics::int64(min, max, None, Some(0), false)))
}

fn widen(bounds: Option<(i64, i64)>, time: i64) -> (i64, i64) {
    bounds.map_or((time, time), |(min, max)| (min.min(time), max.max(time)))
}

/// Compresses timestamps as BYTE_STREAM_SPLIT, without ever holding the plain page.
fn pack_planes(lists: &[&[i64]], plain_bytes: usize) -> Result<Vec<u8>, ParquetError> {
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), ZSTD_LEVEL_TIMES)?;
    zstd.window_log(ZSTD_WINDOW_TIMES)?;
    zstd.set_pledged_src_size(Some(plain_bytes as u64))?;
    let mut plane = Vec::new();
    for byte in 0..size_of::<i64>() {
        for list in lists {
            plane.clear();
            plane.extend(list.iter().map(|time| time.to_le_bytes()[byte]));
            zstd.write_all(&plane)?;
        }
    }
    Ok(zstd.finish()?)
}

/// The column `mantissa`.
struct Mantissas {
    chunk: ChunkWriter,
    waiting: Vec<i64>,
    page: Vec<u8>,
}

impl Mantissas {
    fn new(schema: &SchemaDescriptor) -> Result<Self, ParquetError> {
        let chunk = ChunkWriter::new(schema.column(COLUMN_MANTISSA), ZSTD_LEVEL_PACKED)?;
        Ok(Self { chunk, waiting: Vec::new(), page: Vec::new() })
    }

    fn push(&mut self, mut run: &[i64]) -> Result<(), ParquetError> {
        if self.waiting.len() + run.len() > PAGE_ROWS {
            self.end_page()?;
        }
        while run.len() > PAGE_ROWS {
            let (now, later) = run.split_at(PAGE_ROWS);
            self.waiting.extend_from_slice(now);
            self.end_page()?;
            run = later;
        }
        self.waiting.extend_from_slice(run);
        if self.waiting.len() >= PAGE_ROWS_MIN {
            self.end_page()?;
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.page.clear();
        delta_binary_packed(&self.waiting, &mut self.page);
        let (rows, encoding) = (self.waiting.len(), Encoding::DELTA_BINARY_PACKED);
        self.waiting.clear();
        let values = &self.page;
        self.chunk.page(DataPage { rows, nulls: 0, definition_levels: &[], values, encoding, bounds: None })
    }

    fn finish(mut self) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        self.end_page()?;
        self.chunk.finish(None)
    }
}

/// The column `value`.
struct PlainValues {
    chunk: ChunkWriter,
    /// Whether rows have a value, and how many such follow each other.
    levels: Vec<(u32, usize)>,
    rows: usize,
    kept: Vec<f64>,
    page: (Vec<u8>, Vec<u8>),
}

impl PlainValues {
    fn new(schema: &SchemaDescriptor) -> Result<Self, ParquetError> {
        let chunk = ChunkWriter::new(schema.column(COLUMN_VALUE), ZSTD_LEVEL)?;
        Ok(Self { chunk, levels: Vec::new(), rows: 0, kept: Vec::new(), page: Default::default() })
    }

    fn push(&mut self, values: &[f64], exceptions: &[bool], form: Form) -> Result<(), ParquetError> {
        if matches!(form, Form::Decimal { has_exceptions: false, .. }) {
            self.level(0, values.len());
        } else {
            if self.kept.len() + values.len() > PAGE_ROWS {
                self.end_page()?;
            }
            for (values, exceptions) in values.chunks(PAGE_ROWS).zip(exceptions.chunks(PAGE_ROWS)) {
                for same in exceptions.chunk_by(|a, b| a == b) {
                    self.level(u32::from(same.first() == Some(&true)), same.len());
                }
                let kept = values.iter().zip(exceptions).filter(|(_, is_kept)| **is_kept);
                self.kept.extend(kept.map(|(value, _)| *value));
                if self.kept.len() >= PAGE_ROWS_MIN {
                    self.end_page()?;
                }
            }
        }
        if self.rows >= PAGE_ROWS_EMPTY {
            self.end_page()?;
        }
        Ok(())
    }

    fn level(&mut self, level: u32, rows: usize) {
        self.rows += rows;
        match self.levels.last_mut() {
            Some(last) if last.0 == level => last.1 += rows,
            Some(_) | None => self.levels.push((level, rows)),
        }
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let (levels, values) = &mut self.page;
        levels.clear();
        values.clear();
        runs(self.levels.drain(..), 1, levels);
        byte_stream_split(self.kept.iter().map(|value| value.to_le_bytes()), values);
        let (rows, nulls) = (self.rows, self.rows - self.kept.len());
        self.rows = 0;
        self.kept.clear();
        let encoding = Encoding::BYTE_STREAM_SPLIT;
        self.chunk.page(DataPage { rows, nulls, definition_levels: levels, values, encoding, bounds: None })
    }

    fn finish(mut self) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        self.end_page()?;
        self.chunk.finish(None)
    }
}
