//! Blocks: immutable folders of samples on disk. Layout: docs/format/metrics-block.md.

mod chunk;
pub(crate) mod decimal;
mod encode;
pub(crate) mod extras;
pub(crate) mod file;
mod group;
mod index;
mod meta;
mod page;
mod reader;
mod times;
mod verify;
mod writer;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use model::{Labels, Matcher};
use parking_lot::Mutex;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use storage_api::{Error, MillisRange, Result};

pub(crate) use extras::Extras;
pub(crate) use extras::exemplars::order as exemplar_order;
pub(crate) use index::Index;
pub(crate) use meta::{BlockName, Meta};
pub(crate) use reader::{BlockCursor, Wanted};
pub(crate) use verify::verify_block;
pub(crate) use writer::{BlockWriter, NewBlock, ROW_GROUP_ROWS};

use crate::error::corrupt;
use crate::tombstones::Deleted;
use file::{CheckedFile, read_small, sync_dir};
use index::INDEX_FILE;

/// The rows.
pub(crate) const SAMPLES_FILE: &str = "samples.parquet";
/// How names of unfinished and of doomed folders begin.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";
/// Largest index that is read, in bytes.
const INDEX_BYTES_MAX: u64 = 8 << 30;

/// Most timestamps that a block keeps decoded: 2 MiB, a day of 30 scrape targets at 10 s.
const TIMES_CACHED_MAX: usize = 256 << 10;

/// Decoded lists of timestamps, by their number.
#[derive(Debug, Default)]
struct TimesCache {
    lists: HashMap<u32, Arc<[i64]>>,
    count: usize,
}

/// An intact block. Its files stay readable after they are removed, until the last user is done.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) dir: PathBuf,
    pub(crate) meta: Meta,
    pub(crate) index: Index,
    samples: Arc<CheckedFile>,
    /// Histograms, start times and exemplars; nothing, in most blocks.
    pub(crate) extras: Extras,
    /// The footer of the samples, read when first needed.
    footer: OnceLock<Arc<ParquetMetaData>>,
    /// Lists of timestamps that were needed lately.
    times: Mutex<TimesCache>,
    /// Reading found a wrong checksum: the block is not merged any more, so that nothing is lost for good.
    is_damaged: AtomicBool,
}

/// A block that could not be opened. It stays where it is, for people to look at.
#[derive(Debug, Clone)]
pub(crate) struct DamagedBlock {
    pub(crate) name: BlockName,
    /// The time it covers; all time when not even that is known.
    pub(crate) range: MillisRange,
    pub(crate) reason: String,
}

impl Block {
    /// Opens the block in `dir` and checks everything but the samples, which are checked as they are read.
    pub(crate) fn open(dir: &Path, name: BlockName) -> Result<Self> {
        let meta = Meta::load(dir)?;
        if meta.name() != name {
            return Err(corrupt(dir, format!("its meta.json is that of {}", meta.name())));
        }
        let path = dir.join(INDEX_FILE);
        let expected = meta.file(INDEX_FILE).ok_or_else(|| corrupt(dir, "meta.json knows no index"))?;
        let content = read_small(&path, INDEX_BYTES_MAX)?;
        if content.len() as u64 != expected.size_bytes || crc32c::crc32c(&content) != expected.crc32c {
            return Err(corrupt(&path, "its size or checksum is not that in meta.json"));
        }
        let index = Index::decode(&path, content.into())?;
        if u64::from(index.series_len()) != meta.series {
            return Err(corrupt(&path, format!("{} series, expected {}", index.series_len(), meta.series)));
        }
        let path = dir.join(SAMPLES_FILE);
        let expected = meta.file(SAMPLES_FILE).ok_or_else(|| corrupt(dir, "meta.json knows no samples"))?;
        if writer::checksum_of_extents(&index.extents) != expected.crc32c {
            return Err(corrupt(&path, "its checksums are not those in meta.json"));
        }
        let samples = Arc::new(CheckedFile::open(&path, expected.size_bytes, Arc::clone(&index.extents))?);
        let extras = Extras::open(dir, &meta)?;
        let (footer, times, is_damaged) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        Ok(Self { dir: dir.to_owned(), meta, index, samples, extras, footer, times, is_damaged })
    }

