//! A walk over the fields of a protobuf message that copies nothing.

/// Groups inside groups that are skipped; no message of ours has any.
const GROUP_DEPTH_MAX: u32 = 32;

/// The bytes are no protobuf message of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(super) &'static str);

const WRONG_TYPE: Malformed = Malformed("a field has an unexpected wire type");
const CUT_OFF: Malformed = Malformed("a field is longer than its message");
const VARINT: Malformed = Malformed("a varint is unfinished or too long");

/// One field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    /// A group, which was skipped.
    Group,
}

/// Reads the fields of one message, in the order they come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    message: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { message, rest: message }
    }

    /// Returns how many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.message.len() - self.rest.len()
    }

    /// Returns the next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        let Some((&key, rest)) = self.rest.split_first() else { return Ok(None) };
        // Nearly all keys and lengths are of one byte.
        if (8..0x80).contains(&key) {
            self.rest = rest;
            let tag = u32::from(key >> 3);
            return self.value(tag, key & 7, GROUP_DEPTH_MAX).map(|value| Some((tag, value)));
        }
        let (tag, kind) = self.key()?;
        self.value(tag, kind, GROUP_DEPTH_MAX).map(|value| Some((tag, value)))
    }

    /// Returns the next of a list of packed varints; `None` at the end.
    pub(crate) fn next_varint(&mut self) -> Result<Option<u64>, Malformed> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let key = self.varint()?;
        match u32::try_from(key) {
            Ok(key) if key >> 3 != 0 => Ok((key >> 3, (key & 7) as u8)),
            _ => Err(Malformed("a field has an invalid number")),
        }
    }

    #[inline]
    fn value(&mut self, tag: u32, kind: u8, depth: u32) -> Result<Value<'a>, Malformed> {
        match kind {
            0 => self.varint().map(Value::Varint),
            1 => {
                let Some((bytes, rest)) = self.rest.split_first_chunk::<8>() else { return Err(CUT_OFF) };
                self.rest = rest;
                Ok(Value::Fixed64(u64::from_le_bytes(*bytes)))
            }
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let Some((bytes, rest)) = self.rest.split_at_checked(length) else { return Err(CUT_OFF) };
                self.rest = rest;
                Ok(Value::Bytes(bytes))
            }
            3 => self.skip_group(tag, depth),
            4 => Err(Malformed("a group ends that never started")),
            5 => {
                let Some((bytes, rest)) = self.rest.split_first_chunk::<4>() else { return Err(CUT_OFF) };
                self.rest = rest;
                Ok(Value::Fixed32(u32::from_le_bytes(*bytes)))
            }
            _ => Err(Malformed("a field has an unknown wire type")),
        }
    }

    fn skip_group(&mut self, tag: u32, depth: u32) -> Result<Value<'a>, Malformed> {
        let Some(depth) = depth.checked_sub(1) else { return Err(Malformed("groups are nested too deep")) };
        loop {
            match self.key()? {
                (end, 4) if end == tag => return Ok(Value::Group),
                (_, 4) => return Err(Malformed("a group ends with another number")),
                (inner, kind) => drop(self.value(inner, kind, depth)?),
            }
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
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
        Err(VARINT)
    }
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }

    #[inline]
    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(WRONG_TYPE),
        }
    }

    #[inline]
    pub(crate) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            _ => Err(WRONG_TYPE),
        }
    }

    #[inline]
    pub(crate) fn fixed32(self) -> Result<u32, Malformed> {
        match self {
            Self::Fixed32(bits) => Ok(bits),
            _ => Err(WRONG_TYPE),
        }
    }

    #[inline]
    pub(crate) fn double(self) -> Result<f64, Malformed> {
        self.fixed64().map(f64::from_bits)
    }

    /// An `sfixed64`, as the double that Prometheus keeps.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
    pub(crate) fn sfixed64_as_double(self) -> Result<f64, Malformed> {
        self.fixed64().map(|bits| bits.cast_signed() as f64)
    }

    /// A `uint32`, or the bits of an `int32` or enum; what is over 32 bits is cut off, as protobuf says.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "protobuf has it cut off")]
    pub(crate) fn uint32(self) -> Result<u32, Malformed> {
        self.varint().map(|number| number as u32)
    }

    /// A `sint32`.
    pub(crate) fn sint32(self) -> Result<i32, Malformed> {
        self.uint32().map(|zigzag| (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}
