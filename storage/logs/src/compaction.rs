//! Merges small neighbouring blocks: the choice, apart from the doing.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Labels;
use roaring::RoaringBitmap;
use storage_api::{Error, Result};

use crate::LogStore;
use crate::block::{Block, BlockMeta, BlockWriter, Columns, Detail, Sequence, WriterOptions};
use crate::deletes::Deletes;
use crate::flush::seal_level;
use crate::telemetry::Damage;

/// Blocks of one tier that are merged together: a row is rewritten once per tier.
const FAN_IN: usize = 4;
/// Rows of the first tier; each further one has [`FAN_IN`] times as many.
const TIER_ROWS: u64 = 16 << 10;
/// A block from this many rows on stays as it is: writing it again would cost as much as all that was done for it before,
/// and save one byte in twenty.
pub(crate) const FINAL_ROWS: u64 = 256 << 10;
/// Blocks that are merged at most hold this part of the retention time, so that dropping whole blocks is near enough.
const RETENTION_PARTS: u32 = 10;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    DoNothing,
    /// Merge these neighbours.
    Merge(Sequence),
}

/// What a choice is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) sequence: Sequence,
    pub(crate) rows: u64,
    pub(crate) min_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// It could not be read before.
    pub(crate) is_barred: bool,
}

fn tier(rows: u64) -> u32 {
    (rows / TIER_ROWS).checked_ilog(FAN_IN as u64).map_or(0, |tier| tier + 1)
}

/// Chooses neighbours to merge; `blocks` are by sequence. A run of [`FAN_IN`] blocks of a tier or below is merged, the
/// lowest tier first.
pub(crate) fn choose(blocks: &[Candidate], rows_max: u64, span_ns_max: i64) -> Choice {
    let tier_max = blocks.iter().map(|block| tier(block.rows)).max().unwrap_or(0);
    for level in 0..=tier_max {
        let mut start = 0;
        while start < blocks.len() {
            let run = longest_run(blocks.get(start..).unwrap_or_default(), level, rows_max, span_ns_max);
            let rows: u64 = run.iter().map(|block| block.rows).sum();
            let largest = run.iter().map(|block| block.rows).max().unwrap_or(0);
            // A large block is not written again for the sake of a few small ones.
            let is_worth_it = run.len() >= FAN_IN && largest <= rows - largest;
            if let (true, Some(first), Some(last)) = (is_worth_it, run.first(), run.last()) {
                return Choice::Merge(Sequence::new(first.sequence.first, last.sequence.last));
            }
            start += 1;
        }
    }
    Choice::DoNothing
}

/// Returns the blocks from the first one on that may become one block.
fn longest_run(blocks: &[Candidate], level: u32, rows_max: u64, span_ns_max: i64) -> &[Candidate] {
    let (mut rows, mut min, mut max, mut widest) = (0_u64, i64::MAX, i64::MIN, span_ns_max);
    let mut length = 0;
    for block in blocks {
        rows += block.rows;
        min = min.min(block.min_timestamp);
        max = max.max(block.max_timestamp);
        widest = widest.max(block.max_timestamp.saturating_sub(block.min_timestamp));
        if block.is_barred
            || block.rows >= FINAL_ROWS
            || tier(block.rows) > level
            || rows > rows_max
            || max.saturating_sub(min) > widest
        {
            break;
        }
        length += 1;
    }
    blocks.get(..length).unwrap_or_default()
}

fn candidate(meta: &BlockMeta, barred: &HashSet<Sequence>) -> Candidate {
    Candidate {
        sequence: meta.sequence,
        rows: meta.rows,
        min_timestamp: meta.min_timestamp,
        max_timestamp: meta.max_timestamp,
        is_barred: barred.contains(&meta.sequence),
    }
}

impl LogStore {
    /// Merges one run of small neighbouring blocks, if there is one; says whether there was. Blocks meanwhile; memory is
    /// bounded by a page of each block. A flush that becomes due is done in between, so that appends find room.
    ///
    /// # Errors
    /// When the merged block cannot be written; everything is as it was then. A block that cannot be read is counted, and
    /// left alone from then on.
    pub fn compact_once(&self) -> Result<bool> {
        Ok(self.merge_once()? || self.clean_due()?)
    }

    fn merge_once(&self) -> Result<bool> {
        let mut next_sequence = self.work.lock();
        let blocks = self.state.read().blocks.clone();
        let barred = self.barred.lock().clone();
        let candidates: Vec<Candidate> = blocks.iter().map(|block| candidate(block.meta(), &barred)).collect();
        let span = self.options.retention.map_or(Duration::MAX, |retention| retention / RETENTION_PARTS);
        let span_ns = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let rows_max = self.options.block_rows_max.min(u64::from(u32::MAX));
        let Choice::Merge(sequence) = choose(&candidates, rows_max, span_ns) else { return Ok(false) };
        let inputs: Vec<Arc<Block>> =
            blocks.into_iter().filter(|block| sequence.covers(block.meta().sequence)).collect();
        self.replace_blocks(sequence, inputs, &mut next_sequence)?;
        Ok(true)
    }

