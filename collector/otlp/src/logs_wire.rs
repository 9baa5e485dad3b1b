//! Reads the records of a logs request one by one, from its bytes into one record that is used again for each.
//!
//! Only requests of the usual form are read so: each field of its type, none but lists twice, text that is text. Any other
//! is told to be [`Unusual`], and is for the decoder.

use std::sync::Arc;

use model::{LogRecord, Resource, Scope, Timestamp, Value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use prost::Message as _;

use crate::logs::{InvalidFields, id, resource_from_otlp, scope_from_otlp, severity_of};
use crate::metrics::{Field, Malformed, Reader};
use crate::value::value_from_otlp;

/// The request is not of the usual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusual;

impl From<Malformed> for Unusual {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// Is shown a logs request, in the order of its bytes.
pub trait LogsVisitor {
    /// Scopes that follow belong to this resource.
    fn resource(&mut self, resource: &Arc<Resource>);
    /// Records that follow belong to this scope.
    fn scope(&mut self, scope: &Arc<Scope>);
    /// Takes a record; it is another one after the call.
    fn record(&mut self, record: &LogRecord);
    /// A record has a time that the model cannot hold.
    fn out_of_range(&mut self, nanos: u64);
}

/// A logs request that was not decoded.
#[derive(Debug, Clone, Copy)]
pub struct LogsReader<'a> {
    body: &'a [u8],
    records: u64,
}

impl<'a> LogsReader<'a> {
    /// Counts the records of a request; nothing else of it is looked at.
    ///
    /// # Errors
    /// When the request is not of the usual form.
    pub fn open(body: &'a [u8]) -> Result<Self, Unusual> {
        let mut records = 0;
        let mut request = Reader::new(body);
        while let Some((tag, field)) = request.next()? {
            if tag != 1 {
                continue;
            }
            let mut resource = Reader::new(field.bytes()?);
            while let Some((tag, field)) = resource.next()? {
                if tag != 2 {
                    continue;
                }
                let mut scope = Reader::new(field.bytes()?);
                while let Some((tag, _)) = scope.next()? {
                    records += u64::from(tag == 2);
                }
            }
        }
        Ok(Self { body, records })
    }

    /// Returns how many records there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Shows everything to `visitor`; returns what was taken as "none".
    ///
    /// # Errors
    /// When the request is not of the usual form. What was shown before is to be forgotten.
    pub fn visit(&self, visitor: &mut dyn LogsVisitor) -> Result<InvalidFields, Unusual> {
        let mut walk =
            Walk { visitor, record: LogRecord::default(), spare: Vec::new(), invalid: InvalidFields::default() };
        let mut request = Reader::new(self.body);
        while let Some((tag, field)) = request.next()? {
            match (tag, field) {
                (1, field) => walk.resource(field.bytes()?)?,
                (_, Field::Group) => return Err(Unusual),
                _ => {}
            }
        }
        Ok(walk.invalid)
    }
}

/// Notes that a field came; it may not come again.
fn once(seen: &mut u32, tag: u32) -> Result<(), Unusual> {
    let bit = 1_u32.checked_shl(tag).ok_or(Unusual)?;
    if *seen & bit != 0 {
        return Err(Unusual);
    }
    *seen |= bit;
    Ok(())
}

fn text<'a>(field: Field<'a>) -> Result<&'a str, Unusual> {
    std::str::from_utf8(field.bytes()?).map_err(|_| Unusual)
}

fn set_text(out: &mut String, field: Field<'_>) -> Result<(), Unusual> {
    out.push_str(text(field)?);
    Ok(())
}

struct Walk<'v> {
    visitor: &'v mut dyn LogsVisitor,
    record: LogRecord,
    /// Attributes that the last record had more than this one.
    spare: Vec<(String, Value)>,
    invalid: InvalidFields,
}

