//! `catalog.idx`: the pages and the streams of a block.

use std::path::Path;

use model::Labels;
use storage_api::Result;

use super::files::{corrupt, seal, unseal};
use crate::codec::{Input, Malformed, put_text, put_varint, put_zigzag};

const MAGIC: [u8; 8] = *b"DBKLCAT1";
/// The file's name.
pub(super) const CATALOG_FILE: &str = "catalog.idx";

/// One page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageInfo {
    /// Number of its first row in the block.
    pub(crate) first_row: u32,
    /// Its row group.
    pub(crate) group: u32,
    /// Number of its first row in the row group.
    pub(crate) row_in_group: u32,
    /// Timestamp of its first row.
    pub(crate) first_timestamp: i64,
    /// Its longest token, in bytes.
    pub(crate) token_bytes_max: u32,
}

/// One stream; its rows follow each other, by timestamp.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamInfo {
    pub(crate) labels: Labels,
    pub(crate) first_row: u32,
    pub(crate) rows: u32,
    pub(crate) min_timestamp: i64,
    pub(crate) max_timestamp: i64,
}

/// The pages and streams of a block.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Catalog {
    pub(crate) pages: Vec<PageInfo>,
    /// Sorted by labels.
    pub(crate) streams: Vec<StreamInfo>,
    pub(crate) rows: u32,
}

impl Catalog {
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(self.rows));
        put_varint(&mut out, self.pages.len() as u64);
        let mut last = PageInfo { first_row: 0, group: 0, row_in_group: 0, first_timestamp: 0, token_bytes_max: 0 };
        for page in &self.pages {
            put_varint(&mut out, u64::from(page.first_row - last.first_row));
            put_varint(&mut out, u64::from(page.group - last.group));
            put_zigzag(&mut out, page.first_timestamp.wrapping_sub(last.first_timestamp));
            put_varint(&mut out, u64::from(page.token_bytes_max));
            last = *page;
        }
        put_varint(&mut out, self.streams.len() as u64);
        for stream in &self.streams {
            put_varint(&mut out, stream.labels.len() as u64);
            for (name, value) in stream.labels.iter() {
                put_text(&mut out, name);
                put_text(&mut out, value);
            }
            put_varint(&mut out, u64::from(stream.rows));
            put_zigzag(&mut out, stream.min_timestamp);
            put_varint(&mut out, stream.max_timestamp.wrapping_sub(stream.min_timestamp).cast_unsigned());
        }
        seal(MAGIC, &out)
    }

    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let content = unseal(MAGIC, path, bytes)?;
        Self::parse(&content).map_err(|Malformed(expected)| corrupt(path, format!("expected {expected}")))
    }

    fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(content);
        let small = |number: u64| u32::try_from(number).map_err(|_| Malformed("a number below 2^32"));
        let rows = small(input.varint()?)?;
        let mut catalog = Self { rows, ..Self::default() };
        let (mut first_row, mut group, mut group_row, mut first_timestamp) = (0_u32, 0_u32, 0_u32, 0_i64);
        for _ in 0..input.count(4)? {
            let more = |number: u32, by: u64| {
                small(by).and_then(|by| number.checked_add(by).ok_or(Malformed("a number below 2^32")))
            };
            first_row = more(first_row, input.varint()?)?;
            let last_group = group;
            group = more(group, input.varint()?)?;
            if group != last_group {
                group_row = first_row;
            }
            first_timestamp = first_timestamp.wrapping_add(input.zigzag()?);
            let token_bytes_max = small(input.varint()?)?;
            let row_in_group = first_row - group_row;
            catalog.pages.push(PageInfo { first_row, group, row_in_group, first_timestamp, token_bytes_max });
        }
        let mut first_row = 0_u32;
        for _ in 0..input.count(4)? {
            let mut pairs: Vec<(&str, &str)> = Vec::new();
            for _ in 0..input.count(2)? {
                let pair = (input.text()?, input.text()?);
                if pairs.last().is_some_and(|last| last.0 >= pair.0) {
                    return Err(Malformed("labels in ascending order"));
                }
                pairs.push(pair);
            }
            let rows = small(input.varint()?)?;
            let min_timestamp = input.zigzag()?;
            let max_timestamp = min_timestamp.wrapping_add(input.varint()?.cast_signed());
            let labels = Labels::from_sorted(pairs);
            catalog.streams.push(StreamInfo { labels, first_row, rows, min_timestamp, max_timestamp });
            first_row = first_row.checked_add(rows).ok_or(Malformed("fewer than 2^32 rows"))?;
        }
        input.end()?;
        if first_row != rows || catalog.pages.first().is_some_and(|page| page.first_row != 0) {
            return Err(Malformed("rows that belong to a page and a stream each"));
        }
        Ok(catalog)
    }

    /// Returns the number of the page that holds `row`.
    pub(crate) fn page_of(&self, row: u32) -> usize {
        self.pages.partition_point(|page| page.first_row <= row).saturating_sub(1)
    }

    /// Returns the number of the row after the last one of `page`.
    pub(crate) fn page_end(&self, page: usize) -> u32 {
        self.pages.get(page + 1).map_or(self.rows, |next| next.first_row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_comes_back_as_it_was() {
        let page = |first_row, group, row_in_group, first_timestamp| PageInfo {
            first_row,
            group,
            row_in_group,
            first_timestamp,
            token_bytes_max: 9,
        };
        let stream = |name, first_row, rows, min_timestamp, max_timestamp| StreamInfo {
            labels: Labels::from_pairs([("app", name)]),
            first_row,
            rows,
            min_timestamp,
            max_timestamp,
        };
        let catalog = Catalog {
            pages: vec![page(0, 0, 0, -5), page(1024, 0, 1024, 7), page(1500, 1, 0, i64::MAX), page(2000, 1, 500, 1)],
            streams: vec![stream("a", 0, 1500, -5, i64::MAX), stream("b", 1500, 600, i64::MIN, 4)],
            rows: 2100,
        };
        let bytes = catalog.encode().unwrap();
        assert_eq!(Catalog::decode(Path::new("x"), &bytes).unwrap(), catalog);
        assert_eq!((catalog.page_of(1023), catalog.page_of(1024), catalog.page_end(3)), (0, 1, 2100));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Catalog::decode(Path::new("x"), &damaged).is_err(), "byte {at}");
            assert!(Catalog::decode(Path::new("x"), &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
