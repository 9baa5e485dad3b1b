//! Pages, good and bad.

use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check_as(dialect: Dialect, page: &str, expected: Expect) {
    let text = match parse(page, dialect) {
        Ok(families) => {
            let mut text = String::new();
            for family in families {
                text.push_str(&format!("{} {} {:?}\n", family.name, family.kind.as_str(), family.help));
                for Sample { name, labels, value, timestamp_ms, .. } in family.samples {
                    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
                    let at = timestamp_ms.map_or(String::new(), |at| format!(" @{at}"));
                    text.push_str(&format!("  {name}{{{}}} {value}{at}\n", labels.join(",")));
                }
            }
            text
        }
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&text);
}

#[track_caller]
fn check(page: &str, expected: Expect) {
    check_as(Dialect::Text, page, expected);
}

#[test]
fn families_hold_their_samples() {
    check(
        "# HELP http_requests_total The \\\\ total\\nnumber.\n# TYPE http_requests_total counter\n\
         http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
         http_requests_total{method=\"post\",code=\"400\",} 3\n\n# just a comment\nup 1\r\n",
        expect![[r#"
            http_requests_total counter "The \\ total\nnumber."
              http_requests_total{code="200",method="post"} 1027 @1395066363000
              http_requests_total{code="400",method="post"} 3
            up unknown ""
              up{} 1
        "#]],
    );
}

#[test]
fn histograms_and_summaries_are_one_family_each() {
    check(
        "# TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\n\
         # TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1e3\ns_count +Inf\nh_other 1\n",
        expect![[r#"
            h histogram ""
              h_bucket{le="0.1"} 1
              h_bucket{le="+Inf"} 2
              h_sum{} 0.5
              h_count{} 2
            s summary ""
              s{quantile="0.5"} NaN
              s_sum{} 1000
              s_count{} inf
            h_other unknown ""
              h_other{} 1
        "#]],
    );
}

#[test]
fn escapes_blanks_and_quoted_names() {
    check(
        "  a \t{ b = \"x\\\"y\\\\z\\n\\d\" , c=\"\" } -0.5\t17\n{\"my.name\", \"my.label\"=\"1\"} 2\n{__name__=\"n\"} 3\n",
        expect![[r#"
            a unknown ""
              a{b="x\"y\\z\n\\d"} -0.5 @17
            my.name unknown ""
              my.name{my.label="1"} 2
            n unknown ""
              n{} 3
        "#]],
    );
}

#[test]
fn openmetrics_has_seconds_exemplars_and_an_end() {
    check_as(
        Dialect::OpenMetrics,
        "# TYPE r counter\n# UNIT r seconds\nr_total{a=\"b\"} 5 1.5 # {trace_id=\"x\"} 1 2\nr_created{a=\"b\"} 1\n\
         # TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n",
        expect![[r#"
            r counter ""
              r_total{a="b"} 5 @1500
              r_created{a="b"} 1
            i info ""
              i_info{v="1"} 1
        "#]],
    );
    check_as(
        Dialect::OpenMetrics,
        "a 1\n",
        expect![[r#"
        line 2: data does not end with # EOF
    "#]],
    );
    check_as(
        Dialect::OpenMetrics,
        "# EOF\na 1\n",
        expect![[r#"
        line 2: unexpected data after # EOF
    "#]],
    );
}

#[test]
fn bad_lines_are_named() {
    check(
        "ok 1\na{b=\"c\" 1\n",
        expect![[r#"
            line 2: expected ',' or '}', got "1"
        "#]],
    );
    check(
        "a{b=\"c} 1\n",
        expect![[r#"
        line 1: a quote is not closed
    "#]],
    );
    check(
        "a{b=\"1\",b=\"2\"} 1\n",
        expect![[r#"
            line 1: label name "b" is not unique
        "#]],
    );
    check(
        "a one\n",
        expect![[r#"
            line 1: expected value, got "one"
        "#]],
    );
    check(
        "a\n",
        expect![[r#"
            line 1: expected value, got ""
        "#]],
    );
    check(
        "1a 1\n",
        expect![[r#"
            line 1: expected metric name, got "1a 1"
        "#]],
    );
    check(
        "a 1 2 3\n",
        expect![[r#"
        line 1: "3" follows a complete sample
    "#]],
    );
    check(
        "a 1 1.5\n",
        expect![[r#"
            line 1: expected timestamp, got "1.5"
        "#]],
    );
    check(
        "a{\"b\"} 1\n",
        expect![[r#"
        line 1: '=' is missing after label "b"
    "#]],
    );
    check(
        "# TYPE a gouge\n",
        expect![[r#"
            line 1: invalid metric type "gouge"
        "#]],
    );
    check(
        "a{=\"x\"} 1\n",
        expect![[r#"
            line 1: expected label name, got "=\"x\"} 1"
        "#]],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics(page in r#"([a-z_:{}",=\\ #0-9.+\-\n\t가]|TYPE|HELP|NaN|# )*"#) {
        for dialect in [Dialect::Text, Dialect::OpenMetrics] {
            drop(parse(&page, dialect));
        }
    }
}

#[track_caller]
fn check_line(line: &str, expected: Expect) {
    expected.assert_eq(&format!("{:?}", parse_line(line, Dialect::OpenMetrics)));
}

#[test]
fn lines_stand_alone() {
    check_line(" \t", expect!["Ok(Blank)"]);
    check_line("#EOF", expect!["Ok(Comment)"]);
    check_line("# EOF", expect!["Ok(End)"]);
    check_line("# UNIT r_seconds seconds", expect![[r#"Ok(Unit("r_seconds", "seconds"))"#]]);
    check_line("# TYPE r untyped", expect![[r#"Ok(Type("r", Unknown))"#]]);
    check_line("# TYPE r count", expect![[r#"Err("invalid metric type \"count\"")"#]]);
    check_line("# HELP \"a b\" c\\nd", expect![[r#"Ok(Help("a b", "c\nd"))"#]]);
    assert_eq!(parse_line("# UNIT", Dialect::Text), Ok(Line::Comment));
}

#[test]
fn exemplars_are_read() {
    check_line(
        "b{le=\"1\"} 2 1.5 # {trace_id=\"x\",a=\"\"} 0.5 1.25",
        expect![[
            r#"Ok(Sample(Sample { name: "b", labels: [("le", "1")], value: 2.0, timestamp_ms: Some(1500), exemplar: Some(Exemplar { labels: [("trace_id", "x")], value: 0.5, timestamp_ms: Some(1250) }) }))"#
        ]],
    );
    check_line(
        "b 2 # {} 1",
        expect![[
            r#"Ok(Sample(Sample { name: "b", labels: [], value: 2.0, timestamp_ms: None, exemplar: Some(Exemplar { labels: [], value: 1.0, timestamp_ms: None }) }))"#
        ]],
    );
    check_line("b 2 # x", expect![[r#"Err("expected '{' of an exemplar's labels, got \"x\"")"#]]);
    check_line("b 2 # {a=\"1\"}", expect![[r#"Err("expected value, got \"\"")"#]]);
    check_line("b 2 # {a=\"1\"} 1 x", expect![[r#"Err("expected timestamp, got \"x\"")"#]]);
    check_line("b 2 # {\"a\"} 1", expect![[r#"Err("an exemplar has no name, but \"a\" is given")"#]]);
    check_line("b 2 # {} 1 2 # {} 1", expect![[r##"Err("\"# {} 1\" follows a complete sample")"##]]);
}
