//! A WAL record: a batch of log records, or a checkpoint of recent batches.

use bytes::Bytes;
use model::{Labels, Resource, Scope, Value};

use super::batch_writer::is_small;
use super::pack::{BATCH_BYTES_MAX, Unpacker};
use super::record::peek_timestamp;
use super::section::{Held, Sections, record_at, to_u32};
use super::value::{decode_pairs, encode_pairs};
use super::{DEPTH_MAX, Input, Malformed, RecordView, put_text, put_varint, put_zigzag};
use crate::retry::{Remembered, stream_bit};

/// A batch as it is, the first version; it is read only.
const PLAIN_BATCH: u8 = 1;
/// Batches to remember beside those that are known; without the times of their records. It is read only.
const UNTIMED_CHECKPOINT: u8 = 2;
/// A compressed batch.
pub(super) const PACKED_BATCH: u8 = 3;

/// All batches to remember.
const CHECKPOINT: u8 = 4;

/// The hash of a batch that is never taken for a retry.
pub(crate) const NO_HASH: u128 = 0;

/// What a WAL record holds.
#[derive(Debug)]
pub(crate) enum Entry {
    Batch(Batch),
    /// Recent batches, oldest first: all there are, or, in the first version, some.
    Checkpoint {
        batches: Vec<Remembered>,
        is_whole: bool,
    },
}

/// Records as they came together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) arrival: i64,
    pub(crate) hash: u128,
    pub(crate) sections: Sections,
    /// In the order they came.
    pub(crate) groups: Vec<Group>,
}

/// Records of one stream and origin, in one section.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The stream's labels, encoded.
    pub(crate) stream: Vec<u8>,
    /// Resource and scope, encoded.
    pub(crate) origin: Vec<u8>,
    /// Offset of the first record.
    pub(crate) start: u32,
    pub(crate) rows: Vec<Row>,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) timestamp: i64,
    /// Offset in the batch's sections; the record's length stands there.
    pub(crate) offset: u32,
}

impl Batch {
    /// Returns how many records there are.
    pub(crate) fn records(&self) -> usize {
        self.groups.iter().map(|group| group.rows.len()).sum()
    }

    /// Returns what tells a batch that is equal.
    pub(crate) fn remembered(&self, arrival: i64) -> Remembered {
        let times = self.groups.iter().flat_map(|group| &group.rows).map(|row| row.timestamp);
        let times = times.fold((i64::MAX, i64::MIN), |(first, last), at| (first.min(at), last.max(at)));
        let streams = self.groups.iter().fold(0, |bits, group| bits | stream_bit(&group.stream));
        Remembered { hash: self.hash, arrival, times, streams }
    }
}

/// Encodes a label set.
pub(crate) fn encode_stream(labels: &Labels) -> Vec<u8> {
    let mut out = Vec::with_capacity(labels.size_bytes());
    put_varint(&mut out, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_text(&mut out, name);
        put_text(&mut out, value);
    }
    out
}

/// Encodes resource and scope.
pub(crate) fn encode_origin(resource: &Resource, scope: &Scope) -> Vec<u8> {
    let mut out = Vec::new();
    encode_pairs(&mut out, &resource.attributes);
    put_varint(&mut out, u64::from(resource.dropped_attributes_count));
    put_text(&mut out, &resource.schema_url);
    put_text(&mut out, &scope.name);
    put_text(&mut out, &scope.version);
    encode_pairs(&mut out, &scope.attributes);
    put_varint(&mut out, u64::from(scope.dropped_attributes_count));
    put_text(&mut out, &scope.schema_url);
    out
}

/// Encodes all recent batches, oldest first.
pub(crate) fn encode_checkpoint(batches: &[Remembered]) -> Vec<u8> {
    let mut out = vec![CHECKPOINT];
    put_varint(&mut out, batches.len() as u64);
    let mut last_arrival = 0;
    for Remembered { hash, arrival, times: (first, last), streams } in batches {
        out.extend_from_slice(&hash.to_le_bytes());
        out.extend_from_slice(&streams.to_le_bytes());
        put_zigzag(&mut out, arrival.wrapping_sub(last_arrival));
        put_zigzag(&mut out, first.wrapping_sub(*arrival));
        put_zigzag(&mut out, last.wrapping_sub(*first));
        last_arrival = *arrival;
    }
    out
}

