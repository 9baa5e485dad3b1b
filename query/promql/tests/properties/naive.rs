//! A small evaluator that looks at one point in time, written from the language's documentation: slow, plain, and sharing
//! nothing with the engine but the syntax tree. Of native histograms it knows count and sum.

use std::collections::BTreeMap;

use model::Matcher;
use query_promql::parse::ast::{
    Aggregate, AggregateOp as Agg, At, Binary, BinaryOp as Op, Cardinality, Expr, ExprKind, Selector, Subquery,
};

pub(crate) type Labels = BTreeMap<String, String>;

/// A sample's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sample {
    Float(f64),
    Histogram { count: f64, sum: f64 },
}

impl Sample {
    fn float(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Histogram { .. } => None,
        }
    }
}

/// One element of an instant vector; the name goes at the end where `nameless`.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    pub(crate) labels: Labels,
    pub(crate) sample: Sample,
    pub(crate) nameless: bool,
}

/// A stored series: (time in ms, value), without stale markers told apart by `None`.
pub(crate) type Stored = (Labels, Vec<(i64, Option<Sample>)>);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The query fails.
    Fails,
    /// This evaluator does not know how.
    Unknown,
}

type Result<T> = std::result::Result<T, Fault>;

pub(crate) struct Naive<'a> {
    pub(crate) stored: &'a [Stored],
    pub(crate) lookback_ms: i64,
    pub(crate) default_step_ms: i64,
}

enum Value {
    Scalar(f64),
    Vector(Vec<Element>),
}

/// The samples of one series in a window.
struct Window {
    labels: Labels,
    nameless: bool,
    samples: Vec<(i64, Sample)>,
    start_ms: i64,
    end_ms: i64,
}

