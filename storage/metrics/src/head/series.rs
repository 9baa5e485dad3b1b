//! One series of the head: its newest samples as they came, older ones packed.

use model::Labels;
use storage_api::MillisRange;

use super::chunk::{Chunk, SAMPLES_PER_CHUNK};
use super::extras::{ExtrasSnapshot, SeriesExtras, StartRun};
use crate::merge::sort_newest_wins;
use crate::record::{Base, SeriesId};

/// Memory for the samples of all series that are not packed yet. When a head has many series it packs a series' samples
/// sooner, a little less well.
const OPEN_BYTES: u64 = 64 << 20;
/// So many are packed at a time at least.
const SAMPLES_PER_CHUNK_MIN: usize = 24;
/// Bytes of a sample that is not packed.
const SAMPLE_BYTES: usize = size_of::<(i64, u64)>();
/// Samples that there is room made for at a time when memory is short.
const ROOM: usize = 8;

/// How samples are packed.
#[derive(Debug)]
pub(crate) struct Packing {
    /// Samples that are packed at a time.
    samples_max: usize,
    scratch: Vec<u8>,
}

impl Packing {
    /// Returns how to pack in a head of so many series.
    pub(crate) fn of(series: u64) -> Self {
        let fitting = OPEN_BYTES / SAMPLE_BYTES as u64 / series.max(1);
        let samples_max = usize::try_from(fitting).unwrap_or(usize::MAX);
        Self { samples_max: samples_max.clamp(SAMPLES_PER_CHUNK_MIN, SAMPLES_PER_CHUNK), scratch: Vec::new() }
    }

    fn is_short_of_memory(&self) -> bool {
        self.samples_max < SAMPLES_PER_CHUNK
    }
}

/// Rows after which a series gets another base: the nearer it is, the smaller the difference.
const BASE_EVERY: u8 = 8;
/// One base in so many is told from no other, so that a damaged record costs a series 32 more samples at most.
const BASE_WHOLE_EVERY: u32 = 4;

/// What the WAL knows of a series since the head began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Logged {
    pub(crate) id: SeriesId,
    /// The newest base that is on disk; its number is 0 when there is none.
    base_number: u32,
    base_bits: u64,
    base_scale: u8,
    /// Its definition is on disk.
    pub(crate) is_defined: bool,
    /// A base is on its way to the disk. There is one at a time, so that none of a number is there twice.
    is_claimed: bool,
    /// Rows since the newest base.
    rows: u8,
}

impl Logged {
    pub(crate) fn new(id: SeriesId) -> Self {
        Self { id, ..Self::default() }
    }

    fn base(&self) -> Option<Base> {
        let Self { base_number: number, base_bits: bits, base_scale: scale, .. } = *self;
        (number != 0).then_some(Base { number, bits, scale })
    }

    /// Returns the base for the next row, and the number of the base that it may become.
    pub(crate) fn next_row(&mut self) -> (Option<Base>, Option<u32>) {
        self.rows = self.rows.saturating_add(1);
        let is_due = self.base_number == 0 || self.rows >= BASE_EVERY;
        if self.is_claimed || !is_due {
            return (self.base(), None);
        }
        self.is_claimed = true;
        let number = self.base_number.saturating_add(1);
        (self.base().filter(|_| number % BASE_WHOLE_EVERY != 1), Some(number))
    }

    /// Notes what became of a claim: the base is on disk, or there is none.
    pub(crate) fn settle(&mut self, base: Option<Base>) {
        self.is_claimed = false;
        if let Some(Base { number, bits, scale }) = base {
            (self.base_number, self.base_bits, self.base_scale) = (number, bits, scale);
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
    /// How many samples are packed.
    packed_samples: u32,
    /// The newest samples, as they came, values by their bits.
    open: Vec<(i64, u64)>,
    /// The newest samples with a start time; the counters of a process have the same all their life.
    pub(super) start: StartRun,
    /// Earlier start times, histograms and exemplars; few series have any.
    pub(super) extras: Option<Box<SeriesExtras>>,
}

/// What a query takes with it, to decode without the lock.
#[derive(Debug)]
pub(crate) struct Snapshot {
    packed: Vec<Chunk>,
    open: Vec<(i64, u64)>,
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
            packed_samples: 0,
            open: Vec::new(),
            start: StartRun::default(),
            extras: None,
        }
    }

    /// Appends a sample and returns by how many bytes the series grew, and whether the sample is a new one.
    pub(crate) fn push(&mut self, time_ms: i64, value: u64, start_ms: i64, packing: &mut Packing) -> (isize, bool) {
        if self.last() == Some((time_ms, value)) && self.is_newest(start_ms) {
            return (0, false);
        }
        let place = self.numbers();
        let grown = self.push_number(time_ms, value, packing);
        let grown_starts = if start_ms == 0 { 0 } else { self.push_start(place, start_ms) };
        (grown + grown_starts, true)
    }

