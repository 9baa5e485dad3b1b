//! Running totals: what is added, refused, taken back, and gone on with after a restart.

use std::sync::{Arc, Mutex};

use model::{Histogram, Labels, Timestamp, stale_marker};

use super::PointFault;
use super::delta::{DeltaOptions, DeltaStates, HistogramTotal, Running, Span};
use super::history::{History, HistoryError, Newest};

const NOW: Timestamp = Timestamp(1_000_000_000);
const MS: u64 = 1_000_000;

fn states(series_max: usize) -> DeltaStates {
    DeltaStates::new(DeltaOptions { series_max, expiry_ns: 8_000 }, None)
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn reason(fault: PointFault) -> &'static str {
    match fault {
        PointFault::Refused(refused) => refused.reason,
        other => panic!("{other:?}"),
    }
}

fn add(
    states: &mut DeltaStates,
    name: &str,
    start: u64,
    end: u64,
    value: f64,
    now: Timestamp,
) -> Result<f64, &'static str> {
    states.add_number(labels(name), Span { start, end }, value, now).map(|sum| sum.total).map_err(reason)
}

#[test]
fn deltas_add_up_and_gaps_are_no_reset() {
    let mut states = states(9);
    assert_eq!(add(&mut states, "a", 1, 10, 5.0, NOW), Ok(5.0));
    assert_eq!(add(&mut states, "a", 10, 20, 2.0, NOW), Ok(7.0));
    assert_eq!(add(&mut states, "a", 50, 60, 1.0, NOW), Ok(8.0));
    let last = states.add_number(labels("a"), Span { start: 0, end: 70 }, 1.0, NOW).unwrap();
    assert_eq!(last, Running { total: 9.0, start: 1 }, "the start is that of the first");
}

#[test]
fn repeats_overlaps_and_nonsense_are_refused() {
    let mut states = states(9);
    add(&mut states, "a", 1, 10, 5.0, NOW).unwrap();
    assert_eq!(add(&mut states, "a", 1, 10, 5.0, NOW), Err("delta_out_of_order"));
    assert_eq!(add(&mut states, "a", 9, 20, 5.0, NOW), Err("delta_overlap"));
    assert_eq!(add(&mut states, "a", 30, 20, 5.0, NOW), Err("delta_span"));
    assert_eq!(add(&mut states, "a", 10, 20, f64::NAN, NOW), Err("delta_not_finite"));
    assert_eq!(add(&mut states, "a", 10, 20, 1.0, NOW), Ok(6.0));
    assert_eq!(add(&mut states, "a", 19, 39, 1.0, NOW), Ok(7.0), "an inexact clock is no second sender");
}

#[test]
fn a_rollback_lets_the_retry_in() {
    let mut states = states(9);
    add(&mut states, "a", 1, 10, 5.0, NOW).unwrap();
    states.commit();
    add(&mut states, "a", 10, 20, 2.0, NOW).unwrap();
    add(&mut states, "b", 10, 20, 2.0, NOW).unwrap();
    states.rollback();
    assert_eq!(states.len(), 1);
    assert_eq!(add(&mut states, "a", 10, 20, 2.0, NOW), Ok(7.0));
}

#[test]
fn streams_are_bounded_and_expire() {
    let mut states = states(1);
    add(&mut states, "a", 1, 10, 5.0, NOW).unwrap();
    assert_eq!(add(&mut states, "b", 1, 10, 5.0, NOW), Err("too_many_delta_series"));
    let later = Timestamp(NOW.0 + 10_000);
    assert_eq!(add(&mut states, "b", 1, 10, 5.0, later), Ok(5.0));
    assert_eq!(states.len(), 1);
}

fn histogram(bound: f64) -> HistogramTotal {
    HistogramTotal { bounds: vec![bound], counts: vec![1, 2], count: 3, sum: Some(4.0) }
}

#[test]
fn histograms_add_up_until_the_bounds_change() {
    let mut states = states(9);
    let mut add =
        |bound, start, end| states.add_classic(labels("h"), Span { start, end }, histogram(bound), NOW).unwrap();
    add(1.0, 0, 1);
    let two = add(1.0, 1, 2).total;
    assert_eq!((two.counts, two.count, two.sum), (vec![2, 4], 6, Some(8.0)));
    assert_eq!(add(2.0, 2, 3), Running { total: histogram(2.0), start: 2 });
}

#[test]
fn native_histograms_add_up_at_the_lower_resolution() {
    let mut states = states(9);
    let delta = |schema, index| Histogram {
        schema,
        count: 2.0,
        sum: 3.0,
        positive: vec![(index, 2.0)],
        zero_threshold: 1e-128,
        ..Histogram::default()
    };
    let mut add = |delta, start, end| states.add_native(labels("h"), Span { start, end }, delta, NOW).unwrap();
    add(delta(1, 4), 5, 6);
    let two = add(delta(0, 2), 6, 7);
    assert_eq!((two.start, two.total.schema, two.total.count, two.total.sum), (5, 0, 4.0, 6.0));
    assert_eq!(two.total.positive, [(2, 4.0)]);
    let custom = Histogram { schema: model::histogram::CUSTOM, custom: [1.0].into(), ..delta(0, 0) };
    let anew = add(custom.clone(), 7, 8);
    assert_eq!((anew.start, &*anew.total), (7, &custom), "buckets of another kind start anew");
}

/// Storage that holds these, and counts how often it is asked.
#[derive(Debug, Default)]
struct Held {
    newest: Mutex<Vec<Newest>>,
    asked: Mutex<Vec<String>>,
    fails: bool,
}

