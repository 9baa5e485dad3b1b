//! Go's and humanize's ways of writing and reading text, numbers, durations and sizes, which LogQL inherits.

use std::fmt::Write as _;

/// Quotes text as Go's `strconv.Quote` does.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if is_print(c) => out.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a string cannot fail.
                let written = if code < 0x80 {
                    write!(out, "\\x{code:02x}")
                } else if code < 0x1_0000 {
                    write!(out, "\\u{code:04x}")
                } else {
                    write!(out, "\\U{code:08x}")
                };
                debug_assert!(written.is_ok());
            }
        }
    }
    out.push('"');
    out
}

fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    !(c.is_control()
        || c.is_whitespace()
        || matches!(u32::from(c), 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff
            | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xf_0000..=0x10_ffff))
}

/// Reads a quoted string, quotes included, as Go does; bytes that make no UTF-8 become U+FFFD.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let quote = chars.next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return (!inner.contains('`')).then(|| inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            if c == quote || c == '\n' {
                return None;
            }
            push_char(&mut bytes, c);
            continue;
        }
        match rest.next()? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(0xc),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(0xb),
            '\\' => bytes.push(b'\\'),
            c @ ('"' | '\'') if c == quote => push_char(&mut bytes, c),
            'x' => bytes.push(u8::try_from(digits(&mut rest, 2, 16)?).ok()?),
            'u' => push_char(&mut bytes, char::from_u32(digits(&mut rest, 4, 16)?)?),
            'U' => push_char(&mut bytes, char::from_u32(digits(&mut rest, 8, 16)?)?),
            c @ '0'..='7' => {
                let value = c.to_digit(8)? * 64 + digits(&mut rest, 2, 8)?;
                bytes.push(u8::try_from(value).ok()?);
            }
            _ => return None,
        }
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Option<u32> {
    (0..count).try_fold(0u32, |sum, _| sum.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?))
}

/// Reads a float as Go's `strconv.ParseFloat`: decimal, hexadecimal with exponent, `inf`, `nan`.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    if matches!(lower.as_str(), "inf" | "infinity") {
        return Some(sign * f64::INFINITY);
    }
    if lower == "nan" {
        return Some(f64::NAN);
    }
    let lower = if lower.contains('_') { without_underscores(&lower)? } else { lower };
    if let Some(hex) = lower.strip_prefix("0x") {
        return parse_hex_float(hex).map(|value| sign * value);
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = lower.parse().ok()?;
    value.is_finite().then_some(sign * value)
}

/// Takes the underscores out of a number; `None` unless each stands between two digits, or behind `0x`.
fn without_underscores(text: &str) -> Option<String> {
    let is_hex = text.starts_with("0x");
    let is_digit = |c: char| c.is_ascii_digit() || is_hex && (c.is_ascii_hexdigit() || c == 'x');
    let chars: Vec<char> = text.chars().collect();
    let digit_at = |i: usize| chars.get(i).copied().is_some_and(is_digit);
    for (i, c) in chars.iter().enumerate() {
        if *c == '_' && !(i > 0 && digit_at(i - 1) && digit_at(i + 1)) {
            return None;
        }
    }
    Some(chars.into_iter().filter(|c| *c != '_').collect())
}

/// Says why a text is no number, as Go does.
pub(crate) fn float_error(text: &str) -> String {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_decimal = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    // What reads as infinite without being called so is too large.
    let fault = if is_decimal && digits.parse::<f64>().is_ok() { "value out of range" } else { "invalid syntax" };
    format!("strconv.ParseFloat: parsing {}: {fault}", quote(text))
}

fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for c in whole.chars() {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let mut unit = 1.0 / 16.0;
    for c in fraction.chars() {
        value += f64::from(c.to_digit(16)?) * unit;
        unit /= 16.0;
    }
    Some(value * f64::powi(2.0, exponent))
}

/// Writes a float as Go's `%v` does: shortest digits, exponent below 1e-4 and from 1e6.
pub(crate) fn float_v(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}e-{digits:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        }
    } else {
        value.to_string()
    }
}

/// Writes a float as Go's `%f` with the shortest digits does: never an exponent.
pub(crate) fn float_f(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { float_v(value) }
}

