//! Reads: finds the parts that may hold wanted rows, and decodes them.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use model::{Labels, Matcher, TimeRange, Timestamp};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use storage_api::{
    Error, LogCount, LogPart, LogPlan, LogQuerier, LogSelect, LogTallies, LogTallySelect, QueryContext, Result,
    TailBatch, step_of,
};
use tokio::sync::broadcast;

use crate::LogStore;
use crate::block::{Block, Catalog, Detail, MINUTE_NS, SeverityCounts, StreamInfo, line_of};
use crate::index::PageSet;
use crate::part::BlockPart;
use crate::store::State;
use crate::telemetry::Damage;

/// Memory of one count of an answer, about; labels are shared.
const COUNT_BYTES: u64 = 96;
/// Most pages in a part.
const PART_PAGES_MAX: usize = 4;

pub(crate) fn passes(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

fn passes_any(labels: &Labels, selectors: &[Vec<Matcher>]) -> bool {
    selectors.is_empty() || selectors.iter().any(|matchers| passes(labels, matchers))
}

impl StreamInfo {
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.min_timestamp < range.end.0 && range.start.0 <= self.max_timestamp
    }

    /// Returns how many of the stream's rows are among the deleted ones of its block.
    pub(crate) fn deleted(&self, deleted: Option<&Arc<RoaringBitmap>>) -> u64 {
        deleted.map_or(0, |rows| rows.range_cardinality(self.first_row..self.first_row.saturating_add(self.rows)))
    }
}

impl LogStore {
    /// Cuts off what retention hides.
    pub(crate) fn visible(&self, range: TimeRange) -> TimeRange {
        let cutoff = self.cutoff(self.clock.now_nanos()).unwrap_or(i64::MIN);
        TimeRange::new(range.start.max(Timestamp(cutoff)), range.end)
    }

    /// Copies what there is to read, and warns of what is missing.
    pub(crate) fn snapshot(&self, context: &QueryContext) -> State {
        let state = self.state.read().clone();
        for name in &state.damaged {
            context.warn(format!("the block {name} is damaged and was set aside: the answer may be incomplete"));
        }
        if state.deletes.is_damaged {
            context.warn("the list of deletes is damaged and was set aside: the answer may hold deleted lines");
        }
        state
    }
}

impl State {
    pub(crate) fn heads(&self) -> impl Iterator<Item = &crate::head::Head> {
        self.frozen.iter().map(|frozen| &*frozen.head).chain([&*self.head])
    }

    pub(crate) fn blocks_in(&self, range: TimeRange) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.iter().filter(move |block| block.overlaps(range))
    }

    /// Returns the rows of a block that nobody sees.
    pub(crate) fn deleted_of(&self, block: &Block) -> Option<&Arc<RoaringBitmap>> {
        self.deletes.of(block.meta().sequence)
    }
}

impl LogQuerier for LogStore {
    fn select(&self, select: &LogSelect, context: &QueryContext) -> Result<Vec<Box<dyn LogPart>>> {
        context.check()?;
        let range = self.visible(select.range);
        let state = self.snapshot(context);
        let mut parts: Vec<Box<dyn LogPart>> = Vec::new();
        let mut streams: HashSet<Labels> = HashSet::new();
        if range.is_empty() {
            return Ok(parts);
        }
        let blocks: Vec<&Arc<Block>> = state.blocks_in(range).collect();
        let found: Vec<Vec<BlockPart>> = self.cpu.install(|| {
            let parts_of = |block: &&Arc<Block>| {
                context.check().map(|()| block_parts(block, select, range, state.deleted_of(block)))
            };
            blocks.par_iter().map(parts_of).collect::<Result<_>>()
        })?;
        for part in found.into_iter().flatten() {
            streams.insert(part.stream().clone());
            parts.push(Box::new(part));
        }
        for head in state.heads() {
            let wanted = |labels: &Labels| passes(labels, &select.matchers);
            for part in
                head.parts(range, wanted, &select.needles, Detail::new(select.with_metadata, select.without_lines))
            {
                streams.insert(part.stream().clone());
                parts.push(Box::new(part));
            }
        }
        context.charge_series(streams.len() as u64)?;
        Ok(parts)
    }

    fn streams(&self, selectors: &[Vec<Matcher>], range: TimeRange, context: &QueryContext) -> Result<Vec<Labels>> {
        context.check()?;
        let range = self.visible(range);
        let state = self.snapshot(context);
        let mut found: HashSet<Labels> = HashSet::new();
        if !range.is_empty() {
            for block in state.blocks_in(range) {
                context.check()?;
                let deleted = state.deleted_of(block);
                for stream in block.catalog().streams.iter().filter(|stream| stream.overlaps(range)) {
                    if !found.contains(&stream.labels)
                        && passes_any(&stream.labels, selectors)
                        && stream.deleted(deleted) < u64::from(stream.rows)
                    {
                        found.insert(stream.labels.clone());
                    }
                }
            }
            for head in state.heads() {
                found.extend(head.streams(range, |labels| passes_any(labels, selectors)));
            }
        }
        context.charge_series(found.len() as u64)?;
        let mut found: Vec<Labels> = found.into_iter().collect();
        found.sort_unstable();
        Ok(found)
    }

