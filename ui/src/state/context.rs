//! What every part of the page can reach: where the user is, the clock, the theme, the shared cursor.

use leptos::prelude::*;

use super::location::Location;
use super::time::{RangeSpec, SECOND_MS, Span, parse_duration};

/// How a change of place is kept in the browser's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As a new entry: the back button undoes it.
    Entry,
    /// In place of the current entry.
    Nothing,
}

/// What every part of the page can reach. Copies share it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct App {
    location: RwSignal<Location>,
    refreshed: RwSignal<u64>,
    theme: RwSignal<u64>,
    /// The time under the pointer, shown by all charts.
    pub cursor: RwSignal<Option<f64>>,
    /// Whether the list of shortcuts is shown.
    pub is_help_open: RwSignal<bool>,
    span: Memo<Span>,
}

/// Returns milliseconds since the epoch by the browser's clock.
pub(crate) fn now_ms() -> i64 {
    js_sys::Date::now() as i64
}

impl App {
    /// Reads the address bar, and follows it from then on.
    pub(crate) fn provide() -> Self {
        let location = RwSignal::new(current_location());
        let refreshed = RwSignal::new(0);
        let range = Memo::new(move |_| range_of(&location.read()));
        let span = Memo::new(move |_| {
            refreshed.track();
            range.get().resolve(now_ms())
        });
        let app = Self {
            location,
            refreshed,
            theme: RwSignal::new(0),
            cursor: RwSignal::new(None),
            is_help_open: RwSignal::new(false),
            span,
        };
        let handle = window_event_listener_untyped("popstate", move |_| location.set(current_location()));
        on_cleanup(move || handle.remove());
        app.refresh_regularly();
        provide_context(app);
        app
    }

    /// Returns what [`App::provide`] has made.
    pub(crate) fn expect() -> Self {
        expect_context()
    }

    /// Returns a parameter, which changes with the address bar.
    pub(crate) fn param(self, name: &'static str) -> Memo<String> {
        Memo::new(move |_| self.location.read().get(name).unwrap_or_default().to_owned())
    }

    /// Returns the path, which changes with the address bar.
    pub(crate) fn path(self) -> Memo<String> {
        Memo::new(move |_| self.location.read().path.clone())
    }

    /// Returns where the user is, without following it.
    pub(crate) fn location(self) -> Location {
        self.location.get_untracked()
    }

    /// Returns where the user is, and follows it.
    pub(crate) fn tracked_location(self) -> Location {
        self.location.get()
    }

    /// Goes somewhere.
    pub(crate) fn go(self, to: Location, keep: Keep) {
        if self.location.with_untracked(|now| *now == to) {
            return;
        }
        let href = to.href();
        let done = window().history().and_then(|history| match keep {
            Keep::Entry => history.push_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some(&href)),
            Keep::Nothing => history.replace_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some(&href)),
        });
        if done.is_err() {
            // Browsers refuse too many changes in a short time; the page still works, the address is behind.
            leptos::logging::warn!("the address bar did not take {href}");
        }
        self.location.set(to);
    }

    /// Sets parameters of the place; empty values take them away.
    pub(crate) fn set(self, params: &[(&str, &str)], keep: Keep) {
        let mut to = self.location();
        for (name, value) in params {
            to.set(name, value);
        }
        self.go(to, keep);
    }

    /// Returns the time range as the user chose it.
    pub(crate) fn range(self) -> RangeSpec {
        range_of(&self.location.read())
    }

    /// Returns the time range in milliseconds as of the last refresh, and follows it.
    pub(crate) fn span(self) -> Memo<Span> {
        self.span
    }

    /// Looks at exactly this span.
    pub(crate) fn zoom(self, span: Span) {
        let least = span.from_ms.saturating_add(SECOND_MS);
        let range = RangeSpec::between(span.from_ms, span.to_ms.max(least));
        self.set(&[("from", &range.from.to_string()), ("to", &range.to.to_string())], Keep::Entry);
    }

    /// Looks at another range.
    pub(crate) fn set_range(self, range: RangeSpec) {
        let (from, to) = (range.from.to_string(), range.to.to_string());
        self.set(&[("from", &from), ("to", &to)], Keep::Entry);
        self.refresh();
    }

    /// Asks for everything on the page again.
    pub(crate) fn refresh(self) {
        self.refreshed.update(|n| *n += 1);
    }

    /// Runs again what calls this, at each refresh.
    pub(crate) fn track_refresh(self) {
        self.refreshed.track();
    }

    /// Runs again what calls this, when colours change.
    pub(crate) fn track_theme(self) {
        self.theme.track();
    }

    /// Tells that colours have changed.
    pub(crate) fn theme_changed(self) {
        self.theme.update(|n| *n += 1);
    }

    /// Returns how far local clocks were ahead of UTC at `at_ms`, in milliseconds.
    pub(crate) fn utc_offset_ms(self, at_ms: i64) -> i64 {
        let date = js_sys::Date::new(&wasm_bindgen::JsValue::from_f64(at_ms as f64));
        let minutes = date.get_timezone_offset();
        if minutes.is_finite() { (-minutes * 60_000.0) as i64 } else { 0 }
    }

    fn refresh_regularly(self) {
        let every = self.refresh_ms();
        Effect::new(move |_| {
            let Some(ms) = every.get() else { return };
            let tick = move || {
                // A hidden page asks for nothing.
                if document().visibility_state() == web_sys::VisibilityState::Visible {
                    self.refresh();
                }
            };
            match set_interval_with_handle(tick, std::time::Duration::from_millis(ms)) {
                Ok(handle) => on_cleanup(move || handle.clear()),
                Err(_) => leptos::logging::warn!("the browser gives no timer; pages do not refresh themselves"),
            }
        });
    }

    /// Returns how often pages refresh themselves: what the user chose, or by default ten seconds on Home and never elsewhere.
    pub(crate) fn refresh_ms(self) -> Memo<Option<u64>> {
        Memo::new(move |_| {
            let location = self.location.read();
            let chosen = match location.get("refresh") {
                Some("off") => None,
                Some(text) => parse_duration(text),
                None if location.path == "/" => Some(10 * SECOND_MS),
                None => None,
            };
            // Faster than once a second helps nobody.
            chosen.filter(|_| range_of(&location).is_live()).map(|ms| ms.max(SECOND_MS) as u64)
        })
    }
}

fn range_of(location: &Location) -> RangeSpec {
    RangeSpec::from_params(location.get("from"), location.get("to"))
}

fn current_location() -> Location {
    let location = window().location();
    Location::parse(&location.pathname().unwrap_or_default(), &location.search().unwrap_or_default())
}
