//! Logs: filter, volume over time, a list of any length, a record's fields, live tail.

use std::sync::Arc;

use leptos::ev;
use leptos::prelude::*;

mod feed;
mod tail;

use crate::api::{Request, load, log_matrix};
use crate::charts::chart::Chart;
use crate::charts::frame::{Options, Shape};
use crate::charts::units::Unit;
use crate::components::icon::{Glyph, Icon};
use crate::components::pick::field_value;
use crate::components::record_detail::{FieldKind, RecordDetail};
use crate::components::severity_filter::{SeverityFilter, from_param, to_param};
use crate::components::shortcuts::is_typing;
use crate::components::states::{Empty, Failed, Progress, Skeleton, Truncated, stateful};
use crate::components::stream_builder::{StreamBuilder, chips};
use crate::components::virtual_list::LogList;
use crate::lang::logql::{
    Builder, Filter, add_filter, filters_from_param, filters_to_param, is_log_query, needles, volume_query,
};
use crate::state::context::{App, Keep};
use crate::state::records::Record;
use crate::state::severity::Severity;
use crate::state::time::SECOND_MS;
use feed::Feed;
use tail::Tail;

/// Bars of the volume chart.
const BARS_MAX: i64 = 90;

/// What the address bar says about this page.
#[derive(Debug, Clone, Copy)]
struct Place {
    app: App,
    stream: Memo<Vec<Filter>>,
    fields: Memo<Vec<Filter>>,
    text: Memo<String>,
    severities: Memo<Vec<Severity>>,
    is_code: Memo<bool>,
    code: Memo<String>,
    selected: Memo<String>,
    is_live: Memo<bool>,
    /// The LogQL that is run.
    query: Memo<String>,
}

impl Place {
    fn new(app: App) -> Self {
        let (stream, fields, level) = (app.param("stream"), app.param("fields"), app.param("level"));
        let (mode, live) = (app.param("mode"), app.param("live"));
        let stream = Memo::new(move |_| filters_from_param(&stream.read()));
        let fields = Memo::new(move |_| filters_from_param(&fields.read()));
        let severities = Memo::new(move |_| from_param(&level.read()));
        let (text, code) = (app.param("text"), app.param("q"));
        let is_code = Memo::new(move |_| mode.read().as_str() == "code");
        let query = Memo::new(move |_| {
            if is_code.get() && !code.read().trim().is_empty() {
                return code.get();
            }
            Builder { stream: stream.get(), fields: fields.get(), text: text.get(), severities: severities.get() }
                .query()
        });
        let is_live = Memo::new(move |_| !live.read().is_empty());
        let selected = app.param("sel");
        Self { app, stream, fields, text, severities, is_code, code, selected, is_live, query }
    }

    fn set_stream(self, filters: &[Filter]) {
        self.app.set(&[("stream", &filters_to_param(filters)), ("sel", "")], Keep::Entry);
    }

    fn set_fields(self, filters: &[Filter]) {
        self.app.set(&[("fields", &filters_to_param(filters)), ("sel", "")], Keep::Entry);
    }

    fn add(self, kind: FieldKind, filter: Filter) {
        if self.is_code.get_untracked() {
            self.app.set(&[("q", &add_filter(&self.query.get_untracked(), &filter))], Keep::Entry);
            return;
        }
        let list = match kind {
            FieldKind::Stream => self.stream,
            FieldKind::Record => self.fields,
        };
        let mut filters = list.get_untracked();
        if !filters.contains(&filter) {
            filters.push(filter);
        }
        match kind {
            FieldKind::Stream => self.set_stream(&filters),
            FieldKind::Record => self.set_fields(&filters),
        }
    }
}