impl Naive<'_> {
    /// Returns the final vector at `at`.
    pub(crate) fn answer(&self, expr: &Expr, at: i64) -> Result<Vec<(Labels, Sample)>> {
        let Value::Vector(vector) = self.eval(expr, at)? else { return Err(Fault::Unknown) };
        let mut out: Vec<(Labels, Sample)> = Vec::new();
        for one in vector {
            let mut labels = one.labels;
            if one.nameless {
                labels.remove("__name__");
            }
            if out.iter().any(|(other, _)| *other == labels) {
                return Err(Fault::Fails);
            }
            out.push((labels, one.sample));
        }
        Ok(out)
    }

    fn eval(&self, expr: &Expr, at: i64) -> Result<Value> {
        Ok(match &expr.kind {
            ExprKind::Number(number) => Value::Scalar(number.value),
            ExprKind::Paren(inner) => self.eval(inner, at)?,
            ExprKind::Selector(selector) => Value::Vector(self.select(selector, at)),
            ExprKind::Aggregate(one) => Value::Vector(self.aggregate(one, at)?),
            ExprKind::Binary(one) => self.binary(one, at)?,
            ExprKind::Call(function, args) => self.call(function.name, args, at)?,
            _ => return Err(Fault::Unknown),
        })
    }

    fn vector(&self, expr: &Expr, at: i64) -> Result<Vec<Element>> {
        match self.eval(expr, at)? {
            Value::Vector(vector) => {
                // Two elements with the same labels are refused wherever they come up.
                for (i, one) in vector.iter().enumerate() {
                    if vector[..i].iter().any(|other| other.labels == one.labels) {
                        return Err(Fault::Fails);
                    }
                }
                Ok(vector)
            }
            Value::Scalar(_) => Err(Fault::Unknown),
        }
    }

    fn scalar(&self, expr: &Expr, at: i64) -> Result<f64> {
        match self.eval(expr, at)? {
            Value::Scalar(value) => Ok(value),
            Value::Vector(_) => Err(Fault::Unknown),
        }
    }

    fn matching<'b>(&'b self, matchers: &'b [Matcher]) -> impl Iterator<Item = &'b Stored> + 'b {
        let value = |labels: &'b Labels, name: &str| labels.get(name).map_or("", String::as_str);
        self.stored.iter().filter(move |(labels, _)| matchers.iter().all(|m| m.matches(value(labels, &m.name))))
    }

    fn time(selector_at: Option<At>, offset: Option<f64>, at: i64) -> i64 {
        let base = match selector_at {
            Some(At::Time(ms)) => ms,
            _ => at,
        };
        base - (offset.unwrap_or(0.0) * 1000.0).round() as i64
    }

    fn newest(&self, selector: &Selector, at: i64) -> Vec<(Labels, i64, Sample)> {
        let offset = selector.offset.as_ref().and_then(|offset| offset.constant());
        let time = Self::time(selector.at, offset, at);
        let mut out = Vec::new();
        for (labels, samples) in self.matching(&selector.matchers) {
            let newest = samples.iter().rfind(|(t, _)| *t <= time && *t > time - self.lookback_ms);
            if let Some((t, Some(sample))) = newest {
                out.push((labels.clone(), *t, *sample));
            }
        }
        out
    }

    fn select(&self, selector: &Selector, at: i64) -> Vec<Element> {
        let found = self.newest(selector, at).into_iter();
        found.map(|(labels, _, sample)| Element { labels, sample, nameless: false }).collect()
    }

    fn windows(&self, expr: &Expr, at: i64) -> Result<Vec<Window>> {
        match &expr.unparen().kind {
            ExprKind::Range(selector, range) => {
                let offset = selector.offset.as_ref().and_then(|offset| offset.constant());
                let end_ms = Self::time(selector.at, offset, at);
                let start_ms = end_ms - (range.constant().unwrap() * 1000.0) as i64;
                let inside = |samples: &[(i64, Option<Sample>)]| {
                    let inside = samples.iter().filter(|(t, _)| start_ms < *t && *t <= end_ms);
                    inside.filter_map(|(t, sample)| sample.map(|sample| (*t, sample))).collect()
                };
                Ok(self
                    .matching(&selector.matchers)
                    .map(|(labels, samples)| Window {
                        labels: labels.clone(),
                        nameless: false,
                        samples: inside(samples),
                        start_ms,
                        end_ms,
                    })
                    .collect())
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, at),
            _ => Err(Fault::Unknown),
        }
    }

    fn subquery(&self, subquery: &Subquery, at: i64) -> Result<Vec<Window>> {
        let ms = |seconds: f64| (seconds * 1000.0) as i64;
        let end_ms = Self::time(subquery.at, subquery.offset.as_ref().and_then(|o| o.constant()), at);
        let start_ms = end_ms - ms(subquery.range.constant().unwrap());
        let step = subquery.step.as_ref().map_or(self.default_step_ms, |step| ms(step.constant().unwrap()));
        let mut windows: Vec<Window> = Vec::new();
        let first = start_ms.div_euclid(step) * step + step;
        for t in (0..).map(|i| first + i * step).take_while(|t| *t <= end_ms) {
            for one in self.vector(&subquery.expr, t)? {
                let same = |w: &&mut Window| w.labels == one.labels && w.nameless == one.nameless;
                match windows.iter_mut().find(same) {
                    Some(window) => window.samples.push((t, one.sample)),
                    None => windows.push(Window {
                        labels: one.labels,
                        nameless: one.nameless,
                        samples: vec![(t, one.sample)],
                        start_ms,
                        end_ms,
                    }),
                }
            }
        }
        Ok(windows)
    }

    fn call(&self, name: &str, args: &[Expr], at: i64) -> Result<Value> {
        let ranged = args.iter().find(|arg| matches!(arg.unparen().kind, ExprKind::Range(..) | ExprKind::Subquery(_)));
        if let Some(ranged) = ranged {
            return self.over_windows(name, args, ranged, at).map(Value::Vector);
        }
        match name {
            "time" => return Ok(Value::Scalar(at as f64 / 1000.0)),
            "pi" => return Ok(Value::Scalar(std::f64::consts::PI)),
            "vector" => {
                let sample = Sample::Float(self.scalar(&args[0], at)?);
                return Ok(Value::Vector(vec![Element { labels: Labels::new(), sample, nameless: false }]));
            }
            "scalar" => {
                let floats: Vec<f64> = self.vector(&args[0], at)?.iter().filter_map(|e| e.sample.float()).collect();
                return Ok(Value::Scalar(if floats.len() == 1 { floats[0] } else { f64::NAN }));
            }
            "timestamp" => {
                if let ExprKind::Selector(selector) = &args[0].unparen().kind {
                    if selector.at.is_some() && selector.offset.is_some() {
                        return Err(Fault::Unknown);
                    }
                    let found = self.newest(selector, at).into_iter();
                    let of = |(labels, t, _)| element(labels, t as f64 / 1000.0);
                    return Ok(Value::Vector(found.map(of).collect()));
                }
            }
            "absent" => {
                if !self.vector(&args[0], at)?.is_empty() {
                    return Ok(Value::Vector(Vec::new()));
                }
                return Ok(Value::Vector(vec![absent(&args[0])]));
            }
            _ => {}
        }
        let vector = self.vector(&args[0], at)?;
        let scalars: Vec<f64> = args[1..].iter().map(|arg| self.scalar(arg, at)).collect::<Result<_>>()?;
        if name == "clamp" && scalars[1] < scalars[0] {
            return Ok(Value::Vector(Vec::new()));
        }
        let mut out = Vec::new();
        for one in vector {
            let value = match (name, one.sample) {
                ("histogram_count", Sample::Histogram { count, .. }) => count,
                ("histogram_sum", Sample::Histogram { sum, .. }) => sum,
                ("histogram_avg", Sample::Histogram { count, sum }) => sum / count,
                ("histogram_count" | "histogram_sum" | "histogram_avg", _) => continue,
                ("timestamp", _) => at as f64 / 1000.0,
                (_, Sample::Histogram { .. }) => continue,
                ("abs", Sample::Float(v)) => v.abs(),
                ("ceil", Sample::Float(v)) => v.ceil(),
                ("floor", Sample::Float(v)) => v.floor(),
                ("sqrt", Sample::Float(v)) => v.sqrt(),
                ("exp", Sample::Float(v)) => v.exp(),
                ("ln", Sample::Float(v)) => v.ln(),
                ("sgn", Sample::Float(v)) if v > 0.0 => 1.0,
                ("sgn", Sample::Float(v)) if v < 0.0 => -1.0,
                ("sgn", Sample::Float(v)) => v,
                ("round", Sample::Float(v)) => (v * (1.0 / scalars[0]) + 0.5).floor() / (1.0 / scalars[0]),
                ("clamp", Sample::Float(v)) => larger(scalars[0], smaller(scalars[1], v)),
                _ => return Err(Fault::Unknown),
            };
            out.push(element(one.labels, value));
        }
        Ok(Value::Vector(out))
    }

    fn over_windows(&self, name: &str, args: &[Expr], ranged: &Expr, at: i64) -> Result<Vec<Element>> {
        let windows = self.windows(ranged, at)?;
        if name == "absent_over_time" {
            let present = windows.iter().any(|window| !window.samples.is_empty());
            return Ok(if present { Vec::new() } else { vec![absent(ranged)] });
        }
        let param = args.iter().find(|arg| !std::ptr::eq(*arg, ranged)).map(|arg| self.scalar(arg, at)).transpose()?;
        let mut out = Vec::new();
        for window in windows {
            if window.samples.is_empty() {
                continue;
            }
            let sample = match name {
                "last_over_time" => window.samples.last().map(|(_, sample)| *sample),
                "first_over_time" => window.samples.first().map(|(_, sample)| *sample),
                "count_over_time" => Some(Sample::Float(window.samples.len() as f64)),
                "present_over_time" => Some(Sample::Float(1.0)),
                _ => over_floats(name, &window, param.unwrap_or(0.0), at)?.map(Sample::Float),
            };
            let keeps = matches!(name, "last_over_time" | "first_over_time");
            if let Some(sample) = sample {
                out.push(Element { labels: window.labels, sample, nameless: window.nameless || !keeps });
            }
        }
        Ok(out)
    }

    fn aggregate(&self, one: &Aggregate, at: i64) -> Result<Vec<Element>> {
        // Values that differ by rounding have different texts.
        let is_rounded = |text: &str| ["predict_linear", "deriv"].iter().any(|name| text.contains(name));
        if one.op == Agg::CountValues && is_rounded(&one.expr.to_string()) {
            return Err(Fault::Unknown);
        }
        let vector = self.vector(&one.expr, at)?;
        let param = match &one.param {
            Some(param) if one.op != Agg::CountValues => self.scalar(param, at)?,
            _ => 0.0,
        };
        let key = |labels: &Labels| -> Labels {
            let named = |name: &String| one.grouping.contains(name);
            let keep = |name: &String| if one.without { !named(name) && name != "__name__" } else { named(name) };
            labels.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
        };
        let mut groups: Vec<(Labels, Vec<Element>)> = Vec::new();
        for element in vector {
            let key = key(&element.labels);
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, members)) => members.push(element),
                None => groups.push((key, vec![element])),
            }
        }
        let mut out = Vec::new();
        for (labels, members) in groups {
            out.extend(group(one.op, param, labels, members)?);
        }
        Ok(out)
    }

    fn binary(&self, one: &Binary, at: i64) -> Result<Value> {
        let (lhs, rhs) = (self.eval(&one.lhs, at)?, self.eval(&one.rhs, at)?);
        let vector = match (lhs, rhs) {
            (Value::Scalar(a), Value::Scalar(b)) => return Ok(Value::Scalar(arithmetic(one.op, a, b))),
            (Value::Vector(vector), Value::Scalar(b)) => {
                vector.into_iter().filter_map(|e| with_scalar(one, e, b, false)).collect()
            }
            (Value::Scalar(a), Value::Vector(vector)) => {
                vector.into_iter().filter_map(|e| with_scalar(one, e, a, true)).collect()
            }
            (Value::Vector(a), Value::Vector(b)) if one.op.is_set() => set(one, a, b),
            (Value::Vector(a), Value::Vector(b)) => matched(one, a, b)?,
        };
        Ok(Value::Vector(vector))
    }
}

