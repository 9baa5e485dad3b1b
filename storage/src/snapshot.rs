//! Copies of the data directory by hard links, on which a server can be started.

use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::DateTime;
use model::Matcher;
use runtime::Clock;
use storage_api::{Error, MetricAdmin, MillisRange, Result};
use storage_logs::LogStore;
use storage_metrics::MetricStore;

/// The folder of the copies.
const SNAPSHOTS_DIR: &str = "snapshots";
/// How names of unfinished copies begin.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// Deletes metrics, and copies the directory.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) data_dir: PathBuf,
    pub(crate) metrics: Arc<MetricStore>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) clock: Clock,
}

impl MetricAdmin for Admin {
    fn delete_series(&self, selectors: &[Vec<Matcher>], range: MillisRange) -> Result<()> {
        self.metrics.delete_series(selectors, range)
    }

    fn clean_tombstones(&self) -> Result<()> {
        self.metrics.clean_tombstones()
    }

    /// Copies both stores. The copy appears under its name when all of it is on disk.
    fn snapshot(&self, skip_head: bool) -> Result<String> {
        if !skip_head {
            self.metrics.flush()?;
            self.logs.flush()?;
        }
        let name = new_name(self.clock.now_millis());
        let parent = self.data_dir.join(SNAPSHOTS_DIR);
        let temporary = parent.join(format!("{TEMPORARY_PREFIX}{name}"));
        let made = self.link_all(&temporary).and_then(|()| {
            let place = parent.join(&name);
            fs::rename(&temporary, &place).map_err(|source| Error::io("renaming", &temporary, source))?;
            sync_dir(&parent)?;
            sync_dir(&self.data_dir)
        });
        if made.is_err()
            && let Err(error) = remove(&temporary)
        {
            tracing::warn!(%error, "an unfinished snapshot could not be removed, the next start will do it");
        }
        made.map(|()| name)
    }
}

impl Admin {
    fn link_all(&self, to: &Path) -> Result<()> {
        let (metrics, logs) = (to.join("metrics"), to.join("logs"));
        for dir in [&metrics, &logs] {
            fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
        }
        self.metrics.each_file(&mut |path| link_into(path, &metrics))?;
        self.logs.each_file(&mut |path| link_into(path, &logs))?;
        for dir in [&metrics, &logs, to] {
            sync_dir(dir)?;
        }
        Ok(())
    }
}

/// Removes copies that a crash left unfinished.
pub(crate) fn remove_unfinished(data_dir: &Path) -> Result<()> {
    let parent = data_dir.join(SNAPSHOTS_DIR);
    let listing = |source| Error::io("listing", &parent, source);
    let entries = match fs::read_dir(&parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(listing)?,
    };
    for entry in entries {
        let entry = entry.map_err(listing)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Returns a name that nobody has: the time in UTC, and a random number.
fn new_name(now_ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(now_ms).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
    let random = std::collections::hash_map::RandomState::new().hash_one(now_ms) >> 1;
    format!("{time}-{random:016x}")
}

/// Links a file, or a folder with all that is in it, into `dir`; copies where the file system links nothing.
fn link_into(path: &Path, dir: &Path) -> Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let to = dir.join(name);
    if path.is_dir() {
        fs::create_dir(&to).map_err(|source| Error::io("creating", &to, source))?;
        let listing = |source| Error::io("listing", path, source);
        for entry in fs::read_dir(path).map_err(listing)? {
            link_into(&entry.map_err(listing)?.path(), &to)?;
        }
        return sync_dir(&to);
    }
    if fs::hard_link(path, &to).is_ok() {
        return Ok(());
    }
    let copied = fs::copy(path, &to).and_then(|_| fs::File::open(&to)).and_then(|file| file.sync_all());
    copied.map_err(|source| Error::io("copying", path, source))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", dir, source)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| Error::io("syncing the directory", dir, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_time_and_a_random_number() {
        let names: Vec<String> = (0..50).map(|_| new_name(1_512_943_944_999)).collect();
        for name in &names {
            let (time, random) = name.split_once('-').unwrap();
            assert_eq!(time, "20171210T221224Z");
            assert!(random.len() == 16 && i64::from_str_radix(random, 16).is_ok(), "{random}");
        }
        assert!(names.iter().any(|name| *name != names[0]));
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        remove_unfinished(dir.path()).unwrap();
        for name in [".tmp-20171210T221224Z-1", "20171210T221224Z-2"] {
            fs::create_dir_all(dir.path().join("snapshots").join(name).join("metrics")).unwrap();
        }
        remove_unfinished(dir.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(dir.path().join("snapshots")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["20171210T221224Z-2"]);
    }
}
