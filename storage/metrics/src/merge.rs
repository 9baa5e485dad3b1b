//! Puts the samples of one series from several places together: oldest first, one per time, the newest write wins.

use storage_api::MillisRange;

/// Sorts samples by time; of those with the same time the last one stays.
pub(crate) fn sort_newest_wins(times: &mut Vec<i64>, values: &mut Vec<f64>) {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|i| times[*i]);
    let mut sorted: Vec<(i64, f64)> = Vec::with_capacity(times.len());
    for i in order {
        let sample = (times[i], values[i]);
        match sorted.last_mut() {
            Some(last) if last.0 == sample.0 => *last = sample,
            Some(_) | None => sorted.push(sample),
        }
    }
    (*times, *values) = sorted.into_iter().unzip();
}

/// Cuts off what lies outside of `range`; times must ascend.
pub(crate) fn trim(times: &mut Vec<i64>, values: &mut Vec<f64>, range: MillisRange) {
    let end = times.partition_point(|time| *time <= range.max_ms);
    times.truncate(end);
    values.truncate(end);
    let start = times.partition_point(|time| *time < range.min_ms);
    times.drain(..start);
    values.drain(..start);
}

/// Keeps the samples at `places`, which ascend and do not overlap.
pub(crate) fn retain((times, values): &mut Column, places: &[std::ops::Range<usize>]) {
    let mut end = 0;
    for place in places {
        times.copy_within(place.clone(), end);
        values.copy_within(place.clone(), end);
        end += place.len();
    }
    times.truncate(end);
    values.truncate(end);
}

/// Samples of one series from one place, ascending by time.
pub(crate) type Column = (Vec<i64>, Vec<f64>);

/// Merges columns that are given from the oldest write to the newest.
pub(crate) fn merge_columns(mut columns: Vec<Column>) -> Column {
    columns.retain(|(times, _)| !times.is_empty());
    if columns.len() <= 1 {
        return columns.pop().unwrap_or_default();
    }
    let follows = |two: &[Column]| match two {
        [(a, _), (b, _)] => a.last() < b.first(),
        _ => true,
    };
    let in_turn = columns.windows(2).all(follows);
    let count = columns.iter().map(|(times, _)| times.len()).sum();
    let (mut times, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (column_times, column_values) in columns {
        times.extend_from_slice(&column_times);
        values.extend_from_slice(&column_values);
    }
    if !in_turn {
        sort_newest_wins(&mut times, &mut values);
    }
    (times, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(columns: &[&[(i64, f64)]], expected: &[(i64, f64)]) {
        let columns = columns.iter().map(|column| column.iter().copied().unzip()).collect();
        let (times, values) = merge_columns(columns);
        assert_eq!(times.into_iter().zip(values).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn columns_in_turn_are_joined() {
        check(&[&[(1, 1.0)], &[], &[(2, 2.0), (3, 3.0)]], &[(1, 1.0), (2, 2.0), (3, 3.0)]);
    }

    #[test]
    fn the_newest_write_wins() {
        check(&[&[(1, 1.0), (5, 5.0)], &[(1, 9.0), (2, 2.0)]], &[(1, 9.0), (2, 2.0), (5, 5.0)]);
    }

    #[test]
    fn trimming_keeps_both_ends() {
        let (mut times, mut values) = (vec![1, 2, 3, 4], vec![1.0, 2.0, 3.0, 4.0]);
        trim(&mut times, &mut values, MillisRange { min_ms: 2, max_ms: 3 });
        assert_eq!((times, values), (vec![2, 3], vec![2.0, 3.0]));
    }
}
