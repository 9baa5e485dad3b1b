//! OTLP logs requests to the model's records, and back.

use std::sync::Arc;

use model::{LogRecord, Resource, Scope, Timestamp, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1 as otlp;
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;

use crate::value::{attributes_from_otlp, attributes_to_otlp, value_from_otlp, value_to_otlp};

/// Log records of one resource and scope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScopedLogs {
    /// Who emitted.
    pub resource: Arc<Resource>,
    /// Which instrumentation library.
    pub scope: Arc<Scope>,
    /// The records, in the order they came.
    pub records: Vec<LogRecord>,
}

/// What a logs request held.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DecodedLogs {
    /// The records that the model can hold, one group per scope that has any.
    pub groups: Vec<ScopedLogs>,
    /// The records that it cannot hold.
    pub rejected: Vec<RejectedRecords>,
    /// Fields that were taken as "none".
    pub invalid: InvalidFields,
}

/// How many fields had a value that they cannot have, and were taken as "none". OTLP asks a receiver to do so; the record
/// itself is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InvalidFields {
    /// Trace ids of a length other than 16 bytes.
    pub trace_ids: u64,
    /// Span ids of a length other than 8 bytes.
    pub span_ids: u64,
    /// Severity numbers outside 0-24.
    pub severity_numbers: u64,
}

/// Records that were not taken, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecords {
    /// A short word for a counter's label.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// The first case, in words.
    pub detail: String,
}

/// Turns a logs request into records. Resources and scopes are shared, not copied.
///
/// A record whose time lies after the year 2262 is rejected with reason `timestamp_out_of_range`; severity numbers
/// outside 1-24 become 0, ids of a wrong length become "none". A record with a severity number and no text gets the
/// number's short name, so that one label says the severity of all.
#[must_use]
pub fn logs_from_otlp(request: ExportLogsServiceRequest) -> DecodedLogs {
    let mut decoded = DecodedLogs::default();
    for resource_logs in request.resource_logs {
        let resource = Arc::new(resource_from_otlp(resource_logs.resource, resource_logs.schema_url));
        for scope_logs in resource_logs.scope_logs {
            let scope = Arc::new(scope_from_otlp(scope_logs.scope, scope_logs.schema_url));
            let mut records = Vec::with_capacity(scope_logs.log_records.len());
            for record in scope_logs.log_records {
                match record_from_otlp(record, &mut decoded.invalid) {
                    Ok(record) => records.push(record),
                    Err(nanos) => decoded.reject(nanos),
                }
            }
            if !records.is_empty() {
                decoded.groups.push(ScopedLogs { resource: Arc::clone(&resource), scope, records });
            }
        }
    }
    decoded
}

impl DecodedLogs {
    fn reject(&mut self, nanos: u64) {
        match self.rejected.first_mut() {
            Some(rejected) => rejected.count += 1,
            None => self.rejected.push(RejectedRecords {
                reason: "timestamp_out_of_range",
                count: 1,
                detail: out_of_range_detail(nanos),
            }),
        }
    }
}

/// Says that a record's time is rejected with reason `timestamp_out_of_range`.
#[must_use]
pub fn out_of_range_detail(nanos: u64) -> String {
    format!("a log record has the time {nanos} ns, the last one possible is {} ns", i64::MAX)
}

/// Turns records into a logs request. Groups that follow each other and share a resource become one `ResourceLogs`.
#[must_use]
pub fn logs_to_otlp(groups: impl IntoIterator<Item = ScopedLogs>) -> ExportLogsServiceRequest {
    let mut resource_logs: Vec<otlp::ResourceLogs> = Vec::new();
    let mut last: Option<Arc<Resource>> = None;
    for group in groups {
        let same = last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &group.resource) || *last == group.resource);
        if !same {
            resource_logs.push(otlp::ResourceLogs {
                resource: Some(resource_to_otlp(&group.resource)),
                scope_logs: Vec::new(),
                schema_url: group.resource.schema_url.clone(),
            });
            last = Some(Arc::clone(&group.resource));
        }
        let scope_logs = otlp::ScopeLogs {
            scope: Some(scope_to_otlp(&group.scope)),
            log_records: group.records.into_iter().map(record_to_otlp).collect(),
            schema_url: group.scope.schema_url.clone(),
        };
        if let Some(resource_logs) = resource_logs.last_mut() {
            resource_logs.scope_logs.push(scope_logs);
        }
    }
    ExportLogsServiceRequest { resource_logs }
}

