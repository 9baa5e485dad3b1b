//! Looks at the samples themselves where deletes took some of a series: whether any is left, and whether any was taken.

use roaring::RoaringBitmap;
use storage_api::{MillisRange, QueryContext, Result};

use crate::block::extras::exemplars;
use crate::block::{Block, Wanted};
use crate::mixed::Mixed;
use crate::tombstones::Deleted;

/// Most series and rows whose times are read together, unless one series alone has more rows.
const SERIES_MAX: usize = 128;
const ROWS_MAX: u64 = 256 << 10;

/// Returns the series among `found` of which a sample in `range` is left.
///
/// # Errors
/// Corruption, I/O, the limits of `context`.
pub(crate) fn series_left(
    block: &Block,
    deleted: Option<&Deleted>,
    found: &RoaringBitmap,
    range: MillisRange,
    context: &QueryContext,
) -> Result<RoaringBitmap> {
    let (mut left, mut doubtful) = (RoaringBitmap::new(), Vec::new());
    for id in found {
        let have = block.index.entry(id)?.range();
        if !have.overlaps(&range) {
            continue;
        }
        // A series has a sample at either end of its times.
        let is_left = |deleted: &Deleted, at: i64| range.contains(at) && !deleted.hides(id, at);
        match deleted.filter(|deleted| deleted.is_of(id)) {
            Some(deleted) if deleted.covers(id, have.within(range)) => {}
            Some(deleted) if !is_left(deleted, have.min_ms) && !is_left(deleted, have.max_ms) => doubtful.push(id),
            _ => drop(left.insert(id)),
        }
    }
    let Some(deleted) = deleted else { return Ok(left) };
    each_times(block, &doubtful, range, context, &mut |id, times| {
        if !deleted.kept(id, times).is_empty() {
            left.insert(id);
        }
        Ok(true)
    })?;
    Ok(left)
}

/// Says whether the block holds a sample or an exemplar that is deleted.
///
/// # Errors
/// Corruption and I/O.
pub(crate) fn holds_deleted(block: &Block, deleted: &Deleted) -> Result<bool> {
    let mut doubtful = Vec::new();
    for id in &deleted.series() {
        let have = block.index.entry(id)?.range();
        if deleted.hides(id, have.min_ms) || deleted.hides(id, have.max_ms) {
            return Ok(true);
        }
        doubtful.push(id);
    }
    // No limit: this is no query.
    let limits = storage_api::Limits {
        samples_max: u64::MAX,
        timeout: std::time::Duration::MAX,
        ..storage_api::Limits::default()
    };
    let mut any = false;
    each_times(block, &doubtful, MillisRange::ALL, &QueryContext::new(limits), &mut |id, times| {
        any = times.iter().any(|at| deleted.hides(id, *at));
        Ok(!any)
    })?;
    if let (false, Some(table)) = (any, &block.extras.exemplars) {
        exemplars::each(table, MillisRange::ALL, &|_| true, &mut || Ok(()), &mut |labels, exemplar| {
            any |= deleted.hides_exemplar(labels, &exemplar);
            Ok(())
        })?;
    }
    Ok(any)
}

/// Calls `each` with the times of series, which ascend, as long as it says to go on.
fn each_times(
    block: &Block,
    mut series: &[u32],
    range: MillisRange,
    context: &QueryContext,
    each: &mut dyn FnMut(u32, &[i64]) -> Result<bool>,
) -> Result<()> {
    while !series.is_empty() {
        let (mut wanted, mut rows) = (Vec::new(), 0);
        for id in series.iter().take(SERIES_MAX) {
            let entry = block.index.entry(*id)?;
            if rows > 0 && rows + entry.rows > ROWS_MAX {
                break;
            }
            rows += entry.rows;
            wanted.push(Wanted { first_row: entry.first_row, rows: entry.rows });
        }
        let (now, later) = series.split_at(wanted.len());
        context.charge_samples(rows)?;
        let mut charged = rows;
        let read = block.read(&wanted, range, &mut || context.check())?;
        let read: Vec<Mixed> = block.extras.read(now, read, range, &mut |cost| {
            context.check()?;
            charged += cost;
            context.charge_samples(cost)
        })?;
        context.release_samples(charged);
        for (id, mixed) in now.iter().zip(read) {
            if !each(*id, &mixed.times)? {
                return Ok(());
            }
        }
        series = later;
    }
    Ok(())
}
