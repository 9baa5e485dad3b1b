//! Decodes the pages that [`group`](super::group) writes, each at once. Written here because a query reads many small
//! pages, and Parquet's reader does more for each than its rows are worth.

use std::cell::RefCell;

use crate::varint::Cursor;

/// Largest page that is read, in bytes: 65,536 rows of values and much to spare.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Numbers of a block of packed differences, and of a part of it that has a width of its own.
const DELTA_BLOCK: u64 = 128;
const DELTA_PARTS: u64 = 4;
const DELTA_PART: usize = 32;
/// Bits of the widest part, in bytes, and those that a load may read beyond.
const DELTA_PART_BYTES: usize = DELTA_PART * 8 + 16;

/// Types of fields in Thrift's compact protocol.
const THRIFT_TRUE: u8 = 1;
const THRIFT_FALSE: u8 = 2;
const THRIFT_I32: u8 = 5;
const THRIFT_STRUCT: u8 = 12;

/// What the header of a data page says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    kind: usize,
    plain_bytes: usize,
    stored_bytes: usize,
    pub(crate) rows: usize,
    nulls: usize,
    encoding: usize,
    levels_bytes: usize,
    is_packed: bool,
}

/// DATA_PAGE_V2, the only kind there is beside dictionaries, and its encodings, by their numbers in Parquet.
const KIND_DATA: usize = 3;
const DELTA_BINARY_PACKED: usize = 5;
const BYTE_STREAM_SPLIT: usize = 9;

impl Header {
    /// Reads the header at the front of a page, and says how long it is.
    fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor(bytes);
        let mut header = Self { is_packed: true, ..Self::default() };
        let mut field = 0;
        while let Some(kind) = next_field(&mut cursor, &mut field)? {
            match (field, kind) {
                (1, THRIFT_I32) => header.kind = count(&mut cursor)?,
                (2, THRIFT_I32) => header.plain_bytes = count(&mut cursor)?,
                (3, THRIFT_I32) => header.stored_bytes = count(&mut cursor)?,
                (8, THRIFT_STRUCT) => header.decode_data(&mut cursor)?,
                _ => return None,
            }
        }
        let is_whole = header.kind == KIND_DATA && header.rows > 0 && header.nulls <= header.rows;
        is_whole.then_some((header, bytes.len() - cursor.0.len()))
    }

    fn decode_data(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut field = 0;
        while let Some(kind) = next_field(cursor, &mut field)? {
            match (field, kind) {
                // Values and rows are the same, as nothing is nested.
                (1 | 3, THRIFT_I32) => self.rows = count(cursor)?,
                (2, THRIFT_I32) => self.nulls = count(cursor)?,
                (4, THRIFT_I32) => self.encoding = count(cursor)?,
                (5, THRIFT_I32) => self.levels_bytes = count(cursor)?,
                (6, THRIFT_I32) => drop(count(cursor).filter(|repetition| *repetition == 0)?),
                (7, THRIFT_TRUE | THRIFT_FALSE) => self.is_packed = kind == THRIFT_TRUE,
                _ => return None,
            }
        }
        Some(())
    }
}

/// Goes to the next field and returns its type; the inner `None` is the end of the struct.
fn next_field(cursor: &mut Cursor<'_>, field: &mut u8) -> Option<Option<u8>> {
    let byte = cursor.u8()?;
    if byte == 0 {
        return Some(None);
    }
    // The long form of a field's number is for those that are further apart than any here.
    *field = field.checked_add(byte >> 4).filter(|_| byte >> 4 > 0)?;
    Some(Some(byte & 0x0f))
}

fn count(cursor: &mut Cursor<'_>) -> Option<usize> {
    usize::try_from(cursor.i64()?).ok().filter(|count| *count <= i32::MAX as usize)
}

thread_local! {
    /// Making one costs as much as unpacking many pages.
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Unpacks all of `packed` behind what is in `out`, up to its capacity; returns how many bytes that are.
fn decompress(packed: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(zstd::bulk::Decompressor::new().ok()?),
        };
        unpacker.decompress_to_buffer(packed, out).ok()
    })
}

/// Unpacks pages, with memory that is used again.
#[derive(Default)]
pub(crate) struct PageDecoder {
    plain: Vec<u8>,
}

