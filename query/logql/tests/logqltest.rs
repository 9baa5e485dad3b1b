//! Loki's evaluation scripts, read from `../shared/logql/logqltest`, where they are licensed AGPL-3.0.

#![expect(clippy::unwrap_used, clippy::string_slice, clippy::print_stderr, reason = "a test of its own")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::{Labels, Timestamp};
use query_logql::{Expr, MetricResult, Steps};
use storage_api::QueryContext;
use storage_api::fake::FakeLogs;

/// One expected series: its labels (`None` for a bare number) and its values.
type Expected = (Option<BTreeMap<String, String>>, Vec<Option<f64>>);

#[derive(Debug, Default)]
struct Case {
    line: usize,
    instant: bool,
    steps: (i64, i64, i64),
    query: String,
    series: Vec<Expected>,
    ordered: bool,
    fails: Option<Failure>,
}

#[derive(Debug)]
enum Failure {
    Any,
    Contains(String),
    Matches(String),
}

fn duration(text: &str) -> i64 {
    let mut total = 0.0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "" if number == "0" => 0.0,
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            _ => panic!("no duration: {text}"),
        };
        total += number.parse::<f64>().unwrap() * scale;
        rest = tail;
    }
    total as i64
}

/// Reads `{a="b", c="d"}` off the front of `text`.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut rest = text.strip_prefix('{').unwrap().trim_start();
    let mut out = BTreeMap::new();
    while !rest.starts_with('}') {
        let (name, tail) = rest.split_once('=').unwrap();
        let (value, tail) = quoted(tail.trim_start());
        out.insert(name.trim().to_owned(), value);
        rest = tail.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    (out, &rest[1..])
}

/// Reads a string off the front; escapes are resolved for labels of expected series only where they occur.
fn quoted(text: &str) -> (String, &str) {
    let quote = text.chars().next().unwrap();
    let mut end = 1;
    let bytes = text.as_bytes();
    while bytes[end] != quote as u8 {
        end += if bytes[end] == b'\\' && quote == '"' { 2 } else { 1 };
    }
    let inner = &text[1..end];
    let value = if quote == '"' && inner.contains('\\') {
        serde_json::from_str(&text[..=end]).unwrap_or_else(|_| inner.to_owned())
    } else {
        inner.to_owned()
    };
    (value, &text[end + 1..])
}

fn load(line: &str, logs: &FakeLogs) {
    let (stream, rest) = labels(line);
    let rest = rest.trim_start();
    let quote = rest.chars().next().unwrap();
    // Lines have no escapes: the quote that ends one is followed by the time.
    let (end, _) = rest
        .match_indices(quote)
        .find(|(i, _)| *i > 0 && rest[i + 1..].trim_start().starts_with("@ "))
        .unwrap_or_else(|| panic!("no time: {line}"));
    let text = &rest[1..end];
    let rest = rest[end + 1..].trim_start().strip_prefix("@ ").unwrap();
    let start_end = rest.find([' ', '[']).unwrap_or(rest.len());
    let start = duration(rest[..start_end].trim());
    let rest = &rest[start_end..];
    let (mut every, mut count) = (0, 1);
    if let Some((_, repeat)) = rest.split_once("[repeat every ") {
        let (step, tail) = repeat.split_once(" for ").unwrap();
        every = duration(step);
        count = tail[..tail.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap();
    }
    let mut metadata = Vec::new();
    if let Some((_, tail)) = rest.split_once("[metadata ") {
        let mut tail = tail;
        while let Some((name, after)) = tail.split_once('=') {
            let (value, after) = quoted(after);
            metadata.push((name.trim().trim_start_matches(',').trim().to_owned(), value));
            tail = after;
            if tail.trim_start().starts_with(']') {
                break;
            }
        }
    }
    for i in 0..count {
        let index = |text: &str| text.replace("{{.i}}", &i.to_string());
        let stream = Labels::from_pairs(stream.iter().map(|(name, value)| (name, index(value))));
        let metadata: Vec<(String, String)> =
            metadata.iter().map(|(name, value)| (name.clone(), index(value))).collect();
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        logs.push(&stream, Timestamp(start + every * i), &index(text), &metadata);
    }
}

fn number(text: &str) -> f64 {
    match text {
        "NaN" => f64::NAN,
        "Inf" | "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        _ => text.parse().unwrap_or_else(|_| panic!("no number: {text}")),
    }
}

/// Reads `1 _ 2x3 1+2x3`.
fn values(text: &str) -> Vec<Option<f64>> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        let Some((start, times)) = word.split_once('x') else {
            out.push((word != "_").then(|| number(word)));
            continue;
        };
        let times: usize = times.parse().unwrap();
        if start == "_" {
            out.extend(vec![None; times]);
            continue;
        }
        let split = start[1..].find(['+', '-']).map(|i| i + 1);
        match split {
            Some(i) => {
                let (from, by) = start.split_at(i);
                let (from, by) = (number(from), number(by.trim_start_matches('+')));
                out.extend((0..=times).map(|n| Some(from + by * n as f64)));
            }
            None => out.extend(vec![Some(number(start)); times + 1]),
        }
    }
    out
}

fn expected(line: &str) -> Expected {
    if line.starts_with('{') {
        let (labels, rest) = labels(line);
        (Some(labels), values(rest))
    } else {
        (None, values(line))
    }
}

fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (i, c) in line.char_indices() {
        match (c, quote) {
            ('#', None) => return line[..i].trim_end(),
            ('"' | '`', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    line.trim_end()
}

fn eval_header(line: &str, number: usize) -> Case {
    let rest = line.strip_prefix("eval ").unwrap();
    let mut case = Case { line: number, ..Case::default() };
    if let Some(rest) = rest.strip_prefix("instant at ") {
        let (at, query) = rest.split_once(' ').unwrap();
        let at = duration(at);
        case.instant = true;
        case.steps = (at, at, 0);
        query.clone_into(&mut case.query);
    } else {
        let rest = rest.strip_prefix("range from ").unwrap();
        let words: Vec<&str> = rest.splitn(6, ' ').collect();
        case.steps = (duration(words[0]), duration(words[2]), duration(words[4]));
        words[5].clone_into(&mut case.query);
    }
    case
}

/// Runs one case; `Err` says what is wrong.
fn run(case: &Case, logs: &FakeLogs) -> Result<(), String> {
    let (start_ns, end_ns, step_ns) = case.steps;
    let steps = Steps { start_ns, end_ns, step_ns };
    let result = query_logql::parse(&case.query).map_err(query_logql::Error::from).and_then(|expr| match expr {
        Expr::Metric(metric) => query_logql::evaluate(&metric, steps, logs, &QueryContext::default()),
        Expr::Log(_) => panic!("a log query"),
    });
    let result = match (result, &case.fails) {
        (Ok(result), None) => result,
        (Ok(result), Some(_)) => return Err(format!("should fail, gives {result:?}")),
        (Err(error), None) => return Err(format!("fails: {error}")),
        (Err(_), Some(Failure::Any)) => return Ok(()),
        (Err(error), Some(Failure::Contains(part))) => {
            return if error.to_string().contains(part) { Ok(()) } else { Err(format!("says {error}, not {part}")) };
        }
        (Err(error), Some(Failure::Matches(pattern))) => {
            let regex = regex::Regex::new(pattern).unwrap();
            return if regex.is_match(&error.to_string()) {
                Ok(())
            } else {
                Err(format!("says {error}, not {pattern}"))
            };
        }
    };
    let count = steps.count();
    let got: Vec<Expected> = match result {
        MetricResult::Scalar(value) => vec![(None, vec![Some(value); count])],
        MetricResult::Series(series) => series
            .into_iter()
            .map(|one| (Some(one.labels.iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect()), one.values))
            .collect(),
    };
    let mut want = case.series.clone();
    for (_, values) in &mut want {
        values.resize(count, None);
    }
    let mut got_sorted = got.clone();
    if !case.ordered {
        got_sorted.sort_by(|a, b| a.0.cmp(&b.0));
        want.sort_by(|a, b| a.0.cmp(&b.0));
    }
    // A literal over a range is a series without labels.
    let same_labels = |a: &Expected, b: &Expected| {
        a.0.as_ref().is_none_or(BTreeMap::is_empty) && b.0.as_ref().is_none_or(BTreeMap::is_empty) || a.0 == b.0
    };
    let close = |a: &Option<f64>, b: &Option<f64>| match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => false,
    };
    let same = got_sorted.len() == want.len()
        && got_sorted.iter().zip(&want).all(|(a, b)| {
            same_labels(a, b) && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| close(a, b))
        });
    if same { Ok(()) } else { Err(format!("gives {got_sorted:?}\n    not   {want:?}")) }
}

fn run_file(path: &Path) -> (usize, usize, Vec<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut logs = FakeLogs::default();
    let mut wrong = Vec::new();
    let mut cases = 0;
    let mut current: Option<Case> = None;
    let mut loading = false;
    let mut finish = |case: Option<Case>, logs: &FakeLogs| {
        let Some(case) = case else { return };
        cases += 1;
        if let Err(message) = run(&case, logs) {
            wrong.push(format!("line {}: {}\n    {message}", case.line, case.query));
        }
    };
    for (i, line) in text.lines().enumerate() {
        let indented = line.starts_with([' ', '\t']);
        let line = without_comment(line).trim();
        if line.is_empty() {
            continue;
        }
        if !indented {
            finish(current.take(), &logs);
            loading = false;
        }
        if line == "clear" {
            logs = FakeLogs::default();
        } else if line == "load" {
            loading = true;
        } else if line.starts_with("skip ") {
        } else if line.starts_with("eval ") {
            current = Some(eval_header(line, i + 1));
        } else if loading {
            load(line, &logs);
        } else if let Some(case) = &mut current {
            if line == "expect empty" {
                case.series.clear();
            } else if line == "expect ordered" {
                case.ordered = true;
            } else if let Some(rest) = line.strip_prefix("expect fail") {
                case.fails = Some(match rest.trim().split_once(' ') {
                    Some(("msg:", part)) => Failure::Contains(part.trim().to_owned()),
                    Some(("regex:", pattern)) => Failure::Matches(pattern.trim().to_owned()),
                    _ => Failure::Any,
                });
            } else {
                case.series.push(expected(line));
            }
        } else {
            panic!("{}:{}: {line}", path.display(), i + 1);
        }
    }
    finish(current.take(), &logs);
    (cases, cases - wrong.len(), wrong)
}

/// Runs a file and asserts the number of cases that pass, so that none is lost.
#[track_caller]
fn check(name: &str, passing: usize) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/logql/logqltest").join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let (cases, passed, wrong) = run_file(&path);
    assert!(passed == passing, "{name}: {passed} of {cases} pass, not {passing}:\n{}", wrong.join("\n"));
}

macro_rules! files {
    ($($name:ident: $passing:literal,)*) => { $(
        #[test]
        fn $name() {
            check(concat!(stringify!($name), ".logqltest"), $passing);
        }
    )* };
}

files! {
    binary_operations: 223,
    conversions: 14,
    formatters: 20,
    functions: 15,
    label_filters: 190,
    line_filters: 24,
    parsers: 36,
    range_aggregations: 166,
    vector_aggregations: 73,
}
