//! One series of the head: its newest samples as they came, older ones packed.

use model::Labels;
use storage_api::MillisRange;

use super::chunk::{Chunk, SAMPLES_PER_CHUNK};
use super::extras::{ExtrasSnapshot, SeriesExtras, StartRun};
use crate::merge::sort_newest_wins;
use crate::record::{Base, SeriesId};

/// Bytes that a series takes beside its labels and samples: the struct, and its places in map and postings.
const SERIES_OVERHEAD_BYTES: usize = 256;

/// Rows after which a series gets another base: the nearer it is, the smaller the difference.
const BASE_EVERY: u8 = 8;
/// One base in so many is told from no other, so that a damaged record costs a series 32 more samples at most.
const BASE_WHOLE_EVERY: u32 = 4;

/// What the WAL knows of a series since the head began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Logged {
    pub(crate) id: SeriesId,
    /// Its definition is on disk.
    pub(crate) is_defined: bool,
    /// The newest base that is on disk.
    base: Option<Base>,
    /// A base is on its way to the disk. There is one at a time, so that none of a number is there twice.
    is_claimed: bool,
    /// Rows since the newest base.
    rows: u8,
}

impl Logged {
    pub(crate) fn new(id: SeriesId) -> Self {
        Self { id, ..Self::default() }
    }

    /// Returns the base for the next row, and the number of the base that it may become.
    pub(crate) fn next_row(&mut self) -> (Option<Base>, Option<u32>) {
        self.rows = self.rows.saturating_add(1);
        let is_due = self.base.is_none() || self.rows >= BASE_EVERY;
        if self.is_claimed || !is_due {
            return (self.base, None);
        }
        self.is_claimed = true;
        let number = self.base.map_or(0, |base| base.number).saturating_add(1);
        (self.base.filter(|_| number % BASE_WHOLE_EVERY != 1), Some(number))
    }

    /// Notes what became of a claim: the base is on disk, or there is none.
    pub(crate) fn settle(&mut self, base: Option<Base>) {
        self.is_claimed = false;
        if base.is_some() {
            self.base = base;
            self.rows = 0;
        }
    }
}

/// A series and its samples.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) logged: Logged,
    /// Times ascend strictly over all samples, so that reading needs no sort.
    is_sorted: bool,
    min_ms: i64,
    max_ms: i64,
    packed: Vec<Chunk>,
    times: Vec<i64>,
    values: Vec<u64>,
    /// The newest samples with a start time; the counters of a process have the same all their life.
    pub(super) start: StartRun,
    /// Earlier start times, histograms and exemplars; few series have any.
    pub(super) extras: Option<Box<SeriesExtras>>,
}

/// What a query takes with it, to decode without the lock.
#[derive(Debug)]
pub(crate) struct Snapshot {
    packed: Vec<Chunk>,
    times: Vec<i64>,
    values: Vec<u64>,
    pub(super) is_sorted: bool,
    pub(super) extras: Option<ExtrasSnapshot>,
}

impl Series {
    pub(crate) fn new(labels: Labels, logged: Logged) -> Self {
        Self {
            labels,
            logged,
            is_sorted: true,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            packed: Vec::new(),
            times: Vec::new(),
            values: Vec::new(),
            start: StartRun::default(),
            extras: None,
        }
    }

    /// Returns the bytes that a series takes before its first sample.
    pub(crate) fn empty_size_bytes(labels: &Labels) -> usize {
        // The label text is there twice: in the set and, at most, in the postings.
        SERIES_OVERHEAD_BYTES + 2 * labels.size_bytes() + labels.len() * 16
    }

    /// Appends a sample and returns by how many bytes the series grew, and whether the sample is a new one.
    pub(crate) fn push(&mut self, time_ms: i64, value: u64, start_ms: i64, scratch: &mut Vec<u8>) -> (isize, bool) {
        if self.last() == Some((time_ms, value)) && self.is_newest(start_ms) {
            return (0, false);
        }
        let place = self.numbers();
        let grown = self.push_number(time_ms, value, scratch);
        let grown_starts = if start_ms == 0 { 0 } else { self.push_start(place, start_ms) };
        (grown + grown_starts, true)
    }

