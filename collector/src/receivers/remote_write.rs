//! Prometheus remote write, 1.0 and 2.0.

use std::borrow::Cow;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::{METRIC_NAME, MetricMetadata, Sample};
use runtime::Signal;
use storage_api::MetricBatch;

use super::otlp::EXEMPLARS;
use super::tally::{Outcome, Tally};
use super::write_request::{Metadata, Series, Visit, decode, decode_2};
use super::{add_retry_after, text_response};
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, header_text, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::config::Config;
use crate::error::{Refusal, Result};
use crate::protobuf::Malformed;

const WHAT: &str = "the remote write request";
const HISTOGRAMS: &str = "unsupported_native_histogram";

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
    let written = result.as_ref().map_or(0, |outcome| outcome.accepted());
    let mut response = match result {
        Ok(outcome) => {
            // Senders retry 5xx and 429 only: with 400 they go on to the next batch, and log what was lost.
            let message = outcome.message("samples", |_| false);
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
        // A 2.0 sender takes their absence for a receiver that does not know 2.0.
        let headers = response.headers_mut();
        headers.insert("x-prometheus-remote-write-samples-written", HeaderValue::from(written));
        headers.insert("x-prometheus-remote-write-histograms-written", HeaderValue::from(0));
        headers.insert("x-prometheus-remote-write-exemplars-written", HeaderValue::from(0));
    }
    collector.answered(Place::RemoteWrite, started, response)
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
    let mut batch = Batch { batch: MetricBatch::default(), config: &inner.config, tally, admission };
    match version {
        Version::V1 => decode(body, inner.config.max_labels, &mut batch)?,
        Version::V2 => decode_2(body, inner.config.max_labels, &mut batch)?,
    }
    let Batch { batch, mut tally, .. } = batch;
    if batch.is_empty() {
        return Ok(tally.finish(&inner.ledger));
    }
    match inner.metrics.append(&batch) {
        Ok(report) => {
            tally.stored(&report);
            Ok(tally.finish(&inner.ledger))
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            tally.finish_refused(&inner.ledger, &refusal);
            Err(refusal)
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        malformed.refuse(WHAT)
    }
}

/// Collects what passes the tests.
struct Batch<'b, 'a> {
    batch: MetricBatch<'a>,
    config: &'b Config,
    tally: Tally,
    admission: &'b mut Admission,
}

impl<'a> Visit<'a> for Batch<'_, 'a> {
    type Error = Refusal;

    fn series(&mut self, series: &Series<'a>) -> Result<()> {
        let samples = series.samples.len() as u64;
        self.tally.receive(samples + series.histograms);
        self.tally.reject(HISTOGRAMS, series.histograms, || "native histograms are not supported yet".to_owned());
        self.tally.drop_beside(EXEMPLARS, series.exemplars, || "exemplars are not kept yet".to_owned());
        if samples == 0 {
            return Ok(());
        }
        self.admission.grow((size_of_val(series.samples.as_slice()) + series.labels.len() * 48 + 32) as u64 * 2)?;
        let late = series.samples.iter().filter(|sample| !in_range(sample)).count() as u64;
        let pushed = if late == samples { Ok(()) } else { push(&mut self.batch, series, self.config) };
        match pushed {
            Err((reason, detail)) => self.tally.reject(reason, samples, || detail),
            Ok(()) => self.tally.reject("timestamp_out_of_range", late, || {
                format!("a sample lies outside the years 1678-2261 in {}", shown(series))
            }),
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: &Metadata<'a>) -> Result<()> {
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

    fn charge(&mut self, bytes: u64) -> Result<()> {
        self.admission.grow(bytes)
    }
}

type Fault = (&'static str, String);

/// Says whether a sample's time can be said in nanoseconds, which is what times are elsewhere.
fn in_range(sample: &Sample) -> bool {
    sample.timestamp_ms.unsigned_abs() <= i64::MAX.unsigned_abs() / 1_000_000
}

/// Tests a series and adds it to the batch.
fn push<'a>(batch: &mut MetricBatch<'a>, series: &Series<'a>, config: &Config) -> Result<(), Fault> {
    if let Some(reference) = series.dangling {
        let detail = format!("a label refers to symbol {reference}, which is not there, in {}", shown(series));
        return Err(("invalid_symbol", detail));
    }
    let limit = config.max_labels;
    if series.labels_len > limit {
        let detail = format!("a series has {} labels, the limit is {limit}", series.labels_len);
        return Err(("too_many_labels", detail));
    }
    let mut named = false;
    for (name, value) in &series.labels {
        check_label(name, value, config)?;
        named |= *name == METRIC_NAME.as_bytes() && !value.is_empty();
    }
    if !named {
        return Err(("missing_metric_name", format!("a series has no metric name: {}", shown(series))));
    }
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map(Cow::Borrowed).unwrap_or_default();
    let labels = series.labels.iter().map(|(name, value)| (text(name), text(value)));
    batch.push(labels, series.samples.iter().copied().filter(in_range)).map_err(|error| {
        let reason = match error {
            model::LabelError::Repeated { .. } => "duplicate_label",
            _ => "empty_label_name",
        };
        (reason, format!("{error} in {}", shown(series)))
    })
}

fn check_label(name: &[u8], value: &[u8], config: &Config) -> Result<(), Fault> {
    let (got, limit) = (name.len(), config.max_label_name_bytes);
    if got > limit {
        return Err(("label_name_too_long", format!("a label name has {got} bytes, the limit is {limit}")));
    }
    let (got, limit) = (value.len(), config.max_label_value_bytes);
    if got > limit {
        let name = String::from_utf8_lossy(name);
        return Err((
            "label_value_too_long",
            format!("label {name:?} has a value of {got} bytes, the limit is {limit}"),
        ));
    }
    if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
        let name = String::from_utf8_lossy(name);
        return Err(("invalid_utf8", format!("label {name:?} is not valid UTF-8")));
    }
    Ok(())
}

/// Shows a series in a message, cut.
fn shown(series: &Series<'_>) -> String {
    let labels = series.labels.iter().take(8).map(|(name, value)| {
        format!("{}={:?}", cut(&String::from_utf8_lossy(name)), cut(&String::from_utf8_lossy(value)))
    });
    format!("{{{}}}", labels.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
