//! Builds a column chunk of Parquet out of pages that are encoded already.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// How hard to compress what repeats: levels above gain a hundredth and cost much.
pub(crate) const ZSTD_LEVEL: i32 = 3;
/// The same for packed differences, where level 3 gains no more.
pub(crate) const ZSTD_LEVEL_PACKED: i32 = 1;
/// A page that gets smaller by less than one part in so many is not worth its unpacking at each read.
const PACKED_GAIN_PARTS: usize = 32;

/// One data page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataPage<'a> {
    pub(crate) rows: usize,
    pub(crate) nulls: usize,
    /// RLE; empty in a column without nulls.
    pub(crate) definition_levels: &'a [u8],
    pub(crate) values: &'a [u8],
    pub(crate) encoding: Encoding,
    /// The least and greatest value, for the column index.
    pub(crate) bounds: Option<(i64, i64)>,
}

/// A column chunk as it grows in memory.
pub(crate) struct ChunkWriter {
    column: ColumnDescPtr,
    sink: TrackedWrite<Vec<u8>>,
    zstd: zstd::bulk::Compressor<'static>,
    zstd_level: i32,
    offsets: OffsetIndexBuilder,
    bounds: Option<ColumnIndexBuilder>,
    dictionary_at: Option<i64>,
    data_at: Option<i64>,
    encodings: Vec<Encoding>,
    uncompressed_bytes: usize,
    rows: usize,
}

fn to_i32(number: usize) -> Result<i32, ParquetError> {
    i32::try_from(number).map_err(|_| ParquetError::General(format!("{number} is too much for a page")))
}

fn to_u32(number: usize) -> Result<u32, ParquetError> {
    to_i32(number).map(i32::unsigned_abs)
}

impl ChunkWriter {
    pub(crate) fn new(column: ColumnDescPtr, zstd_level: i32) -> Result<Self, ParquetError> {
        Ok(Self {
            column,
            sink: TrackedWrite::new(Vec::new()),
            zstd: zstd::bulk::Compressor::new(zstd_level)?,
            zstd_level,
            offsets: OffsetIndexBuilder::new(),
            bounds: None,
            dictionary_at: None,
            data_at: None,
            encodings: Vec::new(),
            uncompressed_bytes: 0,
            rows: 0,
        })
    }

    fn note(&mut self, encoding: Encoding) {
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
    }

    /// Writes the dictionary, given as PLAIN; it comes before all data pages.
    pub(crate) fn dictionary(&mut self, plain: &[u8], entries: usize) -> Result<(), ParquetError> {
        self.note(Encoding::PLAIN);
        let (num_values, encoding) = (to_u32(entries)?, Encoding::PLAIN);
        let buf = Bytes::from(self.zstd.compress(plain)?);
        let page = Page::DictionaryPage { buf, num_values, encoding, is_sorted: false };
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(CompressedPage::new(page, plain.len()))?;
        self.uncompressed_bytes += spec.uncompressed_size;
        self.dictionary_at = Some(spec.offset as i64);
        Ok(())
    }

    pub(crate) fn page(&mut self, data: DataPage<'_>) -> Result<(), ParquetError> {
        let plain_bytes = data.values.len();
        let packed = self.zstd.compress(data.values)?;
        if packed.len() < plain_bytes - plain_bytes / PACKED_GAIN_PARTS {
            self.packed_page(DataPage { values: &packed, ..data }, Some(plain_bytes))
        } else {
            self.packed_page(data, None)
        }
    }

    /// Writes a page whose values are compressed already, if it is told how many bytes they were.
    pub(crate) fn packed_page(&mut self, data: DataPage<'_>, plain_bytes: Option<usize>) -> Result<(), ParquetError> {
        self.note(data.encoding);
        self.note(Encoding::RLE);
        let is_compressed = plain_bytes.is_some();
        let mut buf = Vec::with_capacity(data.definition_levels.len() + data.values.len());
        buf.extend_from_slice(data.definition_levels);
        buf.extend_from_slice(data.values);
        let page = Page::DataPageV2 {
            buf: buf.into(),
            num_values: to_u32(data.rows)?,
            encoding: data.encoding,
            num_nulls: to_u32(data.nulls)?,
            num_rows: to_u32(data.rows)?,
            def_levels_byte_len: to_u32(data.definition_levels.len())?,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        };
        let plain_bytes = plain_bytes.unwrap_or(data.values.len());
        let page = CompressedPage::new(page, data.definition_levels.len() + plain_bytes);
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed_bytes += spec.uncompressed_size;
        self.data_at = self.data_at.or(Some(spec.offset as i64));
        self.offsets.append_row_count(data.rows as i64);
        self.offsets.append_offset_and_size(spec.offset as i64, to_i32(spec.compressed_size)?);
        if let Some((min, max)) = data.bounds {
            let column_type = self.column.physical_type();
            let bounds = self.bounds.get_or_insert_with(|| ColumnIndexBuilder::new(column_type));
            bounds.append(false, min.to_le_bytes().to_vec(), max.to_le_bytes().to_vec(), 0, None);
        }
        self.rows += data.rows;
        Ok(())
    }

    /// Returns the chunk and what Parquet must know about it.
    pub(crate) fn finish(self, statistics: Option<Statistics>) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let content = Bytes::from(self.sink.into_inner()?);
        let mut metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.zstd_level)?))
            .set_encodings(self.encodings)
            .set_num_values(self.rows as i64)
            .set_total_compressed_size(content.len() as i64)
            .set_total_uncompressed_size(self.uncompressed_bytes as i64)
            .set_dictionary_page_offset(self.dictionary_at)
            .set_data_page_offset(self.data_at.unwrap_or(0));
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: content.len() as u64,
            rows_written: self.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: self.bounds.map(ColumnIndexBuilder::build).transpose()?,
            offset_index: Some(self.offsets.build()),
        };
        Ok((content, close))
    }
}
