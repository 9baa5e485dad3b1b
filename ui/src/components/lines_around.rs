//! The lines around a record in its stream, whatever the page's query leaves out.

use leptos::prelude::*;
use query_wire::loki::Entry;

use super::log_row::marked;
use super::states::Failed;
use crate::api::{Request, load, log_context};
use crate::lang::logql::{Builder, Filter};
use crate::state::context::App;
use crate::state::records::Record;
use crate::state::time::format_clock;

/// Lines on either side that are asked for first; each further press asks for twice as many.
const LINES_FIRST: usize = 5;

/// Most lines on either side: what comes behind is a search of its own.
const LINES_MAX: usize = 320;

/// A button, and the lines once it was pressed.
#[component]
pub(crate) fn LinesAround(
    /// The record.
    record: Record,
) -> impl IntoView {
    let app = App::expect();
    let lines = RwSignal::new(0_usize);
    let query = stream_query(&record);
    let around = load(
        move || {
            let lines = lines.get();
            (lines > 0).then(|| Request::log_context(&query, record.timestamp_ns, &record.line, lines))
        },
        log_context,
    );
    let more = move |_| lines.update(|lines| *lines = (*lines * 2).clamp(LINES_FIRST, LINES_MAX));
    let on_retry = Callback::new(move |()| around.retry());
    let label = move || if lines.get() == 0 { "Show lines around" } else { "Show more lines around" };
    // Outside of the view, where a `>` would end the tag.
    let is_all = move || lines.get() >= LINES_MAX;
    let shown = move || {
        let found = around.get()?;
        let before = found.before.iter().map(|entry| line_of(app, entry, false));
        let own = std::iter::once(line_of(app, &found.line, true));
        let after = found.after.iter().map(|entry| line_of(app, entry, false));
        Some(view! { <ol class="around">{before.chain(own).chain(after).collect::<Vec<_>>()}</ol> })
    };
    view! {
        <button class="button" on:click=more disabled=is_all>{label}</button>
        {move || around.failure.get().map(|failure| view! { <Failed failure on_retry /> })}
        {shown}
    }
}

/// Returns a selector of the record's stream.
fn stream_query(record: &Record) -> String {
    let stream = record.stream.iter().map(|(name, value)| Filter::new(name, "=", value)).collect();
    Builder { stream, ..Builder::default() }.query()
}

fn line_of(app: App, entry: &Entry, is_own: bool) -> AnyView {
    let ms = entry.timestamp_ns.div_euclid(1_000_000);
    let clock = format_clock(ms, app.utc_offset_ms(ms));
    view! {
        <li class:own=is_own aria-current=is_own.to_string()>
            <time>{clock}</time>
            <span>{marked(&entry.line, &[])}</span>
        </li>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::severity::Severity;

    #[test]
    fn the_selector_names_every_label_of_the_stream() {
        let labels = [("pod", "p\"1"), ("service_name", "shop")];
        let stream = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let record = Record {
            timestamp_ns: 7,
            line: "x".to_owned(),
            stream: Arc::new(stream),
            metadata: Default::default(),
            parsed: Default::default(),
            severity: Severity::Info,
            id: 1,
        };
        assert_eq!(stream_query(&record), r#"{pod="p\"1", service_name="shop"}"#);
    }
}
