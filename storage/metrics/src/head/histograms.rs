//! The native histograms of one series of the head, packed as they come.

use std::sync::Arc;

use model::{Histogram, HistogramSample};
use storage_api::MillisRange;

use crate::histogram_codec;
use crate::varint::{Cursor, put_i64, put_u64};

/// Histograms that are told from each other at most: a query decodes whole chunks.
const HISTOGRAMS_PER_CHUNK: u32 = 64;
/// Bytes at which a chunk is closed, whatever its histograms are.
const CHUNK_BYTES: usize = 16 << 10;
/// Histograms that take no more.
#[derive(Debug)]
struct Chunk {
    bytes: Box<[u8]>,
    range: MillisRange,
}

/// Histograms in the order they came, each with how many numbers of the series came before it.
#[derive(Debug)]
pub(super) struct HistogramColumn {
    chunks: Vec<Arc<Chunk>>,
    /// The chunk that takes the next histogram: how many numbers came before it, its times, and itself.
    open: Vec<u8>,
    open_count: u32,
    last: Option<Last>,
    /// The least and greatest time of all histograms, and of those in the open chunk; none overlaps that of none.
    range: MillisRange,
    open_range: MillisRange,
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

impl Default for HistogramColumn {
    fn default() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), open_count: 0, last: None, range: NOTHING, open_range: NOTHING }
    }
}

impl HistogramColumn {
    /// Says whether all histograms came before number `place`.
    pub(super) fn came_before(&self, place: u32) -> bool {
        self.last.as_ref().is_none_or(|last| last.numbers_before <= place)
    }

    /// Says whether a histogram may lie in `range`.
    pub(super) fn overlaps(&self, range: MillisRange) -> bool {
        touches(self.range, range)
    }

    /// Adds a histogram that came after so many numbers; returns by how many bytes it grew, and whether the histogram is new.
    pub(super) fn push(&mut self, numbers_before: u32, sample: &HistogramSample) -> (isize, bool) {
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
        let bytes_before = self.open.capacity() as isize;
        let last = self.last.as_ref().filter(|last| last.is_in_open);
        let (before, time, start) = last.map_or((0, 0, 0), |last| (last.numbers_before, last.time, last.start));
        put_u64(&mut self.open, u64::from(numbers_before.saturating_sub(before)));
        put_i64(&mut self.open, timestamp_ms.wrapping_sub(time));
        put_i64(&mut self.open, start_ms.wrapping_sub(start));
        histogram_codec::encode(last.map(|last| last.histogram.as_ref()), histogram, &mut self.open);

        self.open_count += 1;
        widen(&mut self.range, *timestamp_ms);
        widen(&mut self.open_range, *timestamp_ms);
        let is_full = self.open_count >= HISTOGRAMS_PER_CHUNK || self.open.len() >= CHUNK_BYTES;
        if is_full {
            let chunk = Chunk { bytes: self.open.as_slice().into(), range: self.open_range };
            self.chunks.push(Arc::new(chunk));
            grown += size_of::<Chunk>() as isize + 32;
            grown += self.open.len() as isize;
            (self.open, self.open_count, self.open_range) = (Vec::new(), 0, NOTHING);
        }
        grown += self.open.capacity() as isize - bytes_before;
        self.last = Some(Last {
            numbers_before,
            time: *timestamp_ms,
            start: *start_ms,
            histogram: Arc::clone(histogram),
            is_in_open: !is_full,
        });
        (grown, true)
    }

    /// Copies what may lie in `range`; closed chunks are shared.
    pub(super) fn snapshot(&self, range: MillisRange) -> HistogramsSnapshot {
        HistogramsSnapshot {
            chunks: self.chunks.iter().filter(|chunk| chunk.range.overlaps(&range)).cloned().collect(),
            open: if touches(self.open_range, range) { self.open.clone() } else { Vec::new() },
        }
    }
}

/// Histograms that a query takes with it.
#[derive(Debug, Default)]
pub(super) struct HistogramsSnapshot {
    chunks: Vec<Arc<Chunk>>,
    open: Vec<u8>,
}

impl HistogramsSnapshot {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.open.is_empty()
    }

    /// Hands out each histogram, after how many numbers came before it.
    pub(super) fn each(&self, each: &mut dyn FnMut(u32, HistogramSample)) {
        for bytes in self.chunks.iter().map(|chunk| chunk.bytes.as_ref()).chain([self.open.as_slice()]) {
            decode(bytes, each);
        }
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

/// Decodes a chunk; what would make no sense ends it, as it was never out of memory.
fn decode(bytes: &[u8], each: &mut dyn FnMut(u32, HistogramSample)) {
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
