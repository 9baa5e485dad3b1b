//! Functions of each sample alone.

use std::sync::Arc;

use crate::histogram::Histogram;
use crate::number;
use crate::value::{Series, Value, is_absent};

/// Changes every float; histograms are left out. The names are to be dropped.
#[must_use]
pub fn map_floats(mut vector: Vec<Series>, change: impl Fn(f64, usize) -> Option<f64>) -> Vec<Series> {
    for series in &mut vector {
        series.drop_name = true;
        series.histograms = None;
        for (i, value) in series.values.iter_mut().enumerate() {
            if !is_absent(*value) {
                *value = change(*value, i).unwrap_or(crate::value::ABSENT);
            }
        }
    }
    vector
}

/// Changes the sign.
#[must_use]
pub fn negate(value: Value) -> Value {
    match value {
        Value::Scalar(mut values) => {
            for value in &mut values {
                *value = -*value;
            }
            Value::Scalar(values)
        }
        Value::Vector(mut vector) => {
            for series in &mut vector {
                series.drop_name = true;
                for value in &mut series.values {
                    if !is_absent(*value) {
                        *value = -*value;
                    }
                }
                // Neighbouring steps may share a histogram; they go on to do so.
                let mut last: Option<(Arc<Histogram>, Arc<Histogram>)> = None;
                for histogram in series.histograms.iter_mut().flatten().flatten() {
                    let negated = match &last {
                        Some((of, negated)) if Arc::ptr_eq(of, histogram) => Arc::clone(negated),
                        _ => Arc::new(histogram.scaled(-1.0)),
                    };
                    last = Some((std::mem::replace(histogram, Arc::clone(&negated)), negated));
                }
            }
            Value::Vector(vector)
        }
        other => other,
    }
}

/// Returns the function of one float of this name: `abs`, `ceil`, `sin`, …
#[must_use]
pub fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        _ => return None,
    })
}

/// Rounds to the nearest multiple, halves up.
#[must_use]
pub fn round(value: f64, to: f64) -> f64 {
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// Holds a value between two; NaN borders give NaN.
#[must_use]
pub fn clamp(value: f64, low: f64, high: f64) -> f64 {
    number::max(low, number::min(high, value))
}
