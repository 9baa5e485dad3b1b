//! Loki's push in protobuf.

use collector_otlp::set_text;

use super::super::loki_labels;
use super::{Push, WHAT};
use crate::error::Result;
use crate::protobuf::{Malformed, Reader};

/// Why an entry is not taken.
enum Unread {
    Malformed(Malformed),
    NotText,
    OutOfRange { seconds: i64, nanos: i64 },
}

impl From<Malformed> for Unread {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Reads a `PushRequest`.
pub(super) fn read(body: &[u8], mut push: Push<'_, '_>) -> Result<()> {
    let refuse = |malformed: Malformed| malformed.within(body).refuse(WHAT, body);
    let mut fields = Reader::new(body);
    while let Some((tag, field)) = fields.next().map_err(refuse)? {
        if tag == 1 {
            stream(body, field.bytes().map_err(refuse)?, &mut push)?;
        }
    }
    Ok(())
}

/// Reads a `StreamAdapter`.
fn stream(body: &[u8], message: &[u8], push: &mut Push<'_, '_>) -> Result<()> {
    let refuse = |malformed: Malformed| malformed.within(message).refuse(WHAT, body);
    // Fields come in any order, and of labels the last ones count.
    let mut labels: &[u8] = &[];
    let mut fields = Reader::new(message);
    while let Some((tag, field)) = fields.next().map_err(refuse)? {
        if tag == 1 {
            labels = field.bytes().map_err(refuse)?;
        }
    }
    let labels = std::str::from_utf8(labels).map_err(|_| "the labels are not valid UTF-8".to_owned());
    push.stream(labels.and_then(loki_labels::parse));
    let mut fields = Reader::new(message);
    while let Some((tag, field)) = fields.next().map_err(refuse)? {
        if tag != 2 || push.intake.is_over() {
            continue;
        }
        let message = field.bytes().map_err(refuse)?;
        match entry(message, push) {
            Ok(nanos) => push.record(nanos),
            Err(Unread::Malformed(malformed)) => return Err(malformed.within(message).refuse(WHAT, body)),
            Err(Unread::NotText) => {
                push.intake.reject("invalid_utf8", || "a line or its metadata is not valid UTF-8".to_owned());
            }
            Err(Unread::OutOfRange { seconds, nanos }) => {
                let detail = || format!("{seconds} s and {nanos} ns lie outside the years 1678-2261");
                push.intake.reject("timestamp_out_of_range", detail);
            }
        }
    }
    Ok(())
}

/// Reads an `EntryAdapter` into the record that is used again, and returns its time.
fn entry(message: &[u8], push: &mut Push<'_, '_>) -> std::result::Result<i64, Unread> {
    push.space.clear();
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let (mut line, mut all_text) = ("", true);
    let mut fields = Reader::new(message);
    while let Some((tag, field)) = fields.next()? {
        match tag {
            1 => {
                let mut time = Reader::new(field.bytes()?);
                while let Some((tag, field)) = time.next()? {
                    match tag {
                        1 => seconds = field.int64()?,
                        2 => nanos = field.int64()?,
                        _ => {}
                    }
                }
            }
            2 => line = text(field.bytes()?, &mut all_text),
            3 => {
                let (mut name, mut value) = ("", "");
                let mut label = Reader::new(field.bytes()?);
                while let Some((tag, field)) = label.next()? {
                    match tag {
                        1 => name = text(field.bytes()?, &mut all_text),
                        2 => value = text(field.bytes()?, &mut all_text),
                        _ => {}
                    }
                }
                let pair = push.space.next_attribute();
                name.clone_into(&mut pair.0);
                set_text(&mut pair.1, value);
            }
            _ => {}
        }
    }
    set_text(&mut push.space.record_mut().body, line);
    let at = seconds.checked_mul(1_000_000_000).and_then(|at| at.checked_add(nanos));
    match at {
        None => Err(Unread::OutOfRange { seconds, nanos }),
        Some(_) if !all_text => Err(Unread::NotText),
        Some(at) => Ok(at),
    }
}

/// Returns the bytes as text; notes when they are none.
fn text<'a>(bytes: &'a [u8], all_text: &mut bool) -> &'a str {
    std::str::from_utf8(bytes).unwrap_or_else(|_| {
        *all_text = false;
        ""
    })
}
