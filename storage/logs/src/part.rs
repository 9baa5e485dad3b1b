//! Pieces of blocks: some pages of one stream, decoded no further than a query needs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use model::{Labels, TimeRange, Timestamp};
use roaring::RoaringBitmap;
use storage_api::{
    LogPart, LogRows, MetadataColumn, MetadataSelect, QueryContext, Result, RowSelect, RowTest, TextColumn,
};

use crate::block::{Block, Catalog, Counts, Detail, LinesPage, RowView};
use crate::json;
use crate::metadata::{Names, OWN_FIELDS, OriginFields, Pair, RowFields, SEVERITY_FIELDS, hex, push_row};
use crate::query::page_times;
use crate::telemetry::Damage;

/// Most rows of a page that a stream has of it to be one of many that share it.
const SHARED_ROWS_MAX: usize = 128;

/// Fields that are columns of ids.
const ID_FIELDS: [&str; 2] = ["trace_id", "span_id"];

/// A run of pages of one stream.
#[derive(Debug)]
pub(crate) struct BlockPart {
    pub(crate) block: Arc<Block>,
    pub(crate) stream: Labels,
    /// Its number in the catalog.
    pub(crate) stream_number: usize,
    pub(crate) rows: Range<u32>,
    pub(crate) group: u32,
    pub(crate) pages: usize,
    /// Timestamps of the first row and of the last one, or a little after.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) range: TimeRange,
    /// Rows of the block that nobody sees.
    pub(crate) deleted: Option<Arc<RoaringBitmap>>,
    pub(crate) with_metadata: bool,
    pub(crate) without_lines: bool,
}

impl BlockPart {
    pub(crate) fn malformed(&self, expected: &str) -> storage_api::Error {
        storage_api::Error::Corrupt {
            path: self.block.dir().display().to_string(),
            reason: format!("expected {expected}"),
        }
    }
}

impl LogPart for BlockPart {
    fn stream(&self) -> &Labels {
        &self.stream
    }

    fn range(&self) -> TimeRange {
        let start = Timestamp(self.first).max(self.range.start);
        TimeRange::new(start, Timestamp(self.last.saturating_add(1)).min(self.range.end))
    }

    fn rows_max(&self) -> u64 {
        self.rows.len() as u64
    }

    fn read(&self, context: &QueryContext) -> Result<LogRows> {
        let select = RowSelect { with_lines: !self.without_lines, ..RowSelect::ALL };
        self.read_rows(&select, context)
    }

    fn read_rows(&self, select: &RowSelect<'_>, context: &QueryContext) -> Result<LogRows> {
        context.check()?;
        let found = match self.decode(select) {
            Ok(found) => found,
            Err(error) => {
                self.block.do_without_rows(error, context)?;
                Found::default()
            }
        };
        context.charge_bytes(found.bytes)?;
        context.count_rows(found.seen);
        Ok(found.rows)
    }
}

/// The rows that are wanted, and what it took to find them.
#[derive(Debug, Default)]
struct Found {
    rows: LogRows,
    /// Bytes of lines that were decoded.
    bytes: u64,
    /// Rows that were looked at.
    seen: u64,
    /// The numbers of the rows in their block.
    numbers: Vec<u32>,
}

/// The wanted rows of one page.
struct PagePicks {
    page: usize,
    /// Numbers of rows in the page, ascending.
    picks: Vec<u32>,
    times: Arc<Vec<i64>>,
    lines: Option<Arc<LinesPage>>,
}

impl PagePicks {
    /// Returns runs of the wanted rows, by their numbers in the block.
    fn runs(&self, catalog: &Catalog) -> Vec<Range<u32>> {
        let first_row = catalog.pages.get(self.page).map_or(0, |page| page.first_row);
        let run = |run: &[u32]| {
            let start = first_row + run.first().copied().unwrap_or(0);
            start..start + u32::try_from(run.len()).unwrap_or(0)
        };
        self.picks.chunk_by(|a, b| a + 1 == *b).map(run).collect()
    }

    /// Returns the bytes of the wanted lines, when these are decoded.
    fn pieces(&self) -> Vec<&[u8]> {
        let Some(lines) = &self.lines else { return Vec::new() };
        self.picks.iter().map(|row| lines.lines().line_bytes(*row as usize)).collect()
    }
}

