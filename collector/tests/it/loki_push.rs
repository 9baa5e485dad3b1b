//! Loki's push.

use axum::http::StatusCode;
use expect_test::expect;
use model::Value;
use prost::Message;

use crate::harness::{Harness, JSON, PROTOBUF, gzip, snappy};

const PUSH: &str = "/loki/api/v1/push";

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Time>,
    #[prost(bytes = "vec", tag = "2")]
    line: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn entry(seconds: i64, line: &[u8]) -> Entry {
    Entry { timestamp: Some(Time { seconds, nanos: 7 }), line: line.to_vec(), metadata: Vec::new() }
}

#[tokio::test]
async fn json_is_stored_stream_by_stream() {
    let harness = Harness::new();
    let body = r#"{"streams":[
        {"stream":{"app":"web","level":"warn"},"values":[["1700000000000000001","a \"quoted\" line"],["1700000000000000002","b",{"trace_id":"abc","level":"error"}]]},
        {"labels":"{app=\"old\"}","entries":[{"ts":"2023-11-14T22:13:20Z","line":"c"}]}]}"#;
    let answer = harness.post(PUSH, JSON, body).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()));
    expect![[r#"
        {app="old"} 1700000000000000000 c
        {app="web", level="warn"} 1700000000000000001 a "quoted" line
        {app="web", level="warn"} 1700000000000000002 b
    "#]]
    .assert_eq(&harness.lines());
    let batches = harness.logs.batches.lock().unwrap();
    let records = &batches[0].groups[0].records;
    assert_eq!(records[1].attributes[0], ("trace_id".to_owned(), Value::from("abc")));
    assert_eq!((records[0].severity_number, records[1].severity_number), (13, 17));
    assert_eq!(batches[0].groups[0].resource.get("app"), Some(&Value::from("web")));
    expect!["loki_push logs: 3 = 3\n"].assert_eq(&harness.ledger());
}

#[tokio::test]
async fn protobuf_is_stored() {
    let harness = Harness::new();
    let mut with_metadata = entry(1, b"line");
    with_metadata.metadata = vec![Pair { name: "k".into(), value: "v".into() }];
    let stream = Stream { labels: r#"{app="web"}"#.into(), entries: vec![with_metadata], hash: 9 };
    let body = snappy(&PushRequest { streams: vec![stream] }.encode_to_vec());
    for headers in [PROTOBUF, &[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")], &[]] {
        let answer = harness.post(PUSH, headers, body.clone()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    }
    expect![[r#"
        {app="web"} 1000000007 line
        {app="web"} 1000000007 line
        {app="web"} 1000000007 line
    "#]]
    .assert_eq(&harness.lines());
}

#[tokio::test]
async fn bad_entries_are_told_and_the_rest_is_kept() {
    let harness = Harness::new();
    let body = r#"{"streams":[
        {"stream":{"app":"web"},"values":[["1","good"],["tomorrow","bad"]]},
        {"stream":{},"values":[["1","no labels"]]},
        {"labels":"{app=","entries":[{"ts":"2023-11-14T22:13:20Z","line":"c"},{"ts":"2023-11-14T22:13:20Z","line":"d"}]}]}"#;
    let answer = harness.post(PUSH, JSON, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    expect![[r#"
        4 of 5 log records were not stored: 1 rejected (invalid_timestamp): "tomorrow" is neither nanoseconds nor a date in the years 1678-2261; 1 rejected (missing_labels): a stream needs at least one label; 2 rejected (invalid_labels): expected a quoted value at byte 5 of the labels
    "#]]
    .assert_eq(&answer.text());
    assert_eq!(harness.lines(), "{app=\"web\"} 1 good\n");

    let entries = vec![entry(1, b"fine"), entry(1, &[0xff]), entry(i64::MAX, b"late")];
    let stream = Stream { labels: r#"{app="pb"}"#.into(), entries, hash: 0 };
    let body = snappy(&PushRequest { streams: vec![stream] }.encode_to_vec());
    assert_eq!(harness.post(PUSH, PROTOBUF, body).await.status, StatusCode::BAD_REQUEST);
    expect!["loki_push logs: 8 = 2 + 2 invalid_labels + 1 invalid_timestamp + 1 invalid_utf8 + 1 missing_labels + 1 timestamp_out_of_range\n"]
        .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn encodings_and_malformed_bodies_are_tested() {
    let harness = Harness::new();
    let body = r#"{"streams":[{"stream":{"app":"web"},"values":[["1","a"]]}]}"#;
    let json = "application/json";
    for (content_type, encoding, body, expected) in [
        (json, "gzip", gzip(body.as_bytes()), StatusCode::NO_CONTENT),
        (json, "br", body.as_bytes().to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("text/plain", "", body.as_bytes().to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (json, "", b"{\"streams\":[{\"values\":[[\"1\"]]}]}".to_vec(), StatusCode::BAD_REQUEST),
        (json, "", b"{\"streams\":[{\"values\":[[1,\"a\"]]}]}".to_vec(), StatusCode::BAD_REQUEST),
        (json, "", b"nonsense".to_vec(), StatusCode::BAD_REQUEST),
        (json, "", b"{}".to_vec(), StatusCode::NO_CONTENT),
        ("application/x-protobuf", "", b"nonsense".to_vec(), StatusCode::BAD_REQUEST),
        ("application/x-protobuf", "", snappy(&[]), StatusCode::NO_CONTENT),
    ] {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let answer = harness.post(PUSH, &headers, body.clone()).await;
        assert_eq!(answer.status, expected, "{content_type} {:?}: {}", String::from_utf8_lossy(&body), answer.text());
    }
}
