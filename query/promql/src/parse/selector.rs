//! Selectors, ranges, subqueries and the modifiers behind them.

use model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{At, Borders, Duration, Expr, ExprKind, Selector, Subquery};
use super::error::ParseError;
use super::lexer::{Kind, Token, quote};
use super::parser::{Parsed, Parser, unexpected};

const MATCHING: &str = "label matching";

impl Parser<'_> {
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
            self.matchers(&mut name, &mut matchers)?;
        }
        let span = start.span.to(self.last_span());
        if let Some(name) = &name {
            if let Some(other) = matchers.iter().find(|matcher| {
                matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal && start.kind != Kind::Symbol
            }) {
                let message = format!("metric name must not be set twice: {} or {}", quote(name), quote(&other.value));
                return Err(ParseError::new(span, message));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        let selector = Selector { name, matchers, offset: None, at: None, borders: Borders::Plain };
        self.node(ExprKind::Selector(selector), span)
    }

    fn matchers(&mut self, name: &mut Option<String>, matchers: &mut Vec<Matcher>) -> Parsed<()> {
        while !self.take("}") {
            let token = self.next();
            let label = match token.kind {
                Kind::Identifier | Kind::Number => token.text.to_owned(),
                Kind::Text => self.text(token)?,
                _ => return Err(unexpected(token, MATCHING, "identifier or \"}\"")),
            };
            let next = self.peek();
            if token.kind == Kind::Text && (next.is(",") || next.is("}")) {
                if let Some(first) = name.replace(label.clone()) {
                    let message = format!("metric name must not be set twice: {} or {}", quote(&first), quote(&label));
                    return Err(ParseError::new(token.span, message));
                }
            } else {
                let matcher = self.matcher(token, &label)?;
                matchers.push(matcher);
            }
            let next = self.peek();
            if !next.is("}") && !self.take(",") {
                return Err(unexpected(next, MATCHING, "\",\" or \"}\""));
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
            _ => return Err(unexpected(sign, MATCHING, "label matching operator")),
        };
        let value = self.next();
        if value.kind != Kind::Text {
            return Err(unexpected(value, MATCHING, "string"));
        }
        let text = self.text(value)?;
        Matcher::new(label, op, text).map_err(|error| ParseError::new(token.span.to(value.span), error.to_string()))
    }

    /// Reads `[range]` or `[range:step]` behind `expr`.
    pub(super) fn bracket(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.next();
        let range = self.duration(0)?;
        let mut step = None;
        let is_subquery = self.take(":");
        if is_subquery && !self.peek().is("]") {
            step = Some(self.duration(0)?);
        }
        let context = "range or subquery selector";
        let close = self.expect("]", context).map_err(|_| unexpected(self.peek(), context, ""))?;
        for duration in [Some(&range), step.as_ref()].into_iter().flatten() {
            if let Some(seconds) = duration.constant()
                && seconds <= 0.0
            {
                return Err(ParseError::new(duration.span, "duration must be greater than 0"));
            }
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

    pub(super) fn set_offset(&mut self, mut expr: Expr, duration: Duration) -> Parsed<Expr> {
        let end = self.last_span();
        let slot = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => &mut selector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => return Err(misplaced(&expr, "offset modifier")),
        };
        if slot.replace(duration).is_some() {
            return Err(ParseError::new(expr.span, "offset may not be set multiple times"));
        }
        expr.span = expr.span.to(end);
        Ok(expr)
    }

    pub(super) fn at_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let token = self.peek();
        let at = if (token.is_word("start") || token.is_word("end")) && self.peek_at(1).is("(") {
            self.next();
            self.next();
            self.expect(")", "@")?;
            if token.is_word("start") { At::Start } else { At::End }
        } else {
            let seconds = self.signed_number("@").map_err(|_| unexpected(self.peek(), "@", "timestamp"))?;
            let ms = seconds * 1000.0;
            #[expect(clippy::cast_precision_loss, reason = "a bound, not a value")]
            if !ms.is_finite() || ms >= i64::MAX as f64 || ms <= i64::MIN as f64 {
                let message = format!("timestamp out of bounds for @ modifier: {seconds:.6}");
                return Err(ParseError::new(token.span, message));
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
            ExprKind::Selector(selector) if !anchored => &mut selector.borders,
            ExprKind::Selector(_) => {
                let message = "anchored modifier must be preceded by a range vector selector";
                return Err(ParseError::new(expr.span, message));
            }
            ExprKind::Subquery(_) => {
                return Err(ParseError::new(expr.span, format!("{what} modifier is not supported with subqueries")));
            }
            _ => return Err(misplaced(&expr, &format!("{what} modifier"))),
        };
        if *slot != Borders::Plain {
            return Err(ParseError::new(token.span, "anchored and smoothed modifiers cannot be used together"));
        }
        *slot = if anchored { Borders::Anchored } else { Borders::Smoothed };
        expr.span = expr.span.to(token.span);
        Ok(expr)
    }
}

fn misplaced(expr: &Expr, what: &str) -> ParseError {
    let message =
        format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery");
    ParseError::new(expr.span, message)
}
