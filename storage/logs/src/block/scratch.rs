//! Memory and decompressors that serve one page after the other: making either anew takes longer than a small page does.

use std::fmt;
use std::io;
use std::ops::Range;

use parking_lot::Mutex;
use zstd::bulk::Decompressor;

use super::checked_file::CheckedFile;
use super::delta::Lengths;
use super::pages::LinesPage;

/// Largest memory that is kept for the next page: a page of usual lines takes a quarter of a MB, and three times that here.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Most pages of lines whose memory is kept for the next ones.
const LINES_MAX: usize = 16;

/// What decoding a page needs beside its result.
pub(super) struct Scratch {
    decompressor: Decompressor<'static>,
    /// Bytes as they are in the file.
    stored: Vec<u8>,
    /// A page, decompressed.
    pub(super) page: Vec<u8>,
    pub(super) lengths: Lengths,
    pub(super) lines: LinesPage,
}

impl Scratch {
    fn new() -> io::Result<Self> {
        Ok(Self {
            decompressor: Decompressor::new()?,
            stored: Vec::new(),
            page: Vec::new(),
            lengths: Lengths::default(),
            lines: LinesPage::default(),
        })
    }

    /// Reads a part of a file; [`stored`](Self::stored) gives what is in it.
    pub(super) fn read(&mut self, file: &CheckedFile, start: u64, length: usize) -> io::Result<Range<usize>> {
        file.read_into(start, length, &mut self.stored)
    }

    /// Returns bytes that were read last.
    pub(super) fn stored(&self, range: Range<usize>) -> &[u8] {
        self.stored.get(range).unwrap_or_default()
    }

    /// Decompresses bytes that were read last, of which so many come out, into [`page`](Self::page).
    pub(super) fn decompress(&mut self, range: Range<usize>, length: usize) -> io::Result<()> {
        self.page.clear();
        self.page.reserve(length);
        let bytes = self.stored.get(range).unwrap_or_default();
        self.decompressor.decompress_to_buffer(bytes, &mut self.page).map(drop)
    }

    /// Takes bytes that were read last for a page that is not compressed.
    pub(super) fn copy(&mut self, range: Range<usize>) {
        self.page.clear();
        self.page.extend_from_slice(self.stored.get(range).unwrap_or_default());
    }

    fn size_bytes(&self) -> usize {
        self.stored.capacity() + self.page.capacity() + self.lengths.size_bytes() + self.lines.size_bytes()
    }
}

/// What nobody uses now. There are as many as there were threads at work at a time.
#[derive(Default)]
pub(super) struct Scratches {
    free: Mutex<Vec<Scratch>>,
    lines: Mutex<Vec<LinesPage>>,
}

impl fmt::Debug for Scratches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scratches").field(&self.free.lock().len()).finish()
    }
}

impl Scratches {
    /// Does some work with a scratch.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> io::Result<T> {
        let free = self.free.lock().pop();
        let mut scratch = free.map_or_else(Scratch::new, Ok)?;
        let done = work(&mut scratch);
        if scratch.size_bytes() <= KEPT_BYTES_MAX {
            self.free.lock().push(scratch);
        }
        Ok(done)
    }

    /// Takes the lines out of a scratch, and gives it memory for others.
    pub(super) fn take_lines(&self, scratch: &mut Scratch) -> LinesPage {
        let other = self.lines.lock().pop().unwrap_or_default();
        std::mem::replace(&mut scratch.lines, other)
    }

    /// Takes back the memory of lines that were needed for a while.
    pub(super) fn give_lines(&self, lines: LinesPage) {
        let mut free = self.lines.lock();
        if free.len() < LINES_MAX && lines.size_bytes() <= KEPT_BYTES_MAX {
            free.push(lines);
        }
    }
}
