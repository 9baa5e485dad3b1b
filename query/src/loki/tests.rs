//! The API through its router, on a store in memory.

mod export;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use model::{Labels, Timestamp};
use runtime::{Clock, CpuPool, Telemetry};
use serde_json::Value;
use storage_api::Limits;
use storage_api::fake::{FakeLogs, FakeMetrics};
use tower::ServiceExt;

use crate::Services;

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * SECOND;

struct Server {
    logs: Arc<FakeLogs>,
    router: axum::Router,
}

impl Server {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let logs = Arc::new(FakeLogs::default());
        let services = Services::new(
            Arc::new(FakeMetrics::default()),
            Arc::clone(&logs) as Arc<dyn storage_api::LogQuerier>,
            CpuPool::new(2).unwrap(),
            Clock::fixed(NOW),
            limits,
            4,
            &Telemetry::new(),
        );
        Self { logs, router: super::router(services) }
    }

    /// A server with ten lines of two streams, one every second up to now.
    fn filled() -> Self {
        let server = Self::new();
        for i in 0..10 {
            let app = if i % 2 == 0 { "web" } else { "db" };
            let level = if i % 5 == 0 { "error" } else { "info" };
            let line = format!(r#"{{"level":"{level}","n":{i},"path":"/a b"}}"#);
            server.push(&[("app", app), ("env", "prod")], NOW - (10 - i) * SECOND, &line, &[("trace_id", "t1")]);
        }
        server
    }

    fn push(&self, labels: &[(&str, &str)], at: i64, line: &str, metadata: &[(&str, &str)]) {
        self.logs.push(&Labels::from_pairs(labels.iter().copied()), Timestamp(at), line, metadata);
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str, params: &[(&str, &str)]) -> (StatusCode, String) {
        let uri = format!("/loki/api/v1/{path}?{}", encode(params));
        self.send(Request::get(uri).body(Body::empty()).unwrap()).await
    }

    async fn json(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let (status, body) = self.get(path, params).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Asserts the `data` of an answer, or its status and text when it is an error; `stats` are left out.
    #[track_caller]
    fn check(&self, path: &str, params: &[(&str, &str)], expected: Expect) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, body) = runtime.block_on(self.get(path, params));
        let shown = if status == StatusCode::OK {
            let mut json: Value = serde_json::from_str(&body).unwrap();
            match json.get_mut("data") {
                Some(data) => {
                    if let Some(object) = data.as_object_mut() {
                        object.remove("stats");
                    }
                    data.to_string()
                }
                None => json.to_string(),
            }
        } else {
            format!("{} {body}", status.as_u16())
        };
        expected.assert_eq(&shown);
    }
}

fn encode(params: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.bytes().map(|c| format!("%{c:02x}")).collect::<String>();
    params.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
}

