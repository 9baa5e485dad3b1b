//! Loki's push: JSON and snappy-compressed protobuf.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};
use runtime::Signal;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use storage_api::{LogBatch, LogGroup};

use super::otlp::{check_stream, json_decoded_bytes, store_logs};
use super::tally::{Outcome, Tally};
use super::{add_retry_after, loki_labels, text_response};
use crate::admission::Admission;
use crate::body::{self, Encoding, cut, header_text, media_type};
use crate::collector::{Collector, Inner, Place};
use crate::error::{Refusal, Result};
use crate::protobuf::{Malformed, Reader};

const WHAT: &str = "the Loki push request";

/// Names of metadata and labels that hold a severity, in the order they are looked at.
const SEVERITY_NAMES: [&str; 6] = ["level", "severity", "detected_level", "severity_text", "lvl", "loglevel"];

pub(super) async fn handle(collector: Collector, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let result = match form(&parts.headers) {
        Ok((json, encoding)) => {
            let work =
                move |inner: &Inner, bytes: &[u8], admission: &mut Admission| store(inner, bytes, json, admission);
            collector.ingest(Place::LokiPush, body, encoding, work).await
        }
        Err(refusal) => {
            body::drain(body.into_data_stream()).await;
            Err(refusal)
        }
    };
    let response = match result {
        Ok(outcome) => {
            let message = outcome.message("log records", |_| true);
            if message.is_empty() {
                StatusCode::NO_CONTENT.into_response()
            } else {
                text_response(StatusCode::BAD_REQUEST, &message)
            }
        }
        Err(refusal) => {
            collector.count_refusal(Place::LokiPush, &refusal);
            let mut response = text_response(refusal.status().0, &refusal.to_string());
            add_retry_after(&mut response, &refusal, collector.0.config.retry_after_s);
            response
        }
    };
    collector.answered(Place::LokiPush, started, response)
}

/// Returns whether the body is JSON, and its compression. As in Loki, no content type means protobuf.
fn form(headers: &HeaderMap) -> Result<(bool, Encoding)> {
    let name = header_text(headers, header::CONTENT_ENCODING);
    match media_type(headers).as_str() {
        "application/json" => {
            let allowed = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];
            Ok((true, Encoding::parse(name, &allowed, "identity, gzip, deflate, zstd or snappy")?))
        }
        "application/x-protobuf" | "" if name.is_empty() => Ok((false, Encoding::Snappy)),
        "application/x-protobuf" | "" => Ok((false, Encoding::parse(name, &[Encoding::Snappy], "snappy")?)),
        other => Err(Refusal::MediaType { got: cut(other), expected: "application/json or application/x-protobuf" }),
    }
}

fn store(inner: &Inner, body: &[u8], json: bool, admission: &mut Admission) -> Result<Outcome> {
    let tally = Tally::new(Place::LokiPush, Signal::Logs);
    let mut push = Push { inner, admission, tally, batch: LogBatch::default(), scope: Arc::default() };
    if json {
        push.json(body)?
    } else {
        push.protobuf(body)?
    }
    store_logs(inner, push.batch, push.tally)
}

/// A pushed stream on its way into a batch.
struct Push<'p> {
    inner: &'p Inner,
    admission: &'p mut Admission,
    tally: Tally,
    batch: LogBatch,
    scope: Arc<Scope>,
}

