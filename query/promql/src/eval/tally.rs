//! Counts the samples that each step of a query looks at, for those who ask.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;
use crate::value::{Point, Samples};

/// How many samples each step looked at, as if it were evaluated alone: a sample in the windows of many steps counts for
/// each. A native histogram counts as many times as it is larger than a sample.
#[derive(Debug)]
pub struct StepTally(Vec<AtomicU64>);

impl StepTally {
    /// Starts at zero for `steps` steps.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self((0..steps).map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns the count of each step.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Returns the counts of all steps together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Adds samples that step `i` looks at.
    pub(super) fn add(&self, i: usize, samples: u64) {
        if let Some(count) = self.0.get(i) {
            count.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Adds samples that every step looks at.
    pub(super) fn add_to_all(&self, samples: u64) {
        for count in &self.0 {
            count.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Adds what `other` counted for the same steps.
    pub(super) fn append(&self, other: &Self) {
        for (count, more) in self.0.iter().zip(&other.0) {
            count.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Adds samples that belong to the query, but to no step: they count for the last.
    pub(super) fn add_to_last(&self, samples: u64) {
        self.add(self.0.len().saturating_sub(1), samples);
    }
}

/// Returns how many samples a point counts as.
pub(super) fn weight(point: &Point) -> u64 {
    match point {
        Point::Float(_) => 1,
        Point::Histogram(histogram) => histogram_weight(histogram),
    }
}

/// Returns how many samples those from `from` up to `to` count as.
pub(super) fn weight_of(samples: &Samples, from: usize, to: usize) -> u64 {
    let column = samples.histograms.as_deref().and_then(|column| column.get(from..to)).unwrap_or(&[]);
    let more: u64 = column.iter().flatten().map(|histogram| histogram_weight(histogram) - 1).sum();
    (to - from) as u64 + more
}

/// The size of a histogram in samples of sixteen bytes, one at least: its fixed fields, eight bytes for each bucket, span
/// and bound.
fn histogram_weight(histogram: &Histogram) -> u64 {
    const FIXED_BYTES: usize = 176;
    let runs = |side: &[(i32, f64)]| side.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)).count();
    let buckets = histogram.positive.len() + histogram.negative.len();
    let spans = runs(&histogram.positive) + runs(&histogram.negative);
    ((FIXED_BYTES + 8 * (buckets + spans + histogram.custom.len())) / 16) as u64
}
