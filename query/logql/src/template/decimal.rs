//! Decimal arithmetic of `addf`, `subf`, `mulf` and `divf`: of 0.1 and 0.2 the sum is 0.3, as in Loki.

/// Digits behind the point that a quotient keeps.
const QUOTIENT_PLACES: i32 = 16;

/// `digits * 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// Makes a decimal of a double's shortest digits; `None` for what is none, and for what has too many.
    fn new(value: f64) -> Option<Self> {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let places = i32::try_from(fraction.len()).ok()?;
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, exponent: exponent.parse::<i32>().ok()?.checked_sub(places)? })
    }

    fn value(self) -> Option<f64> {
        format!("{}e{}", self.digits, self.exponent).parse().ok()
    }

    /// Returns the digits at a smaller exponent.
    fn at(self, exponent: i32) -> Option<i128> {
        let places = u32::try_from(self.exponent.checked_sub(exponent)?).ok()?;
        self.digits.checked_mul(10_i128.checked_pow(places)?)
    }
}

/// Says how two decimals are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
}

/// Computes with the decimals that two doubles stand for; where these are too long, with the doubles themselves.
///
/// # Errors
/// Division by zero.
pub(super) fn compute(operator: Operator, a: f64, b: f64) -> Result<f64, String> {
    if operator == Operator::Div && b == 0.0 {
        return Err("decimal division by 0".to_owned());
    }
    let exact = Decimal::new(a).zip(Decimal::new(b)).and_then(|(a, b)| exactly(operator, a, b)?.value());
    Ok(exact.unwrap_or(match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div => a / b,
    }))
}

fn exactly(operator: Operator, a: Decimal, b: Decimal) -> Option<Decimal> {
    let exponent = a.exponent.min(b.exponent);
    match operator {
        Operator::Add => Some(Decimal { digits: a.at(exponent)?.checked_add(b.at(exponent)?)?, exponent }),
        Operator::Sub => Some(Decimal { digits: a.at(exponent)?.checked_sub(b.at(exponent)?)?, exponent }),
        Operator::Mul => {
            let digits = a.digits.checked_mul(b.digits)?;
            Some(Decimal { digits, exponent: a.exponent.checked_add(b.exponent)? })
        }
        Operator::Div => {
            // a / b * 10^16, rounded away from zero at a half.
            let places = QUOTIENT_PLACES.checked_add(a.exponent)?.checked_sub(b.exponent)?;
            let scale = 10_i128.checked_pow(places.unsigned_abs())?;
            let (top, bottom) = match places >= 0 {
                true => (a.digits.checked_mul(scale)?, b.digits),
                false => (a.digits, b.digits.checked_mul(scale)?),
            };
            let (quotient, rest) = (top.checked_div(bottom)?, top.checked_rem(bottom)?);
            let rounds = rest.checked_abs()?.checked_mul(2)? >= bottom.checked_abs()?;
            let step = if (top < 0) == (bottom < 0) { 1 } else { -1 };
            Some(Decimal { digits: quotient + if rounds { step } else { 0 }, exponent: -QUOTIENT_PLACES })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_stay_decimals() {
        let check = |operator, a, b| compute(operator, a, b).unwrap();
        assert_eq!((check(Operator::Add, 0.1, 0.2), check(Operator::Sub, 0.3, 0.1)), (0.3, 0.2));
        assert_eq!((check(Operator::Mul, 0.1, 3.0), check(Operator::Mul, 1e15, 1e15)), (0.3, 1e30));
        assert_eq!(check(Operator::Div, 1.0, 3.0), 0.333_333_333_333_333_3);
        assert_eq!(check(Operator::Div, -2.0, 3.0), -0.666_666_666_666_666_7);
        assert_eq!(check(Operator::Div, 1.0, 30_000.0), 3.333_333_333_33e-5);
        assert_eq!((check(Operator::Div, 1.0, 1e20), check(Operator::Add, 1e300, 1.0)), (0.0, 1e300));
        assert!(check(Operator::Add, f64::NAN, 1.0).is_nan());
        assert_eq!(compute(Operator::Div, 1.0, 0.0).unwrap_err(), "decimal division by 0");
    }
}
