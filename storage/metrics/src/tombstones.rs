//! Deletes whose samples still lie in blocks: one small file, and what it means for each block. Layout:
//! docs/format/metrics-tombstones.md.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{Exemplar, Labels, MatchOp, Matcher};
use roaring::RoaringBitmap;
use storage_api::{Error, MillisRange, Result};
use storage_wal::Faults;

use crate::block::file::{read_small, sync_dir, write_new_file};
use crate::block::{Block, BlockName, DamagedBlock, TEMPORARY_PREFIX};
use crate::error::corrupt;
use crate::exemplars::passes_any;
use crate::postings::find_any;
use crate::varint::{Cursor, put_bytes, put_i64, put_u64};

/// The file's name beside the blocks.
pub(crate) const TOMBSTONES_FILE: &str = "tombstones";
/// What a damaged file is called once it was set aside. As long as it is there, answers carry a warning.
pub(crate) const DAMAGED_FILE: &str = "tombstones.damaged";
/// The file's first bytes: magic and version.
const MAGIC: [u8; 8] = *b"DAYBKTS\x01";
/// Largest file that is read, in bytes: more than as many tombstones as there may be have.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of one tombstone's selectors.
pub(crate) const SELECTOR_BYTES_MAX: usize = 4 << 10;
/// Most tombstones that wait: each is looked at when a block is opened or merged, and for each of its series in a query.
pub(crate) const TOMBSTONES_MAX: usize = 10_000;

/// One delete. It never changes.
#[derive(Debug, Clone)]
pub(crate) struct Tombstone {
    /// The samples of blocks up to this sequence number are meant; what was written later stays.
    pub(crate) last_sequence: u64,
    pub(crate) range: MillisRange,
    /// Series that pass all matchers of at least one of them; never empty.
    pub(crate) selectors: Vec<Vec<Matcher>>,
}

impl Tombstone {
    fn is_of(&self, block: &Block) -> bool {
        block.meta.last_sequence <= self.last_sequence && block.meta.range().overlaps(&self.range)
    }

    /// Says whether a block that cannot be read may hold samples that are meant.
    fn may_be_of(&self, damaged: &DamagedBlock) -> bool {
        damaged.name.last <= self.last_sequence && damaged.range.overlaps(&self.range)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.last_sequence);
        put_i64(out, self.range.min_ms);
        put_i64(out, self.range.max_ms);
        encode_selectors(&self.selectors, out);
    }

    fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let last_sequence = cursor.u64()?;
        let range = MillisRange { min_ms: cursor.i64()?, max_ms: cursor.i64()? };
        let mut selectors = Vec::new();
        for _ in 0..cursor.count()? {
            let mut matchers = Vec::new();
            for _ in 0..cursor.count()? {
                let op = *OPS.get(usize::from(cursor.u8()?))?;
                let (name, value) = (cursor.text()?, cursor.text()?);
                matchers.push(Matcher::new(name, op, value).ok()?);
            }
            selectors.push(matchers);
        }
        (!selectors.is_empty()).then_some(Self { last_sequence, range, selectors })
    }
}

/// The operators by their number on disk.
const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

/// Appends selectors as the file has them.
pub(crate) fn encode_selectors(selectors: &[Vec<Matcher>], out: &mut Vec<u8>) {
    put_u64(out, selectors.len() as u64);
    for matchers in selectors {
        put_u64(out, matchers.len() as u64);
        for matcher in matchers {
            let op = OPS.iter().position(|op| *op == matcher.op).unwrap_or_default();
            out.push(op as u8);
            put_bytes(out, matcher.name.as_bytes());
            put_bytes(out, matcher.value.as_bytes());
        }
    }
}

/// What is deleted of a block: by delete the series of which some may be.
#[derive(Debug, Clone)]
pub(crate) struct Deleted(Vec<(Arc<Tombstone>, RoaringBitmap)>);

impl Deleted {
    /// Returns the series of which a sample may be deleted.
    pub(crate) fn series(&self) -> RoaringBitmap {
        self.0.iter().fold(RoaringBitmap::new(), |all, (_, found)| all | found)
    }

    /// Says whether a sample of the series may be deleted.
    pub(crate) fn is_of(&self, series: u32) -> bool {
        self.0.iter().any(|(_, found)| found.contains(series))
    }

    /// Says whether a sample of the series at this time is deleted.
    pub(crate) fn hides(&self, series: u32, time: i64) -> bool {
        self.0.iter().any(|(tombstone, found)| tombstone.range.contains(time) && found.contains(series))
    }

