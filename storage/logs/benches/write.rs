//! What a batch of logs costs on its way to a block: encoding, append, tokens and trigrams, the block itself.
//!
//! The lines are made up, but like real ones: half of each is the same as in others of the stream, and ids come back.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{LogAppender as _, LogBatch, LogGroup};
use storage_logs::benched::{Encoder, Tokenizer};
use storage_logs::{LogStore, Options};

const STREAMS: u64 = 20;
const ROWS_PER_STREAM: u64 = 50;
const ROWS: u64 = STREAMS * ROWS_PER_STREAM;
/// Batches of a block that is sealed.
const BATCHES: u64 = 100;
const PAGE_ROWS: u64 = 1024;

/// A number that is the same for the same seed.
fn number(seed: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

fn line(seed: u64) -> String {
    let (n, id) = (number(seed), number(seed / 3));
    match seed % 3 {
        0 => format!(
            "{{\"level\":\"info\",\"msg\":\"order placed\",\"order_id\":\"ORD-{}\",\"trace_id\":\"{id:032x}\",\"duration_ms\":{}}}",
            n % 99_999,
            n % 977
        ),
        1 => format!(
            "10.1.{}.{} - - \"GET /api/v1/items/{} HTTP/1.1\" 200 {} \"-\" \"Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0\"",
            n % 255,
            n / 255 % 255,
            n % 5000,
            n % 65_536
        ),
        _ => format!(
            "ts=2026-11-21T10:00:00.{:09}Z caller=http.go:194 level=debug traceID={id:016x} msg=\"POST /push (200)\"",
            n % 1_000_000_000
        ),
    }
}

fn batch(number: u64) -> LogBatch {
    let group = |stream: u64| {
        let pod = format!("app-{stream}-7d9f");
        let record = |row: u64| {
            let seed = (number * STREAMS + stream) * ROWS_PER_STREAM + row;
            LogRecord {
                timestamp: Timestamp((1_700_000_000_000_000_000 + seed * 1_000_003).cast_signed()),
                observed_timestamp: Timestamp((1_700_000_000_250_000_000 + seed * 1_000_003).cast_signed()),
                severity_number: 9,
                severity_text: "INFO".to_owned(),
                body: Value::Str(line(seed)),
                attributes: vec![("log.iostream".to_owned(), Value::from("stdout"))],
                ..LogRecord::default()
            }
        };
        let attributes = vec![("k8s.pod.name".to_owned(), Value::Str(pod.clone()))];
        LogGroup {
            stream: Labels::from_pairs([("k8s_pod_name", pod.as_str()), ("service_name", "app")]),
            resource: Arc::new(Resource { attributes, ..Resource::default() }),
            scope: Arc::new(Scope { name: "lib".to_owned(), ..Scope::default() }),
            records: (0..ROWS_PER_STREAM).map(record).collect(),
        }
    };
    LogBatch { groups: (0..STREAMS).map(group).collect() }
}

fn open(dir: &Path) -> LogStore {
    let telemetry = Telemetry::new();
    let (ledger, cpu) = (Ledger::new(&telemetry), CpuPool::new(1).unwrap());
    let options = Options { recent_batches: 0, ..Options::default() };
    LogStore::open(&dir.join("logs"), &dir.join("wal"), options, Clock::system(), &telemetry, ledger, cpu).unwrap()
}

/// Encoding and compression alone, and the append with its fsync.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(ROWS));
    let encoder = Encoder::default();
    let one = batch(0);
    group.bench_function("encode/1000_lines", |bencher| bencher.iter(|| black_box(encoder.encode(&one))));
    group.finish();

    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Elements(ROWS));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut next = 0;
    group.bench_function("append/1000_lines", |bencher| {
        let make = || {
            next += 1;
            batch(next)
        };
        bencher.iter_batched(
            make,
            |batch| {
                store.append(batch).unwrap();
                if store.should_flush() {
                    store.flush().unwrap();
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Tokens and trigrams of a page.
fn tokenise(criterion: &mut Criterion) {
    let lines: Vec<String> = (0..PAGE_ROWS).map(|row| line(row * 3)).collect();
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Bytes(lines.iter().map(|line| line.len() as u64).sum()));
    let dir = tempfile::tempdir().unwrap();
    let mut tokenizer = Tokenizer::create(dir.path()).unwrap();
    group.bench_function("tokenise/page_1024", |bencher| bencher.iter(|| tokenizer.page(&lines).unwrap()));
    group.finish();
}

/// The head to a block.
fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("block");
    group.throughput(Throughput::Elements(ROWS * BATCHES));
    group.sample_size(10);
    group.bench_function("seal/100k_lines", |bencher| {
        let filled = || {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path());
            (0..BATCHES).for_each(|number| drop(store.append(batch(number)).unwrap()));
            (dir, store)
        };
        bencher.iter_batched(
            filled,
            |(dir, store)| {
                store.flush().unwrap();
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, append, tokenise, seal);
criterion_main!(benches);
