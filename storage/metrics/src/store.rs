//! The store: opens a directory, and flushes, compacts and drops on request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use runtime::{Clock, CpuPool, Ledger, Signal, Telemetry};
use storage_api::{Error, MillisRange, Result};
use storage_wal::Wal;

use crate::block::{self, Block, BlockCursor, BlockName, BlockWriter, NewBlock};
use crate::compaction::{self, Bounds, Candidate, Choice};
use crate::delete::LeftOut;
use crate::flush::write_head;
use crate::head::Head;
use crate::metadata::{self, Metadata};
use crate::options::Options;
use crate::replay::{Ground, replay};
use crate::telemetry::Metrics;
use crate::tombstones::{self, Tombstones};
use crate::view::{Frozen, View};

/// A merged block covers at most this part of the retention, so that whole blocks can be dropped.
const RETENTION_PARTS: i64 = 8;
/// The place in the ledger for samples that grew too old.
const RETENTION_PLACE: &str = "storage_retention";

/// Metrics under one directory: a head, covered by a WAL, and blocks.
#[derive(Debug)]
pub struct MetricStore {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    clock: Clock,
    pub(crate) ledger: Ledger,
    cpu: CpuPool,
    pub(crate) metrics: Metrics,
    pub(crate) wal: Wal,
    /// Held for reading by appenders from the WAL to the head, for writing by the cut. The first in the order of locks.
    pub(crate) gate: RwLock<()>,
    /// Guards the change from one view to the next; held for a moment only.
    pub(crate) view: RwLock<Arc<View>>,
    pub(crate) metadata: RwLock<Metadata>,
    /// Held by the one flush that runs, and holds the number of its block. Taken before `gate`.
    flushing: Mutex<NextBlock>,
    /// Held by the one merge or removal that runs, which may flush meanwhile. Taken before `flushing`.
    pub(crate) merging: Mutex<()>,
    /// Held by who changes the view's tombstones. Taken after `merging` and before `flushing`.
    pub(crate) deleting: Mutex<()>,
    /// Held for writing by who removes the folder of a block, for reading by who links its files. Taken last.
    pub(crate) removing: RwLock<()>,
    pub(crate) is_closed: AtomicBool,
}

#[derive(Debug)]
struct NextBlock {
    sequence: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Series in the heads.
    pub head_series: u64,
    /// Samples in the heads.
    pub head_samples: u64,
    /// Memory of the heads, in bytes.
    pub head_bytes: u64,
    /// Intact blocks.
    pub blocks: u64,
    /// Their samples; one that lies in two blocks counts twice until they are merged.
    pub block_samples: u64,
    /// Their files, in bytes.
    pub block_bytes: u64,
    /// Memory of their label indexes, in bytes.
    pub index_bytes: u64,
    /// Blocks that could not be opened.
    pub damaged_blocks: u64,
    /// The WAL, in bytes.
    pub wal_bytes: u64,
}

impl MetricStore {
    /// Opens the store with blocks in `dir` and the WAL in `wal_dir`; both are made if missing. Removes what a crash
    /// left half done, sets damaged blocks aside, and replays the WAL.
    ///
    /// # Errors
    /// I/O. A damaged block or WAL is no error: what is lost is logged and counted.
    pub fn open(
        dir: &Path,
        wal_dir: &Path,
        options: Options,
        clock: Clock,
        telemetry: &Telemetry,
        ledger: Ledger,
        cpu: CpuPool,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
        let metrics = Metrics::register(telemetry);
        let mut found = block::open_all(dir)?;
        for damaged in &found.damaged {
            tracing::error!(block = %damaged.name, reason = damaged.reason, "a block is damaged and left out");
            metrics.corruptions.inc();
        }
        let mut metadata = Metadata::load(dir).unwrap_or_else(|error| {
            tracing::error!(%error, "metric metadata is lost until it is sent again");
            metrics.corruptions.inc();
            Metadata::default()
        });
        let (deletes, is_damaged) = tombstones::load_or_set_aside(dir)?;
        if is_damaged {
            metrics.corruptions.inc();
        }
        // What comes now was written after the deletes, even if no block is left to tell.
        let tombstones = Tombstones::loaded(deletes, is_damaged);
        found.last_sequence = found.last_sequence.max(tombstones.last_sequence());
        let ground = Ground { options: &options, metrics: &metrics, ledger: &ledger, cpu: &cpu };
        let (wal, head) = replay(dir, wal_dir, ground, &mut found, &mut metadata)?;
        let blocks: Vec<Arc<Block>> = found.blocks.into_iter().map(Arc::new).collect();
        let tombstones = Arc::new(tombstones.next(tombstones.list().to_vec(), &blocks)?);
        let view = View { head: Arc::new(head), frozen: None, blocks, damaged: found.damaged, tombstones };
        let store = Self {
            dir: dir.to_owned(),
            options,
            clock,
            ledger,
            cpu,
            metrics,
            wal,
            gate: RwLock::default(),
            view: RwLock::new(Arc::new(view)),
            metadata: RwLock::new(metadata),
            flushing: Mutex::new(NextBlock { sequence: found.last_sequence + 1 }),
            merging: Mutex::default(),
            deleting: Mutex::default(),
            removing: RwLock::default(),
            is_closed: AtomicBool::new(false),
        };
        store.show_head();
        store.show_blocks();
        store.show_tombstones();
        Ok(store)
    }

