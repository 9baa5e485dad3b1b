//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

use crate::SegmentId;

/// The result of a call on the log.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk or a quota is full. Nothing of the call was kept, and the log stays usable.
    #[error("no space left while {attempt} {path}")]
    DiskFull {
        /// What was tried.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("{attempt} {path} failed")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A failed fsync, or a failed repair after a failed write, left the disk's state unknown. Only a reopened log may
    /// be written again.
    #[error("the log refuses records since an earlier failure: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The record is longer than the log takes.
    #[error("a record of {size_bytes} bytes is over the limit of {limit_bytes}")]
    RecordTooLarge {
        /// Its length.
        size_bytes: u64,
        /// The most that is taken.
        limit_bytes: u64,
    },
    /// The segment was written by a later version.
    #[error("segment {segment} ({path}) has version {got}, this program knows {expected}")]
    UnknownVersion {
        /// Which segment.
        segment: SegmentId,
        /// Its file.
        path: PathBuf,
        /// Its version.
        got: u16,
        /// The version that is known.
        expected: u16,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Wraps an I/O error, and tells a full disk apart.
    pub(crate) fn io(attempt: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) { Self::DiskFull { attempt, path, source } } else { Self::Io { attempt, path, source } }
    }

    /// Returns the same error for another caller of the same group; an `io::Error` cannot be cloned.
    pub(crate) fn share(&self) -> Self {
        let copy = |source: &io::Error| match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        match self {
            Self::DiskFull { attempt, path, source } => {
                Self::DiskFull { attempt, path: path.clone(), source: copy(source) }
            }
            Self::Io { attempt, path, source } => Self::Io { attempt, path: path.clone(), source: copy(source) },
            Self::Poisoned { reason } => Self::Poisoned { reason: reason.clone() },
            Self::RecordTooLarge { size_bytes, limit_bytes } => {
                Self::RecordTooLarge { size_bytes: *size_bytes, limit_bytes: *limit_bytes }
            }
            Self::UnknownVersion { segment, path, got, expected } => {
                Self::UnknownVersion { segment: *segment, path: path.clone(), got: *got, expected: *expected }
            }
            Self::Closed => Self::Closed,
        }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
