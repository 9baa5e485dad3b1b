//! Cuts an expression into tokens with positions.

use super::ast::Span;
use super::error::ParseError;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    Text,
    /// Punctuation or a comparison, arithmetic or matching operator; its text tells which.
    Symbol,
    End,
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

    /// Says whether it is this word, in any case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Identifier && self.text.eq_ignore_ascii_case(word)
    }

    /// Describes the token for an error, as Prometheus does.
    pub(crate) fn describe(&self) -> String {
        let text = self.text;
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Identifier => {
                let lower = text.to_ascii_lowercase();
                match lower.as_str() {
                    "and" | "or" | "unless" | "atan2" => format!("<op:{lower}>"),
                    "sum" | "avg" | "count" | "min" | "max" | "group" | "stddev" | "stdvar" | "topk" | "bottomk"
                    | "count_values" | "quantile" | "limitk" | "limit_ratio" => format!("<aggr:{lower}>"),
                    "offset" | "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" | "bool"
                    | "anchored" | "smoothed" | "fill" | "fill_left" | "fill_right" | "start" | "end" | "step"
                    | "range" => format!("<{lower}>"),
                    _ => format!("identifier {}", quote(text)),
                }
            }
            Kind::MetricIdentifier => format!("metric identifier {}", quote(text)),
            Kind::Number => format!("number {}", short(text)),
            Kind::Duration => format!("duration {}", short(text)),
            Kind::Text => format!("string {}", short(text)),
            Kind::Symbol => match text {
                "(" | ")" | "{" | "}" | "[" | "]" | "," | ":" | "@" => quote(text),
                _ => format!("<op:{text}>"),
            },
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() > 10 {
        format!("{}...", quote(&text.chars().take(10).collect::<String>()))
    } else {
        quote(text)
    }
}

/// Writes `text` in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The longest expression that is read, in bytes: far above what people or dashboards write.
pub(crate) const EXPRESSION_BYTES_MAX: usize = 256 << 10;

