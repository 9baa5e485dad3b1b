//! The newest samples, in memory, covered by the WAL.

pub(crate) mod chunk;
mod extras;
mod histograms;
mod index;
mod keys;
mod series;
mod shard;
mod table;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use model::{Labels, Matcher, Sample};
use parking_lot::{Mutex, MutexGuard};
use roaring::RoaringBitmap;
use storage_api::{MillisRange, Result, SeriesKey};

pub(crate) use extras::same_exemplar;
pub(crate) use keys::KnownKeys;
pub(crate) use series::Snapshot;
pub(crate) use shard::{LabelPairs, NumberHasher, hash_labels};

use index::{INDEX_BYTES, Index};
use keys::{KEY_BYTES, Keys};
use series::{Logged, Packing, Series};
pub(crate) use shard::Shard;

use crate::postings::find;
use crate::record::{Base, RowExtras, SeriesId};

/// Parts of the head, each with a lock of its own, so that appenders and queries seldom meet.
const SHARDS: usize = 16;
/// Series that came one after the other lie together in a shard: they mostly come again like that, and are then found in
/// memory that is read ahead.
const SERIES_PER_RUN: u32 = 256;

/// The id of a series in one head; it means nothing in the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SeriesRef(pub(crate) u32);

impl SeriesRef {
    fn new(shard: usize, index: u32) -> Self {
        Self(index * SHARDS as u32 + shard as u32)
    }
    fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }
    fn index(self) -> usize {
        self.0 as usize / SHARDS
    }
}

/// The newest samples. Each shard has a lock; no two are held at a time.
#[derive(Debug)]
pub(crate) struct Head {
    /// Tells the WAL records of this head from those of others, whose series ids mean something else.
    pub(crate) epoch: u64,
    shards: Box<[Mutex<Shard>]>,
    index: Index,
    keys: Keys,
    size_bytes: AtomicU64,
    samples: AtomicU64,
    series: AtomicU64,
    /// The next id for the WAL.
    ids: AtomicU64,
    min_ms: AtomicI64,
    max_ms: AtomicI64,
}

/// Places of rows, shard by shard, and in their order within each.
struct ByShard {
    places: Vec<u32>,
    /// Where those of each shard end.
    ends: [usize; SHARDS],
}

impl ByShard {
    fn new(shards: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
        let mut ends = [0; SHARDS];
        shards.clone().for_each(|shard| ends[shard] += 1);
        let mut start = 0;
        let mut next = ends.map(|count| {
            start += count;
            start - count
        });
        let mut places = vec![0; shards.len()];
        for (place, shard) in shards.enumerate() {
            places[next[shard]] = place as u32;
            next[shard] += 1;
        }
        Self { places, ends: next }
    }

    /// Returns each shard that has rows, and their places.
    fn shards(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let places = starts.zip(&self.ends).map(|(start, end)| &self.places[*start..*end]);
        places.enumerate().filter(|(_, places)| !places.is_empty())
    }
}

/// Rows on their way into the WAL, each with what it may claim. Claims that nobody took are given back.
#[derive(Debug)]
pub(crate) struct LoggedRows<'h> {
    head: &'h Head,
    /// In the order of the rows.
    pub(crate) rows: Vec<LoggedRow>,
}

impl Drop for LoggedRows<'_> {
    fn drop(&mut self) {
        let left = self.rows.iter().filter(|row| row.claim.is_some());
        self.head.settle(left.map(|row| (row.series, None)));
    }
}

/// Samples of one series on their way into the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRow<'a> {
    pub(crate) series: SeriesRef,
    pub(crate) samples: &'a [Sample],
    /// The start time of all samples; 0 for none.
    pub(crate) start_ms: i64,
    /// Where that lies which the row has beside samples and a start time.
    pub(crate) extras: Option<u32>,
}

/// What [`Head::log_rows`] says of a row.
#[derive(Debug, Clone)]
pub(crate) struct LoggedRow {
    pub(crate) series: SeriesRef,
    /// What the WAL calls it.
    pub(crate) id: SeriesId,
    /// The definition that must go into the WAL.
    pub(crate) definition: Option<Labels>,
    /// What the next row in the WAL may be told from.
    pub(crate) base: Option<Base>,
    /// The number under which the row becomes a base; it was claimed, and must be settled.
    pub(crate) claim: Option<u32>,
}

