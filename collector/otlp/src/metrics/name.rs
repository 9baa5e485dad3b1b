//! Metric, unit and label names as the OpenTelemetry-to-Prometheus specification translates them.

use std::borrow::Cow;

use super::{Kind, Strategy};

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
/// With suffixes the unit becomes a word, a monotonic sum ends in `_total` and a gauge of unit `1` in `_ratio`; a part
/// that the name already has is not added again.
#[must_use]
pub fn metric_name(name: &str, unit: &str, kind: Kind, strategy: Strategy) -> String {
    match (strategy.escapes(), strategy.has_suffixes()) {
        (false, false) => name.to_owned(),
        (false, true) => whole_name(name, unit, kind),
        (true, suffixes) => {
            let escaped = if suffixes { suffixed_name(name, unit, kind) } else { plain_name(name) };
            // Of a name in another script nothing is left that tells it from others.
            if escaped != name && escaped.bytes().all(|byte| byte == b'_') { String::new() } else { escaped }
        }
    }
}

fn suffixed_name(name: &str, unit: &str, kind: Kind) -> String {
    let mut tokens: Vec<&str> = name.split(|c: char| !is_metric_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = unit_words(unit);
    let (main, per) = (clean(&main), clean(&per));
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(&main);
    }
    if !per.is_empty() && !tokens.contains(&per.as_str()) {
        tokens.push("per");
        tokens.push(&per);
    }
    if let Some(last) = kind_suffix(unit, kind) {
        tokens.retain(|token| *token != last);
        tokens.push(last);
    }
    digit_guarded(tokens.join("_"))
}

fn kind_suffix(unit: &str, kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        Kind::Gauge | Kind::UpDownCounter | Kind::Histogram | Kind::Summary => None,
    }
}

/// The name with suffixes, every character kept.
fn whole_name(name: &str, unit: &str, kind: Kind) -> String {
    let (main, per) = unit_words(unit);
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    let last = kind_suffix(unit, kind).unwrap_or_default();
    // Suffixes that are there already are taken off, outermost first, and put on again in the same order.
    let mut kept = without_suffix(name, last);
    kept = without_suffix(kept, &per);
    let mut out = kept.to_owned();
    if !out.ends_with(&main) {
        out.push('_');
        out.push_str(&main);
    }
    for suffix in [per.as_str(), last].into_iter().filter(|suffix| !suffix.is_empty()) {
        out.push('_');
        out.push_str(suffix);
    }
    out
}

/// Takes off a suffix and the one character before it, when something is left then.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    if suffix.is_empty() {
        return name;
    }
    let Some(rest) = name.strip_suffix(suffix) else { return name };
    match rest.char_indices().next_back() {
        Some((at, _)) if at > 0 => rest.get(..at).unwrap_or(name),
        _ => name,
    }
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn plain_name(name: &str) -> String {
    let parts = name.split(|c: char| !is_metric_char(c) && c != '_').filter(|part| !part.is_empty());
    digit_guarded(parts.collect::<Vec<_>>().join("_"))
}

fn digit_guarded(mut name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// Joins what a metric's name may hold by single underscores.
fn clean(word: &str) -> String {
    word.split(|c: char| !is_metric_char(c)).filter(|token| !token.is_empty()).collect::<Vec<_>>().join("_")
}

/// Returns the unit as Prometheus' metadata has it: `seconds`, `bytes_per_second`; empty for none.
#[must_use]
pub fn unit_name(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    let (main, per) = (clean(&main), clean(&per));
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
        table.iter().find(|(unit, _)| *unit == part).map_or(part, |(_, word)| *word).to_owned()
    };
    (word(main, UNITS), word(per, PER_UNITS))
}

/// How attribute keys become label names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelNaming {
    /// Whether every character but `[A-Za-z0-9_]` becomes `_`, and a name that starts with a digit gets `key_` in front.
    /// Without it names are kept as they are.
    pub escape: bool,
    /// Whether an escaped name that starts with a single underscore gets `key` in front.
    pub key_prefix: bool,
    /// Whether runs of underscores stay in escaped names; else they become one, but at both ends of `__name__`.
    pub keep_underscores: bool,
}

