//! `query` and `query_range`.

use axum::extract;
use model::{TimeRange, Timestamp};
use query_logql::{Expr, LogExpr, LogQuery, MetricExpr, Steps};
use query_wire::loki::{QueryResult, Response};

use super::error::LokiError;
use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State, encode, json_answer, json_bytes, plan};

/// Most steps of a range query, as Loki has it.
const STEPS_MAX: usize = 11_000;

/// Answers a query over a range.
pub(super) async fn query_range(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let expr = query_logql::parse(params.get("query"))?;
    let (start_ns, end_ns) = params.bounds(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    if end_ns < start_ns {
        return Err(LokiError::bad("end timestamp must not be before or equal to start time"));
    }
    // Lines have no steps; one that is malformed is refused all the same.
    let step_ns = params.step(start_ns, end_ns)?;
    if step_ns <= 0 {
        return Err(LokiError::bad(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    match expr {
        Expr::Log(log) => lines(state, params, log, start_ns, end_ns).await,
        Expr::Metric(metric) => {
            let steps = Steps { start_ns, end_ns, step_ns };
            if steps.count() > STEPS_MAX {
                return Err(LokiError::bad(
                    "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the \
                     step parameter",
                ));
            }
            numbers(state, &params, metric, steps).await
        }
    }
}

/// Answers a query at one time; lines need a range.
pub(super) async fn query(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let expr = query_logql::parse(params.get("query"))?;
    let at_ns = params.time("time", state.services.clock.now_nanos())?;
    // What a query of numbers has no use for must be well-formed all the same.
    params.limit()?;
    params.direction()?;
    match expr {
        Expr::Metric(metric) => numbers(state, &params, metric, Steps::instant(at_ns)).await,
        Expr::Log(_) => Err(LokiError::bad(
            "log queries are not supported as an instant query type, please change your query to a range query type",
        )),
    }
}

async fn lines(state: State, params: Params, log: LogExpr, start_ns: i64, end_ns: i64) -> Answer {
    let limit = params.limit()?;
    let direction = params.direction()?;
    let interval_ns = params.interval()?;
    let categorize = params.categorizes();
    let is_dry = params.is_dry_run()?;
    let logs = std::sync::Arc::clone(&state.services.logs);
    let work = move |context: &storage_api::QueryContext| {
        // A range of no length means the one nanosecond, so that a line's own time finds it.
        let end_ns = if end_ns == start_ns { end_ns.saturating_add(1) } else { end_ns };
        let range = TimeRange::new(Timestamp(start_ns), Timestamp(end_ns));
        let query = LogQuery { log: &log, range, limit, direction, interval_ns };
        if is_dry {
            return plan::of_lines(&query, logs.as_ref(), context);
        }
        let entries = query_logql::select_logs(&query, logs.as_ref(), context)?;
        let result = QueryResult::Streams(encode::streams(entries, categorize));
        json_bytes(&Response::success(encode::data(result, categorize, context)).with_warnings(context.take_warnings()))
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

async fn numbers(state: State, params: &Params, metric: MetricExpr, steps: Steps) -> Answer {
    let is_dry = params.is_dry_run()?;
    let logs = std::sync::Arc::clone(&state.services.logs);
    let work = move |context: &storage_api::QueryContext| {
        if is_dry {
            return plan::of_numbers(&metric, steps, logs.as_ref(), context);
        }
        let result = query_logql::evaluate(&metric, steps, logs.as_ref(), context)?;
        let data = encode::data(encode::metric(result, steps), false, context);
        json_bytes(&Response::success(data).with_warnings(context.take_warnings()))
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}
