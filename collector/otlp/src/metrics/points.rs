//! Each kind of data point: what samples of which series it becomes.

use std::sync::Arc;

use model::{Exemplar, Histogram, Sample, Timestamp, stale_marker};

use super::delta::{HistogramTotal, Span};
use super::exemplar::exemplars;
use super::family::{Attributes, Family, NoLabels, Part};
use super::labels::{Label, set, short};
use super::translate::{Fault, Walk, owned};
use super::wire::{Buckets, ExponentialPoint, HistogramPoint, NumberPoint, Quantile, Repeated, SummaryPoint};
use super::{Point, PointValue, Refused, Sink, Stopped, Undecoded, native};

/// The flag that says "no recorded value": the series ends.
const NO_RECORDED_VALUE: u32 = 1;

/// When a point was, and since when it counts.
#[derive(Clone, Copy)]
struct At {
    timestamp_ms: i64,
    start_ms: i64,
    stale: bool,
}

impl At {
    fn new(nanos: u64, start: u64, flags: u32, family: &Family<'_, '_>) -> Result<Self, Refused> {
        let refused = |reason, what: &dyn Fn() -> String| {
            let name = short(family.prometheus_name());
            Err(Refused::new(reason, || format!("a point of {name:?} has {}", what())))
        };
        let Ok(time) = i64::try_from(nanos) else {
            return refused("timestamp_out_of_range", &|| format!("the time {nanos} ns, after the year 2262"));
        };
        if time == 0 {
            return refused("missing_timestamp", &|| "no timestamp".to_owned());
        }
        let timestamp_ms = Timestamp(time).as_millis();
        let stale = flags & NO_RECORDED_VALUE != 0;
        Ok(Self { timestamp_ms, start_ms: start_ms(start, timestamp_ms), stale })
    }

    fn sample(self, value: f64) -> Sample {
        let value = if self.stale { stale_marker() } else { value };
        Sample { timestamp_ms: self.timestamp_ms, value }
    }

    fn point(self, value: f64) -> Point {
        let Sample { timestamp_ms, value } = self.sample(value);
        Point { timestamp_ms, start_ms: self.start_ms, value: PointValue::Number(value) }
    }
}

/// Returns a start time in milliseconds; 0 when there is none, or none that can be.
fn start_ms(start: u64, timestamp_ms: i64) -> i64 {
    let start_ms = i64::try_from(start).map_or(0, |nanos| Timestamp(nanos).as_millis());
    if start_ms <= timestamp_ms { start_ms } else { 0 }
}

