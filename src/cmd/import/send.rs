//! Sends batches to a running server, by remote write 2.0.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use model::{MetricKind, MetricMetadata};
use prost::Message;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use storage_api::{AppendReport, MetricBatch};
use tokio::runtime::Runtime;

use crate::client::http::{Server, ServerArgs};

/// The first wait before a batch is sent again, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The count of a kind of records that a server took of a request.
const WRITTEN: &str = "x-prometheus-remote-write";

/// A server, and how long to try.
#[derive(Debug)]
pub(super) struct Sender {
    server: Server,
    runtime: Runtime,
    retry_for: Duration,
}

impl Sender {
    /// Prepares to send; nothing is sent yet.
    pub(super) fn new(args: &ServerArgs, retry_for: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting the async runtime failed")?;
        Ok(Self { server: Server::new(args)?, runtime, retry_for })
    }

    /// Sends a batch until the server takes it, refuses it for good, or the time for that is over.
    pub(super) fn send(&self, batch: &MetricBatch<'_>) -> anyhow::Result<AppendReport> {
        let mut report = AppendReport::default();
        let (samples, exemplars) = (batch.samples_len() as u64, batch.exemplars_len() as u64);
        if samples > 0 {
            let body = compressed(&Request2::of(batch)?.encode_to_vec())?;
            let answer = self.post("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0", body)?;
            // A server that does not tell has taken all, or it would have refused.
            let written = |what: &str, sent: u64| {
                let told = answer.headers.get(format!("{WRITTEN}-{what}-written"))?;
                told.to_str().ok()?.parse().ok().map(|taken: u64| taken.min(sent))
            };
            let taken = match (answer.status.is_success(), written("samples", samples)) {
                (true, told) => told.unwrap_or(samples),
                (false, Some(told)) => told,
                (false, None) => return Err(anyhow!(answer.refusal())),
            };
            report.accepted = taken;
            report.accepted_exemplars = written("exemplars", exemplars).unwrap_or(exemplars);
            report.reject("refused_by_server", samples - taken, || answer.text.clone());
            let left = exemplars - report.accepted_exemplars;
            report.reject("exemplar_refused_by_server", left, || answer.text.clone());
        }
        if !batch.metadata.is_empty() {
            let metadata = batch.metadata.iter().map(Metadata1::from).collect();
            let body = compressed(&Request1 { metadata }.encode_to_vec())?;
            let answer = self.post("application/x-protobuf", "0.1.0", body)?;
            if !answer.status.is_success() {
                return Err(anyhow!(answer.refusal()));
            }
        }
        Ok(report)
    }

    fn post(&self, kind: &str, version: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        let headers =
            [("content-type", kind), ("content-encoding", "snappy"), ("x-prometheus-remote-write-version", version)];
        let (body, until) = (bytes::Bytes::from(body), Instant::now() + self.retry_for);
        let mut wait = WAIT_MIN;
        self.runtime.block_on(async {
            loop {
                let tried = self.server.post_bytes(&["api", "v1", "write"], &headers, body.clone()).await;
                let (why, told) = match tried {
                    Ok((status, headers, text)) => {
                        let answer = Answer { status, headers, text };
                        if !answer.is_busy() {
                            return Ok(answer);
                        }
                        (anyhow!(answer.refusal()), answer.retry_after())
                    }
                    Err(error) => (error, None),
                };
                let pause = told.unwrap_or(wait).min(WAIT_MAX);
                if Instant::now() + pause > until {
                    return Err(why.context(format!("sending failed for {:?}", self.retry_for)));
                }
                tokio::time::sleep(pause).await;
                wait = (wait * 2).min(WAIT_MAX);
            }
        })
    }
}

fn compressed(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    snap::raw::Encoder::new().compress_vec(bytes).context("compressing a batch failed")
}

/// What a server said.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    /// Says whether the same request may be taken later.
    fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error()
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    fn refusal(&self) -> String {
        let text = self.text.trim();
        let dash = if text.is_empty() { "" } else { ": " };
        format!("the server answered {}{dash}{text}", self.status)
    }
}

/// Remote write 1.0, of which only the metadata is used: it tells of metric families, as the text does.
#[derive(Clone, PartialEq, Message)]
struct Request1 {
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata1>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Metadata1 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

impl From<&MetricMetadata> for Metadata1 {
    fn from(metadata: &MetricMetadata) -> Self {
        let kind = match metadata.kind {
            MetricKind::Unknown => 0,
            MetricKind::Counter => 1,
            MetricKind::Gauge => 2,
            MetricKind::Histogram => 3,
            MetricKind::GaugeHistogram => 4,
            MetricKind::Summary => 5,
            MetricKind::Info => 6,
            MetricKind::StateSet => 7,
        };
        let (name, help, unit) = (metadata.name.clone(), metadata.help.clone(), metadata.unit.clone());
        Self { kind, name, help, unit }
    }
}

/// Remote write 2.0.
#[derive(Clone, PartialEq, Message)]
struct Request2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<Series2>,
}

#[derive(Clone, PartialEq, Message)]
struct Series2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample2>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar2>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample2 {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// The texts of a request, each once.
struct Symbols {
    all: Vec<String>,
    places: HashMap<String, u32>,
}

impl Symbols {
    fn new() -> Self {
        Self { all: vec![String::new()], places: HashMap::from([(String::new(), 0)]) }
    }

    fn place(&mut self, text: &str) -> anyhow::Result<u32> {
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        let place = u32::try_from(self.all.len()).context("a batch has too many texts")?;
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        Ok(place)
    }

    fn places<'t>(&mut self, pairs: impl Iterator<Item = (&'t str, &'t str)>) -> anyhow::Result<Vec<u32>> {
        pairs.flat_map(|(name, value)| [name, value]).map(|text| self.place(text)).collect()
    }
}

impl Request2 {
    fn of(batch: &MetricBatch<'_>) -> anyhow::Result<Self> {
        let mut symbols = Symbols::new();
        let mut timeseries = Vec::with_capacity(batch.series().len());
        for row in batch.series() {
            let labels_refs = symbols.places(row.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))?;
            let sample = |(i, one): (usize, &model::Sample)| Sample2 {
                value: one.value,
                timestamp: one.timestamp_ms,
                start_timestamp: row.starts_ms.get(i).copied().unwrap_or(0),
            };
            let samples = row.samples.iter().enumerate().map(sample).collect();
            let mut exemplars = Vec::with_capacity(row.exemplars.len());
            for one in row.exemplars {
                let labels_refs = symbols.places(one.labels.iter())?;
                let (value, timestamp) = (one.sample.value, one.sample.timestamp_ms);
                exemplars.push(Exemplar2 { labels_refs, value, timestamp });
            }
            timeseries.push(Series2 { labels_refs, samples, exemplars });
        }
        Ok(Self { symbols: symbols.all, timeseries })
    }
}