pub(crate) fn resource_from_otlp(resource: Option<OtlpResource>, schema_url: String) -> Resource {
    let resource = resource.unwrap_or_default();
    Resource {
        attributes: attributes_from_otlp(resource.attributes),
        dropped_attributes_count: resource.dropped_attributes_count,
        schema_url,
    }
}

pub(crate) fn scope_from_otlp(scope: Option<InstrumentationScope>, schema_url: String) -> Scope {
    let scope = scope.unwrap_or_default();
    Scope {
        name: scope.name,
        version: scope.version,
        attributes: attributes_from_otlp(scope.attributes),
        dropped_attributes_count: scope.dropped_attributes_count,
        schema_url,
    }
}

pub(crate) fn resource_to_otlp(resource: &Resource) -> OtlpResource {
    OtlpResource {
        attributes: attributes_to_otlp(resource.attributes.clone()),
        dropped_attributes_count: resource.dropped_attributes_count,
        entity_refs: Vec::new(),
    }
}

pub(crate) fn scope_to_otlp(scope: &Scope) -> InstrumentationScope {
    InstrumentationScope {
        name: scope.name.clone(),
        version: scope.version.clone(),
        attributes: attributes_to_otlp(scope.attributes.clone()),
        dropped_attributes_count: scope.dropped_attributes_count,
    }
}

/// Returns the record, or the time that does not fit.
fn record_from_otlp(record: otlp::LogRecord, invalid: &mut InvalidFields) -> Result<LogRecord, u64> {
    let time = |nanos: u64| i64::try_from(nanos).map(Timestamp).map_err(|_| nanos);
    let (timestamp, observed_timestamp) = (time(record.time_unix_nano)?, time(record.observed_time_unix_nano)?);
    let severity_number = severity_of(record.severity_number, invalid);
    let mut severity_text = record.severity_text;
    if severity_text.is_empty() {
        model::severity_text(severity_number).clone_into(&mut severity_text);
    }
    Ok(LogRecord {
        timestamp,
        observed_timestamp,
        severity_number,
        severity_text,
        body: record.body.map_or(Value::Null, value_from_otlp),
        attributes: attributes_from_otlp(record.attributes),
        dropped_attributes_count: record.dropped_attributes_count,
        flags: record.flags,
        trace_id: id(&record.trace_id, &mut invalid.trace_ids),
        span_id: id(&record.span_id, &mut invalid.span_ids),
        event_name: record.event_name,
    })
}

/// Returns a severity number; one that there is not is none.
pub(crate) fn severity_of(number: i32, invalid: &mut InvalidFields) -> u8 {
    let severity_number = u8::try_from(number).ok().filter(|number| *number <= 24);
    invalid.severity_numbers += u64::from(severity_number.is_none());
    severity_number.unwrap_or(0)
}

pub(crate) fn id<const N: usize>(bytes: &[u8], invalid: &mut u64) -> [u8; N] {
    if bytes.is_empty() {
        return [0; N];
    }
    bytes.try_into().unwrap_or_else(|_| {
        *invalid += 1;
        [0; N]
    })
}

