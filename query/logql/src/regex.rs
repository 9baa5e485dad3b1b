//! Compiles Go's regular expressions; what went wrong is a text.

use model::pattern::{self, PatternError};
use regex::Regex;

/// Compiles a pattern that may match anywhere.
pub(crate) fn compile(text: &str) -> Result<Regex, String> {
    pattern::compile(text).map_err(|error| error.to_string())
}

/// Compiles a pattern that must match from start to end.
pub(crate) fn anchored(text: &str) -> Result<Regex, String> {
    pattern::anchored(text).map_err(|error| error.to_string())
}

/// Compiles a pattern that must name at least one group.
pub(crate) fn with_names(text: &str) -> Result<Regex, String> {
    let regex = pattern::compile(text).map_err(|error| match error {
        PatternError::DuplicateName { .. } => "duplicate extracted label name".to_owned(),
        error => error.to_string(),
    })?;
    if regex.capture_names().flatten().next().is_none() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    Ok(regex)
}

/// Rewrites Go's syntax into that of `regex`.
pub(crate) fn translate(text: &str) -> Result<String, String> {
    pattern::translate(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_names_is_told_so() {
        assert_eq!(with_names("(a)").unwrap_err(), "at least one named capture must be supplied");
        assert_eq!(with_names("(?P<a>x)(?P<a>y)").unwrap_err(), "duplicate extracted label name");
        assert!(with_names("(?P<a>x)").is_ok());
    }
}
