//! `/api/v1/logs/export`: any number of lines in order, as JSON lines or CSV, each with a cursor to go on from.
//!
//! Lines are read page by page; each page waits for its turn like a query, and no turn is held while the client reads.
//! What waits to be read is one page, accounted for with all other answers.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use model::{TimeRange, Timestamp};
use query_logql::{Pager, Place, WrittenLine};
use runtime::Reservation;
use storage_api::{Limits, QueryContext};

use super::error::LokiError;
use super::export_line::{ExportWriter, Form};
use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State};

/// Most memory of a page.
const PAGE_BYTES_MAX: u64 = 128 << 20;

/// Most bytes of a cursor and what is around it.
const CURSOR_BYTES_MAX: usize = 56;

/// How much is handed to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Warnings come before the first line, or not at all.
const WARNING: HeaderName = HeaderName::from_static("warning");

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
    add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Tells in the header of an answer why it may be incomplete.
pub(super) fn add_warnings(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c == '"' || c.is_control() { '\'' } else { c }).collect();
        if let Ok(value) = HeaderValue::from_str(&format!("199 daybook \"{text}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
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
                match pager.next_written(&ExportWriter { form, categorize }, logs.as_ref(), context) {
                    Ok(mut lines) => {
                        lines.truncate(left.unwrap_or(usize::MAX));
                        let count = lines.len();
                        Ok(Some((join_page(lines, form), count, context.take_warnings())))
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

/// Puts pages together of lines that were written already: only their cursors depend on those before them.
fn join_page(lines: Vec<(WrittenLine, Place)>, form: Form) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.iter().map(|(line, _)| line.bytes.len() + CURSOR_BYTES_MAX).sum());
    for (line, place) in lines {
        out.extend_from_slice(&line.bytes);
        // Writing to memory does not fail.
        let _written = match form {
            Form::JsonLines => writeln!(out, ",\"cursor\":\"{}.{}\"}}", place.at_ns, place.done),
            Form::Csv => writeln!(out, ",{}.{}", place.at_ns, place.done),
        };
    }
    out
}
