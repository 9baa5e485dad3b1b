//! The functions that templates may call: those of Go's templates, of sprig and of Loki that Loki allows.

use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::Value as Json;

use super::args::{Args, Blamed, Fault};
use super::decimal::Operator;
use super::encode::{base64_decode, base64_encode, escape_html, escape_js, url_decode, url_encode};
use super::printf;
use super::time;
use super::value::Value;
use super::{OUTPUT_BYTES_MAX, Run};
use crate::go;

const NAMES: [&str; 85] = [
    "__line__",
    "__timestamp__",
    "ToLower",
    "ToUpper",
    "Replace",
    "Trim",
    "TrimLeft",
    "TrimRight",
    "TrimPrefix",
    "TrimSuffix",
    "TrimSpace",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "count",
    "urldecode",
    "urlencode",
    "bytes",
    "duration",
    "duration_seconds",
    "unixEpochMillis",
    "unixEpochNanos",
    "toDateInZone",
    "unixToTime",
    "alignLeft",
    "alignRight",
    "b64dec",
    "b64enc",
    "lower",
    "upper",
    "title",
    "trunc",
    "substr",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "indent",
    "nindent",
    "replace",
    "repeat",
    "trim",
    "trimAll",
    "trimSuffix",
    "trimPrefix",
    "int",
    "float64",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "addf",
    "subf",
    "mulf",
    "divf",
    "max",
    "min",
    "maxf",
    "minf",
    "ceil",
    "floor",
    "round",
    "fromJson",
    "date",
    "toDate",
    "now",
    "unixEpoch",
    "default",
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
];

/// Says whether there is such a function.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

fn text(text: impl Into<String>) -> Result<Value, String> {
    Ok(Value::Text(text.into()))
}

impl Run<'_, '_> {
    /// Calls a function.
    pub(super) fn call(&self, name: &str, values: &[Value]) -> Result<Value, Fault> {
        let args = Args { name, values, blamed: Cell::new((Blamed::Call, None)) };
        let result = match name {
            "__line__" => text(self.line),
            "__timestamp__" => Ok(Value::Time(self.at.0)),
            "now" => Ok(Value::Time(runtime::Clock::system().now_nanos())),
            "regexReplaceAll" | "regexReplaceAllLiteral" | "count" => self.regex(&args),
            "print" | "println" | "printf" | "html" | "js" | "urlquery" | "len" | "index" | "slice" | "not" | "eq"
            | "ne" | "lt" | "le" | "gt" | "ge" => self.builtin(&args),
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => old_strings(&args),
            "add" | "sub" | "mul" | "div" | "mod" | "max" | "min" | "int" => whole_numbers(&args),
            "addf" | "subf" | "mulf" | "divf" | "maxf" | "minf" | "float64" | "ceil" | "floor" | "round" => {
                floats(&args)
            }
            "bytes" | "duration" | "duration_seconds" | "fromJson" | "b64enc" | "b64dec" | "urlencode"
            | "urldecode" => conversions(&args),
            "date" | "toDate" | "toDateInZone" | "unixEpoch" | "unixEpochMillis" | "unixEpochNanos" | "unixToTime" => {
                times(&args)
            }
            "default" => match args.value(1) {
                Ok(given) if given.is_true() => Ok(given.clone()),
                _ => args.value(0).cloned(),
            },
            _ => strings(&args),
        };
        result.map_err(|error| match args.blamed.get() {
            (Blamed::Call, wanted) => {
                Fault { blamed: Blamed::Call, wanted, text: format!("error calling {name}: {error}") }
            }
            (blamed, wanted) => Fault { blamed, wanted, text: error },
        })
    }

    fn regex(&self, args: &Args<'_>) -> Result<Value, String> {
        let regex = self.pattern(args.text(0)?)?;
        let subject = args.text(1)?;
        match args.name {
            "count" => Ok(Value::Int(i64::try_from(regex.find_iter(subject).count()).unwrap_or(i64::MAX))),
            name => replace_all(&regex, subject, args.text(2)?, name == "regexReplaceAllLiteral").map(Value::Text),
        }
    }

