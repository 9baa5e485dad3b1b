//! What the log promises: nothing acknowledged is lost, nothing damaged is handed out, nothing panics.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use crate::{Error, Faults, Observer, Options, Position, ReplayReport, SegmentId, Wal};

fn open_with(dir: &Path, options: Options) -> (Wal, ReplayReport, Vec<Vec<u8>>) {
    let mut records = Vec::new();
    let (wal, report) = Wal::open::<Error>(dir, options, &mut |_, record| {
        records.push(record.to_vec());
        Ok(())
    })
    .unwrap();
    assert_eq!(report.records, records.len() as u64);
    (wal, report, records)
}

fn open(dir: &Path) -> (Wal, ReplayReport, Vec<Vec<u8>>) {
    open_with(dir, Options::default())
}

fn small_segments() -> Options {
    Options { segment_bytes_max: 100, ..Options::default() }
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn bytes_of(records: &[Vec<u8>]) -> Vec<&[u8]> {
    records.iter().map(Vec::as_slice).collect()
}

const THREE: [&[u8]; 3] = [b"first", b"", b"third, and longer"];

/// Writes [`THREE`] records and returns the file's bytes.
fn three(dir: &Path) -> Vec<u8> {
    let (wal, ..) = open(dir);
    for record in THREE {
        wal.append(record).unwrap();
    }
    fs::read(only_file(dir)).unwrap()
}

#[test]
fn records_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let (wal, report, records) = open(dir.path());
    assert_eq!(bytes_of(&records), THREE);
    assert_eq!((report.torn_bytes, report.corrupt_bytes, report.segments), (0, 0, 1));
    wal.append(b"fourth").unwrap();
    drop(wal);
    assert_eq!(open(dir.path()).2.len(), 4);
}

#[test]
fn a_record_torn_at_any_byte_is_cut_off_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let whole = three(dir.path());
    let path = only_file(dir.path());
    let ends = [24 + 16 + 5, 24 + 16 + 5 + 16, whole.len()];
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let expected = ends.iter().filter(|end| **end <= length).count();
        let (wal, report, records) = open(dir.path());
        assert_eq!(bytes_of(&records), THREE[..expected], "{length} bytes");
        assert_eq!(report.corrupt_gaps, 0, "{length} bytes");
        let kept = if length < 24 { 0 } else { ends[..expected].last().copied().unwrap_or(24) };
        assert_eq!(report.torn_bytes, (length - kept) as u64, "{length} bytes");
        wal.append(b"after").unwrap();
        drop(wal);
        let (_, report, records) = open(dir.path());
        assert_eq!(records.last().unwrap(), b"after", "{length} bytes");
        assert_eq!((records.len(), report.torn_bytes), (expected + 1, 0));
        for entry in fs::read_dir(dir.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed_and_costs_one_record_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let whole = three(dir.path());
    let path = only_file(dir.path());
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let mut records = Vec::new();
            let opened = Wal::open::<Error>(dir.path(), Options::default(), &mut |_, record| {
                records.push(record.to_vec());
                Ok(())
            });
            let (_, report) = opened.unwrap();
            let lost = match at {
                0..24 => None,
                24..45 => Some(0),
                45..61 => Some(1),
                _ => Some(2),
            };
            let expected: Vec<&[u8]> = (0..3).filter(|i| Some(*i) != lost).map(|i| THREE[i]).collect();
            assert_eq!(bytes_of(&records), expected, "byte {at}");
            let damaged = report.corrupt_bytes + report.torn_bytes;
            assert!(damaged > 0, "byte {at} was flipped and nobody noticed");
            assert_eq!(report.corrupt_gaps, u64::from(lost != Some(2)), "byte {at}");
        }
    }
}

#[test]
fn damage_before_the_last_segment_is_reported_and_not_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), small_segments());
    let ids: Vec<SegmentId> = (0..4).map(|i| wal.append(&[i; 80]).unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4].map(SegmentId));
    drop(wal);
    let path = dir.path().join("00000000000000000002.wal");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (wal, report, records) = open_with(dir.path(), small_segments());
    assert_eq!(records, [0, 2, 3].map(|i| vec![i; 80]));
    assert_eq!((report.corrupt_gaps, report.torn_bytes), (1, 0));
    assert_eq!(report.damage[0].segment, SegmentId(2));
    assert_eq!(wal.append(b"x").unwrap(), SegmentId(5));
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64 - 1);
}

#[test]
fn payload_that_looks_like_a_record_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let inner = three(dir.path());
    let path = only_file(dir.path());
    fs::remove_file(&path).unwrap();
    let (wal, ..) = open(dir.path());
    wal.append(&inner).unwrap();
    drop(wal);
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, report, records) = open(dir.path());
    assert_eq!(records.len(), 0);
    assert_eq!(report.torn_bytes, bytes.len() as u64 - 24);
}

