//! Cuts an expression into tokens with positions.

use super::ast::Span;
use super::error::ParseError;
use super::text::{quote, quote_char, unicode};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Identifier,
    MetricIdentifier,
    /// A word with a meaning of its own where it stands; in most places it may also be the name of a metric.
    Keyword,
    Number,
    Duration,
    Text,
    /// Punctuation or a comparison, arithmetic or matching operator; its text tells which.
    Symbol,
    End,
    /// From here on the text cannot be cut into tokens; always the last one.
    Error,
}

/// A token: what it is and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) span: Span,
}

impl Token<'_> {
    /// Says whether it is this punctuation or operator.
    pub(crate) fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// Says whether it is this keyword, in any case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Keyword && self.text.eq_ignore_ascii_case(word)
    }

    /// Describes the token for an error, as Prometheus does.
    pub(crate) fn describe(&self) -> String {
        let text = self.text;
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Error => "error".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(text)),
            Kind::Keyword => match keyword(text) {
                Some(Class::Operator) => format!("<op:{text}>"),
                Some(Class::Aggregation) => format!("<aggr:{text}>"),
                Some(Class::Modifier | Class::Fill) => format!("<{text}>"),
                _ => quote(text),
            },
            Kind::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Kind::Number => format!("number {}", short(text)),
            Kind::Duration => format!("duration {}", short(text)),
            Kind::Text => format!("string {}", short(text)),
            Kind::Symbol => match text {
                "(" | ")" | "{" | "}" | "[" | "]" | "," | ":" | "=" => quote(text),
                _ => format!("<op:{text}>"),
            },
        }
    }
}

/// The kinds of words with a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Operator,
    Aggregation,
    Modifier,
    /// `fill` and its like, which are keywords only before a parenthesis.
    Fill,
    /// What may stand in durations, after `@`, or be called.
    Call,
}

fn keyword(word: &str) -> Option<Class> {
    Some(match word.to_ascii_lowercase().as_str() {
        "and" | "or" | "unless" | "atan2" => Class::Operator,
        "sum" | "avg" | "count" | "min" | "max" | "group" | "stddev" | "stdvar" | "topk" | "bottomk"
        | "count_values" | "quantile" | "limitk" | "limit_ratio" => Class::Aggregation,
        "offset" | "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" | "bool" | "anchored"
        | "smoothed" => Class::Modifier,
        "fill" | "fill_left" | "fill_right" => Class::Fill,
        "start" | "end" | "step" | "range" | "min_of" | "max_of" => Class::Call,
        _ => return None,
    })
}

fn short(text: &str) -> String {
    if text.len() > 10 { format!("{}...", quote(&text.chars().take(10).collect::<String>())) } else { quote(text) }
}

/// The longest expression that is read, in bytes: far above what people or dashboards write.
pub(crate) const EXPRESSION_BYTES_MAX: usize = 256 << 10;

/// Cuts `input` into tokens; the last one is [`Kind::End`], or [`Kind::Error`] with the error beside.
pub(crate) fn tokens(input: &str) -> (Vec<Token<'_>>, Option<ParseError>) {
    let mut lexer = Lexer { input, ..Lexer::default() };
    let error = if input.len() > EXPRESSION_BYTES_MAX {
        let text = format!("expression of {} bytes is over the limit of {EXPRESSION_BYTES_MAX}", input.len());
        Some(ParseError::new(Span::new(0, 0), text))
    } else {
        lexer.run().err()
    };
    if let Some(error) = &error {
        lexer.tokens.push(Token { kind: Kind::Error, text: "", span: error.span });
    }
    (lexer.tokens, error)
}

/// Where the lexer is decides how it reads on; the rules are those of Prometheus.
#[derive(Default)]
struct Lexer<'a> {
    input: &'a str,
    at: usize,
    tokens: Vec<Token<'a>>,
    /// How many parentheses are open.
    parens: usize,
    in_braces: bool,
    in_brackets: bool,
    /// Whether a duration is expected: in brackets, up to the first number.
    in_duration: bool,
    /// Whether the brackets have had their colon.
    had_colon: bool,
    /// Whether the expression has had a duration in brackets.
    had_duration: bool,
}

type Lexed = Result<(), ParseError>;

impl<'a> Lexer<'a> {
    fn byte(&self, ahead: usize) -> u8 {
        self.input.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &'a str {
        self.input.get(self.at..).unwrap_or("")
    }

    fn char(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, pass: impl Fn(u8) -> bool) {
        while self.at < self.input.len() && pass(self.byte(0)) {
            self.at += 1;
        }
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let text = self.input.get(start..self.at).unwrap_or("");
        self.tokens.push(Token { kind, text, span: Span::new(start, self.at) });
    }

    fn symbol(&mut self, len: usize) -> Lexed {
        let start = self.at;
        self.at += len;
        self.push(Kind::Symbol, start);
        Ok(())
    }

    fn error(&self, at: usize, text: impl Into<String>) -> Lexed {
        Err(ParseError::new(Span::new(at, self.input.len()), text))
    }

