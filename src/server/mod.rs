//! Builds the server's parts, wires them, waits, and shuts them down in order.

mod admin;
mod assets;
mod facts;
mod gate;
pub(crate) mod own_logs;
mod process;
mod profiles;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use runtime::{Clock, CpuPool, Ledger, OwnEvent, Shutdown, Telemetry};
use storage::Storage;
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Config, Loaded};
use gate::Gate;

/// How long a peer may leave sent bytes unacknowledged, or its window shut, before the connection is closed. It bounds
/// what a client that stopped reading can hold.
const PEER_TIMEOUT_MS: u32 = 60_000;

/// What every part stands on.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) telemetry: Telemetry,
    pub(crate) ledger: Ledger,
    pub(crate) shutdown: Shutdown,
}

impl Ground {
    /// Starts with the machine's clock and empty counters.
    pub(crate) fn new() -> Self {
        let telemetry = Telemetry::new();
        let build = telemetry.gauge_vec("daybook_build_info", "Always 1; the version is a label.", &["version"]);
        build.with(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let ledger = Ledger::new(&telemetry);
        Self { clock: Clock::system(), telemetry, ledger, shutdown: Shutdown::new() }
    }

    /// Returns what the agent needs, with a shutdown of its own: the agent stops before the server.
    pub(crate) fn agent_deps(&self) -> agent::Deps {
        agent::Deps {
            clock: self.clock.clone(),
            telemetry: self.telemetry.clone(),
            ledger: self.ledger.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

/// The three bound ports.
struct Listeners {
    http: TcpListener,
    otlp_grpc: TcpListener,
    otlp_http: TcpListener,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |name: &str, addr: SocketAddr| {
            TcpListener::bind(addr).await.with_context(|| format!("binding {name} to {addr} failed"))
        };
        Ok(Self {
            http: bind("http-addr", config.http_addr).await?,
            otlp_grpc: bind("otlp-grpc-addr", config.otlp_grpc_addr).await?,
            otlp_http: bind("otlp-http-addr", config.otlp_http_addr).await?,
        })
    }

    fn announce(&self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let (http, grpc, otlp_http) =
            (self.http.local_addr()?, self.otlp_grpc.local_addr()?, self.otlp_http.local_addr()?);
        tracing::info!(http_addr = %http, otlp_grpc_addr = %grpc, otlp_http_addr = %otlp_http, "listening");
        Ok((http, grpc))
    }
}

/// Runs the server until `stop` resolves, then drains, flushes and closes.
pub(crate) async fn run(
    loaded: Loaded,
    ground: Ground,
    events: Receiver<OwnEvent>,
    with_agent: bool,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let facts = facts::facts(&loaded);
    let config = loaded.config;
    let listeners = Listeners::bind(&config).await?;
    let (http_addr, grpc_addr) = listeners.announce()?;
    let gate = Gate::new();
    let Listeners { http, otlp_grpc, otlp_http } = listeners;
    serve_http("http", http, gate.main_router(&ground), &ground.shutdown);
    serve_http("otlp-http", otlp_http, gate.otlp_router(), &ground.shutdown);

    let cpu = CpuPool::new(config.cpu_threads).context("starting the CPU pool failed")?;
    let storage = open_storage(&config, &ground, &cpu).await?;
    let (main, otlp, grpc) = routers(&config, facts, &ground, &storage, cpu);
    gate.open(main, otlp);
    if let Some(routes) = grpc {
        serve_http("otlp-grpc", otlp_grpc, routes, &ground.shutdown);
    }
    storage.start_maintenance(&ground.shutdown);
    own_logs::start(events, storage.logs_appender(), ground.ledger.clone(), &ground.shutdown);
    tracing::info!(seconds = started.elapsed().as_secs_f64(), url = format!("http://{http_addr}/"), "ready");

    let agent = with_agent.then(|| start_agent(&config, &ground, http_addr, grpc_addr));
    if with_agent {
        greet(http_addr);
    }
    tokio::select! {
        () = stop => {}
        () = ground.shutdown.wait() => {}
    }
    finish(&config, &ground, &gate, &storage, agent).await
}

/// Tells a person at a terminal where to look; `up` is for people.
#[expect(clippy::print_stderr, reason = "the line is for the person who started the command")]
fn greet(addr: SocketAddr) {
    eprintln!("\n  Daybook is ready: http://{addr}/\n  Ctrl-C stops it; the data stay.\n");
}

async fn open_storage(config: &Config, ground: &Ground, cpu: &CpuPool) -> anyhow::Result<Arc<Storage>> {
    let options = storage::Options {
        data_dir: config.data_dir.clone(),
        retention: config.retention,
        metrics_head_bytes: config.metrics_head_bytes,
        logs_head_bytes: config.logs_head_bytes,
        flush_interval: config.flush_interval,
        log_line_bytes: config.log_line_bytes,
    };
    let (ground, cpu) = (ground.clone(), cpu.clone());
    let opened = tokio::task::spawn_blocking(move || {
        Storage::open(options, &ground.clock, &ground.telemetry, &ground.ledger, &cpu)
    });
    let storage = opened.await.context("opening the data directory panicked")?;
    Ok(Arc::new(storage.context("opening the data directory failed")?))
}

/// Builds the routers of the main port, of OTLP/HTTP and of OTLP/gRPC for the configured role. gRPC is HTTP/2 like any
/// other to the server below.
fn routers(
    config: &Config,
    facts: query::Facts,
    ground: &Ground,
    storage: &Arc<Storage>,
    cpu: CpuPool,
) -> (Router, Router, Option<Router>) {
    let mut main = admin::router(storage, ground);
    let mut otlp = Router::new();
    let mut grpc = None;
    if config.role.queries() {
        let services = query::Services::new(
            storage.metrics(),
            storage.logs(),
            cpu,
            ground.clock.clone(),
            config.query_limits.clone(),
            config.query_concurrency,
            &ground.telemetry,
        )
        .with_admin(storage.metrics_admin())
        .with_log_admin(storage.logs_admin());
        main = main.merge(query::router(services.with_facts(facts))).merge(assets::router());
    }
    if config.role.collects() {
        let collector = collector::Collector::new(
            config.collector.clone(),
            storage.metrics_appender(),
            storage.metrics(),
            storage.logs_appender(),
            ground.clock.clone(),
            &ground.telemetry,
            ground.ledger.clone(),
        );
        main = main.merge(collector.http_router());
        otlp = collector.otlp_http_router();
        grpc = Some(collector.grpc_routes());
    }
    (query::with_manners(main), otlp, grpc)
}

/// Bounds what an idle or stalled peer can hold, and sends small answers at once.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| Ok(sockopt::set_tcp_user_timeout(&*stream, PEER_TIMEOUT_MS)?))
        .and_then(|()| Ok(sockopt::set_socket_keepalive(&*stream, true)?));
    if let Err(error) = tuned {
        // The connection still works; it is only less well guarded.
        tracing::debug!(%error, "a connection could not be tuned");
    }
}

/// Serves an agent's own health and metrics, and returns the address that clients on this host can use.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn serve_agent_http(addr: SocketAddr, ground: &Ground) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind(addr).await.with_context(|| format!("binding agent-http-addr to {addr} failed"))?;
    let addr = listener.local_addr()?;
    tracing::info!(agent_http_addr = %addr, "listening");
    let router = gate::own_routes(ground).route("/-/ready", get(async || "The agent is ready.\n"));
    serve_http("agent-http", listener, router, &ground.shutdown);
    Ok(reachable(addr))
}

fn serve_http(name: &str, listener: TcpListener, router: Router, shutdown: &Shutdown) {
    let stop = shutdown.clone();
    let listener = listener.tap_io(|stream| tune(stream));
    shutdown.spawn(name, async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(async move { stop.wait().await });
        if let Err(error) = served.await {
            tracing::error!(%error, "an HTTP port stopped serving");
        }
    });
}

