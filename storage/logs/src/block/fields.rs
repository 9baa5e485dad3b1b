//! Decodes what lies beside the lines of a few rows of a page.

use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Encoding;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use storage_api::Result;

use super::files::corrupt;
use super::page_cache::What;
use super::pages::Pages;
use super::reader::Block;
use super::rows::{BODY_STR, OBSERVED_COLUMN, OBSERVED_DELAY_COLUMN, RowView};
use crate::metadata::hex;

/// Columns beside the lines, of some rows; those of another form than is known here are read by the Arrow reader.
#[derive(Debug, Default)]
pub(crate) struct FieldRows {
    timestamp: Vec<i64>,
    observed_timestamp: Vec<Option<i64>>,
    severity_number: Vec<Option<i32>>,
    severity_text: Vec<Option<ByteArray>>,
    attributes: Vec<Option<ByteArray>>,
    resource: Vec<Option<ByteArray>>,
    scope: Vec<Option<ByteArray>>,
    trace_id: Vec<Option<FixedLenByteArray>>,
    span_id: Vec<Option<FixedLenByteArray>>,
    flags: Vec<Option<i32>>,
    event_name: Vec<Option<ByteArray>>,
    dropped: Vec<Option<i32>>,
}

fn text(column: &[Option<ByteArray>], i: usize) -> Option<&str> {
    match column.get(i) {
        Some(Some(bytes)) => std::str::from_utf8(bytes.data()).ok(),
        _ => Some(""),
    }
}

fn id<const N: usize>(column: &[Option<FixedLenByteArray>], i: usize) -> [u8; N] {
    let found = column.get(i).and_then(Option::as_ref);
    found.and_then(|bytes| bytes.data().try_into().ok()).unwrap_or([0; N])
}

fn number<T: Copy + Default>(column: &[Option<T>], i: usize) -> T {
    column.get(i).copied().flatten().unwrap_or_default()
}

impl FieldRows {
    /// Returns what it takes in memory, about.
    fn size_bytes(&self) -> usize {
        let texts = [&self.severity_text, &self.attributes, &self.resource, &self.scope, &self.event_name];
        let text = |text: &Option<ByteArray>| size_of::<Option<ByteArray>>() + text.as_ref().map_or(0, ByteArray::len);
        let ids = self.trace_id.len() + self.span_id.len();
        texts.into_iter().flatten().map(text).sum::<usize>()
            + ids * (size_of::<Option<FixedLenByteArray>>() + 16)
            + self.timestamp.len() * 48
    }

    /// Returns a row by its place among those that were asked for, without its line; `None` when a text is no UTF-8.
    pub(crate) fn row(&self, i: usize) -> Option<RowView<'_>> {
        Some(RowView {
            timestamp: self.timestamp.get(i).copied().unwrap_or(0),
            observed_timestamp: number(&self.observed_timestamp, i),
            severity_number: u8::try_from(number(&self.severity_number, i)).unwrap_or(0),
            severity_text: text(&self.severity_text, i)?,
            body: "",
            body_type: BODY_STR,
            attributes: text(&self.attributes, i)?,
            resource: text(&self.resource, i)?,
            scope: text(&self.scope, i)?,
            trace_id: id(&self.trace_id, i),
            span_id: id(&self.span_id, i),
            flags: number(&self.flags, i).cast_unsigned(),
            event_name: text(&self.event_name, i)?,
            dropped_attributes_count: number(&self.dropped, i).cast_unsigned(),
        })
    }
}

impl Block {
    /// Leaves of some rows of a page those whose trace or span id, by the column's name, is `wanted`; `false` when only the
    /// Arrow reader can.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn retain_id(&self, page: usize, rows: &mut Vec<u32>, name: &'static str, wanted: &str) -> Result<bool> {
        let footer = self.footer()?;
        let mut ids: Vec<Option<FixedLenByteArray>> = Vec::new();
        let picks = Picks { block: self, footer: &footer, page, rows };
        if !picks.column::<FixedLenByteArrayType>(name, &mut ids)? {
            return Ok(false);
        }
        let is_wanted = |id: &FixedLenByteArray| hex(id.data()).is_some_and(|id| id == wanted);
        let mut ids = ids.iter();
        rows.retain(|_| ids.next().and_then(Option::as_ref).is_some_and(is_wanted));
        Ok(true)
    }

    /// Decodes all but the lines of a page, for streams that share it; `None` when only the Arrow reader can.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn shared_fields(&self, page: usize) -> Result<Arc<Option<FieldRows>>> {
        self.cache().pages.get_or_load(self.page_key(page, What::Fields), || {
            let rows: Vec<u32> = (0..u32::try_from(self.page_rows(page)).unwrap_or(0)).collect();
            let fields = self.fields(page, &rows)?;
            let size_bytes = fields.as_ref().map_or(0, FieldRows::size_bytes);
            Ok((fields, size_bytes))
        })
    }

    /// Decodes all but the lines of some rows of a page, given by their ascending numbers in it; `None` when only the Arrow
    /// reader can.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn fields(&self, page: usize, rows: &[u32]) -> Result<Option<FieldRows>> {
        let footer = self.footer()?;
        let times = self.times(page)?;
        let mut out = FieldRows {
            timestamp: rows.iter().filter_map(|row| times.get(*row as usize).copied()).collect(),
            ..FieldRows::default()
        };
        let picks = Picks { block: self, footer: &footer, page, rows };
        Ok((picks.observed(&mut out)?
            && picks.column::<Int32Type>("severity_number", &mut out.severity_number)?
            && picks.column::<ByteArrayType>("severity_text", &mut out.severity_text)?
            && picks.column::<ByteArrayType>("attributes", &mut out.attributes)?
            && picks.column::<ByteArrayType>("resource", &mut out.resource)?
            && picks.column::<ByteArrayType>("scope", &mut out.scope)?
            && picks.column::<FixedLenByteArrayType>("trace_id", &mut out.trace_id)?
            && picks.column::<FixedLenByteArrayType>("span_id", &mut out.span_id)?
            && picks.column::<Int32Type>("flags", &mut out.flags)?
            && picks.column::<ByteArrayType>("event_name", &mut out.event_name)?
            && picks.column::<Int32Type>("dropped_attributes_count", &mut out.dropped)?)
        .then_some(out))
    }
}

