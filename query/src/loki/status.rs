//! What clients ask about the server, and the query's canonical text.

use axum::extract;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use query_wire::loki::{BuildInfo, Pattern, Response};
use serde_json::json;

use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State, json_answer, json_bytes};

/// Loki's version whose API this is: clients switch features on by it.
const LOKI_VERSION: &str = "3.7.6";

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
            "log_level_fields": ["severity_text", "level"],
            "max_query_bytes_read": format!("{}B", limits.bytes_max),
            "max_query_series": limits.series_max,
            "query_timeout": format!("{}s", limits.timeout.as_secs()),
            "volume_enabled": true,
            "volume_max_series": 1000,
        },
        "pattern_ingester_enabled": false,
        "version": LOKI_VERSION,
    });
    Ok(json_answer(json_bytes(&body)?))
}

/// Gives a query's canonical text.
pub(super) async fn format_query(params: Params) -> Answer {
    match query_logql::parse(params.get("query")) {
        Ok(expr) => Ok(json_answer(json_bytes(&Response::success(expr.to_string()))?)),
        Err(error) => {
            let body = json!({"status": "invalid-query", "error": error.to_string()});
            Ok((StatusCode::BAD_REQUEST, json_answer(json_bytes(&body)?)).into_response())
        }
    }
}

/// Gives the templates of lines. None are mined, so there are none; the request is checked all the same.
pub(super) async fn patterns(extract::State(state): extract::State<State>, params: Params) -> Answer {
    super::labels::selector(params.get("query"))?;
    params.bounds(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    Ok(json_answer(json_bytes(&Response::success(Vec::<Pattern>::new()))?))
}
