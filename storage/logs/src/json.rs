//! Values as JSON: typed, so that they come back as they came, and for display, as Loki shows them.
//!
//! Typed JSON is plain JSON where that is exact: integers have no point, doubles have one. What JSON cannot say is an
//! object with one name: `{"$bytes": "<base64>"}`, `{"$double": "<16 hex digits of the bits>"}` for what is not finite.
//! A name of the value's own that begins with `$` gets another `$` in front.

use std::borrow::Cow;

use model::{Resource, Scope, Value};

use crate::codec::{BodyRef, DEPTH_MAX, Malformed, RecordView};

/// Appends `value`; `typed` keeps the types apart, else bytes are base64 text and doubles as Go prints them.
pub(crate) fn write_value(out: &mut String, value: &Value, typed: bool) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(number) => push_display(out, number),
        Value::Double(number) if typed && !number.is_finite() => {
            out.push_str("{\"$double\":\"");
            push_display(out, &format_args!("{:016x}", number.to_bits()));
            out.push_str("\"}");
        }
        Value::Double(number) if typed => push_display(out, &format_args!("{number:?}")),
        Value::Double(number) if number.is_finite() => push_double(out, *number),
        Value::Double(number) => write_text(out, &double_text(*number)),
        Value::Str(text) => write_text(out, text),
        Value::Bytes(bytes) => {
            out.push_str(if typed { "{\"$bytes\":\"" } else { "\"" });
            push_base64(out, bytes);
            out.push_str(if typed { "\"}" } else { "\"" });
        }
        Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, value, typed);
            }
            out.push(']');
        }
        Value::Map(pairs) => write_pairs(out, pairs, typed),
    }
}

/// Appends `pairs` as an object, in their order, repeats included.
pub(crate) fn write_pairs(out: &mut String, pairs: &[(String, Value)], typed: bool) {
    out.push('{');
    for (i, (name, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_name(out, name, typed);
        write_value(out, value, typed);
    }
    out.push('}');
}

/// Appends a name and the colon after it.
fn write_name(out: &mut String, name: &str, typed: bool) {
    if typed && name.starts_with('$') {
        write_text(out, &format!("${name}"));
    } else {
        write_text(out, name);
    }
    out.push(':');
}

/// Appends a record's attributes as a typed object, as [`write_pairs`] does it; nothing when there are none.
pub(crate) fn write_attributes(out: &mut String, record: &RecordView<'_>) -> Result<(), Malformed> {
    let mut separator = '{';
    record.for_each_attribute(|name, value| {
        out.push(separator);
        separator = ',';
        write_name(out, name, true);
        match value {
            BodyRef::Str(text) => write_text(out, text),
            BodyRef::Other(value) => write_value(out, &value, true),
        }
    })?;
    if separator == ',' {
        out.push('}');
    }
    Ok(())
}

/// Returns `value` as Loki shows it in metadata or as a line: text as it is, bytes as base64, the rest as JSON.
pub(crate) fn display(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Null => {}
        Value::Str(text) => out.push_str(text),
        Value::Bytes(bytes) => push_base64(&mut out, bytes),
        Value::Double(number) => out.push_str(&double_text(*number)),
        value => write_value(&mut out, value, false),
    }
    out
}

/// Returns a resource as typed JSON; empty when there is nothing to say.
pub(crate) fn resource_text(resource: &Resource) -> String {
    origin_text(&[], &resource.attributes, resource.dropped_attributes_count, &resource.schema_url)
}

/// Returns a scope as typed JSON; empty when there is nothing to say.
pub(crate) fn scope_text(scope: &Scope) -> String {
    let names = [("name", scope.name.as_str()), ("version", scope.version.as_str())];
    origin_text(&names, &scope.attributes, scope.dropped_attributes_count, &scope.schema_url)
}

fn origin_text(names: &[(&str, &str)], attributes: &[(String, Value)], dropped: u32, schema_url: &str) -> String {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    let text = |name: &str, text: &str| (name.to_owned(), Value::from(text));
    pairs.extend(names.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| text(name, value)));
    if !attributes.is_empty() {
        pairs.push(("attributes".to_owned(), Value::Map(attributes.to_vec())));
    }
    if dropped > 0 {
        pairs.push(("dropped_attributes_count".to_owned(), Value::Int(i64::from(dropped))));
    }
    if !schema_url.is_empty() {
        pairs.push(text("schema_url", schema_url));
    }
    let mut out = String::new();
    if !pairs.is_empty() {
        write_pairs(&mut out, &pairs, true);
    }
    out
}

fn push_display(out: &mut String, value: &dyn std::fmt::Display) {
    use std::fmt::Write;
    write!(out, "{value}").expect("writing to a string succeeds");
}

/// Prints a double as Go's JSON does: no exponent between 1e-6 and 1e21.
fn push_double(out: &mut String, number: f64) {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        push_display(out, &number);
    } else {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                push_display(out, &format_args!("{digits}e+{exponent}"));
            }
            _ => out.push_str(&text),
        }
    }
}

