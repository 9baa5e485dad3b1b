//! Following files: what ends up in the buffer, line by line.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use runtime::{Signal, Telemetry};

use super::*;
use crate::buffer::{Queue, QueueOptions};
use crate::checkpoint::Checkpoints;

/// A tailer on a directory of its own, driven round by round.
struct Rig {
    dir: tempfile::TempDir,
    config: FileConfig,
    bytes_max: u64,
    running: Option<Running>,
}

struct Running {
    tailer: Tailer,
    queue: Arc<Queue>,
    telemetry: Telemetry,
    ledger: Ledger,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let config = FileConfig {
            include: vec![format!("{}/log/**/*.log", dir.path().display())],
            flush_timeout: Duration::from_secs(60),
            rotate_wait: Duration::ZERO,
            discover_interval: Duration::ZERO,
            ..FileConfig::default()
        };
        Self { dir, config, bytes_max: 64 << 20, running: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn start(&mut self) {
        let telemetry = Telemetry::new();
        let (ledger, stats) = (Ledger::new(&telemetry), Stats::new(&telemetry));
        let state = self.dir.path().join("state");
        fs::create_dir_all(&state).unwrap();
        let checkpoints = Arc::new(Checkpoints::open(&state).unwrap());
        let options = QueueOptions {
            dir: state.join("buffer"),
            signal: Signal::Logs,
            bytes_max: self.bytes_max,
            seq_floor: checkpoints.seq(),
        };
        let queue = Queue::open(options, &ledger, &stats, &mut |seq, meta| checkpoints.replay(seq, meta)).unwrap();
        let sink = LogSink { queue: Arc::clone(&queue), checkpoints, ledger: ledger.clone() };
        let tailer = Tailer::new(Options {
            config: self.config.clone(),
            buffer: BufferConfig { batch_wait: Duration::ZERO, ..BufferConfig::default() },
            sink,
            clock: Clock::fixed(1_795_255_200_000_000_000),
            stats,
            ledger: ledger.clone(),
            base: vec![("host.name".to_owned(), "h".to_owned())],
            extra: Vec::new(),
        })
        .unwrap();
        self.running = Some(Running { tailer, queue, telemetry, ledger });
    }

    /// Ends as a crash does: nothing is saved that was not.
    fn crash(&mut self) {
        self.running = None;
    }

    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.tailer.stop();
        }
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("started")
    }

    /// Reads until nothing is left to read, and returns what that brought into the buffer.
    fn read(&mut self) -> Vec<String> {
        let running = self.running();
        for _ in 0..10_000 {
            let mut idle = true;
            for _ in 0..2 {
                running.tailer.next_discovery = Instant::now();
                running.tailer.save_not_before = Instant::now();
                idle &= running.tailer.round() == Round::Idle;
            }
            if idle {
                break;
            }
        }
        self.take()
    }

    /// Takes what is in the buffer, acknowledging it.
    fn take(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for record in self.take_records() {
            match record.body.and_then(|body| body.value) {
                Some(Value::StringValue(text)) => lines.push(text),
                other => panic!("{other:?} is no text"),
            }
        }
        lines
    }

    fn take_records(&mut self) -> Vec<opentelemetry_proto::tonic::logs::v1::LogRecord> {
        let queue = Arc::clone(&self.running().queue);
        let mut records = Vec::new();
        while let Some(entry) = queue.front() {
            let request = ExportLogsServiceRequest::decode(entry.request).unwrap();
            let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
            let before = records.len();
            records.extend(scopes.flat_map(|scope| scope.log_records));
            assert_eq!(records.len() - before, entry.items as usize);
            queue.ack(entry.seq);
        }
        records
    }

    fn metric(&mut self, line: &str) -> f64 {
        let text = self.running().telemetry.render();
        let found = text.lines().find_map(|have| have.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

fn numbers(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("line {i}\n")).collect()
}

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("line {i}")).collect()
}

