//! What few series of the head have beside plain samples: start times, native histograms, exemplars.

use std::ops::Range;

use model::{Exemplar, Labels, Matcher, Sample};
use storage_api::{MillisRange, Result};

use super::histograms::{HistogramColumn, HistogramsSnapshot};
use super::series::{Packing, Series, Snapshot};
use super::{Head, SeriesRef};
use crate::mixed::{Event, Mixed, from_events};
use crate::record::RowExtras;

/// Bytes that an exemplar takes beside its labels.
const EXEMPLAR_BYTES: usize = size_of::<Exemplar>() + 16;

/// Neighbouring numbers, in the order they came, with one start time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StartRun {
    first: u32,
    count: u32,
    pub(super) start_ms: i64,
}

impl StartRun {
    pub(super) fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What a series has beside plain samples.
#[derive(Debug, Default)]
pub(crate) struct SeriesExtras {
    /// All runs but the newest, by place; numbers without a start time are in no run.
    starts: Vec<StartRun>,
    histograms: Option<Box<HistogramColumn>>,
    exemplars: Vec<Exemplar>,
}

impl SeriesExtras {
    /// Says whether all histograms came before number `place`.
    pub(super) fn came_before(&self, place: u32) -> bool {
        self.histograms.as_ref().is_none_or(|histograms| histograms.came_before(place))
    }

    /// Says whether a histogram may lie in `range`.
    pub(crate) fn overlaps(&self, range: MillisRange) -> bool {
        self.histograms.as_ref().is_some_and(|histograms| histograms.overlaps(range))
    }

    #[cfg(test)]
    pub(super) fn size_of_starts(&self) -> usize {
        size_of::<Self>() + self.starts.len() * size_of::<StartRun>()
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
    /// Returns what the series has beside plain samples, made if missing, and by how many bytes it grew by that.
    fn extras_mut(&mut self) -> (&mut SeriesExtras, isize) {
        let grown = if self.extras.is_none() { size_of::<SeriesExtras>() as isize } else { 0 };
        (self.extras.get_or_insert_default(), grown)
    }

    /// Notes the start time of number `place`, the newest one, and returns by how many bytes the series grew.
    pub(super) fn push_start(&mut self, place: u32, start_ms: i64) -> isize {
        if self.start.start_ms == start_ms && self.start.end() == place {
            self.start.count += 1;
            return 0;
        }
        let before = std::mem::replace(&mut self.start, StartRun { first: place, count: 1, start_ms });
        if before.is_empty() {
            return 0;
        }
        let (extras, grown) = self.extras_mut();
        extras.starts.push(before);
        grown + size_of::<StartRun>() as isize
    }

    /// Appends samples and what they have beside them.
    pub(super) fn push_mixed(&mut self, samples: &[Sample], extras: RowExtras<'_>, packing: &mut Packing) -> Grown {
        let mut grown = Grown::default();
        for (i, sample) in samples.iter().enumerate() {
            let start_ms = extras.starts_ms.get(i).copied().unwrap_or(0);
            let (bytes, is_new) = self.push(sample.timestamp_ms, sample.value.to_bits(), start_ms, packing);
            grown.bytes += bytes;
            grown.samples += u64::from(is_new);
        }
        if extras.histograms.is_empty() && extras.exemplars.is_empty() {
            return grown;
        }
        let numbers = self.numbers();
        let (own, bytes) = self.extras_mut();
        grown.bytes += bytes;
        for histogram in extras.histograms {
            if own.histograms.is_none() {
                grown.bytes += size_of::<HistogramColumn>() as isize;
            }
            let (bytes, is_new) = own.histograms.get_or_insert_default().push(numbers, histogram);
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
    histograms: HistogramsSnapshot,
    /// The places of the numbers in the packed chunks that were taken along.
    packed: Vec<Range<u32>>,
    /// Where the numbers that are not packed begin.
    unpacked_from: u32,
}

impl ExtrasSnapshot {
    pub(super) fn new(series: &Series, range: MillisRange, packed: Vec<Range<u32>>, unpacked_from: u32) -> Self {
        let extras = series.extras.as_ref();
        let earlier = extras.map(|extras| extras.starts.as_slice()).unwrap_or_default().iter();
        let newest = Some(&series.start).filter(|run| !run.is_empty());
        let histograms = extras.and_then(|extras| extras.histograms.as_ref());
        Self {
            starts: earlier.chain(newest).copied().collect(),
            histograms: histograms.map(|histograms| histograms.snapshot(range)).unwrap_or_default(),
            packed,
            unpacked_from,
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
        let has_histograms = !extras.histograms.is_empty();
        if extras.starts.is_empty() && !has_histograms {
            return self.decode(range).into();
        }
        let (times, values) = self.decode_all();
        let places = extras.packed.iter().cloned().flatten().chain(extras.unpacked_from..);
        if !has_histograms && self.is_sorted {
            let starts_ms = places.map(|place| extras.start_ms(place)).take(times.len()).collect();
            let mut mixed = Mixed { times, values, starts_ms, histograms: Vec::new() };
            mixed.trim(range);
            return mixed;
        }
        let mut events = Vec::new();
        for ((time, value), place) in times.into_iter().zip(values).zip(places) {
            if range.contains(time) {
                let start_ms = extras.start_ms(place);
                events.push((time, 2 * u64::from(place) + 1, Event::Number { value, start_ms }));
            }
        }
        extras.histograms.each(&mut |numbers_before, sample| {
            if range.contains(sample.timestamp_ms) {
                events.push((sample.timestamp_ms, 2 * u64::from(numbers_before), Event::Histogram(sample)));
            }
        });
        from_events(events)
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
