//! Looks up in storage where the totals of deltas were.

use std::sync::Arc;

use collector_otlp::metrics::{History, HistoryError, Newest};
use model::{METRIC_NAME, Matcher};
use storage_api::{MetricQuerier, MillisRange, QueryContext, Result, SeriesSamples};

/// What storage has of a metric's series.
#[derive(Debug)]
pub(crate) struct StoredTotals(pub(crate) Arc<dyn MetricQuerier>);

impl History for StoredTotals {
    fn newest(&self, name: &str, labels: &[(&str, &str)], since_ms: i64) -> Result<Vec<Newest>, HistoryError> {
        self.read(name, labels, since_ms).map_err(|error| HistoryError { cause: error.to_string() })
    }
}

impl StoredTotals {
    fn read(&self, name: &str, labels: &[(&str, &str)], since_ms: i64) -> Result<Vec<Newest>> {
        let context = QueryContext::default();
        let mut matchers = vec![Matcher::equal(METRIC_NAME, name)];
        matchers.extend(labels.iter().map(|(name, value)| Matcher::equal(*name, *value)));
        let range = MillisRange { min_ms: since_ms, max_ms: i64::MAX };
        let mut found = Vec::new();
        for part in self.0.select(&matchers, range, &context)?.parts {
            found.extend(part.read(&context)?.iter().filter_map(newest));
        }
        Ok(found)
    }
}

fn newest(series: &SeriesSamples) -> Option<Newest> {
    let last = series.timestamps_ms.len().checked_sub(1)?;
    Some(Newest {
        labels: series.labels.clone(),
        timestamp_ms: *series.timestamps_ms.get(last)?,
        start_ms: series.starts_ms.as_ref().and_then(|starts| starts.get(last).copied()).unwrap_or(0),
        value: *series.values.get(last)?,
        histogram: series.histograms.as_ref().and_then(|all| all.get(last).cloned().flatten()),
    })
}
