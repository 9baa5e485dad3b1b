//! What values mean, and how they are written: bytes, shares, seconds, rates, plain numbers.

/// The unit of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unit {
    /// A number without unit: `1.5 k`.
    #[default]
    Short,
    /// Bytes, in powers of 1024: `1.5 GiB`.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// A share of one, written as percent.
    Ratio,
    /// Seconds: `15 ms`, `2.5 h`.
    Seconds,
    /// Something per second.
    PerSecond,
}

impl Unit {
    /// The factor between neighbouring prefixes; ticks are round multiples of its powers.
    pub(crate) fn base(self) -> f64 {
        match self {
            Self::Bytes | Self::BytesPerSecond => 1024.0,
            _ => 10.0,
        }
    }

    /// Writes a value with as many digits as a reader needs: three significant ones.
    pub(crate) fn format(self, value: f64) -> String {
        self.format_with_step(value, value.abs() / 100.0)
    }

    /// Writes a tick's value so that neighbours `step` apart differ.
    pub(crate) fn format_with_step(self, value: f64, step: f64) -> String {
        if value.is_nan() {
            return "NaN".to_owned();
        }
        if value.is_infinite() {
            return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
        }
        match self {
            Self::Short => scaled(value, step, 1000.0, &["", " k", " M", " G", " T", " P", " E"]),
            Self::PerSecond => scaled(value, step, 1000.0, &["/s", " k/s", " M/s", " G/s", " T/s", " P/s"]),
            Self::Bytes => scaled(value, step, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"]),
            Self::BytesPerSecond => scaled(value, step, 1024.0, &[" B/s", " KiB/s", " MiB/s", " GiB/s", " TiB/s"]),
            Self::Ratio => format!("{}%", decimal(value * 100.0, step * 100.0)),
            Self::Seconds => seconds(value, step),
        }
    }
}

/// Divides by the largest prefix that leaves at least one.
fn scaled(value: f64, step: f64, base: f64, suffixes: &[&str]) -> String {
    let mut power = 0;
    let mut divisor = 1.0;
    while value.abs() / divisor >= base && power + 1 < suffixes.len() {
        divisor *= base;
        power += 1;
    }
    let suffix = if value == 0.0 && base == 1000.0 { suffixes[0] } else { suffixes[power] };
    format!("{}{suffix}", decimal(value / divisor, step / divisor))
}

fn seconds(value: f64, step: f64) -> String {
    const UNITS: [(f64, &str); 7] =
        [(86_400.0, " d"), (3_600.0, " h"), (60.0, " min"), (1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")];
    if value == 0.0 {
        return "0 s".to_owned();
    }
    let unit = UNITS.iter().find(|(length, _)| value.abs() >= *length).unwrap_or(&UNITS[6]);
    format!("{}{}", decimal(value / unit.0, step / unit.0), unit.1)
}

/// Writes a number with the decimals that a difference of `step` needs, without trailing zeros.
fn decimal(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() >= 1e9 || value.abs() < 1e-6 {
        return format!("{value:.2e}");
    }
    let decimals = if step > 0.0 { (-step.log10()).ceil().clamp(0.0, 9.0) as usize } else { 2 };
    // A step of 0.25 needs two decimals where its logarithm says one.
    let decimals =
        if step > 0.0 && !is_multiple(step, 10_f64.powi(-(decimals as i32))) { decimals + 1 } else { decimals };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn is_multiple(step: f64, of: f64) -> bool {
    // Steps that come from a value's own size (a hundredth of it) are not round: a decimal more would be noise.
    let rounded = step / 10_f64.powf(step.log10().floor());
    let is_round = [1.0, 2.0, 2.5, 5.0].iter().any(|nice| (rounded - nice).abs() < 1e-9);
    !is_round || ((step / of).round() - step / of).abs() < 1e-9
}

/// Guesses the unit of a query's result from the names in it, as Prometheus' naming conventions allow.
pub(crate) fn unit_of_query(query: &str) -> Unit {
    let names = query.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let has = |name: &str| names.contains(&name);
    if has("count") || has("histogram_count") || has("count_over_time") || has("changes") || has("resets") {
        return Unit::Short;
    }
    let is_rate = has("rate") || has("irate") || has("deriv");
    let metric = names.iter().find_map(|name| {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        let stem = stem.strip_suffix("_bucket").or_else(|| stem.strip_suffix("_sum")).unwrap_or(stem);
        [("_bytes", Unit::Bytes), ("_seconds", Unit::Seconds), ("_ratio", Unit::Ratio)]
            .into_iter()
            .find(|(suffix, _)| stem.ends_with(suffix))
            .map(|(_, unit)| unit)
    });
    // A quotient of two equal units has none, and is mostly a share.
    if is_quotient(query) {
        let is_mean = names.iter().any(|name| name.ends_with("_sum")) && names.iter().any(|n| n.ends_with("_count"));
        return if is_mean { metric.unwrap_or_default() } else { Unit::Short };
    }
    match (metric, is_rate) {
        (Some(unit), true) if has("histogram_quantile") => unit,
        (Some(Unit::Bytes), true) => Unit::BytesPerSecond,
        (Some(Unit::Seconds), true) => Unit::Short,
        (Some(unit), _) => unit,
        (None, true) => Unit::PerSecond,
        (None, false) => Unit::Short,
    }
}

/// Whether there is a division outside of strings and brackets of labels.
fn is_quotient(query: &str) -> bool {
    let mut quote = None;
    query.chars().any(|c| {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            _ => {}
        }
        quote.is_none() && c == '/'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_prefix() {
        for (unit, value, text) in [
            (Unit::Short, 0.0, "0"),
            (Unit::Short, 1_234.0, "1.23 k"),
            (Unit::Short, -2_500_000.0, "-2.5 M"),
            (Unit::Short, 0.000_5, "0.0005"),
            (Unit::Bytes, 1536.0, "1.5 KiB"),
            (Unit::Bytes, 1023.0, "1023 B"),
            (Unit::Bytes, 0.0, "0 B"),
            (Unit::BytesPerSecond, 10_485_760.0, "10 MiB/s"),
            (Unit::Ratio, 0.1234, "12.3%"),
            (Unit::Ratio, 1.0, "100%"),
            (Unit::Seconds, 0.015, "15 ms"),
            (Unit::Seconds, 5_400.0, "1.5 h"),
            (Unit::Seconds, 0.0, "0 s"),
            (Unit::PerSecond, 12.0, "12/s"),
            (Unit::Short, f64::NAN, "NaN"),
            (Unit::Bytes, f64::NEG_INFINITY, "-Inf"),
            (Unit::Short, 1e30, "1.00e12 E"),
        ] {
            assert_eq!(unit.format(value), text, "{unit:?} {value}");
        }
    }

    #[test]
    fn neighbouring_ticks_differ() {
        assert_eq!(Unit::Short.format_with_step(0.25, 0.25), "0.25");
        assert_eq!(Unit::Short.format_with_step(1_250.0, 250.0), "1.25 k");
        assert_eq!(Unit::Ratio.format_with_step(0.05, 0.05), "5%");
        assert_eq!(Unit::Short.format_with_step(20.0, 10.0), "20");
    }

    #[test]
    fn a_querys_unit_is_read_from_its_names() {
        for (query, unit) in [
            ("system_memory_usage_bytes", Unit::Bytes),
            ("sum(rate(system_disk_io_bytes_total[5m]))", Unit::BytesPerSecond),
            ("rate(http_requests_total[5m])", Unit::PerSecond),
            ("histogram_quantile(0.9, rate(http_request_duration_seconds_bucket[5m]))", Unit::Seconds),
            ("system_filesystem_utilization_ratio", Unit::Ratio),
            ("rate(system_cpu_time_seconds_total[1m])", Unit::Short),
            ("count(system_memory_usage_bytes)", Unit::Short),
            ("a_bytes / b_bytes", Unit::Short),
            ("a_bytes{path=\"/var/log\"}", Unit::Bytes),
            ("rate(x_seconds_sum[1m]) / rate(x_seconds_count[1m])", Unit::Seconds),
            ("up", Unit::Short),
            ("", Unit::Short),
        ] {
            assert_eq!(unit_of_query(query), unit, "{query}");
        }
    }
}
