//! Damaged and hostile bodies: each gets a 4xx or is taken, nothing panics, the collector goes on.

use axum::http::StatusCode;
use collector::Config;
use prost::Message as _;

use crate::harness::{Exemplar, Harness, JSON, PROTOBUF, REMOTE_WRITE, gzip, label, series, snappy, write_request};
use crate::otlp_http::{gauge_request, logs_request};
use crate::remote_write::{REMOTE_WRITE_2, custom, exponential, request_2};

const PATHS: [&str; 4] = ["/api/v1/write", "/api/v1/otlp/v1/metrics", "/otlp/v1/logs", "/loki/api/v1/push"];

/// Damages `body` at every byte and sends it; the answer must be 2xx or 4xx.
async fn damage(harness: &Harness, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    for at in 0..body.len() {
        let mut flipped = body.to_vec();
        flipped[at] ^= 1 << (at % 8);
        for damaged in [flipped, body[..at].to_vec()] {
            let answer = harness.post(path, headers, damaged).await;
            let fine = answer.status.is_success() || answer.status.is_client_error();
            assert!(fine, "{path} at {at}: {} {}", answer.status, answer.text());
            assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path} at {at}");
        }
    }
}

#[tokio::test]
async fn every_truncation_and_a_flip_in_every_byte() {
    let harness = Harness::new();
    let logs = logs_request(&["first line", "second line"]).encode_to_vec();
    let metrics = gauge_request(&[Some(1.5), None]).encode_to_vec();
    let write = write_request(vec![series(&[("__name__", "up"), ("job", "a")], &[(1, 1.0), (2, 2.0)])]).encode_to_vec();
    let mut native = series(&[("__name__", "native")], &[]);
    native.histograms = vec![exponential(), custom()];
    native.exemplars = vec![Exemplar { labels: vec![label("trace_id", "a")], value: 1.0, timestamp: 1 }];
    let native = write_request(vec![native]).encode_to_vec();
    let push = br#"{"streams":[{"stream":{"app":"web"},"values":[["1","a",{"b":"c"}]]}]}"#;
    damage(&harness, "/otlp/v1/logs", PROTOBUF, &logs).await;
    damage(&harness, "/api/v1/otlp/v1/metrics", PROTOBUF, &metrics).await;
    damage(&harness, "/api/v1/write", REMOTE_WRITE, &snappy(&write)).await;
    damage(&harness, "/api/v1/write", REMOTE_WRITE, &snappy(&native)).await;
    damage(&harness, "/api/v1/write", REMOTE_WRITE_2, &snappy(&request_2())).await;
    damage(&harness, "/loki/api/v1/push", JSON, push).await;
    damage(&harness, "/loki/api/v1/push", PROTOBUF, &snappy(push)).await;
    for (encoding, body) in [("gzip", gzip(&logs)), ("zstd", zstd::encode_all(logs.as_slice(), 1).unwrap())] {
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        damage(&harness, "/otlp/v1/logs", &headers, &body).await;
    }
    harness.ledger();
    assert_eq!(harness.post("/otlp/v1/logs", PROTOBUF, logs).await.status, StatusCode::OK, "it goes on");
}

#[tokio::test]
async fn bombs_stop_at_the_limit() {
    let harness = Harness::with(Config { max_decoded_bytes: 1 << 20, ..Config::default() });
    // 64 MiB of zeros, of which the collector may see 1 MiB.
    let zeros = vec![0; 64 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &zeros).unwrap();
    let gzip_bomb = encoder.finish().unwrap();
    let zstd_bomb = zstd::encode_all(zeros.as_slice(), 3).unwrap();
    assert!(gzip_bomb.len() < 1 << 20 && zstd_bomb.len() < 1 << 20);
    for (encoding, bomb) in [("gzip", gzip_bomb), ("zstd", zstd_bomb)] {
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        let answer = harness.post("/otlp/v1/logs", &headers, bomb).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
        assert!(answer.text().contains("the decompressed body is over the limit of 1048576 bytes"));
    }
    // A snappy header that claims 4 GiB is believed no further than that.
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text());
    assert!(harness.telemetry.render().contains("daybook_ingest_memory_bytes 0\n"));
}

