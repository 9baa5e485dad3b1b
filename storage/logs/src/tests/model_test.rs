//! Random work on a store and on a list.

use std::collections::BTreeMap;

use model::{Matcher, TimeRange, Timestamp};
use proptest::prelude::*;
use storage_api::{LogAdmin, LogAppender, LogQuerier, QueryContext, Undelete};

use super::*;
use crate::fault::Faults;

#[derive(Debug, Clone)]
enum Action {
    /// Stream, records as (time, word), and whether the batch is sent twice.
    Push(u8, Vec<(i64, u8)>, bool),
    Flush,
    Compact,
    /// Opens again without closing, as after `kill -9`.
    Crash,
    Read(i64, i64, u8, bool),
    /// Times, a word or all, and whether of one stream.
    Delete(i64, i64, Option<u8>, bool),
    Clean,
    /// Takes the last delete back, if it can be.
    Undelete,
    /// The next one of these meets a disk that fails after so many steps, for good or once: flush, merge, clean, delete.
    Failing(u8, u8, bool),
}

fn action() -> impl Strategy<Value = Action> {
    let rows = proptest::collection::vec((-50_i64..200, any::<u8>()), 1..12);
    prop_oneof![
        6 => (0_u8..4, rows, any::<bool>()).prop_map(|(app, rows, twice)| Action::Push(app, rows, twice)),
        3 => Just(Action::Flush),
        2 => Just(Action::Compact),
        1 => Just(Action::Crash),
        3 => (-60_i64..210, 0_i64..200, any::<u8>(), any::<bool>())
            .prop_map(|(start, length, word, one)| Action::Read(start, length, word, one)),
        1 => (-60_i64..210, 0_i64..100, proptest::option::of(any::<u8>()), any::<bool>())
            .prop_map(|(start, length, word, one)| Action::Delete(start, length, word, one)),
        1 => Just(Action::Clean),
        1 => Just(Action::Undelete),
        2 => (0_u8..4, 0_u8..45, any::<bool>()).prop_map(|(which, left, stays)| Action::Failing(which, left, stays)),
    ]
}

/// Words that are parts of each other, ids, and letters of other scripts.
fn word(i: u8) -> &'static str {
    const WORDS: [&str; 8] =
        ["quokka", "quok", "ORD-7712", "결제오류가", "결제", "connection reset", "7f3a9c0e51d24b86", " a.b "];
    WORDS[usize::from(i) % WORDS.len()]
}

/// Makes some lines so long that a batch has several sections, compressed ones and plain ones.
fn padding(which: u8, i: usize) -> String {
    match which {
        0..160 => String::new(),
        160..192 => " ".repeat(usize::from(which) * 8),
        192.. => noise(i64::try_from(i).unwrap(), usize::from(which) * 24),
    }
}

type Rows = Vec<(String, i64, String)>;

fn check(store: &LogStore, model: &Rows, range: TimeRange, matchers: Vec<Matcher>, needle: &str) {
    let passes = |row: &&(String, i64, String)| {
        range.contains(Timestamp(row.1))
            && row.2.contains(needle)
            && matchers.iter().all(|matcher| row.0 == stream(&matcher.value).to_string())
    };
    let mut expected: Rows = model.iter().filter(passes).cloned().collect();
    expected.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    assert_eq!(read(store, range, matchers, needle), expected);
}

