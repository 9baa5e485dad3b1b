//! Selectors: reads series part by part, in parallel, and puts their samples on the steps.

use std::sync::Arc;

use model::is_stale;
use rayon::prelude::*;
use storage_api::MillisRange;

use super::Evaluator;
use super::tally::{weight, weight_of};
use crate::error::Result;
use crate::histogram::{Histogram, ResetHint};
use crate::parse::ast::{Borders, Expr, ExprKind, Selector, Span};
use crate::source::Part;
use crate::value::{ABSENT, Grid, Point, Samples, Series};

/// Parts whose series are held at a time when they are taken over batch by batch: enough for all threads.
const BATCH_PARTS: usize = 32;

/// Where the samples of each step lie in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) grid: Grid,
    /// The time that stands for every step.
    pub(crate) at_ms: Option<i64>,
    pub(crate) offset_ms: i64,
}

impl Reach {
    /// Returns the time that step `i` looks at.
    pub(crate) fn time(&self, i: usize) -> i64 {
        self.at_ms.unwrap_or_else(|| self.grid.at(i)).saturating_sub(self.offset_ms)
    }

    /// Returns the first and the last such time.
    pub(crate) fn ends(&self) -> (i64, i64) {
        (self.time(0), self.time(self.grid.len().saturating_sub(1)))
    }
}

