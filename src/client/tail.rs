//! Follows logs over the tail websocket: reconnects where it left off, and tells what it missed.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::{SinkExt, StreamExt};
use query_wire::loki::{Entry, LabelMap, TailFrame};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::http::{Server, error_text};
use super::lines::{Direction, Printer, in_order};
use super::notes;

/// First and longest pause before connecting again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Attempts in a row before giving up: about three minutes.
const ATTEMPTS_MAX: u32 = 20;

/// Silence after which the server is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(30);

/// Unanswered pings after which the connection counts as dead.
const PINGS_MAX: u32 = 2;

/// Most lines that are read again after a lost connection.
const CATCH_UP_LINES: u32 = 5_000;

/// What to follow.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The LogQL.
    pub(crate) query: String,
    /// First time to show, in nanoseconds.
    pub(crate) start_ns: i64,
    /// Most lines from before now.
    pub(crate) limit: u32,
}

/// Remembers the newest time seen and which of its lines were shown, so that a new connection repeats none.
#[derive(Debug, Default)]
struct Position {
    newest_ns: Option<i64>,
    shown: HashSet<(LabelMap, String)>,
}

impl Position {
    /// Says whether the line is new, and remembers it.
    fn is_new(&mut self, labels: &LabelMap, entry: &Entry) -> bool {
        if self.newest_ns.is_none_or(|newest| entry.timestamp_ns > newest) {
            self.newest_ns = Some(entry.timestamp_ns);
            self.shown.clear();
        }
        self.newest_ns != Some(entry.timestamp_ns) || self.shown.insert((labels.clone(), entry.line.clone()))
    }
}

/// Why a connection ended.
enum End {
    /// Trying again makes no sense.
    Fatal(anyhow::Error),
    /// The connection broke, or could not be made.
    Lost(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Fatal(error.into())
    }
}

/// Prints lines as they arrive, until interrupted.
///
/// # Errors
/// When the first connection fails, the server refuses the query, or does not come back for a while.
pub(crate) async fn follow(
    server: &Server,
    options: &Options,
    printer: &Printer,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    printer.header(out)?;
    out.flush()?;
    tokio::select! {
        ended = reconnecting(server, options, printer, out) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C failed"),
    }
}

async fn reconnecting(
    server: &Server,
    options: &Options,
    printer: &Printer,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut position = Position::default();
    let mut attempt = 0;
    let mut connected_before = false;
    loop {
        let mut connected = false;
        let end = session(server, options, printer, &mut position, &mut connected, out).await;
        let why = match end {
            End::Fatal(error) => return Err(error),
            End::Lost(why) => why,
        };
        attempt = if connected { 1 } else { attempt + 1 };
        connected_before |= connected;
        if !connected_before || attempt > ATTEMPTS_MAX {
            return Err(anyhow!("following {} failed: {why}", server.origin()));
        }
        let pause = pause_before(attempt, u64::try_from(runtime::Clock::system().now_nanos()).unwrap_or(0));
        notes("note", &[format!("{why}; connecting again in {:.1} s", pause.as_secs_f64())]);
        tokio::time::sleep(pause).await;
    }
}

/// Returns the pause before an attempt: doubling, at most ten seconds, half of it left to chance.
fn pause_before(attempt: u32, chance: u64) -> Duration {
    let full = PAUSE.0.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE.1);
    let half = full / 2;
    half + Duration::from_nanos(chance % u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1))
}

