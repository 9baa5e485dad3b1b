//! Acknowledged means durable: `kill -9`, torn logs and damaged blocks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::harness::metrics::{WRITE_HEADERS, series, write_body};
use super::harness::{Builder, Random, Server, logs, now_ms, until};

/// How often the server is killed.
const KILLS: u32 = 200;
/// Records in one request.
const BATCH: i64 = 50;
/// Of so many acknowledged requests with lines, one is followed by a delete of earlier ones.
const DELETE_EVERY: u64 = 24;

/// A sender of sequence-numbered records of one signal: record `n` is sent in order, at its own time, until acknowledged.
struct Sender {
    signal: Signal,
    writer: usize,
    base_ms: i64,
    /// First sequence number that is not acknowledged.
    next: i64,
    /// Those whose delete was acknowledged.
    deleted: HashSet<i64>,
    /// A delete that is not acknowledged yet.
    deleting: Option<Delete>,
    random: Random,
}

/// A delete of lines by time, and perhaps by their text.
#[derive(Debug, Clone, Copy)]
struct Delete {
    from: i64,
    /// Behind the last one.
    to: i64,
    /// Only lines that end with this digit.
    digit: Option<i64>,
}

impl Delete {
    /// Chooses among what was acknowledged.
    fn choose(random: &mut Random, next: i64) -> Self {
        let place =
            |random: &mut Random, most: i64| i64::try_from(random.between(0, most.unsigned_abs())).expect("fits");
        let from = place(random, next);
        let digit = (random.between(0, 2) == 0).then(|| place(random, 10));
        Self { from, to: (from + 1 + place(random, 3 * BATCH)).min(next), digit }
    }

    fn means(self) -> impl Iterator<Item = i64> {
        (self.from..self.to).filter(move |seq| self.digit.is_none_or(|digit| seq % 10 == digit))
    }

