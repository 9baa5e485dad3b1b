//! Numbers as Parquet packs them: differences, and the places of values in a dictionary.

use crate::codec::{Input, Malformed};

/// Most values in a block of numbers; writers use 128.
const BLOCK_VALUES_MAX: usize = 1 << 16;
/// Widest number that lies in eight bytes, wherever it begins.
const NARROW_MAX: usize = 56;

/// Calls `each` with numbers that are packed as differences. `DELTA_BINARY_PACKED`.
#[inline]
pub(super) fn for_each_delta(
    input: &mut Input<'_>,
    count: usize,
    mut each: impl FnMut(i64) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let small = |number: u64| usize::try_from(number).map_err(|_| Malformed("a small number"));
    let (block, pieces, total) = (small(input.varint()?)?, small(input.varint()?)?, small(input.varint()?)?);
    let mut value = input.zigzag()?;
    if total != count || pieces == 0 || block > BLOCK_VALUES_MAX || !block.is_multiple_of(pieces * 8) || block == 0 {
        return Err(Malformed("blocks of as many numbers as there are values"));
    }
    let piece = block / pieces;
    let mut left = count;
    if left > 0 {
        each(value)?;
        left -= 1;
    }
    while left > 0 {
        let least = input.zigzag()?;
        for width in input.take(pieces)? {
            let width = usize::from(*width);
            if left == 0 {
                break;
            }
            if width > 64 {
                return Err(Malformed("numbers of at most 64 bits"));
            }
            let packed = input.take(piece / 8 * width)?;
            let here = piece.min(left);
            left -= here;
            for i in 0..here {
                value = value.wrapping_add(least).wrapping_add(packed_number(packed, i * width, width).cast_signed());
                each(value)?;
            }
        }
    }
    Ok(())
}

/// Returns the number of so many bits at a bit of `packed`.
#[inline]
fn packed_number(packed: &[u8], bit: usize, width: usize) -> u64 {
    let rest = packed.get(bit / 8..).unwrap_or_default();
    if width > NARROW_MAX {
        let low = u128::from(u64::from_le_bytes(first_bytes(rest)));
        let high = u128::from(u64::from_le_bytes(first_bytes(rest.get(8..).unwrap_or_default())));
        let number = ((high << 64 | low) >> (bit % 8)) & ((1 << width) - 1);
        return u64::try_from(number).unwrap_or(u64::MAX);
    }
    (u64::from_le_bytes(first_bytes(rest)) >> (bit % 8)) & ((1 << width) - 1)
}

/// Returns the first eight bytes, with zeros for those that are missing.
#[inline]
fn first_bytes(bytes: &[u8]) -> [u8; 8] {
    match bytes.first_chunk::<8>() {
        Some(chunk) => *chunk,
        None => {
            let mut chunk = [0; 8];
            chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            chunk
        }
    }
}

/// Decodes a page of numbers that are packed as differences.
pub(super) fn deltas(page: &[u8], count: usize) -> Result<Vec<i64>, Malformed> {
    let mut out = Vec::with_capacity(count.min(page.len().saturating_mul(8)));
    for_each_delta(&mut Input::new(page), count, |number| {
        out.push(number);
        Ok(())
    })?;
    Ok(out)
}

