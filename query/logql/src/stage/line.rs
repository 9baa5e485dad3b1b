//! Line filters.

use std::fmt::Write;
use std::str::Utf8Error;

use memchr::memmem::Finder;
use storage_api::Lines;

use super::ip::IpMatcher;
use crate::ast::{LineFilter, LineNeedle, LineOp};
use crate::literals;
use crate::pattern::LinePattern;

/// One thing a line filter looks for.
#[derive(Debug)]
enum LineTest {
    Contains(Box<Finder<'static>>),
    Regex(regex::Regex),
    Pattern(LinePattern),
    Ip(IpMatcher),
}

/// A line filter, ready to run.
#[derive(Debug)]
pub(crate) struct CompiledLine {
    tests: Vec<LineTest>,
    negative: bool,
    /// Every line that passes holds one of these; none when that is not known.
    literals: Vec<Finder<'static>>,
    /// Whether a line that holds one of the literals passes.
    is_literal: bool,
}

impl CompiledLine {
    pub(crate) fn new(filter: &LineFilter) -> Result<Self, String> {
        let test = |needle: &LineNeedle| match (needle, filter.op) {
            (LineNeedle::Ip(pattern), LineOp::Contains | LineOp::NotContains) => {
                IpMatcher::new(pattern).map(LineTest::Ip)
            }
            (LineNeedle::Ip(_), _) => Err("ip: invalid operation".to_owned()),
            (LineNeedle::Text(text), LineOp::Contains | LineOp::NotContains) => {
                Ok(LineTest::Contains(Box::new(Finder::new(text).into_owned())))
            }
            (LineNeedle::Text(text), LineOp::Regex | LineOp::NotRegex) => {
                crate::regex::compile(text).map(LineTest::Regex)
            }
            (LineNeedle::Text(text), LineOp::Pattern | LineOp::NotPattern) => {
                LinePattern::new(text).map(LineTest::Pattern)
            }
        };
        let tests = filter.alternatives.iter().map(test).collect::<Result<_, _>>()?;
        let of_each = filter.alternatives.iter().map(|needle| literals::any_of(needle, filter.op));
        let literals = of_each.collect::<Option<Vec<_>>>().unwrap_or_default();
        let literals = literals.iter().flatten().map(|text| Finder::new(text).into_owned()).collect();
        let is_literal = filter.op == LineOp::Contains;
        Ok(Self { tests, negative: filter.op.is_negative(), literals, is_literal })
    }

    pub(crate) fn keeps(&self, line: &str) -> bool {
        let found = self.tests.iter().any(|test| match test {
            LineTest::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            LineTest::Regex(regex) => regex.is_match(line),
            LineTest::Pattern(pattern) => pattern.is_match(line),
            LineTest::Ip(matcher) => matcher.is_in(line),
        });
        found != self.negative
    }
    fn keeps_row(&self, lines: Lines<'_>, row: usize) -> Result<bool, Utf8Error> {
        // Text is found in bytes as well.
        if let [LineTest::Contains(finder)] = self.tests.as_slice() {
            return Ok(finder.find(lines.line_bytes(row)).is_some() != self.negative);
        }
        lines.line(row).map(|line| self.keeps(line))
    }

    /// Returns the length of the shortest literal; 0 when there is none.
    fn literal_bytes(&self) -> usize {
        self.literals.iter().map(|finder| finder.needle().len()).min().unwrap_or(0)
    }

