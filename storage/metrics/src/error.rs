//! Turns failures of the layers below into the terms of `storage-api`.

use std::io;
use std::path::Path;

use parquet::errors::ParquetError;
use storage_api::Error;

/// Carries a `storage-api` error out of a WAL replay.
#[derive(Debug)]
pub(crate) struct ReplayError(pub(crate) Error);

impl From<storage_wal::Error> for ReplayError {
    fn from(error: storage_wal::Error) -> Self {
        Self(wal(error))
    }
}

/// Translates an error of the WAL.
pub(crate) fn wal(error: storage_wal::Error) -> Error {
    use storage_wal::Error as Wal;
    let told = error.to_string();
    match error {
        Wal::DiskFull { attempt, path, .. } => Error::DiskFull { attempt: format!("{attempt} {}", path.display()) },
        Wal::Io { attempt, path, source } => Error::io(attempt, path, source),
        Wal::Poisoned { reason } => Error::Poisoned { reason },
        Wal::Closed => Error::Closed,
        Wal::UnknownVersion { path, .. } => Error::Corrupt { path: path.display().to_string(), reason: told },
        Wal::RecordTooLarge { .. } => Error::Invalid(told),
        other => Error::Corrupt { path: "the WAL".to_owned(), reason: other.to_string() },
    }
}

/// Translates an error while a Parquet file is written.
pub(crate) fn writing(path: &Path, error: ParquetError) -> Error {
    let told = error.to_string();
    let source = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => io::Error::other(source.to_string()),
        },
        _ => io::Error::other(told),
    };
    Error::io("writing", path, source)
}

/// Says that a file does not hold what it should.
pub(crate) fn corrupt(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Corrupt { path: path.display().to_string(), reason: reason.to_string() }
}
