//! The log: group commit over the segment files.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::files::{Files, segment_path};
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES};
use crate::reader::{SegmentReader, Step};
use crate::replay::{Replay, Replayed, replay_dir};
use crate::{Error, Faults, ReplayReport, Result};

/// Longest record that [`Options::record_bytes_max`] may allow.
pub const RECORD_BYTES_LIMIT: u32 = 1 << 30;

/// A group's buffer is given back to the allocator when it grew beyond this.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// The number of a segment; later ones are greater, and no number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Returns the id after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// Bytes from its start; 0 for its first record.
    pub offset: u64,
}

/// What one group commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Records that shared the fsync.
    pub records: u64,
    /// Bytes written, headers included.
    pub bytes: u64,
    /// How long the fsync took.
    pub sync: Duration,
}

/// Is told about each commit, by the thread that did it.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Commit) + Send + Sync>);

impl Observer {
    /// Makes an observer from a quick function that does not block.
    pub fn new(observe: impl Fn(Commit) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that reached this size is followed by a new one; one group of records may reach beyond.
    pub segment_bytes_max: u64,
    /// Longest record; at most [`RECORD_BYTES_LIMIT`].
    pub record_bytes_max: u32,
    /// Segments before this one are not needed any more: they are removed at open and not replayed. New segments get
    /// this id or a later one, even when the directory is empty.
    pub first_segment: SegmentId,
    /// Is told about each commit.
    pub observer: Option<Observer>,
    /// Failures on demand, for tests.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 << 20,
            record_bytes_max: 64 << 20,
            first_segment: SegmentId(1),
            observer: None,
            faults: Faults::default(),
        }
    }
}

/// One segment, as [`Wal::segments`] lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id.
    pub id: SegmentId,
    /// Its size, headers included.
    pub size_bytes: u64,
    /// Its intact records.
    pub records: u64,
}

/// A write-ahead log in a directory of its own. Share it by `Arc`; every call blocks on the disk.
#[derive(Debug)]
pub struct Wal {
    options: Options,
    /// Guards the group that gathers. Never held during I/O. Order: before `files` is taken, `queue` is released.
    queue: Mutex<Queue>,
    /// Wakes those who wait for their group, or to lead the next.
    turn: Condvar,
    /// Guards the files; held by the leader while it writes and syncs.
    files: Mutex<Files>,
    size_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    gathering: Group,
    /// A leader is writing.
    is_writing: bool,
    is_closed: bool,
    /// An empty buffer of an earlier group.
    spare: Vec<u8>,
}

/// Records that will share one write and one fsync.
#[derive(Debug, Default)]
struct Group {
    /// Records with room for their headers, which need the place that only the leader knows.
    buffer: Vec<u8>,
    payload_crcs: Vec<(u32, u32)>,
    outcome: Arc<OnceLock<Result<SegmentId>>>,
}

impl Group {
    fn push(&mut self, record: &[u8], length: u32, crc: u32) {
        self.buffer.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        self.buffer.extend_from_slice(record);
        self.payload_crcs.push((length, crc));
    }

    /// Fills in the headers for a group that is written at `offset`.
    fn seal(&mut self, segment: SegmentId, offset: u64) {
        let mut at = 0;
        for (length, payload_crc) in &self.payload_crcs {
            let header = RecordHeader { length: *length, payload_crc: *payload_crc };
            let header = header.encode(segment, offset + at as u64);
            if let Some(room) = self.buffer.get_mut(at..at + RECORD_HEADER_BYTES) {
                room.copy_from_slice(&header);
            }
            at += RECORD_HEADER_BYTES + *length as usize;
        }
    }
}

impl Wal {
    /// Opens the log in `dir`, which is made if missing. Hands each intact record to `replay`, oldest first, one in
    /// memory at a time, and cuts a torn record off the end. Damage elsewhere is skipped and reported, and no reason
    /// to fail.
    ///
    /// # Errors
    /// I/O, a segment of a later version, and whatever `replay` returns, which stops the replay at once.
    pub fn open<E: From<Error>>(
        dir: &Path,
        options: Options,
        replay: Replay<'_, E>,
    ) -> Result<(Self, ReplayReport), E> {
        let Replayed { segments, report, next } = replay_dir(dir, options.first_segment, replay)?;
        let files = Files::new(dir, segments, next, options.faults.clone());
        let wal = Self {
            size_bytes: AtomicU64::new(files.size_bytes()),
            queue: Mutex::default(),
            turn: Condvar::new(),
            files: Mutex::new(files),
            options,
        };
        Ok((wal, report))
    }

