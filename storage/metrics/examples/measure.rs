//! Fills a store with samples like those of a node exporter and prints what they cost, on disk and in time.
//!
//! `cargo run --release -p storage-metrics --example measure -- DIR [HOSTS] [SCRAPES]`; DIR must be empty or missing.
//! With `DIR --read` it only reads what is there; with `DIR --replay SHARDS [HEAD_MB]` it replays remote-write bodies from the files `shard-*.bin` of a directory, each body after
//! its length (u32), its number of samples (u32) and its newest time (i64), the shards by turns.
//! Per host 60 series: a third constant, counters of whole numbers and of hundredths, gauges, and full-precision floats;
//! a scrape every 10 s with up to 3 ms of jitter, shared by the series of a host.

#![expect(clippy::print_stdout, reason = "a tool for people")]

use std::borrow::Cow;
use std::error::Error;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use model::{MatchOp, Matcher, Sample};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{
    KeyMaker, LabelFault, LabelPair, LabelSource, MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext,
};
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

/// Reads what little of protocol buffers a remote-write body needs: fields of bytes, doubles and varints.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                let (word, rest) = self.0.split_first_chunk::<8>()?;
                self.0 = rest;
                Field::Number(u64::from_le_bytes(*word))
            }
            _ => {
                let length = self.varint()? as usize;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
        };
        Some((tag >> 3, field))
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The labels of series in a body; a token has their offset in the high half and their length in the low one.
#[derive(Debug)]
struct InBody<'a>(&'a [u8]);

impl<'a> LabelSource<'a> for InBody<'a> {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelFault> {
        let (offset, length) = ((token >> 32) as usize, token as u32 as usize);
        for (_, label) in Fields(self.0.get(offset..offset + length).unwrap_or_default()) {
            let Field::Bytes(label) = label else { continue };
            let mut pair = (Cow::from(""), Cow::from(""));
            for (number, field) in Fields(label) {
                match (number, field) {
                    (1, Field::Bytes(name)) => pair.0 = text(name),
                    (2, Field::Bytes(value)) => pair.1 = text(value),
                    _ => {}
                }
            }
            out.push(pair);
        }
        Ok(())
    }
}

/// Takes the series of a body as the receiver does: by the bytes of their labels.
fn decode<'a>(body: &'a InBody<'a>, keys: &KeyMaker) -> MetricBatch<'a> {
    let mut batch = MetricBatch::with_source(body);
    for (_, series) in Fields(body.0) {
        let Field::Bytes(series) = series else { continue };
        let (mut labels, mut samples) = (0, Vec::with_capacity(1));
        let mut fields = Fields(series);
        while let Some((number, field)) = fields.next() {
            let Field::Bytes(bytes) = field else { continue };
            if number == 1 {
                labels = series.len() - fields.0.len();
                continue;
            }
            let mut sample = Sample { timestamp_ms: 0, value: 0.0 };
            for (number, field) in Fields(bytes) {
                match (number, field) {
                    (1, Field::Number(bits)) => sample.value = f64::from_bits(bits),
                    (2, Field::Number(ms)) => sample.timestamp_ms = ms as i64,
                    _ => {}
                }
            }
            samples.push(sample);
        }
        let offset = series.as_ptr().addr() - body.0.as_ptr().addr();
        let key = keys.key(series.get(..labels).unwrap_or_default());
        batch.push_keyed(key, (offset as u64) << 32 | labels as u64, samples);
    }
    batch
}

/// Appends the bodies of all shards by turns; returns the samples and the seconds spent in the store.
fn replay(store: &MetricStore, shards: &std::path::Path) -> Result<(usize, f64), Box<dyn Error>> {
    let (mut samples, mut appending, mut wal_bytes) = (0, 0.0, 0);
    let keys = KeyMaker::default();
    let mut files = Vec::new();
    for number in 0.. {
        match std::fs::File::open(shards.join(format!("shard-{number}.bin"))) {
            Ok(file) => files.push(std::io::BufReader::new(file)),
            Err(_) => break,
        }
    }
    while !files.is_empty() {
        let mut left = Vec::new();
        for mut file in files {
            let mut header = [0; 16];
            if file.read_exact(&mut header).is_err() {
                continue;
            }
            let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let mut body = vec![0; length as usize];
            file.read_exact(&mut body)?;
            left.push(file);
            let body = snap::raw::Decoder::new().decompress_vec(&body)?;
            let body = InBody(&body);
            let batch = decode(&body, &keys);
            samples += batch.samples_len();
            let before = (Instant::now(), store.stats().wal_bytes);
            store.append(&batch)?;
            appending += before.0.elapsed().as_secs_f64();
            wal_bytes += store.stats().wal_bytes - before.1;
            if store.should_flush() {
                settle(store)?;
            }
        }
        files = left;
    }
    println!("WAL: {:.2} B/sample", wal_bytes as f64 / samples as f64);
    Ok((samples, appending))
}

/// Appends made-up samples; returns how many and the seconds spent in the store.
fn make_up(store: &MetricStore, hosts: usize, scrapes: usize) -> Result<(usize, f64), Box<dyn Error>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut values: Vec<f64> = (0..hosts * SERIES_PER_HOST).map(|_| (random.unit() * 1e9).round()).collect();
    let names: Vec<String> = (0..SERIES_PER_HOST).map(|i| format!("node_thing_{}_total", i / 4)).collect();
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
            settle(store)?;
        }
    }
    Ok((hosts * scrapes * SERIES_PER_HOST, appending))
}

