//! One log record.

use model::{LogRecord, Timestamp, Value};

use super::value::{decode_pairs, decode_ref, encode_pairs, encode_value, for_each_pair, skip_pairs};
use super::{DEPTH_MAX, Input, Malformed, put_i64, put_text, put_u32, put_varint};

const HAS_OBSERVED: u8 = 1;
const HAS_SEVERITY_TEXT: u8 = 2;
const HAS_TRACE: u8 = 4;
const HAS_SPAN: u8 = 8;
const HAS_FLAGS: u8 = 16;
const HAS_EVENT: u8 = 32;
const HAS_DROPPED: u8 = 64;
const HAS_ATTRIBUTES: u8 = 128;

/// A body, or the value of an attribute; text, nearly always, is borrowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BodyRef<'a> {
    Str(&'a str),
    Other(Value),
}

/// Returns the timestamp that a record is stored under.
pub(super) fn effective(timestamp: i64, observed: i64, arrival: i64) -> i64 {
    [timestamp, observed].into_iter().find(|at| *at != 0).unwrap_or(arrival)
}

/// Appends `record`, its length first.
pub(crate) fn encode_record(out: &mut Vec<u8>, record: &LogRecord) {
    let start = out.len();
    put_u32(out, 0);
    put_i64(out, record.timestamp.0);
    let presence = [
        (HAS_OBSERVED, record.observed_timestamp != Timestamp(0)),
        (HAS_SEVERITY_TEXT, !record.severity_text.is_empty()),
        (HAS_TRACE, record.trace_id != [0; 16]),
        (HAS_SPAN, record.span_id != [0; 8]),
        (HAS_FLAGS, record.flags != 0),
        (HAS_EVENT, !record.event_name.is_empty()),
        (HAS_DROPPED, record.dropped_attributes_count != 0),
        (HAS_ATTRIBUTES, !record.attributes.is_empty()),
    ];
    let presence = presence.iter().filter(|(_, has)| *has).fold(0, |bits, (bit, _)| bits | bit);
    out.push(presence);
    out.push(record.severity_number);
    if presence & HAS_OBSERVED != 0 {
        put_i64(out, record.observed_timestamp.0);
    }
    if presence & HAS_SEVERITY_TEXT != 0 {
        put_text(out, &record.severity_text);
    }
    if presence & HAS_TRACE != 0 {
        out.extend_from_slice(&record.trace_id);
    }
    if presence & HAS_SPAN != 0 {
        out.extend_from_slice(&record.span_id);
    }
    if presence & HAS_FLAGS != 0 {
        put_u32(out, record.flags);
    }
    if presence & HAS_EVENT != 0 {
        put_text(out, &record.event_name);
    }
    if presence & HAS_DROPPED != 0 {
        put_varint(out, u64::from(record.dropped_attributes_count));
    }
    if presence & HAS_ATTRIBUTES != 0 {
        encode_pairs(out, &record.attributes);
    }
    encode_value(out, &record.body);
    let length = u32::try_from(out.len() - start - 4).expect("a record is limited to far below 4 GiB");
    if let Some(room) = out.get_mut(start..start + 4) {
        room.copy_from_slice(&length.to_le_bytes());
    }
}

/// Returns the effective timestamp without decoding the rest. `input` starts after the length.
pub(super) fn peek_timestamp(mut input: Input<'_>, arrival: i64) -> Result<i64, Malformed> {
    let timestamp = input.i64()?;
    let presence = input.u8()?;
    input.u8()?;
    let observed = if presence & HAS_OBSERVED != 0 { input.i64()? } else { 0 };
    Ok(effective(timestamp, observed, arrival))
}

/// Returns severity number and text of a record and whether it has attributes, without decoding the rest.
pub(crate) fn peek_severity(bytes: &[u8]) -> Result<(u8, &str, bool), Malformed> {
    let mut input = Input::new(bytes);
    input.i64()?;
    let presence = input.u8()?;
    let severity_number = input.u8()?;
    if presence & HAS_OBSERVED != 0 {
        input.i64()?;
    }
    let severity_text = if presence & HAS_SEVERITY_TEXT != 0 { input.text()? } else { "" };
    Ok((severity_number, severity_text, presence & HAS_ATTRIBUTES != 0))
}

/// A record whose texts are borrowed, and whose attributes are not decoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecordView<'a> {
    pub(crate) timestamp: i64,
    pub(crate) observed_timestamp: i64,
    pub(crate) severity_number: u8,
    pub(crate) severity_text: &'a str,
    pub(crate) body: BodyRef<'a>,
    /// Encoded; empty when there are none.
    attributes: &'a [u8],
    pub(crate) dropped_attributes_count: u32,
    pub(crate) flags: u32,
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) event_name: &'a str,
}

impl<'a> RecordView<'a> {
    /// Decodes a record; `bytes` is all of it, without its length.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        let timestamp = input.i64()?;
        let presence = input.u8()?;
        let severity_number = input.u8()?;
        if severity_number > 24 {
            return Err(Malformed("a severity of at most 24"));
        }
        let has = |bit: u8| presence & bit != 0;
        let observed_timestamp = if has(HAS_OBSERVED) { input.i64()? } else { 0 };
        let severity_text = if has(HAS_SEVERITY_TEXT) { input.text()? } else { "" };
        let trace_id = if has(HAS_TRACE) { input.array()? } else { [0; 16] };
        let span_id = if has(HAS_SPAN) { input.array()? } else { [0; 8] };
        let flags = if has(HAS_FLAGS) { input.u32()? } else { 0 };
        let event_name = if has(HAS_EVENT) { input.text()? } else { "" };
        let dropped_attributes_count = if has(HAS_DROPPED) {
            u32::try_from(input.varint()?).map_err(|_| Malformed("a count below 2^32"))?
        } else {
            0
        };
        let mut attributes: &[u8] = &[];
        if has(HAS_ATTRIBUTES) {
            let start = bytes.len() - input.len();
            skip_pairs(&mut input, DEPTH_MAX)?;
            attributes = bytes.get(start..bytes.len() - input.len()).unwrap_or_default();
        }
        let body = decode_ref(&mut input, DEPTH_MAX)?;
        input.end()?;
        Ok(Self {
            timestamp,
            observed_timestamp,
            severity_number,
            severity_text,
            body,
            attributes,
            dropped_attributes_count,
            flags,
            trace_id,
            span_id,
            event_name,
        })
    }

    /// Returns the attributes as they are encoded: equal bytes are equal attributes.
    pub(crate) fn encoded_attributes(&self) -> &'a [u8] {
        self.attributes
    }

    /// Calls `each` for every attribute, in their order, without a copy of what is text.
    pub(crate) fn for_each_attribute(&self, each: impl FnMut(&'a str, BodyRef<'a>)) -> Result<(), Malformed> {
        if self.attributes.is_empty() {
            return Ok(());
        }
        for_each_pair(&mut Input::new(self.attributes), DEPTH_MAX, each)
    }

    /// Decodes the attributes.
    pub(crate) fn attributes(&self) -> Result<Vec<(String, Value)>, Malformed> {
        if self.attributes.is_empty() {
            return Ok(Vec::new());
        }
        decode_pairs(&mut Input::new(self.attributes), DEPTH_MAX)
    }
}
