//! Functions of the calendar, all in UTC and without leap seconds, over the range that Go's times have.

/// Returns the calendar function of this name, of seconds since the epoch.
pub(crate) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |s| number(whole(s).rem_euclid(HOUR) / 60),
        "hour" => |s| number(whole(s).rem_euclid(DAY) / HOUR),
        "day_of_month" => |s| number(civil(whole(s)).2),
        // The epoch was a Thursday.
        "day_of_week" => |s| number((whole(s).div_euclid(DAY) + 4).rem_euclid(7)),
        "day_of_year" => |s| {
            let (year, ..) = civil(whole(s));
            number(whole(s).div_euclid(DAY) - days(year, 1, 1) + 1)
        },
        "days_in_month" => |s| {
            let (year, month, _) = civil(whole(s));
            let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            number(days(next.0, next.1, 1) - days(year, month, 1))
        },
        "month" => |s| number(civil(whole(s)).1),
        "year" => |s| number(civil(whole(s)).0),
        _ => return None,
    })
}

const HOUR: i128 = 3600;
const DAY: i128 = 24 * HOUR;

/// Returns whole seconds. What does not fit 64 bits becomes the least number, as where Prometheus runs; time then wraps
/// around after 2^64 seconds from the first that Go can tell.
fn whole(seconds: f64) -> i128 {
    /// Seconds from the first second of Go's calendar to the epoch.
    const FIRST: i128 = 9_223_372_028_741_760_000;
    #[expect(clippy::cast_precision_loss, reason = "a bound, not a value")]
    let fits = seconds.abs() < i64::MAX as f64;
    #[expect(clippy::cast_possible_truncation, reason = "bounds were checked")]
    let whole = if fits { seconds as i64 } else { i64::MIN };
    (i128::from(whole) + FIRST).rem_euclid(1 << 64) - FIRST
}

#[expect(clippy::cast_precision_loss, reason = "years and what is smaller are far below 2^52")]
fn number(n: i128) -> f64 {
    n as f64
}

/// Returns year, month and day. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil(seconds: i128) -> (i128, i128, i128) {
    let shifted = seconds.div_euclid(DAY) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i128::from(month <= 2), month, day)
}

/// Returns the days from the epoch to a date, as [`civil`] turned around.
fn days(year: i128, month: i128, day: i128) -> i128 {
    let year = year - i128::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::find;

    /// Checks year, month, day, day of year, days in month, weekday, hour, minute.
    #[track_caller]
    fn check(seconds: f64, expected: [f64; 8]) {
        let names = ["year", "month", "day_of_month", "day_of_year", "days_in_month", "day_of_week", "hour", "minute"];
        let got = names.map(|name| find(name).map_or(f64::NAN, |part| part(seconds)));
        assert_eq!(got, expected, "{seconds}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        check(0.0, [1970.0, 1.0, 1.0, 1.0, 31.0, 4.0, 0.0, 0.0]);
        check(951_782_399.9, [2000.0, 2.0, 28.0, 59.0, 29.0, 1.0, 23.0, 59.0]);
        check(-1.0, [1969.0, 12.0, 31.0, 365.0, 31.0, 3.0, 23.0, 59.0]);
        check(1e11, [5138.0, 11.0, 16.0, 320.0, 30.0, 3.0, 9.0, 46.0]);
    }

    #[test]
    fn times_out_of_range_are_as_where_prometheus_runs() {
        check(1e300, [292_277_026_596.0, 12.0, 4.0, 339.0, 31.0, 0.0, 15.0, 30.0]);
        check(f64::NAN, [292_277_026_596.0, 12.0, 4.0, 339.0, 31.0, 0.0, 15.0, 30.0]);
        check(-1e18, [-31_688_736_537.0, 3.0, 10.0, 69.0, 31.0, 2.0, 22.0, 13.0]);
        check(9e18, [285_198_648_531.0, 4.0, 21.0, 111.0, 30.0, 6.0, 16.0, 0.0]);
        check(-9.223_372_028_7e18, [-292_277_022_399.0, 6.0, 27.0, 178.0, 30.0, 3.0, 7.0, 55.0]);
    }
}