fn check_counts(store: &LogStore, model: &Rows) {
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (stream, _, line) in model {
        let count = expected.entry(stream.clone()).or_default();
        *count = (count.0 + 1, count.1 + line.len() as u64);
    }
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for count in store.counts(&[], TimeRange::ALL, None, &QueryContext::default()).unwrap() {
        let sum = found.entry(count.stream.to_string()).or_default();
        *sum = (sum.0 + count.records, sum.1 + count.bytes);
    }
    assert_eq!(found, expected);
    let streams = store.streams(&[], TimeRange::ALL, &QueryContext::default()).unwrap();
    assert_eq!(streams.iter().map(ToString::to_string).collect::<Vec<_>>(), expected.into_keys().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn store_and_list_agree(actions in proptest::collection::vec(action(), 1..40)) {
        let fixture = Fixture::new();
        let mut store = fixture.open();
        let mut model: Rows = Vec::new();
        // What the last delete took, as long as nothing was merged since.
        let mut taken: Option<(String, Rows)> = None;
        for (number, action) in actions.into_iter().enumerate() {
            match action {
                Action::Push(app, rows, twice) => {
                    let app = format!("app{app}");
                    let line = |(i, (_, which)): (usize, &(i64, u8))| {
                        format!("{number}.{i}{}x{}", word(*which), padding(*which, i))
                    };
                    let lines: Vec<String> = rows.iter().enumerate().map(line).collect();
                    let time = |at: i64| if at == 0 { NOW } else { at };
                    let records = || rows.iter().zip(&lines).map(|((at, _), line)| record(*at, line)).collect();
                    // Without a time of its own, a record makes its batch one that is never a retry.
                    let is_timed = rows.iter().all(|(at, _)| *at != 0);
                    for _ in 0..if twice { 2 } else { 1 } {
                        let report = store.append(batch(&app, records())).unwrap();
                        prop_assert_eq!(report.accepted, rows.len() as u64);
                    }
                    let row = |((at, _), line): (&(i64, u8), &String)| (stream(&app).to_string(), time(*at), line.clone());
                    for _ in 0..if twice && !is_timed { 2 } else { 1 } {
                        model.extend(rows.iter().zip(&lines).map(row));
                    }
                }
                Action::Flush => store.flush().unwrap(),
                Action::Compact => while store.compact_once().unwrap() {},
                Action::Crash => {
                    drop(store);
                    store = fixture.open();
                }
                Action::Delete(start, length, which, one) => {
                    let range = TimeRange::new(Timestamp(start), Timestamp(start + length));
                    let matchers = if one { vec![Matcher::equal("service_name", "app1")] } else { Vec::new() };
                    let text = which.map_or("", word);
                    let is_meant = |row: &(String, i64, String)| {
                        let of_stream = !one || row.0 == stream("app1").to_string();
                        of_stream && range.contains(Timestamp(row.1)) && row.2.contains(text)
                    };
                    let gone: Rows = model.iter().filter(|row| is_meant(row)).cloned().collect();
                    model.retain(|row| !is_meant(row));
                    let request = super::deletes::delete(&store, range, matchers, text);
                    prop_assert_eq!(request.records, gone.len() as u64);
                    check_counts(&store, &model);
                    taken = Some((request.id, gone));
                }
                Action::Undelete => if let Some((id, gone)) = taken.take() {
                    match store.undelete(&id, false).unwrap() {
                        Undelete::Done(restored) => {
                            prop_assert_eq!(restored, gone.len() as u64);
                            // Rows of one time are where they were: the list is put together anew from what is found.
                            model.extend(gone);
                            let found = read(&store, TimeRange::ALL, Vec::new(), "");
                            let (mut sorted, mut expected) = (found.clone(), model.clone());
                            sorted.sort();
                            expected.sort();
                            prop_assert_eq!(sorted, expected);
                            model = found;
                        }
                        Undelete::Processed | Undelete::PartlyProcessed => {}
                        Undelete::NotFound => prop_assert!(false, "{} is not known", id),
                    }
                    check_counts(&store, &model);
                },
                Action::Failing(which, left, stays) => {
                    Faults::fail_after(u64::from(left), stays && which != 3);
                    let result = match which {
                        0 => store.flush(),
                        1 => store.compact_once().map(drop),
                        2 => store.clean_deletes(),
                        // Of a time that no line has: whether it holds makes no difference, but to what it writes.
                        _ => super::deletes::try_delete(
                            &store, TimeRange::new(Timestamp(1000), Timestamp(2000)), Vec::new(), ""
                        ).map(drop),
                    };
                    let failed = Faults::heal();
                    prop_assert!(result.is_ok() || !failed.is_empty(), "{:?}", result);
                    check(&store, &model, TimeRange::ALL, Vec::new(), "");
                    check_counts(&store, &model);
                }
                Action::Clean => store.clean_deletes().unwrap(),
                Action::Read(start, length, which, one) => {
                    let range = TimeRange::new(Timestamp(start), Timestamp(start + length));
                    let matchers = if one { vec![Matcher::equal("service_name", "app1")] } else { Vec::new() };
                    check(&store, &model, range, matchers, word(which));
                }
            }
        }
        check(&store, &model, TimeRange::ALL, Vec::new(), "");
        check_counts(&store, &model);
        prop_assert_eq!(store.stats().damaged_blocks, 0);
    }
}
