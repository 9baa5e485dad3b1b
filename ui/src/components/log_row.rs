//! One record in a list: time, severity, service, line.

use leptos::prelude::*;

use crate::lang::highlight::{excerpt, matches};
use crate::state::context::App;
use crate::state::records::Record;
use crate::state::time::{format_clock, format_date_time};

/// Longest part of a line that a row shows; the rest is in the record's details. Keeps a list of megabyte lines quick.
const LINE_SHOWN_MAX: usize = 1_000;
/// Characters that a row shows before a match which it would not show otherwise.
const LEAD_SHOWN: usize = 40;
/// Labels that name who wrote a line, the best one first: senders of Loki's push API have no `service_name`.
const SOURCE_LABELS: [&str; 7] = ["service_name", "service", "app", "application", "container", "job", "filename"];

/// The line with matches marked.
pub(crate) fn marked(line: &str, needles: &[String]) -> AnyView {
    let piece = |(is_match, text): (bool, &str)| {
        let text = text.to_owned();
        if is_match { view! { <mark>{text}</mark> }.into_any() } else { text.into_any() }
    };
    matches(line, needles).into_iter().map(piece).collect::<Vec<_>>().into_any()
}

/// The contents of a row.
pub(crate) fn cells(app: App, record: &Record, needles: &[String], with_date: bool) -> AnyView {
    let ms = record.timestamp_ms();
    let offset = app.utc_offset_ms(ms);
    let clock = if with_date { format_date_time(ms, offset) } else { format_clock(ms, offset) };
    let line = excerpt(&record.line, needles, LEAD_SHOWN, LINE_SHOWN_MAX);
    let service = SOURCE_LABELS.iter().find_map(|name| record.get(name)).unwrap_or_default().to_owned();
    view! {
        <time>{clock}</time>
        <span class="severity">{record.severity.name()}</span>
        <span class="service">{service}</span>
        <span class="line">{marked(&line, needles)}</span>
    }
    .into_any()
}
