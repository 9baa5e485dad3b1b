//! Aggregations over labels, group by group over all steps.

use std::collections::HashMap;
use std::sync::Arc;

use model::Labels;
use rayon::prelude::*;

use super::Evaluator;
use super::fold::Fold;
use super::label;
use super::over_time::{Note, combine};
use super::window::{mixed_floats, mixed_schemas};
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::notes::Notes;
use crate::number::{format_float, nan_first, quantile};
use crate::parse::ast::{Aggregate, AggregateOp, ExprKind, Span};
use crate::value::{ABSENT, Grid, Point, Series, is_absent, without_metadata};

/// The series of one group, by place in the input.
struct Group {
    labels: Labels,
    drop_name: bool,
    members: Vec<usize>,
}

/// Returns the labels that a group of `by (grouping)` or `without (grouping)` has.
#[must_use]
pub fn group_labels(labels: &Labels, grouping: &[String], without: bool) -> Labels {
    if without {
        let plain = without_metadata(labels);
        plain.filtered(|name| !grouping.iter().any(|other| other == name))
    } else {
        labels.filtered(|name| grouping.iter().any(|other| other == name))
    }
}

fn groups(vector: &[Series], grouping: &[String], without: bool) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (i, series) in vector.iter().enumerate() {
        let labels = group_labels(&series.labels, grouping, without);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            groups.push(Group { labels, drop_name: false, members: Vec::new() });
            groups.len() - 1
        });
        groups[place].drop_name |= series.drop_name;
        groups[place].members.push(i);
    }
    groups
}

/// Aggregates series over labels without a parameter: `sum`, `avg`, `count`, `min`, `max`, `group`, `stddev`, `stdvar`.
///
/// All series must have the same number of steps. Other operations give no series.
#[must_use]
pub fn aggregate(op: AggregateOp, vector: &[Series], grouping: &[String], without: bool) -> Vec<Series> {
    let notes = Notes::default();
    reduce(op, vector, &groups(vector, grouping, without), Span::default(), &notes)
}

fn reduce(op: AggregateOp, vector: &[Series], groups: &[Group], span: Span, notes: &Notes) -> Vec<Series> {
    let one = |group: &Group| {
        let steps = vector[group.members[0]].values.len();
        let mut result = Series::absent(group.labels.clone(), group.drop_name, steps);
        let plain = group.members.iter().all(|i| vector[*i].histograms.is_none());
        if plain {
            result.values = reduce_floats(op, group.members.iter().map(|i| vector[*i].values.as_slice()), steps);
        } else {
            for i in 0..steps {
                let point = reduce_mixed(op, vector, group, i, span, notes);
                result.set(i, point);
            }
        }
        result
    };
    groups.par_iter().map(one).filter(|series| !series.is_empty()).collect()
}

/// Aggregates floats, series after series, so that each column is read once.
fn reduce_floats<'a>(op: AggregateOp, columns: impl Iterator<Item = &'a [f64]>, steps: usize) -> Vec<f64> {
    let Some(mut fold) = Fold::new(op, steps) else { return vec![ABSENT; steps] };
    columns.for_each(|column| fold.add(column));
    fold.finish()
}

/// Aggregates one step of a group that may hold histograms.
fn reduce_mixed(
    op: AggregateOp,
    vector: &[Series],
    group: &Group,
    i: usize,
    span: Span,
    notes: &Notes,
) -> Option<Point> {
    let points: Vec<Point> = group.members.iter().filter_map(|member| vector[*member].get(i)).collect();
    if points.is_empty() {
        return None;
    }
    match op {
        AggregateOp::Sum | AggregateOp::Avg => sum_points(op, &points, span, notes),
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        AggregateOp::Count => Some(Point::Float(points.len() as f64)),
        AggregateOp::Group => Some(Point::Float(1.0)),
        _ => {
            let floats: Vec<f64> = points.iter().filter_map(float_of).collect();
            if floats.len() < points.len() {
                notes.info(span, ignored_histograms(op.as_str()));
            }
            if floats.is_empty() {
                return None;
            }
            reduce_floats(op, floats.chunks(1), 1).pop().map(Point::Float)
        }
    }
}

fn float_of(point: &Point) -> Option<f64> {
    match point {
        Point::Float(value) => Some(*value),
        Point::Histogram(_) => None,
    }
}

fn ignored_histograms(op: &str) -> String {
    format!("ignored histogram in {op} aggregation")
}

