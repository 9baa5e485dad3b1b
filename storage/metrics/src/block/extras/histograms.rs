//! `histograms.parquet`: a row for each native histogram.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, Float64Array, Float64Builder, Int32Array, Int32Builder, ListArray, ListBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMillisecondArray, TimestampMillisecondBuilder, UInt32Array, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use model::histogram::ResetHint;
use model::{Histogram, HistogramSample};
use storage_api::{MillisRange, Result, histogram_cost};
use storage_wal::Faults;

use super::InSeries;
use super::table::{Coding, Table, TableWriter, Written};
use crate::block::writer::labels_json;
use crate::histogram_codec::size_bytes;

/// The file's name.
pub(crate) const FILE: &str = "histograms.parquet";
/// Rows and bytes that are gathered before they are handed to Parquet.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// Rows that are decoded at a time: few, as one histogram may have ten thousand buckets.
pub(super) const READ_ROWS: usize = 64;
/// Rows whose times alone are decoded at a time.
const READ_TIMES: usize = 8_192;

fn element(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("element", data_type, false))
}

pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let column = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    let list = |name: &str, data_type: DataType| column(name, DataType::List(element(data_type)));
    Arc::new(Schema::new(vec![
        column("metric", DataType::Utf8),
        column("labels", DataType::Utf8),
        column("series", DataType::UInt32),
        column("timestamp", timestamp()),
        Field::new("start_timestamp", timestamp(), true),
        column("schema", DataType::Int32),
        column("reset_hint", DataType::Utf8),
        column("zero_threshold", DataType::Float64),
        column("zero_count", DataType::Float64),
        column("count", DataType::Float64),
        column("sum", DataType::Float64),
        list("positive_index", DataType::Int32),
        list("positive_count", DataType::Float64),
        list("negative_index", DataType::Int32),
        list("negative_count", DataType::Float64),
        list("custom_bounds", DataType::Float64),
    ]))
});

/// How the columns are encoded. No double goes by dictionary, which takes 0 and -0 for the same.
const CODINGS: [(&[&str], Coding); 16] = [
    (&["metric"], Coding::Dictionary),
    (&["labels"], Coding::Dictionary),
    (&["series"], Coding::Dictionary),
    (&["timestamp"], Coding::Delta),
    (&["start_timestamp"], Coding::Dictionary),
    (&["schema"], Coding::Dictionary),
    (&["reset_hint"], Coding::Dictionary),
    (&["zero_threshold"], Coding::ByteStreamSplit),
    (&["zero_count"], Coding::ByteStreamSplit),
    (&["count"], Coding::ByteStreamSplit),
    (&["sum"], Coding::ByteStreamSplit),
    (&["positive_index", "list", "element"], Coding::Delta),
    (&["positive_count", "list", "element"], Coding::ByteStreamSplit),
    (&["negative_index", "list", "element"], Coding::Delta),
    (&["negative_count", "list", "element"], Coding::ByteStreamSplit),
    (&["custom_bounds", "list", "element"], Coding::ByteStreamSplit),
];

fn hint_word(hint: ResetHint) -> &'static str {
    match hint {
        ResetHint::Unknown => "unknown",
        ResetHint::Reset => "reset",
        ResetHint::NotReset => "not_reset",
        ResetHint::Gauge => "gauge",
    }
}

fn hint_of(word: &str) -> Option<ResetHint> {
    [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge]
        .into_iter()
        .find(|hint| hint_word(*hint) == word)
}

/// The columns of a batch as they grow.
#[derive(Debug)]
struct Columns {
    metric: StringBuilder,
    labels: StringBuilder,
    series: UInt32Builder,
    timestamp: TimestampMillisecondBuilder,
    start: TimestampMillisecondBuilder,
    schema: Int32Builder,
    hint: StringBuilder,
    /// Zero threshold, zero count, count, sum.
    numbers: [Float64Builder; 4],
    /// Of the positive and the negative buckets.
    indexes: [ListBuilder<Int32Builder>; 2],
    counts: [ListBuilder<Float64Builder>; 2],
    custom: ListBuilder<Float64Builder>,
}

impl Columns {
    fn new() -> Self {
        let doubles = || ListBuilder::new(Float64Builder::new()).with_field(element(DataType::Float64));
        let indexes = || ListBuilder::new(Int32Builder::new()).with_field(element(DataType::Int32));
        Self {
            metric: StringBuilder::new(),
            labels: StringBuilder::new(),
            series: UInt32Builder::new(),
            timestamp: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            start: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            schema: Int32Builder::new(),
            hint: StringBuilder::new(),
            numbers: std::array::from_fn(|_| Float64Builder::new()),
            indexes: std::array::from_fn(|_| indexes()),
            counts: std::array::from_fn(|_| doubles()),
            custom: doubles(),
        }
    }

