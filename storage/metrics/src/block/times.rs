//! Lists of timestamps: those of one scrape are the same for all its series, and are kept once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::varint::{Cursor, put_i64};

/// The timestamps of a row group are kept in the index when at most one in so many is not there yet.
const SHARED_PART: usize = 4;

/// Encodes timestamps as the differences between their differences, which jitter leaves at a byte each.
pub(crate) fn encode_times(times: &[i64], list: &mut Vec<u8>) {
    let (mut last, mut last_step) = (0_i64, 0_i64);
    for time in times {
        let step = time.wrapping_sub(last);
        put_i64(list, step.wrapping_sub(last_step));
        (last, last_step) = (*time, step);
    }
}

/// Returns the timestamps of a list; `None` unless they ascend.
pub(crate) fn decode_times(list: &[u8]) -> Option<Vec<i64>> {
    let mut cursor = Cursor(list);
    let mut times = Vec::with_capacity(list.len());
    let (mut last, mut step) = (0_i64, 0_i64);
    while !cursor.is_empty() {
        step = step.wrapping_add(cursor.i64()?);
        let time = last.wrapping_add(step);
        if !times.is_empty() && time <= last {
            return None;
        }
        times.push(time);
        last = time;
    }
    Some(times)
}

/// The lists of one row group, each once.
#[derive(Debug, Default)]
pub(crate) struct GroupTimes {
    pub(crate) lists: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, u32>,
    /// The rows whose list no run before in the group had.
    first_rows: usize,
    /// The rows of each list's first run.
    rows: Vec<usize>,
    scratch: Vec<u8>,
}

impl GroupTimes {
    /// Returns the number of a run's list.
    pub(crate) fn push(&mut self, times: &[i64]) -> u32 {
        self.scratch.clear();
        encode_times(times, &mut self.scratch);
        if let Some(number) = self.numbers.get(self.scratch.as_slice()) {
            return *number;
        }
        let list: Arc<[u8]> = self.scratch.as_slice().into();
        let number = u32::try_from(self.lists.len()).expect("a row group has fewer runs than 4 Gi");
        self.numbers.insert(Arc::clone(&list), number);
        self.lists.push(list);
        self.rows.push(times.len());
        self.first_rows += times.len();
        number
    }

    /// Says whether lists repeat within the group, which is `rows` long.
    pub(crate) fn repeats(&self, rows: usize) -> bool {
        self.first_rows <= rows / 2
    }
}

/// What lists there were in the row groups of a block so far, by hash.
#[derive(Debug, Default)]
pub(crate) struct SeenTimes(HashSet<u64>);

impl SeenTimes {
    /// Says whether most rows of a group have times that came before, so that it pays to keep them in the index.
    pub(crate) fn shares(&mut self, group: &GroupTimes, rows: usize) -> bool {
        let mut new_rows = 0;
        for (list, rows) in group.lists.iter().zip(&group.rows) {
            if self.0.insert(xxhash_rust::xxh3::xxh3_64(list)) {
                new_rows += rows;
            }
        }
        new_rows <= rows / SHARED_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for times in [&[][..], &[0], &[-5, 0, 1 << 40], &[i64::MIN, i64::MAX]] {
            let mut list = Vec::new();
            encode_times(times, &mut list);
            assert_eq!(decode_times(&list).as_deref(), Some(times));
        }
    }

    #[test]
    fn times_that_do_not_ascend_are_refused() {
        let mut list = Vec::new();
        encode_times(&[1, 2, 2], &mut list);
        assert_eq!(decode_times(&list), None);
        assert_eq!(decode_times(&[0x80]), None);
    }

    #[test]
    fn lists_are_kept_once_and_seen_again_in_later_groups() {
        let (mut seen, mut group) = (SeenTimes::default(), GroupTimes::default());
        assert_eq!([group.push(&[1, 2]), group.push(&[1, 3]), group.push(&[1, 2])], [0, 1, 0]);
        assert!(!group.repeats(6));
        assert!(!seen.shares(&group, 6));
        assert!(seen.shares(&group, 6), "they were there before");
    }
}
