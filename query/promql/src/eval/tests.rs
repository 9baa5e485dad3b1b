//! What the scripts do not show: limits, cancellation, parts, time at its ends.

use model::Labels;
use storage_api::fake::FakeMetrics;
use storage_api::{Limits, QueryContext};

use super::{Options, Query, evaluate};
use crate::histogram::Histogram;
use crate::value::{Grid, Value};
use crate::{Error, Stored, parse};

fn store() -> FakeMetrics {
    let store = FakeMetrics::default();
    for i in 0..20 {
        let labels = Labels::from_pairs([("__name__", "a_total"), ("i", &i.to_string())]);
        for at in 0..60 {
            store.push(&labels, at * 1000, f64::from(i) + f64::from(i32::try_from(at).unwrap()));
        }
    }
    store
}

fn ask(text: &str, grid: Grid, context: &QueryContext) -> Result<Value, Error> {
    let expr = parse::parse(text)?;
    let query = Query { expr: &expr, text, grid, is_range: true, options: Options::default() };
    evaluate(&query, &Stored(&store()), context).map(|answer| answer.value)
}

const MINUTE: Grid = Grid { start_ms: 0, end_ms: 59_000, step_ms: 1000 };

#[test]
fn parts_come_together_in_label_order() {
    let Ok(Value::Vector(series)) = ask("a_total", MINUTE, &QueryContext::default()) else { panic!("no vector") };
    assert_eq!(series.len(), 20);
    assert!(series.is_sorted_by(|a, b| a.labels < b.labels));
}

#[test]
fn what_was_charged_is_given_back() {
    for text in
        ["sum(a_total)", "sum(rate(a_total[10s]))", "count(a_total + a_total)", "max(max_over_time(a_total[20s:1s]))"]
    {
        let context = QueryContext::default();
        assert!(ask(text, MINUTE, &context).is_ok(), "{text}");
        let left = context.used().2;
        assert!(left <= 60 * 20, "{text}: {left} samples are still charged");
    }
}

#[test]
fn what_is_folded_while_reading_is_what_comes_of_all_series() {
    for op in ["sum", "avg", "count", "group", "min", "max", "stddev", "stdvar"] {
        for operand in ["a_total", "rate(a_total[7s])", "(a_total offset 20s)"] {
            for grouping in ["", " by (i)", " without (i)"] {
                let values = |text: &str| match ask(text, MINUTE, &QueryContext::default()) {
                    Ok(Value::Vector(series)) => {
                        { series.into_iter().map(|one| (one.labels, one.values.iter().map(|v| v.to_bits()).collect())) }
                            .collect::<Vec<(Labels, Vec<u64>)>>()
                    }
                    other => panic!("{text}: {other:?}"),
                };
                let (folded, whole) =
                    (format!("{op}{grouping} ({operand})"), format!("{op}{grouping} ({operand} or b)"));
                assert_eq!(values(&folded), values(&whole), "{folded}");
            }
        }
    }
}

#[test]
fn an_aggregation_holds_its_groups_and_not_its_series() {
    let store = FakeMetrics::default();
    for i in 0..2000 {
        store.push(&Labels::from_pairs([("__name__", "pod"), ("i", &i.to_string())]), i * 30, 1.0);
    }
    let limits = Limits { samples_max: 100_000, ..Limits::default() };
    let ask = |text: &str| {
        let expr = parse::parse(text).unwrap();
        let query = Query { expr: &expr, text, grid: MINUTE, is_range: true, options: Options::default() };
        evaluate(&query, &Stored(&store), &QueryContext::new(limits.clone())).map(|answer| answer.value)
    };
    let Ok(Value::Vector(sum)) = ask("sum(pod)") else { panic!("no vector") };
    assert_eq!(sum[0].values[59], 1967.0);
    assert!(ask("pod").is_err());
}

#[test]
fn each_way_to_many_samples_is_refused() {
    let limits = Limits { samples_max: 2000, ..Limits::default() };
    for text in [
        "a_total",
        "sum by (i) (a_total) + a_total",
        "count_values(\"v\", a_total)",
        "max_over_time(a_total[1m:1ms])",
        "a_total @ 10",
    ] {
        let error = ask(text, Grid { step_ms: 100, ..MINUTE }, &QueryContext::new(limits.clone())).unwrap_err();
        assert!(error.to_string().ends_with("(--query-max-samples)"), "{text}: {error}");
    }
}

#[test]
fn a_small_memory_budget_refuses_a_query_over_everything() {
    let limits = Limits { memory_bytes_max: 5000, ..Limits::default() };
    let error = ask("{i=~\".*\",__name__!=\"\"}", MINUTE, &QueryContext::new(limits.clone())).unwrap_err();
    assert!(error.to_string().ends_with("the limit is 5000 (--query-max-memory-bytes)"), "{error}");
    assert!(ask("sum(a_total{i=\"1\"})", MINUTE, &QueryContext::new(limits)).is_ok());
}

#[test]
fn too_many_series_are_refused() {
    let limits = Limits { series_max: 19, ..Limits::default() };
    let error = ask("a_total", MINUTE, &QueryContext::new(limits)).unwrap_err();
    assert!(error.to_string().ends_with("(--query-max-series)"), "{error}");
}

#[test]
fn a_query_out_of_time_stops() {
    let limits = Limits { timeout: std::time::Duration::ZERO, ..Limits::default() };
    let error = ask("rate(a_total[5s])", MINUTE, &QueryContext::new(limits)).unwrap_err();
    assert!(matches!(error, Error::Storage(storage_api::Error::Timeout { .. })), "{error}");
}

