//! Subqueries: an expression on a grid of its own, as samples for windows.

use std::sync::Arc;

use super::select::{Reach, to_samples};
use super::{Buckets, Evaluator, StepTally};
use crate::error::{Error, Result};
use crate::histogram::{Histogram, ResetHint};
use crate::parse::ast::Subquery;
use crate::value::{Grid, Samples, Series};

/// Most points that a subquery evaluates per series; as many as a second-by-second week.
const POINTS_MAX: usize = 604_800;

impl Evaluator<'_> {
    /// Evaluates the inner expression at every multiple of the step that any window takes in. Returns the samples, how
    /// far each window reaches back, and where the windows end.
    pub(super) fn subquery(&self, subquery: &Subquery, grid: &Grid) -> Result<(Vec<Samples>, i64, Reach)> {
        let range_ms = self.positive_ms(&subquery.range)?;
        let step_ms = match &subquery.step {
            Some(step) => self.positive_ms(step)?.max(1),
            None => self.query.options.subquery_step_ms,
        };
        let offset_ms = self.offset_ms(subquery.offset.as_ref())?;
        let reach = Reach { grid: *grid, at_ms: self.at_ms(subquery.at), offset_ms };
        let (first, last) = reach.ends();
        // Windows are open on the left: a point exactly at the border is not needed.
        let start = first.saturating_sub(range_ms);
        let aligned = start.div_euclid(step_ms).saturating_add(1).saturating_mul(step_ms);
        let inner = Grid { start_ms: aligned, end_ms: last, step_ms };
        if inner.is_empty() {
            return Ok((Vec::new(), range_ms, reach));
        }
        if inner.len() > POINTS_MAX {
            return Err(Error::evaluation(format!(
                "the subquery would evaluate {} points per series, the limit is {POINTS_MAX}",
                inner.len()
            )));
        }
        let tally = self.tally.map(|_| StepTally::new(inner.len()));
        let series =
            Evaluator { tally: tally.as_ref(), buckets: Buckets::Needed, ..*self }.vector(&subquery.expr, &inner)?;
        if let (Some(outer), Some(inner)) = (self.tally, tally) {
            outer.add_to_last(inner.total());
        }
        let (count, histograms) = (series.len(), series.iter().map(Series::histogram_cost).sum());
        let samples = series.into_iter().map(|one| forget_resets(to_samples(one, &inner)));
        let samples = samples.filter(|one| !one.values.is_empty());
        let samples: Vec<Samples> = samples.collect();
        self.release(count, inner.len());
        self.context.release_samples(histograms);
        self.context.charge_samples(samples.iter().map(Samples::cost).sum())?;
        Ok((samples, range_ms, reach))
    }
}

/// Takes back what is said of counter resets: the points of a subquery are not those for which it was said.
fn forget_resets(mut samples: Samples) -> Samples {
    for histogram in samples.histograms.iter_mut().flatten().flatten() {
        if matches!(histogram.hint, ResetHint::Reset | ResetHint::NotReset) {
            *histogram = Arc::new(Histogram { hint: ResetHint::Unknown, ..histogram.as_ref().clone() });
        }
    }
    samples
}
