//! Which form of an exposition a client takes.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// Text; names are made of letters, digits, `_` and `:`.
    Text,
    /// Text; names may be anything.
    Utf8Text,
    /// Messages behind their lengths; names as in [`Accepted::Text`].
    Protobuf,
    /// Messages behind their lengths; names may be anything.
    Utf8Protobuf,
}

impl Accepted {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::Utf8Text => "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=underscores"
            }
            Self::Utf8Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=allow-utf-8"
            }
        }
    }

    pub(super) fn is_protobuf(self) -> bool {
        matches!(self, Self::Protobuf | Self::Utf8Protobuf)
    }

    /// Returns how names are written.
    pub(super) fn escape(self) -> fn(&str) -> Cow<'_, str> {
        match self {
            Self::Text | Self::Protobuf => underscores,
            Self::Utf8Text | Self::Utf8Protobuf => |name| Cow::Borrowed(name),
        }
    }
}

/// Says whether every client can read the name.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |(i, c): (usize, char)| is_plain_char(c) && !(i == 0 && c.is_ascii_digit());
    !name.is_empty() && name.chars().enumerate().all(plain)
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn underscores(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let fix = |(i, c): (usize, char)| if is_plain_char(c) && !(i == 0 && c.is_ascii_digit()) { c } else { '_' };
    Cow::Owned(name.chars().enumerate().map(fix).collect())
}

/// Picks the form that the client prefers of those that are known; text where it names none of them.
pub(super) fn negotiate(headers: &HeaderMap) -> Accepted {
    let mut clauses: Vec<(f64, &str)> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|clause| (parameter(clause, "q").and_then(|q| q.parse().ok()).unwrap_or(1.0), clause.trim()))
        .collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut utf8 = false;
    for (_, clause) in clauses {
        if let Some(escaping) = parameter(clause, "escaping") {
            utf8 = escaping == "allow-utf-8";
        }
        let kind = clause.split(';').next().unwrap_or("").trim();
        let is = |name, wanted| parameter(clause, name).is_none_or(|have| have == wanted);
        if kind == "application/vnd.google.protobuf"
            && parameter(clause, "proto") == Some("io.prometheus.client.MetricFamily")
            && parameter(clause, "encoding") == Some("delimited")
        {
            return if utf8 { Accepted::Utf8Protobuf } else { Accepted::Protobuf };
        }
        if kind == "text/plain" && is("version", "0.0.4") {
            return if utf8 { Accepted::Utf8Text } else { Accepted::Text };
        }
    }
    if utf8 { Accepted::Utf8Text } else { Accepted::Text }
}

fn parameter<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    clause
        .split(';')
        .skip(1)
        .filter_map(|part| part.split_once('='))
        .find_map(|(have, value)| (have.trim().eq_ignore_ascii_case(name)).then(|| value.trim().trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_form_that_is_known_is_taken() {
        let check = |accept: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers), expected, "{accept}");
        };
        check("*/*", Accepted::Text);
        check("text/plain;version=0.0.4;escaping=allow-utf-8", Accepted::Utf8Text);
        let protobuf = "application/openmetrics-text;version=1.0.0;q=0.9, text/plain; q=0.3, \
                        application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited;q=0.7";
        check(protobuf, Accepted::Protobuf);
        check(
            "text/plain, application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            Accepted::Text,
        );
        assert_eq!(negotiate(&HeaderMap::new()), Accepted::Text);
    }

    #[test]
    fn names_are_made_plain() {
        assert_eq!(underscores("my.metric-가"), "my_metric__");
        assert_eq!(underscores("1up"), "_up");
        assert_eq!(underscores("a:b_1"), "a:b_1");
    }
}
