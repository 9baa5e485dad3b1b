//! Node agent: follows logs, reads host and scraped metrics, and sends both as OTLP, with a buffer on disk between.
//!
//! [`run`] is the whole agent. Inputs turn what they read into OTLP requests and store those in the buffer; a sender for
//! each signal takes them from there, oldest first, to any OTLP/gRPC endpoint. A request leaves the buffer when the
//! endpoint acknowledged it, or refused it for good, which is counted. When the buffer is full the reading of logs stops
//! and new metrics are dropped and counted.
//!
//! What an input has read is stored in the same record of the buffer as what it read, so a line is read again after a
//! crash exactly when it is not in the buffer. It does not parse lines beyond time and severity, does not filter, and
//! opens no port. See `docs/agent.md`.

mod buffer;
mod checkpoint;
mod config;
mod error;
mod identity;
mod inputs;
mod otlp;
mod retry;
mod sender;
mod stats;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use runtime::{Clock, Ledger, Shutdown, Signal, Telemetry};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use config::{
    BufferConfig, Compression, Config, FileConfig, Format, HostConfig, JournaldConfig, ScrapeConfig, SenderConfig,
    StartAt, Target,
};
pub use error::{Error, Result};
pub use inputs::scrape::text as exposition;

use buffer::{Queue, QueueOptions};
use checkpoint::Checkpoints;
use error::state;
use inputs::{LogSink, MetricSink};
use sender::{Phase, Sender};
use stats::Stats;

/// What the agent runs on.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The time.
    pub clock: Clock,
    /// Where the agent's metrics are registered; once for each registry.
    pub telemetry: Telemetry,
    /// Where records are counted.
    pub ledger: Ledger,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Runs the agent until shutdown: then it stops reading, stores what it read, sends for at most
/// `sender.drain_timeout`, and saves its read positions.
///
/// # Errors
/// [`Error::Config`] before anything is touched; [`Error::Locked`], [`Error::State`], [`Error::Checkpoints`] and
/// [`Error::Buffer`] when the state directory cannot be used; [`Error::Panicked`] when a part of it panicked.
pub async fn run(config: Config, deps: Deps) -> Result<()> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(Error::Config { problems });
    }
    let stats = Stats::new(&deps.telemetry);
    let opening = {
        let (config, deps, stats) = (config.clone(), deps.clone(), stats.clone());
        tokio::task::spawn_blocking(move || State::open(&config, &deps, &stats))
    };
    let state = opening.await.map_err(|_| Error::Panicked { task: "open".to_owned() })??;
    tracing::info!(endpoint = config.endpoint, state_dir = %config.state_dir.display(), "agent started");

    let (phase, senders) = start_senders(&config, &deps, &stats, &state)?;
    let inputs = start_inputs(config.clone(), &deps, &stats, &state)?;
    let failed = wait(inputs, &deps.shutdown).await;

    let until = Instant::now() + config.sender.drain_timeout;
    phase.send_replace(Phase::Draining(until));
    let failed_sender = wait(senders, &deps.shutdown).await;
    let checkpoints = Arc::clone(&state.checkpoints);
    let saved = tokio::task::spawn_blocking(move || checkpoints.save()).await;
    saved.map_err(|_| Error::Panicked { task: "save".to_owned() })??;
    tracing::info!(
        logs_waiting = state.logs.len(),
        metrics_waiting = state.metrics.len(),
        "agent stopped, what waits is sent after the next start"
    );
    match failed.or(failed_sender) {
        Some(task) => Err(Error::Panicked { task }),
        None => Ok(()),
    }
}

/// The state directory, opened.
#[derive(Debug)]
struct State {
    logs: Arc<Queue>,
    metrics: Arc<Queue>,
    checkpoints: Arc<Checkpoints>,
    /// Locked while the agent runs.
    _lock: std::fs::File,
}

impl State {
    fn open(config: &Config, deps: &Deps, stats: &Stats) -> Result<Self> {
        let dir = &config.state_dir;
        std::fs::create_dir_all(dir).map_err(state("create", dir))?;
        let lock = lock(&dir.join("LOCK"))?;
        let checkpoints = Checkpoints::open(dir)?;
        let share = config.buffer.bytes_max / 4;
        let options = |signal: Signal, bytes_max, seq_floor| QueueOptions {
            dir: dir.join("buffer").join(signal.as_str()),
            signal,
            bytes_max,
            seq_floor,
        };
        let seq_floor = checkpoints.seq();
        let logs = Queue::open(options(Signal::Logs, share * 3, seq_floor), &deps.ledger, stats, &mut |seq, meta| {
            checkpoints.replay(seq, meta)
        })?;
        let metrics = Queue::open(options(Signal::Metrics, share, 0), &deps.ledger, stats, &mut |_, _| {})?;
        Ok(Self { logs, metrics, checkpoints: Arc::new(checkpoints), _lock: lock })
    }
}

