//! Time and severity of a line, where its shape tells them beyond doubt. The line itself is never changed.

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeZone};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// What a line's shape tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// Nanoseconds since the epoch.
    pub(crate) time: Option<i64>,
    /// OTLP's number, and the word to show.
    pub(crate) severity: Option<Severity>,
    /// The trace that it belongs to.
    pub(crate) trace_id: Option<[u8; 16]>,
    /// The span that it belongs to.
    pub(crate) span_id: Option<[u8; 8]>,
}

/// A severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Severity {
    /// OTLP's number, 1-24.
    pub(crate) number: u8,
    /// Its usual word.
    pub(crate) text: &'static str,
}

/// Bytes at the beginning of a line in which a level is looked for.
const LEVEL_BYTES: usize = 256;
/// Latest time ahead of now that is believed.
const AHEAD_NANOS_MAX: i64 = 24 * 3600 * 1_000_000_000;
/// Earliest time that is believed: 1990.
const TIME_NANOS_MIN: i64 = 631_152_000_000_000_000;

/// Looks at a line. `now` (nanoseconds since the epoch) gives times without a year theirs.
pub(crate) fn shape(line: &[u8], now: i64) -> Shape {
    let trimmed = line.trim_ascii_start();
    let mut shape = if trimmed.first() == Some(&b'{') {
        json(trimmed)
    } else {
        klog(trimmed, now).unwrap_or_else(|| text(trimmed, now))
    };
    shape.time = shape.time.filter(|time| *time >= TIME_NANOS_MIN && *time <= now.saturating_add(AHEAD_NANOS_MAX));
    shape
}

/// Returns the severity that a word stands for.
pub(crate) fn severity(word: &str) -> Option<Severity> {
    let mut lower = [0; 9];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    let (number, text) = match &*lower {
        b"trace" | b"trc" | b"finest" => (1, "TRACE"),
        b"debug" | b"dbg" | b"fine" | b"verbose" => (5, "DEBUG"),
        b"info" | b"inf" | b"information" | b"log" => (9, "INFO"),
        b"notice" => (10, "NOTICE"),
        b"warn" | b"warning" | b"wrn" => (13, "WARN"),
        b"error" | b"err" | b"eror" | b"severe" => (17, "ERROR"),
        b"crit" | b"critical" => (18, "CRITICAL"),
        b"alert" => (19, "ALERT"),
        b"fatal" | b"ftl" | b"emerg" | b"emergency" | b"panic" | b"dpanic" => (21, "FATAL"),
        _ => return None,
    };
    Some(Severity { number, text })
}

/// Returns the severity of a syslog priority, 0-7.
pub(crate) fn syslog_severity(priority: u8) -> Option<Severity> {
    ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"]
        .get(usize::from(priority))
        .and_then(|word| severity(word))
}

/// `I1121 09:31:14.123456   1 file.go:12] text`
fn klog(line: &[u8], now: i64) -> Option<Shape> {
    let level = match line.first()? {
        b'I' => "info",
        b'W' => "warn",
        b'E' => "error",
        b'F' => "fatal",
        _ => return None,
    };
    let month = number(line.get(1..3)?)?;
    let day = number(line.get(3..5)?)?;
    if line.get(5) != Some(&b' ') {
        return None;
    }
    let (seconds, nanos, _) = clock(line.get(6..)?)?;
    let time = without_year(month, day, seconds, nanos, now)?;
    Some(Shape { time: Some(time), severity: severity(level), ..Shape::default() })
}

fn text(line: &[u8], now: i64) -> Shape {
    // `<34>` before a syslog line: facility * 8 + severity.
    let (priority, line) = match priority(line) {
        Some((priority, rest)) => (syslog_severity(priority % 8), rest),
        None => (None, line),
    };
    let line = line.strip_prefix(b"1 ").filter(|_| priority.is_some()).unwrap_or(line);
    let open = usize::from(line.first() == Some(&b'['));
    let inner = line.get(open..).unwrap_or_default();
    let found = rfc3339(inner).or_else(|| zoneless(inner)).or_else(|| syslog(inner, now)).or_else(|| ctime(inner));
    let (time, rest) = match found {
        Some((time, length)) => (Some(time), inner.get(length..).unwrap_or_default()),
        None => (None, line),
    };
    let severity = priority.or_else(|| level_key(line)).or_else(|| level_word(rest, time.is_some()));
    let id = |keys: &[&[u8]]| logfmt_value(line, keys);
    Shape {
        time: time.or_else(|| logfmt_time(line)).or_else(|| access_log_time(line)),
        severity,
        trace_id: id(&[b"trace_id", b"traceID", b"traceId"]).and_then(hex),
        span_id: id(&[b"span_id", b"spanID", b"spanId"]).and_then(hex),
    }
}

