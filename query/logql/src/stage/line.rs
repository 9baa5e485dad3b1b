//! Line filters.

use memchr::memmem;

use super::ip::IpMatcher;
use crate::ast::{LineFilter, LineNeedle, LineOp};
use crate::pattern::LinePattern;

/// One thing a line filter looks for.
#[derive(Debug)]
enum LineTest {
    Contains(Box<memmem::Finder<'static>>),
    Regex(regex::Regex),
    Pattern(LinePattern),
    Ip(IpMatcher),
}

/// A line filter, ready to run.
#[derive(Debug)]
pub(crate) struct CompiledLine {
    tests: Vec<LineTest>,
    negative: bool,
}

impl CompiledLine {
    pub(crate) fn new(filter: &LineFilter) -> Result<Self, String> {
        let test = |needle: &LineNeedle| match (needle, filter.op) {
            (LineNeedle::Ip(pattern), LineOp::Contains | LineOp::NotContains) => {
                IpMatcher::new(pattern).map(LineTest::Ip)
            }
            (LineNeedle::Ip(_), _) => Err("ip: invalid operation".to_owned()),
            (LineNeedle::Text(text), LineOp::Contains | LineOp::NotContains) => {
                Ok(LineTest::Contains(Box::new(memmem::Finder::new(text).into_owned())))
            }
            (LineNeedle::Text(text), LineOp::Regex | LineOp::NotRegex) => {
                crate::regex::compile(text).map(LineTest::Regex)
            }
            (LineNeedle::Text(text), LineOp::Pattern | LineOp::NotPattern) => {
                LinePattern::new(text).map(LineTest::Pattern)
            }
        };
        let tests = filter.alternatives.iter().map(test).collect::<Result<_, _>>()?;
        Ok(Self { tests, negative: filter.op.is_negative() })
    }

    /// Says whether some line in `text` may pass; lines lie in it one after the other.
    pub(crate) fn may_keep(&self, text: &str) -> bool {
        let plain = |test: &LineTest| match test {
            LineTest::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            LineTest::Regex(_) | LineTest::Pattern(_) | LineTest::Ip(_) => true,
        };
        self.negative || self.tests.iter().any(plain)
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
}
