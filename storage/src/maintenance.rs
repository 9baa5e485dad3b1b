//! Decides when heads are flushed, blocks compacted and old data dropped, and does it in the background.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::{Clock, CounterVec, Shutdown, Telemetry};
use storage_api::{LogAdmin, Result};
use storage_logs::LogStore;
use storage_metrics::MetricStore;

/// How often the heads are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often blocks are looked at for compaction.
const COMPACT_EVERY: Duration = Duration::from_secs(10);
/// How often old data are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// How long to wait after a failure, so that a full disk is not hammered.
const BACK_OFF: Duration = Duration::from_secs(5);

/// What maintenance needs of a store.
pub(crate) trait Store: Send + Sync + fmt::Debug {
    /// Returns the store's name for logs and labels.
    fn name(&self) -> &'static str;
    /// Says whether the head is so large that it should be written to a block.
    fn should_flush(&self) -> bool;
    /// Says whether the head holds anything.
    fn has_head(&self) -> bool;
    /// Writes the head to a block.
    fn flush(&self) -> Result<()>;
    /// Does one step of compaction; says whether there was one.
    fn compact_once(&self) -> Result<bool>;
    /// Drops what is older than `retention`.
    fn apply_retention(&self, now_ms: i64, retention: Duration) -> Result<()>;
    /// Loads what queries of new blocks will need, when nothing else is due, until `is_stopped` says so.
    fn warm(&self, _is_stopped: &dyn Fn() -> bool) {}
    /// Removes from disk what was deleted and waits for it.
    fn clean(&self) -> Result<()> {
        Ok(())
    }
    /// Refuses appends from now on.
    fn close(&self);
}

impl Store for MetricStore {
    fn name(&self) -> &'static str {
        "metrics"
    }
    fn should_flush(&self) -> bool {
        Self::should_flush(self)
    }
    fn has_head(&self) -> bool {
        self.head_bytes() > 0
    }
    fn flush(&self) -> Result<()> {
        Self::flush(self)
    }
    fn compact_once(&self) -> Result<bool> {
        Self::compact_once(self)
    }
    fn apply_retention(&self, now_ms: i64, retention: Duration) -> Result<()> {
        Self::apply_retention(self, now_ms, retention)
    }
    fn close(&self) {
        Self::close(self);
    }
}

impl Store for LogStore {
    fn name(&self) -> &'static str {
        "logs"
    }
    fn should_flush(&self) -> bool {
        Self::should_flush(self)
    }
    fn has_head(&self) -> bool {
        self.head_bytes() > 0
    }
    fn flush(&self) -> Result<()> {
        Self::flush(self)
    }
    fn compact_once(&self) -> Result<bool> {
        Self::compact_once(self)
    }
    fn apply_retention(&self, now_ms: i64, retention: Duration) -> Result<()> {
        Self::apply_retention(self, now_ms, retention)
    }
    fn warm(&self, is_stopped: &dyn Fn() -> bool) {
        Self::warm(self, is_stopped);
    }
    fn clean(&self) -> Result<()> {
        self.clean_deletes()
    }
    fn close(&self) {
        Self::close(self);
    }
}

/// When each kind of work was last done, by the clock, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Done {
    flush_ms: i64,
    compact_ms: i64,
    retention_ms: i64,
    failed_ms: i64,
}

/// What to do next for one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Wait,
    Flush,
    Compact,
    Retention,
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
struct Look {
    now_ms: i64,
    should_flush: bool,
    has_head: bool,
    has_retention: bool,
}

fn choose(done: Done, look: Look, flush_interval: Duration) -> Choice {
    let over = |since_ms: i64, every: Duration| {
        look.now_ms.saturating_sub(since_ms) >= i64::try_from(every.as_millis()).unwrap_or(i64::MAX)
    };
    if !over(done.failed_ms, BACK_OFF) {
        Choice::Wait
    } else if look.should_flush || (look.has_head && over(done.flush_ms, flush_interval)) {
        Choice::Flush
    } else if look.has_retention && over(done.retention_ms, RETENTION_EVERY) {
        Choice::Retention
    } else if over(done.compact_ms, COMPACT_EVERY) {
        Choice::Compact
    } else {
        Choice::Wait
    }
}

/// Does the work, one step at a time and store.
#[derive(Debug)]
pub(crate) struct Maintenance {
    stores: Vec<(Arc<dyn Store>, Mutex<()>)>,
    retention: Option<Duration>,
    flush_interval: Duration,
    clock: Clock,
    failures: CounterVec,
}