fn element(labels: Labels, value: f64) -> Element {
    Element { labels, sample: Sample::Float(value), nameless: true }
}

fn absent(of: &Expr) -> Element {
    let mut labels = Labels::new();
    if let ExprKind::Selector(selector) | ExprKind::Range(selector, _) = &of.unparen().kind {
        for m in selector.matchers.iter().filter(|m| m.name != "__name__" && m.op == model::MatchOp::Equal) {
            labels.insert(m.name.clone(), m.value.clone());
        }
    }
    Element { labels, sample: Sample::Float(1.0), nameless: false }
}

fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a > b {
        a
    } else {
        b
    }
}

fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}

/// Computes what floats in a window come to; histograms are left out, or make the result nothing.
fn over_floats(name: &str, window: &Window, param: f64, at: i64) -> Result<Option<f64>> {
    let floats: Vec<(i64, f64)> = window.samples.iter().filter_map(|(t, s)| s.float().map(|v| (*t, v))).collect();
    let mixed = floats.len() < window.samples.len();
    let values: Vec<f64> = floats.iter().map(|(_, value)| *value).collect();
    let n = values.len() as f64;
    let histograms_matter = matches!(
        name,
        "rate" | "increase" | "delta" | "irate" | "idelta" | "changes" | "resets" | "sum_over_time" | "avg_over_time"
    );
    if mixed && histograms_matter {
        return Err(Fault::Unknown);
    }
    if values.is_empty() {
        return Ok(None);
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let pairs = || values.iter().zip(&values[1..]);
    let enough = |value: f64| if values.len() < 2 { None } else { Some(value) };
    Ok(match name {
        "sum_over_time" => Some(values.iter().sum()),
        "avg_over_time" => Some(mean),
        "min_over_time" => Some(values.iter().copied().fold(f64::NAN, f64::min)),
        "max_over_time" => Some(values.iter().copied().fold(f64::NAN, f64::max)),
        "stdvar_over_time" => Some(variance),
        "stddev_over_time" => Some(variance.sqrt()),
        "quantile_over_time" => Some(quantile(param, values)),
        "changes" => Some(pairs().filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan())).count() as f64),
        "resets" => Some(pairs().filter(|(a, b)| b < a).count() as f64),
        "rate" | "increase" | "delta" => rate(name, window, &floats),
        "irate" | "idelta" if values.len() >= 2 => {
            let [(t1, before), (t2, now)] = floats[floats.len() - 2..] else { return Err(Fault::Unknown) };
            let seconds = (t2 - t1) as f64 / 1000.0;
            let change = if name == "irate" && now < before { now } else { now - before };
            Some(if name == "irate" { change / seconds } else { change })
        }
        "irate" | "idelta" => None,
        // Which term becomes infinite first, or what is left of a difference, depends on the way of adding up.
        "deriv" | "predict_linear" if floats.iter().any(|(_, y)| !y.is_finite() || y.abs() > 1e100) => {
            return Err(Fault::Unknown);
        }
        "deriv" => enough(line(&floats, floats[0].0).0),
        "predict_linear" => {
            let (slope, here) = line(&floats, at);
            enough(here + slope * param)
        }
        _ => return Err(Fault::Unknown),
    })
}

