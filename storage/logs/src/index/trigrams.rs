//! Trigrams to pages: for each trigram the runs of pages that have it. Neighbouring pages mostly are of the same stream and
//! have the same ones, so that the exact list takes a fifth of a filter that errs.

use bytes::Bytes;

use super::bits::{BitReader, BitWriter};
use super::filters::Filters;
use super::{PageSet, Place, Unusable};
use crate::codec::{Input, Malformed, put_u32, put_varint};

const MAGIC: [u8; 8] = *b"DBKLTRI2";
/// Bytes before the directory.
const HEADER_BYTES: usize = 24;
/// Trigrams between two places of the directory.
const BLOCK_TRIGRAMS: usize = 64;
/// Trigrams of a page that are listed at most; common pages have some thousands. One with more is a candidate always.
const PAGE_TRIGRAMS_MAX: usize = 1 << 16;
/// Distinct trigrams, and runs, of a block: what would take more memory makes its page a candidate always.
const TRIGRAMS_MAX: usize = 1 << 20;
const RUNS_MAX: usize = 1 << 22;
/// Most trigrams of a needle that are looked up, the rarest first.
const LOOKED_UP_MAX: usize = 24;
/// A slot of the table that nobody uses: no trigram is that large.
const FREE: u32 = u32::MAX;
const SLOTS_MIN: usize = 1 << 14;
/// The widest lower part of a number in Rice's code.
const RICE_BITS_MAX: u32 = 15;

/// Pages in a row: the first one, and the one behind the last.
type Run = (u32, u32);

/// A trigram and the run of pages that is not over yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    trigram: u32,
    run: Run,
}

/// Collects the trigrams, page by page.
#[derive(Debug)]
pub(super) struct TrigramsBuilder {
    /// A table that is searched slot by slot.
    slots: Vec<Open>,
    used: usize,
    /// Runs that are over, by trigram.
    runs: Vec<(u32, Run)>,
    /// Pages that have too many trigrams.
    unlisted: Vec<Run>,
}

impl Default for TrigramsBuilder {
    fn default() -> Self {
        Self {
            slots: vec![Open { trigram: FREE, run: (0, 0) }; SLOTS_MIN],
            used: 0,
            runs: Vec::new(),
            unlisted: Vec::new(),
        }
    }
}

impl TrigramsBuilder {
    /// Adds the distinct trigrams of the next page.
    pub(super) fn push_page(&mut self, page: u32, trigrams: &[u32]) {
        let count = trigrams.len();
        if count > PAGE_TRIGRAMS_MAX || self.used + count > TRIGRAMS_MAX || self.runs.len() + count > RUNS_MAX {
            match self.unlisted.last_mut() {
                Some(last) if last.1 == page => last.1 += 1,
                _ => self.unlisted.push((page, page + 1)),
            }
            return;
        }
        while (self.used + count) * 2 > self.slots.len() {
            self.grow();
        }
        for trigram in trigrams {
            self.note(*trigram, page);
        }
    }

    #[inline]
    fn note(&mut self, trigram: u32, page: u32) {
        let mask = self.slots.len() - 1;
        let mut at = slot_of(trigram, mask);
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.trigram == trigram {
                if slot.run.1 != page {
                    self.runs.push((trigram, slot.run));
                    slot.run.0 = page;
                }
                slot.run.1 = page + 1;
                return;
            }
            if slot.trigram == FREE {
                *slot = Open { trigram, run: (page, page + 1) };
                self.used += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let free = Open { trigram: FREE, run: (0, 0) };
        let larger = vec![free; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, larger);
        let mask = self.slots.len() - 1;
        for open in old.into_iter().filter(|open| open.trigram != FREE) {
            let mut at = slot_of(open.trigram, mask);
            while self.slots.get(at).is_some_and(|slot| slot.trigram != FREE) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = open;
            }
        }
    }

