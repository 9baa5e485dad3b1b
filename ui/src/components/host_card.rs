//! A host: its figures now and its charts.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::prelude::*;

use super::icon::{Glyph, Icon};
use super::states::{Empty, stateful};
use crate::api::{Load, PromAnswer, Request, load, prom_answer};
use crate::charts::chart::{Chart, swatch};
use crate::charts::frame::{Options, Shape};
use crate::charts::palette::color;
use crate::charts::series::{Series, short_names};
use crate::charts::units::Unit;
use crate::state::context::App;
use crate::state::hosts::{Host, load_period, rate_window};
use crate::state::time::SECOND_MS;

/// Points of a chart on a card.
const POINTS_MAX: i64 = 240;
/// Agents read a host every ten seconds or so; finer steps would repeat samples.
const STEP_MS_MIN: i64 = 10 * SECOND_MS;

/// The order and colours of what is stacked: known states keep theirs, whatever else is there.
fn ranked(name: &str) -> (usize, Option<&'static str>) {
    let known = [
        ("used", "hsl(221 78% 58%)"),
        ("user", "hsl(221 78% 58%)"),
        ("system", "hsl(340 74% 58%)"),
        ("iowait", "hsl(32 88% 58%)"),
        ("wait", "hsl(32 88% 58%)"),
        ("nice", "hsl(262 68% 62%)"),
        ("interrupt", "hsl(48 84% 52%)"),
        ("softirq", "hsl(190 74% 50%)"),
        ("steal", "hsl(4 76% 58%)"),
        ("buffered", "hsl(190 74% 50%)"),
        ("cached", "hsl(152 60% 48%)"),
        ("slab_reclaimable", "hsl(120 42% 48%)"),
        ("slab_unreclaimable", "hsl(262 68% 62%)"),
        ("free", "hsl(220 10% 55%)"),
        ("read", "hsl(152 60% 48%)"),
        ("write", "hsl(32 88% 58%)"),
        ("receive", "hsl(152 60% 48%)"),
        ("transmit", "hsl(262 68% 62%)"),
    ];
    let at = known.iter().position(|(known, _)| *known == name);
    at.map_or((known.len(), None), |at| (at, Some(known[at].1)))
}

/// Returns an answer as lines, in an order that does not change from one refresh to the next.
pub(crate) fn series_of(answer: &PromAnswer) -> Vec<Series> {
    let sets: Vec<_> = answer.series.iter().map(|series| series.metric.clone()).collect();
    let names = short_names(&sets);
    let mut series: Vec<Series> = answer
        .series
        .iter()
        .zip(names)
        .map(|(series, name)| {
            let points = series.values.iter().map(|point| (point.timestamp_ms as f64, point.value)).collect();
            Series { name, labels: series.metric.clone(), color: String::new(), points }
        })
        .collect();
    // States in which a host never is would only fill the legend.
    let is_used = |series: &Series| series.points.iter().any(|point| point.1 != 0.0);
    if series.iter().any(is_used) {
        series.retain(is_used);
    }
    series.sort_by(|a, b| ranked(&a.name).0.cmp(&ranked(&b.name).0).then_with(|| a.name.cmp(&b.name)));
    for (index, series) in series.iter_mut().enumerate() {
        series.color = ranked(&series.name).1.map_or_else(|| color(index), str::to_owned);
    }
    series
}

/// The card.
#[component]
pub(crate) fn HostCard(
    /// The host.
    host: Host,
    /// Whether its charts are shown at first.
    starts_open: bool,
) -> impl IntoView {
    let is_open = RwSignal::new(starts_open);
    let name = host.name.clone();
    let label = format!("Host {name}");
    let host = StoredValue::new(host);
    let figures = view! { <Figures host /> };
    let body = move || view! { <Charts host /> };
    view! {
        <section class="panel host" aria-label=label>
            <header>
                <button
                    class="fold"
                    aria-expanded=move || is_open.get().to_string()
                    on:click=move |_| is_open.update(|open| *open = !*open)
                >
                    <Icon glyph=Glyph::Down />
                    <h2>{name}</h2>
                </button>
                {figures}
            </header>
            <Show when=move || is_open.get()>{body()}</Show>
        </section>
    }
}

