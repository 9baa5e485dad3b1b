//! What it costs to append a record and wait for its fsync, alone and in a group.
//!
//! The log lies in memory where there is `/dev/shm`, so that the disk is not what is measured.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage_wal::{Options, Wal};

/// A record of 2000 samples takes some 4 kB.
const RECORD_BYTES: usize = 4 << 10;
/// The log is emptied after so many records, as a flush does.
const RECORDS_KEPT: u64 = 16 << 10;

fn open(dir: &Path) -> Wal {
    Wal::open::<storage_wal::Error>(dir, Options::default(), &mut |_, _| Ok(())).unwrap().0
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal/append");
    group.throughput(Throughput::Bytes(RECORD_BYTES as u64));
    for threads in [1_u64, 4] {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let wal = open(dir.path());
        let record = vec![0x5a; RECORD_BYTES];
        let count = AtomicU64::new(0);
        let one = &|| {
            wal.append(&record).unwrap();
            if count.fetch_add(1, Ordering::Relaxed) % RECORDS_KEPT == RECORDS_KEPT - 1 {
                wal.remove_before(wal.cut().unwrap()).unwrap();
            }
        };
        group.bench_function(format!("4096_by_{threads}"), |bencher| {
            bencher.iter_custom(|records| {
                let started = Instant::now();
                std::thread::scope(|scope| {
                    for thread in 0..threads {
                        let share = records / threads + u64::from(thread < records % threads);
                        scope.spawn(move || (0..share).for_each(|_| one()));
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
