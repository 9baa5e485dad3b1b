//! Syntax trees as JSON, in the shape of `parse_query`.

use model::number::format_float as number_text;
use query_promql::parse::ast::{
    At, Binary, Borders, Cardinality, Duration, DurationKind, DurationOp, Expr, ExprKind, Selector, ValueType,
};
use serde_json::{Value, json};

/// Returns the tree; durations and times are in milliseconds. A duration that is computed has an expression of its own,
/// and is 0 where it depends on the query's range or step.
pub(super) fn to_json(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => json!({ "type": "numberLiteral", "val": number_text(number.value) }),
        ExprKind::Text(text) => json!({ "type": "stringLiteral", "val": text }),
        ExprKind::Selector(one) => selector(one, "vectorSelector"),
        ExprKind::Range(one, range) => {
            let mut tree = selector(one, "matrixSelector");
            tree["range"] = json!(ms(Some(range)));
            tree["rangeExpr"] = computed(Some(range));
            tree
        }
        ExprKind::Subquery(one) => {
            let (timestamp, start_or_end) = at(one.at);
            json!({
                "type": "subquery", "expr": to_json(&one.expr),
                "range": ms(Some(&one.range)), "rangeExpr": computed(Some(&one.range)),
                "offset": ms(one.offset.as_ref()), "offsetExpr": computed(one.offset.as_ref()),
                "step": ms(one.step.as_ref()), "stepExpr": computed(one.step.as_ref()),
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

/// Returns a duration that needs no query to be known; 0 for any other, and for none.
fn ms(duration: Option<&Duration>) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    duration.and_then(Duration::constant).map_or(0, |seconds| (seconds * 1000.0).round() as i64)
}

/// Returns the tree of a duration that is more than a number; `null` otherwise.
fn computed(duration: Option<&Duration>) -> Value {
    match duration.map(|duration| &duration.kind) {
        None | Some(DurationKind::Seconds(_)) => Value::Null,
        Some(kind) => duration_tree(kind, false),
    }
}

fn duration_tree(kind: &DurationKind, wrapped: bool) -> Value {
    let node = |op: &str, lhs: Option<&Duration>, rhs: Option<&Duration>| {
        let side = |side: Option<&Duration>| side.map(|side| duration_tree(&side.kind, false));
        json!({ "type": "durationExpr", "op": op, "lhs": side(lhs), "rhs": side(rhs), "wrapped": wrapped })
    };
    match kind {
        DurationKind::Seconds(number) => json!({
            "type": "numberLiteral", "val": number_text(number.value), "duration": number.is_duration,
        }),
        DurationKind::Paren(inner) => duration_tree(&inner.kind, true),
        DurationKind::Step => node("step", None, None),
        DurationKind::Range => node("range", None, None),
        DurationKind::MinOf(a, b) => node("min_of", Some(a), Some(b)),
        DurationKind::MaxOf(a, b) => node("max_of", Some(a), Some(b)),
        DurationKind::Neg(a) => node("-", None, Some(a)),
        DurationKind::Binary(op, a, b) => {
            let op = match op {
                DurationOp::Add => "+",
                DurationOp::Sub => "-",
                DurationOp::Mul => "*",
                DurationOp::Div => "/",
                DurationOp::Mod => "%",
                DurationOp::Pow => "^",
            };
            node(op, Some(a), Some(b))
        }
    }
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
        "offset": ms(one.offset.as_ref()), "offsetExpr": computed(one.offset.as_ref()),
        "timestamp": timestamp, "startOrEnd": start_or_end,
        "anchored": one.borders == Borders::Anchored, "smoothed": one.borders == Borders::Smoothed,
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
    json!({
        "card": card, "labels": matching.labels, "on": matching.on, "include": matching.include,
        "fillValues": { "lhs": matching.fill_left, "rhs": matching.fill_right },
    })
}
