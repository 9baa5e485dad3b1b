//! What is known of a metric beside its samples.

use crate::{Labels, Sample};

/// The kind of a metric, in Prometheus' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    /// Not said.
    #[default]
    Unknown,
    /// Only goes up, or starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic or native histogram.
    Histogram,
    /// A histogram whose counts go down, too.
    GaugeHistogram,
    /// Quantiles computed by the client.
    Summary,
    /// Constant 1 with facts as labels.
    Info,
    /// One series per state.
    StateSet,
}

impl MetricKind {
    /// Returns the word that Prometheus' API uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// Returns the kind that Prometheus' API calls `word`; [`MetricKind::Unknown`] for any other word.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            _ => Self::Unknown,
        }
    }
}

/// Kind, help and unit of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MetricMetadata {
    /// The metric family's name, e.g. `http_request_duration_seconds` for its `_bucket` series too.
    pub name: String,
    /// The kind.
    pub kind: MetricKind,
    /// One sentence for people.
    pub help: String,
    /// The unit, e.g. `seconds`; empty when not known.
    pub unit: String,
}

/// A sample that points at a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// `trace_id`, `span_id` and what else the client gave.
    pub labels: Labels,
    /// When and how much.
    pub sample: Sample,
}
