//! Values of a page in Parquet's encodings. Parquet's own writer takes several times as long for columns that hardly change.

use super::page::Texts;
use crate::codec::{put_varint, put_zigzag};

/// Numbers that are packed with one least difference, and with one width.
const BLOCK_NUMBERS: usize = 128;
const PIECE_NUMBERS: usize = 32;
/// Equal numbers in a row that are not packed one by one.
const RUN_MIN: usize = 8;

/// Packs numbers as differences. `DELTA_BINARY_PACKED`.
pub(super) fn delta_numbers(out: &mut Vec<u8>, numbers: &[i64]) {
    put_varint(out, BLOCK_NUMBERS as u64);
    put_varint(out, (BLOCK_NUMBERS / PIECE_NUMBERS) as u64);
    put_varint(out, numbers.len() as u64);
    let mut last = numbers.first().copied().unwrap_or(0);
    put_zigzag(out, last);
    let mut differences = [0_i64; BLOCK_NUMBERS];
    for block in numbers.get(1..).unwrap_or_default().chunks(BLOCK_NUMBERS) {
        for (difference, number) in differences.iter_mut().zip(block) {
            *difference = number.wrapping_sub(last);
            last = *number;
        }
        let used = differences.get(..block.len()).unwrap_or_default();
        let least = used.iter().copied().min().unwrap_or(0);
        put_zigzag(out, least);
        let above = |difference: &i64| difference.wrapping_sub(least).cast_unsigned();
        let widths = out.len();
        out.resize(widths + BLOCK_NUMBERS / PIECE_NUMBERS, 0);
        for (i, piece) in used.chunks(PIECE_NUMBERS).enumerate() {
            let width = 64 - piece.iter().map(above).fold(0, |all, number| all | number).leading_zeros();
            if let Some(place) = out.get_mut(widths + i) {
                *place = width.to_le_bytes()[0];
            }
            pack(out, piece.iter().map(above), width, PIECE_NUMBERS);
        }
    }
}

/// Packs numbers with so many bits each, low bit first, followed by zeros as if there were `count`, a multiple of 8.
fn pack(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>, width: u32, count: usize) {
    let end = out.len() + count / 8 * width as usize;
    let (mut word, mut used) = (0_u128, 0);
    for number in numbers {
        word |= u128::from(number) << used;
        used += width;
        if used >= 64 {
            out.extend_from_slice(&(word as u64).to_le_bytes());
            word >>= 64;
            used -= 64;
        }
    }
    out.extend_from_slice((word as u64).to_le_bytes().get(..used.div_ceil(8) as usize).unwrap_or_default());
    out.resize(end, 0);
}

/// Encodes texts by how much each shares with the start of the one before, and the rest of it. `DELTA_BYTE_ARRAY`.
pub(super) fn delta_texts(out: &mut Vec<u8>, texts: &Texts) {
    let (mut shared, mut own) = (Vec::with_capacity(texts.len()), Vec::with_capacity(texts.len()));
    let as_number = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let mut last: &[u8] = &[];
    for text in texts.iter() {
        let same = shared_bytes(last, text);
        shared.push(as_number(same));
        own.push(as_number(text.len() - same));
        last = text;
    }
    delta_numbers(out, &shared);
    delta_numbers(out, &own);
    for (text, same) in texts.iter().zip(shared) {
        out.extend_from_slice(text.get(usize::try_from(same).unwrap_or(0)..).unwrap_or_default());
    }
}

/// Returns how many bytes two texts share at their start.
fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    while let (Some(a), Some(b)) = (a.get(same..same + 8), b.get(same..same + 8)) {
        if a != b {
            break;
        }
        same += 8;
    }
    let rest = a.get(same..).unwrap_or_default().iter().zip(b.get(same..).unwrap_or_default());
    same + rest.take_while(|(a, b)| a == b).count()
}

/// Adds a text behind its length. `PLAIN`.
pub(super) fn plain_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text);
}

/// Adds which values of an optional column there are, as a page begins with it.
pub(super) fn presence(out: &mut Vec<u8>, present: impl Iterator<Item = bool>, room: &mut Vec<u32>) {
    room.clear();
    room.extend(present.map(u32::from));
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    runs(out, room, 1);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Adds numbers of so many bits as runs of equal ones, and packed where there are none. `RLE`.
pub(super) fn runs(out: &mut Vec<u8>, numbers: &[u32], width: u32) {
    let mut packed_from = 0;
    let mut at = 0;
    while let Some(first) = numbers.get(at) {
        let rest = numbers.get(at..).unwrap_or_default();
        let length = rest.iter().take_while(|number| *number == first).count();
        if length >= RUN_MIN || (at == packed_from && length == rest.len()) {
            packed(out, numbers.get(packed_from..at).unwrap_or_default(), width);
            put_varint(out, (length as u64) << 1);
            out.extend_from_slice(first.to_le_bytes().get(..width.div_ceil(8) as usize).unwrap_or_default());
            at += length;
            packed_from = at;
        } else {
            // Packed numbers come by eight, those of a run that begins among them too.
            at = (at + 8).min(numbers.len());
        }
    }
    packed(out, numbers.get(packed_from..).unwrap_or_default(), width);
}

fn packed(out: &mut Vec<u8>, numbers: &[u32], width: u32) {
    if numbers.is_empty() {
        return;
    }
    let eights = numbers.len().div_ceil(8);
    put_varint(out, (eights as u64) << 1 | 1);
    pack(out, numbers.iter().map(|number| u64::from(*number)), width, eights * 8);
}
