//! Reads scripts, runs their cases, and compares.

use std::collections::HashMap;
use std::fmt::Write;

use model::Labels;
use query_promql::parse::parse;
use query_promql::{Answer, Grid, Options, Point, Query, Series, Value, evaluate};
use regex::Regex;
use storage_api::QueryContext;

use super::data::{MaybePoint, Store, duration_ms, points, split_labels};

/// The same query with every selector pinned by `@`, and other times at which it is to give the same.
pub(crate) struct Variants(HashMap<(String, i64), (String, Vec<i64>)>);

impl Variants {
    /// Reads the JSON list of variants.
    pub(crate) fn read(text: &str) -> Self {
        let list: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        let one = |value: &serde_json::Value| {
            let text = |key: &str| value[key].as_str().unwrap().to_owned();
            let times = value["times"].as_array().unwrap().iter().map(|at| at.as_i64().unwrap()).collect();
            ((text("expr"), value["at"].as_i64().unwrap()), (text("new"), times))
        };
        Self(list.iter().map(one).collect())
    }

    fn check(&self, store: &Store, text: &str, at: i64, expected: &Expected) -> Result<(), String> {
        let Some((pinned, times)) = self.0.get(&(text.to_owned(), at)) else { return Ok(()) };
        for time in times {
            let grid = Grid::instant(*time);
            compare(&evaluated(store, pinned, grid, false), expected, grid, false)
                .map_err(|reason| format!("pinned at {time}: {pinned}: {reason}"))?;
        }
        Ok(())
    }
}

/// Runs a script; returns how many cases passed, and the others in words.
pub(crate) fn script(text: &str, variants: &Variants) -> (usize, Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut store = Store::default();
    let (mut passed, mut failures) = (0, Vec::new());
    let mut i = 0;
    while i < lines.len() {
        let line = lines[i].trim();
        let number = i + 1;
        i += 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let block: Vec<&str> = lines[i..]
            .iter()
            .map(|line| line.trim())
            .take_while(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        if line == "clear" {
            store = Store::default();
        } else if let Some(rest) = line.strip_prefix("load") {
            i += block.len();
            load(&mut store, rest, &block);
        } else if let Some((command, rest)) = line.split_once(' ').filter(|(word, _)| word.starts_with("eval")) {
            i += block.len();
            let mut block = block;
            // The older form of `expect …`.
            block.extend(match command {
                "eval_fail" => Some("expect fail"),
                "eval_warn" => Some("expect warn"),
                "eval_info" => Some("expect info"),
                "eval_ordered" => Some("expect ordered"),
                _ => None,
            });
            match case(&store, rest, &block, variants) {
                Ok(()) => passed += 1,
                Err(reason) => failures.push(format!("{number}: {rest}\n    {reason}")),
            }
        } else {
            panic!("line {number}: unknown command {line}");
        }
    }
    (passed, failures)
}

fn load(store: &mut Store, rest: &str, block: &[&str]) {
    let (custom, step) = rest.strip_prefix("_with_nhcb").map_or((false, rest), |rest| (true, rest));
    let step_ms = duration_ms(step.trim());
    let mut loaded = Vec::new();
    let mut starts: Option<Vec<Option<i64>>> = None;
    for line in block {
        let (labels, rest) = split_labels(line.split("@st").next().filter(|_| line.contains("@st")).unwrap_or(line));
        if let Some((_, offsets)) = line.split_once("@st") {
            starts = Some(start_offsets(offsets));
            continue;
        }
        store.load(&labels, &points(rest), step_ms, starts.take().as_deref());
        loaded.push(labels);
    }
    if custom {
        store.add_custom_histograms(&loaded);
    }
    store.mark_resets();
}

/// Reads `_ _ -30s-1mx2 -1m`: offsets with repetition, as points are.
fn start_offsets(text: &str) -> Vec<Option<i64>> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        if let Some(count) = word.strip_prefix("_x") {
            out.extend(vec![None; count.parse().unwrap()]);
            continue;
        }
        if word == "_" {
            out.push(None);
            continue;
        }
        let (terms, count) = match word.rsplit_once('x') {
            Some((terms, count)) => (terms, count.parse::<usize>().unwrap()),
            None => (word, 0),
        };
        let sign = terms.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')).map(|(i, _)| i);
        let (start, step) = match sign {
            Some(at) => {
                (duration_ms(terms[..at].trim_start_matches('+')), duration_ms(terms[at..].trim_start_matches('+')))
            }
            None => (duration_ms(terms.trim_start_matches('+')), 0),
        };
        for k in 0..=count {
            out.push(Some(start + step * k as i64));
        }
    }
    out
}