/// Returns slope and the value at `at` of the line of least squares.
fn line(floats: &[(i64, f64)], at: i64) -> (f64, f64) {
    let n = floats.len() as f64;
    if floats.iter().all(|(_, y)| *y == floats[0].1) {
        return if floats[0].1.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, floats[0].1) };
    }
    let points: Vec<(f64, f64)> = floats.iter().map(|(t, y)| ((t - at) as f64 / 1000.0, *y)).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let under: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    (over / under, y - over / under * x)
}

/// The documentation's rule: add up the increases, then extrapolate to the window's borders, up to half a sample's
/// distance where the samples do not reach close to them, and not below zero for counters.
fn rate(name: &str, window: &Window, floats: &[(i64, f64)]) -> Option<f64> {
    let counter = name != "delta";
    if floats.len() < 2 {
        return None;
    }
    let (first, last) = (floats[0], floats[floats.len() - 1]);
    let mut change = last.1 - first.1;
    for pair in floats.windows(2) {
        if counter && pair[1].1 < pair[0].1 {
            change += pair[0].1;
        }
    }
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let sampled = seconds(last.0 - first.0);
    let average = sampled / (floats.len() - 1) as f64;
    let reach = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
    let mut before = reach(seconds(first.0 - window.start_ms));
    if counter && change > 0.0 && first.1 >= 0.0 && sampled * (first.1 / change) < before {
        before = sampled * (first.1 / change);
    }
    let all = change * (sampled + before + reach(seconds(window.end_ms - last.0))) / sampled;
    Some(if name == "rate" { all / seconds(window.end_ms - window.start_ms) } else { all })
}

fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    // NaN counts as the smallest.
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)));
    let rank = q * (values.len() - 1) as f64;
    let (low, high) = (values[rank.floor() as usize], values[(rank.floor() as usize + 1).min(values.len() - 1)]);
    low * (1.0 - rank.fract()) + high * rank.fract()
}

fn group(op: Agg, param: f64, labels: Labels, members: Vec<Element>) -> Result<Vec<Element>> {
    let nameless = members.iter().any(|member| member.nameless);
    let floats: Vec<f64> = members.iter().filter_map(|member| member.sample.float()).collect();
    let n = floats.len() as f64;
    let one = |value: f64| Ok(vec![Element { labels: labels.clone(), sample: Sample::Float(value), nameless }]);
    match op {
        Agg::Count => return one(members.len() as f64),
        Agg::Group => return one(1.0),
        Agg::Sum | Agg::Avg if floats.is_empty() => {
            let (mut all, mut total) = (0.0, 0.0);
            for member in &members {
                if let Sample::Histogram { count, sum } = member.sample {
                    (all, total) = (all + count, total + sum);
                }
            }
            let by = if op == Agg::Avg { members.len() as f64 } else { 1.0 };
            let sample = Sample::Histogram { count: all / by, sum: total / by };
            return Ok(vec![Element { labels, sample, nameless }]);
        }
        Agg::Sum | Agg::Avg if floats.len() < members.len() => return Ok(Vec::new()),
        Agg::CountValues if floats.len() < members.len() => return Err(Fault::Unknown),
        _ => {}
    }
    if floats.is_empty() {
        return Ok(Vec::new());
    }
    let mean = floats.iter().sum::<f64>() / n;
    let variance = floats.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    match op {
        Agg::Sum => one(floats.iter().sum()),
        Agg::Avg => one(mean),
        Agg::Min => one(floats.iter().copied().fold(f64::NAN, f64::min)),
        Agg::Max => one(floats.iter().copied().fold(f64::NAN, f64::max)),
        Agg::Stdvar => one(variance),
        Agg::Stddev => one(variance.sqrt()),
        Agg::Quantile => one(quantile(param, floats)),
        Agg::Topk | Agg::Bottomk => best(op == Agg::Topk, param as usize, members),
        Agg::CountValues => {
            let mut counts: BTreeMap<String, f64> = BTreeMap::new();
            for value in floats {
                *counts.entry(model::number::format_float(value)).or_default() += 1.0;
            }
            let counted = counts.into_iter().map(|(text, count)| {
                let mut labels = labels.clone();
                labels.insert("v".to_owned(), text);
                Element { labels, sample: Sample::Float(count), nameless: false }
            });
            Ok(counted.collect())
        }
        _ => Err(Fault::Unknown),
    }
}

