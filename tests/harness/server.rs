//! The built binary as a child process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, until};

/// Lines of the server's output that are kept: enough to understand a failure.
const LINES_MAX: usize = 2_000;

/// Returns a command that runs the built binary, without whatever the caller's environment configures.
pub(crate) fn daybook() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DAYBOOK_") {
            command.env_remove(name);
        }
    }
    command.env_remove("NO_COLOR");
    command
}

/// A server to be.
#[derive(Debug)]
pub(crate) struct Builder {
    command: String,
    flags: BTreeMap<String, String>,
    dir: Dir,
}

#[derive(Debug)]
enum Dir {
    Own(TempDir),
    Given(PathBuf),
}

impl Dir {
    fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

impl Builder {
    /// Returns a server on free ports of loopback, in a fresh directory, that keeps everything.
    pub(crate) fn new() -> Self {
        let flags = [
            ("http-addr", "127.0.0.1:0"),
            ("otlp-grpc-addr", "127.0.0.1:0"),
            ("otlp-http-addr", "127.0.0.1:0"),
            ("retention", "0"),
        ];
        Self {
            command: "serve".to_owned(),
            flags: flags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            dir: Dir::Own(tempfile::tempdir().expect("a temporary directory can be made")),
        }
    }

    /// Runs another command than `serve`.
    pub(crate) fn command(mut self, name: &str) -> Self {
        name.clone_into(&mut self.command);
        self
    }

    /// Sets a flag, given without its dashes.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Uses a directory that the caller looks after.
    pub(crate) fn dir(mut self, path: &Path) -> Self {
        self.dir = Dir::Given(path.to_owned());
        self
    }

    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(self) -> Server {
        let process = Process::start(&self).await;
        let client = reqwest::Client::builder().build().expect("an HTTP client can be made");
        Server { builder: self, process, client }
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    builder: Builder,
    process: Process,
    client: reqwest::Client,
}

#[derive(Debug)]
struct Process {
    child: Child,
    output: Arc<Output>,
    http: SocketAddr,
    otlp_grpc: SocketAddr,
    otlp_http: SocketAddr,
}

/// What a server printed.
#[derive(Debug, Default)]
struct Output {
    events: Mutex<Vec<Value>>,
    other: Mutex<Vec<String>>,
}

impl Output {
    fn take_line(&self, line: &str) {
        match serde_json::from_str::<Value>(line) {
            Ok(event) if event.is_object() => push(&self.events, event),
            _ => push(&self.other, line.to_owned()),
        }
    }

    fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for event in self.events() {
            writeln!(text, "{event}").expect("writing to a String succeeds");
        }
        let other = self.other.lock().unwrap_or_else(PoisonError::into_inner);
        text + &other.join("\n")
    }
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() < LINES_MAX {
        list.push(item);
    }
}

fn read_lines(from: impl std::io::Read + Send + 'static, output: &Arc<Output>) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            output.take_line(&line);
        }
    });
}

/// Returns a member of an event, whether fields are flattened or not.
fn field<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event.get(name).or_else(|| event.get("fields")?.get(name))?.as_str()
}

impl Process {
    async fn start(builder: &Builder) -> Self {
        let mut command = daybook();
        command.arg(&builder.command).arg("--data-dir").arg(builder.dir.path());
        for (name, value) in &builder.flags {
            command.arg(format!("--{name}")).arg(value);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let output = Arc::new(Output::default());
        read_lines(child.stdout.take().expect("stdout is a pipe"), &output);
        read_lines(child.stderr.take().expect("stderr is a pipe"), &output);
        let child = Mutex::new(child);
        let addrs = until("the server to listen", async || {
            let exited = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().expect("a child can be asked");
            assert!(exited.is_none(), "the server ended at once ({exited:?}):\n{}", output.text());
            let events = output.events();
            let listening = events.iter().find(|event| field(event, "message") == Some("listening"))?;
            let addr = |name| field(listening, name)?.parse::<SocketAddr>().ok();
            Some((addr("http_addr")?, addr("otlp_grpc_addr")?, addr("otlp_http_addr")?))
        });
        let (http, otlp_grpc, otlp_http) = addrs.await;
        let child = child.into_inner().unwrap_or_else(PoisonError::into_inner);
        let process = Self { child, output, http, otlp_grpc, otlp_http };
        process.wait_ready().await;
        process
    }

    async fn wait_ready(&self) {
        let client = reqwest::Client::new();
        let url = format!("http://{}/-/ready", self.http);
        until(&format!("the server to be ready; it said:\n{}", self.output.text()), async || {
            let response = client.get(&url).send().await.ok()?;
            (response.status() == StatusCode::OK).then_some(())
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that ended by itself cannot be killed, which is fine.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            println!("the server's output:\n{}", self.output.text());
        }
    }
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Returns the body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Returns `self` when the status is a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        self
    }

    async fn of(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.bytes().await?.to_vec() })
    }
}

