//! A file with a checksum for every 16 KiB, so that any flipped byte is seen before anybody decodes it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::fault::Faults;

/// Bytes under one checksum: small beside a compressed page, so that little is read twice.
const CHUNK_BYTES: usize = 16 << 10;
/// Magic of the file of checksums.
pub(super) const CHECKSUMS_MAGIC: [u8; 8] = *b"DBKLCRC1";

/// Returns the checksums of a file with this content.
pub(super) fn checksums_of(content: &[u8]) -> Vec<u8> {
    content.chunks(CHUNK_BYTES).flat_map(|chunk| crc32c::crc32c(chunk).to_le_bytes()).collect()
}

/// Counts checksums while a file is written.
#[derive(Debug)]
pub(super) struct CheckedWriter {
    file: File,
    buffer: Vec<u8>,
    checksums: Vec<u8>,
    whole: u32,
    size_bytes: u64,
    /// Of the thread that began it: another one writes.
    faults: Faults,
}

impl CheckedWriter {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let faults = Faults::current();
        faults.pass("create")?;
        let file = File::create_new(path)?;
        let buffer = Vec::with_capacity(64 * CHUNK_BYTES);
        Ok(Self { file, buffer, checksums: Vec::new(), whole: 0, size_bytes: 0, faults })
    }

    fn drain(&mut self, length: usize) -> io::Result<()> {
        let Some(ready) = self.buffer.get(..length) else { return Ok(()) };
        for chunk in ready.chunks(CHUNK_BYTES) {
            self.checksums.extend_from_slice(&crc32c::crc32c(chunk).to_le_bytes());
        }
        self.whole = crc32c::crc32c_append(self.whole, ready);
        self.faults.pass("write")?;
        self.file.write_all(ready)?;
        self.size_bytes += length as u64;
        self.buffer.drain(..length);
        Ok(())
    }

    /// Writes the rest, fsyncs, and returns (checksums, size, checksum of the whole).
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, u64, u32)> {
        self.drain(self.buffer.len())?;
        self.faults.pass("fsync")?;
        self.file.sync_all()?;
        Ok((self.checksums, self.size_bytes, self.whole))
    }
}

impl Write for CheckedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 64 * CHUNK_BYTES {
            self.drain(self.buffer.len() / CHUNK_BYTES * CHUNK_BYTES)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file and verifies what it reads. Clones share the file.
#[derive(Debug, Clone)]
pub(super) struct CheckedFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Opened for each read when there is none here.
    file: Option<File>,
    path: PathBuf,
    size_bytes: u64,
    checksums: Vec<u8>,
}

impl CheckedFile {
    /// Opens the file; its size must be as expected, and there must be a checksum for each chunk.
    pub(super) fn open(path: &Path, size_bytes: u64, checksums: Vec<u8>) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        if size != size_bytes || checksums.len() as u64 != size_bytes.div_ceil(CHUNK_BYTES as u64) * 4 {
            return Err(damage(format!("it has {size} bytes, expected {size_bytes}")));
        }
        Ok(Self(Arc::new(Inner { file: Some(file), path: path.to_owned(), size_bytes, checksums })))
    }

    /// Makes one that is opened for each read: seldom read parts of many files need no descriptor each.
    pub(super) fn unopened(path: &Path, size_bytes: u64, checksums: Vec<u8>) -> io::Result<Self> {
        if checksums.len() as u64 != size_bytes.div_ceil(CHUNK_BYTES as u64) * 4 {
            return Err(damage(format!("it has not a checksum for each part of {size_bytes} bytes")));
        }
        Ok(Self(Arc::new(Inner { file: None, path: path.to_owned(), size_bytes, checksums })))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Reads `length` bytes from `start` on.
    pub(super) fn read_range(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        let range = self.read_into(start, length, &mut bytes)?;
        Ok(Bytes::from(bytes).slice(range))
    }

    /// Reads `length` bytes from `start` on into memory that is used again and only grows; returns where they are in it.
    pub(super) fn read_into(&self, start: u64, length: usize, out: &mut Vec<u8>) -> io::Result<Range<usize>> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.0.size_bytes);
        let end = end.ok_or_else(|| damage("a part beyond its end is asked for".to_owned()))?;
        if length == 0 {
            return Ok(0..0);
        }
        let chunk = CHUNK_BYTES as u64;
        let from = start / chunk * chunk;
        let to = end.div_ceil(chunk).saturating_mul(chunk).min(self.0.size_bytes);
        let whole = usize::try_from(to - from).map_err(|_| damage("a part is too large".to_owned()))?;
        if out.len() < whole {
            out.resize(whole, 0);
        }
        let bytes = out.get_mut(..whole).unwrap_or_default();
        match &self.0.file {
            Some(file) => file.read_exact_at(bytes, from)?,
            None => File::open(&self.0.path)?.read_exact_at(bytes, from)?,
        }
        for (i, chunk_bytes) in (from / chunk..).zip(bytes.chunks(CHUNK_BYTES)) {
            let at = usize::try_from(i).unwrap_or(usize::MAX).saturating_mul(4);
            let expected = self.0.checksums.get(at..at.saturating_add(4));
            if expected != Some(crc32c::crc32c(chunk_bytes).to_le_bytes().as_slice()) {
                return Err(damage(format!("the checksum of bytes {} and on is wrong", i * chunk)));
            }
        }
        let skip = usize::try_from(start - from).unwrap_or(0);
        Ok(skip..skip + length)
    }
}

fn damage(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.0.size_bytes
    }
}

impl ChunkReader for CheckedFile {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(CheckedRead { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read_range(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Reads on from one place.
#[derive(Debug)]
pub(super) struct CheckedRead {
    file: CheckedFile,
    at: u64,
}

impl Read for CheckedRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.0.size_bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = out.len().min(left).min(CHUNK_BYTES);
        let bytes = self.file.read_range(self.at, length)?;
        if let Some(room) = out.get_mut(..length) {
            room.copy_from_slice(&bytes);
        }
        self.at += length as u64;
        Ok(length)
    }
}
