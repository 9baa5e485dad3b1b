//! What a request of remote write costs before storage: decompression, decoding, tests, the batch.
//!
//! The store knows every series, as it does but for new ones, or none, and takes all in no time.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use collector::{Collector, Config};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use runtime::{Clock, Ledger, Telemetry};
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{AppendReport, MetricAppender, MetricBatch};
use tower::ServiceExt as _;

const HOSTS: usize = 10;
const SERIES_PER_HOST: usize = 200;
const SAMPLES: usize = HOSTS * SERIES_PER_HOST;

/// Takes everything; asks for the labels of every series when told to.
#[derive(Debug)]
struct Sink {
    knows_series: bool,
}

impl MetricAppender for Sink {
    fn append(&self, batch: &MetricBatch<'_>) -> storage_api::Result<AppendReport> {
        let mut scratch = Vec::new();
        for row in batch.series() {
            if !self.knows_series {
                black_box(batch.labels_of(&row, &mut scratch).map(<[_]>::len).unwrap_or_default());
            }
            black_box(row);
        }
        let (samples, histograms) = (batch.samples_len() as u64, batch.histograms_len() as u64);
        Ok(AppendReport { accepted: samples, accepted_histograms: histograms, ..AppendReport::default() })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Request1 {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<Series1>,
}

#[derive(Clone, PartialEq, Message)]
struct Series1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    zero_count: u64,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Request2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<Series2>,
}

#[derive(Clone, PartialEq, Message)]
struct Series2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

/// The labels of one scrape of each host, as a node exporter has them.
fn series() -> Vec<Vec<(&'static str, String)>> {
    let mut all = Vec::with_capacity(SAMPLES);
    for host in 0..HOSTS {
        for i in 0..SERIES_PER_HOST {
            let mut labels = vec![
                (
                    "__name__",
                    format!("node_{}_seconds_total", ["cpu", "disk_io_time", "network_receive", "pressure"][i % 4]),
                ),
                ("cpu", (i / 4 % 16).to_string()),
                ("dc", format!("dc{}", host % 3)),
                ("instance", format!("host-{host:03}:9100")),
                ("job", "node".to_owned()),
                ("mode", ["idle", "iowait", "system", "user"][i / 64 % 4].to_owned()),
            ];
            if i % 3 == 0 {
                labels.push(("mountpoint", "/var/lib/postgresql".to_owned()));
            }
            all.push(labels);
        }
    }
    all
}

fn sample(i: usize, start_timestamp: i64) -> Sample {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let value = 1234.5 + i as f64 * 0.25;
    Sample { value, timestamp: 1_700_000_000_000 + (i / SERIES_PER_HOST) as i64 * 37, start_timestamp }
}

fn histogram(i: usize) -> Histogram {
    Histogram {
        count: 3 + 20 * 4 + 20 * 2,
        sum: 17.25,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 3,
        positive_spans: vec![Span { offset: -20, length: 12 }, Span { offset: 3, length: 28 }],
        positive_deltas: (0..40).map(|bucket| if bucket == 0 { 4 } else { [2, -2][bucket % 2] }).collect(),
        timestamp: sample(i, 0).timestamp,
    }
}

fn version_1(with_histograms: bool) -> Vec<u8> {
    let labels = |labels: Vec<(&str, String)>| {
        labels.into_iter().map(|(name, value)| Label { name: name.to_owned(), value }).collect()
    };
    let series = |(i, pairs)| Series1 {
        labels: labels(pairs),
        samples: if with_histograms { Vec::new() } else { vec![sample(i, 0)] },
        histograms: if with_histograms { vec![histogram(i)] } else { Vec::new() },
    };
    Request1 { timeseries: self::series().into_iter().enumerate().map(series).collect() }.encode_to_vec()
}

fn version_2(with_histograms: bool, with_rest: bool) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut places = HashMap::from([(String::new(), 0)]);
    let mut reference = |text: &str| {
        *places.entry(text.to_owned()).or_insert_with(|| {
            symbols.push(text.to_owned());
            u32::try_from(symbols.len() - 1).unwrap()
        })
    };
    let mut timeseries = Vec::new();
    for (i, labels) in series().into_iter().enumerate() {
        let start = if with_rest { 1_690_000_000_000 } else { 0 };
        timeseries.push(Series2 {
            labels_refs: labels.iter().flat_map(|(name, value)| [reference(name), reference(value)]).collect(),
            samples: if with_histograms { Vec::new() } else { vec![sample(i, start)] },
            histograms: if with_histograms { vec![histogram(i)] } else { Vec::new() },
            metadata: with_rest.then(|| Metadata {
                kind: 1,
                help_ref: reference("Seconds spent."),
                unit_ref: reference("seconds"),
            }),
        });
    }
    Request2 { symbols, timeseries }.encode_to_vec()
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("remote_write/decode");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    let (v1, v2) = ("prometheus.WriteRequest", "io.prometheus.write.v2.Request");
    for (name, proto, body, knows_series) in [
        ("v1", v1, version_1(false), true),
        ("v1_unknown", v1, version_1(false), false),
        ("v1_histograms", v1, version_1(true), true),
        ("v2", v2, version_2(false, false), true),
        ("v2_unknown", v2, version_2(false, false), false),
        ("v2_starts_metadata", v2, version_2(false, true), true),
        ("v2_histograms", v2, version_2(true, true), true),
    ] {
        let telemetry = Telemetry::new();
        let ledger = Ledger::new(&telemetry);
        let (store, logs) = (Arc::new(Sink { knows_series }), Arc::new(FakeLogs::default()));
        let stored = Arc::new(FakeMetrics::default());
        let collector = Collector::new(Config::default(), store, stored, logs, Clock::system(), &telemetry, ledger);
        let router = collector.http_router();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body: bytes::Bytes = snap::raw::Encoder::new().compress_vec(&body).unwrap().into();
        let content_type = format!("application/x-protobuf;proto={proto}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::post("/api/v1/write").header("content-type", &content_type);
                let request = request.body(Body::from(body.clone())).unwrap();
                let answer = runtime.block_on(router.clone().oneshot(request)).unwrap();
                assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
