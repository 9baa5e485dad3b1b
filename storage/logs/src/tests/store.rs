//! What the store promises, one claim each.

use std::time::Duration;

use model::{LogRecord, TimeRange, Timestamp, Value};
use storage_api::{Error, LogAppender, LogQuerier, LogSelect, QueryContext};

use super::*;

#[test]
fn a_record_is_seen_as_soon_as_it_is_acknowledged_and_after_every_step() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(batch("a", vec![record(2, "two"), record(1, "one")])).unwrap();
    assert_eq!(lines(&store), ["one", "two"]);
    store.flush().unwrap();
    assert_eq!((lines(&store), store.head_bytes()), (vec!["one".to_owned(), "two".to_owned()], 0));
    drop(store);
    let store = fixture.open();
    assert_eq!(lines(&store), ["one", "two"]);
    assert_eq!(store.stats().blocks, 1);
}

#[test]
fn gauges_show_what_was_appended_before_any_flush() {
    let fixture = Fixture::new();
    let telemetry = Telemetry::new();
    let store = fixture.open_with(&telemetry);
    store.append(batch("a", vec![record(1, "one"), record(2, "two")])).unwrap();
    store.append(batch("b", vec![record(1, "one")])).unwrap();
    let gauges =
        || ["records", "streams", "bytes"].map(|name| metric(&telemetry, &format!("daybook_logs_head_{name}")));
    assert_eq!(gauges()[..2], [3.0, 2.0]);
    assert_eq!(gauges()[2] as u64, store.head_bytes());
    assert_eq!(metric(&telemetry, "daybook_logs_wal_bytes") as u64, store.stats().wal_bytes);
    store.flush().unwrap();
    assert_eq!(gauges(), [0.0, 0.0, 0.0]);
}

#[test]
fn a_retry_is_stored_once_over_flush_and_restart() {
    let fixture = Fixture::new();
    let again = || batch("a", vec![record(1, "one"), record(1, "one")]);
    let store = fixture.open();
    store.append(again()).unwrap();
    assert_eq!(store.append(again()).unwrap().accepted, 2);
    drop(store);
    let store = fixture.open();
    store.append(again()).unwrap();
    store.flush().unwrap();
    store.append(again()).unwrap();
    drop(store);
    let store = fixture.open();
    store.append(again()).unwrap();
    assert_eq!(lines(&store), ["one", "one"], "equal records of one batch are two records");
}

#[test]
fn a_batch_with_a_record_without_time_is_never_taken_for_a_retry() {
    let fixture = Fixture::new();
    let mixed = || batch("a", vec![record(1, "timed"), record(0, "untimed")]);
    let store = fixture.open();
    store.append(mixed()).unwrap();
    store.append(mixed()).unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    store.append(mixed()).unwrap();
    assert_eq!(lines(&store).len(), 6);
    drop(store);
    let store = fixture.open();
    assert_eq!(lines(&store).len(), 6, "nor at replay");
    let untimed = read(&store, TimeRange::new(Timestamp(NOW), Timestamp(i64::MAX)), Vec::new(), "untimed");
    let times: Vec<i64> = untimed.into_iter().map(|(_, at, _)| at).collect();
    assert_eq!(times, [NOW, NOW, NOW + 1_000_000_000]);
    let observed = || LogRecord { observed_timestamp: Timestamp(7), ..record(0, "observed") };
    store.append(batch("a", vec![observed()])).unwrap();
    store.append(batch("a", vec![observed()])).unwrap();
    assert_eq!(read(&store, TimeRange::ALL, Vec::new(), "observed").len(), 1, "the time it was observed is its own");
}

#[test]
fn rows_of_one_nanosecond_keep_their_order_through_compaction() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let expected: Vec<String> = (0..40).map(|i| format!("line {i}")).collect();
    for chunk in expected.chunks(4) {
        store.append(batch("a", chunk.iter().map(|line| record(5, line)).collect())).unwrap();
        store.flush().unwrap();
    }
    assert_eq!(lines(&store), expected);
    while store.compact_once().unwrap() {}
    assert!(store.stats().blocks < 4, "{:?}", store.stats());
    assert_eq!(lines(&store), expected);
    drop(store);
    assert_eq!(lines(&fixture.open()), expected);
}

