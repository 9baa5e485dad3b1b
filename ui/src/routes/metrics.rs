//! Metrics: a PromQL query as chart and as table.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::prelude::*;

use crate::api::{Failure, PromAnswer, Request, load, prom_answer};
use crate::charts::chart::Chart;
use crate::charts::frame::{Options, Shape};
use crate::charts::palette::color;
use crate::charts::series::{Series, short_names};
use crate::charts::units::unit_of_query;
use crate::components::icon::{Glyph, Icon};
use crate::components::legend::Legend;
use crate::components::promql_editor::PromqlEditor;
use crate::components::states::{Empty, Truncated, stateful};
use crate::components::value_table::ValueTable;
use crate::lang::highlight::error_position;
use crate::state::context::{App, Keep};
use crate::state::time::SECOND_MS;

/// Points of each line: about one for each pixel of a wide screen.
const POINTS_MAX: i64 = 1_000;
/// Series that are drawn. More would hide each other.
const SERIES_SHOWN: usize = 200;

/// What an empty page offers.
const EXAMPLES: [(&str, &str); 5] = [
    ("CPU by state", "sum by (state) (rate(system_cpu_time_seconds_total[1m]))"),
    ("Memory", "sum by (state) (system_memory_usage_bytes)"),
    ("Disk throughput", "sum by (device, direction) (rate(system_disk_io_bytes_total[1m]))"),
    ("Network throughput", "sum by (device, direction) (rate(system_network_io_bytes_total[1m]))"),
    ("Requests to this server", "topk(10, rate({__name__=~\"daybook_.+_total\"}[1m]))"),
];

/// Returns the answer as lines for a chart, at most [`SERIES_SHOWN`].
fn lines(answer: &PromAnswer) -> Vec<Series> {
    let shown = answer.series.iter().take(SERIES_SHOWN);
    let names = short_names(&shown.clone().map(|series| series.metric.clone()).collect::<Vec<_>>());
    let lines = shown.zip(names).enumerate().map(|(index, (series, name))| Series {
        name,
        labels: series.metric.clone(),
        color: color(index),
        points: series.values.iter().map(|point| (point.timestamp_ms as f64, point.value)).collect(),
    });
    lines.collect()
}

