//! All fetching: requests to the server's public API, answers as typed values, aborted when nobody wants them any more.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use query_wire::{loki, prometheus};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, AbortSignal, RequestInit, Response};

use crate::state::location::encode;
use crate::state::records::{Record, newest_first};
use crate::state::time::Span;

/// A label set.
pub(crate) type LabelMap = std::collections::BTreeMap<String, String>;

/// Why there is no answer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What happened.
    pub message: String,
    /// Whether it is about the query, so that asking again would not help.
    pub is_bad_query: bool,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_bad_query: false }
    }
}

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    path: String,
    params: String,
}

/// Longer parameters go in a form, since some proxies refuse long addresses.
const ADDRESS_PARAMS_MAX: usize = 2_000;

impl Request {
    fn new(path: impl Into<String>, params: &[(&str, &str)]) -> Self {
        let params: Vec<String> = params.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
        Self { path: path.into(), params: params.join("&") }
    }

    /// PromQL over a span.
    pub(crate) fn prom_range(query: &str, span: Span, step_ms: i64) -> Self {
        // Steps at round times, so that a refresh moves the samples of a chart and does not reshape them.
        let (start, end) = (span.from_ms.div_euclid(step_ms) * step_ms, span.to_ms.div_euclid(step_ms) * step_ms);
        let params =
            [("query", query), ("start", &seconds(start)), ("end", &seconds(end)), ("step", &seconds(step_ms))];
        Self::new("/api/v1/query_range", &params)
    }

    /// PromQL at a moment.
    pub(crate) fn prom_instant(query: &str, at_ms: i64) -> Self {
        Self::new("/api/v1/query", &[("query", query), ("time", &seconds(at_ms))])
    }

    /// The label sets that a selector matches.
    pub(crate) fn prom_series(selector: &str, span: Span) -> Self {
        let (start, end) = (seconds(span.from_ms), seconds(span.to_ms));
        Self::new("/api/v1/series", &[("match[]", selector), ("start", &start), ("end", &end)])
    }

    /// The names of labels, of one metric if it is given.
    pub(crate) fn prom_labels(metric: Option<&str>) -> Self {
        let selector = metric.map(metric_selector);
        let params: Vec<_> = selector.iter().map(|s| ("match[]", s.as_str())).collect();
        Self::new("/api/v1/labels", &params)
    }

    /// The values of a label, of one metric if it is given.
    pub(crate) fn prom_values(label: &str, metric: Option<&str>) -> Self {
        let selector = metric.map(metric_selector);
        let params: Vec<_> = selector.iter().map(|s| ("match[]", s.as_str())).collect();
        Self::new(format!("/api/v1/label/{}/values", encode(label)), &params)
    }

    /// What the metrics mean.
    pub(crate) fn prom_metadata() -> Self {
        Self::new("/api/v1/metadata", &[])
    }

    /// What came in, was taken and was dropped.
    pub(crate) fn ledger() -> Self {
        Self::new("/api/v1/ledger", &[])
    }

    /// LogQL that gives lines: the newest `limit` before `end_ns`.
    pub(crate) fn log_page(query: &str, start_ns: i64, end_ns: i64, limit: usize) -> Self {
        let (start, end, limit) = (start_ns.to_string(), end_ns.to_string(), limit.to_string());
        let params = [("query", query), ("start", &start), ("end", &end), ("limit", &limit), ("direction", "backward")];
        Self::new("/loki/api/v1/query_range", &params)
    }

    /// The lines around one of a stream.
    pub(crate) fn log_context(query: &str, at_ns: i64, line: &str, lines: usize) -> Self {
        let (time, lines) = (at_ns.to_string(), lines.to_string());
        let params = [("query", query), ("time", &*time), ("line", line), ("before", &lines), ("after", &lines)];
        Self::new("/api/v1/logs/context", &params)
    }

    /// LogQL that gives samples.
    pub(crate) fn log_range(query: &str, span: Span, step_ms: i64) -> Self {
        // The last step ends after the span, so that the newest lines are counted.
        let (start, end) = (span.from_ms.div_euclid(step_ms) + 1, span.to_ms.div_euclid(step_ms) + 1);
        let (start, end) = (nanoseconds(start.saturating_mul(step_ms)), nanoseconds(end.saturating_mul(step_ms)));
        let params = [("query", query), ("start", &start), ("end", &end), ("step", &seconds(step_ms))];
        Self::new("/loki/api/v1/query_range", &params)
    }

    /// The names of streams' labels.
    pub(crate) fn log_labels(span: Span) -> Self {
        let (start, end) = (nanoseconds(span.from_ms), nanoseconds(span.to_ms));
        Self::new("/loki/api/v1/labels", &[("start", &start), ("end", &end)])
    }

