//! Whatever is put in, nothing panics, and what was printed is read again as it was.

use model::{Labels, Matcher, TimeRange, Timestamp};
use proptest::prelude::*;
use query_logql::{Direction, Expr, LogQuery, MetricResult, Steps};
use storage_api::fake::FakeLogs;
use storage_api::{Limits, LogCount, LogPart, LogQuerier, LogSelect, QueryContext, Result, TailBatch};

/// Words of the language, so that random text gets past its first token.
const WORDS: [&str; 72] = [
    "{",
    "}",
    "(",
    ")",
    "[5m]",
    "[1h30m]",
    ",",
    "=",
    "!=",
    "=~",
    "!~",
    "|=",
    "|~",
    "|>",
    "!>",
    "|",
    "app",
    "level",
    "\"a\"",
    "`b.*`",
    "\"<x> <_>\"",
    "\"{{.app | upper}}\"",
    "json",
    "logfmt",
    "--strict",
    "--keep-empty",
    "regexp",
    "\"(?P<x>a)\"",
    "pattern",
    "unpack",
    "line_format",
    "label_format",
    "drop",
    "keep",
    "decolorize",
    "unwrap",
    "bytes",
    "duration",
    "ip",
    "(\"1.2.3.4/8\")",
    "or",
    "and",
    "unless",
    "==",
    ">",
    ">=",
    "<",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "1",
    "0x1p3",
    "5s",
    "10KB",
    "-2m",
    "sum",
    "by",
    "without",
    "topk",
    "rate",
    "count_over_time",
    "quantile_over_time",
    "0.5",
    "label_replace",
    "vector",
    "offset",
    "on",
    "bool",
];

fn near_query() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..30).prop_map(|words| words.join(" "))
}

