//! The chart component: two canvases, one for the series and one for what follows the pointer, and a box of values.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::JsCast as _;

use super::draw;
use super::frame::{Frame, Hit, Options, Shape};
use super::series::Series;
use crate::components::observe::observe_size;
use crate::state::context::App;
use crate::state::time::{Span, format_date_time};

/// Most rows in the box at the pointer.
const TIP_ROWS_MAX: usize = 12;
/// Pixels of movement that make a click a selection.
const DRAG_MIN: f64 = 5.0;

/// Where the pointer is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pointer {
    x: f64,
    y: f64,
    drag_from: Option<f64>,
}

/// Draws `series` over `span`. Dragging selects a span, a double click widens it, arrow keys move the cursor.
#[component]
pub(crate) fn Chart(
    /// What screen readers are told.
    #[prop(into)]
    label: String,
    /// What is drawn.
    #[prop(into)]
    series: Signal<Arc<Vec<Series>>>,
    /// From when to when.
    #[prop(into)]
    span: Signal<Span>,
    /// How.
    #[prop(into)]
    options: Signal<Options>,
    /// The names of series that are left out.
    #[prop(optional, into)]
    hidden: Signal<BTreeSet<String>>,
    /// The name of a series to draw strong.
    #[prop(optional, into)]
    focus: Signal<Option<String>>,
    /// Called with the span that was dragged over, or twice the span for a double click.
    on_zoom: Callback<Span>,
    /// The height in pixels.
    #[prop(default = 180)]
    height: u32,
) -> impl IntoView {
    let app = App::expect();
    let base = NodeRef::<html::Canvas>::new();
    let top = NodeRef::<html::Canvas>::new();
    let holder = NodeRef::<html::Div>::new();
    let size = observe_size(holder);
    let pointer = RwSignal::new(None::<Pointer>);

    let frame = Memo::new(move |_| {
        let (width, height) = size.get();
        (width >= 1.0).then(|| {
            let measured = hidden.with(|hidden| {
                series.with(|series| {
                    Frame::new(
                        series,
                        hidden,
                        span.get(),
                        (width, height),
                        options.get(),
                        app.utc_offset_ms(span.get().to_ms),
                    )
                })
            });
            Arc::new(measured)
        })
    });
    Effect::new(move |_| {
        app.track_theme();
        let (Some(canvas), Some(frame)) = (base.get(), frame.get()) else { return };
        let Some(context) = draw::surface(&canvas, frame.width, frame.height) else { return };
        series.with(|series| {
            focus.with(|focus| draw::frame(&context, &frame, series, options.get().shape, focus.as_deref()));
        });
    });
    let hits = Memo::new(move |_| {
        let (Some(frame), Some(at)) = (frame.get(), app.cursor.get()) else { return Vec::new() };
        series.with(|series| frame.hits(series, at))
    });
    Effect::new(move |_| {
        app.track_theme();
        let (Some(canvas), Some(frame)) = (top.get(), frame.get()) else { return };
        let Some(context) = draw::surface(&canvas, frame.width, frame.height) else { return };
        let dots = if options.get().shape == Shape::Lines {
            series.with(|series| dots(&frame, series, &hits.get()))
        } else {
            Vec::new()
        };
        let selection = pointer.get().and_then(|p| p.drag_from.map(|from| (from, p.x)));
        draw::overlay(&context, &frame, app.cursor.get(), &dots, selection);
    });

    let moved = move |event: ev::PointerEvent| {
        let Some(frame) = frame.get_untracked() else { return };
        let (x, y) = (f64::from(event.offset_x()), f64::from(event.offset_y()));
        let drag_from = pointer.get_untracked().and_then(|p| p.drag_from);
        pointer.set(Some(Pointer { x, y, drag_from }));
        app.cursor.set(Some(frame.time_at(x)));
    };
    let pressed = move |event: ev::PointerEvent| {
        if event.button() != 0 || event.pointer_type() == "touch" {
            return;
        }
        let x = f64::from(event.offset_x());
        pointer.set(Some(Pointer { x, y: f64::from(event.offset_y()), drag_from: Some(x) }));
        // Without capture a drag that leaves the chart would never end. A pointer that is gone cannot be captured.
        if let Some(target) = event.target().and_then(|t| t.dyn_into::<web_sys::Element>().ok())
            && target.set_pointer_capture(event.pointer_id()).is_err()
        {
            leptos::logging::warn!("the pointer cannot be captured");
        }
    };
    let released = move |event: ev::PointerEvent| {
        let (Some(frame), Some(Pointer { drag_from: Some(from), y, .. })) =
            (frame.get_untracked(), pointer.get_untracked())
        else {
            return;
        };
        let x = f64::from(event.offset_x());
        pointer.set(Some(Pointer { x, y, drag_from: None }));
        if (x - from).abs() >= DRAG_MIN {
            let (a, b) = (frame.time_at(from), frame.time_at(x));
            on_zoom.run(Span { from_ms: a.min(b) as i64, to_ms: a.max(b) as i64 });
        }
    };
    let left = move |_: ev::PointerEvent| {
        pointer.set(None);
        app.cursor.set(None);
    };
    let key = move |event: ev::KeyboardEvent| {
        let step = match event.key().as_str() {
            "ArrowLeft" => -1.0,
            "ArrowRight" => 1.0,
            "Escape" => {
                pointer.set(None);
                app.cursor.set(None);
                return;
            }
            _ => return,
        };
        event.prevent_default();
        let Some(frame) = frame.get_untracked() else { return };
        let span = span.get_untracked();
        let stride = (options.get_untracked().step_ms as f64).max(span.length_ms() as f64 / 200.0);
        let from = app.cursor.get_untracked().unwrap_or(span.to_ms as f64);
        let at = frame.time_at(frame.x.pixel(from + step * stride));
        app.cursor.set(Some(at));
        pointer.set(Some(Pointer { x: frame.x.pixel(at), y: frame.plot.top, drag_from: None }));
    };

    view! {
        <div
            class="chart"
            node_ref=holder
            style:height=format!("{height}px")
            tabindex="0"
            role="img"
            aria-label=label
            on:keydown=key
        >
            <canvas node_ref=base class="chart-base"></canvas>
            <canvas
                node_ref=top
                class="chart-top"
                on:pointermove=moved
                on:pointerdown=pressed
                on:pointerup=released
                on:pointerleave=left
                on:dblclick=move |_| on_zoom.run(span.get_untracked().widened())
            ></canvas>
            {move || tip(app, pointer, frame, hits, series, options)}
        </div>
    }
}

