//! Evaluates a tree over all steps at once, node by node; series are read and computed part by part in parallel.

pub mod aggregate;
pub mod binary;
mod call;
mod classic;
pub mod elementwise;
mod extended;
mod fold;
mod heap;
mod info;
mod label;
mod over_time;
mod rate;
mod select;
mod slide;
mod subquery;
mod tally;
pub(crate) mod time;
mod trim;
pub(crate) mod window;

use model::Labels;
use storage_api::QueryContext;

use crate::error::{Error, Result};
use crate::notes::Notes;
use crate::parse::ast::{At, Duration, Expr, ExprKind, Selector, ValueType};
use crate::source::Source;
use crate::value::{Grid, Merger, Series, Value, without_metadata};

pub use tally::StepTally;

/// What a query may be told beside expression and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How old a sample may be and still stand for a step, in milliseconds.
    pub lookback_ms: i64,
    /// The step of a subquery that names none, in milliseconds.
    pub subquery_step_ms: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { lookback_ms: 300_000, subquery_step_ms: 60_000 }
    }
}

/// What a query gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The value; vectors hold no series without samples and no two with the same labels.
    pub value: Value,
    /// The steps that the value's columns stand for.
    pub grid: Grid,
    /// Sentences that say why the answer may not be what was meant.
    pub warnings: Vec<String>,
    /// Sentences that help to write a better query.
    pub infos: Vec<String>,
}

/// A query: a tree, the text it was read from, and where to evaluate it.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The tree.
    pub expr: &'a Expr,
    /// Its text, for the places in warnings.
    pub text: &'a str,
    /// The points in time.
    pub grid: Grid,
    /// Whether it is a range query, even with one step: then vectors come in label order.
    pub is_range: bool,
    /// Lookback and default step.
    pub options: Options,
}

/// Evaluates a query. Parallel work runs in the `rayon` pool of the calling thread.
///
/// # Errors
/// [`Error::Evaluation`] in Prometheus' words; limits, cancellation and I/O as [`Error::Storage`].
pub fn evaluate(query: &Query<'_>, source: &dyn Source, context: &QueryContext) -> Result<Answer> {
    evaluate_counted(query, source, context, None)
}

/// As [`evaluate`], and counts the samples that each step of the query's grid looks at.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_counted(
    query: &Query<'_>,
    source: &dyn Source,
    context: &QueryContext,
    tally: Option<&StepTally>,
) -> Result<Answer> {
    let found = query.expr.value_type();
    if query.is_range && !matches!(found, ValueType::Scalar | ValueType::Vector) {
        return Err(Error::evaluation(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            found.as_str()
        )));
    }
    let notes = Notes::default();
    let evaluator =
        Evaluator { source, context, query: *query, notes: &notes, buckets: Buckets::Kept, taker: None, tally };
    evaluator.check_durations(query.expr)?;
    let value = match found {
        ValueType::Matrix => Value::Matrix(evaluator.matrix(query.expr, &query.grid)?),
        _ => evaluator.eval(query.expr, &query.grid)?,
    };
    let value = evaluator.finish(value)?;
    let (mut warnings, infos) = notes.finish(query.text);
    warnings.splice(0..0, context.take_warnings());
    Ok(Answer { value, grid: query.grid, warnings, infos })
}

/// What becomes of the buckets of histograms in selectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buckets {
    /// They are kept.
    Kept,
    /// Only counts and sums are looked at, as under `histogram_count`: resets are found, then the buckets go.
    Skipped,
    /// They are kept whatever is below: in subqueries, under what cuts histograms or looks into them.
    Needed,
}

impl Buckets {
    fn unless_needed(self, other: Self) -> Self {
        if self == Self::Needed { self } else { other }
    }
}

/// One evaluation.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    source: &'a dyn Source,
    context: &'a QueryContext,
    query: Query<'a>,
    notes: &'a Notes,
    /// Whether selectors may leave the buckets of histograms away.
    buckets: Buckets,
    /// Who takes the series of the selector that is evaluated next, where they are not to be held all at once.
    taker: Option<&'a fold::Taker<'a>>,
    /// Who counts samples by step of the grid that is evaluated next.
    tally: Option<&'a StepTally>,
}

