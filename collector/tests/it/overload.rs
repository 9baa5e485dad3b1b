//! Too much at a time, and storage that cannot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use collector::Config;
use expect_test::expect;
use model::Value;
use prost::Message as _;
use storage_api::fake::FakeLogs;
use storage_api::{AppendReport, Error, MetricAppender, MetricBatch};

use crate::harness::{
    Exemplar, Failing, Harness, PROTOBUF, REMOTE_WRITE, collector, label, ledger_text, post, series, snappy,
    write_request,
};
use crate::otlp_http::{gauge_request, logs_request};

/// Appends only once it is let go.
#[derive(Debug, Default)]
struct Held {
    entered: AtomicBool,
    free: Mutex<bool>,
    changed: Condvar,
}

impl MetricAppender for Held {
    fn append(&self, batch: &MetricBatch<'_>) -> storage_api::Result<AppendReport> {
        self.entered.store(true, Ordering::SeqCst);
        let mut free = self.free.lock().unwrap();
        while !*free {
            free = self.changed.wait(free).unwrap();
        }
        Ok(AppendReport { accepted: batch.samples_len() as u64, ..AppendReport::default() })
    }
}

fn body() -> Vec<u8> {
    snappy(&write_request(vec![series(&[("__name__", "a")], &[(1, 1.0)])]).encode_to_vec())
}