/// The dots of the samples at the pointer.
fn dots(frame: &Frame, series: &[Series], hits: &[Hit]) -> Vec<(f64, f64, String)> {
    let dots = hits.iter().filter_map(|hit| {
        let color = series.get(hit.index)?.color.clone();
        Some((frame.x.pixel(hit.at_ms), frame.y.pixel(hit.value), color))
    });
    dots.collect()
}

/// The box of values at the pointer; nothing while it is elsewhere.
fn tip(
    app: App,
    pointer: RwSignal<Option<Pointer>>,
    frame: Memo<Option<Arc<Frame>>>,
    hits: Memo<Vec<Hit>>,
    series: Signal<Arc<Vec<Series>>>,
    options: Signal<Options>,
) -> Option<AnyView> {
    let (pointer, frame) = (pointer.get()?, frame.get()?);
    let mut hits = hits.get();
    let unit = options.get().unit;
    let at = hits.iter().map(|hit| hit.at_ms).fold(app.cursor.get()?, |at, hit| if hits.len() == 1 { hit } else { at });
    hits.sort_by(|a, b| b.value.total_cmp(&a.value));
    let more = hits.len().saturating_sub(TIP_ROWS_MAX);
    let near = hits
        .iter()
        .min_by(|a, b| {
            let distance = |hit: &Hit| (frame.y.pixel(hit.value) - pointer.y).abs();
            distance(a).total_cmp(&distance(b))
        })
        .map(|hit| hit.index);
    let rows = series.with(|series| {
        let row = |hit: &Hit| {
            let series = series.get(hit.index)?;
            let color = swatch(&series.color);
            let value = unit.format(hit.value);
            let is_near = Some(hit.index) == near && hits.len() > 1;
            Some(view! {
                <li class:near=is_near>
                    <i style:background=color></i>
                    <span>{series.name.clone()}</span>
                    <b>{value}</b>
                </li>
            })
        };
        hits.iter().take(TIP_ROWS_MAX).filter_map(row).collect::<Vec<_>>()
    });
    let time = format_date_time(at as i64, app.utc_offset_ms(at as i64));
    let is_right = pointer.x > frame.width / 2.0;
    let place = if is_right {
        format!("right:{:.0}px", frame.width - pointer.x + 14.0)
    } else {
        format!("left:{:.0}px", pointer.x + 14.0)
    };
    let tip = view! {
        <div class="chart-tip" style=place>
            <time>{time}</time>
            <ul>{rows}</ul>
            {(more > 0).then(|| view! { <small>{format!("and {more} more")}</small> })}
        </div>
    };
    Some(tip.into_any())
}

/// Returns a CSS colour for a series' colour, which may be the name of a token.
pub(crate) fn swatch(color: &str) -> String {
    if color.starts_with("--") { format!("var({color})") } else { color.to_owned() }
}
