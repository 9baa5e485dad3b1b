//! Brings the head back from the WAL, one record in memory at a time.

use std::collections::HashMap;

use model::Labels;
use runtime::{Ledger, Signal};
use storage_api::Result;
use storage_wal::SegmentId;

use crate::head::{Head, SeriesRef};
use crate::metadata::Metadata;
use crate::record::{self, Record, SamplesRecord};
use crate::telemetry::Metrics;

/// The place in the ledger for samples whose series is lost.
const PLACE: &str = "storage_wal";

/// Writes a full head to a block; segments before the given one are covered then.
pub(crate) type Spill<'a> = &'a mut dyn FnMut(&Head, SegmentId) -> Result<()>;

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
    series: HashMap<SeriesRef, (Labels, Option<SeriesRef>)>,
    /// Spilling failed: the head grows on, as refusing to start would help nobody.
    has_failed: bool,
}

impl<'a> Replayer<'a> {
    pub(crate) fn new(metadata: &'a mut Metadata, metrics: &'a Metrics, ledger: &'a Ledger, head_bytes: u64) -> Self {
        let series = HashMap::new();
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
                    for (_, place) in self.series.values_mut() {
                        *place = None;
                    }
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
                self.series.insert(*id, (Labels::from_sorted(labels.iter().copied()), None));
            }
        }
        let mut scratch = Vec::new();
        let mut samples = record.samples.as_slice();
        let (mut rows, mut lost) = (Vec::with_capacity(record.rows.len()), 0);
        for (id, count) in &record.rows {
            let (of_row, rest) = samples.split_at_checked(*count).unwrap_or((samples, &[]));
            samples = rest;
            let Some((labels, place)) = self.series.get_mut(id) else {
                lost += of_row.len() as u64;
                continue;
            };
            let found = place.or_else(|| self.head.resolve(&*labels, &mut scratch).map(|resolved| resolved.series));
            *place = found;
            match found {
                Some(series) => rows.push((series, of_row)),
                None => lost += of_row.len() as u64,
            }
        }
        self.head.append(rows);
        if lost > 0 {
            // The record that says which series these are was damaged.
            tracing::error!(samples = lost, "samples of unknown series in the WAL are lost");
            self.ledger.received(PLACE, Signal::Metrics, lost);
            self.ledger.dropped(PLACE, Signal::Metrics, "corrupt_wal", lost);
        }
    }
}
