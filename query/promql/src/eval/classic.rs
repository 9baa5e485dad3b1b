//! Quantiles and fractions of histograms, classic (`le` buckets) and native.

use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::elementwise::map_floats;
use crate::error::Result;
use crate::histogram::{Bucket, Histogram};
use crate::number::{format_float, kahan_add};
use crate::parse::ast::Span;
use crate::parse::text::quote;
use crate::value::{ABSENT, Grid, Merger, Series, is_absent};

/// Differences between buckets below this share are taken as errors of floating point.
const TOLERANCE: f64 = 1e-12;

/// Computes `histogram_count`, `_sum`, `_avg`, `_stddev`, `_stdvar`; floats are left out.
pub(super) fn of_histogram(mut vector: Vec<Series>, name: &str) -> Vec<Series> {
    vector.retain(|series| series.histograms.is_some());
    for series in &mut vector {
        let column = series.histograms.take().unwrap_or_default();
        for (value, histogram) in series.values.iter_mut().zip(column) {
            *value = histogram.map_or(ABSENT, |histogram| match name {
                "histogram_count" => histogram.count,
                "histogram_sum" => histogram.sum,
                "histogram_avg" => histogram.sum / histogram.count,
                "histogram_stddev" => variance(&histogram).sqrt(),
                _ => variance(&histogram),
            });
        }
    }
    map_floats(vector, |value, _| Some(value))
}

fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let (mut sum, mut error) = (0.0, 0.0);
    for bucket in histogram.buckets() {
        let value = if histogram.is_custom() {
            f64::midpoint(bucket.lower, bucket.upper)
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.lower * bucket.upper).sqrt().copysign(bucket.upper)
        };
        let delta = value - mean;
        (sum, error) = kahan_add(bucket.count * delta * delta, sum, error);
    }
    (sum + error) / histogram.count
}

/// The classic buckets and native histograms of one label set.
struct Family {
    labels: Labels,
    /// The name for messages.
    metric: String,
    /// (upper bound, series).
    buckets: Vec<(f64, usize)>,
    native: Vec<usize>,
}

