//! Parses the Prometheus text exposition, and OpenMetrics.

use std::collections::HashMap;

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    #[default]
    Unknown,
}

impl Kind {
    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// Returns the word that OpenMetrics has for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    /// Returns what a sample's name may add to the family's.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["", "_total", "_created"],
            Self::Histogram => &["_bucket", "_sum", "_count", "_created"],
            Self::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
            Self::Summary => &["", "_sum", "_count", "_created"],
            Self::Info => &["_info", ""],
            Self::Gauge | Self::StateSet | Self::Unknown => &[""],
        }
    }
}

/// Labels without `__name__`, sorted by name, no empty values.
pub(crate) type Labels = Vec<(String, String)>;

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    /// Milliseconds since the epoch, where the page gives one.
    pub(crate) timestamp_ms: Option<i64>,
}

/// Samples that share a type and a help text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: Kind,
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

/// Which of the two formats a page is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
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
        let trimmed = line.trim_start_matches([' ', '\t']);
        if trimmed.is_empty() {
            continue;
        }
        if ended {
            return Err(fail("there is text after # EOF".to_owned()));
        }
        if let Some(comment) = trimmed.strip_prefix('#') {
            ended = dialect == Dialect::OpenMetrics && comment == " EOF";
            families.comment(comment).map_err(fail)?;
        } else {
            families.add(sample(trimmed, dialect).map_err(fail)?);
        }
    }
    if dialect == Dialect::OpenMetrics && !ended {
        return Err(ParseError {
            line: page.split('\n').count(),
            reason: "# EOF is missing, the page is cut off".to_owned(),
        });
    }
    Ok(families.list)
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

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut cursor = Cursor { text: comment, at: 0 };
        cursor.blanks();
        let word = cursor.word();
        if word != "HELP" && word != "TYPE" {
            return Ok(());
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
            self.get(&name).help = unescape_help(rest);
            return Ok(());
        }
        let kind = rest.trim_end_matches([' ', '\t']);
        let kind = Kind::from_word(kind).ok_or_else(|| format!("{kind:?} is no metric type"))?;
        self.get(&name).kind = kind;
        Ok(())
    }

    /// Puts a sample into the family that its name belongs to.
    fn add(&mut self, sample: Sample) {
        const SUFFIXES: [&str; 9] =
            ["", "_total", "_created", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info"];
        let owner = SUFFIXES.iter().find_map(|suffix| {
            let at = *self.by_name.get(sample.name.strip_suffix(suffix)?)?;
            let family = self.list.get(at)?;
            let known = family.kind != Kind::Unknown || suffix.is_empty();
            (known && family.kind.suffixes().contains(suffix)).then_some(at)
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
    let mut labels = Vec::new();
    if cursor.eat('{') {
        cursor.labels(&mut name, &mut labels)?;
    }
    if name.is_empty() {
        return Err(format!("a metric name is missing before {:?}", cursor.shown()));
    }
    labels.retain(|(_, value): &(String, String)| !value.is_empty());
    labels.sort();
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("label {:?} is given twice", pair[0].0));
    }
    cursor.blanks();
    let value = cursor.word();
    let value = number(value).ok_or_else(|| format!("{value:?} is no value"))?;
    cursor.blanks();
    let timestamp_ms = match cursor.peek() {
        None | Some('#') => None,
        Some(_) => {
            let word = cursor.word();
            let parsed = match dialect {
                Dialect::Text => word.parse().ok(),
                Dialect::OpenMetrics => {
                    number(word).map(|seconds| seconds * 1000.0).filter(|ms| ms.abs() < 9e15).map(whole)
                }
            };
            Some(parsed.ok_or_else(|| format!("{word:?} is no timestamp"))?)
        }
    };
    cursor.blanks();
    let rest = cursor.rest();
    // An exemplar may follow in OpenMetrics; it is checked no further and left out.
    let exemplar = dialect == Dialect::OpenMetrics && rest.starts_with("# {");
    if !rest.is_empty() && !exemplar {
        return Err(format!("{rest:?} follows a complete sample"));
    }
    Ok(Sample { name, labels, value, timestamp_ms })
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
fn whole(ms: f64) -> i64 {
    ms.round() as i64
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
            return Err(format!("a quote is missing before {:?}", self.shown()));
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
                return Err(format!("a label name is missing before {:?}", self.shown()));
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
                return Err(format!("',' or '}}' is missing before {:?}", self.shown()));
            }
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
