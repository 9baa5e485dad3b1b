//! Deletes: what they hide, what they leave, and that they survive.

use std::fs;
use std::sync::Arc;

use model::{Exemplar, HistogramSample, Labels, MatchOp, Matcher, Sample};
use storage_api::{Error, MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext};

use super::crash::copy_dir;
use super::extras::histogram;
use super::{TestStore, files_in, labels};
use crate::Options;
use crate::tombstones::{DAMAGED_FILE, TOMBSTONES_FILE};

fn range(min_ms: i64, max_ms: i64) -> MillisRange {
    MillisRange { min_ms, max_ms }
}

/// Deletes from a metric.
pub(super) fn delete(test: &TestStore, metric: &str, range: MillisRange) {
    test.store().delete_series(&[vec![Matcher::equal("__name__", metric)]], range).unwrap();
}

fn names(test: &TestStore) -> String {
    let context = QueryContext::default();
    let all = MillisRange::ALL;
    let series = test.store().series(&[], all, &context).unwrap();
    let names = test.store().label_names(&[], all, &context).unwrap();
    let metrics = test.store().label_values("__name__", &[], all, &context).unwrap();
    format!("{} series, labels {}, metrics {}", series.len(), names.join(" "), metrics.join(" "))
}

fn has_file(test: &TestStore) -> bool {
    test.blocks_dir().join(TOMBSTONES_FILE).exists()
}

#[test]
fn deleted_samples_are_gone_at_once_after_a_crash_and_after_a_merge() {
    let mut test = TestStore::new();
    for i in 0..4 {
        test.append("m x=1", &[(i * 10, i as f64), (i * 10 + 5, 9.0)]);
        test.append("n", &[(i * 10, i as f64)]);
        if i < 3 {
            test.store().flush().unwrap();
        }
    }
    delete(&test, "m", range(5, 30));
    let expected = "m x=1: 0@0 9@35\nn: 0@0 1@10 2@20 3@30";
    assert_eq!(test.dump(), expected);
    assert!(test.metric("daybook_metrics_tombstones 1"));
    test.reopen();
    assert_eq!(test.dump(), expected);
    assert_eq!(test.dump_where(&[], range(6, 29)), "n: 1@10 2@20");
    assert!(test.store().compact_once().unwrap());
    assert_eq!(test.dump(), expected);
    assert_eq!(test.store().stats().block_samples, 6, "the samples are not written again");
    assert!(test.metric("daybook_metrics_deleted_samples_total 6"));
    let entry = &test.ledger.entries()[0];
    assert_eq!((entry.place.as_str(), entry.dropped.as_slice()), ("storage_delete", &[("deleted".to_owned(), 6)][..]));
    test.reopen();
    assert_eq!(test.dump(), expected);
}

#[test]
fn samples_that_come_later_stay_whatever_their_time() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0), (2, 2.0), (3, 3.0)]);
    delete(&test, "m", MillisRange::ALL);
    assert_eq!(test.dump(), "");
    test.append("m", &[(2, 2.0)]);
    for step in ["head", "replayed", "flushed", "opened", "merged", "cleaned"] {
        assert_eq!(test.dump(), "m: 2@2", "{step}");
        match step {
            "head" | "flushed" => test.reopen(),
            "replayed" => test.store().flush().unwrap(),
            "opened" => {
                for other in ["a", "b"] {
                    test.append(other, &[(1, 1.0)]);
                    test.store().flush().unwrap();
                }
                test.store()
                    .delete_series(&[vec![Matcher::new("__name__", MatchOp::Regex, "a|b").unwrap()]], MillisRange::ALL)
                    .unwrap();
                assert!(test.store().compact_once().unwrap());
            }
            _ => test.store().clean_tombstones().unwrap(),
        }
    }
    delete(&test, "m", range(2, 2));
    assert_eq!(test.dump(), "");
}

