//! Reads tokens into a syntax tree: precedence climbing for operators, recursive descent for the rest.

use super::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Expr, ExprKind, Matching, Number, Span};
use super::error::ParseError;
use super::lexer::{Kind, Token, quote, unquote};
use crate::functions;

/// The deepest tree that is built, e.g. by a long chain of operators. Evaluation and printing recurse, and so need a bound.
pub(crate) const DEPTH_MAX: u16 = 200;

/// The deepest nesting of parentheses, calls and signs that is read: reading recurses with larger frames.
pub(crate) const NESTING_MAX: u16 = 80;

pub(super) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    nesting: u16,
}

pub(super) type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: Vec<Token<'a>>) -> Self {
        Self { tokens, at: 0, nesting: 0 }
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
        if token.is(symbol) { Ok(self.next()) } else { Err(unexpected(token, context, &quote(symbol))) }
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
            Kind::Symbol | Kind::Identifier => BinaryOp::from_word(token.text),
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
            ExprKind::Number(Number { value, is_duration: false }) => {
                let value = if negative { -value } else { value };
                self.node(ExprKind::Number(Number { value, is_duration: false }), span)
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
                let close = self.expect(")", "").map_err(|_| unexpected(self.peek(), "", ""))?;
                self.node(ExprKind::Paren(Box::new(inner)), token.span.to(close.span))
            }
            Kind::Symbol if token.text == "{" => self.selector(),
            Kind::MetricIdentifier => self.selector(),
            Kind::Identifier => self.word(token),
            Kind::Symbol | Kind::End => Err(unexpected(token, "", "")),
        }
    }

    fn word(&mut self, token: Token<'a>) -> Parsed<Expr> {
        let next = self.peek_at(1);
        if let Some(op) = AggregateOp::from_word(token.text)
            && (next.is("(") || next.is_word("by") || next.is_word("without"))
        {
            return self.aggregate(op);
        }
        if next.is("(") {
            return self.call();
        }
        self.selector()
    }

    fn call(&mut self) -> Parsed<Expr> {
        let name = self.next();
        let Some(function) = functions::find(name.text) else {
            return Err(ParseError::new(name.span, format!("unknown function with name {}", quote(name.text))));
        };
        let (args, end) = self.arguments()?;
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
                return Err(unexpected(token, "", ""));
            }
            let comma = self.next();
            if self.peek().is(")") {
                return Err(ParseError::new(comma.span, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Parsed<Expr> {
        let name = self.next();
        let mut grouping = self.grouping_clause()?;
        let (mut args, mut end) = self.arguments()?;
        if grouping.is_none() {
            grouping = self.grouping_clause()?;
            if grouping.is_some() {
                end = self.last_span();
            }
        }
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
        let mut labels = Vec::new();
        self.expect("(", "grouping opts")?;
        loop {
            let token = self.peek();
            if token.is(")") {
                self.next();
                return Ok(labels);
            }
            match token.kind {
                Kind::Identifier | Kind::Number if is_label_name(token.text) => labels.push(token.text.to_owned()),
                Kind::Text => labels.push(self.text(token)?),
                _ => return Err(unexpected(token, "grouping opts", "label")),
            }
            self.next();
            let token = self.peek();
            if !token.is(")") && !self.take(",") {
                return Err(unexpected(token, "grouping opts", "\",\" or \")\""));
            }
        }
    }

    fn matching(&mut self, op: BinaryOp) -> Parsed<(Matching, bool)> {
        let mut matching = Matching::default();
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let mut returns_bool = false;
        // `bool` may also be the name of a metric, but Prometheus takes it as the modifier, too.
        if self.peek().is_word("bool") {
            let token = self.next();
            if !op.is_comparison() {
                let message = "bool modifier can only be used on comparison operators";
                return Err(ParseError::new(token.span, message));
            }
            returns_bool = true;
        }
        if (self.peek().is_word("on") || self.peek().is_word("ignoring")) && self.peek_at(1).is("(") {
            matching.on = self.next().is_word("on");
            matching.labels = self.label_list()?;
            for (word, cardinality) in [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)]
            {
                let token = self.peek();
                if !self.take_word(word) {
                    continue;
                }
                if op.is_set() {
                    let message = format!("no grouping allowed for {} operation", quote(op.as_str()));
                    return Err(ParseError::new(token.span, message));
                }
                matching.cardinality = cardinality;
                if self.peek().is("(") {
                    matching.include = self.label_list()?;
                }
                break;
            }
        }
        self.fill(op, &mut matching)?;
        Ok((matching, returns_bool))
    }

    fn fill(&mut self, op: BinaryOp, matching: &mut Matching) -> Parsed<()> {
        loop {
            let token = self.peek();
            let word = ["fill", "fill_left", "fill_right"].into_iter().find(|word| token.is_word(word));
            let (Some(word), true) = (word, self.peek_at(1).is("(")) else { return Ok(()) };
            self.next();
            self.next();
            if op.is_set() {
                return Err(ParseError::new(token.span, "filling in missing series not allowed for set operators"));
            }
            let value = self.signed_number("fill")?;
            self.expect(")", "fill")?;
            if word != "fill_right" {
                matching.fill_left = Some(value);
            }
            if word != "fill_left" {
                matching.fill_right = Some(value);
            }
        }
    }

    pub(super) fn signed_number(&mut self, context: &str) -> Parsed<f64> {
        let negative = self.peek().is("-");
        if negative || self.peek().is("+") {
            self.next();
        }
        let token = self.peek();
        let value = match token.kind {
            Kind::Number => number(token)?,
            Kind::Duration => super::duration::seconds(token)?,
            _ => return Err(unexpected(token, context, "number")),
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

pub(super) fn unexpected(token: Token<'_>, context: &str, expected: &str) -> ParseError {
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

/// Reads a number as Go does: decimal, hexadecimal, octal with a leading zero, with underscores, `inf`, `nan`.
pub(super) fn number(token: Token<'_>) -> Parsed<f64> {
    let text = token.text.replace('_', "");
    let lower = text.to_ascii_lowercase();
    let octal = lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| (b'0'..=b'7').contains(&b));
    #[expect(clippy::cast_precision_loss, reason = "as Go converts an integer literal")]
    let value = if let Some(hex) = lower.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok().map(|n| n as f64)
    } else if octal {
        i64::from_str_radix(&lower, 8).ok().map(|n| n as f64)
    } else {
        match lower.as_str() {
            "inf" => Some(f64::INFINITY),
            "nan" => Some(f64::NAN),
            _ => lower.parse().ok(),
        }
    };
    value.ok_or_else(|| ParseError::new(token.span, format!("error parsing number: {}", quote(token.text))))
}
