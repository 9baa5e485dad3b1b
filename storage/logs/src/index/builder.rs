//! Builds the indexes of a block, page by page, in one pass over the text.

use std::path::Path;

use super::ids;
use super::marks::Marks;
use super::seen::{Known, ROOM_BEHIND, Seen};
use super::trigrams::TrigramsBuilder;
use super::words::WordsBuilder;
use crate::token::{fold, for_each_token, is_id, token_hash};

/// Trigrams there can be.
const TRIGRAMS: usize = 1 << 24;
/// Short texts that are remembered: they fit the processor's nearest cache.
const WINDOWS: usize = 1 << 12;

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
    page_trigrams: TrigramSet,
    words_index: WordsBuilder,
    trigrams: TrigramsBuilder,
    folded: Vec<u8>,
    marks: Marks,
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
            page_trigrams: TrigramSet::default(),
            words_index: WordsBuilder::create(words_dir)?,
            trigrams: TrigramsBuilder::default(),
            folded: Vec::new(),
            marks: Marks::default(),
        })
    }

    /// Adds a line: its tokens and trigrams.
    pub(crate) fn push_line(&mut self, line: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        fold(line, &mut folded);
        // Where the next trigram begins that is not set yet.
        let mut next = 0;
        if self.marks.mark(&folded) {
            let length = folded.len();
            folded.resize(length + ROOM_BEHIND, 0);
            let mut at = 0;
            while let Some((start, end)) = self.marks.token(at) {
                let known = self.seen.note_with_room(&folded, start, end, true);
                self.add_line_token(&folded, (start, end), known, &mut next);
                at = end;
            }
            folded.truncate(length);
        } else {
            for_each_token(&folded, |token| {
                let Some(bytes) = folded.get(token.start..token.end) else { return };
                let known = self.seen.note(bytes, true);
                self.add_line_token(&folded, (token.start, token.end), known, &mut next);
            });
        }
        self.page_trigrams.set_in(folded.get(next..).unwrap_or_default());
        self.folded = folded;
    }

    #[inline]
    fn add_line_token(&mut self, folded: &[u8], (start, end): (usize, usize), known: Known, next: &mut usize) {
        if known == Known::No {
            self.add_token(folded.get(start..end).unwrap_or_default());
        }
        // Trigrams that lie in a token which was in a line of this page are set.
        if known == Known::InLine && end - start >= 3 {
            self.page_trigrams.set_between(folded, *next, (start + 2).max(*next));
            *next = end - 2;
        }
    }

    /// Adds the value of a field: its tokens.
    pub(crate) fn push_field(&mut self, value: &str) {
        let mut folded = std::mem::take(&mut self.folded);
        fold(value, &mut folded);
        for_each_token(&folded, |token| {
            let Some(bytes) = folded.get(token.start..token.end) else { return };
            if self.seen.note(bytes, false) == Known::No {
                self.add_token(bytes);
            }
        });
        self.folded = folded;
    }

    fn add_token(&mut self, token: &[u8]) {
        self.token_bytes_max = self.token_bytes_max.max(token.len());
        if is_id(token) {
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
        self.trigrams.push_page(self.page, &self.page_trigrams.found);
        self.page_trigrams.clear();
        self.page += 1;
        Ok(())
    }

    /// Ends the block.
    pub(crate) fn finish(self) -> tantivy::Result<Built> {
        self.words_index.finish()?;
        Ok(Built {
            ids: ids::encode(self.ids, self.page),
            trigrams: self.trigrams.encode(self.page),
            tokens_bytes_max: self.tokens_bytes_max,
        })
    }
}

/// The distinct trigrams of a page.
struct TrigramSet {
    /// One bit for each trigram there can be.
    bits: Vec<u64>,
    /// Those whose bit is set.
    found: Vec<u32>,
    /// Short texts whose trigrams are set: as what lies between two words mostly came before, it is looked up at once.
    windows: Vec<u64>,
}

impl Default for TrigramSet {
    fn default() -> Self {
        Self { bits: vec![0; TRIGRAMS / 64], found: Vec::new(), windows: vec![0; WINDOWS] }
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

    /// Does the same for what lies between two places, which probably came before.
    #[inline]
    fn set_between(&mut self, text: &[u8], start: usize, end: usize) {
        let length = end - start;
        let room = text.get(start..).and_then(|rest| rest.first_chunk::<8>());
        if let Some(room) = room.filter(|_| length < 8) {
            // The bytes, and above them their number: they are told apart exactly, and none is 0.
            let bytes = u64::from_le_bytes(*room) & ((1 << (length * 8)) - 1);
            let content = bytes | (length as u64 + 1) << 56;
            let place = (content.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - WINDOWS.ilog2())) as usize;
            if let Some(known) = self.windows.get_mut(place) {
                if *known == content {
                    return;
                }
                *known = content;
            }
        }
        self.set_in(text.get(start..end).unwrap_or_default());
    }

    fn clear(&mut self) {
        for trigram in self.found.drain(..) {
            if let Some(word) = self.bits.get_mut(trigram as usize / 64) {
                *word = 0;
            }
        }
        self.windows.fill(0);
    }
}
