//! A quick walk over the series of remote write 2.0 whose labels the store knows already.

use storage_api::SeriesKey;

use super::Symbols;
use crate::receivers::write_request::quick::{LABEL, SAMPLE, TIMESTAMP, VALUE};
use crate::receivers::write_request::{Sample, in_range};

/// The key (number and wire type) of a series' metadata.
const METADATA: u8 = 5 << 3 | 2;
/// The key of a sample's start time.
const START: u8 = 3 << 3;

/// A series that has labels with a name, samples and metadata, in this order, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plain2<'s, 'a> {
    /// The references to the names and values of the labels, all of which are there.
    pub(crate) references: &'a [u8],
    /// How many labels there are.
    pub(crate) labels_len: usize,
    /// What stands for the labels in whatever request they are.
    pub(crate) key: SeriesKey,
    /// Samples whose times can be said in nanoseconds; at least one.
    pub(crate) samples: &'s [Sample],
    /// As many start times, 0 where it is not known; nothing at all when none is.
    pub(crate) starts_ms: &'s [i64],
    /// The reference to the value of `__name__`.
    pub(super) name: u64,
    /// The metadata as it came; empty when none did.
    pub(super) metadata: &'a [u8],
}

/// Space that is used again for each series.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    samples: Vec<Sample>,
    starts_ms: Vec<i64>,
}

impl Scratch {
    /// Splits a series. `None` for one that is not plain, or not as senders write it; it may be malformed.
    pub(super) fn scan<'a>(&mut self, series: &'a [u8], symbols: &Symbols<'a>) -> Option<Plain2<'_, 'a>> {
        let [LABEL, after @ ..] = series else { return None };
        let (references, mut rest) = field(after)?;
        let (name, labels_len, key) = read_references(references, symbols)?;
        self.samples.clear();
        self.starts_ms.clear();
        let mut has_start = false;
        while let [SAMPLE, length, after @ ..] = rest {
            // A sample takes 31 bytes at most, so its length is one byte.
            let (sample, after) = after.split_at_checked(usize::from(*length))?;
            let (sample, start_ms) = plain_sample(sample)?;
            has_start |= start_ms != 0;
            self.samples.push(sample);
            self.starts_ms.push(start_ms);
            rest = after;
        }
        let mut metadata: &[u8] = &[];
        if let [METADATA, after @ ..] = rest {
            (metadata, rest) = field(after)?;
        }
        if !rest.is_empty() || self.samples.is_empty() {
            return None;
        }
        let starts_ms = if has_start { self.starts_ms.as_slice() } else { &[] };
        Some(Plain2 { references, labels_len, key, samples: &self.samples, starts_ms, name, metadata })
    }
}

/// Returns the reference to the name's value, the number of labels, and the key.
fn read_references(references: &[u8], symbols: &Symbols<'_>) -> Option<(u64, usize, SeriesKey)> {
    let (mut rest, mut name, mut labels_len, mut sum) = (references, None, 0, 0_u128);
    while !rest.is_empty() {
        let (label, value);
        (label, rest) = varint(rest)?;
        (value, rest) = varint(rest)?;
        let terms = symbols.term(2 * labels_len, label)?.wrapping_add(symbols.term(2 * labels_len + 1, value)?);
        sum = sum.wrapping_add(terms);
        // A label without a value is none.
        if name.is_none() && symbols.is_name(label) && symbols.get(value) != Ok("") {
            name = Some(value);
        }
        labels_len += 1;
    }
    // A sum's low bits know little of its terms' high ones, and a table of keys looks at the low bits.
    Some((name?, labels_len, SeriesKey(sum ^ (sum >> 64))))
}

/// Returns a field's bytes, whose length stands before them, and what follows.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Reads a number below 2^63, and returns it and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    // Most are of one byte or two.
    match *bytes {
        [one, ref rest @ ..] if one < 0x80 => return Some((u64::from(one), rest)),
        [low, high, ref rest @ ..] if high < 0x80 => return Some((u64::from(low & 0x7f) | u64::from(high) << 7, rest)),
        _ => {}
    }
    let mut number = 0_u64;
    for (i, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return Some((number, bytes.get(i + 1..)?));
        }
    }
    None
}

/// Decodes a sample and its start time, both of which can be said in nanoseconds. A field that is zero may be missing.
fn plain_sample(bytes: &[u8]) -> Option<(Sample, i64)> {
    let (mut rest, mut sample, mut start_ms) = (bytes, Sample { timestamp_ms: 0, value: 0.0 }, 0);
    if let [VALUE, after @ ..] = rest {
        let (value, after) = after.split_first_chunk()?;
        (sample.value, rest) = (f64::from_le_bytes(*value), after);
    }
    if let [TIMESTAMP, after @ ..] = rest {
        let (time, after) = varint(after)?;
        (sample.timestamp_ms, rest) = (time.cast_signed(), after);
    }
    if let [START, after @ ..] = rest {
        let (time, after) = varint(after)?;
        (start_ms, rest) = (time.cast_signed(), after);
    }
    (rest.is_empty() && in_range(sample.timestamp_ms) && in_range(start_ms)).then_some((sample, start_ms))
}
