//! Aggregations that look at each series once: columns are added as they are read, and dropped, so that a query holds
//! its groups and not its series.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use model::{Labels, stale_marker};
use parking_lot::Mutex;
use rayon::prelude::*;

use super::aggregate::group_labels;
use super::{Evaluator, StepTally};
use crate::error::{Error, Result};
use crate::notes::Notes;
use crate::number::{Mean, kahan_add};
use crate::parse::ast::{Aggregate, AggregateOp, Borders, Expr, ExprKind};
use crate::value::{Grid, Series, is_absent};

/// What a group's columns have come to so far; absent where no column had a sample.
#[derive(Debug)]
pub(super) struct Fold {
    op: AggregateOp,
    values: Vec<f64>,
    state: State,
}

/// What is kept beside the values.
#[derive(Debug)]
enum State {
    Nothing,
    Errors(Vec<f64>),
    Means(Vec<Mean>),
    Squares(Vec<Welford>),
}

impl Fold {
    /// Starts with no column; `None` for operations that look at all series of a step at once.
    pub(super) fn new(op: AggregateOp, steps: usize) -> Option<Self> {
        let state = match op {
            AggregateOp::Sum => State::Errors(vec![0.0; steps]),
            AggregateOp::Avg => State::Means(vec![Mean::default(); steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => State::Squares(vec![Welford::default(); steps]),
            AggregateOp::Count | AggregateOp::Group | AggregateOp::Min | AggregateOp::Max => State::Nothing,
            _ => return None,
        };
        Some(Self { op, values: vec![stale_marker(); steps], state })
    }

    /// Adds the samples of a series.
    pub(super) fn add(&mut self, column: &[f64]) {
        let present = self.values.iter_mut().zip(column).enumerate().filter(|(_, (_, value))| !is_absent(**value));
        match &mut self.state {
            State::Errors(errors) => {
                for (i, (have, value)) in present {
                    if is_absent(*have) {
                        *have = *value;
                    } else {
                        (*have, errors[i]) = kahan_add(*value, *have, errors[i]);
                    }
                }
            }
            State::Means(means) => {
                for (i, (have, value)) in present {
                    means[i].add(*value);
                    *have = 0.0;
                }
            }
            State::Squares(sums) => {
                for (i, (have, value)) in present {
                    sums[i].add(*value);
                    *have = 0.0;
                }
            }
            State::Nothing => match self.op {
                AggregateOp::Group => present.for_each(|(_, (have, _))| *have = 1.0),
                AggregateOp::Count => {
                    present.for_each(|(_, (have, _))| *have = if is_absent(*have) { 1.0 } else { *have + 1.0 });
                }
                op => {
                    for (_, (have, value)) in present {
                        let wins = if op == AggregateOp::Min { *value < *have } else { *value > *have };
                        if wins || have.is_nan() {
                            *have = *value;
                        }
                    }
                }
            },
        }
    }

    /// Returns the result for each step.
    pub(super) fn finish(self) -> Vec<f64> {
        let mut values = self.values;
        let present = values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value));
        match self.state {
            State::Nothing => {}
            State::Errors(errors) => {
                present.filter(|(_, value)| !value.is_infinite()).for_each(|(i, value)| *value += errors[i]);
            }
            State::Means(means) => present.for_each(|(i, value)| *value = means[i].get()),
            State::Squares(sums) => present.for_each(|(i, value)| {
                let variance = sums[i].variance();
                *value = if self.op == AggregateOp::Stddev { variance.sqrt() } else { variance };
            }),
        }
        values
    }
}

/// Mean and squared distances in one pass. Source: Welford 1962.
#[derive(Debug, Clone, Copy, Default)]
struct Welford {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Welford {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / self.count
    }
}

/// Takes series over as they are read, in label order.
pub(crate) type Taker<'a> = dyn Fn(Vec<Series>) -> Result<()> + Sync + 'a;

/// A group that is being folded.
struct FoldedGroup {
    labels: Labels,
    drop_name: bool,
    /// Taken out while columns are added to it.
    fold: Option<Fold>,
}