impl Server {
    /// Starts a server on free ports, in a fresh directory, that keeps everything.
    pub(crate) async fn start() -> Self {
        Builder::new().start().await
    }

    /// Returns the address of the main port.
    pub(crate) fn http(&self) -> SocketAddr {
        self.process.http
    }

    /// Returns the URL of a path on the main port.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.process.http)
    }

    /// Returns the URL of a path on the OTLP/HTTP port.
    pub(crate) fn otlp_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.process.otlp_http)
    }

    /// Returns the OTLP/gRPC endpoint.
    pub(crate) fn grpc_url(&self) -> String {
        format!("http://{}", self.process.otlp_grpc)
    }

    /// Returns the data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.builder.dir.path()
    }

    /// Returns the HTTP client.
    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Returns what the server logged so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.process.output.events()
    }

    /// Returns the server's events of `WARN` and above as text.
    pub(crate) fn complaints(&self) -> String {
        let loud = |event: &Value| matches!(event.get("level").and_then(Value::as_str), Some("WARN" | "ERROR"));
        self.events().iter().filter(|event| loud(event)).map(|event| format!("{event}\n")).collect()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.process.child.kill().expect("the server runs");
        self.process.child.wait().expect("a child can be waited for");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_child(&self.process.child);
        kill_process(pid, Signal::TERM).expect("the server runs");
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.process.child), Signal::INT).expect("the server runs");
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.process.child);
        until("the server to end", async || {
            child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().expect("a child can be asked")
        })
        .await
    }

    /// Sends SIGTERM and waits for a clean end.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.process.output.text());
    }

    /// Starts the same server again, which has ended, on the same directory.
    pub(crate) async fn restart(&mut self) {
        self.process = Process::start(&self.builder).await;
    }

    /// Says whether the process lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Returns a figure of `/proc/PID/status` in bytes, e.g. `VmRSS` or `VmHWM`, the most that `VmRSS` ever was.
    pub(crate) fn memory_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = std::fs::read_to_string(path).expect("the server runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("the figure exists");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kilobytes * 1024
    }

    /// Sends a GET to the main port.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        let request = self.client.get(self.url(path)).query(query).timeout(DEADLINE);
        let response = request.send().await.expect("the server answers");
        Answer::of(response).await.expect("the answer arrives whole")
    }

    /// Sends a POST with a body of this type; an error means that no answer came.
    pub(crate) async fn try_post(&self, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> reqwest::Result<Answer> {
        let mut request = self.client.post(url).body(body).timeout(DEADLINE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await?).await
    }

    /// Sends a POST with a body of this type.
    pub(crate) async fn post(&self, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.try_post(url, headers, body).await.expect("the server answers")
    }

    /// Has everything written in its final form.
    pub(crate) async fn flush(&self) {
        self.post(&self.url("/api/v1/admin/flush"), &[], Vec::new()).await.ok();
    }

    /// Returns the data of a successful answer.
    pub(crate) async fn data(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.get(path, query).await.ok().json();
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// Returns one of the server's own metrics: the sum over its series whose labels contain `labels`.
    pub(crate) async fn own_metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics", &[]).await.ok().text();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let ours = series.filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|l| line.contains(l))
        });
        ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}
