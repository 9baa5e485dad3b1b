//! What is refused, and how it is said.

use std::borrow::Cow;
use std::time::Duration;

use model::Sample;
use storage_api::{Error, MetricAppender, MetricBatch};

use super::{TestStore, push};
use crate::Options;

const ONE: [Sample; 1] = [Sample { timestamp_ms: 5, value: 1.0 }];

#[track_caller]
fn check(pairs: Vec<(String, String)>, reason: &str, detail: &str) {
    let test = TestStore::new();
    let mut batch = MetricBatch::default();
    push(&mut batch, "good", &[(1, 1.0)]);
    batch.push(pairs.into_iter().map(|(name, value)| (Cow::from(name), Cow::from(value))), ONE).unwrap();
    let report = test.store().append(&batch).unwrap();
    assert_eq!((report.accepted, report.rejected()), (1, 1), "the rest of the batch is kept");
    assert_eq!(report.rejections[0].reason, reason);
    assert_eq!(report.rejections[0].detail, detail);
    assert_eq!(test.dump(), "good: 1@1");
    assert!(test.metric(&format!("daybook_metrics_rejected_samples_total{{reason=\"{reason}\"}} 1")));
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_hundred_thousand_labels_are_refused() {
    let pairs = (0..100_000).map(|i| (format!("l{i:06}"), "v".to_owned())).chain([pair("__name__", "m")]).collect();
    let shown: Vec<String> = (0..10).map(|i| format!("l{i:06}=\"v\"")).collect();
    let shown = format!("m{{{}, …}}", shown.join(", "));
    check(pairs, "too_many_labels", &format!("series {shown} has 100001 labels, the limit is 256"));
}

#[test]
fn a_label_value_of_ten_megabytes_is_refused() {
    let pairs = vec![pair("__name__", "m"), ("big".to_owned(), "결".repeat(10 << 20))];
    let shown = format!("m{{big=\"{}…\"}}", "결".repeat(30));
    let detail = format!("the value of label \"big\" of series {shown} has {} bytes, the limit is 65536", 30 << 20);
    check(pairs, "label_value_too_long", &detail);
}

#[test]
fn long_names_and_long_sets_are_refused() {
    let shown = "a".repeat(30);
    let detail = format!("label name \"{shown}…\" of series {{{shown}…=\"v\"}} has 2000 bytes, the limit is 1024");
    check(vec![("a".repeat(2000), "v".to_owned())], "label_name_too_long", &detail);
    let pairs = (0..5).map(|i| (format!("l{i}"), "v".repeat(60_000))).collect();
    let value = format!("{}…", "v".repeat(30));
    let shown: Vec<String> = (0..4).map(|i| format!("l{i}=\"{value}\"")).collect();
    let detail = format!(
        "the labels of series {{{}, …}} have 300010 bytes, the limit is 262144",
        shown.get(..4).unwrap().join(", ")
    );
    check(pairs, "labels_too_long", &detail);
}

#[test]
fn a_series_without_labels_is_refused() {
    check(vec![], "no_labels", "a series has no label");
}

#[test]
fn samples_older_than_the_retention_are_refused_one_by_one() {
    let test = TestStore::with(Options { retention: Some(Duration::from_secs(3600)), ..Options::default() });
    let now = test.clock.now_millis();
    let report = test.append("m", &[(0, 1.0), (now - 3_600_000, 2.0), (now - 3_600_001, 3.0), (now + 9_999, 4.0)]);
    assert_eq!((report.accepted, report.rejected()), (2, 2));
    assert_eq!(report.rejections[0].reason, "too_old");
    let oldest = now - 3_600_000;
    let detail =
        format!("series m{{}} has a sample at 0 ms, older than {oldest} ms, which the retention of 3600 s keeps");
    assert_eq!(report.rejections[0].detail, detail);
    assert_eq!(test.dump(), format!("m: 2@{oldest} 4@{}", now + 9_999));
}

#[test]
fn without_retention_any_time_is_taken() {
    let mut test = TestStore::new();
    let samples = [(i64::MIN, 1.0), (-1, 2.0), (0, 3.0), (4_102_444_800_000, 4.0), (i64::MAX, 5.0)];
    assert_eq!(test.append("m", &samples).accepted, 5);
    let expected = "m: 1@-9223372036854775808 2@-1 3@0 4@4102444800000 5@9223372036854775807";
    assert_eq!(test.dump(), expected);
    test.reopen();
    test.store().flush().unwrap();
    assert_eq!(test.dump(), expected);
    for _ in 0..3 {
        test.append("m", &[(1, 1.0)]);
        test.store().flush().unwrap();
    }
    assert!(test.store().compact_once().unwrap());
    assert!(test.dump().contains(" 1@1 "));
}

#[test]
fn a_full_head_refuses_until_it_is_flushed() {
    let test = TestStore::with(Options { head_bytes_max: 100_000, ..Options::default() });
    let samples: Vec<(i64, f64)> =
        (0..2_000).map(|i| (i, f64::from_bits((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))).collect();
    let mut accepted = 0;
    let error = loop {
        let name = format!("m{accepted}");
        match test.try_append(&name, &samples) {
            Ok(report) => accepted += report.accepted,
            Err(error) => break error,
        }
        assert!(accepted < 1_000_000, "the head has no bound");
    };
    assert!(matches!(error, Error::Overloaded { what: "the metrics head", limit: 100_000, .. }), "{error}");
    assert!(test.store().should_flush());
    test.store().flush().unwrap();
    assert!(!test.store().should_flush());
    assert_eq!(test.append("again", &samples).accepted, 2_000);
    let (series, _) = test.read(&[], storage_api::MillisRange::ALL);
    assert_eq!(series.iter().map(|one| one.values.len() as u64).sum::<u64>(), accepted + 2_000);
}

#[test]
fn a_replay_of_more_than_the_head_holds_makes_blocks() {
    let mut test = TestStore::new();
    let samples: Vec<(i64, f64)> =
        (0..2_000).map(|i| (i, f64::from_bits((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))).collect();
    for i in 0..20 {
        test.append(&format!("m i={}", i % 7), &samples);
        test.append("other", &[(i, i as f64)]);
    }
    let before = test.dump();
    test.options.head_bytes_max = 100_000;
    test.reopen();
    assert!(test.store().stats().blocks > 2);
    assert!(test.store().head_bytes() < 100_000);
    assert_eq!(test.dump(), before);
    test.store().flush().unwrap();
    test.reopen();
    assert_eq!(test.dump(), before);
}

#[test]
fn a_closed_store_refuses_appends_and_answers_on() {
    let test = TestStore::new();
    test.append("m", &[(1, 1.0)]);
    test.store().close();
    assert!(matches!(test.try_append("m", &[(2, 1.0)]), Err(Error::Closed)));
    assert_eq!(test.dump(), "m: 1@1");
}

#[test]
fn metadata_is_bounded() {
    let test = TestStore::with(Options { metadata_entries_max: 2, ..Options::default() });
    let named = |name: &str, help: String| model::MetricMetadata { name: name.to_owned(), help, ..Default::default() };
    let metadata = ["a", "b", "c"].map(|name| named(name, String::new())).into_iter();
    let metadata = metadata.chain([named("a", "x".repeat(1 << 20))]).collect();
    test.store().append(&super::metadata_batch(metadata)).unwrap();
    use storage_api::MetricQuerier;
    let names: Vec<String> = test.store().metadata(None).unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(test.metric("daybook_metrics_metadata_dropped_total{reason=\"too_many\"} 1"));
    assert!(test.metric("daybook_metrics_metadata_dropped_total{reason=\"too_long\"} 1"));
}

#[test]
fn a_head_that_fills_up_during_a_merge_is_flushed_by_it() {
    let test = TestStore::with(Options { head_bytes_max: 60_000, ..Options::default() });
    for i in 0..4 {
        test.append("m", &[(i, 1.0)]);
        test.store().flush().unwrap();
    }
    let samples: Vec<(i64, f64)> = (0..500).map(|i| (i, i as f64)).collect();
    for i in 0..60 {
        if test.store().should_flush() {
            break;
        }
        test.append(&format!("n i={i}"), &samples);
    }
    assert!(test.store().should_flush());
    let before = test.dump();
    assert!(test.store().compact_once().unwrap());
    assert_eq!(test.store().head_bytes(), 0);
    assert_eq!(test.store().stats().blocks, 2);
    assert_eq!(test.dump(), before);
}
