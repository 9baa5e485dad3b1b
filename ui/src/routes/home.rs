//! Home: every host and service at a glance, and what was lost on the way: nothing, or counted.

use std::sync::Arc;

use leptos::ev;
use leptos::prelude::*;
use query_wire::loki::MatrixSeries;

use crate::api::{LabelMap, Load, Request, load, log_matrix, log_records, prom_data};
use crate::charts::chart::Chart;
use crate::charts::frame::{Options, Shape};
use crate::charts::sparkline::Sparkline;
use crate::charts::units::Unit;
use crate::components::host_card::HostCard;
use crate::components::ledger_strip::LedgerStrip;
use crate::components::link::Link;
use crate::components::log_row::cells;
use crate::components::pick::field_value;
use crate::components::states::{Empty, stateful};
use crate::lang::logql::{ALL_STREAMS, Builder, Filter, filters_to_param};
use crate::state::context::{App, Keep};
use crate::state::hosts::{HOST_SERIES, hosts};
use crate::state::location::Location;
use crate::state::records::Record;
use crate::state::services::{Service, by_severity, services};
use crate::state::severity::Severity;
use crate::state::time::{SECOND_MS, Span};

/// Hosts whose charts are open at first: more would ask for too much at once.
const OPEN_HOSTS: usize = 2;
/// Log lines on this page.
const LINES_SHOWN: usize = 40;
/// Bars of the volume chart.
const BARS_MAX: i64 = 60;
/// Services listed.
const SERVICES_SHOWN: usize = 30;

/// The page.
#[component]
pub(crate) fn Home() -> impl IntoView {
    view! {
        <div class="home">
            <h1 class="sr-only">"Home"</h1>
            <LedgerStrip />
            <Hosts />
            <Services />
            <Lines />
        </div>
    }
}

#[component]
fn Hosts() -> impl IntoView {
    let app = App::expect();
    let series = load(move || Some(Request::prom_series(HOST_SERIES, app.span().get())), prom_data::<Vec<LabelMap>>);
    // Compared as a whole, so that cards stay as they are while nothing changes.
    let found = Memo::new(move |_| series.get().map(|series| hosts(&series)).unwrap_or_default());
    let cards = move || {
        let hosts = found.get();
        if hosts.is_empty() {
            let hint = "An agent sends CPU, memory, disk and network of its host. The command daybook up starts one here; its first samples show within half a minute.";
            return view! { <section class="panel"><Empty title="No host has sent metrics in this range" hint /></section> }
                .into_any();
        }
        let card = |(index, host)| view! { <HostCard host starts_open=index < OPEN_HOSTS /> };
        hosts.into_iter().enumerate().map(card).collect::<Vec<_>>().into_any()
    };
    view! { <div class="hosts">{stateful(series, 6, cards)}</div> }
}

fn volume_step(span: Span) -> i64 {
    span.step_ms(BARS_MAX, SECOND_MS)
}

#[component]
fn Services() -> impl IntoView {
    let app = App::expect();
    let span = app.span();
    let volume = load(
        move || {
            let step = volume_step(span.get());
            let query = format!(
                "sum by (service_name, severity_text, detected_level) (count_over_time({ALL_STREAMS}[{step}ms]))"
            );
            Some(Request::log_range(&query, span.get(), step))
        },
        log_matrix,
    );
    let series = Memo::new(move |_| Arc::new(volume.get().map(|v| by_severity(&v)).unwrap_or_default()));
    let is_empty = Memo::new(move |_| series.with(|series| series.is_empty()));
    let options = Signal::derive(move || Options {
        unit: Unit::Short,
        shape: Shape::Bars,
        from_zero: true,
        step_ms: volume_step(span.get()),
        ..Options::default()
    });
    let chart = move || {
        if is_empty.get() {
            let hint = "Logs arrive over OTLP, Loki push, or from the agent's files.";
            return view! { <Empty title="No log lines in this range yet" hint /> }.into_any();
        }
        let on_zoom = Callback::new(move |span| app.zoom(span));
        view! { <Chart label="Log lines by severity" series span options on_zoom height=170 /> }.into_any()
    };
    let table = move || service_table(volume, span.get_untracked());
    view! {
        <section class="panel services" aria-label="Services">
            <header>
                <h2>"Services"</h2>
                <span class="hint">"log lines by severity"</span>
            </header>
            <div class="services-body">
                <div class="cell">{stateful(volume, 5, chart)}</div>
                <div class="cell service-list">{table}</div>
            </div>
        </section>
    }
}