    /// Says whether the number that came last has this start time, and nothing came after it.
    fn is_newest(&self, start_ms: i64) -> bool {
        let place = self.numbers().saturating_sub(1);
        let of_place = if self.start.end() > place { self.start.start_ms } else { 0 };
        of_place == start_ms && self.extras.as_ref().is_none_or(|extras| extras.came_before(place))
    }

    fn push_number(&mut self, time_ms: i64, value: u64, packing: &mut Packing) -> isize {
        if time_ms <= self.max_ms && self.numbers() > 0 {
            self.is_sorted = false;
        }
        self.min_ms = self.min_ms.min(time_ms);
        self.max_ms = self.max_ms.max(time_ms);
        let mut grown = 0;
        let room = self.open.capacity();
        if self.open.len() >= packing.samples_max {
            let chunk = Chunk::encode(&self.open, &mut packing.scratch);
            grown += chunk.size_bytes() as isize;
            self.packed_samples += chunk.samples;
            if packing.is_short_of_memory() {
                self.packed.reserve_exact(1);
                self.open = Vec::new();
            }
            self.packed.push(chunk);
            self.open.clear();
        }
        if self.open.len() == self.open.capacity() {
            let more = if packing.is_short_of_memory() { ROOM } else { self.open.len().max(ROOM) };
            self.open.reserve_exact(more);
        }
        self.open.push((time_ms, value));
        grown + (self.open.capacity() as isize - room as isize) * SAMPLE_BYTES as isize
    }

    /// Returns how many numbers came, in the order they came: those that were overwritten count, too.
    pub(super) fn numbers(&self) -> u32 {
        self.packed_samples + self.open.len() as u32
    }

    /// Says whether nothing came yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.packed.is_empty() && self.extras.is_none()
    }

    /// Returns the sample that came last and is not packed yet, with the bits of its value.
    pub(crate) fn last(&self) -> Option<(i64, u64)> {
        self.open.last().copied()
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
            let mut first = 0;
            let places = self.packed.iter().map(|chunk| {
                first += chunk.samples;
                (chunk, first - chunk.samples..first)
            });
            let taken = places.filter(|(chunk, _)| overlaps(chunk)).map(|(_, places)| places);
            ExtrasSnapshot::new(self, range, taken.collect(), self.packed_samples)
        });
        Snapshot {
            packed: self.packed.iter().filter(overlaps).cloned().collect(),
            open: self.open.clone(),
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
        let count = self.packed.iter().map(|chunk| chunk.samples as usize).sum::<usize>() + self.open.len();
        let (mut times, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for chunk in &self.packed {
            chunk.decode(&mut times, &mut values);
        }
        times.extend(self.open.iter().map(|(time, _)| *time));
        values.extend(self.open.iter().map(|(_, bits)| f64::from_bits(*bits)));
        (times, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: u64 = 1;
    const MANY: u64 = 1_000_000;

    fn series() -> Series {
        Series::new(Labels::from_pairs([("a", "b")]), Logged::new(SeriesId(0)))
    }

    #[test]
    fn samples_come_back_however_many_series_there_are() {
        let (mut series, mut grown) = (series(), 0);
        let start_ms = |i: i64| if i % 90 < 5 { 0 } else { 1 + i / 100 };
        for i in 0..1_000 {
            // The head fills up, and then a new one begins.
            let mut packing = Packing::of(if i / 150 % 2 == 0 { FEW } else { MANY });
            let (bytes, is_new) = series.push(i * 10, (i as f64).to_bits(), start_ms(i), &mut packing);
            assert!(is_new);
            grown += bytes;
        }
        assert_eq!(series.numbers(), 1_000);
        assert!(series.packed.iter().any(|chunk| chunk.samples as usize == SAMPLES_PER_CHUNK));
        assert!(series.packed.iter().any(|chunk| chunk.samples as usize == SAMPLES_PER_CHUNK_MIN));
        for (min, max) in [(0, 999), (0, 130), (400, 700), (995, 999)] {
            let range = MillisRange { min_ms: min * 10, max_ms: max * 10 };
            let mixed = series.snapshot(range).decode_mixed(range);
            assert_eq!(mixed.times, (min..=max).map(|i| i * 10).collect::<Vec<_>>());
            assert_eq!(mixed.values, (min..=max).map(|i| i as f64).collect::<Vec<_>>());
            assert_eq!(mixed.starts_ms, (min..=max).map(start_ms).collect::<Vec<_>>());
        }
        let open = series.open.capacity() * SAMPLE_BYTES;
        let packed: usize = series.packed.iter().map(Chunk::size_bytes).sum();
        let extras = series.extras.as_ref().map_or(0, |extras| extras.size_of_starts());
        assert_eq!(grown, (open + packed + extras) as isize);
    }

    #[test]
    fn many_series_keep_little_unpacked() {
        for (count, most) in [(FEW, 128), (50_000, 96), (MANY, 24)] {
            let (mut series, mut packing) = (series(), Packing::of(count));
            for i in 0..500 {
                series.push(i, 0, 0, &mut packing);
                assert!(series.open.capacity() <= most, "{count} series, {} samples", series.open.capacity());
            }
        }
    }
}