#[test]
fn a_segment_of_a_later_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = three(dir.path());
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    fs::write(only_file(dir.path()), &bytes).unwrap();
    let error = Wal::open::<Error>(dir.path(), Options::default(), &mut |_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("has version 9, this program knows 1"), "{error}");
}

#[test]
fn a_cut_separates_before_from_after_and_ids_never_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path());
    let before = wal.append(b"before").unwrap();
    let cut = wal.cut().unwrap();
    assert_eq!(wal.cut().unwrap(), cut, "an empty segment is not cut");
    let after = wal.append(b"after").unwrap();
    assert!(before < cut && cut <= after);
    assert_eq!(wal.remove_before(cut).unwrap(), 1);
    assert_eq!(wal.remove_before(SegmentId(1000)).unwrap(), 0, "the last segment stays");
    let last = wal.cut().unwrap();
    assert_eq!(wal.remove_before(last).unwrap(), 1);
    drop(wal);
    let (wal, _, records) = open(dir.path());
    assert!(records.is_empty());
    assert_eq!(wal.append(b"x").unwrap(), last);
}

#[test]
fn segments_before_the_first_needed_one_are_removed_unread() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), small_segments());
    for i in 0..4 {
        wal.append(&[i; 80]).unwrap();
    }
    drop(wal);
    let options = Options { first_segment: SegmentId(3), ..small_segments() };
    let (wal, _, records) = open_with(dir.path(), options);
    assert_eq!(records, [2, 3].map(|i| vec![i; 80]));
    assert_eq!(wal.segments().first().unwrap().id, SegmentId(3));
    drop(wal);
    let options = Options { first_segment: SegmentId(50), ..small_segments() };
    let (wal, _, records) = open_with(dir.path(), options);
    assert!(records.is_empty());
    assert_eq!(wal.append(b"x").unwrap(), SegmentId(50));
}

#[test]
fn a_full_disk_keeps_nothing_of_the_call_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let options = Options { faults: faults.clone(), ..Options::default() };
    let (wal, ..) = open_with(dir.path(), options);
    wal.append(b"before").unwrap();
    let size = wal.size_bytes();
    for left in 0..23 {
        faults.fill_disk_after(left);
        let error = wal.append(b"lost it").unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert_eq!(fs::metadata(only_file(dir.path())).unwrap().len(), size);
    }
    faults.fill_disk_after(10);
    assert!(matches!(wal.cut().unwrap_err(), Error::DiskFull { .. }));
    faults.fill_disk_after(u64::MAX);
    wal.append(b"after").unwrap();
    wal.cut().unwrap();
    drop(wal);
    let (_, report, records) = open(dir.path());
    assert_eq!(bytes_of(&records), [b"before".as_slice(), b"after"]);
    assert_eq!((report.torn_bytes, report.corrupt_bytes), (0, 0));
}

#[test]
fn a_failed_fsync_poisons_until_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let (wal, ..) = open_with(dir.path(), Options { faults: faults.clone(), ..Options::default() });
    wal.append(b"safe").unwrap();
    faults.fail_sync(true);
    assert!(matches!(wal.append(b"unknown"), Err(Error::Poisoned { .. })));
    faults.fail_sync(false);
    let error = wal.append(b"refused").unwrap_err();
    assert!(error.to_string().contains("fails on purpose"), "{error}");
    assert!(matches!(wal.cut(), Err(Error::Poisoned { .. })));
    drop(wal);
    let (wal, _, records) = open(dir.path());
    assert_eq!(records[0], b"safe");
    wal.append(b"again").unwrap();
}

#[test]
fn a_closed_log_refuses_and_an_oversized_record_names_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), Options { record_bytes_max: 4, ..Options::default() });
    let error = wal.append(b"12345").unwrap_err();
    assert_eq!(error.to_string(), "a record of 5 bytes is over the limit of 4");
    wal.append(b"1234").unwrap();
    wal.close();
    assert!(matches!(wal.append(b"1"), Err(Error::Closed)));
}