impl PageDecoder {
    /// Splits a page, and returns its header, definition levels and values.
    fn open<'a>(&'a mut self, page: &'a [u8]) -> Option<(Header, &'a [u8], &'a [u8])> {
        let (header, header_bytes) = Header::decode(page)?;
        let body = page.get(header_bytes..).filter(|body| body.len() == header.stored_bytes)?;
        let (levels, values) = body.split_at_checked(header.levels_bytes)?;
        if !header.is_packed {
            return Some((header, levels, values));
        }
        let plain_bytes = header.plain_bytes.checked_sub(levels.len()).filter(|bytes| *bytes <= PAGE_BYTES_MAX)?;
        self.plain.clear();
        self.plain.reserve(plain_bytes);
        let unpacked = decompress(values, &mut self.plain)?;
        (unpacked == plain_bytes).then_some((header, levels, self.plain.as_slice()))
    }

    /// Puts the numbers of a page without nulls in the place of what is in `out`.
    pub(crate) fn numbers(&mut self, page: &[u8], out: &mut Vec<i64>) -> Option<()> {
        out.clear();
        let (header, levels, values) = self.open(page)?;
        let is_known = header.encoding == DELTA_BINARY_PACKED && levels.is_empty();
        decode_delta(values, header.rows, out).filter(|()| is_known)
    }

    /// Puts the values of a page in the place of what is in `out`.
    pub(crate) fn values(&mut self, page: &[u8], out: &mut SparseValues) -> Option<()> {
        out.clear();
        let (header, levels, values) = self.open(page)?;
        if header.encoding != BYTE_STREAM_SPLIT {
            return None;
        }
        out.decode_levels(levels, header)?;
        let count = header.rows - header.nulls;
        if values.len() != count.checked_mul(8)? {
            return None;
        }
        let plane = |number: usize| values.get(number * count..(number + 1) * count).unwrap_or_default();
        let planes: [&[u8]; 8] = std::array::from_fn(plane);
        out.values.extend((0..count).map(|i| f64::from_le_bytes(planes.map(|plane| plane[i]))));
        Some(())
    }
}

/// Values of some rows of a page.
#[derive(Debug, Default)]
pub(crate) struct SparseValues {
    /// Rows that follow each other and have values or have none: the row after the last one, and the number of values up
    /// to there.
    runs: Vec<(usize, usize)>,
    values: Vec<f64>,
}

impl SparseValues {
    fn clear(&mut self) {
        self.runs.clear();
        self.values.clear();
    }

