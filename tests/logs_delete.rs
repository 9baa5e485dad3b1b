//! Deletes of log lines: out of sight at once, over restarts, and off the disk in the end.

use serde_json::{Value, json};

use super::harness::{Server, now_ms};

const SECOND: i64 = 1_000_000_000;

impl Server {
    async fn delete(&self, method: reqwest::Method, params: &[(&str, &str)]) -> (u16, String) {
        let query: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let url = self.url(&format!("/loki/api/v1/delete?{}", query.join("&")));
        let answer = self.client().request(method, url).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    async fn deletes(&self) -> Value {
        let (status, body) = self.delete(reqwest::Method::GET, &[]).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("a list")
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn lines_are_deleted_by_query_and_stay_deleted() {
    let mut server = Server::start().await;
    let end = now_ms() * 1_000_000;
    let range = (end - 100 * SECOND, end);
    let line =
        |i: i64| (end - 60 * SECOND + i, format!("level={} line {i}", if i % 5 == 0 { "secret" } else { "info" }));
    let lines: Vec<(i64, String)> = (0..200).map(line).collect();
    server.loki_push(&json!({"app": "a"}), &lines).await.ok();
    server.loki_push(&json!({"app": "b"}), &lines).await.ok();
    let start = (range.0 / SECOND).to_string();
    let query = "{app=\"a\"} | logfmt | level=\"secret\"";
    let post = reqwest::Method::POST;
    assert_eq!(server.delete(post.clone(), &[("query", query), ("start", &start)]).await, (204, String::new()));
    let expected: Vec<(i64, String)> = lines.iter().filter(|(_, text)| !text.contains("secret")).cloned().collect();
    for step in ["at once", "restarted", "flushed", "restarted again"] {
        assert_eq!(server.lines("{app=\"a\"}", range, 1000).await, expected, "{step}");
        assert_eq!(server.lines("{app=\"b\"}", range, 1000).await.len(), 200, "{step}");
        let count = [("query", "sum(count_over_time({app=~\"a|b\"}[5m]))"), ("time", &end.to_string())];
        assert_eq!(server.data("/loki/api/v1/query", &count).await["result"][0]["value"][1], "360", "{step}");
        let stats = [("query", "{app=\"a\"}"), ("start", &start)];
        assert_eq!(server.get("/loki/api/v1/index/stats", &stats).await.ok().json()["entries"], 160, "{step}");
        let list = server.deletes().await;
        let done = matches!(step, "flushed" | "restarted again");
        assert_eq!(list[0]["status"], if done { "processed" } else { "received" }, "{step}: {list}");
        assert_eq!((list[0]["query"].as_str(), list[0]["deleted_lines"].as_u64()), (Some(query), Some(40)));
        match step {
            "at once" => {
                let dropped = server
                    .own_metric("daybook_dropped_records_total", &["place=\"storage_delete\"", "reason=\"deleted\""]);
                assert_eq!(dropped.await as u64, 40);
                server.kill();
                server.restart().await;
            }
            "restarted" => server.flush().await,
            "flushed" => {
                server.stop().await;
                server.restart().await;
            }
            _ => {}
        }
    }
    // What is sent again is there again.
    server.loki_push(&json!({"app": "a"}), &lines).await.ok();
    assert_eq!(server.lines("{app=\"a\"} |= \"secret\"", range, 1000).await.len(), 40);
}

#[tokio::test]
async fn a_delete_is_listed_and_taken_back() {
    let server = Server::start().await;
    let at = now_ms() * 1_000_000 - SECOND;
    server.loki_push(&json!({"app": "a"}), &[(at, "one".to_owned()), (at + 1, "two".to_owned())]).await.ok();
    let (post, put, delete) = (reqwest::Method::POST, reqwest::Method::PUT, reqwest::Method::DELETE);
    assert_eq!(server.deletes().await, json!([]));
    for (params, error) in [
        (&[("start", "0")][..], "query not set"),
        (&[("query", "{app=\"a\"}")], "start time not set"),
        (&[("query", "{app="), ("start", "0")], "parse error"),
        (&[("query", "rate({app=\"a\"}[1m])"), ("start", "0")], ""),
        (&[("query", "{app=\"a\"}"), ("start", "0"), ("end", "9999999999")], "deletes in the future are not allowed"),
    ] {
        let (status, text) = server.delete(post.clone(), params).await;
        assert!(status == 400 && text.contains(error), "{params:?}: {status} {text}");
    }
    let params = [("query", "{app=\"a\"} |= \"one\""), ("start", "0")];
    assert_eq!(server.delete(put, &params).await.0, 204);
    let range = (at, at + SECOND);
    assert_eq!(server.lines("{app=\"a\"}", range, 10).await.len(), 1);
    let id = server.deletes().await[0]["request_id"].as_str().expect("an id").to_owned();
    assert_eq!(server.delete(delete.clone(), &[("request_id", &id)]).await, (204, String::new()));
    assert_eq!(server.lines("{app=\"a\"}", range, 10).await.len(), 2);
    let gone = (404, "could not find delete request with given id".to_owned());
    assert_eq!(server.delete(delete.clone(), &[("request_id", &id)]).await, gone);
    assert_eq!(server.delete(post, &params).await.0, 204);
    server.flush().await;
    let id = server.deletes().await[0]["request_id"].as_str().expect("an id").to_owned();
    let (status, text) = server.delete(delete, &[("request_id", &id)]).await;
    assert_eq!((status, text.contains("already processed")), (400, true), "{text}");
}