fn instant(query: impl Fn(&Host) -> Option<String> + 'static, host: StoredValue<Host>) -> Load<PromAnswer> {
    let app = App::expect();
    load(
        move || {
            let at = app.span().get().to_ms;
            host.with_value(&query).map(|query| Request::prom_instant(&query, at))
        },
        prom_answer,
    )
}

/// The figures beside a host's name.
#[component]
fn Figures(host: StoredValue<Host>) -> impl IntoView {
    let share = |load: Load<PromAnswer>| {
        let answer = load.get()?;
        Some(answer.series.first()?.values.first()?.value)
    };
    let cpu = instant(|host| host.cpu_used("120s"), host);
    let memory = instant(Host::memory_used, host);
    let averages = instant(Host::load, host);
    let figure = move |title: &'static str, load: Load<PromAnswer>| {
        view! {
            <div class="figure">
                <span>{title}</span>
                <b>{move || share(load).map_or_else(|| "–".to_owned(), |share| format!("{:.0}%", share * 100.0))}</b>
                <meter-bar>
                    <i
                        class:hot=move || share(load).is_some_and(|share| share > 0.9)
                        style:width=move || format!("{:.1}%", share(load).unwrap_or(0.0).clamp(0.0, 1.0) * 100.0)
                    ></i>
                </meter-bar>
            </div>
        }
    };
    let periods = move || {
        let answer = averages.get()?;
        let mut found: Vec<(u32, String)> = answer
            .series
            .iter()
            .filter_map(|series| {
                let period = load_period(series.metric.get("__name__")?);
                let minutes = period.trim_end_matches('m').parse().ok()?;
                Some((minutes, format!("{:.2}", series.values.first()?.value)))
            })
            .collect();
        found.sort_unstable();
        (!found.is_empty()).then(|| found.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("  "))
    };
    view! {
        <div class="figures">
            {figure("CPU", cpu)} {figure("Memory", memory)}
            {move || {
                periods()
                    .map(|periods| {
                        view! {
                            <div class="figure" title="Load over 1, 5 and 15 minutes">
                                <span>"Load"</span>
                                <b>{periods}</b>
                            </div>
                        }
                    })
            }}
        </div>
    }
}

/// The charts of a host.
#[component]
fn Charts(host: StoredValue<Host>) -> impl IntoView {
    let percent =
        Options { unit: Unit::Ratio, shape: Shape::Areas, from_zero: true, top_min: Some(0.1), ..Options::default() };
    let bytes = Options { unit: Unit::Bytes, shape: Shape::Areas, from_zero: true, ..Options::default() };
    let flow = Options { unit: Unit::BytesPerSecond, from_zero: true, ..Options::default() };
    view! {
        <div class="chart-grid">
            <HostChart title="CPU" host query=|host, window| host.cpu_by_state(window) options=percent />
            <HostChart title="Memory" host query=|host, _| host.memory_by_state() options=bytes />
            <HostChart title="Disk I/O" host query=|host, window| host.disk_io(window) options=flow />
            <HostChart title="Network" host query=|host, window| host.network_io(window) options=flow />
            <Filesystems host />
        </div>
    }
}

