//! Taking requests, telling of them, taking them back, and removing from disk what they mean.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::Timestamp;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use runtime::Signal;
use storage_api::{Error, LogAdmin, LogDelete, LogDeleteRequest, QueryContext, Result, Undelete};

use super::{BlockRows, Deletes, Request, file};
use crate::LogStore;
use crate::block::{Block, Sequence};
use crate::codec::encode_stream;
use crate::part::BlockPart;
use crate::query::block_parts;
use crate::retry::{Remembered, stream_bit};
use crate::store::State;

/// Most requests whose rows still lie in blocks: each costs a set of rows in memory.
const PENDING_MAX: usize = 10_000;
/// Longest query of a request, in bytes.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// How long a request can be taken back before its rows are removed for its sake. A compaction may do it earlier.
const PENDING_NS: i64 = 5 * 60 * 1_000_000_000;

/// What is meant.
#[derive(Debug, Default)]
struct Found {
    /// The rows, by block.
    rows: HashMap<Sequence, RoaringBitmap>,
    /// The first and the last of their times.
    times: Option<(i64, i64)>,
    /// The bits of their streams.
    streams: u64,
}

impl LogAdmin for LogStore {
    fn delete(&self, delete: &LogDelete, context: &QueryContext) -> Result<LogDeleteRequest> {
        if delete.query.len() > QUERY_BYTES_MAX {
            let got = delete.query.len();
            return Err(Error::Invalid(format!("a query of {got} bytes, the limit is {QUERY_BYTES_MAX}")));
        }
        let known = self.flush_known()?;
        let last = self.state.read().blocks.iter().map(|block| block.meta().sequence.last).max().unwrap_or(0);
        let mut found = Found::default();
        loop {
            // It tells of blocks that are set aside: what is in them is not deleted.
            let state = self.snapshot(context);
            self.look(delete, &state, last, &mut found, context)?;
            let _work = self.work.lock();
            let state = self.state.read().clone();
            // A merge may have made a block meanwhile.
            if meant(&state, last).all(|block| found.rows.contains_key(&block.meta().sequence)) {
                // What is sent again after a delete is wanted again; but a batch of which nothing was deleted may still be
                // on its second way, after an answer that got lost.
                let is_touched =
                    |one: &&Remembered| found.times.is_some_and(|times| one.overlaps(times, found.streams));
                let touched: HashSet<u128> = known.iter().filter(is_touched).map(|one| one.hash).collect();
                if !touched.is_empty() {
                    self.log_forgotten(&touched)?;
                }
                let answer = self.commit(delete, &state, found.rows)?;
                self.recent.forget(&touched);
                return Ok(answer);
            }
        }
    }

    fn deletes(&self) -> Vec<LogDeleteRequest> {
        let state = self.state.read().clone();
        state.deletes.content.requests.iter().map(|request| told(request, &state)).collect()
    }

    fn undelete(&self, id: &str, force: bool) -> Result<Undelete> {
        let _work = self.work.lock();
        let state = self.state.read().clone();
        let requests = &state.deletes.content.requests;
        let Some(request) = requests.iter().find(|request| shown(request.id) == id) else {
            return Ok(Undelete::NotFound);
        };
        let told = told(request, &state);
        if told.blocks_left == 0 {
            return Ok(Undelete::Processed);
        }
        if told.blocks_left < told.blocks && !force {
            return Ok(Undelete::PartlyProcessed);
        }
        let others = requests.iter().filter(|other| other.id != request.id).cloned().collect();
        let before: u64 = state.blocks.iter().map(|block| state.deletes.rows_of(block.meta().sequence)).sum();
        let deletes = state.deletes.with(others, &state.blocks, &self.dir);
        let after: u64 = state.blocks.iter().map(|block| deletes.rows_of(block.meta().sequence)).sum();
        self.replace(deletes)?;
        let restored = before.saturating_sub(after);
        self.metrics.undeleted.inc_by(restored);
        Ok(Undelete::Done(restored))
    }

    fn clean_deletes(&self) -> Result<()> {
        while self.clean_one(i64::MAX)? {}
        Ok(())
    }
}

impl LogStore {
    /// Removes deleted rows of one block whose request is old enough that it is not expected to be taken back; says whether
    /// there was one.
    ///
    /// # Errors
    /// As [`compact_once`](Self::compact_once).
    pub(crate) fn clean_due(&self) -> Result<bool> {
        self.clean_one(self.clock.now_nanos().saturating_sub(PENDING_NS))
    }

    fn clean_one(&self, created_before: i64) -> Result<bool> {
        let mut next_sequence = self.work.lock();
        let state = self.state.read().clone();
        let barred = self.barred.lock().clone();
        let is_due = |block: &&Arc<Block>| {
            let sequence = block.meta().sequence;
            let means = |request: &Arc<Request>| request.left.iter().any(|left| left.sequence == sequence);
            let mut due = state.deletes.content.requests.iter().filter(|request| request.created < created_before);
            !barred.contains(&sequence) && state.deletes.rows_of(sequence) > 0 && due.any(means)
        };
        let Some(block) = state.blocks.iter().find(is_due) else { return Ok(false) };
        let sequence = block.meta().sequence;
        match self.replace_blocks(sequence.rewritten(), vec![Arc::clone(block)], &mut next_sequence) {
            // It is left alone from now on.
            Err(Error::Corrupt { .. }) if self.barred.lock().contains(&sequence) => Ok(true),
            result => result.map(|()| true),
        }
    }

