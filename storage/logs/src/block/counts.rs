//! `counts.idx`: records and bytes of each stream, minute and severity, and which metadata fields a stream's records have.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use storage_api::Result;

use super::files::{corrupt, seal, unseal};
use crate::codec::{Input, Malformed, put_text, put_varint, put_zigzag};

const MAGIC: [u8; 8] = *b"DBKLCNT2";
/// The first version, without severity texts and fields.
const MAGIC_1: [u8; 8] = *b"DBKLCNT1";
/// The file's name.
pub(super) const COUNTS_FILE: &str = "counts.idx";
/// A minute in nanoseconds.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;
/// The bit beside a severity that says that the records lie at the minute's first nanosecond.
const AT_START: u8 = 0x80;
/// Counts that rows are added to without a search: as many as a minute has severities, mostly.
const RECENT_MAX: usize = 6;
/// Most fields that are listed for a stream; one with more is taken to have any.
const FIELDS_MAX: usize = 256;

/// One count of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    /// Minutes since the epoch.
    minute: i64,
    /// Whether the records lie at the minute's first nanosecond; else none does. Windows that end at whole minutes hold
    /// that nanosecond, but not the rest of the minute.
    at_start: bool,
    severity_number: u8,
    /// The number of the severity's text.
    text: u32,
    records: u64,
    bytes: u64,
}

/// Sorts a stream's counts by severity and sums them up.
fn sum_up(mut counts: Vec<Count>) -> Result<Vec<SeverityCounts>, Malformed> {
    let minutes = i64::MIN.div_euclid(MINUTE_NS)..=i64::MAX.div_euclid(MINUTE_NS);
    if counts.iter().any(|count| !minutes.contains(&count.minute)) {
        return Err(Malformed("a minute that a timestamp can be in"));
    }
    let key = |count: &Count| count.minute * 2 + i64::from(!count.at_start);
    counts.sort_unstable_by_key(|count| (count.severity_number, count.text, key(count)));
    let mut out: Vec<SeverityCounts> = Vec::new();
    for counts in counts.chunk_by(|a, b| (a.severity_number, a.text) == (b.severity_number, b.text)) {
        let Some(first) = counts.first() else { continue };
        let mut sums =
            SeverityCounts { severity_number: first.severity_number, text: first.text, ..Default::default() };
        let (mut records, mut bytes) = (0_u64, 0_u64);
        for count in counts {
            let (Some(more), Some(longer)) = (records.checked_add(count.records), bytes.checked_add(count.bytes))
            else {
                return Err(Malformed("sums below 2^64"));
            };
            (records, bytes) = (more, longer);
            sums.keys.push(key(count));
            sums.records.push(records);
            sums.bytes.push(bytes);
        }
        out.push(sums);
    }
    Ok(out)
}

/// A stream's records of one severity, by time, summed up from the first on: those between two points in time are the
/// difference of two sums.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SeverityCounts {
    pub(crate) severity_number: u8,
    /// The number of the severity's text.
    pub(crate) text: u32,
    /// Twice the minute since the epoch for the records at its first nanosecond, one more for the others; ascending.
    pub(crate) keys: Vec<i64>,
    /// Records up to the key at the same place.
    records: Vec<u64>,
    /// The bytes of their lines.
    bytes: Vec<u64>,
}

impl SeverityCounts {
    /// Returns the records between two places.
    pub(crate) fn records(&self, from: usize, to: usize) -> u64 {
        sum(&self.records, to).saturating_sub(sum(&self.records, from))
    }

    /// Returns the bytes between two places.
    pub(crate) fn bytes(&self, from: usize, to: usize) -> u64 {
        sum(&self.bytes, to).saturating_sub(sum(&self.bytes, from))
    }

    /// Returns the first place from `from` on whose key is not below `key`; a near one is found sooner.
    pub(crate) fn place(&self, from: usize, key: i64) -> usize {
        let keys = self.keys.get(from..).unwrap_or_default();
        let mut step = 8;
        let mut start = 0;
        while keys.get(start + step).is_some_and(|have| *have < key) {
            start += step;
            step *= 2;
        }
        let end = (start + step).min(keys.len());
        from + start + keys.get(start..end).map_or(0, |keys| keys.partition_point(|have| *have < key))
    }
}

fn sum(sums: &[u64], end: usize) -> u64 {
    end.checked_sub(1).and_then(|last| sums.get(last)).copied().unwrap_or(0)
}

/// The counts of a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// By stream, in the order of the catalog; each severity once.
    pub(crate) streams: Vec<Vec<SeverityCounts>>,
    /// Severity texts; the first one is empty.
    texts: Vec<Box<str>>,
    names: Vec<Box<str>>,
    /// By stream, the numbers of the names of its records' fields, ascending; `None` when that may be any.
    fields: Vec<Option<Vec<u32>>>,
}

