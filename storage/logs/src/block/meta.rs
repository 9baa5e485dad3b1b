//! A block's `meta.json`: what it covers and which files belong to it.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage_api::{Error, Result};

use super::files::{corrupt, write_file};

/// The version that is written.
pub(crate) const VERSION: u32 = 3;
/// The first version, which is read as well, as are those between.
const VERSION_MIN: u32 = 1;
/// The file's name.
pub(crate) const META_FILE: &str = "meta.json";
/// Longest `meta.json`.
const META_BYTES_MAX: u64 = 1 << 20;

/// The flushes that a block holds: one, or after compaction a run of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// The first flush.
    pub(crate) first: u64,
    /// The last flush, inclusive.
    pub(crate) last: u64,
    /// How often the block was written anew without its deleted rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) rewrite: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Sequence {
    /// Names the flushes from `first` to `last`.
    pub(crate) fn new(first: u64, last: u64) -> Self {
        Self { first, last, rewrite: 0 }
    }

    /// Names the same flushes, written once more.
    pub(crate) fn rewritten(self) -> Self {
        Self { rewrite: self.rewrite.saturating_add(1), ..self }
    }

    /// Says whether this stands for `other`: all its flushes are in here too, and where there are no others, it was written
    /// later, or is the same.
    pub(crate) fn covers(self, other: Self) -> bool {
        let is_wider = (self.first, self.last) != (other.first, other.last);
        self.first <= other.first && other.last <= self.last && (is_wider || other.rewrite <= self.rewrite)
    }

    /// Reads a folder's name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (flushes, rewrite) = match name.split_once('.') {
            Some((flushes, rewrite)) => (flushes, rewrite.parse().ok()?),
            None => (name, 0),
        };
        let (first, last) = flushes.split_once('-')?;
        let sequence = Self { first: first.parse().ok()?, last: last.parse().ok()?, rewrite };
        (sequence.to_string() == name && sequence.first <= sequence.last).then_some(sequence)
    }
}

/// The folder's name.
impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}-{:012}", self.first, self.last)?;
        if self.rewrite > 0 { write!(f, ".{}", self.rewrite) } else { Ok(()) }
    }
}

/// A file of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileMeta {
    /// Its path in the folder.
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    /// crc32c of the whole file.
    pub(crate) crc32c: u32,
}

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockMeta {
    pub(crate) version: u32,
    pub(crate) sequence: Sequence,
    /// WAL segments before this one are covered by this block and those before it.
    pub(crate) wal_before: u64,
    pub(crate) rows: u64,
    pub(crate) streams: u64,
    pub(crate) pages: u64,
    /// Bytes of all lines.
    pub(crate) line_bytes: u64,
    /// First and last timestamp, in nanoseconds, both inside.
    pub(crate) min_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// Compactions that led here; 0 for a flush.
    pub(crate) level: u32,
    pub(crate) zstd_level: i32,
    pub(crate) files: Vec<FileMeta>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    /// Of the text of `block`, byte by byte.
    crc32c: u32,
    #[serde(borrow)]
    block: &'a RawValue,
}

impl BlockMeta {
    /// Returns the size of all files.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// Returns the file called `name`.
    pub(crate) fn file(&self, name: &str) -> Option<&FileMeta> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Writes the file into the folder and fsyncs it.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(META_FILE);
        let fail = |error: serde_json::Error| Error::Invalid(format!("a block's meta.json: {error}"));
        let text = serde_json::to_string(self).map_err(fail)?;
        let crc32c = crc32c::crc32c(text.as_bytes());
        let block = RawValue::from_string(text).map_err(fail)?;
        let text = serde_json::to_string(&Envelope { crc32c, block: &block }).map_err(fail)?;
        write_file(&path, text.as_bytes())
    }

    /// Reads the file of the folder.
    ///
    /// # Errors
    /// [`Error::Corrupt`] unless every byte is as it was written; [`Error::Io`].
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(META_FILE);
        let reading = |source| Error::io("reading", &path, source);
        let size = std::fs::metadata(&path).map_err(reading)?.len();
        if size > META_BYTES_MAX {
            return Err(corrupt(&path, format!("it has {size} bytes, the most is {META_BYTES_MAX}")));
        }
        let bytes = std::fs::read(&path).map_err(reading)?;
        let envelope: Envelope<'_> =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(&path, error.to_string()))?;
        let text = envelope.block.get();
        if crc32c::crc32c(text.as_bytes()) != envelope.crc32c {
            return Err(corrupt(&path, "its checksum is wrong"));
        }
        let meta: Self = serde_json::from_str(text).map_err(|error| corrupt(&path, error.to_string()))?;
        if !(VERSION_MIN..=VERSION).contains(&meta.version) {
            let reason = format!("its version is {}, this program knows {VERSION_MIN} to {VERSION}", meta.version);
            return Err(corrupt(&path, reason));
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_names_a_folder() {
        let sequence = Sequence::new(3, 12);
        assert_eq!(sequence.to_string(), "000000000003-000000000012");
        assert_eq!(sequence.rewritten().to_string(), "000000000003-000000000012.1");
        for sequence in [sequence, sequence.rewritten()] {
            assert_eq!(Sequence::parse(&sequence.to_string()), Some(sequence));
        }
        let bad = ["", "3-12", "x", "000000000003", "tmp-1", "000000000012-000000000003"];
        for name in bad.into_iter().chain(["000000000003-000000000012.0", "000000000003-000000000012.x"]) {
            assert_eq!(Sequence::parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_was_written_later_or_holds_more_stands_for_the_other() {
        let (one, wide) = (Sequence::new(3, 4), Sequence::new(3, 5));
        assert!(one.covers(one) && wide.covers(one) && wide.covers(one.rewritten()));
        assert!(one.rewritten().covers(one) && !one.covers(one.rewritten()));
        assert!(!one.covers(wide) && !one.rewritten().covers(wide));
    }
}
