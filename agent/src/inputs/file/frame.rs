//! The frames that container runtimes put around lines.

use std::borrow::Cow;

use serde::Deserialize;

use super::shape::rfc3339;
use crate::config::Format;

/// One line of a file, without its frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Framed<'a> {
    /// What the program wrote.
    pub(crate) text: Cow<'a, [u8]>,
    /// `stdout` or `stderr`; empty for plain lines.
    pub(crate) stream: Cow<'a, str>,
    /// The runtime's time in nanoseconds since the epoch, when it gave one.
    pub(crate) time: Option<i64>,
    /// Whether the program's line goes on in the next line of this stream.
    pub(crate) goes_on: bool,
    /// Which frame it had.
    pub(crate) format: Format,
}

/// Takes the frame off a line. With [`Format::Auto`] a line without a known frame is plain; with a given format it is
/// `None`.
pub(crate) fn unframe(line: &[u8], format: Format) -> Option<Framed<'_>> {
    match format {
        Format::Auto => cri(line).or_else(|| docker(line)).or_else(|| Some(plain(line))),
        Format::Plain => Some(plain(line)),
        Format::Cri => cri(line),
        Format::Docker => docker(line),
    }
}

/// Returns the line as it is.
pub(crate) fn plain(line: &[u8]) -> Framed<'_> {
    Framed { text: Cow::Borrowed(line), stream: Cow::Borrowed(""), time: None, goes_on: false, format: Format::Plain }
}

/// `2016-10-06T00:17:09.669794202Z stdout F text`; the tag `P` says that the line goes on, and may be followed by more
/// tags after colons.
fn cri(line: &[u8]) -> Option<Framed<'_>> {
    if !line.first()?.is_ascii_digit() {
        return None;
    }
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    // A runtime writes `F` and nothing more for an empty line at times.
    let text = parts.next().unwrap_or_default();
    let stream = match stream {
        b"stdout" => "stdout",
        b"stderr" => "stderr",
        _ => return None,
    };
    let goes_on = match tags.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let (time, length) = rfc3339(time)?;
    (length > 0).then_some(Framed {
        text: Cow::Borrowed(text),
        stream: Cow::Borrowed(stream),
        time: Some(time),
        goes_on,
        format: Format::Cri,
    })
}

#[derive(Deserialize)]
struct DockerLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// `{"log":"text\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}`; without the newline the line goes on.
fn docker(line: &[u8]) -> Option<Framed<'_>> {
    if !line.starts_with(b"{\"log\":") {
        return None;
    }
    let line: DockerLine<'_> = serde_json::from_slice(line).ok()?;
    let (time, _) = rfc3339(line.time.as_bytes())?;
    let stream = match &*line.stream {
        "stderr" => "stderr",
        _ => "stdout",
    };
    let mut text = match line.log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    let goes_on = text.last() != Some(&b'\n');
    if !goes_on {
        let end = text.len() - 1;
        match &mut text {
            Cow::Borrowed(text) => *text = text.get(..end).unwrap_or_default(),
            Cow::Owned(text) => text.truncate(end),
        }
    }
    Some(Framed { text, stream: Cow::Borrowed(stream), time: Some(time), goes_on, format: Format::Docker })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Expect) {
        let text = match unframe(line.as_bytes(), Format::Auto) {
            Some(framed) => format!(
                "{:?} {} time={:?} goes_on={} {:?}",
                framed.format,
                framed.stream,
                framed.time,
                framed.goes_on,
                String::from_utf8_lossy(&framed.text)
            ),
            None => "none".to_owned(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn cri_lines_lose_their_frame() {
        check(
            "2016-10-06T00:17:09.669794202Z stdout F hello  world ",
            expect![[r#"Cri stdout time=Some(1475713029669794202) goes_on=false "hello  world ""#]],
        );
        check(
            "2016-10-06T00:17:09.669794202+02:00 stderr P:x part",
            expect![[r#"Cri stderr time=Some(1475705829669794202) goes_on=true "part""#]],
        );
        check(
            "2016-10-06T00:17:09Z stdout F",
            expect![[r#"Cri stdout time=Some(1475713029000000000) goes_on=false """#]],
        );
    }

    #[test]
    fn docker_lines_lose_their_frame() {
        check(
            r#"{"log":"a \"quoted\"\tline\n","stream":"stderr","attrs":{"tag":"x"},"time":"2024-01-02T03:04:05.5Z"}"#,
            expect![[r#"Docker stderr time=Some(1704164645500000000) goes_on=false "a \"quoted\"\tline""#]],
        );
        check(
            r#"{"log":"first half","stream":"stdout","time":"2024-01-02T03:04:05Z"}"#,
            expect![[r#"Docker stdout time=Some(1704164645000000000) goes_on=true "first half""#]],
        );
    }

    #[test]
    fn anything_else_is_plain() {
        for line in [
            "",
            "hello",
            "2016-10-06T00:17:09Z stdlog F x",
            "2016-10-06T00:17:09Z stdout X x",
            "2016-99-06T00:17:09Z stdout F x",
            r#"{"log":"broken"#,
            r#"{"log":7,"time":"2024-01-02T03:04:05Z"}"#,
            r#"{"log":"x","time":"yesterday"}"#,
            r#"{"level":"info","log":"x"}"#,
        ] {
            let framed = unframe(line.as_bytes(), Format::Auto).unwrap();
            assert_eq!((framed.format, &*framed.text), (Format::Plain, line.as_bytes()), "{line}");
            assert_eq!(unframe(line.as_bytes(), Format::Cri), None, "{line}");
        }
    }
}
