//! The borrowed decoder against one derived by prost.

use model::{MetricKind, Sample};
use proptest::prelude::*;
use prost::Message;

use crate::protobuf::Malformed;
use crate::receivers::write_request::{Metadata, Series, Visit, decode, decode_2};

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<ProtoSample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Label {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ProtoSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {}

#[derive(Clone, PartialEq, Message)]
struct Histogram {}

#[derive(Clone, PartialEq, Eq, Message)]
struct MetricMetadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    help: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    unit: Vec<u8>,
}

type Labels = Vec<(Vec<u8>, Vec<u8>)>;
/// Labels, samples, exemplars, histograms.
type SeriesFound = (Labels, Vec<(i64, u64)>, u64, u64);
/// Kind, name, help, unit.
type MetadataFound = (MetricKind, Vec<u8>, Vec<u8>, Vec<u8>);

/// A request with samples as bits, so that NaN equals itself.
#[derive(Debug, Default, PartialEq)]
struct Found {
    series: Vec<SeriesFound>,
    metadata: Vec<MetadataFound>,
}

impl<'a> Visit<'a> for Found {
    type Error = Malformed;

    fn series(&mut self, series: &Series<'a>) -> Result<(), Malformed> {
        let labels = series.labels.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let bits = |sample: &Sample| (sample.timestamp_ms, sample.value.to_bits());
        let samples = series.samples.iter().map(bits).collect();
        self.series.push((labels, samples, series.exemplars, series.histograms));
        Ok(())
    }

    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<(), Malformed> {
        let Metadata { kind, name, help, unit } = metadata;
        self.metadata.push((*kind, name.to_vec(), help.to_vec(), unit.to_vec()));
        Ok(())
    }

    fn charge(&mut self, _: u64) -> Result<(), Malformed> {
        Ok(())
    }
}

fn borrowed(body: &[u8]) -> Result<Found, Malformed> {
    let mut found = Found::default();
    decode(body, usize::MAX - 1, &mut found).map(|()| found)
}

fn derived(body: &[u8]) -> Result<Found, prost::DecodeError> {
    let request = WriteRequest::decode(body)?;
    let series = request.timeseries.into_iter().map(|series| {
        let labels = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
        let samples = series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect();
        (labels, samples, series.exemplars.len() as u64, series.histograms.len() as u64)
    });
    let metadata = request.metadata.into_iter().map(|one| {
        let kind = match one.kind {
            1 => MetricKind::Counter,
            2 => MetricKind::Gauge,
            3 => MetricKind::Histogram,
            4 => MetricKind::GaugeHistogram,
            5 => MetricKind::Summary,
            6 => MetricKind::Info,
            7 => MetricKind::StateSet,
            _ => MetricKind::Unknown,
        };
        (kind, one.name, one.help, one.unit)
    });
    Ok(Found { series: series.collect(), metadata: metadata.collect() })
}

fn any_request() -> impl Strategy<Value = WriteRequest> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let label = (bytes(), bytes()).prop_map(|(name, value)| Label { name, value });
    let sample = (any::<u64>(), any::<i64>())
        .prop_map(|(bits, timestamp)| ProtoSample { value: f64::from_bits(bits), timestamp });
    let series = (
        prop::collection::vec(label, 0..6),
        prop::collection::vec(sample, 0..6),
        prop::collection::vec(Just(Exemplar {}), 0..2),
        prop::collection::vec(Just(Histogram {}), 0..2),
    )
        .prop_map(|(labels, samples, exemplars, histograms)| TimeSeries { labels, samples, exemplars, histograms });
    let metadata = (-1..10_i32, bytes(), bytes(), bytes()).prop_map(|(kind, name, help, unit)| MetricMetadata {
        kind,
        name,
        help,
        unit,
    });
    (prop::collection::vec(series, 0..5), prop::collection::vec(metadata, 0..3))
        .prop_map(|(timeseries, metadata)| WriteRequest { timeseries, metadata })
}

proptest! {
    #[test]
    fn the_borrowed_decoder_reads_what_prost_reads(request in any_request()) {
        let body = request.encode_to_vec();
        prop_assert_eq!(borrowed(&body), Ok(derived(&body).unwrap()));
    }

    #[test]
    fn both_decoders_agree_on_damaged_requests(
        request in any_request(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = request.encode_to_vec();
        prop_assume!(!body.is_empty());
        for (at, bit) in flips {
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
        }
        for body in [&body[..], &body[..cut.index(body.len())]] {
            match (borrowed(body), derived(body)) {
                (Ok(borrowed), Ok(derived)) => prop_assert_eq!(borrowed, derived),
                // What is inside exemplars and histograms is counted, not read, by the borrowed decoder.
                (Ok(_), Err(_)) => {}
                (Err(error), Ok(_)) => prop_assert!(false, "prost reads what is refused here: {error}"),
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn any_bytes_are_an_answer(body: Vec<u8>) {
        drop(borrowed(&body));
        let outcome = decode_2(&body, 3, &mut Found::default());
        prop_assert!(outcome.is_ok() || !body.is_empty());
    }
}

#[test]
fn labels_over_the_limit_are_counted_and_not_kept() {
    let label = Label { name: b"a".to_vec(), value: b"b".to_vec() };
    let series = TimeSeries { labels: vec![label; 1000], ..TimeSeries::default() };
    let body = WriteRequest { timeseries: vec![series], metadata: Vec::new() }.encode_to_vec();
    struct Count(usize, usize);
    impl<'a> Visit<'a> for Count {
        type Error = Malformed;
        fn series(&mut self, series: &Series<'a>) -> Result<(), Malformed> {
            *self = Self(series.labels.len(), series.labels_len);
            Ok(())
        }
        fn metadata(&mut self, _: &Metadata<'a>) -> Result<(), Malformed> {
            Ok(())
        }
        fn charge(&mut self, _: u64) -> Result<(), Malformed> {
            Ok(())
        }
    }
    let mut count = Count(0, 0);
    decode(&body, 10, &mut count).unwrap();
    assert_eq!((count.0, count.1), (11, 1000));
}
