//! Cuts the samples of a series into Prometheus' chunks.

use model::Histogram;
use storage_api::SeriesSamples;

use super::bits::{Bits, Xor, fits};
use super::histogram;

/// Most samples in a chunk, as in Prometheus' own.
pub(super) const SAMPLES_MAX: usize = 120;

/// What kind of samples a chunk has; the numbers are those of `prompb.Chunk.Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Numbers.
    Xor = 1,
    /// Native histograms with float counts.
    FloatHistogram = 3,
}

/// Encoded samples.
#[derive(Debug, PartialEq)]
pub(super) struct Chunk {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) encoding: Encoding,
    pub(super) data: Vec<u8>,
}

/// Encodes all samples of a series, oldest first.
pub(super) fn encode(series: &SeriesSamples) -> Vec<Chunk> {
    let histogram = |i: usize| {
        let column = series.histograms.as_ref()?;
        column.get(i)?.as_deref()
    };
    let len = series.timestamps_ms.len();
    let mut chunks = Vec::with_capacity(len.div_ceil(SAMPLES_MAX));
    let mut start = 0;
    while start < len {
        let most = (start + SAMPLES_MAX).min(len);
        let is_float = histogram(start).is_none();
        let end = (start..most).find(|i| histogram(*i).is_none() != is_float).unwrap_or(most);
        if is_float {
            chunks.push(floats(&series.timestamps_ms[start..end], &series.values[start..end]));
            start = end;
        } else {
            let run: Vec<&Histogram> = (start..end).filter_map(histogram).collect();
            let taken = histogram::run_len(&run);
            chunks.push(histogram::encode(&series.timestamps_ms[start..start + taken], &run[..taken]));
            start += taken;
        }
    }
    chunks
}

/// Puts the data behind its header into a chunk for `times`, of which there is at least one.
pub(super) fn chunk(times: &[i64], encoding: Encoding, bits: Bits) -> Chunk {
    let (min_ms, max_ms) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
    Chunk { min_ms, max_ms, encoding, data: bits.finish() }
}

/// Returns the number of samples as a chunk begins with it.
pub(super) fn count_bytes(times: &[i64]) -> [u8; 2] {
    u16::try_from(times.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn floats(times: &[i64], values: &[f64]) -> Chunk {
    let mut bits = Bits::after(&count_bytes(times));
    let mut samples = times.iter().copied().zip(values.iter().copied());
    if let Some((mut time, first)) = samples.next() {
        bits.push_varint(time);
        bits.push(first.to_bits(), 64);
        let mut xor = Xor::after(first);
        let mut delta = None;
        for (next, value) in samples {
            let step = next.wrapping_sub(time);
            match delta {
                None => bits.push_uvarint(step.cast_unsigned()),
                Some(delta) => push_change(&mut bits, step.wrapping_sub(delta)),
            }
            xor.push(&mut bits, value);
            (time, delta) = (next, Some(step));
        }
    }
    chunk(times, Encoding::Xor, bits)
}

/// Writes by how much the distance of two samples differs from the one before.
fn push_change(bits: &mut Bits, change: i64) {
    let value = change.cast_unsigned();
    if change == 0 {
        bits.push(0, 1);
    } else if fits(change, 14) {
        bits.push(0b10, 2);
        bits.push(value, 14);
    } else if fits(change, 17) {
        bits.push(0b110, 3);
        bits.push(value, 17);
    } else if fits(change, 20) {
        bits.push(0b1110, 4);
        bits.push(value, 20);
    } else {
        bits.push(0b1111, 4);
        bits.push(value, 64);
    }
}
