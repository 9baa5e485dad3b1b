//! Everything a chart shows, measured out in pixels; drawing it is then only strokes.

use std::collections::BTreeSet;

use super::scale::{Scale, extent, value_domain};
use super::series::{Series, downsample, nearest, stack, usual_step};
use super::ticks::{Tick, log_ticks, time_ticks, value_ticks};
use super::units::Unit;
use crate::state::time::Span;

/// How the values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    /// A line each.
    #[default]
    Lines,
    /// Areas on top of each other.
    Areas,
    /// Bars on top of each other, each over the step that ends at its time.
    Bars,
}

/// How a chart is to look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Options {
    /// The unit of the values.
    pub unit: Unit,
    /// The shape.
    pub shape: Shape,
    /// Whether the value axis is logarithmic. Stacks ignore it: they would not add up.
    pub is_log: bool,
    /// Whether the value axis starts at zero.
    pub from_zero: bool,
    /// The least upper end of the value axis: 1 for a share that should be seen against the whole.
    pub top_min: Option<f64>,
    /// The step of the samples, from which gaps and the width of bars are told; 0 when unknown.
    pub step_ms: i64,
}

/// Where the drawing goes, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plot {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// One series, measured out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mark {
    /// Its place among the series.
    pub index: usize,
    /// Runs of neighbouring points; between runs are gaps.
    pub runs: Vec<Vec<(f64, f64)>>,
    /// For areas: the lower edge of each run, in the same order.
    pub floors: Vec<Vec<(f64, f64)>>,
    /// For bars: (left, top, width, height).
    pub bars: Vec<(f64, f64, f64, f64)>,
}

/// A chart, measured out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// The whole width.
    pub width: f64,
    /// The whole height.
    pub height: f64,
    /// Where the drawing goes.
    pub plot: Plot,
    /// Time to pixels.
    pub x: Scale,
    /// Values to pixels.
    pub y: Scale,
    /// The lines of the time axis.
    pub time_ticks: Vec<Tick>,
    /// The lines of the value axis.
    pub value_ticks: Vec<Tick>,
    /// The series, in drawing order.
    pub marks: Vec<Mark>,
    /// How far a sample may be from the pointer to be told.
    reach_ms: f64,
}

/// A series at the pointer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    /// Its place among the series.
    pub index: usize,
    /// When the sample was taken.
    pub at_ms: f64,
    /// Its value.
    pub value: f64,
}

/// The width of a digit in the axis' font.
const DIGIT_WIDTH: f64 = 6.4;
/// Room below the plot for the time axis.
const TIME_AXIS_HEIGHT: f64 = 22.0;
/// Room above the plot, for half of the uppermost label.
const TOP_MARGIN: f64 = 8.0;
/// Width that a time's label wants.
const TIME_LABEL_WIDTH: f64 = 78.0;
/// Height that a value's label wants.
const VALUE_LABEL_HEIGHT: f64 = 34.0;

impl Frame {
    /// Measures out `series` without those that are `hidden`, over `span`, on a surface of `size`.
    pub(crate) fn new(
        series: &[Series],
        hidden: &BTreeSet<String>,
        span: Span,
        size: (f64, f64),
        options: Options,
        utc_offset_ms: i64,
    ) -> Self {
        let (width, height) = size;
        let shown: Vec<(usize, &Series)> =
            series.iter().enumerate().filter(|(_, s)| !hidden.contains(&s.name)).collect();
        let stacked = (options.shape != Shape::Lines)
            .then(|| stack(&shown.iter().map(|(_, s)| s.points.as_slice()).collect::<Vec<_>>()));
        let is_log = options.is_log && stacked.is_none();

        let domain = match &stacked {
            Some(layers) => extent(layers.iter().flatten().flat_map(|(_, low, high)| [*low, *high])),
            None => extent(shown.iter().flat_map(|(_, s)| s.points.iter().map(|p| p.1))),
        };
        let (low, high) = value_domain(domain, is_log, options.from_zero || stacked.is_some());
        let (low, high) = (low, options.top_min.map_or(high, |top| high.max(top)));

        let (top, bottom) = (TOP_MARGIN.min(height), (height - TIME_AXIS_HEIGHT).max(TOP_MARGIN));
        let value_count = ((bottom - top) / VALUE_LABEL_HEIGHT).clamp(2.0, 12.0) as usize;
        let value_ticks = if is_log {
            log_ticks((low, high), value_count, options.unit)
        } else {
            value_ticks((low, high), value_count, options.unit)
        };
        let label_length = value_ticks.iter().map(|t| t.label.chars().count()).max().unwrap_or(2);
        let left = (label_length as f64 * DIGIT_WIDTH + 12.0).clamp(24.0, width / 2.0 + 24.0);
        let plot = Plot { left, right: (width - 10.0).max(left), top, bottom };

        let x = Scale::linear((span.from_ms as f64, span.to_ms as f64), (plot.left, plot.right));
        let ends = (plot.bottom, plot.top);
        let y = if is_log { Scale::log((low, high), ends) } else { Scale::linear((low, high), ends) };
        let time_count = ((plot.right - plot.left) / TIME_LABEL_WIDTH).clamp(1.0, 24.0) as usize;
        let column_ms = span.length_ms() as f64 / (plot.right - plot.left).max(1.0);

        let mut frame = Self {
            width,
            height,
            plot,
            x,
            y,
            time_ticks: time_ticks(span.from_ms, span.to_ms, time_count, utc_offset_ms),
            value_ticks,
            marks: Vec::with_capacity(shown.len()),
            reach_ms: (options.step_ms as f64).max(column_ms * 12.0),
        };
        frame.marks = match &stacked {
            None => shown.iter().map(|(i, s)| frame.line(*i, s, span, column_ms, options.step_ms)).collect(),
            Some(layers) => shown
                .iter()
                .zip(layers)
                .map(|((i, s), layer)| match options.shape {
                    Shape::Bars => frame.bars(*i, layer, options.step_ms),
                    _ => frame.area(*i, s, layer, options.step_ms),
                })
                .collect(),
        };
        frame
    }