#[tokio::test]
async fn one_request_too_many_is_429_and_the_abandoned_one_still_counts() {
    let held = Arc::new(Held::default());
    let config = Config { max_concurrent_requests: 1, admission_timeout_ms: 10, retry_after_s: 7, ..Config::default() };
    let (collector, telemetry, ledger) = collector(config, Arc::<Held>::clone(&held), Arc::new(FakeLogs::default()));
    let router = collector.http_router();
    let first = tokio::spawn(post(router.clone(), "/api/v1/write", REMOTE_WRITE, body()));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !held.entered.load(Ordering::SeqCst) {
        assert!(tokio::time::Instant::now() < deadline, "the first request reaches storage");
        tokio::task::yield_now().await;
    }
    let answer = post(router.clone(), "/api/v1/write", REMOTE_WRITE, body()).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap()));
    assert_eq!(answer.text(), "overloaded, try again later: 1 requests are worked on, the limit is 1\n");

    // The client leaves; what it sent is stored and counted all the same.
    first.abort();
    *held.free.lock().unwrap() = true;
    held.changed.notify_all();
    let counted = async {
        while ledger_text(&ledger).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("the ledger counts the batch");
    assert_eq!(ledger_text(&ledger), "remote_write metrics: 1 = 1\n");
    assert!(telemetry.render().contains(r#"reason="overloaded"} 1"#));
}

#[tokio::test]
async fn bodies_over_the_limits_are_413_and_over_the_memory_429() {
    let harness = Harness::with(Config { max_body_bytes: 1000, max_decoded_bytes: 2000, ..Config::default() });
    let incompressible: Vec<u8> = (0..1100_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, incompressible).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.text(), "the body is over the limit of 1000 bytes\n");
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, snappy(&[0; 2001])).await;
    assert_eq!(answer.text(), "the decompressed body is over the limit of 2000 bytes\n");
    assert!(!answer.headers.contains_key("retry-after"), "a retry would not help");

    // Empty records cost two bytes on the wire and over a hundred in memory.
    let harness = Harness::with(Config { memory_bytes: 1 << 20, max_body_bytes: 100_000, ..Config::default() });
    let mut request = logs_request(&[]);
    request.resource_logs[0].scope_logs[0].log_records = vec![Default::default(); 40_000];
    let body = request.encode_to_vec();
    assert!(body.len() < 90_000);
    let answer = harness.post("/otlp/v1/logs", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text());

    // A large resource comes once, and is kept with each scope.
    let mut request = logs_request(&["x"]);
    let resource_logs = &mut request.resource_logs[0];
    let attribute = collector_otlp::attributes_to_otlp(vec![("big".to_owned(), Value::Str("x".repeat(10_000)))]);
    resource_logs.resource.as_mut().unwrap().attributes.extend(attribute);
    resource_logs.scope_logs = vec![resource_logs.scope_logs[0].clone(); 1000];
    let body = request.encode_to_vec();
    assert!(body.len() < 40_000);
    let answer = harness.post("/otlp/v1/logs", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text());
    assert_eq!(harness.lines(), "", "nothing of it is stored");

    // Points are read where they lie.
    let mut request = gauge_request(&[]);
    let metric = &mut request.resource_metrics[0].scope_metrics[0].metrics[0];
    if let Some(collector_otlp::proto::metrics::metric::Data::Gauge(gauge)) = &mut metric.data {
        gauge.data_points = vec![Default::default(); 40_000];
    }
    let answer = harness.post("/api/v1/otlp/v1/metrics", PROTOBUF, request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(harness.ledger(), "otlp_http metrics: 40000 = 0 + 40000 missing_timestamp\n");
    let held = harness.telemetry.render();
    assert!(held.contains("daybook_ingest_memory_bytes 0\n"), "all memory is given back: {held}");
}

#[tokio::test]
async fn storage_faults_have_their_status_and_every_record_is_counted() {
    type Fault = fn() -> storage_api::Result<AppendReport>;
    let cases: [(Fault, StatusCode, &str); 4] = [
        (
            || Err(Error::Overloaded { what: "the metrics head", used: 9, limit: 9 }),
            StatusCode::TOO_MANY_REQUESTS,
            "overloaded",
        ),
        (|| Err(Error::DiskFull { attempt: "append".to_owned() }), StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
        (|| Err(Error::Poisoned { reason: "fsync".to_owned() }), StatusCode::SERVICE_UNAVAILABLE, "poisoned"),
        (|| Err(Error::Closed), StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
    ];
    for (fault, status, reason) in cases {
        let (collector, telemetry, ledger) =
            collector(Config::default(), Arc::new(Failing(fault)), Arc::new(Failing(fault)));
        let router = collector.http_router();
        let logs = logs_request(&["a", "b"]).encode_to_vec();
        let metrics = gauge_request(&[Some(1.0)]).encode_to_vec();
        for (path, headers, body) in [
            ("/otlp/v1/logs", PROTOBUF, logs),
            ("/api/v1/otlp/v1/metrics", PROTOBUF, metrics),
            ("/api/v1/write", REMOTE_WRITE, body()),
        ] {
            let answer = post(router.clone(), path, headers, body).await;
            assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (status, true), "{path}");
        }
        let expected = format!(
            "otlp_http logs: 2 = 0 + 2 {reason}\notlp_http metrics: 1 = 0 + 1 {reason}\nremote_write metrics: 1 = 0 + 1 {reason}\n"
        );
        assert_eq!(ledger_text(&ledger), expected);
        assert!(telemetry.render().contains(&format!(r#"{{place="otlp_http",reason="{reason}"}} 2"#)));
    }
}

#[tokio::test]
async fn exemplars_of_a_batch_that_is_refused_are_counted() {
    let failing = || Arc::new(Failing(|| Err(Error::Closed)));
    let (collector, _, ledger) = collector(Config::default(), failing(), failing());
    let router = collector.http_router();
    let mut one = series(&[("__name__", "a")], &[(1, 1.0)]);
    let exemplar = |timestamp| Exemplar { labels: vec![label("trace_id", "a")], value: 1.0, timestamp };
    one.exemplars = vec![exemplar(1), exemplar(2)];
    let body = snappy(&write_request(vec![one]).encode_to_vec());
    let answer = post(router.clone(), "/api/v1/write", REMOTE_WRITE, body).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let gauge = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","gauge":{"dataPoints":[
        {"timeUnixNano":"5000000","asInt":"3","exemplars":[{"timeUnixNano":"4000000","asInt":"1"}]}]}}]}]}]}"#;
    let headers = [("content-type", "application/json")];
    assert_eq!(post(router, "/api/v1/otlp/v1/metrics", &headers, gauge).await.status, StatusCode::SERVICE_UNAVAILABLE);
    expect![[r#"
        otlp_http metrics: 2 = 0 + 1 exemplar_of_refused + 1 shutting_down
        remote_write metrics: 3 = 0 + 2 exemplar_of_refused + 1 shutting_down
    "#]]
    .assert_eq(&ledger_text(&ledger));
}

#[tokio::test]
async fn a_failed_batch_of_deltas_may_be_sent_again() {
    #[derive(Debug, Default)]
    struct FailsOnce(AtomicBool, storage_api::fake::FakeMetrics);
    impl MetricAppender for FailsOnce {
        fn append(&self, batch: &MetricBatch<'_>) -> storage_api::Result<AppendReport> {
            if self.0.swap(true, Ordering::SeqCst) { self.1.append(batch) } else { Err(Error::Closed) }
        }
    }
    let metrics = Arc::new(FailsOnce::default());
    let (collector, _, ledger) =
        collector(Config::default(), Arc::<FailsOnce>::clone(&metrics), Arc::new(FakeLogs::default()));
    let delta = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"n","sum":{"aggregationTemporality":1,
        "dataPoints":[{"timeUnixNano":"5000000","asInt":"3"}]}}]}]}]}"#;
    let headers = [("content-type", "application/json")];
    for expected in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK] {
        let answer = post(collector.otlp_http_router(), "/v1/metrics", &headers, delta).await;
        assert_eq!(answer.status, expected);
    }
    expect!["otlp_http metrics: 2 = 1 + 1 shutting_down\n"].assert_eq(&ledger_text(&ledger));
}

