//! The data points and their exemplars.

use super::reader::{Malformed, Reader, Value};
use super::{Repeated, Stretch};

/// A `NumberDataPoint`.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::metrics) struct NumberPoint<'a> {
    pub(in crate::metrics) attributes: Repeated<'a>,
    pub(in crate::metrics) start: u64,
    pub(in crate::metrics) time: u64,
    pub(in crate::metrics) flags: u32,
    pub(in crate::metrics) value: Option<f64>,
    pub(in crate::metrics) exemplars: Repeated<'a>,
}

/// Takes a field of eight bytes off the front, when that is what comes.
#[inline]
fn take_fixed(message: &mut &[u8], key: u8) -> Option<u64> {
    let (first, rest) = message.split_first()?;
    let (bytes, rest) = rest.split_first_chunk::<8>().filter(|_| *first == key)?;
    *message = rest;
    Some(u64::from_le_bytes(*bytes))
}

impl<'a> NumberPoint<'a> {
    pub(in crate::metrics) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        match Self::read_usual(message) {
            Some(point) => Ok(point),
            None => Self::read_any(message),
        }
    }

    /// Reads a point as most senders write it: its fields in order, without exemplars and flags. `None` when it is not like
    /// that.
    #[inline]
    pub(super) fn read_usual(message: &'a [u8]) -> Option<Self> {
        let mut rest = message;
        let start = take_fixed(&mut rest, 2 << 3 | 1).unwrap_or(0);
        let time = take_fixed(&mut rest, 3 << 3 | 1).unwrap_or(0);
        let value = match take_fixed(&mut rest, 4 << 3 | 1) {
            Some(bits) => f64::from_bits(bits),
            None => Value::Fixed64(take_fixed(&mut rest, 6 << 3 | 1)?).sfixed64_as_double().ok()?,
        };
        let stretch = rest;
        while let [key, length, after @ ..] = rest {
            if *key != 7 << 3 | 2 || *length >= 0x80 {
                return None;
            }
            rest = after.get(usize::from(*length)..)?;
        }
        let attributes = Repeated { stretch, tag: 7, is_mixed: false };
        let exemplars = Repeated { stretch: &[], tag: 5, is_mixed: false };
        rest.is_empty().then_some(Self { attributes, start, time, flags: 0, value: Some(value), exemplars })
    }

    pub(super) fn read_any(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut point = Self::default();
        let (mut attributes, mut exemplars) = (Stretch::default(), Stretch::default());
        let mut reader = Reader::new(message);
        loop {
            let start = reader.at();
            let Some((tag, value)) = reader.next()? else { break };
            match tag {
                7 => attributes.add(value, start, reader.at())?,
                2 => point.start = value.fixed64()?,
                3 => point.time = value.fixed64()?,
                4 => point.value = Some(value.double()?),
                6 => point.value = Some(value.sfixed64_as_double()?),
                5 => exemplars.add(value, start, reader.at())?,
                8 => point.flags = value.uint32()?,
                _ => {}
            }
        }
        point.attributes = attributes.of(message, 7);
        point.exemplars = exemplars.of(message, 5);
        Ok(point)
    }
}

/// A list of numbers that keeps no more than a limit.
#[derive(Debug, Default)]
pub(in crate::metrics) struct Numbers<T> {
    pub(in crate::metrics) kept: Vec<T>,
    /// How many came.
    pub(in crate::metrics) len: usize,
}

impl<T> Numbers<T> {
    fn clear(&mut self) {
        self.kept.clear();
        self.len = 0;
    }

    fn push(&mut self, number: T, limit: usize) {
        self.len += 1;
        if self.kept.len() <= limit {
            self.kept.push(number);
        }
    }

    /// Reads a `fixed64` or `double` list, packed or not.
    fn read_fixed(&mut self, value: Value<'_>, limit: usize, of: impl Fn(u64) -> T) -> Result<(), Malformed> {
        let Value::Bytes(packed) = value else {
            self.push(of(value.fixed64()?), limit);
            return Ok(());
        };
        let (numbers, rest) = packed.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Malformed("a packed list ends amid a number"));
        }
        for number in numbers {
            self.push(of(u64::from_le_bytes(*number)), limit);
        }
        Ok(())
    }
}

