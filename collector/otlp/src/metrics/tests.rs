//! What a request becomes, series by series.

use std::convert::Infallible;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use model::{Exemplar, MetricMetadata, Timestamp, is_stale};
use prost::Message as _;

use super::{
    DeltaOptions, DeltaStates, Label, LabelLimits, Options, Point, PointValue, Promoted, Sink, Strategy, translate,
};
use crate::metrics_from_json;

#[derive(Default)]
struct Printer(String);

impl<'a> Sink<'a> for Printer {
    type Full = Infallible;

    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Exemplar>) -> Result<(), Infallible> {
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "sorted, no repeats: {labels:?}");
        assert!(labels.iter().all(|(_, value)| !value.is_empty()), "no empty values: {labels:?}");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let value = match &point.value {
            PointValue::Number(number) if is_stale(*number) => "stale".to_owned(),
            PointValue::Number(number) => number.to_string(),
            PointValue::Histogram(histogram) if histogram.is_stale() => format!("stale histogram {}", histogram.schema),
            PointValue::Histogram(histogram) => format!("schema {} {histogram}", histogram.schema),
        };
        write!(self.0, "{} {value} @{}", labels.join(" "), point.timestamp_ms).unwrap();
        if point.start_ms != 0 {
            write!(self.0, " since {}", point.start_ms).unwrap();
        }
        for Exemplar { labels, sample } in exemplars {
            write!(self.0, " # {labels} {} @{}", sample.value, sample.timestamp_ms).unwrap();
        }
        writeln!(self.0).unwrap();
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
    let body = metrics_from_json(body.as_bytes()).unwrap().encode_to_vec();
    let mut printer = Printer::default();
    let report = translate(&body, options, deltas, Timestamp(1), &mut printer).unwrap();
    for rejected in report.rejected.iter().chain(&report.beside) {
        writeln!(printer.0, "! {} {}: {}", rejected.count, rejected.reason, rejected.detail).unwrap();
    }
    assert!(report.accepted() <= report.points);
    printer.0
}