impl Counts {
    /// Returns the text of this number.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", AsRef::as_ref)
    }

    /// Says whether records of a stream may have this field, out of their attributes, scope or resource.
    pub(crate) fn may_have(&self, stream: usize, name: &str) -> bool {
        let Some(Some(fields)) = self.fields.get(stream) else { return true };
        fields.iter().any(|field| self.names.get(*field as usize).is_none_or(|have| have.as_ref() == name))
    }

    pub(super) fn size_bytes(&self) -> usize {
        let size = |counts: &SeverityCounts| size_of::<SeverityCounts>() + counts.keys.len() * 24;
        let counts: usize = self.streams.iter().map(|counts| 24 + counts.iter().map(size).sum::<usize>()).sum();
        let fields: usize = self.fields.iter().flatten().map(|fields| 24 + fields.len() * 4).sum();
        let names: usize = self.names.iter().chain(&self.texts).map(|name| 16 + name.len()).sum();
        counts + fields + names
    }
}

/// Numbers texts by when they first came.
#[derive(Debug, Default)]
struct Texts {
    numbers: HashMap<Box<str>, u32>,
    /// The one that was asked for last: mostly the next one.
    last: u32,
    texts: Vec<Box<str>>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if self.texts.get(self.last as usize).is_some_and(|last| last.as_ref() == text) {
            return self.last;
        }
        if let Some(number) = self.numbers.get(text) {
            self.last = *number;
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.texts.len() as u64);
        self.texts.iter().for_each(|text| put_text(out, text));
    }
}

/// Minute, whether at its start, severity and number of its text.
type Key = (i64, bool, u8, u32);

/// Counts the rows of a block, stream by stream.
#[derive(Debug, Default)]
pub(super) struct CountsBuilder {
    streams: Vec<Vec<Count>>,
    /// By minute, whether they lie at its start, severity and text: records and bytes.
    open: BTreeMap<Key, (u64, u64)>,
    /// Those that rows came for lately, not yet among the open ones.
    recent: Vec<(Key, (u64, u64))>,
    texts: Texts,
    names: Texts,
    fields: Vec<Option<Vec<u32>>>,
    /// The fields of the open stream, ascending; one more than the limit says that there are too many.
    open_fields: Vec<u32>,
}

impl CountsBuilder {
    pub(super) fn push(&mut self, timestamp: i64, severity_number: u8, severity_text: &str, line_bytes: usize) {
        if self.texts.texts.is_empty() {
            self.texts.number("");
        }
        let (minute, at_start) = (timestamp.div_euclid(MINUTE_NS), timestamp.rem_euclid(MINUTE_NS) == 0);
        let key = (minute, at_start, severity_number, self.texts.number(severity_text));
        if let Some((_, count)) = self.recent.iter_mut().find(|(recent, _)| *recent == key) {
            count.0 += 1;
            count.1 += line_bytes as u64;
            return;
        }
        if self.recent.len() == RECENT_MAX {
            self.put_recent();
        }
        self.recent.push((key, (1, line_bytes as u64)));
    }

    /// Adds what came lately to what is open.
    fn put_recent(&mut self) {
        for (key, (records, bytes)) in self.recent.drain(..) {
            let count = self.open.entry(key).or_default();
            count.0 += records;
            count.1 += bytes;
        }
    }

    /// Notes that a record of the open stream has this field.
    pub(super) fn note_field(&mut self, name: &str) {
        // One more than are listed says that there are too many.
        if self.open_fields.len() > FIELDS_MAX {
            return;
        }
        let number = self.names.number(name);
        if let Err(at) = self.open_fields.binary_search(&number) {
            self.open_fields.insert(at, number);
        }
    }

    pub(super) fn finish_stream(&mut self) {
        self.put_recent();
        let count = |((minute, at_start, severity_number, text), (records, bytes))| Count {
            minute,
            at_start,
            severity_number,
            text,
            records,
            bytes,
        };
        self.streams.push(std::mem::take(&mut self.open).into_iter().map(count).collect());
        let fields = std::mem::take(&mut self.open_fields);
        self.fields.push((fields.len() <= FIELDS_MAX).then_some(fields));
    }

    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.texts.encode(&mut out);
        self.names.encode(&mut out);
        put_varint(&mut out, self.streams.len() as u64);
        for (counts, fields) in self.streams.iter().zip(&self.fields) {
            put_varint(&mut out, counts.len() as u64);
            let mut last = 0_i64;
            for count in counts {
                put_zigzag(&mut out, count.minute - last);
                out.push(count.severity_number | if count.at_start { AT_START } else { 0 });
                put_varint(&mut out, u64::from(count.text));
                put_varint(&mut out, count.records);
                put_varint(&mut out, count.bytes);
                last = count.minute;
            }
            out.push(u8::from(fields.is_some()));
            let fields = fields.as_deref().unwrap_or_default();
            put_varint(&mut out, fields.len() as u64);
            fields.iter().for_each(|field| put_varint(&mut out, u64::from(*field)));
        }
        seal(MAGIC, &out)
    }
}

