//! Decodes single pages of single columns. Setting the Arrow reader up takes longer than a small page does, and it copies
//! lines that need only be searched.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use storage_api::{LineFilter, Lines, Result};
use zstd::bulk::Decompressor;

use super::files::corrupt;
use super::page_cache::What;
use super::page_header::{PageHeader, PageKind};
use super::reader::{Block, Detail};
use super::rows::{BODY_STR, line_of};

/// Largest page: lines and attributes end it at some MB, however long the last of them is.
const PAGE_BYTES_MAX: usize = 1 << 30;

/// Decompressors that nobody uses now: making one costs more than a small page.
#[derive(Default)]
pub(super) struct Decompressors(Mutex<Vec<Decompressor<'static>>>);

impl fmt::Debug for Decompressors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decompressors").field(&self.0.lock().len()).finish()
    }
}

impl Decompressors {
    fn decompress(&self, bytes: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
        let free = self.0.lock().pop();
        let mut decompressor = free.map_or_else(Decompressor::new, Ok)?;
        let mut out = Vec::with_capacity(length);
        let done = decompressor.decompress_to_buffer(bytes, &mut out);
        self.0.lock().push(decompressor);
        done.map(|_| out)
    }
}

/// The rows of a page that pass a filter, and its lines when they were decoded for that.
pub(crate) type Passing = (Arc<Vec<u32>>, Option<Arc<LinesPage>>);

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
#[derive(Debug)]
pub(crate) struct LinesPage {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl LinesPage {
    pub(crate) fn lines(&self) -> Lines<'_> {
        Lines::new(&self.bytes, &self.spans)
    }

    fn size_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.len() * size_of::<(u32, u32)>()
    }

    fn push(&mut self, line: &str) {
        let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let start = place(self.bytes.len());
        self.bytes.extend_from_slice(line.as_bytes());
        self.spans.push((start, place(self.bytes.len())));
    }

    /// Finds the values of a plain page, each of which follows its length.
    fn of_plain(bytes: Vec<u8>, rows: usize) -> Option<Self> {
        let mut spans = Vec::with_capacity(rows);
        let mut at = 0_usize;
        for _ in 0..rows {
            let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?);
            let start = at + 4;
            at = start.checked_add(length as usize)?;
            bytes.get(start..at)?;
            spans.push((u32::try_from(start).ok()?, u32::try_from(at).ok()?));
        }
        Some(Self { bytes, spans })
    }
}

impl Block {
    /// Returns how many rows a page has.
    fn page_rows(&self, page: usize) -> usize {
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

    /// Reads and decompresses what lies at a place of the file; `None` when only the Arrow reader knows its form.
    fn raw_page(&self, compression: Compression, offset: u64, length: usize) -> Result<Option<RawPage>> {
        let path = self.rows_file().path();
        let wrong = |reason: &str| corrupt(path, reason.to_owned());
        let bytes =
            self.rows_file().read_range(offset, length).map_err(|source| super::reader::read_error(path, source))?;
        let Some(header) = PageHeader::read(&bytes).map_err(|error| wrong(error.0))? else { return Ok(None) };
        let content = bytes.get(header.header_bytes..).and_then(|rest| rest.get(..header.compressed_bytes));
        let content = content.ok_or_else(|| wrong("a page is cut off"))?;
        if header.bytes > PAGE_BYTES_MAX {
            return Err(wrong("a page is too large"));
        }
        let bytes = match compression {
            Compression::UNCOMPRESSED => content.to_vec(),
            Compression::ZSTD(_) => {
                let decompressed = self.cache().decompressors.decompress(content, header.bytes);
                decompressed.map_err(|error| corrupt(path, error.to_string()))?
            }
            _ => return Ok(None),
        };
        if bytes.len() != header.bytes {
            return Err(wrong("a page has another size than it says"));
        }
        Ok(Some(RawPage { header, bytes }))
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
        let Some(length) = length else { return Ok(None) };
        let wanted = if dictionary { PageKind::Dictionary } else { PageKind::Data };
        let found = self.raw_page(chunk.compression(), start, length)?;
        Ok(found.filter(|found| found.header.kind == wanted))
    }

    pub(super) fn column_number(footer: &ArrowReaderMetadata, name: &str) -> Option<usize> {
        footer.parquet_schema().columns().iter().position(|column| column.name() == name)
    }

    /// Decodes the values of a column that has no nulls.
    fn decode<T: DataType>(
        &self,
        footer: &ArrowReaderMetadata,
        column: usize,
        pages: Vec<Page>,
        rows: usize,
    ) -> Result<Vec<T::T>> {
        let descriptor = footer.parquet_schema().column(column);
        let wrong = |reason: String| corrupt(self.rows_file().path(), reason);
        if T::get_physical_type() != descriptor.physical_type() || descriptor.max_def_level() != 0 {
            return Err(wrong("a column has another type than it was written with".to_owned()));
        }
        let mut reader = ColumnReaderImpl::<T>::new(descriptor, Box::new(Pages::new(pages)));
        let mut values = Vec::with_capacity(rows);
        reader.read_records(rows, None, None, &mut values).map_err(|error| self.parquet_error(error))?;
        if values.len() != rows {
            return Err(wrong(format!("{} values, expected {rows}", values.len())));
        }
        Ok(values)
    }

    /// Returns the timestamps of a page.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn times(&self, page: usize) -> Result<Arc<Vec<i64>>> {
        let rows = self.page_rows(page);
        self.cache().pages.get_or_load(self.page_key(page, What::Times), || {
            let footer = self.footer()?;
            let column = Self::column_number(&footer, super::rows::TIMESTAMP_COLUMN);
            let raw = match column {
                Some(column) => self.column_page(&footer, column, page, false)?.map(|raw| (column, raw)),
                None => None,
            };
            let times = match raw {
                Some((column, raw)) => self.decode::<Int64Type>(&footer, column, vec![raw.into_page()], rows)?,
                None => {
                    let columns = self.read_page(page, Detail::Times)?;
                    columns.open().map_err(|error| self.malformed(error.0))?.timestamps().to_vec()
                }
            };
            let size_bytes = times.len() * size_of::<i64>();
            Ok((times, size_bytes))
        })
    }

