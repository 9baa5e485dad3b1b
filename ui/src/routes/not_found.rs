//! What a path without a page shows.

use leptos::prelude::*;

use crate::components::link::Link;
use crate::state::location::Location;

/// Says that there is no such page.
#[component]
pub(crate) fn NotFound() -> impl IntoView {
    view! {
        <div class="empty">
            <b>"There is no such page"</b>
            <p>
                <Link to=Signal::stored(Location::new("/"))>"Go to Home"</Link>
            </p>
        </div>
    }
}
