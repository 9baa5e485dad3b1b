//! A column of a row group that is being written: pages one after the other, compressed, and what the footer says of them.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};

use super::encode::runs;
use crate::codec::put_zigzag;

/// Longest content that is put into a frame as it is: compressing it takes longer than it is worth.
const SMALL_BYTES_MAX: usize = 40;
/// Most memory for frames that is kept.
const ROOM_BYTES_MAX: usize = 8 << 20;
/// Most bytes of a dictionary; a page with a value that does not fit is written plain.
const DICTIONARY_BYTES_MAX: usize = 1 << 20;

/// Compresses pages.
pub(super) struct Packer {
    inner: Compressor<'static>,
    level: i32,
    /// Where frames are made.
    room: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Packer {
    /// Makes a compressor of a level. From 5 on it is set by hand: matches of six bytes and more, searched in a table that
    /// fits the processor's cache, give smaller pages in less time. Measured in docs/adr/0009.
    pub(super) fn new(level: i32) -> io::Result<Self> {
        let mut inner = Compressor::new(level)?;
        if level >= 5 {
            inner.set_parameter(CParameter::Strategy(Strategy::ZSTD_greedy))?;
            inner.set_parameter(CParameter::HashLog(16))?;
            inner.set_parameter(CParameter::SearchLog(4))?;
            inner.set_parameter(CParameter::MinMatch(6))?;
        }
        Ok(Self { inner, level, room: Vec::new() })
    }

    /// Returns a frame with this content, which stays until the next one.
    fn pack(&mut self, content: &[u8]) -> io::Result<&[u8]> {
        if self.room.capacity() > ROOM_BYTES_MAX {
            self.room = Vec::new();
        }
        self.room.clear();
        if let Some(length) = u8::try_from(content.len()).ok().filter(|length| usize::from(*length) <= SMALL_BYTES_MAX)
        {
            // Magic; one segment, whose length is a byte; a last block of bytes as they are.
            self.room.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length]);
            self.room.extend_from_slice(&(u32::from(length) << 3 | 1).to_le_bytes()[..3]);
            self.room.extend_from_slice(content);
        } else {
            self.room.reserve(zstd::zstd_safe::compress_bound(content.len()));
            self.inner.compress_to_buffer(content, &mut self.room)?;
        }
        Ok(&self.room)
    }
}

/// What a page header says of a page's kind.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Data(Encoding),
    Dictionary,
}

/// How a field of a page header begins: a byte with how far its number is from the last one's, and its type.
const NEXT_I32: u8 = 0x15;
/// The struct that says more of a data page is field 5, that of a dictionary field 7.
const DATA_STRUCT: u8 = 0x2c;
const DICTIONARY_STRUCT: u8 = 0x4c;

/// Adds a page with its header, structs in Thrift's compact protocol; returns how long both are together.
fn put_page(
    out: &mut Vec<u8>,
    packer: &mut Packer,
    kind: Kind,
    values: usize,
    content: &[u8],
) -> Result<(usize, i64), ParquetError> {
    let packed = packer.pack(content)?;
    let start = out.len();
    let number =
        |number: usize| i32::try_from(number).map_err(|_| ParquetError::General("a page is too large".to_owned()));
    let (page_type, inner) = match kind {
        Kind::Data(encoding) => (0, vec![number(values)?, encoding as i32, Encoding::RLE as i32, Encoding::RLE as i32]),
        Kind::Dictionary => (2, vec![number(values)?, Encoding::PLAIN as i32]),
    };
    let put = |out: &mut Vec<u8>, number: i32| {
        out.push(NEXT_I32);
        put_zigzag(out, i64::from(number));
    };
    for field in [page_type, number(content.len())?, number(packed.len())?] {
        put(out, field);
    }
    out.push(if matches!(kind, Kind::Data(_)) { DATA_STRUCT } else { DICTIONARY_STRUCT });
    inner.into_iter().for_each(|field| put(out, field));
    out.extend_from_slice(&[0, 0]);
    let header_bytes = out.len() - start;
    out.extend_from_slice(packed);
    Ok((out.len() - start, i64::try_from(header_bytes + content.len()).unwrap_or(i64::MAX)))
}

/// The distinct values of a column chunk, plainly encoded.
#[derive(Debug, Default)]
struct Dictionary {
    keys: HashMap<Box<[u8]>, u32>,
    bytes: Vec<u8>,
}

/// A column of the open row group.
#[derive(Debug)]
pub(super) struct ColumnChunk {
    column: ColumnDescPtr,
    is_keyed: bool,
    dictionary: Dictionary,
    /// The data pages.
    bytes: Vec<u8>,
    /// Size and rows of each.
    pages: Vec<(usize, usize)>,
    encodings: Vec<(Encoding, i32)>,
    unpacked_bytes: i64,
    rows: usize,
}

