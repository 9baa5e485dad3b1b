//! `labels`, `label/{name}/values` and `series`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{self, FromRequestParts, Path, Request};
use model::{Matcher, TimeRange};
use query_logql::Expr;
use query_wire::loki::{LabelsResponse, Response};
use storage_api::QueryContext;

use super::error::LokiError;
use super::params::{Params, SINCE_LABELS_NS};
use super::{Answer, State, encode, json_answer, json_bytes};

/// Reads a stream selector; none, or `{}`, selects every stream.
pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, LokiError> {
    if text.trim().is_empty() { Ok(Vec::new()) } else { required_selector(text) }
}

/// Reads a stream selector that must be there.
pub(super) fn required_selector(text: &str) -> Result<Vec<Matcher>, LokiError> {
    match query_logql::parse(text)? {
        Expr::Log(log) if log.stages.is_empty() => Ok(log.matchers),
        Expr::Log(_) | Expr::Metric(_) => Err(LokiError::bad("only label matchers are supported")),
    }
}

fn range(state: &State, params: &Params) -> Result<TimeRange, LokiError> {
    params.range(state.services.clock.now_nanos(), SINCE_LABELS_NS)
}

/// Takes a request apart: the part of its path that is a name, and its parameters.
pub(super) async fn name_and_params(state: &State, request: Request) -> Result<(String, Params), LokiError> {
    use axum::extract::FromRequest;
    let (mut parts, body) = request.into_parts();
    let Path(name) = Path::<String>::from_request_parts(&mut parts, state)
        .await
        .map_err(|error| LokiError::bad(error.to_string()))?;
    let params = Params::from_request(Request::from_parts(parts, body), state).await?;
    Ok((name, params))
}

/// Gives the names of the streams' labels.
pub(super) async fn labels(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let range = range(&state, &params)?;
    let selectors = vec![selector(params.get("query"))?];
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let streams = logs.streams(&selectors, range, context)?;
        let names: BTreeSet<&str> = streams.iter().flat_map(|stream| stream.iter().map(|(name, _)| name)).collect();
        let data = names.into_iter().map(str::to_owned).collect();
        json_bytes(&LabelsResponse { status: "success".to_owned(), data })
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

/// Gives the values of one of the streams' labels.
pub(super) async fn values(extract::State(state): extract::State<State>, request: Request) -> Answer {
    let (name, params) = name_and_params(&state, request).await?;
    let range = range(&state, &params)?;
    let selectors = vec![selector(params.get("query"))?];
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let streams = logs.streams(&selectors, range, context)?;
        let values: BTreeSet<&str> = streams.iter().filter_map(|stream| stream.get(&name)).collect();
        let data = values.into_iter().map(str::to_owned).collect();
        json_bytes(&LabelsResponse { status: "success".to_owned(), data })
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

/// Gives the streams that pass at least one of the selectors.
pub(super) async fn series(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let range = range(&state, &params)?;
    let selectors: Vec<_> = params.all(&["match[]", "match"]).map(selector).collect::<Result<_, _>>()?;
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let streams = logs.streams(&selectors, range, context)?;
        let streams: Vec<_> = streams.iter().map(encode::label_map).collect();
        json_bytes(&Response::success(streams).with_warnings(context.take_warnings()))
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}
