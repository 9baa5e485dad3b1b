//! Takes batches in: checks each series, writes the WAL, then the head.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{MetricMetadata, Sample};
use storage_api::{AppendReport, Error, MetricAppender, MetricBatch, Result, SeriesRow};

use crate::head::{Head, Resolved, SeriesRef};
use crate::options::Options;
use crate::record::{Base, Row, SamplesEncoder, encode_metadata};
use crate::store::MetricStore;

/// A WAL record is closed when it reaches this size, so that a huge batch becomes several.
const RECORD_BYTES: usize = 16 << 20;
/// Samples of one series that go into a record together.
const SAMPLES_PER_ROW: usize = 1 << 19;
/// Series that are looked up together.
const ROWS_AT_A_TIME: usize = 4_096;
/// Bytes of a head's sample before it is packed.
const SAMPLE_BYTES: u64 = 16;
/// Longest label text that a rejection repeats.
const SHOWN_BYTES: usize = 120;

/// Why a series cannot be taken: a reason and a function for the details.
type Refusal<'a> = (&'static str, Box<dyn Fn() -> String + 'a>);

/// Samples that wait for their record.
struct Pending<'b> {
    encoder: SamplesEncoder,
    rows: Vec<(SeriesRef, &'b [Sample])>,
    defined: Vec<SeriesRef>,
    claims: Claims<'b>,
}

/// Bases that are on their way to the disk. They are given up unless they are said to be there.
struct Claims<'b> {
    head: &'b Head,
    bases: Vec<(SeriesRef, Base)>,
}

impl Claims<'_> {
    fn set_durable(&mut self) {
        self.head.settle(self.bases.drain(..).map(|(series, base)| (series, Some(base))));
    }
}

impl Drop for Claims<'_> {
    fn drop(&mut self) {
        self.head.settle(self.bases.drain(..).map(|(series, _)| (series, None)));
    }
}

impl<'b> Pending<'b> {
    fn new(head: &'b Head) -> Self {
        let claims = Claims { head, bases: Vec::new() };
        Self { encoder: SamplesEncoder::new(head.epoch), rows: Vec::new(), defined: Vec::new(), claims }
    }

    fn push(&mut self, resolved: &mut Resolved, samples: &'b [Sample]) {
        // Only the first row of a series becomes a base.
        let claim = resolved.claim.take();
        let scale = self.encoder.push(Row { series: resolved.id, base: resolved.base, claim, samples });
        if let (Some(number), Some(last)) = (claim, samples.last()) {
            self.claims.bases.push((resolved.series, Base { number, bits: last.value.to_bits(), scale }));
        }
        self.rows.push((resolved.series, samples));
    }
}

impl MetricAppender for MetricStore {
    fn append(&self, batch: &MetricBatch<'_>) -> Result<AppendReport> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let mut report = AppendReport::default();
        // Held until the samples are in the head, so that a cut never falls between WAL and head.
        let _gate = self.gate.read();
        let head = Arc::clone(&self.view.read().head);
        self.ensure_room(batch.samples_len() as u64 * SAMPLE_BYTES)?;
        self.append_metadata(&batch.metadata)?;
        let oldest_ms = self.oldest_visible_ms();
        let mut taken: Vec<SeriesRow<'_, '_>> = Vec::with_capacity(batch.series().len());
        let is_old = |sample: &Sample| oldest_ms.is_some_and(|oldest_ms| sample.timestamp_ms < oldest_ms);
        for row in batch.series().filter(|row| !row.samples.is_empty()) {
            if let Some((reason, detail)) = refuse(&row, &self.options) {
                report.reject(reason, row.samples.len() as u64, detail);
                continue;
            }
            let old = row.samples.iter().filter(|sample| is_old(sample)).count();
            report.reject("too_old", old as u64, || too_old(&row, oldest_ms, &self.options));
            if old < row.samples.len() {
                taken.push(row);
            }
        }
        let mut pending = Pending::new(&head);
        for rows in taken.chunks(ROWS_AT_A_TIME) {
            let labels: Vec<_> = rows.iter().map(|row| row.labels).collect();
            let Some(mut resolved) = head.resolve_rows(&labels) else {
                return Err(Error::Overloaded {
                    what: "the metrics head's table of series",
                    used: head.series(),
                    limit: head.series(),
                });
            };
            for (row, resolved) in rows.iter().zip(&mut resolved.rows) {
                let Some(resolved) = resolved else { continue };
                if resolved.needs_definition {
                    pending.encoder.define(resolved.id, row.labels);
                    pending.defined.push(resolved.series);
                }
                for samples in row.samples.split(is_old).flat_map(|samples| samples.chunks(SAMPLES_PER_ROW)) {
                    pending.push(resolved, samples);
                    report.accepted += samples.len() as u64;
                    if pending.encoder.size_bytes() >= RECORD_BYTES {
                        self.ensure_room(0)?;
                        self.commit(&head, std::mem::replace(&mut pending, Pending::new(&head)))?;
                    }
                }
            }
        }
        self.ensure_room(0)?;
        self.commit(&head, pending)?;
        self.metrics.appended.inc_by(report.accepted);
        for rejection in &report.rejections {
            self.metrics.rejected.with(&[rejection.reason]).inc_by(rejection.count);
        }
        self.show_head();
        Ok(report)
    }
}

