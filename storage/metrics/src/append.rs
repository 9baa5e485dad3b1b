//! Takes batches in: checks each series, writes the WAL, then the head.

mod extras;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{MetricMetadata, Sample};
use storage_api::{
    AppendReport, Error, LabelFault, LabelPair, MetricAppender, MetricBatch, Result, SeriesKey, SeriesRow,
};

use crate::head::{Head, LoggedRow, NewRow, SeriesRef};
use crate::options::Options;
use crate::record::{Base, Row, RowExtras, SamplesEncoder, encode_metadata};
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
    rows: Vec<NewRow<'b>>,
    /// What some of the rows have beside samples and a start time.
    extras: Vec<RowExtras<'b>>,
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
    /// Returns what takes samples; about so many rows are expected.
    fn new(head: &'b Head, rows: usize) -> Self {
        let claims = Claims { head, bases: Vec::new() };
        let rows = rows.min(ROWS_AT_A_TIME);
        Self {
            encoder: SamplesEncoder::new(head.epoch, rows),
            rows: Vec::with_capacity(rows),
            extras: Vec::new(),
            defined: Vec::new(),
            claims,
        }
    }

    fn push(&mut self, logged: &mut LoggedRow, samples: &'b [Sample], start_ms: i64) {
        // Only the first row of a series becomes a base.
        let claim = logged.claim.take();
        let scale = self.encoder.push(Row { series: logged.id, base: logged.base, claim, samples, start_ms });
        if let (Some(number), Some(last)) = (claim, samples.last()) {
            self.claims.bases.push((logged.series, Base { number, bits: last.value.to_bits(), scale }));
        }
        self.rows.push(NewRow { series: logged.series, samples, start_ms, extras: None });
    }

    /// As [`push`](Self::push), for a row that has more than samples, or something else than samples.
    fn push_piece(&mut self, logged: &mut LoggedRow, piece: extras::Piece<'b>) {
        if piece.samples.is_empty() {
            // It has no value to be told from a base, or to become one.
            self.encoder.push(Row { series: logged.id, base: None, claim: None, samples: &[], start_ms: 0 });
            self.rows.push(NewRow { series: logged.series, samples: &[], start_ms: 0, extras: None });
        } else {
            self.push(logged, piece.samples, 0);
        }
        self.encoder.push_extras(piece.extras);
        if let Some(row) = self.rows.last_mut() {
            row.extras = Some(self.extras.len() as u32);
            self.extras.push(piece.extras);
        }
    }
}

/// A row that is taken.
#[derive(Debug, Clone, Copy)]
struct Line<'b> {
    /// Its series; that of an unknown one is only found later.
    series: SeriesRef,
    samples: &'b [Sample],
    /// The start time that all samples have; 0 for none.
    start_ms: i64,
}

/// Rows that are taken.
#[derive(Debug, Default)]
struct Lines<'b, 'a> {
    lines: Vec<Line<'b>>,
    /// The rows that have more than samples and one start time, by the place of their line.
    mixed: Vec<(usize, SeriesRow<'b, 'a>)>,
    unknown: Vec<Unknown<'b, 'a>>,
    /// Labels that were decoded.
    decoded: Vec<LabelPair<'a>>,
}

/// A row whose series is not known by a key.
#[derive(Debug)]
struct Unknown<'b, 'a> {
    /// The place of its line.
    line: usize,
    key: Option<SeriesKey>,
    labels: &'b [LabelPair<'a>],
    /// Where its labels are among the decoded ones, when it has a key.
    decoded: Range<usize>,
}

