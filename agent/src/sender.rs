//! Sends the buffer's requests to an OTLP/gRPC endpoint, oldest first, one at a time for each signal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use runtime::{Ledger, Signal};
use tokio::sync::watch;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::buffer::{Entry, Queue};
use crate::checkpoint::Checkpoints;
use crate::config::{Compression, Config};
use crate::retry::{Backoff, Choice, choose};
use crate::stats::Stats;

/// The ledger's place.
const PLACE: &str = "agent_sender";
/// Time between two logged failures of one signal.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Wait after the buffer could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How far the agent is with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Inputs may still add to the buffer.
    Running,
    /// Nothing is added any more; what is there is sent until this moment.
    Draining(Instant),
}

/// Sends requests as the bytes they are, so that one sent again is the same byte by byte.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

#[derive(Debug)]
struct RawEncoder;
#[derive(Debug)]
struct RawDecoder;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawEncoder;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }
    fn decoder(&mut self) -> RawDecoder {
        RawDecoder
    }
}

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf;
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Sends one signal's requests.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: Arc<Queue>,
    /// Saved before the buffer forgets records that it depends on; logs only.
    checkpoints: Option<Arc<Checkpoints>>,
    signal: Signal,
    client: tonic::client::Grpc<Channel>,
    path: PathAndQuery,
    metadata: MetadataMap,
    timeout: Duration,
    backoff: Backoff,
    ledger: Ledger,
    stats: Stats,
    last_logged: Option<Instant>,
}

/// How a request ended.
enum Outcome {
    Done,
    /// Shutdown came first; the request stays in the buffer.
    Kept,
}

