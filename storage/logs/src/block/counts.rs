//! `counts.idx`: records and bytes of each stream, minute and severity.

use std::collections::BTreeMap;
use std::path::Path;

use storage_api::Result;

use super::files::{corrupt, seal, unseal};
use crate::codec::{Input, Malformed, put_varint, put_zigzag};

const MAGIC: [u8; 8] = *b"DBKLCNT1";
/// The file's name.
pub(super) const COUNTS_FILE: &str = "counts.idx";
/// A minute in nanoseconds.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;

/// One count of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// Minutes since the epoch.
    pub(crate) minute: i64,
    pub(crate) severity_number: u8,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// Counts the rows of a block, stream by stream.
#[derive(Debug, Default)]
pub(super) struct CountsBuilder {
    streams: Vec<Vec<Count>>,
    open: BTreeMap<(i64, u8), (u64, u64)>,
}

impl CountsBuilder {
    pub(super) fn push(&mut self, timestamp: i64, severity_number: u8, line_bytes: usize) {
        let count = self.open.entry((timestamp.div_euclid(MINUTE_NS), severity_number)).or_default();
        count.0 += 1;
        count.1 += line_bytes as u64;
    }

    pub(super) fn finish_stream(&mut self) {
        let count = |((minute, severity_number), (records, bytes))| Count { minute, severity_number, records, bytes };
        self.streams.push(std::mem::take(&mut self.open).into_iter().map(count).collect());
    }

    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        put_varint(&mut out, self.streams.len() as u64);
        for counts in &self.streams {
            put_varint(&mut out, counts.len() as u64);
            let mut last = 0_i64;
            for count in counts {
                put_zigzag(&mut out, count.minute - last);
                out.push(count.severity_number);
                put_varint(&mut out, count.records);
                put_varint(&mut out, count.bytes);
                last = count.minute;
            }
        }
        seal(MAGIC, &out)
    }
}

/// Decodes the counts of each stream, in the order of the catalog.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<Count>>> {
    let content = unseal(MAGIC, path, bytes)?;
    parse(&content).map_err(|Malformed(expected)| corrupt(path, format!("expected {expected}")))
}

fn parse(content: &[u8]) -> Result<Vec<Vec<Count>>, Malformed> {
    let mut input = Input::new(content);
    let mut streams = Vec::new();
    for _ in 0..input.count(1)? {
        let mut counts = Vec::new();
        let mut minute = 0_i64;
        for _ in 0..input.count(4)? {
            minute = minute.wrapping_add(input.zigzag()?);
            let severity_number = input.u8()?;
            counts.push(Count { minute, severity_number, records: input.varint()?, bytes: input.varint()? });
        }
        streams.push(counts);
    }
    input.end()?;
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_by_stream_and_minute() {
        let mut builder = CountsBuilder::default();
        builder.push(-1, 9, 10);
        builder.push(MINUTE_NS, 17, 1);
        builder.push(MINUTE_NS + 5, 17, 2);
        builder.finish_stream();
        builder.finish_stream();
        let streams = decode(Path::new("x"), &builder.encode().unwrap()).unwrap();
        let count = |minute, severity_number, records, bytes| Count { minute, severity_number, records, bytes };
        assert_eq!(streams, [vec![count(-1, 9, 1, 10), count(1, 17, 2, 3)], vec![]]);
    }
}
