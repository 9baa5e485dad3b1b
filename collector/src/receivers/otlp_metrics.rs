//! OTLP's metrics requests: translate, store, account for each point.

mod memory;
mod rows;

use collector_otlp::metrics::{DeltaStates, Deltas, Point, PointValue, Report, Stopped, translate};
use collector_otlp::{RejectedRecords, metrics_from_json};
use model::{HistogramSample, MetricMetadata, Sample};
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use runtime::Signal;
use storage_api::{KeyedRows, MetricBatch};

use super::otlp::{Format, json_decoded_bytes};
use super::tally::{Outcome, Tally};
use crate::admission::Admission;
use crate::collector::{Inner, Place};
use crate::error::{Refusal, Result};
pub(crate) use memory::Memory;
use rows::{Decoded, Known, Rows};

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
        Format::Protobuf => store(inner, place, body, admission),
        Format::Json => {
            // The binary form is never larger than the text, but it is held beside it.
            admission.grow(json_decoded_bytes(body) + body.len() as u64)?;
            let malformed = |error: serde_json::Error| Refusal::Malformed { what: METRICS, cause: error.to_string() };
            let binary = metrics_from_json(body).map_err(malformed)?.encode_to_vec();
            store(inner, place, &binary, admission)
        }
    }
}

fn store(inner: &Inner, place: Place, body: &[u8], admission: &mut Admission) -> Result<Outcome> {
    let mut tally = Tally::new(place, Signal::Metrics);
    let mut deltas = LockedDeltas { all: &inner.deltas, held: None };
    let now = inner.now();
    let mut rows = Rows::new(&inner.otlp_metrics, inner.rows.take(), admission, body)?;
    let translated = translate(body, &inner.translation, &mut deltas, now, &mut rows);
    let stored = translated.map_err(refusal).and_then(|report| {
        account(report, &mut tally, inner);
        let Rows { known, rows, decoded, metadata, news, .. } = rows;
        let batch = batch(rows, &known, decoded, metadata)?;
        if !batch.is_empty() {
            tally.offer_exemplars(batch.exemplars_len());
            let report = inner.metrics.append(&batch).map_err(at_fault)?;
            tally.stored(&known.by_point(report));
            inner.otlp_metrics.note(news, now);
        }
        inner.rows.give_back(batch.into_rows());
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
    inner.stats.count_invalid(report.invalid);
}

fn refusal(stopped: Stopped<Refusal>) -> Refusal {
    match stopped {
        Stopped::Malformed { cause } => Refusal::Malformed { what: METRICS, cause },
        Stopped::History(error) => Refusal::Unavailable { reason: "delta_history", cause: error.to_string() },
        Stopped::Full(refusal) => refusal,
    }
}

/// Labels that were only read by storage may be malformed, which is then said of the request.
fn at_fault(error: storage_api::Error) -> Refusal {
    match Refusal::from(error) {
        Refusal::Malformed { cause, .. } => Refusal::Malformed { what: METRICS, cause },
        other => other,
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

/// Puts it all together, keyed series first.
fn batch<'b, 'a: 'b>(
    rows: KeyedRows,
    known: &'b Known<'a>,
    decoded: Vec<Decoded<'a>>,
    metadata: Vec<MetricMetadata>,
) -> Result<MetricBatch<'b>> {
    let mut batch = MetricBatch::with_rows(rows, known);
    batch.reserve(decoded.len(), decoded.len());
    for Decoded { labels, point: Point { timestamp_ms, start_ms, value }, exemplars } in decoded {
        let sample = match &value {
            PointValue::Number(value) => Some(Sample { timestamp_ms, value: *value }),
            PointValue::Histogram(_) => None,
        };
        batch
            .push(labels, sample)
            .map_err(|error| Refusal::Internal { cause: format!("a translated series is invalid: {error}") })?;
        match value {
            PointValue::Number(_) if start_ms != 0 => batch.set_starts([start_ms]),
            PointValue::Number(_) => {}
            PointValue::Histogram(histogram) => {
                batch.set_histograms([HistogramSample { timestamp_ms, start_ms, histogram }]);
            }
        }
        if !exemplars.is_empty() {
            batch.set_exemplars(exemplars);
        }
    }
    batch.metadata = metadata;
    Ok(batch)
}