    /// The values of a label of streams.
    pub(crate) fn log_values(label: &str, span: Span) -> Self {
        let (start, end) = (nanoseconds(span.from_ms), nanoseconds(span.to_ms));
        let path = format!("/loki/api/v1/label/{}/values", encode(label));
        Self::new(path, &[("start", &start), ("end", &end)])
    }

    /// Returns the address of the websocket that sends new lines, for a page from `origin`.
    pub(crate) fn tail_url(origin: &str, query: &str) -> String {
        let origin = origin.replacen("http", "ws", 1);
        format!("{origin}/loki/api/v1/tail?query={}&limit=100", encode(query))
    }
}

fn metric_selector(metric: &str) -> String {
    format!("{{__name__={}}}", crate::lang::logql::quote(metric))
}

fn seconds(ms: i64) -> String {
    let mut text = String::new();
    prometheus::push_seconds(&mut text, ms);
    text
}

fn nanoseconds(ms: i64) -> String {
    ms.saturating_mul(1_000_000).to_string()
}

/// The result of a PromQL query.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct PromAnswer {
    /// The series, of range and instant queries alike.
    pub series: Vec<loki::MatrixSeries>,
    /// Series that hold native histograms only, which are not drawn.
    pub histograms: usize,
    /// Why the answer may be incomplete or not what was meant.
    pub warnings: Vec<String>,
    /// How the query could be better.
    pub infos: Vec<String>,
}

/// An envelope whose result is read only once its type is known: reading it twice would take twice the time.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Option<EnvelopeData<'a>>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
struct EnvelopeData<'a> {
    #[serde(rename = "resultType")]
    kind: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

fn bad_answer(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("the server's answer was not understood: {error}"))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(bad_answer)
}

/// Reads the answer of a PromQL query.
pub(crate) fn prom_answer(text: &str) -> Result<PromAnswer, Failure> {
    let envelope: Envelope<'_> = read(text)?;
    let mut answer = PromAnswer { warnings: envelope.warnings, infos: envelope.infos, ..PromAnswer::default() };
    let data = envelope.data.ok_or_else(|| Failure::new("the server's answer has no data"))?;
    let point = |p: prometheus::Point| loki::Point { timestamp_ms: p.timestamp_ms, value: p.value };
    match data.kind.as_str() {
        "matrix" => {
            for series in read::<Vec<prometheus::MatrixSeries>>(data.result.get())? {
                answer.histograms += usize::from(!series.histograms.is_empty());
                if !series.values.is_empty() {
                    let values = series.values.into_iter().map(point).collect();
                    answer.series.push(loki::MatrixSeries { metric: series.metric, values });
                }
            }
        }
        "vector" => {
            for series in read::<Vec<prometheus::VectorSeries>>(data.result.get())? {
                answer.histograms += usize::from(series.histogram.is_some());
                if let Some(value) = series.value {
                    answer.series.push(loki::MatrixSeries { metric: series.metric, values: vec![point(value)] });
                }
            }
        }
        "scalar" => {
            let value = read::<prometheus::Point>(data.result.get())?;
            answer.series.push(loki::MatrixSeries { metric: LabelMap::new(), values: vec![point(value)] });
        }
        "string" => {
            let text = read::<prometheus::TextPoint>(data.result.get())?.text;
            answer.infos.push(format!("the result is the text {text:?}"));
        }
        other => return Err(bad_answer(format!("results of type {other:?} are new"))),
    }
    Ok(answer)
}

/// Reads `data` of any other answer of the Prometheus API.
pub(crate) fn prom_data<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    read::<prometheus::Response<T>>(text)?.data.ok_or_else(|| Failure::new("the server's answer has no data"))
}

/// Reads the answer of a LogQL query that gives lines.
pub(crate) fn log_records(text: &str) -> Result<Vec<Record>, Failure> {
    let data = read::<Envelope<'_>>(text)?.data.ok_or_else(|| Failure::new("the server's answer has no data"))?;
    if data.kind != "streams" {
        let message = "this query gives samples, not lines; run it on the Metrics page of a Prometheus client";
        return Err(Failure { message: message.to_owned(), is_bad_query: true });
    }
    Ok(newest_first(read(data.result.get())?))
}

/// Reads the answer of a LogQL query that gives samples.
pub(crate) fn log_matrix(text: &str) -> Result<Vec<loki::MatrixSeries>, Failure> {
    let data = read::<Envelope<'_>>(text)?.data.ok_or_else(|| Failure::new("the server's answer has no data"))?;
    match data.kind.as_str() {
        "matrix" => read(data.result.get()),
        other => Err(bad_answer(format!("a {other} came where samples over time were asked for"))),
    }
}

