//! Metrics requests.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, exemplar, exponential_histogram_data_point, metric, number_data_point, summary_data_point,
};
use serde::Deserialize;

use super::logs::{KeyValue, Resource, Scope};
use super::scalar::{Choice, Hex, Int, Many, Named, Numbers, Real, Text, Truth};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    #[serde(alias = "resource_metrics")]
    resource_metrics: Many<ResourceMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceMetrics {
    resource: Option<Resource>,
    #[serde(alias = "scope_metrics")]
    scope_metrics: Many<ScopeMetrics>,
    #[serde(alias = "schema_url")]
    schema_url: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeMetrics {
    scope: Option<Scope>,
    metrics: Many<Metric>,
    #[serde(alias = "schema_url")]
    schema_url: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metric {
    name: Text,
    description: Text,
    unit: Text,
    metadata: Many<KeyValue>,
    gauge: Option<Gauge>,
    sum: Option<Sum>,
    histogram: Option<Histogram>,
    #[serde(alias = "exponential_histogram")]
    exponential_histogram: Option<ExponentialHistogram>,
    summary: Option<Summary>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Gauge {
    #[serde(alias = "data_points")]
    data_points: Many<NumberPoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sum {
    #[serde(alias = "data_points")]
    data_points: Many<NumberPoint>,
    #[serde(alias = "aggregation_temporality")]
    aggregation_temporality: Choice<AggregationTemporality>,
    #[serde(alias = "is_monotonic")]
    is_monotonic: Truth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Histogram {
    #[serde(alias = "data_points")]
    data_points: Many<HistogramPoint>,
    #[serde(alias = "aggregation_temporality")]
    aggregation_temporality: Choice<AggregationTemporality>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExponentialHistogram {
    #[serde(alias = "data_points")]
    data_points: Many<ExponentialPoint>,
    #[serde(alias = "aggregation_temporality")]
    aggregation_temporality: Choice<AggregationTemporality>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Summary {
    #[serde(alias = "data_points")]
    data_points: Many<SummaryPoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NumberPoint {
    attributes: Many<KeyValue>,
    #[serde(alias = "start_time_unix_nano")]
    start_time_unix_nano: Int<u64>,
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Int<u64>,
    exemplars: Many<Exemplar>,
    flags: Int<u32>,
    #[serde(alias = "as_double")]
    as_double: Option<Real>,
    #[serde(alias = "as_int")]
    as_int: Option<Int<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HistogramPoint {
    attributes: Many<KeyValue>,
    #[serde(alias = "start_time_unix_nano")]
    start_time_unix_nano: Int<u64>,
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Int<u64>,
    count: Int<u64>,
    sum: Option<Real>,
    #[serde(alias = "bucket_counts")]
    bucket_counts: Numbers<Int<u64>>,
    #[serde(alias = "explicit_bounds")]
    explicit_bounds: Numbers<Real>,
    exemplars: Many<Exemplar>,
    flags: Int<u32>,
    min: Option<Real>,
    max: Option<Real>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExponentialPoint {
    attributes: Many<KeyValue>,
    #[serde(alias = "start_time_unix_nano")]
    start_time_unix_nano: Int<u64>,
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Int<u64>,
    count: Int<u64>,
    sum: Option<Real>,
    scale: Int<i32>,
    #[serde(alias = "zero_count")]
    zero_count: Int<u64>,
    positive: Option<Buckets>,
    negative: Option<Buckets>,
    flags: Int<u32>,
    exemplars: Many<Exemplar>,
    min: Option<Real>,
    max: Option<Real>,
    #[serde(alias = "zero_threshold")]
    zero_threshold: Real,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Buckets {
    offset: Int<i32>,
    #[serde(alias = "bucket_counts")]
    bucket_counts: Numbers<Int<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SummaryPoint {
    attributes: Many<KeyValue>,
    #[serde(alias = "start_time_unix_nano")]
    start_time_unix_nano: Int<u64>,
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Int<u64>,
    count: Int<u64>,
    sum: Real,
    #[serde(alias = "quantile_values")]
    quantile_values: Many<Quantile>,
    flags: Int<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Quantile {
    quantile: Real,
    value: Real,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exemplar {
    #[serde(alias = "filtered_attributes")]
    filtered_attributes: Many<KeyValue>,
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Int<u64>,
    #[serde(alias = "as_double")]
    as_double: Option<Real>,
    #[serde(alias = "as_int")]
    as_int: Option<Int<i64>>,
    #[serde(alias = "span_id")]
    span_id: Hex,
    #[serde(alias = "trace_id")]
    trace_id: Hex,
}

impl Named for AggregationTemporality {
    fn number(name: &str) -> Option<i32> {
        Self::from_str_name(name).map(Into::into)
    }
}

impl From<Request> for ExportMetricsServiceRequest {
    fn from(from: Request) -> Self {
        Self { resource_metrics: from.resource_metrics.to() }
    }
}

impl From<ResourceMetrics> for otlp::ResourceMetrics {
    fn from(from: ResourceMetrics) -> Self {
        Self {
            resource: from.resource.map(Into::into),
            scope_metrics: from.scope_metrics.to(),
            schema_url: from.schema_url.0,
        }
    }
}

impl From<ScopeMetrics> for otlp::ScopeMetrics {
    fn from(from: ScopeMetrics) -> Self {
        Self { scope: from.scope.map(Into::into), metrics: from.metrics.to(), schema_url: from.schema_url.0 }
    }
}

impl From<Metric> for otlp::Metric {
    fn from(from: Metric) -> Self {
        use metric::Data;
        let gauge = from.gauge.map(|gauge| Data::Gauge(otlp::Gauge { data_points: gauge.data_points.to() }));
        let sum = from.sum.map(|sum| {
            Data::Sum(otlp::Sum {
                data_points: sum.data_points.to(),
                aggregation_temporality: sum.aggregation_temporality.0,
                is_monotonic: sum.is_monotonic.0,
            })
        });
        let histogram = from.histogram.map(|histogram| {
            Data::Histogram(otlp::Histogram {
                data_points: histogram.data_points.to(),
                aggregation_temporality: histogram.aggregation_temporality.0,
            })
        });
        let exponential = from.exponential_histogram.map(|histogram| {
            Data::ExponentialHistogram(otlp::ExponentialHistogram {
                data_points: histogram.data_points.to(),
                aggregation_temporality: histogram.aggregation_temporality.0,
            })
        });
        let summary = from.summary.map(|one| Data::Summary(otlp::Summary { data_points: one.data_points.to() }));
        Self {
            name: from.name.0,
            description: from.description.0,
            unit: from.unit.0,
            metadata: from.metadata.to(),
            data: gauge.or(sum).or(histogram).or(exponential).or(summary),
        }
    }
}

impl From<NumberPoint> for otlp::NumberDataPoint {
    fn from(from: NumberPoint) -> Self {
        let double = from.as_double.map(|number| number_data_point::Value::AsDouble(number.0));
        Self {
            attributes: from.attributes.to(),
            start_time_unix_nano: from.start_time_unix_nano.0,
            time_unix_nano: from.time_unix_nano.0,
            exemplars: from.exemplars.to(),
            flags: from.flags.0,
            value: double.or(from.as_int.map(|number| number_data_point::Value::AsInt(number.0))),
        }
    }
}

impl From<HistogramPoint> for otlp::HistogramDataPoint {
    fn from(from: HistogramPoint) -> Self {
        Self {
            attributes: from.attributes.to(),
            start_time_unix_nano: from.start_time_unix_nano.0,
            time_unix_nano: from.time_unix_nano.0,
            count: from.count.0,
            sum: from.sum.map(|sum| sum.0),
            bucket_counts: from.bucket_counts.map(|count| count.0),
            explicit_bounds: from.explicit_bounds.map(|bound| bound.0),
            exemplars: from.exemplars.to(),
            flags: from.flags.0,
            min: from.min.map(|min| min.0),
            max: from.max.map(|max| max.0),
        }
    }
}

impl From<ExponentialPoint> for otlp::ExponentialHistogramDataPoint {
    fn from(from: ExponentialPoint) -> Self {
        Self {
            attributes: from.attributes.to(),
            start_time_unix_nano: from.start_time_unix_nano.0,
            time_unix_nano: from.time_unix_nano.0,
            count: from.count.0,
            sum: from.sum.map(|sum| sum.0),
            scale: from.scale.0,
            zero_count: from.zero_count.0,
            positive: from.positive.map(Into::into),
            negative: from.negative.map(Into::into),
            flags: from.flags.0,
            exemplars: from.exemplars.to(),
            min: from.min.map(|min| min.0),
            max: from.max.map(|max| max.0),
            zero_threshold: from.zero_threshold.0,
        }
    }
}

impl From<Buckets> for exponential_histogram_data_point::Buckets {
    fn from(from: Buckets) -> Self {
        Self { offset: from.offset.0, bucket_counts: from.bucket_counts.map(|count| count.0) }
    }
}

impl From<SummaryPoint> for otlp::SummaryDataPoint {
    fn from(from: SummaryPoint) -> Self {
        Self {
            attributes: from.attributes.to(),
            start_time_unix_nano: from.start_time_unix_nano.0,
            time_unix_nano: from.time_unix_nano.0,
            count: from.count.0,
            sum: from.sum.0,
            quantile_values: from.quantile_values.to(),
            flags: from.flags.0,
        }
    }
}

impl From<Quantile> for summary_data_point::ValueAtQuantile {
    fn from(from: Quantile) -> Self {
        Self { quantile: from.quantile.0, value: from.value.0 }
    }
}

impl From<Exemplar> for otlp::Exemplar {
    fn from(from: Exemplar) -> Self {
        let double = from.as_double.map(|number| exemplar::Value::AsDouble(number.0));
        Self {
            filtered_attributes: from.filtered_attributes.to(),
            time_unix_nano: from.time_unix_nano.0,
            span_id: from.span_id.0,
            trace_id: from.trace_id.0,
            value: double.or(from.as_int.map(|number| exemplar::Value::AsInt(number.0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics_from_json;
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};

    #[test]
    fn numbers_come_in_every_allowed_form() {
        let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"aggregationTemporality":2,
            "isMonotonic":true,"dataPoints":[{"timeUnixNano":"5","asInt":"7"},{"timeUnixNano":5,"asDouble":7},
            {"timeUnixNano":5,"asDouble":"-Infinity"},{"timeUnixNano":5,"asInt":-7,"flags":1},{}]}}]}]}]}"#;
        let request = metrics_from_json(body).unwrap();
        let Some(Data::Sum(sum)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else { panic!() };
        let values: Vec<_> = sum.data_points.iter().map(|point| point.value).collect();
        let double = |number| Some(Value::AsDouble(number));
        let int = |number| Some(Value::AsInt(number));
        assert_eq!(values, [int(7), double(7.0), double(f64::NEG_INFINITY), int(-7), None]);
    }

    #[test]
    fn doubles_are_exact_and_nonsense_is_refused() {
        let value = |text: &str| {
            let body = format!(
                r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{{"asDouble":{text}}}]}}}}]}}]}}]}}"#
            );
            let request = metrics_from_json(body.as_bytes())?;
            let Some(Data::Gauge(gauge)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else {
                panic!()
            };
            let Some(Value::AsDouble(number)) = gauge.data_points[0].value else { panic!() };
            Ok::<_, serde_json::Error>(number)
        };
        let exact = -1.992_934_706_337_537_7e118;
        assert_eq!(value("-1.9929347063375377e118").unwrap().to_bits(), f64::to_bits(exact));
        assert!(value(r#""NaN""#).unwrap().is_nan());
        for nonsense in ["true", "1e999", r#""x""#, "[1]", "{}"] {
            assert!(value(nonsense).unwrap_err().to_string().contains("expected a number, got"), "{nonsense}");
        }
    }

    #[test]
    fn a_malformed_point_is_an_error_and_no_absent_metric() {
        let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":1.5}]}}]}]}]}"#;
        assert!(metrics_from_json(body).unwrap_err().to_string().contains("1.5 is no integer"));
    }
}
