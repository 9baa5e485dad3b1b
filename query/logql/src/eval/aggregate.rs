//! Aggregation over series: `sum by (…)`, `topk` and their like.

use std::cmp::Ordering;
use std::collections::HashMap;

use model::{Labels, METRIC_NAME};

use super::{Evaluator, Series};
use crate::ast::{AggregateExpr, AggregateOp, Grouping, MetricExpr, RangeOp};
use crate::error::Result;
use crate::row;

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, expr: &AggregateExpr) -> Result<Vec<Series>> {
        let inner = match &expr.inner {
            // A sum of sums needs only the sum's labels of each row.
            MetricExpr::Range(range) if expr.op == AggregateOp::Sum && adds(range.op) && range.grouping.is_none() => {
                let by_nothing = Grouping { without: false, labels: Vec::new() };
                self.range(range, Some(expr.grouping.as_ref().unwrap_or(&by_nothing)))?
            }
            inner => self.eval(inner)?,
        };
        let steps = self.steps.count();
        let mut groups: Vec<(Labels, Vec<Series>)> = Vec::new();
        let mut index: HashMap<Labels, usize> = HashMap::new();
        for series in inner {
            let labels = group_labels(&series.labels, expr.grouping.as_ref());
            let i = *index.entry(labels.clone()).or_insert_with(|| {
                groups.push((labels, Vec::new()));
                groups.len() - 1
            });
            if let Some((_, members)) = groups.get_mut(i) {
                members.push(series);
            }
        }
        let mut out = Vec::new();
        for (labels, members) in groups {
            self.context.check()?;
            match expr.op {
                AggregateOp::TopK | AggregateOp::ApproxTopK => {
                    out.extend(select(members, steps, expr.parameter.unwrap_or(0), true));
                }
                AggregateOp::BottomK => out.extend(select(members, steps, expr.parameter.unwrap_or(0), false)),
                AggregateOp::Sort => out.extend(sorted(members, false)),
                AggregateOp::SortDesc => out.extend(sorted(members, true)),
                op => out.push(Series { labels, values: combine(op, &members, steps) }),
            }
        }
        Ok(out)
    }
}

fn adds(op: RangeOp) -> bool {
    matches!(op, RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Sum | RangeOp::Rate | RangeOp::Count)
}

fn group_labels(labels: &Labels, grouping: Option<&Grouping>) -> Labels {
    match grouping {
        None => Labels::empty(),
        Some(Grouping { without: false, labels: names }) => {
            row::set(labels.iter().filter(|(name, _)| names.iter().any(|have| have == name)))
        }
        Some(Grouping { without: true, labels: names }) => {
            let dropped = |name: &str| name == METRIC_NAME || names.iter().any(|have| have == name);
            // Labels without a value are none where all but some are kept, as in Loki.
            row::set(labels.iter().filter(|(name, value)| !dropped(name) && !value.is_empty()))
        }
    }
}

/// Running state of one group at one step.
#[derive(Debug, Clone, Copy)]
struct State {
    value: f64,
    mean: f64,
    count: f64,
}

fn combine(op: AggregateOp, members: &[Series], steps: usize) -> Vec<Option<f64>> {
    let mut states: Vec<Option<State>> = vec![None; steps];
    for series in members {
        for (state, value) in states.iter_mut().zip(&series.values) {
            let Some(value) = *value else { continue };
            match state {
                None => {
                    let start = if matches!(op, AggregateOp::Stddev | AggregateOp::Stdvar) { 0.0 } else { value };
                    *state = Some(State { value: start, mean: value, count: 1.0 });
                }
                Some(state) => step(op, state, value),
            }
        }
    }
    let finish = |state: State| match op {
        AggregateOp::Avg => state.mean,
        AggregateOp::Count => state.count,
        AggregateOp::Stddev => (state.value / state.count).sqrt(),
        AggregateOp::Stdvar => state.value / state.count,
        _ => state.value,
    };
    states.into_iter().map(|state| state.map(finish)).collect()
}

fn step(op: AggregateOp, state: &mut State, value: f64) {
    state.count += 1.0;
    match op {
        AggregateOp::Sum => state.value += value,
        AggregateOp::Max if state.value < value || state.value.is_nan() => state.value = value,
        AggregateOp::Min if state.value > value || state.value.is_nan() => state.value = value,
        AggregateOp::Avg => {
            // A finite value, or an infinite one of the same sign, leaves an infinite mean as it is.
            let keeps = state.mean.is_infinite()
                && (value.is_finite() || value.is_infinite() && (state.mean > 0.0) == (value > 0.0));
            if !keeps {
                state.mean += (value - state.mean) / state.count;
            }
        }
        AggregateOp::Stddev | AggregateOp::Stdvar => {
            let delta = value - state.mean;
            state.mean += delta / state.count;
            state.value += delta * (value - state.mean);
        }
        _ => {}
    }
}

/// Orders values with the wanted end first and NaN last.
fn compare(a: f64, b: f64, greatest: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if greatest => b.total_cmp(&a),
        (false, false) => a.total_cmp(&b),
    }
}

/// Keeps the `k` greatest or least values of each step; of equal ones, those of the series that sorts first.
fn select(mut members: Vec<Series>, steps: usize, k: u64, greatest: bool) -> Vec<Series> {
    let k = usize::try_from(k).unwrap_or(usize::MAX);
    members.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut order: Vec<(f64, usize)> = Vec::with_capacity(members.len());
    for step in 0..steps {
        order.clear();
        let at = |series: &Series| series.values.get(step).copied().flatten();
        order.extend(members.iter().enumerate().filter_map(|(i, series)| at(series).map(|value| (value, i))));
        order.sort_by(|a, b| compare(a.0, b.0, greatest).then(a.1.cmp(&b.1)));
        for (_, i) in order.iter().skip(k) {
            if let Some(value) = members.get_mut(*i).and_then(|series| series.values.get_mut(step)) {
                *value = None;
            }
        }
    }
    members.retain(|series| series.values.iter().any(Option::is_some));
    members
}

/// Orders series by their value; only the first step counts, as sorting is for instant queries.
fn sorted(mut members: Vec<Series>, greatest: bool) -> Vec<Series> {
    let at = |series: &Series| series.values.first().copied().flatten().unwrap_or(f64::NAN);
    members.sort_by(|a, b| compare(at(a), at(b), greatest).then_with(|| a.labels.cmp(&b.labels)));
    members
}