impl Evaluator<'_> {
    pub(super) fn reach(&self, selector: &Selector, grid: &Grid) -> Result<Reach> {
        let offset_ms = self.offset_ms(selector.offset.as_ref())?;
        Ok(Reach { grid: *grid, at_ms: self.at_ms(selector.at), offset_ms })
    }

    /// Reads the samples of `selector` in `range` and gives each series to `compute`, which returns what is kept of it.
    /// Stale markers are still in. The parts' samples are held one part per thread at a time.
    pub(super) fn read<T: Send>(
        &self,
        selector: &Selector,
        range: MillisRange,
        compute: impl Fn(Samples) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<T>> {
        let parts = self.source.select(&selector.matchers, self.with_one_before(range), self.context)?;
        self.read_parts(parts, range, &compute)
    }

    /// Returns the range to read: where resets are to be found, it begins earlier, so that the first sample inside has one
    /// to be compared with.
    fn with_one_before(&self, range: MillisRange) -> MillisRange {
        let more = if self.buckets == super::Buckets::Skipped { self.query.options.lookback_ms } else { 0 };
        MillisRange { min_ms: range.min_ms.saturating_sub(more), ..range }
    }

    /// As [`read`](Self::read) for series; each batch goes to the taker, where there is one, and nothing is returned.
    /// `look` sees all series before.
    pub(super) fn read_series(
        &self,
        selector: &Selector,
        range: MillisRange,
        compute: impl Fn(Samples) -> Result<Option<Series>> + Sync,
        look: impl Fn(&[Series]),
    ) -> Result<Vec<Series>> {
        let Some(take) = self.taker else {
            let series = self.read(selector, range, compute)?;
            look(&series);
            return Ok(series);
        };
        let mut parts = self.source.select(&selector.matchers, self.with_one_before(range), self.context)?.into_iter();
        loop {
            let batch: Vec<Box<dyn Part>> = parts.by_ref().take(BATCH_PARTS).collect();
            if batch.is_empty() {
                return Ok(Vec::new());
            }
            let series = self.read_parts(batch, range, &compute)?;
            look(&series);
            take(series)?;
        }
    }

    fn read_parts<T: Send>(
        &self,
        parts: Vec<Box<dyn Part>>,
        range: MillisRange,
        compute: &(impl Fn(Samples) -> Result<Option<T>> + Sync),
    ) -> Result<Vec<T>> {
        let read: Result<Vec<Vec<T>>> = parts
            .into_par_iter()
            .map(|part| {
                self.context.check()?;
                let series = part.read(self.context)?;
                let loaded: u64 = series.iter().map(Samples::cost).sum();
                let mut kept = Vec::with_capacity(series.len());
                for mut one in series {
                    self.context.check()?;
                    mark_as_stored(&mut one);
                    if self.buckets == super::Buckets::Skipped {
                        mark_resets(&mut one);
                        cut_before(&mut one, range.min_ms);
                    }
                    kept.extend(compute(one)?);
                }
                self.context.release_samples(loaded);
                Ok(kept)
            })
            .collect();
        Ok(read?.into_iter().flatten().collect())
    }

    /// Evaluates an instant selector: the newest sample not older than the lookback, unless it is a stale marker.
    pub(super) fn select(&self, selector: &Selector, span: Span, grid: &Grid) -> Result<Vec<Series>> {
        if selector.borders == Borders::Smoothed {
            return self.select_smoothed(selector, span, grid);
        }
        self.select_with(selector, grid, |samples, i| match samples.get(i) {
            Point::Float(value) if is_stale(value) => None,
            Point::Histogram(histogram) if histogram.is_stale() => None,
            point => Some(point),
        })
    }

    /// As [`select`](Self::select), but gives the samples' own times in seconds.
    pub(super) fn select_times(&self, selector: &Selector, grid: &Grid) -> Result<Vec<Series>> {
        self.select_whens(selector, grid, |samples, i| samples.timestamps_ms[i])
    }

    /// As [`select`](Self::select), but gives the samples' own times in milliseconds.
    pub(super) fn select_origins(&self, selector: &Selector, grid: &Grid) -> Result<Vec<Series>> {
        #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 ms")]
        self.select_with(selector, grid, |samples, i| {
            (!is_stale_at(samples, i)).then_some(Point::Float(samples.timestamps_ms[i] as f64))
        })
    }

    /// As [`select`](Self::select), but gives the times in seconds from which the samples count, 0 where not known.
    pub(super) fn select_start_times(&self, selector: &Selector, grid: &Grid) -> Result<Vec<Series>> {
        self.select_whens(selector, grid, |samples, i| samples.starts_ms.as_ref().map_or(0, |starts| starts[i]))
    }

    /// Gives a time of each sample, in seconds. As in Prometheus, where only times are asked for a selector with `@` looks
    /// back from that time, whatever its offset, and never beyond it.
    fn select_whens(
        &self,
        selector: &Selector,
        grid: &Grid,
        when: impl Fn(&Samples, usize) -> i64 + Sync,
    ) -> Result<Vec<Series>> {
        let looks_ahead = selector.at.is_some() && self.offset_ms(selector.offset.as_ref())? < 0;
        let offset = if looks_ahead { None } else { selector.offset.clone() };
        let oldest = self.at_ms(selector.at).map(|at| at.saturating_sub(self.query.options.lookback_ms));
        self.select_with(&Selector { offset, ..selector.clone() }, grid, |samples, i| {
            let is_near = oldest.is_none_or(|oldest| samples.timestamps_ms[i] > oldest);
            let value = super::window::seconds(when(samples, i));
            (is_near && !is_stale_at(samples, i)).then_some(Point::Float(value))
        })
    }

    fn select_with(
        &self,
        selector: &Selector,
        grid: &Grid,
        pick: impl Fn(&Samples, usize) -> Option<Point> + Sync,
    ) -> Result<Vec<Series>> {
        let steps = grid.len();
        let reach = self.reach(selector, grid)?;
        let (first, last) = reach.ends();
        let lookback = self.query.options.lookback_ms;
        let range = MillisRange { min_ms: first.saturating_sub(lookback).saturating_add(1), max_ms: last };
        let compute = |samples: Samples| {
            self.charge(1, steps)?;
            let mut series = Series::absent(samples.labels.clone(), false, steps);
            let mut after = 0;
            let mut any = false;
            for i in 0..steps {
                let time = reach.time(i);
                while samples.timestamps_ms.get(after).is_some_and(|at| *at <= time) {
                    after += 1;
                }
                let Some(newest) = after.checked_sub(1) else { continue };
                if samples.timestamps_ms[newest] > time.saturating_sub(lookback) {
                    let point = pick(&samples, newest);
                    any |= point.is_some();
                    if let (Some(tally), Some(point)) = (self.tally, &point) {
                        tally.add(i, weight(point));
                    }
                    match point {
                        Some(Point::Float(value)) => series.values[i] = value,
                        other => series.set(i, other),
                    }
                }
            }
            if !any {
                self.release(1, steps);
                return Ok(None);
            }
            self.charge_histograms(std::slice::from_ref(&series))?;
            Ok(Some(series))
        };
        self.read_series(selector, range, compute, |_| ())
    }

    /// Interpolates between the samples before and after each step.
    fn select_smoothed(&self, selector: &Selector, span: Span, grid: &Grid) -> Result<Vec<Series>> {
        let steps = grid.len();
        let reach = self.reach(selector, grid)?;
        let (first, last) = reach.ends();
        let lookback = self.query.options.lookback_ms;
        let range = MillisRange {
            min_ms: first.saturating_sub(lookback).saturating_add(1),
            max_ms: last.saturating_add(lookback),
        };
        self.read(selector, range, |samples| {
            self.charge(1, steps)?;
            let samples = without_stale(samples);
            let mut series = Series::absent(samples.labels.clone(), false, steps);
            for i in 0..steps {
                let point = self.smoothed_at(&samples, reach.time(i), span);
                if let (Some(tally), Some(point)) = (self.tally, &point) {
                    tally.add(i, weight(point));
                }
                series.set(i, point);
            }
            if series.is_empty() {
                self.release(1, steps);
                return Ok(None);
            }
            self.charge_histograms(std::slice::from_ref(&series))?;
            Ok(Some(series))
        })
    }

    fn smoothed_at(&self, samples: &Samples, time: i64, span: Span) -> Option<Point> {
        let lookback = self.query.options.lookback_ms;
        let times = &samples.timestamps_ms;
        let from = times.partition_point(|at| *at <= time.saturating_sub(lookback));
        let to = times.partition_point(|at| *at <= time.saturating_add(lookback)).max(from);
        let is_histogram = |i: usize| samples.histograms.as_ref().is_some_and(|column| column[i].is_some());
        let name = || crate::parse::text::quote(samples.labels.metric_name());
        if (from..to).any(|i| is_histogram(i) != is_histogram(from)) {
            self.notes.warn(span, super::window::mixed_floats(&name()));
            return None;
        }
        let next = times.partition_point(|at| *at < time).clamp(from, to);
        if next < to && times[next] == time {
            return Some(samples.get(next));
        }
        let before = next.checked_sub(1).filter(|i| *i >= from)?;
        if next == to {
            return Some(match samples.get(before) {
                // What is said of a reset is said of the sample, not of its value later on.
                Point::Histogram(one) => {
                    super::call::histogram_point(Histogram { hint: ResetHint::Unknown, ..one.as_ref().clone() })
                }
                point => point,
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "spans of time are far below 2^52 ms")]
        let part = (time - times[before]) as f64 / (times[next] - times[before]) as f64;
        match (samples.get(before), samples.get(next)) {
            (Point::Float(a), Point::Float(b)) => Some(Point::Float(a + (b - a) * part)),
            (Point::Histogram(a), Point::Histogram(b)) => {
                if a.is_custom() != b.is_custom() {
                    self.notes.warn(span, super::window::mixed_schemas(&name()));
                    return None;
                }
                let is_counter = a.hint != ResetHint::Gauge || b.hint != ResetHint::Gauge;
                let info = |what: &'static str| self.notes.info(span, what);
                super::extended::between(&a, &b, part, is_counter, info).map(super::call::histogram_point)
            }
            _ => None,
        }
    }

    /// Evaluates a range selector or a subquery at an instant: the samples in its window.
    pub(super) fn matrix(&self, expr: &Expr, grid: &Grid) -> Result<Vec<Samples>> {
        match &expr.unparen().kind {
            ExprKind::Range(selector, range) => {
                let range_ms = self.positive_ms(range)?;
                let reach = self.reach(selector, grid)?;
                let end = reach.time(0);
                let range = MillisRange { min_ms: end.saturating_sub(range_ms).saturating_add(1), max_ms: end };
                self.read(selector, range, |samples| {
                    let samples = without_stale(samples);
                    if samples.values.is_empty() {
                        return Ok(None);
                    }
                    self.context.charge_samples(samples.cost())?;
                    if let Some(tally) = self.tally {
                        tally.add(0, weight_of(&samples, 0, samples.values.len()));
                    }
                    Ok(Some(samples))
                })
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, grid).map(|(samples, _, _)| samples),
            _ => Err(crate::error::Error::evaluation("expected a range vector")),
        }
    }
}

/// Says of each histogram what Prometheus' store would say that took it in after the one before: that there was no reset
/// in between, where there was none. A reset that is found is not told, because blocks may overlap.
fn mark_as_stored(samples: &mut Samples) {
    let Some(column) = &mut samples.histograms else { return };
    let hint = |two: &[Option<Arc<Histogram>>]| match two {
        [Some(before), Some(one)] if matches!(one.hint, ResetHint::Unknown | ResetHint::NotReset) => {
            let unknown = before.hint == ResetHint::Gauge || one.detect_reset(before);
            Some(if unknown { ResetHint::Unknown } else { ResetHint::NotReset })
        }
        _ => None,
    };
    let hints: Vec<Option<ResetHint>> = column.windows(2).map(hint).collect();
    for (slot, hint) in column.iter_mut().skip(1).zip(hints) {
        if let (Some(slot), Some(hint)) = (slot, hint)
            && slot.hint != hint
        {
            Arc::make_mut(slot).hint = hint;
        }
    }
}

/// Takes out what lies before `min_ms`.
fn cut_before(samples: &mut Samples, min_ms: i64) {
    let count = samples.timestamps_ms.partition_point(|at| *at < min_ms);
    samples.timestamps_ms.drain(..count);
    samples.values.drain(..count);
    if let Some(column) = &mut samples.histograms {
        column.drain(..count);
    }
    if let Some(starts) = &mut samples.starts_ms {
        starts.drain(..count);
    }
}

fn is_stale_at(samples: &Samples, i: usize) -> bool {
    match samples.get(i) {
        Point::Float(value) => is_stale(value),
        Point::Histogram(histogram) => histogram.is_stale(),
    }
}

/// Says of each histogram after the first whether it was reset, where the store does not.
fn mark_resets(samples: &mut Samples) {
    let Some(column) = &mut samples.histograms else { return };
    let mut before: Option<Arc<Histogram>> = None;
    for slot in column {
        let Some(histogram) = slot else { continue };
        let raw = Arc::clone(histogram);
        if let (ResetHint::Unknown, Some(before)) = (raw.hint, &before) {
            let hint = if raw.detect_reset(before) { ResetHint::Reset } else { ResetHint::NotReset };
            *slot = Some(only_totals(&raw, hint));
        } else {
            *slot = Some(only_totals(&raw, raw.hint));
        }
        before = Some(raw);
    }
}

/// Returns what is looked at where only counts and sums are asked for.
fn only_totals(histogram: &Histogram, hint: ResetHint) -> Arc<Histogram> {
    let (schema, count, sum) = (histogram.schema, histogram.count, histogram.sum);
    Arc::new(Histogram { schema, count, sum, hint, ..Histogram::default() })
}

/// Takes the stale markers out.
pub(crate) fn without_stale(mut samples: Samples) -> Samples {
    let stale = |samples: &Samples, i: usize| match &samples.histograms {
        Some(column) if column[i].is_some() => column[i].as_ref().is_some_and(|histogram| histogram.is_stale()),
        _ => is_stale(samples.values[i]),
    };
    let keep: Vec<bool> = (0..samples.values.len()).map(|i| !stale(&samples, i)).collect();
    if keep.iter().all(|keep| *keep) {
        return samples;
    }
    retain(&mut samples.timestamps_ms, &keep);
    retain(&mut samples.values, &keep);
    if let Some(column) = &mut samples.histograms {
        retain(column, &keep);
    }
    if let Some(starts) = &mut samples.starts_ms {
        retain(starts, &keep);
    }
    samples
}

fn retain<T>(column: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    column.retain(|_| keep.next().copied().unwrap_or(false));
}

/// Turns columns over a grid into samples at the grid's points.
pub(crate) fn to_samples(series: Series, grid: &Grid) -> Samples {
    let mut samples = Samples { labels: series.labels.clone(), drop_name: series.drop_name, ..Samples::default() };
    let present: Vec<usize> = (0..series.values.len()).filter(|i| series.has(*i)).collect();
    samples.timestamps_ms = present.iter().map(|i| grid.at(*i)).collect();
    samples.values = present
        .iter()
        .map(|i| series.values[*i])
        .map(|v| if v.to_bits() == ABSENT.to_bits() { f64::NAN } else { v })
        .collect();
    if let Some(column) = &series.histograms {
        samples.histograms = Some(present.iter().map(|i| column[*i].clone()).collect());
    }
    samples
}
