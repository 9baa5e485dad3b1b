//! The client commands: their output, and their exit codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use super::harness::metrics::{seconds, series};
use super::harness::{Server, daybook, now_ms};

/// Runs a client command against a server.
fn run(server: &Server, args: &[&str]) -> Output {
    daybook().args(args).env("DAYBOOK_URL", server.url("")).output().expect("the binary starts")
}

#[track_caller]
fn stdout(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

async fn with_data() -> (Server, i64) {
    let server = Server::start().await;
    let at = now_ms() / 1000 * 1000;
    let samples: Vec<_> = (0..=60).map(|i| (at - (60 - i64::from(i)) * 60_000, f64::from(i))).collect();
    server.remote_write(vec![series(&[("__name__", "queue_length"), ("job", "a")], &samples)]).await.ok();
    let lines = [(at * 1_000_000 - 2, "first line".to_owned()), (at * 1_000_000 - 1, "second line".to_owned())];
    server.loki_push(&json!({"service_name": "shop"}), &lines).await.ok();
    (server, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn query_prints_a_table_json_csv_and_a_chart() {
    let (server, at) = with_data().await;
    let time = seconds(at);
    let table = stdout(&run(&server, &["query", "queue_length", "--time", &time]));
    let words: Vec<_> = table.split_whitespace().collect();
    assert_eq!(words, ["series", "value", "queue_length{job=\"a\"}", "60"]);

    let data: Value =
        serde_json::from_str(&stdout(&run(&server, &["query", "queue_length", "--time", &time, "-o", "json"])))
            .unwrap();
    assert_eq!(data["result"][0]["value"][1], "60");

    let range = ["query", "queue_length", "--end", &time, "--since", "1h", "--step", "30m"];
    let csv = stdout(&run(&server, &[&range[..], &["--output", "csv"]].concat()));
    let rows: Vec<_> = csv.lines().map(|line| line.split_once(',').unwrap_or((line, "")).1).collect();
    assert_eq!(rows, ["value,__name__,job", "0,queue_length,a", "30,queue_length,a", "60,queue_length,a"]);

    let chart = stdout(&run(&server, &[&range[..6], &["--output", "chart", "--width", "80"]].concat()));
    assert!(chart.contains('⠒') || chart.contains('⠉') || chart.contains('⠤'), "{chart}");
    assert!(chart.contains("queue_length{job=\"a\"}  last 60") && chart.contains("UTC"), "{chart}");
    assert!(!chart.contains('\u{1b}'), "no colours without a terminal");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_is_noted_on_stderr_alone() {
    let server = Server::start().await;
    for args in [&["query", "nope"][..], &["query", "nope", "--since", "1h"], &["query", "nope", "-o", "chart"]] {
        let output = run(&server, args);
        assert_eq!(stdout(&output), "", "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "no data\n", "{args:?}");
    }
}

/// Runs a client command whose output is a terminal, and returns what that would show.
fn run_in_terminal(server: &Server, args: &[&str]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap();
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = daybook().args(args).env("DAYBOOK_URL", server.url("")).stdout(terminal).spawn().unwrap();
    // Reading ends with an error once the last writer is gone, which is the child: this process has closed its own.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        drop(std::fs::File::from(control).read_to_end(&mut text));
        String::from_utf8(text).unwrap()
    });
    assert_eq!(child.wait().unwrap().code(), Some(0));
    reader.join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_charts_and_colours_unless_told_otherwise() {
    let (server, at) = with_data().await;
    let time = seconds(at);
    let range = ["query", "queue_length", "--end", &time, "--since", "1h"];
    let chart = run_in_terminal(&server, &range);
    assert!(chart.contains("━━") && chart.contains("\u{1b}[38;5;"), "{chart}");
    let plain = run_in_terminal(&server, &[&range[..], &["--no-color"]].concat());
    assert!(plain.contains("━━") && !plain.contains('\u{1b}'), "{plain}");
    let table = run_in_terminal(&server, &["query", "queue_length", "--time", &time]);
    assert!(table.contains("series") && table.contains("60"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_explains_what_a_query_would_read() {
    let (server, at) = with_data().await;
    let line = |i: i64| (at * 1_000_000 - 3_000_000_000 + i, format!("line number{i} of many"));
    let lines: Vec<(i64, String)> = (0..10_000).map(line).collect();
    server.loki_push(&json!({"service_name": "all"}), &lines).await.ok();
    server.flush().await;
    let explain = async |query: &str| -> Value {
        serde_json::from_str(&stdout(&run(&server, &["logs", query, "--explain", "-o", "json"]))).unwrap()
    };
    let all = explain("{service_name=\"all\"}").await;
    assert_eq!(all["resultType"], "plan");
    assert_eq!((&all["total"]["recordsRead"], &all["total"]["pagesRead"]), (&json!(10_000), &json!(10)), "{all}");
    let one = explain("{service_name=\"all\"} |= \"number7777 \"").await;
    assert_eq!((&one["total"]["pagesInside"], &one["total"]["pagesRead"]), (&json!(10), &json!(1)), "{one}");
    let bytes = |plan: &Value| plan["total"]["bytesRead"].as_u64().unwrap();
    assert!(0 < bytes(&one) && bytes(&one) * 5 < bytes(&all), "{one} {all}");
    let count = explain("sum(count_over_time({service_name=\"all\"}[1d]))").await;
    assert_eq!(count["selections"][0]["columns"], json!(["timestamp", "severity"]));
    assert!(bytes(&count) * 5 < bytes(&all), "{count}");
    let text = stdout(&run(&server, &["logs", "{service_name=\"all\"} |= \"number7777 \"", "--explain"]));
    assert!(text.contains("the line holds \"number7777 \"") && text.contains("1 of 10 pages"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_prints_every_line_and_those_around_one() {
    let (server, at) = with_data().await;
    let line = |i: i64| (at * 1_000_000 - 3_000_000_000 + i / 3, format!("line {i}"));
    let lines: Vec<(i64, String)> = (0..20_000).map(line).collect();
    server.loki_push(&json!({"service_name": "all"}), &lines[..12_000]).await.ok();
    server.flush().await;
    server.loki_push(&json!({"service_name": "all"}), &lines[12_000..]).await.ok();
    let query = "{service_name=\"all\"}";
    let expected: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    let forward = stdout(&run(&server, &["logs", query, "--all", "-o", "raw", "--direction", "forward"]));
    assert!(forward.lines().eq(expected.iter().copied()));
    let backward = stdout(&run(&server, &["logs", query, "--all", "-o", "raw"]));
    assert!(backward.lines().rev().eq(expected.iter().copied()));
    let csv = stdout(&run(&server, &["logs", query, "--all", "-o", "csv"]));
    assert_eq!(csv.lines().count(), 20_001);
    let one = "{service_name=\"all\"} |~ \"line (50|12000)$\"";
    let around = stdout(&run(&server, &["logs", one, "-C", "1", "-o", "raw", "--direction", "forward"]));
    assert_eq!(around, "line 49\nline 50\nline 51\n--\nline 11999\nline 12000\nline 12001\n");
    let after = stdout(&run(&server, &["logs", one, "-A", "2", "-o", "raw", "--limit", "1"]));
    assert_eq!(after, "line 12000\nline 12001\nline 12002\n");
    let refused = run(&server, &["logs", "{", "--all"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("parse error"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_prints_lines_in_every_form() {
    let (server, _) = with_data().await;
    let query = "{service_name=\"shop\"}";
    assert_eq!(stdout(&run(&server, &["logs", query, "-o", "raw"])), "second line\nfirst line\n");
    assert_eq!(
        stdout(&run(&server, &["logs", query, "-o", "raw", "--direction", "forward"])),
        "first line\nsecond line\n"
    );
    assert_eq!(stdout(&run(&server, &["logs", query, "-o", "raw", "--limit", "1"])), "second line\n");
    let line: Value =
        serde_json::from_str(stdout(&run(&server, &["logs", query, "-o", "jsonl"])).lines().next().unwrap()).unwrap();
    assert_eq!((&line["line"], &line["labels"]["service_name"]), (&json!("second line"), &json!("shop")));
    let data: Value = serde_json::from_str(&stdout(&run(&server, &["logs", query, "-o", "json"]))).unwrap();
    assert_eq!(data["resultType"], "streams");
    let text = stdout(&run(&server, &["logs", query]));
    assert!(text.lines().next().unwrap().ends_with("second line") && text.contains("service_name=\"shop\""), "{text}");
    let counted =
        stdout(&run(&server, &["logs", "sum(count_over_time({service_name=\"shop\"}[5m]))", "--time", "now"]));
    assert!(counted.split_whitespace().any(|word| word == "2"), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_lists_names_and_values() {
    let (server, _) = with_data().await;
    assert_eq!(stdout(&run(&server, &["labels"])), "__name__\njob\n");
    assert_eq!(stdout(&run(&server, &["labels", "job"])), "a\n");
    assert_eq!(stdout(&run(&server, &["labels", "job", "--match", "queue_length{job=\"none\"}"])), "");
    assert!(stdout(&run(&server, &["labels", "--logs"])).lines().any(|name| name == "service_name"));
    let matching = ["labels", "service_name", "--logs", "-o", "json", "--match", "{service_name=\"shop\"}"];
    assert_eq!(stdout(&run(&server, &matching)), "[\"shop\"]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_over_a_restart_and_repeats_nothing() {
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = http.local_addr().unwrap().to_string();
    drop(http);
    let mut server = super::harness::Builder::new().flag("http-addr", &addr).start().await;
    let mut tail = daybook()
        .args(["tail", "{service_name=\"live\"}", "-o", "raw", "--since", "1m", "--url", &server.url("")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (send, lines) = std::sync::mpsc::sync_channel(100);
    let output = tail.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let push = async |server: &Server, text: &str| {
        server.loki_push(&json!({"service_name": "live"}), &[(now_ms() * 1_000_000, text.to_owned())]).await.ok();
    };
    push(&server, "one").await;
    assert_eq!(lines.recv_timeout(super::harness::DEADLINE).unwrap(), "one");
    server.stop().await;
    server.restart().await;
    push(&server, "two").await;
    assert_eq!(lines.recv_timeout(super::harness::DEADLINE).unwrap(), "two");
    push(&server, "three").await;
    assert_eq!(lines.recv_timeout(super::harness::DEADLINE).unwrap(), "three");
    tail.kill().unwrap();
    tail.wait().unwrap();
    drop(lines);
    reader.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_their_exit_codes_and_words() {
    let server = Server::start().await;
    let check = |args: &[&str], code: i32, words: &str| {
        let output = run(&server, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}: errors go to stderr");
    };
    check(&["query", "rate("], 1, "parse error");
    check(&["logs", "{"], 1, "error");
    check(&["tail", "{"], 1, "");
    check(&["query", "up", "--url", "http://127.0.0.1:1"], 1, "127.0.0.1:1");
    check(&["query"], 2, "Usage");
    check(&["query", "up", "--time", "yesterday"], 2, "yesterday");
    check(&["query", "up", "--time", "now", "--since", "1h"], 2, "cannot be used with");
    check(&["query", "up", "--start", "now", "--end", "-1h"], 2, "the range is empty");
    check(&["query", "up", "--output", "xml"], 2, "xml");
    check(&["query", "up", "--url", "ftp://x"], 2, "ftp");
    check(&["logs", "{a=\"b\"}", "--limit", "0"], 2, "0");
    check(&["no-such-command"], 2, "no-such-command");
    check(&[], 2, "Usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_failure() {
    let server = Server::start().await;
    let at = now_ms() * 1_000_000;
    let lines: Vec<_> = (0..5000).map(|i| (at - i * 1000, format!("line {i} {}", "x".repeat(200)))).collect();
    server.loki_push(&json!({"service_name": "much"}), &lines).await.ok();
    let mut child = daybook()
        .args(["logs", "{service_name=\"much\"}", "--limit", "5000", "--url", &server.url("")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn help_and_version_are_printed_on_stdout() {
    for args in [&["--help"][..], &["--version"], &["help"], &["query", "--help"], &["serve", "--help"]] {
        let output = daybook().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}
