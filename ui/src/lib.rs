//! The web UI: metrics, logs and what was lost on the way, in the browser.
//!
//! It is compiled to wasm, rendered on the client, and talks to the server's public HTTP API only, so whatever it shows
//! can be had by any other client. State that a link should carry is in the address bar ([`mount`] reads it). `routes`
//! has a file per page, `components` what pages are made of, `charts` and `lang` pure functions with the little that draws
//! and edits, `state` what is shared, `api` all fetching.
//!
//! What it does not do: keep data of its own, or talk to any other origin.

#![expect(unreachable_pub, reason = "the component macro makes a function public inside its private module")]

use leptos::prelude::*;

mod api;
mod charts;
mod components;
mod lang;
mod routes;
mod state;

use components::shell::Header;
use components::shortcuts::{self, Shortcuts};
use routes::home::Home;
use routes::logs::Logs;
use routes::metrics::Metrics;
use routes::not_found::NotFound;
use state::context::App;

/// Puts the app on the page.
pub fn mount() {
    std::panic::set_hook(Box::new(|info| {
        // The page is dead after a panic; say why where a developer looks, and to the user that a reload helps.
        web_sys::console::error_1(&info.to_string().into());
        if let Some(body) = document().body() {
            body.class_list().add_1("crashed").unwrap_or_default();
        }
    }));
    leptos::mount::mount_to_body(Root);
}

#[component]
fn Root() -> impl IntoView {
    let app = App::provide();
    shortcuts::listen(app);
    let path = app.path();
    let page = move || match path.get().as_str() {
        "/" | "/index.html" => view! { <Home /> }.into_any(),
        "/explore" | "/explore/" | "/explore/metrics" => view! { <Metrics /> }.into_any(),
        "/explore/logs" => view! { <Logs /> }.into_any(),
        _ => view! { <NotFound /> }.into_any(),
    };
    Effect::new(move |_| {
        let title = match path.get().as_str() {
            "/" => "Home · Daybook",
            "/explore/metrics" => "Metrics · Daybook",
            "/explore/logs" => "Logs · Daybook",
            _ => "Daybook",
        };
        document().set_title(title);
    });
    view! {
        <Header />
        <main id="main">{page}</main>
        <Shortcuts />
    }
}
