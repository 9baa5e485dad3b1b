//! What it costs to read a query, and to run stages on lines.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Labels, Timestamp};
use query_logql::{Expr, Follower, MetricResult, Steps};
use storage_api::fake::FakeLogs;
use storage_api::{LogRows, QueryContext, TailBatch};

const ROWS: usize = 1_000;

fn json(row: usize) -> String {
    let path = ["/api/v1/items", "/healthz", "/api/v1/users/login", "/checkout"][row % 4];
    format!(
        r#"{{"ts":"2026-11-21T10:00:{:02}Z","level":"info","logger":"http","msg":"request \"{row}\" served","path":"{path}","request_id":"{:016x}","status":{},"user":{{"id":{row},"plan":"free"}},"duration_ms":{}.25}}"#,
        row % 60,
        row * 0x9e37_79b9,
        200 + row % 7 * 50,
        row % 900,
    )
}

fn logfmt(row: usize) -> String {
    format!(
        r#"ts=2026-11-21T10:00:{:02}Z level=info caller=http.go:{row} msg="request {row} served" path=/api/v1/items status={} took={}ms"#,
        row % 60,
        200 + row % 7 * 50,
        row % 900,
    )
}

fn batch(line: fn(usize) -> String) -> TailBatch {
    let mut rows = LogRows::default();
    for row in 0..ROWS {
        rows.timestamps.push(Timestamp(row as i64));
        rows.lines.push(&line(row));
    }
    TailBatch { stream: Labels::from_pairs([("app", "a"), ("pod", "a-1")]), rows }
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let queries = [
        ("selector", r#"{app="a"}"#),
        ("filters", r#"{app="a", pod=~"a-.*"} |= "error" != "timeout" |~ "status=5\\d\\d""#),
        (
            "metric",
            r#"topk(10, sum by (path) (rate({app="a"} | json path="path", ms="duration_ms" | ms > 100 | __error__="" [5m])))"#,
        ),
    ];
    for (name, query) in queries {
        group.bench_function(name, |b| b.iter(|| black_box(query_logql::parse(black_box(query)).unwrap())));
    }
    group.finish();
}

fn stages(c: &mut Criterion) {
    let (json, logfmt) = (batch(json), batch(logfmt));
    let stages = [
        ("filter", &json, r#"|= "login""#),
        ("json", &json, "| json"),
        ("json of one field", &json, r#"| json path="path""#),
        ("json filtered", &json, r#"| json | status="500""#),
        ("logfmt", &logfmt, "| logfmt"),
        ("logfmt of one field", &logfmt, "| logfmt path"),
        ("regexp", &logfmt, r#"| regexp "status=(?P<status>\\d+)""#),
        ("pattern", &logfmt, r#"| pattern "<_> level=<level> <_>""#),
        ("line_format", &logfmt, r#"| logfmt | line_format "{{.level}} {{.path}}""#),
    ];
    let mut group = c.benchmark_group("stages");
    for (name, batch, stages) in stages {
        let log = query_logql::parse_log(&format!(r#"{{app="a"}} {stages}"#)).unwrap();
        let follower = Follower::new(log).unwrap();
        group.throughput(Throughput::Bytes(batch.rows.lines.text().len() as u64));
        group.bench_function(name, |b| b.iter(|| black_box(follower.process(batch)).len()));
    }
    group.finish();
}

fn evaluate(c: &mut Criterion) {
    let logs = FakeLogs::default();
    let stream = Labels::from_pairs([("app", "a")]);
    (0..ROWS).for_each(|row| logs.push(&stream, Timestamp(row as i64 * 1_000_000), &json(row), &[]));
    let mut group = c.benchmark_group("evaluate");
    let queries = [
        ("count of a word", r#"sum(count_over_time({app="a"} |= "login" [1m]))"#),
        ("top of a field", r#"topk(10, sum by (path) (count_over_time({app="a"} | json path="path" [1m])))"#),
        (
            "quantile of a field",
            r#"quantile_over_time(0.99, {app="a"} | json ms="duration_ms" | unwrap ms [1m]) by (app)"#,
        ),
    ];
    for (name, query) in queries {
        let Expr::Metric(metric) = query_logql::parse(query).unwrap() else { continue };
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let steps = Steps::instant(2_000_000_000);
                let found = query_logql::evaluate(&metric, steps, &logs, &QueryContext::default()).unwrap();
                assert!(matches!(black_box(&found), MetricResult::Series(series) if !series.is_empty()));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse, stages, evaluate);
criterion_main!(benches);
