//! Finds the pages that may hold a needle.

use std::fmt;

use bytes::Bytes;
use storage_api::Needle;

use super::PageSet;
use super::ids::Ids;
use super::trigrams::Trigrams;
use super::words::Words;
use crate::codec::Malformed;
use crate::metadata::NOT_INDEXED;
use crate::token::{Token, caseless_pieces, fold, for_each_token, for_each_trigram, token_hash};

/// Shortest token at a needle's edge that is looked up whole. Shorter ones are part of longer ones nearly everywhere.
const EDGE_BYTES_MIN: usize = 6;

/// The open indexes of a block.
pub(crate) struct BlockIndex {
    ids: Ids,
    trigrams: Trigrams,
    words: Words,
    tokens_bytes_max: Vec<u32>,
}

impl fmt::Debug for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockIndex").field("size_bytes", &self.size_bytes()).finish()
    }
}

/// Why an index is of no use; the block is searched without it.
#[derive(Debug)]
pub(crate) struct Unusable(pub(crate) String);

impl From<Malformed> for Unusable {
    fn from(Malformed(expected): Malformed) -> Self {
        Self(format!("expected {expected}"))
    }
}

impl BlockIndex {
    /// Opens the indexes from their bytes, whose checksums were verified.
    pub(crate) fn open(
        ids: Bytes,
        trigrams: Bytes,
        words: &[(String, Bytes)],
        tokens_bytes_max: Vec<u32>,
    ) -> Result<Self, Unusable> {
        let words = Words::open(words).map_err(|error| Unusable(error.to_string()))?;
        Ok(Self { ids: Ids::open(ids)?, trigrams: Trigrams::open(trigrams)?, words, tokens_bytes_max })
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.ids.size_bytes() + self.trigrams.size_bytes() + self.words.size_bytes()
    }

    fn pages_len(&self) -> u32 {
        u32::try_from(self.tokens_bytes_max.len()).unwrap_or(u32::MAX)
    }

    /// Returns the pages that may hold rows which fulfil all `needles`.
    pub(crate) fn pages(&self, needles: &[Needle]) -> Result<PageSet, Unusable> {
        let mut pages = PageSet::all(self.pages_len());
        for needle in needles {
            self.narrow(&mut pages, needle)?;
            if pages.is_empty() {
                break;
            }
        }
        Ok(pages)
    }

    fn narrow(&self, pages: &mut PageSet, needle: &Needle) -> Result<(), Unusable> {
        match needle {
            Needle::Line(text) => self.narrow_line(pages, text),
            Needle::LineFold(text) => caseless_pieces(text).try_for_each(|piece| self.narrow_line(pages, piece)),
            Needle::Field { name, value } => self.narrow_field(pages, name, value),
            Needle::Any(needles) => {
                let mut any = PageSet::none(self.pages_len());
                for needle in needles {
                    let mut one = pages.clone();
                    self.narrow(&mut one, needle)?;
                    any.unite(&one);
                }
                *pages = any;
                Ok(())
            }
        }
    }

    /// Lines that hold `text`: tokens with a border on both sides are whole in the line too; the first and the last one
    /// may be part of a longer one.
    fn narrow_line(&self, pages: &mut PageSet, text: &str) -> Result<(), Unusable> {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        let mut tokens = Vec::new();
        for_each_token(&folded, |token| tokens.push(token));
        for token in tokens {
            let is_inner = token.start > 0 && token.end < folded.len();
            let length = token.end - token.start;
            if is_inner {
                pages.intersect(&self.token_pages(&folded, token)?);
            } else if length >= EDGE_BYTES_MIN {
                let mut found = self.token_pages(&folded, token)?;
                for (page, longest) in (0_u32..).zip(&self.tokens_bytes_max) {
                    if *longest as usize > length {
                        found.insert(page);
                    }
                }
                pages.intersect(&found);
            }
        }
        let mut trigrams = Vec::new();
        for_each_trigram(&folded, |trigram| trigrams.push(trigram));
        trigrams.sort_unstable();
        trigrams.dedup();
        if !trigrams.is_empty() && !pages.is_empty() {
            *pages = self.trigrams.pages(&trigrams, pages)?;
        }
        Ok(())
    }

    /// Rows with a field of this value, or lines that hold it as whole tokens.
    fn narrow_field(&self, pages: &mut PageSet, name: &str, value: &str) -> Result<(), Unusable> {
        if NOT_INDEXED.contains(&name) {
            return Ok(());
        }
        let mut folded = Vec::new();
        fold(value, &mut folded);
        let mut tokens = Vec::new();
        for_each_token(&folded, |token| tokens.push(token));
        for token in tokens {
            pages.intersect(&self.token_pages(&folded, token)?);
        }
        Ok(())
    }

    fn token_pages(&self, folded: &[u8], token: Token) -> Result<PageSet, Unusable> {
        let bytes = folded.get(token.start..token.end).unwrap_or_default();
        if token.is_id() {
            return Ok(self.ids.pages(token_hash(bytes))?);
        }
        let word = String::from_utf8_lossy(bytes);
        self.words.pages(&word, self.pages_len()).map_err(|error| Unusable(error.to_string()))
    }
}
