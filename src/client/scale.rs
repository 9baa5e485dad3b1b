//! Ticks and units of axes.

/// What a value measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Unit {
    /// A plain number: 1.2 k
    Plain,
    /// Bytes: 1.5 MiB
    Bytes,
    /// Bytes per second: 1.5 MiB/s
    BytesPerSecond,
    /// Seconds: 250 ms
    Seconds,
    /// A ratio of 1: 12.5 %
    Percent,
}

impl Unit {
    /// Guesses a unit from the names in a query: `_bytes`, `_seconds` and `_ratio` say what is measured, `rate` makes
    /// it per second. Names that disagree, or a ratio of two, are plain.
    pub(crate) fn guess(query: &str) -> Self {
        let mut found = None;
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for word in words {
            let stem =
                ["_total", "_sum", "_count", "_bucket"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            let unit = [("_bytes", Self::Bytes), ("_seconds", Self::Seconds), ("_ratio", Self::Percent)]
                .into_iter()
                .find_map(|(end, unit)| stem.ends_with(end).then_some(unit));
            // A histogram's count and buckets count events, whatever the histogram measures.
            let unit = if word.ends_with("_count") { Some(Self::Plain) } else { unit };
            match (found, unit) {
                (_, None) => {}
                (None, unit) => found = unit,
                (Some(have), Some(unit)) if have == unit => {}
                _ => return Self::Plain,
            }
        }
        let rated = ["rate(", "deriv("].iter().any(|function| query.contains(function));
        let quantile = query.contains("histogram_quantile(");
        match found {
            _ if query.contains('/') => Self::Plain,
            Some(Self::Bytes) if rated && !quantile => Self::BytesPerSecond,
            Some(Self::Seconds) if rated && !quantile => Self::Plain,
            found => found.unwrap_or(Self::Plain),
        }
    }

    /// Writes `value` with the unit and a fitting prefix, in about four characters and the unit.
    pub(crate) fn format(self, value: f64) -> String {
        if !value.is_finite() {
            return query_wire::prometheus::format_value(value);
        }
        match self {
            Self::Plain => prefixed(value, 1000.0, &["", " k", " M", " G", " T", " P"]),
            Self::Bytes => prefixed(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"]),
            Self::BytesPerSecond => {
                prefixed(value, 1024.0, &[" B/s", " KiB/s", " MiB/s", " GiB/s", " TiB/s", " PiB/s"])
            }
            Self::Percent => format!("{} %", short(value * 100.0)),
            Self::Seconds => seconds(value),
        }
    }

    /// Returns what the base of the unit's prefixes is.
    fn base(self) -> f64 {
        if matches!(self, Self::Bytes | Self::BytesPerSecond) { 1024.0 } else { 1000.0 }
    }
}

fn seconds(value: f64) -> String {
    let abs = value.abs();
    let (scale, unit) = match abs {
        0.0 => (1.0, "s"),
        abs if abs < 1e-6 => (1e9, "ns"),
        abs if abs < 1e-3 => (1e6, "µs"),
        abs if abs < 1.0 => (1e3, "ms"),
        abs if abs < 600.0 => (1.0, "s"),
        abs if abs < 36_000.0 => (1.0 / 60.0, "min"),
        abs if abs < 864_000.0 => (1.0 / 3600.0, "h"),
        _ => (1.0 / 86_400.0, "d"),
    };
    format!("{} {unit}", short(value * scale))
}

fn prefixed(value: f64, base: f64, prefixes: &[&str]) -> String {
    let mut scaled = value;
    let mut index = 0;
    while scaled.abs() >= base && index + 1 < prefixes.len() {
        scaled /= base;
        index += 1;
    }
    format!("{}{}", short(scaled), prefixes[index])
}

/// Writes a number in about four significant digits.
fn short(value: f64) -> String {
    let abs = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e7).contains(&abs) {
        return format!("{value:.2e}");
    }
    let decimals = if abs >= 1000.0 {
        0
    } else if abs >= 100.0 {
        1
    } else if abs >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Largest value that an axis shows.
const VALUE_MAX: f64 = 1e300;

/// Returns at most about `count` round values from below `low` to above `high`, ascending, at least two.
pub(crate) fn value_ticks(low: f64, high: f64, count: usize, unit: Unit) -> Vec<f64> {
    // Steps beyond a double's range or precision would not be steps.
    let (low, high) = (low.clamp(-VALUE_MAX, VALUE_MAX), high.clamp(-VALUE_MAX, VALUE_MAX));
    let enough = low.abs().max(high.abs()) * 1e-9;
    let (low, high) = if high - low > enough { (low, high) } else { widen(low) };
    let step = round_step((high - low) / as_f64(count.max(1)), unit);
    let first = (low / step).floor();
    let mut ticks = Vec::new();
    for index in 0..=count + 2 {
        let tick = (first + as_f64(index)) * step;
        ticks.push(tick);
        if tick >= high {
            break;
        }
    }
    ticks
}

/// Returns a range around a single value.
fn widen(value: f64) -> (f64, f64) {
    let by = if value == 0.0 { 1.0 } else { value.abs() * 0.1 };
    (value - by, value + by)
}

/// Returns the smallest of 1, 2, 5 times a power that is not below `rough`.
fn round_step(rough: f64, unit: Unit) -> f64 {
    // Below 1024 bytes, decimal steps are rounder than fractions of 1024.
    if unit.base() > 1000.0 && rough >= 1024.0 {
        let power = 1024_f64.powf(rough.log(1024.0).floor());
        let factors = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
        return factors.into_iter().map(|f| f * power).find(|step| *step >= rough).unwrap_or(power * 1024.0);
    }
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|f| f * power).find(|step| *step >= rough * 0.999_999).unwrap_or(power * 10.0)
}

fn as_f64(n: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of ticks or columns")]
    let n = n as f64;
    n
}

/// Steps of a time axis, in milliseconds.
const TIME_STEPS_MS: [i64; 26] = [
    1,
    10,
    100,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    604_800_000,
    2_592_000_000,
    31_536_000_000,
];

/// Returns round times inside [start, end], at most about `count`, and how to write them (for `chrono`).
pub(crate) fn time_ticks(start_ms: i64, end_ms: i64, count: usize) -> (Vec<i64>, &'static str) {
    let span = end_ms.saturating_sub(start_ms).max(1);
    let count = i64::try_from(count.max(1)).unwrap_or(1);
    let step = TIME_STEPS_MS.into_iter().find(|step| span / step <= count).unwrap_or(span / count);
    let format = match step {
        ..1_000 => "%H:%M:%S%.3f",
        1_000..60_000 => "%H:%M:%S",
        60_000..86_400_000 if span <= 86_400_000 => "%H:%M",
        60_000..86_400_000 => "%m-%d %H:%M",
        _ => "%Y-%m-%d",
    };
    let mut ticks = Vec::new();
    let mut tick = start_ms.div_euclid(step).saturating_mul(step);
    while tick <= end_ms {
        if tick >= start_ms {
            ticks.push(tick);
        }
        let Some(next) = tick.checked_add(step) else { break };
        tick = next;
    }
    (ticks, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_have_their_unit() {
        let check = |unit: Unit, value: f64, text: &str| assert_eq!(unit.format(value), text);
        check(Unit::Plain, 0.0, "0");
        check(Unit::Plain, 1234.0, "1.23 k");
        check(Unit::Plain, -0.25, "-0.25");
        check(Unit::Plain, 1e-9, "1.00e-9");
        check(Unit::Plain, 1e300, "1.00e285 P");
        check(Unit::Bytes, 1536.0, "1.5 KiB");
        check(Unit::BytesPerSecond, 5.0, "5 B/s");
        check(Unit::Percent, 0.125, "12.5 %");
        check(Unit::Seconds, 0.25, "250 ms");
        check(Unit::Seconds, 7200.0, "120 min");
        check(Unit::Seconds, f64::NAN, "NaN");
    }

    #[test]
    fn units_are_guessed_from_the_names() {
        let check = |query: &str, unit: Unit| assert_eq!(Unit::guess(query), unit, "{query}");
        check("up", Unit::Plain);
        check("process_resident_memory_bytes", Unit::Bytes);
        check("rate(node_network_receive_bytes_total[5m])", Unit::BytesPerSecond);
        check("rate(node_cpu_seconds_total[5m])", Unit::Plain);
        check("histogram_quantile(0.9, rate(http_request_duration_seconds_bucket[5m]))", Unit::Seconds);
        check("rate(http_request_duration_seconds_count[5m])", Unit::Plain);
        check("a_bytes / b_bytes", Unit::Plain);
        check("a_bytes + b_seconds", Unit::Plain);
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(value_ticks(0.3, 9.2, 5, Unit::Plain), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(value_ticks(5.0, 5.0, 2, Unit::Plain), [4.5, 5.0, 5.5]);
        assert_eq!(value_ticks(0.0, 6000.0, 3, Unit::Bytes), [0.0, 2048.0, 4096.0, 6144.0]);
        for (low, high) in [(0.0, 1e300), (-1e-300, 1e-300), (f64::MIN, f64::MAX), (1.0, 1.0 + f64::EPSILON)] {
            let ticks = value_ticks(low, high, 5, Unit::Plain);
            assert!(ticks.len() >= 2 && ticks.len() <= 9, "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn times_are_round() {
        let (ticks, format) = time_ticks(30_000, 3_630_000, 6);
        assert_eq!((ticks, format), (vec![600_000, 1_200_000, 1_800_000, 2_400_000, 3_000_000, 3_600_000], "%H:%M"));
        assert_eq!(time_ticks(0, 7 * 86_400_000, 8).1, "%Y-%m-%d");
        assert!(time_ticks(i64::MIN, i64::MAX, 5).0.len() < 20);
    }
}
