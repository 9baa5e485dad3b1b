//! Blocks are plain Parquet: another program reads every row and value.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::harness::metrics::series;
use super::harness::{Server, now_ms, skip};

/// Reads all files of one name below a folder with pyarrow and prints rows, column names and one column, as JSON.
const READ: &str = r#"
import glob, json, sys
import pyarrow.parquet as pq
folder, name = sys.argv[1:]
rows, columns, numbers, texts = 0, set(), [], []
for path in sorted(glob.glob(folder + '/**/' + name, recursive=True)):
    table = pq.read_table(path)
    if 'stream' in table.column_names:  # the server's own events are there, too
        table = table.filter(['"daybook"' not in str(stream) for stream in table['stream'].to_pylist()])
    rows += table.num_rows
    columns.update(table.column_names)
    for field in table.schema:
        kind = str(field.type)
        if kind == 'double':
            numbers += [v for v in table[field.name].to_pylist() if v is not None]
        if field.name in ('body', 'line', 'message'):
            texts += [v.decode() if isinstance(v, bytes) else str(v) for v in table[field.name].to_pylist()]
print(json.dumps({'rows': rows, 'columns': sorted(columns), 'sum': sum(numbers), 'texts': sorted(texts)[:3], 'count': len(texts)}))
"#;

/// Returns the Python of the project's own environment, when it has pyarrow.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let imported = Command::new(&python).args(["-c", "import pyarrow.parquet"]).output().ok()?;
    imported.status.success().then_some(python)
}

fn read(python: &Path, folder: &Path, name: &str) -> Value {
    let output = Command::new(python).args(["-c", READ]).arg(folder).arg(name).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

#[tokio::test]
async fn pyarrow_reads_a_row_per_sample_and_a_row_per_record() {
    let Some(python) = python() else { return skip(".venv with pyarrow is missing; make venv makes it") };
    let server = Server::start().await;
    let at = now_ms();
    let samples: Vec<_> = (0..1000).map(|i| (at - i64::from(i) * 1000, f64::from(i))).collect();
    for job in ["a", "b", "c"] {
        server.remote_write(vec![series(&[("__name__", "x"), ("job", job)], &samples)]).await.ok();
    }
    let lines: Vec<_> = (0..700).map(|i| (at * 1_000_000 + i, format!("line number {i:04}"))).collect();
    server.loki_push(&json!({"service_name": "a"}), &lines).await.ok();
    server.flush().await;

    let metrics = read(&python, &server.dir().join("metrics"), "samples.parquet");
    assert_eq!(metrics["rows"], 3000, "{metrics}");
    assert_eq!(metrics["sum"].as_f64(), Some(3.0 * 499_500.0), "{metrics}");
    let logs = read(&python, &server.dir().join("logs"), "rows.parquet");
    assert_eq!((&logs["rows"], &logs["count"]), (&json!(700), &json!(700)), "{logs}");
    assert_eq!(logs["texts"], json!(["line number 0000", "line number 0001", "line number 0002"]));
}