impl<'a> Unknown<'_, 'a> {
    fn labels_in<'s>(&'s self, decoded: &'s [LabelPair<'a>]) -> &'s [LabelPair<'a>] {
        match self.key {
            Some(_) => decoded.get(self.decoded.clone()).unwrap_or_default(),
            None => self.labels,
        }
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
        self.ensure_room(batch.samples_len() as u64 * SAMPLE_BYTES + extras::size_in_head(batch))?;
        let oldest_ms = self.oldest_visible_ms();
        let prepared = extras::prepare(batch, &self.options, oldest_ms, &mut report);
        let mut lines = self.take(batch, (&prepared, oldest_ms), &head, &mut report)?;
        self.append_metadata(&batch.metadata)?;
        self.find_unknown(&head, &mut lines)?;
        let mut pending = Pending::new(&head, lines.lines.len());
        let is_old = |sample: &Sample| oldest_ms.is_some_and(|oldest_ms| sample.timestamp_ms < oldest_ms);
        let mut series = Vec::with_capacity(lines.lines.len().min(ROWS_AT_A_TIME));
        let (mut place, mut mixed) = (0, lines.mixed.iter().peekable());
        for lines in lines.lines.chunks(ROWS_AT_A_TIME) {
            series.clear();
            series.extend(lines.iter().map(|line| line.series));
            let mut logged = head.log_rows(&series);
            for (line, logged) in lines.iter().zip(&mut logged.rows) {
                if let Some(labels) = &logged.definition {
                    pending.encoder.define(logged.id, labels);
                    pending.defined.push(logged.series);
                }
                place += 1;
                if let Some((_, row)) = mixed.next_if(|(line, _)| line + 1 == place) {
                    extras::pieces(row, SAMPLES_PER_ROW, &mut |piece| {
                        pending.push_piece(logged, piece);
                        piece.count(&mut report);
                        self.commit_when_full(&head, &mut pending)
                    })?;
                    continue;
                }
                for samples in line.samples.split(is_old).flat_map(|samples| samples.chunks(SAMPLES_PER_ROW)) {
                    pending.push(logged, samples, line.start_ms);
                    report.accepted += samples.len() as u64;
                    self.commit_when_full(&head, &mut pending)?;
                }
            }
        }
        self.ensure_room(0)?;
        self.commit(&head, pending)?;
        self.metrics.appended.inc_by(report.accepted);
        self.metrics.appended_exemplars.inc_by(report.accepted_exemplars);
        for rejection in &report.rejections {
            let is_exemplar = rejection.reason.starts_with("exemplar_");
            let counter = if is_exemplar { &self.metrics.rejected_exemplars } else { &self.metrics.rejected };
            counter.with(&[rejection.reason]).inc_by(rejection.count);
        }
        self.show_head();
        Ok(report)
    }
}