#[tokio::test]
async fn wrong_content_types_are_415_everywhere() {
    let harness = Harness::new();
    for path in PATHS {
        let answer = harness.post(path, &[("content-type", "application/xml")], "<a/>").await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        assert!(answer.text().contains("application/xml"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_hundred_thousand_labels_and_a_label_of_ten_megabytes() {
    let harness = Harness::new();
    let names: Vec<String> = (0..100_000).map(|i| format!("label_{i}")).collect();
    let mut labels: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    labels.push(("__name__", "many"));
    let huge = "x".repeat(10 << 20);
    let request = write_request(vec![
        series(&labels, &[(1, 1.0)]),
        series(&[("__name__", "huge"), ("a", &huge)], &[(1, 1.0)]),
        series(&[("__name__", "good")], &[(1, 1.0)]),
    ]);
    let answer = harness.write(&request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let text = answer.text();
    assert!(text.contains("a series has 100001 labels, the limit is 256"), "{text}");
    assert!(text.contains("a value of 10485760 bytes, the limit is 16384"), "{text}");
    assert!(text.len() < 1000, "the message is short");
    assert_eq!(harness.samples(), "good 1@1\n");

    let mut request = gauge_request(&[Some(1.0)]);
    let attributes = names.iter().map(|name| (name.clone(), model::Value::Int(1))).collect();
    let attributes = collector_otlp::attributes_to_otlp(attributes);
    if let Some(collector_otlp::proto::metrics::metric::Data::Gauge(gauge)) =
        &mut request.resource_metrics[0].scope_metrics[0].metrics[0].data
    {
        gauge.data_points[0].attributes = attributes;
    }
    let answer = harness.post("/api/v1/otlp/v1/metrics", PROTOBUF, request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().contains("too_many_labels"));
    harness.ledger();
}

#[tokio::test]
async fn a_line_of_five_megabytes_is_kept_and_one_over_the_limit_is_told() {
    let harness = Harness::new();
    let (long, too_long) = ("x".repeat(5 << 20), "x".repeat(9 << 20));
    let body = logs_request(&["short", &long, &too_long]).encode_to_vec();
    let answer = harness.post("/otlp/v1/logs", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().contains("record_too_large"));
    assert_eq!(harness.lines().len(), 5 + (5 << 20) + 2 * r#"{host_name="h1", service_name="cart"} 1000 "#.len() + 2);
    assert_eq!(harness.ledger(), "otlp_http logs: 3 = 2 + 1 record_too_large\n");
}

#[tokio::test]
async fn a_million_parts_that_say_nothing_stay_within_the_memory() {
    let harness = Harness::with(Config { memory_bytes: 40 << 20, ..Config::default() });
    let wrap = |tag: u8, inner: &[u8]| {
        let mut out = vec![tag << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    };
    let name = wrap(1, &[wrap(1, b"__name__"), wrap(2, b"up")].concat());
    let many = |tag: u8| [name.clone(), [tag << 3 | 2, 0].repeat(1 << 20)].concat();
    // Samples, exemplars and histograms of one series; references of none, symbols.
    for (headers, body, most) in [
        (REMOTE_WRITE, wrap(1, &many(2)), 413),
        (REMOTE_WRITE, wrap(1, &many(3)), 413),
        (REMOTE_WRITE, wrap(1, &many(4)), 413),
        (REMOTE_WRITE_2, wrap(5, &wrap(1, &vec![9; 1 << 20])), 400),
        (REMOTE_WRITE_2, [4 << 3 | 2, 0].repeat(1 << 20), 413),
    ] {
        let answer = harness.post("/api/v1/write", headers, snappy(&body)).await;
        assert_eq!(answer.status, most, "{}", answer.text());
        assert!(answer.text().len() < 1000, "{}", answer.text());
    }
    assert!(harness.telemetry.render().contains("daybook_ingest_memory_bytes 0\n"));
}

#[tokio::test]
async fn deep_nesting_is_refused_and_not_followed() {
    let harness = Harness::new();
    // AnyValue { array_value { values { array_value { ... } } } }
    let mut value = Vec::new();
    for _ in 0..20_000 {
        let mut outer = vec![0x2a];
        prost::encoding::encode_varint(
            value.len() as u64 + 1 + prost::encoding::encoded_len_varint(value.len() as u64) as u64,
            &mut outer,
        );
        outer.push(0x0a);
        prost::encoding::encode_varint(value.len() as u64, &mut outer);
        outer.extend_from_slice(&value);
        value = outer;
        if value.len() > 200_000 {
            break;
        }
    }
    let wrap = |tag: u8, inner: &[u8]| {
        let mut out = vec![tag << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    };
    let body = wrap(1, &wrap(2, &wrap(2, &wrap(5, &value))));
    let answer = harness.post("/otlp/v1/logs", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("recursion limit"), "{}", answer.text());
}
