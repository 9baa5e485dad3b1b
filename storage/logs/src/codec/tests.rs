//! What is encoded comes back; what is damaged is an error or something else, never a panic.

use std::sync::Arc;

use bytes::Bytes;
use model::{Labels, LogRecord, Resource, Scope, Timestamp, Value};

use super::record::encode_record;
use super::*;
use crate::retry::Remembered;

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

/// Small groups, and one that gets sections of its own.
const GROUPS: [(&str, i64); 3] = [("a", 20), ("big", 600), ("b", 20)];
/// As few records as make all kinds of sections.
const FEW: [(&str, i64); 3] = [("a", 5), ("big", 70), ("b", 5)];

fn stream(name: &str) -> Labels {
    Labels::from_pairs([("service_name", name), ("z", "é")])
}

fn batch(groups: [(&str, i64); 3]) -> Bytes {
    let (resource, scope) = origin();
    let packers = Packers::default();
    let mut writer = BatchWriter::new(77, &packers);
    for (name, count) in groups {
        writer.begin_group(&encode_stream(&stream(name)), &encode_origin(&resource, &scope));
        (0..count).for_each(|i| writer.push(&record(i), |_| Ok::<_, ()>(())).unwrap());
    }
    writer.finish(5 << 100).unwrap().0
}

/// The first version of a batch, as it was written once.
fn plain_batch(groups: [(&str, i64); 3]) -> Bytes {
    let (resource, scope) = origin();
    let mut bytes = vec![1];
    put_i64(&mut bytes, 77);
    bytes.extend_from_slice(&(5_u128 << 100).to_le_bytes());
    for (name, count) in groups {
        put_bytes(&mut bytes, &encode_stream(&stream(name)));
        put_bytes(&mut bytes, &encode_origin(&resource, &scope));
        let mut records = Vec::new();
        (0..count).for_each(|i| encode_record(&mut records, &record(i)));
        put_u32(&mut bytes, u32::try_from(count).unwrap());
        put_u32(&mut bytes, u32::try_from(records.len()).unwrap());
        bytes.extend_from_slice(&records);
    }
    bytes.into()
}

fn same(decoded: &RecordView<'_>, record: &LogRecord) {
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
        attributes: decoded.attributes().unwrap(),
        dropped_attributes_count: decoded.dropped_attributes_count,
        flags: decoded.flags,
        trace_id: decoded.trace_id,
        span_id: decoded.span_id,
        event_name: decoded.event_name.to_owned(),
    };
    assert_eq!(&back, record);
}

#[track_caller]
fn check_whole(bytes: &Bytes) {
    let Entry::Batch(batch) = read_entry(bytes).unwrap() else { panic!("a batch") };
    assert_eq!((batch.arrival, batch.hash, batch.records()), (77, 5 << 100, 640));
    let (resource, scope) = origin();
    let mut parts = batch.groups.into_iter().peekable();
    let mut unpacker = Unpacker::default();
    for (name, count) in GROUPS {
        let mut i = 0;
        while let Some(group) = parts.next_if(|group| group.labels().unwrap() == stream(name)) {
            assert_eq!(group.origin().unwrap(), (Resource::clone(&resource), Scope::clone(&scope)));
            assert_eq!(group.start, group.rows[0].offset);
            for row in group.rows {
                let section = batch.sections.section_of(row.offset);
                let mut content = Vec::new();
                batch.sections.unpack(section, &mut unpacker, &mut content).unwrap();
                let bytes = batch.sections.record(section, row.offset, Some(&content)).unwrap();
                same(&RecordView::decode(bytes).unwrap(), &record(i));
                let at = [i, i % 2, 77].into_iter().find(|at| *at != 0).unwrap();
                assert_eq!(row.timestamp, at);
                i += 1;
            }
        }
        assert_eq!(i, count, "{name}");
    }
    assert!(parts.next().is_none());
}

#[test]
fn a_batch_comes_back_whole() {
    check_whole(&batch(GROUPS));
}

#[test]
fn the_first_version_of_a_batch_is_read() {
    check_whole(&plain_batch(GROUPS));
}