/// Reads a duration as Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        sum = sum.checked_add(whole.checked_mul(scale)?)?;
        if !fraction.is_empty() {
            let part: f64 = format!("0.{fraction}").parse().ok()?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "below one unit")]
            let part = (part * scale as f64) as i128;
            sum += part;
        }
        rest = tail;
    }
    i64::try_from(if negative { -sum } else { sum }).ok()
}

/// Reads a duration as Prometheus or Go write it (`1d`, `1.5s`), in nanoseconds; `None` when it is none.
#[must_use]
pub fn parse_any_duration(text: &str) -> Option<i64> {
    parse_prometheus_duration(text).ok().or_else(|| parse_duration(text))
}

/// Says whether a text is a size with a unit, such as `10KB`.
#[must_use]
pub fn is_size(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && parse_bytes(text).is_ok()
}

/// Says why a text is no duration, as Go does.
pub(crate) fn duration_error(text: &str) -> String {
    let rest = text.trim_start_matches(['-', '+']);
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let unit: String = rest.chars().skip_while(|c| number(*c)).take_while(|c| !number(*c)).collect();
    if !rest.starts_with(number) {
        format!("time: invalid duration {}", quote(text))
    } else if unit.is_empty() {
        format!("time: missing unit in duration {}", quote(text))
    } else if parse_duration(&format!("1{unit}")).is_none() {
        format!("time: unknown unit {} in duration {}", quote(&unit), quote(text))
    } else if rest.ends_with(number) {
        format!("time: missing unit in duration {}", quote(text))
    } else {
        format!("time: invalid duration {}", quote(text))
    }
}

/// Writes nanoseconds as Go's `time.Duration` does: `1h2m3.5s`, `250ms`.
pub(crate) fn duration_text(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    if n < 1_000_000_000 {
        let (unit, scale) = match n {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", with_fraction(n / scale, n % scale, scale));
    }
    let seconds = n / 1_000_000_000;
    let last = with_fraction(seconds % 60, n % 1_000_000_000, 1_000_000_000);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{sign}{last}s"),
        (0, minutes) => format!("{sign}{minutes}m{last}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{last}s"),
    }
}

