//! Writes `rows.parquet`, page by page: what is written is what a common Parquet writer writes, in less time.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::SerializedFileWriter;

use super::checked_file::CheckedWriter;
use super::chunk::{ColumnChunk, Packer};
use super::encode::{delta_numbers, delta_texts, plain_text, presence};
use super::page::{KeyedTexts, NO_KEY, Page};
use super::rows::SCHEMA;

/// Compression of all but bodies and attributes.
const ZSTD_LEVEL: i32 = 1;

/// Checksums, size, and checksum of the whole.
pub(super) type Written = (Vec<u8>, u64, u32);

/// Columns whose values come back, so that they are written once a row group.
const KEYED: [&str; 10] = [
    "stream_id",
    "stream",
    "severity_number",
    "severity_text",
    "body_type",
    "resource",
    "scope",
    "flags",
    "event_name",
    "dropped_attributes_count",
];

/// The least and the greatest value of a column.
#[derive(Debug, Clone, Copy)]
struct Extent<T>(Option<(T, T)>);

impl<T: Copy + Ord> Extent<T> {
    fn widen(&mut self, values: &[T]) {
        for value in values {
            let (least, greatest) = self.0.unwrap_or((*value, *value));
            self.0 = Some((least.min(*value), greatest.max(*value)));
        }
    }
}

/// Extents of the open row group.
#[derive(Debug)]
struct Extents {
    timestamp: Extent<i64>,
    stream_id: Extent<u64>,
    severity_number: Extent<u8>,
}

impl Default for Extents {
    fn default() -> Self {
        Self { timestamp: Extent(None), stream_id: Extent(None), severity_number: Extent(None) }
    }
}

impl Extents {
    /// Returns the statistics of a column that has some.
    fn of(&self, name: &str) -> Option<Statistics> {
        match name {
            "timestamp" => {
                let (least, greatest) = self.timestamp.0.unzip();
                let statistics = ValueStatistics::<i64>::new(least, greatest, None, Some(0), false);
                Some(statistics.with_backwards_compatible_min_max(true).into())
            }
            "stream_id" => {
                let (least, greatest) = self.stream_id.0.map(|(a, b)| (a.cast_signed(), b.cast_signed())).unzip();
                Some(Statistics::int64(least, greatest, None, Some(0), false))
            }
            "severity_number" => {
                let (least, greatest) = self.severity_number.0.map(|(a, b)| (i32::from(a), i32::from(b))).unzip();
                Some(Statistics::int32(least, greatest, None, Some(0), false))
            }
            _ => None,
        }
    }
}

/// The file that is being written.
pub(super) struct RowsFile {
    file: SerializedFileWriter<CheckedWriter>,
    columns: Vec<ColumnChunk>,
    extents: Extents,
    packer: Packer,
    text_packer: Packer,
    room: Vec<u32>,
}

impl RowsFile {
    /// Makes the file, which must not be there; texts are compressed with `zstd_level`.
    pub(super) fn create(path: &Path, zstd_level: i32) -> Result<Self, ParquetError> {
        let schema = ArrowSchemaConverter::new().convert(&SCHEMA)?;
        let mut properties = WriterProperties::builder().set_created_by("daybook".to_owned()).build();
        add_encoded_arrow_schema_to_metadata(&SCHEMA, &mut properties);
        let column = |column: &parquet::schema::types::ColumnDescPtr| {
            ColumnChunk::new(Arc::clone(column), KEYED.contains(&column.name()))
        };
        Ok(Self {
            columns: schema.columns().iter().map(column).collect(),
            file: SerializedFileWriter::new(
                CheckedWriter::create(path)?,
                schema.root_schema_ptr(),
                Arc::new(properties),
            )?,
            extents: Extents::default(),
            packer: Packer::new(ZSTD_LEVEL)?,
            text_packer: Packer::new(zstd_level)?,
            room: Vec::new(),
        })
    }

