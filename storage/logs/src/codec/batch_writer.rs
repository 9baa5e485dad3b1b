//! Encodes a batch: records in sections, compressed, behind a directory of their groups.

use bytes::Bytes;
use model::LogRecord;

use super::batch::{Group, PACKED_BATCH, Row};
use super::pack::Packers;
use super::record::{effective, encode_record};
use super::section::{Held, Sections, to_u32};
use super::{Batch, put_bytes, put_i64, put_varint};

/// A section that has reached this size ends. Larger ones compress no better, and reading one row unpacks all of it.
const SECTION_BYTES: usize = 32 << 10;
/// A group from this size on gets sections of its own, so that each holds rows of one stream.
const OWN_SECTION_BYTES_MIN: usize = 4 << 10;

/// Says whether a group of this size shares a section with others. The head keeps shared sections as they are: else they
/// would be unpacked for each of their streams.
pub(super) fn is_small(group_bytes: usize) -> bool {
    group_bytes < OWN_SECTION_BYTES_MIN
}

/// A batch that is being encoded.
#[derive(Debug)]
pub(crate) struct BatchWriter {
    arrival: i64,
    sections: Vec<Vec<u8>>,
    /// The section that small groups are added to.
    shared: Option<usize>,
    groups: Vec<OpenGroup>,
    /// The records of the open group that are in no section yet, and their timestamps and places in here.
    open: Vec<u8>,
    open_rows: Vec<(i64, u32)>,
    stream: Vec<u8>,
    origin: Vec<u8>,
    raw_bytes: usize,
    records: usize,
}

/// Rows of one stream and origin in one section; places are those in the section.
#[derive(Debug)]
struct OpenGroup {
    section: usize,
    stream: Vec<u8>,
    origin: Vec<u8>,
    start: usize,
    bytes: usize,
    rows: Vec<(i64, u32)>,
}

impl BatchWriter {
    /// Starts a batch that arrived at `arrival`.
    pub(crate) fn new(arrival: i64) -> Self {
        Self {
            arrival,
            sections: Vec::new(),
            shared: None,
            groups: Vec::new(),
            open: Vec::new(),
            open_rows: Vec::new(),
            stream: Vec::new(),
            origin: Vec::new(),
            raw_bytes: 0,
            records: 0,
        }
    }

    /// Returns how many records there are.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Returns how many bytes they take before compression.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Starts a group.
    pub(crate) fn begin_group(&mut self, stream: &[u8], origin: &[u8]) {
        self.end_group();
        self.stream.clear();
        self.stream.extend_from_slice(stream);
        self.origin.clear();
        self.origin.extend_from_slice(origin);
    }

    /// Encodes a record of the open group; `keep` sees its bytes and decides whether it stays.
    pub(crate) fn push<E>(&mut self, record: &LogRecord, keep: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let start = self.open.len();
        encode_record(&mut self.open, record);
        if let Err(error) = keep(self.open.get(start..).unwrap_or_default()) {
            self.open.truncate(start);
            return Err(error);
        }
        let timestamp = effective(record.timestamp.0, record.observed_timestamp.0, self.arrival);
        self.open_rows.push((timestamp, to_u32(start)));
        self.raw_bytes += self.open.len() - start;
        self.records += 1;
        if self.open.len() >= SECTION_BYTES {
            self.close_open();
        }
        Ok(())
    }

    /// Ends the open group, if there is one.
    pub(crate) fn end_group(&mut self) {
        self.close_open();
    }

    /// Puts the records of the open group into a section.
    fn close_open(&mut self) {
        if self.open_rows.is_empty() {
            return;
        }
        self.raw_bytes += self.stream.len() + self.origin.len();
        let mut rows = std::mem::take(&mut self.open_rows);
        let bytes = self.open.len();
        let (section, start) = if !is_small(bytes) {
            self.sections.push(std::mem::take(&mut self.open));
            (self.sections.len() - 1, 0)
        } else {
            let section = *self.shared.get_or_insert_with(|| {
                self.sections.push(Vec::with_capacity(SECTION_BYTES));
                self.sections.len() - 1
            });
            let mut start = 0;
            if let Some(shared) = self.sections.get_mut(section) {
                start = shared.len();
                shared.append(&mut self.open);
                if shared.len() >= SECTION_BYTES {
                    self.shared = None;
                }
            }
            rows.iter_mut().for_each(|row| row.1 += to_u32(start));
            (section, start)
        };
        self.groups.push(OpenGroup {
            section,
            stream: self.stream.clone(),
            origin: self.origin.clone(),
            start,
            bytes,
            rows,
        });
    }

    /// Returns the batch, encoded for the log and ready for the head.
    pub(crate) fn finish(mut self, hash: u128, packers: &Packers) -> std::io::Result<(Bytes, Batch)> {
        self.end_group();
        let directory = self.directory();
        let mut out = Vec::with_capacity(64 + (directory.len() + self.raw_bytes) / 3);
        out.push(PACKED_BATCH);
        put_i64(&mut out, self.arrival);
        out.extend_from_slice(&hash.to_le_bytes());
        let mut places = Vec::with_capacity(self.sections.len());
        packers.with(|packer| {
            put_varint(&mut out, directory.len() as u64);
            put_bytes(&mut out, packer.pack(&directory)?);
            for section in &self.sections {
                put_varint(&mut out, section.len() as u64);
                let packed = packer.pack(section)?;
                put_bytes(&mut out, packed);
                places.push(out.len() - packed.len()..out.len());
            }
            Ok(())
        })?;
        let bytes = Bytes::from(out);
        let mut is_shared = vec![false; self.sections.len()];
        for group in self.groups.iter().filter(|group| is_small(group.bytes)) {
            if let Some(is_shared) = is_shared.get_mut(group.section) {
                *is_shared = true;
            }
        }
        let mut sections = Sections::default();
        for ((raw, place), is_shared) in self.sections.into_iter().zip(places).zip(is_shared) {
            let raw_bytes = raw.len();
            sections
                .push(raw_bytes, if is_shared { Held::Plain(raw.into()) } else { Held::Packed(bytes.slice(place)) });
        }
        let groups = self.groups.into_iter().map(|group| {
            let base = sections.start(group.section);
            let rows = group.rows.into_iter().map(|(timestamp, at)| Row { timestamp, offset: base + at }).collect();
            Group { stream: group.stream, origin: group.origin, start: base + to_u32(group.start), rows }
        });
        let groups = groups.collect();
        Ok((bytes, Batch { arrival: self.arrival, hash, sections, groups }))
    }

    /// Encodes the groups, in the order they came.
    fn directory(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.sections.len() as u64);
        put_varint(&mut out, self.groups.len() as u64);
        for group in &self.groups {
            put_bytes(&mut out, &group.stream);
            put_bytes(&mut out, &group.origin);
            put_varint(&mut out, group.section as u64);
            put_varint(&mut out, group.rows.len() as u64);
            put_varint(&mut out, group.bytes as u64);
        }
        out
    }
}