    /// Looks for rows in the blocks that were not looked at yet.
    fn look(
        &self,
        delete: &LogDelete,
        state: &State,
        last: u64,
        found: &mut Found,
        context: &QueryContext,
    ) -> Result<()> {
        // What retention hides is deleted as well: a longer one would show it again.
        let range = delete.select.range;
        for block in meant(state, last) {
            let sequence = block.meta().sequence;
            if found.rows.contains_key(&sequence) {
                continue;
            }
            let mut rows = RoaringBitmap::new();
            if !range.is_empty() && block.overlaps(range) {
                let deleted = state.deletes.of(sequence);
                let parts = block_parts(block, &delete.select, range, deleted);
                let passing = |part: &BlockPart| part.passing(delete.test.as_deref(), context);
                let passing: Vec<Vec<(u32, Timestamp)>> =
                    self.cpu.install(|| parts.par_iter().map(passing).collect::<Result<_>>())?;
                for (part, passing) in parts.iter().zip(passing).filter(|(_, passing)| !passing.is_empty()) {
                    found.streams |= stream_bit(&encode_stream(&part.stream));
                    for (row, at) in passing {
                        rows.insert(row);
                        let (first, last) = found.times.unwrap_or((at.0, at.0));
                        found.times = Some((first.min(at.0), last.max(at.0)));
                    }
                }
            }
            found.rows.insert(sequence, rows);
        }
        Ok(())
    }

    /// Makes the delete known to all, durably. Whoever calls it holds `work`.
    fn commit(
        &self,
        delete: &LogDelete,
        state: &State,
        mut found: HashMap<Sequence, RoaringBitmap>,
    ) -> Result<LogDeleteRequest> {
        let requests = &state.deletes.content.requests;
        if requests.iter().filter(|request| !request.left.is_empty()).count() >= PENDING_MAX {
            return Err(Error::Invalid(format!(
                "{PENDING_MAX} deletes wait for their rows to be removed, no more fit"
            )));
        }
        for (sequence, rows) in &mut found {
            // Another delete may have come meanwhile.
            if let Some(deleted) = state.deletes.of(*sequence) {
                *rows -= &**deleted;
            }
        }
        let is_left = |(sequence, rows): &(Sequence, RoaringBitmap)| {
            !rows.is_empty() && state.blocks.iter().any(|block| block.meta().sequence == *sequence)
        };
        let rows = |(sequence, rows)| BlockRows { sequence, rows: Arc::new(rows) };
        let mut left: Vec<BlockRows> = found.into_iter().filter(is_left).map(rows).collect();
        left.sort_by_key(|left| left.sequence);
        let created = self.clock.now_nanos();
        let request = Request {
            id: new_id(&delete.query, created, requests),
            query: delete.query.clone(),
            start: delete.select.range.start.0,
            end: delete.select.range.end.0.saturating_sub(1),
            created,
            records: left.iter().map(|left| left.rows.len()).sum(),
            blocks: left.len() as u64,
            left,
        };
        let mut requests = requests.clone();
        let answer = told(&request, state);
        requests.push(Arc::new(request));
        self.replace(state.deletes.with(requests, &state.blocks, &self.dir))?;
        self.ledger.dropped("storage_delete", Signal::Logs, "deleted", answer.records);
        tracing::info!(id = answer.id, query = answer.query, records = answer.records, "log lines are deleted");
        Ok(answer)
    }

    fn replace(&self, deletes: Deletes) -> Result<()> {
        if let Err(error) = file::store(&self.dir, &deletes.content) {
            // It may be in place already, and not durably: what is not acknowledged shall not come true at the next start.
            let before = Arc::clone(&self.state.read().deletes);
            if let Err(error) = file::store(&self.dir, &before.content) {
                tracing::warn!(%error, "the list of deletes could not be put back as it was");
            }
            return Err(error);
        }
        self.state.write().deletes = Arc::new(deletes);
        self.update_gauges();
        Ok(())
    }

    /// Forgets what is said of blocks that are gone. Whoever calls it holds `work`.
    pub(crate) fn forget_done_deletes(&self) {
        let state = self.state.read().clone();
        let deletes = state.deletes.with(state.deletes.content.requests.clone(), &state.blocks, &self.dir);
        if deletes.content.requests != state.deletes.content.requests
            && let Err(error) = self.replace(deletes)
        {
            // What is said of a block that is gone does no harm.
            tracing::warn!(%error, "the list of deletes could not be shortened");
        }
    }
}

/// Returns the blocks that a delete means which came when `last` was the greatest number.
fn meant(state: &State, last: u64) -> impl Iterator<Item = &Arc<Block>> {
    state.blocks.iter().filter(move |block| block.meta().sequence.first <= last)
}

fn shown(id: u32) -> String {
    format!("{id:08x}")
}

fn told(request: &Request, state: &State) -> LogDeleteRequest {
    let is_there = |left: &&BlockRows| state.blocks.iter().any(|block| block.meta().sequence == left.sequence);
    LogDeleteRequest {
        id: shown(request.id),
        query: request.query.clone(),
        start: Timestamp(request.start),
        end: Timestamp(request.end),
        created: Timestamp(request.created),
        records: request.records,
        blocks: request.blocks,
        blocks_left: request.left.iter().filter(is_there).count() as u64,
    }
}

/// Returns an id that no request has.
fn new_id(query: &str, created: i64, requests: &[Arc<Request>]) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(query.as_bytes(), created.cast_unsigned());
    let mut id = u32::try_from(hash >> 32).unwrap_or_default();
    while requests.iter().any(|request| request.id == id) {
        id = id.wrapping_add(1);
    }
    id
}
