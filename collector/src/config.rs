//! The collector's settings.

use collector_otlp::metrics::{DeltaOptions, LabelLimits, Options, Promoted, Strategy};
use serde::{Deserialize, Serialize};

/// Resource attributes that make a log stream: those that Loki's OTLP endpoint takes for labels, and the host.
const STREAM_LABELS: &[&str] = &[
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    "host.name",
];

/// The collector's settings. Every limit refuses or rejects with a reason; none drops in silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Resource attributes that become the labels of a log stream.
    pub stream_labels: Vec<String>,
    /// Resource attributes that become labels of every metric series of the resource.
    pub promoted_resource_attributes: Vec<String>,
    /// Whether all resource attributes become labels of every metric series, instead of those.
    pub promote_all_resource_attributes: bool,
    /// Resource attributes that do not, when all others do.
    pub ignored_resource_attributes: Vec<String>,
    /// Whether `service.name`, `service.namespace` and `service.instance.id` are labels of `target_info`, beside `job` and
    /// `instance`.
    pub keep_identifying_resource_attributes: bool,
    /// How the names of OTLP metrics and attributes are translated.
    pub translation_strategy: Strategy,
    /// Whether an escaped label name that starts with a single underscore gets `key` in front.
    pub label_name_underscore_sanitization: bool,
    /// Whether runs of underscores stay in escaped label names.
    pub label_name_preserve_multiple_underscores: bool,
    /// Whether an OTLP scope becomes `otel_scope_*` labels of its series.
    pub scope_labels: bool,
    /// Whether OTLP resource attributes become a `target_info` series.
    pub target_info: bool,
    /// Whether an OTLP histogram with explicit bounds becomes a native one with custom buckets, not a classic one.
    pub convert_histograms_to_nhcb: bool,
    /// Largest body as it comes over the wire, in bytes.
    pub max_body_bytes: u64,
    /// Largest body once decompressed, in bytes.
    pub max_decoded_bytes: u64,
    /// Memory for all requests at a time, in bytes: bodies, decompressed bodies and what is decoded from them.
    pub memory_bytes: u64,
    /// Most requests that are worked on at a time.
    pub max_concurrent_requests: u32,
    /// How long a request may wait for its turn before it is refused, in milliseconds.
    pub admission_timeout_ms: u64,
    /// How long a body may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// What `Retry-After` and `RetryInfo` tell a refused client, in seconds.
    pub retry_after_s: u32,
    /// Most labels of a metric series or a log stream.
    pub max_labels: usize,
    /// Longest label name, in bytes.
    pub max_label_name_bytes: usize,
    /// Longest label value, in bytes.
    pub max_label_value_bytes: usize,
    /// Most buckets of an OTLP histogram point, or quantiles of a summary point.
    pub max_buckets: usize,
    /// Largest log record, in bytes.
    pub max_record_bytes: usize,
    /// Most attributes of a log record, of its resource, and of its scope.
    pub max_attributes: usize,
    /// Most delta streams whose totals are remembered.
    pub max_delta_series: usize,
    /// A delta stream is forgotten after this many seconds without a point.
    pub delta_expiry_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        let limits = LabelLimits::default();
        Self {
            stream_labels: STREAM_LABELS.iter().map(|name| (*name).to_owned()).collect(),
            promoted_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignored_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            translation_strategy: Strategy::default(),
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            scope_labels: true,
            target_info: true,
            convert_histograms_to_nhcb: false,
            max_body_bytes: 20 << 20,
            max_decoded_bytes: 64 << 20,
            memory_bytes: 256 << 20,
            max_concurrent_requests: 64,
            admission_timeout_ms: 1_000,
            body_timeout_ms: 30_000,
            retry_after_s: 1,
            max_labels: limits.labels_max,
            max_label_name_bytes: limits.name_bytes_max,
            max_label_value_bytes: limits.value_bytes_max,
            max_buckets: 1024,
            max_record_bytes: 8 << 20,
            max_attributes: 1024,
            max_delta_series: DeltaOptions::default().series_max,
            delta_expiry_s: 3_600,
        }
    }
}

impl Config {
    /// Returns every fault, one sentence each; none when the settings can be used.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let positive = [
            ("max_body_bytes", self.max_body_bytes),
            ("max_decoded_bytes", self.max_decoded_bytes),
            ("memory_bytes", self.memory_bytes),
            ("max_concurrent_requests", u64::from(self.max_concurrent_requests)),
            ("body_timeout_ms", self.body_timeout_ms),
            ("max_labels", self.max_labels as u64),
            ("max_label_name_bytes", self.max_label_name_bytes as u64),
            ("max_label_value_bytes", self.max_label_value_bytes as u64),
            ("max_buckets", self.max_buckets as u64),
            ("max_record_bytes", self.max_record_bytes as u64),
            ("max_attributes", self.max_attributes as u64),
        ];
        for (name, value) in positive {
            if value == 0 {
                faults.push(format!("collector.{name} must be more than 0"));
            }
        }
        // The 32-bit offsets of a batch hold with room to spare below this.
        if self.max_decoded_bytes > 1 << 30 {
            faults.push(format!(
                "collector.max_decoded_bytes is {}, the most possible is {}",
                self.max_decoded_bytes,
                1 << 30
            ));
        }
        if self.promote_all_resource_attributes && !self.promoted_resource_attributes.is_empty() {
            faults.push(
                "'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously"
                    .to_owned(),
            );
        }
        if !self.promote_all_resource_attributes && !self.ignored_resource_attributes.is_empty() {
            faults.push(
                "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true"
                    .to_owned(),
            );
        }
        if self.memory_bytes < self.max_body_bytes {
            faults.push(format!(
                "collector.memory_bytes is {}, less than one body may have (collector.max_body_bytes {})",
                self.memory_bytes, self.max_body_bytes
            ));
        }
        faults
    }

    pub(crate) fn translation(&self) -> Options {
        let promoted = if self.promote_all_resource_attributes {
            Promoted::AllBut(self.ignored_resource_attributes.clone())
        } else {
            Promoted::Only(self.promoted_resource_attributes.clone())
        };
        Options {
            strategy: self.translation_strategy,
            label_key_prefix: self.label_name_underscore_sanitization,
            label_keep_underscores: self.label_name_preserve_multiple_underscores,
            promoted,
            keep_identifying: self.keep_identifying_resource_attributes,
            scope_labels: self.scope_labels,
            target_info: self.target_info,
            custom_buckets: self.convert_histograms_to_nhcb,
            limits: self.label_limits(),
            buckets_max: self.max_buckets,
        }
    }

    pub(crate) fn label_limits(&self) -> LabelLimits {
        LabelLimits {
            labels_max: self.max_labels,
            name_bytes_max: self.max_label_name_bytes,
            value_bytes_max: self.max_label_value_bytes,
        }
    }

    pub(crate) fn deltas(&self) -> DeltaOptions {
        DeltaOptions { series_max: self.max_delta_series, expiry_ns: i64::from(self.delta_expiry_s) * 1_000_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_fault_free_and_faults_are_told_at_once() {
        assert_eq!(Config::default().check(), Vec::<String>::new());
        let config = Config { max_labels: 0, memory_bytes: 1, ..Config::default() };
        assert_eq!(config.check().len(), 2);
    }
}
