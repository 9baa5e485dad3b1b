//! Binary operators: scalars, vectors with scalars, vectors matched by labels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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

/// Why an operator gave nothing, or what was odd about what it gave.
#[derive(Debug, Clone, PartialEq)]
enum Refusal {
    /// It does not go with these types of samples.
    Types(&'static str, &'static str),
    /// Exponential and custom buckets do not go together.
    Layouts,
    /// One side was reset, the other was not.
    Resets,
    /// Custom bounds differ.
    Bounds,
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &Binary, span: Span, grid: &Grid) -> Result<Value> {
        let cuts = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let buckets = if cuts { super::Buckets::Needed } else { self.buckets };
        let sides = Self { buckets, ..*self };
        let lhs = sides.eval(&binary.lhs, grid)?;
        let rhs = sides.eval(&binary.rhs, grid)?;
        let steps = grid.len();
        let vector = match (lhs, rhs) {
            (Value::Scalar(_), Value::Scalar(_)) if cuts => {
                let op = binary.op.as_str();
                return Err(Error::evaluation(format!("operator \"{op}\" not allowed for Scalar operations")));
            }
            (Value::Scalar(a), Value::Scalar(b)) => {
                return Ok(Value::Scalar(a.iter().zip(&b).map(|(a, b)| float_op(binary.op, *a, *b)).collect()));
            }
            (Value::Vector(vector), Value::Scalar(scalar)) => self.with_scalar(binary, vector, &scalar, false, span)?,
            (Value::Scalar(scalar), Value::Vector(vector)) => self.with_scalar(binary, vector, &scalar, true, span)?,
            (Value::Vector(a), Value::Vector(b)) => {
                let used = a.len() + b.len();
                let histograms = a.iter().chain(&b).map(Series::histogram_cost).sum();
                let result = match binary.op {
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => set(binary.op, &binary.matching, a, b, steps)?,
                    _ => self.matched(binary, a, b, span, steps)?,
                };
                self.release(used, steps);
                self.context.release_samples(histograms);
                if binary.op.is_set() {
                    self.charge(result.len(), steps)?;
                    self.charge_histograms(&result)?;
                }
                result
            }
            _ => return Err(Error::evaluation("binary expression must contain only scalar and instant vector types")),
        };
        Ok(Value::Vector(vector))
    }

    fn with_scalar(
        &self,
        binary: &Binary,
        vector: Vec<Series>,
        scalar: &[f64],
        swap: bool,
        span: Span,
    ) -> Result<Vec<Series>> {
        let op = binary.op;
        let mut kept = Vec::with_capacity(vector.len());
        // As in Prometheus, only what is odd about the last series of a step is told.
        let mut refusals: HashMap<usize, Refusal> = HashMap::new();
        for mut series in vector {
            if computes(op) || binary.returns_bool {
                series.drop_name = true;
            }
            let before = series.histogram_cost();
            for (i, scalar) in scalar.iter().enumerate() {
                let value = series.values[i];
                if is_absent(value) && series.histograms.is_none() {
                    continue;
                }
                let Some(point) = series.get(i) else { continue };
                let (a, b) =
                    if swap { (Point::Float(*scalar), point.clone()) } else { (point.clone(), Point::Float(*scalar)) };
                let (outcome, refusal) = element(op, &a, &b);
                if let Some(refusal) = refusal {
                    refusals.insert(i, refusal);
                }
                let result = match outcome {
                    Outcome::Nothing => None,
                    Outcome::Filtered => binary.returns_bool.then_some(Point::Float(0.0)),
                    Outcome::Keep(_) if binary.returns_bool => Some(Point::Float(1.0)),
                    // A filter gives the vector's sample on whichever side it stands.
                    Outcome::Keep(_) if op.is_comparison() => Some(point),
                    Outcome::Keep(point) => Some(point),
                };
                series.set(i, result);
            }
            self.context.release_samples(before);
            self.charge_histograms(std::slice::from_ref(&series))?;
            if !series.is_empty() {
                kept.push(series);
            }
        }
        for refusal in refusals.values() {
            self.note_refusal(refusal, op, span);
        }
        Ok(kept)
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
        let fills_any = fills.0.is_some() || fills.1.is_some();
        if (lhs.is_empty() || rhs.is_empty()) && !fills_any {
            return Ok(Vec::new());
        }
        // A step at which a whole side has no sample is not looked at, unless something stands for what is missing.
        let live = |side: &[Series]| -> Vec<bool> { (0..steps).map(|i| side.iter().any(|one| one.has(i))).collect() };
        let live = (!fills_any).then(|| live(&lhs).into_iter().zip(live(&rhs)).map(|(a, b)| a && b).collect());
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let mut pairs: HashMap<Labels, usize> = HashMap::new();
        let mut all: Vec<(Labels, Pair)> = Vec::new();
        for (side, vector) in [(0, &many), (1, &one)] {
            for (i, series) in vector.iter().enumerate() {
                let signature = signature(&series.labels, matching);
                let place = *pairs.entry(signature.clone()).or_insert_with(|| {
                    all.push((signature, Pair::default()));
                    all.len() - 1
                });
                let pair = &mut all[place].1;
                if side == 0 { pair.many.push(i) } else { pair.one.push(i) }
            }
        }
        let notes = vec![None; steps];
        // As in Prometheus, what is filled in goes by the sides as they are matched, not as they are written.
        let (fill_many, fill_one) = fills;
        let mut job = Match {
            evaluator: self,
            binary,
            swapped,
            fill_many,
            fill_one,
            many: &many,
            one: &one,
            live,
            steps,
            fault: None,
            notes,
            results: Vec::new(),
        };
        for (signature, pair) in &all {
            self.context.check()?;
            job.pair(signature, pair)?;
        }
        if let Some((_, message)) = job.fault {
            return Err(Error::evaluation(message));
        }
        for note in job.notes.into_iter().flatten() {
            self.note_refusal(&note.1, binary.op, span);
        }
        let mut merger = Merger::of_steps(steps);
        for series in job.results {
            merger.push(series)?;
        }
        Ok(merger.finish())
    }

    /// Notes why an operator gave nothing, or something odd.
    fn note_refusal(&self, why: &Refusal, op: BinaryOp, span: Span) {
        let what = if op == BinaryOp::Add { "addition" } else { "subtraction" };
        let op = op.as_str();
        match why {
            Refusal::Types(left, right) => self.notes.info(
                span,
                format!("incompatible sample types encountered for binary operator \"{op}\": {left} {op} {right}"),
            ),
            Refusal::Layouts => {
                self.notes.warn(span, format!("incompatible bucket layout encountered for binary operator {op}"));
            }
            Refusal::Resets => self.notes.warn(span, format!("conflicting counter resets during histogram {what}")),
            Refusal::Bounds => {
                self.notes.info(span, format!("mismatched custom buckets were reconciled during {what}"));
            }
        }
    }
}