#[tokio::test]
async fn what_storage_rejects_is_told() {
    fn too_old() -> storage_api::Result<AppendReport> {
        let mut report = AppendReport { accepted: 1, ..AppendReport::default() };
        report.reject("too_old", 2, || "a sample of 1970 is older than the retention of 15d".to_owned());
        Ok(report)
    }
    let (collector, _, ledger) = collector(Config::default(), Arc::new(Failing(too_old)), Arc::new(Failing(too_old)));
    let request = write_request(vec![series(&[("__name__", "a")], &[(1, 1.0), (2, 1.0), (3, 1.0)])]);
    let answer = post(collector.http_router(), "/api/v1/write", REMOTE_WRITE, snappy(&request.encode_to_vec())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        2 of 3 samples were not stored: 2 rejected (too_old): a sample of 1970 is older than the retention of 15d
    "#]]
    .assert_eq(&answer.text());
    let answer =
        post(collector.http_router(), "/otlp/v1/logs", PROTOBUF, logs_request(&["a", "b", "c"]).encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK, "OTLP says it in the partial success");
    expect![[r#"
        otlp_http logs: 3 = 1 + 2 too_old
        remote_write metrics: 3 = 1 + 2 too_old
    "#]]
    .assert_eq(&ledger_text(&ledger));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408_and_gives_its_place_back() {
    let config = Config { max_concurrent_requests: 1, body_timeout_ms: 20, ..Config::default() };
    let harness = Harness::with(config);
    for _ in 0..2 {
        let stalled = axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let answer = harness.post("/api/v1/write", REMOTE_WRITE, stalled).await;
        assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(answer.text(), "the body did not arrive within 20 ms\n");
    }
    let broken = futures_util::stream::iter([Ok(vec![1_u8]), Err(std::io::Error::other("reset"))]);
    let answer = harness.post("/api/v1/write", REMOTE_WRITE, axum::body::Body::from_stream(broken)).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::BAD_REQUEST, "the body ended early: reset\n".to_owned()));
    assert!(harness.telemetry.render().contains("daybook_ingest_requests_in_flight 0\n"));
}

#[tokio::test]
async fn a_client_that_leaves_while_sending_is_counted() {
    let harness = Harness::new();
    let stalled = axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = harness.post("/api/v1/write", REMOTE_WRITE, stalled);
    assert!(tokio::time::timeout(Duration::from_millis(20), request).await.is_err());
    let text = harness.telemetry.render();
    assert!(text.contains(r#"daybook_refused_requests_total{place="remote_write",reason="client_gone"} 1"#), "{text}");
    assert!(text.contains("daybook_ingest_requests_in_flight 0\n"));
}

/// Sends a request head and so many bytes of its body over a real connection, and returns the answer.
async fn send_raw(address: std::net::SocketAddr, content_length: usize, sent: usize, close: bool) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-encoding: snappy\r\ncontent-length: {content_length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![0; 64 << 10];
    let mut left = sent;
    while left > 0 {
        let now = left.min(chunk.len());
        stream.write_all(&chunk[..now]).await.expect("the body is read to its end, though it is refused");
        left -= now;
    }
    if close {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_too_much_still_reads_the_answer() {
    let harness = Harness::with(Config { max_body_bytes: 1 << 20, ..Config::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = harness.collector.http_router();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let answer = send_raw(address, 16 << 20, 16 << 20, false).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert!(answer.contains("the body is over the limit of 1048576 bytes"), "{answer}");
    // One that closes in the middle of its body is counted.
    send_raw(address, 1000, 10, true).await;
    let text = harness.telemetry.render();
    let broken = ["body_broken", "client_gone"].map(|reason| format!("reason=\"{reason}\"}} 1"));
    assert!(broken.iter().any(|broken| text.contains(broken)), "{text}");
    server.abort();
}
