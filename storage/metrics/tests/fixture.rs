//! Files that an earlier version wrote are opened, checked, read bit for bit, and written on.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use model::{Exemplar, Histogram, Labels, Matcher, MetricMetadata, Sample};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{Checked, MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext};
use storage_metrics::{MetricStore, Options};

#[path = "../fixtures/v4.rs"]
mod v4;

use v4::{START_MS, Step, Written};

/// What all files of the fixture may take.
const FIXTURE_BYTES_MAX: u64 = 150_000;

/// All there is, in a form whose equality is that of bits: by series and time the value and the start time, then the
/// exemplars, then what is known of metrics.
#[derive(Debug, Default, PartialEq)]
struct Content {
    samples: BTreeMap<Labels, BTreeMap<i64, (Value, i64)>>,
    exemplars: BTreeMap<Labels, Vec<(i64, u64, Labels)>>,
    metadata: BTreeMap<String, MetricMetadata>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    Histogram(String),
}

fn histogram_bits(histogram: &Histogram) -> Value {
    let side = |side: &[(i32, f64)]| side.iter().map(|(i, count)| (*i, count.to_bits())).collect::<Vec<_>>();
    let Histogram { schema, zero_threshold, zero_count, count, sum, positive, negative, custom, hint } = histogram;
    let numbers = [zero_threshold, zero_count, count, sum].map(|number| number.to_bits());
    let custom: Vec<u64> = custom.iter().map(|bound| bound.to_bits()).collect();
    Value::Histogram(format!("{schema} {numbers:x?} {:x?} {:x?} {custom:x?} {hint:?}", side(positive), side(negative)))
}

fn exemplar_bits(exemplar: &Exemplar) -> (i64, u64, Labels) {
    (exemplar.sample.timestamp_ms, exemplar.sample.value.to_bits(), exemplar.labels.clone())
}

impl Content {
    /// Returns what the steps leave, by maps alone.
    fn expected() -> Self {
        let mut content = Self::default();
        for step in v4::steps().unwrap().into_iter().flat_map(|(_, steps)| steps) {
            match step {
                Step::Append(series, metadata) => {
                    series.into_iter().for_each(|one| content.append(one));
                    content.metadata.extend(metadata.into_iter().map(|one| (one.name.clone(), one)));
                }
                Step::Flush => {}
                Step::Delete(selectors, range) => content.delete(&selectors, range),
            }
        }
        content.samples.retain(|_, samples| !samples.is_empty());
        content.exemplars.retain(|_, exemplars| !exemplars.is_empty());
        content.exemplars.values_mut().for_each(|exemplars| exemplars.sort());
        content
    }

    fn append(&mut self, one: Written) {
        let labels = Labels::from_pairs(one.labels);
        let samples = self.samples.entry(labels.clone()).or_default();
        for (i, Sample { timestamp_ms, value }) in one.samples.iter().enumerate() {
            let start_ms = one.starts_ms.get(i).copied().unwrap_or(0);
            samples.insert(*timestamp_ms, (Value::Number(value.to_bits()), start_ms));
        }
        for sample in &one.histograms {
            samples.insert(sample.timestamp_ms, (histogram_bits(&sample.histogram), sample.start_ms));
        }
        self.exemplars.entry(labels).or_default().extend(one.exemplars.iter().map(exemplar_bits));
    }

    fn delete(&mut self, selectors: &[Vec<Matcher>], range: MillisRange) {
        let passes = |labels: &Labels| {
            let passes = |matcher: &Matcher| matcher.matches(labels.get(&matcher.name).unwrap_or(""));
            selectors.iter().any(|matchers| matchers.iter().all(passes))
        };
        for (_, samples) in self.samples.iter_mut().filter(|(labels, _)| passes(labels)) {
            samples.retain(|at, _| !range.contains(*at));
        }
        for (_, exemplars) in self.exemplars.iter_mut().filter(|(labels, _)| passes(labels)) {
            exemplars.retain(|(at, ..)| !range.contains(*at));
        }
    }

