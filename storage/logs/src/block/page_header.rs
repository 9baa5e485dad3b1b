//! The header of a Parquet page: a struct in Thrift's compact protocol, in which each field says its number and type.
//! Numbers and enumerations are those of `parquet.thrift`.

use parquet::basic::Encoding;

use crate::codec::{Input, Malformed, unzigzag};

/// Deepest nesting of what is skipped.
const DEPTH_MAX: usize = 8;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Data,
    Dictionary,
}

/// What is needed of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) kind: PageKind,
    /// Size of the content, decompressed.
    pub(super) bytes: usize,
    /// Size of the content as it is in the file.
    pub(super) compressed_bytes: usize,
    pub(super) values: u32,
    pub(super) encoding: Encoding,
    /// Size of the header itself.
    pub(super) header_bytes: usize,
}

/// The value of a field, as far as it matters.
enum Value<'a> {
    Number(i64),
    Struct(Fields<'a>),
    Other,
}

/// Fields of a struct that is being read.
struct Fields<'a> {
    input: Input<'a>,
    last: i64,
}

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

impl<'a> Fields<'a> {
    /// Returns the next field's number and type.
    fn next(&mut self) -> Result<Option<(i64, u8)>, Malformed> {
        let byte = self.input.u8()?;
        let (step, kind) = (byte >> 4, byte & 15);
        if kind == STOP {
            return Ok(None);
        }
        self.last = match step {
            0 => self.input.zigzag()?,
            step => self.last.wrapping_add(i64::from(step)),
        };
        Ok(Some((self.last, kind)))
    }

    /// Reads a field's value; what is inside a struct is skipped here, and given to be read by itself.
    fn value(&mut self, kind: u8) -> Result<Value<'a>, Malformed> {
        match kind {
            4..=I64 => self.input.varint().map(|number| Value::Number(unzigzag(number))),
            STRUCT => {
                let inner = Fields { input: self.input, last: 0 };
                skip(&mut self.input, STRUCT, 0)?;
                Ok(Value::Struct(inner))
            }
            kind => skip_field(&mut self.input, kind, 0).map(|()| Value::Other),
        }
    }
}

/// Skips a field's value; a boolean lies in its type.
fn skip_field(input: &mut Input<'_>, kind: u8, depth: usize) -> Result<(), Malformed> {
    if matches!(kind, TRUE | FALSE) { Ok(()) } else { skip(input, kind, depth) }
}

fn skip(input: &mut Input<'_>, kind: u8, depth: usize) -> Result<(), Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("a page header that is not nested deep"));
    }
    match kind {
        TRUE | FALSE | BYTE => input.u8().map(drop),
        4..=I64 => input.varint().map(drop),
        DOUBLE => input.array::<8>().map(drop),
        BINARY => input.bytes().map(drop),
        LIST | SET => {
            let byte = input.u8()?;
            let count = if byte >> 4 == 15 { input.count(1)? } else { usize::from(byte >> 4) };
            (0..count).try_for_each(|_| skip(input, byte & 15, depth + 1))
        }
        MAP => {
            let count = input.count(1)?;
            let kinds = if count > 0 { input.u8()? } else { 0 };
            (0..count).try_for_each(|_| {
                skip(input, kinds >> 4, depth + 1)?;
                skip(input, kinds & 15, depth + 1)
            })
        }
        STRUCT => {
            let mut fields = Fields { input: *input, last: 0 };
            while let Some((_, kind)) = fields.next()? {
                skip_field(&mut fields.input, kind, depth + 1)?;
            }
            *input = fields.input;
            Ok(())
        }
        _ => Err(Malformed("a known type of field in a page header")),
    }
}

fn encoding(number: i64) -> Option<Encoding> {
    Some(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        _ => return None,
    })
}

impl PageHeader {
    /// Reads the header at the start of `bytes`; `None` when the page is of another kind or encoding.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields { input: Input::new(bytes), last: 0 };
        let (mut kind, mut sizes, mut inner) = (None, [None; 2], None);
        while let Some((number, field)) = fields.next()? {
            match (number, fields.value(field)?) {
                (1, Value::Number(0)) => kind = Some(PageKind::Data),
                (1, Value::Number(2)) => kind = Some(PageKind::Dictionary),
                (2, Value::Number(size)) => sizes[0] = usize::try_from(size).ok(),
                (3, Value::Number(size)) => sizes[1] = usize::try_from(size).ok(),
                (5 | 7, Value::Struct(fields)) => inner = Some(fields),
                _ => {}
            }
        }
        let header_bytes = bytes.len() - fields.input.len();
        let (Some(kind), [Some(bytes), Some(compressed_bytes)], Some(mut inner)) = (kind, sizes, inner) else {
            return Ok(None);
        };
        let (mut values, mut found) = (None, None);
        while let Some((number, field)) = inner.next()? {
            match (number, inner.value(field)?) {
                (1, Value::Number(count)) => values = u32::try_from(count).ok(),
                (2, Value::Number(number)) => found = encoding(number),
                _ => {}
            }
        }
        let (Some(values), Some(encoding)) = (values, found) else { return Ok(None) };
        Ok(Some(Self { kind, bytes, compressed_bytes, values, encoding, header_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of 1,024 values with levels, statistics (a struct with binaries and a boolean) and a checksum.
    const HEADER: &[u8] = &[
        0x15, 0x00, 0x15, 0x90, 0x4e, 0x15, 0x88, 0x27, 0x15, 0x0b, 0x1c, 0x15, 0x80, 0x10, 0x15, 0x00, 0x15, 0x06,
        0x15, 0x06, 0x1c, 0x18, 0x01, 0x61, 0x28, 0x02, 0x62, 0x63, 0x11, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn a_header_says_what_follows() {
        let mut bytes = HEADER.to_vec();
        bytes.extend([0xaa; 4]);
        let header = PageHeader::read(&bytes).unwrap().unwrap();
        assert_eq!((header.kind, header.values, header.encoding), (PageKind::Data, 1024, Encoding::PLAIN));
        assert_eq!((header.bytes, header.compressed_bytes, header.header_bytes), (5000, 2500, HEADER.len()));
    }

    #[test]
    fn any_bytes_give_a_header_or_an_error() {
        for length in 0..HEADER.len() {
            assert!(PageHeader::read(&HEADER[..length]).is_err(), "cut at {length}");
        }
        for at in 0..HEADER.len() {
            for flip in 1..=255 {
                let mut bytes = HEADER.to_vec();
                bytes[at] ^= flip;
                if let Ok(Some(header)) = PageHeader::read(&bytes) {
                    assert!(header.header_bytes <= bytes.len(), "byte {at}");
                }
            }
        }
        assert!(PageHeader::read(&[0x1c; 100]).is_err(), "nested too deep");
    }
}
