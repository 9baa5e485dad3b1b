//! The operators `</` and `>/`, which cut a native histogram at a value.

use crate::histogram::{Bucket, Histogram};

/// Keeps the observations below (`upper`) or above the bound; count and sum are estimated anew where any are cut off.
pub(super) fn trim(histogram: &Histogram, bound: f64, upper: bool) -> Histogram {
    let cut = Cut { bound, upper, is_custom: histogram.is_custom() };
    let mut total = Total::default();
    let positive = total.side(&histogram.positive, histogram.positive_buckets(), |bucket| cut.keep(bucket, true));
    let negative = total.side(&histogram.negative, histogram.negative_buckets(), |bucket| cut.keep(bucket, false));
    let mut zero_count = histogram.zero_count;
    if zero_count > 0.0 {
        zero_count = cut.keep_zero(histogram, &mut total);
    }
    if !total.is_cut {
        return histogram.clone();
    }
    Histogram { positive, negative, zero_count, count: total.count, sum: total.sum, ..histogram.clone() }
}

/// What is kept in all.
#[derive(Default)]
struct Total {
    count: f64,
    sum: f64,
    is_cut: bool,
}

impl Total {
    fn add(&mut self, before: f64, (kept, middle): (f64, f64)) -> f64 {
        self.count += kept;
        self.sum += middle * kept;
        self.is_cut |= kept != before;
        kept
    }

    fn side(
        &mut self,
        side: &[(i32, f64)],
        buckets: impl Iterator<Item = Bucket>,
        keep: impl Fn(&Bucket) -> (f64, f64),
    ) -> Vec<(i32, f64)> {
        let kept = side.iter().zip(buckets).map(|((index, before), bucket)| (*index, self.add(*before, keep(&bucket))));
        kept.filter(|(_, kept)| *kept != 0.0).collect()
    }
}

struct Cut {
    bound: f64,
    upper: bool,
    is_custom: bool,
}

impl Cut {
    /// Returns how many observations of the bucket are kept, and about which value they lie.
    fn keep(&self, bucket: &Bucket, is_positive: bool) -> (f64, f64) {
        let bound = self.bound;
        let (whole, part) = if self.upper {
            (bucket.upper <= bound, bucket.lower < bound)
        } else {
            (bucket.lower >= bound, bucket.upper > bound)
        };
        if whole {
            return (bucket.count, self.middle(bucket.lower, bucket.upper, is_positive));
        }
        if !part {
            return (0.0, 0.0);
        }
        if bucket.lower.is_infinite() || bucket.upper.is_infinite() {
            return self.keep_of_endless(bucket);
        }
        let below = if bound <= bucket.lower {
            0.0
        } else if bound >= bucket.upper {
            bucket.count
        } else {
            bucket.count * super::classic::share_below(bucket, bound, self.is_custom)
        };
        if self.upper {
            (below, self.middle(bucket.lower, bound, is_positive))
        } else {
            (bucket.count - below, self.middle(bound, bucket.upper, is_positive))
        }
    }

    /// As [`keep`](Self::keep), for a custom bucket without a border: it is taken to begin at zero where that is below its
    /// upper border, and otherwise goes as a whole.
    fn keep_of_endless(&self, bucket: &Bucket) -> (f64, f64) {
        let (bound, upper) = (self.bound, bucket.upper);
        if bucket.lower.is_infinite() {
            let from_zero = upper > 0.0 && upper.is_finite();
            return match self.upper {
                true if bound > 0.0 && from_zero => (bucket.count * bound / upper, bound / 2.0),
                true if upper <= 0.0 => (bucket.count, bound),
                false if bound <= bucket.lower => (bucket.count, 0.0),
                false if bound >= 0.0 && from_zero => {
                    (bucket.count * (1.0 - bound / upper), f64::midpoint(bound, upper))
                }
                _ => (0.0, 0.0),
            };
        }
        if !self.upper && bound >= bucket.lower { (bucket.count, bound) } else { (0.0, 0.0) }
    }

    fn keep_zero(&self, histogram: &Histogram, total: &mut Total) -> f64 {
        let (mut lower, mut upper) = (-histogram.zero_threshold, histogram.zero_threshold);
        match (histogram.negative.is_empty(), histogram.positive.is_empty()) {
            (false, true) => upper = 0.0,
            (true, false) => lower = 0.0,
            _ => {}
        }
        let (bound, count) = (self.bound, histogram.zero_count);
        let whole = (count, f64::midpoint(lower, upper));
        let kept = match self.upper {
            true if bound <= lower => (0.0, 0.0),
            true if bound >= upper => whole,
            true => (count * ((bound - lower) / (upper - lower)), f64::midpoint(lower, bound)),
            false if bound <= lower => whole,
            false if bound >= upper => (0.0, 0.0),
            false => (count * ((upper - bound) / (upper - lower)), f64::midpoint(bound, upper)),
        };
        total.add(count, kept)
    }

    /// Returns the value about which observations between two borders lie.
    fn middle(&self, lower: f64, upper: f64, is_positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.is_custom => f64::midpoint(lower, upper),
            (false, false) => {
                let geometric = (lower * upper).abs().sqrt();
                if is_positive { geometric } else { -geometric }
            }
        }
    }
}
