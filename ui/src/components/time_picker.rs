//! Chooses the time range, and how often pages refresh themselves.

use leptos::ev;
use leptos::prelude::*;

use super::icon::{Glyph, Icon};
use super::pick::{Popover, field_value};
use crate::state::context::{App, Keep};
use crate::state::time::{QUICK_RANGES, RangeSpec, TimeSpec, format_date_time, parse_input};

const REFRESH_CHOICES: [(&str, &str); 6] =
    [("off", "Off"), ("5s", "5 s"), ("10s", "10 s"), ("30s", "30 s"), ("1m", "1 min"), ("5m", "5 min")];

/// Chooses the time range.
#[component]
pub(crate) fn TimePicker() -> impl IntoView {
    let app = App::expect();
    let is_open = RwSignal::new(false);
    let title = move || {
        let range = app.range();
        range.title(app.utc_offset_ms(app.span().get_untracked().to_ms))
    };
    let shift = move |forward: bool| app.zoom(app.span().get_untracked().shifted(forward));
    let button = move || {
        view! {
            <Icon glyph=Glyph::Clock />
            <span class="time-title">{title}</span>
        }
    };
    view! {
        <div class="button-group" role="group" aria-label="Time range">
            <button class="button icon-button" title="Earlier" aria-label="Earlier" on:click=move |_| shift(false)>
                <Icon glyph=Glyph::Left />
            </button>
            <Popover label="Time range" is_open button>
                <QuickRanges is_open />
                <AbsoluteRange is_open />
            </Popover>
            <button class="button icon-button" title="Later" aria-label="Later" on:click=move |_| shift(true)>
                <Icon glyph=Glyph::Right />
            </button>
            <button
                class="button icon-button"
                title="Zoom out"
                aria-label="Zoom out"
                on:click=move |_| app.zoom(app.span().get_untracked().widened())
            >
                <Icon glyph=Glyph::ZoomOut />
            </button>
        </div>
    }
}

#[component]
fn QuickRanges(is_open: RwSignal<bool>) -> impl IntoView {
    let app = App::expect();
    let choice = |(title, ms): (&'static str, i64)| {
        let range = RangeSpec::last(ms);
        view! {
            <button
                class="menu-item"
                aria-pressed=move || (app.range() == range).to_string()
                on:click=move |_| {
                    is_open.set(false);
                    app.set_range(range);
                }
            >
                {title}
            </button>
        }
    };
    view! { <div class="menu menu-columns">{QUICK_RANGES.map(choice).into_iter().collect::<Vec<_>>()}</div> }
}

#[component]
fn AbsoluteRange(is_open: RwSignal<bool>) -> impl IntoView {
    let app = App::expect();
    let range = app.range();
    let offset = app.utc_offset_ms(app.span().get_untracked().to_ms);
    let shown = |spec: TimeSpec| match spec {
        TimeSpec::At(ms) => format_date_time(ms, offset),
        TimeSpec::Ago(_) => spec.to_string(),
    };
    let from = RwSignal::new(shown(range.from));
    let to = RwSignal::new(shown(range.to));
    let chosen =
        move || Some(RangeSpec { from: parse_input(&from.get(), offset)?, to: parse_input(&to.get(), offset)? });
    let apply = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if let Some(range) = chosen() {
            is_open.set(false);
            app.set_range(range);
        }
    };
    let is_bad = |text: RwSignal<String>| move || parse_input(&text.get(), offset).is_none().to_string();
    let field = move |name: &'static str, text: RwSignal<String>| {
        view! {
            <label>
                {name}
                <input
                    class="input"
                    spellcheck="false"
                    prop:value=text
                    aria-invalid=is_bad(text)
                    on:input=move |event| text.set(field_value(&event))
                />
            </label>
        }
    };
    view! {
        <form class="absolute-range" on:submit=apply>
            {field("From", from)}
            {field("To", to)}
            <small>"now-1h, or 2026-11-21 09:30:00"</small>
            <button class="button primary" type="submit" disabled=move || chosen().is_none()>
                "Apply"
            </button>
        </form>
    }
}

/// Refreshes now, or regularly.
#[component]
pub(crate) fn RefreshPicker() -> impl IntoView {
    let app = App::expect();
    let is_open = RwSignal::new(false);
    let refresh_ms = app.refresh_ms();
    let title = move || refresh_ms.get().map(|ms| crate::state::time::format_duration(ms as i64));
    let choice = move |(value, title): (&'static str, &'static str)| {
        view! {
            <button
                class="menu-item"
                on:click=move |_| {
                    is_open.set(false);
                    app.set(&[("refresh", value)], Keep::Nothing);
                }
            >
                {title}
            </button>
        }
    };
    view! {
        <div class="button-group" role="group" aria-label="Refresh">
            <button
                class="button icon-button"
                title="Refresh (r)"
                aria-label="Refresh"
                on:click=move |_| app.refresh()
            >
                <Icon glyph=Glyph::Refresh />
            </button>
            <Popover
                label="Refresh every"
                is_open
                button=move || view! { <span class="num">{move || title().unwrap_or_else(|| "Off".to_owned())}</span> }
            >
                <div class="menu">{REFRESH_CHOICES.map(choice).into_iter().collect::<Vec<_>>()}</div>
            </Popover>
        </div>
    }
}
