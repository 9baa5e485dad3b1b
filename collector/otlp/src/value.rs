//! OTLP's `AnyValue` and attributes, both ways, and as text.

use std::borrow::Cow;
use std::fmt::Write as _;

use model::Value;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};

/// Turns an OTLP value into the model's; nothing is lost. References into a string table, which only profiles have,
/// become [`Value::Null`].
#[must_use]
pub fn value_from_otlp(value: AnyValue) -> Value {
    match value.value {
        None | Some(Any::StringValueStrindex(_)) => Value::Null,
        Some(Any::StringValue(text)) => Value::Str(text),
        Some(Any::BoolValue(truth)) => Value::Bool(truth),
        Some(Any::IntValue(number)) => Value::Int(number),
        Some(Any::DoubleValue(number)) => Value::Double(number),
        Some(Any::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(Any::ArrayValue(array)) => Value::Array(array.values.into_iter().map(value_from_otlp).collect()),
        Some(Any::KvlistValue(list)) => Value::Map(attributes_from_otlp(list.values)),
    }
}

/// Turns a value into OTLP's.
#[must_use]
pub fn value_to_otlp(value: Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(truth) => Some(Any::BoolValue(truth)),
        Value::Int(number) => Some(Any::IntValue(number)),
        Value::Double(number) => Some(Any::DoubleValue(number)),
        Value::Str(text) => Some(Any::StringValue(text)),
        Value::Bytes(bytes) => Some(Any::BytesValue(bytes)),
        Value::Array(values) => {
            Some(Any::ArrayValue(ArrayValue { values: values.into_iter().map(value_to_otlp).collect() }))
        }
        Value::Map(pairs) => Some(Any::KvlistValue(KeyValueList { values: attributes_to_otlp(pairs) })),
    };
    AnyValue { value }
}

/// Turns OTLP attributes into the model's, in the order they came, repeats kept.
#[must_use]
pub fn attributes_from_otlp(attributes: Vec<KeyValue>) -> Vec<(String, Value)> {
    attributes.into_iter().map(|pair| (pair.key, pair.value.map_or(Value::Null, value_from_otlp))).collect()
}

/// Turns attributes into OTLP's, in the same order.
#[must_use]
pub fn attributes_to_otlp(attributes: Vec<(String, Value)>) -> Vec<KeyValue> {
    attributes
        .into_iter()
        .map(|(key, value)| KeyValue { key, value: Some(value_to_otlp(value)), key_strindex: 0 })
        .collect()
}

/// Returns a value as a label's text: text as it is, numbers in decimal, bytes in base64, lists and maps as JSON.
#[must_use]
pub fn value_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Str(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Double(number) => Cow::Owned(double_text(*number)),
        Value::Bytes(bytes) => Cow::Owned(base64(bytes)),
        Value::Array(_) | Value::Map(_) => {
            let mut out = String::new();
            write_json(&mut out, value);
            Cow::Owned(out)
        }
    }
}

/// As [`value_text`], without a detour over the model.
pub(crate) fn any_text(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(Any::StringValueStrindex(_)) => Cow::Borrowed(""),
        Some(Any::StringValue(text)) => Cow::Borrowed(text),
        Some(Any::BoolValue(true)) => Cow::Borrowed("true"),
        Some(Any::BoolValue(false)) => Cow::Borrowed("false"),
        Some(Any::IntValue(number)) => Cow::Owned(number.to_string()),
        Some(other) => {
            let value = value_from_otlp(AnyValue { value: Some(other.clone()) });
            Cow::Owned(value_text(&value).into_owned())
        }
    }
}

/// Prints as Go's `encoding/json` does, which is what OpenTelemetry's own tools show.
pub(crate) fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        // Rust writes 1e21, Go 1e+21.
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    number.to_string()
}

fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(_) | Value::Int(_) => out.push_str(&value_text(value)),
        Value::Double(number) if number.is_finite() => out.push_str(&double_text(*number)),
        Value::Double(_) | Value::Str(_) | Value::Bytes(_) => write_json_text(out, &value_text(value)),
        Value::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(out, value);
            }
            out.push(']');
        }
        Value::Map(pairs) => {
            out.push('{');
            for (i, (name, value)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json_text(out, name);
                out.push(':');
                write_json(out, value);
            }
            out.push('}');
        }
    }
}

fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to memory succeeds");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let group = three.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// Reads base64, standard or URL-safe, with or without padding, as protobuf's JSON form allows.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut group, mut bits) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        group = group << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((group >> bits & 0xff) as u8);
        }
    }
    // One digit alone is no byte.
    (bits != 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("NaN never equals itself", |x| !x.is_nan()).prop_map(Value::Double),
            ".*".prop_map(Value::Str),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((".*", inner), 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_comes_back_from_otlp(value in any_value()) {
            prop_assert_eq!(value_from_otlp(value_to_otlp(value.clone())), value);
        }

        #[test]
        fn composite_text_is_json(value in prop::collection::vec(any_value(), 0..5).prop_map(Value::Array)) {
            let text = value_text(&value).into_owned();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            let any = value_to_otlp(value.clone());
            prop_assert_eq!(any_text(Some(&any)), text);
        }

        #[test]
        fn base64_comes_back(bytes: Vec<u8>) {
            let text = base64(&bytes);
            prop_assert_eq!(base64_decode(&text), Some(bytes.clone()));
            prop_assert_eq!(base64_decode(text.trim_end_matches('=')), Some(bytes));
        }
    }

    #[test]
    fn numbers_print_as_opentelemetry_prints_them() {
        let text = |number| value_text(&Value::Double(number)).into_owned();
        assert_eq!([text(1.5), text(3.0), text(1e21), text(1e-7)], ["1.5", "3", "1e+21", "1e-7"]);
        assert_eq!(value_text(&Value::Bytes(b"hello".to_vec())), "aGVsbG8=");
    }
}