/// The lists of a histogram point; used again for the next one.
#[derive(Debug, Default)]
pub(in crate::metrics) struct Buckets {
    pub(in crate::metrics) counts: Numbers<u64>,
    pub(in crate::metrics) bounds: Numbers<f64>,
}

/// A `HistogramDataPoint` but for its buckets.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::metrics) struct HistogramPoint<'a> {
    pub(in crate::metrics) attributes: Repeated<'a>,
    pub(in crate::metrics) start: u64,
    pub(in crate::metrics) time: u64,
    pub(in crate::metrics) count: u64,
    pub(in crate::metrics) sum: Option<f64>,
    pub(in crate::metrics) exemplars: Repeated<'a>,
    pub(in crate::metrics) flags: u32,
}

impl<'a> HistogramPoint<'a> {
    /// Reads a point, and its lists into `buckets`, of which a little more than `limit` entries are kept.
    pub(in crate::metrics) fn read(message: &'a [u8], limit: usize, buckets: &mut Buckets) -> Result<Self, Malformed> {
        let mut point = Self::default();
        let (mut attributes, mut exemplars) = (Stretch::default(), Stretch::default());
        buckets.counts.clear();
        buckets.bounds.clear();
        let mut reader = Reader::new(message);
        loop {
            let start = reader.at();
            let Some((tag, value)) = reader.next()? else { break };
            match tag {
                9 => attributes.add(value, start, reader.at())?,
                2 => point.start = value.fixed64()?,
                3 => point.time = value.fixed64()?,
                4 => point.count = value.fixed64()?,
                5 => point.sum = Some(value.double()?),
                6 => buckets.counts.read_fixed(value, limit, |bits| bits)?,
                7 => buckets.bounds.read_fixed(value, limit, f64::from_bits)?,
                8 => exemplars.add(value, start, reader.at())?,
                10 => point.flags = value.uint32()?,
                _ => {}
            }
        }
        point.attributes = attributes.of(message, 9);
        point.exemplars = exemplars.of(message, 8);
        Ok(point)
    }
}

/// One side of an exponential histogram; used again for the next one.
#[derive(Debug, Default)]
pub(in crate::metrics) struct Side {
    pub(in crate::metrics) offset: i32,
    pub(in crate::metrics) counts: Numbers<u64>,
}

impl Side {
    pub(in crate::metrics) fn clear(&mut self) {
        self.offset = 0;
        self.counts.clear();
    }

