//! Random data, and random expressions of the whole language.

use std::sync::Arc;

use model::{Labels, stale_marker};
use proptest::prelude::*;
use proptest::sample::select;
use query_promql::Point;
use query_promql::histogram::{CUSTOM, Histogram};

use crate::store::{MaybePoint, Store};

/// The distance of the samples.
pub(crate) const SCRAPE_MS: i64 = 15_000;

/// How many samples a series has at most.
const LENGTH: usize = 24;

/// What becomes of one scrape of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scrape {
    Missing,
    Stale,
    Value(f64),
}

fn scrape() -> impl Strategy<Value = Scrape> {
    prop_oneof![
        12 => (-4i32..20).prop_map(|n| Scrape::Value(f64::from(n))),
        2 => (-100.0..100.0).prop_map(Scrape::Value),
        2 => Just(Scrape::Missing),
        1 => Just(Scrape::Stale),
        1 => select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300]).prop_map(Scrape::Value),
    ]
}

/// The scrapes of each series, in the order of [`labels`].
pub(crate) type Data = Vec<Vec<Scrape>>;

pub(crate) fn data() -> impl Strategy<Value = Data> {
    prop::collection::vec(prop::collection::vec(scrape(), 0..LENGTH), labels().len())
}

/// The series: gauges, counters, classic and native histograms.
pub(crate) fn labels() -> Vec<Labels> {
    let one = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    let mut all = Vec::new();
    for (job, i) in [("x", "1"), ("y", "2"), ("z", "2")] {
        all.push(one(&[("__name__", "a"), ("job", job), ("i", i)]));
        all.push(one(&[("__name__", "b"), ("job", job)]));
        all.push(one(&[("__name__", "c_total"), ("job", job), ("i", i)]));
    }
    for le in ["0.5", "2", "+Inf"] {
        all.push(one(&[("__name__", "cl_bucket"), ("le", le), ("job", "x")]));
    }
    for name in ["h", "hc"] {
        all.push(one(&[("__name__", name), ("job", "x")]));
        all.push(one(&[("__name__", name), ("job", "y")]));
    }
    all.push(one(&[("__name__", "target_info"), ("job", "x"), ("data", "d")]));
    all
}

/// Returns the samples that the scrapes come to: counters and histograms count on, and begin anew where a value is low.
pub(crate) fn points(labels: &Labels, scrapes: &[Scrape]) -> Vec<MaybePoint> {
    let name = labels.metric_name();
    let (counts, native, custom) = (name != "a" && name != "b", name == "h" || name == "hc", name == "hc");
    let mut total = 0.0;
    let one = |scrape: &Scrape| {
        let value = match scrape {
            Scrape::Missing => return None,
            Scrape::Stale if native => return None,
            Scrape::Stale => return Some(Point::Float(stale_marker())),
            Scrape::Value(value) => *value,
        };
        if !counts {
            return Some(Point::Float(value));
        }
        let step = if value.is_finite() { value.abs().min(100.0).floor() } else { 1.0 };
        total = if value < -1.0 { step } else { total + step };
        if !native {
            return Some(Point::Float(total));
        }
        let counted = Histogram { count: 2.0 * total, sum: total * 1.5, ..Histogram::default() };
        let positive = vec![(0, total), (1, total)].into_iter().filter(|(_, count)| *count > 0.0).collect();
        let histogram = if custom {
            Histogram { schema: CUSTOM, custom: Arc::from([1.0, 5.0]), positive, ..counted }
        } else {
            Histogram { schema: 0, zero_threshold: 0.001, positive, ..counted }
        };
        Some(Point::Histogram(Arc::new(histogram)))
    };
    scrapes.iter().map(one).collect()
}

pub(crate) fn store(data: &Data) -> Store {
    let mut store = Store::default();
    for (labels, scrapes) in labels().iter().zip(data) {
        store.load(labels, &points(labels, scrapes), SCRAPE_MS, None);
    }
    store
}

fn one_of(words: &[&str]) -> BoxedStrategy<String> {
    select(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).boxed()
}

fn grouping() -> BoxedStrategy<String> {
    one_of(&["", "by (job)", "by ()", "by (job, i)", "without (job)", "without (i, le)", "without ()"])
}

