//! OTLP over gRPC: a real client over a loopback listener, and frames by hand.

use std::sync::Arc;

use axum::http::StatusCode;
use collector::{Collector, Config};
use expect_test::expect;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use prost::Message;
use storage_api::Error;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Failing, Harness, collector, gzip, ledger_text, post};
use crate::otlp_http::{gauge_request, logs_request};

/// Serves the collector until the handle is dropped.
struct Served {
    channel: Channel,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(collector: &Collector) -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = collector.grpc_routes();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let channel = Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    Served { channel, server }
}

#[tokio::test]
async fn both_services_take_every_compression() {
    let harness = Harness::new();
    let served = serve(&harness.collector).await;
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut logs = LogsServiceClient::new(served.channel.clone());
        let mut metrics = MetricsServiceClient::new(served.channel.clone());
        if let Some(compression) = compression {
            logs = logs.send_compressed(compression).accept_compressed(compression);
            metrics = metrics.send_compressed(compression).accept_compressed(compression);
        }
        let answer = logs.export(logs_request(&["a", "b"])).await.unwrap().into_inner();
        assert_eq!(answer.partial_success, None);
        let answer = metrics.export(gauge_request(&[Some(1.0), Some(2.0)])).await.unwrap().into_inner();
        assert_eq!(answer.partial_success, None);
    }
    expect![[r#"
        temperature_celsius{job="cart"} 1@1 2@2
    "#]]
    .assert_eq(&harness.samples());
    expect![[r#"
        otlp_grpc logs: 6 = 6
        otlp_grpc metrics: 6 = 6
    "#]]
    .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn partial_success_and_limits_are_told() {
    let harness = Harness::with(Config { max_record_bytes: 300, max_decoded_bytes: 10_000, ..Config::default() });
    let served = serve(&harness.collector).await;
    let mut client = LogsServiceClient::new(served.channel.clone());
    let answer = client.export(logs_request(&["a", &"x".repeat(400)])).await.unwrap().into_inner();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 1);
    let error = client.export(logs_request(&[&"x".repeat(20_000)])).await.unwrap_err();
    assert_eq!((error.code(), error.details().len()), (Code::ResourceExhausted, 0), "no RetryInfo: do not retry");
    assert!(error.message().contains("over the limit of 10000 bytes"), "{}", error.message());
    let mut client = LogsServiceClient::new(served.channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let error = client.export(logs_request(&[&"x".repeat(20_000)])).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("decompressed"), "{}", error.message());
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcAny>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[tokio::test]
async fn overload_and_outage_come_with_retry_info() {
    for (fault, code) in [
        (Failing(|| Err(Error::Overloaded { what: "the head", used: 1, limit: 1 })), Code::ResourceExhausted),
        (Failing(|| Err(Error::DiskFull { attempt: "append".to_owned() })), Code::Unavailable),
    ] {
        let fault = Arc::new(fault);
        let config = Config { retry_after_s: 3, ..Config::default() };
        let (collector, _, ledger) = collector(config, Arc::<Failing>::clone(&fault), fault);
        let served = serve(&collector).await;
        let mut client = MetricsServiceClient::new(served.channel.clone());
        let error = client.export(gauge_request(&[Some(1.0)])).await.unwrap_err();
        assert_eq!(error.code(), code);
        let status = RpcStatus::decode(error.details()).unwrap();
        assert_eq!(status.code, i32::from(code));
        assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        assert_eq!(status.details[0].value, [0x0a, 2, 8, 3], "a retry_delay of 3 s");
        assert!(ledger_text(&ledger).starts_with("otlp_grpc metrics: 1 = 0 + 1 "));
    }
}

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

#[tokio::test]
async fn bad_frames_are_invalid_arguments() {
    let harness = Harness::new();
    let frame = |flag: u8, length: u32, message: &[u8]| [&[flag][..], &length.to_be_bytes(), message].concat();
    let message = logs_request(&["a"]).encode_to_vec();
    let length = message.len() as u32;
    let packed = gzip(&message);
    for (encoding, body, expected) in [
        ("identity", frame(0, length, &message), None),
        ("gzip", frame(1, packed.len() as u32, &packed), None),
        ("gzip", frame(0, length, &message), None),
        ("identity", frame(1, length, &message), Some("3")),
        ("identity", frame(0, length + 1, &message), Some("3")),
        ("identity", frame(0, length - 1, &message), Some("3")),
        ("identity", frame(2, length, &message), Some("3")),
        ("identity", frame(0, 4, &[0xff; 4]), Some("3")),
        ("gzip", frame(1, length, &message), Some("3")),
        ("identity", vec![0, 0], Some("3")),
        ("identity", vec![], Some("3")),
        ("lzma", frame(0, length, &message), Some("12")),
    ] {
        let headers = [("content-type", "application/grpc+proto"), ("te", "trailers"), ("grpc-encoding", encoding)];
        let answer = post(harness.collector.grpc_routes(), EXPORT, &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "gRPC's status is in grpc-status");
        let status = answer.headers.get("grpc-status").map(|status| status.to_str().unwrap());
        assert_eq!(status, expected, "{encoding}: {:?}", answer.headers.get("grpc-message"));
    }
    let answer = post(harness.collector.grpc_routes(), EXPORT, &[("content-type", "application/json")], "{}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let headers = [("content-type", "application/grpc")];
    let answer = post(harness.collector.grpc_routes(), "/x.TraceService/Export", &headers, vec![0; 5]).await;
    assert_eq!(answer.headers["grpc-status"], "12");
    expect!["otlp_grpc logs: 3 = 3\n"].assert_eq(&harness.ledger());
}
