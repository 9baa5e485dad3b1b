//! The live tail: new records over a websocket, which can be paused, and a count of what was missed.

use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use web_sys::{CloseEvent, Event, MessageEvent, WebSocket};

use super::Place;
use super::feed::Feed;
use crate::api::{Request, tail_frame};
use crate::state::context::Keep;
use crate::state::records::Record;

/// Most records kept while paused; the others are counted.
const PAUSED_MAX: usize = 5_000;
/// How long to wait before connecting again.
const RECONNECT_MS: u64 = 2_000;

/// How the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Connecting,
    Open,
    Lost,
}

/// The connection with its callbacks, which must live as long as it does.
struct Connection {
    socket: WebSocket,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_open: Closure<dyn FnMut(Event)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.socket.set_onmessage(None);
        self.socket.set_onopen(None);
        self.socket.set_onclose(None);
        if self.socket.close().is_err() {
            leptos::logging::warn!("the live tail was closed already");
        }
    }
}

/// The live tail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    place: Place,
    feed: Feed,
    link: RwSignal<Link>,
    is_paused: RwSignal<bool>,
    held: StoredValue<Vec<Record>>,
    held_count: RwSignal<usize>,
    missed: RwSignal<u64>,
    attempt: RwSignal<u32>,
}

impl Tail {
    /// Connects as long as the address bar says so.
    pub(super) fn new(place: Place, feed: Feed) -> Self {
        let tail = Self {
            place,
            feed,
            link: RwSignal::new(Link::Connecting),
            is_paused: RwSignal::new(false),
            held: StoredValue::new(Vec::new()),
            held_count: RwSignal::new(0),
            missed: RwSignal::new(0),
            attempt: RwSignal::new(0),
        };
        let connection = StoredValue::new_local(None::<Connection>);
        Effect::new(move |_| {
            tail.attempt.track();
            let query = place.query.get();
            connection.set_value(None);
            tail.is_paused.set(false);
            tail.release();
            if place.is_live.get() {
                connection.set_value(tail.connect(&query));
            } else {
                tail.missed.set(0);
            }
        });
        on_cleanup(move || drop(connection.try_update_value(Option::take)));
        tail
    }

    fn connect(self, query: &str) -> Option<Connection> {
        self.link.set(Link::Connecting);
        let origin = window().location().origin().unwrap_or_default();
        let Ok(socket) = WebSocket::new(&Request::tail_url(&origin, query)) else {
            self.link.set(Link::Lost);
            return None;
        };
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(text) = event.data().as_string() {
                self.take(&text);
            }
        });
        let on_open = Closure::<dyn FnMut(Event)>::new(move |_| {
            self.link.try_set(Link::Open);
        });
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new(move |_| {
            self.link.try_set(Link::Lost);
            let again = move || {
                self.attempt.try_update(|n| *n += 1);
            };
            set_timeout(again, std::time::Duration::from_millis(RECONNECT_MS));
        });
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Some(Connection { socket, _on_message: on_message, _on_open: on_open, _on_close: on_close })
    }

    fn take(self, text: &str) {
        let Ok((records, missed)) = tail_frame(text) else {
            leptos::logging::warn!("a message of the live tail was not understood");
            self.missed.update(|n| *n += 1);
            return;
        };
        self.missed.update(|n| *n += missed);
        if !self.is_paused.get_untracked() {
            self.feed.take_newer(records);
            return;
        }
        let overflow = self.held.try_update_value(|held| {
            let room = PAUSED_MAX.saturating_sub(held.len());
            let overflow = records.len().saturating_sub(room);
            held.extend(records.into_iter().take(room));
            overflow
        });
        self.missed.update(|n| *n += overflow.unwrap_or_default() as u64);
        self.held_count.set(self.held.with_value(Vec::len));
    }

    /// Shows what came while paused.
    fn release(self) {
        let held = self.held.try_update_value(std::mem::take).unwrap_or_default();
        self.held_count.set(0);
        if !held.is_empty() {
            self.feed.take_newer(held);
        }
    }

    /// Whether it is on.
    pub(super) fn is_live(self) -> bool {
        self.place.is_live.get()
    }

    /// Switches it on, with a range that ends now, or off.
    pub(super) fn toggle(self) {
        let app = self.place.app;
        if self.place.is_live.get_untracked() {
            app.set(&[("live", "")], Keep::Entry);
        } else if untrack(|| app.range().is_live()) {
            app.set(&[("live", "1"), ("refresh", "off")], Keep::Entry);
        } else {
            app.set(&[("live", "1"), ("refresh", "off"), ("from", ""), ("to", "")], Keep::Entry);
        }
    }

    /// Pauses while the reader looks further down, and goes on at the top.
    pub(super) fn scrolled(self, is_on_top: bool) {
        if !self.place.is_live.get_untracked() || self.is_paused.get_untracked() != is_on_top {
            return;
        }
        self.set_paused(!is_on_top);
    }

    fn set_paused(self, is_paused: bool) {
        self.is_paused.set(is_paused);
        if !is_paused {
            self.release();
        }
    }

    /// The line above the list while it is on.
    pub(super) fn status(self) -> impl IntoView {
        let state = move || match (self.link.get(), self.is_paused.get()) {
            (Link::Connecting, _) => "connecting …".to_owned(),
            (Link::Lost, _) => "connection lost, trying again …".to_owned(),
            (Link::Open, false) => "following".to_owned(),
            (Link::Open, true) => format!("paused, {} new", self.held_count.get()),
        };
        view! {
            <Show when=move || self.is_live()>
                <div class="tail-status" class:lost=move || self.link.get() == Link::Lost class:paused=self.is_paused role="status">
                    <i></i>
                    <span>{state}</span>
                    {move || {
                        let missed = self.missed.get();
                        (missed > 0).then(|| view! { <span class="tag tag-bad">{format!("{missed} missed")}</span> })
                    }}
                    <button
                        class="button"
                        on:click=move |_| self.set_paused(!self.is_paused.get_untracked())
                    >
                        {move || if self.is_paused.get() { "Go on" } else { "Pause" }}
                    </button>
                </div>
            </Show>
        }
    }
}
