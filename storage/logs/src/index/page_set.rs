//! A set of page numbers.

/// Pages of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageSet {
    words: Vec<u64>,
    pages: u32,
}

impl PageSet {
    pub(crate) fn none(pages: u32) -> Self {
        Self { words: vec![0; pages.div_ceil(64) as usize], pages }
    }

    pub(crate) fn all(pages: u32) -> Self {
        let mut set = Self::none(pages);
        (0..pages).for_each(|page| set.insert(page));
        set
    }

    /// Adds a page; one that the block does not have is left out.
    pub(crate) fn insert(&mut self, page: u32) {
        if page < self.pages
            && let Some(word) = self.words.get_mut(page as usize / 64)
        {
            *word |= 1 << (page % 64);
        }
    }

    /// Adds the pages from `start` to before `end`, which the block has.
    pub(crate) fn insert_run(&mut self, start: u32, end: u32) {
        let (mut at, end) = (start, end.min(self.pages));
        while at < end {
            let length = (64 - at % 64).min(end - at);
            if let Some(word) = self.words.get_mut(at as usize / 64) {
                *word |= u64::MAX >> (64 - length) << (at % 64);
            }
            at += length;
        }
    }

    pub(crate) fn contains(&self, page: u32) -> bool {
        self.words.get(page as usize / 64).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// Iterates over the pages, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.pages).filter(|page| self.contains(*page))
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub(crate) fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}
