//! The store against a naive list, in lockstep; crashes, retries, limits, damage.

mod damage;
mod deletes;
mod failing_io;
mod model_test;
mod rows;
mod store;
mod tally;
mod verify;

use std::path::Path;
use std::sync::Arc;

use ::model::{Labels, LogRecord, Matcher, Resource, Scope, TimeRange, Timestamp, Value};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{LogBatch, LogGroup, LogQuerier, LogSelect, Needle, QueryContext};

use crate::{LogStore, Options};

/// The time of the tests' clock.
const NOW: i64 = 1_700_000_000_000_000_000;

struct Fixture {
    dir: tempfile::TempDir,
    options: Options,
    clock: Clock,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), options: Options::default(), clock: Clock::fixed(NOW) }
    }

    fn open(&self) -> LogStore {
        self.open_with(&Telemetry::new())
    }

    fn open_with(&self, telemetry: &Telemetry) -> LogStore {
        open_at(self.dir.path(), self.options.clone(), &self.clock, telemetry).unwrap()
    }

    fn blocks_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("logs")
    }
}

fn open_at(dir: &Path, options: Options, clock: &Clock, telemetry: &Telemetry) -> storage_api::Result<LogStore> {
    let ledger = Ledger::new(telemetry);
    let cpu = CpuPool::new(1).unwrap();
    LogStore::open(&dir.join("logs"), &dir.join("wal"), options, clock.clone(), telemetry, ledger, cpu)
}

/// Returns the value of a metric, by its name with labels as `/metrics` shows it.
fn metric(telemetry: &Telemetry, name: &str) -> f64 {
    let text = telemetry.render();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {text}"))
}

fn record(at: i64, line: &str) -> LogRecord {
    LogRecord { timestamp: Timestamp(at), body: Value::from(line), ..LogRecord::default() }
}

/// Returns a text that cannot be compressed much, the same for the same seed.
fn noise(seed: i64, length: usize) -> String {
    let byte = |i: usize| {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&i.to_le_bytes(), seed.cast_unsigned());
        char::from(b'!' + u8::try_from(hash % 94).unwrap())
    };
    (0..length).map(byte).collect()
}

fn stream(app: &str) -> Labels {
    Labels::from_pairs([("service_name", app)])
}

fn batch(app: &str, records: Vec<LogRecord>) -> LogBatch {
    let attributes = vec![("service.name".to_owned(), Value::from(app)), ("host".to_owned(), Value::from("n1"))];
    let resource = Arc::new(Resource { attributes, ..Resource::default() });
    let scope = Arc::new(Scope { name: "lib".to_owned(), ..Scope::default() });
    LogBatch { groups: vec![LogGroup { stream: stream(app), resource, scope, records }] }
}

/// Reads everything in `range` that holds `needle`, as (stream, timestamp, line), by stream and in order.
fn read(store: &LogStore, range: TimeRange, matchers: Vec<Matcher>, needle: &str) -> Vec<(String, i64, String)> {
    let context = QueryContext::default();
    let needles = if needle.is_empty() { Vec::new() } else { vec![Needle::Line(needle.to_owned())] };
    let select = LogSelect { matchers, range, needles, with_metadata: false, without_lines: false };
    let mut found = Vec::new();
    for part in store.select(&select, &context).unwrap() {
        let rows = part.read(&context).unwrap();
        assert!(rows.len() as u64 <= part.rows_max());
        for i in 0..rows.len() {
            let (at, line) = (rows.timestamps[i], rows.lines.get(i));
            assert!(range.contains(at) && part.range().contains(at), "{at} of {:?} in {range:?}", part.range());
            if line.contains(needle) {
                found.push((part.stream().to_string(), at.0, line.to_owned()));
            }
        }
        assert!(rows.timestamps.is_sorted());
    }
    // Parts come in the order of arrival: a stable sort keeps it within one nanosecond.
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    assert_eq!(context.take_warnings(), Vec::<String>::new());
    found
}

fn lines(store: &LogStore) -> Vec<String> {
    read(store, TimeRange::ALL, Vec::new(), "").into_iter().map(|(_, _, line)| line).collect()
}
