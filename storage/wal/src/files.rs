//! The segment files of one directory: names, creation, writing at the end, removal.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::format::{self, SEGMENT_HEADER_BYTES};
use crate::{Error, Faults, Result, SegmentId};

/// How the files of segments end.
const EXTENSION: &str = "wal";

/// One segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    /// Bytes that are known to be whole, headers included.
    pub(crate) size_bytes: u64,
    /// Intact records.
    pub(crate) records: u64,
}

/// All segments, and the newest one open for writing.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    segments: BTreeMap<SegmentId, SegmentFile>,
    /// The file of the last segment, once something was written.
    active: Option<(SegmentId, File)>,
    /// The least id that the next segment may have.
    next: SegmentId,
    faults: Faults,
    /// Why nothing may be written any more.
    poison: Option<String>,
}

/// Returns where a segment lies in the log's directory.
#[must_use]
pub fn segment_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{:020}.{EXTENSION}", id.0))
}

/// Returns the ids of the segments in `dir`, oldest first. Other files are left alone.
pub(crate) fn list(dir: &Path) -> Result<Vec<SegmentId>> {
    let failed = |source| Error::io("listing", dir, source);
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".wal")).and_then(|id| id.parse().ok());
        ids.extend(id.map(SegmentId));
    }
    ids.sort_unstable();
    Ok(ids)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| Error::io("syncing the directory", dir, source))
}

impl Files {
    pub(crate) fn new(
        dir: &Path,
        segments: BTreeMap<SegmentId, SegmentFile>,
        first: SegmentId,
        faults: Faults,
    ) -> Self {
        let after_last = segments.last_key_value().map_or(SegmentId(1), |(id, _)| id.next());
        Self { dir: dir.to_owned(), segments, active: None, next: first.max(after_last), faults, poison: None }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn segments(&self) -> &BTreeMap<SegmentId, SegmentFile> {
        &self.segments
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.size_bytes).sum()
    }

    /// Fails when an earlier failure left the disk's state unknown.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.poison {
            Some(reason) => Err(Error::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: &Error) -> Error {
        let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        let reason = format!("{error}{cause}");
        Error::Poisoned { reason: self.poison.get_or_insert(reason).clone() }
    }

    /// Returns the segment that takes the next bytes and where they go, opening or making its file.
    pub(crate) fn open_for_append(&mut self, more: u64, segment_bytes_max: u64) -> Result<(SegmentId, u64)> {
        self.check()?;
        if let Some((id, segment)) = self.segments.last_key_value().map(|(id, segment)| (*id, *segment)) {
            let fits = segment.records == 0 || segment.size_bytes.saturating_add(more) <= segment_bytes_max;
            if fits {
                if self.active.as_ref().is_none_or(|(active, _)| *active != id) {
                    let path = segment_path(&self.dir, id);
                    let opened = OpenOptions::new().write(true).open(&path);
                    self.active = Some((id, opened.map_err(|source| Error::io("opening", &path, source))?));
                }
                return Ok((id, segment.size_bytes));
            }
        }
        let id = self.create()?;
        Ok((id, SEGMENT_HEADER_BYTES as u64))
    }

    /// Makes a new last segment. All bytes of the one before are on disk already: each write is followed by its fsync.
    fn create(&mut self) -> Result<SegmentId> {
        self.check()?;
        let id = self.next;
        let path = segment_path(&self.dir, id);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let mut file = file.map_err(|source| Error::io("creating", &path, source))?;
        if let Err(source) = write_limited(&mut file, &format::segment_header(id), &self.faults) {
            // What stays behind is no segment: an empty file is made anew by the next attempt.
            drop(fs::remove_file(&path));
            return Err(Error::io("writing the header of", &path, source));
        }
        let synced = self.faults.sync().and_then(|()| file.sync_all());
        let synced = synced.map_err(|source| Error::io("syncing", &path, source)).and_then(|()| sync_dir(&self.dir));
        synced.map_err(|error| self.poison(&error))?;
        self.segments.insert(id, SegmentFile { size_bytes: SEGMENT_HEADER_BYTES as u64, records: 0 });
        self.next = id.next();
        self.active = Some((id, file));
        Ok(id)
    }

    /// Starts a new segment, unless the last one has no record yet.
    pub(crate) fn cut(&mut self) -> Result<SegmentId> {
        match self.segments.last_key_value() {
            Some((id, segment)) if segment.records == 0 => Ok(*id),
            Some(_) | None => self.create(),
        }
    }

    /// Writes `bytes`, which hold `records` whole records, at the end of the open segment and waits for the disk.
    /// Returns how long the fsync took.
    pub(crate) fn write(&mut self, bytes: &[u8], records: u64) -> Result<Duration> {
        self.check()?;
        let Some((id, file)) = &mut self.active else { return Err(Error::Closed) };
        let (id, path) = (*id, segment_path(&self.dir, *id));
        let Some(segment) = self.segments.get_mut(&id) else { return Err(Error::Closed) };
        let at = segment.size_bytes;
        let written = file.seek(SeekFrom::Start(at)).and_then(|_| write_limited(file, bytes, &self.faults));
        if let Err(source) = written {
            let error = Error::io("writing", &path, source);
            let repaired = file.set_len(at);
            return Err(match repaired {
                Ok(()) => error,
                Err(source) => self.poison(&Error::io("cutting back", &path, source)),
            });
        }
        let started = Instant::now();
        let synced = self.faults.sync().and_then(|()| file.sync_data());
        if let Err(source) = synced {
            return Err(self.poison(&Error::io("syncing", &path, source)));
        }
        segment.size_bytes += bytes.len() as u64;
        segment.records += records;
        Ok(started.elapsed())
    }

    /// Removes the segments before `id`, but never the last one: its name tells which id comes next.
    pub(crate) fn remove_before(&mut self, id: SegmentId) -> Result<u64> {
        let last = self.segments.last_key_value().map_or(id, |(last, _)| *last);
        let old: Vec<SegmentId> = self.segments.range(..id.min(last)).map(|(id, _)| *id).collect();
        for id in &old {
            remove_segment(&self.dir, *id)?;
            self.segments.remove(id);
        }
        Ok(old.len() as u64)
    }
}

pub(crate) fn remove_segment(dir: &Path, id: SegmentId) -> Result<()> {
    let path = segment_path(dir, id);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", &path, source)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes all of `bytes`, or as much as the injected faults let through.
fn write_limited(file: &mut File, bytes: &[u8], faults: &Faults) -> io::Result<()> {
    let allowed = faults.allow(bytes.len());
    let (head, rest) = bytes.split_at(allowed);
    file.write_all(head)?;
    if rest.is_empty() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::StorageFull)) }
}
