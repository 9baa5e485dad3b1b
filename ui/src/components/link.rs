//! A link inside the app.

use leptos::ev;
use leptos::prelude::*;

use crate::state::context::{App, Keep};
use crate::state::location::Location;

/// A link to a place in the app: an ordinary one for the browser, without a reload on a plain click.
#[component]
pub(crate) fn Link(
    /// Where to.
    #[prop(into)]
    to: Signal<Location>,
    /// The class of the element.
    #[prop(default = "")]
    class: &'static str,
    /// Whether it leads to where the user is.
    #[prop(optional, into)]
    is_current: Signal<bool>,
    /// What is shown.
    children: Children,
) -> impl IntoView {
    let app = App::expect();
    let clicked = move |event: ev::MouseEvent| {
        let is_plain =
            event.button() == 0 && !(event.ctrl_key() || event.meta_key() || event.shift_key() || event.alt_key());
        if is_plain {
            event.prevent_default();
            app.go(to.get_untracked(), Keep::Entry);
        }
    };
    view! {
        <a
            class=class
            href=move || to.get().href()
            aria-current=move || is_current.get().then_some("page")
            on:click=clicked
        >
            {children()}
        </a>
    }
}
