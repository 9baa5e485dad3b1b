//! OTLP's histograms as native ones.

use model::Histogram;
use model::histogram::CUSTOM;

use super::Refused;
use super::labels::short;
use super::wire::{ExponentialPoint, Side};

/// The lowest and highest resolution of a native histogram.
const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

/// The width of the zero bucket where the point gives none. Source: Prometheus' OTLP receiver and the OpenTelemetry
/// specification, "Exponential Histograms".
const ZERO_THRESHOLD: f64 = 1e-128;

/// Turns an exponential histogram into a native one with exponential buckets; a resolution over the highest one is
/// reduced.
pub(super) fn exponential(
    point: &ExponentialPoint<'_>,
    positive: &Side,
    negative: &Side,
    name: &str,
) -> Result<Histogram, Refused> {
    let scale = point.scale;
    if scale < SCHEMA_MIN {
        let detail = || format!("a point of {:?} has the scale {scale}, the least is {SCHEMA_MIN}", short(name));
        return Err(Refused::new("histogram_scale_too_low", detail));
    }
    let zero_threshold = match point.zero_threshold {
        0.0 => ZERO_THRESHOLD,
        threshold if threshold > 0.0 && threshold.is_finite() => threshold,
        threshold => {
            let detail = || format!("a point of {:?} has the zero threshold {threshold}", short(name));
            return Err(Refused::new("invalid_histogram", detail));
        }
    };
    let shift = (scale - SCHEMA_MAX).max(0).cast_unsigned();
    let buckets = |side: &Side| {
        // The buckets of OTLP are counted from (1, base], those of Prometheus from (1/base, 1].
        let first = i64::from(side.offset);
        let at = |i: usize| (first + i64::try_from(i).ok()?).checked_shr(shift.min(63))?.checked_add(1);
        gather(side.counts.kept.iter().enumerate().map(|(i, count)| (at(i), *count)))
    };
    let (Some(positive), Some(negative)) = (buckets(positive), buckets(negative)) else {
        let detail = || format!("a point of {:?} has buckets that lie too far out", short(name));
        return Err(Refused::new("invalid_histogram", detail));
    };
    check_count(point.count, point.sum, [positive.1, negative.1, u128::from(point.zero_count)], name)?;
    Ok(Histogram {
        schema: scale.min(SCHEMA_MAX),
        zero_threshold,
        zero_count: float(point.zero_count),
        count: float(point.count),
        sum: point.sum.unwrap_or(0.0),
        positive: positive.0,
        negative: negative.0,
        ..Histogram::default()
    })
}

/// Turns a histogram with explicit bounds into a native one with custom buckets. `counts` are one more than `bounds`,
/// or none at all.
pub(super) fn custom(
    counts: &[u64],
    bounds: &[f64],
    count: u64,
    sum: Option<f64>,
    name: &str,
) -> Result<Histogram, Refused> {
    let all = [count];
    let counts = if counts.is_empty() { &all } else { counts };
    // An infinite bound is implied.
    let bounds = bounds.strip_suffix(&[f64::INFINITY]).unwrap_or(bounds);
    let numbered = counts.iter().enumerate().map(|(i, count)| (i64::try_from(i.min(bounds.len())).ok(), *count));
    let (positive, observations) = gather(numbered).unwrap_or_default();
    check_count(count, sum, [observations, 0, 0], name)?;
    Ok(Histogram {
        schema: CUSTOM,
        count: float(count),
        sum: sum.unwrap_or(0.0),
        positive,
        custom: bounds.into(),
        ..Histogram::default()
    })
}

type Populated = (Vec<(i32, f64)>, u128);

/// Joins buckets that have the same index and leaves out empty ones; returns them and all their observations. `None`
/// when an index does not fit.
fn gather(buckets: impl Iterator<Item = (Option<i64>, u64)>) -> Option<Populated> {
    let mut populated: Vec<(i32, u128)> = Vec::new();
    let mut observations = 0_u128;
    for (index, count) in buckets {
        if count == 0 {
            continue;
        }
        let index = i32::try_from(index?).ok()?;
        observations += u128::from(count);
        match populated.last_mut() {
            Some((last, sum)) if *last == index => *sum += u128::from(count),
            _ => populated.push((index, u128::from(count))),
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "native histograms have float counts")]
    Some((populated.into_iter().map(|(index, count)| (index, count as f64)).collect(), observations))
}

/// Tests that the buckets hold as many observations as the histogram; NaN is in no bucket.
fn check_count(count: u64, sum: Option<f64>, parts: [u128; 3], name: &str) -> Result<(), Refused> {
    let (found, count) = (parts.iter().sum::<u128>(), u128::from(count));
    if found == count || (found < count && sum.is_some_and(f64::is_nan)) {
        return Ok(());
    }
    let detail = || format!("a point of {:?} has {found} observations in its buckets and {count} in all", short(name));
    Err(Refused::new("invalid_histogram", detail))
}

#[expect(clippy::cast_precision_loss, reason = "native histograms have float counts")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
