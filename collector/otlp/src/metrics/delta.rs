//! Adds deltas up to the running totals that Prometheus stores.

use std::collections::HashMap;

use model::{Labels, Timestamp};

use super::Refused;

/// How many streams of deltas are remembered, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaOptions {
    /// Most streams that are remembered.
    pub series_max: usize,
    /// A stream is forgotten after this many nanoseconds without a point, by the clock of arrival.
    pub expiry_ns: i64,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self { series_max: 200_000, expiry_ns: 3_600_000_000_000 }
    }
}

/// The running totals of all streams of deltas.
///
/// Changes since the last [`commit`](Self::commit) can be taken back by [`rollback`](Self::rollback): a batch that was
/// not stored must not have moved the totals, or its retry would be refused as a repeat.
#[derive(Debug)]
pub struct DeltaStates {
    options: DeltaOptions,
    streams: HashMap<Labels, Stream>,
    /// The streams changed since the last commit, as they were before; `None` for a new one.
    undo: Vec<(Labels, Option<Stream>)>,
    swept: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
struct Stream {
    /// The end of the newest delta, in nanoseconds as OTLP counts.
    end: u64,
    /// When a point last arrived.
    seen: Timestamp,
    total: Total,
}

#[derive(Debug, Clone, PartialEq)]
enum Total {
    Number(f64),
    Histogram(HistogramTotal),
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

impl DeltaStates {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(options: DeltaOptions) -> Self {
        Self { options, streams: HashMap::new(), undo: Vec::new(), swept: Timestamp(0) }
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
    ) -> Result<f64, Refused> {
        if !value.is_finite() {
            return Err(Refused::new("delta_not_finite", || format!("a delta of {labels} is {value}")));
        }
        let before = match self.before(&labels, span, now)? {
            Some(Stream { total: Total::Number(total), .. }) => *total,
            Some(_) | None => 0.0,
        };
        let total = before + value;
        self.put(labels, Stream { end: span.end, seen: now, total: Total::Number(total) });
        Ok(total)
    }

    /// Adds a histogram and returns the totals. Other bounds than before start anew.
    pub(super) fn add_histogram(
        &mut self,
        labels: Labels,
        span: Span,
        delta: HistogramTotal,
        now: Timestamp,
    ) -> Result<HistogramTotal, Refused> {
        if delta.sum.is_some_and(|sum| !sum.is_finite()) {
            return Err(Refused::new("delta_not_finite", || format!("the sum of a delta of {labels} is not finite")));
        }
        let total = match self.before(&labels, span, now)? {
            Some(Stream { total: Total::Histogram(before), .. }) if before.bounds == delta.bounds => HistogramTotal {
                counts: before.counts.iter().zip(&delta.counts).map(|(a, b)| a.saturating_add(*b)).collect(),
                count: before.count.saturating_add(delta.count),
                sum: before.sum.zip(delta.sum).map(|(a, b)| a + b),
                bounds: delta.bounds,
            },
            Some(_) | None => delta,
        };
        self.put(labels, Stream { end: span.end, seen: now, total: Total::Histogram(total.clone()) });
        Ok(total)
    }

    /// Forgets a stream whose end was announced.
    pub(super) fn end(&mut self, labels: Labels) {
        if let Some(stream) = self.streams.remove(&labels) {
            self.undo.push((labels, Some(stream)));
        }
    }

    /// Returns the stream so far, when `span` may be added to it.
    fn before(&mut self, labels: &Labels, span: Span, now: Timestamp) -> Result<Option<&Stream>, Refused> {
        let Span { start, end } = span;
        if start > end {
            return Err(Refused::new("delta_span", || {
                format!("a delta of {labels} starts at {start} and ends at {end}")
            }));
        }
        self.sweep(now);
        let Some(stream) = self.streams.get(labels) else {
            let limit = self.options.series_max;
            return if self.streams.len() < limit {
                Ok(None)
            } else {
                let detail =
                    || format!("deltas of {labels} cannot be added up: {limit} streams are remembered already");
                Err(Refused::new("too_many_delta_series", detail))
            };
        };
        if end <= stream.end {
            let last = stream.end;
            let detail = || format!("a delta of {labels} ends at {end} ns, one up to {last} ns was added already");
            return Err(Refused::new("delta_out_of_order", detail));
        }
        if start != 0 && start < stream.end {
            let last = stream.end;
            let detail = || format!("a delta of {labels} starts at {start} ns, inside one up to {last} ns");
            return Err(Refused::new("delta_overlap", detail));
        }
        Ok(Some(stream))
    }