    /// Returns the heads and blocks of this moment.
    pub(crate) fn snapshot(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    pub(crate) fn change_view(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.write();
        let mut next = View::clone(&view);
        change(&mut next);
        *view = Arc::new(next);
    }

    /// Returns the oldest time that is kept, when there is one.
    pub(crate) fn oldest_visible_ms(&self) -> Option<i64> {
        self.options.retention.map(|retention| self.clock.now_millis().saturating_sub(millis(retention)))
    }

    pub(crate) fn show_head(&self) {
        let view = self.view.read();
        let frozen = view.frozen.as_ref().map(|frozen| &frozen.head);
        let sum = |of: fn(&Head) -> u64| of(&view.head) + frozen.map_or(0, |head| of(head));
        self.metrics.head_series.set(sum(Head::series) as f64);
        self.metrics.head_samples.set(sum(Head::samples) as f64);
        self.metrics.head_bytes.set(sum(Head::size_bytes) as f64);
        self.metrics.head_keys.set(view.head.keys_len() as f64);
        self.metrics.wal_bytes.set(self.wal.size_bytes() as f64);
    }

    pub(crate) fn show_blocks(&self) {
        let stats = self.stats();
        self.metrics.blocks.set(stats.blocks as f64);
        self.metrics.block_bytes.set(stats.block_bytes as f64);
        self.metrics.block_samples.set(stats.block_samples as f64);
        self.metrics.index_bytes.set(stats.index_bytes as f64);
        self.metrics.damaged_blocks.set(stats.damaged_blocks as f64);
    }

    /// Returns the memory of the heads, in bytes; 0 when there is nothing to flush.
    #[must_use]
    pub fn head_bytes(&self) -> u64 {
        self.view.read().head_bytes()
    }

    /// Says whether the head is so large that it should be flushed now.
    #[must_use]
    pub fn should_flush(&self) -> bool {
        let view = self.view.read();
        view.frozen.is_some() || view.head.size_bytes() >= self.options.head_bytes_max / 2
    }

    /// Returns what the store holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let view = self.snapshot();
        let frozen = view.frozen.as_ref().map(|frozen| &frozen.head);
        Stats {
            head_series: view.head.series() + frozen.map_or(0, |head| head.series()),
            head_samples: view.head.samples() + frozen.map_or(0, |head| head.samples()),
            head_bytes: view.head_bytes(),
            blocks: view.blocks.len() as u64,
            block_samples: view.blocks.iter().map(|block| block.meta.all_samples()).sum(),
            block_bytes: view.blocks.iter().map(|block| block.meta.size_bytes()).sum(),
            index_bytes: view.blocks.iter().map(|block| block.index.size_bytes() + block.extras.size_bytes()).sum(),
            damaged_blocks: view.damaged.len() as u64,
            wal_bytes: self.wal.size_bytes(),
        }
    }