fn double_text(number: f64) -> String {
    let mut out = String::new();
    if number.is_nan() {
        out.push_str("NaN");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        push_double(&mut out, number);
    }
    out
}

/// Appends `text` in quotes, escaped as JSON wants it.
pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c @ ('"' | '\\')) => out.extend(['\\', c]),
            Some(c) => push_display(out, &format_args!("\\u{:04x}", u32::from(c))),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn push_base64(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = BASE64[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for chunk in digits.chunks(4) {
        let mut word = 0;
        for digit in chunk {
            word = word << 6 | BASE64.iter().position(|have| have == digit)?;
        }
        word <<= 6 * (4 - chunk.len());
        let bytes = u32::try_from(word).ok()?.to_be_bytes();
        out.extend_from_slice(bytes.get(1..chunk.len())?);
    }
    Some(out)
}

/// Decodes typed JSON; any text gives a value or an error.
pub(crate) fn parse_value(text: &str) -> Result<Value, Malformed> {
    let mut parser = Parser { rest: text };
    let value = parser.value(DEPTH_MAX * 2 + 2)?;
    if parser.rest.is_empty() { Ok(value) } else { Err(Malformed("the end of the JSON text")) }
}

/// Decodes a typed object; the empty text is the empty object.
pub(crate) fn parse_pairs(text: &str) -> Result<Vec<(String, Value)>, Malformed> {
    match text {
        "" => Ok(Vec::new()),
        text => match parse_value(text)? {
            Value::Map(pairs) => Ok(pairs),
            _ => Err(Malformed("a JSON object")),
        },
    }
}

/// A value of a typed object; text that has no escapes is borrowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldValue<'a> {
    Str(Cow<'a, str>),
    Other(Value),
}

/// Calls `each` for every pair of a typed object, in their order, as [`parse_pairs`] returns them; the empty text is the
/// empty object.
pub(crate) fn for_each_pair<'a>(
    text: &'a str,
    mut each: impl FnMut(Cow<'a, str>, FieldValue<'a>),
) -> Result<(), Malformed> {
    let mut parser = Parser { rest: text };
    if text.is_empty() {
        return Ok(());
    }
    parser.expect("{", "a JSON object")?;
    let mut is_first = true;
    while !parser.eat("}") {
        if !is_first {
            parser.expect(",", "a comma in JSON")?;
        }
        is_first = false;
        let name = match parser.text()? {
            Cow::Borrowed(name) => own_name(name).map(Cow::Borrowed),
            Cow::Owned(name) => own_name(&name).map(|name| Cow::Owned(name.to_owned())),
        };
        let name = name.ok_or(Malformed("a JSON object"))?;
        parser.expect(":", "a colon in JSON")?;
        let value = if parser.rest.starts_with('"') {
            FieldValue::Str(parser.text()?)
        } else {
            FieldValue::Other(parser.value(DEPTH_MAX * 2 + 1)?)
        };
        each(name, value);
    }
    if parser.rest.is_empty() { Ok(()) } else { Err(Malformed("the end of the JSON text")) }
}

/// Returns the name that was written as `name`; `None` when it is none but says a type.
fn own_name(name: &str) -> Option<&str> {
    match name.strip_prefix('$') {
        None => Some(name),
        Some(own) => own.starts_with('$').then_some(own),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str, what: &'static str) -> Result<(), Malformed> {
        if self.eat(token) { Ok(()) } else { Err(Malformed(what)) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed("less nesting in JSON"))?;
        if self.eat("null") {
            Ok(Value::Null)
        } else if self.eat("true") {
            Ok(Value::Bool(true))
        } else if self.eat("false") {
            Ok(Value::Bool(false))
        } else if self.rest.starts_with('"') {
            self.text().map(|text| Value::Str(text.into_owned()))
        } else if self.eat("[") {
            let mut values = Vec::new();
            while !self.eat("]") {
                if !values.is_empty() {
                    self.expect(",", "a comma in JSON")?;
                }
                values.push(self.value(depth)?);
            }
            Ok(Value::Array(values))
        } else if self.eat("{") {
            self.object(depth)
        } else {
            self.number()
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut pairs: Vec<(String, Value)> = Vec::new();
        let mut wrapped = None;
        while !self.eat("}") {
            if wrapped.is_some() {
                return Err(Malformed("one name in a typed value"));
            }
            if !pairs.is_empty() {
                self.expect(",", "a comma in JSON")?;
            }
            let name = self.text()?;
            self.expect(":", "a colon in JSON")?;
            let value = self.value(depth)?;
            match (name.strip_prefix('$'), value) {
                (None, value) => pairs.push((name.into_owned(), value)),
                (Some(own), value) if own.starts_with('$') => pairs.push((own.to_owned(), value)),
                (Some("bytes"), Value::Str(text)) if pairs.is_empty() => {
                    wrapped = Some(Value::Bytes(decode_base64(&text).ok_or(Malformed("base64"))?));
                }
                (Some("double"), Value::Str(text)) if pairs.is_empty() => {
                    let bits = u64::from_str_radix(&text, 16).map_err(|_| Malformed("a double's bits"))?;
                    wrapped = Some(Value::Double(f64::from_bits(bits)));
                }
                _ => return Err(Malformed("a known kind of typed value")),
            }
        }
        Ok(wrapped.unwrap_or(Value::Map(pairs)))
    }

    fn number(&mut self) -> Result<Value, Malformed> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        if text.contains(['.', 'e', 'E']) {
            text.parse().map(Value::Double).map_err(|_| Malformed("a JSON number"))
        } else {
            text.parse().map(Value::Int).map_err(|_| Malformed("a JSON value"))
        }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.expect("\"", "a JSON string")?;
        let mut out = String::new();
        loop {
            let at = memchr::memchr2(b'"', b'\\', self.rest.as_bytes()).ok_or(Malformed("the end of a JSON string"))?;
            let (plain, tail) = self.rest.split_at(at);
            self.rest = tail;
            if self.eat("\"") {
                if out.is_empty() {
                    return Ok(Cow::Borrowed(plain));
                }
                out.push_str(plain);
                return Ok(Cow::Owned(out));
            }
            out.push_str(plain);
            let mut chars = tail.chars();
            chars.next();
            match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(c @ ('"' | '\\' | '/')) => out.push(c),
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    out.push(code.ok_or(Malformed("a JSON escape"))?);
                }
                _ => return Err(Malformed("a JSON escape")),
            }
            self.rest = chars.as_str();
        }
    }
}

