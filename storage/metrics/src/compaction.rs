//! Merges blocks in tiers: decides which, then does it series by series.

mod mixed;

use std::cmp::Ordering;

use model::Labels;
use storage_api::Result;

use crate::block::{BlockCursor, BlockWriter};

/// How many neighbours of about the same level are merged into one.
pub(crate) const FAN_OUT: usize = 4;
/// The most that are merged at a time: each holds a batch of rows in memory.
const MERGED_MAX: usize = 16;

/// Fewer samples in a row from one place are taken one by one.
const STRETCH_MIN: usize = 16;

/// What the decision looks at; one per block, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) level: u32,
    pub(crate) samples: u64,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    /// It cannot be read, and nothing is merged across it.
    pub(crate) is_damaged: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nothing.
    DoNothing,
    /// Merge these neighbours, by their place.
    Merge(std::ops::Range<usize>),
}

/// How far blocks may grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most rows of a merged block.
    pub(crate) samples_max: u64,
    /// Longest time a merged block may cover, so that retention can drop whole blocks.
    pub(crate) span_ms_max: Option<i64>,
}

/// Decides what to merge. Only neighbours are merged: of two samples of a series at one time the later write wins, and
/// that order is the order of the blocks.
pub(crate) fn choose(blocks: &[Candidate], bounds: Bounds) -> Choice {
    let levels = blocks.iter().map(|block| block.level).max().map_or(0, |level| level + 1);
    for level in 0..levels {
        let mut start = 0;
        while start < blocks.len() {
            let run = run_length(blocks.get(start..).unwrap_or_default(), level, bounds);
            let merged = blocks.get(start..start + run).unwrap_or_default();
            // One large block is not written anew for the sake of some small ones.
            let of_level = merged.iter().filter(|block| block.level == level).count();
            if run >= FAN_OUT && of_level >= 2 {
                return Choice::Merge(start..start + run);
            }
            start += 1;
        }
    }
    Choice::DoNothing
}

/// Returns how many blocks from the first on may become one block of a level above `level`.
fn run_length(blocks: &[Candidate], level: u32, bounds: Bounds) -> usize {
    let (mut samples, mut min_ms, mut max_ms) = (0_u64, i64::MAX, i64::MIN);
    let mut all_wide = true;
    let fits = |block: &&Candidate| {
        samples = samples.saturating_add(block.samples);
        min_ms = min_ms.min(block.min_ms);
        max_ms = max_ms.max(block.max_ms);
        let fits =
            |min_ms: i64, max_ms: i64| bounds.span_ms_max.is_none_or(|most| max_ms.saturating_sub(min_ms) <= most);
        // Blocks that are too wide as they are (one stray timestamp is enough) cannot be dropped early in any case; left
        // apart they would grow in number without end.
        all_wide = all_wide && !fits(block.min_ms, block.max_ms);
        let may_grow = fits(min_ms, max_ms) || all_wide;
        !block.is_damaged && block.level <= level && samples <= bounds.samples_max && may_grow
    };
    blocks.iter().take(MERGED_MAX).take_while(fits).count()
}

/// The order of series in a block: metric name first, so that a metric's series are neighbours, then the label set.
pub(crate) fn series_order(a: &Labels, b: &Labels) -> Ordering {
    a.metric_name().cmp(b.metric_name()).then_with(|| a.cmp(b))
}

