//! Checks types and the rules that the grammar alone does not hold.

use model::METRIC_NAME;

use super::ast::{Aggregate, AggregateOp, Binary, Cardinality, Expr, ExprKind, Matching, Selector, Span, ValueType};
use super::error::ParseError;
use super::parser::Parsed;
use super::text::quote;
use crate::functions::Function;

/// Checks the tree read from `input`, and forgets how sides find each other where they are not both vectors.
pub(super) fn check(expr: &mut Expr, input: &str) -> Parsed<()> {
    let span = expr.span;
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) => Ok(()),
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => check_selector(selector, span),
        ExprKind::Subquery(subquery) => {
            check(&mut subquery.expr, input)?;
            let found = subquery.expr.value_type();
            if found != ValueType::Vector {
                let message = format!("subquery is only allowed on instant vector, got {} instead", short(found));
                return Err(ParseError::new(span, message));
            }
            Ok(())
        }
        ExprKind::Call(function, args) => call(span, function, args, input),
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate, input),
        ExprKind::Binary(one) => binary(one, span, input),
        ExprKind::Unary(_, inner) => {
            check(inner, input)?;
            let found = inner.value_type();
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                    quote(found.as_str())
                );
                return Err(ParseError::new(span, message));
            }
            Ok(())
        }
        ExprKind::Paren(inner) => check(inner, input),
    }
}

/// Returns the short names of types, which this one message has.
fn short(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Matrix => "matrix",
        ValueType::Vector => "vector",
        other => other.as_str(),
    }
}

fn check_selector(selector: &Selector, span: Span) -> Parsed<()> {
    if let Some(name) = &selector.name {
        // The last matcher is that of the name itself.
        let others = selector.matchers.split_last().map_or(&[][..], |(_, others)| others);
        if let Some(other) = others.iter().find(|matcher| matcher.name == METRIC_NAME) {
            let message = format!("metric name must not be set twice: {} or {}", quote(name), quote(&other.value));
            return Err(ParseError::new(span, message));
        }
        return Ok(());
    }
    if selector.matchers.iter().all(model::Matcher::matches_empty) {
        return Err(ParseError::new(span, super::error::EMPTY_SELECTOR));
    }
    Ok(())
}

fn expect(expr: &mut Expr, wanted: ValueType, context: &str, input: &str) -> Parsed<()> {
    check(expr, input)?;
    let found = expr.value_type();
    if found != wanted {
        let message = format!("expected type {} in {context}, got {}", wanted.as_str(), found.as_str());
        return Err(ParseError::new(expr.span, message));
    }
    Ok(())
}

fn call(span: Span, function: &Function, args: &mut [Expr], input: &str) -> Parsed<()> {
    let name = function.name;
    let most = function.args.len();
    let got = args.len();
    let wrong = |how: &str, n: usize| {
        Err(ParseError::new(span, format!("expected {how}{n} argument(s) in call to {}, got {got}", quote(name))))
    };
    if function.variadic == 0 {
        if got != most {
            return wrong("", most);
        }
    } else {
        let least = most.saturating_sub(1);
        if got < least {
            return wrong("at least ", least);
        }
        if let Ok(more) = usize::try_from(function.variadic)
            && got > least + more
        {
            return wrong("at most ", least + more);
        }
    }
    let context = format!("call to function {}", quote(name));
    let is_info = name == "info";
    if let (true, Some(arg)) = (is_info, args.get(1)) {
        info_selector(arg, span, &context)?;
    }
    for (i, arg) in args.iter_mut().enumerate() {
        if is_info && i == 1 {
            continue;
        }
        if let Some(wanted) = function.args.get(i.min(most.saturating_sub(1))) {
            expect(arg, *wanted, &context, input)?;
        }
    }
    Ok(())
}

/// Checks the second argument of `info`, a selector without a name that may select everything.
fn info_selector(arg: &Expr, call: Span, context: &str) -> Parsed<()> {
    let found = arg.value_type();
    if found != ValueType::Vector {
        let message = format!("expected type instant vector in {context}, got {}", found.as_str());
        return Err(ParseError::new(call, message));
    }
    match &arg.kind {
        ExprKind::Selector(selector) if selector.name.is_some() => {
            Err(ParseError::new(arg.span, "expected label selectors only, got vector selector instead"))
        }
        ExprKind::Selector(_) => Ok(()),
        _ => Err(ParseError::new(arg.span, "expected label selectors only")),
    }
}

fn check_aggregate(aggregate: &mut Aggregate, input: &str) -> Parsed<()> {
    expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression", input)?;
    if let Some(param) = &mut aggregate.param {
        let wanted = if aggregate.op == AggregateOp::CountValues { ValueType::Text } else { ValueType::Scalar };
        expect(param, wanted, "aggregation parameter", input)?;
    }
    Ok(())
}

/// Returns the place of the operator: from behind the left side on, without spaces.
fn operator_span(one: &Binary, input: &str) -> Span {
    let between = input.as_bytes().get(one.lhs.span.end as usize..).unwrap_or(&[]);
    let spaces = between.iter().take_while(|c| matches!(c, b' ' | b'\t' | b'\n' | b'\r')).count();
    let start = one.lhs.span.end.saturating_add(u32::try_from(spaces).unwrap_or(0));
    Span { start, end: one.rhs.span.start }
}

fn binary(one: &mut Binary, span: Span, input: &str) -> Parsed<()> {
    check(&mut one.lhs, input)?;
    check(&mut one.rhs, input)?;
    let (left, right) = (one.lhs.value_type(), one.rhs.value_type());
    let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    let vectors = left == ValueType::Vector && right == ValueType::Vector;
    let error = |span: Span, message: &str| Err(ParseError::new(span, message));
    let operator = || operator_span(one, input);
    if one.returns_bool && !one.op.is_comparison() {
        return error(operator(), "bool modifier can only be used on comparison operators");
    }
    if scalars && one.op.is_comparison() && !one.returns_bool {
        return error(operator(), "comparisons between scalars must use BOOL modifier");
    }
    let matching = &one.matching;
    if let (true, Some(label)) = (matching.on, matching.labels.iter().find(|label| matching.include.contains(label))) {
        let message = format!("label {} must not occur in ON and GROUP clause at once", quote(label));
        return error(operator(), &message);
    }
    for (side, found) in [(&one.lhs, left), (&one.rhs, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            return error(side.span, "binary expression must contain only scalar and instant vector types");
        }
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if !vectors {
        if !matching.labels.is_empty() {
            return error(span, "vector matching only allowed between instant vectors");
        }
        if fills {
            return error(span, "filling in missing series only allowed between instant vectors");
        }
        if one.op.is_set() {
            let message = format!("set operator {} not allowed in binary scalar expression", quote(one.op.as_str()));
            return error(span, &message);
        }
        one.matching = Matching::default();
    } else if one.op.is_set() {
        if matching.cardinality != Cardinality::ManyToMany {
            return error(span, &format!("no grouping allowed for {} operation", quote(one.op.as_str())));
        }
        if fills {
            return error(span, "filling in missing series not allowed for set operators");
        }
    }
    Ok(())
}
