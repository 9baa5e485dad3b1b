//! `exemplars.parquet`: a row for each exemplar.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Float64Array, Float64Builder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
    TimestampMillisecondBuilder, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use model::{Exemplar, Labels, METRIC_NAME, Sample};
use storage_api::{MillisRange, Result};
use storage_wal::Faults;

use super::InSeries;
use super::histograms::timestamp;
use super::table::{Coding, Table, TableWriter, Written};
use crate::block::writer::labels_json;

/// The file's name.
pub(crate) const FILE: &str = "exemplars.parquet";
/// Rows that are gathered before they are handed to Parquet, and that are decoded at a time.
const BATCH_ROWS: usize = 1_024;
pub(super) const READ_ROWS: usize = 1_024;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let column = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![
        column("metric", DataType::Utf8),
        column("labels", DataType::Utf8),
        Field::new("series", DataType::UInt32, true),
        column("timestamp", timestamp()),
        column("value", DataType::Float64),
        column("exemplar_labels", DataType::Utf8),
    ]))
});

const CODINGS: [(&[&str], Coding); 5] = [
    (&["metric"], Coding::Dictionary),
    (&["labels"], Coding::Dictionary),
    (&["series"], Coding::Dictionary),
    (&["timestamp"], Coding::Delta),
    (&["value"], Coding::ByteStreamSplit),
];

/// The order of the exemplars of a series: by time, then by value, then by labels; of equal ones there is one.
pub(crate) fn order(a: &Exemplar, b: &Exemplar) -> Ordering {
    let key = |one: &Exemplar| (one.sample.timestamp_ms, one.sample.value.to_bits());
    key(a).cmp(&key(b)).then_with(|| a.labels.cmp(&b.labels))
}

#[derive(Debug)]
struct Columns {
    metric: StringBuilder,
    labels: StringBuilder,
    series: UInt32Builder,
    timestamp: TimestampMillisecondBuilder,
    value: Float64Builder,
    exemplar_labels: StringBuilder,
}

/// Writes the table.
#[derive(Debug)]
pub(crate) struct ExemplarsWriter {
    table: TableWriter,
    columns: Columns,
    rows: usize,
}

/// Returns labels as a JSON object, the metric's name as any other.
fn json(labels: &Labels) -> String {
    let map: BTreeMap<&str, &str> = labels.iter().collect();
    serde_json::to_string(&map).unwrap_or_default()
}

impl ExemplarsWriter {
    pub(crate) fn create(dir: &Path, faults: &Faults) -> Result<Self> {
        let table = TableWriter::create(dir, FILE, Arc::clone(&SCHEMA), &CODINGS, faults)?;
        let columns = Columns {
            metric: StringBuilder::new(),
            labels: StringBuilder::new(),
            series: UInt32Builder::new(),
            timestamp: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            value: Float64Builder::new(),
            exemplar_labels: StringBuilder::new(),
        };
        Ok(Self { table, columns, rows: 0 })
    }

    pub(crate) fn push(&mut self, series: InSeries<'_>, exemplar: &Exemplar) -> Result<()> {
        self.columns.metric.append_value(series.labels.metric_name());
        self.columns.labels.append_value(labels_json(series.labels));
        self.columns.series.append_option(series.number);
        self.columns.timestamp.append_value(exemplar.sample.timestamp_ms);
        self.columns.value.append_value(exemplar.sample.value);
        self.columns.exemplar_labels.append_value(json(&exemplar.labels));
        // Rows are found by their labels: there may be none of the series in the index.
        self.table.count_row(None);
        self.rows += 1;
        if self.rows >= BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.rows = 0;
        let Columns { metric, labels, series, timestamp, value, exemplar_labels } = &mut self.columns;
        self.table.write(RecordBatch::try_new(
            Arc::clone(&SCHEMA),
            vec![
                Arc::new(metric.finish()),
                Arc::new(labels.finish()),
                Arc::new(series.finish()),
                Arc::new(timestamp.finish()),
                Arc::new(value.finish()),
                Arc::new(exemplar_labels.finish()),
            ],
        ))
    }

    pub(super) fn finish(mut self) -> Result<Written> {
        self.write()?;
        self.table.finish()
    }
}

fn parse(text: &str, metric: &str) -> Option<Labels> {
    let mut map: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    if !metric.is_empty() {
        map.insert(METRIC_NAME.to_owned(), metric.to_owned());
    }
    Some(Labels::from_sorted(map.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

/// The columns that reading needs.
pub(super) const COLUMNS: [&str; 5] = ["metric", "labels", "timestamp", "value", "exemplar_labels"];

/// Decodes the rows whose series and time are wanted; neighbours of one series share its labels, and are asked for once.
fn decode_wanted(
    table: &Table,
    batch: &RecordBatch,
    is_wanted: &dyn Fn(&Labels) -> bool,
    range: MillisRange,
) -> Result<Vec<(Labels, Exemplar)>> {
    let text = |name: &str| table.column::<StringArray>(batch, name);
    let (metrics, series, exemplar_labels) = (text("metric")?, text("labels")?, text("exemplar_labels")?);
    let times: &TimestampMillisecondArray = table.column(batch, "timestamp")?;
    let values: &Float64Array = table.column(batch, "value")?;
    let mut rows = Vec::new();
    let mut last: Option<((&str, &str), Option<Labels>)> = None;
    let bad = || table.bad("labels make no sense");
    for row in 0..batch.num_rows() {
        let key = (metrics.value(row), series.value(row));
        let labels = match last.take().filter(|(of, _)| *of == key) {
            Some((_, labels)) => labels,
            None => Some(parse(key.1, key.0).ok_or_else(bad)?).filter(is_wanted),
        };
        let sample = Sample { timestamp_ms: times.value(row), value: values.value(row) };
        if let Some(labels) = labels.as_ref().filter(|_| range.contains(sample.timestamp_ms)) {
            let own = parse(exemplar_labels.value(row), "").ok_or_else(bad)?;
            rows.push((labels.clone(), Exemplar { labels: own, sample }));
        }
        last = Some((key, labels));
    }
    Ok(rows)
}

/// Decodes rows.
pub(super) fn decode(table: &Table, batch: &RecordBatch) -> Result<Vec<(Labels, Exemplar)>> {
    decode_wanted(table, batch, &|_| true, MillisRange::ALL)
}

/// Hands out the exemplars in `range` of the series that `is_wanted`, in their order.
pub(crate) fn each(
    table: &Table,
    range: MillisRange,
    is_wanted: &dyn Fn(&Labels) -> bool,
    check: &mut dyn FnMut() -> Result<()>,
    each: &mut dyn FnMut(&Labels, Exemplar) -> Result<()>,
) -> Result<()> {
    for batch in table.scan(&COLUMNS, READ_ROWS)? {
        check()?;
        let batch = batch.map_err(|error| table.bad(error))?;
        for (labels, exemplar) in decode_wanted(table, &batch, is_wanted, range)? {
            each(&labels, exemplar)?;
        }
    }
    Ok(())
}
