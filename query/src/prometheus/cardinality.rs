//! `status/tsdb`: how many series there are by metric, label and pair. Series are looked at metric by metric, so that only
//! the counts are held.

use std::collections::HashMap;

use model::{Labels, METRIC_NAME, Matcher};
use query_wire::prometheus::{HeadStats, NameCount, TsdbStatus};
use storage_api::{Extent, MetricQuerier, MillisRange, QueryContext, Result};

/// What a pair's entry takes beside its text, about.
const ENTRY_BYTES: u64 = 48;

/// Counts of one label.
#[derive(Debug, Default)]
struct Label {
    /// Value to series.
    values: HashMap<Box<str>, u64>,
}

#[derive(Debug, Default)]
struct Counts {
    series: u64,
    metrics: Vec<(String, u64)>,
    labels: HashMap<Box<str>, Label>,
}

/// Counts everything that is stored; each list has `limit` entries at most. The context's memory is charged for what is
/// counted.
///
/// # Errors
/// As [`MetricQuerier::series`].
pub(super) fn count(metrics: &dyn MetricQuerier, limit: usize, context: &QueryContext) -> Result<TsdbStatus> {
    let mut names = metrics.label_values(METRIC_NAME, &[], MillisRange::ALL, context)?;
    // Series without a name come first.
    names.insert(0, String::new());
    let mut counts = Counts::default();
    for name in names {
        context.check()?;
        // A context of its own: the limit is on the series that are held at a time.
        let one = QueryContext::new(context.limits().clone());
        let found = metrics.series(&[vec![Matcher::equal(METRIC_NAME, name.clone())]], MillisRange::ALL, &one)?;
        for labels in &found {
            counts.add(labels, context)?;
        }
        if !name.is_empty() && !found.is_empty() {
            counts.metrics.push((name, found.len() as u64));
        }
    }
    Ok(counts.finish(limit, metrics.extent()))
}

impl Counts {
    fn add(&mut self, labels: &Labels, context: &QueryContext) -> Result<()> {
        self.series += 1;
        for (name, value) in labels.iter() {
            if !self.labels.contains_key(name) {
                context.charge_memory(name.len() as u64 + ENTRY_BYTES)?;
                self.labels.insert(name.into(), Label::default());
            }
            let Some(label) = self.labels.get_mut(name) else { continue };
            match label.values.get_mut(value) {
                Some(count) => *count += 1,
                None => {
                    context.charge_memory(value.len() as u64 + ENTRY_BYTES)?;
                    label.values.insert(value.into(), 1);
                }
            }
        }
        Ok(())
    }

    fn finish(self, limit: usize, extent: Extent) -> TsdbStatus {
        // As Prometheus' empty head.
        let range = extent.range.unwrap_or(MillisRange { min_ms: i64::MAX, max_ms: i64::MIN });
        let labels = &self.labels;
        let by_label = |count: fn(&Label) -> u64| {
            top(labels.iter().map(|(name, label)| (name.as_ref(), count(label))), limit)
                .into_iter()
                .map(entry)
                .collect()
        };
        let pairs = labels.iter().flat_map(|(name, label)| {
            label.values.iter().map(move |(value, count)| ((name.as_ref(), value.as_ref()), *count))
        });
        let pair = |((name, value), count): ((&str, &str), u64)| entry((format!("{name}={value}"), count));
        let values_len = |label: &Label| label.values.len() as u64;
        TsdbStatus {
            head_stats: HeadStats {
                num_series: self.series,
                num_label_pairs: labels.values().map(values_len).sum(),
                chunk_count: extent.chunks,
                min_time: range.min_ms,
                max_time: range.max_ms,
            },
            series_count_by_metric_name: top(self.metrics.into_iter(), limit).into_iter().map(entry).collect(),
            label_value_count_by_label_name: by_label(values_len),
            memory_in_bytes_by_label_name: by_label(|label| label.values.keys().map(|value| value.len() as u64).sum()),
            series_count_by_label_value_pair: top(pairs, limit).into_iter().map(pair).collect(),
        }
    }
}

fn entry((name, value): (impl Into<String>, u64)) -> NameCount {
    NameCount { name: name.into(), value }
}

/// Returns the largest counts, the largest first, those of the same count by name.
fn top<T: Ord>(counts: impl Iterator<Item = (T, u64)>, limit: usize) -> Vec<(T, u64)> {
    let mut heap = std::collections::BinaryHeap::new();
    for (name, count) in counts {
        heap.push((std::cmp::Reverse(count), name));
        if heap.len() > limit {
            heap.pop();
        }
    }
    heap.into_sorted_vec().into_iter().map(|(std::cmp::Reverse(count), name)| (name, count)).collect()
}

#[cfg(test)]
mod tests {
    use storage_api::Limits;
    use storage_api::fake::FakeMetrics;

    use super::*;

    fn store() -> FakeMetrics {
        let metrics = FakeMetrics::default();
        let push = |pairs: &[(&str, &str)]| metrics.push(&Labels::from_pairs(pairs.iter().copied()), 1, 1.0);
        for pod in ["a", "bb", "ccc"] {
            push(&[("__name__", "up"), ("job", "j"), ("pod", pod)]);
            push(&[("__name__", "cpu"), ("job", "j"), ("pod", pod)]);
        }
        push(&[("__name__", "alone")]);
        push(&[("job", "nameless")]);
        metrics
    }

    #[test]
    fn series_are_counted_by_metric_label_and_pair() {
        let status = count(&store(), 2, &QueryContext::default()).unwrap();
        let list =
            |list: &[NameCount]| list.iter().map(|one| format!("{} {}", one.name, one.value)).collect::<Vec<_>>();
        assert_eq!((status.head_stats.num_series, status.head_stats.num_label_pairs), (8, 8));
        let HeadStats { chunk_count, min_time, max_time, .. } = status.head_stats;
        assert_eq!((chunk_count, min_time, max_time), (8, 1, 1));
        assert_eq!(list(&status.series_count_by_metric_name), ["cpu 3", "up 3"]);
        assert_eq!(list(&status.label_value_count_by_label_name), ["__name__ 3", "pod 3"]);
        assert_eq!(list(&status.memory_in_bytes_by_label_name), ["__name__ 10", "job 9"]);
        assert_eq!(list(&status.series_count_by_label_value_pair), ["job=j 6", "__name__=cpu 3"]);
    }

    #[test]
    fn the_memory_of_the_counts_is_bounded() {
        let context = QueryContext::new(Limits { memory_bytes_max: 300, ..Limits::default() });
        let error = count(&store(), 10, &context).unwrap_err().to_string();
        assert!(error.contains("--query-max-memory-bytes"), "{error}");
    }
}
