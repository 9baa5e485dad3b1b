//! `sum_over_time` and `avg_over_time`, which take histograms, too.

use std::sync::Arc;

use super::window::{Window, mean, mixed_schemas, total};
use crate::histogram::{Histogram, HistogramSum, ResetHint};
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
    Some(Point::Histogram(Arc::new(add_all(w, false)?)))
}

pub(super) fn avg(w: &Window<'_>) -> Option<Point> {
    if w.len() == 0 || mixed(w) {
        return None;
    }
    if w.histogram(0).is_none() {
        return Some(Point::Float(mean(w.values.iter().copied())));
    }
    Some(Point::Histogram(Arc::new(add_all(w, true)?)))
}

fn add_all(w: &Window<'_>, mean: bool) -> Option<Histogram> {
    let all: Vec<&Histogram> = w.histograms?.iter().flatten().map(Arc::as_ref).collect();
    combine(&all, mean, |note| match note {
        Note::Resets => w.warn("conflicting counter resets during histogram aggregation"),
        Note::Schemas(_) => w.warn(mixed_schemas(&w.metric())),
        Note::Bounds => w.info("mismatched custom buckets were reconciled during aggregation"),
    })
}

/// What is odd about histograms that are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// One says that there was a reset, another that there was none.
    Resets,
    /// The histogram at this place has exponential or custom buckets, those before it have the other kind.
    Schemas(usize),
    /// Custom bounds differ.
    Bounds,
}

/// Returns the sum or the mean of histograms; `None` when they do not go together.
pub(super) fn combine(all: &[&Histogram], mean: bool, note: impl Fn(Note)) -> Option<Histogram> {
    let first = all.first()?;
    if let Some(place) = all.iter().position(|one| one.is_custom() != first.is_custom()) {
        note(Note::Schemas(place));
        return None;
    }
    let has = |hint: ResetHint| all.iter().any(|one| one.hint == hint);
    if has(ResetHint::Reset) && has(ResetHint::NotReset) {
        note(Note::Resets);
    }
    let mut sum = HistogramSum::new(first);
    for one in &all[1..] {
        if sum.add(one)? {
            note(Note::Bounds);
        }
    }
    let total = sum.finish();
    if !mean {
        return Some(total);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = all.len() as f64;
    if total.is_finite() || all.iter().any(|one| !one.is_finite()) {
        return Some(total.divided(count));
    }
    // The sum overflows, so that each is divided before it is added.
    let mut sum = HistogramSum::new(&first.divided(count));
    for one in &all[1..] {
        sum.add(&one.divided(count))?;
    }
    Some(sum.finish())
}
