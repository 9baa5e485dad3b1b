//! `/debug/pprof`: where threads, processor time and memory are, in the form that pprof and `promtool debug` read. There
//! are no stacks: a thread, or a kind of memory, stands for one frame.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use procfs::process::Process;
use prost::Message;

/// How long processor time is watched where the client does not say, and at most.
const SECONDS: f64 = 30.0;
const SECONDS_MAX: f64 = 120.0;

/// Returns the routes below `/debug/pprof`.
pub(super) fn router() -> Router {
    Router::new()
        .route("/debug/pprof/goroutine", get(async || threads("goroutine")))
        .route("/debug/pprof/threadcreate", get(async || threads("threadcreate")))
        .route("/debug/pprof/heap", get(async || memory()))
        .route("/debug/pprof/profile", get(cpu))
        // Waits are not recorded, as by default in Go: the profiles are empty.
        .route("/debug/pprof/block", get(async || waits()))
        .route("/debug/pprof/mutex", get(async || waits()))
}

/// `perftools.profiles.Profile`.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

/// Places in the table of texts.
#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn new(kinds: &[(&str, &str)], duration: Duration) -> Self {
        let duration_nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let mut profile = Self { string_table: vec![String::new()], duration_nanos, ..Self::default() };
        for (kind, unit) in kinds {
            let value_type = ValueType { kind: profile.text(kind), unit: profile.text(unit) };
            profile.sample_type.push(value_type);
        }
        profile
    }

    fn text(&mut self, text: &str) -> i64 {
        self.string_table.push(text.to_owned());
        i64::try_from(self.string_table.len() - 1).unwrap_or(0)
    }

    /// Adds a frame with a value for each kind.
    fn push(&mut self, frame: &str, value: Vec<i64>) {
        let (id, name) = (self.function.len() as u64 + 1, self.text(frame));
        self.function.push(Function { id, name });
        self.location.push(Location { id, line: vec![Line { function_id: id }] });
        self.sample.push(Sample { location_id: vec![id], value });
    }
}

impl IntoResponse for Profile {
    fn into_response(self) -> Response {
        let kind = HeaderValue::from_static("application/octet-stream");
        ([(header::CONTENT_TYPE, kind)], self.encode_to_vec()).into_response()
    }
}

/// What the threads of one name have come to.
#[derive(Debug, Clone, Copy, Default)]
struct Threads {
    count: i64,
    ticks: u64,
}

fn by_name() -> Result<BTreeMap<String, Threads>, procfs::ProcError> {
    let mut found: BTreeMap<String, Threads> = BTreeMap::new();
    for task in Process::myself()?.tasks()? {
        // A thread may end while it is looked at.
        let Ok(stat) = task.and_then(|task| task.stat()) else { continue };
        let threads = found.entry(stat.comm).or_default();
        threads.count += 1;
        threads.ticks += stat.utime + stat.stime;
    }
    Ok(found)
}

fn unreadable(error: &procfs::ProcError) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("/proc cannot be read: {error}\n")).into_response()
}

fn threads(kind: &str) -> Response {
    let found = match by_name() {
        Ok(found) => found,
        Err(error) => return unreadable(&error),
    };
    let mut profile = Profile::new(&[(kind, "count")], Duration::ZERO);
    for (name, threads) in found {
        profile.push(&name, vec![threads.count]);
    }
    profile.into_response()
}

/// Watches the threads for `seconds`, and tells the processor time that each name took.
async fn cpu(Query(params): Query<BTreeMap<String, String>>) -> Response {
    let seconds = params.get("seconds").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0.0);
    let duration = Duration::from_secs_f64(seconds.unwrap_or(SECONDS).min(SECONDS_MAX));
    let before = by_name();
    tokio::time::sleep(duration).await;
    let (before, after) = match (before, by_name()) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => return unreadable(&error),
    };
    let tick_ns = 1_000_000_000 / i64::try_from(procfs::ticks_per_second()).unwrap_or(100).max(1);
    let mut profile = Profile::new(&[("samples", "count"), ("cpu", "nanoseconds")], duration);
    for (name, threads) in after {
        let earlier = before.get(&name).map_or(0, |threads| threads.ticks);
        let ticks = i64::try_from(threads.ticks.saturating_sub(earlier)).unwrap_or(0);
        if ticks > 0 {
            profile.push(&name, vec![ticks, ticks.saturating_mul(tick_ns)]);
        }
    }
    profile.into_response()
}

fn memory() -> Response {
    let status = match Process::myself().and_then(|process| process.status()) {
        Ok(status) => status,
        Err(error) => return unreadable(&error),
    };
    let mut profile = Profile::new(&[("inuse_space", "bytes")], Duration::ZERO);
    for (kind, kib) in
        [("anonymous memory", status.rssanon), ("mapped files", status.rssfile), ("shared memory", status.rssshmem)]
    {
        if let Some(kib) = kib {
            profile.push(kind, vec![i64::try_from(kib).unwrap_or(0).saturating_mul(1024)]);
        }
    }
    profile.into_response()
}

fn waits() -> Response {
    Profile::new(&[("contentions", "count"), ("delay", "nanoseconds")], Duration::ZERO).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    /// Returns (kinds, frames with their values).
    async fn ask(path: &str) -> (Vec<String>, Vec<(String, Vec<i64>)>) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let profile = Profile::decode(body).unwrap();
        let text = |at: i64| profile.string_table[usize::try_from(at).unwrap()].clone();
        assert_eq!(text(0), "");
        let frame = |sample: &Sample| {
            let location = profile.location.iter().find(|location| location.id == sample.location_id[0]).unwrap();
            let function = profile.function.iter().find(|one| one.id == location.line[0].function_id).unwrap();
            assert_eq!(sample.value.len(), profile.sample_type.len());
            (text(function.name), sample.value.clone())
        };
        (profile.sample_type.iter().map(|kind| text(kind.kind)).collect(), profile.sample.iter().map(frame).collect())
    }

    #[tokio::test]
    async fn threads_and_memory_are_told_by_name() {
        let (kinds, threads) = ask("/debug/pprof/goroutine").await;
        assert_eq!(kinds, ["goroutine"]);
        assert!(threads.iter().map(|(_, values)| values[0]).sum::<i64>() >= 1, "{threads:?}");
        let (kinds, memory) = ask("/debug/pprof/heap").await;
        assert_eq!(kinds, ["inuse_space"]);
        assert!(memory.iter().any(|(kind, values)| kind == "anonymous memory" && values[0] > 100_000), "{memory:?}");
        assert_eq!(ask("/debug/pprof/mutex").await.1, []);
    }

    #[tokio::test]
    async fn processor_time_is_that_of_the_time_asked_for() {
        let busy = std::thread::Builder::new().name("busy-one".to_owned());
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = std::sync::Arc::clone(&stop);
        let thread = busy.spawn(move || {
            while !told.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let (kinds, frames) = ask("/debug/pprof/profile?seconds=0.5").await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.unwrap().join().unwrap();
        assert_eq!(kinds, ["samples", "cpu"]);
        let busy = frames.iter().find(|(name, _)| name == "busy-one").expect("the busy thread is told");
        assert!(busy.1[1] > 0, "{frames:?}");
    }
}