fn scalar() -> BoxedStrategy<String> {
    one_of(&["0", "1", "2", "0.5", "-1", "3.7", "NaN", "Inf", "time()", "scalar(b{job=\"x\"})", "1 + 2", "pi()"])
}

/// Functions of windows that take nothing else. The first ones are those that the naive evaluator knows.
const WINDOWED: [&str; 26] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "changes",
    "resets",
    "avg_over_time",
    "sum_over_time",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "deriv",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "mad_over_time",
    "rate",
    "avg_over_time",
];

/// Functions of one sample. The first ones are those that the naive evaluator knows.
const SINGLE: [&str; 44] = [
    "abs",
    "ceil",
    "floor",
    "sgn",
    "sqrt",
    "exp",
    "ln",
    "absent",
    "timestamp",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "rad",
    "deg",
    "hour",
    "minute",
    "month",
    "year",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "histogram_stddev",
    "histogram_stdvar",
    "info",
    "start_timestamp",
    "sort",
    "sort_desc",
    "-",
    "+",
];

/// An expression of the type instant vector. With `whole` it may have anything in it that means the same in a range and
/// at an instant; without, only what the naive evaluator knows.
pub(crate) fn vector(whole: bool) -> BoxedStrategy<String> {
    let metrics: &[&str] = if whole {
        &["a", "b", "c_total", "h", "hc", "cl_bucket", "{__name__=~\"a|b\"}", "{job=\"x\",__name__!~\".*_info\"}"]
    } else {
        &["a", "b", "c_total", "h", "a{job=~\"x|y\"}", "{__name__=~\"a|b\"}", "nosuch{job=\"q\"}"]
    };
    let modifier = one_of(&["", "", "", "", " offset 30s", " offset -15s", " @ 120", " @ 61.5 offset 10s"]);
    let selector = (one_of(metrics), modifier.clone()).prop_map(|(name, modifier)| format!("{name}{modifier}"));
    let borders = if whole { one_of(&["", "", "", " anchored", " smoothed"]) } else { one_of(&["", ""]) };
    let range = (one_of(metrics), 5i64..150, borders, modifier)
        .prop_map(|(name, range, borders, modifier)| format!("{name}[{range}s]{borders}{modifier}"));
    let leaf = prop_oneof![
        6 => selector,
        1 => scalar().prop_map(|value| format!("vector({value})")),
    ];
    leaf.prop_recursive(3, 20, 3, move |inner| node(whole, inner.boxed(), range.clone().boxed())).boxed()
}

