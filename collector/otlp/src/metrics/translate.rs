//! The walk over a metrics request, down to its data points.

use std::borrow::Cow;

use model::{Labels, METRIC_NAME, MetricKind, MetricMetadata, Timestamp};

use super::delta::Deltas;
use super::labels::text;
use super::labels::{
    Label, Shared, check, pairs, point_labels, resource_labels, scope_labels, set, short, target_labels, utf8,
};
use super::name::{LabelNaming, metric_name, unit_name};
use super::wire::{self, Buckets, DataKind, Malformed, Metric, Pair, Repeated, Scope, Side};
use super::{Kind, Options, Point, PointFault, PointValue, Refused, Report, Sink, Stopped};

/// How far two samples of `target_info` lie apart where a resource's points cover a longer time: half of Prometheus'
/// lookback, so that there is no gap.
const TARGET_INFO_STEP_MS: i64 = 150_000;

/// Most samples of `target_info` for one resource of one request; points of 1970 and 2100 in one batch get no more.
const TARGET_INFO_SAMPLES_MAX: i64 = 64;

/// Hands every data point of an `ExportMetricsServiceRequest` to `sink` as samples of Prometheus series, and the metadata
/// of each metric.
///
/// A point that cannot be translated is in the report with its reason, and nothing of it went to the sink. `now` is the
/// time of arrival. `deltas` is asked for the running totals when the first delta comes; the caller
/// [commits](super::DeltaStates::commit) or [rolls back](super::DeltaStates::rollback).
///
/// # Errors
/// When the bytes are malformed, what the sink says when it takes no more, and when totals cannot be looked up; the walk
/// ends there.
pub fn translate<'a, S: Sink<'a>>(
    body: &'a [u8],
    options: &Options,
    deltas: &mut dyn Deltas,
    now: Timestamp,
    sink: &mut S,
) -> Result<Report, Stopped<S::Full>> {
    let naming = options.label_naming();
    let scratch = Scratch::default();
    let mut walk = Walk { options, naming, deltas, now, sink, report: Report::default(), scratch };
    let mut resources = wire::request(body).iter();
    while let Some(resource) = resources.next()? {
        walk.resource(resource)?;
    }
    Ok(walk.report)
}

/// What is used again from point to point.
#[derive(Default)]
pub(super) struct Scratch<'a> {
    pub(super) attributes: Vec<Pair<'a>>,
    pub(super) buckets: Buckets,
    pub(super) positive: Side,
    pub(super) negative: Side,
}

pub(super) struct Walk<'w, 'a, S> {
    pub(super) options: &'w Options,
    pub(super) naming: LabelNaming,
    pub(super) deltas: &'w mut dyn Deltas,
    pub(super) now: Timestamp,
    pub(super) sink: &'w mut S,
    pub(super) report: Report,
    pub(super) scratch: Scratch<'a>,
}

/// What the points of one metric share.
pub(super) struct Family<'f, 'a> {
    pub(super) name: &'f str,
    pub(super) resource: &'f Shared<'a>,
    pub(super) scope: &'f [Label<'a>],
    /// As the wire has it; cumulative for kinds that have none.
    pub(super) temporality: u32,
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

/// Why a point went no further.
pub(super) enum Fault<F> {
    /// It alone is refused.
    Refused(Refused),
    /// The walk ends.
    Stop(Stopped<F>),
}

impl<F> From<Refused> for Fault<F> {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl<F> From<Malformed> for Fault<F> {
    fn from(malformed: Malformed) -> Self {
        Self::Stop(malformed.into())
    }
}

impl<F> From<PointFault> for Fault<F> {
    fn from(fault: PointFault) -> Self {
        match fault {
            PointFault::Refused(refused) => Self::Refused(refused),
            PointFault::History(error) => Self::Stop(Stopped::History(error)),
        }
    }
}

impl<'a, S: Sink<'a>> Walk<'_, 'a, S> {
    fn resource(&mut self, message: &'a [u8]) -> Result<(), Stopped<S::Full>> {
        let (resource, scopes) = wire::resource_metrics(message);
        let mut attributes = Vec::new();
        let mut pieces = resource.iter();
        while let Some(piece) = pieces.next()? {
            pairs(wire::resource_attributes(piece), &mut attributes)?;
        }
        let shared = resource_labels(&attributes, self.options);
        let mut times = Times::default();
        let mut scopes = scopes.iter();
        while let Some(scope) = scopes.next()? {
            let scope = Scope::read(scope)?;
            match &shared {
                Ok(shared) => self.scope(&scope, shared, &mut times)?,
                Err(refused) => self.refuse_scope(&scope, refused)?,
            }
        }
        match shared {
            Ok(shared) if self.options.target_info => self.target(&attributes, &shared, &times),
            _ => Ok(()),
        }
    }

