//! What few series of the head have beside plain samples: start times, native histograms, exemplars.

use std::sync::Arc;

use model::{Exemplar, Histogram, HistogramSample, Labels, Matcher, Sample};
use storage_api::{MillisRange, Result};

use super::chunk::SAMPLES_PER_CHUNK;
use super::series::{Series, Snapshot};
use super::{Head, SeriesRef};
use crate::histogram_codec;
use crate::mixed::{Event, Mixed, from_events};
use crate::record::RowExtras;
use crate::varint::{Cursor, put_i64, put_u64};

/// Histograms that are told from each other at most: a query decodes whole chunks.
const HISTOGRAMS_PER_CHUNK: u32 = 64;
/// Bytes at which a chunk is closed, whatever its histograms are.
const CHUNK_BYTES: usize = 16 << 10;
/// Bytes that an exemplar takes beside its labels.
const EXEMPLAR_BYTES: usize = size_of::<Exemplar>() + 16;

/// Neighbouring numbers, in the order they came, with one start time.
#[derive(Debug, Clone, Copy)]
struct StartRun {
    first: u32,
    count: u32,
    start_ms: i64,
}

impl StartRun {
    fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

/// Histograms that take no more.
#[derive(Debug)]
struct Chunk {
    bytes: Box<[u8]>,
    range: MillisRange,
}

/// What a series has beside plain samples.
#[derive(Debug)]
pub(crate) struct SeriesExtras {
    /// By place; numbers without a start time are in no run.
    starts: Vec<StartRun>,
    chunks: Vec<Arc<Chunk>>,
    /// The chunk that takes the next histogram: how many numbers came before it, its times, and itself.
    open: Vec<u8>,
    open_count: u32,
    last: Option<Last>,
    /// The least and greatest time of all histograms, and of those in the open chunk; none overlaps that of none.
    range: MillisRange,
    open_range: MillisRange,
    exemplars: Vec<Exemplar>,
}

/// The newest histogram, from which the next one is told.
#[derive(Debug)]
struct Last {
    numbers_before: u32,
    time: i64,
    start: i64,
    histogram: Arc<Histogram>,
    is_in_open: bool,
}

const NOTHING: MillisRange = MillisRange { min_ms: i64::MAX, max_ms: i64::MIN };

fn widen(range: &mut MillisRange, time: i64) {
    range.min_ms = range.min_ms.min(time);
    range.max_ms = range.max_ms.max(time);
}

fn touches(range: MillisRange, other: MillisRange) -> bool {
    range.min_ms <= range.max_ms && range.overlaps(&other)
}

impl Default for SeriesExtras {
    fn default() -> Self {
        Self {
            starts: Vec::new(),
            chunks: Vec::new(),
            open: Vec::new(),
            open_count: 0,
            last: None,
            range: NOTHING,
            open_range: NOTHING,
            exemplars: Vec::new(),
        }
    }
}

impl SeriesExtras {
    /// Says whether number `place`, the newest one, has this start time, and nothing came after it.
    pub(crate) fn is_newest(&self, place: u32, start_ms: i64) -> bool {
        let of_place = self.starts.last().filter(|run| run.end() > place).map_or(0, |run| run.start_ms);
        of_place == start_ms && self.last.as_ref().is_none_or(|last| last.numbers_before <= place)
    }

    /// Says whether a histogram may lie in `range`.
    pub(crate) fn overlaps(&self, range: MillisRange) -> bool {
        touches(self.range, range)
    }

    fn push_start(&mut self, place: u32, start_ms: i64) -> usize {
        match self.starts.last_mut() {
            Some(run) if run.start_ms == start_ms && run.end() == place => {
                run.count += 1;
                0
            }
            _ => {
                self.starts.push(StartRun { first: place, count: 1, start_ms });
                size_of::<StartRun>()
            }
        }
    }

