//! Go's regular expressions, which Prometheus and Loki take, with limits on their size.
//!
//! `regex` follows RE2 as Go does, but for a few forms that are translated here: `\d`, `\w`, `\s` and `\b` mean ASCII,
//! `\Q…\E` quotes, a brace that repeats nothing is text, and classes do not nest.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, ErrorKind, parse::ParserBuilder};

/// Longest pattern that is compiled, in bytes. Longer ones are refused before the regex engine sees them.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// Most memory that one compiled pattern may take, in bytes.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// Most patterns of one query.
const PATTERNS_MAX: usize = 1_000;

/// How many of them may take [`COMPILED_BYTES_MAX`]; the others take [`SMALL_BYTES_MAX`] at most.
const LARGE_PATTERNS_MAX: usize = 64;

/// Most memory of one of the others, in bytes.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// Why a pattern could not be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It is malformed; told in Go's words.
    #[error("error parsing regexp: {what}: `{part}`")]
    Syntax {
        /// What is wrong.
        what: &'static str,
        /// The part of the pattern that is at fault.
        part: String,
    },
    /// It names a group twice.
    #[error("error parsing regexp: duplicate capture group name: `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// It is too long.
    #[error("regular expression of {length_bytes} bytes is over the limit of {limit_bytes}")]
    TooLong {
        /// Its length.
        length_bytes: usize,
        /// The most that is taken.
        limit_bytes: usize,
    },
    /// It takes too much memory.
    #[error("the regular expression needs more than {limit_bytes} bytes")]
    TooBig {
        /// The most that it may take.
        limit_bytes: usize,
    },
    /// There are too many in one query.
    #[error("more than {limit} regular expressions in one query")]
    TooMany {
        /// The most that there may be.
        limit: usize,
    },
    /// There are many in one query, and it is not small.
    #[error(
        "more than {limit} regular expressions in one query, and one of the others needs more than {limit_bytes} bytes"
    )]
    TooManyLarge {
        /// The most that may be large.
        limit: usize,
        /// The most memory of the others.
        limit_bytes: usize,
    },
}

/// Keeps the patterns of one query within limits of memory together.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    count: usize,
}

impl Budget {
    /// Counts a pattern that is about to be compiled.
    ///
    /// # Errors
    /// [`PatternError::TooMany`], [`PatternError::TooManyLarge`].
    pub fn take(&mut self, pattern: &str) -> Result<(), PatternError> {
        self.count += 1;
        if self.count > PATTERNS_MAX {
            return Err(PatternError::TooMany { limit: PATTERNS_MAX });
        }
        if self.count > LARGE_PATTERNS_MAX && !fits(pattern, SMALL_BYTES_MAX) {
            return Err(PatternError::TooManyLarge { limit: LARGE_PATTERNS_MAX, limit_bytes: SMALL_BYTES_MAX });
        }
        Ok(())
    }
}

/// Compiles a pattern that may match anywhere.
///
/// # Errors
/// [`PatternError`] when it is malformed or over a limit.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let translated = translate(pattern)?;
    check(pattern, &translated)?;
    build(&translated)
}

/// Compiles a pattern that must match from start to end.
///
/// # Errors
/// As [`compile`].
pub fn anchored(pattern: &str) -> Result<Regex, PatternError> {
    anchored_with(pattern, "")
}

/// Compiles a pattern that must match from start to end, and whose `.` matches a line break, as in Prometheus 3.
///
/// # Errors
/// As [`compile`].
pub fn anchored_over_lines(pattern: &str) -> Result<Regex, PatternError> {
    anchored_with(pattern, "s")
}

fn anchored_with(pattern: &str, flags: &str) -> Result<Regex, PatternError> {
    let translated = translate(pattern)?;
    // Checked alone, so that `a)(b` is refused.
    check(pattern, &translated)?;
    build(&format!("^(?{flags}:{translated})$"))
}

/// Says whether a compiled pattern takes at most so much memory; of one that does not compile at all, it does.
fn fits(pattern: &str, bytes_max: usize) -> bool {
    let Ok(translated) = translate(pattern) else { return true };
    let built = RegexBuilder::new(&translated).size_limit(bytes_max.min(COMPILED_BYTES_MAX)).octal(true).build();
    !matches!(built, Err(regex::Error::CompiledTooBig(_)))
}

