//! What rows of a record have beside plain samples: start times, native histograms, exemplars. Layout:
//! docs/format/metrics-block.md, "WAL records".

use std::sync::Arc;

use model::{Exemplar, Histogram, HistogramSample, Labels, Sample};

use crate::histogram_codec;
use crate::varint::{Cursor, put_bytes, put_i64, put_u64};

/// What a row has beside its samples, borrowed from a batch or a record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RowExtras<'a> {
    /// One for each sample, 0 where it is not known; or none at all.
    pub(crate) starts_ms: &'a [i64],
    pub(crate) histograms: &'a [HistogramSample],
    pub(crate) exemplars: &'a [Exemplar],
}

/// Collects the extras of one record.
#[derive(Debug, Default)]
pub(crate) struct ExtrasEncoder {
    rows: u64,
    last_row: u64,
    bytes: Vec<u8>,
    last_time: i64,
    last_start: i64,
}

/// The extras of one row of a record.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct DecodedExtras {
    /// Which row.
    pub(crate) row: usize,
    pub(crate) starts_ms: Vec<i64>,
    pub(crate) histograms: Vec<HistogramSample>,
    pub(crate) exemplars: Vec<Exemplar>,
}

impl DecodedExtras {
    /// Returns the start time of all samples of the row; `None` when it has more than that.
    pub(crate) fn plain_start(&self) -> Option<i64> {
        if !self.histograms.is_empty() || !self.exemplars.is_empty() {
            return None;
        }
        let Some((first, others)) = self.starts_ms.split_first() else { return Some(0) };
        others.iter().all(|start_ms| start_ms == first).then_some(*first)
    }

    pub(crate) fn borrow(&self) -> RowExtras<'_> {
        RowExtras { starts_ms: &self.starts_ms, histograms: &self.histograms, exemplars: &self.exemplars }
    }
}

impl ExtrasEncoder {
    /// As [`push`](Self::push), for a row that has nothing but one start time for all its samples.
    pub(crate) fn push_start(&mut self, row: u64, samples: usize, start_ms: i64) {
        put_u64(&mut self.bytes, row - self.last_row);
        self.last_row = row;
        self.rows += 1;
        self.bytes.push(1);
        put_u64(&mut self.bytes, samples as u64);
        self.put_start(start_ms);
        self.bytes.extend_from_slice(&[0, 0]);
    }

    /// Adds what row number `row` of the record has; rows ascend.
    pub(crate) fn push(&mut self, row: u64, extras: RowExtras<'_>) {
        put_u64(&mut self.bytes, row - self.last_row);
        self.last_row = row;
        self.rows += 1;
        let runs = extras.starts_ms.chunk_by(|a, b| a == b);
        put_u64(&mut self.bytes, runs.clone().count() as u64);
        for run in runs {
            put_u64(&mut self.bytes, run.len() as u64);
            self.put_start(run.first().copied().unwrap_or(0));
        }
        put_u64(&mut self.bytes, extras.histograms.len() as u64);
        let mut before: Option<&Histogram> = None;
        for HistogramSample { timestamp_ms, start_ms, histogram } in extras.histograms {
            self.put_time(*timestamp_ms);
            self.put_start(*start_ms);
            histogram_codec::encode(before, histogram, &mut self.bytes);
            before = Some(histogram);
        }
        put_u64(&mut self.bytes, extras.exemplars.len() as u64);
        for Exemplar { labels, sample } in extras.exemplars {
            self.put_time(sample.timestamp_ms);
            self.bytes.extend_from_slice(&sample.value.to_bits().to_le_bytes());
            put_u64(&mut self.bytes, labels.len() as u64);
            for (name, value) in labels.iter() {
                put_bytes(&mut self.bytes, name.as_bytes());
                put_bytes(&mut self.bytes, value.as_bytes());
            }
        }
    }

    fn put_time(&mut self, time: i64) {
        put_i64(&mut self.bytes, time.wrapping_sub(self.last_time));
        self.last_time = time;
    }

    fn put_start(&mut self, start: i64) {
        put_i64(&mut self.bytes, start.wrapping_sub(self.last_start));
        self.last_start = start;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the extras, after their length.
    pub(crate) fn finish(&self, body: &mut Vec<u8>) {
        let mut count = Vec::new();
        put_u64(&mut count, self.rows);
        put_u64(body, (count.len() + self.bytes.len()) as u64);
        body.extend_from_slice(&count);
        body.extend_from_slice(&self.bytes);
    }
}

/// Decodes what [`ExtrasEncoder::finish`] wrote, without the length; `samples_of` tells how many samples a row has.
/// `None` where it makes no sense.
pub(crate) fn decode(section: &[u8], samples_of: &dyn Fn(usize) -> Option<usize>) -> Option<Vec<DecodedExtras>> {
    let mut decoder = Decoder { cursor: Cursor(section), last_time: 0, last_start: 0 };
    let mut all: Vec<DecodedExtras> = Vec::new();
    let mut row = 0_usize;
    for _ in 0..decoder.cursor.count()? {
        row = row.checked_add(usize::try_from(decoder.cursor.u64()?).ok()?)?;
        let samples = samples_of(row)?;
        if all.last().is_some_and(|last| last.row == row) {
            return None;
        }
        let starts_ms = decoder.starts(samples)?;
        let (histograms, exemplars) = (decoder.histograms()?, decoder.exemplars()?);
        all.push(DecodedExtras { row, starts_ms, histograms, exemplars });
    }
    decoder.cursor.is_empty().then_some(all)
}

struct Decoder<'a> {
    cursor: Cursor<'a>,
    last_time: i64,
    last_start: i64,
}

