//! Finds addresses in text and tests them against an address, a range or a network.

use std::net::IpAddr;

/// What `ip("…")` looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IpMatcher {
    One(IpAddr),
    Range(IpAddr, IpAddr),
    Network(IpAddr, u32),
}

impl IpMatcher {
    /// Reads `1.2.3.4`, `1.2.3.4-1.2.3.9` or `1.2.0.0/16`, of either family.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let invalid = || format!("ip: invalid pattern: {}", crate::go::quote(pattern));
        if let Ok(address) = pattern.parse() {
            return Ok(Self::One(address));
        }
        if let Some((address, bits)) = pattern.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| invalid())?;
            let bits_max = if address.is_ipv4() { 32 } else { 128 };
            let digits = !bits.is_empty() && bits.chars().all(|c| c.is_ascii_digit());
            let bits: u32 = bits.parse().map_err(|_| invalid())?;
            return if digits && bits <= bits_max { Ok(Self::Network(address, bits)) } else { Err(invalid()) };
        }
        let (from, to) = pattern.split_once('-').ok_or_else(invalid)?;
        let from: IpAddr = from.parse().map_err(|_| invalid())?;
        let to: IpAddr = to.parse().map_err(|_| invalid())?;
        if from.is_ipv4() == to.is_ipv4() && from <= to { Ok(Self::Range(from, to)) } else { Err(invalid()) }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::One(one) => *one == address,
            Self::Range(from, to) => from.is_ipv4() == address.is_ipv4() && *from <= address && address <= *to,
            Self::Network(network, bits) => match (network, address) {
                (IpAddr::V4(network), IpAddr::V4(address)) => {
                    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                    network.to_bits() & mask == address.to_bits() & mask
                }
                (IpAddr::V6(network), IpAddr::V6(address)) => {
                    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                    network.to_bits() & mask == address.to_bits() & mask
                }
                _ => false,
            },
        }
    }

    /// Says whether the text holds such an address.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
        let mut i = 0;
        while i < bytes.len() {
            let four = at(i).is_ascii_digit() && i + 3 < bytes.len() && (1..4).any(|n| at(i + n) == b'.');
            let hex_run = (0..5).take_while(|n| at(i + n).is_ascii_hexdigit()).count();
            let six = (1..5).contains(&hex_run) && at(i + hex_run) == b':'
                || at(i) == b':' && at(i + 1) == b':' && at(i + 2).is_ascii_hexdigit();
            let belongs = |c: u8| match four {
                true => c.is_ascii_digit() || c == b'.',
                false => c.is_ascii_hexdigit() || matches!(c, b':' | b'.'),
            };
            if !four && !six {
                i += 1;
                continue;
            }
            let length = bytes.iter().skip(i).take_while(|c| belongs(**c)).count();
            let found = text.get(i..i + length).and_then(|text| text.parse().ok());
            if found.is_some_and(|address| self.contains(address)) {
                return true;
            }
            i += length + 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::IpMatcher;

    #[test]
    fn addresses_are_found_in_text() {
        let finds = |pattern: &str, text: &str| IpMatcher::new(pattern).unwrap().is_in(text);
        assert!(finds("192.168.0.1", "from 192.168.0.1:80") && !finds("192.168.0.1", "from 192.168.0.11"));
        assert!(finds("192.168.0.0/16", "x=192.168.255.1") && !finds("192.168.0.0/16", "192.169.0.1"));
        assert!(finds("10.0.0.1-10.0.0.9", "10.0.0.9 ") && !finds("10.0.0.1-10.0.0.9", "10.0.0.10"));
        assert!(
            finds("::1", "at ::1") && finds("2001:db8::/32", "[2001:db8::8]:443") && finds("0.0.0.0/0", "1.1.1.1 ")
        );
        assert!(!finds("::1", "결제 abc:def") && !finds("1.1.1.1", ""));
    }

    #[test]
    fn bad_patterns_are_named() {
        for pattern in ["", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.9-1.2.3.1", "1.2.3.4-::1", "01.2.3.4"] {
            let error = IpMatcher::new(pattern).unwrap_err();
            assert_eq!(error, format!("ip: invalid pattern: {pattern:?}"));
        }
    }
}
