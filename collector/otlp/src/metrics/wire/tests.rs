//! What the walk reads is what a generated decoder reads.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{self as otlp, exponential_histogram_data_point, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;

use super::super::random_tests::request;
use super::*;

type Read<T> = Result<T, Malformed>;

/// More than any list here.
const LIMIT: usize = 1000;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn pair(pair: Pair<'_>) -> KeyValue {
    let value = match pair.value {
        Any::Empty => None,
        Any::Text(bytes) => Some(any_value::Value::StringValue(text(bytes))),
        Any::Bool(truth) => Some(any_value::Value::BoolValue(truth)),
        Any::Int(number) => Some(any_value::Value::IntValue(number)),
        Any::Double(number) => Some(any_value::Value::DoubleValue(number)),
        Any::Bytes(bytes) => Some(any_value::Value::BytesValue(bytes.to_vec())),
        Any::Nested(message) => AnyValue::decode(message).unwrap().value,
    };
    KeyValue { key: text(pair.key), value: Some(AnyValue { value }), ..KeyValue::default() }
}

fn list<T>(messages: Repeated<'_>, read: impl Fn(&[u8]) -> Read<T>) -> Read<Vec<T>> {
    let mut out = Vec::new();
    let mut messages = messages.iter();
    while let Some(message) = messages.next()? {
        out.push(read(message)?);
    }
    Ok(out)
}

fn attributes(messages: Repeated<'_>) -> Read<Vec<KeyValue>> {
    list(messages, |message| Ok(pair(Pair::read(message)?)))
}

fn exemplars(messages: Repeated<'_>) -> Read<Vec<otlp::Exemplar>> {
    list(messages, |message| {
        let exemplar = Exemplar::read(message)?;
        Ok(otlp::Exemplar {
            filtered_attributes: attributes(exemplar.attributes)?,
            time_unix_nano: exemplar.time,
            span_id: exemplar.span_id.to_vec(),
            trace_id: exemplar.trace_id.to_vec(),
            value: exemplar.value.map(otlp::exemplar::Value::AsDouble),
        })
    })
}

fn number(message: &[u8]) -> Read<otlp::NumberDataPoint> {
    let point = NumberPoint::read(message)?;
    Ok(otlp::NumberDataPoint {
        attributes: attributes(point.attributes)?,
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        exemplars: exemplars(point.exemplars)?,
        flags: point.flags,
        value: point.value.map(number_data_point::Value::AsDouble),
    })
}

fn histogram(message: &[u8]) -> Read<otlp::HistogramDataPoint> {
    let mut buckets = Buckets::default();
    let point = HistogramPoint::read(message, LIMIT, &mut buckets)?;
    Ok(otlp::HistogramDataPoint {
        attributes: attributes(point.attributes)?,
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        count: point.count,
        sum: point.sum,
        bucket_counts: buckets.counts.kept,
        explicit_bounds: buckets.bounds.kept,
        exemplars: exemplars(point.exemplars)?,
        flags: point.flags,
        ..otlp::HistogramDataPoint::default()
    })
}

fn exponential(message: &[u8]) -> Read<otlp::ExponentialHistogramDataPoint> {
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let point = ExponentialPoint::read(message, LIMIT, &mut positive, &mut negative)?;
    let side = |side: Side| {
        Some(exponential_histogram_data_point::Buckets { offset: side.offset, bucket_counts: side.counts.kept })
    };
    Ok(otlp::ExponentialHistogramDataPoint {
        attributes: attributes(point.attributes)?,
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        count: point.count,
        sum: point.sum,
        scale: point.scale,
        zero_count: point.zero_count,
        positive: side(positive),
        negative: side(negative),
        flags: point.flags,
        exemplars: exemplars(point.exemplars)?,
        zero_threshold: point.zero_threshold,
        ..otlp::ExponentialHistogramDataPoint::default()
    })
}

fn summary(message: &[u8]) -> Read<otlp::SummaryDataPoint> {
    let point = SummaryPoint::read(message)?;
    let quantile = |message: &[u8]| {
        let Quantile { quantile, value } = Quantile::read(message)?;
        Ok(otlp::summary_data_point::ValueAtQuantile { quantile, value })
    };
    Ok(otlp::SummaryDataPoint {
        attributes: attributes(point.attributes)?,
        start_time_unix_nano: point.start,
        time_unix_nano: point.time,
        count: point.count,
        sum: point.sum,
        quantile_values: list(point.quantiles, quantile)?,
        flags: point.flags,
    })
}

fn points<T>(metric: &Metric<'_>, read: impl Fn(&[u8]) -> Read<T>) -> Read<Vec<T>> {
    let mut out = Vec::new();
    let mut points = metric.points();
    while let Some(point) = points.next()? {
        out.push(read(point)?);
    }
    Ok(out)
}

