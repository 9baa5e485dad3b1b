//! Appending and reading metrics.

use std::fmt;
use std::sync::Arc;

use model::{Exemplar, Histogram, HistogramSample, LabelError, Labels, Matcher, MetricMetadata, Sample};

use crate::keyed::{Keyed, LabelFault, LabelPair, LabelSource, SeriesKey, sort_labels};
use crate::rows::{KeyedRows, Row, index, slice};
use crate::{QueryContext, Result};

/// Series and samples of one request; text may be borrowed from the request's body, so that no sample allocates.
#[derive(Debug, Default)]
pub struct MetricBatch<'a> {
    labels: Vec<LabelPair<'a>>,
    rows: KeyedRows,
    /// Decodes the labels of keyed series.
    source: Option<&'a dyn LabelSource<'a>>,
    /// Kind, help and unit of the metrics in the batch, where the client told them.
    pub metadata: Vec<MetricMetadata>,
}

impl From<KeyedRows> for MetricBatch<'_> {
    fn from(rows: KeyedRows) -> Self {
        Self { rows, ..Self::default() }
    }
}

/// One series of a [`MetricBatch`].
#[derive(Debug, Clone, Copy)]
pub struct SeriesRow<'b, 'a> {
    /// Labels by name, no repeats, no empty values; nothing when the series is keyed. [`MetricBatch::labels_of`] knows
    /// those of all.
    pub labels: &'b [LabelPair<'a>],
    /// What stands for the labels, when the series was pushed by key.
    pub keyed: Option<Keyed>,
    /// Samples in the order they came.
    pub samples: &'b [Sample],
    /// When counting began, in milliseconds, for each of `samples`, 0 where that is not known; or nothing at all.
    pub starts_ms: &'b [i64],
    /// Native histograms in the order they came.
    pub histograms: &'b [HistogramSample],
    /// Exemplars in the order they came.
    pub exemplars: &'b [Exemplar],
}

impl<'a> MetricBatch<'a> {
    /// Returns an empty batch that takes series by key, whose labels `source` decodes.
    #[must_use]
    pub fn with_source(source: &'a dyn LabelSource<'a>) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// As [`with_source`](Self::with_source), with rows, of which the tokens are those of the source.
    #[must_use]
    pub fn with_rows(rows: KeyedRows, source: &'a dyn LabelSource<'a>) -> Self {
        Self { rows, source: Some(source), ..Self::default() }
    }

    /// Makes room for so many more series and samples.
    pub fn reserve(&mut self, series: usize, samples: usize) {
        self.rows.reserve(series, samples);
    }

    /// Adds a series. Labels may come in any order; empty values are left out.
    ///
    /// # Errors
    /// [`LabelError`] for a repeated or empty name; the batch is then as it was.
    pub fn push(
        &mut self,
        labels: impl IntoIterator<Item = LabelPair<'a>>,
        samples: impl IntoIterator<Item = Sample>,
    ) -> Result<(), LabelError> {
        let first = self.labels.len();
        self.labels.extend(labels);
        sort_labels(&mut self.labels, first)?;
        self.rows.push_labelled(index(first)..index(self.labels.len()), samples);
        Ok(())
    }

    /// Adds a series by a key that stands for its labels. Only a store that does not know the key asks the source for
    /// them, by `token`. In a batch without a source such a series is refused.
    pub fn push_keyed(&mut self, key: SeriesKey, token: u64, samples: impl IntoIterator<Item = Sample>) {
        self.rows.push(key, token, samples);
    }

