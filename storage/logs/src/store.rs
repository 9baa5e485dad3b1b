//! The store: what it holds, and how it is opened.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use runtime::{Clock, CpuPool, Ledger, Telemetry};
use storage_api::{Error, Result, TailBatch};
use storage_wal::{SegmentId, Wal};
use tokio::sync::broadcast;

use crate::Options;
use crate::block::{Block, Cache, Sequence, list, remove_block, sync_dir};
use crate::codec::{Entry, Packers, read_entry};
use crate::deletes::Deletes;
use crate::head::Head;
use crate::retry::Recent;
use crate::room::Room;
use crate::telemetry::{Damage, Metrics};

/// What a damaged block is called after it was set aside.
pub(crate) const DAMAGED_PREFIX: &str = "damaged-";

/// All logs of one data directory.
///
/// Order of locks: `work`, `gate`, `state`. A query takes `state` only, for as long as it takes to copy it.
#[derive(Debug)]
pub struct LogStore {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) cpu: CpuPool,
    pub(crate) metrics: Metrics,
    pub(crate) wal: Wal,
    pub(crate) packers: Packers,
    pub(crate) recent: Recent,
    pub(crate) cache: Arc<Cache>,
    pub(crate) tail: broadcast::Sender<Arc<TailBatch>>,
    /// Appenders hold it for reading from the write to the log until the head has the batch; whoever cuts the log holds
    /// it for writing, so that each batch is in the head if and only if it is before the cut.
    pub(crate) gate: RwLock<()>,
    pub(crate) state: RwLock<State>,
    /// One flush, compaction or retention run at a time. Holds the number of the next flush.
    pub(crate) work: Mutex<u64>,
    /// Blocks that compaction could not read.
    pub(crate) barred: Mutex<HashSet<Sequence>>,
    /// Memory of batches on their way into the head.
    pub(crate) arriving_bytes: AtomicU64,
    /// Held while the head's gauges are set; comes before `state`.
    pub(crate) gauges: Mutex<()>,
    /// Where appends wait while the head is full.
    pub(crate) room: Room,
    pub(crate) is_closed: AtomicBool,
}

/// What there is to read.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) head: Arc<Head>,
    pub(crate) frozen: Option<Frozen>,
    /// By sequence.
    pub(crate) blocks: Vec<Arc<Block>>,
    /// Their rows that nobody sees.
    pub(crate) deletes: Arc<Deletes>,
    /// Blocks that were set aside; answers may lack their rows.
    pub(crate) damaged: Vec<String>,
}

/// A head that is being written to a block.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) head: Arc<Head>,
    /// The WAL segments before this one hold it.
    pub(crate) wal_before: SegmentId,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Memory of the head, in bytes.
    pub head_bytes: u64,
    /// Records in the head.
    pub head_records: u64,
    /// Blocks.
    pub blocks: u64,
    /// Their size on disk.
    pub block_bytes: u64,
    /// Records in them.
    pub block_records: u64,
    /// Blocks that were found damaged and set aside.
    pub damaged_blocks: u64,
    /// Size of the write-ahead log.
    pub wal_bytes: u64,
}

