//! What OTLP metrics become in storage, by configuration, and over a restart.

use std::sync::Arc;

use axum::http::StatusCode;
use collector::{Config, Strategy};
use expect_test::expect;
use storage_api::MetricQuerier as _;
use storage_api::fake::FakeMetrics;

use crate::harness::{Harness, JSON, KeptLogs, PROTOBUF, collector_on, ledger_text, post};

/// A request of one resource with these metrics.
fn request(metrics: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"cart"}}}},
        {{"key":"host.name","value":{{"stringValue":"h1"}}}}]}},"scopeMetrics":[{{"scope":{{"name":"lib","version":"2"}},"metrics":[{metrics}]}}]}}]}}"#
    )
}

const HISTOGRAMS: &str = r#"
    {"name":"rpc.duration","unit":"s","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
        {"startTimeUnixNano":"1000000","timeUnixNano":"5000000","count":"3","sum":4.5,"scale":0,"zeroCount":"1","positive":{"bucketCounts":["2"]},
         "exemplars":[{"timeUnixNano":"4000000","asDouble":1.5,"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}]}]}},
    {"name":"size","unit":"By","histogram":{"aggregationTemporality":2,"dataPoints":[
        {"startTimeUnixNano":"1000000","timeUnixNano":"5000000","count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[2],
         "exemplars":[{"timeUnixNano":"4000000","asDouble":3,"traceId":"0102030405060708090a0b0c0d0e0f10"},{"timeUnixNano":"4000000"}]}]}}"#;

#[tokio::test]
async fn histograms_starts_and_exemplars_are_stored() {
    let harness = Harness::new();
    let answer = harness.post("/api/v1/otlp/v1/metrics", JSON, request(HISTOGRAMS)).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}".to_owned()));
    expect![[r#"
        rpc_duration_seconds{job="cart", otel_scope_name="lib", otel_scope_version="2"} {count:3, sum:4.5, [-1e-128,1e-128]:1, (1,2]:2}@5 since 1
        size_bytes_bucket{job="cart", le="+Inf", otel_scope_name="lib", otel_scope_version="2"} 3@5 since 1
        size_bytes_bucket{job="cart", le="2", otel_scope_name="lib", otel_scope_version="2"} 1@5 since 1
        size_bytes_count{job="cart", otel_scope_name="lib", otel_scope_version="2"} 3@5 since 1
        size_bytes_sum{job="cart", otel_scope_name="lib", otel_scope_version="2"} 4.5@5 since 1
        target_info{host_name="h1", job="cart"} 1@5
    "#]].assert_eq(&harness.samples());
    expect![[r#"
        rpc_duration_seconds{job="cart", otel_scope_name="lib", otel_scope_version="2"} {span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"} 1.5@4
        size_bytes_bucket{job="cart", le="+Inf", otel_scope_name="lib", otel_scope_version="2"} {trace_id="0102030405060708090a0b0c0d0e0f10"} 3@4
    "#]].assert_eq(&harness.exemplars());
    expect![[r#"
        otlp_http metrics: 3 = 2 + 1 exemplar_no_value
    "#]]
    .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn explicit_histograms_become_native_when_configured() {
    let config = Config { convert_histograms_to_nhcb: true, target_info: false, ..Config::default() };
    let harness = Harness::with(config);
    harness.post("/api/v1/otlp/v1/metrics", JSON, request(HISTOGRAMS)).await;
    expect![[r#"
        rpc_duration_seconds{job="cart", otel_scope_name="lib", otel_scope_version="2"} {count:3, sum:4.5, [-1e-128,1e-128]:1, (1,2]:2}@5 since 1
        size_bytes{job="cart", otel_scope_name="lib", otel_scope_version="2"} {count:3, sum:4.5, [-Inf,2]:1, (2,+Inf]:2}@5 since 1
    "#]].assert_eq(&harness.samples());
}

#[tokio::test]
async fn names_and_labels_are_as_configured() {
    let config = Config {
        translation_strategy: Strategy::NoTranslation,
        promote_all_resource_attributes: true,
        scope_labels: false,
        keep_identifying_resource_attributes: true,
        ..Config::default()
    };
    let harness = Harness::with(config);
    let gauge = r#"{"name":"a.b","unit":"s","gauge":{"dataPoints":[{"timeUnixNano":"5000000","asDouble":1,"attributes":[
        {"key":"x.y","value":{"stringValue":"z"}}]}]}}"#;
    harness.post("/api/v1/otlp/v1/metrics", JSON, request(gauge)).await;
    expect![[r#"
        a.b{host.name="h1", job="cart", service.name="cart", x.y="z"} 1@5
        target_info{host.name="h1", job="cart", service.name="cart"} 1@5
    "#]]
    .assert_eq(&harness.samples());
}

/// A request of one delta each of a sum, a histogram and an exponential histogram.
fn deltas(start: u64, end: u64) -> String {
    let point = |rest: &str| format!(r#"{{"startTimeUnixNano":"{start}000000","timeUnixNano":"{end}000000",{rest}}}"#);
    request(&format!(
        r#"{{"name":"n","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{}]}}}},
        {{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[{}]}}}},
        {{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{}]}}}}"#,
        point(r#""asInt":"3""#),
        point(r#""count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[2]"#),
        point(r#""count":"3","sum":4.5,"scale":0,"positive":{"bucketCounts":["3"]}"#),
    ))
}

#[tokio::test]
async fn totals_of_deltas_go_on_after_a_restart() {
    let harness = Harness::with(Config { target_info: false, ..Config::default() });
    harness.post("/api/v1/otlp/v1/metrics", JSON, deltas(1, 5)).await;
    harness.post("/api/v1/otlp/v1/metrics", JSON, deltas(5, 9)).await;
    // A new collector on the same storage.
    let (metrics, stored) = (Arc::<FakeMetrics>::clone(&harness.metrics), Arc::<FakeMetrics>::clone(&harness.metrics));
    let config = Config { target_info: false, ..Config::default() };
    let (collector, _, ledger) = collector_on(config, metrics, stored, Arc::new(KeptLogs::default()));
    for (start, end) in [(5, 9), (9, 12), (12, 15)] {
        post(collector.http_router(), "/api/v1/otlp/v1/metrics", JSON, deltas(start, end)).await;
    }
    expect![[r#"
        e{job="cart", otel_scope_name="lib", otel_scope_version="2"} {count:3, sum:4.5, (1,2]:3}@5 since 1 {count:6, sum:9, (1,2]:6}@9 since 1 {count:9, sum:13.5, (1,2]:9}@12 since 1 {count:12, sum:18, (1,2]:12}@15 since 1
        h_bucket{job="cart", le="+Inf", otel_scope_name="lib", otel_scope_version="2"} 3@5 since 1 6@9 since 1 9@12 since 1 12@15 since 1
        h_bucket{job="cart", le="2", otel_scope_name="lib", otel_scope_version="2"} 1@5 since 1 2@9 since 1 3@12 since 1 4@15 since 1
        h_count{job="cart", otel_scope_name="lib", otel_scope_version="2"} 3@5 since 1 6@9 since 1 9@12 since 1 12@15 since 1
        h_sum{job="cart", otel_scope_name="lib", otel_scope_version="2"} 4.5@5 since 1 9@9 since 1 13.5@12 since 1 18@15 since 1
        n_total{job="cart", otel_scope_name="lib", otel_scope_version="2"} 3@5 since 1 6@9 since 1 9@12 since 1 12@15 since 1
    "#]].assert_eq(&harness.samples());
    expect![[r#"
        otlp_http metrics: 9 = 6 + 3 delta_out_of_order
    "#]]
    .assert_eq(&ledger_text(&ledger));
}

#[tokio::test]
async fn bytes_that_are_no_text_cost_one_point() {
    let harness = Harness::with(Config { target_info: false, ..Config::default() });
    let gauge = |value: &str| {
        format!(
            r#"{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":"5000000","asDouble":1,"attributes":[
            {{"key":"k","value":{{"stringValue":"{value}"}}}}]}}]}}}}"#
        )
    };
    let request = request(&format!("{},{}", gauge("good"), gauge("BAAD")));
    let mut body = prost::Message::encode_to_vec(&collector_otlp::metrics_from_json(request.as_bytes()).unwrap());
    let at = body.windows(4).position(|four| four == b"BAAD").unwrap();
    body[at] = 0xff;
    let answer = harness.post("/api/v1/otlp/v1/metrics", PROTOBUF, body.clone()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer.text().contains("1 of 2 data points were not stored: 1 rejected (invalid_utf8)"),
        "{}",
        answer.text()
    );
    expect![[r#"
        m{job="cart", k="good", otel_scope_name="lib", otel_scope_version="2"} 1@5
    "#]]
    .assert_eq(&harness.samples());
    assert_eq!(harness.ledger(), "otlp_http metrics: 2 = 1 + 1 invalid_utf8\n");
    body.pop();
    let answer = harness.post("/api/v1/otlp/v1/metrics", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "what is cut off is no request");
}

#[tokio::test]
async fn a_histogram_that_storage_finds_at_fault_is_one_point() {
    let harness = Harness::with(Config { max_labels: 5, target_info: false, ..Config::default() });
    let point = |attributes: &str| {
        format!(
            r#"{{"timeUnixNano":"5000000","count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[2],"attributes":[{attributes}]}}"#
        )
    };
    let attribute = |key: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"v"}}}}"#);
    let histogram = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{},{},{}]}}}}"#,
        point(&format!("{},{},{}", attribute("a"), attribute("b"), attribute("c"))),
        point(&attribute("")),
        point(&attribute("a")),
    );
    let answer = harness.post("/api/v1/otlp/v1/metrics", JSON, request(&histogram)).await;
    assert!(answer.text().contains("2 of 3 data points were not stored"), "{}", answer.text());
    assert_eq!(harness.ledger(), "otlp_http metrics: 3 = 1 + 1 empty_label_name + 1 too_many_labels\n");
}

