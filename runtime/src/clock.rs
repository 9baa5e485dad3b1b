//! The time, which tests can turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time of day. Clones of a test clock share their hands.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// Returns the machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// Returns a clock that stands at `nanos` since the epoch until it is turned.
    #[must_use]
    pub fn fixed(nanos: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(nanos))))
    }

    /// Returns nanoseconds since the epoch.
    #[must_use]
    pub fn now_nanos(&self) -> i64 {
        match &self.0 {
            Some(hands) => hands.load(Ordering::SeqCst),
            None => system_nanos(),
        }
    }

    /// Returns milliseconds since the epoch.
    #[must_use]
    pub fn now_millis(&self) -> i64 {
        self.now_nanos().div_euclid(1_000_000)
    }

    /// Turns a fixed clock forward; the machine's clock stays as it is.
    pub fn advance(&self, by: std::time::Duration) {
        if let Some(hands) = &self.0 {
            hands.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
fn system_nanos() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_turned() {
        let clock = Clock::fixed(5);
        clock.clone().advance(std::time::Duration::from_nanos(7));
        assert_eq!(clock.now_nanos(), 12);
        assert!(Clock::system().now_millis() > 1_600_000_000_000);
    }
}
