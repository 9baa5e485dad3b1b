//! Numbers of rows against the rows themselves.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage_api::{LogAppender, LogPart, LogTallySelect, Needle, RowSelect};

use super::*;

const SECOND: i64 = 1_000_000_000;

/// By stream, severity number and text, and cut.
type Numbers = BTreeMap<(String, String, String, usize), u64>;

fn of_parts(found: &mut Numbers, parts: &[Box<dyn LogPart>], cuts: &[Timestamp]) {
    let context = QueryContext::default();
    for part in parts {
        let rows = part.read(&context).unwrap();
        for (i, at) in rows.timestamps.iter().enumerate() {
            let value = |name: &str| {
                let pair = rows.metadata.get(i).iter().find(|(have, _)| have.as_ref() == name);
                pair.map_or_else(String::new, |(_, value)| value.to_string())
            };
            let cut = cuts.partition_point(|cut| cut < at);
            if cut < cuts.len() {
                let key = (part.stream().to_string(), value("severity_number"), value("severity_text"), cut);
                *found.entry(key).or_default() += 1;
            }
        }
    }
}

/// Compares what is counted with the rows; returns how many of them had to be looked at.
fn check(store: &LogStore, range: TimeRange, cuts: &[Timestamp], fields: &[&str]) -> u64 {
    let context = QueryContext::default();
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    let select = LogTallySelect { matchers: Vec::new(), range, fields, cuts: cuts.to_vec(), needles: Vec::new() };
    let tallies = store.tally(&select, &context).unwrap();
    let mut counted = Numbers::new();
    for tally in &tallies.tallies {
        for (cut, records) in &tally.records {
            let number = if tally.severity_number == 0 { String::new() } else { tally.severity_number.to_string() };
            let key = (tally.stream.to_string(), number, tally.severity_text.to_string(), *cut);
            *counted.entry(key).or_default() += records;
        }
    }
    of_parts(&mut counted, &tallies.parts, cuts);
    let all = LogSelect { matchers: vec![], range, needles: vec![], with_metadata: true, without_lines: true };
    let mut expected = Numbers::new();
    of_parts(&mut expected, &store.select(&all, &context).unwrap(), cuts);
    assert_eq!(counted, expected);
    assert_eq!(context.take_warnings(), Vec::<String>::new());
    tallies.parts.iter().map(|part| part.rows_max()).sum()
}

fn with_severity(at: i64, which: u8) -> LogRecord {
    let (severity_number, text) = [(0, ""), (9, "INFO"), (17, "ERROR"), (17, "Error"), (9, "")][usize::from(which % 5)];
    LogRecord { severity_number, severity_text: text.to_owned(), ..record(at, "line") }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn numbers_are_those_of_the_rows(
        batches in proptest::collection::vec(
            (0_u8..3, proptest::collection::vec((-40_i64..400, any::<u8>(), 0_u8..30), 1..60), any::<bool>()),
            1..12,
        ),
        bounds in (-60_i64..420, 0_i64..500),
        cuts in proptest::collection::btree_set((-50_i64..420, -1_i64..2), 1..12),
    ) {
        let fixture = Fixture::new();
        let store = fixture.open();
        for (app, rows, flush) in batches {
            let records = rows.into_iter().map(|(at, severity, attribute)| {
                // Many lie at the first nanosecond of a minute, where windows end.
                let at = if at % 3 == 0 { at / 60 * 60 * SECOND } else { at * SECOND + 7 };
                let mut record = with_severity(at, severity);
                match attribute {
                    0 => record.attributes.push(("severity.text".to_owned(), Value::from("hidden"))),
                    1 => record.attributes.push(("other".to_owned(), Value::Int(1))),
                    2 => record.attributes.push(("a".to_owned(), Value::Map(vec![("b".to_owned(), Value::Int(1))]))),
                    _ => {}
                }
                record
            });
            store.append(batch(&format!("app{app}"), records.collect())).unwrap();
            if flush {
                store.flush().unwrap();
                while store.compact_once().unwrap() {}
            }
        }
        let range = TimeRange::new(Timestamp(bounds.0 * SECOND), Timestamp((bounds.0 + bounds.1) * SECOND));
        let cuts: Vec<Timestamp> = cuts.into_iter().map(|(at, by)| Timestamp(at / 10 * 10 * SECOND + by)).collect();
        let cuts: Vec<Timestamp> = cuts.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        for fields in [&["severity_text", "severity_number"][..], &["service_name", "severity_text", "a_b"]] {
            check(&store, range, &cuts, fields);
            check(&store, TimeRange::ALL, &cuts, fields);
        }
    }
}

