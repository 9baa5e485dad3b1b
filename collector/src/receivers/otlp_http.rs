//! OTLP over HTTP: protobuf or JSON, answers in the same form.

use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use collector_otlp::proto::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse, ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message as _;

use super::otlp::{self, Format};
use super::otlp_grpc::RpcStatus;
use super::otlp_metrics;
use super::tally::{Outcome, is_of_exemplars};
use super::{add_retry_after, text_response};
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, header_text, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::error::{Refusal, Result};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The compressions taken.
pub(crate) const ENCODINGS: [Encoding; 4] = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

/// Which of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Metrics,
    Logs,
}

pub(super) async fn metrics(collector: Collector, request: Request) -> Response {
    handle(collector, request, Service::Metrics).await
}

pub(super) async fn logs(collector: Collector, request: Request) -> Response {
    handle(collector, request, Service::Logs).await
}

async fn handle(collector: Collector, request: Request, service: Service) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let format = format(&parts.headers);
    let result = match format.clone() {
        Ok(format) => receive(&collector, &parts.headers, body, format, service).await,
        Err(refusal) => {
            body::drain(body.into_data_stream()).await;
            Err(refusal)
        }
    };
    let response = match (result, format) {
        (Ok(outcome), Ok(format)) => accepted(&service.response(&outcome, format), format),
        (Ok(_), Err(refusal)) => refused(&refusal, None, &collector),
        (Err(refusal), format) => {
            collector.count_refusal(Place::OtlpHttp, &refusal);
            refused(&refusal, format.ok(), &collector)
        }
    };
    collector.answered(Place::OtlpHttp, started, response)
}

async fn receive(
    collector: &Collector,
    headers: &HeaderMap,
    body: Body,
    format: Format,
    service: Service,
) -> Result<Outcome> {
    let name = header_text(headers, header::CONTENT_ENCODING);
    let encoding = match Encoding::parse(name, &ENCODINGS, "identity, gzip, deflate or zstd") {
        Ok(encoding) => encoding,
        Err(refusal) => {
            body::drain(body.into_data_stream()).await;
            return Err(refusal);
        }
    };
    let work = move |inner: &Inner, bytes: &[u8], admission: &mut Admission| {
        service.store(inner, Place::OtlpHttp, bytes, format, admission)
    };
    collector.ingest(Place::OtlpHttp, body, encoding, work).await
}

fn format(headers: &HeaderMap) -> Result<Format> {
    match media_type(headers).as_str() {
        PROTOBUF => Ok(Format::Protobuf),
        JSON => Ok(Format::Json),
        other => Err(Refusal::MediaType { got: cut(other), expected: "application/x-protobuf or application/json" }),
    }
}

impl Service {
    /// Decodes and stores a request's body.
    pub(crate) fn store(
        self,
        inner: &Inner,
        place: Place,
        body: &[u8],
        format: Format,
        admission: &mut Admission,
    ) -> Result<Outcome> {
        match self {
            Self::Metrics => otlp_metrics::metrics(inner, place, body, format, admission),
            Self::Logs => otlp::logs(inner, place, body, format, admission),
        }
    }

    /// Returns the response message; `partial_success` is there only when something is to be told.
    pub(crate) fn response(self, outcome: &Outcome, format: Format) -> Vec<u8> {
        let rejected = i64::try_from(outcome.rejected()).unwrap_or(i64::MAX);
        let noun = match self {
            Self::Metrics => "data points",
            Self::Logs => "log records",
        };
        // Exemplars are counted, but would make every answer of some senders a partial success.
        let error_message = outcome.message(noun, |beside| !is_of_exemplars(beside.reason));
        let told = !error_message.is_empty();
        match (self, format) {
            (Self::Metrics, Format::Protobuf) => {
                let partial_success =
                    told.then_some(ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message });
                ExportMetricsServiceResponse { partial_success }.encode_to_vec()
            }
            (Self::Logs, Format::Protobuf) => {
                let partial_success =
                    told.then_some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message });
                ExportLogsServiceResponse { partial_success }.encode_to_vec()
            }
            (_, Format::Json) if !told => b"{}".to_vec(),
            (service, Format::Json) => {
                let field = match service {
                    Self::Metrics => "rejectedDataPoints",
                    Self::Logs => "rejectedLogRecords",
                };
                let rejected = rejected.to_string();
                serde_json::json!({"partialSuccess": {field: rejected, "errorMessage": error_message}})
                    .to_string()
                    .into_bytes()
            }
        }
    }
}

fn accepted(message: &[u8], format: Format) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type(format))], message.to_vec()).into_response()
}

/// Answers with `google.rpc.Status` in the client's format; as text when that is unknown.
fn refused(refusal: &Refusal, format: Option<Format>, collector: &Collector) -> Response {
    let (status, code) = refusal.status();
    let rpc = RpcStatus { code: code.into(), message: refusal.to_string(), details: Vec::new() };
    let mut response = match format {
        None => text_response(status, &rpc.message),
        Some(format @ Format::Protobuf) => {
            (status, [(header::CONTENT_TYPE, content_type(format))], rpc.encode_to_vec()).into_response()
        }
        Some(format @ Format::Json) => {
            let body = serde_json::json!({"code": rpc.code, "message": rpc.message}).to_string();
            (status, [(header::CONTENT_TYPE, content_type(format))], body).into_response()
        }
    };
    add_retry_after(&mut response, refusal, collector.0.config.retry_after_s);
    response
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Protobuf => PROTOBUF,
        Format::Json => JSON,
    }
}