#[cfg(test)]
mod tests {
    use model::LogRecord;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::encode_record;

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
            "\\PC{0,12}|[\"\\\\\n\t\u{0}-\u{20}$]{0,6}".prop_map(Value::Str),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec(("[$a-z]{0,3}", inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    /// Compares by bits, as NaN is not equal to itself.
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
            }
            (a, b) => a == b,
        }
    }

    proptest! {
        #[test]
        fn typed_json_comes_back_as_it_was(value in any_value()) {
            let mut text = String::new();
            write_value(&mut text, &value, true);
            let back = parse_value(&text).map_err(|e| TestCaseError::fail(format!("{e:?} in {text}")))?;
            prop_assert!(same(&back, &value), "{text}: {back:?} {value:?}");
            let plain: serde_json::Value = serde_json::from_str(&text).unwrap();
            drop(plain);
        }

        #[test]
        fn an_object_is_walked_and_written_as_it_is_parsed(
            pairs in proptest::collection::vec(("[$a-z\"\\\\\n결]{0,3}", any_value()), 0..6)
        ) {
            let mut bytes = Vec::new();
            encode_record(&mut bytes, &LogRecord { attributes: pairs.clone(), ..LogRecord::default() });
            let record = RecordView::decode(&bytes[4..]).unwrap();
            let (mut text, mut expected) = (String::new(), String::new());
            write_attributes(&mut text, &record).unwrap();
            if !pairs.is_empty() {
                write_pairs(&mut expected, &pairs, true);
            }
            prop_assert_eq!(&text, &expected);
            let mut walked = Vec::new();
            for_each_pair(&text, |name, value| {
                let value = match value {
                    FieldValue::Str(text) => Value::Str(text.into_owned()),
                    FieldValue::Other(value) => value,
                };
                walked.push((name.into_owned(), value));
            })
            .unwrap();
            prop_assert!(same(&Value::Map(walked), &Value::Map(pairs)), "{}", text);
        }

        #[test]
        fn a_damaged_object_is_walked_as_far_as_it_is_parsed(text in "\\{?[\\[\\]{}\",:$\\\\a-f0-9]{0,20}\\}?") {
            let mut walked = Vec::new();
            let result = for_each_pair(&text, |name, _| walked.push(name.into_owned()));
            match parse_pairs(&text) {
                Ok(pairs) => {
                    let names: Vec<_> = pairs.into_iter().map(|(name, _)| name).collect();
                    prop_assert_eq!((result, walked), (Ok(()), names));
                }
                Err(_) => prop_assert!(result.is_err(), "{}", text),
            }
        }

        #[test]
        fn any_text_gives_a_value_or_an_error(text in "[\\[\\]{}\",:$\\\\a-f0-9.eE+-]{0,40}") {
            drop(parse_value(&text));
        }
    }

    #[test]
    fn doubles_are_shown_as_go_shows_them() {
        let shown = |number| display(&Value::Double(number));
        let numbers = [1.0, 0.1, 1e20, 1e21, 1.5e-7, -0.0, f64::NAN, f64::INFINITY];
        let expected = ["1", "0.1", "100000000000000000000", "1e+21", "1.5e-7", "-0", "NaN", "+Inf"];
        assert_eq!(numbers.map(shown), expected);
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(parse_value(&"[".repeat(100_000)).is_err());
    }
}
