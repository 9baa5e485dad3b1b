//! Label filters.

use model::Matcher;

use super::ip::IpMatcher;
use crate::ast::{Compare, LabelFilter};
use crate::go;
use crate::row::RowLabels;

/// What `__error__` says when a label's value is not of the kind that a filter compares.
pub(crate) const LABEL_FILTER_ERROR: &str = "LabelFilterErr";

/// What is told of a query with a number that cannot be read, whatever stage it is in.
pub(super) const UNREAD_NUMBER: &str = "unable to parse literal as a float";

/// A label filter, ready to run.
#[derive(Debug)]
pub(crate) enum CompiledLabel {
    Text(Matcher),
    Number(String, Compare, f64),
    Duration(String, Compare, i64),
    Bytes(String, Compare, u64),
    Ip { name: String, negative: bool, matcher: Result<IpMatcher, String> },
    And(Vec<CompiledLabel>),
    Or(Vec<CompiledLabel>),
}

fn compare<T: PartialOrd>(compare: Compare, have: &T, want: &T) -> bool {
    match compare {
        Compare::Equal => have == want,
        Compare::NotEqual => have != want,
        Compare::Greater => have > want,
        Compare::GreaterEqual => have >= want,
        Compare::Less => have < want,
        Compare::LessEqual => have <= want,
    }
}

impl CompiledLabel {
    /// Prepares a filter. A pattern that is no address is refused when it stands alone; beside others each line tells of
    /// it, as in Loki.
    pub(crate) fn new(filter: &LabelFilter) -> Result<Self, String> {
        match Self::compile(filter)? {
            Self::Ip { matcher: Err(error), .. } => Err(error),
            compiled => Ok(compiled),
        }
    }

    fn compile(filter: &LabelFilter) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(matcher) => Self::Text(matcher.clone()),
            LabelFilter::Number { unread: Some(text), .. } => {
                return Err(format!("{UNREAD_NUMBER}: {}", go::float_error(text)));
            }
            LabelFilter::Number { name, compare, value, .. } => Self::Number(name.clone(), *compare, *value),
            LabelFilter::Duration { name, compare, nanos } => Self::Duration(name.clone(), *compare, *nanos),
            LabelFilter::Bytes { name, compare, bytes } => Self::Bytes(name.clone(), *compare, *bytes),
            LabelFilter::Ip { name, negative, pattern } => {
                Self::Ip { name: name.clone(), negative: *negative, matcher: IpMatcher::new(pattern) }
            }
            LabelFilter::And(left, right) => {
                let mut all = Vec::new();
                for side in [left, right] {
                    match Self::compile(side)? {
                        Self::And(inner) => all.extend(inner),
                        other => all.push(other),
                    }
                }
                Self::And(all)
            }
            LabelFilter::Or(left, right) => {
                let mut any = Vec::new();
                for side in [left, right] {
                    match Self::compile(side)? {
                        Self::Or(inner) => any.extend(inner),
                        other => any.push(other),
                    }
                }
                Self::Or(any)
            }
        })
    }

    /// Adds the labels that the filter looks at.
    pub(crate) fn names(&self, out: &mut Vec<String>) {
        match self {
            Self::Text(matcher) => out.push(matcher.name.clone()),
            Self::Number(name, ..) | Self::Duration(name, ..) | Self::Bytes(name, ..) | Self::Ip { name, .. } => {
                out.push(name.clone());
            }
            Self::And(inner) | Self::Or(inner) => inner.iter().for_each(|filter| filter.names(out)),
        }
    }

    /// Says whether the row passes. A value of the wrong kind passes, with an error noted.
    pub(crate) fn keeps(&self, row: &mut RowLabels<'_>) -> bool {
        match self {
            Self::Text(matcher) => matcher.matches(row.filter_value(&matcher.name)),
            Self::Number(name, op, want) => {
                let Some(text) = row.get(name) else { return false };
                match go::parse_float(text) {
                    Some(have) => compare(*op, &have, want),
                    None => {
                        let details = go::float_error(text);
                        note(row, details)
                    }
                }
            }
            Self::Duration(name, op, want) => {
                let Some(text) = row.get(name) else { return false };
                match go::parse_duration(text) {
                    Some(have) => compare(*op, &have, want),
                    None => {
                        let details = go::duration_error(text);
                        note(row, details)
                    }
                }
            }
            Self::Bytes(name, op, want) => {
                let Some(text) = row.get(name) else { return false };
                match go::parse_bytes(text) {
                    Ok(have) => compare(*op, &have, want),
                    Err(details) => note(row, details),
                }
            }
            Self::Ip { name, negative, matcher } => {
                if !row.error.is_empty() {
                    return true;
                }
                match (row.get(name), matcher) {
                    (None, _) => false,
                    (Some(text), Ok(matcher)) => matcher.is_in(text) != *negative,
                    (Some(_), Err(error)) => note(row, error.clone()),
                }
            }
            Self::And(inner) => inner.iter().all(|filter| filter.keeps(row)),
            Self::Or(inner) => inner.iter().any(|filter| filter.keeps(row)),
        }
    }
}

fn note(row: &mut RowLabels<'_>, details: String) -> bool {
    if row.error.is_empty() {
        row.fail(LABEL_FILTER_ERROR, details);
    }
    true
}
