//! Aggregations over labels, group by group over all steps.

use std::collections::HashMap;
use std::sync::Arc;

use model::Labels;
use rayon::prelude::*;

use super::Evaluator;
use super::fold::Fold;
use super::heap::Heap;
use super::label;
use super::over_time::{Note, combine};
use super::window::mixed_schemas;
use crate::error::{Error, Result};
use crate::histogram::Histogram;
use crate::notes::Notes;
use crate::number::{format_float, format_short, quantile};
use crate::parse::ast::{Aggregate, AggregateOp, ExprKind, Span};
use crate::parse::text::quote;
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
    let present: Vec<usize> = group.members.iter().copied().filter(|member| vector[*member].has(i)).collect();
    let points: Vec<Point> = present.iter().filter_map(|member| vector[*member].get(i)).collect();
    if points.is_empty() {
        return None;
    }
    match op {
        AggregateOp::Sum | AggregateOp::Avg => {
            sum_points(op, &points, |place| vector[present[place]].labels.metric_name(), span, notes)
        }
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

/// Adds or averages the samples of a step; `name_of` tells the metric of one of them.
fn sum_points<'a>(
    op: AggregateOp,
    points: &[Point],
    name_of: impl Fn(usize) -> &'a str,
    span: Span,
    notes: &Notes,
) -> Option<Point> {
    let floats: Vec<f64> = points.iter().filter_map(float_of).collect();
    if floats.len() == points.len() {
        let value = if op == AggregateOp::Sum {
            super::window::total(floats.into_iter())
        } else {
            super::window::mean(floats.into_iter())
        };
        return Some(Point::Float(value));
    }
    let histograms = join_points(points, name_of, span, notes);
    let seen = match histograms {
        Joined::Incompatible => return None,
        Joined::Mixed => {
            notes.warn(span, "encountered a mix of histograms and floats for aggregation");
            return None;
        }
        Joined::Histograms(seen) => seen,
    };
    let combined = combine(&seen, op == AggregateOp::Avg, |note| {
        if note == Note::Resets {
            notes.warn(span, "conflicting counter resets during histogram aggregation");
        }
    });
    combined.map(|sum| Point::Histogram(Arc::new(sum)))
}

/// What the samples of a step are together.
enum Joined<'a> {
    /// Histograms that go together.
    Histograms(Vec<&'a Histogram>),
    /// Floats and histograms.
    Mixed,
    /// Exponential and custom buckets.
    Incompatible,
}

