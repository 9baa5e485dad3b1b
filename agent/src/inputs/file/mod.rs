//! Follows log files: finds them by patterns, reads what is new, keeps up with rotation, remembers how far it is.
//!
//! A file is known by device and inode, and by hashes of its beginning and of what was read last, so that an inode used
//! again is a new file. Positions advance in the same record of the buffer that holds the lines, so a line is in the
//! buffer exactly when it will not be read again. When the buffer is full nothing is read: the files are the buffer.

mod discover;
mod frame;
pub(crate) mod glob;
mod mark;
mod origin;
pub(crate) mod shape;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use runtime::{Clock, Ledger, Shutdown};

use self::glob::Glob;
use self::tail::{PLACE, Shared, Tailed, Turn};
use super::{Encoded, LogSink};
use crate::buffer::Push;
use crate::checkpoint::{Delta, FileMark};
use crate::config::{BufferConfig, FileConfig};
use crate::error::Result;
use crate::otlp::Pairs;
use crate::stats::Stats;

/// Longest time of one round, so that a stop is noticed.
const ROUND_TIME: Duration = Duration::from_millis(200);
/// A file without change for so long is closed; a look for new files tells when it changes again.
const CLOSE_AFTER: Duration = Duration::from_mins(1);
/// Time between two looks whether the full buffer has room.
const BLOCKED_WAIT: Duration = Duration::from_millis(200);
/// Time between two saves of the positions; the buffer's records bring older ones up to date.
const SAVE_EVERY: Duration = Duration::from_secs(5);

type Key = (u64, u64);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// All was read.
    Idle,
    /// There is more to read.
    Busy,
    /// The buffer takes nothing.
    Blocked,
}

/// What the tailer needs.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) config: FileConfig,
    pub(crate) buffer: BufferConfig,
    pub(crate) sink: LogSink,
    pub(crate) clock: Clock,
    pub(crate) stats: Stats,
    pub(crate) ledger: Ledger,
    /// The host's attributes.
    pub(crate) base: Pairs,
    /// The settings' attributes, which win.
    pub(crate) extra: Pairs,
}

/// All followed files. Synchronous: its rounds run on blocking threads.
#[derive(Debug)]
pub(crate) struct Tailer {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    files: BTreeMap<Key, Tailed>,
    /// Positions of earlier starts whose files were not found yet.
    known: BTreeMap<Key, FileMark>,
    /// New files that look like a copy of a followed one, and how often they did.
    deferred: BTreeMap<Key, u32>,
    shared: Shared,
    sink: LogSink,
    clock: Clock,
    batch_wait: Duration,
    batch_since: Option<Instant>,
    /// Files whose positions changed since the last flush.
    touched: BTreeSet<Key>,
    /// Last positions of files that are followed no more.
    leaving: Vec<FileMark>,
    pending: Option<Encoded>,
    next_discovery: Instant,
    discovered: bool,
    first_start: bool,
    next_save: Instant,
    /// New files are to be remembered soon: renamed by then, they are found by their inode only.
    save_soon: bool,
    /// However soon, not before this.
    save_not_before: Instant,
    /// Where the next round begins.
    cursor: Option<Key>,
    open_count: usize,
    cannot_open: BTreeSet<Key>,
}

