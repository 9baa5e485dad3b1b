//! The borrowed decoder against one derived by prost.

use model::{MetricKind, Sample};
use proptest::prelude::*;
use prost::Message;

use crate::config::Config;
use crate::protobuf::Malformed;
use crate::receivers::write_request::{Metadata, Series, SymbolKeys, Visit, decode, decode_2, decode_symbols};

mod proto;
mod quick;
use proto::{Exemplar, Exemplar2, Histogram, Label, Request2, Sample2, Span, TimeSeries, TimeSeries2, WriteRequest};

type Labels = Vec<(String, String)>;

/// What was found in one series, in words, so that NaN equals itself.
#[derive(Debug, Default, PartialEq)]
struct SeriesFound {
    /// `None` when there is a fault.
    labels: Option<Labels>,
    samples: Vec<String>,
    histograms: Vec<String>,
    exemplars: Vec<String>,
    bad_histograms: u64,
    bad_exemplars: u64,
}

/// Kind, name, help, unit.
type MetadataFound = (MetricKind, Vec<u8>, Vec<u8>, Vec<u8>);

#[derive(Debug, Default, PartialEq)]
struct Found {
    series: Vec<SeriesFound>,
    metadata: Vec<MetadataFound>,
}

fn sample_text(timestamp: i64, value: f64, start: i64) -> String {
    format!("{timestamp} {:x} {start}", value.to_bits())
}

fn histogram_text(timestamp: i64, start: i64, histogram: &model::Histogram) -> String {
    let sum = histogram.sum.to_bits();
    let histogram = model::Histogram { sum: 0.0, ..histogram.clone() };
    format!("{timestamp} {start} {sum:x} {histogram:?}")
}

impl<'a> Visit<'a> for Found {
    type Error = Malformed;

    fn series(&mut self, series: &mut Series<'a>) -> Result<(), Malformed> {
        let labels = series.labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let start = |i: usize| series.starts_ms.get(i).copied().unwrap_or(0);
        let text = |(i, one): (usize, &Sample)| sample_text(one.timestamp_ms, one.value, start(i));
        let samples = series.samples.iter().enumerate().map(text).collect();
        assert!(series.starts_ms.is_empty() || series.starts_ms.len() == series.samples.len());
        self.series.push(SeriesFound {
            labels: series.is_fine().then_some(labels),
            samples,
            histograms: series
                .histograms
                .iter()
                .map(|one| histogram_text(one.timestamp_ms, one.start_ms, &one.histogram))
                .collect(),
            exemplars: series
                .exemplars
                .iter()
                .map(|one| format!("{} {}", one.labels, sample_text(one.sample.timestamp_ms, one.sample.value, 0)))
                .collect(),
            bad_histograms: series.bad_histograms.rejected(),
            bad_exemplars: series.bad_exemplars.rejected(),
        });
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
    decode(body, &Config::default(), &mut found).map(|()| found)
}

fn borrowed_2(body: &[u8]) -> Result<Found, Malformed> {
    let mut found = Found::default();
    let keys = SymbolKeys::default();
    let symbols = decode_symbols(body, &keys, |_| Ok::<_, Malformed>(()))?;
    decode_2(body, &symbols, &Config::default(), &mut found).map(|()| found)
}

fn derived(body: &[u8]) -> Result<Found, prost::DecodeError> {
    let request = WriteRequest::decode(body)?;
    let metadata = request.metadata.into_iter().map(|one| (proto::kind(one.kind), one.name, one.help, one.unit));
    let mut found = Found { series: Vec::new(), metadata: metadata.collect() };
    for series in request.timeseries {
        let mut out = SeriesFound { labels: proto::series_labels(&series.labels), ..SeriesFound::default() };
        out.samples = series.samples.iter().map(|one| sample_text(one.timestamp, one.value, 0)).collect();
        out.take(&series.histograms, series.exemplars.iter().map(Exemplar::to_text));
        found.series.push(out);
    }
    Ok(found)
}

/// Says what a request of 2.0 means; `None` when it breaks a rule for the whole of it.
fn derived_2(body: &[u8]) -> Result<Option<Found>, prost::DecodeError> {
    let request = Request2::decode(body)?;
    if request.symbols.first().is_some_and(|symbol| !symbol.is_empty()) {
        return Ok(None);
    }
    let mut found = Found::default();
    for series in request.timeseries {
        let labels = proto::labels_of(&series.labels_refs, &request.symbols);
        let metadata = series.metadata.unwrap_or_default();
        let is_text = |at: u32| {
            at == 0 || request.symbols.get(at as usize).is_some_and(|symbol| std::str::from_utf8(symbol).is_ok())
        };
        let is_named = is_text(metadata.help_ref) && is_text(metadata.unit_ref);
        let mut out = SeriesFound {
            labels: labels.and_then(|labels| proto::series_labels(&labels)).filter(|_| is_named),
            ..SeriesFound::default()
        };
        out.samples =
            series.samples.iter().map(|one| sample_text(one.timestamp, one.value, one.start_timestamp)).collect();
        out.take(&series.histograms, series.exemplars.iter().map(|one| one.to_text(&request.symbols)));
        found.series.push(out);
    }
    Ok(Some(found))
}

impl SeriesFound {
    fn take(&mut self, histograms: &[Histogram], exemplars: impl Iterator<Item = Option<String>>) {
        for histogram in histograms {
            match histogram.to_model() {
                Some(model) => {
                    self.histograms.push(histogram_text(histogram.timestamp, histogram.start_timestamp, &model));
                }
                None => self.bad_histograms += 1,
            }
        }
        for exemplar in exemplars {
            match exemplar {
                Some(text) => self.exemplars.push(text),
                None => self.bad_exemplars += 1,
            }
        }
    }
}

fn any_label() -> impl Strategy<Value = Label> {
    let text =
        prop_oneof![8 => "[a-e]{0,3}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..6)];
    (text.clone(), text).prop_map(|(name, value)| Label { name, value })
}

fn any_labels() -> impl Strategy<Value = Vec<Label>> {
    let name = Label { name: b"__name__".to_vec(), value: b"up".to_vec() };
    (prop::bool::weighted(0.8), prop::collection::vec(any_label(), 0..5)).prop_map(move |(named, mut labels)| {
        if named {
            labels.push(name.clone());
        }
        labels
    })
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), any::<f64>(), Just(f64::from_bits(model::STALE_NAN_BITS))]
}

