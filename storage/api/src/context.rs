//! What one query may use, and whether it should stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// What a sample takes in memory: a time and a value. What a native histogram counts as is given in these, too.
const SAMPLE_BYTES: u64 = 16;

/// What one query may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Most series (or streams) that selectors may find, in all.
    pub series_max: u64,
    /// Most samples in memory at a time, as Prometheus' `--query.max-samples`.
    pub samples_max: u64,
    /// Most bytes of log rows that may be decoded.
    pub bytes_max: u64,
    /// Most bytes held at a time for the answer and what leads to it.
    pub memory_bytes_max: u64,
    /// Longest time from start to answer.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series_max: 1_000_000,
            samples_max: 50_000_000,
            bytes_max: 100 << 30,
            memory_bytes_max: 2 << 30,
            timeout: Duration::from_secs(120),
        }
    }
}

/// Handed down through one query: limits, what was used so far, cancellation. Clones share all of it.
#[derive(Debug, Clone)]
pub struct QueryContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    started: Instant,
    cancelled: AtomicBool,
    series: AtomicU64,
    samples: AtomicU64,
    samples_total: AtomicU64,
    samples_peak: AtomicU64,
    bytes: AtomicU64,
    memory_bytes: AtomicU64,
    rows: AtomicU64,
    passed: AtomicU64,
    warnings: Mutex<Vec<String>>,
}

impl QueryContext {
    /// Starts the clock of a query.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            started: Instant::now(),
            cancelled: AtomicBool::new(false),
            series: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            samples_total: AtomicU64::new(0),
            samples_peak: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            warnings: Mutex::new(Vec::new()),
        }))
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Makes every later [`check`](Self::check) fail.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Says whether the query should go on. Call it every millisecond of work or so.
    ///
    /// # Errors
    /// [`Error::Cancelled`] or [`Error::Timeout`].
    pub fn check(&self) -> Result<()> {
        if self.0.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if self.0.started.elapsed() > self.0.limits.timeout {
            let limit_ms = u64::try_from(self.0.limits.timeout.as_millis()).unwrap_or(u64::MAX);
            return Err(Error::Timeout { limit_ms, setting: "--query-timeout" });
        }
        Ok(())
    }

    /// Counts `n` selected series.
    ///
    /// # Errors
    /// [`Error::Limit`] when that is more than allowed.
    pub fn charge_series(&self, n: u64) -> Result<()> {
        charge(&self.0.series, n, self.0.limits.series_max, "series", "--query-max-series")
    }

    /// Counts `n` loaded samples, and the memory that they take.
    ///
    /// # Errors
    /// [`Error::Limit`] when that is more than allowed.
    pub fn charge_samples(&self, n: u64) -> Result<()> {
        charge(&self.0.samples, n, self.0.limits.samples_max, "samples", "--query-max-samples")?;
        self.charge_memory(n.saturating_mul(SAMPLE_BYTES))?;
        self.0.samples_total.fetch_add(n, Ordering::Relaxed);
        self.0.samples_peak.fetch_max(self.0.samples.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }

    /// Returns (samples charged in all, most samples charged at a time), for statistics: what was released counts, too.
    #[must_use]
    pub fn samples_seen(&self) -> (u64, u64) {
        (self.0.samples_total.load(Ordering::Relaxed), self.0.samples_peak.load(Ordering::Relaxed))
    }

    /// Counts `n` decoded bytes of log rows.
    ///
    /// # Errors
    /// [`Error::Limit`] when that is more than allowed.
    pub fn charge_bytes(&self, n: u64) -> Result<()> {
        charge(&self.0.bytes, n, self.0.limits.bytes_max, "bytes", "--query-max-bytes")
    }

    /// Counts `n` bytes of memory held; pair it with [`release_memory`](Self::release_memory).
    ///
    /// # Errors
    /// [`Error::Limit`] when that is more than allowed.
    pub fn charge_memory(&self, n: u64) -> Result<()> {
        charge(&self.0.memory_bytes, n, self.0.limits.memory_bytes_max, "bytes of memory", "--query-max-memory-bytes")
    }

    /// Gives back what [`charge_memory`](Self::charge_memory) took.
    pub fn release_memory(&self, n: u64) {
        release(&self.0.memory_bytes, n);
    }

    /// Gives back samples that are no longer in memory.
    pub fn release_samples(&self, n: u64) {
        release(&self.0.samples, n);
        self.release_memory(n.saturating_mul(SAMPLE_BYTES));
    }

    /// Counts `n` log rows that were read, for statistics only.
    pub fn count_rows(&self, n: u64) {
        self.0.rows.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts `n` log rows that passed all filters of a query, for statistics only.
    pub fn count_passed(&self, n: u64) {
        self.0.passed.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns how many log rows passed all filters.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.0.passed.load(Ordering::Relaxed)
    }

    /// Returns (log rows read, bytes decoded, samples charged, series charged), for statistics.
    #[must_use]
    pub fn used(&self) -> (u64, u64, u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.0.rows), get(&self.0.bytes), get(&self.0.samples), get(&self.0.series))
    }

    /// Returns the time since the query started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Adds a sentence for the answer's `warnings` field: the answer may be incomplete, and why. Repeats are dropped.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.0.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Takes the warnings out.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.0.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Default for QueryContext {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

fn charge(counter: &AtomicU64, n: u64, limit: u64, what: &'static str, setting: &'static str) -> Result<()> {
    let got = counter.fetch_add(n, Ordering::Relaxed).saturating_add(n);
    if got > limit { Err(Error::Limit { what, got, limit, setting }) } else { Ok(()) }
}

/// Gives back at most what was taken: one release too many must not turn into a huge count.
fn release(counter: &AtomicU64, n: u64) {
    // The closure always gives a value, so the update cannot fail.
    let _before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(n)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_itself() {
        let context = QueryContext::new(Limits { samples_max: 10, ..Limits::default() });
        context.charge_samples(10).unwrap();
        let error = context.charge_samples(1).unwrap_err().to_string();
        assert_eq!(error, "the query would load 11 samples, the limit is 10 (--query-max-samples)");
        let context = QueryContext::new(Limits { memory_bytes_max: 100, ..Limits::default() });
        (0..9).for_each(|_| {
            context.charge_samples(6).unwrap();
            context.release_samples(6);
        });
        let error = context.charge_samples(7).unwrap_err().to_string();
        assert_eq!(error, "the query would load 112 bytes of memory, the limit is 100 (--query-max-memory-bytes)");
    }

    #[test]
    fn releasing_too_much_leaves_zero() {
        let context = QueryContext::default();
        context.charge_samples(1).unwrap();
        context.release_samples(2);
        assert_eq!(context.used().2, 0);
        context.charge_samples(5).unwrap();
        context.release_samples(5);
        assert_eq!(context.samples_seen(), (6, 5));
    }

    #[test]
    fn a_cancelled_query_stops() {
        let context = QueryContext::default();
        context.check().unwrap();
        context.clone().cancel();
        assert!(matches!(context.check(), Err(Error::Cancelled)));
    }
}