    /// Writes the head to a block, all on disk on return, and trims the WAL. Appends and queries go on meanwhile.
    ///
    /// # Errors
    /// Disk full and other I/O; nothing is lost then, and the next call tries again.
    pub fn flush(&self) -> Result<()> {
        let mut next = self.flushing.lock();
        let started = Instant::now();
        let flushed = self.flush_frozen(&mut next).and_then(|again| {
            let fresh = self.freeze()? && self.flush_frozen(&mut next)?;
            Ok(again || fresh)
        });
        if !matches!(flushed, Ok(false)) {
            let result = if flushed.is_ok() { "ok" } else { "failed" };
            self.metrics.flushes.with(&[result]).inc();
            self.metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
        }
        self.show_head();
        self.show_blocks();
        flushed.map(drop)
    }

    /// Returns the greatest sequence number that a block has or had; blocks to come have greater ones.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.flushing.lock().sequence.saturating_sub(1)
    }

    /// Puts an empty head in the place of the full one. Says whether there was something to freeze.
    fn freeze(&self) -> Result<bool> {
        let _gate = self.gate.write();
        let view = self.snapshot();
        if view.head.series() == 0 && !self.metadata.read().is_dirty() {
            return Ok(false);
        }
        let cut = self.wal.cut().map_err(crate::error::wal)?;
        self.change_view(|view| {
            let head = std::mem::replace(&mut view.head, Arc::new(Head::new()));
            view.frozen = Some(Frozen { head, cut });
        });
        Ok(true)
    }

    /// Writes the frozen head, if there is one, to a block.
    fn flush_frozen(&self, next: &mut NextBlock) -> Result<bool> {
        let Some(Frozen { head, cut }) = self.snapshot().frozen.clone() else { return Ok(false) };
        self.store_metadata()?;
        let block = write_head(&self.dir, &head, next.sequence, cut, &self.options, &self.cpu)?;
        next.sequence += 1;
        self.change_view(|view| {
            view.frozen = None;
            view.blocks.extend(block.map(Arc::new));
        });
        // What stays is covered by the block, and removed unread at the next start.
        if let Err(error) = self.wal.remove_before(cut) {
            tracing::warn!(%error, "covered WAL segments could not be removed");
        }
        Ok(true)
    }

    fn store_metadata(&self) -> Result<()> {
        let content = {
            let mut metadata = self.metadata.write();
            if !metadata.is_dirty() {
                return Ok(());
            }
            metadata.take_for_file()
        };
        let stored = metadata::store(&self.dir, &content, &self.options.faults);
        if stored.is_err() {
            self.metadata.write().set_dirty();
        }
        stored
    }

    /// Merges some blocks, if there are enough small ones; says whether there were.
    ///
    /// # Errors
    /// Disk full, other I/O, and damage, which is found by reading: the damaged block is left alone from then on.
    pub fn compact_once(&self) -> Result<bool> {
        let _merging = self.merging.lock();
        let view = self.snapshot();
        let Choice::Merge(range) = self.choose(&view) else { return Ok(false) };
        let started = Instant::now();
        // The places are those of blocks and damaged ones together; a merge never spans a damaged one.
        let names: Vec<BlockName> = all_names(&view).get(range).unwrap_or_default().to_vec();
        let merged = self.merge(&view, &names);
        self.metrics.compactions.with(&[if merged.is_ok() { "ok" } else { "failed" }]).inc();
        self.metrics.compaction_seconds.observe(started.elapsed().as_secs_f64());
        self.show_blocks();
        merged.map(|()| true)
    }

    fn choose(&self, view: &View) -> Choice {
        let blocks = view.blocks.iter().map(|block| {
            let candidate = Candidate {
                level: block.meta.level,
                samples: block.meta.all_samples(),
                min_ms: block.meta.min_time_ms,
                max_ms: block.meta.max_time_ms,
                is_damaged: block.is_damaged(),
            };
            (block.name(), candidate)
        });
        let damaged = view.damaged.iter().map(|damaged| {
            let MillisRange { min_ms, max_ms } = damaged.range;
            (damaged.name, Candidate { level: damaged.name.level, samples: 0, min_ms, max_ms, is_damaged: true })
        });
        let mut all: Vec<(BlockName, Candidate)> = blocks.chain(damaged).collect();
        all.sort_by_key(|(name, _)| *name);
        let candidates: Vec<Candidate> = all.into_iter().map(|(_, candidate)| candidate).collect();
        let span_ms_max = self.options.retention.map(|retention| millis(retention) / RETENTION_PARTS);
        compaction::choose(&candidates, Bounds { samples_max: self.options.block_rows_max, span_ms_max })
    }

    /// Writes neighbours, or one block whose samples are deleted in part, as one block; for who holds `merging`.
    pub(crate) fn merge(&self, view: &View, names: &[BlockName]) -> Result<()> {
        let blocks: Vec<&Arc<Block>> = view.blocks.iter().filter(|block| names.contains(&block.name())).collect();
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(()) };
        let level = blocks.iter().map(|block| block.meta.level).max().unwrap_or(0) + 1;
        let new = NewBlock {
            name: BlockName { first: first.meta.first_sequence, last: last.meta.last_sequence, level },
            wal_first_needed_segment: last.meta.wal_first_needed_segment,
            is_decimal: blocks.iter().map(|block| block.meta.samples).sum::<u64>() >= self.options.decimal_rows_min,
            row_group_rows: self.options.row_group_rows,
        };
        let mut cursors = Vec::with_capacity(blocks.len());
        for block in &blocks {
            let deleted = view.tombstones.of(block.name());
            cursors.push(BlockCursor::new(block, deleted).inspect_err(|error| self.note_damage(block, error))?);
        }
        let mut writer = BlockWriter::create(&self.dir, new, &self.options.faults)?;
        let mut may_flush = true;
        let mut check = || self.check_merge(&mut may_flush);
        compaction::merge(&mut cursors, &mut writer, &mut check).map_err(|(place, error)| {
            if let Some(cursor) = place.and_then(|place| cursors.get(place)) {
                self.note_damage(cursor.block(), &error);
            }
            error
        })?;
        let deleted = LeftOut {
            samples: cursors.iter().map(|cursor| cursor.deleted_samples).sum(),
            exemplars: cursors.iter().map(|cursor| cursor.deleted_exemplars).sum(),
        };
        drop(cursors);
        match writer.finish()? {
            Some(path) => self.publish_merged(names, &Arc::new(Block::open(&path, new.name)?), deleted)?,
            None => self.publish_nothing(&blocks, deleted)?,
        }
        self.discard_blocks(&blocks);
        Ok(())
    }

    /// Lets a long merge stop for a shutdown, and make room in the head, which fills up meanwhile.
    fn check_merge(&self, may_flush: &mut bool) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if *may_flush
            && self.should_flush()
            && let Err(error) = self.flush()
        {
            tracing::warn!(%error, "the head could not be flushed during a merge");
            *may_flush = false;
        }
        Ok(())
    }

    /// Counts damage that was found by reading, and keeps the block from being merged.
    pub(crate) fn note_damage(&self, block: &Block, error: &Error) {
        if matches!(error, Error::Corrupt { .. }) {
            self.metrics.corruptions.inc();
            if !block.is_damaged() {
                tracing::error!(block = %block.name(), %error, "a block is damaged");
            }
            block.set_damaged();
        }
    }

    /// Removes the blocks whose samples are all older than `retention` before `now_ms`, and counts the samples. Older
    /// samples of other blocks are hidden from queries at once, and go with their block.
    ///
    /// # Errors
    /// I/O; what was removed before stays so.
    pub fn apply_retention(&self, now_ms: i64, retention: Duration) -> Result<()> {
        let _merging = self.merging.lock();
        let oldest_ms = now_ms.saturating_sub(millis(retention));
        let view = self.snapshot();
        for block in view.blocks.iter().filter(|block| block.meta.max_time_ms < oldest_ms) {
            self.change_view(|view| view.blocks.retain(|have| have.name() != block.name()));
            let samples = block.meta.all_samples();
            self.ledger.received(RETENTION_PLACE, Signal::Metrics, samples);
            self.ledger.dropped(RETENTION_PLACE, Signal::Metrics, "too_old", samples);
            self.metrics.retention_samples.inc_by(samples);
            self.metrics.retention_exemplars.inc_by(block.meta.exemplars);
            let _removing = self.removing.write();
            block::discard(&block.dir)?;
        }
        self.show_blocks();
        Ok(())
    }

    /// Refuses appends from now on, and stops a running compaction. Queries go on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wal.close();
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn all_names(view: &View) -> Vec<BlockName> {
    let damaged = view.damaged.iter().map(|damaged| damaged.name);
    let mut names: Vec<BlockName> = view.blocks.iter().map(|block| block.name()).chain(damaged).collect();
    names.sort_unstable();
    names
}
