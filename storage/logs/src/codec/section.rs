//! The sections of a batch: its records, compressed or as they are, and how a row is found in them.

use bytes::{Bytes, BytesMut};

use super::pack::Unpacker;
use super::{Input, Malformed};

/// Why an offset in a batch fits 32 bits.
const ROOM: &str = "a batch is limited to far below 4 GiB";

/// Returns a size within a batch.
pub(super) fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect(ROOM)
}

/// Records one after the other.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Plain(Bytes),
    /// One zstd frame.
    Packed(Bytes),
}

#[derive(Debug, Clone)]
struct Section {
    /// Bytes of the sections before.
    start: u32,
    raw_bytes: u32,
    held: Held,
}

/// The sections of a batch. An offset counts the bytes of all of them, decompressed and put together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sections {
    sections: Vec<Section>,
}

impl Sections {
    pub(super) fn push(&mut self, raw_bytes: usize, held: Held) {
        let start = self.sections.last().map_or(0, |last| last.start.checked_add(last.raw_bytes).expect(ROOM));
        let raw_bytes = to_u32(raw_bytes);
        start.checked_add(raw_bytes).expect(ROOM);
        self.sections.push(Section { start, raw_bytes, held });
    }

    /// Returns the first offset of a section.
    pub(crate) fn start(&self, section: usize) -> u32 {
        self.sections.get(section).map_or(0, |section| section.start)
    }

    /// Returns the number of the section that an offset lies in.
    pub(crate) fn section_of(&self, offset: u32) -> usize {
        self.sections.partition_point(|section| section.start <= offset).saturating_sub(1)
    }

    /// Returns the size of a section, and whether it has to be unpacked.
    pub(crate) fn size(&self, section: usize) -> (usize, bool) {
        let size = |section: &Section| (section.raw_bytes as usize, matches!(section.held, Held::Packed(_)));
        self.sections.get(section).map_or((0, false), size)
    }

    /// Returns the same sections, copied to the end of `slab`; one that is full is replaced by another of `slab_bytes`.
    pub(crate) fn kept_in(&self, slab: &mut BytesMut, slab_bytes: usize) -> Self {
        let length = |section: &Section| match &section.held {
            Held::Plain(bytes) | Held::Packed(bytes) => bytes.len(),
        };
        let needed: usize = self.sections.iter().map(length).sum();
        if slab.capacity() - slab.len() < needed {
            *slab = BytesMut::with_capacity(slab_bytes.max(needed));
        }
        let mut keep = |bytes: &Bytes| {
            slab.extend_from_slice(bytes);
            slab.split().freeze()
        };
        let kept = |section: &Section| Section {
            held: match &section.held {
                Held::Plain(bytes) => Held::Plain(keep(bytes)),
                Held::Packed(bytes) => Held::Packed(keep(bytes)),
            },
            start: section.start,
            raw_bytes: section.raw_bytes,
        };
        Self { sections: self.sections.iter().map(kept).collect() }
    }

    /// Returns the memory of all sections.
    pub(crate) fn size_bytes(&self) -> usize {
        let held = |section: &Section| match &section.held {
            Held::Plain(bytes) | Held::Packed(bytes) => bytes.len(),
        };
        self.sections.iter().map(|section| held(section) + size_of::<Section>()).sum()
    }

    /// Appends the content of a section that has to be unpacked to `out`.
    pub(crate) fn unpack(&self, section: usize, unpacker: &mut Unpacker, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self.sections.get(section) {
            Some(Section { raw_bytes, held: Held::Packed(bytes), .. }) => {
                unpacker.unpack(bytes, *raw_bytes as usize, out)
            }
            Some(Section { held: Held::Plain(bytes), .. }) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            None => Err(Malformed("a section of the batch")),
        }
    }

    /// Returns how many bytes the record at `offset` takes, or, where it has to be unpacked, those up to its section's end.
    pub(crate) fn record_bytes(&self, offset: u32) -> usize {
        let section = self.section_of(offset);
        match self.record(section, offset, None) {
            Ok(record) => record.len(),
            Err(_) => {
                let end = self.start(section) as usize + self.size(section).0;
                end.saturating_sub(offset as usize)
            }
        }
    }

    /// Returns the record at `offset`, without its length, out of its section's content: `unpacked`, or what is held.
    pub(crate) fn record<'a>(
        &'a self,
        section: usize,
        offset: u32,
        unpacked: Option<&'a [u8]>,
    ) -> Result<&'a [u8], Malformed> {
        let found = self.sections.get(section).ok_or(Malformed("a section of the batch"))?;
        let content = match (unpacked, &found.held) {
            (Some(unpacked), _) => unpacked,
            (None, Held::Plain(bytes)) => bytes,
            (None, Held::Packed(_)) => return Err(Malformed("an unpacked section")),
        };
        let at = offset.checked_sub(found.start).ok_or(Malformed("a record inside its section"))?;
        record_at(content, at as usize)
    }
}

/// Returns the record that begins at `at` with its length, without that.
pub(super) fn record_at(content: &[u8], at: usize) -> Result<&[u8], Malformed> {
    let mut input = Input::new(content.get(at..).ok_or(Malformed("a record inside its section"))?);
    let length = input.u32()? as usize;
    input.take(length)
}