    /// Returns the rows that hold a literal, ascending.
    fn rows_with_literals(&self, lines: Lines<'_>) -> Vec<u32> {
        let mut rows = Vec::new();
        self.literals.iter().for_each(|finder| rows_with(finder, lines, &mut rows));
        if self.literals.len() > 1 {
            rows.sort_unstable();
            rows.dedup();
        }
        rows
    }
}

/// Searches all lines at once, and adds the rows that hold the needle, which is not empty.
fn rows_with(finder: &Finder<'_>, lines: Lines<'_>, rows: &mut Vec<u32>) {
    let length = finder.needle().len();
    let (mut row, mut at) = (0, 0);
    while let Some(found) = lines.bytes().get(at..).and_then(|bytes| finder.find(bytes)) {
        let found = at + found;
        row = lines.row_after(row, found);
        let Some((start, end)) = lines.span(row) else { break };
        if found < start {
            // Between two lines: nothing before the next one counts.
            at = start;
            continue;
        }
        if found + length <= end {
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        // Either the line is found, or what begins later in it ends behind it as well.
        at = end;
        row += 1;
    }
}

/// The line filters that come first in a pipeline, as one test.
#[derive(Debug, Default)]
pub(crate) struct LeadingLines {
    filters: Vec<CompiledLine>,
    /// The filters as they were written.
    key: String,
}

impl LeadingLines {
    /// Adds the next filter, compiled and as it was written.
    pub(crate) fn push(&mut self, compiled: CompiledLine, filter: &LineFilter) {
        self.filters.push(compiled);
        // A string takes all there is to write.
        let _written = writeln!(self.key, "{filter:?}");
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    pub(crate) fn keeps(&self, line: &str) -> bool {
        self.filters.iter().all(|filter| filter.keeps(line))
    }
}

impl storage_api::LineFilter for LeadingLines {
    fn passing(&self, lines: Lines<'_>) -> Result<Vec<u32>, Utf8Error> {
        // The longest literal is the rarest one, mostly.
        let lead = self.filters.iter().enumerate().max_by_key(|(_, filter)| filter.literal_bytes());
        let lead = lead.filter(|(_, filter)| filter.literal_bytes() > 0);
        let mut rows = match lead {
            Some((_, filter)) => filter.rows_with_literals(lines),
            None => (0..u32::try_from(lines.len()).unwrap_or(u32::MAX)).collect(),
        };
        for (i, filter) in self.filters.iter().enumerate() {
            if filter.is_literal && lead.is_some_and(|(lead, _)| lead == i) {
                continue;
            }
            let mut failed = Ok(());
            rows.retain(|row| {
                failed.is_ok()
                    && filter.keeps_row(lines, *row as usize).unwrap_or_else(|error| {
                        failed = Err(error);
                        false
                    })
            });
            failed?;
        }
        Ok(rows)
    }

    fn key(&self) -> &str {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_api::LineFilter as _;

    use super::*;
    use crate::ast::Stage;

    fn leading(query: &str) -> LeadingLines {
        let mut out = LeadingLines::default();
        for stage in &crate::parse_log(query).unwrap().stages {
            let Stage::LineFilter(filter) = stage else { panic!("{stage} is no line filter") };
            out.push(CompiledLine::new(filter).unwrap(), filter);
        }
        out
    }

    const FILTERS: [&str; 12] = [
        r#"|= "a""#,
        r#"|= "ab""#,
        r#"|= "aa""#,
        r#"|= "" "#,
        r#"|= "ab" or "ba""#,
        r#"!= "b""#,
        r#"!= "ab" or "aa""#,
        r#"|~ "a+b""#,
        r#"|~ "(?i)AB|ba""#,
        r#"!~ "^a""#,
        r#"|> "<_>ab<_>""#,
        r#"!> "a<_>""#,
    ];

    proptest! {
        /// Searching all lines at once finds the same ones as testing each of them.
        #[test]
        fn lines_pass_together_as_they_pass_alone(
            lines in prop::collection::vec("[ab\u{e9}]{0,6}", 0..12),
            gaps in prop::collection::vec("[ab]{0,4}", 13),
            filters in prop::collection::vec(0..FILTERS.len(), 0..4),
        ) {
            let mut bytes = Vec::new();
            let mut spans = Vec::new();
            for (line, gap) in lines.iter().zip(&gaps) {
                bytes.extend_from_slice(gap.as_bytes());
                let start = u32::try_from(bytes.len()).unwrap();
                bytes.extend_from_slice(line.as_bytes());
                spans.push((start, u32::try_from(bytes.len()).unwrap()));
            }
            bytes.extend_from_slice(gaps[12].as_bytes());
            let filters: String = filters.iter().map(|i| FILTERS[*i]).collect();
            let leading = leading(&format!(r#"{{app="a"}} {filters}"#));
            let found = leading.passing(Lines::new(&bytes, &spans)).unwrap();
            let each = (0_u32..).zip(&lines).filter(|(_, line)| leading.keeps(line)).map(|(row, _)| row);
            prop_assert_eq!(found, each.collect::<Vec<_>>(), "{}", filters);
        }
    }

    #[test]
    fn other_filters_have_another_key() {
        let keys: std::collections::HashSet<String> =
            FILTERS.iter().map(|filter| leading(&format!(r#"{{app="a"}} {filter}"#)).key).collect();
        assert_eq!(keys.len(), FILTERS.len());
    }

    #[test]
    fn a_damaged_line_is_an_error_when_it_is_looked_at() {
        let lines = Lines::new(b"a\xffb", &[(0, 1), (1, 2), (2, 3)]);
        assert_eq!(leading(r#"{app="a"} |= "b""#).passing(lines), Ok(vec![2]));
        assert!(leading(r#"{app="a"} |~ "[ab]""#).passing(lines).is_err());
    }
}
