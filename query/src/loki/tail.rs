//! `tail`: new lines over a websocket.
//!
//! One half takes rows from the store as they arrive, tests them, and queues what passes; the other sends. When the reader
//! stalls the queue fills, further lines are dropped and counted, and the next frame says how many: memory stays bounded
//! and the store is never held up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{self, RawQuery};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use model::{Labels, TimeRange, Timestamp};
use query_logql::{Direction, Follower, LogEntry, LogQuery};
use query_wire::loki::{DroppedEntry, TailFrame};
use runtime::{Counter, Gauge, Telemetry};
use storage_api::TailBatch;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::error::LokiError;
use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State, encode};
use crate::Services;
use crate::service::Level;

/// Most lines that wait to be sent.
const QUEUE_MAX: usize = 10_000;

/// Most bytes of lines that wait to be sent.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Most lines in a frame.
const FRAME_MAX: usize = 1_000;

/// Most dropped lines that a frame names; all are counted.
const DROPPED_NAMED_MAX: usize = 10;

/// Longest delay that may be asked for, in seconds, as in Loki.
const DELAY_MAX: u64 = 5;

/// How long a reader may take for one frame before it is let go.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a quiet connection is pinged.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What is told of all who follow.
#[derive(Debug, Clone)]
pub(crate) struct TailTelemetry {
    running: Gauge,
    /// The queue was full: the reader is slower than its lines come.
    slow_reader: Counter,
    /// The store could not keep them for us.
    lagged: Counter,
    /// They were in the queue, or in a frame, when the reader was let go.
    reader_stalled: Counter,
}

impl TailTelemetry {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let dropped = telemetry.counter_vec(
            "daybook_tail_dropped_entries_total",
            "Lines that passed a followed query and were not sent, by reason.",
            &["reason"],
        );
        Self {
            running: telemetry.gauge("daybook_tails_running", "Queries that are followed now."),
            slow_reader: dropped.with(&["slow_reader"]),
            lagged: dropped.with(&["lagged"]),
            reader_stalled: dropped.with(&["reader_stalled"]),
        }
    }
}