fn build(translated: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(translated).size_limit(COMPILED_BYTES_MAX).octal(true).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit_bytes) => PatternError::TooBig { limit_bytes },
        // The form was fine: what is left are classes that are not known, and the like.
        _ => PatternError::Syntax { what: "invalid character class range", part: unknown_class(translated) },
    })
}

fn unknown_class(translated: &str) -> String {
    let part = match regex_syntax::Parser::new().parse(translated) {
        Err(regex_syntax::Error::Translate(error)) => {
            translated.get(error.span().start.offset..error.span().end.offset)
        }
        _ => None,
    };
    part.unwrap_or(translated).to_owned()
}

/// Says what is wrong with a pattern, if anything.
fn check(pattern: &str, translated: &str) -> Result<(), PatternError> {
    match ParserBuilder::new().octal(true).build().parse(translated) {
        Ok(parsed) => match ast::visit(&parsed, Refused) {
            Ok(()) => Ok(()),
            Err((what, start, end)) => {
                let part = translated.get(start..end).unwrap_or(translated);
                Err(PatternError::Syntax { what, part: part.to_owned() })
            }
        },
        Err(error) => Err(explain(pattern, translated, &error)),
    }
}

/// Finds what `regex` takes and Go refuses: a class like `[[:wrong:]]`, which is a class in a class for the one, and
/// `a**`, an operator behind an operator. Tells what is wrong, and where it begins and ends.
struct Refused;

