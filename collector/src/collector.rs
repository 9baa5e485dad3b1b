//! The collector: what its receivers share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use collector_otlp::metrics::{DeltaStates, Options};
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Ledger, Telemetry};
use storage_api::{KeyMaker, LogAppender, MetricAppender, MetricQuerier};

use crate::admission::{Admission, Gate};
use crate::body::{self, Encoding, Spaces};
use crate::config::Config;
use crate::error::{Refusal, Result};
use crate::history::StoredTotals;
use crate::receivers::{self, OtlpMetricsMemory, SymbolKeys};
use crate::row_spaces::RowSpaces;
use crate::stats::Stats;

/// Where a request came in; the `place` label of every count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    OtlpGrpc,
    OtlpHttp,
    RemoteWrite,
    LokiPush,
}

impl Place {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OtlpGrpc => "otlp_grpc",
            Self::OtlpHttp => "otlp_http",
            Self::RemoteWrite => "remote_write",
            Self::LokiPush => "loki_push",
        }
    }
}

/// Receives metrics and logs and hands them to storage. Clones are the same collector.
#[derive(Debug, Clone)]
pub struct Collector(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) translation: Options,
    pub(crate) metrics: Arc<dyn MetricAppender>,
    pub(crate) logs: Arc<dyn LogAppender>,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) stats: Arc<Stats>,
    /// The running totals of OTLP's deltas. Held from translation until the append has succeeded or failed, so that a
    /// failed batch can be taken back; no other lock is taken inside.
    pub(crate) deltas: Mutex<DeltaStates>,
    /// Makes the keys of series in remote write 1.0.
    pub(crate) write_keys: KeyMaker,
    /// The same for 2.0.
    pub(crate) write_keys_2: SymbolKeys,
    /// What the receiver of OTLP metrics keeps from request to request.
    pub(crate) otlp_metrics: OtlpMetricsMemory,
    /// Spaces for the rows of metrics.
    pub(crate) rows: RowSpaces,
    /// Spaces for bodies as they come, and for decompressed ones.
    bodies: Spaces,
    pub(crate) spaces: Spaces,
    gate: Gate,
}

impl Collector {
    /// Makes a collector and registers its metrics. The configuration should have passed [`Config::check`]. What is stored
    /// already, which `stored` reads, is where the totals of deltas go on after a restart.
    ///
    /// # Panics
    /// When `telemetry` already has a collector's metrics, which is a bug.
    #[must_use]
    pub fn new(
        config: Config,
        metrics: Arc<dyn MetricAppender>,
        stored: Arc<dyn MetricQuerier>,
        logs: Arc<dyn LogAppender>,
        clock: Clock,
        telemetry: &Telemetry,
        ledger: Ledger,
    ) -> Self {
        let stats = Arc::new(Stats::new(telemetry));
        let wait = Duration::from_millis(config.admission_timeout_ms);
        let gate = Gate::new(config.max_concurrent_requests, config.memory_bytes, wait, Arc::clone(&stats));
        let deltas = Mutex::new(DeltaStates::new(config.deltas(), Some(Arc::new(StoredTotals(stored)))));
        let translation = config.translation();
        let (write_keys, write_keys_2) = (KeyMaker::default(), SymbolKeys::default());
        Self(Arc::new(Inner {
            config,
            translation,
            metrics,
            logs,
            clock,
            ledger,
            stats,
            deltas,
            write_keys,
            write_keys_2,
            otlp_metrics: OtlpMetricsMemory::default(),
            rows: RowSpaces::default(),
            bodies: Spaces::default(),
            spaces: Spaces::default(),
            gate,
        }))
    }

    /// Returns the routes of the main port: `/api/v1/write`, `/api/v1/otlp/v1/metrics`, `/otlp/v1/logs` and
    /// `/loki/api/v1/push`.
    pub fn http_router(&self) -> Router {
        receivers::main_routes(self.clone())
    }

    /// Returns the routes of the OTLP/HTTP port: `/v1/metrics` and `/v1/logs`.
    pub fn otlp_http_router(&self) -> Router {
        receivers::otlp_http_routes(self.clone())
    }

    /// Returns the routes of the OTLP/gRPC port: the `MetricsService` and the `LogsService`. Serve them with HTTP/2,
    /// without TLS by prior knowledge.
    pub fn grpc_routes(&self) -> Router {
        receivers::grpc_routes(self.clone())
    }

    /// Admits a request, reads and decompresses its body, and runs `work` on a blocking thread. The work goes on when
    /// the caller is dropped.
    pub(crate) async fn ingest<T, W>(&self, place: Place, body: Body, encoding: Encoding, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Inner, &[u8], &mut Admission) -> Result<T> + Send + 'static,
    {
        let inner = &self.0;
        let mut admission = match inner.gate.admit().await {
            Ok(admission) => admission,
            Err(refusal) => {
                body::drain(body.into_data_stream()).await;
                return Err(refusal);
            }
        };
        let timeout = Duration::from_millis(inner.config.body_timeout_ms);
        let gone = Gone { stats: Some(&inner.stats), place };
        let space = inner.bodies.take();
        let read = body::read(body, space, inner.config.max_body_bytes, timeout, &mut admission).await;
        gone.stayed();
        let bytes = read?;
        inner.stats.wire_bytes.with(&[place.as_str()]).inc_by(bytes.len() as u64);
        let inner = Arc::clone(inner);
        let work = move || {
            let limit_bytes = inner.config.max_decoded_bytes;
            let result = inner.spaces.with(|space| {
                let bytes = body::decompress(&bytes, encoding, limit_bytes, &mut admission, space)?;
                inner.stats.decoded_bytes.with(&[place.as_str()]).inc_by(bytes.len() as u64);
                work(&inner, bytes, &mut admission)
            });
            inner.bodies.keep(bytes);
            result
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, place = place.as_str(), "an ingest request ended abnormally");
            Err(Refusal::Internal { cause: "the request's worker ended abnormally".to_owned() })
        })
    }

    /// Counts a refusal of a whole request.
    pub(crate) fn count_refusal(&self, place: Place, refusal: &Refusal) {
        self.0.stats.refused.with(&[place.as_str(), refusal.reason()]).inc();
        tracing::debug!(place = place.as_str(), %refusal, "refused an ingest request");
    }

    /// Counts an answer.
    pub(crate) fn count_answer(&self, place: Place, started: Instant, code: &str) {
        self.0.stats.requests.with(&[place.as_str(), code]).inc();
        self.0.stats.seconds.with(&[place.as_str()]).observe(started.elapsed().as_secs_f64());
    }

    /// Counts an HTTP answer and lets it go.
    pub(crate) fn answered(&self, place: Place, started: Instant, response: Response) -> Response {
        self.count_answer(place, started, response.status().as_str());
        response
    }
}

/// Counts a client that leaves before its body has arrived: the request's future is dropped then.
struct Gone<'a> {
    stats: Option<&'a Stats>,
    place: Place,
}

impl Gone<'_> {
    fn stayed(mut self) {
        self.stats = None;
    }
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if let Some(stats) = self.stats {
            stats.refused.with(&[self.place.as_str(), "client_gone"]).inc();
        }
    }
}

impl Inner {
    /// Returns the time of arrival.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_nanos())
    }
}
