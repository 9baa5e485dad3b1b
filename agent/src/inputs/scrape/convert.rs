//! Turns a page's samples into OTLP metrics whose samples get their names back when a collector translates them to
//! Prometheus.
//!
//! A translation appends `_total` to monotonic sums and units to names. So no unit is given, and what would get a suffix
//! that it does not have (a counter not called `_total`) is sent as a gauge that says in its metadata what it is. Whole
//! histograms and summaries become points of their kind; broken ones are sent sample by sample.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use model::MetricKind;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, Sum,
    Summary, SummaryDataPoint, metric::Data, number_data_point::Value, summary_data_point::ValueAtQuantile,
};
use xxhash_rust::xxh3::Xxh3;

use super::text::{Family, Labels, Sample};
use crate::otlp::{Pairs, attribute, resource, resource_metrics};

/// OTLP's flag for a point that marks the end of its series.
const NO_RECORDED_VALUE: u32 = 1;

/// `job` and `instance` of a series.
pub(crate) type Owner = (String, String);

/// What the target adds to each sample.
#[derive(Debug, Clone)]
pub(crate) struct TargetLabels {
    pub(crate) owner: Owner,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) honor_labels: bool,
    pub(crate) honor_timestamps: bool,
}

/// The kind of point that a series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    Gauge(MetricKind),
    Sum,
    Histogram,
    Summary,
}

/// What is needed to end a series: everything but its values.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    owner: Owner,
    name: String,
    shape: Shape,
    labels: Labels,
    /// Bounds of a histogram, quantiles of a summary.
    bounds: Vec<f64>,
}

/// Series of a target, by the hash of all that tells them apart.
pub(crate) type SeriesSet = BTreeMap<u64, Series>;

/// Metrics in the making.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    groups: BTreeMap<Owner, Group>,
    /// The series of this scrape that may become stale.
    pub(crate) series: SeriesSet,
    seen: std::collections::HashSet<u64>,
    /// Samples that repeat another one of the same page.
    pub(crate) repeated: u64,
}

#[derive(Debug, Default)]
struct Group {
    metrics: Vec<Metric>,
    by_name: HashMap<(String, Shape), usize>,
}

struct Point {
    labels: Labels,
    owner: Owner,
    time_nanos: u64,
    /// The page gave the time, so the series is not ended when it vanishes.
    timed: bool,
}

impl Builder {
    /// Adds a page, scraped at `now` (nanoseconds since the epoch).
    pub(crate) fn add_page(&mut self, families: Vec<Family>, target: &TargetLabels, now: i64) {
        for family in families {
            match family.kind {
                MetricKind::Histogram => self.add_grouped(family, "le", target, now),
                MetricKind::Summary => self.add_grouped(family, "quantile", target, now),
                _ => {
                    for sample in family.samples {
                        self.add_plain(sample, family.kind, &family.help, target, now);
                    }
                }
            }
        }
    }

    /// Adds a gauge of our own about the target.
    pub(crate) fn add_own(&mut self, name: &str, help: &str, value: f64, target: &TargetLabels, now: i64) {
        let sample = Sample { name: name.to_owned(), labels: Vec::new(), value, timestamp_ms: None, exemplar: None };
        self.add_plain(sample, MetricKind::Gauge, help, target, now);
    }

    fn add_plain(&mut self, sample: Sample, kind: MetricKind, help: &str, target: &TargetLabels, now: i64) {
        let Sample { name, labels, value, timestamp_ms, exemplar: _ } = sample;
        let point = point(labels, timestamp_ms, target, now);
        let shape =
            if kind == MetricKind::Counter && name.ends_with("_total") { Shape::Sum } else { Shape::Gauge(kind) };
        let Some((metric, data)) = self.series(&name, shape, help, point, Vec::new()) else { return };
        let data = NumberDataPoint { value: Some(Value::AsDouble(value)), ..number(data) };
        push_number(metric, data);
    }

