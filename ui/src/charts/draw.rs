//! Puts a measured frame on a canvas.

use wasm_bindgen::JsCast as _;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement};

use super::frame::{Frame, Mark, Shape};
use super::series::Series;

/// The colours that the theme gives to charts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ink {
    grid: String,
    text: String,
    cross: String,
    accent: String,
}

const FONT: &str = "11px Inter, ui-sans-serif, system-ui, sans-serif";

impl Ink {
    /// Reads the colours that hold now.
    pub(crate) fn of_theme() -> Self {
        let token = |name| resolve_color(name);
        Self {
            grid: token("--chart-grid"),
            text: token("--text-dim"),
            cross: token("--chart-cross"),
            accent: token("--accent"),
        }
    }
}

/// Returns a colour as the canvas wants it: tokens are looked up, anything else is returned.
pub(crate) fn resolve_color(color: &str) -> String {
    if !color.starts_with("--") {
        return color.to_owned();
    }
    let root = leptos::prelude::document().document_element();
    let style = root.and_then(|root| leptos::prelude::window().get_computed_style(&root).ok().flatten());
    let value = style.and_then(|style| style.get_property_value(color).ok()).unwrap_or_default();
    let value = value.trim();
    if value.is_empty() { "gray".to_owned() } else { value.to_owned() }
}

/// Fits a canvas to `width` x `height` CSS pixels on this screen, and returns its cleared context.
pub(crate) fn surface(canvas: &HtmlCanvasElement, width: f64, height: f64) -> Option<CanvasRenderingContext2d> {
    let ratio = leptos::prelude::window().device_pixel_ratio().max(1.0);
    let (w, h) = ((width * ratio).round() as u32, (height * ratio).round() as u32);
    // Setting a size clears the canvas and is slow, so it is done only on change.
    if canvas.width() != w || canvas.height() != h {
        canvas.set_width(w);
        canvas.set_height(h);
    }
    let context = canvas.get_context("2d").ok()??.dyn_into::<CanvasRenderingContext2d>().ok()?;
    context.set_transform(ratio, 0.0, 0.0, ratio, 0.0, 0.0).ok()?;
    context.clear_rect(0.0, 0.0, width, height);
    Some(context)
}

/// Draws axes and series. `focus` is drawn strong, the others faint.
pub(crate) fn frame(
    context: &CanvasRenderingContext2d,
    frame: &Frame,
    series: &[Series],
    shape: Shape,
    focus: Option<&str>,
) {
    let ink = Ink::of_theme();
    axes(context, frame, &ink);
    context.save();
    context.begin_path();
    let plot = frame.plot;
    context.rect(plot.left, plot.top - 2.0, plot.right - plot.left, plot.bottom - plot.top + 4.0);
    context.clip();
    context.set_line_join("round");
    let width = if frame.marks.len() > 20 { 1.2 } else { 1.6 };
    for mark in &frame.marks {
        let Some(series) = series.get(mark.index) else { continue };
        let is_faint = focus.is_some_and(|name| name != series.name);
        let color = resolve_color(&series.color);
        context.set_global_alpha(if is_faint { 0.18 } else { 1.0 });
        context.set_stroke_style_str(&color);
        context.set_fill_style_str(&color);
        match shape {
            Shape::Lines => lines(context, mark, width),
            Shape::Areas => areas(context, mark, is_faint),
            Shape::Bars => {
                for (left, top, width, height) in &mark.bars {
                    context.fill_rect(*left, *top, *width, *height);
                }
            }
        }
    }
    // A single line gets a light area, which makes it easier to follow; many would be mud.
    if let (Shape::Lines, [mark]) = (shape, frame.marks.as_slice()) {
        context.set_global_alpha(0.1);
        for run in mark.runs.iter().filter(|run| run.len() > 1) {
            path(context, run);
            let (first, last) = (run[0].0, run[run.len() - 1].0);
            context.line_to(last, plot.bottom);
            context.line_to(first, plot.bottom);
            context.close_path();
            context.fill();
        }
    }
    context.restore();
}

fn path(context: &CanvasRenderingContext2d, run: &[(f64, f64)]) {
    context.begin_path();
    for (i, (x, y)) in run.iter().enumerate() {
        if i == 0 { context.move_to(*x, *y) } else { context.line_to(*x, *y) }
    }
}

