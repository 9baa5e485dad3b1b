//! Tells the tokens of a page that are new from those that came before.

use crate::token::token_hash;

/// Least slots of the table: as many as the tokens of a page of common lines need.
const SLOTS_MIN: usize = 1 << 14;
/// The bit of a slot that says that the token's trigrams are set.
const WITH_TRIGRAMS: u64 = 1;
/// Longest token that is hashed here; longer ones are hashed as the index does it.
const SHORT_BYTES_MAX: usize = 16;
/// Bytes that there have to be behind a token of [`Seen::note_with_room`].
pub(super) const ROOM_BEHIND: usize = SHORT_BYTES_MAX;
/// The bits of the first so many bytes.
const KEEP: [u128; SHORT_BYTES_MAX + 1] = {
    let mut keep = [u128::MAX; SHORT_BYTES_MAX + 1];
    let mut bytes = 0;
    while bytes < SHORT_BYTES_MAX {
        keep[bytes] = (1 << (bytes * 8)) - 1;
        bytes += 1;
    }
    keep
};
const MIX_A: u64 = 0x2d35_8dcc_aa6c_78a5;
const MIX_B: u64 = 0x8bb8_4b93_962e_acc9;

/// What is known of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is new on this page.
    No,
    /// It came in a field, so that its trigrams may be missing.
    InField,
    /// It came in a line: its trigrams are set.
    InLine,
}

/// The hashes of a page's tokens, in a table that is searched slot by slot.
#[derive(Debug)]
pub(super) struct Seen {
    /// 62 bits of the hash, and [`WITH_TRIGRAMS`]; 0 is free.
    slots: Vec<u64>,
    used: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { slots: vec![0; SLOTS_MIN], used: 0 }
    }
}

impl Seen {
    /// Notes a token of a line or of a field, and tells what was known before.
    #[inline]
    pub(super) fn note(&mut self, token: &[u8], in_line: bool) -> Known {
        self.note_hash(quick_hash(token), in_line)
    }

    /// Notes the token between two places of a text, which goes on for [`ROOM_BEHIND`] bytes behind any token.
    #[inline]
    pub(super) fn note_with_room(&mut self, text: &[u8], start: usize, end: usize, in_line: bool) -> Known {
        let length = end - start;
        let room = text.get(start..).and_then(|rest| rest.first_chunk::<SHORT_BYTES_MAX>());
        let hash = match room {
            Some(room) if length <= SHORT_BYTES_MAX => {
                let both = u128::from_le_bytes(*room) & KEEP.get(length).copied().unwrap_or(u128::MAX);
                mix(both as u64, (both >> 64) as u64, length)
            }
            _ => token_hash(text.get(start..end).unwrap_or_default()),
        };
        self.note_hash(hash, in_line)
    }

    #[inline]
    fn note_hash(&mut self, hash: u64, in_line: bool) -> Known {
        // No hash is the free slot.
        let wanted = (hash | 2) & !WITH_TRIGRAMS;
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 20) as usize & mask;
        loop {
            let Some(slot) = self.slots.get_mut(at) else { return Known::No };
            if *slot == 0 {
                *slot = wanted | u64::from(in_line);
                self.used += 1;
                if self.used * 2 > self.slots.len() {
                    self.grow();
                }
                return Known::No;
            }
            if *slot & !WITH_TRIGRAMS == wanted {
                let known = if *slot & WITH_TRIGRAMS == 0 { Known::InField } else { Known::InLine };
                *slot |= u64::from(in_line);
                return known;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let larger = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, larger);
        let mask = self.slots.len() - 1;
        for entry in old.into_iter().filter(|entry| *entry != 0) {
            // The second bit of a hash is lost; the place is made from others.
            let mut at = (entry >> 20) as usize & mask;
            while self.slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = entry;
            }
        }
    }

    /// Forgets everything. A table that one page made large is given back.
    pub(super) fn clear(&mut self) {
        if self.used * 8 < self.slots.len() && self.slots.len() > SLOTS_MIN {
            self.slots = vec![0; (self.slots.len() / 2).max(SLOTS_MIN)];
        } else {
            self.slots.fill(0);
        }
        self.used = 0;
    }
}

/// Hashes a token to tell it from others in memory: two multiplications for short ones, as nearly all are.
#[inline]
fn quick_hash(token: &[u8]) -> u64 {
    let length = token.len();
    if length > SHORT_BYTES_MAX {
        return token_hash(token);
    }
    let mut both = [0; SHORT_BYTES_MAX];
    both.iter_mut().zip(token).for_each(|(to, from)| *to = *from);
    let both = u128::from_le_bytes(both);
    mix(both as u64, (both >> 64) as u64, length)
}

/// Hashes a token of at most sixteen bytes, followed by zeros.
#[inline]
fn mix(a: u64, b: u64, length: usize) -> u64 {
    let mixed = folded_product(a ^ MIX_A, b ^ MIX_B ^ (length as u64));
    folded_product(mixed ^ MIX_B, MIX_A ^ (length as u64))
}

/// Multiplies to 128 bits and folds the halves together.
#[inline]
fn folded_product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_once_and_has_trigrams_once_a_line_had_it() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(b"field", false), Known::No);
        assert_eq!(seen.note(b"field", false), Known::InField);
        assert_eq!(seen.note(b"field", true), Known::InField);
        assert_eq!(seen.note(b"field", true), Known::InLine);
        seen.clear();
        assert_eq!(seen.note(b"field", true), Known::No);
    }

    #[test]
    fn a_million_tokens_are_told_apart_and_found_again() {
        let mut seen = Seen::default();
        let token = |i: u32| format!("{i:x}");
        for i in 0..1_000_000 {
            assert_eq!(seen.note(token(i).as_bytes(), i % 2 == 0), Known::No, "{i}");
        }
        for i in (0..1_000_000).step_by(7) {
            let known = if i % 2 == 0 { Known::InLine } else { Known::InField };
            assert_eq!(seen.note(token(i).as_bytes(), false), known, "{i}");
        }
        let large = seen.slots.len();
        seen.clear();
        seen.note(b"x", true);
        seen.clear();
        assert!(seen.slots.len() < large, "a large table shrinks again");
    }

    #[test]
    fn a_token_is_the_same_wherever_it_lies() {
        for length in 1..40 {
            let token = vec![b'x'; length];
            let text = [b"..".as_slice(), &token, b"yz", &[7; ROOM_BEHIND]].concat();
            let mut seen = Seen::default();
            assert_eq!(seen.note(&token, true), Known::No);
            assert_eq!(seen.note_with_room(&text, 2, 2 + length, true), Known::InLine, "{length} bytes");
            assert_eq!(seen.note_with_room(&text, 2, 3 + length, true), Known::No, "{length} bytes and one more");
        }
    }

    #[test]
    fn tokens_of_one_length_that_differ_in_any_byte_differ() {
        for length in 1..40 {
            let base = vec![b'a'; length];
            for at in 0..length {
                let mut other = base.clone();
                other[at] = b'b';
                assert_ne!(quick_hash(&base), quick_hash(&other), "byte {at} of {length}");
            }
            let longer = vec![b'a'; length + 1];
            assert_ne!(quick_hash(&base), quick_hash(&longer), "{length}");
        }
    }
}
