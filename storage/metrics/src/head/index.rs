//! Finds the series of a head by their labels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use parking_lot::Mutex;

use super::shard::PassThrough;
use super::{ByShard, SHARDS, SeriesRef};

/// The bytes that a series takes in the index, with the room that a table keeps free.
pub(super) const INDEX_BYTES: usize = 27;

/// Some of the series, by the hash of their labels.
#[derive(Debug, Default)]
struct Part {
    first: HashMap<u64, SeriesRef, BuildHasherDefault<PassThrough>>,
    /// Those whose hash another one has, too: hardly ever there are any.
    others: HashMap<u64, Vec<SeriesRef>>,
}

impl Part {
    fn find(&self, hash: u64, mut is: impl FnMut(SeriesRef) -> bool) -> Option<SeriesRef> {
        let first = *self.first.get(&hash)?;
        if is(first) {
            return Some(first);
        }
        self.others.get(&hash)?.iter().copied().find(|series| is(*series))
    }

    fn insert(&mut self, hash: u64, series: SeriesRef) {
        match self.first.entry(hash) {
            Entry::Vacant(place) => drop(place.insert(series)),
            Entry::Occupied(_) => self.others.entry(hash).or_default().push(series),
        }
    }
}

/// Series by their label sets, in parts by hash. The labels themselves are in the shards: a part's lock is taken before
/// that of a shard.
#[derive(Debug)]
pub(super) struct Index {
    parts: Box<[Mutex<Part>]>,
}

fn part_of(hash: u64) -> usize {
    // The map takes the low bits.
    (hash >> 60) as usize % SHARDS
}

impl Index {
    pub(super) fn new() -> Self {
        Self { parts: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Returns the series of this hash that `is` accepts; `create` makes it if there is none.
    pub(super) fn find_or(
        &self,
        hash: u64,
        is: impl FnMut(SeriesRef) -> bool,
        create: impl FnOnce() -> Option<SeriesRef>,
    ) -> Option<SeriesRef> {
        let mut part = self.parts[part_of(hash)].lock();
        if let Some(found) = part.find(hash, is) {
            return Some(found);
        }
        let series = create()?;
        part.insert(hash, series);
        Some(series)
    }

    /// Finds the series of rows, of which `is` says whether a series is that of a row; returns the places of the rows that
    /// there are none for, in their order.
    pub(super) fn find_rows(
        &self,
        hashes: &[u64],
        is: impl Fn(usize, SeriesRef) -> bool,
        found: &mut [SeriesRef],
    ) -> Vec<usize> {
        let order = ByShard::new(hashes.iter().map(|hash| part_of(*hash)));
        let mut missing = Vec::new();
        for (number, places) in order.shards() {
            let part = self.parts[number].lock();
            for place in places.iter().map(|place| *place as usize) {
                match part.find(hashes[place], |series| is(place, series)) {
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
        let is = |number: u32| move |series: SeriesRef| series.0 == number;
        for number in [1, 2, 3] {
            assert_eq!(index.find_or(7, is(number), || Some(SeriesRef(number))), Some(SeriesRef(number)));
        }
        for number in [1, 2, 3] {
            assert_eq!(index.find_or(7, is(number), || None), Some(SeriesRef(number)));
        }
        assert_eq!(index.find_or(7, is(4), || None), None);
        let mut found = [SeriesRef(0); 3];
        let missing = index.find_rows(&[7, 7, 7], |place, series| [3, 4, 1][place] == series.0, &mut found);
        assert_eq!((missing, found), (vec![1], [SeriesRef(3), SeriesRef(0), SeriesRef(1)]));
    }
}
