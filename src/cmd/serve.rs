//! `daybook serve` and `daybook up`: the server, alone or with an agent for this host.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use runtime::EventCopy;

use crate::config::Loaded;
use crate::server::{self, Ground, own_logs};

/// Which parts run in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    /// Run an agent that sends to this server.
    pub(crate) agent: bool,
}

impl Parts {
    /// The server alone.
    pub(crate) const SERVER: Self = Self { agent: false };
    /// Server and agent.
    pub(crate) const ALL: Self = Self { agent: true };
}

/// Runs until told to stop.
pub(crate) fn run(loaded: Loaded, parts: Parts) -> anyhow::Result<ExitCode> {
    let ground = Ground::new();
    let (copy, events) = EventCopy::new(ground.clock.clone(), &ground.telemetry, own_logs::QUIET);
    start_logs(&loaded, Some(copy))?;
    // Each block has a file open: at 1,024, which is common, ten days of blocks would be too many.
    agent::raise_open_files_limit();
    tokio_runtime()?.block_on(server::run(loaded, ground, events, parts.agent, stop_signal()))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts our own logs as configured.
pub(crate) fn start_logs(loaded: &Loaded, copy: Option<EventCopy>) -> anyhow::Result<()> {
    let config = &loaded.config;
    runtime::init_logs(config.log_format, &config.log_level, false, copy)
        .map_err(|why| anyhow!("log-level {:?}: {why}", config.log_level))?;
    for warning in &loaded.warnings {
        tracing::warn!(warning, "configuration");
    }
    Ok(())
}

/// Starts tokio with a thread per core.
pub(crate) fn tokio_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime failed")
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
                _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no signal handler, so only SIGKILL stops this process");
            std::future::pending::<()>().await;
        }
    }
}