#[test]
fn lines_come_newest_first_by_stream() {
    Server::filled().check(
        "query_range",
        &[("query", r#"{app="web"} |= "info" | json | n > 4 | keep app, n"#), ("limit", "2")],
        expect![[r#"{"result":[{"stream":{"app":"web","n":"6"},"values":[["1699999996000000000","{\"level\":\"info\",\"n\":6,\"path\":\"/a b\"}"]]},{"stream":{"app":"web","n":"8"},"values":[["1699999998000000000","{\"level\":\"info\",\"n\":8,\"path\":\"/a b\"}"]]}],"resultType":"streams"}"#]],
    );
}

#[test]
fn metadata_and_parsed_labels_fold_into_the_stream() {
    let server = Server::new();
    server.push(&[("app", "a")], NOW - 5, "x=1 app=b", &[("trace_id", "t")]);
    server.check(
        "query_range",
        &[("query", r#"{app="a"} | logfmt"#)],
        expect![[r#"{"result":[{"stream":{"app":"a","app_extracted":"b","trace_id":"t","x":"1"},"values":[["1699999999999999995","x=1 app=b"]]}],"resultType":"streams"}"#]],
    );
}

#[tokio::test]
async fn categorised_labels_stay_with_their_entry() {
    let server = Server::new();
    server.push(&[("app", "a")], NOW - 5, "x=1", &[("trace_id", "t")]);
    let uri = format!("/loki/api/v1/query_range?{}", encode(&[("query", r#"{app="a"} | logfmt"#)]));
    let request = Request::get(uri).header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let (_, body) = server.send(request.body(Body::empty()).unwrap()).await;
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["data"]["encodingFlags"], serde_json::json!(["categorize-labels"]));
    assert_eq!(
        json["data"]["result"],
        serde_json::json!([{"stream": {"app": "a"}, "values": [["1699999999999999995", "x=1",
            {"structuredMetadata": {"trace_id": "t"}, "parsed": {"x": "1"}}]]}])
    );
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_a_line() {
    let server = Server::new();
    for i in 0..40i64 {
        // Several lines share each timestamp, over two streams.
        let app = if i % 3 == 0 { "a" } else { "b" };
        server.push(&[("app", app)], NOW - SECOND + i / 4, &format!("line {i}"), &[]);
    }
    let lines = |json: &Value| -> Vec<(i64, String)> {
        let mut out = Vec::new();
        for stream in json["data"]["result"].as_array().unwrap() {
            for value in stream["values"].as_array().unwrap() {
                out.push((value[0].as_str().unwrap().parse().unwrap(), value[1].as_str().unwrap().to_owned()));
            }
        }
        out
    };
    let ask = async |limit: &str, direction: &str| {
        lines(&server.json("query_range", &[("query", "{}"), ("limit", limit), ("direction", direction)]).await)
    };
    for direction in ["forward", "backward"] {
        let all = ask("1000", direction).await;
        assert_eq!(all.len(), 40);
        for limit in 1..40 {
            let some = ask(&limit.to_string(), direction).await;
            assert_eq!(some.len(), limit);
            // A longer page holds all of the shorter one.
            let more = ask(&(limit + 1).to_string(), direction).await;
            assert!(some.iter().all(|line| more.contains(line)), "{direction} {limit}");
        }
    }
}

#[test]
fn numbers_come_as_vector_matrix_and_scalar() {
    let server = Server::filled();
    server.check(
        "query",
        &[("query", r#"sum by (app) (count_over_time({env="prod"}[1m]))"#)],
        expect![[r#"{"result":[{"metric":{"app":"db"},"value":[1700000000,"5"]},{"metric":{"app":"web"},"value":[1700000000,"5"]}],"resultType":"vector"}"#]],
    );
    server.check(
        "query_range",
        &[
            ("query", r#"sum by (level) (rate({env="prod"} | json [5s]))"#),
            ("start", "1699999995"),
            ("end", "1700000000"),
            ("step", "5"),
        ],
        expect![[r#"{"result":[{"metric":{"level":"error"},"values":[[1699999995,"0.2"]]},{"metric":{"level":"info"},"values":[[1699999995,"0.8"],[1700000000,"0.8"]]}],"resultType":"matrix"}"#]],
    );
    server.check("query", &[("query", "1 + 1")], expect![[r#"{"result":[1700000000,"2"],"resultType":"scalar"}"#]]);
}

#[test]
fn grafanas_health_check_passes() {
    Server::new().check(
        "query",
        &[("query", "vector(1)+vector(1)"), ("time", "4000000000")],
        expect![[r#"{"result":[{"metric":{},"value":[4000000000,"2"]}],"resultType":"vector"}"#]],
    );
}

#[test]
fn labels_values_and_series_are_listed() {
    let server = Server::filled();
    server.check("labels", &[], expect![[r#"["app","env"]"#]]);
    server.check("label", &[("query", r#"{app="db"}"#)], expect![[r#"["app","env"]"#]]);
    server.check("label/app/values", &[], expect![[r#"["db","web"]"#]]);
    server.check("label/app/values", &[("query", r#"{app=~"d.*"}"#)], expect![[r#"["db"]"#]]);
    server.check("label/none/values", &[], expect![[r#"{"status":"success"}"#]]);
    server.check("series", &[("match[]", r#"{app="web"}"#)], expect![[r#"[{"app":"web","env":"prod"}]"#]]);
    server.check(
        "series",
        &[("match", r#"{app="db"}"#), ("match", r#"{app="web"}"#)],
        expect![[r#"[{"app":"db","env":"prod"},{"app":"web","env":"prod"}]"#]],
    );
    server.check("labels", &[("start", "1"), ("end", "2")], expect![[r#"{"status":"success"}"#]]);
}

#[test]
fn the_index_is_summed_up() {
    let server = Server::filled();
    server.check(
        "index/stats",
        &[("query", r#"{app="web"}"#)],
        expect![[r#"{"bytes":181,"chunks":3,"entries":5,"streams":1}"#]],
    );
    server.check(
        "index/volume",
        &[("query", r#"{env="prod"}"#), ("targetLabels", "app")],
        expect![[r#"{"result":[{"metric":{"app":"db"},"value":[1700000000,"181"]},{"metric":{"app":"web"},"value":[1700000000,"181"]}],"resultType":"vector"}"#]],
    );
    server.check(
        "index/volume",
        &[("query", r#"{env="prod"}"#), ("aggregateBy", "labels"), ("limit", "1")],
        expect![[r#"{"result":[{"metric":{"app":""},"value":[1700000000,"362"]}],"resultType":"vector"}"#]],
    );
    server.check(
        "index/volume_range",
        &[("query", r#"{env="prod"}"#), ("start", "1699999900"), ("end", "1700000000"), ("step", "50s")],
        expect![[r#"{"result":[{"metric":{"env":"prod"},"values":[[1700000000,"362"]]}],"resultType":"matrix"}"#]],
    );
}

#[test]
fn fields_are_detected() {
    let server = Server::filled();
    server.check(
        "detected_labels",
        &[],
        expect![[r#"{"detectedLabels":[{"cardinality":2,"label":"app"},{"cardinality":1,"label":"env"}]}"#]],
    );
    server.check(
        "detected_fields",
        &[("query", r#"{app="web"}"#), ("limit", "2")],
        expect![[r#"{"fields":[{"cardinality":2,"jsonPath":["level"],"label":"level","parsers":["json"],"type":"string"},{"cardinality":5,"jsonPath":["n"],"label":"n","parsers":["json"],"type":"int"}],"limit":2}"#]],
    );
    server.check(
        "detected_field/level/values",
        &[("query", r#"{app="web"}"#)],
        expect![[r#"{"limit":1000,"values":["error","info"]}"#]],
    );
}

#[test]
fn templates_are_mined() {
    let server = Server::new();
    for i in 0..6 {
        server.push(&[("app", "a")], NOW - i * 20 * SECOND, &format!("request {i} took {i}ms"), &[]);
    }
    server.push(&[("app", "a")], NOW - SECOND, "shutting down", &[]);
    let range = [("start", "1699999880"), ("end", "1700000000"), ("step", "1m")];
    let query = ("query", r#"{app="a"}"#);
    server.check(
        "patterns",
        &[query, range[0], range[1], range[2]],
        expect![[r#"[{"pattern":"request <_> took <_>","samples":[[1699999860,1],[1699999920,3],[1699999980,2]]},{"pattern":"shutting down","samples":[[1699999980,1]]}]"#]],
    );
    server.check("patterns", &[query, ("step", "1ms")], expect!["400 step must be at least one second"]);
}

#[test]
fn lines_may_be_thinned_out() {
    let server = Server::filled();
    let lines = |interval: &str, direction: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let params =
            [("query", r#"{env="prod"} | keep app"#), ("interval", interval), ("direction", direction), ("limit", "3")];
        let json = runtime.block_on(server.json("query_range", &params));
        let streams = json["data"]["result"].as_array().unwrap().clone();
        let values = streams.iter().flat_map(|stream| stream["values"].as_array().unwrap().clone());
        let mut times: Vec<i64> = values.map(|v| v[0].as_str().unwrap().parse::<i64>().unwrap() - NOW).collect();
        times.sort_unstable();
        times.iter().map(|t| t / SECOND).collect::<Vec<_>>()
    };
    assert_eq!(lines("4s", "forward"), [-10, -6, -2]);
    assert_eq!(lines("4s", "backward"), [-9, -5, -1]);
    assert_eq!(lines("0", "backward"), [-3, -2, -1]);
}

#[test]
fn the_query_is_formatted() {
    let server = Server::new();
    server.check(
        "format_query",
        &[("query", r#"sum(rate({app='x'}[1m]))"#)],
        expect![[r#"400 {"error":"parse error at line 1, col 15: syntax error: unexpected IDENTIFIER, expecting STRING","status":"invalid-query"}"#]],
    );
    server.check("format_query", &[("query", r#"rate({app="x"}[60s])"#)], expect![[r#""rate({app=\"x\"}[1m])""#]]);
}

#[tokio::test]
async fn clients_learn_the_version_and_limits() {
    let server = Server::new();
    assert_eq!(server.json("status/buildinfo", &[]).await["version"], "3.7.6");
    assert_eq!(server.json("drilldown-limits", &[]).await["limits"]["volume_enabled"], true);
}

#[tokio::test]
async fn forms_are_read_like_query_strings() {
    let server = Server::filled();
    let body = encode(&[("query", r#"count_over_time({app="web"}[1m])"#)]);
    let request = Request::post("/loki/api/v1/query").header("content-type", "application/x-www-form-urlencoded");
    let (status, body) = server.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""value":[1700000000,"5"]"#), "{body}");
}

#[tokio::test]
async fn answers_tell_what_they_took() {
    let json = Server::filled().json("query_range", &[("query", r#"{app="web"}"#)]).await;
    let summary = &json["data"]["stats"]["summary"];
    assert_eq!(summary["totalLinesProcessed"], 5);
    assert_eq!(summary["totalEntriesReturned"], 5);
    assert!(summary["execTime"].as_f64().unwrap() > 0.0);
    let took = async |path: &str, query: &str| {
        let json = Server::filled().json(path, &[("query", query)]).await;
        let stats = &json["data"]["stats"];
        let chunk = &stats["querier"]["store"]["chunk"];
        assert_eq!(chunk["decompressedLines"], stats["summary"]["totalLinesProcessed"]);
        assert_eq!(chunk["decompressedBytes"], stats["summary"]["totalBytesProcessed"]);
        assert_eq!(chunk["postFilterLines"], stats["summary"]["totalPostFilterLines"]);
        assert_eq!(stats["ingester"]["totalReached"], 0);
        let count = |name: &str| stats["summary"][name].as_u64().unwrap();
        (count("totalLinesProcessed"), count("totalPostFilterLines"))
    };
    let all = took("query_range", r#"{app="web"}"#).await;
    assert_eq!(all, (5, 5));
    assert_eq!(took("query_range", r#"{app="web"} |= "nowhere""#).await.1, 0);
    let passing = took("query_range", r#"{app="web"} | logfmt | status="200""#).await;
    assert!(passing.0 == 5 && passing.1 < 5, "{passing:?}");
    assert_eq!(took("query", r#"sum(count_over_time({app="web"}[1m]))"#).await, (5, 5));
    let counted = took("query", r#"sum(count_over_time({app="web"} | logfmt | status="200" [1m]))"#).await;
    assert_eq!(counted.1, passing.1);
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let server = Server::filled();
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    let hostile = format!("{{app=\"web\"}} |~ \"{}\"", "(a{1000}){1000}");
    server.check("query", &[], expect!["400 parse error : syntax error: unexpected $end"]);
    server.check(
        "query",
        &[("query", "{app=")],
        expect!["400 parse error at line 1, col 6: syntax error: unexpected $end, expecting STRING"],
    );
    server.check(
        "query",
        &[("query", "up{")],
        expect!["400 parse error at line 1, col 1: syntax error: unexpected IDENTIFIER"],
    );
    server.check(
        "query",
        &[("query", r#"{app="web"}"#)],
        expect![
            "400 log queries are not supported as an instant query type, please change your query to a range query type"
        ],
    );
    server.check("query_range", &[("query", r#"{app=~".*"}"#)], expect![[r#"400 parse error : queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, app=~".*" does not meet this requirement, but app=~".+" will"#]]);
    server.check(
        "query_range",
        &[("query", &deep)],
        expect!["400 parse error at line 1, col 101: the query is nested more than 100 levels deep"],
    );
    server.check(
        "query_range",
        &[("query", &hostile)],
        expect![[
            r#"400 parse error : stage '|~ "(a{1000}){1000}"' : the regular expression needs more than 4194304 bytes"#
        ]],
    );
    server.check("query_range", &[("query", "{}"), ("limit", "0")], expect!["400 limit must be a positive value"]);
    server.check("query_range", &[("query", "{}"), ("direction", "up")], expect!["400 invalid direction 'up'"]);
    server.check(
        "query_range",
        &[("query", "{}"), ("start", "x")],
        expect![[r#"400 could not parse 'start' parameter: strconv.ParseInt: parsing "x": invalid syntax"#]],
    );
    server.check(
        "query_range",
        &[("query", "{}"), ("start", "10"), ("end", "5")],
        expect!["400 end timestamp must not be before or equal to start time"],
    );
    server.check(
        "query_range",
        &[("query", "rate({}[1m])"), ("step", "0")],
        expect!["400 zero or negative query resolution step widths are not accepted. Try a positive integer"],
    );
    server.check(
        "query_range",
        &[("query", "{}"), ("step", "-1")],
        expect!["400 zero or negative query resolution step widths are not accepted. Try a positive integer"],
    );
    server.check(
        "query",
        &[("query", "rate({}[1m])"), ("limit", "x")],
        expect![[r#"400 strconv.Atoi: parsing "x": invalid syntax"#]],
    );
    server.check("index/stats", &[("query", r#"{app="x"} |= "y""#)], expect!["400 only label matchers are supported"]);
    server.check("query_range", &[("query", "rate({}[1m])"), ("since", "10y"), ("step", "1s")], expect!["400 exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter"]);
    server.check("series", &[("match[]", r#"{app="x"} |= "y""#)], expect!["400 only label matchers are supported"]);
    server.check("index/volume", &[("query", "{}"), ("aggregateBy", "x")], expect!["400 invalid aggregation option"]);
    server.check("tail", &[("query", "rate({}[1m])")], expect!["400 parse error : only log selector is supported"]);
    server.check("tail", &[("query", "{}"), ("delay_for", "9")], expect!["400 delay_for can't be greater than 5"]);
}

#[test]
fn lines_that_do_not_parse_fail_a_metric_query() {
    let server = Server::new();
    server.push(&[("app", "a")], NOW - 5, "no json", &[]);
    let query = r#"sum by (x) (count_over_time({app="a"} | json [1m]))"#;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (status, body) = runtime.block_on(server.get("query", &[("query", query)]));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.starts_with("pipeline error: 'JSONParserErr' for series: '{__error__=\"JSONParserErr\""), "{body}");
    server.check(
        "query",
        &[("query", r#"sum(count_over_time({app="a"} | json | __error__="" [1m]))"#)],
        expect![[r#"{"result":[],"resultType":"vector"}"#]],
    );
}

#[test]
fn limits_are_told() {
    let server = Server::with_limits(Limits { bytes_max: 10, ..Limits::default() });
    server.push(&[("app", "a")], NOW - 5, "a line of more than ten bytes", &[]);
    server.check(
        "query_range",
        &[("query", "{}")],
        expect!["400 the query would load 29 bytes, the limit is 10 (--query-max-bytes)"],
    );
    let server = Server::with_limits(Limits { memory_bytes_max: 100, ..Limits::default() });
    server.push(&[("app", "a")], NOW - 5, &"x".repeat(200), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (status, body) = runtime.block_on(server.get("query_range", &[("query", "{}")]));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("bytes of memory, the limit is 100"), "{body}");
}

/// Serves on a free port of the loopback until dropped.
struct Listening {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(server: &Server) -> Listening {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/loki/api/v1/tail", listener.local_addr().unwrap());
    let router = server.router.clone();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Listening { url, task }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Reads frames until `count` lines came; returns them and how many were dropped.
async fn read_lines(socket: &mut Socket, count: usize) -> (Vec<String>, u64) {
    use futures_util::StreamExt;
    let mut lines = Vec::new();
    let mut dropped = 0;
    while lines.len() < count {
        let message = tokio::time::timeout(std::time::Duration::from_secs(20), socket.next()).await;
        let message = message.expect("a frame in time").unwrap().unwrap();
        let tokio_tungstenite::tungstenite::Message::Text(text) = message else { continue };
        let frame: query_wire::loki::TailFrame = serde_json::from_str(&text).unwrap();
        dropped += frame.dropped_count;
        lines.extend(frame.streams.into_iter().flat_map(|stream| stream.values).map(|entry| entry.line));
    }
    (lines, dropped)
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_gives_the_past_and_then_new_lines() {
    let server = Server::new();
    server.push(&[("app", "a")], NOW - 2, "old", &[]);
    server.push(&[("app", "b")], NOW - 1, "other", &[]);
    let listening = listen(&server).await;
    let url = format!("{}?{}", listening.url, encode(&[("query", r#"{app="a"} != "skip""#)]));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(read_lines(&mut socket, 1).await.0, ["old"]);
    for line in ["new 1", "skip", "new 2"] {
        server.push(&[("app", "a")], NOW, line, &[]);
        server.push(&[("app", "b")], NOW, line, &[]);
    }
    assert_eq!(read_lines(&mut socket, 2).await.0, ["new 1", "new 2"]);
    socket.close(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_reader_that_stalls_is_told_what_it_missed() {
    const LINES: usize = 40_000;
    let server = Server::new();
    let listening = listen(&server).await;
    let url = format!("{}?{}", listening.url, encode(&[("query", "{}")]));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    server.push(&[("app", "a")], NOW, "first", &[]);
    assert_eq!(read_lines(&mut socket, 1).await.0, ["first"]);
    // More than the sockets' buffers and the queue hold, while nobody reads.
    let padding = "x".repeat(2000);
    for i in 0..LINES {
        server.push(&[("app", "a")], NOW + 1 + i as i64, &format!("{i} {padding}"), &[]);
    }
    server.push(&[("app", "a")], NOW + SECOND, "last", &[]);
    let mut read = 0;
    let mut dropped = 0;
    // What was queued comes, then a frame that counts the rest: together they are all lines.
    while read + dropped < LINES as u64 + 1 {
        let (lines, missed) = read_lines(&mut socket, 1).await;
        read += lines.len() as u64;
        dropped += missed;
    }
    assert_eq!(read + dropped, LINES as u64 + 1);
    assert!(dropped > 0, "{read} of {LINES} lines were read");
}

#[tokio::test]
async fn tail_without_upgrade_is_refused() {
    let (status, _) = Server::new().get("tail", &[("query", "{}")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