impl Head {
    pub(crate) fn new() -> Self {
        use std::hash::BuildHasher;
        Self {
            epoch: std::collections::hash_map::RandomState::new().hash_one(0_u8),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            index: Index::new(),
            keys: Keys::default(),
            size_bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            series: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            min_ms: AtomicI64::new(i64::MAX),
            max_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Returns the bytes that the head takes, near enough.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Returns the samples in it; those that were overwritten count, too.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    /// Returns the least and greatest time; nothing overlaps that of an empty head.
    pub(crate) fn range(&self) -> Option<MillisRange> {
        let range =
            MillisRange { min_ms: self.min_ms.load(Ordering::Relaxed), max_ms: self.max_ms.load(Ordering::Relaxed) };
        (range.min_ms <= range.max_ms).then_some(range)
    }

    /// Returns the series with these labels, made if missing. `None` when no more series fit.
    pub(crate) fn resolve(&self, labels: impl LabelPairs, scratch: &mut Vec<u8>) -> Option<SeriesRef> {
        self.find_or_create(hash_labels(labels, scratch), labels)
    }

    fn find_or_create(&self, hash: u64, labels: impl LabelPairs) -> Option<SeriesRef> {
        self.index.find_or(hash, |series| self.has_labels(series, labels), || self.create(labels))
    }

    fn has_labels(&self, series: SeriesRef, labels: impl LabelPairs) -> bool {
        let shard = self.shards[series.shard()].lock();
        shard.series.get(series.index()).is_some_and(|series| series.labels.iter().eq(labels.pairs()))
    }

    fn create(&self, labels: impl LabelPairs) -> Option<SeriesRef> {
        // In the order in which they come first: a client that keeps to an order then needs a byte for each at most.
        let id = SeriesId(u32::try_from(self.ids.fetch_add(1, Ordering::Relaxed)).ok()?);
        let number = (id.0 / SERIES_PER_RUN) as usize % SHARDS;
        let (index, size_bytes) = self.shards[number].lock().create(labels.to_labels(), Logged::new(id))?;
        self.series.fetch_add(1, Ordering::Relaxed);
        self.size_bytes.fetch_add((size_bytes + INDEX_BYTES) as u64, Ordering::Relaxed);
        Some(SeriesRef::new(number, index))
    }

    /// Returns the keys that are known.
    pub(crate) fn keys(&self) -> KnownKeys<'_> {
        self.keys.read()
    }

    /// Notes keys of series. Returns how many other keys were forgotten.
    pub(crate) fn learn(&self, keys: impl IntoIterator<Item = (SeriesKey, SeriesRef)>) -> u64 {
        let change = self.keys.learn(self.series(), keys);
        self.size_bytes.fetch_add(change.learnt * KEY_BYTES, Ordering::Relaxed);
        self.size_bytes.fetch_sub(change.forgotten * KEY_BYTES, Ordering::Relaxed);
        change.forgotten
    }

    /// Returns how many keys are known.
    pub(crate) fn keys_len(&self) -> u64 {
        self.keys.len()
    }

    /// Finds the series of rows, made if missing, in the order of the rows. `None` when no more series fit.
    pub(crate) fn find_rows<L: LabelPairs>(&self, rows: &[L]) -> Option<Vec<SeriesRef>> {
        let mut scratch = Vec::new();
        let hashes: Vec<u64> = rows.iter().map(|labels| hash_labels(*labels, &mut scratch)).collect();
        let mut found = vec![SeriesRef(u32::MAX); rows.len()];
        // New series get ids in the order of the rows.
        for place in self.index.find_rows(&hashes, |place, series| self.has_labels(series, rows[place]), &mut found) {
            found[place] = self.find_or_create(hashes[place], rows[place])?;
        }
        Some(found)
    }

    /// Notes that rows go into the WAL, those of one series in this order, and returns what is to be written of each.
    pub(crate) fn log_rows(&self, rows: &[SeriesRef]) -> LoggedRows<'_> {
        let row = |series: &SeriesRef| LoggedRow {
            series: *series,
            id: SeriesId::default(),
            definition: None,
            base: None,
            claim: None,
        };
        let mut logged = LoggedRows { head: self, rows: rows.iter().map(row).collect() };
        let order = ByShard::new(rows.iter().map(|series| series.shard()));
        for (number, places) in order.shards() {
            let mut shard = self.shards[number].lock();
            for place in places {
                let row = &mut logged.rows[*place as usize];
                if let Some(series) = shard.series.get_mut(row.series.index()) {
                    row.id = series.logged.id;
                    (row.base, row.claim) = series.logged.next_row();
                    row.definition = (!series.logged.is_defined).then(|| series.labels.clone());
                }
            }
        }
        logged
    }

    /// Notes that the series' definitions are on disk.
    pub(crate) fn set_logged(&self, series: impl IntoIterator<Item = SeriesRef>) {
        self.each(series.into_iter().map(|one| (one, ())), |series, ()| series.logged.is_defined = true);
    }

    /// Notes which claimed bases are on disk; `None` for those that are not.
    pub(crate) fn settle(&self, claims: impl IntoIterator<Item = (SeriesRef, Option<Base>)>) {
        self.each(claims, |series, base| series.logged.settle(base));
    }

