//! Checks every checksum and cross-reference of the store's files, without changing any.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use runtime::Telemetry;
use storage_api::{BlockInfo, Checked, Error, Finding, Findings, Result};
use storage_wal::{SegmentId, segment_path};

use crate::block::{Block, BlockMeta, Cache, Detail, META_FILE, Sequence, read_checked};
use crate::codec::read_entry;
use crate::cross_check::CrossCheck;
use crate::deletes::{BlockRows, Content, DAMAGED_FILE, DELETES_FILE, load};
use crate::store::{DAMAGED_PREFIX, wal_error};
use crate::telemetry::Metrics;

/// Memory of indexes while a block is checked.
const CACHE_BYTES: usize = 64 << 20;
/// How names of unfinished folders begin.
const TEMPORARY_PREFIX: &str = "tmp-";

/// Checks the store with blocks in `dir` and the WAL in `wal_dir`; nobody may have it open.
///
/// # Errors
/// When a directory cannot be listed. Damage is told to `found`.
pub fn verify(dir: &Path, wal_dir: &Path, found: Findings<'_>) -> Result<Checked> {
    let metrics = Metrics::new(&Telemetry::new());
    let cache = Arc::new(Cache::new(CACHE_BYTES, metrics.page_cache(0), metrics.corrupt_blocks.clone()));
    let mut checked = Checked::default();
    let sequences = list(dir, found)?;
    let deletes = load(dir).unwrap_or_else(|error| {
        found(Finding::of(&error, dir));
        Content::default()
    });
    let mut wal_before = deletes.wal_before.max(1);
    for (place, sequence) in sequences.iter().enumerate() {
        let path = dir.join(sequence.to_string());
        let other =
            sequences.iter().enumerate().find(|(other_place, other)| *other_place != place && other.covers(*sequence));
        if let Some((_, other)) = other {
            found(Finding::note(&path, format!("{other} stands for it, the next start removes it")));
        } else if let Some(next) =
            sequences.get(place + 1).filter(|next| next.first <= sequence.last && !sequence.covers(**next))
        {
            found(Finding::damage(&path, format!("its numbers overlap those of {next}")));
        }
        checked.blocks += 1;
        if let Some(meta) = verify_block(&path, *sequence, &cache, found) {
            wal_before = wal_before.max(meta.wal_before);
            checked.bytes += meta.size_bytes();
            checked.rows += meta.rows;
            let left = deletes.requests.iter().flat_map(|request| &request.left);
            let outside = |rows: &BlockRows| rows.rows.max().is_some_and(|last| u64::from(last) >= meta.rows);
            if left.filter(|left| left.sequence == *sequence).any(outside) {
                found(Finding::damage(dir.join(DELETES_FILE), format!("it names rows that {sequence} does not have")));
            }
        }
    }
    checked.wal_records = check_wal(wal_dir, SegmentId(wal_before), found)?;
    Ok(checked)
}

fn list(dir: &Path, found: Findings<'_>) -> Result<Vec<Sequence>> {
    let mut sequences = Vec::new();
    if !dir.exists() {
        return Ok(sequences);
    }
    let listing = |source| Error::io("listing", dir, source);
    for entry in fs::read_dir(dir).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if let Some(sequence) = Sequence::parse(&text) {
            sequences.push(sequence);
        } else if text.starts_with(DAMAGED_PREFIX) {
            found(Finding::damage(entry.path(), "a damaged block that an earlier start set aside"));
        } else if text == DAMAGED_FILE {
            found(Finding::damage(entry.path(), "a damaged list of deletes that an earlier start set aside"));
        } else if text == DELETES_FILE {
            // It is read for itself.
        } else if text.starts_with(TEMPORARY_PREFIX) {
            found(Finding::note(entry.path(), "left by a crash, the next start removes it"));
        } else {
            found(Finding::note(entry.path(), "not a file of this store"));
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// Checks one block, and returns its meta if that can be read.
fn verify_block(dir: &Path, name: Sequence, cache: &Arc<Cache>, found: Findings<'_>) -> Option<BlockMeta> {
    let meta = match BlockMeta::read(dir) {
        Ok(meta) => meta,
        Err(error) => {
            found(Finding::of(&error, dir));
            return None;
        }
    };
    let mut is_intact = meta.sequence == name;
    if !is_intact {
        found(Finding::damage(dir, format!("its meta.json is that of {}", meta.sequence)));
    }
    for file in &meta.files {
        if let Err(error) = read_checked(&dir.join(&file.name), file.size_bytes, file.crc32c) {
            is_intact = false;
            found(Finding::of(&error, dir));
        }
    }
    unknown_files(dir, dir, &meta, found);
    // What follows reads the rows: damage that was told would be told again.
    if is_intact && let Err(error) = Block::open(dir, cache).and_then(|block| check_rows(&block)) {
        found(Finding::of(&error, dir));
    }
    Some(meta)
}

fn unknown_files(block: &Path, dir: &Path, meta: &BlockMeta, found: Findings<'_>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(block).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() {
            unknown_files(block, &path, meta, found);
        } else if name != META_FILE && !meta.files.iter().any(|file| file.name == name) {
            found(Finding::note(path, "not a file of this block"));
        }
    }
}

