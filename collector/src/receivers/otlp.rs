//! OTLP requests, whatever they came in: decode, test, store.

use std::collections::HashMap;
use std::sync::Arc;

use collector_otlp::metrics::{
    DeltaStates, Deltas, Label, Point, PointValue, Report, Sink, Stopped, label_name, translate,
};
use collector_otlp::proto::ExportLogsServiceRequest;
use collector_otlp::{
    RejectedRecords, ScopedLogs, logs_decoded_bytes, logs_from_json, logs_from_otlp, metrics_from_json, value_text,
};
use model::{Exemplar, HistogramSample, Labels, LogRecord, MetricMetadata, Resource, Sample};
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
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

/// Decodes a logs request once there is room for what it takes decoded.
fn decode_logs(body: &[u8], format: Format, admission: &mut Admission) -> Result<ExportLogsServiceRequest> {
    let malformed = |cause| Refusal::Malformed { what: "the OTLP logs request", cause };
    match format {
        Format::Protobuf => {
            admission.grow(logs_decoded_bytes(body))?;
            ExportLogsServiceRequest::decode(body).map_err(|error| malformed(error.to_string()))
        }
        Format::Json => {
            admission.grow(json_decoded_bytes(body))?;
            logs_from_json(body).map_err(|error| malformed(error.to_string()))
        }
    }
}

const METRICS: &str = "the OTLP metrics request";

/// Stores a metrics request.
pub(crate) fn metrics(
    inner: &Inner,
    place: Place,
    body: &[u8],
    format: Format,
    admission: &mut Admission,
) -> Result<Outcome> {
    match format {
        Format::Protobuf => store_metrics(inner, place, body, admission),
        Format::Json => {
            // The binary form is never larger than the text, but it is held beside it.
            admission.grow(json_decoded_bytes(body) + body.len() as u64)?;
            let malformed = |error: serde_json::Error| Refusal::Malformed { what: METRICS, cause: error.to_string() };
            let binary = metrics_from_json(body).map_err(malformed)?.encode_to_vec();
            store_metrics(inner, place, &binary, admission)
        }
    }
}

fn store_metrics(inner: &Inner, place: Place, body: &[u8], admission: &mut Admission) -> Result<Outcome> {
    let mut tally = Tally::new(place, Signal::Metrics);
    let mut deltas = LockedDeltas { all: &inner.deltas, held: None };
    let mut sink = BatchSink { batch: MetricBatch::default(), admission };
    let translated = translate(body, &inner.translation, &mut deltas, inner.now(), &mut sink);
    let stored = translated.map_err(refusal).and_then(|report| {
        account(report, &mut tally, inner);
        if !sink.batch.is_empty() {
            tally.stored(&inner.metrics.append(&sink.batch)?);
        }
        Ok(())
    });
    if let Some(mut deltas) = deltas.held {
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

/// Takes over what the translation refused.
fn account(report: Report, tally: &mut Tally, inner: &Inner) {
    tally.receive(report.points);
    for RejectedRecords { reason, count, detail } in report.rejected {
        tally.reject(reason, count, || detail);
    }
    for RejectedRecords { reason, count, detail } in report.beside {
        tally.drop_beside(reason, count, || detail);
    }
    inner.stats.invalid_ids.inc_by(report.invalid_ids);
}

fn refusal(stopped: Stopped<Refusal>) -> Refusal {
    match stopped {
        Stopped::Malformed { cause } => Refusal::Malformed { what: METRICS, cause },
        Stopped::History(error) => Refusal::Unavailable { reason: "delta_history", cause: error.to_string() },
        Stopped::Full(refusal) => refusal,
    }
}

/// Locks the running totals when the first delta of a request comes, and holds them to the request's end.
struct LockedDeltas<'i> {
    all: &'i Mutex<DeltaStates>,
    held: Option<MutexGuard<'i, DeltaStates>>,
}

impl Deltas for LockedDeltas<'_> {
    fn states(&mut self) -> &mut DeltaStates {
        self.held.get_or_insert_with(|| self.all.lock())
    }
}

struct BatchSink<'b, 'a> {
    batch: MetricBatch<'a>,
    admission: &'b mut Admission,
}

impl<'a> Sink<'a> for BatchSink<'_, 'a> {
    type Full = Refusal;

    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Exemplar>) -> Result<()> {
        let owned: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let told: usize = exemplars.iter().map(|one| one.labels.size_bytes() + size_of::<Exemplar>()).sum();
        self.admission.grow((owned + size_of_val(labels) + told + 64) as u64)?;
        let Point { timestamp_ms, start_ms, value } = point;
        let sample = match &value {
            PointValue::Number(value) => Some(Sample { timestamp_ms, value: *value }),
            PointValue::Histogram(_) => None,
        };
        self.batch
            .push(labels.iter().cloned(), sample)
            .map_err(|error| Refusal::Internal { cause: format!("a translated series is invalid: {error}") })?;
        match value {
            PointValue::Number(_) if start_ms != 0 => self.batch.set_starts([start_ms]),
            PointValue::Number(_) => {}
            PointValue::Histogram(histogram) => {
                let buckets = histogram.positive.len() + histogram.negative.len() + histogram.custom.len();
                self.admission.grow((buckets * 16 + size_of::<HistogramSample>() + size_of_val(&*histogram)) as u64)?;
                self.batch.set_histograms([HistogramSample { timestamp_ms, start_ms, histogram }]);
            }
        }
        if !exemplars.is_empty() {
            self.batch.set_exemplars(exemplars);
        }
        Ok(())
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
    let decoded = logs_from_otlp(decode_logs(body, format, admission)?);
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
