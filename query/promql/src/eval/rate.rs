//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use std::sync::Arc;

use super::window::{Window, mixed_schemas, seconds};
use crate::histogram::{Histogram, ResetHint};
use crate::notes::Detail;
use crate::parse::ast::Borders;
use crate::value::Point;

/// Computes the change over the window, extrapolated to its borders where samples reach close to them.
/// Source: Prometheus' documentation of `rate` and `increase`.
pub(super) fn extrapolated(w: &Window<'_>, is_counter: bool, is_rate: bool) -> Option<Point> {
    if w.borders != Borders::Plain {
        return super::extended::extended(w, is_counter, is_rate);
    }
    let (floats, histograms) = w.kinds();
    if floats > 0 && histograms > 0 {
        w.warn_mixed();
        return None;
    }
    let (first, last) = (*w.times.first()?, *w.times.last()?);
    let start = if is_counter { start_inside(w) } else { None };
    if w.len() < 2 && start.is_none() {
        return None;
    }
    if is_counter {
        note_overlaps(w);
    }
    let mut change = if histograms > 0 {
        Point::Histogram(Arc::new(histogram_change(w, is_counter)?))
    } else {
        Point::Float(float_change(w, is_counter))
    };
    let mut sampled = seconds(last - first);
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let average = if w.len() > 1 { sampled / (w.len() - 1) as f64 } else { 0.0 };
    let threshold = average * 1.1;
    let mut to_start = seconds(first - w.start_ms);
    if let Some(start) = start {
        // The counter was zero at a known time inside the window: no need to guess.
        change = match (change, w.get(0)) {
            (Point::Float(change), Point::Float(first)) => Point::Float(change + first),
            (Point::Histogram(_), Point::Histogram(first)) if w.len() == 1 => Point::Histogram(first),
            (Point::Histogram(change), Point::Histogram(first)) => {
                let (mut sum, odd) = change.add(&first)?;
                if odd.bounds_reconciled {
                    w.info("mismatched custom buckets were reconciled during addition");
                }
                sum.hint = ResetHint::Gauge;
                Point::Histogram(Arc::new(sum))
            }
            (change, _) => change,
        };
        sampled = seconds(last - start);
        to_start = 0.0;
    }
    let mut to_end = seconds(w.end_ms - last);
    if to_start >= threshold && start.is_none() {
        to_start = average / 2.0;
    }
    if is_counter {
        to_start = to_start.min(to_zero(w, &change, sampled, to_start));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if is_rate {
        factor /= seconds(w.end_ms - w.start_ms);
    }
    Some(match change {
        Point::Float(value) => Point::Float(value * factor),
        Point::Histogram(histogram) => Point::Histogram(Arc::new(histogram.scaled(factor))),
    })
}

/// Returns how long before the first sample the counter was at zero, going by its slope.
fn to_zero(w: &Window<'_>, change: &Point, sampled: f64, otherwise: f64) -> f64 {
    match change {
        Point::Float(change) if *change > 0.0 && w.values[0] >= 0.0 => sampled * (w.values[0] / change),
        Point::Histogram(change) if change.count > 0.0 => match w.histogram(0) {
            Some(first) if first.count >= 0.0 => sampled * (first.count / change.count),
            _ => otherwise,
        },
        _ => otherwise,
    }
}

/// Returns the first sample's start, where it lies inside the window and before the sample.
fn start_inside(w: &Window<'_>) -> Option<i64> {
    let start = *w.starts?.first()?;
    (start != 0 && w.start_ms < start && start < *w.times.first()?).then_some(start)
}

/// Warns of a sample that starts before the one before it and counts from elsewhere.
fn note_overlaps(w: &Window<'_>) {
    let Some(starts) = w.starts else { return };
    let overlaps = (1..w.len()).any(|i| {
        let (start, before) = (starts[i], starts[i - 1]);
        start != 0 && start < w.times[i - 1] && start != before
    });
    if overlaps {
        let metric = w.metric();
        let text = format!("sample has start time that overlaps with previous sample timestamp for metric {metric}");
        w.notes.add(true, w.span, text, Detail::Occasions(1));
    }
}

fn float_change(w: &Window<'_>, is_counter: bool) -> f64 {
    let values = w.values;
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return 0.0 };
    let mut change = last - first;
    if is_counter {
        let mut before = *first;
        for (i, value) in values.iter().enumerate().skip(1) {
            if *value < before || w.started_anew(i) {
                change += before;
            }
            before = *value;
        }
    }
    change
}

