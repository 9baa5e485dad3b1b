//! Selectors, ranges, subqueries and the modifiers behind them.

use model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{At, Borders, Duration, Expr, ExprKind, Selector, Subquery};
use super::duration::EXPECTED;
use super::error::ParseError;
use super::lexer::{Kind, Token};
use super::parser::{Parsed, Parser, starts_expr};
use crate::number::format_float;

const MATCHING: &str = "label matching";

impl Parser<'_> {
    /// Reads a selector where nothing else can stand: `sum` is a name there.
    pub(super) fn lone_selector(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let is_name = matches!(token.kind, Kind::MetricIdentifier | Kind::Identifier | Kind::Keyword);
        if token.is("{") || is_name && starts_expr(token) {
            return self.selector();
        }
        Err(self.unexpected(token, "", ""))
    }

    /// Reads `name`, `name{…}` or `{…}`.
    pub(super) fn selector(&mut self) -> Parsed<Expr> {
        let start = self.peek();
        let mut name = None;
        let mut matchers = Vec::new();
        if start.kind != Kind::Symbol {
            self.next();
            name = Some(start.text.to_owned());
        }
        if self.take("{") {
            self.matchers(&mut matchers)?;
        }
        let span = start.span.to(self.last_span());
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        let selector = Selector { name, matchers, offset: None, at: None, borders: Borders::Plain };
        self.node(ExprKind::Selector(selector), span)
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        while !self.take("}") {
            let token = self.next();
            let label = match token.kind {
                Kind::Identifier => token.text.to_owned(),
                Kind::Text => self.text(token)?,
                _ => return Err(self.unexpected(token, MATCHING, "identifier or \"}\"")),
            };
            let next = self.peek();
            let is_operator = ["=", "!=", "=~", "!~"].iter().any(|op| next.is(op));
            if token.kind == Kind::Text && !is_operator {
                matchers.push(Matcher::equal(METRIC_NAME, label));
            } else {
                let matcher = self.matcher(token, &label)?;
                matchers.push(matcher);
            }
            let next = self.peek();
            if !next.is("}") && !self.take(",") {
                return Err(self.unexpected(next, MATCHING, "\",\" or \"}\""));
            }
        }
        Ok(())
    }

    fn matcher(&mut self, token: Token<'_>, label: &str) -> Parsed<Matcher> {
        let sign = self.next();
        let op = match (sign.kind, sign.text) {
            (Kind::Symbol, "=") => MatchOp::Equal,
            (Kind::Symbol, "!=") => MatchOp::NotEqual,
            (Kind::Symbol, "=~") => MatchOp::Regex,
            (Kind::Symbol, "!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected(sign, MATCHING, "label matching operator")),
        };
        let value = self.next();
        if value.kind != Kind::Text {
            return Err(self.unexpected(value, MATCHING, "string"));
        }
        let text = self.text(value)?;
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            let taken = self.patterns.take(&text);
            taken.map_err(|error| ParseError::new(token.span.to(value.span), error.to_string()))?;
        }
        Matcher::new(label, op, text).map_err(|error| ParseError::new(token.span.to(value.span), error.to_string()))
    }

    /// Reads `[range]` or `[range:step]` behind `expr`.
    pub(super) fn bracket(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next();
        self.duration_context = ("subquery or range selector", EXPECTED);
        let range = self.duration(0)?;
        self.positive(&range)?;
        let mut step = None;
        let is_subquery = self.take(":");
        let mut context = ("subquery or range", "\":\" or \"]\"");
        if is_subquery {
            context = ("subquery selector", "number, duration, step(), range(), or \"]\"");
            if !self.peek().is("]") {
                self.duration_context = context;
                let duration = self.duration(0)?;
                self.positive(&duration)?;
                step = Some(duration);
                context.1 = "\"]\"";
            }
        }
        let close = self.peek();
        if !self.take("]") {
            return Err(self.unexpected(close, context.0, context.1));
        }
        let span = expr.span.to(close.span);
        if is_subquery {
            let subquery = Subquery { expr, range, step, offset: None, at: None };
            return self.node(ExprKind::Subquery(Box::new(subquery)), span);
        }
        let message = match expr.kind {
            ExprKind::Selector(selector) => {
                if selector.offset.is_some() {
                    "no offset modifiers allowed before range"
                } else if selector.at.is_some() {
                    "no @ modifiers allowed before range"
                } else {
                    return self.node(ExprKind::Range(selector, range), span);
                }
            }
            _ => "ranges only allowed for vector selectors",
        };
        Err(ParseError::new(open.span.to(close.span), message))
    }

    /// Refuses a literal that is not above zero.
    fn positive(&self, duration: &Duration) -> Parsed<()> {
        self.still_tokens()?;
        match duration.literal() {
            Some(seconds) if seconds <= 0.0 => Err(ParseError::new(duration.span, "duration must be greater than 0")),
            _ => Ok(()),
        }
    }

    pub(super) fn set_offset(&mut self, mut expr: Expr, duration: Duration) -> Parsed<Expr> {
        let end = self.last_span();
        let slot = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => &mut selector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => return Err(misplaced(&expr, "offset modifier")),
        };
        if slot.is_some() {
            return Err(ParseError::new(expr.span, "offset may not be set multiple times"));
        }
        // An offset of nothing is none.
        *slot = Some(duration).filter(|duration| duration.literal().is_none_or(|seconds| seconds.abs() >= 5e-10));
        expr.span = expr.span.to(end);
        Ok(expr)
    }

    pub(super) fn at_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let token = self.peek();
        let at = if token.is_word("start") || token.is_word("end") {
            self.next();
            let paren = self.peek();
            if !self.take("(") {
                return Err(self.unexpected(paren, "@", "timestamp"));
            }
            let paren = self.peek();
            if !self.take(")") {
                return Err(self.unexpected(paren, "@", "timestamp"));
            }
            if token.is_word("start") { At::Start } else { At::End }
        } else {
            let seconds = self.signed_number("@", "timestamp")?;
            let ms = seconds * 1000.0;
            #[expect(clippy::cast_precision_loss, reason = "a bound, not a value")]
            if !ms.is_finite() || ms >= i64::MAX as f64 || ms <= i64::MIN as f64 {
                let seconds = if seconds.is_finite() { format!("{seconds:.6}") } else { format_float(seconds) };
                let message = format!("timestamp out of bounds for @ modifier: {seconds}");
                return Err(ParseError::new(expr.span, message));
            }
            #[expect(clippy::cast_possible_truncation, reason = "bounds were checked")]
            At::Time(ms.round() as i64)
        };
        let end = self.last_span();
        let slot = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => &mut selector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => return Err(misplaced(&expr, "@ modifier")),
        };
        if slot.replace(at).is_some() {
            return Err(ParseError::new(expr.span, "@ <timestamp> may not be set multiple times"));
        }
        expr.span = expr.span.to(end);
        Ok(expr)
    }

    pub(super) fn set_borders(&mut self, mut expr: Expr, token: Token<'_>) -> Parsed<Expr> {
        let anchored = token.is_word("anchored");
        let what = if anchored { "anchored" } else { "smoothed" };
        let slot = match &mut expr.kind {
            ExprKind::Range(selector, _) => &mut selector.borders,
            ExprKind::Selector(selector) => &mut selector.borders,
            ExprKind::Subquery(_) => {
                return Err(ParseError::new(expr.span, format!("{what} modifier is not supported for subqueries")));
            }
            _ => return Err(ParseError::new(expr.span, format!("{what} modifier not implemented"))),
        };
        let other = if anchored { Borders::Smoothed } else { Borders::Anchored };
        if *slot == other {
            return Err(ParseError::new(expr.span, "anchored and smoothed modifiers cannot be used together"));
        }
        *slot = if anchored { Borders::Anchored } else { Borders::Smoothed };
        Ok(expr)
    }
}

fn misplaced(expr: &Expr, what: &str) -> ParseError {
    let message =
        format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery");
    ParseError::new(expr.span, message)
}