    /// Writes blocks anew as one, without their deleted rows; with nothing left they only go. For who holds `work`.
    pub(crate) fn replace_blocks(
        &self,
        sequence: Sequence,
        inputs: Vec<Arc<Block>>,
        next_sequence: &mut u64,
    ) -> Result<()> {
        let started = Instant::now();
        let deletes = Arc::clone(&self.state.read().deletes);
        let deleted: u64 = inputs.iter().map(|block| deletes.rows_of(block.meta().sequence)).sum();
        let is_empty = inputs.iter().map(|block| block.meta().rows).sum::<u64>() <= deleted;
        let merged = if is_empty { Ok(None) } else { self.merge(sequence, &inputs, next_sequence, &deletes).map(Some) };
        match merged {
            Ok(block) => {
                let mut state = self.state.write();
                state.blocks.retain(|block| !sequence.covers(block.meta().sequence));
                let at = state.blocks.partition_point(|have| have.meta().sequence < sequence);
                if let Some(block) = block {
                    state.blocks.insert(at, block);
                }
                drop(state);
                inputs.iter().for_each(|block| block.remove_on_drop());
                drop(inputs);
                self.metrics.compactions.inc();
                self.metrics.compaction_seconds.observe(started.elapsed().as_secs_f64());
                if deleted > 0 {
                    self.metrics.deleted.inc_by(deleted);
                    self.forget_done_deletes();
                }
                self.update_gauges();
                Ok(())
            }
            Err(error) => {
                self.metrics.compaction_failures.inc();
                Err(error)
            }
        }
    }

    fn merge(
        &self,
        sequence: Sequence,
        inputs: &[Arc<Block>],
        next_sequence: &mut u64,
        deletes: &Deletes,
    ) -> Result<Arc<Block>> {
        let metas = || inputs.iter().map(|block| block.meta());
        let rows: u64 = metas().map(|meta| meta.rows).sum();
        let options = WriterOptions {
            sequence,
            wal_before: metas().map(|meta| meta.wal_before).max().unwrap_or(0),
            level: metas().map(|meta| meta.level).max().unwrap_or(0) + 1,
            zstd_level: seal_level(rows),
        };
        self.build_block(options, |writer| {
            // Streams have one order in all blocks: each page is decoded once, whichever streams it holds.
            let mut last_pages: Vec<LastPage> = inputs.iter().map(|_| None).collect();
            for (labels, places) in streams_of(inputs) {
                writer.start_stream(&labels);
                let mut cursors = Vec::new();
                for (input, first, rows) in places {
                    let Some(block) = inputs.get(input) else { continue };
                    let last = last_pages.get_mut(input).and_then(Option::take);
                    let block = Arc::clone(block);
                    let deleted = deletes.of(block.meta().sequence).cloned();
                    cursors.push(Cursor { block, input, next: first, end: first + rows, deleted, last, page: None });
                }
                self.merge_stream(writer, &mut cursors, next_sequence)?;
                for cursor in cursors {
                    if let Some(last) = last_pages.get_mut(cursor.input) {
                        *last = cursor.last;
                    }
                }
            }
            Ok(())
        })
    }

    /// Writes the rows of a stream by timestamp; those of one timestamp in the order of their blocks.
    fn merge_stream(&self, writer: &mut BlockWriter, cursors: &mut [Cursor], next_sequence: &mut u64) -> Result<()> {
        loop {
            let mut first: Option<(usize, i64)> = None;
            let mut second: Option<(i64, usize)> = None;
            for (i, cursor) in cursors.iter_mut().enumerate() {
                let Some(timestamp) = self.peek(cursor)? else { continue };
                match first {
                    Some((_, at)) if timestamp >= at => {
                        second = Some(second.map_or((timestamp, i), |other| other.min((timestamp, i))));
                    }
                    _ => {
                        second = first.map(|(i, at)| (at, i)).into_iter().chain(second).min();
                        first = Some((i, timestamp));
                    }
                }
            }
            let Some((index, _)) = first else { return Ok(()) };
            if let Some(cursor) = cursors.get_mut(index) {
                self.copy_run(writer, cursor, index, second)?;
                if cursor.page.is_none() && self.should_flush() {
                    self.flush_and_count(next_sequence)?;
                }
            }
        }
    }

    /// Copies the rows of the open page that come before the next one of any other cursor.
    fn copy_run(
        &self,
        writer: &mut BlockWriter,
        cursor: &mut Cursor,
        index: usize,
        limit: Option<(i64, usize)>,
    ) -> Result<()> {
        let Some((columns, base, rows)) = &cursor.page else { return Ok(()) };
        let open = columns.open().map_err(|error| cursor.malformed(error.0))?;
        while cursor.next < rows.end {
            if cursor.deleted.as_ref().is_some_and(|deleted| deleted.contains(cursor.next)) {
                cursor.next += 1;
                continue;
            }
            let row = open.row(base + (cursor.next - rows.start) as usize);
            if limit.is_some_and(|limit| (row.timestamp, index) > limit) {
                return Ok(());
            }
            writer.push(&row)?;
            cursor.next += 1;
        }
        cursor.page = None;
        Ok(())
    }

