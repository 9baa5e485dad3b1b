//! The walk over a metrics request: each data point becomes the samples of one or more series.

use std::borrow::Cow;

use model::{Labels, METRIC_NAME, MetricKind, MetricMetadata, Sample, Timestamp, stale_marker};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, ExponentialHistogram, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Summary, SummaryDataPoint, number_data_point,
};

use super::delta::{DeltaStates, HistogramTotal, Span};
use super::labels::{Label, Shared, check, point_labels, resource_labels, scope_labels, set, short, target_labels};
use super::name::{metric_name, unit_name};
use super::{Kind, Options, Refused, Report, Sink};

/// How far two samples of `target_info` lie apart where a resource's points cover a longer time: half of Prometheus'
/// lookback, so that there is no gap.
const TARGET_INFO_STEP_MS: i64 = 150_000;

/// Most samples of `target_info` for one resource of one request; points of 1970 and 2100 in one batch get no more.
const TARGET_INFO_SAMPLES_MAX: i64 = 64;

/// Says whether a request holds deltas, so that [`translate`] needs [`DeltaStates`].
#[must_use]
pub fn has_deltas(request: &ExportMetricsServiceRequest) -> bool {
    let metrics = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    metrics.flat_map(|scope| &scope.metrics).any(|metric| match &metric.data {
        Some(Data::Sum(sum)) => sum.aggregation_temporality() == AggregationTemporality::Delta,
        Some(Data::Histogram(histogram)) => histogram.aggregation_temporality() == AggregationTemporality::Delta,
        Some(Data::Gauge(_) | Data::ExponentialHistogram(_) | Data::Summary(_)) | None => false,
    })
}

/// Hands every data point of the request to `sink` as samples of Prometheus series, and the metadata of each metric.
///
/// A point that cannot be translated is in the report with its reason, and nothing of it went to the sink. `now` is the
/// time of arrival. Points that are deltas need `deltas`; the caller [commits](DeltaStates::commit) or
/// [rolls back](DeltaStates::rollback).
///
/// # Errors
/// What the sink says when it takes no more; the walk ends there.
pub fn translate<'a, S: Sink<'a>>(
    request: &'a ExportMetricsServiceRequest,
    options: &Options,
    deltas: Option<&mut DeltaStates>,
    now: Timestamp,
    sink: &mut S,
) -> Result<Report, S::Full> {
    let mut walk = Walk { options, deltas, now, sink, report: Report::default() };
    for resource in &request.resource_metrics {
        walk.resource(resource)?;
    }
    Ok(walk.report)
}

struct Walk<'w, S> {
    options: &'w Options,
    deltas: Option<&'w mut DeltaStates>,
    now: Timestamp,
    sink: &'w mut S,
    report: Report,
}

/// What the points of one metric share.
struct Family<'f, 'a> {
    name: &'f str,
    resource: &'f Shared<'a>,
    scope: &'f [Label<'a>],
    temporality: AggregationTemporality,
}

/// First and last time of the points that were taken, in milliseconds.
#[derive(Default)]
struct Times(Option<(i64, i64)>);

impl Times {
    fn add(&mut self, at_ms: i64) {
        let (first, last) = self.0.unwrap_or((at_ms, at_ms));
        self.0 = Some((first.min(at_ms), last.max(at_ms)));
    }
}

/// What became of one point: the outer error stops the walk, the inner one refuses the point.
type Taken<T, F> = Result<Result<T, Refused>, F>;

