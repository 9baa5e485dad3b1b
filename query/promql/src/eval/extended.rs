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
    if w.times[last] <= w.start_ms {
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

fn float_change(w: &Window<'_>, first: usize, last: usize, is_counter: bool) -> f64 {
    let smoothed = w.borders == Borders::Smoothed;
    let mut left = w.values[first];
    if smoothed && w.times[first] < w.start_ms && first + 1 < w.len() {
        let next = w.values[first + 1];
        let from = if is_counter && next < left { 0.0 } else { left };
        left = from + (next - from) * part(w, first, w.start_ms);
    }
    let mut right = w.values[last];
    if smoothed && last > 0 && w.times[last] > w.end_ms {
        let before = w.values[last - 1];
        let to = if is_counter && right < before { right + before } else { right };
        right = before + (to - before) * part(w, last - 1, w.end_ms);
    }
    let mut change = right - left;
    if is_counter {
        let mut before = left;
        for value in &w.values[inner(w, first, last)] {
            if *value < before {
                change += before;
            }
            before = *value;
        }
        if right < before {
            change += before;
        }
    }
    change
}

fn histogram_change(w: &Window<'_>, first: usize, last: usize, is_counter: bool) -> Option<Histogram> {
    let used: Vec<&Arc<Histogram>> = (first..=last).filter_map(|i| w.histogram(i)).collect();
    let uses_custom = used.first()?.is_custom();
    if used.iter().any(|one| one.is_custom() != uses_custom) {
        w.warn(mixed_schemas(&w.metric()));
        return None;
    }
    if is_counter && used.iter().any(|one| one.hint == ResetHint::Gauge) {
        w.warn(format!("this native histogram metric is not a counter: {}", w.metric()));
    }
    if !is_counter && used.iter().any(|one| one.hint != ResetHint::Gauge) {
        w.warn(format!("this native histogram metric is not a gauge: {}", w.metric()));
    }
    let smoothed = w.borders == Borders::Smoothed;
    let empty = |like: &Histogram| like.scaled(0.0);
    let mut left = w.histogram(first)?.as_ref().clone();
    if smoothed && w.times[first] < w.start_ms && first + 1 < w.len() {
        let next = w.histogram(first + 1)?;
        let from = if is_counter && next.detect_reset(&left) { empty(&left) } else { left };
        left = between(&from, next, part(w, first, w.start_ms))?;
    }
    let right_raw = w.histogram(last)?;
    let mut right = right_raw.as_ref().clone();
    let mut right_is_reset = last > 0 && last > first && right_raw.detect_reset(w.histogram(last - 1)?);
    if smoothed && last > 0 && w.times[last] > w.end_ms {
        let before = w.histogram(last - 1)?;
        let to = if is_counter && right_raw.detect_reset(before) { right.add(before)?.0 } else { right };
        right = between(before, &to, part(w, last - 1, w.end_ms))?;
        right_is_reset = false;
    }
    let mut change = right.sub(&left)?.0;
    if is_counter {
        let mut before = left;
        let range = inner(w, first, last);
        for i in range.clone() {
            let now = w.histogram(i)?;
            let raw_before = if i > 0 { w.histogram(i - 1) } else { None };
            let reset = raw_before.map_or_else(|| now.detect_reset(&before), |raw| now.detect_reset(raw));
            if i > first && reset && (i > range.start || !smoothed_reset_at_left(w, first, i)) {
                change = change.add(&before)?.0;
            }
            before = now.as_ref().clone();
        }
        if right_is_reset && !range.contains(&last) {
            change = change.add(&before)?.0;
        }
    }
    change.hint = ResetHint::Gauge;
    Some(change)
}

/// Says whether the reset before sample `i` was already taken into the interpolated value at the left border.
fn smoothed_reset_at_left(w: &Window<'_>, first: usize, i: usize) -> bool {
    w.borders == Borders::Smoothed && i == first + 1 && w.times[first] < w.start_ms
}

fn between(a: &Histogram, b: &Histogram, part: f64) -> Option<Histogram> {
    super::window::interpolate_histograms(a, b, part).map(Arc::unwrap_or_clone)
}
