//! What it costs to append a request: the look-up of its series, the WAL record, the fsync it waits for, the head.
//!
//! The WAL lies in memory where there is `/dev/shm`, so that the disk is not what is measured.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use model::Sample;
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{KeyMaker, LabelFault, LabelPair, LabelSource, MetricAppender as _, MetricBatch, SeriesKey};
use storage_metrics::{MetricStore, Options};

const HOSTS: usize = 100;
const SERIES_PER_HOST: usize = 200;
/// Hosts whose scrapes go together into a request.
const HOSTS_PER_REQUEST: usize = 10;

/// Labels and keys of all series, host by host.
#[derive(Debug)]
struct AllLabels {
    labels: Vec<Vec<(String, String)>>,
    keys: Vec<SeriesKey>,
}

impl AllLabels {
    fn new() -> Self {
        let maker = KeyMaker::default();
        let mut labels = Vec::new();
        for host in 0..HOSTS {
            for series in 0..SERIES_PER_HOST {
                let pairs = [
                    ("__name__", format!("node_thing_{}_total", series / 8)),
                    ("cpu", format!("{}", series % 8)),
                    ("instance", format!("host-{host:03}.example.net:9100")),
                    ("job", "node".to_owned()),
                    ("mode", "idle".to_owned()),
                ];
                labels.push(pairs.map(|(name, value)| (name.to_owned(), value)).to_vec());
            }
        }
        let keys = labels.iter().map(|labels| maker.key(format!("{labels:?}").as_bytes())).collect();
        Self { labels, keys }
    }

    fn of(&self, series: usize) -> impl Iterator<Item = LabelPair<'_>> {
        self.labels.get(series).into_iter().flatten().map(|(name, value)| (name.as_str().into(), value.as_str().into()))
    }
}

impl<'a> LabelSource<'a> for AllLabels {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelFault> {
        let owned = |(name, value): LabelPair<'_>| (name.into_owned().into(), value.into_owned().into());
        out.extend(self.of(token as usize).map(owned));
        Ok(())
    }
}

/// Makes the request number `number`: the next scrape of some hosts.
fn request(all: &AllLabels, number: usize, by_key: bool) -> MetricBatch<'_> {
    let mut batch = MetricBatch::with_source(all);
    let requests_per_scrape = HOSTS / HOSTS_PER_REQUEST;
    let (scrape, part) = (number / requests_per_scrape, number % requests_per_scrape);
    let first = part * HOSTS_PER_REQUEST * SERIES_PER_HOST;
    for series in first..first + HOSTS_PER_REQUEST * SERIES_PER_HOST {
        let timestamp_ms = 1_700_000_000_000 + scrape as i64 * 10_000 + (series / SERIES_PER_HOST % 7) as i64;
        let value = (scrape * (series % 13) * 997) as f64 / 100.0;
        let sample = [Sample { timestamp_ms, value }];
        match all.keys.get(series).filter(|_| by_key) {
            Some(key) => batch.push_keyed(*key, series as u64, sample),
            None => batch.push(all.of(series), sample).unwrap(),
        }
    }
    batch
}

fn append(criterion: &mut Criterion) {
    let all = AllLabels::new();
    let mut group = criterion.benchmark_group("head/append");
    group.throughput(Throughput::Elements((HOSTS_PER_REQUEST * SERIES_PER_HOST) as u64));
    for (name, by_key) in [("keys_2000", true), ("labels_2000", false)] {
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
        let mut number = 0;
        group.bench_function(name, |bencher| {
            let next = || {
                number += 1;
                request(&all, number - 1, by_key)
            };
            bencher.iter_batched(next, |batch| store.append(&batch).unwrap(), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
