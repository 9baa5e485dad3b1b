//! Why a data directory could not be opened.

use std::path::{Path, PathBuf};

/// The result of opening a data directory.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has it open.
    #[error("another process has {path} open")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// There is nothing of ours in it.
    #[error("{path} is no data directory: it has neither metrics, logs nor wal")]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{attempt} {path} failed")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A store could not be opened.
    #[error(transparent)]
    Store(#[from] storage_api::Error),
}

impl Error {
    pub(crate) fn io(attempt: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { attempt, path: path.to_owned(), source }
    }
}
