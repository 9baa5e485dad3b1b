//! Parses the Prometheus text exposition, and OpenMetrics: whole pages for scraping, or line by line.

use std::collections::HashMap;

use model::MetricKind;

/// Returns the kind that a `# TYPE` line names; `None` for a word that is none.
fn kind_of(word: &str) -> Option<MetricKind> {
    match (MetricKind::from_word(word), word) {
        (MetricKind::Unknown, "unknown" | "untyped") => Some(MetricKind::Unknown),
        (MetricKind::Unknown, _) => None,
        (kind, _) => Some(kind),
    }
}

/// Returns what a sample's name may add to that of its family.
#[must_use]
pub fn suffixes(kind: MetricKind) -> &'static [&'static str] {
    match kind {
        MetricKind::Counter => &["", "_total", "_created"],
        MetricKind::Histogram => &["_bucket", "_sum", "_count", "_created"],
        MetricKind::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricKind::Summary => &["", "_sum", "_count", "_created"],
        MetricKind::Info => &["_info", ""],
        MetricKind::Gauge | MetricKind::StateSet | MetricKind::Unknown => &[""],
    }
}

/// Labels without `__name__`, sorted by name, no empty values.
pub type Labels = Vec<(String, String)>;

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric, with its suffix.
    pub name: String,
    /// The other labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Milliseconds since the epoch, where the page gives one.
    pub timestamp_ms: Option<i64>,
    /// What stands behind ` # `; OpenMetrics only.
    pub exemplar: Option<Exemplar>,
}

/// A case that a sample counts, with the labels of its trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// `trace_id` and what else the page gives.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Milliseconds since the epoch, where the page gives one.
    pub timestamp_ms: Option<i64>,
}

/// What one line of a page says.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Nothing: it is blank.
    Blank,
    /// Something for people.
    Comment,
    /// `# HELP`: the family's name and its help text.
    Help(String, String),
    /// `# TYPE`: the family's name and its kind.
    Type(String, MetricKind),
    /// `# UNIT`: the family's name and its unit.
    Unit(String, String),
    /// A sample.
    Sample(Sample),
    /// `# EOF`, the end of OpenMetrics.
    End,
}

/// Samples that share a type and a help text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: MetricKind,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// Why a page is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct ParseError {
    line: usize,
    reason: String,
}

/// Why a page is not valid that goes on behind its end.
pub const AFTER_END: &str = "unexpected data after # EOF";
/// Why a page is not valid that has no end.
pub const END_MISSING: &str = "data does not end with # EOF";

/// Which of the two formats a page is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus' text format 0.0.4 and 1.0.0: timestamps in milliseconds.
    Text,
    /// OpenMetrics 1.0: timestamps in seconds, exemplars, `# EOF` at the end.
    OpenMetrics,
}

/// Parses a page. As Prometheus does, one malformed line makes the page invalid.
///
/// # Errors
/// [`ParseError`] with the first bad line.
pub(crate) fn parse(page: &str, dialect: Dialect) -> Result<Vec<Family>, ParseError> {
    let mut families = Families::default();
    let mut ended = false;
    for (i, line) in page.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let fail = |reason: String| ParseError { line: i + 1, reason };
        let parsed = parse_line(line, dialect).map_err(fail)?;
        if parsed != Line::Blank && ended {
            return Err(fail(AFTER_END.to_owned()));
        }
        match parsed {
            Line::Blank | Line::Comment | Line::Unit(..) => {}
            Line::Help(name, help) => families.get(&name).help = help,
            Line::Type(name, kind) => families.get(&name).kind = kind,
            Line::Sample(sample) => families.add(sample),
            Line::End => ended = true,
        }
    }
    if dialect == Dialect::OpenMetrics && !ended {
        return Err(ParseError { line: page.split('\n').count(), reason: END_MISSING.to_owned() });
    }
    Ok(families.list)
}

