//! What a chart draws: named lines over time, thinned out, stacked and searched as pure functions.

use std::collections::BTreeMap;

/// One line: a name, a colour, samples by time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Series {
    /// What the legend says.
    pub name: String,
    /// The label set it came with.
    pub labels: BTreeMap<String, String>,
    /// A CSS colour, or the name of a token (`--severity-error`).
    pub color: String,
    /// (milliseconds, value), by time, without repeats. NaN draws as a gap.
    pub points: Vec<(f64, f64)>,
}

/// The figures of a legend's row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The newest value.
    pub last: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The mean of all values.
    pub mean: f64,
}

/// Returns a line's figures, without NaN; nothing when there are no values.
pub(crate) fn summary(points: &[(f64, f64)]) -> Option<Summary> {
    let mut values = points.iter().map(|p| p.1).filter(|v| !v.is_nan()).peekable();
    values.peek()?;
    let (mut sum, mut count, mut last) = (0.0, 0.0, 0.0);
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        sum += value;
        count += 1.0;
        last = value;
        min = min.min(value);
        max = max.max(value);
    }
    Some(Summary { last, min, max, mean: sum / count })
}

/// Thins out points to at most four per column of `column_ms`: first, least, greatest and last, in their order.
///
/// The drawing is the same to the pixel, since within a column only these can be seen. Points are by time.
pub(crate) fn downsample(points: &[(f64, f64)], from_ms: f64, column_ms: f64) -> Vec<(f64, f64)> {
    if column_ms <= 0.0 || points.len() < 4 {
        return points.to_vec();
    }
    let column = |at: f64| ((at - from_ms) / column_ms).floor();
    let mut thinned = Vec::with_capacity(points.len().min(4_096));
    for run in points.chunk_by(|a, b| column(a.0) == column(b.0) && a.1.is_nan() == b.1.is_nan()) {
        let by_value = |a: &usize, b: &usize| run[*a].1.total_cmp(&run[*b].1);
        let least = (0..run.len()).min_by(by_value).unwrap_or_default();
        let greatest = (0..run.len()).max_by(by_value).unwrap_or_default();
        let mut kept = [0, least.min(greatest), least.max(greatest), run.len() - 1].to_vec();
        kept.dedup();
        thinned.extend(kept.into_iter().map(|i| run[i]));
    }
    thinned
}

/// Returns each line on top of the lines before it, as (milliseconds, bottom, top). Where a line has no value it has no height.
pub(crate) fn stack(series: &[&[(f64, f64)]]) -> Vec<Vec<(f64, f64, f64)>> {
    // Keyed by whole milliseconds: the samples of one answer share their steps.
    let mut tops: BTreeMap<i64, f64> = BTreeMap::new();
    for points in series {
        for (at, _) in *points {
            tops.insert(*at as i64, 0.0);
        }
    }
    let mut stacked = Vec::with_capacity(series.len());
    for points in series {
        let mut values = points.iter().peekable();
        let mut layer = Vec::with_capacity(tops.len());
        for (at, top) in &mut tops {
            let value = values.next_if(|p| p.0 as i64 == *at).map_or(0.0, |p| p.1);
            let value = if value.is_finite() { value } else { 0.0 };
            let bottom = *top;
            *top += value;
            layer.push((*at as f64, bottom, *top));
        }
        stacked.push(layer);
    }
    stacked
}

/// Returns the index of the point nearest to `at_ms`, if one is within `reach_ms`. Points are by time.
pub(crate) fn nearest(points: &[(f64, f64)], at_ms: f64, reach_ms: f64) -> Option<usize> {
    let after = points.partition_point(|p| p.0 < at_ms);
    let candidates = [after.checked_sub(1), (after < points.len()).then_some(after)];
    let distance = |i: usize| (points[i].0 - at_ms).abs();
    let best = candidates.into_iter().flatten().min_by(|a, b| distance(*a).total_cmp(&distance(*b)))?;
    (distance(best) <= reach_ms).then_some(best)
}

/// Returns the usual distance of neighbours, from which a gap is told: the median of a sample of distances.
pub(crate) fn usual_step(points: &[(f64, f64)]) -> Option<f64> {
    let mut steps: Vec<f64> = points.windows(2).take(101).map(|w| w[1].0 - w[0].0).filter(|s| *s > 0.0).collect();
    if steps.is_empty() {
        return None;
    }
    steps.sort_by(f64::total_cmp);
    Some(steps[steps.len() / 2])
}