impl Evaluator<'_> {
    /// Groups series by their labels without `le` and name.
    fn families(&self, vector: &[Series], span: Span) -> Vec<Family> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut families: Vec<Family> = Vec::new();
        for (i, series) in vector.iter().enumerate() {
            let has_floats = series.values.iter().any(|value| !is_absent(*value));
            let metric = series.labels.metric_name();
            let bound = series.labels.get("le").unwrap_or("");
            let upper = parse_bound(bound);
            if has_floats && upper.is_none() {
                let (bound, metric) = (quote(bound), quote(metric));
                let text = format!(
                    "bucket label \"le\" is missing or has a malformed value of {bound} for metric name {metric}"
                );
                self.notes.warn(span, text);
            }
            let native = series.histograms.is_some();
            // The name stays until the end, so that histograms of different names do not mix.
            let labels =
                if native && !has_floats { series.labels.clone() } else { series.labels.filtered(|name| name != "le") };
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                families.push(Family { labels, metric: metric.to_owned(), buckets: Vec::new(), native: Vec::new() });
                families.len() - 1
            });
            if let (true, Some(upper)) = (has_floats, upper) {
                families[place].buckets.push((upper, i));
            }
            if native {
                families[place].native.push(i);
            }
        }
        families
    }

    fn note_mix(&self, family: &Family, span: Span) {
        let metric = quote(&family.metric);
        let text = format!("vector contains a mix of classic and native histograms for metric name {metric}");
        self.notes.warn(span, text);
    }

    /// Computes quantiles; each may be told apart by a label with its value.
    pub(super) fn histogram_quantile(
        &self,
        quantiles: &[(Option<&str>, Vec<f64>)],
        vector: Vec<Series>,
        quantile_span: Span,
        span: Span,
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let families = self.families(&vector, span);
        let mut merger = Merger::default();
        for (label, q) in quantiles {
            for q in q {
                self.note_quantile(*q, quantile_span);
            }
            for family in &families {
                self.context.check()?;
                let labels = match label {
                    None => family.labels.clone(),
                    Some(label) => {
                        let value = q.first().map(|q| format_quantile(*q)).unwrap_or_default();
                        family.labels.to_builder().set(label, &value).build()
                    }
                };
                self.charge(1, grid.len())?;
                let mut result = Series::absent(labels, true, grid.len());
                for (i, q) in q.iter().enumerate() {
                    if let Some(value) = self.family_quantile(family, &vector, *q, i, span) {
                        result.values[i] = value;
                    }
                }
                if !result.is_empty() {
                    merger.push(result)?;
                }
            }
        }
        self.release(vector.len(), grid.len());
        Ok(merger.finish())
    }

    fn family_quantile(&self, family: &Family, vector: &[Series], q: f64, i: usize, span: Span) -> Option<f64> {
        let native = family.native.iter().find_map(|place| vector[*place].histogram(i));
        let mut buckets = classic_buckets(family, vector, i);
        if let Some(native) = native {
            if !buckets.is_empty() {
                self.note_mix(family, span);
                return None;
            }
            let (value, nans) = native_quantile(q, native);
            if let Some(effect) = nans {
                let metric = quote(&family.metric);
                let text = format!(
                    "input to histogram_quantile has NaN observations, result is {effect} for metric name {metric}"
                );
                self.notes.info(span, text);
            }
            return Some(value);
        }
        if buckets.is_empty() {
            return None;
        }
        let (value, fixed) = classic_quantile(q, &mut buckets);
        if fixed {
            let metric = quote(&family.metric);
            let text = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name {metric}"
            );
            self.notes.info(span, text);
        }
        Some(value)
    }

    pub(super) fn histogram_fraction(
        &self,
        low: &[f64],
        high: &[f64],
        vector: Vec<Series>,
        span: Span,
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let families = self.families(&vector, span);
        let mut merger = Merger::default();
        for family in &families {
            self.context.check()?;
            self.charge(1, grid.len())?;
            let mut result = Series::absent(family.labels.clone(), true, grid.len());
            for i in 0..grid.len() {
                let native = family.native.iter().find_map(|place| vector[*place].histogram(i));
                let mut buckets = classic_buckets(family, &vector, i);
                match native {
                    Some(_) if !buckets.is_empty() => self.note_mix(family, span),
                    Some(native) => {
                        if native.sum.is_nan() {
                            let metric = quote(&family.metric);
                            let text = format!(
                                "input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name {metric}"
                            );
                            self.notes.info(span, text);
                        }
                        result.values[i] = native_fraction(low[i], high[i], native);
                    }
                    None if buckets.is_empty() => {}
                    None => result.values[i] = classic_fraction(low[i], high[i], &mut buckets),
                }
            }
            if !result.is_empty() {
                merger.push(result)?;
            }
        }
        self.release(vector.len(), grid.len());
        Ok(merger.finish())
    }
}

/// Writes a label's value as OpenMetrics writes numbers: with a fraction, even where it is zero.
fn format_quantile(q: f64) -> String {
    let text = format_float(q);
    if q.is_finite() && !text.contains('.') { format!("{text}.0") } else { text }
}

/// Reads `le` as Go reads a float: `+Inf`, `1e3`, `0.5`.
fn parse_bound(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "" => None,
        "+inf" | "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

fn classic_buckets(family: &Family, vector: &[Series], i: usize) -> Vec<(f64, f64)> {
    let present = family.buckets.iter().map(|(upper, place)| (*upper, vector[*place].values[i]));
    present.filter(|(_, count)| !is_absent(*count)).collect()
}

/// Sorts cumulative buckets and unites those with the same bound; `None` when the last is not `+Inf`.
fn prepare(buckets: &mut Vec<(f64, f64)>) -> Option<()> {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last()?.0 != f64::INFINITY {
        return None;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    Some(())
}

/// Says whether two counts differ by no more than rounding.
fn almost_equal(a: f64, b: f64) -> bool {
    let sum = a.abs() + b.abs();
    let distance = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return distance < TOLERANCE * f64::MIN_POSITIVE;
    }
    distance / sum.min(f64::MAX) < TOLERANCE
}

/// Makes cumulative counts rise; says whether a real fall was mended.
fn make_monotonic(buckets: &mut [(f64, f64)]) -> bool {
    let Some(mut before) = buckets.first().map(|bucket| bucket.1) else { return false };
    let mut forced = false;
    for bucket in &mut buckets[1..] {
        if bucket.1 == before {
            continue;
        }
        if almost_equal(before, bucket.1) {
            bucket.1 = before;
        } else if bucket.1 < before {
            bucket.1 = before;
            forced = true;
        } else {
            before = bucket.1;
        }
    }
    forced
}

/// Returns the quantile and whether the buckets had to be mended. Source: Prometheus' documentation.
fn classic_quantile(q: f64, buckets: &mut Vec<(f64, f64)>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, false);
    }
    if prepare(buckets).is_none() {
        return (f64::NAN, false);
    }
    let fixed = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if buckets.len() < 2 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, fixed);
    }
    let mut rank = q * observations;
    let place = buckets[..last].partition_point(|bucket| bucket.1 < rank);
    if place == last {
        return (buckets[last - 1].0, fixed);
    }
    let end = buckets[place].0;
    if place == 0 && end <= 0.0 {
        return (end, fixed);
    }
    let (mut start, mut count) = (0.0, buckets[place].1);
    if place > 0 {
        start = buckets[place - 1].0;
        count -= buckets[place - 1].1;
        rank -= buckets[place - 1].1;
    }
    (start + (end - start) * (rank / count), fixed)
}