    /// Appends `record` and returns when it is on disk (fsynced), with the segment it lies in. Calls that come while
    /// another one waits for the disk share the next write and fsync.
    ///
    /// # Errors
    /// [`Error::DiskFull`] (nothing was kept; try again when there is space), [`Error::Poisoned`] after a failed fsync,
    /// [`Error::RecordTooLarge`], [`Error::Closed`], [`Error::Io`].
    pub fn append(&self, record: &[u8]) -> Result<SegmentId> {
        let limit = self.options.record_bytes_max.min(RECORD_BYTES_LIMIT);
        let length = u32::try_from(record.len()).ok().filter(|length| *length <= limit);
        let Some(length) = length else {
            return Err(Error::RecordTooLarge { size_bytes: record.len() as u64, limit_bytes: u64::from(limit) });
        };
        let crc = crc32c::crc32c(record);
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return Err(Error::Closed);
        }
        queue.gathering.push(record, length, crc);
        let outcome = Arc::clone(&queue.gathering.outcome);
        loop {
            if let Some(outcome) = outcome.get() {
                return outcome.as_ref().map(|id| *id).map_err(Error::share);
            }
            if queue.is_writing {
                self.turn.wait(&mut queue);
                continue;
            }
            queue.is_writing = true;
            let spare = std::mem::take(&mut queue.spare);
            let mut group = std::mem::replace(&mut queue.gathering, Group { buffer: spare, ..Group::default() });
            drop(queue);
            let result = self.commit(&mut group);
            queue = self.queue.lock();
            queue.is_writing = false;
            if group.buffer.capacity() <= BUFFER_KEPT_BYTES {
                group.buffer.clear();
                queue.spare = group.buffer;
            }
            // Only the leader of a group sets its outcome, and a group has one leader.
            drop(group.outcome.set(result));
            self.turn.notify_all();
        }
    }

    fn commit(&self, group: &mut Group) -> Result<SegmentId> {
        let mut files = self.files.lock();
        let size = group.buffer.len() as u64;
        let (segment, offset) = files.open_for_append(size, self.options.segment_bytes_max)?;
        group.seal(segment, offset);
        let records = group.payload_crcs.len() as u64;
        let sync = files.write(&group.buffer, records)?;
        self.size_bytes.store(files.size_bytes(), Ordering::Relaxed);
        drop(files);
        if let Some(Observer(observe)) = &self.options.observer {
            observe(Commit { records, bytes: size, sync });
        }
        Ok(segment)
    }

    /// Starts a new segment and returns its id. Every record whose append returned before lies in a segment below it.
    /// Without a record since the last cut, the same id is returned again.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn cut(&self) -> Result<SegmentId> {
        let mut files = self.files.lock();
        files.check()?;
        let id = files.cut()?;
        self.size_bytes.store(files.size_bytes(), Ordering::Relaxed);
        Ok(id)
    }

    /// Removes the segments before `id` and returns how many there were. The newest one always stays.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be removed; those before it are gone.
    pub fn remove_before(&self, id: SegmentId) -> Result<u64> {
        let mut files = self.files.lock();
        let removed = files.remove_before(id);
        self.size_bytes.store(files.size_bytes(), Ordering::Relaxed);
        removed
    }

    /// Reads durable records from `from` on, oldest first, one in memory at a time, until `each` breaks or none is
    /// left. Returns where to go on. Damaged places are skipped; segments that were removed, too.
    ///
    /// `each` gets the position after the record and its payload.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&self, from: Position, each: &mut dyn FnMut(Position, &[u8]) -> ControlFlow<()>) -> Result<Position> {
        let (dir, segments) = {
            let files = self.files.lock();
            let segments: Vec<_> = files.segments().range(from.segment..).map(|(id, file)| (*id, *file)).collect();
            (files.dir().to_owned(), segments)
        };
        let mut at = from;
        let mut payload = Vec::new();
        for (id, segment) in segments {
            let path = segment_path(&dir, id);
            let reading = |source| Error::io("reading", &path, source);
            let file = match std::fs::File::open(&path) {
                Ok(file) => file,
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(reading(source)),
            };
            let offset = if id == from.segment { from.offset } else { 0 };
            let offset = offset.max(SEGMENT_HEADER_BYTES as u64);
            let mut reader = SegmentReader::new(file, id, offset, segment.size_bytes).map_err(reading)?;
            loop {
                let step = reader.next(&mut payload).map_err(reading)?;
                at = Position { segment: id, offset: reader.offset() };
                match step {
                    Step::Record if each(at, &payload).is_break() => return Ok(at),
                    Step::Record | Step::Gap(_) => {}
                    Step::End => break,
                }
            }
        }
        Ok(at)
    }

    /// Returns the size of all segments in bytes, without waiting for the disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Returns the segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let files = self.files.lock();
        let info = |(id, file): (&SegmentId, &crate::files::SegmentFile)| SegmentInfo {
            id: *id,
            size_bytes: file.size_bytes,
            records: file.records,
        };
        files.segments().iter().map(info).collect()
    }

    /// Refuses records from now on. Those that wait already are written; the files are closed on drop.
    pub fn close(&self) {
        self.queue.lock().is_closed = true;
    }
}