#[test]
fn rows_are_looked_at_only_where_a_field_asked_for_may_be() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let plain = |app: &str| batch(app, (0..3000).map(|i| with_severity(i * SECOND, 1)).collect());
    store.append(plain("plain")).unwrap();
    let hidden = LogRecord { attributes: vec![("severity_text".to_owned(), Value::from("x"))], ..with_severity(5, 1) };
    store.append(batch("hides", vec![hidden, with_severity(6, 1)])).unwrap();
    let cuts: Vec<Timestamp> = (0..60).map(|i| Timestamp(i * 60 * SECOND)).collect();
    let all = TimeRange::ALL;
    for is_flushed in [false, true] {
        if is_flushed {
            store.flush().unwrap();
        }
        assert_eq!(check(&store, all, &cuts, &["service_name", "severity_text"]), 2);
        assert_eq!(check(&store, all, &cuts, &["severity_text", "detected_level"]), 2);
        assert_eq!(check(&store, all, &cuts, &["host"]), 3002, "resource attributes are fields");
        assert_eq!(check(&store, all, &cuts, &["trace_id"]), 3002);
    }
    // Whole minutes need no row, and windows that end within one only the pages that hold it.
    let context = QueryContext::default();
    for (shift, rows) in [(0, 0), (30 * SECOND, 1024)] {
        let cuts = vec![Timestamp(600 * SECOND + shift), Timestamp(i64::MAX)];
        check(&store, all, &cuts, &["severity_text"]);
        check(&store, TimeRange::new(Timestamp(SECOND), Timestamp(2999 * SECOND)), &cuts, &["severity_text"]);
        let before = context.used().1;
        let fields = vec!["severity_text".to_owned()];
        let matchers = vec![Matcher::equal("service_name", "plain")];
        store.tally(&LogTallySelect { matchers, range: all, fields, cuts, needles: Vec::new() }, &context).unwrap();
        assert!(context.used().1 - before <= rows * 16, "{} bytes", context.used().1 - before);
    }
}

#[test]
fn pages_without_the_needles_are_not_given() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let of_user = |i: i64| {
        let attributes = vec![("user".to_owned(), Value::from(format!("user-{}", 100_000 + i).as_str()))];
        LogRecord { attributes, ..with_severity(i * SECOND, 1) }
    };
    store.append(batch("shop", (0..5000).map(of_user).collect())).unwrap();
    store.flush().unwrap();
    let needles = vec![Needle::Field { name: "user".to_owned(), value: "user-102222".to_owned() }];
    let select = LogTallySelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        fields: vec!["user".to_owned()],
        cuts: vec![Timestamp(i64::MAX)],
        needles,
    };
    let found = store.tally(&select, &QueryContext::default()).unwrap();
    let context = QueryContext::default();
    let rows: Vec<_> = found.parts.iter().map(|part| part.read_rows(&RowSelect::ALL, &context).unwrap()).collect();
    let times: Vec<i64> = rows.iter().flat_map(|rows| &rows.timestamps).map(|at| at.0).collect();
    assert!(times.contains(&(2222 * SECOND)), "the row itself");
    assert!(times.len() <= 2048, "{} rows", times.len());
}
