//! Bits one after the other, highest first, and the numbers that Prometheus' chunks make of them.
//! Source: `prometheus/tsdb/docs/format/chunks.md`.

/// Collects bits.
#[derive(Debug)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// How many bits of the last byte are not used yet.
    free: u8,
}

impl Bits {
    /// Starts behind a header of whole bytes.
    pub(super) fn after(header: &[u8]) -> Self {
        Self { bytes: header.to_vec(), free: 0 }
    }

    /// Returns the bytes; the bits that the last one lacks are 0.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends the lowest `count` bits of `value`.
    pub(super) fn push(&mut self, value: u64, count: u8) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                #[expect(clippy::cast_possible_truncation, reason = "at most eight bits are taken")]
                let part = part as u8;
                *last |= part << (self.free - take);
            }
            self.free -= take;
            left -= take;
        }
    }

    /// Appends a number in groups of seven bits, lowest first.
    pub(super) fn push_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.push(value, 8);
    }

    /// Appends a signed number in zigzag order as [`push_uvarint`](Self::push_uvarint).
    pub(super) fn push_varint(&mut self, value: i64) {
        self.push_uvarint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Appends a signed number with a prefix that tells its size.
    pub(super) fn push_varbit(&mut self, value: i64) {
        let size = if value == 0 { 0 } else { size_of_varbit(|bits| fits(value, bits)) };
        self.push_sized(value.cast_unsigned(), size);
    }

    /// Appends a number without sign as [`push_varbit`](Self::push_varbit).
    pub(super) fn push_varbit_unsigned(&mut self, value: u64) {
        let size = if value == 0 { 0 } else { size_of_varbit(|bits| value >> bits == 0) };
        self.push_sized(value, size);
    }

    fn push_sized(&mut self, value: u64, size: usize) {
        match SIZES.get(size.wrapping_sub(1)) {
            None if size == 0 => self.push(0, 1),
            None => {
                self.push(0xff, 8);
                self.push(value, 64);
            }
            Some(bits) => {
                // As many ones as the size's place in the list, then a zero.
                for _ in 0..size {
                    self.push(1, 1);
                }
                self.push(0, 1);
                self.push(value, *bits);
            }
        }
    }
}

/// The sizes in bits that a prefix of one, two, … ones stands for.
const SIZES: [u8; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Returns how many ones stand before a number, which is one more than the place of the first size that it fits.
fn size_of_varbit(fits: impl Fn(u8) -> bool) -> usize {
    SIZES.iter().position(|bits| fits(*bits)).unwrap_or(SIZES.len()) + 1
}

/// Says whether `value` can be told from all others of `bits` bits; the range is one further above zero than below.
pub(super) fn fits(value: i64, bits: u8) -> bool {
    let half = 1i64 << (bits - 1);
    -(half - 1) <= value && value <= half
}

/// A number that is written as its difference, bit by bit, from the one before.
#[derive(Debug, Clone)]
pub(super) struct Xor {
    bits: u64,
    /// How many zeros the last window had before and after it.
    window: Option<(u8, u8)>,
}

impl Xor {
    /// Starts with a number that is written elsewhere.
    pub(super) fn after(first: f64) -> Self {
        Self { bits: first.to_bits(), window: None }
    }

    /// Writes the next number.
    pub(super) fn push(&mut self, out: &mut Bits, value: f64) {
        let delta = std::mem::replace(&mut self.bits, value.to_bits()) ^ value.to_bits();
        if delta == 0 {
            out.push(0, 1);
            return;
        }
        out.push(1, 1);
        // Five bits hold the number of leading zeros.
        #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
        let (leading, trailing) = (delta.leading_zeros().min(31) as u8, delta.trailing_zeros() as u8);
        if let Some((before, after)) = self.window
            && leading >= before
            && trailing >= after
        {
            out.push(0, 1);
            out.push(delta >> after, 64 - before - after);
            return;
        }
        self.window = Some((leading, trailing));
        let width = 64 - leading - trailing;
        out.push(1, 1);
        out.push(u64::from(leading), 5);
        // 64 does not fit into six bits and is written as 0, which cannot occur.
        out.push(u64::from(width), 6);
        out.push(delta >> trailing, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(write: impl Fn(&mut Bits)) -> String {
        let mut out = Bits::after(&[]);
        write(&mut out);
        let free = usize::from(out.free);
        let all: String = out.finish().iter().map(|byte| format!("{byte:08b}")).collect();
        all.get(..all.len() - free).unwrap().to_owned()
    }

    #[test]
    fn bits_cross_bytes() {
        assert_eq!(
            bits(|out| {
                out.push(0b101, 3);
                out.push(0x1ff, 9);
                out.push(u64::MAX, 64)
            }),
            "101111111111".to_owned() + &"1".repeat(64)
        );
        assert_eq!(bits(|out| out.push_varint(-2)), "00000011");
        assert_eq!(bits(|out| out.push_uvarint(300)), "1010110000000010");
    }

    #[test]
    fn small_numbers_take_few_bits() {
        let signed = |value| bits(|out| out.push_varbit(value));
        assert_eq!(signed(0), "0");
        assert_eq!(signed(4), "10100");
        assert_eq!(signed(-3), "10101");
        assert_eq!(signed(-4), "110111100");
        assert_eq!(signed(32), "110100000");
        assert_eq!(signed(256), "1110100000000");
        assert_eq!(signed(i64::MIN), "11111111".to_owned() + "1" + &"0".repeat(63));
        assert_eq!(signed(1 << 55).len(), 64);
        assert_eq!(signed((1 << 55) + 1).len(), 72);
        let unsigned = |value| bits(|out| out.push_varbit_unsigned(value));
        assert_eq!(unsigned(7), "10111");
        assert_eq!(unsigned(8), "110001000");
        assert_eq!(unsigned(u64::MAX), "1".repeat(72));
    }

    #[test]
    fn numbers_are_told_by_their_difference() {
        let text = bits(|out| {
            let mut xor = Xor::after(1.0);
            xor.push(out, 1.0);
            // 1.0 is 0x3ff0…, 2.0 is 0x4000…: eleven bits differ, behind one zero.
            xor.push(out, 2.0);
            xor.push(out, 1.0);
        });
        assert_eq!(text, ["0", "11", "00001", "001011", "11111111111", "10", "11111111111"].concat());
    }
}
