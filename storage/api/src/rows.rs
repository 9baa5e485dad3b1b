//! The part of a batch that borrows nothing: samples, where they lie, and the keys of series.

use std::ops::Range;

use model::{Exemplar, HistogramSample, Sample};

use crate::keyed::{Keyed, SeriesKey};

/// In the place of where the labels of a keyed series begin.
const KEYED: u32 = u32::MAX;

/// Series that are told by key, with their samples. As they borrow nothing, their memory serves one batch after the other:
/// see [`MetricBatch::with_rows`](crate::MetricBatch::with_rows) and [`into_rows`](crate::MetricBatch::into_rows).
#[derive(Debug, Default)]
pub struct KeyedRows {
    entries: Vec<Entry>,
    samples: Vec<Sample>,
    /// What the series that have more than samples have, by their place in `entries`, ascending.
    extras: Vec<(u32, Extras)>,
    starts_ms: Vec<i64>,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<Exemplar>,
}

/// Where the parts of a series lie in a batch.
#[derive(Debug, Clone)]
struct Entry {
    samples: Range<u32>,
    /// Where the labels are; of a keyed series they begin at [`KEYED`].
    labels: Range<u32>,
    key: SeriesKey,
    token: u64,
    /// When counting began for the sample of a series that has just one, as nearly all have; 0 where that is not known.
    start_ms: i64,
}

/// Where a series' rarer parts lie in a batch.
#[derive(Debug, Default, Clone)]
struct Extras {
    starts: Range<u32>,
    histograms: Range<u32>,
    exemplars: Range<u32>,
}

/// One series, but for its labels.
#[derive(Debug, Clone)]
pub(crate) struct Row<'b> {
    pub(crate) labels: Range<u32>,
    pub(crate) keyed: Option<Keyed>,
    pub(crate) samples: &'b [Sample],
    pub(crate) starts_ms: &'b [i64],
    pub(crate) histograms: &'b [HistogramSample],
    pub(crate) exemplars: &'b [Exemplar],
}

impl KeyedRows {
    /// Makes room for so many more series and samples.
    pub fn reserve(&mut self, series: usize, samples: usize) {
        self.entries.reserve(series);
        self.samples.reserve(samples);
    }

    /// Adds a series; see [`MetricBatch::push_keyed`](crate::MetricBatch::push_keyed).
    pub fn push(&mut self, key: SeriesKey, token: u64, samples: impl IntoIterator<Item = Sample>) {
        self.push_entry(KEYED..KEYED, key, token, samples);
    }

    /// Adds a series whose labels are at a place.
    pub(crate) fn push_labelled(&mut self, labels: Range<u32>, samples: impl IntoIterator<Item = Sample>) {
        self.push_entry(labels, SeriesKey::default(), 0, samples);
    }

    fn push_entry(
        &mut self,
        labels: Range<u32>,
        key: SeriesKey,
        token: u64,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let first = self.samples.len();
        self.samples.extend(samples);
        let samples = index(first)..index(self.samples.len());
        self.entries.push(Entry { samples, labels, key, token, start_ms: 0 });
    }

    /// See [`MetricBatch::set_starts`](crate::MetricBatch::set_starts).
    pub fn set_starts(&mut self, starts_ms: impl IntoIterator<Item = i64>) {
        let mut starts_ms = starts_ms.into_iter();
        let Some(Entry { samples, start_ms, .. }) = self.entries.last_mut() else { return };
        let count = samples.len();
        if count == 1 {
            *start_ms = starts_ms.next().unwrap_or(0);
            return;
        }
        let first = self.starts_ms.len();
        self.starts_ms.extend(starts_ms.take(count));
        self.starts_ms.resize(first + count, 0);
        let range = index(first)..index(self.starts_ms.len());
        if let Some(extras) = self.extras_of_last() {
            extras.starts = range;
        }
    }

    /// See [`MetricBatch::set_histograms`](crate::MetricBatch::set_histograms).
    pub fn set_histograms(&mut self, histograms: impl IntoIterator<Item = HistogramSample>) {
        let first = self.histograms.len();
        self.histograms.extend(histograms);
        let range = index(first)..index(self.histograms.len());
        if let Some(extras) = self.extras_of_last() {
            extras.histograms = range;
        }
    }

    /// See [`MetricBatch::set_exemplars`](crate::MetricBatch::set_exemplars).
    pub fn set_exemplars(&mut self, exemplars: impl IntoIterator<Item = Exemplar>) {
        let first = self.exemplars.len();
        self.exemplars.extend(exemplars);
        let range = index(first)..index(self.exemplars.len());
        if let Some(extras) = self.extras_of_last() {
            extras.exemplars = range;
        }
    }

