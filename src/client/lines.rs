//! Log lines as text: for people, as raw lines, or as JSON.

use std::io::{self, Write};

use query_wire::loki::{Entry, LabelMap, Stream};

use super::answer::write_csv_row;
use super::series_name::series_name;
use super::style::{Color, DIM, ERROR, NAME, Style, WARN, printable};
use super::time::rfc3339;

/// Labels that tell how bad a line is, the first that exists counts.
const LEVEL_LABELS: [&str; 5] = ["level", "detected_level", "severity_text", "severity", "lvl"];

/// How to print a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Time, labels, line.
    Default,
    /// A JSON object per line.
    Jsonl,
    /// The line alone.
    Raw,
    /// A CSV row: timestamp, labels, line.
    Csv,
}

/// Which end of the range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Direction {
    /// Newest first
    Backward,
    /// Oldest first
    Forward,
}

impl Direction {
    /// Returns the API's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Backward => "backward",
            Self::Forward => "forward",
        }
    }
}

/// Prints lines in one form.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    form: Form,
    style: Style,
    /// Labels that need no repeating on each line.
    common: LabelMap,
}

impl Printer {
    /// Prepares to print; `common` are the labels that lines do not repeat.
    pub(crate) fn new(form: Form, style: Style, common: LabelMap) -> Self {
        Self { form, style, common }
    }

    /// Prints what comes before the first line.
    pub(crate) fn header(&self, out: &mut impl Write) -> io::Result<()> {
        if self.form == Form::Csv { write_csv_row(["timestamp", "labels", "line"].into_iter(), out) } else { Ok(()) }
    }

    /// Prints one line of a stream with these labels.
    pub(crate) fn line(&self, labels: &LabelMap, entry: &Entry, out: &mut impl Write) -> io::Result<()> {
        match self.form {
            Form::Raw => writeln!(out, "{}", entry.line),
            Form::Csv => {
                let time = rfc3339(entry.timestamp_ns);
                write_csv_row([time.as_str(), &series_name(labels), &entry.line].into_iter(), out)
            }
            Form::Jsonl => {
                let object = serde_json::json!({
                    "timestamp": rfc3339(entry.timestamp_ns),
                    "labels": labels,
                    "line": entry.line,
                });
                writeln!(out, "{object}")
            }
            Form::Default => self.for_people(labels, entry, out),
        }
    }

    fn for_people(&self, labels: &LabelMap, entry: &Entry, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{} ", self.style.paint(DIM, &rfc3339(entry.timestamp_ns)))?;
        let own: LabelMap =
            labels.iter().filter(|(name, value)| self.common.get(*name) != Some(value)).map(owned).collect();
        if !own.is_empty() {
            write!(out, "{} ", self.style.paint(NAME, &series_name(&own)))?;
        }
        let line = printable(&entry.line);
        match level_color(labels) {
            Some(color) => writeln!(out, "{}", self.style.paint(color, &line)),
            None => writeln!(out, "{line}"),
        }
    }
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

fn level_color(labels: &LabelMap) -> Option<Color> {
    let level = LEVEL_LABELS.iter().find_map(|name| labels.get(*name))?.to_ascii_lowercase();
    match level.as_str() {
        "error" | "err" | "fatal" | "critical" | "crit" | "alert" | "emerg" | "panic" => Some(ERROR),
        "warn" | "warning" => Some(WARN),
        _ => None,
    }
}

/// Returns the labels that all streams share; none when there is only one stream, whose labels are worth seeing.
pub(crate) fn common_labels(streams: &[Stream]) -> LabelMap {
    let [first, rest @ ..] = streams else { return LabelMap::new() };
    if rest.is_empty() {
        return LabelMap::new();
    }
    let everywhere = |(name, value): &(&String, &String)| rest.iter().all(|s| s.stream.get(*name) == Some(value));
    first.stream.iter().filter(everywhere).map(owned).collect()
}

/// Returns every line with its stream's labels in the order of time; lines of one nanosecond stay as they came.
pub(crate) fn in_order(streams: &[Stream], direction: Direction) -> Vec<(&LabelMap, &Entry)> {
    let mut lines: Vec<_> = streams.iter().flat_map(|s| s.values.iter().map(|entry| (&s.stream, entry))).collect();
    match direction {
        Direction::Forward => lines.sort_by_key(|(_, entry)| entry.timestamp_ns),
        Direction::Backward => lines.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.timestamp_ns)),
    }
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn streams() -> Vec<Stream> {
        let json = r#"[{"stream":{"app":"x","level":"error"},"values":[["3000000000","c"],["1000000000","a \"q\""]]},
                       {"stream":{"app":"x","level":"info"},"values":[["2000000000","\u001b[2Jb"]]}]"#;
        serde_json::from_str(json).unwrap()
    }

    #[track_caller]
    fn check(form: Form, direction: Direction, color: bool, expected: Expect) {
        let streams = streams();
        let printer = Printer::new(form, Style { color }, common_labels(&streams));
        let mut out = Vec::new();
        printer.header(&mut out).unwrap();
        for (labels, entry) in in_order(&streams, direction) {
            printer.line(labels, entry, &mut out).unwrap();
        }
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn people_see_time_own_labels_and_line() {
        check(
            Form::Default,
            Direction::Backward,
            false,
            expect![[r#"
                1970-01-01T00:00:03Z {level="error"} c
                1970-01-01T00:00:02Z {level="info"} \u{1b}[2Jb
                1970-01-01T00:00:01Z {level="error"} a "q"
            "#]],
        );
    }

    #[test]
    fn programs_get_json_csv_or_the_bare_line() {
        check(
            Form::Jsonl,
            Direction::Forward,
            true,
            expect![[r#"
                {"labels":{"app":"x","level":"error"},"line":"a \"q\"","timestamp":"1970-01-01T00:00:01Z"}
                {"labels":{"app":"x","level":"info"},"line":"\u001b[2Jb","timestamp":"1970-01-01T00:00:02Z"}
                {"labels":{"app":"x","level":"error"},"line":"c","timestamp":"1970-01-01T00:00:03Z"}
            "#]],
        );
        check(Form::Raw, Direction::Forward, true, expect!["a \"q\"\n\u{1b}[2Jb\nc\n"]);
        check(
            Form::Csv,
            Direction::Forward,
            true,
            expect![[r#"
                timestamp,labels,line
                1970-01-01T00:00:01Z,"{app=""x"", level=""error""}","a ""q"""
                1970-01-01T00:00:02Z,"{app=""x"", level=""info""}",[2Jb
                1970-01-01T00:00:03Z,"{app=""x"", level=""error""}",c
            "#]],
        );
    }

    #[test]
    fn errors_are_painted() {
        let streams = streams();
        let mut out = Vec::new();
        Printer::new(Form::Default, Style { color: true }, LabelMap::new())
            .line(&streams[0].stream, &streams[0].values[0], &mut out)
            .unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with("\u{1b}[38;5;203mc\u{1b}[0m\n"));
    }

    #[test]
    fn one_stream_keeps_its_labels() {
        assert_eq!(common_labels(&streams()[..1]), LabelMap::new());
        assert_eq!(common_labels(&streams()).len(), 1);
    }
}
