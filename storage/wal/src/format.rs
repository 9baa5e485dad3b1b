//! Encodes the headers of segments and records, and back. Layout: docs/format/wal.md.

use crate::SegmentId;

/// The first bytes of a segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"DAYBKWAL";
/// The version that is written and read.
pub(crate) const VERSION: u16 = 1;
/// Bytes before the first record.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 24;
/// The first bytes of a record; a reader looks for them to find its way after damage.
pub(crate) const RECORD_MARKER: [u8; 4] = [0xdb, 0x57, 0xa1, 0x0e];
/// Bytes before a record's payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 16;

/// What the first bytes of a segment say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SegmentHeader {
    Valid,
    UnknownVersion(u16),
    Invalid,
}

pub(crate) fn segment_header(id: SegmentId) -> [u8; SEGMENT_HEADER_BYTES] {
    versioned_header(id, VERSION)
}

fn versioned_header(id: SegmentId, version: u16) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header[12..20].copy_from_slice(&id.0.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(crate) fn check_segment_header(header: &[u8; SEGMENT_HEADER_BYTES], id: SegmentId) -> SegmentHeader {
    let version = u16::from_le_bytes([header[8], header[9]]);
    if header[..8] != SEGMENT_MAGIC || *header != versioned_header(id, version) {
        SegmentHeader::Invalid
    } else if version == VERSION {
        SegmentHeader::Valid
    } else {
        SegmentHeader::UnknownVersion(version)
    }
}

/// Length and checksum of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    pub(crate) payload_crc: u32,
}

impl RecordHeader {
    /// Encodes the header of the record at `offset` of segment `id`. Its checksum covers both, so that bytes which
    /// look like a record, but lie elsewhere, are none.
    pub(crate) fn encode(self, id: SegmentId, offset: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut header = [0; RECORD_HEADER_BYTES];
        header[..4].copy_from_slice(&RECORD_MARKER);
        header[4..8].copy_from_slice(&self.length.to_le_bytes());
        header[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&id.0.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &header[..12]);
        header[12..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Decodes the header that should lie at `offset` of segment `id`.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], id: SegmentId, offset: u64) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Self { length: word(4), payload_crc: word(8) };
        (header.encode(id, offset) == *bytes).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_knows_its_own_id_and_version() {
        let header = segment_header(SegmentId(7));
        assert_eq!(check_segment_header(&header, SegmentId(7)), SegmentHeader::Valid);
        assert_eq!(check_segment_header(&header, SegmentId(8)), SegmentHeader::Invalid);
        let later = versioned_header(SegmentId(7), 2);
        assert_eq!(check_segment_header(&later, SegmentId(7)), SegmentHeader::UnknownVersion(2));
    }

    #[test]
    fn a_record_header_is_valid_at_its_own_place_only() {
        let header = RecordHeader { length: 5, payload_crc: 9 };
        let bytes = header.encode(SegmentId(1), 24);
        assert_eq!(RecordHeader::decode(&bytes, SegmentId(1), 24), Some(header));
        assert_eq!(RecordHeader::decode(&bytes, SegmentId(1), 25), None);
        assert_eq!(RecordHeader::decode(&bytes, SegmentId(2), 24), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&flipped, SegmentId(1), 24), None, "bit {bit}");
        }
    }
}
