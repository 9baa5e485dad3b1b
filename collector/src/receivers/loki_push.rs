//! Loki's push: JSON and snappy-compressed protobuf.

mod json;
mod protobuf;
mod time;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use collector_otlp::RecordSpace;
use model::{Labels, Resource, Scope, Value};

use super::log_intake::{self, Intake};
use super::otlp::{Fault, check_stream};
use super::tally::Outcome;
use super::{add_retry_after, text_response};
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, header_text, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::error::{Refusal, Result};

const WHAT: &str = "the Loki push request";

/// Names of metadata and labels that hold a severity, in the order they are looked at.
const SEVERITY_NAMES: [&str; 6] = ["level", "severity", "detected_level", "severity_text", "lvl", "loglevel"];

pub(super) async fn handle(collector: Collector, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let result = match form(&parts.headers) {
        Ok((json, encoding)) => {
            let work =
                move |inner: &Inner, bytes: &[u8], admission: &mut Admission| store(inner, bytes, json, admission);
            collector.ingest(Place::LokiPush, body, encoding, work).await
        }
        Err(refusal) => {
            body::drain(body.into_data_stream()).await;
            Err(refusal)
        }
    };
    let response = match result {
        Ok(outcome) => {
            let message = outcome.message("log records", |_| true);
            if message.is_empty() {
                StatusCode::NO_CONTENT.into_response()
            } else {
                text_response(StatusCode::BAD_REQUEST, &message)
            }
        }
        Err(refusal) => {
            collector.count_refusal(Place::LokiPush, &refusal);
            let mut response = text_response(refusal.status().0, &refusal.to_string());
            add_retry_after(&mut response, &refusal, collector.0.config.retry_after_s);
            response
        }
    };
    collector.answered(Place::LokiPush, started, response)
}

/// Returns whether the body is JSON, and its compression. As in Loki, no content type means protobuf.
fn form(headers: &HeaderMap) -> Result<(bool, Encoding)> {
    let name = header_text(headers, header::CONTENT_ENCODING);
    match media_type(headers).as_str() {
        "application/json" => {
            let allowed = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];
            Ok((true, Encoding::parse(name, &allowed, "identity, gzip, deflate, zstd or snappy")?))
        }
        "application/x-protobuf" | "" if name.is_empty() => Ok((false, Encoding::Snappy)),
        "application/x-protobuf" | "" => Ok((false, Encoding::parse(name, &[Encoding::Snappy], "snappy")?)),
        other => Err(Refusal::MediaType { got: cut(other), expected: "application/json or application/x-protobuf" }),
    }
}

fn store(inner: &Inner, body: &[u8], json: bool, admission: &mut Admission) -> Result<Outcome> {
    let stored = log_intake::store(inner, Place::LokiPush, body, admission, &mut |intake| {
        let push = Push::new(intake);
        if json { json::read(body, push) } else { protobuf::read(body, push) }
    });
    stored.map(|((), outcome)| outcome)
}

/// A push request on its way to the store: its records, stream by stream, in one record that is used again for each.
struct Push<'p, 'i> {
    intake: &'p mut Intake<'i>,
    scope: Arc<Scope>,
    /// The severity that the stream's labels tell; records that tell none themselves have it.
    level: Severity,
    space: RecordSpace,
    /// The last severity, of a record; one after the other mostly the same.
    last: Severity,
}

/// A severity's text, and its number.
#[derive(Debug, Default)]
struct Severity {
    text: String,
    number: u8,
}

impl Severity {
    fn set(&mut self, text: &str) {
        if self.text != text {
            text.clone_into(&mut self.text);
            self.number = severity_number(text);
        }
    }
}

impl<'p, 'i> Push<'p, 'i> {
    fn new(intake: &'p mut Intake<'i>) -> Self {
        let (level, last) = (Severity::default(), Severity::default());
        Self { intake, scope: Arc::default(), level, space: RecordSpace::default(), last }
    }

    /// Starts a stream; records of one whose labels are at fault are rejected.
    fn stream(&mut self, labels: std::result::Result<Labels, String>) {
        let stream = labels.map_err(|detail| ("invalid_labels", detail)).and_then(|labels| {
            let missing = || Err(("missing_labels", "a stream needs at least one label".to_owned()));
            if labels.is_empty() { missing() } else { check_stream(&labels, self.intake.config()).map(|()| labels) }
        });
        let mut resource = Resource::default();
        if let Ok(stream) = &stream {
            self.level.set(SEVERITY_NAMES.iter().find_map(|name| stream.get(name)).unwrap_or(""));
            resource.attributes = stream.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        }
        self.group(&stream, resource);
    }

    fn group(&mut self, stream: &std::result::Result<Labels, Fault>, resource: Resource) {
        self.intake.group(stream, &Arc::new(resource), &self.scope);
    }

    /// Takes the record that lies in the space, its metadata as attributes.
    fn record(&mut self, nanos: i64) {
        self.space.finish();
        let record = self.space.record_mut();
        let found = record.attributes.iter().filter_map(|(name, value)| Some((severity_rank(name)?, value.as_str()?)));
        // Of names of one rank the first one counts.
        let told = found.min_by_key(|(rank, _)| *rank).map_or("", |(_, text)| text);
        let severity = if told.is_empty() {
            &self.level
        } else {
            self.last.set(told);
            &self.last
        };
        record.timestamp.0 = nanos;
        record.severity_number = severity.number;
        severity.text.clone_into(&mut record.severity_text);
        self.intake.record(record);
    }
}

/// Returns the place of a name among those that hold a severity.
fn severity_rank(name: &str) -> Option<usize> {
    // Of all names few are as long as one of these.
    if !matches!(name.len(), 3 | 5 | 8 | 13 | 14) {
        return None;
    }
    SEVERITY_NAMES.iter().position(|wanted| *wanted == name)
}

/// Returns OTLP's severity number for the names that programs write; 0 for any other.
fn severity_number(text: &str) -> u8 {
    const BYTES_MAX: usize = "informational".len();
    let mut lower = [0; BYTES_MAX];
    let Some(lower) = lower.get_mut(..text.len()) else { return 0 };
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    match std::str::from_utf8(lower).unwrap_or("") {
        "trace" | "trc" => 1,
        "debug" | "dbg" => 5,
        "info" | "inf" | "information" | "informational" | "notice" => 9,
        "warn" | "wrn" | "warning" => 13,
        "error" | "err" | "eror" => 17,
        "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "panic" => 21,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
