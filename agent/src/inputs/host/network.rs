//! Network interfaces and connections.

use std::path::{Path, PathBuf};

use super::{Kind, Point, ReadError, Reading, float, parse};

/// Adds what went through each interface, but those whose names begin as in `exclude`.
pub(crate) fn network(proc: &Path, exclude: &[String], reading: &mut Reading) -> Result<(), ReadError> {
    // A container's own interfaces are not the host's; those of the host's first process are.
    let of_host = proc.join("1/net/dev");
    let path = if std::fs::File::open(&of_host).is_ok() { of_host } else { proc.join("net/dev") };
    let status: procfs::net::InterfaceDeviceStatus = parse(path)?;
    let mut devices: Vec<_> = status.0.into_values().collect();
    devices.retain(|device| !exclude.iter().any(|prefix| device.name.starts_with(prefix)));
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    type Get = fn(&procfs::net::DeviceStatus) -> (u64, u64);
    let instruments: [(&str, &str, &str, Get); 4] = [
        ("system.network.io", "By", "Bytes received and sent.", |d| (d.recv_bytes, d.sent_bytes)),
        ("system.network.packets", "{packets}", "Packets received and sent.", |d| (d.recv_packets, d.sent_packets)),
        ("system.network.errors", "{errors}", "Errors in receiving and sending.", |d| (d.recv_errs, d.sent_errs)),
        ("system.network.dropped", "{packets}", "Packets that were dropped.", |d| (d.recv_drop, d.sent_drop)),
    ];
    for (name, unit, description, get) in instruments {
        let points = devices.iter().flat_map(|device| -> [Point<'_>; 2] {
            let (received, sent) = get(device);
            let at = |direction| vec![("device", device.name.as_str()), ("direction", direction)];
            [(at("receive"), float(received)), (at("transmit"), float(sent))]
        });
        reading.add((name, unit, description), Kind::Counter, points);
    }
    Ok(())
}

/// TCP states by the number that the kernel gives them, from 1.
const TCP_STATES: [&str; 11] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
];
/// Longest table that is read; at 150 bytes a line, some 400,000 connections.
const TABLE_BYTES_MAX: u64 = 64 << 20;

/// Adds the number of TCP connections by state.
pub(crate) fn connections(proc: &Path, reading: &mut Reading) -> Result<(), ReadError> {
    use std::io::{BufRead, Read};
    let mut counts = [0_u64; TCP_STATES.len()];
    let mut read = |path: PathBuf| -> Result<(), ReadError> {
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let file = std::fs::File::open(&path).map_err(failed)?;
        for line in std::io::BufReader::new(file.take(TABLE_BYTES_MAX)).lines().skip(1) {
            let line = line.map_err(failed)?;
            let state = line.split_ascii_whitespace().nth(3).and_then(|state| usize::from_str_radix(state, 16).ok());
            if let Some(count) = state.and_then(|state| counts.get_mut(state.checked_sub(1)?)) {
                *count += 1;
            }
        }
        Ok(())
    };
    let base = if proc.join("1/net/tcp").exists() { proc.join("1/net") } else { proc.join("net") };
    read(base.join("tcp"))?;
    // Absent where IPv6 is switched off.
    if base.join("tcp6").exists() {
        read(base.join("tcp6"))?;
    }
    let points =
        TCP_STATES.iter().zip(counts).map(|(state, n)| (vec![("protocol", "tcp"), ("state", *state)], float(n)));
    let name = ("system.network.connections", "{connections}", "TCP connections by state.");
    reading.add(name, Kind::UpDown, points);
    Ok(())
}
