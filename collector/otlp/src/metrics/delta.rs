//! Adds deltas up to the running totals that Prometheus stores.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::{Histogram, Labels, METRIC_NAME, Timestamp, is_stale};

use super::history::{History, HistoryError, Newest};
use super::points::number_text;
use super::{PointFault, Refused};

/// So many times the streams that are remembered may be the series that were found in storage; a histogram has many.
const SEEDS_PER_STREAM: usize = 16;

/// An overlap of less than this part of a delta's length is an inexact clock, and no second sender: a twentieth.
const OVERLAP_PART: u64 = 20;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// How many streams of deltas are remembered, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaOptions {
    /// Most streams that are remembered.
    pub series_max: usize,
    /// A stream is forgotten after this many nanoseconds without a point, by the clock of arrival. After a restart its
    /// total goes on when the newest stored sample is not further back.
    pub expiry_ns: i64,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self { series_max: 200_000, expiry_ns: 3_600_000_000_000 }
    }
}

/// Gives access to the running totals when the first delta of a request needs them.
pub trait Deltas {
    /// Returns the totals.
    fn states(&mut self) -> &mut DeltaStates;
}

/// The running totals of all streams of deltas.
///
/// A stream that is not remembered goes on from what is stored of it, so that totals survive a restart; only one of which
/// nothing is stored starts from zero. Changes since the last [`commit`](Self::commit) can be taken back by
/// [`rollback`](Self::rollback): a batch that was not stored must not have moved the totals, or its retry would be
/// refused as a repeat.
#[derive(Debug)]
pub struct DeltaStates {
    options: DeltaOptions,
    streams: HashMap<Labels, Stream>,
    /// The streams changed since the last commit, as they were before; `None` for a new one.
    undo: Vec<(Labels, Option<Stream>)>,
    swept: Timestamp,
    stored: Stored,
}

#[derive(Debug, Clone, PartialEq)]
struct Stream {
    /// When counting began, in nanoseconds as OTLP counts; 0 when that is not known.
    start: u64,
    /// The end of the newest delta, in nanoseconds as OTLP counts.
    end: u64,
    /// When a point last arrived.
    seen: Timestamp,
    total: Total,
}

#[derive(Debug, Clone, PartialEq)]
enum Total {
    /// The next delta starts anew, but must not lie before the end.
    Ended,
    Number(f64),
    Classic(HistogramTotal),
    Native(Arc<Histogram>),
}

/// The running total of a series, and since when it runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running<T> {
    pub(super) total: T,
    /// In nanoseconds since the epoch; 0 when that is not known.
    pub(super) start: u64,
}

/// A histogram's running totals.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct HistogramTotal {
    pub(super) bounds: Vec<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
}

/// The time that a delta covers, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// 0 when not given.
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Deltas for DeltaStates {
    fn states(&mut self) -> &mut DeltaStates {
        self
    }
}

impl DeltaStates {
    /// Remembers nothing yet; what is stored is looked up in `history`.
    #[must_use]
    pub fn new(options: DeltaOptions, history: Option<Arc<dyn History>>) -> Self {
        let stored = Stored { history, opened: None, seeds: HashMap::new(), seeded: HashSet::new() };
        Self { options, streams: HashMap::new(), undo: Vec::new(), swept: Timestamp(0), stored }
    }

    /// Returns the number of streams remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Says whether no stream is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Makes the changes since the last commit final.
    pub fn commit(&mut self) {
        self.undo.clear();
    }

    /// Takes back the changes since the last commit.
    pub fn rollback(&mut self) {
        while let Some((labels, before)) = self.undo.pop() {
            match before {
                Some(stream) => drop(self.streams.insert(labels, stream)),
                None => drop(self.streams.remove(&labels)),
            }
        }
    }

