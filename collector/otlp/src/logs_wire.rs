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
use crate::record_space::{RecordSpace, set_text};
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

/// Shows a request in protobuf to `visitor`; returns what was taken as "none".
///
/// # Errors
/// When the request is not of the usual form. What was shown before is to be forgotten.
pub fn read_logs(body: &[u8], visitor: &mut dyn LogsVisitor) -> Result<InvalidFields, Unusual> {
    let mut walk = Walk { visitor, space: RecordSpace::default(), invalid: InvalidFields::default() };
    let mut request = Reader::new(body);
    while let Some((tag, field)) = request.next()? {
        match (tag, field) {
            (1, field) => walk.resource(field.bytes()?)?,
            (_, Field::Group) => return Err(Unusual),
            _ => {}
        }
    }
    Ok(walk.invalid)
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

fn push_text(out: &mut String, field: Field<'_>) -> Result<(), Unusual> {
    out.push_str(text(field)?);
    Ok(())
}

/// Sets both times; the error is one that the record cannot hold.
pub(crate) fn set_times(record: &mut LogRecord, time: u64, observed: u64) -> Result<(), u64> {
    for (nanos, out) in [(time, &mut record.timestamp), (observed, &mut record.observed_timestamp)] {
        *out = Timestamp(i64::try_from(nanos).map_err(|_| nanos)?);
    }
    Ok(())
}

/// Sets the severity's number, and its text where that is not given.
pub(crate) fn set_severity(record: &mut LogRecord, number: i32, invalid: &mut InvalidFields) {
    record.severity_number = severity_of(number, invalid);
    if record.severity_text.is_empty() {
        record.severity_text.push_str(model::severity_text(record.severity_number));
    }
}

struct Walk<'v> {
    visitor: &'v mut dyn LogsVisitor,
    space: RecordSpace,
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
                    push_text(&mut schema_url, field)?;
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
                    push_text(&mut schema_url, field)?;
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
                    Ok(()) => self.visitor.record(self.space.finish()),
                    Err(nanos) => self.visitor.out_of_range(nanos),
                }
            }
        }
        Ok(())
    }

    /// Reads a record into the one that is used again; the inner error is a time that it cannot hold.
    fn record(&mut self, message: &[u8]) -> Result<Result<(), u64>, Unusual> {
        let mut seen = 0;
        let (mut time, mut observed, mut severity) = (0, 0, 0_i32);
        let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
        let mut has_body = false;
        self.space.clear();
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
                3 => push_text(&mut self.space.record_mut().severity_text, field)?,
                5 => {
                    fill(&mut self.space.record_mut().body, field.bytes()?)?;
                    has_body = true;
                }
                6 => fill_pair(self.space.next_attribute(), field.bytes()?)?,
                7 => self.space.record_mut().dropped_attributes_count = field.uint32()?,
                8 => self.space.record_mut().flags = field.fixed32()?,
                9 => trace_id = field.bytes()?,
                10 => span_id = field.bytes()?,
                11 => observed = field.fixed64()?,
                12 => push_text(&mut self.space.record_mut().event_name, field)?,
                _ => {}
            }
        }
        let record = self.space.record_mut();
        if !has_body {
            record.body = Value::Null;
        }
        if let Err(nanos) = set_times(record, time, observed) {
            return Ok(Err(nanos));
        }
        set_severity(record, severity, &mut self.invalid);
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
                push_text(&mut pair.0, field)?;
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
        1 => set_text(value, text(field)?),
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
    use crate::logs_visited::{request, same_as_decoded, visited};

    /// Reads the body both ways.
    #[track_caller]
    fn same(body: &[u8]) -> bool {
        let Ok(read) = visited(|visitor| read_logs(body, visitor)) else { return false };
        same_as_decoded(&read, ExportLogsServiceRequest::decode(body).unwrap());
        true
    }

    fn read(body: &[u8]) -> Result<(), Unusual> {
        visited(|visitor| read_logs(body, visitor)).map(drop)
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
