//! Reads the records of one segment, and finds the next intact one after damage.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::SegmentId;
use crate::format::{RECORD_HEADER_BYTES, RECORD_MARKER, RecordHeader};

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// One step through a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An intact record; its payload is in the buffer.
    Record,
    /// So many bytes hold no intact record.
    Gap(u64),
    /// Nothing follows.
    End,
}

/// Walks over a segment's records, one in memory at a time.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: BufReader<File>,
    segment: SegmentId,
    offset: u64,
    end: u64,
}

impl SegmentReader {
    /// Starts at `offset`, where a record should begin, and stops at `end`.
    pub(crate) fn new(file: File, segment: SegmentId, offset: u64, end: u64) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, segment, offset, end })
    }

    /// Returns the offset of what comes next.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next record into `payload`, or tells how many bytes were skipped in search of one.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>) -> io::Result<Step> {
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < RECORD_HEADER_BYTES as u64 {
            return self.skip(left);
        }
        let mut header = [0; RECORD_HEADER_BYTES];
        if !read_whole(&mut self.file, &mut header)? {
            return self.skip(left);
        }
        let Some(header) = RecordHeader::decode(&header, self.segment, self.offset) else {
            let next = self.find_header(self.offset + 1)?;
            return self.skip(next - self.offset);
        };
        let record_bytes = RECORD_HEADER_BYTES as u64 + u64::from(header.length);
        if record_bytes > left {
            return self.skip(left);
        }
        // The length is below what the file has left, so that a wild one cannot make us allocate.
        payload.clear();
        payload.resize(header.length as usize, 0);
        if !read_whole(&mut self.file, payload)? {
            return self.skip(left);
        }
        self.offset += record_bytes;
        if crc32c::crc32c(payload) == header.payload_crc { Ok(Step::Record) } else { Ok(Step::Gap(record_bytes)) }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<Step> {
        self.offset += bytes;
        self.file.seek(SeekFrom::Start(self.offset))?;
        Ok(Step::Gap(bytes))
    }

    /// Returns the first offset from `from` on where an intact header lies, or the end.
    fn find_header(&mut self, from: u64) -> io::Result<u64> {
        let mut window = Vec::new();
        let mut start = from;
        loop {
            self.file.seek(SeekFrom::Start(start))?;
            window.clear();
            let want = (self.end.saturating_sub(start)).min(BUFFER_BYTES as u64);
            self.file.by_ref().take(want).read_to_end(&mut window)?;
            for (i, bytes) in window.windows(RECORD_HEADER_BYTES).enumerate() {
                if bytes[..4] == RECORD_MARKER
                    && let Ok(header) = bytes.try_into()
                    && RecordHeader::decode(header, self.segment, start + i as u64).is_some()
                {
                    return Ok(start + i as u64);
                }
            }
            if window.len() < BUFFER_BYTES {
                return Ok(self.end);
            }
            // The last bytes may be the beginning of a header.
            start += (window.len() - RECORD_HEADER_BYTES + 1) as u64;
        }
    }
}

/// Fills `buffer`; `false` when the file ends before.
pub(crate) fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
