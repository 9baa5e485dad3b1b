//! `rate`, `increase` and `delta` over `anchored` and `smoothed` windows.

use std::sync::Arc;

use super::window::{Window, mixed_schemas, seconds};
use crate::histogram::{Histogram, ResetHint};
use crate::parse::ast::Borders;
use crate::value::Point;

/// Computes the change between the window's borders: from the last sample before it, or from interpolated values.
pub(super) fn extended(w: &Window<'_>, is_counter: bool, is_rate: bool) -> Option<Point> {
    let (floats, histograms) = w.kinds();
    if floats > 0 && histograms > 0 {
        w.warn_mixed();
        return None;
    }
    let smoothed = w.borders == Borders::Smoothed;
    let mut last = w.len().checked_sub(1)?;
    let first = w.times[..last].partition_point(|at| *at <= w.start_ms).saturating_sub(1);
    if smoothed {
        last = w.times[..last].partition_point(|at| *at < w.end_ms);
    }
    if w.times[last] <= w.start_ms || (smoothed && w.times[first] > w.end_ms) {
        return None;
    }
    let change = if histograms > 0 {
        Point::Histogram(Arc::new(histogram_change(w, first, last, is_counter)?))
    } else {
        Point::Float(float_change(w, first, last, is_counter))
    };
    let range = seconds(w.end_ms - w.start_ms);
    Some(match change {
        Point::Float(value) if is_rate => Point::Float(value / range),
        Point::Histogram(histogram) if is_rate => Point::Histogram(Arc::new(histogram.divided(range))),
        change => change,
    })
}

/// Returns the samples strictly between the borders.
fn inner(w: &Window<'_>, first: usize, last: usize) -> std::ops::Range<usize> {
    let from = first + usize::from(w.times[first] <= w.start_ms);
    let to = if w.times[last] >= w.end_ms { last } else { last + 1 };
    from..to.max(from)
}

/// How far `at` lies between samples `a` and `a + 1`, from 0 to 1.
fn part(w: &Window<'_>, a: usize, at: i64) -> f64 {
    seconds(at - w.times[a]) / seconds(w.times[a + 1] - w.times[a])
}

/// Returns the value at `at`, which lies between samples `a` and `a + 1`; a counter that was reset comes from zero.
fn float_between(w: &Window<'_>, a: usize, at: i64, is_counter: bool) -> f64 {
    let (mut from, to) = (w.values[a], w.values[a + 1]);
    if is_counter && to < from {
        from = 0.0;
    }
    from + (to - from) * seconds(at - w.times[a]) / seconds(w.times[a + 1] - w.times[a])
}

fn float_change(w: &Window<'_>, first: usize, last: usize, is_counter: bool) -> f64 {
    let smoothed = w.borders == Borders::Smoothed;
    let left = if smoothed && w.times[first] < w.start_ms && first + 1 < w.len() {
        float_between(w, first, w.start_ms, is_counter)
    } else {
        w.values[first]
    };
    let right = if smoothed && last > 0 && w.times[last] > w.end_ms {
        float_between(w, last - 1, w.end_ms, is_counter)
    } else {
        w.values[last]
    };
    let mut change = right - left;
    if is_counter {
        let mut correction = 0.0;
        let mut before = left;
        for value in w.values[inner(w, first, last)].iter().chain([&right]) {
            if *value < before {
                correction += before;
            }
            before = *value;
        }
        change += correction;
    }
    change
}

