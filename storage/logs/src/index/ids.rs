//! Hashed tokens to pages: sorted hashes in buckets, Rice-coded, each with a page number of fixed width.

use super::bits::{BitReader, BitWriter};
use super::{PageSet, Place, Unusable};
use crate::codec::{Input, Malformed};

const MAGIC: [u8; 8] = *b"DBKLIDS2";
/// The first version says in each bucket how many entries it has.
const MAGIC_1: [u8; 8] = *b"DBKLIDS1";
/// Bytes before the directory of buckets.
const HEADER_BYTES: usize = 16;
/// Hash bits beyond what tells the entries apart: one look-up in 16 finds a page that does not hold the token. Each bit
/// takes half a byte for a common line.
const SPARE_BITS: u32 = 4;
/// Entries in a bucket at most, about: finding one takes a microsecond.
const BUCKET_ENTRIES: usize = 256;

/// Encodes entries: the upper half is the hash, the lower half the page.
pub(super) fn encode(entries: Vec<u64>, pages: u32) -> Vec<u8> {
    let count_bits = bits_for(entries.len() as u64);
    let hash_bits = (count_bits + SPARE_BITS).min(32);
    let bucket_bits = bits_for((entries.len() / BUCKET_ENTRIES) as u64).min(hash_bits);
    let page_bits = bits_for(u64::from(pages));
    let rice_bits = hash_bits.saturating_sub(count_bits);
    let low_bits = hash_bits - bucket_bits;
    let (mut entries, ends) = by_bucket(entries, bucket_bits);

    let mut offsets = Vec::with_capacity(ends.len() + 1);
    let mut body: Vec<u8> = Vec::with_capacity(entries.len() * 5 / 2);
    let mut start = 0;
    for (bucket, end) in (0_u64..).zip(ends) {
        offsets.push(u32::try_from(body.len()).unwrap_or(u32::MAX));
        let mine = entries.get_mut(start..end).unwrap_or_default();
        start = end;
        for entry in mine.iter_mut() {
            *entry = (*entry >> (64 - hash_bits) << 32) | (*entry & 0xffff_ffff);
        }
        mine.sort_unstable();
        let mut bits = BitWriter::new(&mut body);
        let (mut last, mut last_entry) = (bucket << low_bits, None);
        for entry in mine.iter().copied() {
            if last_entry.replace(entry) == Some(entry) {
                continue;
            }
            let (hash, page) = (entry >> 32, entry & 0xffff_ffff);
            bits.rice(hash - last, rice_bits);
            bits.put(page, page_bits);
            last = hash;
        }
        bits.finish();
    }
    offsets.push(u32::try_from(body.len()).unwrap_or(u32::MAX));

    let mut out = Vec::with_capacity(HEADER_BYTES + offsets.len() * 4 + body.len());
    out.extend_from_slice(&MAGIC);
    for bits in [hash_bits, bucket_bits, page_bits, rice_bits] {
        out.push(bits.to_le_bytes()[0]);
    }
    out.extend_from_slice(&pages.to_le_bytes());
    for offset in offsets {
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out.extend_from_slice(&body);
    out
}

/// Puts entries in the order of the upper bits of their hashes, and returns where each bucket ends.
fn by_bucket(entries: Vec<u64>, bucket_bits: u32) -> (Vec<u64>, Vec<usize>) {
    let bucket = |entry: u64| usize::try_from(entry.checked_shr(64 - bucket_bits).unwrap_or(0)).unwrap_or(0);
    let mut places = vec![0_usize; 1 << bucket_bits];
    for entry in &entries {
        if let Some(count) = places.get_mut(bucket(*entry)) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for place in &mut places {
        (*place, sum) = (sum, sum + *place);
    }
    let mut sorted = vec![0; entries.len()];
    for entry in entries {
        if let Some(place) = places.get_mut(bucket(entry)) {
            if let Some(slot) = sorted.get_mut(*place) {
                *slot = entry;
            }
            // In the end each has moved to the end of its bucket.
            *place += 1;
        }
    }
    (sorted, places)
}

/// Returns how many bits tell `count` things apart.
fn bits_for(count: u64) -> u32 {
    64 - count.saturating_sub(1).leading_zeros()
}

/// An encoded index of ids.
#[derive(Debug)]
pub(crate) struct Ids {
    place: Place,
    hash_bits: u32,
    bucket_bits: u32,
    page_bits: u32,
    rice_bits: u32,
    pages: u32,
    /// Where the buckets begin.
    body: u64,
    /// Whether buckets begin with how many entries they have.
    is_counted: bool,
}

impl Ids {
    pub(crate) fn open(place: Place) -> Result<Self, Unusable> {
        let header = place.get(0, HEADER_BYTES)?;
        let mut input = Input::new(&header);
        let magic = input.array::<8>()?;
        if magic != MAGIC && magic != MAGIC_1 {
            return Err(Malformed("an index of ids, version 1 or 2").into());
        }
        let is_counted = magic == MAGIC_1;
        let [hash_bits, bucket_bits, page_bits, rice_bits] = input.array::<4>()?.map(u32::from);
        let pages = input.u32()?;
        if hash_bits > 32 || bucket_bits > hash_bits || page_bits > 32 || rice_bits > 32 {
            return Err(Malformed("bit widths of at most 32").into());
        }
        let body = HEADER_BYTES as u64 + 4 * ((1 << bucket_bits) + 1);
        if body > place.length() {
            return Err(Malformed("a whole directory of buckets").into());
        }
        Ok(Self { hash_bits, bucket_bits, page_bits, rice_bits, pages, body, is_counted, place })
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.place.size_bytes()
    }

    /// Returns the pages that hold a token with this hash, perhaps.
    pub(crate) fn pages(&self, hash: u64) -> Result<PageSet, Unusable> {
        let mut found = PageSet::none(self.pages);
        let wanted = if self.hash_bits == 0 { 0 } else { hash >> (64 - self.hash_bits) };
        let low_bits = self.hash_bits - self.bucket_bits;
        let bucket = wanted >> low_bits;
        let ends = self.place.get(HEADER_BYTES as u64 + 4 * bucket, 8)?;
        let mut ends = Input::new(&ends);
        let (start, end) = (ends.u32()?, ends.u32()?);
        let length = end.checked_sub(start).ok_or(Malformed("a bucket inside the file"))?;
        let bytes = self.place.get(self.body + u64::from(start), length as usize)?;
        let mut bits = BitReader::new(&bytes);
        let count = if self.is_counted { bits.take(32)? } else { u64::MAX };
        let mut last = bucket << low_bits;
        for _ in 0..count {
            let Some(more) = bits.rice(self.rice_bits)? else { break };
            last = last.saturating_add(more);
            let page = bits.take(self.page_bits)?;
            if last > wanted {
                break;
            }
            if last == wanted {
                found.insert(u32::try_from(page).unwrap_or(u32::MAX));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_and_few_others() {
        let hash = |i: u64| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes());
        for count in [0_u64, 1, 2, 63, 1000, 20_000] {
            let entry = |i: u64| hash(i) & !0xffff_ffff | (i % 97);
            let bytes = encode((0..count).map(entry).collect(), 97);
            let ids = Ids::open(bytes.into()).unwrap();
            for i in 0..count {
                assert!(ids.pages(hash(i)).unwrap().contains((i % 97) as u32), "{i} of {count}");
            }
            let wrong = (count..count + 10_000).filter(|i| !ids.pages(hash(*i)).unwrap().is_empty()).count();
            assert!(wrong < 1000, "{wrong} of 10000 at {count}");
        }
    }

    #[test]
    fn a_token_on_every_page_is_found_on_every_page() {
        let ids = Ids::open(encode((0..5000).map(|page| 7 << 40 | page).collect(), 5000).into()).unwrap();
        assert_eq!(ids.pages(7 << 40).unwrap().len(), 5000);
    }

    #[test]
    fn damaged_bytes_give_an_error_or_pages() {
        let bytes = encode((0..500_u64).map(|i| i << 55 | (i % 9)).collect(), 9);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            for bytes in [damaged, bytes[..at].to_vec()] {
                if let Ok(ids) = Ids::open(bytes.into()) {
                    (0..500_u64).for_each(|i| drop(ids.pages(i << 55)));
                }
            }
        }
    }
}
