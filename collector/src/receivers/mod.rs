//! One file per protocol, and the table of paths.

mod log_intake;
mod loki_labels;
mod loki_push;
mod otlp;
mod otlp_grpc;
mod otlp_http;
mod otlp_logs;
mod otlp_metrics;
mod remote_write;
mod tally;
mod write_request;

use std::future::Future;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::collector::Collector;
use crate::error::Refusal;

pub(crate) use otlp_metrics::Memory as OtlpMetricsMemory;
pub(crate) use write_request::SymbolKeys;

pub(crate) fn main_routes(collector: Collector) -> Router {
    Router::new()
        .route("/api/v1/write", at(remote_write::handle))
        .route("/api/v1/otlp/v1/metrics", at(otlp_http::metrics))
        .route("/otlp/v1/logs", at(otlp_http::logs))
        .route("/loki/api/v1/push", at(loki_push::handle))
        .with_state(collector)
}

pub(crate) fn otlp_http_routes(collector: Collector) -> Router {
    Router::new()
        .route("/v1/metrics", at(otlp_http::metrics))
        .route("/v1/logs", at(otlp_http::logs))
        .with_state(collector)
}

pub(crate) fn grpc_routes(collector: Collector) -> Router {
    Router::new()
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", at(otlp_grpc::metrics))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", at(otlp_grpc::logs))
        .fallback(otlp_grpc::unknown)
        .with_state(collector)
}

fn at<H, F>(handler: H) -> axum::routing::MethodRouter<Collector>
where
    H: Fn(Collector, Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    post(move |State(collector): State<Collector>, request: Request| handler(collector, request))
}

/// Answers with a line of text.
fn text_response(status: StatusCode, text: &str) -> Response {
    (
        status,
        [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")],
        format!("{text}\n"),
    )
        .into_response()
}

/// Tells a client that may retry when to.
fn add_retry_after(response: &mut Response, refusal: &Refusal, retry_after_s: u32) {
    if refusal.retryable() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
    }
}