#[test]
fn count_values_is_bounded_by_its_result() {
    // 20 series of 60 steps fit; their 79 different values with a column each do not.
    let limits = Limits { samples_max: 4000, ..Limits::default() };
    assert!(ask("count(a_total)", MINUTE, &QueryContext::new(limits.clone())).is_ok());
    let error = ask("count_values(\"v\", a_total)", MINUTE, &QueryContext::new(limits)).unwrap_err();
    assert!(error.to_string().contains("samples"), "{error}");
}

#[test]
fn a_cancelled_query_stops() {
    let context = QueryContext::default();
    context.cancel();
    assert!(matches!(ask("a_total", MINUTE, &context), Err(Error::Storage(storage_api::Error::Cancelled))));
}

#[test]
fn a_subquery_with_too_many_points_is_refused() {
    let error = ask("max_over_time(a_total[1y:1s])", MINUTE, &QueryContext::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("the subquery would evaluate 31536059 points per series, the limit is"),
        "{error}"
    );
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    for start_ms in [i64::MIN / 1_000_000, -1, i64::MAX / 1_000_000] {
        let grid = Grid { start_ms, end_ms: start_ms, step_ms: 1 };
        for text in [
            "rate(a_total[292y])",
            "a_total offset 292y",
            "a_total offset -292y",
            "a_total @ 9223372036854.775",
            "deriv(a_total[1m] @ -9223372036854.775 offset -292y)",
            "predict_linear(a_total[290y], 1e300)",
            "last_over_time(a_total[292y:1y])",
            "increase(a_total[292y] smoothed)",
            "a_total[9e9 * 2]",
            "days_in_month(vector(1e300))",
            "timestamp(a_total offset 100y)",
        ] {
            // Refused or answered, but never a panic.
            drop(ask(text, grid, &QueryContext::default()));
        }
    }
}

#[test]
fn a_long_chain_is_evaluated_on_a_small_stack() {
    let chain = vec!["a_total"; 190].join(" or ");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(16 << 20).build().unwrap();
    let result = pool.install(|| ask(&chain, Grid::instant(5000), &QueryContext::default()));
    let Ok(Value::Vector(series)) = result else { panic!("no vector") };
    assert_eq!(series.len(), 20);
}

/// A store of native histograms with many buckets, a new one every five seconds.
fn wide_histograms() -> FakeMetrics {
    let store = FakeMetrics::default();
    for i in 0..10 {
        let labels = Labels::from_pairs([("__name__", "h"), ("i", &i.to_string())]);
        for at in 0..12 {
            let positive = (0..160).map(|index| (index, f64::from(at + 1))).collect();
            let count = f64::from(at + 1) * 160.0;
            let histogram = Histogram { schema: 3, count, sum: count, positive, ..Histogram::default() };
            store.push_histogram(&labels, i64::from(at) * 5000, histogram);
        }
    }
    store
}

fn ask_histograms(text: &str, context: &QueryContext) -> Result<Value, Error> {
    let expr = parse::parse(text)?;
    let query = Query { expr: &expr, text, grid: MINUTE, is_range: true, options: Options::default() };
    evaluate(&query, &Stored(&wide_histograms()), context).map(|answer| answer.value)
}

#[test]
fn wide_histograms_are_held_to_the_memory_budget() {
    // 120 of them take 330 kB; a histogram for each of 60 steps and 10 series takes 1.6 MB.
    let context = |memory_bytes_max: u64| QueryContext::new(Limits { memory_bytes_max, ..Limits::default() });
    for text in ["h", "-h", "sum(h)", "histogram_quantile(0.9, h)", "h > 1"] {
        let error = ask_histograms(text, &context(100 << 10)).unwrap_err().to_string();
        assert!(error.ends_with("the limit is 102400 (--query-max-memory-bytes)"), "{text}: {error}");
    }
    for text in ["h * 2", "rate(h[10s])", "sum by (i) (rate(h[10s]))", "h + h", "sum_over_time(h[10s:1s])"] {
        let error = ask_histograms(text, &context(1 << 20)).unwrap_err().to_string();
        assert!(error.ends_with("the limit is 1048576 (--query-max-memory-bytes)"), "{text}: {error}");
    }
    for text in ["-h", "sum(h)", "histogram_quantile(0.9, h)", "histogram_count(rate(h[10s]))"] {
        assert!(ask_histograms(text, &context(1 << 20)).is_ok(), "{text}");
    }
}

#[test]
fn what_was_charged_for_histograms_is_given_back() {
    let wide = storage_api::histogram_cost(&Histogram { positive: vec![(0, 1.0); 160], ..Histogram::default() });
    for text in ["sum(h)", "count(h * 2)", "sum(rate(h[10s]))", "absent(h)", "topk(1, h)", "count(h + h)", "h == 1"] {
        let context = QueryContext::default();
        assert!(ask_histograms(text, &context).is_ok(), "{text}");
        let left = context.used().2;
        assert!(left <= 60 * 10 + 60 * wide, "{text}: {left} samples are still charged");
    }
}

#[test]
fn labels_that_grow_are_held_to_the_memory_budget() {
    let mut text = "a_total".to_owned();
    for _ in 0..40 {
        text = format!("label_replace({text}, \"i\", \"$1$1\", \"i\", \"(.*)\")");
    }
    let context = || QueryContext::new(Limits { memory_bytes_max: 16 << 20, ..Limits::default() });
    let error = ask(&text, MINUTE, &context()).unwrap_err().to_string();
    assert!(error.ends_with("(--query-max-memory-bytes)"), "{error}");
    let mut text = "a_total".to_owned();
    for _ in 0..40 {
        text = format!("label_join({text}, \"i\", \"\", \"i\", \"i\")");
    }
    let error = ask(&text, MINUTE, &context()).unwrap_err().to_string();
    assert!(error.ends_with("(--query-max-memory-bytes)"), "{error}");
}
