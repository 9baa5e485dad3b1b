//! What it costs to ask each index of a block, and to decode pages for lines, for a filter, for metadata and for counts.
//!
//! The block lies in memory where there is `/dev/shm`; nothing decoded is kept from one time to the next.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::path::Path;
use std::str::Utf8Error;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memchr::memmem;
use model::{Labels, LogRecord, Resource, Scope, TimeRange, Timestamp, Value};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{
    LineFilter, Lines, LogAppender as _, LogBatch, LogGroup, LogPart, LogQuerier as _, LogSelect, LogTallySelect,
    MetadataSelect, Needle, QueryContext, RowSelect,
};
use storage_logs::{LogStore, Options};

const START_NS: i64 = 1_700_000_000_000_000_000;
const STREAMS: usize = 20;
const ROWS: usize = 6_000;
const INTERVAL_NS: i64 = 500_000_000;

/// A store with all in one block, and where it lies.
struct Filled {
    store: LogStore,
    _dir: tempfile::TempDir,
}

/// A line such as applications write: words, an id, numbers.
fn line(stream: usize, row: usize) -> String {
    let id = (stream * ROWS + row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = if row.is_multiple_of(3_000) { "quokka" } else { "request" };
    let path = ["/api/v1/items", "/healthz", "/api/v1/users/login", "/checkout"][row % 4];
    format!(
        r#"{{"level":"info","msg":"{word} served by upstream","path":"{path}","request_id":"{id:016x}","status":{},"duration_ms":{}.{}}}"#,
        200 + row % 7 * 50,
        id % 900,
        id % 1_000,
    )
}

impl Filled {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let telemetry = Telemetry::new();
        let store = LogStore::open(
            &dir.path().join("logs"),
            &dir.path().join("wal"),
            Options { page_cache_bytes_max: 0, ..Options::default() },
            Clock::fixed(START_NS),
            &telemetry,
            Ledger::new(&telemetry),
            CpuPool::new(1).unwrap(),
        )
        .unwrap();
        for stream in 0..STREAMS {
            let record = |row: usize| LogRecord {
                timestamp: Timestamp(START_NS + row as i64 * INTERVAL_NS),
                severity_number: [9, 9, 9, 17][row % 4],
                severity_text: ["INFO", "INFO", "INFO", "ERROR"][row % 4].to_owned(),
                body: Value::Str(line(stream, row)),
                attributes: vec![("http.status".to_owned(), Value::Int(200 + row as i64 % 7 * 50))],
                trace_id: (row as u128 / 5 * STREAMS as u128 + 1).to_be_bytes(),
                ..LogRecord::default()
            };
            let service = format!("service-{stream}");
            let group = LogGroup {
                stream: Labels::from_pairs([("service_name", service.as_str())]),
                resource: Arc::new(Resource {
                    attributes: vec![("service.name".to_owned(), Value::Str(service))],
                    ..Resource::default()
                }),
                scope: Arc::new(Scope::default()),
                records: (0..ROWS).map(record).collect(),
            };
            store.append(LogBatch { groups: vec![group] }).unwrap();
        }
        store.flush().unwrap();
        Self { store, _dir: dir }
    }

    fn parts(&self, needles: Vec<Needle>) -> Vec<Box<dyn LogPart>> {
        let select = LogSelect {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            needles,
            with_metadata: true,
            without_lines: false,
        };
        self.store.select(&select, &QueryContext::default()).unwrap()
    }
}

#[derive(Debug)]
struct Holds(memmem::Finder<'static>);

impl LineFilter for Holds {
    fn passing(&self, lines: Lines<'_>) -> Result<Vec<u32>, Utf8Error> {
        let mut rows = Vec::new();
        let (mut row, mut at) = (0, 0);
        while let Some(found) = lines.bytes().get(at..).and_then(|bytes| self.0.find(bytes)) {
            row = lines.row_after(row, at + found);
            let Some((_, end)) = lines.span(row) else { break };
            rows.extend(u32::try_from(row));
            at = end;
        }
        Ok(rows)
    }

    fn key(&self) -> &str {
        "holds"
    }
}

fn indexes(c: &mut Criterion) {
    let filled = Filled::new();
    let mut group = c.benchmark_group("index");
    let trace = (20_u128 * STREAMS as u128 + 1).to_be_bytes().map(|byte| format!("{byte:02x}")).concat();
    let needles = [
        ("word", Needle::Line(" upstream ".to_owned())),
        ("id", Needle::Field { name: "trace_id".to_owned(), value: trace }),
        ("trigrams", Needle::Line("uokk".to_owned())),
        ("nowhere", Needle::Line("xq7zz".to_owned())),
    ];
    for (name, needle) in needles {
        group.bench_function(name, |b| b.iter(|| black_box(filled.parts(vec![needle.clone()])).len()));
    }
    group.finish();
}

fn pages(c: &mut Criterion) {
    let filled = Filled::new();
    let parts = filled.parts(Vec::new());
    let lines: u64 =
        parts.iter().map(|part| part.read(&QueryContext::default()).unwrap().lines.text().len() as u64).sum();
    let needle = Holds(memmem::Finder::new("quokka"));
    let all = RowSelect { metadata: MetadataSelect::None, ..RowSelect::ALL };
    let selects = [
        ("lines", all),
        ("filter", RowSelect { filter: Some(&needle), with_lines: false, ..all }),
        ("times", RowSelect { with_lines: false, ..all }),
        ("metadata", RowSelect { with_lines: false, ..RowSelect::ALL }),
        ("all of 10 rows", RowSelect { rows_max: 10, newest: true, ..RowSelect::ALL }),
    ];
    let mut group = c.benchmark_group("pages");
    group.throughput(Throughput::Bytes(lines)).sample_size(20);
    for (name, select) in selects {
        group.bench_function(name, |b| {
            b.iter(|| {
                let context = QueryContext::default();
                parts.iter().map(|part| black_box(part.read_rows(&select, &context).unwrap()).len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

fn tallies(c: &mut Criterion) {
    let filled = Filled::new();
    let cuts = |every_ns: i64, first_ns: i64| -> Vec<Timestamp> {
        (1..=50).map(|i| Timestamp(START_NS + first_ns + i * every_ns)).collect()
    };
    let mut group = c.benchmark_group("tally");
    for (name, cuts) in
        [("whole minutes", cuts(60_000_000_000, 40_000_000_000)), ("cut minutes", cuts(60_000_000_000, 7))]
    {
        let select = LogTallySelect {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            fields: vec!["severity_text".to_owned()],
            cuts,
            needles: Vec::new(),
        };
        group.bench_function(name, |b| {
            b.iter(|| black_box(filled.store.tally(&select, &QueryContext::default()).unwrap()).tallies.len());
        });
    }
    group.finish();
}

criterion_group!(benches, indexes, pages, tallies);
criterion_main!(benches);
