//! Points and ranges of time.

use std::fmt;

/// A point in time: nanoseconds since the Unix epoch, negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest representable point, in 1677.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest representable point, in 2262.
    pub const MAX: Self = Self(i64::MAX);

    /// Returns the point `ms` milliseconds after the epoch, held inside the representable range.
    #[must_use]
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Returns the point `seconds` after the epoch, held inside the representable range.
    #[must_use]
    pub fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Returns whole milliseconds since the epoch, rounded down.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns nanoseconds since the epoch.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000))
    }
}

/// A half-open range of time: `start` is inside, `end` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// The first point inside.
    pub start: Timestamp,
    /// The first point after.
    pub end: Timestamp,
}

impl TimeRange {
    /// Every representable point but the last nanosecond of 2262.
    pub const ALL: Self = Self { start: Timestamp::MIN, end: Timestamp::MAX };

    /// Returns the range from `start` up to, and without, `end`; an `end` before `start` gives an empty range.
    #[must_use]
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Says whether `at` lies inside.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Says whether the two share a point.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Says whether no point lies inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open() {
        let range = TimeRange::new(Timestamp(10), Timestamp(20));
        assert!(range.contains(Timestamp(10)) && !range.contains(Timestamp(20)));
        assert!(!range.overlaps(&TimeRange::new(Timestamp(20), Timestamp(30))));
        assert!(TimeRange::new(Timestamp(5), Timestamp(1)).is_empty());
    }

    #[test]
    fn milliseconds_round_down_before_the_epoch() {
        assert_eq!(Timestamp(-1).as_millis(), -1);
        assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
    }
}
