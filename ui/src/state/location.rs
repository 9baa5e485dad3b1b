//! Where the user is: a path and parameters, read from and written to the address bar.

use std::collections::BTreeMap;

/// A path of the UI and the parameters behind it. All state that a link should carry is in here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Location {
    /// Such as `/explore/logs`.
    pub path: String,
    params: BTreeMap<String, String>,
}

impl Location {
    /// A path without parameters.
    pub(crate) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), params: BTreeMap::new() }
    }

    /// Reads a path and what comes after its `?`. Of a repeated parameter the last one counts.
    pub(crate) fn parse(path: &str, search: &str) -> Self {
        let pairs = search.strip_prefix('?').unwrap_or(search).split('&').filter(|pair| !pair.is_empty());
        let params = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self { path: path.to_owned(), params: params.collect() }
    }

    /// Returns a parameter that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Sets a parameter; an empty value takes it away.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.params.remove(name);
        } else {
            self.params.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The same with a parameter set.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Another path, with those parameters that hold on every page.
    pub(crate) fn to_page(&self, path: &str) -> Self {
        let shared = ["from", "to", "refresh", "theme"];
        let params = self.params.iter().filter(|(name, _)| shared.contains(&name.as_str()));
        Self { path: path.to_owned(), params: params.map(|(n, v)| (n.clone(), v.clone())).collect() }
    }

    /// Writes the path and the parameters, in a fixed order.
    pub(crate) fn href(&self) -> String {
        let mut href = self.path.clone();
        for (i, (name, value)) in self.params.iter().enumerate() {
            href.push(if i == 0 { '?' } else { '&' });
            href.push_str(&encode(name));
            href.push('=');
            href.push_str(&encode(value));
        }
        href
    }
}

/// Escapes all but letters, digits and what is safe and common in our values, for a query string.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b',' | b'/' | b'*' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// Undoes [`encode`]. Bad escapes stay as they are; bytes that are not UTF-8 become replacement characters.
pub(crate) fn decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_survives_the_address_bar() {
        for value in
            ["sum by (a) (rate(x{b=~\"c|d\"}[5m])) > 1 + 2", "50%", "a&b=c#d?e", "결제 오류", "é\n\t\"", "+%2B"]
        {
            let location = Location::new("/explore/metrics").with("q", value).with("from", "now-1h");
            let href = location.href();
            let (path, search) = href.split_once('?').unwrap();
            assert_eq!(Location::parse(path, search), location, "{href}");
        }
    }

    #[test]
    fn an_odd_query_string_is_read_without_complaint() {
        let location = Location::parse("/", "?&&a&b=&c=1&c=2&%zz=%4&=x&d=%FF");
        assert_eq!(location.get("a"), None);
        assert_eq!(location.get("c"), Some("2"));
        assert_eq!(location.get("%zz"), Some("%4"));
        assert_eq!(location.get("d"), Some("\u{fffd}"));
    }

    #[test]
    fn an_empty_value_is_no_parameter() {
        let location = Location::new("/").with("q", "x").with("q", "");
        assert_eq!(location.href(), "/");
    }

    #[test]
    fn another_page_keeps_range_refresh_and_theme_only() {
        let location = Location::parse("/explore/logs", "?from=now-1h&q=x&theme=dark&refresh=5s&to=now");
        assert_eq!(location.to_page("/").href(), "/?from=now-1h&refresh=5s&theme=dark&to=now");
    }
}