    /// Adds histograms or summaries: samples that are equal but for one label are one point.
    fn add_grouped(&mut self, family: Family, by: &str, target: &TargetLabels, now: i64) {
        let mut order: Vec<(Labels, Option<i64>)> = Vec::new();
        let mut parts: HashMap<(Labels, Option<i64>), Vec<Sample>> = HashMap::new();
        for sample in family.samples {
            let rest = sample.labels.iter().filter(|(name, _)| name != by).cloned().collect();
            let key = (rest, sample.timestamp_ms);
            parts
                .entry(key)
                .or_insert_with_key(|key| {
                    order.push(key.clone());
                    Vec::new()
                })
                .push(sample);
        }
        for key in order {
            let Some(samples) = parts.remove(&key) else { continue };
            let (labels, timestamp_ms) = key;
            let whole = match family.kind {
                MetricKind::Histogram => {
                    histogram(&family.name, &samples).map(|(point, bounds)| (Whole::Histogram(point), bounds))
                }
                _ => summary(&family.name, &samples).map(|(point, bounds)| (Whole::Summary(point), bounds)),
            };
            let Some((whole, bounds)) = whole else {
                for sample in samples {
                    self.add_plain(sample, MetricKind::Unknown, &family.help, target, now);
                }
                continue;
            };
            let created = format!("{}_created", family.name);
            let (created, _): (Vec<_>, Vec<_>) = samples.into_iter().partition(|sample| sample.name == created);
            let shape = if matches!(whole, Whole::Histogram(_)) { Shape::Histogram } else { Shape::Summary };
            let at = point(labels, timestamp_ms, target, now);
            if let Some((metric, data)) = self.series(&family.name, shape, &family.help, at, bounds) {
                push_whole(metric, whole, data);
            }
            for sample in created {
                self.add_plain(sample, MetricKind::Gauge, "", target, now);
            }
        }
    }

    /// Takes note of a series and returns where its point goes; `None` when the page had it already.
    fn series(
        &mut self,
        name: &str,
        shape: Shape,
        help: &str,
        point: Point,
        bounds: Vec<f64>,
    ) -> Option<(&mut Metric, PointData)> {
        let Point { labels, owner, time_nanos, timed } = point;
        let hash = identity(name, shape, &owner, &labels);
        let mut in_page = Xxh3::new();
        (hash, timed.then_some(time_nanos)).hash(&mut in_page);
        if !self.seen.insert(in_page.finish()) {
            self.repeated += 1;
            return None;
        }
        let attributes = labels.iter().map(|(key, value)| attribute(key, value)).collect();
        if !timed {
            let series = Series { owner: owner.clone(), name: name.to_owned(), shape, labels, bounds };
            self.series.insert(hash, series);
        }
        let group = self.groups.entry(owner).or_default();
        Some((group.metric(name, shape, help), PointData { attributes, time_nanos, flags: 0 }))
    }

    /// Ends the series of an earlier scrape that this one does not have.
    pub(crate) fn end_missing(&mut self, earlier: &SeriesSet, now: i64) -> u64 {
        let mut ended = 0;
        for (hash, series) in earlier {
            if self.series.contains_key(hash) {
                continue;
            }
            ended += 1;
            let attributes = series.labels.iter().map(|(key, value)| attribute(key, value)).collect();
            let time_nanos = u64::try_from(now).unwrap_or(0);
            let data = PointData { attributes, time_nanos, flags: NO_RECORDED_VALUE };
            let group = self.groups.entry(series.owner.clone()).or_default();
            let metric = group.metric(&series.name, series.shape, "");
            match series.shape {
                Shape::Gauge(_) | Shape::Sum => push_number(metric, number(data)),
                // With its bounds, so that each of its series ends.
                Shape::Histogram => {
                    let bucket_counts = vec![0; series.bounds.len() + 1];
                    let explicit_bounds = series.bounds.clone();
                    let point = HistogramDataPoint {
                        explicit_bounds,
                        bucket_counts,
                        sum: Some(0.0),
                        ..HistogramDataPoint::default()
                    };
                    push_whole(metric, Whole::Histogram(point), data);
                }
                Shape::Summary => {
                    let quantile = |quantile: &f64| ValueAtQuantile { quantile: *quantile, value: 0.0 };
                    let quantile_values = series.bounds.iter().map(quantile).collect();
                    let point = SummaryDataPoint { quantile_values, ..SummaryDataPoint::default() };
                    push_whole(metric, Whole::Summary(point), data);
                }
            }
        }
        ended
    }

