//! Collects what a request becomes; labels are decoded only when storage does not know the keys of their series.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use collector_otlp::RejectedRecords;
use collector_otlp::metrics::{
    Attributes, Family, Label, MetricName, NoLabels, Part, Point, PointValue, Remembered, ResourceLabels, ScopeLabels,
    Sink, Undecoded,
};
use model::{Exemplar, MetricMetadata, Sample};
use parking_lot::Mutex;
use storage_api::{AppendReport, KeyMaker, KeyedRows, LabelFault, LabelPair, LabelSource, Rejection, SeriesKey};

use super::memory::{Memory, News, Seen};
use crate::admission::Admission;
use crate::error::{Refusal, Result};

/// Bytes of a body for each sample, as senders write them: so many samples are made room for, up to some.
const SAMPLE_BYTES: usize = 48;
const RESERVED_MAX: usize = 8_192;
/// Samples whose memory is asked for together.
const PAID_SAMPLES: usize = 256;
/// What a sample takes while its request is worked on, and its share of a family.
const SPACE_PER_SAMPLE: usize = 2 * (size_of::<KnownSample<'_>>() + 64) + size_of::<KnownFamily<'_>>();

/// Series whose labels are decoded only when storage does not know their keys. A token is a place among the samples.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    resources: Vec<Arc<ResourceLabels<'a>>>,
    scopes: Vec<Arc<ScopeLabels<'a>>>,
    families: Vec<KnownFamily<'a>>,
    samples: Vec<KnownSample<'a>>,
    /// The points that were refused for their labels, once per series: number and reason.
    faults: Mutex<Vec<(u64, &'static str)>>,
    /// The name in Prometheus of the family that was decoded last.
    named: Mutex<Option<(u32, String)>>,
}

#[derive(Debug, Clone, Copy)]
struct KnownFamily<'a> {
    resource: u32,
    scope: u32,
    name: MetricName<'a>,
}

#[derive(Debug)]
enum KnownSample<'a> {
    Point { family: u32, number: u64, attributes: Attributes<'a>, part: Part },
    Target { resource: u32 },
}

impl<'a> Known<'a> {
    fn labels_of(&self, sample: &KnownSample<'a>) -> std::result::Result<Vec<Label<'a>>, NoLabels> {
        let missing = || NoLabels::Malformed("a series without a family".to_owned());
        match sample {
            KnownSample::Target { resource } => {
                let resource = self.resources.get(*resource as usize).ok_or_else(missing)?;
                Ok(resource.target_labels()?.unwrap_or_default())
            }
            KnownSample::Point { family: number, attributes, part, .. } => {
                let KnownFamily { resource, scope, name } = *self.families.get(*number as usize).ok_or_else(missing)?;
                let (resource, scope) = (self.resources.get(resource as usize), self.scopes.get(scope as usize));
                let mut family = Family::new(resource.ok_or_else(missing)?, scope.ok_or_else(missing)?, name);
                let mut named = self.named.lock();
                match named.take() {
                    Some((of, name)) if of == *number => family = family.with_prometheus_name(name),
                    _ => {}
                }
                let labels = family.labels(*attributes, *part);
                *named = family.into_prometheus_name().map(|name| (*number, name));
                labels
            }
        }
    }

    /// Storage counts samples; of those that were refused for their labels, counts points instead.
    pub(super) fn by_point(&self, report: AppendReport) -> AppendReport {
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

impl<'b, 'a: 'b> LabelSource<'b> for Known<'a> {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'b>>) -> std::result::Result<(), LabelFault> {
        let found = usize::try_from(token).ok().and_then(|place| self.samples.get(place));
        let Some(sample) = found else {
            return Err(LabelFault::Malformed("a series without a sample".to_owned()));
        };
        match self.labels_of(sample) {
            Ok(labels) => out.extend(labels),
            Err(NoLabels::Malformed(cause)) => return Err(LabelFault::Malformed(cause)),
            Err(NoLabels::Refused(RejectedRecords { reason, detail, .. })) => {
                if let KnownSample::Point { number, .. } = sample {
                    self.faults.lock().push((*number, reason));
                }
                return Err(LabelFault::Refused { reason, detail });
            }
        }
        Ok(())
    }
}

/// A series whose labels are decoded.
pub(super) struct Decoded<'a> {
    pub(super) labels: Vec<Label<'a>>,
    pub(super) point: Point,
    pub(super) exemplars: Vec<Exemplar>,
}

/// Collects what a request becomes.
pub(super) struct Rows<'m, 'a> {
    keys: &'m KeyMaker,
    seen: Seen,
    admission: &'m mut Admission,
    /// Samples that may come before memory is asked for again.
    paid: usize,
    pub(super) known: Known<'a>,
    /// A row for each known sample.
    pub(super) rows: KeyedRows,
    pub(super) decoded: Vec<Decoded<'a>>,
    pub(super) metadata: Vec<MetricMetadata>,
    pub(super) news: News,
    current: Current<'a>,
}

/// The keys of what the next points belong to.
#[derive(Default)]
struct Current<'a> {
    resource: SeriesKey,
    /// Of resource and scope.
    scope: SeriesKey,
    /// Of the metric, whoever emitted it.
    metric: SeriesKey,
    /// Of resource, scope and metric.
    family: SeriesKey,
    /// The name of the family, until it is one of the known ones.
    name: Option<MetricName<'a>>,
    attributes: (usize, usize, SeriesKey),
}

