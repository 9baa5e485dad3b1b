//! Any number of lines, page by page: in order, each exactly once, in bounded memory.

use std::borrow::Cow;

use model::{TimeRange, Timestamp};
use storage_api::{LogQuerier, QueryContext};

use crate::ast::LogExpr;
use crate::error::Result;
use crate::eval::{Direction, Entry, LogEntry, LogQuery, Make, log_select, select_entries};
use crate::row::RowLabels;
use crate::stage::Pipeline;
use crate::written::{LineWriter, PassedLine, WrittenLine};

/// Lines of a page at most; also what a window of time is meant to hold.
const LINES_MAX: usize = 1 << 16;

/// What is written of a line beside it, about: memory that need not grow.
const WRITTEN_MORE_BYTES: usize = 640;

/// The first window. Each one that holds few lines is followed by one that is longer.
const WINDOW_NS: i64 = 60_000_000_000;

/// By how much.
const GROWTH: i64 = 4;

/// A place in the order of lines: lines of one timestamp keep their order, so counting them tells one from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Lines on the far side of this time are done.
    pub at_ns: i64,
    /// Of the lines at this time, so many are done.
    pub done: usize,
}

/// Reads the lines of a query, page by page.
#[derive(Debug)]
pub struct Pager {
    log: LogExpr,
    range: TimeRange,
    direction: Direction,
    lines_max: usize,
    window_ns: i64,
    /// Where to go on; `None` at the end.
    place: Option<Place>,
}

impl Pager {
    /// Starts at the wanted end of the range, or at `from`.
    #[must_use]
    pub fn new(log: LogExpr, range: TimeRange, direction: Direction, from: Option<Place>) -> Self {
        let start = match direction {
            Direction::Forward => range.start.0,
            Direction::Backward => range.end.0.saturating_sub(1),
        };
        let start = from.unwrap_or(Place { at_ns: start, done: 0 });
        let mut pager = Self { log, range, direction, lines_max: LINES_MAX, window_ns: WINDOW_NS, place: None };
        pager.go_on(start);
        pager
    }

    /// Makes pages of at most `lines`.
    #[must_use]
    pub fn with_lines_max(self, lines: usize) -> Self {
        Self { lines_max: lines.clamp(1, LINES_MAX), ..self }
    }

    /// Says whether all was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.place.is_none()
    }

    /// Makes later pages smaller, after one was over a limit of memory, bytes or time; says whether they could be.
    pub fn shrink(&mut self) -> bool {
        let before = (self.lines_max, self.window_ns);
        self.lines_max = (self.lines_max / 4).max(1);
        self.window_ns = (self.window_ns / GROWTH).max(1);
        (self.lines_max, self.window_ns) != before
    }

    /// Returns the next lines, each with the place behind it. A page may be empty though there are more.
    ///
    /// # Errors
    /// As [`select_logs`](crate::select_logs); then nothing was read, and the same page can be asked for again.
    pub fn next_page(&mut self, logs: &dyn LogQuerier, context: &QueryContext) -> Result<Vec<(LogEntry, Place)>> {
        self.next_entries(&LogEntry::make, logs, context)
    }

    /// Returns what is written of the next lines. It is written on several threads, and only what is written is held.
    ///
    /// # Errors
    /// As [`next_page`](Self::next_page).
    pub fn next_written(
        &mut self,
        writer: &dyn LineWriter,
        logs: &dyn LogQuerier,
        context: &QueryContext,
    ) -> Result<Vec<(WrittenLine, Place)>> {
        let make = |timestamp, line: Cow<'_, str>, labels: &RowLabels<'_>| {
            let mut bytes = Vec::with_capacity(line.len() + WRITTEN_MORE_BYTES);
            writer.write(&mut bytes, &PassedLine { timestamp, line: &line, labels });
            WrittenLine { timestamp, bytes }
        };
        self.next_entries(&make, logs, context)
    }

    fn next_entries<E: Entry>(
        &mut self,
        make: &Make<'_, E>,
        logs: &dyn LogQuerier,
        context: &QueryContext,
    ) -> Result<Vec<(E, Place)>> {
        let Some(place) = self.place else { return Ok(Vec::new()) };
        if place.done >= self.lines_max {
            return self.next_of_one_time(place, make, logs, context);
        }
        let window = self.window(place);
        let limit = self.lines_max.saturating_add(place.done);
        let query = LogQuery { log: &self.log, range: window, limit, direction: self.direction, interval_ns: 0 };
        let mut entries = select_entries(&query, make, logs, context)?;
        let is_full = entries.len() >= limit;
        let is_done = |entry: &E| entry.timestamp().0 == place.at_ns;
        let done = entries.iter().take(place.done).take_while(|entry| is_done(entry)).count();
        entries.drain(..done);
        let page = with_places(entries, place);
        let last = page.last().map_or(place, |(_, place)| *place);
        if is_full {
            self.window_ns = last.at_ns.saturating_sub(place.at_ns).saturating_abs().max(1);
            self.go_on(last);
        } else {
            if page.len() * 2 <= self.lines_max {
                self.window_ns = self.window_ns.saturating_mul(GROWTH);
            }
            self.go_behind(window);
        }
        Ok(page)
    }

    /// Returns the window of time from `place` on.
    fn window(&self, place: Place) -> TimeRange {
        let at = place.at_ns;
        let (start, end) = match self.direction {
            Direction::Forward => (at, at.saturating_add(self.window_ns).min(self.range.end.0)),
            Direction::Backward => {
                let end = at.saturating_add(1);
                (end.saturating_sub(self.window_ns).max(self.range.start.0), end)
            }
        };
        TimeRange::new(Timestamp(start), Timestamp(end))
    }

    fn go_behind(&mut self, window: TimeRange) {
        let at_ns = match self.direction {
            Direction::Forward => window.end.0,
            Direction::Backward => window.start.0.saturating_sub(1),
        };
        // The least time has none before it.
        if self.direction == Direction::Backward && at_ns == window.start.0 {
            self.place = None;
        } else {
            self.go_on(Place { at_ns, done: 0 });
        }
    }

    fn go_on(&mut self, place: Place) {
        let is_inside = self.range.contains(Timestamp(place.at_ns));
        let is_before = match self.direction {
            Direction::Forward => place.at_ns < self.range.start.0,
            Direction::Backward => place.at_ns >= self.range.end.0,
        };
        self.place = if is_inside {
            Some(place)
        } else if is_before && !self.range.is_empty() {
            let at_ns = match self.direction {
                Direction::Forward => self.range.start.0,
                Direction::Backward => self.range.end.0.saturating_sub(1),
            };
            Some(Place { at_ns, done: 0 })
        } else {
            None
        };
    }

    /// Reads on among many lines of one time, of which not all can be held at once.
    fn next_of_one_time<E: Entry>(
        &mut self,
        place: Place,
        make: &Make<'_, E>,
        logs: &dyn LogQuerier,
        context: &QueryContext,
    ) -> Result<Vec<(E, Place)>> {
        let window = one_time(place.at_ns);
        let mut entries = Vec::new();
        let mut passed = 0_usize;
        let wanted = self.lines_max;
        entries_at(&self.log, window, (self.direction, Rows::Some, make), logs, context, &mut |row| {
            let Some(entry) = row.entry else { return true };
            passed += 1;
            if passed > place.done {
                entries.push(entry);
            }
            entries.len() < wanted
        })?;
        let is_full = entries.len() >= wanted;
        let page = with_places(entries, place);
        match page.last() {
            Some((_, last)) if is_full => self.go_on(*last),
            _ => self.go_behind(window),
        }
        Ok(page)
    }
}