#[test]
fn an_error_of_the_caller_stops_the_replay_and_comes_back() {
    #[derive(Debug, PartialEq)]
    struct Mine(u32);
    impl From<Error> for Mine {
        fn from(_: Error) -> Self {
            Self(0)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let mut calls = 0;
    let result = Wal::open::<Mine>(dir.path(), Options::default(), &mut |_, _| {
        calls += 1;
        Err(Mine(7))
    });
    assert_eq!(result.map(drop), Err(Mine(7)));
    assert_eq!(calls, 1);
}

#[test]
fn many_threads_share_fsyncs_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (commits, observed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (a, b) = (Arc::clone(&commits), Arc::clone(&observed));
    let observer = Observer::new(move |commit| {
        a.fetch_add(1, Ordering::Relaxed);
        b.fetch_add(commit.records, Ordering::Relaxed);
    });
    let options = Options { segment_bytes_max: 2_000, observer: Some(observer), ..Options::default() };
    let (wal, ..) = open_with(dir.path(), options.clone());
    std::thread::scope(|scope| {
        for thread in 0..16_u8 {
            let wal = &wal;
            scope.spawn(move || {
                for i in 0..50_u8 {
                    wal.append(&[thread, i]).unwrap();
                    if i % 20 == 0 {
                        wal.cut().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(observed.load(Ordering::Relaxed), 800);
    assert!(commits.load(Ordering::Relaxed) < 800, "16 threads never shared a commit");
    let size_bytes: u64 = wal.segments().iter().map(|segment| segment.size_bytes).sum();
    assert_eq!(wal.size_bytes(), size_bytes);
    drop(wal);
    let (_, _, records) = open_with(dir.path(), options);
    assert_eq!(records.len(), 800);
    for thread in 0..16 {
        let of_thread: Vec<u8> = records.iter().filter(|r| r[0] == thread).map(|r| r[1]).collect();
        assert_eq!(of_thread, (0..50).collect::<Vec<u8>>(), "thread {thread} is out of order");
    }
}

#[test]
fn reading_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), small_segments());
    for i in 0..5 {
        wal.append(&[i; 40]).unwrap();
    }
    let mut seen = Vec::new();
    let mut at = Position::default();
    for _ in 0..3 {
        at = wal
            .read(at, &mut |_, record| {
                seen.push(record[0]);
                if seen.len() % 2 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    wal.append(&[9; 40]).unwrap();
    wal.remove_before(at.segment).unwrap();
    wal.read(at, &mut |_, record| {
        seen.push(record[0]);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [0, 1, 2, 3, 4, 9]);
}

#[derive(Debug, Clone)]
enum Action {
    Append(Vec<u8>),
    Cut,
    RemoveBefore(u64),
    Reopen,
    TearTail(usize),
    FillDisk(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Action::Append),
        1 => Just(Action::Cut),
        1 => (0..10_u64).prop_map(Action::RemoveBefore),
        1 => Just(Action::Reopen),
        1 => (1..30_usize).prop_map(Action::TearTail),
        1 => (0..40_u64).prop_map(Action::FillDisk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_log_agrees_with_a_list(actions in proptest::collection::vec(action(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let options = Options { segment_bytes_max: 150, faults: faults.clone(), ..Options::default() };
        let mut model: Vec<(SegmentId, Vec<u8>)> = Vec::new();
        let (mut wal, ..) = open_with(dir.path(), options.clone());
        let reopen = |model: &[(SegmentId, Vec<u8>)]| {
            let mut records = Vec::new();
            let (wal, report) = Wal::open::<Error>(dir.path(), options.clone(), &mut |id, record| {
                records.push((id, record.to_vec()));
                Ok(())
            }).unwrap();
            assert_eq!(records, model);
            assert_eq!(report.corrupt_gaps, 0);
            wal
        };
        for action in actions {
            match action {
                Action::Append(record) => {
                    let id = wal.append(&record).unwrap();
                    model.push((id, record));
                }
                Action::Cut => {
                    let id = wal.cut().unwrap();
                    prop_assert!(model.iter().all(|(have, _)| *have < id));
                }
                Action::RemoveBefore(id) => {
                    let last = wal.segments().last().map_or(0, |segment| segment.id.0);
                    wal.remove_before(SegmentId(id)).unwrap();
                    model.retain(|(have, _)| have.0 >= id.min(last));
                }
                Action::Reopen => {
                    drop(wal);
                    wal = reopen(&model);
                }
                Action::TearTail(bytes) => {
                    let last = wal.segments().last().copied();
                    drop(wal);
                    if let Some(last) = last {
                        let path = crate::files::segment_path(dir.path(), last.id);
                        let mut content = fs::read(&path).unwrap();
                        content.extend(std::iter::repeat_n(0xdb, bytes));
                        fs::write(&path, content).unwrap();
                    }
                    wal = reopen(&model);
                }
                Action::FillDisk(left) => {
                    faults.fill_disk_after(left);
                    let full = wal.append(&[1; 60]);
                    assert!(matches!(full, Err(Error::DiskFull { .. })));
                    faults.fill_disk_after(u64::MAX);
                }
            }
        }
        drop(wal);
        reopen(&model);
    }
}

#[test]
fn the_id_of_a_segment_whose_header_was_torn_is_not_followed_by_a_lower_one() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path());
    for _ in 0..3 {
        wal.append(b"x").unwrap();
        wal.cut().unwrap();
    }
    wal.remove_before(SegmentId(4)).unwrap();
    drop(wal);
    fs::write(only_file(dir.path()), b"DAYB").unwrap();
    let (wal, report, _) = open(dir.path());
    assert_eq!(report.torn_bytes, 4);
    assert_eq!(wal.append(b"y").unwrap(), SegmentId(4));
}
