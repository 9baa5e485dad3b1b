//! The walk over a metrics request, down to its data points.

use std::sync::Arc;

use model::{Labels, MetricKind, MetricMetadata, Sample, Timestamp};

use super::delta::Deltas;
use super::family::{Family, MetricName, ResourceLabels, ScopeLabels};
use super::labels::{Label, scope_labels, short, text, utf8};
use super::name::unit_name;
use super::wire::{self, Buckets, DataKind, Malformed, Metric, Pair, Scope, Side};
use super::{Kind, Options, Point, PointFault, PointValue, Refused, Remembered, Report, Sink, Stopped};

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
    options: &'a Options,
    deltas: &mut dyn Deltas,
    now: Timestamp,
    sink: &mut S,
) -> Result<Report, Stopped<S::Full>> {
    let mut walk = Walk { options, deltas, now, sink, report: Report::default(), scratch: Scratch::default() };
    let mut resources = wire::request(body).iter();
    while let Some(resource) = resources.next()? {
        walk.resource(resource)?;
    }
    Ok(walk.report)
}

/// What is used again from point to point.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) buckets: Buckets,
    pub(super) positive: Side,
    pub(super) negative: Side,
}

pub(super) struct Walk<'w, 'a, S> {
    pub(super) options: &'a Options,
    pub(super) deltas: &'w mut dyn Deltas,
    pub(super) now: Timestamp,
    pub(super) sink: &'w mut S,
    pub(super) report: Report,
    pub(super) scratch: Scratch,
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
        let resource = Arc::new(ResourceLabels::read(resource, self.options)?);
        let remembered = self.sink.resource(&resource);
        let refused = match remembered {
            Remembered::Nothing => resource.shared().err(),
            Remembered::Sound { .. } => None,
        };
        let mut times = Times::default();
        let mut scopes = scopes.iter();
        while let Some(scope) = scopes.next()? {
            let scope = Scope::read(scope)?;
            match &refused {
                None => self.scope(scope, &resource, &mut times)?,
                Some(refused) => self.refuse_scope(&scope, refused)?,
            }
        }
        match (refused, times.0) {
            (None, Some(times)) => self.target(&resource, remembered, times).map_err(Stopped::Full),
            _ => Ok(()),
        }
    }

    /// Hands over the `target_info` of a resource whose points lie between two times.
    fn target(
        &mut self,
        resource: &Arc<ResourceLabels<'a>>,
        remembered: Remembered,
        (first, last): (i64, i64),
    ) -> Result<(), S::Full> {
        let mut labels = None;
        let has_target = match remembered {
            Remembered::Sound { has_target } => has_target,
            Remembered::Nothing => {
                match if self.options.target_info { resource.target() } else { Ok(None) } {
                    Ok(found) => labels = found,
                    Err(refused) => {
                        self.report.dropped_beside(refused);
                        return Ok(());
                    }
                }
                self.sink.sound(labels.is_some());
                labels.is_some()
            }
        };
        if !has_target {
            return Ok(());
        }
        if labels.is_some() {
            self.sink.metadata(MetricMetadata {
                name: "target_info".to_owned(),
                kind: MetricKind::Gauge,
                help: "Target metadata".to_owned(),
                unit: String::new(),
            })?;
        }
        let mut give = |timestamp_ms| match &labels {
            Some(labels) => {
                let point = Point { timestamp_ms, start_ms: 0, value: PointValue::Number(1.0) };
                self.sink.series(labels, point, Vec::new())
            }
            None => self.sink.target(resource, Sample { timestamp_ms, value: 1.0 }),
        };
        let steps = (last - first) / TARGET_INFO_STEP_MS;
        if steps < TARGET_INFO_SAMPLES_MAX {
            for i in 0..=steps {
                let timestamp_ms = first + i * TARGET_INFO_STEP_MS;
                if timestamp_ms != last {
                    give(timestamp_ms)?;
                }
            }
        }
        give(last)
    }

    fn scope(
        &mut self,
        mut scope: Scope<'a>,
        resource: &ResourceLabels<'a>,
        times: &mut Times,
    ) -> Result<(), Stopped<S::Full>> {
        let labels = match scope_labels(&scope, self.options) {
            Ok(labels) => Arc::new(ScopeLabels { pieces: std::mem::take(&mut scope.pieces), labels }),
            Err(refused) => return self.refuse_scope(&scope, &refused),
        };
        self.sink.scope(&labels);
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
        resource: &ResourceLabels<'a>,
        scope: &ScopeLabels<'a>,
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
        let name = MetricName { name, unit, kind, temporality };
        let family = Family::new(resource, scope, name).with_header(metric.header());
        if let Err(refused) = family.check() {
            return self.refuse_metric(metric, refused);
        }
        self.sink.family(&family);
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
        if self.report.accepted() > before && self.sink.wants_metadata(&family) {
            self.metadata(metric, &family, unit, kind)?;
        }
        Ok(())
    }

    /// Returns the time in milliseconds.
    fn point(&mut self, data: DataKind, point: &'a [u8], family: &Family<'_, 'a>) -> Result<i64, Fault<S::Full>> {
        match data {
            DataKind::Gauge | DataKind::Sum => self.number(point, family),
            DataKind::Histogram => self.histogram(point, family),
            DataKind::Exponential => self.exponential(point, family),
            DataKind::Summary => self.summary(point, family),
        }
    }

    fn metadata(
        &mut self,
        metric: &Metric<'a>,
        family: &Family<'_, 'a>,
        unit: &str,
        kind: Kind,
    ) -> Result<(), Stopped<S::Full>> {
        let name = family.prometheus_name().to_owned();
        if name.is_empty() {
            return Ok(());
        }
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
