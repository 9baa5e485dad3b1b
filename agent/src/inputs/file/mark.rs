//! Tells whether a file is still the one that was read before: by hashes of its beginning and of what was read last.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_64;

use crate::checkpoint::FileMark;

/// Bytes at the beginning that tell files apart.
const HEAD_BYTES: u64 = 1024;
/// Bytes before the position that are compared.
const TAIL_BYTES: u64 = 256;

/// Hashes `length` bytes from `offset`; `None` when the file ends before.
fn hash(file: &File, offset: u64, length: u64) -> io::Result<Option<u64>> {
    let mut buffer = [0; HEAD_BYTES as usize];
    let Some(buffer) = usize::try_from(length).ok().and_then(|length| buffer.get_mut(..length)) else {
        return Ok(None);
    };
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(Some(xxh3_64(buffer))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Brings the hashes up to the mark's offset.
///
/// # Errors
/// When the file cannot be read; the mark is unchanged then.
pub(crate) fn refresh(mark: &mut FileMark, file: &File) -> io::Result<()> {
    let head_len = mark.offset.min(HEAD_BYTES);
    let tail_len = mark.offset.min(TAIL_BYTES);
    // The head is of what was read, so that it does not change while a file grows.
    let head = if head_len == mark.head_len { Some(mark.head_hash) } else { hash(file, 0, head_len)? };
    let tail = hash(file, mark.offset - tail_len, tail_len)?;
    // A file that shrank in between is told as truncated with the next look.
    if let (Some(head_hash), Some(tail_hash)) = (head, tail) {
        (mark.head_len, mark.head_hash) = (head_len, head_hash);
        (mark.tail_len, mark.tail_hash) = (tail_len, tail_hash);
    }
    Ok(())
}

/// Says whether `file` begins as the marked one and holds, before the mark's offset, what was read last.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn matches(mark: &FileMark, file: &File) -> io::Result<bool> {
    if mark.head_len > 0 && hash(file, 0, mark.head_len)? != Some(mark.head_hash) {
        return Ok(false);
    }
    if mark.tail_len > 0 {
        return Ok(hash(file, mark.offset.saturating_sub(mark.tail_len), mark.tail_len)? == Some(mark.tail_hash));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_grew_matches_and_another_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "first line\nsecond").unwrap();
        let mut mark = FileMark { offset: 11, ..FileMark::default() };
        refresh(&mut mark, &File::open(&path).unwrap()).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b" line\n").unwrap();
        assert!(matches(&mark, &File::open(&path).unwrap()).unwrap());
        for other in ["first LINE\nsecond", "first", ""] {
            std::fs::write(&path, other).unwrap();
            assert!(!matches(&mark, &File::open(&path).unwrap()).unwrap(), "{other}");
        }
    }

    #[test]
    fn equal_beginnings_are_told_apart_by_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let banner = "=".repeat(5000);
        std::fs::write(&path, format!("{banner}one")).unwrap();
        let mut mark = FileMark { offset: 5003, ..FileMark::default() };
        refresh(&mut mark, &File::open(&path).unwrap()).unwrap();
        assert!(matches(&mark, &File::open(&path).unwrap()).unwrap());
        std::fs::write(&path, format!("{banner}two")).unwrap();
        assert!(!matches(&mark, &File::open(&path).unwrap()).unwrap());
    }
}
