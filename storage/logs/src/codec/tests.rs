//! What is encoded comes back; what is damaged is an error or something else, never a panic.

use std::sync::Arc;

use model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};

use super::*;

fn record(i: i64) -> LogRecord {
    LogRecord {
        timestamp: Timestamp(i),
        observed_timestamp: Timestamp(i % 2),
        severity_number: u8::try_from(i % 25).unwrap(),
        severity_text: if i % 3 == 0 { "경고".to_owned() } else { String::new() },
        body: match i % 4 {
            0 => Value::from("a line"),
            1 => Value::Map(vec![
                ("a".to_owned(), Value::Array(vec![Value::Null, Value::Bool(true), Value::Double(f64::INFINITY)])),
                ("a".to_owned(), Value::Bytes(vec![0, 255])),
            ]),
            2 => Value::Int(i64::MIN),
            _ => Value::Null,
        },
        attributes: vec![("k".to_owned(), Value::Int(i)), (String::new(), Value::from("")), ("k".into(), Value::Null)],
        dropped_attributes_count: if i % 2 == 0 { u32::MAX } else { 0 },
        flags: u32::try_from(i % 2).unwrap(),
        trace_id: [u8::try_from(i % 2).unwrap(); 16],
        span_id: [u8::try_from(i % 3).unwrap(); 8],
        event_name: if i % 5 == 0 { "click".to_owned() } else { String::new() },
    }
}

fn origin() -> (Arc<Resource>, Arc<Scope>) {
    let resource = Resource {
        attributes: vec![("service.name".to_owned(), Value::from("cart"))],
        dropped_attributes_count: 1,
        schema_url: "https://r".to_owned(),
    };
    let scope = Scope {
        name: "lib".to_owned(),
        version: "1".to_owned(),
        attributes: vec![("x".to_owned(), Value::Bool(false))],
        dropped_attributes_count: 2,
        schema_url: "https://s".to_owned(),
    };
    (Arc::new(resource), Arc::new(scope))
}

fn batch() -> Vec<u8> {
    let (resource, scope) = origin();
    let mut bytes = begin_batch(77);
    for name in ["a", "b"] {
        let stream = encode_stream(&Labels::from_pairs([("service_name", name), ("z", "é")]));
        let start = begin_group(&mut bytes, &stream, &encode_origin(&resource, &scope));
        (0..20).for_each(|i| encode_record(&mut bytes, &record(i)));
        end_group(&mut bytes, start, 20);
    }
    end_batch(&mut bytes, 5 << 100);
    bytes
}

fn same(decoded: &RecordRef<'_>, record: &LogRecord) {
    let body = match &decoded.body {
        BodyRef::Str(text) => Value::from(*text),
        BodyRef::Other(value) => value.clone(),
    };
    let back = LogRecord {
        timestamp: Timestamp(decoded.timestamp),
        observed_timestamp: Timestamp(decoded.observed_timestamp),
        severity_number: decoded.severity_number,
        severity_text: decoded.severity_text.to_owned(),
        body,
        attributes: decoded.attributes.clone(),
        dropped_attributes_count: decoded.dropped_attributes_count,
        flags: decoded.flags,
        trace_id: decoded.trace_id,
        span_id: decoded.span_id,
        event_name: decoded.event_name.to_owned(),
    };
    assert_eq!(&back, record);
}

#[test]
fn a_batch_comes_back_whole() {
    let bytes = batch();
    let Entry::Batch(mut reader) = read_entry(&bytes).unwrap() else { panic!("a batch") };
    assert_eq!((reader.arrival, reader.hash), (77, 5 << 100));
    let (resource, scope) = origin();
    for name in ["a", "b"] {
        let group = reader.next_group().unwrap().unwrap();
        assert_eq!(group.labels().unwrap(), Labels::from_pairs([("service_name", name), ("z", "é")]));
        assert_eq!(group.origin().unwrap(), (Resource::clone(&resource), Scope::clone(&scope)));
        assert_eq!(group.records.len(), 20);
        for (i, (offset, length)) in (0..).zip(&group.records) {
            let (start, end) = (*offset as usize, (*offset + *length) as usize);
            same(&RecordRef::decode(&bytes[start..end]).unwrap(), &record(i));
        }
    }
    assert!(reader.next_group().unwrap().is_none());
}

#[test]
fn a_checkpoint_comes_back_whole() {
    let hashes = [(1_u128 << 90, -4_i64), (2, 9)];
    let bytes = encode_checkpoint(hashes.into_iter());
    let Entry::Checkpoint(back) = read_entry(&bytes).unwrap() else { panic!("a checkpoint") };
    assert_eq!(back, hashes);
    for at in 0..bytes.len() {
        assert!(read_entry(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn every_truncation_inside_a_group_is_an_error() {
    let bytes = batch();
    let mut whole_groups = 0;
    for at in 0..bytes.len() {
        match read_entry(&bytes[..at]) {
            Ok(_) => whole_groups += 1,
            Err(Malformed(expected)) => assert!(!expected.is_empty()),
        }
    }
    assert_eq!(whole_groups, 2, "only the borders of groups may end a batch");
}

#[test]
fn flipped_bytes_never_panic() {
    let bytes = batch();
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            drop(read_entry(&damaged));
        }
    }
}

#[test]
fn counts_beyond_the_bytes_allocate_nothing() {
    let mut bytes = vec![2];
    put_varint(&mut bytes, u64::MAX);
    assert_eq!(read_entry(&bytes).unwrap_err(), Malformed("no more items than bytes"));
}

#[test]
fn nesting_is_limited() {
    let deep = (0..DEPTH_MAX).fold(Value::Null, |value, _| Value::Array(vec![value]));
    assert!(depth_within(&deep, DEPTH_MAX));
    let record = |body: Value| {
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &LogRecord { body, ..LogRecord::default() });
        bytes
    };
    assert!(RecordRef::decode(&record(deep.clone())[4..]).is_ok());
    let deeper = Value::Array(vec![deep]);
    assert!(!depth_within(&deeper, DEPTH_MAX));
    assert_eq!(RecordRef::decode(&record(deeper)[4..]), Err(Malformed("less nesting")));
}
