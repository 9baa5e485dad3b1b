//! Mounted filesystems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Kind, Point, ReadError, Reading, float, text};
use crate::config::HostConfig;

/// Most filesystems that are told of; a host has tens.
const FILESYSTEMS_MAX: usize = 1000;

struct Mount {
    device: String,
    point: String,
    kind: String,
    mode: &'static str,
    usage: rustix::fs::StatVfs,
}

/// Adds the use of each filesystem, once for each device.
pub(crate) fn filesystem(config: &HostConfig, reading: &mut Reading) -> Result<(), ReadError> {
    // A container's own mounts are not the host's; those of the host's first process are.
    let of_host = config.proc_path.join("1/mounts");
    let mounts = text(of_host).or_else(|_| text(config.proc_path.join("mounts")))?;
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for line in mounts.lines().filter(|line| wanted(line, config)) {
        let Some(mount) = mount(line, &config.root_path) else { continue };
        if seen.insert(mount.device.clone()) && mount.usage.f_blocks > 0 && found.len() < FILESYSTEMS_MAX {
            found.push(mount);
        }
    }
    // A root that is an overlay (a container, a live system) is the only one that tells of free space there.
    if found.is_empty()
        && let Some(root) =
            mounts.lines().filter_map(|line| mount(line, &config.root_path)).find(|mount| mount.point == "/")
    {
        found.push(root);
    }
    report(&found, reading);
    Ok(())
}

fn wanted(line: &str, config: &HostConfig) -> bool {
    let mut words = line.split(' ').skip(1);
    let (Some(point), Some(kind)) = (words.next(), words.next()) else { return false };
    let below = |dir: &String| Path::new(&unescape(point)).starts_with(dir);
    !config.exclude_filesystem_types.iter().any(|exclude| exclude == kind)
        && !config.exclude_mount_points.iter().any(below)
}

fn mount(line: &str, root: &Path) -> Option<Mount> {
    let mut words = line.split(' ');
    let (device, point, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let point = unescape(point);
    let path: PathBuf = root.join(point.strip_prefix('/').unwrap_or(&point));
    // Not mounted here, or not allowed: there is nothing to tell then.
    let usage = rustix::fs::statvfs(&path).ok()?;
    let mode = if options.split(',').any(|option| option == "ro") { "ro" } else { "rw" };
    Some(Mount { device: unescape(device), point, kind: kind.to_owned(), mode, usage })
}

/// Undoes the kernel's `\040` for a space, and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0_u8, |sum, b| matches!(b, b'0'..=b'7').then(|| sum.wrapping_mul(8) + (b - b'0')))
        });
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn report(mounts: &[Mount], reading: &mut Reading) {
    let attributes = |mount: &'_ Mount| -> Vec<(&'static str, String)> {
        vec![
            ("device", mount.device.clone()),
            ("mode", mount.mode.to_owned()),
            ("mountpoint", mount.point.clone()),
            ("type", mount.kind.clone()),
        ]
    };
    let owned: Vec<_> = mounts.iter().map(|mount| (attributes(mount), mount)).collect();
    let with = |state: Option<&'static str>, attributes: &'_ [(&'static str, String)], value: f64| {
        let mut all: Vec<_> = attributes.iter().map(|(key, value)| (*key, value.clone())).collect();
        all.extend(state.map(|state| ("state", state.to_owned())));
        (all, value)
    };
    let (mut usage, mut shares, mut inodes) = (Vec::new(), Vec::new(), Vec::new());
    for (attributes, mount) in &owned {
        let stat = &mount.usage;
        let bytes = |blocks: u64| float(blocks.saturating_mul(stat.f_frsize));
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let reserved = stat.f_bfree.saturating_sub(stat.f_bavail);
        usage.push(with(Some("used"), attributes, bytes(used)));
        usage.push(with(Some("free"), attributes, bytes(stat.f_bavail)));
        usage.push(with(Some("reserved"), attributes, bytes(reserved)));
        // As `df` has it: of what unprivileged programs can use.
        let usable = used + stat.f_bavail;
        if usable > 0 {
            shares.push(with(None, attributes, float(used) / float(usable)));
        }
        if stat.f_files > 0 {
            inodes.push(with(Some("used"), attributes, float(stat.f_files.saturating_sub(stat.f_ffree))));
            inodes.push(with(Some("free"), attributes, float(stat.f_ffree)));
        }
    }
    fn borrowed<'a>(points: &'a [(Vec<(&'static str, String)>, f64)]) -> impl Iterator<Item = Point<'a>> {
        points.iter().map(|(attributes, value)| (attributes.iter().map(|(k, v)| (*k, v.as_str())).collect(), *value))
    }
    reading.add(("system.filesystem.usage", "By", "Bytes of each filesystem by use."), Kind::UpDown, borrowed(&usage));
    let name = ("system.filesystem.utilization", "1", "Share of each filesystem that is used.");
    reading.add(name, Kind::Gauge, borrowed(&shares));
    let name = ("system.filesystem.inodes.usage", "{inodes}", "Inodes of each filesystem by use.");
    reading.add(name, Kind::UpDown, borrowed(&inodes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mount_points_are_undone() {
        assert_eq!(unescape("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
        assert_eq!(unescape("/mnt/\\04\\9"), "/mnt/\\04\\9");
    }
}