fn classic_fraction(low: f64, high: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if prepare(buckets).is_none() || buckets.len() < 2 {
        return f64::NAN;
    }
    make_monotonic(buckets);
    let count = buckets[buckets.len() - 1].1;
    if count == 0.0 || low.is_nan() || high.is_nan() {
        return f64::NAN;
    }
    if low >= high {
        return 0.0;
    }
    // A bucket without lower border cannot be cut: it counts neither from nor up to a point inside it.
    let rank_of = |value: f64, is_low: bool| {
        let mut rank = 0.0;
        let mut lower = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        for (upper, cumulative) in buckets.iter() {
            if lower >= value {
                return rank;
            }
            if *upper > value {
                if lower.is_infinite() {
                    return if is_low { *cumulative } else { rank };
                }
                if upper.is_infinite() {
                    return rank;
                }
                return rank + (cumulative - rank) * (value - lower) / (upper - lower);
            }
            rank = *cumulative;
            lower = *upper;
        }
        count
    };
    (rank_of(high, false).min(count) - rank_of(low, true).min(count)) / count
}

/// Returns the quantile, and how NaN observations changed it, if there are any.
fn native_quantile(q: f64, histogram: &Histogram) -> (f64, Option<&'static str>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let has_nans = histogram.sum.is_nan();
    let forward = has_nans || q < 0.5;
    let mut buckets = histogram.buckets();
    if !forward {
        buckets.reverse();
    }
    let rank = if forward { q } else { 1.0 - q } * histogram.count;
    let mut count = 0.0;
    let mut found = None;
    for bucket in buckets {
        count += bucket.count;
        found = Some(bucket);
        if count >= rank {
            break;
        }
    }
    let Some(mut bucket) = found else { return (f64::NAN, has_nans.then_some("NaN")) };
    let skewed = has_nans.then_some("skewed higher");
    if let Some(value) = adjust(histogram, &mut bucket) {
        return if has_nans && count < rank { (f64::NAN, Some("NaN")) } else { (value, skewed) };
    }
    let count = count.min(histogram.count);
    if count < rank {
        return if has_nans { (f64::NAN, Some("NaN")) } else { (bucket.upper, None) };
    }
    let rank = if forward { rank - (count - bucket.count) } else { count - rank };
    (interpolate(histogram, &bucket, rank / bucket.count), skewed)
}

/// Narrows the zero bucket to the side that has observations, and custom buckets without border; returns the value
/// where there is nothing to interpolate.
fn adjust(histogram: &Histogram, bucket: &mut Bucket) -> Option<f64> {
    if histogram.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return Some(bucket.upper);
            }
            bucket.lower = 0.0;
        }
        if bucket.upper == f64::INFINITY {
            return Some(bucket.lower);
        }
        return None;
    }
    if bucket.lower < 0.0 && bucket.upper > 0.0 {
        if histogram.negative.is_empty() && !histogram.positive.is_empty() {
            bucket.lower = 0.0;
        } else if histogram.positive.is_empty() && !histogram.negative.is_empty() {
            bucket.upper = 0.0;
        }
    }
    None
}

/// Returns the value at `part` of the bucket, linearly in the zero and custom buckets, else exponentially.
fn interpolate(histogram: &Histogram, bucket: &Bucket, part: f64) -> f64 {
    if histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * part;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * part).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - part)).exp2()
    }
}

