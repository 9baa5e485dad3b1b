//! The PromQL editor: colours, completion by keyboard, errors marked where they are.

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;

use super::pick::field_value;
use crate::api::{Request, fetch, load, log_labels, prom_data};
use crate::lang::completion::{Completion, Offer, Wanted, apply, at_cursor, offers};
use crate::lang::highlight::token_class;
use crate::lang::token::tokens;
use query_wire::prometheus::Metadata;

/// The open list of offers.
#[derive(Debug, Clone, PartialEq)]
struct Menu {
    completion: Completion,
    offers: Vec<Offer>,
    chosen: usize,
    /// Line and column of what is completed, from 0.
    place: (usize, usize),
}

/// Returns the byte position of a position in UTF-16 units, as browsers count.
fn byte_of_utf16(text: &str, units: usize) -> usize {
    let mut left = units;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return at;
        }
        left = left.saturating_sub(c.len_utf16());
    }
    text.len()
}

/// Returns the position in UTF-16 units of a byte position.
fn utf16_of_byte(text: &str, byte: usize) -> u32 {
    text.char_indices().take_while(|(at, _)| *at < byte).map(|(_, c)| c.len_utf16() as u32).sum()
}

/// Returns the line and column, from 0, of a byte position.
fn place_of(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count();
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count())
}

/// Returns the byte position of a line and column, from 1, as errors tell them.
fn byte_of_place(text: &str, (line, column): (usize, usize)) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// The editor.
#[component]
pub(crate) fn PromqlEditor(
    /// What is in it.
    text: RwSignal<String>,
    /// Where an error was found, as line and column from 1.
    #[prop(into)]
    error_at: Signal<Option<(usize, usize)>>,
    /// Called to run the query.
    on_run: Callback<()>,
) -> impl IntoView {
    let area = NodeRef::<html::Textarea>::new();
    let menu = RwSignal::new(None::<Menu>);
    let metrics = load(|| Some(Request::prom_values("__name__", None)), log_labels);
    let metadata = load(|| Some(Request::prom_metadata()), prom_data::<Metadata>);
    // Answers for another cursor than the present one are left aside.
    let generation = StoredValue::new(0_u64);

    let open = move |completion: Completion, names: &[String], text: &str| {
        let help = |metric: &str| {
            let about = metadata.value.with_untracked(|all| {
                let entry = all.as_ref()?.get(metric)?.first()?;
                Some(format!("{} · {}", entry.kind, entry.help))
            });
            about.unwrap_or_default()
        };
        let offers = offers(&completion, names, help);
        let is_done = matches!(&offers[..], [only] if only.label == completion.prefix);
        let place = place_of(text, completion.start);
        menu.set((!offers.is_empty() && !is_done).then_some(Menu { completion, offers, chosen: 0, place }));
    };
    let complete = move || {
        let Some(area) = area.get_untracked() else { return };
        let now = area.value();
        let cursor = area.selection_start().ok().flatten().unwrap_or_default() as usize;
        generation.update_value(|n| *n += 1);
        let Some(completion) = at_cursor(&now, byte_of_utf16(&now, cursor)) else {
            menu.set(None);
            return;
        };
        let request = match &completion.wanted {
            Wanted::Expression | Wanted::Duration => {
                let names = metrics.value.get_untracked().unwrap_or_default();
                open(completion, &names, &now);
                return;
            }
            Wanted::LabelName { metric } => Request::prom_labels(metric.as_deref()),
            Wanted::LabelValue { metric, label } => Request::prom_values(label, metric.as_deref()),
        };
        let asked = generation.get_value();
        spawn_local(async move {
            // Completion is a help: without an answer there are no offers, and the query's own error tells why.
            let names = fetch(request, log_labels).await.unwrap_or_default();
            if generation.try_get_value() == Some(asked) {
                open(completion, &names, &now);
            }
        });
    };
    let accept = move |index: usize| {
        let (Some(open), Some(area)) = (menu.get_untracked(), area.get_untracked()) else { return };
        let Some(offer) = open.offers.get(index) else { return };
        let (next, cursor) = apply(&area.value(), &open.completion, offer);
        area.set_value(&next);
        let cursor = utf16_of_byte(&next, cursor);
        if area.set_selection_range(cursor, cursor).is_err() {
            leptos::logging::warn!("the cursor cannot be set");
        }
        text.set(next);
        menu.set(None);
        complete();
    };
    let step = move |by: isize| {
        menu.update(|menu| {
            if let Some(menu) = menu {
                let count = menu.offers.len() as isize;
                menu.chosen = (menu.chosen as isize + by).rem_euclid(count.max(1)) as usize;
            }
        });
    };
    let key = move |event: ev::KeyboardEvent| {
        let is_open = menu.with_untracked(Option::is_some);
        match event.key().as_str() {
            "ArrowDown" if is_open => step(1),
            "ArrowUp" if is_open => step(-1),
            "Tab" if is_open => accept(menu.with_untracked(|menu| menu.as_ref().map_or(0, |menu| menu.chosen))),
            "Enter" if event.shift_key() => return,
            "Enter" if is_open && !event.ctrl_key() && !event.meta_key() => {
                accept(menu.with_untracked(|menu| menu.as_ref().map_or(0, |menu| menu.chosen)));
            }
            "Enter" => {
                menu.set(None);
                on_run.run(());
            }
            "Escape" if is_open => menu.set(None),
            " " if event.ctrl_key() => complete(),
            _ => return,
        }
        event.prevent_default();
    };
    let is_typed = move |event: ev::Event| {
        text.set(field_value(&event));
        complete();
    };
    let colours = move || {
        let text = text.get();
        let error_at = error_at.get().map(|place| byte_of_place(&text, place));
        let piece = |token: crate::lang::token::Token<'_>| {
            let is_wrong = error_at.is_some_and(|at| token.start <= at && at < token.end());
            let class = if is_wrong { "tok-wrong" } else { token_class(&token) };
            view! { <span class=class>{token.text.to_owned()}</span> }
        };
        let is_at_end = error_at.is_some_and(|at| at >= text.len() && !text.is_empty());
        let pieces = tokens(&text).into_iter().map(piece).collect::<Vec<_>>();
        view! {
            {pieces}
            {is_at_end.then(|| view! { <span class="tok-wrong">" "</span> })}
            "\n"
        }
    };
    Effect::new(move |_| {
        // A change from outside, such as the back button.
        let now = text.get();
        if let Some(area) = area.get()
            && area.value() != now
        {
            area.set_value(&now);
        }
    });
    view! {
        <div class="editor">
            <pre aria-hidden="true">{colours}</pre>
            <textarea
                node_ref=area
                data-search
                rows=move || text.with(|text| text.matches('\n').count() + 1).to_string()
                spellcheck="false"
                autocapitalize="off"
                autocomplete="off"
                aria-label="PromQL query"
                aria-autocomplete="list"
                aria-expanded=move || menu.with(Option::is_some).to_string()
                placeholder="PromQL, such as  sum by (cpu) (rate(system_cpu_time_seconds_total[5m]))"
                on:input=is_typed
                on:keydown=key
                on:blur=move |_| menu.set(None)
            ></textarea>
            {move || menu.get().map(|menu| menu_view(menu, accept))}
        </div>
    }
}