/// The page.
#[component]
pub(crate) fn Logs() -> impl IntoView {
    let app = App::expect();
    let place = Place::new(app);
    let feed = Feed::new(place);
    let tail = Tail::new(place, feed);
    // The selected record stays open when its row is gone.
    let open = RwSignal::new(None::<Record>);
    Effect::new(move |_| {
        let key = place.selected.get();
        let found = feed.records.with(|records| records.iter().find(|record| record.key() == key).cloned());
        if key.is_empty() {
            open.set(None);
        } else if found.is_some() {
            open.set(found);
        }
    });
    let escape = window_event_listener(ev::keydown, move |event| {
        if event.key() == "Escape" && !is_typing(&event) && !app.is_help_open.get_untracked() {
            app.set(&[("sel", "")], Keep::Nothing);
        }
    });
    on_cleanup(move || escape.remove());
    let detail = move || {
        let record = open.get()?;
        let needles = needles(&place.query.read());
        let on_close = Callback::new(move |()| app.set(&[("sel", "")], Keep::Nothing));
        let on_filter = Callback::new(move |(kind, filter)| place.add(kind, filter));
        Some(view! { <RecordDetail record needles on_close on_filter /> })
    };
    view! {
        <div class="logs">
            <h1 class="sr-only">"Logs"</h1>
            <Query place tail />
            <Volume place />
            <section class="panel list-panel" aria-label="Log records">
                <List place feed tail />
                {detail}
            </section>
        </div>
    }
}

/// What is looked for.
#[component]
fn Query(place: Place, tail: Tail) -> impl IntoView {
    let app = place.app;
    let mode = move |name: &'static str, title: &'static str| {
        view! {
            <button
                class="segment"
                aria-pressed=move || (place.is_code.get() == (name == "code")).to_string()
                on:click=move |_| {
                    let query = if name == "code" { place.query.get_untracked() } else { String::new() };
                    app.set(&[("mode", name), ("q", &query)], Keep::Entry);
                }
            >
                {title}
            </button>
        }
    };
    let fields = move || {
        let filters = place.fields.get();
        chips(&filters, Callback::new(move |filters: Vec<Filter>| place.set_fields(&filters)))
    };
    let parts = move || {
        if place.is_code.get() {
            view! { <Code place /> }.into_any()
        } else {
            let on_change = Callback::new(move |filters: Vec<Filter>| place.set_stream(&filters));
            let on_severities = Callback::new(move |severities: Vec<Severity>| {
                app.set(&[("level", &to_param(&severities))], Keep::Entry)
            });
            view! {
                <div class="builder">
                    <StreamBuilder filters=place.stream on_change />
                    {fields}
                    <TextFilter place />
                    <SeverityFilter chosen=place.severities on_change=on_severities />
                </div>
                <code class="preview" title="The query that is run">
                    {move || place.query.get()}
                </code>
            }
            .into_any()
        }
    };
    view! {
        <section class="panel query-panel" aria-label="Query">
            <div class="query-row">
                <div class="segments" role="group" aria-label="How to query">
                    {mode("", "Builder")} {mode("code", "LogQL")}
                </div>
                {parts}
                {tail.button()}
            </div>
        </section>
    }
}

#[component]
fn TextFilter(place: Place) -> impl IntoView {
    view! {
        <input
            class="input text-filter"
            type="search"
            data-search
            placeholder="Line contains …  ( / )"
            aria-label="Line contains"
            spellcheck="false"
            prop:value=place.text
            on:change=move |event| place.app.set(&[("text", &field_value(&event))], Keep::Entry)
        />
    }
}

#[component]
fn Code(place: Place) -> impl IntoView {
    let run = move |text: String| {
        if text == place.code.get_untracked() {
            place.app.refresh();
        } else {
            place.app.set(&[("q", &text), ("sel", "")], Keep::Entry);
        }
    };
    view! {
        <input
            class="input code-input"
            data-search
            aria-label="LogQL query"
            spellcheck="false"
            autocomplete="off"
            placeholder=r#"{service_name="…"} |= "text" | json | level="error""#
            prop:value=place.code
            on:change=move |event| run(field_value(&event))
            on:keydown=move |event| {
                if event.key() == "Enter" && field_value(&event) == place.code.get_untracked() {
                    place.app.refresh();
                }
            }
        />
    }
}

