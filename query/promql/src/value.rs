//! Values over all steps of a query at once.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Labels, METRIC_NAME, is_stale, stale_marker};

use crate::error::{Error, Result};
use crate::histogram::Histogram;

/// The points in time of an evaluation: `start`, `start + step`, … up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// The first point in milliseconds.
    pub start_ms: i64,
    /// No point lies after this.
    pub end_ms: i64,
    /// The distance of the points; at least 1.
    pub step_ms: i64,
}

impl Grid {
    /// Returns the grid of one point.
    #[must_use]
    pub fn instant(at_ms: i64) -> Self {
        Self { start_ms: at_ms, end_ms: at_ms, step_ms: 1 }
    }

    /// Returns the number of points; 0 when the end lies before the start.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.end_ms < self.start_ms {
            return 0;
        }
        let span = i128::from(self.end_ms) - i128::from(self.start_ms);
        usize::try_from(span / i128::from(self.step_ms.max(1)) + 1).unwrap_or(usize::MAX)
    }

    /// Says whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end_ms < self.start_ms
    }

    /// Returns point `i`.
    #[must_use]
    pub fn at(&self, i: usize) -> i64 {
        let i = i64::try_from(i).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(self.step_ms.saturating_mul(i))
    }

    /// Iterates over the points.
    pub fn points(self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.len()).map(move |i| self.at(i))
    }
}

/// Marks a step without a sample in [`Series::values`]: the stale marker, which no sample in an answer can be.
pub const ABSENT: f64 = f64::from_bits(model::STALE_NAN_BITS);

/// Says whether a step has no float sample.
#[must_use]
pub fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// Native histograms by step.
pub type HistogramColumn = Vec<Option<Arc<Histogram>>>;

/// One series of an instant vector over all steps.
#[derive(Debug, Clone)]
pub struct Series {
    /// The labels, still with the name when it is to be dropped at the end.
    pub labels: Labels,
    /// Whether `__name__`, `__type__` and `__unit__` go at the end of the query.
    pub drop_name: bool,
    /// A value for each step, or [`ABSENT`].
    pub values: Vec<f64>,
    /// A native histogram for each step that has one, where any has. A step may have both where labels were changed, and
    /// the number counts.
    pub histograms: Option<HistogramColumn>,
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

impl Series {
    /// Returns a series without samples on `steps` steps.
    #[must_use]
    pub fn absent(labels: Labels, drop_name: bool, steps: usize) -> Self {
        Self { labels, drop_name, values: vec![stale_marker(); steps], histograms: None }
    }

    /// Returns the histogram at step `i`.
    #[must_use]
    pub fn histogram(&self, i: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref().and_then(|column| column.get(i)).and_then(Option::as_ref)
    }

    /// Returns the sample at step `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<Point> {
        match self.values.get(i) {
            Some(value) if !is_absent(*value) => Some(Point::Float(*value)),
            _ => self.histogram(i).map(|histogram| Point::Histogram(Arc::clone(histogram))),
        }
    }

    /// Says whether there is a sample at step `i`.
    #[must_use]
    pub fn has(&self, i: usize) -> bool {
        self.values.get(i).is_some_and(|value| !is_absent(*value)) || self.histogram(i).is_some()
    }

    /// Puts a sample, or none, at step `i`.
    pub fn set(&mut self, i: usize, point: Option<Point>) {
        let (value, histogram) = match point {
            None => (ABSENT, None),
            Some(Point::Float(value)) => (value, None),
            Some(Point::Histogram(histogram)) => (ABSENT, Some(histogram)),
        };
        self.values[i] = value;
        if histogram.is_some() || self.histograms.is_some() {
            let steps = self.values.len();
            self.histograms.get_or_insert_with(|| vec![None; steps])[i] = histogram;
        }
    }

    /// Returns what the column's histograms count as, beside its steps; one that stands for neighbouring steps counts once.
    pub(crate) fn histogram_cost(&self) -> u64 {
        let mut before: Option<&Arc<Histogram>> = None;
        let mut cost = 0;
        for histogram in self.histograms.iter().flatten().flatten() {
            if before.is_none_or(|before| !Arc::ptr_eq(before, histogram)) {
                cost += storage_api::histogram_cost(histogram);
            }
            before = Some(histogram);
        }
        cost
    }

    /// Says whether there is a number at step `i`, and whether there is a histogram.
    fn kinds_at(&self, i: usize) -> (bool, bool) {
        (self.values.get(i).is_some_and(|value| !is_absent(*value)), self.histogram(i).is_some())
    }

    /// Takes over the samples of another series, whose labels it has.
    fn take_over(&mut self, other: Self) {
        for (mine, value) in self.values.iter_mut().zip(&other.values) {
            if !is_absent(*value) {
                *mine = *value;
            }
        }
        let Some(histograms) = other.histograms else { return };
        let mine = self.histograms.get_or_insert_with(|| vec![None; other.values.len()]);
        for (mine, histogram) in mine.iter_mut().zip(histograms) {
            if histogram.is_some() {
                *mine = histogram;
            }
        }
    }

