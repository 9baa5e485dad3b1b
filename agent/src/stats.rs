//! The agent's own metrics.

use runtime::{Counter, CounterVec, Gauge, GaugeVec, Telemetry};

/// Handles of all metrics that the agent registers. The records themselves are counted by the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    pub(crate) buffer_bytes: GaugeVec,
    pub(crate) buffer_batches: GaugeVec,
    pub(crate) buffer_errors: CounterVec,
    pub(crate) buffer_full_seconds: Counter,
    pub(crate) lag_bytes: GaugeVec,
    pub(crate) open_files: Gauge,
    pub(crate) known_files: Gauge,
    pub(crate) skipped_files: GaugeVec,
    pub(crate) file_errors: CounterVec,
    pub(crate) file_bytes: Counter,
    pub(crate) file_rotations: CounterVec,
    pub(crate) file_unread_bytes: CounterVec,
    pub(crate) truncated_lines: CounterVec,
    pub(crate) truncated_bytes: CounterVec,
    pub(crate) replaced_lines: CounterVec,
    pub(crate) unparsed_lines: CounterVec,
    pub(crate) journald_restarts: CounterVec,
    pub(crate) host_errors: CounterVec,
    pub(crate) scrapes: CounterVec,
    pub(crate) send_attempts: CounterVec,
    pub(crate) send_retries: CounterVec,
    pub(crate) sent_bytes: CounterVec,
    pub(crate) send_seconds: runtime::HistogramVec,
}

/// Upper bounds of the time of one request, in seconds.
const SEND_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

impl Stats {
    /// Registers all metrics.
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let t = telemetry;
        Self {
            buffer_bytes: t.gauge_vec("daybook_agent_buffer_bytes", "Bytes of the disk buffer.", &["signal"]),
            buffer_batches: t.gauge_vec("daybook_agent_buffer_batches", "Batches that wait to be sent.", &["signal"]),
            buffer_errors: t.counter_vec(
                "daybook_agent_buffer_errors_total",
                "Writes to the disk buffer that failed and were tried again.",
                &["signal"],
            ),
            buffer_full_seconds: t.counter(
                "daybook_agent_buffer_full_seconds_total",
                "Whole seconds in which reading of logs stood still because the disk buffer was full.",
            ),
            lag_bytes: t.gauge_vec("daybook_agent_lag_bytes", "Bytes that inputs have not read yet.", &["input"]),
            open_files: t.gauge("daybook_agent_file_open", "Log files that are open."),
            known_files: t.gauge("daybook_agent_file_known", "Log files that match the patterns and are followed."),
            skipped_files: t.gauge_vec(
                "daybook_agent_file_skipped",
                "Files that match the patterns and are not followed.",
                &["reason"],
            ),
            file_errors: t.counter_vec(
                "daybook_agent_file_errors_total",
                "Attempts to find, open or read log files that failed.",
                &["reason"],
            ),
            file_bytes: t.counter("daybook_agent_file_read_bytes_total", "Bytes read from log files."),
            file_rotations: t.counter_vec("daybook_agent_file_rotations_total", "Rotations seen.", &["kind"]),
            file_unread_bytes: t.counter_vec(
                "daybook_agent_file_unread_bytes_total",
                "Bytes of log files that are known to have gone unread.",
                &["reason"],
            ),
            truncated_lines: t.counter_vec(
                "daybook_agent_truncated_lines_total",
                "Lines over the limit, of which only the beginning was kept.",
                &["input"],
            ),
            truncated_bytes: t.counter_vec(
                "daybook_agent_truncated_bytes_total",
                "Bytes left out of lines over the limit.",
                &["input"],
            ),
            replaced_lines: t.counter_vec(
                "daybook_agent_replaced_lines_total",
                "Lines in which bytes that are no UTF-8 were replaced.",
                &["input"],
            ),
            unparsed_lines: t.counter_vec(
                "daybook_agent_unparsed_lines_total",
                "Lines that do not have the frame their file should have; they are kept as they are.",
                &["format"],
            ),
            journald_restarts: t.counter_vec(
                "daybook_agent_journald_restarts_total",
                "Ends of the program that prints the journal, by reason.",
                &["reason"],
            ),
            host_errors: t.counter_vec(
                "daybook_agent_host_errors_total",
                "Readings of host metrics that failed.",
                &["group"],
            ),
            scrapes: t.counter_vec("daybook_agent_scrapes_total", "Scrapes, by how they ended.", &["outcome"]),
            send_attempts: t.counter_vec(
                "daybook_agent_send_attempts_total",
                "Requests sent, by how they ended.",
                &["signal", "outcome"],
            ),
            send_retries: t.counter_vec(
                "daybook_agent_send_retries_total",
                "Batches sent again, by the code that made it necessary.",
                &["signal", "code"],
            ),
            sent_bytes: t.counter_vec(
                "daybook_agent_sent_bytes_total",
                "Bytes of acknowledged batches, before compression.",
                &["signal"],
            ),
            send_seconds: t.histogram_vec(
                "daybook_agent_send_seconds",
                "Time of one request.",
                &["signal"],
                &SEND_SECONDS,
            ),
        }
    }
}
