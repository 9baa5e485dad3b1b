//! Senders and queries of logs.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};

use super::metrics::{attribute, snappy};
use super::{Answer, Server};

/// Loki's push request, as far as the tests need it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) streams: Vec<PushStream>,
}

/// One stream of a push.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PushStream {
    #[prost(string, tag = "1")]
    pub(crate) labels: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<PushEntry>,
}

/// One line of a push.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PushEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) timestamp: Option<PushTime>,
    #[prost(string, tag = "2")]
    pub(crate) line: String,
}

/// A time of a push.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PushTime {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// Returns the JSON body of a Loki push of one stream: lines at nanoseconds.
pub(crate) fn loki_json(labels: &Value, lines: &[(i64, String)]) -> Vec<u8> {
    let values: Vec<_> = lines.iter().map(|(at, line)| json!([at.to_string(), line])).collect();
    json!({ "streams": [{ "stream": labels, "values": values }] }).to_string().into_bytes()
}

/// Returns the snappy body of a Loki push of one stream.
pub(crate) fn loki_snappy(labels: &str, lines: &[(i64, String)]) -> Vec<u8> {
    let entry = |(at, line): &(i64, String)| PushEntry {
        timestamp: Some(PushTime {
            seconds: at.div_euclid(1_000_000_000),
            nanos: i32::try_from(at.rem_euclid(1_000_000_000)).expect("below a second"),
        }),
        line: line.clone(),
    };
    let stream = PushStream { labels: labels.to_owned(), entries: lines.iter().map(entry).collect() };
    snappy(&PushRequest { streams: vec![stream] }.encode_to_vec())
}

/// Returns an OTLP request with lines of one service.
pub(crate) fn otlp_request(service: &str, lines: &[(i64, String)]) -> ExportLogsServiceRequest {
    let record = |(at, line): &(i64, String)| LogRecord {
        time_unix_nano: u64::try_from(*at).expect("not before 1970"),
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(line.clone())) }),
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: lines.iter().map(record).collect(), ..ScopeLogs::default() }];
    let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let resource_logs = ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

impl Server {
    /// Sends lines of one stream to Loki's push path, as JSON.
    pub(crate) async fn loki_push(&self, labels: &Value, lines: &[(i64, String)]) -> Answer {
        let headers = [("content-type", "application/json")];
        self.post(&self.url("/loki/api/v1/push"), &headers, loki_json(labels, lines)).await
    }

    /// Sends a request by OTLP/HTTP with protobuf.
    pub(crate) async fn otlp_logs(&self, request: &ExportLogsServiceRequest) -> Answer {
        let headers = [("content-type", "application/x-protobuf")];
        self.post(&self.otlp_url("/v1/logs"), &headers, request.encode_to_vec()).await
    }

    /// Returns the lines of one answer, oldest first, at most `limit`.
    pub(crate) async fn lines(&self, query: &str, (start, end): (i64, i64), limit: usize) -> Vec<(i64, String)> {
        let params = [
            ("query", query),
            ("start", &start.to_string()),
            ("end", &end.to_string()),
            ("limit", &limit.to_string()),
            ("direction", "forward"),
        ];
        let data = self.data("/loki/api/v1/query_range", &params).await;
        assert_eq!(data["resultType"], "streams", "{data}");
        let mut lines = Vec::new();
        for stream in data["result"].as_array().expect("streams are an array") {
            for entry in stream["values"].as_array().expect("values are an array") {
                let at = entry[0].as_str().and_then(|at| at.parse().ok()).expect("a time is digits in a string");
                lines.push((at, entry[1].as_str().expect("a line is a string").to_owned()));
            }
        }
        lines.sort();
        lines
    }

    /// Returns all lines whose times are all different, page by page.
    pub(crate) async fn all_lines(&self, query: &str, (mut start, end): (i64, i64)) -> Vec<(i64, String)> {
        const PAGE: usize = 5_000;
        let mut all = Vec::new();
        loop {
            let page = self.lines(query, (start, end), PAGE).await;
            let (full, last) = (page.len() >= PAGE, page.last().map(|(at, _)| *at));
            all.extend(page);
            match last {
                Some(last) if full => start = last + 1,
                _ => return all,
            }
        }
    }
}
