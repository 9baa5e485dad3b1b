//! Patterns of text and `<captures>`, as label parser and as line filter.

use std::collections::HashSet;

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `<name>`, or `<_>` as `None`.
    Capture(Option<String>),
}

/// A pattern that takes labels out of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

fn pieces(text: &str) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((name, tail)) = capture(rest) {
            out.push(Piece::Capture((name != "_").then(|| name.to_owned())));
            rest = tail;
            continue;
        }
        match out.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => out.push(Piece::Text(c.to_string())),
        }
        rest = rest.split_at(c.len_utf8()).1;
    }
    out
}

/// Splits `<name>` off.
fn capture(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let first = name.chars().next()?;
    let named =
        (first == '_' || first.is_ascii_alphabetic()) && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    named.then_some((name, rest))
}

fn consecutive(pieces: &[Piece]) -> Result<(), String> {
    for two in pieces.windows(2) {
        if let [Piece::Capture(a), Piece::Capture(b)] = two {
            let name = |capture: &Option<String>| capture.clone().unwrap_or_else(|| "_".to_owned());
            return Err(format!("found consecutive capture '<{}><{}>': invalid expression", name(a), name(b)));
        }
    }
    Ok(())
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let pieces = pieces(text);
        if pieces.is_empty() {
            return Err("syntax error: unexpected $end, expecting IDENTIFIER or LITERAL".to_owned());
        }
        let mut names: HashSet<&str> = HashSet::new();
        for piece in &pieces {
            let Piece::Capture(Some(name)) = piece else { continue };
            if !names.insert(name) {
                return Err(format!("duplicate capture name ({name}): invalid expression"));
            }
        }
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        consecutive(&pieces)?;
        Ok(Self(pieces))
    }

    /// Calls `found` with each capture of the line until it says false. A line that ends early gives its rest to the last
    /// capture reached; one that does not start as the pattern does gives nothing.
    pub(crate) fn captures<'p, 'a>(&'p self, line: &'a str, mut found: impl FnMut(&'p str, &'a str) -> bool) {
        let mut pieces = self.0.as_slice();
        let mut rest = line;
        if let [Piece::Text(text), tail @ ..] = pieces {
            let Some(after) = rest.strip_prefix(text.as_str()) else { return };
            rest = after;
            pieces = tail;
        }
        if line.is_empty() {
            return;
        }
        while let [Piece::Capture(name), tail @ ..] = pieces {
            let (value, after) = match tail {
                [Piece::Text(text), ..] => rest.split_once(text.as_str()).map_or((rest, None), |(a, b)| (a, Some(b))),
                _ => (rest, None),
            };
            if let Some(name) = name
                && !found(name, value)
            {
                return;
            }
            let Some(after) = after else { return };
            rest = after;
            pieces = tail.get(1..).unwrap_or_default();
        }
    }
}

/// A pattern that lines are tested with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinePattern(Vec<Piece>);

impl LinePattern {
    /// Reads a pattern, which may have `<_>` only.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let pieces = pieces(text);
        consecutive(&pieces)?;
        for piece in &pieces {
            if let Piece::Capture(Some(name)) = piece {
                return Err(format!("named captures are not allowed: found '<{name}>'"));
            }
        }
        Ok(Self(pieces))
    }

    /// Returns the texts that a matching line holds.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Capture(_) => None,
        })
    }

    /// Says whether the whole line matches; `<_>` takes at least one byte.
    pub(crate) fn is_match(&self, line: &str) -> bool {
        if line.is_empty() || self.0.is_empty() {
            return line.is_empty() && self.0.is_empty();
        }
        let mut rest = line;
        for (i, piece) in self.0.iter().enumerate() {
            let Piece::Text(text) = piece else { continue };
            let Some((before, after)) = rest.split_once(text.as_str()) else { return false };
            // A pattern may begin anywhere in the line, as in Loki.
            if i != 0 && before.is_empty() {
                return false;
            }
            rest = after;
        }
        let open = matches!(self.0.last(), Some(Piece::Capture(_)));
        open != rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, line: &str, expected: &[(&str, &str)]) {
        let mut found = Vec::new();
        Pattern::new(pattern).unwrap().captures(line, |name, value| {
            found.push((name.to_owned(), value.to_owned()));
            true
        });
        let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn captures_end_where_the_next_text_begins() {
        check(
            "<ip> - <_> \"<method> <path>\"",
            "1.2.3.4 - x \"GET /a\"",
            &[("ip", "1.2.3.4"), ("method", "GET"), ("path", "/a")],
        );
        check("[<a>] <b>", "no", &[]);
        check("<a> = <b>", "only", &[("a", "only")]);
        check("<a>", "", &[]);
    }

    #[test]
    fn bad_patterns_say_why() {
        assert_eq!(Pattern::new("abc").unwrap_err(), "at least one capture is required");
        assert!(Pattern::new("<a><b>").unwrap_err().starts_with("found consecutive capture '<a><b>'"));
        assert!(Pattern::new("<a> <a>").unwrap_err().starts_with("duplicate capture name (a)"));
        assert!(Pattern::new("").is_err() && LinePattern::new("<a>").is_err() && LinePattern::new("<_><_>").is_err());
    }

    #[test]
    fn line_patterns_match_whole_lines() {
        let matches = |pattern: &str, line: &str| LinePattern::new(pattern).unwrap().is_match(line);
        assert!(matches("<_> bar", "foo bar") && !matches("<_> bar", "foo bar baz") && matches("foo <_>", "foo x"));
        assert!(!matches("<_> bar <_>", " bar ") && matches("<_>bar<_>", " bar ") && matches("", ""));
    }
}
