//! The store as a whole.

mod crash;
mod delete;
mod encoding;
mod extras;
mod keyed;
mod limits;
mod model_test;
mod query;
mod verify;

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use model::{Labels, Matcher, Sample};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{
    AppendReport, MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext, Result, SeriesSamples,
};

use crate::{MetricStore, Options};

/// A store in a directory of its own, which can be opened again.
pub(crate) struct TestStore {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) telemetry: Telemetry,
    pub(crate) ledger: Ledger,
    pub(crate) store: Option<MetricStore>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let telemetry = Telemetry::new();
        let mut test = Self {
            dir: tempfile::tempdir().unwrap(),
            options,
            clock: Clock::fixed(1_000_000_000_000_000_000),
            ledger: Ledger::new(&telemetry),
            telemetry,
            store: None,
        };
        test.reopen();
        test
    }

    pub(crate) fn blocks_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("metrics")
    }

    pub(crate) fn wal_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("wal")
    }

    /// Opens the store again as after a crash: nothing is flushed, nothing closed.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.telemetry = Telemetry::new();
        self.ledger = Ledger::new(&self.telemetry);
        let store = MetricStore::open(
            &self.blocks_dir(),
            &self.wal_dir(),
            self.options.clone(),
            self.clock.clone(),
            &self.telemetry,
            self.ledger.clone(),
            CpuPool::new(1).unwrap(),
        );
        self.store = Some(store.unwrap());
    }

    pub(crate) fn store(&self) -> &MetricStore {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn append(&self, series: &str, samples: &[(i64, f64)]) -> AppendReport {
        self.try_append(series, samples).unwrap()
    }

    pub(crate) fn try_append(&self, series: &str, samples: &[(i64, f64)]) -> Result<AppendReport> {
        let mut batch = MetricBatch::default();
        push(&mut batch, series, samples);
        self.store().append(&batch)
    }

    /// Reads everything, as text.
    pub(crate) fn dump(&self) -> String {
        self.dump_where(&[], MillisRange::ALL)
    }

    pub(crate) fn dump_where(&self, matchers: &[Matcher], range: MillisRange) -> String {
        let (series, warnings) = self.read(matchers, range);
        assert_eq!(warnings, Vec::<String>::new());
        print(&series)
    }

    pub(crate) fn read(&self, matchers: &[Matcher], range: MillisRange) -> (Vec<SeriesSamples>, Vec<String>) {
        let context = QueryContext::default();
        let selection = self.store().select(matchers, range, &context).unwrap();
        let mut all = Vec::new();
        for part in &selection.parts {
            let read = part.read(&context).unwrap();
            assert_eq!(
                read.iter().map(|series| &series.labels).collect::<Vec<_>>(),
                part.labels().iter().collect::<Vec<_>>()
            );
            all.extend(read);
        }
        assert!(all.is_sorted_by(|a, b| a.labels < b.labels), "a label set comes twice or out of order");
        all.retain(|series| !series.values.is_empty());
        (all, context.take_warnings())
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        self.telemetry.render().lines().any(|have| have == line)
    }
}

/// Parses `name a=b c=d`.
pub(crate) fn labels(text: &str) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    let mut parts = text.split(' ');
    let name = parts.next().map(|name| (Cow::from("__name__"), Cow::from(name)));
    let rest = parts.map(|part| part.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into()));
    name.into_iter().chain(rest).collect()
}

pub(crate) fn push<'a>(batch: &mut MetricBatch<'a>, series: &'a str, samples: &[(i64, f64)]) {
    let samples = samples.iter().map(|(timestamp_ms, value)| Sample { timestamp_ms: *timestamp_ms, value: *value });
    batch.push(labels(series), samples).unwrap();
}

pub(crate) fn metadata_batch(metadata: Vec<model::MetricMetadata>) -> MetricBatch<'static> {
    let mut batch = MetricBatch::default();
    batch.metadata = metadata;
    batch
}

/// Prints series as `name a=b: 1@10 2@20`.
pub(crate) fn print(series: &[SeriesSamples]) -> String {
    let mut lines = Vec::new();
    for one in series {
        let labels: Vec<String> = one
            .labels
            .iter()
            .map(|(name, value)| if name == "__name__" { value.to_owned() } else { format!("{name}={value}") })
            .collect();
        let samples = one.timestamps_ms.iter().zip(&one.values).map(|(at, value)| format!(" {value}@{at}"));
        lines.push(format!("{}:{}", labels.join(" "), samples.collect::<String>()));
    }
    lines.join("\n")
}

