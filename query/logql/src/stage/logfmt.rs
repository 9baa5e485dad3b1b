//! The logfmt parser.

use std::borrow::Cow;

use super::json::sanitize;
use crate::ast::Extraction;
use crate::row::{Hints, RowLabels};

/// What `__error__` says about a malformed line.
pub(crate) const LOGFMT_ERROR: &str = "LogfmtParserErr";

/// `logfmt` with its flags and expressions.
#[derive(Debug)]
pub(crate) struct Logfmt {
    pub(crate) strict: bool,
    pub(crate) keep_empty: bool,
    /// (label, key); empty for all keys.
    pub(crate) extractions: Vec<(String, String)>,
}

impl Logfmt {
    pub(crate) fn new(strict: bool, keep_empty: bool, extractions: &[Extraction]) -> Result<Self, String> {
        let extraction = |extraction: &Extraction| {
            let Extraction { name, expression } = extraction;
            let text = expression.trim();
            let key = text.strip_prefix('"').map_or(text, |rest| rest.trim_end_matches('"'));
            let plain = key.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
                && key.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
            if plain || text.starts_with('"') && !key.is_empty() {
                Ok((name.clone(), key.to_owned()))
            } else {
                Err(format!("cannot parse expression [{expression}]: syntax error"))
            }
        };
        let extractions = extractions.iter().map(extraction).collect::<Result<_, _>>()?;
        Ok(Self { strict, keep_empty, extractions })
    }

    /// Adds the line's labels to the row.
    pub(crate) fn process<'x, 'l>(
        &'l self,
        line: &'x str,
        row: &mut RowLabels<'l>,
        hints: &Hints,
        keep: impl Fn(Cow<'x, str>) -> Cow<'l, str>,
    ) {
        if hints.skips(row) {
            return;
        }
        for (name, _) in &self.extractions {
            if row.parsed_name(name) == *name {
                row.set_parsed(name, "");
            }
        }
        for pair in Pairs::new(line) {
            match pair {
                Ok((key, value)) if self.extractions.is_empty() => {
                    if value.is_empty() && !self.keep_empty {
                        continue;
                    }
                    let name = sanitize(key);
                    if name.is_empty() || !hints.may_want(&name) {
                        continue;
                    }
                    let name = row.parsed_name(name);
                    if hints.wants(&name) && !row.is_extracted(&name) {
                        row.set_parsed(keep(name), keep(super::json::without_replacement(value)));
                    }
                }
                Ok((key, value)) => self.extract(key, value, row, &keep),
                Err(error) if self.strict => {
                    row.fail(LOGFMT_ERROR, error);
                    return;
                }
                Err(_) => {}
            }
            if hints.is_done(row) {
                return;
            }
        }
    }

    fn extract<'x, 'l>(
        &'l self,
        key: &str,
        value: Cow<'x, str>,
        row: &mut RowLabels<'l>,
        keep: &impl Fn(Cow<'x, str>) -> Cow<'l, str>,
    ) {
        let key = sanitize(key);
        let value = if value.contains('\u{fffd}') { Cow::Borrowed("") } else { value };
        let is_named = self.extractions.iter().any(|(name, _)| *name == key);
        // What an earlier stage took out of the line under the key's own name is not taken again.
        if !is_named && row.is_extracted(&key) {
            return;
        }
        let is_wanted = self.extractions.iter().any(|(_, want)| *want == key);
        for (name, want) in &self.extractions {
            if *want == key || *name == key && !is_wanted {
                let parsed = row.parsed_name(name);
                // Of several values the last one counts, but under a name that had to be changed the first one.
                if parsed == *name || !row.is_extracted(&parsed) {
                    row.set_parsed(parsed, keep(value.clone()));
                }
            }
        }
    }
}

/// The pairs of a line; a malformed one is an error, and the rest goes on behind the next blank.
pub(crate) struct Pairs<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self { line, at: 0 }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.line.as_bytes().get(at).copied()
    }

