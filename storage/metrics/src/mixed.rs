//! Samples of one series that are numbers and native histograms, some with a start time.

use std::sync::Arc;

use model::{Histogram, HistogramSample, Labels};
use storage_api::{MillisRange, SeriesSamples, histogram_cost};

use crate::merge::{Column, merge_columns};

/// Samples of one series, ascending by time once they are sorted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Mixed {
    pub(crate) times: Vec<i64>,
    /// As many; 0 where there is a histogram.
    pub(crate) values: Vec<f64>,
    /// As many start times, 0 where it is not known; or none at all.
    pub(crate) starts_ms: Vec<i64>,
    /// As many, `None` where the sample is a number; or none at all.
    pub(crate) histograms: Vec<Option<Arc<Histogram>>>,
}

impl From<Column> for Mixed {
    fn from((times, values): Column) -> Self {
        Self { times, values, ..Self::default() }
    }
}

impl Mixed {
    /// Says whether there are only numbers, and no start time.
    pub(crate) fn is_plain(&self) -> bool {
        self.starts_ms.is_empty() && self.histograms.is_empty()
    }

    fn set_start(&mut self, start_ms: i64) {
        if start_ms != 0 || !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.times.len() - 1, 0);
            self.starts_ms.push(start_ms);
        }
    }

    /// Adds a number.
    pub(crate) fn push(&mut self, time: i64, value: f64, start_ms: i64) {
        self.times.push(time);
        self.values.push(value);
        self.set_start(start_ms);
        if !self.histograms.is_empty() {
            self.histograms.push(None);
        }
    }

    /// Adds a histogram.
    pub(crate) fn push_histogram(&mut self, sample: HistogramSample) {
        self.times.push(sample.timestamp_ms);
        self.values.push(0.0);
        self.set_start(sample.start_ms);
        self.histograms.resize(self.times.len() - 1, None);
        self.histograms.push(Some(sample.histogram));
    }

    pub(crate) fn start_ms(&self, at: usize) -> i64 {
        self.starts_ms.get(at).copied().unwrap_or(0)
    }

    /// Returns the histogram at a place, if the sample there is one.
    pub(crate) fn histogram(&self, at: usize) -> Option<HistogramSample> {
        let histogram = Arc::clone(self.histograms.get(at)?.as_ref()?);
        Some(HistogramSample { timestamp_ms: *self.times.get(at)?, start_ms: self.start_ms(at), histogram })
    }

    /// Copies the sample at a place of `other`.
    pub(crate) fn push_from(&mut self, other: &Self, at: usize) {
        match (other.histogram(at), other.times.get(at), other.values.get(at)) {
            (Some(histogram), ..) => self.push_histogram(histogram),
            (None, Some(time), Some(value)) => self.push(*time, *value, other.start_ms(at)),
            _ => {}
        }
    }

    /// Keeps the samples at `places`, which ascend and do not overlap.
    pub(crate) fn retain(&mut self, places: &[std::ops::Range<usize>]) {
        if let [all] = places
            && *all == (0..self.times.len())
        {
            return;
        }
        if self.is_plain() {
            let mut column = (std::mem::take(&mut self.times), std::mem::take(&mut self.values));
            crate::merge::retain(&mut column, places);
            (self.times, self.values) = column;
            return;
        }
        let mut kept = Self::default();
        places.iter().cloned().flatten().for_each(|at| kept.push_from(self, at));
        *self = kept;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sorts by time; of samples with the same time the last one stays.
    fn sort_newest_wins(&mut self) {
        if self.times.is_sorted_by(|a, b| a < b) {
            return;
        }
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|i| self.times[*i]);
        let mut sorted = Self::default();
        for same in order.chunk_by(|a, b| self.times[*a] == self.times[*b]) {
            if let Some(last) = same.last() {
                sorted.push_from(self, *last);
            }
        }
        *self = sorted;
    }

    /// Cuts off what lies outside of `range`; times must ascend.
    pub(crate) fn trim(&mut self, range: MillisRange) {
        let end = self.times.partition_point(|time| *time <= range.max_ms);
        let start = self.times.partition_point(|time| *time < range.min_ms).min(end);
        cut(&mut self.times, start, end);
        cut(&mut self.values, start, end);
        cut(&mut self.starts_ms, start, end);
        cut(&mut self.histograms, start, end);
    }

    /// Adds all samples of `other` after its own.
    fn append(&mut self, mut other: Self) {
        let (own, count) = (self.times.len(), self.times.len() + other.times.len());
        self.times.append(&mut other.times);
        self.values.append(&mut other.values);
        if !self.starts_ms.is_empty() || !other.starts_ms.is_empty() {
            self.starts_ms.resize(own, 0);
            self.starts_ms.append(&mut other.starts_ms);
            self.starts_ms.resize(count, 0);
        }
        if !self.histograms.is_empty() || !other.histograms.is_empty() {
            self.histograms.resize(own, None);
            self.histograms.append(&mut other.histograms);
            self.histograms.resize(count, None);
        }
    }

    /// Gives the samples to a query.
    pub(crate) fn into_series(self, labels: Labels) -> SeriesSamples {
        let Self { times: timestamps_ms, values, starts_ms, histograms } = self;
        SeriesSamples {
            labels,
            timestamps_ms,
            values,
            histograms: histograms.iter().any(Option::is_some).then_some(histograms),
            starts_ms: starts_ms.iter().any(|start_ms| *start_ms != 0).then_some(starts_ms),
        }
    }

    /// Returns what the histograms cost a query beyond a number each.
    pub(crate) fn histogram_cost(&self) -> u64 {
        self.histograms.iter().flatten().map(|histogram| histogram_cost(histogram)).sum()
    }

    /// Returns the memory of the last sample, if it is a histogram, in bytes.
    pub(crate) fn last_histogram_bytes(&self) -> usize {
        self.histograms.last().and_then(Option::as_deref).map_or(0, crate::histogram_codec::size_bytes)
    }
}