fn any_side() -> impl Strategy<Value = (Vec<Span>, Vec<u32>)> {
    prop::collection::vec((-3_i32..6, 0_u32..4), 0..4).prop_flat_map(|spans| {
        let len = spans.iter().map(|(_, len)| *len as usize).sum::<usize>();
        let spans: Vec<Span> = spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
        (Just(spans), prop::collection::vec(0_u32..5, len))
    })
}

/// Histograms, most of them valid.
fn any_histogram() -> impl Strategy<Value = Histogram> {
    let schema = prop_oneof![8 => -4..9_i32, 3 => Just(-53), 1 => -60..60_i32];
    let custom = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(-100..100_i32, 0..8).prop_map(|mut bounds| {
            bounds.sort_unstable();
            bounds.into_iter().map(f64::from).collect()
        }),
        prop::collection::vec(any::<f64>(), 0..3),
    ];
    let rest = (any_value(), 0..5_i32, -1_i64..2, any::<i64>(), any::<i64>(), 0..3_u32);
    (schema, custom, any_side(), any_side(), any::<bool>(), rest).prop_map(
        |(schema, custom_values, positive, negative, is_float, (sum, hint, off, timestamp, start_timestamp, zero))| {
            let is_custom = schema == -53;
            let (negative, zero) = if is_custom { ((Vec::new(), Vec::new()), 0) } else { (negative, zero) };
            let custom_values = if is_custom { custom_values } else { Vec::new() };
            proto::histogram(proto::Shape {
                schema,
                custom_values,
                positive,
                negative,
                zero,
                sum,
                hint,
                count_off: off,
                is_float,
                timestamp,
                start_timestamp,
            })
        },
    )
}

fn any_request() -> impl Strategy<Value = WriteRequest> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let sample = (any_value(), any::<i64>()).prop_map(|(value, timestamp)| proto::Sample1 { value, timestamp });
    let exemplar = (prop::collection::vec(any_label(), 0..3), any_value(), any::<i64>())
        .prop_map(|(labels, value, timestamp)| Exemplar { labels, value, timestamp });
    let series = (
        any_labels(),
        prop::collection::vec(sample, 0..6),
        prop::collection::vec(exemplar, 0..3),
        prop::collection::vec(any_histogram(), 0..3),
    )
        .prop_map(|(labels, samples, exemplars, histograms)| TimeSeries { labels, samples, exemplars, histograms });
    let metadata = (-1..10_i32, bytes(), bytes(), bytes()).prop_map(|(kind, name, help, unit)| proto::MetricMetadata {
        kind,
        name,
        help,
        unit,
    });
    (prop::collection::vec(series, 0..5), prop::collection::vec(metadata, 0..3))
        .prop_map(|(timeseries, metadata)| WriteRequest { timeseries, metadata })
}

