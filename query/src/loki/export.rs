//! `/api/v1/logs/export`: any number of lines in order, as JSON lines or CSV, each with a cursor to go on from.
//!
//! Lines are read page by page; each page waits for its turn like a query, and no turn is held while the client reads.
//! What waits to be read is one page, accounted for with all other answers.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use chrono::{DateTime, SecondsFormat};
use futures_util::stream;
use model::{Labels, TimeRange, Timestamp};
use query_logql::{LogEntry, Pager, Place};
use runtime::Reservation;
use serde::{Serialize, Serializer};
use storage_api::{Limits, QueryContext};

use super::error::LokiError;
use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State};

/// Most memory of a page.
const PAGE_BYTES_MAX: u64 = 128 << 20;

/// How much is handed to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Warnings come before the first line, or not at all.
const WARNING: HeaderName = HeaderName::from_static("warning");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    JsonLines,
    Csv,
}

/// What is read on.
struct Export {
    state: State,
    /// Taken by whoever reads the next page; nobody else wants it meanwhile.
    pager: Arc<Mutex<Pager>>,
    form: Form,
    categorize: bool,
    /// Lines that may still come.
    left: Option<usize>,
    /// Of the last page, what was not handed out.
    rest: Bytes,
    held: Option<Reservation>,
}