impl Walk<'_> {
    fn resource(&mut self, message: &[u8]) -> Result<(), Unusual> {
        let (mut seen, mut resource, mut schema_url) = (0, None, String::new());
        let mut fields = Reader::new(message);
        while let Some((tag, field)) = fields.next()? {
            match (tag, field) {
                (1, field) => {
                    once(&mut seen, tag)?;
                    resource = Some(OtlpResource::decode(field.bytes()?).map_err(|_| Unusual)?);
                }
                (3, field) => {
                    once(&mut seen, tag)?;
                    set_text(&mut schema_url, field)?;
                }
                (_, Field::Group) => return Err(Unusual),
                _ => {}
            }
        }
        self.visitor.resource(&Arc::new(resource_from_otlp(resource, schema_url)));
        let mut fields = Reader::new(message);
        while let Some((tag, field)) = fields.next()? {
            if tag == 2 {
                self.scope(field.bytes()?)?;
            }
        }
        Ok(())
    }

    fn scope(&mut self, message: &[u8]) -> Result<(), Unusual> {
        let (mut seen, mut scope, mut schema_url) = (0, None, String::new());
        let mut fields = Reader::new(message);
        while let Some((tag, field)) = fields.next()? {
            match (tag, field) {
                (1, field) => {
                    once(&mut seen, tag)?;
                    scope = Some(InstrumentationScope::decode(field.bytes()?).map_err(|_| Unusual)?);
                }
                (3, field) => {
                    once(&mut seen, tag)?;
                    set_text(&mut schema_url, field)?;
                }
                (_, Field::Group) => return Err(Unusual),
                _ => {}
            }
        }
        self.visitor.scope(&Arc::new(scope_from_otlp(scope, schema_url)));
        let mut fields = Reader::new(message);
        while let Some((tag, field)) = fields.next()? {
            if tag == 2 {
                match self.record(field.bytes()?)? {
                    Ok(()) => self.visitor.record(&self.record),
                    Err(nanos) => self.visitor.out_of_range(nanos),
                }
            }
        }
        Ok(())
    }

    /// Reads a record into the one that is used again; the inner error is a time that it cannot hold.
    fn record(&mut self, message: &[u8]) -> Result<Result<(), u64>, Unusual> {
        let (record, mut seen, mut attributes) = (&mut self.record, 0, 0);
        let (mut time, mut observed, mut severity) = (0, 0, 0_i32);
        let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
        let mut has_body = false;
        record.severity_text.clear();
        record.event_name.clear();
        (record.dropped_attributes_count, record.flags) = (0, 0);
        let mut fields = Reader::new(message);
        while let Some((tag, field)) = fields.next()? {
            if matches!(field, Field::Group) {
                return Err(Unusual);
            }
            if (1..=12).contains(&tag) && tag != 6 {
                once(&mut seen, tag)?;
            }
            match tag {
                1 => time = field.fixed64()?,
                2 => severity = field.uint32()?.cast_signed(),
                3 => set_text(&mut record.severity_text, field)?,
                5 => {
                    fill(&mut record.body, field.bytes()?)?;
                    has_body = true;
                }
                6 => {
                    if record.attributes.len() == attributes {
                        record.attributes.push(self.spare.pop().unwrap_or_default());
                    }
                    if let Some(pair) = record.attributes.get_mut(attributes) {
                        fill_pair(pair, field.bytes()?)?;
                    }
                    attributes += 1;
                }
                7 => record.dropped_attributes_count = field.uint32()?,
                8 => record.flags = field.fixed32()?,
                9 => trace_id = field.bytes()?,
                10 => span_id = field.bytes()?,
                11 => observed = field.fixed64()?,
                12 => set_text(&mut record.event_name, field)?,
                _ => {}
            }
        }
        self.spare.extend(record.attributes.drain(attributes..));
        if !has_body {
            record.body = Value::Null;
        }
        for (nanos, out) in [(time, &mut record.timestamp), (observed, &mut record.observed_timestamp)] {
            match i64::try_from(nanos) {
                Ok(nanos) => *out = Timestamp(nanos),
                Err(_) => return Ok(Err(nanos)),
            }
        }
        record.severity_number = severity_of(severity, &mut self.invalid);
        if record.severity_text.is_empty() {
            record.severity_text.push_str(model::severity_text(record.severity_number));
        }
        record.trace_id = id(trace_id, &mut self.invalid.trace_ids);
        record.span_id = id(span_id, &mut self.invalid.span_ids);
        Ok(Ok(()))
    }
}

