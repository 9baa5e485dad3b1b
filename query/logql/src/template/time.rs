//! Go's layouts of times, in UTC.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};

/// Go's zero time (year 1) cannot be told in nanoseconds; the earliest point that can stands for it.
pub(super) const ZERO_NANOS: i64 = i64::MIN;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The elements of a layout; of two that start alike the longer comes first.
const ELEMENTS: [&str; 34] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "-07:00:00",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z07:00",
    "Z0700",
    "Z07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "__2",
    "_2",
    "1",
    "2",
    "3",
    "4",
    "5",
    "T",
    " ",
    ":",
];

fn utc(nanos: i64) -> NaiveDateTime {
    DateTime::<Utc>::from_timestamp_nanos(nanos).naive_utc()
}

/// Splits the next element off a layout: an element, a fraction of seconds, or a character of its own.
fn element(layout: &str) -> (&str, &str) {
    let fraction = |mark: char| {
        let rest = layout.strip_prefix(['.', ','])?;
        let digits = rest.find(|c| c != mark).unwrap_or(rest.len());
        let follows = rest.split_at(digits).1.starts_with(|c: char| c.is_ascii_digit());
        (digits > 0 && !follows).then_some(1 + digits)
    };
    let end = fraction('0')
        .or_else(|| fraction('9'))
        .or_else(|| ELEMENTS.iter().find(|element| layout.starts_with(**element)).map(|element| element.len()));
    let end = end.unwrap_or_else(|| layout.chars().next().map_or(0, char::len_utf8));
    layout.split_at(end)
}

/// Writes a time by a layout.
pub(super) fn format(layout: &str, nanos: i64) -> String {
    let at = utc(nanos);
    let mut out = String::new();
    let mut rest = layout;
    while !rest.is_empty() {
        let (element, tail) = element(rest);
        rest = tail;
        let month = MONTHS.get(at.month0() as usize).copied().unwrap_or("");
        let day = DAYS.get(at.weekday().num_days_from_monday() as usize).copied().unwrap_or("");
        let short = |name: &str| name.chars().take(3).collect::<String>();
        let hour12 = (at.hour() + 11) % 12 + 1;
        out.push_str(&match element {
            "January" => month.to_owned(),
            "Jan" => short(month),
            "Monday" => day.to_owned(),
            "Mon" => short(day),
            "2006" => format!("{:04}", at.year()),
            "06" => format!("{:02}", at.year().rem_euclid(100)),
            "01" => format!("{:02}", at.month()),
            "1" => at.month().to_string(),
            "002" => format!("{:03}", at.ordinal()),
            "__2" => format!("{:3}", at.ordinal()),
            "02" => format!("{:02}", at.day()),
            "_2" => format!("{:2}", at.day()),
            "2" => at.day().to_string(),
            "15" => format!("{:02}", at.hour()),
            "03" => format!("{hour12:02}"),
            "3" => hour12.to_string(),
            "04" => format!("{:02}", at.minute()),
            "4" => at.minute().to_string(),
            "05" => format!("{:02}", at.second()),
            "5" => at.second().to_string(),
            "PM" => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if at.hour() < 12 { "am" } else { "pm" }.to_owned(),
            "MST" => "UTC".to_owned(),
            "Z07:00:00" | "Z07:00" | "Z0700" | "Z07" => "Z".to_owned(),
            "-07:00:00" => "+00:00:00".to_owned(),
            "-07:00" => "+00:00".to_owned(),
            "-0700" => "+0000".to_owned(),
            "-07" => "+00".to_owned(),
            other if other.len() > 1 && other.starts_with(['.', ',']) => {
                fraction(other, at.nanosecond() % 1_000_000_000)
            }
            other => other.to_owned(),
        });
    }
    out
}

fn fraction(element: &str, nanos: u32) -> String {
    let places = element.len() - 1;
    let digits: String = format!("{nanos:09}").chars().chain(std::iter::repeat('0')).take(places).collect();
    let mark = element.chars().next().unwrap_or('.');
    if !element.ends_with('9') {
        return format!("{mark}{digits}");
    }
    match digits.trim_end_matches('0') {
        "" => String::new(),
        digits => format!("{mark}{digits}"),
    }
}

/// Writes a time as Go prints it.
pub(super) fn print(nanos: i64) -> String {
    format("2006-01-02 15:04:05.999999999 -0700 MST", nanos)
}

/// What a text says of a time.
#[derive(Debug)]
struct Parts {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    /// Seconds east of UTC.
    offset: Option<i64>,
    afternoon: Option<bool>,
}

