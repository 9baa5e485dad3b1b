//! Native histograms of a request: the same message in 1.0 and 2.0.

use std::sync::Arc;

use model::histogram::{CUSTOM, ResetHint};
use model::{Histogram, HistogramSample};

use super::Fault;
use crate::protobuf::{Field, Malformed, Reader, zigzag};

/// The finest resolution that is kept; finer ones, which are reserved, are lowered to it.
const SCHEMA_MAX: i32 = 8;
/// The finest resolution that is understood.
const SCHEMA_RESERVED_MAX: i32 = 52;
/// The coarsest resolution.
const SCHEMA_MIN: i32 = -4;
/// The farthest bucket from 1; every number is in one of the first 300,000 at the finest resolution that is kept.
const INDEX_MAX: i64 = 1 << 30;

/// Space that is used again for each histogram.
#[derive(Debug, Default)]
pub(super) struct HistogramScratch {
    positive: Side,
    negative: Side,
    custom: Vec<f64>,
    /// The custom bounds of the last histogram: the next one most likely has the same.
    last_custom: Arc<[f64]>,
}

/// The buckets above zero, or those below.
#[derive(Debug, Default)]
struct Side {
    /// (gap to the span before, number of buckets).
    spans: Vec<(i32, u32)>,
    /// Differences of whole counts, each to the bucket before.
    deltas: Vec<i64>,
    /// Fractional counts.
    counts: Vec<f64>,
}

/// A count that may be whole or fractional; the last one that came counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Count {
    Whole(u64),
    Fraction(f64),
}

/// What is no list.
#[derive(Debug)]
struct Head {
    count: Count,
    zero_count: Count,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    hint: ResetHint,
    timestamp_ms: i64,
    start_ms: i64,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            count: Count::Whole(0),
            zero_count: Count::Whole(0),
            sum: 0.0,
            schema: 0,
            zero_threshold: 0.0,
            hint: ResetHint::Unknown,
            timestamp_ms: 0,
            start_ms: 0,
        }
    }
}

