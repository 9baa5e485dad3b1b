//! Every way in, with good input and bad.

use std::io::Write;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    Sum, Summary, SummaryDataPoint, metric,
};
use prost::Message;
use serde_json::json;

use super::harness::metrics::{self, TimeSeries, WRITE_HEADERS, gauge, point, series, snappy, write_body};
use super::harness::{Server, logs, now_ms};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Most resident memory that bad input may add.
const GROWTH_MAX: u64 = 256 << 20;

fn nanos(ms: i64) -> u64 {
    u64::try_from(ms).unwrap() * 1_000_000
}

#[tokio::test]
async fn otlp_metrics_of_every_kind_arrive_over_grpc() {
    let server = Server::start().await;
    let at = now_ms();
    let sum = |name: &str, temporality, points| Metric {
        name: name.to_owned(),
        data: Some(metric::Data::Sum(Sum {
            data_points: points,
            aggregation_temporality: temporality,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    let histogram = HistogramDataPoint {
        time_unix_nano: nanos(at),
        count: 6,
        sum: Some(7.5),
        explicit_bounds: vec![1.0, 5.0],
        bucket_counts: vec![1, 2, 3],
        ..HistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: nanos(at),
        count: 4,
        sum: 10.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 2.0 }],
        ..SummaryDataPoint::default()
    };
    let cumulative = AggregationTemporality::Cumulative as i32;
    let delta = AggregationTemporality::Delta as i32;
    let delta_point = |from: i64, to: i64, value| {
        let mut point = point(to, value, Vec::new());
        point.start_time_unix_nano = nanos(from);
        point
    };
    let request = metrics::otlp_request(
        "shop",
        vec![
            gauge("room.temperature", vec![point(at, 21.5, vec![metrics::attribute("room", "a")])]),
            sum("requests", cumulative, vec![point(at, 5.0, Vec::new())]),
            sum("deltas", delta, vec![delta_point(at - 2000, at - 1000, 2.0), delta_point(at - 1000, at, 3.0)]),
            Metric {
                name: "latency".to_owned(),
                unit: "s".to_owned(),
                data: Some(metric::Data::Histogram(Histogram {
                    data_points: vec![histogram],
                    aggregation_temporality: cumulative,
                })),
                ..Metric::default()
            },
            Metric {
                name: "sizes".to_owned(),
                data: Some(metric::Data::Summary(Summary { data_points: vec![summary] })),
                ..Metric::default()
            },
        ],
    );
    let mut client = MetricsServiceClient::connect(server.grpc_url()).await.unwrap();
    let response = client.export(request).await.unwrap().into_inner();
    assert_eq!(response.partial_success.unwrap_or_default().rejected_data_points, 0);

    let check = async |query: &str, expected: f64| {
        assert_eq!(server.value(query, at).await, expected, "{query}");
    };
    check("room_temperature{job=\"shop\",room=\"a\"}", 21.5).await;
    check("requests_total", 5.0).await;
    check("deltas_total", 5.0).await;
    check("latency_seconds_count", 6.0).await;
    check("latency_seconds_sum", 7.5).await;
    check("latency_seconds_bucket{le=\"5\"} or latency_seconds_bucket{le=\"5.0\"}", 3.0).await;
    check("latency_seconds_bucket{le=\"+Inf\"}", 6.0).await;
    check("sizes{quantile=\"0.5\"}", 2.0).await;
    check("sizes_count", 4.0).await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_named_in_the_partial_success_and_counted() {
    let server = Server::start().await;
    let at = now_ms();
    let exponential = Metric {
        name: "exponential".to_owned(),
        data: Some(metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![ExponentialHistogramDataPoint {
                time_unix_nano: nanos(at),
                count: 1,
                ..Default::default()
            }],
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
        })),
        ..Metric::default()
    };
    let request = metrics::otlp_request("shop", vec![gauge("good", vec![point(at, 1.0, Vec::new())]), exponential]);
    let answer = server.otlp_metrics(&request).await.ok();
    let response = ExportMetricsServiceResponse::decode(answer.body.as_slice()).unwrap();
    let partial = response.partial_success.unwrap_or_default();
    assert_eq!(server.value("good", at).await, 1.0);
    if partial.rejected_data_points == 0 {
        // Taken, then: it must be there.
        assert!(!server.instant("exponential or exponential_count", at).await.is_empty(), "neither stored nor refused");
        return;
    }
    assert_eq!(partial.rejected_data_points, 1);
    assert!(!partial.error_message.is_empty());
    assert_eq!(server.own_metric("daybook_dropped_records_total", &["signal=\"metrics\""]).await, 1.0);
}

#[tokio::test]
async fn otlp_http_takes_json_gzip_and_zstd() {
    let server = Server::start().await;
    let at = now_ms();
    let request = |name: &str| metrics::otlp_request("shop", vec![gauge(name, vec![point(at, 1.0, Vec::new())])]);
    let url = server.otlp_url("/v1/metrics");
    let json = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{
        "name": "from_json", "gauge": {"dataPoints": [{"timeUnixNano": nanos(at).to_string(), "asDouble": 1}]}}]}]}]});
    let answer = server.post(&url, &[JSON], json.to_string().into_bytes()).await.ok();
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/json"));
    let gzip = gzip(&request("from_gzip").encode_to_vec());
    server.post(&url, &[PROTOBUF, ("content-encoding", "gzip")], gzip).await.ok();
    let zstd = zstd::encode_all(request("from_zstd").encode_to_vec().as_slice(), 1).unwrap();
    server.post(&url, &[PROTOBUF, ("content-encoding", "zstd")], zstd).await.ok();
    server.post(&server.url("/api/v1/otlp/v1/metrics"), &[PROTOBUF], request("from_main").encode_to_vec()).await.ok();
    for name in ["from_json", "from_gzip", "from_zstd", "from_main"] {
        assert_eq!(server.value(name, at).await, 1.0, "{name}");
    }
}

