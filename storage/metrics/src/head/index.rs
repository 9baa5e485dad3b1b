//! Finds the series of a head by their labels.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use model::Labels;
use parking_lot::Mutex;

use super::shard::{LabelPairs, PassThrough};
use super::{ByShard, SHARDS, SeriesRef};

/// A series of a hash, and the others of the same hash: hardly ever there are any.
#[derive(Debug)]
struct Place {
    labels: Labels,
    series: SeriesRef,
    next: Option<Box<Place>>,
}

impl Place {
    fn find(&self, labels: impl LabelPairs) -> Option<SeriesRef> {
        let mut place = Some(self);
        while let Some(one) = place {
            if one.labels.iter().eq(labels.pairs()) {
                return Some(one.series);
            }
            place = one.next.as_deref();
        }
        None
    }
}

type Places = HashMap<u64, Place, BuildHasherDefault<PassThrough>>;

/// Series by their label sets, in parts by hash. A part's lock is taken before that of a shard.
#[derive(Debug)]
pub(super) struct Index {
    parts: Box<[Mutex<Places>]>,
}

fn part_of(hash: u64) -> usize {
    // The map takes the low bits.
    (hash >> 60) as usize % SHARDS
}

impl Index {
    pub(super) fn new() -> Self {
        Self { parts: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Returns the series with these labels; `create` makes it if there is none.
    pub(super) fn find_or(
        &self,
        hash: u64,
        labels: impl LabelPairs,
        create: impl FnOnce(&Labels) -> Option<SeriesRef>,
    ) -> Option<SeriesRef> {
        let mut part = self.parts[part_of(hash)].lock();
        if let Some(found) = part.get(&hash).and_then(|place| place.find(labels)) {
            return Some(found);
        }
        let labels = Labels::from_sorted(labels.pairs());
        let series = create(&labels)?;
        let next = part.remove(&hash).map(Box::new);
        part.insert(hash, Place { labels, series, next });
        Some(series)
    }

    /// Finds the series of rows; returns the places of those that there are none for, in their order.
    ///
    /// Part by part, each in small steps over all its rows: a step waits for memory, and the processor waits for many
    /// rows at once when nothing else is between them.
    pub(super) fn find_rows<L: LabelPairs>(&self, rows: &[L], hashes: &[u64], found: &mut [SeriesRef]) -> Vec<usize> {
        let order = ByShard::new(hashes.iter().map(|hash| part_of(*hash)));
        let mut missing = Vec::new();
        for (number, places) in order.shards() {
            let part = self.parts[number].lock();
            let mut candidates: Vec<_> = places.iter().map(|place| part.get(&hashes[*place as usize])).collect();
            for candidate in &mut candidates {
                *candidate = candidate.filter(|place| !place.labels.is_empty());
            }
            for (place, candidate) in places.iter().zip(&candidates) {
                let first = rows[*place as usize].pairs().next();
                std::hint::black_box(candidate.is_some_and(|have| have.labels.iter().next() == first));
            }
            for (place, candidate) in places.iter().zip(&candidates) {
                let place = *place as usize;
                match candidate.and_then(|candidate| candidate.find(rows[place])) {
                    Some(series) => found[place] = series,
                    None => missing.push(place),
                }
            }
        }
        missing.sort_unstable();
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_hash_are_told_apart() {
        let index = Index::new();
        let labels = |value: &str| Labels::from_pairs([("a", value)]);
        let (one, two, three) = (labels("1"), labels("2"), labels("3"));
        for (labels, number) in [(&one, 1), (&two, 2), (&three, 3)] {
            assert_eq!(index.find_or(7, labels, |_| Some(SeriesRef(number))), Some(SeriesRef(number)));
        }
        for (labels, number) in [(&one, 1), (&two, 2), (&three, 3)] {
            assert_eq!(index.find_or(7, labels, |_| None), Some(SeriesRef(number)));
        }
        assert_eq!(index.find_or(7, &labels("4"), |_| None), None);
        let mut found = [SeriesRef(0); 3];
        let missing = index.find_rows(&[&three, &labels("4"), &one], &[7, 7, 7], &mut found);
        assert_eq!((missing, found), (vec![1], [SeriesRef(3), SeriesRef(0), SeriesRef(1)]));
    }
}