#[test]
fn a_series_of_which_nothing_is_left_has_no_name() {
    let test = TestStore::new();
    test.append("m host=a", &[(1, 1.0), (9, 9.0)]);
    test.append("m host=b", &[(1, 1.0), (9, 9.0)]);
    test.append("n", &[(1, 1.0)]);
    delete(&test, "n", range(0, 5));
    assert_eq!(names(&test), "2 series, labels __name__ host, metrics m");
    test.store().delete_series(&[vec![Matcher::equal("host", "a")]], range(0, 4)).unwrap();
    assert_eq!(names(&test), "2 series, labels __name__ host, metrics m");
    let context = QueryContext::default();
    let early = test.store().label_values("host", &[], range(0, 4), &context).unwrap();
    assert_eq!(early, ["b"], "in this range nothing is left of a");
    test.store().delete_series(&[vec![Matcher::equal("host", "a")]], range(5, 20)).unwrap();
    assert_eq!(names(&test), "1 series, labels __name__ host, metrics m");
    delete(&test, "m", MillisRange::ALL);
    assert_eq!(names(&test), "0 series, labels , metrics ");
}

#[test]
fn a_series_that_was_deleted_bit_by_bit_has_no_name() {
    let mut test = TestStore::new();
    test.append("m host=a", &[(1, 1.0), (50, 5.0), (99, 9.0)]);
    test.append("m host=b", &[(1, 1.0), (99, 9.0)]);
    let mut batch = MetricBatch::default();
    batch.push(labels("h host=c"), [Sample { timestamp_ms: 10, value: 1.0 }]).unwrap();
    batch.set_histograms([30, 60].map(|timestamp_ms| HistogramSample {
        timestamp_ms,
        start_ms: 0,
        histogram: Arc::new(histogram(3.0)),
    }));
    test.store().append(&batch).unwrap();
    let all = |test: &TestStore, range| {
        let context = QueryContext::default();
        let hosts = test.store().label_values("host", &[], range, &context).unwrap();
        let series = test.store().series(&[], range, &context).unwrap().len();
        let names = test.store().label_names(&[], range, &context).unwrap().len();
        assert_eq!(context.used().2, 0, "what was read is given back");
        (hosts.join(""), series, names)
    };
    for (metric, from, to) in [("m", 0, 5), ("m", 90, 110), ("h", 0, 20), ("h", 55, 65)] {
        delete(&test, metric, range(from, to));
    }
    for _ in 0..2 {
        // Of b nothing is left, though nobody deleted what lies between; of the others the middle is.
        assert_eq!(all(&test, MillisRange::ALL), ("ac".to_owned(), 2, 2));
        assert_eq!(all(&test, range(0, 40)), ("c".to_owned(), 1, 2));
        assert_eq!(all(&test, range(40, 200)), ("a".to_owned(), 1, 2));
        test.reopen();
    }
    delete(&test, "h", range(30, 30));
    delete(&test, "m", range(49, 51));
    assert_eq!(all(&test, MillisRange::ALL), (String::new(), 0, 0));
}

#[test]
fn cleaning_leaves_blocks_that_hold_nothing_deleted() {
    let test = TestStore::new();
    for i in 0..3_i64 {
        test.append("m", &[(i * 100, 1.0), (i * 100 + 50, 1.0)]);
        let mut batch = MetricBatch::default();
        batch.push(labels("n"), [Sample { timestamp_ms: i * 100 + 20, value: 1.0 }]).unwrap();
        batch.set_exemplars([Exemplar {
            labels: Labels::from_pairs([("trace_id", "x")]),
            sample: Sample { timestamp_ms: i * 100 + 20, value: 1.0 },
        }]);
        test.store().append(&batch).unwrap();
        test.store().flush().unwrap();
    }
    // Between the samples of the first block, an exemplar of the second, a sample of the third.
    delete(&test, "m", range(10, 40));
    delete(&test, "n", range(120, 120));
    delete(&test, "m", range(250, 250));
    test.store().clean_tombstones().unwrap();
    let names = files_in(&test.blocks_dir());
    let blocks: Vec<_> = names.iter().filter(|name| name.contains("-l")).collect();
    assert_eq!(
        blocks,
        ["000000000001-000000000001-l0", "000000000002-000000000002-l1", "000000000003-000000000003-l1"]
    );
    assert!(test.metric("daybook_metrics_tombstones 0") && test.metric("daybook_metrics_deleted_samples_total 2"));
    assert_eq!(test.dump(), "m: 1@0 1@50 1@100 1@150 1@200\nn: 1@20 1@220");
}

#[test]
fn a_selector_without_matchers_means_every_series() {
    let mut test = TestStore::new();
    test.append("a", &[(1, 1.0), (2, 2.0)]);
    test.store().flush().unwrap();
    test.append("b x=1", &[(1, 1.0), (2, 2.0)]);
    test.store().delete_series(&[Vec::new()], range(2, 2)).unwrap();
    for _ in 0..2 {
        assert_eq!(test.dump(), "a: 1@1\nb x=1: 1@1");
        test.reopen();
    }
}

