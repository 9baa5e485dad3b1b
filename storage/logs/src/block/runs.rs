//! Decodes the timestamps and severities of pages that follow each other: they lie side by side in the file, and a page of
//! either is much smaller than what is read and verified at a time.

use std::ops::Range;
use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{Encoding, Type};
use storage_api::Result;

use super::files::corrupt;
use super::numbers::{deltas, values_of};
use super::page_cache::What;
use super::page_header::PageHeader;
use super::reader::{Block, Detail};
use super::rows::{SEVERITY_COLUMNS, TIMESTAMP_COLUMN};
use crate::codec::Malformed;

/// A column of which pages are decoded.
struct Column<'a> {
    footer: &'a ArrowReaderMetadata,
    number: usize,
    page: usize,
    rows: usize,
}

/// Decodes a page; `None` when it has another form than is known here.
type Decode<'a, T> = dyn Fn(&Column<'_>, &PageHeader, &[u8]) -> Result<Option<Vec<T>>> + 'a;

impl Block {
    /// Returns the timestamps of a page.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn times(&self, page: usize) -> Result<Arc<Vec<i64>>> {
        let found = self.times_of(page..page + 1)?.pop();
        found.ok_or_else(|| corrupt(self.dir(), "a page is missing"))
    }

    /// Returns the timestamps of pages of one row group.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn times_of(&self, pages: Range<usize>) -> Result<Vec<Arc<Vec<i64>>>> {
        let decode = |column: &Column<'_>, header: &PageHeader, page: &[u8]| {
            (header.encoding == Encoding::DELTA_BINARY_PACKED && self.is_plain(column, Type::INT64))
                .then(|| deltas(page, column.rows))
                .transpose()
                .map_err(|error| self.malformed_page(error))
        };
        let decode_slowly = |page: usize| {
            let columns = self.read_page(page, Detail::Times)?;
            Ok(columns.open().map_err(|error| self.malformed(error.0))?.timestamps().to_vec())
        };
        self.run_of(pages, (What::Times, TIMESTAMP_COLUMN), &decode, &decode_slowly)
    }

    /// Returns the severity numbers of pages of one row group.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn severities_of(&self, pages: Range<usize>) -> Result<Vec<Arc<Vec<u8>>>> {
        let decode = |column: &Column<'_>, header: &PageHeader, page: &[u8]| {
            let is_dictionary = matches!(header.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
            if !is_dictionary || !self.is_plain(column, Type::INT32) {
                return Ok(None);
            }
            let Some(dictionary) = self.dictionary(column.footer, column.number, column.page)? else { return Ok(None) };
            let (numbers, _) = dictionary.buffer().as_chunks::<4>();
            let number = |bytes: &[u8; 4]| u8::try_from(i32::from_le_bytes(*bytes)).unwrap_or(0);
            let numbers: Vec<u8> = numbers.iter().map(number).collect();
            values_of(page, column.rows, &numbers).map(Some).map_err(|error| self.malformed_page(error))
        };
        let decode_slowly = |page: usize| {
            let columns = self.read_page(page, Detail::Severities)?;
            let columns = columns.open().map_err(|error| self.malformed(error.0))?;
            Ok((0..self.page_rows(page)).map(|row| columns.severity(row).0).collect())
        };
        self.run_of(pages, (What::Severities, SEVERITY_COLUMNS[0]), &decode, &decode_slowly)
    }

    fn malformed_page(&self, Malformed(expected): Malformed) -> storage_api::Error {
        corrupt(self.rows_file().path(), format!("expected {expected}"))
    }

    /// Says whether a column has values of a type and no nulls.
    fn is_plain(&self, column: &Column<'_>, kind: Type) -> bool {
        let descriptor = column.footer.parquet_schema().column(column.number);
        descriptor.physical_type() == kind && descriptor.max_def_level() == 0
    }

    /// Returns the values of pages, out of the cache, or read and decoded all at once from the first missing one on.
    fn run_of<T: Send + Sync + 'static>(
        &self,
        pages: Range<usize>,
        (what, name): (What, &str),
        decode: &Decode<'_, T>,
        decode_slowly: &dyn Fn(usize) -> Result<Vec<T>>,
    ) -> Result<Vec<Arc<Vec<T>>>> {
        let cache = &self.cache().pages;
        let mut found: Vec<Option<Arc<Vec<T>>>> =
            pages.clone().map(|page| cache.get(self.page_key(page, what))).collect();
        let missing: Vec<usize> =
            pages.clone().zip(&found).filter(|(_, values)| values.is_none()).map(|(page, _)| page).collect();
        let mut keep = |page: usize, values: Vec<T>| {
            let values = Arc::new(values);
            cache.insert(self.page_key(page, what), &values, values.len() * size_of::<T>());
            if let Some(place) = found.get_mut(page - pages.start) {
                *place = Some(values);
            }
        };
        let mut missing = missing.as_slice();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            let footer = self.footer()?;
            let number = Self::column_number(&footer, name);
            let mut quickly = |number: usize| {
                self.read_run(&footer, number, *first..last + 1, &mut |page, header, bytes| {
                    let Some(rest) = missing.strip_prefix(&[page]) else { return Ok(true) };
                    let column = Column { footer: &footer, number, page, rows: self.page_rows(page) };
                    let Some(values) = decode(&column, header, bytes)? else { return Ok(false) };
                    missing = rest;
                    keep(page, values);
                    Ok(true)
                })
            };
            number.map(&mut quickly).transpose()?;
        }
        // Those of another form than is known here.
        for page in missing {
            let values = decode_slowly(*page)?;
            if values.len() != self.page_rows(*page) {
                let reason = format!("{} values, expected {}", values.len(), self.page_rows(*page));
                return Err(corrupt(self.rows_file().path(), reason));
            }
            keep(*page, values);
        }
        Ok(found.into_iter().flatten().collect())
    }
}
