//! Encodings of Parquet, as their specification lays them out. Written here because the Parquet writer takes values row
//! by row, and packs differences in larger parts, which takes a tenth more.

use crate::varint::{put_i64, put_u64};

/// Numbers that share a least difference, and parts of them that share a width.
const BLOCK: usize = 128;
const MINIBLOCKS: usize = 4;
const MINIBLOCK: usize = BLOCK / MINIBLOCKS;

/// Appends `values` as DELTA_BINARY_PACKED.
pub(crate) fn delta_binary_packed(values: &[i64], out: &mut Vec<u8>) {
    put_u64(out, BLOCK as u64);
    put_u64(out, MINIBLOCKS as u64);
    put_u64(out, values.len() as u64);
    put_i64(out, values.first().copied().unwrap_or(0));
    let mut deltas = [0_i64; BLOCK];
    let mut last = values.first().copied().unwrap_or(0);
    for block in values.get(1..).unwrap_or_default().chunks(BLOCK) {
        let mut least = i64::MAX;
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = value.wrapping_sub(last);
            last = *value;
            least = least.min(*delta);
        }
        put_i64(out, least);
        for delta in &mut deltas[..block.len()] {
            *delta = delta.wrapping_sub(least);
        }
        // What is missing at the end of the last miniblock is filled up.
        deltas[block.len()..].fill(0);
        let widths_at = out.len();
        out.extend_from_slice(&[0; MINIBLOCKS]);
        for (number, miniblock) in deltas[..block.len().next_multiple_of(MINIBLOCK)].chunks(MINIBLOCK).enumerate() {
            let all = miniblock.iter().fold(0, |all, delta| all | *delta as u64);
            let bits = u64::BITS - all.leading_zeros();
            pack_bits(miniblock, bits, out);
            out[widths_at + number] = bits as u8;
        }
    }
}

fn pack_bits(values: &[i64], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut waiting, mut count) = (0_u128, 0);
    for value in values {
        waiting |= u128::from(*value as u64) << count;
        count += width;
        if count >= 64 {
            out.extend_from_slice(&(waiting as u64).to_le_bytes());
            waiting >>= 64;
            count -= 64;
        }
    }
    // A miniblock is a multiple of 32 numbers, so that whole bytes are left.
    out.extend_from_slice(&waiting.to_le_bytes()[..count as usize / 8]);
}

/// Appends `values`, given by their bytes, as BYTE_STREAM_SPLIT.
pub(crate) fn byte_stream_split(values: impl Iterator<Item = [u8; 8]> + Clone, out: &mut Vec<u8>) {
    for byte in 0..8 {
        out.extend(values.clone().map(|value| value[byte]));
    }
}

/// Appends numbers that repeat, given with how often they do, as RLE runs.
pub(crate) fn runs(runs: impl IntoIterator<Item = (u32, usize)>, bit_width: u32, out: &mut Vec<u8>) {
    let bytes = bit_width.div_ceil(8) as usize;
    for (value, count) in runs.into_iter().filter(|(_, count)| *count > 0) {
        put_u64(out, (count as u64) << 1);
        out.extend_from_slice(&value.to_le_bytes()[..bytes]);
    }
}
