//! Builds tests on labels without typing a query: pick a label, an operator, a value.

use leptos::ev;
use leptos::prelude::*;

use super::icon::{Glyph, Icon};
use super::pick::{Popover, field_value};
use crate::api::{Request, load, log_labels};
use crate::lang::logql::{Filter, OPERATORS, is_name};
use crate::state::context::App;

/// The filters as chips, with a form for another one.
#[component]
pub(crate) fn StreamBuilder(
    /// Tests on streams' labels.
    #[prop(into)]
    filters: Signal<Vec<Filter>>,
    /// Called with the new list.
    on_change: Callback<Vec<Filter>>,
) -> impl IntoView {
    let is_open = RwSignal::new(false);
    let chips = move || chips(&filters.get(), on_change);
    let add = Callback::new(move |filter: Filter| {
        let mut next = filters.get_untracked();
        next.push(filter);
        is_open.set(false);
        on_change.run(next);
    });
    view! {
        <div class="chips" role="group" aria-label="Stream labels">
            {chips}
            <Popover
                label="Add a label filter"
                is_open
                align="left"
                button=move || {
                    view! {
                        <Icon glyph=Glyph::Plus />
                        "label"
                    }
                }
            >
                <FilterForm on_add=add />
            </Popover>
        </div>
    }
}

/// Filters as chips that can be taken away.
pub(crate) fn chips(filters: &[Filter], on_change: Callback<Vec<Filter>>) -> AnyView {
    let chip = |(index, filter): (usize, &Filter)| {
        let mut without = filters.to_vec();
        without.remove(index);
        let class = if filter.op.starts_with('!') { "chip chip-not" } else { "chip" };
        let value = if filter.value.is_empty() { "\"\"".to_owned() } else { filter.value.clone() };
        view! {
            <span class=class>
                <em>{filter.name.clone()}</em>
                {filter.op}
                <b>{value}</b>
                <button aria-label=format!("Remove the filter on {}", filter.name) on:click=move |_| on_change.run(without.clone())>
                    <Icon glyph=Glyph::Close />
                </button>
            </span>
        }
    };
    filters.iter().enumerate().map(chip).collect::<Vec<_>>().into_any()
}

#[component]
fn FilterForm(on_add: Callback<Filter>) -> impl IntoView {
    let app = App::expect();
    let (name, op, value) = (RwSignal::new(String::new()), RwSignal::new("="), RwSignal::new(String::new()));
    let names = load(move || Some(Request::log_labels(app.span().get_untracked())), log_labels);
    let values = load(
        move || name.with(|name| is_name(name).then(|| Request::log_values(name, app.span().get_untracked()))),
        log_labels,
    );
    Effect::new(move |_| {
        // The first label is chosen, so that values can be picked at once.
        let first = names.get().and_then(|names| {
            let preferred = ["service_name", "host_name"].iter().find(|n| names.iter().any(|name| name == *n));
            preferred.map(|n| (*n).to_owned()).or_else(|| names.first().cloned())
        });
        if let Some(first) = first.filter(|_| name.with_untracked(String::is_empty)) {
            name.set(first);
        }
    });
    let submit = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if name.with_untracked(|name| is_name(name)) {
            on_add.run(Filter::new(&name.get_untracked(), op.get_untracked(), &value.get_untracked()));
        }
    };
    let options = move |list: Option<std::sync::Arc<Vec<String>>>, chosen: RwSignal<String>| {
        let list = list.unwrap_or_default();
        let option = |text: &String| {
            let (value, own) = (text.clone(), text.clone());
            let is_chosen = move || chosen.with(|chosen| *chosen == own);
            view! { <option value=value prop:selected=is_chosen>{text.clone()}</option> }
        };
        list.iter().map(option).collect::<Vec<_>>()
    };
    let operator = |text: &'static str| view! { <option value=text>{text}</option> };
    let suggestion = move |text: &String| {
        let (shown, chosen) = (text.clone(), text.clone());
        view! {
            <button type="button" class="menu-item" on:click=move |_| {
                on_add.run(Filter::new(&name.get_untracked(), op.get_untracked(), &chosen));
            }>{shown}</button>
        }
    };
    let suggestions = move || {
        let typed = value.get().to_lowercase();
        let values = values.get().unwrap_or_default();
        let fitting = values.iter().filter(|v| v.to_lowercase().contains(&typed)).take(50);
        fitting.map(suggestion).collect::<Vec<_>>()
    };
    view! {
        <form class="filter-form" on:submit=submit>
            <div>
                <select class="input" aria-label="Label" on:change=move |event| name.set(field_value(&event))>
                    {move || options(names.get(), name)}
                </select>
                <select
                    class="input"
                    aria-label="Operator"
                    on:change=move |event| {
                        let text = field_value(&event);
                        op.set(OPERATORS.into_iter().find(|op| *op == text).unwrap_or("="));
                    }
                >
                    {OPERATORS.map(operator).into_iter().collect::<Vec<_>>()}
                </select>
                <input
                    class="input"
                    aria-label="Value"
                    placeholder="value"
                    spellcheck="false"
                    prop:value=value
                    on:input=move |event| value.set(field_value(&event))
                />
                <button class="button primary" type="submit">
                    "Add"
                </button>
            </div>
            <div class="menu menu-values">{suggestions}</div>
            {move || names.failure.get().or_else(|| values.failure.get()).map(|f| view! { <p class="hint">{f.message}</p> })}
        </form>
    }
}