impl BlockPart {
    /// Decodes lines first where they decide which rows are wanted, and then no more of a row than is asked for.
    fn decode(&self, select: &RowSelect<'_>) -> Result<Found> {
        let mut found = Found::default();
        let mut pages = self.pick(select, &mut found)?;
        let mut metadata = self.metadata_of(select)?;
        if let Some(metadata) = &mut metadata {
            metadata.load(self, &mut pages, select.field)?;
        }
        let rows = &mut found.rows;
        rows.has_levels = true;
        let catalog = self.block.catalog();
        for page in &pages {
            let first_row = catalog.pages.get(page.page).map_or(0, |page| page.first_row);
            found.numbers.extend(page.picks.iter().map(|row| first_row + row));
            let times = page.picks.iter().filter_map(|row| page.times.get(*row as usize));
            rows.timestamps.extend(times.copied().map(Timestamp));
        }
        if select.with_lines && !self.without_lines {
            for page in pages.iter_mut().filter(|page| page.lines.is_none() && !page.picks.is_empty()) {
                let lines = self.block.lines(page.page, self.is_shared(page.page))?;
                found.bytes += lines.bytes_of(&self.rows_in(page.page));
                page.lines = Some(lines);
            }
            let pieces: Vec<&[u8]> = pages.iter().flat_map(PagePicks::pieces).collect();
            let lines = TextColumn::from_pieces(pieces.iter().copied());
            rows.lines = lines.map_err(|error| self.block.malformed_text(error))?;
        }
        if let Some(metadata) = metadata {
            rows.metadata = metadata.column;
        }
        pages.into_iter().filter_map(|page| page.lines).for_each(|lines| self.block.give_back(lines));
        Ok(found)
    }

    /// Returns which rows of the block the part has.
    pub(crate) fn block_rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Says whether nobody sees a row of the block.
    pub(crate) fn is_deleted(&self, row: u32) -> bool {
        self.deleted.as_ref().is_some_and(|deleted| deleted.contains(row))
    }

    /// Returns the numbers in their block of the rows that pass, each with its time.
    pub(crate) fn passing(&self, test: Option<&dyn RowTest>, context: &QueryContext) -> Result<Vec<(u32, Timestamp)>> {
        context.check()?;
        let found = match self.decode(&RowSelect { with_lines: !self.without_lines, ..RowSelect::ALL }) {
            Ok(found) => found,
            Err(error) => return self.block.do_without_rows(error, context).map(|()| Vec::new()),
        };
        context.count_rows(found.seen);
        let place = |i: usize| Some((*found.numbers.get(i)?, *found.rows.timestamps.get(i)?));
        let passing = match test {
            Some(test) => test.passing(&self.stream, &found.rows),
            None => (0..found.numbers.len()).collect(),
        };
        Ok(passing.into_iter().filter_map(place).collect())
    }

    /// Returns where the part's rows lie in a page.
    fn rows_in(&self, page: usize) -> Range<usize> {
        let catalog = self.block.catalog();
        let first_row = catalog.pages.get(page).map_or(0, |page| page.first_row);
        let start = self.rows.start.max(first_row) - first_row;
        let end = self.rows.end.min(catalog.page_end(page)).saturating_sub(first_row).max(start);
        start as usize..end as usize
    }

    /// Says whether other streams have rows in a page, too.
    fn is_shared(&self, page: usize) -> bool {
        let catalog = self.block.catalog();
        let first_row = catalog.pages.get(page).map_or(0, |page| page.first_row);
        first_row < self.rows.start || self.rows.end < catalog.page_end(page)
    }

