//! Keeps two processes from opening one data directory.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::path::Path;

use crate::{Error, Result};

/// The lock on a data directory; given back when dropped, or when the process ends however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock, and writes our process id into the file for people.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("LOCK");
        let opened = File::options().create(true).truncate(false).write(true).read(true).open(&path);
        let mut file = opened.map_err(|source| Error::io("opening", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(Error::io("locking", &path, source)),
        }
        // The id is a help for people only: a full disk must not keep the server from starting.
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "the process id could not be written to the lock file");
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_opened_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path()).unwrap();
        let error = DirLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("another process has "), "{error}");
        drop(first);
        DirLock::take(dir.path()).unwrap();
    }
}
