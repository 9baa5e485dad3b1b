//! Hostile queries of logs, and readers that do not read: a clear error or a stated limit, and the server lives on.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::harness::{Builder, DEADLINE, Server, now_ms, until};

#[tokio::test]
async fn hostile_patterns_are_refused_or_answered_in_time() {
    let mut server = Server::start().await;
    let at = now_ms() * 1_000_000 - 1_000_000_000;
    let lines: Vec<(i64, String)> = (0..50).map(|i| (at + i, "a".repeat(20_000))).collect();
    server.loki_push(&json!({"app": "a"}), &lines).await.ok();
    let deep = |open: &str, close: &str| format!("{}x{}", open.repeat(5_000), close.repeat(5_000));
    for (pattern, expected) in [
        // Backtracking would take longer than the universe lasts.
        ("(a+)+b".to_owned(), 200),
        ("(a|a)*(a|a)*(a|a)*b".to_owned(), 200),
        ("((a{0,100}){0,100}){0,100}b".to_owned(), 400),
        (deep("(", ")"), 400),
        ("[[:wrong:]]".to_owned(), 400),
        ("a{1000,1}".to_owned(), 400),
    ] {
        let text = Value::from(pattern.clone());
        for query in
            [format!("{{app=\"a\"}} |~ {text}"), format!("{{app=~{text}}}"), format!("{{app=\"a\"}} | regexp {text}")]
        {
            let params = [("query", query.as_str()), ("start", &at.to_string())];
            let asked = server.get("/loki/api/v1/query_range", &params);
            let answer = tokio::time::timeout(DEADLINE, asked).await.expect("an answer in time");
            // A parser wants named groups, whatever else is in the pattern.
            let is_fine = answer.status == expected || query.contains("regexp") && answer.status == 400;
            let shown: String = pattern.chars().take(40).collect();
            assert!(is_fine, "{shown}: {} {}", answer.status, answer.text());
            assert!(answer.status == 200 || !answer.text().is_empty());
        }
    }
    assert!(server.is_alive());
    assert_eq!(server.lines("{app=\"a\"}", (at, at + 99), 100).await.len(), 50);
}

#[tokio::test]
async fn a_query_over_everything_names_the_limit_that_it_is_over() {
    let builder = Builder::new().flag("query-max-bytes", "200KiB").flag("query-max-series", "20");
    let server = builder.flag("query-max-memory-bytes", "1MiB").start().await;
    let at = now_ms() * 1_000_000 - 1_000_000_000;
    let lines: Vec<(i64, String)> = (0..2000).map(|i| (at + i, format!("line {i} {}", "x".repeat(100)))).collect();
    server.loki_push(&json!({"app": "long"}), &lines).await.ok();
    for i in 0..30 {
        server.loki_push(&json!({"app": "many", "id": i.to_string()}), &[(at + i, "x".to_owned())]).await.ok();
    }
    let start = at.to_string();
    for flushed in [false, true] {
        if flushed {
            server.flush().await;
        }
        for (path, query, limit) in [
            ("query_range", "{app=\"long\"} != \"y\"", "--query-max-bytes"),
            ("query_range", "{app=\"many\"}", "--query-max-series"),
            ("query_range", "{app=~\".+\"}", "--query-max-"),
            ("query", "sum(bytes_over_time({app=\"long\"}[1h]))", "--query-max-bytes"),
            ("label/id/values", "{app=\"many\"}", "--query-max-series"),
            ("labels", "{app=\"many\"}", "--query-max-series"),
            ("series", "{app=\"many\"}", "--query-max-series"),
        ] {
            let params = [("query", query), ("match[]", query), ("start", &*start), ("limit", "5000")];
            let answer = server.get(&format!("/loki/api/v1/{path}"), &params).await;
            let text = answer.text();
            assert_eq!(answer.status, 400, "{path} {query}: {text}");
            assert!(text.contains(limit) && text.contains("the limit is"), "{path} {query}: {text}");
        }
        // What is under the limits is answered, and an export has none: it reads less at a time.
        assert_eq!(server.lines("{app=\"many\", id=\"7\"}", (at, at + 99), 100).await.len(), 1);
        let params = [("query", "{app=\"long\"}"), ("start", &*start)];
        let exported = server.get("/api/v1/logs/export", &params).await.ok().text();
        assert_eq!(exported.lines().count(), 2000);
    }
}

#[tokio::test]
async fn many_label_values_are_listed_and_cost_little() {
    const VALUES: i64 = 20_000;
    let server = Server::start().await;
    let at = now_ms() * 1_000_000 - 1_000_000_000;
    for chunk in (0..VALUES).collect::<Vec<_>>().chunks(2_000) {
        let stream = |i: &i64| json!({"stream": {"app": "a", "id": format!("id{i:06}")}, "values": [[(at + i).to_string(), "x"]]});
        let body = json!({"streams": chunk.iter().map(stream).collect::<Vec<_>>()});
        let headers = [("content-type", "application/json")];
        server.post(&server.url("/loki/api/v1/push"), &headers, body.to_string().into_bytes()).await.ok();
    }
    let start = at.to_string();
    for flushed in [false, true] {
        if flushed {
            server.flush().await;
        }
        let answer = server.get("/loki/api/v1/label/id/values", &[("start", &*start)]).await.ok().json();
        let values = answer["data"].as_array().expect("values");
        assert_eq!(
            (values.len() as i64, &values[0], &values[19_999]),
            (VALUES, &json!("id000000"), &json!("id019999"))
        );
        let query = [("query", "count(sum by (id) (count_over_time({app=\"a\"}[1h])))")];
        let data = server.data("/loki/api/v1/query", &query).await;
        assert_eq!(data["result"][0]["value"][1], VALUES.to_string());
    }
}

