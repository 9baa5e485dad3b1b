//! Cuts a query's text into tokens, each with its place.
//!
//! Words are keywords in any case; a function's name is one only before `(`, `by (` or `without (`, so that labels may be
//! called `count` or `bytes`. Comments start with `#`, `//` or `/*`.

use crate::error::{ParseError, Position};
use crate::go;

/// Longest query, in bytes; Loki's limit.
pub(crate) const QUERY_BYTES_MAX: usize = 131_072;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A name, or a character that means nothing else.
    Ident(String),
    /// A string without its quotes.
    Str(String),
    /// A number as written.
    Number(String),
    /// `5m`, `-1.5s`: nanoseconds.
    Duration(i64),
    /// `10KB`.
    Bytes(u64),
    /// `[5m]`: nanoseconds.
    Range(i64),
    /// `--strict` or `--keep-empty`.
    Flag(&'static str),
    /// An operator, a bracket or a word of the language.
    Word(&'static str),
    /// The name of a function, with its bracket still to come.
    Function(&'static str),
    /// What is no token, and why: nothing comes behind it.
    Bad(String),
    /// The end of the text.
    End,
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) at: Position,
}

impl Token {
    /// Returns where Loki's errors place the token: its lexer has lost count of the line once it looked ahead.
    pub(crate) fn told_at(&self) -> Position {
        let looked_ahead = match &self.kind {
            Kind::Duration(_) | Kind::Bytes(_) | Kind::Range(_) | Kind::Flag(_) => true,
            Kind::Bad(message) => {
                message.contains("duration") || message == "invalid character NUL" || message == "duration out of range"
            }
            Kind::Word(word) => word.len() == 2 && !word.starts_with(|c: char| c.is_ascii_alphabetic()),
            Kind::Ident(_) | Kind::Str(_) | Kind::Number(_) | Kind::Function(_) | Kind::End => false,
        };
        Position { line: if looked_ahead { 0 } else { self.at.line }, column: self.at.column }
    }
}

impl Kind {
    /// Names the token as Loki's parser does.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ident(_) => "IDENTIFIER".to_owned(),
            Self::Str(_) => "STRING".to_owned(),
            Self::Number(_) => "NUMBER".to_owned(),
            Self::Duration(_) => "DURATION".to_owned(),
            Self::Bytes(_) => "BYTES".to_owned(),
            Self::Range(_) => "RANGE".to_owned(),
            Self::Flag(_) => "FUNCTION_FLAG".to_owned(),
            Self::Word(word) => (*word).to_owned(),
            Self::Bad(_) => "$unk".to_owned(),
            Self::Function("ip") => "ip".to_owned(),
            Self::Function(name @ ("bytes" | "duration" | "duration_seconds")) => {
                format!("{}_CONV", name.to_uppercase())
            }
            Self::Function(name) => name.to_uppercase(),
            Self::End => "$end".to_owned(),
        }
    }
}

const WORDS: [&str; 50] = [
    ",",
    ".",
    "{",
    "}",
    "=",
    "!=",
    "=~",
    "!~",
    "!>",
    "|=",
    "|~",
    "|>",
    "|",
    "unwrap",
    "(",
    ")",
    "by",
    "without",
    "bool",
    "]",
    "offset",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "or",
    "and",
    "unless",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    ">",
    ">=",
    "<",
    "<=",
    "json",
    "regexp",
    "logfmt",
    "unpack",
    "pattern",
    "label_format",
    "line_format",
    "decolorize",
    "drop",
    "keep",
    "[",
];

const FUNCTIONS: [&str; 33] = [
    "rate",
    "rate_counter",
    "count_over_time",
    "bytes_rate",
    "bytes_over_time",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "stdvar_over_time",
    "stddev_over_time",
    "quantile_over_time",
    "first_over_time",
    "last_over_time",
    "absent_over_time",
    "vector",
    "sum",
    "avg",
    "max",
    "min",
    "count",
    "stddev",
    "stdvar",
    "bottomk",
    "topk",
    "sort",
    "sort_desc",
    "label_replace",
    "approx_topk",
    "bytes",
    "duration",
    "duration_seconds",
    "ip",
];

