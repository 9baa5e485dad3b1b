//! Prints a tree in canonical form, so that reading it again gives the same tree.

use std::fmt::{self, Display, Formatter};

use model::{METRIC_NAME, MatchOp};

use super::ast::{
    Aggregate, At, Binary, Borders, Cardinality, Duration, DurationKind, DurationOp, Expr, ExprKind, Number, Selector,
    Subquery,
};
use super::lexer::quote;
use super::parser::is_label_name;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => write!(f, "{number}"),
            ExprKind::Text(text) => f.write_str(&quote(text)),
            ExprKind::Selector(selector) => {
                bare(selector, f)?;
                modifiers(selector, f)
            }
            ExprKind::Range(selector, range) => {
                bare(selector, f)?;
                write!(f, "[{range}]")?;
                modifiers(selector, f)
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
        #[expect(clippy::cast_possible_truncation, reason = "durations are whole milliseconds in range")]
        let ms = (self.value * 1000.0).round() as i64;
        match self.value {
            _ if self.is_duration => duration_ms(ms, f),
            value if value.is_nan() => f.write_str("NaN"),
            value if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(f, "{value}"),
        }
    }
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

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // A number is seconds; only whole milliseconds can be written with a unit.
            DurationKind::Seconds(number) if (number.value * 1000.0).fract() == 0.0 => {
                write!(f, "{}", Number { is_duration: true, ..*number })
            }
            DurationKind::Seconds(number) => write!(f, "{}", Number { is_duration: false, ..*number }),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            DurationKind::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            DurationKind::Neg(a) => write!(f, "-{a}"),
            DurationKind::Pos(a) => write!(f, "+{a}"),
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
    let mut parts: Vec<String> = Vec::new();
    let mut plain_name = None;
    if let Some(name) = &selector.name {
        let plain = name
            .bytes()
            .enumerate()
            .all(|(i, b)| b == b'_' || b == b':' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()));
        let number = matches!(name.to_ascii_lowercase().as_str(), "inf" | "nan");
        if plain && !name.is_empty() && !number { plain_name = Some(name) } else { parts.push(quote(name)) }
    }
    let quoted = parts.len();
    let mut name_seen = selector.name.is_none();
    for matcher in &selector.matchers {
        let is_name = matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal;
        if is_name && !name_seen && selector.name.as_deref() == Some(matcher.value.as_str()) {
            name_seen = true;
            continue;
        }
        parts.push(format!("{}{}{}", label(&matcher.name), matcher.op.as_str(), quote(&matcher.value)));
    }
    parts[quoted..].sort();
    if let Some(name) = plain_name {
        f.write_str(name)?;
        if parts.is_empty() {
            return Ok(());
        }
    }
    write!(f, "{{{}}}", parts.join(","))
}

fn at_and_offset(at: Option<At>, offset: Option<&Duration>, f: &mut Formatter<'_>) -> fmt::Result {
    match at {
        None => {}
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        Some(At::Time(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            write!(f, " @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)?;
        }
    }
    match offset {
        None => Ok(()),
        Some(offset) if matches!(offset.kind, DurationKind::Binary(..)) => write!(f, " offset ({offset})"),
        Some(offset) => write!(f, " offset {offset}"),
    }
}

fn modifiers(selector: &Selector, f: &mut Formatter<'_>) -> fmt::Result {
    at_and_offset(selector.at, selector.offset.as_ref(), f)?;
    match selector.borders {
        Borders::Plain => Ok(()),
        Borders::Anchored => f.write_str(" anchored"),
        Borders::Smoothed => f.write_str(" smoothed"),
    }
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}:", self.expr, self.range)?;
        if let Some(step) = &self.step {
            write!(f, "{step}")?;
        }
        f.write_str("]")?;
        at_and_offset(self.at, self.offset.as_ref(), f)
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        if self.without || !self.grouping.is_empty() {
            f.write_str(if self.without { " without " } else { " by " })?;
            labels(&self.grouping, f)?;
            f.write_str(" ")?;
        }
        match &self.param {
            Some(param) => write!(f, "({param}, {})", self.expr),
            None => write!(f, "({})", self.expr),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.lhs, self.op.as_str())?;
        if self.returns_bool {
            f.write_str(" bool")?;
        }
        let matching = &self.matching;
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
            (None, None) => {}
            (Some(a), Some(b)) if a == b || (a.is_nan() && b.is_nan()) => write!(f, " fill ({})", plain(a))?,
            (left, right) => {
                if let Some(value) = left {
                    write!(f, " fill_left ({})", plain(value))?;
                }
                if let Some(value) = right {
                    write!(f, " fill_right ({})", plain(value))?;
                }
            }
        }
        write!(f, " {}", self.rhs)
    }
}

fn plain(value: f64) -> Number {
    Number { value, is_duration: false }
}
