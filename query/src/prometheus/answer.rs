//! Writes answers as JSON, piece by piece, so that a slow reader does not make the whole text wait in memory.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use model::Labels;
use query_promql::{Answer, Grid, HistogramColumn, Point, Samples, Series, Value};
use query_wire::prometheus::{LabelMap, push_seconds, push_value};
use runtime::Reservation;
use serde::Serialize;

use crate::error::{Error, Result};

/// How much text is made at a time: little enough for an I/O worker, enough for few system calls.
const PIECE_BYTES: usize = 16 << 10;

/// Returns `data` in Prometheus' envelope.
pub(crate) fn success<T: Serialize>(data: T, warnings: Vec<String>) -> Result<Response> {
    let body = query_wire::prometheus::Response { warnings, ..query_wire::prometheus::Response::success(data) };
    let text = serde_json::to_string(&body).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(json(Body::from(text)))
}

/// Returns label sets in Prometheus' envelope; they are written one by one, without a copy of each.
pub(crate) fn label_sets(all: &[Labels], warnings: &[String]) -> String {
    let bytes: usize = all.iter().map(|labels| labels.size_bytes() + labels.iter().len() * 6 + 3).sum();
    let mut text = String::with_capacity(bytes + 64);
    text.push_str(r#"{"status":"success","data":["#);
    for (i, labels) in all.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        push_labels(&mut text, labels);
    }
    text.push(']');
    if !warnings.is_empty() {
        text.push_str(",\"warnings\":");
        text.push_str(&serde_json::to_string(warnings).unwrap_or_default());
    }
    text.push('}');
    text
}

