//! Function calls.

use std::borrow::Cow;
use std::sync::Arc;

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use storage_api::MillisRange;

use super::elementwise::{self, map_floats};
use super::heap::Heap;
use super::select::{Reach, without_stale};
use super::tally::weight_of;
use super::window::{self, Window, WindowFn};
use super::{Buckets, Evaluator, classic, label, rate, slide, time};
use crate::error::{Error, Result};
use crate::functions::Function;
use crate::parse::ast::{Borders, Expr, ExprKind, Span, ValueType};
use crate::value::{Grid, Point, Samples, Series, Value};

/// The functions that `anchored` goes with, and those that `smoothed` goes with.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

impl Evaluator<'_> {
    pub(super) fn call(&self, expr: &Expr, function: &Function, args: &[Expr], grid: &Grid) -> Result<Value> {
        let buckets = match function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => self.buckets.unless_needed(Buckets::Skipped),
            name if name.starts_with("histogram_") => Buckets::Needed,
            _ => self.buckets,
        };
        if buckets != self.buckets {
            return Self { buckets, ..*self }.call(expr, function, args, grid);
        }
        if args.iter().any(|arg| arg.value_type() == ValueType::Matrix) {
            return self.range_call(function, args, grid).map(Value::Vector);
        }
        if function.returns == ValueType::Scalar {
            return self.scalar_call(function.name, args, grid).map(Value::Scalar);
        }
        self.vector_call(expr, function.name, args, grid).map(Value::Vector)
    }

    fn scalar_call(&self, name: &str, args: &[Expr], grid: &Grid) -> Result<Vec<f64>> {
        let all = |value: f64| Ok(vec![value; grid.len()]);
        let query = &self.query.grid;
        match name {
            "time" => Ok(grid.points().map(window::seconds).collect()),
            "pi" => all(std::f64::consts::PI),
            "start" => all(window::seconds(query.start_ms)),
            "end" => all(window::seconds(query.end_ms)),
            "range" => all(window::seconds(query.end_ms - query.start_ms)),
            // A query of one point has no step, even where it names one.
            "step" => all(if query.start_ms == query.end_ms { 0.0 } else { window::seconds(query.step_ms) }),
            "min_of" | "max_of" => {
                let (a, b) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let pick = if name == "min_of" { crate::number::min } else { crate::number::max };
                Ok(a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect())
            }
            // `scalar` is the only other one.
            _ => {
                let vector = self.vector(&args[0], grid)?;
                let value = |i: usize| {
                    let floats = vector.iter().map(|series| series.values[i]);
                    let mut present = floats.filter(|value| !crate::value::is_absent(*value));
                    match (present.next(), present.next()) {
                        (Some(value), None) => value,
                        _ => f64::NAN,
                    }
                };
                let values = (0..grid.len()).map(value).collect();
                self.release_columns(&vector, grid.len());
                Ok(values)
            }
        }
    }

    fn vector_call(&self, expr: &Expr, name: &str, args: &[Expr], grid: &Grid) -> Result<Vec<Series>> {
        if let Some(change) = elementwise::float_function(name) {
            return Ok(map_floats(self.vector(&args[0], grid)?, |value, _| Some(change(value))));
        }
        if let Some(part) = time::find(name) {
            let Some(arg) = args.first() else {
                let values = grid.points().map(|at| part(window::seconds(at))).collect();
                return Ok(vec![Series { values, ..Series::absent(Labels::empty(), false, 0) }]);
            };
            return Ok(map_floats(self.vector(arg, grid)?, |value, _| Some(part(value))));
        }
        match name {
            "vector" => {
                let values = self.scalar(&args[0], grid)?;
                Ok(vec![Series { values, ..Series::absent(Labels::empty(), false, 0) }])
            }
            "absent" => self.absent(&args[0], grid),
            "timestamp" => self.timestamp(&args[0], grid),
            "start_timestamp" => match &args[0].unparen().kind {
                // Only samples have it, not what is made of them.
                ExprKind::Selector(selector) => {
                    Ok(map_floats(self.select_start_times(selector, grid)?, |value, _| Some(value)))
                }
                _ => {
                    let vector = self.vector(&args[0], grid)?;
                    self.release_columns(&vector, grid.len());
                    Ok(Vec::new())
                }
            },
            "round" => {
                let to = args.get(1).map_or_else(|| Ok(vec![1.0; grid.len()]), |to| self.scalar(to, grid))?;
                Ok(map_floats(self.vector(&args[0], grid)?, |value, i| Some(elementwise::round(value, to[i]))))
            }
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(name, args, grid),
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(expr, name, args, grid),
            "label_replace" => label::replace(self.vector(&args[0], grid)?, &texts(&args[1..]), self.context),
            "label_join" => label::join(self.vector(&args[0], grid)?, &texts(&args[1..]), self.context),
            "info" => self.info(&args[0], args.get(1), grid),
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev" | "histogram_stdvar" => {
                let vector = self.vector(&args[0], grid)?;
                self.context.release_samples(vector.iter().map(Series::histogram_cost).sum());
                Ok(classic::of_histogram(vector, name))
            }
            "histogram_quantile" => {
                let q = self.scalar(&args[0], grid)?;
                let vector = self.vector(&args[1], grid)?;
                let quantiles = [(None, q, args[0].unparen().span)];
                self.histogram_quantile(&quantiles, vector, args[1].unparen().span, grid)
            }
            "histogram_quantiles" => self.histogram_quantiles(args, grid),
            "histogram_fraction" => {
                let (low, high) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let vector = self.vector(&args[2], grid)?;
                self.histogram_fraction(&low, &high, vector, args[2].unparen().span, grid)
            }
            _ => Err(Error::evaluation(format!("unknown function with name \"{name}\""))),
        }
    }

    fn clamp(&self, name: &str, args: &[Expr], grid: &Grid) -> Result<Vec<Series>> {
        let bound = |i: usize| self.scalar(&args[i], grid);
        let steps = grid.len();
        let (low, high) = match name {
            "clamp_min" => (bound(1)?, vec![f64::INFINITY; steps]),
            "clamp_max" => (vec![f64::NEG_INFINITY; steps], bound(1)?),
            _ => (bound(1)?, bound(2)?),
        };
        let vector = self.vector(&args[0], grid)?;
        Ok(map_floats(vector, |value, i| {
            (high[i] >= low[i] || high[i].is_nan() || low[i].is_nan())
                .then(|| elementwise::clamp(value, low[i], high[i]))
        }))
    }

    fn absent(&self, arg: &Expr, grid: &Grid) -> Result<Vec<Series>> {
        let vector = self.vector(arg, grid)?;
        let labels = match &arg.unparen().kind {
            ExprKind::Selector(selector) => labels_of(&selector.matchers),
            _ => Labels::empty(),
        };
        let mut series = Series::absent(labels, false, grid.len());
        for i in 0..grid.len() {
            if !vector.iter().any(|one| one.has(i)) {
                series.values[i] = 1.0;
            }
        }
        self.release_columns(&vector, grid.len());
        Ok(vec![series])
    }

    fn timestamp(&self, arg: &Expr, grid: &Grid) -> Result<Vec<Series>> {
        let mut vector = match &arg.unparen().kind {
            ExprKind::Selector(selector) => self.select_times(selector, grid)?,
            _ => {
                let mut vector = self.vector(arg, grid)?;
                for series in &mut vector {
                    for (i, at) in grid.points().enumerate() {
                        if series.has(i) {
                            series.set(i, Some(Point::Float(window::seconds(at))));
                        }
                    }
                }
                vector
            }
        };
        for series in &mut vector {
            series.drop_name = true;
        }
        Ok(vector)
    }

    fn sort(&self, expr: &Expr, name: &str, args: &[Expr], grid: &Grid) -> Result<Vec<Series>> {
        let mut vector = self.vector(&args[0], grid)?;
        // After what is within, so that the note stands at the outermost one; even where the step leads beyond the end.
        if grid.start_ms != grid.end_ms {
            let text = "sort is ineffective for range queries since results are always ordered by labels";
            self.notes.warn(expr.span, text);
        }
        if name.starts_with("sort_by_label") {
            let names = texts(&args[1..]);
            let descending = name.ends_with("desc");
            label::sort(&mut vector, &names, descending);
            return Ok(vector);
        }
        // Histograms have no order among floats and are left out; NaN comes last either way.
        vector.retain(|series| series.values.iter().any(|value| !crate::value::is_absent(*value)));
        for series in &mut vector {
            series.histograms = None;
        }
        let values = vector.iter().map(|series| series.values[0]);
        let order = Heap::of(values, name == "sort_desc").sorted();
        let mut vector: Vec<Option<Series>> = vector.into_iter().map(Some).collect();
        Ok(order.into_iter().filter_map(|place| vector[place].take()).collect())
    }

    fn histogram_quantiles(&self, args: &[Expr], grid: &Grid) -> Result<Vec<Series>> {
        let ExprKind::Text(name) = &args[1].unparen().kind else {
            return Err(Error::evaluation("expected a label name"));
        };
        label::check_name(name).map_err(|name| Error::evaluation(format!("invalid label name {name}")))?;
        let mut quantiles = Vec::new();
        for arg in &args[2..] {
            quantiles.push((Some(name.as_str()), self.scalar(arg, grid)?, arg.unparen().span));
        }
        let vector = self.vector(&args[0], grid)?;
        self.histogram_quantile(&quantiles, vector, args[0].unparen().span, grid)
    }

    fn range_call(&self, function: &Function, args: &[Expr], grid: &Grid) -> Result<Vec<Series>> {
        let name = function.name;
        let work = window::find(name).ok_or_else(|| Error::evaluation(format!("unknown function {name}")))?;
        let mut matrix = None;
        let mut scalars: Vec<Vec<f64>> = Vec::new();
        for arg in args {
            if arg.value_type() == ValueType::Matrix {
                matrix = Some(arg.unparen());
            } else {
                // What takes the series is meant for those of the range.
                scalars.push(Self { taker: None, ..*self }.scalar(arg, grid)?);
            }
        }
        let matrix = matrix.ok_or_else(|| Error::evaluation("expected a range vector"))?;
        // What Prometheus makes of a subquery has no place in the text any more.
        let first = args[0].unparen();
        let placeless = matches!(first.kind, ExprKind::Subquery(_));
        let span = if placeless { Span::default() } else { first.span };
        let job = WindowJob { name, work, scalars, span, grid: *grid };
        let series = match &matrix.kind {
            ExprKind::Range(selector, range) => {
                self.check_borders(name, selector.borders)?;
                let range_ms = self.positive_ms(range)?;
                let reach = self.reach(selector, grid)?;
                let (first, last) = reach.ends();
                let lookback = self.query.options.lookback_ms;
                let before = if selector.borders == Borders::Plain { 0 } else { lookback };
                let after = if selector.borders == Borders::Smoothed { lookback } else { 0 };
                let min_ms = first.saturating_sub(range_ms).saturating_sub(before).saturating_add(1);
                let max_ms = last.saturating_add(after);
                // A range below a millisecond takes in nothing.
                let span = MillisRange { min_ms: min_ms.min(max_ms), max_ms };
                let reach = WindowReach { reach, range_ms, before, after, borders: selector.borders };
                let compute = |samples| {
                    self.charge(1, grid.len())?;
                    let series = self.windows(&without_stale(samples), &job, &reach)?;
                    match &series {
                        Some(series) => self.charge_histograms(std::slice::from_ref(series))?,
                        None => self.release(1, grid.len()),
                    }
                    Ok(series)
                };
                self.read_series(selector, span, compute, |series| self.note_names(job.span, name, series))?
            }
            ExprKind::Subquery(subquery) => {
                let (samples, range_ms, reach) = self.subquery(subquery, grid)?;
                let reach = WindowReach { reach, range_ms, before: 0, after: 0, borders: Borders::Plain };
                self.charge(samples.len(), grid.len())?;
                let loaded = samples.iter().map(Samples::cost).sum();
                let mut series = Vec::with_capacity(samples.len());
                for one in samples {
                    self.context.check()?;
                    series.extend(self.windows(&one, &job, &reach)?);
                }
                self.context.release_samples(loaded);
                self.charge_histograms(&series)?;
                self.note_names(job.span, name, &series);
                series
            }
            _ => return Err(Error::evaluation("expected a range vector")),
        };
        if name == "absent_over_time" {
            return Ok(absent_over_time(&series, matrix, grid));
        }
        Ok(series)
    }

    fn check_borders(&self, name: &str, borders: Borders) -> Result<()> {
        let (what, allowed): (_, &[&str]) = match borders {
            Borders::Plain => return Ok(()),
            Borders::Anchored => ("anchored", &ANCHORED),
            Borders::Smoothed => ("smoothed", &SMOOTHED),
        };
        if allowed.contains(&name) {
            return Ok(());
        }
        let list = allowed.join(", ");
        Err(Error::evaluation(format!("{what} modifier can only be used with: {list} - not with {name}")))
    }

    /// Warns when a quantile is none.
    pub(super) fn note_quantile(&self, q: f64, span: Span) {
        if q.is_nan() || !(0.0..=1.0).contains(&q) {
            let q = crate::number::format_short(q);
            self.notes.warn(span, format!("quantile value should be between 0 and 1, got {q}"));
        }
    }

    /// Tells of metrics that, going by their names, are no counters.
    fn note_names(&self, span: Span, name: &str, series: &[Series]) {
        if !matches!(name, "rate" | "increase") {
            return;
        }
        for one in series {
            if one.labels.metric_name().is_empty() || one.values.iter().all(|value| crate::value::is_absent(*value)) {
                continue;
            }
            let metric = one.labels.metric_name();
            let kind = one.labels.get("__type__");
            let suffixed = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix));
            let text = match kind {
                Some(kind) if !matches!(kind, "counter" | "histogram") => format!(
                    "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got \"{kind}\": \"{metric}\""
                ),
                None if !suffixed => format!(
                    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"{metric}\""
                ),
                _ => continue,
            };
            self.notes.info(span, text);
        }
    }

    /// Returns the results of functions for which a window need not be looked at as a whole; `None` for others.
    fn slid(&self, samples: &Samples, job: &WindowJob<'_>, reach: &WindowReach) -> Option<Vec<f64>> {
        if self.tally.is_some() || samples.histograms.is_some() || reach.borders != Borders::Plain {
            return None;
        }
        let ends = (0..job.grid.len()).map(|i| reach.reach.time(i));
        let windows = ends.map(|end| (end.saturating_sub(reach.range_ms), end));
        let (times, values) = (&samples.timestamps_ms, &samples.values);
        let change = |(is_counter, is_rate)| {
            samples.starts_ms.is_none().then(|| rate::slid(times, values, windows.clone(), (is_counter, is_rate)))
        };
        match job.name {
            "max_over_time" => Some(slide::extremes(times, values, windows, |new, old| new > old)),
            "min_over_time" => Some(slide::extremes(times, values, windows, |new, old| new < old)),
            "rate" => change((true, true)),
            "increase" => change((true, false)),
            "delta" => change((false, false)),
            _ => None,
        }
    }

    /// Slides the window over the steps. Returns `None` when no step has a result.
    fn windows(&self, samples: &Samples, job: &WindowJob<'_>, reach: &WindowReach) -> Result<Option<Series>> {
        let steps = job.grid.len();
        let keeps_name = matches!(job.name, "last_over_time" | "first_over_time");
        let mut series = Series::absent(samples.labels.clone(), samples.drop_name || !keeps_name, steps);
        if let Some(values) = self.slid(samples, job, reach) {
            let any = values.iter().any(|value| !crate::value::is_absent(*value));
            series.values = values;
            return Ok(any.then_some(series));
        }
        let (mut from, mut to) = (0, 0);
        let mut any = false;
        let times = &samples.timestamps_ms;
        for i in 0..steps {
            let end_ms = reach.reach.time(i);
            let start_ms = end_ms.saturating_sub(reach.range_ms);
            while times.get(to).is_some_and(|at| *at <= end_ms.saturating_add(reach.after)) {
                to += 1;
            }
            while from < to && times[from] <= start_ms.saturating_sub(reach.before) {
                from += 1;
            }
            if from == to {
                continue;
            }
            if let Some(tally) = self.tally {
                tally.add(i, weight_of(samples, from, to));
            }
            let param = |n: usize| job.scalars.get(n).map_or(0.0, |column| column[i]);
            check_params(job.name, [param(0), param(1)])?;
            let like = Window {
                labels: &samples.labels,
                times: &[],
                values: &[],
                histograms: None,
                starts: None,
                start_ms,
                end_ms,
                step_at_ms: job.grid.at(i),
                params: [param(0), param(1)],
                borders: reach.borders,
                span: job.span,
                notes: self.notes,
            };
            match (job.work)(&Window::cut(samples, from, to, like)) {
                None => {}
                Some(Point::Float(value)) => {
                    any = true;
                    series.values[i] = value;
                }
                point => {
                    any = true;
                    series.set(i, point);
                }
            }
        }
        Ok(any.then_some(series))
    }
}