    fn line(&self, index: usize, series: &Series, span: Span, column_ms: f64, step_ms: i64) -> Mark {
        let gap_ms = gap(&series.points, step_ms);
        let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
        // Gaps are told before thinning, which would make new ones.
        for run in series.points.chunk_by(|a, b| !a.1.is_nan() && !b.1.is_nan() && b.0 - a.0 <= gap_ms) {
            if run.first().is_some_and(|p| p.1.is_nan()) {
                continue;
            }
            let points = downsample(run, span.from_ms as f64, column_ms);
            runs.push(points.iter().map(|p| (self.x.pixel(p.0), self.pixel_y(p.1))).collect());
        }
        Mark { index, runs, floors: Vec::new(), bars: Vec::new() }
    }

    fn area(&self, index: usize, series: &Series, layer: &[(f64, f64, f64)], step_ms: i64) -> Mark {
        let gap_ms = gap(&series.points, step_ms);
        let (mut runs, mut floors) = (Vec::new(), Vec::new());
        for run in layer.chunk_by(|a, b| b.0 - a.0 <= gap_ms) {
            runs.push(run.iter().map(|p| (self.x.pixel(p.0), self.pixel_y(p.2))).collect());
            floors.push(run.iter().map(|p| (self.x.pixel(p.0), self.pixel_y(p.1))).collect());
        }
        Mark { index, runs, floors, bars: Vec::new() }
    }

    fn bars(&self, index: usize, layer: &[(f64, f64, f64)], step_ms: i64) -> Mark {
        let step = if step_ms > 0 { step_ms as f64 } else { 1_000.0 };
        let bars = layer.iter().filter(|(_, low, high)| high > low).map(|(at, low, high)| {
            let (left, right) = (self.x.pixel(at - step), self.x.pixel(*at));
            let (left, right) = (left.max(self.plot.left), right.min(self.plot.right));
            let (top, bottom) = (self.pixel_y(*high), self.pixel_y(*low));
            // A pixel stays free between bars, and a bar can always be seen.
            (left, top, (right - left - 1.0).max(1.0), (bottom - top).max(0.5))
        });
        Mark { index, runs: Vec::new(), floors: Vec::new(), bars: bars.collect() }
    }

    /// Infinite values are drawn at the edges.
    fn pixel_y(&self, value: f64) -> f64 {
        self.y.pixel(value).clamp(self.plot.top - 2.0, self.plot.bottom + 2.0)
    }

    /// Returns the time under a pixel, within the span.
    pub(crate) fn time_at(&self, pixel: f64) -> f64 {
        self.x.value(pixel.clamp(self.plot.left, self.plot.right))
    }

    /// Returns the shown series' samples nearest to `at_ms`, in the series' order.
    pub(crate) fn hits(&self, series: &[Series], at_ms: f64) -> Vec<Hit> {
        let found = self.marks.iter().filter_map(|mark| {
            let points = &series.get(mark.index)?.points;
            let (at_ms, value) = points[nearest(points, at_ms, self.reach_ms)?];
            (!value.is_nan()).then_some(Hit { index: mark.index, at_ms, value })
        });
        found.collect()
    }
}