    /// Returns the severity numbers of a page.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn severities(&self, page: usize) -> Result<Arc<Vec<u8>>> {
        let rows = self.page_rows(page);
        self.cache().pages.get_or_load(self.page_key(page, What::Severities), || {
            let numbers = match self.severities_quickly(page, rows)? {
                Some(numbers) => numbers,
                None => {
                    let columns = self.read_page(page, Detail::Severities)?;
                    let columns = columns.open().map_err(|error| self.malformed(error.0))?;
                    (0..rows).map(|row| columns.severity(row).0).collect()
                }
            };
            Ok((numbers, rows))
        })
    }

    fn severities_quickly(&self, page: usize, rows: usize) -> Result<Option<Vec<u8>>> {
        let footer = self.footer()?;
        let Some(column) = Self::column_number(&footer, super::rows::SEVERITY_COLUMNS[0]) else { return Ok(None) };
        let Some(raw) = self.column_page(&footer, column, page, false)? else { return Ok(None) };
        let mut pages = Vec::with_capacity(2);
        if matches!(raw.header.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY) {
            let Some(dictionary) = self.dictionary(&footer, column, page)? else { return Ok(None) };
            pages.push(dictionary);
        }
        pages.push(raw.into_page());
        let numbers = self.decode::<Int32Type>(&footer, column, pages, rows)?;
        Ok(Some(numbers.into_iter().map(|number| u8::try_from(number).unwrap_or(0)).collect()))
    }

    /// Returns the lines of a page. One that others will want, too, is kept.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn lines(&self, page: usize, is_shared: bool) -> Result<Arc<LinesPage>> {
        if !is_shared {
            return self.decode_lines(page).map(Arc::new);
        }
        self.cache().pages.get_or_load(self.page_key(page, What::Lines), || {
            let lines = self.decode_lines(page)?;
            let size_bytes = lines.size_bytes();
            Ok((lines, size_bytes))
        })
    }

    fn decode_lines(&self, page: usize) -> Result<LinesPage> {
        let rows = self.page_rows(page);
        if self.is_text(page)? {
            let footer = self.footer()?;
            let column = Self::column_number(&footer, super::rows::LINE_COLUMNS[0]);
            let raw = column.map(|column| self.column_page(&footer, column, page, false)).transpose()?.flatten();
            if let Some(raw) = raw {
                let path = self.rows_file().path();
                if raw.header.values as usize != rows {
                    return Err(corrupt(path, format!("{} lines, expected {rows}", raw.header.values)));
                }
                match raw.header.encoding {
                    Encoding::PLAIN => {
                        let lines = LinesPage::of_plain(raw.bytes, rows);
                        return lines.ok_or_else(|| corrupt(path, "a line is cut off"));
                    }
                    Encoding::DELTA_BYTE_ARRAY => {
                        let decoded = super::delta::strings(&raw.bytes, rows, PAGE_BYTES_MAX);
                        let (bytes, spans) = decoded.map_err(|error| corrupt(path, format!("expected {}", error.0)))?;
                        return Ok(LinesPage { bytes, spans });
                    }
                    _ => {}
                }
            }
        }
        let columns = self.read_page(page, Detail::Lines)?;
        let columns = columns.open().map_err(|error| self.malformed(error.0))?;
        let mut lines = LinesPage { bytes: Vec::new(), spans: Vec::with_capacity(rows) };
        for row in 0..rows {
            let row = columns.row(row);
            lines.push(&line_of(row.body_type, row.body).map_err(|error| self.malformed(error.0))?);
        }
        Ok(lines)
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
                raw.header.values == 1
                    && LinesPage::of_plain(raw.bytes, 1)
                        .is_some_and(|kind| kind.lines().line_bytes(0) == BODY_STR.as_bytes())
            });
            Ok((is_text, 0))
        })?;
        Ok(*is_text)
    }

    /// Returns which lines of a page pass a filter, and the lines where they were decoded for that.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn passing(&self, page: usize, filter: &dyn LineFilter, filter_number: u64) -> Result<Passing> {
        let key = self.page_key(page, What::Passing(filter_number));
        if let Some(found) = self.cache().pages.get(key) {
            return Ok((found, None));
        }
        let lines = self.lines(page, false)?;
        let found = filter.passing(lines.lines()).map_err(|error| self.malformed_text(error))?;
        let found = Arc::new(found);
        self.cache().pages.insert(key, &found, found.capacity() * size_of::<u32>());
        Ok((found, Some(lines)))
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
        let page = LinesPage::of_plain(bytes.clone(), 3).unwrap();
        let found: Vec<&[u8]> = (0..3).map(|row| page.lines().line_bytes(row)).collect();
        assert_eq!(found, [&b"ab"[..], b"", b"c"]);
        for length in 0..bytes.len() {
            assert!(LinesPage::of_plain(bytes[..length].to_vec(), 3).is_none(), "cut at {length}");
        }
        assert!(LinesPage::of_plain(vec![0xff; 8], 1).is_none());
    }
}
