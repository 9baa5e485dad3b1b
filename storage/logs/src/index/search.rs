//! Finds the pages that may hold a needle.

use std::sync::Arc;

use storage_api::Needle;

use super::PageSet;
use super::ids::Ids;
use super::trigrams::Trigrams;
use super::words::Words;
use crate::codec::Malformed;
use crate::metadata::NOT_INDEXED;
use crate::token::{Token, caseless_pieces, fold, for_each_token, for_each_trigram, is_id, token_hash};

/// Shortest token at a needle's edge that is looked up whole. Shorter ones are part of longer ones nearly everywhere.
const EDGE_BYTES_MIN: usize = 6;

/// Pages that are rather read than words loaded for them only.
const FEW_PAGES: usize = 4;

/// The indexes of a block, each of which is only loaded when it is asked for.
pub(crate) trait Sections {
    /// Returns how many pages the block has.
    fn pages(&self) -> u32;

    /// Returns the length of a page's longest token, in bytes.
    fn token_bytes_max(&self, page: u32) -> u32;

    fn ids(&self) -> Result<Arc<Ids>, Unusable>;

    fn trigrams(&self) -> Result<Arc<Trigrams>, Unusable>;

    fn words(&self) -> Result<Arc<Words>, Unusable>;

    /// Says whether words are in memory, or may stay there.
    fn are_words_at_hand(&self) -> bool;
}

/// Why an index is of no use; the block is searched without it.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) reason: String,
    /// The error that says so already.
    pub(crate) cause: Option<storage_api::Error>,
}

impl From<Malformed> for Unusable {
    fn from(Malformed(expected): Malformed) -> Self {
        Self { reason: format!("expected {expected}"), cause: None }
    }
}

impl From<storage_api::Error> for Unusable {
    fn from(error: storage_api::Error) -> Self {
        Self { reason: error.to_string(), cause: Some(error) }
    }
}

/// Returns the pages that may hold rows which fulfil all `needles`.
pub(crate) fn pages_of(sections: &dyn Sections, needles: &[Needle]) -> Result<PageSet, Unusable> {
    let search = Search { sections };
    let mut pages = PageSet::all(sections.pages());
    for needle in needles {
        search.narrow(&mut pages, needle)?;
        if pages.is_empty() {
            break;
        }
    }
    Ok(pages)
}

struct Search<'a> {
    sections: &'a dyn Sections,
}

impl Search<'_> {
    fn narrow(&self, pages: &mut PageSet, needle: &Needle) -> Result<(), Unusable> {
        match needle {
            Needle::Line(text) => self.narrow_line(pages, text),
            Needle::LineFold(text) => caseless_pieces(text).try_for_each(|piece| self.narrow_line(pages, piece)),
            Needle::Field { name, value } => self.narrow_field(pages, name, value),
            Needle::Any(needles) => {
                let mut any = PageSet::none(self.sections.pages());
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
    /// may be part of a longer one. The trigrams are asked first, as they mostly know best, and no other index when no page
    /// is left.
    fn narrow_line(&self, pages: &mut PageSet, text: &str) -> Result<(), Unusable> {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        let mut tokens = Vec::new();
        for_each_token(&folded, |token| tokens.push(token));
        let is_inner = |token: &Token| token.start > 0 && token.end < folded.len();
        let (mut inner, edges): (Vec<Token>, Vec<Token>) = tokens.into_iter().partition(is_inner);
        let mut trigrams = Vec::new();
        for_each_trigram(&folded, |trigram| trigrams.push(trigram));
        trigrams.sort_unstable();
        trigrams.dedup();
        if !trigrams.is_empty() && !pages.is_empty() {
            *pages = self.sections.trigrams()?.pages(&trigrams, pages)?;
        }
        inner.sort_by_key(|token| is_id(folded.get(token.start..token.end).unwrap_or_default()));
        for token in inner {
            // Reading some pages takes less time than loading an index for it.
            if pages.iter().nth(FEW_PAGES).is_some() || self.sections.are_words_at_hand() {
                self.narrow_token(pages, &folded, token)?;
            }
        }
        for token in edges {
            self.narrow_edge(pages, &folded, token)?;
        }
        Ok(())
    }

    /// Pages that hold a token at a needle's edge. Where there are longer tokens, it may be part of one.
    fn narrow_edge(&self, pages: &mut PageSet, folded: &[u8], token: Token) -> Result<(), Unusable> {
        let length = token.end - token.start;
        if length < EDGE_BYTES_MIN {
            return Ok(());
        }
        let mut longer = PageSet::none(self.sections.pages());
        let has_longer = |page: &u32| self.sections.token_bytes_max(*page) as usize > length;
        pages.iter().filter(has_longer).for_each(|page| longer.insert(page));
        if longer != *pages {
            self.narrow_token(pages, folded, token)?;
            pages.unite(&longer);
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
        tokens.sort_by_key(|token| is_id(folded.get(token.start..token.end).unwrap_or_default()));
        for token in tokens {
            self.narrow_token(pages, &folded, token)?;
        }
        Ok(())
    }

    /// Pages that hold a whole token.
    fn narrow_token(&self, pages: &mut PageSet, folded: &[u8], token: Token) -> Result<(), Unusable> {
        if pages.is_empty() {
            return Ok(());
        }
        let bytes = folded.get(token.start..token.end).unwrap_or_default();
        let found = if is_id(bytes) {
            self.sections.ids()?.pages(token_hash(bytes))?
        } else {
            let word = String::from_utf8_lossy(bytes);
            let found = self.sections.words()?.pages(&word, self.sections.pages());
            found.map_err(|error| Unusable { reason: error.to_string(), cause: None })?
        };
        pages.intersect(&found);
        Ok(())
    }
}
