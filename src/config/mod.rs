//! Configuration: defaults < file < environment < flags, all checked before anything is bound or written.

mod layers;
mod parse;
mod secrets;
mod settings;

pub(crate) use layers::{Loaded, load, redact};
pub(crate) use secrets::redact_value;
pub(crate) use settings::{Kind, SETTINGS, Scope};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which parts of the server run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Receives and answers.
    All,
    /// Receives only.
    Collector,
    /// Answers only.
    Query,
}

impl Role {
    /// Says whether receivers run.
    pub(crate) fn collects(self) -> bool {
        matches!(self, Self::All | Self::Collector)
    }

    /// Says whether queries and the UI are answered.
    pub(crate) fn queries(self) -> bool {
        matches!(self, Self::All | Self::Query)
    }
}

/// The configuration of one process, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) role: Role,
    pub(crate) data_dir: PathBuf,
    pub(crate) http_addr: SocketAddr,
    pub(crate) otlp_grpc_addr: SocketAddr,
    pub(crate) otlp_http_addr: SocketAddr,
    /// `None` keeps everything and accepts any timestamp.
    pub(crate) retention: Option<Duration>,
    pub(crate) log_level: String,
    pub(crate) log_format: runtime::LogFormat,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) cpu_threads: usize,
    pub(crate) query_limits: storage_api::Limits,
    pub(crate) query_concurrency: usize,
    pub(crate) metrics_head_bytes: u64,
    pub(crate) logs_head_bytes: u64,
    pub(crate) flush_interval: Duration,
    pub(crate) log_line_bytes: u64,
    pub(crate) collector: collector::Config,
    /// Where an agent that runs alone serves its own health and metrics.
    pub(crate) agent_http_addr: SocketAddr,
    pub(crate) agent: agent::Config,
}