/// Cuts `text` into tokens; the last one is [`Kind::End`], or [`Kind::Bad`] where strings or comments have no end, or
/// numbers, escapes and ranges are malformed: what is wrong before that is told first.
///
/// # Errors
/// A text that is too long.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    if text.len() >= QUERY_BYTES_MAX {
        return Err(ParseError::whole(format!("input size too long ({} > {QUERY_BYTES_MAX})", text.len())));
    }
    let mut lexer = Lexer { chars: text.chars().collect(), i: 0, at: Position { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next().unwrap_or_else(|error| Token { kind: Kind::Bad(error.message), at: error.at });
        let end = matches!(token.kind, Kind::End | Kind::Bad(_));
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    i: usize,
    at: Position,
}

impl Lexer {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.i).copied()
    }

    fn peek_after(&self, n: usize) -> Option<char> {
        self.chars.get(self.i + n).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.i += 1;
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn bump_n(&mut self, n: usize) {
        for _ in 0..n {
            self.bump();
        }
    }

    fn text(&self, from: usize) -> String {
        self.chars.get(from..self.i).unwrap_or_default().iter().collect()
    }

    fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_blank()?;
        let at = self.at;
        let Some(c) = self.peek() else { return Ok(Token { kind: Kind::End, at }) };
        let kind = match c {
            '"' | '\'' => self.quoted(c, at)?,
            '`' => self.raw(at)?,
            '[' => self.range(at)?,
            '-' => self.minus(),
            '0'..='9' => self.number(at)?,
            '.' if self.peek_after(1).is_some_and(|c| c.is_ascii_digit()) => self.number(at)?,
            c if is_letter(c) => self.word(),
            '\0' => return Err(ParseError::new(at, "invalid character NUL")),
            _ => self.symbol(),
        };
        Ok(Token { kind, at })
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r' | '\n') => self.bump_n(1),
                Some('\u{feff}') if self.i == 0 => self.bump_n(1),
                Some('#') => self.skip_line(),
                Some('/') if self.peek_after(1) == Some('/') => self.skip_line(),
                Some('/') if self.peek_after(1) == Some('*') => {
                    let at = self.at;
                    self.bump_n(2);
                    while !(self.peek() == Some('*') && self.peek_after(1) == Some('/')) {
                        if self.bump().is_none() {
                            return Err(ParseError::new(at, "comment not terminated"));
                        }
                    }
                    self.bump_n(2);
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.bump();
        }
    }

    fn quoted(&mut self, quote: char, at: Position) -> Result<Kind, ParseError> {
        let from = self.i;
        self.bump();
        loop {
            match self.bump() {
                None | Some('\n') => return Err(ParseError::new(at, "literal not terminated")),
                Some('\\') => self.bump_n(1),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        let text = self.text(from);
        if quote == '\'' {
            return Ok(Kind::Ident(text));
        }
        go::unquote(&text).map(Kind::Str).ok_or_else(|| ParseError::new(at, "invalid char escape"))
    }

    fn raw(&mut self, at: Position) -> Result<Kind, ParseError> {
        let from = self.i;
        self.bump();
        loop {
            match self.bump() {
                None => return Err(ParseError::new(at, "literal not terminated")),
                Some('`') => break,
                Some(_) => {}
            }
        }
        Ok(Kind::Str(self.text(from).trim_matches('`').to_owned()))
    }

    fn range(&mut self, at: Position) -> Result<Kind, ParseError> {
        self.bump();
        let from = self.i;
        while self.peek().is_some_and(|c| c != ']') {
            self.bump();
        }
        let text = self.text(from);
        if self.bump().is_none() {
            return Err(ParseError::new(at, "missing closing ']' in duration"));
        }
        go::parse_prometheus_duration(&text).map(Kind::Range).map_err(|message| ParseError::new(at, message))
    }

    fn minus(&mut self) -> Kind {
        if self.peek_after(1) == Some('-') {
            let rest = self.chars.get(self.i..).unwrap_or_default();
            let flag: String = rest.iter().take_while(|c| c.is_alphabetic() || **c == '-').collect();
            for name in ["--strict", "--keep-empty"] {
                if flag == name {
                    self.bump_n(name.len());
                    return Kind::Flag(name);
                }
            }
        }
        self.bump();
        self.quantity("-").unwrap_or(Kind::Word("-"))
    }

    /// Reads on from `start` (a number or a minus) when together they are a duration or a size.
    fn quantity(&mut self, start: &str) -> Option<Kind> {
        let run = |set: &str| -> String {
            let rest = self.chars.get(self.i..).unwrap_or_default();
            rest.iter().take_while(|c| c.is_numeric() || set.contains(**c) || **c == '.').collect()
        };
        let tail = run("nuµmshdwy");
        let text = format!("{start}{tail}");
        let duration = go::parse_prometheus_duration(&text).ok().or_else(|| go::parse_duration(&text));
        if let Some(nanos) = duration.filter(|_| !tail.is_empty()) {
            self.bump_n(tail.chars().count());
            return Some(Kind::Duration(nanos));
        }
        if start == "-" {
            return None;
        }
        let tail = run("BikKMGTP");
        let bytes = go::parse_bytes(&format!("{start}{tail}")).ok().filter(|_| !tail.is_empty())?;
        self.bump_n(tail.chars().count());
        Some(Kind::Bytes(bytes))
    }

    fn number(&mut self, at: Position) -> Result<Kind, ParseError> {
        let from = self.i;
        let prefix = if self.peek() == Some('0') { self.peek_after(1).map(|c| c.to_ascii_lowercase()) } else { None };
        let radix = match prefix {
            Some('x') => 16,
            Some('o') => 8,
            Some('b') => 2,
            _ => 10,
        };
        let fail = |message: &str| Err(ParseError::new(at, message));
        if radix != 10 {
            self.bump_n(2);
        }
        let digits_from = self.i;
        let is_digit = |c: char| if radix == 16 { c.is_ascii_hexdigit() } else { c.is_ascii_digit() } || c == '_';
        while self.peek().is_some_and(is_digit) {
            self.bump();
        }
        let mut float = false;
        if matches!(radix, 10 | 16) && self.peek() == Some('.') {
            float = true;
            self.bump();
            while self.peek().is_some_and(is_digit) {
                self.bump();
            }
        }
        if radix != 10 && !self.chars.get(digits_from..self.i).unwrap_or_default().iter().any(|c| c.is_ascii_hexdigit())
        {
            return fail(match radix {
                16 => "hexadecimal literal has no digits",
                8 => "octal literal has no digits",
                _ => "binary literal has no digits",
            });
        }
        match self.peek().map(|c| c.to_ascii_lowercase()) {
            Some('e') if radix == 10 => float = true,
            Some('e') if radix != 16 => return fail("'e' exponent requires decimal mantissa"),
            Some('p') if radix == 16 => float = true,
            _ => return self.number_end(from, at, float),
        }
        self.bump();
        if matches!(self.peek(), Some('+' | '-')) {
            self.bump();
        }
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return fail("exponent has no digits");
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit() || c == '_') {
            self.bump();
        }
        self.number_end(from, at, float)
    }

    fn number_end(&mut self, from: usize, at: Position, float: bool) -> Result<Kind, ParseError> {
        let text = self.text(from);
        let octal = text.len() > 1 && text.starts_with('0') && text.chars().all(|c| c.is_ascii_digit());
        if octal
            && !float
            && let Some(bad) = text.chars().find(|c| matches!(c, '8' | '9'))
        {
            return Err(ParseError::new(at, format!("invalid digit {bad:?} in octal literal")));
        }
        Ok(self.quantity(&text).unwrap_or(Kind::Number(text)))
    }

    fn word(&mut self) -> Kind {
        let from = self.i;
        while self.peek().is_some_and(|c| is_letter(c) || c.is_numeric()) {
            self.bump();
        }
        let text = self.text(from);
        let lower = text.to_lowercase();
        if let Some(name) = FUNCTIONS.iter().find(|name| **name == lower) {
            return if self.calls() { Kind::Function(name) } else { Kind::Ident(text) };
        }
        match WORDS.iter().find(|word| **word == lower) {
            Some(word) => Kind::Word(word),
            None => Kind::Ident(text),
        }
    }

    /// Says whether what follows is `(`, or `by (` or `without (`.
    fn calls(&self) -> bool {
        let rest = self.chars.get(self.i..).unwrap_or_default();
        let mut rest = rest.iter().copied().skip_while(|c| c.is_whitespace());
        let mut word = String::new();
        for c in rest.by_ref().take("without".len()) {
            word.extend(c.to_lowercase());
            match word.as_str() {
                "(" => return true,
                "by" | "without" => return rest.find(|c| !c.is_whitespace()) == Some('('),
                _ => {}
            }
        }
        false
    }

    fn symbol(&mut self) -> Kind {
        let one = self.bump().map(String::from).unwrap_or_default();
        let two = self.peek().map(|c| format!("{one}{c}")).unwrap_or_default();
        if let Some(word) = WORDS.iter().find(|word| **word == two) {
            self.bump();
            return Kind::Word(word);
        }
        match WORDS.iter().find(|word| **word == one) {
            Some(word) => Kind::Word(word),
            None => Kind::Ident(one),
        }
    }
}

