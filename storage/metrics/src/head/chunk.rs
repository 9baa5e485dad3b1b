//! Samples of one series, packed for the head: delta of delta for time, XOR by bytes for values. Never on disk.

use std::sync::Arc;

use crate::varint::{Cursor, put_i64};

/// Samples that are packed at a time. At a 10 s interval 120 is 20 minutes: long enough to pack well, and short enough
/// that a query for the newest samples decodes little.
pub(crate) const SAMPLES_PER_CHUNK: usize = 120;

/// Packed samples.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Arc<[u8]>,
    samples: u32,
    /// The least and greatest time in the chunk.
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

impl Chunk {
    /// Packs samples in the order given; times may come in any order and repeat.
    pub(crate) fn encode(times: &[i64], values: &[u64], scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        let (mut last, mut last_delta) = (0_i64, 0_i64);
        for time in times {
            let delta = time.wrapping_sub(last);
            put_i64(scratch, delta.wrapping_sub(last_delta));
            (last, last_delta) = (*time, delta);
        }
        let mut last = 0;
        for value in values {
            put_xor(scratch, value ^ last);
            last = *value;
        }
        Self {
            bytes: scratch.as_slice().into(),
            samples: u32::try_from(times.len()).expect("a chunk has few samples"),
            min_ms: times.iter().copied().min().unwrap_or(i64::MAX),
            max_ms: times.iter().copied().max().unwrap_or(i64::MIN),
        }
    }

    /// Appends the samples to `times` and `values`.
    pub(crate) fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) {
        let mut cursor = Cursor(&self.bytes);
        let (mut last, mut last_delta) = (0_i64, 0_i64);
        for _ in 0..self.samples {
            last_delta = last_delta.wrapping_add(cursor.i64().unwrap_or(0));
            last = last.wrapping_add(last_delta);
            times.push(last);
        }
        let mut last = 0;
        for _ in 0..self.samples {
            last ^= take_xor(&mut cursor).unwrap_or(0);
            values.push(f64::from_bits(last));
        }
    }

    /// Returns the bytes that the chunk keeps allocated.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len() + 48
    }
}

/// One byte tells how many bytes follow (low half) and how many zero bytes lie behind them (high half).
fn put_xor(out: &mut Vec<u8>, xor: u64) {
    if xor == 0 {
        out.push(0);
        return;
    }
    let behind = xor.trailing_zeros() / 8;
    let count = 8 - xor.leading_zeros() / 8 - behind;
    out.push((behind as u8) << 4 | count as u8);
    let bytes = (xor >> (behind * 8)).to_le_bytes();
    out.extend_from_slice(&bytes[..count as usize]);
}

fn take_xor(cursor: &mut Cursor<'_>) -> Option<u64> {
    let control = cursor.u8()?;
    let count = usize::from(control & 0x0f).min(8);
    let mut bytes = [0; 8];
    bytes[..count].copy_from_slice(cursor.bytes(count)?);
    Some(u64::from_le_bytes(bytes) << (u32::from(control >> 4) * 8 % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(samples: &[(i64, u64)]) {
        let (times, values): (Vec<_>, Vec<_>) = samples.iter().copied().unzip();
        let chunk = Chunk::encode(&times, &values, &mut Vec::new());
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

    #[test]
    fn a_steady_counter_takes_few_bytes() {
        let times: Vec<i64> = (0..120).map(|i| 1_700_000_000_000 + i * 10_000).collect();
        let values: Vec<u64> = (0..120).map(|i| (i as f64 * 100.0).to_bits()).collect();
        let chunk = Chunk::encode(&times, &values, &mut Vec::new());
        assert!(chunk.bytes.len() < 120 * 5, "{} bytes", chunk.bytes.len());
    }

    proptest! {
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..200)) {
            check(&samples);
        }
    }
}