    /// Says whether every time of `range` is deleted for the series.
    pub(crate) fn covers(&self, series: u32, range: MillisRange) -> bool {
        let mut from = range.min_ms;
        for deleted in self.ranges(series) {
            if from < deleted.min_ms {
                return false;
            }
            if deleted.max_ms >= range.max_ms {
                return true;
            }
            // Below the end of the range, and so below the greatest number.
            from = from.max(deleted.max_ms + 1);
        }
        false
    }

    /// Returns which places of `times`, which ascend, are left of the series.
    pub(crate) fn kept(&self, series: u32, times: &[i64]) -> Vec<std::ops::Range<usize>> {
        let mut kept = Vec::new();
        let mut from = 0;
        for deleted in self.ranges(series) {
            let start = times.partition_point(|time| *time < deleted.min_ms).max(from);
            let end = times.partition_point(|time| *time <= deleted.max_ms).max(from);
            kept.push(from..start);
            from = end;
        }
        kept.push(from..times.len());
        kept.retain(|range| !range.is_empty());
        kept
    }

    /// Says whether an exemplar is deleted; its series may have no sample in the block.
    pub(crate) fn hides_exemplar(&self, labels: &Labels, exemplar: &Exemplar) -> bool {
        let time = exemplar.sample.timestamp_ms;
        self.0.iter().any(|(tombstone, _)| tombstone.range.contains(time) && passes_any(labels, &tombstone.selectors))
    }

    /// Returns what is deleted of the series, by its start.
    fn ranges(&self, series: u32) -> Vec<MillisRange> {
        let of_series = self.0.iter().filter(|(_, found)| found.contains(series));
        let mut ranges: Vec<MillisRange> = of_series.map(|(tombstone, _)| tombstone.range).collect();
        ranges.sort_unstable_by_key(|range| range.min_ms);
        ranges
    }
}

/// The deletes that wait, and what they mean for the blocks of a view. Never changed: a new one takes its place.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    list: Vec<Arc<Tombstone>>,
    /// The blocks that were looked at; those without an entry in `by_block` hold nothing that is deleted.
    known: HashSet<BlockName>,
    by_block: HashMap<BlockName, Deleted>,
    /// Some are lost with a damaged file.
    pub(crate) is_damaged: bool,
}

impl Tombstones {
    /// Takes what was read from the file; blocks are looked at by [`next`](Self::next).
    pub(crate) fn loaded(list: Vec<Arc<Tombstone>>, is_damaged: bool) -> Self {
        Self { list, is_damaged, ..Self::default() }
    }

    /// Returns what `list` means for `blocks`, looking up only what is not known yet.
    ///
    /// # Errors
    /// Corruption of a block's index.
    pub(crate) fn next<'a>(
        &self,
        list: Vec<Arc<Tombstone>>,
        blocks: impl IntoIterator<Item = &'a Arc<Block>>,
    ) -> Result<Self> {
        let (before, after) = (pointers(&self.list), pointers(&list));
        let mut next = Self { list, is_damaged: self.is_damaged, ..Self::default() };
        for block in blocks {
            let name = block.name();
            let is_known = self.known.contains(&name);
            let mut deleted = match self.by_block.get(&name) {
                Some(Deleted(have)) if is_known => have.clone(),
                Some(_) | None => Vec::new(),
            };
            deleted.retain(|(tombstone, _)| after.contains(&Arc::as_ptr(tombstone)));
            for tombstone in &next.list {
                if !(is_known && before.contains(&Arc::as_ptr(tombstone)))
                    && let Some(series) = series_of(tombstone, block)?
                {
                    deleted.push((Arc::clone(tombstone), series));
                }
            }
            next.known.insert(name);
            if !deleted.is_empty() {
                next.by_block.insert(name, Deleted(deleted));
            }
        }
        Ok(next)
    }

    /// Returns what is deleted of a block, if anything is.
    pub(crate) fn of(&self, block: BlockName) -> Option<&Deleted> {
        self.by_block.get(&block)
    }

    pub(crate) fn list(&self) -> &[Arc<Tombstone>] {
        &self.list
    }

    /// Returns the greatest sequence number that a tombstone names: blocks to come must have greater ones.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.list.iter().map(|tombstone| tombstone.last_sequence).max().unwrap_or(0)
    }

    /// Returns the tombstones with one more; one that says the same of older blocks only goes.
    pub(crate) fn with(&self, new: Tombstone) -> Vec<Arc<Tombstone>> {
        let says = |tombstone: &Tombstone| {
            let mut bytes = Vec::new();
            encode_selectors(&tombstone.selectors, &mut bytes);
            bytes
        };
        let new_says = says(&new);
        let is_other = |have: &&Arc<Tombstone>| {
            have.range != new.range || have.last_sequence > new.last_sequence || says(have) != new_says
        };
        let mut list: Vec<_> = self.list.iter().filter(is_other).cloned().collect();
        list.push(Arc::new(new));
        list
    }

    /// Returns the tombstones that still mean something: a sample in a known block, or maybe in a damaged one.
    pub(crate) fn needed(&self, damaged: &[DamagedBlock]) -> Vec<Arc<Tombstone>> {
        let in_use: HashSet<_> = self
            .by_block
            .values()
            .flat_map(|Deleted(all)| all.iter().map(|(tombstone, _)| Arc::as_ptr(tombstone)))
            .collect();
        let is_needed = |tombstone: &&Arc<Tombstone>| {
            in_use.contains(&Arc::as_ptr(tombstone)) || damaged.iter().any(|damaged| tombstone.may_be_of(damaged))
        };
        self.list.iter().filter(is_needed).cloned().collect()
    }

    /// Returns the tombstones without those of `done`, except where a damaged block may still need one.
    pub(crate) fn without(&self, done: &[Arc<Tombstone>], damaged: &[DamagedBlock]) -> Vec<Arc<Tombstone>> {
        let done = pointers(done);
        let is_left = |tombstone: &&Arc<Tombstone>| {
            !done.contains(&Arc::as_ptr(tombstone)) || damaged.iter().any(|damaged| tombstone.may_be_of(damaged))
        };
        self.list.iter().filter(is_left).cloned().collect()
    }
}

