//! Native histograms, start times and exemplars.

use std::sync::Arc;

use model::histogram::{CUSTOM, ResetHint};
use model::{Exemplar, Histogram, HistogramSample, Labels, Matcher, Sample};
use storage_api::{AppendReport, Limits, MetricAppender, MetricBatch, MetricQuerier, MillisRange, QueryContext};

use super::{TestStore, files_in, labels};
use crate::Options;

/// Prints all of a histogram, so that NaN equals itself and 0 is not -0.
pub(super) fn histogram_bits(histogram: &Histogram) -> String {
    let side = |side: &[(i32, f64)]| side.iter().map(|(i, c)| (*i, c.to_bits())).collect::<Vec<_>>();
    let Histogram { schema, zero_threshold, zero_count, count, sum, positive, negative, custom, hint } = histogram;
    let numbers = [zero_threshold, zero_count, count, sum].map(|number| number.to_bits());
    let custom: Vec<u64> = custom.iter().map(|bound| bound.to_bits()).collect();
    format!("{schema} {numbers:x?} {:x?} {:x?} {custom:x?} {hint:?}", side(positive), side(negative))
}

pub(super) fn histogram(count: f64) -> Histogram {
    Histogram {
        schema: 0,
        zero_threshold: 1e-128,
        count,
        sum: count * 1.5,
        positive: vec![(-3, count - 1.0), (7, 1.0)],
        ..Histogram::default()
    }
}

fn sample(timestamp_ms: i64, start_ms: i64, histogram: Histogram) -> HistogramSample {
    HistogramSample { timestamp_ms, start_ms, histogram: Arc::new(histogram) }
}

fn exemplar(timestamp_ms: i64, value: f64, trace_id: &str) -> Exemplar {
    Exemplar { labels: Labels::from_pairs([("trace_id", trace_id)]), sample: Sample { timestamp_ms, value } }
}

impl TestStore {
    fn append_histograms(&self, series: &str, histograms: impl IntoIterator<Item = HistogramSample>) -> AppendReport {
        let mut batch = MetricBatch::default();
        batch.push(labels(series), []).unwrap();
        batch.set_histograms(histograms);
        self.store().append(&batch).unwrap()
    }

    /// Appends numbers, each with its start time.
    fn append_starts(&self, series: &str, numbers: &[(i64, f64, i64)]) -> AppendReport {
        let mut batch = MetricBatch::default();
        let samples =
            numbers.iter().map(|(timestamp_ms, value, _)| Sample { timestamp_ms: *timestamp_ms, value: *value });
        batch.push(labels(series), samples).unwrap();
        batch.set_starts(numbers.iter().map(|(.., start_ms)| *start_ms));
        self.store().append(&batch).unwrap()
    }

    fn append_exemplars(&self, series: &str, exemplars: impl IntoIterator<Item = Exemplar>) -> AppendReport {
        let mut batch = MetricBatch::default();
        batch.push(labels(series), []).unwrap();
        batch.set_exemplars(exemplars);
        self.store().append(&batch).unwrap()
    }

    /// Prints what is there as `m: 1@10<5 {count:2, …}@20`, where `<5` is a start time.
    fn dump_mixed(&self) -> String {
        let (series, warnings) = self.read(&[], MillisRange::ALL);
        assert_eq!(warnings, Vec::<String>::new());
        print_mixed(&series)
    }

    fn dump_exemplars(&self) -> String {
        let context = QueryContext::default();
        let found = self.store().exemplars(&[], MillisRange::ALL, &context).unwrap();
        assert_eq!(context.take_warnings(), Vec::<String>::new());
        print_exemplars(&found)
    }
}

