//! `daybook agent`: the node agent alone.

use std::process::ExitCode;

use anyhow::Context;

use crate::cmd::serve::{start_logs, stop_signal, tokio_runtime};
use crate::config::Loaded;
use crate::server::{Ground, serve_agent_http};

/// Runs the agent until it is told to stop.
pub(crate) fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    start_logs(&loaded, None)?;
    let mut config = loaded.config.agent.clone();
    let ground = Ground::new();
    tokio_runtime()?.block_on(async {
        let own = serve_agent_http(loaded.config.agent_http_addr, &ground).await?;
        config.scrape_self(&format!("http://{own}/metrics"));
        let shutdown = ground.shutdown.clone();
        let agent = tokio::spawn(agent::run(config, ground.agent_deps()));
        tokio::select! {
            () = stop_signal() => shutdown.start(),
            () = shutdown.wait() => {}
        }
        let ended = tokio::time::timeout(loaded.config.shutdown_timeout, agent).await;
        ended.context("the agent did not stop in time")?.context("the agent panicked")??;
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
