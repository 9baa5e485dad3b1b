//! Counts rows by stream and severity between points in time, without decoding lines and attributes.
//!
//! A block knows which metadata fields the records of a stream have. Where none of those asked for is among them, its
//! rows are counted: from the counts by minute where few minutes are cut, else from timestamps and severities alone.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use model::{Labels, TimeRange, Timestamp};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use storage_api::{LogPart, LogSelect, LogTallies, LogTally, LogTallySelect, Needle, QueryContext, Result};

use crate::LogStore;
use crate::block::{Block, Counts, Detail, MINUTE_NS, SeverityCounts, StreamInfo};
use crate::head::HeadPart;
use crate::index::PageSet;
use crate::metadata::OWN_FIELDS;
use crate::part::BlockPart;
use crate::query::{page_times, passes, stream_parts};
use crate::store::State;
use crate::telemetry::Damage;

/// Streams of a block that are planned at a time: the largest block should keep all threads busy.
const PLAN_STREAMS: usize = 64;
/// Blocks whose counts are in memory at a time.
const BATCH_BLOCKS: usize = 16;
/// Most pages that are decoded at a time: they are read together, and a page of times is small.
const RUN_PAGES_MAX: usize = 32;
/// Bytes of a row's timestamp and severity, for the query's account.
const ROW_BYTES: u64 = 16;

/// Counts rows that come by time.
#[derive(Debug)]
pub(crate) struct Tally<S> {
    /// By severity, numbers by cut.
    counts: Vec<(S, Vec<(usize, u64)>)>,
    /// Where the last row went.
    last: usize,
    cut: usize,
}

impl<S> Default for Tally<S> {
    fn default() -> Self {
        Self { counts: Vec::new(), last: 0, cut: 0 }
    }
}

impl<T: PartialEq + Copy> Tally<(u8, T)> {
    /// Adds a row; `false` when it lies behind the last cut, as all that come later do.
    pub(crate) fn push(&mut self, cuts: &[Timestamp], at: i64, severity: (u8, T)) -> bool {
        while cuts.get(self.cut).is_some_and(|cut| cut.0 < at) {
            self.cut += 1;
        }
        if self.cut >= cuts.len() {
            return false;
        }
        self.add(self.cut, severity, 1);
        true
    }

    /// Adds rows of one cut; cuts come in ascending order.
    fn add(&mut self, cut: usize, severity: (u8, T), records: u64) {
        if self.counts.get(self.last).is_none_or(|(have, _)| *have != severity) {
            self.last = self.counts.iter().position(|(have, _)| *have == severity).unwrap_or_else(|| {
                self.counts.push((severity, Vec::new()));
                self.counts.len() - 1
            });
        }
        let Some((_, numbers)) = self.counts.get_mut(self.last) else { return };
        match numbers.last_mut() {
            Some((have, sum)) if *have == cut => *sum += records,
            _ => numbers.push((cut, records)),
        }
    }

    pub(crate) fn finish<'t>(self, stream: &Labels, text: impl Fn(T) -> &'t str) -> Vec<LogTally> {
        let tally = |((severity_number, key), records): ((u8, T), Vec<(usize, u64)>)| LogTally {
            stream: stream.clone(),
            severity_number,
            severity_text: text(key).into(),
            records,
        };
        self.counts.into_iter().map(tally).collect()
    }
}

/// Returns the fields that are no labels of the stream.
fn fields_beside<'a>(fields: &'a [String], stream: &Labels) -> Vec<&'a str> {
    fields.iter().map(String::as_str).filter(|name| stream.get(name).is_none()).collect()
}

/// A minute that is cut, and where the rows of a stream in it lie among those of the stream, as its counts say.
#[derive(Debug, Clone, Copy)]
struct CutMinute {
    minute: i64,
    first_row: u64,
    rows: u64,
}

/// Rows of one stream that are counted by decoding them.
#[derive(Debug, Clone)]
struct Wanted {
    stream: usize,
    /// The minutes that count, ascending.
    minutes: Arc<[CutMinute]>,
    /// The number of the text of each severity number, when each has one text only.
    texts: Option<Arc<[(u8, u32)]>>,
}

