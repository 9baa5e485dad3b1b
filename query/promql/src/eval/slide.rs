//! The largest or smallest value of each of many overlapping windows, each sample looked at once.

use std::collections::VecDeque;

use crate::value::ABSENT;

/// Returns the best value in each window, NaN where all are NaN, absent where there is no sample. A window reaches from
/// `start` (not inside) to `end` (inside); neither falls from one window to the next.
pub(super) fn extremes(
    times: &[i64],
    values: &[f64],
    windows: impl Iterator<Item = (i64, i64)>,
    wins: impl Fn(f64, f64) -> bool,
) -> Vec<f64> {
    // Places of samples that may still be the best of some window: each is better than all behind it.
    let mut best: VecDeque<usize> = VecDeque::new();
    let (mut from, mut to) = (0, 0);
    let mut results = Vec::with_capacity(windows.size_hint().0);
    for (start, end) in windows {
        while times.get(to).is_some_and(|at| *at <= end) {
            let value = values[to];
            if !value.is_nan() {
                while best.back().is_some_and(|place| wins(value, values[*place])) {
                    best.pop_back();
                }
                best.push_back(to);
            }
            to += 1;
        }
        while from < to && times[from] <= start {
            from += 1;
        }
        while best.front().is_some_and(|place| *place < from) {
            best.pop_front();
        }
        results.push(match best.front() {
            _ if from == to => ABSENT,
            Some(place) => values[*place],
            None => f64::NAN,
        });
    }
    results
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::extremes;

    proptest! {
        #[test]
        fn each_window_has_the_extreme_that_a_scan_finds(
            values in prop::collection::vec(prop_oneof![6 => (-9i32..9).prop_map(f64::from), 1 => Just(f64::NAN)], 0..60),
            (range, step) in (1i64..20, 1i64..9),
        ) {
            let times: Vec<i64> = (0..).take(values.len()).map(|i| i * 2 + i % 2).collect();
            let windows: Vec<(i64, i64)> = (0..40).map(|i| (i * step - range, i * step)).collect();
            let slid = extremes(&times, &values, windows.iter().copied(), |new, old| new > old);
            for ((start, end), got) in windows.into_iter().zip(slid) {
                let inside = times.iter().zip(&values).filter(|(at, _)| start < **at && **at <= end).map(|(_, v)| *v);
                let all: Vec<f64> = inside.collect();
                let expected = all.iter().copied().fold(f64::NAN, f64::max);
                if all.is_empty() {
                    prop_assert!(crate::value::is_absent(got));
                } else {
                    prop_assert!(!crate::value::is_absent(got));
                    prop_assert!(got == expected || (got.is_nan() && expected.is_nan()), "{got} {expected}");
                }
            }
        }
    }
}
