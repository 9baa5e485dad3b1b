//! Marks matches in lines, and tokens in queries.

use super::functions::{is_function, is_keyword};
use super::token::{Token, TokenKind};

/// Cuts `line` into pieces, each with whether it matches one of `needles`, whatever the case. Empty needles match nothing.
pub(crate) fn matches<'a>(line: &'a str, needles: &[String]) -> Vec<(bool, &'a str)> {
    let needles: Vec<&str> = needles.iter().map(String::as_str).filter(|needle| !needle.is_empty()).collect();
    let mut pieces = Vec::new();
    let mut plain_from = 0;
    let mut at = 0;
    while at < line.len() && !needles.is_empty() {
        let rest = line.get(at..).unwrap_or_default();
        let longest = needles.iter().filter_map(|needle| prefix_length(rest, needle)).max();
        if let Some(length) = longest {
            pieces.extend(line.get(plain_from..at).filter(|plain| !plain.is_empty()).map(|plain| (false, plain)));
            pieces.extend(line.get(at..at + length).map(|hit| (true, hit)));
            at += length;
            plain_from = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    pieces.extend(line.get(plain_from..).filter(|plain| !plain.is_empty()).map(|plain| (false, plain)));
    pieces
}

/// Returns at most `chars_max` characters of `line`, from where its first match can be seen: a match far to the right
/// gets the `lead` characters before it, behind an ellipsis. Line feeds are shown as one character.
pub(crate) fn excerpt(line: &str, needles: &[String], lead: usize, chars_max: usize) -> String {
    let mut pieces = matches(line, needles).into_iter();
    let before = match (pieces.next(), pieces.next()) {
        (Some((false, plain)), Some(_)) => plain.chars().count(),
        _ => 0,
    };
    // Twice the lead is still seen without help.
    let skipped = if before > 2 * lead { before - lead } else { 0 };
    let shown = line.chars().skip(skipped).map(|c| if c == '\n' { '⏎' } else { c });
    (skipped > 0).then_some('…').into_iter().chain(shown).take(chars_max).collect()
}

/// Returns how many bytes of `text` equal `needle` but for case.
fn prefix_length(text: &str, needle: &str) -> Option<usize> {
    let mut text_chars = text.char_indices();
    for wanted in needle.chars() {
        let (_, found) = text_chars.next()?;
        if found != wanted && !found.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(text_chars.next().map_or(text.len(), |(at, _)| at))
}

/// Returns the class that colours a token.
pub(crate) fn token_class(token: &Token<'_>) -> &'static str {
    match token.kind {
        TokenKind::Name if is_function(token.text) => "tok-function",
        TokenKind::Name if is_keyword(token.text) => "tok-keyword",
        TokenKind::Name => "tok-name",
        TokenKind::Text => "tok-text",
        TokenKind::Number => "tok-number",
        TokenKind::Comment => "tok-comment",
        TokenKind::Operator => "tok-operator",
        TokenKind::Bracket | TokenKind::Space | TokenKind::Other => "",
    }
}

/// Finds the position in an error message, as (line, column) from 1: `1:6: parse error: …` or `… at char 6: …`.
pub(crate) fn error_position(message: &str) -> Option<(usize, usize)> {
    for word in message.split([' ', '(', ')', ',']) {
        let mut parts = word.trim_end_matches(':').split(':');
        if let (Some(line), Some(column), None) = (parts.next(), parts.next(), parts.next())
            && let (Ok(line), Ok(column)) = (line.parse(), column.parse())
            && line > 0
            && column > 0
        {
            return Some((line, column));
        }
    }
    let (_, behind) = message.split_once("line ")?;
    let line = behind.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let (_, behind) = behind.split_once("col ")?;
    Some((line, behind.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, needles: &[&str]) -> String {
        let needles: Vec<String> = needles.iter().map(|n| (*n).to_owned()).collect();
        let pieces = matches(line, &needles);
        assert_eq!(pieces.iter().map(|p| p.1).collect::<String>(), line);
        pieces.iter().map(|(hit, text)| if *hit { format!("[{text}]") } else { (*text).to_owned() }).collect()
    }

    #[test]
    fn matches_are_marked_whatever_the_case() {
        assert_eq!(shown("An error, Error: ERR", &["error"]), "An [error], [Error]: ERR");
        assert_eq!(shown("aaa", &["aa", "a"]), "[aa][a]");
        assert_eq!(shown("결제오류가 Ünïcode", &["오류", "ünï"]), "결제[오류]가 [Ünï]code");
        assert_eq!(shown("abc", &["", "x"]), "abc");
        assert_eq!(shown("", &["x"]), "");
    }

    #[test]
    fn an_excerpt_shows_the_first_match() {
        let cut = |line: &str, needle: &str| excerpt(line, &[needle.to_owned()], 3, 12);
        assert_eq!(cut("0123456789abcdefgh", ""), "0123456789ab");
        assert_eq!(cut("0123456789abcdefgh", "5"), "0123456789ab");
        assert_eq!(cut("0123456789abcdefgh", "A"), "…789abcdefgh");
        assert_eq!(cut("결제 오류 0123\n5678 a", "a"), "…78 a");
        assert_eq!(cut("a\nb", "x"), "a⏎b");
        assert_eq!(cut("", "x"), "");
    }

    #[test]
    fn positions_are_found_in_errors() {
        assert_eq!(error_position("1:6: parse error: unexpected \")\""), Some((1, 6)));
        assert_eq!(error_position("invalid parameter \"query\": 2:14: parse error: x"), Some((2, 14)));
        assert_eq!(error_position("parse error at line 1, col 9: syntax error"), Some((1, 9)));
        assert_eq!(error_position("PromQL warning: … (1:20)"), Some((1, 20)));
        assert_eq!(error_position("no such metric at 10:61:00"), None);
        assert_eq!(error_position("timeout"), None);
    }
}
