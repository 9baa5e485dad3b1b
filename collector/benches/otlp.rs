//! What a request of OTLP metrics or logs costs before storage: decoding, translation, tests, the batch.
//!
//! The store of metrics knows every series, as it does but for new ones, or none; both take all in no time.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use collector::{Collector, Config};
use collector_otlp::ScopedLogs;
use collector_otlp::metrics::{HistogramPoint, Instrument, MetricsBuilder, Number, NumberPoint};
use collector_otlp::proto::metrics::exponential_histogram_data_point::Buckets;
use collector_otlp::proto::metrics::{ExponentialHistogram, ExponentialHistogramDataPoint, Metric, metric::Data};
use collector_otlp::proto::{ExportLogsServiceRequest, ExportMetricsServiceRequest};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};
use prost::Message as _;
use runtime::{Clock, Ledger, Telemetry};
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{AppendReport, LogAppender, LogBatch, LogSource, MetricAppender, MetricBatch};
use tower::ServiceExt as _;

const HOSTS: usize = 10;
const METRICS_PER_HOST: usize = 50;
const POINTS_PER_METRIC: usize = 4;
const POINTS: usize = HOSTS * METRICS_PER_HOST * POINTS_PER_METRIC;
const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

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

fn attributes(point: usize) -> Vec<(String, Value)> {
    let mode = ["user", "system", "idle", "iowait"][point % 4];
    vec![("cpu".to_owned(), Value::Int(point as i64)), ("system.cpu.mode".to_owned(), Value::from(mode))]
}

/// A request of `HOSTS` resources, to whose builders `fill` adds metrics.
fn request(
    fill: impl for<'b> Fn(&'b mut MetricsBuilder, &Instrument<'_>) -> &'b mut MetricsBuilder,
) -> ExportMetricsServiceRequest {
    let mut request = ExportMetricsServiceRequest::default();
    for host in 0..HOSTS {
        let attributes = [("service.name", "node"), ("service.instance.id", "i"), ("host.name", "h")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), Value::Str(format!("{value}-{host}"))));
        let resource = Resource { attributes: attributes.to_vec(), ..Resource::default() };
        let mut builder = MetricsBuilder::new(&resource, &Scope { name: "scraper".to_owned(), ..Scope::default() });
        for metric in 0..METRICS_PER_HOST {
            let name = format!("system.cpu.time.number_{metric}");
            fill(&mut builder, &Instrument { name: &name, unit: "s", description: "Seconds spent in each mode." });
        }
        request.resource_metrics.extend(builder.build().resource_metrics);
    }
    request
}

fn counters() -> ExportMetricsServiceRequest {
    let point = |i| NumberPoint {
        attributes: attributes(i),
        start: Timestamp(NOW.0 - 1_000_000_000_000),
        timestamp: NOW,
        value: Some(Number::Double(1234.5 + i as f64)),
    };
    request(|builder, instrument| builder.sum(instrument, true, (0..POINTS_PER_METRIC).map(point)))
}

fn histograms() -> ExportMetricsServiceRequest {
    let bounds = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let point = |i| HistogramPoint {
        attributes: attributes(i),
        start: Timestamp(0),
        timestamp: NOW,
        counts: (0..=bounds.len() as u64).collect(),
        bounds: bounds.clone(),
        sum: Some(12.5),
    };
    request(|builder, instrument| builder.histogram(instrument, (0..POINTS_PER_METRIC).map(point)))
}

fn exponential() -> ExportMetricsServiceRequest {
    let mut request = counters();
    for scope in request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics) {
        for Metric { data, .. } in &mut scope.metrics {
            let Some(Data::Sum(sum)) = data.take() else { continue };
            let point = |point: collector_otlp::proto::metrics::NumberDataPoint| ExponentialHistogramDataPoint {
                attributes: point.attributes,
                start_time_unix_nano: point.start_time_unix_nano,
                time_unix_nano: point.time_unix_nano,
                count: (0..20).sum(),
                sum: Some(12.5),
                scale: 3,
                positive: Some(Buckets { offset: -7, bucket_counts: (0..20).collect() }),
                ..ExponentialHistogramDataPoint::default()
            };
            let data_points = sum.data_points.into_iter().map(point).collect();
            *data = Some(Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: 2 }));
        }
    }
    request
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("otlp/decode");
    for (name, request, series_per_point, knows_series) in [
        ("counters", counters(), 1, true),
        ("counters_unknown", counters(), 1, false),
        ("histograms", histograms(), 14, true),
        ("exponential", exponential(), 1, true),
    ] {
        group.throughput(Throughput::Elements((POINTS * series_per_point) as u64));
        let telemetry = Telemetry::new();
        let ledger = Ledger::new(&telemetry);
        let (store, logs) = (Arc::new(Sink { knows_series }), Arc::new(FakeLogs::default()));
        let stored = Arc::new(FakeMetrics::default());
        let collector = Collector::new(Config::default(), store, stored, logs, Clock::system(), &telemetry, ledger);
        let router = collector.otlp_http_router();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body: bytes::Bytes = request.encode_to_vec().into();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::post("/v1/metrics").header("content-type", "application/x-protobuf");
                let request = request.body(Body::from(body.clone())).unwrap();
                let answer = runtime.block_on(router.clone().oneshot(request)).unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
            });
        });
    }
    group.finish();
}

/// Takes every line.
#[derive(Debug)]
struct LogSink;

impl LogAppender for LogSink {
    fn append(&self, batch: LogBatch) -> storage_api::Result<AppendReport> {
        let records = black_box(&batch).groups.iter().map(|group| group.records.len() as u64).sum();
        Ok(AppendReport { accepted: records, ..AppendReport::default() })
    }