fn lock(path: &Path) -> Result<std::fs::File> {
    let file = std::fs::File::create(path).map_err(state("create", path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path: path.to_owned() }),
        Err(error) => Err(state("lock", path)(error.into())),
    }
}

/// Tasks that return their name.
type Tasks = JoinSet<&'static str>;

fn start_senders(config: &Config, deps: &Deps, stats: &Stats, state: &State) -> Result<(watch::Sender<Phase>, Tasks)> {
    let (phase, receiver) = watch::channel(Phase::Running);
    let mut tasks = Tasks::new();
    let checkpoints = Some(Arc::clone(&state.checkpoints));
    for (signal, queue, checkpoints) in
        [(Signal::Logs, &state.logs, checkpoints), (Signal::Metrics, &state.metrics, None)]
    {
        let sender = Sender::new(config, signal, Arc::clone(queue), checkpoints, &deps.ledger, stats)?;
        let receiver = receiver.clone();
        tasks.spawn(async move {
            sender.run(receiver).await;
            "sender"
        });
    }
    Ok((phase, tasks))
}

fn start_inputs(config: Config, deps: &Deps, stats: &Stats, state: &State) -> Result<Tasks> {
    let base = identity::host(&config.host.root_path);
    let extra: otlp::Pairs = config.resource.into_iter().collect();
    let (ledger, shutdown) = (&deps.ledger, &deps.shutdown);
    let log_sink =
        LogSink { queue: Arc::clone(&state.logs), checkpoints: Arc::clone(&state.checkpoints), ledger: ledger.clone() };
    let metric_sink = MetricSink { queue: Arc::clone(&state.metrics), ledger: ledger.clone() };
    let mut tasks = Tasks::new();
    // Keeps the set from being empty, and so the agent running, when no input is left.
    let stop = shutdown.clone();
    tasks.spawn(async move {
        stop.wait().await;
        "shutdown"
    });
    if config.file.enabled {
        raise_open_files_limit();
        let tailer = inputs::file::Tailer::new(inputs::file::Options {
            config: config.file,
            buffer: config.buffer.clone(),
            sink: log_sink.clone(),
            clock: deps.clock.clone(),
            stats: stats.clone(),
            ledger: ledger.clone(),
            base: base.clone(),
            extra: extra.clone(),
        })?;
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tailer.run(shutdown).await;
            "file"
        });
    }
    if config.journald.enabled {
        let journal = inputs::journald::Journal {
            config: config.journald,
            buffer: config.buffer,
            sink: log_sink,
            clock: deps.clock.clone(),
            stats: stats.clone(),
            ledger: ledger.clone(),
            base: base.clone(),
            extra: extra.clone(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            journal.run(shutdown).await;
            "journald"
        });
    }
    if config.host.enabled {
        let host = inputs::host::Host {
            config: config.host,
            sink: metric_sink.clone(),
            clock: deps.clock.clone(),
            stats: stats.clone(),
            base,
            extra: extra.clone(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            host.run(shutdown).await;
            "host"
        });
    }
    let client = inputs::scrape::client()
        .map_err(|error| Error::Config { problems: vec![format!("the HTTP client does not start: {error}")] })?;
    for target in config.scrape.targets {
        let scraper = inputs::scrape::Scraper {
            target,
            body_bytes_max: config.scrape.body_bytes_max,
            client: client.clone(),
            sink: metric_sink.clone(),
            clock: deps.clock.clone(),
            stats: stats.clone(),
            ledger: ledger.clone(),
            extra: extra.clone(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            scraper.run(shutdown).await;
            "scrape"
        });
    }
    Ok(tasks)
}

/// Waits for all tasks. When one panics, the others are told to stop; returns what is known of it.
async fn wait(mut tasks: Tasks, shutdown: &Shutdown) -> Option<String> {
    let mut failed = None;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part of the agent panicked, stopping");
            failed = Some(error.to_string());
            shutdown.start();
        }
    }
    failed
}

/// Allows this process as many open files as the system lets it have.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "could not raise the limit of open files");
        }
    }
}
