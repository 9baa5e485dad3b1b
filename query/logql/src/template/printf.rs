//! Go's `printf`.

use super::OUTPUT_BYTES_MAX;
use super::value::Value;
use crate::go;

/// Flags, width and precision of one verb.
#[derive(Debug, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    zero: bool,
    sharp: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

/// Widest field that is padded.
const WIDTH_MAX: usize = 1_000;

/// Writes `args` as `format` says; what does not fit is told in the text, as in Go.
pub(super) fn format(format: &str, args: &[Value], print: &dyn Fn(&Value) -> String) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    let mut next = 0;
    let mut take = || {
        next += 1;
        args.get(next - 1)
    };
    while let Some(c) = rest.next() {
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the text is over the limit of {OUTPUT_BYTES_MAX} bytes"));
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => break,
            }
            rest.next();
        }
        spec.width = number(&mut rest, &mut take).unwrap_or(0);
        if rest.peek() == Some(&'.') {
            rest.next();
            spec.precision = Some(number(&mut rest, &mut take).unwrap_or(0));
        }
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match take() {
                None => {
                    out.push_str("%!");
                    out.push(verb);
                    out.push_str("(MISSING)");
                }
                Some(value) => out.push_str(&pad(&spec, one(&spec, verb, value, print))),
            },
        }
    }
    if next < args.len() {
        let extra: Vec<String> = args
            .get(next..)
            .unwrap_or_default()
            .iter()
            .map(|value| format!("{}={}", value.kind(), print(value)))
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    if out.len() > OUTPUT_BYTES_MAX {
        return Err(format!("the text is over the limit of {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(out)
}

/// Reads a width or precision, which may be an argument.
fn number<'v>(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    take: &mut impl FnMut() -> Option<&'v Value>,
) -> Option<usize> {
    if rest.peek() == Some(&'*') {
        rest.next();
        return usize::try_from(take()?.to_int()).ok().map(|n| n.min(WIDTH_MAX));
    }
    let mut found = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        let sum = found.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize);
        found = Some(sum.min(WIDTH_MAX));
    }
    found
}

fn pad(spec: &Spec, text: String) -> String {
    let length = text.chars().count();
    let missing = spec.width.saturating_sub(length);
    if missing == 0 {
        return text;
    }
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if !spec.zero {
        return format!("{}{text}", " ".repeat(missing));
    }
    let zeros = "0".repeat(missing);
    match text.strip_prefix(['-', '+']) {
        Some(digits) => format!("{}{zeros}{digits}", text.chars().next().unwrap_or('-')),
        None => format!("{zeros}{text}"),
    }
}

fn signed(spec: &Spec, text: String) -> String {
    match text.starts_with('-') {
        false if spec.plus => format!("+{text}"),
        false if spec.space => format!(" {text}"),
        _ => text,
    }
}

fn one(spec: &Spec, verb: char, value: &Value, print: &dyn Fn(&Value) -> String) -> String {
    let bad = || format!("%!{verb}({}={})", value.kind(), print(value));
    let cut = |text: &str| match spec.precision {
        Some(count) => text.chars().take(count).collect(),
        None => text.to_owned(),
    };
    match (verb, value) {
        ('v', Value::Int(_) | Value::Float(_)) => signed(spec, print(value)),
        ('v', value) => print(value),
        ('s', Value::Text(text)) => cut(text),
        ('s', Value::Time(_) | Value::Json(_) | Value::Labels) => print(value),
        ('q', Value::Text(text)) => go::quote(&cut(text)),
        ('x', Value::Text(text)) => text.bytes().map(|c| format!("{c:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|c| format!("{c:02X}")).collect(),
        ('T', value) => value.kind().to_owned(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('d', Value::Int(value)) => signed(spec, value.to_string()),
        ('x', Value::Int(value)) => radix(spec, *value, "0x", &|n| format!("{n:x}")),
        ('X', Value::Int(value)) => radix(spec, *value, "0X", &|n| format!("{n:X}")),
        ('o', Value::Int(value)) => radix(spec, *value, "0", &|n| format!("{n:o}")),
        ('b', Value::Int(value)) => radix(spec, *value, "0b", &|n| format!("{n:b}")),
        ('c', Value::Int(value)) => {
            u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Value::Float(value)) => signed(spec, float(spec, verb, *value)),
        _ => bad(),
    }
}

fn radix(spec: &Spec, value: i64, prefix: &str, digits: &dyn Fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let prefix = if spec.sharp { prefix } else { "" };
    signed(spec, format!("{sign}{prefix}{}", digits(value.unsigned_abs())))
}

fn float(spec: &Spec, verb: char, value: f64) -> String {
    if !value.is_finite() {
        return go::float_v(value);
    }
    let places = spec.precision.unwrap_or(6);
    match verb {
        'f' | 'F' => format!("{value:.places$}"),
        'e' | 'E' => {
            let text = exponent(&format!("{value:.places$e}"));
            if verb == 'E' { text.to_uppercase() } else { text }
        }
        _ => match spec.precision {
            None => go::float_v(value),
            Some(digits) => general(value, digits.max(1)),
        },
    }
}

/// Gives an exponent its sign and two digits.
fn exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    match exponent.strip_prefix('-') {
        Some(digits) => format!("{mantissa}e-{digits:0>2}"),
        None => format!("{mantissa}e+{exponent:0>2}"),
    }
}

/// `%.3g`: so many digits, without the zeros at their end.
fn general(value: f64, digits: usize) -> String {
    let text = format!("{value:.*e}", digits - 1);
    let power: i32 = text.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let strip = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || usize::try_from(power).is_ok_and(|power| power >= digits) {
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
        return exponent(&format!("{}e{power}", strip(mantissa)));
    }
    let places = usize::try_from(i64::try_from(digits).unwrap_or(0) - 1 - i64::from(power)).unwrap_or(0);
    strip(&format!("{value:.places$}"))
}