fn menu_view(menu: Menu, accept: impl Fn(usize) + Copy + 'static) -> AnyView {
    let (line, column) = menu.place;
    let place = format!("top:calc({} * 1.5em + 14px);left:min(calc({column}ch + 10px), calc(100% - 320px))", line + 1);
    let row = |(index, offer): (usize, &Offer)| {
        let is_chosen = index == menu.chosen;
        let keep_in_view = move |element: web_sys::HtmlElement| {
            if is_chosen {
                element.scroll_into_view_with_bool(false);
            }
        };
        let node = NodeRef::<html::Li>::new();
        Effect::new(move |_| {
            if let Some(node) = node.get() {
                keep_in_view(node.into());
            }
        });
        view! {
            <li
                node_ref=node
                role="option"
                aria-selected=is_chosen.to_string()
                // The press would take the focus from the editor, and that would close the list.
                on:pointerdown=move |event| {
                    event.prevent_default();
                    accept(index);
                }
            >
                <i class=format!("offer-{}", offer.kind)>{offer.kind.chars().next().map(String::from)}</i>
                <b>{offer.label.clone()}</b>
                <small>{offer.detail.clone()}</small>
            </li>
        }
    };
    let rows = menu.offers.iter().enumerate().map(row).collect::<Vec<_>>();
    view! {
        <ul class="offers" role="listbox" style=place>
            {rows}
        </ul>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_positions_and_bytes_agree() {
        let text = "a é 💥\nb";
        for (byte, _) in text.char_indices() {
            assert_eq!(byte_of_utf16(text, utf16_of_byte(text, byte) as usize), byte);
        }
        assert_eq!(byte_of_utf16(text, 99), text.len());
    }

    #[test]
    fn places_are_lines_and_columns() {
        let text = "sum(\n  up)";
        assert_eq!(place_of(text, 7), (1, 2));
        assert_eq!(place_of(text, 99), (1, 5));
        assert_eq!(byte_of_place(text, (2, 3)), 7);
        assert_eq!(byte_of_place(text, (9, 9)), text.len());
    }
}