fn priority(line: &[u8]) -> Option<(u8, &[u8])> {
    let rest = line.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|b| *b == b'>')?;
    let priority = u8::try_from(number(rest.get(..end)?)?).ok().filter(|priority| *priority <= 191)?;
    Some((priority, rest.get(end + 1..)?))
}

/// Reads digits only.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
}

/// Reads `09:31:14` with an optional fraction after a dot or comma. Returns seconds of the day, nanoseconds, length.
fn clock(text: &[u8]) -> Option<(u32, u32, usize)> {
    let (hour, minute, second) = (number(text.get(..2)?)?, number(text.get(3..5)?)?, number(text.get(6..8)?)?);
    if text.get(2) != Some(&b':') || text.get(5) != Some(&b':') || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut length = 8;
    let mut nanos = 0;
    if matches!(text.get(8), Some(b'.' | b',')) {
        let digits = text.get(9..)?.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 {
            let kept = digits.min(9);
            nanos = number(text.get(9..9 + kept)?)? * 10_u32.pow(u32::try_from(9 - kept).ok()?);
            length = 9 + digits;
        }
    }
    Some((hour * 3600 + minute * 60 + second.min(59), nanos, length))
}

fn naive(year: i32, month: u32, day: u32, seconds: u32, nanos: u32) -> Option<NaiveDateTime> {
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    let time = chrono::NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)?;
    Some(date.and_time(time))
}

/// Reads `2024-01-31T09:31:14` or with `/` in the date and a space between. Returns it and its length.
fn date_time(text: &[u8]) -> Option<(NaiveDateTime, usize)> {
    let separator = *text.get(4)?;
    if !matches!(separator, b'-' | b'/')
        || text.get(7) != Some(&separator)
        || !matches!(text.get(10)?, b'T' | b't' | b' ')
    {
        return None;
    }
    let (year, month, day) = (number(text.get(..4)?)?, number(text.get(5..7)?)?, number(text.get(8..10)?)?);
    let (seconds, nanos, length) = clock(text.get(11..)?)?;
    Some((naive(i32::try_from(year).ok()?, month, day, seconds, nanos)?, 11 + length))
}

/// Reads a time with a zone at the beginning of `text`. Returns nanoseconds since the epoch and its length.
pub(crate) fn rfc3339(text: &[u8]) -> Option<(i64, usize)> {
    let (naive, length) = date_time(text)?;
    let rest = text.get(length..)?;
    let space = usize::from(rest.first() == Some(&b' ') && matches!(rest.get(1), Some(b'+' | b'-')));
    let (offset, zone) = zone(rest.get(space..)?)?;
    let nanos = naive.and_utc().timestamp_nanos_opt()?.checked_sub(i64::from(offset) * 1_000_000_000)?;
    Some((nanos, length + space + zone))
}

