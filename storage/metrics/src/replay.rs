//! Brings the head back from the WAL, one record in memory at a time.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::path::Path;

use model::{Labels, Sample};
use runtime::{CpuPool, Ledger, Signal};
use storage_api::Result;
use storage_wal::{Commit, Observer, SegmentId, Wal};

use crate::block;
use crate::error::ReplayError;
use crate::flush::write_head;
use crate::head::{Head, NewRow, NumberHasher, SeriesRef};
use crate::metadata::Metadata;
use crate::options::Options;
use crate::record::{self, CodedRow, DecodedExtras, Record, SamplesRecord, SeriesId};
use crate::telemetry::Metrics;

/// The place in the ledger for samples whose series is lost.
const PLACE: &str = "storage_wal";

/// Writes a full head to a block; segments before the given one are covered then.
pub(crate) type Spill<'a> = &'a mut dyn FnMut(&Head, SegmentId) -> Result<()>;

/// What an id of the WAL stands for.
#[derive(Debug)]
struct Known {
    labels: Labels,
    /// Where the series is in the head, once it was seen there.
    place: Option<SeriesRef>,
    /// Its bases by number: the first one is 1. One that was lost is missing.
    bases: Vec<Option<u64>>,
}

/// Most bases of a series: a number beyond the next few is damage.
const BASES_AHEAD_MAX: usize = 1 << 16;

impl Known {
    /// Returns the bits of the base that a row is told from; 0 for a row without one.
    fn base(&self, number: u32) -> Option<u64> {
        match number.checked_sub(1) {
            Some(place) => self.bases.get(place as usize).copied().flatten(),
            None => Some(0),
        }
    }

    fn set_base(&mut self, row: &CodedRow, last: Option<&Sample>) {
        if let (Some(place), Some(last)) = (row.claim.checked_sub(1), last) {
            let place = place as usize;
            if place >= self.bases.len() && place - self.bases.len() <= BASES_AHEAD_MAX {
                self.bases.resize(place + 1, None);
            }
            if let Some(base) = self.bases.get_mut(place) {
                *base = Some(last.value.to_bits());
            }
        }
    }
}

/// Applies records.
#[derive(Debug)]
pub(crate) struct Replayer<'a> {
    pub(crate) head: Head,
    metadata: &'a mut Metadata,
    metrics: &'a Metrics,
    ledger: &'a Ledger,
    /// The head is written to a block when it reaches this size.
    head_bytes: u64,
    epoch: Option<u64>,
    /// What the ids of the epoch stand for, and where that is in the head once it was seen there.
    series: HashMap<SeriesId, Known, BuildHasherDefault<NumberHasher>>,
    /// Spilling failed: the head grows on, as refusing to start would help nobody.
    has_failed: bool,
}

impl<'a> Replayer<'a> {
    pub(crate) fn new(metadata: &'a mut Metadata, metrics: &'a Metrics, ledger: &'a Ledger, head_bytes: u64) -> Self {
        let series = HashMap::default();
        Self { head: Head::new(), metadata, metrics, ledger, head_bytes, epoch: None, series, has_failed: false }
    }

    /// Applies one record of `segment`.
    pub(crate) fn apply(&mut self, segment: SegmentId, record: &[u8], spill: Spill<'_>) {
        let unpacked = record::unpack(record);
        let decoded = unpacked.as_ref().and_then(|(kind, body)| record::decode(*kind, body));
        match decoded {
            Some(Record::Samples(samples)) => self.apply_samples(&samples),
            Some(Record::Metadata(metadata)) => {
                for one in metadata {
                    self.metadata.set(one);
                }
            }
            None => {
                tracing::error!(segment = segment.0, size_bytes = record.len(), "a WAL record cannot be decoded");
                self.metrics.wal_lost.with(&["undecodable"]).inc_by(record.len() as u64);
            }
        }
        if self.head.size_bytes() >= self.head_bytes && !self.has_failed {
            match spill(&self.head, segment) {
                Ok(()) => {
                    self.head = Head::new();
                    self.series.values_mut().for_each(|known| known.place = None);
                }
                Err(error) => {
                    tracing::warn!(%error, "the head could not be written to a block during replay");
                    self.has_failed = true;
                }
            }
        }
    }