    /// Adds a number and returns the total.
    pub(super) fn add_number(
        &mut self,
        labels: Labels,
        span: Span,
        value: f64,
        now: Timestamp,
    ) -> Result<Running<f64>, PointFault> {
        if !value.is_finite() {
            return Err(Refused::new("delta_not_finite", || format!("a delta of {labels} is {value}")).into());
        }
        self.add(labels, span, now, Stored::number, |before| {
            let total = match before {
                Some(Total::Number(before)) => Some(before + value),
                _ => None,
            };
            (total.is_some(), Total::Number(total.unwrap_or(value)))
        })
        .map(|(start, total)| Running { total: if let Total::Number(total) = total { total } else { value }, start })
    }

    /// Adds a histogram and returns the totals. Other bounds than before start anew.
    pub(super) fn add_classic(
        &mut self,
        labels: Labels,
        span: Span,
        delta: HistogramTotal,
        now: Timestamp,
    ) -> Result<Running<HistogramTotal>, PointFault> {
        check_sum(&labels, delta.sum)?;
        let find = |stored: &Stored, labels: &Labels| stored.classic(labels, &delta.bounds);
        let added = self.add(labels, span, now, find, |before| match before {
            Some(Total::Classic(before)) if before.bounds == delta.bounds => {
                let total = HistogramTotal {
                    counts: before.counts.iter().zip(&delta.counts).map(|(a, b)| a.saturating_add(*b)).collect(),
                    count: before.count.saturating_add(delta.count),
                    sum: before.sum.zip(delta.sum).map(|(a, b)| a + b),
                    bounds: delta.bounds.clone(),
                };
                (true, Total::Classic(total))
            }
            _ => (false, Total::Classic(delta.clone())),
        });
        let (start, total) = added?;
        Ok(Running { total: if let Total::Classic(total) = total { total } else { delta }, start })
    }

    /// Adds a native histogram and returns the total. Other custom bounds than before start anew.
    pub(super) fn add_native(
        &mut self,
        labels: Labels,
        span: Span,
        delta: Histogram,
        now: Timestamp,
    ) -> Result<Running<Arc<Histogram>>, PointFault> {
        check_sum(&labels, Some(delta.sum))?;
        let delta = Arc::new(delta);
        let added = self.add(labels, span, now, Stored::number, |before| {
            let total = match before {
                Some(Total::Native(before)) if before.custom == delta.custom => before.add(&delta),
                _ => None,
            };
            match total {
                Some((total, _)) => (true, Total::Native(Arc::new(total))),
                None => (false, Total::Native(Arc::clone(&delta))),
            }
        });
        let (start, total) = added?;
        Ok(Running { total: if let Total::Native(total) = total { total } else { delta }, start })
    }

    /// Takes note that the end of a stream was announced: the next delta starts anew.
    pub(super) fn end(&mut self, labels: Labels, at: u64, now: Timestamp) {
        let before = self.streams.get(&labels);
        // Of a stream that is not known nothing needs to be remembered.
        if before.is_some() || self.stored.knows(&labels) {
            let end = before.map_or(at, |stream| stream.end.max(at));
            let replaced =
                self.streams.insert(labels.clone(), Stream { start: 0, end, seen: now, total: Total::Ended });
            self.undo.push((labels, replaced));
        }
    }

    /// Finds the stream so far, tests that the delta follows it, and puts what `sum` makes of the two in its place.
    /// `sum` says whether it goes on. Returns when counting began, and the total.
    fn add(
        &mut self,
        labels: Labels,
        span: Span,
        now: Timestamp,
        find: impl FnOnce(&Stored, &Labels) -> Option<Stream>,
        sum: impl FnOnce(Option<&Total>) -> (bool, Total),
    ) -> Result<(u64, Total), PointFault> {
        if span.start > span.end {
            let Span { start, end } = span;
            let detail = || format!("a delta of {labels} starts at {start} and ends at {end}");
            return Err(Refused::new("delta_span", detail).into());
        }
        self.sweep(now);
        let found = if self.streams.contains_key(&labels) { None } else { self.look_up(&labels, span, now, find)? };
        let before = found.as_ref().or_else(|| self.streams.get(&labels));
        if let Some(stream) = before {
            follows(stream, span, &labels)?;
        }
        let (goes_on, total) = sum(before.map(|stream| &stream.total));
        let start = match before {
            Some(stream) if goes_on => stream.start,
            _ => span.start,
        };
        let replaced =
            self.streams.insert(labels.clone(), Stream { start, end: span.end, seen: now, total: total.clone() });
        self.undo.push((labels, replaced));
        Ok((start, total))
    }

