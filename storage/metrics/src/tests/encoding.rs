//! Values and timestamps of every kind, through every layout of a block.

use storage_api::{MetricAppender, MetricBatch, MillisRange};

use super::{TestStore, push};
use crate::Options;

const SERIES: usize = 24;

/// The sample number `i` of a series: counters, decimals, gauges, floats, and some of them with odd ones in between.
fn value(series: usize, i: i64) -> f64 {
    let odd =
        [f64::from_bits(model::STALE_NAN_BITS), f64::from_bits(0xfff8_0000_dead_beef), -0.0, f64::INFINITY, 1e300];
    let x = i as f64;
    match series % 8 {
        _ if series.is_multiple_of(3) && i % 97 == 5 => odd[(i / 97) as usize % odd.len()],
        0 => 7.0,
        1 => x * 1_048_573.0,
        2 => (x * 314.0).round() / 100.0,
        3 => ((x * 0.7).sin() * 1e6).round() * 4096.0,
        4 => (x * 0.3).sin(),
        5 if i > 500 => x.sqrt(),
        5 => x / 8.0,
        6 => -(x * x * 1e5) - 0.5,
        _ => 1_795_257_199.902 + x * 10.001,
    }
}

fn check(is_shared: bool, decimal_rows_min: u64) {
    for row_group_rows in [Options::default().row_group_rows, 5_000] {
        check_with(is_shared, Options { decimal_rows_min, row_group_rows, ..Options::default() });
    }
}

fn check_with(is_shared: bool, options: Options) {
    let mut test = TestStore::with(options);
    let names: Vec<String> = (0..SERIES).map(|i| format!("m{} host={}", i / 5, i % 5)).collect();
    let at = |series: usize, i: i64| i * 10_000 + i % 7 + if is_shared { 0 } else { (series as i64) * (i % 11) };
    for flushed in 0..4 {
        let mut batch = MetricBatch::default();
        let samples: Vec<Vec<(i64, f64)>> = (0..SERIES)
            .map(|series| (flushed * 600..(flushed + 1) * 600).map(|i| (at(series, i), value(series, i))).collect())
            .collect();
        for (name, samples) in names.iter().zip(&samples) {
            push(&mut batch, name, samples);
        }
        test.store().append(&batch).unwrap();
        test.store().flush().unwrap();
    }
    for step in ["flushed", "merged", "reopened"] {
        match step {
            "merged" => assert!(test.store().compact_once().unwrap()),
            "reopened" => test.reopen(),
            _ => {}
        }
        for (min_ms, max_ms) in [(i64::MIN, i64::MAX), (5_990_000, 6_010_100), (23_950_000, i64::MAX), (4, 9_999)] {
            let (read, warnings) = test.read(&[], MillisRange { min_ms, max_ms });
            assert!(warnings.is_empty(), "{warnings:?}");
            for (series, name) in names.iter().enumerate() {
                let wanted = (0..2400).map(|i| (at(series, i), value(series, i).to_bits()));
                let wanted: Vec<_> = wanted.filter(|(at, _)| (min_ms..=max_ms).contains(at)).collect();
                let labels = model::Labels::from_sorted(super::labels(name).iter().map(|(n, v)| (&**n, &**v)));
                let got = read.iter().find(|one| one.labels == labels);
                let got = got.map(|one| one.timestamps_ms.iter().copied().zip(one.values.iter().map(|v| v.to_bits())));
                assert!(got.into_iter().flatten().eq(wanted), "{name} {min_ms}..={max_ms} {step}");
            }
        }
    }
}

#[test]
fn decimals_with_shared_times_come_back() {
    check(true, 0);
}

#[test]
fn decimals_with_times_of_their_own_come_back() {
    check(false, 0);
}

#[test]
fn plain_values_come_back() {
    check(true, u64::MAX);
    check(false, u64::MAX);
}
