//! The stack's own metrics and logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{Encoder, HistogramOpts, Opts, Registry, TextEncoder};

/// Holds the stack's own metrics; `/metrics` prints them. Clones share them.
///
/// Metric names are constants of the code: registering one twice, or a malformed one, is a bug and panics at start.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    registry: Registry,
    /// Type and help of each family by name: one whose labels were not used yet has no series, but is known all the same.
    families: Arc<Mutex<BTreeMap<String, (&'static str, String)>>>,
}

/// A number that only goes up.
#[derive(Debug, Clone)]
pub struct Counter(prometheus::IntCounter);
/// A number with a fraction that only goes up.
#[derive(Debug, Clone)]
pub struct FloatCounter(prometheus::Counter);
/// Counters told apart by labels.
#[derive(Debug, Clone)]
pub struct CounterVec(prometheus::IntCounterVec);
/// A number that goes up and down.
#[derive(Debug, Clone)]
pub struct Gauge(prometheus::Gauge);
/// Gauges told apart by labels.
#[derive(Debug, Clone)]
pub struct GaugeVec(prometheus::GaugeVec);
/// A distribution of values, in seconds or bytes.
#[derive(Debug, Clone)]
pub struct Histogram(prometheus::Histogram);
/// Distributions told apart by labels.
#[derive(Debug, Clone)]
pub struct HistogramVec(prometheus::HistogramVec);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }
    /// Adds `n`.
    pub fn inc_by(&self, n: u64) {
        self.0.inc_by(n);
    }
    /// Returns the count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl FloatCounter {
    /// Raises the count to `value`, as read from elsewhere; a lower value is ignored.
    pub fn raise_to(&self, value: f64) {
        let more = value - self.0.get();
        if more > 0.0 {
            self.0.inc_by(more);
        }
    }
}

impl CounterVec {
    /// Returns the counter with these label values, in the order of registration.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Counter {
        Counter(self.0.with_label_values(values))
    }

    /// Returns every counter with its labels.
    #[must_use]
    pub fn collect(&self) -> Vec<(Vec<(String, String)>, u64)> {
        let families = self.0.collect();
        let metrics = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics
            .map(|metric| {
                let labels = metric.get_label().iter().map(|pair| (pair.name().to_owned(), pair.value().to_owned()));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer counter")]
                let value = metric.get_counter().get_value() as u64;
                (labels.collect(), value)
            })
            .collect()
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }
    /// Adds `value`, which may be negative.
    pub fn add(&self, value: f64) {
        self.0.add(value);
    }
    /// Returns the value.
    #[must_use]
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

impl GaugeVec {
    /// Returns the gauge with these label values, in the order of registration.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Gauge {
        Gauge(self.0.with_label_values(values))
    }
}

impl Histogram {
    /// Counts a value.
    pub fn observe(&self, value: f64) {
        self.0.observe(value);
    }
}

impl HistogramVec {
    /// Returns the histogram with these label values, in the order of registration.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> Histogram {
        Histogram(self.0.with_label_values(values))
    }
}

impl Telemetry {
    /// Returns an empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a counter.
    ///
    /// # Panics
    /// On a repeated or malformed name, which is a bug.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = prometheus::IntCounter::new(name, help).expect("a well-formed name");
        self.register(name, "counter", help, counter.clone());
        Counter(counter)
    }

    /// Registers a counter with a fraction.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    #[must_use]
    pub fn float_counter(&self, name: &str, help: &str) -> FloatCounter {
        let counter = prometheus::Counter::new(name, help).expect("a well-formed name");
        self.register(name, "counter", help, counter.clone());
        FloatCounter(counter)
    }

    /// Registers counters told apart by `labels`.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    #[must_use]
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        let counters = prometheus::IntCounterVec::new(Opts::new(name, help), labels).expect("a well-formed name");
        self.register(name, "counter", help, counters.clone());
        CounterVec(counters)
    }

    /// Registers a gauge.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = prometheus::Gauge::new(name, help).expect("a well-formed name");
        self.register(name, "gauge", help, gauge.clone());
        Gauge(gauge)
    }

    /// Registers gauges told apart by `labels`.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    #[must_use]
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let gauges = prometheus::GaugeVec::new(Opts::new(name, help), labels).expect("a well-formed name");
        self.register(name, "gauge", help, gauges.clone());
        GaugeVec(gauges)
    }

    /// Registers a histogram with these upper bounds.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let histogram = prometheus::Histogram::with_opts(options).expect("a well-formed name");
        self.register(name, "histogram", help, histogram.clone());
        Histogram(histogram)
    }

    /// Registers histograms told apart by `labels`.
    ///
    /// # Panics
    /// As [`counter`](Self::counter).
    #[must_use]
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let histograms = prometheus::HistogramVec::new(options, labels).expect("a well-formed name");
        self.register(name, "histogram", help, histograms.clone());
        HistogramVec(histograms)
    }

    /// Prints all metrics in the Prometheus text format; families without a series yet have their help and type only.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut text).expect("writing to memory succeeds");
        let mut text = String::from_utf8_lossy(&text).into_owned();
        let gathered: BTreeSet<&str> = families.iter().map(prometheus::proto::MetricFamily::name).collect();
        for (name, (kind, help)) in self.families.lock().iter().filter(|(name, _)| !gathered.contains(name.as_str())) {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to memory succeeds");
        }
        text
    }

    fn register(&self, name: &str, kind: &'static str, help: &str, collector: impl Collector + 'static) {
        self.registry.register(Box::new(collector)).expect("each metric is registered once");
        self.families.lock().insert(name.to_owned(), (kind, help.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_printed_as_prometheus_reads_them() {
        let telemetry = Telemetry::new();
        telemetry.counter_vec("daybook_things_total", "Things.", &["reason"]).with(&["x"]).inc_by(3);
        let text = telemetry.render();
        assert!(text.contains("# TYPE daybook_things_total counter\ndaybook_things_total{reason=\"x\"} 3\n"), "{text}");
    }

    #[test]
    fn a_family_without_series_shows_its_type() {
        let telemetry = Telemetry::new();
        let _unused = telemetry.counter_vec("daybook_rare_total", "Rare.", &["reason"]);
        assert_eq!(telemetry.render(), "# HELP daybook_rare_total Rare.\n# TYPE daybook_rare_total counter\n");
    }
}
