//! Binary operators: scalars, vectors with scalars, vectors matched by labels.

use std::collections::HashMap;
use std::sync::Arc;

use model::Labels;

use super::Evaluator;
use super::label::spell;
use crate::error::{Error, Result};
use crate::histogram::{Histogram, ResetHint};
use crate::number::modulo;
use crate::parse::ast::{Binary, BinaryOp, Cardinality, Matching, Span};
use crate::value::{Grid, Merger, Point, Series, Value, is_absent, without_metadata};

/// Computes an operator on two numbers; comparisons give 1 and 0.
#[must_use]
pub fn float_op(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => modulo(a, b),
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        BinaryOp::Equal => truth(a == b),
        BinaryOp::NotEqual => truth(a != b),
        BinaryOp::Greater => truth(a > b),
        BinaryOp::Less => truth(a < b),
        BinaryOp::GreaterEqual => truth(a >= b),
        BinaryOp::LessEqual => truth(a <= b),
        BinaryOp::TrimUpper | BinaryOp::TrimLower | BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}

/// What an operator gives for two samples.
enum Outcome {
    /// A sample; for a comparison, that of the left side.
    Keep(Point),
    /// A comparison that does not hold.
    Filtered,
    /// Nothing: the operator does not go with these types of samples.
    Nothing,
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &Binary, span: Span, grid: &Grid) -> Result<Value> {
        let lhs = self.eval(&binary.lhs, grid)?;
        let rhs = self.eval(&binary.rhs, grid)?;
        let steps = grid.len();
        let vector = match (lhs, rhs) {
            (Value::Scalar(a), Value::Scalar(b)) => {
                return Ok(Value::Scalar(a.iter().zip(&b).map(|(a, b)| float_op(binary.op, *a, *b)).collect()));
            }
            (Value::Vector(vector), Value::Scalar(scalar)) => self.with_scalar(binary, vector, &scalar, false, span),
            (Value::Scalar(scalar), Value::Vector(vector)) => self.with_scalar(binary, vector, &scalar, true, span),
            (Value::Vector(a), Value::Vector(b)) => {
                let used = a.len() + b.len();
                let result = match binary.op {
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => set(binary.op, &binary.matching, a, b, steps)?,
                    _ => self.matched(binary, a, b, span, steps)?,
                };
                self.release(used, steps);
                if binary.op.is_set() {
                    self.charge(result.len(), steps)?;
                }
                result
            }
            _ => return Err(Error::evaluation("binary expression must contain only scalar and instant vector types")),
        };
        Ok(Value::Vector(vector))
    }

    fn with_scalar(&self, binary: &Binary, vector: Vec<Series>, scalar: &[f64], swap: bool, span: Span) -> Vec<Series> {
        let op = binary.op;
        let mut kept = Vec::with_capacity(vector.len());
        for mut series in vector {
            if computes(op) || binary.returns_bool {
                series.drop_name = true;
            }
            for (i, scalar) in scalar.iter().enumerate() {
                let value = series.values[i];
                if is_absent(value) && series.histograms.is_none() {
                    continue;
                }
                let Some(point) = series.get(i) else { continue };
                let (a, b) =
                    if swap { (Point::Float(*scalar), point.clone()) } else { (point.clone(), Point::Float(*scalar)) };
                let result = match self.element(op, &a, &b, span) {
                    Outcome::Nothing => None,
                    Outcome::Filtered => binary.returns_bool.then_some(Point::Float(0.0)),
                    Outcome::Keep(_) if binary.returns_bool => Some(Point::Float(1.0)),
                    // A filter gives the vector's sample on whichever side it stands.
                    Outcome::Keep(_) if op.is_comparison() => Some(point),
                    Outcome::Keep(point) => Some(point),
                };
                series.set(i, result);
            }
            if !series.is_empty() {
                kept.push(series);
            }
        }
        kept
    }

    /// Computes an operator on two samples.
    fn element(&self, op: BinaryOp, a: &Point, b: &Point, span: Span) -> Outcome {
        let histogram = |histogram: Histogram| Outcome::Keep(super::call::histogram_point(histogram));
        let refused = |left: &str, right: &str| {
            let text = format!(
                "incompatible sample types encountered for binary operator \"{}\": {left} {} {right}",
                op.as_str(),
                op.as_str()
            );
            self.notes.info(span, text);
            Outcome::Nothing
        };
        match (a, b) {
            (Point::Float(a), Point::Float(b)) => match op {
                BinaryOp::TrimUpper | BinaryOp::TrimLower => refused("float", "float"),
                _ if !op.is_comparison() => Outcome::Keep(Point::Float(float_op(op, *a, *b))),
                _ if float_op(op, *a, *b) == 1.0 => Outcome::Keep(Point::Float(*a)),
                _ => Outcome::Filtered,
            },
            (Point::Float(a), Point::Histogram(b)) => match op {
                BinaryOp::Mul => histogram(b.scaled(*a)),
                _ => refused("float", "histogram"),
            },
            (Point::Histogram(a), Point::Float(b)) => match op {
                BinaryOp::Mul => histogram(a.scaled(*b)),
                BinaryOp::Div => histogram(a.divided(*b)),
                BinaryOp::TrimUpper => histogram(super::classic::trim(a, *b, true)),
                BinaryOp::TrimLower => histogram(super::classic::trim(a, *b, false)),
                _ => refused("histogram", "float"),
            },
            (Point::Histogram(a), Point::Histogram(b)) => match op {
                BinaryOp::Add | BinaryOp::Sub => self.combine(op, a, b, span),
                BinaryOp::Equal | BinaryOp::NotEqual => {
                    if a.same_as(b) == (op == BinaryOp::Equal) {
                        Outcome::Keep(Point::Histogram(Arc::clone(a)))
                    } else {
                        Outcome::Filtered
                    }
                }
                _ => refused("histogram", "histogram"),
            },
        }
    }

    fn combine(&self, op: BinaryOp, a: &Histogram, b: &Histogram, span: Span) -> Outcome {
        let add = op == BinaryOp::Add;
        let Some((mut result, odd)) = (if add { a.add(b) } else { a.sub(b) }) else {
            self.notes.warn(span, "vector contains a mix of histograms with exponential and custom buckets schemas");
            return Outcome::Nothing;
        };
        let what = if add { "addition" } else { "subtraction" };
        if odd.reset_conflict {
            self.notes.warn(span, format!("conflicting counter resets during histogram {what}"));
        }
        if odd.bounds_reconciled {
            self.notes.info(span, format!("mismatched custom buckets were reconciled during {what}"));
        }
        if !add {
            result.hint = ResetHint::Gauge;
        }
        Outcome::Keep(super::call::histogram_point(result))
    }

    /// Matches series of two sides by labels and computes the operator on each pair.
    fn matched(
        &self,
        binary: &Binary,
        lhs: Vec<Series>,
        rhs: Vec<Series>,
        span: Span,
        steps: usize,
    ) -> Result<Vec<Series>> {
        let matching = &binary.matching;
        let fills = (matching.fill_left, matching.fill_right);
        if (lhs.is_empty() && rhs.is_empty())
            || (lhs.is_empty() && fills.0.is_none())
            || (rhs.is_empty() && fills.1.is_none())
        {
            return Ok(Vec::new());
        }
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let (fill_many, fill_one) = if swapped { (fills.1, fills.0) } else { fills };
        let mut pairs: HashMap<Labels, Pair> = HashMap::new();
        let mut order: Vec<Labels> = Vec::new();
        for (side, vector) in [(0, &many), (1, &one)] {
            for (i, series) in vector.iter().enumerate() {
                let signature = signature(&series.labels, matching);
                let pair = pairs.entry(signature.clone()).or_insert_with(|| {
                    order.push(signature);
                    Pair::default()
                });
                if side == 0 { pair.many.push(i) } else { pair.one.push(i) }
            }
        }
        let job = Match { evaluator: self, binary, span, swapped, fill_many, fill_one, many: &many, one: &one };
        let mut merger = Merger::default();
        for signature in order {
            self.context.check()?;
            let Some(pair) = pairs.get(&signature) else { continue };
            job.pair(&signature, pair, steps, &mut merger)?;
        }
        Ok(merger.finish())
    }
}

