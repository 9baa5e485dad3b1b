//! Native histograms, start times and exemplars by remote write: through a kill, a flush and a restart.

use std::path::Path;
use std::process::Command;

use prost::Message;
use serde_json::{Value, json};

use super::harness::metrics::{Label, WRITE_HEADERS, seconds, snappy};
use super::harness::{Server, now_ms, skip};

/// Remote write 1.0 with histograms and exemplars.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    zero_count: u64,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.as_bytes().to_vec(), value: value.as_bytes().to_vec() }
}

/// Returns a histogram of `2 * n + 1` observations: one of zero, and n each in (0.5, 1] and in (1, 2].
fn histogram(n: i64, timestamp: i64) -> Histogram {
    Histogram {
        count: 2 * n.unsigned_abs() + 1,
        sum: n as f64 * 2.25,
        schema: 0,
        zero_threshold: 1e-128,
        zero_count: 1,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![n, 0],
        timestamp,
    }
}

/// Reads what the tables beside the samples hold, with pyarrow, as JSON.
const READ: &str = r#"
import glob, json, sys
import pyarrow.parquet as pq
def tables(name):
    return [pq.read_table(path).to_pylist() for path in sorted(glob.glob(sys.argv[1] + '/*/' + name))]
rows = [row for table in tables('histograms.parquet') for row in table]
exemplars = [row for table in tables('exemplars.parquet') for row in table]
print(json.dumps({
    'histograms': len(rows),
    'count': sum(row['count'] for row in rows),
    'buckets': sum(sum(row['positive_count']) for row in rows),
    'index': sorted({tuple(row['positive_index']) for row in rows}),
    'exemplars': [(row['metric'], row['labels'], row['value'], row['exemplar_labels']) for row in exemplars],
}))
"#;

fn read(folder: &Path) -> Option<Value> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let output = Command::new(python).args(["-c", READ]).arg(folder).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("the script prints JSON"))
}

#[tokio::test]
async fn native_histograms_and_exemplars_outlive_a_kill_and_are_parquet_in_the_end() {
    let mut server = Server::start().await;
    let at = now_ms();
    let labels = vec![label("__name__", "latency_seconds"), label("job", "a")];
    let exemplar = Exemplar { labels: vec![label("trace_id", "4bf92f35")], value: 0.75, timestamp: at };
    for n in 0..20 {
        let histograms = vec![histogram(n + 1, at - 20_000 + n * 1000)];
        let series = Series { labels: labels.clone(), exemplars: vec![exemplar.clone()], histograms };
        let body = snappy(&Request { timeseries: vec![series] }.encode_to_vec());
        server.post(&server.url("/api/v1/write"), &WRITE_HEADERS, body).await.ok();
    }
    let check = async |server: &Server, when: &str| {
        let last = at - 1000;
        assert_eq!(server.value("histogram_count(latency_seconds)", last).await, 41.0, "{when}");
        assert_eq!(server.value("histogram_sum(latency_seconds)", last).await, 45.0, "{when}");
        let increase = server.value("histogram_count(increase(latency_seconds[19s]))", last).await;
        assert!((increase - 38.0).abs() < 1e-9, "{when}: {increase}");
        assert_eq!(server.value("count_over_time(latency_seconds[1m])", last).await, 20.0, "{when}");
        let quantile = server.value("histogram_quantile(0.99, latency_seconds)", last).await;
        assert!((1.9..2.0).contains(&quantile), "{when}: {quantile}");
        let (start, end) = (seconds(at - 60_000), seconds(at + 60_000));
        let range = [("query", "latency_seconds"), ("start", start.as_str()), ("end", end.as_str())];
        let found = server.data("/api/v1/query_exemplars", &range).await;
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{when}: {found}");
        assert_eq!(found[0]["seriesLabels"], json!({"__name__": "latency_seconds", "job": "a"}), "{when}");
        assert_eq!(found[0]["exemplars"].as_array().map(Vec::len), Some(1), "{when}: {found}");
        assert_eq!(found[0]["exemplars"][0]["labels"], json!({"trace_id": "4bf92f35"}), "{when}");
    };
    check(&server, "at once").await;
    server.kill();
    server.restart().await;
    check(&server, "after a kill").await;
    server.flush().await;
    check(&server, "after a flush").await;
    server.stop().await;
    server.restart().await;
    check(&server, "after a restart").await;
    let Some(tables) = read(&server.dir().join("metrics")) else {
        return skip(".venv with pyarrow is missing; make venv makes it");
    };
    let counts: i64 = (1..=20).map(|n| 2 * n + 1).sum();
    assert_eq!(tables["histograms"], 20, "{tables}");
    assert_eq!(tables["count"].as_f64(), Some(counts as f64), "{tables}");
    assert_eq!(tables["buckets"].as_f64(), Some((counts - 20) as f64), "{tables}");
    assert_eq!(tables["index"], json!([[0, 1]]), "{tables}");
    let exemplar = json!(["latency_seconds", r#"{"job":"a"}"#, 0.75, r#"{"trace_id":"4bf92f35"}"#]);
    assert_eq!(tables["exemplars"], json!([exemplar]), "{tables}");
}
