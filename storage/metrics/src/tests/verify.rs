//! A check finds what is wrong, and nothing where nothing is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Exemplar, HistogramSample, Labels, Sample};
use storage_api::{Finding, MetricAppender, MetricBatch};

use super::extras::histogram;
use super::{TestStore, files_in, labels, metadata_batch};
use crate::Options;

/// A store with blocks of every kind, metadata, a delete and a WAL, closed as by a crash.
fn filled(decimal_rows_min: u64) -> TestStore {
    let mut test = TestStore::with(Options { decimal_rows_min, ..Options::default() });
    for round in 0..3_i64 {
        let mut batch = MetricBatch::default();
        for series in ["a host=x", "a host=y", "b"] {
            let from = round * 1_000;
            let numbers = (from..from + 300).map(|at| Sample { timestamp_ms: at, value: at as f64 / 10.0 });
            batch.push(labels(series), numbers).unwrap();
            if round > 0 {
                batch.set_starts((from..from + 300).map(|at| at / 100));
                batch.set_histograms((from + 300..from + 310).map(|timestamp_ms| HistogramSample {
                    timestamp_ms,
                    start_ms: from,
                    histogram: Arc::new(histogram(3.0)),
                }));
                batch.set_exemplars([Exemplar {
                    labels: Labels::from_pairs([("trace_id", "x")]),
                    sample: Sample { timestamp_ms: from, value: 1.0 },
                }]);
            }
        }
        batch.metadata = vec![model::MetricMetadata { name: format!("a{round}"), ..Default::default() }];
        test.store().append(&batch).unwrap();
        if round < 2 {
            test.store().flush().unwrap();
        }
    }
    super::delete::delete(&test, "b", storage_api::MillisRange { min_ms: 5, max_ms: 10 });
    test.append("late", &[(1, 1.0), (2, 0.1)]);
    test.append("late", &[(3, 1.0)]);
    test.store()
        .append(&metadata_batch(vec![model::MetricMetadata { name: "z".to_owned(), ..Default::default() }]))
        .unwrap();
    test.store = None;
    test
}

fn verify(test: &TestStore) -> (Vec<Finding>, storage_api::Checked) {
    let mut findings = Vec::new();
    let checked = crate::verify(&test.blocks_dir(), &test.wal_dir(), &mut |finding| findings.push(finding)).unwrap();
    (findings, checked)
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for name in files_in(dir) {
        let path = dir.join(name);
        if path.is_dir() { all.extend(all_files(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn intact_stores_have_no_findings() {
    for decimal_rows_min in [0, u64::MAX] {
        let test = filled(decimal_rows_min);
        let (findings, checked) = verify(&test);
        assert_eq!(findings, []);
        assert_eq!((checked.blocks, checked.rows), (2, 2 * 300 * 3 + 30));
        assert!(checked.bytes > 5_000 && checked.wal_records > 3, "{checked:?}");
    }
    let test = TestStore::new();
    assert_eq!(verify(&test), (Vec::new(), storage_api::Checked::default()));
}

#[test]
fn every_flipped_byte_of_each_file_is_found_and_named() {
    let test = filled(0);
    let mut files = all_files(&test.blocks_dir());
    files.extend(all_files(&test.wal_dir()));
    let names: std::collections::BTreeSet<String> =
        files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.len() >= 9, "{names:?}");
    for path in files {
        let content = fs::read(&path).unwrap();
        let step = (content.len() / 60).max(1);
        for at in (0..content.len()).step_by(step).chain([content.len().saturating_sub(1)]) {
            let mut bytes = content.clone();
            let Some(byte) = bytes.get_mut(at) else { continue };
            *byte ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let (findings, _) = verify(&test);
            let named = |finding: &Finding| {
                finding.is_damage && (path.starts_with(&finding.path) || finding.path.parent() == path.parent())
            };
            assert!(findings.iter().any(named), "byte {at} of {}: {findings:?}", path.display());
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is changed");
        }
        fs::write(&path, &content).unwrap();
    }
    assert_eq!(verify(&test).0, []);
}

#[test]
fn missing_and_additional_files_are_told_apart_from_what_a_crash_leaves() {
    let test = filled(0);
    let dir = test.blocks_dir();
    let told = |test: &TestStore| {
        let (findings, _) = verify(test);
        let line = |finding: &Finding| {
            let path = finding.path.strip_prefix(test.dir.path()).unwrap().display().to_string();
            format!("{} {path}: {}", if finding.is_damage { "damage" } else { "note" }, finding.reason)
        };
        findings.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    fs::create_dir(dir.join(".tmp-000000000009-000000000009-l0")).unwrap();
    fs::write(dir.join("README"), "").unwrap();
    let block = dir.join("000000000001-000000000001-l0");
    fs::write(block.join("notes"), "").unwrap();
    let got = told(&test);
    assert!(got.contains("note metrics/.tmp-000000000009-000000000009-l0: left by a crash"), "{got}");
    assert!(got.contains("note metrics/README: not a file of this store"), "{got}");
    assert!(got.contains("note metrics/000000000001-000000000001-l0/notes: not a file of this block"), "{got}");
    assert!(!got.contains("damage"), "{got}");
    for file in ["index", "samples.parquet", "meta.json"] {
        let content = fs::read(block.join(file)).unwrap();
        fs::remove_file(block.join(file)).unwrap();
        let got = told(&test);
        assert!(got.contains(&format!("damage metrics/000000000001-000000000001-l0/{file}: ")), "{got}");
        fs::write(block.join(file), content).unwrap();
    }
    fs::rename(&block, dir.join("000000000001-000000000002-l0")).unwrap();
    let got = told(&test);
    assert!(got.contains("its numbers overlap those of 000000000002-000000000002-l0"), "{got}");
    assert!(got.contains("its meta.json is that of 000000000001-000000000001-l0"), "{got}");
}
