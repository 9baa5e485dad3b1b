//! Random data and random expressions: what must hold for all of them.
#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test may end")]

mod naive;
mod random;
#[path = "../promqltest/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use naive::{Fault, Naive, Sample};
use proptest::prelude::*;
use query_promql::parse::parse;
use query_promql::{Grid, Options, Point, Query, Series, Value, evaluate};
use storage_api::QueryContext;
use store::Store;

/// Shorter than the data is long, so that samples grow too old.
const OPTIONS: Options = Options { lookback_ms: 45_000, subquery_step_ms: 20_000 };

fn ask(text: &str, grid: Grid, is_range: bool, store: &Store) -> Result<Vec<Series>, String> {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let query = Query { expr: &expr, text, grid, is_range, options: OPTIONS };
    let answer = evaluate(&query, store, &QueryContext::default()).map_err(|error| error.to_string())?;
    match answer.value {
        Value::Vector(series) => Ok(series),
        other => panic!("{other:?}"),
    }
}

fn same(a: Option<Point>, b: Option<Point>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Point::Float(a)), Some(Point::Float(b))) => a == b || (a.is_nan() && b.is_nan()),
        (Some(Point::Histogram(a)), Some(Point::Histogram(b))) => a.same_as(&b),
        _ => false,
    }
}

/// Says whether two numbers are the same but for rounding; sums of very large terms may differ by more.
fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-7 * a.abs().max(b.abs()).max(1.0)
}

fn agree(a: Sample, b: &Point) -> bool {
    match (a, b) {
        (Sample::Float(a), Point::Float(b)) => close(a, *b),
        (Sample::Histogram { count, sum }, Point::Histogram(b)) => close(count, b.count) && close(sum, b.sum),
        _ => false,
    }
}

/// Returns the samples as the naive evaluator takes them.
fn stored(data: &random::Data) -> Vec<naive::Stored> {
    let sample = |point: &Point| match point {
        Point::Float(value) if model::is_stale(*value) => None,
        Point::Float(value) => Some(Sample::Float(*value)),
        Point::Histogram(one) => Some(Sample::Histogram { count: one.count, sum: one.sum }),
    };
    let series = |(labels, scrapes): (&model::Labels, &Vec<random::Scrape>)| {
        let names = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let points = random::points(labels, scrapes).into_iter().enumerate();
        let at = |i: usize| i64::try_from(i).unwrap() * random::SCRAPE_MS;
        (names, points.filter_map(|(i, point)| point.map(|point| (at(i), sample(&point)))).collect())
    };
    random::labels().iter().zip(data).map(series).collect()
}

fn named(series: &Series) -> BTreeMap<String, String> {
    series.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_naive_evaluator(
        text in random::vector(false),
        data in random::data(),
        at in prop::sample::select(vec![0i64, 60_000, 100_000, 171_000, 240_000, 330_000]),
    ) {
        let stored = stored(&data);
        let naive = Naive {
            stored: &stored,
            lookback_ms: OPTIONS.lookback_ms,
            default_step_ms: OPTIONS.subquery_step_ms,
        };
        let answer = ask(&text, Grid::instant(at), false, &random::store(&data));
        match (naive.answer(&parse(&text).unwrap(), at), answer) {
            (Err(Fault::Unknown), _) => {}
            (Err(Fault::Fails), answer) => prop_assert!(answer.is_err(), "{text} at {at} should fail: {answer:?}"),
            (Ok(expected), answer) => {
                let got = answer.map_err(|error| TestCaseError::fail(format!("{text} at {at}: {error}")))?;
                prop_assert_eq!(expected.len(), got.len(), "{} at {}: {:?} {:?}", text, at, expected, got);
                for (labels, sample) in expected {
                    let twin = got.iter().find(|one| named(one) == labels).and_then(|one| one.get(0));
                    let agrees = twin.as_ref().is_some_and(|point| agree(sample, point));
                    prop_assert!(agrees, "{text} at {at}: {labels:?} {sample:?} {twin:?}");
                }
            }
        }
    }

    #[test]
    fn a_range_query_is_its_instant_queries(text in random::vector(true), data in random::data()) {
        let store = random::store(&data);
        let grid = Grid { start_ms: 0, end_ms: 240_000, step_ms: 40_000 };
        if let Ok(range) = ask(&text, grid, true, &store) {
            for (i, at) in grid.points().enumerate() {
                let instant = ask(&text, Grid::instant(at), false, &store)
                    .map_err(|error| TestCaseError::fail(format!("{text} at {at}: {error}")))?;
                let present = range.iter().filter(|series| series.has(i)).count();
                prop_assert_eq!(present, instant.len(), "{} at {}", text, at);
                for series in range.iter().filter(|series| series.has(i)) {
                    let twin = instant.iter().find(|other| other.labels == series.labels);
                    let point = twin.and_then(|twin| twin.get(0));
                    // Where a number and a histogram came to have the same labels, a range has both and an instant one of them.
                    let other = series.histogram(i).map(|histogram| Point::Histogram(Arc::clone(histogram)));
                    let agrees = same(series.get(i), point.clone()) || other.is_some() && same(other, point.clone());
                    prop_assert!(agrees, "{text} at {at}: {:?} {:?}", series.get(i), point);
                }
            }
        } else {
            // Ambiguous matches fail the whole range; then at least one of its steps fails, too.
            let any = grid.points().any(|at| ask(&text, Grid::instant(at), false, &store).is_err());
            prop_assert!(any, "{text} fails as a range only");
        }
    }

    #[test]
    fn printing_and_reading_gives_the_same_tree(text in random::anything()) {
        let expr = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = expr.to_string();
        prop_assert_eq!(&parse(&printed).unwrap(), &expr, "{} as {}", text, printed);
        prop_assert_eq!(parse(&printed).unwrap().to_string(), printed);
        let pretty = expr.pretty();
        prop_assert_eq!(&parse(&pretty).unwrap(), &expr, "{} as {}", text, pretty);
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"[ a-z0-9(){}\[\]:@+*/%^<>=!~"'`,.#_\\é\n-]{0,60}"#) {
        survives(&text);
    }

    #[test]
    fn any_cut_or_change_of_an_expression_is_read_or_refused(
        text in random::anything(),
        at in 0usize..200,
        with in any::<char>(),
    ) {
        let at = text.char_indices().map(|(i, _)| i).rfind(|i| *i <= at).unwrap_or(0);
        let (before, after) = text.split_at(at);
        survives(before);
        survives(&format!("{before}{with}{after}"));
    }
}

/// What the fuzz target checks: a text is refused at a place within it, or read, and then its canonical form means the same.
#[track_caller]
fn survives(text: &str) {
    match parse(text) {
        Ok(expr) => {
            let printed = expr.to_string();
            assert_eq!(parse(&printed).as_ref(), Ok(&expr), "{text} as {printed}");
        }
        Err(error) => assert!(error.span.start as usize <= text.len(), "{text}: {error:?}"),
    }
}

/// The corpus of the fuzz target, and each of its lines cut off anywhere.
#[test]
fn the_corpus_is_read_or_refused_wherever_it_is_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/parse");
    let mut lines = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            lines += 1;
            for (at, _) in line.char_indices() {
                survives(&line[..at]);
                survives(&line[at..]);
            }
            survives(line);
        }
    }
    assert!(lines > 300, "{lines} lines");
}