    /// Returns the timestamp of the cursor's next row, and opens its page.
    fn peek(&self, cursor: &mut Cursor) -> Result<Option<i64>> {
        if cursor.next >= cursor.end {
            return Ok(None);
        }
        if cursor.page.is_none() {
            let catalog = cursor.block.catalog();
            let number = catalog.page_of(cursor.next);
            let (start, end) = (catalog.pages.get(number).map_or(0, |page| page.first_row), catalog.page_end(number));
            let known = cursor.last.take().filter(|(known, _)| *known == number);
            let columns = match known {
                Some((_, columns)) => Ok(columns),
                None => cursor.block.read(start..end, Detail::All).map(Arc::new),
            };
            match columns {
                Ok(columns) => {
                    cursor.last = Some((number, Arc::clone(&columns)));
                    let rows = cursor.next..end.min(cursor.end);
                    cursor.page = Some((columns, (rows.start - start) as usize, rows));
                }
                Err(error @ Error::Corrupt { .. }) => {
                    cursor.block.note_damage(Damage::Rows, &error);
                    self.barred.lock().insert(cursor.block.meta().sequence);
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        let Some((columns, base, rows)) = &cursor.page else { return Ok(None) };
        let open = columns.open().map_err(|error| cursor.malformed(error.0))?;
        Ok(open.timestamps().get(base + (cursor.next - rows.start) as usize).copied())
    }
}

/// A place in a stream of a block.
struct Cursor {
    block: Arc<Block>,
    /// The block's place among the inputs.
    input: usize,
    next: u32,
    end: u32,
    /// Rows of the block that are left out.
    deleted: Option<Arc<RoaringBitmap>>,
    last: LastPage,
    /// Decoded rows, where in them the first of the range lies, and the range.
    page: Option<(Arc<Columns>, usize, std::ops::Range<u32>)>,
}

impl Cursor {
    fn malformed(&self, expected: &str) -> Error {
        Error::Corrupt { path: self.block.dir().display().to_string(), reason: format!("expected {expected}") }
    }
}

/// The page of a block that was decoded last, by its number.
type LastPage = Option<(usize, Arc<Columns>)>;

/// A stream's rows in a block: the block's place among the inputs, the first row and how many.
type Place = (usize, u32, u32);

/// Returns every stream with its places, in the order of the blocks.
fn streams_of(inputs: &[Arc<Block>]) -> BTreeMap<Labels, Vec<Place>> {
    let mut streams: BTreeMap<Labels, Vec<Place>> = BTreeMap::new();
    for (input, block) in inputs.iter().enumerate() {
        for stream in &block.catalog().streams {
            let places = streams.entry(stream.labels.clone()).or_default();
            places.push((input, stream.first_row, stream.rows));
        }
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(rows: &[u64]) -> Vec<Candidate> {
        let block = |(i, rows): (u64, &u64)| Candidate {
            sequence: Sequence::new(i, i),
            rows: *rows,
            min_timestamp: 0,
            max_timestamp: 10,
            is_barred: false,
        };
        (1..).zip(rows).map(block).collect()
    }

    #[track_caller]
    fn check(rows: &[u64], expected: Option<(u64, u64)>) {
        let expected = expected.map_or(Choice::DoNothing, |(first, last)| Choice::Merge(Sequence::new(first, last)));
        assert_eq!(choose(&blocks(rows), 1 << 20, i64::MAX), expected);
    }

    #[test]
    fn four_small_neighbours_are_merged() {
        check(&[1, 1, 1], None);
        check(&[1, 1, 1, 1, 1], Some((1, 5)));
        check(&[100_000, 1, 1, 1, 1], Some((2, 5)));
    }

    #[test]
    fn large_blocks_wait_for_their_like_and_stay_below_the_limit() {
        check(&[100_000, 1, 1, 1], None);
        check(&[100_000, 100_000, 90_000, 1, 100_000], Some((1, 5)));
        let blocks = blocks(&[100_000; 4]);
        assert_eq!(choose(&blocks, 300_000, i64::MAX), Choice::DoNothing);
    }

    #[test]
    fn a_block_of_final_size_is_not_written_again() {
        check(&[FINAL_ROWS; 5], None);
        check(&[FINAL_ROWS, 1, 1, 1, 1, FINAL_ROWS], Some((2, 5)));
        check(&[FINAL_ROWS - 1; 4], Some((1, 4)));
    }

    #[test]
    fn a_block_that_cannot_be_read_separates_its_neighbours() {
        let mut blocks = blocks(&[1, 1, 1, 1, 1]);
        blocks[2].is_barred = true;
        assert_eq!(choose(&blocks, 1 << 20, i64::MAX), Choice::DoNothing);
    }

    #[test]
    fn a_merged_block_spans_a_part_of_the_retention_only() {
        let mut blocks = blocks(&[1, 1, 1, 1]);
        blocks[3].min_timestamp = 500;
        blocks[3].max_timestamp = 510;
        assert_eq!(choose(&blocks, 1 << 20, 100), Choice::DoNothing);
        assert!(matches!(choose(&blocks, 1 << 20, 1000), Choice::Merge(_)));
    }
}