/// Decodes the counts.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Counts> {
    let is_first = bytes.starts_with(&MAGIC_1);
    let content = unseal(if is_first { MAGIC_1 } else { MAGIC }, path, bytes)?;
    let counts = if is_first { parse_1(&content) } else { parse(&content) };
    counts.map_err(|Malformed(expected)| corrupt(path, format!("expected {expected}")))
}

fn parse_1(content: &[u8]) -> Result<Counts, Malformed> {
    let mut input = Input::new(content);
    let mut streams = Vec::new();
    for _ in 0..input.count(1)? {
        let mut counts = Vec::new();
        let mut minute = 0_i64;
        for _ in 0..input.count(4)? {
            minute = minute.wrapping_add(input.zigzag()?);
            let severity_number = input.u8()?;
            let (records, bytes) = (input.varint()?, input.varint()?);
            counts.push(Count { minute, at_start: false, severity_number, text: 0, records, bytes });
        }
        streams.push(sum_up(counts)?);
    }
    input.end()?;
    Ok(Counts { streams, ..Counts::default() })
}

fn parse(content: &[u8]) -> Result<Counts, Malformed> {
    let mut input = Input::new(content);
    let small = |number: u64| u32::try_from(number).map_err(|_| Malformed("a number below 2^32"));
    let mut out = Counts::default();
    for list in [&mut out.texts, &mut out.names] {
        for _ in 0..input.count(1)? {
            list.push(input.text()?.into());
        }
    }
    for _ in 0..input.count(3)? {
        let mut counts = Vec::new();
        let mut minute = 0_i64;
        for _ in 0..input.count(5)? {
            minute = minute.wrapping_add(input.zigzag()?);
            let severity = input.u8()?;
            counts.push(Count {
                minute,
                at_start: severity & AT_START != 0,
                severity_number: severity & !AT_START,
                text: small(input.varint()?)?,
                records: input.varint()?,
                bytes: input.varint()?,
            });
        }
        out.streams.push(sum_up(counts)?);
        let is_complete = input.u8()? != 0;
        let mut fields = Vec::new();
        for _ in 0..input.count(1)? {
            fields.push(small(input.varint()?)?);
        }
        out.fields.push(is_complete.then_some(fields));
    }
    input.end()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_fields_come_back_by_stream() {
        let mut builder = CountsBuilder::default();
        builder.push(-1, 9, "", 10);
        builder.push(MINUTE_NS, 17, "ERROR", 1);
        builder.push(MINUTE_NS + 5, 17, "ERROR", 2);
        builder.push(MINUTE_NS + 6, 17, "ERROR", 2);
        builder.note_field("b");
        builder.note_field("a");
        builder.finish_stream();
        (0..=FIELDS_MAX).for_each(|i| builder.note_field(&i.to_string()));
        builder.finish_stream();
        builder.finish_stream();
        let found = decode(Path::new("x"), &builder.encode().unwrap()).unwrap();
        let counts = |severity_number, text, keys: &[i64], records: &[u64], bytes: &[u64]| SeverityCounts {
            severity_number,
            text,
            keys: keys.to_vec(),
            records: records.to_vec(),
            bytes: bytes.to_vec(),
        };
        // Minute -1, and then the first nanosecond of minute 1, and what follows it.
        let first = vec![counts(9, 0, &[-1], &[1], &[10]), counts(17, 1, &[2, 3], &[1, 3], &[1, 5])];
        assert_eq!(found.streams, [first, vec![], vec![]]);
        assert_eq!((found.streams[0][1].records(1, 2), found.streams[0][1].bytes(0, 2)), (2, 5));
        assert_eq!(found.text(1), "ERROR");
        let have = |stream| ["a", "b", "c"].map(|name| found.may_have(stream, name));
        assert_eq!([have(0), have(1), have(2), have(3)], [[true, true, false], [true; 3], [false; 3], [true; 3]]);
    }

    #[test]
    fn the_first_version_is_read_and_may_have_any_field() {
        let mut content = Vec::new();
        for number in [1, 1] {
            put_varint(&mut content, number);
        }
        put_zigzag(&mut content, 7);
        content.extend([9, 3, 30]);
        let found = decode(Path::new("x"), &seal(MAGIC_1, &content).unwrap()).unwrap();
        let count = SeverityCounts { severity_number: 9, text: 0, keys: vec![15], records: vec![3], bytes: vec![30] };
        assert_eq!(found.streams, [vec![count]]);
        assert!(found.may_have(0, "severity_text"));
    }
}