/// Checks the scalar arguments of a function at a step at which there is a window.
fn check_params(name: &str, params: [f64; 2]) -> Result<()> {
    if name != "double_exponential_smoothing" {
        return Ok(());
    }
    for (what, sign, value) in [("smoothing", "sf", params[0]), ("trend", "tf", params[1])] {
        if value <= 0.0 || value >= 1.0 {
            let value = if value.is_finite() { format!("{value:.6}") } else { crate::number::format_float(value) };
            let text = format!("invalid {what} factor. Expected: 0 < {sign} < 1, got: {value}");
            return Err(Error::evaluation(text));
        }
    }
    Ok(())
}

/// What is computed over windows.
struct WindowJob<'a> {
    name: &'a str,
    work: WindowFn,
    scalars: Vec<Vec<f64>>,
    span: Span,
    grid: Grid,
}

/// Where the windows lie, and what they take in beyond their borders.
struct WindowReach {
    reach: Reach,
    range_ms: i64,
    before: i64,
    after: i64,
    borders: Borders,
}

/// Returns the texts among the arguments.
fn texts(args: &[Expr]) -> Vec<Cow<'_, str>> {
    let text = |arg: &'_ Expr| match &arg.unparen().kind {
        ExprKind::Text(text) => Some(text.clone()),
        _ => None,
    };
    args.iter().filter_map(text).map(Cow::Owned).collect()
}

fn absent_over_time(series: &[Series], matrix: &Expr, grid: &Grid) -> Vec<Series> {
    let labels = match &matrix.kind {
        ExprKind::Range(selector, _) => labels_of(&selector.matchers),
        _ => Labels::empty(),
    };
    let mut absent = Series::absent(labels, false, grid.len());
    for i in 0..grid.len() {
        if !series.iter().any(|one| one.has(i)) {
            absent.values[i] = 1.0;
        }
    }
    vec![absent]
}

/// Returns the labels that equality matchers pin; a label that is matched in any other way, or twice, is left out.
fn labels_of(matchers: &[Matcher]) -> Labels {
    let mut labels = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            labels.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            labels.remove(&matcher.name);
        }
    }
    labels.build()
}

/// Shares a histogram as a sample.
pub(super) fn histogram_point(histogram: crate::histogram::Histogram) -> Point {
    Point::Histogram(Arc::new(histogram))
}
