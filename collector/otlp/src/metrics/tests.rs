//! What a request becomes, series by series.

use std::convert::Infallible;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use model::{MetricMetadata, Sample, Timestamp, is_stale};

use super::{DeltaOptions, DeltaStates, Label, LabelLimits, Options, Sink, has_deltas, translate};
use crate::metrics_from_json;

#[derive(Default)]
struct Printer(String);

impl<'a> Sink<'a> for Printer {
    type Full = Infallible;

    fn series(&mut self, labels: &[Label<'a>], sample: Sample) -> Result<(), Infallible> {
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "sorted, no repeats: {labels:?}");
        assert!(labels.iter().all(|(_, value)| !value.is_empty()), "no empty values: {labels:?}");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let value = if is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
        writeln!(self.0, "{} {} @{}", labels.join(" "), value, sample.timestamp_ms).unwrap();
        Ok(())
    }

    fn metadata(&mut self, metadata: MetricMetadata) -> Result<(), Infallible> {
        let MetricMetadata { name, kind, help, unit } = metadata;
        writeln!(self.0, "# {name} {} {unit:?} {help:?}", kind.as_str()).unwrap();
        Ok(())
    }
}

/// Translates metrics, given in JSON without the braces around them, of one resource with these attributes.
fn run(resource: &str, metrics: &str, options: &Options, deltas: &mut DeltaStates) -> String {
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#
    );
    let request = metrics_from_json(body.as_bytes()).unwrap();
    let mut printer = Printer::default();
    let deltas = has_deltas(&request).then_some(deltas);
    let report = translate(&request, options, deltas, Timestamp(1), &mut printer).unwrap();
    for rejected in report.rejected.iter().chain(&report.beside) {
        writeln!(printer.0, "! {} {}: {}", rejected.count, rejected.reason, rejected.detail).unwrap();
    }
    assert!(report.accepted() <= report.points);
    printer.0
}

#[track_caller]
fn check(resource: &str, metrics: &str, expected: Expect) {
    let mut deltas = DeltaStates::new(DeltaOptions::default());
    expected.assert_eq(&run(resource, metrics, &Options::default(), &mut deltas));
}

const SERVICE: &str = r#"{"key":"service.name","value":{"stringValue":"cart"}},{"key":"service.namespace","value":{"stringValue":"shop"}},
    {"key":"service.instance.id","value":{"stringValue":"i-1"}},{"key":"host.name","value":{"stringValue":"h1"}}"#;

