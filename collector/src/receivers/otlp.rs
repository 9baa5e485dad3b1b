//! OTLP requests, whatever they came in: decode, test, store.

use std::collections::HashMap;
use std::sync::Arc;

use collector_otlp::metrics::{Label, Sink, has_deltas, label_name, translate};
use collector_otlp::proto::{ExportLogsServiceRequest, ExportMetricsServiceRequest};
use collector_otlp::{
    RejectedRecords, ScopedLogs, logs_decoded_bytes, logs_from_json, logs_from_otlp, metrics_decoded_bytes,
    metrics_from_json, value_text,
};
use model::{Labels, LogRecord, MetricMetadata, Resource, Sample};
use runtime::Signal;
use storage_api::{LogBatch, LogGroup, MetricBatch};

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
pub(crate) fn json_decoded_bytes(body: &[u8]) -> u64 {
    let items = body.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() as u64;
    body.len() as u64 + items * JSON_ITEM_BYTES
}

/// Decodes a request once there is room for what it takes decoded; `what` names it in errors.
fn decode<T: prost::Message + Default>(
    what: &'static str,
    body: &[u8],
    format: Format,
    admission: &mut Admission,
    protobuf_bytes: fn(&[u8]) -> u64,
    from_json: fn(&[u8]) -> serde_json::Result<T>,
) -> Result<T> {
    let malformed = |cause| Refusal::Malformed { what, cause };
    match format {
        Format::Protobuf => {
            admission.grow(protobuf_bytes(body))?;
            T::decode(body).map_err(|error| malformed(error.to_string()))
        }
        Format::Json => {
            admission.grow(json_decoded_bytes(body))?;
            from_json(body).map_err(|error| malformed(error.to_string()))
        }
    }
}

/// Stores a metrics request.
pub(crate) fn metrics(
    inner: &Inner,
    place: Place,
    body: &[u8],
    format: Format,
    admission: &mut Admission,
) -> Result<Outcome> {
    let what = "the OTLP metrics request";
    let request: ExportMetricsServiceRequest =
        decode(what, body, format, admission, metrics_decoded_bytes, metrics_from_json)?;
    let mut tally = Tally::new(place, Signal::Metrics);
    let mut deltas = has_deltas(&request).then(|| inner.deltas.lock());
    let mut sink = BatchSink { batch: MetricBatch::default(), admission };
    let translated = translate(&request, &inner.translation, deltas.as_deref_mut(), inner.now(), &mut sink);
    let stored = translated.and_then(|report| {
        tally.receive(report.points);
        for RejectedRecords { reason, count, detail } in report.rejected {
            tally.reject(reason, count, || detail);
        }
        for RejectedRecords { reason, count, detail } in report.beside {
            tally.drop_beside(reason, count, || detail);
        }
        tally.drop_beside(EXEMPLARS, report.exemplars, || "exemplars are not kept yet".to_owned());
        if !sink.batch.is_empty() {
            tally.stored(&inner.metrics.append(&sink.batch)?);
        }
        Ok(())
    });
    if let Some(deltas) = &mut deltas {
        match &stored {
            Ok(()) => deltas.commit(),
            Err(_) => deltas.rollback(),
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge of a bounded number")]
        inner.stats.delta_series.set(deltas.len() as f64);
    }
    match stored {
        Ok(()) => Ok(tally.finish(&inner.ledger)),
        Err(refusal) => {
            tally.finish_refused(&inner.ledger, &refusal);
            Err(refusal)
        }
    }
}

/// The reason of dropped exemplars.
pub(crate) const EXEMPLARS: &str = "unsupported_exemplar";

struct BatchSink<'b, 'a> {
    batch: MetricBatch<'a>,
    admission: &'b mut Admission,
}

impl<'a> Sink<'a> for BatchSink<'_, 'a> {
    type Full = Refusal;

    fn series(&mut self, labels: &[Label<'a>], sample: Sample) -> Result<()> {
        let owned: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.admission.grow((owned + size_of_val(labels) + 64) as u64)?;
        self.batch
            .push(labels.iter().cloned(), [sample])
            .map_err(|error| Refusal::Internal { cause: format!("a translated series is invalid: {error}") })
    }

    fn metadata(&mut self, metadata: MetricMetadata) -> Result<()> {
        self.admission.grow((metadata.name.len() + metadata.help.len() + metadata.unit.len() + 128) as u64)?;
        self.batch.metadata.push(metadata);
        Ok(())
    }
}

/// Stores a logs request.
pub(crate) fn logs(
    inner: &Inner,
    place: Place,
    body: &[u8],
    format: Format,
    admission: &mut Admission,
) -> Result<Outcome> {
    let what = "the OTLP logs request";
    let request: ExportLogsServiceRequest = decode(what, body, format, admission, logs_decoded_bytes, logs_from_json)?;
    let decoded = logs_from_otlp(request);
    inner.stats.invalid_ids.inc_by(decoded.invalid_ids);
    let mut tally = Tally::new(place, Signal::Logs);
    for RejectedRecords { reason, count, detail } in decoded.rejected {
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
pub(crate) fn store_logs(inner: &Inner, mut batch: LogBatch, mut tally: Tally) -> Result<Outcome> {
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

type Fault = (&'static str, String);

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
fn stream_of(resource: &Resource, config: &Config) -> Result<Labels, Fault> {
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
pub(crate) fn check_stream(labels: &Labels, config: &Config) -> Result<(), Fault> {
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

fn check_count(got: usize, what: &str, config: &Config) -> Result<(), Fault> {
    let limit = config.max_attributes;
    if got <= limit {
        Ok(())
    } else {
        Err(("too_many_attributes", format!("{what} has {got} attributes, the limit is {limit}")))
    }
}

fn check_record(record: &LogRecord, config: &Config) -> Result<(), Fault> {
    check_count(record.attributes.len(), "a log record", config)?;
    let (got, limit) = (record.size_bytes(), config.max_record_bytes);
    if got > limit {
        return Err(("record_too_large", format!("a log record has about {got} bytes, the limit is {limit}")));
    }
    Ok(())
}