/// Reads one line without its end.
///
/// # Errors
/// What was found and what was expected.
pub fn parse_line(line: &str, dialect: Dialect) -> Result<Line, String> {
    let trimmed = line.trim_start_matches([' ', '\t']);
    match trimmed.strip_prefix('#') {
        _ if trimmed.is_empty() => Ok(Line::Blank),
        Some(" EOF") if dialect == Dialect::OpenMetrics => Ok(Line::End),
        Some(text) => comment(text, dialect),
        None => sample(trimmed, dialect).map(Line::Sample),
    }
}

fn comment(text: &str, dialect: Dialect) -> Result<Line, String> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.blanks();
    let word = cursor.word();
    let is_known = matches!(word, "HELP" | "TYPE") || word == "UNIT" && dialect == Dialect::OpenMetrics;
    if !is_known {
        return Ok(Line::Comment);
    }
    cursor.blanks();
    let name = match cursor.peek() {
        Some('"') => cursor.quoted()?,
        _ => cursor.word().to_owned(),
    };
    cursor.blanks();
    if name.is_empty() {
        return Err(format!("{word} has no metric name"));
    }
    let rest = cursor.rest();
    if word == "HELP" {
        return Ok(Line::Help(name, unescape_help(rest)));
    }
    let rest = rest.trim_end_matches([' ', '\t']);
    if word == "UNIT" {
        return Ok(Line::Unit(name, rest.to_owned()));
    }
    let kind = kind_of(rest).ok_or_else(|| format!("invalid metric type {rest:?}"))?;
    Ok(Line::Type(name, kind))
}

#[derive(Default)]
struct Families {
    list: Vec<Family>,
    by_name: HashMap<String, usize>,
}

impl Families {
    fn get(&mut self, name: &str) -> &mut Family {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.list.len());
                self.list.push(Family { name: name.to_owned(), ..Family::default() });
                self.list.len() - 1
            }
        };
        &mut self.list[at]
    }

    /// Puts a sample into the family that its name belongs to.
    fn add(&mut self, sample: Sample) {
        const SUFFIXES: [&str; 9] =
            ["", "_total", "_created", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info"];
        let owner = SUFFIXES.iter().find_map(|suffix| {
            let at = *self.by_name.get(sample.name.strip_suffix(suffix)?)?;
            let family = self.list.get(at)?;
            let known = family.kind != MetricKind::Unknown || suffix.is_empty();
            (known && suffixes(family.kind).contains(suffix)).then_some(at)
        });
        match owner.and_then(|at| self.list.get_mut(at)) {
            Some(family) => family.samples.push(sample),
            None => {
                let name = sample.name.clone();
                self.get(&name).samples.push(sample);
            }
        }
    }
}

fn unescape_help(text: &str) -> String {
    let mut help = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => help.push('\n'),
                Some('\\') => help.push('\\'),
                Some('"') => help.push('"'),
                Some(other) => help.extend(['\\', other]),
                None => help.push('\\'),
            },
            c => help.push(c),
        }
    }
    help
}

/// `name{a="b"} 1.5 1700000000000`, or `{"any name",a="b"} 1.5`
fn sample(line: &str, dialect: Dialect) -> Result<Sample, String> {
    let mut cursor = Cursor { text: line, at: 0 };
    let mut name = cursor.name(true).to_owned();
    cursor.blanks();
    let mut labels = Labels::new();
    if cursor.eat('{') {
        cursor.labels(&mut name, &mut labels)?;
    }
    if name.is_empty() {
        return Err(format!("expected metric name, got {:?}", cursor.shown()));
    }
    tidy(&mut labels)?;
    let (value, timestamp_ms) = cursor.value(dialect)?;
    let exemplar = match dialect {
        Dialect::OpenMetrics if cursor.eat('#') => Some(cursor.exemplar()?),
        _ => None,
    };
    let rest = cursor.rest();
    if !rest.is_empty() {
        return Err(format!("{rest:?} follows a complete sample"));
    }
    Ok(Sample { name, labels, value, timestamp_ms, exemplar })
}

/// Sorts labels and leaves empty ones out.
fn tidy(labels: &mut Labels) -> Result<(), String> {
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort();
    match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(format!("label name {:?} is not unique", pair[0].0)),
        None => Ok(()),
    }
}

