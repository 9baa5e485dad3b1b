//! Writes the head to a block, and drops blocks that are too old.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::Signal;
use storage_api::Result;

use crate::LogStore;
use crate::block::{Block, BlockWriter, Sequence, WriterOptions, remove_block, remove_dir, rename, sync_dir};
use crate::codec::encode_checkpoint;
use crate::compaction::FINAL_ROWS;
use crate::head::Head;
use crate::retry::Remembered;
use crate::store::{Frozen, wal_error};

/// Compression of a small block, which is written again before long.
const SMALL_ZSTD_LEVEL: i32 = 1;
/// Compression of a block that stays: the first level that is worth its time, half a second per million lines for 2.5 bytes a
/// line; 6 takes as much again for one byte more.
const FINAL_ZSTD_LEVEL: i32 = 5;

/// Returns how a block of so many rows is compressed.
pub(crate) fn seal_level(rows: u64) -> i32 {
    if rows >= FINAL_ROWS { FINAL_ZSTD_LEVEL } else { SMALL_ZSTD_LEVEL }
}

impl LogStore {
    /// Writes all that is in memory to a block. Blocks meanwhile; appends and queries go on.
    ///
    /// # Errors
    /// When the block cannot be written, e.g. on a full disk. The records stay in memory and in the write-ahead log, and
    /// the next flush tries again.
    pub fn flush(&self) -> Result<()> {
        self.flush_known().map(drop)
    }

    /// Flushes, and returns the batches that were remembered when the log was cut: what they held is in blocks.
    pub(crate) fn flush_known(&self) -> Result<Vec<Remembered>> {
        let mut next_sequence = self.work.lock();
        self.flush_and_count(&mut next_sequence)
    }

    /// Flushes for who holds `work`.
    pub(crate) fn flush_and_count(&self, next_sequence: &mut u64) -> Result<Vec<Remembered>> {
        let result = self.flush_locked(next_sequence);
        if result.is_err() {
            self.metrics.flush_failures.inc();
        }
        self.room.flushed(result.is_err());
        self.update_gauges();
        result
    }

    fn flush_locked(&self, next_sequence: &mut u64) -> Result<Vec<Remembered>> {
        // What an earlier flush could not write goes first.
        self.write_frozen(next_sequence)?;
        let known = self.freeze()?;
        self.write_frozen(next_sequence)?;
        Ok(known)
    }

    /// Cuts the log and starts a new head, unless the old one is empty.
    fn freeze(&self) -> Result<Vec<Remembered>> {
        let _gate = self.gate.write();
        let recent = self.recent.snapshot();
        if self.state.read().head.is_empty() {
            return Ok(recent);
        }
        let wal_before = self.wal.cut().map_err(wal_error)?;
        self.wal.append(&encode_checkpoint(&recent)).map_err(wal_error)?;
        let mut state = self.state.write();
        let head = std::mem::replace(&mut state.head, Arc::new(Head::owning()));
        state.frozen = Some(Frozen { head, wal_before });
        Ok(recent)
    }

    /// Writes down that these batches are not remembered any more; who starts from this log takes them as new ones.
    pub(crate) fn log_forgotten(&self, forgotten: &HashSet<u128>) -> Result<()> {
        let _gate = self.gate.write();
        let mut left = self.recent.snapshot();
        left.retain(|one| !forgotten.contains(&one.hash));
        self.wal.append(&encode_checkpoint(&left)).map_err(wal_error)?;
        Ok(())
    }

    fn write_frozen(&self, next_sequence: &mut u64) -> Result<()> {
        let Some(frozen) = self.state.read().frozen.clone() else { return Ok(()) };
        let started = Instant::now();
        let sequence = Sequence::new(*next_sequence, *next_sequence);
        let zstd_level = seal_level(frozen.head.stats().records);
        let options = WriterOptions { sequence, wal_before: frozen.wal_before.0, level: 0, zstd_level };
        let block = self.build_block(options, |writer| {
            frozen.head.for_each_sorted(writer, BlockWriter::start_stream, BlockWriter::push)
        })?;
        *next_sequence += 1;
        {
            let mut state = self.state.write();
            state.blocks.push(block);
            state.frozen = None;
        }
        self.metrics.flushes.inc();
        self.metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
        // The block says which segments it covers: those that stay now are removed at the next flush or open.
        if let Err(error) = self.wal.remove_before(frozen.wal_before) {
            tracing::warn!(%error, "segments of the write-ahead log that are no longer needed could not be removed");
        }
        Ok(())
    }

    /// Writes a block under a temporary name, puts it in place and opens it. What a failure leaves is removed.
    pub(crate) fn build_block(
        &self,
        options: WriterOptions,
        fill: impl FnOnce(&mut BlockWriter) -> Result<()>,
    ) -> Result<Arc<Block>> {
        let temporary = self.dir.join(format!("tmp-{}", options.sequence));
        remove_dir(&temporary)?;
        let placed = self.build_in(&temporary, options, fill);
        if placed.is_err()
            && let Err(error) = remove_dir(&temporary)
        {
            tracing::warn!(%error, "a half-written block could not be removed, the next open does");
        }
        placed
    }

    fn build_in(
        &self,
        temporary: &Path,
        options: WriterOptions,
        fill: impl FnOnce(&mut BlockWriter) -> Result<()>,
    ) -> Result<Arc<Block>> {
        let mut writer = BlockWriter::create(temporary, options)?;
        fill(&mut writer)?;
        writer.finish()?;
        let path = self.dir.join(options.sequence.to_string());
        rename(temporary, &path)?;
        let opened = sync_dir(&self.dir).and_then(|()| Block::open(&path, &self.cache));
        if opened.is_err()
            && let Err(error) = remove_block(&path)
        {
            tracing::warn!(%error, "a block that cannot be read back could not be removed");
        }
        opened.map(Arc::new)
    }

    /// Drops the blocks whose rows are all older than `retention`, and counts their records. Younger blocks hide the
    /// rows that are too old.
    ///
    /// # Errors
    /// I/O.
    pub fn apply_retention(&self, now_ms: i64, retention: Duration) -> Result<()> {
        let _work = self.work.lock();
        let keep_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let cutoff = now_ms.saturating_sub(keep_ms).saturating_mul(1_000_000);
        let mut state = self.state.write();
        let (keep, drop): (Vec<_>, Vec<_>) =
            state.blocks.drain(..).partition(|block| block.meta().max_timestamp >= cutoff);
        state.blocks = keep;
        let deletes = Arc::clone(&state.deletes);
        std::mem::drop(state);
        for block in drop {
            let meta = block.meta();
            // Those that were deleted are accounted for already.
            let expired = meta.rows.saturating_sub(deletes.rows_of(meta.sequence));
            self.ledger.dropped("storage_retention", Signal::Logs, "expired", expired);
            self.metrics.expired_blocks.inc();
            block.remove_on_drop();
        }
        self.update_gauges();
        Ok(())
    }
}