/// Names each label set by what tells it from the others; the metric's name only if it differs or nothing else does.
pub(crate) fn short_names(label_sets: &[BTreeMap<String, String>]) -> Vec<String> {
    let is_same = |name: &str| label_sets.windows(2).all(|w| w[0].get(name) == w[1].get(name));
    let mut telling: Vec<&str> = Vec::new();
    for name in label_sets.iter().flat_map(BTreeMap::keys) {
        if !telling.contains(&name.as_str()) && !is_same(name) {
            telling.push(name);
        }
    }
    telling.sort_unstable();
    label_sets.iter().map(|labels| short_name(labels, &telling)).collect()
}

fn short_name(labels: &BTreeMap<String, String>, telling: &[&str]) -> String {
    if telling.is_empty() {
        return full_name(labels);
    }
    let value = |name: &str| labels.get(name).cloned().unwrap_or_default();
    match telling {
        [one] => value(one),
        _ => {
            let pairs = telling.iter().filter(|name| **name != "__name__" && labels.contains_key(**name));
            let pairs: Vec<String> = pairs.map(|name| format!("{name}={}", value(name))).collect();
            let metric = if telling.contains(&"__name__") { value("__name__") } else { String::new() };
            [metric, pairs.join(" ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Writes a label set as a selector: `up{job="node"}`.
pub(crate) fn full_name(labels: &BTreeMap<String, String>) -> String {
    let pairs = labels.iter().filter(|(name, _)| *name != "__name__").map(|(n, v)| format!("{n}={v:?}"));
    let pairs = pairs.collect::<Vec<_>>().join(", ");
    let metric = labels.get("__name__").map_or("", String::as_str);
    if pairs.is_empty() && !metric.is_empty() { metric.to_owned() } else { format!("{metric}{{{pairs}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_summary_leaves_out_nan() {
        let s = summary(&[(0.0, f64::NAN), (1.0, 4.0), (2.0, 2.0), (3.0, f64::NAN)]).unwrap();
        assert_eq!(s, Summary { last: 2.0, min: 2.0, max: 4.0, mean: 3.0 });
        assert_eq!(summary(&[(0.0, f64::NAN)]), None);
    }

    #[test]
    fn thinning_keeps_ends_and_extremes_of_each_column() {
        let points: Vec<_> =
            (0..100_000).map(|i| (f64::from(i), if i == 500 { 1e9 } else { f64::from(i % 7) })).collect();
        let thin = downsample(&points, 0.0, 1_000.0);
        assert!(thin.len() <= 400, "{}", thin.len());
        assert!(thin.contains(&(500.0, 1e9)));
        assert_eq!((thin[0], thin[thin.len() - 1]), (points[0], points[points.len() - 1]));
        assert!(thin.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn thinning_keeps_gaps() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
        let thin = downsample(&points, 0.0, 1_000.0);
        assert_eq!(thin.iter().filter(|p| p.1.is_nan()).count(), 2);
        assert_eq!(thin.len(), 5);
    }

    #[test]
    fn a_stack_adds_up_where_times_are_missing() {
        let stacked = stack(&[&[(0.0, 1.0), (1.0, 1.0)], &[(1.0, 2.0), (2.0, f64::NAN)]]);
        assert_eq!(stacked[0], [(0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (2.0, 0.0, 0.0)]);
        assert_eq!(stacked[1], [(0.0, 1.0, 1.0), (1.0, 1.0, 3.0), (2.0, 0.0, 0.0)]);
    }

    #[test]
    fn the_nearest_point_is_found_within_reach() {
        let points = [(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)];
        assert_eq!(nearest(&points, 14.0, 100.0), Some(1));
        assert_eq!(nearest(&points, 16.0, 100.0), Some(2));
        assert_eq!(nearest(&points, -5.0, 3.0), None);
        assert_eq!(nearest(&[], 0.0, 1.0), None);
        assert_eq!(usual_step(&points), Some(10.0));
    }

    #[test]
    fn names_say_what_differs() {
        let sets = [
            labels(&[("__name__", "up"), ("job", "a"), ("x", "1")]),
            labels(&[("__name__", "up"), ("job", "b"), ("x", "1")]),
        ];
        assert_eq!(short_names(&sets), ["a", "b"]);
        let sets = [labels(&[("job", "a"), ("x", "1")]), labels(&[("job", "b")])];
        assert_eq!(short_names(&sets), ["job=a x=1", "job=b"]);
        assert_eq!(short_names(&sets[..1]), [r#"{job="a", x="1"}"#]);
        assert_eq!(short_names(&[labels(&[("__name__", "up")])]), ["up"]);
        assert_eq!(short_names(&[labels(&[])]), ["{}"]);
    }
}
