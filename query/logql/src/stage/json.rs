//! The JSON parsers: `json`, `json` with expressions, `unpack`.
//!
//! A line is read from left to right and its labels are made on the way, so that a line that is malformed at its end
//! still gives what comes before, as in Loki.

use std::borrow::Cow;

use crate::ast::Extraction;
use crate::row::{Hints, PRESERVE_ERROR, RowLabels};

/// What `__error__` says about a malformed line.
pub(crate) const JSON_ERROR: &str = "JSONParserErr";

/// The key under which an agent packs the line itself.
const PACKED_ENTRY: &str = "_entry";

/// Deepest nesting of objects that become labels.
const DEPTH_MAX: usize = 100;

/// What kind of value a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Bool,
    Null,
    Object,
    Array,
}

/// Says how reading goes on after a key.
pub(crate) enum Go {
    On,
    Stop,
}

/// Calls `found` with each key (escapes resolved) and value (as written, without quotes) of the object `text`.
///
/// # Errors
/// What is malformed; what came before was reported.
pub(crate) fn object_each<'a>(
    text: &'a str,
    found: impl FnMut(&str, Kind, &'a str) -> Result<Go, &'static str>,
) -> Result<Go, &'static str> {
    members(&mut Reader { text, at: 0 }, found)
}

/// Does what [`object_each`] does where a reader is, which then stands behind the last value.
fn members<'a>(
    reader: &mut Reader<'a>,
    mut found: impl FnMut(&str, Kind, &'a str) -> Result<Go, &'static str>,
) -> Result<Go, &'static str> {
    const OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
    if reader.token() != Some(b'{') {
        return Err(OBJECT);
    }
    reader.at += 1;
    loop {
        match reader.token() {
            Some(b'}') => return Ok(Go::On),
            Some(b'"') => {}
            _ => return Err(OBJECT),
        }
        let (key, is_escaped) =
            reader.text_and_escapes().ok_or("Value is string, but can't find closing '\"' symbol")?;
        let key = if is_escaped { unescape(key) } else { Cow::Borrowed(key) };
        if reader.token() != Some(b':') {
            return Err("Malformed JSON error");
        }
        reader.at += 1;
        let (kind, value) = reader.value()?;
        if let Go::Stop = found(&key, kind, value)? {
            return Ok(Go::Stop);
        }
        match reader.token() {
            Some(b'}') => return Ok(Go::On),
            Some(b',') => reader.at += 1,
            // Loki's parser takes a line that ends here for an array.
            None => return Err("Value is array, but can't find closing ']' symbol"),
            Some(_) => return Err(OBJECT),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Returns where the next quote or backslash is from `at` on, or the end. Strings are short: eight bytes at a time are
    /// seen through sooner than a search is set up.
    fn special(&self, mut at: usize) -> usize {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let bytes = self.text.as_bytes();
        // The lowest bit that is set marks the first byte that is zero.
        let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
        while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let found = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
            if found != 0 {
                return at + (found.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len())
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Skips blanks and returns what comes next.
    fn token(&mut self) -> Option<u8> {
        while matches!(self.byte(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        self.byte(self.at)
    }

    /// Reads a string at its opening quote.
    fn string(&mut self) -> Option<&'a str> {
        self.text_and_escapes().map(|(text, _)| text)
    }

    /// Reads a string at its opening quote, and says whether it holds a backslash.
    fn text_and_escapes(&mut self) -> Option<(&'a str, bool)> {
        let start = self.at + 1;
        let is_escaped = self.skip_string()?;
        self.text.get(start..self.at - 1).map(|text| (text, is_escaped))
    }

    /// Skips a string at its opening quote, and says whether it holds a backslash.
    fn skip_string(&mut self) -> Option<bool> {
        let mut at = self.at + 1;
        let mut is_escaped = false;
        loop {
            at = self.special(at);
            match self.byte(at)? {
                b'\\' => {
                    is_escaped = true;
                    at += 2;
                }
                _ => break,
            }
        }
        self.at = at + 1;
        Some(is_escaped)
    }

    fn value(&mut self) -> Result<(Kind, &'a str), &'static str> {
        let first = self.token().ok_or("Malformed JSON error")?;
        let start = self.at;
        match first {
            b'"' => {
                let text = self.string().ok_or("Value is string, but can't find closing '\"' symbol")?;
                Ok((Kind::Text, text))
            }
            b'{' => {
                self.block(b'{', b'}').ok_or("Value looks like object, but can't find closing '}' symbol")?;
                Ok((Kind::Object, self.text.get(start..self.at).unwrap_or("")))
            }
            b'[' => {
                self.block(b'[', b']').ok_or("Value is array, but can't find closing ']' symbol")?;
                Ok((Kind::Array, self.text.get(start..self.at).unwrap_or("")))
            }
            _ => {
                while !matches!(self.byte(self.at), None | Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']')) {
                    self.at += 1;
                }
                let text = self.text.get(start..self.at).unwrap_or("");
                match text {
                    "true" | "false" => Ok((Kind::Bool, text)),
                    "null" => Ok((Kind::Null, text)),
                    _ if first == b'-' || first.is_ascii_digit() => Ok((Kind::Number, text)),
                    _ => Err("Unknown value type"),
                }
            }
        }
    }

    /// Skips a balanced block, strings in it as a whole.
    fn block(&mut self, open: u8, close: u8) -> Option<()> {
        self.rest_of_block(open, close, 0)
    }

    /// Skips what is left of a balanced block of which so many beginnings were read.
    fn rest_of_block(&mut self, open: u8, close: u8, mut depth: usize) -> Option<()> {
        loop {
            match self.byte(self.at)? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                c if c == open => depth += 1,
                c if c == close => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// Resolves JSON's escapes; `None` when one is malformed, half a surrogate pair included.
fn unescape_strict(text: &str) -> Option<String> {
    unescape_with(text, None)
}

/// Resolves JSON's escapes, with U+FFFD for half a surrogate pair; `None` when one is malformed.
pub(crate) fn unescape_lossy(text: &str) -> Option<String> {
    unescape_with(text, Some(char::REPLACEMENT_CHARACTER))
}

fn unescape_with(text: &str, half: Option<char>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            c @ ('"' | '\\' | '/' | '\'') => out.push(c),
            'u' => {
                let high = hex4(&mut rest)?;
                let low = if (0xd800..0xdc00).contains(&high) {
                    let mut ahead = rest.clone();
                    let low = (ahead.next() == Some('\\') && ahead.next() == Some('u'))
                        .then(|| hex4(&mut ahead))
                        .flatten()
                        .filter(|low| (0xdc00..0xe000).contains(low));
                    if low.is_some() {
                        rest = ahead;
                    }
                    low
                } else {
                    None
                };
                let code = low.map_or(high, |low| 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                out.push(char::from_u32(code).or(half)?);
            }
            _ => return None,
        }
    }
    Some(out)
}

fn hex4(rest: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |sum, _| Some(sum * 16 + rest.next()?.to_digit(16)?))
}

/// Resolves escapes; a malformed one empties the text, as in Loki.
fn unescape(text: &str) -> Cow<'_, str> {
    if text.contains('\\') { Cow::Owned(unescape_strict(text).unwrap_or_default()) } else { Cow::Borrowed(text) }
}

/// Puts a space where text was no UTF-8.
pub(crate) fn without_replacement(text: Cow<'_, str>) -> Cow<'_, str> {
    // Its first byte is rare, and found faster than a text.
    let may_have = memchr::memchr(0xef, text.as_bytes()).is_some();
    if may_have && text.contains('\u{fffd}') { Cow::Owned(text.replace('\u{fffd}', " ")) } else { text }
}

fn text_value(kind: Kind, raw: &str) -> Cow<'_, str> {
    match kind {
        Kind::Text => without_replacement(unescape(raw)),
        Kind::Number | Kind::Bool => Cow::Borrowed(raw),
        Kind::Null | Kind::Object | Kind::Array => Cow::Borrowed(""),
    }
}

/// Makes a label's name of a key: other characters become `_`, and one is put before a leading digit.
pub(crate) fn sanitize(key: &str) -> Cow<'_, str> {
    let key = key.trim();
    let is_name = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if key.bytes().all(is_name) && !key.starts_with(|c: char| c.is_ascii_digit()) {
        return Cow::Borrowed(key);
    }
    let mut out = String::with_capacity(key.len() + 1);
    if key.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    Cow::Owned(out)
}

/// Notes a malformed line.
fn fail(row: &mut RowLabels<'_>, details: &str, hints: &Hints) {
    row.fail(JSON_ERROR, details);
    if hints.preserves_error() {
        row.set_parsed(PRESERVE_ERROR, "true");
    }
}

/// Runs `json`: each scalar becomes a label, named by its keys joined with `_`; arrays are left out.
pub(crate) fn json<'x, 'l>(
    line: &'x str,
    row: &mut RowLabels<'l>,
    hints: &Hints,
    keep: impl Fn(Cow<'x, str>) -> Cow<'l, str> + Copy,
) {
    if hints.skips(row) {
        return;
    }
    let mut prefix = String::new();
    if let Err(details) = nested(line, &mut prefix, 0, row, hints, keep) {
        fail(row, details, hints);
    }
}

fn nested<'x, 'l>(
    text: &'x str,
    prefix: &mut String,
    depth: usize,
    row: &mut RowLabels<'l>,
    hints: &Hints,
    keep: impl Fn(Cow<'x, str>) -> Cow<'l, str> + Copy,
) -> Result<Go, &'static str> {
    if depth > DEPTH_MAX {
        return Err("the object is nested too deep");
    }
    object_each(text, |key, kind, raw| {
        if matches!(kind, Kind::Null | Kind::Array) {
            return Ok(Go::On);
        }
        let length = prefix.len();
        push_key(prefix, key);
        let result = if kind == Kind::Object {
            if hints.wants_prefix(prefix) { nested(raw, prefix, depth + 1, row, hints, keep) } else { Ok(Go::On) }
        } else {
            if !prefix.is_empty() && (length > 0 || !key.trim().is_empty()) && hints.may_want(prefix) {
                let name = row.parsed_name(prefix.clone());
                if hints.wants(&name) && !row.is_extracted(&name) {
                    row.set_parsed(name, keep(text_value(kind, raw)));
                }
            }
            Ok(Go::On)
        };
        prefix.truncate(length);
        match result {
            Ok(Go::On) if hints.is_done(row) => Ok(Go::Stop),
            result => result,
        }
    })
}

/// Collects the labels' names that a line gives, each with the keys that lead to it.
pub(crate) fn paths(line: &str, out: &mut Vec<(String, Vec<String>)>) {
    fn walk(text: &str, name: &mut String, keys: &mut Vec<String>, out: &mut Vec<(String, Vec<String>)>) {
        if keys.len() > DEPTH_MAX {
            return;
        }
        let walked = object_each(text, |key, kind, raw| {
            let length = name.len();
            push_key(name, key);
            keys.push(key.to_owned());
            match kind {
                Kind::Object => walk(raw, name, keys, out),
                Kind::Null | Kind::Array => {}
                Kind::Text | Kind::Number | Kind::Bool => out.push((name.clone(), keys.clone())),
            }
            keys.pop();
            name.truncate(length);
            Ok(Go::On)
        });
        // What is malformed ends the walk; the parser itself tells of it.
        drop(walked);
    }
    walk(line, &mut String::new(), &mut Vec::new(), out);
}

/// Appends a key to the name so far.
fn push_key(prefix: &mut String, key: &str) {
    let key = key.trim();
    if key.is_empty() {
        return;
    }
    if prefix.is_empty() {
        if key.starts_with(|c: char| c.is_ascii_digit()) {
            prefix.push('_');
        }
    } else {
        prefix.push('_');
    }
    if key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        prefix.push_str(key);
    } else {
        prefix.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    }
}

/// One step of a path into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// `json` with expressions.
#[derive(Debug)]
pub(crate) struct JsonPaths(Vec<(String, Vec<Step>)>);

impl JsonPaths {
    pub(crate) fn new(extractions: &[Extraction]) -> Result<Self, String> {
        let path = |extraction: &Extraction| {
            let path = path(&extraction.expression)
                .map_err(|error| format!("cannot parse expression [{}]: {error}", extraction.expression))?;
            if path.len() > DEPTH_MAX {
                return Err(format!("an expression goes more than {DEPTH_MAX} levels deep"));
            }
            Ok((extraction.name.clone(), path))
        };
        extractions.iter().map(path).collect::<Result<_, String>>().map(Self)
    }

    /// Adds the labels that the expressions name; those that are not found are empty.
    pub(crate) fn process<'x, 'l>(
        &'l self,
        line: &'x str,
        row: &mut RowLabels<'l>,
        hints: &Hints,
        keep: impl Fn(Cow<'x, str>) -> Cow<'l, str>,
    ) {
        if line.is_empty() || hints.skips(row) {
            return;
        }
        if !line.starts_with(['"', '{', '[']) {
            // An earlier stage's details stay.
            let details = std::mem::take(&mut row.error_details);
            fail(row, &details, hints);
            return;
        }
        let mut missing = false;
        for (name, path) in &self.0 {
            match find(line, path) {
                Some((kind, raw)) => {
                    let value = match kind {
                        Kind::Null => Cow::Borrowed(""),
                        Kind::Object => Cow::Borrowed(raw),
                        _ => without_replacement(unescape(raw)),
                    };
                    let name = row.parsed_name(name);
                    row.set_parsed(name, keep(value));
                }
                None => missing = true,
            }
        }
        if missing {
            for (name, _) in &self.0 {
                if row.get(name).is_none() {
                    row.set_parsed(name, "");
                }
            }
        }
    }
}

/// Reads a path such as `a.b["c d"][0]`.
pub(crate) fn path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return Err("syntax error: unexpected $end".to_owned());
    }
    let mut dotted = true;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (inside, after) = inner.split_once(']').ok_or("syntax error: unexpected $end, expecting RSB")?;
            let inside = inside.trim();
            steps.push(match inside.strip_prefix('"') {
                Some(key) => Step::Key(key.strip_suffix('"').ok_or("syntax error: unexpected $end")?.to_owned()),
                None if inside.contains('.') => return Err("cannot use float as array index".to_owned()),
                None => Step::Index(inside.parse().map_err(|_| format!("non-integer value: {inside}"))?),
            });
            rest = after.trim_start();
            dotted = false;
            continue;
        }
        let field = match rest.strip_prefix('.') {
            Some(after) if !steps.is_empty() => after,
            None if dotted => rest,
            _ => return Err(format!("syntax error: unexpected {rest}")),
        };
        let end = field.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(field.len());
        let (name, after) = field.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("unexpected char {}", field.chars().next().unwrap_or(' ')));
        }
        steps.push(Step::Key(name.to_owned()));
        rest = after.trim_start();
        dotted = false;
    }
    Ok(steps)
}

