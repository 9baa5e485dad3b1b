//! Paging is exact: no line is skipped or repeated, whatever the pages, the direction and the place it goes on from.
#![cfg(test)]

use model::{Labels, TimeRange, Timestamp};
use proptest::prelude::*;
use query_logql::{ContextQuery, Direction, LogEntry, LogQuery, Pager, Place, line_context, parse_log, select_logs};
use storage_api::QueryContext;
use storage_api::fake::FakeLogs;

const DAY: i64 = 86_400_000_000_000;

fn stream(app: u8) -> Labels {
    // One has all labels of the other, and more.
    let more = (app % 2 == 1).then_some(("pod", "p"));
    Labels::from_pairs([("app", ["a", "b"][usize::from(app) / 2 % 2])].into_iter().chain(more))
}

fn filled(rows: &[(u8, i64, u8)]) -> FakeLogs {
    let logs = FakeLogs::default();
    for (i, (app, at, word)) in rows.iter().enumerate() {
        let number = i.to_string();
        let line = format!("{i} {}", ["quokka", "wombat"][usize::from(*word) % 2]);
        logs.push(&stream(*app), Timestamp(*at), &line, &[("number", &number)]);
    }
    logs
}

fn all(logs: &FakeLogs, text: &str, range: TimeRange, direction: Direction) -> Vec<LogEntry> {
    let log = parse_log(text).unwrap();
    let query = LogQuery { log: &log, range, limit: usize::MAX, direction, interval_ns: 0 };
    select_logs(&query, logs, &QueryContext::default()).unwrap()
}

fn paged(
    logs: &FakeLogs,
    text: &str,
    range: TimeRange,
    (direction, from): (Direction, Option<Place>),
    lines: usize,
) -> Vec<(LogEntry, Place)> {
    let mut pager = Pager::new(parse_log(text).unwrap(), range, direction, from).with_lines_max(lines);
    let mut out = Vec::new();
    for pages in 0.. {
        assert!(pages < 10_000, "it ends");
        if pager.is_done() {
            break;
        }
        let page = pager.next_page(logs, &QueryContext::default()).unwrap();
        assert!(page.len() <= lines);
        out.extend(page);
        if pages == 2 {
            pager.shrink();
        }
    }
    out
}

/// Few times, so that many lines share one; some far apart, so that windows are empty.
fn rows() -> impl Strategy<Value = Vec<(u8, i64, u8)>> {
    let at = prop_oneof![4 => 0_i64..6, 1 => 0_i64..200, 1 => (0_i64..90).prop_map(|days| days * DAY), 1 => Just(-7)];
    proptest::collection::vec((0_u8..4, at, any::<u8>()), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn pages_are_the_whole(
        rows in rows(), lines in 1_usize..20, start in -10_i64..8, end in prop_oneof![0_i64..8, Just(90 * DAY)],
        is_forward: bool, filter: bool, cut in any::<prop::sample::Index>(),
    ) {
        let logs = filled(&rows);
        let direction = if is_forward { Direction::Forward } else { Direction::Backward };
        let text = if filter { "{} |= \"quokka\"" } else { "{}" };
        let range = TimeRange::new(Timestamp(start), Timestamp(end));
        let expected = all(&logs, text, range, direction);
        let found = paged(&logs, text, range, (direction, None), lines);
        let entries = |found: &[(LogEntry, Place)]| found.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>();
        prop_assert_eq!(entries(&found), expected.clone());
        if !found.is_empty() {
            let cut = cut.index(found.len());
            let rest = paged(&logs, text, range, (direction, Some(found[cut].1)), lines);
            prop_assert_eq!(entries(&rest), expected[cut + 1..].to_vec());
        }
    }

    #[test]
    fn context_is_what_lies_around(
        rows in rows(), which in any::<prop::sample::Index>(), before in 0_usize..6, after in 0_usize..6,
    ) {
        prop_assume!(!rows.is_empty());
        let logs = filled(&rows);
        let which = which.index(rows.len());
        let (app, at, word) = rows[which];
        let line = format!("{which} {}", ["quokka", "wombat"][usize::from(word) % 2]);
        let range = TimeRange::new(Timestamp(i64::MIN), Timestamp(i64::MAX));
        let of_stream: Vec<LogEntry> =
            all(&logs, "{}", range, Direction::Forward).into_iter().filter(|e| e.labels.stream == stream(app)).collect();
        let place = of_stream.iter().position(|entry| entry.line == line).unwrap();
        for text in ["{}".to_owned(), format!("{{}} | number=\"{which}\" | line_format \"x\"")] {
            let log = parse_log(&text).unwrap();
            let line = (text == "{}").then_some(line.as_str());
            let query = ContextQuery { log: &log, at: Timestamp(at), line, before, after, range };
            let found = line_context(&query, &logs, &QueryContext::default()).unwrap();
            prop_assert_eq!(&found.stream, &stream(app));
            prop_assert_eq!(&found.line, &of_stream[place]);
            prop_assert_eq!(&found.before[..], &of_stream[place.saturating_sub(before)..place]);
            prop_assert_eq!(&found.after[..], &of_stream[place + 1..(place + 1 + after).min(of_stream.len())]);
        }
    }
}

#[test]
fn a_line_that_is_not_one_is_told() {
    let logs = filled(&[(0, 5, 0), (1, 5, 0)]);
    let log = parse_log("{}").unwrap();
    let range = TimeRange::new(Timestamp(0), Timestamp(10));
    let ask = |at: i64, line: Option<&str>| {
        let query = ContextQuery { log: &log, at: Timestamp(at), line, before: 1, after: 1, range };
        line_context(&query, &logs, &QueryContext::default())
            .map(|found| found.line.line)
            .map_err(|error| error.to_string())
    };
    assert_eq!(ask(6, None).unwrap_err(), "there is no such line at this time");
    assert!(ask(5, None).unwrap_err().contains("several streams"));
    assert_eq!(ask(5, Some("1 quokka")).unwrap(), "1 quokka");
}

#[test]
fn an_interval_leaves_lines_out_in_little_memory() {
    let rows: Vec<(u8, i64, u8)> = (0..5_000).map(|i| (0, i * 1_000_000_000 / 4, 0)).collect();
    let logs = filled(&rows);
    let log = parse_log("{}").unwrap();
    let range = TimeRange::new(Timestamp(0), Timestamp(i64::MAX));
    let context = QueryContext::new(storage_api::Limits { memory_bytes_max: 8 << 20, ..Default::default() });
    for (direction, limit) in [(Direction::Forward, 5_000), (Direction::Backward, 5_000), (Direction::Backward, 7)] {
        let query = LogQuery { log: &log, range, limit, direction, interval_ns: 60_000_000_000 };
        let found = select_logs(&query, &logs, &context).unwrap();
        let times: Vec<i64> = found.iter().map(|entry| entry.timestamp.0).collect();
        let all: Vec<i64> = match direction {
            Direction::Forward => (0..21).map(|i| i * 60_000_000_000).collect(),
            Direction::Backward => (0..21).map(|i| 1_249_750_000_000 - i * 60_000_000_000).collect(),
        };
        assert_eq!(times[..], all[..limit.min(21)]);
    }
}