    /// Returns the metrics, one resource for each job and instance.
    pub(crate) fn finish(self, url: &str, extra: &Pairs) -> Vec<ResourceMetrics> {
        let url = reqwest::Url::parse(url).ok();
        let server = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default().to_owned();
        let port =
            url.as_ref().and_then(reqwest::Url::port_or_known_default).map(|port| port.to_string()).unwrap_or_default();
        let scheme = url.as_ref().map(reqwest::Url::scheme).unwrap_or_default();
        let groups = self.groups.into_iter();
        groups
            .map(|((job, instance), group)| {
                let pairs = [
                    ("service.name", job.as_str()),
                    ("service.instance.id", &instance),
                    ("server.address", &server),
                    ("server.port", &port),
                    ("url.scheme", scheme),
                ];
                let extra = extra.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                resource_metrics(resource(pairs.into_iter().chain(extra)), group.metrics)
            })
            .collect()
    }
}

impl Group {
    fn metric(&mut self, name: &str, shape: Shape, help: &str) -> &mut Metric {
        let at = match self.by_name.get(&(name.to_owned(), shape)) {
            Some(at) => *at,
            None => {
                self.by_name.insert((name.to_owned(), shape), self.metrics.len());
                self.metrics.push(empty_metric(name, shape, help));
                self.metrics.len() - 1
            }
        };
        let metric = &mut self.metrics[at];
        if metric.description.is_empty() {
            help.clone_into(&mut metric.description);
        }
        metric
    }
}

fn empty_metric(name: &str, shape: Shape, help: &str) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match shape {
        Shape::Gauge(_) => Data::Gauge(Gauge::default()),
        Shape::Sum => Data::Sum(Sum { aggregation_temporality: cumulative, is_monotonic: true, ..Sum::default() }),
        Shape::Histogram => Data::Histogram(Histogram { aggregation_temporality: cumulative, ..Histogram::default() }),
        Shape::Summary => Data::Summary(Summary::default()),
    };
    let metadata = match shape {
        Shape::Gauge(MetricKind::Gauge) | Shape::Sum | Shape::Histogram | Shape::Summary => Vec::new(),
        Shape::Gauge(kind) => vec![attribute("prometheus.type", kind.as_str())],
    };
    Metric { name: name.to_owned(), description: help.to_owned(), unit: String::new(), metadata, data: Some(data) }
}

struct PointData {
    attributes: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>,
    time_nanos: u64,
    flags: u32,
}

enum Whole {
    Histogram(HistogramDataPoint),
    Summary(SummaryDataPoint),
}

fn number(data: PointData) -> NumberDataPoint {
    let PointData { attributes, time_nanos, flags } = data;
    NumberDataPoint { attributes, time_unix_nano: time_nanos, flags, ..NumberDataPoint::default() }
}

fn push_number(metric: &mut Metric, point: NumberDataPoint) {
    match &mut metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
        Some(Data::Sum(sum)) => sum.data_points.push(point),
        _ => {}
    }
}

fn push_whole(metric: &mut Metric, whole: Whole, data: PointData) {
    let PointData { attributes, time_nanos, flags } = data;
    match (&mut metric.data, whole) {
        (Some(Data::Histogram(histogram)), Whole::Histogram(point)) => {
            histogram.data_points.push(HistogramDataPoint { attributes, time_unix_nano: time_nanos, flags, ..point });
        }
        (Some(Data::Summary(summary)), Whole::Summary(point)) => {
            summary.data_points.push(SummaryDataPoint { attributes, time_unix_nano: time_nanos, flags, ..point });
        }
        _ => {}
    }
}

fn identity(name: &str, shape: Shape, owner: &Owner, labels: &Labels) -> u64 {
    let mut hash = Xxh3::new();
    (name, shape, owner, labels).hash(&mut hash);
    hash.finish()
}

