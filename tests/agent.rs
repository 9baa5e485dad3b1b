//! The agent against a server: exactly once over rotation and restarts, host metrics, back-pressure.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Server, daybook, now_ms, until};

/// An agent as its own process; killed when dropped.
struct Agent {
    child: Child,
    log: std::path::PathBuf,
}

impl Agent {
    fn start(dir: &Path, server: &Server, include: &Path) -> Self {
        let config = dir.join("agent.toml");
        let text = format!(
            "[agent.host]\ninterval = \"1s\"\n[agent.journald]\nenabled = false\n\
             [agent.resource]\n\"service.name\" = \"tailed\"\n\
             [agent.file]\ninclude = [{:?}]\npoll_interval = \"50ms\"\ndiscover_interval = \"100ms\"\n",
            include.display().to_string()
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let path = dir.join("agent.out");
        let log = File::options().create(true).append(true).open(&path).expect("a log can be made");
        let child = daybook()
            .arg("agent")
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(dir.join("state"))
            .args(["--agent-endpoint", &server.grpc_url(), "--agent-http-addr", "127.0.0.1:0"])
            .stdout(Stdio::from(log.try_clone().expect("a file can be shared")))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the binary starts");
        Self { child, log: path }
    }

    /// Stops with SIGTERM.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the agent runs");
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.code(), Some(0), "a clean stop");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that was stopped cannot be killed, which is fine.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            println!("the agent's output:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn append(path: &Path, lines: std::ops::Range<u32>) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the log can be opened");
    for n in lines {
        writeln!(file, "event number {n:05}").expect("the log can be written");
    }
}

async fn found(server: &Server) -> Vec<String> {
    let end = (now_ms() + 60_000) * 1_000_000;
    let query = "{service_name=~\".+\"} |= \"event number\"";
    let lines = server.lines(query, (end - 7_200_000_000_000, end), 100_000).await;
    let mut lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    lines.sort();
    lines
}

async fn until_found(server: &Server, count: u32) {
    let expected: Vec<_> = (0..count).map(|n| format!("event number {n:05}")).collect();
    let what = format!("{count} lines, each once");
    let arrived = until(&what, async || (found(server).await.len() >= expected.len()).then_some(()));
    arrived.await;
    assert_eq!(found(server).await, expected);
}

#[tokio::test]
async fn each_line_arrives_once_over_rotation_restart_and_kill() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..100);
    let include = dir.path().join("app.log*");
    let agent = Agent::start(dir.path(), &server, &include);
    until_found(&server, 100).await;

    // Renamed, and a new file in its place.
    append(&log, 100..150);
    std::fs::rename(&log, dir.path().join("app.log.1")).unwrap();
    append(&log, 150..200);
    until_found(&server, 200).await;

    // Stopped; what is written meanwhile is read afterwards, a rotation included.
    agent.stop();
    append(&log, 200..230);
    std::fs::rename(&log, dir.path().join("app.log.2")).unwrap();
    append(&log, 230..260);
    let mut agent = Agent::start(dir.path(), &server, &include);
    until_found(&server, 260).await;

    // Killed: the checkpoint and the disk buffer know what was sent.
    append(&log, 260..300);
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    append(&log, 300..320);
    let agent = Agent::start(dir.path(), &server, &include);
    until_found(&server, 320).await;
    agent.stop();
}

#[tokio::test]
async fn a_truncated_file_is_read_from_its_start() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..50);
    let agent = Agent::start(dir.path(), &server, &log);
    until_found(&server, 50).await;
    OpenOptions::new().write(true).truncate(true).open(&log).unwrap();
    append(&log, 50..70);
    until_found(&server, 70).await;
    agent.stop();
}

#[tokio::test]
async fn lines_wait_on_disk_while_the_server_is_away() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut server = super::harness::Builder::new().flag("otlp-grpc-addr", &addr).start().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    append(&log, 0..10);
    let agent = Agent::start(dir.path(), &server, &log);
    until_found(&server, 10).await;
    server.stop().await;
    append(&log, 10..500);
    server.restart().await;
    until_found(&server, 500).await;
    agent.stop();
}

#[tokio::test]
async fn host_metrics_arrive() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent::start(dir.path(), &server, &dir.path().join("none.log"));
    for name in ["system_cpu", "system_memory", "system_network", "system_disk|system_filesystem"] {
        let query = format!("count({{__name__=~\"({name}).*\"}})");
        until(&query, async || (!server.instant(&query, now_ms()).await.is_empty()).then_some(())).await;
    }
}
