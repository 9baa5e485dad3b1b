//! A quick walk over the series of remote write 1.0 whose labels the store knows already: they stay as they are.

use storage_api::{LabelFault, LabelPair, sort_labels};

use super::{Fault, Sample, Series, in_range};
use crate::config::Config;
use crate::protobuf::{Malformed, Reader};

/// The keys (number and wire type) of the fields that a plain series has.
pub(super) const LABEL: u8 = 1 << 3 | 2;
pub(super) const SAMPLE: u8 = 2 << 3 | 2;
/// The keys of a sample's fields.
pub(super) const VALUE: u8 = 1 << 3 | 1;
pub(super) const TIMESTAMP: u8 = 2 << 3;

/// A series that has labels and samples, in this order, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plain<'a> {
    /// The fields of the labels, as they came. What is in them was not looked at.
    pub(crate) labels: &'a [u8],
    /// How many labels there are.
    pub(crate) labels_len: usize,
}

/// Splits a series, and puts its samples into `samples`. `None` for one that is not plain, or not as senders write it; it
/// may be malformed.
pub(crate) fn scan<'a>(series: &'a [u8], samples: &mut Vec<Sample>) -> Option<Plain<'a>> {
    samples.clear();
    let (mut rest, mut labels_len) = (series, 0);
    while let [LABEL, after @ ..] = rest {
        rest = skip(after)?;
        labels_len += 1;
    }
    let labels = series.get(..series.len() - rest.len())?;
    while let [SAMPLE, length, after @ ..] = rest {
        // A sample takes 20 bytes at most, so its length is one byte.
        let (sample, after) = after.split_at_checked(usize::from(*length))?;
        samples.push(plain_sample(sample)?);
        rest = after;
    }
    (rest.is_empty() && !samples.is_empty()).then_some(Plain { labels, labels_len })
}

/// Returns what lies behind a length and as many bytes.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    match *bytes {
        [length, ref rest @ ..] if length < 0x80 => rest.get(usize::from(length)..),
        [low, high, ref rest @ ..] if high < 0x80 => rest.get(usize::from(low & 0x7f) | usize::from(high) << 7..),
        _ => None,
    }
}

/// Decodes a sample whose time can be said in nanoseconds. A field that is zero may be missing.
fn plain_sample(bytes: &[u8]) -> Option<Sample> {
    let (mut rest, mut sample) = (bytes, Sample { timestamp_ms: 0, value: 0.0 });
    if let [VALUE, after @ ..] = rest {
        let (value, after) = after.split_first_chunk()?;
        (sample.value, rest) = (f64::from_le_bytes(*value), after);
    }
    if let [TIMESTAMP, after @ ..] = rest {
        let mut time = 0_u64;
        // One of ten bytes is negative.
        let length = after.len();
        if length == 0 || length > 9 {
            return None;
        }
        for (i, byte) in after.iter().enumerate() {
            time |= u64::from(byte & 0x7f) << (7 * i);
            if (*byte < 0x80) != (i + 1 == length) {
                return None;
            }
        }
        (sample.timestamp_ms, rest) = (time.cast_signed(), &[]);
    }
    (rest.is_empty() && in_range(sample.timestamp_ms)).then_some(sample)
}

/// Decodes the labels of a plain series, with the checks that those of any other pass.
pub(crate) fn decode_labels<'a>(
    fields: &'a [u8],
    config: &Config,
    out: &mut Vec<LabelPair<'a>>,
) -> Result<(), LabelsError> {
    let mut series = Series::default();
    let mut reader = Reader::new(fields);
    while let Some((_, field)) = reader.next()? {
        let (name, value) =
            field.bytes().and_then(super::decode_label).map_err(|malformed| malformed.within(fields))?;
        series.push_raw_label(name, value, config);
    }
    series.into_labels(config, out)
}

impl<'a> Series<'a> {
    /// Appends the labels to `out`, in a store's order, when nothing is wrong with them.
    pub(super) fn into_labels(mut self, config: &Config, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelsError> {
        self.check_labels(config);
        if let Some(fault) = self.take_fault() {
            return Err(LabelsError::Fault(fault));
        }
        let first = out.len();
        out.extend(self.labels.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        sort_labels(out, first).map_err(|error| LabelsError::Fault(self.label_fault(&error)))
    }
}

/// Why there are no labels.
#[derive(Debug)]
pub(crate) enum LabelsError {
    Fault(Fault),
    Malformed(Malformed),
}

impl From<Malformed> for LabelsError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl LabelsError {
    /// Says it as the store wants it; `body` is that of the request.
    pub(crate) fn into_fault(self, body: &[u8]) -> LabelFault {
        match self {
            Self::Fault((reason, detail)) => LabelFault::Refused { reason, detail },
            Self::Malformed(malformed) => LabelFault::Malformed(malformed.place_in(body)),
        }
    }
}
