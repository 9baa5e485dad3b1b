//! The text exposition format, version 0.0.4.

use std::borrow::Cow;

use super::accept::is_plain;
use super::{Kind, Newest, cumulative};

/// Appends the samples of one name and kind.
pub(super) fn push_family(out: &mut String, family: &[&Newest], escape: fn(&str) -> Cow<'_, str>) {
    let Some(first) = family.first() else { return };
    let name = escape(first.labels.metric_name());
    out.push_str("# TYPE ");
    match is_plain(&name) {
        true => out.push_str(&name),
        false => push_quoted(out, &name),
    }
    out.push_str(match first.kind() {
        Kind::Untyped => " untyped\n",
        Kind::Histogram | Kind::GaugeHistogram => " histogram\n",
    });
    for one in family {
        let mut push = |suffix: &str, bound: Option<f64>, value: f64| {
            push_sample(out, one, &format!("{name}{suffix}"), bound, value, escape);
        };
        match &one.histogram {
            None => push("", None, one.value),
            Some(histogram) => {
                for (bound, count) in cumulative(histogram) {
                    push("_bucket", Some(bound), count);
                }
                if histogram.custom.last().is_none_or(|last| *last != f64::INFINITY) {
                    push("_bucket", Some(f64::INFINITY), histogram.count);
                }
                push("_sum", None, histogram.sum);
                push("_count", None, histogram.count);
            }
        }
    }
}

fn push_sample(
    out: &mut String,
    one: &Newest,
    name: &str,
    bound: Option<f64>,
    value: f64,
    escape: fn(&str) -> Cow<'_, str>,
) {
    let mut before = match is_plain(name) {
        true => {
            out.push_str(name);
            '{'
        }
        false => {
            out.push('{');
            push_quoted(out, name);
            ','
        }
    };
    let bound = bound.map(float);
    let labels = one.sent_labels().map(|(name, value)| (escape(name), value));
    for (label, value) in labels.chain(bound.as_deref().map(|bound| (Cow::Borrowed("le"), bound))) {
        out.push(before);
        before = ',';
        match is_plain(&label) {
            true => out.push_str(&label),
            false => push_quoted(out, &label),
        }
        out.push('=');
        push_quoted(out, value);
    }
    // There is always one label: `instance`.
    out.push_str("} ");
    out.push_str(&float(value));
    out.push_str(&format!(" {}\n", one.timestamp_ms));
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Writes a number as Go's general format does: with an exponent when that is below -4 or above 5.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let written = [-0.0, 1.0, 0.0001, 0.000_012, 123_456.0, 1_000_000.0, -1.365_127_168e9, 1e-300, f64::INFINITY];
        let expected = ["0", "1", "0.0001", "1.2e-05", "123456", "1e+06", "-1.365127168e+09", "1e-300", "+Inf"];
        assert_eq!(written.map(float), expected);
    }
}
