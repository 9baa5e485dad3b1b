//! Decodes single pages of single columns. Setting the Arrow reader up takes longer than a small page does, and it copies
//! lines that need only be searched.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use storage_api::{Error, LineFilter, Lines, Result};

use super::files::corrupt;
use super::page_cache::What;
use super::page_header::{PageHeader, PageKind};
use super::reader::{Block, Detail};
use super::rows::{BODY_STR, line_of};
use super::scratch::Scratch;

/// Largest page: lines and attributes end it at some MB, however long the last of them is.
const PAGE_BYTES_MAX: usize = 1 << 30;

/// The rows of a page that pass a filter.
#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) rows: Arc<Vec<u32>>,
    /// The page's lines, when they were decoded for that, are wanted, and some pass.
    pub(crate) lines: Option<Arc<LinesPage>>,
    /// Bytes of the asked-for lines that were decoded.
    pub(crate) bytes: u64,
}

/// A page of one column, decompressed.
#[derive(Debug)]
pub(super) struct RawPage {
    pub(super) header: PageHeader,
    bytes: Vec<u8>,
}

impl RawPage {
    pub(super) fn into_page(self) -> Page {
        let (buf, num_values, encoding) = (Bytes::from(self.bytes), self.header.values, self.header.encoding);
        match self.header.kind {
            PageKind::Dictionary => Page::DictionaryPage { buf, num_values, encoding, is_sorted: false },
            PageKind::Data => Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            },
        }
    }
}

/// Gives pages to the decoder of a column.
pub(super) struct Pages(std::vec::IntoIter<Page>);

impl Pages {
    pub(super) fn new(pages: Vec<Page>) -> Self {
        Self(pages.into_iter())
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        Ok(self.0.next())
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let metadata = |page: &Page| PageMetadata {
            num_rows: None,
            num_levels: Some(page.num_values() as usize),
            is_dict: matches!(page, Page::DictionaryPage { .. }),
        };
        Ok(self.0.as_slice().first().map(metadata))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.0.next();
        Ok(())
    }
}

/// The lines of a page, as they lie in it.
#[derive(Debug, Default)]
pub(crate) struct LinesPage {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl LinesPage {
    pub(crate) fn lines(&self) -> Lines<'_> {
        Lines::new(&self.bytes, &self.spans)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<(u32, u32)>()
    }

    /// Returns the bytes of some lines.
    pub(crate) fn bytes_of(&self, rows: &Range<usize>) -> u64 {
        self.spans.get(rows.clone()).unwrap_or_default().iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    fn push(&mut self, line: &str) {
        let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let start = place(self.bytes.len());
        self.bytes.extend_from_slice(line.as_bytes());
        self.spans.push((start, place(self.bytes.len())));
    }

    /// Finds the values of a plain page, each of which follows its length; `false` when one is cut off.
    fn find_plain(&mut self, rows: usize) -> bool {
        self.spans.clear();
        let mut at = 0_usize;
        for _ in 0..rows {
            let length = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
            let Some(length) = length.map(|bytes| u32::from_le_bytes(*bytes)) else { return false };
            let start = at + 4;
            at = start.saturating_add(length as usize);
            let (Ok(from), Ok(to)) = (u32::try_from(start), u32::try_from(at)) else { return false };
            if at > self.bytes.len() {
                return false;
            }
            self.spans.push((from, to));
        }
        true
    }
}

/// Takes a page by its number, with its header and what was decompressed, and says whether to go on.
pub(super) type EachPage<'a> = dyn FnMut(usize, &PageHeader, &[u8]) -> Result<bool> + 'a;

/// Where a page lies in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    compression: Compression,
    start: u64,
    length: usize,
    kind: PageKind,
}

impl Block {
    /// Returns how many rows a page has.
    pub(super) fn page_rows(&self, page: usize) -> usize {
        let first = self.catalog().pages.get(page).map_or(0, |page| page.first_row);
        self.catalog().page_end(page).saturating_sub(first) as usize
    }

    /// Returns the first page of a page's row group.
    pub(super) fn group_page(&self, page: usize) -> usize {
        let pages = &self.catalog().pages;
        let group = pages.get(page).map_or(0, |page| page.group);
        pages.partition_point(|page| page.group < group)
    }

