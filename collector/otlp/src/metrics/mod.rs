//! OTLP metrics to Prometheus series, and from measured values to OTLP.

mod build;
mod delta;
mod exemplar;
mod family;
mod history;
mod labels;
mod name;
mod native;
mod options;
mod points;
mod translate;
mod wire;

#[cfg(test)]
mod delta_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use model::{Exemplar, Histogram, MetricMetadata, Sample};

pub use build::{HistogramPoint, Instrument, MetricsBuilder, Number, NumberPoint, SummaryPoint};
pub use delta::{DeltaOptions, DeltaStates, Deltas};
pub use family::{Attributes, Family, MetricName, NoLabels, Part, ResourceLabels, ScopeLabels};
pub use history::{History, HistoryError, Newest};
pub use labels::Label;
pub use name::{LabelNaming, label_name, metric_name, unit_name};
pub use options::{LabelLimits, Options, Promoted, Strategy};
pub use translate::translate;
pub(crate) use wire::{Field, Malformed, Reader};

use crate::{InvalidFields, RejectedRecords};

/// The kind of an OTLP metric, as far as names depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A gauge.
    Gauge,
    /// A monotonic sum.
    Counter,
    /// A sum that goes up and down.
    UpDownCounter,
    /// A histogram.
    Histogram,
    /// A summary.
    Summary,
}

/// One sample of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// When counting began, in milliseconds since the epoch; 0 when that is not known.
    pub start_ms: i64,
    /// The value.
    pub value: PointValue,
}

/// The value of a [`Point`].
#[derive(Debug, Clone, PartialEq)]
pub enum PointValue {
    /// A number.
    Number(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

/// One sample of a series whose labels were not decoded.
#[derive(Debug, Clone, Copy)]
pub struct Undecoded<'a> {
    /// Counts the points of a request; the series of one point have the same.
    pub number: u64,
    /// The attributes.
    pub attributes: Attributes<'a>,
    /// Which of the series of the point.
    pub part: Part,
    /// The sample.
    pub sample: Sample,
    /// When counting began, in milliseconds since the epoch; 0 when that is not known.
    pub start_ms: i64,
}

/// What a sink remembers of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Remembered {
    /// Nothing: its labels are tested.
    #[default]
    Nothing,
    /// Its labels are sound, so that they need not be decoded.
    Sound {
        /// Whether there is a `target_info` for it.
        has_target: bool,
    },
}

/// Takes the series that a request turns into.
pub trait Sink<'a> {
    /// Why it takes no more.
    type Full;

    /// Takes one sample and the exemplars that came with it; `labels` are sorted by name, without repeats or empty
    /// values.
    ///
    /// # Errors
    /// When it takes no more.
    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Exemplar>) -> Result<(), Self::Full>;

    /// Is told of a resource before its scopes, and says what it remembers of one with the same identity and under the
    /// same options.
    fn resource(&mut self, _resource: &Arc<ResourceLabels<'a>>) -> Remembered {
        Remembered::Nothing
    }

    /// Is told that the labels of the resource that came last are sound, and whether there is a `target_info` for it. This
    /// is worth to be remembered once the request was taken.
    fn sound(&mut self, _has_target: bool) {}

    /// Takes a sample of the `target_info` of a resource that it remembers.
    ///
    /// # Errors
    /// When it takes no more.
    fn target(&mut self, resource: &Arc<ResourceLabels<'a>>, sample: Sample) -> Result<(), Self::Full> {
        let Ok(Some(labels)) = resource.target_labels() else { return Ok(()) };
        let Sample { timestamp_ms, value } = sample;
        self.series(&labels, Point { timestamp_ms, start_ms: 0, value: PointValue::Number(value) }, Vec::new())
    }

    /// Is told of a scope before its metrics.
    fn scope(&mut self, _scope: &Arc<ScopeLabels<'a>>) {}

    /// Is told of a metric before its points; it is one of the resource and the scope that were told last.
    fn family(&mut self, _family: &Family<'_, 'a>) {}

    /// As [`series`](Self::series), for one whose labels the sink may know without decoding them: series with the same
    /// identities of resource, scope, family and part, and the same bytes of attributes, have the same labels. The
    /// family is the one told last. The inner error refuses the point; a sink that refuses one later must count it
    /// itself.
    ///
    /// # Errors
    /// When it takes no more.
    fn undecoded(
        &mut self,
        family: &Family<'_, 'a>,
        series: Undecoded<'a>,
        exemplars: Vec<Exemplar>,
    ) -> Result<Result<(), NoLabels>, Self::Full> {
        let labels = match family.labels(series.attributes, series.part) {
            Ok(labels) => labels,
            Err(fault) => return Ok(Err(fault)),
        };
        let Sample { timestamp_ms, value } = series.sample;
        let point = Point { timestamp_ms, start_ms: series.start_ms, value: PointValue::Number(value) };
        self.series(&labels, point, exemplars).map(Ok)
    }

    /// Says whether [`metadata`](Self::metadata) need be told of a family: equal identities give equal metadata.
    fn wants_metadata(&mut self, _family: &Family<'_, 'a>) -> bool {
        true
    }

    /// Takes what is known of a metric.
    ///
    /// # Errors
    /// When it takes no more.
    fn metadata(&mut self, metadata: MetricMetadata) -> Result<(), Self::Full>;
}

/// Why the walk over a request ended early. Nothing of the request may be kept then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped<F> {
    /// The bytes are no metrics request.
    #[error("{cause}")]
    Malformed {
        /// What is wrong with them.
        cause: String,
    },
    /// The totals of deltas could not be looked up.
    #[error(transparent)]
    History(HistoryError),
    /// The sink takes no more.
    #[error("the sink takes no more")]
    Full(F),
}

impl<F> From<Malformed> for Stopped<F> {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed { cause: malformed.to_string() }
    }
}

/// What became of a request's data points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The data points that came; a metric without data of a known kind counts as one.
    pub points: u64,
    /// The points that were not translated, by reason.
    pub rejected: Vec<RejectedRecords>,
    /// What was lost beside the points: `target_info` series, metadata and exemplars, by reason.
    pub beside: Vec<RejectedRecords>,
    /// Fields of exemplars that were taken as "none".
    pub invalid: InvalidFields,
}

impl Report {
    /// Returns how many points were translated.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.points - self.rejected.iter().map(|rejected| rejected.count).sum::<u64>()
    }

    fn reject(&mut self, refused: Refused) {
        self.reject_many(refused, 1);
    }

    fn reject_many(&mut self, refused: Refused, n: u64) {
        count(&mut self.rejected, refused, n);
    }

    fn dropped_beside(&mut self, refused: Refused) {
        count(&mut self.beside, refused, 1);
    }
}

fn count(list: &mut Vec<RejectedRecords>, refused: Refused, n: u64) {
    if n == 0 {
        return;
    }
    match list.iter_mut().find(|rejected| rejected.reason == refused.reason) {
        Some(rejected) => rejected.count += n,
        None => list.push(RejectedRecords { reason: refused.reason, count: n, detail: refused.detail }),
    }
}

/// Why one point was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    reason: &'static str,
    detail: String,
}

impl Refused {
    fn new(reason: &'static str, detail: impl FnOnce() -> String) -> Self {
        Self { reason, detail: detail() }
    }
}

/// Why a point could not be added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PointFault {
    /// The point is refused.
    Refused(Refused),
    /// Nothing can be said of it, nor of the whole request.
    History(HistoryError),
}

impl From<Refused> for PointFault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