/// What a case expects beside its result.
#[derive(Default)]
struct Expected {
    fail: Option<Option<Text>>,
    warn: Vec<Option<Text>>,
    info: Vec<Option<Text>>,
    no_warn: bool,
    no_info: bool,
    ordered: bool,
    text: Option<String>,
    range: Option<Grid>,
    scalar: Option<f64>,
    series: Vec<(Labels, Vec<MaybePoint>)>,
}

enum Text {
    Exact(String),
    Pattern(Regex),
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => expected == text,
            Self::Pattern(regex) => regex.is_match(text),
        }
    }
}

fn text_of(rest: &str) -> Option<Text> {
    let rest = rest.trim();
    if let Some(exact) = rest.strip_prefix("msg:") {
        return Some(Text::Exact(exact.trim().to_owned()));
    }
    rest.strip_prefix("regex:").map(|pattern| Text::Pattern(Regex::new(pattern.trim()).unwrap()))
}

fn expected(block: &[&str]) -> Expected {
    let mut expected = Expected::default();
    for line in block {
        if let Some(rest) = line.strip_prefix("expect ") {
            let (word, rest) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
            match word.trim_end_matches(':') {
                "fail" => expected.fail = Some(text_of(rest)),
                "warn" => expected.warn.push(text_of(rest)),
                "info" => expected.info.push(text_of(rest)),
                "no_warn" => expected.no_warn = true,
                "no_info" => expected.no_info = true,
                "ordered" => expected.ordered = true,
                "string" => {
                    let expr = parse(rest.trim()).unwrap();
                    let query_promql::parse::ast::ExprKind::Text(text) = expr.kind else { panic!("{line}") };
                    expected.text = Some(text);
                }
                "range" => {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    let ["vector", "from", start, "to", end, "step", step] = words[..] else { panic!("{line}") };
                    expected.range = Some(Grid {
                        start_ms: duration_ms(start),
                        end_ms: duration_ms(end),
                        step_ms: duration_ms(step),
                    });
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let lone = line.replace(['+', '-'], "").to_ascii_lowercase();
        if !line.contains(char::is_whitespace) && (lone.parse::<f64>().is_ok() || lone.starts_with("0x")) {
            if let Some(Point::Float(value)) = points(line)[0] {
                expected.scalar = Some(value);
            }
            continue;
        }
        let (labels, rest) = split_labels(line);
        expected.series.push((labels, points(rest)));
    }
    expected
}

fn case(store: &Store, rest: &str, block: &[&str], variants: &Variants) -> Result<(), String> {
    let expected = expected(block);
    let words: Vec<&str> = rest.splitn(4, char::is_whitespace).collect();
    if words[0] == "instant" {
        let at = duration_ms(words[2]);
        let text = words[3].trim();
        let grid = Grid::instant(at);
        compare(&evaluated(store, text, grid, false), &expected, grid, true)?;
        variants.check(store, text, at, &expected)?;
        return middle_of_range(store, text, at, &expected);
    }
    let rest = rest.trim_start_matches("range from").trim();
    let words: Vec<&str> = rest.splitn(6, char::is_whitespace).collect();
    let [start, "to", end, "step", step, text] = words[..] else { panic!("{rest}") };
    let grid = Grid { start_ms: duration_ms(start), end_ms: duration_ms(end), step_ms: duration_ms(step) };
    compare(&evaluated(store, text.trim(), grid, true), &expected, grid, true)
}

/// Every instant case is also to be the middle step of a range query.
fn middle_of_range(store: &Store, text: &str, at: i64, expected: &Expected) -> Result<(), String> {
    let by_query = ["range()", "step()", "start()", "end()"];
    if expected.fail.is_some() || expected.ordered || expected.range.is_some() || expected.text.is_some() {
        return Ok(());
    }
    if by_query.iter().any(|name| text.to_ascii_lowercase().contains(name)) {
        return Ok(());
    }
    let grid = Grid { start_ms: at - 60_000, end_ms: at + 60_000, step_ms: 60_000 };
    let answer = match evaluated(store, text, grid, true) {
        Ok(answer) => answer,
        // Steps beside the middle may fail on their own.
        Err(_) => return Ok(()),
    };
    let value = match answer.value {
        Value::Scalar(values) => Value::Scalar(vec![values[1]]),
        Value::Vector(series) => {
            let one = |series: &Series| {
                let mut one = Series::absent(series.labels.clone(), false, 1);
                one.set(0, series.get(1));
                one
            };
            Value::Vector(series.iter().map(one).filter(|series| !series.is_empty()).collect())
        }
        other => other,
    };
    let answer = Answer { value, grid: Grid::instant(at), warnings: Vec::new(), infos: Vec::new() };
    compare(&Ok(answer), expected, Grid::instant(at), false).map_err(|reason| format!("as a range: {reason}"))
}

fn evaluated(store: &Store, text: &str, grid: Grid, is_range: bool) -> Result<Answer, String> {
    let expr = parse(text).map_err(|error| error.to_string())?;
    let printed = expr.to_string();
    match parse(&printed) {
        Ok(again) if again == expr => {}
        Ok(again) => return Err(format!("printing changes {text} to {printed} to {again}")),
        Err(error) => return Err(format!("printing makes {text} invalid: {printed}: {error}")),
    }
    let query = Query { expr: &expr, text, grid, is_range, options: Options::default() };
    evaluate(&query, store, &QueryContext::default()).map_err(|error| error.to_string())
}

fn compare(answer: &Result<Answer, String>, expected: &Expected, grid: Grid, notes: bool) -> Result<(), String> {
    let answer = match (answer, &expected.fail) {
        (Err(error), Some(text)) => {
            let fits = text.as_ref().is_none_or(|text| text.matches(error));
            return if fits { Ok(()) } else { Err(format!("another failure: {error}")) };
        }
        (Ok(_), Some(_)) => return Err("expected to fail".to_owned()),
        (Err(error), None) => return Err(format!("failed: {error}")),
        (Ok(answer), None) => answer,
    };
    if notes {
        compare_notes("warnings", &answer.warnings, &expected.warn, expected.no_warn)?;
        compare_notes("infos", &answer.infos, &expected.info, expected.no_info)?;
    }
    match &answer.value {
        Value::Text(text) => match &expected.text {
            Some(wanted) if wanted == text => Ok(()),
            wanted => Err(format!("expected {wanted:?}, got {text:?}")),
        },
        Value::Scalar(values) => {
            let wanted: Vec<f64> = match (expected.scalar, expected.series.first()) {
                (Some(value), _) => vec![value],
                (None, Some((_, points))) => points
                    .iter()
                    .map(|p| match p {
                        Some(Point::Float(value)) => *value,
                        _ => f64::NAN,
                    })
                    .collect(),
                (None, None) => return Err(format!("expected no scalar, got {values:?}")),
            };
            let same = wanted.len() == values.len() && wanted.iter().zip(values).all(|(a, b)| close(*a, *b));
            if same { Ok(()) } else { Err(format!("expected {wanted:?}, got {values:?}")) }
        }
        Value::Vector(series) => compare_vector(series, expected, grid),
        Value::Matrix(samples) => {
            let grid = expected.range.unwrap_or(grid);
            let mut series = Vec::new();
            for one in samples {
                let mut column = Series::absent(one.labels.clone(), false, grid.len());
                for i in 0..one.values.len() {
                    let offset = one.timestamps_ms[i] - grid.start_ms;
                    if offset < 0 || offset % grid.step_ms != 0 || one.timestamps_ms[i] > grid.end_ms {
                        return Err(format!("a sample at {} is not on the grid", one.timestamps_ms[i]));
                    }
                    column.set((offset / grid.step_ms) as usize, Some(one.get(i)));
                }
                series.push(column);
            }
            compare_vector(&series, expected, grid)
        }
    }
}

fn compare_notes(what: &str, got: &[String], wanted: &[Option<Text>], none: bool) -> Result<(), String> {
    if none && !got.is_empty() {
        return Err(format!("expected no {what}, got {got:?}"));
    }
    if !wanted.is_empty() && got.is_empty() {
        return Err(format!("expected {what}, got none"));
    }
    for text in wanted.iter().flatten() {
        if !got.iter().any(|have| text.matches(have)) {
            return Err(format!("other {what}: {got:?}"));
        }
    }
    Ok(())
}

fn compare_vector(got: &[Series], expected: &Expected, grid: Grid) -> Result<(), String> {
    let steps = grid.len();
    let column = |points: &[MaybePoint]| {
        let mut points: Vec<MaybePoint> = points.to_vec();
        points.resize(steps, None);
        points
    };
    let show = || {
        let mut text = String::new();
        for series in got {
            write!(text, "\n      got  {:?}", series.labels).unwrap();
            for i in 0..steps {
                match series.get(i) {
                    None => text.push_str(" _"),
                    Some(Point::Float(value)) => write!(text, " {value}").unwrap(),
                    Some(Point::Histogram(histogram)) => write!(text, " {histogram} {:?}", histogram.hint).unwrap(),
                }
            }
        }
        text
    };
    if got.len() != expected.series.len() {
        return Err(format!("expected {} series, got {}{}", expected.series.len(), got.len(), show()));
    }
    for (i, (labels, points)) in expected.series.iter().enumerate() {
        let found = if expected.ordered {
            got.get(i).filter(|s| s.labels == *labels)
        } else {
            got.iter().find(|s| s.labels == *labels)
        };
        let Some(series) = found else { return Err(format!("{labels:?} is missing{}", show())) };
        for (step, wanted) in column(points).into_iter().enumerate() {
            let same = match (&wanted, series.get(step)) {
                (None, None) => true,
                (Some(Point::Float(a)), Some(Point::Float(b))) => close(*a, b),
                (Some(Point::Histogram(a)), Some(Point::Histogram(b))) => {
                    let hint = a.hint == query_promql::histogram::ResetHint::Unknown || a.hint == b.hint;
                    hint && close_histograms(a, &b)
                }
                _ => false,
            };
            if !same {
                let shown = match wanted {
                    Some(Point::Histogram(histogram)) => format!("{histogram} {:?}", histogram.hint),
                    other => format!("{other:?}"),
                };
                return Err(format!("{labels:?} at step {step}: expected {shown}{}", show()));
            }
        }
    }
    Ok(())
}

fn close(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    if !a.is_finite() || !b.is_finite() {
        return false;
    }
    let distance = (a - b).abs();
    let sum = a.abs() + b.abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return distance < 1e-6 * f64::MIN_POSITIVE;
    }
    distance / sum.min(f64::MAX) < 1e-6
}

fn close_histograms(a: &query_promql::histogram::Histogram, b: &query_promql::histogram::Histogram) -> bool {
    let sides = |a: &[(i32, f64)], b: &[(i32, f64)]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
    };
    a.schema == b.schema
        && close(a.count, b.count)
        && close(a.sum, b.sum)
        && close(a.zero_count, b.zero_count)
        && close(a.zero_threshold, b.zero_threshold)
        && a.custom == b.custom
        && sides(&a.positive, &b.positive)
        && sides(&a.negative, &b.negative)
}
