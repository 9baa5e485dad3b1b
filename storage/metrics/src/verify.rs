//! Checks every checksum and cross-reference of the store's files, without changing any.

use std::fs;
use std::path::Path;

use runtime::{Ledger, Telemetry};
use storage_api::{BlockInfo, Checked, Error, Finding, Findings, Result};
use storage_wal::{SegmentId, segment_path};

use crate::block::{BlockName, Meta, TEMPORARY_PREFIX, verify_block};
use crate::metadata::{self, Metadata};
use crate::replay::{Logged, Replayer};
use crate::telemetry::Metrics;
use crate::tombstones::{self, DAMAGED_FILE, TOMBSTONES_FILE};

/// The head that a replay fills is emptied at this size; nobody asks for what is in it.
const HEAD_BYTES: u64 = 64 << 20;

/// Checks the store with blocks in `dir` and the WAL in `wal_dir`; nobody may have it open.
///
/// # Errors
/// When a directory cannot be listed. Damage is told to `found`.
pub fn verify(dir: &Path, wal_dir: &Path, found: Findings<'_>) -> Result<Checked> {
    let mut checked = Checked::default();
    let names = names_in(dir, found)?;
    check_names(dir, &names, found);
    let mut first_needed = 1;
    for name in &names {
        let path = dir.join(name.to_string());
        if let Ok(meta) = Meta::load(&path) {
            first_needed = first_needed.max(meta.wal_first_needed_segment);
            checked.bytes += meta.size_bytes();
        }
        checked.blocks += 1;
        checked.rows += verify_block(&path, *name, found);
    }
    let mut metadata = Metadata::load(dir).unwrap_or_else(|error| {
        found(Finding::of(&error, dir));
        Metadata::default()
    });
    if let Err(error) = tombstones::load(dir) {
        found(Finding::of(&error, dir));
    }
    let aside = dir.join(DAMAGED_FILE);
    if aside.exists() {
        found(Finding::damage(aside, "a list of deletes was damaged and set aside: deleted samples may be shown"));
    }
    checked.wal_records = check_wal(wal_dir, SegmentId(first_needed), &mut metadata, found)?;
    Ok(checked)
}

/// Lists the blocks, and notes what else there is.
fn names_in(dir: &Path, found: Findings<'_>) -> Result<Vec<BlockName>> {
    let mut names = Vec::new();
    if !dir.exists() {
        return Ok(names);
    }
    let failed = |source| Error::io("listing", dir, source);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if let Some(name) = BlockName::parse(&text) {
            names.push(name);
        } else if text.starts_with(TEMPORARY_PREFIX) {
            found(Finding::note(entry.path(), "left by a crash, the next start removes it"));
        } else if ![metadata::FILE, TOMBSTONES_FILE, DAMAGED_FILE].contains(&text.as_ref()) {
            found(Finding::note(entry.path(), "not a file of this store"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Looks for blocks that hold the same flushes.
fn check_names(dir: &Path, names: &[BlockName], found: Findings<'_>) {
    for (place, name) in names.iter().enumerate() {
        let path = dir.join(name.to_string());
        if let Some(other) = names.iter().find(|other| other.replaces(name)) {
            found(Finding::note(path, format!("{other} stands for it, the next start removes it")));
            continue;
        }
        let overlaps = |other: &&BlockName| {
            other.first <= name.last && name.first <= other.last && !name.replaces(other) && !other.replaces(name)
        };
        if let Some(other) = names.iter().skip(place + 1).find(overlaps) {
            found(Finding::damage(path, format!("its numbers overlap those of {other}")));
        }
    }
}

/// Checks the log record by record, and that samples have a series and a base.
fn check_wal(dir: &Path, first: SegmentId, metadata: &mut Metadata, found: Findings<'_>) -> Result<u64> {
    let telemetry = Telemetry::new();
    let (metrics, ledger) = (Metrics::register(&telemetry), Ledger::new(&telemetry));
    let mut replayer = Replayer::new(metadata, &metrics, &ledger, HEAD_BYTES);
    let mut undecodable = Vec::new();
    let report = storage_wal::check(dir, first, &mut |segment, bytes| {
        let logged = Logged::read(segment, bytes);
        if logged.record.is_none() {
            undecodable.push(segment);
            return;
        }
        replayer.apply(logged, &mut |_, _| Ok(()));
    });
    let report = match report {
        Ok(report) => report,
        Err(error @ storage_wal::Error::UnknownVersion { .. }) => {
            found(Finding::of(&crate::error::wal(error), dir));
            return Ok(0);
        }
        Err(error) => return Err(crate::error::wal(error)),
    };
    for damage in &report.damage {
        found(Finding::damage(segment_path(dir, damage.segment), damage.to_string()));
    }
    for segment in undecodable {
        found(Finding::damage(segment_path(dir, segment), "a record with a right checksum cannot be decoded"));
    }
    let lost: u64 = ledger.entries().iter().flat_map(|entry| &entry.dropped).map(|(_, count)| *count).sum();
    if lost > 0 {
        found(Finding::damage(dir, format!("{lost} samples of series or values that no record tells")));
    }
    if let Some(torn) = report.torn() {
        found(Finding::note(dir, torn));
    }
    Ok(report.records)
}

/// Lists the blocks in `dir`, oldest first, by their `meta.json` alone. A server may have it open.
///
/// # Errors
/// When the directory cannot be listed.
pub fn blocks(dir: &Path) -> Result<Vec<BlockInfo>> {
    let names = names_in(dir, &mut |_| {})?;
    let mut infos = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(name.to_string());
        match Meta::load(&path) {
            Ok(meta) => infos.push(BlockInfo {
                name: name.to_string(),
                level: meta.level,
                min_time_ns: i128::from(meta.min_time_ms) * 1_000_000,
                max_time_ns: i128::from(meta.max_time_ms) * 1_000_000,
                rows: meta.all_samples(),
                series: meta.series,
                bytes: meta.size_bytes(),
                damage: None,
            }),
            // A merge or the retention took it away just now.
            Err(_) if !path.exists() => {}
            Err(error) => infos.push(BlockInfo {
                name: name.to_string(),
                level: name.level,
                min_time_ns: 0,
                max_time_ns: 0,
                rows: 0,
                series: 0,
                bytes: 0,
                damage: Some(error.to_string()),
            }),
        }
    }
    Ok(infos)
}
