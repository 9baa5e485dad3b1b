//! The Loki HTTP API as its clients know it.

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::harness::{DEADLINE, Server, now_ms, shared, until};

/// Returns a server with lines of two services, and the range that holds them in nanoseconds.
async fn with_lines() -> (Server, (i64, i64)) {
    let server = Server::start().await;
    let end = now_ms() * 1_000_000;
    let line = |i: i64, text: &str| (end - 60_000_000_000 + i * 1_000_000_000, text.to_owned());
    let api = [
        line(0, "level=info msg=\"request done\" status=200 path=/a"),
        line(1, "level=error msg=\"request failed\" status=500 path=/b"),
        line(2, "level=info msg=\"request done\" status=200 path=/c"),
    ];
    let web = [line(3, "{\"level\":\"warn\",\"user\":{\"id\":7},\"took\":1.5}"), line(4, "no structure at all")];
    server.loki_push(&json!({"service_name": "api", "env": "prod"}), &api).await.ok();
    server.loki_push(&json!({"service_name": "web", "env": "prod"}), &web).await.ok();
    (server, (end - 61_000_000_000, end))
}

#[tokio::test]
async fn selectors_filters_and_parsers_find_lines() {
    let (server, range) = with_lines().await;
    let check = async |query: &str, expected: usize| {
        let found = server.lines(query, range, 100).await;
        assert_eq!(found.len(), expected, "{query}: {found:?}");
    };
    for flushed in [false, true] {
        if flushed {
            server.flush().await;
        }
        check("{service_name=\"api\"}", 3).await;
        check("{env=\"prod\"}", 5).await;
        check("{service_name=~\"a.*\"}", 3).await;
        check("{service_name!=\"api\", env=\"prod\"}", 2).await;
        check("{env=\"prod\"} |= \"failed\"", 1).await;
        check("{env=\"prod\"} |= \"quest fai\"", 1).await;
        check("{env=\"prod\"} != \"request\"", 2).await;
        check("{env=\"prod\"} |~ \"status=(200|500)\"", 3).await;
        check("{env=\"prod\"} !~ \"status=\\\\d+\"", 2).await;
        check("{service_name=\"api\"} | logfmt | status >= 500", 1).await;
        check("{service_name=\"api\"} | logfmt | path=\"/c\"", 1).await;
        check("{service_name=\"web\"} | json | user_id=\"7\"", 1).await;
        check("{service_name=\"nothing\"}", 0).await;
    }
}

#[tokio::test]
async fn direction_and_limit_choose_which_lines_come() {
    let (server, (start, end)) = with_lines().await;
    let ask = async |direction: &str| {
        let (start, end) = (start.to_string(), end.to_string());
        let params = [
            ("query", "{service_name=\"api\"}"),
            ("start", &start),
            ("end", &end),
            ("limit", "1"),
            ("direction", direction),
        ];
        let data = server.data("/loki/api/v1/query_range", &params).await;
        data["result"][0]["values"][0][1].as_str().unwrap().to_owned()
    };
    assert!(ask("forward").await.ends_with("path=/a"));
    assert!(ask("backward").await.ends_with("path=/c"));
}

#[tokio::test]
async fn metric_queries_count() {
    let (server, (_, end)) = with_lines().await;
    let end = end.to_string();
    let query = "sum by (service_name) (count_over_time({env=\"prod\"}[5m]))";
    let data = server.data("/loki/api/v1/query", &[("query", query), ("time", &end)]).await;
    assert_eq!(data["resultType"], "vector");
    let mut found: Vec<(String, String)> = data["result"].as_array().unwrap().iter().map(sample).collect();
    found.sort();
    assert_eq!(found, [("api".to_owned(), "3".to_owned()), ("web".to_owned(), "2".to_owned())]);
    let query = "sum(rate({service_name=\"api\"} |= \"done\" [1m]))";
    let params = [("query", query), ("start", &end), ("end", &end), ("step", "10")];
    let data = server.data("/loki/api/v1/query_range", &params).await;
    assert_eq!(data["resultType"], "matrix", "{data}");
}

fn sample(series: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&series["metric"]["service_name"]), text(&series["value"][1]))
}

#[tokio::test]
async fn labels_values_and_series_are_listed() {
    let (server, (start, end)) = with_lines().await;
    let (start, end) = (start.to_string(), end.to_string());
    let range = [("start", start.as_str()), ("end", end.as_str())];
    let names = server.data("/loki/api/v1/labels", &range).await;
    assert!(["env", "service_name"].iter().all(|name| names.as_array().unwrap().contains(&json!(name))), "{names}");
    // Without a selector there are also the server's own events.
    let ours = [("query", "{env=\"prod\"}"), range[0], range[1]];
    assert_eq!(server.data("/loki/api/v1/label/service_name/values", &ours).await, json!(["api", "web"]));
    let matching = [("match[]", "{service_name=\"web\"}"), range[0], range[1]];
    let series = server.data("/loki/api/v1/series", &matching).await;
    assert_eq!(series.as_array().map(Vec::len), Some(1), "{series}");
    assert_eq!(series[0]["service_name"], "web");
}

