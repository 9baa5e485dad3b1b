//! The stack's own logs: an event stream on stdout, and a copy for whoever stores them.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::telemetry::Counter;
use crate::{Clock, Telemetry};

/// Most events that wait to be stored. At some 300 bytes each that is far below a megabyte.
const EVENTS_MAX: usize = 1024;

/// How the stack writes its own logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// One event of the stack's own logs.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnEvent {
    /// Nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: &'static str,
    /// The module that spoke.
    pub target: String,
    /// The constant message.
    pub message: String,
    /// The data.
    pub fields: Vec<(String, String)>,
}

/// Hands on a copy of each event; when nobody takes them, they are counted and dropped, never waited for.
#[derive(Debug)]
pub struct EventCopy {
    clock: Clock,
    send: SyncSender<OwnEvent>,
    dropped: Counter,
    /// Targets whose events are not copied: those that storing an event may itself write.
    quiet: &'static [&'static str],
}

impl EventCopy {
    /// Makes a bounded queue for copies. Events of targets that start with one of `quiet` are left out, so that storing
    /// events never makes events.
    #[must_use]
    pub fn new(clock: Clock, telemetry: &Telemetry, quiet: &'static [&'static str]) -> (Self, Receiver<OwnEvent>) {
        let (send, receive) = sync_channel(EVENTS_MAX);
        let dropped = telemetry.counter(
            "daybook_own_events_dropped_total",
            "Events of our own log that were printed but not stored, as the queue was full.",
        );
        (Self { clock, send, dropped, quiet }, receive)
    }
}

impl<S: Subscriber> Layer<S> for EventCopy {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if self.quiet.iter().any(|target| metadata.target().starts_with(target)) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "TRACE",
        };
        let own = OwnEvent {
            timestamp_ns: self.clock.now_nanos(),
            level,
            target: metadata.target().to_owned(),
            message: fields.message,
            fields: fields.rest,
        };
        if let Err(TrySendError::Full(_)) = self.send.try_send(own) {
            self.dropped.inc();
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(String, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, text: String) {
        if field.name() == "message" { self.message = text } else { self.rest.push((field.name().to_owned(), text)) }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// Starts logging: one event a line on stdout, or on stderr when `to_stderr`. `filter` is `info`, `storage_wal=debug`, …
///
/// # Errors
/// When the filter does not parse, or logging was started before.
pub fn init_logs(format: LogFormat, filter: &str, to_stderr: bool, copy: Option<EventCopy>) -> Result<(), String> {
    use tracing_subscriber::fmt::writer::BoxMakeWriter;
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let writer = if to_stderr { BoxMakeWriter::new(std::io::stderr) } else { BoxMakeWriter::new(std::io::stdout) };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).with(copy).try_init().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_copied_with_their_fields_and_quiet_targets_are_not() {
        let (copy, events) = EventCopy::new(Clock::fixed(42), &Telemetry::new(), &["storage"]);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(copy), || {
            tracing::warn!(target: "storage_logs::head", "not this one");
            tracing::info!(target: "daybook", port = 4319, name = "http", "listening");
        });
        let got: Vec<OwnEvent> = events.try_iter().collect();
        let fields = vec![("port".to_owned(), "4319".to_owned()), ("name".to_owned(), "http".to_owned())];
        let (target, message) = ("daybook".to_owned(), "listening".to_owned());
        assert_eq!(got, vec![OwnEvent { timestamp_ns: 42, level: "INFO", target, message, fields }]);
    }

    #[test]
    fn a_full_queue_is_counted_and_never_waited_for() {
        let telemetry = Telemetry::new();
        let (copy, _events) = EventCopy::new(Clock::fixed(0), &telemetry, &[]);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(copy), || {
            for _ in 0..EVENTS_MAX + 5 {
                tracing::info!("again");
            }
        });
        assert!(telemetry.render().contains("daybook_own_events_dropped_total 5"));
    }
}
