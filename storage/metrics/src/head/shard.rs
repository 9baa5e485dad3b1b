//! A part of the head: the series whose hash falls into it, found by label set or by matcher.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use model::Labels;
use roaring::RoaringBitmap;
use storage_api::Result;

use super::series::{Logged, Series};
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

/// Series and the ways to them.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// The first series with a hash; more of them hang on [`Series::next`].
    by_hash: HashMap<u64, u32, BuildHasherDefault<PassThrough>>,
    pub(crate) series: Vec<Series>,
    /// Label name to value to the series, ascending.
    by_label: HashMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>>,
}

/// A label set that is borrowed from a request or a WAL record, by name.
pub(crate) trait LabelPairs: Copy {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)>;
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
    /// Returns the series with these labels.
    pub(crate) fn find(&self, hash: u64, labels: impl LabelPairs) -> Option<u32> {
        let mut next = self.by_hash.get(&hash).copied();
        while let Some(series) = next.and_then(|id| self.series.get(id as usize)) {
            if series.hash == hash && series.labels.iter().eq(labels.pairs()) {
                return next;
            }
            next = Some(series.next);
        }
        None
    }

    /// Returns the first series with this hash.
    pub(crate) fn first_with(&self, hash: u64) -> Option<u32> {
        self.by_hash.get(&hash).copied()
    }

    /// Says whether a series has this hash.
    pub(crate) fn is_likely(&self, index: u32, hash: u64) -> bool {
        self.series.get(index as usize).is_some_and(|series| series.hash == hash && !series.labels.is_empty())
    }

    /// Says whether the first label of a series is this one.
    pub(crate) fn begins_with(&self, index: u32, first: Option<(&str, &str)>) -> bool {
        self.series.get(index as usize).is_some_and(|series| series.labels.iter().next() == first)
    }

    /// Says whether a series has these labels.
    pub(crate) fn has_labels(&self, index: u32, labels: impl LabelPairs) -> bool {
        self.series.get(index as usize).is_some_and(|series| series.labels.iter().eq(labels.pairs()))
    }

    /// Makes a series that [`find`](Self::find) does not know. `None` when the ids are used up.
    pub(crate) fn create(&mut self, hash: u64, labels: Labels, logged: Logged) -> Option<u32> {
        let id = u32::try_from(self.series.len()).ok().filter(|id| *id < u32::MAX >> 8)?;
        for (name, value) in labels.iter() {
            if !self.by_label.contains_key(name) {
                self.by_label.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.by_label.get_mut(name) else { continue };
            match values.get_mut(value) {
                Some(ids) => ids.push(id),
                None => drop(values.insert(value.into(), vec![id])),
            }
        }
        let next = self.by_hash.insert(hash, id).unwrap_or(u32::MAX);
        self.series.push(Series::new(labels, hash, next, logged));
        Some(id)
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

    fn values(&self, name: &str, has: &mut dyn FnMut(u32) -> bool) -> Result<Vec<String>> {
        let values = self.by_label.get(name).into_iter().flatten();
        Ok(values.filter(|(_, ids)| ids.iter().any(|id| has(*id))).map(|(value, _)| value.to_string()).collect())
    }
}
