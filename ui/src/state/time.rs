//! The time range that all views share: relative or absolute ends, as text in the URL and as milliseconds.

use std::fmt;

/// One second, in milliseconds.
pub(crate) const SECOND_MS: i64 = 1_000;
/// One minute, in milliseconds.
pub(crate) const MINUTE_MS: i64 = 60 * SECOND_MS;
/// One hour, in milliseconds.
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
/// One day, in milliseconds.
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// One end of a range: `now`, `now-15m`, or milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeSpec {
    /// This many milliseconds before now.
    Ago(i64),
    /// Milliseconds since the epoch.
    At(i64),
}

impl TimeSpec {
    /// Reads `now`, `now-<duration>` or milliseconds since the epoch.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_prefix("now") {
            Some("") => Some(Self::Ago(0)),
            Some(rest) => Some(Self::Ago(parse_duration(rest.strip_prefix('-')?)?)),
            None => text.parse().ok().map(Self::At),
        }
    }

    /// Returns milliseconds since the epoch when it is `now_ms`.
    pub(crate) fn resolve(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(ms) => now_ms.saturating_sub(ms),
            Self::At(ms) => ms,
        }
    }
}

impl fmt::Display for TimeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ago(0) => f.write_str("now"),
            Self::Ago(ms) => write!(f, "now-{}", format_duration(*ms)),
            Self::At(ms) => write!(f, "{ms}"),
        }
    }
}

/// From when to when a view looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeSpec {
    /// The older end.
    pub from: TimeSpec,
    /// The newer end.
    pub to: TimeSpec,
}

impl Default for RangeSpec {
    fn default() -> Self {
        Self { from: TimeSpec::Ago(15 * MINUTE_MS), to: TimeSpec::Ago(0) }
    }
}

/// What the picker offers, newest first.
pub(crate) const QUICK_RANGES: [(&str, i64); 10] = [
    ("Last 5 minutes", 5 * MINUTE_MS),
    ("Last 15 minutes", 15 * MINUTE_MS),
    ("Last 30 minutes", 30 * MINUTE_MS),
    ("Last hour", HOUR_MS),
    ("Last 3 hours", 3 * HOUR_MS),
    ("Last 6 hours", 6 * HOUR_MS),
    ("Last 12 hours", 12 * HOUR_MS),
    ("Last 24 hours", DAY_MS),
    ("Last 7 days", 7 * DAY_MS),
    ("Last 30 days", 30 * DAY_MS),
];

impl RangeSpec {
    /// The last `ms` milliseconds.
    pub(crate) fn last(ms: i64) -> Self {
        Self { from: TimeSpec::Ago(ms), to: TimeSpec::Ago(0) }
    }

    /// From one moment to another, in either order.
    pub(crate) fn between(a_ms: i64, b_ms: i64) -> Self {
        Self { from: TimeSpec::At(a_ms.min(b_ms)), to: TimeSpec::At(a_ms.max(b_ms)) }
    }

    /// Reads the URL's `from` and `to`; what is missing or cannot be read has its default.
    pub(crate) fn from_params(from: Option<&str>, to: Option<&str>) -> Self {
        let default = Self::default();
        Self {
            from: from.and_then(TimeSpec::parse).unwrap_or(default.from),
            to: to.and_then(TimeSpec::parse).unwrap_or(default.to),
        }
    }

    /// Returns the ends in milliseconds; the newer is at least a second after the older.
    pub(crate) fn resolve(self, now_ms: i64) -> Span {
        let (from, to) = (self.from.resolve(now_ms), self.to.resolve(now_ms));
        let (from, to) = (from.min(to), from.max(to));
        Span { from_ms: from, to_ms: to.max(from.saturating_add(SECOND_MS)) }
    }

    /// Whether it moves with the clock.
    pub(crate) fn is_live(self) -> bool {
        matches!(self.to, TimeSpec::Ago(_))
    }

    /// Returns how people call it.
    pub(crate) fn title(self, utc_offset_ms: i64) -> String {
        if let (TimeSpec::Ago(ms), TimeSpec::Ago(0)) = (self.from, self.to) {
            let quick = QUICK_RANGES.iter().find(|(_, length)| *length == ms);
            return quick.map_or_else(|| format!("Last {}", format_duration(ms)), |(title, _)| (*title).to_owned());
        }
        let end = |spec: TimeSpec| match spec {
            TimeSpec::At(ms) => format_date_time(ms, utc_offset_ms),
            TimeSpec::Ago(_) => spec.to_string(),
        };
        format!("{} → {}", end(self.from), end(self.to))
    }
}

/// A resolved range: milliseconds since the epoch, the older end included, the newer not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The older end.
    pub from_ms: i64,
    /// The newer end.
    pub to_ms: i64,
}