    /// Reads everything from the store.
    fn of(store: &MetricStore) -> Self {
        let context = QueryContext::default();
        let mut content = Self::default();
        for part in store.select(&[], MillisRange::ALL, &context).unwrap().parts {
            for one in part.read(&context).unwrap() {
                let at = |i: usize| {
                    let histogram = one.histograms.as_ref().and_then(|all| all[i].as_ref());
                    let value = histogram.map_or(Value::Number(one.values[i].to_bits()), |all| histogram_bits(all));
                    (one.timestamps_ms[i], (value, one.starts_ms.as_ref().map_or(0, |all| all[i])))
                };
                let samples: BTreeMap<_, _> = (0..one.timestamps_ms.len()).map(at).collect();
                assert_eq!(samples.len(), one.timestamps_ms.len(), "{} has a time twice", one.labels);
                if !samples.is_empty() {
                    assert_eq!(content.samples.insert(one.labels, samples), None, "a series comes twice");
                }
            }
        }
        for one in store.exemplars(&[], MillisRange::ALL, &context).unwrap() {
            content.exemplars.insert(one.labels, one.exemplars.iter().map(exemplar_bits).collect());
        }
        content.exemplars.values_mut().for_each(|exemplars| exemplars.sort());
        content.metadata = store.metadata(None).unwrap().into_iter().map(|one| (one.name.clone(), one)).collect();
        assert_eq!(context.take_warnings(), Vec::<String>::new());
        content
    }

    /// Compares series by series, so that a failure says where.
    #[track_caller]
    fn check(&self, store: &MetricStore, step: &str) {
        let got = Self::of(store);
        assert_eq!(got.samples.keys().collect::<Vec<_>>(), self.samples.keys().collect::<Vec<_>>(), "{step}");
        for (labels, samples) in &self.samples {
            assert_eq!(&got.samples[labels], samples, "{labels} {step}");
        }
        assert_eq!(got.exemplars, self.exemplars, "{step}");
        assert_eq!(got.metadata, self.metadata, "{step}");
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v4")
}

/// Returns the files below `dir` with their sizes, by their path in it.
fn files_in(dir: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files_in(&path).into_iter().map(|(below, size)| (format!("{name}/{below}"), size)));
        } else {
            found.insert(name, path.metadata().unwrap().len());
        }
    }
    found
}

/// Copies the fixture, as opening a store writes to it.
fn copy() -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in files_in(&fixture()).keys() {
        let path = to.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture().join(name), path).unwrap();
    }
    to
}

fn open(dir: &Path) -> (MetricStore, Telemetry, Ledger) {
    let telemetry = Telemetry::new();
    let ledger = Ledger::new(&telemetry);
    let store = MetricStore::open(
        &dir.join("metrics"),
        &dir.join("wal"),
        Options::default(),
        Clock::fixed(START_MS * 1_000_000),
        &telemetry,
        ledger.clone(),
        CpuPool::new(1).unwrap(),
    );
    (store.unwrap(), telemetry, ledger)
}

/// Returns kind and packing of the WAL's records.
fn wal_kinds() -> BTreeSet<[u8; 2]> {
    let wal = fs::read(fixture().join("wal/00000000000000000003.wal")).unwrap();
    let (mut at, mut kinds) = (24, BTreeSet::new());
    while let Some(header) = wal.get(at..at + 16) {
        let payload = &wal[at + 16..at + 16 + u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize];
        kinds.insert([payload[0], payload[1]]);
        at += 16 + payload.len();
    }
    kinds
}

#[track_caller]
fn verify(dir: &Path) -> Checked {
    let mut findings = Vec::new();
    let checked =
        storage_metrics::verify(&dir.join("metrics"), &dir.join("wal"), &mut |finding| findings.push(finding)).unwrap();
    assert_eq!(findings, []);
    checked
}

