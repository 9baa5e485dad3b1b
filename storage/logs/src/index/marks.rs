//! Where tokens lie in a folded ASCII text: a bit for each byte, so that finding their ends takes no guess at each.

/// Bytes whose bits are in one word.
const WORD_BYTES: usize = 64;
/// The lowest bit of each byte.
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
/// Moves the lowest bits of eight bytes to the highest byte, the first one lowest.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// The bits of one text: whether a byte belongs to a token.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
}

impl Marks {
    /// Marks the tokens of a folded text; says no, and marks nothing, when it is not ASCII.
    pub(super) fn mark(&mut self, folded: &[u8]) -> bool {
        self.words.clear();
        if !folded.is_ascii() {
            return false;
        }
        let (chunks, rest) = folded.as_chunks::<WORD_BYTES>();
        self.words.extend(chunks.iter().map(word));
        let mut last = [0; WORD_BYTES];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.words.push(word(&last));
        true
    }

    /// Returns where the first token at or behind `at` begins and ends.
    #[inline]
    pub(super) fn token(&self, at: usize) -> Option<(usize, usize)> {
        let mut number = at / WORD_BYTES;
        let mut word = *self.words.get(number)? & u64::MAX << (at % WORD_BYTES);
        while word == 0 {
            number += 1;
            word = *self.words.get(number)?;
        }
        let start = number * WORD_BYTES + word.trailing_zeros() as usize;
        // Behind the start, where the bits are not set.
        let mut gaps = !word & u64::MAX << (start % WORD_BYTES);
        while gaps == 0 {
            number += 1;
            let Some(word) = self.words.get(number) else { return Some((start, number * WORD_BYTES)) };
            gaps = !word;
        }
        Some((start, number * WORD_BYTES + gaps.trailing_zeros() as usize))
    }
}

/// Marks the bytes of a word: letters in lower case, digits and underscores.
#[inline]
fn word(bytes: &[u8; WORD_BYTES]) -> u64 {
    let mut belongs = [0_u8; WORD_BYTES];
    for (belongs, byte) in belongs.iter_mut().zip(bytes) {
        let is_digit = byte.wrapping_sub(b'0') < 10;
        let is_letter = byte.wrapping_sub(b'a') < 26;
        *belongs = u8::from(is_digit | is_letter | (*byte == b'_'));
    }
    let (eights, _) = belongs.as_chunks::<8>();
    let gathered = eights.iter().map(|eight| (u64::from_le_bytes(*eight) & LOW_BITS).wrapping_mul(GATHER) >> 56);
    gathered.enumerate().fold(0, |word, (i, bits)| word | bits << (i * 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::{fold, for_each_token};

    proptest! {
        #[test]
        fn tokens_are_those_that_are_found_byte_by_byte(text in "([a-zA-Z0-9_]{0,90}[ -~]{0,5}){0,6}") {
            let mut folded = Vec::new();
            fold(&text, &mut folded);
            let mut expected = Vec::new();
            for_each_token(&folded, |token| expected.push((token.start, token.end)));
            let mut marks = Marks::default();
            prop_assert!(marks.mark(&folded));
            let mut found = Vec::new();
            let mut at = 0;
            while let Some((start, end)) = marks.token(at) {
                found.push((start, end));
                at = end;
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn other_texts_are_left_to_others() {
        assert!(!Marks::default().mark("\u{acb0}\u{c81c}".as_bytes()));
    }
}