/// Reads the hidden series of the URL: one name a line.
fn hidden_from_param(text: &str) -> BTreeSet<String> {
    text.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The page.
#[component]
pub(crate) fn Metrics() -> impl IntoView {
    let app = App::expect();
    let query = app.param("q");
    let typed = RwSignal::new(query.get_untracked());
    Effect::new(move |_| typed.set(query.get()));
    let error = RwSignal::new(None::<Failure>);
    let error_at = Signal::derive(move || {
        let is_run = *typed.read() == *query.read();
        error.get().filter(|_| is_run).and_then(|failure| error_position(&failure.message))
    });
    let run = Callback::new(move |()| {
        let text = typed.get_untracked();
        if text == query.get_untracked() {
            app.refresh();
        } else {
            app.set(&[("q", &text), ("hide", "")], Keep::Entry);
        }
    });
    let is_table = {
        let view = app.param("view");
        Memo::new(move |_| view.get() == "table")
    };
    let tab = move |name: &'static str, title: &'static str| {
        view! {
            <button
                class="segment"
                aria-pressed=move || (is_table.get() == (name == "table")).to_string()
                on:click=move |_| app.set(&[("view", name)], Keep::Nothing)
            >
                {title}
            </button>
        }
    };
    let result = move || {
        if query.read().is_empty() {
            return view! { <Examples /> }.into_any();
        }
        if is_table.get() {
            view! { <TableResult query error /> }.into_any()
        } else {
            view! { <ChartResult query error /> }.into_any()
        }
    };
    view! {
        <div class="explore">
            <h1 class="sr-only">"Metrics"</h1>
            <section class="panel query-panel" aria-label="Query">
                <div class="query-row">
                    <PromqlEditor text=typed error_at on_run=run />
                    <button class="button primary" title="Run (Enter)" on:click=move |_| run.run(())>
                        <Icon glyph=Glyph::Play />
                        "Run"
                    </button>
                </div>
                <div class="query-tools">
                    <div class="segments" role="group" aria-label="View">
                        {tab("", "Chart")} {tab("table", "Table")}
                    </div>
                    <Switches is_table />
                    <span class="hint query-hint">"Enter runs · Shift+Enter breaks the line · Ctrl+Space completes"</span>
                </div>
            </section>
            <section class="panel result-panel" aria-label="Result">
                {result}
            </section>
        </div>
    }
}

/// How the chart is drawn.
#[component]
fn Switches(is_table: Memo<bool>) -> impl IntoView {
    let app = App::expect();
    let switch = move |name: &'static str, title: &'static str| {
        let value = app.param(name);
        view! {
            <button
                class="segment"
                aria-pressed=move || (!value.get().is_empty()).to_string()
                on:click=move |_| {
                    let next = if value.get_untracked().is_empty() { "1" } else { "" };
                    app.set(&[(name, next)], Keep::Nothing);
                }
            >
                {title}
            </button>
        }
    };
    view! {
        <Show when=move || !is_table.get()>
            <div class="segments" role="group" aria-label="Chart">
                {switch("stack", "Stacked")} {switch("log", "Log scale")}
            </div>
        </Show>
    }
}

/// Warnings, infos and what is not shown.
fn notes(answer: &PromAnswer) -> AnyView {
    let note = |class: &'static str, text: &String| view! { <p class=class role="note">{text.clone()}</p> };
    let warnings = answer.warnings.iter().map(|text| note("note note-warning", text)).collect::<Vec<_>>();
    let infos = answer.infos.iter().map(|text| note("note note-info", text)).collect::<Vec<_>>();
    let more = answer.series.len().saturating_sub(SERIES_SHOWN);
    let histograms = answer.histograms;
    view! {
        {warnings}
        {infos}
        {(more > 0)
            .then(|| {
                let note = format!("{SERIES_SHOWN} of {} series are drawn; narrow or aggregate the query to see the others.", answer.series.len());
                view! { <Truncated note /> }
            })}
        {(histograms > 0)
            .then(|| {
                let note = format!("{histograms} native histograms are not drawn; histogram_quantile() or histogram_avg() makes lines of them.");
                view! { <Truncated note /> }
            })}
    }
    .into_any()
}

#[component]
fn ChartResult(query: Memo<String>, error: RwSignal<Option<Failure>>) -> impl IntoView {
    let app = App::expect();
    let span = app.span();
    let step = move || span.get().step_ms(POINTS_MAX, SECOND_MS);
    let answer = load(move || Some(Request::prom_range(&query.read(), span.get(), step())), prom_answer);
    Effect::new(move |_| error.set(answer.failure.get()));
    let series = Memo::new(move |_| Arc::new(answer.get().map(|answer| lines(&answer)).unwrap_or_default()));
    let (hide, stack, log) = (app.param("hide"), app.param("stack"), app.param("log"));
    let hidden = Memo::new(move |_| hidden_from_param(&hide.read()));
    let on_hide = Callback::new(move |hidden: BTreeSet<String>| {
        let names = hidden.into_iter().collect::<Vec<_>>().join("\n");
        app.set(&[("hide", &names)], Keep::Nothing);
    });
    let unit = Memo::new(move |_| unit_of_query(&query.read()));
    let options = Signal::derive(move || Options {
        unit: unit.get(),
        shape: if stack.read().is_empty() { Shape::Lines } else { Shape::Areas },
        is_log: !log.read().is_empty(),
        step_ms: step(),
        ..Options::default()
    });
    let focus = RwSignal::new(None::<String>);
    let is_empty = Memo::new(move |_| series.with(|series| series.is_empty()));
    let chart = move || {
        let notes = answer.value.with(|answer| answer.as_ref().map(|answer| notes(answer)));
        if is_empty.get() {
            let hint = "No series match, or they have no samples in this range.";
            return view! { {notes} <Empty title="The query gives nothing" hint /> }.into_any();
        }
        let on_zoom = Callback::new(move |span| app.zoom(span));
        view! {
            {notes}
            <Chart label="Query result" series span options hidden focus on_zoom height=360 />
            <Legend series unit hidden on_hide focus />
        }
        .into_any()
    };
    view! { {stateful(answer, 8, chart)} }
}

#[component]
fn TableResult(query: Memo<String>, error: RwSignal<Option<Failure>>) -> impl IntoView {
    let app = App::expect();
    let answer = load(move || Some(Request::prom_instant(&query.read(), app.span().get().to_ms)), prom_answer);
    Effect::new(move |_| error.set(answer.failure.get()));
    let series = Memo::new(move |_| {
        let answer = answer.get();
        let all = answer.iter().flat_map(|answer| &answer.series).map(|series| Series {
            labels: series.metric.clone(),
            points: series.values.iter().map(|point| (point.timestamp_ms as f64, point.value)).collect(),
            ..Series::default()
        });
        Arc::new(all.collect::<Vec<_>>())
    });
    let unit = Memo::new(move |_| unit_of_query(&query.read()));
    let table = move || {
        let notes = answer.value.with(|answer| {
            answer.as_ref().map(|answer| notes(&PromAnswer { series: Vec::new(), ..(**answer).clone() }))
        });
        if series.with(|series| series.is_empty()) {
            let hint = "No series match, or they have no sample at the end of this range.";
            return view! { {notes} <Empty title="The query gives nothing" hint /> }.into_any();
        }
        view! { {notes} <ValueTable series unit /> }.into_any()
    };
    view! { {stateful(answer, 8, table)} }
}

#[component]
fn Examples() -> impl IntoView {
    let app = App::expect();
    let example = move |(title, query): (&'static str, &'static str)| {
        view! {
            <button class="example" on:click=move |_| app.set(&[("q", query)], Keep::Entry)>
                <b>{title}</b>
                <code>{query}</code>
            </button>
        }
    };
    view! {
        <div class="examples">
            <p class="hint">"Type a query above, or start from one of these."</p>
            {EXAMPLES.map(example).into_iter().collect::<Vec<_>>()}
        </div>
    }
}

#[cfg(test)]
mod tests {
    use query_wire::loki::{MatrixSeries, Point};

    use super::*;

    #[test]
    fn no_more_lines_are_drawn_than_can_be_seen() {
        let series = (0..300).map(|i| MatrixSeries {
            metric: [("i".to_owned(), i.to_string())].into(),
            values: vec![Point { timestamp_ms: 1, value: 1.0 }],
        });
        let lines = lines(&PromAnswer { series: series.collect(), ..PromAnswer::default() });
        assert_eq!(lines.len(), SERIES_SHOWN);
        assert_eq!((lines[7].name.as_str(), lines[7].points[0]), ("7", (1.0, 1.0)));
    }

    #[test]
    fn hidden_series_are_read_from_the_url() {
        assert_eq!(hidden_from_param("a\n\nb c"), BTreeSet::from(["a".to_owned(), "b c".to_owned()]));
    }
}
