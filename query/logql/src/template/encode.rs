//! Encodings that templates may use.

use crate::go;

/// Escapes for HTML.
pub(super) fn escape_html(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for c in subject.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Escapes for JavaScript.
pub(super) fn escape_js(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for c in subject.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Escapes for a URL's query.
pub(super) fn url_encode(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for c in subject.bytes() {
        match c {
            b' ' => out.push('+'),
            c if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'~') => out.push(char::from(c)),
            c => out.push_str(&format!("%{c:02X}")),
        }
    }
    out
}

/// Resolves a URL's escapes.
pub(super) fn url_decode(subject: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(subject.len());
    let mut rest = subject.bytes();
    while let Some(c) = rest.next() {
        match c {
            b'+' => bytes.push(b' '),
            b'%' => {
                let behind = rest.clone().take(2);
                let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    let escape: Vec<u8> = std::iter::once(b'%').chain(behind).collect();
                    return Err(format!("invalid URL escape {}", go::quote(&String::from_utf8_lossy(&escape))));
                };
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            }
            c => bytes.push(c),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes base64, padded.
pub(super) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4u32 {
            let six = usize::try_from(word >> (18 - 6 * i) & 63).unwrap_or(0);
            let known = i <= u32::try_from(chunk.len()).unwrap_or(3);
            out.push(if known { char::from(BASE64[six]) } else { '=' });
        }
    }
    out
}

/// Decodes base64, padded or not; what is none gives Go's message, as in Loki.
pub(super) fn base64_decode(subject: &str) -> String {
    let stripped = subject.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(stripped.len() / 4 * 3 + 3);
    let (mut word, mut bits) = (0u32, 0u32);
    let plain = stripped.bytes().filter(|c| !matches!(c, b'\n' | b'\r'));
    for (i, c) in plain.enumerate() {
        let Some(six) = BASE64.iter().position(|have| *have == c) else {
            return format!("illegal base64 data at input byte {i}");
        };
        word = word << 6 | u32::try_from(six).unwrap_or(0);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff).unwrap_or(0));
        }
    }
    if bits == 6 {
        return format!("illegal base64 data at input byte {}", stripped.len().saturating_sub(1));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
