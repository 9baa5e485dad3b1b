//! Processors: time by state, their number, and the load average.

use std::path::Path;

use super::{Kind, ReadError, Reading, float, parse, text};

/// What `/proc/stat` says.
#[derive(Debug)]
pub(crate) struct Stat {
    /// Seconds since the epoch.
    pub(crate) boot_seconds: u64,
    /// Name (`cpu0`) and clock ticks by state.
    processors: Vec<(String, Vec<u64>)>,
    ticks_per_second: u64,
    forks: Option<u64>,
    context_switches: Option<u64>,
    running: Option<u64>,
    blocked: Option<u64>,
}

/// The states in the order of `/proc/stat`. Guest time is part of user time and not told apart.
const STATES: [&str; 8] = ["user", "nice", "system", "idle", "wait", "interrupt", "softirq", "steal"];

impl Stat {
    /// Reads it. By hand, because procfs' own type needs its fixed path for the ticks and fails on kernels with fewer fields.
    pub(crate) fn read(proc: &Path) -> Result<Self, ReadError> {
        let text = text(proc.join("stat"))?;
        let mut stat = Self {
            boot_seconds: 0,
            processors: Vec::new(),
            ticks_per_second: procfs::ticks_per_second().max(1),
            forks: None,
            context_switches: None,
            running: None,
            blocked: None,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(name) = words.next() else { continue };
            let mut numbers = words.map_while(|word| word.parse::<u64>().ok());
            match name {
                "btime" => stat.boot_seconds = numbers.next().unwrap_or(0),
                "processes" => stat.forks = numbers.next(),
                "ctxt" => stat.context_switches = numbers.next(),
                "procs_running" => stat.running = numbers.next(),
                "procs_blocked" => stat.blocked = numbers.next(),
                _ => {
                    let is_processor = name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok());
                    if is_processor {
                        stat.processors.push((name.to_owned(), numbers.collect()));
                    }
                }
            }
        }
        Ok(stat)
    }

    /// Adds what was read.
    pub(crate) fn report(&self, reading: &mut Reading) {
        let times = self.processors.iter().flat_map(|(name, ticks)| {
            let seconds = ticks.iter().map(|ticks| float(*ticks) / float(self.ticks_per_second));
            STATES
                .iter()
                .zip(seconds)
                .map(move |(state, seconds)| (vec![("cpu", name.as_str()), ("state", *state)], seconds))
        });
        reading.add(("system.cpu.time", "s", "Time that each processor spent in each state."), Kind::Counter, times);
        let count = [(Vec::new(), float(self.processors.len() as u64))];
        reading.add(("system.cpu.logical.count", "{cpu}", "Number of logical processors."), Kind::UpDown, count);
        let one = |value: Option<u64>| value.map(|value| (Vec::new(), float(value)));
        let created = ("system.processes.created", "{processes}", "Processes started since boot.");
        reading.add(created, Kind::Counter, one(self.forks));
        let switches = ("system.linux.context_switches", "{count}", "Switches between threads since boot.");
        reading.add(switches, Kind::Counter, one(self.context_switches));
        let states = [("running", self.running), ("blocked", self.blocked)];
        let states = states.into_iter().filter_map(|(state, n)| n.map(|n| (vec![("status", state)], float(n))));
        reading.add(("system.processes.count", "{processes}", "Processes by what they do."), Kind::UpDown, states);
    }
}

/// Most processors that are looked at.
const PROCESSORS_MAX: usize = 4096;

/// Adds the frequency of each processor and the number of physical ones, where the kernel tells them.
pub(crate) fn frequency(sys: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    let dir = sys.join("devices/system/cpu");
    // Absent in some sandboxes; there is nothing to tell then.
    let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(()) };
    let number = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut cores = std::collections::BTreeSet::new();
    let mut frequencies = Vec::new();
    for entry in entries.flatten().take(PROCESSORS_MAX) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix("cpu").and_then(|id| id.parse::<u32>().ok()) else { continue };
        let path = entry.path();
        if let (Some(package), Some(core)) =
            (number(path.join("topology/physical_package_id")), number(path.join("topology/core_id")))
        {
            cores.insert((package, core));
        }
        if let Some(kilohertz) = number(path.join("cpufreq/scaling_cur_freq")) {
            frequencies.push((id, name, float(kilohertz) * 1000.0));
        }
    }
    frequencies.sort_by_key(|(id, _, _)| *id);
    let points = frequencies.iter().map(|(_, name, hertz)| (vec![("cpu", name.as_str())], *hertz));
    reading.add(("system.cpu.frequency", "Hz", "Frequency of each processor now."), Kind::Gauge, points);
    let count = (!cores.is_empty()).then(|| (Vec::new(), float(cores.len() as u64)));
    reading.add(("system.cpu.physical.count", "{cpu}", "Number of processor cores."), Kind::UpDown, count);
    Ok(())
}

/// Adds the load averages.
pub(crate) fn load(proc: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    let load: procfs::LoadAverage = parse(proc.join("loadavg"))?;
    for (name, description, value) in [
        ("system.cpu.load_average.1m", "Threads that ran or waited, averaged over 1 minute.", load.one),
        ("system.cpu.load_average.5m", "Threads that ran or waited, averaged over 5 minutes.", load.five),
        ("system.cpu.load_average.15m", "Threads that ran or waited, averaged over 15 minutes.", load.fifteen),
    ] {
        reading.add((name, "{thread}", description), Kind::Gauge, [(Vec::new(), f64::from(value))]);
    }
    Ok(())
}
