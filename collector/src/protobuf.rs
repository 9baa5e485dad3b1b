//! A walk over protobuf bytes that copies nothing.

use crate::error::Refusal;

/// Deepest nesting of groups that is skipped.
const GROUP_DEPTH_MAX: u32 = 100;

/// The bytes are no protobuf, or a field has another type than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Malformed {
    what: &'static str,
    /// Where in memory it was seen; 0 when that is not known yet. Turned into an offset where the whole body is known.
    address: usize,
}

impl Malformed {
    /// Makes an error whose place is not known yet.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, address: 0 }
    }

    /// Adds the message in which it was seen, unless a closer place is known.
    pub(crate) fn within(self, message: &[u8]) -> Self {
        let address = if self.address == 0 { message.as_ptr().addr() } else { self.address };
        Self { address, ..self }
    }

    /// Makes the refusal of a whole body.
    pub(crate) fn refuse(self, what: &'static str, body: &[u8]) -> Refusal {
        Refusal::Malformed { what, cause: self.place_in(body) }
    }

    /// Says what is wrong and where in the body.
    pub(crate) fn place_in(self, body: &[u8]) -> String {
        match self.address.checked_sub(body.as_ptr().addr()) {
            Some(offset) if offset <= body.len() => format!("{self}, at byte {offset} of {}", body.len()),
            _ => self.to_string(),
        }
    }
}

/// One field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    /// A group, which no message of ours has; it was skipped.
    Group,
}

/// Reads the fields of one message, in the order they come.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the next field's number and value; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (tag, wire_type) = self.key()?;
        if wire_type == 4 {
            return Err(self.malformed("a group ends that never started"));
        }
        let field = self.value(tag, wire_type, GROUP_DEPTH_MAX)?;
        Ok(Some((tag, field)))
    }

    /// Returns the next of a list of packed varints; `None` at the end.
    pub(crate) fn next_varint(&mut self) -> Result<Option<u64>, Malformed> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    /// Returns the next of a list of packed doubles; `None` at the end.
    pub(crate) fn next_double(&mut self) -> Result<Option<f64>, Malformed> {
        if self.rest.is_empty() { Ok(None) } else { self.array().map(|bytes| Some(f64::from_le_bytes(bytes))) }
    }

    fn key(&mut self) -> Result<(u32, u64), Malformed> {
        let key = self.varint()?;
        match u32::try_from(key) {
            Ok(key) if key >> 3 != 0 => Ok((key >> 3, u64::from(key & 7))),
            _ => Err(self.malformed("an invalid field number")),
        }
    }

    fn value(&mut self, tag: u32, wire_type: u64, depth: u32) -> Result<Field<'a>, Malformed> {
        match wire_type {
            0 => self.varint().map(Field::Varint),
            1 => Ok(Field::Fixed64(u64::from_le_bytes(self.array()?))),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.take(length).map(Field::Bytes)
            }
            3 => self.skip_group(tag, depth),
            5 => Ok(Field::Fixed32(u32::from_le_bytes(self.array()?))),
            _ => Err(self.malformed("an unknown wire type")),
        }
    }

    fn skip_group(&mut self, tag: u32, depth: u32) -> Result<Field<'a>, Malformed> {
        let Some(depth) = depth.checked_sub(1) else { return Err(self.malformed("groups are nested too deep")) };
        loop {
            match self.key()? {
                (end, 4) if end == tag => return Ok(Field::Group),
                (_, 4) => return Err(self.malformed("a group ends with another number")),
                (inner, wire_type) => drop(self.value(inner, wire_type, depth)?),
            }
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        // Nearly all are of one byte.
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        let mut value = 0_u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if i == 9 && *byte > 1 {
                    break;
                }
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.malformed("an unfinished or too long varint"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((first, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.malformed("a number is cut off"));
        };
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let Some((first, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.malformed("a field is longer than its message"));
        };
        self.rest = rest;
        Ok(first)
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, address: self.rest.as_ptr().addr() }
    }
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(crate) fn int64(self) -> Result<i64, Malformed> {
        self.varint().map(u64::cast_signed)
    }

    /// Reads a 32-bit number with a sign as protobuf does: what is over 32 bits is cut off.
    #[expect(clippy::cast_possible_truncation, reason = "protobuf says so")]
    pub(crate) fn sint32(self) -> Result<i32, Malformed> {
        self.varint().map(|number| zigzag(u64::from(number as u32)) as i32)
    }

    /// Reads a 32-bit number as protobuf does: what is over 32 bits is cut off.
    #[expect(clippy::cast_possible_truncation, reason = "protobuf says so")]
    pub(crate) fn uint32(self) -> Result<u32, Malformed> {
        self.varint().map(|number| number as u32)
    }

    pub(crate) fn double(self) -> Result<f64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(WRONG_TYPE),
        }
    }
}

/// Returns the number with a sign that protobuf's `sint32` and `sint64` hide in one without.
pub(crate) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Where it was is for the caller to say, which knows the message.
const WRONG_TYPE: Malformed = Malformed { what: "a field has an unexpected wire type", address: 0 };
