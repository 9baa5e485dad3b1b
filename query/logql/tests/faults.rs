//! What is told of queries that are no LogQL: what is met first, where, and which of several faults.
#![cfg(test)]

use expect_test::{Expect, expect};

#[track_caller]
fn check(query: &str, expected: Expect) {
    let told = match query_logql::parse(query) {
        Ok(expr) => expr.to_string(),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&told);
}

#[test]
fn what_comes_first_is_told_first() {
    check("oops({a=\"b\"}[1m", expect!["parse error at line 1, col 1: syntax error: unexpected IDENTIFIER"]);
    check("rate({a=\"b\"}[1m", expect!["parse error at line 0, col 13: missing closing ']' in duration"]);
    check("{a=} |= \"b", expect!["parse error at line 1, col 4: syntax error: unexpected }, expecting STRING"]);
    check("1p3", expect!["parse error at line 1, col 2: syntax error: unexpected IDENTIFIER"]);
    check("", expect!["parse error : syntax error: unexpected $end"]);
}

#[test]
fn a_token_that_was_looked_ahead_for_has_no_line() {
    check(
        "{a==\"b\"}",
        expect!["parse error at line 0, col 3: syntax error: unexpected ==, expecting = or =~ or !~ or !="],
    );
    check("\n{a=\"b\"}[1m]", expect!["parse error at line 0, col 8: syntax error: unexpected RANGE"]);
    check("rate({a=\"b\"}[2])", expect![[r#"parse error at line 0, col 13: not a valid duration string: "2""#]]);
}

#[test]
fn the_outermost_fault_is_told_when_the_rest_is_well_formed() {
    check(
        "topk(0, rate({a=\"b\"}[1m]) by (x))",
        expect!["parse error : invalid parameter (must be greater than 0) topk(0"],
    );
    check(
        "topk(0, rate({a=\"b\"}[1m]) by (x)",
        expect!["parse error at line 1, col 33: syntax error: unexpected $end"],
    );
    check("rate({a=~\".*\"}[1m]) by (x)", expect!["parse error : grouping not allowed for rate aggregation"]);
    check(
        "topk(0, rate({a=\"b\"}[1m])) + topk(1.5, rate({a=\"b\"}[1m]))",
        expect!["parse error : invalid parameter (must be greater than 0) topk(0"],
    );
    check(
        "label_replace(rate({a=~\".*\"}[1m]), \"a\", \"b\", \"c\", \"[\")",
        expect!["parse error : invalid regex in label_replace: error parsing regexp: missing closing ]: `[)$`"],
    );
}

#[test]
fn what_is_expected_is_told_where_little_is() {
    check(
        "rate(x)",
        expect!["parse error at line 1, col 6: syntax error: unexpected IDENTIFIER, expecting NUMBER or { or ("],
    );
    check(
        "quantile_over_time(0.5, x)",
        expect!["parse error at line 1, col 25: syntax error: unexpected IDENTIFIER, expecting { or ("],
    );
    check("topk(2", expect!["parse error at line 1, col 7: syntax error: unexpected $end"]);
    check("{a=\"b\"} | unwrap x", expect!["parse error at line 1, col 11: syntax error: unexpected unwrap"]);
    check(
        "rate({a=\"b\"} | unwrap)",
        expect![
            "parse error at line 1, col 22: syntax error: unexpected ), expecting IDENTIFIER or BYTES_CONV or DURATION_CONV or DURATION_SECONDS_CONV"
        ],
    );
    check(
        "{a=\"b\"} | x>1 or",
        expect!["parse error at line 1, col 17: syntax error: unexpected $end, expecting IDENTIFIER or ("],
    );
    check("sum by (x", expect!["parse error at line 1, col 10: syntax error: unexpected $end, expecting , or )"]);
}

#[test]
fn numbers_may_have_underscores_between_digits() {
    check("1_000", expect!["1000"]);
    check("{a=\"b\"} | x>1_0", expect![[r#"{a="b"} | x>10"#]]);
    check(
        "1_",
        expect![[
            r#"parse error : unable to parse literal as a float: strconv.ParseFloat: parsing "1_": invalid syntax"#
        ]],
    );
}

#[test]
fn an_operator_behind_an_operator_is_no_regular_expression() {
    check(
        "{a=\"b\"} | x=~\"a**\"",
        expect!["parse error : error parsing regexp: invalid nested repetition operator: `**`"],
    );
    check("{a=\"b\"} | x=~\"(a*)*\"", expect!["{a=\"b\"} | x=~`(a*)*`"]);
}