    /// Adds a page.
    pub(super) fn push_page(&mut self, page: &Page) -> Result<(), ParquetError> {
        if page.len() == 0 {
            return Err(ParquetError::General("a page without rows".to_owned()));
        }
        self.extents.timestamp.widen(&page.timestamps);
        self.extents.stream_id.widen(&page.stream_ids);
        self.extents.severity_number.widen(&page.severity_numbers);
        let rows = page.len();
        let Self { columns, packer, text_packer, room, .. } = self;
        for chunk in columns {
            let mut content = Vec::new();
            match chunk.column().name() {
                "timestamp" => {
                    delta_numbers(&mut content, &page.timestamps);
                    chunk.push_page(packer, Encoding::DELTA_BINARY_PACKED, rows, &content)?;
                }
                "observed_delay_ns" => {
                    presence(&mut content, page.has_delay.iter().copied(), room);
                    delta_numbers(&mut content, &page.delays);
                    chunk.push_page(packer, Encoding::DELTA_BINARY_PACKED, rows, &content)?;
                }
                "body" => {
                    delta_texts(&mut content, &page.bodies);
                    chunk.push_page(text_packer, Encoding::DELTA_BYTE_ARRAY, rows, &content)?;
                }
                "attributes" => {
                    presence(&mut content, page.has_attributes.iter().copied(), room);
                    page.attributes.iter().for_each(|text| plain_text(&mut content, text));
                    chunk.push_page(text_packer, Encoding::PLAIN, rows, &content)?;
                }
                "trace_id" => {
                    presence(&mut content, page.has_trace_id.iter().copied(), room);
                    content.extend_from_slice(page.trace_ids.as_flattened());
                    chunk.push_page(packer, Encoding::PLAIN, rows, &content)?;
                }
                "span_id" => {
                    presence(&mut content, page.has_span_id.iter().copied(), room);
                    content.extend_from_slice(page.span_ids.as_flattened());
                    chunk.push_page(packer, Encoding::PLAIN, rows, &content)?;
                }
                "stream_id" => push_numbers(chunk, packer, &page.stream_ids, |id| id.to_le_bytes().to_vec())?,
                "severity_number" => {
                    push_numbers(chunk, packer, &page.severity_numbers, |number| {
                        u32::from(number).to_le_bytes().to_vec()
                    })?;
                }
                "flags" => push_numbers(chunk, packer, &page.flags, |flags| flags.to_le_bytes().to_vec())?,
                "dropped_attributes_count" => {
                    push_numbers(chunk, packer, &page.dropped, |count| count.to_le_bytes().to_vec())?;
                }
                "stream" => push_texts(chunk, packer, &page.streams, false, room)?,
                "body_type" => push_texts(chunk, packer, &page.body_types, false, room)?,
                "severity_text" => push_texts(chunk, packer, &page.severity_texts, true, room)?,
                "resource" => push_texts(chunk, packer, &page.resources, true, room)?,
                "scope" => push_texts(chunk, packer, &page.scopes, true, room)?,
                "event_name" => push_texts(chunk, packer, &page.event_names, true, room)?,
                name => return Err(ParquetError::General(format!("nothing is known of column {name}"))),
            }
        }
        Ok(())
    }

    /// Ends the row group.
    pub(super) fn end_group(&mut self) -> Result<(), ParquetError> {
        let extents = std::mem::take(&mut self.extents);
        let mut group = self.file.next_row_group()?;
        for chunk in &mut self.columns {
            let statistics = extents.of(chunk.column().name());
            let (bytes, close) = chunk.finish(&mut self.packer, statistics)?;
            group.append_column(&bytes, close)?;
        }
        group.close().map(drop)
    }

    /// Writes the rest, and fsyncs.
    pub(super) fn finish(mut self) -> Result<Written, ParquetError> {
        if self.columns.first().is_some_and(|chunk| chunk.rows() > 0) {
            self.end_group()?;
        }
        Ok(self.file.into_inner()?.finish()?)
    }
}

/// Adds a page of numbers of which there are few.
fn push_numbers<T: Copy + Eq + Hash>(
    chunk: &mut ColumnChunk,
    packer: &mut Packer,
    numbers: &[T],
    plain: impl Fn(T) -> Vec<u8>,
) -> Result<(), ParquetError> {
    let mut known: HashMap<T, u32> = HashMap::new();
    let mut values: Vec<Vec<u8>> = Vec::new();
    let mut keys = Vec::with_capacity(numbers.len());
    let mut last: Option<(T, u32)> = None;
    for number in numbers {
        let key = match last {
            Some((same, key)) if same == *number => key,
            _ => *known.entry(*number).or_insert_with(|| {
                values.push(plain(*number));
                u32::try_from(values.len() - 1).unwrap_or(u32::MAX)
            }),
        };
        last = Some((*number, key));
        keys.push(key);
    }
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    chunk.push_keyed_page(packer, numbers.len(), Vec::new(), &mut keys, &values)
}