#[tokio::test]
async fn logs_arrive_over_every_protocol() {
    let server = Server::start().await;
    let at = now_ms() * 1_000_000;
    let line = |name: &str| vec![(at, format!("hello from {name}"))];
    let mut client = LogsServiceClient::connect(server.grpc_url()).await.unwrap();
    client.export(logs::otlp_request("grpc", &line("grpc"))).await.unwrap();
    server.otlp_logs(&logs::otlp_request("http", &line("http"))).await.ok();
    let main = logs::otlp_request("main", &line("main")).encode_to_vec();
    server.post(&server.url("/otlp/v1/logs"), &[PROTOBUF], main).await.ok();
    server.loki_push(&json!({"service_name": "json"}), &line("json")).await.ok();
    let body = logs::loki_snappy("{service_name=\"snappy\"}", &line("snappy"));
    server.post(&server.url("/loki/api/v1/push"), &[PROTOBUF], body).await.ok();
    for name in ["grpc", "http", "main", "json", "snappy"] {
        let found = server.lines(&format!("{{service_name=\"{name}\"}}"), (at - 1, at + 1), 10).await;
        assert_eq!(found, line(name), "{name}");
    }
}

#[tokio::test]
async fn a_loki_push_answers_204_and_remote_write_2xx() {
    let server = Server::start().await;
    let at = now_ms();
    let answer = server.loki_push(&json!({"a": "b"}), &[(at * 1_000_000, "x".to_owned())]).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let answer = server.remote_write(vec![series(&[("__name__", "x")], &[(at, 1.0)])]).await;
    assert!(matches!(answer.status, 200 | 204), "{} {}", answer.status, answer.text());
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Sends bad input, then checks that the server answered as expected, lives, is small, and still takes good input.
#[track_caller]
fn check_refused(server: &mut Server, what: &str, status: u16, expected: &[u16]) {
    assert!(expected.contains(&status), "{what}: answered {status}, expected one of {expected:?}");
    assert!(server.is_alive(), "{what}: the server died");
}

async fn check_well(server: &mut Server, before: u64, what: &str) {
    let at = now_ms();
    server.remote_write(vec![series(&[("__name__", "still_well")], &[(at, 1.0)])]).await.ok();
    assert_eq!(server.value("still_well", at).await, 1.0, "{what}");
    let after = server.memory_bytes("VmHWM");
    assert!(after < before + GROWTH_MAX, "{what}: grew from {before} to {after} bytes");
}

#[tokio::test]
async fn truncated_and_flipped_bodies_are_refused_with_400() {
    let mut server = Server::start().await;
    let before = server.memory_bytes("VmHWM");
    let at = now_ms();
    let write = server.url("/api/v1/write");
    let good = write_body(vec![series(&[("__name__", "x")], &[(at, 1.0)])]);
    for length in 0..good.len() {
        let status = server.post(&write, &WRITE_HEADERS, good[..length].to_vec()).await.status;
        check_refused(&mut server, &format!("remote write cut to {length}"), status, &[200, 204, 400]);
    }
    for place in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= bit;
            let status = server.post(&write, &WRITE_HEADERS, bad).await.status;
            check_refused(&mut server, &format!("remote write with byte {place} flipped"), status, &[200, 204, 400]);
        }
    }
    let otlp = server.otlp_url("/v1/metrics");
    let good = metrics::otlp_request("shop", vec![gauge("x", vec![point(at, 1.0, Vec::new())])]).encode_to_vec();
    for length in 1..good.len() {
        let status = server.post(&otlp, &[PROTOBUF], good[..length].to_vec()).await.status;
        check_refused(&mut server, &format!("OTLP cut to {length}"), status, &[200, 400]);
        let zipped = gzip(&good);
        let length = length.min(zipped.len() - 1);
        let status =
            server.post(&otlp, &[PROTOBUF, ("content-encoding", "gzip")], zipped[..length].to_vec()).await.status;
        check_refused(&mut server, &format!("gzip cut to {length}"), status, &[400]);
    }
    for (path, body) in [("/v1/metrics", "{"), ("/v1/logs", "[]"), ("/v1/logs", "{\"resourceLogs\": 5}")] {
        let status = server.post(&server.otlp_url(path), &[JSON], body.into()).await.status;
        check_refused(&mut server, body, status, &[400]);
    }
    for body in ["", "{", "{\"streams\": [{\"stream\": {\"a\": \"b\"}, \"values\": [[\"x\", \"y\"]]}]}"] {
        let status = server.post(&server.url("/loki/api/v1/push"), &[JSON], body.into()).await.status;
        check_refused(&mut server, &format!("push of {body}"), status, &[400]);
    }
    check_well(&mut server, before, "truncated and flipped bodies").await;
}

