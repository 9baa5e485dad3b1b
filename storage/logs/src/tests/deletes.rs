//! Deletes: what is deleted is seen by nobody, at once, for good, and is gone from disk in the end; all else stays.

use std::fs;

use ::model::{Labels, LogRecord, Matcher, TimeRange, Timestamp};
use storage_api::{
    LogAdmin, LogAppender, LogDelete, LogDeleteRequest, LogQuerier, LogRows, LogSelect, LogTallySelect, QueryContext,
    RowTest, Undelete,
};

use super::*;

/// Passes lines that hold a text.
#[derive(Debug)]
pub(super) struct Holds(pub(super) String);

impl RowTest for Holds {
    fn passing(&self, _: &Labels, rows: &LogRows) -> Vec<usize> {
        (0..rows.len()).filter(|i| rows.lines.get(*i).contains(&self.0)).collect()
    }
}

pub(super) fn delete(store: &LogStore, range: TimeRange, matchers: Vec<Matcher>, text: &str) -> LogDeleteRequest {
    try_delete(store, range, matchers, text).unwrap()
}

pub(super) fn try_delete(
    store: &LogStore,
    range: TimeRange,
    matchers: Vec<Matcher>,
    text: &str,
) -> storage_api::Result<LogDeleteRequest> {
    let needles = if text.is_empty() { Vec::new() } else { vec![Needle::Line(text.to_owned())] };
    let select = LogSelect { matchers, range, needles, with_metadata: false, without_lines: text.is_empty() };
    let test = (!text.is_empty()).then(|| Arc::new(Holds(text.to_owned())) as _);
    let delete = LogDelete { query: format!("{{}} |= {text:?}"), select, test };
    store.delete(&delete, &QueryContext::default())
}

fn numbered(app: &str, numbers: std::ops::Range<i64>) -> LogBatch {
    let line = |i: i64| LogRecord {
        severity_number: 9,
        ..record(i, &format!("line {i}{}", if i % 3 == 0 { " x3" } else { "" }))
    };
    batch(app, numbers.map(line).collect())
}

/// Returns how many records the counts beside the blocks, the tally and the streams tell.
fn counted(store: &LogStore) -> (u64, u64, usize) {
    let context = QueryContext::default();
    let counts = store.counts(&[], TimeRange::ALL, None, &context).unwrap();
    let select = LogTallySelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        fields: Vec::new(),
        cuts: vec![Timestamp(i64::MAX)],
        needles: Vec::new(),
    };
    let tallies = store.tally(&select, &context).unwrap();
    let of_tallies: u64 = tallies.tallies.iter().flat_map(|tally| &tally.records).map(|(_, records)| records).sum();
    let of_parts: usize = tallies.parts.iter().map(|part| part.read(&context).unwrap().len()).sum();
    let streams = store.streams(&[], TimeRange::ALL, &context).unwrap().len();
    (counts.iter().map(|count| count.records).sum(), of_tallies + of_parts as u64, streams)
}

/// Says whether any file of a block holds the text; rows are compressed, so it is looked for in what they decode to.
fn is_on_disk(store: &LogStore, text: &str) -> bool {
    let state = store.state.read().clone();
    state.blocks.iter().any(|block| {
        let rows = u32::try_from(block.meta().rows).unwrap();
        let columns = block.read(0..rows, crate::block::Detail::All).unwrap();
        let columns = columns.open().unwrap_or_else(|error| panic!("{}", error.0));
        (0..rows as usize).any(|i| columns.row(i).body.contains(text))
    })
}