    fn run(&mut self) -> Lexed {
        loop {
            if self.in_duration {
                self.skip(is_space);
            } else if is_space(self.byte(0)) {
                self.skip(is_space);
                continue;
            } else if self.byte(0) == b'#' {
                self.skip(|c| !matches!(c, b'\n' | b'\r'));
                continue;
            }
            let Some(c) = self.char() else { break };
            if self.in_duration {
                self.in_duration(c)?;
            } else if self.in_braces {
                self.in_braces(c)?;
            } else {
                self.statement(c)?;
            }
        }
        let what = if self.in_duration {
            "unexpected end of input in duration expression"
        } else if self.in_braces {
            "unexpected end of input inside braces"
        } else if self.parens > 0 {
            "unclosed left parenthesis"
        } else if self.in_brackets {
            "unclosed left bracket"
        } else {
            self.push(Kind::End, self.at);
            return Ok(());
        };
        self.error(self.at, what)
    }

    fn statement(&mut self, c: char) -> Lexed {
        let start = self.at;
        let next = self.rest().chars().nth(1);
        match c {
            ',' | '*' | '/' | '%' | '+' | '-' | '^' | '@' => self.symbol(1),
            '=' if next == Some('~') => self.error(start, "unexpected character after '=': '~'"),
            '=' => self.symbol(1 + usize::from(next == Some('='))),
            '!' if next == Some('=') => self.symbol(2),
            '!' => self.error(start, format!("unexpected character after '!': {}", self.after(next))),
            '<' | '>' => self.symbol(1 + usize::from(matches!(next, Some('=' | '/')))),
            '0'..='9' => self.number(),
            '.' if next.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '"' | '\'' | '`' => self.text(c),
            '(' | ')' => self.paren(c),
            '{' => {
                self.in_braces = true;
                self.symbol(1)
            }
            '[' if self.in_brackets => self.error(start, "unexpected left bracket '['"),
            '[' => {
                (self.in_brackets, self.in_duration, self.had_colon) = (true, true, false);
                self.symbol(1)
            }
            ']' if !self.in_brackets => self.error(start, "unexpected right bracket ']'"),
            ']' => {
                self.in_brackets = false;
                self.symbol(1)
            }
            ':' if self.in_brackets && self.had_colon => self.error(start, "unexpected colon ':'"),
            ':' if self.in_brackets => {
                self.had_colon = true;
                self.symbol(1)
            }
            c if self.in_brackets && is_alpha(c) => {
                if self.duration_word() {
                    return Ok(());
                }
                self.error(start, format!("unexpected character: {}, expected ':'", quote_char(c)))
            }
            c if is_alpha(c) || c == ':' => {
                self.word();
                Ok(())
            }
            c => self.error(start, format!("unexpected character: {}", quote_char(c))),
        }
    }

    /// Spells what comes after a `!`; Go has an odd word for the end of the text.
    fn after(&self, next: Option<char>) -> String {
        next.map_or_else(|| "'\u{fffd}'".to_owned(), quote_char)
    }

    fn paren(&mut self, c: char) -> Lexed {
        if c == '(' {
            self.parens += 1;
            return self.symbol(1);
        }
        match self.parens.checked_sub(1) {
            Some(parens) => {
                self.parens = parens;
                self.symbol(1)
            }
            None => self.error(self.at + 1, "unexpected right parenthesis ')'"),
        }
    }

    fn in_braces(&mut self, c: char) -> Lexed {
        let start = self.at;
        let next = self.rest().chars().nth(1);
        match c {
            c if is_alpha(c) => {
                self.skip(is_word_byte);
                self.push(Kind::Identifier, start);
                Ok(())
            }
            ',' => self.symbol(1),
            '"' | '\'' | '`' => self.text(c),
            '=' => self.symbol(1 + usize::from(next == Some('~'))),
            '!' if matches!(next, Some('=' | '~')) => self.symbol(2),
            '!' => self.error(start, format!("unexpected character after '!' inside braces: {}", self.after(next))),
            '{' => self.error(start, "unexpected left brace '{'"),
            '}' => {
                self.in_braces = false;
                self.symbol(1)
            }
            c => self.error(start, format!("unexpected character inside braces: {}", quote_char(c))),
        }
    }

    fn in_duration(&mut self, c: char) -> Lexed {
        let start = self.at;
        let next_digit = self.byte(1).is_ascii_digit();
        match c {
            ']' => {
                (self.in_brackets, self.in_duration, self.had_colon) = (false, false, false);
                self.symbol(1)
            }
            ':' if !self.had_duration => {
                self.error(start + 1, "unexpected colon before duration in duration expression")
            }
            ':' if self.had_colon => self.error(start + 1, "unexpected repeated colon in duration expression"),
            ':' => {
                self.had_colon = true;
                self.symbol(1)
            }
            '(' | ')' => self.paren(c),
            '+' | '-' | '*' | '/' | '%' | '^' | ',' => self.symbol(1),
            '0'..='9' => self.first_number(),
            '.' if next_digit => self.first_number(),
            c if is_alpha(c) && self.duration_word() => Ok(()),
            c => self.error(start, format!("unexpected character in duration expression: {}", quote_char(c))),
        }
    }

