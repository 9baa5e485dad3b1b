//! Samples of one series, packed for the head: times as differences of differences, values as differences of decimals or
//! XOR of bits, each in groups of eight with as many bits as the largest of the group needs. Never on disk.

use std::sync::Arc;

use crate::block::decimal::{POWERS, whole};
use crate::varint::{Cursor, put_i64, unzigzag, zigzag};

/// Samples that are packed at a time at most. At a 10 s interval 120 is 20 minutes: long enough to pack well, and short
/// enough that a query for the newest samples decodes little.
pub(crate) const SAMPLES_PER_CHUNK: usize = 120;

/// Numbers that are packed with the same width: eight of any width fill whole bytes.
const GROUP: usize = 8;

/// In the place of a scale: the values are no decimals.
const SCALE_NONE: u8 = 0xff;

/// Packed samples.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Arc<[u8]>,
    pub(crate) samples: u32,
    /// The least and greatest time in the chunk.
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

impl Chunk {
    /// Packs samples, values by their bits, in the order given; times may come in any order and repeat.
    pub(crate) fn encode(samples: &[(i64, u64)], scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        let times = || samples.iter().map(|(time, _)| *time);
        let mut last = times().next().unwrap_or(0);
        let mut last_delta = times().nth(1).map_or(0, |second| second.wrapping_sub(last));
        put_i64(scratch, last);
        put_i64(scratch, last_delta);
        let mut groups = Groups::signed(scratch);
        for time in times().skip(1) {
            let delta = time.wrapping_sub(last);
            groups.put(delta.wrapping_sub(last_delta) as u64);
            (last, last_delta) = (time, delta);
        }
        groups.finish();
        encode_values(samples, scratch);
        Self {
            bytes: scratch.as_slice().into(),
            samples: u32::try_from(samples.len()).expect("a chunk has few samples"),
            min_ms: times().min().unwrap_or(i64::MAX),
            max_ms: times().max().unwrap_or(i64::MIN),
        }
    }

    /// Appends the samples to `times` and `values`.
    pub(crate) fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) {
        let Some(rest) = self.samples.checked_sub(1) else { return };
        let mut cursor = Cursor(&self.bytes);
        let mut last = cursor.i64().unwrap_or(0);
        let mut last_delta = cursor.i64().unwrap_or(0);
        times.push(last);
        take_groups(&mut cursor, rest, true, |number| {
            last_delta = last_delta.wrapping_add(number as i64);
            last = last.wrapping_add(last_delta);
            times.push(last);
        });
        let scale = cursor.u8().unwrap_or(SCALE_NONE);
        if let Some(power) = POWERS.get(usize::from(scale)) {
            let mut last = cursor.i64().unwrap_or(0);
            values.push(last as f64 / power);
            take_groups(&mut cursor, rest, true, |number| {
                last = last.wrapping_add(number as i64);
                values.push(last as f64 / power);
            });
        } else {
            let mut last = cursor.fixed_u64().unwrap_or(0);
            values.push(f64::from_bits(last));
            take_groups(&mut cursor, rest, false, |number| {
                last ^= number;
                values.push(f64::from_bits(last));
            });
        }
    }

    /// Returns the bytes that the chunk keeps allocated.
    pub(crate) fn size_bytes(&self) -> usize {
        // Its place in a list, and two counters and an allocation of its own.
        self.bytes.len() + size_of::<Self>() + 32
    }
}

/// Returns a scale at which the values may be decimals, the smallest one, and `None` when there is none.
fn find_scale(samples: &[(i64, u64)]) -> Option<usize> {
    let mut scale = 0;
    for (_, bits) in samples {
        let value = f64::from_bits(*bits);
        while whole(value, *POWERS.get(scale)?).is_none() {
            scale += 1;
        }
    }
    Some(scale)
}

fn encode_values(samples: &[(i64, u64)], out: &mut Vec<u8>) {
    let start = out.len();
    let Some(((_, first), rest)) = samples.split_first() else { return };
    if let Some(scale) = find_scale(samples)
        && let Some(power) = POWERS.get(scale)
    {
        let mantissa = |bits: &u64| whole(f64::from_bits(*bits), *power).map(|mantissa| mantissa as i64);
        let mut last = mantissa(first).unwrap_or(0);
        let mut are_whole = mantissa(first).is_some();
        out.push(scale as u8);
        put_i64(out, last);
        let mut groups = Groups::signed(out);
        for (_, bits) in rest {
            // What fits a smaller scale may be too large for a greater one.
            let next = mantissa(bits);
            are_whole &= next.is_some();
            let next = next.unwrap_or(last);
            groups.put(next.wrapping_sub(last) as u64);
            last = next;
        }
        groups.finish();
        if are_whole {
            return;
        }
        out.truncate(start);
    }
    out.push(SCALE_NONE);
    out.extend_from_slice(&first.to_le_bytes());
    let mut groups = Groups::unsigned(out);
    let mut last = *first;
    for (_, bits) in rest {
        groups.put(bits ^ last);
        last = *bits;
    }
    groups.finish();
}

/// Packs numbers. A group has its width in bits, the zeros that all its numbers end with, where there is a width, and
/// then the rest of the bits of each.
struct Groups<'o> {
    out: &'o mut Vec<u8>,
    is_signed: bool,
    numbers: [u64; GROUP],
    count: usize,
}

