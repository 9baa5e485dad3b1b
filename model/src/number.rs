//! Numbers added and written as Go and Prometheus do it.

/// Adds with Kahan's and Neumaier's compensation; returns the new sum and its error.
#[must_use]
pub fn kahan_add(increment: f64, sum: f64, mut error: f64) -> (f64, f64) {
    let total = sum + increment;
    if total.is_infinite() {
        error = 0.0;
    } else if sum.abs() >= increment.abs() {
        error += (sum - total) + increment;
    } else {
        error += (increment - total) + sum;
    }
    (total, error)
}

/// Writes a number in its shortest form, with an exponent where that is much shorter, as Go's `%v` and `%g` do.
#[must_use]
pub fn format_short(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-4..1e6).contains(&value.abs()) {
        return with_exponent(&format!("{value:e}"));
    }
    format_float(value)
}

/// Turns `1e-7` into `1e-07`, and `1e21` into `1e+21`.
#[must_use]
pub fn with_exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Writes a number as Go's `strconv` does with format `f` and the shortest form.
#[must_use]
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}