fn fill_pair(pair: &mut (String, Value), message: &[u8]) -> Result<(), Unusual> {
    let (mut seen, mut has_value) = (0, false);
    pair.0.clear();
    let mut fields = Reader::new(message);
    while let Some((tag, field)) = fields.next()? {
        match (tag, field) {
            (_, Field::Group) => return Err(Unusual),
            (1, field) => {
                once(&mut seen, tag)?;
                set_text(&mut pair.0, field)?;
            }
            (2, field) => {
                once(&mut seen, tag)?;
                fill(&mut pair.1, field.bytes()?)?;
                has_value = true;
            }
            // A reference into a table that only profiles have.
            (3, field) => {
                field.varint()?;
            }
            _ => {}
        }
    }
    if !has_value {
        pair.1 = Value::Null;
    }
    Ok(())
}

/// Reads an `AnyValue` into `value`, whose memory is used again where it can be.
fn fill(value: &mut Value, message: &[u8]) -> Result<(), Unusual> {
    let mut fields = Reader::new(message);
    let Some((tag, field)) = fields.next()? else {
        *value = Value::Null;
        return Ok(());
    };
    if fields.next()?.is_some() || !matches!(tag, 1..=7) {
        return Err(Unusual);
    }
    match tag {
        1 => {
            let text = text(field)?;
            match value {
                Value::Str(have) => {
                    have.clear();
                    have.push_str(text);
                }
                other => *other = Value::Str(text.to_owned()),
            }
        }
        2 => *value = Value::Bool(field.varint()? != 0),
        3 => *value = Value::Int(field.varint()?.cast_signed()),
        4 => *value = Value::Double(field.double()?),
        7 => *value = Value::Bytes(field.bytes()?.to_vec()),
        // Lists and maps, which the decoder guards against deep nesting.
        _ => *value = value_from_otlp(AnyValue::decode(message).map_err(|_| Unusual)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use proptest::prelude::*;

    use super::*;
    use crate::logs::{DecodedLogs, ScopedLogs, logs_from_otlp, logs_to_otlp};

    /// Collects what it is shown, as [`logs_from_otlp`] returns it.
    #[derive(Default)]
    struct Collected {
        decoded: DecodedLogs,
        resource: Arc<Resource>,
        out_of_range: Vec<u64>,
    }

    impl LogsVisitor for Collected {
        fn resource(&mut self, resource: &Arc<Resource>) {
            self.resource = Arc::clone(resource);
        }

        fn scope(&mut self, scope: &Arc<Scope>) {
            let (resource, scope) = (Arc::clone(&self.resource), Arc::clone(scope));
            self.decoded.groups.push(ScopedLogs { resource, scope, records: Vec::new() });
        }

        fn record(&mut self, record: &LogRecord) {
            self.decoded.groups.last_mut().unwrap().records.push(record.clone());
        }

        fn out_of_range(&mut self, nanos: u64) {
            self.out_of_range.push(nanos);
        }
    }

    fn read(body: &[u8]) -> Result<(DecodedLogs, u64, u64), Unusual> {
        let reader = LogsReader::open(body)?;
        let mut collected = Collected::default();
        collected.decoded.invalid = reader.visit(&mut collected)?;
        collected.decoded.groups.retain(|group| !group.records.is_empty());
        Ok((collected.decoded, collected.out_of_range.len() as u64, reader.records()))
    }

    /// Reads the body both ways.
    #[track_caller]
    fn same(body: &[u8]) -> bool {
        let Ok((read, out_of_range, records)) = read(body) else { return false };
        let mut expected = logs_from_otlp(ExportLogsServiceRequest::decode(body).unwrap());
        let rejected: u64 = expected.rejected.drain(..).map(|rejected| rejected.count).sum();
        assert_eq!(out_of_range, rejected);
        let kept: u64 = expected.groups.iter().map(|group| group.records.len() as u64).sum();
        assert_eq!(records, kept + rejected);
        // Doubles compare by their bits, NaN included.
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        true
    }

    fn value(i: u64) -> Value {
        match i % 9 {
            0 => Value::Null,
            1 => Value::Bool(i.is_multiple_of(2)),
            2 => Value::Int(-(i.cast_signed())),
            3 => Value::Double(i as f64 / 7.0),
            4 => Value::Bytes(vec![0, 255]),
            5 => Value::Array(vec![Value::Int(1), Value::from("x")]),
            6 => Value::Map(vec![("a".to_owned(), Value::Null), ("a".to_owned(), Value::Bool(true))]),
            _ => Value::Str(format!("a line {i} 결제")),
        }
    }

    fn record(i: u64) -> LogRecord {
        LogRecord {
            timestamp: Timestamp(if i.is_multiple_of(4) { 0 } else { i.cast_signed() }),
            observed_timestamp: Timestamp((i % 3).cast_signed()),
            severity_number: u8::try_from(i % 25).unwrap(),
            severity_text: if i.is_multiple_of(2) { "warnung".to_owned() } else { String::new() },
            body: value(i),
            attributes: (0..i % 5).map(|n| (format!("name{n}"), value(i + n))).collect(),
            dropped_attributes_count: u32::try_from(i % 3).unwrap(),
            flags: u32::try_from(i % 2).unwrap(),
            trace_id: [u8::try_from(i % 3).unwrap(); 16],
            span_id: [u8::try_from(i % 3).unwrap(); 8],
            event_name: if i.is_multiple_of(7) { "click".to_owned() } else { String::new() },
        }
    }

    fn request() -> ExportLogsServiceRequest {
        let group = |g: u64| ScopedLogs {
            resource: Arc::new(Resource {
                attributes: vec![("service.name".to_owned(), Value::Str(format!("s{}", g / 2)))],
                dropped_attributes_count: 1,
                schema_url: "https://r".to_owned(),
            }),
            scope: Arc::new(Scope { name: format!("scope{g}"), schema_url: "s".to_owned(), ..Scope::default() }),
            records: (0..20 * (g % 3)).map(|i| record(g * 31 + i)).collect(),
        };
        logs_to_otlp((0..6).map(group))
    }

    #[test]
    fn records_are_read_as_the_decoder_reads_them() {
        assert!(same(&request().encode_to_vec()));
        assert!(same(&[]));
    }

    #[test]
    fn what_the_model_cannot_hold_is_told_as_the_decoder_tells_it() {
        let mut request = request();
        for (i, record) in
            (0..).zip(request.resource_logs.iter_mut().flat_map(|r| &mut r.scope_logs).flat_map(|s| &mut s.log_records))
        {
            match i % 5 {
                0 => record.time_unix_nano = u64::MAX - i,
                1 => record.observed_time_unix_nano = u64::MAX,
                2 => record.severity_number = if i.is_multiple_of(2) { -1 } else { 25 },
                3 => record.trace_id = vec![1; 15],
                _ => record.span_id = vec![1; 9],
            }
        }
        assert!(same(&request.encode_to_vec()));
    }

    #[test]
    fn what_is_not_usual_is_left_to_the_decoder() {
        let body = request().encode_to_vec();
        assert_eq!(read(&body[..body.len() - 1]).unwrap_err(), Unusual, "cut off");
        // A record whose body comes twice, and one whose text is none.
        for record in [&[0x2a, 0, 0x2a, 0][..], &[0x1a, 1, 0xff], &[0x08, 1], &[0x2b, 0x2c]] {
            let field = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
            let body = field(0x0a, &field(0x12, &field(0x12, record)));
            assert_eq!(read(&body).unwrap_err(), Unusual, "{record:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_by_the_decoder_or_not_at_all(damage: Vec<(prop::sample::Index, u8)>) {
            let mut body = request().encode_to_vec();
            for (at, byte) in damage.into_iter().take(3) {
                let at = at.index(body.len());
                body[at] = byte;
            }
            same(&body);
        }
    }
}