#[track_caller]
fn check(resource: &str, metrics: &str, expected: Expect) {
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
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
            # target_info gauge "" "Target metadata"
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
        r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":5,"scale":-5},{}]}}"#
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
            ! 1 histogram_scale_too_low: a point of "e" has the scale -5, the least is -4
            ! 2 missing_timestamp: a point of "e" has no timestamp
            ! 1 no_data: metric "nothing" has no data of a known kind
            ! 1 empty_metric_name: a metric has no name that can be kept
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
        promoted: Promoted::Only(vec!["host.name".to_owned()]),
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
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
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
    let body = metrics_from_json(body).unwrap().encode_to_vec();
    let mut printer = Printer::default();
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
    translate(&body, &Options::default(), &mut deltas, Timestamp(1), &mut printer).unwrap();
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
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
    let mut out = String::new();
    for (start, end, value) in [(1, 5, 3), (5, 9, 4), (5, 9, 4), (8, 10, 1)] {
        out += &run("", &sum(start, end, value), &Options::default(), &mut deltas);
    }
    expect![[r#"
        __name__=n_total 3 @5 since 1
        # n_total counter "" ""
        __name__=n_total 7 @9 since 1
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
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
    let mut infos = |last| {
        let text = run(SERVICE, &gauge(last), &Options::default(), &mut deltas);
        let infos = text.lines().filter(|line| line.starts_with("__name__=target_info"));
        infos.map(|line| line.rsplit('@').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(infos(400_001), ["1", "150001", "300001", "400001"]);
    assert_eq!(infos(4_102_444_800_000), ["4102444800000"]);
}

/// Translates with these options, of a resource that names its service.
#[track_caller]
fn check_with(options: &Options, metrics: &str, expected: Expect) {
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
    expected.assert_eq(&run(SERVICE, metrics, options, &mut deltas));
}

#[test]
fn exponential_histograms_become_native_ones() {
    let point = |rest: &str| {
        format!(r#"{{"startTimeUnixNano":"1000000","timeUnixNano":"5000000","zeroCount":"2","min":-9,"max":9,{rest}}}"#)
    };
    let points = [
        point(
            r#""scale":1,"count":"9","sum":-1.5,"positive":{"offset":-1,"bucketCounts":["3","0","1"]},"negative":{"offset":2,"bucketCounts":[3]}"#,
        ),
        // 2^10 buckets in a power of two are too many: four become one, and the first of them is cut.
        point(r#""scale":10,"count":"8","positive":{"offset":-2,"bucketCounts":[1,1,1,1,1,1]}"#),
        point(r#""scale":0,"count":"3","sum":7,"zeroThreshold":0.25,"positive":{"offset":3,"bucketCounts":[1]}"#),
        point(r#""scale":0,"count":"4","positive":{"offset":3,"bucketCounts":[1]}"#),
        point(r#""scale":-5,"count":"2""#),
        point(r#""scale":0,"count":"3","positive":{"offset":2147483647,"bucketCounts":[1]}"#),
        r#"{"timeUnixNano":"6000000","flags":1}"#.to_owned(),
    ];
    check(
        "",
        &format!(
            r#"{{"name":"latency","unit":"s","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{}]}}}}"#,
            points.join(",")
        ),
        expect![[r#"
            __name__=latency_seconds schema 1 {count:9, sum:-1.5, [-2.82842712474619,-2):3, [-1e-128,1e-128]:2, (0.7071067811865475,1]:3, (1.414213562373095,2]:1} @5 since 1
            __name__=latency_seconds schema 8 {count:8, sum:0, [-1e-128,1e-128]:2, (0.9972960560854698,1]:2, (1,1.0027112750502025]:4} @5 since 1
            __name__=latency_seconds schema 0 {count:3, sum:7, [-0.25,0.25]:2, (8,16]:1} @5 since 1
            __name__=latency_seconds stale histogram 0 @6
            # latency_seconds histogram "seconds" ""
            ! 2 invalid_histogram: a point of "latency_seconds" has 3 observations in its buckets and 4 in all
            ! 1 histogram_scale_too_low: a point of "latency_seconds" has the scale -5, the least is -4
        "#]],
    );
}

#[test]
fn explicit_histograms_become_native_ones_when_asked_to() {
    let options = Options { custom_buckets: true, ..Options::default() };
    let histogram = r#"{"name":"latency","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
        {"startTimeUnixNano":"1000000","timeUnixNano":"5000000","count":"6","sum":1.5,"bucketCounts":["1","0","5"],"explicitBounds":[0.5,1],
         "exemplars":[{"timeUnixNano":"4000000","asDouble":0.7,"traceId":"0102030405060708090a0b0c0d0e0f10"}]},
        {"timeUnixNano":"6000000","count":"6","sum":1},
        {"timeUnixNano":"7000000","count":"6","bucketCounts":["1","0","4"],"explicitBounds":[0.5,1]},
        {"timeUnixNano":"8000000","flags":1}]}}"#;
    check_with(
        &options,
        histogram,
        expect![[r#"
        __name__=latency_seconds instance=i-1 job=shop/cart schema -53 {count:6, sum:1.5, [-Inf,0.5]:1, (1,+Inf]:5} @5 since 1 # {trace_id="0102030405060708090a0b0c0d0e0f10"} 0.7 @4
        __name__=latency_seconds instance=i-1 job=shop/cart schema -53 {count:6, sum:1, [-Inf,+Inf]:6} @6
        __name__=latency_seconds instance=i-1 job=shop/cart stale histogram -53 @8
        # latency_seconds histogram "seconds" ""
        # target_info gauge "" "Target metadata"
        __name__=target_info host_name=h1 instance=i-1 job=shop/cart 1 @5
        __name__=target_info host_name=h1 instance=i-1 job=shop/cart 1 @8
        ! 1 invalid_histogram: a point of "latency_seconds" has 5 observations in its buckets and 6 in all
    "#]],
    );
}

#[test]
fn exemplars_stay_with_their_series() {
    let exemplar = |value: f64, rest: &str| format!(r#"{{"timeUnixNano":"4000000","asDouble":{value}{rest}}}"#);
    let ids = r#","traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708""#;
    let attribute =
        |value: &str| format!(r#","filteredAttributes":[{{"key":"http.route","value":{{"stringValue":"{value}"}}}}]"#);
    let sum = [
        exemplar(1.0, &format!("{ids}{}", attribute("/a"))),
        exemplar(2.0, &format!("{ids}{}", attribute(&"x".repeat(80)))),
        exemplar(3.0, &attribute(&"결".repeat(118))),
        exemplar(4.0, &attribute(&"결".repeat(119))),
        r#"{"asInt":"5","traceId":"0000000000000000","spanId":"0000000000000000"}"#.to_owned(),
        r#"{"timeUnixNano":"4000000"}"#.to_owned(),
    ];
    let histogram = [exemplar(0.2, ""), exemplar(0.5, ""), exemplar(0.6, ids), exemplar(7.0, "")];
    let metrics = format!(
        r#"{{"name":"n","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{"timeUnixNano":"5000000","asInt":"9","exemplars":[{}]}}]}}}},
           {{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"5000000","count":"6","sum":1.5,
             "bucketCounts":["1","2","3"],"explicitBounds":[0.5,1],"exemplars":[{}]}}]}}}}"#,
        sum.join(","),
        histogram.join(",")
    );
    check(
        "",
        &metrics,
        expect![[r#"
        __name__=n_total 9 @5 # {http.route="/a", span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"} 1 @4 # {span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"} 2 @4 # {http.route="결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결결"} 3 @4 # {} 4 @4 # {} 5 @5
        # n_total counter "" ""
        __name__=h_bucket le=0.5 1 @5 # {} 0.2 @4 # {} 0.5 @4
        __name__=h_bucket le=1 3 @5 # {span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"} 0.6 @4
        __name__=h_bucket le=+Inf 6 @5 # {} 7 @4
        __name__=h_sum 1.5 @5
        __name__=h_count 6 @5
        # h histogram "" ""
        ! 1 exemplar_no_value: an exemplar has no value
    "#]],
    );
}

#[test]
fn start_times_are_kept_where_they_can_be() {
    let sum = r#"{"name":"n","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
        {"startTimeUnixNano":"1999999","timeUnixNano":"5000000","asInt":"9"},
        {"startTimeUnixNano":"6000000","timeUnixNano":"5000000","asInt":"9"},
        {"timeUnixNano":"5000000","asInt":"9"}]}},
        {"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"startTimeUnixNano":"2000000","timeUnixNano":"5000000","count":"1"}]}}"#;
    check(
        "",
        sum,
        expect![[r#"
        __name__=n_total 9 @5 since 1
        __name__=n_total 9 @5
        __name__=n_total 9 @5
        # n_total counter "" ""
        __name__=h_bucket le=+Inf 1 @5 since 2
        __name__=h_count 1 @5 since 2
        # h histogram "" ""
    "#]],
    );
}

#[test]
fn each_strategy_names_in_its_way() {
    let metrics = r#"{"name":"http.server.duration","unit":"ms","gauge":{"dataPoints":[{"timeUnixNano":"5000000","asInt":"9",
        "attributes":[{"key":"http.route","value":{"stringValue":"/"}},{"key":"_a","value":{"intValue":1}}]}]}}"#;
    let out = Strategy::ALL.map(|strategy| {
        let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
        format!("{strategy:?}\n{}", run(SERVICE, metrics, &Options { strategy, ..Options::default() }, &mut deltas))
    });
    expect![[r#"
        UnderscoreEscapingWithSuffixes
        __name__=http_server_duration_milliseconds http_route=/ instance=i-1 job=shop/cart key_a=1 9 @5
        # http_server_duration_milliseconds gauge "milliseconds" ""
        # target_info gauge "" "Target metadata"
        __name__=target_info host_name=h1 instance=i-1 job=shop/cart 1 @5
        UnderscoreEscapingWithoutSuffixes
        __name__=http_server_duration http_route=/ instance=i-1 job=shop/cart key_a=1 9 @5
        # http_server_duration gauge "milliseconds" ""
        # target_info gauge "" "Target metadata"
        __name__=target_info host_name=h1 instance=i-1 job=shop/cart 1 @5
        NoUtf8EscapingWithSuffixes
        __name__=http.server.duration_milliseconds _a=1 http.route=/ instance=i-1 job=shop/cart 9 @5
        # http.server.duration_milliseconds gauge "milliseconds" ""
        # target_info gauge "" "Target metadata"
        __name__=target_info host.name=h1 instance=i-1 job=shop/cart 1 @5
        NoTranslation
        __name__=http.server.duration _a=1 http.route=/ instance=i-1 job=shop/cart 9 @5
        # http.server.duration gauge "milliseconds" ""
        # target_info gauge "" "Target metadata"
        __name__=target_info host.name=h1 instance=i-1 job=shop/cart 1 @5
    "#]]
    .assert_eq(&out.concat());
}

#[test]
fn resource_attributes_can_all_be_promoted_and_identifying_ones_kept() {
    let options = Options {
        promoted: Promoted::AllBut(vec!["service.namespace".to_owned()]),
        keep_identifying: true,
        label_keep_underscores: false,
        ..Options::default()
    };
    let gauge = r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"5000000","asInt":1,
        "attributes":[{"key":"host.name","value":{"stringValue":"mine"}},{"key":"a..b","value":{"stringValue":"1"}}]}]}}"#;
    check_with(
        &options,
        gauge,
        expect![[r#"
        __name__=m a_b=1 host_name=mine instance=i-1 job=shop/cart service_instance_id=i-1 service_name=cart 1 @5
        # m gauge "" ""
        # target_info gauge "" "Target metadata"
        __name__=target_info host_name=h1 instance=i-1 job=shop/cart service_instance_id=i-1 service_name=cart service_namespace=shop 1 @5
    "#]],
    );
}

#[test]
fn native_deltas_add_up() {
    let delta = |start: u64, end: u64, flags: u8| {
        format!(
            r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[{{"startTimeUnixNano":"{start}000000",
            "timeUnixNano":"{end}000000","flags":{flags},"count":2,"sum":3,"scale":0,"positive":{{"bucketCounts":[2]}}}}]}}}}"#
        )
    };
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
    let mut out = String::new();
    for (start, end, flags) in [(1, 5, 0), (5, 9, 0), (9, 10, 1), (10, 12, 0)] {
        out += &run("", &delta(start, end, flags), &Options::default(), &mut deltas);
    }
    expect![[r#"
        __name__=e schema 0 {count:2, sum:3, (1,2]:2} @5 since 1
        # e histogram "" ""
        __name__=e schema 0 {count:4, sum:6, (1,2]:4} @9 since 1
        # e histogram "" ""
        __name__=e stale histogram 0 @10 since 9
        # e histogram "" ""
        __name__=e schema 0 {count:2, sum:3, (1,2]:2} @12 since 10
        # e histogram "" ""
    "#]]
    .assert_eq(&out);
}

/// A length-delimited field.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

#[test]
fn text_that_is_no_text_costs_only_what_it_names() {
    let attribute = |key: &[u8], value: &[u8]| [field(1, key), field(2, &field(1, value))].concat();
    let point = |attributes: Vec<u8>| {
        let time = [&[0x19][..], &5_000_000_u64.to_le_bytes(), &[0x21], &1.5_f64.to_le_bytes()].concat();
        field(1, &[if attributes.is_empty() { attributes } else { field(7, &attributes) }, time].concat())
    };
    let gauge = |name: &[u8], points: Vec<u8>| field(2, &[field(1, name), field(5, &points)].concat());
    let good = gauge(b"good", point(Vec::new()));
    let mixed = gauge(b"mixed", [point(attribute(b"a", b"\xff")), point(attribute(b"a", b"b"))].concat());
    let bad = gauge(b"b\xffd", [point(Vec::new()), point(Vec::new())].concat());
    let help = field(2, &[field(1, b"help"), field(2, b"\xff"), field(5, &point(Vec::new()))].concat());
    let scopes = field(2, &[mixed, bad, help, good.clone()].concat());
    let bad_scope = field(2, &[field(1, &field(1, b"\xfe")), good.clone()].concat());
    let bad_target = [field(1, &field(1, &attribute(b"service.name", b"\xfd"))), field(2, &good)].concat();
    let body = [field(1, &[scopes, bad_scope].concat()), field(1, &bad_target)].concat();
    let mut printer = Printer::default();
    let mut deltas = DeltaStates::new(DeltaOptions::default(), None);
    let report = translate(&body, &Options::default(), &mut deltas, Timestamp(1), &mut printer).unwrap();
    assert_eq!((report.points, report.accepted()), (8, 3));
    for rejected in report.rejected.iter().chain(&report.beside) {
        writeln!(printer.0, "! {} {}: {}", rejected.count, rejected.reason, rejected.detail).unwrap();
    }
    expect![[r#"
        __name__=mixed a=b 1.5 @5
        # mixed gauge "" ""
        __name__=help 1.5 @5
        __name__=good 1.5 @5
        # good gauge "" ""
        ! 5 invalid_utf8: "�" is not valid UTF-8
        ! 1 invalid_metadata: "�" is not valid UTF-8
    "#]]
    .assert_eq(&printer.0);
}
