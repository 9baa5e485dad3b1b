//! What the agent reads, one module each, and the ways from there into the buffer.

pub(crate) mod file;
pub(crate) mod host;
pub(crate) mod journald;
pub(crate) mod scrape;

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use runtime::{Ledger, Signal};

use crate::buffer::{Push, Queue};
use crate::checkpoint::{Checkpoints, Delta};
use crate::otlp::{LogBatch, metric_batches};

/// The way of log records into the buffer, together with the read positions. Blocks on disk I/O.
#[derive(Debug, Clone)]
pub(crate) struct LogSink {
    pub(crate) queue: Arc<Queue>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) ledger: Ledger,
}

/// Log records, encoded, that wait for room.
#[derive(Debug)]
pub(crate) struct Encoded {
    request: Vec<u8>,
    items: u32,
    delta: Delta,
}

impl Encoded {
    /// Encodes and empties `batch`.
    pub(crate) fn new(batch: &mut LogBatch, delta: Delta) -> Self {
        let (request, items) = batch.take();
        Self { request, items, delta }
    }
}

impl LogSink {
    /// Stores records and positions, both or neither. Counts them at `place` once they are durable.
    pub(crate) fn push(&self, place: &str, encoded: &Encoded) -> Push {
        let meta = encoded.delta.encode();
        let pushed = self.queue.push(encoded.items, &meta, &encoded.request, |seq| {
            self.checkpoints.apply(seq, encoded.delta.clone());
        });
        if pushed == Push::Stored {
            self.ledger.received(place, Signal::Logs, u64::from(encoded.items));
            self.ledger.accepted(place, Signal::Logs, u64::from(encoded.items));
        }
        pushed
    }
}

/// The way of metrics into the buffer. When there is no room the newest are dropped and counted.
#[derive(Debug, Clone)]
pub(crate) struct MetricSink {
    pub(crate) queue: Arc<Queue>,
    pub(crate) ledger: Ledger,
}

impl MetricSink {
    /// Stores metrics, counted at `place`.
    pub(crate) async fn push(&self, place: &'static str, metrics: Vec<ResourceMetrics>) {
        let sink = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            for (request, points) in metric_batches(metrics) {
                sink.ledger.received(place, Signal::Metrics, u64::from(points));
                match sink.queue.push(points, &[], &request, |_| {}) {
                    Push::Stored => sink.ledger.accepted(place, Signal::Metrics, u64::from(points)),
                    Push::Full => sink.ledger.dropped(place, Signal::Metrics, "buffer_full", u64::from(points)),
                    Push::Failed => sink.ledger.dropped(place, Signal::Metrics, "buffer_failed", u64::from(points)),
                }
            }
        });
        if done.await.is_err() {
            tracing::error!(place, "storing metrics panicked");
        }
    }
}