    fn counts(
        &self,
        matchers: &[Matcher],
        asked: TimeRange,
        step_ns: Option<i64>,
        context: &QueryContext,
    ) -> Result<Vec<LogCount>> {
        context.check()?;
        let range = whole_minutes(self.visible(asked));
        let step_at = |minute: i64| step_of(minute.saturating_mul(MINUTE_NS), asked, step_ns);
        let state = self.snapshot(context);
        let mut counts: BTreeMap<(Labels, Timestamp, u8), (u64, u64)> = BTreeMap::new();
        let fault: RefCell<Option<Error>> = RefCell::new(None);
        let is_fine = || fault.borrow_mut().take().map_or(Ok(()), Err);
        let mut add = |labels: &Labels, minute: i64, severity: u8, records: u64, bytes: u64| {
            let count = match counts.entry((labels.clone(), step_at(minute), severity)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match context.charge_memory(COUNT_BYTES) {
                    Ok(()) => entry.insert((0, 0)),
                    Err(error) => {
                        fault.replace(Some(error));
                        return;
                    }
                },
            };
            count.0 += records;
            count.1 += bytes;
        };
        for block in state.blocks_in(range) {
            context.check()?;
            let deleted = state.deleted_of(block);
            match block.counts() {
                Ok(kept) => {
                    for (number, (stream, kept)) in block.catalog().streams.iter().zip(kept.streams.iter()).enumerate()
                    {
                        if !stream.overlaps(range) || !passes(&stream.labels, matchers) {
                            continue;
                        }
                        if stream.deleted(deleted) > 0 {
                            let select = whole_rows(matchers, range);
                            let parts = stream_parts(block, (number, stream), None, &select, range, deleted);
                            count_parts(&parts, range, context, &mut add)?;
                            continue;
                        }
                        for severity in kept {
                            sum_by_step(severity, range, &step_at, &mut |minute, records, bytes| {
                                add(&stream.labels, minute, severity.severity_number, records, bytes);
                            });
                        }
                        is_fine()?;
                    }
                }
                Err(error) => {
                    block.note_damage(Damage::Counts, &error);
                    let parts = block_parts(block, &whole_rows(matchers, range), range, deleted);
                    count_parts(&parts, range, context, &mut add)?;
                }
            }
        }
        for head in state.heads() {
            head.for_each_row(
                range,
                |labels| passes(labels, matchers),
                |labels, at, severity, bytes| {
                    add(labels, at.div_euclid(MINUTE_NS), severity, 1, bytes as u64);
                },
            );
        }
        is_fine()?;
        let count = |((stream, step, severity_number), (records, bytes))| LogCount {
            stream,
            severity_number,
            step,
            records,
            bytes,
        };
        Ok(counts.into_iter().map(count).collect())
    }

    fn tally(&self, select: &LogTallySelect, context: &QueryContext) -> Result<LogTallies> {
        self.tally_rows(select, context)
    }

    fn plan(&self, select: &LogSelect, context: &QueryContext) -> Result<LogPlan> {
        self.plan_rows(select, context)
    }

    fn plan_tally(&self, select: &LogTallySelect, context: &QueryContext) -> Result<LogPlan> {
        self.plan_tally_rows(select, context)
    }

    fn tail(&self) -> broadcast::Receiver<Arc<TailBatch>> {
        self.tail.subscribe()
    }
}

/// Sums the counts of each step up; each sum is told with a minute of its step.
fn sum_by_step(
    counts: &SeverityCounts,
    range: TimeRange,
    step_at: &impl Fn(i64) -> Timestamp,
    add: &mut dyn FnMut(i64, u64, u64),
) {
    let is_before = |key: &i64, border: Timestamp| key.div_euclid(2).saturating_mul(MINUTE_NS) < border.0;
    let mut at = counts.keys.partition_point(|key| is_before(key, range.start));
    let end = counts.keys.partition_point(|key| is_before(key, range.end));
    while let Some(first) = counts.keys.get(at..end).and_then(<[i64]>::first) {
        let minute = first.div_euclid(2);
        let step = step_at(minute);
        let rest = counts.keys.get(at..end).unwrap_or_default();
        let to = at + rest.partition_point(|key| step_at(key.div_euclid(2)) <= step);
        add(minute, counts.records(at, to), counts.bytes(at, to));
        at = to;
    }
}

/// Extends a range to whole minutes, as far as the representable time goes.
fn whole_minutes(range: TimeRange) -> TimeRange {
    if range.is_empty() {
        return range;
    }
    let start = range.start.0.div_euclid(MINUTE_NS).saturating_mul(MINUTE_NS);
    let last_minute = (range.end.0 - 1).div_euclid(MINUTE_NS);
    TimeRange::new(Timestamp(start), Timestamp(last_minute.saturating_add(1).saturating_mul(MINUTE_NS)))
}

fn whole_rows(matchers: &[Matcher], range: TimeRange) -> LogSelect {
    LogSelect { matchers: matchers.to_vec(), range, needles: Vec::new(), with_metadata: true, without_lines: false }
}

