//! Encodes batches of records for the WAL and the head, and back. Layout: docs/format/logs-wal.md.

mod batch;
mod batch_writer;
mod pack;
mod primitive;
mod record;
mod section;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use batch::{Batch, Entry, Group, NO_HASH, encode_checkpoint, encode_origin, encode_stream, read_entry};
pub(crate) use batch_writer::BatchWriter;
pub(crate) use pack::{BATCH_BYTES_MAX, Packers, Unpacker};
pub(crate) use primitive::{Input, Malformed, put_bytes, put_i64, put_text, put_u32, put_varint, put_zigzag, unzigzag};
#[cfg(test)]
pub(crate) use record::encode_record;
pub(crate) use record::{BodyRef, RecordView, peek_severity};
pub(crate) use section::Sections;
pub(crate) use value::{DEPTH_MAX, depth_within};
