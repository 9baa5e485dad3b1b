//! What is remembered of pages that were read lately: decoded columns, and which of their lines passed a filter.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::Counter;
use storage_api::Result;

use super::reader::Detail;

/// Most filters that are told apart at a time; when there are more, all are forgotten.
const FILTERS_MAX: usize = 1024;
/// What an entry takes beside its value, about.
const ENTRY_BYTES: usize = 160;

/// What of a page is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// Columns as Arrow has them.
    Columns(Detail),
    /// The lines.
    Lines,
    /// All columns beside them.
    Fields,
    /// Timestamps.
    Times,
    /// Severity numbers.
    Severities,
    /// The dictionary of the column of this number, of the row group that begins with the page.
    Dictionary(usize),
    /// Whether all lines of the row group that begins with the page are text as it is.
    IsText,
    /// The rows that passed the filter of this number.
    Passing(u64),
}

/// The number of a block, the number of a page in it, and what of it.
type Key = (u64, u32, What);

/// A bounded memory of pages; those that nobody asks for again go first.
#[derive(Debug)]
pub(crate) struct PageCache {
    limit: usize,
    inner: Mutex<Inner>,
    hits: Counter,
    misses: Counter,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// By when they came; one that was used since comes again.
    queue: VecDeque<Key>,
    size_bytes: usize,
    filters: HashMap<Box<str>, u64>,
    filters_seen: u64,
    blocks_seen: u64,
}

#[derive(Debug)]
struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    size_bytes: usize,
    is_used: bool,
}

impl PageCache {
    pub(crate) fn new(limit: usize, hits: Counter, misses: Counter) -> Self {
        Self { limit, inner: Mutex::default(), hits, misses }
    }

    /// Returns a number that no other block has had.
    pub(super) fn number_block(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.blocks_seen += 1;
        inner.blocks_seen
    }

    /// Returns the number of a filter; another filter never gets the same one.
    pub(super) fn filter_number(&self, key: &str) -> u64 {
        let mut inner = self.inner.lock();
        if let Some(number) = inner.filters.get(key) {
            return *number;
        }
        if inner.filters.len() >= FILTERS_MAX {
            inner.filters.clear();
        }
        inner.filters_seen += 1;
        let number = inner.filters_seen;
        inner.filters.insert(key.into(), number);
        number
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self, key: Key) -> Option<Arc<T>> {
        let found = {
            let mut inner = self.inner.lock();
            inner.entries.get_mut(&key).map(|entry| {
                entry.is_used = true;
                Arc::clone(&entry.value)
            })
        };
        let found = found.and_then(|value| value.downcast::<T>().ok());
        if found.is_some() { &self.hits } else { &self.misses }.inc();
        found
    }

    pub(super) fn insert<T: Send + Sync + 'static>(&self, key: Key, value: &Arc<T>, size_bytes: usize) {
        let size_bytes = size_bytes + ENTRY_BYTES;
        if size_bytes > self.limit / 4 {
            return;
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let entry = Entry { value: Arc::clone(value) as _, size_bytes, is_used: false };
        inner.size_bytes += size_bytes;
        match inner.entries.insert(key, entry) {
            Some(old) => inner.size_bytes -= old.size_bytes,
            None => inner.queue.push_back(key),
        }
        while inner.size_bytes > self.limit {
            let Some(key) = inner.queue.pop_front() else { break };
            match inner.entries.get_mut(&key) {
                Some(entry) if entry.is_used => {
                    entry.is_used = false;
                    inner.queue.push_back(key);
                }
                Some(entry) => {
                    inner.size_bytes -= entry.size_bytes;
                    inner.entries.remove(&key);
                }
                None => {}
            }
        }
    }

    /// Returns what is kept, or what `load` gives: the value and its size.
    pub(super) fn get_or_load<T: Send + Sync + 'static>(
        &self,
        key: Key,
        load: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let (value, size_bytes) = load()?;
        let value = Arc::new(value);
        self.insert(key, &value, size_bytes);
        Ok(value)
    }

    /// Forgets a block.
    pub(super) fn forget(&self, block: u64) {
        let mut inner = self.inner.lock();
        let Inner { entries, queue, size_bytes, .. } = &mut *inner;
        entries.retain(|key, entry| {
            let stays = key.0 != block;
            *size_bytes -= if stays { 0 } else { entry.size_bytes };
            stays
        });
        queue.retain(|key| key.0 != block);
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.inner.lock().size_bytes
    }
}

#[cfg(test)]
mod tests {
    use runtime::Telemetry;

    use super::*;

    fn cache(limit: usize) -> PageCache {
        let telemetry = Telemetry::new();
        PageCache::new(limit, telemetry.counter("hits_total", "."), telemetry.counter("misses_total", "."))
    }

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let pages = cache(10_000);
        for page in 0..100 {
            pages.insert((1, page, What::Times), &Arc::new(vec![page]), 840);
            assert!(pages.get::<Vec<u32>>((1, 0, What::Times)).is_some(), "page 0 at {page}");
            assert!(pages.size_bytes() <= 10_000);
        }
        assert_eq!(pages.get::<Vec<u32>>((1, 99, What::Times)).as_deref(), Some(&vec![99]));
        assert!(pages.get::<Vec<u32>>((1, 50, What::Times)).is_none());
        assert!(pages.get::<Vec<u32>>((1, 99, What::Lines)).is_none());
        pages.insert((2, 0, What::Times), &Arc::new(vec![7_u32]), 9000);
        assert!(pages.get::<Vec<u32>>((2, 0, What::Times)).is_none(), "larger than a quarter of the cache");
        pages.forget(1);
        assert_eq!(pages.size_bytes(), 0);
    }

    #[test]
    fn filters_and_blocks_have_numbers_of_their_own() {
        let pages = cache(10);
        let first = pages.filter_number("a");
        assert_eq!(pages.filter_number("a"), first);
        let many: std::collections::HashSet<u64> =
            (0..3000).map(|i| pages.filter_number(&i.to_string())).chain([first]).collect();
        assert_eq!(many.len(), 3001);
        assert_ne!(pages.number_block(), pages.number_block());
    }
}