    /// Says whether the number that came last has this start time, and nothing came after it.
    fn is_newest(&self, start_ms: i64) -> bool {
        let place = self.numbers().saturating_sub(1);
        let of_place = if self.start.end() > place { self.start.start_ms } else { 0 };
        of_place == start_ms && self.extras.as_ref().is_none_or(|extras| extras.came_before(place))
    }

    fn push_number(&mut self, time_ms: i64, value: u64, scratch: &mut Vec<u8>) -> isize {
        if time_ms <= self.max_ms && self.numbers() > 0 {
            self.is_sorted = false;
        }
        self.min_ms = self.min_ms.min(time_ms);
        self.max_ms = self.max_ms.max(time_ms);
        let mut grown = 0;
        if self.times.len() == SAMPLES_PER_CHUNK {
            let chunk = Chunk::encode(&self.times, &self.values, scratch);
            grown += chunk.size_bytes() as isize - 16 * SAMPLES_PER_CHUNK as isize;
            self.packed.push(chunk);
            self.times.clear();
            self.values.clear();
        }
        self.times.push(time_ms);
        self.values.push(value);
        grown + 16
    }

    /// Returns how many numbers came, in the order they came: those that were overwritten count, too.
    pub(super) fn numbers(&self) -> u32 {
        (self.packed.len() * SAMPLES_PER_CHUNK + self.times.len()) as u32
    }

    /// Says whether nothing came yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.packed.is_empty() && self.extras.is_none()
    }

    /// Returns the sample that came last and is not packed yet, with the bits of its value.
    pub(crate) fn last(&self) -> Option<(i64, u64)> {
        Some((*self.times.last()?, *self.values.last()?))
    }

    /// Says whether a sample may lie in `range`.
    pub(crate) fn overlaps(&self, range: MillisRange) -> bool {
        let has_number =
            self.numbers() > 0 && range.overlaps(&MillisRange { min_ms: self.min_ms, max_ms: self.max_ms });
        has_number || self.extras.as_ref().is_some_and(|extras| extras.overlaps(range))
    }

    /// Copies what may lie in `range`; packed samples are shared.
    pub(crate) fn snapshot(&self, range: MillisRange) -> Snapshot {
        let overlaps = |chunk: &&Chunk| range.overlaps(&MillisRange { min_ms: chunk.min_ms, max_ms: chunk.max_ms });
        let extras = (self.extras.is_some() || !self.start.is_empty()).then(|| {
            let numbers = (0..self.packed.len()).filter(|i| self.packed.get(*i).as_ref().is_some_and(overlaps));
            ExtrasSnapshot::new(self, range, numbers.collect(), self.packed.len())
        });
        Snapshot {
            packed: self.packed.iter().filter(overlaps).cloned().collect(),
            times: self.times.clone(),
            values: self.values.clone(),
            is_sorted: self.is_sorted,
            extras,
        }
    }
}

impl Snapshot {
    /// Decodes the samples in `range`, oldest first, one per time.
    pub(crate) fn decode(&self, range: MillisRange) -> (Vec<i64>, Vec<f64>) {
        let (mut times, mut values) = self.decode_all();
        if !self.is_sorted {
            sort_newest_wins(&mut times, &mut values);
        }
        crate::merge::trim(&mut times, &mut values, range);
        (times, values)
    }

    /// Decodes all that was taken along, in the order it came.
    pub(super) fn decode_all(&self) -> (Vec<i64>, Vec<f64>) {
        let count = self.packed.len() * SAMPLES_PER_CHUNK + self.times.len();
        let (mut times, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for chunk in &self.packed {
            chunk.decode(&mut times, &mut values);
        }
        times.extend_from_slice(&self.times);
        values.extend(self.values.iter().map(|bits| f64::from_bits(*bits)));
        (times, values)
    }
}
