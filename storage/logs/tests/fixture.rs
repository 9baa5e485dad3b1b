//! Files that an earlier version wrote are opened, checked, read whole, and written on.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Labels, LogRecord, Matcher, Resource, Scope, TimeRange, Timestamp, Value};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{LogAppender, LogBatch, LogGroup, LogQuerier, LogSelect, Needle, QueryContext};
use storage_logs::{LogStore, Options};

const START_NS: i64 = 1_700_000_000_000_000_000;
const EVERY_NS: i64 = 1_000_000_007;
/// Records of each stream: those in the block, and those in the log behind it.
const STREAMS: [(&str, i64, i64); 2] = [("cart", 40, 10), ("결제", 30, 5)];

/// A row as it is read: time, line, and metadata as `name=value` in the order of names.
type Row = (i64, String, Vec<String>);

/// What was written, by number of the record; one rule made all of it.
fn expected_row(i: i64) -> Row {
    let line = match i % 7 {
        0 => r#"{"a":1.5,"b":"AP8="}"#.to_owned(),
        _ => format!("order ORD-{i} of user u-{} took {}ms", i % 7, i * 3),
    };
    let (number, text) = if i % 5 == 0 { (17, "ERROR") } else { (9, "INFO") };
    let at = START_NS + i * EVERY_NS;
    let mut metadata = vec![
        "log_iostream=stdout".to_owned(),
        format!("n={i}"),
        format!("observed_timestamp={}", at + 250_000_000),
        "scope_name=lib".to_owned(),
        "scope_version=1".to_owned(),
        format!("severity_number={number}"),
        format!("severity_text={text}"),
    ];
    if i % 3 == 0 {
        metadata.push(format!("span_id={:016x}", i + 1));
        metadata.push(format!("trace_id={:032x}", i + 1));
    }
    (at, line, metadata)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(dir: &Path) -> LogStore {
    let telemetry = Telemetry::new();
    let clock = Clock::fixed(START_NS);
    let (ledger, cpu) = (Ledger::new(&telemetry), CpuPool::new(1).unwrap());
    LogStore::open(&dir.join("logs"), &dir.join("wal/logs"), Options::default(), clock, &telemetry, ledger, cpu)
        .unwrap()
}

fn read(store: &LogStore, service: &str, needles: Vec<Needle>) -> Vec<Row> {
    let context = QueryContext::default();
    let matchers = vec![Matcher::equal("service_name", service)];
    let select = LogSelect { matchers, range: TimeRange::ALL, needles, with_metadata: true, without_lines: false };
    let mut found = Vec::new();
    for part in store.select(&select, &context).unwrap() {
        let rows = part.read(&context).unwrap();
        for i in 0..rows.len() {
            let metadata = rows.metadata.get(i).iter().map(|(name, value)| format!("{name}={value}")).collect();
            found.push((rows.timestamps[i].0, rows.lines.get(i).to_owned(), metadata));
        }
    }
    assert_eq!(context.take_warnings(), Vec::<String>::new());
    found.sort();
    found
}

fn check(store: &LogStore, what: &str) {
    for (service, blocks, log) in STREAMS {
        let expected: Vec<Row> = (0..blocks + log).map(expected_row).collect();
        let found = read(store, service, Vec::new());
        assert_eq!(found.len(), expected.len(), "{what}: {service}");
        found.iter().zip(&expected).for_each(|(found, expected)| assert_eq!(found, expected, "{what}: {service}"));
        // Through the words, the ids and the trigrams of the block.
        for needle in ["ORD-33 of", "took 99ms", "u-4 took"] {
            let mut found = read(store, service, vec![Needle::Line(needle.to_owned())]);
            found.retain(|(_, line, _)| line.contains(needle));
            let wanted: Vec<Row> = expected.iter().filter(|(_, line, _)| line.contains(needle)).cloned().collect();
            assert_eq!(found, wanted, "{what}: {needle} in {service}");
        }
    }
}

#[test]
fn files_of_the_first_version_are_read_and_written_on() {
    read_and_write_on("v1");
}

/// Version 2: bodies are delta-encoded, the delay of observation is kept, and the log is compressed.
#[test]
fn files_of_the_second_version_are_read_and_written_on() {
    read_and_write_on("v2");
}

/// Version 3, which is written: trigrams have lists, and indexes can be read in parts.
#[test]
fn files_of_the_third_version_are_read_and_written_on() {
    read_and_write_on("v3");
}

fn read_and_write_on(version: &str) {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version);
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture, dir.path());
    let mut findings = Vec::new();
    let checked = storage_logs::verify(&dir.path().join("logs"), &dir.path().join("wal/logs"), &mut |finding| {
        findings.push(format!("{finding:?}"));
    });
    let checked = checked.unwrap();
    assert_eq!(findings, Vec::<String>::new());
    // Two of the rows are what the server wrote about itself.
    assert_eq!((checked.blocks, checked.rows), (1, 72));
    let store = open(dir.path());
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.block_records, stats.head_records, stats.damaged_blocks), (1, 72, 15, 0));
    check(&store, "opened");
    // What is new goes behind what is old, in the log and in blocks.
    let record = |i: i64| LogRecord {
        timestamp: Timestamp(START_NS - 1 - i),
        body: Value::Str(format!("new {i}")),
        ..LogRecord::default()
    };
    let group = |first: i64| LogGroup {
        stream: Labels::from_pairs([("service_name", "new")]),
        resource: Arc::new(Resource::default()),
        scope: Arc::new(Scope::default()),
        records: (first..first + 40).map(record).collect(),
    };
    store.append(LogBatch { groups: vec![group(0)] }).unwrap();
    drop(store);
    let store = open(dir.path());
    for first in [40, 80, 120] {
        store.flush().unwrap();
        check(&store, "flushed");
        store.append(LogBatch { groups: vec![group(first)] }).unwrap();
    }
    store.flush().unwrap();
    assert!(store.compact_once().unwrap(), "the old block is merged with new ones");
    assert_eq!(store.stats().blocks, 1);
    check(&store, "merged");
    assert_eq!(read(&store, "new", Vec::new()).len(), 160);
}