    /// Adds a histogram that came after so many numbers; returns by how many bytes the series grew, and whether it is new.
    fn push_histogram(&mut self, numbers_before: u32, sample: &HistogramSample) -> (isize, bool) {
        let HistogramSample { timestamp_ms, start_ms, histogram } = sample;
        let is_repeat = |last: &Last| {
            let Last { numbers_before: before, time, start, histogram: have, .. } = last;
            *before == numbers_before && time == timestamp_ms && start == start_ms && is_same(have, histogram)
        };
        if self.last.as_ref().is_some_and(is_repeat) {
            return (0, false);
        }
        let old_bytes = self.last.as_ref().map_or(0, |last| histogram_codec::size_bytes(&last.histogram)) as isize;
        let mut grown = histogram_codec::size_bytes(histogram) as isize - old_bytes;
        let bytes_before = self.open.len() as isize;
        let last = self.last.as_ref().filter(|last| last.is_in_open);
        let (before, time, start) = last.map_or((0, 0, 0), |last| (last.numbers_before, last.time, last.start));
        put_u64(&mut self.open, u64::from(numbers_before.saturating_sub(before)));
        put_i64(&mut self.open, timestamp_ms.wrapping_sub(time));
        put_i64(&mut self.open, start_ms.wrapping_sub(start));
        histogram_codec::encode(last.map(|last| last.histogram.as_ref()), histogram, &mut self.open);
        grown += self.open.len() as isize - bytes_before;
        self.open_count += 1;
        widen(&mut self.range, *timestamp_ms);
        widen(&mut self.open_range, *timestamp_ms);
        let is_full = self.open_count >= HISTOGRAMS_PER_CHUNK || self.open.len() >= CHUNK_BYTES;
        if is_full {
            let chunk = Chunk { bytes: self.open.as_slice().into(), range: self.open_range };
            self.chunks.push(Arc::new(chunk));
            grown += size_of::<Chunk>() as isize + 32;
            (self.open, self.open_count, self.open_range) = (Vec::new(), 0, NOTHING);
        }
        self.last = Some(Last {
            numbers_before,
            time: *timestamp_ms,
            start: *start_ms,
            histogram: Arc::clone(histogram),
            is_in_open: !is_full,
        });
        (grown, true)
    }

    fn push_exemplar(&mut self, exemplar: &Exemplar) -> usize {
        // A client sends the newest one again until there is a newer one.
        if self.exemplars.last().is_some_and(|last| same_exemplar(last, exemplar)) {
            return 0;
        }
        self.exemplars.push(exemplar.clone());
        EXEMPLAR_BYTES + exemplar.labels.size_bytes()
    }
}

fn is_same(a: &Arc<Histogram>, b: &Arc<Histogram>) -> bool {
    let encoded = |histogram: &Histogram| {
        let mut bytes = Vec::new();
        histogram_codec::encode(None, histogram, &mut bytes);
        bytes
    };
    Arc::ptr_eq(a, b) || encoded(a) == encoded(b)
}

/// Says whether two exemplars are the same, bit for bit.
pub(crate) fn same_exemplar(a: &Exemplar, b: &Exemplar) -> bool {
    let key = |one: &Exemplar| (one.sample.timestamp_ms, one.sample.value.to_bits());
    key(a) == key(b) && a.labels == b.labels
}

/// How a series grew.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Grown {
    pub(crate) bytes: isize,
    pub(crate) samples: u64,
}

impl Series {
    /// Returns what the series has beside plain samples, made if missing.
    fn extras_mut(&mut self) -> &mut SeriesExtras {
        self.extras.get_or_insert_default()
    }

    /// Appends samples and what they have beside them.
    pub(super) fn push_mixed(&mut self, samples: &[Sample], extras: RowExtras<'_>, scratch: &mut Vec<u8>) -> Grown {
        let mut grown = Grown::default();
        if self.extras.is_none() {
            grown.bytes += size_of::<SeriesExtras>() as isize;
            self.extras = Some(Box::default());
        }
        for (i, sample) in samples.iter().enumerate() {
            let (time, bits) = (sample.timestamp_ms, sample.value.to_bits());
            let start_ms = extras.starts_ms.get(i).copied().unwrap_or(0);
            let place = self.numbers();
            if self.last() == Some((time, bits)) && self.extras_mut().is_newest(place.saturating_sub(1), start_ms) {
                continue;
            }
            grown.bytes += self.push_new(time, bits, scratch);
            grown.samples += 1;
            if start_ms != 0 {
                grown.bytes += self.extras_mut().push_start(place, start_ms) as isize;
            }
        }
        let numbers = self.numbers();
        let own = self.extras_mut();
        for histogram in extras.histograms {
            let (bytes, is_new) = own.push_histogram(numbers, histogram);
            grown.bytes += bytes;
            grown.samples += u64::from(is_new);
        }
        for exemplar in extras.exemplars {
            grown.bytes += own.push_exemplar(exemplar) as isize;
        }
        grown
    }
}

/// What a query takes with it of a series' extras.
#[derive(Debug)]
pub(super) struct ExtrasSnapshot {
    starts: Vec<StartRun>,
    chunks: Vec<Arc<Chunk>>,
    open: Vec<u8>,
    /// The numbers of the packed chunks that were taken along.
    packed: Vec<usize>,
    /// Where the numbers that are not packed begin.
    unpacked_from: usize,
}