    pub(super) fn encode(mut self, pages: u32) -> Vec<u8> {
        let open = self.slots.iter().filter(|open| open.trigram != FREE);
        self.runs.extend(open.map(|open| (open.trigram, open.run)));
        self.runs.sort_unstable();
        let (mut directory, mut lists) = (Vec::new(), Vec::new());
        let (mut list, mut runs) = (Vec::new(), Vec::new());
        let mut unlisted = Vec::new();
        encode_runs(&self.unlisted, &mut unlisted);
        let (mut trigrams, mut last) = (0_u32, 0);
        for same in self.runs.chunk_by(|a, b| a.0 == b.0) {
            let Some((trigram, _)) = same.first() else { continue };
            if (trigrams as usize).is_multiple_of(BLOCK_TRIGRAMS) {
                put_u32(&mut directory, *trigram);
                put_u32(&mut directory, u32::try_from(lists.len()).unwrap_or(u32::MAX));
                last = *trigram;
            }
            runs.clear();
            runs.extend(same.iter().map(|(_, run)| *run));
            list.clear();
            encode_runs(&runs, &mut list);
            put_varint(&mut lists, u64::from(trigram - last));
            put_varint(&mut lists, list.len() as u64);
            lists.extend_from_slice(&list);
            last = *trigram;
            trigrams += 1;
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + directory.len() + unlisted.len() + lists.len());
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, pages);
        put_u32(&mut out, trigrams);
        put_u32(&mut out, u32::try_from(unlisted.len()).unwrap_or(u32::MAX));
        put_u32(&mut out, u32::try_from(lists.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(&directory);
        out.extend_from_slice(&unlisted);
        out.extend_from_slice(&lists);
        out
    }
}

/// Returns where the search for a trigram begins.
#[inline]
fn slot_of(trigram: u32, mask: usize) -> usize {
    (trigram.wrapping_mul(0x9e37_79b1) >> 8) as usize & mask
}

/// Encodes runs that ascend and do not touch: two widths, then by turns pages left out and pages there are.
fn encode_runs(runs: &[Run], out: &mut Vec<u8>) {
    let numbers = || {
        runs.iter().scan(None, |last: &mut Option<u32>, run| {
            // Between two runs there is a page at least.
            let left_out = last.map_or(run.0, |last| run.0 - last - 1);
            *last = Some(run.1);
            Some((left_out, run.1 - run.0 - 1))
        })
    };
    let left_out_bits = best_bits(numbers().map(|(left_out, _)| left_out));
    let there_bits = best_bits(numbers().map(|(_, there)| there));
    out.push(left_out_bits.to_le_bytes()[0] << 4 | there_bits.to_le_bytes()[0]);
    let mut bits = BitWriter::new(out);
    for (left_out, there) in numbers() {
        bits.rice(u64::from(left_out), left_out_bits);
        bits.rice(u64::from(there), there_bits);
    }
    bits.finish();
}

/// Returns how wide the lower part of numbers is best.
fn best_bits(numbers: impl Iterator<Item = u32> + Clone) -> u32 {
    let size = |bits: u32| numbers.clone().map(|number| u64::from(number >> bits) + u64::from(bits)).sum::<u64>();
    let mut best = (size(0), 0);
    for bits in 1..=RICE_BITS_MAX {
        let size = size(bits);
        // The sizes have one valley.
        if size > best.0 {
            break;
        }
        best = (size, bits);
    }
    best.1
}

/// Returns the pages of an encoded list.
fn decode_runs(list: &[u8], pages: u32) -> Result<PageSet, Malformed> {
    let mut found = PageSet::none(pages);
    let (widths, bytes) = list.split_first().ok_or(Malformed("a list of pages"))?;
    let (left_out_bits, there_bits) = (u32::from(widths >> 4), u32::from(widths & 15));
    let mut bits = BitReader::new(bytes);
    let mut next = 0_u64;
    while let Some(left_out) = bits.rice(left_out_bits)? {
        let there = bits.rice(there_bits)?.ok_or(Malformed("how many pages a run has"))?;
        let start = next.saturating_add(left_out);
        let end = start.saturating_add(there).saturating_add(1);
        if end > u64::from(pages) {
            return Err(Malformed("pages of the block"));
        }
        found.insert_run(u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(end).unwrap_or(u32::MAX));
        next = end + 1;
    }
    Ok(found)
}

/// The encoded index, of any version.
#[derive(Debug)]
pub(crate) enum Trigrams {
    /// Of versions 1 and 2.
    Filters(Filters),
    Lists(Lists),
}

impl Trigrams {
    /// Opens the index of a block with so many pages.
    pub(crate) fn open(place: Place, pages: u32) -> Result<Self, Unusable> {
        let length = usize::try_from(place.length()).map_err(|_| Malformed("a short index of trigrams"))?;
        if place.get(0, MAGIC.len().min(length))?.as_ref() == MAGIC {
            return Lists::open(place, pages).map(Self::Lists);
        }
        Ok(Self::Filters(Filters::open(place.get(0, length)?)?))
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Filters(filters) => filters.size_bytes(),
            Self::Lists(lists) => lists.place.size_bytes() + lists.directory.len(),
        }
    }

    /// Returns the pages that have all `trigrams`, perhaps, out of `among`.
    pub(crate) fn pages(&self, trigrams: &[u32], among: &PageSet) -> Result<PageSet, Unusable> {
        match self {
            Self::Filters(filters) => Ok(filters.pages(trigrams, among)?),
            Self::Lists(lists) => lists.pages(trigrams, among),
        }
    }
}

/// Lists of pages by trigram.
#[derive(Debug)]
pub(crate) struct Lists {
    place: Place,
    pages: u32,
    directory: Bytes,
    /// Where the lists begin, and where they end.
    lists: u64,
    end: u64,
    unlisted: PageSet,
}

