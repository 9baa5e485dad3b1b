//! OTLP's metrics requests: translate, store, account for each point.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use collector_otlp::metrics::{
    DeltaStates, Deltas, Family, Label, NoLabels, Part, Point, PointValue, Report, ResourceLabels, ScopeLabels, Sink,
    Stopped, Undecoded, translate,
};
use collector_otlp::{RejectedRecords, metrics_from_json};
use model::{Exemplar, HistogramSample, MetricMetadata, Sample, Timestamp};
use parking_lot::{Mutex, MutexGuard, RwLock};
use prost::Message as _;
use runtime::Signal;
use storage_api::{AppendReport, KeyMaker, LabelFault, LabelPair, LabelSource, MetricBatch, Rejection, SeriesKey};

use super::otlp::{Format, json_decoded_bytes};
use super::tally::{Outcome, Tally};
use crate::admission::Admission;
use crate::collector::{Inner, Place};
use crate::error::{Refusal, Result};

const METRICS: &str = "the OTLP metrics request";

/// Most families of which it is known that storage has their metadata.
const TOLD_MAX: usize = 200_000;

/// Metadata is told again after this time, in case that storage lost it with its series.
const TOLD_FOR_NS: i64 = 600_000_000_000;

/// What the receiver of OTLP metrics keeps from request to request.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    keys: KeyMaker,
    /// The families whose metadata was stored lately. Never held over anything else.
    told: RwLock<Told>,
}

#[derive(Debug, Default)]
struct Told {
    since: Timestamp,
    families: HashSet<SeriesKey>,
}

impl Memory {
    fn was_told(&self, family: SeriesKey) -> bool {
        self.told.read().families.contains(&family)
    }

    fn tell(&self, families: Vec<SeriesKey>, now: Timestamp) {
        if families.is_empty() {
            return;
        }
        let mut told = self.told.write();
        let is_over = told.families.len() + families.len() > TOLD_MAX;
        if is_over || now.0.saturating_sub(told.since.0) > TOLD_FOR_NS {
            *told = Told { since: now, families: HashSet::new() };
        }
        told.families.extend(families.into_iter().take(TOLD_MAX));
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
    let mut rows = Rows::new(&inner.otlp_metrics, admission);
    let translated = translate(body, &inner.translation, &mut deltas, now, &mut rows);
    let stored = translated.map_err(refusal).and_then(|report| {
        account(report, &mut tally, inner);
        let Rows { known, decoded, metadata, told, .. } = rows;
        let batch = batch(&known, decoded, metadata)?;
        if !batch.is_empty() {
            let report = inner.metrics.append(&batch).map_err(at_fault)?;
            tally.stored(&known.by_point(report));
            inner.otlp_metrics.tell(told, now);
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

/// Series whose labels are decoded only when storage does not know their keys. A token is a place among the samples.
#[derive(Debug, Default)]
struct Known<'a> {
    families: Vec<Arc<Family<'a>>>,
    samples: Vec<KnownSample<'a>>,
    /// The exemplars of some of the samples, by place, ascending.
    exemplars: Vec<(usize, Vec<Exemplar>)>,
    /// The points that were refused for their labels, once per series: number and reason.
    faults: Mutex<Vec<(u64, &'static str)>>,
}

#[derive(Debug)]
struct KnownSample<'a> {
    family: u32,
    key: SeriesKey,
    series: Undecoded<'a>,
}

impl<'a> LabelSource<'a> for Known<'a> {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> std::result::Result<(), LabelFault> {
        let found = usize::try_from(token).ok().and_then(|place| self.samples.get(place));
        let found = found.and_then(|sample| Some((self.families.get(sample.family as usize)?, sample.series)));
        let Some((family, series)) = found else {
            return Err(LabelFault::Malformed("a series without a family".to_owned()));
        };
        match family.labels(series.attributes, series.part) {
            Ok(labels) => out.extend(labels),
            Err(NoLabels::Malformed(cause)) => return Err(LabelFault::Malformed(cause)),
            Err(NoLabels::Refused(RejectedRecords { reason, detail, .. })) => {
                self.faults.lock().push((series.number, reason));
                return Err(LabelFault::Refused { reason, detail });
            }
        }
        Ok(())
    }
}

impl Known<'_> {
    /// Storage counts samples; of those that were refused for their labels, counts points instead.
    fn by_point(&self, report: AppendReport) -> AppendReport {
        let faults = std::mem::take(&mut *self.faults.lock());
        if faults.is_empty() {
            return report;
        }
        let mut samples: HashMap<&str, u64> = HashMap::new();
        let mut points: HashMap<&str, HashSet<u64>> = HashMap::new();
        for (number, reason) in faults {
            *samples.entry(reason).or_default() += 1;
            points.entry(reason).or_default().insert(number);
        }
        let rejections = report.rejections.into_iter().map(|rejection| {
            let of_samples = samples.get(rejection.reason).copied().unwrap_or(0);
            let of_points = points.get(rejection.reason).map_or(0, |points| points.len() as u64);
            Rejection { count: rejection.count.saturating_sub(of_samples) + of_points, ..rejection }
        });
        AppendReport { rejections: rejections.collect(), ..report }
    }
}

/// A series whose labels are decoded.
struct Decoded<'a> {
    labels: Vec<Label<'a>>,
    point: Point,
    exemplars: Vec<Exemplar>,
}