/// Reads `Z`, `+02:00` or `+0200`. Returns seconds east and its length.
fn zone(text: &[u8]) -> Option<(i32, usize)> {
    let sign = match text.first()? {
        b'Z' | b'z' => return Some((0, 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = number(text.get(1..3)?)?;
    let colon = usize::from(text.get(3) == Some(&b':'));
    let minutes = number(text.get(3 + colon..5 + colon)?)?;
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok().filter(|s| *s < 86_400)?;
    Some((sign * seconds, 5 + colon))
}

/// Takes a time without a zone as this machine's.
fn local(naive: NaiveDateTime) -> Option<i64> {
    chrono::Local.from_local_datetime(&naive).earliest()?.timestamp_nanos_opt()
}

fn zoneless(text: &[u8]) -> Option<(i64, usize)> {
    let (naive, length) = date_time(text)?;
    Some((local(naive)?, length))
}

fn month(name: &[u8]) -> Option<u32> {
    const NAMES: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    NAMES.iter().position(|have| *have == name).and_then(|i| u32::try_from(i + 1).ok())
}

/// Gives a date the latest year that is not ahead of now by more than a day.
fn without_year(month: u32, day: u32, seconds: u32, nanos: u32, now: i64) -> Option<i64> {
    let this_year = chrono::DateTime::from_timestamp_nanos(now).year() + 1;
    (this_year - 9..=this_year)
        .rev()
        .filter_map(|year| naive(year, month, day, seconds, nanos).and_then(local))
        .find(|time| *time <= now.saturating_add(AHEAD_NANOS_MAX))
}

/// Reads `Nov 21 09:31:14` and `Nov  1 09:31:14`.
fn syslog(text: &[u8], now: i64) -> Option<(i64, usize)> {
    let month = month(text.get(..3)?)?;
    if text.get(3) != Some(&b' ') || text.get(6) != Some(&b' ') {
        return None;
    }
    let day = number(text.get(4..6)?.trim_ascii_start())?;
    let (seconds, nanos, length) = clock(text.get(7..)?)?;
    Some((without_year(month, day, seconds, nanos, now)?, 7 + length))
}

/// Reads `Sun Dec 04 04:47:44 2005`, with an optional fraction.
fn ctime(text: &[u8]) -> Option<(i64, usize)> {
    if text.get(3) != Some(&b' ') || text.get(7) != Some(&b' ') || text.get(10) != Some(&b' ') {
        return None;
    }
    let month = month(text.get(4..7)?)?;
    let day = number(text.get(8..10)?.trim_ascii_start())?;
    let (seconds, nanos, length) = clock(text.get(11..)?)?;
    let year = text.get(11 + length..16 + length)?.strip_prefix(b" ")?;
    let time = local(naive(i32::try_from(number(year)?).ok()?, month, day, seconds, nanos)?)?;
    Some((time, 16 + length))
}

/// Finds `[10/Oct/2000:13:55:36 -0700]` of web servers' access logs.
fn access_log_time(line: &[u8]) -> Option<i64> {
    let head = line.get(..line.len().min(LEVEL_BYTES))?;
    let open = memchr::memchr(b'[', head)?;
    let text = head.get(open + 1..)?;
    if text.get(2) != Some(&b'/')
        || text.get(6) != Some(&b'/')
        || text.get(11) != Some(&b':')
        || text.get(20) != Some(&b' ')
    {
        return None;
    }
    let (day, month, year) = (number(text.get(..2)?)?, month(text.get(3..6)?)?, number(text.get(7..11)?)?);
    let (seconds, nanos, _) = clock(text.get(12..20)?)?;
    let (offset, _) = zone(text.get(21..)?)?;
    let naive = naive(i32::try_from(year).ok()?, month, day, seconds, nanos)?;
    naive.and_utc().timestamp_nanos_opt()?.checked_sub(i64::from(offset) * 1_000_000_000)
}

/// Returns the value of the first of `keys` that occurs as `key=value` or `key="value"`.
fn logfmt_value<'a>(line: &'a [u8], keys: &[&[u8]]) -> Option<&'a [u8]> {
    let head = line.get(..line.len().min(LEVEL_BYTES))?;
    for key in keys {
        for at in memchr::memmem::find_iter(head, key) {
            let starts = at == 0 || head.get(at - 1) == Some(&b' ');
            if !starts || head.get(at + key.len()) != Some(&b'=') {
                continue;
            }
            let value = head.get(at + key.len() + 1..)?;
            return Some(match value.strip_prefix(b"\"") {
                Some(quoted) => quoted.split(|b| *b == b'"').next()?,
                None => value.split(|b| *b == b' ').next()?,
            });
        }
    }
    None
}

/// Reads an id of exactly `N` bytes in hexadecimal; all zero is none.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut id = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*pair.first()?)? * 16 + digit(*pair.last()?)?;
    }
    id.iter().any(|byte| *byte != 0).then_some(id)
}

fn level_key(line: &[u8]) -> Option<Severity> {
    let value = logfmt_value(line, &[b"level", b"lvl", b"severity"])?;
    severity(std::str::from_utf8(value).ok()?)
}