fn cut<T>(column: &mut Vec<T>, start: usize, end: usize) {
    column.truncate(end);
    column.drain(..start.min(column.len()));
}

/// Merges samples that are given from the oldest write to the newest.
pub(crate) fn merge_mixed(mut places: Vec<Mixed>) -> Mixed {
    if places.iter().all(Mixed::is_plain) {
        return merge_columns(places.into_iter().map(|place| (place.times, place.values)).collect()).into();
    }
    places.retain(|place| !place.times.is_empty());
    if places.len() == 1 {
        return places.pop().unwrap_or_default();
    }
    let mut merged = Mixed::default();
    places.into_iter().for_each(|place| merged.append(place));
    merged.sort_newest_wins();
    // What lost may have been all that was not plain.
    if merged.starts_ms.iter().all(|start| *start == 0) {
        merged.starts_ms.clear();
    }
    if merged.histograms.iter().all(Option::is_none) {
        merged.histograms.clear();
    }
    merged
}

/// Puts events of one place in order: each is a time, its turn, and a sample; of those with the same time the last stays.
pub(crate) fn from_events(mut events: Vec<(i64, u64, Event)>) -> Mixed {
    // Stable: histograms of one turn stay in the order they came.
    events.sort_by_key(|(time, turn, _)| (*time, *turn));
    let mut mixed = Mixed::default();
    let mut events = events.into_iter().peekable();
    while let Some((time, _, event)) = events.next() {
        if events.peek().is_some_and(|(next, ..)| *next == time) {
            continue;
        }
        match event {
            Event::Number { value, start_ms } => mixed.push(time, value, start_ms),
            Event::Histogram(sample) => mixed.push_histogram(sample),
        }
    }
    mixed
}

/// A sample that came in.
#[derive(Debug)]
pub(crate) enum Event {
    Number { value: f64, start_ms: i64 },
    Histogram(HistogramSample),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(timestamp_ms: i64, start_ms: i64) -> HistogramSample {
        HistogramSample { timestamp_ms, start_ms, histogram: Arc::new(Histogram::default()) }
    }

    #[test]
    fn the_newest_write_wins_whatever_it_is() {
        let mut old = Mixed::default();
        old.push(1, 1.0, 0);
        old.push_histogram(histogram(2, 7));
        old.push(3, 3.0, 5);
        let mut new = Mixed::default();
        new.push_histogram(histogram(1, 0));
        new.push(2, 2.0, 0);
        let merged = merge_mixed(vec![old.clone(), new.clone()]);
        assert_eq!(merged.times, [1, 2, 3]);
        assert_eq!(merged.values, [0.0, 2.0, 3.0]);
        assert_eq!(merged.starts_ms, [0, 0, 5]);
        assert_eq!(merged.histograms.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
        let merged = merge_mixed(vec![new, old]);
        assert_eq!(merged.starts_ms, [0, 7, 5]);
        assert_eq!(merged.histograms.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn what_was_overwritten_with_plain_samples_is_plain() {
        let mut old = Mixed::default();
        old.push_histogram(histogram(1, 7));
        let merged = merge_mixed(vec![old, Mixed::from((vec![1], vec![1.0]))]);
        assert!(merged.is_plain(), "{merged:?}");
    }

    #[test]
    fn trimming_keeps_the_columns_in_step() {
        let mut mixed = Mixed::default();
        mixed.push(1, 1.0, 9);
        mixed.push_histogram(histogram(2, 0));
        mixed.push(3, 3.0, 0);
        mixed.trim(MillisRange { min_ms: 2, max_ms: 2 });
        assert_eq!((mixed.times.as_slice(), mixed.starts_ms.as_slice()), ([2].as_slice(), [0].as_slice()));
        assert_eq!(mixed.histograms.len(), 1);
    }
}
