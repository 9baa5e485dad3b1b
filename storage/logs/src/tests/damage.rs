//! Flipped bytes and cut files: an error, a block set aside, or a right answer; never a panic, never a wrong one.

use std::fs;
use std::path::PathBuf;

use model::TimeRange;
use storage_api::{LogAppender, LogQuerier, LogSelect, QueryContext};

use super::*;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Opens and reads; says whether the answer came whole, and checks that a part of it is told to be one.
fn open_and_read(fixture: &Fixture, expected: &[String], what: &str) -> bool {
    let store = fixture.open();
    let context = QueryContext::default();
    let needles = vec![Needle::Line("needle".to_owned())];
    let select =
        LogSelect { matchers: Vec::new(), range: TimeRange::ALL, needles, with_metadata: true, without_lines: false };
    let mut found = Vec::new();
    let mut failed = false;
    for part in store.select(&select, &context).unwrap() {
        match part.read(&context) {
            Ok(rows) => found.extend((0..rows.len()).map(|i| rows.lines.get(i).to_owned())),
            Err(error) => {
                assert!(matches!(error, storage_api::Error::Corrupt { .. }), "{what}: {error}");
                failed = true;
            }
        }
    }
    let counted = store.counts(&[], TimeRange::ALL, None, &context);
    let is_warned = !context.take_warnings().is_empty();
    if let (Ok(counts), false) = (&counted, is_warned) {
        assert_eq!(counts.iter().map(|count| count.records).sum::<u64>(), expected.len() as u64, "{what}");
    }
    found.retain(|line| line.contains("needle"));
    if found == expected {
        return true;
    }
    assert!(failed || is_warned, "{what}: an answer is not whole and nobody says so: {} rows", found.len());
    false
}

#[test]
fn every_damaged_file_is_seen() {
    damaged_files_are_seen(Fixture::new());
}

/// Indexes are read in parts then.
#[test]
fn every_damaged_file_is_seen_without_memory_to_keep_it() {
    let mut fixture = Fixture::new();
    fixture.options.cache_bytes_max = 0;
    damaged_files_are_seen(fixture);
}

fn damaged_files_are_seen(fixture: Fixture) {
    let expected: Vec<String> = (0..50).map(|i| format!("line {i} with a needle{i}")).collect();
    let store = fixture.open();
    store.append(batch("a", (1..).zip(&expected).map(|(i, line)| record(i, line)).collect())).unwrap();
    store.flush().unwrap();
    drop(store);
    let block = fixture.blocks_dir().join("000000000001-000000000001");
    let aside = fixture.blocks_dir().join("damaged-000000000001-000000000001");
    let (mut whole, mut seen) = (0, 0);
    for path in files(&block) {
        let bytes = fs::read(&path).unwrap();
        // Every byte of what is small, and of all where every test is asked for: that takes most of a minute.
        let is_whole = bytes.len() <= 128 || std::env::var_os("DAYBOOK_TEST_ALL").is_some();
        let step = if is_whole { 1 } else { bytes.len() / 28 };
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x55;
            for damaged in [flipped, bytes[..at].to_vec()] {
                fs::write(&path, &damaged).unwrap();
                let what = format!("{} at {at} of {}", path.display(), bytes.len());
                if open_and_read(&fixture, &expected, &what) {
                    whole += 1
                } else {
                    seen += 1
                }
                if aside.exists() {
                    fs::rename(&aside, &block).unwrap();
                }
                fs::write(&path, &bytes).unwrap();
            }
        }
        fs::remove_file(&path).unwrap();
        open_and_read(&fixture, &expected, &format!("{} is missing", path.display()));
        if aside.exists() {
            fs::rename(&aside, &block).unwrap();
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(whole > 50 && seen > 50, "{whole} whole answers, {seen} told to be in part");
    assert!(open_and_read(&fixture, &expected, "mended"));
}

#[test]
fn rows_that_are_damaged_while_the_store_is_open_are_left_out_with_a_warning() {
    let fixture = Fixture::new();
    let telemetry = Telemetry::new();
    let store = fixture.open_with(&telemetry);
    for i in 0..3 {
        store.append(batch("a", (0..40).map(|j| record(i * 100 + j, &format!("{i} {j}"))).collect())).unwrap();
        store.flush().unwrap();
    }
    store.append(batch("a", vec![record(1000, "in the head")])).unwrap();
    let dir = fixture.blocks_dir().join("000000000002-000000000002");
    for name in ["rows.parquet", "counts.idx"] {
        let mut bytes = fs::read(dir.join(name)).unwrap();
        let at = if name == "counts.idx" { bytes.len() / 2 } else { 40 };
        bytes[at] ^= 1;
        fs::write(dir.join(name), bytes).unwrap();
    }
    let corrupt = |reason: &str| {
        let name = format!("daybook_logs_corrupt_blocks_total{{reason=\"{reason}\"}}");
        metric(&telemetry, &name)
    };
    assert_eq!(corrupt("rows"), 0.0);
    let select = LogSelect {
        matchers: vec![],
        range: TimeRange::ALL,
        needles: vec![],
        with_metadata: true,
        without_lines: false,
    };
    for _ in 0..3 {
        let context = QueryContext::default();
        let mut found = 0;
        for part in store.select(&select, &context).unwrap() {
            found += part.read(&context).unwrap().len();
        }
        let counts = store.counts(&[], TimeRange::ALL, None, &context).unwrap();
        assert_eq!((found, counts.iter().map(|count| count.records).sum::<u64>()), (81, 81), "all but the block's 40");
        let warnings = context.take_warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("000000000002-000000000002"), "{warnings:?}");
    }
    assert_eq!((corrupt("rows"), corrupt("counts"), corrupt("files")), (1.0, 1.0, 0.0), "once, however often asked");
}