/// Pages that follow each other in one row group, and whose rows are counted in them.
#[derive(Debug)]
pub(crate) struct Run {
    block: Arc<Block>,
    counts: Arc<Counts>,
    pub(crate) pages: Range<usize>,
    wanted: Vec<Wanted>,
}

/// What the rows of a run's pages are counted by.
struct OpenRun {
    times: Vec<Arc<Vec<i64>>>,
    severities: Vec<Arc<Vec<u8>>>,
}

/// What is done with a block.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    tallies: Vec<LogTally>,
    pub(crate) runs: Vec<Run>,
    pub(crate) parts: Vec<BlockPart>,
    pub(crate) streams: Vec<Labels>,
    /// Those that were counted without reading any.
    pub(crate) records: u64,
}

impl LogStore {
    pub(crate) fn tally_rows(&self, select: &LogTallySelect, context: &QueryContext) -> Result<LogTallies> {
        context.check()?;
        let range = self.visible(select.range);
        let state = self.snapshot(context);
        let mut out = LogTallies { has_levels: true, ..LogTallies::default() };
        if range.is_empty() {
            return Ok(out);
        }
        let blocks: Vec<&Arc<Block>> = state.blocks_in(range).collect();
        let mut streams: HashSet<Labels> = HashSet::new();
        let borders = Borders::new(&select.cuts, range);
        for blocks in blocks.chunks(BATCH_BLOCKS) {
            let mut plan = self.cpu.install(|| tally_blocks(blocks, select, &borders, &state, context))?;
            context.count_rows(plan.records);
            context.charge_memory(plan.tallies.iter().map(|tally| size_bytes(tally) as u64).sum())?;
            streams.extend(plan.streams);
            out.tallies.append(&mut plan.tallies);
            out.parts.extend(plan.parts.into_iter().map(|part| Box::new(part) as Box<dyn LogPart>));
        }
        for head in state.heads() {
            let wanted = |labels: &Labels| passes(labels, &select.matchers);
            let parts = head.parts(range, wanted, &[], Detail::Metadata);
            let counted = |part: HeadPart| -> Result<(HeadPart, Option<Vec<LogTally>>)> {
                context.check()?;
                let fields = fields_beside(&select.fields, part.stream());
                if fields.iter().any(|field| OWN_FIELDS.contains(field)) {
                    return Ok((part, None));
                }
                let found = part.tally(&fields, &select.cuts)?;
                Ok((part, found))
            };
            let found: Vec<_> = self.cpu.install(|| parts.into_par_iter().map(counted).collect::<Result<_>>())?;
            for (part, tallies) in found {
                streams.insert(part.stream().clone());
                match tallies {
                    Some(tallies) => {
                        context.count_rows(part.rows_max());
                        out.tallies.extend(tallies);
                    }
                    None => out.parts.push(Box::new(part)),
                }
            }
        }
        context.charge_series(streams.len() as u64)?;
        Ok(out)
    }
}

fn size_bytes(tally: &LogTally) -> usize {
    size_of::<LogTally>() + size_of_val(tally.records.as_slice())
}