/// Looks at the samples one after another, as Prometheus adds them up: what does not go with those before ends it, so that
/// it depends on the order what is found to be odd.
fn join_points<'a, 'n>(
    points: &'a [Point],
    name_of: impl Fn(usize) -> &'n str,
    span: Span,
    notes: &Notes,
) -> Joined<'a> {
    let mut seen: Vec<&Histogram> = Vec::with_capacity(points.len());
    let mut bounds: Option<Arc<[f64]>> = None;
    let (mut has_floats, mut has_histograms, mut fits) = (false, false, true);
    for (place, point) in points.iter().enumerate() {
        let Point::Histogram(histogram) = point else {
            has_floats = true;
            continue;
        };
        has_histograms = true;
        if place > 0 && seen.is_empty() {
            // The first was a number, so nothing is added up.
            continue;
        }
        if let Some(first) = seen.first() {
            if first.is_custom() != histogram.is_custom() {
                notes.warn(span, mixed_schemas(&quote(name_of(place))));
                fits = false;
                break;
            }
            if let Some(before) = bounds.as_ref().filter(|before| ***before != *histogram.custom) {
                notes.info(span, "mismatched custom buckets were reconciled during aggregation");
                bounds = Some(before.iter().copied().filter(|bound| histogram.custom.contains(bound)).collect());
            }
        } else {
            bounds = Some(Arc::clone(&histogram.custom));
        }
        seen.push(histogram);
    }
    match (has_floats && has_histograms, fits) {
        (true, _) => Joined::Mixed,
        (false, false) => Joined::Incompatible,
        (false, true) => Joined::Histograms(seen),
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate, span: Span, grid: &Grid) -> Result<Vec<Series>> {
        let steps = grid.len();
        let params = match &aggregate.param {
            Some(param) if aggregate.op != AggregateOp::CountValues => self.scalar(param, grid)?,
            _ => Vec::new(),
        };
        if let Some(folded) = self.fold(aggregate, grid)? {
            return Ok(folded);
        }
        let vector = self.vector(&aggregate.expr, grid)?;
        let param_span = aggregate.param.as_ref().map_or(span, |param| param.unparen().span);
        if !self.check_param(aggregate.op, &params, param_span)? {
            self.release_columns(&vector, steps);
            return Ok(Vec::new());
        }
        let groups = groups(&vector, &aggregate.grouping, aggregate.without);
        let inner = aggregate.expr.unparen().span;
        let result = match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                self.release_columns(&vector, steps);
                let picked = self.pick(aggregate.op, vector, &groups, &params, span);
                self.charge(picked.len(), steps)?;
                self.charge_histograms(&picked)?;
                return Ok(picked);
            }
            AggregateOp::Quantile => self.quantiles(&vector, &groups, &params, inner),
            AggregateOp::CountValues => {
                let Some(ExprKind::Text(label)) = aggregate.param.as_ref().map(|param| &param.unparen().kind) else {
                    return Err(Error::evaluation("expected a label name"));
                };
                label::check_name(label).map_err(|name| Error::evaluation(format!("invalid label name {name}")))?;
                self.count_values(&vector, aggregate, label, steps)?
            }
            op => reduce(op, &vector, &groups, inner, self.notes),
        };
        self.release_columns(&vector, steps);
        if aggregate.op != AggregateOp::CountValues {
            self.charge(result.len(), steps)?;
        }
        self.charge_histograms(&result)?;
        Ok(result)
    }

    /// Checks the parameter over all steps; says whether any step can have a result.
    fn check_param(&self, op: AggregateOp, values: &[f64], span: Span) -> Result<bool> {
        /// From here on numbers do not fit 64 bits.
        const WHOLE_MAX: f64 = 9_223_372_036_854_775_807.0;
        let has_nan = values.iter().any(|value| value.is_nan());
        let most = values.iter().copied().fold(f64::NEG_INFINITY, crate::number::max);
        let least = values.iter().copied().fold(f64::INFINITY, crate::number::min);
        match op {
            AggregateOp::Quantile => {
                let noted = [(has_nan, f64::NAN), (most > 1.0, most), (least < 0.0, least)];
                for (_, q) in noted.into_iter().filter(|(holds, _)| *holds) {
                    self.note_quantile(q, span);
                }
            }
            AggregateOp::LimitRatio => {
                if most == 0.0 && least == 0.0 {
                    return Ok(false);
                }
                if has_nan {
                    return Err(Error::evaluation("Ratio value is NaN"));
                }
                for (_, got, cap) in [(most > 1.0, most, 1), (least < -1.0, least, -1)].iter().filter(|one| one.0) {
                    let got = format_short(*got);
                    let text = format!("ratio value should be between -1 and 1, got {got}, capping to {cap}");
                    self.notes.warn(span, text);
                }
            }
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                if most < 1.0 {
                    return Ok(false);
                }
                if has_nan {
                    return Err(Error::evaluation("Parameter value is NaN"));
                }
                let overflow = |value: f64, how: &str| {
                    Err(Error::evaluation(format!("Scalar value {} {how}flows int64", format_short(value))))
                };
                if least <= -WHOLE_MAX {
                    return overflow(least, "under");
                }
                if most >= WHOLE_MAX {
                    return overflow(most, "over");
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`: keeps some samples of each group at each step.
    fn pick(&self, op: AggregateOp, vector: Vec<Series>, groups: &[Group], params: &[f64], span: Span) -> Vec<Series> {
        let steps = params.len();
        let mut kept = vec![vec![false; steps]; vector.len()];
        let mut order: Vec<usize> = Vec::with_capacity(vector.len());
        for group in groups {
            for (i, param) in params.iter().enumerate() {
                let picked = self.pick_step(op, &vector, group, *param, i, span);
                if steps == 1 {
                    order.extend(&picked);
                }
                for member in picked {
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

    /// Returns the members of a group that are kept at step `i`, in the order of an instant query's answer.
    fn pick_step(
        &self,
        op: AggregateOp,
        vector: &[Series],
        group: &Group,
        param: f64,
        i: usize,
        span: Span,
    ) -> Vec<usize> {
        let present = group.members.iter().copied().filter(|member| vector[*member].has(i));
        if op == AggregateOp::LimitRatio {
            let mut heap = Heap::new(true);
            for member in present.filter(|member| param != 0.0 && in_ratio(&vector[*member].labels, param)) {
                heap.push(floats_or_zero(&vector[member], i), member);
            }
            return heap.places();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
        let most = param.max(0.0) as usize;
        let mut heap = Heap::new(op != AggregateOp::Bottomk);
        if most == 0 {
            return Vec::new();
        }
        for member in present {
            let value = vector[member].values[i];
            if op == AggregateOp::Limitk {
                if heap.len() < most {
                    heap.push(floats_or_zero(&vector[member], i), member);
                }
            } else if is_absent(value) {
                self.notes.info(span, ignored_histograms(op.as_str()));
            } else {
                heap.offer(value, member, most);
            }
        }
        if op == AggregateOp::Limitk { heap.places() } else { heap.sorted() }
    }

    fn count_values(&self, vector: &[Series], aggregate: &Aggregate, label: &str, steps: usize) -> Result<Vec<Series>> {
        // The label is set before the series are grouped, so that `without` may take it away again.
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without {
            grouping.push(label.to_owned());
        }
        let mut counts: Vec<Series> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for series in vector {
            for i in 0..steps {
                let text = match series.get(i) {
                    None => continue,
                    Some(Point::Float(value)) => format_float(value),
                    Some(Point::Histogram(histogram)) => histogram.to_string(),
                };
                let labelled = series.labels.to_builder().set(label, &text).build();
                let labels = group_labels(&labelled, &grouping, aggregate.without);
                let place = match places.get(&labels) {
                    Some(place) => *place,
                    None => {
                        // Before it is made: each different value has a column of its own.
                        self.context.check()?;
                        self.charge(1, steps)?;
                        self.charge_labels(&labels)?;
                        counts.push(Series::absent(labels.clone(), false, steps));
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

fn floats_or_zero(series: &Series, i: usize) -> f64 {
    if is_absent(series.values[i]) { 0.0 } else { series.values[i] }
}

/// Says whether `limit_ratio` keeps the series: its hash, as a share of all hashes, lies below the ratio, or above one
/// plus a negative ratio, so that `r` and `r - 1` are complements.
fn in_ratio(labels: &Labels, ratio: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    let share = hash_share(labels);
    if ratio >= 0.0 { share < ratio } else { share >= 1.0 + ratio }
}

/// Returns a number in [0, 1] that depends on the labels alone, the one that Prometheus takes: XXH64 of names and values,
/// each with its length before.
fn hash_share(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(256);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < u8::MAX => bytes.push(len),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend(text.len().to_le_bytes().into_iter().take(3));
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    #[expect(clippy::cast_precision_loss, reason = "as Prometheus rounds")]
    let share = xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_series_is_that_of_prometheus() {
        let share = |pairs: &[(&str, &str)]| hash_share(&Labels::from_pairs(pairs.iter().copied()));
        let long = "x".repeat(300);
        let check =
            |pairs: &[(&str, &str)], expected: f64| assert!((share(pairs) - expected).abs() < 1e-12, "{pairs:?}");
        check(&[], 0.9346749315317059);
        check(&[("__name__", "up")], 0.9251613065717192);
        check(&[("__name__", "up"), ("job", "a")], 0.6707049764675038);
        check(&[("a", &long)], 0.4500190390509748);
    }
}
