//! The states that every view of data can be in: loading, empty, failed, truncated.

use leptos::prelude::*;

use super::icon::{Glyph, Icon};
use crate::api::{Failure, Load};

/// A line across the top of a panel while a request is on its way.
#[component]
pub(crate) fn Progress(
    /// Whether it is.
    #[prop(into)]
    is_loading: Signal<bool>,
) -> impl IntoView {
    view! { <div class="progress" class:on=is_loading role="progressbar" aria-hidden=move || (!is_loading.get()).to_string()></div> }
}

/// Grey shapes in place of what is not there yet.
#[component]
pub(crate) fn Skeleton(
    /// How many lines.
    #[prop(default = 4)]
    lines: usize,
) -> impl IntoView {
    let lines = (0..lines).map(|i| view! { <span style:width=format!("{}%", 92 - (i * 17) % 40)></span> });
    view! { <div class="skeleton" role="status" aria-label="Loading">{lines.collect::<Vec<_>>()}</div> }
}

/// Says that there is nothing, and what to do about it.
#[component]
pub(crate) fn Empty(
    /// What is missing.
    #[prop(into)]
    title: String,
    /// Why, or what to do.
    #[prop(into, optional)]
    hint: String,
) -> impl IntoView {
    view! {
        <div class="empty" role="status">
            <b>{title}</b>
            {(!hint.is_empty()).then(|| view! { <p>{hint}</p> })}
        </div>
    }
}

/// Says what went wrong, with a button to try again.
#[component]
pub(crate) fn Failed(
    /// What went wrong.
    failure: Failure,
    /// Called to try again.
    on_retry: Callback<()>,
) -> impl IntoView {
    let title = if failure.is_bad_query { "The query was refused" } else { "This could not be loaded" };
    view! {
        <div class="failed" role="alert">
            <Icon glyph=Glyph::Alert />
            <div>
                <b>{title}</b>
                <p>{failure.message}</p>
            </div>
            <button class="button" on:click=move |_| on_retry.run(())>
                "Try again"
            </button>
        </div>
    }
}

/// A note that not all is shown.
#[component]
pub(crate) fn Truncated(
    /// What is not shown.
    #[prop(into)]
    note: String,
) -> impl IntoView {
    view! { <p class="truncated" role="note">{note}</p> }
}

/// Shows the state of `load`: its failure, or a skeleton until the first answer, or what `ready` makes of the answer.
///
/// A failure after an answer is shown above the answer, which stays.
pub(crate) fn stateful<T: Send + Sync + 'static>(
    load: Load<T>,
    skeleton_lines: usize,
    ready: impl Fn() -> AnyView + Send + Sync + 'static,
) -> impl IntoView {
    let has_value = Memo::new(move |_| load.value.with(Option::is_some));
    let on_retry = Callback::new(move |()| load.retry());
    view! {
        <Progress is_loading=load.is_loading />
        {move || load.failure.get().map(|failure| view! { <Failed failure on_retry /> })}
        {move || {
            if has_value.get() {
                Some(ready())
            } else if load.failure.with(Option::is_none) {
                Some(view! { <Skeleton lines=skeleton_lines /> }.into_any())
            } else {
                None
            }
        }}
    }
}
