//! Reads a log without changing it, and tells what is wrong where.

use std::fs::File;
use std::path::Path;

use crate::files::{self, segment_path};
use crate::format::{self, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::reader::{SegmentReader, Step, read_whole};
use crate::{Damage, Error, Result, SegmentId};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Segments read.
    pub segments: u64,
    /// Intact records.
    pub records: u64,
    /// Their payloads, in bytes.
    pub bytes: u64,
    /// Bytes at the end of the last segment that are the beginning of a record whose write never came to an end. The next
    /// open cuts them off; nobody was told that the record is on disk.
    pub torn_bytes: u64,
    /// Every damaged place.
    pub damage: Vec<Damage>,
}

impl CheckReport {
    /// Says in words what is left of a record that was never finished, if anything.
    #[must_use]
    pub fn torn(&self) -> Option<String> {
        let bytes = self.torn_bytes;
        let told = || format!("{bytes} bytes of a record that was never finished, the next start cuts them off");
        (bytes > 0).then(told)
    }
}

/// Reads the segments from `first` on, and hands each intact record to `each`, oldest first. A directory that is not there
/// is an empty log. The log must not be open for writing.
///
/// # Errors
/// [`Error::Io`], [`Error::UnknownVersion`].
pub fn check(dir: &Path, first: SegmentId, each: &mut dyn FnMut(SegmentId, &[u8])) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    if !dir.exists() {
        return Ok(report);
    }
    let mut ids = files::list(dir)?;
    ids.retain(|id| *id >= first);
    let mut payload = Vec::new();
    for id in &ids {
        check_segment(dir, *id, ids.last() == Some(id), &mut payload, &mut report, each)?;
    }
    Ok(report)
}

fn check_segment(
    dir: &Path,
    id: SegmentId,
    is_last: bool,
    payload: &mut Vec<u8>,
    report: &mut CheckReport,
    each: &mut dyn FnMut(SegmentId, &[u8]),
) -> Result<()> {
    let path = segment_path(dir, id);
    let reading = |source| Error::io("reading", &path, source);
    let mut file = File::open(&path).map_err(reading)?;
    let end = file.metadata().map_err(reading)?.len();
    report.segments += 1;
    let header_bytes = SEGMENT_HEADER_BYTES as u64;
    let mut header = [0; SEGMENT_HEADER_BYTES];
    if !read_whole(&mut file, &mut header).map_err(reading)? {
        match is_last {
            // A crash between the file's creation and its header.
            true => report.torn_bytes += end,
            false => report.damage.push(Damage { segment: id, offset: 0, bytes: end }),
        }
        return Ok(());
    }
    match format::check_segment_header(&header, id) {
        SegmentHeader::Valid => {}
        SegmentHeader::Invalid => report.damage.push(Damage { segment: id, offset: 0, bytes: header_bytes }),
        SegmentHeader::UnknownVersion(got) => {
            return Err(Error::UnknownVersion { segment: id, path: path.clone(), got, expected: format::VERSION });
        }
    }
    let mut reader = SegmentReader::new(file, id, header_bytes, end).map_err(reading)?;
    let (mut intact_end, mut gap) = (header_bytes, 0);
    loop {
        let step = reader.next(payload).map_err(reading)?;
        if let Step::Gap(bytes) = step {
            gap += bytes;
            continue;
        }
        if gap > 0 {
            let is_torn = is_last && step == Step::End && is_cut(&path, id, intact_end, end).map_err(reading)?;
            match is_torn {
                true => report.torn_bytes += gap,
                false => report.damage.push(Damage { segment: id, offset: intact_end, bytes: gap }),
            }
            gap = 0;
        }
        if step == Step::End {
            return Ok(());
        }
        each(id, payload);
        report.records += 1;
        report.bytes += payload.len() as u64;
        intact_end = reader.offset();
    }
}

/// Says whether what lies from `at` on is a record that the file ends in the middle of, and no damage: its header is cut
/// off, or is intact and tells of more bytes than there are.
fn is_cut(path: &Path, id: SegmentId, at: u64, end: u64) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let left = end.saturating_sub(at);
    if left < RECORD_HEADER_BYTES as u64 {
        return Ok(true);
    }
    let mut header = [0; RECORD_HEADER_BYTES];
    File::open(path)?.read_exact_at(&mut header, at)?;
    let header = format::RecordHeader::decode(&header, id, at);
    Ok(header.is_some_and(|header| RECORD_HEADER_BYTES as u64 + u64::from(header.length) > left))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Options, Wal};

    fn filled(dir: &Path) -> std::path::PathBuf {
        let (wal, _) = Wal::open::<Error>(dir, Options::default(), &mut |_, _| Ok(())).unwrap();
        wal.append(b"one").unwrap();
        let last = wal.append(b"another record").unwrap();
        segment_path(dir, last)
    }

    fn run(dir: &Path) -> (CheckReport, Vec<Vec<u8>>) {
        let mut records = Vec::new();
        let report = check(dir, SegmentId(0), &mut |_, record| records.push(record.to_vec())).unwrap();
        (report, records)
    }

    #[test]
    fn an_intact_log_and_none_have_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(&dir.path().join("none")).0, CheckReport::default());
        filled(dir.path());
        let (report, records) = run(dir.path());
        assert_eq!((report.segments, report.records, report.bytes), (1, 2, 17));
        assert_eq!((report.torn_bytes, report.damage.len()), (0, 0));
        assert_eq!(records, [b"one".to_vec(), b"another record".to_vec()]);
        assert_eq!(check(dir.path(), SegmentId(9), &mut |_, _| {}).unwrap().segments, 0);
    }

    #[test]
    fn every_flipped_byte_is_damage_and_every_cut_is_a_torn_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path());
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            let mut bytes = content.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            match check(dir.path(), SegmentId(0), &mut |_, _| {}) {
                Ok(report) => assert_eq!((report.damage.len(), report.torn_bytes), (1, 0), "byte {at}"),
                Err(error) => assert!(matches!(error, Error::UnknownVersion { .. }), "byte {at}: {error}"),
            }
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is changed");
            fs::write(&path, &content[..at]).unwrap();
            let report = run(dir.path()).0;
            assert_eq!(report.damage, [], "cut at {at}");
            let whole = [24, 24 + 16 + 3];
            assert_eq!(report.torn_bytes == 0, at == 0 || whole.contains(&at), "cut at {at}");
        }
    }
}
