//! Durations, literal and computed.

use super::ast::{Duration, DurationKind, DurationOp, Number};
use super::error::ParseError;
use super::lexer::{Kind, Token};
use super::parser::{Parsed, Parser, number};
use super::text::quote;

/// The longest duration in seconds that fits 64-bit nanoseconds, as Prometheus bounds it.
pub(crate) const SECONDS_MAX: f64 = 9_223_372_036.854_775;

/// What a duration may begin with, in messages.
pub(super) const EXPECTED: &str = "number, duration, step(), or range()";

const CALLS: [&str; 4] = ["step", "range", "min_of", "max_of"];

impl Parser<'_> {
    /// Reads a duration expression whose operators bind at least as strongly as `weakest`.
    pub(super) fn duration(&mut self, weakest: u8) -> Parsed<Duration> {
        self.nested(|parser| {
            let mut lhs = parser.duration_unary()?;
            loop {
                let token = parser.peek();
                let (op, strength) = match (token.kind, token.text) {
                    (Kind::Symbol, "+") => (DurationOp::Add, 1),
                    (Kind::Symbol, "-") => (DurationOp::Sub, 1),
                    (Kind::Symbol, "*") => (DurationOp::Mul, 2),
                    (Kind::Symbol, "/") => (DurationOp::Div, 2),
                    (Kind::Symbol, "%") => (DurationOp::Mod, 2),
                    (Kind::Symbol, "^") => (DurationOp::Pow, 3),
                    _ => return Ok(lhs),
                };
                if strength < weakest {
                    return Ok(lhs);
                }
                parser.next();
                let rhs = parser.duration(if op == DurationOp::Pow { strength } else { strength + 1 })?;
                parser.still_tokens()?;
                if matches!(op, DurationOp::Div | DurationOp::Mod) && rhs.literal() == Some(0.0) {
                    let what = if op == DurationOp::Div { "division by zero" } else { "modulo by zero" };
                    return Err(ParseError::new(token.span, what));
                }
                let span = lhs.span.to(rhs.span);
                lhs = Duration { kind: DurationKind::Binary(op, Box::new(lhs), Box::new(rhs)), span };
            }
        })
    }

    /// Reads what may follow `offset`: a literal or a call, with a sign; only what begins with a parenthesis or two
    /// signs may go on with operators, as they would else be those of the expression around.
    pub(super) fn offset_duration(&mut self) -> Parsed<Duration> {
        self.duration_context = ("offset", EXPECTED);
        let token = self.peek();
        let signed_twice = |next: Token<'_>| next.is("-") || next.is("+");
        if token.is("-") || token.is("+") {
            if signed_twice(self.peek_at(1)) {
                return self.duration(0);
            }
            self.next();
            let literal = self.peek().kind == Kind::Number;
            let at_sign = |error: ParseError| if literal { ParseError { span: token.span, ..error } } else { error };
            let inner = self.duration_primary().map_err(at_sign)?;
            return signed(token, inner);
        }
        if token.is("(") { self.duration(0) } else { self.duration_primary() }
    }

    fn duration_unary(&mut self) -> Parsed<Duration> {
        let token = self.peek();
        if token.is("-") || token.is("+") {
            self.next();
            let inner = self.duration(3)?;
            return signed(token, inner);
        }
        self.duration_primary()
    }

    pub(super) fn unexpected_in_duration(&self, token: Token<'_>) -> ParseError {
        self.unexpected(token, self.duration_context.0, self.duration_context.1)
    }

    fn expect_in_duration(&mut self, symbol: &str) -> Parsed<()> {
        let token = self.peek();
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected_in_duration(token)) }
    }

    fn duration_primary(&mut self) -> Parsed<Duration> {
        let token = self.next();
        let kind = match token.kind {
            Kind::Number => seconds_kind(token, number(token)?, false)?,
            Kind::Duration => seconds_kind(token, seconds(token)?, true)?,
            Kind::Symbol if token.text == "(" => {
                let inner = self.duration(0)?;
                self.expect_in_duration(")")?;
                match inner.kind {
                    DurationKind::Paren(_) => inner.kind,
                    _ => DurationKind::Paren(Box::new(inner)),
                }
            }
            Kind::Keyword if CALLS.iter().any(|word| token.is_word(word)) => self.duration_call(token)?,
            _ => return Err(self.unexpected_in_duration(token)),
        };
        Ok(Duration { kind, span: token.span.to(self.last_span()) })
    }

    fn duration_call(&mut self, name: Token<'_>) -> Parsed<DurationKind> {
        self.expect_in_duration("(")?;
        let kind = if name.is_word("step") {
            DurationKind::Step
        } else if name.is_word("range") {
            DurationKind::Range
        } else {
            let a = Box::new(self.duration(0)?);
            self.expect_in_duration(",")?;
            let b = Box::new(self.duration(0)?);
            if name.is_word("min_of") { DurationKind::MinOf(a, b) } else { DurationKind::MaxOf(a, b) }
        };
        self.expect_in_duration(")")?;
        Ok(kind)
    }
}

