//! Block devices.

use std::path::Path;

use super::{Kind, Point, ReadError, Reading, float, text};

/// A sector of `/proc/diskstats`, whatever the device's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// Adds what went to and from block devices, but those whose names begin as in `exclude`.
pub(crate) fn disk(proc: &Path, exclude: &[String], reading: &mut Reading) -> Result<(), ReadError> {
    let text = text(proc.join("diskstats"))?;
    let parsed = text.lines().filter_map(|line| procfs::DiskStat::from_line(line).ok());
    let disks: Vec<procfs::DiskStat> = parsed
        .filter(|disk| !exclude.iter().any(|prefix| disk.name.starts_with(prefix)))
        // Devices that never did anything: unused RAM disks, empty slots.
        .filter(|disk| disk.reads + disk.writes > 0)
        .collect();
    let both = |get: &dyn Fn(&procfs::DiskStat) -> (f64, f64)| -> Vec<Point<'_>> {
        disks
            .iter()
            .flat_map(|disk| {
                let (read, write) = get(disk);
                let at = |direction| vec![("device", disk.name.as_str()), ("direction", direction)];
                [(at("read"), read), (at("write"), write)]
            })
            .collect()
    };
    let seconds = |millis: u64| float(millis) / 1000.0;
    let io = both(&|disk| {
        (
            float(disk.sectors_read.saturating_mul(SECTOR_BYTES)),
            float(disk.sectors_written.saturating_mul(SECTOR_BYTES)),
        )
    });
    reading.add(("system.disk.io", "By", "Bytes read and written."), Kind::Counter, io);
    let operations = both(&|disk| (float(disk.reads), float(disk.writes)));
    reading.add(("system.disk.operations", "{operations}", "Reads and writes."), Kind::Counter, operations);
    let merged = both(&|disk| (float(disk.merged), float(disk.writes_merged)));
    reading.add(("system.disk.merged", "{operations}", "Reads and writes merged into others."), Kind::Counter, merged);
    let time = both(&|disk| (seconds(disk.time_reading), seconds(disk.time_writing)));
    let name = ("system.disk.operation_time", "s", "Time spent in reads and writes, each counted.");
    reading.add(name, Kind::Counter, time);
    let single = |get: &dyn Fn(&procfs::DiskStat) -> f64| -> Vec<Point<'_>> {
        disks.iter().map(|disk| (vec![("device", disk.name.as_str())], get(disk))).collect()
    };
    let busy = single(&|disk| seconds(disk.time_in_progress));
    reading.add(("system.disk.io_time", "s", "Time in which the device was busy."), Kind::Counter, busy);
    let weighted = single(&|disk| seconds(disk.weighted_time_in_progress));
    let name = ("system.disk.weighted_io_time", "s", "Busy time, weighted by operations under way.");
    reading.add(name, Kind::Counter, weighted);
    let pending = single(&|disk| float(disk.in_progress));
    reading.add(("system.disk.pending_operations", "{operations}", "Operations under way."), Kind::UpDown, pending);
    Ok(())
}
