//! Checks types and the rules that the grammar alone does not hold.

use super::ast::{Aggregate, AggregateOp, Binary, Cardinality, Expr, ExprKind, Selector, ValueType};
use super::error::ParseError;
use super::lexer::quote;
use super::parser::Parsed;
use crate::functions::Function;

pub(super) fn check(expr: &Expr) -> Parsed<()> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) => Ok(()),
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => not_empty(selector, expr),
        ExprKind::Subquery(subquery) => {
            check(&subquery.expr)?;
            let found = subquery.expr.value_type();
            if found != ValueType::Vector {
                let message = format!("subquery is only allowed on instant vector, got {} instead", found.as_str());
                return Err(ParseError::new(expr.span, message));
            }
            Ok(())
        }
        ExprKind::Call(function, args) => call(expr, function, args),
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate),
        ExprKind::Binary(one) => binary(one),
        ExprKind::Unary(_, inner) => {
            check(inner)?;
            let found = inner.value_type();
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(found.as_str())
                );
                return Err(ParseError::new(expr.span, message));
            }
            Ok(())
        }
        ExprKind::Paren(inner) => check(inner),
    }
}

fn not_empty(selector: &Selector, expr: &Expr) -> Parsed<()> {
    if selector.matchers.iter().all(model::Matcher::matches_empty) {
        return Err(ParseError::new(expr.span, super::error::EMPTY_SELECTOR));
    }
    Ok(())
}

fn expect(expr: &Expr, wanted: ValueType, context: &str) -> Parsed<()> {
    check(expr)?;
    let found = expr.value_type();
    if found != wanted {
        let message = format!("expected type {} in {context}, got {}", wanted.as_str(), found.as_str());
        return Err(ParseError::new(expr.span, message));
    }
    Ok(())
}

fn call(expr: &Expr, function: &Function, args: &[Expr]) -> Parsed<()> {
    let name = function.name;
    let most = function.args.len();
    let got = args.len();
    let wrong = |how: &str, n: usize| {
        Err(ParseError::new(expr.span, format!("expected {how}{n} argument(s) in call to {}, got {got}", quote(name))))
    };
    if function.variadic == 0 {
        if got != most {
            return wrong("", most);
        }
    } else {
        let optional = usize::from(function.variadic.unsigned_abs());
        let least = most - optional;
        if got < least {
            return wrong("at least ", least);
        }
        if function.variadic > 0 && got > most {
            return wrong("at most ", most);
        }
    }
    let context = format!("call to function {}", quote(name));
    for (i, arg) in args.iter().enumerate() {
        if name == "info" && i == 1 {
            info_selector(arg)?;
        } else if let Some(wanted) = function.args.get(i.min(most.saturating_sub(1))) {
            expect(arg, *wanted, &context)?;
        }
    }
    Ok(())
}

/// The second argument of `info` is a bare selector, which may match everything.
fn info_selector(arg: &Expr) -> Parsed<()> {
    let ExprKind::Selector(selector) = &arg.kind else {
        let message = format!("expected label selectors only, got {} instead", arg.value_type().as_str());
        return Err(ParseError::new(arg.span, message));
    };
    if selector.name.is_some() || selector.offset.is_some() || selector.at.is_some() {
        return Err(ParseError::new(arg.span, "expected label selectors only, got vector selector instead"));
    }
    Ok(())
}

fn check_aggregate(aggregate: &Aggregate) -> Parsed<()> {
    expect(&aggregate.expr, ValueType::Vector, "aggregation expression")?;
    if let Some(param) = &aggregate.param {
        let wanted = if aggregate.op == AggregateOp::CountValues { ValueType::Text } else { ValueType::Scalar };
        expect(param, wanted, "aggregation parameter")?;
    }
    Ok(())
}

fn binary(one: &Binary) -> Parsed<()> {
    check(&one.lhs)?;
    check(&one.rhs)?;
    let (left, right) = (one.lhs.value_type(), one.rhs.value_type());
    let between = super::ast::Span { start: one.lhs.span.end, end: one.rhs.span.start };
    for (side, found) in [(&one.lhs, left), (&one.rhs, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(ParseError::new(side.span, message));
        }
    }
    let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    let vectors = left == ValueType::Vector && right == ValueType::Vector;
    let error = |span, message: String| Err(ParseError::new(span, message));
    if scalars && one.op.is_comparison() && !one.returns_bool {
        let at = super::ast::Span { start: between.start + 1, end: between.end };
        return error(at, "comparisons between scalars must use BOOL modifier".to_owned());
    }
    let matching = &one.matching;
    if matching.on
        && matching.cardinality != Cardinality::OneToOne
        && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
    {
        let message = format!("label {} must not occur in ON and GROUP clause at once", quote(label));
        return error(between, message);
    }
    if !vectors {
        if matching.on || !matching.labels.is_empty() {
            return error(between, "vector matching only allowed between instant vectors".to_owned());
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return error(between, "filling in missing series only allowed between instant vectors".to_owned());
        }
        if one.op.is_set() {
            let message = format!("set operator {} not allowed in binary scalar expression", quote(one.op.as_str()));
            return error(between, message);
        }
    }
    Ok(())
}