fn histogram_change(w: &Window<'_>, is_counter: bool) -> Option<Histogram> {
    let column = w.histograms?;
    let mut all: Vec<&Arc<Histogram>> = column.iter().flatten().collect();
    let (mut first, last) = (*all.first()?, *all.last()?);
    let gauge = |one: &Histogram| one.hint == ResetHint::Gauge;
    let mut is_odd = gauge(first) || gauge(last);
    let is_gauge = gauge(first) && gauge(last);
    // A reset after the first sample makes it worth nothing, whatever its buckets are.
    let nothing;
    if let (true, Some(second)) = (is_counter, all.get(1).copied())
        && (second.detect_reset(first) || w.started_anew(1))
    {
        let custom = Arc::clone(&second.custom);
        nothing = Arc::new(Histogram { schema: second.schema, custom, ..Histogram::default() });
        first = &nothing;
        all[0] = first;
    }
    let warn_of_gauge = || w.warn(format!("this native histogram metric is not a counter: {}", w.metric()));
    let uses_custom = last.is_custom();
    if first.is_custom() != uses_custom {
        if is_counter && is_odd {
            warn_of_gauge();
        }
        w.warn(mixed_schemas(&w.metric()));
        return None;
    }
    let mut schema = last.schema.min(first.schema);
    if is_counter {
        // What lies between matters only where it may be a reset.
        for one in all.iter().skip(1) {
            is_odd |= gauge(one);
            schema = schema.min(one.schema);
            if one.is_custom() != uses_custom {
                w.warn(mixed_schemas(&w.metric()));
                return None;
            }
        }
        if is_odd {
            warn_of_gauge();
        }
    } else if !is_gauge {
        w.warn(format!("this native histogram metric is not a gauge: {}", w.metric()));
    }
    // Brought to the coarsest resolution first, so that no intermediate step loses more than the result does. The others
    // keep theirs until their zero buckets are as wide as its, which may cut fewer buckets that way.
    let mut last = last.as_ref().clone();
    if !uses_custom {
        last.reduce(schema);
    }
    let (mut change, odd) = last.sub(first)?;
    if odd.bounds_reconciled {
        w.info("mismatched custom buckets were reconciled during subtraction");
    }
    if is_counter {
        for (i, two) in all.windows(2).enumerate() {
            if let [before, now] = two
                // The first pair was looked at above.
                && i > 0
                && (now.detect_reset(before) || w.started_anew(i + 1))
            {
                let (sum, odd) = change.add(before)?;
                if odd.bounds_reconciled {
                    w.info("mismatched custom buckets were reconciled during addition");
                }
                change = sum;
            }
        }
    }
    change.hint = ResetHint::Gauge;
    Some(change)
}

/// Computes the change between the last two samples.
pub(super) fn instant(w: &Window<'_>, is_rate: bool) -> Option<Point> {
    let n = w.len();
    if n < 2 {
        return None;
    }
    let elapsed_ms = w.times[n - 1] - w.times[n - 2];
    if elapsed_ms == 0 {
        return None;
    }
    let anew = w.started_anew(n - 1);
    let change = match (w.get(n - 2), w.get(n - 1)) {
        (Point::Float(before), Point::Float(now)) => {
            Point::Float(if is_rate && (now < before || anew) { now } else { now - before })
        }
        (Point::Histogram(before), Point::Histogram(now)) => {
            Point::Histogram(Arc::new(instant_histogram(w, &before, &now, is_rate, anew)?))
        }
        _ => {
            w.warn_mixed();
            return None;
        }
    };
    if !is_rate {
        return Some(change);
    }
    Some(match change {
        Point::Float(value) => Point::Float(value / seconds(elapsed_ms)),
        Point::Histogram(histogram) => Point::Histogram(Arc::new(histogram.divided(seconds(elapsed_ms)))),
    })
}

fn instant_histogram(
    w: &Window<'_>,
    before: &Histogram,
    now: &Histogram,
    is_rate: bool,
    anew: bool,
) -> Option<Histogram> {
    let gauges = [before, now].map(|one| one.hint == ResetHint::Gauge);
    if is_rate && gauges.contains(&true) {
        w.warn(format!("this native histogram metric is not a counter: {}", w.metric()));
    }
    if !is_rate && gauges.contains(&false) {
        w.warn(format!("this native histogram metric is not a gauge: {}", w.metric()));
    }
    let mut change = if is_rate && (anew || now.detect_reset(before)) {
        now.clone()
    } else if let Some((change, odd)) = now.sub(before) {
        if odd.bounds_reconciled {
            w.info("mismatched custom buckets were reconciled during subtraction");
        }
        change
    } else {
        w.warn(mixed_schemas(&w.metric()));
        return None;
    };
    change.hint = ResetHint::Gauge;
    Some(change)
}
