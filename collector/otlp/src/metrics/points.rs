//! Each kind of data point: what samples of which series it becomes.

use std::borrow::Cow;
use std::sync::Arc;

use model::{Exemplar, Histogram, Timestamp, stale_marker};

use super::delta::{HistogramTotal, Span};
use super::exemplar::exemplars;
use super::labels::{Label, set, short};
use super::translate::{Family, Fault, Walk, named, number_text, owned};
use super::wire::{Buckets, DELTA, ExponentialPoint, HistogramPoint, NumberPoint, Quantile, SummaryPoint};
use super::{Point, PointValue, Refused, Sink, Stopped, native};

/// The flag that says "no recorded value": the series ends.
const NO_RECORDED_VALUE: u32 = 1;

/// The time of a point, and what it belongs to.
#[derive(Clone, Copy)]
struct At {
    timestamp_ms: i64,
    start_ms: i64,
    stale: bool,
}

impl At {
    fn new(timestamp_ms: i64, start: u64, flags: u32) -> Self {
        Self { timestamp_ms, start_ms: start_ms(start, timestamp_ms), stale: flags & NO_RECORDED_VALUE != 0 }
    }

    fn point(self, value: f64) -> Point {
        let value = if self.stale { stale_marker() } else { value };
        Point { timestamp_ms: self.timestamp_ms, start_ms: self.start_ms, value: PointValue::Number(value) }
    }
}

/// Returns a start time in milliseconds; 0 when there is none, or none that can be.
fn start_ms(start: u64, timestamp_ms: i64) -> i64 {
    let start_ms = i64::try_from(start).map_or(0, |nanos| Timestamp(nanos).as_millis());
    if start_ms <= timestamp_ms { start_ms } else { 0 }
}

impl<'a, S: Sink<'a>> Walk<'_, 'a, S> {
    pub(super) fn number(
        &mut self,
        point: &'a [u8],
        family: &Family<'_, 'a>,
        is_sum: bool,
    ) -> Result<i64, Fault<S::Full>> {
        let point = NumberPoint::read(point)?;
        let (timestamp_ms, mut labels) = self.prepare(point.time, point.attributes, family)?;
        named(&mut labels, family.name, "");
        let mut at = At::new(timestamp_ms, point.start, point.flags);
        let mut value = point.value.unwrap_or_default();
        if point.value.is_none() && !at.stale {
            let detail = || format!("a point of {:?} has neither a value nor the flag that says so", family.name);
            return Err(Refused::new("no_value", detail).into());
        }
        if is_sum && family.temporality == DELTA {
            let span = Span { start: point.start, end: point.time };
            if at.stale {
                self.deltas.states().end(owned(&labels), point.time, self.now);
            } else {
                let running = self.deltas.states().add_number(owned(&labels), span, value, self.now)?;
                (value, at.start_ms) = (running.total, start_ms(running.start, timestamp_ms));
            }
        }
        let exemplars = exemplars(point.exemplars, timestamp_ms, &mut self.report)?;
        self.give(&labels, at.point(value), exemplars)?;
        Ok(timestamp_ms)
    }

    fn give(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Exemplar>) -> Result<(), Fault<S::Full>> {
        self.sink.series(labels, point, exemplars).map_err(|full| Fault::Stop(Stopped::Full(full)))
    }

