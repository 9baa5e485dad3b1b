//! Prometheus remote write.

use axum::http::StatusCode;
use expect_test::expect;
use model::{MetricKind, STALE_NAN_BITS};
use prost::Message as _;
use storage_api::MetricQuerier as _;

use crate::harness::{Harness, Label, Metadata, REMOTE_WRITE, WriteRequest, series, snappy, write_request};

#[tokio::test]
async fn samples_and_metadata_are_stored_and_answered_with_204() {
    let harness = Harness::new();
    let metadata = Metadata { kind: 1, name: "up_total".into(), help: "Ups.".into(), unit: "s".into() };
    let request = WriteRequest {
        timeseries: vec![
            series(&[("job", "a"), ("__name__", "up_total"), ("empty", "")], &[(1000, 1.0), (2000, 2.5)]),
            series(&[("__name__", "nan")], &[(-5, f64::NAN), (4_102_444_800_000, f64::from_bits(STALE_NAN_BITS))]),
        ],
        metadata: vec![metadata],
    };
    let answer = harness.write(&request).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()));
    expect![[r#"
        nan NaN@-5 stale@4102444800000
        up_total{job="a"} 1@1000 2.5@2000
    "#]]
    .assert_eq(&harness.samples());
    assert_eq!(harness.metrics.metadata(Some("up_total")).unwrap()[0].kind, MetricKind::Counter);
    expect!["remote_write metrics: 4 = 4\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn bad_series_are_told_and_the_rest_is_kept() {
    let harness = Harness::new();
    let mut invalid = series(&[("__name__", "utf8")], &[(1, 1.0)]);
    invalid.labels.push(Label { name: b"a".to_vec(), value: vec![0xff, 0xfe] });
    let long = "x".repeat(20_000);
    let many: Vec<_> = (0..300).map(|i| format!("l{i}")).collect();
    let mut many: Vec<_> = many.iter().map(|name| (name.as_str(), "v")).collect();
    many.push(("__name__", "many"));
    let mut histogram = series(&[("__name__", "native")], &[]);
    histogram.histograms = vec![Label::default(); 3];
    let request = write_request(vec![
        series(&[("__name__", "good")], &[(1, 1.0)]),
        invalid,
        series(&[("__name__", "twice"), ("a", "1"), ("a", "2")], &[(1, 1.0), (2, 1.0)]),
        series(&[("a", "1")], &[(1, 1.0)]),
        series(&[("__name__", "empty"), ("", "1")], &[(1, 1.0)]),
        series(&[("__name__", "long"), ("a", &long)], &[(1, 1.0)]),
        series(&[("__name__", "name"), (&long, "a")], &[(1, 1.0)]),
        series(&many, &[(1, 1.0)]),
        histogram,
        series(&[("z", "1"), ("__name__", "unsorted"), ("b", "1")], &[(1, 1.0)]),
    ]);
    let answer = harness.write(&request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        11 of 13 samples were not stored: 1 rejected (invalid_utf8): label "a" is not valid UTF-8; 2 rejected (duplicate_label): label "a" is given twice in {__name__="twice", a="1", a="2"}; 1 rejected (missing_metric_name): a series has no metric name: {a="1"}; 1 rejected (empty_label_name): a label with value "1" has an empty name in {__name__="empty", ="1"}; 1 rejected (label_value_too_long): label "a" has a value of 20000 bytes, the limit is 16384; 1 rejected (label_name_too_long): a label name has 20000 bytes, the limit is 1024; 1 rejected (too_many_labels): a series has 301 labels, the limit is 256; 3 rejected (unsupported_native_histogram): native histograms are not supported yet
    "#]]
    .assert_eq(&answer.text());
    expect![[r#"
        good 1@1
        unsorted{b="1", z="1"} 1@1
    "#]]
    .assert_eq(&harness.samples());
    expect!["remote_write metrics: 13 = 2 + 2 duplicate_label + 1 empty_label_name + 1 invalid_utf8 + 1 label_name_too_long + 1 label_value_too_long + 1 missing_metric_name + 1 too_many_labels + 3 unsupported_native_histogram\n"]
        .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn exemplars_are_counted_and_do_not_fail_the_batch() {
    let harness = Harness::new();
    let mut one = series(&[("__name__", "a")], &[(1, 1.0)]);
    one.exemplars = vec![Label::default(); 2];
    assert_eq!(harness.write(&write_request(vec![one])).await.status, StatusCode::NO_CONTENT);
    expect!["remote_write metrics: 3 = 1 + 2 unsupported_exemplar\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn content_types_and_encodings_are_tested() {
    let harness = Harness::new();
    let body = || snappy(&write_request(vec![series(&[("__name__", "a")], &[(1, 1.0)])]).encode_to_vec());
    let v1 = "application/x-protobuf;proto=prometheus.WriteRequest";
    let v3 = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    for (content_type, encoding, expected) in [
        ("application/x-protobuf", "snappy", StatusCode::NO_CONTENT),
        (v1, "snappy", StatusCode::NO_CONTENT),
        (v3, "snappy", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("text/plain", "snappy", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/x-protobuf", "br", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let answer = harness.post("/api/v1/write", &headers, body()).await;
        assert_eq!(answer.status, expected, "{content_type} {encoding}: {}", answer.text());
    }
    let text = harness.telemetry.render();
    let expected = r#"daybook_refused_requests_total{place="remote_write",reason="unsupported_media_type"} 2"#;
    assert!(text.contains(expected), "{text}");
}

#[tokio::test]
async fn an_empty_request_is_fine() {
    let harness = Harness::new();
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, snappy(&[])).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(harness.samples(), "");
}

#[tokio::test]
async fn times_that_nanoseconds_cannot_say_are_rejected_alone() {
    let harness = Harness::new();
    let times = [i64::MIN, -9_223_372_036_854, 9_223_372_036_854, 9_223_372_036_855, i64::MAX];
    let samples: Vec<_> = times.iter().map(|at| (*at, 1.0)).collect();
    let answer = harness.write(&write_request(vec![series(&[("__name__", "a")], &samples)])).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        3 of 5 samples were not stored: 3 rejected (timestamp_out_of_range): a sample lies outside the years 1678-2261 in {__name__="a"}
    "#]]
    .assert_eq(&answer.text());
    assert_eq!(harness.samples(), "a 1@-9223372036854 1@9223372036854\n");
    expect!["remote_write metrics: 5 = 2 + 3 timestamp_out_of_range\n"].assert_eq(&harness.ledger());
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<Series2>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Series2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<crate::harness::Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Label>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Label>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata2>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Metadata2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[tokio::test]
async fn version_2_resolves_symbols_and_says_what_was_written() {
    let harness = Harness::new();
    let symbols = ["", "__name__", "lat_bucket", "le", "1", "Help.", "s", "up"].map(str::to_owned).to_vec();
    let sample = |timestamp| crate::harness::Sample { value: 1.5, timestamp };
    let series = |labels_refs: &[u32], samples: &[i64]| Series2 {
        labels_refs: labels_refs.to_vec(),
        samples: samples.iter().map(|at| sample(*at)).collect(),
        ..Series2::default()
    };
    let mut bucket = series(&[1, 2, 3, 4], &[1, 2]);
    bucket.metadata = Some(Metadata2 { kind: 3, help_ref: 5, unit_ref: 6 });
    bucket.exemplars = vec![Label::default()];
    let mut native = series(&[1, 7], &[]);
    native.histograms = vec![Label::default(); 2];
    let timeseries = vec![bucket, series(&[1, 7], &[3]), series(&[1, 99], &[4]), series(&[1, 7, 3], &[5]), native];
    let body = snappy(&Request2 { symbols, timeseries }.encode_to_vec());
    let headers = [
        ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("content-encoding", "snappy"),
    ];
    let answer = harness.post("/api/v1/write", &headers, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        4 of 7 samples were not stored: 2 rejected (invalid_symbol): a label refers to symbol 99, which is not there, in {__name__=""}; 2 rejected (unsupported_native_histogram): native histograms are not supported yet
    "#]]
    .assert_eq(&answer.text());
    let written = |what: &str| answer.headers[&format!("x-prometheus-remote-write-{what}-written")].to_str().unwrap();
    assert_eq!((written("samples"), written("histograms"), written("exemplars")), ("3", "0", "0"));
    expect![[r#"
        lat_bucket{le="1"} 1.5@1 1.5@2
        up 1.5@3
    "#]]
    .assert_eq(&harness.samples());
    let metadata = &harness.metrics.metadata(Some("lat")).unwrap()[0];
    assert_eq!((metadata.kind, metadata.help.as_str(), metadata.unit.as_str()), (MetricKind::Histogram, "Help.", "s"));
    expect![
        "remote_write metrics: 8 = 3 + 2 invalid_symbol + 1 unsupported_exemplar + 2 unsupported_native_histogram\n"
    ]
    .assert_eq(&harness.ledger());
}