impl Tailer {
    /// Prepares reading from where the checkpoints are.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { config, buffer, sink, clock, stats, ledger, base, extra } = options;
        let globs = |patterns: &[String]| patterns.iter().map(|pattern| Glob::new(pattern)).collect::<Result<Vec<_>>>();
        let (include, exclude) = (globs(&config.include)?, globs(&config.exclude)?);
        let known: BTreeMap<_, _> =
            sink.checkpoints.files().into_iter().map(|mark| ((mark.dev, mark.ino), mark)).collect();
        let mut shared = Shared::new(config, buffer.batch_bytes, ledger, stats, (base, extra));
        shared.pieces_bytes = known.values().flat_map(|mark| &mark.pieces).map(|piece| piece.text.len()).sum();
        Ok(Self {
            include,
            exclude,
            files: BTreeMap::new(),
            first_start: sink.checkpoints.first_start(),
            known,
            deferred: BTreeMap::new(),
            shared,
            sink,
            clock,
            batch_wait: buffer.batch_wait,
            batch_since: None,
            touched: BTreeSet::new(),
            leaving: Vec::new(),
            pending: None,
            next_discovery: Instant::now(),
            discovered: false,
            // At once after the first look, which ends the first start.
            next_save: Instant::now(),
            save_soon: false,
            save_not_before: Instant::now(),
            cursor: None,
            open_count: 0,
            cannot_open: BTreeSet::new(),
        })
    }

    /// Reads until shutdown. Nothing is held in memory afterwards that was not stored or will be read again.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let poll = self.shared.config.poll_interval;
        let queue = std::sync::Arc::clone(&self.sink.queue);
        let stats = self.shared.stats.clone();
        let mut blocked = Duration::ZERO;
        loop {
            let stop = shutdown.started();
            let round = tokio::task::spawn_blocking(move || {
                let round = if stop { self.stop() } else { self.round() };
                (self, round)
            });
            let (tailer, round) = match round.await {
                Ok(done) => done,
                // Passed on, so that the agent stops rather than runs without its files.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return,
            };
            self = tailer;
            if stop {
                return;
            }
            match round {
                Round::Busy => {}
                Round::Idle => {
                    tokio::select! { () = tokio::time::sleep(poll) => {}, () = shutdown.wait() => {} }
                }
                Round::Blocked => {
                    let since = Instant::now();
                    tokio::select! {
                        () = tokio::time::sleep(BLOCKED_WAIT) => {}
                        () = queue.space.notified() => {}
                        () = shutdown.wait() => {}
                    }
                    blocked += since.elapsed();
                    stats.buffer_full_seconds.inc_by(blocked.as_secs());
                    blocked -= Duration::from_secs(blocked.as_secs());
                }
            }
        }
    }

    /// Stores what was read and saves the positions.
    fn stop(&mut self) -> Round {
        let round = if self.flush() { Round::Idle } else { Round::Blocked };
        self.save();
        round
    }

    fn round(&mut self) -> Round {
        self.shared.now = self.clock.now_nanos();
        if self.pending.is_some() && !self.flush() {
            return Round::Blocked;
        }
        if Instant::now() >= self.next_discovery {
            let began = Instant::now();
            self.discover();
            // The looking takes at most a twentieth of the time, however many files there are.
            let rest = self.shared.config.discover_interval.max(began.elapsed() * 20);
            self.next_discovery = Instant::now() + rest;
            self.show();
        }
        let round = self.read_files();
        let waited = self.batch_since.is_some_and(|since| since.elapsed() >= self.batch_wait);
        if waited && !self.flush() {
            return Round::Blocked;
        }
        let now = Instant::now();
        if now >= self.next_save || self.save_soon && now >= self.save_not_before {
            self.save();
        }
        round
    }

    fn read_files(&mut self) -> Round {
        let began = Instant::now();
        let mut round = Round::Idle;
        let after = self.cursor.take();
        let keys: Vec<Key> = {
            let wanting = |(key, file): (&Key, &Tailed)| {
                (file.file.is_some() || file.wants_to_read() || file.gone.is_some()).then_some(*key)
            };
            let (mut first, mut then) = (Vec::new(), Vec::new());
            for key in self.files.iter().filter_map(wanting) {
                if Some(key) > after { first.push(key) } else { then.push(key) }
            }
            first.append(&mut then);
            first
        };
        for key in keys {
            if began.elapsed() >= ROUND_TIME {
                return Round::Busy;
            }
            self.cursor = Some(key);
            match self.read_file(key) {
                Round::Blocked => return Round::Blocked,
                Round::Busy => round = Round::Busy,
                Round::Idle => {}
            }
        }
        self.cursor = None;
        round
    }

    fn read_file(&mut self, key: Key) -> Round {
        if !self.make_open(key) {
            return Round::Idle;
        }
        loop {
            let Some(file) = self.files.get_mut(&key) else { return Round::Idle };
            let before = (file.mark.offset, file.mark.skipping, file.mark.pieces.len());
            let turn = file.turn(&mut self.shared);
            if (file.mark.offset, file.mark.skipping, file.mark.pieces.len()) != before {
                self.touched.insert(key);
            }
            if !self.shared.batch.is_empty() {
                self.batch_since.get_or_insert_with(Instant::now);
            }
            if std::mem::take(&mut self.shared.truncation_seen) {
                // The copy, if there is one, takes over the position in the same record that says it is 0 here.
                self.discover();
                return Round::Busy;
            }
            match turn {
                Ok(Turn::AtEnd) => {
                    self.leave_or_close(key);
                    return Round::Idle;
                }
                Ok(Turn::More) => return Round::Busy,
                Ok(Turn::BatchFull) => {
                    if !self.flush() {
                        return Round::Blocked;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, path = %file.mark.path.display(), "could not read a file");
                    self.shared.stats.file_errors.with(&["read"]).inc();
                    self.close(key);
                    return Round::Idle;
                }
            }
        }
    }

    /// Opens the file unless it is, or unless too many are.
    fn make_open(&mut self, key: Key) -> bool {
        let Some(file) = self.files.get_mut(&key) else { return false };
        if file.file.is_some() {
            return true;
        }
        if self.open_count >= self.shared.config.open_files_max {
            let settled =
                self.files.iter().filter(|(_, file)| file.file.is_some() && file.settled() && file.gone.is_none());
            let Some(idle) = settled.min_by_key(|(_, file)| file.changed).map(|(key, _)| *key) else { return false };
            self.close(idle);
        }
        let Some(file) = self.files.get_mut(&key) else { return false };
        match file.open(&self.shared) {
            Ok(()) => {
                self.open_count += 1;
                self.cannot_open.remove(&key);
                true
            }
            Err(error) => {
                // Not found: it was renamed or deleted, which the next look for files sorts out.
                if error.kind() != std::io::ErrorKind::NotFound && self.cannot_open.insert(key) {
                    tracing::warn!(%error, path = %file.mark.path.display(), "could not open a file");
                    self.shared.stats.file_errors.with(&["open"]).inc();
                }
                false
            }
        }
    }

    fn close(&mut self, key: Key) {
        if let Some(file) = self.files.get_mut(&key)
            && file.close()
        {
            self.open_count -= 1;
        }
    }

    /// Ends following a file that is gone and was read; closes one that did not change for long.
    fn leave_or_close(&mut self, key: Key) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let Some(since) = file.gone else {
            if file.settled() && file.changed.elapsed() >= CLOSE_AFTER {
                self.close(key);
            }
            return;
        };
        if since.elapsed() < self.shared.config.rotate_wait {
            return;
        }
        if let Err(error) = file.finish(&mut self.shared) {
            tracing::warn!(%error, path = %file.mark.path.display(), "could not read the end of a rotated file");
            self.shared.stats.file_errors.with(&["read"]).inc();
        }
        if !self.shared.batch.is_empty() {
            self.batch_since.get_or_insert_with(Instant::now);
        }
        self.close(key);
        self.forget(key);
    }

    /// Follows a file no more.
    fn forget(&mut self, key: Key) {
        if let Some(file) = self.files.remove(&key) {
            self.touched.remove(&key);
            self.cannot_open.remove(&key);
            self.leaving.push(file.mark);
        }
    }

    fn marks(&self) -> Vec<FileMark> {
        let touched = self.touched.iter().filter_map(|key| self.files.get(key)).map(|file| file.mark.clone());
        self.leaving.iter().cloned().chain(touched).collect()
    }

    fn stored(&mut self) {
        self.touched.clear();
        self.save_soon = false;
        self.batch_since = None;
        self.forget_left();
    }

    fn forget_left(&mut self) {
        for mark in std::mem::take(&mut self.leaving) {
            if !self.files.contains_key(&(mark.dev, mark.ino)) {
                self.sink.checkpoints.remove((mark.dev, mark.ino));
            }
        }
    }

    /// Stores the batch; `false` when the buffer takes nothing now.
    fn flush(&mut self) -> bool {
        if self.pending.is_none() {
            if self.shared.batch.is_empty() {
                return true;
            }
            let delta = Delta { files: self.marks(), journal: None };
            self.pending = Some(Encoded::new(&mut self.shared.batch, delta));
        }
        if let Some(pending) = &self.pending
            && self.sink.push(PLACE, pending) != Push::Stored
        {
            return false;
        }
        self.pending = None;
        self.stored();
        true
    }

    /// Saves the positions, those too that changed without a record, such as after empty lines. Until then they are part
    /// of the next record: what one file's position says may rest on another's, as a copy's on its original's.
    fn save(&mut self) {
        let began = Instant::now();
        let settled = self.shared.batch.is_empty() && self.pending.is_none();
        if settled {
            for mark in self.marks() {
                self.sink.checkpoints.update(mark);
            }
            self.forget_left();
        }
        match self.sink.checkpoints.save() {
            Ok(()) if settled => self.stored(),
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "could not save checkpoints");
                self.shared.stats.file_errors.with(&["checkpoint"]).inc();
            }
        }
        // With very many files the saving takes at most a twentieth of the time.
        self.save_not_before = Instant::now() + began.elapsed() * 20;
        self.next_save = self.save_not_before.max(Instant::now() + SAVE_EVERY);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    fn show(&self) {
        let stats = &self.shared.stats;
        let lag: u64 = self.files.values().map(|file| file.size.saturating_sub(file.mark.offset)).sum();
        stats.lag_bytes.with(&["file"]).set(lag as f64);
        stats.open_files.set(self.open_count as f64);
        stats.known_files.set(self.files.len() as f64);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