    /// Returns the labels of a series by name, no repeats, no empty values; those of a keyed one are decoded into
    /// `scratch`.
    ///
    /// # Errors
    /// [`LabelFault`] of a keyed series.
    pub fn labels_of<'s>(
        &self,
        row: &SeriesRow<'s, 'a>,
        scratch: &'s mut Vec<LabelPair<'a>>,
    ) -> Result<&'s [LabelPair<'a>], LabelFault> {
        let Some(keyed) = row.keyed else { return Ok(row.labels) };
        scratch.clear();
        self.decode_labels(keyed, scratch)?;
        Ok(scratch)
    }

    /// Appends the labels that a key stands for to `out`, by name, without repeats and empty values.
    ///
    /// # Errors
    /// [`LabelFault`]; `out` is then as it was.
    pub fn decode_labels(&self, keyed: Keyed, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelFault> {
        let first = out.len();
        let decoded = match self.source {
            Some(source) => source.labels(keyed.token, out),
            None => Err(LabelFault::Malformed("a series has a key in a batch without labels".to_owned())),
        };
        decoded.inspect_err(|_| out.truncate(first))?;
        sort_labels(out, first).map_err(|error| {
            let reason = match error {
                LabelError::Repeated { .. } => "duplicate_label",
                _ => "empty_label_name",
            };
            LabelFault::Refused { reason, detail: error.to_string() }
        })
    }

    /// Gives the series that was pushed last the start time of each of its samples, in milliseconds, 0 where it is not
    /// known. Missing ones are not known, and those over the number of samples are left out.
    pub fn set_starts(&mut self, starts_ms: impl IntoIterator<Item = i64>) {
        self.rows.set_starts(starts_ms);
    }

    /// Gives the series that was pushed last native histograms; once for each series.
    pub fn set_histograms(&mut self, histograms: impl IntoIterator<Item = HistogramSample>) {
        self.rows.set_histograms(histograms);
    }

    /// Gives the series that was pushed last exemplars; once for each series.
    pub fn set_exemplars(&mut self, exemplars: impl IntoIterator<Item = Exemplar>) {
        self.rows.set_exemplars(exemplars);
    }

    /// Iterates over the series in the order they were pushed.
    pub fn series(&self) -> impl ExactSizeIterator<Item = SeriesRow<'_, 'a>> + '_ {
        self.rows.iter().map(|Row { labels, keyed, samples, starts_ms, histograms, exemplars }| SeriesRow {
            labels: slice(&self.labels, &labels),
            keyed,
            samples,
            starts_ms,
            histograms,
            exemplars,
        })
    }

    /// Iterates over the keys of the series, in the order of [`series`](Self::series).
    pub fn keys(&self) -> impl ExactSizeIterator<Item = Option<SeriesKey>> + '_ {
        self.rows.keys()
    }

    /// Says whether some series has more than samples and, if there is one sample, its start time: start times of
    /// several samples, native histograms or exemplars.
    #[must_use]
    pub fn has_extras(&self) -> bool {
        self.rows.has_extras()
    }

    /// Returns the number of samples, native histograms included, exemplars not.
    #[must_use]
    pub fn samples_len(&self) -> usize {
        self.rows.samples_len()
    }

    /// Returns the number of native histograms.
    #[must_use]
    pub fn histograms_len(&self) -> usize {
        self.rows.histograms_len()
    }

    /// Returns the number of exemplars.
    #[must_use]
    pub fn exemplars_len(&self) -> usize {
        self.rows.exemplars_len()
    }

    /// Returns the memory of the rows, for another batch.
    #[must_use]
    pub fn into_rows(self) -> KeyedRows {
        let mut rows = self.rows;
        rows.clear();
        rows
    }

    /// Says whether there is no series and no metadata.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.metadata.is_empty()
    }
}

/// What became of a batch: every sample or record is in `accepted` or in one rejection's `count`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AppendReport {
    /// How many are durable and queryable now. Of metrics: samples and native histograms, but not exemplars.
    pub accepted: u64,
    /// How many of `accepted` are native histograms.
    pub accepted_histograms: u64,
    /// How many exemplars are durable and queryable now.
    pub accepted_exemplars: u64,
    /// What was not taken, and why. Exemplars have reasons of their own, which begin with `exemplar_`.
    pub rejections: Vec<Rejection>,
}

impl AppendReport {
    /// Returns how many were not taken.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejections.iter().map(|rejection| rejection.count).sum()
    }

    /// Adds a rejection; one with the same reason grows instead, and keeps its first detail.
    pub fn reject(&mut self, reason: &'static str, count: u64, detail: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        match self.rejections.iter_mut().find(|rejection| rejection.reason == reason) {
            Some(rejection) => rejection.count += count,
            None => self.rejections.push(Rejection { reason, count, detail: detail() }),
        }
    }
}

/// Samples or records that were not taken, for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// A short word, the value of the counter's `reason` label: `too_old`, `too_many_labels`, …
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// The first case, in words: what, where, which limit.
    pub detail: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rejected ({}): {}", self.count, self.reason, self.detail)
    }
}

/// Takes metrics in.
pub trait MetricAppender: Send + Sync + fmt::Debug {
    /// Appends the batch and returns when what was accepted is on disk (fsynced) and queryable. Blocks meanwhile.
    ///
    /// A sample that repeats (series, timestamp) with the same bits counts as accepted and is stored once; with another
    /// value the newer one wins.
    ///
    /// # Errors
    /// When nothing of the batch may be acknowledged: disk full, overloaded, poisoned, closed.
    fn append(&self, batch: &MetricBatch<'_>) -> Result<AppendReport>;
}

/// Milliseconds since the epoch, both ends inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MillisRange {
    /// The first millisecond inside.
    pub min_ms: i64,
    /// The last millisecond inside.
    pub max_ms: i64,
}

impl MillisRange {
    /// Every millisecond.
    pub const ALL: Self = Self { min_ms: i64::MIN, max_ms: i64::MAX };

    /// Says whether the two share a millisecond.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min_ms <= other.max_ms && other.min_ms <= self.max_ms
    }

    /// Returns the part of it that lies in `other`, too; its ends are the wrong way round when there is none.
    #[must_use]
    pub fn within(&self, other: Self) -> Self {
        Self { min_ms: self.min_ms.max(other.min_ms), max_ms: self.max_ms.min(other.max_ms) }
    }

    /// Says whether `at_ms` lies inside.
    #[must_use]
    pub fn contains(&self, at_ms: i64) -> bool {
        self.min_ms <= at_ms && at_ms <= self.max_ms
    }
}

