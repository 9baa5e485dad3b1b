//! Log queries: the first or last lines that pass, in a stable order.

use std::borrow::Cow;
use std::cmp::Ordering;

use model::{TimeRange, Timestamp};
use rayon::prelude::*;
use storage_api::{LogPart, LogQuerier, MetadataSelect, QueryContext, RowSelect};

use super::needles::{log_select, wanted_field};
use crate::ast::LogExpr;
use crate::error::Result;
use crate::pages::Pager;
use crate::row::{CategorizedLabels, RowLabels};
use crate::stage::Pipeline;

/// Most parts whose lines are held at a time beside those that are kept, but for small ones.
const BATCH_PARTS_MAX: usize = 64;

/// Most rows of small parts that are held at a time: where there are many streams with a few lines each, reading few of them
/// at a time would sort what is kept over and over.
const BATCH_ROWS_MAX: u64 = 1 << 16;

/// Rows between two looks at the query's deadline: few, as a stage may take long for a row.
pub(crate) const CHECK_EVERY_ROWS: usize = 16;

/// Which lines come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The oldest.
    Forward,
    /// The newest.
    Backward,
}

/// A log query.
#[derive(Debug, Clone)]
pub struct LogQuery<'a> {
    /// Which lines, and what is done with them.
    pub log: &'a LogExpr,
    /// When; half open.
    pub range: TimeRange,
    /// Most lines in the answer.
    pub limit: usize,
    /// Which of them.
    pub direction: Direction,
    /// Nanoseconds that lie between one line of the answer and the next at least.
    pub interval_ns: i64,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// When.
    pub timestamp: Timestamp,
    /// The line, as the pipeline left it.
    pub line: String,
    /// Its labels.
    pub labels: CategorizedLabels,
}

/// What a query gives of a row that passed.
pub(crate) trait Entry: Send + Sized {
    fn timestamp(&self) -> Timestamp;

    fn size_bytes(&self) -> u64;
}

/// Makes an entry of a row: its time, its line as the pipeline left it, and its labels.
pub(crate) type Make<'a, E> = dyn Fn(Timestamp, Cow<'_, str>, &RowLabels<'_>) -> E + Sync + 'a;

impl LogEntry {
    pub(crate) fn make(timestamp: Timestamp, line: Cow<'_, str>, labels: &RowLabels<'_>) -> Self {
        Self { timestamp, line: line.into_owned(), labels: labels.categorized() }
    }
}

impl Entry for LogEntry {
    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn size_bytes(&self) -> u64 {
        let labels = self.labels.metadata.size_bytes() + self.labels.parsed.size_bytes();
        (std::mem::size_of::<Self>() + self.line.len() + labels) as u64
    }
}

/// A kept line with its place: rows at one time keep the order (stream, part, row).
#[derive(Debug)]
struct Kept<E> {
    part: usize,
    row: usize,
    entry: E,
}

fn place<E: Entry>(a: &Kept<E>, b: &Kept<E>) -> Ordering {
    (a.entry.timestamp(), a.part, a.row).cmp(&(b.entry.timestamp(), b.part, b.row))
}

/// Runs a log query and returns its lines in the direction asked for.
///
/// Lines with equal timestamps keep one order whatever the limit, and backward is exactly the reverse of forward. Parts
/// are read from the wanted end on, until no unread part can hold a line of the answer.
///
/// # Errors
/// The store's, patterns that do not compile, limits.
pub fn select_logs(query: &LogQuery<'_>, logs: &dyn LogQuerier, context: &QueryContext) -> Result<Vec<LogEntry>> {
    if query.interval_ns > 0 {
        return thinned(query, logs, context);
    }
    select_entries(query, &LogEntry::make, logs, context)
}

/// Does what [`select_logs`] does, but for the interval, and gives what `make` makes of the rows.
pub(crate) fn select_entries<E: Entry>(
    query: &LogQuery<'_>,
    make: &Make<'_, E>,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<Vec<E>> {
    let pipeline = Pipeline::new(query.log)?;
    let select = log_select(query.log, query.range, true, logs, context)?;
    let mut parts = logs.select(&select, context)?;
    // The order of parts decides ties: by stream, and within one as the store has them, which is as they came.
    parts.sort_by(|a, b| a.stream().cmp(b.stream()));
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|i| {
        let range = parts.get(*i).map_or(TimeRange::ALL, |part| part.range());
        match query.direction {
            Direction::Forward => (range.start.0, *i),
            // Negated, so that the latest end comes first.
            Direction::Backward => (range.end.0.saturating_neg(), *i),
        }
    });
    let scan = Scan { query, make, pipeline: &pipeline, field: wanted_field(query.log), context };
    scan.run(&parts, &order, query.limit)
}