/// Returns the distance of samples beyond which there is a gap.
fn gap(points: &[(f64, f64)], step_ms: i64) -> f64 {
    let step = usual_step(points).unwrap_or(0.0).max(step_ms as f64);
    if step > 0.0 { step * 1.9 } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { from_ms: 0, to_ms: 100_000 };

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.to_owned(), points: points.to_vec(), ..Series::default() }
    }

    fn frame(series: &[Series], options: Options) -> Frame {
        Frame::new(series, &BTreeSet::new(), SPAN, (400.0, 200.0), options, 0)
    }

    #[test]
    fn a_missing_sample_breaks_the_line() {
        let lines = [series("a", &[(0.0, 1.0), (10_000.0, 2.0), (20_000.0, 3.0), (50_000.0, 1.0), (60_000.0, 1.0)])];
        let frame = frame(&lines, Options { step_ms: 10_000, ..Options::default() });
        assert_eq!(frame.marks[0].runs.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn nan_breaks_the_line_and_infinity_stays_inside() {
        let lines = [series("a", &[(0.0, 1.0), (10_000.0, f64::NAN), (20_000.0, f64::INFINITY), (30_000.0, 1.0)])];
        let frame = frame(&lines, Options::default());
        assert_eq!(frame.marks[0].runs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        for (x, y) in frame.marks[0].runs.iter().flatten() {
            assert!((0.0..=400.0).contains(x) && (0.0..=200.0).contains(y), "{x} {y}");
        }
    }

    #[test]
    fn hidden_series_take_no_room() {
        let lines = [series("small", &[(0.0, 1.0), (1_000.0, 2.0)]), series("big", &[(0.0, 1e9), (1_000.0, 2e9)])];
        let hidden = BTreeSet::from(["big".to_owned()]);
        let frame = Frame::new(&lines, &hidden, SPAN, (400.0, 200.0), Options::default(), 0);
        assert_eq!(frame.marks.len(), 1);
        assert!(frame.y.pixel(2.0) < frame.plot.bottom - 50.0);
    }

    #[test]
    fn bars_stand_on_each_other_and_inside_the_plot() {
        let lines = [series("a", &[(0.0, 2.0), (50_000.0, 2.0)]), series("b", &[(50_000.0, 1.0), (100_000.0, 4.0)])];
        let options = Options { shape: Shape::Bars, step_ms: 50_000, ..Options::default() };
        let frame = frame(&lines, options);
        let (a, b) = (&frame.marks[0].bars, &frame.marks[1].bars);
        assert!((b[0].1 + b[0].3 - a[1].1).abs() < 1e-9, "b's foot is a's head");
        for (left, top, width, height) in a.iter().chain(b) {
            assert!(*left >= frame.plot.left && left + width <= frame.plot.right + 1.0);
            assert!(*top >= frame.plot.top && top + height <= frame.plot.bottom + 1.0);
        }
    }

    #[test]
    fn the_pointer_finds_samples_and_times() {
        let lines = [series("a", &[(0.0, 1.0), (10_000.0, 2.0)]), series("b", &[(90_000.0, 5.0)])];
        let frame = frame(&lines, Options { step_ms: 10_000, ..Options::default() });
        assert_eq!(frame.hits(&lines, 9_000.0), [Hit { index: 0, at_ms: 10_000.0, value: 2.0 }]);
        assert_eq!(frame.time_at(-100.0), 0.0);
        assert_eq!(frame.time_at(1e9), 100_000.0);
    }

    #[test]
    fn many_points_become_few_strokes() {
        let points: Vec<_> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 10))).collect();
        let frame = frame(&[series("a", &points)], Options::default());
        assert!(frame.marks[0].runs.iter().map(Vec::len).sum::<usize>() <= 4 * 400);
    }

    #[test]
    fn a_surface_without_size_is_no_harm() {
        for size in [(0.0, 0.0), (1.0, 1.0), (30.0, 5.0), (5_000.0, 3_000.0)] {
            for shape in [Shape::Lines, Shape::Areas, Shape::Bars] {
                let lines = [series("a", &[(0.0, 1.0), (1_000.0, 2.0)])];
                let options = Options { shape, ..Options::default() };
                let frame = Frame::new(&lines, &BTreeSet::new(), SPAN, size, options, 0);
                assert!(frame.plot.left <= frame.plot.right && frame.plot.top <= frame.plot.bottom);
            }
        }
    }
}