/// Reads a time by a layout; without an offset in the text it is UTC.
pub(super) fn parse(layout: &str, text: &str) -> Option<i64> {
    let mut parts =
        Parts { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanos: 0, offset: None, afternoon: None };
    let (mut layout, mut text) = (layout, text);
    while !layout.is_empty() {
        let (element, tail) = element(layout);
        layout = tail;
        text = read(element, text, &mut parts)?;
        // Seconds may have a fraction that the layout does not name.
        if matches!(element, "05" | "5") && text.starts_with(['.', ',']) && !layout.starts_with(['.', ',']) {
            text = read_fraction(text, &mut parts)?;
        }
    }
    if !text.is_empty() {
        return None;
    }
    let hour = match parts.afternoon {
        Some(true) if parts.hour < 12 => parts.hour + 12,
        Some(false) if parts.hour == 12 => 0,
        _ => parts.hour,
    };
    let date = NaiveDate::from_ymd_opt(parts.year, parts.month, parts.day)?;
    let time = NaiveTime::from_hms_nano_opt(hour, parts.minute, parts.second, parts.nanos)?;
    let at = date.and_time(time).and_utc().timestamp_nanos_opt()?;
    at.checked_sub(parts.offset.unwrap_or(0).checked_mul(1_000_000_000)?)
}

/// Reads a time in a zone: UTC, or an offset such as `+09:00`; an unknown zone is taken as UTC, as Loki does.
pub(super) fn parse_in_zone(layout: &str, zone: &str, text: &str) -> Option<i64> {
    let at = parse(layout, text)?;
    if layout.contains("07") {
        return Some(at);
    }
    let offset = offset(zone).filter(|(_, rest)| rest.is_empty()).map_or(0, |(seconds, _)| seconds);
    at.checked_sub(offset.checked_mul(1_000_000_000)?)
}

fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()).min(most);
    if end < least {
        return None;
    }
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, rest))
}

fn name<'t>(text: &'t str, names: &[&str], short: bool) -> Option<(u32, &'t str)> {
    for (i, name) in names.iter().enumerate() {
        let name = if short { name.get(..3)? } else { name };
        let start = text.get(..name.len());
        if start.is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            return Some((u32::try_from(i).ok()?, text.split_at(name.len()).1));
        }
    }
    None
}

fn offset(text: &str) -> Option<(i64, &str)> {
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['+', '-'])?;
    let (hours, rest) = digits(rest, 2, 2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2, 2)?,
        None => digits(rest, 2, 2).unwrap_or((0, rest)),
    };
    let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
    Some((if negative { -seconds } else { seconds }, rest))
}

fn read_fraction<'t>(text: &'t str, parts: &mut Parts) -> Option<&'t str> {
    let rest = text.strip_prefix(['.', ','])?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    parts.nanos = nine.parse().ok()?;
    (!digits.is_empty()).then_some(rest)
}

fn read<'t>(element: &str, text: &'t str, parts: &mut Parts) -> Option<&'t str> {
    let (value, rest) = match element {
        "2006" => digits(text, 4, 4)?,
        "06" | "01" | "02" | "15" | "03" | "04" | "05" => digits(text, 2, 2)?,
        "1" | "2" | "3" | "4" | "5" => digits(text, 1, 2)?,
        "_2" => digits(text.trim_start_matches(' '), 1, 2)?,
        "January" => name(text, &MONTHS, false)?,
        "Jan" => name(text, &MONTHS, true)?,
        "Monday" => return name(text, &DAYS, false).map(|(_, rest)| rest),
        "Mon" => return name(text, &DAYS, true).map(|(_, rest)| rest),
        "PM" | "pm" => {
            let (half, rest) = text.split_at_checked(2)?;
            parts.afternoon = Some(match half.to_ascii_uppercase().as_str() {
                "AM" => false,
                "PM" => true,
                _ => return None,
            });
            return Some(rest);
        }
        "MST" => {
            let end = text.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(text.len());
            return (end >= 3).then(|| text.split_at(end).1);
        }
        element if element.contains("07") => {
            if let Some(rest) = text.strip_prefix('Z').filter(|_| element.starts_with('Z')) {
                parts.offset = Some(0);
                return Some(rest);
            }
            let (seconds, rest) = offset(text)?;
            parts.offset = Some(seconds);
            return Some(rest);
        }
        element if element.len() > 1 && element.starts_with(['.', ',']) => {
            // A fraction of nines may be missing.
            return match text.starts_with(['.', ',']) {
                true => read_fraction(text, parts),
                false => element.ends_with('9').then_some(text),
            };
        }
        other => return text.strip_prefix(other),
    };
    match element {
        "2006" => parts.year = i32::try_from(value).ok()?,
        "06" => parts.year = i32::try_from(if value >= 69 { 1900 + value } else { 2000 + value }).ok()?,
        "01" | "1" => parts.month = value,
        "January" | "Jan" => parts.month = value + 1,
        "02" | "2" | "_2" => parts.day = value,
        "15" | "03" | "3" => parts.hour = value,
        "04" | "4" => parts.minute = value,
        _ => parts.second = value,
    }
    Some(rest)
}
