//! Native histograms, always with float counts, as sparse buckets.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::bounds::MANTISSAS;
use crate::number::{format_short, kahan_add};
use crate::sample::is_stale;

/// A native histogram: exponential buckets, or custom ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// The resolution, -4 to 8: a power of two is cut into `2^schema` buckets; [`CUSTOM`] for custom buckets.
    pub schema: i32,
    /// The zero bucket reaches from minus to plus this.
    pub zero_threshold: f64,
    /// The observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// (index, observations) of buckets above zero, by index, none of them 0.
    pub positive: Vec<(i32, f64)>,
    /// As `positive`, below zero, mirrored.
    pub negative: Vec<(i32, f64)>,
    /// The upper bounds of custom buckets.
    pub custom: Arc<[f64]>,
    /// What is known of counter resets before it.
    pub hint: ResetHint,
}

/// The schema number of custom buckets.
pub const CUSTOM: i32 = -53;

/// What is known of a counter reset between a histogram and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Nothing: compare.
    #[default]
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// A bucket with its borders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The lower border.
    pub lower: f64,
    /// The upper border.
    pub upper: f64,
    /// Whether the lower border is inside.
    pub lower_inside: bool,
    /// Whether the upper border is inside.
    pub upper_inside: bool,
    /// The observations.
    pub count: f64,
}

/// What was odd when two histograms were put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Oddities {
    /// One said that there was a counter reset, the other that there was none.
    pub reset_conflict: bool,
    /// Their custom bounds differ, and only the common ones were kept.
    pub bounds_reconciled: bool,
}

