//! Encodes batches of records for the WAL and the head, and back. Layout: docs/format/logs-wal.md.

mod batch;
mod primitive;
mod record;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use batch::{
    BatchReader, Entry, GroupRef, NO_HASH, begin_batch, begin_group, encode_checkpoint, encode_origin, encode_stream,
    end_batch, end_group, read_entry,
};
pub(crate) use primitive::{Input, Malformed, put_bytes, put_i64, put_text, put_u32, put_varint, put_zigzag};
pub(crate) use record::{BodyRef, RecordRef, encode_record, peek_severity, peek_timestamp};
pub(crate) use value::{DEPTH_MAX, depth_within};