/// Returns the series of a block of which a tombstone may mean a sample; `None` when there is none, and no exemplar.
fn series_of(tombstone: &Tombstone, block: &Block) -> Result<Option<RoaringBitmap>> {
    if !tombstone.is_of(block) {
        return Ok(None);
    }
    let mut series = RoaringBitmap::new();
    for id in find_any(&block.index, &tombstone.selectors)? {
        if block.index.entry(id)?.range().overlaps(&tombstone.range) {
            series.insert(id);
        }
    }
    // Exemplars are found by their labels, and may be of series that have no sample here.
    Ok((!series.is_empty() || block.meta.exemplars > 0).then_some(series))
}

fn pointers(list: &[Arc<Tombstone>]) -> HashSet<*const Tombstone> {
    list.iter().map(Arc::as_ptr).collect()
}

/// Returns the file's content.
pub(crate) fn encode(list: &[Arc<Tombstone>]) -> Vec<u8> {
    let mut body = Vec::new();
    put_u64(&mut body, list.len() as u64);
    for tombstone in list {
        tombstone.encode(&mut body);
    }
    let mut content = MAGIC.to_vec();
    content.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    content.extend_from_slice(&body);
    content
}

fn decode(content: &[u8]) -> Option<Vec<Arc<Tombstone>>> {
    let rest = content.strip_prefix(&MAGIC)?;
    let (crc, body) = rest.split_first_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut cursor = Cursor(body);
    let mut list = Vec::new();
    for _ in 0..cursor.count()? {
        list.push(Arc::new(Tombstone::decode(&mut cursor)?));
    }
    cursor.is_empty().then_some(list)
}

/// Reads the file in `dir`; none is no tombstone.
///
/// # Errors
/// I/O, and a file that does not hold what it should.
pub(crate) fn load(dir: &Path) -> Result<Vec<Arc<Tombstone>>> {
    let path = dir.join(TOMBSTONES_FILE);
    let content = match read_small(&path, FILE_BYTES_MAX) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        content => content?,
    };
    decode(&content).ok_or_else(|| corrupt(&path, "its checksum or content is wrong"))
}

/// Reads the file in `dir`, and sets a damaged one aside. Says whether one is.
///
/// # Errors
/// I/O.
pub(crate) fn load_or_set_aside(dir: &Path) -> Result<(Vec<Arc<Tombstone>>, bool)> {
    let aside = dir.join(DAMAGED_FILE);
    let list = match load(dir) {
        Err(error @ Error::Corrupt { .. }) => {
            tracing::error!(%error, "the list of deletes is damaged: deleted samples may be shown again");
            let path = dir.join(TOMBSTONES_FILE);
            fs::rename(&path, &aside).map_err(|source| Error::io("setting aside", &path, source))?;
            sync_dir(dir)?;
            Vec::new()
        }
        list => list?,
    };
    Ok((list, aside.exists()))
}