#[test]
fn times_before_1970_in_2100_and_missing_ones_are_kept() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let year_2100 = 4_102_444_800_000_000_000;
    let observed = LogRecord { observed_timestamp: Timestamp(77), ..record(0, "observed") };
    let records = vec![record(-5, "1969"), record(year_2100, "2100"), record(0, "arrival"), observed];
    assert_eq!(store.append(batch("a", records)).unwrap().accepted, 4);
    store.flush().unwrap();
    let found = read(&store, TimeRange::ALL, Vec::new(), "");
    let found: Vec<_> = found.into_iter().map(|(_, at, line)| (at, line)).collect();
    let expected = [(-5, "1969"), (77, "observed"), (NOW, "arrival"), (year_2100, "2100")];
    assert_eq!(found, expected.map(|(at, line)| (at, line.to_owned())));
}

#[test]
fn what_is_over_a_limit_is_refused_by_name_and_the_rest_is_kept() {
    let mut fixture = Fixture::new();
    fixture.options.retention = Some(Duration::from_secs(3600));
    fixture.options.line_bytes_max = 1000;
    let store = fixture.open();
    let many = LogRecord { attributes: vec![("a".to_owned(), Value::Null); 2000], ..record(NOW, "x") };
    let fat = LogRecord { attributes: vec![("a".to_owned(), Value::Str("x".repeat(2 << 20)))], ..record(NOW, "x") };
    let deep = LogRecord { body: (0..100).fold(Value::Null, |v, _| Value::Array(vec![v])), ..record(NOW, "x") };
    let json = LogRecord { body: Value::Array(vec![Value::Str("\n".repeat(900))]), ..record(NOW, "x") };
    let long = record(NOW, &"x".repeat(1001));
    let records = vec![record(NOW, "kept"), many, fat, deep, json, long, record(NOW - 4_000_000_000_000, "old")];
    let report = store.append(batch("a", records)).unwrap();
    let reasons: Vec<_> = report.rejections.iter().map(|rejection| (rejection.reason, rejection.count)).collect();
    assert_eq!(
        reasons,
        [
            ("too_many_attributes", 1),
            ("record_too_large", 1),
            ("nested_too_deep", 1),
            ("line_too_long", 2),
            ("too_old", 1)
        ]
    );
    assert_eq!((report.accepted, lines(&store)), (1, vec!["kept".to_owned()]));
    assert!(report.rejections[3].detail.contains("the limit is 1000"), "{:?}", report.rejections[3]);
}

#[test]
fn lines_of_megabytes_go_through_flush_and_compaction() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let long = |i: i64| format!("{i}{}", "long ".repeat(300_000));
    for round in 0..4 {
        store.append(batch("a", (0..6).map(|i| record(round * 10 + i, &long(i))).collect())).unwrap();
        store.flush().unwrap();
    }
    assert!(store.compact_once().unwrap());
    let found = lines(&store);
    assert_eq!(found.len(), 24);
    assert!((0..6).all(|i| found.iter().filter(|line| **line == long(i)).count() == 4));
}

#[test]
fn a_full_head_is_told_and_a_flush_makes_room() {
    let mut fixture = Fixture::new();
    fixture.options.head_bytes_max = 20_000;
    fixture.options.full_head_wait = Duration::from_millis(1);
    let store = fixture.open();
    let mut refused = None;
    for i in 0..100 {
        if let Err(error) = store.append(batch("a", vec![record(i, &noise(i, 1000))])) {
            refused = Some((i, error));
            break;
        }
    }
    let (stored, error) = refused.unwrap();
    assert!(matches!(error, Error::Overloaded { what: "the logs head", limit: 20_000, .. }), "{error}");
    assert!(store.should_flush());
    store.flush().unwrap();
    store.append(batch("a", vec![record(1000, "fits")])).unwrap();
    assert_eq!(lines(&store).len(), usize::try_from(stored).unwrap() + 1);
}

