//! Our own endpoints: the ledger and the administration of the store.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use query_wire::prometheus::{self, LedgerEntry};
use runtime::Ledger;
use storage::Storage;

use crate::server::Ground;

/// Returns `/api/v1/ledger` and `/api/v1/admin/flush`.
pub(super) fn router(storage: &Arc<Storage>, ground: &Ground) -> Router {
    let ledger = Router::new().route("/api/v1/ledger", get(entries)).with_state(ground.ledger.clone());
    Router::new()
        .route("/api/v1/admin/flush", post(flush).get(flush_needs_post))
        .with_state(Arc::clone(storage))
        .merge(ledger)
}

async fn entries(State(ledger): State<Ledger>) -> Json<prometheus::Response<Vec<LedgerEntry>>> {
    let entry = |entry: runtime::LedgerEntry| LedgerEntry {
        place: entry.place,
        signal: entry.signal,
        received: entry.received,
        accepted: entry.accepted,
        dropped: entry.dropped.into_iter().collect(),
    };
    Json(prometheus::Response::success(ledger.entries().into_iter().map(entry).collect()))
}

/// Writes all data in its final form to disk, and answers when that is done.
async fn flush(State(storage): State<Arc<Storage>>) -> Response {
    let flushed = tokio::task::spawn_blocking(move || storage.flush_and_settle()).await;
    match flushed {
        Ok(Ok(())) => Json(prometheus::Response::success(())).into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "flush failed");
            let status = match error {
                storage_api::Error::DiskFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            failure(status, &error.to_string())
        }
        Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "the flush panicked"),
    }
}

async fn flush_needs_post() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, "use POST")
}

fn failure(status: StatusCode, why: &str) -> Response {
    (status, Json(prometheus::Response::<()>::failure("internal", why))).into_response()
}
