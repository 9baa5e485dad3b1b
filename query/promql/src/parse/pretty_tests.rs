//! Expressions over several lines, as Prometheus breaks them.

use super::parse;

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.pretty().lines().collect::<Vec<_>>(), expected);
    assert_eq!(parse(&expr.pretty()), Ok(expr), "{text}");
}

#[test]
fn quotients_break_at_the_operator() {
    check(
        r#"sum by (job, instance, namespace) (rate(http_requests_total{job="api", code=~"5.."}[5m])) / sum by (job) (rate(http_requests_total[5m]))"#,
        &[
            r#"  sum by (job, instance, namespace) (rate(http_requests_total{code=~"5..",job="api"}[5m]))"#,
            "/",
            "  sum by (job) (rate(http_requests_total[5m]))",
        ],
    );
}

#[test]
fn arguments_are_on_lines_of_their_own() {
    check(
        r#"histogram_quantile(0.99, sum by (le, job, instance) (rate(http_request_duration_seconds_bucket{namespace="production"}[5m])))"#,
        &[
            "histogram_quantile(",
            "  0.99,",
            r#"  sum by (le, job, instance) (rate(http_request_duration_seconds_bucket{namespace="production"}[5m]))"#,
            ")",
        ],
    );
}

#[test]
fn parentheses_and_matching() {
    check(
        "(a_rather_long_metric_name_one + a_rather_long_metric_name_two + a_rather_long_metric_name_three) > bool on(a) group_left(b) c",
        &[
            "  (a_rather_long_metric_name_one + a_rather_long_metric_name_two + a_rather_long_metric_name_three)",
            "> bool on (a) group_left (b)",
            "  c",
        ],
    );
}

#[test]
fn parameters_of_aggregations() {
    check(
        r#"topk(10, sum without (instance, pod, container) (increase(container_cpu_usage_seconds_total{namespace="production"}[1h])))"#,
        &[
            "topk(",
            "  10,",
            "  sum without (instance, pod, container) (",
            r#"    increase(container_cpu_usage_seconds_total{namespace="production"}[1h])"#,
            "  )",
            ")",
        ],
    );
}

#[test]
fn a_sign_stays_with_its_operand() {
    check(
        r#"-sum(rate(a_rather_long_metric_name_one{label_name_one="label_value_one",label_name_two="label_value_two"}[5m]))"#,
        &[
            "-sum(",
            "  rate(",
            r#"    a_rather_long_metric_name_one{label_name_one="label_value_one",label_name_two="label_value_two"}[5m]"#,
            "  )",
            ")",
        ],
    );
}

#[test]
fn subqueries_end_in_their_range() {
    check(
        r#"max_over_time(sum by (job) (rate(a_rather_long_metric_name_one{label_name_one="label_value_one"}[5m]))[1h:5m] offset 1d)"#,
        &[
            "max_over_time(",
            r#"  sum by (job) (rate(a_rather_long_metric_name_one{label_name_one="label_value_one"}[5m]))[1h:5m] offset 1d"#,
            ")",
        ],
    );
}

#[test]
fn texts_are_arguments() {
    check(
        r#"label_replace(up{job="a-job-with-a-long-name"}, "destination_label", "$1", "source_label", "(.*)-suffix-that-is-long")"#,
        &[
            "label_replace(",
            r#"  up{job="a-job-with-a-long-name"},"#,
            r#"  "destination_label","#,
            r#"  "$1","#,
            r#"  "source_label","#,
            r#"  "(.*)-suffix-that-is-long""#,
            ")",
        ],
    );
}

#[test]
fn a_selector_is_not_broken() {
    check(
        r#"a_rather_long_metric_name_one{label_name_one="label_value_one",label_name_two="label_value_two",label_name_three="x"}"#,
        &[
            r#"a_rather_long_metric_name_one{label_name_one="label_value_one",label_name_three="x",label_name_two="label_value_two"}"#,
        ],
    );
}

#[test]
fn nested_matching_with_fill() {
    check(
        r#"vector(1) or on() (a_rather_long_metric_name_one{label_name_one="label_value_one"} * on(x) fill(0) label_name_two_long)"#,
        &[
            "  vector(1)",
            "or on ()",
            "  (",
            r#"      a_rather_long_metric_name_one{label_name_one="label_value_one"}"#,
            "    * on (x) fill (0)",
            "      label_name_two_long",
            "  )",
        ],
    );
}

#[test]
fn text_parameters() {
    check(
        r#"count_values("version_of_the_software_that_runs", a_rather_long_metric_name_one{label_name_one="label_value_one"} offset 5m)"#,
        &[
            "count_values(",
            r#"  "version_of_the_software_that_runs","#,
            r#"  a_rather_long_metric_name_one{label_name_one="label_value_one"} offset 5m"#,
            ")",
        ],
    );
}

#[test]
fn what_fits_stays() {
    check("sum(x) + sum(y)", &["sum(x) + sum(y)"]);
}

#[test]
fn a_subquery_that_fits_is_not_indented() {
    check(
        "sum(max_over_time(rate(short[5m])[1h:]) + a_rather_long_metric_name_one + a_rather_long_metric_name_two_of_two)",
        &[
            "sum(",
            "    max_over_time(rate(short[5m])[1h:]) + a_rather_long_metric_name_one",
            "  +",
            "    a_rather_long_metric_name_two_of_two",
            ")",
        ],
    );
}

#[test]
fn a_sign_before_parentheses() {
    check(
        "-(a_rather_long_metric_name_one + a_rather_long_metric_name_two + a_rather_long_metric_name_three_of_three + four)",
        &[
            "-(",
            "      a_rather_long_metric_name_one + a_rather_long_metric_name_two",
            "    +",
            "      a_rather_long_metric_name_three_of_three",
            "  +",
            "    four",
            ")",
        ],
    );
}

#[test]
fn only_long_sides_break() {
    check(
        "time() - 1 + clamp_max(a_rather_long_metric_name_one, scalar(a_rather_long_metric_name_two_that_is_a_scalar_no_more_than)) ^ 2",
        &[
            "  time() - 1",
            "+",
            "    clamp_max(",
            "      a_rather_long_metric_name_one,",
            "      scalar(a_rather_long_metric_name_two_that_is_a_scalar_no_more_than)",
            "    )",
            "  ^",
            "    2",
        ],
    );
}
