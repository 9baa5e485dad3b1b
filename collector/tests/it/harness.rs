//! A collector on in-memory stores, and encoders for requests.

use std::io::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use collector::{Collector, Config};
use http_body_util::BodyExt as _;
use model::{TimeRange, is_stale};
use prost::Message;
use runtime::{Clock, Ledger, LedgerEntry, Telemetry};
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{
    AppendReport, LogAppender, LogBatch, LogQuerier as _, LogSelect, MetricAppender, MetricBatch, MetricQuerier,
    MillisRange, QueryContext,
};
use tower::ServiceExt as _;

pub(crate) struct Harness {
    pub(crate) collector: Collector,
    pub(crate) metrics: Arc<FakeMetrics>,
    pub(crate) logs: Arc<KeptLogs>,
    pub(crate) ledger: Ledger,
    pub(crate) telemetry: Telemetry,
}

/// Keeps batches whole, beside the fake that can be queried.
#[derive(Debug, Default)]
pub(crate) struct KeptLogs {
    pub(crate) fake: FakeLogs,
    pub(crate) batches: std::sync::Mutex<Vec<LogBatch>>,
}

impl LogAppender for KeptLogs {
    fn append(&self, batch: LogBatch) -> storage_api::Result<AppendReport> {
        self.batches.lock().unwrap().push(batch.clone());
        self.fake.append(batch)
    }
}

/// Answers with what it was told to.
#[derive(Debug)]
pub(crate) struct Failing(pub(crate) fn() -> storage_api::Result<AppendReport>);

impl MetricAppender for Failing {
    fn append(&self, _: &MetricBatch<'_>) -> storage_api::Result<AppendReport> {
        (self.0)()
    }
}

impl LogAppender for Failing {
    fn append(&self, _: LogBatch) -> storage_api::Result<AppendReport> {
        (self.0)()
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let (metrics, logs) = (Arc::new(FakeMetrics::default()), Arc::new(KeptLogs::default()));
        let stored = Arc::<FakeMetrics>::clone(&metrics);
        let (collector, telemetry, ledger) =
            collector_on(config, Arc::<FakeMetrics>::clone(&metrics), stored, Arc::<KeptLogs>::clone(&logs));
        Self { collector, metrics, logs, ledger, telemetry }
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        post(self.collector.http_router(), path, headers, body).await
    }

    /// Posts a remote write request, snappy-compressed.
    pub(crate) async fn write(&self, request: &WriteRequest) -> Answer {
        self.post("/api/v1/write", REMOTE_WRITE, snappy(&request.encode_to_vec())).await
    }

    /// Prints all samples, a line per series.
    pub(crate) fn samples(&self) -> String {
        let context = QueryContext::default();
        let selection = self.metrics.select(&[], MillisRange::ALL, &context).unwrap();
        let mut out = String::new();
        for part in selection.parts {
            for series in part.read(&context).unwrap() {
                out += &series.labels.to_string();
                for (i, (at, value)) in series.timestamps_ms.iter().zip(&series.values).enumerate() {
                    let histogram = series.histograms.as_ref().and_then(|all| all[i].as_ref());
                    let value = match histogram {
                        Some(one) if one.is_stale() => "stale histogram".to_owned(),
                        Some(one) => one.to_string(),
                        None if is_stale(*value) => "stale".to_owned(),
                        None => value.to_string(),
                    };
                    out += &format!(" {value}@{at}");
                    if let Some(start_ms) = series.starts_ms.as_ref().map(|starts| starts[i]).filter(|at| *at != 0) {
                        out += &format!(" since {start_ms}");
                    }
                }
                out += "\n";
            }
        }
        out
    }

    /// Prints all exemplars, a line per series.
    pub(crate) fn exemplars(&self) -> String {
        let found = self.metrics.exemplars(&[], MillisRange::ALL, &QueryContext::default()).unwrap();
        let mut out = String::new();
        for series in found {
            out += &series.labels.to_string();
            for one in series.exemplars {
                out += &format!(" {} {}@{}", one.labels, one.sample.value, one.sample.timestamp_ms);
            }
            out += "\n";
        }
        out
    }

    /// Prints all log lines.
    pub(crate) fn lines(&self) -> String {
        let select = LogSelect {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            needles: Vec::new(),
            with_metadata: false,
            without_lines: false,
        };
        let context = QueryContext::default();
        let mut out = String::new();
        for part in self.logs.fake.select(&select, &context).unwrap() {
            let rows = part.read(&context).unwrap();
            for i in 0..rows.len() {
                out += &format!("{} {} {}\n", part.stream(), rows.timestamps[i].0, rows.lines.get(i));
            }
        }
        out
    }

    /// Prints the ledger, and fails when it does not add up.
    #[track_caller]
    pub(crate) fn ledger(&self) -> String {
        ledger_text(&self.ledger)
    }
}

#[track_caller]
pub(crate) fn ledger_text(ledger: &Ledger) -> String {
    let mut out = String::new();
    for LedgerEntry { place, signal, received, accepted, mut dropped } in ledger.entries() {
        dropped.sort();
        let sum: u64 = dropped.iter().map(|(_, n)| n).sum();
        assert_eq!(received, accepted + sum, "the ledger of {place} adds up");
        out += &format!("{place} {signal}: {received} = {accepted}");
        for (reason, n) in dropped {
            out += &format!(" + {n} {reason}");
        }
        out += "\n";
    }
    out
}

/// A collector whose storage holds nothing yet.
pub(crate) fn collector(
    config: Config,
    metrics: Arc<dyn MetricAppender>,
    logs: Arc<dyn LogAppender>,
) -> (Collector, Telemetry, Ledger) {
    collector_on(config, metrics, Arc::new(FakeMetrics::default()), logs)
}

pub(crate) fn collector_on(
    config: Config,
    metrics: Arc<dyn MetricAppender>,
    stored: Arc<dyn MetricQuerier>,
    logs: Arc<dyn LogAppender>,
) -> (Collector, Telemetry, Ledger) {
    assert_eq!(config.check(), Vec::<String>::new());
    let telemetry = Telemetry::new();
    let ledger = Ledger::new(&telemetry);
    let clock = Clock::fixed(1_700_000_000_000_000_000);
    let collector = Collector::new(config, metrics, stored, logs, clock, &telemetry, ledger.clone());
    (collector, telemetry, ledger)
}

pub(crate) async fn post(router: Router, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) const REMOTE_WRITE: &[(&str, &str)] =
    &[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
pub(crate) const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];
pub(crate) const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

pub(crate) fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) timestamp: i64,
}

/// A native histogram with whole counts, or with fractional ones, as the fields say that are set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(crate) count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(double, tag = "5")]
    pub(crate) zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    pub(crate) zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(crate) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(crate) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(crate) start_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Span {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Label {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Metadata {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) help: String,
    #[prost(string, tag = "5")]
    pub(crate) unit: String,
}

pub(crate) fn label(name: &str, value: &str) -> Label {
    Label { name: name.as_bytes().to_vec(), value: value.as_bytes().to_vec() }
}

/// A series from `name=value` pairs and samples.
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels.iter().map(|(name, value)| label(name, value)).collect(),
        samples: samples.iter().map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp }).collect(),
        ..TimeSeries::default()
    }
}

pub(crate) fn write_request(timeseries: Vec<TimeSeries>) -> WriteRequest {
    WriteRequest { timeseries, metadata: Vec::new() }
}
