//! Entries of the journal, and a program that stands in for `journalctl`.

use std::os::unix::fs::PermissionsExt;

use expect_test::expect;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use runtime::Telemetry;

use super::*;
use crate::buffer::{Queue, QueueOptions};
use crate::checkpoint::Checkpoints;

fn pairs(attributes: &[KeyValue]) -> String {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => format!("{}={text}", attribute.key),
        Some(any_value::Value::IntValue(value)) => format!("{}={value}", attribute.key),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn an_entry_becomes_a_record() {
    let entry = serde_json::json!({
        "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1704164645000001", "MESSAGE": [104, 105, 255], "PRIORITY": "3",
        "_SYSTEMD_UNIT": "ssh.service", "SYSLOG_IDENTIFIER": "sshd", "_PID": "42", "_COMM": "sshd", "_TRANSPORT": "syslog",
        "X": null,
    });
    let base = vec![("host.name".to_owned(), "h".to_owned())];
    let (resource, record, left_out) = record(entry.as_object().unwrap(), 7, &base, &Vec::new());
    expect!["host.name=h service.name=sshd systemd.unit=ssh.service"].assert_eq(&pairs(&resource.attributes));
    expect!["process.pid=42 process.executable.name=sshd journald.transport=syslog"]
        .assert_eq(&pairs(&record.attributes));
    assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (1_704_164_645_000_001_000, 7));
    assert_eq!((record.severity_number, record.severity_text.as_str(), left_out), (17, "ERROR", 0));
    assert_eq!(record.body, Some(text("hi\u{fffd}")));
}

struct Rig {
    dir: tempfile::TempDir,
    queue: Arc<Queue>,
    sink: LogSink,
    stats: Stats,
    ledger: Ledger,
}

impl Rig {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let telemetry = Telemetry::new();
        let (ledger, stats) = (Ledger::new(&telemetry), Stats::new(&telemetry));
        std::fs::create_dir(dir.path().join("journal")).unwrap();
        std::fs::write(dir.path().join("journal/system.journal"), "").unwrap();
        let command = dir.path().join("journalctl");
        std::fs::write(&command, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755)).unwrap();
        let checkpoints = Arc::new(Checkpoints::open(dir.path()).unwrap());
        let options =
            QueueOptions { dir: dir.path().join("buffer"), signal: Signal::Logs, bytes_max: 8 << 20, seq_floor: 0 };
        let queue = Queue::open(options, &ledger, &stats, &mut |_, _| {}).unwrap();
        let sink = LogSink { queue: Arc::clone(&queue), checkpoints, ledger: ledger.clone() };
        Self { dir, queue, sink, stats, ledger }
    }

    fn journal(&self) -> Journal {
        Journal {
            config: JournaldConfig {
                command: self.dir.path().join("journalctl"),
                directories: vec![self.dir.path().join("none"), self.dir.path().join("journal")],
                ..JournaldConfig::default()
            },
            buffer: BufferConfig { batch_wait: Duration::from_millis(5), ..BufferConfig::default() },
            sink: self.sink.clone(),
            clock: Clock::system(),
            stats: self.stats.clone(),
            ledger: self.ledger.clone(),
            base: Pairs::new(),
            extra: Pairs::new(),
        }
    }
}

#[tokio::test]
async fn entries_and_the_cursor_are_stored_and_reading_goes_on_behind_it() {
    // Prints its arguments as an entry, so that the test sees what it was asked for.
    let rig = Rig::new(
        "printf '{\"__CURSOR\":\"c1\",\"MESSAGE\":\"%s\"}\\n' \"$*\"; echo 'no json'; \
         printf '{\"__CURSOR\":\"c2\",\"MESSAGE\":\"two\"}\\n'; exec sleep 60",
    );
    for expected in ["--no-tail --since=@", "--after-cursor=c2"] {
        let shutdown = Shutdown::new();
        let task = tokio::spawn(rig.journal().run(shutdown.clone()));
        let until = Instant::now() + Duration::from_secs(10);
        while rig.sink.checkpoints.journal().is_none() || rig.queue.len() == 0 {
            assert!(Instant::now() < until, "nothing was stored");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shutdown.start();
        task.await.unwrap();
        let mut all = Vec::new();
        while let Some(entry) = rig.queue.front() {
            all.extend_from_slice(&entry.request);
            rig.queue.ack(entry.seq);
        }
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains(expected) && all.contains("two"), "{all}");
        assert_eq!(rig.sink.checkpoints.journal().as_deref(), Some("c2"));
    }
    let entry = rig.ledger.entries().remove(0);
    assert_eq!((entry.received, entry.accepted, entry.dropped), (6, 4, vec![("unparsed".to_owned(), 2)]));
}

#[tokio::test]
async fn without_a_journal_or_its_program_nothing_fails() {
    let rig = Rig::new("exit 0");
    let mut journal = rig.journal();
    journal.config.directories = vec![rig.dir.path().join("none")];
    journal.run(Shutdown::new()).await;
    let mut journal = rig.journal();
    journal.config.command = rig.dir.path().join("none");
    journal.run(Shutdown::new()).await;
    assert_eq!(rig.stats.journald_restarts.with(&["no_journal"]).get(), 1);
    assert_eq!(rig.stats.journald_restarts.with(&["no_command"]).get(), 1);
}
