//! `daybook admin verify` and `blocks` on real data directories.

use std::path::Path;
use std::process::Output;

use super::harness::metrics::series;
use super::harness::{Server, daybook, logs, now_ms};

fn admin(command: &str, dir: &Path, json: bool) -> Output {
    let mut run = daybook();
    run.args(["admin", command, "--data-dir"]).arg(dir);
    if json {
        run.arg("--json");
    }
    run.output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts a server with blocks and logs, some records in the write-ahead logs alone.
async fn filled() -> Server {
    let server = Server::start().await;
    let now = now_ms();
    for round in 0..2 {
        let samples: Vec<_> = (0..200).map(|i| (now - 5_000 + i, f64::from(round))).collect();
        server.remote_write(vec![series(&[("__name__", "m"), ("job", "t")], &samples)]).await.ok();
        let lines = [((now + i64::from(round)) * 1_000_000, format!("a line of round {round}"))];
        let pushed = logs::loki_json(&serde_json::json!({"service_name": "t"}), &lines);
        server.post(&server.url("/loki/api/v1/push"), &[("content-type", "application/json")], pushed).await.ok();
        if round == 0 {
            server.flush().await;
        }
    }
    server
}

#[tokio::test]
async fn a_directory_is_good_after_kill_9_and_each_damage_is_named() {
    let mut server = filled().await;
    let locked = admin("verify", server.dir(), false);
    assert_eq!(locked.status.code(), Some(1));
    assert!(text(&locked.stderr).contains("another process has"), "{}", text(&locked.stderr));
    server.kill();
    let good = admin("verify", server.dir(), false);
    assert_eq!(good.status.code(), Some(0), "{}{}", text(&good.stdout), text(&good.stderr));
    assert!(text(&good.stdout).ends_with("no damage\n"), "{}", text(&good.stdout));
    let mut open = vec![server.dir().to_owned()];
    let mut files = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.retain(|path| path.file_name().is_some_and(|name| name != "LOCK"));
    assert!(files.len() > 8, "{files:?}");
    for path in files {
        let content = std::fs::read(&path).expect("a file");
        if content.is_empty() {
            continue;
        }
        let mut damaged = content.clone();
        damaged[content.len() / 2] ^= 8;
        std::fs::write(&path, &damaged).expect("a file can be written");
        let found = admin("verify", server.dir(), true);
        assert_eq!(found.status.code(), Some(1), "{}: {}", path.display(), text(&found.stdout));
        let told: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
        assert!(
            told["damaged"].as_u64() >= Some(1) && !told["findings"].as_array().expect("a list").is_empty(),
            "{told}"
        );
        std::fs::write(&path, &content).expect("a file can be written");
    }
    assert_eq!(admin("verify", server.dir(), true).status.code(), Some(0));
    server.restart().await;
    assert_eq!(server.samples("m[1d]", now_ms()).await.into_values().next().expect("a series").len(), 200);
}

#[tokio::test]
async fn blocks_are_listed_beside_a_running_server() {
    let server = filled().await;
    let listed = admin("blocks", server.dir(), false);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    let table = text(&listed.stdout);
    assert!(table.starts_with("store"), "{table}");
    assert!(table.contains("bytes/sample") && table.contains("000000000001-000000000001-l0"), "{table}");
    let json: serde_json::Value = serde_json::from_slice(&admin("blocks", server.dir(), true).stdout).expect("JSON");
    let block = &json["metrics"][0];
    assert_eq!((&block["samples"], &block["series"]), (&200.into(), &1.into()), "{json}");
    assert!(block["first"].as_str().expect("a time").ends_with('Z') && block["bytes_per_sample"].is_number(), "{json}");
    // The server's own events are among them.
    assert!(json["logs"][0]["records"].as_u64() >= Some(1), "{json}");
}

#[test]
fn what_is_no_data_directory_is_said_to_be_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for command in ["verify", "blocks"] {
        let answer = admin(command, &dir.path().join("none"), false);
        assert_eq!(answer.status.code(), Some(1));
        assert!(text(&answer.stderr).contains("is no data directory"), "{}", text(&answer.stderr));
    }
    assert!(!dir.path().join("none").exists(), "nothing is made");
}