fn find<'a>(text: &'a str, path: &[Step]) -> Option<(Kind, &'a str)> {
    match path {
        [Step::Key(want)] if text.starts_with('{') => find_key(text, want),
        _ => find_by_steps(text, path),
    }
}

/// Does what [`find_by_steps`] does for one key of an object, and reads the line once.
fn find_key<'a>(text: &'a str, want: &str) -> Option<(Kind, &'a str)> {
    // Whether what was read has as many braces that close as open, strings left out.
    let mut is_balanced = true;
    let mut found = None;
    let mut reader = Reader { text, at: 0 };
    let walked = members(&mut reader, |key, kind, raw| {
        is_balanced &= match kind {
            Kind::Text | Kind::Bool | Kind::Null | Kind::Object => true,
            Kind::Number => raw.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.')),
            Kind::Array => memchr::memchr2(b'{', b'}', raw.as_bytes()).is_none(),
        };
        if key != want {
            return Ok(Go::On);
        }
        found = Some((kind, raw));
        Ok(Go::Stop)
    });
    // What is malformed behind the value does not matter, as long as the object ends.
    drop(walked);
    let found = found?;
    if !is_balanced {
        // The object may end within what was taken for its value.
        return find_by_steps(text, &[Step::Key(want.to_owned())]);
    }
    reader.rest_of_block(b'{', b'}', 1)?;
    Some(found)
}

