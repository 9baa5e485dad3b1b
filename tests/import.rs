//! `daybook import openmetrics` into fresh and used data directories.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use super::harness::{Builder, daybook};

const PAGE: &str = "# HELP http_requests Requests \\\"served\\\".\n# TYPE http_requests counter\n\
    http_requests_total{code=\"200\"} 10 1600000000.123\nhttp_requests_created{code=\"200\"} 1599999000 1600000000.123\n\
    http_requests_total{code=\"200\"} 25 1600000060 # {trace_id=\"abc\"} 0.5 1600000059.5\n\
    # TYPE t_seconds histogram\n# UNIT t_seconds seconds\nt_seconds_bucket{le=\"0.5\"} 1 1600000000\n\
    t_seconds_bucket{le=\"+Inf\"} 2 1600000000 # {trace_id=\"def\"} 0.75\nt_seconds_sum 1 1600000000\n\
    t_seconds_count 2 1600000000\n# EOF\n";

fn import(dir: &Path, page: &str, more: &[&str]) -> Output {
    let mut run = daybook();
    run.args(["import", "openmetrics", "-", "--data-dir"]).arg(dir).args(more);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A run that fails at once does not read it.
    drop(child.stdin.take().expect("stdin is a pipe").write_all(page.as_bytes()));
    child.wait_with_output().expect("it ends")
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_file_is_imported_and_served() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("page.txt");
    std::fs::write(&file, PAGE).expect("a file can be written");
    let data = dir.path().join("data");
    // Twice: what is there already is the same sample.
    for _ in 0..2 {
        let mut run = daybook();
        let output = run.args(["import", "openmetrics"]).arg(&file).arg("--data-dir").arg(&data).output();
        let (code, out, err) = told(&output.expect("the binary starts"));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert_eq!(out, "imported 7 samples and 2 exemplars of 6 series\n");
    }
    let mut server = Builder::new().dir(&data).start().await;
    let at = 1_600_000_100_000;
    let found = server.samples("{__name__=~\"http_requests_total|t_seconds_bucket\"}[1h]", at).await;
    let found: Vec<_> = found.into_iter().map(|(labels, samples)| format!("{labels} {samples:?}")).collect();
    assert_eq!(
        found,
        [
            "http_requests_total{code=200} [(1600000000123, 10.0), (1600000060000, 25.0)]",
            "t_seconds_bucket{le=+Inf} [(1600000000000, 2.0)]",
            "t_seconds_bucket{le=0.5} [(1600000000000, 1.0)]",
        ]
    );
    assert!((server.value("http_requests_created", at).await - 1_599_999_000.0).abs() < 1e-6);
    let range = [("start", "1599999999"), ("end", "1600000100")];
    for (query, expected) in [
        ("http_requests_total", r#"[{"labels":{"trace_id":"abc"},"timestamp":1600000059.5,"value":"0.5"}]"#),
        ("t_seconds_bucket", r#"[{"labels":{"trace_id":"def"},"timestamp":1600000000,"value":"0.75"}]"#),
    ] {
        let data = server.data("/api/v1/query_exemplars", &[("query", query), range[0], range[1]]).await;
        assert_eq!(data[0]["exemplars"].to_string(), expected, "{data}");
    }
    let metadata = server.data("/api/v1/metadata", &[("metric", "t_seconds")]).await;
    assert_eq!(
        (&metadata["t_seconds"][0]["type"], &metadata["t_seconds"][0]["unit"]),
        (&"histogram".into(), &"seconds".into())
    );

    let (code, _, err) = told(&import(&data, PAGE, &[]));
    assert_eq!(code, Some(1));
    assert!(err.contains("another process has"), "{err}");
    server.stop().await;
    let mut check = daybook();
    let verified = check.args(["admin", "verify", "--data-dir"]).arg(&data).output().expect("the binary starts");
    assert_eq!(told(&verified).0, Some(0), "{:?}", told(&verified));
}

#[tokio::test]
async fn what_came_before_a_fault_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (code, out, err) = told(&import(dir.path(), "a 1 1600000000\nb{x=\"1\"} 2\nc 3 1600000000\n# EOF\n", &[]));
    assert_eq!((code, out.as_str()), (Some(1), "imported 1 samples and 0 exemplars of 1 series\n"));
    assert_eq!(err, "daybook: -: line 2: expected timestamp for series b{x=\"1\"}, got none\n");
    let (code, out, err) = told(&import(dir.path(), "d 4 1600000000\n", &["--json"]));
    assert_eq!((code, err.as_str()), (Some(1), "daybook: -: line 2: # EOF is missing, the page is cut off\n"));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&json["samples"], &json["rejected"]), (&1.into(), &serde_json::json!([])), "{json}");
    assert!(json["error"].as_str().expect("an error").contains("line 2: "), "{json}");
    // Labels that a server would refuse, too.
    let labels: Vec<String> = (0..2_000).map(|i| format!("l{i}=\"v\"")).collect();
    let page = format!("e{{{}}} 1 1600000000\nf 5 1600000000\n# EOF\n", labels.join(","));
    let (code, out, err) = told(&import(dir.path(), &page, &[]));
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert!(out.starts_with("imported 1 samples and 0 exemplars of 2 series\n1 rejected (too_many_labels): "), "{out}");
    let server = Builder::new().dir(dir.path()).start().await;
    let found = server.instant("{__name__=~\"[a-f]\"}", 1_600_000_000_000).await;
    assert_eq!(
        found,
        [("a{}", "1"), ("d{}", "4"), ("f{}", "5")].map(|(name, value)| (name.to_owned(), value.to_owned()))
    );

    let none = dir.path().join("none");
    let mut run = daybook();
    let output = run.args(["import", "openmetrics", "/nowhere/x", "--data-dir"]).arg(&none).output();
    let (code, _, err) = told(&output.expect("the binary starts"));
    assert_eq!(code, Some(1));
    assert!(err.starts_with("daybook: opening /nowhere/x failed: "), "{err}");
    assert!(!none.exists(), "nothing is made");
}
