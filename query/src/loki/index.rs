//! `index/stats`, `index/volume` and `index/volume_range`: from what is kept beside the blocks, no row is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract;
use model::{Labels, Matcher, TimeRange, Timestamp};
use query_wire::loki::{IndexStats, MatrixSeries, Point, QueryResult, Response, VectorSample};
use storage_api::{LogCount, LogSelect, QueryContext};

use super::error::LokiError;
use super::params::{Params, SINCE_QUERY_NS};
use super::{Answer, State, encode, json_answer, json_bytes};

const MILLI_NS: i64 = 1_000_000;

/// Most buckets of a volume over a range.
const BUCKETS_MAX: usize = 11_000;

/// Tells how many streams, chunks, entries and bytes a selector finds.
pub(super) async fn stats(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let matchers = super::labels::required_selector(params.get("query"))?;
    let range = params.range(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let counts = logs.counts(&matchers, range, None, context)?;
        let streams: BTreeSet<&Labels> = counts.iter().map(|count| &count.stream).collect();
        let stats = IndexStats {
            streams: streams.len() as u64,
            entries: counts.iter().map(|count| count.records).sum(),
            bytes: counts.iter().map(|count| count.bytes).sum(),
            chunks: {
                let select =
                    LogSelect { matchers, range, needles: Vec::new(), with_metadata: false, without_lines: false };
                logs.select(&select, context)?.len() as u64
            },
        };
        json_bytes(&stats)
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

/// Bytes by labels.
pub(super) async fn volume(extract::State(state): extract::State<State>, params: Params) -> Answer {
    answer(state, &params, None).await
}

/// Bytes by labels and step.
pub(super) async fn volume_range(extract::State(state): extract::State<State>, params: Params) -> Answer {
    let (start, end) = params.bounds(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    let step = params.step(start, end)?;
    if step <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(LokiError::bad(message));
    }
    if i128::from(end) - i128::from(start) > i128::from(step) * BUCKETS_MAX as i128 {
        return Err(LokiError::bad(
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter",
        ));
    }
    answer(state, &params, Some(step)).await
}

/// What a volume is told by.
#[derive(Debug)]
struct By {
    matchers: Vec<Matcher>,
    /// The labels that count; none means those of the matchers, or all.
    targets: Vec<String>,
    /// Whether each label is told for itself, without its values.
    label_names: bool,
}

impl By {
    fn new(params: &Params) -> Result<Self, LokiError> {
        let matchers = super::labels::selector(params.get("query"))?;
        let targets: Vec<String> = params
            .get("targetLabels")
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let label_names = match params.get("aggregateBy") {
            "" | "series" => false,
            "labels" => true,
            _ => return Err(LokiError::bad("invalid aggregation option")),
        };
        Ok(Self { matchers, targets, label_names })
    }

    /// Returns what a stream's bytes count for.
    fn groups(&self, stream: &Labels) -> Vec<Labels> {
        let wanted = |name: &str| match self.targets.is_empty() {
            true => self.matchers.is_empty() || self.matchers.iter().any(|matcher| matcher.name == name),
            false => self.targets.iter().any(|target| target == name),
        };
        if self.label_names {
            let all = self.targets.is_empty();
            let names = stream.iter().filter(|(name, _)| all || wanted(name));
            return names.map(|(name, _)| Labels::from_sorted([(name, "")])).collect();
        }
        let labels = stream.filtered(wanted);
        // A stream without any of the target labels counts for nothing.
        if labels.is_empty() { Vec::new() } else { vec![labels] }
    }
}

/// Returns the time that a step's volume is told at: its last millisecond, or the end of the range.
fn stamp(step_start: i64, step: i64, end: i64) -> i64 {
    let step_end = step_start.saturating_add(step);
    if step_end >= end { end } else { step_end.saturating_sub(MILLI_NS).max(step_start) }
}

async fn answer(state: State, params: &Params, step: Option<i64>) -> Answer {
    let by = By::new(params)?;
    // None of them is as many as usual.
    let limit = if params.get("limit") == "0" { Params::default().limit()? } else { params.limit()? };
    let (start, end) = params.bounds(state.services.clock.now_nanos(), SINCE_QUERY_NS)?;
    let range = TimeRange::new(Timestamp(start), Timestamp(end.saturating_add(1)));
    let logs = Arc::clone(&state.services.logs);
    let work = move |context: &QueryContext| {
        let counts = logs.counts(&by.matchers, range, step, context)?;
        let bucket = |count: &LogCount| step.map_or(end, |step| stamp(count.step.0, step, end));
        let mut volumes: BTreeMap<Labels, BTreeMap<i64, u64>> = BTreeMap::new();
        for count in &counts {
            for labels in by.groups(&count.stream) {
                *volumes.entry(labels).or_default().entry(bucket(count)).or_default() += count.bytes;
            }
        }
        let mut volumes: Vec<(Labels, BTreeMap<i64, u64>)> = volumes.into_iter().collect();
        let total = |buckets: &BTreeMap<i64, u64>| buckets.values().sum::<u64>();
        volumes.sort_by(|a, b| total(&b.1).cmp(&total(&a.1)).then_with(|| a.0.cmp(&b.0)));
        volumes.truncate(limit);
        #[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
        let point = |(at, bytes): (i64, u64)| Point { timestamp_ms: at.div_euclid(1_000_000), value: bytes as f64 };
        let result = if step.is_some() {
            let series = |(labels, buckets): (Labels, BTreeMap<i64, u64>)| MatrixSeries {
                metric: encode::label_map(&labels),
                values: buckets.into_iter().map(point).collect(),
            };
            QueryResult::Matrix(volumes.into_iter().map(series).collect())
        } else {
            let sample = |(labels, buckets): (Labels, BTreeMap<i64, u64>)| VectorSample {
                metric: encode::label_map(&labels),
                value: point((end, total(&buckets))),
            };
            QueryResult::Vector(volumes.into_iter().map(sample).collect())
        };
        json_bytes(&Response::success(encode::data(result, false, context)).with_warnings(context.take_warnings()))
    };
    state.services.run(state.services.context(), work).await?.map(json_answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_volume_is_told_at_its_end() {
        let second = 1_000_000_000;
        assert_eq!(stamp(0, 600 * second, 1_200 * second), 600 * second - MILLI_NS);
        assert_eq!(stamp(600 * second, 600 * second, 1_200 * second), 1_200 * second);
        assert_eq!(stamp(600 * second, 600 * second, 700 * second), 700 * second);
        assert_eq!(stamp(5, 1, 100), 5);
    }
}