fn sum_points(op: AggregateOp, points: &[Point], span: Span, notes: &Notes) -> Option<Point> {
    let floats: Vec<f64> = points.iter().filter_map(float_of).collect();
    if floats.len() == points.len() {
        let value = if op == AggregateOp::Sum {
            super::window::total(floats.into_iter())
        } else {
            super::window::mean(floats.into_iter())
        };
        return Some(Point::Float(value));
    }
    if !floats.is_empty() {
        notes.warn(span, mixed_floats_in_aggregation());
        return None;
    }
    let histograms: Vec<&Arc<Histogram>> = points
        .iter()
        .filter_map(|point| match point {
            Point::Histogram(histogram) => Some(histogram),
            Point::Float(_) => None,
        })
        .collect();
    let histograms: Vec<&Histogram> = histograms.into_iter().map(Arc::as_ref).collect();
    let combined = combine(&histograms, op == AggregateOp::Avg, |note| match note {
        Note::Resets => notes.warn(span, "conflicting counter resets during histogram aggregation"),
        Note::Schemas => notes.warn(span, mixed_schemas("\"\"")),
        Note::Bounds => notes.info(span, "mismatched custom buckets were reconciled during aggregation"),
    });
    combined.map(|sum| Point::Histogram(Arc::new(sum)))
}

