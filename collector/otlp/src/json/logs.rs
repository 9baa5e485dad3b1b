//! Logs requests, and what they share with metrics requests: values, attributes, resource, scope.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1 as otlp;
use opentelemetry_proto::tonic::resource::v1 as resource;
use serde::Deserialize;

use super::scalar::{Base64, Choice, Hex, Int, Many, Named, Real, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    #[serde(alias = "resource_logs")]
    resource_logs: Many<ResourceLogs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceLogs {
    resource: Option<Resource>,
    #[serde(alias = "scope_logs")]
    scope_logs: Many<ScopeLogs>,
    #[serde(alias = "schema_url")]
    schema_url: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeLogs {
    scope: Option<Scope>,
    #[serde(alias = "log_records")]
    log_records: Many<LogRecord>,
    #[serde(alias = "schema_url")]
    schema_url: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogRecord {
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Int<u64>,
    #[serde(alias = "observed_time_unix_nano")]
    observed_time_unix_nano: Int<u64>,
    #[serde(alias = "severity_number")]
    severity_number: Choice<otlp::SeverityNumber>,
    #[serde(alias = "severity_text")]
    severity_text: Text,
    body: Option<AnyValue>,
    attributes: Many<KeyValue>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Int<u32>,
    flags: Int<u32>,
    #[serde(alias = "trace_id")]
    trace_id: Hex,
    #[serde(alias = "span_id")]
    span_id: Hex,
    #[serde(alias = "event_name")]
    event_name: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    attributes: Many<KeyValue>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Int<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Scope {
    name: Text,
    version: Text,
    attributes: Many<KeyValue>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Int<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    key: Text,
    value: Option<AnyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AnyValue {
    #[serde(alias = "string_value")]
    string_value: Option<String>,
    #[serde(alias = "bool_value")]
    bool_value: Option<bool>,
    #[serde(alias = "int_value")]
    int_value: Option<Int<i64>>,
    #[serde(alias = "double_value")]
    double_value: Option<Real>,
    #[serde(alias = "array_value")]
    array_value: Option<List>,
    #[serde(alias = "kvlist_value")]
    kvlist_value: Option<Map>,
    #[serde(alias = "bytes_value")]
    bytes_value: Option<Base64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct List {
    values: Many<AnyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Map {
    values: Many<KeyValue>,
}

impl Named for otlp::SeverityNumber {
    fn number(name: &str) -> Option<i32> {
        Self::from_str_name(name).map(Into::into)
    }
}

impl From<Request> for ExportLogsServiceRequest {
    fn from(from: Request) -> Self {
        Self { resource_logs: from.resource_logs.to() }
    }
}

impl From<ResourceLogs> for otlp::ResourceLogs {
    fn from(from: ResourceLogs) -> Self {
        Self {
            resource: from.resource.map(Into::into),
            scope_logs: from.scope_logs.to(),
            schema_url: from.schema_url.0,
        }
    }
}

impl From<ScopeLogs> for otlp::ScopeLogs {
    fn from(from: ScopeLogs) -> Self {
        Self { scope: from.scope.map(Into::into), log_records: from.log_records.to(), schema_url: from.schema_url.0 }
    }
}

impl From<LogRecord> for otlp::LogRecord {
    fn from(from: LogRecord) -> Self {
        Self {
            time_unix_nano: from.time_unix_nano.0,
            observed_time_unix_nano: from.observed_time_unix_nano.0,
            severity_number: from.severity_number.0,
            severity_text: from.severity_text.0,
            body: from.body.map(Into::into),
            attributes: from.attributes.to(),
            dropped_attributes_count: from.dropped_attributes_count.0,
            flags: from.flags.0,
            trace_id: from.trace_id.0,
            span_id: from.span_id.0,
            event_name: from.event_name.0,
        }
    }
}

impl From<Resource> for resource::Resource {
    fn from(from: Resource) -> Self {
        Self {
            attributes: from.attributes.to(),
            dropped_attributes_count: from.dropped_attributes_count.0,
            entity_refs: Vec::new(),
        }
    }
}

impl From<Scope> for common::InstrumentationScope {
    fn from(from: Scope) -> Self {
        Self {
            name: from.name.0,
            version: from.version.0,
            attributes: from.attributes.to(),
            dropped_attributes_count: from.dropped_attributes_count.0,
        }
    }
}

impl From<KeyValue> for common::KeyValue {
    fn from(from: KeyValue) -> Self {
        Self { key: from.key.0, value: from.value.map(Into::into), key_strindex: 0 }
    }
}

impl From<List> for Any {
    fn from(from: List) -> Self {
        Self::ArrayValue(common::ArrayValue { values: from.values.to() })
    }
}

impl From<Map> for Any {
    fn from(from: Map) -> Self {
        Self::KvlistValue(common::KeyValueList { values: from.values.to() })
    }
}

impl From<AnyValue> for common::AnyValue {
    fn from(from: AnyValue) -> Self {
        let value = None
            .or(from.string_value.map(Any::StringValue))
            .or(from.bool_value.map(Any::BoolValue))
            .or(from.int_value.map(|number| Any::IntValue(number.0)))
            .or(from.double_value.map(|number| Any::DoubleValue(number.0)))
            .or(from.array_value.map(Into::into))
            .or(from.kvlist_value.map(Into::into))
            .or(from.bytes_value.map(|bytes| Any::BytesValue(bytes.0)));
        Self { value }
    }
}

#[cfg(test)]
mod tests {
    use super::super::logs_from_json;
    use crate::{logs_from_otlp, value_text};

    #[test]
    fn the_forms_that_senders_write_are_read() {
        let body = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},
            "scopeLogs":[{"scope":null,"logRecords":[{"timeUnixNano":"1544712660300000000","observed_time_unix_nano":7,
            "severityNumber":"SEVERITY_NUMBER_WARN","traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174",
            "unknownField":[1,{"x":2}],"attributes":null,
            "body":{"kvlistValue":{"values":[{"key":"l","value":{"arrayValue":{}}},{"key":"n","value":{"intValue":"-3"}},
            {"key":"b","value":{"bytesValue":"aGVsbG8="}},{"key":"d","value":{"doubleValue":"NaN"}},{"key":"e","value":{}}]}}}]}]}]}"#;
        let decoded = logs_from_otlp(logs_from_json(body).unwrap());
        let record = &decoded.groups[0].records[0];
        assert_eq!(record.timestamp.0, 1_544_712_660_300_000_000);
        assert_eq!((record.observed_timestamp.0, record.severity_number), (7, 13));
        assert_eq!(record.trace_id[..3], [0x5b, 0x8e, 0xff]);
        assert_eq!(value_text(&record.body), r#"{"l":[],"n":-3,"b":"aGVsbG8=","d":"NaN","e":null}"#);
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        for (body, expected) in [
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"xyz"}]}]}]}"#, "not in hex"),
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"-1"}]}]}]}"#, "-1 is out of range"),
            (r#"{"resourceLogs":{}}"#, "expected a sequence"),
            (r#"{"resourceLogs":["#, "EOF while parsing"),
        ] {
            let error = logs_from_json(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("line 1 column"), "{error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let body = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}"#,
            r#"{"arrayValue":{"values":["#.repeat(10_000)
        );
        assert!(logs_from_json(body.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
    }
}