impl LogStore {
    /// Opens the logs in `dir` and replays the write-ahead log in `wal_dir`; both are made if missing.
    ///
    /// # Errors
    /// I/O, and a write-ahead log of a later version. A damaged block is no error: it is set aside, counted, and named
    /// in the answers that may lack its rows.
    pub fn open(
        dir: &Path,
        wal_dir: &Path,
        options: Options,
        clock: Clock,
        telemetry: &Telemetry,
        ledger: Ledger,
        cpu: CpuPool,
    ) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
        let metrics = Metrics::new(telemetry);
        let pages = metrics.page_cache(options.page_cache_bytes_max);
        let cache = Arc::new(Cache::new(options.cache_bytes_max, pages, metrics.corrupt_blocks.clone()));
        let found = open_blocks(dir, &cache, &metrics)?;
        let deletes = Deletes::open(dir)?;
        let next_sequence = found.next_sequence.max(deletes.last_sequence() + 1);
        let of_blocks = found.blocks.iter().map(|block| block.meta().wal_before);
        let first_segment = of_blocks.chain([deletes.wal_before()]).max().unwrap_or(1).max(1);
        let head = Arc::new(Head::owning());
        let recent = Recent::new(options.recent_batches);
        let wal = open_wal(wal_dir, SegmentId(first_segment), &options, &metrics, &head, &recent)?;
        let store = Self {
            dir: dir.to_owned(),
            tail: broadcast::channel(options.tail_batches.max(1)).0,
            options,
            clock,
            ledger,
            cpu,
            metrics,
            wal,
            packers: Packers::default(),
            recent,
            cache,
            gate: RwLock::new(()),
            state: RwLock::new(State {
                head,
                frozen: None,
                blocks: found.blocks,
                deletes: Arc::new(deletes),
                damaged: found.damaged,
            }),
            work: Mutex::new(next_sequence),
            barred: Mutex::default(),
            arriving_bytes: AtomicU64::new(0),
            gauges: Mutex::default(),
            room: Room::default(),
            is_closed: AtomicBool::new(false),
        };
        store.update_gauges();
        Ok(store)
    }

    /// Returns the memory of records that are not in a block yet.
    #[must_use]
    pub fn head_bytes(&self) -> u64 {
        let state = self.state.read();
        state.head.stats().size_bytes + state.frozen.as_ref().map_or(0, |frozen| frozen.head.stats().size_bytes)
    }

    /// Says whether a flush is due: the head has reached half of its budget, or a flush failed before.
    #[must_use]
    pub fn should_flush(&self) -> bool {
        let state = self.state.read();
        state.frozen.is_some() || state.head.stats().size_bytes >= self.options.head_bytes_max / 2
    }

    /// Returns what the store holds.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let state = self.state.read().clone();
        let heads = [Some(state.head.stats()), state.frozen.as_ref().map(|frozen| frozen.head.stats())];
        let sum = |of: fn(&Block) -> u64| state.blocks.iter().map(|block| of(block)).sum();
        StoreStats {
            head_bytes: heads.iter().flatten().map(|stats| stats.size_bytes).sum(),
            head_records: heads.iter().flatten().map(|stats| stats.records).sum(),
            blocks: state.blocks.len() as u64,
            block_bytes: sum(|block| block.meta().size_bytes()),
            block_records: sum(|block| block.meta().rows),
            damaged_blocks: state.damaged.len() as u64,
            wal_bytes: self.wal.size_bytes(),
        }
    }

    /// Loads the indexes, footers and counts of blocks that are new since the last time, the newest first, so that the first
    /// query need not: as far as they fit into their cache without pushing anything out, until `is_stopped` says so.
    pub fn warm(&self, is_stopped: &dyn Fn() -> bool) {
        let mut blocks = self.state.read().blocks.clone();
        blocks.sort_by_key(|block| std::cmp::Reverse(block.meta().max_timestamp));
        for block in blocks.iter().filter(|block| !block.is_warm()) {
            if is_stopped() {
                return;
            }
            block.warm();
        }
    }

    /// Refuses appends from now on. What was acknowledged is on disk; reading goes on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.close();
        self.wal.close();
    }

    /// Shows what appends change.
    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles; sizes stay far below 2^53")]
    pub(crate) fn update_head_gauges(&self) {
        // Looked up and set by one at a time: the last one to come shows what all before it did.
        let _gauges = self.gauges.lock();
        let (head, frozen) = {
            let state = self.state.read();
            (state.head.stats(), state.frozen.as_ref().map(|frozen| frozen.head.stats()).unwrap_or_default())
        };
        self.metrics.head_bytes.set((head.size_bytes + frozen.size_bytes) as f64);
        self.metrics.head_records.set((head.records + frozen.records) as f64);
        self.metrics.head_streams.set(head.streams.max(frozen.streams) as f64);
        self.metrics.wal_bytes.set(self.wal.size_bytes() as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are doubles; sizes stay far below 2^53")]
    pub(crate) fn update_gauges(&self) {
        self.update_head_gauges();
        let stats = self.stats();
        self.metrics.blocks.set(stats.blocks as f64);
        self.metrics.block_bytes.set(stats.block_bytes as f64);
        self.metrics.block_records.set(stats.block_records as f64);
        let state = self.state.read().clone();
        let hidden: u64 = state.blocks.iter().map(|block| state.deletes.rows_of(block.meta().sequence)).sum();
        self.metrics.hidden_records.set(hidden as f64);
        self.metrics.cache_bytes.set(self.cache.size_bytes() as f64);
        self.metrics.page_cache_bytes.set(self.cache.pages.size_bytes() as f64);
    }
}

/// Turns an error of the log into ours.
pub(crate) fn wal_error(error: storage_wal::Error) -> Error {
    use storage_wal::Error as Wal;
    match error {
        Wal::DiskFull { attempt, path, .. } => Error::DiskFull { attempt: format!("{attempt} {}", path.display()) },
        Wal::Io { attempt, path, source } => Error::io(attempt, path, source),
        Wal::Poisoned { reason } => Error::Poisoned { reason },
        Wal::Closed => Error::Closed,
        error => Error::Invalid(error.to_string()),
    }
}

/// Carries our error out of a replay.
struct ReplayError(Error);

impl From<storage_wal::Error> for ReplayError {
    fn from(error: storage_wal::Error) -> Self {
        Self(wal_error(error))
    }
}

fn open_wal(
    dir: &Path,
    first_segment: SegmentId,
    options: &Options,
    metrics: &Metrics,
    head: &Head,
    recent: &Recent,
) -> Result<Wal> {
    let (sync, records) = (metrics.wal_sync.clone(), metrics.wal_records.clone());
    let wal_options = storage_wal::Options {
        first_segment,
        faults: options.wal_faults.clone(),
        observer: Some(storage_wal::Observer::new(move |commit| {
            sync.observe(commit.sync.as_secs_f64());
            records.inc_by(commit.records);
        })),
        ..storage_wal::Options::default()
    };
    let mut malformed = 0_u64;
    let opened = Wal::open::<ReplayError>(dir, wal_options, &mut |segment, bytes| {
        let applied = read_entry(&Bytes::copy_from_slice(bytes)).and_then(|entry| match entry {
            Entry::Checkpoint { batches, is_whole: true } => {
                recent.replace(batches);
                Ok(())
            }
            Entry::Checkpoint { batches, is_whole: false } => {
                for batch in batches {
                    recent.restore(batch);
                }
                Ok(())
            }
            Entry::Batch(batch) if recent.restore(batch.remembered(batch.arrival)) => head.apply(&batch),
            Entry::Batch(_) => Ok(()),
        });
        if let Err(error) = applied {
            malformed += 1;
            tracing::error!(%segment, expected = error.0, "a batch in the write-ahead log cannot be decoded");
        }
        Ok(())
    });
    let (wal, report) = opened.map_err(|error| error.0)?;
    metrics.wal_corrupt.inc_by(report.corrupt_gaps + malformed);
    for damage in &report.damage {
        tracing::error!(
            segment = %damage.segment, offset = damage.offset, bytes = damage.bytes,
            "the logs' write-ahead log is damaged, at least one acknowledged batch is lost"
        );
    }
    Ok(wal)
}

struct FoundBlocks {
    blocks: Vec<Arc<Block>>,
    damaged: Vec<String>,
    next_sequence: u64,
}

/// Opens the blocks; removes those whose rows are in another one, and sets damaged ones aside.
fn open_blocks(dir: &Path, cache: &Arc<Cache>, metrics: &Metrics) -> Result<FoundBlocks> {
    let sequences = list(dir)?;
    let mut damaged = list_damaged(dir)?;
    let mut next_sequence = 1;
    let last = |name: &String| Sequence::parse(name.strip_prefix(DAMAGED_PREFIX)?).map(|sequence| sequence.last);
    next_sequence = damaged.iter().filter_map(last).chain([next_sequence - 1]).max().unwrap_or(0) + 1;
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    let mut faulty = Vec::new();
    for sequence in &sequences {
        next_sequence = next_sequence.max(sequence.last + 1);
        let path = dir.join(sequence.to_string());
        match Block::open(&path, cache) {
            Ok(block) => blocks.push(Arc::new(block)),
            Err(error @ (Error::Corrupt { .. } | Error::Io { .. })) => faulty.push((*sequence, error)),
            Err(error) => return Err(error),
        }
    }
    let covers: Vec<Sequence> = blocks.iter().map(|block| block.meta().sequence).collect();
    for (sequence, error) in faulty {
        let path = dir.join(sequence.to_string());
        if covers.iter().any(|other| *other != sequence && other.covers(sequence)) {
            // What a crash left while it was removed, most likely. Its rows are in the other one.
            remove_block(&path)?;
            continue;
        }
        metrics.corrupt_blocks.count(Damage::Files);
        tracing::error!(%error, block = %path.display(), "a block is damaged and is set aside");
        damaged.push(set_aside(dir, sequence)?);
    }
    blocks.retain(|block| {
        let mine = block.meta().sequence;
        let is_covered = covers.iter().any(|other| *other != mine && other.covers(mine));
        if is_covered {
            block.remove_on_drop();
        }
        !is_covered
    });
    Ok(FoundBlocks { blocks, damaged, next_sequence })
}

fn list_damaged(dir: &Path) -> Result<Vec<String>> {
    let listing = |source| Error::io("listing", dir, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(listing)? {
        let name = entry.map_err(listing)?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with(DAMAGED_PREFIX)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn set_aside(dir: &Path, sequence: Sequence) -> Result<String> {
    let name = format!("{DAMAGED_PREFIX}{sequence}");
    let (from, to) = (dir.join(sequence.to_string()), dir.join(&name));
    fs::rename(&from, &to).map_err(|source| Error::io("setting aside", &from, source))?;
    sync_dir(dir)?;
    Ok(name)
}