    pub(super) fn histogram(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let limit = self.options.buckets_max;
        let point = HistogramPoint::read(point, limit, &mut self.scratch.buckets)?;
        let (timestamp_ms, labels) = self.prepare(point.time, point.attributes, family)?;
        check_buckets(&self.scratch.buckets, family.name, limit)?;
        let at = At::new(timestamp_ms, point.start, point.flags);
        let exemplars = |walk: &mut Self| exemplars(point.exemplars, timestamp_ms, &mut walk.report);
        let span = Span { start: point.start, end: point.time };
        let Buckets { counts, bounds } = &self.scratch.buckets;
        if self.options.custom_buckets {
            let histogram = if at.stale {
                Histogram { schema: model::histogram::CUSTOM, ..Histogram::default() }
            } else {
                native::custom(&counts.kept, &bounds.kept, point.count, point.sum, family.name)?
            };
            let exemplars = exemplars(self)?;
            return self.native(labels, histogram, at, span, family, exemplars);
        }
        let mut total = HistogramTotal {
            bounds: bounds.kept.clone(),
            counts: counts.kept.clone(),
            count: point.count,
            sum: point.sum,
        };
        let mut at = at;
        if family.temporality == DELTA {
            let mut series = labels.clone();
            named(&mut series, family.name, "");
            let series = owned(&series);
            if at.stale {
                self.deltas.states().end(series, point.time, self.now);
            } else {
                let running = self.deltas.states().add_classic(series, span, total, self.now)?;
                (total, at.start_ms) = (running.total, start_ms(running.start, timestamp_ms));
            }
        }
        let exemplars = exemplars(self)?;
        let mut emit = Emit { sink: &mut *self.sink, name: family.name, labels, at };
        emit.classic(&total, exemplars).map_err(|full| Fault::Stop(Stopped::Full(full)))?;
        Ok(timestamp_ms)
    }

    pub(super) fn exponential(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let limit = self.options.buckets_max;
        let (positive, negative) = (&mut self.scratch.positive, &mut self.scratch.negative);
        let point = ExponentialPoint::read(point, limit, positive, negative)?;
        let (timestamp_ms, labels) = self.prepare(point.time, point.attributes, family)?;
        let (positive, negative) = (&self.scratch.positive, &self.scratch.negative);
        let got = positive.counts.len + negative.counts.len;
        if got > limit {
            let detail = || format!("a point of {:?} has {got} buckets, the limit is {limit}", short(family.name));
            return Err(Refused::new("too_many_buckets", detail).into());
        }
        let at = At::new(timestamp_ms, point.start, point.flags);
        let histogram =
            if at.stale { Histogram::default() } else { native::exponential(&point, positive, negative, family.name)? };
        let exemplars = exemplars(point.exemplars, timestamp_ms, &mut self.report)?;
        self.native(labels, histogram, at, Span { start: point.start, end: point.time }, family, exemplars)
    }

    /// Hands over a native histogram, added up when it is a delta.
    fn native(
        &mut self,
        mut labels: Vec<Label<'a>>,
        mut histogram: Histogram,
        at: At,
        span: Span,
        family: &Family<'_, 'a>,
        exemplars: Vec<Exemplar>,
    ) -> Result<i64, Fault<S::Full>> {
        named(&mut labels, family.name, "");
        let mut start_at_ms = at.start_ms;
        let histogram = if at.stale {
            if family.temporality == DELTA {
                self.deltas.states().end(owned(&labels), span.end, self.now);
            }
            histogram.sum = stale_marker();
            Arc::new(histogram)
        } else if family.temporality == DELTA {
            let running = self.deltas.states().add_native(owned(&labels), span, histogram, self.now)?;
            start_at_ms = start_ms(running.start, at.timestamp_ms);
            running.total
        } else {
            Arc::new(histogram)
        };
        let value = PointValue::Histogram(histogram);
        self.give(&labels, Point { timestamp_ms: at.timestamp_ms, start_ms: start_at_ms, value }, exemplars)?;
        Ok(at.timestamp_ms)
    }

    pub(super) fn summary(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let point = SummaryPoint::read(point)?;
        let (timestamp_ms, labels) = self.prepare(point.time, point.attributes, family)?;
        let (got, limit) = (point.quantiles.count()?, self.options.buckets_max);
        if got > limit as u64 {
            let detail = || format!("a point of {:?} has {got} quantiles, the limit is {limit}", short(family.name));
            return Err(Refused::new("too_many_buckets", detail).into());
        }
        let full = |full| Fault::Stop(Stopped::Full(full));
        let at = At::new(timestamp_ms, point.start, point.flags);
        let mut emit = Emit { sink: &mut *self.sink, name: family.name, labels, at };
        let mut quantiles = point.quantiles.iter();
        while let Some(message) = quantiles.next()? {
            let Quantile { quantile, value } = Quantile::read(message)?;
            emit.sample("", Some(("quantile", number_text(quantile))), value, Vec::new()).map_err(full)?;
        }
        emit.sample("_sum", None, point.sum, Vec::new()).map_err(full)?;
        emit.sample("_count", None, native::float(point.count), Vec::new()).map_err(full)?;
        Ok(timestamp_ms)
    }
}