/// Starts an export. What is wrong with the query, and with its first page, is told as an error; later the answer breaks off.
pub(super) async fn export(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let log = query_logql::parse_log(params.get("query"))?;
    let (start_ns, end_ns) = params.bounds(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    if end_ns < start_ns {
        return Err(LokiError::bad("end timestamp must not be before or equal to start time"));
    }
    let end_ns = if end_ns == start_ns { end_ns.saturating_add(1) } else { end_ns };
    let direction = match params.get("direction") {
        "" => query_logql::Direction::Forward,
        _ => params.direction()?,
    };
    let form = form(&params)?;
    let from = match params.get("cursor") {
        "" => None,
        text => Some(place(text).ok_or_else(|| LokiError::bad(format!("cursor: {text:?} is none of an export")))?),
    };
    let left = if params.get("limit").is_empty() { None } else { Some(params.limit()?) };
    let range = TimeRange::new(Timestamp(start_ns), Timestamp(end_ns));
    let pager = Pager::new(log, range, direction, from);
    let categorize = params.categorizes();
    let pager = Arc::new(Mutex::new(pager));
    let mut export = Export { state, pager, form, categorize, left, rest: Bytes::new(), held: None };
    let warnings = export.first(from.is_none()).await?;
    let kind = match form {
        Form::JsonLines => "application/x-ndjson",
        Form::Csv => "text/csv; charset=utf-8",
    };
    let body = Body::from_stream(stream::try_unfold(export, async |mut export| {
        let piece = export.piece().await?;
        Ok::<_, LokiError>(piece.map(|piece| (piece, export)))
    }));
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response();
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c == '"' || c.is_control() { '\'' } else { c }).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("199 daybook \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    Ok(response)
}

fn form(params: &Params) -> Result<Form, LokiError> {
    match params.get("format") {
        "jsonl" | "ndjson" | "json" => Ok(Form::JsonLines),
        "csv" => Ok(Form::Csv),
        "" if params.accepts("text/csv") => Ok(Form::Csv),
        "" => Ok(Form::JsonLines),
        other => Err(LokiError::bad(format!("format must be jsonl or csv, not {other:?}"))),
    }
}

/// Reads a cursor.
fn place(text: &str) -> Option<Place> {
    let (at_ns, done) = text.split_once('.')?;
    Some(Place { at_ns: at_ns.parse().ok()?, done: done.parse().ok()? })
}

impl Export {
    /// Makes the first piece, so that an error can still be told as one. Returns what the answer may lack.
    async fn first(&mut self, with_header: bool) -> Result<Vec<String>, LokiError> {
        let (page, warnings) = self.page().await?;
        let mut bytes = Vec::new();
        if with_header && self.form == Form::Csv {
            bytes.extend_from_slice(b"timestamp,labels,line,cursor\n");
        }
        bytes.extend_from_slice(&page);
        self.rest = Bytes::from(bytes);
        Ok(warnings)
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, LokiError> {
        while self.rest.is_empty() {
            self.held = None;
            if self.is_done() {
                return Ok(None);
            }
            let (page, warnings) = self.page().await?;
            for warning in warnings {
                tracing::warn!(warning, "an export may be incomplete");
            }
            self.rest = page;
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Ok(Some(piece))
    }

    fn is_done(&self) -> bool {
        self.left == Some(0) || self.pager.lock().unwrap_or_else(PoisonError::into_inner).is_done()
    }

    /// Reads the next page with lines, or with none at the end. A page that is over a limit is tried again as a smaller one.
    async fn page(&mut self) -> Result<(Bytes, Vec<String>), LokiError> {
        loop {
            if self.is_done() {
                return Ok((Bytes::new(), Vec::new()));
            }
            let services = &self.state.services;
            let limits = services.limits.clone();
            let memory_bytes_max = limits.memory_bytes_max.min(PAGE_BYTES_MAX);
            let context = QueryContext::new(Limits { memory_bytes_max, ..limits });
            let (logs, pager) = (Arc::clone(&services.logs), Arc::clone(&self.pager));
            let (form, categorize, left) = (self.form, self.categorize, self.left);
            let work = move |context: &QueryContext| {
                let mut pager = pager.lock().unwrap_or_else(PoisonError::into_inner);
                match pager.next_page(logs.as_ref(), context) {
                    Ok(mut lines) => {
                        lines.truncate(left.unwrap_or(usize::MAX));
                        let count = lines.len();
                        Ok(Some((encode_page(lines, form, categorize)?, count, context.take_warnings())))
                    }
                    Err(query_logql::Error::Storage(
                        storage_api::Error::Limit { .. } | storage_api::Error::Timeout { .. },
                    )) if pager.shrink() => Ok(None),
                    Err(error) => Err(LokiError::from(error)),
                }
            };
            let Some((bytes, count, warnings)) = services.run(context, work).await?? else { continue };
            self.left = self.left.map(|left| left.saturating_sub(count));
            if count > 0 || !warnings.is_empty() {
                self.held = Some(services.hold_answer(bytes.len() as u64)?);
                return Ok((Bytes::from(bytes), warnings));
            }
        }
    }
}

fn encode_page(lines: Vec<(LogEntry, Place)>, form: Form, categorize: bool) -> Result<Vec<u8>, LokiError> {
    let mut out = Vec::new();
    let mut row = String::new();
    for (entry, place) in lines {
        let timestamp = DateTime::from_timestamp_nanos(entry.timestamp.0).to_rfc3339_opts(SecondsFormat::Nanos, true);
        let cursor = format!("{}.{}", place.at_ns, place.done);
        match form {
            Form::JsonLines => {
                let labels = &entry.labels;
                let (all, none) = (labels.all(), Labels::empty());
                let (labels, structured_metadata, parsed) =
                    if categorize { (&labels.stream, &labels.metadata, &labels.parsed) } else { (&all, &none, &none) };
                let line = Line {
                    timestamp: &timestamp,
                    labels: Pairs(labels),
                    structured_metadata: Pairs(structured_metadata),
                    parsed: Pairs(parsed),
                    line: &entry.line,
                    cursor: &cursor,
                };
                serde_json::to_writer(&mut out, &line).map_err(|error| LokiError::internal(error.to_string()))?;
                out.push(b'\n');
            }
            Form::Csv => {
                row.clear();
                let labels = if categorize { entry.labels.stream } else { entry.labels.all() };
                for (i, field) in [&timestamp, &series(&labels), &entry.line, &cursor].into_iter().enumerate() {
                    row.push_str(if i > 0 { "," } else { "" });
                    push_field(&mut row, field);
                }
                row.push('\n');
                out.extend_from_slice(row.as_bytes());
            }
        }
    }
    Ok(out)
}

/// An [`ExportedLine`](query_wire::loki::ExportedLine) that is written without being made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    timestamp: &'a str,
    labels: Pairs<'a>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    structured_metadata: Pairs<'a>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    parsed: Pairs<'a>,
    line: &'a str,
    cursor: &'a str,
}

/// Labels as a JSON object.
struct Pairs<'a>(&'a Labels);

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Writes labels as in a selector: `{app="web", level="info"}`.
fn series(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in labels.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        // Writing to a string does not fail.
        let _written = write!(out, "{comma}{name}={value:?}");
    }
    out.push('}');
    out
}

/// Writes a field as RFC 4180 has it.
fn push_field(out: &mut String, field: &str) {
    if !field.contains(['"', ',', '\n', '\r']) {
        out.push_str(field);
        return;
    }
    out.push('"');
    for (i, part) in field.split('"').enumerate() {
        out.push_str(if i > 0 { "\"\"" } else { "" });
        out.push_str(part);
    }
    out.push('"');
}
