//! Prometheus remote write.

use axum::http::StatusCode;
use expect_test::expect;
use model::{MetricKind, STALE_NAN_BITS};
use prost::Message as _;
use storage_api::MetricQuerier as _;

use crate::harness::{
    Exemplar, Failing, Harness, Histogram, Label, Metadata, REMOTE_WRITE, Span, WriteRequest, collector, label, post,
    series, snappy, write_request,
};

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
    histogram.histograms = vec![Histogram { schema: 99, ..Histogram::default() }; 3];
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
        11 of 13 samples were not stored: 1 rejected (label_value_too_long): label "a" has a value of 20000 bytes, the limit is 16384; 1 rejected (label_name_too_long): a label name has 20000 bytes, the limit is 1024; 1 rejected (too_many_labels): a series has 301 labels, the limit is 256; 3 rejected (invalid_histogram): a histogram has schema 99, which is none from -4 to 8 for exponential buckets, or -53 for custom ones; 1 rejected (invalid_utf8): label "a" is not valid UTF-8; 2 rejected (duplicate_label): label "a" is given twice in {__name__="twice", a="1", a="2"}; 1 rejected (missing_metric_name): a series has no metric name: {a="1"}; 1 rejected (empty_label_name): a label with value "1" has an empty name in {__name__="empty", ="1"}
    "#]]
    .assert_eq(&answer.text());
    expect![[r#"
        good 1@1
        unsorted{b="1", z="1"} 1@1
    "#]]
    .assert_eq(&harness.samples());
    expect!["remote_write metrics: 13 = 2 + 2 duplicate_label + 1 empty_label_name + 3 invalid_histogram + 1 invalid_utf8 + 1 label_name_too_long + 1 label_value_too_long + 1 missing_metric_name + 1 too_many_labels\n"]
        .assert_eq(&harness.ledger());
}

/// Two buckets from 1 on, one far off, one below zero and one around it.
pub(crate) fn exponential() -> Histogram {
    Histogram {
        count_int: Some(11),
        sum: 18.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count_int: Some(2),
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_deltas: vec![1],
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 2, length: 1 }],
        positive_deltas: vec![3, -1, 1],
        reset_hint: 3,
        timestamp: 1000,
        ..Histogram::default()
    }
}

/// Fractional counts in custom buckets, the last of which has no bound.
pub(crate) fn custom() -> Histogram {
    Histogram {
        count_float: Some(4.5),
        sum: 7.25,
        schema: -53,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_counts: vec![1.5, 3.0],
        timestamp: 2000,
        custom_values: vec![0.5, 10.0],
        ..Histogram::default()
    }
}

