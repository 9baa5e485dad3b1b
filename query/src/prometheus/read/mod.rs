//! `/api/v1/read`: Prometheus' remote read protocol, both kinds of answers.

mod bits;
mod chunk;
pub(super) mod histogram;
mod proto;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use model::pattern::Budget;
use model::{MatchOp, Matcher, Sample};
use prost::Message;
use runtime::Reservation;
use storage_api::{MetricQuerier, MillisRange, QueryContext, SeriesPart, SeriesSamples};

use super::plain::{PlainResult, held_body};
use crate::Services;
use crate::error::{Error, Result};

/// Largest request, compressed and not, in bytes, as in Prometheus.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// About how many bytes a frame of a streamed answer has at most, as in Prometheus. One chunk more may be in.
const FRAME_BYTES: usize = 1 << 20;

/// A query of a request, checked.
#[derive(Debug)]
struct Query {
    matchers: Vec<Matcher>,
    range: MillisRange,
}

/// How a client wants its answer; the numbers are those of `prompb.ReadRequest.ResponseType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One message with all samples.
    Samples = 0,
    /// Frames of encoded chunks, series by series.
    Chunks = 1,
}

pub(super) async fn read(State(services): State<Services>, request: Request) -> PlainResult {
    let body = axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX)
        .await
        .map_err(|error| Error::BadData(format!("the request could not be read: {error}")))?;
    let (queries, form) = decode(&body)?;
    match form {
        Form::Samples => samples(services, queries).await,
        Form::Chunks => chunks(services, queries).await,
    }
}

/// Reads a request.
fn decode(body: &[u8]) -> Result<(Vec<Query>, Form)> {
    // All that Go's decoder says of a body, whatever is wrong with it.
    let snappy = |_: snap::Error| Error::BadData("snappy: corrupt input".to_owned());
    let length = snap::raw::decompress_len(body).map_err(snappy)?;
    if length > REQUEST_BYTES_MAX {
        let text = format!("snappy: decoded length {length} exceeds limit {REQUEST_BYTES_MAX}");
        return Err(Error::BadData(text));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(snappy)?;
    let request = proto::ReadRequest::decode(plain.as_slice())
        .map_err(|error| Error::BadData(format!("the request is no ReadRequest: {error}")))?;
    let form = negotiate(&request.accepted_response_types)?;
    let mut patterns = Budget::default();
    Ok((request.queries.iter().map(|one| query(one, &mut patterns)).collect::<Result<_>>()?, form))
}

/// Picks the first form that is known; a client that names none wants samples.
fn negotiate(accepted: &[i32]) -> Result<Form> {
    if accepted.is_empty() {
        return Ok(Form::Samples);
    }
    let known = |number: &i32| [Form::Samples, Form::Chunks].into_iter().find(|form| *form as i32 == *number);
    accepted.iter().find_map(known).ok_or_else(|| {
        let accepted: Vec<String> = accepted.iter().map(ToString::to_string).collect();
        Error::BadData(format!(
            "server does not support any of the requested response types: [{}]; supported: map[SAMPLES:{{}} \
             STREAMED_XOR_CHUNKS:{{}}]",
            accepted.join(" ")
        ))
    })
}

fn query(query: &proto::Query, patterns: &mut Budget) -> Result<Query> {
    let mut matcher = |one: &proto::LabelMatcher| {
        let op = match one.kind {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            other => return Err(Error::BadData(format!("invalid matcher type: {other}"))),
        };
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            patterns.take(&one.value).map_err(|error| Error::BadData(error.to_string()))?;
        }
        Matcher::new(&one.name, op, &one.value).map_err(|error| Error::BadData(error.to_string()))
    };
    let matchers = query.matchers.iter().map(&mut matcher).collect::<Result<_>>()?;
    Ok(Query { matchers, range: MillisRange { min_ms: query.start_timestamp_ms, max_ms: query.end_timestamp_ms } })
}

/// Answers with one compressed message.
async fn samples(services: Services, queries: Vec<Query>) -> PlainResult {
    let metrics = Arc::clone(&services.metrics);
    let body = services.run(services.context(), move |context| encode_samples(&*metrics, &queries, context)).await??;
    let held = services.hold_answer(body.len() as u64)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
        (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
    ];
    Ok((headers, held_body(body, held)).into_response())
}

