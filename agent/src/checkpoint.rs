//! How far each input has read: kept in one file, brought up to date from the buffer's records at start.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, state};

/// Name of the file in the state directory.
const FILE: &str = "checkpoints.json";
/// Version of the file's layout.
const VERSION: u32 = 1;

/// What to remember of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct FileMark {
    /// Device.
    pub(crate) dev: u64,
    /// Inode.
    pub(crate) ino: u64,
    /// Where it was last seen.
    pub(crate) path: PathBuf,
    /// All before it was handed to the buffer.
    pub(crate) offset: u64,
    /// How many of its first bytes `head_hash` covers.
    pub(crate) head_len: u64,
    /// Hash of its first bytes.
    pub(crate) head_hash: u64,
    /// How many bytes before `offset` `tail_hash` covers.
    pub(crate) tail_len: u64,
    /// Hash of the bytes before `offset`.
    pub(crate) tail_hash: u64,
    /// Whether the rest of an overlong line is being skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) skipping: bool,
    /// Pieces of a line whose end was not read yet, by stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pieces: Vec<Piece>,
}

/// The beginning of a line that a container runtime wrote in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// `stdout` or `stderr`.
    pub(crate) stream: String,
    /// Time of the first piece, in nanoseconds since the epoch; 0 when unknown.
    pub(crate) time: i64,
    /// What was read of it.
    pub(crate) text: String,
    /// Whether it is over the limit, so that the rest is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) truncated: bool,
}

/// What a record of the buffer changes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Delta {
    /// Files that were read from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<FileMark>,
    /// Cursor of the last entry of the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) journal: Option<String>,
}

impl Delta {
    /// Encodes it as a record's meta.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// The last record of the logs' buffer that is included.
    seq: u64,
    files: Vec<FileMark>,
    #[serde(default)]
    journal: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    seq: u64,
    files: BTreeMap<(u64, u64), FileMark>,
    journal: Option<String>,
    changed: bool,
}

/// All read positions. Lock order: the queue's lock before this one.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    path: PathBuf,
    first_start: bool,
    inner: Mutex<Inner>,
}

impl Checkpoints {
    /// Reads the file in `dir`; without one, it is the first start.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let stored: Option<Stored> = match std::fs::read(&path) {
            Ok(bytes) => Some(
                serde_json::from_slice(&bytes)
                    .map_err(|error| Error::Checkpoints { path: path.clone(), reason: error.to_string() })?,
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(state("read", &path)(error)),
        };
        let first_start = stored.is_none();
        let stored = stored.unwrap_or(Stored { version: VERSION, ..Stored::default() });
        if stored.version != VERSION {
            let reason = format!("version {} is not {VERSION}", stored.version);
            return Err(Error::Checkpoints { path, reason });
        }
        let files = stored.files.into_iter().map(|mark| ((mark.dev, mark.ino), mark)).collect();
        let inner = Inner { seq: stored.seq, files, journal: stored.journal, changed: first_start };
        Ok(Self { path, first_start, inner: Mutex::new(inner) })
    }

    /// Says whether nothing was ever read from here, as far as the file and the records replayed so far tell.
    pub(crate) fn first_start(&self) -> bool {
        self.first_start && self.inner.lock().seq == 0
    }

    /// Returns the last record that is included.
    pub(crate) fn seq(&self) -> u64 {
        self.inner.lock().seq
    }

    /// Takes in what record `seq` says, unless it is included already.
    pub(crate) fn replay(&self, seq: u64, meta: &[u8]) {
        if seq <= self.seq() {
            return;
        }
        match serde_json::from_slice::<Delta>(meta) {
            Ok(delta) => self.apply(seq, delta),
            Err(error) => tracing::error!(%error, seq, "a record's read positions cannot be read"),
        }
    }

    /// Takes in what the record `seq`, which is durable now, says.
    pub(crate) fn apply(&self, seq: u64, delta: Delta) {
        let mut inner = self.inner.lock();
        inner.seq = inner.seq.max(seq);
        inner.changed = true;
        for mark in delta.files {
            inner.files.insert((mark.dev, mark.ino), mark);
        }
        if delta.journal.is_some() {
            inner.journal = delta.journal;
        }
    }

    /// Takes in a change that no record came of.
    pub(crate) fn update(&self, mark: FileMark) {
        self.apply(0, Delta { files: vec![mark], journal: None });
    }

    /// Forgets a file.
    pub(crate) fn remove(&self, key: (u64, u64)) {
        let mut inner = self.inner.lock();
        inner.changed |= inner.files.remove(&key).is_some();
    }

    /// Returns all files.
    pub(crate) fn files(&self) -> Vec<FileMark> {
        self.inner.lock().files.values().cloned().collect()
    }

    /// Returns the journal's cursor.
    pub(crate) fn journal(&self) -> Option<String> {
        self.inner.lock().journal.clone()
    }

    /// Writes the file, when something changed: a temporary name, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// When the disk refuses; the old file stays whole then.
    pub(crate) fn save(&self) -> Result<()> {
        let bytes = {
            let mut inner = self.inner.lock();
            if !inner.changed {
                return Ok(());
            }
            inner.changed = false;
            let files = inner.files.values().cloned().collect();
            let stored = Stored { version: VERSION, seq: inner.seq, files, journal: inner.journal.clone() };
            serde_json::to_vec(&stored).unwrap_or_default()
        };
        self.write(&bytes).inspect_err(|_| self.inner.lock().changed = true)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = std::fs::File::create(&temporary).map_err(state("create", &temporary))?;
        file.write_all(bytes).map_err(state("write", &temporary))?;
        file.sync_all().map_err(state("sync", &temporary))?;
        std::fs::rename(&temporary, &self.path).map_err(state("rename", &self.path))?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(state("sync", dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(ino: u64, offset: u64) -> FileMark {
        FileMark { dev: 1, ino, path: PathBuf::from("/a"), offset, ..FileMark::default() }
    }

    #[test]
    fn what_was_saved_comes_back_and_older_records_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        assert!(checkpoints.first_start());
        checkpoints.apply(7, Delta { files: vec![mark(1, 10), mark(2, 20)], journal: Some("c".to_owned()) });
        checkpoints.remove((1, 2));
        checkpoints.save().unwrap();

        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        assert!(!checkpoints.first_start());
        checkpoints.replay(6, &Delta { files: vec![mark(1, 5)], journal: None }.encode());
        assert_eq!(checkpoints.files(), vec![mark(1, 10)]);
        checkpoints.replay(8, &Delta { files: vec![mark(1, 15)], journal: None }.encode());
        assert_eq!(checkpoints.files(), vec![mark(1, 15)]);
        assert_eq!((checkpoints.seq(), checkpoints.journal()), (8, Some("c".to_owned())));
    }

    #[test]
    fn a_damaged_file_is_an_error_not_a_fresh_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{\"version\":1,\"seq\":").unwrap();
        assert!(matches!(Checkpoints::open(dir.path()), Err(Error::Checkpoints { .. })));
    }
}
