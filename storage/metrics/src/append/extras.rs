//! Checks what rows have beside plain samples before they are taken: start times, native histograms, exemplars.

use std::borrow::Cow;
use std::sync::Arc;

use model::histogram::CUSTOM;
use model::{Exemplar, Histogram, HistogramSample, Sample};
use storage_api::{AppendReport, LabelPair, MetricBatch, Result, SeriesRow};

use super::{show, too_old};
use crate::histogram_codec::size_bytes;
use crate::options::Options;
use crate::record::RowExtras;

/// Histograms of one series that go into a record together, and their bytes.
const HISTOGRAMS_PER_ROW: usize = 1_024;
const HISTOGRAM_BYTES_PER_ROW: usize = 4 << 20;
/// Exemplars of one series that go into a record together: with 128 characters each some 500 KiB.
const EXEMPLARS_PER_ROW: usize = 1_024;
/// The lowest and the highest resolution that is kept, and the highest that is taken: it is lowered then.
const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;
const SCHEMA_TAKEN_MAX: i32 = 52;

/// Returns the start time that all samples of a row have, 0 for none; `None` when the row has more than that beside its
/// samples.
#[inline]
pub(super) fn plain_start(row: &SeriesRow<'_, '_>) -> Option<i64> {
    if !row.histograms.is_empty() || !row.exemplars.is_empty() {
        return None;
    }
    let Some((first, others)) = row.starts_ms.split_first() else { return Some(0) };
    others.iter().all(|start_ms| start_ms == first).then_some(*first)
}

/// Says whether a row has more than samples and one start time.
fn has_extras(row: &SeriesRow<'_, '_>) -> bool {
    plain_start(row).is_none()
}

/// Reports that nothing of a row is taken.
pub(super) fn reject(
    row: &SeriesRow<'_, '_>,
    reason: &'static str,
    report: &mut AppendReport,
    detail: &dyn Fn() -> String,
) {
    report.reject(reason, (row.samples.len() + row.histograms.len()) as u64, detail);
    report.reject("exemplar_series_refused", row.exemplars.len() as u64, detail);
}

/// What may be taken of a row that has extras; borrowed where nothing had to be left out.
#[derive(Debug, Default)]
pub(super) struct Prepared<'b> {
    samples: Cow<'b, [Sample]>,
    starts_ms: Cow<'b, [i64]>,
    histograms: Cow<'b, [HistogramSample]>,
    exemplars: Cow<'b, [Exemplar]>,
}

/// A part of a row that fits into a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'b> {
    pub(super) samples: &'b [Sample],
    pub(super) extras: RowExtras<'b>,
}

impl Piece<'_> {
    /// Adds what it holds to the report, as accepted.
    pub(super) fn count(&self, report: &mut AppendReport) {
        let histograms = self.extras.histograms.len() as u64;
        report.accepted += self.samples.len() as u64 + histograms;
        report.accepted_histograms += histograms;
        report.accepted_exemplars += self.extras.exemplars.len() as u64;
    }
}

/// Checks all rows that have extras, in their order, and reports what cannot be taken of them.
pub(super) fn prepare<'b>(
    batch: &'b MetricBatch<'_>,
    options: &Options,
    oldest_ms: Option<i64>,
    report: &mut AppendReport,
) -> Vec<Prepared<'b>> {
    if !batch.has_extras() {
        return Vec::new();
    }
    let check = Check { batch, options, oldest_ms };
    batch.series().filter(has_extras).map(|row| check.row(&row, report)).collect()
}

/// Returns the memory that what a batch has beside plain samples takes in a head at most, near enough.
pub(super) fn size_in_head(batch: &MetricBatch<'_>) -> u64 {
    if !batch.has_extras() {
        return 0;
    }
    let of_row = |row: SeriesRow<'_, '_>| {
        let histograms = row.histograms.iter().map(|one| size_bytes(&one.histogram)).sum::<usize>();
        let exemplars = row.exemplars.iter().map(|one| size_of::<Exemplar>() + one.labels.size_bytes()).sum::<usize>();
        (histograms + exemplars + 16 * row.starts_ms.len()) as u64
    };
    batch.series().filter(has_extras).map(of_row).sum()
}

#[derive(Debug, Clone, Copy)]
struct Check<'a, 'b> {
    batch: &'a MetricBatch<'b>,
    options: &'a Options,
    oldest_ms: Option<i64>,
}

impl Check<'_, '_> {
    fn is_old(&self, time_ms: i64) -> bool {
        self.oldest_ms.is_some_and(|oldest_ms| time_ms < oldest_ms)
    }

    fn row<'b>(&self, row: &SeriesRow<'b, '_>, report: &mut AppendReport) -> Prepared<'b> {
        let (samples, starts_ms) = self.samples(row, report);
        Prepared {
            samples,
            starts_ms,
            histograms: self.histograms(row, report),
            exemplars: self.exemplars(row, report),
        }
    }