    pub(super) fn page_key(&self, page: usize, what: What) -> (u64, u32, What) {
        (self.number(), u32::try_from(page).unwrap_or(u32::MAX), what)
    }

    /// Reads what lies at a place of the file, and decompresses it into the scratch's page; `None` when only the Arrow
    /// reader knows its form.
    fn read_place(&self, place: Place, scratch: &mut Scratch) -> Result<Option<PageHeader>> {
        let file = self.rows_file();
        let read = scratch.read(file, place.start, place.length);
        let stored = read.map_err(|source| super::reader::read_error(file.path(), source))?;
        self.unpack(place, stored, scratch)
    }

    /// Decompresses a page that was read into the scratch's page.
    fn unpack(&self, place: Place, stored: Range<usize>, scratch: &mut Scratch) -> Result<Option<PageHeader>> {
        let path = self.rows_file().path();
        let wrong = |reason: &str| corrupt(path, reason.to_owned());
        let header = PageHeader::read(scratch.stored(stored.clone())).map_err(|error| wrong(error.0))?;
        let Some(header) = header.filter(|header| header.kind == place.kind) else { return Ok(None) };
        let start = stored.start + header.header_bytes;
        let content = start..start.saturating_add(header.compressed_bytes);
        if content.end > stored.end {
            return Err(wrong("a page is cut off"));
        }
        if header.bytes > PAGE_BYTES_MAX {
            return Err(wrong("a page is too large"));
        }
        match place.compression {
            Compression::UNCOMPRESSED => scratch.copy(content),
            Compression::ZSTD(_) => {
                scratch.decompress(content, header.bytes).map_err(|error| corrupt(path, error.to_string()))?;
            }
            _ => return Ok(None),
        }
        if scratch.page.len() != header.bytes {
            return Err(wrong("a page has another size than it says"));
        }
        Ok(Some(header))
    }

    /// Returns where a data page of a column lies, or with `dictionary` the dictionary of its row group; `None` when only
    /// the Arrow reader can find it, or when there is no dictionary.
    fn place_of(
        &self,
        footer: &ArrowReaderMetadata,
        column: usize,
        page: usize,
        dictionary: bool,
    ) -> Result<Option<Place>> {
        let Some(info) = self.catalog().pages.get(page) else { return Ok(None) };
        let group = info.group as usize;
        if group >= footer.metadata().num_row_groups() {
            return Err(corrupt(self.rows_file().path(), "a row group is missing"));
        }
        let chunk = footer.metadata().row_group(group).column(column);
        let index = footer.metadata().page_index_for_row_group(group);
        let Some(index) = index.offset_index(column) else { return Ok(None) };
        let places = index.page_locations();
        let (start, length) = if dictionary {
            let first = places.first().and_then(|place| u64::try_from(place.offset).ok());
            let start = chunk.dictionary_page_offset().and_then(|offset| u64::try_from(offset).ok());
            let (Some(first), Some(start)) = (first, start) else { return Ok(None) };
            (start, usize::try_from(first.saturating_sub(start)).ok())
        } else {
            let at = places.binary_search_by_key(&i64::from(info.row_in_group), |place| place.first_row_index);
            let Some(place) = at.ok().and_then(|at| places.get(at)) else { return Ok(None) };
            let Ok(start) = u64::try_from(place.offset) else { return Ok(None) };
            (start, usize::try_from(place.compressed_page_size).ok())
        };
        let kind = if dictionary { PageKind::Dictionary } else { PageKind::Data };
        Ok(length.map(|length| Place { compression: chunk.compression(), start, length, kind }))
    }

    /// Returns a data page of a column, or with `dictionary` the dictionary of its row group; `None` when only the Arrow
    /// reader can find it, or when there is no dictionary.
    pub(super) fn column_page(
        &self,
        footer: &ArrowReaderMetadata,
        column: usize,
        page: usize,
        dictionary: bool,
    ) -> Result<Option<RawPage>> {
        let Some(place) = self.place_of(footer, column, page, dictionary)? else { return Ok(None) };
        self.with_scratch(|scratch| {
            let header = self.read_place(place, scratch)?;
            Ok(header.map(|header| RawPage { header, bytes: scratch.page.clone() }))
        })
    }