impl ColumnChunk {
    pub(super) fn new(column: ColumnDescPtr, is_keyed: bool) -> Self {
        Self {
            column,
            is_keyed,
            dictionary: Dictionary::default(),
            bytes: Vec::new(),
            pages: Vec::new(),
            encodings: Vec::new(),
            unpacked_bytes: 0,
            rows: 0,
        }
    }

    pub(super) fn column(&self) -> ColumnDescPtr {
        ColumnDescPtr::clone(&self.column)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a page of so many rows.
    pub(super) fn push_page(
        &mut self,
        packer: &mut Packer,
        encoding: Encoding,
        rows: usize,
        content: &[u8],
    ) -> Result<(), ParquetError> {
        let (size, unpacked) = put_page(&mut self.bytes, packer, Kind::Data(encoding), rows, content)?;
        self.pages.push((size, rows));
        self.unpacked_bytes += unpacked;
        self.rows += rows;
        match self.encodings.iter_mut().find(|(known, _)| *known == encoding) {
            Some((_, pages)) => *pages += 1,
            None => self.encodings.push((encoding, 1)),
        }
        Ok(())
    }

    /// Returns the key of a plainly encoded value; `None` when there is no room for it.
    fn key(&mut self, value: &[u8]) -> Option<u32> {
        if let Some(key) = self.dictionary.keys.get(value) {
            return Some(*key);
        }
        if self.dictionary.bytes.len() + value.len() > DICTIONARY_BYTES_MAX {
            return None;
        }
        let key = u32::try_from(self.dictionary.keys.len()).ok()?;
        self.dictionary.keys.insert(value.into(), key);
        self.dictionary.bytes.extend_from_slice(value);
        Some(key)
    }

    /// Adds a page of values that come back: `content` is what goes before them, `numbers` say which of the plainly encoded
    /// `values` each is.
    pub(super) fn push_keyed_page(
        &mut self,
        packer: &mut Packer,
        rows: usize,
        mut content: Vec<u8>,
        numbers: &mut [u32],
        values: &[&[u8]],
    ) -> Result<(), ParquetError> {
        let keys: Option<Vec<u32>> = values.iter().map(|value| self.key(value)).collect();
        let Some(keys) = keys else {
            for number in numbers.iter() {
                content.extend_from_slice(values.get(*number as usize).copied().unwrap_or_default());
            }
            return self.push_page(packer, Encoding::PLAIN, rows, &content);
        };
        for number in numbers.iter_mut() {
            *number = keys.get(*number as usize).copied().unwrap_or(0);
        }
        let width =
            u32::BITS - u32::try_from(self.dictionary.keys.len().saturating_sub(1)).unwrap_or(0).leading_zeros();
        content.push(width.to_le_bytes()[0]);
        runs(&mut content, numbers, width);
        self.push_page(packer, Encoding::RLE_DICTIONARY, rows, &content)
    }

    /// Ends the row group: returns the bytes of the column and what the footer says of it.
    pub(super) fn finish(
        &mut self,
        packer: &mut Packer,
        statistics: Option<Statistics>,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let mut chunk = std::mem::replace(self, Self::new(self.column(), self.is_keyed));
        let mut all = Vec::new();
        if chunk.is_keyed {
            let Dictionary { keys, bytes } = &chunk.dictionary;
            let (_, unpacked) = put_page(&mut all, packer, Kind::Dictionary, keys.len(), bytes)?;
            chunk.unpacked_bytes += unpacked;
        }
        let number = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let first_page = number(all.len());
        let mut index = OffsetIndexBuilder::new();
        let mut offset = first_page;
        for (size, rows) in &chunk.pages {
            index.append_offset_and_size(offset, i32::try_from(*size).unwrap_or(i32::MAX));
            index.append_row_count(number(*rows));
            offset += number(*size);
        }
        let bytes = if all.is_empty() {
            Bytes::from(chunk.bytes)
        } else {
            all.append(&mut chunk.bytes);
            Bytes::from(all)
        };
        let mut encodings = vec![Encoding::RLE];
        encodings.extend(chunk.encodings.iter().map(|(encoding, _)| *encoding));
        let of_pages = |(encoding, count): &(Encoding, i32)| PageEncodingStats {
            page_type: PageType::DATA_PAGE,
            encoding: *encoding,
            count: *count,
        };
        let mut stats: Vec<PageEncodingStats> = chunk.encodings.iter().map(of_pages).collect();
        if chunk.is_keyed {
            encodings.push(Encoding::PLAIN);
            let (page_type, encoding) = (PageType::DICTIONARY_PAGE, Encoding::PLAIN);
            stats.push(PageEncodingStats { page_type, encoding, count: 1 });
        }
        let mut metadata = ColumnChunkMetaData::builder(chunk.column)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(number(bytes.len()))
            .set_total_uncompressed_size(chunk.unpacked_bytes)
            .set_num_values(number(chunk.rows))
            .set_data_page_offset(first_page)
            .set_dictionary_page_offset(chunk.is_keyed.then_some(0));
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: chunk.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index.build()),
        };
        Ok((bytes, close))
    }
}
