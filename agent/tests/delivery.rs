//! The whole agent against an OTLP server that fails, stalls, refuses and comes back.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::{Config, Deps};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use parking_lot::Mutex;
use prost::Message;
use runtime::{Clock, Ledger, Shutdown, Telemetry};
use tonic::{Code, Request, Response, Status};

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Take,
    Refuse(Code),
    /// Never answers.
    Stall,
    /// Takes it, but never says so.
    TakeAndStall,
    /// Rejects one record of each request.
    RejectOne,
}

#[derive(Debug, Clone)]
struct Server {
    mode: Arc<Mutex<Mode>>,
    logs: Arc<Mutex<Vec<Vec<u8>>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    requests: Arc<Mutex<usize>>,
    addr: SocketAddr,
}

#[tonic::async_trait]
impl LogsService for Server {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        *self.requests.lock() += 1;
        let mode = *self.mode.lock();
        if mode == Mode::Stall {
            std::future::pending::<()>().await;
        }
        if let Mode::Refuse(code) = mode {
            return Err(Status::new(code, "on purpose"));
        }
        self.logs.lock().push(request.into_inner().encode_to_vec());
        if mode == Mode::TakeAndStall {
            std::future::pending::<()>().await;
        }
        let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "one".to_owned() };
        let partial_success = (mode == Mode::RejectOne).then_some(partial);
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl MetricsService for Server {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Server {
    async fn start(mode: Mode) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            mode: Arc::new(Mutex::new(mode)),
            logs: Arc::default(),
            metrics: Arc::default(),
            requests: Arc::default(),
            addr: listener.local_addr().unwrap(),
        };
        use tonic::codec::CompressionEncoding::Gzip;
        let logs = LogsServiceServer::new(server.clone()).accept_compressed(Gzip);
        let metrics = MetricsServiceServer::new(server.clone()).accept_compressed(Gzip);
        let router = tonic::transport::Server::builder().add_service(logs).add_service(metrics);
        tokio::spawn(router.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)));
        server
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// The bodies of all log records, in the order they came.
    fn lines(&self) -> Vec<String> {
        let requests = self.logs.lock().clone();
        let mut lines = Vec::new();
        for request in requests {
            let request = ExportLogsServiceRequest::decode(request.as_slice()).unwrap();
            let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
            for record in scopes.flat_map(|scope| scope.log_records) {
                match record.body.and_then(|body| body.value) {
                    Some(Value::StringValue(text)) => lines.push(text),
                    other => panic!("{other:?}"),
                }
            }
        }
        lines
    }
}

struct Agent {
    shutdown: Shutdown,
    ledger: Ledger,
    telemetry: Telemetry,
    task: tokio::task::JoinHandle<agent::Result<()>>,
}

impl Agent {
    fn start(config: &Config) -> Self {
        let telemetry = Telemetry::new();
        let ledger = Ledger::new(&telemetry);
        let shutdown = Shutdown::new();
        let deps = Deps {
            clock: Clock::system(),
            telemetry: telemetry.clone(),
            ledger: ledger.clone(),
            shutdown: shutdown.clone(),
        };
        let task = tokio::spawn(agent::run(config.clone(), deps));
        Self { shutdown, ledger, telemetry, task }
    }

    async fn stop(self) {
        self.shutdown.start();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("stops in time").unwrap().unwrap();
    }

    /// `received accepted [(reason, n)]` of a place.
    fn counts(&self, place: &str) -> (u64, u64, Vec<(String, u64)>) {
        let entry = self.ledger.entries().into_iter().find(|entry| entry.place == place && entry.signal == "logs");
        entry.map_or((0, 0, Vec::new()), |entry| (entry.received, entry.accepted, entry.dropped))
    }
}

fn config(dir: &Path, addr: SocketAddr) -> Config {
    let mut config = Config { endpoint: format!("http://{addr}"), state_dir: dir.join("state"), ..Config::default() };
    config.host.enabled = false;
    config.journald.enabled = false;
    config.file.include = vec![format!("{}/*.log", dir.display())];
    config.file.poll_interval = Duration::from_millis(10);
    config.file.discover_interval = Duration::from_millis(20);
    config.file.rotate_wait = Duration::from_millis(50);
    config.buffer.batch_wait = Duration::from_millis(10);
    config.sender.timeout = Duration::from_millis(300);
    config.sender.backoff_min = Duration::from_millis(10);
    config.sender.backoff_max = Duration::from_millis(50);
    config.sender.drain_timeout = Duration::from_millis(500);
    config
}

