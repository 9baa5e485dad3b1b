//! Puts log queries together from what the user picked, and takes apart what is needed of theirs.

use super::token::{TokenKind, tokens};
use crate::state::severity::Severity;

/// One test on a label or field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The label.
    pub name: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub op: &'static str,
    /// The value or pattern.
    pub value: String,
}

/// The operators, the longer ones first where one is the start of another.
pub(crate) const OPERATORS: [&str; 4] = ["=", "!=", "=~", "!~"];

impl Filter {
    /// A filter for a value, or out of it.
    pub(crate) fn new(name: &str, op: &'static str, value: &str) -> Self {
        Self { name: name.to_owned(), op, value: value.to_owned() }
    }

    fn text(&self) -> String {
        format!("{}{}{}", self.name, self.op, quote(&self.value))
    }
}

/// Reads the filters that a URL holds: one a line, `name=value`.
pub(crate) fn filters_from_param(text: &str) -> Vec<Filter> {
    let filters = text.lines().filter_map(|line| {
        let at = line.find(['=', '!'])?;
        let (name, rest) = line.split_at_checked(at)?;
        let op = ["!=", "=~", "!~", "="].into_iter().find(|op| rest.starts_with(op))?;
        let value = unescape(rest.strip_prefix(op)?);
        is_name(name).then(|| Filter::new(name, op, &value))
    });
    filters.collect()
}