/// Follows a query.
pub(super) async fn tail(
    extract::State(state): extract::State<State>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Answer {
    let params = Params::from_query(query.as_deref().unwrap_or(""), headers);
    let log = query_logql::parse_log(params.get("query"))?;
    let follower = Arc::new(Follower::new(log.clone())?);
    let limit = params.limit()?;
    let delay = match params.get("delay_for") {
        "" => 0,
        text => text.parse::<u64>().map_err(|_| LokiError::bad("delay_for must be a number of seconds"))?,
    };
    if delay > DELAY_MAX {
        return Err(LokiError::bad(format!("delay_for can't be greater than {DELAY_MAX}")));
    }
    let now_ns = state.services.clock.now_nanos();
    let start_ns = params.time("start", now_ns.saturating_sub(SINCE_QUERY_NS))?;
    let permit = Arc::clone(&state.tails)
        .try_acquire_owned()
        .map_err(|_| LokiError::too_many("max concurrent tail requests limit exceeded"))?;
    let upgrade = upgrade.map_err(|error| LokiError::bad(error.to_string()))?;
    let tail = Tail {
        services: state.services,
        follower,
        limit,
        delay: Duration::from_secs(delay),
        start_ns,
        categorize: params.categorizes(),
        permit,
    };
    let answer: Response = upgrade.on_upgrade(move |socket| tail.run(log, socket));
    Ok(answer)
}

struct Tail {
    services: Services,
    follower: Arc<Follower>,
    limit: usize,
    delay: Duration,
    start_ns: i64,
    categorize: bool,
    permit: OwnedSemaphorePermit,
}

impl Tail {
    async fn run(self, log: query_logql::LogExpr, socket: WebSocket) {
        // Following begins before the past is read, so that no line falls between the two.
        let receiver = self.services.logs.tail();
        let (sink, stream) = socket.split();
        let running = Level::up(&self.services.tails.running);
        let queue = Queue::new(self.services.tails.clone());
        let past = match self.past(log).await {
            Ok(past) => past,
            Err(text) => {
                let mut sink = sink;
                let reason = axum::extract::ws::CloseFrame { code: 1011, reason: text.into() };
                if let Err(error) = sink.send(Message::Close(Some(reason))).await {
                    tracing::debug!(%error, "tail reader left");
                }
                return;
            }
        };
        let seen = past.iter().map(identity).fold(HashMap::new(), |mut seen: HashMap<_, usize>, one| {
            *seen.entry(one).or_default() += 1;
            seen
        });
        past.into_iter().for_each(|entry| queue.push(entry));
        // Whoever ends first ends the tail: the store, the sender, or the client.
        tokio::select! {
            () = self.follow(receiver, seen, &queue) => {}
            result = self.send(sink, &queue) => {
                if let Err(reason) = result {
                    tracing::debug!(reason, "tail ended");
                }
            }
            () = until_closed(stream) => {}
        }
        drop(running);
        drop(self.permit);
    }

    /// Reads the newest lines since the start, oldest first.
    async fn past(&self, log: query_logql::LogExpr) -> Result<Vec<LogEntry>, String> {
        let end_ns = self.services.clock.now_nanos().saturating_add(1);
        let range = TimeRange::new(Timestamp(self.start_ns), Timestamp(end_ns));
        let logs = Arc::clone(&self.services.logs);
        let limit = self.limit.min(QUEUE_MAX);
        let work = move |context: &storage_api::QueryContext| {
            let query = LogQuery { log: &log, range, limit, direction: Direction::Backward, interval_ns: 0 };
            query_logql::select_logs(&query, logs.as_ref(), context).map_err(|error| error.to_string())
        };
        let found = self.services.run(self.services.context(), work).await.map_err(|error| error.to_string())?;
        found.map(|mut entries| {
            entries.reverse();
            entries
        })
    }

    async fn follow(&self, mut receiver: Receiver<Arc<TailBatch>>, mut seen: HashMap<Identity, usize>, queue: &Queue) {
        // What waits now may have been read as past already; what comes later was not.
        let mut doubtful = receiver.len();
        loop {
            let batch = match receiver.recv().await {
                Ok(batch) => batch,
                Err(RecvError::Lagged(batches)) => {
                    queue.missed(batches);
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            let follower = Arc::clone(&self.follower);
            let Some(entries) = self.services.cpu.run(move || follower.process(&batch)).await else { return };
            for entry in entries {
                if doubtful > 0
                    && let Some(count) = seen.get_mut(&identity(&entry)).filter(|count| **count > 0)
                {
                    *count -= 1;
                    continue;
                }
                queue.push(entry);
            }
            doubtful = doubtful.saturating_sub(1);
            if doubtful == 0 {
                seen.clear();
            }
        }
    }

    async fn send(&self, mut sink: SplitSink<WebSocket, Message>, queue: &Queue) -> Result<(), &'static str> {
        loop {
            let mut in_frame = 0;
            let message = match tokio::time::timeout(PING_EVERY, queue.wait()).await {
                Err(_) => Message::Ping(Vec::new().into()),
                Ok(since) => {
                    if !self.delay.is_zero() {
                        tokio::time::sleep_until(since + self.delay).await;
                    }
                    let (entries, dropped, dropped_count) = queue.take(FRAME_MAX);
                    in_frame = entries.len();
                    let frame = TailFrame {
                        streams: encode::streams(entries, self.categorize),
                        encoding_flags: encode::encoding_flags(self.categorize),
                        dropped_entries: (dropped_count > 0).then_some(dropped),
                        dropped_count,
                    };
                    let text = serde_json::to_string(&frame).map_err(|_| "a frame could not be written")?;
                    Message::Text(text.into())
                }
            };
            match tokio::time::timeout(SEND_TIMEOUT, sink.send(message)).await {
                Ok(sent) => sent.map_err(|_| "the reader left")?,
                Err(_) => {
                    queue.give_up(in_frame);
                    return Err("the reader took no frame in time");
                }
            }
        }
    }
}

/// Reads what the client sends until it closes; pongs and the like are answered by the protocol.
async fn until_closed(mut stream: SplitStream<WebSocket>) {
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Close(_) = message {
            return;
        }
    }
}

/// What makes two lines the same one.
type Identity = (Timestamp, Labels, String);

fn identity(entry: &LogEntry) -> Identity {
    (entry.timestamp, entry.labels.all(), entry.line.clone())
}

/// Lines that wait to be sent, and those that did not fit.
#[derive(Debug)]
struct Queue {
    telemetry: TailTelemetry,
    /// Held for moments only, never across an await.
    inner: std::sync::Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    since: Option<Instant>,
    dropped: Vec<DroppedEntry>,
    dropped_count: u64,
}

impl Queue {
    fn new(telemetry: TailTelemetry) -> Self {
        Self { telemetry, inner: std::sync::Mutex::default(), filled: Notify::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push(&self, entry: LogEntry) {
        let mut inner = self.lock();
        inner.since.get_or_insert_with(Instant::now);
        let size = entry.line.len();
        // One line always fits, however long.
        let full = inner.entries.len() >= QUEUE_MAX
            || !inner.entries.is_empty() && inner.bytes.saturating_add(size) > QUEUE_BYTES_MAX;
        if full {
            inner.dropped_count += 1;
            self.telemetry.slow_reader.inc();
            if inner.dropped.len() < DROPPED_NAMED_MAX {
                let labels = encode::label_map(&entry.labels.all());
                inner.dropped.push(DroppedEntry { labels, timestamp: entry.timestamp.0.to_string() });
            }
        } else {
            inner.bytes += size;
            inner.entries.push_back(entry);
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Notes batches that the store could not keep for us; each held one line at least.
    fn missed(&self, batches: u64) {
        let mut inner = self.lock();
        inner.since.get_or_insert_with(Instant::now);
        inner.dropped_count += batches;
        self.telemetry.lagged.inc_by(batches);
        drop(inner);
        self.filled.notify_one();
    }

    /// Waits until there is something to send, and returns since when.
    async fn wait(&self) -> Instant {
        loop {
            if let Some(since) = self.lock().since {
                return since;
            }
            self.filled.notified().await;
        }
    }

    /// Counts what will never be sent: those that wait, and those of a frame that was not taken.
    fn give_up(&self, in_frame: usize) {
        let waiting = std::mem::take(&mut self.lock().entries).len();
        self.telemetry.reader_stalled.inc_by((waiting + in_frame) as u64);
    }

    fn take(&self, most: usize) -> (Vec<LogEntry>, Vec<DroppedEntry>, u64) {
        let mut inner = self.lock();
        let count = inner.entries.len().min(most);
        let entries: Vec<LogEntry> = inner.entries.drain(..count).collect();
        inner.bytes = inner.bytes.saturating_sub(entries.iter().map(|entry| entry.line.len()).sum());
        if inner.entries.is_empty() {
            inner.since = None;
        }
        (entries, std::mem::take(&mut inner.dropped), std::mem::take(&mut inner.dropped_count))
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn entry(line: &str) -> LogEntry {
        let none = Labels::empty();
        let stream = Labels::from_pairs([("app", "a")]);
        let labels = query_logql::CategorizedLabels { stream, metadata: none.clone(), parsed: none };
        LogEntry { timestamp: Timestamp(7), line: line.to_owned(), labels }
    }

    #[test]
    fn a_full_queue_counts_what_it_drops() {
        let telemetry = Telemetry::new();
        let queue = Queue::new(TailTelemetry::new(&telemetry));
        for _ in 0..QUEUE_MAX + 25 {
            queue.push(entry("x"));
        }
        let (entries, dropped, count) = queue.take(FRAME_MAX);
        assert_eq!((entries.len(), dropped.len(), count), (FRAME_MAX, DROPPED_NAMED_MAX, 25));
        assert_eq!(dropped[0].timestamp, "7");
        assert_eq!(queue.take(FRAME_MAX).2, 0);
        queue.missed(3);
        queue.give_up(FRAME_MAX);
        let shown = telemetry.render();
        for (reason, n) in [("slow_reader", 25), ("lagged", 3), ("reader_stalled", QUEUE_MAX - FRAME_MAX)] {
            let line = format!("daybook_tail_dropped_entries_total{{reason=\"{reason}\"}} {n}\n");
            assert!(shown.contains(&line), "{line} is not in {shown}");
        }
    }

    #[test]
    fn bytes_are_bounded_but_one_line_always_fits() {
        let queue = Queue::new(TailTelemetry::new(&Telemetry::new()));
        let long = "x".repeat(QUEUE_BYTES_MAX + 1);
        queue.push(entry(&long));
        queue.push(entry("y"));
        let (entries, _, count) = queue.take(10);
        assert_eq!((entries.len(), count), (1, 1));
        queue.push(entry("z"));
        assert_eq!(queue.take(10).0.len(), 1);
    }
}
