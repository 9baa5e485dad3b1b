//! Finding series by matchers and time, and listing labels.

use model::{MatchOp, Matcher};
use storage_api::{Error, Limits, MetricQuerier, MillisRange, QueryContext};

use super::TestStore;

/// Series in a block, a second block and the head, some in more than one.
fn spread() -> TestStore {
    let test = TestStore::new();
    test.append("up host=a", &[(10, 1.0)]);
    test.append("up host=b zone=x", &[(10, 1.0)]);
    test.store().flush().unwrap();
    test.append("up host=a", &[(20, 2.0)]);
    test.append("down host=c", &[(20, 2.0)]);
    test.store().flush().unwrap();
    test.append("up host=a", &[(30, 3.0)]);
    test.append("up host=d", &[(30, 3.0)]);
    test
}

#[track_caller]
fn check(name: &str, op: MatchOp, value: &str, expected: &str) {
    let test = spread();
    let matchers = [Matcher::equal("__name__", "up"), Matcher::new(name, op, value).unwrap()];
    assert_eq!(test.dump_where(&matchers, MillisRange::ALL), expected);
}

#[test]
fn matchers_look_into_heads_and_blocks() {
    check("host", MatchOp::Equal, "a", "up host=a: 1@10 2@20 3@30");
    check("host", MatchOp::Regex, "[bd]", "up host=b zone=x: 1@10\nup host=d: 3@30");
    check("host", MatchOp::NotEqual, "a", "up host=b zone=x: 1@10\nup host=d: 3@30");
    check("zone", MatchOp::Equal, "", "up host=a: 1@10 2@20 3@30\nup host=d: 3@30");
    check("zone", MatchOp::NotEqual, "", "up host=b zone=x: 1@10");
    check("zone", MatchOp::Regex, "y|", "up host=a: 1@10 2@20 3@30\nup host=d: 3@30");
    check("host", MatchOp::NotRegex, "a|b|c|d", "");
    check("none", MatchOp::Equal, "x", "");
}

#[test]
fn time_ranges_include_both_ends() {
    let test = spread();
    let matchers = [Matcher::equal("host", "a")];
    assert_eq!(test.dump_where(&matchers, MillisRange { min_ms: 10, max_ms: 20 }), "up host=a: 1@10 2@20");
    assert_eq!(test.dump_where(&matchers, MillisRange { min_ms: 11, max_ms: 19 }), "");
    assert_eq!(test.dump_where(&matchers, MillisRange { min_ms: 30, max_ms: 5 }), "");
}

#[test]
fn labels_are_listed_by_selector_and_time() {
    let test = spread();
    let context = QueryContext::default();
    let store = test.store();
    let all = MillisRange::ALL;
    let early = MillisRange { min_ms: 0, max_ms: 10 };
    assert_eq!(store.label_names(&[], all, &context).unwrap(), ["__name__", "host", "zone"]);
    let down = vec![Matcher::equal("__name__", "down")];
    assert_eq!(store.label_names(std::slice::from_ref(&down), all, &context).unwrap(), ["__name__", "host"]);
    assert_eq!(store.label_values("host", &[], all, &context).unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(store.label_values("host", &[], early, &context).unwrap(), ["a", "b"]);
    let selectors = [down, vec![Matcher::equal("zone", "x")]];
    assert_eq!(store.label_values("host", &selectors, all, &context).unwrap(), ["b", "c"]);
    assert_eq!(store.label_values("none", &[], all, &context).unwrap(), Vec::<String>::new());
    let series = store.series(&selectors, all, &context).unwrap();
    assert_eq!(
        series.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [r#"down{host="c"}"#, r#"up{host="b", zone="x"}"#]
    );
    assert_eq!(store.series(&[], all, &context).unwrap().len(), 4);
}

#[test]
fn limits_and_cancellation_stop_a_query() {
    let test = spread();
    let store = test.store();
    let context = QueryContext::new(Limits { series_max: 3, ..Limits::default() });
    let error = store.select(&[], MillisRange::ALL, &context).unwrap_err();
    assert_eq!(error.to_string(), "the query would load 4 series, the limit is 3 (--query-max-series)");
    let context = QueryContext::new(Limits { samples_max: 3, ..Limits::default() });
    let selection = store.select(&[], MillisRange::ALL, &context).unwrap();
    assert!(matches!(selection.parts[0].read(&context), Err(Error::Limit { what: "samples", .. })));
    let context = QueryContext::default();
    let selection = store.select(&[], MillisRange::ALL, &context).unwrap();
    context.cancel();
    assert!(matches!(selection.parts[0].read(&context), Err(Error::Cancelled)));
}

#[test]
fn many_series_come_in_several_parts_in_order() {
    let test = TestStore::new();
    for i in 0..500 {
        test.append(&format!("m i={i}"), &[(i, 1.0)]);
        if i % 100 == 0 {
            test.store().flush().unwrap();
        }
    }
    let context = QueryContext::default();
    assert!(test.store().select(&[], MillisRange::ALL, &context).unwrap().parts.len() >= 3);
    assert_eq!(test.read(&[], MillisRange::ALL).0.len(), 500);
}

#[test]
fn the_extent_spans_heads_and_blocks() {
    let test = spread();
    let extent = test.store().extent();
    assert_eq!(extent.range, Some(MillisRange { min_ms: 10, max_ms: 30 }));
    assert_eq!(extent.chunks, 6, "a series counts in each place that has some of it");
    assert_eq!(TestStore::new().store().extent().range, None);
}
