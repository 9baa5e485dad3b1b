//! OTLP over gRPC: the two unary `Export` calls.
//!
//! The framing of a unary call is five bytes, and done here: messages are then read, decompressed and decoded by the
//! same limited steps, on the same threads, as on HTTP. tonic's server would decompress and decode on an I/O worker,
//! before the request's memory is known.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use tonic::{Code, Status};

use super::otlp::Format;
use super::otlp_http::{ENCODINGS, Service};
use super::tally::Outcome;
use super::text_response;
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, decompress, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::error::{Refusal, Result};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ENCODING_NAMES: &str = "identity, gzip, deflate or zstd";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<RpcAny>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RpcAny {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<RpcDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct RpcDuration {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

pub(super) async fn metrics(collector: Collector, request: Request) -> Response {
    handle(collector, request, Service::Metrics).await
}

pub(super) async fn logs(collector: Collector, request: Request) -> Response {
    handle(collector, request, Service::Logs).await
}

/// Answers calls of anything else.
pub(super) async fn unknown(State(_): State<Collector>, request: Request) -> Response {
    let path = cut(request.uri().path());
    status_response(Status::unimplemented(format!("{path} is not served here, only OTLP's Export of metrics and logs")))
}

async fn handle(collector: Collector, request: Request, service: Service) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let media_type = media_type(&parts.headers);
    if !matches!(media_type.as_str(), "application/grpc" | "application/grpc+proto") {
        body::drain(body.into_data_stream()).await;
        let got = cut(&media_type);
        let refusal = Refusal::MediaType { got, expected: "application/grpc" };
        collector.count_refusal(Place::OtlpGrpc, &refusal);
        let response = text_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &refusal.to_string());
        return collector.answered(Place::OtlpGrpc, started, response);
    }
    let (code, response) = match receive(&collector, &parts.headers, body, service).await {
        Ok(outcome) => (Code::Ok, message_response(&service.response(&outcome, Format::Protobuf))),
        Err(refusal) => {
            collector.count_refusal(Place::OtlpGrpc, &refusal);
            let status = refusal_status(&refusal, collector.0.config.retry_after_s);
            (status.code(), status_response(status))
        }
    };
    collector.count_answer(Place::OtlpGrpc, started, &i32::from(code).to_string());
    response
}

async fn receive(collector: &Collector, headers: &HeaderMap, body: Body, service: Service) -> Result<Outcome> {
    let name = body::header_text(headers, GRPC_ENCODING);
    let encoding = match Encoding::parse(name, &ENCODINGS, ENCODING_NAMES) {
        Ok(encoding) => encoding,
        Err(refusal) => {
            body::drain(body.into_data_stream()).await;
            return Err(refusal);
        }
    };
    let work = move |inner: &Inner, bytes: &[u8], admission: &mut Admission| {
        let (compressed, message) = unframe(bytes)?;
        if compressed && encoding == Encoding::Identity {
            let cause = "it is flagged as compressed, but grpc-encoding names no compression".to_owned();
            return Err(Refusal::Malformed { what: "the gRPC message", cause });
        }
        let encoding = if compressed { encoding } else { Encoding::Identity };
        inner.spaces.with(|space| {
            let message = decompress(message, encoding, inner.config.max_decoded_bytes, admission, space)?;
            service.store(inner, Place::OtlpGrpc, message, Format::Protobuf, admission)
        })
    };
    // The compression is the message's, not the body's.
    collector.ingest(Place::OtlpGrpc, body, Encoding::Identity, work).await
}

/// Returns the one message of a unary call, and whether it is compressed.
fn unframe(body: &[u8]) -> Result<(bool, &[u8])> {
    let malformed = |cause: String| Refusal::Malformed { what: "the gRPC frame", cause };
    let Some((&[flag, length @ ..], message)) = body.split_first_chunk::<5>() else {
        return Err(malformed(format!("it has {} bytes, a frame starts with 5", body.len())));
    };
    let length = u32::from_be_bytes(length) as usize;
    if length != message.len() {
        return Err(malformed(format!("it says {length} bytes, {} came", message.len())));
    }
    match flag {
        0 => Ok((false, message)),
        1 => Ok((true, message)),
        _ => Err(malformed(format!("its flag is {flag}"))),
    }
}

fn refusal_status(refusal: &Refusal, retry_after_s: u32) -> Status {
    let (_, code) = refusal.status();
    let message = refusal.to_string();
    if !refusal.retryable() {
        return Status::new(code, message);
    }
    let delay = RpcDuration { seconds: i64::from(retry_after_s), nanos: 0 };
    let info = RpcAny {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: RetryInfo { retry_delay: Some(delay) }.encode_to_vec(),
    };
    let details = RpcStatus { code: code.into(), message: message.clone(), details: vec![info] };
    Status::with_details(code, message, Bytes::from(details.encode_to_vec()))
}

fn status_response(status: Status) -> Response {
    let mut response = status.into_http::<Body>();
    response.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip,deflate,zstd"));
    response.into_response()
}

fn message_response(message: &[u8]) -> Response {
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let body = Body::new(Full::new(Bytes::from(frame)).with_trailers(trailers));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip,deflate,zstd"));
    response
}
