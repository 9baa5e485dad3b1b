//! Random data and random expressions: what must hold for all of them.

use model::Labels;
use proptest::prelude::*;
use query_promql::parse::parse;
use query_promql::{Grid, Options, Point, Query, Series, Stored, Value, evaluate};
use storage_api::QueryContext;
use storage_api::fake::FakeMetrics;

/// An expression over the metrics `a` and `b_total`, with what the grammar allows most.
fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b_total".to_owned()),
        Just(r#"{__name__=~"a|b_total",job!="x"}"#.to_owned()),
        Just("a offset 30s".to_owned()),
        Just("a @ 60".to_owned()),
        Just("vector(time())".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let aggregation = prop_oneof![
            Just("sum"),
            Just("avg"),
            Just("min"),
            Just("max"),
            Just("count"),
            Just("group"),
            Just("stddev")
        ];
        let function = prop_oneof![
            Just("rate"),
            Just("increase"),
            Just("delta"),
            Just("irate"),
            Just("avg_over_time"),
            Just("sum_over_time"),
            Just("max_over_time"),
            Just("last_over_time"),
            Just("changes"),
            Just("resets"),
            Just("deriv"),
            Just("stddev_over_time"),
            Just("present_over_time"),
            Just("absent_over_time"),
        ];
        let single = prop_oneof![
            Just("abs"),
            Just("ceil"),
            Just("sgn"),
            Just("-"),
            Just("timestamp"),
            Just("hour"),
            Just("absent")
        ];
        let arithmetic = prop_oneof![Just("+"), Just("*"), Just("> bool"), Just("<"), Just("=="), Just("^")];
        let set = prop_oneof![Just("and"), Just("or"), Just("unless")];
        prop_oneof![
            (aggregation, inner.clone()).prop_map(|(op, e)| format!("{op} by (job) ({e})")),
            (Just("topk"), inner.clone()).prop_map(|(op, e)| format!("{op}(1, {e})")),
            inner.clone().prop_map(|e| format!("quantile without (job) (0.3, {e})")),
            (function.clone(), 5i64..200).prop_map(|(f, range)| format!("{f}(b_total[{range}s])")),
            (function, inner.clone(), 20i64..100).prop_map(|(f, e, range)| format!("{f}(({e})[{range}s:15s])")),
            (single, inner.clone()).prop_map(|(f, e)| format!("{f}({e})")),
            (arithmetic, inner.clone()).prop_map(|(op, e)| format!("({e}) {op} 2")),
            (set, inner.clone(), inner.clone()).prop_map(|(op, a, b)| format!("({a}) {op} ignoring (job) ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) - on (job, __name__) ({b})")),
        ]
    })
}

fn store(data: &[(u8, i64, f64)]) -> FakeMetrics {
    let store = FakeMetrics::default();
    for (series, at, value) in data {
        let name = if series % 2 == 0 { "a" } else { "b_total" };
        let job = ["x", "y", "z"][usize::from(series / 2) % 3];
        store.push(&Labels::from_pairs([("__name__", name), ("job", job)]), *at, *value);
    }
    store
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (0i32..20).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(model::stale_marker()),
        1 => any::<f64>(),
    ]
}

fn same(a: Option<Point>, b: Option<Point>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Point::Float(a)), Some(Point::Float(b))) => a == b || (a.is_nan() && b.is_nan()),
        _ => false,
    }
}

fn ask(text: &str, grid: Grid, is_range: bool, store: &FakeMetrics) -> Result<Vec<Series>, String> {
    let expr = parse(text).map_err(|error| error.to_string())?;
    let query =
        Query { expr: &expr, text, grid, is_range, options: Options { lookback_ms: 45_000, ..Options::default() } };
    let answer = evaluate(&query, &Stored(store), &QueryContext::default()).map_err(|error| error.to_string())?;
    match answer.value {
        Value::Vector(series) => Ok(series),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_range_query_is_its_instant_queries(
        text in vector(),
        data in prop::collection::vec((0u8..6, (0i64..40).prop_map(|i| i * 5_000), value()), 0..120),
    ) {
        let store = store(&data);
        let grid = Grid { start_ms: 0, end_ms: 180_000, step_ms: 20_000 };
        if let Ok(range) = ask(&text, grid, true, &store) {
            for (i, at) in grid.points().enumerate() {
                let instant = ask(&text, Grid::instant(at), false, &store)
                    .map_err(|error| TestCaseError::fail(format!("{text} at {at}: {error}")))?;
                let present = range.iter().filter(|series| series.has(i)).count();
                prop_assert_eq!(present, instant.len(), "{} at {}", text, at);
                for series in range.iter().filter(|series| series.has(i)) {
                    let twin = instant.iter().find(|other| other.labels == series.labels);
                    let point = twin.and_then(|twin| twin.get(0));
                    prop_assert!(same(series.get(i), point.clone()), "{text} at {at}: {:?} {:?}", series.get(i), point);
                }
            }
        } else {
            // Ambiguous matches fail the whole range; then at least one of its steps fails, too.
            let any = grid.points().any(|at| ask(&text, Grid::instant(at), false, &store).is_err());
            prop_assert!(any, "{} fails as a range only", text);
        }
    }

    #[test]
    fn printing_and_reading_gives_the_same_tree(text in vector()) {
        let expr = parse(&text).unwrap();
        let printed = expr.to_string();
        prop_assert_eq!(&parse(&printed).unwrap(), &expr, "{} as {}", text, printed);
        prop_assert_eq!(parse(&printed).unwrap().to_string(), printed);
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"[ a-z0-9(){}\[\]:@+*/%^<>=!~"'`,.#_\\é\n-]{0,60}"#) {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            prop_assert_eq!(parse(&printed).unwrap(), expr, "{} as {}", text, printed);
        }
    }

    #[test]
    fn any_cut_or_change_of_an_expression_is_read_or_refused(text in vector(), at in 0usize..200, with in any::<char>()) {
        let at = text.char_indices().map(|(i, _)| i).rfind(|i| *i <= at).unwrap_or(0);
        let (before, after) = text.split_at(at);
        drop(parse(before));
        drop(parse(&format!("{before}{with}{after}")));
    }
}
