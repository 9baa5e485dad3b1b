//! Arithmetic and comparison of two numbers.

use crate::ast::BinaryOp;

/// Applies an operator; comparisons give 0 or 1. Division and remainder by zero give NaN, as in Loki.
pub(crate) fn apply(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |yes: bool| f64::from(u8::from(yes));
    #[expect(clippy::float_cmp, reason = "the language compares exactly")]
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div if right == 0.0 => f64::NAN,
        BinaryOp::Div => left / right,
        BinaryOp::Mod if right == 0.0 => f64::NAN,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Equal => truth(left == right),
        BinaryOp::NotEqual => truth(left != right),
        BinaryOp::Greater => truth(left > right),
        BinaryOp::GreaterEqual => truth(left >= right),
        BinaryOp::Less => truth(left < right),
        BinaryOp::LessEqual => truth(left <= right),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => f64::NAN,
    }
}
