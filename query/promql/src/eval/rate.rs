//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use std::sync::Arc;

use super::window::{Window, mixed_schemas, seconds};
use crate::histogram::{Histogram, ResetHint};
use crate::notes::Detail;
use crate::parse::ast::Borders;
use crate::value::{ABSENT, Point};

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
    let mut extent = Extent::new((first, last), w.len(), (w.start_ms, w.end_ms));
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
        extent.sampled = seconds(last - start);
        extent.to_start = None;
    }
    let to_zero = if is_counter { to_zero(w, &change, extent.sampled) } else { None };
    let factor = extent.factor(to_zero, is_rate);
    Some(match change {
        Point::Float(value) => Point::Float(value * factor),
        Point::Histogram(histogram) => Point::Histogram(Arc::new(histogram.scaled(factor))),
    })
}

/// Where the samples of a window lie in it, in seconds.
struct Extent {
    /// From the first sample to the last one.
    sampled: f64,
    /// The mean distance of samples.
    average: f64,
    /// From the window's start to the first sample; `None` where what is sampled begins at a known time.
    to_start: Option<f64>,
    /// From the last sample to the window's end.
    to_end: f64,
    /// From the window's start to its end.
    window: f64,
}

impl Extent {
    fn new((first, last): (i64, i64), samples: usize, (start_ms, end_ms): (i64, i64)) -> Self {
        let sampled = seconds(last - first);
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let average = if samples > 1 { sampled / (samples - 1) as f64 } else { 0.0 };
        Self {
            sampled,
            average,
            to_start: Some(seconds(first - start_ms)),
            to_end: seconds(end_ms - last),
            window: seconds(end_ms - start_ms),
        }
    }

    /// Returns what the change between the samples is multiplied by; `to_zero` is how long before the first sample the
    /// counter was at zero.
    fn factor(&self, to_zero: Option<f64>, is_rate: bool) -> f64 {
        let threshold = self.average * 1.1;
        let reached = |gap: f64| if gap >= threshold { self.average / 2.0 } else { gap };
        let to_start = self.to_start.map_or(0.0, reached);
        let to_start = to_zero.map_or(to_start, |to_zero| to_start.min(to_zero));
        let factor = (self.sampled + to_start + reached(self.to_end)) / self.sampled;
        if is_rate { factor / self.window } else { factor }
    }
}

/// Returns how long before the first sample the counter was at zero, going by its slope.
fn to_zero(w: &Window<'_>, change: &Point, sampled: f64) -> Option<f64> {
    match change {
        Point::Float(change) => float_to_zero(*w.values.first()?, *change, sampled),
        Point::Histogram(change) => {
            let first = w.histogram(0)?;
            (change.count > 0.0 && first.count >= 0.0).then(|| sampled * (first.count / change.count))
        }
    }
}

fn float_to_zero(first: f64, change: f64, sampled: f64) -> Option<f64> {
    (change > 0.0 && first >= 0.0).then(|| sampled * (first / change))
}

/// Returns what [`extrapolated`] does for each window over floats without start times, absent where there is nothing. A
/// window reaches from `start` (not inside) to `end` (inside); neither falls from one window to the next. Where the counter
/// was reset is looked for once, not in each window.
pub(super) fn slid(
    times: &[i64],
    values: &[f64],
    windows: impl Iterator<Item = (i64, i64)>,
    (is_counter, is_rate): (bool, bool),
) -> Vec<f64> {
    let mut resets: Vec<usize> = Vec::new();
    if is_counter {
        let pairs = (1_usize..).zip(values.windows(2));
        resets.extend(pairs.filter(|(_, pair)| pair[1] < pair[0]).map(|(i, _)| i));
    }
    let (mut from, mut to, mut next_reset) = (0, 0, 0);
    let mut results = Vec::with_capacity(windows.size_hint().0);
    for (start_ms, end_ms) in windows {
        while times.get(to).is_some_and(|at| *at <= end_ms) {
            to += 1;
        }
        while from < to && times[from] <= start_ms {
            from += 1;
        }
        while resets.get(next_reset).is_some_and(|at| *at <= from) {
            next_reset += 1;
        }
        if to - from < 2 {
            results.push(ABSENT);
            continue;
        }
        let first = values[from];
        let mut change = values[to - 1] - first;
        for reset in resets[next_reset..].iter().take_while(|at| **at < to) {
            change += values[reset - 1];
        }
        let extent = Extent::new((times[from], times[to - 1]), to - from, (start_ms, end_ms));
        let to_zero = if is_counter { float_to_zero(first, change, extent.sampled) } else { None };
        results.push(change * extent.factor(to_zero, is_rate));
    }
    results
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

#[cfg(test)]
mod tests {
    use model::Labels;
    use proptest::prelude::*;

    use super::*;
    use crate::notes::Notes;
    use crate::parse::ast::Span;

    proptest! {
        #[test]
        fn sliding_gives_the_bits_of_each_window_alone(
            samples in prop::collection::vec((1_i64..9, prop_oneof![8 => -2.0..50.0, 1 => Just(f64::NAN), 1 => Just(0.0)]), 0..50),
            (range, step) in (1_i64..40, 1_i64..20),
            is_counter: bool,
            is_rate: bool,
        ) {
            let times: Vec<i64> = samples.iter().scan(0, |at, (gap, _)| { *at += gap; Some(*at) }).collect();
            let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
            let windows = (0..30).map(|i| (i * step - range, i * step));
            let slid = slid(&times, &values, windows.clone(), (is_counter, is_rate));
            let (labels, notes) = (Labels::empty(), Notes::default());
            for ((start_ms, end_ms), got) in windows.zip(slid) {
                let from = times.partition_point(|at| *at <= start_ms);
                let to = times.partition_point(|at| *at <= end_ms).max(from);
                let alone = Window {
                    labels: &labels,
                    times: &times[from..to],
                    values: &values[from..to],
                    histograms: None,
                    starts: None,
                    start_ms,
                    end_ms,
                    step_at_ms: end_ms,
                    params: [0.0; 2],
                    borders: Borders::Plain,
                    span: Span::default(),
                    notes: &notes,
                };
                let expected = match extrapolated(&alone, is_counter, is_rate) {
                    Some(Point::Float(value)) => value.to_bits(),
                    Some(Point::Histogram(_)) => unreachable!("there is none"),
                    None => ABSENT.to_bits(),
                };
                prop_assert_eq!(got.to_bits(), expected, "{} {}", got, f64::from_bits(expected));
            }
        }
    }
}