impl Lists {
    fn open(place: Place, pages: u32) -> Result<Self, Unusable> {
        let header = place.get(0, HEADER_BYTES)?;
        let mut input = Input::new(&header);
        input.take(MAGIC.len())?;
        if input.u32()? != pages {
            return Err(Malformed("as many pages as the block has").into());
        }
        let trigrams = input.u32()? as usize;
        let (unlisted_bytes, lists_bytes) = (input.u32()? as usize, input.u32()?);
        let directory_bytes = trigrams.div_ceil(BLOCK_TRIGRAMS) * 8;
        let directory = place.get(HEADER_BYTES as u64, directory_bytes)?;
        let unlisted_at = (HEADER_BYTES + directory_bytes) as u64;
        let unlisted = decode_runs(&place.get(unlisted_at, unlisted_bytes)?, pages)?;
        let lists = unlisted_at + unlisted_bytes as u64;
        let end = lists + u64::from(lists_bytes);
        if end != place.length() {
            return Err(Malformed("lists up to the end of the file").into());
        }
        Ok(Self { pages, directory, lists, end, unlisted, place })
    }

    /// Returns the encoded list of a trigram.
    fn list(&self, trigram: u32) -> Result<Option<Bytes>, Unusable> {
        let (places, _) = self.directory.as_chunks::<8>();
        let split = |place: &[u8; 8]| {
            let both = u64::from_le_bytes(*place);
            (both as u32, self.lists + (both >> 32))
        };
        let after = places.partition_point(|place| split(place).0 <= trigram);
        let Some((first, start)) = after.checked_sub(1).and_then(|block| places.get(block)).map(split) else {
            return Ok(None);
        };
        let end = places.get(after).map_or(self.end, |place| split(place).1);
        let length = end.checked_sub(start).and_then(|length| usize::try_from(length).ok());
        let bytes = self.place.get(start, length.ok_or(Malformed("lists that ascend"))?)?;
        let mut input = Input::new(&bytes);
        let mut current = u64::from(first);
        while !input.is_empty() {
            current = current.saturating_add(input.varint()?);
            let list = input.bytes()?;
            if current >= u64::from(trigram) {
                return Ok((current == u64::from(trigram)).then(|| bytes.slice_ref(list)));
            }
        }
        Ok(None)
    }

    fn pages(&self, trigrams: &[u32], among: &PageSet) -> Result<PageSet, Unusable> {
        let mut found = among.clone();
        let mut lists = Vec::with_capacity(trigrams.len());
        for trigram in trigrams {
            match self.list(*trigram)? {
                Some(list) => lists.push(list),
                None => {
                    found.intersect(&self.unlisted);
                    return Ok(found);
                }
            }
        }
        lists.sort_unstable_by_key(Bytes::len);
        for list in lists.into_iter().take(LOOKED_UP_MAX) {
            let mut pages = decode_runs(&list, self.pages)?;
            pages.unite(&self.unlisted);
            found.intersect(&pages);
            if found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(pages: &[Vec<u32>]) -> Vec<u8> {
        let mut builder = TrigramsBuilder::default();
        (0..).zip(pages).for_each(|(page, trigrams)| builder.push_page(page, trigrams));
        builder.encode(u32::try_from(pages.len()).unwrap())
    }

    proptest! {
        #[test]
        fn a_trigram_is_found_where_it_is_and_nowhere_else(
            pages in proptest::collection::vec(proptest::collection::btree_set(0_u32..300, 0..200), 0..40),
            wanted in proptest::collection::vec(0_u32..310, 1..4),
        ) {
            let pages: Vec<Vec<u32>> = pages.into_iter().map(|page| page.into_iter().map(|i| i * 50_000).collect()).collect();
            let wanted: Vec<u32> = wanted.into_iter().map(|i| i * 50_000).collect();
            let index = Trigrams::open(built(&pages).into(), u32::try_from(pages.len()).unwrap()).unwrap();
            let count = u32::try_from(pages.len()).unwrap();
            let found = index.pages(&wanted, &PageSet::all(count)).unwrap();
            for (number, page) in (0..).zip(&pages) {
                let has_all = wanted.iter().all(|trigram| page.contains(trigram));
                prop_assert_eq!(found.contains(number), has_all, "page {}", number);
            }
        }
    }

    #[test]
    fn pages_with_too_many_trigrams_are_candidates_always() {
        let many: Vec<u32> = (0..=u32::try_from(PAGE_TRIGRAMS_MAX).unwrap()).collect();
        let index = Trigrams::open(built(&[vec![1, 2], many.clone(), many, vec![2]]).into(), 4).unwrap();
        let pages = |trigrams: &[u32]| {
            let found = index.pages(trigrams, &PageSet::all(4)).unwrap();
            (0..4).filter(|page| found.contains(*page)).collect::<Vec<u32>>()
        };
        assert_eq!(pages(&[1]), [0, 1, 2]);
        assert_eq!(pages(&[2]), [0, 1, 2, 3]);
        assert_eq!(pages(&[99]), [1, 2]);
        assert_eq!(pages(&[1, 99]), [1, 2]);
    }

    #[test]
    fn damaged_bytes_give_an_error_or_pages() {
        let bytes = built(&[vec![1, 9], vec![1], vec![], vec![1, 9, 0x00ff_ffff], vec![9]]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            for bytes in [damaged, bytes[..at].to_vec()] {
                if let Ok(index) = Trigrams::open(bytes.into(), 5) {
                    drop(index.pages(&[1, 9], &PageSet::all(5)));
                }
            }
        }
    }
}
