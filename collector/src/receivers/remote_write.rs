//! Prometheus remote write, 1.0 and 2.0.

use std::borrow::Cow;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::{MetricMetadata, Sample};
use runtime::Signal;
use storage_api::{Error, KeyMaker, LabelFault, LabelPair, LabelSource, MetricBatch, Rejection};

use super::tally::{Outcome, Tally, is_of_exemplars};
use super::write_request::{Fault, Metadata, Plain, Series, Visit, decode, decode_2, decode_labels, scan};
use super::{add_retry_after, text_response};
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, header_text, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::config::Config;
use crate::error::{Refusal, Result};
use crate::protobuf::Malformed;

const WHAT: &str = "the remote write request";
/// A series of 2.0 that has nothing: no sample, histogram, exemplar or metadata.
const EMPTY_SERIES: &str = "empty_series";
/// A series of 2.0 without samples and histograms, with a fault in its labels.
const INVALID_SERIES: &str = "invalid_series";
/// Exemplars of a series with a fault in its labels.
const EXEMPLARS_OF_INVALID_SERIES: &str = "exemplar_invalid_series";

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
    let tally = Tally::new(Place::RemoteWrite, Signal::Metrics);
    let labels = LabelsInBody { body, config: &inner.config };
    let mut batch = Batch {
        batch: MetricBatch::with_source(&labels),
        labels: &labels,
        keys: &inner.write_keys,
        samples: Vec::new(),
        config: &inner.config,
        version,
        tally,
        admission,
    };
    let decoded = match version {
        Version::V1 => decode(body, &inner.config, &mut batch),
        Version::V2 => decode_2(body, &inner.config, &mut batch),
    };
    decoded.map_err(|stop| match stop {
        Stop::Malformed(malformed) => malformed.within(body).refuse(WHAT, body),
        Stop::Refused(refusal) => refusal,
    })?;
    let Batch { batch, mut tally, .. } = batch;
    if batch.is_empty() {
        return Ok(tally.finish(&inner.ledger));
    }
    match inner.metrics.append(&batch) {
        Ok(report) => {
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

/// The labels in a body of 1.0. A token has their offset in the high half and their length in the low one.
#[derive(Debug)]
struct LabelsInBody<'a> {
    body: &'a [u8],
    config: &'a Config,
}

impl LabelsInBody<'_> {
    /// Returns the token of labels in this body. `None` where they lie too far behind.
    fn token(&self, labels: &[u8]) -> Option<u64> {
        let offset = u32::try_from(labels.as_ptr().addr().checked_sub(self.body.as_ptr().addr())?).ok()?;
        let length = u32::try_from(labels.len()).ok()?;
        Some(u64::from(offset) << 32 | u64::from(length))
    }
}

impl<'a> LabelSource<'a> for LabelsInBody<'a> {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> std::result::Result<(), LabelFault> {
        let (offset, length) = ((token >> 32) as usize, token as u32 as usize);
        let labels = self.body.get(offset..offset + length).unwrap_or_default();
        decode_labels(labels, self.config, out).map_err(|error| error.into_fault(self.body))
    }
}

/// Why a walk over a request stopped.
enum Stop {
    Malformed(Malformed),
    Refused(Refusal),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Collects what passes the tests.
struct Batch<'b, 'a> {
    batch: MetricBatch<'a>,
    labels: &'a LabelsInBody<'a>,
    keys: &'b KeyMaker,
    /// Space for the samples of a plain series.
    samples: Vec<Sample>,
    config: &'b Config,
    version: Version,
    tally: Tally,
    admission: &'b mut Admission,
}

impl<'a> Visit<'a> for Batch<'_, 'a> {
    type Error = Stop;

    fn undecoded(&mut self, series: &'a [u8]) -> Result<bool, Stop> {
        let Some(Plain { labels, labels_len }) = scan(series, &mut self.samples) else { return Ok(false) };
        let Some(token) = self.labels.token(labels).filter(|_| labels_len <= self.config.max_labels) else {
            return Ok(false);
        };
        self.tally.receive(self.samples.len() as u64);
        // The labels are decoded only when the store does not know them.
        let bytes = size_of_val(self.samples.as_slice()) + labels_len * size_of::<LabelPair<'_>>() + 64;
        self.admission.grow(bytes as u64 * 2)?;
        self.batch.push_keyed(self.keys.key(labels), token, self.samples.iter().copied());
        Ok(true)
    }

