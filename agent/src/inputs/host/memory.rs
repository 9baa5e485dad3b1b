//! Memory, swap and paging.

use std::path::Path;

use super::{Kind, ReadError, Reading, float, parse, text};

/// Adds the use of memory and of swap.
pub(crate) fn memory(proc: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    let info: procfs::Meminfo = parse(proc.join("meminfo"))?;
    let reclaimable = info.s_reclaimable.unwrap_or(0);
    let unreclaimable = info.s_unreclaim.unwrap_or(0);
    let unused = info.mem_free + info.buffers + info.cached + reclaimable;
    let states = [
        ("used", info.mem_total.saturating_sub(unused)),
        ("free", info.mem_free),
        ("cached", info.cached),
        ("buffered", info.buffers),
        ("slab_reclaimable", reclaimable),
        ("slab_unreclaimable", unreclaimable),
    ];
    let usage = states.iter().map(|(state, bytes)| (vec![("state", *state)], float(*bytes)));
    reading.add(("system.memory.usage", "By", "Bytes of memory by use."), Kind::UpDown, usage);
    if info.mem_total > 0 {
        let shares =
            states.iter().map(|(state, bytes)| (vec![("state", *state)], float(*bytes) / float(info.mem_total)));
        reading.add(("system.memory.utilization", "1", "Share of memory by use."), Kind::Gauge, shares);
    }
    let limit = [(Vec::new(), float(info.mem_total))];
    reading.add(("system.memory.limit", "By", "Bytes of memory there are."), Kind::UpDown, limit);
    let available = info.mem_available.map(|bytes| (Vec::new(), float(bytes)));
    let name = ("system.linux.memory.available", "By", "Bytes that programs could get without swapping.");
    reading.add(name, Kind::UpDown, available);

    let used = info.swap_total.saturating_sub(info.swap_free + info.swap_cached);
    let swap = [("used", used), ("free", info.swap_free), ("cached", info.swap_cached)];
    let usage = swap.iter().map(|(state, bytes)| (vec![("state", *state)], float(*bytes)));
    reading.add(("system.paging.usage", "By", "Bytes of swap by use."), Kind::UpDown, usage);
    if info.swap_total > 0 {
        let shares =
            swap.iter().map(|(state, bytes)| (vec![("state", *state)], float(*bytes) / float(info.swap_total)));
        reading.add(("system.paging.utilization", "1", "Share of swap by use."), Kind::Gauge, shares);
    }
    Ok(())
}

/// Adds page faults and pages moved.
pub(crate) fn paging(proc: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    let text = text(proc.join("vmstat"))?;
    let get = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let (faults, major) = (get("pgfault"), get("pgmajfault"));
    let minor = faults.zip(major).map(|(all, major)| all.saturating_sub(major));
    let faults = [("major", major), ("minor", minor)];
    let faults = faults.into_iter().filter_map(|(kind, n)| n.map(|n| (vec![("type", kind)], float(n))));
    reading.add(("system.paging.faults", "{faults}", "Page faults since boot."), Kind::Counter, faults);
    let moved = [
        ("page_in", "major", get("pswpin")),
        ("page_out", "major", get("pswpout")),
        ("page_in", "minor", get("pgpgin")),
        ("page_out", "minor", get("pgpgout")),
    ];
    let moved = moved
        .into_iter()
        .filter_map(|(direction, kind, n)| n.map(|n| (vec![("direction", direction), ("type", kind)], float(n))));
    reading.add(("system.paging.operations", "{operations}", "Pages moved since boot."), Kind::Counter, moved);
    Ok(())
}