#[test]
fn each_selector_counts_and_none_deletes_nothing() {
    let test = TestStore::new();
    for metric in ["a", "b", "c"] {
        test.append(metric, &[(1, 1.0)]);
    }
    test.store().delete_series(&[], MillisRange::ALL).unwrap();
    delete(&test, "a", range(2, 1));
    delete(&test, "none", MillisRange::ALL);
    assert!(!has_file(&test) && test.store().stats().blocks == 0, "nothing was to be deleted");
    let selectors = ["a", "c"].map(|name| vec![Matcher::equal("__name__", name)]);
    test.store().delete_series(&selectors, MillisRange::ALL).unwrap();
    assert_eq!(test.dump(), "b: 1@1");
    let long = vec![vec![Matcher::equal("__name__", "x".repeat(5_000))]];
    let error = test.store().delete_series(&long, MillisRange::ALL).unwrap_err().to_string();
    assert_eq!(error, "selectors of 5014 bytes, the limit is 4096");
}

#[test]
fn cleaning_frees_the_room_and_forgets_the_deletes() {
    let mut test = TestStore::new();
    for i in 0..3 {
        test.append("m", &[(i, 1.0), (i + 10, 1.0)]);
        test.append(&format!("only-{i}"), &[(i, 1.0)]);
        test.store().flush().unwrap();
    }
    delete(&test, "m", range(5, 11));
    delete(&test, "only-1", MillisRange::ALL);
    let expected = "m: 1@0 1@1 1@2 1@12\nonly-0: 1@0\nonly-2: 1@2";
    assert_eq!(test.dump(), expected);
    test.store().clean_tombstones().unwrap();
    assert_eq!(test.dump(), expected);
    assert!(test.metric("daybook_metrics_tombstones 0") && test.metric("daybook_metrics_deleted_samples_total 3"));
    let names = files_in(&test.blocks_dir());
    let blocks: Vec<_> = names.iter().filter(|name| name.contains("-l")).collect();
    assert_eq!(
        blocks,
        ["000000000001-000000000001-l1", "000000000002-000000000002-l1", "000000000003-000000000003-l0"]
    );
    test.reopen();
    assert_eq!(test.dump(), expected);
    test.store().clean_tombstones().unwrap();
    assert_eq!(files_in(&test.blocks_dir()), names, "there is nothing to clean");
}

#[test]
fn a_block_of_which_nothing_is_left_goes_and_its_number_is_not_used_again() {
    let mut test = TestStore::new();
    for i in 0..4 {
        test.append("m", &[(i, 1.0)]);
        test.store().flush().unwrap();
    }
    delete(&test, "m", MillisRange::ALL);
    assert!(test.store().compact_once().unwrap());
    assert!(!test.store().compact_once().unwrap());
    assert_eq!(test.store().stats().blocks, 0);
    assert!(test.metric("daybook_metrics_tombstones 0"));
    test.reopen();
    test.append("m", &[(1, 2.0)]);
    test.store().flush().unwrap();
    test.reopen();
    assert_eq!(test.dump(), "m: 2@1");
}

#[test]
fn a_delete_outlives_the_blocks_whose_numbers_it_names() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0)]);
    delete(&test, "m", MillisRange::ALL);
    test.store = None;
    // As if the blocks were lost, or dropped by the retention before the file was written again.
    fs::remove_dir_all(test.blocks_dir().join("000000000001-000000000001-l0")).unwrap();
    test.reopen();
    test.append("m", &[(1, 2.0)]);
    test.store().flush().unwrap();
    test.reopen();
    assert_eq!(test.dump(), "m: 2@1");
}

