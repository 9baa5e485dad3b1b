//! What the index may be asked for: conditions that every wanted row fulfils.

use model::{MatchOp, Matcher, TimeRange};
use storage_api::{LogQuerier, LogSelect, Needle, QueryContext};

use crate::ast::{LabelFilter, LineFilter, LineNeedle, LogExpr, Stage};
use crate::error::Result;
use crate::literals;

/// Most needles of one query; the rest is left to the filters.
const NEEDLES_MAX: usize = 32;

/// Labels that have a column of their own.
const ID_FIELDS: [&str; 2] = ["trace_id", "span_id"];

/// Works out what the store must give for a query's lines in `range`.
///
/// # Errors
/// As the store's `streams`, which is asked where a stream's own label might stand for a field.
pub fn log_select(
    log: &LogExpr,
    range: TimeRange,
    with_metadata: bool,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<LogSelect> {
    let mut needles = Vec::new();
    let mut parsed = false;
    for stage in &log.stages {
        match stage {
            Stage::LineFilter(filter) => line_needles(filter, &mut needles),
            // From here on the line is another one.
            Stage::LineFormat(_) | Stage::Unpack | Stage::Decolorize => break,
            Stage::Json(_) | Stage::Logfmt { .. } | Stage::Regexp(_) | Stage::Pattern(_) => parsed = true,
            Stage::LabelFilter(filter) => {
                for matcher in conditions(filter) {
                    // A parser may resolve escapes, but hexadecimal digits are not escaped by anyone.
                    let plain = || is_id(matcher) && matcher.value.bytes().all(|c| c.is_ascii_hexdigit());
                    if (!parsed || plain()) && !is_stream_label(&matcher.name, log, range, logs, context)? {
                        needles.push(Needle::Field { name: matcher.name.clone(), value: matcher.value.clone() });
                    }
                }
            }
            Stage::Drop(_) | Stage::Keep(_) => {}
            Stage::LabelFormat(_) => break,
        }
    }
    needles.truncate(NEEDLES_MAX);
    Ok(LogSelect { matchers: log.matchers.clone(), range, needles, with_metadata, without_lines: false })
}

/// Returns a field and the value that it has in the metadata of every row which passes, in streams without a label of this
/// name. Behind a parser it might be a label out of the line.
pub(super) fn wanted_field(log: &LogExpr) -> Option<(&str, &str)> {
    let first = log.stages.iter().find(|stage| !matches!(stage, Stage::LineFilter(_)));
    match first {
        Some(Stage::LabelFilter(LabelFilter::Text(matcher))) if is_id(matcher) => Some((&matcher.name, &matcher.value)),
        _ => None,
    }
}

/// Returns what a label filter asks of every row that passes: equality with a text, of a label that is not about errors.
fn conditions(filter: &LabelFilter) -> Vec<&Matcher> {
    match filter {
        LabelFilter::Text(matcher) => {
            let is_equality = matcher.op == MatchOp::Equal && !matcher.value.is_empty();
            Vec::from_iter((is_equality && !matcher.name.starts_with("__")).then_some(matcher))
        }
        LabelFilter::And(a, b) => conditions(a).into_iter().chain(conditions(b)).collect(),
        _ => Vec::new(),
    }
}

fn is_id(matcher: &Matcher) -> bool {
    matcher.op == MatchOp::Equal && ID_FIELDS.contains(&matcher.name.as_str()) && matcher.value.len() >= 8
}

fn is_stream_label(
    name: &str,
    log: &LogExpr,
    range: TimeRange,
    logs: &dyn LogQuerier,
    context: &QueryContext,
) -> Result<bool> {
    let mut selector = log.matchers.clone();
    match Matcher::new(name, MatchOp::NotEqual, "") {
        Ok(matcher) => selector.push(matcher),
        Err(_) => return Ok(true),
    }
    Ok(!logs.streams(&[selector], range, context)?.is_empty())
}

fn line_needles(filter: &LineFilter, needles: &mut Vec<Needle>) {
    if let [one] = filter.alternatives.as_slice() {
        needles.extend(literals::of(one, filter.op));
        return;
    }
    // Of each alternative the longest text; if one has none, any row may pass.
    let longest = |needle: &LineNeedle| literals::longest(literals::of(needle, filter.op));
    let any: Option<Vec<Needle>> = filter.alternatives.iter().map(longest).collect();
    if let Some(any) = any.filter(|any| !any.is_empty()) {
        needles.push(Needle::Any(any));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use model::Labels;
    use storage_api::fake::FakeLogs;

    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Expect) {
        let logs = FakeLogs::default();
        logs.push(&Labels::from_pairs([("app", "a")]), model::Timestamp(5), "x", &[]);
        let log = crate::parse_log(query).unwrap();
        let range = TimeRange::new(model::Timestamp(0), model::Timestamp(10));
        let select = log_select(&log, range, false, &logs, &QueryContext::default()).unwrap();
        expected.assert_eq(&format!("{:?}", select.needles));
    }

    #[test]
    fn positive_line_filters_give_needles() {
        check(
            r#"{app="a"} |= "one" |= "two" or "three" != "four" |> "<_> five""#,
            expect![[r#"[Line("one"), Any([Line("two"), Line("three")]), Line(" five")]"#]],
        );
        check(r#"{app="a"} |= "x" or ip("1.1.1.1")"#, expect!["[]"]);
        check(r#"{app="a"} |= "" | line_format "y" |= "y""#, expect!["[]"]);
    }

    #[test]
    fn patterns_give_the_text_that_each_match_holds() {
        check(
            r#"{app="a"} |~ "timed out after \\d{4,}ms" |~ "(?i)error|fatal" |~ "a.*(bcd)+|efg""#,
            expect![[
                r#"[Line("timed out after "), Line("ms"), Any([LineFold("error"), LineFold("fatal")]), Any([Line("bcd"), Line("efg")])]"#
            ]],
        );
        check(r#"{app="a"} |~ "x(?i)y" |~ "[a-z]+" |~ "(abc)?""#, expect![[r#"[Line("x")]"#]]);
    }

    #[test]
    fn fields_are_looked_up_unless_streams_or_lines_may_have_them() {
        check(
            r#"{app="a"} | user="u-1", b="2" | c="3" or d="4" | __error__="x" | e=~"5" | f="" | logfmt | g="6""#,
            expect![[r#"[Field { name: "user", value: "u-1" }, Field { name: "b", value: "2" }]"#]],
        );
    }

    #[test]
    fn trace_ids_are_looked_up_unless_streams_have_them() {
        check(
            r#"{app="a"} | trace_id="0123456789abcdef" | json | span_id="00112233""#,
            expect![[
                r#"[Field { name: "trace_id", value: "0123456789abcdef" }, Field { name: "span_id", value: "00112233" }]"#
            ]],
        );
        check(r#"{app="a"} | trace_id="" | app="a" | trace_id=~"0123456789""#, expect!["[]"]);
        check(r#"{app="a"} | label_format trace_id="{{.x}}" | trace_id="0123456789abcdef""#, expect!["[]"]);
    }
}
