//! The newest sample of each series as a table, with a column for each label.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::prelude::*;

use super::states::Truncated;
use crate::charts::series::Series;
use crate::charts::units::Unit;

/// Most rows: browsers lay out tables slowly.
const ROWS_MAX: usize = 1_000;

/// The table.
#[component]
pub(crate) fn ValueTable(
    /// The series.
    #[prop(into)]
    series: Signal<Arc<Vec<Series>>>,
    /// The unit of the values.
    #[prop(into)]
    unit: Signal<Unit>,
) -> impl IntoView {
    let is_by_value = RwSignal::new(true);
    let table = move || {
        let series = series.get();
        let names: BTreeSet<String> = series.iter().flat_map(|s| s.labels.keys().cloned()).collect();
        let head = names.iter().map(|name| view! { <th>{name.clone()}</th> }).collect::<Vec<_>>();
        let mut sorted: Vec<&Series> = series.iter().collect();
        let value = |s: &Series| s.points.last().map_or(f64::NAN, |p| p.1);
        if is_by_value.get() {
            sorted.sort_by(|a, b| value(b).total_cmp(&value(a)));
        } else {
            sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        let row = |series: &Series| {
            let cells = names.iter().map(|name| {
                let text = series.labels.get(name).cloned().unwrap_or_default();
                view! { <td>{text}</td> }
            });
            let value = value(series);
            view! {
                <tr>
                    {cells.collect::<Vec<_>>()} <td class="num" title=value.to_string()>
                        {unit.get().format(value)}
                    </td>
                </tr>
            }
        };
        let rows = sorted.iter().take(ROWS_MAX).map(|series| row(series)).collect::<Vec<_>>();
        let more = series.len().saturating_sub(ROWS_MAX);
        view! {
            <div class="value-table">
                <table>
                    <thead>
                        <tr>
                            {head} <th class="num">
                                <button on:click=move |_| is_by_value.update(|by| *by = !*by) title="Sort by value or by labels">
                                    "Value"
                                    {move || if is_by_value.get() { " ↓" } else { "" }}
                                </button>
                            </th>
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
            {(more > 0).then(|| view! { <Truncated note=format!("{more} more series are not shown; narrow the query to see them.") /> })}
        }
    };
    view! { {table} }
}
