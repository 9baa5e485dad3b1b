//! The frame around every page: navigation, time range, refresh, theme.

use leptos::prelude::*;

use super::icon::{Glyph, Icon};
use super::link::Link;
use super::time_picker::{RefreshPicker, TimePicker};
use crate::state::context::{App, Keep};

/// (path, title)
const PAGES: [(&str, &str); 3] = [("/", "Home"), ("/explore/metrics", "Metrics"), ("/explore/logs", "Logs")];

/// The header.
#[component]
pub(crate) fn Header() -> impl IntoView {
    let app = App::expect();
    let path = app.path();
    let tab = move |(page, title): (&'static str, &'static str)| {
        let to = Signal::derive(move || app.tracked_location().to_page(page));
        let is_current = Signal::derive(move || path.get() == page);
        view! {
            <Link to is_current class="tab">
                {title}
            </Link>
        }
    };
    view! {
        <header class="header">
            <a class="skip" href="#main">
                "Skip to content"
            </a>
            <Link to=Signal::derive(move || app.tracked_location().to_page("/")) class="brand">
                <Icon glyph=Glyph::Mark />
                <b>"Daybook"</b>
            </Link>
            <nav aria-label="Pages">{PAGES.map(tab).into_iter().collect::<Vec<_>>()}</nav>
            <div class="header-tools">
                <TimePicker />
                <RefreshPicker />
                <ThemeButton />
                <button
                    class="button icon-button help-button"
                    title="Shortcuts (?)"
                    aria-label="Keyboard shortcuts"
                    on:click=move |_| app.is_help_open.set(true)
                >
                    <Icon glyph=Glyph::Help />
                </button>
            </div>
        </header>
    }
}

#[component]
fn ThemeButton() -> impl IntoView {
    let app = App::expect();
    let theme = app.param("theme");
    Effect::new(move |_| {
        let theme = theme.get();
        let chosen = if theme.is_empty() { stored_theme() } else { theme };
        if let Some(root) = document().document_element() {
            let done = if chosen.is_empty() {
                root.remove_attribute("data-theme")
            } else {
                root.set_attribute("data-theme", &chosen)
            };
            if done.is_err() {
                leptos::logging::warn!("the theme {chosen} cannot be set");
            }
        }
        app.theme_changed();
    });
    let media = window().match_media("(prefers-color-scheme: dark)").ok().flatten();
    if let Some(media) = media {
        // Lives as long as the page does.
        let changed = wasm_bindgen::closure::Closure::<dyn FnMut()>::new(move || app.theme_changed());
        use wasm_bindgen::JsCast as _;
        if media.add_event_listener_with_callback("change", changed.as_ref().unchecked_ref()).is_ok() {
            changed.forget();
        }
    }
    let toggle = move |_| {
        let next = if is_dark() { "light" } else { "dark" };
        store_theme(next);
        app.set(&[("theme", next)], Keep::Nothing);
    };
    view! {
        <button class="button icon-button theme-button" title="Dark or light" aria-label="Toggle theme" on:click=toggle>
            <Icon glyph=Glyph::Theme />
        </button>
    }
}

fn is_dark() -> bool {
    let chosen = document().document_element().and_then(|root| root.get_attribute("data-theme"));
    match chosen.as_deref() {
        Some("dark") => true,
        Some("light") => false,
        _ => {
            let media = window().match_media("(prefers-color-scheme: dark)").ok().flatten();
            media.is_some_and(|media| media.matches())
        }
    }
}

/// The theme that was last chosen on this browser. Where there is no storage, there is none.
fn stored_theme() -> String {
    let storage = window().local_storage().ok().flatten();
    let theme = storage.and_then(|storage| storage.get_item("daybook-theme").ok().flatten());
    theme.filter(|theme| theme == "dark" || theme == "light").unwrap_or_default()
}

fn store_theme(theme: &str) {
    if let Ok(Some(storage)) = window().local_storage()
        && storage.set_item("daybook-theme", theme).is_err()
    {
        leptos::logging::warn!("the theme cannot be stored; it holds for this page");
    }
}
