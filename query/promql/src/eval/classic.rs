//! Quantiles and fractions of histograms, classic (`le` buckets) and native.

use std::collections::HashMap;

use model::Labels;

use super::Evaluator;
use super::elementwise::map_floats;
use crate::error::Result;
use crate::histogram::{Bucket, Histogram};
use crate::notes::{Detail, for_metric};
use crate::number::{format_short, kahan_add};
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
                let (bound, metric) = (quote(bound), for_metric(metric));
                let text = format!("bucket label \"le\" is missing or has a malformed value of {bound}{metric}");
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
        let metric = for_metric(&family.metric);
        self.notes.warn(span, format!("vector contains a mix of classic and native histograms{metric}"));
    }

    /// Computes quantiles; each may be told apart by a label with its value.
    pub(super) fn histogram_quantile(
        &self,
        quantiles: &[(Option<&str>, Vec<f64>, Span)],
        vector: Vec<Series>,
        span: Span,
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let families = self.families(&vector, span);
        let mut merger = Merger::of_steps(grid.len());
        for (k, (label, q, quantile_span)) in quantiles.iter().enumerate() {
            // Buckets that were mended for one quantile are whole for the next.
            let mended = |i: usize| quantiles[..k].iter().any(|(_, q, _)| (0.0..=1.0).contains(&q[i]));
            for q in q {
                self.note_quantile(*q, *quantile_span);
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
                    if let Some(value) = self.family_quantile(family, &vector, *q, (i, grid.at(i)), span, mended(i)) {
                        result.values[i] = value;
                    }
                }
                if !result.is_empty() {
                    merger.push(result)?;
                }
            }
        }
        self.release_columns(&vector, grid.len());
        Ok(merger.finish())
    }

    fn family_quantile(
        &self,
        family: &Family,
        vector: &[Series],
        q: f64,
        (i, at_ms): (usize, i64),
        span: Span,
        mended: bool,
    ) -> Option<f64> {
        let native = family.native.iter().find_map(|place| vector[*place].histogram(i));
        let mut buckets = classic_buckets(family, vector, i);
        if let Some(native) = native {
            if !buckets.is_empty() {
                self.note_mix(family, span);
                return None;
            }
            let (value, nans) = native_quantile(q, native);
            if let Some(effect) = nans {
                let metric = for_metric(&family.metric);
                let text = format!("input to histogram_quantile has NaN observations, result is {effect}{metric}");
                self.notes.info(span, text);
            }
            return Some(value);
        }
        if buckets.is_empty() {
            return None;
        }
        let (value, falls) = classic_quantile(q, &mut buckets);
        if let Some(falls) = falls.filter(|_| !mended) {
            let metric = for_metric(&family.metric);
            let text = format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){metric}"
            );
            let detail = Detail::Falls { buckets: falls.buckets, most: falls.most, count: 1, at_ms: (at_ms, at_ms) };
            self.notes.add(false, span, text, detail);
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
        let mut merger = Merger::of_steps(grid.len());
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
                        let (fraction, has_nans) = native_fraction(low[i], high[i], native);
                        result.values[i] = fraction;
                        if has_nans {
                            let metric = for_metric(&family.metric);
                            let text = format!(
                                "input to histogram_fraction has NaN observations, which are excluded from all fractions{metric}"
                            );
                            self.notes.info(span, text);
                        }
                    }
                    None if buckets.is_empty() => {}
                    None => result.values[i] = classic_fraction(low[i], high[i], &mut buckets),
                }
            }
            if !result.is_empty() {
                merger.push(result)?;
            }
        }
        self.release_columns(&vector, grid.len());
        Ok(merger.finish())
    }
}

/// Writes a label's value as OpenMetrics writes numbers: with a fraction, even where it is zero.
fn format_quantile(q: f64) -> String {
    let text = format_short(q);
    if q.is_finite() && !text.contains(['.', 'e']) { format!("{text}.0") } else { text }
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

/// The buckets whose cumulative counts fell, though they cannot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Falls {
    /// The first and the last upper bound.
    buckets: (f64, f64),
    /// The largest fall.
    most: f64,
}

/// Makes cumulative counts rise; tells of the falls that are more than rounding.
fn make_monotonic(buckets: &mut [(f64, f64)]) -> Option<Falls> {
    let mut before = buckets.first()?.1;
    let mut falls: Option<Falls> = None;
    for bucket in &mut buckets[1..] {
        if bucket.1 == before {
            continue;
        }
        if almost_equal(before, bucket.1) {
            bucket.1 = before;
        } else if bucket.1 < before {
            let fall = before - bucket.1;
            let have = falls.unwrap_or(Falls { buckets: (bucket.0, bucket.0), most: 0.0 });
            falls = Some(Falls { buckets: (have.buckets.0, bucket.0), most: have.most.max(fall) });
            bucket.1 = before;
        } else {
            before = bucket.1;
        }
    }
    falls
}