    fn params(self, sender: &Sender) -> [(&'static str, String); 3] {
        let filter = self.digit.map(|digit| format!(" |~ \"{digit}$\"")).unwrap_or_default();
        let at = |seq: i64| ((sender.base_ms + seq) * 1_000_000).to_string();
        [
            ("query", format!("{{service_name=\"seq\", writer=\"{}\"}}{filter}", sender.writer)),
            ("start", at(self.from)),
            ("end", at(self.to - 1)),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Metrics,
    Logs,
}

/// Where a sender sends to.
#[derive(Clone)]
struct Target {
    client: reqwest::Client,
    write: String,
    push: String,
    delete: String,
}

impl Target {
    fn of(server: &Server) -> Self {
        Self {
            client: server.client().clone(),
            write: server.url("/api/v1/write"),
            push: server.url("/loki/api/v1/push"),
            delete: server.url("/loki/api/v1/delete"),
        }
    }
}

impl Sender {
    fn request(&self) -> (Vec<(&'static str, &'static str)>, Vec<u8>) {
        let records = self.next..self.next + BATCH;
        let writer = self.writer.to_string();
        match self.signal {
            Signal::Metrics => {
                #[expect(clippy::cast_precision_loss, reason = "a sequence number")]
                let samples: Vec<_> = records.map(|seq| (self.base_ms + seq, seq as f64)).collect();
                let labels = [("__name__", "seq"), ("writer", writer.as_str())];
                (WRITE_HEADERS.to_vec(), write_body(vec![series(&labels, &samples)]))
            }
            Signal::Logs => {
                let lines: Vec<_> =
                    records.map(|seq| ((self.base_ms + seq) * 1_000_000, format!("seq={seq}"))).collect();
                let labels = json!({ "service_name": "seq", "writer": writer });
                (vec![("content-type", "application/json")], logs::loki_json(&labels, &lines))
            }
        }
    }

    /// Sends a delete, if one is due; says whether the server is still there.
    async fn delete(&mut self, target: &Target) -> bool {
        let Some(delete) = self.deleting else { return true };
        match target.client.post(&target.delete).query(&delete.params(self)).send().await {
            Ok(response) if response.status() == 204 => {
                self.deleted.extend(delete.means());
                self.deleting = None;
                true
            }
            Ok(response) => panic!("delete: {} {:?}", response.status(), response.text().await),
            Err(_) => false,
        }
    }

    /// Sends batches and deletes until the server is gone. What has no answer is sent again after the restart.
    async fn send_until_killed(mut self, target: Target) -> Self {
        loop {
            if !self.delete(&target).await {
                return self;
            }
            let (headers, body) = self.request();
            let url = if self.signal == Signal::Metrics { &target.write } else { &target.push };
            let mut request = target.client.post(url).body(body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            match request.send().await {
                Ok(response) if response.status().is_success() => {
                    self.next += BATCH;
                    if self.signal == Signal::Logs && self.random.between(0, DELETE_EVERY) == 0 {
                        self.deleting = Some(Delete::choose(&mut self.random, self.next));
                    }
                }
                // The small heads are full: told to come back later, a sender does.
                Ok(response) if matches!(response.status().as_u16(), 429 | 503) => {
                    assert!(response.headers().contains_key("retry-after"), "{response:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(response) => panic!("{:?}: {} {:?}", self.signal, response.status(), response.text().await),
                Err(_) => return self,
            }
        }
    }

    /// Compares what the server has with what it acknowledged. Records of the batch in flight may be there or not, but
    /// none twice.
    async fn check(&self, server: &Server) {
        let end_ms = self.base_ms + self.next + BATCH;
        let found: Vec<(i64, i64)> = match self.signal {
            Signal::Metrics => {
                let selector = format!("seq{{writer=\"{}\"}}[1d]", self.writer);
                let samples = server.samples(&selector, end_ms).await;
                assert!(samples.len() <= 1, "one series: {:?}", samples.keys());
                #[expect(clippy::cast_possible_truncation, reason = "a sequence number")]
                samples.into_values().flatten().map(|(at, value)| (at - self.base_ms, value as i64)).collect()
            }
            Signal::Logs => {
                let selector = format!("{{service_name=\"seq\",writer=\"{}\"}}", self.writer);
                let range = (self.base_ms * 1_000_000, end_ms * 1_000_000);
                let seq =
                    |line: &str| line.strip_prefix("seq=").and_then(|seq| seq.parse().ok()).expect("our own line");
                let lines = server.all_lines(&selector, range).await;
                lines.into_iter().map(|(at, line)| (at / 1_000_000 - self.base_ms, seq(&line))).collect()
            }
        };
        let who = format!("{:?} {}", self.signal, self.writer);
        let found_all: HashSet<i64> = found.iter().map(|(_, seq)| *seq).collect();
        // A delete in flight deleted all that it means, or nothing.
        let open: Vec<i64> = self.deleting.iter().flat_map(|delete| delete.means()).collect();
        let open: Vec<i64> = open.into_iter().filter(|seq| !self.deleted.contains(seq)).collect();
        let still = open.iter().filter(|seq| found_all.contains(seq)).count();
        assert!(still == 0 || still == open.len(), "{who}: {still} of {} are left of a delete", open.len());
        let gone: HashSet<i64> = open.into_iter().filter(|_| still == 0).collect();
        let mut expected = (0..).filter(|seq| !self.deleted.contains(seq) && !gone.contains(seq));
        for (at, seq) in &found {
            let expected = expected.next().expect("numbers do not end");
            assert_eq!((*at, *seq), (expected, expected), "{who}: lost, doubled, or deleted and there, here");
        }
        let behind = expected.next().expect("numbers do not end");
        assert!(behind >= self.next, "{who}: {} acknowledged, all from {behind} on is missing", self.next);
        // The batch in flight is there as a whole, or not at all.
        assert!([self.next, self.next + BATCH].contains(&behind), "{who}: {} acknowledged, {behind} found", self.next);
    }
}

fn senders() -> Vec<Sender> {
    let base_ms = now_ms() - 3_600_000;
    let sender = |(writer, signal)| Sender {
        signal,
        writer,
        base_ms,
        next: 0,
        deleted: HashSet::new(),
        deleting: None,
        random: Random::new(writer as u64 + 1),
    };
    [Signal::Metrics, Signal::Metrics, Signal::Logs, Signal::Logs].into_iter().enumerate().map(sender).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let mut random = Random::from_env();
    // Small heads and flushes on request, so that kills also hit flushes and compactions.
    let builder = Builder::new().flag("metrics-head-bytes", "1MiB").flag("logs-head-bytes", "1MiB");
    let mut server = builder.start().await;
    let mut senders = senders();
    for round in 0..KILLS {
        let target = Target::of(&server);
        let sending: Vec<_> =
            senders.drain(..).map(|sender| tokio::spawn(sender.send_until_killed(target.clone()))).collect();
        let flushing = (round % 3 == 0).then(|| {
            let flush = server.client().post(server.url("/api/v1/admin/flush"));
            tokio::spawn(async move { flush.send().await.is_ok() })
        });
        tokio::time::sleep(Duration::from_millis(random.between(5, 250))).await;
        server.kill();
        for task in sending {
            senders.push(task.await.expect("a sender does not panic"));
        }
        if let Some(task) = flushing {
            task.await.expect("a request does not panic");
        }
        server.restart().await;
        if round % 20 == 19 {
            for sender in &senders {
                sender.check(&server).await;
            }
        }
    }
    for sender in &senders {
        sender.check(&server).await;
        assert!(sender.next > 0, "{:?}: the load never got through", sender.signal);
    }
    let sent: Vec<_> = senders.iter().map(|sender| (sender.next, sender.deleted.len())).collect();
    println!("{KILLS} kills, acknowledged records, and deleted ones of them, per sender: {sent:?}");
    assert!(senders.iter().any(|sender| !sender.deleted.is_empty()), "no delete ever got through");
    server.stop().await;
    server.restart().await;
    for sender in &senders {
        sender.check(&server).await;
    }
}

#[tokio::test]
async fn a_repeated_batch_is_stored_once() {
    let mut server = Server::start().await;
    let senders = senders();
    for after_restart in [false, true] {
        if after_restart {
            server.kill();
            server.restart().await;
        }
        for sender in &senders {
            let (headers, body) = sender.request();
            let path = if sender.signal == Signal::Metrics { "/api/v1/write" } else { "/loki/api/v1/push" };
            server.post(&server.url(path), &headers, body.clone()).await.ok();
            server.post(&server.url(path), &headers, body).await.ok();
            sender.check(&server).await;
        }
    }
    server.flush().await;
    for sender in &senders {
        let (headers, body) = sender.request();
        let path = if sender.signal == Signal::Metrics { "/api/v1/write" } else { "/loki/api/v1/push" };
        server.post(&server.url(path), &headers, body).await.ok();
        sender.check(&server).await;
    }
}

/// Returns all files below `dir` whose path holds `part`, sorted.
fn files(dir: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("the folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().contains(part) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn write_one(server: &Server, name: &str, at_ms: i64) {
    server.remote_write(vec![series(&[("__name__", name)], &[(at_ms, 1.0)])]).await.ok();
    let line = (at_ms * 1_000_000, format!("line of {name}"));
    server.loki_push(&json!({ "service_name": name }), &[line]).await.ok();
}

async fn has_one(server: &Server, name: &str, at_ms: i64) -> bool {
    let samples = server.samples(&format!("{name}[1m]"), at_ms).await.len();
    let range = ((at_ms - 1000) * 1_000_000, (at_ms + 1000) * 1_000_000);
    let lines = server.lines(&format!("{{service_name=\"{name}\"}}"), range, 10).await.len();
    assert_eq!(samples, lines, "{name}: both or none");
    samples == 1
}

#[tokio::test]
async fn a_torn_wal_tail_is_cut_off_and_told() {
    let mut server = Server::start().await;
    let at = now_ms();
    write_one(&server, "before", at).await;
    server.kill();
    let segments = files(&server.dir().join("wal"), ".wal");
    assert!(!segments.is_empty(), "there is a log");
    for segment in &segments {
        let mut bytes = std::fs::read(segment).expect("a segment can be read");
        // The beginning of a record, as a crash in the middle of a write leaves it.
        bytes.extend_from_slice(&[0xdb, 0x57, 0xa1, 0x0e, 0xff, 0, 0, 0, 1, 2, 3]);
        std::fs::write(segment, bytes).expect("a segment can be written");
    }
    server.restart().await;
    assert!(has_one(&server, "before", at).await);
    write_one(&server, "after", at).await;
    server.kill();
    server.restart().await;
    assert!(has_one(&server, "before", at).await && has_one(&server, "after", at).await);
}

#[tokio::test]
async fn a_damaged_wal_record_costs_that_record_only_and_is_told() {
    let mut server = Server::start().await;
    let at = now_ms();
    // The server's own first events are a record, too; they come before ours.
    let started = (at - 60_000) * 1_000_000;
    until("the server's own events", async || {
        let own = server.lines("{service_name=\"daybook\"}", (started, (at + 60_000) * 1_000_000), 100).await;
        own.iter().any(|(_, line)| line.contains("ready")).then_some(())
    })
    .await;
    write_one(&server, "first", at).await;
    write_one(&server, "second", at).await;
    let segments = files(&server.dir().join("wal"), ".wal");
    let ends: Vec<_> = segments.iter().map(|path| path.metadata().expect("a file has a length").len()).collect();
    write_one(&server, "third", at).await;
    server.kill();
    for (segment, end) in segments.iter().zip(ends) {
        let mut bytes = std::fs::read(segment).expect("a segment can be read");
        // The last byte of what was the last record, and is followed by another now.
        bytes[usize::try_from(end).expect("fits") - 1] ^= 0x20;
        std::fs::write(segment, bytes).expect("a segment can be written");
    }
    server.restart().await;
    assert!(has_one(&server, "first", at).await && has_one(&server, "third", at).await);
    assert!(!has_one(&server, "second", at).await, "what is damaged is not shown");
    assert!(!server.complaints().is_empty(), "damage to acknowledged data is told");
}

#[tokio::test]
async fn a_corrupted_block_is_told_and_the_rest_is_answered() {
    let mut server = Server::start().await;
    let (old, new) = (now_ms() - 30 * 86_400_000, now_ms());
    for (name, at) in [("old", old), ("new", new)] {
        let samples: Vec<_> = (0..500).map(|i| (at - i * 1000, f64::from(i32::try_from(i).unwrap()))).collect();
        server.remote_write(vec![series(&[("__name__", name)], &samples)]).await.ok();
        let lines: Vec<_> = samples.iter().map(|(at, value)| (at * 1_000_000, format!("{name} {value}"))).collect();
        server.loki_push(&json!({ "service_name": name }), &lines).await.ok();
        server.flush().await;
    }
    server.stop().await;
    for part in ["samples.parquet", "rows.parquet"] {
        let blocks = files(server.dir(), part);
        assert!(blocks.len() >= 2, "a block per flush, as the times are a month apart: {blocks:?}");
        let mut bytes = std::fs::read(&blocks[0]).expect("a block can be read");
        let from = 4;
        let to = bytes.len() / 2;
        bytes[from..to].fill(0xff);
        std::fs::write(&blocks[0], bytes).expect("a block can be written");
    }
    server.restart().await;
    let newest = server.samples("new[10m]", new).await;
    assert_eq!(newest.values().map(Vec::len).sum::<usize>(), 500, "an intact block is answered");
    let range = ((new - 600_000) * 1_000_000, (new + 1) * 1_000_000);
    assert_eq!(server.lines("{service_name=\"new\"}", range, 1000).await.len(), 500);

    let at = super::harness::metrics::seconds(old);
    let answer = server.get("/api/v1/query", &[("query", "old[10m]"), ("time", &at)]).await;
    let told = answer.status >= 500 || answer.text().contains("warnings") || !server.complaints().is_empty();
    assert!(told, "a damaged block is not passed over in silence: {} {}", answer.status, answer.text());
    let start = ((old - 600_000) * 1_000_000).to_string();
    let end = ((old + 1) * 1_000_000).to_string();
    let params = [("query", "{service_name=\"old\"}"), ("start", start.as_str()), ("end", end.as_str())];
    let answer = server.get("/loki/api/v1/query_range", &params).await;
    let told = answer.status >= 500 || answer.text().contains("warnings") || !server.complaints().is_empty();
    assert!(told, "a damaged block is not passed over in silence: {} {}", answer.status, answer.text());
    assert!(server.is_alive());
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let server = Server::start().await;
    let output = super::harness::daybook()
        .args([
            "serve",
            "--http-addr",
            "127.0.0.1:0",
            "--otlp-grpc-addr",
            "127.0.0.1:0",
            "--otlp-http-addr",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(server.dir())
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(text.to_lowercase().contains("lock") || text.contains("in use"), "{text}");
}

#[tokio::test]
async fn flushed_data_and_new_data_are_one_answer() {
    let server = Server::start().await;
    let at = now_ms();
    server.remote_write(vec![series(&[("__name__", "mixed")], &[(at - 2000, 1.0)])]).await.ok();
    server.flush().await;
    server.remote_write(vec![series(&[("__name__", "mixed")], &[(at - 1000, 2.0)])]).await.ok();
    let samples = server.samples("mixed[1m]", at).await;
    assert_eq!(samples.into_values().collect::<Vec<_>>(), [vec![(at - 2000, 1.0), (at - 1000, 2.0)]]);
    until("blocks on disk", async || (!files(server.dir(), "samples.parquet").is_empty()).then_some(())).await;
}
