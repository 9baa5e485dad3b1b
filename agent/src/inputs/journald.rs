//! Reads the systemd journal through `journalctl`, where both are.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use runtime::{Clock, Ledger, Shutdown, Signal};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::file::shape::{shape, syslog_severity};
use super::{Encoded, LogSink};
use crate::buffer::Push;
use crate::checkpoint::Delta;
use crate::config::{BufferConfig, JournaldConfig, StartAt};
use crate::otlp::{LogBatch, Pairs, attribute, int_attribute, resource, text};
use crate::retry::Backoff;
use crate::stats::Stats;

const INPUT: &str = "journald";
const PLACE: &str = "agent_journald";
/// Longest entry, as JSON: a message of one megabyte in which every byte is escaped.
const ENTRY_BYTES_MAX: usize = 8 << 20;
/// Longest message kept.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes read from the program at a time.
const READ_BYTES: usize = 64 << 10;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// A program that ran for so long had not failed to start.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// The journal's reader.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) config: JournaldConfig,
    pub(crate) buffer: BufferConfig,
    pub(crate) sink: LogSink,
    pub(crate) clock: Clock,
    pub(crate) stats: Stats,
    pub(crate) ledger: Ledger,
    pub(crate) base: Pairs,
    pub(crate) extra: Pairs,
}

/// Why the program's output ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Shutdown,
    Exited,
    ReadFailed,
}

