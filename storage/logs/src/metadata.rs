//! Structured metadata: names and values as Loki shows what came over OTLP.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use model::{Labels, Value};
use storage_api::MetadataColumn;

use crate::codec::Malformed;
use crate::json;

/// A field: name and value.
pub(crate) type Pair = (Arc<str>, Box<str>);

/// Fields whose values are made from numbers when rows are read: the index knows nothing of them.
pub(crate) const NOT_INDEXED: [&str; 7] = [
    "severity_number",
    "flags",
    "observed_timestamp",
    "dropped_attributes_count",
    "scope_dropped_attributes_count",
    "detected_level",
    "resource_dropped_attributes_count",
];

/// Fields that a row's severity makes.
pub(crate) const SEVERITY_FIELDS: [&str; 2] = ["severity_number", "severity_text"];

/// Fields that a row's own columns make, beside its severity.
pub(crate) const OWN_FIELDS: [&str; 6] =
    ["observed_timestamp", "trace_id", "span_id", "flags", "event_name", "dropped_attributes_count"];

/// Returns `name` as a label name: what is no ASCII letter, digit or underscore becomes `_`; `key_` goes before a
/// leading digit and `key` before a single leading underscore, as Loki's OTLP endpoint does it.
pub(crate) fn label_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{plain}")
    } else if plain.starts_with('_') && !plain.starts_with("__") {
        format!("key{plain}")
    } else {
        plain
    }
}

/// Most names that are remembered. A sender that makes up names for each record gets no further.
const NAMES_MAX: usize = 1 << 16;

/// Makes names once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<Box<str>, Arc<str>>,
    /// Those that are in the program: a few, each asked for with every row.
    plain: Vec<(&'static str, Arc<str>)>,
    /// Memory for the next row.
    row: Vec<Pair>,
}

impl Names {
    /// Returns the label name of an attribute.
    pub(crate) fn label(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= NAMES_MAX {
            self.known.clear();
        }
        let made: Arc<str> = label_name(name).into();
        self.known.insert(name.into(), Arc::clone(&made));
        made
    }

    /// Returns a name that is one already.
    fn plain(&mut self, name: &'static str) -> Arc<str> {
        if let Some((_, known)) = self.plain.iter().find(|(known, _)| std::ptr::eq(*known, name) || *known == name) {
            return Arc::clone(known);
        }
        let made = self.label(name);
        self.plain.push((name, Arc::clone(&made)));
        made
    }

    /// Appends an attribute; maps become a field for each leaf.
    pub(crate) fn flatten(&mut self, out: &mut Vec<Pair>, prefix: &str, name: &str, value: &Value) {
        let joined;
        let name = if prefix.is_empty() {
            name
        } else {
            joined = format!("{prefix}_{name}");
            &joined
        };
        match value {
            Value::Null => {}
            Value::Map(pairs) => {
                let prefix = self.label(name);
                for (name, value) in pairs {
                    self.flatten(out, &prefix, name, value);
                }
            }
            value => out.push((self.label(name), json::display(value).into())),
        }
    }
}

/// The fields that resource and scope give to each of their records.
#[derive(Debug, Default, Clone)]
pub(crate) struct OriginFields {
    pub(crate) resource: Vec<Pair>,
    pub(crate) scope: Vec<Pair>,
}

