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

/// Computes the values of all samples as docs/format/metrics-block.md says, and prints how many there are, how many are
/// decimals, and all bits of values and timestamps, combined, as JSON.
const VALUES: &str = r#"
import array, glob, json, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
rows = decimals = values = times = 0
for path in glob.glob(sys.argv[1] + '/**/samples.parquet', recursive=True):
    table = pq.read_table(path).filter(pc.field('metric') == 'x')
    product = pc.cast(pc.multiply(table['mantissa'], table['factor']), pa.float64())
    value = pc.coalesce(table['value'], pc.divide(product, pc.cast(table['divisor'], pa.float64())))
    rows += table.num_rows
    decimals += table['value'].null_count
    for bits in memoryview(array.array('d', value.to_pylist())).cast('B').cast('Q'):
        values = (values * 31 + bits) % 2**64
    for time in table['timestamp'].cast(pa.int64()).to_pylist():
        times = (times * 31 + time) % 2**64
print(json.dumps({'rows': rows, 'decimals': decimals, 'values': values, 'times': times}))
"#;

/// Returns the Python of the project's own environment, when it has pyarrow.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let imported = Command::new(&python).args(["-c", "import pyarrow.parquet"]).output().ok()?;
    imported.status.success().then_some(python)
}

fn read(python: &Path, folder: &Path, name: &str) -> Value {
    run(python, READ, folder, name)
}

fn run(python: &Path, script: &str, folder: &Path, name: &str) -> Value {
    let output = Command::new(python).args(["-c", script]).arg(folder).arg(name).output().expect("python starts");
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

#[tokio::test]
async fn pyarrow_computes_the_values_of_a_large_block_bit_for_bit() {
    let Some(python) = python() else { return skip(".venv with pyarrow is missing; make venv makes it") };
    let server = Server::start().await;
    let start = now_ms() - 60_000_000;
    // Whole numbers, hundredths, numbers that are no decimals, and some of both; above 262,144 rows in all.
    let value = |job: usize, i: i64| match job {
        0 => i as f64 * 4096.0,
        1 => i as f64 / 100.0,
        2 => (i as f64).sqrt(),
        3 if i % 100 == 7 => f64::INFINITY,
        _ => -(i as f64) / 8.0,
    };
    let (mut values, mut times) = (0_u64, 0_u64);
    for (job, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let samples: Vec<_> = (0..60_000).map(|i| (start + i * 1000 + i % 7, value(job, i))).collect();
        for samples in samples.chunks(20_000) {
            server.remote_write(vec![series(&[("__name__", "x"), ("job", name)], samples)]).await.ok();
        }
        for (time, value) in samples {
            values = values.wrapping_mul(31).wrapping_add(value.to_bits());
            times = times.wrapping_mul(31).wrapping_add(time as u64);
        }
    }
    server.flush().await;
    let read = run(&python, VALUES, &server.dir().join("metrics"), "");
    assert_eq!(read["rows"], 300_000, "{read}");
    assert_eq!((read["values"].as_u64(), read["times"].as_u64()), (Some(values), Some(times)), "{read}");
    assert!(read["decimals"].as_u64() > Some(230_000), "{read}");
}
