//! Which hosts send metrics, and how theirs are asked for: names and labels differ between agents and versions.

use std::collections::{BTreeMap, BTreeSet};

use crate::lang::logql::quote;

type LabelMap = BTreeMap<String, String>;

/// Matches the series from which hosts are found.
pub(crate) const HOST_SERIES: &str = r#"{__name__=~"system_(cpu|memory|disk|network|filesystem)_.+"}"#;

/// A host and what it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// What people call it.
    pub name: String,
    /// Selects its series: `host_name="a"`.
    matcher: String,
    /// The labels of each metric.
    metrics: BTreeMap<String, BTreeSet<String>>,
}

/// Finds the hosts in the label sets of [`HOST_SERIES`], by name.
pub(crate) fn hosts(series: &[LabelMap]) -> Vec<Host> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for labels in series {
        let Some(metric) = labels.get("__name__") else { continue };
        let Some((label, name)) = ["host_name", "instance", "job"]
            .iter()
            .find_map(|l| labels.get_key_value(*l))
            .filter(|(_, v)| !v.is_empty())
        else {
            continue;
        };
        let host = hosts.entry(name.clone()).or_insert_with(|| Host {
            name: name.clone(),
            matcher: format!("{label}={}", quote(name)),
            metrics: BTreeMap::new(),
        });
        host.metrics.entry(metric.clone()).or_default().extend(labels.keys().cloned());
    }
    hosts.into_values().collect()
}

impl Host {
    /// Returns the first of `names` that the host sends, with the first of `labels` that it has.
    fn metric<'a>(&'a self, names: &[&'a str], labels: &[&'a str]) -> Option<(&'a str, &'a str)> {
        let (name, have) = names.iter().find_map(|name| Some((*name, self.metrics.get(*name)?)))?;
        Some((name, labels.iter().find(|label| have.contains(**label)).copied().unwrap_or("")))
    }

    fn cpu(&self) -> Option<(&str, &str)> {
        let names = ["system_cpu_time_seconds_total", "system_cpu_time_total"];
        self.metric(&names, &["state", "cpu_mode", "system_cpu_state", "mode"])
    }

    /// The share of time that all CPUs were not idle, 0 to 1, by state.
    pub(crate) fn cpu_by_state(&self, window: &str) -> Option<String> {
        let (name, state) = self.cpu().filter(|(_, state)| !state.is_empty())?;
        let m = &self.matcher;
        Some(format!(
            "sum by ({state}) (rate({name}{{{m}, {state}!=\"idle\"}}[{window}])) / ignoring({state}) group_left sum(rate({name}{{{m}}}[{window}]))"
        ))
    }

    /// The share of time that all CPUs were not idle, 0 to 1.
    pub(crate) fn cpu_used(&self, window: &str) -> Option<String> {
        let (name, state) = self.cpu().filter(|(_, state)| !state.is_empty())?;
        let m = &self.matcher;
        Some(format!("1 - sum(rate({name}{{{m}, {state}=\"idle\"}}[{window}])) / sum(rate({name}{{{m}}}[{window}]))"))
    }

    /// Bytes of memory by state.
    pub(crate) fn memory_by_state(&self) -> Option<String> {
        let (name, state) = self.memory()?;
        Some(format!("sum by ({state}) ({name}{{{}}})", self.matcher))
    }

    /// The share of memory that is in use, 0 to 1.
    pub(crate) fn memory_used(&self) -> Option<String> {
        let (name, state) = self.memory()?;
        let m = &self.matcher;
        Some(format!("sum({name}{{{m}, {state}=\"used\"}}) / sum({name}{{{m}}})"))
    }

    fn memory(&self) -> Option<(&str, &str)> {
        let found = self.metric(&["system_memory_usage_bytes"], &["state", "system_memory_state"]);
        found.filter(|(_, state)| !state.is_empty())
    }

    /// Bytes per second read and written, by direction.
    pub(crate) fn disk_io(&self, window: &str) -> Option<String> {
        let labels = ["direction", "disk_io_direction"];
        let (name, direction) = self.metric(&["system_disk_io_bytes_total"], &labels)?;
        Some(format!("sum by ({direction}) (rate({name}{{{}}}[{window}]))", self.matcher))
    }

    /// Bytes per second received and sent, by direction, without the loopback device.
    pub(crate) fn network_io(&self, window: &str) -> Option<String> {
        let (name, direction) =
            self.metric(&["system_network_io_bytes_total"], &["direction", "network_io_direction"])?;
        let devices = ["device", "network_interface_name", "system_device"];
        let (_, device) = self.metric(&[name], &devices)?;
        let no_loopback = if device.is_empty() { String::new() } else { format!(", {device}!=\"lo\"") };
        Some(format!("sum by ({direction}) (rate({name}{{{}{no_loopback}}}[{window}]))", self.matcher))
    }

    /// The share of each filesystem that is in use, 0 to 1, by mount point.
    pub(crate) fn filesystems(&self) -> Option<String> {
        let m = &self.matcher;
        let mounts = ["mountpoint", "system_filesystem_mountpoint"];
        if let Some((name, state)) =
            self.metric(&["system_filesystem_usage_bytes"], &["state", "system_filesystem_state"])
            && let Some((_, mount)) = self.metric(&[name], &mounts)
            && !state.is_empty()
            && !mount.is_empty()
        {
            return Some(format!(
                "max by ({mount}) (sum without ({state}) ({name}{{{m}, {state}=\"used\"}}) / sum without ({state}) ({name}{{{m}}}))"
            ));
        }
        let (name, mount) = self.metric(&["system_filesystem_utilization_ratio"], &mounts)?;
        Some(format!("max by ({mount}) ({name}{{{m}}})"))
    }

    /// The load over 1, 5 and 15 minutes, as far as it is sent.
    pub(crate) fn load(&self) -> Option<String> {
        let is_there = self.metrics.keys().any(|name| name.starts_with("system_cpu_load_average_"));
        is_there.then(|| format!("{{__name__=~\"system_cpu_load_average_.+\", {}}}", self.matcher))
    }
}

