//! The legend of a chart: a row for each series with its figures; a click shows only that one, with Ctrl it is hidden.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::ev;
use leptos::prelude::*;

use crate::charts::chart::swatch;
use crate::charts::series::{Series, full_name, summary};
use crate::charts::units::Unit;

/// Most rows: more than can be told apart by colour are not worth drawing rows for.
const ROWS_MAX: usize = 200;

/// Returns what is hidden after a click on `name`: all others, or nothing when it was shown alone already.
pub(crate) fn isolate(hidden: &BTreeSet<String>, all: &[String], name: &str) -> BTreeSet<String> {
    let others: BTreeSet<String> = all.iter().filter(|other| *other != name).cloned().collect();
    if *hidden == others { BTreeSet::new() } else { others }
}

/// Returns what is hidden after a click with Ctrl on `name`.
pub(crate) fn toggle(hidden: &BTreeSet<String>, name: &str) -> BTreeSet<String> {
    let mut hidden = hidden.clone();
    if !hidden.remove(name) {
        hidden.insert(name.to_owned());
    }
    hidden
}

/// The legend.
#[component]
pub(crate) fn Legend(
    /// What the chart draws.
    #[prop(into)]
    series: Signal<Arc<Vec<Series>>>,
    /// The unit of the figures.
    #[prop(into)]
    unit: Signal<Unit>,
    /// The names of hidden series.
    #[prop(into)]
    hidden: Signal<BTreeSet<String>>,
    /// Called with what is to be hidden.
    on_hide: Callback<BTreeSet<String>>,
    /// The series under the pointer.
    focus: RwSignal<Option<String>>,
) -> impl IntoView {
    let clicked = move |event: &ev::MouseEvent, name: &str| {
        let next = hidden.with_untracked(|hidden| {
            if event.ctrl_key() || event.meta_key() || event.shift_key() {
                toggle(hidden, name)
            } else {
                let all = series.with_untracked(|series| series.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
                isolate(hidden, &all, name)
            }
        });
        on_hide.run(next);
    };
    let row = move |series: &Series| {
        let name = series.name.clone();
        let (clicked_name, focused_name, hidden_name) = (name.clone(), name.clone(), name.clone());
        let unit = unit.get();
        let cell = |value: Option<f64>| value.map(|value| unit.format(value)).unwrap_or_default();
        let s = summary(&series.points);
        let is_hidden = Memo::new(move |_| hidden.with(|hidden| hidden.contains(&hidden_name)));
        view! {
            <tr
                class:off=is_hidden
                on:pointerenter=move |_| focus.set(Some(focused_name.clone()))
                on:pointerleave=move |_| focus.set(None)
            >
                <td>
                    <button
                        title=full_name(&series.labels)
                        aria-pressed=move || (!is_hidden.get()).to_string()
                        on:click=move |event| clicked(&event, &clicked_name)
                    >
                        <i style:background=swatch(&series.color)></i>
                        <span>{name}</span>
                    </button>
                </td>
                <td>{cell(s.map(|s| s.last))}</td>
                <td>{cell(s.map(|s| s.min))}</td>
                <td>{cell(s.map(|s| s.max))}</td>
                <td>{cell(s.map(|s| s.mean))}</td>
            </tr>
        }
    };
    let rows = move || series.with(|series| series.iter().take(ROWS_MAX).map(row).collect::<Vec<_>>());
    view! {
        <div class="legend">
            <table>
                <thead>
                    <tr>
                        <th>"Series"</th>
                        <th>"Last"</th>
                        <th>"Min"</th>
                        <th>"Max"</th>
                        <th>"Mean"</th>
                    </tr>
                </thead>
                <tbody>{rows}</tbody>
            </table>
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_isolates_and_a_second_one_shows_all() {
        let all = ["a", "b", "c"].map(str::to_owned);
        let alone = isolate(&BTreeSet::new(), &all, "b");
        assert_eq!(alone, BTreeSet::from(["a".to_owned(), "c".to_owned()]));
        assert_eq!(isolate(&alone, &all, "b"), BTreeSet::new());
        assert_eq!(isolate(&alone, &all, "a"), BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        assert_eq!(toggle(&toggle(&BTreeSet::new(), "a"), "a"), BTreeSet::new());
    }
}
