//! Encodes a row group: runs of rows of one series each.

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::statistics::Statistics;
use parquet::schema::types::SchemaDescriptor;

use super::chunk::{ChunkWriter, DataPage, ZSTD_LEVEL, ZSTD_LEVEL_PACKED};
use super::decimal::{self, Form};
use super::encode::{byte_stream_split, delta_binary_packed, runs};
use super::writer::{
    COLUMN_DIVISOR, COLUMN_FACTOR, COLUMN_LABELS, COLUMN_MANTISSA, COLUMN_METRIC, COLUMN_SERIES, COLUMN_TIMESTAMP,
    COLUMN_VALUE, PAGE_ROWS,
};

/// How a row group is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Values are decimals where they can be.
    pub(crate) is_decimal: bool,
    /// The index has the timestamps: theirs is one page, so that those of one scrape are found again over any distance.
    pub(crate) has_shared_times: bool,
}

/// Neighbouring rows of one series.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) metric: Box<str>,
    pub(crate) labels: Box<str>,
    pub(crate) series: u32,
    pub(crate) rows: usize,
}

/// A row group, ready to be written.
#[derive(Debug)]
pub(crate) struct EncodedGroup {
    /// In the order of the schema.
    pub(crate) chunks: Vec<(Bytes, ColumnCloseResult)>,
    /// How the values of each run are kept.
    pub(crate) forms: Vec<Form>,
}

/// Mantissas of a row group, and which rows keep their value instead.
struct Decimals {
    mantissas: Vec<i64>,
    exceptions: Vec<bool>,
    forms: Vec<Form>,
}

fn decimals(layout: Layout, rows: &[Run], values: &[f64]) -> Decimals {
    let (mut mantissas, mut exceptions) = (Vec::with_capacity(values.len()), Vec::with_capacity(values.len()));
    if !layout.is_decimal {
        mantissas.resize(values.len(), 0);
        exceptions.resize(values.len(), true);
        return Decimals { mantissas, exceptions, forms: vec![Form::Plain; rows.len()] };
    }
    let mut left = values;
    let forms = rows.iter().map(|run| {
        let (now, later) = left.split_at(run.rows.min(left.len()));
        left = later;
        decimal::encode(now, &mut mantissas, &mut exceptions)
    });
    let forms = forms.collect();
    Decimals { mantissas, exceptions, forms }
}

/// Encodes rows that are given by runs.
pub(crate) fn encode_group(
    schema: &SchemaDescriptor,
    layout: Layout,
    rows: &[Run],
    times: &[i64],
    values: &[f64],
) -> Result<EncodedGroup, ParquetError> {
    let chunk = |column: usize| {
        let zstd_level = if column == COLUMN_MANTISSA { ZSTD_LEVEL_PACKED } else { ZSTD_LEVEL };
        ChunkWriter::new(schema.column(column), zstd_level)
    };
    let decimals = decimals(layout, rows, values);
    let scaling = |form: &Form| match form {
        Form::Plain => (1, 1),
        Form::Decimal { scale, shift, .. } => (1_i64 << shift, 10_i64.pow(u32::from(*scale))),
    };
    let mut chunks = Vec::with_capacity(schema.num_columns());
    for column in 0..schema.num_columns() {
        chunks.push(match column {
            COLUMN_METRIC | COLUMN_LABELS => {
                let text = |run: &Run| if column == COLUMN_METRIC { run.metric.clone() } else { run.labels.clone() };
                let texts = rows.iter().map(|run| {
                    let text = text(run).into_string().into_bytes();
                    [&(text.len() as u32).to_le_bytes(), text.as_slice()].concat()
                });
                let statistics = (column == COLUMN_METRIC).then(|| {
                    let text = |run: Option<&Run>| run.map(|run| ByteArray::from(&*run.metric));
                    Statistics::byte_array(text(rows.first()), text(rows.last()), None, Some(0), false)
                });
                by_run(chunk(column)?, rows, texts, statistics)?
            }
            COLUMN_SERIES => {
                let series = |run: Option<&Run>| run.map(|run| run.series as i32);
                let statistics = Statistics::int32(series(rows.first()), series(rows.last()), None, Some(0), false);
                by_run(
                    chunk(column)?,
                    rows,
                    rows.iter().map(|run| run.series.to_le_bytes().to_vec()),
                    Some(statistics),
                )?
            }
            COLUMN_TIMESTAMP => timestamps(chunk(column)?, layout, times)?,
            COLUMN_VALUE => plain_values(chunk(column)?, values, &decimals.exceptions)?,
            COLUMN_MANTISSA => mantissas(chunk(column)?, &decimals.mantissas)?,
            COLUMN_FACTOR => {
                let factors = decimals.forms.iter().map(|form| scaling(form).0.to_le_bytes().to_vec());
                by_run(chunk(column)?, rows, factors, None)?
            }
            COLUMN_DIVISOR => {
                let divisors = decimals.forms.iter().map(|form| scaling(form).1.to_le_bytes().to_vec());
                by_run(chunk(column)?, rows, divisors, None)?
            }
            _ => return Err(ParquetError::General(format!("column {column} is not known"))),
        });
    }
    Ok(EncodedGroup { chunks, forms: decimals.forms })
}

