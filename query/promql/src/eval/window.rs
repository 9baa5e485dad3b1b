//! Functions over windows of samples: `rate`, `sum_over_time`, …

use std::sync::Arc;

use model::Labels;

use crate::histogram::Histogram;
use crate::notes::Notes;
use crate::number::{self, Mean, kahan_add, quantile};
use crate::parse::ast::{Borders, Span};
use crate::parse::text::quote;
use crate::value::{HistogramColumn, Point, Samples};

/// The samples of one series in one step's window, without stale markers.
pub(crate) struct Window<'a> {
    pub(crate) labels: &'a Labels,
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) histograms: Option<&'a [Option<Arc<Histogram>>]>,
    pub(crate) starts: Option<&'a [i64]>,
    /// The window reaches from here (not inside) …
    pub(crate) start_ms: i64,
    /// … up to here (inside).
    pub(crate) end_ms: i64,
    /// The step's own time.
    pub(crate) step_at_ms: i64,
    /// The scalar arguments at this step.
    pub(crate) params: [f64; 2],
    pub(crate) borders: Borders,
    pub(crate) span: Span,
    pub(crate) notes: &'a Notes,
}

/// A function over a window; `None` when there is no result.
pub(crate) type WindowFn = fn(&Window<'_>) -> Option<Point>;

/// Returns the function of this name.
pub(crate) fn find(name: &str) -> Option<WindowFn> {
    Some(match name {
        "rate" => |w| super::rate::extrapolated(w, true, true),
        "increase" => |w| super::rate::extrapolated(w, true, false),
        "delta" => |w| super::rate::extrapolated(w, false, false),
        "irate" => |w| super::rate::instant(w, true),
        "idelta" => |w| super::rate::instant(w, false),
        "deriv" => deriv,
        "predict_linear" => predict_linear,
        "changes" => changes,
        "resets" => resets,
        "double_exponential_smoothing" => smoothing,
        "avg_over_time" => super::over_time::avg,
        "sum_over_time" => super::over_time::sum,
        "count_over_time" => count,
        "min_over_time" => |w| extreme(w, |new, old| new < old),
        "max_over_time" => |w| extreme(w, |new, old| new > old),
        "ts_of_min_over_time" => |w| time_of_extreme(w, |new, old| new <= old),
        "ts_of_max_over_time" => |w| time_of_extreme(w, |new, old| new >= old),
        "ts_of_first_over_time" => |w| w.times.first().map(|at| Point::Float(seconds(*at))),
        "ts_of_last_over_time" => |w| w.times.last().map(|at| Point::Float(seconds(*at))),
        "first_over_time" => |w| (!w.times.is_empty()).then(|| w.get(0)),
        "last_over_time" => |w| w.times.len().checked_sub(1).map(|i| w.get(i)),
        "present_over_time" => |w| (!w.times.is_empty()).then_some(Point::Float(1.0)),
        "absent_over_time" => |w| (!w.times.is_empty()).then_some(Point::Float(1.0)),
        "quantile_over_time" => quantile_over_time,
        "stddev_over_time" => |w| variance(w).map(|v| Point::Float(v.sqrt())),
        "stdvar_over_time" => |w| variance(w).map(Point::Float),
        "mad_over_time" => mad,
        _ => return None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "as Prometheus converts a time")]
pub(crate) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

impl<'a> Window<'a> {
    /// Returns the part `from..to` of `samples` as a window.
    pub(crate) fn cut(samples: &'a Samples, from: usize, to: usize, like: Self) -> Self {
        Self {
            labels: &samples.labels,
            times: &samples.timestamps_ms[from..to],
            values: &samples.values[from..to],
            histograms: samples.histograms.as_ref().map(|column: &HistogramColumn| &column[from..to]),
            starts: samples.starts_ms.as_ref().map(|column| &column[from..to]),
            ..like
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn histogram(&self, i: usize) -> Option<&Arc<Histogram>> {
        self.histograms.and_then(|column| column[i].as_ref())
    }

    pub(crate) fn get(&self, i: usize) -> Point {
        match self.histogram(i) {
            Some(histogram) => Point::Histogram(Arc::clone(histogram)),
            None => Point::Float(self.values[i]),
        }
    }

    /// Iterates over (time, value) of the float samples.
    pub(crate) fn floats(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        (0..self.len()).filter(|i| self.histogram(*i).is_none()).map(|i| (self.times[i], self.values[i]))
    }

    /// Returns how many samples are (floats, histograms).
    pub(crate) fn kinds(&self) -> (usize, usize) {
        let histograms = self.histograms.map_or(0, |column| column.iter().filter(|one| one.is_some()).count());
        (self.len() - histograms, histograms)
    }

    /// Says whether sample `i` counts from a start after the sample before: the counter was reset, whatever its value.
    ///
    /// A start exactly at the sample before is a reset only where that one has a valid start itself: deltas come so, while
    /// a cumulative series with unknown start begins with a sample that starts at nothing or at itself.
    pub(crate) fn started_anew(&self, i: usize) -> bool {
        let (Some(starts), Some(before)) = (self.starts, i.checked_sub(1)) else { return false };
        let (start, at) = (starts[i], self.times[i]);
        let (start_before, at_before) = (starts[before], self.times[before]);
        if start == 0 || start >= at {
            return false;
        }
        start > at_before || (start == at_before && start_before != 0 && start_before < at_before)
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.notes.warn(self.span, text);
    }

    pub(crate) fn info(&self, text: impl Into<String>) {
        self.notes.info(self.span, text);
    }

    pub(crate) fn metric(&self) -> String {
        quote(self.labels.metric_name())
    }

    pub(crate) fn warn_mixed(&self) {
        self.warn(mixed_floats(&self.metric()));
    }

    /// Returns the floats; says so when histograms are left out.
    fn floats_noting_histograms(&self) -> Vec<(i64, f64)> {
        let (floats, histograms) = self.kinds();
        if floats > 0 && histograms > 0 {
            self.info(format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                self.metric()
            ));
        }
        self.floats().collect()
    }
}

pub(crate) fn mixed_floats(quoted_name: &str) -> String {
    format!("encountered a mix of histograms and floats for metric name {quoted_name}")
}

pub(crate) fn mixed_schemas(quoted_name: &str) -> String {
    format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {quoted_name}"
    )
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of all window functions")]
fn some(value: f64) -> Option<Point> {
    Some(Point::Float(value))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(w: &Window<'_>) -> Option<Point> {
    (w.len() > 0).then(|| Point::Float(w.len() as f64))
}

fn extreme(w: &Window<'_>, wins: fn(f64, f64) -> bool) -> Option<Point> {
    let better = |old: f64, new: f64| if wins(new, old) || old.is_nan() { new } else { old };
    if w.histograms.is_none() {
        return w.values.iter().copied().reduce(better).map(Point::Float);
    }
    let floats = w.floats_noting_histograms();
    floats.iter().map(|(_, value)| *value).reduce(better).map(Point::Float)
}

fn time_of_extreme(w: &Window<'_>, wins: fn(f64, f64) -> bool) -> Option<Point> {
    let floats = w.floats_noting_histograms();
    let best = floats.into_iter().reduce(|old, new| if wins(new.1, old.1) || old.1.is_nan() { new } else { old });
    best.map(|(at, _)| Point::Float(seconds(at)))
}

fn quantile_over_time(w: &Window<'_>) -> Option<Point> {
    let q = w.params[0];
    let floats = w.floats_noting_histograms();
    if floats.is_empty() {
        return None;
    }
    if q.is_nan() || !(0.0..=1.0).contains(&q) {
        w.warn(format!("quantile value should be between 0 and 1, got {}", number::format_short(q)));
    }
    let mut values: Vec<f64> = floats.into_iter().map(|(_, value)| value).collect();
    some(quantile(q, &mut values))
}

fn mad(w: &Window<'_>) -> Option<Point> {
    let floats = w.floats_noting_histograms();
    if floats.is_empty() {
        return None;
    }
    let mut values: Vec<f64> = floats.into_iter().map(|(_, value)| value).collect();
    if values.iter().any(|value| value.is_nan()) {
        return some(f64::NAN);
    }
    let median = quantile(0.5, &mut values);
    let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    some(quantile(0.5, &mut distances))
}

/// Welford's algorithm with compensated sums.
fn variance(w: &Window<'_>) -> Option<f64> {
    let floats = w.floats_noting_histograms();
    if floats.is_empty() {
        return None;
    }
    let (mut n, mut mean, mut mean_error, mut sum, mut sum_error) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (_, value) in floats {
        n += 1.0;
        let delta = value - (mean + mean_error);
        (mean, mean_error) = kahan_add(delta / n, mean, mean_error);
        (sum, sum_error) = kahan_add(delta * (value - (mean + mean_error)), sum, sum_error);
    }
    Some((sum + sum_error) / n)
}

/// Returns (slope, intercept at `at_ms`) of the least-squares line.
fn linear_regression(points: &[(i64, f64)], at_ms: i64) -> (f64, f64) {
    let first = points[0].1;
    if points.iter().all(|(_, y)| *y == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut n = 0.0;
    let mut sums = [(0.0, 0.0); 4];
    for (at, y) in points {
        n += 1.0;
        let x = seconds(*at - at_ms);
        for (sum, term) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            *sum = kahan_add(term, sum.0, sum.1);
        }
    }
    let [x, y, xy, xx] = sums.map(|(sum, error)| sum + error);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

fn deriv(w: &Window<'_>) -> Option<Point> {
    let floats = w.floats_noting_histograms();
    if floats.len() < 2 {
        return None;
    }
    some(linear_regression(&floats, floats[0].0).0)
}

fn predict_linear(w: &Window<'_>) -> Option<Point> {
    let floats = w.floats_noting_histograms();
    if floats.len() < 2 {
        return None;
    }
    let (slope, intercept) = linear_regression(&floats, w.step_at_ms);
    some(slope * w.params[0] + intercept)
}

fn smoothing(w: &Window<'_>) -> Option<Point> {
    let floats = w.floats_noting_histograms();
    if floats.len() < 2 {
        return None;
    }
    let [smoothing, trending] = w.params;
    let mut before = 0.0;
    let mut level = floats[0].1;
    let mut trend = floats[1].1 - floats[0].1;
    for (i, (_, value)) in floats.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trending * (level - before) + (1.0 - trending) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + trend);
        (before, level) = (level, next);
    }
    some(level)
}

/// Returns the index from which `changes` and `resets` compare, with `anchored` that of the sample before the window.
fn first_compared(w: &Window<'_>) -> usize {
    if w.borders == Borders::Plain {
        return 0;
    }
    w.times.partition_point(|at| *at <= w.start_ms).saturating_sub(1)
}

fn changes(w: &Window<'_>) -> Option<Point> {
    count_pairs(
        w,
        |a, b| match (a, b) {
            (Point::Float(a), Point::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
            (Point::Histogram(a), Point::Histogram(b)) => !a.same_as(b),
            _ => true,
        },
        false,
    )
}

fn resets(w: &Window<'_>) -> Option<Point> {
    count_pairs(
        w,
        |a, b| match (a, b) {
            (Point::Float(a), Point::Float(b)) => b < a,
            (Point::Histogram(a), Point::Histogram(b)) => b.detect_reset(a),
            _ => true,
        },
        true,
    )
}

fn count_pairs(w: &Window<'_>, differs: fn(&Point, &Point) -> bool, by_start: bool) -> Option<Point> {
    let first = first_compared(w);
    if w.len() == 0 || w.times.last().is_some_and(|at| *at <= w.start_ms) {
        return None;
    }
    let mut n = 0.0;
    let mut before = w.get(first);
    for i in first + 1..w.len() {
        let point = w.get(i);
        if differs(&before, &point) || (by_start && w.started_anew(i)) {
            n += 1.0;
        }
        before = point;
    }
    some(n)
}

/// Averages floats as `avg_over_time` does.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let mut mean = Mean::default();
    for value in values {
        mean.add(value);
    }
    mean.get()
}

/// Adds floats as `sum_over_time` does.
pub(crate) fn total(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut error) = (0.0, 0.0);
    for value in values {
        (sum, error) = number::kahan_add(value, sum, error);
    }
    if sum.is_infinite() { sum } else { sum + error }
}
