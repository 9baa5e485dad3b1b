//! A number of bytes that several parties share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that several parties may reserve up to a limit. Clones share the count.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: AtomicU64,
}

/// The budget has no room for a reservation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes do not fit: {used} of {limit} are in use")]
pub struct OverBudget {
    /// The bytes asked for.
    pub wanted: u64,
    /// The bytes in use.
    pub used: u64,
    /// The budget.
    pub limit: u64,
}

impl MemoryBudget {
    /// Makes a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicU64::new(0) }))
    }

    /// Reserves `bytes` until the reservation is dropped.
    ///
    /// # Errors
    /// [`OverBudget`] when they do not fit; nothing is reserved then.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let grow = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        match self.0.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow) {
            Ok(_) => Ok(Reservation { budget: self.clone(), bytes }),
            Err(used) => Err(OverBudget { wanted: bytes, used, limit: self.0.limit }),
        }
    }

    /// Returns the bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    /// Returns the budget in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`OverBudget`] when they do not fit; what was held stays held.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let more = self.budget.reserve(bytes)?;
        self.bytes += more.bytes;
        std::mem::forget(more);
        Ok(())
    }

    /// Returns the bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_given_back() {
        let budget = MemoryBudget::new(10);
        let mut held = budget.reserve(6).unwrap();
        assert_eq!(budget.reserve(5).unwrap_err().to_string(), "5 bytes do not fit: 6 of 10 are in use");
        held.grow(4).unwrap();
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