/// Adds a page of texts of which there are few.
fn push_texts(
    chunk: &mut ColumnChunk,
    packer: &mut Packer,
    texts: &KeyedTexts,
    is_optional: bool,
    room: &mut Vec<u32>,
) -> Result<(), ParquetError> {
    let mut content = Vec::new();
    let mut keys;
    let mut values: Vec<Vec<u8>> = Vec::with_capacity(texts.texts.len() + 1);
    for text in &texts.texts {
        let mut value = Vec::with_capacity(text.len() + 4);
        plain_text(&mut value, text.as_bytes());
        values.push(value);
    }
    if is_optional {
        presence(&mut content, texts.keys.iter().map(|key| *key != NO_KEY), room);
        keys = texts.keys.iter().copied().filter(|key| *key != NO_KEY).collect();
    } else {
        // The empty text is one like any other here.
        keys = texts.keys.clone();
        if let Some(empty) = keys.contains(&NO_KEY).then(|| u32::try_from(values.len()).unwrap_or(NO_KEY)) {
            values.push(vec![0; 4]);
            keys.iter_mut().filter(|key| **key == NO_KEY).for_each(|key| *key = empty);
        }
    }
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    chunk.push_keyed_page(packer, texts.keys.len(), content, &mut keys, &values)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::block::rows::{Columns, RowView};

    /// What a row is made from: numbers that decide, and texts.
    type Seed = (i64, u8, String, String, u32);

    fn seeds() -> impl Strategy<Value = Vec<Seed>> {
        let number = prop_oneof![any::<i64>(), 0_i64..2_000_000, Just(i64::MIN), Just(i64::MAX)];
        let row =
            (number, 0_u8..4, "(GET /|é)?[a-c]{0,3}(x{300})?", "[a-b]{0,1}", prop_oneof![Just(0_u32), any::<u32>()]);
        prop::collection::vec(row, 1..200)
    }

    fn row(seed: &Seed) -> RowView<'_> {
        let (number, kind, body, few, flags) = seed;
        let is = |which: u8| *kind == which;
        RowView {
            timestamp: *number,
            observed_timestamp: if is(0) { 0 } else { number.wrapping_add(i64::from(*flags)) },
            severity_number: *kind,
            severity_text: few,
            body,
            body_type: if is(3) { "int" } else { "str" },
            attributes: if is(1) { "" } else { body },
            resource: few,
            scope: if is(2) { "" } else { "{}" },
            trace_id: if is(1) { [0; 16] } else { [*kind + 1; 16] },
            span_id: if few.is_empty() { [0; 8] } else { number.to_le_bytes() },
            flags: *flags,
            event_name: "",
            dropped_attributes_count: u32::from(is(2)) * flags,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn parquet_reads_what_is_written(pages in prop::collection::vec(seeds(), 1..5), level in prop_oneof![Just(1), Just(5)]) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("rows");
            let mut file = RowsFile::create(&path, level).unwrap();
            let mut page = Page::default();
            for (number, seeds) in pages.iter().enumerate() {
                seeds.iter().for_each(|seed| page.push(seed.4.into(), &format!("{{{}}}", seed.1), &row(seed)));
                file.push_page(&page).unwrap();
                page.clear();
                if number == 1 {
                    file.end_group().unwrap();
                }
            }
            let (_, size, _) = file.finish().unwrap();
            prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
            prop_assert_eq!(reader.schema(), &*SCHEMA);
            prop_assert_eq!(reader.metadata().num_row_groups(), if pages.len() > 2 { 2 } else { 1 });
            let mut expected = pages.iter().flatten();
            for batch in reader.with_batch_size(77).build().unwrap() {
                let batch = batch.unwrap();
                let columns = Columns::new(batch.clone());
                let columns = columns.open().unwrap();
                for i in 0..batch.num_rows() {
                    let (found, seed) = (columns.row(i), expected.next().unwrap());
                    let wanted = row(seed);
                    // An observed timestamp of zero is none.
                    prop_assert_eq!(format!("{found:?}"), format!("{wanted:?}"));
                }
            }
            prop_assert!(expected.next().is_none());
        }
    }

    #[test]
    fn more_different_texts_than_a_dictionary_holds_are_written_plain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut file = RowsFile::create(&path, 1).unwrap();
        let texts: Vec<String> = (0..40).map(|i| format!("{i}{}", "r".repeat(50_000))).collect();
        for texts in texts.chunks(8) {
            let mut page = Page::default();
            for text in texts {
                let seed = (0, 0, String::new(), text.clone(), 0);
                page.push(1, "{}", &row(&seed));
            }
            file.push_page(&page).unwrap();
        }
        file.finish().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        let columns = Columns::new(batch);
        let columns = columns.open().unwrap();
        texts.iter().enumerate().for_each(|(i, text)| assert_eq!(columns.row(i).resource, text));
    }
}
