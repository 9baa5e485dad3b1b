//! The API against an in-memory store, without a socket.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use model::{Exemplar, Histogram, HistogramSample, Labels, Sample};
use runtime::{Clock, CpuPool, Telemetry};
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{Limits, MetricAppender, MetricBatch};
use tower::ServiceExt;

use crate::Services;

fn services(limits: Limits) -> Services {
    let metrics = FakeMetrics::default();
    let mut batch = MetricBatch::default();
    let pairs = [("__name__", "latency"), ("job", "h")].map(|(name, value)| (name.into(), value.into()));
    batch.push(pairs, []).unwrap();
    let histogram = Histogram {
        schema: 1,
        count: 6.0,
        sum: 4.5,
        zero_threshold: 0.001,
        zero_count: 1.0,
        positive: vec![(0, 2.0), (3, 1.0)],
        negative: vec![(2, 2.0)],
        ..Histogram::default()
    };
    batch.set_histograms([HistogramSample { timestamp_ms: 200_000, start_ms: 0, histogram: histogram.into() }]);
    let exemplar = |timestamp_ms, value, id| Exemplar {
        labels: Labels::from_pairs([("trace_id", id)]),
        sample: Sample { timestamp_ms, value },
    };
    batch.set_exemplars([exemplar(200_000, 0.5, "x"), exemplar(201_500, 2.0, "y")]);
    metrics.append(&batch).unwrap();
    for (job, factor) in [("a", 1.0), ("b", 2.0), ("c", f64::NAN)] {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]);
        for i in 0..10 {
            metrics.push(&labels, i * 15_000, factor * f64::from(i32::try_from(i).unwrap()));
        }
    }
    let cpu = CpuPool::new(2).unwrap();
    let clock = Clock::fixed(120_000_000_000);
    Services::new(Arc::new(metrics), Arc::new(FakeLogs::default()), cpu, clock, limits, 4, &Telemetry::new())
}