impl MetricStore {
    /// Returns the rows of a batch that can be taken, and decodes the labels of those whose key is unknown.
    fn take<'b, 'a>(
        &self,
        batch: &'b MetricBatch<'a>,
        (prepared, oldest_ms): (&'b [extras::Prepared<'b>], Option<i64>),
        head: &Head,
        report: &mut AppendReport,
    ) -> Result<Lines<'b, 'a>> {
        let mut prepared = prepared.iter();
        let mut taken = Lines { lines: Vec::with_capacity(batch.series().len()), ..Lines::default() };
        let is_old = |sample: &Sample| oldest_ms.is_some_and(|oldest_ms| sample.timestamp_ms < oldest_ms);
        // Nothing else between: the processor then waits for the memory of many keys at once.
        let keys = head.keys();
        let known: Vec<Option<SeriesRef>> = batch.keys().map(|key| key.and_then(|key| keys.get(key))).collect();
        drop(keys);
        for (mut row, known) in batch.series().zip(known) {
            let mut start_ms = extras::plain_start(&row);
            if start_ms.is_none() {
                row = prepared.next().map_or(row, |prepared| prepared.row(&row));
                start_ms = extras::plain_start(&row);
            }
            let (has_extras, start_ms) = (start_ms.is_none(), start_ms.unwrap_or(0));
            if row.samples.is_empty() && !has_extras {
                continue;
            }
            let samples = row.samples;
            let old = if oldest_ms.is_some() { samples.iter().filter(|sample| is_old(sample)).count() } else { 0 };
            if let Some(series) = known.filter(|_| old == 0) {
                taken.mixed.extend(has_extras.then_some((taken.lines.len(), row)));
                taken.lines.push(Line { series, samples, start_ms });
                continue;
            }
            let start = taken.decoded.len();
            let decoded = row.keyed.map_or(Ok(()), |keyed| batch.decode_labels(keyed, &mut taken.decoded));
            match decoded {
                Ok(()) => {}
                Err(LabelFault::Malformed(cause)) => return Err(Error::Invalid(cause)),
                Err(LabelFault::Refused { reason, detail }) => {
                    extras::reject(&row, reason, report, &|| detail.clone());
                    continue;
                }
            }
            let decoded = taken.decoded.get(start..).unwrap_or_default();
            let labels = if row.keyed.is_some() { decoded } else { row.labels };
            if let Some((reason, detail)) = refuse(labels, &self.options) {
                extras::reject(&row, reason, report, &detail);
                continue;
            }
            report.reject("too_old", old as u64, || too_old(labels, samples, oldest_ms, &self.options));
            if old < samples.len() || has_extras {
                taken.mixed.extend(has_extras.then_some((taken.lines.len(), row)));
                let key = row.keyed.map(|keyed| keyed.key);
                let decoded = start..taken.decoded.len();
                taken.unknown.push(Unknown { line: taken.lines.len(), key, labels: row.labels, decoded });
                taken.lines.push(Line { series: SeriesRef(u32::MAX), samples, start_ms });
            }
        }
        self.metrics.keys.with(&["known"]).inc_by((taken.lines.len() - taken.unknown.len()) as u64);
        let unknown = taken.unknown.iter().filter(|unknown| unknown.key.is_some()).count();
        self.metrics.keys.with(&["unknown"]).inc_by(unknown as u64);
        Ok(taken)
    }

    /// Finds the series of the rows that are not known by a key, or makes them, and keeps the keys in mind.
    fn find_unknown(&self, head: &Head, taken: &mut Lines<'_, '_>) -> Result<()> {
        let Lines { lines, unknown, decoded, .. } = taken;
        for unknown in unknown.chunks(ROWS_AT_A_TIME) {
            let labels: Vec<_> = unknown.iter().map(|row| row.labels_in(decoded)).collect();
            let Some(found) = head.find_rows(&labels) else {
                return Err(Error::Overloaded {
                    what: "the metrics head's table of series",
                    used: head.series(),
                    limit: head.series(),
                });
            };
            for (row, series) in unknown.iter().zip(&found) {
                if let Some(line) = lines.get_mut(row.line) {
                    line.series = *series;
                }
            }
            let keys = unknown.iter().zip(&found).filter_map(|(row, series)| Some((row.key?, *series)));
            let mut keys = keys.peekable();
            if keys.peek().is_some() {
                self.metrics.keys_forgotten.inc_by(head.learn(keys));
            }
        }
        Ok(())
    }

    fn ensure_room(&self, more: u64) -> Result<()> {
        let used = self.view.read().head_bytes();
        let limit = self.options.head_bytes_max;
        if used.saturating_add(more) > limit {
            return Err(Error::Overloaded { what: "the metrics head", used, limit });
        }
        Ok(())
    }

    /// Commits what has gathered when it makes a record of its own.
    fn commit_when_full<'h>(&self, head: &'h Head, pending: &mut Pending<'h>) -> Result<()> {
        if pending.encoder.size_bytes() < RECORD_BYTES {
            return Ok(());
        }
        self.ensure_room(0)?;
        self.commit(head, std::mem::replace(pending, Pending::new(head, ROWS_AT_A_TIME)))
    }

    /// Makes the samples durable, then visible.
    fn commit(&self, head: &Head, mut pending: Pending<'_>) -> Result<()> {
        if pending.encoder.is_empty() {
            return Ok(());
        }
        self.wal.append(&pending.encoder.finish()).map_err(crate::error::wal)?;
        head.set_logged(pending.defined);
        pending.claims.set_durable();
        head.append(&pending.rows, &pending.extras);
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
fn refuse<'a>(labels: &'a [LabelPair<'a>], options: &Options) -> Option<Refusal<'a>> {
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

fn too_old(labels: &[LabelPair<'_>], samples: &[Sample], oldest_ms: Option<i64>, options: &Options) -> String {
    let oldest_ms = oldest_ms.unwrap_or(i64::MIN);
    let first = samples.iter().map(|sample| sample.timestamp_ms).find(|ms| *ms < oldest_ms).unwrap_or(oldest_ms);
    let retention_s = options.retention.map_or(0, |retention| retention.as_secs());
    format!(
        "series {} has a sample at {first} ms, older than {oldest_ms} ms, which the retention of {retention_s} s keeps",
        show(labels)
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
fn show(labels: &[LabelPair<'_>]) -> String {
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
