//! Where the lines of an axis go, and what stands beside them.

use super::units::Unit;
use crate::state::time::{Civil, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// One line of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    /// The value, or milliseconds since the epoch.
    pub at: f64,
    /// What stands beside it.
    pub label: String,
    /// Whether it starts a larger unit: a day among hours.
    pub is_major: bool,
}

/// Returns about `count` round values inside `domain`, ascending.
pub(crate) fn value_ticks(domain: (f64, f64), count: usize, unit: Unit) -> Vec<Tick> {
    let (low, high) = domain;
    let length = high - low;
    if !length.is_finite() || length <= 0.0 || count == 0 {
        return Vec::new();
    }
    let step = nice_step(length / count as f64, unit.base());
    let first = (low / step).ceil();
    let last = (high / step).floor();
    // At most twice what was asked for; guards against a step lost in rounding.
    let ticks = (last - first + 1.0).clamp(0.0, count as f64 * 2.0 + 2.0) as usize;
    let values = (0..ticks).map(|i| (first + i as f64) * step);
    values.map(|at| Tick { at, label: unit.format_with_step(at, step), is_major: at == 0.0 }).collect()
}

/// Returns the powers of ten inside `domain`, thinned out to `count`.
pub(crate) fn log_ticks(domain: (f64, f64), count: usize, unit: Unit) -> Vec<Tick> {
    let (low, high) = (domain.0.max(1e-12).log10().ceil(), domain.1.max(1e-12).log10().floor());
    if low > high || count == 0 {
        return Vec::new();
    }
    let every = (((high - low) / count as f64).ceil().max(1.0)) as usize;
    let powers = (0..=(high - low) as usize).step_by(every);
    powers
        .map(|i| {
            let at = 10_f64.powf(low + i as f64);
            Tick { at, label: unit.format(at), is_major: false }
        })
        .collect()
}

/// Returns 1, 2 or 5 times a power of ten that is at least `rough`; for base 1024, a power of two until 512 of a prefix.
fn nice_step(rough: f64, base: f64) -> f64 {
    if base == 1024.0 && rough > 1.0 {
        return 2_f64.powf(rough.log2().ceil());
    }
    let power = 10_f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0].into_iter().find(|nice| nice * power >= rough * (1.0 - 1e-9));
    nice.unwrap_or(10.0) * power
}

/// Steps between the lines of a time axis. Beyond, whole multiples of 28 days are used.
const TIME_STEPS: [i64; 24] = [
    SECOND_MS,
    2 * SECOND_MS,
    5 * SECOND_MS,
    10 * SECOND_MS,
    15 * SECOND_MS,
    30 * SECOND_MS,
    MINUTE_MS,
    2 * MINUTE_MS,
    5 * MINUTE_MS,
    10 * MINUTE_MS,
    15 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    2 * DAY_MS,
    4 * DAY_MS,
    7 * DAY_MS,
    14 * DAY_MS,
    28 * DAY_MS,
    56 * DAY_MS,
];

/// Returns at most `count_max` lines at round local times inside `[from_ms, to_ms]`.
pub(crate) fn time_ticks(from_ms: i64, to_ms: i64, count_max: usize, utc_offset_ms: i64) -> Vec<Tick> {
    let length = to_ms.saturating_sub(from_ms);
    if length <= 0 || count_max == 0 {
        return Vec::new();
    }
    let rough = length / count_max as i64 + 1;
    let step = TIME_STEPS.into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or_else(|| (rough / (28 * DAY_MS)).saturating_add(1).saturating_mul(28 * DAY_MS));
    let local = from_ms.saturating_add(utc_offset_ms);
    // Rounded up to a round local time, not to a round time in UTC.
    let first = local.div_euclid(step).saturating_add(i64::from(local.rem_euclid(step) != 0)).saturating_mul(step);
    let times =
        (0..=count_max as i64).map(|i| first.saturating_add(i.saturating_mul(step)).saturating_sub(utc_offset_ms));
    times
        .take_while(|at| *at <= to_ms)
        .map(|at| {
            let civil = Civil::from_ms(at, utc_offset_ms);
            let is_midnight = (civil.hour, civil.minute, civil.second) == (0, 0, 0);
            Tick { at: at as f64, label: time_label(civil, step, is_midnight), is_major: is_midnight && step < DAY_MS }
        })
        .collect()
}