/// Counts rows where the counts beside the block cannot be used.
fn count_parts(
    parts: &[BlockPart],
    range: TimeRange,
    context: &QueryContext,
    add: &mut dyn FnMut(&Labels, i64, u8, u64, u64),
) -> Result<()> {
    for part in parts {
        context.check()?;
        let counted = count_part(part, range, add);
        counted.or_else(|error| part.block.do_without_rows(error, context))?;
    }
    Ok(())
}

/// Counts the rows of a part, all of them or none.
fn count_part(part: &BlockPart, range: TimeRange, add: &mut dyn FnMut(&Labels, i64, u8, u64, u64)) -> Result<()> {
    let mut found = Vec::with_capacity(part.rows.len());
    {
        let (columns, first) = part.block.read_shared(part.rows.clone(), Detail::All)?;
        let columns = columns.open().map_err(|error| part.malformed(error.0))?;
        for i in first..first + part.rows.len() {
            let row = columns.row(i);
            if range.contains(Timestamp(row.timestamp))
                && !part.is_deleted(part.rows.start + u32::try_from(i - first).unwrap_or(u32::MAX))
            {
                let line = line_of(row.body_type, row.body).map_err(|error| part.malformed(error.0))?;
                found.push((row.timestamp.div_euclid(MINUTE_NS), row.severity_number, line.len() as u64));
            }
        }
    }
    for (minute, severity, bytes) in found {
        add(part.stream(), minute, severity, 1, bytes);
    }
    Ok(())
}

/// Returns the parts of a block: for each stream, runs of pages that may hold wanted rows.
pub(crate) fn block_parts(
    block: &Arc<Block>,
    select: &LogSelect,
    range: TimeRange,
    deleted: Option<&Arc<RoaringBitmap>>,
) -> Vec<BlockPart> {
    let catalog = block.catalog();
    let wanted =
        |(_, stream): &(usize, &StreamInfo)| stream.overlaps(range) && passes(&stream.labels, &select.matchers);
    let streams: Vec<(usize, &StreamInfo)> = catalog.streams.iter().enumerate().filter(wanted).collect();
    let mut parts = Vec::new();
    if streams.is_empty() {
        return parts;
    }
    let candidates = block.candidates(&select.needles);
    if candidates.as_ref().is_some_and(PageSet::is_empty) {
        return parts;
    }
    for stream in streams {
        parts.extend(stream_parts(block, stream, candidates.as_ref(), select, range, deleted));
    }
    parts
}

/// Returns the timestamp of the first row of a stream in a page, and that of its last one, or a little after.
pub(crate) fn page_times(catalog: &Catalog, stream: &StreamInfo, number: usize) -> (i64, i64) {
    let end_row = stream.first_row + stream.rows;
    let page = catalog.pages.get(number).filter(|page| page.first_row > stream.first_row);
    let next = catalog.pages.get(number + 1).filter(|next| next.first_row < end_row);
    (
        page.map_or(stream.min_timestamp, |page| page.first_timestamp),
        next.map_or(stream.max_timestamp, |next| next.first_timestamp),
    )
}

/// Returns the parts of one stream, which comes with its number in the catalog.
pub(crate) fn stream_parts(
    block: &Arc<Block>,
    (stream_number, stream): (usize, &StreamInfo),
    candidates: Option<&PageSet>,
    select: &LogSelect,
    range: TimeRange,
    deleted: Option<&Arc<RoaringBitmap>>,
) -> Vec<BlockPart> {
    let catalog = block.catalog();
    let mut parts = Vec::new();
    let deleted = deleted.filter(|_| stream.deleted(deleted) > 0);
    let end_row = stream.first_row + stream.rows;
    let mut run: Option<BlockPart> = None;
    for number in catalog.page_of(stream.first_row)..=catalog.page_of(end_row.saturating_sub(1)) {
        let Some(page) = catalog.pages.get(number) else { break };
        let page_end = catalog.page_end(number);
        let (start, last) = page_times(catalog, stream, number);
        let is_candidate =
            candidates.is_none_or(|pages| u32::try_from(number).is_ok_and(|number| pages.contains(number)));
        let is_wanted = is_candidate && start < range.end.0 && range.start.0 <= last;
        let rows = page.first_row.max(stream.first_row)..page_end.min(end_row);
        match &mut run {
            Some(open)
                if is_wanted
                    && open.group == page.group
                    && open.rows.end == rows.start
                    && open.pages < PART_PAGES_MAX =>
            {
                open.rows.end = rows.end;
                open.pages += 1;
                open.last = last;
            }
            _ => {
                parts.extend(run.take());
                if is_wanted {
                    run = Some(BlockPart {
                        block: Arc::clone(block),
                        stream: stream.labels.clone(),
                        stream_number,
                        rows,
                        group: page.group,
                        pages: 1,
                        first: start,
                        last,
                        range,
                        deleted: deleted.cloned(),
                        with_metadata: select.with_metadata,
                        without_lines: select.without_lines,
                    });
                }
            }
        }
    }
    parts.extend(run);
    parts
}
