//! Bounded, whatever the query and whoever reads.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::harness::metrics::{seconds, series};
use super::harness::{Builder, Server, now_ms};

#[tokio::test]
async fn ten_years_at_one_second_steps_are_refused_with_the_limit() {
    let server = Server::start().await;
    let at = now_ms();
    server.remote_write(vec![series(&[("__name__", "x")], &[(at, 1.0)])]).await.ok();
    let start = seconds(at - 10 * 365 * 86_400_000);
    let params = [("query", "x"), ("start", start.as_str()), ("end", &seconds(at)), ("step", "1")];
    let answer = server.get("/api/v1/query_range", &params).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["errorType"], "bad_data");
    assert!(body["error"].as_str().unwrap().contains("11,000"), "{body}");

    let params =
        [("query", "count_over_time({a=\"b\"}[1m])"), ("start", start.as_str()), ("end", &seconds(at)), ("step", "1")];
    let answer = server.get("/loki/api/v1/query_range", &params).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn a_query_over_the_limits_is_refused_with_the_number() {
    let server = Builder::new().flag("query-max-series", "10").flag("query-max-samples", "1000").start().await;
    let at = now_ms();
    let many: Vec<_> = (0..50).map(|i| series(&[("__name__", "many"), ("i", &i.to_string())], &[(at, 1.0)])).collect();
    server.remote_write(many).await.ok();
    let samples: Vec<_> = (0..5000).map(|i| (at - i * 100, 1.0)).collect();
    server.remote_write(vec![series(&[("__name__", "long")], &samples)]).await.ok();
    for (query, limit) in [("many", "10"), ("sum(many)", "10"), ("sum_over_time(long[1h])", "1000")] {
        let answer = server.get("/api/v1/query", &[("query", query), ("time", &seconds(at))]).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
        assert!(answer.text().contains(limit), "{query}: {}", answer.text());
    }
    assert_eq!(server.value("many{i=\"7\"}", at).await, 1.0, "what is under the limits is answered");
}

#[tokio::test]
async fn deep_and_long_queries_do_not_end_the_process() {
    let mut server = Server::start().await;
    let deep = |open: &str, close: &str| format!("{}x{}", open.repeat(20_000), close.repeat(20_000));
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    for query in [
        deep("(", ")"),
        deep("-", ""),
        deep("abs(", ")"),
        "x+".repeat(100_000) + "x",
        "x=~\"".to_owned() + &"(".repeat(50_000),
    ] {
        let form = format!("query={}", query.replace('+', "%2B").replace('=', "%3D"));
        let status = server.post(&server.url("/api/v1/query"), &headers, form.into_bytes()).await.status;
        assert!((200..500).contains(&status), "answered {status}");
        assert!(server.is_alive());
    }
    for query in [
        "{a=\"b\"} ".to_owned() + &"|= \"x\" ".repeat(20_000),
        "{a=~\"".to_owned() + &"(".repeat(20_000) + "\"}",
        "sum(".repeat(20_000) + "x",
        "{a=~\"(x{1000}){1000}\"}".to_owned(),
    ] {
        let form = format!("query={}", query.replace('+', "%2B").replace('=', "%3D"));
        let status = server.post(&server.url("/loki/api/v1/query_range"), &headers, form.into_bytes()).await.status;
        assert!((200..500).contains(&status), "answered {status}");
        assert!(server.is_alive());
    }
}

#[tokio::test]
async fn clients_that_stop_reading_hold_little_memory() {
    let mut server = Server::start().await;
    let at = now_ms() * 1_000_000;
    for part in 0..10 {
        let lines: Vec<_> = (0..1000).map(|i| (at + part * 1000 + i, "x".repeat(2000))).collect();
        server.loki_push(&json!({"service_name": "big"}), &lines).await.ok();
    }
    let before = server.memory_bytes("VmHWM");
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut socket = tokio::net::TcpStream::connect(server.http()).await.unwrap();
        let request = format!(
            "GET /loki/api/v1/query_range?query=%7Bservice_name%3D%22big%22%7D&limit=5000&start={}&end={} HTTP/1.1\r\nhost: x\r\n\r\n",
            at - 1,
            at + 1_000_000
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        stalled.push(socket);
    }
    // Others are served meanwhile.
    assert_eq!(server.lines("{service_name=\"big\"}", (at, at + 10), 10).await.len(), 10);
    let grown = server.memory_bytes("VmHWM").saturating_sub(before);
    assert!(grown < 512 << 20, "eight stalled readers of 10 MB hold {grown} bytes");
    assert!(server.is_alive());
    drop(stalled);
    server.stop().await;
}

#[tokio::test]
async fn slow_and_silly_requests_are_no_trouble() {
    let mut server = Server::start().await;
    let half = tokio::net::TcpStream::connect(server.http()).await.unwrap();
    let mut noise = tokio::net::TcpStream::connect(server.http()).await.unwrap();
    noise.write_all(&[0xff; 1000]).await.unwrap();
    for method in [reqwest::Method::DELETE, reqwest::Method::PATCH, reqwest::Method::TRACE] {
        let answer = server.client().request(method, server.url("/api/v1/query")).send().await.unwrap();
        assert!(answer.status().is_client_error());
    }
    let long = server.client().get(server.url(&format!("/{}", "a".repeat(60_000)))).send().await;
    assert!(long.is_ok_and(|answer| answer.status().is_client_error()));
    assert!(server.is_alive());
    drop(half);
    server.get("/-/healthy", &[]).await.ok();
}
