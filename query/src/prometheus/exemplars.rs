//! `query_exemplars`: the exemplars of the series that an expression selects.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::Matcher;
use query_promql::parse;
use query_promql::parse::ast::{Expr, ExprKind};
use query_wire::prometheus::{Exemplar, ExemplarSeries, Point};
use storage_api::{MillisRange, SeriesExemplars};

use super::{answer, params::Params};
use crate::Services;
use crate::error::{Error, Result};

pub(super) async fn exemplars(State(services): State<Services>, params: Params) -> Result<Response> {
    let min_ms = params.time_or("start", i64::MIN)?;
    let max_ms = params.time_or("end", i64::MAX)?;
    if max_ms < min_ms {
        return Err(Error::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    let expr = parse::parse(params.get("query")).map_err(|error| Error::BadData(error.to_string()))?;
    let mut selectors = Vec::new();
    collect(&expr, &mut selectors);
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let metrics = Arc::clone(&services.metrics);
    let range = MillisRange { min_ms, max_ms };
    let context = services.context();
    let notes = context.clone();
    let found = services.run(context, move |context| metrics.exemplars(&selectors, range, context)).await??;
    answer::success(found.into_iter().map(wire).collect::<Vec<_>>(), notes.take_warnings())
}

/// Collects the matchers of every selector in the expression.
fn collect(expr: &Expr, selectors: &mut Vec<Vec<Matcher>>) {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) => {}
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => selectors.push(selector.matchers.clone()),
        ExprKind::Subquery(subquery) => collect(&subquery.expr, selectors),
        ExprKind::Call(_, args) => args.iter().for_each(|arg| collect(arg, selectors)),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &aggregate.param {
                collect(param, selectors);
            }
            collect(&aggregate.expr, selectors);
        }
        ExprKind::Binary(binary) => {
            collect(&binary.lhs, selectors);
            collect(&binary.rhs, selectors);
        }
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => collect(inner, selectors),
    }
}

fn wire(series: SeriesExemplars) -> ExemplarSeries {
    let exemplar = |one: model::Exemplar| Exemplar {
        labels: answer::label_map(&one.labels),
        at: Point { timestamp_ms: one.sample.timestamp_ms, value: one.sample.value },
    };
    ExemplarSeries {
        series_labels: answer::label_map(&series.labels),
        exemplars: series.exemplars.into_iter().map(exemplar).collect(),
    }
}