    /// Changes series one after the other; those that follow each other are mostly of one shard, which is locked once.
    fn each<T>(&self, all: impl IntoIterator<Item = (SeriesRef, T)>, mut change: impl FnMut(&mut Series, T)) {
        let mut held: Option<(usize, MutexGuard<'_, Shard>)> = None;
        for (one, with) in all {
            let number = one.shard();
            let mut shard = match held.take() {
                Some((of, shard)) if of == number => shard,
                other => {
                    drop(other);
                    self.shards[number].lock()
                }
            };
            if let Some(series) = shard.series.get_mut(one.index()) {
                change(series, with);
            }
            held = Some((number, shard));
        }
    }

    /// Appends samples to their series; those of one series in this order. `extras` are what some rows have beside them.
    pub(crate) fn append(&self, rows: &[NewRow<'_>], extras: &[RowExtras<'_>]) {
        let (mut grown, mut added) = (0, 0);
        let (mut min_ms, mut max_ms) = (i64::MAX, i64::MIN);
        let mut packing = Packing::of(self.series());
        let order = ByShard::new(rows.iter().map(|row| row.series.shard()));
        for (number, places) in order.shards() {
            let mut shard = self.shards[number].lock();
            // Nothing but waiting for memory, for many series at once.
            for row in places.iter().filter_map(|place| rows.get(*place as usize)) {
                std::hint::black_box(shard.series.get(row.series.index()).and_then(Series::last));
            }
            for place in places {
                let Some(NewRow { series, samples, start_ms, extras: more }) = rows.get(*place as usize) else {
                    continue;
                };
                let Some(series) = shard.series.get_mut(series.index()) else { continue };
                if let Some(extras) = more.and_then(|more| extras.get(more as usize)) {
                    let more = series.push_mixed(samples, *extras, &mut packing);
                    grown += more.bytes;
                    added += more.samples;
                    let times = extras.histograms.iter().map(|sample| sample.timestamp_ms);
                    for time in samples.iter().map(|sample| sample.timestamp_ms).chain(times) {
                        min_ms = min_ms.min(time);
                        max_ms = max_ms.max(time);
                    }
                    continue;
                }
                for sample in *samples {
                    let (time_ms, bits) = (sample.timestamp_ms, sample.value.to_bits());
                    let (bytes, is_new) = series.push(time_ms, bits, *start_ms, &mut packing);
                    grown += bytes;
                    added += u64::from(is_new);
                    min_ms = min_ms.min(sample.timestamp_ms);
                    max_ms = max_ms.max(sample.timestamp_ms);
                }
            }
        }
        self.min_ms.fetch_min(min_ms, Ordering::Relaxed);
        self.max_ms.fetch_max(max_ms, Ordering::Relaxed);
        self.samples.fetch_add(added, Ordering::Relaxed);
        if grown >= 0 {
            self.size_bytes.fetch_add(grown.unsigned_abs() as u64, Ordering::Relaxed);
        } else {
            self.size_bytes.fetch_sub(grown.unsigned_abs() as u64, Ordering::Relaxed);
        }
    }

    /// Returns the series that pass all matchers and may have samples in `range`, in no order.
    pub(crate) fn select(&self, matchers: &[Matcher], range: MillisRange) -> Result<Vec<(Labels, SeriesRef)>> {
        let mut found = Vec::new();
        if !self.range().is_some_and(|have| have.overlaps(&range)) {
            return Ok(found);
        }
        for (number, shard) in self.shards.iter().enumerate() {
            let shard = shard.lock();
            for index in find(&*shard, matchers)? {
                if let Some(series) = shard.series.get(index as usize).filter(|series| series.overlaps(range)) {
                    found.push((series.labels.clone(), SeriesRef::new(number, index)));
                }
            }
        }
        Ok(found)
    }

    /// Calls `each` for every shard that may have samples in `range`, with the series that pass all matchers of at least
    /// one selector and may have samples there.
    pub(crate) fn each_shard(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        each: &mut dyn FnMut(&Shard, &RoaringBitmap) -> Result<()>,
    ) -> Result<()> {
        if !self.range().is_some_and(|have| have.overlaps(&range)) {
            return Ok(());
        }
        for shard in &self.shards {
            let shard = shard.lock();
            let mut found = crate::postings::find_any(&*shard, selectors)?;
            let outside = |id: &u32| !shard.series.get(*id as usize).is_some_and(|series| series.overlaps(range));
            let outside: Vec<u32> = found.iter().filter(outside).collect();
            found -= RoaringBitmap::from_iter(outside);
            each(&shard, &found)?;
        }
        Ok(())
    }

    /// Copies what is needed to read a series' samples in `range`.
    pub(crate) fn snapshot(&self, series: SeriesRef, range: MillisRange) -> Option<Snapshot> {
        let shard = self.shards.get(series.shard())?.lock();
        Some(shard.series.get(series.index())?.snapshot(range))
    }

    /// Returns every series that has samples or exemplars, in no order.
    pub(crate) fn all(&self) -> Vec<(Labels, SeriesRef)> {
        let mut all = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            for (index, series) in shard.lock().series.iter().enumerate().filter(|(_, series)| !series.is_empty()) {
                all.push((series.labels.clone(), SeriesRef::new(number, index as u32)));
            }
        }
        all
    }
}
