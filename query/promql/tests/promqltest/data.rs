//! Series lines of the script language, and what a store makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Labels, stale_marker};
use query_promql::Point;
use query_promql::histogram::{CUSTOM, Histogram, ResetHint};
use query_promql::parse::ast::ExprKind;
use query_promql::parse::parse;

pub(crate) use super::store::{MaybePoint, Store};

/// Reads a duration such as `1h30m` or a number of seconds, with a sign, as milliseconds.
pub(crate) fn duration_ms(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let ExprKind::Number(number) = expr.kind else { panic!("{text} is no duration") };
    (sign * number.value * 1000.0).round() as i64
}

/// Cuts a series line into its labels and the rest.
pub(crate) fn split_labels(line: &str) -> (Labels, &str) {
    let line = line.trim();
    let mut end = line.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(line.len());
    if line[end..].starts_with("{{") {
        return (Labels::empty(), line);
    }
    if line[end..].starts_with('{') {
        let mut quote = None;
        let mut chars = line.char_indices().skip_while(|(i, _)| *i < end);
        while let Some((i, c)) = chars.next() {
            match (quote, c) {
                (Some(_), '\\') => drop(chars.next()),
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'' | '`') => quote = Some(c),
                (None, '}') => {
                    end = i + 1;
                    break;
                }
                _ => {}
            }
        }
    }
    let (head, rest) = line.split_at(end);
    if head == "{}" {
        return (Labels::empty(), rest);
    }
    // A matcher that matches nothing empty makes every label set a valid selector.
    let text = if let Some(open) = head.find('{') {
        format!("{}x__=\"x\",{}", &head[..=open], &head[open + 1..])
    } else {
        head.to_owned()
    };
    let expr = parse(&text).unwrap_or_else(|error| panic!("{line}: {error}"));
    let ExprKind::Selector(selector) = expr.kind else { panic!("{line}: no series") };
    let pairs = selector.matchers.iter().filter(|m| m.name != "x__").map(|m| (m.name.as_str(), m.value.as_str()));
    (Labels::from_pairs(pairs), rest)
}

fn number(text: &str) -> f64 {
    match text.to_ascii_lowercase().as_str() {
        "stale" => stale_marker(),
        "inf" | "+inf" => f64::INFINITY,
        "-inf" => f64::NEG_INFINITY,
        "nan" => f64::NAN,
        other => other.strip_prefix("0x").map_or_else(
            || other.parse().unwrap_or_else(|_| panic!("{text} is no number")),
            |hex| i64::from_str_radix(hex, 16).unwrap() as f64,
        ),
    }
}

/// Reads points: `1 2 _ 5x3 1+2x3 {{sum:1}}+{{sum:1}}x3`.
pub(crate) fn points(text: &str) -> Vec<MaybePoint> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if rest.starts_with("{{") {
            rest = histogram_points(rest, &mut out).trim_start();
            continue;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail.trim_start();
        float_points(word, &mut out);
    }
    out
}

fn float_points(word: &str, out: &mut Vec<MaybePoint>) {
    if let Some(count) = word.strip_prefix("_x") {
        out.extend(vec![None; count.parse().unwrap()]);
        return;
    }
    if word == "_" {
        out.push(None);
        return;
    }
    let Some((terms, count)) = word.rsplit_once('x') else {
        out.push(Some(Point::Float(number(word))));
        return;
    };
    let count: usize = count.parse().unwrap_or_else(|_| panic!("{word}"));
    // The sign that starts the step is the last one that no exponent stands before.
    let bytes = terms.as_bytes();
    let sign =
        (1..bytes.len()).rev().find(|i| matches!(bytes[*i], b'+' | b'-') && !matches!(bytes[*i - 1], b'e' | b'E'));
    match sign {
        None => out.extend(vec![Some(Point::Float(number(terms))); count + 1]),
        Some(at) => {
            let (start, step) = (number(&terms[..at]), number(&terms[at..]));
            let mut value = start;
            for _ in 0..=count {
                out.push(Some(Point::Float(value)));
                value += step;
            }
        }
    }
}

fn histogram_points<'a>(text: &'a str, out: &mut Vec<MaybePoint>) -> &'a str {
    let (first, mut rest) = histogram(text);
    let mut step = None;
    if rest.starts_with("+{{") || rest.starts_with("-{{") {
        let negative = rest.starts_with('-');
        let (other, tail) = histogram(&rest[1..]);
        step = Some((other, negative));
        rest = tail;
    }
    let mut count = 0;
    if let Some(tail) = rest.strip_prefix('x') {
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        count = tail[..end].parse().unwrap();
        rest = &tail[end..];
    }
    let mut value = first;
    out.push(Some(Point::Histogram(Arc::new(value.clone()))));
    for _ in 0..count {
        if let Some((step, negative)) = &step {
            let hint = step.hint;
            value = if *negative { value.sub(step) } else { value.add(step) }.expect("buckets that go together").0;
            value.hint = hint;
        }
        out.push(Some(Point::Histogram(Arc::new(value.clone()))));
    }
    rest
}

