//! Random actions on the store and on a map, in step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Exemplar, Histogram, HistogramSample, Labels, MatchOp, Matcher, Sample};
use proptest::prelude::*;
use storage_api::{MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext};

use super::extras::histogram_bits;
use super::{TestStore, labels, push};
use crate::Options;

const SERIES: [&str; 6] = ["a", "a x=1", "a x=2", "b x=1", "b x=1 y=1", "c"];

#[derive(Debug, Clone)]
enum Action {
    Append(Vec<(usize, i64, u64)>),
    AppendMixed(Vec<MixedRow>),
    Flush,
    FlushOnFullDisk(u64),
    AppendOnFullDisk,
    Compact,
    Delete(usize, i64, i64),
    DeleteOnFullDisk(u64),
    Clean,
    Crash,
    Query(usize, i64, i64),
}

/// A series; numbers with start times; histograms with start times; exemplars.
#[derive(Debug, Clone)]
struct MixedRow {
    series: usize,
    numbers: Vec<(i64, u64, i64)>,
    histograms: Vec<(i64, Histogram, i64)>,
    exemplars: Vec<(i64, u64, u8)>,
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let count = prop_oneof![3 => (0..50_u32).prop_map(f64::from), 1 => 0.0..9.0];
    let side = proptest::collection::btree_map(-20..20_i32, count.clone(), 0..6);
    let sum = prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(model::stale_marker())];
    (-4..8_i32, count.clone(), count, sum, side.clone(), side, 0..4_u8).prop_map(
        |(schema, zero_count, count, sum, positive, negative, hint)| Histogram {
            schema,
            zero_count,
            count,
            sum,
            positive: positive.into_iter().collect(),
            negative: negative.into_iter().collect(),
            hint: crate::histogram_codec::hint_of(hint).unwrap(),
            ..Histogram::default()
        },
    )
}

fn mixed_row() -> impl Strategy<Value = MixedRow> {
    let start = prop_oneof![2 => Just(0_i64), 3 => -90..-80_i64];
    let time = || prop_oneof![8 => -50..200_i64, 1 => any::<i64>()];
    let numbers = proptest::collection::vec((time(), 0..3_u64, start.clone()), 0..6);
    let histograms = proptest::collection::vec((time(), histogram(), start), 0..6);
    let exemplars = proptest::collection::vec((-50..200_i64, 0..3_u64, 0..2_u8), 0..4);
    (0..SERIES.len(), numbers, histograms, exemplars).prop_map(|(series, numbers, histograms, exemplars)| MixedRow {
        series,
        numbers,
        histograms,
        exemplars,
    })
}

fn exemplar((at, bits, id): &(i64, u64, u8)) -> Exemplar {
    let labels = Labels::from_pairs([("trace_id", format!("id-{id}").as_str())]);
    Exemplar { labels, sample: Sample { timestamp_ms: *at, value: f64::from_bits(*bits) } }
}

fn push_mixed<'a>(batch: &mut MetricBatch<'a>, row: &MixedRow) {
    let sample = |(at, bits, _): &(i64, u64, i64)| Sample { timestamp_ms: *at, value: f64::from_bits(*bits) };
    batch.push(labels(SERIES[row.series]), row.numbers.iter().map(sample)).unwrap();
    batch.set_starts(row.numbers.iter().map(|(.., start_ms)| *start_ms));
    batch.set_histograms(row.histograms.iter().map(|(at, histogram, start_ms)| HistogramSample {
        timestamp_ms: *at,
        start_ms: *start_ms,
        histogram: Arc::new(histogram.clone()),
    }));
    batch.set_exemplars(row.exemplars.iter().map(exemplar));
}

fn action() -> impl Strategy<Value = Action> {
    let decimal = (0..5_000_u32).prop_map(|number| (f64::from(number) / 100.0).to_bits());
    let value = prop_oneof![2 => decimal, 1 => 0..3_u64, 1 => any::<u64>()];
    let scrape = (-50..200_i64, proptest::collection::vec(value.clone(), SERIES.len()));
    let time = prop_oneof![4 => -50..200_i64, 1 => any::<i64>()];
    let sample = (0..SERIES.len(), time, value);
    prop_oneof![
        8 => proptest::collection::vec(sample, 1..60).prop_map(Action::Append),
        8 => scrape.prop_map(|(at, values)| {
            Action::Append(values.into_iter().enumerate().map(|(series, value)| (series, at, value)).collect())
        }),
        6 => proptest::collection::vec(mixed_row(), 1..8).prop_map(Action::AppendMixed),
        3 => Just(Action::Flush),
        1 => (0..4_000_u64).prop_map(Action::FlushOnFullDisk),
        1 => Just(Action::AppendOnFullDisk),
        2 => Just(Action::Compact),
        2 => Just(Action::Crash),
        3 => (0..SERIES.len(), -60..210_i64, -60..210_i64).prop_map(|(s, a, b)| Action::Delete(s, a, b)),
        1 => (0..3_000_u64).prop_map(Action::DeleteOnFullDisk),
        1 => Just(Action::Clean),
        3 => (0..SERIES.len(), -60..210_i64, -60..210_i64).prop_map(|(s, a, b)| Action::Query(s, a, b)),
    ]
}

