//! The Prometheus HTTP API.

use crate::Services;

/// Returns the routes under `/api/v1`.
pub fn router(_services: Services) -> axum::Router {
    axum::Router::new()
}