fn record_to_otlp(record: LogRecord) -> otlp::LogRecord {
    let id = |bytes: &[u8]| if bytes.iter().all(|byte| *byte == 0) { Vec::new() } else { bytes.to_vec() };
    // OTLP's times are unsigned; a time before 1970 cannot be said and becomes "not given".
    let time = |timestamp: Timestamp| u64::try_from(timestamp.0).unwrap_or(0);
    otlp::LogRecord {
        time_unix_nano: time(record.timestamp),
        observed_time_unix_nano: time(record.observed_timestamp),
        severity_number: i32::from(record.severity_number),
        severity_text: record.severity_text,
        body: if record.body.is_null() { None } else { Some(value_to_otlp(record.body)) },
        attributes: attributes_to_otlp(record.attributes),
        dropped_attributes_count: record.dropped_attributes_count,
        flags: record.flags,
        trace_id: id(&record.trace_id),
        span_id: id(&record.span_id),
        event_name: record.event_name,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn full_record() -> LogRecord {
        LogRecord {
            timestamp: Timestamp(1_700_000_000_000_000_001),
            observed_timestamp: Timestamp(1_700_000_000_000_000_002),
            severity_number: 17,
            severity_text: "Error".to_owned(),
            body: Value::Map(vec![("a".to_owned(), Value::Array(vec![Value::Int(1), Value::Null]))]),
            attributes: vec![("k".to_owned(), Value::Bytes(vec![0, 255])), ("k".to_owned(), Value::Bool(true))],
            dropped_attributes_count: 3,
            flags: 1,
            trace_id: [7; 16],
            span_id: [9; 8],
            event_name: "click".to_owned(),
        }
    }

    #[test]
    fn records_come_back_whole_over_the_wire() {
        let resource = Arc::new(Resource {
            attributes: vec![("service.name".to_owned(), Value::from("cart"))],
            dropped_attributes_count: 1,
            schema_url: "https://r".to_owned(),
        });
        let scope = |name: &str| Arc::new(Scope { name: name.to_owned(), schema_url: "s".into(), ..Scope::default() });
        let group = |name| ScopedLogs {
            resource: Arc::clone(&resource),
            scope: scope(name),
            records: vec![full_record(), LogRecord::default()],
        };
        let groups = vec![group("a"), group("b")];
        let request = logs_to_otlp(groups.clone());
        assert_eq!(request.resource_logs.len(), 1, "one resource is written once");
        let request = ExportLogsServiceRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        assert_eq!(logs_from_otlp(request), DecodedLogs { groups, ..DecodedLogs::default() });
    }

    #[test]
    fn a_severity_without_a_text_gets_its_short_name() {
        let record = |severity_number, severity_text: &str| otlp::LogRecord {
            severity_number,
            severity_text: severity_text.to_owned(),
            ..otlp::LogRecord::default()
        };
        let log_records = vec![record(9, ""), record(18, ""), record(17, "Fehler"), record(0, ""), record(25, "")];
        let scope_logs = vec![otlp::ScopeLogs { log_records, ..otlp::ScopeLogs::default() }];
        let resource_logs = vec![otlp::ResourceLogs { scope_logs, ..otlp::ResourceLogs::default() }];
        let decoded = logs_from_otlp(ExportLogsServiceRequest { resource_logs });
        let texts: Vec<_> = decoded.groups[0].records.iter().map(|record| record.severity_text.as_str()).collect();
        assert_eq!(texts, ["INFO", "ERROR2", "Fehler", "", ""]);
    }

    #[test]
    fn odd_ids_and_severities_are_taken_as_none_and_late_times_rejected() {
        let record = |time_unix_nano, trace: usize| otlp::LogRecord {
            time_unix_nano,
            severity_number: 99,
            trace_id: vec![1; trace],
            ..otlp::LogRecord::default()
        };
        let log_records = vec![record(1, 16), record(2, 15), record(u64::MAX, 0), record(u64::MAX - 1, 0)];
        let scope_logs = vec![otlp::ScopeLogs { log_records, ..otlp::ScopeLogs::default() }];
        let resource_logs = vec![otlp::ResourceLogs { scope_logs, ..otlp::ResourceLogs::default() }];
        let decoded = logs_from_otlp(ExportLogsServiceRequest { resource_logs });
        let records = &decoded.groups[0].records;
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].trace_id, records[1].trace_id), ([1; 16], [0; 16]));
        assert_eq!(records[0].severity_number, 0);
        let invalid = InvalidFields { trace_ids: 1, span_ids: 0, severity_numbers: 2 };
        assert_eq!(decoded.invalid, invalid);
        assert_eq!((decoded.rejected[0].reason, decoded.rejected[0].count), ("timestamp_out_of_range", 2));
    }
}
