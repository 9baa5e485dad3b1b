//! Opens a directory: reads every record, cuts off a torn tail, and tells what was lost.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::Path;

use crate::files::{self, SegmentFile, segment_path};
use crate::format::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::reader::{SegmentReader, Step, read_whole};
use crate::{Error, Result, SegmentId};

/// Most cases of damage that a report lists one by one; the counts go on.
const DAMAGE_LISTED_MAX: usize = 16;

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Segments read.
    pub segments: u64,
    /// Intact records handed to the caller.
    pub records: u64,
    /// Their payloads, in bytes.
    pub bytes: u64,
    /// Bytes cut off at the end of the last segment: a record whose write never came to an end. It was not
    /// acknowledged, unless the disk damaged it later.
    pub torn_bytes: u64,
    /// Places in the middle where records are damaged. Each stands for at least one record that was acknowledged and
    /// is lost.
    pub corrupt_gaps: u64,
    /// The bytes there.
    pub corrupt_bytes: u64,
    /// The first of those places.
    pub damage: Vec<Damage>,
}

/// A place in the log that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub segment: SegmentId,
    /// From which byte on.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} hold no intact record", self.bytes, self.offset)
    }
}

impl ReplayReport {
    fn corrupt(&mut self, segment: SegmentId, offset: u64, bytes: u64) {
        self.corrupt_gaps += 1;
        self.corrupt_bytes += bytes;
        if self.damage.len() < DAMAGE_LISTED_MAX {
            self.damage.push(Damage { segment, offset, bytes });
        }
    }
}

/// Takes one record; an error stops the replay.
pub type Replay<'a, E> = &'a mut dyn FnMut(SegmentId, &[u8]) -> Result<(), E>;

/// What is left after a replay.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) segments: BTreeMap<SegmentId, SegmentFile>,
    pub(crate) report: ReplayReport,
    /// The least id for a new segment: that of a torn last one is used again, but none before it.
    pub(crate) next: SegmentId,
}

/// Makes `dir` if missing, removes the segments before `first`, and replays the others.
pub(crate) fn replay_dir<E: From<Error>>(dir: &Path, first: SegmentId, replay: Replay<'_, E>) -> Result<Replayed, E> {
    make_dir(dir)?;
    let mut ids = files::list(dir)?;
    for id in ids.iter().filter(|id| **id < first) {
        files::remove_segment(dir, *id)?;
    }
    ids.retain(|id| *id >= first);
    let mut report = ReplayReport::default();
    let mut segments = BTreeMap::new();
    let mut payload = Vec::new();
    for id in &ids {
        let is_last = ids.last() == Some(id);
        if let Some(segment) = replay_segment(dir, *id, is_last, &mut payload, &mut report, replay)? {
            segments.insert(*id, segment);
        }
    }
    let next = ids.last().map_or(first, |last| first.max(*last));
    Ok(Replayed { segments, report, next })
}

fn make_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => files::sync_dir(parent),
        None => Ok(()),
    }
}

/// Replays one segment; `None` when it turned out to be a last one that was never finished, and is removed.
fn replay_segment<E: From<Error>>(
    dir: &Path,
    id: SegmentId,
    is_last: bool,
    payload: &mut Vec<u8>,
    report: &mut ReplayReport,
    replay: Replay<'_, E>,
) -> Result<Option<SegmentFile>, E> {
    let path = segment_path(dir, id);
    let reading = |source| Error::io("reading", &path, source);
    let mut file = File::open(&path).map_err(reading)?;
    let end = file.metadata().map_err(reading)?.len();
    let header_bytes = SEGMENT_HEADER_BYTES as u64;
    if is_last && end <= header_bytes {
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let whole = read_whole(&mut file, &mut header).map_err(reading)?;
        if !whole || format::check_segment_header(&header, id) == SegmentHeader::Invalid {
            // The crash came between creation and the header's fsync: no record can have been acknowledged.
            report.torn_bytes += end;
            files::remove_segment(dir, id)?;
            return Ok(None);
        }
    }
    let header_is_valid = check_header(&mut file, id, &path)?;
    let mut segment = SegmentFile { size_bytes: header_bytes.min(end), records: 0 };
    if !header_is_valid {
        report.corrupt(id, 0, header_bytes.min(end));
    }
    report.segments += 1;
    let mut reader = SegmentReader::new(file, id, header_bytes.min(end), end).map_err(reading)?;
    let mut gap = 0;
    loop {
        match reader.next(payload).map_err(reading)? {
            Step::Record => {
                if gap > 0 {
                    report.corrupt(id, segment.size_bytes, gap);
                    gap = 0;
                }
                replay(id, payload)?;
                report.records += 1;
                report.bytes += payload.len() as u64;
                segment.records += 1;
                segment.size_bytes = reader.offset();
            }
            Step::Gap(bytes) => gap += bytes,
            Step::End => break,
        }
    }
    if gap > 0 && is_last {
        report.torn_bytes += gap;
        truncate(&path, segment.size_bytes)?;
    } else if gap > 0 {
        report.corrupt(id, segment.size_bytes, gap);
        segment.size_bytes = end;
    }
    Ok(Some(segment))
}

/// Says whether the segment's header is intact.
fn check_header(file: &mut File, id: SegmentId, path: &Path) -> Result<bool> {
    use std::io::{Seek, SeekFrom};
    let reading = |source| Error::io("reading", path, source);
    let mut header = [0; SEGMENT_HEADER_BYTES];
    file.seek(SeekFrom::Start(0)).map_err(reading)?;
    if !read_whole(file, &mut header).map_err(reading)? {
        return Ok(false);
    }
    match format::check_segment_header(&header, id) {
        SegmentHeader::Valid => Ok(true),
        SegmentHeader::Invalid => Ok(false),
        SegmentHeader::UnknownVersion(got) => {
            Err(Error::UnknownVersion { segment: id, path: path.to_owned(), got, expected: format::VERSION })
        }
    }
}

fn truncate(path: &Path, size_bytes: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path);
    let cut = file.and_then(|file| file.set_len(size_bytes).and_then(|()| file.sync_all()));
    cut.map_err(|source| Error::io("cutting the torn tail off", path, source))
}
