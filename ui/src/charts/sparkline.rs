//! A line as small as a word, drawn as SVG.

use leptos::prelude::*;

use super::scale::{Scale, extent};
use crate::state::time::Span;

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 22.0;

/// Returns the SVG path of bars from the ground up, one for each point.
fn bars(points: &[(f64, f64)], span: Span, step_ms: i64) -> String {
    let top = extent(points.iter().map(|p| p.1)).map_or(1.0, |(_, high)| high.max(1.0));
    let x = Scale::linear((span.from_ms as f64, span.to_ms as f64), (0.0, WIDTH));
    let y = Scale::linear((0.0, top), (HEIGHT, 1.0));
    let width = (x.pixel(step_ms as f64) - x.pixel(0.0) - 0.6).max(0.8);
    let drawn = points.iter().filter(|p| p.1 > 0.0 && p.1.is_finite());
    drawn
        .map(|(at, value)| {
            let left = x.pixel(*at - step_ms as f64).clamp(0.0, WIDTH);
            format!("M{left:.1} {HEIGHT}V{:.1}h{width:.1}V{HEIGHT}z", y.pixel(*value).min(HEIGHT - 1.0))
        })
        .collect()
}

/// Draws points as small bars over `span`.
#[component]
pub(crate) fn Sparkline(
    /// (milliseconds, value), by time.
    points: Vec<(f64, f64)>,
    /// From when to when.
    span: Span,
    /// The step of the points.
    step_ms: i64,
) -> impl IntoView {
    let path = bars(&points, span, step_ms);
    view! {
        <svg class="sparkline" viewBox=format!("0 0 {WIDTH} {HEIGHT}") preserveAspectRatio="none" aria-hidden="true">
            <path d=path></path>
        </svg>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_only_drawn_where_there_is_something() {
        let span = Span { from_ms: 0, to_ms: 120_000 };
        let path = bars(&[(60_000.0, 2.0), (90_000.0, 0.0), (120_000.0, f64::NAN)], span, 30_000);
        assert_eq!(path, "M30.0 22V1.0h29.4V22z");
        assert_eq!(bars(&[], span, 30_000), "");
    }
}
