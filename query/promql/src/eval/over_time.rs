//! `sum_over_time` and `avg_over_time`, which take histograms, too.

use std::sync::Arc;

use super::window::{Window, mean, mixed_schemas, total};
use crate::histogram::{Histogram, ResetHint};
use crate::value::Point;

/// Says whether the window mixes floats and histograms, with a warning.
fn mixed(w: &Window<'_>) -> bool {
    let (floats, histograms) = w.kinds();
    let mixed = floats > 0 && histograms > 0;
    if mixed {
        w.warn_mixed();
    }
    mixed
}

pub(super) fn sum(w: &Window<'_>) -> Option<Point> {
    if w.len() == 0 || mixed(w) {
        return None;
    }
    if w.histogram(0).is_none() {
        return Some(Point::Float(total(w.values.iter().copied())));
    }
    Some(Point::Histogram(Arc::new(add_all(w)?)))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(super) fn avg(w: &Window<'_>) -> Option<Point> {
    if w.len() == 0 || mixed(w) {
        return None;
    }
    if w.histogram(0).is_none() {
        return Some(Point::Float(mean(w.values.iter().copied())));
    }
    Some(Point::Histogram(Arc::new(add_all(w)?.divided(w.len() as f64))))
}

fn add_all(w: &Window<'_>) -> Option<Histogram> {
    let mut sum: Histogram = w.histogram(0)?.as_ref().clone();
    let hints: Vec<ResetHint> = w.histograms?.iter().flatten().map(|one| one.hint).collect();
    if hints.contains(&ResetHint::Reset) && hints.contains(&ResetHint::NotReset) {
        w.warn("conflicting counter resets during histogram aggregation");
    }
    for one in w.histograms?.iter().flatten().skip(1) {
        let Some((next, odd)) = sum.add(one) else {
            w.warn(mixed_schemas(&w.metric()));
            return None;
        };
        if odd.bounds_reconciled {
            w.info("mismatched custom buckets were reconciled during aggregation");
        }
        sum = next;
    }
    Some(sum)
}
