//! Each step that changes what is on disk fails once: a typed error, nothing changed, and the next try works.

use std::collections::BTreeSet;

use model::{TimeRange, Timestamp};
use storage_api::{Error, LogAdmin, LogAppender, Undelete};

use super::*;
use crate::fault::Faults;

fn numbered(numbers: std::ops::Range<i64>) -> LogBatch {
    batch("a", numbers.map(|i| record(i + 1, &format!("line {i}{}", if i % 3 == 0 { " x3" } else { "" }))).collect())
}

/// Tries `work` with a failure at each of its points in turn, until it meets none; opens the store anew after every other
/// failure. Returns the names of the points.
fn at_every_point(
    fixture: &Fixture,
    store: LogStore,
    stays: bool,
    work: impl Fn(&LogStore) -> storage_api::Result<()>,
    before: &[String],
) -> (LogStore, BTreeSet<&'static str>) {
    let mut store = store;
    let mut points = BTreeSet::new();
    for left in 0.. {
        Faults::fail_after(left, stays);
        let result = work(&store);
        let failed = Faults::heal();
        let Err(error) = result else {
            assert!(left > 0, "there is a point that can fail");
            // That the list of deletes could not be shortened does no harm.
            let is_listed =
                store.deletes().iter().all(|request| request.blocks_left == 0) && !store.deletes().is_empty();
            assert!(failed.is_empty() || is_listed, "a failure after {left} points was passed over: {failed:?}");
            return (store, points);
        };
        let is_typed = if stays { matches!(error, Error::DiskFull { .. }) } else { matches!(error, Error::Io { .. }) };
        assert!(is_typed && !failed.is_empty(), "after {left}: {error:?}, {failed:?}");
        points.extend(failed.first());
        assert_eq!(lines(&store), before, "after {left} points {failed:?} failed");
        if left % 2 == 1 {
            drop(store);
            store = fixture.open();
            assert_eq!(store.stats().damaged_blocks, 0, "after {left} points {failed:?} failed");
            assert_eq!(lines(&store), before, "opened after {left} points {failed:?} failed");
        }
    }
    unreachable!("the loop ends by itself")
}

fn check(stays: bool) {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    let mut points = BTreeSet::new();
    let mut run = |store: LogStore, before: &[String], work: &dyn Fn(&LogStore) -> storage_api::Result<()>| {
        let (store, found) = at_every_point(&fixture, store, stays, work, before);
        points.extend(found);
        store
    };
    let line = |i: i64| format!("line {i}{}", if i % 3 == 0 { " x3" } else { "" });
    let mut expected: Vec<String> = Vec::new();
    for part in 0..4 {
        let numbers = part * 10..part * 10 + 10;
        store.append(numbered(numbers.clone())).unwrap();
        expected.extend(numbers.map(line));
        if part == 0 {
            store = run(store, &expected, &LogStore::flush);
        } else {
            store.flush().unwrap();
        }
        assert_eq!((lines(&store), store.head_bytes()), (expected.clone(), 0));
    }
    store = run(store, &expected, &|store| store.compact_once().map(|did| assert!(did)));
    assert_eq!((lines(&store), store.stats().blocks), (expected.clone(), 1));

    let range = TimeRange::new(Timestamp(0), Timestamp(31));
    let left: Vec<String> = (0..40).filter(|i| i % 3 != 0 || *i >= 30).map(line).collect();
    store.append(numbered(40..45)).unwrap();
    let with_head = |lines: &[String]| lines.iter().cloned().chain((40..45).map(line)).collect::<Vec<_>>();
    store = run(store, &with_head(&expected), &|store| {
        super::deletes::try_delete(store, range, Vec::new(), "x3").map(|request| assert_eq!(request.records, 10))
    });
    assert_eq!(lines(&store), with_head(&left));
    let id = |store: &LogStore| store.deletes().pop().map(|request| request.id).unwrap();
    store = run(store, &with_head(&left), &|store| {
        store.undelete(&id(store), false).map(|done| assert_eq!(done, Undelete::Done(10)))
    });
    assert_eq!(lines(&store), with_head(&expected));
    super::deletes::delete(&store, range, Vec::new(), "x3");
    store = run(store, &with_head(&left), &LogAdmin::clean_deletes);
    assert_eq!((store.stats().block_records, lines(&store)), (35, with_head(&left)));
    drop(store);
    assert_eq!(lines(&fixture.open()), with_head(&left));
    assert_eq!(Vec::from_iter(points), ["create", "fsync", "fsync of a folder", "rename", "write"]);
}

#[test]
fn a_broken_disk_changes_nothing_wherever_it_fails() {
    check(false);
}

#[test]
fn a_disk_that_is_full_changes_nothing_wherever_it_gets_full() {
    check(true);
}