    fn push(&mut self, metric: &str, labels: &str, series: u32, sample: &HistogramSample) {
        let Histogram { schema, zero_threshold, zero_count, count, sum, positive, negative, custom, hint } =
            sample.histogram.as_ref();
        self.metric.append_value(metric);
        self.labels.append_value(labels);
        self.series.append_value(series);
        self.timestamp.append_value(sample.timestamp_ms);
        self.start.append_option(Some(sample.start_ms).filter(|start_ms| *start_ms != 0));
        self.schema.append_value(*schema);
        self.hint.append_value(hint_word(*hint));
        for (column, number) in self.numbers.iter_mut().zip([zero_threshold, zero_count, count, sum]) {
            column.append_value(*number);
        }
        for ((indexes, counts), side) in self.indexes.iter_mut().zip(&mut self.counts).zip([positive, negative]) {
            for (index, count) in side {
                indexes.values().append_value(*index);
                counts.values().append_value(*count);
            }
            indexes.append(true);
            counts.append(true);
        }
        self.custom.values().append_slice(custom);
        self.custom.append(true);
    }

    fn finish(&mut self) -> Result<RecordBatch, arrow::error::ArrowError> {
        let [zero_threshold, zero_count, count, sum] = self.numbers.each_mut().map(Float64Builder::finish);
        let [positive_index, negative_index] = self.indexes.each_mut().map(ListBuilder::finish);
        let [positive_count, negative_count] = self.counts.each_mut().map(ListBuilder::finish);
        RecordBatch::try_new(
            Arc::clone(&SCHEMA),
            vec![
                Arc::new(self.metric.finish()),
                Arc::new(self.labels.finish()),
                Arc::new(self.series.finish()),
                Arc::new(self.timestamp.finish()),
                Arc::new(self.start.finish()),
                Arc::new(self.schema.finish()),
                Arc::new(self.hint.finish()),
                Arc::new(zero_threshold),
                Arc::new(zero_count),
                Arc::new(count),
                Arc::new(sum),
                Arc::new(positive_index),
                Arc::new(positive_count),
                Arc::new(negative_index),
                Arc::new(negative_count),
                Arc::new(self.custom.finish()),
            ],
        )
    }
}

/// Writes the table.
#[derive(Debug)]
pub(crate) struct HistogramsWriter {
    table: TableWriter,
    columns: Columns,
    rows: usize,
    bytes: usize,
    /// The text of the labels of the series that came last.
    labels: Option<(u32, String)>,
}

impl HistogramsWriter {
    pub(crate) fn create(dir: &Path, faults: &Faults) -> Result<Self> {
        let table = TableWriter::create(dir, FILE, Arc::clone(&SCHEMA), &CODINGS, faults)?;
        Ok(Self { table, columns: Columns::new(), rows: 0, bytes: 0, labels: None })
    }

    pub(crate) fn push(&mut self, series: InSeries<'_>, sample: HistogramSample) -> Result<()> {
        let number = series.number.unwrap_or(u32::MAX);
        let labels = self.labels.take().filter(|(of, _)| *of == number);
        let (_, labels) = self.labels.insert(labels.unwrap_or_else(|| (number, labels_json(series.labels))));
        self.columns.push(series.labels.metric_name(), labels, number, &sample);
        self.bytes += size_bytes(&sample.histogram) + labels.len();
        self.table.count_row(Some(number));
        self.rows += 1;
        if self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        (self.rows, self.bytes) = (0, 0);
        self.table.write(self.columns.finish())
    }

    pub(super) fn finish(mut self) -> Result<Written> {
        self.write()?;
        self.table.finish()
    }
}

/// The columns that reading needs.
pub(super) const COLUMNS: [&str; 14] = [
    "series",
    "timestamp",
    "start_timestamp",
    "schema",
    "reset_hint",
    "zero_threshold",
    "zero_count",
    "count",
    "sum",
    "positive_index",
    "positive_count",
    "negative_index",
    "negative_count",
    "custom_bounds",
];