#[tokio::test]
async fn many_values_of_a_metadata_field_are_bounded() {
    const VALUES: i64 = 6_000;
    let builder = Builder::new().flag("query-max-series", "1000").flag("query-max-memory-bytes", "4MiB");
    let server = builder.start().await;
    let at = now_ms() * 1_000_000 - 1_000_000_000;
    let long = "v".repeat(1_000);
    let value = |i: i64| json!([(at + i).to_string(), "x", {"user": format!("u{i:06}"), "long": format!("{i}{long}")}]);
    for chunk in (0..VALUES).collect::<Vec<_>>().chunks(2_000) {
        let values: Vec<Value> = chunk.iter().map(|i| value(*i)).collect();
        let body = json!({"streams": [{"stream": {"app": "a"}, "values": values}]});
        let headers = [("content-type", "application/json")];
        server.post(&server.url("/loki/api/v1/push"), &headers, body.to_string().into_bytes()).await.ok();
    }
    let start = at.to_string();
    for flushed in [false, true] {
        if flushed {
            server.flush().await;
        }
        let ask = async |path: &str, query: &str, more: (&str, &str)| {
            let params = [("query", query), ("start", &*start), more];
            let answer = server.get(&format!("/loki/api/v1/{path}"), &params).await;
            (answer.status, answer.text())
        };
        for query in [
            "sum by (user) (count_over_time({app=\"a\"}[1h]))",
            "count(sum by (user) (count_over_time({app=\"a\"}[1h])))",
            "topk(3, sum by (user) (rate({app=\"a\"} |= \"x\" [1h])))",
            "max by (user) (max_over_time({app=\"a\"} | label_format n=\"1\" | unwrap n [1h]))",
        ] {
            let (status, text) = ask("query", query, ("limit", "10")).await;
            assert_eq!(status, 400, "{query}: {text}");
            // Whichever is reached first: rows are counted and held on the way to the series.
            let is_told = text.contains("--query-max-series") || text.contains("--query-max-memory-bytes");
            assert!(is_told && text.contains("the limit is"), "{query}: {text}");
        }
        let (status, text) = ask("query", "sum(count_over_time({app=\"a\"} | user=\"u000007\" [1h]))", ("", "")).await;
        assert!(status == 200 && text.contains("\"1\""), "{text}");
        // What is asked for is what is looked at, and told; what does not fit into memory is an error.
        let (status, text) = ask("detected_fields", "{app=\"a\"}", ("line_limit", "500")).await;
        let fields: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text}"));
        let fields = fields["fields"].as_array().expect("fields");
        let user = fields.iter().find(|field| field["label"] == "user").expect("the field");
        assert_eq!(user["cardinality"], 500);
        let (_, text) = ask("detected_field/user/values", "{app=\"a\"}", ("limit", "7")).await;
        let values: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(values["values"].as_array().map(Vec::len), Some(7), "{text}");
        for path in ["detected_fields", "detected_field/long/values"] {
            let (status, text) = ask(path, "{app=\"a\"}", ("line_limit", "6000")).await;
            assert!(status == 400 && text.contains("--query-max-memory-bytes"), "{path}: {status} {text}");
        }
        let (_, text) = ask("labels", "{app=\"a\"}", ("", "")).await;
        assert!(!text.contains("user"), "metadata are no labels: {text}");
    }
    let mut server = server;
    assert!(server.is_alive());
}

#[tokio::test]
async fn a_reader_that_stalls_is_told_how_many_lines_it_missed() {
    const LINES: i64 = 40_000;
    let server = Server::start().await;
    let url = server.url("/loki/api/v1/tail?query=%7Bapp%3D%22a%22%7D").replace("http://", "ws://");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a websocket");
    // It does not read. What fits into sockets and the queue is kept, the rest is counted.
    let at = now_ms() * 1_000_000;
    let long = "x".repeat(2_000);
    for chunk in (0..LINES).collect::<Vec<_>>().chunks(2_000) {
        let lines: Vec<(i64, String)> = chunk.iter().map(|i| (at + i, format!("{i} {long}"))).collect();
        server.loki_push(&json!({"app": "a"}), &lines).await.ok();
    }
    let dropped = async || {
        let text = server.get("/metrics", &[]).await.ok().text();
        text.contains("daybook_tail_dropped_entries_total{reason=\"slow_reader\"} ").then_some(())
    };
    until("lines to be dropped", dropped).await;
    let (mut seen, mut missed, mut named) = (0_i64, 0_i64, 0);
    while seen + missed < LINES {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await;
        let message = message.unwrap_or_else(|_| panic!("no more frames: {seen} seen, {missed} missed"));
        let Ok(text) = message.expect("the socket is open").expect("a frame").into_text() else { continue };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
        let streams = frame["streams"].as_array().expect("streams");
        seen += streams.iter().map(|stream| stream["values"].as_array().map_or(0, Vec::len) as i64).sum::<i64>();
        missed += frame["droppedCount"].as_i64().unwrap_or(0);
        named += frame["dropped_entries"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(seen + missed, LINES, "{seen} seen, {missed} missed");
    assert!(missed > 0 && named > 0, "{missed} missed, {named} named");
}