fn is_letter(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let shown = match tokens(text) {
            Ok(tokens) => match tokens.last() {
                Some(Token { kind: Kind::Bad(message), at }) => ParseError::new(*at, message).to_string(),
                _ => tokens.iter().map(|t| format!("{:?}@{}", t.kind, t.at.column)).collect::<Vec<_>>().join(" "),
            },
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn words_are_keywords_in_any_case_and_functions_only_before_a_bracket() {
        check(
            "COUNT count( by rate by (a)",
            expect![[
                r#"Ident("COUNT")@1 Function("count")@7 Word("(")@12 Word("by")@14 Function("rate")@17 Word("by")@22 Word("(")@25 Ident("a")@26 Word(")")@27 End@28"#
            ]],
        );
    }

    #[test]
    fn quantities_take_their_units() {
        check(
            "5m 1.5h 10KB 7 -2s -02 [1h30m]",
            expect![
                "Duration(300000000000)@1 Duration(5400000000000)@4 Bytes(10000)@9 Number(\"7\")@14 Duration(-2000000000)@16 Word(\"-\")@20 Number(\"02\")@21 Range(5400000000000)@24 End@31"
            ],
        );
    }

    #[test]
    fn comments_are_skipped() {
        check("a # b\nc // d\n/* e\n */ f", expect![[r#"Ident("a")@1 Ident("c")@1 Ident("f")@5 End@6"#]]);
    }

    #[test]
    fn bad_tokens_name_their_place() {
        check(" \"abc", expect!["parse error at line 1, col 2: literal not terminated"]);
        check("`abc", expect!["parse error at line 1, col 1: literal not terminated"]);
        check("a [5m", expect!["parse error at line 1, col 3: missing closing ']' in duration"]);
        check("[]", expect!["parse error at line 1, col 1: empty duration string"]);
        check("\n \"\\q\"", expect!["parse error at line 2, col 2: invalid char escape"]);
        check("1p3", expect![[r#"Number("1")@1 Ident("p3")@2 End@4"#]]);
        check("/* x", expect!["parse error at line 1, col 1: comment not terminated"]);
        check(&"a".repeat(QUERY_BYTES_MAX), expect!["parse error : input size too long (131072 > 131072)"]);
    }
}