impl Maintenance {
    pub(crate) fn new(
        stores: Vec<Arc<dyn Store>>,
        retention: Option<Duration>,
        flush_interval: Duration,
        clock: &Clock,
        telemetry: &Telemetry,
    ) -> Self {
        let failures = telemetry.counter_vec(
            "daybook_storage_maintenance_failures_total",
            "Flushes, compactions and retention runs that failed and will be tried again.",
            &["store", "step"],
        );
        let stores = stores.into_iter().map(|store| (store, Mutex::new(()))).collect();
        Self { stores, retention, flush_interval, clock: clock.clone(), failures }
    }

    /// Runs one task per store until shutdown.
    pub(crate) fn start(this: &Arc<Self>, shutdown: &Shutdown) {
        for index in 0..this.stores.len() {
            let (this, stop) = (Arc::clone(this), shutdown.clone());
            shutdown.spawn("storage-maintenance", async move {
                let now_ms = this.clock.now_millis();
                let mut done = Done { flush_ms: now_ms, ..Done::default() };
                let mut ticks = tokio::time::interval(TICK);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        () = stop.wait() => return,
                        _ = ticks.tick() => {}
                    }
                    let work = Arc::clone(&this);
                    let stopping = stop.clone();
                    match tokio::task::spawn_blocking(move || work.tick(index, done, &stopping)).await {
                        Ok(after) => done = after,
                        Err(error) => tracing::error!(%error, "storage maintenance panicked"),
                    }
                }
            });
        }
    }

    /// Does all that is due for one store.
    fn tick(&self, index: usize, mut done: Done, stop: &Shutdown) -> Done {
        let Some((store, busy)) = self.stores.get(index) else { return done };
        let _busy = busy.lock();
        while !stop.started() {
            let look = Look {
                now_ms: self.clock.now_millis(),
                should_flush: store.should_flush(),
                has_head: store.has_head(),
                has_retention: self.retention.is_some(),
            };
            let (step, result) = match (choose(done, look, self.flush_interval), self.retention) {
                (Choice::Wait, _) => {
                    store.warm(&|| stop.started());
                    return done;
                }
                (Choice::Flush, _) => {
                    done.flush_ms = look.now_ms;
                    ("flush", store.flush())
                }
                (Choice::Retention, Some(retention)) => {
                    done.retention_ms = look.now_ms;
                    ("retention", store.apply_retention(look.now_ms, retention))
                }
                (Choice::Compact | Choice::Retention, _) => {
                    let result = store.compact_once();
                    if !matches!(result, Ok(true)) {
                        done.compact_ms = look.now_ms;
                    }
                    ("compact", result.map(drop))
                }
            };
            if let Err(error) = result {
                done.failed_ms = look.now_ms;
                self.failures.with(&[store.name(), step]).inc();
                tracing::error!(store = store.name(), step, %error, "storage maintenance failed, will try again");
            }
        }
        done
    }

    /// Flushes and compacts everything.
    pub(crate) fn settle(&self) -> Result<()> {
        for (store, busy) in &self.stores {
            let _busy = busy.lock();
            store.flush()?;
            while store.compact_once()? {}
            store.clean()?;
            store.warm(&|| false);
        }
        Ok(())
    }

    /// Refuses appends, and flushes what is there.
    pub(crate) fn close(&self) -> Result<()> {
        let mut first = Ok(());
        for (store, busy) in &self.stores {
            let _busy = busy.lock();
            first = first.and(store.flush());
            store.close();
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[track_caller]
    fn check(done: Done, look: Look, expected: Choice) {
        assert_eq!(choose(done, look, HOUR), expected);
    }

    fn look(now_ms: i64) -> Look {
        Look { now_ms, should_flush: false, has_head: true, has_retention: true }
    }

    const LATELY: Done = Done { flush_ms: 99_000, compact_ms: 99_000, retention_ms: 99_000, failed_ms: 0 };

    #[test]
    fn nothing_is_due_right_after_it_was_done() {
        check(LATELY, look(100_000), Choice::Wait);
    }

    #[test]
    fn a_full_head_comes_first() {
        check(Done::default(), Look { should_flush: true, ..look(100_000) }, Choice::Flush);
    }

    #[test]
    fn an_old_head_is_flushed_but_not_an_empty_one() {
        check(LATELY, look(99_000 + 3_600_000), Choice::Flush);
        check(LATELY, Look { has_head: false, ..look(99_000 + 3_600_000) }, Choice::Retention);
    }

    #[test]
    fn after_a_failure_there_is_a_pause() {
        let failed = Done { failed_ms: 99_000, ..Done::default() };
        check(failed, Look { should_flush: true, ..look(100_000) }, Choice::Wait);
        check(failed, Look { should_flush: true, ..look(104_000) }, Choice::Flush);
    }

    #[test]
    fn without_retention_nothing_is_dropped() {
        check(Done { retention_ms: 0, ..LATELY }, Look { has_retention: false, ..look(100_000) }, Choice::Wait);
    }
}
