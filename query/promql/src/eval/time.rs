//! Functions of the calendar, all in UTC.

use chrono::{DateTime, Datelike, Timelike, Utc};

/// Returns the calendar function of this name, of seconds since the epoch.
pub(crate) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |s| of(s, |t| f64::from(t.minute())),
        "hour" => |s| of(s, |t| f64::from(t.hour())),
        "day_of_month" => |s| of(s, |t| f64::from(t.day())),
        "day_of_week" => |s| of(s, |t| f64::from(t.weekday().num_days_from_sunday())),
        "day_of_year" => |s| of(s, |t| f64::from(t.ordinal())),
        "days_in_month" => |s| of(s, |t| f64::from(t.num_days_in_month())),
        "month" => |s| of(s, |t| f64::from(t.month())),
        "year" => |s| of(s, |t| f64::from(t.year())),
        _ => return None,
    })
}

/// Applies `part` to the time; NaN when it lies outside the calendar.
fn of(seconds: f64, part: fn(DateTime<Utc>) -> f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    let whole = seconds as i64;
    DateTime::from_timestamp(whole, 0).map_or(f64::NAN, part)
}
