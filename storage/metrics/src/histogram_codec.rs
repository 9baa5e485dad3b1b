//! Encodes native histograms one after the other, each told from the one before; in the head and in the WAL. Layout:
//! docs/format/metrics-block.md, "Histograms in records".

use std::sync::Arc;

use model::Histogram;
use model::histogram::ResetHint;

use crate::varint::{Cursor, put_i64, put_u64};

/// The first byte: schema, zero threshold, bounds and bucket indexes are those of the histogram before.
const SAME_LAYOUT: u8 = 1;
/// The first byte: counts are whole numbers, told from those of the histogram before when that is so there, too.
const WHOLE_COUNTS: u8 = 2;
/// The first byte: where the reset hint begins.
const HINT_SHIFT: u8 = 2;
/// Whole numbers below this in magnitude are exact as doubles, and so are their differences as integers.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns what `count` is as a whole number that gives it back bit for bit.
fn whole(count: f64) -> Option<i64> {
    if count.abs() >= WHOLE_MAX {
        return None;
    }
    let number = count as i64;
    ((number as f64).to_bits() == count.to_bits()).then_some(number)
}

fn counts(histogram: &Histogram) -> impl Iterator<Item = f64> {
    let sides = histogram.positive.iter().chain(&histogram.negative).map(|(_, count)| *count);
    [histogram.zero_count, histogram.count].into_iter().chain(sides)
}

fn is_whole(histogram: &Histogram) -> bool {
    counts(histogram).all(|count| whole(count).is_some())
}

fn same_indexes(a: &[(i32, f64)], b: &[(i32, f64)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0)
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    let bits = |bounds: &[f64]| bounds.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && same_indexes(&a.positive, &b.positive)
        && same_indexes(&a.negative, &b.negative)
        && (Arc::ptr_eq(&a.custom, &b.custom) || bits(&a.custom) == bits(&b.custom))
}

