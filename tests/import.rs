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
    assert_eq!((code, err.as_str()), (Some(1), "daybook: -: line 2: data does not end with # EOF\n"));
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

/// Imports into a server.
async fn send(url: &str, page: &'static str, more: &'static [&'static str]) -> (Option<i32>, String, String) {
    let url = url.to_owned();
    let run = tokio::task::spawn_blocking(move || {
        let mut run = daybook();
        run.args(["import", "openmetrics", "-", "--url", &url]).args(more);
        let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdin.take().expect("stdin is a pipe").write_all(page.as_bytes()));
        child.wait_with_output()
    });
    told(&run.await.expect("it does not panic").expect("it ends"))
}

/// What the page holds of start times, exemplars and metadata.
async fn check_page(server: &super::harness::Server) {
    let at = 1_600_000_100_000;
    // The first sample of the counter is told when it was created, the second is not.
    let starts = [
        ("start_timestamp(http_requests_total)", 0.0),
        ("start_timestamp(http_requests_total offset 60s)", 1_599_999_000.0),
    ];
    for (query, expected) in starts {
        assert!((server.value(query, at).await - expected).abs() < 1e-6, "{query}");
    }
    let increase = server.value("increase(http_requests_total[20m])", 1_600_000_010_000).await;
    assert!((increase - 10.0).abs() < 0.2, "from zero at its start: {increase}");
    let data = server
        .data(
            "/api/v1/query_exemplars",
            &[("query", "t_seconds_bucket"), ("start", "1599999999"), ("end", "1600000100")],
        )
        .await;
    assert_eq!(data[0]["exemplars"][0]["labels"]["trace_id"], "def", "{data}");
    let metadata = server.data("/api/v1/metadata", &[]).await;
    let requests = &metadata["http_requests"][0];
    assert_eq!(
        (&requests["type"], &requests["help"]),
        (&"counter".into(), &"Requests \"served\".".into()),
        "{metadata}"
    );
    assert_eq!(metadata["t_seconds"][0]["unit"], "seconds", "{metadata}");
    let sum = server.instant("{__name__=~\"t_seconds_.*\"}", at).await;
    assert_eq!(sum.len(), 4, "{sum:?}");
}

#[tokio::test]
async fn start_times_are_read_back_from_a_directory_and_from_a_running_server() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (code, out, err) = told(&import(dir.path(), PAGE, &[]));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let mut server = Builder::new().dir(dir.path()).flag("retention", "0").start().await;
    check_page(&server).await;
    server.stop().await;

    let mut server = Builder::new().flag("retention", "0").start().await;
    for _ in 0..2 {
        let (code, out, err) = send(&server.url(""), PAGE, &[]).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert_eq!(out, "imported 7 samples and 2 exemplars of 6 series\n");
    }
    check_page(&server).await;
    server.flush().await;
    check_page(&server).await;
    let (code, out, err) =
        send(&server.url(""), "a 1 1600000000\nb{__name__=\"c\"} 2 1600000000\nd 3 1600000000\n", &[]).await;
    assert_eq!(code, Some(1), "{out} {err}");
    server.stop().await;
}

/// Status, headers and text of an answer.
type Scripted = (u16, &'static [(&'static str, &'static str)], &'static str);

/// Answers requests in turn with what it was given, and then with 204.
async fn scripted(answers: Vec<Scripted>) -> (String, std::sync::Arc<std::sync::Mutex<Vec<usize>>>) {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (bodies, answers) =
        (std::sync::Arc::clone(&seen), std::sync::Arc::new(std::sync::Mutex::new(answers.into_iter())));
    let handle = move |body: axum::body::Bytes| {
        bodies.lock().expect("no panic").push(body.len());
        let next = answers.lock().expect("no panic").next();
        async move {
            let (status, headers, text) = next.unwrap_or((204, &[], ""));
            let mut response = axum::response::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(axum::body::Body::from(text)).expect("a response")
        }
    };
    let app = axum::Router::new().route("/below/api/v1/write", axum::routing::post(handle));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/below", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

#[tokio::test]
async fn a_busy_server_is_sent_the_batch_again() {
    let (url, seen) =
        scripted(vec![(503, &[("retry-after", "0")], "later"), (429, &[], ""), (500, &[("retry-after", "0")], "")])
            .await;
    let (code, out, err) = send(&url, "a 1 1600000000\na 2 1600000060\n# EOF\n", &[]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "imported 2 samples and 0 exemplars of 1 series\n", ""));
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|len| *len == seen[0]), "the same batch: {seen:?}");

    let (url, seen) = scripted(vec![(503, &[("retry-after", "0")], "shutting down"); 1_000_000]).await;
    let (code, _, err) = send(&url, "a 1 1600000000\n# EOF\n", &["--retry-for", "300ms"]).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        "daybook: -: sending failed for 300ms: the server answered 503 Service Unavailable: shutting down\n"
    );
    assert!(seen.lock().expect("no panic").len() > 1);
}

#[tokio::test]
async fn what_a_server_refuses_is_told() {
    let partly: Scripted = (
        400,
        &[("x-prometheus-remote-write-samples-written", "1"), ("x-prometheus-remote-write-exemplars-written", "0")],
        "1 of 2 samples were not stored: 1 rejected (too_old): of 2020",
    );
    let (url, seen) = scripted(vec![partly]).await;
    let (code, out, err) = send(&url, "a 1 1600000000 # {t=\"1\"} 1\na 2 1600000060\n# EOF\n", &[]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert_eq!(
        out,
        "imported 1 samples and 0 exemplars of 1 series\n\
         1 rejected (refused_by_server): 1 of 2 samples were not stored: 1 rejected (too_old): of 2020\n\
         1 rejected (exemplar_refused_by_server): 1 of 2 samples were not stored: 1 rejected (too_old): of 2020\n"
    );
    assert_eq!(seen.lock().expect("no panic").len(), 1);
    let (url, _) = scripted(vec![(415, &[], "no remote write 2.0 here")]).await;
    let (code, out, err) = send(&url, "a 1 1600000000\n# EOF\n", &[]).await;
    assert_eq!((code, out.as_str()), (Some(1), "imported 0 samples and 0 exemplars of 1 series\n"));
    assert_eq!(err, "daybook: -: the server answered 415 Unsupported Media Type: no remote write 2.0 here\n");
    let (code, _, err) = send("http://127.0.0.1:1", "a 1 1600000000\n# EOF\n", &["--retry-for", "100ms"]).await;
    assert_eq!(code, Some(1));
    assert!(err.starts_with("daybook: -: sending failed for 100ms: asking http://127.0.0.1:1 failed: "), "{err}");
}