/// Applies a sign: to a literal itself; a plus changes nothing.
fn signed(token: Token<'_>, inner: Duration) -> Parsed<Duration> {
    let span = token.span.to(inner.span);
    let kind = match (token.text, inner.kind) {
        ("-", DurationKind::Seconds(number)) => DurationKind::Seconds(Number { value: -number.value, ..number }),
        ("-", kind) => DurationKind::Neg(Box::new(Duration { kind, span: inner.span })),
        (_, kind) => kind,
    };
    Ok(Duration { kind, span })
}

fn seconds_kind(token: Token<'_>, value: f64, is_duration: bool) -> Parsed<DurationKind> {
    if !value.is_finite() || value.abs() > SECONDS_MAX {
        return Err(ParseError::new(token.span, "duration out of range"));
    }
    Ok(DurationKind::Seconds(Number { value, is_duration }))
}

/// Reads a literal such as `1h30m` as seconds. Units go from large to small, each once.
pub(super) fn seconds(token: Token<'_>) -> Parsed<f64> {
    const UNITS_MS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let error = |message: String| ParseError::new(token.span, message);
    let bad = || error(format!("not a valid duration string: {}", quote(token.text)));
    let out_of_range = || error("duration out of range".to_owned());
    let mut total_ms = 0u64;
    let mut smallest = 0;
    let mut rest = token.text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (amount, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let letters = tail.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(bad)?;
        let amount: u64 = amount.parse().map_err(|_| bad())?;
        let unknown = || error(format!("unknown unit {} in duration {}", quote(unit), quote(token.text)));
        let index = UNITS_MS.iter().position(|(name, _)| *name == unit).ok_or_else(unknown)?;
        if index < smallest {
            return Err(bad());
        }
        smallest = index + 1;
        let ms = amount.checked_mul(UNITS_MS[index].1).ok_or_else(out_of_range)?;
        total_ms = total_ms.checked_add(ms).ok_or_else(out_of_range)?;
        rest = tail;
    }
    #[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
    let value = total_ms as f64 / 1000.0;
    if value > SECONDS_MAX { Err(out_of_range()) } else { Ok(value) }
}

impl Duration {
    /// Returns the seconds, where they do not depend on the query.
    #[must_use]
    pub fn constant(&self) -> Option<f64> {
        self.compute(None).ok()
    }

    /// Returns the seconds of a literal.
    #[must_use]
    pub fn literal(&self) -> Option<f64> {
        match self.kind {
            DurationKind::Seconds(number) => Some(number.value),
            _ => None,
        }
    }

    /// Says what is wrong with this duration, with its place in bytes.
    pub(crate) fn complain(&self, what: &str) -> String {
        let (start, end) = self.ends();
        format!("{start}:{end}: {what}")
    }

    /// Returns where it begins and ends, without what encloses an operator's two sides.
    fn ends(&self) -> (u32, u32) {
        match &self.kind {
            DurationKind::Paren(inner) if inner.literal().is_none() => inner.ends(),
            DurationKind::Binary(_, a, b) | DurationKind::MinOf(a, b) | DurationKind::MaxOf(a, b) => {
                (a.ends().0, b.ends().1)
            }
            DurationKind::Neg(inner) => (self.span.start, inner.ends().1),
            _ => (self.span.start, self.span.end),
        }
    }

    /// Returns the seconds; `query` gives the step and the length of the query's range in seconds.
    ///
    /// # Errors
    /// A message: division by zero, or `step()` without a query.
    pub fn compute(&self, query: Option<(f64, f64)>) -> Result<f64, String> {
        Ok(match &self.kind {
            DurationKind::Seconds(number) => number.value,
            DurationKind::Step => query.ok_or_else(|| self.complain("no step"))?.0,
            DurationKind::Range => query.ok_or_else(|| self.complain("no range"))?.1,
            DurationKind::MinOf(a, b) => a.compute(query)?.min(b.compute(query)?),
            DurationKind::MaxOf(a, b) => a.compute(query)?.max(b.compute(query)?),
            DurationKind::Neg(a) => -a.compute(query)?,
            DurationKind::Paren(a) => a.compute(query)?,
            DurationKind::Binary(op, a, b) => {
                let (a, b) = (a.compute(query)?, b.compute(query)?);
                match op {
                    DurationOp::Add => a + b,
                    DurationOp::Sub => a - b,
                    DurationOp::Mul => a * b,
                    DurationOp::Div if b == 0.0 => return Err(self.complain("division by zero")),
                    DurationOp::Mod if b == 0.0 => return Err(self.complain("modulo by zero")),
                    DurationOp::Div => a / b,
                    DurationOp::Mod => a % b,
                    DurationOp::Pow => a.powf(b),
                }
            }
        })
    }
}
