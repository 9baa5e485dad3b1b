//! Strings as Parquet delta-encodes them: how much each shares with the start of the one before, and the rest of it.
//! Parquet's own decoder makes an allocation for each.

use crate::codec::{Input, Malformed};

/// Most values in a block of numbers; writers use 128.
const BLOCK_VALUES_MAX: usize = 1 << 16;
/// Widest number: it lies in eight bytes, wherever it begins.
const WIDTH_MAX: usize = 56;

/// Bytes, and where each string begins and ends in them.
pub(super) type Strings = (Vec<u8>, Vec<(u32, u32)>);

/// Reads numbers that are packed as differences. `DELTA_BINARY_PACKED`.
fn numbers(input: &mut Input<'_>, count: usize) -> Result<Vec<usize>, Malformed> {
    let small = |number: u64| usize::try_from(number).map_err(|_| Malformed("a small number"));
    let (block, pieces, total) = (small(input.varint()?)?, small(input.varint()?)?, small(input.varint()?)?);
    let mut value = input.zigzag()?;
    if total != count || pieces == 0 || block > BLOCK_VALUES_MAX || !block.is_multiple_of(pieces * 8) || block == 0 {
        return Err(Malformed("blocks of as many numbers as there are values"));
    }
    let piece = block / pieces;
    let mut out = Vec::with_capacity(count);
    let as_length = |value: i64| usize::try_from(value).map_err(|_| Malformed("a length"));
    if count > 0 {
        out.push(as_length(value)?);
    }
    while out.len() < count {
        let least = input.zigzag()?;
        for width in input.take(pieces)? {
            let width = usize::from(*width);
            let left = count - out.len();
            if left == 0 {
                break;
            }
            if width > WIDTH_MAX {
                return Err(Malformed("narrow numbers"));
            }
            let packed = input.take(piece / 8 * width)?;
            for i in 0..piece.min(left) {
                value = value.wrapping_add(least).wrapping_add(packed_number(packed, i * width, width));
                out.push(as_length(value)?);
            }
        }
    }
    Ok(out)
}

/// Returns the number of so many bits at a bit of `packed`.
fn packed_number(packed: &[u8], bit: usize, width: usize) -> i64 {
    let rest = packed.get(bit / 8..).unwrap_or_default();
    let word = match rest.first_chunk::<8>() {
        Some(chunk) => *chunk,
        None => {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            word
        }
    };
    ((u64::from_le_bytes(word) >> (bit % 8)) & ((1 << width) - 1)).cast_signed()
}

/// Decodes a page of so many strings into one piece, with where each begins and ends; `bytes_max` bounds it.
/// `DELTA_BYTE_ARRAY`.
pub(super) fn strings(page: &[u8], count: usize, bytes_max: usize) -> Result<Strings, Malformed> {
    let mut input = Input::new(page);
    let shared = numbers(&mut input, count)?;
    let own = numbers(&mut input, count)?;
    let sum = |lengths: &[usize]| lengths.iter().fold(0_usize, |sum, length| sum.saturating_add(*length));
    let total = sum(&shared).saturating_add(sum(&own));
    if total > bytes_max.min(u32::MAX as usize) {
        return Err(Malformed("a page that is not too large"));
    }
    let mut out: Vec<u8> = Vec::with_capacity(total);
    let mut spans = Vec::with_capacity(count);
    let mut last = 0..0;
    let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    for (shared, own) in shared.into_iter().zip(own) {
        if shared > last.len() {
            return Err(Malformed("a start that the string before has"));
        }
        let start = out.len();
        out.extend_from_within(last.start..last.start + shared);
        out.extend_from_slice(input.take(own)?);
        last = start..out.len();
        spans.push((place(start), place(out.len())));
    }
    Ok((out, spans))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Encoding;
    use parquet::column::page::Page;
    use parquet::file::properties::WriterProperties;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;

    use super::*;

    /// Has Parquet encode strings.
    fn page(strings: &[String]) -> Bytes {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Utf8, false)]));
        let properties =
            WriterProperties::builder().set_dictionary_enabled(false).set_encoding(Encoding::DELTA_BYTE_ARRAY).build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, Arc::clone(&schema), Some(properties)).unwrap();
        let column = Arc::new(StringArray::from(strings.to_vec()));
        writer.write(&RecordBatch::try_new(schema, vec![column]).unwrap()).unwrap();
        writer.close().unwrap();
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let mut pages = reader.get_row_group(0).unwrap().get_column_page_reader(0).unwrap();
        let Some(Page::DataPage { buf, encoding, .. }) = pages.get_next_page().unwrap() else { panic!("a data page") };
        assert_eq!(encoding, Encoding::DELTA_BYTE_ARRAY);
        buf
    }

    fn read(page: &[u8], count: usize) -> Result<Vec<String>, Malformed> {
        let (bytes, spans) = strings(page, count, 1 << 20)?;
        Ok(spans.iter().map(|(a, b)| String::from_utf8_lossy(&bytes[*a as usize..*b as usize]).into_owned()).collect())
    }

    proptest! {
        #[test]
        fn strings_come_back(words in prop::collection::vec("(aaa|ab\u{e9})?[a-c]{0,3}(x{300})?", 1..400)) {
            let page = page(&words);
            prop_assert_eq!(read(&page, words.len()).unwrap(), words);
        }
    }

    #[test]
    fn damaged_pages_give_an_error_or_strings() {
        let words: Vec<String> = (0..200).map(|i| format!("line {} {}", i / 7, "x".repeat(i % 5))).collect();
        let page = page(&words);
        assert!(strings(&page, words.len(), 100).is_err(), "too large");
        assert!(read(&page, words.len() - 1).is_err(), "another count");
        for at in 0..page.len() {
            let mut damaged = page.to_vec();
            damaged[at] ^= 0xff;
            for bytes in [&damaged, &page[..at]] {
                if let Ok(found) = read(bytes, words.len()) {
                    assert_eq!(found.len(), words.len());
                }
            }
        }
    }
}