/// Puts it all together, keyed series first.
fn batch<'b, 'a: 'b>(
    known: &'b Known<'a>,
    decoded: Vec<Decoded<'a>>,
    metadata: Vec<MetricMetadata>,
) -> Result<MetricBatch<'b>> {
    let mut batch = MetricBatch::with_source(known);
    let rows = known.samples.len() + decoded.len();
    batch.reserve(rows, rows);
    let mut exemplars = known.exemplars.iter().peekable();
    for (place, KnownSample { key, series, .. }) in known.samples.iter().enumerate() {
        batch.push_keyed(*key, place as u64, [series.sample]);
        if series.start_ms != 0 {
            batch.set_starts([series.start_ms]);
        }
        if let Some((_, exemplars)) = exemplars.next_if(|(of, _)| *of == place) {
            batch.set_exemplars(exemplars.iter().cloned());
        }
    }
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

/// Collects what a request becomes.
struct Rows<'m, 'a> {
    memory: &'m Memory,
    admission: &'m mut Admission,
    known: Known<'a>,
    decoded: Vec<Decoded<'a>>,
    metadata: Vec<MetricMetadata>,
    /// The families whose metadata is in `metadata`.
    told: Vec<SeriesKey>,
    current: Current,
}

/// The keys of what the next points belong to. Addresses tell resources and scopes apart, as long as their families live.
#[derive(Default)]
struct Current {
    resource: (usize, SeriesKey),
    scope: (usize, SeriesKey),
    name: SeriesKey,
    family: SeriesKey,
    attributes: (usize, usize, SeriesKey),
}

impl<'m, 'a> Rows<'m, 'a> {
    fn new(memory: &'m Memory, admission: &'m mut Admission) -> Self {
        let (known, current) = (Known::default(), Current::default());
        Self { memory, admission, known, decoded: Vec::new(), metadata: Vec::new(), told: Vec::new(), current }
    }

    /// Returns the key of bytes that come in pieces.
    fn key_of<'p>(&self, pieces: impl Iterator<Item = &'p [u8]>) -> SeriesKey {
        let keys = &self.memory.keys;
        pieces.fold(SeriesKey(0), |key, piece| keys.join([key, keys.key(piece)]))
    }

    fn charge(&mut self, exemplars: &[Exemplar], bytes: usize) -> Result<()> {
        let told: usize = exemplars.iter().map(|one| one.labels.size_bytes() + size_of::<Exemplar>()).sum();
        self.admission.grow((bytes + told) as u64)
    }
}

impl<'a> Sink<'a> for Rows<'_, 'a> {
    type Full = Refusal;

    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Exemplar>) -> Result<()> {
        let owned: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let buckets = match &point.value {
            PointValue::Number(_) => 0,
            PointValue::Histogram(one) => (one.positive.len() + one.negative.len() + one.custom.len()) * 16 + 128,
        };
        self.charge(&exemplars, owned + size_of_val(labels) * 2 + buckets + 128)?;
        self.decoded.push(Decoded { labels: labels.to_vec(), point, exemplars });
        Ok(())
    }

    fn family(&mut self, family: &Arc<Family<'a>>) {
        let (resource, scope): (&Arc<ResourceLabels<'a>>, &Arc<ScopeLabels<'a>>) = (&family.resource, &family.scope);
        if self.current.resource.0 != Arc::as_ptr(resource).addr() {
            self.current.resource = (Arc::as_ptr(resource).addr(), self.key_of(resource.identity()));
        }
        if self.current.scope.0 != Arc::as_ptr(scope).addr() {
            self.current.scope = (Arc::as_ptr(scope).addr(), self.key_of(scope.identity()));
        }
        self.current.name = self.key_of(family.identity().into_iter());
        let parts = [self.current.resource.1, self.current.scope.1, self.current.name];
        self.current.family = self.memory.keys.join(parts);
        self.known.families.push(Arc::clone(family));
    }

    fn undecoded(
        &mut self,
        _: &Family<'a>,
        series: Undecoded<'a>,
        exemplars: Vec<Exemplar>,
    ) -> Result<std::result::Result<(), NoLabels>> {
        self.charge(&exemplars, size_of::<KnownSample<'a>>() * 2 + 96)?;
        let keys = &self.memory.keys;
        let bytes = series.attributes.bytes();
        let (at, len) = (bytes.as_ptr().addr(), bytes.len());
        // The parts of a histogram share their attributes.
        if (at, len) != (self.current.attributes.0, self.current.attributes.1) || len == 0 {
            self.current.attributes = (at, len, keys.key(bytes));
        }
        let (family, attributes) = (self.current.family, self.current.attributes.2);
        let key = match series.part {
            Part::Whole => keys.join([family, attributes]),
            part => keys.join([family, attributes, SeriesKey(part.identity())]),
        };
        if !exemplars.is_empty() {
            self.known.exemplars.push((self.known.samples.len(), exemplars));
        }
        let family = u32::try_from(self.known.families.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.known.samples.push(KnownSample { family, key, series });
        Ok(Ok(()))
    }

    fn wants_metadata(&mut self, _: &Family<'a>, about: [&'a [u8]; 2]) -> bool {
        let keys = &self.memory.keys;
        let key = keys.join([self.current.name, keys.key(about[0]), keys.key(about[1])]);
        if self.memory.was_told(key) {
            return false;
        }
        self.told.push(key);
        true
    }

    fn metadata(&mut self, metadata: MetricMetadata) -> Result<()> {
        self.admission.grow((metadata.name.len() + metadata.help.len() + metadata.unit.len() + 128) as u64)?;
        self.metadata.push(metadata);
        Ok(())
    }
}
