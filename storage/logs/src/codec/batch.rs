//! A WAL record: a batch of log records, or a checkpoint of recent batches.

use model::{Labels, Resource, Scope, Value};

use super::value::{decode_pairs, encode_pairs};
use super::{DEPTH_MAX, Input, Malformed, RecordRef, put_bytes, put_i64, put_text, put_u32, put_varint};

const BATCH: u8 = 1;
const CHECKPOINT: u8 = 2;

/// The hash of a batch that is never taken for a retry.
pub(crate) const NO_HASH: u128 = 0;

/// Where the hash lies in a batch: after kind and time of arrival.
const HASH_OFFSET: usize = 9;

/// What a WAL record holds.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    Batch(BatchReader<'a>),
    /// Hashes of recent batches, oldest first, each with its time of arrival.
    Checkpoint(Vec<(u128, i64)>),
}

/// Walks over the groups of a batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchReader<'a> {
    pub(crate) arrival: i64,
    pub(crate) hash: u128,
    whole: &'a [u8],
    input: Input<'a>,
}

/// Records of one stream and origin.
#[derive(Debug, Clone)]
pub(crate) struct GroupRef<'a> {
    /// The stream's labels, encoded.
    pub(crate) stream: &'a [u8],
    /// Resource and scope, encoded.
    pub(crate) origin: &'a [u8],
    /// Where each record (after its length) begins in the batch, and how long it is.
    pub(crate) records: Vec<(u32, u32)>,
}

/// Starts a batch that arrived at `arrival`.
pub(crate) fn begin_batch(arrival: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.push(BATCH);
    put_i64(&mut out, arrival);
    out.extend_from_slice(&[0; 16]);
    out
}

/// Fills in the hash of the batch's content.
pub(crate) fn end_batch(out: &mut [u8], hash: u128) {
    if let Some(room) = out.get_mut(HASH_OFFSET..HASH_OFFSET + 16) {
        room.copy_from_slice(&hash.to_le_bytes());
    }
}

/// Starts a group and returns where its sizes are to be filled in.
pub(crate) fn begin_group(out: &mut Vec<u8>, stream: &[u8], origin: &[u8]) -> usize {
    put_bytes(out, stream);
    put_bytes(out, origin);
    put_u32(out, 0);
    put_u32(out, 0);
    out.len()
}

/// Fills in how many records the group that began at `start` has, and how many bytes they take.
pub(crate) fn end_group(out: &mut [u8], start: usize, records: u32) {
    let bytes = u32::try_from(out.len() - start).expect("a batch is limited to far below 4 GiB");
    if let Some(room) = out.get_mut(start - 8..start) {
        room[..4].copy_from_slice(&records.to_le_bytes());
        room[4..].copy_from_slice(&bytes.to_le_bytes());
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

/// Encodes the hashes of recent batches, oldest first.
pub(crate) fn encode_checkpoint(hashes: impl ExactSizeIterator<Item = (u128, i64)>) -> Vec<u8> {
    let mut out = vec![CHECKPOINT];
    put_varint(&mut out, hashes.len() as u64);
    for (hash, arrival) in hashes {
        out.extend_from_slice(&hash.to_le_bytes());
        put_i64(&mut out, arrival);
    }
    out
}

/// Decodes a WAL record; a batch is checked in full.
pub(crate) fn read_entry(bytes: &[u8]) -> Result<Entry<'_>, Malformed> {
    let mut input = Input::new(bytes);
    match input.u8()? {
        BATCH => {
            let reader = BatchReader::open(bytes)?;
            let mut walk = reader.clone();
            while let Some(group) = walk.next_group()? {
                group.labels()?;
                group.origin()?;
                for (offset, length) in group.records {
                    let record = bytes.get(offset as usize..offset as usize + length as usize);
                    RecordRef::decode(record.ok_or(Malformed("a record inside the batch"))?)?;
                }
            }
            Ok(Entry::Batch(reader))
        }
        CHECKPOINT => {
            let count = input.count(24)?;
            let mut hashes = Vec::with_capacity(count);
            for _ in 0..count {
                hashes.push((input.u128()?, input.i64()?));
            }
            input.end()?;
            Ok(Entry::Checkpoint(hashes))
        }
        _ => Err(Malformed("a known kind of WAL record")),
    }
}

impl<'a> BatchReader<'a> {
    /// Reads the head of a batch.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(bytes);
        if input.u8()? != BATCH {
            return Err(Malformed("a batch"));
        }
        let arrival = input.i64()?;
        let hash = input.u128()?;
        Ok(Self { arrival, hash, whole: bytes, input })
    }

    /// Returns the next group, its records found but not decoded.
    pub(crate) fn next_group(&mut self) -> Result<Option<GroupRef<'a>>, Malformed> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let stream = self.input.bytes()?;
        let origin = self.input.bytes()?;
        let count = self.input.u32()? as usize;
        let bytes = self.input.u32()? as usize;
        let mut rest = Input::new(self.input.take(bytes)?);
        if count > bytes / 4 {
            return Err(Malformed("no more records than bytes"));
        }
        let base = self.whole.len() - self.input.len() - bytes;
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let length = rest.u32()?;
            let offset = base + (bytes - rest.len());
            rest.take(length as usize)?;
            records.push((u32::try_from(offset).map_err(|_| Malformed("a batch below 4 GiB"))?, length));
        }
        rest.end()?;
        Ok(Some(GroupRef { stream, origin, records }))
    }
}

impl GroupRef<'_> {
    /// Decodes the stream.
    pub(crate) fn labels(&self) -> Result<Labels, Malformed> {
        decode_stream(self.stream)
    }

    /// Decodes resource and scope.
    pub(crate) fn origin(&self) -> Result<(Resource, Scope), Malformed> {
        let mut input = Input::new(self.origin);
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