impl Sender {
    /// Prepares sending; connects when there is something to send.
    pub(crate) fn new(
        config: &Config,
        signal: Signal,
        queue: Arc<Queue>,
        checkpoints: Option<Arc<Checkpoints>>,
        ledger: &Ledger,
        stats: &Stats,
    ) -> crate::Result<Self> {
        let wrong = |text: String| crate::Error::Config { problems: vec![text] };
        let endpoint = Endpoint::from_shared(config.endpoint.clone())
            .map_err(|error| wrong(format!("endpoint {:?}: {error}", config.endpoint)))?
            .connect_timeout(config.sender.timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .user_agent(concat!("daybook-agent/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| wrong(format!("user agent: {error}")))?;
        let mut client = tonic::client::Grpc::new(endpoint.connect_lazy());
        if config.sender.compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client = client.accept_compressed(CompressionEncoding::Gzip);
        let mut metadata = MetadataMap::new();
        for (name, value) in &config.headers {
            let name = MetadataKey::<Ascii>::from_bytes(name.as_bytes())
                .map_err(|_| wrong(format!("header {name:?} is no lower-case header name")))?;
            let value = MetadataValue::try_from(value.as_str())
                .map_err(|_| wrong(format!("the value of header {name} is no visible ASCII")))?;
            metadata.insert(name, value);
        }
        let path = PathAndQuery::from_static(match signal {
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        });
        let mut seed = xxhash_rust::xxh3::Xxh3::new();
        seed.update(config.state_dir.as_os_str().as_encoded_bytes());
        seed.update(&std::process::id().to_le_bytes());
        Ok(Self {
            queue,
            checkpoints,
            signal,
            client,
            path,
            metadata,
            timeout: config.sender.timeout,
            backoff: Backoff::new(config.sender.backoff_min, config.sender.backoff_max, seed.digest()),
            ledger: ledger.clone(),
            stats: stats.clone(),
            last_logged: None,
        })
    }

    /// Sends until draining is over.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        loop {
            let queue = Arc::clone(&self.queue);
            let entry = tokio::task::spawn_blocking(move || queue.front()).await.ok().flatten();
            let now = *phase.borrow_and_update();
            match (entry, now) {
                (None, Phase::Draining(_)) => return,
                (None, Phase::Running) => {
                    // `notify_one` leaves a permit when nobody waits, so a push between the look and here is not missed.
                    // What waits but could not be read is tried again.
                    let again = if self.queue.len() > 0 { READ_AGAIN } else { Duration::from_hours(1) };
                    tokio::select! {
                        () = self.queue.ready.notified() => {}
                        () = tokio::time::sleep(again) => {}
                        changed = phase.changed() => if changed.is_err() { return },
                    }
                }
                (Some(_), Phase::Draining(until)) if Instant::now() >= until => return,
                (Some(entry), _) => match self.deliver(&entry, &mut phase).await {
                    Outcome::Done => self.settle(entry.seq).await,
                    Outcome::Kept => return,
                },
            }
        }
    }

    /// Marks a request as done and gives its space back.
    async fn settle(&self, seq: u64) {
        let (queue, checkpoints) = (Arc::clone(&self.queue), self.checkpoints.clone());
        let done = tokio::task::spawn_blocking(move || {
            queue.ack(seq);
            if !queue.can_trim() {
                return;
            }
            if let Some(checkpoints) = checkpoints
                && let Err(error) = checkpoints.save()
            {
                tracing::warn!(%error, "could not save checkpoints, the sent part of the buffer stays");
                return;
            }
            queue.trim();
        });
        if done.await.is_err() {
            tracing::error!("marking a sent request panicked");
        }
    }

    /// Sends one request until it is acknowledged, given up, or draining is over.
    async fn deliver(&mut self, entry: &Entry, phase: &mut watch::Receiver<Phase>) -> Outcome {
        let items = u64::from(entry.items);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let started = Instant::now();
            let sent = tokio::select! {
                sent = self.attempt(entry.request.clone()) => sent,
                () = drained(phase.clone()) => return Outcome::Kept,
            };
            self.stats.send_seconds.with(&[self.signal.as_str()]).observe(started.elapsed().as_secs_f64());
            let status = match sent {
                Ok((rejected, message)) => {
                    self.acknowledged(entry, rejected, &message);
                    return Outcome::Done;
                }
                Err(status) => status,
            };
            match choose(&status, attempts) {
                Choice::Retry(asked) => {
                    self.count("retry");
                    self.stats.send_retries.with(&[self.signal.as_str(), code_name(status.code())]).inc();
                    let wait = self.backoff.wait(asked);
                    self.tell(&status, wait);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = drained(phase.clone()) => return Outcome::Kept,
                    }
                }
                Choice::Drop(reason) => {
                    self.count("dropped");
                    self.ledger.received(PLACE, self.signal, items);
                    self.ledger.dropped(PLACE, self.signal, reason, items);
                    tracing::error!(
                        code = ?status.code(), message = status.message(), records = items,
                        signal = self.signal.as_str(), "the endpoint refused a batch, it is lost"
                    );
                    return Outcome::Done;
                }
            }
        }
    }

    fn acknowledged(&mut self, entry: &Entry, rejected: u64, message: &str) {
        let items = u64::from(entry.items);
        let rejected = rejected.min(items);
        self.count(if rejected == 0 { "ok" } else { "partial" });
        self.ledger.received(PLACE, self.signal, items);
        self.ledger.accepted(PLACE, self.signal, items - rejected);
        self.ledger.dropped(PLACE, self.signal, "rejected", rejected);
        self.stats.sent_bytes.with(&[self.signal.as_str()]).inc_by(entry.request.len() as u64);
        if rejected > 0 || !message.is_empty() {
            self.limited(|sender| {
                tracing::warn!(rejected, message, signal = sender.signal.as_str(), "the endpoint took a batch in part");
            });
        }
        if self.last_logged.is_some() && rejected == 0 {
            tracing::info!(signal = self.signal.as_str(), "the endpoint takes batches again");
            self.last_logged = None;
        }
        self.backoff.reset();
    }

    async fn attempt(&mut self, request: Bytes) -> Result<(u64, String), Status> {
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(self.timeout);
        let (client, path) = (&mut self.client, self.path.clone());
        let call = async move {
            client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            client.unary(request, path, RawCodec).await
        };
        let late = || Status::deadline_exceeded("no answer in time");
        let answer = tokio::time::timeout(self.timeout, call).await.map_err(|_| late())??.into_inner();
        let broken = |error: prost::DecodeError| Status::data_loss(format!("the answer cannot be read: {error}"));
        let (rejected, message) = match self.signal {
            Signal::Logs => {
                let partial = ExportLogsServiceResponse::decode(answer).map_err(broken)?.partial_success;
                partial.map_or((0, String::new()), |p| (p.rejected_log_records, p.error_message))
            }
            Signal::Metrics => {
                let partial = ExportMetricsServiceResponse::decode(answer).map_err(broken)?.partial_success;
                partial.map_or((0, String::new()), |p| (p.rejected_data_points, p.error_message))
            }
        };
        Ok((u64::try_from(rejected).unwrap_or(0), message))
    }

    fn count(&self, outcome: &str) {
        self.stats.send_attempts.with(&[self.signal.as_str(), outcome]).inc();
    }

    fn tell(&mut self, status: &Status, wait: Duration) {
        let waiting = self.queue.len();
        self.limited(|sender| {
            tracing::warn!(
                code = ?status.code(), message = status.message(), wait_ms = wait.as_millis() as u64,
                signal = sender.signal.as_str(), batches_waiting = waiting, "the endpoint did not take a batch, trying again"
            );
        });
    }

    fn limited(&mut self, log: impl FnOnce(&Self)) {
        if self.last_logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            log(self);
            self.last_logged = Some(Instant::now());
        }
    }
}

/// Waits until draining has begun and its time is over.
async fn drained(mut phase: watch::Receiver<Phase>) {
    loop {
        let now = *phase.borrow_and_update();
        if let Phase::Draining(until) = now {
            tokio::time::sleep_until(until.into()).await;
            return;
        }
        if phase.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the name that a code has in metrics.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