#[test]
fn the_fixture_of_format_4_holds_every_kind_of_file_and_is_intact() {
    let files = files_in(&fixture());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "metrics/000000000001-000000000001-l0/exemplars.parquet",
            "metrics/000000000001-000000000001-l0/extras",
            "metrics/000000000001-000000000001-l0/histograms.parquet",
            "metrics/000000000001-000000000001-l0/index",
            "metrics/000000000001-000000000001-l0/meta.json",
            "metrics/000000000001-000000000001-l0/samples.parquet",
            "metrics/000000000001-000000000001-l0/starts.parquet",
            "metrics/000000000002-000000000002-l0/index",
            "metrics/000000000002-000000000002-l0/meta.json",
            "metrics/000000000002-000000000002-l0/samples.parquet",
            "metrics/metadata",
            "metrics/tombstones",
            "wal/00000000000000000003.wal",
        ]
    );
    assert!(files.values().sum::<u64>() < FIXTURE_BYTES_MAX, "{files:?}");
    for (block, has_times) in [("000000000001-000000000001-l0", true), ("000000000002-000000000002-l0", false)] {
        let meta = fs::read_to_string(fixture().join("metrics").join(block).join("meta.json")).unwrap();
        assert!(meta.contains("\"format_version\": 4,"), "{meta}");
        let index = fs::read(fixture().join("metrics").join(block).join("index")).unwrap();
        assert_eq!(index[..12], *b"DAYBKMIX\x03\0\0\0");
        // The last of eight entries of 24 bytes behind the first 16: crc32c, packing, offset, length.
        let length = u64::from_le_bytes(index[16 + 7 * 24 + 16..16 + 8 * 24].try_into().unwrap());
        assert_eq!(length > 0, has_times, "shared times of {block}");
    }
    let checked = verify(&fixture());
    assert_eq!((checked.blocks, checked.rows, checked.wal_records), (2, 8_433, 48));
    assert_eq!(wal_kinds(), BTreeSet::from([[2, 0], [3, 0], [3, 1], [4, 0], [4, 1]]));
    assert_eq!(files_in(&fixture()), files, "a check changes nothing");
}

#[test]
fn the_fixture_of_format_4_reads_bit_for_bit_and_goes_on() {
    let expected = Content::expected();
    let sum: usize = expected.samples.values().map(BTreeMap::len).sum();
    let exemplars: usize = expected.exemplars.values().map(Vec::len).sum();
    assert_eq!((expected.samples.len(), sum, exemplars, expected.metadata.len()), (30, 8_646, 5, 8));

    let dir = copy();
    let (store, telemetry, ledger) = open(dir.path());
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.damaged_blocks, stats.block_samples, stats.head_samples), (2, 0, 8_433, 402));
    assert!(ledger.entries().iter().all(|entry| entry.dropped.is_empty()), "{:?}", ledger.entries());
    assert!(telemetry.render().contains("\ndaybook_metrics_tombstones 3\n"), "{}", telemetry.render());
    expected.check(&store, "opened");
    drop(store);
    let (store, ..) = open(dir.path());
    expected.check(&store, "opened again");

    // The version of today writes on: its blocks, its records, and one block out of old and new ones.
    store.flush().unwrap();
    expected.check(&store, "flushed");
    let mut batch = MetricBatch::default();
    batch.push([("__name__".into(), "new".into())], [Sample { timestamp_ms: START_MS, value: 1.0 }]).unwrap();
    store.append(&batch).unwrap();
    store.flush().unwrap();
    let mut expected = expected;
    expected.append(Written {
        labels: vec![("__name__", "new")],
        samples: vec![Sample { timestamp_ms: START_MS, value: 1.0 }],
        ..Written::default()
    });
    expected.exemplars.retain(|_, exemplars| !exemplars.is_empty());
    while store.compact_once().unwrap() {}
    assert_eq!(store.stats().blocks, 1);
    expected.check(&store, "merged");
    store.clean_tombstones().unwrap();
    expected.check(&store, "cleaned");
    drop(store);
    verify(dir.path());
    expected.check(&open(dir.path()).0, "opened after all");
}

#[test]
fn the_steps_of_the_fixture_of_format_4_lead_to_the_same_today() {
    let dir = tempfile::tempdir().unwrap();
    v4::write(dir.path()).unwrap();
    let names = |dir: &Path| files_in(dir).into_keys().collect::<Vec<_>>();
    assert_eq!(names(dir.path()), names(&fixture()));
    assert_eq!(verify(dir.path()).rows, verify(&fixture()).rows);
    Content::expected().check(&open(dir.path()).0, "written today");
}
