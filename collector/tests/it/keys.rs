//! Series that are told by their keys are those that their labels tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use collector::Config;
use model::{Labels, Sample};
use proptest::prelude::*;
use prost::Message as _;
use storage_api::fake::{FakeLogs, FakeMetrics};
use storage_api::{
    AppendReport, MetricAppender, MetricBatch, MetricQuerier as _, MillisRange, QueryContext, Result, SeriesKey,
};

use crate::harness::{collector, post, snappy};
use crate::remote_write::{REMOTE_WRITE_2, Request2, Series2, series_2};

/// Stores every sample twice: under the labels that its key first came with, and under its own.
#[derive(Debug, Default)]
struct Twice {
    known: Mutex<HashMap<SeriesKey, Labels>>,
    keyed: Mutex<u64>,
    by_key: FakeMetrics,
    by_labels: FakeMetrics,
}

impl MetricAppender for Twice {
    fn append(&self, batch: &MetricBatch<'_>) -> Result<AppendReport> {
        let (mut known, mut scratch) = (self.known.lock().unwrap(), Vec::new());
        for row in batch.series() {
            let remembered = row.keyed.and_then(|keyed| known.get(&keyed.key).cloned());
            *self.keyed.lock().unwrap() += u64::from(remembered.is_some());
            let labels = remembered.or_else(|| {
                let labels = batch.labels_of(&row, &mut scratch).ok()?;
                let labels = Labels::from_sorted(labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
                known.extend(row.keyed.map(|keyed| (keyed.key, labels.clone())));
                Some(labels)
            });
            for Sample { timestamp_ms, value } in row.samples.iter().filter(|_| labels.is_some()) {
                self.by_key.push(labels.as_ref().unwrap(), *timestamp_ms, *value);
            }
        }
        self.by_labels.append(batch)
    }
}

fn dump(store: &FakeMetrics) -> String {
    let context = QueryContext::default();
    let parts = store.select(&[], MillisRange::ALL, &context).unwrap().parts;
    let read = parts.iter().flat_map(|part| part.read(&context).unwrap());
    read.map(|series| format!("{} {:?}\n", series.labels, series.timestamps_ms)).collect()
}

/// Names and values of a series' labels, of few texts each, so that lists differ in little.
fn any_labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let text = prop::sample::select(vec!["", "a", "b", "x", "y", "__name__", "ab"]);
    let name = prop::sample::select(vec!["a", "b", "ab", "c", "x", ""]);
    prop::collection::vec((name, text), 0..6).prop_map(|mut labels| {
        labels.insert(labels.len() / 2, ("__name__", "up"));
        labels
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn requests_of_version_2_store_the_same_by_keys_as_by_labels(
        requests in prop::collection::vec((prop::collection::vec(any_labels(), 1..12), any::<u64>()), 1..6),
    ) {
        let store = Arc::new(Twice::default());
        let (collector, ..) = collector(Config::default(), Arc::<Twice>::clone(&store), Arc::new(FakeLogs::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut at = 0;
        // All twice, so that most keys are known the second time.
        for (series, order) in requests.iter().chain(&requests) {
            // Each request has its texts at other places, some of them at two.
            let mut symbols = vec!["a", "b", "ab", "c", "x", "y", "__name__", "up", "", "a", "y"];
            let turn = (*order % symbols.len() as u64) as usize;
            symbols.rotate_left(turn);
            symbols.insert(0, "");
            let place = |text: &str, last: bool| {
                let found = if last { symbols.iter().rposition(|one| *one == text) } else { symbols.iter().position(|one| *one == text) };
                u32::try_from(found.unwrap()).unwrap()
            };
            let timeseries: Vec<Series2> = series.iter().map(|labels| {
                at += 1;
                let references: Vec<u32> =
                    labels.iter().flat_map(|(name, value)| [place(name, at % 2 == 0), place(value, at % 3 == 0)]).collect();
                series_2(&references, &[at])
            }).collect();
            let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
            let body = snappy(&Request2 { symbols, timeseries }.encode_to_vec());
            let answer = runtime.block_on(post(collector.http_router(), "/api/v1/write", REMOTE_WRITE_2, body));
            prop_assert!([StatusCode::NO_CONTENT, StatusCode::BAD_REQUEST].contains(&answer.status));
        }
        let known = store.known.lock().unwrap().len() as u64;
        prop_assert!(*store.keyed.lock().unwrap() >= known, "series are told by keys");
        prop_assert_eq!(dump(&store.by_key), dump(&store.by_labels));
    }
}