#[test]
fn large_groups_are_held_compressed_and_small_ones_share_what_is_plain() {
    let (resource, scope) = origin();
    let packers = Packers::default();
    let mut writer = BatchWriter::new(77, &packers);
    for (name, count) in GROUPS {
        writer.begin_group(&encode_stream(&stream(name)), &encode_origin(&resource, &scope));
        (0..count).for_each(|i| writer.push(&record(i), |_| Ok::<_, ()>(())).unwrap());
    }
    let raw = writer.raw_bytes();
    let (bytes, made) = writer.finish(0).unwrap();
    assert!(bytes.len() * 3 < raw, "{} of {raw} bytes", bytes.len());
    let Entry::Batch(read) = read_entry(&bytes).unwrap() else { panic!("a batch") };
    for batch in [&made, &read] {
        // A section is finished when it is full; the one that is shared is the last one here.
        let last = batch.sections.section_of(u32::MAX);
        assert!(last > 1 && batch.sections.size(0).1 && !batch.sections.size(last).1);
        assert!(batch.sections.size_bytes() < raw / 2);
    }
    assert_eq!(made.groups.len(), read.groups.len());
    assert!(
        made.groups.iter().zip(&read.groups).all(|(made, read)| made.rows == read.rows && made.start == read.start)
    );
}

#[test]
fn a_record_that_is_not_kept_leaves_no_trace() {
    let packers = Packers::default();
    let mut writer = BatchWriter::new(77, &packers);
    writer.begin_group(&encode_stream(&stream("a")), b"");
    assert_eq!(writer.push(&record(1), |_| Err("no")), Err("no"));
    assert_eq!((writer.records(), writer.raw_bytes()), (0, 0));
}

#[test]
fn a_checkpoint_comes_back_whole() {
    let one =
        |hash: u128, arrival: i64, times: (i64, i64)| Remembered { hash, arrival, times, streams: 1 << (hash % 64) };
    let stored = [one(1 << 90, -4, (i64::MIN, i64::MAX)), one(2, 9, (7, 8)), one(3, i64::MAX, (5, -5))];
    let bytes = Bytes::from(encode_checkpoint(&stored));
    let Entry::Checkpoint { batches, is_whole: true } = read_entry(&bytes).unwrap() else { panic!("a checkpoint") };
    assert_eq!(batches, stored);
    for at in 0..bytes.len() {
        assert!(read_entry(&bytes.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn a_checkpoint_of_the_first_version_is_read() {
    let mut bytes = vec![2, 1];
    bytes.extend_from_slice(&77_u128.to_le_bytes());
    bytes.extend_from_slice(&(-4_i64).to_le_bytes());
    let Entry::Checkpoint { batches, is_whole: false } = read_entry(&bytes.into()).unwrap() else {
        panic!("a checkpoint")
    };
    assert_eq!(batches, [Remembered { hash: 77, arrival: -4, times: (i64::MIN, i64::MAX), streams: u64::MAX }]);
}

#[test]
fn every_truncation_of_a_batch_is_an_error() {
    let bytes = batch(FEW);
    for at in 0..bytes.len() {
        assert!(read_entry(&bytes.slice(..at)).is_err(), "cut at {at}");
    }
}

#[test]
fn every_truncation_inside_a_group_of_a_plain_batch_is_an_error() {
    let bytes = plain_batch(FEW);
    let whole = (0..bytes.len()).filter(|at| read_entry(&bytes.slice(..*at)).is_ok()).count();
    assert_eq!(whole, 3, "only the borders of groups may end a batch");
}

#[test]
fn flipped_bytes_never_panic() {
    let Entry::Batch(read) = read_entry(&batch(FEW)).unwrap() else { panic!("a batch") };
    assert!((0..2).any(|section| read.sections.size(section).1), "one section is compressed");
    for bytes in [batch(FEW), plain_batch(FEW)] {
        for at in 0..bytes.len() {
            for flip in [1, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flip;
                drop(read_entry(&damaged.into()));
            }
        }
    }
}

#[test]
fn counts_beyond_the_bytes_allocate_nothing() {
    for checkpoint in [2, 4] {
        let mut bytes = vec![checkpoint];
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(read_entry(&bytes.into()).unwrap_err(), Malformed("no more items than bytes"));
    }
    // A section that says it is larger than any batch.
    let mut bytes = vec![3];
    bytes.extend_from_slice(&[0; 24]);
    put_varint(&mut bytes, 65 << 20);
    put_bytes(&mut bytes, &zstd::bulk::compress(&[0], 1).unwrap());
    assert_eq!(read_entry(&bytes.into()).unwrap_err(), Malformed("a batch of at most 64 MiB"));
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
    assert!(RecordView::decode(&record(deep.clone())[4..]).is_ok());
    let deeper = Value::Array(vec![deep]);
    assert!(!depth_within(&deeper, DEPTH_MAX));
    assert_eq!(RecordView::decode(&record(deeper)[4..]), Err(Malformed("less nesting")));
}