/// Returns which part of the bucket lies below `value`, from 0 to 1.
fn part_below(histogram: &Histogram, bucket: &Bucket, value: f64) -> f64 {
    if histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let at = value.abs().log2();
    if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
}

fn native_fraction(low: f64, high: f64, histogram: &Histogram) -> f64 {
    if histogram.count == 0.0 || low.is_nan() || high.is_nan() {
        return f64::NAN;
    }
    if low >= high {
        return 0.0;
    }
    let buckets = histogram.buckets();
    let in_buckets: f64 = buckets.iter().map(|bucket| bucket.count).sum();
    let whole = if histogram.sum.is_nan() { in_buckets } else { histogram.count };
    let rank_of = |value: f64, is_low: bool| {
        let mut rank = 0.0;
        for bucket in &buckets {
            let mut bucket = *bucket;
            let fixed = adjust(histogram, &mut bucket);
            if fixed.is_some() && bucket.upper == f64::INFINITY {
                return if bucket.lower >= value || value < f64::INFINITY { rank } else { rank + bucket.count };
            }
            if fixed.is_some() && value < bucket.upper {
                return if is_low && value != f64::NEG_INFINITY { rank + bucket.count } else { rank };
            }
            if bucket.lower >= value {
                return rank;
            }
            if bucket.upper > value {
                return rank + bucket.count * part_below(histogram, &bucket, value);
            }
            rank += bucket.count;
        }
        whole
    };
    (rank_of(high, false).min(whole) - rank_of(low, true).min(whole)) / histogram.count
}

/// Keeps the observations below (`upper`) or above the bound; the sum is estimated from the buckets' middles.
pub(super) fn trim(histogram: &Histogram, bound: f64, upper: bool) -> Histogram {
    let mut result = histogram.clone();
    let keep_of = |bucket: &Bucket| -> (f64, f64, f64) {
        let (low, high) = if upper { (f64::NEG_INFINITY, bound) } else { (bound, f64::INFINITY) };
        if bucket.upper <= low || bucket.lower >= high {
            return (0.0, 0.0, 0.0);
        }
        if bucket.lower.is_infinite() && bucket.upper.is_infinite() {
            return if bound.is_infinite() { (bucket.count, low, high) } else { (0.0, 0.0, 0.0) };
        }
        let mut narrowed = *bucket;
        adjust(histogram, &mut narrowed);
        let below = |value: f64| {
            if value <= narrowed.lower {
                0.0
            } else if value >= narrowed.upper {
                1.0
            } else if narrowed.lower.is_infinite() || narrowed.upper.is_infinite() {
                // What has no border goes whole to the side of the border that it has.
                if narrowed.lower.is_infinite() { 1.0 } else { 0.0 }
            } else {
                part_below(histogram, &narrowed, value)
            }
        };
        let part = below(high) - below(low);
        (bucket.count * part, narrowed.lower.max(low), narrowed.upper.min(high))
    };
    let middle = |linear: bool, low: f64, high: f64| {
        if low.is_infinite() {
            high
        } else if high.is_infinite() {
            low
        } else if linear {
            f64::midpoint(low, high)
        } else {
            (low * high).sqrt().copysign(high)
        }
    };
    let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
    let mut visit = |bucket: Bucket| {
        let (kept, low, high) = keep_of(&bucket);
        changed |= kept != bucket.count;
        count += kept;
        if kept != 0.0 {
            let linear = histogram.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
            sum += kept * middle(linear, low, high);
        }
        kept
    };
    let positive = histogram.positive_buckets().zip(&histogram.positive).map(|(b, (i, _))| (*i, visit(b))).collect();
    let negative = histogram.negative_buckets().zip(&histogram.negative).map(|(b, (i, _))| (*i, visit(b))).collect();
    let zero = histogram
        .buckets()
        .into_iter()
        .find(|b| b.lower == -histogram.zero_threshold && b.upper == histogram.zero_threshold);
    let zero_count = if histogram.is_custom() { 0.0 } else { zero.map_or(0.0, &mut visit) };
    if !changed {
        return result;
    }
    let keep = |side: Vec<(i32, f64)>| side.into_iter().filter(|(_, count)| *count != 0.0).collect::<Vec<_>>();
    result.positive = keep(positive);
    result.negative = keep(negative);
    result.zero_count = zero_count;
    result.count = count;
    result.sum = sum;
    result
}