#[test]
fn a_damaged_block_is_left_alone_by_compaction() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for i in 0..4 {
        store.append(batch("a", (0..40).map(|j| record(i * 100 + j, &format!("{i} {j}"))).collect())).unwrap();
        store.flush().unwrap();
    }
    let rows = fixture.blocks_dir().join("000000000002-000000000002/rows.parquet");
    let mut bytes = fs::read(&rows).unwrap();
    bytes[40] ^= 1;
    fs::write(&rows, bytes).unwrap();
    assert!(matches!(store.compact_once(), Err(storage_api::Error::Corrupt { .. })));
    assert!(!store.compact_once().unwrap(), "it does not try again and again");
    assert_eq!(store.stats().blocks, 4);
}

#[test]
fn what_a_crash_leaves_of_a_block_that_was_merged_is_removed_and_no_damage() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for i in 0..4 {
        store.append(batch("a", (1..40).map(|j| record(i * 100 + j, &format!("{i} {j}"))).collect())).unwrap();
        store.flush().unwrap();
    }
    let old = fixture.blocks_dir().join("000000000002-000000000002");
    let rows = fs::read(old.join("rows.parquet")).unwrap();
    let expected = lines(&store);
    assert!(store.compact_once().unwrap() && !old.exists());
    drop(store);
    // Its folder is half removed; a later one got its other name.
    fs::create_dir(&old).unwrap();
    fs::write(old.join("rows.parquet"), rows).unwrap();
    fs::create_dir(fixture.blocks_dir().join("tmp-removed-000000000003-000000000003")).unwrap();
    let store = fixture.open();
    assert_eq!((store.stats().blocks, store.stats().damaged_blocks, lines(&store)), (1, 0, expected));
    assert_eq!(fs::read_dir(fixture.blocks_dir()).unwrap().count(), 1);
}

#[test]
fn deletes_of_a_block_that_is_set_aside_hold_when_it_is_mended() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for i in 0..2 {
        store.append(batch("a", (1..10).map(|j| record(i * 100 + j, &format!("{i} {j}"))).collect())).unwrap();
        store.flush().unwrap();
    }
    assert_eq!(super::deletes::delete(&store, TimeRange::ALL, Vec::new(), " 3").records, 2);
    drop(store);
    let block = fixture.blocks_dir().join("000000000001-000000000001");
    let meta = fs::read(block.join("meta.json")).unwrap();
    fs::write(block.join("meta.json"), b"{}").unwrap();
    let store = fixture.open();
    assert_eq!(store.stats().damaged_blocks, 1);
    let context = QueryContext::default();
    let all = LogSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        needles: vec![Needle::Line("nowhere".to_owned())],
        with_metadata: false,
        without_lines: false,
    };
    let nothing = storage_api::LogDelete { query: "{}".to_owned(), select: all, test: None };
    storage_api::LogAdmin::delete(&store, &nothing, &context).unwrap();
    assert!(context.take_warnings().iter().any(|warning| warning.contains("damaged-000000000001")));
    storage_api::LogAdmin::clean_deletes(&store).unwrap();
    super::deletes::delete(&store, TimeRange::ALL, Vec::new(), " 4");
    storage_api::LogAdmin::clean_deletes(&store).unwrap();
    drop(store);
    let aside = fixture.blocks_dir().join("damaged-000000000001-000000000001");
    fs::write(aside.join("meta.json"), meta).unwrap();
    fs::rename(&aside, &block).unwrap();
    let found = lines(&fixture.open());
    // What came while it was away is not in the second delete, and what was deleted before stays so.
    assert!(!found.iter().any(|line| line.ends_with(" 3")), "{found:?}");
    assert_eq!(found.len(), 8 + 7);
}