#[tokio::test]
async fn histograms_and_exemplars_of_version_1_are_stored() {
    let harness = Harness::new();
    let mut native = series(&[("__name__", "native")], &[]);
    let stale = Histogram { sum: f64::from_bits(STALE_NAN_BITS), timestamp: 3000, ..Histogram::default() };
    native.histograms = vec![exponential(), custom(), stale];
    let mut counter = series(&[("__name__", "hits_total")], &[(1000, 7.0)]);
    counter.exemplars = vec![
        Exemplar { labels: vec![label("trace_id", "ab"), label("span_id", "c")], value: 0.5, timestamp: 999 },
        Exemplar { labels: Vec::new(), value: 1.5, timestamp: 1000 },
    ];
    let mut alone = series(&[("__name__", "alone_total")], &[]);
    alone.exemplars = counter.exemplars.clone();
    let answer = harness.write(&write_request(vec![native, counter, alone])).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()));
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-prometheus")), "a sign of 2.0");
    expect![[r#"
        hits_total 7@1000
        native {count:11, sum:18.5, [-1.414213562373095,-1):1, [-0.001,0.001]:2, (0.7071067811865475,1]:3, (1,1.414213562373095]:2, (2.82842712474619,4]:3}@1000 {count:4.5, sum:7.25, (0.5,10]:1.5, (10,+Inf]:3}@2000 stale histogram@3000
    "#]]
    .assert_eq(&harness.samples());
    expect![[r#"
        alone_total {span_id="c", trace_id="ab"} 0.5@999 {} 1.5@1000
        hits_total {span_id="c", trace_id="ab"} 0.5@999 {} 1.5@1000
    "#]]
    .assert_eq(&harness.exemplars());
    expect!["remote_write metrics: 4 = 4\n"].assert_eq(&harness.ledger());
}

/// Sends histograms one by one and prints what is said against each.
async fn refused(histograms: &[Histogram]) -> String {
    let harness = Harness::new();
    let mut out = String::new();
    for histogram in histograms {
        let mut native = series(&[("__name__", "native")], &[]);
        native.histograms = vec![histogram.clone()];
        let answer = harness.write(&write_request(vec![native])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{histogram:?}");
        out += answer.text().strip_prefix("1 of 1 samples were not stored: 1 rejected ").unwrap();
    }
    assert_eq!(harness.samples(), "");
    harness.ledger();
    out
}

#[tokio::test]
async fn histograms_that_make_no_sense_are_told() {
    let (good, custom) = (exponential(), custom());
    let span = |offset, length| Span { offset, length };
    expect![[r#"
        (invalid_histogram): a histogram has 11 observations in its buckets, but a count of 12
        (invalid_histogram): a histogram has 11 observations in its buckets, but a count of 10
        (invalid_histogram): a histogram has schema 53, which is none from -4 to 8 for exponential buckets, or -53 for custom ones
        (invalid_histogram): a histogram has schema -5, which is none from -4 to 8 for exponential buckets, or -53 for custom ones
        (invalid_histogram): a histogram of exponential schema 1 has custom bounds
        (invalid_histogram): bucket 2 of the positive ones of a histogram has -1 observations
        (invalid_histogram): bucket 2 of the positive ones of a histogram has 9223372036854775807 observations
        (invalid_histogram): the positive spans of a histogram need 3 buckets, it has 2
        (invalid_histogram): span 2 of the positive ones of a histogram has the negative offset -1
        (invalid_histogram): the positive spans of a histogram reach bucket 2147483647, which holds no number
        (invalid_histogram): the positive spans of a histogram need 12884901885 buckets, it has 3
        (invalid_histogram): a histogram has a count of -1
        (invalid_histogram): bucket 2 of the positive ones of a histogram has -3 observations
        (invalid_histogram): a histogram has -3 observations in its zero bucket
        (invalid_histogram): a histogram with custom buckets has observations in a zero bucket
        (invalid_histogram): a histogram with custom buckets has the threshold of a zero bucket
        (invalid_histogram): a histogram with custom buckets has negative buckets
        (invalid_histogram): a histogram with custom buckets has 2 bounds, too few for spans up to bucket 4
        (invalid_histogram): a histogram with custom buckets has a span with the negative offset -1
        (invalid_histogram): a histogram with custom buckets has bounds that do not ascend: [1.0, 1.0]
        (invalid_histogram): a histogram with custom buckets has an infinite bound, which must not be given
        (invalid_histogram): a histogram with custom buckets has a bound that is no number
        (too_many_buckets): a native histogram has more than 1024 buckets, which is the limit
        (timestamp_out_of_range): a sample lies outside the years 1678-2261 in {__name__="native"}
    "#]].assert_eq(
        &refused(&[
            Histogram { count_int: Some(12), ..good.clone() },
            Histogram { count_int: Some(10), sum: f64::NAN, ..good.clone() },
            Histogram { schema: 53, ..good.clone() },
            Histogram { schema: -5, ..good.clone() },
            Histogram { custom_values: vec![1.0], ..good.clone() },
            Histogram { positive_deltas: vec![3, -4, 1], ..good.clone() },
            Histogram { positive_deltas: vec![i64::MAX, 1, 1], ..good.clone() },
            Histogram { positive_deltas: vec![3, -1], ..good.clone() },
            Histogram { positive_spans: vec![span(0, 2), span(-1, 1)], ..good.clone() },
            Histogram { positive_spans: vec![span(i32::MAX, 3)], ..good.clone() },
            Histogram { positive_spans: vec![span(0, u32::MAX); 3], ..good.clone() },
            Histogram { count_int: None, count_float: Some(-1.0), positive_counts: vec![1.0; 3], ..good.clone() },
            Histogram { positive_counts: vec![1.5, -3.0], ..custom.clone() },
            Histogram { zero_count_float: Some(-3.0), schema: 0, custom_values: Vec::new(), ..custom.clone() },
            Histogram { zero_count_float: Some(3.0), ..custom.clone() },
            Histogram { zero_threshold: 0.1, ..custom.clone() },
            Histogram { negative_spans: vec![span(0, 0)], ..custom.clone() },
            Histogram { positive_spans: vec![span(2, 2)], ..custom.clone() },
            Histogram { positive_spans: vec![span(-1, 2)], ..custom.clone() },
            Histogram { custom_values: vec![1.0, 1.0], ..custom.clone() },
            Histogram { custom_values: vec![1.0, f64::INFINITY], ..custom.clone() },
            Histogram { custom_values: vec![f64::NAN], ..custom.clone() },
            Histogram { custom_values: vec![1.0; 2000], ..custom.clone() },
            Histogram { timestamp: i64::MAX, ..custom },
        ])
        .await,
    );
}

#[tokio::test]
async fn resolutions_that_are_too_fine_are_lowered() {
    let harness = Harness::new();
    let mut native = series(&[("__name__", "native")], &[]);
    let fine = |schema, timestamp, offset| Histogram {
        count_int: Some(6),
        schema,
        positive_spans: vec![Span { offset, length: 3 }],
        positive_deltas: vec![2; 3].into_iter().enumerate().map(|(i, n)| if i == 0 { n } else { 0 }).collect(),
        timestamp,
        ..Histogram::default()
    };
    native.histograms = vec![fine(9, 1, 0), fine(52, 2, 1), fine(52, 3, -2)];
    assert_eq!(harness.write(&write_request(vec![native])).await.status, StatusCode::NO_CONTENT);
    expect![[r#"
        native {count:6, sum:0, (0.9972960560854698,1]:2, (1,1.0027112750502025]:4}@1 {count:6, sum:0, (1,1.0027112750502025]:6}@2 {count:6, sum:0, (0.9972960560854698,1]:6}@3
    "#]].assert_eq(&harness.samples());
}

#[tokio::test]
async fn exemplars_that_are_not_kept_are_counted_and_do_not_fail_the_batch() {
    let harness = Harness::new();
    let exemplar = |labels: Vec<Label>| Exemplar { labels, value: 1.0, timestamp: 1 };
    let mut one = series(&[("__name__", "a")], &[(1, 1.0)]);
    one.exemplars = vec![
        exemplar(vec![label("trace_id", &"x".repeat(121))]),
        exemplar(vec![label("trace_id", &"\u{4e2d}".repeat(120))]),
        exemplar(vec![label("", "a")]),
        exemplar(vec![label("a", "a"), label("a", "b")]),
        exemplar(vec![Label { name: vec![0xff], value: Vec::new() }]),
        exemplar(vec![label("", ""); 200]),
        Exemplar { timestamp: i64::MAX, ..exemplar(Vec::new()) },
    ];
    let mut nameless = series(&[("b", "a")], &[(1, 1.0)]);
    nameless.exemplars = vec![exemplar(Vec::new())];
    assert_eq!(harness.write(&write_request(vec![one.clone()])).await.status, StatusCode::NO_CONTENT);
    assert_eq!(harness.write(&write_request(vec![nameless])).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(harness.exemplars(), format!("a {{trace_id=\"{}\"}} 1@1\n", "\u{4e2d}".repeat(120)));
    expect![[r#"
        remote_write metrics: 9 = 1 + 1 exemplar_duplicate_label + 1 exemplar_empty_label_name + 1 exemplar_invalid_series + 1 exemplar_invalid_utf8 + 2 exemplar_labels_too_long + 1 exemplar_timestamp_out_of_range + 1 missing_metric_name
    "#]].assert_eq(&harness.ledger());
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
pub(crate) struct Request2 {
    #[prost(string, repeated, tag = "4")]
    pub(crate) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) timeseries: Vec<Series2>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Series2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample2>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata2>,
    #[prost(int64, tag = "6")]
    created_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Sample2 {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exemplar2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
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

pub(crate) const REMOTE_WRITE_2: &[(&str, &str)] = &[
    ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "2.0.0"),
];

const SYMBOLS: [&str; 9] = ["", "__name__", "lat_bucket", "le", "1", "Help.", "s", "up", "trace_id"];

pub(crate) fn series_2(labels_refs: &[u32], samples: &[i64]) -> Series2 {
    let sample = |at: &i64| Sample2 { value: 1.5, timestamp: *at, start_timestamp: 0 };
    Series2 { labels_refs: labels_refs.to_vec(), samples: samples.iter().map(sample).collect(), ..Series2::default() }
}

/// Sends a request of 2.0; returns status, text, and what was written of samples, histograms and exemplars.
async fn write_2(harness: &Harness, symbols: &[&str], timeseries: Vec<Series2>) -> (u16, String, [String; 3]) {
    let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
    let body = snappy(&Request2 { symbols, timeseries }.encode_to_vec());
    let answer = harness.post("/api/v1/write", REMOTE_WRITE_2, body).await;
    let written = |what: &str| {
        let name = format!("x-prometheus-remote-write-{what}-written");
        answer.headers[&name].to_str().unwrap().to_owned()
    };
    (answer.status.as_u16(), answer.text(), ["samples", "histograms", "exemplars"].map(written))
}

/// A request of 2.0 with a bit of everything.
pub(crate) fn request_2() -> Vec<u8> {
    let mut bucket = series_2(&[1, 2, 3, 4], &[1, 2]);
    bucket.samples[1].start_timestamp = 1;
    bucket.metadata = Some(Metadata2 { kind: 3, help_ref: 5, unit_ref: 6 });
    let mut native = series_2(&[1, 7], &[]);
    native.exemplars = vec![Exemplar2 { labels_refs: vec![8, 4], value: 2.0, timestamp: 3 }];
    native.histograms = vec![exponential(), custom()];
    native.created_timestamp = 800;
    Request2 { symbols: SYMBOLS.map(str::to_owned).to_vec(), timeseries: vec![bucket, native] }.encode_to_vec()
}

#[tokio::test]
async fn version_2_resolves_symbols_and_says_what_was_written() {
    let harness = Harness::new();
    let mut bucket = series_2(&[1, 2, 3, 4], &[1, 2]);
    bucket.samples[1].start_timestamp = 1;
    bucket.metadata = Some(Metadata2 { kind: 3, help_ref: 5, unit_ref: 6 });
    bucket.exemplars = vec![Exemplar2 { labels_refs: vec![8, 4], value: 2.0, timestamp: 3 }];
    let mut native = series_2(&[1, 7], &[]);
    native.histograms = vec![Histogram { start_timestamp: 900, ..exponential() }, custom()];
    native.created_timestamp = 800;
    let timeseries = vec![bucket, series_2(&[3, 4, 1, 7], &[3]), native];
    let (status, text, written) = write_2(&harness, &SYMBOLS, timeseries).await;
    assert_eq!((status, text.as_str()), (204, ""));
    assert_eq!(written, ["3", "2", "1"]);
    expect![[r#"
        lat_bucket{le="1"} 1.5@1 1.5@2 since 1
        up {count:11, sum:18.5, [-1.414213562373095,-1):1, [-0.001,0.001]:2, (0.7071067811865475,1]:3, (1,1.414213562373095]:2, (2.82842712474619,4]:3}@1000 since 900 {count:4.5, sum:7.25, (0.5,10]:1.5, (10,+Inf]:3}@2000 since 800
        up{le="1"} 1.5@3
    "#]].assert_eq(&harness.samples());
    expect![[r#"
        lat_bucket{le="1"} {trace_id="1"} 2@3
    "#]]
    .assert_eq(&harness.exemplars());
    let metadata = &harness.metrics.metadata(Some("lat")).unwrap()[0];
    assert_eq!((metadata.kind, metadata.help.as_str(), metadata.unit.as_str()), (MetricKind::Histogram, "Help.", "s"));
    expect!["remote_write metrics: 5 = 5\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn version_2_tells_each_fault_and_keeps_the_rest() {
    let harness = Harness::new();
    let bad_metadata = |help_ref, unit_ref| Series2 {
        metadata: Some(Metadata2 { kind: 1, help_ref, unit_ref }),
        ..series_2(&[1, 7], &[10])
    };
    let mut bad_parts = series_2(&[1, 7], &[20]);
    bad_parts.exemplars = vec![Exemplar2 { labels_refs: vec![8, 99], ..Exemplar2::default() }];
    bad_parts.histograms = vec![Histogram { count_int: Some(99), ..exponential() }];
    let timeseries = vec![
        series_2(&[1, 7], &[3]),
        series_2(&[1, 99], &[4, 5]),
        series_2(&[1, 7, 3], &[5]),
        series_2(&[3, 4], &[6]),
        series_2(&[], &[6]),
        series_2(&[1, 0], &[6]),
        series_2(&[1, 7, 0, 4], &[7]),
        series_2(&[1, 7, 3, 4, 3, 6], &[8]),
        bad_metadata(99, 0),
        bad_metadata(0, 99),
        bad_parts,
        series_2(&[1, 7], &[]),
        series_2(&[3, 7], &[]),
    ];
    let (status, text, written) = write_2(&harness, &SYMBOLS, timeseries).await;
    assert_eq!(status, 400);
    expect![[r#"
        11 of 13 samples were not stored: 4 rejected (invalid_symbol): a label refers to symbol 99, which is not there, of 9 symbols, in {}; 1 rejected (odd_label_references): a label has a name without a value: there are 3 references to symbols; 3 rejected (missing_metric_name): a series has no metric name: {le="1"}; 1 rejected (invalid_histogram): a histogram has 11 observations in its buckets, but a count of 99; 1 rejected (empty_label_name): a label with value "1" has an empty name in {__name__="up", ="1"}; 1 rejected (duplicate_label): label "le" is given twice in {__name__="up", le="1", le="s"}; 1 rejected (exemplar_invalid_symbol): a label of an exemplar refers to symbol 99, which is not there, of 9 symbols; 1 rejected (empty_series): a series must have at least one sample or histogram: {__name__="up"}; 1 rejected (invalid_series): a series has no metric name: {le="up"}
    "#]].assert_eq(&text);
    assert_eq!(written, ["2", "0", "0"]);
    assert_eq!(harness.samples(), "up 1.5@3 1.5@20\n");
    expect![[r#"
        remote_write metrics: 16 = 2 + 1 duplicate_label + 1 empty_label_name + 1 empty_series + 1 exemplar_invalid_symbol + 1 invalid_histogram + 1 invalid_series + 4 invalid_symbol + 3 missing_metric_name + 1 odd_label_references
    "#]].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn version_2_takes_exemplars_and_metadata_without_samples() {
    let harness = Harness::new();
    let mut exemplar = series_2(&[1, 7], &[]);
    exemplar.exemplars = vec![Exemplar2 { labels_refs: vec![8, 4], value: 2.0, timestamp: 3 }];
    let mut metadata = series_2(&[1, 2], &[]);
    metadata.metadata = Some(Metadata2 { kind: 2, help_ref: 5, unit_ref: 0 });
    let (status, text, written) = write_2(&harness, &SYMBOLS, vec![exemplar, metadata]).await;
    assert_eq!((status, text.as_str()), (204, ""));
    assert_eq!(written, ["0", "0", "1"]);
    assert_eq!(harness.exemplars(), "up {trace_id=\"1\"} 2@3\n");
    assert_eq!(harness.metrics.metadata(Some("lat_bucket")).unwrap()[0].help, "Help.");
    expect![[r#"
        remote_write metrics: 0 = 0
    "#]]
    .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn version_2_wants_an_empty_first_symbol() {
    let harness = Harness::new();
    let (status, text, written) = write_2(&harness, &["__name__", "up"], vec![series_2(&[0, 1], &[1])]).await;
    assert_eq!((status, written), (400, ["0", "0", "0"].map(str::to_owned)));
    expect![[r#"
        the remote write request cannot be decoded: the first symbol is not the empty string, at byte 2 of 33
    "#]]
    .assert_eq(&text);
    let (status, ..) = write_2(&harness, &[], Vec::new()).await;
    assert_eq!(status, 204, "an empty request is fine");
    let (status, text, _) = write_2(&harness, &[], vec![series_2(&[0, 1], &[1])]).await;
    assert_eq!(status, 400);
    expect![[r#"
        1 of 1 samples were not stored: 1 rejected (invalid_symbol): a label refers to symbol 0, which is not there, of 0 symbols, in {}
    "#]].assert_eq(&text);
    let text = harness.telemetry.render();
    assert!(text.contains(r#"daybook_refused_requests_total{place="remote_write",reason="malformed"} 1"#), "{text}");
}

#[tokio::test]
async fn a_store_that_takes_a_part_is_believed() {
    fn partly() -> storage_api::Result<storage_api::AppendReport> {
        let mut report = storage_api::AppendReport {
            accepted: 2,
            accepted_histograms: 1,
            accepted_exemplars: 1,
            ..storage_api::AppendReport::default()
        };
        report.reject("too_old", 2, || "a sample is too old".to_owned());
        report.reject("exemplar_out_of_order", 1, || "an exemplar is older than the last".to_owned());
        Ok(report)
    }
    let store = std::sync::Arc::new(Failing(partly));
    let logs = std::sync::Arc::new(storage_api::fake::FakeLogs::default());
    let (collector, _, ledger) = collector(collector::Config::default(), store, logs);
    let mut one = series_2(&[1, 7], &[1, 2]);
    one.histograms = vec![exponential(), custom()];
    one.exemplars = vec![Exemplar2::default(); 2];
    let symbols = SYMBOLS.map(str::to_owned).to_vec();
    let body = snappy(&Request2 { symbols, timeseries: vec![one] }.encode_to_vec());
    let answer = post(collector.http_router(), "/api/v1/write", REMOTE_WRITE_2, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        2 of 4 samples were not stored: 2 rejected (too_old): a sample is too old; 1 rejected (exemplar_out_of_order): an exemplar is older than the last
    "#]].assert_eq(&answer.text());
    let written = ["samples", "histograms", "exemplars"]
        .map(|what| answer.headers[&format!("x-prometheus-remote-write-{what}-written")].to_str().unwrap().to_owned());
    assert_eq!(written, ["1", "1", "1"]);
    expect![[r#"
        remote_write metrics: 5 = 2 + 1 exemplar_out_of_order + 2 too_old
    "#]]
    .assert_eq(&crate::harness::ledger_text(&ledger));
}

#[tokio::test]
async fn malformed_bodies_are_refused_with_the_place() {
    let harness = Harness::new();
    let body = write_request(vec![series(&[("__name__", "a")], &[(1, 1.0)])]).encode_to_vec();
    let cut = snappy(&body[..body.len() - 1]);
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, cut).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        the remote write request cannot be decoded: a field is longer than its message, at byte 2 of 29
    "#]]
    .assert_eq(&answer.text());
    // A series that is a number.
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, snappy(&[0x08, 0x01])).await;
    expect![[r#"
        the remote write request cannot be decoded: a field has an unexpected wire type, at byte 0 of 2
    "#]]
    .assert_eq(&answer.text());
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, vec![0x30, 0x31, 0x32]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "no snappy");
}
