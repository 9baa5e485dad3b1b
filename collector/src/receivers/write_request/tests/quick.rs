//! The quick walk over plain series against the one over any.

use storage_api::{SeriesKey, sort_labels};

use super::*;
use crate::receivers::write_request::quick::LabelsError;
use crate::receivers::write_request::{Plain, Plain2, SymbolKeys, Symbols, decode_labels, decode_labels_2, scan};

/// Takes plain series as they came and decodes their labels apart.
#[derive(Default)]
struct Quick<'a> {
    found: Found,
    plain: usize,
    symbols: Option<&'a Symbols<'a>>,
    /// The keys of plain series of 2.0.
    keys: Vec<SeriesKey>,
}

impl<'a> Visit<'a> for Quick<'a> {
    type Error = Malformed;

    fn undecoded(&mut self, series: &'a [u8]) -> Result<bool, Malformed> {
        let mut samples = Vec::new();
        let Some(Plain { labels, labels_len }) = scan(series, &mut samples) else { return Ok(false) };
        if labels_len > Config::default().max_labels {
            return Ok(false);
        }
        self.plain += 1;
        let mut pairs = Vec::new();
        let labels = match decode_labels(labels, &Config::default(), &mut pairs) {
            Ok(()) => Some(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()),
            Err(LabelsError::Fault(_)) => None,
            Err(LabelsError::Malformed(malformed)) => return Err(malformed),
        };
        let samples = samples.iter().map(|one| sample_text(one.timestamp_ms, one.value, 0)).collect();
        self.found.series.push(SeriesFound { labels, samples, ..SeriesFound::default() });
        Ok(true)
    }

    fn undecoded_2(&mut self, series: &Plain2<'_, 'a>) -> Result<bool, Malformed> {
        if series.labels_len > Config::default().max_labels {
            return Ok(false);
        }
        self.plain += 1;
        self.keys.push(series.key);
        let mut pairs = Vec::new();
        let labels = match decode_labels_2(series.references, self.symbols.unwrap(), &Config::default(), &mut pairs) {
            Ok(()) => Some(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()),
            Err(LabelsError::Fault(_)) => None,
            Err(LabelsError::Malformed(malformed)) => return Err(malformed),
        };
        let start = |i: usize| series.starts_ms.get(i).copied().unwrap_or(0);
        let text = |(i, one): (usize, &Sample)| sample_text(one.timestamp_ms, one.value, start(i));
        let samples = series.samples.iter().enumerate().map(text).collect();
        self.found.series.push(SeriesFound { labels, samples, ..SeriesFound::default() });
        Ok(true)
    }

    fn series(&mut self, series: &mut Series<'a>) -> Result<(), Malformed> {
        self.found.series(series)
    }

    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<(), Malformed> {
        self.found.metadata(metadata)
    }

    fn charge(&mut self, _: u64) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Brings labels into the form of a store, as the receiver does later.
fn normal(mut found: Found) -> Found {
    for series in &mut found.series {
        let labels = series.labels.take().into_iter().flatten();
        let mut labels: Vec<_> = labels.map(|(name, value)| (name.into(), value.into())).collect();
        let sorted = sort_labels(&mut labels, 0);
        let labels = labels.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
        series.labels = sorted.is_ok().then(|| labels.collect::<Labels>()).filter(|labels| !labels.is_empty());
    }
    found
}

/// Compares the walks and returns how many series were plain.
#[track_caller]
fn check(body: &[u8]) -> usize {
    let mut quick = Quick::default();
    let walked = decode(body, &Config::default(), &mut quick);
    match borrowed(body) {
        Ok(found) => {
            assert_eq!(walked, Ok(()));
            assert_eq!(normal(quick.found), normal(found));
        }
        Err(_) => assert!(walked.is_err()),
    }
    quick.plain
}

/// The same for 2.0; returns the keys of the plain series, too.
#[track_caller]
fn check_2(body: &[u8], keys: &SymbolKeys) -> Vec<SeriesKey> {
    let Ok(symbols) = decode_symbols(body, keys, |_| Ok::<_, Malformed>(())) else {
        assert!(borrowed_2(body).is_err());
        return Vec::new();
    };
    let mut quick = Quick { symbols: Some(&symbols), ..Quick::default() };
    let walked = decode_2(body, &symbols, &Config::default(), &mut quick);
    match borrowed_2(body) {
        Ok(found) => {
            assert_eq!(walked, Ok(()));
            let (mut quick, mut found) = (normal(quick.found), normal(found));
            // The labels of a plain series are not looked at before its metadata is told, so more may be told.
            let fine = |found: &Found| found.series.iter().all(|series| series.labels.is_some());
            if !fine(&found) {
                assert!(found.metadata.iter().all(|one| quick.metadata.iter().any(|have| have.1 == one.1)));
                quick.metadata.clear();
                found.metadata.clear();
            }
            assert_eq!(quick, found);
        }
        Err(_) => assert!(walked.is_err()),
    }
    quick.keys
}