fn metric(message: &[u8]) -> Read<otlp::Metric> {
    let metric = Metric::read(message)?;
    let aggregation_temporality = metric.temporality.cast_signed();
    let data = match metric.kind {
        None => None,
        Some(DataKind::Gauge) => Some(Data::Gauge(otlp::Gauge { data_points: points(&metric, number)? })),
        Some(DataKind::Sum) => Some(Data::Sum(otlp::Sum {
            data_points: points(&metric, number)?,
            aggregation_temporality,
            is_monotonic: metric.is_monotonic,
        })),
        Some(DataKind::Histogram) => {
            Some(Data::Histogram(otlp::Histogram { data_points: points(&metric, histogram)?, aggregation_temporality }))
        }
        Some(DataKind::Exponential) => Some(Data::ExponentialHistogram(otlp::ExponentialHistogram {
            data_points: points(&metric, exponential)?,
            aggregation_temporality,
        })),
        Some(DataKind::Summary) => Some(Data::Summary(otlp::Summary { data_points: points(&metric, summary)? })),
    };
    Ok(otlp::Metric {
        name: text(metric.name),
        description: text(metric.description),
        unit: text(metric.unit),
        metadata: attributes(metric.metadata)?,
        data,
    })
}

fn scope(message: &[u8]) -> Read<otlp::ScopeMetrics> {
    let scope = Scope::read(message)?;
    let attributes = scope.attributes.iter().copied().map(pair).collect();
    Ok(otlp::ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: text(scope.name),
            version: text(scope.version),
            attributes,
            ..InstrumentationScope::default()
        }),
        metrics: list(scope.metrics, metric)?,
        schema_url: text(scope.schema_url),
    })
}

/// Reads a whole request.
fn read(body: &[u8]) -> Read<ExportMetricsServiceRequest> {
    let resource_metrics = list(super::request(body), |message| {
        let (resource, scopes) = resource_metrics(message);
        let pieces = list(resource, |piece| attributes(resource_attributes(piece)))?;
        Ok(otlp::ResourceMetrics {
            resource: Some(Resource { attributes: pieces.concat(), ..Resource::default() }),
            scope_metrics: list(scopes, scope)?,
            schema_url: String::new(),
        })
    })?;
    Ok(ExportMetricsServiceRequest { resource_metrics })
}