/// Writes a column with one value per run, given as PLAIN, as a dictionary and RLE runs.
fn by_run(
    mut chunk: ChunkWriter,
    rows: &[Run],
    plain: impl Iterator<Item = Vec<u8>>,
    statistics: Option<Statistics>,
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let mut numbers = std::collections::HashMap::new();
    let mut dictionary = Vec::new();
    let mut numbered: Vec<(u32, usize)> = Vec::new();
    for (value, run) in plain.zip(rows) {
        let next = numbers.len() as u32;
        let number = *numbers.entry(value).or_insert_with_key(|value| {
            dictionary.extend_from_slice(value);
            next
        });
        match numbered.last_mut() {
            Some(last) if last.0 == number => last.1 += run.rows,
            Some(_) | None => numbered.push((number, run.rows)),
        }
    }
    chunk.dictionary(&dictionary, numbers.len())?;
    let bit_width = (u32::BITS - (numbers.len() as u32).saturating_sub(1).leading_zeros()).max(1);
    let mut page = vec![bit_width as u8];
    runs(numbered, bit_width, &mut page);
    let count = rows.iter().map(|run| run.rows).sum();
    let encoding = Encoding::RLE_DICTIONARY;
    chunk.page(DataPage { rows: count, nulls: 0, definition_levels: &[], values: &page, encoding, bounds: None })?;
    chunk.finish(statistics)
}

fn timestamps(
    mut chunk: ChunkWriter,
    layout: Layout,
    times: &[i64],
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let mut page = Vec::new();
    let bounds = |times: &[i64]| Some((times.iter().min().copied()?, times.iter().max().copied()?));
    let (page_rows, encoding) = match layout.has_shared_times {
        true => (times.len().max(1), Encoding::BYTE_STREAM_SPLIT),
        false => (PAGE_ROWS, Encoding::DELTA_BINARY_PACKED),
    };
    for times in times.chunks(page_rows) {
        page.clear();
        match layout.has_shared_times {
            true => byte_stream_split(times.iter().map(|time| time.to_le_bytes()), &mut page),
            false => delta_binary_packed(times, &mut page),
        }
        chunk.page(DataPage {
            rows: times.len(),
            nulls: 0,
            definition_levels: &[],
            values: &page,
            encoding,
            bounds: bounds(times),
        })?;
    }
    let (min, max) = bounds(times).unzip();
    chunk.finish(Some(Statistics::int64(min, max, None, Some(0), false)))
}

fn mantissas(mut chunk: ChunkWriter, mantissas: &[i64]) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let mut page = Vec::new();
    for mantissas in mantissas.chunks(PAGE_ROWS) {
        page.clear();
        delta_binary_packed(mantissas, &mut page);
        chunk.page(DataPage {
            rows: mantissas.len(),
            nulls: 0,
            definition_levels: &[],
            values: &page,
            encoding: Encoding::DELTA_BINARY_PACKED,
            bounds: None,
        })?;
    }
    chunk.finish(None)
}

fn plain_values(
    mut chunk: ChunkWriter,
    values: &[f64],
    exceptions: &[bool],
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let (mut levels, mut page, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (values, exceptions) in values.chunks(PAGE_ROWS).zip(exceptions.chunks(PAGE_ROWS)) {
        levels.clear();
        page.clear();
        kept.clear();
        let same = exceptions.chunk_by(|a, b| a == b);
        runs(same.map(|same| (u32::from(same.first() == Some(&true)), same.len())), 1, &mut levels);
        kept.extend(values.iter().zip(exceptions).filter(|(_, is_kept)| **is_kept).map(|(value, _)| *value));
        byte_stream_split(kept.iter().map(|value| value.to_le_bytes()), &mut page);
        chunk.page(DataPage {
            rows: values.len(),
            nulls: values.len() - kept.len(),
            definition_levels: &levels,
            values: &page,
            encoding: Encoding::BYTE_STREAM_SPLIT,
            bounds: None,
        })?;
    }
    chunk.finish(None)
}
