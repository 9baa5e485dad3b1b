//! The disk buffer: a queue of encoded requests on top of the write-ahead log.
//!
//! A record of the log is `version: u8, seq: u64, items: u32, meta length: u32, meta, request`, little-endian. `seq` grows
//! by one with each record and never restarts, so the acknowledged part is one number, kept in the file `acked`. `meta` is
//! what the input must remember once the request is durable (how far it has read); it is stored in the same record, so
//! that neither can be there without the other.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime::{Ledger, Signal};
use storage_wal::{Options, Position, SegmentId, Wal};
use tokio::sync::Notify;

use crate::error::{Error, Result, state};
use crate::stats::Stats;

/// Version of the record's layout.
const VERSION: u8 = 1;
/// Bytes before meta.
const HEADER_BYTES: usize = 1 + 8 + 4 + 4;
/// Largest record: four megabytes of lines, their attributes and the read positions, with unfinished lines in them whose
/// every byte may be escaped.
const RECORD_BYTES_MAX: u32 = 48 << 20;
/// Bytes of requests kept in memory for sending; what does not fit is read back from disk when its turn comes.
const WINDOW_BYTES: usize = 8 << 20;
/// Time between two logged failures to write.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// Parts that the space is given back in.
const SEGMENTS: u64 = 32;

/// A request that waits to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its place in the order.
    pub(crate) seq: u64,
    /// Records or samples in it.
    pub(crate) items: u32,
    /// The encoded request.
    pub(crate) request: Bytes,
}

/// What became of a request that was handed to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// It is durable.
    Stored,
    /// There is no room.
    Full,
    /// The disk refused it; it may be handed over again.
    Failed,
}

