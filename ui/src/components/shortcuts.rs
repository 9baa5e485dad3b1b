//! Keyboard shortcuts that hold on every page, and the list of them.

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast as _;

use super::icon::{Glyph, Icon};
use super::pick::focus;
use crate::state::context::{App, Keep};

/// (keys, what they do)
const SHORTCUTS: [(&str, &str); 10] = [
    ("/", "Search or edit the query"),
    ("r", "Refresh"),
    ("g h", "Go to Home"),
    ("g m", "Go to Metrics"),
    ("g l", "Go to Logs"),
    ("t", "Dark or light"),
    ("[  ]", "Earlier, later"),
    ("j  k", "Next, previous record"),
    ("Esc", "Close"),
    ("?", "This list"),
];

/// Listens for shortcuts as long as the page lives.
pub(crate) fn listen(app: App) {
    let was_g = StoredValue::new(false);
    let handle = window_event_listener(ev::keydown, move |event| {
        if event.ctrl_key() || event.meta_key() || event.alt_key() || event.default_prevented() {
            return;
        }
        if event.key() == "Escape" {
            app.is_help_open.set(false);
        }
        if is_typing(&event) {
            return;
        }
        let after_g = was_g.get_value();
        was_g.set_value(event.key() == "g");
        let go = |path: &str| app.go(app.location().to_page(path), Keep::Entry);
        match event.key().as_str() {
            "h" if after_g => go("/"),
            "m" if after_g => go("/explore/metrics"),
            "l" if after_g => go("/explore/logs"),
            "/" => {
                event.prevent_default();
                press("[data-search]", true);
            }
            "r" => app.refresh(),
            "t" => press(".theme-button", false),
            "[" => app.zoom(app.span().get_untracked().shifted(false)),
            "]" => app.zoom(app.span().get_untracked().shifted(true)),
            "?" => app.is_help_open.update(|open| *open = !*open),
            _ => {}
        }
    });
    on_cleanup(move || handle.remove());
}

/// Whether the key goes into a field.
pub(crate) fn is_typing(event: &web_sys::KeyboardEvent) -> bool {
    let target = event.target().and_then(|target| target.dyn_into::<web_sys::Element>().ok());
    target.is_some_and(|element| ["INPUT", "TEXTAREA", "SELECT"].contains(&element.tag_name().as_str()))
}

/// Focuses or clicks the first element that a selector finds.
fn press(selector: &str, only_focus: bool) {
    let found = document().query_selector(selector).ok().flatten();
    if let Some(element) = found.and_then(|element| element.dyn_into::<web_sys::HtmlElement>().ok()) {
        if only_focus { focus(&element) } else { element.click() }
    }
}

/// The list of shortcuts, over the page.
#[component]
pub(crate) fn Shortcuts() -> impl IntoView {
    let app = App::expect();
    let close = move || app.is_help_open.set(false);
    let closer = NodeRef::<html::Button>::new();
    Effect::new(move |_| {
        if let Some(closer) = closer.get() {
            focus(&closer);
        }
    });
    let row = |(keys, what): (&'static str, &'static str)| {
        let keys = keys.split_whitespace().map(|key| view! { <kbd>{key}</kbd> }).collect::<Vec<_>>();
        view! {
            <li>
                <span>{keys}</span>
                {what}
            </li>
        }
    };
    view! {
        <Show when=move || app.is_help_open.get()>
            <div class="dialog-back" on:click=move |_| close()>
                <div
                    class="dialog"
                    role="dialog"
                    aria-modal="true"
                    aria-label="Keyboard shortcuts"
                    on:click=move |event| event.stop_propagation()
                >
                    <h2>
                        "Keyboard shortcuts"
                        <button class="button icon-button" node_ref=closer aria-label="Close" on:click=move |_| close()>
                            <Icon glyph=Glyph::Close />
                        </button>
                    </h2>
                    <ul class="shortcut-list">{SHORTCUTS.map(row).into_iter().collect::<Vec<_>>()}</ul>
                </div>
            </div>
        </Show>
    }
}
