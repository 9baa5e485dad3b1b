//! Text as Go writes it in quotes, and back.

/// Writes `text` in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => out.push_str("\\\""),
            INVALID_MARK => {
                out.push_str("\\x");
                out.extend(rest.by_ref().take(2));
            }
            c => escape(c, &mut out),
        }
    }
    out.push('"');
    out
}

/// Writes a character in single quotes with Go's escapes.
pub(super) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    if c == '\'' {
        out.push_str("\\'")
    } else {
        escape(c, &mut out)
    }
    out.push('\'');
    out
}

fn escape(c: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if is_printable(c) => out.push(c),
        c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

/// Says whether Go prints the character as it is: no control, no space but the plain one, nothing invisible.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f
            | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe_0000.. )
}

/// Writes a character as Go's `%#U` does: `U+002E '.'`.
pub(super) fn unicode(c: char) -> String {
    if is_printable(c) { format!("U+{:04X} '{c}'", c as u32) } else { format!("U+{:04X}", c as u32) }
}

/// Takes a string's quotes and escapes away; bytes that are not UTF-8 are marked by [`INVALID_MARK`].
pub(crate) fn unquote(literal: &str) -> Result<String, String> {
    let quote = literal.as_bytes().first().copied().unwrap_or(0);
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    if quote == b'`' {
        return Ok(inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next().ok_or("invalid syntax")?;
        match escape {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            '\'' | '"' if escape as u32 == u32::from(quote) => bytes.push(quote),
            'x' => bytes.push(u8::try_from(digits(&mut rest, 2, 16)?).map_err(|_| "invalid syntax")?),
            'u' | 'U' => {
                let code = digits(&mut rest, if escape == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                code = code * 64 + digits(&mut rest, 2, 8)?;
                bytes.push(u8::try_from(code).map_err(|_| "octal escape value > 255")?);
            }
            _ => return Err(format!("unknown escape sequence U+{:04X} '{escape}'", escape as u32)),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => Ok(spell_invalid(error.as_bytes())),
    }
}

/// Stands, with two hexadecimal digits behind it, for a byte that is not UTF-8: no label name or value of a store has it.
pub(crate) const INVALID_MARK: char = '\u{FFFF}';

fn spell_invalid(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push(INVALID_MARK);
            out.push_str(&format!("{byte:02x}"));
        }
    }
    out
}

fn digits(rest: &mut std::str::Chars<'_>, n: usize, radix: u32) -> Result<u32, String> {
    let mut value = 0u32;
    for _ in 0..n {
        let digit = rest.next().and_then(|c| c.to_digit(radix)).ok_or("invalid syntax")?;
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}