#[test]
fn crashes_between_the_steps_of_a_delete_and_of_a_clean_lose_nothing() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0), (2, 2.0)]);
    test.append("n", &[(1, 1.0)]);
    let saved = |test: &TestStore| {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(&test.blocks_dir(), dir.path());
        dir
    };
    delete(&test, "m", range(1, 1));
    // After the block, before the tombstones.
    let (deleted, file) = (saved(&test), test.blocks_dir().join(TOMBSTONES_FILE));
    let content = fs::read(&file).unwrap();
    test.store = None;
    fs::remove_file(&file).unwrap();
    fs::write(test.blocks_dir().join(".tmp-tombstones"), &content).unwrap();
    test.reopen();
    assert_eq!(test.dump(), "m: 1@1 2@2\nn: 1@1", "the delete was not acknowledged");
    test.store = None;
    fs::write(&file, &content).unwrap();
    test.reopen();
    let expected = "m: 2@2\nn: 1@1";
    assert_eq!(test.dump(), expected);
    test.append("m", &[(1, 7.0)]);
    let expected_later = "m: 7@1 2@2\nn: 1@1";
    test.store().clean_tombstones().unwrap();
    assert_eq!(test.dump(), expected_later);
    // The new block is in place, the old one and the tombstones still are.
    test.store = None;
    copy_dir(deleted.path(), &test.blocks_dir());
    test.reopen();
    assert_eq!(test.dump(), expected_later);
    assert_eq!(test.store().stats().blocks, 1);
    test.store().flush().unwrap();
    test.store().clean_tombstones().unwrap();
    test.reopen();
    assert_eq!(test.dump(), expected_later);
}

#[test]
fn a_full_disk_during_a_delete_or_a_clean_changes_nothing() {
    let mut test = TestStore::new();
    let faults = test.options.faults.clone();
    test.append("m", &[(1, 1.0), (2, 2.0)]);
    let mut failures = 0;
    for bytes in (0..8_000).step_by(97) {
        faults.fill_disk_after(bytes);
        let deleted = test.store().delete_series(&[vec![Matcher::equal("__name__", "m")]], range(1, 1));
        faults.fill_disk_after(u64::MAX);
        match deleted {
            Ok(()) => break,
            Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "{error}"),
        }
        failures += 1;
        assert_eq!(test.dump(), "m: 1@1 2@2", "{bytes}");
    }
    assert!(failures > 10, "{failures}");
    assert_eq!(test.dump(), "m: 2@2");
    for bytes in (0..8_000).step_by(301) {
        faults.fill_disk_after(bytes);
        let cleaned = test.store().clean_tombstones();
        faults.fill_disk_after(u64::MAX);
        assert_eq!(test.dump(), "m: 2@2", "{bytes}");
        if cleaned.is_ok() {
            test.reopen();
            assert_eq!(test.dump(), "m: 2@2");
            assert_eq!(test.store().stats().block_samples, 1);
            return;
        }
    }
    panic!("no clean came through");
}

#[test]
fn a_damaged_list_of_deletes_is_set_aside_and_warned_of() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0)]);
    delete(&test, "m", MillisRange::ALL);
    test.store = None;
    let path = test.blocks_dir().join(TOMBSTONES_FILE);
    let content = fs::read(&path).unwrap();
    for at in 0..content.len() {
        let mut bytes = content.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        test.reopen();
        let (series, warnings) = test.read(&[], MillisRange::ALL);
        assert_eq!((series.len(), warnings.len()), (1, 1), "byte {at}");
        assert!(warnings[0].starts_with("the list of deletes was damaged: "), "{warnings:?}");
        test.store = None;
        fs::remove_file(test.blocks_dir().join(DAMAGED_FILE)).unwrap();
    }
    fs::write(&path, &content).unwrap();
    test.reopen();
    assert_eq!(test.dump(), "");
}

#[test]
fn a_damaged_block_keeps_its_deletes_until_it_is_mended() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0), (2, 2.0)]);
    delete(&test, "m", range(1, 1));
    test.store = None;
    let meta = test.blocks_dir().join("000000000001-000000000001-l0/meta.json");
    let content = fs::read(&meta).unwrap();
    fs::write(&meta, &content[1..]).unwrap();
    test.reopen();
    test.store().clean_tombstones().unwrap();
    test.store = None;
    fs::write(&meta, &content).unwrap();
    test.reopen();
    assert_eq!(test.dump(), "m: 2@2");
}