fn node(whole: bool, inner: BoxedStrategy<String>, range: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let subquery = (inner.clone(), 20i64..120, one_of(&["", "15s", "40s"]), one_of(&["", "", " offset 20s", " @ 150"]))
        .prop_map(|(inner, range, step, modifier)| format!("({inner})[{range}s:{step}]{modifier}"));
    let window = prop_oneof![3 => range, 1 => subquery].boxed();
    let aggregation = one_of(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
    let with_param = one_of(&["topk|1", "topk|2", "bottomk|1", "quantile|0.3", "quantile|1", "count_values|\"v\""]);
    let windowed = one_of(if whole { &WINDOWED } else { &WINDOWED[..19] });
    let single = one_of(if whole { &SINGLE } else { &SINGLE[..12] });
    let operator = one_of(&[
        "+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=", "== bool", "!= bool", "< bool", "> bool",
    ]);
    let matching = one_of(&[
        "",
        "on (job)",
        "on (job, i)",
        "ignoring (i)",
        "ignoring (i, job)",
        "on ()",
        "on (job) group_left ()",
        "on (job) group_right (i)",
        "ignoring (i) group_left (nolabel)",
        "on (job) fill (2)",
        "ignoring (i) fill_left (1)",
        "on (job) group_left () fill_right (3)",
    ]);
    let known = prop_oneof![
        (aggregation, grouping(), inner.clone()).prop_map(|(op, by, e)| format!("{op} {by} ({e})")),
        (with_param, grouping(), inner.clone()).prop_map(|(op, by, e)| {
            let (op, param) = op.split_once('|').unwrap();
            format!("{op} {by} ({param}, {e})")
        }),
        (windowed, window.clone()).prop_map(|(f, window)| format!("{f}({window})")),
        (one_of(&["0.5", "0", "0.9", "2"]), window.clone()).prop_map(|(q, w)| format!("quantile_over_time({q}, {w})")),
        (window.clone(), one_of(&["60", "-30"])).prop_map(|(w, at)| format!("predict_linear({w}, {at})")),
        (single, inner.clone()).prop_map(|(f, e)| format!("{f}({e})")),
        (inner.clone(), scalar(), scalar()).prop_map(|(e, low, high)| format!("clamp({e}, {low}, {high})")),
        (inner.clone(), one_of(&["1", "5", "0.3"])).prop_map(|(e, to)| format!("round({e}, {to})")),
        (operator.clone(), inner.clone(), scalar(), any::<bool>()).prop_map(|(op, e, value, swap)| {
            if swap { format!("({value}) {op} ({e})") } else { format!("({e}) {op} ({value})") }
        }),
        (operator, matching, inner.clone(), inner.clone())
            .prop_map(|(op, matching, a, b)| format!("({a}) {op} {matching} ({b})")),
        (one_of(&["and", "or", "unless"]), one_of(&["", "on (job)", "ignoring (i)"]), inner.clone(), inner.clone())
            .prop_map(|(op, matching, a, b)| format!("({a}) {op} {matching} ({b})")),
    ];
    if !whole {
        return known.boxed();
    }
    let quantile = one_of(&["0", "0.5", "0.9", "1", "NaN", "2"]);
    let rest = prop_oneof![
        (one_of(&["limitk|1", "limit_ratio|0.5", "limit_ratio|-0.3", "topk|0"]), grouping(), inner.clone()).prop_map(
            |(op, by, e)| {
                let (op, param) = op.split_once('|').unwrap();
                format!("{op} {by} ({param}, {e})")
            }
        ),
        (window, one_of(&["0.5", "0.1"])).prop_map(|(w, f)| format!("double_exponential_smoothing({w}, {f}, 0.7)")),
        (quantile.clone(), inner.clone()).prop_map(|(q, e)| format!("histogram_quantile({q}, {e})")),
        (quantile, inner.clone()).prop_map(|(q, e)| format!("histogram_quantiles({e}, \"q\", {q}, 0.3)")),
        (scalar(), inner.clone()).prop_map(|(low, e)| format!("histogram_fraction({low}, 3, {e})")),
        inner.clone().prop_map(|e| format!("label_replace({e}, \"n\", \"$1\", \"job\", \"(x|y)\")")),
        inner.clone().prop_map(|e| format!("label_join({e}, \"n\", \"-\", \"job\", \"i\")")),
        inner.clone().prop_map(|e| format!("info({e}, {{data=~\".+\"}})")),
        inner.clone().prop_map(|e| format!("sort_by_label({e}, \"job\")")),
        (one_of(&["clamp_min", "clamp_max"]), inner.clone(), scalar()).prop_map(|(f, e, to)| format!("{f}({e}, {to})")),
        (one_of(&["</", ">/", "atan2"]), inner.clone(), scalar()).prop_map(|(op, e, to)| format!("({e}) {op} ({to})")),
        one_of(&["a", "c_total", "h"]).prop_map(|name| format!("{name} smoothed")),
    ];
    prop_oneof![2 => known, 1 => rest].boxed()
}

fn duration() -> BoxedStrategy<String> {
    let leaf = one_of(&["5m", "1h30m", "90", "0.5", "1001ms", "step()", "range()", "2w", "1y", "1500ms"]);
    leaf.prop_recursive(3, 8, 2, |inner| {
        let op = one_of(&["+", "-", "*", "/", "%", "^"]);
        prop_oneof![
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("+{a}")),
            (one_of(&["min_of", "max_of"]), inner.clone(), inner.clone())
                .prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        ]
    })
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    one_of(&["\"a\"", "'b\"c'", "`d\\e`", "\"\\n\\x41\\u00e9\\xff\"", "\"é\u{1f600}\"", "\"\"", "'it\\'s'"])
}