/// Replaces the file in `dir`.
///
/// # Errors
/// Disk full and other I/O.
pub(crate) fn store(dir: &Path, list: &[Arc<Tombstone>], faults: &Faults) -> Result<()> {
    let temporary = dir.join(format!("{TEMPORARY_PREFIX}{TOMBSTONES_FILE}"));
    write_new_file(&temporary, &encode(list), faults)?;
    let path = dir.join(TOMBSTONES_FILE);
    fs::rename(&temporary, &path).map_err(|source| Error::io("renaming", &path, source))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(ranges: &[(i64, i64)]) -> Deleted {
        let tombstone = |(min_ms, max_ms): &(i64, i64)| {
            let range = MillisRange { min_ms: *min_ms, max_ms: *max_ms };
            Arc::new(Tombstone { last_sequence: 1, range, selectors: Vec::new() })
        };
        Deleted(ranges.iter().map(|one| (tombstone(one), RoaringBitmap::from([7]))).collect())
    }

    #[track_caller]
    fn check_kept(ranges: &[(i64, i64)], times: &[i64], expected: &[i64]) {
        let kept = deleted(ranges).kept(7, times);
        assert_eq!(kept.iter().flat_map(|range| &times[range.clone()]).copied().collect::<Vec<_>>(), expected);
        assert!(kept.is_sorted_by(|a, b| a.end <= b.start));
        assert_eq!(deleted(ranges).kept(8, times).len(), usize::from(!times.is_empty()), "another series stays whole");
    }

    #[test]
    fn both_ends_of_a_range_are_deleted_and_nothing_else() {
        check_kept(&[(2, 4)], &[1, 2, 3, 4, 5], &[1, 5]);
        check_kept(&[(2, 4)], &[], &[]);
        check_kept(&[(6, 9), (-5, 0)], &[1, 5], &[1, 5]);
        check_kept(&[(3, 3), (1, 1), (5, 9)], &[1, 2, 3, 4, 5], &[2, 4]);
        check_kept(&[(1, 4), (2, 3), (2, 5)], &[1, 2, 3, 4, 5, 6], &[6]);
        check_kept(&[(i64::MIN, i64::MAX)], &[i64::MIN, 0, i64::MAX], &[]);
    }

    #[test]
    fn a_range_is_covered_by_ranges_that_meet() {
        let covers = |ranges: &[(i64, i64)], min_ms, max_ms| deleted(ranges).covers(7, MillisRange { min_ms, max_ms });
        assert!(covers(&[(1, 4), (5, 9)], 1, 9));
        assert!(covers(&[(5, 9), (1, 4)], 2, 6));
        assert!(covers(&[(i64::MIN, i64::MAX)], i64::MIN, i64::MAX));
        assert!(!covers(&[(1, 4), (6, 9)], 1, 9));
        assert!(!covers(&[(2, 9)], 1, 9) && !covers(&[(1, 8)], 1, 9) && !covers(&[], 1, 1));
        assert!(covers(&[(1, 9), (2, 3)], 1, 9));
        assert!(!deleted(&[(1, 9)]).covers(6, MillisRange { min_ms: 2, max_ms: 3 }));
    }

    fn list() -> Vec<Arc<Tombstone>> {
        let matchers = vec![
            Matcher::equal("__name__", "up"),
            Matcher::new("host", MatchOp::NotRegex, "a|b.*").unwrap(),
            Matcher::new("경로", MatchOp::Regex, ".+").unwrap(),
            Matcher::new("x", MatchOp::NotEqual, "").unwrap(),
        ];
        let tombstone = |last_sequence, min_ms, max_ms, selectors| {
            Arc::new(Tombstone { last_sequence, range: MillisRange { min_ms, max_ms }, selectors })
        };
        vec![
            tombstone(7, -5, 1 << 50, vec![matchers.clone(), vec![Matcher::equal("job", "x")]]),
            tombstone(u64::MAX, i64::MIN, i64::MAX, vec![matchers]),
        ]
    }

    #[test]
    fn tombstones_come_back_and_every_flipped_byte_is_noticed() {
        let content = encode(&list());
        assert_eq!(encode(&decode(&content).unwrap()), content);
        assert_eq!(format!("{:?}", decode(&content).unwrap()), format!("{:?}", list()));
        assert!(decode(&encode(&[])).unwrap().is_empty());
        for at in 0..content.len() {
            let mut bytes = content.clone();
            bytes[at] ^= 0x20;
            assert!(decode(&bytes).is_none(), "byte {at}");
            assert!(decode(&content[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_repeated_delete_takes_the_place_of_the_first() {
        let tombstones = Tombstones { list: list(), ..Tombstones::default() };
        let again = Tombstone { last_sequence: 9, ..(*list()[0]).clone() };
        let with = tombstones.with(again);
        assert_eq!(with.iter().map(|one| one.last_sequence).collect::<Vec<_>>(), [u64::MAX, 9]);
        let other = Tombstone { range: MillisRange { min_ms: 0, max_ms: 1 }, ..(*list()[0]).clone() };
        assert_eq!(tombstones.with(other).len(), 3);
    }
}
