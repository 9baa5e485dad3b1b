//! A button that opens a list or a form below it, and closes on Escape and on a click elsewhere.

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast as _;

/// A button with something to open.
#[component]
pub(crate) fn Popover(
    /// What the button is for.
    #[prop(into)]
    label: String,
    /// What the button shows.
    #[prop(into)]
    button: ViewFn,
    /// Whether it is open.
    is_open: RwSignal<bool>,
    /// Which edge of the button the box keeps to.
    #[prop(default = "right")]
    align: &'static str,
    /// What it opens.
    children: ChildrenFn,
) -> impl IntoView {
    let holder = NodeRef::<html::Div>::new();
    let opener = NodeRef::<html::Button>::new();
    let outside = window_event_listener(ev::pointerdown, move |event| {
        let target = event.target().and_then(|target| target.dyn_into::<web_sys::Node>().ok());
        let is_inside = holder.get_untracked().is_some_and(|holder| holder.contains(target.as_ref()));
        if !is_inside && is_open.get_untracked() {
            is_open.set(false);
        }
    });
    on_cleanup(move || outside.remove());
    let key = move |event: ev::KeyboardEvent| {
        if event.key() == "Escape" && is_open.get_untracked() {
            event.stop_propagation();
            is_open.set(false);
            if let Some(opener) = opener.get_untracked() {
                focus(&opener);
            }
        }
    };
    view! {
        <div class="popover" node_ref=holder on:keydown=key>
            <button
                class="button"
                node_ref=opener
                aria-label=label.clone()
                title=label
                aria-expanded=move || is_open.get().to_string()
                on:click=move |_| is_open.update(|open| *open = !*open)
            >
                {button.run()}
            </button>
            <Show when=move || is_open.get()>
                <div class="popover-box" data-align=align>
                    {children()}
                </div>
            </Show>
        </div>
    }
}

/// Gives an element the keyboard.
pub(crate) fn focus(element: &web_sys::HtmlElement) {
    if element.focus().is_err() {
        leptos::logging::warn!("an element does not take the focus");
    }
}

/// Returns the value of the field that an event is about.
pub(crate) fn field_value(event: &web_sys::Event) -> String {
    let target = event.target();
    let input = target.as_ref().and_then(|t| t.dyn_ref::<web_sys::HtmlInputElement>()).map(|i| i.value());
    let select = || target.as_ref().and_then(|t| t.dyn_ref::<web_sys::HtmlSelectElement>()).map(|s| s.value());
    let area = || target.as_ref().and_then(|t| t.dyn_ref::<web_sys::HtmlTextAreaElement>()).map(|a| a.value());
    input.or_else(select).or_else(area).unwrap_or_default()
}

/// Puts a text on the clipboard.
pub(crate) fn copy(text: &str) {
    // Where pages are not trusted with the clipboard (plain HTTP from afar) nothing happens, as the browser wants it.
    let clipboard = js_sys::Reflect::get(&window().navigator(), &"clipboard".into()).ok();
    if let Some(clipboard) = clipboard.and_then(|c| c.dyn_into::<web_sys::Clipboard>().ok()) {
        let written = clipboard.write_text(text);
        leptos::task::spawn_local(async move {
            if wasm_bindgen_futures::JsFuture::from(written).await.is_err() {
                leptos::logging::warn!("the clipboard was not given");
            }
        });
    }
}