/// One chart of a host.
#[component]
fn HostChart(
    title: &'static str,
    host: StoredValue<Host>,
    query: fn(&Host, &str) -> Option<String>,
    options: Options,
) -> impl IntoView {
    let app = App::expect();
    let span = app.span();
    let step = move || span.get().step_ms(POINTS_MAX, STEP_MS_MIN);
    let answer = load(
        move || {
            let query = host.with_value(|host| query(host, &rate_window(step())))?;
            Some(Request::prom_range(&query, span.get(), step()))
        },
        prom_answer,
    );
    let series = Memo::new(move |_| answer.get().map(|answer| Arc::new(series_of(&answer))).unwrap_or_default());
    let has_lines = Memo::new(move |_| series.with(|series| !series.is_empty()));
    let hidden = RwSignal::new(BTreeSet::<String>::new());
    let options = Signal::derive(move || Options { step_ms: step(), ..options });
    let keys = move || {
        let key = |series: &Series| {
            let (name, toggled) = (series.name.clone(), series.name.clone());
            let is_off = series.name.clone();
            view! {
                <button
                    class:off=move || hidden.with(|hidden| hidden.contains(&is_off))
                    on:click=move |_| hidden.update(|hidden| *hidden = super::legend::toggle(hidden, &toggled))
                >
                    <i style:background=swatch(&series.color)></i>
                    {name}
                </button>
            }
        };
        series.with(|series| series.iter().map(key).collect::<Vec<_>>())
    };
    let chart = move || {
        if has_lines.get() {
            let on_zoom = Callback::new(move |span| app.zoom(span));
            view! { <Chart label=title series span options hidden on_zoom height=170 /> }.into_any()
        } else {
            let hint = "The agent sends its first rates within half a minute of starting.";
            view! { <Empty title="No samples in this range yet" hint /> }.into_any()
        }
    };
    view! {
        <figure class="cell">
            <figcaption>
                <h3>{title}</h3>
                <div class="keys">{keys}</div>
            </figcaption>
            {stateful(answer, 5, chart)}
        </figure>
    }
}

/// Mount points, the fullest first.
#[component]
fn Filesystems(host: StoredValue<Host>) -> impl IntoView {
    let answer = instant(Host::filesystems, host);
    let rows = move || {
        let mut mounts: Vec<(String, f64)> = answer
            .get()
            .iter()
            .flat_map(|answer| &answer.series)
            .filter_map(|series| {
                let mount = series.metric.values().next().cloned().unwrap_or_default();
                Some((mount, series.values.first()?.value)).filter(|(_, share)| share.is_finite())
            })
            .collect();
        mounts.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        if mounts.is_empty() {
            return view! { <Empty title="No filesystems yet" /> }.into_any();
        }
        let row = |(mount, share): (String, f64)| {
            let is_hot = share > 0.9;
            view! {
                <li>
                    <span title=mount.clone()>{mount.clone()}</span>
                    <meter-bar>
                        <i class:hot=is_hot style:width=format!("{:.1}%", share.clamp(0.0, 1.0) * 100.0)></i>
                    </meter-bar>
                    <b>{format!("{:.0}%", share * 100.0)}</b>
                </li>
            }
        };
        let rows = mounts.into_iter().take(12).map(row).collect::<Vec<_>>();
        view! { <ul class="mounts">{rows}</ul> }.into_any()
    };
    view! {
        <figure class="cell">
            <figcaption>
                <h3>"Filesystems"</h3>
            </figcaption>
            {stateful(answer, 4, rows)}
        </figure>
    }
}

#[cfg(test)]
mod tests {
    use query_wire::loki::{MatrixSeries, Point};

    use super::*;

    #[test]
    fn states_keep_their_order_and_colours() {
        let named = |state: &str| MatrixSeries {
            metric: [("state".to_owned(), state.to_owned())].into(),
            values: vec![Point { timestamp_ms: 1, value: if state == "never" { 0.0 } else { 1.0 } }],
        };
        let all = PromAnswer {
            series: ["free", "zzz", "used", "never", "cached"].map(named).to_vec(),
            ..PromAnswer::default()
        };
        let some = PromAnswer { series: ["free", "used"].map(named).to_vec(), ..PromAnswer::default() };
        let names = |series: &[Series]| series.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        let (all, some) = (series_of(&all), series_of(&some));
        assert_eq!(names(&all), ["used", "cached", "free", "zzz"]);
        assert_eq!((all[0].color.as_str(), all[2].color.as_str()), (some[0].color.as_str(), some[1].color.as_str()));
    }
}
