//! Loki's push.

use std::sync::Arc;

use axum::http::StatusCode;
use collector::Config;
use expect_test::expect;
use model::Value;
use prost::Message;
use storage_api::Error;

use crate::harness::{Failing, Harness, JSON, PROTOBUF, collector, gzip, ledger_text, post, snappy};

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
    let severities = records.iter().map(|record| (record.severity_number, record.severity_text.as_str()));
    assert_eq!(severities.collect::<Vec<_>>(), [(0, ""); 2], "what was not sent is not made up");
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

#[tokio::test]
async fn fields_in_any_order_make_the_same_records() {
    let usual = r#"{"streams":[{"stream":{"app":"a","level":"warn"},"values":[["1","x",{"k":"v","lvl":"ERROR"}],["2","y",{"level":""}]],
        "entries":[{"ts":"3","line":"z","structuredMetadata":{"a\nb":"\"c\""}}]}]}"#;
    let late = r#"{"else":[{}],"streams":[{"entries":[{"line":"z","structuredMetadata":{"a\nb":"\"c\""},"more":1,"timestamp":"3"}],
        "values":[["1","x",{"k":"v","lvl":"ERROR"}],["2","y",{"level":""}]],"labels":"{other=\"b\"}","stream":{"level":"warn","app":"a"}}]}"#;
    let labels = r#"{"streams":[{"values":[["1","x",{"k":"v","lvl":"ERROR"}],["2","y",{"level":""}]],"stream":null,
        "entries":[{"ts":"3","line":"z","structuredMetadata":{"a\nb":"\"c\""}}],"labels":"{app=\"a\",level=\"warn\"}"}]}"#;
    let time = |nanos| Some(Time { seconds: 0, nanos });
    let pair = |name: &str, value: &str| Pair { name: name.into(), value: value.into() };
    let entries = vec![
        Entry { timestamp: time(1), line: b"x".into(), metadata: vec![pair("k", "v"), pair("lvl", "ERROR")] },
        Entry { timestamp: time(2), line: b"y".into(), metadata: vec![pair("level", "")] },
        Entry { timestamp: time(3), line: b"z".into(), metadata: vec![pair("a\nb", "\"c\"")] },
    ];
    // Of labels that come twice the last ones count, though they are behind the entries.
    let first = Stream { labels: "{a=\"b\"}".into(), entries, hash: 0 };
    let last = Stream { labels: r#"{app="a",level="warn"}"#.into(), ..Stream::default() };
    let stream = [first.encode_to_vec(), last.encode_to_vec()].concat();
    let mut protobuf = vec![1 << 3 | 2];
    prost::encoding::encode_varint(stream.len() as u64, &mut protobuf);
    protobuf.extend(stream);
    let harness = Harness::new();
    for body in [usual, late, labels] {
        let answer = harness.post(PUSH, JSON, body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    }
    assert_eq!(harness.post(PUSH, PROTOBUF, snappy(&protobuf)).await.status, StatusCode::NO_CONTENT);
    let batches = harness.logs.batches.lock().unwrap();
    assert_eq!(batches.len(), 4);
    let records = &batches[0].groups[0].records;
    assert_eq!(records[1].attributes, [("level".to_owned(), Value::from(""))]);
    assert_eq!(records[2].attributes, [("a\nb".to_owned(), Value::from("\"c\""))]);
    assert!(batches.iter().all(|batch| batch == &batches[0]), "{batches:#?}");
}

#[tokio::test]
async fn faults_are_told_with_their_place_wherever_the_labels_are() {
    let harness = Harness::new();
    for (body, expected) in [
        (r#"{"streams":[{"stream":{"a":"b"},"values":[["1",2]]}]}"#, "line 1 column 48"),
        ("{\"streams\":[\n{\"values\":[[\"1\",2]],\"stream\":{\"a\":\"b\"}}]}", "line 2 column 17"),
        ("{\"streams\":[\n{\"values\":[\n[\"1\",2]],\"stream\":{\"a\":\"b\"}}]}", "line 3 column 6"),
        (r#"{"streams":[{"stream":{},"stream":{}}]}"#, "duplicate field `stream`"),
        (r#"{"streams":[{"entries":[{"ts":"1"}]}]}"#, "missing field `line`"),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{},{}]]}]}"#,
            "at most a timestamp, a line and metadata",
        ),
        (r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",null]]}]}"#, "an object whose values are strings"),
        (r#"{"streams":[]} x"#, "trailing characters"),
    ] {
        let answer = harness.post(PUSH, JSON, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(expected), "{body}: {}", answer.text());
    }
    assert_eq!(harness.lines(), "", "nothing of a malformed request is stored");
    assert_eq!(harness.ledger(), "");
}

#[tokio::test]
async fn limits_hold_for_pushed_records_too() {
    let config = Config { max_record_bytes: 1000, max_attributes: 2, max_labels: 2, ..Config::default() };
    let harness = Harness::with(config);
    let long = "x".repeat(1000);
    let body = format!(
        r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[["1","fine"],["2","{long}"],["3","x",{{"a":"","b":"","c":""}}]]}},
        {{"stream":{{"a":"b","c":"d","e":"f"}},"values":[["1","x"],["2","y"]]}}]}}"#
    );
    let answer = harness.post(PUSH, JSON, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(harness.lines(), "{a=\"b\"} 1 fine\n");
    expect!["loki_push logs: 5 = 1 + 1 record_too_large + 1 too_many_attributes + 2 too_many_labels\n"]
        .assert_eq(&harness.ledger());
}

#[tokio::test]
async fn what_entries_become_stays_within_the_memory() {
    let harness = Harness::with(Config { memory_bytes: 1 << 18, max_body_bytes: 100_000, ..Config::default() });
    // Many records without text: what they take is their number's.
    let entries = r#"["1",""],"#.repeat(9_000);
    let body = format!(r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[{entries}["1",""]]}}]}}"#);
    assert!(body.len() < 100_000);
    let answer = harness.post(PUSH, JSON, body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text());
    assert!(answer.text().contains("the memory that the decoded request needs"));
    assert!(harness.telemetry.render().contains("daybook_ingest_memory_bytes 0\n"));
    assert_eq!(harness.lines(), "");
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_told_by_every_record() {
    let failing = Arc::new(Failing(|| Err(Error::Closed)));
    let (collector, _, ledger) = collector(Config::default(), Arc::<Failing>::clone(&failing), failing);
    let body = r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"],["2","y"]]}]}"#;
    let answer = post(collector.http_router(), PUSH, JSON, body).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ledger_text(&ledger), "loki_push logs: 2 = 0 + 2 shutting_down\n");
}
