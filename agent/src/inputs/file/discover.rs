//! Finds files: new ones, renamed ones, copies, and those that are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::origin::{better, stem};
use super::tail::{Tailed, open};
use super::{Key, Tailer, mark};
use crate::checkpoint::FileMark;
use crate::config::StartAt;

/// Most paths that one look takes in.
const PATHS_MAX: usize = 1_000_000;
/// How many looks a file that seems to be a copy of a followed one is left alone, until the original is truncated.
const DEFER_MAX: u32 = 3;
/// Most entries of a folder that are looked at to find a renamed file.
const SIBLINGS_MAX: usize = 10_000;

/// A file that matches the patterns.
#[derive(Debug)]
pub(super) struct Candidate {
    path: PathBuf,
    size: u64,
    modified: (i64, i64),
}

impl Candidate {
    fn new(path: PathBuf, meta: &Metadata) -> Self {
        Self { path, size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// What one look found.
struct Found {
    files: BTreeMap<Key, Candidate>,
    /// Folders that could not be read: what was in them is not gone.
    unread: Vec<PathBuf>,
    /// Not everything was looked at.
    partial: bool,
}

impl Tailer {
    /// Looks for files, and brings what is followed up to date.
    pub(super) fn discover(&mut self) {
        let first = !std::mem::replace(&mut self.discovered, true);
        let found = self.look();
        let found = self.within_limit(found);
        let mut fresh = Vec::new();
        let seen: BTreeSet<Key> = found.files.keys().copied().collect();
        for (key, candidate) in found.files {
            if self.reused_while_closed(key, &candidate) {
                fresh.push((key, candidate));
            } else if let Some(file) = self.files.get_mut(&key) {
                let moved = file.mark.path != candidate.path;
                if moved {
                    file.mark.path = candidate.path;
                    self.touched.insert(key);
                    self.shared.stats.file_rotations.with(&["rename"]).inc();
                }
                file.gone = None;
                file.noticed_from_outside(candidate.size, candidate.modified);
            } else if let Some(mark) = self.known.remove(&key) {
                fresh.extend(self.resume(mark, candidate).map(|candidate| (key, candidate)));
            } else {
                fresh.push((key, candidate));
            }
        }
        // After those, because a copy is known by the file that it was copied from.
        let relatives = if fresh.is_empty() || (first && self.first_start) { HashMap::new() } else { self.relatives() };
        for (key, candidate) in fresh {
            self.add(key, candidate, first, &relatives);
        }
        if !found.partial {
            self.gone(&seen, &found.unread);
        }
        if first {
            self.find_rotated_while_away(&found.unread);
        }
    }

    fn look(&mut self) -> Found {
        let mut found = Found { files: BTreeMap::new(), unread: Vec::new(), partial: false };
        let mut paths = 0;
        let (exclude, files, stats) = (&self.exclude, &self.files, &self.shared.stats);
        for glob in &self.include {
            let mut unread = Vec::new();
            let mut take = |path: PathBuf| {
                paths += 1;
                if exclude.iter().any(|glob| glob.matches(&path)) {
                    return true;
                }
                // Dangling links and files that vanish meanwhile are none.
                let Ok(meta) = std::fs::metadata(&path) else { return true };
                if meta.is_file() {
                    let key = (meta.dev(), meta.ino());
                    let kept = match found.files.remove(&key) {
                        None => path,
                        // Several paths lead to it: it keeps the one it has.
                        Some(other) => match files.get(&key).map(|file| &file.mark.path) {
                            Some(known) if *known == path => path,
                            Some(known) if *known == other.path => other.path,
                            _ => better(path, other.path),
                        },
                    };
                    found.files.insert(key, Candidate::new(kept, &meta));
                }
                paths < PATHS_MAX
            };
            glob.walk(&mut take, &mut |dir, error| {
                tracing::debug!(%error, dir = %dir.display(), "could not read a folder");
                stats.file_errors.with(&["list"]).inc();
                unread.push(dir.to_owned());
            });
            found.unread.append(&mut unread);
        }
        found.partial = paths >= PATHS_MAX;
        found
    }

    /// Keeps the files that are followed already, then the most recently written.
    fn within_limit(&self, mut found: Found) -> Found {
        let over = found.files.len().saturating_sub(self.shared.config.files_max);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.shared.stats.skipped_files.with(&["limit"]).set(over as f64);
        if over > 0 {
            let mut order: Vec<_> = found
                .files
                .iter()
                .map(|(key, file)| (self.files.contains_key(key) || self.known.contains_key(key), file.modified, *key))
                .collect();
            order.sort_unstable();
            for (_, _, key) in order.into_iter().take(over) {
                found.files.remove(&key);
            }
        }
        found
    }

    fn follow(&mut self, mark: FileMark, size: u64, modified: (i64, i64)) {
        let mut file = Tailed::new(mark);
        file.noticed(size, modified);
        self.files.insert(file.key(), file);
    }

    /// Says whether a closed file was deleted and its inode given to another one, and forgets it then. An open file keeps
    /// its inode.
    fn reused_while_closed(&mut self, key: Key, candidate: &Candidate) -> bool {
        let Some(file) = self.files.get_mut(&key) else { return false };
        if file.file.is_some() || file.mark.path == candidate.path || is_same(&file.mark, candidate) {
            return false;
        }
        self.shared.stats.file_rotations.with(&["inode_reused"]).inc();
        file.finish_pieces(&mut self.shared);
        self.forget(key);
        true
    }

    /// Goes on with a file of an earlier start. Gives the candidate back when it is another file with the same inode.
    fn resume(&mut self, mut mark: FileMark, candidate: Candidate) -> Option<Candidate> {
        if is_same(&mark, &candidate) {
            mark.path = candidate.path;
            self.follow(mark, candidate.size, candidate.modified);
            return None;
        }
        let mut old = Tailed::new(mark);
        old.finish_pieces(&mut self.shared);
        if !self.shared.batch.is_empty() {
            self.batch_since.get_or_insert_with(Instant::now);
        }
        let key = old.key();
        self.touched.insert(key);
        if old.mark.path != candidate.path {
            self.shared.stats.file_rotations.with(&["inode_reused"]).inc();
            return Some(candidate);
        }
        self.shared.stats.file_rotations.with(&["truncate"]).inc();
        let fresh = FileMark { dev: key.0, ino: key.1, path: candidate.path, ..FileMark::default() };
        self.follow(fresh, candidate.size, candidate.modified);
        if let Some(file) = self.files.get_mut(&key) {
            file.before_truncation = Some(old.mark);
        }
        None
    }

    /// Returns followed files by folder and stem, among which the original of a copy is.
    fn relatives(&self) -> HashMap<(PathBuf, String), Vec<Key>> {
        let mut relatives: HashMap<_, Vec<Key>> = HashMap::new();
        for (key, file) in &self.files {
            relatives.entry(family(&file.mark.path)).or_default().push(*key);
        }
        relatives
    }

    /// Begins to follow a file that was never seen.
    fn add(&mut self, key: Key, candidate: Candidate, first: bool, relatives: &HashMap<(PathBuf, String), Vec<Key>>) {
        let mut mark = FileMark { dev: key.0, ino: key.1, path: candidate.path, ..FileMark::default() };
        let config = &self.shared.config;
        if first && self.first_start {
            let age_seconds = self.shared.now / 1_000_000_000 - candidate.modified.0;
            let limit = i64::try_from(config.ignore_older_than.as_secs()).unwrap_or(i64::MAX);
            let too_old = limit > 0 && age_seconds > limit;
            if too_old || config.start_at == StartAt::End {
                mark.offset = candidate.size;
                let refreshed = open(&mark.path).and_then(|file| mark::refresh(&mut mark, &file));
                if let Err(error) = refreshed {
                    tracing::warn!(%error, path = %mark.path.display(), "could not open a file");
                    self.shared.stats.file_errors.with(&["open"]).inc();
                }
                let reason = if too_old { "too_old" } else { "start_at_end" };
                self.shared.stats.file_unread_bytes.with(&[reason]).inc_by(candidate.size);
            }
        } else if let Some(originals) = relatives.get(&family(&mark.path)) {
            match self.copied_from(&mark.path, candidate.size, originals) {
                Copied::Read(before) => {
                    mark = FileMark { dev: key.0, ino: key.1, path: mark.path, pieces: Vec::new(), ..before };
                    self.shared.stats.file_rotations.with(&["copy"]).inc();
                }
                Copied::Perhaps => {
                    let times = self.deferred.entry(key).or_default();
                    *times += 1;
                    if *times <= DEFER_MAX {
                        return;
                    }
                }
                Copied::No => {}
            }
        }
        self.deferred.remove(&key);
        self.touched.insert(key);
        self.save_soon = true;
        self.follow(mark, candidate.size, candidate.modified);
    }

    /// Says whether the file at `path` is a copy, made by `copytruncate`, of what one of `originals` was.
    fn copied_from(&mut self, path: &PathBuf, size: u64, originals: &[Key]) -> Copied {
        let Ok(file) = open(path) else { return Copied::No };
        let is =
            |mark: &FileMark| mark.offset > 0 && size >= mark.offset && mark::matches(mark, &file).unwrap_or(false);
        for key in originals {
            let Some(original) = self.files.get_mut(key) else { continue };
            if original.before_truncation.as_ref().is_some_and(is)
                && let Some(before) = original.before_truncation.take()
            {
                return Copied::Read(before);
            }
            if is(&original.mark) {
                // Truncated already, but not looked at yet?
                let whole = open(&original.mark.path).and_then(|file| mark::matches(&original.mark, &file));
                return if whole.unwrap_or(true) { Copied::Perhaps } else { Copied::Read(original.mark.clone()) };
            }
        }
        Copied::No
    }

    /// Marks files that no path leads to any more; they are read to their end first.
    fn gone(&mut self, seen: &BTreeSet<Key>, unread: &[PathBuf]) {
        self.deferred.retain(|key, _| seen.contains(key));
        let lost: Vec<Key> = self
            .files
            .iter()
            .filter(|(key, file)| {
                file.gone.is_none() && !seen.contains(key) && !unread.iter().any(|dir| file.mark.path.starts_with(dir))
            })
            .map(|(key, _)| *key)
            .collect();
        for key in lost {
            let Some(file) = self.files.get_mut(&key) else { continue };
            let kind = if file.mark.path.exists() { "rename" } else { "delete" };
            self.shared.stats.file_rotations.with(&[kind]).inc();
            if file.file.is_none() {
                // It was closed: look for it under another name.
                match sibling(&file.mark.path, key) {
                    Some((path, meta)) => {
                        file.mark.path = path;
                        file.noticed(meta.len(), (meta.mtime(), meta.mtime_nsec()));
                    }
                    None => {
                        let unread = file.size.saturating_sub(file.mark.offset);
                        self.shared.stats.file_unread_bytes.with(&["deleted"]).inc_by(unread);
                        if unread > 0 {
                            tracing::warn!(path = %file.mark.path.display(), bytes = unread, "a file was deleted before it was read");
                        }
                        self.forget(key);
                        continue;
                    }
                }
            }
            file.gone = Some(Instant::now());
        }
    }

    /// Reads on in files that were renamed while the agent was away, to a name that the patterns do not match.
    fn find_rotated_while_away(&mut self, unread: &[PathBuf]) {
        for (key, mut mark) in std::mem::take(&mut self.known) {
            if unread.iter().any(|dir| mark.path.starts_with(dir)) {
                self.known.insert(key, mark);
                continue;
            }
            let found = sibling(&mark.path, key).filter(|(path, meta)| {
                meta.len() >= mark.offset && open(path).and_then(|file| mark::matches(&mark, &file)).unwrap_or(false)
            });
            match found {
                Some((path, meta)) => {
                    mark.path = path;
                    self.follow(mark, meta.len(), (meta.mtime(), meta.mtime_nsec()));
                    if let Some(file) = self.files.get_mut(&key) {
                        file.gone = Some(Instant::now());
                    }
                }
                None => self.leaving.push(mark),
            }
        }
    }
}

/// Says whether what was found is the marked file, grown perhaps.
///
/// Nothing was read of it when the offset is 0, so only its name can tell; taken as new it is read whole all the same.
fn is_same(mark: &FileMark, candidate: &Candidate) -> bool {
    if mark.offset == 0 {
        return mark.path == candidate.path;
    }
    candidate.size >= mark.offset && open(&candidate.path).and_then(|file| mark::matches(mark, &file)).unwrap_or(false)
}

/// Whether a new file is a copy.
enum Copied {
    /// Of a file that was truncated since: read on where that was left.
    Read(FileMark),
    /// Of a file that may be truncated next.
    Perhaps,
    No,
}

fn family(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    (path.parent().unwrap_or(Path::new("/")).to_owned(), stem(&name).to_owned())
}

/// Finds the file with this device and inode in the folder that `path` is in.
fn sibling(path: &Path, key: Key) -> Option<(PathBuf, Metadata)> {
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries.take(SIBLINGS_MAX).filter_map(Result::ok).find_map(|entry| {
        let meta = entry.metadata().ok()?;
        ((meta.dev(), meta.ino()) == key && meta.is_file()).then(|| (entry.path(), meta))
    })
}
