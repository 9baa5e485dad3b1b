//! What both query languages answer with, in one shape: samples, series, one number.

use std::collections::BTreeMap;
use std::io::{self, Write};

use query_wire::prometheus::{HistogramValue, QueryResult, format_value};
use query_wire::{loki, prometheus};

use super::chart::{self, Chart};
use super::note;
use super::scale::Unit;
use super::series_name::series_name;
use super::style::Style;
use super::table;
use super::time::rfc3339_ms;

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    Table,
    /// The API's data
    Json,
    /// A row per sample, a column per label
    Csv,
    /// Lines drawn in the terminal
    Chart,
}

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A number.
    Number(f64),
    /// Text, or a native histogram as count and sum.
    Text(String),
}

impl Value {
    /// Writes it as the API does.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Number(number) => format_value(*number),
            Self::Text(text) => text.clone(),
        }
    }

    fn histogram(histogram: &HistogramValue) -> Self {
        Self::Text(format!("count {} sum {}", histogram.count, histogram.sum))
    }
}

/// The samples of one label set, oldest first, times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// The labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// (milliseconds, value).
    pub(crate) points: Vec<(i64, Value)>,
}

/// A query's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// One sample of each series.
    Instant(Vec<Series>),
    /// Samples over time.
    Range(Vec<Series>),
}

impl From<QueryResult> for Answer {
    fn from(result: QueryResult) -> Self {
        let alone = |at, value| Self::Instant(vec![Series { labels: BTreeMap::new(), points: vec![(at, value)] }]);
        match result {
            QueryResult::Vector(samples) => Self::Instant(samples.into_iter().map(Series::from).collect()),
            QueryResult::Matrix(series) => Self::Range(series.into_iter().map(Series::from).collect()),
            QueryResult::Scalar(point) => alone(point.timestamp_ms, Value::Number(point.value)),
            QueryResult::String(point) => alone(point.timestamp_ms, Value::Text(point.text)),
        }
    }
}

impl From<prometheus::VectorSeries> for Series {
    fn from(sample: prometheus::VectorSeries) -> Self {
        let number = sample.value.map(|point| (point.timestamp_ms, Value::Number(point.value)));
        let histogram = sample.histogram.map(|(at, histogram)| (millis(at), Value::histogram(&histogram)));
        Self { labels: sample.metric, points: number.into_iter().chain(histogram).collect() }
    }
}

impl From<prometheus::MatrixSeries> for Series {
    fn from(series: prometheus::MatrixSeries) -> Self {
        let numbers = series.values.iter().map(|point| (point.timestamp_ms, Value::Number(point.value)));
        let histograms = series.histograms.iter().map(|(at, histogram)| (millis(*at), Value::histogram(histogram)));
        let mut points: Vec<_> = numbers.chain(histograms).collect();
        points.sort_by_key(|(at, _)| *at);
        Self { labels: series.metric, points }
    }
}

impl Answer {
    /// Returns a metric answer of Loki's; log lines are no such answer.
    pub(crate) fn from_loki(result: loki::QueryResult) -> Result<Self, Vec<loki::Stream>> {
        let point = |point: loki::Point| (point.timestamp_ms, Value::Number(point.value));
        let one = |sample: loki::VectorSample| Series { labels: sample.metric, points: vec![point(sample.value)] };
        let many = |series: loki::MatrixSeries| Series {
            labels: series.metric,
            points: series.values.into_iter().map(point).collect(),
        };
        match result {
            loki::QueryResult::Streams(streams) => Err(streams),
            loki::QueryResult::Vector(samples) => Ok(Self::Instant(samples.into_iter().map(one).collect())),
            loki::QueryResult::Matrix(series) => Ok(Self::Range(series.into_iter().map(many).collect())),
            loki::QueryResult::Scalar(value) => {
                Ok(Self::Instant(vec![Series { labels: BTreeMap::new(), points: vec![point(value)] }]))
            }
        }
    }

    /// Returns the series.
    pub(crate) fn series(&self) -> &[Series] {
        match self {
            Self::Instant(series) | Self::Range(series) => series,
        }
    }
}

fn millis(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    let ms = (seconds * 1000.0).round() as i64;
    ms
}

/// How charts and tables are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canvas {
    /// Colours or none.
    pub(crate) style: Style,
    /// Columns to fill.
    pub(crate) columns: u16,
    /// The values' unit.
    pub(crate) unit: Unit,
    /// (start, end) in milliseconds, for the time axis of a chart.
    pub(crate) range_ms: Option<(i64, i64)>,
}

/// Prints an answer as a table, CSV or chart.
pub(crate) fn print(answer: &Answer, output: Output, canvas: &Canvas, out: &mut impl Write) -> io::Result<()> {
    match output {
        Output::Csv => write_csv(answer, out),
        Output::Chart => write_chart(answer, canvas, out),
        Output::Table | Output::Json => write_table(answer, canvas, out),
    }
}