    fn target(&mut self, attributes: &[Pair<'a>], shared: &Shared<'a>, times: &Times) -> Result<(), Stopped<S::Full>> {
        let Some((first, last)) = times.0 else { return Ok(()) };
        let labels = match target_labels(attributes, shared, self.options) {
            Ok(None) => return Ok(()),
            Ok(Some(labels)) => check(&labels, "target_info", &self.options.limits).map(|()| labels),
            Err(refused) => Err(refused),
        };
        match labels {
            Ok(labels) => self.target_info(&labels, first, last).map_err(Stopped::Full),
            Err(refused) => {
                self.report.dropped_beside(refused);
                Ok(())
            }
        }
    }

    fn target_info(&mut self, labels: &[Label<'a>], first: i64, last: i64) -> Result<(), S::Full> {
        self.sink.metadata(MetricMetadata {
            name: "target_info".to_owned(),
            kind: MetricKind::Gauge,
            help: "Target metadata".to_owned(),
            unit: String::new(),
        })?;
        let point = |timestamp_ms| Point { timestamp_ms, start_ms: 0, value: PointValue::Number(1.0) };
        let steps = (last - first) / TARGET_INFO_STEP_MS;
        if steps < TARGET_INFO_SAMPLES_MAX {
            for i in 0..=steps {
                let timestamp_ms = first + i * TARGET_INFO_STEP_MS;
                if timestamp_ms != last {
                    self.sink.series(labels, point(timestamp_ms), Vec::new())?;
                }
            }
        }
        self.sink.series(labels, point(last), Vec::new())
    }

    fn scope(&mut self, scope: &Scope<'a>, resource: &Shared<'a>, times: &mut Times) -> Result<(), Stopped<S::Full>> {
        let labels = match scope_labels(scope, self.options) {
            Ok(labels) => labels,
            Err(refused) => return self.refuse_scope(scope, &refused),
        };
        let mut metrics = scope.metrics.iter();
        while let Some(metric) = metrics.next()? {
            self.metric(&Metric::read(metric)?, resource, &labels, times)?;
        }
        Ok(())
    }

    fn refuse_scope(&mut self, scope: &Scope<'a>, refused: &Refused) -> Result<(), Stopped<S::Full>> {
        let mut metrics = scope.metrics.iter();
        while let Some(metric) = metrics.next()? {
            self.refuse_metric(&Metric::read(metric)?, refused.clone())?;
        }
        Ok(())
    }

    fn refuse_metric(&mut self, metric: &Metric<'a>, refused: Refused) -> Result<(), Stopped<S::Full>> {
        let mut count = 0;
        let mut points = metric.points();
        while points.next()?.is_some() {
            count += 1;
        }
        if metric.kind.is_none() {
            count = 1;
        }
        self.report.points += count;
        self.report.reject_many(refused, count);
        Ok(())
    }

    fn metric(
        &mut self,
        metric: &Metric<'a>,
        resource: &Shared<'a>,
        scope: &[Label<'a>],
        times: &mut Times,
    ) -> Result<(), Stopped<S::Full>> {
        let (name, unit) = match (utf8(metric.name), utf8(metric.unit)) {
            (Ok(name), Ok(unit)) => (name, unit),
            (Err(refused), _) | (_, Err(refused)) => return self.refuse_metric(metric, refused),
        };
        let Some(data) = metric.kind else {
            let detail = || format!("metric {:?} has no data of a known kind", short(name));
            return self.refuse_metric(metric, Refused::new("no_data", detail));
        };
        let (kind, temporality) = kind_of(data, metric);
        let name = metric_name(name, unit, kind, self.options.strategy);
        let family = Family { name: &name, resource, scope, temporality };
        let before = self.report.accepted();
        let mut points = metric.points();
        while let Some(point) = points.next()? {
            self.report.points += 1;
            match self.point(data, point, &family) {
                Ok(at_ms) => times.add(at_ms),
                Err(Fault::Refused(refused)) => self.report.reject(refused),
                Err(Fault::Stop(stopped)) => return Err(stopped),
            }
        }
        if self.report.accepted() > before {
            self.metadata(metric, name, unit, kind)?;
        }
        Ok(())
    }

    /// Returns the time in milliseconds.
    fn point(&mut self, data: DataKind, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        match data {
            DataKind::Gauge => self.number(point, family, false),
            DataKind::Sum => self.number(point, family, true),
            DataKind::Histogram => self.histogram(point, family),
            DataKind::Exponential => self.exponential(point, family),
            DataKind::Summary => self.summary(point, family),
        }
    }

    /// Returns the time in milliseconds and the labels without the name.
    pub(super) fn prepare(
        &mut self,
        nanos: u64,
        attributes: Repeated<'a>,
        family: &Family<'_, 'a>,
    ) -> Result<(i64, Vec<Label<'a>>), Fault<S::Full>> {
        if family.name.is_empty() {
            return Err(Refused::new("empty_metric_name", || "a metric has no name that can be kept".to_owned()).into());
        }
        if family.temporality != wire::CUMULATIVE && family.temporality != wire::DELTA {
            let detail = || format!("metric {:?} says neither delta nor cumulative", short(family.name));
            return Err(Refused::new("unspecified_temporality", detail).into());
        }
        if nanos == 0 {
            let detail = || format!("a point of {:?} has no timestamp", short(family.name));
            return Err(Refused::new("missing_timestamp", detail).into());
        }
        let Ok(nanos) = i64::try_from(nanos) else {
            let detail = || format!("a point of {:?} has the time {nanos} ns, after the year 2262", short(family.name));
            return Err(Refused::new("timestamp_out_of_range", detail).into());
        };
        self.scratch.attributes.clear();
        pairs(attributes, &mut self.scratch.attributes)?;
        let labels = point_labels(&self.scratch.attributes, family.resource, family.scope, self.naming)?;
        check(&labels, family.name, &self.options.limits)?;
        Ok((Timestamp(nanos).as_millis(), labels))
    }

    fn metadata(&mut self, metric: &Metric<'a>, name: String, unit: &str, kind: Kind) -> Result<(), Stopped<S::Full>> {
        let mut scraped = None;
        let mut entries = metric.metadata.iter();
        while let Some(entry) = entries.next()? {
            let pair = Pair::read(entry)?;
            // What a scraped metric was before it became OTLP, as the specification keeps it.
            if pair.key == b"prometheus.type"
                && let Ok(word) = text(pair.value)
            {
                scraped = Some(MetricKind::from_word(&word));
            }
        }
        let kind = scraped.unwrap_or(match kind {
            Kind::Gauge | Kind::UpDownCounter => MetricKind::Gauge,
            Kind::Counter => MetricKind::Counter,
            Kind::Histogram => MetricKind::Histogram,
            Kind::Summary => MetricKind::Summary,
        });
        match utf8(metric.description) {
            Ok(help) => {
                let metadata = MetricMetadata { name, kind, help: help.to_owned(), unit: unit_name(unit) };
                self.sink.metadata(metadata).map_err(Stopped::Full)
            }
            Err(refused) => {
                self.report.dropped_beside(Refused { reason: "invalid_metadata", ..refused });
                Ok(())
            }
        }
    }
}

/// Sets the metric's name.
pub(super) fn named<'a>(labels: &mut Vec<Label<'a>>, name: &str, suffix: &str) {
    set(labels, Cow::Borrowed(METRIC_NAME), Cow::Owned(format!("{name}{suffix}")));
}

pub(super) fn owned(labels: &[Label<'_>]) -> Labels {
    Labels::from_sorted(labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))
}

fn kind_of(data: DataKind, metric: &Metric<'_>) -> (Kind, u32) {
    match data {
        DataKind::Gauge => (Kind::Gauge, wire::CUMULATIVE),
        DataKind::Sum if metric.is_monotonic => (Kind::Counter, metric.temporality),
        DataKind::Sum => (Kind::UpDownCounter, metric.temporality),
        DataKind::Histogram | DataKind::Exponential => (Kind::Histogram, metric.temporality),
        DataKind::Summary => (Kind::Summary, wire::CUMULATIVE),
    }
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
