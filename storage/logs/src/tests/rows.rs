//! Rows that are read no further than they are wanted, against all rows.

use std::str::Utf8Error;

use proptest::prelude::*;
use storage_api::{LineFilter, Lines, LogAppender, LogPart, LogRows, MetadataSelect, RowSelect};

use super::*;
use crate::block::{BODY_STR, Detail, RowView, line_of};

/// Keeps lines that hold, or do not hold, a text.
#[derive(Debug)]
struct Holds(String, bool, &'static str);

impl Holds {
    fn new(text: &'static str, wanted: bool) -> Self {
        Self(format!("{text} {wanted}"), wanted, text)
    }
}

impl LineFilter for Holds {
    fn passing(&self, lines: Lines<'_>) -> Result<Vec<u32>, Utf8Error> {
        let mut out = Vec::new();
        for row in 0..lines.len() {
            if lines.line(row)?.contains(self.2) == self.1 {
                out.push(u32::try_from(row).unwrap());
            }
        }
        Ok(out)
    }

    fn key(&self) -> &str {
        &self.0
    }
}

/// Rows of three streams, two of which share pages; one of them has bodies that are no text.
fn fill(store: &LogStore) {
    let mut records = [Vec::new(), Vec::new(), Vec::new()];
    for i in 0..7000_i64 {
        let which = if i % 10 < 6 {
            0
        } else if i % 10 < 9 {
            1
        } else {
            2
        };
        let mut one =
            record(NOW + i / 3 * 1_000_000_000, &format!("line {i} {}", ["a", "b", "needle"][(i % 97 % 3) as usize]));
        if which == 2 && i % 20 == 9 {
            one.body = Value::Map(vec![("n".to_owned(), Value::Int(i)), ("t".to_owned(), Value::from("needle"))]);
        }
        if i % 5 == 0 {
            one.attributes = vec![("http.method".to_owned(), Value::from("GET")), ("n".to_owned(), Value::Int(i % 7))];
        }
        if i % 11 == 0 {
            one.trace_id = [u8::try_from(i % 3 + 1).unwrap(); 16];
        }
        if i % 55 == 0 && which == 1 {
            one.attributes.push(("trace_id".to_owned(), Value::from("02020202020202020202020202020202")));
        }
        if which != 1 || i % 4 == 0 {
            (one.severity_number, one.severity_text) = (9 + u8::try_from(i % 3).unwrap(), "INFO".to_owned());
        }
        records[which].push(one);
    }
    for (app, records) in ["a", "b", "c"].into_iter().zip(records) {
        store.append(batch(app, records)).unwrap();
    }
}

type Row = (i64, String, Vec<(String, String)>);

/// Returns the rows with the fields that were asked for, and of them those with the wanted field.
fn rows(found: &LogRows, select: &RowSelect<'_>) -> Vec<Row> {
    let wanted = |name: &str| match select.metadata {
        MetadataSelect::None => false,
        MetadataSelect::Only(names) => names.iter().any(|have| have == name),
        MetadataSelect::All => true,
    };
    let mut out = Vec::new();
    for i in 0..found.len() {
        let pairs = found.metadata.get(i);
        let has = |(name, value): (&str, &str)| pairs.iter().any(|pair| &*pair.0 == name && &*pair.1 == value);
        if select.metadata == MetadataSelect::All && !select.field.is_none_or(has) {
            continue;
        }
        let fields =
            pairs.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.to_string(), value.to_string()));
        let line = if select.with_lines { found.lines.get(i).to_owned() } else { String::new() };
        out.push((found.timestamps[i].0, line, fields.collect()));
    }
    out
}

#[derive(Debug, Clone)]
struct Wish {
    range: (i64, i64),
    filter: Option<usize>,
    field: Option<u8>,
    rows_max: usize,
    newest: bool,
    with_lines: bool,
    metadata: usize,
}

fn wish() -> impl Strategy<Value = Wish> {
    let range = prop_oneof![Just((-10_i64, 3000_i64)), (-10_i64..2400, 0_i64..2400)];
    let rows_max = prop_oneof![Just(usize::MAX), 0_usize..5, 1000_usize..1100];
    let field = proptest::option::weighted(0.3, 0_u8..5);
    let filter = proptest::option::of(0..4_usize);
    (range, filter, field, rows_max, any::<bool>(), any::<bool>(), 0..4_usize).prop_map(
        |(range, filter, field, rows_max, newest, with_lines, metadata)| {
            // With a field there may be more rows than the most, so that they cannot be compared.
            let rows_max = if field.is_some() { usize::MAX } else { rows_max };
            Wish { range, filter, field, rows_max, newest, with_lines, metadata }
        },
    )
}

fn check(parts: &[Box<dyn LogPart>], wish: &Wish) {
    let filters = [("needle", true), ("needle", false), ("line 6", true), ("nowhere", true)];
    let filter = wish.filter.map(|i| Holds::new(filters[i].0, filters[i].1));
    let id = wish.field.map(|i| format!("{i:02x}").repeat(16));
    let only: [&[&str]; 2] = [&["severity_text", "severity_number", "service_name"], &["http_method", "severity_text"]];
    let only = only.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let metadata = match wish.metadata {
        // A field is found in the rows only where all fields are there.
        _ if id.is_some() => MetadataSelect::All,
        0 => MetadataSelect::None,
        1 => MetadataSelect::All,
        i => MetadataSelect::Only(&only[i - 2]),
    };
    let at = |seconds: i64| Timestamp(NOW + seconds * 1_000_000_000);
    let select = RowSelect {
        range: TimeRange::new(at(wish.range.0), at(wish.range.0 + wish.range.1)),
        filter: filter.as_ref().map(|filter| filter as _),
        field: id.as_deref().map(|id| ("trace_id", id)),
        rows_max: wish.rows_max,
        newest: wish.newest,
        with_lines: wish.with_lines,
        metadata,
    };
    let context = QueryContext::default();
    for part in parts {
        let expected = select.narrow(part.read(&context).unwrap()).unwrap();
        let found = part.read_rows(&select, &context).unwrap();
        assert_eq!(rows(&found, &select), rows(&expected, &select), "{part:?}");
    }
    assert_eq!(context.take_warnings(), Vec::<String>::new());
}