#[tokio::test]
async fn a_wrong_content_type_or_encoding_is_refused() {
    let mut server = Server::start().await;
    let body = metrics::otlp_request("shop", vec![gauge("x", vec![point(now_ms(), 1.0, Vec::new())])]).encode_to_vec();
    let url = server.otlp_url("/v1/metrics");
    for headers in [&[("content-type", "text/plain")][..], &[("content-type", "image/png")], &[]] {
        let status = server.post(&url, headers, body.clone()).await.status;
        check_refused(&mut server, &format!("OTLP with {headers:?}"), status, &[415]);
    }
    let status = server.post(&url, &[PROTOBUF, ("content-encoding", "br")], body.clone()).await.status;
    check_refused(&mut server, "OTLP with brotli", status, &[400, 415]);
    let status = server.post(&server.url("/api/v1/write"), &[("content-type", "text/plain")], body).await.status;
    check_refused(&mut server, "remote write as text", status, &[400, 415]);
    let status = server.get("/api/v1/write", &[]).await.status;
    check_refused(&mut server, "GET of a write path", status, &[405]);
}

#[tokio::test]
async fn bombs_are_refused_with_413_and_bounded_memory() {
    let mut server = super::harness::Builder::new().flag("max-decoded-bytes", "64MiB").start().await;
    let before = server.memory_bytes("VmHWM");
    let zeros = vec![0_u8; 1 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..512 {
        gzip.write_all(&zeros).unwrap();
        zstd.write_all(&zeros).unwrap();
    }
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd.finish().unwrap());
    for path in ["/v1/metrics", "/v1/logs"] {
        for (encoding, bomb) in [("gzip", &gzip), ("zstd", &zstd)] {
            let headers = [PROTOBUF, ("content-encoding", encoding)];
            let status = server.post(&server.otlp_url(path), &headers, bomb.clone()).await.status;
            check_refused(&mut server, &format!("{encoding} bomb to {path}"), status, &[400, 413]);
        }
    }
    // A snappy header that promises 4 GB.
    let lie = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 100]].concat();
    for (path, headers) in [("/api/v1/write", &WRITE_HEADERS[..]), ("/loki/api/v1/push", &[PROTOBUF][..])] {
        let status = server.post(&server.url(path), headers, lie.clone()).await.status;
        check_refused(&mut server, &format!("snappy bomb to {path}"), status, &[400, 413]);
    }
    check_well(&mut server, before, "bombs").await;
}