fn logfmt_time(line: &[u8]) -> Option<i64> {
    rfc3339(logfmt_value(line, &[b"ts", b"time", b"timestamp"])?).map(|(time, _)| time)
}

/// Finds a level among the first words behind a time: `INFO`, `[info]`, `(error)`, `WARN:`. Without a time, only a word
/// that the line begins with counts, or one behind numbers, dates and ids only.
fn level_word(rest: &[u8], behind_time: bool) -> Option<Severity> {
    let head = rest.get(..rest.len().min(LEVEL_BYTES))?;
    let words = head.split(|b| matches!(b, b' ' | b'\t' | b'|')).filter(|word| !word.is_empty());
    for word in words.take(7) {
        let bare = word.trim_ascii();
        let first = bare.first().copied().unwrap_or(0);
        let bracketed = matches!(first, b'[' | b'(');
        let bare = bare.strip_prefix(b"[").or_else(|| bare.strip_prefix(b"(")).unwrap_or(bare);
        let end = bare.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(bare.len());
        let (name, after) = bare.split_at(end);
        let closed = matches!(after.first(), None | Some(b']' | b')' | b':' | b','));
        let upper = name.iter().all(u8::is_ascii_uppercase);
        if closed
            && (upper || bracketed && matches!(after.first(), Some(b']' | b')')))
            && let Some(severity) = std::str::from_utf8(name).ok().and_then(severity)
        {
            return Some(severity);
        }
        if !behind_time && !bare.iter().any(u8::is_ascii_digit) {
            return None;
        }
    }
    None
}

/// Looks for level and time among the outermost keys of a JSON object.
fn json(line: &[u8]) -> Shape {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    deserializer.deserialize_map(JsonShape).unwrap_or_default()
}

struct JsonShape;

impl<'de> Visitor<'de> for JsonShape {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*key {
                "level" | "severity" | "lvl" | "loglevel" | "log.level" | "levelname" if shape.severity.is_none() => {
                    shape.severity = json_level(&map.next_value()?);
                }
                "time" | "ts" | "timestamp" | "@timestamp" | "@t" | "t" if shape.time.is_none() => {
                    shape.time = json_time(&map.next_value()?);
                }
                "trace_id" | "traceId" | "traceID" | "trace.id" if shape.trace_id.is_none() => {
                    shape.trace_id = json_id(&map.next_value()?);
                }
                "span_id" | "spanId" | "spanID" | "span.id" if shape.span_id.is_none() => {
                    shape.span_id = json_id(&map.next_value()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(shape)
    }
}

fn json_id<const N: usize>(value: &serde_json::Value) -> Option<[u8; N]> {
    hex(value.as_str()?.as_bytes())
}

fn json_level(value: &serde_json::Value) -> Option<Severity> {
    match value {
        serde_json::Value::String(word) => severity(word),
        // pino and bunyan: 10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal.
        serde_json::Value::Number(number) => {
            let words = ["trace", "debug", "info", "warn", "error", "fatal"];
            let level = number.as_u64()?;
            (level % 10 == 0)
                .then(|| words.get(usize::try_from(level / 10).ok()?.checked_sub(1)?))
                .flatten()
                .and_then(|w| severity(w))
        }
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a fraction of a second, in nanoseconds"
)]
fn json_time(value: &serde_json::Value) -> Option<i64> {
    match value {
        serde_json::Value::String(text) => rfc3339(text.as_bytes()).map(|(time, _)| time),
        serde_json::Value::Number(number) => {
            // Told apart by size: seconds, milliseconds, microseconds, nanoseconds of this age.
            if let Some(whole) = number.as_i64() {
                let scale = match whole {
                    ..0 => return None,
                    0..100_000_000_000 => 1_000_000_000,
                    100_000_000_000..100_000_000_000_000 => 1_000_000,
                    100_000_000_000_000..100_000_000_000_000_000 => 1000,
                    _ => 1,
                };
                return whole.checked_mul(scale);
            }
            let value = number.as_f64().filter(|value| (0.0..1e14).contains(value))?;
            let scale = if value < 1e11 { 1_000_000_000 } else { 1_000_000 };
            // A double of this age has microseconds; what comes behind them is noise.
            let micros = (value.fract() * (scale / 1000) as f64).round() as i64;
            (value.trunc() as i64).checked_mul(scale)?.checked_add(micros * 1000)
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