impl Span {
    /// Returns its length in milliseconds.
    pub(crate) fn length_ms(self) -> i64 {
        self.to_ms.saturating_sub(self.from_ms)
    }

    /// Returns a step that gives at most `points_max` points: a round number of seconds, at least `step_ms_min`.
    pub(crate) fn step_ms(self, points_max: i64, step_ms_min: i64) -> i64 {
        const STEPS_S: [i64; 19] =
            [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400];
        let wanted = (self.length_ms() / points_max.max(1)).max(step_ms_min);
        let step = STEPS_S.iter().map(|s| s * SECOND_MS).find(|step| *step >= wanted);
        step.unwrap_or_else(|| (wanted / DAY_MS).saturating_add(1).saturating_mul(DAY_MS))
    }

    /// Returns the span before this one, or after, half as far as it is long.
    pub(crate) fn shifted(self, forward: bool) -> Self {
        let by = self.length_ms() / 2 * if forward { 1 } else { -1 };
        Self { from_ms: self.from_ms.saturating_add(by), to_ms: self.to_ms.saturating_add(by) }
    }

    /// Returns the span with the same middle that is twice as long.
    pub(crate) fn widened(self) -> Self {
        let half = self.length_ms() / 2;
        Self { from_ms: self.from_ms.saturating_sub(half), to_ms: self.to_ms.saturating_add(half) }
    }
}

/// Reads a duration such as `90s`, `1h30m` or `2w`; larger units first or not, each at most once or not.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_length = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_length)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => SECOND_MS,
            "m" => MINUTE_MS,
            "h" => HOUR_MS,
            "d" => DAY_MS,
            "w" => 7 * DAY_MS,
            "y" => 365 * DAY_MS,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
        rest = tail;
    }
    Some(total)
}

/// Writes a duration with the fewest units that are exact: `90m`, `2d`, `1500ms`.
pub(crate) fn format_duration(ms: i64) -> String {
    let units = [(7 * DAY_MS, "w"), (DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m"), (SECOND_MS, "s")];
    let exact = units.iter().find(|(unit, _)| ms != 0 && ms % unit == 0);
    exact.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// A moment on the calendar and the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    /// The year; negative ones are before year 1.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 to 999.
    pub milli: u32,
}

impl Civil {
    /// Returns the local date and time of `ms` where clocks are `utc_offset_ms` ahead of UTC.
    ///
    /// Source: "chrono-Compatible Low-Level Date Algorithms" by Howard Hinnant, `civil_from_days`.
    pub(crate) fn from_ms(ms: i64, utc_offset_ms: i64) -> Self {
        let local = ms.saturating_add(utc_offset_ms);
        let (days, of_day) = (local.div_euclid(DAY_MS), local.rem_euclid(DAY_MS));
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: day as u32,
            hour: (of_day / HOUR_MS) as u32,
            minute: (of_day / MINUTE_MS % 60) as u32,
            second: (of_day / SECOND_MS % 60) as u32,
            milli: (of_day % SECOND_MS) as u32,
        }
    }

    /// Returns milliseconds since the epoch; the inverse of [`Civil::from_ms`].
    pub(crate) fn to_ms(self, utc_offset_ms: i64) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = i64::from(self.month);
        let month_from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let of_day = i64::from(self.hour) * HOUR_MS
            + i64::from(self.minute) * MINUTE_MS
            + i64::from(self.second) * SECOND_MS
            + i64::from(self.milli);
        days * DAY_MS + of_day - utc_offset_ms
    }

    /// Returns the month's short name.
    pub(crate) fn month_name(self) -> &'static str {
        const NAMES: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        NAMES[(self.month as usize).clamp(1, 12) - 1]
    }
}

