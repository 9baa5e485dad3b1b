//! Text to value, with errors that say what was expected.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Units of a duration, in milliseconds.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
    ("y", 365 * 86_400_000),
];

/// Units of a size, in bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Reads a duration as Prometheus writes it: `15d`, `1h30m`, `500ms`; `0` alone needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let fail = || format!("{text:?} is no duration such as 15d, 1h30m or 0");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        let scale = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1;
        let number: u64 = number.parse().map_err(|_| fail())?;
        total_ms = number.checked_mul(scale).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(fail)?;
        rest = tail;
    }
    if text.is_empty() { Err(fail()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Reads a size: `64MiB`, `1GB` or plain bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let fail = || format!("{text:?} is no size such as 64MiB, 1GB or 1048576");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let scale = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1;
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or_else(fail)
}

/// Reads a whole number.
pub(super) fn count(text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|_| format!("{text:?} is no whole number"))
}

/// Reads `host:port`; a host name is looked up.
pub(super) fn addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let fail = |why: &str| format!("{text:?} is no address such as 127.0.0.1:4319 ({why})");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| fail("the port is missing"))?;
    let port: u16 = port.parse().map_err(|_| fail("the port is no number from 0 to 65535"))?;
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut found = (host, port).to_socket_addrs().map_err(|error| fail(&error.to_string()))?;
    found.next().ok_or_else(|| fail("the host has no address"))
}

/// Reads names with commas between.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("15d"), Ok(Duration::from_secs(15 * 86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "h", "1x", "-1h", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_units() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert_eq!(size("12"), Ok(12));
        assert!(size("MiB").is_err() && size("1XB").is_err() && size("99999999999TiB").is_err());
    }

    #[test]
    fn addresses_say_what_is_missing() {
        assert!(addr("127.0.0.1:0").is_ok() && addr("[::1]:80").is_ok() && addr(":4319").is_ok());
        assert!(addr("localhost").unwrap_err().contains("the port is missing"));
        assert!(addr("localhost:70000").unwrap_err().contains("65535"));
    }
}