impl OriginFields {
    /// Reads them from the texts that [`json::resource_text`] and [`json::scope_text`] made.
    pub(crate) fn parse(resource: &str, scope: &str, names: &mut Names) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for (name, value) in json::parse_pairs(resource)? {
            if let ("attributes", Value::Map(pairs)) = (name.as_str(), &value) {
                pairs.iter().for_each(|(name, value)| names.flatten(&mut fields.resource, "", name, value));
            }
        }
        for (name, value) in json::parse_pairs(scope)? {
            let out = &mut fields.scope;
            match (name.as_str(), &value) {
                ("attributes", Value::Map(pairs)) => {
                    pairs.iter().for_each(|(name, value)| names.flatten(out, "", name, value));
                }
                ("name", value) => out.push((names.plain("scope_name"), json::display(value).into())),
                ("version", value) => out.push((names.plain("scope_version"), json::display(value).into())),
                ("dropped_attributes_count", value) => {
                    out.push((names.plain("scope_dropped_attributes_count"), json::display(value).into()));
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// Leaves out the resource attributes that are labels of `stream`.
    pub(crate) fn beside(&self, stream: &Labels) -> Vec<Pair> {
        let resource = self.resource.iter().filter(|(name, _)| stream.get(name).is_none());
        resource.chain(&self.scope).cloned().collect()
    }
}

/// What makes a row's metadata, apart from its origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFields<'a> {
    pub(crate) observed_timestamp: i64,
    pub(crate) severity_number: u8,
    pub(crate) severity_text: &'a str,
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) flags: u32,
    pub(crate) event_name: &'a str,
    pub(crate) dropped_attributes_count: u32,
    pub(crate) attributes: &'a [(String, Value)],
}

/// Appends a row's metadata; of repeated names the record's own attributes win.
pub(crate) fn push_row(column: &mut MetadataColumn, names: &mut Names, origin: &[Pair], row: RowFields<'_>) {
    let mut pairs = std::mem::take(&mut names.row);
    pairs.extend(origin.iter().cloned());
    let numbers = [
        ("observed_timestamp", row.observed_timestamp),
        ("severity_number", i64::from(row.severity_number)),
        ("flags", i64::from(row.flags)),
        ("dropped_attributes_count", i64::from(row.dropped_attributes_count)),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
        pairs.push((names.plain(name), number_text(number)));
    }
    let (mut trace_id, mut span_id) = ([0; HEX_BYTES_MAX], [0; HEX_BYTES_MAX]);
    let texts = [
        ("severity_text", row.severity_text),
        ("trace_id", hex_in(&row.trace_id, &mut trace_id).unwrap_or_default()),
        ("span_id", hex_in(&row.span_id, &mut span_id).unwrap_or_default()),
        ("event_name", row.event_name),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        pairs.push((names.plain(name), text.into()));
    }
    for (name, value) in row.attributes {
        names.flatten(&mut pairs, "", name, value);
    }
    column.push(pairs.drain(..));
    names.row = pairs;
}

/// Returns a number as text, in memory of its size.
fn number_text(number: i64) -> Box<str> {
    let mut room = [0_u8; 20];
    let mut rest: &mut [u8] = &mut room;
    // The longest number has a sign and 19 digits.
    let _written = write!(rest, "{number}");
    let length = 20 - rest.len();
    room.get(..length).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default().into()
}

/// Returns an id in hexadecimal; `None` when it is all zero.
pub(crate) fn hex(id: &[u8]) -> Option<String> {
    let mut room = [0; HEX_BYTES_MAX];
    hex_in(id, &mut room).map(str::to_owned)
}

/// Characters of a trace id.
pub(crate) const HEX_BYTES_MAX: usize = 32;

/// Returns an id of 16 bytes at most in hexadecimal, written to `room`; `None` when it is all zero.
pub(crate) fn hex_in<'a>(id: &[u8], room: &'a mut [u8; HEX_BYTES_MAX]) -> Option<&'a str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if id.iter().all(|byte| *byte == 0) {
        return None;
    }
    for (out, byte) in room.chunks_exact_mut(2).zip(id) {
        out.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    room.get(..id.len() * 2).and_then(|hex| std::str::from_utf8(hex).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_text() {
        for number in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(&*number_text(number), number.to_string());
        }
    }

    #[test]
    fn names_are_made_as_loki_makes_them() {
        let names = ["http.method", "0day", "_x", "__x", "결제", "a-b"].map(label_name);
        assert_eq!(names, ["http_method", "key_0day", "key_x", "__x", "__", "a_b"]);
    }

    #[test]
    fn maps_become_a_field_for_each_leaf_and_lists_stay_json() {
        let value = Value::Map(vec![
            ("b.c".to_owned(), Value::Int(1)),
            ("d".to_owned(), Value::Array(vec![Value::from("x"), Value::Double(2.0)])),
        ]);
        let mut out = Vec::new();
        Names::default().flatten(&mut out, "", "a", &value);
        let out: Vec<_> = out.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(out, ["a_b_c=1", "a_d=[\"x\",2]"]);
    }
}
