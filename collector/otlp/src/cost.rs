//! How much memory a protobuf request takes once decoded, found by a walk that decodes nothing.
//!
//! An empty data point is two bytes on the wire and over a hundred in memory. A receiver that looks at the wire size only
//! can be made to hold fifty times its limit, so it asks here first.

use std::mem::size_of;

use opentelemetry_proto::tonic::{common::v1 as common, logs::v1 as logs};

/// Deepest nesting that is looked into; the decoder refuses deeper ones.
const DEPTH_MAX: u32 = 100;

/// One kind of message: its size and which fields hold more messages.
struct Message {
    size: usize,
    fields: &'static [(u32, Field)],
}

enum Field {
    /// A message, held in a list.
    Many(&'static Message),
}

static ANY_VALUE: Message =
    Message { size: size_of::<common::AnyValue>(), fields: &[(5, Field::Many(&LIST)), (6, Field::Many(&ATTRIBUTES))] };
static LIST: Message = Message { size: 0, fields: &[(1, Field::Many(&ANY_VALUE))] };
static ATTRIBUTES: Message = Message { size: 0, fields: &[(1, Field::Many(&KEY_VALUE))] };
// The value lies inside the pair, and is counted again as a list's entry would be: an upper bound will do.
static KEY_VALUE: Message = Message { size: size_of::<common::KeyValue>(), fields: &[(2, Field::Many(&ANY_VALUE))] };
static SCOPE: Message = Message { size: 0, fields: &[(3, Field::Many(&KEY_VALUE))] };
static ENTITY: Message = Message { size: size_of::<common::EntityRef>(), fields: &[] };
static RESOURCE: Message = Message { size: 0, fields: &[(1, Field::Many(&KEY_VALUE)), (3, Field::Many(&ENTITY))] };

static LOG_RECORD: Message = Message {
    size: size_of::<logs::LogRecord>(),
    fields: &[(5, Field::Many(&ANY_VALUE)), (6, Field::Many(&KEY_VALUE))],
};
static SCOPE_LOGS: Message =
    Message { size: size_of::<logs::ScopeLogs>(), fields: &[(1, Field::Many(&SCOPE)), (2, Field::Many(&LOG_RECORD))] };
static RESOURCE_LOGS: Message = Message {
    size: size_of::<logs::ResourceLogs>(),
    fields: &[(1, Field::Many(&RESOURCE)), (2, Field::Many(&SCOPE_LOGS))],
};
static LOGS: Message = Message { size: 0, fields: &[(1, Field::Many(&RESOURCE_LOGS))] };

/// Returns about how many bytes an `ExportLogsServiceRequest` takes once decoded, rather more than less. What cannot be
/// decoded counts as far as it is well-formed.
#[must_use]
pub fn logs_decoded_bytes(body: &[u8]) -> u64 {
    decoded_bytes(body, &LOGS)
}

fn decoded_bytes(body: &[u8], message: &Message) -> u64 {
    // Text and numbers take no more than on the wire. Lists may have as much again in reserve.
    body.len() as u64 + walk(body, message, DEPTH_MAX) * 2
}

fn walk(mut bytes: &[u8], message: &Message, depth: u32) -> u64 {
    let mut sum = message.size as u64;
    while !bytes.is_empty() {
        let Some(key) = varint(&mut bytes) else { return sum };
        let skip = match key & 7 {
            0 => {
                if varint(&mut bytes).is_none() {
                    return sum;
                }
                continue;
            }
            1 => 8,
            5 => 4,
            2 => match varint(&mut bytes).and_then(|length| usize::try_from(length).ok()) {
                Some(length) => length,
                None => return sum,
            },
            _ => return sum,
        };
        let Some((inner, rest)) = bytes.split_at_checked(skip) else { return sum };
        bytes = rest;
        if key & 7 != 2 {
            continue;
        }
        match message.fields.iter().find(|(tag, _)| u64::from(*tag) == key >> 3) {
            Some((_, Field::Many(message))) if depth > 0 => sum += walk(inner, message, depth - 1),
            Some((_, Field::Many(_))) | None => {}
        }
    }
    sum
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = bytes.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::ExportLogsServiceRequest;

    #[test]
    fn empty_records_are_seen_for_what_they_cost() {
        let log_records = vec![logs::LogRecord::default(); 1000];
        let scope_logs = vec![logs::ScopeLogs { log_records, ..Default::default() }];
        let resource_logs = vec![logs::ResourceLogs { scope_logs, ..Default::default() }];
        let body = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        assert!(body.len() < 2100);
        assert!(logs_decoded_bytes(&body) > 1000 * size_of::<logs::LogRecord>() as u64);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked(bytes: Vec<u8>) {
            prop_assert!(logs_decoded_bytes(&bytes) >= bytes.len() as u64);
        }
    }
}