impl Evaluator<'_> {
    /// Evaluates a node on `grid`.
    pub(crate) fn eval(&self, expr: &Expr, grid: &Grid) -> Result<Value> {
        self.context.check()?;
        if grid.len() > 1 && !matches!(expr.kind, ExprKind::Number(_) | ExprKind::Text(_)) && is_invariant(expr) {
            let once = Grid { end_ms: grid.start_ms, ..*grid };
            let tally = self.tally.map(|_| StepTally::new(1));
            let value = Evaluator { tally: tally.as_ref(), ..*self }.eval(expr, &once)?;
            if let (Some(all), Some(one)) = (self.tally, tally) {
                all.add_to_all(one.total());
            }
            return self.broadcast(value, grid.len());
        }
        match &expr.kind {
            ExprKind::Number(number) => Ok(Value::Scalar(vec![number.value; grid.len()])),
            ExprKind::Text(text) => Ok(Value::Text(text.clone())),
            ExprKind::Selector(selector) => Ok(Value::Vector(self.select(selector, expr.span, grid)?)),
            ExprKind::Range(..) | ExprKind::Subquery(_) => Ok(Value::Matrix(self.matrix(expr, grid)?)),
            ExprKind::Call(function, args) => self.call(expr, function, args, grid),
            ExprKind::Aggregate(aggregate) => Ok(Value::Vector(self.aggregate(aggregate, expr.span, grid)?)),
            ExprKind::Binary(binary) => self.binary(binary, expr.span, grid),
            ExprKind::Unary(negative, inner) => {
                let value = self.eval(inner, grid)?;
                Ok(if *negative { elementwise::negate(value) } else { value })
            }
            ExprKind::Paren(inner) => self.eval(inner, grid),
        }
    }

    /// Evaluates a node that gives an instant vector.
    pub(crate) fn vector(&self, expr: &Expr, grid: &Grid) -> Result<Vec<Series>> {
        match self.eval(expr, grid)? {
            Value::Vector(series) => Ok(series),
            _ => Err(Error::evaluation("expected an instant vector")),
        }
    }

    /// Evaluates a node that gives a scalar.
    pub(crate) fn scalar(&self, expr: &Expr, grid: &Grid) -> Result<Vec<f64>> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            _ => Err(Error::evaluation("expected a scalar")),
        }
    }

    /// Gives every step the sample of the one that was computed.
    fn broadcast(&self, value: Value, steps: usize) -> Result<Value> {
        Ok(match value {
            Value::Scalar(values) => Value::Scalar(vec![values.first().copied().unwrap_or(f64::NAN); steps]),
            Value::Vector(series) => {
                self.charge(series.len(), steps)?;
                let wide = |one: Series| {
                    let values = vec![one.values[0]; steps];
                    let histograms = one.histograms.map(|column| vec![column[0].clone(); steps]);
                    Series { values, histograms, ..one }
                };
                Value::Vector(series.into_iter().map(wide).collect())
            }
            other => other,
        })
    }

    /// Charges the query for `series` columns of `steps` samples.
    fn charge(&self, series: usize, steps: usize) -> Result<()> {
        Ok(self.context.charge_samples(series.saturating_mul(steps) as u64)?)
    }

    /// Charges the query for the histograms that columns hold beside numbers.
    fn charge_histograms(&self, columns: &[Series]) -> Result<()> {
        let cost = columns.iter().map(Series::histogram_cost).sum();
        if cost > 0 { Ok(self.context.charge_samples(cost)?) } else { Ok(()) }
    }

    /// Charges the query for the text of labels that it makes; they are held to its end.
    fn charge_labels(&self, labels: &Labels) -> Result<()> {
        Ok(self.context.charge_memory(labels.size_bytes() as u64)?)
    }

    /// Gives back what [`charge`](Self::charge) took for columns that are no longer needed.
    fn release(&self, series: usize, steps: usize) {
        self.context.release_samples(series.saturating_mul(steps) as u64);
    }

    /// Gives back what was charged for columns, their histograms included.
    fn release_columns(&self, columns: &[Series], steps: usize) {
        self.release(columns.len(), steps);
        self.context.release_samples(columns.iter().map(Series::histogram_cost).sum());
    }

    /// Returns a duration in milliseconds.
    fn duration_ms(&self, duration: &Duration) -> Result<i64> {
        #[expect(clippy::cast_precision_loss, reason = "steps and ranges are far below 2^52 ms")]
        let query = {
            let grid = &self.query.grid;
            // An instant query has no step; Prometheus takes the evaluation interval's smallest unit.
            let step = if self.query.is_range { grid.step_ms as f64 / 1000.0 } else { 0.0 };
            (step, (grid.end_ms - grid.start_ms) as f64 / 1000.0)
        };
        let seconds = duration.compute(Some(query)).map_err(Error::evaluation)?;
        if !seconds.is_finite() {
            return Err(Error::evaluation(duration.complain("duration is NaN or infinite")));
        }
        if seconds.abs() > crate::parse::SECONDS_MAX {
            return Err(Error::evaluation(duration.complain("duration is out of range")));
        }
        // A literal is rounded to nanoseconds first.
        #[expect(clippy::cast_possible_truncation, reason = "bounds were checked")]
        Ok(match duration.literal() {
            Some(_) => (seconds * 1e9).round() as i64 / 1_000_000,
            None => (seconds * 1000.0) as i64,
        })
    }

    /// Returns a duration that must be above zero; a literal below a millisecond is none.
    fn positive_ms(&self, duration: &Duration) -> Result<i64> {
        let ms = self.duration_ms(duration)?;
        if ms < 0 || (ms == 0 && duration.literal().is_none()) {
            return Err(Error::evaluation(duration.complain("duration must be greater than 0")));
        }
        Ok(ms)
    }

    /// Computes all durations before anything is read, so that a fault in one is told whatever else is wrong.
    fn check_durations(&self, expr: &Expr) -> Result<()> {
        let selector_offset = |selector: &Selector| self.offset_ms(selector.offset.as_ref());
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Text(_) => {}
            ExprKind::Selector(selector) => drop(selector_offset(selector)?),
            ExprKind::Range(selector, range) => {
                self.positive_ms(range)?;
                selector_offset(selector)?;
            }
            ExprKind::Subquery(subquery) => {
                self.offset_ms(subquery.offset.as_ref())?;
                for duration in subquery.step.iter().chain([&subquery.range]) {
                    self.positive_ms(duration)?;
                }
                self.check_durations(&subquery.expr)?;
            }
            ExprKind::Call(_, args) => args.iter().try_for_each(|arg| self.check_durations(arg))?,
            ExprKind::Aggregate(aggregate) => {
                self.check_durations(&aggregate.expr)?;
                aggregate.param.iter().try_for_each(|param| self.check_durations(param))?;
            }
            ExprKind::Binary(binary) => {
                self.check_durations(&binary.lhs)?;
                self.check_durations(&binary.rhs)?;
            }
            ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => self.check_durations(inner)?,
        }
        Ok(())
    }

    fn offset_ms(&self, offset: Option<&Duration>) -> Result<i64> {
        offset.map_or(Ok(0), |offset| self.duration_ms(offset))
    }

    fn at_ms(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(ms) => ms,
            At::Start => self.query.grid.start_ms,
            At::End => self.query.grid.end_ms,
        })
    }

    /// Drops names that are to go, unites what then has the same labels, and leaves out empty series.
    fn finish(&self, value: Value) -> Result<Value> {
        Ok(match value {
            Value::Vector(series) => {
                let mut merger = Merger::by_kind();
                for mut one in series {
                    if one.is_empty() {
                        continue;
                    }
                    if one.drop_name {
                        one.labels = without_metadata(&one.labels);
                        one.drop_name = false;
                    }
                    merger.push(one)?;
                }
                let mut series = merger.finish();
                if !self.query.is_range {
                    series.iter_mut().for_each(Series::prefer_histograms);
                }
                if self.query.is_range {
                    series.sort_by(|a, b| a.labels.cmp(&b.labels));
                }
                Value::Vector(series)
            }
            Value::Matrix(mut all) => {
                all.sort_by(|a, b| a.labels.cmp(&b.labels));
                Value::Matrix(all)
            }
            other => other,
        })
    }
}

/// Says whether the value is the same at every step.
pub(crate) fn is_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Text(_) => true,
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => selector.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.at.is_some(),
        ExprKind::Call(function, args) => {
            // The times of samples are the same at every step, those of computed values are not.
            let of_samples = function.name == "timestamp"
                && args.iter().all(|arg| matches!(arg.unparen().kind, ExprKind::Selector(_)));
            let by_time =
                matches!(function.name, "time" | "timestamp" | "predict_linear") || time::find(function.name).is_some();
            (of_samples || !by_time) && args.iter().all(is_invariant)
        }
        // As in Prometheus, whatever the parameter is: it is evaluated once with the rest.
        ExprKind::Aggregate(one) => is_invariant(&one.expr),
        ExprKind::Binary(binary) => is_invariant(&binary.lhs) && is_invariant(&binary.rhs),
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => is_invariant(inner),
    }
}

#[cfg(test)]
mod tests;