impl<'m, 'a> Rows<'m, 'a> {
    pub(super) fn new(
        memory: &'m Memory,
        mut rows: KeyedRows,
        admission: &'m mut Admission,
        body: &[u8],
    ) -> Result<Self> {
        let mut known = Known::default();
        let expected = (body.len() / SAMPLE_BYTES).min(RESERVED_MAX);
        admission.grow((expected * SPACE_PER_SAMPLE) as u64)?;
        known.samples.reserve(expected);
        rows.reserve(expected, expected);
        Ok(Self {
            keys: &memory.keys,
            seen: memory.seen(),
            admission,
            paid: expected,
            known,
            rows,
            decoded: Vec::new(),
            metadata: Vec::new(),
            news: News::default(),
            current: Current::default(),
        })
    }

    /// Returns the key of bytes that come in pieces.
    fn key_of<'p>(&self, pieces: impl Iterator<Item = &'p [u8]>) -> SeriesKey {
        pieces.fold(SeriesKey(0), |key, piece| self.keys.join([key, self.keys.key(piece)]))
    }

    fn pay(&mut self) -> Result<()> {
        if self.paid == 0 {
            self.admission.grow((PAID_SAMPLES * SPACE_PER_SAMPLE) as u64)?;
            self.paid = PAID_SAMPLES;
        }
        self.paid -= 1;
        Ok(())
    }

    fn charge(&mut self, exemplars: &[Exemplar], bytes: usize) -> Result<()> {
        let told: usize = exemplars.iter().map(|one| one.labels.size_bytes() + size_of::<Exemplar>()).sum();
        self.admission.grow((bytes + told) as u64)
    }

    /// Returns the place of the family that came last among the known ones.
    fn known_family(&mut self) -> u32 {
        let last = |len: usize| u32::try_from(len.saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(name) = self.current.name.take() {
            let (resource, scope) = (last(self.known.resources.len()), last(self.known.scopes.len()));
            self.known.families.push(KnownFamily { resource, scope, name });
        }
        last(self.known.families.len())
    }

    fn push(&mut self, key: SeriesKey, sample: Sample, known: KnownSample<'a>) -> Result<()> {
        self.pay()?;
        self.rows.push(key, self.known.samples.len() as u64, [sample]);
        self.known.samples.push(known);
        Ok(())
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

    fn resource(&mut self, resource: &Arc<ResourceLabels<'a>>) -> Remembered {
        self.current.resource = self.key_of(resource.identity());
        self.known.resources.push(Arc::clone(resource));
        self.seen.resource(self.current.resource)
    }

    fn sound(&mut self, has_target: bool) {
        self.news.resources.push((self.current.resource, has_target));
    }

    fn target(&mut self, _: &Arc<ResourceLabels<'a>>, sample: Sample) -> Result<()> {
        // No part of a point has this identity, nor is a resource ever a family.
        let key = self.keys.join([self.current.resource, SeriesKey(u128::MAX)]);
        let resource = u32::try_from(self.known.resources.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.push(key, sample, KnownSample::Target { resource })
    }

    fn scope(&mut self, scope: &Arc<ScopeLabels<'a>>) {
        self.current.scope = self.keys.join([self.current.resource, self.key_of(scope.identity())]);
        self.known.scopes.push(Arc::clone(scope));
    }

    fn family(&mut self, family: &Family<'_, 'a>) {
        let (pieces, kind) = family.identity();
        let mut metric = SeriesKey(0);
        for (place, piece) in pieces.into_iter().enumerate() {
            let key = if piece.is_empty() { continue } else { self.keys.key(piece) };
            metric = match place {
                0 => key,
                _ => self.keys.join([metric, key, SeriesKey(place as u128)]),
            };
        }
        // Nobody can make up pieces whose keys are so near to each other.
        self.current.metric = SeriesKey(metric.0.wrapping_add(kind.into()));
        self.current.family = self.keys.join([self.current.scope, self.current.metric]);
        self.current.name = Some(family.name());
    }

    fn undecoded(
        &mut self,
        _: &Family<'_, 'a>,
        series: Undecoded<'a>,
        exemplars: Vec<Exemplar>,
    ) -> Result<std::result::Result<(), NoLabels>> {
        let Undecoded { number, attributes, part, sample, start_ms } = series;
        let (bytes, family) = (attributes.bytes(), self.current.family);
        let key = if bytes.is_empty() && part == Part::Whole {
            family
        } else {
            let (at, len) = (bytes.as_ptr().addr(), bytes.len());
            // The parts of a histogram share their attributes.
            if (at, len) != (self.current.attributes.0, self.current.attributes.1) || len == 0 {
                self.current.attributes = (at, len, self.keys.key(bytes));
            }
            let attributes = self.current.attributes.2;
            match part {
                Part::Whole => self.keys.join([family, attributes]),
                part => self.keys.join([family, attributes, SeriesKey(part.identity())]),
            }
        };
        let family = self.known_family();
        self.push(key, sample, KnownSample::Point { family, number, attributes, part })?;
        if start_ms != 0 {
            self.rows.set_starts([start_ms]);
        }
        if !exemplars.is_empty() {
            self.charge(&exemplars, 0)?;
            self.rows.set_exemplars(exemplars);
        }
        Ok(Ok(()))
    }

    fn wants_metadata(&mut self, _: &Family<'_, 'a>) -> bool {
        if self.seen.has_metric(self.current.metric) {
            return false;
        }
        self.news.metrics.push(self.current.metric);
        true
    }

    fn metadata(&mut self, metadata: MetricMetadata) -> Result<()> {
        self.admission.grow((metadata.name.len() + metadata.help.len() + metadata.unit.len() + 128) as u64)?;
        self.metadata.push(metadata);
        Ok(())
    }
}
