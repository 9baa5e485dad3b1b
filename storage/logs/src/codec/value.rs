//! Typed values.

use model::Value;

use super::{BodyRef, Input, Malformed, put_bytes, put_i64, put_text, put_varint};

/// Deepest nesting of a value; OTLP senders stay far below, and decoding recurses.
pub(crate) const DEPTH_MAX: usize = 64;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const DOUBLE: u8 = 4;
const STR: u8 = 5;
const BYTES: u8 = 6;
const ARRAY: u8 = 7;
const MAP: u8 = 8;

/// Says whether `value` nests at most `depth` deep.
pub(crate) fn depth_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| depth_within(value, depth - 1)),
        Value::Map(pairs) => depth > 0 && pairs.iter().all(|(_, value)| depth_within(value, depth - 1)),
        _ => true,
    }
}

pub(super) fn encode_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Int(number) => {
            out.push(INT);
            put_i64(out, *number);
        }
        Value::Double(number) => {
            out.push(DOUBLE);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        Value::Str(text) => {
            out.push(STR);
            put_text(out, text);
        }
        Value::Bytes(bytes) => {
            out.push(BYTES);
            put_bytes(out, bytes);
        }
        Value::Array(values) => {
            out.push(ARRAY);
            put_varint(out, values.len() as u64);
            for value in values {
                encode_value(out, value);
            }
        }
        Value::Map(pairs) => {
            out.push(MAP);
            encode_pairs(out, pairs);
        }
    }
}

pub(super) fn encode_pairs(out: &mut Vec<u8>, pairs: &[(String, Value)]) {
    put_varint(out, pairs.len() as u64);
    for (name, value) in pairs {
        put_text(out, name);
        encode_value(out, value);
    }
}

pub(super) fn decode_value(input: &mut Input<'_>, depth: usize) -> Result<Value, Malformed> {
    Ok(match input.u8()? {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INT => Value::Int(input.i64()?),
        DOUBLE => Value::Double(f64::from_bits(u64::from_le_bytes(input.array()?))),
        STR => Value::Str(input.text()?.to_owned()),
        BYTES => Value::Bytes(input.bytes()?.to_owned()),
        ARRAY => {
            let depth = depth.checked_sub(1).ok_or(Malformed("less nesting"))?;
            let count = input.count(1)?;
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(decode_value(input, depth)?);
            }
            Value::Array(values)
        }
        MAP => {
            let depth = depth.checked_sub(1).ok_or(Malformed("less nesting"))?;
            Value::Map(decode_pairs(input, depth)?)
        }
        _ => return Err(Malformed("a known kind of value")),
    })
}

pub(super) fn decode_pairs(input: &mut Input<'_>, depth: usize) -> Result<Vec<(String, Value)>, Malformed> {
    let count = input.count(2)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let name = input.text()?.to_owned();
        pairs.push((name, decode_value(input, depth)?));
    }
    Ok(pairs)
}

/// Calls `each` for every pair, in their order.
pub(super) fn for_each_pair<'a>(
    input: &mut Input<'a>,
    depth: usize,
    mut each: impl FnMut(&'a str, BodyRef<'a>),
) -> Result<(), Malformed> {
    let count = input.count(2)?;
    for _ in 0..count {
        let name = input.text()?;
        each(name, decode_ref(input, depth)?);
    }
    Ok(())
}

/// Decodes a value; text, nearly always, is borrowed.
pub(super) fn decode_ref<'a>(input: &mut Input<'a>, depth: usize) -> Result<BodyRef<'a>, Malformed> {
    let mut ahead = *input;
    if ahead.u8()? == STR {
        *input = ahead;
        return input.text().map(BodyRef::Str);
    }
    decode_value(input, depth).map(BodyRef::Other)
}

/// Passes over pairs; what is in them is checked when they are decoded.
pub(super) fn skip_pairs(input: &mut Input<'_>, depth: usize) -> Result<(), Malformed> {
    let count = input.count(2)?;
    for _ in 0..count {
        input.bytes()?;
        skip_value(input, depth)?;
    }
    Ok(())
}

fn skip_value(input: &mut Input<'_>, depth: usize) -> Result<(), Malformed> {
    match input.u8()? {
        NULL | FALSE | TRUE => Ok(()),
        INT | DOUBLE => input.take(8).map(drop),
        STR | BYTES => input.bytes().map(drop),
        ARRAY => {
            let depth = depth.checked_sub(1).ok_or(Malformed("less nesting"))?;
            let count = input.count(1)?;
            (0..count).try_for_each(|_| skip_value(input, depth))
        }
        MAP => skip_pairs(input, depth.checked_sub(1).ok_or(Malformed("less nesting"))?),
        _ => Err(Malformed("a known kind of value")),
    }
}
