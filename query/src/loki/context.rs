//! `/api/v1/logs/context`: the lines around a line in its stream.

use std::sync::Arc;

use axum::extract;
use model::{TimeRange, Timestamp};
use query_logql::{ContextQuery, LogEntry};
use query_wire::loki::{Entry, EntryLabels, LineContext, Response};
use storage_api::QueryContext;

use super::error::LokiError;
use super::params::Params;
use super::{Answer, State, encode, json_answer, json_bytes};

/// Lines on either side unless the request says otherwise.
const LINES_DEFAULT: usize = 10;

/// Most lines on either side; more is an export.
const LINES_MAX: usize = 10_000;

/// Answers with a line and those around it.
pub(super) async fn context(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let log = query_logql::parse_log(params.get("query"))?;
    if params.get("time").is_empty() {
        return Err(LokiError::bad("time must say when the line was written, in nanoseconds or as RFC 3339"));
    }
    let at = Timestamp(params.time("time", 0)?);
    let line = params.all(&["line"]).next().map(str::to_owned);
    let (before, after) = (side(&params, "before")?, side(&params, "after")?);
    let range = TimeRange::new(
        Timestamp(params.time("start", i64::MIN)?),
        Timestamp(params.time("end", i64::MAX - 1)?.saturating_add(1)),
    );
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let query = ContextQuery { log: &log, at, line: line.as_deref(), before, after, range };
        let found = query_logql::line_context(&query, logs.as_ref(), context)?;
        let data = LineContext {
            stream: encode::label_map(&found.stream),
            before: found.before.into_iter().map(entry).collect(),
            line: entry(found.line),
            after: found.after.into_iter().map(entry).collect(),
        };
        json_bytes(&Response::success(data).with_warnings(context.take_warnings()))
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

fn side(params: &Params, name: &str) -> Result<usize, LokiError> {
    match params.get(name) {
        "" => Ok(LINES_DEFAULT),
        text => match text.parse::<usize>() {
            Ok(lines) if lines <= LINES_MAX => Ok(lines),
            _ => Err(LokiError::bad(format!("{name} must be a number of lines from 0 to {LINES_MAX}, not {text:?}"))),
        },
    }
}

fn entry(entry: LogEntry) -> Entry {
    let structured_metadata = encode::label_map(&entry.labels.metadata);
    let labels = EntryLabels { structured_metadata, ..EntryLabels::default() };
    Entry { timestamp_ns: entry.timestamp.0, line: entry.line, labels: Some(labels) }
}