/// A bounded queue on disk for one signal. Blocks on disk I/O: call it from blocking tasks.
#[derive(Debug)]
pub(crate) struct Queue {
    dir: PathBuf,
    signal: Signal,
    bytes_max: u64,
    ledger: Ledger,
    stats: Stats,
    inner: Mutex<Inner>,
    /// Rung when a request was added.
    pub(crate) ready: Notify,
    /// Rung when room was made.
    pub(crate) space: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` after a failed write, until it was opened anew.
    wal: Option<Wal>,
    segments: BTreeMap<SegmentId, Span>,
    next_seq: u64,
    acked: u64,
    /// The last request that is, or was, in the window.
    loaded: u64,
    window: VecDeque<Entry>,
    window_bytes: usize,
    /// Where reading back goes on.
    read_from: Position,
    /// When a failed write was logged last.
    logged: Option<Instant>,
}

/// The requests of one segment, both ends included.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
}

struct Header<'a> {
    seq: u64,
    items: u32,
    meta: &'a [u8],
    request: &'a [u8],
}

fn parse(record: &[u8]) -> Option<Header<'_>> {
    let (head, rest) = record.split_at_checked(HEADER_BYTES)?;
    let (version, head) = head.split_first()?;
    let (seq, head) = head.split_first_chunk::<8>()?;
    let (items, head) = head.split_first_chunk::<4>()?;
    let (meta, _) = head.split_first_chunk::<4>()?;
    let (meta, request) = rest.split_at_checked(u32::from_le_bytes(*meta) as usize)?;
    (*version == VERSION).then_some(Header {
        seq: u64::from_le_bytes(*seq),
        items: u32::from_le_bytes(*items),
        meta,
        request,
    })
}

fn frame(seq: u64, items: u32, meta: &[u8], request: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + meta.len() + request.len());
    record.push(VERSION);
    record.extend_from_slice(&seq.to_le_bytes());
    record.extend_from_slice(&items.to_le_bytes());
    record.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(meta);
    record.extend_from_slice(request);
    record
}

/// How a queue is opened.
#[derive(Debug)]
pub(crate) struct QueueOptions {
    pub(crate) dir: PathBuf,
    pub(crate) signal: Signal,
    pub(crate) bytes_max: u64,
    /// The last number given out as far as the checkpoints know; numbering goes on behind it.
    pub(crate) seq_floor: u64,
}

impl Queue {
    /// Opens the queue and hands each record's number and meta to `replay`, oldest first.
    ///
    /// # Errors
    /// When the directory or the log in it cannot be used.
    pub(crate) fn open(
        options: QueueOptions,
        ledger: &Ledger,
        stats: &Stats,
        replay: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<Arc<Self>> {
        let QueueOptions { dir, signal, bytes_max, seq_floor } = options;
        std::fs::create_dir_all(&dir).map_err(state("create", &dir))?;
        let acked = read_acked(&dir)?;
        let queue = Self {
            dir,
            signal,
            bytes_max,
            ledger: ledger.clone(),
            stats: stats.clone(),
            inner: Mutex::new(Inner::default()),
            ready: Notify::new(),
            space: Notify::new(),
        };
        let mut inner = queue.open_log(replay)?;
        inner.next_seq = inner.next_seq.max(seq_floor + 1).max(acked + 1);
        inner.acked = acked;
        inner.loaded = acked;
        inner.skip_removed();
        *queue.inner.lock() = inner;
        queue.show(&queue.inner.lock());
        Ok(Arc::new(queue))
    }

    fn open_log(&self, replay: &mut dyn FnMut(u64, &[u8])) -> Result<Inner> {
        let mut segments: BTreeMap<SegmentId, Span> = BTreeMap::new();
        let mut next_seq = 1;
        let mut bad = 0;
        let options = Options {
            segment_bytes_max: (self.bytes_max / SEGMENTS).max(128 << 10),
            record_bytes_max: RECORD_BYTES_MAX,
            ..Options::default()
        };
        let mut each = |segment, record: &[u8]| {
            match parse(record) {
                Some(header) => {
                    let span = Span { first: header.seq, last: header.seq };
                    segments.entry(segment).or_insert(span).last = header.seq;
                    next_seq = header.seq + 1;
                    replay(header.seq, header.meta);
                }
                None => bad += 1,
            }
            Ok(())
        };
        let (wal, report) = Wal::open::<storage_wal::Error>(&self.dir.join("wal"), options, &mut each)
            .map_err(|source| Error::Buffer { path: self.dir.clone(), source })?;
        if bad > 0 {
            tracing::error!(records = bad, dir = %self.dir.display(), "records of the buffer are of an unknown form");
            self.ledger.dropped("agent_sender", self.signal, "buffer_damaged", bad);
        }
        if !report.damage.is_empty() {
            tracing::warn!(?report, dir = %self.dir.display(), "damaged parts of the buffer are skipped");
        }
        tracing::debug!(?report, signal = self.signal.as_str(), "buffer opened");
        Ok(Inner { wal: Some(wal), segments, next_seq, ..Inner::default() })
    }

    /// Stores a request; `on_stored` runs before any later request is stored.
    pub(crate) fn push(&self, items: u32, meta: &[u8], request: &[u8], on_stored: impl FnOnce(u64)) -> Push {
        let mut inner = self.inner.lock();
        if inner.wal.is_none() && !self.reopen(&mut inner) {
            return Push::Failed;
        }
        let seq = inner.next_seq;
        let record = frame(seq, items, meta, request);
        if inner.size_bytes() + record.len() as u64 > self.bytes_max {
            self.trim_locked(&mut inner);
            if inner.acked + 1 == inner.next_seq {
                self.empty_locked(&mut inner);
            }
            if inner.size_bytes() + record.len() as u64 > self.bytes_max {
                return Push::Full;
            }
        }
        let appended = match inner.wal.as_mut() {
            Some(wal) => wal.append(&record),
            None => return Push::Failed,
        };
        match appended {
            Ok(segment) => {
                inner.segments.entry(segment).or_insert(Span { first: seq, last: seq }).last = seq;
                inner.next_seq = seq + 1;
                if inner.loaded + 1 == seq && inner.window_bytes + request.len() <= WINDOW_BYTES {
                    let entry = Entry { seq, items, request: Bytes::copy_from_slice(request) };
                    inner.take_in(entry);
                }
                on_stored(seq);
                self.show(&inner);
                drop(inner);
                self.ready.notify_one();
                Push::Stored
            }
            Err(error) => {
                if inner.logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
                    tracing::error!(%error, dir = %self.dir.display(), "could not write to the buffer, trying again");
                    inner.logged = Some(Instant::now());
                }
                self.stats.buffer_errors.with(&[self.signal.as_str()]).inc();
                if matches!(error, storage_wal::Error::DiskFull { .. } | storage_wal::Error::RecordTooLarge { .. }) {
                    return Push::Failed;
                }
                // The log refuses all further writes. Whether this record is in it is known after opening it anew.
                inner.wal = None;
                if self.reopen(&mut inner) && inner.next_seq > seq {
                    on_stored(seq);
                    return Push::Stored;
                }
                Push::Failed
            }
        }
    }

    /// Opens the log again after a failed write. What is in the window stays.
    fn reopen(&self, inner: &mut Inner) -> bool {
        match self.open_log(&mut |_, _| {}) {
            Ok(fresh) => {
                inner.wal = fresh.wal;
                inner.segments = fresh.segments;
                inner.next_seq = inner.next_seq.max(fresh.next_seq);
                inner.read_from = Position::default();
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the buffer cannot be opened again yet");
                false
            }
        }
    }

    /// Returns the oldest request that is not acknowledged; `None` when there is none. Reads the disk at times.
    pub(crate) fn front(&self) -> Option<Entry> {
        let mut inner = self.inner.lock();
        if inner.window.is_empty() {
            self.refill(&mut inner);
            if inner.window.is_empty() && inner.loaded + 1 == inner.next_seq {
                // Whatever is left could not be read, and was counted.
                inner.acked = inner.loaded;
            }
        }
        inner.window.front().cloned()
    }

    /// Takes note that the request `seq` and all before it need not be sent again.
    pub(crate) fn ack(&self, seq: u64) {
        let mut inner = self.inner.lock();
        while inner.window.front().is_some_and(|entry| entry.seq <= seq) {
            if let Some(entry) = inner.window.pop_front() {
                inner.window_bytes -= entry.request.len();
            }
        }
        inner.acked = inner.acked.max(seq);
        inner.loaded = inner.loaded.max(seq);
        // A crash of the machine may lose this file's last change: then the requests since are sent again, byte by byte.
        if let Err(error) = write_acked(&self.dir, inner.acked) {
            tracing::warn!(%error, dir = %self.dir.display(), "could not note what was acknowledged");
        }
        self.show(&inner);
    }

    /// Says whether [`trim`](Self::trim) would give back space.
    pub(crate) fn can_trim(&self) -> bool {
        let inner = self.inner.lock();
        inner.removable().is_some()
    }

    /// Gives back the space of acknowledged requests. Read positions up to there must be saved before.
    pub(crate) fn trim(&self) {
        self.trim_locked(&mut self.inner.lock());
        self.space.notify_waiters();
    }

    fn trim_locked(&self, inner: &mut Inner) {
        let Some(keep) = inner.removable() else { return };
        let Some(wal) = inner.wal.as_mut() else { return };
        if let Err(error) = wal.remove_before(keep) {
            tracing::warn!(%error, dir = %self.dir.display(), "could not remove sent parts of the buffer");
            return;
        }
        inner.segments = inner.segments.split_off(&keep);
        self.show(inner);
    }

    /// Gives back the newest segment too, in which nothing waits any more.
    fn empty_locked(&self, inner: &mut Inner) {
        let Some(wal) = inner.wal.as_ref() else { return };
        match wal.cut().and_then(|id| wal.remove_before(id)) {
            Ok(_) => inner.segments.clear(),
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "could not remove sent parts of the buffer")
            }
        }
    }

    /// Returns how many requests wait.
    pub(crate) fn len(&self) -> u64 {
        let inner = self.inner.lock();
        inner.next_seq - 1 - inner.acked
    }

    fn show(&self, inner: &Inner) {
        let signal = self.signal.as_str();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        {
            self.stats.buffer_bytes.with(&[signal]).set(inner.size_bytes() as f64);
            self.stats.buffer_batches.with(&[signal]).set((inner.next_seq - 1 - inner.acked) as f64);
        }
    }

    /// Reads requests from disk into the empty window.
    fn refill(&self, inner: &mut Inner) {
        let want = inner.loaded + 1;
        if want >= inner.next_seq {
            return;
        }
        let Some(wal) = inner.wal.as_ref() else { return };
        let Some((segment, _)) = inner.segments.iter().find(|(_, span)| span.last >= want) else {
            inner.loaded = inner.next_seq - 1;
            return;
        };
        let from = inner.read_from.max(Position { segment: *segment, offset: 0 });
        let (mut taken, mut bytes, mut loaded, mut lost) = (Vec::new(), 0, inner.loaded, 0);
        let next_seq = inner.next_seq;
        let read = wal.read(from, &mut |_, record| {
            let Some(header) = parse(record) else { return ControlFlow::Continue(()) };
            if header.seq <= loaded || header.seq >= next_seq {
                return ControlFlow::Continue(());
            }
            lost += header.seq - loaded - 1;
            loaded = header.seq;
            bytes += header.request.len();
            let request = Bytes::copy_from_slice(header.request);
            taken.push(Entry { seq: header.seq, items: header.items, request });
            if bytes >= WINDOW_BYTES / 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match read {
            Ok(position) => {
                inner.read_from = position;
                if taken.is_empty() {
                    lost += inner.next_seq - 1 - loaded;
                    inner.loaded = inner.next_seq - 1;
                }
            }
            // Tried again with the next look; what was read is good.
            Err(error) => {
                tracing::error!(%error, dir = %self.dir.display(), "could not read the buffer");
                self.stats.buffer_errors.with(&[self.signal.as_str()]).inc();
            }
        }
        if lost > 0 {
            tracing::error!(batches = lost, dir = %self.dir.display(), "batches of the buffer are damaged and lost");
            self.ledger.received("agent_sender", self.signal, lost);
            self.ledger.dropped("agent_sender", self.signal, "buffer_damaged", lost);
        }
        for entry in taken {
            inner.take_in(entry);
        }
    }
}

impl Inner {
    fn size_bytes(&self) -> u64 {
        self.wal.as_ref().map_or(0, Wal::size_bytes)
    }

    fn take_in(&mut self, entry: Entry) {
        self.loaded = entry.seq;
        self.window_bytes += entry.request.len();
        self.window.push_back(entry);
    }

    /// Goes on at the first request that is on disk, when those before it are gone.
    fn skip_removed(&mut self) {
        let next = self.segments.values().find(|span| span.last > self.loaded);
        self.loaded = match next {
            Some(span) => self.loaded.max(span.first.saturating_sub(1)),
            None => self.next_seq - 1,
        };
        if self.window.is_empty() && self.acked < self.loaded && next_is_gap(self.acked, &self.segments) {
            self.acked = self.loaded;
        }
    }

    /// Returns the oldest segment that must stay, when one before it need not.
    fn removable(&self) -> Option<SegmentId> {
        let newest = self.segments.keys().next_back()?;
        let keep = self.segments.iter().find(|(_, span)| span.last > self.acked).map_or(newest, |(id, _)| id);
        (self.segments.keys().next()? < keep).then_some(*keep)
    }
}

/// Says whether no segment holds the request behind `acked`.
fn next_is_gap(acked: u64, segments: &BTreeMap<SegmentId, Span>) -> bool {
    !segments.values().any(|span| span.first <= acked + 1 && acked < span.last)
}

fn read_acked(dir: &Path) -> Result<u64> {
    let path = dir.join("acked");
    match std::fs::read_to_string(&path) {
        // A torn file cannot come about by rename; if it does, all is sent again rather than something never.
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(state("read", &path)(error)),
    }
}

fn write_acked(dir: &Path, seq: u64) -> std::io::Result<()> {
    let temporary = dir.join("acked.tmp");
    std::fs::write(&temporary, format!("{seq}\n"))?;
    std::fs::rename(&temporary, dir.join("acked"))
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
