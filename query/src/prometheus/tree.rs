//! Syntax trees as JSON, in the shape of `parse_query`.

use query_promql::parse::ast::{At, Binary, Cardinality, Duration, Expr, ExprKind, Selector, ValueType};
use query_wire::prometheus::format_value;
use serde_json::{Value, json};

/// Returns the tree; durations and times are in milliseconds. A duration that depends on the query's range or step has
/// no number and is `null`.
pub(super) fn to_json(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => json!({ "type": "numberLiteral", "val": format_value(number.value) }),
        ExprKind::Text(text) => json!({ "type": "stringLiteral", "val": text }),
        ExprKind::Selector(one) => selector(one, "vectorSelector"),
        ExprKind::Range(one, range) => {
            let mut tree = selector(one, "matrixSelector");
            tree["range"] = ms(range);
            tree
        }
        ExprKind::Subquery(one) => {
            let (timestamp, start_or_end) = at(one.at);
            json!({
                "type": "subquery", "expr": to_json(&one.expr), "range": ms(&one.range),
                "offset": one.offset.as_ref().map_or(json!(0), ms), "step": one.step.as_ref().map_or(json!(0), ms),
                "timestamp": timestamp, "startOrEnd": start_or_end,
            })
        }
        ExprKind::Call(function, args) => {
            let kinds: Vec<&str> = function.args.iter().map(|kind| kind_name(*kind)).collect();
            json!({
                "type": "call", "args": args.iter().map(to_json).collect::<Vec<_>>(),
                "func": {
                    "name": function.name, "argTypes": kinds, "variadic": function.variadic,
                    "returnType": kind_name(function.returns),
                },
            })
        }
        ExprKind::Aggregate(one) => json!({
            "type": "aggregation", "op": one.op.as_str(), "expr": to_json(&one.expr),
            "param": one.param.as_ref().map(to_json), "grouping": one.grouping, "without": one.without,
        }),
        ExprKind::Binary(one) => json!({
            "type": "binaryExpr", "op": one.op.as_str(), "lhs": to_json(&one.lhs), "rhs": to_json(&one.rhs),
            "bool": one.returns_bool, "matching": matching(one),
        }),
        ExprKind::Unary(negative, inner) => {
            json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": to_json(inner) })
        }
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": to_json(inner) }),
    }
}

fn kind_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::Text => "string",
    }
}

fn ms(duration: &Duration) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    duration.constant().map_or(Value::Null, |seconds| json!((seconds * 1000.0).round() as i64))
}

fn at(at: Option<At>) -> (Option<i64>, Option<&'static str>) {
    match at {
        None => (None, None),
        Some(At::Time(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}

fn selector(one: &Selector, kind: &str) -> Value {
    let matchers: Vec<Value> = one
        .matchers
        .iter()
        .map(|matcher| json!({ "name": matcher.name, "value": matcher.value, "type": matcher.op.as_str() }))
        .collect();
    let (timestamp, start_or_end) = at(one.at);
    json!({
        "type": kind, "name": one.name.as_deref().unwrap_or(""), "matchers": matchers,
        "offset": one.offset.as_ref().map_or(json!(0), ms), "timestamp": timestamp, "startOrEnd": start_or_end,
    })
}

/// Returns how two vectors are matched; `null` where a side is a scalar.
fn matching(one: &Binary) -> Value {
    if one.lhs.value_type() != ValueType::Vector || one.rhs.value_type() != ValueType::Vector {
        return Value::Null;
    }
    let card = match one.matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    let matching = &one.matching;
    json!({ "card": card, "labels": matching.labels, "on": matching.on, "include": matching.include })
}