impl Histogram {
    /// Says whether the buckets are custom ones.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM
    }

    /// Says whether count and sum are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.count.is_finite() && self.sum.is_finite() && self.zero_count.is_finite()
    }

    /// Says whether it is the marker that ends a series.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Returns the upper border of bucket `index`.
    #[must_use]
    pub fn bound(&self, index: i32) -> f64 {
        if self.is_custom() {
            return match usize::try_from(index) {
                Ok(i) => self.custom.get(i).copied().unwrap_or(f64::INFINITY),
                Err(_) => f64::NEG_INFINITY,
            };
        }
        exponential_bound(index, self.schema)
    }

    fn bucket(&self, index: i32, count: f64, positive: bool) -> Bucket {
        let (near, far) = (self.bound(index - 1), self.bound(index));
        if positive {
            let lower_inside = self.is_custom() && index == 0;
            Bucket { lower: near, upper: far, lower_inside, upper_inside: true, count }
        } else {
            Bucket { lower: -far, upper: -near, lower_inside: true, upper_inside: false, count }
        }
    }

    /// Returns the buckets above zero, from zero outwards.
    pub fn positive_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.positive.iter().map(|(index, count)| self.bucket(*index, *count, true))
    }

    /// Returns the buckets below zero, from zero outwards.
    pub fn negative_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.negative.iter().map(|(index, count)| self.bucket(*index, *count, false))
    }

    /// Returns all populated buckets from the lowest up, the zero bucket in the middle. As in Prometheus, the zero bucket
    /// is left out when it has less than nothing, and those beside it end where it begins.
    #[must_use]
    pub fn buckets(&self) -> Vec<Bucket> {
        let threshold = self.zero_threshold;
        let beside_zero = |bucket: Bucket| match bucket {
            _ if bucket.upper < 0.0 && bucket.upper > -threshold => Bucket { upper: -threshold, ..bucket },
            _ if bucket.lower > 0.0 && bucket.lower < threshold => Bucket { lower: threshold, ..bucket },
            _ => bucket,
        };
        let mut all: Vec<Bucket> = self.negative_buckets().map(beside_zero).collect();
        all.reverse();
        if self.zero_count > 0.0 && !self.is_custom() {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive_buckets().map(beside_zero));
        all
    }

    fn zero_bucket(&self) -> Bucket {
        let (lower, upper) = (-self.zero_threshold, self.zero_threshold);
        Bucket { lower, upper, lower_inside: true, upper_inside: true, count: self.zero_count }
    }

    /// Multiplies all counts and the sum.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        self.map(factor < 0.0, |count| count * factor)
    }

    /// Divides all counts and the sum; dividing by zero leaves no buckets.
    #[must_use]
    pub fn divided(&self, by: f64) -> Self {
        let mut result = self.map(by < 0.0, |count| count / by);
        if by == 0.0 {
            result.positive.clear();
            result.negative.clear();
        }
        result
    }

    fn map(&self, to_gauge: bool, change: impl Fn(f64) -> f64) -> Self {
        let buckets = |side: &[(i32, f64)]| {
            let changed = side.iter().map(|(index, count)| (*index, change(*count)));
            changed.filter(|(_, count)| *count != 0.0).collect()
        };
        Self {
            zero_count: change(self.zero_count),
            count: change(self.count),
            sum: change(self.sum),
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            hint: if to_gauge { ResetHint::Gauge } else { self.hint },
            ..self.clone()
        }
    }

    /// Returns the sum of the two; `None` when one has custom buckets and the other has not.
    #[must_use]
    pub fn add(&self, other: &Self) -> Option<(Self, Oddities)> {
        self.combine(other, |a, b| a + b)
    }

    /// Returns the difference of the two, as [`add`](Self::add).
    #[must_use]
    pub fn sub(&self, other: &Self) -> Option<(Self, Oddities)> {
        self.combine(other, |a, b| a - b)
    }

    fn combine(&self, other: &Self, op: fn(f64, f64) -> f64) -> Option<(Self, Oddities)> {
        if self.is_custom() != other.is_custom() {
            return None;
        }
        let (mut left, mut right) = (self.clone(), other.clone());
        let mut odd = Oddities::default();
        (left.hint, odd.reset_conflict) = join_hints(self.hint, other.hint);
        if self.is_custom() {
            if left.custom != right.custom {
                odd.bounds_reconciled = true;
                let common: Arc<[f64]> =
                    left.custom.iter().copied().filter(|bound| right.custom.contains(bound)).collect();
                left.rebound(&common);
                right.rebound(&common);
            }
        } else {
            reconcile_zero_buckets(&mut left, &mut right);
            let schema = left.schema.min(right.schema);
            left.reduce(schema);
            right.reduce(schema);
            left.zero_count = op(left.zero_count, right.zero_count);
        }
        left.count = op(left.count, right.count);
        left.sum = op(left.sum, right.sum);
        left.positive = merge(&left.positive, &right.positive, op);
        left.negative = merge(&left.negative, &right.negative, op);
        Some((left, odd))
    }

    /// Lowers the resolution to `schema`, which must not be above the present one.
    pub fn reduce(&mut self, schema: i32) {
        let shift = self.schema - schema;
        if shift <= 0 {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            // In 64 bits, as neither the index nor the step down is bounded here.
            *side = regroup(side, |index| ((i64::from(index) - 1) >> shift.min(63)) as i32 + 1);
        }
        self.schema = schema;
    }

    /// Keeps only the custom bounds in `bounds`, all of which it must have.
    fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let old = Arc::clone(&self.custom);
        let place = |index: i32| {
            let upper = usize::try_from(index).ok().and_then(|i| old.get(i)).copied().unwrap_or(f64::INFINITY);
            i32::try_from(bounds.partition_point(|bound| *bound < upper)).unwrap_or(i32::MAX)
        };
        self.positive = regroup(&self.positive, place);
        self.custom = Arc::clone(bounds);
    }

    /// Returns what the zero bucket holds when widened to `threshold`, and the threshold that it then has: one that cuts
    /// no populated bucket.
    fn zero_count_at(&self, mut threshold: f64) -> (f64, f64) {
        if threshold <= self.zero_threshold {
            return (self.zero_count, self.zero_threshold.max(threshold));
        }
        'again: loop {
            let mut count = self.zero_count;
            let mut reach = threshold;
            for bucket in self.positive_buckets().take_while(|bucket| bucket.lower < threshold) {
                count += bucket.count;
                reach = reach.max(bucket.upper);
            }
            // A populated bucket that the threshold cuts goes in whole.
            threshold = threshold.max(reach);
            for bucket in self.negative_buckets() {
                if bucket.upper <= -threshold {
                    break;
                }
                count += bucket.count;
                if bucket.lower < -threshold {
                    threshold = -bucket.lower;
                    continue 'again;
                }
            }
            return (count, threshold);
        }
    }

    fn widen_zero(&mut self, threshold: f64) {
        (self.zero_count, self.zero_threshold) = self.zero_count_at(threshold);
        let reach = self.zero_threshold;
        let schema = self.schema;
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(index, _)| exponential_bound(*index - 1, schema) >= reach);
        }
    }

    /// Says whether a counter that went from `previous` to this was reset in between.
    #[must_use]
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count || self.is_custom() != previous.is_custom() {
            return true;
        }
        if self.has_buckets_of(previous) {
            // The usual case needs no copies.
            return self.zero_count < previous.zero_count
                || fell(&previous.positive, &self.positive)
                || fell(&previous.negative, &self.negative);
        }
        let (mut now, mut before) = (self.clone(), previous.clone());
        if self.is_custom() {
            if now.custom != before.custom {
                let common: Arc<[f64]> =
                    now.custom.iter().copied().filter(|bound| before.custom.contains(bound)).collect();
                now.rebound(&common);
                before.rebound(&common);
            }
        } else {
            if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
                return true;
            }
            before.widen_zero(self.zero_threshold);
            if before.zero_threshold != self.zero_threshold || self.zero_count < before.zero_count {
                return true;
            }
            before.reduce(self.schema);
        }
        fell(&before.positive, &now.positive) || fell(&before.negative, &now.negative)
    }

    fn has_buckets_of(&self, other: &Self) -> bool {
        self.schema == other.schema && self.zero_threshold == other.zero_threshold && self.custom == other.custom
    }

    /// Says whether the two are equal but for what they say of resets; NaN equals NaN.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        let sides = |a: &[(i32, f64)], b: &[(i32, f64)]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        };
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && same(self.zero_count, other.zero_count)
            && self.zero_threshold == other.zero_threshold
            && self.custom == other.custom
            && sides(&self.positive, &other.positive)
            && sides(&self.negative, &other.negative)
    }
}

