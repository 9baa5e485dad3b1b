//! What every handler needs: the stores, the CPU pool, limits, and how to run a query with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::{Clock, Counter, CounterVec, CpuPool, Gauge, HistogramVec, MemoryBudget, Reservation, Telemetry};
use storage_api::{Limits, LogAdmin, LogQuerier, MetricAdmin, MetricQuerier, QueryContext};
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::loki::TailTelemetry;

/// How much longer than its own time a query's future waits before it gives up on work that does not check.
const GRACE: Duration = Duration::from_secs(2);

/// Most bytes of finished answers that may wait for their clients to read them, all clients together.
const ANSWERS_BYTES_MAX: u64 = 1 << 30;

/// The stores and what runs queries on them. Clones share everything.
#[derive(Debug, Clone)]
pub struct Services {
    /// Reads metrics.
    pub metrics: Arc<dyn MetricQuerier>,
    /// Deletes and copies metrics; without it the admin API is off.
    pub admin: Option<Arc<dyn MetricAdmin>>,
    /// Reads logs.
    pub logs: Arc<dyn LogQuerier>,
    /// Deletes logs; without it requests to delete are refused.
    pub log_admin: Option<Arc<dyn LogAdmin>>,
    /// Evaluates.
    pub cpu: CpuPool,
    /// Tells the time.
    pub clock: Clock,
    /// What one query may use, unless its request asks for less.
    pub limits: Limits,
    concurrency: Arc<Semaphore>,
    answers: MemoryBudget,
    telemetry: QueryTelemetry,
    pub(crate) tails: TailTelemetry,
    /// When the service was made, in milliseconds since the epoch.
    pub started_ms: i64,
    /// What the status endpoints tell of the process.
    pub facts: Arc<Facts>,
}

/// The query side's own metrics.
#[derive(Debug, Clone)]
struct QueryTelemetry {
    queries: CounterVec,
    samples: Counter,
    rows: Counter,
    seconds: HistogramVec,
    running: Gauge,
    waiting: Gauge,
}

impl Services {
    /// Puts the parts together. At most `concurrency` queries run at a time; more wait for their turn.
    #[must_use]
    pub fn new(
        metrics: Arc<dyn MetricQuerier>,
        logs: Arc<dyn LogQuerier>,
        cpu: CpuPool,
        clock: Clock,
        limits: Limits,
        concurrency: usize,
        telemetry: &Telemetry,
    ) -> Self {
        let started_ms = clock.now_millis();
        let tails = TailTelemetry::new(telemetry);
        let telemetry = QueryTelemetry {
            queries: telemetry.counter_vec("daybook_queries_total", "Queries that ended, by outcome.", &["outcome"]),
            samples: telemetry
                .counter("daybook_query_samples_total", "Metric samples that queries loaded or computed."),
            rows: telemetry.counter("daybook_query_rows_total", "Log rows that queries read."),
            seconds: telemetry.histogram_vec(
                "daybook_query_duration_seconds",
                "Time from start to answer of a query, waiting included, by outcome.",
                &["outcome"],
                &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0],
            ),
            running: telemetry.gauge("daybook_queries_running", "Queries that are evaluated now."),
            waiting: telemetry.gauge("daybook_queries_waiting", "Queries that wait for their turn."),
        };
        let concurrency = Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        let answers = MemoryBudget::new(ANSWERS_BYTES_MAX);
        Self {
            metrics,
            admin: None,
            logs,
            log_admin: None,
            cpu,
            clock,
            limits,
            concurrency,
            answers,
            telemetry,
            tails,
            started_ms,
            facts: Arc::default(),
        }
    }

    /// Returns the services with facts to tell about the process.
    #[must_use]
    pub fn with_facts(self, facts: Facts) -> Self {
        Self { facts: Arc::new(facts), ..self }
    }

    /// Turns deletes of logs on.
    #[must_use]
    pub fn with_log_admin(self, admin: Arc<dyn LogAdmin>) -> Self {
        Self { log_admin: Some(admin), ..self }
    }

    /// Turns the admin API on.
    #[must_use]
    pub fn with_admin(self, admin: Arc<dyn MetricAdmin>) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// Returns a context with the service's limits.
    #[must_use]
    pub fn context(&self) -> QueryContext {
        QueryContext::new(self.limits.clone())
    }

    /// Returns a context with less time than the service's limit; a longer time is cut to it.
    #[must_use]
    pub fn context_with_timeout(&self, timeout: Duration) -> QueryContext {
        QueryContext::new(Limits { timeout: timeout.min(self.limits.timeout), ..self.limits.clone() })
    }

    /// Waits for a turn, runs `work` on the CPU pool and returns what it gave.
    ///
    /// When the future is dropped, because the client went away, the context is cancelled and the work stops at its
    /// next check. The turn is over when the work is, not when the future is.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is up before or during the work; [`Error::Internal`] when the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        context: QueryContext,
        work: impl FnOnce(&QueryContext) -> T + Send + 'static,
    ) -> Result<T> {
        let started = Instant::now();
        let result = self.run_on(context.clone(), work).await;
        let outcome = match &result {
            Ok(_) => "done",
            Err(error) => error.kind(),
        };
        self.telemetry.queries.with(&[outcome]).inc();
        self.telemetry.seconds.with(&[outcome]).observe(started.elapsed().as_secs_f64());
        let (rows, ..) = context.used();
        self.telemetry.samples.inc_by(context.samples_seen().0);
        self.telemetry.rows.inc_by(rows);
        result
    }

    /// Accounts for an answer of `bytes` that a client is about to read, until the reservation is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when slow readers hold too much already.
    pub fn hold_answer(&self, bytes: u64) -> Result<Reservation> {
        self.answers
            .reserve(bytes)
            .map_err(|error| Error::Unavailable(format!("too many answers wait for their clients: {error}")))
    }

    /// Does as [`run`](Self::run), for the next piece of an answer whose query was counted already.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn run_on<T: Send + 'static>(
        &self,
        context: QueryContext,
        work: impl FnOnce(&QueryContext) -> T + Send + 'static,
    ) -> Result<T> {
        let _cancel = CancelOnDrop(context.clone());
        let timeout = context.limits().timeout;
        let waiting = Level::up(&self.telemetry.waiting);
        let permit = tokio::time::timeout(timeout, Arc::clone(&self.concurrency).acquire_owned())
            .await
            .map_err(|_| Error::Timeout("query timed out in query queue".to_owned()))?
            .map_err(|_| Error::Unavailable("the server shuts down".to_owned()))?;
        drop(waiting);
        let running = Level::up(&self.telemetry.running);
        let inner = context.clone();
        let job = self.cpu.run(move || {
            let result = work(&inner);
            // The gauge first: whoever gets the turn counts itself.
            drop(running);
            drop(permit);
            result
        });
        let left = timeout.saturating_sub(context.elapsed()) + GRACE;
        match tokio::time::timeout(left, job).await {
            Ok(Some(result)) => Ok(result),
            Ok(None) => Err(Error::Internal("the query's evaluation panicked".to_owned())),
            Err(_) => Err(Error::Timeout("query timed out in expression evaluation".to_owned())),
        }
    }
}