impl Default for LabelNaming {
    fn default() -> Self {
        Self { escape: true, key_prefix: true, keep_underscores: true }
    }
}

impl LabelNaming {
    /// Returns an attribute's name as a label name.
    #[must_use]
    pub fn name(self, key: &str) -> Cow<'_, str> {
        if !self.escape {
            return Cow::Borrowed(key);
        }
        if self.keep_underscores || !has_run(key) {
            return self.prefixed(key);
        }
        let inner = key.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
        let collapsed = collapse(inner.unwrap_or(key));
        match inner {
            Some(_) => Cow::Owned(format!("__{collapsed}__")),
            None => Cow::Owned(self.prefixed(&collapsed).into_owned()),
        }
    }

    fn prefixed(self, key: &str) -> Cow<'_, str> {
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let mut first_two = key.chars().map(escaped);
        let prefix = match (first_two.next(), first_two.next()) {
            (Some(first), _) if first.is_ascii_digit() => "key_",
            (Some('_'), second) if self.key_prefix && second != Some('_') => "key",
            _ => "",
        };
        if plain && prefix.is_empty() {
            return Cow::Borrowed(key);
        }
        let mut out = String::with_capacity(prefix.len() + key.len());
        out.push_str(prefix);
        out.extend(key.chars().map(escaped));
        Cow::Owned(out)
    }
}

fn escaped(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}

/// Says whether two characters that become underscores follow each other.
fn has_run(key: &str) -> bool {
    let mut last = 'a';
    key.chars().map(escaped).any(|c| {
        let run = c == '_' && last == '_';
        last = c;
        run
    })
}

fn collapse(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for c in key.chars().map(escaped) {
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out
}

/// Returns an attribute's name as a label name: every character but `[A-Za-z0-9_]` becomes `_`, a name that starts with
/// a digit gets `key_` in front, one that starts with a single underscore `key`.
#[must_use]
pub fn label_name(key: &str) -> Cow<'_, str> {
    LabelNaming::default().name(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, unit: &str, kind: Kind, expected: &str) {
        assert_eq!(metric_name(name, unit, kind, Strategy::default()), expected);
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
        let plain = |name| metric_name(name, "s", Kind::Counter, Strategy::UnderscoreEscapingWithoutSuffixes);
        assert_eq!([plain("a.b__c"), plain("..a--"), plain("결제"), plain("_")], ["a_b__c", "a", "", "_"]);
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

    #[test]
    fn whole_names_keep_every_character() {
        let name = |name, unit, kind| metric_name(name, unit, kind, Strategy::NoUtf8EscapingWithSuffixes);
        assert_eq!(name("http.server.duration", "s", Kind::Histogram), "http.server.duration_seconds");
        assert_eq!(name("http.server.requests", "{request}", Kind::Counter), "http.server.requests_total");
        assert_eq!(name("jobs.total", "1", Kind::Counter), "jobs_total");
        assert_eq!(name("duration.seconds", "s", Kind::Gauge), "duration.seconds");
        assert_eq!(name("io.bytes", "By/s", Kind::Counter), "io.bytes_per_second_total");
        assert_eq!(name("cpu", "1", Kind::Gauge), "cpu_ratio");
        assert_eq!(name("결제", "m/h", Kind::Gauge), "결제_meters_per_hour");
        assert_eq!(name("total", "", Kind::Counter), "total_total");
        assert_eq!(metric_name("a.b 결제", "s", Kind::Counter, Strategy::NoTranslation), "a.b 결제");
    }

    #[test]
    fn label_names_can_be_kept_or_made_tidier() {
        let whole = LabelNaming { escape: false, ..LabelNaming::default() };
        assert_eq!(whole.name("http.method"), "http.method");
        let no_key = LabelNaming { key_prefix: false, ..LabelNaming::default() };
        assert_eq!((no_key.name("_a"), no_key.name("0a")), ("_a".into(), "key_0a".into()));
        let tidy = LabelNaming { keep_underscores: false, ..LabelNaming::default() };
        let cases = [("a..b", "a_b"), ("a__b_", "a_b_"), ("__a__", "__a__"), ("__a..b__", "__a_b__"), ("..a", "key_a")];
        for (key, expected) in cases {
            assert_eq!(tidy.name(key), expected);
        }
    }
}