/// The series of both sides with one signature, by place.
#[derive(Default)]
struct Pair {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// Where something happens: the step, then what is looked at first at each step, then the place of the series.
type Moment = (usize, u8, usize);

const CHECK_ONE: u8 = 0;
const MATCH: u8 = 1;
const FILL: u8 = 2;

/// Stands for the place of a series that is not there, but filled in.
const FILLED: usize = usize::MAX;

struct Match<'a> {
    evaluator: &'a Evaluator<'a>,
    binary: &'a Binary,
    swapped: bool,
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    many: &'a [Series],
    one: &'a [Series],
    /// The steps to look at, where not all are.
    live: Option<Vec<bool>>,
    steps: usize,
    /// The first fault, in the order in which a step-by-step evaluation would find it.
    fault: Option<(Moment, String)>,
    /// The last note of each step, again in that order: there is one at most.
    notes: Vec<Option<(Moment, Refusal)>>,
    results: Vec<Series>,
}

impl Match<'_> {
    fn fail(&mut self, at: Moment, message: impl FnOnce() -> String) {
        if self.fault.as_ref().is_none_or(|(first, _)| at < *first) {
            self.fault = Some((at, message()));
        }
    }

    fn pair(&mut self, signature: &Labels, pair: &Pair) -> Result<()> {
        let mut results: HashMap<(usize, usize), Series> = HashMap::new();
        let mut order: Vec<(usize, usize)> = Vec::new();
        for i in 0..self.steps {
            if self.live.as_ref().is_some_and(|live| !live[i]) {
                continue;
            }
            let one = self.present_one(signature, pair, i);
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for many in pair.many.iter().copied().filter(|place| self.many[*place].has(i)) {
                let one_place = match (one, self.fill_one) {
                    (Some(one), _) => one,
                    (None, Some(_)) => FILLED,
                    (None, None) => break,
                };
                self.step(signature, (many, one_place), (i, MATCH, many), &mut taken, &mut results, &mut order)?;
            }
            if let (Some(one), true, true) = (one, taken.is_empty(), self.fill_many.is_some()) {
                self.step(signature, (FILLED, one), (i, FILL, one), &mut taken, &mut results, &mut order)?;
            }
        }
        self.results.extend(order.iter().filter_map(|key| results.remove(key)));
        Ok(())
    }

    /// Computes one pair at one step.
    fn step(
        &mut self,
        signature: &Labels,
        key: (usize, usize),
        at: Moment,
        taken: &mut Vec<(usize, usize)>,
        results: &mut HashMap<(usize, usize), Series>,
        order: &mut Vec<(usize, usize)>,
    ) -> Result<()> {
        let sample = |side: &[Series], place: usize, fill: Option<f64>| match place {
            FILLED => fill.map(Point::Float),
            place => side[place].get(at.0),
        };
        let (many, one) = (sample(self.many, key.0, self.fill_many), sample(self.one, key.1, self.fill_one));
        let (Some(many), Some(one)) = (many, one) else { return Ok(()) };
        let (a, b) = if self.swapped { (&one, &many) } else { (&many, &one) };
        let (outcome, refusal) = element(self.binary.op, a, b);
        if let Some(refusal) = refusal {
            self.notes[at.0] = self.notes[at.0].take().filter(|(last, _)| *last > at).or(Some((at, refusal)));
        }
        let point = match outcome {
            Outcome::Nothing => return Ok(()),
            Outcome::Filtered => self.binary.returns_bool.then_some(Point::Float(0.0)),
            Outcome::Keep(_) if self.binary.returns_bool => Some(Point::Float(1.0)),
            Outcome::Keep(point) => Some(point),
        };
        self.check_unique(signature, key, at, taken);
        taken.push(key);
        let Some(point) = point else { return Ok(()) };
        let result = match results.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                // Before it is made: partners that change over the steps make many columns.
                self.evaluator.charge(1, self.steps)?;
                order.push(key);
                entry.insert(self.result_series(signature, key))
            }
        };
        if let Point::Histogram(histogram) = &point {
            self.evaluator.context.charge_samples(storage_api::histogram_cost(histogram))?;
        }
        result.set(at.0, Some(point));
        Ok(())
    }

    /// Checks that no other pair of the step gave the same labels.
    fn check_unique(&mut self, signature: &Labels, key: (usize, usize), at: Moment, taken: &[(usize, usize)]) {
        if taken.is_empty() {
            return;
        }
        if self.binary.matching.cardinality == Cardinality::OneToOne {
            let message = || {
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_owned()
            };
            self.fail(at, message);
            return;
        }
        let labels = self.result_series(signature, key).labels;
        if taken.iter().any(|other| self.result_series(signature, *other).labels == labels) {
            let message = || "multiple matches for labels: grouping labels must ensure unique matches".to_owned();
            self.fail(at, message);
        }
    }

    /// Returns the series of the "one" side with a sample at step `i`; two of them are a fault.
    fn present_one(&mut self, signature: &Labels, pair: &Pair, i: usize) -> Option<usize> {
        let one = self.one;
        let mut present = pair.one.iter().copied().filter(|place| one[*place].has(i));
        let (first, second) = (present.next()?, present.next());
        if let Some(second) = second {
            let side = if self.swapped { "left" } else { "right" };
            self.fail((i, CHECK_ONE, second), || {
                let mut both = [spell(&one[first].labels), spell(&one[second].labels)];
                both.sort();
                format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}];many-to-many matching not allowed: matching labels must be unique on one side",
                    spell(signature),
                    both.join(", "),
                )
            });
        }
        Some(first)
    }

    fn result_series(&self, signature: &Labels, (many, one): (usize, usize)) -> Series {
        let side = |vector: &[Series], place: usize| match vector.get(place) {
            Some(series) => series.labels.clone(),
            None => signature.clone(),
        };
        let (many, one) = (side(self.many, many), side(self.one, one));
        let matching = &self.binary.matching;
        let mut labels = if computes(self.binary.op) { without_metadata(&many) } else { many };
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
                builder.set(name, one.get(name).unwrap_or(""));
            }
            labels = builder.build();
        }
        // A comparison brings a name back that was only to be dropped at the end: Prometheus does.
        Series::absent(labels, self.binary.returns_bool, self.steps)
    }
}