/// Writes filters for a URL.
pub(crate) fn filters_to_param(filters: &[Filter]) -> String {
    let lines = filters.iter().map(|f| {
        let value = f.value.replace('\\', "\\\\").replace('\n', "\\n");
        format!("{}{}{value}", f.name, f.op)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What the builder holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Builder {
    /// Tests on the stream's labels.
    pub stream: Vec<Filter>,
    /// Tests on a record's fields: structured metadata and what was parsed.
    pub fields: Vec<Filter>,
    /// Text that a line must have, whatever the case.
    pub text: String,
    /// Severities to show; none means all.
    pub severities: Vec<Severity>,
}

/// Selects every stream, also those without a name of a service; Loki itself takes no such selector.
pub(crate) const ALL_STREAMS: &str = "{}";

impl Builder {
    /// Returns the LogQL.
    pub(crate) fn query(&self) -> String {
        let tests: Vec<String> = self.stream.iter().map(Filter::text).collect();
        // A selector whose every matcher could match nothing is refused.
        let is_selector = self.stream.iter().any(|f| matches!(f.op, "=" | "=~") && !f.value.is_empty());
        let mut query = if is_selector {
            format!("{{{}}}", tests.join(", "))
        } else {
            let stages: String = tests.iter().map(|test| format!(" | {test}")).collect();
            format!("{ALL_STREAMS}{stages}")
        };
        if !self.text.is_empty() {
            query.push_str(&text_stage(&self.text));
        }
        if !self.severities.is_empty() {
            query.push_str(&severity_stage(&self.severities));
        }
        for field in &self.fields {
            query.push_str(&format!(" | {}", field.text()));
        }
        query
    }
}

/// Returns the stage that keeps lines with `text`. Upper case letters make it exact, as many editors do it.
fn text_stage(text: &str) -> String {
    if text.chars().any(char::is_uppercase) || !text.chars().any(char::is_alphabetic) {
        format!(" |= {}", quote(text))
    } else {
        format!(" |~ {}", quote(&format!("(?i){}", escape_regex(text))))
    }
}

/// Returns the stage that keeps records of these severities, however they are spelt and whatever tells them: the level that is
/// made of all that may is the text that came, where it is not one of the common words.
pub(crate) fn severity_stage(severities: &[Severity]) -> String {
    let mut spellings: Vec<&str> = severities.iter().flat_map(|severity| severity.spellings()).copied().collect();
    if severities.contains(&Severity::Unset) {
        spellings.push("");
    }
    // The digit is for OpenTelemetry's finer steps: `WARN3`.
    let pattern = format!("(?i)({})[0-9]?", spellings.join("|"));
    format!(" | detected_level=~{}", quote(&pattern))
}

/// Returns the query with a further stage for `filter`; a metric query is returned as it is.
pub(crate) fn add_filter(query: &str, filter: &Filter) -> String {
    if !is_log_query(query) {
        return query.to_owned();
    }
    format!("{} | {}", query.trim_end(), filter.text())
}

/// Whether a query starts with a stream selector, so that it gives lines and not samples.
pub(crate) fn is_log_query(query: &str) -> bool {
    let first = tokens(query).into_iter().find(|t| !matches!(t.kind, TokenKind::Space | TokenKind::Comment));
    first.is_some_and(|token| token.text == "{")
}

/// Returns the query that counts the lines of `query` by severity in each step.
pub(crate) fn volume_query(query: &str, step_ms: i64) -> String {
    format!("sum by (severity_text, detected_level) (count_over_time({query}[{step_ms}ms]))")
}

/// Returns the texts that a query's line filters look for, to mark them in the lines; patterns only if they are plain.
pub(crate) fn needles(query: &str) -> Vec<String> {
    let tokens: Vec<_> = tokens(query).into_iter().filter(|t| t.kind != TokenKind::Space).collect();
    let pairs = tokens.windows(2).filter(|pair| pair[1].kind == TokenKind::Text);
    let found = pairs.filter_map(|pair| {
        let text = unquote(pair[1].text);
        match pair[0].text {
            "|=" => Some(text),
            "|~" => plain_pattern(&text),
            _ => None,
        }
    });
    found.filter(|needle| !needle.is_empty()).collect()
}

/// Returns what a pattern looks for when it has no operators but escapes.
fn plain_pattern(pattern: &str) -> Option<String> {
    let pattern = pattern.strip_prefix("(?i)").unwrap_or(pattern);
    let mut plain = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|c| !c.is_alphanumeric())?),
            c if META.contains(c) => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

const META: &str = r"\.+*?()|[]{}^$";

/// Puts a backslash before each operator of a regular expression.
pub(crate) fn escape_regex(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if META.contains(c) {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

/// Writes a text in quotes, as LogQL and PromQL read it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn unquote(text: &str) -> String {
    let mut chars = text.chars();
    let Some(quote) = chars.next() else { return String::new() };
    let inner = chars.as_str().strip_suffix(quote).unwrap_or(chars.as_str());
    if quote == '`' {
        return inner.to_owned();
    }
    unescape(inner)
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

/// Whether a label can be named so in a query.
pub(crate) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_builder_asks_for_everything() {
        assert_eq!(Builder::default().query(), ALL_STREAMS);
    }

    #[test]
    fn the_parts_become_stages() {
        let builder = Builder {
            stream: vec![Filter::new("service_name", "=", "a\"b"), Filter::new("host_name", "!~", "x.*")],
            fields: vec![Filter::new("trace_id", "=", "1f")],
            text: "time out (5s)".to_owned(),
            severities: vec![Severity::Error],
        };
        assert_eq!(
            builder.query(),
            r#"{service_name="a\"b", host_name!~"x.*"} |~ "(?i)time out \\(5s\\)" | detected_level=~"(?i)(error|err|severe|e)[0-9]?" | trace_id="1f""#
        );
    }

    #[test]
    fn a_selector_that_matches_nothing_in_particular_becomes_stages() {
        let builder = Builder { stream: vec![Filter::new("a", "!=", "b")], ..Builder::default() };
        assert_eq!(builder.query(), r#"{} | a!="b""#);
    }

    #[test]
    fn upper_case_makes_the_text_exact() {
        assert_eq!(text_stage("OOMKilled"), r#" |= "OOMKilled""#);
        assert_eq!(text_stage("42"), r#" |= "42""#);
    }

    #[test]
    fn what_the_builder_looks_for_is_marked() {
        for text in ["time out (5s)", "OOMKilled", "a\\b \"c\"", "결제"] {
            let query = Builder { text: text.to_owned(), ..Builder::default() }.query();
            assert_eq!(needles(&query), [text], "{query}");
        }
        assert_eq!(needles(r#"{a="b"} |= `x\y` != "no" |~ "c.*d" | json"#), [r"x\y"]);
    }

    #[test]
    fn filters_survive_the_url() {
        let filters = vec![
            Filter::new("a", "=", "b=c"),
            Filter::new("b", "!~", "line\nbreak \\n"),
            Filter::new("c", "!=", ""),
            Filter::new("d", "=~", "~x"),
        ];
        assert_eq!(filters_from_param(&filters_to_param(&filters)), filters);
        assert_eq!(filters_from_param("no-name=1\n=x\nabc\n\na!b"), []);
    }

    #[test]
    fn log_queries_are_told_from_metric_queries() {
        assert!(is_log_query(" # note\n {a=\"b\"} | json"));
        assert!(!is_log_query("sum(rate({a=\"b\"}[1m]))"));
        assert!(!is_log_query(""));
        assert_eq!(add_filter("{a=\"b\"} ", &Filter::new("c", "!=", "d")), r#"{a="b"} | c!="d""#);
        assert_eq!(add_filter("count_over_time({}[1m])", &Filter::new("c", "=", "d")), "count_over_time({}[1m])");
    }
}