fn any_request_2() -> impl Strategy<Value = Request2> {
    let text =
        prop_oneof![9 => "[a-z]{1,3}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    let symbols = prop::collection::vec(text, 0..8).prop_map(|texts| {
        let first = [Vec::new(), b"__name__".to_vec(), b"up".to_vec()];
        first.into_iter().chain(texts).collect::<Vec<_>>()
    });
    let refs = || {
        prop::collection::vec(prop_oneof![30 => 0..6_u32, 1 => any::<u32>()], 0..5).prop_map(|mut refs| {
            if refs.len() % 2 == 1 && refs[0] != 0 {
                refs.pop();
            }
            refs.extend([1, 2]);
            refs
        })
    };
    let sample = (any_value(), any::<i64>(), -1_i64..3).prop_map(|(value, timestamp, start_timestamp)| Sample2 {
        value,
        timestamp,
        start_timestamp,
    });
    let exemplar = (refs(), any_value(), any::<i64>()).prop_map(|(labels_refs, value, timestamp)| Exemplar2 {
        labels_refs,
        value,
        timestamp,
    });
    let metadata = (0..9_i32, 0..9_u32, 0..9_u32).prop_map(|(kind, help_ref, unit_ref)| proto::Metadata2 {
        kind,
        help_ref,
        unit_ref,
    });
    let series = (
        refs(),
        prop::collection::vec(sample, 0..6),
        prop::collection::vec(any_histogram(), 0..3),
        prop::collection::vec(exemplar, 0..3),
        prop::option::of(metadata),
    )
        .prop_map(|(labels_refs, samples, histograms, exemplars, metadata)| TimeSeries2 {
            labels_refs,
            samples,
            histograms,
            exemplars,
            metadata,
        });
    (symbols, prop::collection::vec(series, 0..5)).prop_map(|(symbols, timeseries)| Request2 { symbols, timeseries })
}

type Flips = Vec<(prop::sample::Index, u8)>;

fn any_flips() -> impl Strategy<Value = Flips> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4)
}

fn flip(body: &mut [u8], flips: Flips) {
    for (at, bit) in flips {
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
    }
}

/// Leaves out what is told of metadata, which has rules of its own in 2.0.
fn series_of(found: Found) -> Vec<SeriesFound> {
    found.series
}

proptest! {
    #[test]
    fn the_borrowed_decoder_reads_what_prost_reads(request in any_request()) {
        let body = request.encode_to_vec();
        prop_assert_eq!(borrowed(&body), Ok(derived(&body).unwrap()));
    }

    #[test]
    fn it_reads_what_prost_reads_of_version_2(request in any_request_2()) {
        let body = request.encode_to_vec();
        let derived = derived_2(&body).unwrap().map(series_of);
        prop_assert_eq!(borrowed_2(&body).ok().map(series_of), derived);
    }

    #[test]
    fn both_decoders_agree_on_damaged_requests(
        request in any_request(),
        flips in any_flips(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = request.encode_to_vec();
        prop_assume!(!body.is_empty());
        flip(&mut body, flips);
        for body in [&body[..], &body[..cut.index(body.len())]] {
            match (borrowed(body), derived(body)) {
                (Ok(borrowed), Ok(derived)) => prop_assert_eq!(borrowed, derived),
                (Ok(_), Err(error)) => prop_assert!(false, "prost refuses what is read here: {error}"),
                (Err(error), Ok(_)) => prop_assert!(false, "prost reads what is refused here: {error}"),
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn both_decoders_agree_on_damaged_requests_of_version_2(
        request in any_request_2(),
        flips in any_flips(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = request.encode_to_vec();
        flip(&mut body, flips);
        for body in [&body[..], &body[..cut.index(body.len())]] {
            match (borrowed_2(body), derived_2(body)) {
                (Ok(borrowed), Ok(Some(derived))) => prop_assert_eq!(borrowed.series, derived.series),
                (Ok(_), Ok(None)) => prop_assert!(false, "the first symbol is not empty"),
                (Ok(_), Err(error)) => prop_assert!(false, "prost refuses what is read here: {error}"),
                (Err(error), Ok(Some(_))) => prop_assert!(false, "prost reads what is refused here: {error}"),
                (Err(_), Ok(None) | Err(_)) => {}
            }
        }
    }

    #[test]
    fn any_bytes_are_an_answer(body: Vec<u8>) {
        for outcome in [borrowed(&body), borrowed_2(&body)] {
            prop_assert!(outcome.is_ok() || !body.is_empty());
        }
    }
}

#[test]
fn labels_over_the_limit_are_counted_and_not_kept() {
    let label = Label { name: b"a".to_vec(), value: b"b".to_vec() };
    let series = TimeSeries { labels: vec![label; 1000], ..TimeSeries::default() };
    let body = WriteRequest { timeseries: vec![series], metadata: Vec::new() }.encode_to_vec();
    struct Count(usize, String);
    impl<'a> Visit<'a> for Count {
        type Error = Malformed;
        fn series(&mut self, series: &mut Series<'a>) -> Result<(), Malformed> {
            *self = Self(series.labels.len(), series.take_fault().unwrap().1);
            Ok(())
        }
        fn metadata(&mut self, _: &Metadata<'a>) -> Result<(), Malformed> {
            Ok(())
        }
        fn charge(&mut self, _: u64) -> Result<(), Malformed> {
            Ok(())
        }
    }
    let mut count = Count(0, String::new());
    decode(&body, &Config { max_labels: 10, ..Config::default() }, &mut count).unwrap();
    assert_eq!((count.0, count.1.as_str()), (11, "a series has 1000 labels, the limit is 10"));
}
