//! A Bloom filter of the trigrams of each group of pages, as blocks of the first two versions have it. It is only read.

use bytes::Bytes;

use super::PageSet;
use crate::codec::{Input, Malformed};

const MAGIC: [u8; 8] = *b"DBKLTRI1";
/// Bits that a trigram sets.
const PROBES: u32 = 5;
/// Bytes before the directory.
const HEADER_BYTES: usize = 20;

/// Returns the bits of a trigram in a filter of `length` words.
fn probes(trigram: u32, length: usize) -> impl Iterator<Item = usize> {
    let mixed = u64::from(trigram).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let (first, step) = ((mixed >> 32) & 0xffff_ffff, (mixed & 0xffff_ffff) | 1);
    let bits = (length * 64) as u64;
    (0..u64::from(PROBES)).map(move |i| {
        let probe = first.wrapping_add(i.wrapping_mul(step)) & 0xffff_ffff;
        usize::try_from((probe * bits) >> 32).unwrap_or(0)
    })
}

/// Encoded filters.
#[derive(Debug)]
pub(crate) struct Filters {
    bytes: Bytes,
    pages: u32,
    pages_per_group: u32,
    groups: u32,
}

impl Filters {
    pub(super) fn open(bytes: Bytes) -> Result<Self, Malformed> {
        let mut input = Input::new(&bytes);
        if input.array::<8>()? != MAGIC {
            return Err(Malformed("trigram filters, version 1"));
        }
        let (pages, pages_per_group, groups) = (input.u32()?, input.u32()?, input.u32()?);
        if pages_per_group == 0 || groups != pages.div_ceil(pages_per_group) {
            return Err(Malformed("a filter for each group of pages"));
        }
        input.take((groups as usize + 1).checked_mul(4).ok_or(Malformed("fewer groups"))?)?;
        Ok(Self { pages, pages_per_group, groups, bytes })
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the pages whose group has all `trigrams`, perhaps, out of `among`.
    pub(super) fn pages(&self, trigrams: &[u32], among: &PageSet) -> Result<PageSet, Malformed> {
        let mut found = PageSet::none(self.pages);
        for group in 0..self.groups {
            let pages = group * self.pages_per_group..((group + 1) * self.pages_per_group).min(self.pages);
            if pages.clone().any(|page| among.contains(page)) && self.has_all(group, trigrams)? {
                pages.filter(|page| among.contains(*page)).for_each(|page| found.insert(page));
            }
        }
        Ok(found)
    }

    fn has_all(&self, group: u32, trigrams: &[u32]) -> Result<bool, Malformed> {
        let at = HEADER_BYTES + 4 * group as usize;
        let mut directory = Input::new(self.bytes.get(at..at + 8).ok_or(Malformed("a filter's offset"))?);
        let base = HEADER_BYTES + 4 * (self.groups as usize + 1);
        let (start, end) = (base + 8 * directory.u32()? as usize, base + 8 * directory.u32()? as usize);
        let filter = self.bytes.get(start..end).ok_or(Malformed("a filter inside the file"))?;
        let length = filter.len() / 8;
        if length == 0 {
            return Ok(trigrams.is_empty());
        }
        Ok(trigrams.iter().all(|trigram| {
            // Little-endian words: bit i of the filter is bit i % 8 of byte i / 8.
            probes(*trigram, length).all(|bit| filter.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes filters as the first two versions did: 8 bits for each trigram.
    fn built(groups: &[Vec<u32>], pages_per_group: u32, pages: u32) -> Vec<u8> {
        let (mut offsets, mut words) = (vec![0_u32], Vec::new());
        for group in groups {
            let length = (group.len() * 8).div_ceil(64);
            let mut filter = vec![0_u64; length];
            group
                .iter()
                .flat_map(|trigram| probes(*trigram, length))
                .for_each(|bit| filter[bit / 64] |= 1 << (bit % 64));
            words.extend(filter);
            offsets.push(u32::try_from(words.len()).unwrap());
        }
        let numbers = [pages, pages_per_group, u32::try_from(groups.len()).unwrap()];
        let numbers = numbers.iter().chain(&offsets).flat_map(|number| number.to_le_bytes());
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        MAGIC.into_iter().chain(numbers).chain(words).collect()
    }

    #[test]
    fn a_trigram_is_found_where_it_is_and_hardly_elsewhere() {
        let groups: Vec<Vec<u32>> = (0..20).map(|group| (0..500).map(|i| group * 500 + i).collect()).collect();
        let filters = Filters::open(built(&groups, 2, 40).into()).unwrap();
        let all = PageSet::all(40);
        let mut pages = 0;
        for trigram in 0..10_000 {
            let found = filters.pages(&[trigram], &all).unwrap();
            let group = trigram / 500;
            assert!(found.contains(group * 2) && found.contains(group * 2 + 1));
            pages += found.len();
        }
        assert!(pages < 20_000 + 2 * 10_000, "{pages} pages for 10,000 look-ups");
    }

    #[test]
    fn damaged_bytes_give_an_error_or_pages() {
        let groups: Vec<Vec<u32>> = (0..3).map(|group| vec![group, group + 9]).collect();
        let bytes = built(&groups, 2, 5);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            for bytes in [damaged, bytes[..at].to_vec()] {
                if let Ok(filters) = Filters::open(bytes.into()) {
                    drop(filters.pages(&[1, 9], &PageSet::all(5)));
                }
            }
        }
    }
}
