//! Evaluation alone: 200 series of six hours at 15 s, held in memory, and queries as dashboards ask them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Labels, Matcher};
use query_promql::parse::parse;
use query_promql::{Grid, Options, Part, Query, Samples, Source, evaluate};
use storage_api::{MillisRange, QueryContext};

const SERIES: usize = 200;
const SCRAPES: usize = 6 * 240;
const SCRAPE_MS: i64 = 15_000;

/// All series, of which each query takes those of one name.
struct Memory(Vec<Samples>);

struct One(Samples);

impl Part for One {
    fn read(&self, _: &QueryContext) -> storage_api::Result<Vec<Samples>> {
        Ok(vec![self.0.clone()])
    }
}

impl Source for Memory {
    fn select(
        &self,
        matchers: &[Matcher],
        range: MillisRange,
        _: &QueryContext,
    ) -> storage_api::Result<Vec<Box<dyn Part>>> {
        let fits = |one: &&Samples| matchers.iter().all(|m| m.matches(one.labels.get(&m.name).unwrap_or("")));
        let cut = |one: &Samples| {
            let at = |ms: i64| one.timestamps_ms.partition_point(|at| *at < ms);
            let inside = at(range.min_ms)..at(range.max_ms.saturating_add(1));
            Samples {
                labels: one.labels.clone(),
                timestamps_ms: one.timestamps_ms[inside.clone()].to_vec(),
                values: one.values[inside].to_vec(),
                ..Samples::default()
            }
        };
        Ok(self.0.iter().filter(fits).map(|one| Box::new(One(cut(one))) as Box<dyn Part>).collect())
    }
}

/// The same data in each run: a counter that is reset now and then.
fn memory() -> Memory {
    let one = |i: usize| {
        let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i as u64 + 1);
        let mut total = 0.0;
        let values = (0..SCRAPES).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            total = if state >> 55 == 0 { 0.0 } else { total + f64::from(u32::try_from(state >> 58).unwrap_or(0)) };
            total
        });
        let (instance, device) = (format!("host-{:02}", i / 10), format!("eth{}", i % 10));
        let pairs = [("__name__", "bytes_total"), ("device", device.as_str()), ("instance", instance.as_str())];
        Samples {
            labels: Labels::from_pairs(pairs),
            timestamps_ms: (0..).take(SCRAPES).map(|k: i64| k * SCRAPE_MS).collect(),
            values: values.collect(),
            ..Samples::default()
        }
    };
    Memory((0..SERIES).map(one).collect())
}

fn evaluation(c: &mut Criterion) {
    let memory = memory();
    let mut group = c.benchmark_group("query/evaluate");
    group.throughput(Throughput::Elements((SERIES * SCRAPES) as u64));
    let end_ms = i64::try_from(SCRAPES).unwrap_or(0) * SCRAPE_MS;
    for (name, step_ms, text) in [
        ("selector", 60_000, "bytes_total"),
        ("rate", 60_000, "rate(bytes_total[5m])"),
        ("sum_by_rate", 60_000, "sum by (device) (rate(bytes_total[5m]))"),
        (
            "regex_matcher",
            60_000,
            "sum by (device) (rate(bytes_total{instance=~\"host-0.*\",device!~\"eth[89]\"}[5m]))",
        ),
        ("max_over_time", 300_000, "max_over_time(bytes_total[1h])"),
        ("avg_over_time", 300_000, "avg_over_time(bytes_total[1h])"),
        ("quantile_over_time", 300_000, "quantile_over_time(0.9, bytes_total[1h])"),
        ("matched", 60_000, "bytes_total / on (instance, device) bytes_total"),
        ("topk", 60_000, "topk(5, bytes_total)"),
    ] {
        let Ok(expr) = parse(text) else { continue };
        let grid = Grid { start_ms: 0, end_ms, step_ms };
        group.bench_function(name, |b| {
            b.iter(|| {
                let query = Query { expr: &expr, text, grid, is_range: true, options: Options::default() };
                evaluate(&query, &memory, &QueryContext::default()).map(|answer| answer.grid)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, evaluation);
criterion_main!(benches);
