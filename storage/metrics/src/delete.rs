//! Deletes series by tombstones, and frees their room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::Matcher;
use runtime::Signal;
use storage_api::{Error, MillisRange, Result};
use storage_wal::SegmentId;

use crate::block::{self, Block, BlockName, DamagedBlock};
use crate::remains::holds_deleted;
use crate::store::MetricStore;
use crate::tombstones::{self, SELECTOR_BYTES_MAX, TOMBSTONES_MAX, Tombstone, Tombstones, encode_selectors};
use crate::view::{Source, View};

/// The place in the ledger for samples whose deletion became final.
const DELETE_PLACE: &str = "storage_delete";

/// How many deleted samples and exemplars a merge left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LeftOut {
    pub(crate) samples: u64,
    pub(crate) exemplars: u64,
}

impl MetricStore {
    /// Deletes the samples and exemplars in `range` of the series that pass all matchers of at least one of
    /// `selectors`. On return the delete is on disk, and queries that begin later do not see them any more. Samples that
    /// come later are not deleted, whatever their time is.
    ///
    /// The head is written to a block first if it holds such series, so that what is deleted lies in blocks with known
    /// numbers, and no order of records has to be kept for a replay.
    ///
    /// # Errors
    /// I/O; too many deletes that wait for [`clean_tombstones`](Self::clean_tombstones); selectors over a limit.
    pub fn delete_series(&self, selectors: &[Vec<Matcher>], range: MillisRange) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if selectors.is_empty() || range.min_ms > range.max_ms {
            return Ok(());
        }
        let mut bytes = Vec::new();
        encode_selectors(selectors, &mut bytes);
        if bytes.len() > SELECTOR_BYTES_MAX {
            let size = bytes.len();
            return Err(Error::Invalid(format!("selectors of {size} bytes, the limit is {SELECTOR_BYTES_MAX}")));
        }
        let _deleting = self.deleting.lock();
        if self.heads_hold(selectors, range)? {
            self.flush()?;
        }
        let last_sequence = self.last_sequence();
        let view = self.snapshot();
        let list = view.tombstones.with(Tombstone { last_sequence, range, selectors: selectors.to_vec() });
        let next = view.tombstones.next(list, &view.blocks)?;
        let needed = next.needed(&view.damaged);
        if needed.len() > TOMBSTONES_MAX {
            let (used, limit) = (needed.len() as u64, TOMBSTONES_MAX as u64);
            return Err(Error::Overloaded {
                what: "the list of tombstones (clean_tombstones empties it)",
                used,
                limit,
            });
        }
        let next = next.next(needed, &view.blocks)?;
        self.set_tombstones(&view, next)
    }

    /// Says whether a head may have samples that are meant.
    fn heads_hold(&self, selectors: &[Vec<Matcher>], range: MillisRange) -> Result<bool> {
        let mut any = false;
        for source in self.snapshot().sources() {
            if let Source::Head(head) = source {
                head.each_shard(selectors, range, &mut |_, found| {
                    any |= !found.is_empty();
                    Ok(())
                })?;
                head.each_exemplars(selectors, range, &mut |_, _| {
                    any = true;
                    Ok(())
                })?;
            }
        }
        Ok(any)
    }

    /// Writes a list of tombstones and shows it to queries; for who holds `deleting`.
    fn set_tombstones(&self, view: &View, next: Tombstones) -> Result<()> {
        let (before, after) = (view.tombstones.list(), next.list());
        if before.len() == after.len() && before.iter().zip(after).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return Ok(());
        }
        tombstones::store(&self.dir, after, &self.options.faults)?;
        self.change_view(|view| view.tombstones = Arc::new(next));
        self.show_tombstones();
        Ok(())
    }

    pub(crate) fn show_tombstones(&self) {
        self.metrics.tombstones.set(self.snapshot().tombstones.list().len() as f64);
    }

    /// Writes the blocks anew that hold deleted samples, and forgets the deletes. A block of which a delete only might
    /// have meant something, going by its series' first and last times, is read, but not written.
    ///
    /// # Errors
    /// The first failure; the other blocks are written all the same, and the next call goes on.
    pub fn clean_tombstones(&self) -> Result<()> {
        let _merging = self.merging.lock();
        let view = self.snapshot();
        let mut first = Ok(());
        for block in &view.blocks {
            let deleted = view.tombstones.of(block.name()).filter(|_| !block.is_damaged());
            // What cannot be read is not written either: the merge tells why.
            if deleted.is_some_and(|deleted| holds_deleted(block, deleted).unwrap_or(true)) {
                let written = self.merge(&view, &[block.name()]);
                self.metrics.compactions.with(&[if written.is_ok() { "ok" } else { "failed" }]).inc();
                first = first.and(written);
            }
        }
        self.show_blocks();
        first?;
        let _deleting = self.deleting.lock();
        let now = self.snapshot();
        let mut damaged = now.damaged.clone();
        damaged.extend(now.blocks.iter().filter(|block| block.is_damaged()).map(|block| DamagedBlock {
            name: block.name(),
            range: block.meta.range(),
            reason: String::new(),
        }));
        let left = now.tombstones.without(view.tombstones.list(), &damaged);
        self.set_tombstones(&now, now.tombstones.next(left, &now.blocks)?)
    }

    /// Puts `merged` in the place of `names`; for who holds `merging`. `deleted` samples were left out.
    pub(crate) fn publish_merged(&self, names: &[BlockName], merged: &Arc<Block>, deleted: LeftOut) -> Result<()> {
        let _deleting = self.deleting.lock();
        let now = self.snapshot();
        let kept = now.blocks.iter().filter(|block| !names.contains(&block.name()));
        let list = now.tombstones.list().to_vec();
        let tombstones = now.tombstones.next(list, kept.chain([merged]))?;
        self.change_view(|view| {
            let place = view.blocks.iter().position(|block| names.contains(&block.name()));
            view.blocks.retain(|block| !names.contains(&block.name()));
            view.blocks.insert(place.unwrap_or(view.blocks.len()).min(view.blocks.len()), Arc::clone(merged));
            view.tombstones = Arc::new(tombstones);
        });
        self.count_deleted(deleted);
        Ok(())
    }

    /// Removes blocks of which nothing is left; for who holds `merging`.
    pub(crate) fn publish_nothing(&self, blocks: &[&Arc<Block>], deleted: LeftOut) -> Result<()> {
        // The blocks told which segments are not needed: none may be left that a replay would bring back.
        let needed = blocks.iter().map(|block| block.meta.wal_first_needed_segment).max().unwrap_or(0);
        self.wal.remove_before(SegmentId(needed)).map_err(crate::error::wal)?;
        self.change_view(|view| {
            view.blocks.retain(|have| !blocks.iter().any(|block| block.name() == have.name()));
        });
        self.count_deleted(deleted);
        Ok(())
    }

    fn count_deleted(&self, LeftOut { samples, exemplars }: LeftOut) {
        self.metrics.deleted_exemplars.inc_by(exemplars);
        if samples > 0 {
            self.ledger.received(DELETE_PLACE, Signal::Metrics, samples);
            self.ledger.dropped(DELETE_PLACE, Signal::Metrics, "deleted", samples);
            self.metrics.deleted_samples.inc_by(samples);
        }
    }

    /// Removes the folders of blocks that another one stands for, or of which nothing is left, then forgets the deletes
    /// that mean nothing any more. Failures are told in the log: the next start does it.
    pub(crate) fn discard_blocks(&self, blocks: &[&Arc<Block>]) {
        let mut all_gone = true;
        for block in blocks {
            let _removing = self.removing.write();
            if let Err(error) = block::discard(&block.dir) {
                tracing::warn!(%error, "a merged block could not be removed, the next start will do it");
                all_gone = false;
            }
        }
        if !all_gone || self.snapshot().tombstones.list().is_empty() {
            return;
        }
        let _deleting = self.deleting.lock();
        let view = self.snapshot();
        // The blocks that are gone must not count.
        let now = view.tombstones.next(view.tombstones.list().to_vec(), &view.blocks);
        let next = now.and_then(|now| now.next(now.needed(&view.damaged), &view.blocks));
        if let Err(error) = next.and_then(|next| self.set_tombstones(&view, next)) {
            tracing::warn!(%error, "deletes that are done could not be forgotten");
        }
    }
}
