//! Compiles Go's regular expressions, with limits on their size.
//!
//! `regex` follows RE2 as Go does, but for a few forms that are translated here: `\d`, `\w`, `\s` and `\b` mean ASCII,
//! `\Q…\E` quotes, a brace that repeats nothing is text, and classes do not nest.

use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// Most memory that one compiled pattern may take, in bytes.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// Compiles a pattern that may match anywhere.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    build(&translate(pattern)?)
}

/// Compiles a pattern that must match from start to end.
pub(crate) fn anchored(pattern: &str) -> Result<Regex, String> {
    // Compiled alone first, so that the error's place is right and `a)(b` is refused.
    let translated = translate(pattern)?;
    build(&translated)?;
    build(&format!("^(?:{translated})$"))
}

/// Compiles a pattern that must name at least one group.
pub(crate) fn with_names(pattern: &str) -> Result<Regex, String> {
    let regex = compile(pattern).map_err(|error| match error.contains("duplicate capture group name") {
        true => "duplicate extracted label name".to_owned(),
        false => error,
    })?;
    if regex.capture_names().flatten().next().is_none() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    Ok(regex)
}

fn build(translated: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(translated).size_limit(COMPILED_BYTES_MAX).octal(true).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("the regular expression needs more than {limit} bytes"),
        error => format!("error parsing regexp: {error}"),
    })
}

/// Rewrites Go's syntax into that of `regex`.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("regular expression of {} bytes is over the limit of {PATTERN_BYTES_MAX}", pattern.len()));
    }
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        i += 1;
        match c {
            '\\' => i = escape(&chars, i, &mut out),
            '[' => i = class(&chars, i, &mut out),
            '{' if !repeats(&chars, i) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Handles what follows a backslash outside of a class; returns where to go on.
fn escape(chars: &[char], i: usize, out: &mut String) -> usize {
    match chars.get(i) {
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('w') => out.push_str("[0-9A-Za-z_]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        Some('s') => out.push_str(r"[\t\n\f\r ]"),
        Some('S') => out.push_str(r"[^\t\n\f\r ]"),
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some(c @ ('<' | '>')) => out.push(*c),
        Some('Q') => {
            let rest = chars.get(i + 1..).unwrap_or_default();
            let end = rest.windows(2).position(|two| two == ['\\', 'E']);
            let text: String = rest.iter().take(end.unwrap_or(rest.len())).collect();
            out.push_str(&regex::escape(&text));
            return i + 1 + end.map_or(rest.len(), |end| end + 2);
        }
        Some(c) => {
            out.push('\\');
            out.push(*c);
        }
        None => out.push('\\'),
    }
    i + 1
}

/// Copies a class; returns where to go on.
fn class(chars: &[char], mut i: usize, out: &mut String) -> usize {
    out.push('[');
    if chars.get(i) == Some(&'^') {
        out.push('^');
        i += 1;
    }
    let mut first = true;
    while let Some(&c) = chars.get(i) {
        i += 1;
        match c {
            ']' if !first => {
                out.push(']');
                return i;
            }
            ']' => out.push_str("\\]"),
            '[' if chars.get(i) == Some(&':') => {
                let rest = chars.get(i..).unwrap_or_default();
                match rest.windows(2).position(|two| two == [':', ']']).filter(|end| *end > 0) {
                    Some(end) => {
                        out.push('[');
                        out.extend(rest.iter().take(end + 2));
                        i += end + 2;
                    }
                    None => out.push_str("\\["),
                }
            }
            '[' => out.push_str("\\["),
            '\\' => {
                match chars.get(i) {
                    Some('d') => out.push_str("0-9"),
                    Some('w') => out.push_str("0-9A-Za-z_"),
                    Some('s') => out.push_str(r"\t\n\f\r "),
                    Some('D') => out.push_str("[^0-9]"),
                    Some('W') => out.push_str("[^0-9A-Za-z_]"),
                    Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                    Some(c @ ('<' | '>')) => out.push(*c),
                    Some(c) => {
                        out.push('\\');
                        out.push(*c);
                    }
                    None => out.push('\\'),
                }
                i += 1;
            }
            // Doubled, these are set operators elsewhere.
            '&' | '~' if chars.get(i) == Some(&c) => {
                out.push('\\');
                out.push(c);
            }
            '-' if chars.get(i) == Some(&'-') && !first => {
                out.push_str("\\-");
            }
            c => out.push(c),
        }
        first = false;
    }
    i
}

/// Says whether what follows a brace is `n}`, `n,}` or `n,m}`.
fn repeats(chars: &[char], i: usize) -> bool {
    let rest = chars.get(i..).unwrap_or_default();
    let Some(end) = rest.iter().take(16).position(|c| *c == '}') else { return false };
    let text: String = rest.iter().take(end).collect();
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match text.split_once(',') {
        Some((low, high)) => number(low) && (high.is_empty() || number(high)),
        None => number(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_go_are_understood() {
        let matches = |pattern: &str, text: &str| compile(pattern).unwrap().is_match(text);
        assert!(matches("{foo}", "{foo}") && matches("a{2}", "aa") && matches("{", "{"));
        assert!(matches(r"\Qa.b\E+", "a.bb") && !matches(r"\Qa.b\E", "axb"));
        assert!(!matches(r"^\d$", "٣") && matches(r"^\w+$", "a_1") && !matches(r"\w", "é"));
        assert!(matches("[[]", "[") && matches("[]a]", "]") && matches("[[:alpha:]]", "x") && matches("[a&&b]", "&"));
        assert!(matches(r"\<", "<") && matches(r"[\w\-\.]+", "a-b.c"));
        assert!(anchored("a|b").unwrap().is_match("b") && !anchored("a|b").unwrap().is_match("ab"));
    }

    #[test]
    fn hostile_patterns_are_refused() {
        assert!(compile("(((a{100}){100}){100}){100}").is_err());
        assert!(compile(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
        assert!(anchored("a)(b").is_err() && compile("[a").is_err() && compile(r"a\").is_err());
        assert_eq!(with_names("(a)").unwrap_err(), "at least one named capture must be supplied");
    }
}
