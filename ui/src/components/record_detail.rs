//! A record with all its fields, each of which can become a filter.

use leptos::prelude::*;

use super::icon::{Glyph, Icon};
use super::lines_around::LinesAround;
use super::log_row::marked;
use super::pick::copy;
use crate::lang::logql::Filter;
use crate::state::context::App;
use crate::state::records::Record;
use crate::state::time::format_date_time;

/// Where a field comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// A label of the stream.
    Stream,
    /// A field of the record.
    Record,
}

/// The details.
#[component]
pub(crate) fn RecordDetail(
    /// The record.
    record: Record,
    /// What is marked in the line.
    needles: Vec<String>,
    /// Called to close.
    on_close: Callback<()>,
    /// Called with a filter for or against a field.
    on_filter: Callback<(FieldKind, Filter)>,
) -> impl IntoView {
    let app = App::expect();
    let ms = record.timestamp_ms();
    let nanos = record.timestamp_ns.rem_euclid(1_000_000_000);
    let time = format!("{}.{nanos:09}", format_date_time(ms, app.utc_offset_ms(ms)));
    let line = pretty(&record.line);
    let (copied, around) = (record.line.clone(), record.clone());
    let class = format!("detail severity-{}", record.severity.name());
    let groups = [
        ("Stream labels", FieldKind::Stream, &*record.stream),
        ("Fields", FieldKind::Record, &record.metadata),
        ("Parsed from the line", FieldKind::Record, &record.parsed),
    ];
    let groups = groups.into_iter().filter(|(_, _, fields)| !fields.is_empty()).map(|(title, kind, fields)| {
        let rows = fields.iter().map(|(name, value)| field(kind, name, value, on_filter)).collect::<Vec<_>>();
        view! {
            <h3>{title}</h3>
            <dl class="fields">{rows}</dl>
        }
    });
    view! {
        <aside class=class aria-label="Log record">
            <header>
                <span class="severity">{record.severity.name()}</span>
                <time class="num">{time}</time>
                <button
                    class="button icon-button"
                    title="Copy the line"
                    aria-label="Copy the line"
                    on:click=move |_| copy(&copied)
                >
                    <Icon glyph=Glyph::Copy />
                </button>
                <button class="button icon-button" title="Close" aria-label="Close" on:click=move |_| on_close.run(())>
                    <Icon glyph=Glyph::Close />
                </button>
            </header>
            <pre>{marked(&line, &needles)}</pre>
            <LinesAround record=around />
            {groups.collect::<Vec<_>>()}
        </aside>
    }
}

fn field(kind: FieldKind, name: &str, value: &str, on_filter: Callback<(FieldKind, Filter)>) -> AnyView {
    let (plus, minus) = (Filter::new(name, "=", value), Filter::new(name, "!=", value));
    let copied = value.to_owned();
    view! {
        <div>
            <dt>{name.to_owned()}</dt>
            <dd>{value.to_owned()}</dd>
            <span class="field-tools">
                <button
                    title="Only this"
                    aria-label=format!("Filter for {name}")
                    on:click=move |_| on_filter.run((kind, plus.clone()))
                >
                    <Icon glyph=Glyph::Plus />
                </button>
                <button
                    title="Without this"
                    aria-label=format!("Filter out {name}")
                    on:click=move |_| on_filter.run((kind, minus.clone()))
                >
                    <Icon glyph=Glyph::Minus />
                </button>
                <button title="Copy" aria-label=format!("Copy {name}") on:click=move |_| copy(&copied)>
                    <Icon glyph=Glyph::Copy />
                </button>
            </span>
        </div>
    }
    .into_any()
}

/// Longest JSON line that is laid out; formatting more would stall the page.
const PRETTY_MAX: usize = 100_000;

/// Returns a JSON object over several lines, any other line as it is.
fn pretty(line: &str) -> String {
    let text = line.trim();
    if !text.starts_with('{') || text.len() > PRETTY_MAX {
        return line.to_owned();
    }
    let value = serde_json::from_str::<&serde_json::value::RawValue>(text);
    value.map_or_else(|_| line.to_owned(), |raw| lay_out(raw.get()))
}

/// Breaks valid JSON into lines. Members stay in their order and numbers as they were written.
fn lay_out(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    let mut chars = json.chars().peekable();
    let feed = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if is_text {
            out.push(c);
            is_text = c != '"' || is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '"' => {
                is_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    feed(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                feed(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                feed(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_as_it_was_written() {
        let line = r#"{"b":1.50,"a":[1,{"x":"},{"}],"e":{}, "s":"a\"b: c"}"#;
        let expected = "{\n  \"b\": 1.50,\n  \"a\": [\n    1,\n    {\n      \"x\": \"},{\"\n    }\n  ],\n  \"e\": {},\n  \"s\": \"a\\\"b: c\"\n}";
        assert_eq!(pretty(line), expected);
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        for line in ["plain", "{not json}", "", "  {\"a\":", "[1,2]"] {
            assert_eq!(pretty(line), line);
        }
    }
}
