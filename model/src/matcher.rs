//! One test on a label.

use std::fmt;

use regex::Regex;

use crate::pattern::{self, PatternError};

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// Returns the operator as PromQL and LogQL write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// One test on a label. A label that is not there has the value `""`.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How it compares.
    pub op: MatchOp,
    /// The value or pattern, as given.
    pub value: String,
    regex: Option<Regex>,
}

/// Why a matcher could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatcherError {
    /// The pattern does not compile.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Matcher {
    /// Makes a matcher; patterns are anchored at both ends and `.` matches a line break, as in Prometheus 3.
    ///
    /// # Errors
    /// [`MatcherError`] when the pattern does not compile or is over a limit.
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, MatcherError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(pattern::anchored_over_lines(&value)?),
        };
        Ok(Self { name: name.into(), op, value, regex })
    }

    /// Makes an equality matcher, which cannot fail.
    #[must_use]
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// Says whether a label with this value passes; pass `""` for a label that is not there.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => false,
        }
    }

    /// Says whether a series without the label passes.
    #[must_use]
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Returns the alternatives of a pattern that is only literals (`a|b|c`, or plain `a`), for a direct index look-up.
    #[must_use]
    pub fn literal_alternatives(&self) -> Option<Vec<&str>> {
        match self.op {
            MatchOp::Equal => Some(vec![&self.value]),
            MatchOp::Regex if !self.value.contains(|c: char| r"\.+*?()[]{}^$".contains(c)) => {
                Some(self.value.split('|').collect())
            }
            MatchOp::NotEqual | MatchOp::Regex | MatchOp::NotRegex => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored() {
        let matcher = Matcher::new("job", MatchOp::Regex, "a|b").unwrap();
        assert!(matcher.matches("a") && matcher.matches("b"));
        assert!(!matcher.matches("ab") && !matcher.matches(""));
        assert!(Matcher::new("job", MatchOp::NotRegex, "a.*").unwrap().matches_empty());
    }

    #[test]
    fn a_bad_pattern_names_itself() {
        let error = Matcher::new("job", MatchOp::Regex, "a(").unwrap_err();
        assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `a(`");
        assert!(Matcher::new("job", MatchOp::Regex, "a)|(b").is_err());
    }

    #[test]
    fn literal_patterns_are_seen_as_lists() {
        let matcher = |value| Matcher::new("job", MatchOp::Regex, value).unwrap();
        assert_eq!(matcher("a|b").literal_alternatives(), Some(vec!["a", "b"]));
        assert_eq!(matcher("a.b").literal_alternatives(), None);
    }
}
