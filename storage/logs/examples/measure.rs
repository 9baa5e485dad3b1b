//! Measures what append, flush and compaction cost: `measure LINES FILE...`.
//!
//! The lines of the files are repeated with new ids and numbers until there are `LINES` of them, and appended in batches of
//! 1,000 over 480 streams. Each phase prints its seconds of wall clock and of CPU.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal that may stop at any error")]

use std::sync::Arc;
use std::time::Instant;

use ::model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{LogAppender, LogBatch, LogGroup};
use storage_logs::{LogStore, Options};

const STREAMS: u64 = 480;
const NODES: u64 = 24;
const BATCH: u64 = 1000;
const START_NS: u64 = 1_700_000_000_000_000_000;

/// A generator of numbers that is the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Returns the line with other digits and hexadecimal letters in every token that looks like an id or a long number.
fn renewed(line: &str, random: &mut Random) -> String {
    let mut bytes = line.as_bytes().to_vec();
    for token in bytes.chunk_by_mut(|a, b| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric()) {
        let has_digit = token.iter().any(u8::is_ascii_digit);
        let is_hex = token.len() >= 6 && token.iter().all(u8::is_ascii_hexdigit);
        if !has_digit || token.len() < 4 || random.next().is_multiple_of(3) {
            continue;
        }
        for byte in token.iter_mut() {
            if byte.is_ascii_digit() {
                *byte = b'0' + (random.next() >> 20) as u8 % 10;
            } else if is_hex {
                *byte = b'a' + (random.next() >> 20) as u8 % 6;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn record(at: u64, line: String, random: &mut Random) -> LogRecord {
    let number = random.next();
    let mut record = LogRecord {
        timestamp: Timestamp(i64::try_from(at).unwrap()),
        observed_timestamp: Timestamp(i64::try_from(at + 1_000_000).unwrap()),
        severity_number: if number.is_multiple_of(20) { 17 } else { 9 },
        severity_text: if number.is_multiple_of(20) { "ERROR" } else { "INFO" }.to_owned(),
        body: Value::Str(line),
        ..LogRecord::default()
    };
    if number % 10 < 3 {
        record.trace_id = (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes();
        record.span_id = random.next().to_be_bytes();
    }
    if number % 40 < 3 {
        let texts = [("http.method", "GET".to_owned()), ("http.route", format!("/api/v1/orders/{}", number % 100))];
        record.attributes = texts.into_iter().map(|(name, text)| (name.to_owned(), Value::Str(text))).collect();
        record.attributes.push(("http.status_code".to_owned(), Value::Int(200)));
        record.attributes.push(("duration_ms".to_owned(), Value::Int((number % 977).cast_signed())));
    }
    record
}

fn batch(number: u64, files: &[Vec<String>], random: &mut Random) -> LogBatch {
    let node = number % NODES;
    let group = |i: u64| {
        let stream = node + i * NODES;
        let pod = format!("app-{}-{:x}", stream % 21, stream * 2_654_435_761);
        let lines = &files[(stream % files.len() as u64) as usize];
        let per_stream = BATCH / (STREAMS / NODES);
        let records = (0..per_stream).map(|row| {
            let line = &lines[(random.next() % lines.len() as u64) as usize];
            let line = renewed(line, random);
            record(START_NS + number * 20_000_000_000 / NODES + row * 400_000_000, line, random)
        });
        let records = records.collect();
        let pairs = [("service_name", format!("app-{}", stream % 21)), ("k8s_pod_name", pod.clone())];
        let attributes =
            vec![("k8s.pod.name".to_owned(), Value::Str(pod)), ("node".to_owned(), Value::Str(node.to_string()))];
        LogGroup {
            stream: Labels::from_pairs(pairs),
            resource: Arc::new(Resource { attributes, ..Resource::default() }),
            scope: Arc::new(Scope { name: "lib".to_owned(), ..Scope::default() }),
            records,
        }
    };
    LogBatch { groups: (0..STREAMS / NODES).map(group).collect() }
}

/// Returns the seconds of CPU of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: Vec<f64> = stat.split(' ').skip(13).take(2).map(|text| text.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / 100.0
}

/// Sums a phase up.
#[derive(Default)]
struct Phase {
    wall: f64,
    cpu: f64,
    longest: f64,
    runs: u64,
}

impl Phase {
    fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let result = work();
        let took = wall.elapsed().as_secs_f64();
        self.wall += took;
        self.cpu += cpu_seconds() - cpu;
        self.longest = self.longest.max(took);
        self.runs += 1;
        result
    }

    fn print(&self, name: &str) {
        let Self { wall, cpu, longest, runs } = self;
        println!("{name:8} {wall:7.2} s wall {cpu:7.2} s CPU, longest {longest:.2} s, {runs} runs");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let lines: u64 = arguments.next().unwrap().parse().unwrap();
    let read = |path: String| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let files: Vec<Vec<String>> = arguments.map(read).collect();
    let dir = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::new();
    let (logs, wal, cpu) = (dir.path().join("logs"), dir.path().join("wal"), CpuPool::new(0).unwrap());
    let ledger = Ledger::new(&telemetry);
    let store = LogStore::open(&logs, &wal, Options::default(), Clock::system(), &telemetry, ledger, cpu).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut append, mut flush, mut compaction) = (Phase::default(), Phase::default(), Phase::default());
    for number in 0..lines / BATCH {
        let batch = batch(number, &files, &mut random);
        append.run(|| store.append(batch).unwrap());
        let is_last = number + 1 == lines / BATCH;
        if is_last || store.should_flush() {
            flush.run(|| store.flush().unwrap());
            while compaction.run(|| store.compact_once().unwrap()) {}
        }
    }
    append.print("append");
    flush.print("flush");
    compaction.print("compact");
    let stats = store.stats();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{} rows, {} blocks, {} bytes; {peak}", stats.block_records, stats.blocks, stats.block_bytes);
    println!("{}", std::fs::read_to_string("/proc/self/io").unwrap().lines().nth(5).unwrap_or_default());
}