/// Converts seconds since the epoch to the nearest millisecond; `None` for what is no time.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
pub fn seconds_to_ms(seconds: f64) -> Option<i64> {
    let ms = seconds * 1000.0;
    (ms.abs() < 9e15).then(|| ms.round() as i64)
}

/// Reads a number as Go's `ParseFloat` does, but for hexadecimal ones.
fn number(word: &str) -> Option<f64> {
    word.parse().ok()
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Returns the beginning of the rest, for messages.
    fn shown(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.char_indices().nth(30).map_or(rest.len(), |(at, _)| at);
        rest.get(..end).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.take_while(|c| c == ' ' || c == '\t');
    }

    fn word(&mut self) -> &'a str {
        self.take_while(|c| c != ' ' && c != '\t')
    }

    /// Reads a value and the timestamp behind it, if there is one, and the blanks behind that.
    fn value(&mut self, dialect: Dialect) -> Result<(f64, Option<i64>), String> {
        self.blanks();
        let value = self.word();
        let value = number(value).ok_or_else(|| format!("expected value, got {value:?}"))?;
        self.blanks();
        if matches!(self.peek(), None | Some('#')) {
            return Ok((value, None));
        }
        let word = self.word();
        let timestamp_ms = match dialect {
            Dialect::Text => word.parse().ok(),
            Dialect::OpenMetrics => number(word).and_then(seconds_to_ms),
        };
        let timestamp_ms = timestamp_ms.ok_or_else(|| format!("expected timestamp, got {word:?}"))?;
        self.blanks();
        Ok((value, Some(timestamp_ms)))
    }

    /// Reads ` {trace_id="x"} 1.0 123.4`.
    fn exemplar(&mut self) -> Result<Exemplar, String> {
        self.blanks();
        if !self.eat('{') {
            return Err(format!("expected '{{' of an exemplar's labels, got {:?}", self.shown()));
        }
        let (mut name, mut labels) = (String::new(), Vec::new());
        self.labels(&mut name, &mut labels)?;
        if !name.is_empty() {
            return Err(format!("an exemplar has no name, but {name:?} is given"));
        }
        tidy(&mut labels)?;
        let (value, timestamp_ms) = self.value(Dialect::OpenMetrics)?;
        Ok(Exemplar { labels, value, timestamp_ms })
    }

    /// Reads a name without quotes; a metric's may have colons.
    fn name(&mut self, colons: bool) -> &'a str {
        if self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return "";
        }
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || colons && c == ':')
    }

    /// Reads `"text"` with `\\`, `\"` and `\n`.
    fn quoted(&mut self) -> Result<String, String> {
        if !self.eat('"') {
            return Err(format!("expected label value in quotes, got {:?}", self.shown()));
        }
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != '"' && c != '\\'));
            if self.eat('"') {
                return Ok(text);
            }
            if !self.eat('\\') {
                return Err("a quote is not closed".to_owned());
            }
            match self.peek() {
                Some('n') => text.push('\n'),
                Some(c @ ('\\' | '"')) => text.push(c),
                // As Prometheus does, an unknown escape is taken as it is.
                Some(c) => text.extend(['\\', c]),
                None => return Err("a quote is not closed".to_owned()),
            }
            self.at += self.peek().map_or(0, char::len_utf8);
        }
    }

    /// Reads `a="b",c="d"}`; a quoted string alone is the metric's name.
    fn labels(&mut self, name: &mut String, labels: &mut Labels) -> Result<(), String> {
        loop {
            self.blanks();
            if self.eat('}') {
                return Ok(());
            }
            let label = if self.peek() == Some('"') { self.quoted()? } else { self.name(false).to_owned() };
            if label.is_empty() {
                return Err(format!("expected label name, got {:?}", self.shown()));
            }
            self.blanks();
            if self.eat('=') {
                self.blanks();
                let value = self.quoted()?;
                if label == "__name__" { *name = value } else { labels.push((label, value)) }
            } else if name.is_empty() {
                *name = label;
            } else {
                return Err(format!("'=' is missing after label {label:?}"));
            }
            self.blanks();
            if !self.eat(',') && self.peek() != Some('}') {
                return Err(format!("expected ',' or '}}', got {:?}", self.shown()));
            }
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
