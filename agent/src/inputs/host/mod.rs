//! Reads this host's metrics from `/proc`, with OpenTelemetry's names, units and kinds.

mod disk;
mod filesystem;
mod memory;
mod network;
mod processor;
mod system;

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, Sum, metric::Data,
    number_data_point::Value,
};
use runtime::{Clock, Shutdown};

use super::MetricSink;
use crate::config::HostConfig;
use crate::otlp::{Pairs, attribute, resource, resource_metrics};
use crate::stats::Stats;

const PLACE: &str = "agent_host";

/// A reading that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A file of `/proc` or a call of the system.
    #[error("could not read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file of `/proc` has another form than expected.
    #[error("could not understand {}", path.display())]
    Form {
        path: PathBuf,
        #[source]
        source: procfs::ProcError,
    },
}

/// Reads the host's metrics.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: HostConfig,
    pub(crate) sink: MetricSink,
    pub(crate) clock: Clock,
    pub(crate) stats: Stats,
    pub(crate) base: Pairs,
    pub(crate) extra: Pairs,
}

/// One reading in the making.
#[derive(Debug)]
pub(crate) struct Reading {
    now: u64,
    /// When the host booted, since when its counters count.
    boot: u64,
    metrics: Vec<Metric>,
}

/// A value with its attributes.
pub(crate) type Point<'a> = (Vec<(&'static str, &'a str)>, f64);

/// Kind of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sum that only grows, since boot.
    Counter,
    /// A sum that goes up and down: it makes sense to add its parts.
    UpDown,
    /// A value of its own.
    Gauge,
}

impl Reading {
    pub(crate) fn new(now: i64, boot_seconds: u64) -> Self {
        let now = u64::try_from(now).unwrap_or(0);
        Self { now, boot: boot_seconds.saturating_mul(1_000_000_000), metrics: Vec::new() }
    }

    /// Adds a metric with its points; one without points is left out.
    pub(crate) fn add<'a>(
        &mut self,
        (name, unit, description): (&str, &str, &str),
        kind: Kind,
        points: impl IntoIterator<Item = Point<'a>>,
    ) {
        let whole = !matches!(unit, "s" | "1") && !name.contains("load_average");
        let data_points: Vec<_> =
            points.into_iter().map(|(attributes, value)| self.point(kind, whole, attributes, value)).collect();
        if data_points.is_empty() {
            return;
        }
        let data = match kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points }),
            Kind::Counter | Kind::UpDown => Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: kind == Kind::Counter,
            }),
        };
        self.metrics.push(Metric {
            name: name.to_owned(),
            description: description.to_owned(),
            unit: unit.to_owned(),
            metadata: Vec::new(),
            data: Some(data),
        });
    }

    fn point(&self, kind: Kind, whole: bool, attributes: Vec<(&str, &str)>, value: f64) -> NumberDataPoint {
        #[expect(clippy::cast_possible_truncation, reason = "counts and bytes, below 2^53")]
        let value = if whole { Value::AsInt(value as i64) } else { Value::AsDouble(value) };
        NumberDataPoint {
            attributes: attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
            start_time_unix_nano: if kind == Kind::Gauge { 0 } else { self.boot },
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }
}

impl Host {
    /// Reads at each interval until shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.config.interval.max(Duration::from_millis(100)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let sink = self.sink.clone();
        let host = std::sync::Arc::new(self);
        loop {
            tokio::select! { _ = ticks.tick() => {}, () = shutdown.wait() => return }
            let reader = std::sync::Arc::clone(&host);
            // A network filesystem that hangs holds up one blocking thread, and this input, but not the agent.
            match tokio::task::spawn_blocking(move || reader.read()).await {
                Ok(metrics) => sink.push(PLACE, vec![metrics]).await,
                Err(_) => {
                    tracing::error!("reading host metrics panicked");
                    host.stats.host_errors.with(&["panic"]).inc();
                }
            }
        }
    }

    /// Reads everything once. What cannot be read is left out and counted.
    pub(crate) fn read(&self) -> ResourceMetrics {
        let config = &self.config;
        let stat = processor::Stat::read(&config.proc_path);
        let boot = stat.as_ref().map_or(0, |stat| stat.boot_seconds);
        let mut reading = Reading::new(self.clock.now_nanos(), boot);
        let r = &mut reading;
        self.noted("cpu", stat.map(|stat| stat.report(r)));
        self.noted("frequency", processor::frequency(&config.sys_path, r));
        self.noted("load", processor::load(&config.proc_path, r));
        self.noted("memory", memory::memory(&config.proc_path, r));
        self.noted("paging", memory::paging(&config.proc_path, r));
        self.noted("disk", disk::disk(&config.proc_path, &config.exclude_disks, r));
        self.noted("filesystem", filesystem::filesystem(config, r));
        self.noted("network", network::network(&config.proc_path, &config.exclude_interfaces, r));
        self.noted("connections", network::connections(&config.proc_path, r));
        self.noted("processes", system::processes(&config.proc_path, r));
        self.noted("uptime", system::uptime(&config.proc_path, r));
        let own = [("service.name".to_owned(), config.service_name.clone())];
        let pairs = self.base.iter().chain(&own).chain(&self.extra);
        let resource = resource(pairs.map(|(key, value)| (key.as_str(), value.as_str())));
        resource_metrics(resource, reading.metrics)
    }

    fn noted(&self, group: &str, result: Result<(), ReadError>) {
        if let Err(error) = result {
            // Logged the first time only: it fails at each interval.
            let errors = self.stats.host_errors.with(&[group]);
            if errors.get() == 0 {
                tracing::warn!(error = &error as &dyn std::error::Error, group, "could not read host metrics");
            }
            errors.inc();
        }
    }
}

/// Returns when the host booted, in seconds since the epoch; 0 when unknown.
pub(crate) fn boot_seconds(proc: &std::path::Path) -> u64 {
    processor::Stat::read(proc).map_or(0, |stat| stat.boot_seconds)
}

/// Reads a file of `/proc` into the type that understands it.
pub(crate) fn parse<T: procfs::FromRead>(path: PathBuf) -> Result<T, ReadError> {
    let file = std::fs::File::open(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
    T::from_read(file).map_err(|source| ReadError::Form { path, source })
}

/// Reads a file of `/proc` as text.
pub(crate) fn text(path: PathBuf) -> Result<String, ReadError> {
    let bytes = std::fs::read(&path).map_err(|source| ReadError::Io { path, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Turns a count into the number that points hold.
#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 petabytes")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