    fn append_from(&self, source: &mut dyn LogSource) -> storage_api::Result<AppendReport> {
        let mut counter = Counter(AppendReport::default());
        source.send(&mut counter)?;
        Ok(counter.0)
    }
}

/// Counts lines as they come.
struct Counter(AppendReport);

impl storage_api::LogSink for Counter {
    fn group(&mut self, stream: &Labels, _: &Arc<Resource>, _: &Arc<Scope>) {
        black_box(stream);
    }

    fn record(&mut self, record: &LogRecord) {
        black_box(record);
        self.0.accepted += 1;
    }
}

/// A request of 20 pods with 50 lines each.
fn lines() -> ExportLogsServiceRequest {
    let group = |pod: i64| {
        let record = |row: i64| LogRecord {
            timestamp: Timestamp(NOW.0 + row * 1_000_003),
            observed_timestamp: Timestamp(NOW.0 + row * 1_000_003 + 250_000_000),
            severity_number: 9,
            severity_text: "INFO".to_owned(),
            body: Value::Str(format!(
                "ts=2026-11-21T10:00:00.{row:09}Z caller=http.go:194 level=debug traceID={:016x} orgID=5798 \
                 msg=\"POST /push.v1.PusherService/Push (200) 3.088637ms\"",
                row * 7919 + pod
            )),
            attributes: vec![("log.iostream".to_owned(), Value::from("stdout"))],
            trace_id: if row % 3 == 0 { [7; 16] } else { [0; 16] },
            span_id: if row % 3 == 0 { [7; 8] } else { [0; 8] },
            ..LogRecord::default()
        };
        let names = ["k8s.namespace.name", "k8s.pod.name", "service.name", "k8s.node.name", "k8s.container.name"];
        let attributes = names.map(|name| (name.to_owned(), Value::Str(format!("{name}-{pod}"))));
        ScopedLogs {
            resource: Arc::new(Resource { attributes: attributes.to_vec(), ..Resource::default() }),
            scope: Arc::new(Scope { name: "filelog".to_owned(), ..Scope::default() }),
            records: (0..50).map(record).collect(),
        }
    };
    collector_otlp::logs_to_otlp((0..20).map(group))
}

fn decode_logs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("otlp_logs/decode");
    group.throughput(Throughput::Elements(1000));
    let telemetry = Telemetry::new();
    let ledger = Ledger::new(&telemetry);
    let metrics = Arc::new(FakeMetrics::default());
    let stored = Arc::clone(&metrics);
    let collector =
        Collector::new(Config::default(), metrics, stored, Arc::new(LogSink), Clock::system(), &telemetry, ledger);
    let router = collector.otlp_http_router();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let router = router.merge(collector.http_router());
    let cases: [(&str, &str, &str, Vec<u8>); 4] = [
        ("1000_lines", "/v1/logs", "application/x-protobuf", lines().encode_to_vec()),
        ("json_1000_lines", "/v1/logs", "application/json", lines_json()),
        ("loki_json_1000_lines", "/loki/api/v1/push", "application/json", push_json(1000, 1)),
        ("loki_json_1000_lines_of_100_fields", "/loki/api/v1/push", "application/json", push_json(1000, 100)),
    ];
    for (name, path, content_type, body) in cases {
        let body = bytes::Bytes::from(body);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::post(path).header("content-type", content_type);
                let request = request.body(Body::from(body.clone())).unwrap();
                let answer = runtime.block_on(router.clone().oneshot(request)).unwrap();
                assert!(answer.status().is_success());
            });
        });
    }
    group.finish();
}

/// A text like those of [`lines`].
fn text(row: usize) -> String {
    format!("ts=2026-11-21T10:00:00.{row:09}Z caller=http.go:194 level=debug traceID={:016x} orgID=5798", row * 7919)
}

/// A request of 20 pods with 50 lines each, in OTLP's JSON form.
fn lines_json() -> Vec<u8> {
    let pair = |key: &str, value: &str| serde_json::json!({"key": key, "value": {"stringValue": value}});
    let group = |pod: usize| {
        let record = |row: usize| {
            serde_json::json!({"timeUnixNano": (NOW.0 + row as i64).to_string(), "severityNumber": 9, "severityText": "INFO",
                "body": {"stringValue": text(pod * 50 + row)}, "attributes": [pair("log.iostream", "stdout")], "flags": 1})
        };
        let records: Vec<_> = (0..50).map(record).collect();
        serde_json::json!({"resource": {"attributes": [pair("service.name", &format!("pod-{pod}"))]},
            "scopeLogs": [{"scope": {"name": "filelog"}, "logRecords": records}]})
    };
    let groups: Vec<_> = (0..20).map(group).collect();
    serde_json::json!({"resourceLogs": groups}).to_string().into_bytes()
}

/// A push of one stream, each line with so many fields.
fn push_json(lines: usize, fields: usize) -> Vec<u8> {
    let entry = |row: usize| {
        let field = |i: usize| (format!("field_{i}"), serde_json::Value::from((row * i % 1000).to_string()));
        let fields: serde_json::Map<_, _> = (0..fields).map(field).collect();
        serde_json::json!([(NOW.0 + row as i64).to_string(), text(row), fields])
    };
    let values: Vec<_> = (0..lines).map(entry).collect();
    serde_json::json!({"streams": [{"stream": {"service_name": "app"}, "values": values}]}).to_string().into_bytes()
}

criterion_group!(benches, decode, decode_logs);
criterion_main!(benches);