fn dot(context: &CanvasRenderingContext2d, x: f64, y: f64, radius: f64) {
    context.begin_path();
    // An arc with a positive radius is always valid.
    if context.arc(x, y, radius, 0.0, std::f64::consts::TAU).is_ok() {
        context.fill();
    }
}

fn lines(context: &CanvasRenderingContext2d, mark: &Mark, width: f64) {
    context.set_line_width(width);
    for run in &mark.runs {
        match run.as_slice() {
            [(x, y)] => dot(context, *x, *y, 1.8),
            run => {
                path(context, run);
                context.stroke();
            }
        }
    }
}

fn areas(context: &CanvasRenderingContext2d, mark: &Mark, is_faint: bool) {
    context.set_line_width(1.0);
    for (run, floor) in mark.runs.iter().zip(&mark.floors) {
        if let [(x, y)] = run.as_slice() {
            dot(context, *x, *y, 1.8);
            continue;
        }
        path(context, run);
        for (x, y) in floor.iter().rev() {
            context.line_to(*x, *y);
        }
        context.close_path();
        context.set_global_alpha(if is_faint { 0.08 } else { 0.42 });
        context.fill();
        path(context, run);
        context.set_global_alpha(if is_faint { 0.18 } else { 1.0 });
        context.stroke();
    }
}

fn axes(context: &CanvasRenderingContext2d, frame: &Frame, ink: &Ink) {
    let plot = frame.plot;
    context.set_font(FONT);
    context.set_line_width(1.0);
    context.set_stroke_style_str(&ink.grid);
    context.set_fill_style_str(&ink.text);
    context.set_text_baseline("middle");
    context.set_text_align("right");
    for tick in &frame.value_ticks {
        let y = frame.y.pixel(tick.at).round() + 0.5;
        context.begin_path();
        context.move_to(plot.left, y);
        context.line_to(plot.right, y);
        context.stroke();
        text(context, &tick.label, plot.left - 7.0, y);
    }
    context.set_text_baseline("alphabetic");
    context.set_text_align("center");
    for tick in &frame.time_ticks {
        let x = frame.x.pixel(tick.at).round() + 0.5;
        context.set_global_alpha(if tick.is_major { 1.0 } else { 0.55 });
        context.begin_path();
        context.move_to(x, plot.top);
        context.line_to(x, plot.bottom + 4.0);
        context.stroke();
        context.set_global_alpha(1.0);
        // A label at the very edge would be cut.
        let room = tick.label.chars().count() as f64 * 3.2;
        text(context, &tick.label, x.clamp(room, (frame.width - room).max(room)), plot.bottom + 16.0);
    }
}

fn text(context: &CanvasRenderingContext2d, text: &str, x: f64, y: f64) {
    // Fails for no text and no position; there is nothing to do about it either.
    if context.fill_text(text, x, y).is_err() {
        leptos::logging::warn!("the canvas takes no text");
    }
}

/// Draws what follows the pointer: the line through the time, a dot on each series, the selected range.
pub(crate) fn overlay(
    context: &CanvasRenderingContext2d,
    frame: &Frame,
    cursor_ms: Option<f64>,
    dots: &[(f64, f64, String)],
    selection: Option<(f64, f64)>,
) {
    let ink = Ink::of_theme();
    let plot = frame.plot;
    if let Some((a, b)) = selection {
        let (left, right) = (a.min(b).max(plot.left), a.max(b).min(plot.right));
        context.set_fill_style_str(&ink.accent);
        context.set_global_alpha(0.16);
        context.fill_rect(left, plot.top, right - left, plot.bottom - plot.top);
        context.set_global_alpha(0.9);
        context.fill_rect(left, plot.top, 1.0, plot.bottom - plot.top);
        context.fill_rect(right - 1.0, plot.top, 1.0, plot.bottom - plot.top);
        context.set_global_alpha(1.0);
    }
    let Some(x) = cursor_ms.map(|at| frame.x.pixel(at)).filter(|x| *x >= plot.left - 0.5 && *x <= plot.right + 0.5)
    else {
        return;
    };
    context.set_stroke_style_str(&ink.cross);
    context.set_line_width(1.0);
    context.begin_path();
    context.move_to(x.round() + 0.5, plot.top);
    context.line_to(x.round() + 0.5, plot.bottom);
    context.stroke();
    for (x, y, color) in dots {
        context.set_fill_style_str(&resolve_color(color));
        dot(context, *x, *y, 3.2);
    }
}
