//! Results of queries in Loki's form.

use std::collections::BTreeMap;

use model::Labels;
use query_logql::{LogEntry, MetricResult, Series, Steps};
use query_wire::loki::{
    CATEGORIZE_LABELS, Chunk, Entry, EntryLabels, LabelMap, MatrixSeries, Point, Querier, QueryData, QueryResult,
    Stats, Store, Stream, Summary, VectorSample,
};
use storage_api::QueryContext;

pub(super) fn label_map(labels: &Labels) -> LabelMap {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Groups entries by their labels; within a stream they keep their order.
pub(super) fn streams(entries: Vec<LogEntry>, categorize: bool) -> Vec<Stream> {
    let mut streams: BTreeMap<Labels, Vec<Entry>> = BTreeMap::new();
    for LogEntry { timestamp, line, labels } in entries {
        let (stream, labels) = if categorize {
            let structured_metadata = label_map(&labels.metadata);
            let parsed = label_map(&labels.parsed);
            (labels.stream, Some(EntryLabels { structured_metadata, parsed }))
        } else {
            (labels.all(), None)
        };
        streams.entry(stream).or_default().push(Entry { timestamp_ns: timestamp.0, line, labels });
    }
    streams.into_iter().map(|(labels, values)| Stream { stream: label_map(&labels), values }).collect()
}

/// The flags that an answer echoes.
pub(super) fn encoding_flags(categorize: bool) -> Vec<String> {
    if categorize { vec![CATEGORIZE_LABELS.to_owned()] } else { Vec::new() }
}

/// Writes what a metric query gave: a vector or a scalar at one time, a matrix over a range.
pub(super) fn metric(result: MetricResult, steps: Steps) -> QueryResult {
    let timestamp_ms = |i: usize| steps.at(i).div_euclid(1_000_000);
    match result {
        MetricResult::Scalar(value) if steps.is_instant() => {
            QueryResult::Scalar(Point { timestamp_ms: timestamp_ms(0), value })
        }
        MetricResult::Scalar(value) => {
            let values = (0..steps.count()).map(|i| Point { timestamp_ms: timestamp_ms(i), value }).collect();
            QueryResult::Matrix(vec![MatrixSeries { metric: LabelMap::new(), values }])
        }
        MetricResult::Series(series) if steps.is_instant() => {
            let sample = |one: Series| {
                let value = one.values.first().copied().flatten()?;
                let value = Point { timestamp_ms: timestamp_ms(0), value };
                Some(VectorSample { metric: label_map(&one.labels), value })
            };
            QueryResult::Vector(series.into_iter().filter_map(sample).collect())
        }
        MetricResult::Series(series) => {
            let one = |one: Series| {
                let point = |(i, value): (usize, Option<f64>)| {
                    value.map(|value| Point { timestamp_ms: timestamp_ms(i), value })
                };
                let values = one.values.into_iter().enumerate().filter_map(point).collect();
                MatrixSeries { metric: label_map(&one.labels), values }
            };
            let series = series.into_iter().map(one).filter(|one| !one.values.is_empty());
            QueryResult::Matrix(series.collect())
        }
    }
}

/// Completes an answer with what it took.
pub(super) fn data(result: QueryResult, categorize: bool, context: &QueryContext) -> QueryData {
    let (rows, bytes, _, _) = context.used();
    // Those that are counted beside blocks pass without being read.
    let passed = context.passed();
    let rows = rows.max(passed);
    let seconds = context.elapsed().as_secs_f64();
    let per_second = |n: u64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let rate = (n as f64 / seconds.max(1e-9)) as u64;
        rate
    };
    let returned = match &result {
        QueryResult::Streams(streams) => streams.iter().map(|stream| stream.values.len() as u64).sum(),
        QueryResult::Matrix(series) => series.iter().map(|series| series.values.len() as u64).sum(),
        QueryResult::Vector(samples) => samples.len() as u64,
        QueryResult::Scalar(_) => 1,
    };
    let summary = Summary {
        bytes_processed_per_second: per_second(bytes),
        lines_processed_per_second: per_second(rows),
        total_bytes_processed: bytes,
        total_lines_processed: rows,
        exec_time: seconds,
        total_entries_returned: returned,
        total_post_filter_lines: passed,
        ..Summary::default()
    };
    let chunk =
        Chunk { decompressed_bytes: bytes, decompressed_lines: rows, post_filter_lines: passed, ..Chunk::default() };
    let querier = Querier { store: Store { chunk, ..Store::default() } };
    let stats = Stats { summary, querier, ..Stats::default() };
    QueryData { result, encoding_flags: encoding_flags(categorize), stats }
}