fn service_table(volume: Load<Vec<MatrixSeries>>, span: Span) -> AnyView {
    let app = App::expect();
    let found = volume.get().map(|volume| services(&volume)).unwrap_or_default();
    let more = found.len().saturating_sub(SERVICES_SHOWN);
    let row = |service: Service| {
        let filters = filters_to_param(&[Filter::new("service_name", "=", &service.name)]);
        let logs = app.location().to_page("/explore/logs").with("stream", &filters);
        let errors = logs.clone().with("level", "fatal,error");
        let count = |n: f64| if n > 0.0 { Unit::Short.format(n) } else { "·".to_owned() };
        let (has_warnings, has_errors) = (service.warnings > 0.0, service.errors > 0.0);
        let name = if service.name.is_empty() { "(no name)".to_owned() } else { service.name.clone() };
        view! {
            <tr>
                <td>
                    <Link to=Signal::stored(logs)>{name}</Link>
                </td>
                <td>
                    <Sparkline points=service.volume.clone() span step_ms=volume_step(span) />
                </td>
                <td class="num">{count(service.lines)}</td>
                <td class="num" class:warn=has_warnings>
                    {count(service.warnings)}
                </td>
                <td class="num" class:bad=has_errors>
                    <Link to=Signal::stored(errors)>{count(service.errors)}</Link>
                </td>
            </tr>
        }
    };
    if found.is_empty() {
        return ().into_any();
    }
    let rows = found.into_iter().take(SERVICES_SHOWN).map(row).collect::<Vec<_>>();
    view! {
        <table>
            <thead>
                <tr>
                    <th>"Service"</th>
                    <th></th>
                    <th class="num">"Lines"</th>
                    <th class="num">"Warnings"</th>
                    <th class="num">"Errors"</th>
                </tr>
            </thead>
            <tbody>{rows}</tbody>
        </table>
        {(more > 0).then(|| view! { <p class="truncated">{format!("{more} quieter services are not shown.")}</p> })}
    }
    .into_any()
}

/// The newest lines, or only errors, searchable.
#[component]
fn Lines() -> impl IntoView {
    let app = App::expect();
    let span = app.span();
    let search = app.param("search");
    let show = app.param("show");
    let builder = Memo::new(move |_| Builder {
        text: search.get(),
        severities: if show.get() == "errors" { vec![Severity::Fatal, Severity::Error] } else { Vec::new() },
        ..Builder::default()
    });
    let page = load(
        move || {
            let span = span.get();
            let ns = |ms: i64| ms.saturating_mul(1_000_000);
            Some(Request::log_page(&builder.read().query(), ns(span.from_ms), ns(span.to_ms), LINES_SHOWN))
        },
        log_records,
    );
    let submit = move |event: ev::SubmitEvent| event.prevent_default();
    let tab = move |name: &'static str, title: &'static str| {
        view! {
            <button
                class="segment"
                aria-pressed=move || (show.get() == name).to_string()
                on:click=move |_| app.set(&[("show", name)], Keep::Nothing)
            >
                {title}
            </button>
        }
    };
    let all = Signal::derive(move || {
        let level = if show.get() == "errors" { "fatal,error" } else { "" };
        app.tracked_location().to_page("/explore/logs").with("text", &search.get()).with("level", level)
    });
    let rows = move || {
        let records = page.get().unwrap_or_default();
        if records.is_empty() {
            let title = match (show.get().as_str(), search.get().as_str()) {
                ("errors", "") => "No errors in this range",
                ("", "") => "No log lines in this range yet",
                _ => "Nothing matches",
            };
            return view! { <Empty title /> }.into_any();
        }
        let needles = [search.get()];
        records.iter().map(|record| row(app, record, &needles)).collect::<Vec<_>>().into_any()
    };
    view! {
        <section class="panel lines" aria-label="Log lines">
            <header>
                <h2>"Logs"</h2>
                <div class="segments" role="group" aria-label="Which lines">
                    {tab("", "Newest")} {tab("errors", "Errors")}
                </div>
                <form role="search" on:submit=submit>
                    <input
                        class="input"
                        type="search"
                        data-search
                        placeholder="Search these lines  ( / )"
                        aria-label="Search log lines"
                        prop:value=search
                        on:change=move |event| app.set(&[("search", &field_value(&event))], Keep::Nothing)
                    />
                </form>
                <Link to=all class="more">
                    "Open in Logs"
                </Link>
            </header>
            <div class="log-rows">{stateful(page, 8, rows)}</div>
        </section>
    }
}

fn row(app: App, record: &Record, needles: &[String]) -> AnyView {
    let to: Location = app.location().to_page("/explore/logs").with("sel", &record.key()).with("text", &needles[0]);
    let class = match record.severity {
        Severity::Fatal => "log-row severity-fatal",
        Severity::Error => "log-row severity-error",
        Severity::Warn => "log-row severity-warn",
        Severity::Info => "log-row severity-info",
        Severity::Debug => "log-row severity-debug",
        Severity::Trace => "log-row severity-trace",
        Severity::Unset => "log-row severity-unset",
    };
    let cells = cells(app, record, needles, false);
    view! {
        <Link to=Signal::stored(to) class>
            {cells}
        </Link>
    }
    .into_any()
}