/// Counts rows of some blocks, and gives the parts whose rows have to be looked at.
fn tally_blocks(
    blocks: &[&Arc<Block>],
    select: &LogTallySelect,
    borders: &Borders<'_>,
    state: &State,
    context: &QueryContext,
) -> Result<Plan> {
    // Opened once: with many streams they may be too large to be kept.
    let counted: Vec<Counted<'_>> = blocks.par_iter().map(|block| Counted::open(block, &select.needles)).collect();
    let pieces = counted.iter().flat_map(|counted| {
        let streams = counted.block.catalog().streams.len();
        (0..streams).step_by(PLAN_STREAMS).map(move |start| (counted, start..(start + PLAN_STREAMS).min(streams)))
    });
    let pieces: Vec<(&Counted<'_>, Range<usize>)> = pieces.collect();
    let plan_of = |(counted, streams): &(&Counted<'_>, Range<usize>)| {
        context.check()?;
        Ok(plan_streams(counted, select, borders, state.deleted_of(counted.block), streams.clone()))
    };
    let plans: Vec<Plan> = pieces.par_iter().map(plan_of).collect::<Result<_>>()?;
    let mut all = Plan::default();
    let mut runs = Vec::new();
    for plan in plans {
        all.records += plan.records;
        all.streams.extend(plan.streams);
        all.tallies.extend(plan.tallies);
        all.parts.extend(plan.parts);
        runs.extend(plan.runs);
    }
    let found: Vec<Vec<LogTally>> =
        runs.par_iter().map(|run| run.tally(select, borders.range, context)).collect::<Result<_>>()?;
    all.tallies.extend(found.into_iter().flatten());
    Ok(all)
}

pub(crate) fn plan(
    block: &Arc<Block>,
    select: &LogTallySelect,
    borders: &Borders<'_>,
    deleted: Option<&Arc<RoaringBitmap>>,
) -> Plan {
    plan_streams(&Counted::open(block, &select.needles), select, borders, deleted, 0..block.catalog().streams.len())
}

/// A block with its counts, unless these are damaged.
struct Counted<'a> {
    block: &'a Arc<Block>,
    counts: Option<Arc<Counts>>,
    needles: &'a [Needle],
    /// The pages that may hold the needles; `None` when that may be any.
    candidates: OnceLock<Option<PageSet>>,
}

impl<'a> Counted<'a> {
    fn open(block: &'a Arc<Block>, needles: &'a [Needle]) -> Self {
        let counts = block.counts().map_err(|error| block.note_damage(Damage::Counts, &error)).ok();
        Self { block, counts, needles, candidates: OnceLock::new() }
    }

    fn candidates(&self) -> Option<&PageSet> {
        self.candidates.get_or_init(|| self.block.candidates(self.needles)).as_ref()
    }
}

/// Plans what is done with some streams of a block, by their numbers.
fn plan_streams(
    counted: &Counted<'_>,
    select: &LogTallySelect,
    borders: &Borders<'_>,
    deleted: Option<&Arc<RoaringBitmap>>,
    numbers: Range<usize>,
) -> Plan {
    let Counted { block, counts, .. } = counted;
    let range = borders.range;
    let mut plan = Plan::default();
    for (number, stream) in block.catalog().streams.iter().enumerate().take(numbers.end).skip(numbers.start) {
        if !stream.overlaps(range) || !passes(&stream.labels, &select.matchers) {
            continue;
        }
        plan.streams.push(stream.labels.clone());
        let fields = fields_beside(&select.fields, &stream.labels);
        let is_plain = |counts: &&Arc<Counts>| {
            fields.iter().all(|field| !OWN_FIELDS.contains(field) && !counts.may_have(number, field))
        };
        match counts.as_ref().filter(is_plain).filter(|_| stream.deleted(deleted) == 0) {
            Some(counts) => plan_stream(&mut plan, block, counts, (number, stream), borders),
            None => {
                let select = LogSelect {
                    matchers: Vec::new(),
                    range,
                    needles: Vec::new(),
                    with_metadata: true,
                    without_lines: true,
                };
                plan.parts.extend(stream_parts(block, (number, stream), counted.candidates(), &select, range, deleted));
            }
        }
    }
    plan
}

/// Where what is asked for begins and ends, and the minutes that are cut on the way.
#[derive(Debug)]
pub(crate) struct Borders<'a> {
    cuts: &'a [Timestamp],
    range: TimeRange,
    /// Minutes of which some nanoseconds lie on either side of a border, ascending: their rows must be looked at.
    cut_minutes: Vec<i64>,
}