impl Decoder<'_> {
    fn time(&mut self) -> Option<i64> {
        self.last_time = self.last_time.wrapping_add(self.cursor.i64()?);
        Some(self.last_time)
    }

    fn start(&mut self) -> Option<i64> {
        self.last_start = self.last_start.wrapping_add(self.cursor.i64()?);
        Some(self.last_start)
    }

    fn starts(&mut self, samples: usize) -> Option<Vec<i64>> {
        let mut starts_ms = Vec::new();
        for _ in 0..self.cursor.count()? {
            let count = usize::try_from(self.cursor.u64()?).ok()?;
            let start = self.start()?;
            let count = starts_ms.len().checked_add(count).filter(|count| *count <= samples)?;
            starts_ms.resize(count, start);
        }
        (starts_ms.is_empty() || starts_ms.len() == samples).then_some(starts_ms)
    }

    fn histograms(&mut self) -> Option<Vec<HistogramSample>> {
        let mut histograms: Vec<HistogramSample> = Vec::new();
        for _ in 0..self.cursor.count()? {
            let (timestamp_ms, start_ms) = (self.time()?, self.start()?);
            let before = histograms.last().map(|one| one.histogram.as_ref());
            let histogram = Arc::new(histogram_codec::decode(before, &mut self.cursor)?);
            histograms.push(HistogramSample { timestamp_ms, start_ms, histogram });
        }
        Some(histograms)
    }

    fn exemplars(&mut self) -> Option<Vec<Exemplar>> {
        let mut exemplars = Vec::new();
        for _ in 0..self.cursor.count()? {
            let (timestamp_ms, value) = (self.time()?, f64::from_bits(self.cursor.fixed_u64()?));
            let mut pairs = Vec::new();
            for _ in 0..self.cursor.count()? {
                pairs.push((self.cursor.text()?, self.cursor.text()?));
            }
            let labels = pairs.is_sorted_by(|a, b| a.0 < b.0).then(|| Labels::from_sorted(pairs))?;
            exemplars.push(Exemplar { labels, sample: Sample { timestamp_ms, value } });
        }
        Some(exemplars)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(count: f64) -> HistogramSample {
        let histogram = Histogram { count, positive: vec![(1, count)], ..Histogram::default() };
        HistogramSample { timestamp_ms: i64::MIN, start_ms: count as i64, histogram: Arc::new(histogram) }
    }

    #[test]
    fn one_start_time_is_written_as_many_equal_ones() {
        let (mut one, mut many) = (ExtrasEncoder::default(), ExtrasEncoder::default());
        for (row, samples, start_ms) in [(0, 1, 7), (3, 200, -7), (4, 2, i64::MAX), (900, 1, i64::MAX)] {
            one.push_start(row, samples, start_ms);
            many.push(row, RowExtras { starts_ms: &vec![start_ms; samples], ..RowExtras::default() });
        }
        assert_eq!((one.rows, one.bytes), (many.rows, many.bytes));
    }

    #[test]
    fn extras_come_back() {
        let exemplar = |name: &str| Exemplar {
            labels: Labels::from_pairs([("trace_id", name), ("이름", "값")]),
            sample: Sample { timestamp_ms: i64::MAX, value: -0.0 },
        };
        let rows = [
            DecodedExtras { row: 0, starts_ms: vec![5, 5, 0, -7], ..DecodedExtras::default() },
            DecodedExtras { row: 3, histograms: vec![histogram(1.0), histogram(2.5)], ..DecodedExtras::default() },
            DecodedExtras {
                row: 4,
                starts_ms: vec![i64::MAX],
                histograms: vec![histogram(3.0)],
                exemplars: vec![exemplar("a"), exemplar("b")],
            },
        ];
        let mut encoder = ExtrasEncoder::default();
        assert!(encoder.is_empty());
        rows.iter().for_each(|row| encoder.push(row.row as u64, row.borrow()));
        let mut body = Vec::new();
        encoder.finish(&mut body);
        let mut cursor = Cursor(&body);
        assert_eq!(cursor.u64(), Some(cursor.0.len() as u64));
        let samples_of = |row: usize| [4, 9, 9, 0, 1].get(row).copied();
        assert_eq!(decode(cursor.0, &samples_of).unwrap(), rows);
        assert_eq!(decode(cursor.0, &|_| Some(3)), None, "starts of samples that are not there");
        for end in 0..cursor.0.len() {
            assert_eq!(decode(&cursor.0[..end], &samples_of), None, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_extras_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes, &|row| (row < 5).then_some(3)));
        }
    }
}
