//! A part of the head: some of its series, found by matcher.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;

use model::Labels;
use roaring::RoaringBitmap;
use storage_api::Result;

use super::series::{Logged, Series};
use super::table::SeriesTable;
use crate::postings::Postings;

/// Passes a hash through: the keys are hashes already.
#[derive(Debug, Default)]
pub(crate) struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Leaves numbers as they are, so that those next to each other lie next to each other in a table.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        // The table takes the low bits for the place, and the highest ones to tell numbers apart.
        const HIGHEST: u64 = 0x7f << 57;
        self.0 | (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) & HIGHEST)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = number.into();
    }
}

/// What an id in a list takes, with the room that the list keeps free.
const POSTING_BYTES: usize = 6;
/// What a label value takes beside its text: a place in the tree, a list, and two allocations.
const VALUE_BYTES: usize = 120;

/// Series and the ways to them.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) series: SeriesTable,
    /// Label name to value to the series, ascending.
    by_label: HashMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>>,
}

/// A label set that is borrowed from a request or a WAL record, by name.
pub(crate) trait LabelPairs: Copy {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)>;

    /// Returns the set as one of its own.
    fn to_labels(&self) -> Labels {
        Labels::from_sorted(self.pairs())
    }
}

impl LabelPairs for &[(Cow<'_, str>, Cow<'_, str>)] {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl LabelPairs for &[(&str, &str)] {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().copied()
    }
}

impl LabelPairs for &Labels {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
    }

    fn to_labels(&self) -> Labels {
        Labels::clone(self)
    }
}

/// Returns the hash of a label set.
pub(crate) fn hash_labels(labels: impl LabelPairs, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    for (name, value) in labels.pairs() {
        // No UTF-8 text holds these bytes, so that borders count.
        scratch.extend_from_slice(name.as_bytes());
        scratch.push(0xff);
        scratch.extend_from_slice(value.as_bytes());
        scratch.push(0xfe);
    }
    xxhash_rust::xxh3::xxh3_64(scratch)
}

impl Shard {
    /// Makes a series, and returns its place and the bytes that it takes. `None` when the ids are used up.
    pub(crate) fn create(&mut self, labels: Labels, logged: Logged) -> Option<(u32, usize)> {
        let id = u32::try_from(self.series.len()).ok().filter(|id| *id < u32::MAX >> 8)?;
        let mut size_bytes = size_of::<Series>() + labels.size_bytes();
        for (name, value) in labels.iter() {
            if !self.by_label.contains_key(name) {
                self.by_label.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.by_label.get_mut(name) else { continue };
            size_bytes += POSTING_BYTES;
            match values.get_mut(value) {
                Some(ids) => ids.push(id),
                None => {
                    size_bytes += VALUE_BYTES + value.len();
                    values.insert(value.into(), vec![id]);
                }
            }
        }
        self.series.push(Series::new(labels, logged));
        Some((id, size_bytes))
    }
}

fn bitmap(ids: &[u32]) -> RoaringBitmap {
    // The ids of one value ascend, as series are only ever added.
    RoaringBitmap::from_sorted_iter(ids.iter().copied()).unwrap_or_else(|_| ids.iter().copied().collect())
}

impl Postings for Shard {
    fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..u32::try_from(self.series.len()).unwrap_or(u32::MAX));
        all
    }

    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap> {
        let ids = self.by_label.get(name).and_then(|values| values.get(value));
        Ok(ids.map(|ids| bitmap(ids)).unwrap_or_default())
    }

    fn accepted(&self, name: &str, accept: &mut dyn FnMut(&str) -> bool) -> Result<RoaringBitmap> {
        let mut found: Vec<u32> = Vec::new();
        for (value, ids) in self.by_label.get(name).into_iter().flatten() {
            if accept(value) {
                found.extend_from_slice(ids);
            }
        }
        found.sort_unstable();
        Ok(bitmap(&found))
    }

    fn names(&self) -> Vec<&str> {
        self.by_label.keys().map(AsRef::as_ref).collect()
    }

    fn values(&self, name: &str, series: &RoaringBitmap) -> Result<Vec<String>> {
        let values = self.by_label.get(name).into_iter().flatten();
        Ok(values
            .filter(|(_, ids)| ids.iter().any(|id| series.contains(*id)))
            .map(|(value, _)| value.to_string())
            .collect())
    }
}