#[test]
fn deletes_beside_appends_flushes_and_merges_hide_what_was_there_before() {
    let mut test = TestStore::with(Options { head_bytes_max: 4 << 20, ..Options::default() });
    let rounds = 40;
    std::thread::scope(|scope| {
        let store = test.store();
        let worker = scope.spawn(move || {
            for _ in 0..rounds {
                store.flush().unwrap();
                while store.compact_once().unwrap() {}
            }
        });
        for round in 0..rounds {
            let old: Vec<(i64, f64)> = (0..50).map(|at| (at, round as f64)).collect();
            test.append("m", &old);
            test.append("kept", &old);
            delete(&test, "m", range(0, 39));
            test.append("m", &[(7, -1.0)]);
            let only = [Matcher::equal("__name__", "m")];
            let got = test.dump_where(&only, range(0, 39));
            assert_eq!(got, "m: -1@7", "round {round}");
            if round % 8 == 3 {
                store.clean_tombstones().unwrap();
            }
        }
        worker.join().unwrap();
    });
    for _ in 0..2 {
        assert_eq!(
            test.dump_where(&[Matcher::equal("__name__", "m")], range(0, 41)),
            format!("m: -1@7 {0}@40 {0}@41", rounds - 1)
        );
        assert_eq!(
            test.dump_where(&[Matcher::equal("__name__", "kept")], range(0, 0)),
            format!("kept: {}@0", rounds - 1)
        );
        test.reopen();
    }
}

#[test]
fn histograms_start_times_and_exemplars_are_deleted_with_the_numbers() {
    let mut test = TestStore::new();
    let fill = |test: &TestStore, from: i64| {
        let mut batch = MetricBatch::default();
        for series in ["h", "kept"] {
            let numbers = (from..from + 4).map(|at| Sample { timestamp_ms: at, value: 1.0 });
            batch.push(labels(series), numbers).unwrap();
            batch.set_starts([from; 4]);
            batch.set_histograms((from + 4..from + 8).map(|timestamp_ms| HistogramSample {
                timestamp_ms,
                start_ms: from,
                histogram: Arc::new(histogram(3.0)),
            }));
            batch.set_exemplars((from..from + 8).map(|timestamp_ms| Exemplar {
                labels: Labels::from_pairs([("trace_id", "x")]),
                sample: Sample { timestamp_ms, value: 1.0 },
            }));
        }
        // A series with exemplars alone.
        batch.push(labels("e"), []).unwrap();
        let sample = Sample { timestamp_ms: from + 5, value: 1.0 };
        batch.set_exemplars([Exemplar { labels: Labels::empty(), sample }]);
        test.store().append(&batch).unwrap();
    };
    let show = |test: &TestStore| {
        let (series, warnings) = test.read(&[], MillisRange::ALL);
        assert!(warnings.is_empty(), "{warnings:?}");
        let samples = series.iter().map(|one| {
            assert!(
                one.starts_ms
                    .as_ref()
                    .unwrap()
                    .iter()
                    .zip(&one.timestamps_ms)
                    .all(|(start, at)| *start == (at - 1) / 8 * 8 + 1)
            );
            let is_histogram = |i: usize| one.histograms.as_ref().is_some_and(|all| all[i].is_some());
            let kinds: String = (0..one.values.len()).map(|i| if is_histogram(i) { 'h' } else { 'n' }).collect();
            format!("{}: {kinds} ", one.labels.metric_name())
        });
        let context = QueryContext::default();
        let exemplars = test.store().exemplars(&[], MillisRange::ALL, &context).unwrap();
        let exemplars = exemplars.iter().map(|one| format!("{} {}", one.labels.metric_name(), one.exemplars.len()));
        samples.collect::<String>() + &exemplars.collect::<Vec<_>>().join(", ")
    };
    for from in [9, 17, 25, 33] {
        fill(&test, from);
        test.store().flush().unwrap();
    }
    let whole = "nnnnhhhh".repeat(4);
    assert_eq!(show(&test), format!("h: {whole} kept: {whole} e 4, h 32, kept 32"));
    delete(&test, "h", range(12, 21));
    delete(&test, "e", range(0, 30));
    let expected = format!("h: nnnhhhnnnnhhhhnnnnhhhh kept: {whole} e 1, h 22, kept 32");
    for step in ["deleted", "opened", "merged", "opened again", "cleaned"] {
        assert_eq!(show(&test), expected, "{step}");
        match step {
            "deleted" | "merged" => test.reopen(),
            "opened" => assert!(test.store().compact_once().unwrap()),
            _ => test.store().clean_tombstones().unwrap(),
        }
    }
    assert_eq!(test.store().stats().block_samples, 22 + 32);
    assert_eq!(show(&test), expected);
    fill(&test, 41);
    delete(&test, "e", MillisRange::ALL);
    assert_eq!(show(&test), format!("h: nnnhhhnnnnhhhhnnnnhhhhnnnnhhhh kept: {whole}nnnnhhhh h 30, kept 40"));
}
