//! Crashes, full disks and damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use storage_api::{Error, MetricQuerier, MillisRange, QueryContext};

use super::{TestStore, files_in};
use crate::Options;

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn only_block(test: &TestStore) -> PathBuf {
    let names = files_in(&test.blocks_dir());
    let mut blocks = names.iter().filter(|name| name.contains("-l"));
    let block = blocks.next().unwrap();
    assert_eq!(blocks.next(), None);
    test.blocks_dir().join(block)
}

#[test]
fn a_crash_between_block_and_wal_removal_duplicates_nothing() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0), (2, 2.0)]);
    let saved = tempfile::tempdir().unwrap();
    copy_dir(&test.wal_dir(), saved.path());
    test.store().flush().unwrap();
    test.store = None;
    copy_dir(saved.path(), &test.wal_dir());
    test.reopen();
    assert_eq!(test.dump(), "m: 1@1 2@2");
    assert_eq!(test.store().stats().head_samples, 0, "the covered segment is not replayed");
    test.append("m", &[(3, 3.0)]);
    test.reopen();
    assert_eq!(test.dump(), "m: 1@1 2@2 3@3");
}

#[test]
fn a_wal_directory_that_was_lost_does_not_hide_new_samples() {
    let mut test = TestStore::new();
    for i in 0..3 {
        test.append("m", &[(i, 1.0)]);
        test.store().flush().unwrap();
    }
    test.store = None;
    fs::remove_dir_all(test.wal_dir()).unwrap();
    test.reopen();
    test.append("m", &[(9, 9.0)]);
    test.reopen();
    assert_eq!(test.dump(), "m: 1@0 1@1 1@2 9@9");
}

#[test]
fn what_a_crash_left_half_done_is_removed() {
    let mut test = TestStore::new();
    for i in 0..4 {
        test.append("m", &[(i, i as f64)]);
        test.store().flush().unwrap();
    }
    let saved = tempfile::tempdir().unwrap();
    copy_dir(&test.blocks_dir(), saved.path());
    assert!(test.store().compact_once().unwrap());
    let before = test.dump();
    test.store = None;
    // The merged block is in place, and the merged ones, too.
    copy_dir(saved.path(), &test.blocks_dir());
    fs::create_dir(test.blocks_dir().join(".tmp-000000000005-000000000005-l0")).unwrap();
    fs::write(test.blocks_dir().join(".tmp-metadata"), "half").unwrap();
    fs::write(test.blocks_dir().join("README"), "not ours").unwrap();
    test.reopen();
    assert_eq!(test.dump(), before);
    assert_eq!(files_in(&test.blocks_dir()), ["000000000001-000000000004-l1", "README"]);
}

#[test]
fn a_full_disk_during_a_flush_changes_nothing_and_the_next_flush_works() {
    let mut test = TestStore::new();
    let faults = test.options.faults.clone();
    test.append("m", &[(1, 1.0)]);
    let mut failures = 0;
    for bytes in [0, 23, 24, 100, 400, 600, 1000, 1500, 2000, 3000] {
        faults.fill_disk_after(bytes);
        match test.store().flush() {
            Ok(()) => break,
            Err(error) => {
                assert!(matches!(error, Error::DiskFull { .. }), "{bytes}: {error}");
                failures += 1;
            }
        }
        assert_eq!(test.dump(), "m: 1@1");
        assert_eq!(files_in(&test.blocks_dir()), Vec::<String>::new(), "{bytes}");
        faults.fill_disk_after(u64::MAX);
        if bytes == 100 {
            test.append("later", &[(2, 2.0)]);
            test.reopen();
            assert_eq!(test.dump(), "later: 2@2\nm: 1@1");
            assert_eq!(test.store().stats().blocks, 0);
            test.append("later", &[(2, 2.0)]);
            break;
        }
    }
    assert_eq!(failures, 4);
    faults.fill_disk_after(u64::MAX);
    for bytes in (0..4000).step_by(150) {
        faults.fill_disk_after(bytes);
        let result = test.store().flush();
        faults.fill_disk_after(u64::MAX);
        assert_eq!(test.dump(), "later: 2@2\nm: 1@1", "{bytes}");
        match result {
            Ok(()) => {
                assert!(bytes > 1000, "a block of {bytes} bytes");
                assert_eq!(test.store().head_bytes(), 0);
                test.reopen();
                assert_eq!(test.dump(), "later: 2@2\nm: 1@1");
                return;
            }
            Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "{bytes}: {error}"),
        }
        assert_eq!(test.store().should_flush(), bytes > 0, "a frozen head is tried again at once");
    }
    panic!("no flush came through");
}