/// All groups, in the order in which they first came.
#[derive(Default)]
struct FoldedGroups {
    places: HashMap<Labels, usize>,
    groups: Vec<FoldedGroup>,
    /// A native histogram came: those are not folded.
    has_histograms: bool,
}

/// Says whether the expression's series come from a selector one by one, each from the samples of one stored series.
fn streams(expr: &Expr) -> bool {
    match &expr.unparen().kind {
        ExprKind::Selector(selector) => selector.at.is_none() && selector.borders == Borders::Plain,
        ExprKind::Call(function, args) => {
            let ranges = args.iter().filter_map(|arg| match &arg.unparen().kind {
                ExprKind::Range(selector, _) => Some(selector),
                _ => None,
            });
            function.name != "absent_over_time" && ranges.filter(|selector| selector.at.is_none()).count() == 1
        }
        _ => false,
    }
}

impl Evaluator<'_> {
    /// Aggregates while reading, where operation and operand allow it; `None` where they don't.
    pub(super) fn fold(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Option<Vec<Series>>> {
        let steps = grid.len();
        if !streams(&aggregate.expr) || Fold::new(aggregate.op, 0).is_none() {
            return Ok(None);
        }
        let folded = Mutex::new(FoldedGroups::default());
        let take = |series: Vec<Series>| {
            let taken = self.fold_batch(&mut folded.lock(), aggregate, steps, &series);
            self.release_columns(&series, steps);
            taken
        };
        // What is noted and counted on the way is worth nothing where it turns out that histograms are among the series.
        let (notes, tally) = (Notes::default(), self.tally.map(|_| StepTally::new(steps)));
        let reading = Evaluator { taker: Some(&take), notes: &notes, tally: tally.as_ref(), ..*self };
        let read = reading.vector(&aggregate.expr, grid);
        let folded = folded.into_inner();
        if folded.has_histograms {
            self.release(folded.groups.len(), steps);
            return Ok(None);
        }
        self.notes.append(notes);
        if let (Some(all), Some(tally)) = (self.tally, &tally) {
            all.append(tally);
        }
        read?;
        let finish = |group: FoldedGroup| Series {
            labels: group.labels,
            drop_name: group.drop_name,
            values: group.fold.map(Fold::finish).unwrap_or_default(),
            histograms: None,
        };
        Ok(Some(folded.groups.into_par_iter().map(finish).collect()))
    }

    /// Adds series to their groups, the groups side by side, the series of each in their order.
    fn fold_batch(&self, all: &mut FoldedGroups, aggregate: &Aggregate, steps: usize, series: &[Series]) -> Result<()> {
        if series.iter().any(|one| one.histograms.is_some()) {
            all.has_histograms = true;
            return Err(Error::evaluation("histograms are not folded"));
        }
        let mut members: Vec<(usize, &Series)> = Vec::with_capacity(series.len());
        for one in series {
            let labels = group_labels(&one.labels, &aggregate.grouping, aggregate.without);
            let place = match all.places.entry(labels) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    self.charge(1, steps)?;
                    let (labels, fold) = (entry.key().clone(), Fold::new(aggregate.op, steps));
                    all.groups.push(FoldedGroup { labels, drop_name: false, fold });
                    *entry.insert(all.groups.len() - 1)
                }
            };
            all.groups[place].drop_name |= one.drop_name;
            members.push((place, one));
        }
        // Stable: within a group the order stays, on which the last bits of a sum depend.
        members.sort_by_key(|(place, _)| *place);
        let by_group: Vec<_> = members.chunk_by(|a, b| a.0 == b.0).collect();
        let mut folds: Vec<_> = by_group.iter().map(|members| all.groups[members[0].0].fold.take()).collect();
        by_group.par_iter().zip(&mut folds).for_each(|(members, fold)| {
            if let Some(fold) = fold {
                members.iter().for_each(|(_, one)| fold.add(&one.values));
            }
        });
        for (members, fold) in by_group.iter().zip(folds) {
            all.groups[members[0].0].fold = fold;
        }
        Ok(())
    }
}