/// Returns what a load average's name says: `1m`.
pub(crate) fn load_period(metric: &str) -> String {
    let period = metric.strip_prefix("system_cpu_load_average_").unwrap_or(metric);
    period.split('_').next().unwrap_or_default().to_owned()
}

/// Returns the range of a `rate()` for steps of `step_ms`: long enough for a few samples, never shorter than a step.
pub(crate) fn rate_window(step_ms: i64) -> String {
    format!("{}s", (step_ms / 1_000).max(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelMap {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn hosts_are_found_by_name_or_else_by_instance() {
        let found = hosts(&[
            labels(&[
                ("__name__", "system_cpu_time_seconds_total"),
                ("host_name", "b"),
                ("instance", "x"),
                ("state", "idle"),
            ]),
            labels(&[("__name__", "system_memory_usage_bytes"), ("host_name", "b"), ("state", "used")]),
            labels(&[("__name__", "system_cpu_time_seconds_total"), ("instance", "a:1"), ("state", "user")]),
            labels(&[("__name__", "system_cpu_time_seconds_total")]),
            labels(&[]),
        ]);
        assert_eq!(found.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["a:1", "b"]);
        assert_eq!(found[0].memory_by_state(), None);
        assert_eq!(found[1].memory_by_state().unwrap(), r#"sum by (state) (system_memory_usage_bytes{host_name="b"})"#);
    }

    #[test]
    fn either_generation_of_label_names_is_asked_for() {
        let host = |state: &str, direction: &str, device: &str| {
            let series = [
                labels(&[("__name__", "system_cpu_time_seconds_total"), ("host_name", "h"), (state, "idle")]),
                labels(&[
                    ("__name__", "system_network_io_bytes_total"),
                    ("host_name", "h"),
                    (direction, "receive"),
                    (device, "lo"),
                ]),
            ];
            hosts(&series).remove(0)
        };
        let old = host("state", "direction", "device");
        assert!(old.cpu_used("60s").unwrap().contains(r#"{host_name="h", state="idle"}[60s]"#));
        assert!(old.network_io("60s").unwrap().starts_with("sum by (direction)"));
        let new = host("cpu_mode", "network_io_direction", "network_interface_name");
        assert!(new.cpu_by_state("60s").unwrap().contains(r#"cpu_mode!="idle""#));
        assert!(new.network_io("60s").unwrap().contains(r#"network_interface_name!="lo""#));
    }

    #[test]
    fn filesystems_are_asked_for_by_what_is_there() {
        let usage = labels(&[
            ("__name__", "system_filesystem_usage_bytes"),
            ("host_name", "h"),
            ("state", "used"),
            ("mountpoint", "/"),
        ]);
        let ratio =
            labels(&[("__name__", "system_filesystem_utilization_ratio"), ("host_name", "h"), ("mountpoint", "/")]);
        assert!(hosts(&[usage])[0].filesystems().unwrap().contains("sum without (state)"));
        assert!(hosts(&[ratio])[0].filesystems().unwrap().contains("utilization_ratio"));
    }

    #[test]
    fn a_hosts_name_cannot_break_a_query() {
        let series =
            labels(&[("__name__", "system_memory_usage_bytes"), ("host_name", "a\"} or {"), ("state", "used")]);
        assert!(hosts(&[series])[0].memory_used().unwrap().contains(r#"host_name="a\"} or {""#));
    }

    #[test]
    fn small_things() {
        assert_eq!(load_period("system_cpu_load_average_15m"), "15m");
        assert_eq!(load_period("system_cpu_load_average_1m_ratio"), "1m");
        assert_eq!((rate_window(5_000).as_str(), rate_window(300_000).as_str()), ("60s", "300s"));
    }
}