fn encode_samples(metrics: &dyn MetricQuerier, queries: &[Query], context: &QueryContext) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut charged = 0;
    for query in queries {
        let mut result = Vec::new();
        for part in metrics.select(&query.matchers, query.range, context)?.parts {
            let all = part.read(context)?;
            let cost = all.iter().map(SeriesSamples::cost).sum();
            for series in all {
                if !series.timestamps_ms.is_empty() {
                    prost::encoding::message::encode(1, &time_series(&series), &mut result);
                }
            }
            context.release_samples(cost);
            let size = (answer.len() + result.len()) as u64;
            context.charge_memory(size.saturating_sub(charged))?;
            charged = charged.max(size);
        }
        prost::encoding::bytes::encode(1, &result, &mut answer);
    }
    let compressed = snap::raw::Encoder::new().compress_vec(&answer);
    compressed.map_err(|error| Error::Execution(format!("the answer cannot be compressed: {error}")))
}

fn time_series(series: &SeriesSamples) -> proto::TimeSeries {
    let mut message = proto::TimeSeries { labels: proto::labels(&series.labels), ..Default::default() };
    for (i, timestamp_ms) in series.timestamps_ms.iter().copied().enumerate() {
        let histogram = series.histograms.as_ref().and_then(|column| column.get(i)?.as_deref());
        match histogram {
            Some(histogram) => message.histograms.push(proto::Histogram::new(timestamp_ms, histogram)),
            None => message.samples.push(Sample { timestamp_ms, value: series.values[i] }.into()),
        }
    }
    message
}

/// Answers with a stream of frames. Series are read part by part as fast as the client takes them.
async fn chunks(services: Services, queries: Vec<Query>) -> PlainResult {
    let metrics = Arc::clone(&services.metrics);
    let select = move |context: &QueryContext| -> Result<VecDeque<(i64, Box<dyn SeriesPart>)>> {
        let mut parts = VecDeque::new();
        for (index, query) in (0..).zip(&queries) {
            let found = metrics.select(&query.matchers, query.range, context)?.parts;
            parts.extend(found.into_iter().map(|part| (index, part)));
        }
        Ok(parts)
    };
    let parts = services.run(services.context(), select).await??;
    let frames = futures_util::stream::try_unfold(Frames { services, parts, held: None }, Frames::next);
    let kind = HeaderValue::from_static("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(frames)).into_response())
}

/// What is still to be sent.
struct Frames {
    services: Services,
    parts: VecDeque<(i64, Box<dyn SeriesPart>)>,
    /// The memory of what was sent last.
    held: Option<Reservation>,
}

impl Frames {
    /// Reads the next part that has samples and returns its frames. An error ends the connection, so that the client
    /// cannot take what it has for all.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        self.held = None;
        while let Some((index, part)) = self.parts.pop_front() {
            let context = self.services.context();
            let work = move |context: &QueryContext| -> Result<Vec<u8>> {
                let mut out = Vec::new();
                for series in part.read(context)? {
                    context.check()?;
                    push_frames(&mut out, index, &series);
                }
                Ok(out)
            };
            let frames = match self.services.run_on(context, work).await {
                Ok(Ok(frames)) => frames,
                Ok(Err(error)) | Err(error) => {
                    tracing::warn!(%error, "a streamed remote read ended early");
                    return Err(error);
                }
            };
            if !frames.is_empty() {
                self.held = Some(self.services.hold_answer(frames.len() as u64)?);
                return Ok(Some((Bytes::from(frames), self)));
            }
        }
        Ok(None)
    }
}

/// Appends the frames of one series: each has its length, a checksum and a message.
fn push_frames(out: &mut Vec<u8>, query_index: i64, series: &SeriesSamples) {
    let labels = proto::labels(&series.labels);
    let room = FRAME_BYTES.saturating_sub(labels.iter().map(Message::encoded_len).sum());
    let mut all = chunk::encode(series).into_iter().peekable();
    while all.peek().is_some() {
        let (mut chunks, mut size) = (Vec::new(), 0);
        while let Some(next) = all.next_if(|_| chunks.is_empty() || size < room) {
            let message = proto::Chunk {
                min_time_ms: next.min_ms,
                max_time_ms: next.max_ms,
                kind: next.encoding as i32,
                data: next.data,
            };
            size += message.encoded_len();
            chunks.push(message);
        }
        let chunked_series = vec![proto::ChunkedSeries { labels: labels.clone(), chunks }];
        let message = proto::ChunkedReadResponse { chunked_series, query_index }.encode_to_vec();
        prost::encoding::encode_varint(message.len() as u64, out);
        out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        out.extend_from_slice(&message);
    }
}
