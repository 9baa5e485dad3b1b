//! Delivery accounting: what came in where, what was taken, what was dropped and why.

use std::sync::Arc;

use crate::telemetry::{CounterVec, Telemetry};

/// What kind of record is counted: a metric sample or a log record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// One sample.
    Metrics,
    /// One log record.
    Logs,
}

impl Signal {
    /// Returns the word used in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Counts records by place and signal. At each place, received = accepted + dropped, over all reasons.
///
/// It is what `/api/v1/ledger` answers with, and the `daybook_*_records_total` counters of `/metrics`. Clones share the
/// counts.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    received: CounterVec,
    accepted: CounterVec,
    dropped: CounterVec,
}

/// The counts of one place and signal.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerEntry {
    /// Where: `otlp_grpc`, `otlp_http`, `remote_write`, `loki_push`, `agent_file`, `storage_retention`, …
    pub place: String,
    /// `metrics` or `logs`.
    pub signal: String,
    /// Records that arrived.
    pub received: u64,
    /// Records that were handed on, or are durable.
    pub accepted: u64,
    /// Records that were not taken or were lost, by reason.
    pub dropped: Vec<(String, u64)>,
}

impl Ledger {
    /// Registers the counters.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        let counter = |name, help, labels: &[&str]| telemetry.counter_vec(name, help, labels);
        Self(Arc::new(Counters {
            received: counter(
                "daybook_received_records_total",
                "Records that arrived, by place.",
                &["place", "signal"],
            ),
            accepted: counter(
                "daybook_accepted_records_total",
                "Records that were taken: durable, or handed on by the agent.",
                &["place", "signal"],
            ),
            dropped: counter(
                "daybook_dropped_records_total",
                "Records that were refused, dropped or deleted, by place and reason.",
                &["place", "signal", "reason"],
            ),
        }))
    }

    /// Counts `n` records that arrived at `place`.
    pub fn received(&self, place: &str, signal: Signal, n: u64) {
        self.0.received.with(&[place, signal.as_str()]).inc_by(n);
    }

    /// Counts `n` records of `place` that were taken.
    pub fn accepted(&self, place: &str, signal: Signal, n: u64) {
        self.0.accepted.with(&[place, signal.as_str()]).inc_by(n);
    }

    /// Counts `n` records of `place` that were not taken, or were lost. `reason` is one short word of a bounded set.
    pub fn dropped(&self, place: &str, signal: Signal, reason: &str, n: u64) {
        if n > 0 {
            self.0.dropped.with(&[place, signal.as_str(), reason]).inc_by(n);
        }
    }

    /// Returns all counts, by place and signal.
    #[must_use]
    pub fn entries(&self) -> Vec<LedgerEntry> {
        let mut entries: std::collections::BTreeMap<(String, String), LedgerEntry> = std::collections::BTreeMap::new();
        for (which, counters) in [&self.0.received, &self.0.accepted, &self.0.dropped].into_iter().enumerate() {
            for (labels, value) in counters.collect() {
                let get = |name: &str| {
                    labels.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone()).unwrap_or_default()
                };
                let (place, signal) = (get("place"), get("signal"));
                let entry = entries.entry((place.clone(), signal.clone())).or_insert_with(|| LedgerEntry {
                    place,
                    signal,
                    received: 0,
                    accepted: 0,
                    dropped: Vec::new(),
                });
                match which {
                    0 => entry.received = value,
                    1 => entry.accepted = value,
                    _ => entry.dropped.push((get("reason"), value)),
                }
            }
        }
        entries.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_hold_each_place_with_its_reasons() {
        let ledger = Ledger::new(&Telemetry::new());
        ledger.received("otlp_http", Signal::Logs, 10);
        ledger.accepted("otlp_http", Signal::Logs, 7);
        ledger.dropped("otlp_http", Signal::Logs, "too_large", 3);
        ledger.dropped("otlp_http", Signal::Logs, "never", 0);
        let entries = ledger.entries();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].received, entries[0].accepted), (10, 7));
        assert_eq!(entries[0].dropped, vec![("too_large".to_owned(), 3)]);
    }
}
