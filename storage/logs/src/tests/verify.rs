//! What `verify` sees of files that are whole, each for itself, and do not belong together.

use std::fs;

use model::LogRecord;
use storage_api::{Finding, LogAppender};

use super::*;
use crate::block::BlockMeta;

fn verify(fixture: &Fixture) -> Vec<Finding> {
    let mut found = Vec::new();
    crate::verify(&fixture.blocks_dir(), &fixture.dir.path().join("wal"), &mut |one| found.push(one)).unwrap();
    found
}

/// A store with one block whose lines hold `word`.
fn with_block(word: &str, severity_number: u8) -> Fixture {
    let other = i64::from(severity_number) * 100_000;
    let fixture = Fixture::new();
    let store = fixture.open();
    let line = |i: i64| LogRecord {
        severity_number,
        trace_id: [u8::try_from(i % 100).unwrap() + severity_number * 8; 16],
        ..record(i * 1_000_000_000, &format!("{word} number{} {word} of {word}{}", i + other, i * 7))
    };
    store.append(batch("a", (1..3000).map(line).collect())).unwrap();
    store.flush().unwrap();
    drop(store);
    fixture
}

/// Puts a file of the other store's block in, as if it were of this one.
fn swap(fixture: &Fixture, other: &Fixture, name: &str) {
    let dir = |fixture: &Fixture| fixture.blocks_dir().join("000000000001-000000000001");
    let mut meta = BlockMeta::read(&dir(fixture)).unwrap();
    let theirs = BlockMeta::read(&dir(other)).unwrap();
    let is_named = |file: &crate::block::FileMeta| file.name == name || file.name.starts_with(&format!("{name}/"));
    for file in meta.files.iter().filter(|file| is_named(file)) {
        fs::remove_file(dir(fixture).join(&file.name)).unwrap();
    }
    meta.files.retain(|file| !is_named(file));
    for file in theirs.files.iter().filter(|file| is_named(file)) {
        fs::copy(dir(other).join(&file.name), dir(fixture).join(&file.name)).unwrap();
        meta.files.push(file.clone());
    }
    fs::remove_file(dir(fixture).join("meta.json")).unwrap();
    meta.write(&dir(fixture)).unwrap();
}

#[test]
fn an_intact_store_has_no_findings() {
    let fixture = with_block("apple", 9);
    assert!(verify(&fixture).is_empty(), "{:?}", verify(&fixture));
}

#[test]
fn counts_and_indexes_of_other_rows_are_seen() {
    for (name, expected) in [
        ("counts.idx", "counts that are those of the rows"),
        ("ids.idx", "an index that leads to every row"),
        ("trigrams.idx", "an index that leads to every row"),
        ("words", "an index that leads to every row"),
    ] {
        let fixture = with_block("apple", 9);
        swap(&fixture, &with_block("plum", 17), name);
        let found = verify(&fixture);
        let text = format!("{found:?}");
        // Of an index that has nothing in common with the rows, some look-ups still succeed: not all tokens differ.
        assert!(found.len() == 1 && text.contains(expected), "{name}: {text}");
    }
}