#[test]
fn an_append_to_a_full_head_waits_for_the_flush_that_makes_room() {
    let mut fixture = Fixture::new();
    fixture.options.head_bytes_max = 20_000;
    fixture.options.full_head_wait = Duration::from_secs(600);
    let store = fixture.open();
    let full = |first: i64| batch("a", (0..12).map(|i| record(first + i, &noise(first + i, 1200))).collect());
    let too_large = batch("a", (1..31).map(|i| record(i, &noise(i, 1000))).collect());
    assert!(matches!(store.append(too_large), Err(Error::Overloaded { .. })), "it would never fit");
    store.append(full(1)).unwrap();
    let until_waiting = |count: usize| {
        while store.room.waiting() < count {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let waiters = [100, 200].map(|first| {
            let records = full(first);
            let store = &store;
            scope.spawn(move || store.append(records))
        });
        until_waiting(2);
        assert_eq!(lines(&store).len(), 12, "reading goes on");
        store.flush().unwrap();
        // There is room for one of them; the other one waits for the next flush.
        while lines(&store).len() < 24 {
            std::thread::yield_now();
        }
        store.flush().unwrap();
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap().unwrap().accepted, 12));
        let refused = scope.spawn(|| store.append(full(300)));
        until_waiting(1);
        store.close();
        assert!(matches!(refused.join().unwrap(), Err(Error::Closed)));
    });
    assert_eq!(lines(&store).len(), 36);
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(batch("a", vec![record(1, "one")])).unwrap();
    fixture.options.wal_faults.fill_disk_after(10);
    let error = store.append(batch("a", vec![record(2, "two")])).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(store.flush().is_err(), "the log cannot be cut");
    assert_eq!(lines(&store), ["one"]);
    fixture.options.wal_faults.fill_disk_after(u64::MAX);
    store.append(batch("a", vec![record(2, "two")])).unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(lines(&fixture.open()), ["one", "two"]);
}

#[test]
fn a_batch_sent_again_after_an_attempt_that_was_not_acknowledged_is_stored_once() {
    let mut fixture = Fixture::new();
    fixture.options.head_bytes_max = 20_000;
    fixture.options.full_head_wait = Duration::ZERO;
    let store = fixture.open();
    let fill: Vec<LogRecord> = (1..11).map(|i| record(i, &noise(i, 1200))).collect();
    store.append(batch("a", fill)).unwrap();
    let again = || batch("a", (1..11).map(|i| record(100 + i, &noise(100 + i, 1200))).collect());
    assert!(matches!(store.append(again()), Err(Error::Overloaded { .. })));
    store.flush().unwrap();
    fixture.options.wal_faults.fill_disk_after(10);
    assert!(matches!(store.append(again()), Err(Error::DiskFull { .. })));
    fixture.options.wal_faults.fill_disk_after(u64::MAX);
    assert_eq!(store.append(again()).unwrap().accepted, 10);
    // The answer got lost: the client sends it once more.
    assert_eq!(store.append(again()).unwrap().accepted, 10);
    assert_eq!(lines(&store).len(), 20);
    drop(store);
    assert_eq!(lines(&fixture.open()).len(), 20);
}

#[test]
fn a_block_that_cannot_be_written_is_tried_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(batch("a", vec![record(1, "one")])).unwrap();
    // A file stands where the block's temporary folder would be made.
    let blocker = fixture.blocks_dir().join("tmp-000000000001-000000000001");
    std::fs::write(&blocker, b"").unwrap();
    assert!(store.flush().is_err());
    assert!(store.should_flush());
    store.append(batch("a", vec![record(2, "two")])).unwrap();
    assert_eq!(lines(&store), ["one", "two"], "the frozen head is still searched");
    std::fs::remove_file(&blocker).unwrap();
    store.flush().unwrap();
    assert_eq!((lines(&store).len(), store.stats().blocks), (2, 2));
    drop(store);
    assert_eq!(lines(&fixture.open()), ["one", "two"]);
}

#[test]
fn a_crash_after_a_block_is_in_place_duplicates_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(batch("a", vec![record(1, "one")])).unwrap();
    let wal = fixture.dir.path().join("wal");
    let kept: Vec<_> = std::fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path()).collect();
    let copies: Vec<_> = kept.iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    store.flush().unwrap();
    drop(store);
    for (path, bytes) in copies {
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::create_dir(fixture.blocks_dir().join("tmp-half")).unwrap();
    assert_eq!(lines(&fixture.open()), ["one"]);
    assert!(!fixture.blocks_dir().join("tmp-half").exists());
}