/// Computes an operator on two samples; says what was odd.
fn element(op: BinaryOp, a: &Point, b: &Point) -> (Outcome, Option<Refusal>) {
    let keep = |point: Point| (Outcome::Keep(point), None);
    let histogram = |histogram: Histogram| keep(super::call::histogram_point(histogram));
    let refused = |left, right| (Outcome::Nothing, Some(Refusal::Types(left, right)));
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => match op {
            BinaryOp::TrimUpper | BinaryOp::TrimLower => refused("float", "float"),
            _ if !op.is_comparison() => keep(Point::Float(float_op(op, *a, *b))),
            _ if float_op(op, *a, *b) == 1.0 => keep(Point::Float(*a)),
            _ => (Outcome::Filtered, None),
        },
        (Point::Float(a), Point::Histogram(b)) => match op {
            BinaryOp::Mul => histogram(b.scaled(*a)),
            _ => refused("float", "histogram"),
        },
        (Point::Histogram(a), Point::Float(b)) => match op {
            BinaryOp::Mul => histogram(a.scaled(*b)),
            BinaryOp::Div => histogram(a.divided(*b)),
            BinaryOp::TrimUpper => histogram(super::trim::trim(a, *b, true)),
            BinaryOp::TrimLower => histogram(super::trim::trim(a, *b, false)),
            _ => refused("histogram", "float"),
        },
        (Point::Histogram(a), Point::Histogram(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub => combine(op, a, b),
            BinaryOp::Equal | BinaryOp::NotEqual if a.same_as(b) == (op == BinaryOp::Equal) => {
                keep(Point::Histogram(Arc::clone(a)))
            }
            BinaryOp::Equal | BinaryOp::NotEqual => (Outcome::Filtered, None),
            _ => refused("histogram", "histogram"),
        },
    }
}

fn combine(op: BinaryOp, a: &Histogram, b: &Histogram) -> (Outcome, Option<Refusal>) {
    let add = op == BinaryOp::Add;
    let Some((mut result, odd)) = (if add { a.add(b) } else { a.sub(b) }) else {
        return (Outcome::Nothing, Some(Refusal::Layouts));
    };
    if !add {
        result.hint = ResetHint::Gauge;
    }
    // With a conflict of resets Prometheus gives no result between vectors.
    if odd.reset_conflict {
        return (Outcome::Nothing, Some(Refusal::Resets));
    }
    (Outcome::Keep(super::call::histogram_point(result)), odd.bounds_reconciled.then_some(Refusal::Bounds))
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
    let mut merger = Merger::of_steps(steps);
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
        buckets: super::Buckets::Kept,
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
            Value::Vector(evaluator.with_scalar(op, vector, &scalar, false, span)?)
        }
        (Value::Scalar(scalar), Value::Vector(vector)) => {
            Value::Vector(evaluator.with_scalar(op, vector, &scalar, true, span)?)
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
