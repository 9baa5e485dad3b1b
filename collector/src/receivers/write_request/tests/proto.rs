//! The messages of remote write by prost, and what they mean, written without regard to speed.

use model::histogram::{CUSTOM, ResetHint};
use model::{Labels, MetricKind};
use prost::Message;

use super::sample_text;

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample1>,
    #[prost(message, repeated, tag = "3")]
    pub(super) exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Label {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample1 {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(super) value: f64,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub(super) count: Option<Count>,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, tag = "5")]
    pub(super) zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub(super) zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub(super) negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub(super) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(super) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(super) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(super) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(super) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(super) start_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum Count {
    #[prost(uint64, tag = "1")]
    Int(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Int(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Span {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) help: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) unit: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request2 {
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(super) symbols: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    pub(super) timeseries: Vec<TimeSeries2>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample2>,
    #[prost(message, repeated, tag = "3")]
    pub(super) histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    pub(super) exemplars: Vec<Exemplar2>,
    #[prost(message, optional, tag = "5")]
    pub(super) metadata: Option<Metadata2>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample2 {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
    #[prost(int64, tag = "3")]
    pub(super) start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    pub(super) value: f64,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Metadata2 {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(uint32, tag = "3")]
    pub(super) help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub(super) unit_ref: u32,
}

pub(super) fn kind(number: i32) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}

/// Returns the labels, or `None` when they are no series'. Repeats are for the batch to find.
pub(super) fn series_labels(labels: &[Label]) -> Option<Vec<(String, String)>> {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).ok();
    let labels: Vec<_> =
        labels.iter().map(|label| Some((text(&label.name)?, text(&label.value)?))).collect::<Option<_>>()?;
    labels.iter().any(|(name, value)| name == "__name__" && !value.is_empty()).then_some(labels)
}

/// Looks up references.
pub(super) fn labels_of(refs: &[u32], symbols: &[Vec<u8>]) -> Option<Vec<Label>> {
    let symbol = |at: u32| symbols.get(at as usize).cloned();
    let pair = |pair: &[u32]| match pair {
        [name, value] => Some(Label { name: symbol(*name)?, value: symbol(*value)? }),
        _ => None,
    };
    refs.chunks(2).map(pair).collect()
}

fn exemplar_text(labels: Option<Vec<Label>>, value: f64, timestamp: i64) -> Option<String> {
    let labels: Vec<(String, String)> = labels?
        .into_iter()
        .map(|label| Some((String::from_utf8(label.name).ok()?, String::from_utf8(label.value).ok()?)))
        .collect::<Option<_>>()?;
    let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum::<usize>() > 128 {
        return None;
    }
    let labels = Labels::try_from_pairs(&mut pairs).ok()?;
    Some(format!("{labels} {}", sample_text(timestamp, value, 0)))
}

impl Exemplar {
    pub(super) fn to_text(&self) -> Option<String> {
        exemplar_text(Some(self.labels.clone()), self.value, self.timestamp)
    }
}

impl Exemplar2 {
    pub(super) fn to_text(&self, symbols: &[Vec<u8>]) -> Option<String> {
        exemplar_text(labels_of(&self.labels_refs, symbols), self.value, self.timestamp)
    }
}

/// What [`histogram`] makes a message of.
pub(super) struct Shape {
    pub(super) schema: i32,
    pub(super) custom_values: Vec<f64>,
    pub(super) positive: (Vec<Span>, Vec<u32>),
    pub(super) negative: (Vec<Span>, Vec<u32>),
    pub(super) zero: u32,
    pub(super) sum: f64,
    pub(super) hint: i32,
    /// What the count is off from the right one.
    pub(super) count_off: i64,
    pub(super) is_float: bool,
    pub(super) timestamp: i64,
    pub(super) start_timestamp: i64,
}

pub(super) fn histogram(shape: Shape) -> Histogram {
    let Shape { positive, negative, .. } = shape;
    let all = positive.1.iter().chain(&negative.1).chain([&shape.zero]).map(|n| i64::from(*n)).sum::<i64>();
    let count = u64::try_from(all + shape.count_off).unwrap_or(0);
    let deltas = |counts: &[u32]| {
        let before = std::iter::once(0).chain(counts.iter().map(|n| i64::from(*n)));
        counts.iter().zip(before).map(|(count, before)| i64::from(*count) - before).collect()
    };
    let mut histogram = Histogram {
        sum: shape.sum,
        schema: shape.schema,
        reset_hint: shape.hint,
        timestamp: shape.timestamp,
        start_timestamp: shape.start_timestamp,
        custom_values: shape.custom_values,
        negative_spans: negative.0,
        positive_spans: positive.0,
        ..Histogram::default()
    };
    if shape.is_float {
        histogram.count = Some(Count::Float(count as f64));
        histogram.zero_count = Some(ZeroCount::Float(f64::from(shape.zero)));
        histogram.negative_counts = negative.1.iter().map(|n| f64::from(*n)).collect();
        histogram.positive_counts = positive.1.iter().map(|n| f64::from(*n)).collect();
    } else {
        histogram.count = Some(Count::Int(count));
        histogram.zero_count = Some(ZeroCount::Int(u64::from(shape.zero)));
        histogram.negative_deltas = deltas(&negative.1);
        histogram.positive_deltas = deltas(&positive.1);
    }
    histogram
}

impl Histogram {
    /// Returns what it means, or `None` when it makes no sense.
    pub(super) fn to_model(&self) -> Option<model::Histogram> {
        let is_float = matches!(self.count, Some(Count::Float(_)));
        let is_custom = self.schema == CUSTOM;
        let side = |spans: &[Span], deltas: &[i64], counts: &[f64]| {
            let counts: Vec<f64> = if is_float {
                counts.to_vec()
            } else {
                let mut last = 0_i128;
                deltas
                    .iter()
                    .map(|delta| {
                        last += i128::from(*delta);
                        last as f64
                    })
                    .collect()
            };
            let mut indexes: Vec<i64> = Vec::new();
            let mut at = 0;
            for (i, span) in spans.iter().enumerate() {
                if span.offset < 0 && (i > 0 || is_custom) {
                    return None;
                }
                at += i64::from(span.offset);
                if indexes.len() + span.length as usize > counts.len() {
                    return None;
                }
                indexes.extend(at..at + i64::from(span.length));
                at += i64::from(span.length);
            }
            let fits = indexes.len() == counts.len()
                && !counts.iter().any(|count| *count < 0.0 || !is_float && *count > i64::MAX as f64)
                && indexes.iter().all(|index| index.abs() <= 1 << 30)
                && (!is_custom || at <= self.custom_values.len() as i64 + 1);
            let pairs = indexes.iter().zip(&counts).map(|(index, count)| (i32::try_from(*index).unwrap_or(0), *count));
            fits.then(|| pairs.filter(|(_, count)| *count != 0.0).collect::<Vec<_>>())
        };
        let negative = side(&self.negative_spans, &self.negative_deltas, &self.negative_counts)?;
        let positive = side(&self.positive_spans, &self.positive_deltas, &self.positive_counts)?;
        let exact = |deltas: &[i64]| {
            let mut last = 0_i128;
            deltas
                .iter()
                .map(|delta| {
                    last += i128::from(*delta);
                    last
                })
                .sum::<i128>()
        };
        let (count, zero_count) = if is_float {
            let Some(Count::Float(count)) = self.count else { return None };
            let zero_count = if let Some(ZeroCount::Float(count)) = self.zero_count { count } else { 0.0 };
            if count < 0.0 || zero_count < 0.0 {
                return None;
            }
            (count, zero_count)
        } else {
            let count = if let Some(Count::Int(count)) = self.count { count } else { 0 };
            let zero_count = if let Some(ZeroCount::Int(count)) = self.zero_count { count } else { 0 };
            let found = i128::from(zero_count) + exact(&self.negative_deltas) + exact(&self.positive_deltas);
            let off = i128::from(count) - found;
            if off < 0 || off > 0 && !self.sum.is_nan() {
                return None;
            }
            (count as f64, zero_count as f64)
        };
        let bounds = &self.custom_values;
        let is_valid = if is_custom {
            bounds.is_sorted_by(|a, b| a < b)
                && !bounds.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY)
                && self.zero_threshold == 0.0
                && zero_count == 0.0
                && self.negative_spans.is_empty()
                && self.negative_deltas.is_empty()
                && self.negative_counts.is_empty()
        } else {
            bounds.is_empty() && (-4..=52).contains(&self.schema)
        };
        let hint = match self.reset_hint {
            1 => ResetHint::Reset,
            2 => ResetHint::NotReset,
            3 => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        let mut histogram = model::Histogram {
            schema: self.schema.min(39),
            zero_threshold: self.zero_threshold,
            zero_count,
            count,
            sum: self.sum,
            positive,
            negative,
            custom: bounds.as_slice().into(),
            hint,
        };
        if is_valid {
            histogram.reduce(8);
        }
        is_valid.then_some(histogram)
    }
}