#[test]
fn a_gauge_gets_its_target() {
    let gauge = r#"{"name":"system.cpu.utilization","unit":"1","description":"Busy.","gauge":{"dataPoints":[
        {"timeUnixNano":"5000000","asDouble":0.5,"attributes":[{"key":"cpu.mode","value":{"stringValue":"user"}},
        {"key":"cpu","value":{"intValue":3}},{"key":"empty","value":{"stringValue":""}}]}]}}"#;
    check(
        SERVICE,
        gauge,
        expect![[r#"
            __name__=system_cpu_utilization_ratio cpu=3 cpu_mode=user instance=i-1 job=shop/cart 0.5 @5
            # system_cpu_utilization_ratio gauge "" "Busy."
            # target_info info "" "Target metadata"
            __name__=target_info host_name=h1 instance=i-1 job=shop/cart 1 @5
        "#]],
    );
}

#[test]
fn sums_are_counters_or_gauges() {
    let sum = |monotonic: bool, temporality: u8| {
        format!(
            r#"{{"name":"bytes.sent","unit":"By","sum":{{"aggregationTemporality":{temporality},"isMonotonic":{monotonic},
            "dataPoints":[{{"timeUnixNano":"5000000","asInt":"9"}},{{"timeUnixNano":"6000000","flags":1}}]}}}}"#
        )
    };
    check(
        "",
        &format!("{},{},{}", sum(true, 2), sum(false, 2), sum(true, 0)),
        expect![[r#"
            __name__=bytes_sent_total 9 @5
            __name__=bytes_sent_total stale @6
            # bytes_sent_total counter "bytes" ""
            __name__=bytes_sent 9 @5
            __name__=bytes_sent stale @6
            # bytes_sent gauge "bytes" ""
            ! 2 unspecified_temporality: metric "bytes_sent_total" says neither delta nor cumulative
        "#]],
    );
}

#[test]
fn a_histogram_becomes_classic_buckets() {
    let histogram = r#"{"name":"latency","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
        {"timeUnixNano":"5000000","count":"6","sum":1.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,1]},
        {"timeUnixNano":"6000000","count":"6","bucketCounts":[],"explicitBounds":[]},
        {"timeUnixNano":"7000000","flags":1,"bucketCounts":[0,0],"explicitBounds":[2]},
        {"timeUnixNano":"8000000","count":1,"bucketCounts":[1],"explicitBounds":[2]},
        {"timeUnixNano":"8000000","count":1,"bucketCounts":[1,0,0],"explicitBounds":[2,1]}]}}"#;
    check(
        "",
        histogram,
        expect![[r#"
            __name__=latency_seconds_bucket le=0.5 1 @5
            __name__=latency_seconds_bucket le=1 3 @5
            __name__=latency_seconds_bucket le=+Inf 6 @5
            __name__=latency_seconds_sum 1.5 @5
            __name__=latency_seconds_count 6 @5
            __name__=latency_seconds_bucket le=+Inf 6 @6
            __name__=latency_seconds_count 6 @6
            __name__=latency_seconds_bucket le=2 stale @7
            __name__=latency_seconds_bucket le=+Inf stale @7
            __name__=latency_seconds_count stale @7
            # latency_seconds histogram "seconds" ""
            ! 2 invalid_histogram: a point of "latency_seconds" has 1 buckets and 1 bounds
        "#]],
    );
}

#[test]
fn a_summary_becomes_quantiles() {
    let summary = r#"{"name":"latency","unit":"ms","summary":{"dataPoints":[{"timeUnixNano":"5000000","count":"6","sum":1.5,
        "quantileValues":[{"quantile":0.5,"value":1},{"quantile":0.99,"value":"NaN"}]}]}}"#;
    check(
        "",
        summary,
        expect![[r#"
            __name__=latency_milliseconds quantile=0.5 1 @5
            __name__=latency_milliseconds quantile=0.99 NaN @5
            __name__=latency_milliseconds_sum 1.5 @5
            __name__=latency_milliseconds_count 6 @5
            # latency_milliseconds summary "milliseconds" ""
        "#]],
    );
}

#[test]
fn what_cannot_be_taken_is_named() {
    let point = |rest: &str| format!(r#"{{"name":"m","gauge":{{"dataPoints":[{{{rest}}}]}}}}"#);
    let metrics = [
        r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":5},{}]}}"#
            .to_owned(),
        r#"{"name":"nothing"}"#.to_owned(),
        r#"{"name":"결제","gauge":{"dataPoints":[{"timeUnixNano":5,"asInt":1}]}}"#.to_owned(),
        point(r#""asInt":1"#),
        point(r#""timeUnixNano":5"#),
        point(r#""timeUnixNano":"18446744073709551615","asInt":1"#),
        point(r#""timeUnixNano":5,"asInt":1,"attributes":[{"key":"","value":{"intValue":1}}]"#),
    ];
    check(
        "",
        &metrics.join(","),
        expect![[r#"
            ! 2 unsupported_exponential_histogram: metric "e" is an exponential histogram, which is not supported yet
            ! 1 no_data: metric "nothing" has no data of a known kind
            ! 1 empty_metric_name: a metric has no name that can be kept
            ! 1 missing_timestamp: a point of "m" has no timestamp
            ! 1 no_value: a point of "m" has neither a value nor the flag that says so
            ! 1 timestamp_out_of_range: a point of "m" has the time 18446744073709551615 ns, after the year 2262
            ! 1 empty_label_name: an attribute has an empty name
        "#]],
    );
}

#[test]
fn names_that_meet_are_joined_and_the_target_wins() {
    let gauge = r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"5000000","asInt":1,"attributes":[
        {"key":"a_b","value":{"stringValue":"2"}},{"key":"a.b","value":{"stringValue":"1"}},
        {"key":"job","value":{"stringValue":"mine"}},{"key":"__name__","value":{"stringValue":"x"}}]}]}}"#;
    check(
        r#"{"key":"service.name","value":{"stringValue":"cart"}}"#,
        gauge,
        expect![[r#"
            __name__=m a_b=1;2 job=cart 1 @5
            # m gauge "" ""
        "#]],
    );
}

#[test]
fn promoted_attributes_and_limits_apply() {
    let options = Options {
        promoted_resource_attributes: vec!["host.name".to_owned()],
        limits: LabelLimits { labels_max: 4, name_bytes_max: 9, value_bytes_max: 10 },
        ..Options::default()
    };
    let point = |attributes: &str| {
        let attributes = attributes.split_whitespace().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
        });
        let attributes = attributes.collect::<Vec<_>>().join(",");
        format!(r#"{{"timeUnixNano":"5000000","asInt":1,"attributes":[{attributes}]}}"#)
    };
    let points = [point(""), point("host_name=mine"), point("a=1 b=2"), point("abcdefghij=1"), point("a=12345678901")];
    let gauge = format!(r#"{{"name":"m","gauge":{{"dataPoints":[{}]}}}}"#, points.join(","));
    let mut deltas = DeltaStates::new(DeltaOptions::default());
    expect![[r#"
        __name__=m host_name=h1 instance=i-1 job=shop/cart 1 @5
        __name__=m host_name=mine instance=i-1 job=shop/cart 1 @5
        # m gauge "" ""
        ! 1 too_many_labels: a series of "m" has 5 labels, the limit is 4
        ! 1 label_name_too_long: a label name of "m" has 10 bytes, the limit is 9
        ! 1 label_value_too_long: label "a" of "m" has a value of 11 bytes, the limit is 10
        ! 1 label_value_too_long: a metric's name has 11 bytes, the limit is 10
    "#]]
    .assert_eq(&run(SERVICE, &gauge, &options, &mut deltas));
}

#[test]
fn scopes_become_labels() {
    let body = br#"{"resourceMetrics":[{"scopeMetrics":[{"schemaUrl":"https://s","scope":{"name":"lib","version":"1.2",
        "attributes":[{"key":"a.b","value":{"intValue":1}}]},"metrics":[{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":5000000,"asInt":1}]}}]}]}]}"#;
    let request = metrics_from_json(body).unwrap();
    let mut printer = Printer::default();
    translate(&request, &Options::default(), None, Timestamp(1), &mut printer).unwrap();
    expect![[r#"
        __name__=m otel_scope_a_b=1 otel_scope_name=lib otel_scope_schema_url=https://s otel_scope_version=1.2 1 @5
        # m gauge "" ""
    "#]]
    .assert_eq(&printer.0);
}

#[test]
fn deltas_add_up_over_requests() {
    let sum = |start: u64, end: u64, value: i64| {
        format!(
            r#"{{"name":"n","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{{"startTimeUnixNano":{start}000000,
            "timeUnixNano":{end}000000,"asInt":{value}}}]}}}}"#
        )
    };
    let mut deltas = DeltaStates::new(DeltaOptions::default());
    let mut out = String::new();
    for (start, end, value) in [(1, 5, 3), (5, 9, 4), (5, 9, 4), (8, 10, 1)] {
        out += &run("", &sum(start, end, value), &Options::default(), &mut deltas);
    }
    expect![[r#"
        __name__=n_total 3 @5
        # n_total counter "" ""
        __name__=n_total 7 @9
        # n_total counter "" ""
        ! 1 delta_out_of_order: a delta of n_total ends at 9000000 ns, one up to 9000000 ns was added already
        ! 1 delta_overlap: a delta of n_total starts at 8000000 ns, inside one up to 9000000 ns
    "#]]
    .assert_eq(&out);
}

#[test]
fn target_info_covers_a_long_batch_without_gaps_and_without_flooding() {
    let gauge = |last: u64| {
        format!(
            r#"{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":1000000,"asInt":1}},{{"timeUnixNano":"{last}000000","asInt":1}}]}}}}"#
        )
    };
    let mut deltas = DeltaStates::new(DeltaOptions::default());
    let mut infos = |last| {
        let text = run(SERVICE, &gauge(last), &Options::default(), &mut deltas);
        let infos = text.lines().filter(|line| line.starts_with("__name__=target_info"));
        infos.map(|line| line.rsplit('@').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(infos(400_001), ["1", "150001", "300001", "400001"]);
    assert_eq!(infos(4_102_444_800_000), ["4102444800000"]);
}
