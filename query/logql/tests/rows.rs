//! What becomes of single lines whose values are not what a stage asks for.

use expect_test::{Expect, expect};
use model::{Labels, TimeRange, Timestamp};
use query_logql::{Direction, LogQuery, parse_log, select_logs};
use storage_api::QueryContext;
use storage_api::fake::FakeLogs;

/// Runs a query on one line, and shows what passes.
#[track_caller]
fn check(line: &str, query: &str, expected: Expect) {
    let logs = FakeLogs::default();
    logs.push(&Labels::from_pairs([("a", "b")]), Timestamp(1), line, &[]);
    let log = parse_log(&format!("{{a=\"b\"}} {query}")).unwrap();
    let range = TimeRange::new(Timestamp(0), Timestamp(2));
    let query = LogQuery { log: &log, range, limit: 10, direction: Direction::Forward, interval_ns: 0 };
    let shown = match select_logs(&query, &logs, &QueryContext::default()) {
        Ok(entries) => {
            let one = |entry: &query_logql::LogEntry| format!("{} {}", entry.labels.all(), entry.line);
            entries.iter().map(one).collect::<Vec<_>>().join("\n")
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    check("1_000", "| pattern `<x>` | x > 999", expect![[r#"{a="b", x="1_000"} 1_000"#]]);
    check(
        "1e400",
        "| pattern `<x>` | x > 999",
        expect![[
            r#"{__error__="LabelFilterErr", __error_details__="strconv.ParseFloat: parsing \"1e400\": value out of range", a="b", x="1e400"} 1e400"#
        ]],
    );
}

#[test]
fn a_pattern_that_is_no_address_is_refused_alone_and_told_beside_others() {
    check("x", "| a=ip(\"zz\")", expect![[r#"parse error : stage '| a=ip("zz")' : ip: invalid pattern: "zz""#]]);
    check(
        "x",
        "| a=ip(\"zz\") or a=\"c\"",
        expect![[r#"{__error__="LabelFilterErr", __error_details__="ip: invalid pattern: \"zz\"", a="b"} x"#]],
    );
    check("x", "| missing=ip(\"zz\") or a=\"c\"", expect![""]);
}

#[test]
fn json_that_ends_too_soon_is_taken_for_an_array() {
    check(
        "{\"x\":1",
        "| json",
        expect![[
            r#"{__error__="JSONParserErr", __error_details__="Value is array, but can't find closing ']' symbol", a="b", x="1"} {"x":1"#
        ]],
    );
}

#[test]
fn half_a_surrogate_pair_empties_json_and_is_replaced_in_logfmt() {
    check(r#"{"x":"\ud800"}"#, "| json", expect![[r#"{a="b", x=""} {"x":"\ud800"}"#]]);
    check(r#"x="\ud800y""#, "| logfmt", expect![[r#"{a="b", x=" y"} x="\ud800y""#]]);
}
