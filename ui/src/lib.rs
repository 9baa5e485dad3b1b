//! The web UI: Leptos, client side rendered.
