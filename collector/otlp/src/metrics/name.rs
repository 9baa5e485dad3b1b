//! Metric, unit and label names as the OpenTelemetry-to-Prometheus specification translates them.

use std::borrow::Cow;

use super::Kind;

/// UCUM units and the words that Prometheus' naming practice asks for.
const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units after the slash of `By/s`.
const PER_UNITS: &[(&str, &str)] =
    &[("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// Returns the Prometheus name of an OTLP metric; empty when nothing of the name can be kept.
///
/// With `suffixes` the unit becomes a word, a monotonic sum ends in `_total` and a gauge of unit `1` in `_ratio`; a part
/// that the name already has is not added again.
#[must_use]
pub fn metric_name(name: &str, unit: &str, kind: Kind, suffixes: bool) -> String {
    if !suffixes {
        return plain_name(name);
    }
    let mut tokens: Vec<&str> = name.split(|c: char| !is_metric_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = unit_words(unit);
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(&main);
    }
    if !per.is_empty() && !tokens.contains(&per.as_str()) {
        tokens.push("per");
        tokens.push(&per);
    }
    let last = match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        Kind::Gauge | Kind::UpDownCounter | Kind::Histogram | Kind::Summary => None,
    };
    if let Some(last) = last {
        if let Some(at) = tokens.iter().position(|token| *token == last) {
            tokens.remove(at);
        }
        tokens.push(last);
    }
    let mut out = tokens.join("_");
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn plain_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(name.chars().map(|c| if is_metric_char(c) || c == '_' { c } else { '_' }));
    out
}

/// Returns the unit as Prometheus' metadata has it: `seconds`, `bytes_per_second`; empty for none.
#[must_use]
pub fn unit_name(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    match (main.is_empty(), per.is_empty()) {
        (_, true) => main,
        (true, false) => format!("per_{per}"),
        (false, false) => format!("{main}_per_{per}"),
    }
}

/// Returns the words before and after "per"; annotations in braces (`{request}`) give none.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |part: &str, table: &[(&str, &str)]| {
        let part = part.trim();
        if part.contains(['{', '}']) {
            return String::new();
        }
        let word = table.iter().find(|(unit, _)| *unit == part).map_or(part, |(_, word)| *word);
        word.split(|c: char| !is_metric_char(c)).filter(|token| !token.is_empty()).collect::<Vec<_>>().join("_")
    };
    (word(main, UNITS), word(per, PER_UNITS))
}

/// Returns an attribute's name as a label name: every character but `[A-Za-z0-9_]` becomes `_`, a name that starts with
/// a digit gets `key_` in front, one that starts with a single underscore `key`.
#[must_use]
pub fn label_name(key: &str) -> Cow<'_, str> {
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let mut first_two = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let prefix = match (first_two.next(), first_two.next()) {
        (Some(first), _) if first.is_ascii_digit() => "key_",
        (Some('_'), second) if second != Some('_') => "key",
        _ => "",
    };
    if plain && prefix.is_empty() {
        return Cow::Borrowed(key);
    }
    let mut out = String::with_capacity(prefix.len() + key.len());
    out.push_str(prefix);
    out.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, unit: &str, kind: Kind, expected: &str) {
        assert_eq!(metric_name(name, unit, kind, true), expected);
    }

    #[test]
    fn units_become_words() {
        check("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds");
        check("system.memory.usage", "By", Kind::UpDownCounter, "system_memory_usage_bytes");
        check("system.network.io", "By", Kind::Counter, "system_network_io_bytes_total");
        check("rate", "By/s", Kind::Gauge, "rate_bytes_per_second");
        check("speed", "km/h", Kind::Gauge, "speed_km_per_hour");
        check("temp", "Cel", Kind::Gauge, "temp_celsius");
        check("requests", "{request}", Kind::Counter, "requests_total");
        check("requests", "{request}/s", Kind::Gauge, "requests_per_second");
    }

    #[test]
    fn what_the_name_has_is_not_added_again() {
        check("http_request_duration_seconds", "s", Kind::Histogram, "http_request_duration_seconds");
        check("jobs_total", "", Kind::Counter, "jobs_total");
        check("total_jobs", "", Kind::Counter, "jobs_total");
        check("bytes_per_second", "By/s", Kind::Gauge, "bytes_per_second");
    }

    #[test]
    fn ratios_are_for_gauges_only() {
        check("cpu.utilization", "1", Kind::Gauge, "cpu_utilization_ratio");
        check("queue.length", "1", Kind::UpDownCounter, "queue_length");
        check("hits", "1", Kind::Counter, "hits_total");
    }

    #[test]
    fn awkward_names_become_valid() {
        check("0xcafe", "", Kind::Gauge, "_0xcafe");
        check("a..b--c", "", Kind::Gauge, "a_b_c");
        check("ns:rule", "", Kind::Gauge, "ns:rule");
        check("결제", "", Kind::Gauge, "");
        assert_eq!(metric_name("a.b__c", "s", Kind::Counter, false), "a_b__c");
        assert_eq!(unit_name("By/s"), "bytes_per_second");
        assert_eq!(unit_name("1"), "");
    }

    #[test]
    fn labels_are_sanitised() {
        let cases = [("http.method", "http_method"), ("a", "a"), ("0a", "key_0a"), ("_a", "key_a"), ("__a", "__a")];
        for (key, expected) in cases {
            assert_eq!(label_name(key), expected);
        }
        assert_eq!(label_name(".a"), "key_a");
        assert_eq!(label_name("결제"), "__");
    }
}