/// The bits of a number or, as text, of a histogram; and the start time.
#[derive(Debug, Clone, PartialEq)]
struct Point {
    bits: u64,
    histogram: Option<String>,
    start_ms: i64,
}

fn number(bits: u64) -> Point {
    Point { bits, histogram: None, start_ms: 0 }
}

type Model = BTreeMap<String, BTreeMap<i64, Point>>;
type Exemplars = BTreeMap<String, BTreeSet<(i64, u64, u8)>>;

fn name_of(labels: Labels) -> String {
    let series = storage_api::SeriesSamples { labels, ..Default::default() };
    super::print(&[series]).trim_end_matches(':').to_owned()
}

fn read_exemplars(test: &TestStore) -> Exemplars {
    let context = QueryContext::default();
    let found = test.store().exemplars(&[], MillisRange::ALL, &context).unwrap();
    assert_eq!(context.take_warnings(), Vec::<String>::new());
    let of_series = |one: storage_api::SeriesExemplars| {
        let exemplars: Vec<(i64, u64, u8)> = one
            .exemplars
            .iter()
            .map(|exemplar| {
                let id = exemplar.labels.get("trace_id").unwrap().trim_start_matches("id-").parse().unwrap();
                (exemplar.sample.timestamp_ms, exemplar.sample.value.to_bits(), id)
            })
            .collect();
        assert!(exemplars.is_sorted_by(|a, b| a < b), "out of order or twice");
        (name_of(one.labels), exemplars.into_iter().collect())
    };
    found.into_iter().map(of_series).collect()
}