/// Writes `2026-11-21 09:30:00`.
pub(crate) fn format_date_time(ms: i64, utc_offset_ms: i64) -> String {
    let c = Civil::from_ms(ms, utc_offset_ms);
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

/// Writes `09:30:00.123`, as the rows of a list of records do.
pub(crate) fn format_clock(ms: i64, utc_offset_ms: i64) -> String {
    let c = Civil::from_ms(ms, utc_offset_ms);
    format!("{:02}:{:02}:{:02}.{:03}", c.hour, c.minute, c.second, c.milli)
}

/// Reads what the picker's fields take: `now-1h`, `2026-11-21`, `2026-11-21 09:30` or with seconds, `T` for the space.
pub(crate) fn parse_input(text: &str, utc_offset_ms: i64) -> Option<TimeSpec> {
    let text = text.trim();
    if let Some(spec) = TimeSpec::parse(text).filter(|spec| matches!(spec, TimeSpec::Ago(_)) || text.len() > 8) {
        return Some(spec);
    }
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "0:0:0"));
    let mut date = date.splitn(3, '-').map(str::parse::<u32>);
    let mut clock = clock.splitn(3, ':').map(str::parse::<u32>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (hour, minute) = (clock.next()?.ok()?, clock.next()?.ok()?);
    let second = clock.next().unwrap_or(Ok(0)).ok()?;
    let is_real = year <= 9999 && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    let civil = Civil { year: i64::from(year), month, day, hour, minute, second, milli: 0 };
    let ms = is_real.then(|| civil.to_ms(0))?;
    // The 31st of February comes back as the 3rd of March.
    (Civil::from_ms(ms, 0) == civil).then_some(TimeSpec::At(ms - utc_offset_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_written() {
        for text in ["now", "now-15m", "now-90s", "now-2d", "now-1w", "1700000000123", "-5"] {
            assert_eq!(TimeSpec::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "now-", "now+1h", "now-1", "now-1x", "yesterday", "now-99999999999999999999d", "1.5"] {
            assert_eq!(TimeSpec::parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_add_up_their_units() {
        assert_eq!(parse_duration("1h30m"), Some(90 * MINUTE_MS));
        assert_eq!(parse_duration("500ms"), Some(500));
        assert_eq!(format_duration(90 * MINUTE_MS), "90m");
        assert_eq!(format_duration(14 * DAY_MS), "2w");
        assert_eq!(format_duration(1_500), "1500ms");
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("h"), None);
    }

    #[test]
    fn a_range_is_in_order_and_never_empty() {
        let span = RangeSpec::between(2_000, 1_000).resolve(0);
        assert_eq!((span.from_ms, span.to_ms), (1_000, 2_000));
        let span = RangeSpec::between(5, 5).resolve(0);
        assert_eq!(span.length_ms(), SECOND_MS);
        let span = RangeSpec::from_params(Some("now"), Some("now-1h")).resolve(DAY_MS);
        assert_eq!(span.length_ms(), HOUR_MS);
    }

    #[test]
    fn extreme_ends_do_not_overflow() {
        let span = RangeSpec::between(i64::MIN, i64::MAX).resolve(0);
        assert!(span.length_ms() > 0);
        assert!(span.widened().length_ms() > 0);
        assert!(span.step_ms(1_000, 1) > 0);
        assert!(RangeSpec::between(i64::MAX, i64::MAX).resolve(0).length_ms() >= 0);
    }

    #[test]
    fn a_bad_parameter_falls_back_to_the_default() {
        let spec = RangeSpec::from_params(Some("soon"), None);
        assert_eq!(spec, RangeSpec::default());
    }

    #[test]
    fn steps_are_round_and_bounded_below() {
        let hour = Span { from_ms: 0, to_ms: HOUR_MS };
        assert_eq!(hour.step_ms(300, SECOND_MS), 15 * SECOND_MS);
        assert_eq!(hour.step_ms(300, 30 * SECOND_MS), 30 * SECOND_MS);
        let decade = Span { from_ms: 0, to_ms: 3_500 * DAY_MS };
        assert_eq!(decade.step_ms(1_000, SECOND_MS), 4 * DAY_MS);
    }

    #[test]
    fn calendar_days_come_back() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_795_253_400_000, "2026-11-21 09:30:00"),
            (-1_000, "1969-12-31 23:59:59"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(format_date_time(ms, 0), text);
            assert_eq!(Civil::from_ms(ms, 0).to_ms(0), ms);
        }
        assert_eq!(format_clock(1_795_253_400_123, HOUR_MS), "10:30:00.123");
    }

    #[test]
    fn the_pickers_fields_take_dates_and_relative_times() {
        let at = |text: &str| parse_input(text, 2 * HOUR_MS);
        assert_eq!(at("1970-01-01 02:00"), Some(TimeSpec::At(0)));
        assert_eq!(at("1970-01-01T02:00:01"), Some(TimeSpec::At(1_000)));
        assert_eq!(at("1970-01-02"), Some(TimeSpec::At(22 * HOUR_MS)));
        assert_eq!(at("now-1h"), Some(TimeSpec::Ago(HOUR_MS)));
        assert_eq!(at("1700000000000"), Some(TimeSpec::At(1_700_000_000_000)));
        for text in ["", "2026", "2026-02-30", "2026-13-01", "2026-01-01 25:00", "2026-01-01 10", "x"] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn titles_are_what_people_say() {
        assert_eq!(RangeSpec::last(HOUR_MS).title(0), "Last hour");
        assert_eq!(RangeSpec::last(2 * HOUR_MS).title(0), "Last 2h");
        assert_eq!(RangeSpec::between(0, 60_000).title(0), "1970-01-01 00:00:00 → 1970-01-01 00:01:00");
    }
}