/// Keeps the `k` best; which of equal ones is not for this evaluator to say.
fn best(top: bool, k: usize, members: Vec<Element>) -> Result<Vec<Element>> {
    let value = |member: &Element| member.sample.float().unwrap_or(f64::NAN);
    let mut floats: Vec<Element> = members.into_iter().filter(|member| member.sample.float().is_some()).collect();
    floats.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
        a.is_nan().cmp(&b.is_nan()).then(if top { order.reverse() } else { order })
    });
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
    if floats.len() > k && k > 0 && same(value(&floats[k - 1]), value(&floats[k])) {
        return Err(Fault::Unknown);
    }
    floats.truncate(k);
    Ok(floats)
}

fn arithmetic(op: Op, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Mod => a % b,
        Op::Pow => a.powf(b),
        Op::Equal => truth(a == b),
        Op::NotEqual => truth(a != b),
        Op::Greater => truth(a > b),
        Op::Less => truth(a < b),
        Op::GreaterEqual => truth(a >= b),
        Op::LessEqual => truth(a <= b),
        _ => f64::NAN,
    }
}

/// What an operator gives: nothing, a sample, or for a comparison whether the left sample stays.
enum Outcome {
    Nothing,
    Sample(Sample),
    Holds(bool),
}

fn operate(op: Op, a: Sample, b: Sample) -> Outcome {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) if op.is_comparison() => Outcome::Holds(arithmetic(op, a, b) == 1.0),
        (Sample::Float(a), Sample::Float(b)) => Outcome::Sample(Sample::Float(arithmetic(op, a, b))),
        (Sample::Histogram { count, sum }, Sample::Float(by)) if matches!(op, Op::Mul | Op::Div) => {
            Outcome::Sample(Sample::Histogram { count: arithmetic(op, count, by), sum: arithmetic(op, sum, by) })
        }
        (Sample::Float(by), Sample::Histogram { count, sum }) if op == Op::Mul => {
            Outcome::Sample(Sample::Histogram { count: count * by, sum: sum * by })
        }
        (Sample::Histogram { count, sum }, Sample::Histogram { count: c, sum: s }) => match op {
            Op::Add | Op::Sub => {
                Outcome::Sample(Sample::Histogram { count: arithmetic(op, count, c), sum: arithmetic(op, sum, s) })
            }
            Op::Equal => Outcome::Holds(count == c && sum == s),
            Op::NotEqual => Outcome::Holds(count != c || sum != s),
            _ => Outcome::Nothing,
        },
        _ => Outcome::Nothing,
    }
}