impl Push<'_> {
    fn json(&mut self, body: &[u8]) -> Result<()> {
        self.admission.grow(json_decoded_bytes(body))?;
        let request: JsonPush<'_> = serde_json::from_slice(body)
            .map_err(|error| Refusal::Malformed { what: WHAT, cause: error.to_string() })?;
        for stream in request.streams {
            let labels = match (&stream.stream, &stream.labels) {
                (Some(Pairs(pairs)), _) => {
                    let mut pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
                    Labels::try_from_pairs(&mut pairs).map_err(|error| error.to_string())
                }
                (None, Some(text)) => loki_labels::parse(text),
                (None, None) => Ok(Labels::empty()),
            };
            let mut records = Vec::with_capacity(stream.values.len() + stream.entries.len());
            for entry in stream.values.into_iter().chain(stream.entries.into_iter().map(JsonEntry::from)) {
                self.tally.receive(1);
                let at = match entry.timestamp.parse::<i64>() {
                    Ok(nanos) => Ok(nanos),
                    Err(_) => parse_rfc3339(&entry.timestamp).ok_or(&entry.timestamp),
                };
                match at {
                    Ok(nanos) => records.push(self.record(nanos, &entry.line, &entry.metadata.0)?),
                    Err(text) => {
                        let detail =
                            || format!("{:?} is neither nanoseconds nor a date in the years 1678-2261", cut(text));
                        self.tally.reject("invalid_timestamp", 1, detail);
                    }
                }
            }
            self.stream(labels, records);
        }
        Ok(())
    }

    fn protobuf(&mut self, body: &[u8]) -> Result<()> {
        let refuse = |malformed: Malformed| malformed.within(body).refuse(WHAT, body);
        let mut reader = Reader::new(body);
        while let Some((tag, field)) = reader.next().map_err(refuse)? {
            if tag == 1 {
                self.protobuf_stream(body, field.bytes().map_err(refuse)?)?;
            }
        }
        Ok(())
    }

    fn protobuf_stream(&mut self, body: &[u8], bytes: &[u8]) -> Result<()> {
        let mut labels: &[u8] = &[];
        let mut records = Vec::new();
        let refuse = |malformed: Malformed| malformed.within(bytes).refuse(WHAT, body);
        let mut reader = Reader::new(bytes);
        while let Some((tag, field)) = reader.next().map_err(refuse)? {
            match tag {
                1 => labels = field.bytes().map_err(refuse)?,
                2 => {
                    self.tally.receive(1);
                    records.extend(self.protobuf_entry(body, field.bytes().map_err(refuse)?)?);
                }
                _ => {}
            }
        }
        let labels = std::str::from_utf8(labels)
            .map_err(|_| "the labels are not valid UTF-8".to_owned())
            .and_then(loki_labels::parse);
        self.stream(labels, records);
        Ok(())
    }

    /// Returns the record, or `None` when it was rejected.
    fn protobuf_entry(&mut self, body: &[u8], bytes: &[u8]) -> Result<Option<LogRecord>> {
        let entry = decode_entry(bytes).map_err(|malformed| malformed.within(bytes).refuse(WHAT, body))?;
        let Some(nanos) = entry.seconds.checked_mul(1_000_000_000).and_then(|at| at.checked_add(entry.nanos)) else {
            let detail = || format!("{} s and {} ns lie outside the years 1678-2261", entry.seconds, entry.nanos);
            self.tally.reject("timestamp_out_of_range", 1, detail);
            return Ok(None);
        };
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let metadata: Option<Vec<_>> = entry
            .metadata
            .iter()
            .map(|(name, value)| Some((Cow::Borrowed(text(name)?), Cow::Borrowed(text(value)?))))
            .collect();
        let (Some(line), Some(metadata)) = (text(entry.line), metadata) else {
            self.tally.reject("invalid_utf8", 1, || "a line or its metadata is not valid UTF-8".to_owned());
            return Ok(None);
        };
        self.record(nanos, line, &metadata).map(Some)
    }

    fn record(&mut self, nanos: i64, line: &str, metadata: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<LogRecord> {
        let attributes = metadata.iter().map(|(name, value)| (name.clone().into_owned(), Value::from(value.as_ref())));
        let find = |wanted: &str| metadata.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_ref());
        let severity = SEVERITY_NAMES.iter().find_map(|name| find(name));
        let record = LogRecord {
            timestamp: Timestamp(nanos),
            severity_number: severity.map_or(0, severity_number),
            severity_text: severity.unwrap_or("").to_owned(),
            body: Value::from(line),
            attributes: attributes.collect(),
            ..LogRecord::default()
        };
        self.admission.grow(record.size_bytes() as u64)?;
        Ok(record)
    }

    /// Adds a stream's records, or rejects them all when its labels are at fault.
    fn stream(&mut self, labels: std::result::Result<Labels, String>, mut records: Vec<LogRecord>) {
        let fault = match &labels {
            Err(error) => Some(("invalid_labels", error.clone())),
            Ok(labels) if labels.is_empty() => Some(("missing_labels", "a stream needs at least one label".to_owned())),
            Ok(labels) => check_stream(labels, &self.inner.config).err(),
        };
        let (Ok(stream), None) = (labels, &fault) else {
            let (reason, detail) = fault.unwrap_or(("invalid_labels", String::new()));
            self.tally.reject(reason, records.len() as u64, || detail);
            return;
        };
        if let Some(level) = SEVERITY_NAMES.iter().find_map(|name| stream.get(name)) {
            for record in records.iter_mut().filter(|record| record.severity_text.is_empty()) {
                record.severity_number = severity_number(level);
                level.clone_into(&mut record.severity_text);
            }
        }
        let attributes = stream.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        let resource = Arc::new(Resource { attributes, ..Resource::default() });
        self.batch.groups.push(LogGroup { stream, resource, scope: Arc::clone(&self.scope), records });
    }
}

