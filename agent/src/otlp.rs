//! Small builders for OTLP messages, and their split into batches of a bounded size.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, Metric, ResourceMetrics, ScopeMetrics, Sum, Summary, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

/// Most encoded bytes of one metrics request; receivers commonly refuse messages over 4 MiB.
const METRICS_BYTES_MAX: usize = 2 << 20;

/// Attributes as pairs, before they become OTLP's.
pub(crate) type Pairs = Vec<(String, String)>;

/// Returns a text value.
pub(crate) fn text(value: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.into())) }
}

/// Returns an attribute with a text value.
pub(crate) fn attribute(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(text(value)), ..KeyValue::default() }
}

/// Returns an attribute with an integer value.
pub(crate) fn int_attribute(key: &str, value: i64) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::IntValue(value)) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// Returns an attribute with a boolean value.
pub(crate) fn bool_attribute(key: &str, value: bool) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::BoolValue(value)) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// Returns a resource with these attributes; of a repeated name the last one wins.
pub(crate) fn resource<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Resource {
    let mut attributes: Vec<KeyValue> = Vec::new();
    for (key, value) in pairs {
        if value.is_empty() {
            continue;
        }
        match attributes.iter_mut().find(|have| have.key == key) {
            Some(have) => have.value = Some(text(value)),
            None => attributes.push(attribute(key, value)),
        }
    }
    Resource { attributes, ..Resource::default() }
}

/// Returns the scope of everything that an input of ours emits.
pub(crate) fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Log records that wait to be written to the buffer as one request.
#[derive(Debug, Default)]
pub(crate) struct LogBatch {
    groups: Vec<ResourceLogs>,
    /// Rough bytes, for the size limit.
    pub(crate) bytes: usize,
    /// Records.
    pub(crate) items: u32,
}

impl LogBatch {
    /// Adds a record; consecutive records of an equal resource share it.
    pub(crate) fn push(&mut self, resource: &Resource, input: &str, record: LogRecord) {
        let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => text.len(),
            _ => 0,
        };
        self.bytes += 128 + body;
        self.items += 1;
        if let Some(last) = self.groups.last_mut()
            && last.resource.as_ref() == Some(resource)
            && let Some(scope) = last.scope_logs.first_mut()
            && scope.scope.as_ref().is_some_and(|scope| scope.name == input)
        {
            scope.log_records.push(record);
            return;
        }
        let scope = ScopeLogs { scope: Some(scope(input)), log_records: vec![record], schema_url: String::new() };
        self.groups.push(ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![scope],
            schema_url: String::new(),
        });
    }

    /// Says whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Encodes the records as one request and empties the batch.
    pub(crate) fn take(&mut self) -> (Vec<u8>, u32) {
        let request = ExportLogsServiceRequest { resource_logs: std::mem::take(&mut self.groups) };
        self.bytes = 0;
        (request.encode_to_vec(), std::mem::take(&mut self.items))
    }
}

/// Wraps metrics of one resource. Without a scope: its name and version would become labels, and an update of the agent
/// a new series of each.
pub(crate) fn resource_metrics(resource: Resource, metrics: Vec<Metric>) -> ResourceMetrics {
    let scope = ScopeMetrics { scope: None, metrics, schema_url: String::new() };
    ResourceMetrics { resource: Some(resource), scope_metrics: vec![scope], schema_url: String::new() }
}

/// Encodes metrics as one request, or as several when one would be too large. Returns each with its number of points.
pub(crate) fn metric_batches(metrics: Vec<ResourceMetrics>) -> Vec<(Vec<u8>, u32)> {
    let mut done = Vec::new();
    let mut todo = vec![ExportMetricsServiceRequest { resource_metrics: metrics }];
    while let Some(mut request) = todo.pop() {
        if request.encoded_len() > METRICS_BYTES_MAX
            && let Some(rest) = halve(&mut request)
        {
            todo.push(rest);
            todo.push(request);
            continue;
        }
        let points = points_of(&request);
        if points > 0 {
            done.push((request.encode_to_vec(), points));
        }
    }
    done
}