async fn ask(request: Request<Body>, limits: Limits) -> (StatusCode, String) {
    let response = super::router(services(limits)).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn check(path: &str, expected: Expect) {
    let (status, body) = ask(Request::get(path).body(Body::empty()).unwrap(), Limits::default()).await;
    expected.assert_eq(&format!("{} {body}", status.as_u16()));
}

#[tokio::test]
async fn an_instant_query_gives_a_vector() {
    check(
        "/api/v1/query?query=up&time=60.5",
        expect![[r#"200 {"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[60.500,"4"]},{"metric":{"__name__":"up","job":"b"},"value":[60.500,"8"]},{"metric":{"__name__":"up","job":"c"},"value":[60.500,"NaN"]}]}}"#]],
    )
    .await;
}

#[tokio::test]
async fn scalars_and_texts_have_their_own_types() {
    check(
        "/api/v1/query?query=1e-7&time=1",
        expect![[r#"200 {"status":"success","data":{"resultType":"scalar","result":[1,"1e-07"]}}"#]],
    )
    .await;
    check(
        "/api/v1/query?query=%22a%5C%22%22&time=1",
        expect![[r#"200 {"status":"success","data":{"resultType":"string","result":[1,"a\""]}}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_range_query_gives_a_matrix() {
    check(
        "/api/v1/query_range?query=sum%28up%7Bjob!%3D%22c%22%7D%29&start=0&end=30&step=15",
        expect![[r#"200 {"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"0"],[15,"3"],[30,"6"]]}]}}"#]],
    )
    .await;
    check(
        "/api/v1/query_range?query=2&start=0&end=30&step=30",
        expect![[r#"200 {"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"2"],[30,"2"]]}]}}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_range_selector_gives_its_samples() {
    check(
        "/api/v1/query?query=up%7Bjob%3D%22b%22%7D%5B30s%5D&time=60",
        expect![[r#"200 {"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"b"},"values":[[45,"6"],[60,"8"]]}]}}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_form_body_is_read() {
    let request = Request::post("/api/v1/query")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from("query=vector(1)&time=2"))
        .unwrap();
    let (status, body) = ask(request, Limits::default()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""value":[2,"1"]"#), "{body}");
}

#[tokio::test]
async fn faults_are_named_as_prometheus_names_them() {
    check("/api/v1/query?query=up%7B", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:4: parse error: unexpected end of input inside braces"}"#]]).await;
    check("/api/v1/query?query=up&time=x", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"time\": Invalid time value for 'time': cannot parse \"x\" to a valid timestamp"}"#]]).await;
    check("/api/v1/query_range?query=up&end=1&step=1", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"start\": cannot parse \"\" to a valid timestamp"}"#]]).await;
    check("/api/v1/query_range?query=up&start=1&end=0&step=1", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"end\": end timestamp must not be before start time"}"#]]).await;
    check("/api/v1/query_range?query=up&start=1&end=2&step=0", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"}"#]]).await;
    check("/api/v1/query_range?query=up%5B5m%5D&start=1&end=2&step=1", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"}"#]]).await;
    check("/api/v1/query?query=up%2Bon%28%29up&time=60", expect![[r#"422 {"status":"error","errorType":"execution","error":"found duplicate series for the match group {} on the right hand-side of the operation: [{__name__=\"up\", job=\"a\"}, {__name__=\"up\", job=\"b\"}];many-to-many matching not allowed: matching labels must be unique on one side"}"#]]).await;
    check("/api/v1/query?query=up&lookback_delta=x", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"error parsing lookback delta duration: cannot parse \"x\" to a valid duration"}"#]]).await;
    check("/api/v1/query?query=up&timeout=x", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"}"#]]).await;
    check("/api/v1/labels?match[]=%7B%7D", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"match[] must contain at least one non-empty matcher"}"#]]).await;
    check("/api/v1/series?match[]=%7B%7D", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"}"#]]).await;
    check("/api/v1/series?match[]=sum(up)", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"match[]\": 1:4: parse error: unexpected \"(\""}"#]]).await;
    check(
        "/api/v1/labels?match[]=up[5m]",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"1:3: parse error: unexpected \"[\""}"#]],
    )
    .await;
    check(
        "/api/v1/labels?match[]=1",
        expect![[
            r#"400 {"status":"error","errorType":"bad_data","error":"1:1: parse error: unexpected number \"1\""}"#
        ]],
    )
    .await;
    check("/api/v1/labels?match[]=", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"unknown position: parse error: unexpected end of input"}"#]]).await;
    check(
        "/api/v1/labels?match[]=up%20offset%205m",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"1:4: parse error: unexpected <offset>"}"#]],
    )
    .await;
    check("/api/v1/labels?match[]=sum", expect![[r#"200 {"status":"success","data":[]}"#]]).await;
    check(
        "/api/v1/label//values",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid label name: \"\""}"#]],
    )
    .await;
    check("/api/v1/series?match[]=up&start=2&end=1", expect![[r#"200 {"status":"success","data":[]}"#]]).await;
    check(
        "/api/v1/series",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}"#]],
    )
    .await;
}

#[tokio::test]
async fn ten_years_at_one_second_are_refused() {
    check(
        "/api/v1/query_range?query=up&start=0&end=315360000&step=1",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_limit_is_told_with_its_name() {
    let request = Request::get("/api/v1/query_range?query=up&start=0&end=135&step=1").body(Body::empty()).unwrap();
    let (status, body) = ask(request, Limits { samples_max: 100, ..Limits::default() }).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let words = "query processing would load too many samples into memory in query execution: the query would load";
    assert!(body.contains(words) && body.contains("--query-max-samples"), "{body}");
    assert!(body.contains(r#""errorType":"execution""#), "{body}");
}

#[tokio::test]
async fn a_timeout_is_a_503() {
    let request = Request::get("/api/v1/query?query=up&timeout=0s").body(Body::empty()).unwrap();
    let (status, body) = ask(request, Limits::default()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains(r#""errorType":"timeout","error":"query timed out in "#), "{body}");
}

#[tokio::test]
async fn labels_and_series_are_listed() {
    check("/api/v1/labels", expect![[r#"200 {"status":"success","data":["__name__","job"]}"#]]).await;
    check(
        "/api/v1/label/job/values?limit=2",
        expect![[r#"200 {"status":"success","data":["a","b"],"warnings":["results truncated due to limit"]}"#]],
    )
    .await;
    check(
        "/api/v1/label/U__job/values?match[]=up%7Bjob%3D%22b%22%7D",
        expect![[r#"200 {"status":"success","data":["b"]}"#]],
    )
    .await;
    check(
        "/api/v1/series?match[]=up%7Bjob%3D~%22a|b%22%7D",
        expect![[r#"200 {"status":"success","data":[{"__name__":"up","job":"a"},{"__name__":"up","job":"b"}]}"#]],
    )
    .await;
    check("/api/v1/metadata", expect![[r#"200 {"status":"success","data":{}}"#]]).await;
}

#[tokio::test]
async fn clients_find_the_endpoints_they_probe() {
    check(
        "/api/v1/format_query?query=sum(up)by(job)",
        expect![[r#"200 {"status":"success","data":"sum by (job) (up)"}"#]],
    )
    .await;
    for path in [
        "rules",
        "alerts",
        "targets",
        "status/buildinfo",
        "status/runtimeinfo",
        "status/flags",
        "status/config",
        "status/tsdb",
        "query_exemplars?query=up",
        "query_exemplars?query=latency&start=5",
        "alertmanagers",
        "scrape_pools",
    ] {
        let request = Request::get(format!("/api/v1/{path}")).body(Body::empty()).unwrap();
        let (status, body) = ask(request, Limits::default()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(body.starts_with(r#"{"status":"success","data":"#), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_tree_is_given_in_prometheus_shape() {
    check(
        "/api/v1/parse_query?query=sum%20by(job)(rate(up%7Bjob%3D~%22a%22%7D%5B5m%5D%20offset%201m))%20%3E%20-1",
        expect![[r#"200 {"status":"success","data":{"bool":false,"lhs":{"expr":{"args":[{"anchored":false,"matchers":[{"name":"job","type":"=~","value":"a"},{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":60000,"offsetExpr":null,"range":300000,"rangeExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"matrixSelector"}],"func":{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0},"type":"call"},"grouping":["job"],"op":"sum","param":null,"type":"aggregation","without":false},"matching":null,"op":">","rhs":{"type":"numberLiteral","val":"-1"},"type":"binaryExpr"}}"#]],
    )
    .await;
    check(
        "/api/v1/parse_query?query=a%20*%20on(x)%20group_left(y)%20(b%20%40%20end())",
        expect![[r#"200 {"status":"success","data":{"bool":false,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":{"card":"many-to-one","fillValues":{"lhs":null,"rhs":null},"include":["y"],"labels":["x"],"on":true},"op":"*","rhs":{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"b"}],"name":"b","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":"end","timestamp":null,"type":"vectorSelector"},"type":"parenExpr"},"type":"binaryExpr"}}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_long_answer_comes_in_pieces_and_parses() {
    let request =
        Request::get("/api/v1/query_range?query=up&start=0&end=135&step=0.05&stats=all").body(Body::empty()).unwrap();
    let (status, body) = ask(request, Limits::default()).await;
    assert_eq!(status, StatusCode::OK);
    let parsed: query_wire::prometheus::Response<query_wire::prometheus::QueryData> =
        serde_json::from_str(&body).unwrap();
    let data = parsed.data.unwrap();
    let query_wire::prometheus::QueryResult::Matrix(series) = data.result else { panic!("{body}") };
    assert_eq!(series.iter().map(|one| one.values.len()).collect::<Vec<_>>(), vec![2701; 3]);
    assert!(data.stats.is_some());
}

#[tokio::test]
async fn warnings_and_infos_have_fields_of_their_own() {
    check(
        "/api/v1/query?query=quantile(2,rate(up%7Bjob%3D%22a%22%7D%5B1m%5D))&time=60",
        expect![[r#"200 {"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[60,"+Inf"]}]},"warnings":["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"],"infos":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (1:17)"]}"#]],
    )
    .await;
}

#[tokio::test]
async fn exemplars_of_every_selector_are_told() {
    check("/api/v1/query_exemplars?query=sum(rate(up[5m]))%2Bon()latency", expect![[r#"200 {"status":"success","data":[{"seriesLabels":{"__name__":"latency","job":"h"},"exemplars":[{"labels":{"trace_id":"x"},"value":"0.5","timestamp":200},{"labels":{"trace_id":"y"},"value":"2","timestamp":201.5}]}]}"#]]).await;
    check("/api/v1/query_exemplars?query=latency&start=201&end=300", expect![[r#"200 {"status":"success","data":[{"seriesLabels":{"__name__":"latency","job":"h"},"exemplars":[{"labels":{"trace_id":"y"},"value":"2","timestamp":201.5}]}]}"#]]).await;
    check("/api/v1/query_exemplars?query=up", expect![[r#"200 {"status":"success","data":[]}"#]]).await;
    check("/api/v1/query_exemplars?query=1", expect!["204 "]).await;
    check(
        "/api/v1/query_exemplars?query=up(",
        expect![[
            r#"400 {"status":"error","errorType":"bad_data","error":"1:4: parse error: unclosed left parenthesis"}"#
        ]],
    )
    .await;
    check("/api/v1/query_exemplars?query=up&start=2&end=1", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"end timestamp must not be before start timestamp"}"#]]).await;
}

#[tokio::test]
async fn native_histograms_have_fields_of_their_own() {
    check("/api/v1/query?query=latency&time=200", expect![[r#"200 {"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"latency","job":"h"},"histogram":[200,{"count":"6","sum":"4.5","buckets":[[1,"-2","-1.414213562373095","2"],[3,"-0.001","0.001","1"],[0,"0.7071067811865475","1","2"],[0,"2","2.82842712474619","1"]]}]}]}}"#]]).await;
    check("/api/v1/query_range?query=latency&start=200&end=260&step=60", expect![[r#"200 {"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"latency","job":"h"},"histograms":[[200,{"count":"6","sum":"4.5","buckets":[[1,"-2","-1.414213562373095","2"],[3,"-0.001","0.001","1"],[0,"0.7071067811865475","1","2"],[0,"2","2.82842712474619","1"]]}],[260,{"count":"6","sum":"4.5","buckets":[[1,"-2","-1.414213562373095","2"],[3,"-0.001","0.001","1"],[0,"0.7071067811865475","1","2"],[0,"2","2.82842712474619","1"]]}]]}]}}"#]]).await;
    check("/api/v1/query?query=latency[5m]&time=200", expect![[r#"200 {"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"latency","job":"h"},"histograms":[[200,{"count":"6","sum":"4.5","buckets":[[1,"-2","-1.414213562373095","2"],[3,"-0.001","0.001","1"],[0,"0.7071067811865475","1","2"],[0,"2","2.82842712474619","1"]]}]]}]}}"#]]).await;
}

#[tokio::test]
async fn results_over_the_limit_are_cut_with_a_warning() {
    check("/api/v1/query?query=up&time=60&limit=1", expect![[r#"200 {"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[60,"4"]}]},"warnings":["results truncated due to limit"]}"#]]).await;
    check("/api/v1/query_range?query=up&start=60&end=60&step=1&limit=2", expect![[r#"200 {"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a"},"values":[[60,"4"]]},{"metric":{"__name__":"up","job":"b"},"values":[[60,"8"]]}]},"warnings":["results truncated due to limit"]}"#]]).await;
    check("/api/v1/query?query=up&time=60&limit=x", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"}"#]]).await;
    check("/api/v1/query?query=up&time=60&limit=-1", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"limit\": limit must be non-negative"}"#]]).await;
    check("/api/v1/series?match[]=up&limit=1", expect![[r#"200 {"status":"success","data":[{"__name__":"up","job":"a"}],"warnings":["results truncated due to limit"]}"#]]).await;
    check(
        "/api/v1/labels?limit=1",
        expect![[r#"200 {"status":"success","data":["__name__"],"warnings":["results truncated due to limit"]}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_bad_pattern_is_told_in_one_line() {
    check("/api/v1/query?query=up%7Bjob=~%22a(%22%7D", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:4: parse error: error parsing regexp: missing closing ): `a(`"}"#]]).await;
    check("/api/v1/labels?match[]=up%7Bjob=~%22a(%22%7D", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"1:4: parse error: error parsing regexp: missing closing ): `a(`"}"#]]).await;
    check("/api/v1/series?match[]=up%7Bjob=~%22a(%22%7D", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"match[]\": 1:4: parse error: error parsing regexp: missing closing ): `a(`"}"#]]).await;
}

#[tokio::test]
async fn the_lookback_can_be_changed() {
    check(
        "/api/v1/query?query=latency&time=210&lookback_delta=9",
        expect![[r#"200 {"status":"success","data":{"resultType":"vector","result":[]}}"#]],
    )
    .await;
    check(
        "/api/v1/query?query=count(latency)&time=210&lookback_delta=0",
        expect![[
            r#"200 {"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[210,"1"]}]}}"#
        ]],
    )
    .await;
}

/// Returns the `stats` of an answer without its times and its peak, which are not always the same.
async fn samples(path: &str) -> String {
    let (_, body) = ask(Request::get(path).body(Body::empty()).unwrap(), Limits::default()).await;
    let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(body["data"]["stats"]["timings"]["execTotalTime"].as_f64().unwrap() >= 0.0, "{body}");
    assert!(body["data"]["stats"]["samples"]["peakSamples"].take().is_u64(), "{body}");
    format!("{} {}", body["data"]["stats"]["samples"], body["warnings"])
}

#[tokio::test]
async fn stats_count_the_samples_of_each_step() {
    let check = async |path: &str, expected: Expect| expected.assert_eq(&samples(path).await);
    check(
        "/api/v1/query?query=up&time=60&stats=true",
        expect![[r#"{"peakSamples":null,"totalQueryableSamples":3} null"#]],
    )
    .await;
    // Each of three series has one more sample in each window, up to the range.
    check("/api/v1/query_range?query=rate(up[45s])&start=0&end=60&step=15&stats=all", expect![[r#"{"peakSamples":null,"totalQueryableSamples":36,"totalQueryableSamplesPerStep":[[0.0,3],[15.0,6],[30.0,9],[45.0,9],[60.0,9]]} null"#]]).await;
    check("/api/v1/query_range?query=sum(up)%2Bsum(up)&start=0&end=30&step=15&stats=all", expect![[r#"{"peakSamples":null,"totalQueryableSamples":18,"totalQueryableSamplesPerStep":[[0.0,6],[15.0,6],[30.0,6]]} null"#]]).await;
    check("/api/v1/query_range?query=up@0&start=0&end=30&step=15&stats=all", expect![[r#"{"peakSamples":null,"totalQueryableSamples":9,"totalQueryableSamplesPerStep":[[0.0,3],[15.0,3],[30.0,3]]} null"#]]).await;
    check(
        "/api/v1/query_range?query=sum_over_time(up[30s:15s])&start=30&end=60&step=30&stats=all",
        expect![[
            r#"{"peakSamples":null,"totalQueryableSamples":24,"totalQueryableSamplesPerStep":[[30.0,6],[60.0,18]]} null"#
        ]],
    )
    .await;
    check(
        "/api/v1/query?query=up[1m]&time=60&stats=all",
        expect![[r#"{"peakSamples":null,"totalQueryableSamples":12,"totalQueryableSamplesPerStep":[[60.0,12]]} null"#]],
    )
    .await;
    check(
        "/api/v1/query?query=latency&time=200&stats=all",
        expect![[
            r#"{"peakSamples":null,"totalQueryableSamples":14,"totalQueryableSamplesPerStep":[[200.0,14]]} null"#
        ]],
    )
    .await;
    check("/api/v1/query?query=1&time=200&stats=x", expect![[r#"{"peakSamples":null,"totalQueryableSamples":0} ["value \"x\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""]"#]]).await;
}

#[tokio::test]
async fn durations_that_are_computed_have_trees_of_their_own() {
    check("/api/v1/parse_query?query=up[5m%2Bstep()]%20anchored%20offset%20-(1m*2)", expect![[r#"200 {"status":"success","data":{"anchored":true,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":-120000,"offsetExpr":{"lhs":null,"op":"-","rhs":{"lhs":{"duration":true,"type":"numberLiteral","val":"60"},"op":"*","rhs":{"duration":false,"type":"numberLiteral","val":"2"},"type":"durationExpr","wrapped":true},"type":"durationExpr","wrapped":false},"range":0,"rangeExpr":{"lhs":{"duration":true,"type":"numberLiteral","val":"300"},"op":"+","rhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","wrapped":false},"type":"durationExpr","wrapped":false},"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"matrixSelector"}}"#]]).await;
    check("/api/v1/parse_query?query=up[5m:max_of(step(),10s)]", expect![[r#"200 {"status":"success","data":{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"offset":0,"offsetExpr":null,"range":300000,"rangeExpr":null,"startOrEnd":null,"step":0,"stepExpr":{"lhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","wrapped":false},"op":"max_of","rhs":{"duration":true,"type":"numberLiteral","val":"10"},"type":"durationExpr","wrapped":false},"timestamp":null,"type":"subquery"}}"#]]).await;
    check("/api/v1/parse_query?query=a%2Bfill_left(0)b", expect![[r#"200 {"status":"success","data":{"bool":false,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":{"card":"one-to-one","fillValues":{"lhs":0.0,"rhs":null},"include":[],"labels":[],"on":false},"op":"+","rhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"b"}],"name":"b","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"binaryExpr"}}"#]]).await;
    check("/api/v1/parse_query?query=up(", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:4: parse error: unclosed left parenthesis"}"#]]).await;
}

#[tokio::test]
async fn the_status_tells_what_it_was_told_of_the_process() {
    let facts = crate::Facts {
        flags: [("retention".to_owned(), "7d".to_owned())].into(),
        config_yaml: "retention: \"7d\"\n".to_owned(),
        retention: "7d".to_owned(),
        working_dir: "/srv".to_owned(),
        host_name: "host".to_owned(),
        memory_limit_bytes: 0,
    };
    let router = super::router(services(Limits::default()).with_facts(facts));
    let get = async |path: &str| {
        let request = Request::get(format!("/api/v1/status/{path}")).body(Body::empty()).unwrap();
        let body = router.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    expect![[r#"{"status":"success","data":{"retention":"7d"}}"#]].assert_eq(&get("flags").await);
    expect![[r#"{"status":"success","data":{"yaml":"retention: \"7d\"\n"}}"#]].assert_eq(&get("config").await);
    let info = get("runtimeinfo").await;
    for part in [
        r#""CWD":"/srv""#,
        r#""hostname":"host""#,
        r#""storageRetention":"7d""#,
        r#""serverTime":"1970-01-01T00:02:00.000Z""#,
    ] {
        assert!(info.contains(part), "{info}");
    }
    expect![[r#"{"status":"success","data":{"headStats":{"numSeries":4,"numLabelPairs":6,"chunkCount":4,"minTime":0,"maxTime":200000},"seriesCountByMetricName":[{"name":"up","value":3}],"labelValueCountByLabelName":[{"name":"job","value":4}],"memoryInBytesByLabelName":[{"name":"__name__","value":9}],"seriesCountByLabelValuePair":[{"name":"__name__=up","value":3}]}}"#]].assert_eq(&get("tsdb?limit=1").await);
    check(
        "/api/v1/status/tsdb?limit=0",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"limit must be a positive number"}"#]],
    )
    .await;
    check(
        "/api/v1/status/tsdb?limit=10001",
        expect![[r#"400 {"status":"error","errorType":"bad_data","error":"limit must not exceed 10000"}"#]],
    )
    .await;
    check("/api/v1/status/walreplay", expect![[r#"200 {"status":"success","data":{"current":0,"max":0,"min":0}}"#]])
        .await;
    check("/api/v1/notifications", expect![[r#"200 {"status":"success","data":[]}"#]]).await;
    check("/api/v1/rules?type=x", expect![[r#"400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"type\": not supported value \"x\""}"#]]).await;
    check("/api/v1/rules?type=alert&rule_name[]=a", expect![[r#"200 {"status":"success","data":{"groups":[]}}"#]])
        .await;
}