fn with_scalar(one: &Binary, element: Element, scalar: f64, scalar_first: bool) -> Option<Element> {
    let scalar = Sample::Float(scalar);
    let (a, b) = if scalar_first { (scalar, element.sample) } else { (element.sample, scalar) };
    let (sample, changed) = match operate(one.op, a, b) {
        Outcome::Nothing => return None,
        Outcome::Sample(sample) => (sample, true),
        Outcome::Holds(holds) if one.returns_bool => (Sample::Float(f64::from(u8::from(holds))), true),
        Outcome::Holds(true) => (element.sample, false),
        Outcome::Holds(false) => return None,
    };
    Some(Element { sample, nameless: element.nameless || changed, ..element })
}

fn key(one: &Binary, labels: &Labels) -> Labels {
    let named = |name: &String| one.matching.labels.contains(name);
    let keep = |name: &String| if one.matching.on { named(name) } else { !named(name) && name != "__name__" };
    labels.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn set(one: &Binary, lhs: Vec<Element>, rhs: Vec<Element>) -> Vec<Element> {
    let in_side = |side: &[Element], e: &Element| side.iter().any(|o| key(one, &o.labels) == key(one, &e.labels));
    match one.op {
        Op::And => lhs.into_iter().filter(|e| in_side(&rhs, e)).collect(),
        Op::Unless => lhs.into_iter().filter(|e| !in_side(&rhs, e)).collect(),
        _ => {
            let more: Vec<Element> = rhs.into_iter().filter(|e| !in_side(&lhs, e)).collect();
            lhs.into_iter().chain(more).collect()
        }
    }
}

fn matched(one: &Binary, lhs: Vec<Element>, rhs: Vec<Element>) -> Result<Vec<Element>> {
    let matching = &one.matching;
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    if (lhs.is_empty() || rhs.is_empty()) && fill_many.is_none() && fill_one.is_none() {
        return Ok(Vec::new());
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, few) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    for (i, e) in few.iter().enumerate() {
        if few[..i].iter().any(|other| key(one, &other.labels) == key(one, &e.labels)) {
            return Err(Fault::Fails);
        }
    }
    let filled = |labels: Labels, value: f64| Element { labels, sample: Sample::Float(value), nameless: false };
    let mut pairs: Vec<(Element, Element, bool)> = Vec::new();
    for e in &many {
        let key_of = key(one, &e.labels);
        let partner = few.iter().find(|other| key(one, &other.labels) == key_of).cloned();
        if let Some(partner) = partner.or(fill_one.map(|value| filled(key_of, value))) {
            pairs.push((e.clone(), partner, false));
        }
    }
    for e in few {
        let key_of = key(one, &e.labels);
        if let Some(value) = fill_many {
            pairs.push((filled(key_of, value), e, true));
        }
    }
    let mut out: Vec<Element> = Vec::new();
    let mut taken: Vec<(Labels, Labels)> = Vec::new();
    for (many, few, is_filled) in pairs {
        let group = key(one, &few.labels);
        if is_filled && taken.iter().any(|(other, _)| *other == group) {
            continue;
        }
        let (a, b) = if swapped { (few.sample, many.sample) } else { (many.sample, few.sample) };
        let sample = match operate(one.op, a, b) {
            Outcome::Nothing => continue,
            Outcome::Sample(sample) => Some(sample),
            Outcome::Holds(holds) if one.returns_bool => Some(Sample::Float(f64::from(u8::from(holds)))),
            Outcome::Holds(holds) => holds.then_some(a),
        };
        let mut labels = many.labels.clone();
        if !one.op.is_comparison() {
            labels.remove("__name__");
        }
        if matching.cardinality == Cardinality::OneToOne {
            labels.retain(|name, _| matching.labels.contains(name) == matching.on);
        }
        for name in &matching.include {
            labels.remove(name);
            if let Some(value) = few.labels.get(name) {
                labels.insert(name.clone(), value.clone());
            }
        }
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let repeats = |(other, result): &(Labels, Labels)| *other == group && (one_to_one || *result == labels);
        if taken.iter().any(repeats) {
            return Err(Fault::Fails);
        }
        taken.push((group, labels.clone()));
        out.extend(sample.map(|sample| Element { labels, sample, nameless: one.returns_bool }));
    }
    Ok(out)
}