/// Moves about half of the points into a new request; `None` when there is only one.
fn halve(request: &mut ExportMetricsServiceRequest) -> Option<ExportMetricsServiceRequest> {
    if request.resource_metrics.len() > 1 {
        let at = request.resource_metrics.len() / 2;
        return Some(ExportMetricsServiceRequest { resource_metrics: request.resource_metrics.split_off(at) });
    }
    let outer = request.resource_metrics.first_mut()?;
    let scope = outer.scope_metrics.first_mut()?;
    let moved = if scope.metrics.len() > 1 {
        scope.metrics.split_off(scope.metrics.len() / 2)
    } else {
        vec![halve_metric(scope.metrics.first_mut()?)?]
    };
    let rest = ScopeMetrics { scope: scope.scope.clone(), metrics: moved, schema_url: scope.schema_url.clone() };
    let rest =
        ResourceMetrics { resource: outer.resource.clone(), scope_metrics: vec![rest], ..ResourceMetrics::default() };
    Some(ExportMetricsServiceRequest { resource_metrics: vec![rest] })
}

fn halve_metric(metric: &mut Metric) -> Option<Metric> {
    fn half<T>(points: &mut Vec<T>) -> Option<Vec<T>> {
        (points.len() > 1).then(|| points.split_off(points.len() / 2))
    }
    let data = match metric.data.as_mut()? {
        Data::Gauge(gauge) => Data::Gauge(Gauge { data_points: half(&mut gauge.data_points)? }),
        Data::Sum(sum) => Data::Sum(Sum {
            data_points: half(&mut sum.data_points)?,
            aggregation_temporality: sum.aggregation_temporality,
            is_monotonic: sum.is_monotonic,
        }),
        Data::Histogram(histogram) => Data::Histogram(Histogram {
            data_points: half(&mut histogram.data_points)?,
            aggregation_temporality: histogram.aggregation_temporality,
        }),
        Data::Summary(summary) => Data::Summary(Summary { data_points: half(&mut summary.data_points)? }),
        Data::ExponentialHistogram(_) => return None,
    };
    Some(Metric {
        name: metric.name.clone(),
        description: metric.description.clone(),
        unit: metric.unit.clone(),
        metadata: metric.metadata.clone(),
        data: Some(data),
    })
}

/// Counts the points of a metric.
pub(crate) fn points_of_metric(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    }
}

fn points_of(request: &ExportMetricsServiceRequest) -> u32 {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let points: usize = scopes.flat_map(|scope| &scope.metrics).map(points_of_metric).sum();
    u32::try_from(points).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;

    use super::*;

    #[test]
    fn a_large_scrape_becomes_several_requests_with_every_point_once() {
        let point = |i: u64| NumberDataPoint {
            attributes: vec![attribute("pad", "x".repeat(1000))],
            time_unix_nano: i,
            ..NumberDataPoint::default()
        };
        let gauge = Gauge { data_points: (0..5000).map(point).collect() };
        let metric = Metric { name: "a".to_owned(), data: Some(Data::Gauge(gauge)), ..Metric::default() };
        let batches = metric_batches(vec![resource_metrics(resource([("a", "b")]), vec![metric])]);
        assert!(batches.len() > 2);
        assert!(batches.iter().all(|(bytes, _)| bytes.len() <= METRICS_BYTES_MAX));
        let mut times = Vec::new();
        for (bytes, points) in &batches {
            let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
            assert_eq!(points_of(&request), *points);
            for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
                let Some(Data::Gauge(gauge)) = &metric.data else { panic!("a gauge") };
                times.extend(gauge.data_points.iter().map(|point| point.time_unix_nano));
            }
        }
        assert_eq!(times, (0..5000).collect::<Vec<_>>());
    }

    #[test]
    fn records_of_one_resource_share_it() {
        let (a, b) = (resource([("service.name", "a")]), resource([("service.name", "b")]));
        let mut batch = LogBatch::default();
        for resource in [&a, &a, &b, &a] {
            batch.push(resource, "file", LogRecord { body: Some(text("x")), ..LogRecord::default() });
        }
        let (bytes, items) = batch.take();
        let request = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!((request.resource_logs.len(), items, batch.is_empty()), (3, 4, true));
    }
}