fn with_fraction(whole: u64, part: u64, scale: u64) -> String {
    if part == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// Prometheus' units of durations, longest first, with their milliseconds.
const PROMETHEUS_UNITS: [(&str, i64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration as Prometheus does (`1h30m`, `2d`), in nanoseconds.
///
/// # Errors
/// What is wrong, in Prometheus' words.
pub(crate) fn parse_prometheus_duration(text: &str) -> Result<i64, String> {
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let bad = || format!("not a valid duration string: {}", quote(text));
    let mut rest = text;
    let mut next_unit = 0;
    let mut sum_ms: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        if number.is_empty() {
            return Err(bad());
        }
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        if unit.is_empty() {
            return Err(bad());
        }
        let Some(i) = PROMETHEUS_UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        if i < next_unit {
            return Err(bad());
        }
        next_unit = i + 1;
        let value: i64 = number.parse().map_err(|_| "duration out of range".to_owned())?;
        let part = value.checked_mul(PROMETHEUS_UNITS[i].1);
        sum_ms = part.and_then(|part| sum_ms.checked_add(part)).ok_or("duration out of range")?;
        rest = tail;
    }
    sum_ms.checked_mul(1_000_000).ok_or_else(|| "duration out of range".to_owned())
}

/// Writes nanoseconds as Prometheus does: `1d2h`, weeks and years only when nothing is left over.
pub(crate) fn prometheus_duration_text(nanos: i64) -> String {
    let mut ms = nanos / 1_000_000;
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, scale) in PROMETHEUS_UNITS {
        if matches!(unit, "y" | "w") && ms % scale != 0 {
            continue;
        }
        if ms / scale > 0 {
            out.push_str(&(ms / scale).to_string());
            out.push_str(unit);
            ms %= scale;
        }
    }
    out
}

/// Reads a size such as `1.5KiB` or `10 MB`.
///
/// # Errors
/// What is wrong, in the words that `__error_details__` shows.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_numeric() && c != '.' && c != ',').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: String = number.chars().filter(|c| *c != ',').collect();
    let value = parse_float(&number).ok_or_else(|| float_error(&number))?;
    let unit = unit.trim().to_lowercase();
    let scale: f64 = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "tb" | "t" => 1e12,
        "pb" | "p" => 1e15,
        "eb" | "e" => 1e18,
        "kib" | "ki" => 1024.0,
        "mib" | "mi" => 1_048_576.0,
        "gib" | "gi" => 1_073_741_824.0,
        "tib" | "ti" => 1_099_511_627_776.0,
        "pib" | "pi" => 1_125_899_906_842_624.0,
        "eib" | "ei" => 1_152_921_504_606_846_976.0,
        _ => return Err(format!("unhandled size name: {unit}")),
    };
    let value = value * scale;
    if value >= 18_446_744_073_709_551_615.0 {
        return Err(format!("too large: {text}"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as Go converts, and checked above")]
    let bytes = value as u64;
    Ok(bytes)
}

/// Writes a size with one decimal digit below ten, as `humanize.Bytes` does, but without the space.
pub(crate) fn bytes_text(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes}B");
    }
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(clippy::cast_precision_loss, reason = "as Go rounds")]
    let value = bytes as f64;
    let power = (bytes.ilog10() / 3) as usize;
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most 6")]
    let scaled = (value / 1000f64.powi(power as i32) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS.get(power).copied().unwrap_or("EB");
    if scaled < 10.0 { format!("{scaled:.1}{unit}") } else { format!("{scaled:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_and_read_as_go_does() {
        for text in ["a\"b\\c\n\t", "결제 é", "\u{1}\u{7f}", "\u{200b}", "\u{e000}"] {
            assert_eq!(unquote(&quote(text)).as_deref(), Some(text));
        }
        assert_eq!(quote("\u{1}\u{200b}"), r#""\x01\u200b""#);
        assert_eq!(unquote(r#""\101\x42\u0043""#).as_deref(), Some("ABC"));
        assert_eq!(unquote("`a\\n`").as_deref(), Some("a\\n"));
        for bad in ["\"", "\"\\q\"", "\"\\'\"", "`", "\"\\x4\"", "\"\\400\"", ""] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanos) in [("1h2m3.5s", 3_723_500_000_000), ("250ms", 250_000_000), ("-1.5s", -1_500_000_000)] {
            assert_eq!(parse_duration(text), Some(nanos));
            assert_eq!(duration_text(nanos), text);
        }
        assert_eq!(duration_text(432_000_000_000_000), "120h0m0s");
        assert_eq!(duration_text(1_500), "1.5µs");
        for bad in ["", "1", "s", "1d", "1.2.3s", "1e3s", "99999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn prometheus_durations_ascend_in_units() {
        assert_eq!(parse_prometheus_duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(prometheus_duration_text(5_400_000_000_000), "1h30m");
        assert_eq!(prometheus_duration_text(14 * 86_400_000_000_000), "2w");
        assert!(parse_prometheus_duration("30m1h").is_err());
        assert!(parse_prometheus_duration("99999999y").is_err());
        assert_eq!(parse_prometheus_duration("").unwrap_err(), "empty duration string");
    }

    #[test]
    fn sizes_know_both_kinds_of_units() {
        assert_eq!(parse_bytes("2.5KiB"), Ok(2560));
        assert_eq!(parse_bytes("1,000 kB"), Ok(1_000_000));
        assert_eq!(bytes_text(2560), "2.6kB");
        assert_eq!(bytes_text(3_000_000), "3.0MB");
        assert!(parse_bytes("1 xB").is_err() && parse_bytes("").is_err() && parse_bytes("99999EB").is_err());
    }

    #[test]
    fn floats_are_written_as_go_does() {
        assert_eq!((float_v(1e6), float_v(100_050.0)), ("1e+06".to_owned(), "100050".to_owned()));
        assert_eq!(float_v(123_456_789.5), "1.234567895e+08");
        assert_eq!(float_v(0.000_01), "1e-05");
        assert_eq!(float_v(0.090_909_090_909_090_91), "0.09090909090909091");
        assert_eq!(parse_float("0x1.8p3"), Some(12.0));
        assert_eq!(parse_float("0x1A"), None);
        assert_eq!((parse_float("1_000.5"), parse_float("0x_1p4")), (Some(1000.5), Some(16.0)));
        for bad in ["1__0", "_1", "1_", "1_.5", "1e_5", "1e400"] {
            assert_eq!(parse_float(bad), None, "{bad}");
        }
        assert_eq!(float_error("1e400"), r#"strconv.ParseFloat: parsing "1e400": value out of range"#);
        assert_eq!(float_error("1_"), r#"strconv.ParseFloat: parsing "1_": invalid syntax"#);
    }
}
