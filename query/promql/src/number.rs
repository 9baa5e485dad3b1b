//! Arithmetic as Go and Prometheus do it.

use std::cmp::Ordering;

pub(crate) use model::number::{format_float, kahan_add};

/// The larger one; NaN when either is.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The smaller one; NaN when either is.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Orders ascending with NaN first.
pub(crate) fn nan_first(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// Returns the `q` quantile with linear interpolation; sorts `values`.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let rank = q * (values.len() - 1) as f64;
    let floor = rank.floor().max(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let lower = floor as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - floor;
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// A mean that does not overflow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    sum: f64,
    error: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = value;
            return;
        }
        if !self.incremental {
            let (sum, error) = kahan_add(value, self.sum, self.error);
            if !sum.is_infinite() {
                (self.sum, self.error) = (sum, error);
                return;
            }
            // The sum overflows: from here on, keep the mean itself.
            self.incremental = true;
            self.sum /= self.count - 1.0;
            self.error /= self.count - 1.0;
        }
        let keep = (self.count - 1.0) / self.count;
        (self.sum, self.error) = kahan_add(value / self.count, keep * self.sum, keep * self.error);
    }

    pub(crate) fn get(self) -> f64 {
        if self.incremental { self.sum + self.error } else { self.sum / self.count + self.error / self.count }
    }
}

/// Returns x mod y with the sign of x, as Go's `math.Mod`.
pub(crate) fn modulo(a: f64, b: f64) -> f64 {
    a % b
}
