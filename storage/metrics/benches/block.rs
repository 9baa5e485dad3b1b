//! What it costs to find series in a block's index, and to read their samples.
//!
//! The block lies in memory where there is `/dev/shm`, and is read before it is measured.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{MatchOp, Matcher, Sample};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{LabelPair, MetricAppender as _, MetricBatch, MetricQuerier as _, MillisRange, QueryContext};
use storage_metrics::{MetricStore, Options};

const START_MS: i64 = 1_700_000_000_000;
const INTERVAL_MS: i64 = 10_000;
const SERIES_PER_HOST: usize = 200;

/// Hosts whose series are appended together.
const HOSTS_PER_BATCH: usize = 5;

fn host(number: usize) -> String {
    format!("host-{number:04}.example.net:9100")
}

/// Labels of series `series` of a host.
fn labels(number: usize, series: usize) -> [LabelPair<'static>; 5] {
    [
        ("__name__".into(), format!("node_thing_{}_total", series / 8).into()),
        ("cpu".into(), format!("{}", series % 8).into()),
        ("instance".into(), host(number).into()),
        ("job".into(), ["node", "kubelet", "api", "etcd"][number % 4].into()),
        ("mode".into(), ["idle", "user", "system"][series % 3].into()),
    ]
}

/// Constants, whole numbers, hundredths and full-precision floats; the same in each run.
fn value(series: usize, i: usize) -> f64 {
    let x = (series * 7_919 + i * (series % 13) * 997) as f64;
    match series % 4 {
        0 => series as f64,
        1 => x,
        2 => x / 100.0,
        _ => x.sqrt(),
    }
}

/// A store with all in one block, and where it lies.
struct Filled {
    store: MetricStore,
    _dir: tempfile::TempDir,
}

impl Filled {
    fn new(hosts: usize, samples: usize) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let telemetry = Telemetry::new();
        let store = MetricStore::open(
            &dir.path().join("metrics"),
            &dir.path().join("wal"),
            Options { head_bytes_max: 4 << 30, ..Options::default() },
            Clock::system(),
            &telemetry,
            Ledger::new(&telemetry),
            CpuPool::new(1).unwrap(),
        );
        let store = store.unwrap();
        for first in (0..hosts).step_by(HOSTS_PER_BATCH) {
            let mut batch = MetricBatch::default();
            for number in first..hosts.min(first + HOSTS_PER_BATCH) {
                for series in 0..SERIES_PER_HOST {
                    let sample = |i: usize| Sample {
                        timestamp_ms: START_MS + i as i64 * INTERVAL_MS + (number % 7) as i64,
                        value: value(series, i),
                    };
                    batch.push(labels(number, series), (0..samples).map(sample)).unwrap();
                }
            }
            store.append(&batch).unwrap();
        }
        store.flush().unwrap();
        assert_eq!((store.stats().blocks, store.stats().head_samples), (1, 0));
        Self { store, _dir: dir }
    }

    /// Finds and reads series, and returns how many samples they have.
    fn read(&self, matchers: &[Matcher], range: MillisRange) -> usize {
        let context = QueryContext::default();
        let selection = self.store.select(matchers, range, &context).unwrap();
        let read = selection.parts.iter().flat_map(|part| part.read(&context).unwrap());
        read.map(|series| black_box(series).values.len()).sum()
    }

    fn find(&self, matchers: &[Matcher]) -> usize {
        let context = QueryContext::default();
        let selection = self.store.select(matchers, MillisRange::ALL, &context).unwrap();
        selection.parts.iter().map(|part| black_box(part.labels()).len()).sum()
    }
}

fn matcher(name: &str, op: MatchOp, pattern: &str) -> Matcher {
    Matcher::new(name, op, pattern).unwrap()
}

/// Whole blocks, one metric of all hosts, and a tenth of the time: 400,000 samples, decimals where they can be.
fn read(criterion: &mut Criterion) {
    let (hosts, samples) = (10, 200);
    let filled = Filled::new(hosts, samples);
    let late = START_MS + (samples as i64 - 20) * INTERVAL_MS;
    let cases = [
        ("all", vec![], MillisRange::ALL, hosts * SERIES_PER_HOST * samples),
        ("one_metric", vec![Matcher::equal("__name__", "node_thing_3_total")], MillisRange::ALL, hosts * 8 * samples),
        ("newest_tenth", vec![], MillisRange { min_ms: late, max_ms: i64::MAX }, hosts * SERIES_PER_HOST * 20),
    ];
    let mut group = criterion.benchmark_group("block/read");
    for (name, matchers, range, expected) in cases {
        assert_eq!(filled.read(&matchers, range), expected, "{name}");
        group.throughput(Throughput::Elements(expected as u64));
        group.bench_function(name, |bencher| bencher.iter(|| filled.read(&matchers, range)));
    }
    group.finish();
}

/// Few series out of 20,000, by lists of which each is long; in series looked through.
fn intersect(criterion: &mut Criterion) {
    let hosts = 100;
    let filled = Filled::new(hosts, 1);
    let equal = [
        Matcher::equal("job", "node"),
        Matcher::equal("cpu", "3"),
        Matcher::equal("mode", "idle"),
        Matcher::equal("__name__", "node_thing_3_total"),
    ];
    let unequal = [
        Matcher::equal("__name__", "node_thing_3_total"),
        matcher("job", MatchOp::NotEqual, "node"),
        matcher("job", MatchOp::NotEqual, "api"),
        matcher("mode", MatchOp::NotRegex, "user|system"),
        Matcher::equal("cpu", "3"),
    ];
    // Series 27 of a host is the only one of that metric with cpu 3, and it is idle.
    let cases = [("equal_20000", equal.to_vec(), hosts / 4), ("unequal_20000", unequal.to_vec(), hosts / 2)];
    let mut group = criterion.benchmark_group("postings/intersect");
    group.throughput(Throughput::Elements((hosts * SERIES_PER_HOST) as u64));
    for (name, matchers, expected) in cases {
        assert_eq!(filled.find(&matchers), expected, "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| filled.find(&matchers)));
    }
    group.finish();
}

/// A label of 2,000 values; in values tested.
fn match_regex(criterion: &mut Criterion) {
    let values: Vec<String> = (0..2_000).map(host).collect();
    let cases = [
        ("alternatives_2000", r"host-0007\.example\.net:9100|host-1999\.example\.net:9100", 2),
        ("prefix_2000", "host-00.*", 100),
        ("suffix_2000", r".*7\.example\.net:9100", 200),
        ("classes_2000", r"host-[01][0-9]{2}[37]\.example\.(net|org):\d+", 400),
        ("case_2000", r"(?i)HOST-0.9[0-4]\.example.*", 50),
    ];
    let mut group = criterion.benchmark_group("matcher/regex");
    group.throughput(Throughput::Elements(values.len() as u64));
    for (name, pattern, expected) in cases {
        let regex = matcher("instance", MatchOp::Regex, pattern);
        let count = || values.iter().filter(|value| regex.matches(black_box(value))).count();
        assert_eq!(count(), expected, "{name}");
        group.bench_function(name, |bencher| bencher.iter(count));
    }
    group.finish();
}

criterion_group!(benches, read, intersect, match_regex);
criterion_main!(benches);
