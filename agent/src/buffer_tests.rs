//! The queue over restarts, floods, full disks and damage.

use runtime::Telemetry;

use super::*;

struct Rig {
    dir: tempfile::TempDir,
    bytes_max: u64,
    telemetry: Telemetry,
}

impl Rig {
    fn new(bytes_max: u64) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), bytes_max, telemetry: Telemetry::new() }
    }

    fn open(&mut self) -> (Arc<Queue>, Vec<(u64, String)>) {
        self.telemetry = Telemetry::new();
        let mut metas = Vec::new();
        let options = QueueOptions {
            dir: self.dir.path().to_owned(),
            signal: Signal::Logs,
            bytes_max: self.bytes_max,
            seq_floor: 0,
        };
        let (ledger, stats) = (Ledger::new(&self.telemetry), Stats::new(&self.telemetry));
        let queue = Queue::open(options, &ledger, &stats, &mut |seq, meta| {
            metas.push((seq, String::from_utf8_lossy(meta).into_owned()));
        })
        .unwrap();
        (queue, metas)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join("wal")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn metric(&self, line: &str) -> f64 {
        let text = self.telemetry.render();
        let found = text.lines().find_map(|have| have.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// A request that tells its number, of about a hundred kilobytes.
fn request(i: u64) -> Vec<u8> {
    format!("{i:08}").repeat(12_500).into_bytes()
}

fn push(queue: &Queue, i: u64) -> Push {
    queue.push(1, format!("m{i}").as_bytes(), &request(i), |_| {})
}

/// Takes everything, checking content and order, and returns the numbers.
fn drain(queue: &Queue) -> Vec<u64> {
    let mut got = Vec::new();
    while let Some(entry) = queue.front() {
        let i = std::str::from_utf8(&entry.request[..8]).unwrap().parse().unwrap();
        assert_eq!(entry.request, request(i));
        got.push(i);
        queue.ack(entry.seq);
        if queue.can_trim() {
            queue.trim();
        }
    }
    got
}

#[test]
fn more_than_fits_in_memory_comes_back_from_disk_in_order() {
    let mut rig = Rig::new(64 << 20);
    let (queue, _) = rig.open();
    for i in 0..300 {
        assert_eq!(push(&queue, i), Push::Stored);
    }
    assert!(queue.inner.lock().window_bytes <= WINDOW_BYTES);
    assert_eq!(queue.len(), 300);
    assert_eq!(drain(&queue), (0..300).collect::<Vec<_>>());
    assert_eq!((queue.len(), rig.segments().len()), (0, 1));
}

#[test]
fn pushing_and_taking_may_alternate() {
    let mut rig = Rig::new(64 << 20);
    let (queue, _) = rig.open();
    let (mut next, mut expected) = (0, 0);
    for round in 0..40 {
        for _ in 0..(round * 7) % 31 {
            assert_eq!(push(&queue, next), Push::Stored);
            next += 1;
        }
        for _ in 0..(round * 5) % 17 {
            let Some(entry) = queue.front() else { break };
            assert_eq!(entry.request, request(expected));
            queue.ack(entry.seq);
            expected += 1;
        }
    }
    assert_eq!(drain(&queue), (expected..next).collect::<Vec<_>>());
}

#[test]
fn a_restart_goes_on_behind_what_was_acknowledged() {
    let mut rig = Rig::new(64 << 20);
    let (queue, _) = rig.open();
    (0..150).for_each(|i| assert_eq!(push(&queue, i), Push::Stored));
    for _ in 0..70 {
        queue.ack(queue.front().unwrap().seq);
    }
    drop(queue);
    let (queue, metas) = rig.open();
    assert_eq!(metas.last(), Some(&(150, "m149".to_owned())));
    assert_eq!(push(&queue, 150), Push::Stored);
    assert_eq!(drain(&queue), (70..151).collect::<Vec<_>>());
    drop(queue);
    let (queue, _) = rig.open();
    assert!(queue.front().is_none());
    assert_eq!(push(&queue, 7), Push::Stored);
    assert_eq!(queue.front().unwrap().seq, 152);
}

#[test]
fn a_lost_note_of_what_was_acknowledged_sends_again_and_loses_nothing() {
    let mut rig = Rig::new(64 << 20);
    let (queue, _) = rig.open();
    (0..10).for_each(|i| assert_eq!(push(&queue, i), Push::Stored));
    queue.ack(5);
    drop(queue);
    std::fs::remove_file(rig.dir.path().join("acked")).unwrap();
    let (queue, _) = rig.open();
    assert_eq!(drain(&queue), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_says_so_and_takes_again_when_there_is_room() {
    let mut rig = Rig::new(4 << 20);
    let (queue, _) = rig.open();
    let mut stored = 0;
    while push(&queue, stored) == Push::Stored {
        stored += 1;
    }
    assert_eq!(push(&queue, stored), Push::Full);
    let on_disk: u64 = rig.segments().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(on_disk <= 4 << 20, "{on_disk}");
    assert!(stored >= 35, "{stored}");
    for _ in 0..10 {
        queue.ack(queue.front().unwrap().seq);
    }
    queue.trim();
    assert_eq!(push(&queue, stored), Push::Stored);
    assert_eq!(drain(&queue), (10..=stored).collect::<Vec<_>>());
}

#[test]
fn damage_loses_what_it_hits_counts_it_and_no_more() {
    let mut rig = Rig::new(64 << 20);
    let (queue, _) = rig.open();
    // Beyond the window, so that it is read from disk.
    (0..200).for_each(|i| assert_eq!(push(&queue, i), Push::Stored));
    let segments = rig.segments();
    let path = &segments[segments.len() - 2];
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
    let got = drain(&queue);
    assert_eq!(got.len(), 199);
    assert_eq!(queue.len(), 0);
    assert_eq!(
        rig.metric(r#"daybook_dropped_records_total{place="agent_sender",reason="buffer_damaged",signal="logs"}"#),
        1.0
    );
    drop(queue);
    let (queue, _) = rig.open();
    assert_eq!(drain(&queue), Vec::<u64>::new());
}

#[test]
fn a_removed_segment_does_not_hold_up_the_rest() {
    let mut rig = Rig::new(64 << 20);
    let (queue, _) = rig.open();
    (0..200).for_each(|i| assert_eq!(push(&queue, i), Push::Stored));
    let segments = rig.segments();
    std::fs::remove_file(&segments[segments.len() - 2]).unwrap();
    let got = drain(&queue);
    assert!(got.len() < 200 && got.contains(&0) && got.contains(&199), "{}", got.len());
    let lost =
        rig.metric(r#"daybook_dropped_records_total{place="agent_sender",reason="buffer_damaged",signal="logs"}"#);
    assert_eq!(got.len() as f64 + lost, 200.0);
    assert_eq!(queue.len(), 0);
}

#[test]
fn records_that_are_no_requests_are_errors_not_panics() {
    for record in [&b""[..], b"\x01", &[1; 17], &[2; 40], &[1; 40]] {
        assert!(parse(record).is_none() || record[0] == 1);
    }
    let good = frame(7, 3, b"meta", b"request");
    for length in 0..good.len() {
        if let Some(header) = parse(&good[..length]) {
            assert!(header.meta == b"meta" && b"request".starts_with(header.request));
        }
    }
    let header = parse(&good).unwrap();
    assert_eq!((header.seq, header.items, header.meta, header.request), (7, 3, &b"meta"[..], &b"request"[..]));
}
