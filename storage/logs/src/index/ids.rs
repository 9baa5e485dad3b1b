//! Hashed tokens to pages: sorted hashes in buckets, Rice-coded, each with a page number of fixed width.

use bytes::Bytes;

use super::PageSet;
use crate::codec::{Input, Malformed};

const MAGIC: [u8; 8] = *b"DBKLIDS1";
/// Hash bits beyond what tells the entries apart: one look-up in 16 finds a page that does not hold the token. Each bit
/// takes half a byte for a common line.
const SPARE_BITS: u32 = 4;
/// Entries in a bucket, about.
const BUCKET_ENTRIES: usize = 64;

/// Encodes entries: the upper half is the hash, the lower half the page.
pub(super) fn encode(mut entries: Vec<u64>, pages: u32) -> Vec<u8> {
    let count_bits = bits_for(entries.len() as u64);
    let hash_bits = (count_bits + SPARE_BITS).min(32);
    let shift = 64 - hash_bits;
    for entry in &mut entries {
        *entry = (*entry >> shift << 32) | (*entry & 0xffff_ffff);
    }
    entries.sort_unstable();
    entries.dedup();
    let bucket_bits = bits_for((entries.len() / BUCKET_ENTRIES) as u64).min(hash_bits);
    let page_bits = bits_for(u64::from(pages));
    let rice_bits = hash_bits.saturating_sub(count_bits);
    let low_bits = hash_bits - bucket_bits;

    let mut offsets = Vec::with_capacity((1 << bucket_bits) + 1);
    let mut body: Vec<u8> = Vec::new();
    let mut rest = entries.as_slice();
    for bucket in 0..1_u64 << bucket_bits {
        offsets.push(u32::try_from(body.len()).unwrap_or(u32::MAX));
        let length = rest.partition_point(|entry| entry >> 32 >> low_bits <= bucket);
        let (mine, others) = rest.split_at(length);
        rest = others;
        let mut bits = BitWriter::new(&mut body);
        bits.unary_free_count(mine.len() as u64);
        let mut last = bucket << low_bits;
        for entry in mine {
            let (hash, page) = (entry >> 32, entry & 0xffff_ffff);
            bits.rice(hash - last, rice_bits);
            bits.put(page, page_bits);
            last = hash;
        }
        bits.finish();
    }
    offsets.push(u32::try_from(body.len()).unwrap_or(u32::MAX));

    let mut out = Vec::with_capacity(16 + offsets.len() * 4 + body.len());
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

/// Returns how many bits tell `count` things apart.
fn bits_for(count: u64) -> u32 {
    64 - count.saturating_sub(1).leading_zeros()
}

/// An encoded index of ids.
#[derive(Debug)]
pub(crate) struct Ids {
    bytes: Bytes,
    hash_bits: u32,
    bucket_bits: u32,
    page_bits: u32,
    rice_bits: u32,
    pages: u32,
    body: usize,
}

impl Ids {
    pub(crate) fn open(bytes: Bytes) -> Result<Self, Malformed> {
        let mut input = Input::new(&bytes);
        if input.array::<8>()? != MAGIC {
            return Err(Malformed("an index of ids, version 1"));
        }
        let [hash_bits, bucket_bits, page_bits, rice_bits] = input.array::<4>()?.map(u32::from);
        let pages = input.u32()?;
        if hash_bits > 32 || bucket_bits > hash_bits || page_bits > 32 || rice_bits > 32 {
            return Err(Malformed("bit widths of at most 32"));
        }
        let body = 16 + 4 * ((1_usize << bucket_bits) + 1);
        if body > bytes.len() {
            return Err(Malformed("a whole directory of buckets"));
        }
        Ok(Self { hash_bits, bucket_bits, page_bits, rice_bits, pages, body, bytes })
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the pages that hold a token with this hash, perhaps.
    pub(crate) fn pages(&self, hash: u64) -> Result<PageSet, Malformed> {
        let mut found = PageSet::none(self.pages);
        let wanted = if self.hash_bits == 0 { 0 } else { hash >> (64 - self.hash_bits) };
        let low_bits = self.hash_bits - self.bucket_bits;
        let bucket = wanted >> low_bits;
        let at = 16 + 4 * usize::try_from(bucket).map_err(|_| Malformed("a small bucket"))?;
        let mut directory = Input::new(self.bytes.get(at..at + 8).ok_or(Malformed("a bucket's offset"))?);
        let (start, end) = (directory.u32()? as usize, directory.u32()? as usize);
        let bytes = self.bytes.get(self.body + start..self.body + end).ok_or(Malformed("a bucket inside the file"))?;
        let mut bits = BitReader { bytes, at: 0 };
        let count = bits.take(32)?;
        let mut last = bucket << low_bits;
        for _ in 0..count {
            last += bits.rice(self.rice_bits)?;
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

struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    word: u64,
    used: u32,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, word: 0, used: 0 }
    }

    fn put(&mut self, value: u64, bits: u32) {
        self.word |= value << self.used;
        self.used += bits;
        while self.used >= 8 {
            self.out.push(self.word.to_le_bytes()[0]);
            self.word >>= 8;
            self.used -= 8;
        }
    }

    fn rice(&mut self, value: u64, bits: u32) {
        for _ in 0..value >> bits {
            self.put(1, 1);
        }
        self.put(0, 1);
        self.put(value & ((1 << bits) - 1), bits);
    }

    fn unary_free_count(&mut self, count: u64) {
        self.put(count, 32);
    }

    fn finish(mut self) {
        if self.used > 0 {
            self.put(0, 8 - self.used);
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, bits: u32) -> Result<u64, Malformed> {
        let mut value = 0;
        let mut got = 0;
        while got < bits {
            let byte = u64::from(*self.bytes.get(self.at / 8).ok_or(Malformed("more bits"))?);
            let skip = (self.at % 8) as u32;
            let now = (8 - skip).min(bits - got);
            value |= (byte >> skip & ((1 << now) - 1)) << got;
            got += now;
            self.at += now as usize;
        }
        Ok(value)
    }

    fn rice(&mut self, bits: u32) -> Result<u64, Malformed> {
        let mut high = 0;
        while self.take(1)? == 1 {
            high += 1;
        }
        Ok(high << bits | self.take(bits)?)
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