fn find_by_steps<'a>(text: &'a str, path: &[Step]) -> Option<(Kind, &'a str)> {
    let mut value = Reader { text, at: 0 }.value().ok()?;
    for step in path {
        value = match (step, value) {
            (Step::Key(want), (Kind::Object, text)) => {
                let mut found = None;
                let walked = object_each(text, |key, kind, raw| {
                    if key != want {
                        return Ok(Go::On);
                    }
                    found = Some((kind, raw));
                    Ok(Go::Stop)
                });
                // What is malformed behind the value does not matter.
                drop(walked);
                found?
            }
            (Step::Index(want), (Kind::Array, text)) => element(text, *want)?,
            _ => return None,
        };
    }
    Some(value)
}

fn element(array: &str, want: usize) -> Option<(Kind, &str)> {
    let mut reader = Reader { text: array, at: 1 };
    for i in 0.. {
        if reader.token()? == b']' {
            return None;
        }
        let value = reader.value().ok()?;
        if i == want {
            return Some(value);
        }
        match reader.token()? {
            b',' => reader.at += 1,
            _ => return None,
        }
    }
    None
}

/// Runs `unpack`: the keys of a packed line become labels, and `_entry` becomes the line.
pub(crate) fn unpack<'a>(line: Cow<'a, str>, row: &mut RowLabels<'_>, hints: &Hints) -> Cow<'a, str> {
    if line.is_empty() || hints.skips(row) {
        return line;
    }
    if !line.starts_with('{') {
        fail(row, "expecting json object(6), but it is not", hints);
        return line;
    }
    let mut labels = Vec::new();
    let mut entry = None;
    let walked = object_each(&line, |key, kind, raw| {
        if kind != Kind::Text {
            return Ok(Go::On);
        }
        if key == PACKED_ENTRY {
            entry = Some(unescape(raw).into_owned());
            return Ok(Go::On);
        }
        let name = row.parsed_name(key);
        if hints.wants(&name) && !row.is_extracted(&name) {
            labels.push((sanitize(&name).into_owned(), text_value(kind, raw).into_owned()));
        }
        Ok(Go::On)
    });
    if let Err(details) = walked {
        fail(row, details, hints);
        return line;
    }
    let Some(entry) = entry else { return line };
    for (name, value) in labels {
        row.set_parsed(name, value);
    }
    Cow::Owned(entry)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use model::Labels;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Expect) {
        let stream = Labels::from_pairs([("app", "a")]);
        let mut row = RowLabels::new(&stream);
        json(line, &mut row, &Hints::default(), |part| part);
        expected.assert_eq(&row.categorized().parsed.to_string());
    }

    #[test]
    fn scalars_become_labels_by_their_path() {
        check(
            r#"{"level":"info","n":1.5e3,"ok":true,"none":null,"list":[1],"a":{"b c":{"0":"x"}},"app":"b","9":"\u00e9\n"}"#,
            expect![[r#"{_9="é\n", a_b_c_0="x", app_extracted="b", level="info", n="1.5e3", ok="true"}"#]],
        );
    }

    #[test]
    fn the_first_of_equal_keys_wins() {
        check(r#"{"a":1,"a":2}"#, expect![[r#"{a="1"}"#]]);
    }

    #[test]
    fn malformed_lines_keep_what_came_before() {
        check(
            r#"{"a":1,"b"}"#,
            expect![[r#"{__error__="JSONParserErr", __error_details__="Malformed JSON error", a="1"}"#]],
        );
        check(
            "plain",
            expect![[
                r#"{__error__="JSONParserErr", __error_details__="Value looks like object, but can't find closing '}' symbol"}"#
            ]],
        );
        check(r#"{"a":tru}"#, expect![[r#"{__error__="JSONParserErr", __error_details__="Unknown value type"}"#]]);
        check(
            &"{\"a\":".repeat(100_000),
            expect![[
                r#"{__error__="JSONParserErr", __error_details__="Value looks like object, but can't find closing '}' symbol"}"#
            ]],
        );
        let deep = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
        check(&deep, expect![[r#"{__error__="JSONParserErr", __error_details__="the object is nested too deep"}"#]]);
    }

    #[test]
    fn an_object_that_ends_within_an_array_has_no_such_member() {
        let path = [Step::Key(String::new())];
        assert_eq!(find(r#"{"":[}]}"#, &path), None);
    }

    #[test]
    fn paths_reach_into_objects_and_arrays() {
        let line = r#"{"a":{"b":[{"c":"x"},2]},"s p":"y","o":{"k":[1,"z"]}}"#;
        let find = |text: &str| find(line, &path(text).unwrap()).map(|(_, raw)| raw);
        assert_eq!(find("a.b[0].c"), Some("x"));
        assert_eq!(find("a.b[1]"), Some("2"));
        assert_eq!(find(r#"["s p"]"#), Some("y"));
        assert_eq!(find("o"), Some(r#"{"k":[1,"z"]}"#));
        assert_eq!(find("a.b[7]"), None);
        for bad in ["", ".a", "a.", "a[", "a[x]", "a[1.5]", "a b", "a..b", "[\"x]"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// The short way to one key is as strict as the long one.
        #[test]
        fn one_key_is_found_as_by_steps(
            line in prop_oneof![
                r#"\{[ab"{}\[\]:,1.\\ ]{0,24}"#,
                proptest::collection::vec(
                    proptest::sample::select(&[
                        r#""a":"#, r#""b":"#, r#""\u0061":"#, "{", "}", "[", "]", ",", r#""x""#, r#""{\"""#, "1.5",
                        "1{2", "true", "null", "tru", " ", "\"", "\u{e9}", "[{]", r#"["}"]"#, r#"{"a":1}"#,
                    ][..]),
                    0..10,
                ).prop_map(|parts| format!("{{{}", parts.concat())),
            ],
            want in proptest::sample::select(&["a", "b", ""][..]),
        ) {
            let path = [Step::Key(want.to_owned())];
            prop_assert_eq!(find(&line, &path), find_by_steps(&line, &path), "{}", line);
        }

        #[test]
        fn quotes_and_backslashes_are_found(text in "[a\"\\\\#\u{e9}\u{a2}\u{dc}]{0,40}", from in 0_usize..60) {
            let found = Reader { text: &text, at: 0 }.special(from);
            let expected = (from..text.len()).find(|at| matches!(text.as_bytes()[*at], b'"' | b'\\'));
            prop_assert_eq!(found, expected.unwrap_or(text.len().max(from)));
        }
    }

    #[test]
    fn packed_lines_give_their_entry() {
        let stream = Labels::empty();
        let mut row = RowLabels::new(&stream);
        let line = unpack(Cow::Borrowed(r#"{"pod":"p-1","_entry":"the \"line\"","n":1}"#), &mut row, &Hints::default());
        assert_eq!(line, "the \"line\"");
        assert_eq!(row.get("pod"), Some("p-1"));
        assert_eq!(row.get("n"), None);
    }
}
