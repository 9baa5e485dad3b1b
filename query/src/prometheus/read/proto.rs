//! Messages of the remote read protocol: `prompb/remote.proto` and `prompb/types.proto` of Prometheus.

use model::histogram::ResetHint;
use model::{Labels, Sample};

use super::histogram::spans;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    pub(super) accepted_response_types: Vec<i32>,
}

/// The hints about how the result will be used (field 4) are not read: they never change what is asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Query {
    #[prost(int64, tag = "1")]
    pub(super) start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub(super) end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub(super) matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LabelMatcher {
    /// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<WireSample>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// The value is always sent: the default that may be left out is zero, which minus zero is taken for.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct WireSample {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

/// A native histogram; counts are always floats here.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Histogram {
    #[prost(double, optional, tag = "2")]
    pub(super) count_float: Option<f64>,
    #[prost(double, optional, tag = "3")]
    pub(super) sum: Option<f64>,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(double, optional, tag = "7")]
    pub(super) zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub(super) negative_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "10")]
    pub(super) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "13")]
    pub(super) positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub(super) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(super) custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

/// A frame of a streamed answer: part of one series.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) chunked_series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    pub(super) query_index: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Chunk {
    #[prost(int64, tag = "1")]
    pub(super) min_time_ms: i64,
    #[prost(int64, tag = "2")]
    pub(super) max_time_ms: i64,
    #[prost(int32, tag = "3")]
    pub(super) kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) data: Vec<u8>,
}

/// Returns the labels of a message.
pub(super) fn labels(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

impl From<Sample> for WireSample {
    fn from(sample: Sample) -> Self {
        Self { value: Some(sample.value), timestamp: sample.timestamp_ms }
    }
}

impl Histogram {
    /// Returns the message for a histogram at one time.
    pub(super) fn new(timestamp: i64, from: &model::Histogram) -> Self {
        let side = |buckets: &[(i32, f64)]| -> (Vec<BucketSpan>, Vec<f64>) {
            let spans = spans(buckets.iter().map(|(index, _)| *index));
            let spans = spans.into_iter().map(|(offset, length)| BucketSpan { offset, length }).collect();
            (spans, buckets.iter().map(|(_, count)| *count).collect())
        };
        let (negative_spans, negative_counts) = side(&from.negative);
        let (positive_spans, positive_counts) = side(&from.positive);
        let reset_hint = match from.hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 1,
            ResetHint::NotReset => 2,
            ResetHint::Gauge => 3,
        };
        Self {
            count_float: Some(from.count),
            sum: Some(from.sum),
            schema: from.schema,
            zero_threshold: from.zero_threshold,
            zero_count_float: Some(from.zero_count),
            negative_spans,
            negative_counts,
            positive_spans,
            positive_counts,
            reset_hint,
            timestamp,
            custom_values: from.custom.to_vec(),
        }
    }
}