/// Reads the lines around one.
pub(crate) fn log_context(text: &str) -> Result<loki::LineContext, Failure> {
    Ok(read::<loki::Response<loki::LineContext>>(text)?.data)
}

/// Reads names or values of labels of streams.
pub(crate) fn log_labels(text: &str) -> Result<Vec<String>, Failure> {
    Ok(read::<loki::LabelsResponse>(text)?.data)
}

/// Reads a message of the websocket: new records and how many this reader missed.
pub(crate) fn tail_frame(text: &str) -> Result<(Vec<Record>, u64), Failure> {
    let frame: loki::TailFrame = read(text)?;
    let named = frame.dropped_entries.map_or(0, |entries| entries.len() as u64);
    Ok((newest_first(frame.streams), frame.dropped_count.max(named)))
}

/// Returns what an error's body says: Prometheus answers in JSON, Loki in plain text.
fn failure_of(status: u16, body: &str) -> Failure {
    let told = serde_json::from_str::<prometheus::Response<serde::de::IgnoredAny>>(body).ok().and_then(|r| r.error);
    let text = told.unwrap_or_else(|| body.trim().chars().take(600).collect());
    let message = match status {
        _ if !text.is_empty() => text,
        502..=504 => format!("the server cannot be reached just now (status {status})"),
        _ => format!("the server answered with status {status}"),
    };
    Failure { message, is_bad_query: matches!(status, 400 | 422) }
}

/// Sends a request and returns the body of its answer.
async fn send(request: &Request, signal: Option<&AbortSignal>) -> Result<String, Failure> {
    let unreachable = |_: JsValue| Failure::new("the server cannot be reached");
    let init = RequestInit::new();
    init.set_signal(signal);
    let url = if request.params.is_empty() {
        request.path.clone()
    } else if request.params.len() <= ADDRESS_PARAMS_MAX {
        format!("{}?{}", request.path, request.params)
    } else {
        init.set_method("POST");
        init.set_body(&JsValue::from_str(&request.params));
        request.path.clone()
    };
    let js_request = web_sys::Request::new_with_str_and_init(&url, &init).map_err(unreachable)?;
    if request.params.len() > ADDRESS_PARAMS_MAX {
        js_request.headers().set("content-type", "application/x-www-form-urlencoded").map_err(unreachable)?;
    }
    if request.path.starts_with("/loki/") {
        js_request.headers().set(loki::ENCODING_FLAGS_HEADER, loki::CATEGORIZE_LABELS).map_err(unreachable)?;
    }
    let response = JsFuture::from(window().fetch_with_request(&js_request)).await.map_err(unreachable)?;
    let response: Response = response.dyn_into().map_err(unreachable)?;
    let body = JsFuture::from(response.text().map_err(unreachable)?).await.map_err(unreachable)?;
    let body = body.as_string().unwrap_or_default();
    if response.ok() { Ok(body) } else { Err(failure_of(response.status(), &body)) }
}

/// Sends a request that is not part of a view's state, such as for completion.
pub(crate) async fn fetch<T>(request: Request, decode: fn(&str) -> Result<T, Failure>) -> Result<T, Failure> {
    decode(&send(&request, None).await?)
}

/// An answer that follows its request: asked for again when that changes, at each refresh and on retry.
#[derive(Debug)]
pub(crate) struct Load<T: Send + Sync + 'static> {
    /// The latest answer; it stays while the next is on its way, and after a failure.
    pub value: RwSignal<Option<Arc<T>>>,
    /// Why the latest request failed.
    pub failure: RwSignal<Option<Failure>>,
    /// Whether a request is on its way.
    pub is_loading: RwSignal<bool>,
    retried: RwSignal<u32>,
}

impl<T: Send + Sync + 'static> Clone for Load<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + Sync + 'static> Copy for Load<T> {}

impl<T: Send + Sync + 'static> Load<T> {
    /// Asks again.
    pub(crate) fn retry(self) {
        self.retried.update(|n| *n += 1);
    }

    /// Returns the latest answer, or nothing.
    pub(crate) fn get(self) -> Option<Arc<T>> {
        self.value.get()
    }
}