#[test]
fn retention_hides_old_rows_and_drops_old_blocks_with_a_count() {
    let mut fixture = Fixture::new();
    fixture.options.retention = Some(Duration::from_secs(100));
    let telemetry = Telemetry::new();
    let ledger = Ledger::new(&telemetry);
    let dir = fixture.dir.path();
    let (logs, wal) = (dir.join("logs"), dir.join("wal"));
    let cpu = CpuPool::new(1).unwrap();
    let options = fixture.options.clone();
    let store = LogStore::open(&logs, &wal, options, fixture.clock.clone(), &telemetry, ledger.clone(), cpu).unwrap();
    store.append(batch("a", vec![record(NOW - 90_000_000_000, "old"), record(NOW - 80_000_000_000, "older")])).unwrap();
    store.flush().unwrap();
    store.append(batch("a", vec![record(NOW, "new")])).unwrap();
    fixture.clock.advance(Duration::from_secs(15));
    assert_eq!(lines(&store), ["older", "new"], "what is too old is hidden");
    fixture.clock.advance(Duration::from_secs(15));
    store.apply_retention(fixture.clock.now_millis(), Duration::from_secs(100)).unwrap();
    assert_eq!((store.stats().blocks, lines(&store)), (0, vec!["new".to_owned()]));
    let dropped = ledger.entries().into_iter().find(|entry| entry.place == "storage_retention").unwrap().dropped;
    assert_eq!(dropped, [("expired".to_owned(), 2)]);
    assert!(std::fs::read_dir(&logs).unwrap().next().is_none(), "the folder is gone");
}

#[test]
fn metadata_is_the_same_from_head_and_block() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let full = LogRecord {
        observed_timestamp: Timestamp(9),
        severity_number: 17,
        severity_text: "Error".to_owned(),
        body: Value::Map(vec![("a".to_owned(), Value::Bytes(vec![1])), ("b".to_owned(), Value::Double(1.0))]),
        attributes: vec![
            ("http.method".to_owned(), Value::from("GET")),
            ("n".to_owned(), Value::Map(vec![("x y".to_owned(), Value::Int(5))])),
        ],
        flags: 1,
        trace_id: [0xab; 16],
        span_id: [1; 8],
        event_name: "click".to_owned(),
        dropped_attributes_count: 3,
        ..record(5, "")
    };
    store.append(batch("a", vec![full, record(6, "plain")])).unwrap();
    let all = || {
        let select = LogSelect {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            needles: Vec::new(),
            with_metadata: true,
            without_lines: false,
        };
        let context = QueryContext::default();
        let parts = store.select(&select, &context).unwrap();
        assert_eq!(parts.len(), 1);
        parts[0].read(&context).unwrap()
    };
    let head = all();
    store.flush().unwrap();
    assert_eq!(all(), head);
    assert_eq!(head.lines.get(0), r#"{"a":"AQ==","b":1}"#);
    let shown = |i: usize| head.metadata.get(i).iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ");
    assert_eq!(
        shown(0),
        "dropped_attributes_count=3 event_name=click flags=1 host=n1 http_method=GET n_x_y=5 observed_timestamp=9 \
         scope_name=lib severity_number=17 severity_text=Error span_id=0101010101010101 \
         trace_id=abababababababababababababababab"
    );
    assert_eq!(shown(1), "host=n1 scope_name=lib");
}

#[test]
fn those_who_follow_get_new_rows() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut tail = store.tail();
    store.append(batch("a", vec![record(2, "two"), record(1, "one")])).unwrap();
    store.append(batch("a", vec![record(2, "two"), record(1, "one")])).unwrap();
    let got = tail.try_recv().unwrap();
    assert_eq!((got.stream.clone(), got.rows.lines.text()), (stream("a"), "onetwo"));
    assert!(tail.try_recv().is_err(), "a retry is not told again");
}

#[test]
fn a_closed_store_refuses_records_and_can_be_read() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.append(batch("a", vec![record(1, "one")])).unwrap();
    store.close();
    assert!(matches!(store.append(batch("a", vec![record(2, "two")])), Err(Error::Closed)));
    assert_eq!(lines(&store), ["one"]);
}

