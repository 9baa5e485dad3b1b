//! Configuration: all errors at once, before anything happens; who wins; secrets.

use std::process::Output;

use super::harness::{Builder, daybook};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn all_errors_are_told_at_once_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("daybook.toml");
    std::fs::write(&file, "retention = \"soon\"\nno_such_key = 1\n").unwrap();
    let output = daybook()
        .args(["serve", "--http-addr", "nowhere", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(&data)
        .env("DAYBOOK_MAX_BODY_BYTES", "large")
        .output()
        .unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["http-addr", "nowhere", "retention", "soon", "no_such_key", "large"] {
        assert!(told.contains(part), "{part} is missing:\n{told}");
    }
    assert!(!data.exists(), "nothing is written before the configuration is good");
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daybook.toml");
    std::fs::write(&file, "retention = \"1d\"\nquery_timeout = \"1s\"\nmax_line_bytes = \"1KiB\"\n").unwrap();
    let output = daybook()
        .args(["config", "print", "--retention", "3d", "--config"])
        .arg(&file)
        .env("DAYBOOK_RETENTION", "2d")
        .env("DAYBOOK_QUERY_TIMEOUT", "2s")
        .output()
        .unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let line =
        |key: &str| told.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or_default().to_owned();
    for (key, value, source) in [
        ("retention", "3d", "flag"),
        ("query_timeout", "2s", "env"),
        ("max_line_bytes", "1KiB", "file"),
        ("http_addr", "127.0.0.1:4319", "default"),
    ] {
        assert!(line(key).contains(value) && line(key).contains(source), "{key}: {}\n{told}", line(key));
    }
}

#[test]
fn secrets_are_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daybook.toml");
    std::fs::write(&file, "[agent.headers]\nauthorization = \"Bearer hunter2\"\n").unwrap();
    for action in ["print", "check"] {
        let output = daybook().args(["config", action, "--config"]).arg(&file).output().unwrap();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    for faulty in [
        "[agent.headers]\nauthorization = \"Bearer hunter2\n",
        "[agent.headers]\nauthorization = [\"Bearer hunter2\"]\n",
        "[agent]\nheaders = \"Bearer hunter2\"\n",
        "[agent]\nendpoint = \"http://user:hunter2@no host\"\n",
        "agent_endpoint = \"ftp://user:hunter2@host\"\n",
    ] {
        std::fs::write(&file, faulty).unwrap();
        let output = daybook().args(["config", "check", "--config"]).arg(&file).output().unwrap();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(2), "{faulty}: {told}");
        assert!(!told.contains("hunter2"), "{faulty}: {told}");
    }
}

#[test]
fn config_check_exits_with_2_on_bad_configuration() {
    let check = |args: &[&str], words: &str| {
        let output = daybook().args(["config", "check"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{args:?}: {}", text(&output));
    };
    check(&["--retention", "-1d"], "retention");
    check(&["--role", "king"], "king");
    check(&["--config", "/no/such/file.toml"], "/no/such/file.toml");
    check(&["--no-such-flag"], "no-such-flag");
    assert_eq!(daybook().args(["config", "check"]).status().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_taken_port_is_told_with_exit_code_1() {
    let server = Builder::new().start().await;
    let taken = server.http().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = daybook().args(["serve", "--http-addr", &taken, "--data-dir"]).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(&taken), "{}", text(&output));
}

#[tokio::test]
async fn roles_open_only_their_paths() {
    let query = Builder::new().flag("role", "query").start().await;
    assert_eq!(query.get("/api/v1/labels", &[]).await.status, 200);
    assert_eq!(query.remote_write(Vec::new()).await.status, 404);
    let collector = Builder::new().flag("role", "collector").start().await;
    assert_eq!(collector.get("/api/v1/labels", &[]).await.status, 404);
    collector.remote_write(Vec::new()).await.ok();
}
