//! What becomes of single lines whose values are not what a stage asks for.
#![cfg(test)]

use expect_test::{Expect, expect};
use model::{Labels, TimeRange, Timestamp};
use query_logql::{Direction, Expr, LogQuery, MetricResult, Steps, evaluate, parse, parse_log, select_logs};
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

#[test]
fn logfmt_expressions_leave_what_was_taken() {
    let line = "user=a user=b app=x";
    check(line, "| logfmt foo=\"user\"", expect![[r#"{a="b", foo="b"} user=a user=b app=x"#]]);
    check(line, "| logfmt a=\"user\"", expect![[r#"{a="b", a_extracted="a"} user=a user=b app=x"#]]);
    check(line, "| logfmt user | logfmt foo=\"user\"", expect![[r#"{a="b", foo="", user="b"} user=a user=b app=x"#]]);
    check(line, "| logfmt user | logfmt user", expect![[r#"{a="b", user="b"} user=a user=b app=x"#]]);
}

#[test]
fn json_expressions_keep_what_is_told_of_the_line() {
    check(
        "x",
        "| json | json y=\"z\"",
        expect![[
            r#"{__error__="JSONParserErr", __error_details__="Value looks like object, but can't find closing '}' symbol", a="b"} x"#
        ]],
    );
}

#[test]
fn numbers_of_templates_are_decimal() {
    check(
        "x",
        "| line_format `{{ addf 0.1 0.2 }} {{ divf 1 3 }} {{ mulf 1000 1000 }} {{ float64 \"123456789\" }} {{ addf }}`",
        expect![[r#"{a="b"} 0.3 0.3333333333333333 1e+06 1.23456789e+08 0"#]],
    );
    check(
        "x",
        r#"| line_format `{{ int "0x1F" }} {{ int "1.9" }} {{ int "010" }} {{ int "08" }} {{ int "1_0" }} {{ int " 5" }} {{ int "-5" }}`"#,
        expect![[r#"{a="b"} 31 1 8 0 10 0 -5"#]],
    );
}

#[test]
fn what_a_template_cannot_do_is_told() {
    let told = |template: &str, what: &str| {
        let call = template.trim_matches(['{', '}', ' ']);
        let place = format!("template: line:1:3: executing \\\"line\\\" at <{call}>");
        format!("{{__error__=\"TemplateFormatErr\", __error_details__=\"{place}: error calling {what}\", a=\"b\"}} x")
    };
    for (template, what) in [
        ("{{ substr 2 1 .a }}", "substr: runtime error: slice bounds out of range [2:1]"),
        ("{{ substr 4 9 .a }}", "substr: runtime error: slice bounds out of range [4:1]"),
        ("{{ divf 1 0 }}", "divf: decimal division by 0"),
    ] {
        let logs = FakeLogs::default();
        logs.push(&Labels::from_pairs([("a", "b")]), Timestamp(1), "x", &[]);
        let log = parse_log(&format!("{{a=\"b\"}} | line_format `{template}`")).unwrap();
        let range = TimeRange::new(Timestamp(0), Timestamp(2));
        let query = LogQuery { log: &log, range, limit: 10, direction: Direction::Forward, interval_ns: 0 };
        let entries = select_logs(&query, &logs, &QueryContext::default()).unwrap();
        assert_eq!(format!("{} {}", entries[0].labels.all(), entries[0].line), told(template, what));
    }
    check("x", "| line_format `{{ print nil }} {{ substr -1 1 .a }}`", expect![[r#"{a="b"} <nil> b"#]]);
}

#[test]
fn a_line_that_nothing_looks_at_is_not_formatted_for_a_count() {
    let logs = FakeLogs::default();
    logs.push(&Labels::from_pairs([("a", "b")]), Timestamp(1), "x", &[]);
    let count = |stages: &str, function: &str| {
        let text = format!("{function}({{a=\"b\"}} {stages} [1m])");
        let Ok(query_logql::Expr::Metric(metric)) = query_logql::parse(&text) else { panic!("{text}") };
        query_logql::evaluate(&metric, query_logql::Steps::instant(2), &logs, &QueryContext::default()).is_ok()
    };
    assert!(count("| line_format `{{ div 1 0 }}` | decolorize | drop c", "rate"));
    assert!(!count("| line_format `{{ div 1 0 }}` |= \"x\"", "rate"));
    assert!(!count("| line_format `{{ div 1 0 }}` | logfmt", "rate"));
    assert!(!count("| line_format `{{ div 1 0 }}`", "bytes_rate"), "the bytes are those of the line");
}

#[test]
fn details_go_with_their_error() {
    check("x", "| json | drop __error__", expect![[r#"{a="b"} x"#]]);
    check("x", "| json | drop __error_details__", expect![[r#"{__error__="JSONParserErr", a="b"} x"#]]);
}

#[test]
fn a_template_that_is_none_is_told_with_its_name() {
    check(
        "x",
        "| line_format \"{{.a\"",
        expect![[
            r#"parse error : stage '| line_format "{{.a"' : invalid line template: template: line:1: unclosed action"#
        ]],
    );
    check(
        "x",
        "| label_format c=\"{{f}}\"",
        expect![[
            r#"parse error : stage '| label_format c="{{f}}"' : invalid template for label 'c': template: label:1: function "f" not defined"#
        ]],
    );
}

#[test]
fn lines_without_bytes_are_a_sum_of_none() {
    let logs = FakeLogs::default();
    logs.push(&Labels::from_pairs([("a", "b")]), Timestamp(5_000_000_000), "", &[]);
    for (query, expected) in
        [("bytes_over_time({a=\"b\"}[10s])", Some(0.0)), ("bytes_over_time({a=\"b\"}[10s] offset 6s)", None)]
    {
        let Ok(Expr::Metric(metric)) = parse(query) else { panic!("{query} is a metric query") };
        let found = evaluate(&metric, Steps::instant(10_000_000_000), &logs, &QueryContext::default()).unwrap();
        let MetricResult::Series(series) = found else { panic!("{query} gives series") };
        assert_eq!(series.first().and_then(|one| one.values.first().copied().flatten()), expected, "{query}");
    }
}
