//! Reads tokens into a syntax tree: precedence climbing for operators, recursive descent for the rest.

use super::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Expr, ExprKind, Matching, Number, Span};
use super::error::ParseError;
use super::lexer::{Kind, Token};
use super::text::{INVALID_MARK, quote, unquote};
use crate::functions;

/// The deepest tree that is built, e.g. by a long chain of operators. Evaluation and printing recurse, and so need a bound.
pub(crate) const DEPTH_MAX: u16 = 200;

/// The deepest nesting of parentheses, calls and signs that is read: reading recurses with larger frames.
pub(crate) const NESTING_MAX: u16 = 80;

pub(super) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    nesting: u16,
    /// How many aggregations are open here; an unexpected token is told to be in one.
    aggregations: u16,
    /// Why the tokens end early, if they do.
    error: Option<ParseError>,
    /// What the error about an unexpected token in a duration says of where it is and what was expected.
    pub(super) duration_context: (&'static str, &'static str),
    pub(super) patterns: model::pattern::Budget,
}

pub(super) type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: Vec<Token<'a>>, error: Option<ParseError>) -> Self {
        let patterns = model::pattern::Budget::default();
        Self { tokens, at: 0, nesting: 0, aggregations: 0, error, duration_context: ("", ""), patterns }
    }

    /// Says why the tokens end here, if they do and that is not the end of the text.
    pub(super) fn still_tokens(&self) -> Parsed<()> {
        let token = self.peek();
        if token.kind == Kind::Error { Err(self.unexpected(token, "", "")) } else { Ok(()) }
    }

    /// Returns the error about a token that does not fit, or why there is no token.
    pub(super) fn unexpected(&self, token: Token<'_>, context: &str, expected: &str) -> ParseError {
        if let (Kind::Error, Some(error)) = (token.kind, &self.error) {
            return error.clone();
        }
        let context = if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        let mut message = format!("unexpected {}", token.describe());
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::new(token.span, message)
    }

    pub(super) fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Token<'a> {
        let last = self.tokens.len() - 1;
        self.tokens[(self.at + ahead).min(last)]
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub(super) fn take(&mut self, symbol: &str) -> bool {
        let found = self.peek().is(symbol);
        self.at += usize::from(found);
        found
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_word(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, symbol: &str, context: &str) -> Parsed<Token<'a>> {
        let token = self.peek();
        let expected = if context.is_empty() { String::new() } else { quote(symbol) };
        if token.is(symbol) { Ok(self.next()) } else { Err(self.unexpected(token, context, &expected)) }
    }

    pub(super) fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)].span
    }

    /// Counts a level of nesting while `work` runs.
    pub(super) fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(too_deep(self.peek().span, NESTING_MAX));
        }
        let result = work(self);
        self.nesting -= 1;
        result
    }

    pub(super) fn node(&self, kind: ExprKind, span: Span) -> Parsed<Expr> {
        let below = match &kind {
            ExprKind::Number(_) | ExprKind::Text(_) | ExprKind::Selector(_) | ExprKind::Range(..) => 0,
            ExprKind::Subquery(subquery) => subquery.expr.depth,
            ExprKind::Call(_, args) => args.iter().map(|arg| arg.depth).max().unwrap_or(0),
            ExprKind::Aggregate(one) => one.expr.depth.max(one.param.as_ref().map_or(0, |param| param.depth)),
            ExprKind::Binary(binary) => binary.lhs.depth.max(binary.rhs.depth),
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => inner.depth,
        };
        if below >= DEPTH_MAX {
            return Err(too_deep(span, DEPTH_MAX));
        }
        Ok(Expr { kind, span, depth: below + 1 })
    }

    /// Reads an expression whose operators bind at least as strongly as `weakest`.
    pub(super) fn expr(&mut self, weakest: u8) -> Parsed<Expr> {
        self.nested(|parser| {
            let mut lhs = parser.unary()?;
            while let Some(op) = parser.binary_op() {
                let strength = op.precedence();
                if strength < weakest {
                    break;
                }
                parser.next();
                let (matching, returns_bool) = parser.matching(op)?;
                let next_weakest = if op == BinaryOp::Pow { strength } else { strength + 1 };
                let rhs = parser.expr(next_weakest)?;
                let span = lhs.span.to(rhs.span);
                lhs = parser.node(ExprKind::Binary(Box::new(Binary { op, lhs, rhs, returns_bool, matching })), span)?;
            }
            Ok(lhs)
        })
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        let token = self.peek();
        match token.kind {
            Kind::Symbol | Kind::Keyword => BinaryOp::from_word(token.text),
            _ => None,
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        if !(token.is("-") || token.is("+")) {
            return self.postfix();
        }
        self.next();
        let negative = token.text == "-";
        // A sign binds as multiplication does, so that `-2 ^ 2` is `-(2 ^ 2)`.
        let inner = self.expr(BinaryOp::Pow.precedence())?;
        let span = token.span.to(inner.span);
        match inner.kind {
            ExprKind::Number(number) => {
                let value = if negative { -number.value } else { number.value };
                self.node(ExprKind::Number(Number { value, ..number }), span)
            }
            _ => self.node(ExprKind::Unary(negative, Box::new(inner)), span),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        match token.kind {
            Kind::Number => {
                self.next();
                let value = number(token)?;
                self.node(ExprKind::Number(Number { value, is_duration: false }), token.span)
            }
            Kind::Duration => {
                self.next();
                let value = super::duration::seconds(token)?;
                self.node(ExprKind::Number(Number { value, is_duration: true }), token.span)
            }
            Kind::Text => {
                self.next();
                let text = self.text(token)?;
                self.node(ExprKind::Text(text), token.span)
            }
            Kind::Symbol if token.text == "(" => {
                self.next();
                let inner = self.expr(0)?;
                let close = self.expect(")", "")?;
                self.node(ExprKind::Paren(Box::new(inner)), token.span.to(close.span))
            }
            Kind::Symbol if token.text == "{" => self.selector(),
            Kind::MetricIdentifier => self.selector(),
            Kind::Identifier | Kind::Keyword if starts_expr(token) => self.word(token),
            _ => Err(self.unexpected(token, "", "")),
        }
    }

    fn word(&mut self, token: Token<'a>) -> Parsed<Expr> {
        let next = self.peek_at(1);
        if token.kind == Kind::Keyword
            && let Some(op) = AggregateOp::from_word(token.text)
        {
            if next.is("(") || next.is_word("by") || next.is_word("without") {
                return self.aggregate(op);
            }
            return self.selector();
        }
        let callable = token.kind == Kind::Identifier || CALLABLE.iter().any(|word| token.is_word(word));
        if next.is("(") && callable {
            return self.call();
        }
        self.selector()
    }

    fn call(&mut self) -> Parsed<Expr> {
        let name = self.next();
        let (args, end) = self.arguments()?;
        let Some(function) = functions::find(name.text) else {
            return Err(ParseError::new(name.span, format!("unknown function with name {}", quote(name.text))));
        };
        self.node(ExprKind::Call(function, args), name.span.to(end))
    }

    /// Reads `(a, b, …)` and tells where it ends.
    fn arguments(&mut self) -> Parsed<(Vec<Expr>, Span)> {
        self.expect("(", "")?;
        let mut args = Vec::new();
        if self.peek().is(")") {
            return Ok((args, self.next().span));
        }
        loop {
            args.push(self.expr(0)?);
            let token = self.peek();
            if token.is(")") {
                return Ok((args, self.next().span));
            }
            if !token.is(",") {
                return Err(self.unexpected(token, "", ""));
            }
            let comma = self.next();
            self.still_tokens()?;
            if !starts_expr(self.peek()) {
                return Err(ParseError::new(comma.span, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Parsed<Expr> {
        let name = self.next();
        self.aggregations += 1;
        let mut grouping = self.grouping_clause()?;
        let (mut args, mut end) = self.arguments()?;
        if grouping.is_none() {
            grouping = self.grouping_clause()?;
            if grouping.is_some() {
                end = self.last_span();
            }
        }
        self.aggregations -= 1;
        let span = name.span.to(end);
        let wanted = if op.has_param() { 2 } else { 1 };
        if args.len() != wanted {
            let message = if args.is_empty() {
                "no arguments for aggregate expression provided".to_owned()
            } else {
                let got = args.len();
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}")
            };
            return Err(ParseError::new(span, message));
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let missing = || ParseError::new(span, "no arguments for aggregate expression provided");
        let expr = args.pop().ok_or_else(missing)?;
        let param = args.pop();
        self.node(ExprKind::Aggregate(Box::new(Aggregate { op, param, expr, grouping, without })), span)
    }

    fn grouping_clause(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        self.still_tokens()?;
        let token = self.peek();
        let without = token.is_word("without");
        if !without && !token.is_word("by") {
            return Ok(None);
        }
        self.next();
        Ok(Some((without, self.label_list()?)))
    }

    /// Reads `(a, "b", c)`.
    fn label_list(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        let mut labels = Vec::new();
        self.expect("(", CONTEXT)?;
        loop {
            let token = self.peek();
            if token.is(")") {
                self.next();
                return Ok(labels);
            }
            let label = match token.kind {
                Kind::Identifier | Kind::MetricIdentifier => token.text.to_owned(),
                // This one word was forgotten by Prometheus.
                Kind::Keyword if !token.is_word("without") => token.text.to_owned(),
                Kind::Text => self.text(token)?,
                _ => return Err(self.unexpected(token, CONTEXT, "label")),
            };
            if label.is_empty() || label.contains(INVALID_MARK) {
                let message = format!("invalid label name for grouping: {}", quote(&label));
                return Err(ParseError::new(token.span, message));
            }
            labels.push(label);
            self.next();
            let token = self.peek();
            if !token.is(")") && !self.take(",") {
                return Err(self.unexpected(token, CONTEXT, "\",\" or \")\""));
            }
        }
    }

    fn matching(&mut self, op: BinaryOp) -> Parsed<(Matching, bool)> {
        let mut matching = Matching::default();
        let returns_bool = self.take_word("bool");
        if self.peek().is_word("on") || self.peek().is_word("ignoring") {
            matching.on = self.next().is_word("on");
            matching.labels = self.label_list()?;
            for (word, cardinality) in [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)]
            {
                if self.take_word(word) {
                    matching.cardinality = cardinality;
                    let next = self.peek();
                    if next.is("(") || !starts_expr(next) {
                        matching.include = self.label_list()?;
                    }
                    break;
                }
            }
        }
        self.fill(&mut matching)?;
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        Ok((matching, returns_bool))
    }

    fn fill(&mut self, matching: &mut Matching) -> Parsed<()> {
        if self.take_word("fill") {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
        } else if self.take_word("fill_left") {
            matching.fill_left = Some(self.fill_value()?);
            if self.take_word("fill_right") {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.take_word("fill_right") {
            matching.fill_right = Some(self.fill_value()?);
            if self.take_word("fill_left") {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect("(", "")?;
        let value = self.signed_number("", "")?;
        self.expect(")", "")?;
        Ok(value)
    }

    pub(super) fn signed_number(&mut self, context: &str, expected: &str) -> Parsed<f64> {
        let negative = self.peek().is("-");
        if negative || self.peek().is("+") {
            self.next();
        }
        let token = self.peek();
        let value = match token.kind {
            Kind::Number => number(token)?,
            Kind::Duration => super::duration::seconds(token)?,
            _ => return Err(self.unexpected(token, context, expected)),
        };
        self.next();
        Ok(if negative { -value } else { value })
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            let token = self.peek();
            expr = if token.is("[") {
                self.bracket(expr)?
            } else if token.is_word("offset") {
                self.next();
                let duration = self.offset_duration()?;
                self.set_offset(expr, duration)?
            } else if token.is("@") {
                self.next();
                self.at_modifier(expr)?
            } else if token.is_word("anchored") || token.is_word("smoothed") {
                self.next();
                self.set_borders(expr, token)?
            } else {
                return Ok(expr);
            };
        }
    }

    pub(super) fn text(&self, token: Token<'_>) -> Parsed<String> {
        unquote(token.text).map_err(|error| {
            ParseError::new(token.span, format!("error unquoting string {}: {error}", quote(token.text)))
        })
    }
}

fn too_deep(span: Span, limit: u16) -> ParseError {
    ParseError::new(span, format!("the expression is nested deeper than the limit of {limit} levels"))
}

/// Says whether `text` is a label name that needs no quotes.
pub(super) fn is_label_name(text: &str) -> bool {
    text.bytes().enumerate().all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()))
        && !text.is_empty()
}

/// The keywords that are functions, too.
const CALLABLE: [&str; 6] = ["start", "end", "step", "range", "min_of", "max_of"];

/// Says whether an expression can begin with this token.
pub(super) fn starts_expr(token: Token<'_>) -> bool {
    const NEVER: [&str; 6] = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];
    match token.kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Number | Kind::Duration | Kind::Text => true,
        Kind::Keyword => !NEVER.iter().any(|word| token.is_word(word)),
        Kind::Symbol => matches!(token.text, "(" | "{" | "+" | "-"),
        Kind::End | Kind::Error => false,
    }
}

/// Reads a number as Go does: decimal, hexadecimal, octal with a leading zero, with underscores, `inf`, `nan`.
pub(super) fn number(token: Token<'_>) -> Parsed<f64> {
    let fail = |why: &str| {
        let message = format!("error parsing number: strconv.ParseFloat: parsing {}: {why}", quote(token.text));
        ParseError::new(token.span, message)
    };
    if !underscores_separate(token.text) {
        return Err(fail("invalid syntax"));
    }
    let lower = token.text.replace('_', "").to_ascii_lowercase();
    let octal = lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| (b'0'..=b'7').contains(&b));
    #[expect(clippy::cast_precision_loss, reason = "as Go converts an integer literal")]
    if let Some(hex) = lower.strip_prefix("0x") {
        // Beyond 64 bits Go would want an exponent.
        return i64::from_str_radix(hex, 16).map(|n| n as f64).map_err(|_| fail("invalid syntax"));
    } else if octal && let Ok(n) = i64::from_str_radix(&lower, 8) {
        return Ok(n as f64);
    }
    match lower.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let value: f64 = lower.parse().map_err(|_| fail("invalid syntax"))?;
    if value.is_infinite() { Err(fail("value out of range")) } else { Ok(value) }
}

/// Says whether each underscore stands between two digits, or behind the prefix of a hexadecimal number.
fn underscores_separate(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    let lone = |(i, _): (usize, &u8)| digit(i.checked_sub(1)) && digit(Some(i + 1));
    bytes.iter().enumerate().filter(|(_, b)| **b == b'_').all(lone)
}