#[test]
fn many_threads_append_while_blocks_are_made_and_nothing_is_lost_or_doubled() {
    let fixture = Fixture::new();
    let store = fixture.open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..60 {
                    let line = format!("{thread}/{i}");
                    store.append(batch("a", vec![record(i, &line)])).unwrap();
                }
            });
        }
        for _ in 0..6 {
            store.flush().unwrap();
            store.compact_once().unwrap();
        }
    });
    drop(store);
    let mut found = lines(&fixture.open());
    assert_eq!(found.len(), 240, "doubles would be counted here");
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 240);
}

#[test]
fn large_blocks_are_read_by_range_and_stream() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for app in ["a", "b", "c"] {
        let records = (1..3001).map(|i| record(i * 10, &format!("{app} line number{i}"))).collect();
        store.append(batch(app, records)).unwrap();
    }
    store.flush().unwrap();
    let matchers = || vec![Matcher::equal("service_name", "b")];
    for (start, end) in [(10, 11), (0, 30_000), (10_235, 10_245), (20_000, 20_500), (29_990, 40_000)] {
        let range = TimeRange::new(Timestamp(start), Timestamp(end));
        let expected = (1..3001).filter(|i| range.contains(Timestamp(i * 10))).count();
        assert_eq!(read(&store, range, matchers(), "").len(), expected, "{range:?}");
        assert_eq!(read(&store, range, Vec::new(), "").len(), 3 * expected, "{range:?}");
    }
    assert_eq!(read(&store, TimeRange::ALL, Vec::new(), "number2999").len(), 3);
    let context = QueryContext::default();
    let select = LogSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        needles: vec![Needle::Line("line number2999".to_owned())],
        with_metadata: false,
        without_lines: false,
    };
    let rows: u64 = store.select(&select, &context).unwrap().iter().map(|part| part.rows_max()).sum();
    assert!(rows < 9000, "the index leaves a part of the rows: {rows}");
}

#[test]
fn a_flush_that_is_due_is_done_while_blocks_are_merged() {
    let mut fixture = Fixture::new();
    fixture.options.head_bytes_max = 4000;
    let store = fixture.open();
    let expected: Vec<String> = (0..40).map(|i| format!("line {i:02}")).collect();
    for (at, chunk) in (1..).zip(expected[..36].chunks(9)) {
        store.append(batch("a", chunk.iter().map(|line| record(at, line)).collect())).unwrap();
        store.flush().unwrap();
    }
    let long = |line: &String| record(9, &format!("{line}{}", "x".repeat(600)));
    store.append(batch("a", expected[36..].iter().map(long).collect())).unwrap();
    assert!(store.should_flush(), "{:?}", store.stats());
    assert!(store.compact_once().unwrap());
    let stats = store.stats();
    assert_eq!((stats.head_records, stats.blocks, stats.block_records), (0, 2, 40), "merged, and flushed in between");
    let found: Vec<String> = lines(&store).iter().map(|line| line.trim_end_matches('x').to_owned()).collect();
    assert_eq!(found, expected);
    drop(store);
    assert_eq!(lines(&fixture.open()).len(), 40);
    assert_eq!(fixture.open().stats().blocks, 2);
}

#[test]
fn streams_that_share_pages_are_merged_over_many_pages() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for block in 0..4 {
        for app in ["a", "b", "c"] {
            let rows = (0..700).map(|i| record(4 * i + block % 2, &format!("{app} block{block} row{i}")));
            store.append(batch(app, rows.collect())).unwrap();
        }
        store.flush().unwrap();
    }
    let all = || read(&store, TimeRange::ALL, Vec::new(), "");
    let expected = all();
    assert_eq!(expected.len(), 8400);
    assert!(store.compact_once().unwrap());
    assert_eq!(store.stats().blocks, 1);
    assert!(all() == expected, "the same rows in the same order");
    for needle in ["b block2 row699", "block3 row0", "c block0"] {
        let wanted: Vec<_> = expected.iter().filter(|(_, _, line)| line.contains(needle)).cloned().collect();
        assert!(!wanted.is_empty() && read(&store, TimeRange::ALL, Vec::new(), needle) == wanted, "{needle}");
    }
}

