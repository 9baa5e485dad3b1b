//! Times as Loki's JSON form has them.

use crate::body::cut;

/// Returns the nanoseconds since the epoch that a text says, or what is wrong with it.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(nanos) => Ok(nanos),
        Err(_) => parse_rfc3339(text)
            .ok_or_else(|| format!("{:?} is neither nanoseconds nor a date in the years 1678-2261", cut(text))),
    }
}

/// Returns nanoseconds since the epoch of an RFC 3339 date and time.
pub(super) fn parse_rfc3339(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if separators.iter().any(|(at, c)| text.get(*at..at + 1) != Some(c))
        || !matches!(text.get(10..11)?, "T" | "t" | " ")
    {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = (rest.get(..zone_at)?, rest.get(zone_at..)?);
    let nanos = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(fraction) if (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{fraction:0<9}").parse::<i64>().ok()?
        }
        _ => return None,
    };
    let offset_s = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign, _, _, b':', _, _] => {
            let part = |from: usize| zone.get(from..from + 2)?.parse::<i64>().ok();
            let seconds = part(1)? * 3600 + part(4)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    // Days since the epoch in the proleptic Gregorian calendar: years start in March, so that the leap day is the last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}
