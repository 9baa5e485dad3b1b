//! Brings the head back from the WAL, with few records in memory at a time.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use model::{Labels, Sample};
use runtime::{CpuPool, Ledger, Signal};
use storage_api::{Error, Result};
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

/// Decoded records that wait to be applied, beside the one that is applied and the one that is read.
const RECORDS_AHEAD: usize = 1;

/// Writes a full head to a block; segments before the given one are covered then.
pub(crate) type Spill<'a> = &'a mut dyn FnMut(&Head, SegmentId) -> Result<()>;

/// What an id of the WAL stands for.
#[derive(Debug)]
struct Known {
    labels: Labels,
    /// Where the series is in the head, once it was seen there.
    place: Option<SeriesRef>,
    /// The newest of its bases: number, from 1, and bits. Nearly all rows are told from it.
    newest: (u32, u64),
    /// Earlier ones, by number. One that was lost is missing.
    earlier: Vec<(u32, u64)>,
}

impl Known {
    fn new(labels: Labels) -> Self {
        Self { labels, place: None, newest: (0, 0), earlier: Vec::new() }
    }

    /// Returns the bits of the base that a row is told from; 0 for a row without one.
    fn base(&self, number: u32) -> Option<u64> {
        if number == 0 {
            return Some(0);
        }
        if number == self.newest.0 {
            return Some(self.newest.1);
        }
        let found = self.earlier.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.earlier.get(found).map(|(_, bits)| *bits)
    }

    fn set_base(&mut self, row: &CodedRow, last: Option<&Sample>) {
        let Some(last) = last.filter(|_| row.claim != 0) else { return };
        let base = (row.claim, last.value.to_bits());
        if base.0 > self.newest.0 {
            let before = std::mem::replace(&mut self.newest, base);
            self.earlier.extend(Some(before).filter(|(number, _)| *number != 0));
        } else if base.0 == self.newest.0 {
            self.newest = base;
        } else {
            match self.earlier.binary_search_by_key(&base.0, |(number, _)| *number) {
                Ok(found) => self.earlier[found] = base,
                Err(place) => self.earlier.insert(place, base),
            }
        }
    }
}

/// A record of the log.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) segment: SegmentId,
    pub(crate) size_bytes: usize,
    /// `None` when it cannot be decoded.
    pub(crate) record: Option<Record>,
}

impl Logged {
    pub(crate) fn read(segment: SegmentId, bytes: &[u8]) -> Self {
        Self { segment, size_bytes: bytes.len(), record: record::read(bytes) }
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

    /// Applies one record.
    pub(crate) fn apply(&mut self, Logged { segment, size_bytes, record }: Logged, spill: Spill<'_>) {
        match record {
            Some(Record::Samples(samples)) => self.apply_samples(samples),
            Some(Record::Metadata(metadata)) => {
                for one in metadata {
                    self.metadata.set(one);
                }
            }
            None => {
                tracing::error!(segment = segment.0, size_bytes, "a WAL record cannot be decoded");
                self.metrics.wal_lost.with(&["undecodable"]).inc_by(size_bytes as u64);
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

    fn apply_samples(&mut self, record: SamplesRecord) {
        if self.epoch != Some(record.epoch) {
            self.series.clear();
            self.epoch = Some(record.epoch);
        }
        for (id, labels) in record.definitions {
            // Appenders that met define a series twice.
            self.series.entry(id).or_insert_with(|| Known::new(labels));
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
    let (sender, logged) = sync_channel(RECORDS_AHEAD);
    let opened = std::thread::scope(|scope| {
        // One thread reads and decodes, this one applies.
        let read = move || {
            Wal::open::<ReplayError>(wal_dir, wal_options, &mut |segment, bytes| {
                let sent = sender.send(Logged::read(segment, bytes));
                sent.map_err(|_| ReplayError(Error::Closed))
            })
        };
        let reader = std::thread::Builder::new().name("wal-reader".to_owned()).spawn_scoped(scope, read);
        let reader = reader.map_err(|error| Error::io("starting to read", wal_dir, error))?;
        logged.into_iter().for_each(|logged| replayer.apply(logged, &mut spill));
        let opened = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        opened.map_err(|ReplayError(error)| error)
    });
    let (wal, report) = opened?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_found_in_whatever_order_they_came() {
        let mut known = Known::new(Labels::empty());
        let bits = |number: u32| f64::from(number).to_bits();
        assert_eq!((known.base(0), known.base(1)), (Some(0), None));
        for number in [2, 1, 3, 9, 5, 5, 4] {
            known.set_base(&CodedRow::claiming(number), Some(&Sample { timestamp_ms: 0, value: f64::from(number) }));
        }
        for number in [1, 2, 3, 4, 5, 9] {
            assert_eq!(known.base(number), Some(bits(number)));
        }
        assert_eq!([6, 7, 8, 10].map(|number| known.base(number)), [None; 4]);
        let again = Sample { timestamp_ms: 0, value: 77.0 };
        for number in [9, 3] {
            known.set_base(&CodedRow::claiming(number), Some(&again));
            assert_eq!(known.base(number), Some(again.value.to_bits()));
        }
        known.set_base(&CodedRow::claiming(0), Some(&again));
        known.set_base(&CodedRow::claiming(11), None);
        assert_eq!((known.base(0), known.base(11)), (Some(0), None));
    }
}