pub(super) fn print_mixed(series: &[storage_api::SeriesSamples]) -> String {
    let mut lines = Vec::new();
    for one in series {
        let mut line = format!("{}:", one.labels);
        for (i, at) in one.timestamps_ms.iter().enumerate() {
            match one.histograms.as_ref().and_then(|all| all[i].as_ref()) {
                Some(histogram) => line.push_str(&format!(" {histogram}@{at}")),
                None => line.push_str(&format!(" {}@{at}", one.values[i])),
            }
            match one.starts_ms.as_ref().map_or(0, |all| all[i]) {
                0 => {}
                start_ms => line.push_str(&format!("<{start_ms}")),
            }
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn print_exemplars(found: &[storage_api::SeriesExemplars]) -> String {
    let exemplar = |one: &Exemplar| format!(" {}@{}{}", one.sample.value, one.sample.timestamp_ms, one.labels);
    let line = |one: &storage_api::SeriesExemplars| {
        format!("{}:{}", one.labels, one.exemplars.iter().map(exemplar).collect::<String>())
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn histograms_are_there_at_once_and_after_a_crash_a_flush_and_a_merge() {
    let mut test = TestStore::new();
    let report = test.append_histograms("h a=b", [sample(10, 5, histogram(3.0)), sample(20, 5, histogram(4.0))]);
    assert_eq!((report.accepted, report.accepted_histograms, report.rejections.len()), (2, 2, 0));
    let expected = "h{a=\"b\"}: {count:3, sum:4.5, (0.0625,0.125]:2, \
        (64,128]:1}@10<5 \
        {count:4, sum:6, (0.0625,0.125]:3, (64,128]:1}@20<5";
    assert_eq!(test.dump_mixed(), expected);
    test.reopen();
    assert_eq!(test.dump_mixed(), expected);
    test.store().flush().unwrap();
    assert_eq!(test.dump_mixed(), expected);
    assert_eq!((test.store().stats().block_samples, test.store().stats().head_bytes), (2, 0));
    let block = test.blocks_dir().join("000000000001-000000000001-l0");
    assert_eq!(files_in(&block), ["extras", "histograms.parquet", "index", "meta.json", "samples.parquet"]);
    test.reopen();
    assert_eq!(test.dump_mixed(), expected);
    for _ in 0..3 {
        test.append_histograms("h a=b", [sample(10, 5, histogram(3.0))]);
        test.append("other", &[(1, 1.0)]);
        test.store().flush().unwrap();
    }
    assert!(test.store().compact_once().unwrap());
    let expected = format!("{expected}\nother: 1@1");
    assert_eq!(test.dump_mixed(), expected);
    test.reopen();
    assert_eq!(test.dump_mixed(), expected);
}

#[test]
fn a_histogram_and_a_number_at_one_time_are_one_sample_the_newer_one() {
    let mut test = TestStore::new();
    let number = "m: 1@10";
    let both = |test: &TestStore| {
        test.append("m", &[(10, 1.0)]);
        assert_eq!(test.dump_mixed(), number);
        test.append_histograms("m", [sample(10, 0, Histogram::default())]);
        assert_eq!(test.dump_mixed(), "m: {count:0, sum:0}@10");
    };
    both(&test);
    // The same number again comes after the histogram.
    both(&test);
    test.store().flush().unwrap();
    both(&test);
    test.append("m", &[(10, 1.0)]);
    test.store().flush().unwrap();
    assert_eq!(test.dump_mixed(), number);
    test.append_histograms("m", [sample(10, 0, Histogram::default())]);
    test.store().flush().unwrap();
    both(&test);
    test.store().flush().unwrap();
    assert!(test.store().compact_once().unwrap());
    assert_eq!(test.dump_mixed(), "m: {count:0, sum:0}@10");
    test.reopen();
    both(&test);
}

#[test]
fn stale_markers_of_both_kinds_keep_their_bits() {
    let mut test = TestStore::new();
    let stale = Histogram { sum: model::stale_marker(), ..Histogram::default() };
    test.append_histograms("m", [sample(10, 0, stale)]);
    test.append("m", &[(20, model::stale_marker())]);
    for _ in 0..3 {
        let (series, _) = test.read(&[], MillisRange::ALL);
        let histograms = series[0].histograms.as_ref().unwrap();
        assert!(histograms[0].as_ref().unwrap().is_stale() && histograms[1].is_none());
        assert!(model::is_stale(series[0].values[1]));
        test.reopen();
        test.store().flush().unwrap();
    }
}

#[test]
fn start_times_belong_to_the_write_that_brought_them() {
    let mut test = TestStore::new();
    let numbers: Vec<(i64, f64, i64)> = (1..300).map(|i| (i * 10, i as f64, if i < 200 { 5 } else { 1_995 })).collect();
    test.append_starts("m", &numbers);
    test.append_starts("m", &[(20, 2.0, 7)]);
    // The same number without a start time.
    test.append("m", &[(30, 3.0)]);
    let check = |test: &TestStore| {
        let (series, _) = test.read(&[], MillisRange::ALL);
        let starts = series[0].starts_ms.as_ref().unwrap();
        for (number, start_ms) in numbers.iter().zip(starts) {
            let expected = match number.0 {
                20 => 7,
                30 => 0,
                _ => number.2,
            };
            assert_eq!(*start_ms, expected, "at {}", number.0);
        }
        let (series, _) = test.read(&[], MillisRange { min_ms: 1_985, max_ms: 2_005 });
        assert_eq!(print_mixed(&series), "m: 199@1990<5 200@2000<1995");
    };
    check(&test);
    test.reopen();
    check(&test);
    test.store().flush().unwrap();
    check(&test);
    let block = test.blocks_dir().join("000000000001-000000000001-l0");
    assert_eq!(files_in(&block), ["extras", "index", "meta.json", "samples.parquet", "starts.parquet"]);
    for i in 0..3 {
        test.append_starts("n", &[(i, 1.0, -i)]);
        test.store().flush().unwrap();
    }
    assert!(test.store().compact_once().unwrap());
    check(&test);
    test.reopen();
    check(&test);
}

#[test]
fn exemplars_are_found_by_series_and_make_none() {
    let mut test = TestStore::new();
    let mut batch = MetricBatch::default();
    super::push(&mut batch, "m a=1", &[(10, 1.0)]);
    batch.set_exemplars([exemplar(9, 0.5, "x"), exemplar(9, 0.5, "x"), exemplar(12, 0.25, "y")]);
    let report = test.store().append(&batch).unwrap();
    assert_eq!((report.accepted, report.accepted_exemplars), (1, 3));
    let report = test.append_exemplars("alone", [exemplar(11, 3.0, "z")]);
    assert_eq!((report.accepted, report.accepted_exemplars), (0, 1));
    let expected = "alone: 3@11{trace_id=\"z\"}\nm{a=\"1\"}: 0.5@9{trace_id=\"x\"} 0.25@12{trace_id=\"y\"}".to_owned();
    let check = |test: &TestStore| {
        let context = QueryContext::default();
        assert_eq!(test.dump_exemplars(), expected);
        let named = [vec![Matcher::equal("__name__", "m")]];
        let range = MillisRange { min_ms: 10, max_ms: 12 };
        let found = test.store().exemplars(&named, range, &context).unwrap();
        assert_eq!(print_exemplars(&found), "m{a=\"1\"}: 0.25@12{trace_id=\"y\"}");
        assert_eq!(test.store().series(&[], MillisRange::ALL, &context).unwrap().len(), 1);
        let values = test.store().label_values("__name__", &[], MillisRange::ALL, &context).unwrap();
        assert_eq!(values, ["m"]);
        assert_eq!(test.store().label_names(&[], MillisRange::ALL, &context).unwrap(), ["__name__", "a"]);
        assert_eq!(test.dump(), "m a=1: 1@10");
        let context = QueryContext::new(Limits { samples_max: 9, ..Limits::default() });
        assert!(test.store().exemplars(&[], MillisRange::ALL, &context).is_err());
    };
    check(&test);
    test.reopen();
    check(&test);
    test.store().flush().unwrap();
    check(&test);
    for _ in 0..3 {
        test.append_exemplars("m a=1", [exemplar(9, 0.5, "x")]);
        test.append_exemplars("alone", [exemplar(11, 3.0, "z")]);
        test.store().flush().unwrap();
    }
    check(&test);
    assert!(test.store().compact_once().unwrap());
    check(&test);
    assert_eq!(test.store().stats().blocks, 1);
    assert!(test.store().stats().block_samples == 1);
}

#[track_caller]
fn check_refused(histogram: Histogram, reason: &str, detail: &str) {
    let test = TestStore::with(Options { histogram_buckets_max: 10, ..Options::default() });
    let report = test.append_histograms("m", [sample(1, 0, Histogram::default()), sample(2, 0, histogram)]);
    assert_eq!((report.accepted, report.accepted_histograms, report.rejected()), (1, 1, 1));
    assert_eq!((report.rejections[0].reason, report.rejections[0].detail.as_str()), (reason, detail));
    assert_eq!(test.dump_mixed(), "m: {count:0, sum:0}@1");
    assert!(test.metric(&format!("daybook_metrics_rejected_samples_total{{reason=\"{reason}\"}} 1")));
}

#[test]
fn histograms_that_make_no_sense_are_refused_one_by_one() {
    let custom = || Histogram { schema: CUSTOM, custom: [1.0, 2.0].into(), ..Histogram::default() };
    let good = Histogram::default;
    let cases: [(Histogram, &str, &str); 13] = [
        (Histogram { schema: -5, ..good() }, "histogram_bad_schema", "with schema -5, known are -4 to 52 and -53"),
        (Histogram { schema: 53, ..good() }, "histogram_bad_schema", "with schema 53, known are -4 to 52 and -53"),
        (
            Histogram { positive: (0..11).map(|i| (i, 1.0)).collect(), ..good() },
            "histogram_too_many_buckets",
            "with 11 buckets and bounds, the limit is 10",
        ),
        (Histogram { count: -1.0, ..good() }, "histogram_negative_count", "whose whole has observation count of -1"),
        (
            Histogram { negative: vec![(4, -0.5)], ..good() },
            "histogram_negative_count",
            "whose negative bucket 4 has observation count of -0.5",
        ),
        (
            Histogram { positive: vec![(4, 1.0), (4, 1.0)], ..good() },
            "histogram_bad_buckets",
            "whose positive buckets are not in ascending order",
        ),
        (
            Histogram { custom: [1.0].into(), ..good() },
            "histogram_bad_bounds",
            "with custom bounds and an exponential schema",
        ),
        (Histogram { zero_threshold: -1.0, ..good() }, "histogram_bad_zero_bucket", "with a zero threshold of -1"),
        (
            Histogram { zero_count: 1.0, ..custom() },
            "histogram_bad_zero_bucket",
            "with custom buckets and a zero bucket or negative buckets",
        ),
        (
            Histogram { custom: [f64::INFINITY].into(), ..custom() },
            "histogram_bad_bounds",
            "with custom bounds that are not finite",
        ),
        (
            Histogram { custom: [2.0, 2.0].into(), ..custom() },
            "histogram_bad_bounds",
            "whose custom bounds are not in strictly increasing order",
        ),
        (
            Histogram { positive: vec![(3, 1.0)], ..custom() },
            "histogram_bad_buckets",
            "with custom bucket 3, but 2 bounds only",
        ),
        (
            Histogram { positive: vec![(-1, 1.0)], ..custom() },
            "histogram_bad_buckets",
            "with custom bucket -1, but 2 bounds only",
        ),
    ];
    for (histogram, reason, why) in cases {
        check_refused(histogram, reason, &format!("series m{{}} has a histogram at 2 ms {why}"));
    }
}

#[test]
fn a_resolution_that_is_too_fine_is_lowered() {
    let test = TestStore::new();
    let fine =
        Histogram { schema: 10, count: 3.0, positive: vec![(1, 1.0), (4, 1.0), (5, 1.0)], ..Histogram::default() };
    let odd = Histogram { schema: 52, positive: vec![(i32::MIN, 1.0), (i32::MAX, 2.0)], ..Histogram::default() };
    let report = test.append_histograms("m", [sample(1, 0, fine), sample(2, 0, odd)]);
    assert_eq!((report.accepted, report.rejected()), (2, 0));
    let (series, _) = test.read(&[], MillisRange::ALL);
    let histograms = series[0].histograms.as_ref().unwrap();
    let first = histograms[0].as_ref().unwrap();
    assert_eq!((first.schema, first.positive.as_slice()), (8, [(1, 2.0), (2, 1.0)].as_slice()));
    assert_eq!(histograms[1].as_ref().unwrap().schema, 8);
}

#[test]
fn exemplars_over_the_limits_are_refused_one_by_one() {
    let retention = Some(std::time::Duration::from_secs(3600));
    let test = TestStore::with(Options { retention, ..Options::default() });
    let now = test.clock.now_millis();
    let long = |chars| "결".repeat(chars);
    let report = test.append_exemplars(
        "m",
        [
            exemplar(now, 1.0, &long(121)),
            exemplar(now, 2.0, &long(120)),
            exemplar(1, 3.0, "old"),
            exemplar(now, 4.0, "x"),
        ],
    );
    assert_eq!((report.accepted, report.accepted_exemplars, report.rejected()), (0, 2, 2));
    assert_eq!(report.rejections[0].reason, "exemplar_labels_too_long");
    let detail = "the labels of an exemplar of series m{} have 129 UTF-8 characters, the limit is 128";
    assert_eq!(report.rejections[0].detail, detail);
    assert_eq!(report.rejections[1].reason, "exemplar_too_old");
    assert!(test.metric("daybook_metrics_rejected_exemplars_total{reason=\"exemplar_labels_too_long\"} 1"));
    assert!(test.metric("daybook_metrics_appended_exemplars_total 2"));
    let mut batch = MetricBatch::default();
    batch.push([], []).unwrap();
    batch.set_exemplars([exemplar(now, 1.0, "x")]);
    batch.set_histograms([sample(now, 0, Histogram::default())]);
    let report = test.store().append(&batch).unwrap();
    let reasons: Vec<(&str, u64)> = report.rejections.iter().map(|one| (one.reason, one.count)).collect();
    assert_eq!(reasons, [("no_labels", 1), ("exemplar_series_refused", 1)]);
}

#[test]
fn samples_of_every_kind_grow_too_old() {
    let retention = Some(std::time::Duration::from_secs(3600));
    let test = TestStore::with(Options { retention, ..Options::default() });
    let now = test.clock.now_millis();
    let mut batch = MetricBatch::default();
    super::push(&mut batch, "m", &[(0, 1.0), (now, 2.0), (1, 3.0), (now + 1, 4.0)]);
    batch.set_starts([1, 2, 3, 4]);
    batch.set_histograms([sample(5, 0, Histogram::default()), sample(now + 2, 9, Histogram::default())]);
    let report = test.store().append(&batch).unwrap();
    assert_eq!((report.accepted, report.accepted_histograms), (3, 1));
    assert_eq!((report.rejections[0].reason, report.rejections[0].count), ("too_old", 3));
    let expected = format!("m: 2@{now}<2 4@{}<4 {{count:0, sum:0}}@{}<9", now + 1, now + 2);
    assert_eq!(test.dump_mixed(), expected);
}

#[test]
fn exemplars_go_with_their_block_and_are_counted() {
    let retention = std::time::Duration::from_secs(3600);
    let test = TestStore::with(Options { retention: Some(retention), ..Options::default() });
    let now = test.clock.now_millis();
    test.append_exemplars("m", [exemplar(now - 3_500_000, 1.0, "x"), exemplar(now - 3_400_000, 2.0, "y")]);
    test.append_histograms("m", [sample(now - 3_500_000, 0, Histogram::default())]);
    test.store().flush().unwrap();
    test.clock.advance(std::time::Duration::from_secs(150));
    assert_eq!((test.dump_exemplars().lines().count(), test.dump_mixed()), (1, String::new()), "hidden before dropped");
    test.store().apply_retention(test.clock.now_millis(), retention).unwrap();
    assert_eq!(test.store().stats().blocks, 1, "kept for its youngest exemplar");
    test.clock.advance(std::time::Duration::from_secs(100));
    test.store().apply_retention(test.clock.now_millis(), retention).unwrap();
    assert_eq!((test.store().stats().blocks, test.dump_exemplars()), (0, String::new()));
    assert!(test.metric("daybook_metrics_retention_dropped_exemplars_total 2"));
    assert!(test.metric("daybook_metrics_retention_dropped_samples_total 1"));
}

#[test]
fn a_head_with_histograms_gives_its_memory_back_and_refuses_more_than_fits() {
    let test = TestStore::with(Options { head_bytes_max: 256 << 10, ..Options::default() });
    let wide = |count: f64| Histogram { positive: (0..160).map(|i| (i, count)).collect(), ..Histogram::default() };
    let mut at = 0;
    let refused = loop {
        at += 1;
        let mut batch = MetricBatch::default();
        batch.push(labels("m"), []).unwrap();
        batch.set_histograms([sample(at, 0, wide(at as f64))]);
        if let Err(error) = test.store().append(&batch) {
            break error;
        }
    };
    assert!(matches!(refused, storage_api::Error::Overloaded { .. }), "{refused}");
    // A steady histogram takes a byte for a bucket, not sixteen.
    assert!(at > 500, "{at} histograms fit");
    test.store().flush().unwrap();
    assert_eq!(test.store().head_bytes(), 0);
    let (series, _) = test.read(&[], MillisRange::ALL);
    assert_eq!(series[0].values.len() as i64, at - 1);
}

#[test]
fn a_histogram_costs_a_query_more_than_a_number() {
    let test = TestStore::new();
    let wide = Histogram { positive: (0..160).map(|i| (i, 1.0)).collect(), ..Histogram::default() };
    test.append_histograms("m", (0..100).map(|at| sample(at, 0, wide.clone())));
    for _ in 0..2 {
        let read = |samples_max| {
            let context = QueryContext::new(Limits { samples_max, ..Limits::default() });
            let selection = test.store().select(&[], MillisRange::ALL, &context).unwrap();
            selection.parts[0].read(&context).map(|read| read[0].cost())
        };
        let cost = read(1_000_000).unwrap();
        assert!(cost > 100 * 160 && cost < 100 * 200, "{cost}");
        assert!(read(cost).is_ok());
        assert!(read(cost - 1).is_err());
        test.store().flush().unwrap();
    }
}

#[test]
fn hints_bounds_and_many_histograms_come_back_from_every_place() {
    let mut test = TestStore::new();
    let at = |i: i64| Histogram {
        schema: if i % 7 == 0 { CUSTOM } else { (i % 8) as i32 },
        zero_count: if i % 7 == 0 { 0.0 } else { (i % 3) as f64 },
        count: i as f64 / if i % 5 == 0 { 3.0 } else { 1.0 },
        sum: -(i as f64),
        positive: (0..i % 4).map(|bucket| (bucket as i32, bucket as f64)).collect(),
        negative: if i % 7 == 0 { vec![] } else { vec![(-5, 1.0), (i as i32, 0.0)] },
        custom: if i % 7 == 0 { [0.5, 1.0, 2.0, i as f64 + 3.0].into() } else { [].into() },
        hint: [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge][(i % 4) as usize],
        ..Histogram::default()
    };
    for series in ["a", "b", "c"] {
        // Every other one comes late.
        test.append_histograms(series, (0..500).step_by(2).map(|i| sample(i, i / 100, at(i))));
        test.append_histograms(series, (1..500).step_by(2).map(|i| sample(i, i / 100, at(i))));
    }
    test.append("b", &[(250, 7.0), (1000, 8.0)]);
    for step in ["head", "replayed", "block", "opened"] {
        for (min_ms, max_ms) in [(i64::MIN, i64::MAX), (100, 300), (499, 499), (700, 900)] {
            let (series, _) = test.read(&[], MillisRange { min_ms, max_ms });
            for one in &series {
                let name = one.labels.metric_name();
                let inside = (0..500).chain([1000].into_iter().filter(|_| name == "b"));
                let inside: Vec<i64> = inside.filter(|i| min_ms <= *i && *i <= max_ms).collect();
                assert_eq!(one.timestamps_ms, inside, "{step} {name}");
                for (i, at_ms) in inside.iter().enumerate() {
                    let got = one.histograms.as_ref().and_then(|all| all[i].as_ref());
                    if name == "b" && [250, 1000].contains(at_ms) {
                        assert!(got.is_none());
                        continue;
                    }
                    assert_eq!(histogram_bits(got.unwrap()), histogram_bits(&at(*at_ms)), "{step} {name} {at_ms}");
                    assert_eq!(one.starts_ms.as_ref().map_or(0, |all| all[i]), at_ms / 100);
                }
            }
            assert_eq!(series.len(), if min_ms == 700 { 0 } else { 3 }, "{step}");
        }
        match step {
            "replayed" => test.store().flush().unwrap(),
            _ => test.reopen(),
        }
    }
}

/// A store with a block that has every kind of file, and what it holds.
fn with_all_kinds() -> (TestStore, String, String) {
    let test = TestStore::new();
    for host in ["a", "b", "c"] {
        let series = format!("h host={host}");
        test.append_histograms(&series, (0..40).map(|i| sample(i * 10, 3, histogram(i as f64 + 1.0))));
        test.append_exemplars(&series, (0..10).map(|i| exemplar(i * 10, i as f64, host)));
        let series = format!("n host={host}");
        test.append_starts(&series, &(0..40).map(|i| (i * 10, i as f64, i / 20)).collect::<Vec<_>>());
    }
    test.store().flush().unwrap();
    let (samples, exemplars) = (test.dump_mixed(), test.dump_exemplars());
    (test, samples, exemplars)
}

#[test]
fn every_damaged_byte_beside_the_samples_is_a_warning_and_never_a_wrong_answer() {
    let (mut test, samples, exemplars) = with_all_kinds();
    let block = test.blocks_dir().join("000000000001-000000000001-l0");
    for name in ["extras", "histograms.parquet", "starts.parquet", "exemplars.parquet"] {
        let path = block.join(name);
        let content = std::fs::read(&path).unwrap();
        let step = (content.len() / 100).max(1);
        let mut warned = 0;
        let mut check = |bytes: &[u8], what: String| {
            std::fs::write(&path, bytes).unwrap();
            test.reopen();
            let (series, mut warnings) = test.read(&[], MillisRange::ALL);
            if warnings.is_empty() {
                assert_eq!(print_mixed(&series), samples, "{what}: a wrong answer without a warning");
            } else {
                assert!(series.is_empty(), "{what}: {}", print_mixed(&series));
            }
            let context = QueryContext::default();
            let found = test.store().exemplars(&[], MillisRange::ALL, &context).unwrap();
            let more = context.take_warnings();
            if more.is_empty() {
                assert_eq!(print_exemplars(&found), exemplars, "{what}: wrong exemplars without a warning");
            } else {
                assert!(found.is_empty(), "{what}: {}", print_exemplars(&found));
            }
            warnings.extend(more);
            warned += u64::from(!warnings.is_empty());
            assert!(warnings.iter().all(|warning| warning.contains("is damaged and left out")), "{warnings:?}");
        };
        let mut tried = 0;
        for at in (0..content.len()).step_by(step) {
            let mut bytes = content.clone();
            bytes[at] ^= 1 << (at % 8);
            check(&bytes, format!("{name}, byte {at} flipped"));
            check(&content[..at], format!("{name}, cut at {at}"));
            tried += 2;
        }
        // All that is read is checked; a cut is noticed when the block is opened.
        assert_eq!(warned, tried, "{name}");
        std::fs::write(&path, &content).unwrap();
    }
    test.reopen();
    assert_eq!(test.dump_mixed(), samples);
}

#[test]
fn damage_beside_the_samples_keeps_a_block_from_being_merged() {
    for name in ["histograms.parquet", "starts.parquet", "exemplars.parquet"] {
        let (mut test, ..) = with_all_kinds();
        for i in 0..3 {
            test.append("m", &[(i, 1.0)]);
            test.store().flush().unwrap();
        }
        test.store = None;
        let path = test.blocks_dir().join("000000000001-000000000001-l0").join(name);
        let mut content = std::fs::read(&path).unwrap();
        content[10] ^= 1;
        std::fs::write(&path, &content).unwrap();
        test.reopen();
        assert!(matches!(test.store().compact_once(), Err(storage_api::Error::Corrupt { .. })), "{name}");
        assert!(!test.store().compact_once().unwrap(), "{name}: it is not tried again and again");
        assert_eq!(files_in(&test.blocks_dir()).len(), 4);
    }
}

#[test]
fn a_full_disk_while_a_block_with_all_kinds_is_written_changes_nothing() {
    let test = TestStore::new();
    test.append_histograms("h", [sample(1, 0, histogram(1.0))]);
    test.append_starts("n", &[(1, 1.0, 1)]);
    test.append_exemplars("n", [exemplar(1, 1.0, "x")]);
    let (samples, exemplars) = (test.dump_mixed(), test.dump_exemplars());
    let mut failures = 0;
    for bytes in (0..40_000).step_by(331) {
        test.options.faults.fill_disk_after(bytes);
        let flushed = test.store().flush();
        test.options.faults.fill_disk_after(u64::MAX);
        assert_eq!((test.dump_mixed(), test.dump_exemplars()), (samples.clone(), exemplars.clone()), "{bytes}");
        match flushed {
            Ok(()) => break,
            Err(error) => assert!(matches!(error, storage_api::Error::DiskFull { .. }), "{bytes}: {error}"),
        }
        assert_eq!(files_in(&test.blocks_dir()), Vec::<String>::new(), "{bytes}");
        failures += 1;
    }
    assert!(failures > 10, "{failures}");
    assert_eq!(test.store().stats().blocks, 1);
}

#[test]
fn damage_to_the_wal_costs_records_and_never_changes_an_answer() {
    let mut test = TestStore::new();
    let records = 60;
    for i in 0..records {
        let mut batch = MetricBatch::default();
        for series in ["a", "b"] {
            super::push(&mut batch, series, &[(2 * i, i as f64)]);
            batch.set_starts([i / 10 + 1]);
            batch.set_histograms([sample(2 * i + 1, i, histogram(i as f64 + 1.0))]);
            batch.set_exemplars([exemplar(i, i as f64, series)]);
        }
        test.store().append(&batch).unwrap();
    }
    test.store = None;
    let path = test.wal_dir().join(files_in(&test.wal_dir()).first().unwrap());
    let content = std::fs::read(&path).unwrap();
    for place in 1..40 {
        let mut bytes = content.clone();
        bytes[content.len() * place / 41] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        test.reopen();
        let (series, _) = test.read(&[], MillisRange::ALL);
        let mut read = 0;
        for one in &series {
            for (n, at) in one.timestamps_ms.iter().enumerate() {
                read += 1;
                let (i, start_ms) = (at / 2, one.starts_ms.as_ref().map_or(0, |all| all[n]));
                match one.histograms.as_ref().and_then(|all| all[n].as_ref()) {
                    Some(got) => {
                        assert_eq!(histogram_bits(got), histogram_bits(&histogram(i as f64 + 1.0)), "place {place}");
                        assert_eq!((at % 2, start_ms), (1, i), "place {place}");
                    }
                    None => assert_eq!((at % 2, one.values[n], start_ms), (0, i as f64, i / 10 + 1), "place {place}"),
                }
            }
        }
        let counted: u64 = test.ledger.entries().iter().flat_map(|entry| &entry.dropped).map(|dropped| dropped.1).sum();
        assert_eq!(read + counted, 4 * (records as u64 - 1), "place {place}");
        test.store = None;
    }
}
