//! Times as people write them: `now`, `-1h`, RFC 3339, Unix; and how answers show them.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};

/// Units of a duration, in nanoseconds.
const UNITS: &[(&str, i64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 7 * 86_400_000_000_000),
    ("y", 365 * 86_400_000_000_000),
];

/// A point in time that may be told relative to now; nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Since the epoch.
    Absolute(i64),
    /// Added to now.
    Relative(i64),
}

impl When {
    /// Returns nanoseconds since the epoch.
    pub(crate) fn resolve(self, now_ns: i64) -> i64 {
        match self {
            Self::Absolute(ns) => ns,
            Self::Relative(by) => now_ns.saturating_add(by),
        }
    }
}

/// Which time a command looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct RangeArgs {
    /// How far back to look, e.g. 1h, 2d12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "start")]
    pub(crate) since: Option<Duration>,
    /// First time: now, -1h, 2026-01-31T08:00:00Z or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = parse_when, allow_hyphen_values = true)]
    pub(crate) start: Option<When>,
    /// Last time; now unless given
    #[arg(long, value_name = "TIME", value_parser = parse_when, allow_hyphen_values = true)]
    pub(crate) end: Option<When>,
}

impl RangeArgs {
    /// Says whether any of them was given.
    pub(crate) fn given(&self) -> bool {
        self.since.is_some() || self.start.is_some() || self.end.is_some()
    }

    /// Returns (start, end) in nanoseconds; `since` counts back from the end when nothing else was said.
    ///
    /// # Errors
    /// A sentence for the user when the range is empty.
    pub(crate) fn resolve(&self, now_ns: i64, since: Duration) -> Result<(i64, i64), String> {
        let end = self.end.map_or(now_ns, |end| end.resolve(now_ns));
        let back = i64::try_from(self.since.unwrap_or(since).as_nanos()).unwrap_or(i64::MAX);
        let start = self.start.map_or_else(|| end.saturating_sub(back), |start| start.resolve(now_ns));
        if start < end {
            Ok((start, end))
        } else {
            Err(format!("the range is empty: it starts at {} and ends at {}", rfc3339(start), rfc3339(end)))
        }
    }
}

/// Reads a duration such as `1h30m`, `500ms` or `1.5h`.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match duration_nanos(text) {
        Some(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        _ => Err("expected a duration above zero such as 30s, 1h30m or 7d".to_owned()),
    }
}

fn duration_nanos(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Returns `number * scale`, exactly when the number is whole.
fn scaled(number: &str, scale: i64) -> Option<i64> {
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale);
    }
    #[expect(clippy::cast_precision_loss, reason = "a fraction of a unit is not exact anyway")]
    let product = number.parse::<f64>().ok()? * scale as f64;
    #[expect(clippy::cast_possible_truncation, reason = "checked against the range first")]
    (product.is_finite() && product.abs() < 9.2e18).then_some(product as i64)
}

/// Reads `now`, `now-1h`, `-1h`, `+5m`, RFC 3339, a date, a date and time in UTC, or Unix seconds (a number of 13, 16 or
/// 19 digits is milli-, micro- or nanoseconds).
///
/// # Errors
/// A sentence for the user.
pub(crate) fn parse_when(text: &str) -> Result<When, String> {
    let relative = text.strip_prefix("now").unwrap_or(text);
    if relative.is_empty() && text == "now" {
        return Ok(When::Relative(0));
    }
    let signed = [("-", -1), ("+", 1)].into_iter().find_map(|(sign, by)| Some((relative.strip_prefix(sign)?, by)));
    if let Some((duration, sign)) = signed
        && let Some(nanos) = duration_nanos(duration)
    {
        return Ok(When::Relative(sign * nanos));
    }
    unix_nanos(text)
        .or_else(|| calendar_nanos(text))
        .map(When::Absolute)
        .ok_or_else(|| "expected a time such as now, -1h, 2026-01-31T08:00:00Z, 2026-01-31 or 1769846400".to_owned())
}

fn unix_nanos(text: &str) -> Option<i64> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let numeric = text.bytes().enumerate().all(|(i, b)| b.is_ascii_digit() || b == b'.' || (i == 0 && b == b'-'));
    if digits == 0 || !numeric {
        return None;
    }
    let scale = match (text.contains('.'), digits) {
        (true, _) | (false, ..=11) => 1_000_000_000,
        (false, 12..=14) => 1_000_000,
        (false, 15..=17) => 1_000,
        (false, _) => 1,
    };
    let (negative, number) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    // Whole and fraction are read apart: a double cannot hold the nanoseconds of today.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let fraction = if fraction.is_empty() { 0 } else { scaled(&format!("0.{fraction}"), scale)? };
    let nanos = whole.checked_mul(scale)?.checked_add(fraction)?;
    Some(if negative { -nanos } else { nanos })
}

fn calendar_nanos(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return time.timestamp_nanos_opt();
    }
    let without_zone = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let time = without_zone.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let time = time.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    time?.and_utc().timestamp_nanos_opt()
}

/// Writes nanoseconds since the epoch as RFC 3339 in UTC, with as many digits as are needed: 0, 3, 6 or 9.
pub(crate) fn rfc3339(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Writes milliseconds since the epoch as RFC 3339 in UTC; a time beyond the calendar as a number.
pub(crate) fn rfc3339_ms(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Writes nanoseconds since the epoch as the API takes them: seconds with a fraction.
pub(crate) fn api_seconds(ns: i64) -> String {
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    format!("{sign}{}.{:03}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(rfc3339(parse_when(text).unwrap().resolve(1_000_000_000_000_000_000)), expected);
    }

    #[test]
    fn relative_times_count_from_now() {
        check("now", "2001-09-09T01:46:40Z");
        check("-1h", "2001-09-09T00:46:40Z");
        check("now-1h30m", "2001-09-09T00:16:40Z");
        check("now+1s", "2001-09-09T01:46:41Z");
        check("+500ms", "2001-09-09T01:46:40.500Z");
    }

    #[test]
    fn absolute_times_have_many_forms() {
        check("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z");
        check("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00Z");
        check("2026-01-31 08:00", "2026-01-31T08:00:00Z");
        check("2026-01-31", "2026-01-31T00:00:00Z");
        check("0", "1970-01-01T00:00:00Z");
        check("-1", "1969-12-31T23:59:59Z");
        check("1769846400", "2026-01-31T08:00:00Z");
        check("1769846400.25", "2026-01-31T08:00:00.250Z");
        check("1769846400123", "2026-01-31T08:00:00.123Z");
        check("1769846400123456", "2026-01-31T08:00:00.123456Z");
        check("1769846400123456789", "2026-01-31T08:00:00.123456789Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in
            ["", "-", "yesterday", "1h", "nowish", "2026-13-01", "99999999999999999999", "1.2.3", "now-", "3000-01-01"]
        {
            assert!(parse_when(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_add_up_and_are_above_zero() {
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("1.5h").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("2w").unwrap(), Duration::from_secs(14 * 86_400));
        for bad in ["", "0s", "1", "h", "-1h", "1hh", "999999999y", "..5s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_empty_range_is_told_with_both_ends() {
        let args = RangeArgs { since: None, start: Some(When::Relative(0)), end: Some(When::Absolute(0)) };
        let error = args.resolve(1_000_000_000, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error, "the range is empty: it starts at 1970-01-01T00:00:01Z and ends at 1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_api_gets_seconds_with_milliseconds() {
        assert_eq!(api_seconds(1_500_000_000), "1.500");
        assert_eq!(api_seconds(-1_500_000_000), "-1.500");
    }
}
