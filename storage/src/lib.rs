//! One data directory: its lock, the two stores in it, and the work that goes on beside the requests.
//!
//! The layout is `LOCK`, `wal/{metrics,logs}/`, `metrics/`, `logs/`, `snapshots/`. The stores decide how data lie; this crate decides
//! when heads are flushed, blocks compacted and old data dropped.

mod error;
mod lock;
mod maintenance;
mod snapshot;
mod verify;

pub use error::{Error, Result};
pub use verify::{Verified, blocks, verify};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::{Clock, CpuPool, Ledger, Shutdown, Telemetry};
use storage_api::{LogAdmin, LogAppender, LogQuerier, MetricAdmin, MetricAppender, MetricQuerier};
use storage_logs::LogStore;
use storage_metrics::MetricStore;

use lock::DirLock;
use maintenance::Maintenance;
use snapshot::Admin;

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory; made if missing.
    pub data_dir: PathBuf,
    /// How long data are kept; `None` keeps everything and accepts any timestamp.
    pub retention: Option<Duration>,
    /// Most memory of the metrics head, in bytes.
    pub metrics_head_bytes: u64,
    /// Most memory of the logs head, in bytes.
    pub logs_head_bytes: u64,
    /// Longest time that data stay in a head.
    pub flush_interval: Duration,
    /// Longest log line, in bytes.
    pub log_line_bytes: u64,
}

/// An open data directory.
#[derive(Debug)]
pub struct Storage {
    metrics: Arc<MetricStore>,
    logs: Arc<LogStore>,
    maintenance: Arc<Maintenance>,
    admin: Arc<Admin>,
    /// Held as long as the directory is open.
    _lock: DirLock,
}

impl Storage {
    /// Opens the directory: takes its lock, removes what a crash left half written, and replays the WAL.
    ///
    /// # Errors
    /// When another process holds the lock, or the directory cannot be read or written. A corrupt block is no error: it
    /// is set aside and named in the log, in `/metrics` and in the answers it would have been part of.
    pub fn open(
        options: Options,
        clock: &Clock,
        telemetry: &Telemetry,
        ledger: &Ledger,
        cpu: &CpuPool,
    ) -> Result<Self> {
        let dir = &options.data_dir;
        std::fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
        let lock = DirLock::take(dir)?;
        snapshot::remove_unfinished(dir)?;
        let wal = dir.join("wal");
        let metrics = MetricStore::open(
            &dir.join("metrics"),
            &wal.join("metrics"),
            storage_metrics::Options {
                retention: options.retention,
                head_bytes_max: options.metrics_head_bytes,
                ..storage_metrics::Options::default()
            },
            clock.clone(),
            telemetry,
            ledger.clone(),
            cpu.clone(),
        )?;
        let logs = LogStore::open(
            &dir.join("logs"),
            &wal.join("logs"),
            storage_logs::Options {
                retention: options.retention,
                head_bytes_max: options.logs_head_bytes,
                line_bytes_max: options.log_line_bytes,
                ..storage_logs::Options::default()
            },
            clock.clone(),
            telemetry,
            ledger.clone(),
            cpu.clone(),
        )?;
        let (metrics, logs) = (Arc::new(metrics), Arc::new(logs));
        let admin = Admin {
            data_dir: dir.clone(),
            metrics: Arc::clone(&metrics),
            logs: Arc::clone(&logs),
            clock: clock.clone(),
        };
        let stores: [Arc<dyn maintenance::Store>; 2] = [Arc::clone(&metrics) as _, Arc::clone(&logs) as _];
        let maintenance = Maintenance::new(stores.into(), options.retention, options.flush_interval, clock, telemetry);
        Ok(Self { metrics, logs, maintenance: Arc::new(maintenance), admin: Arc::new(admin), _lock: lock })
    }

    /// Returns the metrics for reading.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricQuerier> {
        Arc::clone(&self.metrics) as _
    }

    /// Returns the logs for reading.
    #[must_use]
    pub fn logs(&self) -> Arc<dyn LogQuerier> {
        Arc::clone(&self.logs) as _
    }

    /// Returns what deletes logs.
    #[must_use]
    pub fn logs_admin(&self) -> Arc<dyn LogAdmin> {
        Arc::clone(&self.logs) as _
    }

    /// Returns what deletes metrics and copies the directory.
    #[must_use]
    pub fn metrics_admin(&self) -> Arc<dyn MetricAdmin> {
        Arc::clone(&self.admin) as _
    }

    /// Returns the metrics for appending.
    #[must_use]
    pub fn metrics_appender(&self) -> Arc<dyn MetricAppender> {
        Arc::clone(&self.metrics) as _
    }

    /// Returns the logs for appending.
    #[must_use]
    pub fn logs_appender(&self) -> Arc<dyn LogAppender> {
        Arc::clone(&self.logs) as _
    }

    /// Starts flushing, compacting and dropping old data in the background, until `shutdown`.
    pub fn start_maintenance(&self, shutdown: &Shutdown) {
        Maintenance::start(&self.maintenance, shutdown);
    }

    /// Writes both heads to blocks and compacts until nothing is left to do. Blocks meanwhile.
    ///
    /// # Errors
    /// The first failure; what was written before it stays.
    pub fn flush_and_settle(&self) -> storage_api::Result<()> {
        self.maintenance.settle()
    }

    /// Writes both heads to blocks and closes the stores; appends are refused from then on.
    ///
    /// # Errors
    /// When a head could not be written; its data are still in the WAL.
    pub fn close(&self) -> storage_api::Result<()> {
        self.maintenance.close()
    }
}
