//! Builds the indexes of a block, page by page, in one pass over the text.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use super::trigrams::TrigramsBuilder;
use super::words::WordsBuilder;
use super::{PAGES_PER_GROUP, ids};
use crate::token::{fold, for_each_token, for_each_trigram, token_hash};

/// Trigrams there can be.
const TRIGRAMS: usize = 1 << 24;

/// Takes a hash as it is.
#[derive(Debug, Default, Clone, Copy)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = token_hash(bytes);
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Collects tokens and trigrams of the rows of a page.
pub(crate) struct IndexBuilder {
    page: u32,
    /// Hashes of the page's tokens.
    seen: HashSet<u64, BuildHasherDefault<AsItIs>>,
    /// Each once, with a line feed after it, which no token holds.
    words: String,
    /// Upper half of the hash, and page.
    ids: Vec<u64>,
    token_bytes_max: usize,
    tokens_bytes_max: Vec<u32>,
    /// One bit for each trigram of the group, and those that are set.
    is_set: Vec<u64>,
    group: Vec<u32>,
    words_index: WordsBuilder,
    trigrams: TrigramsBuilder,
    folded: Vec<u8>,
}

/// The finished indexes of ids and trigrams; that of words is on disk.
pub(crate) struct Built {
    pub(crate) ids: Vec<u8>,
    pub(crate) trigrams: Vec<u8>,
    /// The longest token of each page, in bytes.
    pub(crate) tokens_bytes_max: Vec<u32>,
}

impl IndexBuilder {
    /// Starts the indexes of a block; `words_dir` is empty.
    pub(crate) fn create(words_dir: &Path) -> tantivy::Result<Self> {
        Ok(Self {
            page: 0,
            seen: HashSet::default(),
            words: String::new(),
            ids: Vec::new(),
            token_bytes_max: 0,
            tokens_bytes_max: Vec::new(),
            is_set: vec![0; TRIGRAMS / 64],
            group: Vec::new(),
            words_index: WordsBuilder::create(words_dir)?,
            trigrams: TrigramsBuilder::default(),
            folded: Vec::new(),
        })
    }

    /// Adds a line: its tokens and trigrams.
    pub(crate) fn push_line(&mut self, line: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        fold(line, &mut folded);
        let (is_set, group) = (&mut self.is_set, &mut self.group);
        for_each_trigram(&folded, |trigram| {
            if let Some(word) = is_set.get_mut(trigram as usize / 64) {
                let bit = 1 << (trigram % 64);
                if *word & bit == 0 {
                    *word |= bit;
                    group.push(trigram);
                }
            }
        });
        self.push_tokens(&folded);
        self.folded = folded;
    }

    /// Adds the value of a field: its tokens.
    pub(crate) fn push_field(&mut self, value: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        fold(value, &mut folded);
        self.push_tokens(&folded);
        self.folded = folded;
    }

    fn push_tokens(&mut self, folded: &[u8]) {
        for_each_token(folded, |token| {
            let Some(bytes) = folded.get(token.start..token.end) else { return };
            let hash = token_hash(bytes);
            if !self.seen.insert(hash) {
                return;
            }
            self.token_bytes_max = self.token_bytes_max.max(bytes.len());
            if token.is_id() {
                self.ids.push(hash & !0xffff_ffff | u64::from(self.page));
            } else {
                match std::str::from_utf8(bytes) {
                    Ok(word) => self.words.push_str(word),
                    Err(_) => self.words.push_str(&String::from_utf8_lossy(bytes)),
                }
                self.words.push('\n');
            }
        });
    }

    /// Ends the page.
    pub(crate) fn finish_page(&mut self) -> tantivy::Result<()> {
        self.words_index.push_page(std::mem::take(&mut self.words))?;
        self.seen.clear();
        self.tokens_bytes_max.push(u32::try_from(self.token_bytes_max).unwrap_or(u32::MAX));
        self.token_bytes_max = 0;
        self.page += 1;
        if self.page.is_multiple_of(PAGES_PER_GROUP) {
            self.finish_group();
        }
        Ok(())
    }

    fn finish_group(&mut self) {
        self.trigrams.push_group(&self.group);
        for trigram in self.group.drain(..) {
            if let Some(word) = self.is_set.get_mut(trigram as usize / 64) {
                *word = 0;
            }
        }
    }

    /// Ends the block.
    pub(crate) fn finish(mut self) -> tantivy::Result<Built> {
        if !self.page.is_multiple_of(PAGES_PER_GROUP) {
            self.finish_group();
        }
        self.words_index.finish()?;
        Ok(Built {
            ids: ids::encode(self.ids, self.page),
            trigrams: self.trigrams.encode(self.page),
            tokens_bytes_max: self.tokens_bytes_max,
        })
    }
}