/// Decodes a page of places in a dictionary, and gives for each what `values` has there. `RLE_DICTIONARY`.
pub(super) fn values_of<T: Copy>(page: &[u8], count: usize, values: &[T]) -> Result<Vec<T>, Malformed> {
    let mut input = Input::new(page);
    let width = usize::from(input.u8()?);
    if width > 32 {
        return Err(Malformed("places of at most 32 bits"));
    }
    let value = |place: u64| {
        let value = usize::try_from(place).ok().and_then(|place| values.get(place));
        value.copied().ok_or(Malformed("a value that the dictionary has"))
    };
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let left = count - out.len();
        let header = input.varint()?;
        let length = usize::try_from(header >> 1).map_err(|_| Malformed("a short run"))?;
        if length == 0 {
            return Err(Malformed("a run of some values"));
        }
        if header & 1 == 0 {
            let mut place = [0; 8];
            place.iter_mut().zip(input.take(width.div_ceil(8))?).for_each(|(to, from)| *to = *from);
            let same = value(u64::from_le_bytes(place))?;
            out.extend(std::iter::repeat_n(same, length.min(left)));
        } else {
            let bytes = length.checked_mul(width).ok_or(Malformed("a short run"))?;
            // The last run may be cut off behind the last value.
            let packed = input.take(bytes.min(input.len()))?;
            let here = length.saturating_mul(8).min(left);
            if packed.len() < (here * width).div_ceil(8) {
                return Err(Malformed("more bytes"));
            }
            if (1..=8).contains(&width) {
                // Eight places lie in as many bytes as one has bits.
                let last = out.len() + here;
                for eight in packed.chunks(width) {
                    let mut places = u64::from_le_bytes(first_bytes(eight));
                    for _ in 0..8.min(last - out.len()) {
                        out.push(value(places & ((1 << width) - 1))?);
                        places >>= width;
                    }
                }
            } else {
                for i in 0..here {
                    out.push(value(packed_number(packed, i * width, width))?);
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Encoding;
    use parquet::column::page::Page;
    use parquet::file::properties::WriterProperties;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;

    use super::*;

    /// Has Parquet encode a column, and returns its pages: a dictionary, if there is one, and data.
    fn pages(kind: DataType, column: ArrayRef, properties: WriterProperties) -> Vec<Bytes> {
        let schema = Arc::new(Schema::new(vec![Field::new("x", kind, false)]));
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, Arc::clone(&schema), Some(properties)).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![column]).unwrap()).unwrap();
        writer.close().unwrap();
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        let mut pages = reader.get_row_group(0).unwrap().get_column_page_reader(0).unwrap();
        let mut out = Vec::new();
        while let Some(page) = pages.get_next_page().unwrap() {
            if let Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } = page {
                out.push(buf);
            }
        }
        out
    }

    fn delta_page(numbers: &[i64]) -> Bytes {
        let properties = WriterProperties::builder().set_dictionary_enabled(false);
        let properties = properties.set_encoding(Encoding::DELTA_BINARY_PACKED).build();
        pages(DataType::Int64, Arc::new(Int64Array::from(numbers.to_vec())), properties).remove(0)
    }

    fn dictionary_pages(numbers: &[i32]) -> (Vec<i32>, Bytes) {
        let mut pages =
            pages(DataType::Int32, Arc::new(Int32Array::from(numbers.to_vec())), WriterProperties::default());
        let data = pages.remove(1);
        let (values, rest) = pages[0].as_chunks::<4>();
        assert!(rest.is_empty());
        (values.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect(), data)
    }

    proptest! {
        #[test]
        fn differences_come_back(
            start in any::<i64>(),
            steps in prop::collection::vec(prop_oneof![Just(0_i64), 0..9_i64, -1000..1000_i64, any::<i64>()], 0..400),
        ) {
            let mut numbers = vec![start];
            numbers.extend(steps.iter().scan(start, |at, step| { *at = at.wrapping_add(*step); Some(*at) }));
            prop_assert_eq!(deltas(&delta_page(&numbers), numbers.len()).unwrap(), numbers);
        }

        #[test]
        fn values_of_a_dictionary_come_back(
            runs in prop::collection::vec((0..40_i32, 1..60_usize), 1..30),
        ) {
            let numbers: Vec<i32> = runs.iter().flat_map(|(number, length)| vec![number * 7 - 20; *length]).collect();
            let (values, page) = dictionary_pages(&numbers);
            prop_assert_eq!(values_of(&page, numbers.len(), &values).unwrap(), numbers);
        }
    }

    #[test]
    fn damaged_pages_give_an_error_or_numbers() {
        let numbers: Vec<i64> = (0..300).map(|i| i * i * 1000).collect();
        let page = delta_page(&numbers);
        assert!(deltas(&page, 299).is_err(), "another count");
        let few: Vec<i32> = (0..300).map(|i| i % 5 * (i / 100)).collect();
        let (values, places) = dictionary_pages(&few);
        for (page, is_delta) in [(&page, true), (&places, false)] {
            for at in 0..page.len() {
                let mut damaged = page.to_vec();
                damaged[at] ^= 0xff;
                for bytes in [&damaged, &page[..at]] {
                    let found = if is_delta {
                        deltas(bytes, 300).map(|numbers| numbers.len())
                    } else {
                        values_of(bytes, 300, &values).map(|numbers| numbers.len())
                    };
                    assert!(found.is_err() || found == Ok(300), "byte {at}");
                }
            }
        }
        assert!(values_of(&places, 300, &values[..1]).is_err(), "a place behind the dictionary");
    }
}
