//! Lines of an export as JSON or CSV, up to their cursors.

use std::io::Write;

use chrono::{DateTime, Datelike, SecondsFormat, Timelike};
use model::Timestamp;
use query_logql::{LineWriter, PassedLine};

/// What an export is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    JsonLines,
    Csv,
}

/// Writes lines as an export has them, without what follows: `,"cursor":"…"}` or `,…`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExportWriter {
    pub(super) form: Form,
    /// Whether labels are told by where they come from.
    pub(super) categorize: bool,
}

impl LineWriter for ExportWriter {
    fn write(&self, out: &mut Vec<u8>, line: &PassedLine<'_>) {
        match self.form {
            Form::JsonLines => self.write_json(out, line),
            Form::Csv => self.write_csv(out, line),
        }
    }
}

impl ExportWriter {
    /// An [`ExportedLine`](query_wire::loki::ExportedLine) that is written without being made.
    fn write_json(self, out: &mut Vec<u8>, line: &PassedLine<'_>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        push_time(out, line.timestamp);
        out.extend_from_slice(b"\",\"labels\":");
        if self.categorize {
            let [stream, metadata, parsed] = line.categorized();
            push_object(out, &stream);
            for (name, pairs) in [("structuredMetadata", metadata), ("parsed", parsed)] {
                if !pairs.is_empty() {
                    out.push(b',');
                    push_text(out, name);
                    out.push(b':');
                    push_object(out, &pairs);
                }
            }
        } else {
            push_object(out, &line.all());
        }
        out.extend_from_slice(b",\"line\":");
        push_text(out, line.line);
    }

    fn write_csv(self, out: &mut Vec<u8>, line: &PassedLine<'_>) {
        push_time(out, line.timestamp);
        let labels = if self.categorize {
            let [stream, ..] = line.categorized();
            selector(&stream)
        } else {
            selector(&line.all())
        };
        for field in [labels.as_str(), line.line] {
            out.push(b',');
            push_field(out, field);
        }
    }
}

/// Writes a time as RFC 3339 has it, with nanoseconds.
fn push_time(out: &mut Vec<u8>, at: Timestamp) {
    let time = DateTime::from_timestamp_nanos(at.0);
    let Some(year) = u32::try_from(time.year()).ok().filter(|year| *year < 10_000) else {
        return out.extend_from_slice(time.to_rfc3339_opts(SecondsFormat::Nanos, true).as_bytes());
    };
    let fields = [
        (year, 4, b'-'),
        (time.month(), 2, b'-'),
        (time.day(), 2, b'T'),
        (time.hour(), 2, b':'),
        (time.minute(), 2, b':'),
        (time.second(), 2, b'.'),
        (time.nanosecond(), 9, b'Z'),
    ];
    for (number, digits, behind) in fields {
        let start = out.len();
        out.resize(start + digits, b'0');
        let mut rest = number;
        for digit in out.iter_mut().skip(start).rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        out.push(behind);
    }
}

/// Writes pairs as a JSON object.
fn push_object(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    out.push(b'{');
    for (i, (name, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_text(out, name);
        out.push(b':');
        push_text(out, value);
    }
    out.push(b'}');
}

/// Says whether none of eight bytes is escaped in JSON: no quotation mark, backslash or control character.
fn is_clean(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(bytes);
    // The high bit of each byte that is zero; of others behind one that is, too.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    (zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | controls) == 0
}

/// Writes a text as a JSON string.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let (chunks, rest) = text.as_bytes().as_chunks::<8>();
    for chunk in chunks {
        if is_clean(*chunk) {
            out.extend_from_slice(chunk);
        } else {
            push_bytes(out, chunk);
        }
    }
    push_bytes(out, rest);
    out.push(b'"');
}

/// Writes bytes of a text, escaped one by one.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => {
                // Writing to memory does not fail.
                let _written = write!(out, "\\u{byte:04x}");
                continue;
            }
            _ => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

/// Writes labels as in a selector: `{app="web", level="info"}`.
fn selector(pairs: &[(&str, &str)]) -> String {
    use std::fmt::Write;
    let mut out = String::from("{");
    for (i, (name, value)) in pairs.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        // Writing to a string does not fail.
        let _written = write!(out, "{comma}{name}={value:?}");
    }
    out.push('}');
    out
}

/// Writes a field as RFC 4180 has it.
fn push_field(out: &mut Vec<u8>, field: &str) {
    if !field.contains(['"', ',', '\n', '\r']) {
        return out.extend_from_slice(field.as_bytes());
    }
    out.push(b'"');
    for (i, part) in field.split('"').enumerate() {
        out.extend_from_slice(if i > 0 { b"\"\"" } else { b"" });
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_escaped_as_json_has_it() {
        let all: String = (0..0x1100).filter_map(char::from_u32).collect();
        for text in ["", "plain text of some length", "a\"b\\c\n\r\t\u{8}\u{c}\u{0}\u{1f} 결제", "\u{7f}\u{80}é", &all]
        {
            assert_eq!(written(|out| push_text(out, text)), serde_json::to_string(text).unwrap());
        }
        for byte in 0..128_u8 {
            for at in 0..9 {
                let mut text = "abcdefghi".as_bytes().to_vec();
                text[at] = byte;
                let text = String::from_utf8(text).unwrap();
                assert_eq!(written(|out| push_text(out, &text)), serde_json::to_string(&text).unwrap());
            }
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_it() {
        for at in [0, -1, 1, 1_700_000_000_123_456_789, i64::MAX, i64::MIN, 951_782_400_000_000_000, -62_135_596_800] {
            let expected = DateTime::from_timestamp_nanos(at).to_rfc3339_opts(SecondsFormat::Nanos, true);
            assert_eq!(written(|out| push_time(out, Timestamp(at))), expected, "{at}");
        }
    }

    #[test]
    fn fields_with_commas_quotes_or_line_feeds_are_quoted() {
        for (field, expected) in [("a b", "a b"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("a\nb", "\"a\nb\"")] {
            assert_eq!(written(|out| push_field(out, field)), expected);
        }
    }
}