    /// Reads pages of a column that follow each other in its row group all at once, and calls `each` with them until it says
    /// `false`. It ends before a page that only the Arrow reader can find or knows.
    pub(super) fn read_run(
        &self,
        footer: &ArrowReaderMetadata,
        column: usize,
        pages: Range<usize>,
        each: &mut EachPage<'_>,
    ) -> Result<()> {
        let mut places: Vec<Place> = Vec::with_capacity(pages.len());
        for page in pages.clone() {
            let Some(place) = self.place_of(footer, column, page, false)? else { break };
            if places.last().is_some_and(|last| last.start.saturating_add(last.length as u64) != place.start) {
                break;
            }
            places.push(place);
        }
        let start = places.first().map_or(0, |place| place.start);
        let length = places.iter().map(|place| place.length).sum();
        self.with_scratch(|scratch| {
            let file = self.rows_file();
            let read = scratch.read(file, start, length);
            let mut at = read.map_err(|source| super::reader::read_error(file.path(), source))?.start;
            for (page, place) in pages.zip(places) {
                let stored = at..at + place.length;
                at = stored.end;
                let Some(header) = self.unpack(place, stored, scratch)? else { break };
                if header.values as usize != self.page_rows(page) || !each(page, &header, &scratch.page)? {
                    break;
                }
            }
            Ok(())
        })
    }

    fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> Result<T>) -> Result<T> {
        let done = self.cache().scratches.with(work);
        done.unwrap_or_else(|source| Err(Error::io("making room to read", self.rows_file().path(), source)))
    }

    pub(super) fn column_number(footer: &ArrowReaderMetadata, name: &str) -> Option<usize> {
        footer.parquet_schema().columns().iter().position(|column| column.name() == name)
    }

    /// Returns the lines of a page. One that others will want, too, is kept.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn lines(&self, page: usize, is_shared: bool) -> Result<Arc<LinesPage>> {
        let decode = || {
            self.with_scratch(|scratch| {
                self.decode_lines(page, scratch)?;
                Ok(self.cache().scratches.take_lines(scratch))
            })
        };
        if !is_shared {
            return decode().map(Arc::new);
        }
        self.cache().pages.get_or_load(self.page_key(page, What::Lines), || {
            let lines = decode()?;
            let size_bytes = lines.size_bytes();
            Ok((lines, size_bytes))
        })
    }

    /// Takes back the memory of lines, unless somebody else has them, too.
    pub(crate) fn give_back(&self, lines: Arc<LinesPage>) {
        if let Some(lines) = Arc::into_inner(lines) {
            self.cache().scratches.give_lines(lines);
        }
    }

    /// Decodes the lines of a page into the scratch's.
    fn decode_lines(&self, page: usize, scratch: &mut Scratch) -> Result<()> {
        let rows = self.page_rows(page);
        if self.is_text(page)? && self.decode_text(page, rows, scratch)? {
            return Ok(());
        }
        let columns = self.read_page(page, Detail::Lines)?;
        let columns = columns.open().map_err(|error| self.malformed(error.0))?;
        let lines = &mut scratch.lines;
        lines.bytes.clear();
        lines.spans.clear();
        for row in 0..rows {
            let row = columns.row(row);
            lines.push(&line_of(row.body_type, row.body).map_err(|error| self.malformed(error.0))?);
        }
        Ok(())
    }

    /// Decodes a page of lines that are text as it is; `false` when only the Arrow reader can.
    fn decode_text(&self, page: usize, rows: usize, scratch: &mut Scratch) -> Result<bool> {
        let footer = self.footer()?;
        let column = Self::column_number(&footer, super::rows::LINE_COLUMNS[0]);
        let place = column.map(|column| self.place_of(&footer, column, page, false)).transpose()?.flatten();
        let Some(place) = place else { return Ok(false) };
        let Some(header) = self.read_place(place, scratch)? else { return Ok(false) };
        let path = self.rows_file().path();
        if header.values as usize != rows {
            return Err(corrupt(path, format!("{} lines, expected {rows}", header.values)));
        }
        let Scratch { page, lengths, lines, .. } = scratch;
        match header.encoding {
            Encoding::PLAIN => {
                std::mem::swap(page, &mut lines.bytes);
                if !lines.find_plain(rows) {
                    return Err(corrupt(path, "a line is cut off"));
                }
            }
            Encoding::DELTA_BYTE_ARRAY => {
                let limits = (rows, PAGE_BYTES_MAX);
                let decoded = super::delta::strings(page, limits, lengths, &mut lines.bytes, &mut lines.spans);
                decoded.map_err(|error| corrupt(path, format!("expected {}", error.0)))?;
                if lines.bytes.is_empty() {
                    std::mem::swap(page, &mut lines.bytes);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Says whether it is known that all lines of a page's row group are text as it is.
    fn is_text(&self, page: usize) -> Result<bool> {
        let key = self.page_key(self.group_page(page), What::IsText);
        let is_text = self.cache().pages.get_or_load(key, || {
            let footer = self.footer()?;
            let column = Self::column_number(&footer, super::rows::LINE_COLUMNS[1]);
            let raw = column.map(|column| self.column_page(&footer, column, page, true)).transpose()?.flatten();
            // All kinds of the group are in its dictionary: with a single one it does not overflow.
            let is_text = raw.is_some_and(|raw| {
                let mut kinds = LinesPage { bytes: raw.bytes, spans: Vec::new() };
                raw.header.values == 1 && kinds.find_plain(1) && kinds.lines().line_bytes(0) == BODY_STR.as_bytes()
            });
            Ok((is_text, 0))
        })?;
        Ok(*is_text)
    }

    /// Returns which lines of a page pass a filter; `asked` are the rows that the answer is about. With `with_lines` the
    /// lines come with it where they were decoded.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn passing(
        &self,
        page: usize,
        (filter, filter_number): (&dyn LineFilter, u64),
        asked: &Range<usize>,
        with_lines: bool,
    ) -> Result<Passing> {
        let key = self.page_key(page, What::Passing(filter_number));
        if let Some(rows) = self.cache().pages.get(key) {
            return Ok(Passing { rows, lines: None, bytes: 0 });
        }
        let passing = self.with_scratch(|scratch| {
            self.decode_lines(page, scratch)?;
            let rows = filter.passing(scratch.lines.lines()).map_err(|error| self.malformed_text(error))?;
            let bytes = scratch.lines.bytes_of(asked);
            let is_wanted = with_lines && !rows.is_empty();
            let lines = is_wanted.then(|| Arc::new(self.cache().scratches.take_lines(scratch)));
            Ok(Passing { rows: Arc::new(rows), lines, bytes })
        })?;
        self.cache().pages.insert(key, &passing.rows, passing.rows.capacity() * size_of::<u32>());
        Ok(passing)
    }

    /// Returns the number of a filter, for [`passing`](Self::passing).
    pub(crate) fn filter_number(&self, filter: &dyn LineFilter) -> u64 {
        self.cache().pages.filter_number(filter.key())
    }

    /// Returns the error of lines that are no text.
    pub(crate) fn malformed_text(&self, error: std::str::Utf8Error) -> storage_api::Error {
        corrupt(self.rows_file().path(), format!("a line is no text: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_follow_their_lengths() {
        let bytes = b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c".to_vec();
        let plain = |bytes: &[u8], rows: usize| {
            let mut page = LinesPage { bytes: bytes.to_vec(), spans: Vec::new() };
            page.find_plain(rows).then_some(page)
        };
        let page = plain(&bytes, 3).unwrap();
        let found: Vec<&[u8]> = (0..3).map(|row| page.lines().line_bytes(row)).collect();
        assert_eq!(found, [&b"ab"[..], b"", b"c"]);
        for length in 0..bytes.len() {
            assert!(plain(&bytes[..length], 3).is_none(), "cut at {length}");
        }
        assert!(plain(&[0xff; 8], 1).is_none());
    }
}
