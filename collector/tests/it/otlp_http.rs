//! OTLP over HTTP.

use axum::http::StatusCode;
use collector::Config;
use collector_otlp::metrics::{Instrument, MetricsBuilder, Number, NumberPoint};
use collector_otlp::proto::{
    ExportLogsServiceRequest, ExportLogsServiceResponse, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use collector_otlp::{ScopedLogs, logs_to_otlp};
use expect_test::expect;
use model::{LogRecord, Resource, Scope, Timestamp, Value};
use prost::Message as _;

use crate::harness::{Harness, JSON, PROTOBUF, gzip, post};

pub(crate) fn logs_request(lines: &[&str]) -> ExportLogsServiceRequest {
    let resource = Resource {
        attributes: vec![
            ("service.name".to_owned(), Value::from("cart")),
            ("process.pid".to_owned(), Value::Int(7)),
            ("host.name".to_owned(), Value::from("h1")),
        ],
        ..Resource::default()
    };
    let record = |(i, line): (usize, &&str)| LogRecord {
        timestamp: Timestamp(1000 + i as i64),
        body: Value::from(*line),
        ..LogRecord::default()
    };
    let records = lines.iter().enumerate().map(record).collect();
    logs_to_otlp([ScopedLogs { resource: resource.into(), records, ..ScopedLogs::default() }])
}

pub(crate) fn gauge_request(values: &[Option<f64>]) -> ExportMetricsServiceRequest {
    let resource =
        Resource { attributes: vec![("service.name".to_owned(), Value::from("cart"))], ..Resource::default() };
    let mut builder = MetricsBuilder::new(&resource, &Scope::default());
    let points = values.iter().enumerate().map(|(i, value)| NumberPoint {
        attributes: Vec::new(),
        start: Timestamp(0),
        timestamp: Timestamp((i as i64 + 1) * 1_000_000),
        value: value.map(Number::Double),
    });
    builder.gauge(&Instrument { name: "temperature", unit: "Cel", ..Instrument::default() }, points);
    builder.build()
}

#[tokio::test]
async fn both_signals_arrive_on_both_ports() {
    let harness = Harness::new();
    let router = harness.collector.otlp_http_router();
    let metrics = gauge_request(&[Some(1.5), None]).encode_to_vec();
    let answer = post(router.clone(), "/v1/metrics", PROTOBUF, metrics.clone()).await;
    assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, &b""[..]));
    assert_eq!(answer.headers["content-type"], "application/x-protobuf");
    assert_eq!(harness.post("/api/v1/otlp/v1/metrics", PROTOBUF, metrics).await.status, StatusCode::OK);
    expect![[r#"
        temperature_celsius{job="cart"} 1.5@1 stale@2
    "#]]
    .assert_eq(&harness.samples());

    let logs = logs_request(&["a", "b"]).encode_to_vec();
    assert_eq!(post(router, "/v1/logs", PROTOBUF, logs.clone()).await.status, StatusCode::OK);
    assert_eq!(harness.post("/otlp/v1/logs", PROTOBUF, logs).await.status, StatusCode::OK);
    expect![[r#"
        {host_name="h1", service_name="cart"} 1000 a
        {host_name="h1", service_name="cart"} 1000 a
        {host_name="h1", service_name="cart"} 1001 b
        {host_name="h1", service_name="cart"} 1001 b
    "#]]
    .assert_eq(&harness.lines());
    expect![[r#"
        otlp_http logs: 4 = 4
        otlp_http metrics: 4 = 4
    "#]]
    .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn the_record_is_kept_whole() {
    let harness = Harness::new();
    let request = logs_request(&["a"]);
    harness.post("/otlp/v1/logs", PROTOBUF, request.encode_to_vec()).await;
    let batches = harness.logs.batches.lock().unwrap();
    let group = &batches[0].groups[0];
    assert_eq!(group.resource.get("process.pid"), Some(&Value::Int(7)));
    assert_eq!(group.records[0].observed_timestamp, Timestamp(0), "nothing is made up: a retry stays byte-equal");
}

#[tokio::test]
async fn compressed_bodies_are_taken() {
    let harness = Harness::new();
    let body = logs_request(&["a"]).encode_to_vec();
    let zstd = zstd::encode_all(body.as_slice(), 3).unwrap();
    for (encoding, body) in [("gzip", gzip(&body)), ("zstd", zstd), ("identity", body)] {
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        let answer = harness.post("/otlp/v1/logs", &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{encoding}: {}", answer.text());
    }
    expect!["otlp_http logs: 3 = 3\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn json_is_answered_with_json() {
    let harness = Harness::new();
    let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
        {"name":"a","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1000000","asInt":"3"}]}},
        {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000","scale":-9},{}]}}]}]}]}"#;
    let answer = harness.post("/api/v1/otlp/v1/metrics", JSON, body).await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    expect![[r#"{"partialSuccess":{"errorMessage":"2 of 3 data points were not stored: 1 rejected (histogram_scale_too_low): a point of \"e\" has the scale -9, the least is -4; 1 rejected (missing_timestamp): a point of \"e\" has no timestamp","rejectedDataPoints":"2"}}"#]].assert_eq(&answer.text());
    let answer = harness
        .post(
            "/otlp/v1/logs",
            JSON,
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#,
        )
        .await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "{}".to_owned()));
    let answer = harness
        .post("/otlp/v1/logs", JSON, r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"zz"}]}]}]}"#)
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"{"code":3,"message":"the OTLP logs request cannot be decoded: an id that is not in hex at line 1 column 62"}"#]]
        .assert_eq(&answer.text());
    expect![[r#"
        {service_name="unknown_service"} 0 x
    "#]]
    .assert_eq(&harness.lines());
    expect![[r#"
        otlp_http logs: 1 = 1
        otlp_http metrics: 3 = 1 + 1 histogram_scale_too_low + 1 missing_timestamp
    "#]]
    .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn partial_success_is_truthful_record_by_record() {
    let harness = Harness::with(Config { max_record_bytes: 1000, max_attributes: 4, ..Config::default() });
    let long = "x".repeat(1000);
    let mut request = logs_request(&["a", &long, "b", "c"]);
    let records = &mut request.resource_logs[0].scope_logs[0].log_records;
    records[2].attributes = vec![Default::default(); 5];
    records[3].time_unix_nano = u64::MAX;
    let answer = harness.post("/otlp/v1/logs", PROTOBUF, request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = ExportLogsServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 3);
    for reason in ["record_too_large", "too_many_attributes", "timestamp_out_of_range"] {
        assert!(partial.error_message.contains(reason), "{}", partial.error_message);
    }
    expect!["otlp_http logs: 4 = 1 + 1 record_too_large + 1 timestamp_out_of_range + 1 too_many_attributes\n"]
        .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn deltas_add_up_and_a_repeat_is_refused_by_name() {
    let harness = Harness::new();
    let delta = |start: u64, end: u64| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"n","sum":{{"aggregationTemporality":1,"isMonotonic":true,
            "dataPoints":[{{"startTimeUnixNano":"{start}000000","timeUnixNano":"{end}000000","asInt":"3"}}]}}}}]}}]}}]}}"#
        )
    };
    for (start, end) in [(1, 5), (5, 9), (5, 9)] {
        harness.post("/api/v1/otlp/v1/metrics", JSON, delta(start, end)).await;
    }
    assert_eq!(harness.samples(), "n_total 3@5 since 1 6@9 since 1\n");
    expect!["otlp_http metrics: 3 = 2 + 1 delta_out_of_order\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn a_target_over_the_limit_is_told_and_the_points_are_kept() {
    let harness = Harness::new();
    let mut request = gauge_request(&[Some(1.0)]);
    let attribute = collector_otlp::attributes_to_otlp(vec![("big".to_owned(), Value::Str("x".repeat(20_000)))]);
    request.resource_metrics[0].resource.as_mut().unwrap().attributes.extend(attribute);
    let answer = harness.post("/api/v1/otlp/v1/metrics", PROTOBUF, request.encode_to_vec()).await;
    let partial = ExportMetricsServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 0);
    assert!(partial.error_message.contains("target_info"), "{}", partial.error_message);
    assert_eq!(harness.samples(), "temperature_celsius{job=\"cart\"} 1@1\n");
    expect!["otlp_http metrics: 2 = 1 + 1 label_value_too_long\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn a_wrong_content_type_is_415_and_an_empty_batch_is_fine() {
    let harness = Harness::new();
    let answer = harness.post("/otlp/v1/logs", &[("content-type", "text/plain")], "x").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(harness.post("/otlp/v1/logs", &[], "x").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let headers = [("content-type", "application/x-protobuf; charset=utf-8")];
    let answer = harness.post("/otlp/v1/logs", &headers, "").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    assert!(harness.logs.batches.lock().unwrap().is_empty(), "nothing is no batch");
}

#[tokio::test]
async fn a_record_that_is_no_text_is_refused_alone_and_invalid_fields_are_counted() {
    let harness = Harness::new();
    let mut request = logs_request(&["good", "BAAD", "odd"]);
    let record = &mut request.resource_logs[0].scope_logs[0].log_records[2];
    record.severity_number = 99;
    record.trace_id = vec![1; 3];
    let mut body = request.encode_to_vec();
    let at = body.windows(4).position(|four| four == b"BAAD").unwrap();
    body[at] = 0xff;
    let answer = harness.post("/otlp/v1/logs", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let partial = ExportLogsServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    expect!["otlp_http logs: 3 = 2 + 1 invalid_utf8\n"].assert_eq(&harness.ledger());
    let told = harness.telemetry.render();
    for field in ["severity_number", "trace_id"] {
        let line = format!("daybook_ingest_invalid_fields_total{{field=\"{field}\"}} 1\n");
        assert!(told.contains(&line), "{told}");
    }
}