    fn read(&mut self, message: &[u8], limit: usize) -> Result<(), Malformed> {
        let mut reader = Reader::new(message);
        while let Some((tag, value)) = reader.next()? {
            match (tag, value) {
                (1, _) => self.offset = value.sint32()?,
                (2, Value::Varint(count)) => self.counts.push(count, limit),
                (2, _) => {
                    let mut packed = Reader::new(value.bytes()?);
                    while let Some(count) = packed.next_varint()? {
                        self.counts.push(count, limit);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// An `ExponentialHistogramDataPoint` but for its buckets.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::metrics) struct ExponentialPoint<'a> {
    pub(in crate::metrics) attributes: Repeated<'a>,
    pub(in crate::metrics) start: u64,
    pub(in crate::metrics) time: u64,
    pub(in crate::metrics) count: u64,
    pub(in crate::metrics) sum: Option<f64>,
    pub(in crate::metrics) scale: i32,
    pub(in crate::metrics) zero_count: u64,
    pub(in crate::metrics) zero_threshold: f64,
    pub(in crate::metrics) flags: u32,
    pub(in crate::metrics) exemplars: Repeated<'a>,
}

impl<'a> ExponentialPoint<'a> {
    /// Reads a point, and its buckets into `positive` and `negative`, of which a little more than `limit` entries are
    /// kept.
    pub(in crate::metrics) fn read(
        message: &'a [u8],
        limit: usize,
        positive: &mut Side,
        negative: &mut Side,
    ) -> Result<Self, Malformed> {
        let mut point = Self::default();
        let (mut attributes, mut exemplars) = (Stretch::default(), Stretch::default());
        positive.clear();
        negative.clear();
        let mut reader = Reader::new(message);
        loop {
            let start = reader.at();
            let Some((tag, value)) = reader.next()? else { break };
            match tag {
                1 => attributes.add(value, start, reader.at())?,
                2 => point.start = value.fixed64()?,
                3 => point.time = value.fixed64()?,
                4 => point.count = value.fixed64()?,
                5 => point.sum = Some(value.double()?),
                6 => point.scale = value.sint32()?,
                7 => point.zero_count = value.fixed64()?,
                8 => positive.read(value.bytes()?, limit)?,
                9 => negative.read(value.bytes()?, limit)?,
                10 => point.flags = value.uint32()?,
                11 => exemplars.add(value, start, reader.at())?,
                14 => point.zero_threshold = value.double()?,
                _ => {}
            }
        }
        point.attributes = attributes.of(message, 1);
        point.exemplars = exemplars.of(message, 11);
        Ok(point)
    }
}

/// A `SummaryDataPoint`.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::metrics) struct SummaryPoint<'a> {
    pub(in crate::metrics) attributes: Repeated<'a>,
    pub(in crate::metrics) start: u64,
    pub(in crate::metrics) time: u64,
    pub(in crate::metrics) count: u64,
    pub(in crate::metrics) sum: f64,
    pub(in crate::metrics) quantiles: Repeated<'a>,
    pub(in crate::metrics) flags: u32,
}

impl<'a> SummaryPoint<'a> {
    pub(in crate::metrics) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut point = Self::default();
        let (mut attributes, mut quantiles) = (Stretch::default(), Stretch::default());
        let mut reader = Reader::new(message);
        loop {
            let start = reader.at();
            let Some((tag, value)) = reader.next()? else { break };
            match tag {
                7 => attributes.add(value, start, reader.at())?,
                2 => point.start = value.fixed64()?,
                3 => point.time = value.fixed64()?,
                4 => point.count = value.fixed64()?,
                5 => point.sum = value.double()?,
                6 => quantiles.add(value, start, reader.at())?,
                8 => point.flags = value.uint32()?,
                _ => {}
            }
        }
        point.attributes = attributes.of(message, 7);
        point.quantiles = quantiles.of(message, 6);
        Ok(point)
    }
}

/// A `ValueAtQuantile`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(in crate::metrics) struct Quantile {
    pub(in crate::metrics) quantile: f64,
    pub(in crate::metrics) value: f64,
}

impl Quantile {
    pub(in crate::metrics) fn read(message: &[u8]) -> Result<Self, Malformed> {
        let mut quantile = Self::default();
        let mut reader = Reader::new(message);
        while let Some((tag, value)) = reader.next()? {
            match tag {
                1 => quantile.quantile = value.double()?,
                2 => quantile.value = value.double()?,
                _ => {}
            }
        }
        Ok(quantile)
    }
}

/// An `Exemplar`.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::metrics) struct Exemplar<'a> {
    pub(in crate::metrics) attributes: Repeated<'a>,
    pub(in crate::metrics) time: u64,
    pub(in crate::metrics) value: Option<f64>,
    pub(in crate::metrics) span_id: &'a [u8],
    pub(in crate::metrics) trace_id: &'a [u8],
}

impl<'a> Exemplar<'a> {
    pub(in crate::metrics) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut exemplar = Self::default();
        let mut attributes = Stretch::default();
        let mut reader = Reader::new(message);
        loop {
            let start = reader.at();
            let Some((tag, value)) = reader.next()? else { break };
            match tag {
                7 => attributes.add(value, start, reader.at())?,
                2 => exemplar.time = value.fixed64()?,
                3 => exemplar.value = Some(value.double()?),
                6 => exemplar.value = Some(value.sfixed64_as_double()?),
                4 => exemplar.span_id = value.bytes()?,
                5 => exemplar.trace_id = value.bytes()?,
                _ => {}
            }
        }
        exemplar.attributes = attributes.of(message, 7);
        Ok(exemplar)
    }
}