/// Queries that are well formed, over all stages and functions.
fn query() -> impl Strategy<Value = String> {
    let stage = proptest::sample::select(
        &[
            r#"|= "a" or "b""#,
            r#"!= "x""#,
            r#"|~ "a+b?""#,
            r#"|> "<_>=<_>""#,
            "| json",
            "| logfmt",
            "| logfmt --strict",
            r#"| json x="a.b[0]", level"#,
            r#"| regexp "(?P<x>[a-z]+)""#,
            r#"| pattern "<x>=<y> <_>""#,
            "| unpack",
            "| decolorize",
            r#"| line_format "{{.x}}{{ if .y }}{{.y | trunc 3}}{{end}}""#,
            r#"| label_format z="{{.x}}", w=app"#,
            "| drop x, __error__",
            r#"| keep app, x="a""#,
            "| x > 5 or y <= 1s",
            r#"| level="a" and (n != 2 or size > 1KB)"#,
            r#"| addr = ip("1.0.0.0/8")"#,
            r#"| __error__="""#,
        ][..],
    );
    let stages = proptest::collection::vec(stage, 0..5);
    let shape = proptest::sample::select(
        &[
            "LOG",
            "count_over_time(LOG [10s])",
            "sum by (app, x) (rate(LOG [5s]))",
            "bytes_over_time(LOG [7s] offset 2s)",
            "sum_over_time(LOG | unwrap n [10s])",
            "quantile_over_time(0.9, LOG | unwrap n | __error__=\"\" [10s]) by (app)",
            "topk(2, count_over_time(LOG [1m])) > bool 1",
            "absent_over_time(LOG [3s])",
            "rate_counter(LOG | unwrap duration(n) | __error__=\"\" [10s])",
            "sum(count_over_time(LOG [5s])) / on () sum(rate(LOG [5s])) or vector(0)",
            "label_replace(max_over_time(LOG | unwrap bytes(n) | __error__=\"\" [9s]), \"q\", \"$1\", \"app\", \"(.).*\")",
        ][..],
    );
    (stages, shape).prop_map(|(stages, shape)| shape.replace("LOG", &format!(r#"{{app=~".+"}} {}"#, stages.join(" "))))
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,60}",
        r#"[a-z]{1,4}=("[^"]{0,6}"?|[^ ]{0,6})( [a-z]{1,3}=[0-9a-z.]{0,5}){0,4}"#,
        r#"\{"(x|n|a|level)": ?("[^"\\]{0,5}"|[0-9]{1,4}|null|true|\{"b":\[1,"\\u00e9"\]\})(,"n":[0-9]{1,3})?\}?"#,
    ]
}

fn filled(lines: &[String]) -> FakeLogs {
    let logs = FakeLogs::default();
    for (i, line) in lines.iter().enumerate() {
        let app = if i % 3 == 0 { "one" } else { "two" };
        let at = Timestamp(i as i64 / 2 * 1_000_000_000);
        logs.push(&Labels::from_pairs([("app", app)]), at, line, &[("trace_id", "t"), ("app", "x")]);
    }
    logs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn parsing_never_panics_and_prints_what_it_reads(text in prop_oneof![near_query(), ".{0,80}", query()]) {
        if let Ok(expr) = query_logql::parse(&text) {
            let printed = expr.to_string();
            if let Ok(again) = query_logql::parse(&printed) {
                prop_assert_eq!(again.to_string(), printed);
            }
        }
    }

    #[test]
    fn well_formed_queries_are_read_and_printed_alike(text in query()) {
        let expr = query_logql::parse(&text);
        let expr = expr.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = expr.to_string();
        let again = query_logql::parse(&printed);
        let again = again.map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn queries_never_panic_and_ranges_equal_instants(
        text in query(),
        lines in proptest::collection::vec(line(), 0..20),
        step_s in 1i64..8,
    ) {
        let logs = filled(&lines);
        let Ok(expr) = query_logql::parse(&text) else { return Ok(()) };
        match expr {
            Expr::Log(log) => {
                let range = TimeRange::new(Timestamp(0), Timestamp(60_000_000_000));
                let ask = |limit, direction| {
                    let query = LogQuery { log: &log, range, limit, direction, interval_ns: 0 };
                    query_logql::select_logs(&query, &logs, &QueryContext::default())
                };
                let (Ok(forward), Ok(backward)) = (ask(1000, Direction::Forward), ask(1000, Direction::Backward)) else {
                    return Ok(());
                };
                let mut reversed = backward;
                reversed.reverse();
                prop_assert_eq!(&forward, &reversed);
                // Any shorter answer is the beginning of the longer one.
                let some = ask(3, Direction::Forward).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(some.as_slice(), forward.get(..some.len()).unwrap_or_default());
            }
            Expr::Metric(metric) => {
                let steps = Steps { start_ns: 1_000_000_000, end_ns: 15_000_000_000, step_ns: step_s * 1_000_000_000 };
                let run = |steps| query_logql::evaluate(&metric, steps, &logs, &QueryContext::default());
                let Ok(MetricResult::Series(series)) = run(steps) else { return Ok(()) };
                for i in 0..steps.count() {
                    let Ok(MetricResult::Series(instant)) = run(Steps::instant(steps.at(i))) else {
                        return Err(TestCaseError::fail(format!("{text} fails at step {i} alone")));
                    };
                    // Sums may differ in their last bit: series that are missing at this step come between others.
                    let at = |value: Option<f64>| value.map(|value| format!("{value:.11e}"));
                    let over: Vec<_> = series
                        .iter()
                        .filter(|one| one.values[i].is_some())
                        .map(|one| (one.labels.clone(), at(one.values[i])))
                        .collect();
                    let alone: Vec<_> =
                        instant.iter().map(|one| (one.labels.clone(), at(one.values[0]))).collect();
                    prop_assert_eq!(over, alone, "{} at {}", text, i);
                }
            }
        }
    }
}

/// A store that counts nothing itself: each row is looked at.
#[derive(Debug)]
struct Uncounted(FakeLogs);

impl LogQuerier for Uncounted {
    fn select(&self, select: &LogSelect, context: &QueryContext) -> Result<Vec<Box<dyn LogPart>>> {
        self.0.select(select, context)
    }
    fn streams(&self, selectors: &[Vec<Matcher>], range: TimeRange, context: &QueryContext) -> Result<Vec<Labels>> {
        self.0.streams(selectors, range, context)
    }
    fn counts(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        step_ns: Option<i64>,
        context: &QueryContext,
    ) -> Result<Vec<LogCount>> {
        self.0.counts(matchers, range, step_ns, context)
    }
    fn tail(&self) -> tokio::sync::broadcast::Receiver<std::sync::Arc<TailBatch>> {
        self.0.tail()
    }
}

/// Queries that a store may answer with numbers alone, and some that it may not.
fn counting_query() -> impl Strategy<Value = String> {
    let filter = proptest::sample::select(
        &[
            "",
            r#"| severity_text=~"ERROR|FATAL""#,
            r#"| severity_text!="INFO""#,
            r#"| severity_text="" or app="two""#,
            r#"| severity_number="17" | app=~"o.*""#,
            r#"| severity_number > 9"#,
            r#"| level="x""#,
            r#"| drop severity_text"#,
            r#"|= "a""#,
        ][..],
    );
    let by = proptest::sample::select(
        &["", "by ()", "by (app)", "by (severity_text)", "by (app, severity_text, level)", "by (severity_number, x)"][..],
    );
    let shape = proptest::sample::select(
        &[
            "sum BY (count_over_time(LOG [20s]))",
            "sum BY (rate(LOG [7s] offset 1s))",
            "max BY (sum by (app, severity_text) (count_over_time(LOG [20s])))",
            "absent_over_time(LOG [3s])",
            "count_over_time(LOG [10s])",
            "sum BY (bytes_over_time(LOG [9s]))",
        ][..],
    );
    (filter, by, shape)
        .prop_map(|(filter, by, shape)| shape.replace("LOG", &format!(r#"{{app=~".+"}} {filter}"#)).replace("BY", by))
}

/// Where a row goes, when, and what it has beside its line.
type Row = (u8, i64, u8, u8, u8);

fn counted_rows(rows: &[Row]) -> FakeLogs {
    let logs = FakeLogs::default();
    for (stream, at_ms, number, text, extra) in rows {
        let stream = match stream % 3 {
            0 => Labels::from_pairs([("app", "one")]),
            1 => Labels::from_pairs([("app", "two"), ("severity_text", "of the stream")]),
            _ => Labels::from_pairs([("app", "three"), ("level", "x")]),
        };
        let number = ["1", "9", "17", "0", "high"][usize::from(number % 5)];
        let text = ["INFO", "ERROR", "FATAL", ""][usize::from(text % 4)];
        let mut metadata = vec![("severity_number", number), ("severity_text", text)];
        metadata.push([("level", "x"), ("level", "y"), ("other", "z")][usize::from(extra % 3)]);
        metadata.truncate(usize::from(extra % 4));
        logs.push(&stream, Timestamp(at_ms * 500_000_000), "a line", &metadata);
    }
    logs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn numbers_from_the_store_are_those_of_its_rows(
        text in counting_query(),
        rows in proptest::collection::vec(any::<Row>().prop_map(|row| (row.0, row.1.rem_euclid(140), row.2, row.3, row.4)), 0..60),
        start_ms in 0i64..30_000,
        step_s in 1i64..30,
    ) {
        let Ok(Expr::Metric(metric)) = query_logql::parse(&text) else {
            return Err(TestCaseError::fail(format!("{text} is no metric query")));
        };
        let step_ns = step_s * 1_000_000_000;
        let steps = Steps { start_ns: start_ms * 1_000_000, end_ns: 70_000_000_000, step_ns };
        let run = |logs: &dyn LogQuerier| {
            let found = query_logql::evaluate(&metric, steps, logs, &QueryContext::default());
            // Which of several faulty rows is named depends on the one that is read first.
            found.map_err(|error| error.to_string().split(" for series").next().map(str::to_owned))
        };
        let logs = counted_rows(&rows);
        let counted = run(&logs);
        prop_assert_eq!(counted, run(&Uncounted(logs)), "{}", text);
    }
}

#[test]
fn a_query_over_many_series_is_refused_with_the_limit() {
    let logs = FakeLogs::default();
    for i in 0..200 {
        logs.push(&Labels::from_pairs([("app", format!("{i}"))]), Timestamp(5), "x", &[]);
    }
    let Ok(Expr::Metric(metric)) = query_logql::parse("count_over_time({}[1m])") else { panic!("a metric query") };
    let context = QueryContext::new(Limits { series_max: 100, ..Limits::default() });
    let error = query_logql::evaluate(&metric, Steps::instant(10), &logs, &context).unwrap_err();
    assert_eq!(error.to_string(), "the query would load 101 series, the limit is 100 (--query-max-series)");
}

#[test]
fn a_cancelled_query_stops() {
    let logs = filled(&["a".to_owned()]);
    let context = QueryContext::default();
    context.cancel();
    let Ok(Expr::Metric(metric)) = query_logql::parse("rate({}[1m])") else { panic!("a metric query") };
    let error = query_logql::evaluate(&metric, Steps::instant(10), &logs, &context).unwrap_err();
    assert_eq!(error.to_string(), "the query was cancelled");
}

#[test]
fn huge_and_deep_queries_are_refused() {
    let error = |text: &str| query_logql::parse(text).unwrap_err().to_string();
    assert!(error(&"(".repeat(100_000)).contains("nested more than 100 levels deep"));
    assert!(error(&format!("1{}", "+vector(1)".repeat(5_000))).contains("more than 500 operators"));
    assert!(error(&format!("{{a=\"b\"}} | {}", vec!["x=1"; 5_000].join(" or "))).contains("more than 500 operators"));
    assert!(error(&format!("{{a=\"b\"}} | {}", vec!["x=1"; 5_000].join(" "))).contains("levels deep"));
    assert!(
        error(&format!("{{a=\"b\"}} |= {}", "\"x\" or ".repeat(20_000)))
            .starts_with("parse error : input size too long")
    );
    assert!(error(&format!("{{a=~\"{}\"}}", "(x{1000}){1000}")).contains("the regular expression needs more than"));
}
