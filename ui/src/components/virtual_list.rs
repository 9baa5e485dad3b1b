//! A list of any number of records of which only those in view are drawn.

use std::sync::Arc;

use leptos::ev;
use leptos::html;
use leptos::prelude::*;

use super::log_row::cells;
use super::observe::observe_size;
use crate::state::context::App;
use crate::state::records::Record;
use crate::state::window::{scroll_to, visible};

/// The height of a row in pixels, as in the style sheet.
const ROW_HEIGHT: f64 = 22.0;
/// Rows from the end at which older records are asked for.
const NEAR_END: usize = 60;

/// The list. Arrow keys move the selection, Enter opens it.
#[component]
pub(crate) fn LogList(
    /// What is listed, newest first.
    #[prop(into)]
    records: Signal<Arc<Vec<Record>>>,
    /// What is marked in the lines.
    #[prop(into)]
    needles: Signal<Vec<String>>,
    /// The id of the selected record.
    #[prop(into)]
    selected: Signal<Option<u64>>,
    /// Called with the record that was chosen.
    on_select: Callback<Record>,
    /// Called when the end comes near.
    on_near_end: Callback<()>,
    /// Called with whether the newest record is in view.
    on_top: Callback<bool>,
) -> impl IntoView {
    let app = App::expect();
    let holder = NodeRef::<html::Div>::new();
    let size = observe_size(holder);
    let scroll_top = RwSignal::new(0.0);
    let count = Memo::new(move |_| records.with(|records| records.len()));
    let window = Memo::new(move |_| visible(scroll_top.get(), size.get().1, ROW_HEIGHT, count.get()));
    Effect::new(move |_| {
        if count.get() > 0 && window.get().end + NEAR_END >= count.get() {
            on_near_end.run(());
        }
    });
    let rows = move || {
        let window = window.get();
        records.with(|records| {
            let shown = records.get(window.first..window.end).unwrap_or_default();
            shown.iter().cloned().enumerate().map(|(i, record)| (window.first + i, record)).collect::<Vec<_>>()
        })
    };
    let move_selection = move |forward: bool| {
        let chosen = records.with_untracked(|records| {
            let now = selected.get_untracked().and_then(|id| records.iter().position(|record| record.id == id));
            let next = match (now, forward) {
                (None, _) => 0,
                (Some(at), true) => (at + 1).min(records.len().saturating_sub(1)),
                (Some(at), false) => at.saturating_sub(1),
            };
            records.get(next).map(|record| (next, record.clone()))
        });
        let (Some((row, record)), Some(holder)) = (chosen, holder.get_untracked()) else { return };
        let seen = (f64::from(holder.scroll_top()), size.get_untracked().1);
        if let Some(top) = scroll_to(row, seen.0, seen.1, ROW_HEIGHT) {
            holder.set_scroll_top(top as i32);
        }
        on_select.run(record);
    };
    let key = move |event: ev::KeyboardEvent| {
        match event.key().as_str() {
            "ArrowDown" | "j" => move_selection(true),
            "ArrowUp" | "k" => move_selection(false),
            _ => return,
        }
        event.prevent_default();
    };
    let scrolled = move |_| {
        if let Some(holder) = holder.get_untracked() {
            let top = f64::from(holder.scroll_top());
            scroll_top.set(top);
            on_top.run(top < ROW_HEIGHT);
        }
    };
    let row = move |(index, record): (usize, Record)| {
        let id = record.id;
        let class = format!("log-row severity-{}", record.severity.name());
        let cells = needles.with(|needles| cells(app, &record, needles, false));
        view! {
            <div
                class=class
                class:selected=move || selected.get() == Some(id)
                style:top=format!("{}px", index as f64 * ROW_HEIGHT)
                role="option"
                aria-selected=move || (selected.get() == Some(id)).to_string()
                on:click=move |_| on_select.run(record.clone())
            >
                {cells}
            </div>
        }
    };
    view! {
        <div
            class="log-list"
            node_ref=holder
            tabindex="0"
            role="listbox"
            aria-label="Log records, newest first"
            on:scroll=scrolled
            on:keydown=key
        >
            <div class="log-list-rows" style:height=move || format!("{}px", count.get() as f64 * ROW_HEIGHT)>
                <For
                    each=rows
                    key=move |(index, record)| (*index, record.id, needles.with(|needles| needles.join("\0")))
                    children=row
                />
            </div>
        </div>
    }
}