fn request(labels: usize, value_len: usize, samples: &[(f64, i64)]) -> Vec<u8> {
    let label = |i: usize| Label { name: format!("l{i:03}").into_bytes(), value: vec![b'x'; value_len] };
    let mut labels: Vec<Label> = (0..labels).map(label).collect();
    labels.insert(0, Label { name: b"__name__".to_vec(), value: b"up".to_vec() });
    let samples = samples.iter().map(|(value, timestamp)| proto::Sample1 { value: *value, timestamp: *timestamp });
    let series = TimeSeries { labels, samples: samples.collect(), ..TimeSeries::default() };
    WriteRequest { timeseries: vec![series], metadata: Vec::new() }.encode_to_vec()
}

#[test]
fn plain_series_are_taken_as_they_are() {
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    for value_len in [0, 1, 100, 121, 122, 200, 16_000] {
        assert_eq!(check(&request(3, value_len, &[(1.5, 1_700_000_000_000), (0.0, 0), (stale, 1), (0.0, 7)])), 1);
    }
    assert_eq!(check(&request(0, 1, &[(f64::MIN_POSITIVE, i64::MAX / 1_000_000)])), 1);
}

#[test]
fn others_go_the_long_way() {
    assert_eq!(check(&request(2, 1, &[])), 0, "no sample");
    assert_eq!(check(&request(2, 1, &[(1.0, -1)])), 0, "before 1970");
    assert_eq!(check(&request(2, 1, &[(1.0, i64::MAX / 1_000_000 + 1)])), 0, "after 2262");
    assert_eq!(check(&request(300, 1, &[(1.0, 1)])), 0, "too many labels");
    assert_eq!(check(&request(1, 20_000, &[(1.0, 1)])), 0, "a length of three bytes");
    let series = |labels: usize| {
        let body = request(labels, 1, &[(1.0, 1)]);
        WriteRequest::decode(body.as_slice()).unwrap().timeseries.remove(0)
    };
    let mut with_exemplar = series(2);
    with_exemplar.exemplars.push(Exemplar { labels: Vec::new(), value: 1.0, timestamp: 1 });
    let body = WriteRequest { timeseries: vec![with_exemplar], metadata: Vec::new() }.encode_to_vec();
    assert_eq!(check(&body), 0);
    // Two halves of a series: protobuf joins them only when they are one field, but labels may follow samples.
    let (one, two) = (series(0).encode_to_vec(), series(1).encode_to_vec());
    let joined = [one, two].concat();
    let mut body = vec![0x0a, u8::try_from(joined.len()).unwrap()];
    body.extend(joined);
    assert_eq!(check(&body), 0, "labels after samples");
}

fn request_2(symbols: &[&str], labels_refs: &[u32], start_timestamp: i64) -> Request2 {
    let sample = |timestamp| Sample2 { value: 1.5, timestamp, start_timestamp };
    let metadata = Some(proto::Metadata2 { kind: 1, help_ref: 1, unit_ref: 0 });
    let series = TimeSeries2 {
        labels_refs: labels_refs.to_vec(),
        samples: vec![sample(1_700_000_000_000), sample(0)],
        metadata,
        ..TimeSeries2::default()
    };
    Request2 {
        symbols: symbols.iter().map(|symbol| symbol.as_bytes().to_vec()).collect(),
        timeseries: vec![series.clone(), series],
    }
}

#[test]
fn plain_series_of_version_2_are_told_by_their_texts() {
    let maker = SymbolKeys::default();
    let keys = |request: Request2| check_2(&request.encode_to_vec(), &maker);
    let one = keys(request_2(&["", "__name__", "up", "a", "b"], &[1, 2, 3, 4], 0));
    assert_eq!(one.len(), 2);
    assert_eq!(one[0], one[1]);
    for nameless in [[1, 0, 1, 2], [1, 2, 1, 0]] {
        assert_eq!(keys(request_2(&["", "__name__", "up"], &nameless, 0)).len(), 2, "a name beside none");
    }
    let other_table = keys(request_2(&["", "b", "x", "a", "up", "__name__"], &[5, 4, 3, 1], 1_600_000_000_000));
    assert_eq!(one, other_table);
    let swapped = keys(request_2(&["", "__name__", "up", "a", "b"], &[1, 2, 4, 3], 0));
    assert_ne!(one, swapped);
    assert_eq!(swapped.len(), 2);
}

