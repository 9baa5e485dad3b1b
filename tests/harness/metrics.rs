//! Senders and queries of metrics.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::Value;

use super::{Answer, Server};

/// Remote write 1.0, as far as the tests need it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

/// One series of a request.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
}

/// One label.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Label {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// One sample.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sample {
    /// Optional, so that a negative zero is sent, too.
    #[prost(double, optional, tag = "1")]
    pub(crate) value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

/// What Prometheus sends with a remote write.
pub(crate) const WRITE_HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// Returns a series with (milliseconds, value).
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    let label =
        |(name, value): &(&str, &str)| Label { name: name.as_bytes().to_vec(), value: value.as_bytes().to_vec() };
    TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: samples.iter().map(|&(timestamp, value)| Sample { value: Some(value), timestamp }).collect(),
    }
}

/// Returns the body of a remote write.
pub(crate) fn write_body(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    snappy(&WriteRequest { timeseries }.encode_to_vec())
}

/// Compresses a body as remote write does.
pub(crate) fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).expect("the body is below 4 GB")
}

/// Returns an OTLP attribute.
pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// Returns a request with these metrics of one service.
pub(crate) fn otlp_request(service: &str, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
}

/// Returns a data point of a gauge or sum.
pub(crate) fn point(at_ms: i64, value: f64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: u64::try_from(at_ms).expect("not before 1970") * 1_000_000,
        value: Some(number_data_point::Value::AsDouble(value)),
        attributes,
        ..NumberDataPoint::default()
    }
}

/// Returns a gauge.
pub(crate) fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    Metric { name: name.to_owned(), data: Some(metric::Data::Gauge(Gauge { data_points })), ..Metric::default() }
}

impl Server {
    /// Sends series by remote write.
    pub(crate) async fn remote_write(&self, timeseries: Vec<TimeSeries>) -> Answer {
        self.post(&self.url("/api/v1/write"), &WRITE_HEADERS, write_body(timeseries)).await
    }

    /// Sends a request by OTLP/HTTP with protobuf.
    pub(crate) async fn otlp_metrics(&self, request: &ExportMetricsServiceRequest) -> Answer {
        let headers = [("content-type", "application/x-protobuf")];
        self.post(&self.otlp_url("/v1/metrics"), &headers, request.encode_to_vec()).await
    }

    /// Returns the series of an instant query at `at_ms`: (labels as text, value as text), sorted.
    pub(crate) async fn instant(&self, query: &str, at_ms: i64) -> Vec<(String, String)> {
        let data = self.data("/api/v1/query", &[("query", query), ("time", &seconds(at_ms))]).await;
        let mut found: Vec<_> = match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().expect("a vector is an array").iter().map(sample).collect(),
            Some("scalar") => vec![(String::new(), text(&data["result"][1]))],
            _ => panic!("{query} gave {data}"),
        };
        found.sort();
        found
    }

    /// Returns the value of a query with one result.
    pub(crate) async fn value(&self, query: &str, at_ms: i64) -> f64 {
        let found = self.instant(query, at_ms).await;
        let [(_, value)] = found.as_slice() else { panic!("{query} gave {found:?}") };
        value.parse().expect("a value is a number")
    }

    /// Returns the raw samples of a range selector such as `seq[1h]`, by series.
    pub(crate) async fn samples(&self, selector: &str, at_ms: i64) -> BTreeMap<String, Vec<(i64, f64)>> {
        let data = self.data("/api/v1/query", &[("query", selector), ("time", &seconds(at_ms))]).await;
        assert_eq!(data["resultType"], "matrix", "{data}");
        let series = data["result"].as_array().expect("a matrix is an array").iter();
        series.map(|series| (labels(&series["metric"]), points(&series["values"]))).collect()
    }
}

/// Writes milliseconds as the API takes them.
pub(crate) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

fn sample(series: &Value) -> (String, String) {
    (labels(&series["metric"]), text(&series["value"][1]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Writes labels as `name{a="b"}`.
pub(crate) fn labels(metric: &Value) -> String {
    let metric = metric.as_object().expect("labels are an object");
    let name = metric.get("__name__").map(text).unwrap_or_default();
    let rest = metric.iter().filter(|(name, _)| *name != "__name__");
    let rest: Vec<_> = rest.map(|(name, value)| format!("{name}={}", text(value))).collect();
    format!("{name}{{{}}}", rest.join(","))
}

/// Returns (milliseconds, value) of a matrix' values.
pub(crate) fn points(values: &Value) -> Vec<(i64, f64)> {
    let point = |pair: &Value| {
        let seconds = pair[0].as_f64().expect("a time is a number");
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds fit")]
        let ms = (seconds * 1000.0).round() as i64;
        let value = match text(&pair[1]).as_str() {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            number => number.parse().expect("a value is a number"),
        };
        (ms, value)
    };
    values.as_array().map(|values| values.iter().map(point).collect()).unwrap_or_default()
}