/// Returns the number that stands for a hint on disk.
pub(crate) fn hint_number(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

/// Returns the hint that a number on disk stands for.
pub(crate) fn hint_of(number: u8) -> Option<ResetHint> {
    [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge].get(usize::from(number)).copied()
}

fn put_bits(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_indexes(out: &mut Vec<u8>, side: &[(i32, f64)]) {
    put_u64(out, side.len() as u64);
    let mut last = 0;
    for (index, _) in side {
        put_i64(out, i64::from(*index) - last);
        last = i64::from(*index);
    }
}

/// Appends `histogram`, told from the one that was encoded before it.
pub(crate) fn encode(before: Option<&Histogram>, histogram: &Histogram, out: &mut Vec<u8>) {
    let before = before.filter(|before| same_layout(before, histogram));
    let is_whole = is_whole(histogram);
    let mut flags = hint_number(histogram.hint) << HINT_SHIFT;
    flags |= if before.is_some() { SAME_LAYOUT } else { 0 };
    flags |= if is_whole { WHOLE_COUNTS } else { 0 };
    out.push(flags);
    if before.is_none() {
        put_i64(out, i64::from(histogram.schema));
        put_bits(out, histogram.zero_threshold);
        put_u64(out, histogram.custom.len() as u64);
        histogram.custom.iter().for_each(|bound| put_bits(out, *bound));
        put_indexes(out, &histogram.positive);
        put_indexes(out, &histogram.negative);
    }
    put_bits(out, histogram.sum);
    if !is_whole {
        counts(histogram).for_each(|count| put_bits(out, count));
        return;
    }
    let mut known = before.filter(|before| self::is_whole(before)).map(counts);
    for count in counts(histogram) {
        let base = known.as_mut().and_then(Iterator::next).and_then(whole).unwrap_or(0);
        put_i64(out, whole(count).unwrap_or(0) - base);
    }
}

/// Reads what [`encode`] wrote, given the same histogram before it; `None` where it makes no sense.
pub(crate) fn decode(before: Option<&Histogram>, cursor: &mut Cursor<'_>) -> Option<Histogram> {
    let flags = cursor.u8()?;
    let mut histogram = if flags & SAME_LAYOUT != 0 {
        before?.clone()
    } else {
        let schema = i32::try_from(cursor.i64()?).ok()?;
        let zero_threshold = f64::from_bits(cursor.fixed_u64()?);
        let count = cursor.count().filter(|count| *count <= cursor.0.len() / 8)?;
        let custom = (0..count).map(|_| cursor.fixed_u64().map(f64::from_bits)).collect::<Option<_>>()?;
        let (positive, negative) = (take_indexes(cursor)?, take_indexes(cursor)?);
        Histogram { schema, zero_threshold, custom, positive, negative, ..Histogram::default() }
    };
    histogram.hint = hint_of(flags >> HINT_SHIFT)?;
    histogram.sum = f64::from_bits(cursor.fixed_u64()?);
    let is_told = flags & SAME_LAYOUT != 0 && before.is_some_and(is_whole);
    let sides = histogram.positive.iter_mut().chain(&mut histogram.negative).map(|(_, count)| count);
    for count in [&mut histogram.zero_count, &mut histogram.count].into_iter().chain(sides) {
        *count = if flags & WHOLE_COUNTS == 0 {
            f64::from_bits(cursor.fixed_u64()?)
        } else {
            // The counts are still those of the histogram before.
            let base = if is_told { whole(*count)? } else { 0 };
            base.checked_add(cursor.i64()?)? as f64
        };
    }
    Some(histogram)
}

fn take_indexes(cursor: &mut Cursor<'_>) -> Option<Vec<(i32, f64)>> {
    let mut side = Vec::new();
    let mut last = 0_i64;
    for _ in 0..cursor.count()? {
        last = last.checked_add(cursor.i64()?)?;
        side.push((i32::try_from(last).ok()?, 0.0));
    }
    Some(side)
}

/// Returns the memory that a histogram takes, in bytes.
pub(crate) fn size_bytes(histogram: &Histogram) -> usize {
    size_of::<Histogram>()
        + (histogram.positive.len() + histogram.negative.len()) * size_of::<(i32, f64)>()
        + histogram.custom.len() * size_of::<f64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(histograms: &[Histogram]) -> usize {
        let mut out = Vec::new();
        let mut before = None;
        for one in histograms {
            encode(before, one, &mut out);
            before = Some(one);
        }
        let mut cursor = Cursor(&out);
        let mut before: Option<Histogram> = None;
        for one in histograms {
            let got = decode(before.as_ref(), &mut cursor).unwrap();
            assert_eq!(bits(&got), bits(one));
            before = Some(got);
        }
        assert!(cursor.is_empty());
        out.len()
    }

    /// All of a histogram, so that NaN equals itself and 0 is not -0.
    fn bits(histogram: &Histogram) -> String {
        let side = |side: &[(i32, f64)]| side.iter().map(|(i, c)| (*i, c.to_bits())).collect::<Vec<_>>();
        let Histogram { schema, zero_threshold, zero_count, count, sum, positive, negative, custom, hint } = histogram;
        let numbers = [zero_threshold, zero_count, count, sum].map(|number| number.to_bits());
        let custom: Vec<u64> = custom.iter().map(|bound| bound.to_bits()).collect();
        format!("{schema} {numbers:x?} {:x?} {:x?} {custom:x?} {hint:?}", side(positive), side(negative))
    }

    fn plain() -> Histogram {
        Histogram {
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 2.0,
            count: 12.0,
            sum: 18.4,
            positive: vec![(-3, 4.0), (0, 1.0), (17, 2.0)],
            negative: vec![(2, 3.0)],
            ..Histogram::default()
        }
    }

    #[test]
    fn awkward_histograms_come_back() {
        let stale = Histogram { sum: model::stale_marker(), ..Histogram::default() };
        let custom = Histogram {
            schema: model::histogram::CUSTOM,
            custom: [-1.0, 0.0, f64::MAX].into(),
            positive: vec![(0, 1.5), (3, -0.0)],
            hint: ResetHint::Gauge,
            ..Histogram::default()
        };
        let wide = Histogram { positive: vec![(i32::MIN, WHOLE_MAX), (i32::MAX, 1.0)], ..plain() };
        let odd = Histogram { count: f64::NAN, sum: f64::NEG_INFINITY, ..plain() };
        let less = Histogram { count: -9_007_199_254_740_991.0, hint: ResetHint::NotReset, ..plain() };
        let more = Histogram { count: 9_007_199_254_740_991.0, hint: ResetHint::Reset, ..plain() };
        check(&[]);
        check(&[plain(), stale.clone(), stale, custom.clone(), custom, wide.clone(), odd, less, more, wide, plain()]);
    }

    #[test]
    fn a_steady_histogram_takes_a_byte_for_each_count() {
        let first = plain();
        let next = Histogram { count: 13.0, positive: vec![(-3, 5.0), (0, 1.0), (17, 2.0)], ..plain() };
        assert_eq!(check(&[first.clone(), next]) - check(&[first]), 1 + 8 + 6);
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![any::<u64>().prop_map(f64::from_bits), (0..1000_u32).prop_map(f64::from)]
    }

    fn side() -> impl Strategy<Value = Vec<(i32, f64)>> {
        proptest::collection::vec((any::<i32>(), number()), 0..5)
    }

    proptest! {
        #[test]
        fn any_histograms_come_back(all in proptest::collection::vec(
            (-4..9_i32, [number(), number(), number(), number()], side(), side(),
             proptest::collection::vec(number(), 0..3), 0..4_u8, any::<bool>()), 0..8)) {
            let mut histograms: Vec<Histogram> = Vec::new();
            for (schema, [zero_threshold, zero_count, count, sum], positive, negative, custom, hint, same) in all {
                let hint = hint_of(hint).unwrap();
                histograms.push(match histograms.last() {
                    Some(last) if same => Histogram { zero_count, count, sum, hint, ..last.clone() },
                    _ => Histogram {
                        schema, zero_threshold, zero_count, count, sum, positive, negative, custom: custom.into(), hint,
                    },
                });
            }
            check(&histograms);
        }

        #[test]
        fn any_bytes_give_a_histogram_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut cursor = Cursor(&bytes);
            let first = decode(None, &mut cursor);
            drop(decode(first.as_ref(), &mut cursor));
        }
    }
}