    fn apply_samples(&mut self, record: &SamplesRecord<'_>) {
        if self.epoch != Some(record.epoch) {
            self.series.clear();
            self.epoch = Some(record.epoch);
        }
        for (id, labels) in &record.definitions {
            if labels.is_sorted_by(|a, b| a.0 < b.0) {
                let labels = Labels::from_sorted(labels.iter().copied());
                // Appenders that met define a series twice.
                self.series.entry(*id).or_insert(Known { labels, place: None, bases: Vec::new() });
            }
        }
        let mut scratch = Vec::new();
        let (mut times, mut changes) = (record.times.as_slice(), record.changes.as_slice());
        let (mut samples, mut found) = (Vec::with_capacity(times.len()), Vec::with_capacity(record.rows.len()));
        let (mut lost, mut extras) = (0, record.extras.iter().peekable());
        let mut found_extras = Vec::new();
        for (place, row) in record.rows.iter().enumerate() {
            let more = extras.next_if(|more| more.row == place);
            let (now_times, later_times) = times.split_at_checked(row.count).unwrap_or((times, &[]));
            let (now_changes, later_changes) = changes.split_at_checked(row.count).unwrap_or((changes, &[]));
            (times, changes) = (later_times, later_changes);
            let known = self.series.get_mut(&row.series);
            let Some((known, base)) = known.and_then(|known| known.base(row.base).map(|base| (known, base))) else {
                lost += (now_times.len() + more.map_or(0, |more| more.histograms.len())) as u64;
                continue;
            };
            let start = samples.len();
            row.samples(now_times, now_changes, base, &mut samples);
            known.set_base(row, samples.get(start..).and_then(<[Sample]>::last));
            known.place = known.place.or_else(|| self.head.resolve(&known.labels, &mut scratch));
            match known.place {
                Some(series) => {
                    let start_ms = more.map_or(Some(0), DecodedExtras::plain_start);
                    let extras = start_ms.is_none().then_some(found_extras.len() as u32);
                    found_extras.extend(more.filter(|_| extras.is_some()).map(DecodedExtras::borrow));
                    found.push((series, start..samples.len(), start_ms.unwrap_or(0), extras));
                }
                None => lost += (now_times.len() + more.map_or(0, |more| more.histograms.len())) as u64,
            }
        }
        let rows = found.into_iter().map(|(series, range, start_ms, extras)| {
            let samples = samples.get(range).unwrap_or_default();
            NewRow { series, samples, start_ms, extras }
        });
        self.head.append(&rows.collect::<Vec<_>>(), &found_extras);
        if lost > 0 {
            // The record that says which series these are, or from which value theirs are told, was damaged.
            tracing::error!(samples = lost, "samples of unknown series or values in the WAL are lost");
            self.ledger.received(PLACE, Signal::Metrics, lost);
            self.ledger.dropped(PLACE, Signal::Metrics, "corrupt_wal", lost);
        }
    }
}

/// What a replay stands on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) options: &'a Options,
    pub(crate) metrics: &'a Metrics,
    pub(crate) ledger: &'a Ledger,
    pub(crate) cpu: &'a CpuPool,
}

/// Opens the WAL and brings the head back; a head over its size becomes a block on the way.
pub(crate) fn replay(
    dir: &Path,
    wal_dir: &Path,
    ground: Ground<'_>,
    found: &mut block::Found,
    metadata: &mut Metadata,
) -> Result<(Wal, Head)> {
    let Ground { options, metrics, ledger, cpu } = ground;
    let covered = found.blocks.iter().map(|block| block.meta.wal_first_needed_segment).max().unwrap_or(1);
    let (written, syncs) = (metrics.wal_written.clone(), metrics.wal_syncs.clone());
    let observer = Observer::new(move |Commit { bytes, sync, .. }| {
        written.inc_by(bytes);
        syncs.observe(sync.as_secs_f64());
    });
    let wal_options = storage_wal::Options {
        record_bytes_max: u32::try_from(2 * crate::record::RECORD_BYTES_MAX).unwrap_or(u32::MAX),
        first_segment: SegmentId(covered.max(1)),
        observer: Some(observer),
        faults: options.faults.clone(),
        ..storage_wal::Options::default()
    };
    let mut replayer = Replayer::new(metadata, metrics, ledger, options.head_bytes_max / 2);
    let mut spill = |head: &Head, segment: SegmentId| {
        let block = write_head(dir, head, found.last_sequence + 1, segment, options, cpu)?;
        found.last_sequence += 1;
        found.blocks.extend(block);
        Ok(())
    };
    let (wal, report) = Wal::open::<ReplayError>(wal_dir, wal_options, &mut |segment, record| {
        replayer.apply(segment, record, &mut spill);
        Ok(())
    })
    .map_err(|ReplayError(error)| error)?;
    if report.torn_bytes > 0 {
        tracing::warn!(bytes = report.torn_bytes, "a record at the end of the WAL was never finished and is cut off");
        metrics.wal_lost.with(&["torn"]).inc_by(report.torn_bytes);
    }
    if report.corrupt_gaps > 0 {
        let (gaps, bytes) = (report.corrupt_gaps, report.corrupt_bytes);
        tracing::error!(gaps, bytes, first = ?report.damage.first(), "the WAL is damaged, acknowledged samples are lost");
        metrics.wal_lost.with(&["corrupt"]).inc_by(bytes);
    }
    tracing::info!(records = report.records, bytes = report.bytes, samples = replayer.head.samples(), "WAL replayed");
    Ok((wal, replayer.head))
}