    fn extras_of_last(&mut self) -> Option<&mut Extras> {
        let last = index(self.entries.len().checked_sub(1)?);
        if self.extras.last().is_none_or(|(place, _)| *place != last) {
            self.extras.push((last, Extras::default()));
        }
        self.extras.last_mut().map(|(_, extras)| extras)
    }

    /// Returns the number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes all series out; the memory stays.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.samples.clear();
        self.extras.clear();
        self.starts_ms.clear();
        self.histograms.clear();
        self.exemplars.clear();
    }

    /// Returns the bytes that are allocated for series and samples.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.samples.capacity() * size_of::<Sample>()
            + self.extras.capacity() * size_of::<(u32, Extras)>()
            + self.starts_ms.capacity() * size_of::<i64>()
            + self.histograms.capacity() * size_of::<HistogramSample>()
            + self.exemplars.capacity() * size_of::<Exemplar>()
    }

    pub(crate) fn has_extras(&self) -> bool {
        !self.extras.is_empty()
    }

    pub(crate) fn samples_len(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    pub(crate) fn histograms_len(&self) -> usize {
        self.histograms.len()
    }

    pub(crate) fn exemplars_len(&self) -> usize {
        self.exemplars.len()
    }

    /// Returns the key of each series that has one.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = Option<SeriesKey>> + '_ {
        self.entries.iter().map(|entry| (entry.labels.start == KEYED).then_some(entry.key))
    }

    /// Iterates over the series in the order they were pushed.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + '_ {
        let mut extras = self.extras.iter().peekable();
        self.entries.iter().enumerate().map(move |(place, Entry { samples, labels, key, token, start_ms })| {
            let is_keyed = labels.start == KEYED;
            let mut row = Row {
                labels: if is_keyed { 0..0 } else { labels.clone() },
                keyed: is_keyed.then_some(Keyed { key: *key, token: *token }),
                samples: slice(&self.samples, samples),
                starts_ms: if *start_ms == 0 { &[] } else { std::slice::from_ref(start_ms) },
                histograms: &[],
                exemplars: &[],
            };
            if let Some((_, extras)) = extras.next_if(|(of, _)| *of as usize == place) {
                if !extras.starts.is_empty() {
                    row.starts_ms = slice(&self.starts_ms, &extras.starts);
                }
                row.histograms = slice(&self.histograms, &extras.histograms);
                row.exemplars = slice(&self.exemplars, &extras.exemplars);
            }
            row
        })
    }
}

pub(crate) fn slice<'b, T>(all: &'b [T], range: &Range<u32>) -> &'b [T] {
    &all[range.start as usize..range.end as usize]
}

pub(crate) fn index(n: usize) -> u32 {
    u32::try_from(n).ok().filter(|n| *n != KEYED).expect("a request body is far below 4 Gi entries")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetricBatch;

    #[test]
    fn rows_serve_one_batch_after_the_other() {
        let sample = |value| Sample { timestamp_ms: 1, value };
        let mut rows = KeyedRows::default();
        rows.push(SeriesKey(7), 3, [sample(1.0)]);
        rows.set_starts([5]);
        rows.push(SeriesKey(8), 4, [sample(2.0), sample(3.0)]);
        rows.set_starts([6, 7, 8]);
        rows.push(SeriesKey(9), 5, []);
        rows.set_starts([9]);
        assert_eq!(rows.len(), 3);
        let mut batch = MetricBatch::from(rows);
        batch.push([("a".into(), "b".into())], [sample(4.0)]).unwrap();
        assert_eq!(batch.keys().map(|key| key.map_or(0, |key| key.0)).collect::<Vec<_>>(), [7, 8, 9, 0]);
        let seen: Vec<_> = batch
            .series()
            .map(|row| (row.keyed.map(|keyed| (keyed.key.0, keyed.token)), row.samples.len(), row.starts_ms.to_vec()))
            .collect();
        let expected =
            [(Some((7, 3)), 1, vec![5]), (Some((8, 4)), 2, vec![6, 7]), (Some((9, 5)), 0, vec![]), (None, 1, vec![])];
        assert_eq!(seen, expected);
        let rows = batch.into_rows();
        assert!(rows.is_empty());
        assert!(rows.capacity_bytes() > 4 * size_of::<Entry>());
        assert!(MetricBatch::from(rows).is_empty());
    }
}