/// Lines by time and severity.
#[component]
fn Volume(place: Place) -> impl IntoView {
    let span = place.app.span();
    let step = move || span.get().step_ms(BARS_MAX, SECOND_MS);
    let volume = load(
        move || {
            let query = place.query.get();
            is_log_query(&query).then(|| Request::log_range(&volume_query(&query, step()), span.get(), step()))
        },
        log_matrix,
    );
    let series = Memo::new(move |_| {
        Arc::new(volume.get().map(|volume| crate::state::services::by_severity(&volume)).unwrap_or_default())
    });
    let options = Signal::derive(move || Options {
        unit: Unit::Short,
        shape: Shape::Bars,
        from_zero: true,
        step_ms: step(),
        ..Options::default()
    });
    let total = move || {
        let sum: f64 = series.with(|series| series.iter().flat_map(|s| &s.points).map(|p| p.1).sum());
        let step = crate::state::time::format_duration(step());
        format!("{} lines · {step} a bar", Unit::Short.format(sum))
    };
    let chart = move || {
        let on_zoom = Callback::new(move |span| place.app.zoom(span));
        view! {
            <p class="hint volume-total">{total}</p>
            <Chart label="Lines by time and severity" series span options on_zoom height=110 />
        }
        .into_any()
    };
    view! {
        <section class="panel volume-panel" aria-label="Volume">
            {stateful(volume, 3, chart)}
        </section>
    }
}

/// The records.
#[component]
fn List(place: Place, feed: Feed, tail: Tail) -> impl IntoView {
    let app = place.app;
    let selected = Memo::new(move |_| u64::from_str_radix(&place.selected.read(), 16).ok());
    let marks = Memo::new(move |_| needles(&place.query.read()));
    let on_select = Callback::new(move |record: Record| {
        // One entry for opening the details; going from row to row does not fill the history.
        let keep = if place.selected.with_untracked(String::is_empty) { Keep::Entry } else { Keep::Nothing };
        app.set(&[("sel", &record.key())], keep);
    });
    let on_near_end = Callback::new(move |()| feed.load_older());
    let on_top = Callback::new(move |is_on_top| tail.scrolled(is_on_top));
    let is_empty = Memo::new(move |_| feed.records.with(|records| records.is_empty()));
    let list = move || {
        if !is_empty.get() {
            let records = feed.records;
            return view! { <LogList records needles=marks selected on_select on_near_end on_top /> }.into_any();
        }
        if feed.first.failure.get().is_some() {
            return ().into_any();
        }
        if feed.first.is_loading.get() {
            return view! { <Skeleton lines=12 /> }.into_any();
        }
        let hint = if place.is_live.get() {
            "New lines show here as they come."
        } else {
            "Widen the time range, or take a filter away."
        };
        view! { <Empty title="No lines match in this range" hint /> }.into_any()
    };
    let on_retry = Callback::new(move |()| feed.first.retry());
    let on_retry_older = Callback::new(move |()| feed.load_older());
    view! {
        <div class="list-body">
            <Progress is_loading=Signal::derive(move || feed.first.is_loading.get() || feed.is_loading_older.get()) />
            {tail.status()}
            {move || feed.first.failure.get().map(|failure| view! { <Failed failure on_retry /> })}
            {list}
            {move || feed.older_failure.get().map(|failure| view! { <Failed failure on_retry=on_retry_older /> })}
            {move || feed.note().map(|note| view! { <Truncated note /> })}
        </div>
    }
    .into_any()
}

/// The button for the live tail, beside the query.
impl Tail {
    fn button(self) -> impl IntoView {
        let glyph = move || if self.is_live() { Glyph::Pause } else { Glyph::Play };
        view! {
            <button
                class="button live-button"
                aria-pressed=move || self.is_live().to_string()
                title="Show new lines as they come"
                on:click=move |_| self.toggle()
            >
                {move || view! { <Icon glyph=glyph() /> }}
                "Live"
            </button>
        }
    }
}