/// Joins a sample's labels with the target's, as Prometheus does.
fn point(mut labels: Labels, timestamp_ms: Option<i64>, target: &TargetLabels, now: i64) -> Point {
    let mut owner = target.owner.clone();
    let own = [("job", &target.owner.0), ("instance", &target.owner.1)];
    let all = own.into_iter().chain(target.labels.iter().map(|(name, value)| (name.as_str(), value)));
    for (name, value) in all {
        let at = labels.iter().position(|(have, _)| have == name);
        match at {
            Some(at) if target.honor_labels => match name {
                "job" => owner.0 = labels.remove(at).1,
                "instance" => owner.1 = labels.remove(at).1,
                _ => {}
            },
            Some(at) => {
                let (_, scraped) = labels.remove(at);
                let mut exported = format!("exported_{name}");
                while labels.iter().any(|(have, _)| *have == exported) || target.labels.contains_key(&exported) {
                    exported.insert_str(0, "exported_");
                }
                labels.push((exported, scraped));
                if !matches!(name, "job" | "instance") {
                    labels.push((name.to_owned(), value.clone()));
                }
            }
            None if matches!(name, "job" | "instance") || value.is_empty() => {}
            None => labels.push((name.to_owned(), value.clone())),
        }
    }
    labels.sort();
    let given = timestamp_ms.filter(|_| target.honor_timestamps).and_then(|ms| ms.checked_mul(1_000_000));
    let time_nanos = u64::try_from(given.unwrap_or(now)).unwrap_or(0);
    Point { labels, owner, time_nanos, timed: given.is_some() }
}

/// Returns a count when it is one: whole, not negative, exact.
fn count(value: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and below 2^53")]
    ((0.0..=9_007_199_254_740_992.0).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

/// Says whether a number is written as a translation will write it, so that the label comes back as it was.
fn canonical(text: &str, value: f64) -> bool {
    format!("{value}") == text
}

/// Makes a point of a histogram's samples; `None` when it would not give them back.
fn histogram(name: &str, samples: &[Sample]) -> Option<(HistogramDataPoint, Vec<f64>)> {
    let (mut buckets, mut infinite, mut sum, mut total) = (Vec::new(), None, None, None);
    for sample in samples {
        match sample.name.strip_prefix(name)? {
            "_bucket" => {
                let le = &sample.labels.iter().find(|(name, _)| name == "le")?.1;
                let bound: f64 = le.parse().ok()?;
                let cumulative = count(sample.value)?;
                if bound == f64::INFINITY {
                    infinite = Some(cumulative);
                } else if canonical(le, bound) {
                    buckets.push((bound, cumulative));
                } else {
                    return None;
                }
            }
            "_sum" => sum = Some(sample.value),
            "_count" => total = Some(count(sample.value)?),
            "_created" => {}
            _ => return None,
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (total, infinite, sum) = (total?, infinite?, sum?);
    let strictly = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if total != infinite || !strictly {
        return None;
    }
    let mut before = 0;
    let mut bucket_counts = Vec::with_capacity(buckets.len() + 1);
    for cumulative in buckets.iter().map(|bucket| bucket.1).chain([infinite]) {
        bucket_counts.push(cumulative.checked_sub(before)?);
        before = cumulative;
    }
    let bounds: Vec<f64> = buckets.into_iter().map(|bucket| bucket.0).collect();
    let point = HistogramDataPoint {
        count: total,
        sum: Some(sum),
        bucket_counts,
        explicit_bounds: bounds.clone(),
        ..HistogramDataPoint::default()
    };
    Some((point, bounds))
}

/// Makes a point of a summary's samples; `None` when it would not give them back.
fn summary(name: &str, samples: &[Sample]) -> Option<(SummaryDataPoint, Vec<f64>)> {
    let (mut quantile_values, mut sum, mut total) = (Vec::new(), None, None);
    for sample in samples {
        match sample.name.strip_prefix(name)? {
            "" => {
                let text = &sample.labels.iter().find(|(name, _)| name == "quantile")?.1;
                let quantile: f64 = text.parse().ok().filter(|quantile| canonical(text, *quantile))?;
                quantile_values.push(ValueAtQuantile { quantile, value: sample.value });
            }
            "_sum" => sum = Some(sample.value),
            "_count" => total = Some(count(sample.value)?),
            "_created" => {}
            _ => return None,
        }
    }
    let bounds = quantile_values.iter().map(|value| value.quantile).collect();
    let point = SummaryDataPoint { count: total?, sum: sum?, quantile_values, ..SummaryDataPoint::default() };
    Some((point, bounds))
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