impl<'a> Borders<'a> {
    pub(crate) fn new(cuts: &'a [Timestamp], range: TimeRange) -> Self {
        let ends = cuts.iter().map(|cut| cut.0.saturating_add(1));
        // The first nanosecond of a minute is counted for itself, so a border may lie before it and behind it.
        let splits = |border: &i64| border.rem_euclid(MINUTE_NS) > 1;
        let borders = [range.start.0, range.end.0].into_iter().chain(ends).filter(splits);
        // At the ends of time a minute is not whole.
        let all = borders.chain([i64::MIN, i64::MAX]).map(|border| border.div_euclid(MINUTE_NS));
        let mut cut_minutes: Vec<i64> = all.collect();
        cut_minutes.sort_unstable();
        cut_minutes.dedup();
        Self { cuts, range, cut_minutes }
    }

    /// Returns the least key of counts at `border` or behind it.
    fn key(border: i64) -> i64 {
        border.div_euclid(MINUTE_NS) * 2 + i64::from(border.rem_euclid(MINUTE_NS) > 0)
    }

    /// Adds the counts of a severity up by cut, those of cut minutes left out; returns how many records these are.
    fn add_up(&self, counts: &SeverityCounts, out: &mut Vec<(usize, u64)>) -> u64 {
        let end = counts.place(0, Self::key(self.range.end.0));
        let (mut at, mut all) = (counts.place(0, Self::key(self.range.start.0)), 0);
        while let Some(key) = counts.keys.get(at..end).and_then(<[i64]>::first) {
            let minute = key.div_euclid(2);
            let next_cut_minute = self.cut_minutes.partition_point(|cut| *cut < minute);
            let next_cut_minute = self.cut_minutes.get(next_cut_minute).copied().unwrap_or(i64::MAX / 2);
            if next_cut_minute == minute {
                at = counts.place(at, (minute + 1) * 2);
                continue;
            }
            let first_ns = minute * MINUTE_NS + key.rem_euclid(2);
            let cut = self.cuts.partition_point(|cut| cut.0 < first_ns);
            let Some(border) = self.cuts.get(cut) else { break };
            let to = counts.place(at, Self::key(border.0.saturating_add(1)).min(next_cut_minute * 2)).min(end);
            let records = counts.records(at, to);
            all += records;
            match out.last_mut() {
                Some((have, sum)) if *have == cut => *sum += records,
                _ => out.push((cut, records)),
            }
            at = to;
        }
        all
    }

    /// Returns the cut minutes in which the stream has records.
    fn cut_minutes_of(&self, counts: &[SeverityCounts]) -> Vec<CutMinute> {
        let mut minutes: Vec<CutMinute> =
            self.cut_minutes.iter().map(|minute| CutMinute { minute: *minute, first_row: 0, rows: 0 }).collect();
        for counts in counts {
            let mut at = 0;
            for minute in &mut minutes {
                let start = counts.place(at, minute.minute * 2);
                let end = counts.place(start, (minute.minute + 1) * 2);
                minute.first_row += counts.records(0, start);
                minute.rows += counts.records(start, end);
                at = end;
            }
        }
        minutes.retain(|minute| minute.rows > 0);
        minutes
    }
}

/// Counts a stream from the counts by minute, and plans to decode the times of the minutes that are cut.
fn plan_stream(
    plan: &mut Plan,
    block: &Arc<Block>,
    counts: &Arc<Counts>,
    (number, stream): (usize, &StreamInfo),
    borders: &Borders<'_>,
) {
    let kept = counts.streams.get(number).map(Vec::as_slice).unwrap_or_default();
    let cut_minutes = borders.cut_minutes_of(kept);
    if !cut_minutes.is_empty() {
        let is_cut = |number: &usize| {
            let (first, last) = page_times(block.catalog(), stream, *number);
            let at = cut_minutes.partition_point(|minute| minute.minute < first.div_euclid(MINUTE_NS));
            cut_minutes.get(at).is_some_and(|minute| minute.minute <= last.div_euclid(MINUTE_NS))
        };
        let pages: Vec<usize> = pages_in(block, stream, borders.range).into_iter().filter(is_cut).collect();
        // Severities come by number, and with one number they follow each other.
        let is_unique = kept.windows(2).all(|two| two[0].severity_number != two[1].severity_number);
        let texts = is_unique.then(|| kept.iter().map(|severity| (severity.severity_number, severity.text)).collect());
        let wanted = Wanted { stream: number, minutes: cut_minutes.into(), texts };
        add_runs(plan, block, counts, &pages, &wanted);
    }
    for severity in kept {
        let mut records = Vec::new();
        plan.records += borders.add_up(severity, &mut records);
        if !records.is_empty() {
            plan.tallies.push(LogTally {
                stream: stream.labels.clone(),
                severity_number: severity.severity_number,
                severity_text: counts.text(severity.text).into(),
                records,
            });
        }
    }
}