/// Puts a request into the form that [`read`] gives: numbers as doubles, absent messages as empty ones.
#[expect(clippy::cast_precision_loss, reason = "the walk does just that")]
fn plain(mut request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest {
    let exemplars = |exemplars: &mut Vec<otlp::Exemplar>| {
        for exemplar in exemplars {
            if let Some(otlp::exemplar::Value::AsInt(number)) = exemplar.value {
                exemplar.value = Some(otlp::exemplar::Value::AsDouble(number as f64));
            }
        }
    };
    let numbers = |points: &mut Vec<otlp::NumberDataPoint>| {
        for point in points {
            if let Some(number_data_point::Value::AsInt(number)) = point.value {
                point.value = Some(number_data_point::Value::AsDouble(number as f64));
            }
            exemplars(&mut point.exemplars);
        }
    };
    for resource in &mut request.resource_metrics {
        resource.schema_url.clear();
        resource.resource.get_or_insert_default();
        for scope in &mut resource.scope_metrics {
            scope.scope.get_or_insert_default();
            for metric in &mut scope.metrics {
                match &mut metric.data {
                    Some(Data::Gauge(gauge)) => numbers(&mut gauge.data_points),
                    Some(Data::Sum(sum)) => numbers(&mut sum.data_points),
                    Some(Data::Histogram(histogram)) => {
                        histogram.data_points.iter_mut().for_each(|point| exemplars(&mut point.exemplars));
                    }
                    Some(Data::ExponentialHistogram(histogram)) => {
                        for point in &mut histogram.data_points {
                            point.positive.get_or_insert_default();
                            point.negative.get_or_insert_default();
                            exemplars(&mut point.exemplars);
                        }
                    }
                    Some(Data::Summary(_)) | None => {}
                }
            }
        }
    }
    request
}

proptest! {
    #[test]
    fn a_point_of_the_usual_form_reads_like_any_other(
        fields in prop::collection::vec((0..8_usize, any::<u64>(), 0..140_usize), 0..7),
        is_in_order: bool,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut fields = fields;
        if is_in_order {
            fields.sort_by_key(|(kind, ..)| *kind);
            fields.dedup_by_key(|(kind, ..)| if *kind < 4 { *kind } else { usize::MAX });
        }
        let mut message = Vec::new();
        for (kind, number, length) in fields {
            match kind {
                0..=3 => {
                    message.push([0x11, 0x19, 0x21, 0x31][kind]);
                    message.extend(number.to_le_bytes());
                }
                4..=6 => {
                    let bytes = vec![0; if kind == 4 { length } else { length % 20 }];
                    prost::encoding::bytes::encode(7, &bytes, &mut message);
                }
                _ => prost::encoding::uint32::encode(8, &(number as u32), &mut message),
            }
        }
        message.truncate(cut.map_or(message.len(), |cut| cut.index(message.len() + 1)));
        if let Some(usual) = NumberPoint::read_usual(&message) {
            let any = NumberPoint::read_any(&message).unwrap();
            prop_assert_eq!(format!("{usual:?}"), format!("{any:?}"));
        }
    }

    #[test]
    fn a_request_reads_as_it_was_written(request in request()) {
        prop_assert_eq!(read(&request.encode_to_vec()).unwrap(), plain(request));
    }

    #[test]
    fn a_request_in_pieces_reads_as_protobuf_has_it(first in request(), second in request()) {
        // Messages that follow each other are one, and unknown fields say nothing.
        let unknown = [0xa2, 0x06, 2, b'h', b'i', 0xa8, 0x06, 7, 0xab, 0x06, 0xac, 0x06];
        let body = [first.encode_to_vec().as_slice(), &unknown, &second.encode_to_vec()].concat();
        let both = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
        prop_assert_eq!(read(&body).unwrap(), plain(both));
    }

    #[test]
    fn a_metric_in_pieces_reads_as_protobuf_has_it(request in request(), other in request()) {
        let metric_of = |request: &ExportMetricsServiceRequest| {
            let scopes = request.resource_metrics.iter().flat_map(|one| &one.scope_metrics);
            scopes.flat_map(|scope| &scope.metrics).next().cloned().unwrap_or_default().encode_to_vec()
        };
        let body = [metric_of(&request), metric_of(&other)].concat();
        let expected = otlp::Metric::decode(body.as_slice()).unwrap();
        let scope_metrics = vec![otlp::ScopeMetrics { metrics: vec![expected], ..Default::default() }];
        let resource_metrics = vec![otlp::ResourceMetrics { scope_metrics, ..Default::default() }];
        let expected = plain(ExportMetricsServiceRequest { resource_metrics });
        let metrics = &expected.resource_metrics[0].scope_metrics[0].metrics;
        prop_assert_eq!(&metric(&body).unwrap(), &metrics[0]);
    }
}

#[test]
fn what_senders_write_is_the_usual_form() {
    for value in [number_data_point::Value::AsDouble(1.5), number_data_point::Value::AsInt(-7)] {
        for attributes in [vec![], vec![KeyValue { key: "k".to_owned(), ..KeyValue::default() }; 2]] {
            let point = otlp::NumberDataPoint {
                attributes,
                start_time_unix_nano: 3,
                time_unix_nano: 5,
                value: Some(value),
                ..otlp::NumberDataPoint::default()
            };
            let message = point.encode_to_vec();
            // The generated encoder writes the attributes last, and so do all.
            assert!(NumberPoint::read_usual(&message).is_some(), "{message:?}");
            assert!(NumberPoint::read_usual(&message[1..]).is_none());
        }
    }
}

#[test]
fn malformed_bytes_are_told_apart() {
    let cases: [(&[u8], &str); 7] = [
        (&[0x0a, 5, 1], "a field is longer than its message"),
        (&[0x09, 1], "a field is longer than its message"),
        (&[0x08, 0xff], "a varint is unfinished or too long"),
        (&[0x02, 0], "a field has an invalid number"),
        (&[0x0f], "a field has an unknown wire type"),
        (&[0x0c], "a group ends that never started"),
        (&[0x0b, 0x14], "a group ends with another number"),
    ];
    for (bytes, expected) in cases {
        let error = Reader::new(bytes).next().unwrap_err();
        assert_eq!(error.to_string(), expected, "{bytes:?}");
    }
    assert_eq!(read(&[0x08, 1]).unwrap_err().to_string(), "a field has an unexpected wire type");
}

#[test]
fn unpacked_lists_are_read_too() {
    let mut body = Vec::new();
    for count in [3_u64, 4] {
        body.push(6 << 3 | 1);
        body.extend_from_slice(&count.to_le_bytes());
    }
    body.push(7 << 3 | 1);
    body.extend_from_slice(&1.5_f64.to_le_bytes());
    let expected = otlp::HistogramDataPoint::decode(body.as_slice()).unwrap();
    assert_eq!(histogram(&body).unwrap(), expected);
    let side = [2 << 3, 5, 2 << 3, 6];
    let expected = exponential_histogram_data_point::Buckets::decode(side.as_slice()).unwrap();
    let point = [&[8 << 3 | 2, 4][..], &side].concat();
    assert_eq!(exponential(&point).unwrap().positive, Some(expected));
}