    pub(crate) fn name(&self) -> BlockName {
        self.meta.name()
    }

    pub(crate) fn set_damaged(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Returns the series that pass all matchers and may have samples in `range` that are not deleted, in the block's
    /// order.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        range: MillisRange,
        deleted: Option<&Deleted>,
    ) -> Result<Vec<(Labels, u32)>> {
        let mut found = Vec::new();
        if !self.meta.range().overlaps(&range) {
            return Ok(found);
        }
        for id in crate::postings::find(&self.index, matchers)? {
            let entry = self.index.entry(id)?;
            let is_deleted = deleted.is_some_and(|deleted| deleted.covers(id, entry.range().within(range)));
            if entry.range().overlaps(&range) && !is_deleted {
                found.push((self.index.labels(&entry)?, id));
            }
        }
        Ok(found)
    }

    /// Returns a list of timestamps of the index.
    fn times(&self, list: u32) -> Result<Arc<[i64]>> {
        if let Some(times) = self.times.lock().lists.get(&list) {
            return Ok(Arc::clone(times));
        }
        let times: Arc<[i64]> = self.index.times(list)?.into();
        let mut cache = self.times.lock();
        if cache.count + times.len() > TIMES_CACHED_MAX {
            *cache = TimesCache::default();
        }
        if cache.lists.insert(list, Arc::clone(&times)).is_none() {
            cache.count += times.len();
        }
        Ok(times)
    }

    fn footer(&self) -> Result<Arc<ParquetMetaData>> {
        if let Some(footer) = self.footer.get() {
            return Ok(Arc::clone(footer));
        }
        let footer = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Required)
            .parse_and_finish(&*self.samples)
            .map_err(|error| corrupt(&self.samples.path, error))?;
        let rows: i64 = footer.row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).sum();
        if u64::try_from(rows) != Ok(self.meta.samples) {
            return Err(corrupt(&self.samples.path, format!("{rows} rows, expected {}", self.meta.samples)));
        }
        Ok(Arc::clone(self.footer.get_or_init(|| Arc::new(footer))))
    }
}

/// What a directory of blocks holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Oldest first.
    pub(crate) blocks: Vec<Block>,
    pub(crate) damaged: Vec<DamagedBlock>,
    /// No new block may have this sequence number or a lower one.
    pub(crate) last_sequence: u64,
}

/// Opens every block in `dir`, and removes what crashes left behind: unfinished blocks, and those that a merged one
/// stands for.
pub(crate) fn open_all(dir: &Path) -> Result<Found> {
    let failed = |source| Error::io("listing", dir, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(TEMPORARY_PREFIX) {
            remove(&entry.path())?;
        } else if let Some(name) = BlockName::parse(name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut found = Found { last_sequence: names.iter().map(|name| name.last).max().unwrap_or(0), ..Found::default() };
    let mut opened = Vec::new();
    for name in names {
        let path = dir.join(name.to_string());
        match Block::open(&path, name) {
            Ok(block) => opened.push(block),
            Err(error) => {
                let range = Meta::load(&path).map_or(MillisRange::ALL, |meta| meta.range());
                found.damaged.push(DamagedBlock { name, range, reason: error.to_string() });
            }
        }
    }
    let names: Vec<BlockName> = opened.iter().map(Block::name).collect();
    for block in opened {
        if names.iter().any(|other| other.replaces(&block.name())) {
            discard(&block.dir)?;
        } else {
            found.blocks.push(block);
        }
    }
    // A damaged block is no loss where a merged one stands for it.
    found.damaged.retain(|damaged| !names.iter().any(|other| other.replaces(&damaged.name)));
    Ok(found)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| Error::io("removing", path, source))
}

/// Removes a block in one step, as far as anyone who opens the directory later can see.
pub(crate) fn discard(dir: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let doomed = parent.join(format!("{TEMPORARY_PREFIX}{name}-removed"));
    fs::rename(dir, &doomed).map_err(|source| Error::io("renaming", dir, source))?;
    sync_dir(parent)?;
    remove(&doomed)
}