#[test]
fn a_plan_tells_what_is_read() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for app in ["a", "b"] {
        let line =
            |i: i64| record(i * 1_000, &format!("{app} order ORD-{i:05} {}", if i == 1234 { "quokka" } else { "" }));
        store.append(batch(app, (1..5000).map(line).collect())).unwrap();
    }
    store.flush().unwrap();
    store.append(batch("a", vec![record(7, "in memory")])).unwrap();
    let context = QueryContext::default();
    let check = |needle: Option<&str>, range: TimeRange| {
        let needles = needle.map(|text| vec![storage_api::Needle::Line(text.to_owned())]).unwrap_or_default();
        let matchers = vec![model::Matcher::equal("service_name", "a")];
        let select = LogSelect { matchers, range, needles, with_metadata: false, without_lines: false };
        let plan = store.plan(&select, &context).unwrap();
        let in_blocks: u64 = store.select(&select, &context).unwrap().iter().map(|part| part.rows_max()).sum();
        assert_eq!(plan.blocks.iter().map(|block| block.records_read).sum::<u64>() + plan.head_records, in_blocks);
        plan
    };
    let all = check(None, TimeRange::ALL);
    let block = &all.blocks[0];
    assert_eq!((block.records, block.pages, block.streams, block.pages_inside, block.pages_read), (9998, 10, 1, 5, 5));
    assert_eq!((block.by_index, all.head_records, block.records_read), (false, 1, 4999));
    let rows = std::fs::metadata(fixture.blocks_dir().join(&block.name).join("rows.parquet")).unwrap().len();
    assert!(rows / 8 < block.bytes_read && block.bytes_read < rows, "{} of {rows}", block.bytes_read);
    let one = check(Some("quokka"), TimeRange::ALL);
    assert_eq!((one.blocks[0].by_index, one.blocks[0].pages_inside, one.blocks[0].pages_read), (true, 5, 1));
    let early = check(None, TimeRange::new(Timestamp(0), Timestamp(10_000)));
    assert_eq!((early.blocks[0].pages_inside, early.blocks[0].pages_read), (1, 1));
    let later = check(None, TimeRange::new(Timestamp(i64::MAX - 9), Timestamp(i64::MAX)));
    assert_eq!((later.blocks_outside, later.blocks.len()), (1, 0));
}

/// Gives a batch record by record, or nothing at all.
struct Source(LogBatch, Option<Error>);

impl storage_api::LogSource for Source {
    fn send(&mut self, sink: &mut dyn storage_api::LogSink) -> storage_api::Result<()> {
        for group in &self.0.groups {
            sink.group(&group.stream, &group.resource, &group.scope);
            group.records.iter().for_each(|record| sink.record(record));
        }
        self.1.take().map_or(Ok(()), Err)
    }
}

#[test]
fn a_source_is_stored_as_the_batch_of_it_is_and_forgotten_when_it_fails() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let made = || batch("a", (1..9).map(|i| record(i, &format!("line {i}"))).collect());
    let failing = store.append_from(&mut Source(made(), Some(Error::Closed)));
    assert!(matches!(failing, Err(Error::Closed)));
    assert_eq!(lines(&store), Vec::<String>::new());
    assert_eq!(store.append_from(&mut Source(made(), None)).unwrap().accepted, 8);
    // The same batch, as a whole, is a retry.
    assert_eq!(store.append(made()).unwrap().accepted, 8);
    assert_eq!(lines(&store).len(), 8);
    let too_deep = (0..70).fold(Value::Null, |value, _| Value::Array(vec![value]));
    let mut deep = made();
    deep.groups[0].records.push(LogRecord { body: too_deep, ..record(10, "") });
    let (one, other) = (store.append_from(&mut Source(deep.clone(), None)).unwrap(), store.append(deep).unwrap());
    assert_eq!((one.rejected(), one.accepted), (1, 8));
    assert_eq!(one, other);
}

#[test]
fn no_part_of_the_head_is_large_however_well_its_lines_compress() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for round in 0..4 {
        let long = |i: i64| record(round * 100 + i, &format!("{i}{}", "a".repeat(1 << 20)));
        store.append(batch("long", (0..12).map(long).collect())).unwrap();
        let short = |i: i64| record(round * 10_000 + i, &format!("line {i}"));
        store.append(batch("short", (0..5000).map(short).collect())).unwrap();
    }
    let context = QueryContext::default();
    let select = LogSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        needles: Vec::new(),
        with_metadata: false,
        without_lines: false,
    };
    let parts = store.select(&select, &context).unwrap();
    let read: Vec<_> = parts.iter().map(|part| part.read(&context).unwrap()).collect();
    assert!(read.iter().all(|rows| rows.lines.text().len() <= 9 << 20));
    assert_eq!(read.iter().map(storage_api::LogRows::len).sum::<usize>(), 4 * 5012);
    assert!(parts.len() < 4 * 2 + 4 * 2 + 4, "{} parts", parts.len());
}

