//! Queries laid out for readers.

use expect_test::{Expect, expect};

use super::layout;

#[track_caller]
fn check(query: &str, expected: Expect) {
    let expr = crate::parse(query).unwrap();
    let text = layout(&expr);
    // It is still the same query.
    assert_eq!(crate::parse(&text).unwrap().to_string(), expr.to_string());
    expected.assert_eq(&text);
}

const SHOP: &str = r#"{cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}"#;

#[test]
fn short_queries_stay_one_line() {
    check(r#"{app="x"}|="a"|json"#, expect![[r#"{app="x"} |= "a" | json"#]]);
    check(r#"sum by (a,b) (rate({app="x"}[5m]))>1"#, expect![[r#"(sum by (a,b)(rate({app="x"}[5m])) > 1)"#]]);
    // A selector is never broken.
    check(
        &format!(r#"{{a="{}"}}"#, "v".repeat(200)),
        expect![[
            r#"{a="vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"}"#
        ]],
    );
}

#[test]
fn the_width_is_counted_in_bytes_of_the_canonical_form() {
    let of = |value: &str| format!(r#"{{app="{}"}} |= "{value}""#, "a".repeat(79));
    check(
        &of("fghijkl"),
        expect![[
            r#"{app="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} |= "fghijkl""#
        ]],
    );
    check(
        &of("fghijklm"),
        expect![[r#"
            {app="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
              |= "fghijklm""#]],
    );
    check(
        &of("äöüx"),
        expect![[
            r#"{app="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} |= "äöüx""#
        ]],
    );
}

#[test]
fn pipelines_take_a_line_for_each_stage() {
    check(
        &format!(
            r#"{SHOP} |= "timeout" or "refused" != "probe" | decolorize | logfmt | level="error" and ms>5 | drop a,b |~ "c""#
        ),
        expect![[r#"
            {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}
              |= "timeout" or "refused" != "probe"
            | decolorize
              | logfmt
              | ( level="error" , ms>5 )
              | drop a,b
              |~ "c""#]],
    );
    check(
        &format!(
            r#"{SHOP} |= "first needle of the haystack" |= "second needle of the haystack" |= "third needle of it" |= ip("10.0.0.0/8") or "x""#
        ),
        expect![[r#"
            {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}
              |= "first needle of the haystack" |= "second needle of the haystack" |= "third needle of it"
              |= ip("10.0.0.0/8") or "x""#]],
    );
}

#[test]
fn functions_over_windows_are_broken_at_their_arguments() {
    check(
        &format!(r#"rate({SHOP} |= "timeout" | json | level="warn" [5m] offset 90s)"#),
        expect![[r#"
        rate(
          {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}
            |= "timeout"
            | json
            | level="warn" [5m] offset 1m30s
        )"#]],
    );
    check(
        &format!(r#"rate({SHOP} |= "timeout" [5m] offset -1h30m)"#),
        expect![[r#"
        rate(
          {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"} |= "timeout" [5m] offset -1h30m
        )"#]],
    );
    check(
        &format!(r#"rate({SHOP} |= "timeout" [5m] offset 10us)"#),
        expect![[r#"
        rate(
          {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"} |= "timeout" [5m] offset 10µs
        )"#]],
    );
    check(
        &format!(
            r#"quantile_over_time(0.95, {SHOP} | logfmt | unwrap duration(took) | __error__="" | ok="yes" [1h]) by (path, method)"#
        ),
        expect![[r#"
            quantile_over_time(
              0.95,
              {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"} | logfmt
                | unwrap duration(took)
                | __error__=""
                | ok="yes" [1h]
            ) by (path, method)"#]],
    );
    check(
        &format!(r#"max_over_time({SHOP} | json | unwrap bytes(size) | __error__="" [1h]) without ()"#),
        expect![[r#"
            max_over_time(
              {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"} | json
                | unwrap bytes(size)
                | __error__="" [1h]
            ) without ()"#]],
    );
}

#[test]
fn aggregations_and_label_replace_are_broken_at_their_arguments() {
    check(
        &format!(r#"topk(5, sum by (path, code) (rate({SHOP} | json | code="500" [5m])))"#),
        expect![[r#"
        topk(
          5,
          sum by (path, code)(
            rate(
              {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}
                | json
                | code="500" [5m]
            )
          )
        )"#]],
    );
    check(
        &format!(r#"sum without () (count_over_time({SHOP} |= "x" [5m]))"#),
        expect![[r#"
        sum without ()(
          count_over_time(
            {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"} |= "x" [5m]
          )
        )"#]],
    );
    check(
        &format!(r#"label_replace(rate({SHOP}[5m]), "to", "$1-\"x\"", "from", "(.*)")"#),
        expect![[r#"
        label_replace(
          rate({cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}[5m]),
          "to",
          "$1-\"x\"",
          "from",
          "(.*)"
        )"#]],
    );
}

#[test]
fn operators_stand_between_their_sides() {
    check(
        &format!(
            r#"sum(rate({SHOP} |= "error" [5m])) / on (pod, zone) group_left (node, rack) sum(rate({SHOP}[5m])) * 100 > bool 5"#
        ),
        expect![[r#"
                  sum(
                    rate(
                      {cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"} |= "error" [5m]
                    )
                  )
                / on (pod, zone) group_left (node, rack)
                  sum(rate({cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}[5m]))
              *
                100
            > bool
              5"#]],
    );
    check(
        &format!(r#"rate({SHOP}[5m]) unless ignoring (a, b) vector(1)"#),
        expect![[r#"
          rate({cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}[5m])
        unless ignoring (a, b) 
          vector(1.000000)"#]],
    );
    check(
        &format!(r#"rate({SHOP}[5m]) + on () vector(1)"#),
        expect![[r#"
          rate({cluster="eu-central-1-blue", namespace="web-shop", container="payment-gateway-api"}[5m])
        + on () 
          vector(1.000000)"#]],
    );
}