impl History for Held {
    fn newest(&self, name: &str, labels: &[(&str, &str)], since_ms: i64) -> Result<Vec<Newest>, HistoryError> {
        if self.fails {
            return Err(HistoryError { cause: "the disk is gone".to_owned() });
        }
        self.asked.lock().unwrap().push(name.to_owned());
        let passes = |one: &&Newest| {
            let has = |(name, value): &(&str, &str)| one.labels.get(name).unwrap_or_default() == *value;
            one.labels.metric_name() == name && labels.iter().all(has) && one.timestamp_ms >= since_ms
        };
        Ok(self.newest.lock().unwrap().iter().filter(passes).cloned().collect())
    }
}

fn newest(name: &str, le: &str, timestamp_ms: i64, value: f64) -> Newest {
    let labels = Labels::from_pairs([("__name__", name), ("le", le), ("job", "j")]);
    Newest { labels, timestamp_ms, start_ms: 3, value, histogram: None }
}

/// Totals after a restart, an hour being ten seconds.
fn restarted(held: Vec<Newest>) -> (DeltaStates, Arc<Held>) {
    let held = Arc::new(Held { newest: Mutex::new(held), ..Held::default() });
    let options = DeltaOptions { series_max: 9, expiry_ns: 10_000_000_000 };
    (DeltaStates::new(options, Some(Arc::<Held>::clone(&held))), held)
}

fn of(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "j")])
}

#[test]
fn a_total_goes_on_after_a_restart() {
    let (mut states, held) = restarted(vec![newest("a", "", 10, 5.0)]);
    let mut add = |name: &str, start: u64, end: u64| {
        let added = states.add_number(of(name), Span { start: start * MS, end: end * MS }, 2.0, NOW);
        added.map(|sum| (sum.total, sum.start / MS)).map_err(reason)
    };
    assert_eq!(add("a", 5, 10), Err("delta_out_of_order"), "it was stored before the restart");
    assert_eq!(add("a", 8, 12), Err("delta_overlap"));
    assert_eq!(add("a", 10, 12), Ok((7.0, 3)));
    assert_eq!(add("a", 12, 14), Ok((9.0, 3)));
    assert_eq!(add("b", 12, 14), Ok((2.0, 12)), "nothing is stored of it");
    let asked = held.asked.lock().unwrap().iter().filter(|name| *name == "a").count();
    assert_eq!(asked, 1, "a family is looked up once");
}

#[test]
fn a_total_starts_anew_after_its_end_or_too_long_a_time() {
    let (mut states, _) = restarted(vec![newest("ended", "", 10, stale_marker()), newest("old", "", 10, 5.0)]);
    let mut add = |name: &str, start: u64, end: u64| {
        let added = states.add_number(of(name), Span { start: start * MS, end: end * MS }, 2.0, NOW);
        added.map(|sum| (sum.total, sum.start / MS)).map_err(reason)
    };
    assert_eq!(add("ended", 5, 10), Err("delta_out_of_order"));
    assert_eq!(add("ended", 10, 12), Ok((2.0, 10)));
    assert_eq!(add("old", 10, 10_011), Ok((2.0, 10)));
}

#[test]
fn a_rollback_after_a_restart_looks_the_same_up_again() {
    let (mut states, _) = restarted(vec![newest("a", "", 10, 5.0)]);
    let add = |states: &mut DeltaStates| {
        states.add_number(of("a"), Span { start: 10 * MS, end: 12 * MS }, 2.0, NOW).unwrap().total
    };
    assert_eq!(add(&mut states), 7.0);
    states.rollback();
    assert_eq!(add(&mut states), 7.0);
}

#[test]
fn histograms_go_on_after_a_restart() {
    let native = Histogram { count: 2.0, sum: 3.0, positive: vec![(1, 2.0)], ..Histogram::default() };
    let (mut states, _) = restarted(vec![
        newest("h_bucket", "0.5", 10, 4.0),
        newest("h_bucket", "+Inf", 10, 9.0),
        newest("h_count", "", 10, 9.0),
        newest("h_sum", "", 10, 7.5),
        Newest { histogram: Some(Arc::new(native.clone())), ..newest("n", "", 10, 0.0) },
    ]);
    let span = Span { start: 10 * MS, end: 12 * MS };
    let total = states.add_classic(of("h"), span, histogram(0.5), NOW).unwrap();
    assert_eq!(total.start, 3 * MS);
    assert_eq!((total.total.counts, total.total.count, total.total.sum), (vec![5, 7], 12, Some(11.5)));
    let total = states.add_native(of("n"), span, native, NOW).unwrap();
    assert_eq!((total.start, total.total.count, total.total.positive.clone()), (3 * MS, 4.0, vec![(1, 4.0)]));
}

#[test]
fn a_histogram_with_other_stored_buckets_starts_anew() {
    let stored = vec![newest("h_bucket", "2", 10, 4.0), newest("h_count", "", 10, 9.0)];
    let (mut states, _) = restarted(stored);
    let mut add = |start: u64, end: u64| {
        let span = Span { start: start * MS, end: end * MS };
        states.add_classic(of("h"), span, histogram(0.5), NOW).map_err(reason)
    };
    assert_eq!(add(5, 10), Err("delta_out_of_order"));
    assert_eq!(add(10, 12), Ok(Running { total: histogram(0.5), start: 10 * MS }));
}

#[test]
fn a_delta_is_not_guessed_at_when_storage_cannot_be_read() {
    let held = Arc::new(Held { fails: true, ..Held::default() });
    let mut states = DeltaStates::new(DeltaOptions::default(), Some(held));
    let fault = states.add_number(of("a"), Span { start: 1, end: 2 }, 1.0, NOW).unwrap_err();
    assert!(matches!(&fault, PointFault::History(error) if error.cause == "the disk is gone"), "{fault:?}");
    assert!(states.is_empty());
}