#[tokio::test]
async fn huge_label_sets_and_values_are_refused_and_counted() {
    let mut server = Server::start().await;
    let before = server.memory_bytes("VmHWM");
    let at = now_ms();
    let names: Vec<String> = (0..100_000).map(|i| format!("label_{i:06}")).collect();
    let mut labels = vec![("__name__", "wide")];
    labels.extend(names.iter().map(|name| (name.as_str(), "x")));
    let status = server.remote_write(vec![series(&labels, &[(at, 1.0)])]).await.status;
    check_refused(&mut server, "100,000 labels", status, &[400, 413]);

    let long = "v".repeat(10 << 20);
    let status =
        server.remote_write(vec![series(&[("__name__", "long"), ("label", &long)], &[(at, 1.0)])]).await.status;
    check_refused(&mut server, "a label value of 10 MB", status, &[400, 413]);
    let request =
        metrics::otlp_request("shop", vec![gauge("long", vec![point(at, 1.0, vec![metrics::attribute("l", &long)])])]);
    let answer = server.otlp_metrics(&request).await;
    check_refused(&mut server, "an attribute of 10 MB", answer.status, &[200, 400, 413]);
    let answer = server.loki_push(&json!({"a": long}), &[(at * 1_000_000, "x".to_owned())]).await;
    check_refused(&mut server, "a stream label of 10 MB", answer.status, &[400, 413]);
    assert!(server.instant("{__name__=~\"wide|long\"}", at).await.is_empty());
    assert!(server.own_metric("daybook_dropped_records_total", &[]).await >= 2.0, "each refusal is counted");
    check_well(&mut server, before, "huge labels").await;
}

#[tokio::test]
async fn bad_label_sets_are_refused_and_good_neighbours_kept() {
    let mut server = Server::start().await;
    let at = now_ms();
    let bad: [(&str, TimeSeries); 4] = [
        ("a label twice", series(&[("__name__", "bad"), ("a", "1"), ("a", "2")], &[(at, 1.0)])),
        ("an empty label name", series(&[("__name__", "bad"), ("", "1")], &[(at, 1.0)])),
        ("no labels", series(&[], &[(at, 1.0)])),
        ("invalid UTF-8", {
            let mut bad = series(&[("__name__", "bad"), ("a", "x")], &[(at, 1.0)]);
            bad.labels[1].value = vec![0xff, 0xfe];
            bad
        }),
    ];
    for (index, (what, bad)) in bad.into_iter().enumerate() {
        let name = format!("neighbour_{index}");
        let status = server.remote_write(vec![series(&[("__name__", &name)], &[(at, 1.0)]), bad]).await.status;
        check_refused(&mut server, what, status, &[400]);
    }
    assert!(server.instant("bad", at).await.is_empty());
}

