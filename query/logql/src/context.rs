//! The lines around a line in its stream.

use model::{Labels, MatchOp, Matcher, TimeRange, Timestamp};
use storage_api::{LogQuerier, QueryContext};

use crate::ast::LogExpr;
use crate::error::{Error, Result};
use crate::eval::{Direction, LogEntry};
use crate::pages::{Pager, Place, Rows, rows_at};

/// Which line, and how many around it.
#[derive(Debug, Clone)]
pub struct ContextQuery<'a> {
    /// Finds the line; those around it need not pass.
    pub log: &'a LogExpr,
    /// When the line was written.
    pub at: Timestamp,
    /// Its text, where several lines of that time pass.
    pub line: Option<&'a str>,
    /// Most lines before it.
    pub before: usize,
    /// Most lines after it.
    pub after: usize,
    /// Where to look for them; half open.
    pub range: TimeRange,
}

/// A line and those around it, all as they were stored and oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct LineContext {
    /// The stream of all of them.
    pub stream: Labels,
    /// The lines before.
    pub before: Vec<LogEntry>,
    /// The line itself.
    pub line: LogEntry,
    /// The lines after.
    pub after: Vec<LogEntry>,
}

/// Where a line lies among those of its stream and time.
#[derive(Debug)]
struct Found {
    stream: Labels,
    /// How many come before it.
    number: usize,
}

/// Returns the lines around a line. Of several that are equal in all that was asked for, it is the first one.
///
/// # Errors
/// When no line or lines of several streams fulfil what was asked for; as [`select_logs`](crate::select_logs).
pub fn line_context(query: &ContextQuery<'_>, logs: &dyn LogQuerier, context: &QueryContext) -> Result<LineContext> {
    let one_time = TimeRange::new(query.at, Timestamp(query.at.0.saturating_add(1)));
    let found = find(query, one_time, logs, context)?;
    let log = LogExpr { matchers: only(&found.stream, logs, context)?, stages: Vec::new(), at: query.log.at };
    let mut at_its_time = 0;
    rows_at(&log, one_time, (Direction::Forward, Rows::All), logs, context, &mut |_| {
        at_its_time += 1;
        true
    })?;
    let lines = |direction, done, most| {
        let place = Place { at_ns: query.at.0, done };
        take(Pager::new(log.clone(), query.range, direction, Some(place)), most, logs, context)
    };
    let mut before = lines(Direction::Backward, at_its_time - found.number, query.before)?;
    before.reverse();
    let mut after = lines(Direction::Forward, found.number, query.after.saturating_add(1))?;
    if after.is_empty() {
        return Err(Error::evaluation("the line lies outside the range"));
    }
    let line = after.remove(0);
    Ok(LineContext { stream: found.stream, before, line, after })
}

fn find(query: &ContextQuery<'_>, one_time: TimeRange, logs: &dyn LogQuerier, context: &QueryContext) -> Result<Found> {
    let mut found: Option<Found> = None;
    let mut others = 0;
    let (mut stream, mut number) = (Labels::empty(), 0);
    rows_at(query.log, one_time, (Direction::Forward, Rows::All), logs, context, &mut |row| {
        if *row.stream != stream {
            (stream, number) = (row.stream.clone(), 0);
        }
        let text = |entry: &LogEntry| query.line.is_none_or(|wanted| wanted == row.line || wanted == entry.line);
        if row.entry.as_ref().is_some_and(text) {
            match &found {
                Some(first) => others += usize::from(first.stream != stream),
                None => found = Some(Found { stream: stream.clone(), number }),
            }
        }
        number += 1;
        true
    })?;
    match found {
        Some(found) if others == 0 => Ok(found),
        Some(_) => {
            Err(Error::evaluation("lines of several streams have this time: say more of their labels, or the line"))
        }
        None => Err(Error::evaluation("there is no such line at this time")),
    }
}

/// Returns matchers that no other stream passes.
fn only(stream: &Labels, logs: &dyn LogQuerier, context: &QueryContext) -> Result<Vec<Matcher>> {
    let mut matchers: Vec<Matcher> = stream.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    let found = logs.streams(std::slice::from_ref(&matchers), TimeRange::ALL, context)?;
    for other in found.iter().filter(|other| *other != stream) {
        // It has all labels of ours, and so at least one more.
        let more = other.iter().find(|(name, _)| stream.get(name).is_none());
        if let Some((name, _)) = more
            && matchers.iter().all(|matcher| matcher.name != name)
        {
            matchers
                .push(Matcher::new(name, MatchOp::Equal, "").map_err(|error| Error::evaluation(error.to_string()))?);
        }
    }
    Ok(matchers)
}

fn take(pager: Pager, most: usize, logs: &dyn LogQuerier, context: &QueryContext) -> Result<Vec<LogEntry>> {
    let mut out = Vec::new();
    if most == 0 {
        return Ok(out);
    }
    let mut pager = pager.with_lines_max(most);
    while out.len() < most && !pager.is_done() {
        context.check()?;
        let page = pager.next_page(logs, context)?;
        out.extend(page.into_iter().map(|(entry, _)| entry).take(most - out.len()));
    }
    Ok(out)
}
