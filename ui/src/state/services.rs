//! The services that send logs, summed up from how many lines there were by service, severity and time.

use std::collections::BTreeMap;

use query_wire::loki::{LabelMap, MatrixSeries};

use super::severity::{Severity, severity_of};
use crate::charts::series::Series;

/// A service and its lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Service {
    /// Its name; empty when the sender told none.
    pub name: String,
    /// All its lines.
    pub lines: f64,
    /// Those that are errors or worse.
    pub errors: f64,
    /// Those that are warnings.
    pub warnings: f64,
    /// Lines by time.
    pub volume: Vec<(f64, f64)>,
}

fn severity(labels: &LabelMap) -> Severity {
    severity_of(|name| labels.get(name).map(String::as_str))
}

/// Returns the services, those with most errors first, then with most lines.
pub(crate) fn services(volume: &[MatrixSeries]) -> Vec<Service> {
    let mut services: BTreeMap<&str, (Service, BTreeMap<i64, f64>)> = BTreeMap::new();
    for series in volume {
        let name = series.metric.get("service_name").map_or("", String::as_str);
        let (service, times) = services.entry(name).or_insert_with(|| {
            let name = name.to_owned();
            (Service { name, lines: 0.0, errors: 0.0, warnings: 0.0, volume: Vec::new() }, BTreeMap::new())
        });
        let severity = severity(&series.metric);
        for point in series.values.iter().filter(|point| point.value.is_finite()) {
            service.lines += point.value;
            match severity {
                Severity::Fatal | Severity::Error => service.errors += point.value,
                Severity::Warn => service.warnings += point.value,
                _ => {}
            }
            *times.entry(point.timestamp_ms).or_default() += point.value;
        }
    }
    let mut services: Vec<Service> = services
        .into_values()
        .map(|(service, times)| Service {
            volume: times.into_iter().map(|(at, n)| (at as f64, n)).collect(),
            ..service
        })
        .collect();
    services.sort_by(|a, b| b.errors.total_cmp(&a.errors).then(b.lines.total_cmp(&a.lines)));
    services
}

/// Returns lines by time for each severity that occurs, worst last, so that it is on top of a stack.
pub(crate) fn by_severity(volume: &[MatrixSeries]) -> Vec<Series> {
    let mut sums: BTreeMap<Severity, BTreeMap<i64, f64>> = BTreeMap::new();
    for series in volume {
        let times = sums.entry(severity(&series.metric)).or_default();
        for point in series.values.iter().filter(|point| point.value.is_finite()) {
            *times.entry(point.timestamp_ms).or_default() += point.value;
        }
    }
    let series = sums.into_iter().rev().map(|(severity, times)| Series {
        name: severity.name().to_owned(),
        labels: LabelMap::new(),
        color: severity.color(),
        points: times.into_iter().map(|(at, n)| (at as f64, n)).collect(),
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use query_wire::loki::Point;

    use super::*;

    fn series(service: &str, severity: &str, values: &[(i64, f64)]) -> MatrixSeries {
        let metric = [("service_name", service), ("severity_text", severity)];
        MatrixSeries {
            metric: metric.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            values: values
                .iter()
                .map(|(timestamp_ms, value)| Point { timestamp_ms: *timestamp_ms, value: *value })
                .collect(),
        }
    }

    #[test]
    fn services_with_errors_come_first() {
        let found = services(&[
            series("quiet", "INFO", &[(0, 100.0)]),
            series("bad", "ERROR", &[(0, 2.0), (1, 1.0)]),
            series("bad", "INFO", &[(1, 5.0), (2, f64::NAN)]),
        ]);
        assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["bad", "quiet"]);
        assert_eq!((found[0].lines, found[0].errors, found[0].warnings), (8.0, 3.0, 0.0));
        assert_eq!(found[0].volume, [(0.0, 2.0), (1.0, 6.0)]);
    }

    #[test]
    fn spellings_of_one_severity_are_one_bar() {
        let found = by_severity(&[
            series("a", "ERROR", &[(0, 1.0)]),
            series("b", "err", &[(0, 2.0)]),
            series("b", "", &[(0, 4.0)]),
        ]);
        assert_eq!(found.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["unset", "error"]);
        assert_eq!(found[1].points, [(0.0, 3.0)]);
    }
}