    fn first_number(&mut self) -> Lexed {
        (self.had_duration, self.in_duration) = (true, false);
        self.number()
    }

    /// Reads one of the words that durations may have; says whether there was one.
    fn duration_word(&mut self) -> bool {
        let start = self.at;
        self.skip(|c| is_alpha(char::from(c)));
        let word = self.input.get(start..self.at).unwrap_or("").to_ascii_lowercase();
        let found = matches!(word.as_str(), "step" | "range" | "min_of" | "max_of");
        if found {
            self.push(Kind::Keyword, start);
        } else {
            self.at = start;
        }
        found
    }

    fn word(&mut self) {
        let start = self.at;
        self.skip(|c| is_word_byte(c) || c == b':');
        let text = self.input.get(start..self.at).unwrap_or("");
        let kind = match keyword(text) {
            Some(Class::Fill) if !self.rest().trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(') => {
                Kind::Identifier
            }
            Some(_) => Kind::Keyword,
            None if matches!(text.to_ascii_lowercase().as_str(), "inf" | "nan") => Kind::Number,
            None if text.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.push(kind, start);
    }

    fn number(&mut self) -> Lexed {
        let start = self.at;
        if self.plain_number() {
            self.push(Kind::Number, start);
            return Ok(());
        }
        if self.rest_of_duration() {
            self.push(Kind::Duration, start);
            return Ok(());
        }
        let text = quote(self.input.get(start..self.at).unwrap_or(""));
        self.error(start, format!("bad number or duration syntax: {text}"))
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.at < self.input.len() && set.as_bytes().contains(&self.byte(0));
        self.at += usize::from(found);
        found
    }

    /// Reads what may be a number; stops where it cannot be one, so that the error shows how far it got.
    fn plain_number(&mut self) -> bool {
        let mut digits: &str = "0123456789";
        let mut hex = false;
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
            hex = true;
        }
        self.accept(".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        while self.at < self.input.len() {
            let c = self.byte(0);
            if c == b'.' {
                self.at += 1;
                if dot || self.accept("_.") || hex {
                    return false;
                }
                dot = true;
            } else if matches!(c, b'e' | b'E') {
                self.at += 1;
                if exponent {
                    return false;
                }
                // Where a digit may be an `e`, it still counts as the sign of an exponent.
                exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.at >= self.input.len() {
                    return false;
                }
            } else if c == b'_' {
                self.at += 1;
                if self.accept("._eE") || self.at >= self.input.len() {
                    return false;
                }
            } else if digits.as_bytes().contains(&c) {
                self.skip(|c| digits.as_bytes().contains(&c));
            } else {
                break;
            }
        }
        !is_word_byte(self.byte(0))
    }

    /// Reads the units and further numbers of a duration.
    fn rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.skip(|c| c.is_ascii_digit());
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if is_word_byte(self.byte(0)) {
            self.at += 1;
            return false;
        }
        true
    }

    fn text(&mut self, quote: char) -> Lexed {
        let start = self.at;
        self.at += 1;
        let raw = quote == '`';
        loop {
            let c = self.char();
            self.at += c.map_or(0, char::len_utf8);
            match c {
                None if raw => return self.error(start, "unterminated raw string"),
                None => return self.error(start, "unterminated quoted string"),
                Some('\n') if !raw => return self.error(start, "unterminated quoted string"),
                Some('\u{fffd}') => return self.error(start, "invalid UTF-8 rune"),
                Some('\\') if !raw => self.escaped(start, quote)?,
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.push(Kind::Text, start);
        Ok(())
    }

    /// Checks what stands behind a backslash.
    fn escaped(&mut self, start: usize, quote: char) -> Lexed {
        let Some(c) = self.char() else { return self.error(start, "escape sequence not terminated") };
        let (count, radix, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => (0, 0, 0),
            c if c == quote => (0, 0, 0),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_ffff),
            'U' => (8, 16, 0x10_ffff),
            c => return self.error(start, format!("unknown escape sequence {}", unicode(c))),
        };
        self.at += if radix == 8 { 0 } else { c.len_utf8() };
        let mut code = 0u32;
        for _ in 0..count {
            let Some(c) = self.char() else { return self.error(start, "escape sequence not terminated") };
            let Some(digit) = c.to_digit(radix) else {
                return self.error(start, format!("illegal character {} in escape sequence", unicode(c)));
            };
            self.at += 1;
            code = code.wrapping_mul(radix).wrapping_add(digit);
        }
        if code > max || (0xd800..0xe000).contains(&code) {
            return self.error(start, "escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }
}

fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_word_byte(c: u8) -> bool {
    c == b'_' || c.is_ascii_alphanumeric()
}