#[tokio::test]
async fn special_values_and_all_times_come_back_bit_exact() {
    let server = Server::start().await;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let at = now_ms();
    let samples =
        [(at - 4000, f64::INFINITY), (at - 3000, f64::NEG_INFINITY), (at - 2000, f64::NAN), (at - 1000, -0.0)];
    server.remote_write(vec![series(&[("__name__", "special")], &samples)]).await.ok();
    server.remote_write(vec![series(&[("__name__", "gone")], &[(at - 1000, 1.0), (at, stale)])]).await.ok();
    let (y1970, y2100) = (1_000, 4_102_444_800_000);
    server.remote_write(vec![series(&[("__name__", "ages")], &[(y1970, 1.0)])]).await.ok();
    server.remote_write(vec![series(&[("__name__", "ages")], &[(y2100, 2.0)])]).await.ok();
    server.loki_push(&json!({"service_name": "ages"}), &[(y1970 * 1_000_000, "old".to_owned())]).await.ok();
    server.loki_push(&json!({"service_name": "ages"}), &[(y2100 * 1_000_000, "new".to_owned())]).await.ok();
    for flushed in [false, true] {
        if flushed {
            server.flush().await;
        }
        let found = server.samples("special[1m]", at).await.into_values().next().unwrap();
        let bits: Vec<_> = found.iter().map(|(at, value)| (*at, value.to_bits())).collect();
        let expected: Vec<_> = samples.iter().map(|(at, value)| (*at, value.to_bits())).collect();
        assert_eq!(bits, expected, "flushed: {flushed}");
        assert!(server.instant("gone", at).await.is_empty(), "a stale marker ends a series");
        assert_eq!(server.value("gone", at - 1000).await, 1.0);
        assert_eq!(server.value("ages", y1970).await, 1.0);
        assert_eq!(server.value("ages", y2100).await, 2.0);
        let all = (0, y2100 * 1_000_000 + 1);
        let lines: Vec<_> =
            server.lines("{service_name=\"ages\"}", all, 10).await.into_iter().map(|(_, l)| l).collect();
        assert_eq!(lines, ["old", "new"]);
    }
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_and_counted_and_its_neighbours_kept() {
    let mut server = Server::start().await;
    let at = now_ms() * 1_000_000;
    let lines = [(at, "short".to_owned()), (at + 1, "x".repeat(9 << 20)), (at + 2, "after".to_owned())];
    let answer = server.loki_push(&json!({"service_name": "long"}), &lines).await;
    check_refused(&mut server, "a line of 9 MiB", answer.status, &[204, 400]);
    let response = server.otlp_logs(&logs::otlp_request("long-otlp", &lines)).await.ok();
    let partial =
        opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse::decode(response.body.as_slice());
    assert_eq!(partial.unwrap().partial_success.unwrap_or_default().rejected_log_records, 1);
    let found = server.lines("{service_name=\"long-otlp\"}", (at, at + 10), 10).await;
    assert_eq!(found.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), ["short", "after"]);
    assert!(server.own_metric("daybook_dropped_records_total", &["signal=\"logs\""]).await >= 2.0);
}

#[tokio::test]
async fn empty_batches_are_no_error() {
    let server = Server::start().await;
    server.remote_write(Vec::new()).await.ok();
    server.otlp_metrics(&ExportMetricsServiceRequest::default()).await.ok();
    server.otlp_logs(&logs::otlp_request("empty", &[])).await.ok();
    server.loki_push(&json!({"a": "b"}), &[]).await.ok();
    let body = snappy(&[]);
    server.post(&server.url("/api/v1/write"), &WRITE_HEADERS, body).await.ok();
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_413() {
    let mut server = super::harness::Builder::new().flag("max-body-bytes", "64KiB").start().await;
    let mut random = super::harness::Random::new(7);
    let lines: Vec<_> = (0..20_000).map(|i| (now_ms() * 1_000_000 + i, format!("{:x}", random.next()))).collect();
    let answer = server.loki_push(&json!({"a": "b"}), &lines).await;
    check_refused(&mut server, "a large push", answer.status, &[413]);
    let answer = server.otlp_logs(&logs::otlp_request("large", &lines)).await;
    check_refused(&mut server, "a large OTLP request", answer.status, &[413]);
    let text = answer.text();
    assert!(text.contains("65536") || text.contains("64"), "the limit is told: {text}");
}