    /// Returns what is stored of a stream that is not remembered.
    fn look_up(
        &mut self,
        labels: &Labels,
        span: Span,
        now: Timestamp,
        find: impl FnOnce(&Stored, &Labels) -> Option<Stream>,
    ) -> Result<Option<Stream>, PointFault> {
        let limit = self.options.series_max;
        if self.streams.len() >= limit {
            let detail = || format!("deltas of {labels} cannot be added up: {limit} streams are remembered already");
            return Err(Refused::new("too_many_delta_series", detail).into());
        }
        self.stored.fill(labels, span, now, &self.options).map_err(PointFault::History)?;
        let expiry_ns = self.options.expiry_ns.max(0).cast_unsigned();
        Ok(find(&self.stored, labels).filter(|stream| span.end.saturating_sub(stream.end) <= expiry_ns))
    }

    /// Forgets expired streams, at most once in an eighth of the expiry.
    fn sweep(&mut self, now: Timestamp) {
        let expiry = self.options.expiry_ns;
        if now.0.saturating_sub(self.swept.0) < expiry / 8 {
            return;
        }
        self.swept = now;
        self.streams.retain(|_, stream| now.0.saturating_sub(stream.seen.0) < expiry);
    }
}

fn check_sum(labels: &Labels, sum: Option<f64>) -> Result<(), Refused> {
    if sum.is_none_or(f64::is_finite) {
        return Ok(());
    }
    Err(Refused::new("delta_not_finite", || format!("the sum of a delta of {labels} is not finite")))
}

/// Tests that a delta comes after what was added. A gap is none of the sender's counting, so nothing is lost by going on
/// over it.
fn follows(stream: &Stream, span: Span, labels: &Labels) -> Result<(), Refused> {
    let Span { start, end } = span;
    let last = stream.end;
    if end <= last {
        let detail = || format!("a delta of {labels} ends at {end} ns, one up to {last} ns was added already");
        return Err(Refused::new("delta_out_of_order", detail));
    }
    if start != 0 && last.saturating_sub(start).saturating_mul(OVERLAP_PART) > end - start {
        let detail = || format!("a delta of {labels} starts at {start} ns, inside one up to {last} ns");
        return Err(Refused::new("delta_overlap", detail));
    }
    Ok(())
}

/// What was found in storage. A family's series are looked up once, with its first stream that is not remembered, and
/// only in the time after a start in which a stream could not have expired since: later all that may go on are
/// remembered.
#[derive(Debug)]
struct Stored {
    history: Option<Arc<dyn History>>,
    /// When the first delta arrived.
    opened: Option<Timestamp>,
    seeds: HashMap<Labels, Newest>,
    /// Metric, job and instance of what was looked up.
    seeded: HashSet<(String, String, String)>,
}