#[test]
fn a_full_disk_during_a_merge_or_an_append_changes_nothing() {
    let mut test = TestStore::new();
    let faults = test.options.faults.clone();
    for i in 0..4 {
        test.append("m", &[(i, i as f64)]);
        test.store().flush().unwrap();
    }
    faults.fill_disk_after(500);
    assert!(matches!(test.store().compact_once(), Err(Error::DiskFull { .. })));
    faults.fill_disk_after(10);
    assert!(matches!(test.try_append("new", &[(9, 9.0)]), Err(Error::DiskFull { .. })));
    faults.fill_disk_after(u64::MAX);
    let expected = "m: 0@0 1@1 2@2 3@3";
    assert_eq!(test.dump(), expected);
    assert!(test.metric("daybook_metrics_compactions_total{result=\"failed\"} 1"));
    assert!(test.store().compact_once().unwrap());
    assert_eq!(test.append("new", &[(9, 9.0)]).accepted, 1);
    test.reopen();
    assert_eq!(test.dump(), format!("{expected}\nnew: 9@9"));
}

#[test]
fn a_failed_fsync_refuses_appends_until_reopened() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0)]);
    test.options.faults.fail_sync(true);
    assert!(matches!(test.try_append("m", &[(2, 2.0)]), Err(Error::Poisoned { .. })));
    test.options.faults.fail_sync(false);
    assert!(matches!(test.try_append("m", &[(3, 3.0)]), Err(Error::Poisoned { .. })));
    assert_eq!(test.dump(), "m: 1@1");
    test.reopen();
    assert_eq!(test.append("m", &[(3, 3.0)]).accepted, 1);
}

/// Opens a store whose block has `file` changed, and checks that whatever comes is right or is warned of.
#[track_caller]
fn check_damaged(test: &mut TestStore, file: &Path, content: &[u8], expected: &str, what: &str) {
    fs::write(file, content).unwrap();
    test.reopen();
    let (series, warnings) = test.read(&[], MillisRange::ALL);
    let got = super::print(&series);
    if warnings.is_empty() {
        assert_eq!(got, expected, "{what}: a wrong answer without a warning");
    } else {
        assert!(got.is_empty() || got == "after: 5@5", "{what}: {got}");
        assert!(warnings[0].contains("is damaged and left out"), "{what}: {warnings:?}");
    }
    let context = QueryContext::default();
    test.store().label_values("__name__", &[], MillisRange::ALL, &context).unwrap();
    test.store().series(&[], MillisRange::ALL, &context).unwrap();
}

#[test]
fn every_damaged_byte_of_a_block_is_a_warning_and_never_a_wrong_answer() {
    // Values as they are, and decimals with one that is none.
    check_every_byte(u64::MAX, 1.5);
    check_every_byte(0, 1.5);
    check_every_byte(0, 0.1);
}