/// Follows over one connection.
async fn session(
    server: &Server,
    options: &Options,
    printer: &Printer,
    position: &mut Position,
    connected: &mut bool,
    out: &mut impl Write,
) -> End {
    let again = position.newest_ns.is_some();
    let start = position.newest_ns.unwrap_or(options.start_ns).to_string();
    let limit = if again { CATCH_UP_LINES } else { options.limit }.to_string();
    let request = match request(server, &[("query", &options.query), ("start", &start), ("limit", &limit)]) {
        Ok(request) => request,
        Err(error) => return End::Fatal(error),
    };
    let mut socket = match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(WsError::Http(response)) => return refused(&response),
        Err(error) => return End::Lost(error.to_string()),
    };
    *connected = true;
    let mut silent = 0;
    loop {
        let message = match tokio::time::timeout(PING_AFTER, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return End::Lost(error.to_string()),
            Ok(None) => return End::Lost("the server closed the connection".to_owned()),
            Err(_) if silent == PINGS_MAX => return End::Lost("the server gives no sign of life".to_owned()),
            Err(_) => {
                silent += 1;
                if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                    return End::Lost(error.to_string());
                }
                continue;
            }
        };
        silent = 0;
        if let Message::Text(text) = message
            && let Err(end) = show(text.as_str(), printer, position, out)
        {
            return end;
        }
    }
}

fn request(
    server: &Server,
    query: &[(&str, &str)],
) -> anyhow::Result<tokio_tungstenite::tungstenite::handshake::client::Request> {
    let mut url = server.endpoint(&["loki", "api", "v1", "tail"])?;
    url.set_scheme("ws").map_err(|()| anyhow!("{} has no websocket form", server.origin()))?;
    url.query_pairs_mut().extend_pairs(query);
    let mut request = url.as_str().into_client_request().context("preparing the websocket request failed")?;
    request.headers_mut().extend(server.headers().clone());
    Ok(request)
}

/// Tells a query that is wrong, which stays wrong, from a server that is not ready.
fn refused(response: &tokio_tungstenite::tungstenite::http::Response<Option<Vec<u8>>>) -> End {
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let text = error_text(&body, &response.status().to_string());
    if response.status().is_client_error() { End::Fatal(anyhow!(text)) } else { End::Lost(text) }
}

fn show(text: &str, printer: &Printer, position: &mut Position, out: &mut impl Write) -> Result<(), End> {
    let frame: TailFrame = serde_json::from_str(text)
        .map_err(|error| End::Fatal(anyhow!(error).context("the server sent a message of another form")))?;
    for (labels, entry) in in_order(&frame.streams, Direction::Forward) {
        if position.is_new(labels, entry) {
            printer.line(labels, entry, out)?;
        }
    }
    out.flush()?;
    let missed = frame.dropped_count.max(frame.dropped_entries.map_or(0, |entries| entries.len() as u64));
    if missed > 0 {
        notes("warning", &[format!("{missed} lines were missed: this reader was too slow")]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::lines::Form;
    use crate::client::style::Style;

    fn entry(timestamp_ns: i64, line: &str) -> Entry {
        Entry { timestamp_ns, line: line.to_owned(), labels: None }
    }

    #[test]
    fn lines_of_the_newest_time_are_shown_once() {
        let (mut position, labels) = (Position::default(), LabelMap::new());
        assert!(position.is_new(&labels, &entry(1, "a")));
        assert!(position.is_new(&labels, &entry(2, "b")));
        assert!(position.is_new(&labels, &entry(2, "c")));
        assert!(!position.is_new(&labels, &entry(2, "b")), "after a new connection");
        assert!(position.is_new(&labels, &entry(1, "late")), "late lines are new");
        assert_eq!(position.newest_ns, Some(2));
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert!((125..250).contains(&pause_before(1, 77).as_millis()));
        for chance in [0, 1, u64::MAX, 4_999_999_999] {
            assert!((5_000..=10_000).contains(&pause_before(20, chance).as_millis()), "{chance}");
        }
    }

    #[test]
    fn a_frame_is_printed_in_order_of_time() {
        let text =
            r#"{"streams":[{"stream":{"a":"1"},"values":[["2","b"]]},{"stream":{"a":"2"},"values":[["1","a"]]}]}"#;
        let printer = Printer::new(Form::Raw, Style::PLAIN, LabelMap::new());
        let mut out = Vec::new();
        assert!(show(text, &printer, &mut Position::default(), &mut out).is_ok());
        assert_eq!(out, b"a\nb\n");
        assert!(matches!(show("[", &printer, &mut Position::default(), &mut out), Err(End::Fatal(_))));
    }
}
