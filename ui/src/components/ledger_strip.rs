//! Delivery accounting in one strip: what came in, what was taken, what was dropped and why.

use std::collections::BTreeMap;

use leptos::prelude::*;
use query_wire::prometheus::LedgerEntry;

use super::icon::{Glyph, Icon};
use super::states::stateful;
use crate::api::{Request, load, prom_data};
use crate::charts::units::Unit;
use crate::state::context::App;

/// The counts of one signal.
///
/// A record passes several places: an agent's input, its sender, a receiver. It is received once, by the receiver, so
/// only receivers are summed up; what other places dropped never came so far, or came and is gone, and is told beside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Account {
    received: u64,
    accepted: u64,
    dropped: BTreeMap<String, u64>,
    dropped_elsewhere: BTreeMap<(String, String), u64>,
}

/// Whether records come into the server at this place, and not only through it.
fn is_receiver(place: &str) -> bool {
    !place.starts_with("agent_") && !place.starts_with("storage_")
}

impl Account {
    fn of(entries: &[LedgerEntry], signal: &str) -> Self {
        let mut account = Self::default();
        for entry in entries.iter().filter(|entry| entry.signal == signal) {
            let dropped = entry.dropped.iter().filter(|(_, count)| **count > 0);
            if is_receiver(&entry.place) {
                account.received += entry.received;
                account.accepted += entry.accepted;
                for (reason, count) in dropped {
                    *account.dropped.entry(reason.clone()).or_default() += count;
                }
            } else {
                for (reason, count) in dropped {
                    let key = (entry.place.clone(), reason.clone());
                    *account.dropped_elsewhere.entry(key).or_default() += count;
                }
            }
        }
        account
    }

    fn dropped_sum(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Records that are neither accepted nor counted as dropped: on their way, or a fault.
    fn open(&self) -> u64 {
        self.received.saturating_sub(self.accepted).saturating_sub(self.dropped_sum())
    }
}

/// The strip.
#[component]
pub(crate) fn LedgerStrip() -> impl IntoView {
    let app = App::expect();
    let ledger = load(
        move || {
            app.track_refresh();
            Some(Request::ledger())
        },
        prom_data::<Vec<LedgerEntry>>,
    );
    let accounts = move || {
        let entries = ledger.get().unwrap_or_default();
        let is_fresh = entries.iter().all(|entry| entry.received == 0);
        let cells = [("Samples", "metrics"), ("Log records", "logs")]
            .map(|(title, signal)| account(title, &Account::of(&entries, signal)));
        view! {
            <div class="ledger">
                {cells.into_iter().collect::<Vec<_>>()}
                {is_fresh.then(|| view! { <p class="hint">"Nothing has come in yet."</p> })}
            </div>
        }
        .into_any()
    };
    view! {
        <section class="panel ledger-panel" aria-label="Delivery accounting">
            {stateful(ledger, 1, accounts)}
        </section>
    }
}

fn account(title: &'static str, account: &Account) -> AnyView {
    let number = |count: u64| Unit::Short.format(count as f64);
    let dropped = account.dropped_sum();
    let tag = |class: &'static str, title: String, words: String, count: u64| {
        view! {
            <span class=class title=title>
                {words.replace('_', " ")}
                " "
                <b>{number(count)}</b>
            </span>
        }
    };
    let reasons = account
        .dropped
        .iter()
        .map(|(reason, count)| tag("tag tag-bad", format!("{count} dropped: {reason}"), reason.clone(), *count));
    let elsewhere = account.dropped_elsewhere.iter().map(|((place, reason), count)| {
        tag("tag", format!("{count} dropped at {place}: {reason}"), format!("{place}: {reason}"), *count)
    });
    let elsewhere = elsewhere.collect::<Vec<_>>();
    let open = account.open();
    let verdict = if account.received == 0 && dropped == 0 {
        ().into_any()
    } else if dropped == 0 && open == 0 {
        view! {
            <span class="tag tag-good">
                <Icon glyph=Glyph::Check />
                "all accounted for"
            </span>
        }
        .into_any()
    } else {
        reasons.collect::<Vec<_>>().into_any()
    };
    let open = (open > 0).then(|| view! { <span class="tag">"in flight " <b>{number(open)}</b></span> });
    view! {
        <div class="account">
            <h3>{title}</h3>
            <dl>
                <div title=account.received.to_string()>
                    <dt>"received"</dt>
                    <dd>{number(account.received)}</dd>
                </div>
                <div title=account.accepted.to_string()>
                    <dt>"accepted"</dt>
                    <dd>{number(account.accepted)}</dd>
                </div>
                <div title=dropped.to_string() class:bad=move || { dropped > 0 }>
                    <dt>"dropped"</dt>
                    <dd>{number(dropped)}</dd>
                </div>
            </dl>
            <div class="tags">{verdict} {open} {elsewhere}</div>
        </div>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_counted_once_on_its_way() {
        let entry = |place: &str, signal: &str, received, accepted, dropped: &[(&str, u64)]| LedgerEntry {
            place: place.to_owned(),
            signal: signal.to_owned(),
            received,
            accepted,
            dropped: dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
        };
        let entries = [
            entry("otlp_grpc", "logs", 10, 7, &[("too_old", 2)]),
            entry("loki_push", "logs", 5, 5, &[("too_old", 0)]),
            entry("agent_file", "logs", 12, 8, &[("empty", 4)]),
            entry("agent_sender", "logs", 8, 8, &[]),
            entry("otlp_grpc", "metrics", 99, 99, &[]),
        ];
        let logs = Account::of(&entries, "logs");
        assert_eq!((logs.received, logs.accepted, logs.dropped_sum(), logs.open()), (15, 12, 2, 1));
        assert_eq!(logs.dropped.len(), 1);
        let elsewhere = [(("agent_file".to_owned(), "empty".to_owned()), 4)];
        assert_eq!(logs.dropped_elsewhere.into_iter().collect::<Vec<_>>(), elsewhere);
    }
}
