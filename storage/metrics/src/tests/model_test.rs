//! Random actions on the store and on a map, in step.

use std::collections::BTreeMap;

use model::{MatchOp, Matcher};
use proptest::prelude::*;
use storage_api::{MetricAppender, MetricBatch, MillisRange};

use super::{TestStore, push};
use crate::Options;

const SERIES: [&str; 6] = ["a", "a x=1", "a x=2", "b x=1", "b x=1 y=1", "c"];

#[derive(Debug, Clone)]
enum Action {
    Append(Vec<(usize, i64, u64)>),
    Flush,
    FlushOnFullDisk(u64),
    AppendOnFullDisk,
    Compact,
    Crash,
    Query(usize, i64, i64),
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
        3 => Just(Action::Flush),
        1 => (0..4_000_u64).prop_map(Action::FlushOnFullDisk),
        1 => Just(Action::AppendOnFullDisk),
        2 => Just(Action::Compact),
        2 => Just(Action::Crash),
        3 => (0..SERIES.len(), -60..210_i64, -60..210_i64).prop_map(|(s, a, b)| Action::Query(s, a, b)),
    ]
}

type Model = BTreeMap<String, BTreeMap<i64, u64>>;

fn read(test: &TestStore, matchers: &[Matcher], range: MillisRange) -> Model {
    let (series, warnings) = test.read(matchers, range);
    assert!(warnings.is_empty(), "{warnings:?}");
    series
        .into_iter()
        .map(|one| {
            let name = super::print(&[storage_api::SeriesSamples { labels: one.labels, ..Default::default() }]);
            assert!(one.timestamps_ms.is_sorted_by(|a, b| a < b));
            let samples = one.timestamps_ms.into_iter().zip(one.values.into_iter().map(f64::to_bits)).collect();
            (name.trim_end_matches(':').to_owned(), samples)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_store_agrees_with_a_map(actions in proptest::collection::vec(action(), 1..40)) {
        let mut test = TestStore::with(Options { head_bytes_max: 1 << 20, decimal_rows_min: 16, ..Options::default() });
        let faults = test.options.faults.clone();
        let mut model = Model::new();
        for action in actions {
            match action {
                Action::Append(samples) => {
                    let mut batch = MetricBatch::default();
                    for (series, at, bits) in &samples {
                        push(&mut batch, SERIES[*series], &[(*at, f64::from_bits(*bits))]);
                        model.entry(SERIES[*series].to_owned()).or_default().insert(*at, *bits);
                    }
                    let report = test.store().append(&batch).unwrap();
                    prop_assert_eq!(report.accepted, samples.len() as u64);
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
                            let inside = samples.range(range.min_ms..=range.max_ms).map(|(at, bits)| (*at, *bits));
                            (have.clone(), inside.collect::<BTreeMap<_, _>>())
                        })
                        .filter(|(_, samples)| !samples.is_empty())
                        .collect();
                    prop_assert_eq!(read(&test, &matchers, range), expected);
                }
            }
            prop_assert_eq!(&read(&test, &[], MillisRange::ALL), &model);
        }
        test.reopen();
        prop_assert_eq!(read(&test, &[], MillisRange::ALL), model);
    }
}
