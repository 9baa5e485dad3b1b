//! What it costs to pack the samples of a series for the head, and to unpack them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage_metrics::benched::{Packed, SAMPLES_PER_CHUNK};

/// Chunks per kind of value, so that no branch is learnt by heart.
const CHUNKS: usize = 256;

/// Small, quick and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`.
    fn below(&mut self, end: u64) -> f64 {
        (self.next() % end) as f64
    }
}

/// A kind of value: its name, and the one after another.
type Kind = (&'static str, fn(f64, &mut Random) -> f64);

/// What series of a node exporter are like.
const KINDS: [Kind; 4] = [
    ("constant_120", |last, _| last),
    ("counter_120", |last, random| last + random.below(1_000_000)),
    ("hundredths_120", |last, random| ((last * 100.0).round() + random.below(1_000)) / 100.0),
    ("float_120", |_, random| random.below(1 << 53) / (1_u64 << 53) as f64),
];

/// Times and bits of values of one chunk.
type Samples = Vec<(i64, u64)>;

/// Makes chunks of a kind: scrapes each 10 s with some jitter.
fn samples(next: fn(f64, &mut Random) -> f64) -> Vec<Samples> {
    let mut random = Random(0x5eed);
    let chunk = |_| {
        let mut value = random.below(1_000_000);
        let one = |i: usize| {
            value = next(value, &mut random);
            (1_700_000_000_000 + i as i64 * 10_000 + random.below(3) as i64, value.to_bits())
        };
        (0..SAMPLES_PER_CHUNK).map(one).collect()
    };
    (0..CHUNKS).map(chunk).collect()
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk/encode");
    group.throughput(Throughput::Elements((CHUNKS * SAMPLES_PER_CHUNK) as u64));
    for (name, next) in KINDS {
        let all = samples(next);
        let mut scratch = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for samples in &all {
                    black_box(Packed::encode(samples, &mut scratch));
                }
            });
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk/decode");
    group.throughput(Throughput::Elements((CHUNKS * SAMPLES_PER_CHUNK) as u64));
    for (name, next) in KINDS {
        let all = samples(next);
        let packed: Vec<Packed> = all.iter().map(|samples| Packed::encode(samples, &mut Vec::new())).collect();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (one, samples) in packed.iter().zip(&all) {
            values.clear();
            one.decode(&mut times, &mut values);
            assert!(values.iter().map(|value| value.to_bits()).eq(samples.iter().map(|(_, bits)| *bits)), "{name}");
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for one in &packed {
                    times.clear();
                    values.clear();
                    one.decode(&mut times, &mut values);
                    black_box((&times, &values));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
