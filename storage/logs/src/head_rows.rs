//! Rows of the head: where they lie, and how their records are got at.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use storage_api::{Error, Result};

use crate::codec::{Malformed, Sections, Unpacker};

/// Most bytes that are unpacked at once for a query, but for one section.
pub(crate) const READ_ARENA_BYTES: usize = 4 << 20;
/// Most bytes that are unpacked at once while the head is written, but for one section.
pub(crate) const SEAL_ARENA_BYTES: usize = 16 << 20;

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRow {
    pub(crate) timestamp: i64,
    pub(crate) batch: u32,
    /// Offset in the batch's sections.
    pub(crate) offset: u32,
}

/// The records of a batch.
#[derive(Debug)]
pub(crate) struct HeadBatch {
    pub(crate) sections: Sections,
    /// Offset of the first record of each group, ascending, and the number of the group's origin.
    pub(crate) origins: Vec<(u32, u32)>,
}

impl HeadBatch {
    fn origin_of(&self, offset: u32) -> u32 {
        let after = self.origins.partition_point(|(start, _)| *start <= offset);
        after.checked_sub(1).and_then(|at| self.origins.get(at)).map_or(u32::MAX, |(_, origin)| *origin)
    }
}

/// The batches of a head, in the order they came. Whoever reads keeps them as they were.
pub(crate) type Batches = Arc<Vec<Arc<HeadBatch>>>;

/// A row with its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenRow<'a> {
    pub(crate) timestamp: i64,
    /// The number of its origin.
    pub(crate) origin: u32,
    /// The record, encoded.
    pub(crate) record: &'a [u8],
}

/// A section of a batch, and the offsets that lie in it.
struct Place {
    batch: u32,
    section: usize,
    offsets: Range<u32>,
    /// The content in the arena; nothing when it is held as it is.
    content: Option<Range<usize>>,
}

/// Sections that are unpacked for a run of rows.
#[derive(Default)]
struct Arena {
    unpacker: Unpacker,
    bytes: Vec<u8>,
    places: Vec<Place>,
    by_section: HashMap<(u32, usize), usize>,
}

impl Arena {
    /// Makes the section of `row` ready and returns its place; `None` when the arena is full.
    fn open(&mut self, batches: &[Arc<HeadBatch>], row: HeadRow, bytes_max: usize) -> Result<Option<usize>, Malformed> {
        let batch = batches.get(row.batch as usize).ok_or(Malformed("a batch of the head"))?;
        let section = batch.sections.section_of(row.offset);
        if let Some(known) = self.by_section.get(&(row.batch, section)) {
            return Ok(Some(*known));
        }
        let (size, is_packed) = batch.sections.size(section);
        if is_packed && !self.bytes.is_empty() && self.bytes.len() + size > bytes_max {
            return Ok(None);
        }
        let mut content = None;
        if is_packed {
            let start = self.bytes.len();
            batch.sections.unpack(section, &mut self.unpacker, &mut self.bytes)?;
            content = Some(start..self.bytes.len());
        }
        let start = batch.sections.start(section);
        let end = start.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
        self.places.push(Place { batch: row.batch, section, offsets: start..end, content });
        self.by_section.insert((row.batch, section), self.places.len() - 1);
        Ok(Some(self.places.len() - 1))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.by_section.clear();
    }
}

/// Calls `each` for every row with its record, in their order, until it breaks. Sections are unpacked at most `bytes_max` at a time, and
/// more than once only when the rows lie in more of them than that.
pub(crate) fn for_each_row(
    batches: &[Arc<HeadBatch>],
    rows: &[HeadRow],
    bytes_max: usize,
    each: &mut dyn FnMut(OpenRow<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut arena = Arena::default();
    // The places of the rows of a run, so that each is looked for once.
    let mut run: Vec<(usize, usize)> = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        arena.clear();
        run.clear();
        let mut length = 0;
        for row in rest {
            let same = run.last().and_then(|(place, _)| arena.places.get(*place));
            let is_same = same.is_some_and(|place| place.batch == row.batch && place.offsets.contains(&row.offset));
            if !is_same {
                match arena.open(batches, *row, bytes_max).map_err(corrupt)? {
                    Some(place) => run.push((place, 0)),
                    None => break,
                }
            }
            if let Some((_, rows)) = run.last_mut() {
                *rows += 1;
            }
            length += 1;
        }
        let (now, later) = rest.split_at(length);
        rest = later;
        let mut now = now.iter();
        for (place, count) in &run {
            let Some(place) = arena.places.get(*place) else { continue };
            let Some(batch) = batches.get(place.batch as usize) else { continue };
            let content = place.content.clone().and_then(|range| arena.bytes.get(range));
            for row in now.by_ref().take(*count) {
                let record = batch.sections.record(place.section, row.offset, content).map_err(corrupt)?;
                let row = OpenRow { timestamp: row.timestamp, origin: batch.origin_of(row.offset), record };
                if each(row)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Says that what lies in memory is not as it was encoded.
pub(crate) fn corrupt(Malformed(expected): Malformed) -> Error {
    Error::Corrupt { path: "the logs head".to_owned(), reason: format!("expected {expected}") }
}
