//! `status/…`, and the endpoints whose answer is always empty because nothing is scraped or alerted on here.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::DateTime;
use query_promql::functions::FUNCTIONS;
use query_wire::prometheus::{BuildInfo, RuntimeInfo};
use serde_json::json;

use super::params::{Params, invalid};
use super::{answer, cardinality};
use crate::Services;
use crate::error::{Error, Result};

/// The Prometheus release whose API is spoken; Grafana and others derive features from it.
const PROMETHEUS_VERSION: &str = "3.5.0";

/// How many entries each list of `status/tsdb` has where the client does not say.
const TOP: usize = 10;

/// How many entries a client may ask for, as in Prometheus.
const TOP_MAX: usize = 10_000;

pub(super) async fn build_info() -> Result<Response> {
    answer::success(
        BuildInfo {
            version: PROMETHEUS_VERSION.to_owned(),
            revision: format!("daybook-{}", env!("CARGO_PKG_VERSION")),
            branch: String::new(),
            build_user: String::new(),
            build_date: String::new(),
            go_version: String::new(),
        },
        Vec::new(),
    )
}

fn rfc3339(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
        .unwrap_or_default()
}

pub(super) async fn runtime_info(State(services): State<Services>) -> Result<Response> {
    let threads = i64::try_from(services.cpu.threads()).unwrap_or(i64::MAX);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let started = rfc3339(services.started_ms);
    let facts = &services.facts;
    answer::success(
        RuntimeInfo {
            start_time: started.clone(),
            cwd: facts.working_dir.clone(),
            hostname: facts.host_name.clone(),
            server_time: rfc3339(services.clock.now_millis()),
            reload_config_success: true,
            last_config_time: started,
            corruption_count: 0,
            goroutine_count: i64::try_from(tasks).unwrap_or(i64::MAX),
            go_max_procs: threads,
            go_mem_limit: facts.memory_limit_bytes,
            go_gc: String::new(),
            go_debug: String::new(),
            storage_retention: facts.retention.clone(),
        },
        Vec::new(),
    )
}

pub(super) async fn flags(State(services): State<Services>) -> Result<Response> {
    answer::success(&services.facts.flags, Vec::new())
}

pub(super) async fn config(State(services): State<Services>) -> Result<Response> {
    answer::success(json!({ "yaml": services.facts.config_yaml }), Vec::new())
}

/// There are no rules; the request is checked all the same.
pub(super) async fn rules(params: Params) -> Result<Response> {
    let kind = params.get("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(invalid("type", format!("not supported value {kind:?}")));
    }
    params.selectors()?;
    answer::success(json!({ "groups": [] }), Vec::new())
}

pub(super) async fn alerts() -> Result<Response> {
    answer::success(json!({ "alerts": [] }), Vec::new())
}

pub(super) async fn notifications() -> Result<Response> {
    answer::success(json!([]), Vec::new())
}

/// The log was replayed before the first request could be answered.
pub(super) async fn wal_replay() -> Result<Response> {
    answer::success(json!({ "min": 0, "max": 0, "current": 0 }), Vec::new())
}

/// What is there of what a Prometheus may have, in its words.
pub(super) async fn features() -> Result<Response> {
    let functions: serde_json::Map<_, _> =
        FUNCTIONS.iter().map(|function| (function.name.to_owned(), json!(true))).collect();
    let features = json!({
        "api": {
            "admin": true, "exemplars": true, "federation": true, "label_values_match": true, "otlp_write_receiver": true,
            "query_stats": true, "query_warnings": true, "remote_read": true, "remote_write_receiver": true,
            "time_range_labels": true, "time_range_series": true,
        },
        "promql": {
            "anchored": true, "at_modifier": true, "bool": true, "by": true, "delayed_name_removal": true,
            "duration_expr": true, "group_left": true, "group_right": true, "ignoring": true, "negative_offset": true,
            "offset": true, "on": true, "per_query_lookback_delta": true, "per_step_stats": true, "smoothed": true,
            "subqueries": true, "type_and_unit_labels": true, "without": true,
        },
        "promql_functions": functions,
    });
    answer::success(features, Vec::new())
}

pub(super) async fn targets() -> Result<Response> {
    answer::success(json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }), Vec::new())
}

pub(super) async fn targets_metadata() -> Result<Response> {
    answer::success(json!([]), Vec::new())
}

pub(super) async fn scrape_pools() -> Result<Response> {
    answer::success(json!({ "scrapePools": [] }), Vec::new())
}

pub(super) async fn alertmanagers() -> Result<Response> {
    answer::success(json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }), Vec::new())
}

/// Counts series by metric, label and pair, over everything that is stored.
pub(super) async fn tsdb(State(services): State<Services>, params: Params) -> Result<Response> {
    let limit = match params.get("limit") {
        "" => TOP,
        text => text
            .parse()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| Error::BadData("limit must be a positive number".to_owned()))?,
    };
    if limit > TOP_MAX {
        return Err(Error::BadData(format!("limit must not exceed {TOP_MAX}")));
    }
    let metrics = Arc::clone(&services.metrics);
    let context = services.context();
    let notes = context.clone();
    let status = services.run(context, move |context| cardinality::count(&*metrics, limit, context)).await??;
    answer::success(status, notes.take_warnings())
}
