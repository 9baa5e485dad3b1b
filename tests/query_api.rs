//! The Prometheus HTTP API as its clients know it.

use serde_json::{Value, json};

use super::harness::metrics::{seconds, series};
use super::harness::{Server, now_ms};

/// Returns a server with `requests_total{job, code}` rising by one per second over ten minutes, and its last time.
async fn with_requests() -> (Server, i64) {
    let server = Server::start().await;
    let end = now_ms() / 1000 * 1000;
    let mut all = Vec::new();
    for (job, code, rate) in [("api", "200", 10.0), ("api", "500", 1.0), ("web", "200", 5.0)] {
        let samples: Vec<_> =
            (0..=40).map(|i| (end - (40 - i) * 15_000, f64::from(i32::try_from(i).unwrap()) * 15.0 * rate)).collect();
        all.push(series(&[("__name__", "requests_total"), ("code", code), ("job", job)], &samples));
    }
    server.remote_write(all).await.ok();
    (server, end)
}

#[tokio::test]
async fn instant_queries_cover_the_language() {
    let (server, end) = with_requests().await;
    let check = async |query: &str, expected: &[(&str, f64)]| {
        let found = server.instant(query, end).await;
        let found: Vec<_> =
            found.iter().map(|(labels, value)| (labels.as_str(), value.parse::<f64>().unwrap())).collect();
        let close = found.len() == expected.len()
            && found.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * b.1.abs().max(1.0));
        assert!(close, "{query}\n found    {found:?}\n expected {expected:?}");
    };
    check("requests_total{job=\"web\"}", &[("requests_total{code=200,job=web}", 3000.0)]).await;
    check("requests_total{job!=\"api\",code=~\"2..\"}", &[("requests_total{code=200,job=web}", 3000.0)]).await;
    check("sum by (job) (rate(requests_total[5m]))", &[("{job=api}", 11.0), ("{job=web}", 5.0)]).await;
    check("increase(requests_total{code=\"500\"}[5m])", &[("{code=500,job=api}", 300.0)]).await;
    check("irate(requests_total{job=\"web\"}[5m])", &[("{code=200,job=web}", 5.0)]).await;
    check("requests_total{job=\"web\"} offset 5m", &[("requests_total{code=200,job=web}", 1500.0)]).await;
    check("count(requests_total)", &[("{}", 3.0)]).await;
    check("topk(1, rate(requests_total[5m]))", &[("{code=200,job=api}", 10.0)]).await;
    check("avg_over_time(requests_total{job=\"web\"}[30s])", &[("{code=200,job=web}", 2962.5)]).await;
    check(
        "sum by (job) (rate(requests_total{code=\"500\"}[5m])) / sum by (job) (rate(requests_total[5m]))",
        &[("{job=api}", 1.0 / 11.0)],
    )
    .await;
    check("requests_total > 4000", &[("requests_total{code=200,job=api}", 6000.0)]).await;
    check("1 + 2 * 3 ^ 2", &[("", 19.0)]).await;
    check("absent(nothing)", &[("{}", 1.0)]).await;
    check("nothing", &[]).await;
}

#[tokio::test]
async fn range_queries_have_a_point_per_step_and_the_same_values_as_instants() {
    let (server, end) = with_requests().await;
    let (query, start) = ("sum(rate(requests_total[1m]))", end - 300_000);
    let params = [("query", query), ("start", &seconds(start)), ("end", &seconds(end)), ("step", "30")];
    let data = server.data("/api/v1/query_range", &params).await;
    assert_eq!(data["resultType"], "matrix");
    let points = super::harness::metrics::points(&data["result"][0]["values"]);
    assert_eq!(
        points.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        (0..=10).map(|i| start + i * 30_000).collect::<Vec<_>>()
    );
    for (at, value) in points {
        assert_eq!(server.value(query, at).await, value, "at {at}");
    }
}

#[tokio::test]
async fn quantiles_come_from_classic_buckets() {
    let server = Server::start().await;
    let at = now_ms();
    let bucket = |le: &str, count| series(&[("__name__", "latency_bucket"), ("le", le)], &[(at, count)]);
    server.remote_write(vec![bucket("1", 50.0), bucket("2", 100.0), bucket("+Inf", 100.0)]).await.ok();
    assert_eq!(server.value("histogram_quantile(0.75, latency_bucket)", at).await, 1.5);
}

#[tokio::test]
async fn metadata_endpoints_answer_in_prometheus_shape() {
    let (server, end) = with_requests().await;
    let names = server.data("/api/v1/labels", &[]).await;
    assert_eq!(names, json!(["__name__", "code", "job"]));
    assert_eq!(server.data("/api/v1/label/job/values", &[]).await, json!(["api", "web"]));
    let matching = [("match[]", "requests_total{code=\"500\"}")];
    assert_eq!(server.data("/api/v1/label/job/values", &matching).await, json!(["api"]));
    let series = server.data("/api/v1/series", &[("match[]", "requests_total{job=\"web\"}")]).await;
    assert_eq!(series, json!([{"__name__": "requests_total", "code": "200", "job": "web"}]));
    let outside =
        [("match[]", "requests_total"), ("start", &seconds(end - 90_000_000)), ("end", &seconds(end - 80_000_000))];
    assert_eq!(server.data("/api/v1/series", &outside).await, json!([]));
    assert!(server.data("/api/v1/status/buildinfo", &[]).await["version"].is_string());
    assert!(server.data("/api/v1/metadata", &[]).await.is_object());
}

#[tokio::test]
async fn a_form_post_is_a_query_too() {
    let (server, end) = with_requests().await;
    let form = format!("query=count(requests_total)&time={}", seconds(end));
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = server.post(&server.url("/api/v1/query"), &headers, form.into_bytes()).await.ok().json();
    assert_eq!(answer["data"]["result"][0]["value"][1], "3");
    let form = format!("match[]=requests_total&start={}", seconds(end - 60_000));
    let answer = server.post(&server.url("/api/v1/series"), &headers, form.into_bytes()).await.ok().json();
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn errors_are_prometheus_errors() {
    let server = Server::start().await;
    let check = async |path: &str, query: &[(&str, &str)], status: u16, kind: &str| {
        let answer = server.get(path, query).await;
        let body: Value = answer.json();
        assert_eq!(
            (answer.status, &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{query:?} {body}"
        );
        assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}");
    };
    let query = "/api/v1/query";
    let range = "/api/v1/query_range";
    check(query, &[("query", "rate(")], 400, "bad_data").await;
    check(query, &[("query", "no_such_function(x)")], 400, "bad_data").await;
    check(query, &[("query", "")], 400, "bad_data").await;
    check(query, &[], 400, "bad_data").await;
    check(query, &[("query", "x"), ("time", "yesterday")], 400, "bad_data").await;
    check(query, &[("query", "{}")], 400, "bad_data").await;
    check(range, &[("query", "x"), ("start", "10"), ("end", "0"), ("step", "1")], 400, "bad_data").await;
    check(range, &[("query", "x"), ("start", "0"), ("end", "10"), ("step", "0")], 400, "bad_data").await;
    check(range, &[("query", "x"), ("start", "0"), ("end", "10"), ("step", "-1")], 400, "bad_data").await;
    check("/api/v1/series", &[], 400, "bad_data").await;
    check("/api/v1/query", &[("query", &"(".repeat(20_000))], 400, "bad_data").await;
    assert_eq!(server.get("/api/v1/nothing", &[]).await.status, 404);
}