fn time_label(civil: Civil, step_ms: i64, is_midnight: bool) -> String {
    if step_ms >= 28 * DAY_MS {
        format!("{:04}-{:02}-{:02}", civil.year, civil.month, civil.day)
    } else if is_midnight {
        format!("{} {}", civil.month_name(), civil.day)
    } else if step_ms >= MINUTE_MS {
        format!("{:02}:{:02}", civil.hour, civil.minute)
    } else {
        format!("{:02}:{:02}:{:02}", civil.hour, civil.minute, civil.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> String {
        ticks.iter().map(|tick| tick.label.as_str()).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn values_are_round_in_their_unit() {
        for (domain, unit, expected) in [
            ((0.0, 1.0), Unit::Ratio, "0% | 20% | 40% | 60% | 80% | 100%"),
            ((0.0, 9.0), Unit::Short, "0 | 2 | 4 | 6 | 8"),
            ((0.0, 4.2e9), Unit::Bytes, "0 B | 1 GiB | 2 GiB | 3 GiB"),
            ((-1.0, 1.0), Unit::Short, "-1 | -0.5 | 0 | 0.5 | 1"),
            ((0.0, 12_000.0), Unit::Short, "0 | 2.5 k | 5 k | 7.5 k | 10 k"),
            ((98.1, 99.3), Unit::Short, "98.25 | 98.5 | 98.75 | 99 | 99.25"),
        ] {
            assert_eq!(labels(&value_ticks(domain, 5, unit)), expected);
        }
    }

    #[test]
    fn odd_domains_give_few_or_no_ticks() {
        for domain in
            [(0.0, 0.0), (1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (1e300, 1.1e300), (1e16, 1e16 + 2.0)]
        {
            assert!(value_ticks(domain, 5, Unit::Short).len() <= 12, "{domain:?}");
            assert!(log_ticks(domain, 5, Unit::Short).len() <= 400, "{domain:?}");
        }
    }

    #[test]
    fn log_ticks_are_powers_of_ten() {
        assert_eq!(labels(&log_ticks((0.5, 2_000.0), 5, Unit::Short)), "1 | 10 | 100 | 1 k");
        assert_eq!(log_ticks((1.0, 1e12), 4, Unit::Short).len(), 5);
    }

    #[test]
    fn times_are_round_where_the_user_lives() {
        let at = |hour: i64| 1_795_219_200_000 + hour * HOUR_MS; // 2026-11-21 00:00 UTC
        assert_eq!(labels(&time_ticks(at(9), at(10), 7, 0)), "09:00 | 09:10 | 09:20 | 09:30 | 09:40 | 09:50 | 10:00");
        assert_eq!(labels(&time_ticks(at(9), at(9) + 20_000, 4, 0)), "09:00:00 | 09:00:10 | 09:00:20");
        assert_eq!(labels(&time_ticks(at(20), at(30), 5, 0)), "21:00 | Nov 22 | 03:00 | 06:00");
        assert_eq!(labels(&time_ticks(at(20), at(30), 5, HOUR_MS)), "21:00 | Nov 22 | 03:00 | 06:00");
        assert_eq!(
            labels(&time_ticks(at(0), at(24 * 6), 8, 0)),
            "Nov 21 | Nov 22 | Nov 23 | Nov 24 | Nov 25 | Nov 26 | Nov 27"
        );
        assert_eq!(labels(&time_ticks(at(0), at(24 * 400), 4, 0)), "2027-01-14 | 2027-05-06 | 2027-08-26 | 2027-12-16");
    }

    #[test]
    fn there_are_never_many_more_lines_than_asked_for() {
        for length in [1, 999, 60_000, 86_400_000, 31_536_000_000, i64::MAX / 2] {
            let ticks = time_ticks(-5, length, 7, -5 * HOUR_MS);
            assert!(ticks.len() <= 8, "{length}: {}", ticks.len());
        }
        assert!(time_ticks(5, 5, 7, 0).is_empty());
        assert!(time_ticks(i64::MIN, i64::MAX, 7, 0).len() <= 8);
    }
}