/// Writes the series of one histogram or summary point.
struct Emit<'e, 'a, S> {
    sink: &'e mut S,
    name: &'e str,
    labels: Vec<Label<'a>>,
    at: At,
}

impl<'a, S: Sink<'a>> Emit<'_, 'a, S> {
    fn classic(&mut self, total: &HistogramTotal, exemplars: Vec<Exemplar>) -> Result<(), S::Full> {
        let mut exemplars = by_bucket(exemplars, &total.bounds);
        let mut cumulative = 0_u64;
        for (i, (bound, count)) in total.bounds.iter().zip(&total.counts).enumerate() {
            cumulative = cumulative.saturating_add(*count);
            let exemplars = taken(&mut exemplars, i);
            self.sample("_bucket", Some(("le", number_text(*bound))), native::float(cumulative), exemplars)?;
        }
        if total.bounds.last() != Some(&f64::INFINITY) {
            let exemplars = taken(&mut exemplars, total.bounds.len());
            self.sample("_bucket", Some(("le", number_text(f64::INFINITY))), native::float(total.count), exemplars)?;
        }
        if let Some(sum) = total.sum {
            self.sample("_sum", None, sum, Vec::new())?;
        }
        self.sample("_count", None, native::float(total.count), Vec::new())
    }

    fn sample(
        &mut self,
        suffix: &str,
        extra: Option<(&'static str, String)>,
        value: f64,
        exemplars: Vec<Exemplar>,
    ) -> Result<(), S::Full> {
        let mut labels = self.labels.clone();
        named(&mut labels, self.name, suffix);
        if let Some((name, value)) = extra {
            set(&mut labels, Cow::Borrowed(name), Cow::Owned(value));
        }
        self.sink.series(&labels, self.at.point(value), exemplars)
    }
}

/// Gives each exemplar the number of the bucket that holds its value.
fn by_bucket(exemplars: Vec<Exemplar>, bounds: &[f64]) -> Vec<(usize, Exemplar)> {
    let bucket = |exemplar: &Exemplar| bounds.partition_point(|bound| *bound < exemplar.sample.value);
    exemplars.into_iter().map(|exemplar| (bucket(&exemplar), exemplar)).collect()
}

fn taken(exemplars: &mut Vec<(usize, Exemplar)>, bucket: usize) -> Vec<Exemplar> {
    exemplars.extract_if(.., |(of, _)| *of == bucket).map(|(_, exemplar)| exemplar).collect()
}

fn check_buckets(buckets: &Buckets, name: &str, limit: usize) -> Result<(), Refused> {
    let (counts, bounds) = (buckets.counts.len, buckets.bounds.len);
    if bounds > limit {
        let detail = || format!("a point of {:?} has {bounds} bounds, the limit is {limit}", short(name));
        return Err(Refused::new("too_many_buckets", detail));
    }
    if counts != bounds + 1 && (counts, bounds) != (0, 0) {
        let detail = || format!("a point of {:?} has {counts} buckets and {bounds} bounds", short(name));
        return Err(Refused::new("invalid_histogram", detail));
    }
    let bounds = &buckets.bounds.kept;
    if !bounds.is_sorted_by(|a, b| a < b) || bounds.iter().any(|bound| bound.is_nan()) {
        let detail = || format!("the bounds of a point of {:?} do not ascend", short(name));
        return Err(Refused::new("invalid_histogram", detail));
    }
    Ok(())
}