/// Returns the CPU time that the process has used so far, in seconds; 0 where nothing tells.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Returns the greatest memory that the process has had so far, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

/// Returns the greatest time in the store.
fn newest_ms(store: &MetricStore) -> Result<i64, Box<dyn Error>> {
    let context = QueryContext::default();
    let mut newest_ms = 0;
    for part in store.select(&[Matcher::equal("instance", "host-001:9100")], MillisRange::ALL, &context)?.parts {
        let times = part.read(&context)?.into_iter().filter_map(|one| one.timestamps_ms.last().copied());
        newest_ms = times.fold(newest_ms, i64::max);
    }
    Ok(newest_ms)
}

/// Prints how long it takes to read the newest `span_ms` of a metric, or of all of them.
fn query(store: &MetricStore, metric: &str, span_ms: i64) -> Result<(), Box<dyn Error>> {
    let matcher = match metric {
        "" => Matcher::new("__name__", MatchOp::NotEqual, "")?,
        metric => Matcher::equal("__name__", metric),
    };
    let mut times = Vec::new();
    let (mut series, mut samples) = (0, 0);
    let newest_ms = newest_ms(store)?;
    let range = MillisRange { min_ms: newest_ms.saturating_sub(span_ms), max_ms: newest_ms };
    for _ in 0..7 {
        (series, samples) = (0, 0);
        let context = QueryContext::default();
        let before = Instant::now();
        let selection = store.select(std::slice::from_ref(&matcher), range, &context)?;
        let selected = before.elapsed();
        for part in selection.parts {
            for one in part.read(&context)? {
                series += 1;
                samples += one.values.len();
            }
        }
        times.push((before.elapsed(), selected));
    }
    times.sort();
    let (all, selected) = times.get(3).copied().unwrap_or_default();
    println!(
        "{metric:?}, {samples} samples of {series} series: {:.1} ms on one thread, {:.1} of it to find them",
        all.as_secs_f64() * 1e3,
        selected.as_secs_f64() * 1e3
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir: PathBuf = arguments.next().ok_or("which directory?")?.into();
    let hosts = arguments.next();
    let scrapes = arguments.next();
    let telemetry = Telemetry::new();
    let mut options = Options::default();
    if let Some(head_mb) = arguments.next() {
        options.head_bytes_max = head_mb.parse::<u64>()? << 20;
    }
    let store = MetricStore::open(
        &dir.join("metrics"),
        &dir.join("wal"),
        options,
        Clock::system(),
        &telemetry,
        Ledger::new(&telemetry),
        CpuPool::new(0)?,
    )?;
    let (samples, appending) = match (hosts.as_deref(), scrapes.as_deref()) {
        (Some("--read"), _) => return read(&store),
        (Some("--replay"), Some(shards)) => replay(&store, shards.as_ref())?,
        (hosts, scrapes) => {
            make_up(&store, hosts.map_or(Ok(100), |text| text.parse())?, scrapes.map_or(Ok(360), |text| text.parse())?)?
        }
    };
    let samples = samples as f64;
    println!("{samples} samples appended at {:.0} samples/s", samples / appending);
    let head = store.stats();
    println!("head: {:.2} B/sample", head.head_bytes as f64 / head.head_samples.max(1) as f64);
    settle(&store)?;
    let stats = store.stats();
    println!("disk: {:.3} B/sample in {} blocks", stats.block_bytes as f64 / samples, stats.blocks);
    println!("peak memory: {:.0} MB", peak_mb());
    read(&store)
}

/// Flushes and merges, and prints what that took.
fn settle(store: &MetricStore) -> Result<(), Box<dyn Error>> {
    let (before, cpu, samples) = (Instant::now(), cpu_seconds(), store.stats().head_samples);
    store.flush()?;
    let wall = before.elapsed().as_secs_f64();
    println!("flushed {samples} samples in {wall:.2} s, {:.2} s of CPU", cpu_seconds() - cpu);
    loop {
        let (before, cpu, samples) = (Instant::now(), cpu_seconds(), store.stats().block_samples);
        let blocks = store.stats().blocks;
        if !store.compact_once()? {
            return Ok(());
        }
        let (wall, merged) = (before.elapsed().as_secs_f64(), blocks + 1 - store.stats().blocks);
        println!("merged {merged} blocks of {samples} samples in {wall:.2} s, {:.2} s of CPU", cpu_seconds() - cpu);
    }
}

/// Prints how long it takes to read everything, and some of it.
fn read(store: &MetricStore) -> Result<(), Box<dyn Error>> {
    for _ in 0..3 {
        let context = QueryContext::default();
        let (before, cpu, mut read) = (Instant::now(), cpu_seconds(), 0);
        for part in store.select(&[], MillisRange::ALL, &context)?.parts {
            let series = part.read(&context)?;
            read += series.iter().map(|one| one.values.len()).sum::<usize>();
        }
        let (wall, cpu) = (before.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!("read {read} samples at {:.0} samples/s, {cpu:.2} s of CPU", read as f64 / wall);
    }
    query(store, "node_cpu_seconds_total", 300_000)?;
    query(store, "node_cpu_seconds_total", i64::MAX)?;
    query(store, "", 300_000)?;
    println!("peak memory: {:.0} MB", peak_mb());
    Ok(())
}
