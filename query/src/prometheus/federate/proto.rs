//! The protobuf exposition format: `io.prometheus.client.MetricFamily` messages behind their lengths.

use std::borrow::Cow;

use prost::Message;

use super::super::read::histogram::spans;
use super::{Kind, Newest, cumulative};

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// 3 untyped, 4 histogram, 5 gauge histogram.
    #[prost(int32, optional, tag = "3")]
    pub(super) kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "5")]
    pub(super) untyped: Option<Untyped>,
    #[prost(int64, optional, tag = "6")]
    pub(super) timestamp_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Untyped {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(double, optional, tag = "4")]
    pub(super) sample_count_float: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(double, optional, tag = "8")]
    pub(super) zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    pub(super) negative_span: Vec<BucketSpan>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    pub(super) negative_count: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    #[prost(double, repeated, packed = "false", tag = "14")]
    pub(super) positive_count: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(double, optional, tag = "4")]
    pub(super) cumulative_count_float: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

/// Appends the samples of one name and kind.
pub(super) fn push_family(out: &mut Vec<u8>, family: &[Newest], escape: fn(&str) -> Cow<'_, str>) {
    let Some(first) = family.first() else { return };
    let kind = match first.kind() {
        Kind::Untyped => 3,
        Kind::Histogram => 4,
        Kind::GaugeHistogram => 5,
    };
    let name = escape(first.labels.metric_name()).into_owned();
    let metric = family.iter().map(|one| metric(one, escape)).collect();
    out.extend(MetricFamily { name, kind: Some(kind), metric }.encode_length_delimited_to_vec());
}

fn metric(one: &Newest, escape: fn(&str) -> Cow<'_, str>) -> Metric {
    let label = |(name, value): (&str, &str)| LabelPair {
        name: Some(escape(name).into_owned()),
        value: Some(value.to_owned()),
    };
    let untyped = one.histogram.is_none().then_some(Untyped { value: Some(one.value) });
    Metric {
        label: one.sent_labels().map(label).collect(),
        untyped,
        timestamp_ms: Some(one.timestamp_ms),
        histogram: one.histogram.as_deref().map(histogram),
    }
}

fn histogram(from: &model::Histogram) -> Histogram {
    let total = Histogram { sample_count_float: Some(from.count), sample_sum: Some(from.sum), ..Histogram::default() };
    if from.is_custom() {
        let bucket = |(bound, count)| Bucket { cumulative_count_float: Some(count), upper_bound: Some(bound) };
        return Histogram { bucket: cumulative(from).map(bucket).collect(), ..total };
    }
    let side = |buckets: &[(i32, f64)]| -> (Vec<BucketSpan>, Vec<f64>) {
        let span = |(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) };
        let spans = spans(buckets.iter().map(|(index, _)| *index)).into_iter().map(span).collect();
        (spans, buckets.iter().map(|(_, count)| *count).collect())
    };
    let (negative_span, negative_count) = side(&from.negative);
    let (positive_span, positive_count) = side(&from.positive);
    Histogram {
        schema: Some(from.schema),
        zero_threshold: Some(from.zero_threshold),
        zero_count_float: Some(from.zero_count),
        negative_span,
        negative_count,
        positive_span,
        positive_count,
        ..total
    }
}