impl Stored {
    fn fill(
        &mut self,
        labels: &Labels,
        span: Span,
        now: Timestamp,
        options: &DeltaOptions,
    ) -> Result<(), HistoryError> {
        let opened = *self.opened.get_or_insert(now);
        let Some(history) = &self.history else { return Ok(()) };
        if now.0.saturating_sub(opened.0) >= options.expiry_ns {
            self.history = None;
            self.seeds = HashMap::new();
            self.seeded = HashSet::new();
            return Ok(());
        }
        let target = ["job", "instance"].map(|name| (name, labels.get(name).unwrap_or_default()));
        let key = (labels.metric_name().to_owned(), target[0].1.to_owned(), target[1].1.to_owned());
        if self.seeded.contains(&key) {
            return Ok(());
        }
        // A stream of the family may be twice as far back as this one and still go on.
        let since_ms = millis(span.end).saturating_sub(options.expiry_ns / 1_000_000 * 2);
        for suffix in ["", "_count", "_sum", "_bucket"] {
            for newest in history.newest(&format!("{}{suffix}", key.0), &target, since_ms)? {
                self.seeds.insert(newest.labels.clone(), newest);
            }
        }
        if self.seeds.len() > options.series_max.saturating_mul(SEEDS_PER_STREAM) {
            // Too many to hold: those that are used now are, the others are looked up again.
            let name = key.0.as_str();
            self.seeded.clear();
            self.seeds.retain(|labels, _| labels.metric_name().starts_with(name));
        }
        self.seeded.insert(key);
        Ok(())
    }

    fn knows(&self, labels: &Labels) -> bool {
        self.seeds.contains_key(labels) || self.part(labels, "_count", None).is_some()
    }

    /// Returns the stream of a series that has the name of its metric.
    fn number(&self, labels: &Labels) -> Option<Stream> {
        let seed = self.seeds.get(labels)?;
        let total = match &seed.histogram {
            Some(histogram) if histogram.is_stale() => Total::Ended,
            Some(histogram) => Total::Native(Arc::clone(histogram)),
            None if is_stale(seed.value) => Total::Ended,
            None => Total::Number(seed.value),
        };
        Some(stream(seed, total))
    }

    /// Returns the stream of a classic histogram, whose labels have the name of its metric.
    fn classic(&self, labels: &Labels, bounds: &[f64]) -> Option<Stream> {
        let count = self.part(labels, "_count", None)?;
        let counts = if is_stale(count.value) { None } else { self.buckets(labels, bounds, count) };
        let total = counts.and_then(|counts| {
            let sum = self.part(labels, "_sum", None).filter(|sum| sum.timestamp_ms == count.timestamp_ms);
            Some(HistogramTotal {
                bounds: bounds.to_vec(),
                counts,
                count: whole(count.value)?,
                sum: sum.map(|sum| sum.value),
            })
        });
        Some(stream(count, total.map_or(Total::Ended, Total::Classic)))
    }

    /// Returns the counts per bucket when the stored buckets are those of `bounds`.
    fn buckets(&self, labels: &Labels, bounds: &[f64], count: &Newest) -> Option<Vec<u64>> {
        let mut counts = Vec::with_capacity(bounds.len() + 1);
        let mut below = 0;
        for bound in bounds {
            let bucket = self.part(labels, "_bucket", Some(*bound))?;
            if bucket.timestamp_ms != count.timestamp_ms {
                return None;
            }
            let cumulative = whole(bucket.value)?;
            counts.push(cumulative.checked_sub(below)?);
            below = cumulative;
        }
        counts.push(whole(count.value)?.checked_sub(below)?);
        Some(counts)
    }

    fn part(&self, labels: &Labels, suffix: &str, bound: Option<f64>) -> Option<&Newest> {
        let mut labels = labels.to_builder();
        let name = format!("{}{suffix}", labels.get(METRIC_NAME).unwrap_or_default());
        labels.set(METRIC_NAME, &name);
        if let Some(bound) = bound {
            labels.set("le", &number_text(bound));
        }
        self.seeds.get(&labels.build())
    }
}

fn stream(seed: &Newest, total: Total) -> Stream {
    let nanos = |millis: i64| u64::try_from(millis).unwrap_or(0).saturating_mul(NANOS_PER_MILLI);
    Stream { start: nanos(seed.start_ms), end: nanos(seed.timestamp_ms), seen: Timestamp(0), total }
}

fn millis(nanos: u64) -> i64 {
    i64::try_from(nanos / NANOS_PER_MILLI).unwrap_or(i64::MAX)
}

/// Returns a stored count as a whole number again.
fn whole(value: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "tested for just that")]
    ((0.0..18_446_744_073_709_551_616.0).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}