impl<'a, S: Sink<'a>> Walk<'_, S> {
    fn resource(&mut self, resource_metrics: &'a ResourceMetrics) -> Result<(), S::Full> {
        let resource = resource_metrics.resource.as_ref();
        let shared = resource_labels(resource, self.options);
        let mut times = Times::default();
        for scope_metrics in &resource_metrics.scope_metrics {
            self.scope(scope_metrics, &shared, &mut times)?;
        }
        if !self.options.target_info {
            return Ok(());
        }
        let Some((first, last)) = times.0 else { return Ok(()) };
        let labels = match target_labels(resource, &shared) {
            Ok(None) => return Ok(()),
            Ok(Some(labels)) => check(&labels, "target_info", &self.options.limits).map(|()| labels),
            Err(refused) => Err(refused),
        };
        match labels {
            Ok(labels) => self.target_info(&labels, first, last),
            Err(refused) => {
                self.report.dropped_beside(refused);
                Ok(())
            }
        }
    }

    fn target_info(&mut self, labels: &[Label<'a>], first: i64, last: i64) -> Result<(), S::Full> {
        self.sink.metadata(MetricMetadata {
            name: "target_info".to_owned(),
            kind: MetricKind::Info,
            help: "Target metadata".to_owned(),
            unit: String::new(),
        })?;
        let steps = (last - first) / TARGET_INFO_STEP_MS;
        if steps < TARGET_INFO_SAMPLES_MAX {
            for i in 0..=steps {
                let timestamp_ms = first + i * TARGET_INFO_STEP_MS;
                if timestamp_ms != last {
                    self.sink.series(labels, Sample { timestamp_ms, value: 1.0 })?;
                }
            }
        }
        self.sink.series(labels, Sample { timestamp_ms: last, value: 1.0 })
    }

    fn scope(&mut self, scope: &'a ScopeMetrics, resource: &Shared<'a>, times: &mut Times) -> Result<(), S::Full> {
        let labels = scope_labels(scope.scope.as_ref(), &scope.schema_url, self.options);
        for metric in &scope.metrics {
            self.metric(metric, resource, &labels, times)?;
        }
        Ok(())
    }

    fn metric(
        &mut self,
        metric: &'a Metric,
        resource: &Shared<'a>,
        scope: &[Label<'a>],
        times: &mut Times,
    ) -> Result<(), S::Full> {
        let Some(data) = &metric.data else {
            self.report.points += 1;
            self.report.reject(Refused::new("no_data", || {
                format!("metric {:?} has no data of a known kind", short(&metric.name))
            }));
            return Ok(());
        };
        let (kind, temporality) = kind_of(data);
        let name = metric_name(&metric.name, &metric.unit, kind, self.options.name_suffixes);
        let family = Family { name: &name, resource, scope, temporality };
        let before = self.report.accepted();
        match data {
            Data::Gauge(gauge) => self.numbers(&gauge.data_points, &family, false, times)?,
            Data::Sum(sum) => self.numbers(&sum.data_points, &family, true, times)?,
            Data::Histogram(histogram) => self.histograms(histogram, &family, times)?,
            Data::Summary(summary) => self.summaries(summary, &family, times)?,
            Data::ExponentialHistogram(histogram) => self.refuse_exponential(histogram, metric),
        }
        if self.report.accepted() > before {
            self.sink.metadata(metadata(metric, name, kind))?;
        }
        Ok(())
    }

    fn refuse_exponential(&mut self, histogram: &ExponentialHistogram, metric: &Metric) {
        for point in &histogram.data_points {
            self.report.points += 1;
            self.report.exemplars += point.exemplars.len() as u64;
            self.report.reject(Refused::new("unsupported_exponential_histogram", || {
                format!("metric {:?} is an exponential histogram, which is not supported yet", short(&metric.name))
            }));
        }
    }

    fn numbers(
        &mut self,
        points: &'a [NumberDataPoint],
        family: &Family<'_, 'a>,
        is_sum: bool,
        times: &mut Times,
    ) -> Result<(), S::Full> {
        for point in points {
            self.report.points += 1;
            self.report.exemplars += point.exemplars.len() as u64;
            match self.number(point, family, is_sum)? {
                Ok(at_ms) => times.add(at_ms),
                Err(refused) => self.report.reject(refused),
            }
        }
        Ok(())
    }

    fn number(&mut self, point: &'a NumberDataPoint, family: &Family<'_, 'a>, is_sum: bool) -> Taken<i64, S::Full> {
        let prepared = self.prepare(point.time_unix_nano, &point.attributes, family, is_sum);
        let (timestamp_ms, mut labels) = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Err(refused)),
        };
        set(&mut labels, Cow::Borrowed(METRIC_NAME), Cow::Owned(family.name.to_owned()));
        let span = Span { start: point.start_time_unix_nano, end: point.time_unix_nano };
        let value = if ended(point.flags) {
            self.end_delta(family, &labels);
            stale_marker()
        } else {
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(number)) => number,
                #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
                Some(number_data_point::Value::AsInt(number)) => number as f64,
                None => {
                    let detail =
                        || format!("a point of {:?} has neither a value nor the flag that says so", family.name);
                    return Ok(Err(Refused::new("no_value", detail)));
                }
            };
            match self.total(family, &labels, |deltas, labels, now| deltas.add_number(labels, span, value, now)) {
                None => value,
                Some(Ok(total)) => total,
                Some(Err(refused)) => return Ok(Err(refused)),
            }
        };
        self.sink.series(&labels, Sample { timestamp_ms, value })?;
        Ok(Ok(timestamp_ms))
    }

    fn histograms(
        &mut self,
        histogram: &'a Histogram,
        family: &Family<'_, 'a>,
        times: &mut Times,
    ) -> Result<(), S::Full> {
        for point in &histogram.data_points {
            self.report.points += 1;
            self.report.exemplars += point.exemplars.len() as u64;
            match self.histogram(point, family)? {
                Ok(at_ms) => times.add(at_ms),
                Err(refused) => self.report.reject(refused),
            }
        }
        Ok(())
    }

    fn histogram(&mut self, point: &'a HistogramDataPoint, family: &Family<'_, 'a>) -> Taken<i64, S::Full> {
        let prepared = self
            .prepare(point.time_unix_nano, &point.attributes, family, true)
            .and_then(|prepared| check_buckets(point, family.name, self.options.buckets_max).map(|()| prepared));
        let (at_ms, labels) = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut total = HistogramTotal {
            bounds: point.explicit_bounds.clone(),
            counts: point.bucket_counts.clone(),
            count: point.count,
            sum: point.sum,
        };
        let stale = ended(point.flags);
        let mut named = labels.clone();
        set(&mut named, Cow::Borrowed(METRIC_NAME), Cow::Owned(family.name.to_owned()));
        if stale {
            self.end_delta(family, &named);
        } else {
            let span = Span { start: point.start_time_unix_nano, end: point.time_unix_nano };
            let delta = total.clone();
            match self.total(family, &named, |deltas, labels, now| deltas.add_histogram(labels, span, delta, now)) {
                None => {}
                Some(Ok(sum)) => total = sum,
                Some(Err(refused)) => return Ok(Err(refused)),
            }
        }
        let mut emit = Emit { sink: &mut *self.sink, name: family.name, labels, at_ms, stale };
        let mut cumulative = 0_u64;
        for (bound, count) in total.bounds.iter().zip(&total.counts) {
            cumulative = cumulative.saturating_add(*count);
            emit.sample("_bucket", Some(("le", number_text(*bound))), count_value(cumulative))?;
        }
        if total.bounds.last() != Some(&f64::INFINITY) {
            emit.sample("_bucket", Some(("le", "+Inf".to_owned())), count_value(total.count))?;
        }
        if let Some(sum) = total.sum {
            emit.sample("_sum", None, sum)?;
        }
        emit.sample("_count", None, count_value(total.count))?;
        Ok(Ok(at_ms))
    }

    fn summaries(&mut self, summary: &'a Summary, family: &Family<'_, 'a>, times: &mut Times) -> Result<(), S::Full> {
        for point in &summary.data_points {
            self.report.points += 1;
            match self.summary(point, family)? {
                Ok(at_ms) => times.add(at_ms),
                Err(refused) => self.report.reject(refused),
            }
        }
        Ok(())
    }

    fn summary(&mut self, point: &'a SummaryDataPoint, family: &Family<'_, 'a>) -> Taken<i64, S::Full> {
        let mut prepared = self.prepare(point.time_unix_nano, &point.attributes, family, false);
        if point.quantile_values.len() > self.options.buckets_max {
            let (got, limit) = (point.quantile_values.len(), self.options.buckets_max);
            let detail = || format!("a point of {:?} has {got} quantiles, the limit is {limit}", family.name);
            prepared = Err(Refused::new("too_many_buckets", detail));
        }
        let (at_ms, labels) = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut emit = Emit { sink: &mut *self.sink, name: family.name, labels, at_ms, stale: ended(point.flags) };
        for quantile in &point.quantile_values {
            emit.sample("", Some(("quantile", number_text(quantile.quantile))), quantile.value)?;
        }
        emit.sample("_sum", None, point.sum)?;
        emit.sample("_count", None, count_value(point.count))?;
        Ok(Ok(at_ms))
    }

    /// Returns the time in milliseconds and the labels without the name.
    fn prepare(
        &self,
        nanos: u64,
        attributes: &'a [opentelemetry_proto::tonic::common::v1::KeyValue],
        family: &Family<'_, 'a>,
        temporal: bool,
    ) -> Result<(i64, Vec<Label<'a>>), Refused> {
        if family.name.is_empty() {
            return Err(Refused::new("empty_metric_name", || "a metric has no name that can be kept".to_owned()));
        }
        if temporal && family.temporality == AggregationTemporality::Unspecified {
            let detail = || format!("metric {:?} says neither delta nor cumulative", short(family.name));
            return Err(Refused::new("unspecified_temporality", detail));
        }
        if nanos == 0 {
            let detail = || format!("a point of {:?} has no timestamp", short(family.name));
            return Err(Refused::new("missing_timestamp", detail));
        }
        let Ok(nanos) = i64::try_from(nanos) else {
            let detail = || format!("a point of {:?} has the time {nanos} ns, after the year 2262", short(family.name));
            return Err(Refused::new("timestamp_out_of_range", detail));
        };
        let labels = point_labels(attributes, family.resource, family.scope)?;
        check(&labels, family.name, &self.options.limits)?;
        Ok((Timestamp(nanos).as_millis(), labels))
    }

    /// Adds a delta up; `None` when the family is cumulative.
    fn total<T>(
        &mut self,
        family: &Family<'_, 'a>,
        labels: &[Label<'a>],
        add: impl FnOnce(&mut DeltaStates, Labels, Timestamp) -> Result<T, Refused>,
    ) -> Option<Result<T, Refused>> {
        if family.temporality != AggregationTemporality::Delta {
            return None;
        }
        let Some(deltas) = self.deltas.as_deref_mut() else {
            let detail = || format!("metric {:?} has delta temporality, and nothing adds it up", short(family.name));
            return Some(Err(Refused::new("unsupported_delta", detail)));
        };
        Some(add(deltas, owned(labels), self.now))
    }

    fn end_delta(&mut self, family: &Family<'_, 'a>, labels: &[Label<'a>]) {
        if family.temporality == AggregationTemporality::Delta
            && let Some(deltas) = self.deltas.as_deref_mut()
        {
            deltas.end(owned(labels));
        }
    }
}

/// Writes the series of one histogram or summary point.
struct Emit<'e, 'a, S> {
    sink: &'e mut S,
    name: &'e str,
    labels: Vec<Label<'a>>,
    at_ms: i64,
    stale: bool,
}

impl<'a, S: Sink<'a>> Emit<'_, 'a, S> {
    fn sample(&mut self, suffix: &str, extra: Option<(&'static str, String)>, value: f64) -> Result<(), S::Full> {
        let mut labels = self.labels.clone();
        set(&mut labels, Cow::Borrowed(METRIC_NAME), Cow::Owned(format!("{}{suffix}", self.name)));
        if let Some((name, value)) = extra {
            set(&mut labels, Cow::Borrowed(name), Cow::Owned(value));
        }
        let value = if self.stale { stale_marker() } else { value };
        self.sink.series(&labels, Sample { timestamp_ms: self.at_ms, value })
    }
}

fn owned(labels: &[Label<'_>]) -> Labels {
    Labels::from_sorted(labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))
}

fn ended(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

fn kind_of(data: &Data) -> (Kind, AggregationTemporality) {
    match data {
        Data::Gauge(_) => (Kind::Gauge, AggregationTemporality::Cumulative),
        Data::Sum(sum) if sum.is_monotonic => (Kind::Counter, sum.aggregation_temporality()),
        Data::Sum(sum) => (Kind::UpDownCounter, sum.aggregation_temporality()),
        Data::Histogram(histogram) => (Kind::Histogram, histogram.aggregation_temporality()),
        Data::ExponentialHistogram(histogram) => (Kind::Histogram, histogram.aggregation_temporality()),
        Data::Summary(_) => (Kind::Summary, AggregationTemporality::Cumulative),
    }
}

fn metadata(metric: &Metric, name: String, kind: Kind) -> MetricMetadata {
    // What a scraped metric was before it became OTLP, as the specification keeps it.
    let scraped = metric.metadata.iter().find(|pair| pair.key == "prometheus.type");
    let scraped = scraped.map(|pair| MetricKind::from_word(&crate::value::any_text(pair.value.as_ref())));
    let kind = scraped.unwrap_or(match kind {
        Kind::Gauge | Kind::UpDownCounter => MetricKind::Gauge,
        Kind::Counter => MetricKind::Counter,
        Kind::Histogram => MetricKind::Histogram,
        Kind::Summary => MetricKind::Summary,
    });
    MetricMetadata { name, kind, help: metric.description.clone(), unit: unit_name(&metric.unit) }
}

fn check_buckets(point: &HistogramDataPoint, name: &str, limit: usize) -> Result<(), Refused> {
    let (counts, bounds) = (point.bucket_counts.len(), point.explicit_bounds.len());
    if bounds > limit {
        let detail = || format!("a point of {:?} has {bounds} bounds, the limit is {limit}", short(name));
        return Err(Refused::new("too_many_buckets", detail));
    }
    if counts != bounds + 1 && (counts, bounds) != (0, 0) {
        let detail = || format!("a point of {:?} has {counts} buckets and {bounds} bounds", short(name));
        return Err(Refused::new("invalid_histogram", detail));
    }
    if !point.explicit_bounds.is_sorted_by(|a, b| a < b) || point.explicit_bounds.iter().any(|bound| bound.is_nan()) {
        let detail = || format!("the bounds of a point of {:?} do not ascend", short(name));
        return Err(Refused::new("invalid_histogram", detail));
    }
    Ok(())
}

/// Prints a bound or quantile as Prometheus' OTLP receiver does: decimal, without exponent.
fn number_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        number.to_string()
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
fn count_value(count: u64) -> f64 {
    count as f64
}