#[test]
fn what_is_there_and_what_comes_is_read_once() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..1000));
    rig.append("a.txt", "not wanted\n");
    rig.start();
    assert_eq!(rig.read(), lines(0..1000));
    rig.append("a.log", numbers(1000..1003));
    rig.append("b.log", "b\r\n\n");
    let mut got = rig.read();
    got.sort();
    assert_eq!(got, [vec!["b".to_owned()], lines(1000..1003)].concat());
    assert_eq!(rig.read(), Vec::<String>::new());
    let entry = rig.running().ledger.entries().remove(0);
    assert_eq!((entry.received, entry.accepted, entry.dropped), (1005, 1004, vec![("empty".to_owned(), 1)]));
}

#[test]
fn an_unfinished_line_waits_for_its_end() {
    let mut rig = Rig::new();
    rig.append("a.log", "one\ntw");
    rig.start();
    assert_eq!(rig.read(), ["one"]);
    rig.append("a.log", "o\n");
    assert_eq!(rig.read(), ["two"]);
    rig.append("a.log", "thr");
    assert_eq!(rig.read(), Vec::<String>::new());
    rig.running().tailer.shared.config.flush_timeout = Duration::ZERO;
    assert_eq!(rig.read(), ["thr"]);
    rig.append("a.log", "ee\n");
    assert_eq!(rig.read(), ["ee"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..10));
    rig.start();
    assert_eq!(rig.read(), lines(0..10));
    rig.append("a.log", "last of old\n");
    let mut late = OpenOptions::new().append(true).open(rig.path("a.log")).unwrap();
    fs::rename(rig.path("a.log"), rig.path("a.log.1")).unwrap();
    late.write_all(b"later still, no newline").unwrap();
    rig.append("a.log", "first of new\n");
    let mut got = rig.read();
    got.sort();
    assert_eq!(got, ["first of new", "last of old", "later still, no newline"]);
    assert_eq!(rig.read(), Vec::<String>::new());
    assert_eq!(rig.running().tailer.files.len(), 1);
}

#[test]
fn a_renamed_file_that_still_matches_is_followed_under_its_new_name() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..10));
    rig.start();
    rig.read();
    fs::rename(rig.path("a.log"), rig.path("a-1.log")).unwrap();
    rig.append("a-1.log", "more\n");
    rig.append("a.log", numbers(0..3));
    let mut got = rig.read();
    got.sort();
    assert_eq!(got, ["line 0", "line 1", "line 2", "more"]);
}

#[test]
fn a_truncated_file_is_read_from_its_beginning() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..10));
    rig.start();
    rig.read();
    fs::write(rig.path("a.log"), "new 1\n").unwrap();
    assert_eq!(rig.read(), ["new 1"]);
    // Grown beyond the old position before anyone looked.
    let longer: String = (0..100).map(|i| format!("newer {i}\n")).collect();
    fs::write(rig.path("a.log"), &longer).unwrap();
    assert_eq!(rig.read(), longer.lines().collect::<Vec<_>>());
    assert_eq!(rig.metric(r#"daybook_agent_file_rotations_total{kind="truncate"}"#), 2.0);
}

#[test]
fn copytruncate_loses_and_repeats_nothing() {
    let mut rig = Rig::new();
    rig.config.include.push(format!("{}/log/*.log.1", rig.dir.path().display()));
    rig.append("a.log", numbers(0..100));
    rig.start();
    assert_eq!(rig.read(), lines(0..100));
    rig.append("a.log", numbers(100..105));
    fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
    rig.running().tailer.files.values_mut().for_each(|file| assert!(file.close()));
    rig.running().tailer.open_count = 0;
    OpenOptions::new().write(true).open(rig.path("a.log")).unwrap().set_len(0).unwrap();
    rig.append("a.log", numbers(105..110));
    let mut got = rig.read();
    got.extend(rig.read());
    got.sort();
    assert_eq!(got, lines(100..110));
}

#[test]
fn a_copy_of_a_file_that_goes_on_is_a_file_of_its_own() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..5));
    rig.start();
    rig.read();
    fs::copy(rig.path("a.log"), rig.path("a-2.log")).unwrap();
    let got: Vec<String> = (0..6).flat_map(|_| rig.read()).collect();
    assert_eq!(got, lines(0..5));
}