/// Where the samples of a point go: its labels are decoded, or left to the sink.
enum Labelled<'a> {
    Decoded(Vec<Label<'a>>),
    Undecoded(Attributes<'a>),
}

impl<'a, S: Sink<'a>> Walk<'_, 'a, S> {
    /// Leaves the labels of a point undecoded where that is possible: a delta's are needed to find its total, and of
    /// attributes with other fields between them the bytes change with the point.
    fn labelled(&self, attributes: Repeated<'a>, family: &Family<'_, 'a>) -> Result<Labelled<'a>, Fault<S::Full>> {
        if !family.is_delta() && !attributes.is_mixed() {
            return Ok(Labelled::Undecoded(Attributes(attributes)));
        }
        Ok(Labelled::Decoded(family.base_labels(attributes)?))
    }

    pub(super) fn number(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let point = NumberPoint::read(point)?;
        let mut at = At::new(point.time, point.start, point.flags, family)?;
        let mut value = point.value.unwrap_or_default();
        if point.value.is_none() && !at.stale {
            let name = short(family.prometheus_name());
            let detail = || format!("a point of {name:?} has neither a value nor the flag that says so");
            return Err(Refused::new("no_value", detail).into());
        }
        let mut labelled = self.labelled(point.attributes, family)?;
        if let Labelled::Decoded(labels) = &mut labelled
            && family.is_delta()
        {
            let series = series_of(labels, family);
            if at.stale {
                self.deltas.states().end(series, point.time, self.now);
            } else {
                let span = Span { start: point.start, end: point.time };
                let running = self.deltas.states().add_number(series, span, value, self.now)?;
                (value, at.start_ms) = (running.total, start_ms(running.start, at.timestamp_ms));
            }
        }
        let exemplars = exemplars(point.exemplars, at.timestamp_ms, &mut self.report)?;
        self.give(&labelled, Part::Whole, at, value, exemplars, family)?;
        Ok(at.timestamp_ms)
    }

    pub(super) fn histogram(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let limit = self.options.buckets_max;
        let mut buckets = std::mem::take(&mut self.scratch.buckets);
        let done = HistogramPoint::read(point, limit, &mut buckets).map_err(Fault::from).and_then(|point| {
            let at = At::new(point.time, point.start, point.flags, family)?;
            check_buckets(&buckets, family, limit)?;
            if self.options.custom_buckets {
                self.custom(&point, at, &buckets, family)
            } else {
                self.classic(&point, at, &buckets, family)
            }
        });
        self.scratch.buckets = buckets;
        done
    }

    fn custom(
        &mut self,
        point: &HistogramPoint<'a>,
        at: At,
        buckets: &Buckets,
        family: &Family<'_, 'a>,
    ) -> Result<i64, Fault<S::Full>> {
        let labels = family.base_labels(point.attributes)?;
        let histogram = if at.stale {
            Histogram { schema: model::histogram::CUSTOM, ..Histogram::default() }
        } else {
            let name = family.prometheus_name();
            native::custom(&buckets.counts.kept, &buckets.bounds.kept, point.count, point.sum, name)?
        };
        let exemplars = exemplars(point.exemplars, at.timestamp_ms, &mut self.report)?;
        self.native(labels, histogram, at, Span { start: point.start, end: point.time }, family, exemplars)
    }

    fn classic(
        &mut self,
        point: &HistogramPoint<'a>,
        mut at: At,
        buckets: &Buckets,
        family: &Family<'_, 'a>,
    ) -> Result<i64, Fault<S::Full>> {
        let labelled = self.labelled(point.attributes, family)?;
        let mut total = None;
        if let Labelled::Decoded(labels) = &labelled
            && family.is_delta()
        {
            let series = series_of(labels, family);
            if at.stale {
                self.deltas.states().end(series, point.time, self.now);
            } else {
                let delta = HistogramTotal {
                    bounds: buckets.bounds.kept.clone(),
                    counts: buckets.counts.kept.clone(),
                    count: point.count,
                    sum: point.sum,
                };
                let span = Span { start: point.start, end: point.time };
                let running = self.deltas.states().add_classic(series, span, delta, self.now)?;
                at.start_ms = start_ms(running.start, at.timestamp_ms);
                total = Some(running.total);
            }
        }
        let (counts, count, sum) = match &total {
            Some(total) => (&total.counts, total.count, total.sum),
            None => (&buckets.counts.kept, point.count, point.sum),
        };
        let bounds = &buckets.bounds.kept;
        let mut exemplars = by_bucket(exemplars(point.exemplars, at.timestamp_ms, &mut self.report)?, bounds);
        let mut cumulative = 0_u64;
        for (i, (bound, in_bucket)) in bounds.iter().zip(counts).enumerate() {
            cumulative = cumulative.saturating_add(*in_bucket);
            let exemplars = taken(&mut exemplars, i);
            self.give(&labelled, Part::Bucket(*bound), at, native::float(cumulative), exemplars, family)?;
        }
        if bounds.last() != Some(&f64::INFINITY) {
            let exemplars = taken(&mut exemplars, bounds.len());
            self.give(&labelled, Part::Bucket(f64::INFINITY), at, native::float(count), exemplars, family)?;
        }
        if let Some(sum) = sum {
            self.give(&labelled, Part::Sum, at, sum, Vec::new(), family)?;
        }
        self.give(&labelled, Part::Count, at, native::float(count), Vec::new(), family)?;
        Ok(at.timestamp_ms)
    }

    pub(super) fn exponential(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let limit = self.options.buckets_max;
        let (positive, negative) = (&mut self.scratch.positive, &mut self.scratch.negative);
        let point = ExponentialPoint::read(point, limit, positive, negative)?;
        let at = At::new(point.time, point.start, point.flags, family)?;
        let name = family.prometheus_name();
        let got = positive.counts.len + negative.counts.len;
        if got > limit {
            let detail = || format!("a point of {:?} has {got} buckets, the limit is {limit}", short(name));
            return Err(Refused::new("too_many_buckets", detail).into());
        }
        let labels = family.base_labels(point.attributes)?;
        let histogram =
            if at.stale { Histogram::default() } else { native::exponential(&point, positive, negative, name)? };
        let exemplars = exemplars(point.exemplars, at.timestamp_ms, &mut self.report)?;
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
        family.name_part(&mut labels, Part::Whole);
        let mut since_ms = at.start_ms;
        let histogram = if at.stale {
            if family.is_delta() {
                self.deltas.states().end(owned(&labels), span.end, self.now);
            }
            histogram.sum = stale_marker();
            Arc::new(histogram)
        } else if family.is_delta() {
            let running = self.deltas.states().add_native(owned(&labels), span, histogram, self.now)?;
            since_ms = start_ms(running.start, at.timestamp_ms);
            running.total
        } else {
            Arc::new(histogram)
        };
        let value = PointValue::Histogram(histogram);
        let point = Point { timestamp_ms: at.timestamp_ms, start_ms: since_ms, value };
        self.sink.series(&labels, point, exemplars).map_err(full)?;
        Ok(at.timestamp_ms)
    }

    pub(super) fn summary(&mut self, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        let point = SummaryPoint::read(point)?;
        let at = At::new(point.time, point.start, point.flags, family)?;
        let (got, limit) = (point.quantiles.count()?, self.options.buckets_max);
        if got > limit as u64 {
            let name = short(family.prometheus_name());
            let detail = || format!("a point of {name:?} has {got} quantiles, the limit is {limit}");
            return Err(Refused::new("too_many_buckets", detail).into());
        }
        let labels = family.base_labels(point.attributes)?;
        let mut quantiles = point.quantiles.iter();
        while let Some(message) = quantiles.next()? {
            let Quantile { quantile, value } = Quantile::read(message)?;
            let mut labels = labels.clone();
            family.name_part(&mut labels, Part::Whole);
            set(&mut labels, "quantile".into(), number_text(quantile).into());
            self.sink.series(&labels, at.point(value), Vec::new()).map_err(full)?;
        }
        let labelled = Labelled::Decoded(labels);
        self.give(&labelled, Part::Sum, at, point.sum, Vec::new(), family)?;
        self.give(&labelled, Part::Count, at, native::float(point.count), Vec::new(), family)?;
        Ok(at.timestamp_ms)
    }

    /// Hands over a number.
    fn give(
        &mut self,
        labelled: &Labelled<'a>,
        part: Part,
        at: At,
        value: f64,
        exemplars: Vec<Exemplar>,
        family: &Family<'_, 'a>,
    ) -> Result<(), Fault<S::Full>> {
        match labelled {
            Labelled::Undecoded(attributes) => {
                let number = self.report.points;
                let (sample, start_ms) = (at.sample(value), at.start_ms);
                let series = Undecoded { number, attributes: *attributes, part, sample, start_ms };
                self.sink.undecoded(family, series, exemplars).map_err(full)??;
            }
            Labelled::Decoded(labels) => {
                let mut labels = labels.clone();
                family.name_part(&mut labels, part);
                self.sink.series(&labels, at.point(value), exemplars).map_err(full)?;
            }
        }
        Ok(())
    }
}

impl<F> From<NoLabels> for Fault<F> {
    fn from(fault: NoLabels) -> Self {
        match fault {
            NoLabels::Refused(refused) => Self::Refused(Refused { reason: refused.reason, detail: refused.detail }),
            NoLabels::Malformed(cause) => Self::Stop(Stopped::Malformed { cause }),
        }
    }
}

fn full<F>(full: F) -> Fault<F> {
    Fault::Stop(Stopped::Full(full))
}

/// Returns the labels by which the totals of a point are known: its own and the metric's name.
fn series_of(labels: &[Label<'_>], family: &Family<'_, '_>) -> model::Labels {
    let mut labels: Vec<Label<'_>> =
        labels.iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect();
    set(&mut labels, model::METRIC_NAME.into(), family.prometheus_name().into());
    owned(&labels)
}

/// Prints a bound or quantile as Prometheus' OTLP receiver does: decimal, without exponent.
pub(super) fn number_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        number.to_string()
    }
}

/// Gives each exemplar the number of the bucket that holds its value.
fn by_bucket(exemplars: Vec<Exemplar>, bounds: &[f64]) -> Vec<(usize, Exemplar)> {
    let bucket = |exemplar: &Exemplar| bounds.partition_point(|bound| *bound < exemplar.sample.value);
    exemplars.into_iter().map(|exemplar| (bucket(&exemplar), exemplar)).collect()
}

fn taken(exemplars: &mut Vec<(usize, Exemplar)>, bucket: usize) -> Vec<Exemplar> {
    if exemplars.is_empty() {
        return Vec::new();
    }
    exemplars.extract_if(.., |(of, _)| *of == bucket).map(|(_, exemplar)| exemplar).collect()
}

fn check_buckets(buckets: &Buckets, family: &Family<'_, '_>, limit: usize) -> Result<(), Refused> {
    let name = || short(family.prometheus_name());
    let (counts, bounds) = (buckets.counts.len, buckets.bounds.len);
    if bounds > limit {
        let detail = || format!("a point of {:?} has {bounds} bounds, the limit is {limit}", name());
        return Err(Refused::new("too_many_buckets", detail));
    }
    if counts != bounds + 1 && (counts, bounds) != (0, 0) {
        let detail = || format!("a point of {:?} has {counts} buckets and {bounds} bounds", name());
        return Err(Refused::new("invalid_histogram", detail));
    }
    let bounds = &buckets.bounds.kept;
    if !bounds.is_sorted_by(|a, b| a < b) || bounds.iter().any(|bound| bound.is_nan()) {
        let detail = || format!("the bounds of a point of {:?} do not ascend", name());
        return Err(Refused::new("invalid_histogram", detail));
    }
    Ok(())
}