/// The agent's task and the signal that stops it alone.
struct RunningAgent {
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

fn start_agent(config: &Config, ground: &Ground, http: SocketAddr, grpc: SocketAddr) -> RunningAgent {
    let mut agent_config = config.agent.clone();
    agent_config.endpoint = format!("http://{}", reachable(grpc));
    agent_config.scrape_self(&format!("http://{}/metrics", reachable(http)));
    let ground = Ground { shutdown: Shutdown::new(), ..ground.clone() };
    let shutdown = ground.shutdown.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = agent::run(agent_config, ground.agent_deps()).await {
            tracing::error!(error = format!("{error:#}"), "the agent stopped");
        }
    });
    RunningAgent { shutdown, task }
}

/// Returns an address that a client on this host can use: an unspecified one becomes loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let loopback: std::net::IpAddr = match addr {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    if addr.ip().is_unspecified() { SocketAddr::new(loopback, addr.port()) } else { addr }
}

async fn finish(
    config: &Config,
    ground: &Ground,
    gate: &Gate,
    storage: &Arc<Storage>,
    agent: Option<RunningAgent>,
) -> anyhow::Result<()> {
    gate.fail_readiness();
    let deadline = tokio::time::Instant::now() + config.shutdown_timeout;
    if let Some(RunningAgent { shutdown, task }) = agent {
        shutdown.start();
        if tokio::time::timeout_at(deadline, task).await.is_err() {
            tracing::warn!("the agent did not stop in time");
        }
    }
    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
    let late = ground.shutdown.finish(left).await;
    if !late.is_empty() {
        tracing::warn!(?late, "tasks did not stop in time");
    }
    let storage = Arc::clone(storage);
    let closed = tokio::task::spawn_blocking(move || storage.close());
    closed.await.context("closing the data directory panicked")?.context("closing the data directory failed")?;
    tracing::info!("stopped");
    Ok(())
}
