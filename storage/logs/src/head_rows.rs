//! Rows of the head: where they lie, and how their records are got at.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use storage_api::{Error, Result};

use crate::codec::{Malformed, Sections, Unpacker};

/// Most bytes that are unpacked at once, but for one section. Rows of one sender lie in few sections; those of a stream with
/// hundreds of senders lie in as many at once, and sections that do not fit are unpacked again and again.
pub(crate) const ARENA_BYTES: usize = 16 << 20;

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

#[cfg(test)]
mod tests {
    use model::{Labels, LogRecord, Timestamp, Value};

    use super::*;
    use crate::codec::{BatchWriter, BodyRef, Packers, RecordView, encode_stream};

    /// A batch of a sender's lines, each at every `senders`th nanosecond.
    fn batch(sender: i64, senders: i64, lines: i64, padding: usize) -> (HeadBatch, Vec<(i64, u32)>) {
        let packers = Packers::default();
        let mut writer = BatchWriter::new(0, &packers);
        writer.begin_group(&encode_stream(&Labels::from_pairs([("app", "a")])), &[0; 7]);
        for i in 0..lines {
            let at = 1 + i * senders + sender;
            let body = Value::Str(format!("{at}{}", "x".repeat(padding)));
            let record = LogRecord { timestamp: Timestamp(at), body, ..LogRecord::default() };
            writer.push(&record, |_| Ok::<_, ()>(())).unwrap();
        }
        let (_, batch) = writer.finish(1).unwrap();
        let rows = batch.groups.iter().flat_map(|group| &group.rows).map(|row| (row.timestamp, row.offset)).collect();
        let origins = batch.groups.iter().map(|group| (group.start, u32::try_from(sender).unwrap())).collect();
        (HeadBatch { sections: batch.sections, origins }, rows)
    }

    #[test]
    fn rows_of_interleaved_senders_come_in_order_however_little_is_unpacked_at_once() {
        const SENDERS: i64 = 7;
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        for sender in 0..SENDERS {
            // Some are held as they are, some compressed, some in several sections.
            let (batch, found) = batch(sender, SENDERS, 40, if sender % 3 == 0 { 10 } else { 900 });
            let batch_number = u32::try_from(batches.len()).unwrap();
            rows.extend(found.iter().map(|(timestamp, offset)| HeadRow {
                timestamp: *timestamp,
                batch: batch_number,
                offset: *offset,
            }));
            batches.push(Arc::new(batch));
        }
        rows.sort_by_key(|row| row.timestamp);
        for bytes_max in [1, 40_000, 100_000, ARENA_BYTES] {
            let mut seen = 0;
            for_each_row(&batches, &rows, bytes_max, &mut |row| {
                seen += 1;
                let record = RecordView::decode(row.record).unwrap();
                let BodyRef::Str(line) = record.body else { panic!("text") };
                assert!(line.trim_end_matches('x') == seen.to_string(), "row {seen} at {bytes_max}");
                assert_eq!((row.timestamp, i64::from(row.origin)), (seen, (seen - 1) % SENDERS));
                Ok(if seen == 200 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })
            .unwrap();
            assert_eq!(seen, 200);
        }
    }

    #[test]
    fn a_row_that_lies_nowhere_is_an_error() {
        let (batch, rows) = batch(0, 1, 3, 10);
        let row = |batch: u32, offset: u32| HeadRow { timestamp: 0, batch, offset };
        let batches = [Arc::new(batch)];
        for row in [row(1, 0), row(0, rows[2].1 + 1), row(0, u32::MAX)] {
            let read = for_each_row(&batches, &[row], ARENA_BYTES, &mut |_| Ok(ControlFlow::Continue(())));
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{row:?}");
        }
    }
}