/// Asks for what `request` returns, whenever that or anything it reads changes; nothing is asked for `None`.
pub(crate) fn load<T: Send + Sync + 'static>(
    request: impl Fn() -> Option<Request> + 'static,
    decode: fn(&str) -> Result<T, Failure>,
) -> Load<T> {
    let load = Load {
        value: RwSignal::new(None),
        failure: RwSignal::new(None),
        is_loading: RwSignal::new(true),
        retried: RwSignal::new(0),
    };
    let pending = StoredValue::new_local(None::<AbortController>);
    let abort = move || {
        if let Some(Some(controller)) = pending.try_update_value(Option::take) {
            controller.abort();
        }
    };
    Effect::new(move |_| {
        load.retried.track();
        let request = request();
        abort();
        let Some(request) = request else {
            load.value.set(None);
            load.failure.set(None);
            load.is_loading.set(false);
            return;
        };
        let controller = AbortController::new().ok();
        let signal = controller.as_ref().map(AbortController::signal);
        pending.set_value(controller);
        load.is_loading.set(true);
        spawn_local(async move {
            let outcome = send(&request, signal.as_ref()).await.and_then(|body| decode(&body));
            if signal.is_some_and(|signal| signal.aborted()) {
                return;
            }
            // The view may be gone by now; then its signals are too, and there is nobody to tell.
            match outcome {
                Ok(value) => {
                    let is_gone = load.value.try_set(Some(Arc::new(value))).is_some();
                    if !is_gone {
                        load.failure.set(None);
                    }
                }
                Err(failure) => drop(load.failure.try_set(Some(failure))),
            }
            load.is_loading.try_set(false);
        });
    });
    on_cleanup(abort);
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_and_vectors_become_series() {
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1,"2"],[2.5,"NaN"]]}]},"warnings":["w"],"infos":["i"]}"#;
        let answer = prom_answer(matrix).unwrap();
        assert_eq!(answer.series[0].values[0], loki::Point { timestamp_ms: 1_000, value: 2.0 });
        assert!(answer.series[0].values[1].value.is_nan());
        assert_eq!(
            (answer.warnings.as_slice(), answer.infos.as_slice()),
            (&["w".to_owned()][..], &["i".to_owned()][..])
        );
        let vector =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"+Inf"]}]}}"#;
        assert_eq!(prom_answer(vector).unwrap().series[0].values[0].value, f64::INFINITY);
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#;
        assert_eq!(prom_answer(scalar).unwrap().series[0].values[0].value, 3.0);
    }

    #[test]
    fn histograms_are_counted_not_lost() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"2"}]}]}}"#;
        let answer = prom_answer(vector).unwrap();
        assert_eq!((answer.series.len(), answer.histograms), (0, 1));
    }

    #[test]
    fn answers_that_make_no_sense_are_failures() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"data":{"resultType":"matrix","result":{}}}"#,
            r#"{"data":{"resultType":"x","result":[]}}"#,
        ] {
            assert!(prom_answer(text).is_err(), "{text}");
            assert!(log_records(text).is_err(), "{text}");
            assert!(log_matrix(text).is_err(), "{text}");
        }
        assert!(log_records(r#"{"data":{"resultType":"matrix","result":[]}}"#).unwrap_err().is_bad_query);
    }

    #[test]
    fn errors_say_what_the_server_said() {
        let json = r#"{"status":"error","errorType":"bad_data","error":"1:2: parse error"}"#;
        assert_eq!(failure_of(400, json), Failure { message: "1:2: parse error".to_owned(), is_bad_query: true });
        assert_eq!(failure_of(500, "plain text\n").message, "plain text");
        assert!(failure_of(503, "").message.contains("503"));
    }

    #[test]
    fn requests_are_addressed_as_the_api_wants() {
        let span = Span { from_ms: 1_500, to_ms: 61_500 };
        let range = Request::prom_range("a+b", span, 1_000);
        assert_eq!(range.params, "query=a%2Bb&start=1&end=61&step=1");
        let page = Request::log_page("{a=\"b\"}", 5, 9, 100);
        assert_eq!(page.params, "query=%7Ba%3D%22b%22%7D&start=5&end=9&limit=100&direction=backward");
        assert_eq!(Request::prom_values("a", Some("up")).params, "match%5B%5D=%7B__name__%3D%22up%22%7D");
        assert!(Request::tail_url("https://host:1", "{}").starts_with("wss://host:1/loki/api/v1/tail?query=%7B%7D"));
    }

    #[test]
    fn tail_frames_tell_what_was_missed() {
        let frame = r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}],"dropped_entries":[{"labels":{},"timestamp":"1"}]}"#;
        let (records, missed) = tail_frame(frame).unwrap();
        assert_eq!((records.len(), missed), (1, 1));
        assert_eq!(tail_frame(r#"{"streams":[],"droppedCount":7}"#).unwrap().1, 7);
    }
}
