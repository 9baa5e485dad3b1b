//! What is shown is what the decoder makes of the same text.

use proptest::prelude::*;

use super::*;
use crate::json::logs_from_json;
use crate::logs_visited::{request, same_as_decoded, visited};
use crate::value::{base64, value_text};

/// Reads a text both ways; says whether it is of the usual form.
#[track_caller]
fn same(body: &str) -> bool {
    let Ok(shown) = visited(|visitor| read_logs_json(body.as_bytes(), visitor)) else { return false };
    same_as_decoded(&shown, logs_from_json(body.as_bytes()).expect("what is shown can be decoded"));
    true
}

fn wrapped(record: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"flags":1}},{{{record}}},{{}}]}}]}}]}}"#)
}

fn value_json(value: &Value) -> String {
    match value {
        Value::Null => "{}".to_owned(),
        Value::Bool(yes) => format!(r#"{{"boolValue":{yes}}}"#),
        Value::Int(number) => format!(r#"{{"intValue":"{number}"}}"#),
        Value::Double(number) => format!(r#"{{"doubleValue":{number:?}}}"#),
        Value::Str(text) => format!(r#"{{"stringValue":{}}}"#, serde_json::to_string(text).unwrap()),
        Value::Bytes(bytes) => format!(r#"{{"bytesValue":"{}"}}"#, base64(bytes)),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(value_json).collect();
            format!(r#"{{"arrayValue":{{"values":[{}]}}}}"#, values.join(","))
        }
        Value::Map(pairs) => format!(r#"{{"kvlistValue":{{"values":{}}}}}"#, pairs_json(pairs)),
    }
}

fn pairs_json(pairs: &[(String, Value)]) -> String {
    let pair = |(key, value): &(String, Value)| format!(r#"{{"key":"{key}","value":{}}}"#, value_json(value));
    format!("[{}]", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
}

/// Prints a request as a sender does, schema URLs last.
fn request_json() -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let decoded = crate::logs_from_otlp(request());
    let groups = decoded.groups.iter().map(|group| {
        let records = group.records.iter().map(|record| {
            format!(
                r#"{{"timeUnixNano":"{}","observedTimeUnixNano":{},"severityNumber":{},"severityText":"{}","body":{},
                "attributes":{},"droppedAttributesCount":{},"flags":{},"traceId":"{}","spanId":"{}","eventName":"{}"}}"#,
                record.timestamp.0,
                record.observed_timestamp.0,
                record.severity_number,
                record.severity_text,
                value_json(&record.body),
                pairs_json(&record.attributes),
                record.dropped_attributes_count,
                record.flags,
                hex(&record.trace_id),
                hex(&record.span_id),
                record.event_name,
            )
        });
        format!(
            r#"{{"resource":{{"attributes":{},"droppedAttributesCount":1}},"scopeLogs":[{{"scope":{{"name":"{}"}},
            "logRecords":[{}],"schemaUrl":"s"}}],"schemaUrl":"https://r"}}"#,
            pairs_json(&group.resource.attributes),
            value_text(&Value::from(group.scope.name.as_str())),
            records.collect::<Vec<_>>().join(",")
        )
    });
    format!(r#"{{"resourceLogs":[{}]}}"#, groups.collect::<Vec<_>>().join(","))
}

#[test]
fn requests_are_shown_as_they_are_decoded() {
    assert!(same(&request_json()));
    for body in [
        "{}",
        r#"{"resourceLogs":null}"#,
        r#"{"resource_logs":[{"scope_logs":null},{}]}"#,
        r#"{"resourceLogs":[{"resource":null,"scopeLogs":[{"scope":null,"logRecords":null}]}],"else":[{"a":1}]}"#,
        r#"{"resourceLogs":[{"schemaUrl":"x","scopeLogs":[{"schema_url":"y","log_records":[{}]}]},{"scopeLogs":[{"logRecords":[{}]}]}]}"#,
    ] {
        assert!(same(body), "{body}");
    }
}

#[test]
fn records_in_every_form_are_shown_as_they_are_decoded() {
    for record in [
        r#""timeUnixNano":"18446744073709551615","flags":7"#,
        r#""observedTimeUnixNano":9223372036854775808"#,
        r#""timeUnixNano":1e3,"severityNumber":"SEVERITY_NUMBER_WARN""#,
        r#""severityNumber":99,"severityText":null,"eventName":"e\u00e9""#,
        r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174""#,
        r#""traceId":"5b","spanId":"eee19b7ec3c1b174eee19b7ec3c1b174ee""#,
        r#""traceId":"","spanId":null"#,
        r#""body":null,"attributes":null,"droppedAttributesCount":null"#,
        r#""body":{"stringValue":"a \"quoted\" line\n"},"unknown":{"body":1}"#,
        r#""body":{"stringValue":null},"attributes":[{"key":"a"},{"value":{"intValue":-3}},{}]"#,
        r#""body":{"unknown":1},"attributes":[{"key":"결제","value":null},{"key":null,"value":{"doubleValue":"NaN"}}]"#,
        r#""attributes":[{"key":"l","value":{"arrayValue":{"values":[{"boolValue":true},{}]}}},{"key":"m","value":{"kvlistValue":{}}}]"#,
        r#""body":{"bytesValue":"aGVsbG8="},"attributes":[{"key":"n","value":{"array_value":null}}]"#,
    ] {
        assert!(same(&wrapped(record)), "{record}");
    }
}

#[test]
fn what_is_not_usual_is_left_to_the_decoder() {
    for record in [
        r#""body":{"stringValue":"a","intValue":1}"#,
        r#""body":{"stringValue":null,"intValue":1}"#,
        r#""flags":1,"flags":2"#,
        r#""traceId":"5""#,
        r#""traceId":"zz""#,
        r#""timeUnixNano":"-1""#,
        r#""severityText":3"#,
        r#""body":[]"#,
    ] {
        assert!(!same(&wrapped(record)), "{record}");
    }
    for body in [
        r#"{"resourceLogs":[{"scopeLogs":[],"resource":{}}]}"#,
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[],"scope":{}}]}]}"#,
        r#"{"resourceLogs":[],"resource_logs":[]}"#,
        r#"{"resourceLogs":[]} x"#,
        "[]",
        "",
    ] {
        assert!(!same(body), "{body}");
    }
}

proptest! {
    #[test]
    fn damaged_text_is_shown_as_it_is_decoded_or_not_at_all(damage: Vec<(prop::sample::Index, u8)>) {
        let mut body = request_json().into_bytes();
        for (at, byte) in damage.into_iter().take(3) {
            let at = at.index(body.len());
            body[at] = byte % 0x80;
        }
        same(std::str::from_utf8(&body).unwrap_or(""));
    }
}
