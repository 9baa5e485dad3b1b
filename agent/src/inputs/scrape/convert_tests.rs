//! Pages to OTLP and, as a collector translates it, back.

use expect_test::{Expect, expect};

use super::super::text::{Dialect, parse};
use super::*;

fn target(honor_labels: bool) -> TargetLabels {
    TargetLabels {
        owner: ("j".to_owned(), "h:1".to_owned()),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        honor_labels,
        honor_timestamps: true,
    }
}

fn labels_of(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value;
    let text = |attribute: &opentelemetry_proto::tonic::common::v1::KeyValue| match attribute
        .value
        .as_ref()
        .and_then(|value| value.value.as_ref())
    {
        Some(any_value::Value::StringValue(text)) => format!("{}={text}", attribute.key),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Prints samples with the names that OpenTelemetry's specification gives them in Prometheus.
fn print(metrics: &[ResourceMetrics]) -> String {
    let mut text = String::new();
    for resource in metrics {
        text.push_str(&format!("[{}]\n", labels_of(&resource.resource.as_ref().unwrap().attributes[..2])));
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            assert_eq!(metric.unit, "");
            let name = &metric.name;
            let mut line = |name: String, labels: &str, value: String, flags: u32| {
                let value = if flags == NO_RECORDED_VALUE { "stale".to_owned() } else { value };
                text.push_str(&format!("{name}{{{labels}}} {value}\n"));
            };
            let number = |point: &NumberDataPoint| match point.value {
                Some(Value::AsDouble(value)) => value.to_string(),
                _ => "none".to_owned(),
            };
            match metric.data.as_ref().unwrap() {
                Data::Gauge(gauge) => gauge
                    .data_points
                    .iter()
                    .for_each(|point| line(name.clone(), &labels_of(&point.attributes), number(point), point.flags)),
                Data::Sum(sum) => {
                    assert!(sum.is_monotonic && name.ends_with("_total"));
                    sum.data_points.iter().for_each(|point| {
                        line(name.clone(), &labels_of(&point.attributes), number(point), point.flags)
                    });
                }
                Data::Histogram(histogram) => {
                    for point in &histogram.data_points {
                        let labels = labels_of(&point.attributes);
                        let mut cumulative = 0;
                        let bounds = point.explicit_bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                        for (bound, count) in bounds.zip(&point.bucket_counts) {
                            cumulative += count;
                            line(
                                format!("{name}_bucket"),
                                &format!("{labels},le={bound}"),
                                cumulative.to_string(),
                                point.flags,
                            );
                        }
                        line(format!("{name}_sum"), &labels, point.sum.unwrap().to_string(), point.flags);
                        line(format!("{name}_count"), &labels, point.count.to_string(), point.flags);
                    }
                }
                Data::Summary(summary) => {
                    for point in &summary.data_points {
                        let labels = labels_of(&point.attributes);
                        for value in &point.quantile_values {
                            line(
                                name.clone(),
                                &format!("{labels},quantile={}", value.quantile),
                                value.value.to_string(),
                                point.flags,
                            );
                        }
                        line(format!("{name}_sum"), &labels, point.sum.to_string(), point.flags);
                        line(format!("{name}_count"), &labels, point.count.to_string(), point.flags);
                    }
                }
                Data::ExponentialHistogram(_) => panic!("never made"),
            }
        }
    }
    text
}

fn build(page: &str, target: &TargetLabels) -> Builder {
    let mut builder = Builder::default();
    builder.add_page(parse(page, Dialect::Text).unwrap(), target, 1_000_000_000);
    builder
}

#[track_caller]
fn check(page: &str, honor_labels: bool, expected: Expect) {
    let metrics = build(page, &target(honor_labels)).finish("http://h:1/metrics", &Vec::new());
    expected.assert_eq(&print(&metrics));
}

const PAGE: &str = "# TYPE c_total counter\nc_total{a=\"b\"} 5\n# TYPE old counter\nold 1\n# TYPE g_total gauge\ng_total 2\n\
    # TYPE h histogram\nh_bucket{p=\"/\",le=\"0.5\"} 1\nh_bucket{p=\"/\",le=\"2\"} 3\nh_bucket{p=\"/\",le=\"+Inf\"} 4\nh_sum{p=\"/\"} 9.5\nh_count{p=\"/\"} 4\n\
    # TYPE s summary\ns{quantile=\"0.5\"} 1.5\ns{quantile=\"0.99\"} 7\ns_sum 100\ns_count 60\nfree_seconds 1\n";

#[test]
fn names_come_back_as_they_were() {
    check(
        PAGE,
        false,
        expect![[r#"
        [service.name=j,service.instance.id=h:1]
        c_total{a=b,env=prod} 5
        old{env=prod} 1
        g_total{env=prod} 2
        h_bucket{env=prod,p=/,le=0.5} 1
        h_bucket{env=prod,p=/,le=2} 3
        h_bucket{env=prod,p=/,le=+Inf} 4
        h_sum{env=prod,p=/} 9.5
        h_count{env=prod,p=/} 4
        s{env=prod,quantile=0.5} 1.5
        s{env=prod,quantile=0.99} 7
        s_sum{env=prod} 100
        s_count{env=prod} 60
        free_seconds{env=prod} 1
    "#]],
    );
}

#[test]
fn broken_histograms_are_sent_sample_by_sample() {
    check(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\nh_sum 1\nh_count 4\n",
        false,
        expect![[r#"
            [service.name=j,service.instance.id=h:1]
            h_bucket{env=prod,le=1} 5
            h_bucket{env=prod,le=+Inf} 4
            h_sum{env=prod} 1
            h_count{env=prod} 4
        "#]],
    );
    check(
        "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 4\nh_sum 1\nh_count 4\n",
        false,
        expect![[r#"
        [service.name=j,service.instance.id=h:1]
        h_bucket{env=prod,le=1.0} 1
        h_bucket{env=prod,le=+Inf} 4
        h_sum{env=prod} 1
        h_count{env=prod} 4
    "#]],
    );
    check(
        "# TYPE s summary\ns{quantile=\"0.50\"} 1\ns_sum 1\ns_count 1.5\n",
        false,
        expect![[r#"
        [service.name=j,service.instance.id=h:1]
        s{env=prod,quantile=0.50} 1
        s_sum{env=prod} 1
        s_count{env=prod} 1.5
    "#]],
    );
}

#[test]
fn labels_of_the_target_win_unless_the_page_is_honored() {
    let page = "a{job=\"x\",instance=\"y\",env=\"dev\",exported_env=\"z\",empty=\"\"} 1\n";
    check(
        page,
        false,
        expect![[r#"
        [service.name=j,service.instance.id=h:1]
        a{env=prod,exported_env=z,exported_exported_env=dev,exported_instance=y,exported_job=x} 1
    "#]],
    );
    check(
        page,
        true,
        expect![[r#"
        [service.name=x,service.instance.id=y]
        a{env=dev,exported_env=z} 1
    "#]],
    );
}

#[test]
fn series_that_vanish_are_ended_once() {
    let target = target(false);
    let first = build(PAGE, &target);
    let mut second = build("# TYPE c_total counter\nc_total{a=\"b\"} 6\ntimed 1 5\n", &target);
    assert_eq!(second.end_missing(&first.series, 2_000_000_000), 5);
    let earlier = std::mem::take(&mut second.series);
    expect![[r#"
        [service.name=j,service.instance.id=h:1]
        c_total{a=b,env=prod} 6
        timed{env=prod} 1
        free_seconds{env=prod} stale
        h_bucket{env=prod,p=/,le=0.5} stale
        h_bucket{env=prod,p=/,le=2} stale
        h_bucket{env=prod,p=/,le=+Inf} stale
        h_sum{env=prod,p=/} stale
        h_count{env=prod,p=/} stale
        g_total{env=prod} stale
        s{env=prod,quantile=0.5} stale
        s{env=prod,quantile=0.99} stale
        s_sum{env=prod} stale
        s_count{env=prod} stale
        old{env=prod} stale
    "#]]
    .assert_eq(&print(&second.finish("http://h:1/", &Vec::new())));
    let mut third = build("", &target);
    assert_eq!(third.end_missing(&earlier, 3_000_000_000), 1);
    assert_eq!(build("", &target).end_missing(&third.series, 4_000_000_000), 0);
}

#[test]
fn a_repeated_sample_is_counted_and_sent_once() {
    let builder = build("a 1\na 2\na 3 1000\na 4 2000\na 5 2000\n", &target(false));
    assert_eq!(builder.repeated, 2);
}
