//! A stop on request: answers arrive whole, the exit code is 0, the data are there afterwards.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::metrics::series;
use super::harness::{Server, now_ms, until};

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_get_whole_answers_and_data_stay() {
    let mut server = Server::start().await;
    let at = now_ms();
    let lines: Vec<_> = (0..5_000).map(|i| (at * 1_000_000 + i, format!("{i} {}", "x".repeat(500)))).collect();
    server.loki_push(&json!({"service_name": "big"}), &lines).await.ok();
    server.remote_write(vec![series(&[("__name__", "kept")], &[(at, 1.0)])]).await.ok();

    // A request whose body is half sent when the stop comes is in flight, too.
    let body = super::harness::metrics::write_body(vec![series(&[("__name__", "late")], &[(at, 2.0)])]);
    let mut half = tokio::net::TcpStream::connect(server.http()).await.unwrap();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n\
         content-encoding: snappy\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    half.write_all(head.as_bytes()).await.unwrap();
    half.write_all(&body[..body.len() / 2]).await.unwrap();
    half.flush().await.unwrap();

    let query = server.client().get(server.url("/loki/api/v1/query_range")).query(&[
        ("query", "{service_name=\"big\"}"),
        ("limit", "5000"),
        ("start", &(at * 1_000_000 - 1).to_string()),
        ("end", &(at * 1_000_000 + 1_000_000).to_string()),
    ]);
    let response = query.send().await.unwrap();
    server.terminate();
    until("the stop to begin", async || {
        server.events().iter().any(|e| e.to_string().contains("stopping")).then_some(())
    })
    .await;

    let answer: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["data"]["result"][0]["values"].as_array().map(Vec::len), Some(5000), "the body arrives whole");
    half.write_all(&body[body.len() / 2..]).await.unwrap();
    let mut text = String::new();
    half.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 2"), "a request in flight is answered: {text}");

    assert_eq!(server.ended().await.code(), Some(0));
    server.restart().await;
    assert_eq!(server.value("kept", at).await, 1.0);
    assert_eq!(server.value("late", at).await, 2.0);
    let range = (at * 1_000_000 - 1, at * 1_000_000 + 1_000_000);
    assert_eq!(server.lines("{service_name=\"big\"}", range, 5000).await.len(), 5000);
}

#[tokio::test]
async fn an_open_tail_does_not_hold_up_the_stop() {
    let mut server = Server::start().await;
    let url = format!("ws://{}/loki/api/v1/tail?query=%7Ba%3D%22b%22%7D", server.http());
    let (_socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let idle = tokio::net::TcpStream::connect(server.http()).await.unwrap();
    let started = std::time::Instant::now();
    server.stop().await;
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "it took {:?}", started.elapsed());
    drop(idle);
}

#[tokio::test]
async fn sigint_stops_like_sigterm() {
    let mut server = Server::start().await;
    server.interrupt();
    assert_eq!(server.ended().await.code(), Some(0));
}