/// Rows of a page that are read.
struct Picks<'a> {
    block: &'a Block,
    footer: &'a ArrowReaderMetadata,
    page: usize,
    rows: &'a [u32],
}

impl Picks<'_> {
    /// Decodes when rows were observed, which lies beside their timestamps as a delay, or in old blocks as a time.
    fn observed(&self, out: &mut FieldRows) -> Result<bool> {
        if Block::column_number(self.footer, OBSERVED_COLUMN).is_some() {
            return self.column::<Int64Type>(OBSERVED_COLUMN, &mut out.observed_timestamp);
        }
        if !self.column::<Int64Type>(OBSERVED_DELAY_COLUMN, &mut out.observed_timestamp)? {
            return Ok(false);
        }
        for (observed, at) in out.observed_timestamp.iter_mut().zip(&out.timestamp) {
            *observed = observed.map(|delay| at.wrapping_add(delay));
        }
        Ok(true)
    }

    /// Decodes a column; `false` when it cannot be done here.
    fn column<T: DataType>(&self, name: &'static str, out: &mut Vec<Option<T::T>>) -> Result<bool> {
        let Some(column) = Block::column_number(self.footer, name) else { return Ok(false) };
        let descriptor = self.footer.parquet_schema().column(column);
        if T::get_physical_type() != descriptor.physical_type() || descriptor.max_def_level() > 1 {
            return Ok(false);
        }
        let Some(raw) = self.block.column_page(self.footer, column, self.page, false)? else { return Ok(false) };
        let mut pages = Vec::with_capacity(2);
        if matches!(raw.header.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY) {
            let Some(dictionary) = self.block.dictionary(self.footer, column, self.page)? else { return Ok(false) };
            pages.push(dictionary);
        }
        pages.push(raw.into_page());
        let nullable = descriptor.max_def_level() > 0;
        let mut reader = ColumnReaderImpl::<T>::new(descriptor, Box::new(Pages::new(pages)));
        let fail = |error| self.block.parquet_error(error);
        let mut at = 0;
        for run in self.rows.chunk_by(|a, b| a + 1 == *b) {
            let start = run.first().copied().unwrap_or(0) as usize;
            reader.skip_records(start.saturating_sub(at)).map_err(fail)?;
            at = start + run.len();
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            reader.read_records(run.len(), nullable.then_some(&mut levels), None, &mut values).map_err(fail)?;
            let mut values = values.into_iter();
            if nullable {
                out.extend(levels.iter().map(|level| if *level > 0 { values.next() } else { None }));
            } else {
                out.extend(values.map(Some));
            }
        }
        if out.len() != self.rows.len() {
            let reason = format!("{} values of {name}, expected {}", out.len(), self.rows.len());
            return Err(corrupt(self.block.rows_file().path(), reason));
        }
        Ok(true)
    }
}

impl Block {
    /// Returns the dictionary of a column in a page's row group.
    pub(super) fn dictionary(
        &self,
        footer: &ArrowReaderMetadata,
        column: usize,
        page: usize,
    ) -> Result<Option<parquet::column::page::Page>> {
        let key = self.page_key(self.group_page(page), What::Dictionary(column));
        let dictionary = self.cache().pages.get_or_load(key, || {
            let found = self.column_page(footer, column, page, true)?.map(super::pages::RawPage::into_page);
            let size_bytes = found.as_ref().map_or(0, |page| page.buffer().len());
            Ok((found, size_bytes))
        })?;
        Ok(dictionary.as_ref().clone())
    }
}
