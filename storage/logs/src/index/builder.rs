//! Builds the indexes of a block, page by page, in one pass over the text.

use std::path::Path;

use super::seen::{Known, Seen};
use super::trigrams::TrigramsBuilder;
use super::words::WordsBuilder;
use super::{PAGES_PER_GROUP, ids};
use crate::token::{fold, for_each_token, token_hash};

/// Trigrams there can be.
const TRIGRAMS: usize = 1 << 24;

/// Collects tokens and trigrams of the rows of a page.
pub(crate) struct IndexBuilder {
    page: u32,
    /// The page's tokens.
    seen: Seen,
    /// Each word once, with a line feed after it, which no token holds.
    words: Vec<u8>,
    /// Upper half of the hash, and page.
    ids: Vec<u64>,
    token_bytes_max: usize,
    tokens_bytes_max: Vec<u32>,
    group: TrigramSet,
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
            seen: Seen::default(),
            words: Vec::new(),
            ids: Vec::new(),
            token_bytes_max: 0,
            tokens_bytes_max: Vec::new(),
            group: TrigramSet::default(),
            words_index: WordsBuilder::create(words_dir)?,
            trigrams: TrigramsBuilder::default(),
            folded: Vec::new(),
        })
    }

    /// Adds a line: its tokens and trigrams.
    pub(crate) fn push_line(&mut self, line: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        fold(line, &mut folded);
        // Where the next trigram begins that is not set yet.
        let mut next = 0;
        for_each_token(&folded, |token| {
            let Some(bytes) = folded.get(token.start..token.end) else { return };
            let known = self.seen.note(bytes, true);
            if known == Known::No {
                self.add_token(bytes, token.is_id());
            }
            // Trigrams that lie in a token which was in a line of this page are set. A page lies in one group.
            if known == Known::InLine && bytes.len() >= 3 {
                self.group.set_in(folded.get(next..(token.start + 2).max(next)).unwrap_or_default());
                next = token.end - 2;
            }
        });
        self.group.set_in(folded.get(next..).unwrap_or_default());
        self.folded = folded;
    }

    /// Adds the value of a field: its tokens.
    pub(crate) fn push_field(&mut self, value: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        fold(value, &mut folded);
        for_each_token(&folded, |token| {
            let Some(bytes) = folded.get(token.start..token.end) else { return };
            if self.seen.note(bytes, false) == Known::No {
                self.add_token(bytes, token.is_id());
            }
        });
        self.folded = folded;
    }

    fn add_token(&mut self, token: &[u8], is_id: bool) {
        self.token_bytes_max = self.token_bytes_max.max(token.len());
        if is_id {
            self.ids.push(token_hash(token) & !0xffff_ffff | u64::from(self.page));
        } else {
            self.words.extend_from_slice(token);
            self.words.push(b'\n');
        }
    }

    /// Ends the page.
    pub(crate) fn finish_page(&mut self) -> tantivy::Result<()> {
        let words = std::mem::take(&mut self.words);
        // Tokens are cut at borders of characters only.
        let words = String::from_utf8(words).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        self.words_index.push_page(words)?;
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
        self.trigrams.push_group(&self.group.found);
        self.group.clear();
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

/// The distinct trigrams of a group of pages.
struct TrigramSet {
    /// One bit for each trigram there can be.
    bits: Vec<u64>,
    /// Those whose bit is set.
    found: Vec<u32>,
}

impl Default for TrigramSet {
    fn default() -> Self {
        Self { bits: vec![0; TRIGRAMS / 64], found: Vec::new() }
    }
}

impl TrigramSet {
    /// Adds every three bytes in a row of `text`.
    #[inline]
    fn set_in(&mut self, text: &[u8]) {
        let [a, b, rest @ ..] = text else { return };
        let mut trigram = u32::from(*a) << 8 | u32::from(*b);
        for byte in rest {
            trigram = (trigram << 8 | u32::from(*byte)) & 0x00ff_ffff;
            if let Some(word) = self.bits.get_mut(trigram as usize / 64) {
                let bit = 1 << (trigram % 64);
                if *word & bit == 0 {
                    *word |= bit;
                    self.found.push(trigram);
                }
            }
        }
    }

    fn clear(&mut self) {
        for trigram in self.found.drain(..) {
            if let Some(word) = self.bits.get_mut(trigram as usize / 64) {
                *word = 0;
            }
        }
    }
}