/// Adds histograms with compensation for rounding, so that large terms that cancel out leave the small ones.
#[derive(Debug, Clone)]
pub struct HistogramSum {
    sum: Histogram,
    /// What rounding took from each field of `sum`, in the same buckets.
    error: Histogram,
}

impl HistogramSum {
    /// Starts with one histogram.
    #[must_use]
    pub fn new(first: &Histogram) -> Self {
        let error = Histogram {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            custom: Arc::clone(&first.custom),
            ..Histogram::default()
        };
        Self { sum: first.clone(), error }
    }

    /// Adds another; says whether custom bounds had to be reconciled. `None` when the buckets do not go together.
    pub fn add(&mut self, other: &Histogram) -> Option<bool> {
        if self.sum.is_custom() != other.is_custom() {
            return None;
        }
        let mut other = other.clone();
        let mut reconciled = false;
        self.sum.hint = join_hints(self.sum.hint, other.hint).0;
        if other.is_custom() {
            if self.sum.custom != other.custom {
                reconciled = true;
                let common: Arc<[f64]> =
                    self.sum.custom.iter().copied().filter(|bound| other.custom.contains(bound)).collect();
                for one in [&mut self.sum, &mut self.error, &mut other] {
                    one.rebound(&common);
                }
            }
        } else {
            reconcile_zero_buckets(&mut self.sum, &mut other);
            self.error.widen_zero(self.sum.zero_threshold);
            let schema = self.sum.schema.min(other.schema);
            for one in [&mut self.sum, &mut self.error, &mut other] {
                one.reduce(schema);
            }
        }
        let add = |term: f64, sum: &mut f64, error: &mut f64| {
            (*sum, *error) = kahan_add(term, *sum, *error);
        };
        add(other.zero_count, &mut self.sum.zero_count, &mut self.error.zero_count);
        add(other.count, &mut self.sum.count, &mut self.error.count);
        add(other.sum, &mut self.sum.sum, &mut self.error.sum);
        add_side(&other.positive, &mut self.sum.positive, &mut self.error.positive);
        add_side(&other.negative, &mut self.sum.negative, &mut self.error.negative);
        Some(reconciled)
    }

    /// Returns the sum.
    #[must_use]
    pub fn finish(self) -> Histogram {
        let Self { mut sum, error } = self;
        let with = |sum: f64, error: f64| if sum.is_infinite() { sum } else { sum + error };
        sum.zero_count = with(sum.zero_count, error.zero_count);
        sum.count = with(sum.count, error.count);
        sum.sum = with(sum.sum, error.sum);
        sum.positive = merge(&sum.positive, &error.positive, |a, b| if a.is_infinite() { a } else { a + b });
        sum.negative = merge(&sum.negative, &error.negative, |a, b| if a.is_infinite() { a } else { a + b });
        sum
    }
}

/// Adds buckets with compensation; buckets that come to nothing stay, because their errors count.
fn add_side(terms: &[(i32, f64)], sums: &mut Vec<(i32, f64)>, errors: &mut Vec<(i32, f64)>) {
    let slot = |side: &mut Vec<(i32, f64)>, index: i32| match side.binary_search_by_key(&index, |(i, _)| *i) {
        Ok(place) => place,
        Err(place) => {
            side.insert(place, (index, 0.0));
            place
        }
    };
    for (index, term) in terms {
        let (sum, error) = (slot(sums, *index), slot(errors, *index));
        (sums[sum].1, errors[error].1) = kahan_add(*term, sums[sum].1, errors[error].1);
    }
}