fn mixed_floats_in_aggregation() -> String {
    mixed_floats("\"\"").replace(" for metric name \"\"", " in aggregation")
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Vec<Series>> {
        let steps = grid.len();
        let params = match &aggregate.param {
            Some(param) if aggregate.op != AggregateOp::CountValues => {
                let values = self.scalar(param, grid)?;
                self.check_param(aggregate.op, &values, param.span)?;
                values
            }
            _ => Vec::new(),
        };
        if let Some(folded) = self.fold(aggregate, grid)? {
            return Ok(folded);
        }
        let vector = self.vector(&aggregate.expr, grid)?;
        let groups = groups(&vector, &aggregate.grouping, aggregate.without);
        let span = aggregate.expr.span;
        let result = match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                let count = vector.len();
                let picked = self.pick(aggregate.op, vector, &groups, &params, span);
                self.release(count - picked.len(), steps);
                return Ok(picked);
            }
            AggregateOp::Quantile => self.quantiles(&vector, &groups, &params, span),
            AggregateOp::CountValues => {
                let Some(ExprKind::Text(label)) = aggregate.param.as_ref().map(|param| &param.unparen().kind) else {
                    return Err(Error::evaluation("expected a label name"));
                };
                label::check_name(label).map_err(|name| Error::evaluation(format!("invalid label name {name}")))?;
                self.count_values(&vector, &groups, label)?
            }
            op => reduce(op, &vector, &groups, span, self.notes),
        };
        self.release(vector.len(), steps);
        if aggregate.op != AggregateOp::CountValues {
            self.charge(result.len(), steps)?;
        }
        Ok(result)
    }

    fn check_param(&self, op: AggregateOp, values: &[f64], span: Span) -> Result<()> {
        for value in values {
            match op {
                AggregateOp::Quantile => self.note_quantile(*value, span),
                AggregateOp::LimitRatio if value.is_nan() => return Err(Error::evaluation("Ratio value is NaN")),
                AggregateOp::LimitRatio if !(-1.0..=1.0).contains(value) => {
                    let (got, cap) = (format_float(*value), if *value > 0.0 { "1" } else { "-1" });
                    let text = format!("ratio value should be between -1 and 1, got {got}, capping to {cap}");
                    self.notes.warn(span, text);
                }
                AggregateOp::LimitRatio => {}
                _ if value.is_nan() => return Err(Error::evaluation("Parameter value is NaN")),
                _ if *value >= 9.223_372_036_854_775e18 || *value <= -9.223_372_036_854_775e18 => {
                    let (way, value) = if *value > 0.0 { ("over", value) } else { ("under", value) };
                    let text = format!("Scalar value {} {way}flows int64", format_float(*value));
                    return Err(Error::evaluation(text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`: keeps some samples of each group at each step.
    fn pick(&self, op: AggregateOp, vector: Vec<Series>, groups: &[Group], params: &[f64], span: Span) -> Vec<Series> {
        let steps = params.len();
        let mut kept = vec![vec![false; steps]; vector.len()];
        let mut order: Vec<usize> = Vec::with_capacity(vector.len());
        let top = op == AggregateOp::Topk;
        for group in groups {
            for (i, param) in params.iter().enumerate() {
                let mut present: Vec<usize> =
                    group.members.iter().copied().filter(|member| vector[*member].has(i)).collect();
                match op {
                    AggregateOp::LimitRatio => present.retain(|member| in_ratio(&vector[*member].labels, *param)),
                    _ => {
                        if !matches!(op, AggregateOp::Limitk) {
                            let before = present.len();
                            present.retain(|member| !is_absent(vector[*member].values[i]));
                            if present.len() < before {
                                self.notes.info(span, ignored_histograms(op.as_str()));
                            }
                            present.sort_by(|a, b| {
                                let (a, b) = (&vector[*a], &vector[*b]);
                                rank(a.values[i], b.values[i], top).then_with(|| a.labels.cmp(&b.labels))
                            });
                        }
                        #[expect(
                            clippy::cast_possible_truncation,
                            clippy::cast_sign_loss,
                            reason = "a cast saturates"
                        )]
                        present.truncate(param.max(0.0) as usize);
                    }
                }
                if steps == 1 {
                    order.extend(&present);
                }
                for member in present {
                    kept[member][i] = true;
                }
            }
        }
        let mut vector: Vec<Option<Series>> = vector.into_iter().map(Some).collect();
        if steps != 1 {
            order = (0..vector.len()).collect();
        }
        let mut picked = Vec::new();
        for place in order {
            let Some(mut series) = vector[place].take() else { continue };
            for (i, keep) in kept[place].iter().enumerate() {
                if !keep {
                    series.set(i, None);
                }
            }
            if !series.is_empty() {
                picked.push(series);
            }
        }
        picked
    }

    fn count_values(&self, vector: &[Series], groups: &[Group], label: &str) -> Result<Vec<Series>> {
        // The label may be one of the grouping's own: then values of several groups meet under the same labels.
        let mut counts: Vec<Series> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for group in groups {
            let steps = vector[group.members[0]].values.len();
            for (member, i) in group.members.iter().flat_map(|member| (0..steps).map(move |i| (*member, i))) {
                let text = match vector[member].get(i) {
                    None => continue,
                    Some(Point::Float(value)) => format_float(value),
                    Some(Point::Histogram(histogram)) => histogram.to_string(),
                };
                let labels = group.labels.to_builder().set(label, &text).build();
                let place = match places.get(&labels) {
                    Some(place) => *place,
                    None => {
                        // Before it is made: each different value has a column of its own.
                        self.context.check()?;
                        self.charge(1, steps)?;
                        let drop_name = group.drop_name && label != model::METRIC_NAME;
                        counts.push(Series::absent(labels.clone(), drop_name, steps));
                        places.insert(labels, counts.len() - 1);
                        counts.len() - 1
                    }
                };
                let count = &mut counts[place].values[i];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
        }
        Ok(counts)
    }

    fn quantiles(&self, vector: &[Series], groups: &[Group], params: &[f64], span: Span) -> Vec<Series> {
        let one = |group: &Group| {
            let mut result = Series::absent(group.labels.clone(), group.drop_name, params.len());
            for (i, q) in params.iter().enumerate() {
                let points: Vec<Point> = group.members.iter().filter_map(|member| vector[*member].get(i)).collect();
                let mut values: Vec<f64> = points.iter().filter_map(float_of).collect();
                if values.len() < points.len() {
                    self.notes.info(span, ignored_histograms("quantile"));
                }
                if !values.is_empty() {
                    result.values[i] = quantile(*q, &mut values);
                }
            }
            result
        };
        groups.par_iter().map(one).filter(|series| !series.is_empty()).collect()
    }
}

/// Orders the best first; NaN last.
fn rank(a: f64, b: f64, top: bool) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, _) | (_, true) => a.is_nan().cmp(&b.is_nan()),
        _ if top => nan_first(b, a),
        _ => nan_first(a, b),
    }
}

/// Says whether `limit_ratio` keeps the series: its hash, as a share of all hashes, lies below the ratio, or above one
/// plus a negative ratio, so that `r` and `r - 1` are complements.
fn in_ratio(labels: &Labels, ratio: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    let share = hash_share(labels);
    if ratio >= 0.0 { share < ratio } else { share >= 1.0 + ratio }
}

/// Returns a number in [0, 1) that depends on the labels alone: FNV-1a, mixed.
fn hash_share(labels: &Labels) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (name, value) in labels.iter() {
        for byte in name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    let share = (hash >> 11) as f64 / (1u64 << 53) as f64;
    share
}