fn one_time(at_ns: i64) -> TimeRange {
    TimeRange::new(Timestamp(at_ns), Timestamp(at_ns.saturating_add(1)))
}

fn with_places<E: Entry>(entries: Vec<E>, from: Place) -> Vec<(E, Place)> {
    let mut place = from;
    let mut page = Vec::with_capacity(entries.len());
    for entry in entries {
        let at_ns = entry.timestamp().0;
        place = if at_ns == place.at_ns { Place { done: place.done + 1, ..place } } else { Place { at_ns, done: 1 } };
        page.push((entry, place));
    }
    page
}

/// Which rows are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Every one of a stream that is selected.
    All,
    /// At least those that pass.
    Some,
}

/// A row of the store as it comes by.
pub(crate) struct Row<'a, E = LogEntry> {
    pub(crate) stream: &'a model::Labels,
    /// As it is stored.
    pub(crate) line: &'a str,
    /// What the pipeline made of it, if it passed.
    pub(crate) entry: Option<E>,
}

/// Calls `each` with the rows of a short time, one after the other in the order that [`select_logs`](crate::select_logs) has them in within one
/// time, until it says `false`.
pub(crate) fn rows_at(
    log: &LogExpr,
    range: TimeRange,
    (direction, which): (Direction, Rows),
    logs: &dyn LogQuerier,
    context: &QueryContext,
    each: &mut dyn FnMut(Row<'_>) -> bool,
) -> Result<()> {
    entries_at(log, range, (direction, which, &LogEntry::make), logs, context, each)
}

/// Does what [`rows_at`] does, and gives what `make` makes of the rows that pass.
fn entries_at<E: Entry>(
    log: &LogExpr,
    range: TimeRange,
    (direction, which, make): (Direction, Rows, &Make<'_, E>),
    logs: &dyn LogQuerier,
    context: &QueryContext,
    each: &mut dyn FnMut(Row<'_, E>) -> bool,
) -> Result<()> {
    let pipeline = Pipeline::new(log)?;
    let mut select = log_select(log, range, true, logs, context)?;
    if which == Rows::All {
        select.needles.clear();
    }
    let mut parts = logs.select(&select, context)?;
    parts.sort_by(|a, b| a.stream().cmp(b.stream()));
    if direction == Direction::Backward {
        parts.reverse();
    }
    for part in parts {
        let rows = part.read(context)?;
        let mut labels = RowLabels::new(part.stream());
        for n in 0..rows.len() {
            let row = if direction == Direction::Forward { n } else { rows.len() - 1 - n };
            let Some(timestamp) = rows.timestamps.get(row).copied().filter(|at| range.contains(*at)) else { continue };
            let line = rows.lines.get(row);
            let mut entry = None;
            if pipeline.passes(line) {
                labels.reset_row(&rows, row, true);
                let passed = pipeline.process(timestamp, line, &mut labels);
                entry = passed.map(|line| make(timestamp, line, &labels));
            }
            if !each(Row { stream: part.stream(), line, entry }) {
                return Ok(());
            }
        }
    }
    Ok(())
}