#[tokio::test]
async fn a_resource_that_came_before_keeps_its_target_info() {
    let harness = Harness::new();
    let gauge =
        |at: u32| format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":"{at}000000","asInt":1}}]}}}}"#);
    for at in [5, 6, 200_006] {
        let host = request(&gauge(at));
        let no_host = host.replace(r#""key":"host.name""#, r#""key":"service.instance.id""#);
        for request in [host, no_host] {
            let answer = harness.post("/api/v1/otlp/v1/metrics", JSON, request).await;
            assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}".to_owned()));
        }
    }
    expect![[r#"
        m{instance="h1", job="cart", otel_scope_name="lib", otel_scope_version="2"} 1@5 1@6 1@200006
        m{job="cart", otel_scope_name="lib", otel_scope_version="2"} 1@5 1@6 1@200006
        target_info{host_name="h1", job="cart"} 1@5 1@6 1@200006
    "#]]
    .assert_eq(&harness.samples());
    assert_eq!(harness.metrics.metadata(Some("target_info")).unwrap()[0].help, "Target metadata");
}

#[tokio::test]
async fn metadata_is_told_of_each_metric_and_again_when_it_changes() {
    let harness = Harness::new();
    let gauge = |help: &str| {
        format!(
            r#"{{"name":"m","unit":"s","description":"{help}","gauge":{{"dataPoints":[{{"timeUnixNano":"5000000","asInt":1}}]}}}}"#
        )
    };
    for help in ["One.", "One.", "Two."] {
        harness.post("/api/v1/otlp/v1/metrics", JSON, request(&gauge(help))).await;
        let known = harness.metrics.metadata(Some("m_seconds")).unwrap();
        assert_eq!((known[0].help.as_str(), known[0].unit.as_str()), (help, "seconds"));
    }
}
