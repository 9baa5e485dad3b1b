//! The Prometheus HTTP API under `/api/v1`, and `/federate`.

mod admin;
mod answer;
mod cardinality;
mod exemplars;
mod federate;
mod params;
mod plain;
mod query;
mod read;
mod series;
mod stats;
mod status;
#[cfg(test)]
mod tests;
mod tree;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::Services;

/// Largest form body, in bytes, as in Prometheus.
const FORM_BYTES_MAX: usize = 10 << 20;

/// Returns the routes under `/api/v1`. Those that take many parameters take them as a form body, too.
pub fn router(services: Services) -> Router {
    Router::new()
        .route("/federate", get(federate::federate))
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/api/v1/format_query", get(query::format).post(query::format))
        .route("/api/v1/parse_query", get(query::parse_tree).post(query::parse_tree))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::label_names).post(series::label_names))
        .route("/api/v1/label/{name}/values", get(series::label_values))
        .route("/api/v1/metadata", get(series::metadata))
        .route("/api/v1/rules", get(status::rules))
        .route("/api/v1/alerts", get(status::alerts))
        .route("/api/v1/targets", get(status::targets))
        .route("/api/v1/targets/metadata", get(status::targets_metadata))
        .route("/api/v1/scrape_pools", get(status::scrape_pools))
        .route("/api/v1/alertmanagers", get(status::alertmanagers))
        .route("/api/v1/status/buildinfo", get(status::build_info))
        .route("/api/v1/status/runtimeinfo", get(status::runtime_info))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/tsdb", get(status::tsdb))
        .route("/api/v1/status/walreplay", get(status::wal_replay))
        .route("/api/v1/notifications", get(status::notifications))
        .route("/api/v1/features", get(status::features))
        .route("/api/v1/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
        .route("/api/v1/admin/tsdb/clean_tombstones", post(admin::clean_tombstones).put(admin::clean_tombstones))
        .route("/api/v1/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot))
        .route_layer(crate::compress::layer())
        // Bytes that are compressed already, and frames that should come one by one.
        .route("/api/v1/read", post(read::read))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(services)
}
