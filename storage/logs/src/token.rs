//! Folds text and cuts it into tokens and trigrams, for the indexes and for what is looked up in them.
//!
//! What matters is that text and needle are treated alike: folding maps each character by itself, and whether a
//! character belongs to a token depends on nothing around it. So a token inside a needle, with a border on both sides,
//! is a whole token of every text that holds the needle.

/// Shortest id with a digit in it; shorter ones are words.
const ID_BYTES_MIN: usize = 6;
/// Shortest number that is an id.
const NUMBER_DIGITS_MIN: usize = 4;
/// Longest word; longer tokens are ids.
const WORD_BYTES_MAX: usize = 40;

/// Writes `text` into `out` with ASCII letters in lower case, and the two other characters that fold to ASCII letters
/// (the Kelvin sign and the long s) as those.
pub(crate) fn fold(text: &str, out: &mut Vec<u8>) {
    out.clear();
    if text.is_ascii() {
        out.extend_from_slice(text.as_bytes());
        out.make_ascii_lowercase();
        return;
    }
    let mut buffer = [0; 4];
    for c in text.chars() {
        match c {
            '\u{212a}' => out.push(b'k'),
            '\u{17f}' => out.push(b's'),
            c => out.extend_from_slice(c.to_ascii_lowercase().encode_utf8(&mut buffer).as_bytes()),
        }
    }
}

/// A token of a folded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Says whether a token belongs into the index of ids, rather than that of words.
pub(crate) fn is_id(token: &[u8]) -> bool {
    let length = token.len();
    if !(NUMBER_DIGITS_MIN..=WORD_BYTES_MAX).contains(&length) {
        return length > WORD_BYTES_MAX;
    }
    let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits == length || (digits > 0 && length >= ID_BYTES_MIN)
}

const OTHER: u8 = 0;
const PLAIN: u8 = 1;
const WIDE: u8 = 2;

const KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' => PLAIN,
            0x80..=0xff => WIDE,
            _ => OTHER,
        };
        byte += 1;
    }
    kinds
};

/// Calls `each` for every token of a folded text: maximal runs of ASCII letters, digits, underscores, and other
/// letters and digits of Unicode.
#[inline]
pub(crate) fn for_each_token(folded: &[u8], mut each: impl FnMut(Token)) {
    let mut at = 0;
    loop {
        while folded.get(at).is_some_and(|byte| KINDS[usize::from(*byte)] == OTHER) {
            at += 1;
        }
        if at >= folded.len() {
            return;
        }
        let start = at;
        // What follows the token, if it is no token itself.
        let mut after = 0;
        while let Some(&byte) = folded.get(at) {
            let kind = KINDS[usize::from(byte)];
            if kind == PLAIN {
                at += 1;
            } else if kind == WIDE {
                let (belongs, length) = wide(folded.get(at..).unwrap_or_default());
                if !belongs {
                    after = length;
                    break;
                }
                at += length;
            } else {
                break;
            }
        }
        if at > start {
            each(Token { start, end: at });
        }
        at += after;
    }
}

/// Says whether the character at the start is a letter or digit, and how many bytes it has.
fn wide(bytes: &[u8]) -> (bool, usize) {
    let length = match bytes.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    let c = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.chars().next());
    c.map_or((false, 1), |c| (c.is_alphanumeric(), length))
}

/// Returns the hash of a folded token.
pub(crate) fn token_hash(token: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(token)
}

/// Calls `each` for every three bytes in a row.
pub(crate) fn for_each_trigram(folded: &[u8], mut each: impl FnMut(u32)) {
    let [a, b, rest @ ..] = folded else { return };
    let mut trigram = u32::from(*a) << 8 | u32::from(*b);
    for byte in rest {
        trigram = (trigram << 8 | u32::from(*byte)) & 0x00ff_ffff;
        each(trigram);
    }
}

/// Returns the pieces of `text` of which every match in any case holds the folded form. Characters whose other cases
/// are not known here end a piece.
pub(crate) fn caseless_pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_plain(c)).filter(|piece| !piece.is_empty())
}

/// ASCII, or a character without case: Hangul syllables, kana, Chinese characters.
fn is_plain(c: char) -> bool {
    c.is_ascii()
        || matches!(c, '\u{212a}' | '\u{17f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        let mut found = Vec::new();
        for_each_token(&folded, |token| {
            let text = String::from_utf8(folded[token.start..token.end].to_vec()).unwrap();
            found.push(if is_id(&folded[token.start..token.end]) { format!("#{text}") } else { text });
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn tokens_are_folded_words_and_ids() {
        check("GET /api/v1?id=ORD-77 123 1234", &["get", "api", "v1", "id", "ord", "77", "123", "#1234"]);
        check("trace7f3a blk_12 a_b", &["#trace7f3a", "#blk_12", "a_b"]);
        check("", &[]);
        check(" .-", &[]);
    }

    #[test]
    fn letters_of_any_script_make_tokens_and_marks_do_not() {
        check("결제오류가 발생“했다”", &["결제오류가", "발생", "했다"]);
        check("Émile \u{212a}elvin lo\u{17f}t", &["Émile", "kelvin", "lost"]);
    }

    #[test]
    fn trigrams_overlap() {
        let mut found = Vec::new();
        for_each_trigram(b"abcd", |trigram| found.push(trigram));
        assert_eq!(found, [0x0061_6263, 0x0062_6364]);
    }

    #[test]
    fn characters_with_unknown_cases_end_a_piece() {
        assert_eq!(caseless_pieces("abcÉdef결제").collect::<Vec<_>>(), ["abc", "def결제"]);
    }
}