/// Returns the pages that may hold rows of a stream in `range`.
fn pages_in(block: &Block, stream: &StreamInfo, range: TimeRange) -> Vec<usize> {
    let catalog = block.catalog();
    let last_row = (stream.first_row + stream.rows).saturating_sub(1);
    let is_in = |number: &usize| {
        let (first, last) = page_times(catalog, stream, *number);
        first < range.end.0 && range.start.0 <= last
    };
    (catalog.page_of(stream.first_row)..=catalog.page_of(last_row)).filter(is_in).collect()
}

/// Plans to decode pages of a stream; streams that share a page share its decoding.
fn add_runs(plan: &mut Plan, block: &Arc<Block>, counts: &Arc<Counts>, pages: &[usize], wanted: &Wanted) {
    let pages_of = &block.catalog().pages;
    for number in pages {
        let Some(page) = pages_of.get(*number) else { continue };
        let joins = |run: &&mut Run| {
            let same_group = pages_of.get(run.pages.start).is_some_and(|first| first.group == page.group);
            run.pages.contains(number) || same_group && run.pages.end == *number && run.pages.len() < RUN_PAGES_MAX
        };
        match plan.runs.last_mut().filter(joins) {
            Some(run) => {
                run.pages.end = run.pages.end.max(number + 1);
                if run.wanted.last().is_none_or(|last| last.stream != wanted.stream) {
                    run.wanted.push(wanted.clone());
                }
            }
            None => plan.runs.push(Run {
                block: Arc::clone(block),
                counts: Arc::clone(counts),
                pages: *number..number + 1,
                wanted: vec![wanted.clone()],
            }),
        }
    }
}

impl Run {
    fn tally(&self, select: &LogTallySelect, range: TimeRange, context: &QueryContext) -> Result<Vec<LogTally>> {
        context.check()?;
        match self.count(select, range) {
            Ok((tallies, rows)) => {
                context.charge_bytes(rows * ROW_BYTES)?;
                context.count_rows(rows);
                Ok(tallies)
            }
            Err(error) => self.block.do_without_rows(error, context).map(|()| Vec::new()),
        }
    }

    /// Returns the numbers, and how many rows were looked at.
    fn count(&self, select: &LogTallySelect, range: TimeRange) -> Result<(Vec<LogTally>, u64)> {
        let mut out = Vec::new();
        let mut seen = 0;
        let is_quick = self.wanted.iter().any(|wanted| wanted.texts.is_some());
        let open = is_quick.then(|| self.open()).transpose()?;
        for wanted in &self.wanted {
            let Some(stream) = self.block.catalog().streams.get(wanted.stream) else { continue };
            if let (Some(texts), Some(open)) = (&wanted.texts, &open) {
                let mut tally = Tally::default();
                if self.count_quickly(stream, (wanted, texts, open), (select, range), &mut tally, &mut seen) {
                    out.extend(tally.finish(&stream.labels, |text| self.counts.text(text)));
                    continue;
                }
            }
            let mut tally = Tally::default();
            let columns = self.block.read(self.rows_of(stream), Detail::Severities)?;
            let columns = columns.open().map_err(|error| self.block.malformed(error.0))?;
            let times = columns.timestamps();
            seen += times.len() as u64;
            wanted.for_each_row(times, range, &mut |row, at| tally.push(&select.cuts, at, columns.severity(row)));
            out.extend(tally.finish(&stream.labels, |key| columns.severity_text(key)));
        }
        Ok((out, seen))
    }

