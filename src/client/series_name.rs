//! A label set as text: `http_requests_total{code="200"}`.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Writes a series' labels as a selector that would find it; names that are not plain words are quoted.
pub(crate) fn series_name(labels: &BTreeMap<String, String>) -> String {
    let metric = labels.get("__name__").map(String::as_str).unwrap_or_default();
    let mut parts = Vec::new();
    if !metric.is_empty() && !is_metric_name(metric) {
        parts.push(quoted(metric));
    }
    for (name, value) in labels.iter().filter(|(name, _)| *name != "__name__") {
        let name = if is_label_name(name) { name.clone() } else { quoted(name) };
        parts.push(format!("{name}={}", quoted(value)));
    }
    let metric = if is_metric_name(metric) { metric } else { "" };
    if parts.is_empty() && !metric.is_empty() { metric.to_owned() } else { format!("{metric}{{{}}}", parts.join(", ")) }
}

fn is_label_name(name: &str) -> bool {
    name.bytes().enumerate().all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()))
        && !name.is_empty()
}

fn is_metric_name(name: &str) -> bool {
    is_label_name(&name.replace(':', "_"))
}

/// Writes text in double quotes, with backslashes where needed.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)).expect("writing to a String succeeds"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[(&str, &str)], expected: &str) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(series_name(&labels), expected);
    }

    #[test]
    fn names_read_as_selectors() {
        check(&[], "{}");
        check(&[("__name__", "up")], "up");
        check(&[("__name__", "job:up:sum"), ("job", "a\"b\\\n")], "job:up:sum{job=\"a\\\"b\\\\\\n\"}");
        check(&[("__name__", "http.requests"), ("k8s.pod", "x")], "{\"http.requests\", \"k8s.pod\"=\"x\"}");
        check(&[("a", "\u{1b}")], "{a=\"\\u001b\"}");
    }
}