/// Returns the quantile and what had to be mended. Source: Prometheus' documentation.
fn classic_quantile(q: f64, buckets: &mut Vec<(f64, f64)>) -> (f64, Option<Falls>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, None);
    }
    if prepare(buckets).is_none() {
        return (f64::NAN, None);
    }
    let falls = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if buckets.len() < 2 || observations == 0.0 {
        return (f64::NAN, falls);
    }
    let mut rank = q * observations;
    // Where the rank is NaN no bucket reaches it.
    let place = buckets[..last].iter().position(|bucket| bucket.1 >= rank).unwrap_or(last);
    if place == last {
        return (buckets[last - 1].0, falls);
    }
    let end = buckets[place].0;
    if place == 0 && end <= 0.0 {
        return (end, falls);
    }
    let (mut start, mut count) = (0.0, buckets[place].1);
    if place > 0 {
        start = buckets[place - 1].0;
        count -= buckets[place - 1].1;
        rank -= buckets[place - 1].1;
    }
    (start + (end - start) * (rank / count), falls)
}

fn classic_fraction(low: f64, high: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if prepare(buckets).is_none() {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].1;
    if count == 0.0 || low.is_nan() || high.is_nan() {
        return f64::NAN;
    }
    if low >= high {
        return 0.0;
    }
    let rank_of = |value: f64| {
        let mut rank = 0.0;
        let mut lower = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        for (upper, cumulative) in buckets.iter() {
            if lower >= value {
                return rank;
            }
            if *upper > value {
                // A bucket without lower border cannot be cut.
                if lower == f64::NEG_INFINITY {
                    return *cumulative;
                }
                return rank + (cumulative - rank) * (value - lower) / (upper - lower);
            }
            rank = *cumulative;
            lower = *upper;
        }
        count
    };
    let rank_up_to_count = |value: f64| {
        let rank = rank_of(value);
        if rank > count { count } else { rank }
    };
    (rank_up_to_count(high) - rank_up_to_count(low)) / count
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
    let mut rank = if forward { q } else { 1.0 - q } * histogram.count;
    let mut count = 0.0;
    let nothing = Bucket { lower: 0.0, upper: 0.0, lower_inside: true, upper_inside: true, count: 0.0 };
    let mut bucket = nothing;
    let mut rest = buckets.into_iter();
    for one in rest.by_ref() {
        count += one.count;
        bucket = one;
        if count >= rank {
            break;
        }
    }
    if let Some(value) = adjust(histogram, &mut bucket) {
        return (value, None);
    }
    // Rounding may lead beyond the count.
    if count > histogram.count {
        count = histogram.count;
    }
    if count < rank {
        return if has_nans { (f64::NAN, Some("NaN")) } else { (bucket.upper, None) };
    }
    rank = if forward { rank - (count - bucket.count) } else { count - rank };
    let mut skewed = None;
    if has_nans {
        // As in Prometheus, the last bucket is then the one to interpolate in.
        for one in rest {
            count += one.count;
            bucket = one;
        }
        skewed = (count < histogram.count).then_some("skewed higher");
    }
    (interpolate(histogram, &bucket, rank / bucket.count), skewed)
}

/// Narrows the zero bucket to the side that has observations, and a custom bucket without lower border; returns the value
/// where there is nothing to interpolate.
fn adjust(histogram: &Histogram, bucket: &mut Bucket) -> Option<f64> {
    if histogram.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return Some(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return Some(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        narrow(histogram, bucket);
    }
    None
}

/// Takes zero as the border on the side on which there are no observations.
fn narrow(histogram: &Histogram, bucket: &mut Bucket) {
    if histogram.negative.is_empty() && !histogram.positive.is_empty() {
        bucket.lower = 0.0;
    } else if histogram.positive.is_empty() && !histogram.negative.is_empty() {
        bucket.upper = 0.0;
    }
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
pub(super) fn share_below(bucket: &Bucket, value: f64, linear: bool) -> f64 {
    if linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let at = value.abs().log2();
    if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
}

/// Returns the share of observations between two values, and whether there are NaN ones, which are in no share.
fn native_fraction(low: f64, high: f64, histogram: &Histogram) -> (f64, bool) {
    if histogram.count == 0.0 || low.is_nan() || high.is_nan() {
        return (f64::NAN, false);
    }
    if low >= high {
        return (0.0, false);
    }
    let buckets = histogram.buckets();
    let mut whole = histogram.count;
    let mut has_nans = false;
    if histogram.sum.is_nan() {
        whole = buckets.iter().map(|bucket| bucket.count).sum();
        has_nans = whole < histogram.count;
    }
    let rank_of = |value: f64| {
        let mut rank = 0.0;
        for bucket in &buckets {
            let mut bucket = *bucket;
            let around_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if around_zero {
                narrow(histogram, &mut bucket);
            }
            if bucket.lower >= value {
                return rank;
            }
            if bucket.upper > value {
                let linear = histogram.is_custom() || around_zero;
                if linear && bucket.lower == f64::NEG_INFINITY {
                    return bucket.count;
                }
                return rank + bucket.count * share_below(&bucket, value, linear);
            }
            rank += bucket.count;
        }
        whole
    };
    let rank_up_to_whole = |value: f64| {
        let rank = rank_of(value);
        if rank > whole { whole } else { rank }
    };
    ((rank_up_to_whole(high) - rank_up_to_whole(low)) / histogram.count, has_nans)
}
