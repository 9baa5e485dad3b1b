//! Uptime and threads.

use std::path::Path;

use super::{Kind, ReadError, Reading, float, parse, text};

/// Adds the time since boot.
pub(crate) fn uptime(proc: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    let uptime: procfs::Uptime = parse(proc.join("uptime"))?;
    reading.add(("system.uptime", "s", "Time since boot."), Kind::Gauge, [(Vec::new(), uptime.uptime)]);
    Ok(())
}

/// Adds the number of threads.
pub(crate) fn processes(proc: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    // `0.00 0.01 0.05 2/345 6789`: running and all threads.
    let text = text(proc.join("loadavg"))?;
    let threads = text.split(' ').nth(3).and_then(|word| word.split('/').nth(1)).and_then(|n| n.parse::<u64>().ok());
    let points = threads.map(|threads| (Vec::new(), float(threads)));
    reading.add(("system.linux.threads", "{threads}", "Threads there are."), Kind::UpDown, points);
    Ok(())
}