    /// Returns how many rows the page has.
    pub(crate) fn rows(&self) -> usize {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    fn decode_levels(&mut self, levels: &[u8], header: Header) -> Option<()> {
        let mut cursor = Cursor(levels);
        let (mut row, mut values) = (0_usize, 0_usize);
        while !cursor.is_empty() {
            let run = cursor.u64()?;
            // The other form, of packed bits, is not written.
            let count = usize::try_from(run >> 1).ok().filter(|_| run & 1 == 0)?;
            row = row.checked_add(count).filter(|row| *row <= header.rows)?;
            values += match cursor.u8()? {
                0 => 0,
                1 => count,
                _ => return None,
            };
            self.runs.push((row, values));
        }
        (row == header.rows && values == header.rows - header.nulls).then_some(())
    }

    /// Overwrites those of `out` that have a value here, and says how many; `out` are the rows from `first` on.
    pub(crate) fn overwrite(&self, first: usize, out: &mut [f64]) -> usize {
        let mut overwritten = 0;
        let end = first + out.len();
        let from = self.runs.partition_point(|(row, _)| *row <= first);
        let (mut row, mut value) = from.checked_sub(1).and_then(|last| self.runs.get(last)).copied().unwrap_or((0, 0));
        for (next_row, next_value) in self.runs.iter().skip(from) {
            if row >= end {
                break;
            }
            if *next_value > value {
                let (from, to) = (row.max(first), (*next_row).min(end));
                let kept = self.values.get(value + (from - row)..value + (to - row));
                if let (Some(out), Some(kept)) = (out.get_mut(from - first..to - first), kept) {
                    out.copy_from_slice(kept);
                    overwritten += kept.len();
                }
            }
            (row, value) = (*next_row, *next_value);
        }
        overwritten
    }
}

/// Appends `rows` numbers of DELTA_BINARY_PACKED.
fn decode_delta(bytes: &[u8], rows: usize, out: &mut Vec<i64>) -> Option<()> {
    let mut cursor = Cursor(bytes);
    let is_known = (cursor.u64()?, cursor.u64()?, cursor.u64()?) == (DELTA_BLOCK, DELTA_PARTS, rows as u64);
    let mut last = Some(cursor.i64()?).filter(|_| is_known)?;
    // Each 32 numbers take a byte at least, so that a wild count cannot make us allocate.
    let mut left = rows.checked_sub(1).filter(|left| left / DELTA_PART <= bytes.len())?;
    out.reserve(rows);
    out.push(last);
    let mut part = [0; DELTA_PART];
    while left > 0 {
        let least = cursor.i64()?;
        for width in cursor.bytes(DELTA_PARTS as usize)? {
            if left == 0 {
                break;
            }
            if *width == 0 {
                for number in &mut part {
                    last = last.wrapping_add(least);
                    *number = last;
                }
            } else {
                let packed = cursor.bytes(usize::from(*width) * DELTA_PART / 8).filter(|_| *width <= 64)?;
                unpack(packed, usize::from(*width), &mut part);
                for number in &mut part {
                    last = last.wrapping_add(least).wrapping_add(*number);
                    *number = last;
                }
            }
            let count = left.min(DELTA_PART);
            out.extend_from_slice(part.get(..count)?);
            left -= count;
        }
    }
    Some(())
}

/// Unpacks numbers of `width` bits, which is 1 to 64.
fn unpack(packed: &[u8], width: usize, out: &mut [i64; DELTA_PART]) {
    let mut padded = [0_u8; DELTA_PART_BYTES];
    padded[..packed.len()].copy_from_slice(packed);
    let mask = u64::MAX >> (64 - width);
    // The mask on the place changes nothing, but shows that it is inside.
    if width <= 57 {
        for (i, out) in out.iter_mut().enumerate() {
            let at = (i * width / 8) & 0xff;
            let mut word = [0; 8];
            word.copy_from_slice(&padded[at..at + 8]);
            *out = (u64::from_le_bytes(word) >> (i * width % 8) & mask) as i64;
        }
    } else {
        for (i, out) in out.iter_mut().enumerate() {
            let at = (i * width / 8) & 0xff;
            let mut word = [0; 16];
            word.copy_from_slice(&padded[at..at + 16]);
            *out = ((u128::from_le_bytes(word) >> (i * width % 8)) as u64 & mask) as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode::{delta_binary_packed, runs};
    use super::*;

    #[track_caller]
    fn check(numbers: &[i64]) {
        let (mut packed, mut got) = (Vec::new(), Vec::new());
        delta_binary_packed(numbers, &mut packed);
        assert_eq!(decode_delta(&packed, numbers.len(), &mut got), Some(()));
        assert_eq!(got, numbers);
        for cut in 0..packed.len() {
            let mut got = Vec::new();
            let decoded = decode_delta(&packed[..cut], numbers.len(), &mut got);
            assert!(decoded.is_none() || got == numbers, "cut at {cut}");
        }
    }

    #[test]
    fn numbers_of_every_width_come_back() {
        for width in 0..64 {
            check(&(0..200).map(|i: i64| i.wrapping_mul(0x1e37_79b9_7f4a_7c15) >> (63 - width)).collect::<Vec<_>>());
        }
        check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]);
    }

    #[test]
    fn values_overwrite_the_rows_they_are_of() {
        let (mut values, mut levels) = (SparseValues::default(), Vec::new());
        runs([(0, 3), (1, 2), (0, 2), (1, 1)], 1, &mut levels);
        let header = Header { rows: 8, nulls: 5, ..Header::default() };
        assert_eq!(values.decode_levels(&levels, header), Some(()));
        values.values = vec![1.0, 2.0, 3.0];
        for first in 0..8 {
            for end in first..=8 {
                let mut out = vec![0.0; end - first];
                let overwritten = values.overwrite(first, &mut out);
                assert_eq!(overwritten, out.iter().filter(|value| **value > 0.0).count());
                assert_eq!(out, [0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0][first..end], "{first}..{end}");
            }
        }
        assert_eq!(values.decode_levels(&levels, Header { rows: 9, ..header }), None);
        assert_eq!(values.decode_levels(&levels, Header { nulls: 4, ..header }), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = PageDecoder::default();
            let decoded = decoder.numbers(&bytes, &mut Vec::new());
            prop_assert!(decoded.is_none() || !bytes.is_empty());
            let decoded = decoder.values(&bytes, &mut SparseValues::default());
            prop_assert!(decoded.is_none() || !bytes.is_empty());
        }

        #[test]
        fn any_numbers_come_back(numbers in proptest::collection::vec(any::<i64>(), 1..300)) {
            check(&numbers);
        }
    }
}