fn read_checkpoint(mut input: Input<'_>) -> Result<Entry, Malformed> {
    let count = input.count(27)?;
    let mut batches = Vec::with_capacity(count);
    let mut last_arrival = 0_i64;
    for _ in 0..count {
        let (hash, streams) = (input.u128()?, input.i64()?.cast_unsigned());
        let arrival = last_arrival.wrapping_add(input.zigzag()?);
        let first = arrival.wrapping_add(input.zigzag()?);
        let last = first.wrapping_add(input.zigzag()?);
        batches.push(Remembered { hash, arrival, times: (first, last), streams });
        last_arrival = arrival;
    }
    input.end()?;
    Ok(Entry::Checkpoint { batches, is_whole: true })
}

/// Reads a checkpoint of the first version: its batches may have records of any stream and time.
fn read_untimed_checkpoint(mut input: Input<'_>) -> Result<Entry, Malformed> {
    let count = input.count(24)?;
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        let (hash, arrival) = (input.u128()?, input.i64()?);
        batches.push(Remembered { hash, arrival, times: (i64::MIN, i64::MAX), streams: u64::MAX });
    }
    input.end()?;
    Ok(Entry::Checkpoint { batches, is_whole: false })
}

/// Decodes a WAL record; a batch is checked in full.
pub(crate) fn read_entry(bytes: &Bytes) -> Result<Entry, Malformed> {
    let mut input = Input::new(bytes);
    match input.u8()? {
        PLAIN_BATCH => read_plain(bytes, input).map(Entry::Batch),
        PACKED_BATCH => read_packed(bytes, input).map(Entry::Batch),
        CHECKPOINT => read_checkpoint(input),
        UNTIMED_CHECKPOINT => read_untimed_checkpoint(input),
        _ => Err(Malformed("a known kind of WAL record")),
    }
}

/// Reads a batch of the first version: its groups follow each other, records and all.
fn read_plain(bytes: &Bytes, mut input: Input<'_>) -> Result<Batch, Malformed> {
    let arrival = input.i64()?;
    let hash = input.u128()?;
    let mut groups = Vec::new();
    while !input.is_empty() {
        let (stream, origin) = (input.bytes()?, input.bytes()?);
        let (count, size) = (input.u32()? as usize, input.u32()? as usize);
        let start = bytes.len() - input.len();
        let end = start + input.take(size)?.len();
        let whole = bytes.get(..end).unwrap_or_default();
        groups.push(read_group(Group::new(stream, origin, start)?, whole, start, count, arrival)?);
    }
    let mut sections = Sections::default();
    sections.push(bytes.len(), Held::Plain(bytes.clone()));
    Ok(Batch { arrival, hash, sections, groups })
}

/// What the directory says of a group.
struct Listed<'a> {
    stream: &'a [u8],
    origin: &'a [u8],
    section: usize,
    count: usize,
    size: usize,
}

fn read_packed(bytes: &Bytes, mut input: Input<'_>) -> Result<Batch, Malformed> {
    let arrival = input.i64()?;
    let hash = input.u128()?;
    let mut unpacker = Unpacker::default();
    let mut left = BATCH_BYTES_MAX;
    let mut section = |input: &mut Input<'_>| {
        let raw_bytes = usize::try_from(input.varint()?).unwrap_or(usize::MAX);
        left = left.checked_sub(raw_bytes).ok_or(Malformed("a batch of at most 64 MiB"))?;
        let packed = input.bytes()?;
        let end = bytes.len() - input.len();
        let mut content = Vec::new();
        unpacker.unpack(packed, raw_bytes, &mut content)?;
        Ok((content, bytes.slice(end - packed.len()..end)))
    };
    let (directory, _) = section(&mut input)?;
    let (sections, listed) = read_directory(&directory)?;
    let mut contents = Vec::new();
    for _ in 0..sections {
        contents.push(section(&mut input)?);
    }
    input.end()?;
    let mut is_shared = vec![false; contents.len()];
    for group in listed.iter().filter(|group| is_small(group.size)) {
        *is_shared.get_mut(group.section).ok_or(Malformed("a section of the batch"))? = true;
    }
    // Offsets are those of the sections as they are put together, one behind the other.
    let mut placed = Sections::default();
    for ((content, packed), is_shared) in contents.iter().zip(is_shared) {
        let held = if is_shared { Held::Plain(Bytes::copy_from_slice(content)) } else { Held::Packed(packed.clone()) };
        placed.push(content.len(), held);
    }
    let mut next = vec![0; contents.len()];
    let mut groups = Vec::with_capacity(listed.len());
    for group in listed {
        let (Some((content, _)), Some(next)) = (contents.get(group.section), next.get_mut(group.section)) else {
            return Err(Malformed("a section of the batch"));
        };
        let (from, base) = (*next, placed.start(group.section));
        *next += group.size;
        let whole = content.get(..*next).ok_or(Malformed("a group inside its section"))?;
        let mut read = read_group(Group::new(group.stream, group.origin, from)?, whole, from, group.count, arrival)?;
        read.start += base;
        read.rows.iter_mut().for_each(|row| row.offset += base);
        groups.push(read);
    }
    if next.iter().zip(&contents).any(|(next, (content, _))| *next != content.len()) {
        return Err(Malformed("a group for each record"));
    }
    Ok(Batch { arrival, hash, sections: placed, groups })
}