pub(crate) fn files_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn samples_are_there_at_once_and_after_a_crash_and_a_flush() {
    let mut test = TestStore::new();
    let report = test.append("up host=a", &[(10, 1.0), (20, 0.0)]);
    assert_eq!((report.accepted, report.rejections.len()), (2, 0));
    test.append("up host=b", &[(10, 5.0)]);
    let expected = "up host=a: 1@10 0@20\nup host=b: 5@10";
    assert_eq!(test.dump(), expected);
    test.reopen();
    assert_eq!(test.dump(), expected);
    test.store().flush().unwrap();
    assert_eq!(test.dump(), expected);
    assert_eq!(test.store().head_bytes(), 0);
    test.reopen();
    assert_eq!(test.dump(), expected);
    assert_eq!(test.store().stats().blocks, 1);
    assert_eq!(test.store().stats().head_samples, 0);
}

#[test]
fn the_newest_write_wins_over_heads_and_blocks() {
    let mut test = TestStore::new();
    test.append("m", &[(20, 1.0), (10, 1.0), (20, 2.0)]);
    assert_eq!(test.dump(), "m: 1@10 2@20");
    test.store().flush().unwrap();
    test.append("m", &[(10, 3.0), (15, 3.0)]);
    assert_eq!(test.dump(), "m: 3@10 3@15 2@20");
    test.store().flush().unwrap();
    test.append("m", &[(20, 4.0)]);
    assert_eq!(test.dump(), "m: 3@10 3@15 4@20");
    test.reopen();
    assert_eq!(test.dump(), "m: 3@10 3@15 4@20");
}

#[test]
fn repeated_samples_are_stored_once() {
    let test = TestStore::new();
    for _ in 0..3 {
        assert_eq!(test.append("m", &[(10, 1.0)]).accepted, 1);
    }
    assert_eq!(test.dump(), "m: 1@10");
    assert_eq!(test.store().stats().head_samples, 1);
}