/// Decodes every row, and checks that streams have the rows and times that the catalog says, counts are those of the rows,
/// and indexes lead to them.
fn check_rows(block: &Block) -> Result<()> {
    let catalog = block.catalog();
    let meta = block.meta();
    block.check_index()?;
    let counts = block.counts()?;
    let mut cross = CrossCheck::new(block, &counts);
    if catalog.streams.len() as u64 != meta.streams || !catalog.streams.is_sorted_by(|a, b| a.labels < b.labels) {
        return Err(block.malformed("streams in order, as many as in meta.json"));
    }
    let min = catalog.streams.iter().map(|stream| stream.min_timestamp).min();
    let max = catalog.streams.iter().map(|stream| stream.max_timestamp).max();
    if (min, max) != (Some(meta.min_timestamp), Some(meta.max_timestamp)) {
        return Err(block.malformed("the times that meta.json tells"));
    }
    let mut streams = catalog.streams.iter().peekable();
    let (mut left, mut last): (u32, Option<i64>) = (0, None);
    for (number, page) in catalog.pages.iter().enumerate() {
        let rows = page.first_row..catalog.page_end(number);
        let columns = block.read(rows.clone(), Detail::All)?;
        let open = columns.open().map_err(|error| block.malformed(error.0))?;
        if open.timestamps().len() != rows.len() {
            return Err(block.malformed("as many rows as the catalog tells"));
        }
        for (i, time) in open.timestamps().iter().enumerate() {
            if left == 0 {
                let Some(stream) = streams.next() else { return Err(block.malformed("no row without a stream")) };
                (left, last) = (stream.rows, None);
                if stream.min_timestamp != *time {
                    return Err(block.malformed("a stream that begins at the time the catalog tells"));
                }
            }
            if last.is_some_and(|last| last > *time) {
                return Err(block.malformed("times that ascend"));
            }
            last = Some(*time);
            left -= 1;
            cross.row(&open.row(i), number, u32::try_from(i).unwrap_or(u32::MAX))?;
            if left == 0 {
                cross.stream_ends()?;
            }
        }
    }
    if left > 0 || streams.peek().is_some() {
        return Err(block.malformed("rows for every stream"));
    }
    Ok(())
}

fn check_wal(dir: &Path, first: SegmentId, found: Findings<'_>) -> Result<u64> {
    let mut malformed = Vec::new();
    let report = storage_wal::check(dir, first, &mut |segment, bytes| {
        if let Err(error) = read_entry(&bytes::Bytes::copy_from_slice(bytes)) {
            malformed.push((segment, error.0));
        }
    });
    let report = match report {
        Ok(report) => report,
        Err(error @ storage_wal::Error::UnknownVersion { .. }) => {
            found(Finding::damage(dir, error.to_string()));
            return Ok(0);
        }
        Err(error) => return Err(wal_error(error)),
    };
    for damage in &report.damage {
        found(Finding::damage(segment_path(dir, damage.segment), damage.to_string()));
    }
    for (segment, expected) in malformed {
        found(Finding::damage(
            segment_path(dir, segment),
            format!("a record with a right checksum cannot be decoded: expected {expected}"),
        ));
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
    let mut infos = Vec::new();
    for sequence in list(dir, &mut |_| {})? {
        let path = dir.join(sequence.to_string());
        match BlockMeta::read(&path) {
            Ok(meta) => infos.push(BlockInfo {
                name: sequence.to_string(),
                level: meta.level,
                min_time_ns: i128::from(meta.min_timestamp),
                max_time_ns: i128::from(meta.max_timestamp),
                rows: meta.rows,
                series: meta.streams,
                bytes: meta.size_bytes(),
                damage: None,
            }),
            // A merge or the retention took it away just now.
            Err(_) if !path.exists() => {}
            Err(error) => infos.push(BlockInfo {
                name: sequence.to_string(),
                level: 0,
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