impl ast::Visitor for Refused {
    type Output = ();
    type Err = (&'static str, usize, usize);

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, part: &ast::Ast) -> Result<(), Self::Err> {
        let ast::Ast::Repetition(outer) = part else { return Ok(()) };
        let ast::Ast::Repetition(inner) = outer.ast.as_ref() else { return Ok(()) };
        Err(("invalid nested repetition operator", inner.op.span.start.offset, outer.op.span.end.offset))
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Self::Err> {
        let ast::ClassSetItem::Bracketed(inner) = item else { return Ok(()) };
        let is_colon = |item: &ast::ClassSetItem| matches!(item, ast::ClassSetItem::Literal(literal) if literal.c == ':' && literal.kind == ast::LiteralKind::Verbatim);
        match &inner.kind {
            // What else is nested here are the negated classes of escapes.
            ast::ClassSet::Item(ast::ClassSetItem::Union(union)) if union.items.first().is_some_and(is_colon) => {
                Err(("invalid character class range", inner.span.start.offset, inner.span.end.offset))
            }
            _ => Ok(()),
        }
    }
}

fn explain(pattern: &str, translated: &str, error: &ast::Error) -> PatternError {
    let (mut start, end) = (error.span().start.offset, error.span().end.offset);
    if translated.get(..start).is_some_and(|before| before.ends_with("\\x")) {
        start -= 2;
    }
    let part = translated.get(start..end).unwrap_or(translated);
    let rest = translated.get(start..).unwrap_or(translated);
    let (what, part) = match error.kind() {
        ErrorKind::GroupNameDuplicate { .. } => return PatternError::DuplicateName { name: part.to_owned() },
        ErrorKind::GroupUnclosed => ("missing closing )", pattern),
        ErrorKind::GroupUnopened => ("unexpected )", pattern),
        ErrorKind::ClassUnclosed => ("missing closing ]", rest),
        ErrorKind::ClassRangeInvalid | ErrorKind::ClassRangeLiteral => ("invalid character class range", part),
        ErrorKind::UnicodeClassInvalid => ("invalid character class range", part),
        ErrorKind::EscapeUnexpectedEof if pattern.ends_with('\\') => ("trailing backslash at end of expression", ""),
        ErrorKind::RepetitionMissing => ("missing argument to repetition operator", rest.get(..1).unwrap_or(rest)),
        ErrorKind::RepetitionCountInvalid
        | ErrorKind::RepetitionCountUnclosed
        | ErrorKind::RepetitionCountDecimalEmpty
        | ErrorKind::DecimalEmpty
        | ErrorKind::DecimalInvalid => ("invalid repeat count", part),
        ErrorKind::GroupNameEmpty | ErrorKind::GroupNameInvalid | ErrorKind::GroupNameUnexpectedEof => {
            ("invalid named capture", part)
        }
        ErrorKind::FlagDanglingNegation
        | ErrorKind::FlagDuplicate { .. }
        | ErrorKind::FlagRepeatedNegation { .. }
        | ErrorKind::FlagUnexpectedEof
        | ErrorKind::FlagUnrecognized
        | ErrorKind::UnsupportedLookAround
        | ErrorKind::UnsupportedBackreference => ("invalid or unsupported Perl syntax", part),
        ErrorKind::NestLimitExceeded(_) | ErrorKind::CaptureLimitExceeded => ("expression nests too deeply", pattern),
        _ => ("invalid escape sequence", part),
    };
    PatternError::Syntax { what, part: part.to_owned() }
}

/// Rewrites Go's syntax into that of `regex`, without looking for faults.
///
/// # Errors
/// [`PatternError::TooLong`].
pub fn translate(pattern: &str) -> Result<String, PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::TooLong { length_bytes: pattern.len(), limit_bytes: PATTERN_BYTES_MAX });
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
        // The braces of `\x{2e}` and `\p{Greek}` belong to the escape.
        Some('x' | 'p' | 'P') if chars.get(i + 1) == Some(&'{') => {
            let rest = chars.get(i..).unwrap_or_default();
            let end = rest.iter().position(|c| *c == '}').map_or(rest.len(), |end| end + 1);
            out.push('\\');
            out.extend(rest.iter().take(end));
            return i + end;
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
        assert!(
            matches(r"^\x{2e}\x41$", ".A") && matches(r"^\p{Greek}\PL{2}$", "β12") && matches(r"[\p{L}\x{2d}]", "-")
        );
        assert!(matches(r"\<", "<") && matches(r"[\w\-\.]+", "a-b.c"));
        assert!(anchored("a|b").unwrap().is_match("b") && !anchored("a|b").unwrap().is_match("ab"));
        assert!(anchored_over_lines("a.b").unwrap().is_match("a\nb") && !anchored("a.b").unwrap().is_match("a\nb"));
    }

    #[test]
    fn patterns_of_one_query_are_bounded_together() {
        let mut budget = Budget::default();
        (0..1_000).for_each(|_| budget.take("a.*b").unwrap());
        assert_eq!(budget.take("a").unwrap_err(), PatternError::TooMany { limit: 1_000 });
        let mut budget = Budget::default();
        (0..64).for_each(|_| budget.take(r"\pL{60}").unwrap());
        budget.take("(").unwrap();
        let error = budget.take(r"\pL{60}").unwrap_err();
        assert_eq!(error, PatternError::TooManyLarge { limit: 64, limit_bytes: 64 << 10 });
    }

    #[test]
    fn hostile_patterns_are_refused() {
        assert!(compile("(((a{100}){100}){100}){100}").is_err());
        assert!(compile(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
        assert!(compile(&"(".repeat(10_000)).is_err());
    }

    #[test]
    fn faults_are_told_in_one_line_as_go_tells_them() {
        let check = |pattern: &str, expected: &str| {
            let told = anchored(pattern).unwrap_err().to_string();
            assert_eq!(told, format!("error parsing regexp: {expected}"));
        };
        check("a(", "missing closing ): `a(`");
        check("a)", "unexpected ): `a)`");
        check("a)(b", "unexpected ): `a)(b`");
        check("x[a-", "missing closing ]: `[a-`");
        check("*a", "missing argument to repetition operator: `*`");
        check("a|+", "missing argument to repetition operator: `+`");
        check("a**", "invalid nested repetition operator: `**`");
        check("ab{2}+?c", "invalid nested repetition operator: `{2}+?`");
        check("[z-a]", "invalid character class range: `z-a`");
        check("[[:wrong:]]", "invalid character class range: `[:wrong:]`");
        check("a[x[:^no:]]", "invalid character class range: `[:^no:]`");
        check(r"\y", r"invalid escape sequence: `\y`");
        check(r"a\", "trailing backslash at end of expression: ``");
        check("a{3,1}", "invalid repeat count: `{3,1}`");
        check("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
        check(r"a\x{2e", r"invalid escape sequence: `\x{2e`");
        check(r"\pQ", r"invalid character class range: `\pQ`");
        check("(?P<n>a)(?P<n>b)", "duplicate capture group name: `n`");
    }
}