impl Journal {
    /// Reads until shutdown. Without a journal it says so once and ends.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let Some(directory) = self.config.directories.iter().find(|dir| has_journal(dir)).cloned() else {
            tracing::info!("no journal is here to read");
            self.stats.journald_restarts.with(&["no_journal"]).inc();
            return;
        };
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX, u64::from(std::process::id()));
        while !shutdown.started() {
            let began = Instant::now();
            let reason = match self.spawn(&directory) {
                Ok(mut child) => {
                    let ended = match child.stdout.take() {
                        Some(stdout) => self.read(stdout, &shutdown).await,
                        None => Ended::ReadFailed,
                    };
                    if let Err(error) = child.kill().await {
                        tracing::debug!(%error, "journalctl had ended already");
                    }
                    match ended {
                        Ended::Shutdown => return,
                        Ended::Exited => "exited",
                        Ended::ReadFailed => "read_failed",
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    tracing::info!(command = %self.config.command.display(), "the program that reads the journal is not here");
                    self.stats.journald_restarts.with(&["no_command"]).inc();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "could not start journalctl");
                    "start_failed"
                }
            };
            self.stats.journald_restarts.with(&[reason]).inc();
            if began.elapsed() >= HEALTHY_AFTER {
                backoff.reset();
            }
            let wait = backoff.wait(None);
            tracing::warn!(reason, wait_ms = wait.as_millis() as u64, "journalctl ended, starting it again");
            tokio::select! { () = tokio::time::sleep(wait) => {}, () = shutdown.wait() => {} }
        }
    }

    fn spawn(&self, directory: &Path) -> std::io::Result<Child> {
        let mut command = Command::new(&self.config.command);
        command.arg("--follow").arg("--output=json").arg("--all").arg("--directory").arg(directory);
        match (self.sink.checkpoints.journal(), self.config.start_at) {
            (Some(cursor), _) => command.arg("--no-tail").arg(format!("--after-cursor={cursor}")),
            // Not `--boot`, which fails when the journal has no entry of this boot.
            (None, StartAt::Beginning) => {
                let boot = super::host::boot_seconds(Path::new("/proc"));
                command.arg("--no-tail").arg(format!("--since=@{boot}"))
            }
            (None, StartAt::End) => command.arg("--lines=0"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()
    }

    async fn read(&mut self, stdout: ChildStdout, shutdown: &Shutdown) -> Ended {
        let mut lines =
            Lines { reader: BufReader::with_capacity(READ_BYTES, stdout), line: Vec::new(), skipping: false };
        let mut batch = LogBatch::default();
        let mut cursor = None;
        let mut since: Option<Instant> = None;
        loop {
            let flush_at =
                since.map_or_else(|| Instant::now() + Duration::from_hours(1), |at| at + self.buffer.batch_wait);
            // Reading is cancel safe: what came so far stays in `lines`.
            let line = tokio::select! {
                line = lines.next() => line,
                () = tokio::time::sleep_until(flush_at.into()) => {
                    if !self.store(&mut batch, cursor.clone(), shutdown).await {
                        return Ended::Shutdown;
                    }
                    since = None;
                    continue;
                }
                () = shutdown.wait() => {
                    self.store(&mut batch, cursor.clone(), shutdown).await;
                    return Ended::Shutdown;
                }
            };
            match line {
                Ok(Line::Entry(line)) => {
                    if let Some(at) = self.entry(&line, &mut batch) {
                        cursor = Some(at);
                        since.get_or_insert_with(Instant::now);
                    }
                }
                Ok(Line::TooLong) => self.drop_entry("too_large"),
                Ok(Line::End) | Err(_) => {
                    let ended = if line.is_ok() { Ended::Exited } else { Ended::ReadFailed };
                    return if self.store(&mut batch, cursor, shutdown).await { ended } else { Ended::Shutdown };
                }
            }
            if batch.bytes >= self.buffer.batch_bytes {
                if !self.store(&mut batch, cursor.clone(), shutdown).await {
                    return Ended::Shutdown;
                }
                since = None;
            }
        }
    }

    fn drop_entry(&self, reason: &str) {
        self.ledger.received(PLACE, Signal::Logs, 1);
        self.ledger.dropped(PLACE, Signal::Logs, reason, 1);
    }

    /// Adds an entry to the batch and returns its cursor.
    fn entry(&self, line: &[u8], batch: &mut LogBatch) -> Option<String> {
        let Ok(entry) = serde_json::from_slice::<Map<String, Value>>(line) else {
            self.drop_entry("unparsed");
            return None;
        };
        let cursor = field(&entry, "__CURSOR")?;
        let (resource, record, truncated) = record(&entry, self.clock.now_nanos(), &self.base, &self.extra);
        if truncated > 0 {
            self.stats.truncated_lines.with(&[INPUT]).inc();
            self.stats.truncated_bytes.with(&[INPUT]).inc_by(truncated as u64);
        }
        batch.push(&resource, INPUT, record);
        Some(cursor)
    }

    /// Stores the batch, however long the buffer is full; `false` when shutdown came first. What is not stored is read
    /// again after the next start, because the cursor did not advance.
    async fn store(&self, batch: &mut LogBatch, cursor: Option<String>, shutdown: &Shutdown) -> bool {
        if batch.is_empty() {
            return true;
        }
        let encoded = Arc::new(Encoded::new(batch, Delta { files: Vec::new(), journal: cursor }));
        loop {
            let (sink, to_store) = (self.sink.clone(), Arc::clone(&encoded));
            let pushed = tokio::task::spawn_blocking(move || sink.push(PLACE, &to_store)).await;
            match pushed {
                Ok(Push::Stored) => return true,
                Ok(Push::Full | Push::Failed) => {}
                Err(_) => tracing::error!("storing the journal's entries panicked"),
            }
            if shutdown.started() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = shutdown.wait() => {}
            }
        }
    }
}

/// Splits the program's output into lines of a bounded length.
struct Lines {
    reader: BufReader<ChildStdout>,
    line: Vec<u8>,
    skipping: bool,
}

enum Line {
    Entry(Vec<u8>),
    TooLong,
    End,
}

impl Lines {
    async fn next(&mut self) -> std::io::Result<Line> {
        loop {
            let data = self.reader.fill_buf().await?;
            if data.is_empty() {
                return Ok(Line::End);
            }
            let end = memchr::memchr(b'\n', data);
            let part = data.get(..end.unwrap_or(data.len())).unwrap_or_default();
            let used = end.map_or(data.len(), |end| end + 1);
            if self.line.len() + part.len() > ENTRY_BYTES_MAX {
                self.skipping = true;
                self.line = Vec::new();
            }
            if !self.skipping {
                self.line.extend_from_slice(part);
            }
            self.reader.consume(used);
            if end.is_some() {
                if std::mem::take(&mut self.skipping) {
                    return Ok(Line::TooLong);
                }
                return Ok(Line::Entry(std::mem::take(&mut self.line)));
            }
        }
    }
}

