//! Native histograms as Prometheus' float histogram chunks.

use std::collections::BTreeSet;

use model::histogram::ResetHint;
use model::{Histogram, histogram};

use super::bits::{Bits, Xor};
use super::chunk::{Chunk, Encoding, chunk, count_bytes};

/// Buckets that follow each other: (distance from the end of those before, or index of the first; how many).
pub(in crate::prometheus) type Span = (i32, u32);

/// Returns the spans that cover `indexes`, which ascend.
pub(in crate::prometheus) fn spans(indexes: impl IntoIterator<Item = i32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i32;
    for index in indexes {
        match spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            // A gap of more than half of all indexes wraps around, and back when it is read.
            _ => spans.push((index.wrapping_sub(next), 1)),
        }
        next = index.wrapping_add(1);
    }
    spans
}

/// Returns how many of the first histograms, at least one where there is one, can be in one chunk: those with the same
/// kind of buckets, without a counter reset between them. A stale marker stays alone.
pub(super) fn run_len(all: &[&Histogram]) -> usize {
    let together = |two: &[&Histogram]| match two {
        [a, b] => {
            let gauges = [a, b].map(|one| one.hint == ResetHint::Gauge);
            !a.is_stale()
                && !b.is_stale()
                && a.schema == b.schema
                && a.zero_threshold == b.zero_threshold
                && a.custom == b.custom
                && gauges[0] == gauges[1]
                && (gauges[0] || !b.detect_reset(a))
        }
        _ => false,
    };
    all.windows(2).position(|two| !together(two)).map_or(all.len(), |last| last + 1)
}

/// Encodes histograms that [`run_len`] says go together. The chunk has every bucket that any of them has.
pub(super) fn encode(times: &[i64], all: &[&Histogram]) -> Chunk {
    // The top two bits say what is known of a reset before the first.
    let reset = match all.first().map_or(ResetHint::Unknown, |first| first.hint) {
        ResetHint::Unknown => 0b00,
        ResetHint::NotReset => 0b01,
        ResetHint::Reset => 0b10,
        ResetHint::Gauge => 0b11,
    };
    let [high, low] = count_bytes(times);
    let mut bits = Bits::after(&[high, low, reset << 6]);
    let indexes = |side: fn(&Histogram) -> &[(i32, f64)]| -> Vec<i32> {
        let used: BTreeSet<i32> = all.iter().flat_map(|one| side(one)).map(|(index, _)| *index).collect();
        used.into_iter().collect()
    };
    let (positive, negative) = (indexes(|one| &one.positive), indexes(|one| &one.negative));
    let mut columns: Vec<Xor> = Vec::new();
    let (mut time, mut delta) = (0, 0);
    for (i, (one, at)) in all.iter().zip(times).enumerate() {
        let buckets = column(&one.positive, &positive).chain(column(&one.negative, &negative));
        let numbers = [one.count, one.zero_count, one.sum].into_iter().chain(buckets);
        if i == 0 {
            push_layout(&mut bits, one, &positive, &negative);
            bits.push_varbit(*at);
            for number in numbers {
                bits.push(number.to_bits(), 64);
                columns.push(Xor::after(number));
            }
        } else {
            let step = at.wrapping_sub(time);
            bits.push_varbit(step.wrapping_sub(delta));
            delta = step;
            for (column, number) in columns.iter_mut().zip(numbers) {
                column.push(&mut bits, number);
            }
        }
        time = *at;
    }
    chunk(times, Encoding::FloatHistogram, bits)
}

/// Returns the counts of `buckets` at `indexes`, which has all of theirs.
fn column<'a>(buckets: &'a [(i32, f64)], indexes: &'a [i32]) -> impl Iterator<Item = f64> + 'a {
    let mut buckets = buckets.iter().peekable();
    indexes.iter().map(move |index| buckets.next_if(|(have, _)| have == index).map_or(0.0, |(_, count)| *count))
}

fn push_layout(bits: &mut Bits, first: &Histogram, positive: &[i32], negative: &[i32]) {
    push_zero_threshold(bits, first.zero_threshold);
    bits.push_varbit(i64::from(first.schema));
    for side in [positive, negative] {
        let spans = spans(side.iter().copied());
        bits.push_varbit_unsigned(spans.len() as u64);
        for (offset, length) in spans {
            bits.push_varbit_unsigned(u64::from(length));
            bits.push_varbit(i64::from(offset));
        }
    }
    if first.schema == histogram::CUSTOM {
        bits.push_varbit_unsigned(first.custom.len() as u64);
        for bound in first.custom.iter() {
            push_bound(bits, *bound);
        }
    }
}

/// Writes the threshold in one byte where it is zero or a usual power of two.
fn push_zero_threshold(bits: &mut Bits, threshold: f64) {
    let raw = threshold.to_bits();
    // Of 0.5 × 2^exponent.
    let exponent = (raw >> 52).cast_signed() - 1022;
    if threshold == 0.0 {
        bits.push(0, 8);
    } else if raw & ((1 << 52) - 1) == 0 && (-242..=11).contains(&exponent) {
        bits.push((exponent + 243).cast_unsigned(), 8);
    } else {
        bits.push(255, 8);
        bits.push(raw, 64);
    }
}

/// Writes a bound in few bits where it is a multiple of a thousandth.
fn push_bound(bits: &mut Bits, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=33_554_430.0).contains(&thousandths) && whole / 1000.0 == bound {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds were checked")]
        bits.push_varbit_unsigned(whole as u64 + 1);
    } else {
        bits.push(0, 1);
        bits.push(bound.to_bits(), 64);
    }
}
