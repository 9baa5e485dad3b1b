//! Prints a tree in canonical form, so that reading it again gives the same tree.

use std::fmt::{self, Display, Formatter};

use model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, Borders, Cardinality, Duration, DurationKind, DurationOp, Expr, ExprKind, Number, Selector,
    Subquery,
};
use super::parser::is_label_name;
use super::text::quote;
use crate::number::format_short;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => write!(f, "{number}"),
            ExprKind::Text(text) => f.write_str(&quote(text)),
            ExprKind::Selector(selector) => {
                bare(selector, f)?;
                at(selector.at, f)?;
                borders(selector.borders, f)?;
                offset(selector.offset.as_ref(), f)
            }
            ExprKind::Range(selector, range) => {
                bare(selector, f)?;
                write!(f, "[{}]", Whole(range))?;
                borders(selector.borders, f)?;
                at(selector.at, f)?;
                offset(selector.offset.as_ref(), f)
            }
            ExprKind::Subquery(subquery) => write!(f, "{subquery}"),
            ExprKind::Call(function, args) => {
                write!(f, "{}(", function.name)?;
                list(args, f)?;
                f.write_str(")")
            }
            ExprKind::Aggregate(aggregate) => write!(f, "{aggregate}"),
            ExprKind::Binary(binary) => write!(f, "{binary}"),
            ExprKind::Unary(negative, inner) => write!(f, "{}{inner}", if *negative { "-" } else { "+" }),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

fn list<T: Display>(items: &[T], f: &mut Formatter<'_>) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// Writes label names, quoted where they must be.
fn labels(names: &[String], f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("(")?;
    let names: Vec<String> = names.iter().map(|name| label(name)).collect();
    list(&names, f)?;
    f.write_str(")")
}

fn label(name: &str) -> String {
    if is_label_name(name) { name.to_owned() } else { quote(name) }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.value {
            value if self.is_duration => duration_ms(milliseconds(value), f),
            value if value.is_nan() => f.write_str("NaN"),
            value if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(f, "{value}"),
        }
    }
}

/// Returns the milliseconds nearest to `seconds`.
fn milliseconds(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    let ms = (seconds * 1000.0).round() as i64;
    ms
}

/// Writes milliseconds as Prometheus does: `1h30m`, `1500ms` as `1s500ms`, zero as `0s`.
fn duration_ms(ms: i64, f: &mut Formatter<'_>) -> fmt::Result {
    const UNITS: [(&str, u64, bool); 7] = [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ];
    if ms < 0 {
        f.write_str("-")?;
    }
    if ms == 0 {
        return f.write_str("0s");
    }
    let mut rest = ms.unsigned_abs();
    for (unit, size, exact) in UNITS {
        if exact && !rest.is_multiple_of(size) {
            continue;
        }
        let n = rest / size;
        if n > 0 {
            write!(f, "{n}{unit}")?;
            rest -= n * size;
        }
    }
    Ok(())
}

/// A duration as the whole of a range, step or offset: a literal is written with units there.
struct Whole<'a>(&'a Duration);

impl Display for Whole<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            // What is no whole number of milliseconds cannot be written with a unit.
            DurationKind::Seconds(Number { value, is_duration })
                if is_duration || (value * 1e9).round() % 1e6 == 0.0 =>
            {
                duration_ms(milliseconds(value), f)
            }
            DurationKind::Seconds(number) => write!(f, "{}", Number { is_duration: false, ..number }),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Seconds(number) => write!(f, "{number}"),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            DurationKind::Neg(a) => write!(f, "-{a}"),
            DurationKind::Paren(a) => write!(f, "({a})"),
            DurationKind::Binary(op, a, b) => {
                let op = match op {
                    DurationOp::Add => "+",
                    DurationOp::Sub => "-",
                    DurationOp::Mul => "*",
                    DurationOp::Div => "/",
                    DurationOp::Mod => "%",
                    DurationOp::Pow => "^",
                };
                write!(f, "{a} {op} {b}")
            }
        }
    }
}

/// Writes the selector without range and modifiers.
fn bare(selector: &Selector, f: &mut Formatter<'_>) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    let is_name = |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == name;
    let others = selector.matchers.iter().filter(|matcher| name.is_empty() || !is_name(matcher));
    let mut parts: Vec<String> =
        others.map(|m| format!("{}{}{}", label(&m.name), m.op.as_str(), quote(&m.value))).collect();
    parts.sort();
    f.write_str(name)?;
    if parts.is_empty() && !name.is_empty() { Ok(()) } else { write!(f, "{{{}}}", parts.join(",")) }
}

fn at(at: Option<At>, f: &mut Formatter<'_>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Time(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
        }
    }
}

fn borders(borders: Borders, f: &mut Formatter<'_>) -> fmt::Result {
    match borders {
        Borders::Plain => Ok(()),
        Borders::Anchored => f.write_str(" anchored"),
        Borders::Smoothed => f.write_str(" smoothed"),
    }
}

fn offset(offset: Option<&Duration>, f: &mut Formatter<'_>) -> fmt::Result {
    match offset {
        None => Ok(()),
        Some(offset) => write!(f, " offset {}", Whole(offset)),
    }
}

/// Writes what stands behind a subquery's expression.
pub(super) fn subquery_suffix(subquery: &Subquery, f: &mut impl fmt::Write) -> fmt::Result {
    write!(f, "[{}:", Whole(&subquery.range))?;
    if let Some(step) = &subquery.step {
        write!(f, "{}", Whole(step))?;
    }
    write!(f, "]{}", Modifiers(subquery))
}

struct Modifiers<'a>(&'a Subquery);

impl Display for Modifiers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        at(self.0.at, f)?;
        offset(self.0.offset.as_ref(), f)
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)?;
        subquery_suffix(self, f)
    }
}

/// Writes an aggregation's name and grouping.
pub(super) struct Head<'a>(pub(super) &'a Aggregate);

impl Display for Head<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let aggregate = self.0;
        f.write_str(aggregate.op.as_str())?;
        if aggregate.without || !aggregate.grouping.is_empty() {
            f.write_str(if aggregate.without { " without " } else { " by " })?;
            labels(&aggregate.grouping, f)?;
            f.write_str(" ")?;
        }
        Ok(())
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Head(self))?;
        match &self.param {
            Some(param) => write!(f, "({param}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

/// Writes an operator and how its sides find each other.
pub(super) struct Operator<'a>(pub(super) &'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.returns_bool {
            f.write_str(" bool")?;
        }
        let matching = &self.0.matching;
        let grouped = matches!(matching.cardinality, Cardinality::ManyToOne | Cardinality::OneToMany);
        if matching.on || !matching.labels.is_empty() || grouped {
            f.write_str(if matching.on { " on " } else { " ignoring " })?;
            labels(&matching.labels, f)?;
        }
        if grouped {
            let left = matching.cardinality == Cardinality::ManyToOne;
            f.write_str(if left { " group_left " } else { " group_right " })?;
            labels(&matching.include, f)?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(a), Some(b)) if a == b => write!(f, " fill ({})", format_short(a)),
            (left, right) => {
                if let Some(value) = left {
                    write!(f, " fill_left ({})", format_short(value))?;
                }
                if let Some(value) = right {
                    write!(f, " fill_right ({})", format_short(value))?;
                }
                Ok(())
            }
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.lhs, Operator(self), self.rhs)
    }
}
