//! Chooses severities.

use leptos::prelude::*;

use crate::state::severity::Severity;

/// Reads the severities of a URL's parameter: `error,fatal`.
pub(crate) fn from_param(text: &str) -> Vec<Severity> {
    Severity::ALL.into_iter().filter(|severity| text.split(',').any(|name| name == severity.name())).collect()
}

/// Writes severities for a URL.
pub(crate) fn to_param(severities: &[Severity]) -> String {
    severities.iter().map(|severity| severity.name()).collect::<Vec<_>>().join(",")
}

/// A row of buttons, one for each severity.
#[component]
pub(crate) fn SeverityFilter(
    /// What is chosen; nothing means all.
    #[prop(into)]
    chosen: Signal<Vec<Severity>>,
    /// Called with the new choice.
    on_change: Callback<Vec<Severity>>,
) -> impl IntoView {
    let button = move |severity: Severity| {
        let is_on = Memo::new(move |_| chosen.with(|chosen| chosen.contains(&severity)));
        let clicked = move |_| {
            let chosen = chosen.get_untracked();
            let is_on = chosen.contains(&severity);
            let next = Severity::ALL.into_iter().filter(|s| if *s == severity { !is_on } else { chosen.contains(s) });
            on_change.run(next.collect());
        };
        view! {
            <button
                class=format!("severity-button severity-{}", severity.name())
                aria-pressed=move || is_on.get().to_string()
                on:click=clicked
            >
                <i></i>
                {severity.name()}
            </button>
        }
    };
    view! {
        <div class="severity-filter" role="group" aria-label="Severities">
            {Severity::ALL.map(button).into_iter().collect::<Vec<_>>()}
        </div>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_survive_the_url() {
        let severities = [Severity::Fatal, Severity::Warn, Severity::Unset];
        assert_eq!(from_param(&to_param(&severities)), severities);
        assert_eq!(from_param("x,,ERROR"), []);
    }
}
