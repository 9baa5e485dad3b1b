//! What clients ask about the server, and the query's text for readers.

use std::sync::Arc;

use axum::extract;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::{TimeRange, Timestamp};
use query_logql::LinePattern;
use query_wire::loki::{BuildInfo, Pattern, Response};
use serde_json::json;
use storage_api::QueryContext;

use super::error::LokiError;
use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State, json_answer, json_bytes};

/// Loki's version whose API this is: clients switch features on by it.
const LOKI_VERSION: &str = "3.7.6";

/// Most templates in an answer.
const PATTERNS_MAX: usize = 300;

const SECOND_NS: i64 = 1_000_000_000;

/// Tells the version of Loki whose API this is.
pub(super) async fn buildinfo() -> Answer {
    let info = BuildInfo {
        version: LOKI_VERSION.to_owned(),
        revision: env!("CARGO_PKG_VERSION").to_owned(),
        branch: "daybook".to_owned(),
        ..BuildInfo::default()
    };
    Ok(json_answer(json_bytes(&info)?))
}

/// Tells what the exploring app may ask.
pub(super) async fn drilldown_limits(extract::State(state): extract::State<State>) -> Answer {
    let limits = &state.services.limits;
    let body = json!({
        "limits": {
            "discover_log_levels": true,
            "discover_service_name": ["service_name"],
            "log_level_fields": ["level", "severity", "lvl", "severity_text"],
            "max_query_bytes_read": format!("{}B", limits.bytes_max),
            "max_query_series": limits.series_max,
            "query_timeout": format!("{}s", limits.timeout.as_secs()),
            "volume_enabled": true,
            "volume_max_series": 1000,
        },
        "pattern_ingester_enabled": true,
        "version": LOKI_VERSION,
    });
    Ok(json_answer(json_bytes(&body)?))
}

/// Gives a query's text for readers.
pub(super) async fn format_query(params: Params) -> Answer {
    match query_logql::parse(params.get("query")) {
        Ok(expr) => Ok(json_answer(json_bytes(&Response::success(query_logql::layout(&expr)))?)),
        Err(error) => {
            let body = json!({"status": "invalid-query", "error": error.to_string()});
            Ok((StatusCode::BAD_REQUEST, json_answer(json_bytes(&body)?)).into_response())
        }
    }
}

/// Gives the templates of lines and how often each occurs by step, the commonest first.
pub(super) async fn patterns(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let log = query_logql::parse_log(params.get("query"))?;
    let (start_ns, end_ns) = params.bounds(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    let step_ns = params.step(start_ns, end_ns)?;
    if step_ns < SECOND_NS {
        return Err(LokiError::bad("step must be at least one second"));
    }
    let range = TimeRange::new(Timestamp(start_ns), Timestamp(end_ns.saturating_add(1)));
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let mined = query_logql::mine_patterns(&log, range, step_ns, logs.as_ref(), context)?;
        let pattern = |one: LinePattern| {
            let samples = one.samples.into_iter().map(|(at, count)| (at.div_euclid(SECOND_NS), count)).collect();
            Pattern { pattern: one.pattern, samples }
        };
        let patterns: Vec<Pattern> = mined.into_iter().take(PATTERNS_MAX).map(pattern).collect();
        json_bytes(&Response::success(patterns).with_warnings(context.take_warnings()))
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}
