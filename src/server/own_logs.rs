//! Stores our own event log through the same door as everyone's.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};
use runtime::{Ledger, OwnEvent, Shutdown, Signal};
use storage_api::{LogAppender, LogBatch, LogGroup};

/// How often waiting events are stored.
const EVERY: Duration = Duration::from_secs(1);
/// The place in the ledger.
const PLACE: &str = "own_events";

/// Modules whose events are not stored: storing an event may make them speak.
pub(crate) const QUIET: &[&str] = &["storage", "runtime", "tantivy", "daybook::server::own_logs"];

/// Stores events until shutdown, and then those that wait.
pub(super) fn start(events: Receiver<OwnEvent>, logs: Arc<dyn LogAppender>, ledger: Ledger, shutdown: &Shutdown) {
    let stop = shutdown.clone();
    shutdown.spawn("own-events", async move {
        let mut events = events;
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            let last = tokio::select! {
                () = stop.wait() => true,
                _ = ticks.tick() => false,
            };
            let (logs, ledger) = (Arc::clone(&logs), ledger.clone());
            let stored = tokio::task::spawn_blocking(move || {
                store(events.try_iter().collect(), logs.as_ref(), &ledger);
                events
            });
            match stored.await {
                Ok(back) if !last => events = back,
                _ => return,
            }
        }
    });
}

fn store(events: Vec<OwnEvent>, logs: &dyn LogAppender, ledger: &Ledger) {
    if events.is_empty() {
        return;
    }
    let n = events.len() as u64;
    ledger.received(PLACE, Signal::Logs, n);
    let text = |name: &str, value: &str| (name.to_owned(), Value::Str(value.to_owned()));
    let group = LogGroup {
        stream: Labels::from_pairs([("service_name", "daybook")]),
        resource: Arc::new(Resource { attributes: vec![text("service.name", "daybook")], ..Resource::default() }),
        scope: Arc::new(Scope::default()),
        records: events.into_iter().map(record).collect(),
    };
    match logs.append(LogBatch { groups: vec![group] }) {
        Ok(report) => {
            ledger.accepted(PLACE, Signal::Logs, report.accepted);
            for rejection in report.rejections {
                ledger.dropped(PLACE, Signal::Logs, rejection.reason, rejection.count);
            }
        }
        Err(error) => {
            tracing::warn!(%error, "our own events could not be stored");
            ledger.dropped(PLACE, Signal::Logs, "not_stored", n);
        }
    }
}

fn record(event: OwnEvent) -> LogRecord {
    let severity_number = match event.level {
        "ERROR" => 17,
        "WARN" => 13,
        "INFO" => 9,
        "DEBUG" => 5,
        _ => 1,
    };
    let mut attributes = vec![("code.namespace".to_owned(), Value::Str(event.target))];
    let mut line = event.message;
    for (name, value) in event.fields {
        line.push(' ');
        line.push_str(&name);
        line.push('=');
        // As logfmt: quoted where a reader would otherwise split it.
        if value.is_empty() || value.contains([' ', '=', '"', '\n']) {
            line.push_str(&format!("{value:?}"))
        } else {
            line.push_str(&value)
        }
        attributes.push((name, Value::Str(value)));
    }
    LogRecord {
        timestamp: Timestamp(event.timestamp_ns),
        observed_timestamp: Timestamp(event.timestamp_ns),
        severity_number,
        severity_text: event.level.to_owned(),
        body: Value::Str(line),
        attributes,
        ..LogRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TimeRange;
    use runtime::Telemetry;
    use storage_api::fake::FakeLogs;
    use storage_api::{LogQuerier, LogSelect, QueryContext};

    #[test]
    fn an_event_becomes_a_line_with_its_fields() {
        let (logs, ledger) = (FakeLogs::default(), Ledger::new(&Telemetry::new()));
        let fields = vec![("port".to_owned(), "4319".to_owned()), ("why".to_owned(), "no space".to_owned())];
        let (target, message) = ("daybook".to_owned(), "listening".to_owned());
        store(vec![OwnEvent { timestamp_ns: 7, level: "WARN", target, message, fields }], &logs, &ledger);
        let select = LogSelect {
            matchers: vec![],
            range: TimeRange::ALL,
            needles: vec![],
            with_metadata: false,
            without_lines: false,
        };
        let parts = logs.select(&select, &QueryContext::default()).unwrap();
        let rows = parts[0].read(&QueryContext::default()).unwrap();
        assert_eq!(rows.lines.get(0), "listening port=4319 why=\"no space\"");
        assert_eq!(ledger.entries()[0].accepted, 1);
    }
}