impl HistogramScratch {
    /// Reads a `Histogram`; the inner error is for one that is no protobuf's fault, but makes no sense.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        buckets_max: usize,
    ) -> Result<Result<HistogramSample, Fault>, Malformed> {
        self.clear();
        let mut head = Head::default();
        let mut reader = Reader::new(bytes);
        while let Some((tag, field)) = reader.next()? {
            match tag {
                1 => head.count = Count::Whole(field.varint()?),
                2 => head.count = Count::Fraction(field.double()?),
                3 => head.sum = field.double()?,
                4 => head.schema = field.sint32()?,
                5 => head.zero_threshold = field.double()?,
                6 => head.zero_count = Count::Whole(field.varint()?),
                7 => head.zero_count = Count::Fraction(field.double()?),
                8 => push(&mut self.negative.spans, decode_span(field.bytes()?)?, buckets_max),
                9 => push_deltas(&mut self.negative.deltas, field, buckets_max)?,
                10 => push_doubles(&mut self.negative.counts, field, buckets_max)?,
                11 => push(&mut self.positive.spans, decode_span(field.bytes()?)?, buckets_max),
                12 => push_deltas(&mut self.positive.deltas, field, buckets_max)?,
                13 => push_doubles(&mut self.positive.counts, field, buckets_max)?,
                14 => head.hint = hint(field.varint()?),
                15 => head.timestamp_ms = field.int64()?,
                16 => push_doubles(&mut self.custom, field, buckets_max)?,
                // 1.0 does not have it, and senders of 1.0 do not send it.
                17 => head.start_ms = field.int64()?,
                _ => {}
            }
        }
        if self.is_over(buckets_max) {
            let detail = format!("a native histogram has more than {buckets_max} buckets, which is the limit");
            return Ok(Err(("too_many_buckets", detail)));
        }
        Ok(match self.build(&head) {
            Ok(histogram) => Ok(HistogramSample {
                timestamp_ms: head.timestamp_ms,
                start_ms: head.start_ms,
                histogram: Arc::new(histogram),
            }),
            Err(detail) => Err(("invalid_histogram", detail)),
        })
    }

    fn clear(&mut self) {
        for side in [&mut self.positive, &mut self.negative] {
            side.spans.clear();
            side.deltas.clear();
            side.counts.clear();
        }
        self.custom.clear();
    }

    fn is_over(&self, buckets_max: usize) -> bool {
        let sides = [&self.positive, &self.negative];
        let lists = sides.iter().flat_map(|side| [side.spans.len(), side.deltas.len(), side.counts.len()]);
        let sum: usize = sides.iter().map(|side| side.deltas.len().max(side.counts.len())).sum();
        lists.chain([self.custom.len(), sum]).any(|len| len > buckets_max)
    }

    fn build(&mut self, head: &Head) -> Result<Histogram, String> {
        match head.schema {
            CUSTOM => self.check_custom(head)?,
            SCHEMA_MIN..=SCHEMA_RESERVED_MAX if self.custom.is_empty() => {}
            SCHEMA_MIN..=SCHEMA_RESERVED_MAX => {
                return Err(format!("a histogram of exponential schema {} has custom bounds", head.schema));
            }
            other => {
                return Err(format!(
                    "a histogram has schema {other}, which is none from {SCHEMA_MIN} to {SCHEMA_MAX} for exponential \
                     buckets, or {CUSTOM} for custom ones"
                ));
            }
        }
        let (count, zero_count, negative, positive) = match head.count {
            Count::Whole(count) => self.whole(head, count)?,
            Count::Fraction(count) => self.fractions(head, count)?,
        };
        if self.custom != *self.last_custom {
            self.last_custom = self.custom.as_slice().into();
        }
        let mut histogram = Histogram {
            // By more than 31 steps at once, every bucket is in the one of its sign: as many are the same as more.
            schema: head.schema.min(SCHEMA_MAX + 31),
            zero_threshold: head.zero_threshold,
            zero_count,
            count,
            sum: head.sum,
            positive,
            negative,
            custom: Arc::clone(&self.last_custom),
            hint: head.hint,
        };
        histogram.reduce(SCHEMA_MAX);
        Ok(histogram)
    }

    /// Makes buckets of whole counts, which must add up.
    fn whole(&self, head: &Head, count: u64) -> Result<Parts, String> {
        let zero_count = match head.zero_count {
            Count::Whole(count) => count,
            Count::Fraction(_) => 0,
        };
        let mut found = u128::from(zero_count);
        let mut side = |side: &Side, name| {
            let mut last = 0_i64;
            side.buckets(&side.deltas, name, |delta| {
                let count = last.checked_add(delta).and_then(|count| u64::try_from(count).ok());
                let Some(count) = count else { return Err(last.saturating_add(delta).to_string()) };
                last = count.cast_signed();
                found += u128::from(count);
                Ok(as_f64(count))
            })
        };
        let negative = side(&self.negative, "negative")?;
        let positive = side(&self.positive, "positive")?;
        // What is no number is counted, but is in no bucket, and makes the sum no number, too.
        let fits = if head.sum.is_nan() { found <= u128::from(count) } else { found == u128::from(count) };
        if !fits {
            return Err(format!("a histogram has {found} observations in its buckets, but a count of {count}"));
        }
        Ok((as_f64(count), as_f64(zero_count), negative, positive))
    }

    /// Makes buckets of fractional counts, which need not add up, as they are rounded.
    fn fractions(&self, head: &Head, count: f64) -> Result<Parts, String> {
        let zero_count = match head.zero_count {
            Count::Fraction(count) => count,
            Count::Whole(_) => 0.0,
        };
        if zero_count < 0.0 {
            return Err(format!("a histogram has {zero_count} observations in its zero bucket"));
        }
        if count < 0.0 {
            return Err(format!("a histogram has a count of {count}"));
        }
        let side = |side: &Side, name| {
            side.buckets(&side.counts, name, |count| if count < 0.0 { Err(count.to_string()) } else { Ok(count) })
        };
        Ok((count, zero_count, side(&self.negative, "negative")?, side(&self.positive, "positive")?))
    }

    fn check_custom(&self, head: &Head) -> Result<(), String> {
        let fault = |what: &str| Err(format!("a histogram with custom buckets {what}"));
        if let Some(pair) = self.custom.windows(2).find(|pair| matches!(pair, [a, b] if a >= b)) {
            return fault(&format!("has bounds that do not ascend: {pair:?}"));
        }
        if self.custom.iter().any(|bound| bound.is_nan()) {
            return fault("has a bound that is no number");
        }
        if self.custom.last() == Some(&f64::INFINITY) {
            return fault("has an infinite bound, which must not be given");
        }
        let is_zero = match head.zero_count {
            Count::Whole(count) => count == 0 || matches!(head.count, Count::Fraction(_)),
            Count::Fraction(count) => count == 0.0 || matches!(head.count, Count::Whole(_)),
        };
        if !is_zero {
            return fault("has observations in a zero bucket");
        }
        if head.zero_threshold != 0.0 {
            return fault("has the threshold of a zero bucket");
        }
        let negative = &self.negative;
        if !(negative.spans.is_empty() && negative.deltas.is_empty() && negative.counts.is_empty()) {
            return fault("has negative buckets");
        }
        if let Some((offset, _)) = self.positive.spans.first().filter(|(offset, _)| *offset < 0) {
            return fault(&format!("has a span with the negative offset {offset}"));
        }
        let reach: i64 = self.positive.spans.iter().map(|(offset, len)| i64::from(*offset) + i64::from(*len)).sum();
        let bounds = self.custom.len();
        if reach > i64::try_from(bounds).unwrap_or(i64::MAX).saturating_add(1) {
            return fault(&format!("has {bounds} bounds, too few for spans up to bucket {reach}"));
        }
        Ok(())
    }
}