/// One `EntryAdapter`, text not yet tested for UTF-8.
#[derive(Debug, Default)]
struct RawEntry<'a> {
    seconds: i64,
    nanos: i64,
    line: &'a [u8],
    metadata: Vec<(&'a [u8], &'a [u8])>,
}

fn decode_entry(bytes: &[u8]) -> std::result::Result<RawEntry<'_>, Malformed> {
    let mut entry = RawEntry::default();
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => {
                let mut time = Reader::new(field.bytes()?);
                while let Some((tag, field)) = time.next()? {
                    match tag {
                        1 => entry.seconds = field.int64()?,
                        2 => entry.nanos = field.int64()?,
                        _ => {}
                    }
                }
            }
            2 => entry.line = field.bytes()?,
            3 => {
                let mut pair: (&[u8], &[u8]) = (&[], &[]);
                let mut label = Reader::new(field.bytes()?);
                while let Some((tag, field)) = label.next()? {
                    match tag {
                        1 => pair.0 = field.bytes()?,
                        2 => pair.1 = field.bytes()?,
                        _ => {}
                    }
                }
                entry.metadata.push(pair);
            }
            _ => {}
        }
    }
    Ok(entry)
}

#[derive(Debug, Deserialize)]
struct JsonPush<'a> {
    #[serde(borrow, default)]
    streams: Vec<JsonStream<'a>>,
}

#[derive(Debug, Deserialize)]
struct JsonStream<'a> {
    #[serde(borrow)]
    stream: Option<Pairs<'a>>,
    #[serde(borrow)]
    labels: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    values: Vec<JsonEntry<'a>>,
    #[serde(borrow, default)]
    entries: Vec<OldEntry<'a>>,
}

/// `["<nanoseconds>", "<line>", {metadata}]`.
#[derive(Debug)]
struct JsonEntry<'a> {
    timestamp: Cow<'a, str>,
    line: Cow<'a, str>,
    metadata: Pairs<'a>,
}

/// The form before Loki 1.0: `{"ts": "<RFC 3339>", "line": "<line>"}`.
#[derive(Debug, Deserialize)]
struct OldEntry<'a> {
    #[serde(borrow, alias = "timestamp")]
    ts: Cow<'a, str>,
    #[serde(borrow)]
    line: Cow<'a, str>,
    #[serde(borrow, default, rename = "structuredMetadata")]
    metadata: Pairs<'a>,
}

impl<'a> From<OldEntry<'a>> for JsonEntry<'a> {
    fn from(old: OldEntry<'a>) -> Self {
        Self { timestamp: old.ts, line: old.line, metadata: old.metadata }
    }
}

/// A JSON object of texts, in the order they come.
#[derive(Debug, Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// Text that is borrowed where it has no escapes; serde's own `Cow` never borrows inside lists.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonEntry<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = JsonEntry<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[\"<nanoseconds>\", \"<line>\"], and maybe an object of metadata")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<JsonEntry<'de>, A::Error> {
                let missing = |at| A::Error::invalid_length(at, &"a timestamp and a line");
                let Text(timestamp) = list.next_element()?.ok_or_else(|| missing(0))?;
                let Text(line) = list.next_element()?.ok_or_else(|| missing(1))?;
                let metadata = list.next_element()?.unwrap_or_default();
                if list.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(A::Error::invalid_length(4, &"at most a timestamp, a line and metadata"));
                }
                Ok(JsonEntry { timestamp, line, metadata })
            }
        }
        deserializer.deserialize_seq(EntryVisitor)
    }
}

/// Returns OTLP's severity number for the names that programs write; 0 for any other.
fn severity_number(text: &str) -> u8 {
    match text.to_ascii_lowercase().as_str() {
        "trace" | "trc" => 1,
        "debug" | "dbg" => 5,
        "info" | "inf" | "information" | "informational" | "notice" => 9,
        "warn" | "wrn" | "warning" => 13,
        "error" | "err" | "eror" => 17,
        "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "panic" => 21,
        _ => 0,
    }
}

/// Returns nanoseconds since the epoch of an RFC 3339 date and time.
fn parse_rfc3339(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if separators.iter().any(|(at, c)| text.get(*at..at + 1) != Some(c))
        || !matches!(text.get(10..11)?, "T" | "t" | " ")
    {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = (rest.get(..zone_at)?, rest.get(zone_at..)?);
    let nanos = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        Some(fraction) if (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{fraction:0<9}").parse::<i64>().ok()?
        }
        _ => return None,
    };
    let offset_s = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign, _, _, b':', _, _] => {
            let part = |from: usize| zone.get(from..from + 2)?.parse::<i64>().ok();
            let seconds = part(1)? * 3600 + part(4)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    // Days since the epoch in the proleptic Gregorian calendar: years start in March, so that the leap day is the last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests;
