//! OTLP metrics to Prometheus series, and from measured values to OTLP.

mod build;
mod delta;
mod labels;
mod name;
mod translate;

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use model::{MetricMetadata, Sample};

pub use build::{HistogramPoint, Instrument, MetricsBuilder, Number, NumberPoint, SummaryPoint};
pub use delta::{DeltaOptions, DeltaStates};
pub use labels::Label;
pub use name::{label_name, metric_name, unit_name};
pub use translate::{has_deltas, translate};

use crate::RejectedRecords;

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

/// Most and longest labels of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelLimits {
    /// Most labels of one series.
    pub labels_max: usize,
    /// Longest label name in bytes.
    pub name_bytes_max: usize,
    /// Longest label value in bytes.
    pub value_bytes_max: usize,
}

impl Default for LabelLimits {
    fn default() -> Self {
        Self { labels_max: 256, name_bytes_max: 1024, value_bytes_max: 16 << 10 }
    }
}

/// How OTLP metrics become Prometheus series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Resource attributes that become labels of every series of the resource.
    pub promoted_resource_attributes: Vec<String>,
    /// Whether units and kinds become suffixes of the name.
    pub name_suffixes: bool,
    /// Whether the scope becomes `otel_scope_*` labels.
    pub scope_labels: bool,
    /// Whether the other resource attributes become a `target_info` series.
    pub target_info: bool,
    /// Limits on labels.
    pub limits: LabelLimits,
    /// Most buckets of a histogram point, or quantiles of a summary point.
    pub buckets_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            promoted_resource_attributes: Vec::new(),
            name_suffixes: true,
            scope_labels: true,
            target_info: true,
            limits: LabelLimits::default(),
            buckets_max: 1024,
        }
    }
}

/// Takes the series that a request turns into.
pub trait Sink<'a> {
    /// Why it takes no more.
    type Full;

    /// Takes one sample; `labels` are sorted by name, without repeats or empty values.
    ///
    /// # Errors
    /// When it takes no more.
    fn series(&mut self, labels: &[Label<'a>], sample: Sample) -> Result<(), Self::Full>;

    /// Takes what is known of a metric.
    ///
    /// # Errors
    /// When it takes no more.
    fn metadata(&mut self, metadata: MetricMetadata) -> Result<(), Self::Full>;
}

/// What became of a request's data points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The data points that came; a metric without data of a known kind counts as one.
    pub points: u64,
    /// The points that were not translated, by reason.
    pub rejected: Vec<RejectedRecords>,
    /// What was lost beside the points: `target_info` series, by reason.
    pub beside: Vec<RejectedRecords>,
    /// The exemplars that came with the points, and are not kept.
    pub exemplars: u64,
}

impl Report {
    /// Returns how many points were translated.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.points - self.rejected.iter().map(|rejected| rejected.count).sum::<u64>()
    }

    fn reject(&mut self, refused: Refused) {
        count(&mut self.rejected, refused);
    }

    fn dropped_beside(&mut self, refused: Refused) {
        count(&mut self.beside, refused);
    }
}

fn count(list: &mut Vec<RejectedRecords>, refused: Refused) {
    match list.iter_mut().find(|rejected| rejected.reason == refused.reason) {
        Some(rejected) => rejected.count += 1,
        None => list.push(RejectedRecords { reason: refused.reason, count: 1, detail: refused.detail }),
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
