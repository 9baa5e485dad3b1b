//! Prints a tree over several lines where one would be too long, as Prometheus' `format_query` does.

use std::fmt::Write;

use super::ast::{Expr, ExprKind};
use super::print::{Head, Operator, subquery_suffix};

/// The longest expression in bytes that stays on its line, indentation not counted.
const LINE_BYTES_MAX: usize = 100;

/// What each level is indented by.
const INDENT: &str = "  ";

impl Expr {
    /// Returns the expression in canonical form, broken and indented where it is over 100 characters long.
    #[must_use]
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        lines(self, 0, &mut out);
        out
    }
}

fn indent(level: usize, out: &mut String) {
    for _ in 0..level {
        out.push_str(INDENT);
    }
}

/// Appends the node, indented, without a line break behind it.
fn lines(expr: &Expr, level: usize, out: &mut String) {
    let text = expr.to_string();
    let fits = text.len() <= LINE_BYTES_MAX;
    match &expr.kind {
        // Prometheus does not indent a subquery that fits; an answer that differs in spaces would be another answer.
        ExprKind::Subquery(_) if fits => out.push_str(&text),
        ExprKind::Subquery(subquery) => {
            lines(&subquery.expr, level, out);
            append(out, |out| subquery_suffix(subquery, out));
        }
        // The sign goes before whatever the operand has become, fitting or not.
        ExprKind::Unary(negative, inner) => {
            let mut operand = String::new();
            lines(inner, level, &mut operand);
            indent(level, out);
            out.push(if *negative { '-' } else { '+' });
            out.push_str(operand.trim());
        }
        ExprKind::Binary(binary) if !fits => {
            lines(&binary.lhs, level + 1, out);
            out.push('\n');
            indent(level, out);
            append(out, |out| writeln!(out, "{}", Operator(binary)));
            lines(&binary.rhs, level + 1, out);
        }
        ExprKind::Aggregate(aggregate) if !fits => {
            indent(level, out);
            append(out, |out| write!(out, "{}", Head(aggregate)));
            arguments(aggregate.param.iter().chain([&aggregate.expr]), level, out);
        }
        ExprKind::Call(function, args) if !fits => {
            indent(level, out);
            out.push_str(function.name);
            arguments(args.iter(), level, out);
        }
        ExprKind::Paren(inner) if !fits => {
            indent(level, out);
            arguments([inner.as_ref()].into_iter(), level, out);
        }
        _ => {
            indent(level, out);
            out.push_str(&text);
        }
    }
}

/// Appends nodes in parentheses, each from a line of its own on.
fn arguments<'a>(args: impl Iterator<Item = &'a Expr>, level: usize, out: &mut String) {
    out.push_str("(\n");
    for (i, arg) in args.enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        lines(arg, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn append(out: &mut String, write: impl FnOnce(&mut String) -> std::fmt::Result) {
    write(out).expect("a String takes all text");
}