#[test]
fn what_is_read_in_part_is_what_is_read_whole() {
    let mut fixture = Fixture::new();
    // Small enough that pages go and come again.
    fixture.options.page_cache_bytes_max = 40_000;
    let store = fixture.open();
    fill(&store);
    store.flush().unwrap();
    let context = QueryContext::default();
    let select = LogSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        needles: Vec::new(),
        with_metadata: true,
        without_lines: false,
    };
    let parts = store.select(&select, &context).unwrap();
    assert!(parts.len() > 3 && parts.iter().map(|part| part.rows_max()).sum::<u64>() == 7000);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    runner
        .run(&wish(), |wish| {
            check(&parts, &wish);
            Ok(())
        })
        .unwrap();
}

/// What is written now is read without the Arrow reader, and as that one reads it.
#[test]
fn single_pages_are_read_as_arrow_reads_them() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fill(&store);
    store.flush().unwrap();
    let block = Arc::clone(&store.state.read().blocks[0]);
    for page in 0..block.catalog().pages.len() {
        let first_row = block.catalog().pages[page].first_row;
        let columns = block.read(first_row..block.catalog().page_end(page), Detail::All).unwrap();
        let columns = columns.open().unwrap();
        let rows: Vec<u32> =
            (0..u32::try_from(columns.timestamps().len()).unwrap()).filter(|row| row % 7 < 3).collect();
        let fields = block.fields(page, &rows).unwrap().expect("all columns are known");
        let lines = block.lines(page, false).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let expected = columns.row(*row as usize);
            let line = line_of(expected.body_type, expected.body).unwrap();
            assert_eq!(lines.lines().line(*row as usize).unwrap(), line);
            let expected = RowView { body: "", body_type: BODY_STR, ..expected };
            assert_eq!(format!("{:?}", fields.row(i).unwrap()), format!("{expected:?}"));
        }
        assert_eq!(*block.times(page).unwrap(), columns.timestamps());
        let severities: Vec<u8> = (0..columns.timestamps().len()).map(|row| columns.severity(row).0).collect();
        assert_eq!(*block.severities_of(page..page + 1).unwrap()[0], severities);
    }
}

#[test]
fn a_filter_is_put_to_a_page_once() {
    let telemetry = Telemetry::new();
    let fixture = Fixture::new();
    let store = fixture.open_with(&telemetry);
    fill(&store);
    store.flush().unwrap();
    let select = LogSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        needles: Vec::new(),
        with_metadata: false,
        without_lines: false,
    };
    let filter = Holds::new("line 6", true);
    let select_rows = RowSelect { filter: Some(&filter), with_lines: false, ..RowSelect::ALL };
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let context = QueryContext::default();
        let parts = store.select(&select, &context).unwrap();
        let found: usize = parts.iter().map(|part| part.read_rows(&select_rows, &context).unwrap().len()).sum();
        assert_eq!(found, (0..7000).filter(|i| format!("line {i} ").contains("line 6")).count() - 56);
        assert_eq!(context.used().0, 7000);
        bytes.push(context.used().1);
    }
    // The lines are not even decoded the second time.
    assert!(bytes[0] > 50_000 && bytes[1] == 0, "{bytes:?}");
    assert!(metric(&telemetry, r#"daybook_logs_page_cache_requests_total{outcome="hit"}"#) > 5.0);
}

#[test]
fn streams_that_share_a_page_have_their_own_metadata() {
    let telemetry = Telemetry::new();
    let fixture = Fixture::new();
    let store = fixture.open_with(&telemetry);
    // Streams of one row to more than are taken for small ones, in one page and over its border.
    let lengths = [1, 3, 128, 129, 1, 500, 2, 127, 400, 1];
    let mut expected = Vec::new();
    for (app, length) in ('a'..).zip(lengths) {
        let one = |i: i64| {
            let mut one = record(i, &format!("{app} {i}"));
            one.attributes = vec![("user".to_owned(), Value::from(format!("{app}-{i}").as_str()))];
            one.trace_id = [u8::try_from(i % 200 + 1).unwrap(); 16];
            one
        };
        store.append(batch(&app.to_string(), (0..length).map(one).collect())).unwrap();
        expected.extend((0..length).map(|i| (format!("{app} {i}"), format!("{app}-{i}"))));
    }
    store.flush().unwrap();
    let context = QueryContext::default();
    let select = LogSelect {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        needles: Vec::new(),
        with_metadata: true,
        without_lines: false,
    };
    let filter = Holds::new("1", true);
    for filter in [None, Some(&filter as &dyn LineFilter)] {
        let mut found = Vec::new();
        for part in store.select(&select, &context).unwrap() {
            let rows = part.read_rows(&RowSelect { filter, ..RowSelect::ALL }, &context).unwrap();
            for i in 0..rows.len() {
                let user = rows.metadata.get(i).iter().find(|(name, _)| &**name == "user").unwrap().1.to_string();
                found.push((rows.lines.get(i).to_owned(), user));
            }
        }
        found.sort_unstable();
        let mut expected = expected.clone();
        expected.retain(|(line, _)| filter.is_none() || line.contains('1'));
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    assert!(metric(&telemetry, r#"daybook_logs_page_cache_requests_total{outcome="hit"}"#) > 5.0);
}