#[test]
fn deleted_lines_are_out_of_sight_at_once_and_off_the_disk_after_cleaning() {
    let fixture = Fixture::new();
    let telemetry = Telemetry::new();
    let store = fixture.open_with(&telemetry);
    store.append(numbered("a", 1..100)).unwrap();
    store.flush().unwrap();
    store.append(numbered("a", 100..120)).unwrap();
    store.append(numbered("b", 1..10)).unwrap();
    let a = || vec![Matcher::equal("service_name", "a")];
    let range = TimeRange::new(Timestamp(10), Timestamp(110));
    let request = delete(&store, range, a(), "x3");
    let meant: Vec<i64> = (10..110).filter(|i| i % 3 == 0).collect();
    assert_eq!((request.records, request.blocks, request.blocks_left), (meant.len() as u64, 2, 2));
    let left = || {
        let of_a = read(&store, TimeRange::ALL, a(), "").into_iter().map(|(_, at, _)| at).collect::<Vec<_>>();
        assert_eq!(of_a, (1..120).filter(|i| !meant.contains(i)).collect::<Vec<_>>());
        assert_eq!(read(&store, TimeRange::ALL, vec![Matcher::equal("service_name", "b")], "").len(), 9);
        let all = 119 - meant.len() as u64 + 9;
        assert_eq!(counted(&store), (all, all, 2));
    };
    left();
    let dropped = r#"daybook_dropped_records_total{place="storage_delete",reason="deleted",signal="logs"}"#;
    let hidden = metric(&telemetry, "daybook_logs_hidden_records");
    assert_eq!(hidden as u64, meant.len() as u64);
    let shown = telemetry.render();
    assert!(shown.contains("storage_delete"), "{dropped}: {shown}");
    assert!(is_on_disk(&store, "line 30 x3"));
    store.clean_deletes().unwrap();
    left();
    assert!(!is_on_disk(&store, "line 30 x3") && is_on_disk(&store, "line 31") && is_on_disk(&store, "line 111 x3"));
    assert_eq!(metric(&telemetry, "daybook_logs_hidden_records") as u64, 0);
    assert_eq!(metric(&telemetry, "daybook_logs_deleted_records_total") as u64, meant.len() as u64);
    let told = store.deletes();
    assert_eq!((told.len(), told[0].blocks_left, &told[0].id), (1, 0, &request.id));
    assert_eq!((told[0].start, told[0].end), (Timestamp(10), Timestamp(109)));
    assert_eq!(store.undelete(&request.id, true).unwrap(), Undelete::Processed);
    drop(store);
    let names: Vec<String> =
        fs::read_dir(fixture.blocks_dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 3, "two blocks and the list: {names:?}");
}

#[test]
fn a_delete_holds_over_a_crash_and_is_of_no_later_line() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(numbered("a", 1..50)).unwrap();
    assert_eq!(delete(&store, TimeRange::ALL, Vec::new(), "").records, 49);
    assert_eq!((lines(&store).len(), counted(&store)), (0, (0, 0, 0)));
    drop(store);
    let store = fixture.open();
    assert_eq!((lines(&store).len(), store.deletes().len()), (0, 1));
    // The very same batch again is no retry any more.
    store.append(numbered("a", 1..50)).unwrap();
    assert_eq!((lines(&store).len(), counted(&store)), (49, (49, 49, 1)));
    store.flush().unwrap();
    while store.compact_once().unwrap() {}
    store.clean_deletes().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(counted(&store), (49, 49, 1));
}

#[test]
fn a_retry_of_what_was_not_deleted_is_stored_once_whatever_else_was() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    // Stored, but the answer got lost; then lines of another time are deleted.
    store.append(numbered("a", 100..120)).unwrap();
    store.append(numbered("b", 1..10)).unwrap();
    store.append(numbered("other", 1..6)).unwrap();
    let b = || vec![Matcher::equal("service_name", "b")];
    assert_eq!(delete(&store, TimeRange::new(Timestamp(3), Timestamp(7)), b(), "").records, 4);
    store.append(numbered("other", 1..6)).unwrap();
    assert_eq!(delete(&store, TimeRange::ALL, vec![Matcher::equal("service_name", "other")], "").records, 5);
    for step in ["at once", "after a crash", "after a flush and a crash"] {
        store.append(numbered("a", 100..120)).unwrap();
        assert_eq!(lines(&store).len(), 20 + 5, "{step}");
        if step == "after a crash" {
            store.flush().unwrap();
        }
        drop(store);
        store = fixture.open();
    }
    store.append(numbered("b", 1..10)).unwrap();
    assert_eq!(lines(&store).len(), 20 + 5 + 9, "a batch of which something was deleted is a new one");
    // It is in the log behind its first time; with the head empty, nothing was cut.
    drop(store);
    store = fixture.open();
    assert_eq!(lines(&store).len(), 20 + 5 + 9);
    store.flush().unwrap();
    delete(&store, TimeRange::new(Timestamp(1), Timestamp(50)), Vec::new(), "");
    store.append(numbered("c", 200..203)).unwrap();
    store.append(numbered("b", 1..10)).unwrap();
    drop(store);
    store = fixture.open();
    assert_eq!(lines(&store).len(), 20 + 9 + 3);
    store.append(numbered("b", 1..10)).unwrap();
    store.append(numbered("a", 100..120)).unwrap();
    assert_eq!(lines(&store).len(), 20 + 9 + 3, "each of them was stored once since");
}

#[test]
fn a_delete_that_fails_forgets_no_batch() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(numbered("a", 1..10)).unwrap();
    fixture.options.wal_faults.fill_disk_after(10);
    assert!(try_delete(&store, TimeRange::ALL, Vec::new(), "").is_err());
    fixture.options.wal_faults.fill_disk_after(u64::MAX);
    store.append(numbered("a", 1..10)).unwrap();
    assert_eq!(lines(&store).len(), 9);
}

