//! `meta.json`: what a block holds, and which files it consists of.

use std::path::Path;

use serde::{Deserialize, Serialize};
use storage_api::{MillisRange, Result};

use super::file::read_small;

/// The version that is written and read.
pub(crate) const FORMAT_VERSION: u32 = 4;
/// The file's name.
pub(crate) const META_FILE: &str = "meta.json";
/// Largest `meta.json` that is read, in bytes; real ones have some 700.
const META_BYTES_MAX: u64 = 64 << 10;

/// A file of the block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMeta {
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    /// crc32c of the whole file; for `samples.parquet` of its extents' checksums, which the index holds.
    pub(crate) crc32c: u32,
}

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) format_version: u32,
    /// Blocks are numbered as they are flushed; a merged one stands for all from the first to the last.
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    /// 0 when flushed from the head, one more with each merge.
    pub(crate) level: u32,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) samples: u64,
    pub(crate) series: u64,
    /// Native histograms, and exemplars.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) histograms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) exemplars: u64,
    /// WAL segments before this one are covered by this block and those before it.
    pub(crate) wal_first_needed_segment: u64,
    pub(crate) files: Vec<FileMeta>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A block's name, which says what it stands for even when `meta.json` is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockName {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) level: u32,
}

impl BlockName {
    /// Reads a folder's name; `None` for folders that are no blocks.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let first = parts.next()?.parse().ok()?;
        let last = parts.next()?.parse().ok()?;
        let level = parts.next()?.strip_prefix('l')?.parse().ok()?;
        (parts.next().is_none() && first <= last).then_some(Self { first, last, level })
    }

    /// Says whether this block stands for all that `other` holds.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last && self.level > other.level
    }
}

impl std::fmt::Display for BlockName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:012}-{:012}-l{}", self.first, self.last, self.level)
    }
}

impl Meta {
    pub(crate) fn name(&self) -> BlockName {
        BlockName { first: self.first_sequence, last: self.last_sequence, level: self.level }
    }

    pub(crate) fn range(&self) -> MillisRange {
        MillisRange { min_ms: self.min_time_ms, max_ms: self.max_time_ms }
    }

    /// Returns how many samples it holds, native histograms included.
    pub(crate) fn all_samples(&self) -> u64 {
        self.samples.saturating_add(self.histograms)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    pub(crate) fn file(&self, name: &str) -> Option<&FileMeta> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Encodes the file: JSON for people, with a checksum over the rest in the last field.
    pub(crate) fn encode(&self) -> String {
        let mut body = serde_json::to_string_pretty(self).expect("a struct of numbers and names has a JSON form");
        body.truncate(body.trim_end_matches(['}', '\n']).len());
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{body},\n  \"meta_crc32c\": {crc}\n}}\n")
    }

    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(META_FILE);
        let content = read_small(&path, META_BYTES_MAX)?;
        Self::decode(&content).map_err(|reason| crate::error::corrupt(&path, reason))
    }

    fn decode(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
        let (body, rest) = text.rsplit_once(",\n  \"meta_crc32c\": ").ok_or("there is no meta_crc32c")?;
        let expected: u32 = rest.strip_suffix("\n}\n").and_then(|crc| crc.parse().ok()).ok_or("meta_crc32c is cut")?;
        let got = crc32c::crc32c(body.as_bytes());
        if got != expected {
            return Err(format!("checksum {got}, expected {expected}"));
        }
        let meta: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if meta.format_version != FORMAT_VERSION {
            let got = meta.format_version;
            return Err(format!("format version {got}, this program knows {FORMAT_VERSION}"));
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            format_version: FORMAT_VERSION,
            first_sequence: 3,
            last_sequence: 5,
            level: 1,
            min_time_ms: -1,
            max_time_ms: 100,
            samples: 7,
            series: 2,
            histograms: 4,
            exemplars: 0,
            wal_first_needed_segment: 9,
            files: vec![FileMeta { name: "index".to_owned(), size_bytes: 12, crc32c: 77 }],
        }
    }

    #[test]
    fn meta_comes_back_and_every_flipped_byte_is_noticed() {
        let text = meta().encode();
        assert_eq!(Meta::decode(text.as_bytes()), Ok(meta()));
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Meta::decode(&bytes).is_err(), "byte {at}");
            assert!(Meta::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn names_come_back() {
        let name = meta().name();
        assert_eq!(BlockName::parse(&name.to_string()), Some(name));
        for bad in ["", ".tmp-1-2-l0", "1-2", "2-1-l0", "1-2-l0-x", "wal"] {
            assert_eq!(BlockName::parse(bad), None, "{bad}");
        }
    }
}
