//! `status/…`, and the endpoints whose answer is always empty because nothing is scraped or alerted on here.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::DateTime;
use query_wire::prometheus::{BuildInfo, HeadStats, NameCount, RuntimeInfo, TsdbStatus};
use serde_json::json;
use storage_api::MillisRange;

use super::answer;
use super::params::Params;
use crate::Services;
use crate::error::Result;

/// The Prometheus release whose API is spoken; Grafana and others derive features from it.
const PROMETHEUS_VERSION: &str = "3.5.0";

/// How many entries each list of `status/tsdb` has where the client does not say.
const TOP: usize = 10;

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
    let started = rfc3339(services.started_ms);
    answer::success(
        RuntimeInfo {
            start_time: started.clone(),
            cwd: String::new(),
            hostname: String::new(),
            server_time: rfc3339(services.clock.now_millis()),
            reload_config_success: true,
            last_config_time: started,
            corruption_count: 0,
            goroutine_count: 0,
            go_max_procs: threads,
            go_mem_limit: 0,
            go_gc: String::new(),
            go_debug: String::new(),
            storage_retention: String::new(),
        },
        Vec::new(),
    )
}

pub(super) async fn flags(State(services): State<Services>) -> Result<Response> {
    let limits = &services.limits;
    let flags = BTreeMap::from([
        ("query.max-samples", limits.samples_max.to_string()),
        ("query.max-series", limits.series_max.to_string()),
        ("query.timeout", format!("{}s", limits.timeout.as_secs())),
        ("query.lookback-delta", "5m".to_owned()),
    ]);
    answer::success(flags, Vec::new())
}

pub(super) async fn config() -> Result<Response> {
    answer::success(json!({ "yaml": "" }), Vec::new())
}

pub(super) async fn rules() -> Result<Response> {
    answer::success(json!({ "groups": [] }), Vec::new())
}

pub(super) async fn alerts() -> Result<Response> {
    answer::success(json!({ "alerts": [] }), Vec::new())
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
    let limit = match params.limit("limit")? {
        usize::MAX => TOP,
        limit => limit,
    };
    let metrics = Arc::clone(&services.metrics);
    let work = move |context: &_| metrics.series(&[], MillisRange::ALL, context).map(|all| cardinality(&all, limit));
    let status = services.run(services.context(), work).await??;
    answer::success(status, Vec::new())
}

fn cardinality(all: &[model::Labels], limit: usize) -> TsdbStatus {
    let mut by_metric: HashMap<&str, u64> = HashMap::new();
    let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
    for labels in all {
        *by_metric.entry(labels.metric_name()).or_default() += 1;
        for pair in labels.iter() {
            *by_pair.entry(pair).or_default() += 1;
        }
    }
    let mut values: HashMap<&str, u64> = HashMap::new();
    let mut bytes: HashMap<&str, u64> = HashMap::new();
    for (name, value) in by_pair.keys() {
        *values.entry(name).or_default() += 1;
        *bytes.entry(name).or_default() += value.len() as u64;
    }
    let pairs = by_pair.len() as u64;
    let top = |counts: Vec<(String, u64)>| {
        let mut list: Vec<NameCount> = counts.into_iter().map(|(name, value)| NameCount { name, value }).collect();
        list.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
        list.truncate(limit);
        list
    };
    let owned = |counts: HashMap<&str, u64>| counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    TsdbStatus {
        head_stats: HeadStats { num_series: all.len() as u64, num_label_pairs: pairs, ..HeadStats::default() },
        series_count_by_metric_name: top(owned(by_metric)),
        label_value_count_by_label_name: top(owned(values)),
        memory_in_bytes_by_label_name: top(owned(bytes)),
        series_count_by_label_value_pair: top(by_pair
            .into_iter()
            .map(|((name, value), n)| (format!("{name}={value}"), n))
            .collect()),
    }
}