impl<'o> Groups<'o> {
    /// Packs numbers of either sign, small ones in few bits.
    fn signed(out: &'o mut Vec<u8>) -> Self {
        Self { out, is_signed: true, numbers: [0; GROUP], count: 0 }
    }

    fn unsigned(out: &'o mut Vec<u8>) -> Self {
        Self { is_signed: false, ..Self::signed(out) }
    }

    fn put(&mut self, number: u64) {
        if let Some(place) = self.numbers.get_mut(self.count) {
            *place = number;
        }
        self.count += 1;
        if self.count == GROUP {
            self.flush();
        }
    }

    fn finish(mut self) {
        if self.count > 0 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let any = self.numbers.iter().fold(0, |any, number| any | number);
        // A number and its negative end with as many zeros.
        let zeros = if any == 0 { 0 } else { any.trailing_zeros() };
        let is_signed = self.is_signed;
        let codes = self.numbers.map(|number| match is_signed {
            true => zigzag((number as i64) >> zeros),
            false => number >> zeros,
        });
        let width = u64::BITS - codes.iter().fold(0, |any, code| any | code).leading_zeros();
        self.out.push(width as u8);
        if width > 0 {
            self.out.push(zeros as u8);
        }
        let (mut bits, mut filled) = (0_u128, 0);
        for code in codes {
            bits |= u128::from(code) << filled;
            filled += width;
            if filled >= u64::BITS {
                self.out.extend_from_slice(&(bits as u64).to_le_bytes());
                bits >>= u64::BITS;
                filled -= u64::BITS;
            }
        }
        // Eight of any width are whole bytes.
        let rest = bits.to_le_bytes();
        self.out.extend_from_slice(rest.get(..(filled / 8) as usize).unwrap_or_default());
        (self.numbers, self.count) = ([0; GROUP], 0);
    }
}

/// Calls `each` for `count` numbers that [`Groups`] packed.
fn take_groups(cursor: &mut Cursor<'_>, count: u32, is_signed: bool, mut each: impl FnMut(u64)) {
    let mut left = count;
    while left > 0 {
        let width = u32::from(cursor.u8().unwrap_or(0)).min(u64::BITS);
        let zeros = if width > 0 { u32::from(cursor.u8().unwrap_or(0)) % u64::BITS } else { 0 };
        let mut packed = cursor.bytes(width as usize).unwrap_or_default();
        let mask = u64::MAX.checked_shr(u64::BITS - width).unwrap_or(0);
        let (mut bits, mut filled) = (0_u128, 0);
        for _ in 0..left.min(GROUP as u32) {
            if filled < width {
                let mut word = [0; 8];
                let (now, later) = packed.split_at(packed.len().min(8));
                word[..now.len()].copy_from_slice(now);
                bits |= u128::from(u64::from_le_bytes(word)) << filled;
                filled += u64::BITS;
                packed = later;
            }
            let code = bits as u64 & mask;
            each(if is_signed { unzigzag(code) as u64 } else { code } << zeros);
            bits >>= width;
            filled -= width;
        }
        left = left.saturating_sub(GROUP as u32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(samples: &[(i64, u64)]) {
        let (times, values): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
        let chunk = Chunk::encode(samples, &mut Vec::new());
        let (mut got_times, mut got_values) = (Vec::new(), Vec::new());
        chunk.decode(&mut got_times, &mut got_values);
        assert_eq!(got_times, times);
        assert_eq!(got_values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values);
    }

    #[test]
    fn awkward_samples_come_back() {
        check(&[]);
        check(&[(i64::MIN, u64::MAX), (i64::MAX, 0), (0, model::STALE_NAN_BITS), (0, 1), (-1, 1 << 63)]);
    }

    #[track_caller]
    fn check_size(value: impl Fn(i64) -> f64, bytes_max: usize) {
        let sample = |i| (1_700_000_000_000 + i * 10_000 + i * 7 % 3, value(i).to_bits());
        let samples: Vec<(i64, u64)> = (0..120).map(sample).collect();
        let chunk = Chunk::encode(&samples, &mut Vec::new());
        assert!(chunk.bytes.len() < bytes_max, "{} bytes", chunk.bytes.len());
        check(&samples);
    }

    #[test]
    fn usual_values_take_few_bytes() {
        check_size(|_| 1.5, 130);
        check_size(|i| i as f64 * 100.0, 260);
        check_size(|i| 123_456_789.0 + ((i * 7_919) % 1_000) as f64 / 100.0, 360);
        check_size(|i| (i * 7_919 % 1_000) as f64 * 4096.0, 360);
        check_size(|i| (i as f64).sin(), 120 * 9 + 60);
    }

    #[test]
    fn a_value_that_is_too_large_for_the_scale_of_others_comes_back() {
        check(&[(0, 0.000_000_001_f64.to_bits()), (1, 9e14_f64.to_bits()), (2, 1.0_f64.to_bits())]);
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..200)) {
            check(&samples);
        }

        #[test]
        fn decimals_come_back(samples in proptest::collection::vec((0..100_000_i64, any::<i32>(), 0..11_i32), 0..200)) {
            let bits = |mantissa: i32, scale| (f64::from(mantissa) / 10_f64.powi(scale)).to_bits();
            let samples = samples.into_iter().map(|(time, mantissa, scale)| (time, bits(mantissa, scale)));
            check(&samples.collect::<Vec<_>>());
        }
    }
}