fn append(dir: &Path, range: std::ops::Range<usize>) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("app.log")).unwrap();
    for i in range {
        writeln!(file, "line {i:05}").unwrap();
    }
}

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("line {i:05}")).collect()
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) -> impl Future<Output = ()> {
    let what = what.to_owned();
    async move {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < until, "{what} did not come about");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_and_restarts_lose_nothing_and_keep_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Refuse(Code::Unavailable)).await;
    let config = config(dir.path(), server.addr);
    append(dir.path(), 0..1000);
    let agent = Agent::start(&config);
    eventually("a request", || *server.requests.lock() > 2).await;
    server.set(Mode::Stall);
    append(dir.path(), 1000..2000);
    agent.stop().await;

    append(dir.path(), 2000..2500);
    std::fs::rename(dir.path().join("app.log"), dir.path().join("app.log.1")).unwrap();
    append(dir.path(), 2500..3000);
    let agent = Agent::start(&config);
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.set(Mode::Take);
    eventually("all lines", || server.lines().len() >= 3000).await;
    append(dir.path(), 3000..3100);
    eventually("the last lines", || server.lines().len() >= 3100).await;
    let mut got = server.lines();
    // Two files were read at the second start; each is in order.
    assert_eq!(got[..1000], lines(0..1000));
    got.sort();
    assert_eq!(got, lines(0..3100));
    let (received, accepted, dropped) = agent.counts("agent_sender");
    assert_eq!((received, accepted, dropped), (3100, 3100, vec![]));
    agent.stop().await;

    let agent = Agent::start(&config);
    append(dir.path(), 3100..3101);
    eventually("one more line", || server.lines().len() >= 3101).await;
    assert_eq!(server.lines().len(), 3101);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_sent_again_is_the_same_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::TakeAndStall).await;
    let config = config(dir.path(), server.addr);
    append(dir.path(), 0..10);
    let agent = Agent::start(&config);
    eventually("a second attempt", || server.logs.lock().len() >= 2).await;
    agent.stop().await;
    server.set(Mode::Take);
    let agent = Agent::start(&config);
    let before = server.logs.lock().len();
    eventually("the batch after a restart", || server.logs.lock().len() > before).await;
    let requests = server.logs.lock().clone();
    assert!(requests.iter().all(|request| *request == requests[0]));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_endpoint_rejects_is_counted_and_does_not_hold_up_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Refuse(Code::InvalidArgument)).await;
    let config = config(dir.path(), server.addr);
    append(dir.path(), 0..10);
    let agent = Agent::start(&config);
    eventually("a refusal", || agent.counts("agent_sender").2 == [("invalid_argument".to_owned(), 10)]).await;
    server.set(Mode::RejectOne);
    append(dir.path(), 10..20);
    eventually("a partial success", || agent.counts("agent_sender").1 >= 1).await;
    eventually("all lines", || agent.counts("agent_sender").0 == 20).await;
    let (received, accepted, dropped) = agent.counts("agent_sender");
    assert_eq!(received, accepted + dropped.iter().map(|(_, n)| n).sum::<u64>());
    assert!(dropped.iter().any(|(reason, n)| reason == "rejected" && *n >= 1), "{dropped:?}");
    assert_eq!(agent.counts("agent_file"), (20, 20, vec![]));
    assert!(agent.telemetry.render().contains("daybook_agent_buffer_batches{signal=\"logs\"} 0"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scraped_target_comes_with_up_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Take).await;
    let page = Arc::new(Mutex::new("# TYPE c_total counter\nc_total{a=\"b\"} 5\n".to_owned()));
    let target = serve(Arc::clone(&page)).await;
    let mut config = config(dir.path(), server.addr);
    config.file.enabled = false;
    let json = format!(r#"{{"url":"http://{target}/metrics","job":"j","interval":"50ms","timeout":"50ms"}}"#);
    config.scrape.targets = vec![serde_json::from_str(&json).unwrap()];
    let agent = Agent::start(&config);
    let points = |name: &str| -> Vec<(Option<f64>, u32)> {
        let requests = server.metrics.lock();
        let resources = requests.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        let data = metrics.filter(|metric| metric.name == name).map(|metric| match &metric.data {
            Some(Data::Gauge(gauge)) => &gauge.data_points,
            Some(Data::Sum(sum)) => &sum.data_points,
            other => panic!("{other:?}"),
        });
        let value = |value: &Option<number_data_point::Value>| match value {
            Some(number_data_point::Value::AsDouble(value)) => Some(*value),
            _ => None,
        };
        data.flatten().map(|point| (value(&point.value), point.flags)).collect()
    };
    eventually("a sample", || points("c_total").contains(&(Some(5.0), 0))).await;
    assert!(points("up").contains(&(Some(1.0), 0)));
    "broken{".clone_into(&mut page.lock());
    eventually("up 0", || points("up").contains(&(Some(0.0), 0))).await;
    assert!(points("c_total").contains(&(None, 1)));
    let resource = server.metrics.lock()[0].resource_metrics[0].resource.clone().unwrap();
    let get = |key: &str| resource.attributes.iter().find(|have| have.key == key).unwrap().value.clone().unwrap().value;
    assert_eq!(get("service.name"), Some(Value::StringValue("j".to_owned())));
    assert_eq!(get("service.instance.id"), Some(Value::StringValue(target.to_string())));
    agent.stop().await;
}

/// Serves a page over HTTP/1.1, one request a connection.
async fn serve(page: Arc<Mutex<String>>) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_err() {
                continue;
            }
            let body = page.lock().clone();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_host_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Take).await;
    let mut config = config(dir.path(), server.addr);
    config.file.enabled = false;
    config.host.enabled = true;
    let agent = Agent::start(&config);
    eventually("a reading", || !server.metrics.lock().is_empty()).await;
    agent.stop().await;
    let request = server.metrics.lock()[0].clone();
    let names: Vec<&str> =
        request.resource_metrics[0].scope_metrics[0].metrics.iter().map(|m| m.name.as_str()).collect();
    for name in ["system.cpu.time", "system.memory.usage", "system.cpu.load_average.1m", "system.network.io"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn two_agents_do_not_share_a_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Take).await;
    let config = config(dir.path(), server.addr);
    let first = Agent::start(&config);
    eventually("the lock", || dir.path().join("state/LOCK").exists()).await;
    let deps = Deps {
        clock: Clock::system(),
        telemetry: Telemetry::new(),
        ledger: Ledger::new(&Telemetry::new()),
        shutdown: Shutdown::new(),
    };
    assert!(matches!(agent::run(config, deps).await, Err(agent::Error::Locked { .. })));
    first.stop().await;
}