    fn builtin(&self, args: &Args<'_>) -> Result<Value, String> {
        // What is no value is `<nil>` to Go's printing, and `<no value>` to the template itself.
        let text_of = |value: &Value| match value {
            Value::Nil => "<nil>".to_owned(),
            value => self.text(value),
        };
        let printed = |values: &[Value]| -> Result<Vec<String>, String> {
            let mut size = 0;
            let print = |value: &Value| {
                let text = text_of(value);
                size += text.len();
                repeated(size, 1).map(|()| text)
            };
            values.iter().map(print).collect()
        };
        let run_together = |values: &[Value]| -> Result<String, String> {
            // Blanks go between two that are both no text.
            let mut out = String::new();
            for (i, value) in values.iter().enumerate() {
                let before = i.checked_sub(1).and_then(|i| values.get(i));
                let is_text = |value: &Value| matches!(value, Value::Text(_));
                if before.is_some_and(|before| !is_text(before) && !is_text(value)) {
                    out.push(' ');
                }
                out.push_str(&text_of(value));
                repeated(out.len(), 1)?;
            }
            Ok(out)
        };
        match args.name {
            "print" => text(run_together(args.values)?),
            "println" => text(format!("{}\n", printed(args.values)?.join(" "))),
            "printf" => {
                let rest = args.values.get(1..).unwrap_or_default();
                printf::format(args.text(0)?, rest, &|value| self.text(value)).map(Value::Text)
            }
            "html" => text(escape_html(&run_together(args.values)?)),
            "js" => text(escape_js(&run_together(args.values)?)),
            "urlquery" => text(url_encode(&run_together(args.values)?)),
            "not" => Ok(Value::Bool(!self.is_true(args.value(0)?))),
            "len" => match args.value(0)? {
                Value::Text(text) => Ok(Value::Int(i64::try_from(text.len()).unwrap_or(i64::MAX))),
                Value::Labels => Ok(Value::Int(i64::try_from((self.all)().len()).unwrap_or(i64::MAX))),
                Value::Json(Json::Array(items)) => Ok(Value::Int(i64::try_from(items.len()).unwrap_or(i64::MAX))),
                Value::Json(Json::Object(pairs)) => Ok(Value::Int(i64::try_from(pairs.len()).unwrap_or(i64::MAX))),
                other => Err(format!("len of type {}", other.kind())),
            },
            "index" => {
                let mut value = args.value(0)?.clone();
                for key in args.values.get(1..).unwrap_or_default() {
                    value = self.index(&value, key)?;
                }
                Ok(value)
            }
            "slice" => slice(args),
            _ => compare(args),
        }
    }

    fn index(&self, value: &Value, key: &Value) -> Result<Value, String> {
        match (value, key) {
            (Value::Labels, Value::Text(name)) => self.field(Value::Labels, std::slice::from_ref(name)),
            (Value::Json(Json::Object(_)), Value::Text(name)) => value.field(name),
            (Value::Json(Json::Array(items)), Value::Int(i)) => {
                let item = usize::try_from(*i).ok().and_then(|i| items.get(i));
                item.cloned().map(Value::from_json).ok_or_else(|| format!("index out of range: {i}"))
            }
            (Value::Text(text), Value::Int(i)) => {
                let byte = usize::try_from(*i).ok().and_then(|i| text.as_bytes().get(i));
                byte.map(|byte| Value::Int(i64::from(*byte))).ok_or_else(|| format!("index out of range: {i}"))
            }
            (Value::Nil, _) => Err("index of untyped nil".to_owned()),
            (Value::Text(_) | Value::Json(Json::Array(_)), Value::Nil) => {
                Err("cannot index slice/array with nil".to_owned())
            }
            (Value::Text(_) | Value::Json(Json::Array(_)), key) => {
                Err(format!("cannot index slice/array with type {}", key.kind()))
            }
            (Value::Labels | Value::Json(_), key) => Err(format!("value has type {}; should be string", key.kind())),
            (value, _) => Err(format!("can't index item of type {}", value.kind())),
        }
    }
}

fn slice(args: &Args<'_>) -> Result<Value, String> {
    let bounds = |len: usize| {
        let bound = |i: usize, default: usize| match args.values.get(i) {
            Some(Value::Int(n)) => {
                usize::try_from(*n).ok().filter(|n| *n <= len).ok_or_else(|| format!("index out of range: {n}"))
            }
            Some(other) => Err(format!("cannot index slice/array with type {}", other.kind())),
            None => Ok(default),
        };
        let (from, to) = (bound(1, 0)?, bound(2, len)?);
        if from > to { Err(format!("invalid slice index: {from} > {to}")) } else { Ok(from..to) }
    };
    match args.value(0)? {
        Value::Text(subject) => {
            let range = bounds(subject.len())?;
            text(subject.get(range.clone()).ok_or_else(|| format!("index inside a character: {range:?}"))?)
        }
        Value::Json(Json::Array(items)) => {
            Ok(Value::Json(Json::Array(items.get(bounds(items.len())?).unwrap_or_default().to_vec())))
        }
        other => Err(format!("can't slice item of type {}", other.kind())),
    }
}

fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    Ok(match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        (Value::Nil, Value::Nil) => Some(Ordering::Equal),
        (Value::Nil, _) | (_, Value::Nil) => return Err("invalid type for comparison".to_owned()),
        (a, b) => return Err(format!("incompatible types for comparison: {} and {}", a.kind(), b.kind())),
    })
}

fn compare(args: &Args<'_>) -> Result<Value, String> {
    if args.values.len() == 1 {
        return Err("missing argument for comparison".to_owned());
    }
    let (a, b) = (args.value(0)?, args.value(1)?);
    let is = |wanted: &[Ordering]| Ok(Value::Bool(order(a, b)?.is_some_and(|order| wanted.contains(&order))));
    match args.name {
        "eq" => {
            // Any of the further ones may be equal to the first.
            for other in args.values.get(1..).unwrap_or_default() {
                let nil = matches!((a, other), (Value::Nil, _) | (_, Value::Nil));
                if nil && a == other || !nil && order(a, other)? == Some(Ordering::Equal) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        "ne" => Ok(Value::Bool(order(a, b)? != Some(Ordering::Equal))),
        "lt" => is(&[Ordering::Less]),
        "le" => is(&[Ordering::Less, Ordering::Equal]),
        "gt" => is(&[Ordering::Greater]),
        _ => is(&[Ordering::Greater, Ordering::Equal]),
    }
}

/// The functions of Go's `strings`, which Loki keeps for old queries.
fn old_strings(args: &Args<'_>) -> Result<Value, String> {
    let subject = args.text(0)?;
    let set = |i: usize| args.text(i).map(|set| set.chars().collect::<Vec<char>>());
    match args.name {
        "ToLower" => text(subject.to_lowercase()),
        "ToUpper" => text(subject.to_uppercase()),
        "TrimSpace" => text(subject.trim()),
        "Trim" => text(subject.trim_matches(set(1)?.as_slice())),
        "TrimLeft" => text(subject.trim_start_matches(set(1)?.as_slice())),
        "TrimRight" => text(subject.trim_end_matches(set(1)?.as_slice())),
        "TrimPrefix" => text(subject.strip_prefix(args.text(1)?).unwrap_or(subject)),
        "TrimSuffix" => text(subject.strip_suffix(args.text(1)?).unwrap_or(subject)),
        _ => {
            args.exactly(4)?;
            let (from, to) = (args.text(1)?, args.text(2)?);
            match usize::try_from(args.int(3)?) {
                Ok(count) => bounded(subject, to).and_then(|()| text(subject.replacen(from, to, count))),
                Err(_) => bounded(subject, to).and_then(|()| text(subject.replace(from, to))),
            }
        }
    }
}

/// Checks that replacing in `subject` cannot make a text that is too long.
fn bounded(subject: &str, with: &str) -> Result<(), String> {
    repeated(subject.len() + 1, with.len())
}

fn repeated(count: usize, size: usize) -> Result<(), String> {
    match count.checked_mul(size).filter(|bytes| *bytes <= OUTPUT_BYTES_MAX) {
        Some(_) => Ok(()),
        None => Err(format!("the text is over the limit of {OUTPUT_BYTES_MAX} bytes")),
    }
}

/// Replaces what matches; `$name` and `$1` stand for groups, unless it is literal.
fn replace_all(regex: &regex::Regex, subject: &str, with: &str, is_literal: bool) -> Result<String, String> {
    // Each reference may stand for the whole match.
    let references = if is_literal { 0 } else { with.matches('$').count() };
    let mut out = String::new();
    let mut done = 0;
    for captures in regex.captures_iter(subject) {
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(subject.get(done..whole.start()).unwrap_or(""));
        repeated(out.len().saturating_add(with.len()).saturating_add(references.saturating_mul(whole.len())), 1)?;
        if is_literal {
            out.push_str(with);
        } else {
            captures.expand(with, &mut out);
        }
        done = whole.end();
    }
    out.push_str(subject.get(done..).unwrap_or(""));
    Ok(out)
}

/// The functions of sprig on strings, whose subject comes last.
fn strings(args: &Args<'_>) -> Result<Value, String> {
    match args.name {
        "lower" => text(args.text(0)?.to_lowercase()),
        "upper" => text(args.text(0)?.to_uppercase()),
        "title" => text(title(args.text(0)?)),
        "trim" => text(args.text(0)?.trim()),
        "contains" => Ok(Value::Bool(args.text(1)?.contains(args.text(0)?))),
        "hasPrefix" => Ok(Value::Bool(args.text(1)?.starts_with(args.text(0)?))),
        "hasSuffix" => Ok(Value::Bool(args.text(1)?.ends_with(args.text(0)?))),
        "trimPrefix" => {
            let subject = args.text(1)?;
            text(subject.strip_prefix(args.text(0)?).unwrap_or(subject))
        }
        "trimSuffix" => {
            let subject = args.text(1)?;
            text(subject.strip_suffix(args.text(0)?).unwrap_or(subject))
        }
        "trimAll" => {
            let set: Vec<char> = args.text(0)?.chars().collect();
            text(args.text(1)?.trim_matches(set.as_slice()))
        }
        "replace" => {
            let (from, to, subject) = (args.text(0)?, args.text(1)?, args.text(2)?);
            bounded(subject, to)?;
            text(subject.replace(from, to))
        }
        "repeat" => {
            let count = usize::try_from(args.int(0)?).map_err(|_| "strings: negative Repeat count")?;
            repeated(count, args.text(1)?.len())?;
            text(args.text(1)?.repeat(count))
        }
        "indent" | "nindent" => {
            let subject = args.text(1)?;
            let count = usize::try_from(args.int(0)?).unwrap_or(0);
            repeated(subject.matches('\n').count() + 1, count)?;
            let pad = " ".repeat(count);
            let body = format!("{pad}{}", subject.replace('\n', &format!("\n{pad}")));
            text(if args.name == "indent" { body } else { format!("\n{body}") })
        }
        "trunc" => text(trunc(args.int(0)?, args.text(1)?)),
        "substr" => substr(args.int(0)?, args.int(1)?, args.text(2)?).and_then(text),
        "alignLeft" | "alignRight" => align(args),
        name => Err(format!("function {} not defined", go::quote(name))),
    }
}

fn title(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    let mut inside = false;
    for c in subject.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || matches!(c, '_' | '\'');
    }
    out
}

fn trunc(count: i64, subject: &str) -> String {
    let length = i64::try_from(subject.chars().count()).unwrap_or(i64::MAX);
    if count < 0 && length + count > 0 {
        return subject.chars().skip(usize::try_from(length + count).unwrap_or(0)).collect();
    }
    match usize::try_from(count) {
        Ok(count) => subject.chars().take(count).collect(),
        Err(_) => subject.to_owned(),
    }
}

/// Cuts a text from `start` to `end`; a negative one, or an end behind the text, means the text's own.
fn substr(start: i64, end: i64, subject: &str) -> Result<String, String> {
    let length = i64::try_from(subject.chars().count()).unwrap_or(i64::MAX);
    let out_of_range = |from: String, to: i64| Err(format!("runtime error: slice bounds out of range [{from}:{to}]"));
    let (from, to) = match (start, end) {
        (..0, ..0) => return out_of_range(String::new(), end),
        (..0, end) => (0, end.min(length)),
        (start, end) if end < 0 || end > length => (start, length),
        bounds => bounds,
    };
    if from > to {
        return out_of_range(from.to_string(), to);
    }
    let chars = |n: i64| usize::try_from(n).unwrap_or(0);
    Ok(subject.chars().skip(chars(from)).take(chars(to - from)).collect())
}

fn align(args: &Args<'_>) -> Result<Value, String> {
    let subject = args.text(1)?;
    let length = subject.chars().count();
    let Ok(count) = usize::try_from(args.int(0)?) else { return text(subject) };
    repeated(count, 1)?;
    let pad = " ".repeat(count.saturating_sub(length));
    text(match args.name {
        "alignLeft" => format!("{}{pad}", subject.chars().take(count).collect::<String>()),
        _ => format!("{pad}{}", subject.chars().skip(length.saturating_sub(count)).collect::<String>()),
    })
}

fn whole_numbers(args: &Args<'_>) -> Result<Value, String> {
    match args.name {
        "int" => Ok(Value::Int(args.value(0)?.to_int())),
        "add" => args.fold_int(Some(0), i64::wrapping_add),
        "mul" => args.fold_int(None, i64::wrapping_mul),
        "max" => args.fold_int(None, i64::max),
        "min" => args.fold_int(None, i64::min),
        name => {
            let (a, b) = (args.value(0)?.to_int(), args.value(1)?.to_int());
            let divided = match name {
                "sub" => return Ok(Value::Int(a.wrapping_sub(b))),
                "div" => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            divided.map(Value::Int).ok_or_else(|| "runtime error: integer divide by zero".to_owned())
        }
    }
}

fn floats(args: &Args<'_>) -> Result<Value, String> {
    match args.name {
        "float64" => Ok(Value::Float(args.value(0)?.to_float())),
        "addf" if args.values.is_empty() => Ok(Value::Float(0.0)),
        "addf" => args.fold_decimal(Operator::Add),
        "subf" => args.fold_decimal(Operator::Sub),
        "mulf" => args.fold_decimal(Operator::Mul),
        "divf" => args.fold_decimal(Operator::Div),
        "maxf" => args.fold_float(f64::max),
        "minf" => args.fold_float(f64::min),
        "ceil" => Ok(Value::Float(args.value(0)?.to_float().ceil())),
        "floor" => Ok(Value::Float(args.value(0)?.to_float().floor())),
        _ => {
            let value = args.value(0)?.to_float();
            let places = args.value(1)?.to_int();
            let up_from = args.values.get(2).map_or(0.5, Value::to_float);
            let scale = 10f64.powi(i32::try_from(places).map_err(|_| "too many places".to_owned())?);
            let scaled = value * scale;
            let whole = if scaled.abs().fract() >= up_from { scaled.abs().ceil() } else { scaled.abs().floor() };
            Ok(Value::Float(whole.copysign(value) / scale))
        }
    }
}

fn conversions(args: &Args<'_>) -> Result<Value, String> {
    let subject = args.text(0)?;
    match args.name {
        #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
        "bytes" => go::parse_bytes(subject).map(|bytes| Value::Float(bytes as f64)),
        #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
        "duration" | "duration_seconds" => match go::parse_duration(subject) {
            Some(nanos) => Ok(Value::Float(nanos as f64 / 1e9)),
            None => Err(go::duration_error(subject)),
        },
        "fromJson" => Ok(serde_json::from_str(subject).map_or(Value::Nil, Value::from_json)),
        "urlencode" => text(url_encode(subject)),
        "urldecode" => url_decode(subject).map(Value::Text),
        "b64enc" => text(base64_encode(subject.as_bytes())),
        _ => text(base64_decode(subject)),
    }
}

fn times(args: &Args<'_>) -> Result<Value, String> {
    match args.name {
        "date" => {
            let nanos = match args.value(1)? {
                Value::Time(nanos) => *nanos,
                Value::Int(seconds) => seconds.saturating_mul(1_000_000_000),
                _ => runtime::Clock::system().now_nanos(),
            };
            text(time::format(args.text(0)?, nanos))
        }
        // A text that does not fit gives Go's zero time.
        "toDate" => Ok(Value::Time(time::parse(args.text(0)?, args.text(1)?).unwrap_or(time::ZERO_NANOS))),
        "toDateInZone" => {
            let parsed = time::parse_in_zone(args.text(0)?, args.text(1)?, args.text(2)?);
            Ok(Value::Time(parsed.unwrap_or(time::ZERO_NANOS)))
        }
        "unixEpoch" => text(args.time(0)?.div_euclid(1_000_000_000).to_string()),
        "unixEpochMillis" => text(args.time(0)?.div_euclid(1_000_000).to_string()),
        "unixEpochNanos" => text(args.time(0)?.to_string()),
        _ => {
            let subject = args.text(0)?;
            let fail = || format!("unable to parse time '{subject}'");
            let value: i64 = subject
                .parse()
                .map_err(|_| format!("{}: strconv.ParseInt: parsing {}: invalid syntax", fail(), go::quote(subject)))?;
            let scale = match subject.len() {
                5 => 86_400_000_000_000,
                10 => 1_000_000_000,
                13 => 1_000_000,
                16 => 1_000,
                19 => 1,
                _ => return Err(fail()),
            };
            Ok(Value::Time(value.saturating_mul(scale)))
        }
    }
}