/// An expression with anything in it that the grammar has, whether or not it can be evaluated.
pub(crate) fn anything() -> BoxedStrategy<String> {
    let name = one_of(&["up", "a:b", "sum", "offset", "by", "and", "start", "fill", "anchored", "limitk", "step"]);
    let label = one_of(&["job", "\"a.b\"", "on", "le", "\"c d\"", "without"]);
    let matcher =
        (label.clone(), one_of(&["=", "!=", "=~", "!~"]), text().prop_filter("no pattern", |t| !t.contains('`')))
            .prop_map(|(label, op, value)| format!("{label}{op}{value}"));
    let matchers = prop::collection::vec(matcher, 0..3).prop_map(|all| all.join(","));
    let selector = prop_oneof![
        (name, matchers.clone()).prop_map(|(name, matchers)| format!("{name}{{{matchers}}}")),
        matchers.prop_map(|matchers| format!("{{\"my.metric\",{matchers}}}").replace(",}", "}")),
    ];
    let at = one_of(&["", "", " @ 12.5", " @ start()", " @ end()", " @ -1e3"]);
    let offset = prop_oneof![
        2 => Just(String::new()),
        1 => duration().prop_map(|duration| format!(" offset ({duration})")),
        1 => one_of(&[" offset 5m", " offset -90", " offset step()", " offset -min_of(1m, 2)"]),
    ];
    let borders = one_of(&["", "", " anchored", " smoothed"]);
    let range = (selector.clone(), duration(), borders.clone(), at.clone(), offset.clone())
        .prop_map(|(selector, range, borders, at, offset)| format!("{selector}[({range})]{borders}{at}{offset}"));
    let instant = (selector, at.clone(), borders, offset.clone())
        .prop_map(|(selector, at, borders, offset)| format!("{selector}{at}{borders}{offset}"));
    let leaf = prop_oneof![4 => instant, 3 => range.prop_map(|range| format!("rate({range})")), 1 => vector(true)];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        // Prometheus wants a number before the colon.
        let range = duration().prop_filter("a number", |range| range.contains(|c: char| c.is_ascii_digit()));
        let subquery = (inner.clone(), range, prop::option::of(duration()), at.clone(), offset.clone()).prop_map(
            |(inner, range, step, at, offset)| {
                let step = step.map_or(String::new(), |step| format!("({step})"));
                format!("max_over_time(({inner})[({range}):{step}]{at}{offset})")
            },
        );
        let labels = prop::collection::vec(label.clone().prop_filter("a keyword", |l| l != "without"), 0..3)
            .prop_map(|labels| format!("({})", labels.join(", ")));
        let matching = (
            one_of(&["", "on", "ignoring"]),
            labels.clone(),
            one_of(&["", " group_left", " group_right", " group_left ()"]),
            one_of(&["", "", " fill (1)", " fill_left (-Inf)", " fill_right (NaN) fill_left (1e30)"]),
        )
            .prop_map(
                |(on, labels, group, fill)| {
                    if on.is_empty() { fill } else { format!(" {on} {labels}{group}{fill}") }
                },
            );
        let operator = one_of(&["+", "-", "*", "/", "%", "^", "atan2", "==", ">= bool", "</", ">/", "!="]);
        let sides = (inner.clone(), operator, matching, inner.clone());
        prop_oneof![
            subquery,
            (one_of(&["by", "without"]), labels, inner.clone()).prop_map(|(by, l, e)| format!("sum {by} {l} ({e})")),
            (text(), inner.clone()).prop_map(|(t, e)| format!("count_values({t}, {e})")),
            (text(), text(), inner.clone()).prop_map(|(a, b, e)| format!("label_join({e}, {a}, {b}, {a}, {b})")),
            inner.clone().prop_map(|e| format!("info({e}, {{}})")),
            (one_of(&["-", "+", "- -", "-5m * "]), inner.clone()).prop_map(|(sign, e)| format!("{sign}{e}")),
            inner.clone().prop_map(|e| format!("({e}) # a comment\n")),
            sides
                .prop_filter("a label may not be on both", |(_, _, m, _)| !m.contains("group"))
                .prop_map(|(a, op, matching, b)| format!("({a}) {op}{matching} ({b})")),
        ]
    })
    .boxed()
}