fn write_table(answer: &Answer, canvas: &Canvas, out: &mut impl Write) -> io::Result<()> {
    if answer.series().iter().all(|series| series.points.is_empty()) {
        note("no data");
        return Ok(());
    }
    let mut rows = Vec::new();
    for series in answer.series() {
        let name = series_name(&series.labels);
        for (at, value) in &series.points {
            rows.push(match answer {
                Answer::Instant(_) => vec![name.clone(), value.text()],
                Answer::Range(_) => vec![rfc3339_ms(*at), name.clone(), value.text()],
            });
        }
    }
    let header: &[&str] = match answer {
        Answer::Instant(_) => &["series", "value"],
        Answer::Range(_) => &["time", "series", "value"],
    };
    out.write_all(table::render(header, &rows, canvas.style).as_bytes())
}

fn write_chart(answer: &Answer, canvas: &Canvas, out: &mut impl Write) -> io::Result<()> {
    let number = |(at, value): &(i64, Value)| match value {
        Value::Number(number) => Some((*at, *number)),
        Value::Text(_) => None,
    };
    let lines: Vec<chart::Line> = answer
        .series()
        .iter()
        .map(|series| chart::Line {
            name: series_name(&series.labels),
            points: series.points.iter().filter_map(number).collect(),
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    if lines.is_empty() {
        return write_table(answer, canvas, out);
    }
    let chart =
        Chart { columns: canvas.columns, rows: chart::ROWS_DEFAULT, unit: canvas.unit, range_ms: canvas.range_ms };
    out.write_all(chart::render(&lines, &chart, canvas.style).as_bytes())
}

/// Writes a row per sample: time, value, then a column for each label name that any series has.
fn write_csv(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let names: std::collections::BTreeSet<&String> = answer.series().iter().flat_map(|s| s.labels.keys()).collect();
    let header = ["timestamp", "value"].into_iter().chain(names.iter().map(|name| name.as_str()));
    write_csv_row(header, out)?;
    for series in answer.series() {
        for (at, value) in &series.points {
            let (at, value) = (rfc3339_ms(*at), value.text());
            let labels = names.iter().map(|name| series.labels.get(*name).map_or("", String::as_str));
            write_csv_row([at.as_str(), value.as_str()].into_iter().chain(labels), out)?;
        }
    }
    Ok(())
}

/// Writes one row, quoted as RFC 4180 says where needed.
pub(crate) fn write_csv_row<'a>(cells: impl Iterator<Item = &'a str>, out: &mut impl Write) -> io::Result<()> {
    for (index, cell) in cells.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        if cell.contains(['"', ',', '\n', '\r']) {
            write!(out, "{comma}\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{cell}")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(json: &str, output: Output, expected: Expect) {
        let result: QueryResult = serde_json::from_str(json).unwrap();
        let canvas = Canvas { style: Style::PLAIN, columns: 60, unit: Unit::Plain, range_ms: None };
        let mut out = Vec::new();
        print(&Answer::from(result), output, &canvas, &mut out).unwrap();
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    const VECTOR: &str = r#"{"resultType":"vector","result":[
        {"metric":{"__name__":"up","job":"a,b"},"value":[1,"1"]},
        {"metric":{"__name__":"up","job":"c","zone":"\"x\""},"value":[1.5,"NaN"]}]}"#;
    const MATRIX: &str = r#"{"resultType":"matrix","result":[
        {"metric":{"job":"a"},"values":[[0,"1"],[60,"2.5"]]},
        {"metric":{"job":"h"},"histograms":[[60,{"count":"3","sum":"4.5"}]]}]}"#;

    #[test]
    fn an_instant_answer_is_a_table_of_series_and_values() {
        check(
            VECTOR,
            Output::Table,
            expect![[r#"
                series                     value
                up{job="a,b"}                  1
                up{job="c", zone="\"x\""}    NaN
            "#]],
        );
        check(
            r#"{"resultType":"scalar","result":[1,"42"]}"#,
            Output::Table,
            expect![[r#"
                series  value
                {}         42
            "#]],
        );
        check(r#"{"resultType":"vector","result":[]}"#, Output::Table, expect![""]);
    }

    #[test]
    fn a_range_answer_is_a_row_per_sample() {
        check(
            MATRIX,
            Output::Table,
            expect![[r#"
                time                  series               value
                1970-01-01T00:00:00Z  {job="a"}                1
                1970-01-01T00:01:00Z  {job="a"}              2.5
                1970-01-01T00:01:00Z  {job="h"}  count 3 sum 4.5
            "#]],
        );
    }

    #[test]
    fn csv_quotes_what_needs_it_and_has_a_column_per_label() {
        check(
            VECTOR,
            Output::Csv,
            expect![[r#"
                timestamp,value,__name__,job,zone
                1970-01-01T00:00:01Z,1,up,"a,b",
                1970-01-01T00:00:01.500Z,NaN,up,c,"""x"""
            "#]],
        );
    }

    #[test]
    fn text_is_a_value_too() {
        check(
            r#"{"resultType":"string","result":[1,"hello"]}"#,
            Output::Csv,
            expect![[r#"
                timestamp,value
                1970-01-01T00:00:01Z,hello
            "#]],
        );
    }

    #[test]
    fn log_lines_are_no_metric_answer() {
        let streams = loki::QueryResult::Streams(vec![loki::Stream::default()]);
        assert_eq!(Answer::from_loki(streams).unwrap_err().len(), 1);
    }
}