fn histogram_change(w: &Window<'_>, first: usize, last: usize, is_counter: bool) -> Option<Histogram> {
    let used: Vec<&Arc<Histogram>> = (first..=last).filter_map(|i| w.histogram(i)).collect();
    let uses_custom = used.first()?.is_custom();
    for one in &used {
        if one.is_custom() != uses_custom {
            w.warn(mixed_schemas(&w.metric()));
            return None;
        }
        if is_counter && one.hint == ResetHint::Gauge {
            w.warn(format!("this native histogram metric is not a counter: {}", w.metric()));
        }
    }
    let smoothed = w.borders == Borders::Smoothed;
    let between = |a: usize, at: i64| interpolated(w, a, at, is_counter);
    let raw = |i: usize| w.histogram(i).map(|one| one.as_ref().clone());
    let left_is_between = smoothed && w.times[first] < w.start_ms;
    let left = if left_is_between { between(first, w.start_ms)? } else { raw(first)? };
    let right =
        if smoothed && last > 0 && w.times[last] > w.end_ms { between(last - 1, w.end_ms)? } else { raw(last)? };
    if !is_counter && (left.hint != ResetHint::Gauge || right.hint != ResetHint::Gauge) {
        w.warn(format!("this native histogram metric is not a gauge: {}", w.metric()));
    }
    let mut change = subtracted(w, &right, &left)?;
    if is_counter && let Some(correction) = correction(w, (first, last), (&left, &right), left_is_between)? {
        change = added(w, &change, &correction)?;
    }
    change.hint = ResetHint::Gauge;
    Some(change)
}

/// Returns what was counted up to each reset between the borders; `None` within when there was none.
fn correction(
    w: &Window<'_>,
    (first, last): (usize, usize),
    (left, right): (&Histogram, &Histogram),
    left_is_between: bool,
) -> Option<Option<Histogram>> {
    let mut from = first + 1;
    let mut before = left;
    if left_is_between && first + 1 < w.len() {
        let (now, raw) = (w.histogram(first + 1)?, w.histogram(first)?);
        if now.detect_reset(raw) {
            // The value at the left border has taken this reset into account.
            before = now;
            from += 1;
        }
    }
    if from > last {
        return Some(None);
    }
    let mut sum: Option<Histogram> = None;
    let inside = (from..last).map(|i| w.histogram(i).map(Arc::as_ref));
    // The value at the right border stands for the last sample, whose hint it has.
    for now in inside.chain([Some(right)]) {
        let now = now?;
        if now.detect_reset(before) {
            sum = Some(match &sum {
                None => before.clone(),
                Some(sum) => added(w, sum, before)?,
            });
        }
        before = now;
    }
    Some(sum)
}

fn added(w: &Window<'_>, a: &Histogram, b: &Histogram) -> Option<Histogram> {
    let (sum, odd) = a.add(b)?;
    if odd.bounds_reconciled {
        w.info("mismatched custom buckets were reconciled during addition");
    }
    Some(sum)
}

fn subtracted(w: &Window<'_>, a: &Histogram, b: &Histogram) -> Option<Histogram> {
    let (difference, odd) = a.sub(b)?;
    if odd.bounds_reconciled {
        w.info("mismatched custom buckets were reconciled during subtraction");
    }
    Some(difference)
}

/// Returns the histogram at `at`, which lies between the samples `a` and `a + 1`.
fn interpolated(w: &Window<'_>, a: usize, at: i64, is_counter: bool) -> Option<Histogram> {
    let (before, next) = (w.histogram(a)?, w.histogram(a + 1)?);
    between(before, next, part(w, a, at), is_counter, |what| w.info(what))
}

/// Returns the histogram at a part of the way from `a` to `b`; a counter that was reset comes from zero.
pub(super) fn between(
    a: &Histogram,
    b: &Histogram,
    part: f64,
    is_counter: bool,
    info: impl Fn(&'static str),
) -> Option<Histogram> {
    if part == 0.0 {
        return Some(a.clone());
    }
    if part == 1.0 {
        return Some(b.clone());
    }
    if is_counter && b.detect_reset(a) {
        return Some(b.scaled(part));
    }
    let (difference, odd) = b.sub(a)?;
    if odd.bounds_reconciled {
        info("mismatched custom buckets were reconciled during subtraction");
    }
    let (sum, odd) = difference.scaled(part).add(a)?;
    if odd.bounds_reconciled {
        info("mismatched custom buckets were reconciled during addition");
    }
    Some(sum)
}