    /// Says `what` of the labels of a row, which may have to be decoded.
    fn tell(&self, row: &SeriesRow<'_, '_>, what: impl Fn(&[LabelPair<'_>]) -> String) -> String {
        let Some(keyed) = row.keyed else { return what(row.labels) };
        let mut decoded = Vec::new();
        match self.batch.decode_labels(keyed, &mut decoded) {
            Ok(()) => what(&decoded),
            Err(_) => what(&[]),
        }
    }

    fn show(&self, row: &SeriesRow<'_, '_>) -> String {
        self.tell(row, show)
    }

    fn too_old(&self, row: &SeriesRow<'_, '_>, samples: &[Sample]) -> String {
        self.tell(row, |labels| too_old(labels, samples, self.oldest_ms, self.options))
    }

    fn samples<'b>(&self, row: &SeriesRow<'b, '_>, report: &mut AppendReport) -> (Cow<'b, [Sample]>, Cow<'b, [i64]>) {
        let is_old = |sample: &&Sample| self.is_old(sample.timestamp_ms);
        let old = row.samples.iter().filter(is_old).count();
        report.reject("too_old", old as u64, || self.too_old(row, row.samples));
        let has_starts = row.starts_ms.iter().any(|start_ms| *start_ms != 0);
        let starts_ms = if has_starts { row.starts_ms } else { &[] };
        if old == 0 {
            return (row.samples.into(), starts_ms.into());
        }
        let kept = |(_, sample): &(usize, &Sample)| !self.is_old(sample.timestamp_ms);
        let places = || row.samples.iter().enumerate().filter(kept);
        let samples: Vec<Sample> = places().map(|(_, sample)| *sample).collect();
        (samples.into(), places().filter_map(|(place, _)| starts_ms.get(place).copied()).collect())
    }

    fn histograms<'b>(&self, row: &SeriesRow<'b, '_>, report: &mut AppendReport) -> Cow<'b, [HistogramSample]> {
        let is_fine = |sample: &HistogramSample| {
            !self.is_old(sample.timestamp_ms)
                && sample.histogram.schema <= SCHEMA_MAX
                && refuse_histogram(&sample.histogram, self.options).is_none()
        };
        if row.histograms.iter().all(is_fine) {
            return row.histograms.into();
        }
        let mut kept = Vec::with_capacity(row.histograms.len());
        for sample in row.histograms {
            if self.is_old(sample.timestamp_ms) {
                let old = [Sample { timestamp_ms: sample.timestamp_ms, value: 0.0 }];
                report.reject("too_old", 1, || self.too_old(row, &old));
                continue;
            }
            if let Some((reason, why)) = refuse_histogram(&sample.histogram, self.options) {
                let series =
                    || format!("series {} has a histogram at {} ms {why}", self.show(row), sample.timestamp_ms);
                report.reject(reason, 1, series);
                continue;
            }
            let mut sample = sample.clone();
            if sample.histogram.schema > SCHEMA_MAX {
                Arc::make_mut(&mut sample.histogram).reduce(SCHEMA_MAX);
            }
            kept.push(sample);
        }
        kept.into()
    }

    fn exemplars<'b>(&self, row: &SeriesRow<'b, '_>, report: &mut AppendReport) -> Cow<'b, [Exemplar]> {
        let limit = self.options.exemplar_label_chars_max;
        let refusal = |exemplar: &Exemplar| {
            let length: usize =
                exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
            if self.is_old(exemplar.sample.timestamp_ms) {
                return Some(("exemplar_too_old", length));
            }
            (length > limit).then_some(("exemplar_labels_too_long", length))
        };
        if row.exemplars.iter().all(|exemplar| refusal(exemplar).is_none()) {
            return row.exemplars.into();
        }
        let mut kept = Vec::with_capacity(row.exemplars.len());
        for exemplar in row.exemplars {
            let Some((reason, length)) = refusal(exemplar) else {
                kept.push(exemplar.clone());
                continue;
            };
            let (series, at) = (self.show(row), exemplar.sample.timestamp_ms);
            report.reject(reason, 1, || match reason {
                "exemplar_too_old" => {
                    format!("series {series} has an exemplar at {at} ms, older than the retention keeps")
                }
                _ => format!(
                    "the labels of an exemplar of series {series} have {length} UTF-8 characters, the limit is {limit}"
                ),
            });
        }
        kept.into()
    }
}

impl<'b> Prepared<'b> {
    /// Returns the row with what may be taken of it only.
    pub(super) fn row<'r, 'a>(&'r self, row: &SeriesRow<'r, 'a>) -> SeriesRow<'r, 'a> {
        SeriesRow {
            samples: &self.samples,
            starts_ms: &self.starts_ms,
            histograms: &self.histograms,
            exemplars: &self.exemplars,
            ..*row
        }
    }
}

/// Cuts a row into parts that fit into a record; there is no more than one part but for huge rows.
pub(super) fn pieces<'b>(
    row: &SeriesRow<'b, '_>,
    samples_max: usize,
    each: &mut dyn FnMut(Piece<'b>) -> Result<()>,
) -> Result<()> {
    let SeriesRow { samples, starts_ms, histograms, exemplars, .. } = *row;
    let few_bytes =
        || histograms.iter().map(|one| size_bytes(&one.histogram)).sum::<usize>() <= HISTOGRAM_BYTES_PER_ROW;
    let is_small = samples.len() <= samples_max
        && histograms.len() <= HISTOGRAMS_PER_ROW
        && exemplars.len() <= EXEMPLARS_PER_ROW
        && few_bytes();
    if is_small {
        return each(Piece { samples, extras: RowExtras { starts_ms, histograms, exemplars } });
    }
    for (number, samples) in samples.chunks(samples_max).enumerate() {
        let starts_ms = starts_ms.chunks(samples_max).nth(number).unwrap_or_default();
        each(Piece { samples, extras: RowExtras { starts_ms, ..RowExtras::default() } })?;
    }
    let mut left = histograms;
    while !left.is_empty() {
        let mut bytes = 0;
        let fits = |one: &&HistogramSample| {
            bytes += size_bytes(&one.histogram);
            bytes <= HISTOGRAM_BYTES_PER_ROW
        };
        let count = left.iter().take(HISTOGRAMS_PER_ROW).take_while(fits).count().max(1);
        let (now, later) = left.split_at(count);
        each(Piece { samples: &[], extras: RowExtras { histograms: now, ..RowExtras::default() } })?;
        left = later;
    }
    for exemplars in exemplars.chunks(EXEMPLARS_PER_ROW) {
        each(Piece { samples: &[], extras: RowExtras { exemplars, ..RowExtras::default() } })?;
    }
    Ok(())
}

/// Says why a histogram cannot be taken, by the rules of Prometheus for histograms with float counts.
fn refuse_histogram(histogram: &Histogram, options: &Options) -> Option<(&'static str, String)> {
    let Histogram { schema, zero_threshold, zero_count, positive, negative, custom, .. } = histogram;
    let is_custom = *schema == CUSTOM;
    if !is_custom && !(SCHEMA_MIN..=SCHEMA_TAKEN_MAX).contains(schema) {
        let known = format!("known are {SCHEMA_MIN} to {SCHEMA_TAKEN_MAX} and {CUSTOM}");
        return Some(("histogram_bad_schema", format!("with schema {schema}, {known}")));
    }
    let (buckets, limit) = (positive.len() + negative.len() + custom.len(), options.histogram_buckets_max);
    if buckets > limit {
        return Some((
            "histogram_too_many_buckets",
            format!("with {buckets} buckets and bounds, the limit is {limit}"),
        ));
    }
    if let Some((what, count)) = negative_count(histogram) {
        return Some(("histogram_negative_count", format!("whose {what} has observation count of {count}")));
    }
    for (name, side) in [("positive", positive), ("negative", negative)] {
        if !side.is_sorted_by(|a, b| a.0 < b.0) {
            return Some(("histogram_bad_buckets", format!("whose {name} buckets are not in ascending order")));
        }
    }
    if !is_custom {
        if !custom.is_empty() {
            return Some(("histogram_bad_bounds", "with custom bounds and an exponential schema".to_owned()));
        }
        let is_bad = zero_threshold.is_nan() || *zero_threshold < 0.0;
        let why = || format!("with a zero threshold of {zero_threshold}");
        return is_bad.then(|| ("histogram_bad_zero_bucket", why()));
    }
    if *zero_threshold != 0.0 || *zero_count != 0.0 || !negative.is_empty() {
        let why = "with custom buckets and a zero bucket or negative buckets".to_owned();
        return Some(("histogram_bad_zero_bucket", why));
    }
    if custom.iter().any(|bound| !bound.is_finite()) {
        return Some(("histogram_bad_bounds", "with custom bounds that are not finite".to_owned()));
    }
    if !custom.is_sorted_by(|a, b| a < b) {
        return Some(("histogram_bad_bounds", "whose custom bounds are not in strictly increasing order".to_owned()));
    }
    let is_inside = |index: i32| usize::try_from(index).is_ok_and(|index| index <= custom.len());
    let outside = positive.iter().map(|(index, _)| *index).find(|index| !is_inside(*index));
    outside.map(|index| {
        let why = format!("with custom bucket {index}, but {} bounds only", custom.len());
        ("histogram_bad_buckets", why)
    })
}

fn negative_count(histogram: &Histogram) -> Option<(String, f64)> {
    let side = |name: &'static str, side: &[(i32, f64)]| {
        let found = side.iter().find(|(_, count)| *count < 0.0);
        found.map(|(index, count)| (format!("{name} bucket {index}"), *count))
    };
    let whole = |name: &str, count: f64| (count < 0.0).then(|| (name.to_owned(), count));
    whole("zero bucket", histogram.zero_count)
        .or_else(|| whole("whole", histogram.count))
        .or_else(|| side("positive", &histogram.positive))
        .or_else(|| side("negative", &histogram.negative))
}