/// The series of both sides with one signature, by place.
#[derive(Default)]
struct Pair {
    many: Vec<usize>,
    one: Vec<usize>,
}

struct Match<'a> {
    evaluator: &'a Evaluator<'a>,
    binary: &'a Binary,
    span: Span,
    swapped: bool,
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    many: &'a [Series],
    one: &'a [Series],
}

impl Match<'_> {
    fn pair(&self, signature: &Labels, pair: &Pair, steps: usize, merger: &mut Merger) -> Result<()> {
        let mut results: HashMap<(usize, usize), Series> = HashMap::new();
        let mut order: Vec<(usize, usize)> = Vec::new();
        let one_to_one = self.binary.matching.cardinality == Cardinality::OneToOne;
        const FILLED: usize = usize::MAX;
        for i in 0..steps {
            let one = self.present_one(signature, pair, i)?;
            let mut present: Vec<usize> = pair.many.iter().copied().filter(|m| self.many[*m].has(i)).collect();
            if present.is_empty() && one.is_some() && self.fill_many.is_some() {
                present.push(FILLED);
            }
            let mut matched = false;
            for many in present {
                let one_place = match (one, self.fill_one) {
                    (Some(one), _) => one,
                    (None, Some(_)) => FILLED,
                    (None, None) => continue,
                };
                let sample = |side: &[Series], place: usize, fill: Option<f64>| match place {
                    FILLED => fill.map(Point::Float),
                    place => side[place].get(i),
                };
                let (Some(a), Some(b)) =
                    (sample(self.many, many, self.fill_many), sample(self.one, one_place, self.fill_one))
                else {
                    continue;
                };
                let Some(point) = self.compute(a, b) else { continue };
                if one_to_one && matched {
                    return Err(Error::evaluation(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                matched = true;
                let key = (many, one_place);
                if !results.contains_key(&key) {
                    // Before it is made: partners that change over the steps make many columns.
                    self.evaluator.charge(1, steps)?;
                    order.push(key);
                }
                let result = results.entry(key).or_insert_with(|| self.result_series(signature, key, steps));
                result.set(i, Some(point));
            }
        }
        for key in order {
            if let Some(series) = results.remove(&key) {
                merger.push(series).map_err(|_| {
                    if one_to_one {
                        Error::evaluation("vector cannot contain metrics with the same labelset")
                    } else {
                        Error::evaluation("multiple matches for labels: grouping labels must ensure unique matches")
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Returns the series of the "one" side with a sample at step `i`.
    fn present_one(&self, signature: &Labels, pair: &Pair, i: usize) -> Result<Option<usize>> {
        let mut present = pair.one.iter().copied().filter(|place| self.one[*place].has(i));
        let (first, second) = (present.next(), present.next());
        if let (Some(first), Some(second)) = (first, second) {
            let side = if self.swapped { "left" } else { "right" };
            let spelled = |place: usize| spell(&self.one[place].labels);
            return Err(Error::evaluation(format!(
                "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                spell(signature),
                spelled(first),
                spelled(second),
            )));
        }
        Ok(first)
    }

    fn compute(&self, many: Point, one: Point) -> Option<Point> {
        let (a, b) = if self.swapped { (one, many) } else { (many, one) };
        match self.evaluator.element(self.binary.op, &a, &b, self.span) {
            Outcome::Nothing => None,
            Outcome::Filtered => self.binary.returns_bool.then_some(Point::Float(0.0)),
            Outcome::Keep(_) if self.binary.returns_bool => Some(Point::Float(1.0)),
            Outcome::Keep(point) => Some(point),
        }
    }

    fn result_series(&self, signature: &Labels, (many, one): (usize, usize), steps: usize) -> Series {
        let side = |vector: &[Series], place: usize| match vector.get(place) {
            Some(series) => (series.labels.clone(), series.drop_name),
            None => (signature.clone(), false),
        };
        let (many, one) = (side(self.many, many), side(self.one, one));
        let op = self.binary.op;
        let matching = &self.binary.matching;
        let computes = computes(op);
        let mut labels = if computes { without_metadata(&many.0) } else { many.0 };
        if matching.cardinality == Cardinality::OneToOne {
            labels = if matching.on {
                labels.filtered(|name| matching.labels.iter().any(|label| label == name))
            } else {
                labels.filtered(|name| !matching.labels.iter().any(|label| label == name))
            };
        }
        if !matching.include.is_empty() {
            let mut builder = labels.to_builder();
            for name in &matching.include {
                builder.set(name, one.0.get(name).unwrap_or(""));
            }
            labels = builder.build();
        }
        let drop_name = computes || self.binary.returns_bool || many.1;
        Series::absent(labels, drop_name, steps)
    }
}

/// Says whether the result is another quantity, so that the metric's name no longer fits. Trimming keeps it.
fn computes(op: BinaryOp) -> bool {
    !op.is_comparison() && !matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

/// Returns the labels by which series find each other.
#[must_use]
pub fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on {
        labels.filtered(listed)
    } else {
        labels.filtered(|name| name != model::METRIC_NAME && !listed(name))
    }
}

/// Computes `and`, `or` and `unless`.
///
/// # Errors
/// When a result would have two samples for the same labels at a step.
pub fn set(op: BinaryOp, matching: &Matching, lhs: Vec<Series>, rhs: Vec<Series>, steps: usize) -> Result<Vec<Series>> {
    let presence = |vector: &[Series]| {
        let mut by_signature: HashMap<Labels, Vec<bool>> = HashMap::new();
        for series in vector {
            let column = by_signature.entry(signature(&series.labels, matching)).or_insert_with(|| vec![false; steps]);
            for (i, present) in column.iter_mut().enumerate() {
                *present |= series.has(i);
            }
        }
        by_signature
    };
    let keep = |mut series: Series, other: &HashMap<Labels, Vec<bool>>, when: bool| {
        let column = other.get(&signature(&series.labels, matching));
        for i in 0..steps {
            if column.is_some_and(|column| column[i]) != when {
                series.set(i, None);
            }
        }
        series
    };
    let mut merger = Merger::default();
    match op {
        BinaryOp::Or => {
            let left = presence(&lhs);
            for series in lhs {
                merger.push(series)?;
            }
            for series in rhs {
                let series = keep(series, &left, false);
                if !series.is_empty() {
                    merger.push(series)?;
                }
            }
        }
        _ => {
            let right = presence(&rhs);
            for series in lhs {
                let series = keep(series, &right, op == BinaryOp::And);
                if !series.is_empty() {
                    merger.push(series)?;
                }
            }
        }
    }
    Ok(merger.finish())
}

/// Computes a vector with a scalar, or two vectors, where all samples are floats. For languages that share the operators.
///
/// # Errors
/// As PromQL: ambiguous matches, in Prometheus' words.
pub fn binary(op: &Binary, lhs: Value, rhs: Value, grid: &Grid) -> Result<Value> {
    let context = storage_api::QueryContext::default();
    let notes = crate::notes::Notes::default();
    let source = Nothing;
    let query =
        super::Query { expr: &op.lhs, text: "", grid: *grid, is_range: true, options: super::Options::default() };
    let evaluator = Evaluator {
        source: &source,
        context: &context,
        query,
        notes: &notes,
        finds_resets: false,
        taker: None,
        tally: None,
    };
    let steps = grid.len();
    let span = Span::default();
    Ok(match (lhs, rhs) {
        (Value::Scalar(a), Value::Scalar(b)) => {
            Value::Scalar(a.iter().zip(&b).map(|(a, b)| float_op(op.op, *a, *b)).collect())
        }
        (Value::Vector(vector), Value::Scalar(scalar)) => {
            Value::Vector(evaluator.with_scalar(op, vector, &scalar, false, span))
        }
        (Value::Scalar(scalar), Value::Vector(vector)) => {
            Value::Vector(evaluator.with_scalar(op, vector, &scalar, true, span))
        }
        (Value::Vector(a), Value::Vector(b)) if op.op.is_set() => Value::Vector(set(op.op, &op.matching, a, b, steps)?),
        (Value::Vector(a), Value::Vector(b)) => Value::Vector(evaluator.matched(op, a, b, span, steps)?),
        _ => return Err(Error::evaluation("binary expression must contain only scalar and instant vector types")),
    })
}

/// A source without series.
struct Nothing;

impl crate::source::Source for Nothing {
    fn select(
        &self,
        _: &[model::Matcher],
        _: storage_api::MillisRange,
        _: &storage_api::QueryContext,
    ) -> storage_api::Result<Vec<Box<dyn crate::source::Part>>> {
        Ok(Vec::new())
    }
}
