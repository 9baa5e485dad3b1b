//! One metric sample and the stale marker.

use std::sync::Arc;

use crate::Histogram;

/// One sample of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since the epoch, as Prometheus counts.
    pub timestamp_ms: i64,
    /// The value; every bit pattern is kept, NaN payloads included.
    pub value: f64,
}

/// One native histogram of a series; it is a stale marker when its sum is one.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// When counting began, in milliseconds since the epoch; 0 when that is not known.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: Arc<Histogram>,
}

/// The bits of the NaN that ends a series. Source: `prometheus/model/value`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Returns the NaN that ends a series.
#[must_use]
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Says whether `value` is the stale marker, and no other NaN.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marker_is_stale() {
        assert!(is_stale(stale_marker()));
        assert!(stale_marker().is_nan());
        assert!(!is_stale(f64::NAN));
        assert!(!is_stale(f64::from_bits(0x7ff8_0000_0000_0001)));
    }
}
