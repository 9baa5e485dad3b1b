//! A store in memory, a part for each series.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Labels, Matcher};
use query_promql::{Part, Point, Samples, Source};
use storage_api::{MillisRange, QueryContext};

/// One point of a series, or none.
pub(crate) type MaybePoint = Option<Point>;

/// What scripts load, by labels and time.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) series: BTreeMap<Labels, BTreeMap<i64, (Point, i64)>>,
}

impl Store {
    /// Adds the points of a series line, `step` apart; `starts` are offsets from each sample's time.
    pub(crate) fn load(
        &mut self,
        labels: &Labels,
        points: &[MaybePoint],
        step_ms: i64,
        starts: Option<&[Option<i64>]>,
    ) {
        for (i, point) in points.iter().enumerate() {
            let Some(point) = point else { continue };
            let at = step_ms * i as i64;
            let start = starts.and_then(|starts| starts.get(i).copied().flatten()).map_or(0, |offset| at + offset);
            self.series.entry(labels.clone()).or_default().insert(at, (point.clone(), start));
        }
    }
}

struct Row(Samples);

impl Part for Row {
    fn read(&self, context: &QueryContext) -> storage_api::Result<Vec<Samples>> {
        context.charge_samples(self.0.cost())?;
        Ok(vec![self.0.clone()])
    }
}

impl Source for Store {
    fn select(
        &self,
        matchers: &[Matcher],
        range: MillisRange,
        _: &QueryContext,
    ) -> storage_api::Result<Vec<Box<dyn Part>>> {
        let mut parts: Vec<Box<dyn Part>> = Vec::new();
        for (labels, points) in &self.series {
            if !matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or(""))) {
                continue;
            }
            let inside: Vec<(&i64, &(Point, i64))> = points.range(range.min_ms..=range.max_ms).collect();
            if inside.is_empty() {
                continue;
            }
            let mut samples = Samples { labels: labels.clone(), ..Samples::default() };
            let mut histograms = Vec::new();
            for (at, (point, _)) in &inside {
                samples.timestamps_ms.push(**at);
                match point {
                    Point::Float(value) => {
                        samples.values.push(*value);
                        histograms.push(None);
                    }
                    Point::Histogram(histogram) => {
                        samples.values.push(f64::NAN);
                        histograms.push(Some(Arc::clone(histogram)));
                    }
                }
            }
            if histograms.iter().any(Option::is_some) {
                samples.histograms = Some(histograms);
            }
            if inside.iter().any(|(_, (_, start))| *start != 0) {
                samples.starts_ms = Some(inside.iter().map(|(_, (_, start))| *start).collect());
            }
            parts.push(Box::new(Row(samples)));
        }
        Ok(parts)
    }
}
