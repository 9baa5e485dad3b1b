//! Runs queries on a store.

mod aggregate;
mod join;
mod logs;
mod needles;
mod range;

use model::{Labels, MatchOp};
use storage_api::{LogQuerier, QueryContext};

use crate::ast::{AggregateOp, LabelReplaceExpr, MetricExpr, RangeOp};
use crate::error::{Error, Result};
use crate::row;

pub use logs::{Direction, LogEntry, LogQuery, select_logs};
pub(crate) use logs::{Entry, Make, select_entries};
pub use needles::log_select;

/// The points in time of a metric query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The first, in nanoseconds since the epoch.
    pub start_ns: i64,
    /// The last that may be, in nanoseconds since the epoch.
    pub end_ns: i64,
    /// From one to the next, in nanoseconds; 0 for one point alone.
    pub step_ns: i64,
}

impl Steps {
    /// One point in time.
    #[must_use]
    pub fn instant(at_ns: i64) -> Self {
        Self { start_ns: at_ns, end_ns: at_ns, step_ns: 0 }
    }

    /// Says whether there is one point alone.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        self.step_ns <= 0
    }

    /// Returns how many points there are.
    #[must_use]
    pub fn count(&self) -> usize {
        if self.is_instant() {
            return 1;
        }
        let span = i128::from(self.end_ns) - i128::from(self.start_ns);
        usize::try_from(span / i128::from(self.step_ns) + 1).unwrap_or(0)
    }

    /// Returns point `i` in nanoseconds since the epoch.
    #[must_use]
    pub fn at(&self, i: usize) -> i64 {
        let i = i64::try_from(i).unwrap_or(i64::MAX);
        self.start_ns.saturating_add(self.step_ns.saturating_mul(i))
    }
}

/// One series with a value, or none, at each step.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// As many as there are steps.
    pub values: Vec<Option<f64>>,
}

/// What a metric query gives.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricResult {
    /// One number at all steps.
    Scalar(f64),
    /// Series, by labels unless the query sorts them.
    Series(Vec<Series>),
}

/// Runs a metric query.
///
/// # Errors
/// Lines that do not parse, ambiguous matches between series, and the store's.
pub fn evaluate(
    expr: &MetricExpr,
    steps: Steps,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<MetricResult> {
    if let MetricExpr::Literal(value) = expr {
        return Ok(MetricResult::Scalar(*value));
    }
    if !steps.is_instant() && has(expr, &[AggregateOp::ApproxTopK]) {
        return Err(Error::evaluation("approx_topk is only supported on instant queries"));
    }
    let mut series = Evaluator { steps, logs, context }.eval(expr)?;
    // Over a range, series have no one value to sort by.
    if !steps.is_instant() || !has(expr, &[AggregateOp::Sort, AggregateOp::SortDesc]) {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    Ok(MetricResult::Series(series))
}

/// Says whether one of these aggregations occurs.
fn has(expr: &MetricExpr, ops: &[AggregateOp]) -> bool {
    match expr {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Range(_) => false,
        MetricExpr::Aggregate(aggregate) => ops.contains(&aggregate.op) || has(&aggregate.inner, ops),
        MetricExpr::Binary(binary) => has(&binary.left, ops) || has(&binary.right, ops),
        MetricExpr::LabelReplace(replace) => has(&replace.inner, ops),
    }
}

/// What all parts of a metric query share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    pub(crate) steps: Steps,
    pub(crate) logs: &'a dyn LogQuerier,
    pub(crate) context: &'a QueryContext,
}

impl Evaluator<'_> {
    fn eval(&self, expr: &MetricExpr) -> Result<Vec<Series>> {
        self.context.check()?;
        match expr {
            MetricExpr::Literal(value) | MetricExpr::Vector(value) => {
                let values = vec![Some(*value); self.steps.count()];
                Ok(vec![Series { labels: Labels::empty(), values }])
            }
            MetricExpr::Range(range) if range.op == RangeOp::Absent => {
                let found = self.range(range, None)?;
                Ok(self.absent(&range.log.matchers, &found))
            }
            MetricExpr::Range(range) => self.range(range, None),
            MetricExpr::Aggregate(aggregate) => self.aggregate(aggregate),
            MetricExpr::Binary(binary) => self.binary(binary),
            MetricExpr::LabelReplace(replace) => {
                let inner = self.eval(&replace.inner)?;
                label_replace(replace, inner, self.context)
            }
        }
    }

    /// Gives 1 at the steps where nothing is, with the labels that the selector fixes.
    fn absent(&self, matchers: &[model::Matcher], found: &[Series]) -> Vec<Series> {
        let mut labels: Vec<(&str, &str)> = Vec::new();
        let mut dropped: Vec<&str> = Vec::new();
        for matcher in matchers {
            let repeated = labels.iter().any(|(name, _)| *name == matcher.name);
            if matcher.op == MatchOp::Equal && !repeated && !matcher.value.is_empty() {
                labels.push((&matcher.name, &matcher.value));
            } else {
                dropped.push(&matcher.name);
            }
        }
        labels.retain(|(name, _)| !dropped.contains(name));
        let missing = |i: usize| found.iter().all(|series| series.values.get(i).is_none_or(Option::is_none));
        let values: Vec<Option<f64>> = (0..self.steps.count()).map(|i| missing(i).then_some(1.0)).collect();
        if values.iter().all(Option::is_none) {
            return Vec::new();
        }
        vec![Series { labels: row::set(labels), values }]
    }
}

fn label_replace(replace: &LabelReplaceExpr, mut series: Vec<Series>, context: &QueryContext) -> Result<Vec<Series>> {
    let regex = crate::regex::anchored(&replace.pattern).map_err(Error::Evaluation)?;
    // Each reference may stand for the whole value.
    let references = replace.replacement.matches('$').count() as u64;
    for one in &mut series {
        let source = one.labels.get(&replace.source).unwrap_or("");
        let Some(captures) = regex.captures(source) else { continue };
        let most = references.saturating_mul(source.len() as u64).saturating_add(replace.replacement.len() as u64);
        context.charge_memory(most)?;
        let mut value = String::new();
        captures.expand(&replace.replacement, &mut value);
        context.release_memory(most);
        context.charge_memory(value.len() as u64)?;
        let kept = one.labels.iter().filter(|(name, _)| *name != replace.target);
        let added = (!value.is_empty()).then_some((replace.target.as_str(), value.as_str()));
        one.labels = row::set(kept.chain(added));
    }
    join::unify(series)
}
