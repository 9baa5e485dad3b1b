//! Encodes a batch: records in sections, compressed, behind a directory of their groups.

use std::ops::Range;

use bytes::Bytes;
use model::LogRecord;

use super::batch::{Group, PACKED_BATCH, Row};
use super::pack::{Packer, Packers};
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

/// A batch that is being encoded. A section is compressed as soon as it is full, while it is in the processor's caches, and
/// its memory is used for the next one.
#[derive(Debug)]
pub(crate) struct BatchWriter<'p> {
    arrival: i64,
    packers: &'p Packers,
    packer: Option<Packer>,
    /// The finished sections as they are in the log, one behind the other.
    packed: Vec<u8>,
    sections: Vec<FinishedSection>,
    groups: Vec<OpenGroup>,
    /// The section that small groups are added to, and those groups.
    shared: Vec<u8>,
    shared_groups: Vec<usize>,
    /// The records of the open group that are in no section yet, and their timestamps and places in here.
    open: Vec<u8>,
    open_rows: Vec<(i64, u32)>,
    stream: Vec<u8>,
    origin: Vec<u8>,
    raw_bytes: usize,
    records: usize,
    /// What ended the encoding.
    error: Option<std::io::Error>,
}

#[derive(Debug)]
struct FinishedSection {
    raw_bytes: usize,
    /// Its frame in what is packed.
    place: Range<usize>,
    /// Its content, when the head keeps that.
    plain: Option<Bytes>,
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

impl<'p> BatchWriter<'p> {
    /// Starts a batch that arrived at `arrival`.
    pub(crate) fn new(arrival: i64, packers: &'p Packers) -> Self {
        Self {
            arrival,
            packers,
            packer: None,
            packed: Vec::new(),
            sections: Vec::new(),
            groups: Vec::new(),
            shared: Vec::new(),
            shared_groups: Vec::new(),
            open: Vec::new(),
            open_rows: Vec::new(),
            stream: Vec::new(),
            origin: Vec::new(),
            raw_bytes: 0,
            records: 0,
            error: None,
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
        let mut group = OpenGroup {
            section: 0,
            stream: self.stream.clone(),
            origin: self.origin.clone(),
            start: 0,
            bytes: self.open.len(),
            rows: std::mem::take(&mut self.open_rows),
        };
        if is_small(group.bytes) {
            // Which section it is in is known when that is finished.
            self.shared.reserve(SECTION_BYTES + OWN_SECTION_BYTES_MIN - self.shared.len());
            group.start = self.shared.len();
            group.rows.iter_mut().for_each(|row| row.1 += to_u32(group.start));
            self.shared.append(&mut self.open);
            self.shared_groups.push(self.groups.len());
            self.groups.push(group);
            if self.shared.len() >= SECTION_BYTES {
                self.close_shared();
            }
        } else {
            group.section = self.sections.len();
            self.groups.push(group);
            let mut open = std::mem::take(&mut self.open);
            self.pack(&open, None);
            open.clear();
            // One of a huge record is given back.
            if open.capacity() <= 4 * SECTION_BYTES {
                self.open = open;
            }
        }
    }

    /// Ends the section that small groups are added to.
    fn close_shared(&mut self) {
        if self.shared_groups.is_empty() {
            return;
        }
        let section = self.sections.len();
        for group in self.shared_groups.drain(..) {
            if let Some(group) = self.groups.get_mut(group) {
                group.section = section;
            }
        }
        let plain = Bytes::from(std::mem::take(&mut self.shared));
        self.pack(&plain, Some(Bytes::clone(&plain)));
    }

    /// Compresses a section.
    fn pack(&mut self, raw: &[u8], plain: Option<Bytes>) {
        if self.error.is_some() {
            return;
        }
        let mut packer = match self.packer.take().map_or_else(|| self.packers.lend(), Ok) {
            Ok(packer) => packer,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        match packer.pack(raw) {
            Ok(frame) => {
                put_varint(&mut self.packed, raw.len() as u64);
                put_bytes(&mut self.packed, frame);
                let place = self.packed.len() - frame.len()..self.packed.len();
                self.sections.push(FinishedSection { raw_bytes: raw.len(), place, plain });
            }
            Err(error) => self.error = Some(error),
        }
        self.packer = Some(packer);
    }

    /// Returns the batch, encoded for the log and ready for the head.
    pub(crate) fn finish(mut self, hash: u128) -> std::io::Result<(Bytes, Batch)> {
        self.end_group();
        self.close_shared();
        let directory = self.directory();
        let mut packer = self.packer.take().map_or_else(|| self.packers.lend(), Ok)?;
        let directory_frame = packer.pack(&directory)?;
        let mut out = Vec::with_capacity(64 + directory_frame.len() + self.packed.len());
        out.push(PACKED_BATCH);
        put_i64(&mut out, self.arrival);
        out.extend_from_slice(&hash.to_le_bytes());
        put_varint(&mut out, directory.len() as u64);
        put_bytes(&mut out, directory_frame);
        self.packers.take_back(packer);
        if let Some(error) = self.error {
            return Err(error);
        }
        let before = out.len();
        out.append(&mut self.packed);
        let bytes = Bytes::from(out);
        let mut sections = Sections::default();
        for FinishedSection { raw_bytes, place, plain } in self.sections {
            let packed = || Held::Packed(bytes.slice(before + place.start..before + place.end));
            sections.push(raw_bytes, plain.map_or_else(packed, Held::Plain));
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
