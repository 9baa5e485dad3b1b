//! Strings as Parquet delta-encodes them: how much each shares with the start of the one before, and the rest of it.
//! Parquet's own decoder makes an allocation for each.

use super::numbers::for_each_delta;
use crate::codec::{Input, Malformed};

/// Lengths, in memory that serves one page after the other.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    shared: Vec<u32>,
    own: Vec<u32>,
}

impl Lengths {
    pub(super) fn size_bytes(&self) -> usize {
        (self.shared.capacity() + self.own.capacity()) * size_of::<u32>()
    }
}

/// Reads so many lengths, and returns their sum.
fn lengths(input: &mut Input<'_>, count: usize, out: &mut Vec<u32>) -> Result<usize, Malformed> {
    out.clear();
    let mut sum = 0_usize;
    for_each_delta(input, count, |length| {
        let length = u32::try_from(length).map_err(|_| Malformed("a length"))?;
        sum = sum.saturating_add(length as usize);
        out.push(length);
        Ok(())
    })?;
    Ok(sum)
}

/// Decodes a page of so many strings into one piece, with where each begins and ends; `bytes_max` bounds it. Where no
/// string shares anything, `out` stays empty, and they lie in the page itself. `DELTA_BYTE_ARRAY`.
pub(super) fn strings(
    page: &[u8],
    (count, bytes_max): (usize, usize),
    room: &mut Lengths,
    out: &mut Vec<u8>,
    spans: &mut Vec<(u32, u32)>,
) -> Result<(), Malformed> {
    let mut input = Input::new(page);
    let shared_bytes = lengths(&mut input, count, &mut room.shared)?;
    let own_bytes = lengths(&mut input, count, &mut room.own)?;
    if shared_bytes.saturating_add(own_bytes) > bytes_max.min(u32::MAX as usize) {
        return Err(Malformed("a page that is not too large"));
    }
    out.clear();
    spans.clear();
    spans.reserve(count);
    let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    if shared_bytes == 0 {
        let mut at = page.len() - input.len();
        input.take(own_bytes)?;
        for own in &room.own {
            spans.push((place(at), place(at + *own as usize)));
            at += *own as usize;
        }
        return Ok(());
    }
    out.reserve(shared_bytes + own_bytes);
    let mut last = 0..0;
    for (shared, own) in room.shared.iter().zip(&room.own) {
        let shared = *shared as usize;
        if shared > last.len() {
            return Err(Malformed("a start that the string before has"));
        }
        let start = out.len();
        out.extend_from_within(last.start..last.start + shared);
        out.extend_from_slice(input.take(*own as usize)?);
        last = start..out.len();
        spans.push((place(start), place(out.len())));
    }
    Ok(())
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
        let (mut room, mut bytes, mut spans) = (Lengths::default(), Vec::new(), Vec::new());
        strings(page, (count, 1 << 20), &mut room, &mut bytes, &mut spans)?;
        let bytes = if bytes.is_empty() { page } else { &bytes };
        Ok(spans.iter().map(|(a, b)| String::from_utf8_lossy(&bytes[*a as usize..*b as usize]).into_owned()).collect())
    }

    proptest! {
        #[test]
        fn strings_come_back(words in prop::collection::vec("(aaa|ab\u{e9})?[a-c]{0,3}(x{300})?", 1..400)) {
            let page = page(&words);
            prop_assert_eq!(read(&page, words.len()).unwrap(), words);
        }

        #[test]
        fn strings_that_share_nothing_lie_in_the_page(words in prop::collection::vec("[a-z]{0,9}", 1..200)) {
            let words: Vec<String> =
                words.into_iter().enumerate().map(|(i, word)| format!("{}{word}", i % 2)).collect();
            let page = page(&words);
            let (mut room, mut bytes, mut spans) = (Lengths::default(), vec![1], Vec::new());
            strings(&page, (words.len(), 1 << 20), &mut room, &mut bytes, &mut spans).unwrap();
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(read(&page, words.len()).unwrap(), words);
        }
    }

    #[test]
    fn damaged_pages_give_an_error_or_strings() {
        let words: Vec<String> = (0..200).map(|i| format!("line {} {}", i / 7, "x".repeat(i % 5))).collect();
        let page = page(&words);
        let (mut room, mut bytes, mut spans) = (Lengths::default(), Vec::new(), Vec::new());
        let too_large = strings(&page, (words.len(), 100), &mut room, &mut bytes, &mut spans);
        assert!(too_large.is_err(), "too large");
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
