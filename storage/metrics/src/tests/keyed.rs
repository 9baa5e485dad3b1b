//! Series that are told by a key.

use model::{Matcher, Sample};
use storage_api::{Error, KeyMaker, LabelFault, LabelPair, LabelSource, MetricAppender, MetricBatch, MillisRange};

use super::TestStore;

/// Texts of series, and a count of how often each was asked for.
#[derive(Debug, Default)]
struct Texts {
    texts: Vec<&'static str>,
    asked: parking_lot::Mutex<Vec<u64>>,
}

impl<'a> LabelSource<'a> for Texts {
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelFault> {
        self.asked.lock().push(token);
        match self.texts[token as usize] {
            "refused" => Err(LabelFault::Refused { reason: "invalid_utf8", detail: "no text".to_owned() }),
            "malformed" => Err(LabelFault::Malformed("cut off".to_owned())),
            text => {
                out.extend(super::labels(text));
                Ok(())
            }
        }
    }
}

/// Appends one sample to each series, told by keys, and returns the report and which of the labels were asked for.
#[track_caller]
fn append(
    test: &TestStore,
    maker: &KeyMaker,
    texts: &[&'static str],
    at_ms: i64,
) -> (storage_api::Result<storage_api::AppendReport>, Vec<u64>) {
    let source = Texts { texts: texts.to_vec(), ..Texts::default() };
    let mut batch = MetricBatch::with_source(&source);
    for (token, text) in texts.iter().enumerate() {
        let sample = Sample { timestamp_ms: at_ms, value: token as f64 };
        batch.push_keyed(maker.key(text.as_bytes()), token as u64, [sample]);
    }
    let report = test.store().append(&batch);
    let asked = source.asked.lock().clone();
    (report, asked)
}

#[test]
fn labels_are_asked_for_once_in_the_life_of_a_head() {
    let (mut test, maker) = (TestStore::new(), KeyMaker::default());
    let texts = ["up host=a", "up host=b", "down host=a"];
    for (at_ms, asked) in [(1, vec![0, 1, 2]), (2, vec![]), (3, vec![])] {
        let (report, got) = append(&test, &maker, &texts, at_ms);
        assert_eq!((report.unwrap().accepted, got), (3, asked));
    }
    assert!(test.metric("daybook_metrics_series_keys_total{result=\"known\"} 6"));
    assert!(test.metric("daybook_metrics_series_keys_total{result=\"unknown\"} 3"));
    assert!(test.metric("daybook_metrics_head_keys 3"));
    test.store().flush().unwrap();
    assert!(test.metric("daybook_metrics_head_keys 0"));
    let (_, asked) = append(&test, &maker, &texts, 4);
    assert_eq!(asked, [0, 1, 2], "a new head knows no keys");
    test.reopen();
    let (_, asked) = append(&test, &maker, &texts, 5);
    assert_eq!(asked, [0, 1, 2], "nor does a head from the log");
    let dump = test.dump();
    assert_eq!(dump.lines().count(), 3, "{dump}");
    let (all, _) = test.read(&[Matcher::equal("host", "b")], MillisRange::ALL);
    assert_eq!(
        (all[0].timestamps_ms.as_slice(), all[0].values.as_slice()),
        ([1, 2, 3, 4, 5].as_slice(), [1.0; 5].as_slice())
    );
}

#[test]
fn ways_to_write_a_series_lead_to_the_same_one() {
    let (mut test, maker) = (TestStore::new(), KeyMaker::default());
    for at_ms in 1..=2 {
        let (report, _) = append(&test, &maker, &["up a=1 b=2", "up b=2 a=1", "up b=2 c= a=1"], at_ms * 10);
        assert_eq!(report.unwrap().accepted, 3);
        test.append("up a=1 b=2", &[(at_ms * 10 + 1, 7.0)]);
    }
    for reopened in [false, true] {
        let (all, _) = test.read(&[], MillisRange::ALL);
        assert_eq!(all.len(), 1, "reopened {reopened}");
        assert_eq!(all[0].timestamps_ms, [10, 11, 20, 21]);
        assert_eq!(all[0].values, [2.0, 7.0, 2.0, 7.0], "of a request the last one wins");
        test.reopen();
    }
}

#[test]
fn a_refused_series_is_refused_each_time() {
    let options = crate::Options { label_value_bytes_max: 4, ..crate::Options::default() };
    let (test, maker) = (TestStore::with(options), KeyMaker::default());
    for at_ms in 1..3 {
        let (report, asked) = append(&test, &maker, &["up a=1", "refused", "up a=12345", "up a=1 a=2"], at_ms);
        let report = report.unwrap();
        let reasons: Vec<_> = report.rejections.iter().map(|one| (one.reason, one.count)).collect();
        assert_eq!(reasons, [("invalid_utf8", 1), ("label_value_too_long", 1), ("duplicate_label", 1)]);
        assert_eq!((report.accepted, asked.len()), (1, if at_ms == 1 { 4 } else { 3 }));
    }
    assert!(test.metric("daybook_metrics_head_keys 1"));
}

#[test]
fn malformed_labels_refuse_the_batch_before_anything_is_written() {
    let (mut test, maker) = (TestStore::new(), KeyMaker::default());
    let (report, _) = append(&test, &maker, &["up a=1", "malformed"], 1);
    assert!(matches!(report, Err(Error::Invalid(cause)) if cause == "cut off"));
    assert_eq!(test.dump(), "");
    test.reopen();
    assert_eq!(test.dump(), "");
}

#[test]
fn an_old_sample_of_a_known_series_is_refused_with_its_labels() {
    let retention = Some(std::time::Duration::from_secs(10));
    let options = crate::Options { retention, ..crate::Options::default() };
    let (test, maker) = (TestStore::with(options), KeyMaker::default());
    let now_ms = test.clock.now_millis();
    let (report, _) = append(&test, &maker, &["up a=1"], now_ms);
    assert_eq!(report.unwrap().accepted, 1);
    let (report, asked) = append(&test, &maker, &["up a=1"], now_ms - 11_000);
    let report = report.unwrap();
    assert_eq!((report.accepted, report.rejections[0].reason, asked.len()), (0, "too_old", 1));
    assert!(report.rejections[0].detail.contains("up{a=\"1\"}"), "{}", report.rejections[0].detail);
}

#[test]
fn series_that_two_requests_make_at_once_are_one() {
    let (mut test, maker) = (TestStore::new(), KeyMaker::default());
    let texts: Vec<&'static str> = (0..64).map(|i| &*format!("m{i} a=1").leak()).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (test, maker, texts) = (&test, &maker, &texts);
            scope.spawn(move || {
                for at_ms in 0..20 {
                    let (report, _) = append(test, maker, texts, at_ms * 4 + thread);
                    assert_eq!(report.unwrap().accepted, 64);
                }
            });
        }
    });
    for reopened in [false, true] {
        let (all, _) = test.read(&[], MillisRange::ALL);
        assert_eq!(all.len(), 64, "reopened {reopened}");
        assert!(all.iter().all(|one| one.timestamps_ms == (0..80).collect::<Vec<_>>()));
        test.reopen();
    }
}