/// Decodes rows.
pub(super) fn decode(table: &Table, batch: &RecordBatch) -> Result<Vec<(u32, HistogramSample)>> {
    let series: &UInt32Array = table.column(batch, "series")?;
    let times: &TimestampMillisecondArray = table.column(batch, "timestamp")?;
    let starts: &TimestampMillisecondArray = table.column(batch, "start_timestamp")?;
    let schemas: &Int32Array = table.column(batch, "schema")?;
    let hints: &StringArray = table.column(batch, "reset_hint")?;
    let number = |name: &str| table.column::<Float64Array>(batch, name);
    let (zero_thresholds, zero_counts) = (number("zero_threshold")?, number("zero_count")?);
    let (counts, sums) = (number("count")?, number("sum")?);
    let list = |name: &str| table.column::<ListArray>(batch, name);
    let positive = (list("positive_index")?, list("positive_count")?);
    let negative = (list("negative_index")?, list("negative_count")?);
    let bounds = list("custom_bounds")?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    let mut custom: Arc<[f64]> = Arc::default();
    for row in 0..batch.num_rows() {
        let own_bounds = doubles(table, bounds, row)?;
        if !own_bounds.iter().map(|bound| bound.to_bits()).eq(custom.iter().map(|bound| bound.to_bits())) {
            custom = own_bounds.into();
        }
        let histogram = Histogram {
            schema: schemas.value(row),
            zero_threshold: zero_thresholds.value(row),
            zero_count: zero_counts.value(row),
            count: counts.value(row),
            sum: sums.value(row),
            positive: buckets(table, positive, row)?,
            negative: buckets(table, negative, row)?,
            custom: Arc::clone(&custom),
            hint: hint_of(hints.value(row)).ok_or_else(|| table.bad("a reset hint is not known"))?,
        };
        let sample = HistogramSample {
            timestamp_ms: times.value(row),
            start_ms: if starts.is_null(row) { 0 } else { starts.value(row) },
            histogram: Arc::new(histogram),
        };
        rows.push((series.value(row), sample));
    }
    Ok(rows)
}

fn doubles(table: &Table, list: &ListArray, row: usize) -> Result<Vec<f64>> {
    let values = list.value(row);
    let values = values.as_any().downcast_ref::<Float64Array>();
    Ok(values.ok_or_else(|| table.bad("a list has another type"))?.values().to_vec())
}

fn buckets(table: &Table, (indexes, counts): (&ListArray, &ListArray), row: usize) -> Result<Vec<(i32, f64)>> {
    let indexes = indexes.value(row);
    let indexes = indexes.as_any().downcast_ref::<Int32Array>();
    let indexes = indexes.ok_or_else(|| table.bad("a list has another type"))?;
    let counts = doubles(table, counts, row)?;
    if indexes.len() != counts.len() {
        return Err(table.bad("a histogram has not as many counts as buckets"));
    }
    Ok(indexes.values().iter().copied().zip(counts).collect())
}

/// Returns the histograms of some series in `range`, by series and time. `charge` is told what each batch costs.
pub(super) fn read(
    table: &Table,
    series: &[u32],
    range: MillisRange,
    charge: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<(u32, HistogramSample)>> {
    let rows = table.ranges_of(series)?;
    let rows = if range == MillisRange::ALL { rows } else { in_range(table, &rows, range, charge)? };
    let mut found = Vec::new();
    table.read(&COLUMNS, &rows, READ_ROWS, &mut |batch| {
        let decoded = decode(table, batch)?;
        charge(decoded.iter().map(|(_, sample)| histogram_cost(&sample.histogram)).sum())?;
        found.extend(decoded);
        Ok(())
    })?;
    Ok(found)
}

/// Returns the rows of `rows` whose time lies in `range`: times are small, histograms are not.
fn in_range(
    table: &Table,
    rows: &[std::ops::Range<usize>],
    range: MillisRange,
    charge: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<std::ops::Range<usize>>> {
    let mut numbers = rows.iter().cloned().flatten();
    let mut inside: Vec<std::ops::Range<usize>> = Vec::new();
    table.read(&["timestamp"], rows, READ_TIMES, &mut |batch| {
        charge(0)?;
        let times: &TimestampMillisecondArray = table.column(batch, "timestamp")?;
        for (time, row) in times.values().iter().zip(&mut numbers) {
            if range.contains(*time) {
                match inside.last_mut() {
                    Some(last) if last.end == row => last.end += 1,
                    _ => inside.push(row..row + 1),
                }
            }
        }
        Ok(())
    })?;
    Ok(inside)
}
