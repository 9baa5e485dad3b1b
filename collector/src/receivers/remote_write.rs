//! Prometheus remote write, 1.0 and 2.0.

mod batch;

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use runtime::Signal;
use storage_api::{Error, MetricBatch};

use super::tally::{Outcome, Tally, is_of_exemplars};
use super::write_request::{decode, decode_2, decode_symbols};
use super::{add_retry_after, text_response};
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, header_text, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::error::{Refusal, Result};
use batch::{Batch, EMPTY_SERIES, INVALID_SERIES, LabelsInBody, Stop};

const WHAT: &str = "the remote write request";
/// A series with one sample hardly ever takes less of a body.
const SERIES_BYTES: usize = 128;
/// What a batch takes for a series with one sample.
const SPACE_PER_SERIES: usize = 96;

/// What tells a sender how many samples, native histograms and exemplars were taken.
const WRITTEN_HEADERS: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// The two versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

pub(super) async fn handle(collector: Collector, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let form = form(&parts.headers);
    let version = form.as_ref().map_or(Version::V1, |(version, _)| *version);
    let result = match form {
        Ok((version, encoding)) => {
            let work =
                move |inner: &Inner, body: &[u8], admission: &mut Admission| store(inner, body, version, admission);
            collector.ingest(Place::RemoteWrite, body, encoding, work).await
        }
        Err(refusal) => {
            body::drain(body.into_data_stream()).await;
            Err(refusal)
        }
    };
    let written = result.as_ref().map_or([0; 3], |outcome| {
        [outcome.accepted().saturating_sub(outcome.histograms()), outcome.histograms(), outcome.exemplars()]
    });
    let mut response = match result {
        Ok(outcome) => {
            // Senders retry 5xx and 429 only: with 400 they go on to the next batch, and log what was lost.
            let message = outcome.message("samples", |beside| version == Version::V2 && is_told(beside.reason));
            if message.is_empty() {
                StatusCode::NO_CONTENT.into_response()
            } else {
                text_response(StatusCode::BAD_REQUEST, &message)
            }
        }
        Err(refusal) => {
            collector.count_refusal(Place::RemoteWrite, &refusal);
            let mut response = text_response(refusal.status().0, &refusal.to_string());
            add_retry_after(&mut response, &refusal, collector.0.config.retry_after_s);
            response
        }
    };
    if version == Version::V2 {
        // A 2.0 sender takes their absence for a receiver that does not know 2.0. With 1.0 there are none, as in
        // Prometheus: senders take them for the sign of 2.0.
        let headers = response.headers_mut();
        for (name, count) in WRITTEN_HEADERS.into_iter().zip(written) {
            headers.insert(name, HeaderValue::from(count));
        }
    }
    collector.answered(Place::RemoteWrite, started, response)
}

/// Says whether a sender is told of what was dropped beside its samples: 2.0 does not allow a 2xx with a loss that is
/// known, other than of metadata. With 1.0 exemplars that come late or twice are no fault of the request.
fn is_told(reason: &str) -> bool {
    is_of_exemplars(reason) || matches!(reason, EMPTY_SERIES | INVALID_SERIES)
}

/// Returns the protocol's version and the compression: snappy, the protocol's only one, or zstd, which some agents use.
fn form(headers: &HeaderMap) -> Result<(Version, Encoding)> {
    const EXPECTED: &str =
        "application/x-protobuf, with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request if any";
    let whole = header_text(headers, header::CONTENT_TYPE);
    let refusal = || Refusal::MediaType { got: cut(whole), expected: EXPECTED };
    if !matches!(media_type(headers).as_str(), "" | "application/x-protobuf") {
        return Err(refusal());
    }
    let parameters = whole.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    let proto = parameters.filter(|(name, _)| name.eq_ignore_ascii_case("proto")).last();
    let version = match proto.map(|(_, value)| value.trim_matches('"')) {
        None | Some("prometheus.WriteRequest") => Version::V1,
        Some("io.prometheus.write.v2.Request") => Version::V2,
        Some(_) => return Err(refusal()),
    };
    let encoding = match header_text(headers, header::CONTENT_ENCODING) {
        "" => Encoding::Snappy,
        name => Encoding::parse(name, &[Encoding::Snappy, Encoding::Zstd], "snappy or zstd")?,
    };
    Ok((version, encoding))
}

fn store(inner: &Inner, body: &[u8], version: Version, admission: &mut Admission) -> Result<Outcome> {
    let refuse = |stop| match stop {
        Stop::Malformed(malformed) => malformed.within(body).refuse(WHAT, body),
        Stop::Refused(refusal) => refusal,
    };
    let (config, tally) = (&inner.config, Tally::new(Place::RemoteWrite, Signal::Metrics));
    let symbols = match version {
        Version::V1 => None,
        Version::V2 => {
            let grow = |bytes| admission.grow(bytes).map_err(Stop::from);
            Some(decode_symbols(body, &inner.write_keys_2, grow).map_err(refuse)?)
        }
    };
    let keys = &inner.write_keys;
    let labels = LabelsInBody { body, symbols, config };
    let mut batch = MetricBatch::with_rows(inner.rows.take(), &labels);
    let series = body.len() / SERIES_BYTES;
    admission.grow((series * SPACE_PER_SERIES) as u64)?;
    batch.reserve(series, series);
    let mut batch = Batch { batch, labels: &labels, keys, samples: Vec::new(), config, tally, admission };
    let decoded = match &labels.symbols {
        None => decode(body, config, &mut batch),
        Some(symbols) => decode_2(body, symbols, config, &mut batch),
    };
    decoded.map_err(refuse)?;
    let Batch { batch, mut tally, .. } = batch;
    if batch.is_empty() {
        return Ok(tally.finish(&inner.ledger));
    }
    tally.offer_exemplars(batch.exemplars_len());
    match inner.metrics.append(&batch) {
        Ok(report) => {
            inner.rows.give_back(batch.into_rows());
            tally.stored(&report);
            Ok(tally.finish(&inner.ledger))
        }
        // As for a body that cannot be walked over: what is in it is not known.
        Err(Error::Invalid(cause)) => Err(Refusal::Malformed { what: WHAT, cause }),
        Err(error) => {
            let refusal = Refusal::from(error);
            tally.finish_refused(&inner.ledger, &refusal);
            Err(refusal)
        }
    }
}