    /// Leaves of a number and a histogram at the same step only the histogram.
    pub(crate) fn prefer_histograms(&mut self) {
        for (value, histogram) in self.values.iter_mut().zip(self.histograms.iter().flatten()) {
            if histogram.is_some() {
                *value = ABSENT;
            }
        }
    }

    /// Says whether no step has a sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_absent(*value))
            && self.histograms.as_ref().is_none_or(|column| column.iter().all(Option::is_none))
    }
}

/// Samples of one series at their own times: what a range selector or a subquery gives.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// The labels.
    pub labels: Labels,
    /// As [`Series::drop_name`].
    pub drop_name: bool,
    /// Milliseconds, ascending.
    pub timestamps_ms: Vec<i64>,
    /// As many values; anything where there is a histogram.
    pub values: Vec<f64>,
    /// As many histograms, where any sample is one.
    pub histograms: Option<HistogramColumn>,
    /// As many start timestamps, where they are known; 0 for none.
    pub starts_ms: Option<Vec<i64>>,
}

impl Samples {
    /// Returns what the store charged the query for them.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let histograms = self.histograms.iter().flatten().flatten();
        self.values.len() as u64 + histograms.map(|histogram| storage_api::histogram_cost(histogram)).sum::<u64>()
    }

    /// Returns sample `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> Point {
        match self.histograms.as_ref().and_then(|column| column[i].as_ref()) {
            Some(histogram) => Point::Histogram(Arc::clone(histogram)),
            None => Point::Float(self.values[i]),
        }
    }
}

/// What an expression gives.
#[derive(Debug, Clone)]
pub enum Value {
    /// A number for each step.
    Scalar(Vec<f64>),
    /// Series over all steps.
    Vector(Vec<Series>),
    /// A window of samples for each series; only an instant query has it as its answer.
    Matrix(Vec<Samples>),
    /// A text.
    Text(String),
}

/// Returns the set without the labels that describe the metric: name, type, unit.
#[must_use]
pub fn without_metadata(labels: &Labels) -> Labels {
    labels.filtered(|name| !matches!(name, METRIC_NAME | "__type__" | "__unit__"))
}

/// Which samples of series with the same labels stand in each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Uniting {
    /// Any two at one step.
    #[default]
    Strict,
    /// Two numbers or two histograms at one step; a number beside a histogram stays, as in Prometheus.
    ByKind,
    /// None: as long as there is one step only, nothing is united before the query's end.
    Later,
}

/// Unites series with the same labels whose samples lie at different steps.
///
/// Series whose name is to be dropped stay apart from those whose name stays, so that a step's labels do not depend on
/// other steps.
#[derive(Debug, Default)]
pub struct Merger {
    how: Uniting,
    /// Where the series with these labels is: with its name, and with its name to be dropped.
    places: HashMap<Labels, [Option<usize>; 2]>,
    series: Vec<Series>,
}

impl Merger {
    /// Returns a merger of what an operator or a function gives on `steps` steps.
    #[must_use]
    pub(crate) fn of_steps(steps: usize) -> Self {
        let how = if steps == 1 { Uniting::Later } else { Uniting::Strict };
        Self { how, ..Self::default() }
    }

    /// Returns a merger of series whose labels were changed, which lets a number stand beside a histogram.
    #[must_use]
    pub(crate) fn by_kind() -> Self {
        Self { how: Uniting::ByKind, ..Self::default() }
    }

    /// Adds a series.
    ///
    /// # Errors
    /// When a series with the same labels has a sample at the same step.
    pub fn push(&mut self, series: Series) -> Result<()> {
        if self.how == Uniting::Later {
            self.series.push(series);
            return Ok(());
        }
        let by_kind = self.how == Uniting::ByKind;
        let places = self.places.entry(series.labels.clone()).or_default();
        for place in places.iter().flatten() {
            let have = &self.series[*place];
            let collides = |i: usize| match (series.kinds_at(i), have.kinds_at(i)) {
                ((float, histogram), (have_float, have_histogram)) if by_kind => {
                    (float && have_float) || (histogram && have_histogram)
                }
                _ => series.has(i) && have.has(i),
            };
            if (0..series.values.len()).any(collides) {
                return Err(Error::evaluation("vector cannot contain metrics with the same labelset"));
            }
        }
        let place = &mut places[usize::from(series.drop_name)];
        match *place {
            None => {
                *place = Some(self.series.len());
                self.series.push(series);
            }
            Some(place) => {
                self.series[place].take_over(series);
            }
        }
        Ok(())
    }

    /// Returns the series in the order in which they first came.
    #[must_use]
    pub fn finish(self) -> Vec<Series> {
        self.series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_counts_both_ends() {
        let grid = Grid { start_ms: 0, end_ms: 25, step_ms: 10 };
        assert_eq!(grid.points().collect::<Vec<_>>(), vec![0, 10, 20]);
        assert_eq!(Grid { start_ms: 1, end_ms: 0, step_ms: 10 }.len(), 0);
        assert_eq!(Grid { start_ms: i64::MIN, end_ms: i64::MAX, step_ms: 1 }.len(), usize::MAX);
    }
}