#[test]
fn an_inode_used_again_is_a_new_file() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..50));
    rig.start();
    rig.read();
    rig.stop();
    // The same inode with other content stands for one that was deleted and given out again.
    fs::write(rig.path("a.log"), "quite another file that is as long\n".repeat(40)).unwrap();
    fs::rename(rig.path("a.log"), rig.path("b.log")).unwrap();
    rig.start();
    assert_eq!(rig.read().len(), 40);
    assert_eq!(rig.metric(r#"daybook_agent_file_rotations_total{kind="inode_reused"}"#), 1.0);
}

#[test]
fn restarts_lose_and_repeat_nothing() {
    let mut rig = Rig::new();
    let mut got = Vec::new();
    rig.append("a.log", numbers(0..100));
    for i in 1..8 {
        rig.start();
        got.extend(rig.read());
        rig.append("a.log", numbers(i * 100..i * 100 + 50));
        if i % 3 == 0 {
            fs::rename(rig.path("a.log"), rig.path(&format!("a.log.{i}"))).unwrap();
        }
        rig.append("a.log", numbers(i * 100 + 50..(i + 1) * 100));
        if i % 2 == 0 { rig.stop() } else { rig.crash() }
    }
    rig.start();
    got.extend(rig.read());
    got.sort();
    let mut expected = lines(0..800);
    expected.sort();
    assert_eq!(got, expected);
}

#[test]
fn what_is_in_the_buffer_is_not_read_again_after_a_crash() {
    let mut rig = Rig::new();
    rig.append("a.log", numbers(0..10));
    rig.start();
    for _ in 0..3 {
        rig.running().tailer.round();
    }
    rig.crash();
    rig.append("a.log", numbers(10..20));
    rig.start();
    assert_eq!(rig.read(), lines(0..20));
}

#[test]
fn a_full_buffer_stops_the_reading_and_loses_nothing() {
    let mut rig = Rig::new();
    rig.bytes_max = 4 << 20;
    let line = "x".repeat(1000);
    let text: String = (0..20_000).map(|i| format!("{i:06} {line}\n")).collect();
    rig.append("a.log", &text);
    rig.start();
    let mut got = Vec::new();
    let mut blocked = 0;
    for _ in 0..2000 {
        if rig.running().tailer.round() == Round::Blocked {
            blocked += 1;
            let offset = rig.running().tailer.files.values().next().unwrap().mark.offset;
            rig.running().tailer.round();
            assert_eq!(rig.running().tailer.files.values().next().unwrap().mark.offset, offset);
            assert!(rig.running().queue.front().is_some());
            got.extend(rig.take());
            rig.running().queue.trim();
        }
        if got.len() == 20_000 {
            break;
        }
        if rig.running().tailer.round() == Round::Idle {
            got.extend(rig.take());
        }
    }
    assert!(blocked > 2, "{blocked}");
    assert!(rig.metric("daybook_agent_buffer_bytes{signal=\"logs\"}") <= f64::from(4 << 20));
    assert_eq!(got.len(), 20_000);
    assert!(got.iter().enumerate().all(|(i, line)| line.starts_with(&format!("{i:06} "))));
}

#[test]
fn overlong_lines_keep_their_beginning_and_count_the_rest() {
    let mut rig = Rig::new();
    rig.config.line_bytes_max = 1000;
    let long = format!("{}가{}", "a".repeat(999), "b".repeat(5 << 20));
    rig.append("a.log", format!("before\n{long}\nafter\n{}\nend\n", "c".repeat(1001)));
    rig.start();
    let got = rig.read();
    assert_eq!(got.iter().map(String::len).collect::<Vec<_>>(), [6, 999, 5, 1000, 3]);
    assert_eq!(rig.metric(r#"daybook_agent_truncated_lines_total{input="file"}"#), 2.0);
    let counted = rig.metric(r#"daybook_agent_truncated_bytes_total{input="file"}"#);
    // The newline that ends a skipped line is skipped with it.
    assert_eq!(counted, (3 + (5 << 20) + 1 + 1) as f64);
}

#[test]
fn a_file_without_newlines_takes_no_memory() {
    let mut rig = Rig::new();
    let chunk = vec![b'z'; 8 << 20];
    rig.start();
    for _ in 0..4 {
        rig.append("a.log", &chunk);
        rig.read();
    }
    rig.append("a.log", "\nnext\n");
    assert_eq!(rig.read(), ["next"]);
    let buffered = rig.running().tailer.shared.batch.bytes;
    assert_eq!(buffered, 0);
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_counted() {
    let mut rig = Rig::new();
    rig.append("a.log", b"ok\n\xff\xfe broken\n\0nul\n");
    rig.start();
    assert_eq!(rig.read(), ["ok", "\u{fffd}\u{fffd} broken", "\0nul"]);
    assert_eq!(rig.metric(r#"daybook_agent_replaced_lines_total{input="file"}"#), 1.0);
}

#[test]
fn replaced_bytes_do_not_make_a_line_longer_than_the_limit() {
    let mut rig = Rig::new();
    rig.config.line_bytes_max = 1000;
    rig.append("a.log", vec![0xff; 900]);
    rig.append("a.log", "\n");
    rig.start();
    let got = rig.read();
    assert_eq!((got.len(), got[0].len()), (1, 999));
}

#[test]
fn pieces_of_container_lines_are_joined_over_restarts() {
    let mut rig = Rig::new();
    rig.append(
        "a.log",
        "2024-01-02T03:04:05Z stdout P one \n2024-01-02T03:04:05Z stderr F other\n2024-01-02T03:04:06Z stdout P two \n",
    );
    rig.start();
    assert_eq!(rig.read(), ["other"]);
    rig.crash();
    rig.append("a.log", "2024-01-02T03:04:07Z stdout F ERROR: three\n");
    rig.start();
    rig.running().tailer.round();
    rig.running().tailer.round();
    let record = rig.take_records().remove(0);
    assert_eq!(record.body.unwrap().value, Some(Value::StringValue("one two ERROR: three".to_owned())));
    assert_eq!(record.time_unix_nano, 1_704_164_645_000_000_000);
    let keys: Vec<&str> = record.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["log.file.path", "log.file.name", "log.iostream"]);
}

#[test]
fn links_to_one_file_are_one_file() {
    let mut rig = Rig::new();
    let pod = rig.path("pods/ns_pod_uid/app");
    fs::create_dir_all(&pod).unwrap();
    fs::create_dir(rig.path("containers")).unwrap();
    fs::write(pod.join("0.log"), "2024-01-02T03:04:05Z stdout F x\n").unwrap();
    std::os::unix::fs::symlink(pod.join("0.log"), rig.path("containers/pod_ns_app-abc.log")).unwrap();
    rig.start();
    assert_eq!(rig.read(), ["x"]);
    let file = rig.running().tailer.files.values().next().unwrap();
    assert!(file.mark.path.ends_with("app/0.log"), "{:?}", file.mark.path);
}

#[test]
fn start_at_end_reads_only_what_comes() {
    let mut rig = Rig::new();
    rig.config.start_at = crate::config::StartAt::End;
    rig.append("a.log", numbers(0..5));
    rig.start();
    assert_eq!(rig.read(), Vec::<String>::new());
    rig.append("a.log", "new\n");
    rig.append("b.log", "all of it\n");
    let mut got = rig.read();
    got.sort();
    assert_eq!(got, ["all of it", "new"]);
}

#[test]
fn more_files_than_may_be_open_take_turns() {
    let mut rig = Rig::new();
    (rig.config.open_files_max, rig.config.files_max) = (3, 20);
    for i in 0..25 {
        rig.append(&format!("{i}.log"), format!("{i}\n"));
    }
    rig.start();
    let got: BTreeSet<String> = (0..10).flat_map(|_| rig.read()).collect();
    assert_eq!(got.len(), 20);
    assert!(rig.running().tailer.open_count <= 3);
    assert_eq!(rig.metric(r#"daybook_agent_file_skipped{reason="limit"}"#), 5.0);
    for i in 0..25 {
        rig.append(&format!("{i}.log"), "more\n");
    }
    let got: Vec<String> = (0..10).flat_map(|_| rig.read()).collect();
    assert_eq!(got, vec!["more"; 20]);
}

#[test]
fn thousands_of_files_are_all_read() {
    let mut rig = Rig::new();
    rig.config.open_files_max = 100;
    for i in 0..3000 {
        rig.append(&format!("{i}.log"), format!("{i}\n"));
    }
    rig.start();
    let got: BTreeSet<String> = (0..40).flat_map(|_| rig.read()).collect();
    assert_eq!(got.len(), 3000);
    rig.stop();
    rig.append("7.log", "more\n");
    rig.start();
    assert_eq!(rig.read(), ["more"]);
}

#[test]
fn real_logs_come_through_whole() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/logs");
    if !dir.is_dir() {
        println!("skipped: {} is missing", dir.display());
        return;
    }
    for name in ["Linux_2k.log", "kubernetes.txt", "nginxplus_status_json.log", "nginx_access.log"] {
        let bytes = fs::read(dir.join(name)).unwrap();
        let mut rig = Rig::new();
        rig.append("a.log", &bytes);
        rig.append("a.log", "\n");
        rig.start();
        let text = String::from_utf8_lossy(&bytes);
        let expected: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(rig.read(), expected, "{name}");
    }
}

/// A source of numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Writes, rotates in every way, stops, crashes and reads at random; each line must come exactly once.
fn wild(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut rig = Rig::new();
    rig.config.include.push(format!("{}/log/a.log.1*", rig.dir.path().display()));
    rig.append("a.log", "");
    let (mut written, mut rotations) = (0, 0);
    let mut got = Vec::new();
    let mut log = Vec::new();
    // Rotated again before it was ever seen, a file is beyond reach.
    let mut seen = false;
    rig.start();
    for _ in 0..60 {
        let action = random.below(10);
        log.push(action);
        match action {
            0..=3 => {
                let more = usize::try_from(random.below(20)).unwrap();
                let text = numbers(written..written + more);
                let (begin, end) = text.split_at(text.len() / 2);
                rig.append("a.log", begin);
                if random.below(3) == 0 && rig.running.is_some() {
                    got.extend(rig.read());
                    seen = true;
                }
                rig.append("a.log", end);
                written += more;
            }
            4 if seen => {
                fs::rename(rig.path("a.log"), rig.path(&format!("a.old-{rotations}"))).unwrap();
                rig.append("a.log", "");
                (rotations, seen) = (rotations + 1, false);
            }
            5 if seen => {
                fs::copy(rig.path("a.log"), rig.path(&format!("a.log.1{rotations}"))).unwrap();
                OpenOptions::new().write(true).open(rig.path("a.log")).unwrap().set_len(0).unwrap();
                (rotations, seen) = (rotations + 1, false);
            }
            6 if rig.running.is_some() => {
                if random.below(2) == 0 {
                    rig.stop()
                } else {
                    rig.crash()
                }
            }
            7 if rig.running.is_some() && seen => {
                got.extend(rig.read());
                // What was read goes away, and its inodes are given out again.
                for entry in fs::read_dir(rig.path("")).unwrap() {
                    let path = entry.unwrap().path();
                    if path.to_string_lossy().contains(".old-") {
                        fs::remove_file(path).unwrap();
                    }
                }
            }
            _ => {
                if rig.running.is_none() {
                    rig.start();
                }
                got.extend(rig.read());
                seen = true;
            }
        }
    }
    if rig.running.is_none() {
        rig.start();
    }
    for _ in 0..6 {
        got.extend(rig.read());
    }
    got.sort();
    let mut expected = lines(0..written);
    expected.sort();
    let repeated: Vec<_> = got.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    let lost: Vec<_> = expected.iter().filter(|line| got.binary_search(line).is_err()).collect();
    assert!(repeated.is_empty() && lost.is_empty(), "seed {seed}: repeated {repeated:?}, lost {lost:?}, {log:?}");
}

#[test]
fn each_line_comes_once_whatever_happens() {
    for seed in 0..40 {
        wild(seed);
    }
}