    /// Finds the rows that are wanted, as far as times and lines tell.
    fn pick(&self, select: &RowSelect<'_>, found: &mut Found) -> Result<Vec<PagePicks>> {
        let catalog = self.block.catalog();
        let start = self.range.start.max(select.range.start);
        let end = self.range.end.min(select.range.end);
        let filter = select.filter.map(|filter| (filter, self.block.filter_number(filter)));
        let mut numbers: Vec<usize> =
            (catalog.page_of(self.rows.start)..=catalog.page_of(self.rows.end.saturating_sub(1))).collect();
        if select.newest {
            numbers.reverse();
        }
        let stream = catalog.streams.get(self.stream_number);
        let mut pages = Vec::with_capacity(numbers.len());
        let mut left = select.rows_max;
        for page in numbers {
            let rows = self.rows_in(page);
            let (first, last) = stream.map_or((i64::MIN, i64::MAX), |stream| page_times(catalog, stream, page));
            if left == 0 || last < start.0 || end.0 <= first || rows.is_empty() {
                continue;
            }
            found.seen += rows.len() as u64;
            let mut lines = None;
            let mut picks: Vec<u32> = match filter {
                Some((filter, number)) => {
                    let with_lines = select.with_lines && !self.without_lines;
                    let passing = self.block.passing(page, (filter, number), &rows, with_lines)?;
                    found.bytes += passing.bytes;
                    lines = passing.lines;
                    let from = passing.rows.partition_point(|row| (*row as usize) < rows.start);
                    let to = passing.rows.partition_point(|row| (*row as usize) < rows.end);
                    passing.rows.get(from..to).unwrap_or_default().to_vec()
                }
                None => row_numbers(&rows),
            };
            if picks.is_empty() {
                continue;
            }
            let times = self.block.times(page)?;
            let of_part = times.get(rows.clone()).unwrap_or_default();
            let from = rows.start + of_part.partition_point(|at| *at < start.0);
            let to = rows.start + of_part.partition_point(|at| *at < end.0);
            let first_row = catalog.pages.get(page).map_or(0, |page| page.first_row);
            picks.retain(|row| (from..to).contains(&(*row as usize)) && !self.is_deleted(first_row + row));
            if select.field.is_none() {
                select.cut(&mut picks, left);
            }
            left -= picks.len().min(left);
            pages.push(PagePicks { page, picks, times, lines });
        }
        if select.newest {
            pages.reverse();
        }
        Ok(pages)
    }

    /// Returns the block's counts, unless these are damaged.
    fn counts(&self) -> Option<Arc<Counts>> {
        self.block.counts().map_err(|error| self.block.note_damage(Damage::Counts, &error)).ok()
    }

    /// Works out what of the metadata must be read.
    fn metadata_of(&self, select: &RowSelect<'_>) -> Result<Option<Metadata>> {
        if !self.with_metadata {
            return Ok(None);
        }
        let detail = match select.metadata {
            MetadataSelect::None => None,
            MetadataSelect::All => Some(Detail::Metadata),
            MetadataSelect::Only(fields) => {
                let fields: Vec<&str> =
                    fields.iter().map(String::as_str).filter(|name| self.stream.get(name).is_none()).collect();
                let counts = self.counts();
                let may_have = |name: &&str| {
                    OWN_FIELDS.contains(name)
                        || counts.as_ref().is_none_or(|counts| counts.may_have(self.stream_number, name))
                };
                if fields.iter().any(may_have) {
                    Some(Detail::Metadata)
                } else if fields.iter().any(|name| SEVERITY_FIELDS.contains(name)) {
                    Some(Detail::Severities)
                } else {
                    None
                }
            }
        };
        let detail = detail.or(select.field.map(|_| Detail::Metadata));
        Ok(detail.map(|detail| Metadata { detail, column: MetadataColumn::default() }))
    }
}

/// The fields that resources and scopes of a page give, each read once.
#[derive(Default)]
struct Origins<'r> {
    places: HashMap<(&'r str, &'r str), usize>,
    fields: Vec<Vec<Pair>>,
    /// That of the row before, which mostly is the next one's, too.
    last: Option<((&'r str, &'r str), usize)>,
}

impl<'r> Origins<'r> {
    fn of(&mut self, part: &BlockPart, key: (&'r str, &'r str), names: &mut Names) -> Result<&[Pair]> {
        let place = match self.last.filter(|(last, _)| *last == key) {
            Some((_, place)) => place,
            None => match self.places.entry(key) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(place) => {
                    let fields = OriginFields::parse(key.0, key.1, names);
                    self.fields.push(fields.map_err(|error| part.malformed(error.0))?.beside(&part.stream));
                    *place.insert(self.fields.len() - 1)
                }
            },
        };
        self.last = Some((key, place));
        Ok(self.fields.get(place).map_or(&[], Vec::as_slice))
    }
}

/// The metadata of wanted rows.
struct Metadata {
    detail: Detail,
    column: MetadataColumn,
}