#[tokio::test]
async fn bad_queries_are_refused_with_400_and_words() {
    let server = Server::start().await;
    for query in
        ["{", "{a=\"b\"} |", "{a=\"b\"} |~ \"(\"", "rate({a=\"b\"})", "", "up", &"{a=\"b\"} |= \"x\" ".repeat(1_000)]
    {
        let answer = server.get("/loki/api/v1/query_range", &[("query", query)]).await;
        let shown: String = query.chars().take(40).collect();
        assert!(matches!(answer.status, 400 | 414 | 431), "{shown}: {} {}", answer.status, answer.text());
    }
    let answer = server.get("/loki/api/v1/query_range", &[("query", "{a=\"b\"}"), ("start", "10"), ("end", "5")]).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = server.get("/loki/api/v1/query_range", &[("query", "{a=\"b\"}"), ("limit", "-1")]).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn a_tail_shows_lines_as_they_come() {
    let server = Server::start().await;
    let url =
        format!("ws://{}/loki/api/v1/tail?query=%7Bservice_name%3D%22live%22%7D%20%7C%3D%20%22yes%22", server.http());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let at = now_ms() * 1_000_000;
    let lines = [(at, "yes 1".to_owned()), (at + 1, "no".to_owned()), (at + 2, "yes 2".to_owned())];
    server.loki_push(&json!({"service_name": "live"}), &lines).await.ok();
    let mut found = Vec::new();
    let reading = async {
        while found.len() < 2 {
            let message = socket.next().await.unwrap().unwrap();
            let Ok(text) = message.to_text() else { continue };
            let Ok(frame) = serde_json::from_str::<Value>(text) else { continue };
            for stream in frame["streams"].as_array().into_iter().flatten() {
                found.extend(
                    stream["values"].as_array().unwrap().iter().map(|value| value[1].as_str().unwrap().to_owned()),
                );
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap();
    found.sort();
    assert_eq!(found, ["yes 1", "yes 2"]);
}

#[tokio::test]
async fn real_log_files_are_found_line_by_line() {
    let Some(dir) = shared("logs") else { return };
    let server = Server::start().await;
    let base = (now_ms() - 3_600_000) * 1_000_000;
    let mut pushed = std::collections::BTreeMap::new();
    for name in ["OpenSSH_2k.log", "nginx_access.log", "Apache_2k.log", "kafka.txt"] {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().zip(0_i64..).map(|(line, i)| (base + i * 1000, line.to_owned())).collect();
        for part in lines.chunks(1000) {
            server.loki_push(&json!({"service_name": name}), part).await.ok();
        }
        pushed.insert(name, lines);
    }
    for flushed in [false, true] {
        if flushed {
            server.flush().await;
        }
        for (name, lines) in &pushed {
            let selector = format!("{{service_name=\"{name}\"}}");
            let found = server.all_lines(&selector, (base, base + 10_000_000_000)).await;
            assert!(&found == lines, "{name}: {} of {} lines, flushed: {flushed}", found.len(), lines.len());
            for word in ["Failed", "GET", "error", "INFO", "83", "10.0", "no such word"] {
                let expected = lines.iter().filter(|(_, line)| line.contains(word)).count();
                let query = format!("{selector} |= \"{word}\"");
                let found = server.all_lines(&query, (base, base + 10_000_000_000)).await.len();
                assert_eq!(found, expected, "{query}, flushed: {flushed}");
            }
        }
    }
    until("the count of all lines", async || {
        let query = "sum(count_over_time({service_name=~\".+(log|txt)\"}[2h]))";
        let data = server.data("/loki/api/v1/query", &[("query", query)]).await;
        let all = pushed.values().map(Vec::len).sum::<usize>().to_string();
        (data["result"][0]["value"][1].as_str() == Some(&all)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_level_is_detected_from_severities_and_level_fields() {
    let server = Server::start().await;
    let at = now_ms() * 1_000_000 - 10_000_000_000;
    let lines: Vec<(i64, String)> = (0..5).map(|i| (at + i, format!("line {i}"))).collect();
    server.otlp_logs(&super::harness::logs::otlp_request("shop", &lines)).await.ok();
    server.loki_push(&json!({"service_name": "shop", "level": "Warning"}), &lines[..2]).await.ok();
    server.loki_push(&json!({"service_name": "shop", "pod": "p"}), &lines[..3]).await.ok();
    let (start, end) = (at.to_string(), (at + 1_000_000_000).to_string());
    let time = end.as_str();
    for step in ["head", "block"] {
        let found = server.lines("{service_name=\"shop\"} | detected_level=\"info\"", (at, at + 99), 100).await;
        assert_eq!(found.len(), 5, "{step}");
        let query = "sum by (detected_level) (count_over_time({service_name=\"shop\"}[1m]))";
        let data = server.data("/loki/api/v1/query", &[("query", query), ("time", time)]).await;
        let mut found: Vec<(String, String)> = data["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|series| {
                let level = series["metric"]["detected_level"].as_str().unwrap_or("").to_owned();
                (level, series["value"][1].as_str().unwrap().to_owned())
            })
            .collect();
        found.sort();
        let expected = [("", "3"), ("info", "5"), ("warn", "2")].map(|(level, n)| (level.to_owned(), n.to_owned()));
        assert_eq!(found, expected, "{step}");
        let params = [("query", "{service_name=\"shop\", pod=\"p\"}"), ("start", &*start), ("end", &*end)];
        let data = server.data("/loki/api/v1/query_range", &params).await;
        let plain = json!({"service_name": "shop", "pod": "p"});
        assert_eq!(data["result"][0]["stream"], plain, "nothing tells a level, and none is made up");
        server.flush().await;
    }
}