fn check_every_byte(decimal_rows_min: u64, step: f64) {
    let mut test = TestStore::with(Options { decimal_rows_min, ..Options::default() });
    for host in ["a", "b", "c", "d", "e"] {
        test.append(&format!("up host={host}"), &(0..50).map(|i| (i * 10, i as f64 * step)).collect::<Vec<_>>());
    }
    test.store().flush().unwrap();
    let expected = test.dump();
    let block = only_block(&test);
    for name in files_in(&block) {
        let path = block.join(&name);
        let content = fs::read(&path).unwrap();
        let step = (content.len() / 100).max(1);
        let mut warned = 0;
        for at in (0..content.len()).step_by(step) {
            let mut bytes = content.clone();
            bytes[at] ^= 1 << (at % 8);
            check_damaged(&mut test, &path, &bytes, &expected, &format!("{name}, byte {at} flipped"));
            warned += u64::from(!test.read(&[], MillisRange::ALL).1.is_empty());
            check_damaged(&mut test, &path, &content[..at], &expected, &format!("{name}, cut at {at}"));
        }
        assert!(warned > 50, "{name}: {warned}");
        fs::write(&path, &content).unwrap();
    }
    test.reopen();
    assert_eq!(test.dump(), expected);
}

#[test]
fn a_damaged_block_is_set_aside_and_the_rest_goes_on() {
    let mut test = TestStore::new();
    for i in 0..4 {
        test.append("m", &[(i * 100, i as f64)]);
        test.store().flush().unwrap();
    }
    test.store = None;
    let index = test.blocks_dir().join("000000000002-000000000002-l0/index");
    let mut content = fs::read(&index).unwrap();
    content[200] ^= 1;
    fs::write(&index, &content).unwrap();
    test.reopen();
    assert!(test.metric("daybook_metrics_damaged_blocks 1"));
    let (series, warnings) = test.read(&[], MillisRange::ALL);
    assert_eq!(super::print(&series), "m: 0@0 2@200 3@300");
    assert_eq!(warnings.len(), 1);
    let (_, warnings) = test.read(&[], MillisRange { min_ms: 150, max_ms: 400 });
    assert!(warnings.is_empty(), "only queries that it would have been part of are warned");
    assert!(!test.store().compact_once().unwrap(), "nothing is merged across it");
    test.append("m", &[(400, 4.0)]);
    test.store().flush().unwrap();
    assert!(index.exists(), "it stays for people to look at");
    assert_eq!(files_in(&test.blocks_dir()).len(), 5);
}

#[test]
fn damage_found_by_a_merge_keeps_the_block() {
    let mut test = TestStore::new();
    for i in 0..4 {
        test.append("m", &[(i * 100, i as f64)]);
        test.store().flush().unwrap();
    }
    test.store = None;
    let samples = test.blocks_dir().join("000000000002-000000000002-l0/samples.parquet");
    let mut content = fs::read(&samples).unwrap();
    content[20] ^= 1;
    fs::write(&samples, &content).unwrap();
    test.reopen();
    assert!(matches!(test.store().compact_once(), Err(Error::Corrupt { .. })));
    assert!(!test.store().compact_once().unwrap(), "it is not tried again and again");
    let (series, warnings) = test.read(&[], MillisRange::ALL);
    assert_eq!(super::print(&series), "m: 0@0 2@200 3@300");
    assert_eq!(warnings.len(), 1);
    assert_eq!(files_in(&test.blocks_dir()).len(), 4);
}

#[test]
fn a_damaged_wal_record_costs_its_samples_and_is_counted() {
    let mut test = TestStore::new();
    test.append("m", &[(1, 1.0)]);
    test.append("n", &[(1, 1.0)]);
    test.append("m", &[(2, 2.0)]);
    test.append("n", &[(2, 2.0)]);
    test.store = None;
    let path = test.wal_dir().join(files_in(&test.wal_dir()).first().unwrap());
    let mut content = fs::read(&path).unwrap();
    content[45] ^= 1;
    fs::write(&path, &content).unwrap();
    test.reopen();
    assert_eq!(test.dump(), "n: 1@1 2@2", "the record that defines m is lost, and with it what m is");
    let entry = &test.ledger.entries()[0];
    assert_eq!(
        (entry.place.as_str(), entry.dropped[0].0.as_str(), entry.dropped[0].1),
        ("storage_wal", "corrupt_wal", 1)
    );
    assert!(test.telemetry.render().contains("daybook_metrics_wal_lost_bytes_total{reason=\"corrupt\"}"));
}

