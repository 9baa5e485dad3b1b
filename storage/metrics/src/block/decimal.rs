//! Doubles as scaled whole numbers, where that is exact: `mantissa * 2^shift / 10^scale`.

/// Most decimal places that are tried; beyond, hardly anything but full-precision floats is found.
pub(crate) const SCALE_MAX: u8 = 9;
/// 10 to the power of each scale; all are exact.
pub(crate) const POWERS: [f64; SCALE_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Added and taken away again it rounds to a whole number, for magnitudes below [`MANTISSA_MAX`].
const ROUNDING: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
/// Largest magnitude of a mantissa before it is shifted: 2^51.
const MANTISSA_MAX: f64 = 2_251_799_813_685_248.0;
/// Values that are looked at first, spread over the run.
const SAMPLED: usize = 64;

/// How the values of a run are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// All in the column `value`.
    Plain,
    /// As mantissas; exceptions are in the column `value`.
    Decimal { scale: u8, shift: u8, has_exceptions: bool },
}

/// Returns the whole number nearest to `value` times `power`, when that is below 2^51 in magnitude.
#[inline]
pub(crate) fn rounded(value: f64, power: f64) -> f64 {
    (value * power + ROUNDING) - ROUNDING
}

/// Returns the whole number that gives `value`, bit for bit, when it is divided by `power`.
#[inline]
pub(crate) fn whole(value: f64, power: f64) -> Option<f64> {
    let scaled = value * power;
    // Not so for NaN, either.
    let is_small = scaled.abs() < MANTISSA_MAX;
    let rounded = (scaled + ROUNDING) - ROUNDING;
    (is_small && (rounded / power).to_bits() == value.to_bits()).then_some(rounded)
}

/// Returns the smallest scale that leaves few exceptions; `None` when most values are no decimals.
fn find_scale(values: impl Iterator<Item = f64>) -> Option<usize> {
    let (mut counts, mut count) = ([0_usize; POWERS.len()], 0);
    for value in values {
        count += 1;
        if let Some(scale) = POWERS.iter().position(|power| whole(value, *power).is_some()) {
            counts[scale] += 1;
        }
    }
    let mut beyond: usize = counts.iter().sum();
    if beyond * 2 <= count {
        return None;
    }
    counts.iter().position(|count_of_scale| {
        beyond -= count_of_scale;
        beyond * 50 <= count
    })
}

/// Appends a mantissa per value, and whether the value is an exception, which must be kept itself.
pub(crate) fn encode(values: &[f64], mantissas: &mut Vec<i64>, exceptions: &mut Vec<bool>) -> Form {
    let start = mantissas.len();
    let step = (values.len() / SAMPLED).max(1);
    if let Some(scale) = find_scale(values.iter().step_by(step).copied()) {
        let mut failed = encode_with(scale, values, mantissas, exceptions);
        let mut used = scale;
        if failed * 16 > values.len() {
            // The values that were looked at were not like the others.
            mantissas.truncate(start);
            exceptions.truncate(start);
            match find_scale(values.iter().copied()) {
                Some(scale) => {
                    failed = encode_with(scale, values, mantissas, exceptions);
                    used = scale;
                }
                None => failed = values.len(),
            }
        }
        if failed * 2 <= values.len() {
            let run = mantissas.get_mut(start..).unwrap_or_default();
            let shift = run.iter().fold(0, |all, mantissa| all | mantissa).trailing_zeros() % 64;
            if shift > 0 {
                run.iter_mut().for_each(|mantissa| *mantissa >>= shift);
            }
            return Form::Decimal { scale: used as u8, shift: shift as u8, has_exceptions: failed > 0 };
        }
    }
    mantissas.resize(start, 0);
    exceptions.truncate(start);
    mantissas.resize(start + values.len(), 0);
    exceptions.resize(start + values.len(), true);
    Form::Plain
}