/// Cuts `input` into tokens; the last one is [`Kind::End`].
pub(crate) fn tokens(input: &str) -> Result<Vec<Token<'_>>, ParseError> {
    if input.len() > EXPRESSION_BYTES_MAX {
        let text = format!("expression of {} bytes is over the limit of {EXPRESSION_BYTES_MAX}", input.len());
        return Err(ParseError::new(Span::new(0, 0), text));
    }
    let mut lexer = Lexer { input, at: 0, tokens: Vec::new(), open: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    input: &'a str,
    at: usize,
    tokens: Vec<Token<'a>>,
    /// The brackets that are open, with their positions.
    open: Vec<(u8, usize)>,
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.input.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.input.get(start..end).unwrap_or("")
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let text = self.slice(start, self.at);
        self.tokens.push(Token { kind, text, span: Span::new(start, self.at) });
    }

    fn error(&self, at: usize, text: impl Into<String>) -> ParseError {
        ParseError::new(Span::new(at, self.at.max(at)), text)
    }

    fn inside(&self, bracket: u8) -> bool {
        self.open.last().is_some_and(|(open, _)| *open == bracket)
    }

    fn run(&mut self) -> Result<(), ParseError> {
        loop {
            let start = self.at;
            let c = self.peek(0);
            match c {
                0 if self.at >= self.input.len() => break,
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' => {
                    while self.at < self.input.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                b'"' | b'\'' | b'`' => self.text(c)?,
                b'0'..=b'9' => self.number(start)?,
                b'.' if self.peek(1).is_ascii_digit() => self.number(start)?,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word(start),
                b':' if !self.inside(b'[') && !self.inside(b'{') => self.word(start),
                _ => self.symbol(start, c)?,
            }
        }
        if let Some((open, _)) = self.open.last() {
            let what = match open {
                b'(' => "unclosed left parenthesis",
                b'[' => "unexpected end of input in range or subquery selector",
                _ => "unexpected end of input inside braces",
            };
            return Err(self.error(self.at, what));
        }
        self.push(Kind::End, self.at);
        Ok(())
    }

    fn word(&mut self, start: usize) {
        let colons = !self.inside(b'[') && !self.inside(b'{');
        loop {
            match self.peek(0) {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => self.at += 1,
                b':' if colons => self.at += 1,
                _ => break,
            }
        }
        let text = self.slice(start, self.at);
        let lower = text.to_ascii_lowercase();
        let number = !self.inside(b'{') && matches!(lower.as_str(), "inf" | "nan");
        let kind = match number {
            true => Kind::Number,
            false if text.contains(':') => Kind::MetricIdentifier,
            false => Kind::Identifier,
        };
        self.push(kind, start);
    }

    fn number(&mut self, start: usize) -> Result<(), ParseError> {
        if self.duration_len() > 0 {
            self.at += self.duration_len();
            self.push(Kind::Duration, start);
        } else {
            self.plain_number();
            self.push(Kind::Number, start);
        }
        if self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' || self.peek(0) >= 0x80 {
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' || self.peek(0) >= 0x80 {
                self.at += 1;
            }
            let text = quote(self.slice(start, self.at));
            return Err(self.error(start, format!("bad number or duration syntax: {text}")));
        }
        Ok(())
    }

    fn plain_number(&mut self) {
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X') {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() || self.peek(0) == b'_' {
                self.at += 1;
            }
            return;
        }
        while self.peek(0).is_ascii_digit() || (self.peek(0) == b'_' && self.peek(1).is_ascii_digit()) {
            self.at += 1;
        }
        if self.peek(0) == b'.' {
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                while self.peek(0).is_ascii_digit() {
                    self.at += 1;
                }
            }
        }
    }

    /// Returns how many bytes from here on are a duration, 0 when it is none.
    fn duration_len(&self) -> usize {
        let mut len = 0;
        loop {
            let digits = (len..).take_while(|i| self.peek(*i).is_ascii_digit()).count();
            if digits == 0 {
                return len;
            }
            let unit = match (self.peek(len + digits), self.peek(len + digits + 1)) {
                (b'm', b's') => 2,
                (b'y' | b'w' | b'd' | b'h' | b'm' | b's', _) => 1,
                _ => return 0,
            };
            len += digits + unit;
        }
    }

    fn text(&mut self, quote: u8) -> Result<(), ParseError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek(0) {
                0 if self.at >= self.input.len() => {
                    let what = if quote == b'`' { "unterminated raw string" } else { "unterminated quoted string" };
                    return Err(self.error(start, what));
                }
                b'\n' if quote != b'`' => return Err(self.error(start, "unterminated quoted string")),
                b'\\' if quote != b'`' => {
                    self.at += 1;
                    let next = self.input.get(self.at..).and_then(|rest| rest.chars().next());
                    self.at += next.map_or(0, char::len_utf8);
                }
                c if c == quote => {
                    self.at += 1;
                    self.push(Kind::Text, start);
                    return Ok(());
                }
                _ => self.at += 1,
            }
        }
    }

    fn symbol(&mut self, start: usize, c: u8) -> Result<(), ParseError> {
        let next = self.peek(1);
        let len = match (c, next) {
            (b'=' | b'!', b'=' | b'~') | (b'<' | b'>', b'=' | b'/') => 2,
            (
                b'=' | b'<' | b'>' | b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b',' | b'@' | b'(' | b')' | b'{' | b'}'
                | b'[' | b']' | b':',
                _,
            ) => 1,
            (b'!', _) => {
                let text = self.character(start + 1).map_or("unexpected end of input after '!'".to_owned(), |c| {
                    format!("unexpected character after '!': {c:?}")
                });
                return Err(self.error(start, text));
            }
            _ => {
                let found = self.character(start).unwrap_or(' ');
                let place = if self.inside(b'{') { " inside braces" } else { "" };
                return Err(self.error(start, format!("unexpected character{place}: {found:?}")));
            }
        };
        match c {
            b'(' | b'[' | b'{' => self.open.push((c, start)),
            b')' | b']' | b'}' => {
                let opener = if c == b')' {
                    b'('
                } else if c == b']' {
                    b'['
                } else {
                    b'{'
                };
                match self.open.pop() {
                    Some((open, _)) if open == opener => {}
                    _ => {
                        let what = match c {
                            b')' => "unexpected right parenthesis ')'",
                            b']' => "unexpected right bracket ']'",
                            _ => "unexpected right brace '}'",
                        };
                        return Err(self.error(start, what));
                    }
                }
            }
            _ => {}
        }
        self.at += len;
        self.push(Kind::Symbol, start);
        Ok(())
    }

    fn character(&self, at: usize) -> Option<char> {
        self.input.get(at..).and_then(|rest| rest.chars().next())
    }
}

/// Takes a string's quotes and escapes away; bytes that are not UTF-8 come as they are written (`\xc5`).
pub(crate) fn unquote(literal: &str) -> Result<String, String> {
    let quote = literal.as_bytes().first().copied().unwrap_or(0);
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    if quote == b'`' {
        return Ok(inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next().ok_or("invalid syntax")?;
        match escape {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            '\'' | '"' if escape as u32 == u32::from(quote) => bytes.push(quote),
            'x' => bytes.push(u8::try_from(digits(&mut rest, 2, 16)?).map_err(|_| "invalid syntax")?),
            'u' | 'U' => {
                let code = digits(&mut rest, if escape == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                code = code * 64 + digits(&mut rest, 2, 8)?;
                bytes.push(u8::try_from(code).map_err(|_| "octal escape value > 255")?);
            }
            _ => return Err(format!("unknown escape sequence U+{:04X} '{escape}'", escape as u32)),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => Ok(spell_invalid(error.as_bytes())),
    }
}

/// Marks text that was not UTF-8: no label name or value of a store can hold it.
pub(crate) const INVALID_MARK: char = '\u{FFFF}';

fn spell_invalid(bytes: &[u8]) -> String {
    let mut out = String::from(INVALID_MARK);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn digits(rest: &mut std::str::Chars<'_>, n: usize, radix: u32) -> Result<u32, String> {
    let mut value = 0u32;
    for _ in 0..n {
        let digit = rest.next().and_then(|c| c.to_digit(radix)).ok_or("invalid syntax")?;
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}
