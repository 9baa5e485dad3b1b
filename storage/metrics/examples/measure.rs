//! Fills a store with samples like those of a node exporter and prints what they cost, on disk and in time.
//!
//! `cargo run --release -p storage-metrics --example measure -- DIR [HOSTS] [SCRAPES]`; DIR must be empty or missing.
//! Per host 60 series: a third constant, counters of whole numbers and of hundredths, gauges, and full-precision floats;
//! a scrape every 10 s with up to 3 ms of jitter, shared by the series of a host.

#![expect(clippy::print_stdout, reason = "a tool for people")]

use std::borrow::Cow;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use model::Sample;
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext};
use storage_metrics::{MetricStore, Options};

const SERIES_PER_HOST: usize = 60;
const START_MS: i64 = 1_700_000_000_000;

/// Small, quick and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn step(series: usize, value: f64, random: &mut Random) -> f64 {
    match series % 6 {
        0 | 1 => value,
        2 => value + (1_000_000.0 * (0.5 + random.unit())).round(),
        3 => ((value + 10.0 * random.unit()) * 100.0).round() / 100.0,
        4 => (value + (random.unit() - 0.5) * 50.0 * 4096.0).round(),
        _ => value + random.unit() - 0.5,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir: PathBuf = arguments.next().ok_or("which directory?")?.into();
    let hosts: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let scrapes: usize = arguments.next().map_or(Ok(360), |text| text.parse())?;
    let telemetry = Telemetry::new();
    let store = MetricStore::open(
        &dir.join("metrics"),
        &dir.join("wal"),
        Options::default(),
        Clock::system(),
        &telemetry,
        Ledger::new(&telemetry),
        CpuPool::new(0)?,
    )?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut values: Vec<f64> = (0..hosts * SERIES_PER_HOST).map(|_| (random.unit() * 1e9).round()).collect();
    let names: Vec<String> = (0..SERIES_PER_HOST).map(|i| format!("node_thing_{}_total", i / 4)).collect();
    let started = Instant::now();
    let mut appending = 0.0;
    for scrape in 0..scrapes {
        for host in 0..hosts {
            let instance = format!("host-{host:03}:9100");
            let timestamp_ms = START_MS + scrape as i64 * 10_000 + (random.next() % 7) as i64;
            let mut batch = MetricBatch::default();
            for (series, name) in names.iter().enumerate() {
                let Some(value) = values.get_mut(host * SERIES_PER_HOST + series) else { continue };
                *value = step(series, *value, &mut random);
                let device = ["sda", "sdb", "eth0", "lo"].get(series % 4).copied().unwrap_or_default();
                let labels =
                    [("__name__", name.as_str()), ("device", device), ("instance", &instance), ("job", "node")];
                let labels = labels.map(|(name, value)| (Cow::from(name), Cow::from(value)));
                batch.push(labels, [Sample { timestamp_ms, value: *value }])?;
            }
            let before = Instant::now();
            store.append(&batch)?;
            appending += before.elapsed().as_secs_f64();
        }
        if store.should_flush() {
            store.flush()?;
        }
    }
    let samples = (hosts * scrapes * SERIES_PER_HOST) as f64;
    println!("{samples} samples appended at {:.0} samples/s", samples / appending);
    let before = Instant::now();
    let head = store.stats();
    store.flush()?;
    while store.compact_once()? {}
    println!(
        "head: {:.2} B/sample; flushed and merged in {:.2} s",
        head.head_bytes as f64 / head.head_samples.max(1) as f64,
        before.elapsed().as_secs_f64()
    );
    let stats = store.stats();
    println!("disk: {:.3} B/sample in {} blocks", stats.block_bytes as f64 / samples, stats.blocks);
    let before = Instant::now();
    let context = QueryContext::default();
    let mut read = 0;
    for part in store.select(&[], MillisRange::ALL, &context)?.parts {
        let series = part.read(&context)?;
        read += series.iter().map(|one| one.values.len()).sum::<usize>();
    }
    println!("read {read} samples at {:.0} samples/s", read as f64 / before.elapsed().as_secs_f64());
    println!("{:.1} s in all", started.elapsed().as_secs_f64());
    Ok(())
}