impl MetricStore {
    fn ensure_room(&self, more: u64) -> Result<()> {
        let used = self.view.read().head_bytes();
        let limit = self.options.head_bytes_max;
        if used.saturating_add(more) > limit {
            return Err(Error::Overloaded { what: "the metrics head", used, limit });
        }
        Ok(())
    }

    /// Makes the samples durable, then visible.
    fn commit(&self, head: &Head, mut pending: Pending<'_>) -> Result<()> {
        if pending.encoder.is_empty() {
            return Ok(());
        }
        self.wal.append(&pending.encoder.finish()).map_err(crate::error::wal)?;
        head.set_logged(pending.defined);
        pending.claims.set_durable();
        head.append(&pending.rows);
        Ok(())
    }

    fn append_metadata(&self, metadata: &[MetricMetadata]) -> Result<()> {
        let mut news = Vec::new();
        {
            let known = self.metadata.read();
            let mut count = known.len();
            for one in metadata.iter().filter(|one| !known.is_known(one)) {
                let size = one.name.len() + one.help.len() + one.unit.len();
                if size > self.options.metadata_bytes_max {
                    self.metrics.metadata_dropped.with(&["too_long"]).inc();
                } else if !known.contains(&one.name) && count >= self.options.metadata_entries_max {
                    self.metrics.metadata_dropped.with(&["too_many"]).inc();
                } else {
                    count += usize::from(!known.contains(&one.name));
                    news.push(one);
                }
            }
        }
        // A record holds some thousand entries at most, whatever the batch brings.
        for news in news.chunks((RECORD_BYTES / self.options.metadata_bytes_max.max(1)).max(1)) {
            self.wal.append(&encode_metadata(news.iter().copied())).map_err(crate::error::wal)?;
            let mut known = self.metadata.write();
            for one in news {
                known.set((*one).clone());
            }
        }
        Ok(())
    }
}

/// Says why a series is over a limit.
fn refuse<'a>(row: &SeriesRow<'a, 'a>, options: &Options) -> Option<Refusal<'a>> {
    let labels = row.labels;
    if labels.is_empty() {
        return Some(("no_labels", Box::new(|| "a series has no label".to_owned())));
    }
    let limit = options.labels_per_series_max;
    if labels.len() > limit {
        let detail = move || format!("series {} has {} labels, the limit is {limit}", show(labels), labels.len());
        return Some(("too_many_labels", Box::new(detail)));
    }
    let mut size = 0;
    for (name, value) in labels {
        size += name.len() + value.len();
        let limit = options.label_name_bytes_max;
        if name.len() > limit {
            let detail = move || {
                let (series, name_shown) = (show(labels), cut(name));
                format!("label name {name_shown:?} of series {series} has {} bytes, the limit is {limit}", name.len())
            };
            return Some(("label_name_too_long", Box::new(detail)));
        }
        let limit = options.label_value_bytes_max;
        if value.len() > limit {
            let detail = move || {
                let series = show(labels);
                format!(
                    "the value of label {name:?} of series {series} has {} bytes, the limit is {limit}",
                    value.len()
                )
            };
            return Some(("label_value_too_long", Box::new(detail)));
        }
    }
    let limit = options.series_bytes_max;
    if size > limit {
        let detail = move || format!("the labels of series {} have {size} bytes, the limit is {limit}", show(labels));
        return Some(("labels_too_long", Box::new(detail)));
    }
    None
}

fn too_old(row: &SeriesRow<'_, '_>, oldest_ms: Option<i64>, options: &Options) -> String {
    let oldest_ms = oldest_ms.unwrap_or(i64::MIN);
    let first = row.samples.iter().map(|sample| sample.timestamp_ms).find(|ms| *ms < oldest_ms).unwrap_or(oldest_ms);
    let retention_s = options.retention.map_or(0, |retention| retention.as_secs());
    format!(
        "series {} has a sample at {first} ms, older than {oldest_ms} ms, which the retention of {retention_s} s keeps",
        show(row.labels)
    )
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_BYTES {
        return text.into();
    }
    let mut shown: String = text.chars().take(SHOWN_BYTES / 4).collect();
    shown.push('…');
    shown.into()
}

/// Prints a series shortly, whatever its labels are.
fn show(labels: &[(Cow<'_, str>, Cow<'_, str>)]) -> String {
    let metric = labels.iter().find(|(name, _)| name == model::METRIC_NAME);
    let mut shown = metric.map(|(_, value)| cut(value).into_owned()).unwrap_or_default();
    shown.push('{');
    let rest = labels.iter().filter(|(name, _)| name != model::METRIC_NAME);
    for (i, (name, value)) in rest.enumerate() {
        if shown.len() > SHOWN_BYTES {
            shown.push_str(", …");
            break;
        }
        shown.push_str(if i > 0 { ", " } else { "" });
        shown.push_str(&format!("{}={:?}", cut(name), cut(value)));
    }
    shown.push('}');
    shown
}