    fn until(&self, from: usize, stop: impl Fn(u8) -> bool) -> usize {
        let rest = self.line.as_bytes().get(from..).unwrap_or_default();
        rest.iter().position(|c| stop(*c)).map_or(self.line.len(), |i| from + i)
    }

    fn text(&self, from: usize, to: usize) -> &'a str {
        // All borders are ASCII bytes or ends, so this never fails.
        self.line.get(from..to).unwrap_or("")
    }

    fn fail<T>(&mut self, at: usize, message: &str) -> Option<Result<T, String>> {
        self.at = self.until(at, |c| c <= b' ');
        Some(Err(format!("logfmt syntax error at pos {} : {message}", at + 1)))
    }

    fn quoted(&mut self, key: &'a str, start: usize) -> Option<Result<(&'a str, Cow<'a, str>), String>> {
        let mut at = start + 1;
        let mut escaped = false;
        loop {
            match self.byte(at) {
                None => {
                    self.at = self.line.len();
                    let at = self.line.len() + 1;
                    return Some(Err(format!("logfmt syntax error at pos {at} : unterminated quoted value")));
                }
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(b'"') => break,
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        let inner = self.text(start + 1, at);
        if !escaped {
            return Some(Ok((key, Cow::Borrowed(inner))));
        }
        match super::json::unescape_lossy(inner) {
            Some(value) => Some(Ok((key, Cow::Owned(value)))),
            None => Some(Err(format!("logfmt syntax error at pos {} : invalid quoted value", at + 2))),
        }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, Cow<'a, str>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.until(self.at, |c| c > b' ');
        self.at = start;
        if start >= self.line.len() {
            return None;
        }
        let end = self.until(start, |c| c <= b' ' || c == b'=' || c == b'"');
        let key = self.text(start, end);
        match self.byte(end) {
            Some(b'"') => return self.fail(end, "unexpected '\"'"),
            Some(b'=') if key.is_empty() => return self.fail(end, "unexpected '='"),
            Some(b'=') => {}
            _ => {
                self.at = end;
                if key.contains('\u{fffd}') {
                    return self.fail(end, "invalid key");
                }
                return Some(Ok((key, Cow::Borrowed(""))));
            }
        }
        if key.contains('\u{fffd}') {
            return self.fail(end, "invalid key");
        }
        let start = end + 1;
        if self.byte(start) == Some(b'"') {
            return self.quoted(key, start);
        }
        let end = self.until(start, |c| c <= b' ' || c == b'=' || c == b'"');
        match self.byte(end) {
            Some(c @ (b'=' | b'"')) => self.fail(end, &format!("unexpected '{}'", char::from(c))),
            _ => {
                self.at = end;
                Some(Ok((key, Cow::Borrowed(self.text(start, end)))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Expect) {
        let shown: Vec<String> = Pairs::new(line)
            .map(|pair| match pair {
                Ok((key, value)) => format!("{key}={value:?}"),
                Err(error) => error,
            })
            .collect();
        expected.assert_eq(&shown.join("\n"));
    }

    #[test]
    fn pairs_are_read() {
        check(
            r#"level=info msg="a \"b\" \n" empty= flag dup=1"#,
            expect![[r#"
                level="info"
                msg="a \"b\" \n"
                empty=""
                flag=""
                dup="1""#]],
        );
        check("", expect![""]);
        check(
            "결제=오류 x=é",
            expect![[r#"
            결제="오류"
            x="é""#]],
        );
    }

    #[test]
    fn a_malformed_pair_is_told_and_the_rest_goes_on() {
        check(
            r#"good=1 =bad a"b c=d=e ok=2 bad="x"#,
            expect![[r#"
                good="1"
                logfmt syntax error at pos 8 : unexpected '='
                logfmt syntax error at pos 14 : unexpected '"'
                logfmt syntax error at pos 20 : unexpected '='
                ok="2"
                logfmt syntax error at pos 34 : unterminated quoted value"#]],
        );
    }
}