/// Runs a log query of whose lines each lies some time from the last one: page by page, as most lines are left out.
fn thinned(query: &LogQuery<'_>, logs: &dyn LogQuerier, context: &QueryContext) -> Result<Vec<LogEntry>> {
    let mut pager = Pager::new(query.log.clone(), query.range, query.direction, None);
    let mut out: Vec<LogEntry> = Vec::new();
    while out.len() < query.limit && !pager.is_done() {
        context.check()?;
        for (entry, _) in pager.next_page(logs, context)? {
            let last = out.last().map(|last| last.timestamp.0);
            let is_far = last.is_none_or(|last| entry.timestamp.0.abs_diff(last) >= query.interval_ns.unsigned_abs());
            if is_far && out.len() < query.limit {
                out.push(entry);
            } else {
                context.release_memory(entry.size_bytes());
            }
        }
    }
    Ok(out)
}

struct Scan<'a, E> {
    query: &'a LogQuery<'a>,
    make: &'a Make<'a, E>,
    pipeline: &'a Pipeline,
    /// A metadata field that every wanted row has.
    field: Option<(&'a str, &'a str)>,
    context: &'a QueryContext,
}

impl<E: Entry> Scan<'_, E> {
    fn run(&self, parts: &[Box<dyn LogPart>], order: &[usize], limit: usize) -> Result<Vec<E>> {
        let forward = self.query.direction == Direction::Forward;
        let mut kept: Vec<Kept<E>> = Vec::new();
        let mut rest = order;
        let mut batch = rayon::current_num_threads().max(1);
        while !rest.is_empty() && limit > 0 {
            self.context.check()?;
            // The worst line kept so far; a part that lies wholly behind it cannot matter.
            let worst = (kept.len() >= limit).then(|| kept.last().map(|kept| kept.entry.timestamp())).flatten();
            let useful = |i: &usize| {
                let range = parts.get(*i).map_or(TimeRange::ALL, |part| part.range());
                worst.is_none_or(|worst| if forward { range.start <= worst } else { range.end > worst })
            };
            let mut rows = 0_u64;
            let mut fits = |(n, i): &(usize, &usize)| {
                rows = rows.saturating_add(parts.get(**i).map_or(0, |part| part.rows_max()));
                *n < BATCH_PARTS_MAX || rows <= BATCH_ROWS_MAX
            };
            let next = rest.iter().take(batch).enumerate().take_while(|one| fits(one));
            let take = next.take_while(|(_, i)| useful(i)).count();
            if take == 0 {
                break;
            }
            let (now, later) = rest.split_at(take);
            rest = later;
            let found: Vec<Vec<Kept<E>>> = now
                .par_iter()
                .map(|i| match parts.get(*i) {
                    Some(part) => self.part(*i, part.as_ref(), limit, worst),
                    None => Ok(Vec::new()),
                })
                .collect::<Result<_>>()?;
            kept.extend(found.into_iter().flatten());
            kept.sort_by(|a, b| if forward { place(a, b) } else { place(b, a) });
            let dropped = kept.drain(limit.min(kept.len())..);
            self.context.release_memory(dropped.map(|one| one.entry.size_bytes()).sum());
            batch = batch.saturating_mul(2);
        }
        Ok(kept.into_iter().map(|kept| kept.entry).collect())
    }

    /// Returns the part's first `limit` lines in the direction asked for, none of them behind `worst`. Their memory is accounted
    /// for as each is made: a stage may make a line much longer than it came.
    fn part(&self, number: usize, part: &dyn LogPart, limit: usize, worst: Option<Timestamp>) -> Result<Vec<Kept<E>>> {
        let forward = self.query.direction == Direction::Forward;
        let mut range = self.query.range;
        match worst {
            Some(worst) if forward => range.end = range.end.min(Timestamp(worst.0.saturating_add(1))),
            Some(worst) => range.start = range.start.max(worst),
            None => {}
        }
        let select = RowSelect {
            range,
            filter: self.pipeline.filter(),
            field: self.field.filter(|(name, _)| part.stream().get(name).is_none()),
            // Where a later stage may leave rows out, it is not known how many are needed.
            rows_max: if self.pipeline.keeps_rows() { limit } else { usize::MAX },
            newest: !forward,
            with_lines: true,
            metadata: MetadataSelect::All,
        };
        let rows = part.read_rows(&select, self.context)?;
        let mut out = Vec::new();
        let mut labels = RowLabels::new(part.stream());
        for n in 0..rows.len() {
            if out.len() >= limit {
                break;
            }
            let row = if forward { n } else { rows.len() - 1 - n };
            let Some(&timestamp) = rows.timestamps.get(row) else { continue };
            if n % CHECK_EVERY_ROWS == 0 {
                self.context.check()?;
            }
            let line = rows.lines.get(row);
            labels.reset_row(&rows, row, true);
            if let Some(line) = self.pipeline.process(timestamp, line, &mut labels) {
                let entry = (self.make)(timestamp, line, &labels);
                self.context.charge_memory(entry.size_bytes())?;
                out.push(Kept { part: number, row, entry });
            }
        }
        self.context.count_passed(out.len() as u64);
        Ok(out)
    }
}
