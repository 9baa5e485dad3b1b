//! Numbers of any width, one after the other, low bit first; after the last one come ones up to a whole byte, so that nothing
//! has to say how many there are.

use crate::codec::Malformed;

/// Widest number.
const WIDTH_MAX: u32 = 32;

/// Writes to the end of a buffer.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    word: u64,
    used: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, word: 0, used: 0 }
    }

    /// Adds a number of at most 32 bits.
    #[inline]
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.word |= value << self.used;
        self.used += bits;
        if self.used >= 32 {
            self.out.extend_from_slice(&self.word.to_le_bytes()[..4]);
            self.word >>= 32;
            self.used -= 32;
        }
    }

    /// Adds a number in Rice's code: its upper part as that many ones and a zero, then its lower `bits`.
    #[inline]
    pub(super) fn rice(&mut self, value: u64, bits: u32) {
        let mut ones = value >> bits;
        while ones >= 31 {
            self.put((1 << 31) - 1, 31);
            ones -= 31;
        }
        self.put((1 << ones) - 1, u32::try_from(ones).unwrap_or(0) + 1);
        self.put(value & ((1 << bits) - 1), bits);
    }

    /// Fills the last byte with ones.
    pub(super) fn finish(self) {
        let bytes = self.used.div_ceil(8) as usize;
        let padded = self.word | u64::MAX << self.used;
        self.out.extend_from_slice(padded.to_le_bytes().get(..bytes).unwrap_or_default());
    }
}

/// Reads what a [`BitWriter`] wrote.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the next 57 bits and more; behind the end come ones.
    #[inline]
    fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => {
                let mut word = [0xff; 8];
                word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                u64::from_le_bytes(word)
            }
        };
        word >> (self.at % 8) | !(u64::MAX >> (self.at % 8))
    }

    /// Reads a number of at most 32 bits.
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> Result<u64, Malformed> {
        let value = self.peek() & ((1 << bits.min(WIDTH_MAX)) - 1);
        self.at += bits as usize;
        if self.at > self.bytes.len() * 8 { Err(Malformed("more bits")) } else { Ok(value) }
    }

    /// Reads a number in Rice's code; `None` when only the ones at the end are left.
    #[inline]
    pub(super) fn rice(&mut self, bits: u32) -> Result<Option<u64>, Malformed> {
        let mut high = 0_u64;
        loop {
            let ones = self.peek().trailing_ones().min(56);
            self.at += ones as usize;
            high += u64::from(ones);
            if self.at >= self.bytes.len() * 8 {
                return Ok(None);
            }
            if ones < 56 {
                break;
            }
        }
        self.at += 1;
        let low = self.take(bits)?;
        Ok(Some(high.checked_shl(bits).unwrap_or(u64::MAX) | low))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in proptest::collection::vec((0_u64..2000, 0_u32..9, any::<u32>(), 0_u32..33), 0..60)) {
            let mut bytes = vec![7];
            let mut writer = BitWriter::new(&mut bytes);
            let narrow = |value: u32, width: u32| u64::from(value) & ((1 << width) - 1);
            for (rice, bits, value, width) in &numbers {
                writer.rice(*rice, *bits);
                writer.put(narrow(*value, *width), *width);
            }
            writer.finish();
            let mut reader = BitReader::new(&bytes[1..]);
            for (rice, bits, value, width) in &numbers {
                prop_assert_eq!(reader.rice(*bits).unwrap(), Some(*rice));
                prop_assert_eq!(reader.take(*width).unwrap(), narrow(*value, *width));
            }
            prop_assert_eq!(reader.rice(3).unwrap(), None);
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..40), bits in 0_u32..33) {
            let mut reader = BitReader::new(&bytes);
            let mut read = 0;
            while let Ok(Some(_)) = reader.rice(bits) {
                read += 1;
            }
            prop_assert!(read <= bytes.len() * 8);
        }
    }
}