/// Writes the series of all cursors, which are given from the oldest block to the newest. A failure is given with the
/// place of the cursor it came from, if it came from one.
pub(crate) fn merge(
    cursors: &mut [BlockCursor<'_>],
    writer: &mut BlockWriter,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<(), (Option<usize>, storage_api::Error)> {
    let own = |error| (None, error);
    loop {
        check().map_err(own)?;
        let least =
            cursors.iter().filter_map(|cursor| cursor.labels.as_ref()).min_by(|a, b| series_order(a, b)).cloned();
        let Some(labels) = mixed::least_labels(cursors, least)? else { return Ok(()) };
        let mut places: Vec<usize> =
            (0..cursors.len()).filter(|i| cursors[*i].labels.as_ref() == Some(&labels)).collect();
        writer.begin_series(&labels).map_err(own)?;
        for place in &places {
            cursors[*place].next_batch().map_err(|error| (Some(*place), error))?;
        }
        if places.iter().any(|place| mixed::has_extras(&cursors[*place])) {
            mixed::merge_series(cursors, &places, writer)?;
        } else {
            merge_series(cursors, &mut places, writer)?;
        }
        mixed::merge_exemplars(cursors, &labels, writer)?;
    }
}

/// Where a cursor stands in its batch is kept here, as the batch itself is shared with nobody.
fn merge_series(
    cursors: &mut [BlockCursor<'_>],
    places: &mut Vec<usize>,
    writer: &mut BlockWriter,
) -> Result<(), (Option<usize>, storage_api::Error)> {
    let own = |error| (None, error);
    let mut at = vec![0_usize; cursors.len()];
    let (mut times, mut values) = (Vec::new(), Vec::new());
    let all = places.clone();
    while !places.is_empty() {
        if let [only] = places.as_slice() {
            let cursor = &mut cursors[*only];
            writer.push(&times, &values).map_err(own)?;
            times.clear();
            values.clear();
            writer.push(&cursor.batch.0[at[*only]..], &cursor.batch.1[at[*only]..]).map_err(own)?;
            while cursor.next_batch().map_err(|error| (Some(*only), error))? {
                writer.push(&cursor.batch.0, &cursor.batch.1).map_err(own)?;
            }
            break;
        }
        if let Some((place, until)) = stretch(cursors, places, &at) {
            writer.push(&times, &values).map_err(own)?;
            times.clear();
            values.clear();
            let batch = &cursors[place].batch;
            writer.push(&batch.0[at[place]..until], &batch.1[at[place]..until]).map_err(own)?;
            at[place] = until;
            if until == batch.0.len() {
                cursors[place].next_batch().map_err(|error| (Some(place), error))?;
                at[place] = 0;
            }
            places.retain(|place| !cursors[*place].batch.0.is_empty());
            continue;
        }
        let Some(time) = places.iter().filter_map(|i| cursors[*i].batch.0.get(at[*i])).min().copied() else { break };
        let mut value = None;
        for place in places.iter() {
            let cursor = &mut cursors[*place];
            if cursor.batch.0.get(at[*place]) == Some(&time) {
                // The last one is of the newest block.
                value = cursor.batch.1.get(at[*place]).copied();
                at[*place] += 1;
                if at[*place] == cursor.batch.0.len() {
                    cursor.next_batch().map_err(|error| (Some(*place), error))?;
                    at[*place] = 0;
                }
            }
        }
        times.push(time);
        values.extend(value);
        if times.len() >= 4_096 {
            writer.push(&times, &values).map_err(own)?;
            times.clear();
            values.clear();
        }
        places.retain(|place| !cursors[*place].batch.0.is_empty());
    }
    writer.push(&times, &values).map_err(own)?;
    for place in all {
        cursors[place].next_series().map_err(|error| (Some(place), error))?;
    }
    Ok(())
}

/// Returns the place that alone has many of the next samples, and where in its batch they end: blocks mostly follow each
/// other in time.
fn stretch(cursors: &[BlockCursor<'_>], places: &[usize], at: &[usize]) -> Option<(usize, usize)> {
    let next = |place: usize| cursors[place].batch.0.get(at[place]).copied();
    let first = places.iter().copied().min_by_key(|place| next(*place))?;
    let limit = places.iter().filter(|place| **place != first).filter_map(|place| next(*place)).min()?;
    let left = cursors[first].batch.0.get(at[first]..)?;
    let last = STRETCH_MIN.min(left.len()).checked_sub(1)?;
    left.get(last).filter(|time| **time < limit)?;
    Some((first, at[first] + left.partition_point(|time| *time < limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { samples_max: 1_000, span_ms_max: Some(100) };

    fn block(level: u32, samples: u64, min_ms: i64, max_ms: i64) -> Candidate {
        Candidate { level, samples, min_ms, max_ms, is_damaged: false }
    }

    #[track_caller]
    fn check(blocks: &[Candidate], expected: Choice) {
        assert_eq!(choose(blocks, BOUNDS), expected);
    }

    #[test]
    fn few_blocks_are_left_alone() {
        check(&[], Choice::DoNothing);
        check(&[block(0, 1, 0, 1); 3], Choice::DoNothing);
    }

    #[test]
    fn neighbours_of_one_level_are_merged() {
        check(&[block(0, 1, 0, 1); 4], Choice::Merge(0..4));
        check(&[block(2, 9, 0, 1), block(0, 1, 0, 1), block(0, 1, 0, 1), block(0, 1, 0, 1)], Choice::DoNothing);
        let mut blocks = vec![block(1, 4, 0, 1)];
        blocks.extend([block(0, 1, 0, 1); 5]);
        check(&blocks, Choice::Merge(1..6));
    }

    #[test]
    fn the_lowest_level_goes_first_and_takes_lower_ones_along() {
        let mut blocks = vec![block(1, 4, 0, 1); 4];
        blocks.extend([block(0, 1, 0, 1); 4]);
        check(&blocks, Choice::Merge(4..8));
        check(&[block(1, 4, 0, 1), block(0, 1, 0, 1), block(1, 4, 0, 1), block(1, 4, 0, 1)], Choice::Merge(0..4));
    }

    #[test]
    fn nothing_is_merged_across_a_damaged_block() {
        let mut blocks = [block(0, 1, 0, 1); 6];
        blocks[3].is_damaged = true;
        check(&blocks, Choice::DoNothing);
    }

    #[test]
    fn blocks_do_not_grow_beyond_their_bounds() {
        check(&[block(0, 300, 0, 1); 5], Choice::DoNothing);
        let spread: Vec<Candidate> = (0..6).map(|i| block(0, 1, i * 50, i * 50 + 50)).collect();
        check(&spread, Choice::DoNothing);
        check(&[block(0, 1, 0, 1_000_000); 4], Choice::Merge(0..4));
    }
}