/// Returns how many exceptions there are. Each repeats the mantissa before it, which costs nothing.
fn encode_with(scale: usize, values: &[f64], mantissas: &mut Vec<i64>, exceptions: &mut Vec<bool>) -> usize {
    let power = POWERS[scale];
    let (mut last, mut failed) = (0_i64, 0);
    mantissas.extend(values.iter().map(|value| {
        let found = whole(*value, power);
        exceptions.push(found.is_none());
        failed += usize::from(found.is_none());
        last = found.map_or(last, |whole| whole as i64);
        last
    }));
    failed
}

/// Appends the values that mantissas stand for.
pub(crate) fn decode(scale: u8, shift: u8, mantissas: &[i64], values: &mut Vec<f64>) {
    let power = POWERS.get(usize::from(scale)).copied().unwrap_or(1.0);
    let shift = u32::from(shift);
    // What is below 2^51 can be put into the bits of a double, which takes no conversion of one number after the other.
    let double = |mantissa: &i64| {
        let bits = mantissa.wrapping_shl(shift).wrapping_add(ROUNDING.to_bits() as i64);
        f64::from_bits(bits as u64) - ROUNDING
    };
    if scale == 0 {
        values.extend(mantissas.iter().map(double));
    } else {
        values.extend(mantissas.iter().map(|mantissa| double(mantissa) / power));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(values: &[f64]) -> Form {
        let (mut mantissas, mut exceptions) = (vec![7], vec![true]);
        let form = encode(values, &mut mantissas, &mut exceptions);
        assert_eq!((mantissas.len(), exceptions.len()), (values.len() + 1, values.len() + 1));
        match form {
            Form::Plain => assert!(exceptions.iter().all(|is_exception| *is_exception)),
            Form::Decimal { scale, shift, has_exceptions } => {
                let mut got = Vec::new();
                decode(scale, shift, &mantissas[1..], &mut got);
                assert_eq!(exceptions[1..].contains(&true), has_exceptions);
                for ((got, value), is_exception) in got.iter().zip(values).zip(&exceptions[1..]) {
                    assert!(*is_exception || got.to_bits() == value.to_bits(), "{got} for {value}");
                }
            }
        }
        form
    }

    #[test]
    fn whole_numbers_and_decimals_are_found() {
        let decimal = |scale, shift, has_exceptions| Form::Decimal { scale, shift, has_exceptions };
        assert_eq!(check(&[]), Form::Plain);
        assert_eq!(check(&[0.0, 0.0]), decimal(0, 0, false));
        assert_eq!(check(&[4096.0, 3.0 * 4096.0, -8192.0]), decimal(0, 12, false));
        assert_eq!(check(&[0.25, 12.5, 1e9]), decimal(2, 0, false));
        assert_eq!(check(&[1_795_257_199.902, 0.001]), decimal(3, 0, false));
    }

    #[test]
    fn what_is_no_decimal_is_an_exception() {
        let stale = f64::from_bits(model::STALE_NAN_BITS);
        let decimal = Form::Decimal { scale: 0, shift: 0, has_exceptions: true };
        assert_eq!(check(&[1.0, 2.0, 3.0, stale, 5.0]), decimal);
        assert_eq!(check(&[1.0, -0.0, 3.0]), decimal);
        assert_eq!(check(&[1.0, 2.0, 3.0, f64::INFINITY, 5e300]), decimal);
        assert_eq!(check(&[0.1 + 0.2, std::f64::consts::PI, 1.0]), Form::Plain);
        assert_eq!(check(&[stale, f64::NAN]), Form::Plain);
    }

    #[test]
    fn a_run_whose_sample_misleads_is_looked_at_whole() {
        let values: Vec<f64> = (0..1280).map(|i| if i % 20 == 0 { 1.0 } else { f64::from(i) / 8.0 }).collect();
        assert!(matches!(check(&values), Form::Decimal { scale: 3, .. }));
    }

    proptest! {
        #[test]
        fn any_values_come_back(values in proptest::collection::vec(prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (any::<i32>(), 0..12_i32).prop_map(|(whole, scale)| f64::from(whole) / 10_f64.powi(scale)),
            any::<i64>().prop_map(|whole| whole as f64),
        ], 0..200)) {
            check(&values);
        }
    }
}