/// The samples of one series, oldest first, one per timestamp; stale markers are in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeriesSamples {
    /// The series.
    pub labels: Labels,
    /// Milliseconds since the epoch, strictly ascending.
    pub timestamps_ms: Vec<i64>,
    /// As many values; 0 where there is a histogram.
    pub values: Vec<f64>,
    /// As many native histograms, `None` where the sample is a number; nothing at all when every sample is one.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
    /// As many start times in milliseconds, 0 where it is not known; nothing at all when none is known.
    pub starts_ms: Option<Vec<i64>>,
}

impl SeriesSamples {
    /// Returns what the samples count as against the limit of a query: a number is one, a native histogram one for each
    /// 16 bytes that it takes, as in Prometheus.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let histograms = self.histograms.iter().flatten().flatten();
        self.values.len() as u64 + histograms.map(|histogram| histogram_cost(histogram)).sum::<u64>()
    }
}

/// Returns what a native histogram counts as beyond one sample, against the limit of a query.
#[must_use]
pub fn histogram_cost(histogram: &Histogram) -> u64 {
    let buckets = (histogram.positive.len() + histogram.negative.len()) * size_of::<(i32, f64)>();
    (size_of::<Histogram>() + buckets + size_of_val(&*histogram.custom)) as u64 / 16
}

/// The exemplars of one series, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeriesExemplars {
    /// The series.
    pub labels: Labels,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// A group of series that is read together, because its pages lie together. Groups may be read in parallel.
pub trait SeriesPart: Send + Sync + fmt::Debug {
    /// Returns the series that [`read`](Self::read) will give, in the same order. Some may turn out to have no sample
    /// in the range.
    fn labels(&self) -> &[Labels];

    /// Decodes the group's samples in the selected range; one entry per label set of [`labels`](Self::labels), in order.
    /// Charges the context for the samples.
    ///
    /// # Errors
    /// Corruption, I/O, limits, cancellation.
    fn read(&self, context: &QueryContext) -> Result<Vec<SeriesSamples>>;
}

/// What a selector found. A label set occurs in one part only, whatever number of blocks it lies in.
#[derive(Debug, Default)]
pub struct SeriesSelection {
    /// Groups in label order: all of a part's sets come before those of the next.
    pub parts: Vec<Box<dyn SeriesPart>>,
}

/// How far and in how many pieces the stored samples reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// From the oldest to the newest sample; `None` when there is none.
    pub range: Option<MillisRange>,
    /// Runs of the samples of one series that lie together, over memory and disk.
    pub chunks: u64,
}

/// Reads metrics.
pub trait MetricQuerier: Send + Sync + fmt::Debug {
    /// Finds the series with samples in `range` that pass all `matchers`, without reading the samples yet.
    ///
    /// # Errors
    /// Corruption, I/O, limits, cancellation.
    fn select(&self, matchers: &[Matcher], range: MillisRange, context: &QueryContext) -> Result<SeriesSelection>;

    /// Returns the label sets with samples in `range` that pass all matchers of at least one of `selectors` (every
    /// series when there is none), sorted, without repeats.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn series(&self, selectors: &[Vec<Matcher>], range: MillisRange, context: &QueryContext) -> Result<Vec<Labels>>;

    /// Returns the label names of those series, sorted, without repeats.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn label_names(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<String>>;

    /// Returns the values of label `name` in those series, sorted, without repeats.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<String>>;

    /// Returns how far and in how many pieces the stored samples reach; cheap.
    fn extent(&self) -> Extent {
        Extent::default()
    }

    /// Returns what is known of each metric (or of `metric` alone), by name.
    ///
    /// # Errors
    /// I/O.
    fn metadata(&self, metric: Option<&str>) -> Result<Vec<MetricMetadata>>;

    /// Returns the exemplars in `range` of the series that pass all matchers of at least one of `selectors`, by series.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: MillisRange,
        context: &QueryContext,
    ) -> Result<Vec<SeriesExemplars>>;
}

/// Deletes from metrics, and copies them.
pub trait MetricAdmin: Send + Sync + fmt::Debug {
    /// Deletes the samples and exemplars in `range` of the series that pass all matchers of at least one of `selectors`.
    /// When it returns, no query sees them any more, also after a crash. Their room on disk is free after the next
    /// compaction of their block, or [`clean_tombstones`](Self::clean_tombstones).
    ///
    /// # Errors
    /// I/O, corruption.
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: MillisRange) -> Result<()>;

    /// Frees the room of what was deleted.
    ///
    /// # Errors
    /// I/O, corruption.
    fn clean_tombstones(&self) -> Result<()>;

    /// Makes a copy that a server can be started on, by hard links where it can, and returns its name: a folder in
    /// `snapshots/` of the data directory. With `skip_head` only what is in blocks already.
    ///
    /// # Errors
    /// I/O.
    fn snapshot(&self, skip_head: bool) -> Result<String>;
}
