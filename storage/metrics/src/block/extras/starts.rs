//! `starts.parquet`: since when numbers count, a row for each run of samples with the same start time.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    RecordBatch, StringBuilder, TimestampMillisecondArray, TimestampMillisecondBuilder, UInt32Array, UInt32Builder,
    UInt64Array, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use storage_api::{MillisRange, Result};
use storage_wal::Faults;

use super::InSeries;
use super::histograms::timestamp;
use super::table::{Coding, Table, TableWriter, Written};
use crate::block::writer::labels_json;

/// The file's name.
pub(crate) const FILE: &str = "starts.parquet";
/// Rows that are gathered before they are handed to Parquet, and that are decoded at a time.
const BATCH_ROWS: usize = 1_024;
pub(super) const READ_ROWS: usize = 4_096;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let column = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![
        column("metric", DataType::Utf8),
        column("labels", DataType::Utf8),
        column("series", DataType::UInt32),
        column("first_timestamp", timestamp()),
        column("last_timestamp", timestamp()),
        column("samples", DataType::UInt64),
        column("start_timestamp", timestamp()),
    ]))
});

const CODINGS: [(&[&str], Coding); 7] = [
    (&["metric"], Coding::Dictionary),
    (&["labels"], Coding::Dictionary),
    (&["series"], Coding::Delta),
    (&["first_timestamp"], Coding::Delta),
    (&["last_timestamp"], Coding::Delta),
    (&["samples"], Coding::Delta),
    (&["start_timestamp"], Coding::Delta),
];

/// Numbers of one series that count since the same time: all of the block from the first time to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartRow {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) start_ms: i64,
    /// How many numbers there are from the first time to the last.
    pub(crate) samples: u64,
}

#[derive(Debug)]
struct Columns {
    metric: StringBuilder,
    labels: StringBuilder,
    series: UInt32Builder,
    first: TimestampMillisecondBuilder,
    last: TimestampMillisecondBuilder,
    samples: UInt64Builder,
    start: TimestampMillisecondBuilder,
}

/// A run that may go on.
#[derive(Debug)]
struct Open {
    metric: String,
    labels: String,
    series: u32,
    row: StartRow,
}

/// Writes the table.
#[derive(Debug)]
pub(crate) struct StartsWriter {
    table: TableWriter,
    columns: Columns,
    rows: usize,
    open: Option<Open>,
}

impl StartsWriter {
    pub(crate) fn create(dir: &Path, faults: &Faults) -> Result<Self> {
        let table = TableWriter::create(dir, FILE, Arc::clone(&SCHEMA), &CODINGS, faults)?;
        let timestamp = || TimestampMillisecondBuilder::new().with_timezone("UTC");
        let columns = Columns {
            metric: StringBuilder::new(),
            labels: StringBuilder::new(),
            series: UInt32Builder::new(),
            first: timestamp(),
            last: timestamp(),
            samples: UInt64Builder::new(),
            start: timestamp(),
        };
        Ok(Self { table, columns, rows: 0, open: None })
    }

    /// Adds a number and its start time, 0 where that is not known.
    pub(crate) fn push(&mut self, series: InSeries<'_>, time_ms: i64, start_ms: i64) -> Result<()> {
        let number = series.number.unwrap_or(u32::MAX);
        if let Some(open) = &mut self.open
            && open.series == number
            && open.row.start_ms == start_ms
        {
            open.row.last_ms = time_ms;
            open.row.samples += 1;
            return Ok(());
        }
        self.end_run()?;
        if start_ms != 0 {
            let row = StartRow { first_ms: time_ms, last_ms: time_ms, start_ms, samples: 1 };
            let (metric, labels) = (series.labels.metric_name().to_owned(), labels_json(series.labels));
            self.open = Some(Open { metric, labels, series: number, row });
        }
        Ok(())
    }

    /// Ends the run: the next number does not belong to it.
    pub(super) fn end_run(&mut self) -> Result<()> {
        let Some(Open { metric, labels, series, row }) = self.open.take() else { return Ok(()) };
        self.columns.metric.append_value(metric);
        self.columns.labels.append_value(labels);
        self.columns.series.append_value(series);
        self.columns.first.append_value(row.first_ms);
        self.columns.last.append_value(row.last_ms);
        self.columns.samples.append_value(row.samples);
        self.columns.start.append_value(row.start_ms);
        self.table.count_row(Some(series));
        self.rows += 1;
        if self.rows >= BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.rows = 0;
        let Columns { metric, labels, series, first, last, samples, start } = &mut self.columns;
        self.table.write(RecordBatch::try_new(
            Arc::clone(&SCHEMA),
            vec![
                Arc::new(metric.finish()),
                Arc::new(labels.finish()),
                Arc::new(series.finish()),
                Arc::new(first.finish()),
                Arc::new(last.finish()),
                Arc::new(samples.finish()),
                Arc::new(start.finish()),
            ],
        ))
    }

    pub(super) fn finish(mut self) -> Result<Written> {
        self.end_run()?;
        self.write()?;
        self.table.finish()
    }
}

/// The columns that reading needs.
pub(super) const COLUMNS: [&str; 5] = ["series", "first_timestamp", "last_timestamp", "samples", "start_timestamp"];

/// Decodes rows.
pub(super) fn decode(table: &Table, batch: &RecordBatch) -> Result<Vec<(u32, StartRow)>> {
    let series: &UInt32Array = table.column(batch, "series")?;
    let time = |name: &str| table.column::<TimestampMillisecondArray>(batch, name);
    let (first, last, start) = (time("first_timestamp")?, time("last_timestamp")?, time("start_timestamp")?);
    let samples: &UInt64Array = table.column(batch, "samples")?;
    let rows = (0..batch.num_rows()).map(|row| {
        let (first_ms, last_ms) = (first.value(row), last.value(row));
        let start = StartRow { first_ms, last_ms, start_ms: start.value(row), samples: samples.value(row) };
        (series.value(row), start)
    });
    Ok(rows.collect())
}

/// Returns the runs of some series that touch `range`, by series and time.
pub(super) fn read(
    table: &Table,
    series: &[u32],
    range: MillisRange,
    check: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Vec<(u32, StartRow)>> {
    let mut found = Vec::new();
    let touches = |row: &StartRow| row.first_ms <= range.max_ms && range.min_ms <= row.last_ms;
    table.read(&COLUMNS, &table.ranges_of(series)?, READ_ROWS, &mut |batch| {
        check(0)?;
        found.extend(decode(table, batch)?.into_iter().filter(|(_, row)| touches(row)));
        Ok(())
    })?;
    Ok(found)
}
