//! What templates compute with.

use serde_json::Value as Json;

use super::time;
use crate::go;

/// A value in a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// No value.
    Nil,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Nanoseconds since the epoch.
    Time(i64),
    /// What `fromJson` read.
    Json(Json),
    /// The row's labels.
    Labels,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Makes plain values of JSON's scalars; its numbers are floats, as in Go.
    pub(super) fn from_json(json: Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Text(text),
            json => Self::Json(json),
        }
    }

    /// Returns about how many bytes of memory the value takes beside itself.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Json(json) => json_bytes(json),
            Self::Nil | Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Time(_) | Self::Labels => 0,
        }
    }

    /// Names the type as Go does.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Text(_) => "string",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Bool(_) => "bool",
            Self::Time(_) => "time.Time",
            Self::Json(Json::Array(_)) => "[]interface {}",
            Self::Json(_) => "map[string]interface {}",
            Self::Labels => "map[string]string",
        }
    }

    /// Writes the value as Go prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Nil => "<no value>".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => go::float_v(*value),
            Self::Bool(value) => value.to_string(),
            Self::Time(nanos) => time::print(*nanos),
            Self::Json(json) => print_json(json),
            Self::Labels => "map[]".to_owned(),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Text(text) => !text.is_empty(),
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Bool(value) => *value,
            Self::Time(_) | Self::Labels => true,
            Self::Json(Json::Array(items)) => !items.is_empty(),
            Self::Json(Json::Object(pairs)) => !pairs.is_empty(),
            Self::Json(_) => true,
        }
    }

    /// Returns (key, item) of a list or map.
    pub(super) fn items(&self) -> Result<Vec<(Self, Self)>, String> {
        match self {
            Self::Nil => Ok(Vec::new()),
            Self::Json(Json::Array(items)) => {
                let item = |(i, item): (usize, &Json)| {
                    (Self::Int(i64::try_from(i).unwrap_or(i64::MAX)), Self::from_json(item.clone()))
                };
                Ok(items.iter().enumerate().map(item).collect())
            }
            Self::Json(Json::Object(pairs)) => {
                Ok(pairs.iter().map(|(key, item)| (Self::text(key), Self::from_json(item.clone()))).collect())
            }
            value => Err(format!("range can't iterate over {}", value.print())),
        }
    }

    /// Returns a field of a map; a missing one is no value.
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        match self {
            Self::Json(Json::Object(pairs)) => Ok(pairs.get(name).cloned().map_or(Self::Nil, Self::from_json)),
            Self::Nil => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            value => Err(format!("can't evaluate field {name} in type {}", value.kind())),
        }
    }

    /// Returns a whole number as `cast.ToInt64` does: what is none is 0.
    pub(super) fn to_int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            #[expect(clippy::cast_possible_truncation, reason = "a cast of a double saturates")]
            Self::Float(value) => *value as i64,
            Self::Bool(value) => i64::from(*value),
            Self::Text(text) => whole_number(text).unwrap_or(0),
            Self::Nil | Self::Time(_) | Self::Json(_) | Self::Labels => 0,
        }
    }

    /// Returns a number as `cast.ToFloat64` does: what is none is 0.
    pub(super) fn to_float(&self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
            Self::Int(value) => *value as f64,
            Self::Float(value) => *value,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Text(text) => go::parse_float(text).unwrap_or(0.0),
            Self::Nil | Self::Time(_) | Self::Json(_) | Self::Labels => 0.0,
        }
    }
}

fn json_bytes(json: &Json) -> usize {
    size_of::<Json>()
        + match json {
            Json::String(text) => text.len(),
            Json::Array(items) => items.iter().map(json_bytes).sum(),
            Json::Object(pairs) => {
                pairs.iter().map(|(key, item)| size_of::<String>() + key.len() + json_bytes(item)).sum()
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        }
}

/// Reads a whole number as Go's literals are written: `0x1f`, `0b11`, `017` and `1_000` are some; a fraction is cut off.
fn whole_number(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole.strip_prefix('+').unwrap_or(whole)),
    };
    let lower = digits.to_ascii_lowercase();
    let is_plain = lower.starts_with(|c: char| c.is_ascii_digit())
        && lower.ends_with(|c: char| c.is_ascii_hexdigit())
        && !lower.contains("__");
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.trim_start_matches("0x")),
        [b'0', b'o', ..] => (8, lower.trim_start_matches("0o")),
        [b'0', b'b', ..] => (2, lower.trim_start_matches("0b")),
        [b'0', _, ..] => (8, lower.as_str()),
        _ => (10, lower.as_str()),
    };
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().filter(|_| is_plain)
}

fn print_json(json: &Json) -> String {
    match json {
        Json::Null => "<nil>".to_owned(),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(print_json).collect();
            format!("[{}]", items.join(" "))
        }
        Json::Object(pairs) => {
            let mut pairs: Vec<(&String, &Json)> = pairs.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            let pairs: Vec<String> =
                pairs.into_iter().map(|(key, item)| format!("{key}:{}", print_json(item))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        scalar => Value::from_json(scalar.clone()).print(),
    }
}