#[test]
fn new_blocks_are_loaded_before_a_query_asks() {
    let fixture = Fixture::new();
    let telemetry = Telemetry::new();
    let store = fixture.open_with(&telemetry);
    store.append(batch("a", vec![record(1, "a quokka"), record(2, "id 0123456789abcdef")])).unwrap();
    store.flush().unwrap();
    store.warm(&|| true);
    assert_eq!(store.cache.size_bytes(), 0, "it was told to stop");
    store.warm(&|| false);
    let warm = store.cache.size_bytes();
    assert!(warm > 0);
    let dir = fixture.blocks_dir().join("000000000001-000000000001");
    for name in ["ids.idx", "trigrams.idx", "counts.idx"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    std::fs::remove_dir_all(dir.join("words")).unwrap();
    for needle in ["quokka", " 0123456789abcdef", "none of it"] {
        let found = read(&store, TimeRange::ALL, vec![], needle).len();
        assert_eq!(found, usize::from(needle != "none of it"), "{needle}");
    }
    let counts = store.counts(&[], TimeRange::ALL, None, &QueryContext::default()).unwrap();
    assert_eq!(counts.iter().map(|count| count.records).sum::<u64>(), 2);
    assert_eq!(store.cache.size_bytes(), warm, "all that was asked for was there");
    assert_eq!(metric(&telemetry, "daybook_logs_corrupt_blocks_total{reason=\"index\"}"), 0.0);
}

#[test]
fn what_is_loaded_before_a_query_asks_pushes_nothing_out() {
    let mut fixture = Fixture::new();
    fixture.options.cache_bytes_max = 6000;
    let store = fixture.open();
    for i in 0..8 {
        store.append(batch("a", vec![record(i, "a quokka"), record(i, &noise(i, 200))])).unwrap();
        store.flush().unwrap();
    }
    store.warm(&|| false);
    let warm = store.cache.size_bytes();
    assert!((1..=6000).contains(&warm), "{warm} bytes");
    store.warm(&|| false);
    assert_eq!(store.cache.size_bytes(), warm);
    assert_eq!(read(&store, TimeRange::ALL, vec![], "quokka").len(), 8);
}

#[test]
fn an_index_that_a_query_does_not_need_may_be_damaged() {
    let fixture = Fixture::new();
    let telemetry = Telemetry::new();
    let store = fixture.open_with(&telemetry);
    store.append(batch("a", vec![record(1, "a quokka here"), record(2, "id 0123456789abcdef.")])).unwrap();
    store.flush().unwrap();
    let path = fixture.blocks_dir().join("000000000001-000000000001/ids.idx");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let corrupt = || metric(&telemetry, "daybook_logs_corrupt_blocks_total{reason=\"index\"}");
    assert_eq!(read(&store, TimeRange::ALL, vec![], " quokka ").len(), 1);
    assert_eq!(corrupt(), 0.0, "words are in another index");
    assert_eq!(read(&store, TimeRange::ALL, vec![], " 0123456789abcdef.").len(), 1, "without the index");
    assert_eq!(corrupt(), 1.0);
}

#[test]
fn counts_over_many_steps_are_within_the_memory_of_a_query() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let minute = 60_000_000_000;
    store.append(batch("a", (1..2000).map(|i| record(i * minute, "x")).collect())).unwrap();
    for _ in 0..2 {
        let limits = storage_api::Limits { memory_bytes_max: 100_000, ..storage_api::Limits::default() };
        let context = QueryContext::new(limits);
        let counts = |step: i64| store.counts(&[], TimeRange::ALL, Some(step), &context);
        assert!(matches!(counts(minute), Err(Error::Limit { what: "bytes of memory", .. })));
        let context = QueryContext::default();
        assert_eq!(store.counts(&[], TimeRange::ALL, Some(minute), &context).unwrap().len(), 1999);
        store.flush().unwrap();
    }
}