    fn series(&mut self, series: &mut Series<'a>) -> Result<(), Stop> {
        let came = self.count(series);
        let records = (series.samples.len() + series.histograms.len()) as u64;
        let exemplars = series.exemplars.len() as u64;
        if records + exemplars > 0 {
            let bytes = size_of_val(series.samples.as_slice()) + series.labels.len() * 48 + 32;
            self.admission.grow(bytes as u64 * 2)?;
            if let Err((reason, detail)) = push(&mut self.batch, series) {
                let what = format!("the labels of a series are at fault ({reason}): {}", series.shown());
                self.tally.reject(reason, records, || detail);
                self.tally.drop_beside(EXEMPLARS_OF_INVALID_SERIES, exemplars, || what);
            }
        } else if self.version == Version::V2 && came == 0 {
            match series.take_fault() {
                Some((_, detail)) => self.tally.drop_beside(INVALID_SERIES, 1, || detail),
                None if series.has_metadata => {}
                None => self.tally.drop_beside(EMPTY_SERIES, 1, || {
                    format!("a series must have at least one sample or histogram: {}", series.shown())
                }),
            }
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<(), Stop> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        if let (Some(name), Some(help), Some(unit)) = (text(metadata.name), text(metadata.help), text(metadata.unit))
            && !name.is_empty()
            && name.len() <= self.config.max_label_value_bytes
            && help.len() + unit.len() <= self.config.max_label_value_bytes
        {
            self.admission.grow((name.len() + help.len() + unit.len() + 128) as u64)?;
            let (name, help, unit) = (name.to_owned(), help.to_owned(), unit.to_owned());
            self.batch.metadata.push(MetricMetadata { name, kind: metadata.kind, help, unit });
        } else {
            let detail =
                || format!("metadata of {:?} is too long or no text", cut(&String::from_utf8_lossy(metadata.name)));
            self.tally.drop_beside("invalid_metadata", 1, detail);
        }
        Ok(())
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Stop> {
        Ok(self.admission.grow(bytes)?)
    }
}

impl Batch<'_, '_> {
    /// Counts what came with a series, takes out of it what cannot be stored, and returns how much came.
    fn count(&mut self, series: &mut Series<'_>) -> u64 {
        let tally = &mut self.tally;
        let records = (series.samples.len() + series.histograms.len()) as u64 + series.bad_histograms.rejected();
        let came = records + series.exemplars.len() as u64 + series.bad_exemplars.rejected();
        tally.receive(records);
        for Rejection { reason, count, detail } in series.bad_histograms.rejections.drain(..) {
            tally.reject(reason, count, || detail);
        }
        for Rejection { reason, count, detail } in series.bad_exemplars.rejections.drain(..) {
            tally.drop_beside(reason, count, || detail);
        }
        let (records, exemplars) = series.drop_out_of_range();
        tally.reject("timestamp_out_of_range", records, || {
            format!("a sample lies outside the years 1678-2261 in {}", series.shown())
        });
        tally.drop_beside("exemplar_timestamp_out_of_range", exemplars, || {
            format!("an exemplar lies outside the years 1678-2261 in {}", series.shown())
        });
        came
    }
}

/// Adds a series to the batch.
fn push<'a>(batch: &mut MetricBatch<'a>, series: &mut Series<'a>) -> Result<(), Fault> {
    if let Some(fault) = series.take_fault() {
        return Err(fault);
    }
    let labels = series.labels.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)));
    batch.push(labels, series.samples.iter().copied()).map_err(|error| series.label_fault(&error))?;
    if !series.starts_ms.is_empty() {
        batch.set_starts(series.starts_ms.iter().copied());
    }
    if !series.histograms.is_empty() {
        batch.set_histograms(series.histograms.drain(..));
    }
    if !series.exemplars.is_empty() {
        batch.set_exemplars(series.exemplars.drain(..));
    }
    Ok(())
}
