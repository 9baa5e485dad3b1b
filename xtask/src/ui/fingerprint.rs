//! A hash over everything the bundle is made from, to skip a build that would give the same files.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What goes into the bundle, relative to the workspace's root: files and folders.
const INPUTS: [&str; 8] =
    ["Cargo.lock", "Cargo.toml", "query/wire", "ui/Cargo.toml", "ui/index.html", "ui/public", "ui/src", "xtask/src"];

/// A hash of file names and contents. Equal hashes are taken to mean equal inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Hashes one piece of content, for the names of files.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self(hasher.finish())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Hashes all inputs of the bundle, in the order of their paths.
///
/// # Errors
/// When an input cannot be read.
pub(crate) fn of_sources(root: &Path) -> Result<Fingerprint> {
    let mut files = Vec::new();
    for input in INPUTS {
        files_under(&root.join(input), &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        hasher.write(file.strip_prefix(root).unwrap_or(&file).as_os_str().as_encoded_bytes());
        hasher.write_u8(0);
        let content = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        hasher.write_usize(content.len());
        hasher.write(&content);
    }
    Ok(Fingerprint(hasher.finish()))
}

fn files_under(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
    } else if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
            files_under(&entry.with_context(|| format!("listing {}", path.display()))?.path(), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn the_same_sources_have_the_same_fingerprint_wherever_they_are() {
        let files = [("ui/src/lib.rs", "a"), ("Cargo.lock", "b")];
        let (one, two) = (workspace(&files), workspace(&files));
        assert_eq!(of_sources(one.path()).unwrap(), of_sources(two.path()).unwrap());
    }

    #[test]
    fn a_changed_byte_a_new_file_and_a_moved_byte_each_change_it() {
        let base = of_sources(workspace(&[("ui/src/a.rs", "xy"), ("ui/src/b.rs", "z")]).path()).unwrap();
        for files in [
            &[("ui/src/a.rs", "xY"), ("ui/src/b.rs", "z")][..],
            &[("ui/src/a.rs", "xy"), ("ui/src/b.rs", "z"), ("ui/src/c.rs", "")],
            &[("ui/src/a.rs", "x"), ("ui/src/b.rs", "yz")],
        ] {
            assert_ne!(of_sources(workspace(files).path()).unwrap(), base, "{files:?}");
        }
    }

    #[test]
    fn files_that_are_not_in_the_bundle_do_not_count() {
        let base = of_sources(workspace(&[("ui/src/a.rs", "x")]).path()).unwrap();
        let more = workspace(&[("ui/src/a.rs", "x"), ("ui/README.md", "y"), ("storage/src/lib.rs", "z")]);
        assert_eq!(of_sources(more.path()).unwrap(), base);
    }
}