fn read_directory(directory: &[u8]) -> Result<(usize, Vec<Listed<'_>>), Malformed> {
    let mut input = Input::new(directory);
    let small =
        |number: u64| u32::try_from(number).map(|number| number as usize).map_err(|_| Malformed("a small number"));
    // Each section holds a group at least.
    let sections = input.count(1)?;
    let count = input.count(5)?;
    if sections > count {
        return Err(Malformed("a group in each section"));
    }
    let mut listed = Vec::with_capacity(count);
    for _ in 0..count {
        listed.push(Listed {
            stream: input.bytes()?,
            origin: input.bytes()?,
            section: small(input.varint()?)?,
            count: small(input.varint()?)?,
            size: small(input.varint()?)?,
        });
    }
    input.end()?;
    Ok((sections, listed))
}

/// Finds and checks the `count` records that lie in `content` from `at` on.
fn read_group(mut group: Group, content: &[u8], mut at: usize, count: usize, arrival: i64) -> Result<Group, Malformed> {
    if count > content.len() / 4 {
        return Err(Malformed("no more records than bytes"));
    }
    group.labels()?;
    group.origin()?;
    group.rows.reserve(count);
    for _ in 0..count {
        let record = record_at(content, at)?;
        // All of it, without a value for each attribute.
        RecordView::decode(record)?.for_each_attribute(|_, _| {})?;
        let timestamp = peek_timestamp(Input::new(record), arrival)?;
        group.rows.push(Row { timestamp, offset: to_u32(at) });
        at += 4 + record.len();
    }
    if at == content.len() { Ok(group) } else { Err(Malformed("no further bytes")) }
}

impl Group {
    fn new(stream: &[u8], origin: &[u8], start: usize) -> Result<Self, Malformed> {
        let start = u32::try_from(start).map_err(|_| Malformed("a batch below 4 GiB"))?;
        Ok(Self { stream: stream.to_owned(), origin: origin.to_owned(), start, rows: Vec::new() })
    }

    /// Decodes the stream.
    pub(crate) fn labels(&self) -> Result<Labels, Malformed> {
        decode_stream(&self.stream)
    }

    /// Decodes resource and scope.
    pub(crate) fn origin(&self) -> Result<(Resource, Scope), Malformed> {
        let mut input = Input::new(&self.origin);
        let count = |input: &mut Input<'_>| {
            input.varint().and_then(|count| u32::try_from(count).map_err(|_| Malformed("a count below 2^32")))
        };
        let pairs =
            |input: &mut Input<'_>| -> Result<Vec<(String, Value)>, Malformed> { decode_pairs(input, DEPTH_MAX) };
        let resource = Resource {
            attributes: pairs(&mut input)?,
            dropped_attributes_count: count(&mut input)?,
            schema_url: input.text()?.to_owned(),
        };
        let scope = Scope {
            name: input.text()?.to_owned(),
            version: input.text()?.to_owned(),
            attributes: pairs(&mut input)?,
            dropped_attributes_count: count(&mut input)?,
            schema_url: input.text()?.to_owned(),
        };
        input.end()?;
        Ok((resource, scope))
    }
}

fn decode_stream(bytes: &[u8]) -> Result<Labels, Malformed> {
    let mut input = Input::new(bytes);
    let count = input.count(2)?;
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
    for _ in 0..count {
        let pair = (input.text()?, input.text()?);
        if pairs.last().is_some_and(|last| last.0 >= pair.0) {
            return Err(Malformed("labels in ascending order"));
        }
        pairs.push(pair);
    }
    input.end()?;
    Ok(Labels::from_sorted(pairs))
}