/// Count, count of the zero bucket, negative and positive buckets.
type Parts = (f64, f64, Vec<(i32, f64)>, Vec<(i32, f64)>);

impl Side {
    /// Gives each of `values`, made a count, its index; buckets with no observation are left out.
    fn buckets<T: Copy>(
        &self,
        values: &[T],
        name: &str,
        mut count: impl FnMut(T) -> Result<f64, String>,
    ) -> Result<Vec<(i32, f64)>, String> {
        let wanted: u64 = self.spans.iter().map(|(_, len)| u64::from(*len)).sum();
        if wanted != values.len() as u64 {
            return Err(format!("the {name} spans of a histogram need {wanted} buckets, it has {}", values.len()));
        }
        let mut buckets = Vec::with_capacity(values.len());
        let mut values = values.iter().enumerate();
        let mut index = 0_i64;
        for (number, (offset, len)) in self.spans.iter().enumerate() {
            if number > 0 && *offset < 0 {
                let number = number + 1;
                return Err(format!(
                    "span {number} of the {name} ones of a histogram has the negative offset {offset}"
                ));
            }
            index += i64::from(*offset);
            for (place, value) in values.by_ref().take(*len as usize) {
                let count = count(*value).map_err(|count| {
                    format!("bucket {} of the {name} ones of a histogram has {count} observations", place + 1)
                })?;
                let at = i32::try_from(index).ok().filter(|_| index.abs() <= INDEX_MAX);
                let Some(at) = at else {
                    return Err(format!("the {name} spans of a histogram reach bucket {index}, which holds no number"));
                };
                if count != 0.0 {
                    buckets.push((at, count));
                }
                index += 1;
            }
        }
        Ok(buckets)
    }
}

/// Adds to a list unless it is over its limit already.
fn push<T>(list: &mut Vec<T>, value: T, max: usize) {
    if list.len() <= max {
        list.push(value);
    }
}

fn push_deltas(list: &mut Vec<i64>, field: Field<'_>, max: usize) -> Result<(), Malformed> {
    if let Field::Varint(number) = field {
        push(list, zigzag(number), max);
        return Ok(());
    }
    let mut packed = Reader::new(field.bytes()?);
    while let Some(number) = packed.next_varint()? {
        push(list, zigzag(number), max);
    }
    Ok(())
}

fn push_doubles(list: &mut Vec<f64>, field: Field<'_>, max: usize) -> Result<(), Malformed> {
    if let Field::Fixed64(bits) = field {
        push(list, f64::from_bits(bits), max);
        return Ok(());
    }
    let mut packed = Reader::new(field.bytes()?);
    while let Some(number) = packed.next_double()? {
        push(list, number, max);
    }
    Ok(())
}

fn decode_span(bytes: &[u8]) -> Result<(i32, u32), Malformed> {
    let mut span = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((tag, field)) = reader.next()? {
        match tag {
            1 => span.0 = field.sint32()?,
            2 => span.1 = field.uint32()?,
            _ => {}
        }
    }
    Ok(span)
}

fn hint(number: u64) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

#[expect(clippy::cast_precision_loss, reason = "histograms have floating counts")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
