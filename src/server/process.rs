//! The process' own figures, in the names that Prometheus' client libraries use.

use runtime::{FloatCounter, Gauge, Telemetry};

/// `process_*` metrics, read from /proc when `/metrics` is asked for.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    cpu: FloatCounter,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    start: Gauge,
}

impl Metrics {
    /// Registers the metrics.
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let gauge = |name, help| telemetry.gauge(name, help);
        Self {
            cpu: telemetry.float_counter("process_cpu_seconds_total", "User and system CPU time in seconds."),
            resident: gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory in bytes."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge("process_max_fds", "Most file descriptors that may be open."),
            start: gauge("process_start_time_seconds", "When the process started, in seconds since the epoch."),
        }
    }

    /// Reads the figures anew; what cannot be read keeps its value.
    pub(super) fn update(&self) {
        let Ok(process) = procfs::process::Process::myself() else { return };
        let ticks = procfs::ticks_per_second();
        if let Ok(stat) = process.stat() {
            self.cpu.raise_to(to_f64(stat.utime + stat.stime) / to_f64(ticks));
            self.resident.set(to_f64(stat.rss) * to_f64(procfs::page_size()));
            self.virtual_memory.set(to_f64(stat.vsize));
            if let Ok(boot) = procfs::boot_time_secs() {
                self.start.set(to_f64(boot) + to_f64(stat.starttime) / to_f64(ticks));
            }
        }
        if let Ok(count) = process.fd_count() {
            self.open_fds.set(to_f64(count as u64));
        }
        if let Some(most) = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(value) => Some(value),
            procfs::process::LimitValue::Unlimited => None,
        }) {
            self.max_fds.set(to_f64(most));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "these figures are far below 2^53")]
fn to_f64(n: u64) -> f64 {
    n as f64
}
