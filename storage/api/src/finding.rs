//! What a check of files on disk found.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Something about a file that people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong, or odd, and where in the file.
    pub reason: String,
    /// Something is lost or wrong. Otherwise it is what a crash may leave, and the next start cleans up.
    pub is_damage: bool,
}

impl Finding {
    /// Notes damage.
    pub fn damage(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), is_damage: true }
    }

    /// Notes what is odd, but no damage.
    pub fn note(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), is_damage: false }
    }

    /// Notes damage that an error tells of, which names its file itself; `path` is for one that does not.
    pub fn of(error: &Error, path: &Path) -> Self {
        match error {
            Error::Corrupt { path, reason } => Self::damage(path, reason),
            Error::Io { attempt, path, source } => Self::damage(path, format!("{attempt} failed: {source}")),
            error => Self::damage(path, error.to_string()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Takes what is found, as it is found.
pub type Findings<'a> = &'a mut dyn FnMut(Finding);

/// What a check of a store went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Blocks.
    pub blocks: u64,
    /// Samples or log records in them.
    pub rows: u64,
    /// Bytes of the blocks' files.
    pub bytes: u64,
    /// Records of the write-ahead log.
    pub wal_records: u64,
}

/// One block of a store, as its `meta.json` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its folder's name.
    pub name: String,
    /// How many merges led to it.
    pub level: u32,
    /// The least and greatest time in it, in nanoseconds since the epoch.
    pub min_time_ns: i128,
    /// See `min_time_ns`.
    pub max_time_ns: i128,
    /// Samples or log records.
    pub rows: u64,
    /// Series or streams.
    pub series: u64,
    /// Its files, in bytes.
    pub bytes: u64,
    /// Why it cannot be read; what could not be learned is 0.
    pub damage: Option<String>,
}
