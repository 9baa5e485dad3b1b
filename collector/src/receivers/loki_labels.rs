//! The text form of a stream's labels: `{app="web", level="info"}`.

use model::Labels;

/// Parses a stream's labels as Loki writes them; values are quoted as in Go.
///
/// # Errors
/// A sentence with the position, in bytes.
pub(super) fn parse(text: &str) -> Result<Labels, String> {
    let mut parser = Parser { text, at: 0 };
    let pairs =
        parser.labels().map_err(|expected| format!("expected {expected} at byte {} of the labels", parser.at))?;
    let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Labels::try_from_pairs(&mut pairs).map_err(|error| error.to_string())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn labels(&mut self) -> Result<Vec<(&'a str, String)>, &'static str> {
        self.expect('{', "`{`")?;
        let mut pairs = Vec::new();
        loop {
            self.skip_spaces();
            if self.eat('}') {
                break;
            }
            if !pairs.is_empty() {
                self.expect(',', "`,` or `}`")?;
                self.skip_spaces();
                // A comma may follow the last label.
                if self.eat('}') {
                    break;
                }
            }
            let name = self.name()?;
            self.skip_spaces();
            self.expect('=', "`=`")?;
            self.skip_spaces();
            pairs.push((name, self.value()?));
        }
        self.skip_spaces();
        if self.rest().is_empty() { Ok(pairs) } else { Err("the end") }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char, expected: &'static str) -> Result<(), &'static str> {
        if self.eat(c) { Ok(()) } else { Err(expected) }
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn name(&mut self) -> Result<&'a str, &'static str> {
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_alphanumeric() || "_.:/-".contains(c))).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).filter(|name| !name.is_empty()).ok_or("a label name")
    }

    fn value(&mut self) -> Result<String, &'static str> {
        if self.eat('`') {
            let rest = self.rest();
            let (raw, _) = rest.split_once('`').ok_or("a closing backquote")?;
            self.at += raw.len() + 1;
            return Ok(raw.to_owned());
        }
        self.expect('"', "a quoted value")?;
        let mut bytes = Vec::new();
        loop {
            match self.next().ok_or("a closing quote")? {
                '"' => return String::from_utf8(bytes).map_err(|_| "valid UTF-8"),
                '\\' => self.escape(&mut bytes)?,
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), &'static str> {
        let c = self.next().ok_or("an escape")?;
        let simple = match c {
            'a' => 7,
            'b' => 8,
            't' => b'\t',
            'n' => b'\n',
            'v' => 11,
            'f' => 12,
            'r' => b'\r',
            '\\' => b'\\',
            '"' => b'"',
            '\'' => b'\'',
            'x' => self.byte(2, 16, 0)?,
            '0'..='7' => self.byte(2, 8, c.to_digit(8).unwrap_or(0))?,
            'u' | 'U' => {
                let number = self.number(if c == 'u' { 4 } else { 8 }, 16, 0)?;
                let c = char::from_u32(number).ok_or("a valid code point")?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err("a known escape"),
        };
        bytes.push(simple);
        Ok(())
    }

    fn byte(&mut self, digits: usize, radix: u32, first: u32) -> Result<u8, &'static str> {
        u8::try_from(self.number(digits, radix, first)?).map_err(|_| "an escape of one byte")
    }

    fn number(&mut self, digits: usize, radix: u32, first: u32) -> Result<u32, &'static str> {
        let mut number = first;
        for _ in 0..digits {
            let digit = self.next().and_then(|c| c.to_digit(radix)).ok_or("a digit")?;
            number =
                number.checked_mul(radix).and_then(|number| number.checked_add(digit)).ok_or("a valid code point")?;
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quoted_values_are_unquoted() {
        let labels = parse(r#"{app = "we\"b\n", b=`raw\n`, c="\u00e9\x41\101",}"#).unwrap();
        assert_eq!(labels.get("app"), Some("we\"b\n"));
        assert_eq!(labels.get("b"), Some("raw\\n"));
        assert_eq!(labels.get("c"), Some("éAA"));
        assert_eq!(parse("{}").unwrap(), Labels::empty());
    }

    #[test]
    fn faults_name_their_place() {
        for (text, expected) in [
            (r#"{app="web""#, "expected `,` or `}` at byte 10 of the labels"),
            (r#"{app=web}"#, "expected a quoted value at byte 5 of the labels"),
            (r#"{app="web} "#, "expected a closing quote at byte 11 of the labels"),
            (r#"{a="\xff"}"#, "expected valid UTF-8 at byte 9 of the labels"),
            (r#"{a="1"} x"#, "expected the end at byte 8 of the labels"),
            (r#"{a="1", a="2"}"#, r#"label "a" is given twice"#),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "\\PC*") {
            drop(parse(&text));
        }

        #[test]
        fn what_is_printed_is_parsed(value in "[^\\x00-\\x1f\\x7f]*") {
            let quoted = format!("{{a=\"{}\"}}", value.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(parse(&quoted), Ok(Labels::from_pairs([("a", value.as_str())])));
        }
    }
}
