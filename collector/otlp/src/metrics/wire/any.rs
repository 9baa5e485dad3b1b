//! `KeyValue` and `AnyValue`.

use super::reader::{Malformed, Reader};

/// A `KeyValue`; the key is not yet tested for UTF-8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::metrics) struct Pair<'a> {
    pub(in crate::metrics) key: &'a [u8],
    pub(in crate::metrics) value: Any<'a>,
}

/// An `AnyValue`; text is not yet tested for UTF-8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::metrics) enum Any<'a> {
    /// Nothing, or a reference into a string table, which only profiles have.
    Empty,
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    /// The whole `AnyValue` message of a list or map.
    Nested(&'a [u8]),
}

impl<'a> Pair<'a> {
    #[inline]
    pub(in crate::metrics) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut pair = Self { key: &[], value: Any::Empty };
        let mut reader = Reader::new(message);
        while let Some((tag, value)) = reader.next()? {
            match tag {
                1 => pair.key = value.bytes()?,
                2 => pair.value = Any::read(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(pair)
    }
}

impl<'a> Any<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut any = Self::Empty;
        let mut reader = Reader::new(message);
        while let Some((tag, value)) = reader.next()? {
            any = match tag {
                1 => Self::Text(value.bytes()?),
                2 => Self::Bool(value.varint()? != 0),
                3 => Self::Int(value.varint()?.cast_signed()),
                4 => Self::Double(value.double()?),
                5 | 6 => {
                    value.bytes()?;
                    Self::Nested(message)
                }
                7 => Self::Bytes(value.bytes()?),
                8 => {
                    value.varint()?;
                    Self::Empty
                }
                _ => any,
            };
        }
        Ok(any)
    }
}
