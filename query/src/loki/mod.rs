//! The Loki HTTP API.

use crate::Services;

/// Returns the routes under `/loki/api/v1`.
pub fn router(_services: Services) -> axum::Router {
    axum::Router::new()
}