struct CancelOnDrop(QueryContext);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Holds a gauge one higher until it is dropped.
pub(crate) struct Level(Gauge);

impl Level {
    pub(crate) fn up(gauge: &Gauge) -> Self {
        gauge.add(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_api::fake::{FakeLogs, FakeMetrics};

    fn services(concurrency: usize, timeout: Duration) -> Services {
        let limits = Limits { timeout, ..Limits::default() };
        let (metrics, logs) = (Arc::new(FakeMetrics::default()), Arc::new(FakeLogs::default()));
        let cpu = CpuPool::new(2).unwrap();
        Services::new(metrics, logs, cpu, Clock::fixed(0), limits, concurrency, &Telemetry::new())
    }

    /// Works until it is told to stop.
    fn endless(context: &QueryContext) -> storage_api::Result<()> {
        loop {
            context.check()?;
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_query_whose_client_went_away_stops_and_gives_its_turn_back() {
        let services = services(1, Duration::from_secs(60));
        let context = services.context();
        let query = services.run(context.clone(), endless);
        assert!(tokio::time::timeout(Duration::from_millis(50), query).await.is_err());
        assert!(matches!(context.check(), Err(storage_api::Error::Cancelled)));
        assert_eq!(services.run(services.context(), |_| 7).await.unwrap(), 7);
        assert!(services.telemetry.running.get() < 1.0);
    }

    #[tokio::test]
    async fn a_query_that_waits_too_long_for_its_turn_is_told_so() {
        let services = services(1, Duration::from_millis(50));
        let slow = services.clone();
        let context = QueryContext::new(Limits { timeout: Duration::from_secs(60), ..Limits::default() });
        let (busy, other) = (context.clone(), context.clone());
        let running = tokio::spawn(async move { slow.run(busy, endless).await });
        while services.telemetry.running.get() < 1.0 {
            tokio::task::yield_now().await;
        }
        let error = services.run(services.context(), |_| ()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), ("timeout", "query timed out in query queue"));
        other.cancel();
        assert!(matches!(running.await.unwrap().unwrap(), Err(storage_api::Error::Cancelled)));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let services = services(1, Duration::from_secs(60));
        let error = services.run(services.context(), |_| -> u8 { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(error.status().as_u16(), 500);
        assert_eq!(services.run(services.context(), |_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_are_bounded() {
        let services = services(1, Duration::from_secs(60));
        let held = services.hold_answer(ANSWERS_BYTES_MAX).unwrap();
        let error = services.hold_answer(1).unwrap_err();
        assert_eq!((error.kind(), error.status().as_u16()), ("unavailable", 503));
        drop(held);
        assert!(services.hold_answer(1).is_ok());
    }
}
