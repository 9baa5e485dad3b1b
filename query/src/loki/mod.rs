//! The Loki HTTP API, under `/loki/api/v1`.
//!
//! Each route takes GET and form POST. Errors are plain text with Loki's status, as its clients expect. Work runs on the
//! CPU pool under the service's limits, serialisation included.

mod context;
mod delete;
mod detected;
mod encode;
mod error;
mod export;
mod export_line;
mod index;
mod labels;
mod params;
mod plan;
mod query;
mod status;
mod tail;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::Services;
use error::LokiError;
pub(crate) use tail::TailTelemetry;

/// Most readers that may follow at a time.
const TAILS_MAX: usize = 128;

/// What every handler needs.
#[derive(Debug, Clone)]
struct State {
    services: Services,
    tails: Arc<Semaphore>,
}

type Answer = Result<Response, LokiError>;

/// Answers GET and POST alike.
fn both<H, T>(handler: H) -> MethodRouter<State>
where
    H: axum::handler::Handler<T, State>,
    T: 'static,
{
    get(handler.clone()).post(handler)
}

/// Returns the routes under `/loki/api/v1`, and our own under `/api/v1/logs`.
pub fn router(services: Services) -> Router {
    let state = State { services, tails: Arc::new(Semaphore::new(TAILS_MAX)) };
    let routes = Router::new()
        .route("/query_range", both(query::query_range))
        .route("/query", both(query::query))
        .route("/labels", both(labels::labels))
        .route("/label", both(labels::labels))
        .route("/label/{name}/values", both(labels::values))
        .route("/series", both(labels::series))
        .route("/index/stats", both(index::stats))
        .route("/index/volume", both(index::volume))
        .route("/index/volume_range", both(index::volume_range))
        .route("/detected_labels", both(detected::labels))
        .route("/detected_fields", both(detected::fields))
        .route("/detected_field/{name}/values", both(detected::field_values))
        .route("/patterns", both(status::patterns))
        .route("/delete", get(delete::list).post(delete::create).put(delete::create).delete(delete::cancel))
        .route("/format_query", both(status::format_query))
        .route("/status/buildinfo", get(status::buildinfo))
        .route("/drilldown-limits", get(status::drilldown_limits))
        .route_layer(crate::compress::layer())
        // A websocket is no body that could be compressed.
        .route("/tail", get(tail::tail))
        .with_state(state.clone());
    let own = Router::new()
        .route("/api/v1/logs/context", both(context::context))
        .route_layer(crate::compress::layer())
        // Its pieces go out as they are made, so that each can be resumed from.
        .route("/api/v1/logs/export", both(export::export))
        .with_state(state);
    Router::new().nest("/loki/api/v1", routes).merge(own)
}

/// Makes JSON's bytes; called on the CPU pool.
fn json_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, LokiError> {
    serde_json::to_vec(value).map_err(|error| LokiError::internal(error.to_string()))
}

/// Answers with JSON's bytes.
fn json_answer(bytes: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json; charset=UTF-8");
    ([(header::CONTENT_TYPE, json)], Body::from(bytes)).into_response()
}