/// Returns JSON that is whole.
pub(crate) fn whole(text: String) -> Response {
    json(Body::from(text))
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Answers a query. `held` accounts for the memory of the answer until the last piece is sent.
pub(crate) fn stream(answer: Answer, is_range: bool, stats: Option<String>, held: Reservation) -> Response {
    let mut head = String::from(r#"{"status":"success","data":{"resultType":"#);
    let mut tail = String::from("]");
    let Answer { value, grid, warnings, infos } = answer;
    let rows = match value {
        Value::Scalar(values) if is_range => {
            head.push_str(r#""matrix","result":["#);
            let series = Series { values, ..Series::absent(Labels::empty(), false, 0) };
            Rows::Series(vec![series].into_iter(), true)
        }
        Value::Scalar(values) => {
            head.push_str(r#""scalar","result":["#);
            push_seconds(&mut head, grid.start_ms);
            head.push_str(",\"");
            push_value(&mut head, values.first().copied().unwrap_or(f64::NAN));
            head.push('"');
            Rows::Series(Vec::new().into_iter(), false)
        }
        Value::Text(text) => {
            head.push_str(r#""string","result":["#);
            push_seconds(&mut head, grid.start_ms);
            head.push(',');
            push_text(&mut head, &text);
            Rows::Series(Vec::new().into_iter(), false)
        }
        Value::Vector(series) => {
            head.push_str(if is_range { r#""matrix","result":["# } else { r#""vector","result":["# });
            Rows::Series(series.into_iter(), is_range)
        }
        Value::Matrix(samples) => {
            head.push_str(r#""matrix","result":["#);
            Rows::Samples(samples.into_iter())
        }
    };
    if let Some(stats) = stats {
        tail.push_str(",\"stats\":");
        tail.push_str(&stats);
    }
    tail.push('}');
    for (name, list) in [("warnings", warnings), ("infos", infos)] {
        if !list.is_empty() {
            tail.push_str(&format!(",\"{name}\":"));
            tail.push_str(&serde_json::to_string(&list).unwrap_or_default());
        }
    }
    tail.push('}');
    let mut pieces = Pieces { head: Some(head), rows, open: None, first: true, tail: Some(tail), grid, _held: held };
    let first = pieces.next();
    if pieces.tail.is_none() {
        // All of it is in the first piece, so its length can be told.
        return json(Body::from(first.unwrap_or_default()));
    }
    json(Body::from_stream(futures_util::stream::iter(first.into_iter().chain(pieces).map(Ok::<_, Infallible>))))
}

/// What is still to be written.
enum Rows {
    /// Columns; `true` for a range answer.
    Series(std::vec::IntoIter<Series>, bool),
    /// Samples at their own times.
    Samples(std::vec::IntoIter<Samples>),
}

/// Samples with their times in milliseconds.
type Points = Vec<(i64, Point)>;

/// A row that is being written: one series may be longer than a piece.
struct Open {
    points: Points,
    next: usize,
    in_floats: bool,
    is_range: bool,
    any: bool,
}

struct Pieces {
    head: Option<String>,
    rows: Rows,
    open: Option<Open>,
    first: bool,
    tail: Option<String>,
    grid: Grid,
    _held: Reservation,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = self.head.take().unwrap_or_default();
        while text.len() < PIECE_BYTES {
            if let Some(open) = &mut self.open {
                if open.write(&mut text) {
                    self.open = None;
                }
                continue;
            }
            let Some((labels, points, is_range)) = self.next_row() else {
                text.push_str(&self.tail.take().unwrap_or_default());
                break;
            };
            if !self.first {
                text.push(',');
            }
            self.first = false;
            text.push_str("{\"metric\":");
            push_labels(&mut text, &labels);
            self.open = Some(Open { points, next: 0, in_floats: true, is_range, any: false });
        }
        (!text.is_empty()).then(|| Bytes::from(text))
    }
}

impl Pieces {
    fn next_row(&mut self) -> Option<(Labels, Points, bool)> {
        match &mut self.rows {
            Rows::Series(rows, is_range) => {
                let series = rows.next()?;
                let mut points = Points::new();
                for i in 0..series.values.len() {
                    let first = series.get(i);
                    // A step may have a number and a histogram.
                    let second = match (&first, series.histogram(i)) {
                        (Some(Point::Float(_)), Some(histogram)) => Some(Point::Histogram(Arc::clone(histogram))),
                        _ => None,
                    };
                    points.extend(first.into_iter().chain(second).map(|point| (self.grid.at(i), point)));
                }
                Some((series.labels, points, *is_range))
            }
            Rows::Samples(rows) => {
                let samples = rows.next()?;
                let points = (0..samples.values.len()).map(|i| (samples.timestamps_ms[i], samples.get(i))).collect();
                Some((samples.labels, points, true))
            }
        }
    }
}

impl Open {
    /// Writes on until a piece is full; `true` when the row is done.
    fn write(&mut self, text: &mut String) -> bool {
        if !self.is_range {
            for (at, point) in &self.points {
                text.push_str(if matches!(point, Point::Float(_)) { ",\"value\":" } else { ",\"histogram\":" });
                push_point(text, *at, point);
            }
            text.push('}');
            return true;
        }
        for in_floats in [true, false] {
            if self.in_floats != in_floats {
                continue;
            }
            while let Some((at, point)) = self.points.get(self.next) {
                self.next += 1;
                if matches!(point, Point::Float(_)) != in_floats {
                    continue;
                }
                let name = if in_floats { ",\"values\":[" } else { ",\"histograms\":[" };
                text.push_str(if self.any { "," } else { name });
                self.any = true;
                push_point(text, *at, point);
                if text.len() >= PIECE_BYTES {
                    return false;
                }
            }
            if self.any {
                text.push(']');
            }
            if in_floats {
                (self.in_floats, self.next, self.any) = (false, 0, false);
            }
        }
        text.push('}');
        true
    }
}

fn push_point(text: &mut String, at: i64, point: &Point) {
    text.push('[');
    push_seconds(text, at);
    match point {
        Point::Float(value) => {
            text.push_str(",\"");
            push_value(text, *value);
            text.push_str("\"]");
        }
        Point::Histogram(histogram) => {
            text.push_str(",{\"count\":\"");
            push_value(text, histogram.count);
            text.push_str("\",\"sum\":\"");
            push_value(text, histogram.sum);
            text.push('"');
            let buckets = histogram.buckets();
            for (i, bucket) in buckets.iter().enumerate() {
                text.push_str(if i == 0 { ",\"buckets\":[" } else { "," });
                let borders = match (bucket.lower_inside, bucket.upper_inside) {
                    (false, true) => 0,
                    (true, false) => 1,
                    (false, false) => 2,
                    (true, true) => 3,
                };
                text.push_str(&format!("[{borders}"));
                for value in [bucket.lower, bucket.upper, bucket.count] {
                    text.push_str(",\"");
                    push_value(text, value);
                    text.push('"');
                }
                text.push(']');
            }
            text.push_str(if buckets.is_empty() { "}]" } else { "]}]" });
        }
    }
}

/// Returns a label set as the API's shapes have it.
pub(super) fn label_map(labels: &Labels) -> LabelMap {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn push_text(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\')) {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return;
    }
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        push_text(out, value);
    }
    out.push('}');
}

/// Returns roughly the bytes that an answer keeps in memory.
pub(crate) fn size_bytes(value: &Value) -> u64 {
    let histograms = |column: &Option<HistogramColumn>| {
        let all = column.iter().flatten().flatten();
        all.map(|one| usize::try_from(storage_api::histogram_cost(one)).unwrap_or(usize::MAX).saturating_mul(16))
            .sum::<usize>()
    };
    let bytes: usize = match value {
        Value::Scalar(values) => values.len() * 8,
        Value::Text(text) => text.len(),
        Value::Vector(all) => all
            .iter()
            .map(|one| one.labels.size_bytes() + one.values.len() * 8 + 64 + histograms(&one.histograms))
            .sum(),
        Value::Matrix(all) => all
            .iter()
            .map(|one| one.labels.size_bytes() + one.values.len() * 16 + 96 + histograms(&one.histograms))
            .sum(),
    };
    bytes as u64
}