#[test]
fn every_bit_of_a_value_comes_back() {
    let bits = [
        0,
        1,
        u64::MAX,
        model::STALE_NAN_BITS,
        f64::NAN.to_bits(),
        1 << 63,
        f64::INFINITY.to_bits(),
        0xfff8_dead_beef_0001,
    ];
    let test = TestStore::new();
    let samples: Vec<(i64, f64)> = bits.iter().enumerate().map(|(i, bits)| (i as i64, f64::from_bits(*bits))).collect();
    test.append("m", &samples);
    for _ in 0..2 {
        let (series, _) = test.read(&[], MillisRange::ALL);
        assert_eq!(series[0].values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
        test.store().flush().unwrap();
    }
}

#[test]
fn compaction_merges_blocks_and_changes_no_answer() {
    let mut test = TestStore::new();
    for i in 0..9_i64 {
        let series = format!("m i={}", i % 3);
        test.append(&series, &[(i, i as f64), (100, i as f64)]);
        test.append("common", &(0..300).map(|at| (at * 3 + i % 2, i as f64)).collect::<Vec<_>>());
        test.store().flush().unwrap();
    }
    let before = test.dump();
    assert_eq!(test.store().stats().blocks, 9);
    assert!(test.store().compact_once().unwrap());
    assert!(!test.store().compact_once().unwrap());
    assert_eq!(test.store().stats().blocks, 1);
    assert_eq!(test.dump(), before);
    assert_eq!(files_in(&test.blocks_dir()), ["000000000001-000000000009-l1"]);
    test.reopen();
    assert_eq!(test.dump(), before);
    assert!(test.metric("daybook_metrics_blocks 1"));
}

#[test]
fn long_series_span_pages_and_row_groups() {
    // Runs of 65,536 rows, row groups of two of them.
    let test = TestStore::with(Options { row_group_rows: 100_000, ..Options::default() });
    let rows = 220_000;
    let samples: Vec<(i64, f64)> = (0..rows).map(|i| (i * 10, i as f64)).collect();
    for series in ["a", "b"] {
        test.append(series, &samples);
    }
    test.append("c", &samples[..5]);
    test.store().flush().unwrap();
    let range = MillisRange { min_ms: 81_915, max_ms: 81_940 };
    assert_eq!(test.dump_where(&[], range), "a: 8192@81920 8193@81930 8194@81940\nb: 8192@81920 8193@81930 8194@81940");
    let last = (rows - 1) * 10;
    let range = MillisRange { min_ms: last, max_ms: i64::MAX };
    assert_eq!(test.dump_where(&[], range), format!("a: {v}@{last}\nb: {v}@{last}", v = rows - 1));
    let (series, _) = test.read(&[], MillisRange::ALL);
    assert_eq!(series.iter().map(|one| one.values.len()).collect::<Vec<_>>(), [samples.len(), samples.len(), 5]);
    assert!(series[1].timestamps_ms.iter().zip(&series[1].values).all(|(at, value)| *value == *at as f64 / 10.0));
}

#[test]
fn metadata_is_served_after_a_crash_and_after_a_flush() {
    let mut test = TestStore::new();
    let metadata = |name: &str, help: &str| model::MetricMetadata {
        name: name.to_owned(),
        kind: model::MetricKind::Counter,
        help: help.to_owned(),
        unit: "seconds".to_owned(),
    };
    let batch = metadata_batch;
    test.store().append(&batch(vec![metadata("a", "old"), metadata("b", "B")])).unwrap();
    test.store().append(&batch(vec![metadata("a", "new")])).unwrap();
    for step in 0..3 {
        assert_eq!(test.store().metadata(None).unwrap(), [metadata("a", "new"), metadata("b", "B")], "step {step}");
        assert_eq!(test.store().metadata(Some("b")).unwrap(), [metadata("b", "B")]);
        if step == 1 {
            test.store().flush().unwrap();
        }
        test.reopen();
    }
    assert_eq!(test.store().metadata(Some("c")).unwrap(), []);
}

#[test]
fn blocks_grown_too_old_are_dropped_and_counted_and_old_rows_hidden() {
    let day = 86_400_000;
    let mut test = TestStore::with(Options { retention: Some(Duration::from_secs(86_400)), ..Options::default() });
    let now = test.clock.now_millis();
    test.append("old", &[(now - day + 10, 1.0)]);
    test.store().flush().unwrap();
    test.append("mixed", &[(now - day + 20, 2.0), (now, 3.0)]);
    test.store().flush().unwrap();
    test.clock.advance(Duration::from_millis(15));
    assert_eq!(test.dump(), format!("mixed: 2@{} 3@{now}", now - day + 20), "hidden before it is dropped");
    test.store().apply_retention(test.clock.now_millis(), Duration::from_secs(86_400)).unwrap();
    assert_eq!(test.store().stats().blocks, 1);
    let entries = test.ledger.entries();
    assert_eq!((entries[0].place.as_str(), entries[0].received), ("storage_retention", 1));
    assert_eq!(entries[0].dropped, [("too_old".to_owned(), 1)]);
    test.clock.advance(Duration::from_millis(10));
    assert_eq!(test.dump(), format!("mixed: 3@{now}"));
    test.reopen();
    assert_eq!(test.dump(), format!("mixed: 3@{now}"));
}

#[test]
fn a_query_keeps_its_view_while_blocks_are_merged_away() {
    let test = TestStore::new();
    for i in 0..4 {
        test.append("m", &[(i, 1.0)]);
        test.store().flush().unwrap();
    }
    let context = QueryContext::default();
    let selection = test.store().select(&[], MillisRange::ALL, &context).unwrap();
    test.append("m", &[(9, 1.0)]);
    assert!(test.store().compact_once().unwrap());
    let series = selection.parts[0].read(&context).unwrap();
    assert_eq!(series[0].timestamps_ms[..4], [0, 1, 2, 3]);
}

#[test]
fn appenders_and_flushes_at_the_same_time_lose_nothing() {
    let mut test = TestStore::new();
    let store = test.store();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for i in 0..100 {
                    let mut batch = MetricBatch::default();
                    let name = format!("m t={thread}");
                    push(&mut batch, &name, &[(i, i as f64)]);
                    push(&mut batch, "shared", &[(i * 4 + thread, 1.0)]);
                    store.append(&batch).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                store.flush().unwrap();
                store.compact_once().unwrap();
            }
        });
    });
    for _ in 0..2 {
        let (series, _) = test.read(&[], MillisRange::ALL);
        let counts: Vec<usize> = series.iter().map(|one| one.values.len()).collect();
        assert_eq!(counts, [100, 100, 100, 100, 400]);
        test.reopen();
    }
}

#[test]
fn labels_of_any_text_order_and_case_come_back() {
    let mut test = TestStore::new();
    let sets = [
        vec![("A", "1"), ("__name__", "m")],
        vec![("__name__", "m"), ("b", "\"quoted\" \\ \u{1}")],
        vec![("__name__", "결제"), ("이름", "값")],
        vec![("only", "this")],
    ];
    let mut expected: Vec<Labels> = Vec::new();
    for set in &sets {
        let mut batch = MetricBatch::default();
        let pairs = set.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value)));
        batch.push(pairs, [Sample { timestamp_ms: 1, value: 1.0 }]).unwrap();
        test.store().append(&batch).unwrap();
        expected.push(Labels::from_pairs(set.iter().copied()));
    }
    expected.sort();
    for _ in 0..3 {
        let (series, _) = test.read(&[], MillisRange::ALL);
        assert_eq!(series.into_iter().map(|one| one.labels).collect::<Vec<_>>(), expected);
        test.store().flush().unwrap();
        test.reopen();
    }
}