/// Returns the hint of a sum and whether the two contradict each other.
#[must_use]
pub fn join_hints(a: ResetHint, b: ResetHint) -> (ResetHint, bool) {
    match (a, b) {
        _ if a == b => (a, false),
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
        (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
        _ => (ResetHint::Unknown, true),
    }
}

/// Returns the upper border of an exponential bucket: `2^(index / 2^schema)`.
#[must_use]
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    let index = i64::from(index);
    if schema <= 0 {
        let exponent = index << u32::try_from(-schema).unwrap_or(0).min(16);
        return if exponent == 1024 { f64::MAX } else { 2f64.powf(exponent_f64(exponent)) };
    }
    // Schemas above the highest one do not occur.
    let finer = u32::try_from(schema).unwrap_or(0).min(8);
    let (power, place) = (index >> finer, (index & ((1 << finer) - 1)) << (8 - finer));
    let mantissa = usize::try_from(place).ok().and_then(|place| MANTISSAS.get(place)).copied().unwrap_or(0);
    if mantissa == 0 && power == 1024 {
        return f64::MAX;
    }
    // Between one and two; then the power, in two steps where one would not be a normal number.
    let fraction = f64::from_bits(1023 << 52 | mantissa);
    let half = power.clamp(-2000, 2000) / 2;
    fraction * 2f64.powi(narrow(half)) * 2f64.powi(narrow(power.clamp(-2000, 2000) - half))
}

fn narrow(exponent: i64) -> i32 {
    i32::try_from(exponent).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "exponents are small")]
fn exponent_f64(n: i64) -> f64 {
    n as f64
}

fn regroup(side: &[(i32, f64)], place: impl Fn(i32) -> i32) -> Vec<(i32, f64)> {
    let mut out: Vec<(i32, f64)> = Vec::with_capacity(side.len());
    for (index, count) in side {
        let index = place(*index);
        match out.last_mut() {
            Some(last) if last.0 == index => last.1 += count,
            _ => out.push((index, *count)),
        }
    }
    out.retain(|(_, count)| *count != 0.0);
    out
}

fn merge(a: &[(i32, f64)], b: &[(i32, f64)], op: fn(f64, f64) -> f64) -> Vec<(i32, f64)> {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let (left, right) = (a.get(i), b.get(j));
        let index = match (left, right) {
            (Some(left), Some(right)) => left.0.min(right.0),
            (Some(one), None) | (None, Some(one)) => one.0,
            (None, None) => break,
        };
        let take = |side: Option<&(i32, f64)>, at: &mut usize| match side {
            Some((have, count)) if *have == index => {
                *at += 1;
                *count
            }
            _ => 0.0,
        };
        let count = op(take(left, &mut i), take(right, &mut j));
        if count != 0.0 {
            out.push((index, count));
        }
    }
    out
}

/// Says whether any bucket holds less in `now` than in `before`.
fn fell(before: &[(i32, f64)], now: &[(i32, f64)]) -> bool {
    before.iter().any(|(index, count)| {
        let have = now.binary_search_by_key(index, |(i, _)| *i).map_or(0.0, |i| now[i].1);
        have < *count
    })
}

fn reconcile_zero_buckets(a: &mut Histogram, b: &mut Histogram) {
    // Widening one may push its threshold past the other's; the populated buckets bound how often.
    while a.zero_threshold != b.zero_threshold {
        if a.zero_threshold > b.zero_threshold {
            b.widen_zero(a.zero_threshold);
        } else if a.zero_threshold < b.zero_threshold {
            a.widen_zero(b.zero_threshold);
        } else {
            break;
        }
    }
}

/// Prints it as Prometheus does: `{count:3, sum:1.5, [-1,1]:1, (1,2]:2}`.
impl Display for Histogram {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_short(self.count), format_short(self.sum))?;
        let mut negative: Vec<Bucket> = self.negative_buckets().collect();
        negative.reverse();
        let zero = (self.zero_count != 0.0 && !self.is_custom()).then(|| self.zero_bucket());
        for bucket in negative.into_iter().chain(zero).chain(self.positive_buckets()) {
            if bucket.count == 0.0 {
                continue;
            }
            let open = if bucket.lower_inside { '[' } else { '(' };
            let close = if bucket.upper_inside { ']' } else { ')' };
            let (lower, upper) = (format_short(bucket.lower), format_short(bucket.upper));
            write!(f, ", {open}{lower},{upper}{close}:{}", format_short(bucket.count))?;
        }
        f.write_str("}")
    }
}