fn read(test: &TestStore, matchers: &[Matcher], range: MillisRange) -> Model {
    let (series, warnings) = test.read(matchers, range);
    assert!(warnings.is_empty(), "{warnings:?}");
    series
        .into_iter()
        .map(|one| {
            assert!(one.timestamps_ms.is_sorted_by(|a, b| a < b));
            assert_eq!(one.timestamps_ms.len(), one.values.len());
            assert!(one.histograms.as_ref().is_none_or(|all| all.len() == one.values.len()));
            assert!(one.starts_ms.as_ref().is_none_or(|all| all.len() == one.values.len()));
            let point = |i: usize| Point {
                bits: one.values[i].to_bits(),
                histogram: one.histograms.as_ref().and_then(|all| Some(histogram_bits(all[i].as_ref()?))),
                start_ms: one.starts_ms.as_ref().map_or(0, |all| all[i]),
            };
            let samples = one.timestamps_ms.iter().enumerate().map(|(i, at)| (*at, point(i))).collect();
            (name_of(one.labels), samples)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_store_agrees_with_a_map(actions in proptest::collection::vec(action(), 1..40)) {
        let options = Options { head_bytes_max: 1 << 20, decimal_rows_min: 16, row_group_rows: 50, ..Options::default() };
        let mut test = TestStore::with(options);
        let faults = test.options.faults.clone();
        let mut model = Model::new();
        let mut exemplars = Exemplars::new();
        for action in actions {
            match action {
                Action::Append(samples) => {
                    let mut batch = MetricBatch::default();
                    for (series, at, bits) in &samples {
                        push(&mut batch, SERIES[*series], &[(*at, f64::from_bits(*bits))]);
                        model.entry(SERIES[*series].to_owned()).or_default().insert(*at, number(*bits));
                    }
                    let report = test.store().append(&batch).unwrap();
                    prop_assert_eq!(report.accepted, samples.len() as u64);
                }
                Action::AppendMixed(rows) => {
                    let mut batch = MetricBatch::default();
                    for row in &rows {
                        push_mixed(&mut batch, row);
                        let name = SERIES[row.series].to_owned();
                        for (at, bits, start_ms) in &row.numbers {
                            let point = Point { start_ms: *start_ms, ..number(*bits) };
                            model.entry(name.clone()).or_default().insert(*at, point);
                        }
                        for (at, histogram, start_ms) in &row.histograms {
                            let point = Point { bits: 0, histogram: Some(histogram_bits(histogram)), start_ms: *start_ms };
                            model.entry(name.clone()).or_default().insert(*at, point);
                        }
                        if !row.exemplars.is_empty() {
                            exemplars.entry(name).or_default().extend(&row.exemplars);
                        }
                    }
                    let report = test.store().append(&batch).unwrap();
                    let histograms: usize = rows.iter().map(|row| row.histograms.len()).sum();
                    let numbers: usize = rows.iter().map(|row| row.numbers.len()).sum();
                    prop_assert_eq!(&report.rejections, &[]);
                    prop_assert_eq!(report.accepted, (histograms + numbers) as u64);
                    prop_assert_eq!(report.accepted_histograms, histograms as u64);
                    let sent: usize = rows.iter().map(|row| row.exemplars.len()).sum();
                    prop_assert_eq!(report.accepted_exemplars, sent as u64);
                }
                Action::Flush => test.store().flush().unwrap(),
                Action::FlushOnFullDisk(bytes) => {
                    faults.fill_disk_after(bytes);
                    drop(test.store().flush());
                    faults.fill_disk_after(u64::MAX);
                }
                Action::AppendOnFullDisk => {
                    faults.fill_disk_after(5);
                    prop_assert!(test.try_append("lost", &[(1, 1.0)]).is_err());
                    faults.fill_disk_after(u64::MAX);
                }
                Action::Compact => drop(test.store().compact_once().unwrap()),
                Action::Delete(series, a, b) => {
                    // Names that begin as the series' does: with `a x=1` also `a`.
                    let (name, _) = SERIES[series].split_once(' ').unwrap_or((SERIES[series], ""));
                    let (min_ms, max_ms) = (a.min(b), a.max(b));
                    super::delete::delete(&test, name, MillisRange { min_ms, max_ms });
                    for (_, samples) in model.iter_mut().filter(|(have, _)| have.split(' ').next() == Some(name)) {
                        samples.retain(|at, _| !(min_ms..=max_ms).contains(at));
                    }
                    model.retain(|_, samples| !samples.is_empty());
                    for (_, all) in exemplars.iter_mut().filter(|(have, _)| have.split(' ').next() == Some(name)) {
                        all.retain(|(at, ..)| !(min_ms..=max_ms).contains(at));
                    }
                    exemplars.retain(|_, all| !all.is_empty());
                }
                Action::DeleteOnFullDisk(bytes) => {
                    faults.fill_disk_after(bytes);
                    let range = MillisRange { min_ms: 500, max_ms: 600 };
                    drop(test.store().delete_series(&[vec![Matcher::equal("__name__", "c")]], range));
                    faults.fill_disk_after(u64::MAX);
                }
                Action::Clean => test.store().clean_tombstones().unwrap(),
                Action::Crash => test.reopen(),
                Action::Query(series, a, b) => {
                    let range = MillisRange { min_ms: a.min(b), max_ms: a.max(b) };
                    let (name, rest) = SERIES[series].split_once(' ').unwrap_or((SERIES[series], ""));
                    let matchers = [
                        Matcher::equal("__name__", name),
                        Matcher::new("x", if rest.is_empty() { MatchOp::Equal } else { MatchOp::Regex },
                            if rest.is_empty() { "" } else { "1|2" }).unwrap(),
                    ];
                    let expected: Model = model
                        .iter()
                        .filter(|(have, _)| {
                            let (have_name, have_rest) = have.split_once(' ').unwrap_or((have, ""));
                            have_name == name && have_rest.is_empty() == rest.is_empty()
                        })
                        .map(|(have, samples)| {
                            let inside = samples.range(range.min_ms..=range.max_ms).map(|(at, point)| (*at, point.clone()));
                            (have.clone(), inside.collect::<BTreeMap<_, _>>())
                        })
                        .filter(|(_, samples)| !samples.is_empty())
                        .collect();
                    prop_assert_eq!(read(&test, &matchers, range), expected);
                }
            }
            prop_assert_eq!(&read(&test, &[], MillisRange::ALL), &model);
            prop_assert_eq!(&read_exemplars(&test), &exemplars);
            let found = test.store().series(&[], MillisRange::ALL, &QueryContext::default()).unwrap();
            let names: BTreeSet<String> = found.into_iter().map(name_of).collect();
            let expected: BTreeSet<String> = model.keys().cloned().collect();
            if test.metric("daybook_metrics_tombstones 0") {
                prop_assert_eq!(names, expected, "exemplars alone make no series");
            } else {
                // Of a series of which all is deleted, bit by bit, the ends may be known alone.
                prop_assert!(names.is_superset(&expected));
            }
        }
        test.reopen();
        prop_assert_eq!(read(&test, &[], MillisRange::ALL), model);
        prop_assert_eq!(read_exemplars(&test), exemplars);
    }
}