#[test]
fn what_retention_hides_is_deleted_as_well() {
    let mut fixture = Fixture::new();
    fixture.options.retention = Some(std::time::Duration::from_secs(100));
    let store = fixture.open();
    store.append(batch("a", vec![record(NOW - 90_000_000_000, "old"), record(NOW, "new")])).unwrap();
    fixture.clock.advance(std::time::Duration::from_secs(50));
    assert_eq!(delete(&store, TimeRange::ALL, Vec::new(), "").records, 2);
    drop(store);
    fixture.options.retention = None;
    assert_eq!(lines(&fixture.open()), Vec::<String>::new(), "a longer retention shows it no more");
}

#[test]
fn a_store_of_which_all_was_deleted_starts_with_greater_numbers_and_an_empty_log() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for i in 0..3 {
        store.append(numbered("a", i * 10 + 1..i * 10 + 5)).unwrap();
        store.flush().unwrap();
    }
    delete(&store, TimeRange::ALL, Vec::new(), "");
    store.clean_deletes().unwrap();
    assert_eq!(store.stats().blocks, 0);
    drop(store);
    let store = fixture.open();
    assert_eq!(lines(&store), Vec::<String>::new());
    store.append(numbered("a", 1..5)).unwrap();
    store.flush().unwrap();
    assert_eq!(store.state.read().blocks[0].meta().sequence.first, 4);
    drop(store);
    assert_eq!(lines(&fixture.open()).len(), 4);
}

#[test]
fn a_merge_leaves_out_what_was_deleted() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for i in 0..4 {
        store.append(numbered("a", i * 10 + 1..i * 10 + 10)).unwrap();
        store.flush().unwrap();
    }
    delete(&store, TimeRange::new(Timestamp(5), Timestamp(16)), Vec::new(), "");
    assert!(store.compact_once().unwrap());
    let expected = 36 - 11 + 1;
    assert_eq!(
        (store.stats().blocks, store.stats().block_records, lines(&store).len()),
        (1, expected, expected as usize)
    );
    assert_eq!(store.deletes()[0].blocks_left, 0);
    drop(store);
    assert_eq!(lines(&fixture.open()).len(), expected as usize);
}

#[test]
fn a_delete_can_be_taken_back_as_long_as_its_rows_are_there() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(numbered("a", 1..50)).unwrap();
    store.flush().unwrap();
    store.append(numbered("a", 50..100)).unwrap();
    let (even, all) =
        (delete(&store, TimeRange::ALL, Vec::new(), "x3"), delete(&store, TimeRange::ALL, Vec::new(), ""));
    assert_eq!((even.records, all.records), (33, 66), "what is deleted is not deleted again");
    assert_eq!(store.undelete("00000000", false).unwrap(), Undelete::NotFound);
    assert!(!store.compact_once().unwrap(), "a young delete waits");
    assert_eq!(store.undelete(&all.id, false).unwrap(), Undelete::Done(66));
    assert_eq!((lines(&store).len(), counted(&store).0), (66, 66));
    fixture.clock.advance(std::time::Duration::from_secs(301));
    assert!(store.compact_once().unwrap(), "an old one is cleaned up by itself");
    assert_eq!(store.undelete(&even.id, false).unwrap(), Undelete::PartlyProcessed);
    assert_eq!(store.deletes()[0].blocks_left, 1);
    let back = store.undelete(&even.id, true).unwrap();
    assert!(matches!(back, Undelete::Done(1..33)), "{back:?}");
    drop(store);
    assert!(fixture.open().deletes().is_empty());
}

#[test]
fn a_damaged_list_is_set_aside_and_told() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(numbered("a", 1..5)).unwrap();
    delete(&store, TimeRange::ALL, Vec::new(), "");
    drop(store);
    let path = fixture.blocks_dir().join("deletes.idx");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut found = Vec::new();
    crate::verify(&fixture.blocks_dir(), &fixture.dir.path().join("wal"), &mut |one| found.push(one)).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let store = fixture.open();
    let context = QueryContext::default();
    assert_eq!(store.streams(&[], TimeRange::ALL, &context).unwrap().len(), 1);
    assert_eq!(context.take_warnings().len(), 1);
}

#[test]
fn a_copy_of_the_store_has_its_deletes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(numbered("a", 1..50)).unwrap();
    delete(&store, TimeRange::ALL, Vec::new(), "x3");
    let copy = tempfile::tempdir().unwrap();
    let logs = copy.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let mut link = |path: &Path| {
        let to = logs.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(path, &to);
        } else {
            fs::copy(path, &to).unwrap();
        }
        Ok(())
    };
    store.each_file(&mut link).unwrap();
    let copied = open_at(copy.path(), Options::default(), &fixture.clock, &Telemetry::new()).unwrap();
    assert_eq!((lines(&copied), copied.deletes()), (lines(&store), store.deletes()));
    assert_eq!(lines(&copied).len(), 33);
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