fn histogram(text: &str) -> (Histogram, &str) {
    let end = text.find("}}").unwrap_or_else(|| panic!("{text}"));
    let mut histogram = Histogram::default();
    let (mut buckets, mut n_buckets, mut offset, mut n_offset) = (Vec::new(), Vec::new(), 0, 0);
    let mut body = text[2..end].trim();
    while !body.is_empty() {
        let (key, tail) = body.split_once(':').unwrap_or_else(|| panic!("{text}"));
        let tail = tail.trim_start();
        let (value, tail) = if let Some(list) = tail.strip_prefix('[') {
            list.split_once(']').unwrap_or_else(|| panic!("{text}"))
        } else {
            tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()))
        };
        let list = || value.split_whitespace().map(number).collect::<Vec<f64>>();
        match key.trim() {
            "schema" => histogram.schema = value.parse().unwrap(),
            "sum" => histogram.sum = number(value),
            "count" => histogram.count = number(value),
            "z_bucket" => histogram.zero_count = number(value),
            "z_bucket_w" => histogram.zero_threshold = number(value),
            "buckets" => buckets = list(),
            "n_buckets" => n_buckets = list(),
            "offset" => offset = value.parse().unwrap(),
            "n_offset" => n_offset = value.parse().unwrap(),
            "custom_values" => histogram.custom = list().into(),
            "counter_reset_hint" => {
                histogram.hint = match value {
                    "gauge" => ResetHint::Gauge,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    _ => ResetHint::Unknown,
                }
            }
            other => panic!("unknown histogram field {other}"),
        }
        body = tail.trim_start();
    }
    let side = |counts: Vec<f64>, offset: i32| {
        let indexed = counts.into_iter().enumerate().map(|(i, count)| (offset + i as i32, count));
        indexed.filter(|(_, count)| *count != 0.0).collect::<Vec<_>>()
    };
    histogram.positive = side(buckets, offset);
    histogram.negative = side(n_buckets, n_offset);
    (histogram, &text[end + 2..])
}

impl Store {
    /// Marks each histogram as reset or not, going by the one before, as a store does when it takes samples in.
    pub(crate) fn mark_resets(&mut self) {
        for points in self.series.values_mut() {
            let mut before: Option<Arc<Histogram>> = None;
            for (point, _) in points.values_mut() {
                let Point::Histogram(histogram) = point else {
                    before = None;
                    continue;
                };
                let raw = Arc::clone(histogram);
                let hint = match &before {
                    _ if raw.hint == ResetHint::Gauge => ResetHint::Gauge,
                    _ if raw.hint == ResetHint::Reset => ResetHint::Reset,
                    None => raw.hint,
                    Some(before) if before.hint == ResetHint::Gauge => ResetHint::Unknown,
                    // A store does not tell that one was found, because blocks may overlap.
                    Some(before) if raw.detect_reset(before) => ResetHint::Unknown,
                    Some(_) => ResetHint::NotReset,
                };
                *point = Point::Histogram(Arc::new(Histogram { hint, ..raw.as_ref().clone() }));
                before = Some(raw);
            }
        }
    }

    /// Stores each classic histogram under its base name as a native one with custom buckets, too.
    pub(crate) fn add_custom_histograms(&mut self, loaded: &[Labels]) {
        let mut families: BTreeMap<Labels, BTreeMap<i64, Family>> = BTreeMap::new();
        for labels in loaded {
            let name = labels.metric_name();
            let Some((base, kind)) = ["_bucket", "_count", "_sum"]
                .into_iter()
                .find_map(|kind| name.strip_suffix(kind).map(|base| (base, kind)))
            else {
                continue;
            };
            let family = labels.to_builder().set("__name__", base).remove("le").build();
            for (at, (point, _)) in &self.series[labels] {
                let Point::Float(value) = point else { continue };
                let family = families.entry(family.clone()).or_default().entry(*at).or_default();
                match kind {
                    "_bucket" => {
                        if let Some(le) = labels.get("le") {
                            family.buckets.push((number(le), *value));
                        }
                    }
                    "_count" => family.count = Some(*value),
                    _ => family.sum = Some(*value),
                }
            }
        }
        for (labels, points) in families {
            for (at, family) in points {
                if let Some(histogram) = family.convert() {
                    let point = Point::Histogram(Arc::new(histogram));
                    self.series.entry(labels.clone()).or_default().insert(at, (point, 0));
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Family {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
}

impl Family {
    fn convert(mut self) -> Option<Histogram> {
        if self.buckets.is_empty() {
            return None;
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let custom: Arc<[f64]> = self.buckets.iter().map(|(le, _)| *le).filter(|le| le.is_finite()).collect();
        let mut before = 0.0;
        let mut positive = Vec::new();
        for (i, (_, cumulative)) in self.buckets.iter().enumerate() {
            if *cumulative - before != 0.0 {
                positive.push((i as i32, cumulative - before));
            }
            before = *cumulative;
        }
        let last = self.buckets.last().expect("not empty");
        let count = self.count.unwrap_or(last.1);
        if last.0.is_finite() && count > last.1 {
            positive.push((self.buckets.len() as i32, count - last.1));
        }
        let sum = self.sum.unwrap_or(0.0);
        Some(Histogram { schema: CUSTOM, count, sum, positive, custom, ..Histogram::default() })
    }
}
