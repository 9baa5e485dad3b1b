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
    space: RecordSpace,
}

impl<'p, 'i> Push<'p, 'i> {
    fn new(intake: &'p mut Intake<'i>) -> Self {
        Self { intake, scope: Arc::default(), space: RecordSpace::default() }
    }

    /// Starts a stream; records of one whose labels are at fault are rejected.
    fn stream(&mut self, labels: std::result::Result<Labels, String>) {
        let stream = labels.map_err(|detail| ("invalid_labels", detail)).and_then(|labels| {
            let missing = || Err(("missing_labels", "a stream needs at least one label".to_owned()));
            if labels.is_empty() { missing() } else { check_stream(&labels, self.intake.config()).map(|()| labels) }
        });
        let mut resource = Resource::default();
        if let Ok(stream) = &stream {
            resource.attributes = stream.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        }
        self.group(&stream, resource);
    }

    fn group(&mut self, stream: &std::result::Result<Labels, Fault>, resource: Resource) {
        self.intake.group(stream, &Arc::new(resource), &self.scope);
    }

    /// Takes the record that lies in the space, its metadata as attributes. No severity is made of a level beside the line:
    /// it would come back as metadata that was not sent; a query tells the level of what is stored.
    fn record(&mut self, nanos: i64) {
        self.space.finish();
        let record = self.space.record_mut();
        record.timestamp.0 = nanos;
        self.intake.record(record);
    }
}

#[cfg(test)]
mod tests;