#[test]
fn lists_of_symbols_have_keys_of_their_own() {
    // Values in the pattern of Thue and Morse, and the other way round, make polynomials collide whatever their secret is.
    let maker = SymbolKeys::default();
    let names: Vec<String> = (0..64).map(|i| format!("l{i:02}")).collect();
    let mut symbols = vec!["", "__name__", "up", "a", "b"];
    symbols.extend(names.iter().map(String::as_str));
    let list = |value: &dyn Fn(u32) -> u32| {
        let labels = (0..64).flat_map(|i: u32| [i + 5, value(i)]);
        let references: Vec<u32> = [1, 2].into_iter().chain(labels).collect();
        check_2(&request_2(&symbols, &references, 0).encode_to_vec(), &maker)[0]
    };
    let mut keys = vec![list(&|i| 3 + i.count_ones() % 2), list(&|i| 4 - i.count_ones() % 2)];
    // Every pair of places swapped, and every value alone.
    for i in 0..64 {
        keys.push(list(&|at| if at == i { 3 } else { 4 }));
        for j in 0..i {
            keys.push(list(&|at| {
                if at == i {
                    3
                } else if at == j {
                    2
                } else {
                    4
                }
            }));
            keys.push(list(&|at| {
                if at == i {
                    2
                } else if at == j {
                    3
                } else {
                    4
                }
            }));
        }
    }
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
    // Nothing is lost of their 128 bits: bit for bit as many are set as not.
    for bit in 0..128 {
        let set = keys.iter().filter(|key| key.0 >> bit & 1 == 1).count();
        assert!((all * 2 / 5..all * 3 / 5).contains(&set), "bit {bit}: {set} of {all}");
    }
}

#[test]
fn others_of_version_2_go_the_long_way() {
    let maker = SymbolKeys::default();
    let plain = |request: Request2| check_2(&request.encode_to_vec(), &maker).len();
    let symbols = ["", "__name__", "up", "a"];
    assert_eq!(plain(request_2(&symbols, &[1, 2, 3], 0)), 0, "an odd number");
    assert_eq!(plain(request_2(&symbols, &[1, 2, 3, 9], 0)), 0, "not there");
    assert_eq!(plain(request_2(&symbols, &[3, 2], 0)), 0, "no name");
    assert_eq!(plain(request_2(&symbols, &[], 0)), 0, "no labels");
    assert_eq!(plain(request_2(&symbols, &[1, 2], i64::MAX / 1_000_000 + 1)), 0, "began after 2262");
    assert_eq!(plain(request_2(&symbols, &[1, 2], -1)), 0, "began before 1970");
    assert_eq!(plain(request_2(&symbols, &vec![1; 1000], 0)), 0, "too many labels");
    let mut request = request_2(&symbols, &[1, 2], 0);
    request.timeseries[0].metadata = Some(proto::Metadata2 { kind: 1, help_ref: 9, unit_ref: 0 });
    request.timeseries[1].exemplars.push(Exemplar2::default());
    assert_eq!(plain(request), 0, "a help that is not there, and an exemplar");
    let mut request = request_2(&symbols, &[1, 2], 0);
    request.timeseries[0].metadata = Some(proto::Metadata2 { kind: 1, help_ref: 3, unit_ref: 0 });
    request.timeseries[1].metadata = Some(proto::Metadata2 { kind: 1, help_ref: 9, unit_ref: 0 });
    assert_eq!(plain(request), 1, "the same metric again, with a help that is not there");
}

proptest! {
    #[test]
    fn the_walks_agree(request in any_request()) {
        check(&request.encode_to_vec());
    }

    #[test]
    fn the_walks_agree_on_version_2(request in any_request_2(), is_plain: bool, flips in any_flips(), is_whole: bool) {
        let mut request = request;
        if is_plain {
            for series in &mut request.timeseries {
                series.histograms.clear();
                series.exemplars.clear();
                for sample in &mut series.samples {
                    sample.timestamp >>= 25;
                }
            }
        }
        let mut body = request.encode_to_vec();
        if !is_whole {
            flip(&mut body, flips);
        }
        check_2(&body, &SymbolKeys::default());
    }

    #[test]
    fn the_walks_agree_on_plain_requests(
        series in prop::collection::vec((any_labels(), prop::collection::vec((any_value(), any::<i64>()), 0..3)), 1..4),
        flips in any_flips(),
        is_whole: bool,
    ) {
        let timeseries = series.into_iter().map(|(labels, samples)| {
            let sample = |(value, timestamp): (f64, i64)| proto::Sample1 { value, timestamp: timestamp >> 25 };
            TimeSeries { labels, samples: samples.into_iter().map(sample).collect(), ..TimeSeries::default() }
        });
        let mut body = WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() }.encode_to_vec();
        if !is_whole {
            flip(&mut body, flips);
        }
        check(&body);
    }
}
