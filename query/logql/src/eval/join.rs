//! Operators between two sets of series.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use model::Labels;

use super::{Evaluator, Series};
use crate::ast::{BinaryExpr, BinaryOp, Cardinality, Matching, MetricExpr};
use crate::binary::apply;
use crate::error::{Error, Result};
use crate::row;

impl Evaluator<'_> {
    pub(super) fn binary(&self, expr: &BinaryExpr) -> Result<Vec<Series>> {
        if let MetricExpr::Literal(left) = expr.left {
            let right = self.eval(&expr.right)?;
            return Ok(with_number(expr, right, |value| (left, value)));
        }
        if let MetricExpr::Literal(right) = expr.right {
            let left = self.eval(&expr.left)?;
            return Ok(with_number(expr, left, |value| (value, right)));
        }
        let left = self.eval(&expr.left)?;
        let right = self.eval(&expr.right)?;
        self.context.check()?;
        match expr.op {
            BinaryOp::And => Ok(present(left, &right, &expr.matching, true)),
            BinaryOp::Unless => Ok(present(left, &right, &expr.matching, false)),
            BinaryOp::Or => or(left, right, &expr.matching),
            _ => join(expr, left, right),
        }
    }
}

fn with_number(expr: &BinaryExpr, mut series: Vec<Series>, sides: impl Fn(f64) -> (f64, f64)) -> Vec<Series> {
    for one in &mut series {
        for value in &mut one.values {
            *value = value.and_then(|have| {
                let (left, right) = sides(have);
                merge(expr, left, right, have)
            });
        }
    }
    series.retain(|one| one.values.iter().any(Option::is_some));
    series
}

/// Applies the operator; a comparison without `bool` filters and gives `kept`.
fn merge(expr: &BinaryExpr, left: f64, right: f64, kept: f64) -> Option<f64> {
    let value = apply(expr.op, left, right);
    match expr.op.is_comparison() && !expr.return_bool {
        true => (value != 0.0).then_some(kept),
        false => Some(value),
    }
}

fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let names = matching.labels.as_deref().unwrap_or_default();
    let named = |name: &str| names.iter().any(|have| have == name);
    row::set(labels.iter().filter(|(name, _)| named(name) == matching.on))
}

/// For each signature, the steps at which some series of it has a value.
fn steps_of(series: &[Series], matching: &Matching) -> HashMap<Labels, Vec<bool>> {
    let mut out: HashMap<Labels, Vec<bool>> = HashMap::new();
    for one in series {
        let steps = out.entry(signature(&one.labels, matching)).or_insert_with(|| vec![false; one.values.len()]);
        for (step, value) in steps.iter_mut().zip(&one.values) {
            *step |= value.is_some();
        }
    }
    out
}

/// `and`, or with `wanted` false `unless`: keeps values where the other side has one, or none.
fn present(mut left: Vec<Series>, right: &[Series], matching: &Matching, wanted: bool) -> Vec<Series> {
    let others = steps_of(right, matching);
    for one in &mut left {
        let other = others.get(&signature(&one.labels, matching));
        for (i, value) in one.values.iter_mut().enumerate() {
            let found = other.and_then(|steps| steps.get(i)).copied().unwrap_or(false);
            if found != wanted {
                *value = None;
            }
        }
    }
    left.retain(|one| one.values.iter().any(Option::is_some));
    left
}

fn or(left: Vec<Series>, right: Vec<Series>, matching: &Matching) -> Result<Vec<Series>> {
    let right = present(right, &left, matching, false);
    unify(left.into_iter().chain(right).collect())
}

/// Makes one series of those with equal labels; at one step only one of them may have a value.
pub(super) fn unify(series: Vec<Series>) -> Result<Vec<Series>> {
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    let mut index: HashMap<Labels, usize> = HashMap::new();
    for one in series {
        match index.entry(one.labels.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(out.len());
                out.push(one);
            }
            Entry::Occupied(entry) => {
                let Some(first) = out.get_mut(*entry.get()) else { continue };
                for (have, value) in first.values.iter_mut().zip(one.values) {
                    match (have.is_some(), value) {
                        (_, None) => {}
                        (false, Some(_)) => *have = value,
                        (true, Some(_)) => {
                            let message = "vector cannot contain metrics with the same labelset";
                            return Err(Error::evaluation(message));
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

fn join(expr: &BinaryExpr, left: Vec<Series>, right: Vec<Series>) -> Result<Vec<Series>> {
    let matching = &expr.matching;
    let swapped = matching.card == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let mut ones: HashMap<Labels, Vec<&Series>> = HashMap::new();
    for series in &one {
        let same = ones.entry(signature(&series.labels, matching)).or_default();
        if same.iter().any(|other| overlap(other, series)) {
            let side = if swapped { "left" } else { "right" };
            return Err(Error::evaluation(format!(
                "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be \
                 unique on one side"
            )));
        }
        same.push(series);
    }
    let mut out = Vec::new();
    // (signature, result labels where several may match, step) that were met already.
    let mut met: HashSet<(Labels, Option<Labels>, usize)> = HashSet::new();
    for series in &many {
        let key = signature(&series.labels, matching);
        for other in ones.get(&key).into_iter().flatten() {
            let labels = result_labels(&series.labels, &other.labels, matching);
            let distinct = (matching.card != Cardinality::OneToOne).then(|| labels.clone());
            let mut values = Vec::with_capacity(series.values.len());
            for (i, pair) in series.values.iter().zip(&other.values).enumerate() {
                let (Some(a), Some(b)) = pair else {
                    values.push(None);
                    continue;
                };
                if !met.insert((key.clone(), distinct.clone(), i)) {
                    return Err(Error::evaluation(match matching.card {
                        Cardinality::OneToOne => {
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                        }
                        _ => "multiple matches for labels: grouping labels must ensure unique matches",
                    }));
                }
                let (left, right) = if swapped { (*b, *a) } else { (*a, *b) };
                values.push(merge(expr, left, right, left));
            }
            if values.iter().any(Option::is_some) {
                out.push(Series { labels, values });
            }
        }
    }
    unify(out)
}

fn overlap(a: &Series, b: &Series) -> bool {
    a.values.iter().zip(&b.values).any(|(a, b)| a.is_some() && b.is_some())
}

fn result_labels(many: &Labels, one: &Labels, matching: &Matching) -> Labels {
    let names = matching.labels.as_deref().unwrap_or_default();
    let included = matching.include.as_deref().unwrap_or_default();
    let named = |name: &str| names.iter().any(|have| have == name);
    let kept = many.iter().filter(|(name, _)| {
        (matching.card != Cardinality::OneToOne || named(name) == matching.on)
            && !included.iter().any(|have| have == name)
    });
    let taken = included.iter().filter_map(|name| one.get(name).map(|value| (name.as_str(), value)));
    row::set(kept.chain(taken.filter(|(_, value)| !value.is_empty())))
}
