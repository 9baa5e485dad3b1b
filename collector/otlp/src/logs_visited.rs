//! Compares what readers of requests show with what the decoder makes of the same request.

use std::sync::Arc;

use model::{LogRecord, Resource, Scope, Timestamp, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

use crate::logs::{DecodedLogs, InvalidFields, ScopedLogs, logs_from_otlp, logs_to_otlp};
use crate::logs_wire::{LogsVisitor, Unusual};

/// Collects what it is shown, as [`logs_from_otlp`] returns it.
#[derive(Default)]
pub(crate) struct Visited {
    decoded: DecodedLogs,
    resource: Arc<Resource>,
    out_of_range: u64,
}

impl LogsVisitor for Visited {
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

    fn out_of_range(&mut self, _: u64) {
        self.out_of_range += 1;
    }
}

/// Returns what a reader shows.
pub(crate) fn visited(
    read: impl FnOnce(&mut dyn LogsVisitor) -> Result<InvalidFields, Unusual>,
) -> Result<Visited, Unusual> {
    let mut visited = Visited::default();
    visited.decoded.invalid = read(&mut visited)?;
    visited.decoded.groups.retain(|group| !group.records.is_empty());
    Ok(visited)
}

/// Asserts that it is what the decoder makes of the request.
#[track_caller]
pub(crate) fn same_as_decoded(visited: &Visited, request: ExportLogsServiceRequest) {
    let mut expected = logs_from_otlp(request);
    let rejected: u64 = expected.rejected.drain(..).map(|rejected| rejected.count).sum();
    assert_eq!(visited.out_of_range, rejected);
    // Doubles compare by their bits, NaN included.
    assert_eq!(format!("{:?}", visited.decoded), format!("{expected:?}"));
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

/// Returns a request with a record of every kind.
pub(crate) fn request() -> ExportLogsServiceRequest {
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
