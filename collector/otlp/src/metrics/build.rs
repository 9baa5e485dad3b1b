//! Builds OTLP metrics requests, for senders.

use model::{Resource, Scope, Timestamp, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, number_data_point, summary_data_point};

use crate::logs::{resource_to_otlp, scope_to_otlp};
use crate::value::attributes_to_otlp;

/// A number as OTLP has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A double.
    Double(f64),
}

/// One data point of a gauge or a sum.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberPoint {
    /// What tells this point's series from the others of the metric.
    pub attributes: Vec<(String, Value)>,
    /// When counting began; 0 when not known, and for gauges.
    pub start: Timestamp,
    /// When the value was read.
    pub timestamp: Timestamp,
    /// The value; `None` says "no recorded value": the series ends here.
    pub value: Option<Number>,
}

/// One data point of a cumulative histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// What tells this point's series from the others of the metric.
    pub attributes: Vec<(String, Value)>,
    /// When counting began; 0 when not known.
    pub start: Timestamp,
    /// When the values were read.
    pub timestamp: Timestamp,
    /// Upper bounds, ascending, without +Inf.
    pub bounds: Vec<f64>,
    /// Count per bucket (not summed up), one more than there are bounds.
    pub counts: Vec<u64>,
    /// The sum of all values, when known.
    pub sum: Option<f64>,
}

/// One data point of a summary.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryPoint {
    /// What tells this point's series from the others of the metric.
    pub attributes: Vec<(String, Value)>,
    /// When counting began; 0 when not known.
    pub start: Timestamp,
    /// When the values were read.
    pub timestamp: Timestamp,
    /// How many values there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// (quantile, value).
    pub quantiles: Vec<(f64, f64)>,
}

/// Name, description and unit of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instrument<'a> {
    /// The name.
    pub name: &'a str,
    /// One sentence for people.
    pub description: &'a str,
    /// A UCUM unit: `s`, `By`, `1`, `{request}`.
    pub unit: &'a str,
}

/// Collects the metrics of one resource and scope into a request.
#[derive(Debug, Clone)]
pub struct MetricsBuilder {
    resource_metrics: otlp::ResourceMetrics,
    metrics: Vec<otlp::Metric>,
    scope_metrics: otlp::ScopeMetrics,
}

impl MetricsBuilder {
    /// Starts a request.
    #[must_use]
    pub fn new(resource: &Resource, scope: &Scope) -> Self {
        Self {
            resource_metrics: otlp::ResourceMetrics {
                resource: Some(resource_to_otlp(resource)),
                scope_metrics: Vec::new(),
                schema_url: resource.schema_url.clone(),
            },
            metrics: Vec::new(),
            scope_metrics: otlp::ScopeMetrics {
                scope: Some(scope_to_otlp(scope)),
                metrics: Vec::new(),
                schema_url: scope.schema_url.clone(),
            },
        }
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, instrument: &Instrument<'_>, points: impl IntoIterator<Item = NumberPoint>) -> &mut Self {
        let data_points = points.into_iter().map(number_point).collect();
        self.push(instrument, Data::Gauge(otlp::Gauge { data_points }))
    }

    /// Adds a cumulative sum; `monotonic` when it never goes down but by starting anew.
    pub fn sum(
        &mut self,
        instrument: &Instrument<'_>,
        monotonic: bool,
        points: impl IntoIterator<Item = NumberPoint>,
    ) -> &mut Self {
        let sum = otlp::Sum {
            data_points: points.into_iter().map(number_point).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: monotonic,
        };
        self.push(instrument, Data::Sum(sum))
    }

    /// Adds a cumulative histogram.
    pub fn histogram(
        &mut self,
        instrument: &Instrument<'_>,
        points: impl IntoIterator<Item = HistogramPoint>,
    ) -> &mut Self {
        let histogram = otlp::Histogram {
            data_points: points.into_iter().map(histogram_point).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        };
        self.push(instrument, Data::Histogram(histogram))
    }

    /// Adds a summary.
    pub fn summary(
        &mut self,
        instrument: &Instrument<'_>,
        points: impl IntoIterator<Item = SummaryPoint>,
    ) -> &mut Self {
        let data_points = points.into_iter().map(summary_point).collect();
        self.push(instrument, Data::Summary(otlp::Summary { data_points }))
    }

    /// Says whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// Returns the request.
    #[must_use]
    pub fn build(mut self) -> ExportMetricsServiceRequest {
        self.scope_metrics.metrics = self.metrics;
        self.resource_metrics.scope_metrics.push(self.scope_metrics);
        ExportMetricsServiceRequest { resource_metrics: vec![self.resource_metrics] }
    }

    fn push(&mut self, instrument: &Instrument<'_>, data: Data) -> &mut Self {
        self.metrics.push(otlp::Metric {
            name: instrument.name.to_owned(),
            description: instrument.description.to_owned(),
            unit: instrument.unit.to_owned(),
            metadata: Vec::new(),
            data: Some(data),
        });
        self
    }
}

/// OTLP's times are unsigned; a time before 1970 cannot be said and becomes "not given".
fn nanos(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.0).unwrap_or(0)
}

fn number_point(point: NumberPoint) -> otlp::NumberDataPoint {
    otlp::NumberDataPoint {
        attributes: attributes_to_otlp(point.attributes),
        start_time_unix_nano: nanos(point.start),
        time_unix_nano: nanos(point.timestamp),
        exemplars: Vec::new(),
        flags: u32::from(point.value.is_none()),
        value: point.value.map(|value| match value {
            Number::Int(number) => number_data_point::Value::AsInt(number),
            Number::Double(number) => number_data_point::Value::AsDouble(number),
        }),
    }
}

fn histogram_point(point: HistogramPoint) -> otlp::HistogramDataPoint {
    otlp::HistogramDataPoint {
        attributes: attributes_to_otlp(point.attributes),
        start_time_unix_nano: nanos(point.start),
        time_unix_nano: nanos(point.timestamp),
        count: point.counts.iter().fold(0, |sum, count| sum.saturating_add(*count)),
        sum: point.sum,
        bucket_counts: point.counts,
        explicit_bounds: point.bounds,
        ..otlp::HistogramDataPoint::default()
    }
}

fn summary_point(point: SummaryPoint) -> otlp::SummaryDataPoint {
    otlp::SummaryDataPoint {
        attributes: attributes_to_otlp(point.attributes),
        start_time_unix_nano: nanos(point.start),
        time_unix_nano: nanos(point.timestamp),
        count: point.count,
        sum: point.sum,
        quantile_values: point
            .quantiles
            .into_iter()
            .map(|(quantile, value)| summary_data_point::ValueAtQuantile { quantile, value })
            .collect(),
        flags: 0,
    }
}
