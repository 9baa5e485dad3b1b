//! What a query cost, where `stats` asks for it.

use std::time::Duration;

use query_promql::{Grid, StepTally};
use serde_json::{Value, json};

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Totals.
    Totals,
    /// Totals, and samples by step.
    Steps,
}

impl Wanted {
    /// Reads the parameter; also gives the warning about a value that is only understood for now.
    pub(super) fn read(text: &str) -> (Option<Self>, Option<String>) {
        match text {
            "" => (None, None),
            "true" => (Some(Self::Totals), None),
            "all" => (Some(Self::Steps), None),
            other => {
                let warning = format!(
                    "value {other:?} for parameter \"stats\" is deprecated and will be rejected in the next major \
                     release, use \"true\" or \"all\""
                );
                (Some(Self::Totals), Some(warning))
            }
        }
    }
}

/// When a query was waiting for its turn, when it was read, and when it was done, since it came in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) started: Duration,
    pub(super) parsed: Duration,
    pub(super) done: Duration,
}

/// Returns the `stats` of an answer.
pub(super) fn to_json(wanted: Wanted, times: Times, grid: &Grid, tally: &StepTally, samples_peak: u64) -> Value {
    let seconds = |duration: Duration| duration.as_secs_f64();
    let evaluation = times.done.saturating_sub(times.parsed);
    let mut samples = json!({ "totalQueryableSamples": tally.total(), "peakSamples": samples_peak });
    if wanted == Wanted::Steps {
        #[expect(clippy::cast_precision_loss, reason = "exact for the milliseconds of 285,000 years")]
        let step = |(at, count): (i64, u64)| json!([at as f64 / 1000.0, count]);
        samples["totalQueryableSamplesPerStep"] = grid.points().zip(tally.counts()).map(step).collect();
    }
    json!({
        "timings": {
            "evalTotalTime": seconds(times.done.saturating_sub(times.started)),
            // Series are in order as they are read.
            "resultSortTime": 0,
            "queryPreparationTime": seconds(times.parsed.saturating_sub(times.started)),
            "innerEvalTime": seconds(evaluation),
            "execQueueTime": seconds(times.started),
            "execTotalTime": seconds(times.done),
        },
        "samples": samples,
    })
}