impl Metadata {
    /// Reads it, and leaves rows out that have another value of `field`.
    fn load(&mut self, part: &BlockPart, pages: &mut [PagePicks], field: Option<(&str, &str)>) -> Result<()> {
        let mut names = Names::default();
        let column = field.and_then(|(name, _)| ID_FIELDS.into_iter().find(|id| *id == name));
        // Where no record of the stream has an attribute of this name, the column has all there is of it.
        let column = match column {
            Some(name) => part.counts().filter(|counts| !counts.may_have(part.stream_number, name)).and(Some(name)),
            None => None,
        };
        for page in pages.iter_mut().filter(|page| !page.picks.is_empty()) {
            if let (Some(column), Some((_, value))) = (column, field) {
                part.block.retain_id(page.page, &mut page.picks, column, value)?;
                if page.picks.is_empty() {
                    continue;
                }
            }
            let mut origins = Origins::default();
            let mut wanted = Vec::with_capacity(page.picks.len());
            // Where many streams share a page, it is decoded once for all of them.
            let is_shared = part.is_shared(page.page) && part.rows_in(page.page).len() <= SHARED_ROWS_MAX;
            let shared;
            let own;
            let fields = match self.detail {
                Detail::Metadata if is_shared => {
                    shared = part.block.shared_fields(page.page)?;
                    shared.as_ref().as_ref().map(|fields| (fields, true))
                }
                Detail::Metadata => {
                    own = part.block.fields(page.page, &page.picks)?;
                    own.as_ref().map(|fields| (fields, false))
                }
                _ => None,
            };
            if let Some((fields, is_whole)) = fields {
                for (i, pick) in page.picks.iter().enumerate() {
                    let place = if is_whole { *pick as usize } else { i };
                    let row = fields.row(place).ok_or_else(|| part.malformed("texts"))?;
                    wanted.push(self.push(part, &row, field, &mut names, &mut origins)?);
                }
            } else {
                let columns = part.block.read_runs(&page.runs(part.block.catalog()), self.detail)?;
                let columns = columns.open().map_err(|error| part.malformed(error.0))?;
                for i in 0..page.picks.len() {
                    wanted.push(self.push(part, &columns.row(i), field, &mut names, &mut origins)?);
                }
            }
            let mut wanted = wanted.into_iter();
            page.picks.retain(|_| wanted.next().unwrap_or(false));
        }
        Ok(())
    }

    /// Appends the row's metadata, unless it cannot be a wanted one.
    fn push<'r>(
        &mut self,
        part: &BlockPart,
        row: &RowView<'r>,
        field: Option<(&str, &str)>,
        names: &mut Names,
        origins: &mut Origins<'r>,
    ) -> Result<bool> {
        let origin = origins.of(part, (row.resource, row.scope), names)?;
        let attributes = json::parse_pairs(row.attributes).map_err(|error| part.malformed(error.0))?;
        let fields = RowFields {
            observed_timestamp: row.observed_timestamp,
            severity_number: row.severity_number,
            severity_text: row.severity_text,
            trace_id: row.trace_id,
            span_id: row.span_id,
            flags: row.flags,
            event_name: row.event_name,
            dropped_attributes_count: row.dropped_attributes_count,
            attributes: &attributes,
        };
        if let Some((name, value)) = field
            && !may_have_value(&fields, origin, names, name, value)
        {
            return Ok(false);
        }
        push_row(&mut self.column, names, origin, fields);
        Ok(true)
    }
}

/// Says whether a row may have a field of this value; exact for ids.
fn may_have_value(row: &RowFields<'_>, origin: &[Pair], names: &mut Names, name: &str, value: &str) -> bool {
    let id = match name {
        "trace_id" => hex(&row.trace_id),
        "span_id" => hex(&row.span_id),
        _ => return true,
    };
    let mut pairs = Vec::new();
    for (name, value) in row.attributes {
        names.flatten(&mut pairs, "", name, value);
    }
    // Of equal names the record's own attribute wins, then the column.
    let attribute = pairs.iter().rev().find(|(have, _)| have.as_ref() == name).map(|(_, value)| value.as_ref());
    let beside = origin.iter().rev().find(|(have, _)| have.as_ref() == name).map(|(_, value)| value.as_ref());
    attribute.or(id.as_deref()).or(beside) == Some(value)
}

fn row_numbers(rows: &Range<usize>) -> Vec<u32> {
    rows.clone().filter_map(|row| u32::try_from(row).ok()).collect()
}
