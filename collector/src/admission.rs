//! A request's place and its share of the memory budget.

use std::sync::Arc;
use std::time::Duration;

use runtime::{MemoryBudget, Reservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Refusal, Result};
use crate::stats::Stats;

/// Memory is taken from the budget in steps of this size, so that a small growth costs no shared counter.
const STEP_BYTES: u64 = 64 << 10;

/// Lets in a bounded number of requests.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    places_max: u32,
    memory: MemoryBudget,
    wait: Duration,
    stats: Arc<Stats>,
}

impl Gate {
    pub(crate) fn new(places_max: u32, memory_bytes: u64, wait: Duration, stats: Arc<Stats>) -> Self {
        let places = Arc::new(Semaphore::new(places_max as usize));
        Self { places, places_max, memory: MemoryBudget::new(memory_bytes), wait, stats }
    }

    /// Waits a little for a place.
    pub(crate) async fn admit(&self) -> Result<Admission> {
        let permit = tokio::time::timeout(self.wait, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let cause = format!("{} requests are worked on, the limit is {}", self.places_max, self.places_max);
            return Err(Refusal::Overloaded { cause });
        };
        let memory = self.memory.reserve(0).map_err(|full| Refusal::Overloaded { cause: full.to_string() })?;
        self.stats.in_flight.add(1.0);
        Ok(Admission {
            held: Some((memory, permit)),
            budget: self.memory.clone(),
            used: 0,
            stats: Arc::clone(&self.stats),
        })
    }
}

/// One admitted request; gives back its place and memory when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    held: Option<(Reservation, OwnedSemaphorePermit)>,
    budget: MemoryBudget,
    /// What was asked for; the reservation may hold a little more.
    used: u64,
    stats: Arc<Stats>,
}

impl Admission {
    /// Takes `bytes` more for this request.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        let Some((memory, _)) = &mut self.held else {
            return Err(Refusal::Internal { cause: "a finished request asks for memory".to_owned() });
        };
        let used = self.used.saturating_add(bytes);
        if used > memory.bytes() {
            let limit_bytes = self.budget.limit();
            if used > limit_bytes {
                return Err(Refusal::TooLarge { what: "the memory that the decoded request needs", limit_bytes });
            }
            let missing = used - memory.bytes();
            // Near the limit the step may not fit where the bare need does.
            memory
                .grow(missing.max(STEP_BYTES))
                .or_else(|_| memory.grow(missing))
                .map_err(|full| Refusal::Overloaded { cause: format!("ingest memory: {full}") })?;
            self.stats.memory_bytes.set(as_f64(self.budget.used()));
        }
        self.used = used;
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.held = None;
        self.stats.in_flight.add(-1.0);
        self.stats.memory_bytes.set(as_f64(self.budget.used()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of bytes")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
