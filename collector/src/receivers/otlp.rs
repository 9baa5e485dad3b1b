//! OTLP's logs requests, whatever they came in: decode, test, store.

use std::collections::HashMap;
use std::sync::Arc;

use collector_otlp::metrics::label_name;
use collector_otlp::proto::ExportLogsServiceRequest;
use collector_otlp::{
    RejectedRecords, Salvaged, ScopedLogs, logs_decoded_bytes, logs_from_json, logs_from_otlp, salvage_logs, value_text,
};
use model::{Labels, LogRecord, Resource};
use prost::Message as _;
use runtime::Signal;
use storage_api::{LogBatch, LogGroup};

use super::otlp_logs;
use super::tally::{Outcome, Tally};
use crate::admission::Admission;
use crate::collector::{Inner, Place};
use crate::config::Config;
use crate::error::{Refusal, Result};

/// About what a JSON object or array takes in memory once decoded, more rather than less.
const JSON_ITEM_BYTES: u64 = 192;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

/// Returns about what a JSON text takes in memory once decoded.
pub(super) fn json_decoded_bytes(body: &[u8]) -> u64 {
    let items = body.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() as u64;
    body.len() as u64 + items * JSON_ITEM_BYTES
}

/// Decodes a logs request once there is room for what it takes decoded. Records that alone cannot be decoded are left out.
fn decode_logs(body: &[u8], format: Format, admission: &mut Admission) -> Result<Salvaged> {
    let malformed = |cause| Refusal::Malformed { what: "the OTLP logs request", cause };
    let request = match format {
        Format::Protobuf => {
            admission.grow(logs_decoded_bytes(body))?;
            match ExportLogsServiceRequest::decode(body) {
                Ok(request) => request,
                // Slower, and only for what is at fault.
                Err(_) => return salvage_logs(body).map_err(malformed),
            }
        }
        Format::Json => {
            admission.grow(json_decoded_bytes(body))?;
            logs_from_json(body).map_err(|error| malformed(error.to_string()))?
        }
    };
    Ok(Salvaged { request, rejected: None })
}

/// Stores a logs request.
pub(crate) fn logs(
    inner: &Inner,
    place: Place,
    body: &[u8],
    format: Format,
    admission: &mut Admission,
) -> Result<Outcome> {
    if let Some(outcome) = otlp_logs::store(inner, place, body, format, admission)? {
        return Ok(outcome);
    }
    let Salvaged { request, rejected } = decode_logs(body, format, admission)?;
    let decoded = logs_from_otlp(request);
    inner.stats.count_invalid(decoded.invalid);
    let mut tally = Tally::new(place, Signal::Logs);
    for RejectedRecords { reason, count, detail } in decoded.rejected.into_iter().chain(rejected) {
        tally.receive(count);
        tally.reject(reason, count, || detail);
    }
    let mut streams = Streams::default();
    let mut batch = LogBatch::default();
    for group in decoded.groups {
        tally.receive(group.records.len() as u64);
        batch.groups.extend(log_group(group, &inner.config, &mut streams, &mut tally));
    }
    store_logs(inner, batch, tally)
}

/// Appends what is left of a logs request and writes the ledger.
fn store_logs(inner: &Inner, mut batch: LogBatch, mut tally: Tally) -> Result<Outcome> {
    for group in &mut batch.groups {
        group.records.retain(|record| match check_record(record, &inner.config) {
            Ok(()) => true,
            Err((reason, detail)) => {
                tally.reject(reason, 1, || detail);
                false
            }
        });
    }
    batch.groups.retain(|group| !group.records.is_empty());
    if batch.groups.is_empty() {
        return Ok(tally.finish(&inner.ledger));
    }
    match inner.logs.append(batch) {
        Ok(report) => {
            tally.stored(&report);
            Ok(tally.finish(&inner.ledger))
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            tally.finish_refused(&inner.ledger, &refusal);
            Err(refusal)
        }
    }
}

pub(super) type Fault = (&'static str, String);

/// The streams of the resources seen in one request; many scopes share a resource.
#[derive(Default)]
struct Streams(HashMap<*const Resource, Result<Labels, Fault>>);

/// Gives the group its stream; `None` when its resource or scope is over a limit, which rejects all of its records.
fn log_group(group: ScopedLogs, config: &Config, streams: &mut Streams, tally: &mut Tally) -> Option<LogGroup> {
    let ScopedLogs { resource, scope, records } = group;
    // An address tells resources apart: all of them were allocated before the first one is let go.
    let stream = streams.0.entry(Arc::as_ptr(&resource)).or_insert_with(|| stream_of(&resource, config));
    let fault = match stream {
        Err(fault) => Some(fault.clone()),
        Ok(_) => check_count(scope.attributes.len(), "a scope", config).err(),
    };
    match (fault, stream) {
        (None, Ok(stream)) => Some(LogGroup { stream: stream.clone(), resource, scope, records }),
        (fault, _) => {
            let (reason, detail) = fault.unwrap_or(("internal", String::new()));
            tally.reject(reason, records.len() as u64, || detail);
            None
        }
    }
}

/// Returns the stream's labels: the configured attributes of the resource, under Loki's names.
pub(super) fn stream_of(resource: &Resource, config: &Config) -> Result<Labels, Fault> {
    check_count(resource.attributes.len(), "a resource", config)?;
    let found = config.stream_labels.iter().filter_map(|name| Some((name, resource.get(name)?)));
    let labels = Labels::from_pairs(found.map(|(name, value)| (label_name(name), value_text(value))));
    check_stream(&labels, config)?;
    if labels.is_empty() {
        return Ok(Labels::from_pairs([("service_name", "unknown_service")]));
    }
    Ok(labels)
}

/// Tests a stream's labels against the limits.
pub(super) fn check_stream(labels: &Labels, config: &Config) -> Result<(), Fault> {
    if labels.len() > config.max_labels {
        let detail = format!("a stream has {} labels, the limit is {}", labels.len(), config.max_labels);
        return Err(("too_many_labels", detail));
    }
    for (name, value) in labels.iter() {
        let (got, limit) = (value.len(), config.max_label_value_bytes);
        if got > limit {
            let detail = format!("stream label {name:?} has a value of {got} bytes, the limit is {limit}");
            return Err(("label_value_too_long", detail));
        }
        let (got, limit) = (name.len(), config.max_label_name_bytes);
        if got > limit {
            return Err((
                "label_name_too_long",
                format!("a stream label's name has {got} bytes, the limit is {limit}"),
            ));
        }
    }
    Ok(())
}

pub(super) fn check_count(got: usize, what: &str, config: &Config) -> Result<(), Fault> {
    let limit = config.max_attributes;
    if got <= limit {
        Ok(())
    } else {
        Err(("too_many_attributes", format!("{what} has {got} attributes, the limit is {limit}")))
    }
}

pub(super) fn check_record(record: &LogRecord, config: &Config) -> Result<(), Fault> {
    check_count(record.attributes.len(), "a log record", config)?;
    let (got, limit) = (record.size_bytes(), config.max_record_bytes);
    if got > limit {
        return Err(("record_too_large", format!("a log record has about {got} bytes, the limit is {limit}")));
    }
    Ok(())
}
