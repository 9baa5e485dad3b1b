//! What is kept in memory of blocks: indexes, footers and counts, and beside them pages.

use std::any::Any;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use storage_api::Result;

use super::page_cache::PageCache;
use super::scratch::Scratches;
use crate::telemetry::CorruptBlocks;

/// What is kept of a block beside its catalog. Each is loaded when it is first needed, or before by [`Block::warm`].
///
/// [`Block::warm`]: super::Block::warm
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Footer,
    Counts,
    Words,
    Trigrams,
    Ids,
    /// The two largest indexes, of which only what is looked up is read: where there is no room for them.
    TrigramsInParts,
    IdsInParts,
}

/// Indexes, footers and counts of blocks that were used lately, up to a number of bytes, and beside them pages.
#[derive(Debug)]
pub(crate) struct Cache {
    limit: usize,
    inner: Mutex<CacheInner>,
    /// Counts blocks that turn out damaged while they are used.
    pub(super) corrupt_blocks: CorruptBlocks,
    pub(crate) pages: PageCache,
    pub(super) scratches: Scratches,
}

#[derive(Debug, Default)]
struct CacheInner {
    entries: HashMap<(PathBuf, Kind), CacheEntry>,
    size_bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct CacheEntry {
    value: Arc<dyn Any + Send + Sync>,
    size_bytes: usize,
    used: u64,
}

impl Cache {
    pub(crate) fn new(limit: usize, pages: PageCache, corrupt_blocks: CorruptBlocks) -> Self {
        Self { limit, inner: Mutex::default(), corrupt_blocks, pages, scratches: Scratches::default() }
    }

    /// Returns what is there already.
    pub(super) fn get<T: Send + Sync + 'static>(&self, key: (&Path, Kind)) -> Option<Arc<T>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let entry = inner.entries.get_mut(&(key.0.to_owned(), key.1))?;
        entry.used = clock;
        Arc::clone(&entry.value).downcast::<T>().ok()
    }

    pub(super) fn get_or_load<T: Send + Sync + 'static>(
        &self,
        key: (&Path, Kind),
        load: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let key = (key.0.to_owned(), key.1);
        let (value, size_bytes) = load()?;
        let value = Arc::new(value);
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let entry = CacheEntry { value: Arc::clone(&value) as _, size_bytes, used: inner.clock };
        inner.size_bytes += size_bytes;
        if let Some(old) = inner.entries.insert(key, entry) {
            inner.size_bytes -= old.size_bytes;
        }
        while inner.size_bytes > self.limit {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(entry) = oldest.and_then(|key| inner.entries.remove(&key)) else { break };
            inner.size_bytes -= entry.size_bytes;
        }
        Ok(value)
    }

    /// Says whether so many bytes more would push nothing out.
    pub(super) fn has_room(&self, size_bytes: u64) -> bool {
        let held = self.inner.lock().size_bytes as u64;
        held.saturating_add(size_bytes) <= self.limit as u64
    }

    pub(super) fn has(&self, dir: &Path, kind: Kind) -> bool {
        self.inner.lock().entries.contains_key(&(dir.to_owned(), kind))
    }

    /// Forgets a block.
    pub(super) fn forget(&self, dir: &Path) {
        let mut inner = self.inner.lock();
        let CacheInner { entries, size_bytes, .. } = &mut *inner;
        entries.retain(|(path, _), entry| {
            let stays = path != dir;
            *size_bytes -= if stays { 0 } else { entry.size_bytes };
            stays
        });
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.inner.lock().size_bytes
    }
}