impl ExtrasSnapshot {
    pub(super) fn new(extras: &SeriesExtras, range: MillisRange, packed: Vec<usize>, packed_count: usize) -> Self {
        Self {
            starts: extras.starts.clone(),
            chunks: extras.chunks.iter().filter(|chunk| chunk.range.overlaps(&range)).cloned().collect(),
            open: if touches(extras.open_range, range) { extras.open.clone() } else { Vec::new() },
            packed,
            unpacked_from: packed_count * SAMPLES_PER_CHUNK,
        }
    }

    /// Returns the start time of the number at a place.
    fn start_ms(&self, place: u32) -> i64 {
        let run = self.starts.partition_point(|run| run.first <= place).checked_sub(1);
        let run = run.and_then(|run| self.starts.get(run)).filter(|run| place < run.end());
        run.map_or(0, |run| run.start_ms)
    }
}

impl Snapshot {
    /// Decodes the samples in `range`, oldest first, one per time.
    pub(crate) fn decode_mixed(&self, range: MillisRange) -> Mixed {
        let Some(extras) = &self.extras else { return self.decode(range).into() };
        let has_histograms = !extras.chunks.is_empty() || !extras.open.is_empty();
        if extras.starts.is_empty() && !has_histograms {
            return self.decode(range).into();
        }
        let (times, values) = self.decode_all();
        let packed = extras.packed.iter().flat_map(|chunk| {
            let first = chunk * SAMPLES_PER_CHUNK;
            first..first + SAMPLES_PER_CHUNK
        });
        let places = packed.chain(extras.unpacked_from..);
        if !has_histograms && self.is_sorted {
            let starts_ms = places.map(|place| extras.start_ms(place as u32)).take(times.len()).collect();
            let mut mixed = Mixed { times, values, starts_ms, histograms: Vec::new() };
            mixed.trim(range);
            return mixed;
        }
        let mut events = Vec::new();
        for ((time, value), place) in times.into_iter().zip(values).zip(places) {
            if range.contains(time) {
                let start_ms = extras.start_ms(place as u32);
                events.push((time, 2 * place as u64 + 1, Event::Number { value, start_ms }));
            }
        }
        for bytes in extras.chunks.iter().map(|chunk| chunk.bytes.as_ref()).chain([extras.open.as_slice()]) {
            decode_histograms(bytes, &mut |numbers_before, sample| {
                if range.contains(sample.timestamp_ms) {
                    events.push((sample.timestamp_ms, 2 * u64::from(numbers_before), Event::Histogram(sample)));
                }
            });
        }
        from_events(events)
    }
}

/// Decodes a chunk; what would make no sense ends it, as it was never out of memory.
fn decode_histograms(bytes: &[u8], each: &mut dyn FnMut(u32, HistogramSample)) {
    let mut cursor = Cursor(bytes);
    let (mut numbers, mut time, mut start) = (0_u32, 0_i64, 0_i64);
    let mut last: Option<Arc<Histogram>> = None;
    while !cursor.is_empty() {
        let mut next = || {
            numbers = numbers.checked_add(cursor.u32()?)?;
            time = time.wrapping_add(cursor.i64()?);
            start = start.wrapping_add(cursor.i64()?);
            histogram_codec::decode(last.as_deref(), &mut cursor).map(Arc::new)
        };
        let Some(histogram) = next() else { return };
        last = Some(Arc::clone(&histogram));
        each(numbers, HistogramSample { timestamp_ms: time, start_ms: start, histogram });
    }
}

impl Head {
    /// Returns the exemplars of a series.
    pub(crate) fn exemplars_of(&self, series: SeriesRef) -> Vec<Exemplar> {
        let shard = self.shards.get(series.shard()).map(|shard| shard.lock());
        let series = shard.as_ref().and_then(|shard| shard.series.get(series.index()));
        series.and_then(|series| Some(series.extras.as_ref()?.exemplars.clone())).unwrap_or_default()
    }

    /// Hands out the exemplars in `range` of the series that pass all matchers of at least one selector.
    pub(crate) fn each_exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        each: &mut dyn FnMut(&Labels, Vec<Exemplar>) -> Result<()>,
    ) -> Result<()> {
        for shard in &self.shards {
            let shard = shard.lock();
            for id in crate::postings::find_any(&*shard, selectors)? {
                let series = shard.series.get(id as usize);
                let Some((series, extras)) = series.and_then(|one| Some((one, one.extras.as_ref()?))) else { continue };
                let inside = extras.exemplars.iter().filter(|one| range.contains(one.sample.timestamp_ms));
                let inside: Vec<Exemplar> = inside.cloned().collect();
                if !inside.is_empty() {
                    each(&series.labels, inside)?;
                }
            }
        }
        Ok(())
    }
}