    /// Returns the rows of a stream in the run's pages.
    fn rows_of(&self, stream: &StreamInfo) -> Range<u32> {
        let catalog = self.block.catalog();
        let first_row = catalog.pages.get(self.pages.start).map_or(0, |page| page.first_row);
        let end_row = catalog.page_end(self.pages.end.saturating_sub(1));
        let from = stream.first_row.max(first_row);
        from..(stream.first_row + stream.rows).min(end_row).max(from)
    }

    /// Decodes what rows are counted by.
    fn open(&self) -> Result<OpenRun> {
        Ok(OpenRun {
            times: self.block.times_of(self.pages.clone())?,
            severities: self.block.severities_of(self.pages.clone())?,
        })
    }

    /// Counts the rows of a stream by times and severity numbers alone; `false` when a number has no known text.
    fn count_quickly(
        &self,
        stream: &StreamInfo,
        (wanted, texts, open): (&Wanted, &[(u8, u32)], &OpenRun),
        (select, range): (&LogTallySelect, TimeRange),
        tally: &mut Tally<(u8, u32)>,
        seen: &mut u64,
    ) -> bool {
        let catalog = self.block.catalog();
        let all = self.rows_of(stream);
        let place = |row: u64| u32::try_from(u64::from(stream.first_row) + row).unwrap_or(u32::MAX);
        let behind = |minute: &CutMinute| place(minute.first_row + minute.rows) <= all.start;
        let first = wanted.minutes.partition_point(behind);
        for minute in wanted.minutes.iter().skip(first) {
            let rows = place(minute.first_row).max(all.start)..place(minute.first_row + minute.rows).min(all.end);
            let mut at = rows.start;
            if at >= all.end {
                break;
            }
            while at < rows.end {
                let page = catalog.page_of(at);
                let first_row = catalog.pages.get(page).map_or(0, |page| page.first_row);
                let end = rows.end.min(catalog.page_end(page));
                let inside = (at - first_row) as usize..(end - first_row) as usize;
                let number = page.saturating_sub(self.pages.start);
                let (Some(times), Some(severities)) = (open.times.get(number), open.severities.get(number)) else {
                    return false;
                };
                let times = times.get(inside.clone()).unwrap_or_default();
                let both = times.iter().zip(severities.get(inside).unwrap_or_default());
                *seen += u64::from(end - at);
                for (time, severity) in both {
                    let severity = texts.iter().find(|(number, _)| number == severity);
                    let Some(severity) = severity.filter(|_| time.div_euclid(MINUTE_NS) == minute.minute) else {
                        return false;
                    };
                    if range.contains(Timestamp(*time)) && !tally.push(&select.cuts, *time, *severity) {
                        return true;
                    }
                }
                at = end.max(at + 1);
            }
        }
        true
    }
}

impl Wanted {
    /// Calls `each` with every row of a wanted minute in `range`, until it says false.
    fn for_each_row(&self, times: &[i64], range: TimeRange, each: &mut dyn FnMut(usize, i64) -> bool) {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return };
        let (first, last) = (first.div_euclid(MINUTE_NS), last.div_euclid(MINUTE_NS));
        let from = self.minutes.partition_point(|minute| minute.minute < first);
        let mut at = 0;
        for minute in self.minutes.iter().skip(from).map(|minute| minute.minute).take_while(|minute| *minute <= last) {
            let start = minute.saturating_mul(MINUTE_NS).max(range.start.0);
            let rest = times.get(at..).unwrap_or_default();
            at += rest.partition_point(|time| *time < start);
            for (row, time) in (at..).zip(times.get(at..).unwrap_or_default()) {
                at = row;
                if *time >= range.end.0 || time.div_euclid(MINUTE_NS) > minute {
                    break;
                }
                at = row + 1;
                if !each(row, *time) {
                    return;
                }
            }
        }
    }
}