    fn put(&mut self, labels: Labels, stream: Stream) {
        let before = self.streams.insert(labels.clone(), stream);
        self.undo.push((labels, before));
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn states(series_max: usize) -> DeltaStates {
        DeltaStates::new(DeltaOptions { series_max, expiry_ns: 8_000 })
    }

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn add(
        states: &mut DeltaStates,
        name: &str,
        start: u64,
        end: u64,
        value: f64,
        now: Timestamp,
    ) -> Result<f64, &'static str> {
        states.add_number(labels(name), Span { start, end }, value, now).map_err(|refused| refused.reason)
    }

    #[test]
    fn deltas_add_up_and_gaps_are_no_reset() {
        let mut states = states(9);
        assert_eq!(add(&mut states, "a", 1, 10, 5.0, NOW), Ok(5.0));
        assert_eq!(add(&mut states, "a", 10, 20, 2.0, NOW), Ok(7.0));
        assert_eq!(add(&mut states, "a", 50, 60, 1.0, NOW), Ok(8.0));
        assert_eq!(add(&mut states, "a", 0, 70, 1.0, NOW), Ok(9.0));
    }

    #[test]
    fn repeats_overlaps_and_nonsense_are_refused() {
        let mut states = states(9);
        add(&mut states, "a", 1, 10, 5.0, NOW).unwrap();
        assert_eq!(add(&mut states, "a", 1, 10, 5.0, NOW), Err("delta_out_of_order"));
        assert_eq!(add(&mut states, "a", 9, 20, 5.0, NOW), Err("delta_overlap"));
        assert_eq!(add(&mut states, "a", 30, 20, 5.0, NOW), Err("delta_span"));
        assert_eq!(add(&mut states, "a", 10, 20, f64::NAN, NOW), Err("delta_not_finite"));
        assert_eq!(add(&mut states, "a", 10, 20, 1.0, NOW), Ok(6.0));
    }

    #[test]
    fn a_rollback_lets_the_retry_in() {
        let mut states = states(9);
        add(&mut states, "a", 1, 10, 5.0, NOW).unwrap();
        states.commit();
        add(&mut states, "a", 10, 20, 2.0, NOW).unwrap();
        add(&mut states, "b", 10, 20, 2.0, NOW).unwrap();
        states.rollback();
        assert_eq!(states.len(), 1);
        assert_eq!(add(&mut states, "a", 10, 20, 2.0, NOW), Ok(7.0));
    }

    #[test]
    fn streams_are_bounded_and_expire() {
        let mut states = states(1);
        add(&mut states, "a", 1, 10, 5.0, NOW).unwrap();
        assert_eq!(add(&mut states, "b", 1, 10, 5.0, NOW), Err("too_many_delta_series"));
        let later = Timestamp(NOW.0 + 10_000);
        assert_eq!(add(&mut states, "b", 1, 10, 5.0, later), Ok(5.0));
        assert_eq!(states.len(), 1);
    }

    #[test]
    fn histograms_add_up_until_the_bounds_change() {
        let mut states = states(9);
        let delta = |bound| HistogramTotal { bounds: vec![bound], counts: vec![1, 2], count: 3, sum: Some(4.0) };
        states.add_histogram(labels("h"), Span { start: 0, end: 1 }, delta(1.0), NOW).unwrap();
        let two = states.add_histogram(labels("h"), Span { start: 1, end: 2 }, delta(1.0), NOW).unwrap();
        assert_eq!((two.counts, two.count, two.sum), (vec![2, 4], 6, Some(8.0)));
        let anew = states.add_histogram(labels("h"), Span { start: 2, end: 3 }, delta(2.0), NOW).unwrap();
        assert_eq!(anew, delta(2.0));
    }
}
