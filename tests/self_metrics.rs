//! `docs/metrics.md` against `/metrics`: every family documented, with its type, and none documented that is not there.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::harness::metrics::{gauge, otlp_request, point, series};
use super::harness::{Builder, Server, logs, now_ms, until};

/// Uses every part of a server, so that each of its metrics has at least one series.
async fn exercise(server: &Server) {
    let at = now_ms();
    server.remote_write(vec![series(&[("__name__", "x")], &[(at, 1.0)])]).await.ok();
    server.remote_write(vec![series(&[("__name__", "x"), ("a", "1"), ("a", "2")], &[(at, 1.0)])]).await;
    server.otlp_metrics(&otlp_request("a", vec![gauge("y", vec![point(at, 1.0, Vec::new())])])).await.ok();
    server.otlp_logs(&logs::otlp_request("a", &[(at * 1_000_000, "x".to_owned())])).await.ok();
    server.loki_push(&json!({"a": "b"}), &[(at * 1_000_000, "line".to_owned())]).await.ok();
    server.post(&server.url("/loki/api/v1/push"), &[("content-type", "application/json")], b"{".to_vec()).await;
    server.flush().await;
    for query in ["x", "rate(", "sum(x)"] {
        server.get("/api/v1/query", &[("query", query)]).await;
    }
    for query in ["{a=\"b\"}", "{", "{a=\"b\"} |= \"line\""] {
        server.get("/loki/api/v1/query_range", &[("query", query)]).await;
    }
    server.get("/api/v1/ledger", &[]).await.ok();
}

/// Returns type and help by family, as `/metrics` shows them.
fn exposed(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.trim().to_owned())).collect()
}

/// Returns the type by family, from the rows of the document's tables: | `name` | type | ...
fn documented(text: &str) -> BTreeMap<String, String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let (name, rest) = row.split_once('`')?;
        let kind = rest.trim_start_matches([' ', '|']).split('|').next()?.trim();
        Some((name.to_owned(), kind.to_owned()))
    };
    rows.filter_map(row).filter(|(name, _)| name.starts_with("daybook_") || name.starts_with("process_")).collect()
}

#[tokio::test]
async fn every_metric_is_documented_with_its_type_and_none_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let watched = dir.path().join("app.log");
    std::fs::write(&watched, "a line\n").unwrap();
    let config = dir.path().join("daybook.toml");
    let text = format!(
        "[agent.file]\ninclude = [{:?}]\n[agent.host]\ninterval = \"1s\"\n[[agent.scrape.targets]]\nurl = \"http://127.0.0.1:1/metrics\"\njob = \"gone\"\ninterval = \"1s\"\ntimeout = \"1s\"\n",
        watched.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let server = Builder::new().command("up").flag("config", &config.display().to_string()).start().await;
    exercise(&server).await;
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let documented = documented(&document);
    assert!(!documented.is_empty(), "docs/metrics.md has rows of the form: | `name` | type | ...");
    let missing = async || {
        let exposed = exposed(&server.get("/metrics", &[]).await.ok().text());
        documented.keys().filter(|name| !exposed.contains_key(*name)).cloned().collect::<Vec<_>>()
    };
    // The agent's own metrics appear with its first readings.
    let appeared = until("all documented metrics", async || missing().await.is_empty().then_some(()));
    if tokio::time::timeout(std::time::Duration::from_secs(20), appeared).await.is_err() {
        panic!("documented, but not there: {:?}", missing().await);
    }
    let exposed = exposed(&server.get("/metrics", &[]).await.ok().text());
    for (name, kind) in &exposed {
        assert_eq!(documented.get(name), Some(kind), "{name} is not documented so in docs/metrics.md");
    }
}

#[tokio::test]
async fn the_ledger_adds_up() {
    let server = Server::start().await;
    exercise(&server).await;
    let answer = server.get("/api/v1/ledger", &[]).await.ok().json();
    let entries = answer.get("data").unwrap_or(&answer).as_array().cloned().expect("the ledger is a list");
    assert!(!entries.is_empty());
    for entry in &entries {
        let dropped: u64 = entry["dropped"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        let (received, accepted) = (entry["received"].as_u64().unwrap(), entry["accepted"].as_u64().unwrap());
        if received > 0 {
            assert_eq!(received, accepted + dropped, "{entry}");
        }
    }
}