/// The value of a series' sample: a counter, hundredths, and what is no decimal.
fn value_of(series: usize, at: i64) -> f64 {
    match series % 3 {
        0 => at as f64 * 1_000_003.0,
        1 => (at * 37) as f64 / 100.0,
        _ => (at as f64).sqrt(),
    }
}

#[test]
fn rows_that_are_told_from_others_come_back_after_a_crash() {
    let mut test = TestStore::new();
    let names: Vec<String> = (0..6).map(|series| format!("m series={series}")).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, names) = (test.store(), &names);
            // All threads write to all series, so that bases are claimed and used across them.
            scope.spawn(move || {
                for at in (0..400).filter(|at| at % 4 == thread) {
                    let mut batch = storage_api::MetricBatch::default();
                    for (series, name) in names.iter().enumerate() {
                        super::push(&mut batch, name, &[(at, value_of(series, at)), (at + 1000, at as f64)]);
                    }
                    storage_api::MetricAppender::append(store, &batch).unwrap();
                }
            });
        }
    });
    for step in ["live", "replayed", "replayed again"] {
        let (series, _) = test.read(&[], MillisRange::ALL);
        assert_eq!(series.len(), names.len());
        for (number, one) in series.iter().enumerate() {
            assert_eq!(one.values.len(), 800, "{step}");
            let expected = |at: i64| if at < 1000 { value_of(number, at) } else { (at - 1000) as f64 };
            let is_right = |(at, value): (&i64, &f64)| value.to_bits() == expected(*at).to_bits();
            assert!(one.timestamps_ms.iter().zip(&one.values).all(is_right), "{step}");
        }
        test.reopen();
    }
}

#[test]
fn any_damage_to_the_wal_is_counted_and_never_a_wrong_answer() {
    let mut test = TestStore::new();
    let records = 100;
    for at in 0..records {
        let mut batch = storage_api::MetricBatch::default();
        for series in ["m series=0", "m series=1", "m series=2"] {
            super::push(&mut batch, series, &[(at, value_of(usize::from(series.as_bytes()[9] - b'0'), at))]);
        }
        storage_api::MetricAppender::append(test.store(), &batch).unwrap();
    }
    test.store = None;
    let path = test.wal_dir().join(files_in(&test.wal_dir()).first().unwrap());
    let content = fs::read(&path).unwrap();
    for place in 1..40 {
        let mut bytes = content.clone();
        bytes[content.len() * place / 41] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        test.reopen();
        let (series, _) = test.read(&[], MillisRange::ALL);
        let mut read = 0;
        for one in &series {
            let number = one.labels.get("series").unwrap().parse().unwrap();
            read += one.values.len() as u64;
            for (at, value) in one.timestamps_ms.iter().zip(&one.values) {
                assert_eq!(value.to_bits(), value_of(number, *at).to_bits(), "place {place}");
            }
        }
        let counted: u64 = test.ledger.entries().iter().flat_map(|entry| &entry.dropped).map(|dropped| dropped.1).sum();
        // The record itself is damaged; how many samples it had cannot be known.
        assert_eq!(read + counted, 3 * (records as u64 - 1), "place {place}");
        if bytes[..content.len() / 41 * 2] == content[..content.len() / 41 * 2] {
            assert!(counted <= 3 * 32, "place {place}: {counted} more are lost");
        }
        test.store = None;
    }
}

#[test]
fn damaged_metadata_is_no_reason_not_to_start() {
    let mut test = TestStore::with(Options::default());
    let metadata = vec![model::MetricMetadata { name: "a".to_owned(), ..Default::default() }];
    let batch = super::metadata_batch(metadata);
    storage_api::MetricAppender::append(test.store(), &batch).unwrap();
    test.store().flush().unwrap();
    test.store = None;
    let path = test.blocks_dir().join("metadata");
    let content = fs::read(&path).unwrap();
    for at in 0..content.len() {
        let mut bytes = content.clone();
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        test.reopen();
        assert!(test.store().metadata(None).unwrap().is_empty(), "byte {at}");
        assert!(test.metric("daybook_metrics_corruptions_total 1"));
    }
}