/// Says whether `dir` holds journal files, directly or in a folder of a machine.
fn has_journal(dir: &Path) -> bool {
    let list = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    };
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "journal");
    list(dir).iter().any(|path| is_journal(path) || path.is_dir() && list(path).iter().any(is_journal))
}

/// Returns a field as text. The journal gives bytes that are no UTF-8 as a list of numbers, and a field that occurs more
/// than once as a list of values.
fn field(entry: &Map<String, Value>, name: &str) -> Option<String> {
    match entry.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) if values.iter().all(Value::is_u64) => {
            let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Vec<u8> = values.iter().filter_map(byte).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::Array(values) => values.first().and_then(Value::as_str).map(str::to_owned),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

/// Makes a record of an entry; also returns how many bytes of its message were left out.
fn record(entry: &Map<String, Value>, now: i64, base: &Pairs, extra: &Pairs) -> (Resource, LogRecord, usize) {
    let get = |name: &str| field(entry, name).filter(|value| !value.is_empty());
    let mut message = field(entry, "MESSAGE").unwrap_or_default();
    let full = message.len();
    if full > MESSAGE_BYTES_MAX {
        let end = (0..4).map(|back| MESSAGE_BYTES_MAX - back).find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
    }
    let unit = get("_SYSTEMD_UNIT").or_else(|| get("_SYSTEMD_USER_UNIT"));
    let service = get("SYSLOG_IDENTIFIER")
        .or_else(|| unit.as_deref().map(|unit| unit.trim_end_matches(".service").to_owned()))
        .or_else(|| get("_COMM"))
        .unwrap_or_else(|| "journald".to_owned());
    let mut pairs: Vec<(&str, &str)> = base.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.push(("service.name", &service));
    if let Some(unit) = &unit {
        pairs.push(("systemd.unit", unit));
    }
    let container = get("CONTAINER_NAME");
    if let Some(container) = &container {
        pairs.push(("container.name", container));
    }
    pairs.extend(extra.iter().map(|(key, value)| (key.as_str(), value.as_str())));

    let mut attributes = Vec::new();
    if let Some(pid) = get("_PID").and_then(|pid| pid.parse().ok()) {
        attributes.push(int_attribute("process.pid", pid));
    }
    for (name, key) in [
        ("_COMM", "process.executable.name"),
        ("_EXE", "process.executable.path"),
        ("_TRANSPORT", "journald.transport"),
        ("_BOOT_ID", "journald.boot_id"),
        ("SYSLOG_FACILITY", "syslog.facility.code"),
        ("CODE_FILE", "code.file.path"),
        ("CODE_LINE", "code.line.number"),
        ("CODE_FUNC", "code.function.name"),
        ("MESSAGE_ID", "journald.message_id"),
    ] {
        if let Some(value) = get(name) {
            attributes.push(attribute(key, value));
        }
    }
    if message.len() < full {
        attributes.push(crate::otlp::bool_attribute("log.truncated", true));
    }
    let micros = get("_SOURCE_REALTIME_TIMESTAMP").or_else(|| get("__REALTIME_TIMESTAMP"));
    let time = micros.and_then(|micros| micros.parse::<u64>().ok()).and_then(|micros| micros.checked_mul(1000));
    let severity = get("PRIORITY").and_then(|priority| priority.parse().ok()).and_then(syslog_severity);
    let severity = severity.or_else(|| shape(message.as_bytes(), now).severity);
    let record = LogRecord {
        time_unix_nano: time.unwrap_or(0),
        observed_time_unix_nano: u64::try_from(now).unwrap_or(0),
        severity_number: severity.map_or(0, |severity| i32::from(severity.number)),
        severity_text: severity.map_or_else(String::new, |severity| severity.text.to_owned()),
        attributes,
        ..LogRecord::default()
    };
    let left_out = full - message.len();
    (resource(pairs), LogRecord { body: Some(text(message)), ..record }, left_out)
}

#[cfg(test)]
#[path = "journald_tests.rs"]
mod tests;
