//! Federation of an in-memory store.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use model::histogram::{CUSTOM, ResetHint};
use model::{Histogram, HistogramSample, Labels, stale_marker};
use runtime::{Clock, CpuPool, Telemetry};
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{Limits, MetricAppender, MetricBatch};
use tower::ServiceExt;

const NOW_MS: i64 = 1_000_000;

fn router() -> axum::Router {
    let metrics = FakeMetrics::default();
    let push = |pairs: &[(&str, &str)], at, value| metrics.push(&Labels::from_pairs(pairs.iter().copied()), at, value);
    push(&[("__name__", "up"), ("job", "b"), ("Zone", "z")], NOW_MS - 1000, 1.0);
    push(&[("__name__", "up"), ("job", "a"), ("instance", "i")], NOW_MS - 300_000, 2_500_000.0);
    push(&[("__name__", "up"), ("job", "too old")], NOW_MS - 300_001, 1.0);
    push(&[("__name__", "up"), ("job", "not yet")], NOW_MS + 1, 1.0);
    push(&[("__name__", "up"), ("job", "gone")], NOW_MS - 2000, 1.0);
    push(&[("__name__", "up"), ("job", "gone")], NOW_MS - 1000, stale_marker());
    push(&[("__name__", "build.info"), ("a", "\"\\\n")], NOW_MS, 1.0);
    push(&[("job", "nameless")], NOW_MS, 1.0);
    let mut batch = MetricBatch::default();
    let native = Histogram { count: 3.0, sum: 1.5, positive: vec![(0, 1.0), (2, 2.0)], ..Histogram::default() };
    let custom = Histogram { schema: CUSTOM, custom: vec![0.1, 1.0].into(), ..native.clone() };
    let gauge = Histogram { hint: ResetHint::Gauge, ..native.clone() };
    for (name, histogram) in [("native", native), ("custom", custom), ("gauge", gauge)] {
        batch.push([("__name__".into(), name.into()), ("job".into(), "h".into())], []).unwrap();
        batch.set_histograms([HistogramSample { timestamp_ms: NOW_MS, start_ms: 0, histogram: Arc::new(histogram) }]);
    }
    metrics.append(&batch).unwrap();
    let (cpu, clock) = (CpuPool::new(2).unwrap(), Clock::fixed(NOW_MS * 1_000_000));
    let (metrics, logs) = (Arc::new(metrics), Arc::new(FakeLogs::default()));
    super::super::router(crate::Services::new(metrics, logs, cpu, clock, Limits::default(), 4, &Telemetry::new()))
}

async fn ask(path: &str, accept: &str) -> (u16, String, Vec<u8>) {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    let response = router().oneshot(request).await.unwrap();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn check(path: &str, accept: &str, expected: Expect) {
    let (status, kind, body) = ask(path, accept).await;
    expected.assert_eq(&format!("{status} {kind}\n{}", String::from_utf8(body).unwrap()));
}

#[tokio::test]
async fn the_newest_samples_are_told_by_name_without_stale_ones() {
    check(
        "/federate?match[]=%7B__name__!=%22%22%7D&match[]=up&match[]=%7Bjob=~%22.%2B%22%7D",
        "*/*",
        expect![[r#"
        200 text/plain; version=0.0.4; charset=utf-8; escaping=underscores
        # TYPE build_info untyped
        build_info{a="\"\\\n",instance=""} 1 1000000
        # TYPE custom histogram
        custom_bucket{job="h",instance="",le="0.1"} 1 1000000
        custom_bucket{job="h",instance="",le="1"} 1 1000000
        custom_bucket{job="h",instance="",le="+Inf"} 3 1000000
        custom_sum{job="h",instance=""} 1.5 1000000
        custom_count{job="h",instance=""} 3 1000000
        # TYPE up untyped
        up{Zone="z",job="b",instance=""} 1 999000
        up{instance="i",job="a"} 2.5e+06 700000
    "#]],
    )
    .await;
    check(
        "/federate?match[]=%7B%22build.info%22%7D",
        "text/plain;version=0.0.4;escaping=allow-utf-8",
        expect![[r#"
            200 text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8
            # TYPE "build.info" untyped
            {"build.info",a="\"\\\n",instance=""} 1 1000000
        "#]],
    )
    .await;
    check(
        "/federate",
        "*/*",
        expect![[r#"
        200 text/plain; version=0.0.4; charset=utf-8; escaping=underscores
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_bad_selector_is_named_in_text() {
    check(
        "/federate?match[]=up%7B",
        "*/*",
        expect![[r#"
        400 text/plain; charset=utf-8
        1:4: parse error: unexpected end of input inside braces
    "#]],
    )
    .await;
    check(
        "/federate?match[]=%7B%7D",
        "*/*",
        expect![[r#"
        400 text/plain; charset=utf-8
        1:1: parse error: vector selector must contain at least one non-empty matcher
    "#]],
    )
    .await;
}

#[tokio::test]
async fn native_histograms_need_protobuf() {
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (_, kind, body) = ask("/federate?match[]=%7Bjob=%22h%22%7D", accept).await;
    assert_eq!(
        kind,
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
    );
    let mut rest = body.as_slice();
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(<super::proto::MetricFamily as prost::Message>::decode_length_delimited(&mut rest).unwrap());
    }
    let kinds: Vec<(&str, Option<i32>)> = families.iter().map(|family| (family.name.as_str(), family.kind)).collect();
    assert_eq!(kinds, [("custom", Some(4)), ("gauge", Some(5)), ("native", Some(4))]);
    let native = families[2].metric[0].histogram.as_ref().unwrap();
    assert_eq!((native.sample_count_float, native.schema), (Some(3.0), Some(0)));
    let spans: Vec<_> = native.positive_span.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!(spans, [(Some(0), Some(1)), (Some(1), Some(1))]);
    assert_eq!(families[0].metric[0].histogram.as_ref().unwrap().bucket.len(), 2);
}
