//! `query`, `query_range`, `format_query`, `parse_query`.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use query_promql::parse::ast::{Expr, ValueType};
use query_promql::{Grid, Options, Query, StepTally, Stored, Value, evaluate_counted, parse};

use super::answer;
use super::params::{Params, invalid};
use super::stats::{self, Times, Wanted};
use crate::Services;
use crate::error::{Error, Result};

/// Most points per series that a range query may ask for, as Prometheus has it.
const POINTS_MAX: usize = 11_000;

/// What is common to both kinds of queries.
struct Request {
    text: String,
    grid: Grid,
    is_range: bool,
    options: Options,
    limit: usize,
    timeout: Option<i64>,
    stats: (Option<Wanted>, Option<String>),
}

pub(super) async fn instant(State(services): State<Services>, params: Params) -> Result<Response> {
    let at = params.time_or("time", services.clock.now_millis())?;
    run(&services, request(&params, Grid::instant(at), false)?).await
}

pub(super) async fn range(State(services): State<Services>, params: Params) -> Result<Response> {
    let start_ms = params.time("start")?;
    let end_ms = params.time("end")?;
    if end_ms < start_ms {
        return Err(invalid("end", "end timestamp must not be before start time"));
    }
    let step_ms = params.duration("step")?;
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(invalid("step", reason));
    }
    let grid = Grid { start_ms, end_ms, step_ms };
    if grid.len() > POINTS_MAX + 1 {
        let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(Error::BadData(text.to_owned()));
    }
    run(&services, request(&params, grid, true)?).await
}

fn request(params: &Params, grid: Grid, is_range: bool) -> Result<Request> {
    let mut options = Options::default();
    let lookback = params.duration_option("lookback_delta", "error parsing lookback delta duration")?;
    // Zero and less ask for the default, as in Prometheus.
    if let Some(lookback) = lookback.filter(|lookback| *lookback > 0) {
        options.lookback_ms = lookback;
    }
    Ok(Request {
        text: params.get("query").to_owned(),
        grid,
        is_range,
        options,
        limit: params.limit("limit")?,
        timeout: params.duration_option("timeout", "invalid parameter \"timeout\"")?,
        stats: Wanted::read(params.get("stats")),
    })
}

async fn run(services: &Services, request: Request) -> Result<Response> {
    let context = match request.timeout {
        Some(ms) => services.context_with_timeout(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
        None => services.context(),
    };
    let Request { text, grid, is_range, options, limit, stats: (wanted, warning), .. } = request;
    let metrics = std::sync::Arc::clone(&services.metrics);
    let usage = context.clone();
    let result = services
        .run(context, move |context| {
            let started = context.elapsed();
            let expr = parse_query(&text, is_range)?;
            let parsed = context.elapsed();
            let query = Query { expr: &expr, text: &text, grid, is_range, options };
            let tally = wanted.map(|_| StepTally::new(grid.len()));
            let answer = evaluate_counted(&query, &Stored(&*metrics), context, tally.as_ref()).map_err(from_promql)?;
            Ok::<_, Error>((answer, tally, Times { started, parsed, done: context.elapsed() }))
        })
        .await?;
    let (mut answer, tally, times) = result?;
    let truncated = match &mut answer.value {
        Value::Vector(series) if series.len() > limit => {
            series.truncate(limit);
            true
        }
        Value::Matrix(series) if series.len() > limit => {
            series.truncate(limit);
            true
        }
        _ => false,
    };
    if truncated {
        answer.warnings.push("results truncated due to limit".to_owned());
    }
    answer.warnings.extend(warning);
    let stats = wanted
        .zip(tally)
        .map(|(wanted, tally)| stats::to_json(wanted, times, &grid, &tally, usage.samples_seen().1).to_string());
    let held = services.hold_answer(answer::size_bytes(&answer.value))?;
    Ok(answer::stream(answer, is_range, stats, held))
}

/// Reads the expression and checks that its type goes with the kind of query.
fn parse_query(text: &str, is_range: bool) -> Result<Expr> {
    let expr = parse::parse(text).map_err(|error| invalid("query", error))?;
    let found = expr.value_type();
    if is_range && matches!(found, ValueType::Matrix | ValueType::Text) {
        let found = found.as_str();
        let reason = format!("invalid expression type \"{found}\" for range query, must be Scalar or instant Vector");
        return Err(invalid("query", reason));
    }
    Ok(expr)
}

fn from_promql(error: query_promql::Error) -> Error {
    match error {
        query_promql::Error::Parse(error) => invalid("query", error),
        query_promql::Error::Storage(error) => from_storage(error),
        error => Error::Execution(error.to_string()),
    }
}

/// Puts Prometheus' own words before ours, which have the number, the limit and its name.
fn from_storage(error: storage_api::Error) -> Error {
    use storage_api::Error as Storage;
    let words = match &error {
        Storage::Limit { what: "samples", .. } => {
            "query processing would load too many samples into memory in query execution"
        }
        Storage::Timeout { .. } => "query timed out in expression evaluation",
        Storage::Cancelled => "query was canceled in expression evaluation",
        _ => return error.into(),
    };
    let text = format!("{words}: {error}");
    match error {
        Storage::Timeout { .. } => Error::Timeout(text),
        Storage::Cancelled => Error::Cancelled(text),
        _ => Error::Execution(text),
    }
}

pub(super) async fn format(params: Params) -> Result<Response> {
    let expr = parse::parse(params.get("query")).map_err(|error| invalid("query", error))?;
    answer::success(expr.pretty(), Vec::new())
}

pub(super) async fn parse_tree(params: Params) -> Result<Response> {
    let expr = parse::parse(params.get("query")).map_err(|error| invalid("query", error))?;
    answer::success(super::tree::to_json(&expr), Vec::new())
}
