//! Files of a block: written with checksums and failures on demand, read with every byte checked.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use storage_api::{Error, Result};
use storage_wal::Faults;

/// Bytes that share a checksum. A page of some thousand samples is smaller, and is read with the extents it touches.
pub(crate) const EXTENT_BYTES: usize = 8 << 10;
/// Most bytes that are read ahead of pages that are read in turn, and how many at first.
const AHEAD_BYTES_MAX: usize = 256 << 10;
const AHEAD_BYTES_MIN: usize = 32 << 10;

/// Counts, checksums and writes.
#[derive(Debug)]
pub(crate) struct ExtentWriter {
    file: BufWriter<Limited>,
    /// Checksums of the extents that are whole.
    extents: Vec<u32>,
    crc: u32,
    in_extent: usize,
    size_bytes: u64,
}

/// A file that may be "full" on demand.
#[derive(Debug)]
struct Limited {
    file: File,
    faults: Faults,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let allowed = self.faults.allow(bytes.len());
        if allowed == 0 && !bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let (head, _) = bytes.split_at(allowed);
        self.file.write(head)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl ExtentWriter {
    pub(crate) fn create(path: &Path, faults: &Faults) -> Result<Self> {
        let file = File::create(path).map_err(|source| Error::io("creating", path, source))?;
        let file = BufWriter::with_capacity(256 << 10, Limited { file, faults: faults.clone() });
        Ok(Self { file, extents: Vec::new(), crc: 0, in_extent: 0, size_bytes: 0 })
    }

    /// Waits for the disk and returns the file's size and the checksums of its extents.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Vec<u32>)> {
        if self.in_extent > 0 {
            self.extents.push(self.crc);
        }
        self.file.flush()?;
        let limited = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        limited.file.sync_all()?;
        Ok((self.size_bytes, self.extents))
    }
}

impl Write for ExtentWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let (mut rest, _) = bytes.split_at(written);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(EXTENT_BYTES - self.in_extent));
            self.crc = crc32c::crc32c_append(self.crc, now);
            self.in_extent += now.len();
            if self.in_extent == EXTENT_BYTES {
                self.extents.push(std::mem::take(&mut self.crc));
                self.in_extent = 0;
            }
            rest = later;
        }
        self.size_bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a whole file and waits for the disk.
pub(crate) fn write_new_file(path: &Path, content: &[u8], faults: &Faults) -> Result<()> {
    let mut file = ExtentWriter::create(path, faults)?;
    let written = file.write_all(content).and_then(|()| file.finish());
    written.map(drop).map_err(|source| Error::io("writing", path, source))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| Error::io("syncing the directory", dir, source))
}

/// A file whose extents are checked as they are read. It stays readable after its removal.
#[derive(Debug)]
pub(crate) struct CheckedFile {
    pub(crate) path: PathBuf,
    file: File,
    size_bytes: u64,
    extents: Arc<[u32]>,
}

impl CheckedFile {
    pub(crate) fn open(path: &Path, size_bytes: u64, extents: Arc<[u32]>) -> Result<Self> {
        let failed = |source| Error::io("opening", path, source);
        let file = File::open(path).map_err(failed)?;
        let got = file.metadata().map_err(failed)?.len();
        if got != size_bytes {
            return Err(crate::error::corrupt(path, format!("it has {got} bytes, expected {size_bytes}")));
        }
        if extents.len() as u64 != size_bytes.div_ceil(EXTENT_BYTES as u64) {
            return Err(crate::error::corrupt(path, format!("{} checksums for {size_bytes} bytes", extents.len())));
        }
        Ok(Self { path: path.to_owned(), file, size_bytes, extents })
    }

    /// Reads the whole file, and tells of each extent whose checksum is wrong.
    pub(crate) fn check_all(&self, bad: &mut dyn FnMut(String)) -> io::Result<()> {
        let mut at = 0;
        while at < self.size_bytes {
            let left = usize::try_from(self.size_bytes - at).unwrap_or(usize::MAX);
            match self.read(at, left.min(EXTENT_BYTES)) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => bad(error.to_string()),
                result => drop(result?),
            }
            at += EXTENT_BYTES as u64;
        }
        Ok(())
    }

    /// Reads `length` bytes at `start`, checking every extent they touch.
    fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let (from, bytes) = self.read_extents(start, length)?;
        slice(&bytes, from, start, length).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Reads `length` bytes at `start`, and those after them, before `end`, when it looks as if they were wanted next.
    pub(crate) fn read_in_turn(&self, window: &mut Window, start: u64, length: usize, end: u64) -> io::Result<Bytes> {
        if let Some(bytes) = slice(&window.bytes, window.start, start, length) {
            return Ok(bytes);
        }
        let window_end = window.start + window.bytes.len() as u64;
        let is_in_turn = !window.bytes.is_empty() && window.start <= start && start <= window_end;
        let ahead = if is_in_turn { (window.ahead * 2).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX) } else { 0 };
        let most = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let (from, bytes) = self.read_extents(start, length.max(ahead.min(most)))?;
        *window = Window { start: from, bytes, ahead };
        slice(&window.bytes, from, start, length).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Reads the extents that `length` bytes at `start` touch, checked, and says where they begin.
    fn read_extents(&self, start: u64, length: usize) -> io::Result<(u64, Bytes)> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.size_bytes);
        let Some(end) = end else { return Err(io::Error::from(io::ErrorKind::UnexpectedEof)) };
        if length == 0 {
            return Ok((start, Bytes::new()));
        }
        let extent = EXTENT_BYTES as u64;
        let first = start / extent;
        let from = first * extent;
        let to = (end.div_ceil(extent) * extent).min(self.size_bytes);
        let mut buffer = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut buffer, from)?;
        for (i, bytes) in buffer.chunks(EXTENT_BYTES).enumerate() {
            let got = crc32c::crc32c(bytes);
            let number = usize::try_from(first).map_err(io::Error::other)? + i;
            let expected = self.extents.get(number).copied().unwrap_or(!got);
            if got != expected {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "checksum {got:08x} of the {} bytes at {}, expected {expected:08x}",
                        bytes.len(),
                        number * EXTENT_BYTES
                    ),
                ));
            }
        }
        Ok((from, buffer.into()))
    }
}

/// Returns `length` bytes at `start` of a file, when `bytes`, which begin at `from`, have them.
fn slice(bytes: &Bytes, from: u64, start: u64, length: usize) -> Option<Bytes> {
    let skip = usize::try_from(start.checked_sub(from)?).ok()?;
    let end = skip.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(bytes.slice(skip..end))
}

/// The part of a file that was read last.
#[derive(Debug, Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Bytes,
    ahead: usize,
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for CheckedFile {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // Only headers are read this way, from pages that have no index; the extent they begin in, and the next ones,
        // hold them whole.
        let left = usize::try_from(self.size_bytes.saturating_sub(start)).unwrap_or(usize::MAX);
        Ok(io::Cursor::new(self.read(start, left.min(4 * EXTENT_BYTES))?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.read(start, length)?)
    }
}

/// Reads a small file whole; one over `limit` bytes is corrupt.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::io("reading", path, source);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > limit {
        return Err(crate::error::corrupt(path, format!("{size} bytes are over the limit of {limit}")));
    }
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}
