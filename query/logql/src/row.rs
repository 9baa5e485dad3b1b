//! The labels of one row while it goes through a pipeline.

use std::borrow::Cow;
use std::collections::HashSet;

use model::Labels;
use storage_api::LogRows;
use xxhash_rust::xxh3::xxh3_64;

use crate::ast::Grouping;
use crate::level::{DETECTED_LEVEL, of_metadata, of_stream, plain};

/// The label that says what went wrong with a line.
pub(crate) const ERROR: &str = "__error__";
/// The label that says more about it.
pub(crate) const ERROR_DETAILS: &str = "__error_details__";
/// The label by which a query keeps lines with errors in its numbers.
pub(crate) const PRESERVE_ERROR: &str = "__preserve_error__";
/// What a parsed label's name gets when the stream or the metadata have one of the same name.
const DUPLICATE_SUFFIX: &str = "_extracted";
/// What [`ERROR`] says when more is taken out of a line than [`PARSED_BYTES_MAX`].
const SIZE_ERROR: &str = "LabelsTooLargeErr";
/// Most bytes of labels that stages may make of one row. A line's own fields are never more than the line; but expressions
/// and groups that each take the whole line, thousands of them, would be.
const PARSED_BYTES_MAX: usize = 64 << 20;
/// Most labels that stages may make of one row.
const PARSED_MAX: usize = 10_000;
/// From so many on, hashes tell whether a name is new: a line with thousands of fields is not compared with itself.
const HASHED_FROM: usize = 32;

/// The labels of one row: the stream's, those beside the line, those taken out of it, and its error.
#[derive(Debug)]
pub(crate) struct RowLabels<'a> {
    stream: &'a Labels,
    /// The stream's labels, apart: they are looked through for each row.
    stream_pairs: Vec<(&'a str, &'a str)>,
    /// The level that these tell, once it was asked for.
    stream_level: Option<Option<&'a str>>,
    metadata: Vec<(Cow<'a, str>, &'a str)>,
    parsed: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    deleted: Vec<String>,
    /// Parsed names that were deleted since; they count as extracted all the same.
    extracted: Vec<Cow<'a, str>>,
    /// Bytes of all values that were set as parsed.
    parsed_bytes: usize,
    /// The hashes of all parsed and extracted names, once there are [`HASHED_FROM`].
    hashes: HashSet<u64>,
    pub(crate) error: &'static str,
    pub(crate) error_details: String,
}

/// Labels by where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CategorizedLabels {
    /// The stream's.
    pub stream: Labels,
    /// Beside the line.
    pub metadata: Labels,
    /// Out of the line.
    pub parsed: Labels,
}

impl CategorizedLabels {
    /// Returns all of them in one set.
    #[must_use]
    pub fn all(&self) -> Labels {
        if self.metadata.is_empty() && self.parsed.is_empty() {
            return self.stream.clone();
        }
        set(self.stream.iter().chain(self.metadata.iter()).chain(self.parsed.iter()))
    }
}

/// Makes a label set of pairs in any order; unlike [`Labels::from_pairs`] it keeps empty values, which mean something here.
pub(crate) fn set<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    Labels::from_sorted(sorted(pairs))
}

/// Sorts pairs by name; of repeated names the last one wins.
fn sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    let mut pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
    pairs.sort_by(|a, b| a.0.cmp(b.0));
    if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
        pairs.reverse();
        pairs.dedup_by(|a, b| a.0 == b.0);
        pairs.reverse();
    }
    pairs
}

impl<'a> RowLabels<'a> {
    pub(crate) fn new(stream: &'a Labels) -> Self {
        Self {
            stream,
            stream_pairs: stream.iter().collect(),
            stream_level: None,
            metadata: Vec::new(),
            parsed: Vec::new(),
            deleted: Vec::new(),
            extracted: Vec::new(),
            parsed_bytes: 0,
            hashes: HashSet::new(),
            error: "",
            error_details: String::new(),
        }
    }

    /// Starts over for the next row.
    pub(crate) fn reset(&mut self, metadata: impl Iterator<Item = (&'a str, &'a str)>) {
        self.metadata.clear();
        self.parsed.clear();
        self.deleted.clear();
        self.extracted.clear();
        self.parsed_bytes = 0;
        self.hashes.clear();
        self.error = "";
        self.error_details.clear();
        for (name, value) in metadata {
            let name = match self.stream_value(name) {
                Some(_) => Cow::Owned(format!("{name}{DUPLICATE_SUFFIX}")),
                None => Cow::Borrowed(name),
            };
            self.metadata.push((name, value));
        }
    }

    /// Starts over for a row of the store. `with_level` adds `detected_level` where the store has it.
    pub(crate) fn reset_row(&mut self, rows: &'a LogRows, row: usize, with_level: bool) {
        let metadata = || rows.metadata.get(row).iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        self.reset(metadata());
        if with_level && rows.has_levels {
            self.add_level(metadata());
        }
    }

    /// Adds `detected_level`, or makes the one that came plain.
    pub(crate) fn add_level(&mut self, metadata: impl Iterator<Item = (&'a str, &'a str)>) {
        if self.stream_value(DETECTED_LEVEL).is_some() {
            return;
        }
        if let Some((_, level)) = self.metadata.iter_mut().find(|(name, _)| name == DETECTED_LEVEL) {
            *level = plain(level);
            return;
        }
        let stream = self.stream;
        let of_stream = *self.stream_level.get_or_insert_with(|| of_stream(stream));
        if let Some(level) = of_stream.or_else(|| of_metadata(metadata)) {
            self.metadata.push((Cow::Borrowed(DETECTED_LEVEL), level));
        }
    }

    fn stream_value(&self, name: &str) -> Option<&'a str> {
        self.stream_pairs.iter().find(|(have, _)| *have == name).map(|(_, value)| *value)
    }

    /// Returns the value of a label, or `None`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        if let Some((_, value)) = self.metadata.iter().find(|(have, _)| have == name) {
            return Some(value);
        }
        if let Some((_, value)) = self.parsed.iter().find(|(have, _)| have == name) {
            return Some(value);
        }
        if self.deleted.iter().any(|have| have == name) {
            return None;
        }
        self.stream_value(name)
    }

    /// Returns what a label filter compares: the label's value, the error's, or nothing.
    pub(crate) fn filter_value(&self, name: &str) -> &str {
        if name == ERROR { self.error } else { self.get(name).unwrap_or("") }
    }

    /// Returns the name that a label taken out of the line gets.
    pub(crate) fn parsed_name<'n>(&self, name: impl Into<Cow<'n, str>>) -> Cow<'n, str> {
        let mut name = name.into();
        if self.stream_value(&name).is_some() || self.metadata.iter().any(|(have, _)| *have == name) {
            name.to_mut().push_str(DUPLICATE_SUFFIX);
        }
        name
    }

    /// Says whether an earlier stage, or an earlier key of the same line, made this label.
    pub(crate) fn is_extracted(&self, name: &str) -> bool {
        self.may_be_known(name)
            && (self.parsed.iter().any(|(have, _)| have == name) || self.extracted.iter().any(|have| have == name))
    }

    /// Says `false` when no parsed or extracted label has this name.
    fn may_be_known(&self, name: &str) -> bool {
        self.parsed.len() < HASHED_FROM || self.hashes.is_empty() || self.hashes.contains(&xxh3_64(name.as_bytes()))
    }

    /// Sets a label as parsed; it hides those of the same name.
    pub(crate) fn set_parsed(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        self.parsed_bytes = self.parsed_bytes.saturating_add(value.len());
        if self.parsed_bytes > PARSED_BYTES_MAX || self.parsed.len() >= PARSED_MAX {
            let limits = format!("labels of one line are over the limit of {PARSED_MAX} or {PARSED_BYTES_MAX} bytes");
            return self.fail(SIZE_ERROR, limits);
        }
        self.metadata.retain(|(have, _)| *have != name);
        let known = self.may_be_known(&name).then(|| self.parsed.iter_mut().find(|(have, _)| *have == name)).flatten();
        match known {
            Some((_, have)) => *have = value,
            None => {
                if !self.hashes.is_empty() {
                    self.hashes.insert(xxh3_64(name.as_bytes()));
                }
                self.parsed.push((name, value));
                if self.parsed.len() == HASHED_FROM && self.hashes.is_empty() {
                    let names = self.parsed.iter().map(|(name, _)| name).chain(&self.extracted);
                    self.hashes.extend(names.map(|name| xxh3_64(name.as_bytes())));
                }
            }
        }
    }

    /// Removes a label, wherever it comes from.
    pub(crate) fn delete(&mut self, name: &str) {
        self.metadata.retain(|(have, _)| have != name);
        if let Some(i) = self.parsed.iter().position(|(have, _)| have == name) {
            self.extracted.push(self.parsed.remove(i).0);
        }
        self.deleted.push(name.to_owned());
    }

    /// Notes what went wrong with the line.
    pub(crate) fn fail(&mut self, error: &'static str, details: impl Into<String>) {
        self.error = error;
        self.error_details = details.into();
    }

    fn is_unchanged(&self) -> bool {
        self.metadata.is_empty()
            && self.parsed.is_empty()
            && self.deleted.is_empty()
            && self.error.is_empty()
            && self.error_details.is_empty()
    }

    fn stream_left(&self) -> impl Iterator<Item = (&str, &str)> {
        let hidden = |name: &str| {
            self.deleted.iter().any(|have| have == name)
                || self.metadata.iter().any(|(have, _)| have == name)
                || self.parsed.iter().any(|(have, _)| have == name)
        };
        self.stream_pairs.iter().copied().filter(move |(name, _)| !hidden(name))
    }

    fn beside(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        // Details are told beside an error only: whoever drops the error drops them, too.
        let has_error = !self.error.is_empty();
        [(ERROR, self.error), (ERROR_DETAILS, self.error_details.as_str())]
            .into_iter()
            .filter(move |(_, value)| has_error && !value.is_empty())
    }

    /// Iterates over all labels, errors included, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.stream_left().chain(self.beside()).chain(pairs(&self.parsed)).chain(self.errors())
    }

    /// Returns the row's labels by where they come from.
    pub(crate) fn categorized(&self) -> CategorizedLabels {
        if self.is_unchanged() {
            let none = Labels::empty();
            return CategorizedLabels { stream: self.stream.clone(), metadata: none.clone(), parsed: none };
        }
        let stream = if self.parsed.is_empty() && self.deleted.is_empty() {
            self.stream.clone()
        } else {
            set(self.stream_left())
        };
        CategorizedLabels {
            stream,
            metadata: set(self.beside()),
            parsed: set(pairs(&self.parsed).chain(self.errors())),
        }
    }

    /// Returns all labels, errors included, by name.
    pub(crate) fn all_sorted(&self) -> Vec<(&str, &str)> {
        let stream = self.stream_pairs.iter().filter(|(name, _)| !self.deleted.iter().any(|deleted| deleted == name));
        sorted(stream.copied().chain(self.beside()).chain(pairs(&self.parsed)).chain(self.errors()))
    }

    /// Returns what [`categorized`](Self::categorized) does, each by name.
    pub(crate) fn categorized_sorted(&self) -> [Vec<(&str, &str)>; 3] {
        let is_whole = self.parsed.is_empty() && self.deleted.is_empty();
        let stream = if is_whole { self.stream_pairs.clone() } else { self.stream_left().collect() };
        [stream, sorted(self.beside()), sorted(pairs(&self.parsed).chain(self.errors()))]
    }

    /// Says without making a label set whether the row belongs to `series`; `false` when that is not easily seen.
    pub(crate) fn is_in(&self, series: &Labels, grouping: &SeriesLabels) -> bool {
        if !self.error.is_empty() {
            return false;
        }
        match grouping {
            SeriesLabels::None => series.is_empty(),
            SeriesLabels::All => self.is_unchanged() && series == self.stream,
            SeriesLabels::By(names) => names.iter().all(|name| self.get(name) == series.get(name)),
            SeriesLabels::Without(_) => false,
        }
    }

    /// Returns the labels of the series that the row belongs to. An error shows whatever the grouping.
    pub(crate) fn grouped(&self, grouping: &SeriesLabels) -> Labels {
        if !self.error.is_empty() {
            return set(self.iter());
        }
        match grouping {
            SeriesLabels::None => Labels::empty(),
            SeriesLabels::All if self.is_unchanged() => self.stream.clone(),
            SeriesLabels::All => set(self.iter()),
            SeriesLabels::By(names) => {
                set(names.iter().filter_map(|name| self.get(name).map(|value| (name.as_str(), value))))
            }
            SeriesLabels::Without(names) => {
                set(self.iter().filter(|(name, _)| !names.iter().any(|without| without == name)))
            }
        }
    }
}

fn pairs<'p>(pairs: &'p [(Cow<'_, str>, Cow<'_, str>)]) -> impl Iterator<Item = (&'p str, &'p str)> {
    pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
}

/// Which of a row's labels name its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeriesLabels {
    None,
    All,
    By(Vec<String>),
    Without(Vec<String>),
}

impl SeriesLabels {
    pub(crate) fn new(grouping: Option<&Grouping>) -> Self {
        match grouping {
            None => Self::All,
            Some(Grouping { without: false, labels }) if labels.is_empty() => Self::None,
            Some(Grouping { without: false, labels }) => Self::By(labels.clone()),
            Some(Grouping { without: true, labels }) if labels.is_empty() => Self::All,
            Some(Grouping { without: true, labels }) => Self::Without(labels.clone()),
        }
    }
}

/// What parsers need not do, because nothing asks for the labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints {
    /// No label is asked for at all.
    pub(crate) no_labels: bool,
    /// The only labels that are asked for; none means all.
    pub(crate) required: Vec<String>,
}

impl Hints {
    /// Works out what is needed for series with these labels, when the stages ask for `stage_names`.
    pub(crate) fn new(series: &SeriesLabels, stage_names: Vec<String>) -> Self {
        let groups = match series {
            SeriesLabels::None if stage_names.is_empty() => return Self { no_labels: true, required: Vec::new() },
            SeriesLabels::None => &[],
            SeriesLabels::By(names) => names.as_slice(),
            SeriesLabels::All | SeriesLabels::Without(_) => return Self::default(),
        };
        let mut required: Vec<String> = Vec::new();
        for name in stage_names.iter().chain(groups) {
            for name in [Some(name.as_str()), name.strip_suffix(DUPLICATE_SUFFIX)].into_iter().flatten() {
                if !name.is_empty() && !required.iter().any(|have| have == name) {
                    required.push(name.to_owned());
                }
            }
        }
        Self { no_labels: false, required }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.required.is_empty() || self.required.iter().any(|have| have == name)
    }

    /// Says whether a key of this name may be wanted, under the name that a conflict would give it or its own.
    pub(crate) fn may_want(&self, name: &str) -> bool {
        self.required.is_empty()
            || self
                .required
                .iter()
                .any(|have| have.strip_suffix(DUPLICATE_SUFFIX).unwrap_or(have) == name || have == name)
    }

    /// Says whether some wanted label starts so.
    pub(crate) fn wants_prefix(&self, prefix: &str) -> bool {
        self.required.is_empty() || self.required.iter().any(|have| have.starts_with(prefix))
    }

    /// Says whether parsing may stop.
    pub(crate) fn is_done(&self, row: &RowLabels<'_>) -> bool {
        !self.required.is_empty() && self.required.iter().all(|name| row.is_extracted(name))
    }

    /// Says whether a parser has nothing to do at all.
    pub(crate) fn skips(&self, row: &RowLabels<'_>) -> bool {
        self.no_labels || self.is_done(row)
    }

    /// Says whether the query looks at errors itself.
    pub(crate) fn preserves_error(&self) -> bool {
        self.required.iter().any(|name| name == ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_labels_hide_others_and_conflicts_are_renamed() {
        let stream = Labels::from_pairs([("app", "a"), ("level", "info")]);
        let mut row = RowLabels::new(&stream);
        row.reset([("trace_id", "t"), ("app", "other")].into_iter());
        assert_eq!(row.get("app_extracted"), Some("other"));
        assert_eq!(row.parsed_name("level"), "level_extracted");
        row.set_parsed("level", "warn");
        row.delete("trace_id");
        let labels = row.categorized();
        assert!(row.all_sorted().into_iter().eq(labels.all().iter()));
        let parts = row.categorized_sorted();
        for (pairs, labels) in parts.iter().zip([&labels.stream, &labels.metadata, &labels.parsed]) {
            assert!(pairs.iter().copied().eq(labels.iter()), "{pairs:?} {labels}");
        }
        assert_eq!(labels.all().to_string(), r#"{app="a", app_extracted="other", level="warn"}"#);
        assert_eq!(labels.stream.to_string(), r#"{app="a"}"#);
        assert_eq!(row.get("trace_id"), None);
    }

    #[test]
    fn labels_of_one_row_are_bounded_and_the_next_row_starts_over() {
        let stream = Labels::empty();
        let long = "x".repeat(1 << 20);
        let mut row = RowLabels::new(&stream);
        for i in 0..100 {
            row.set_parsed(format!("l{i}"), long.as_str());
        }
        assert_eq!((row.error, row.parsed.len()), (SIZE_ERROR, 64));
        row.reset(std::iter::empty());
        (0..20_000).for_each(|i| row.set_parsed(format!("l{i}"), ""));
        assert_eq!((row.error, row.parsed.len()), (SIZE_ERROR, 10_000));
        row.reset(std::iter::empty());
        row.set_parsed("x", "y");
        assert_eq!((row.error, row.get("x")), ("", Some("y")));
    }

    #[test]
    fn many_labels_are_known_by_name_whatever_was_deleted_between() {
        let stream = Labels::empty();
        let mut row = RowLabels::new(&stream);
        for i in 0..100 {
            row.set_parsed(format!("l{i}"), "a");
            if i % 10 == 0 {
                row.delete(&format!("l{i}"));
            }
        }
        (0..100).for_each(|i| assert!(row.is_extracted(&format!("l{i}")), "{i}"));
        assert!(!row.is_extracted("l100"));
        row.set_parsed("l55", "b");
        row.set_parsed("l50", "b");
        assert_eq!((row.parsed.len(), row.get("l55"), row.get("l50")), (91, Some("b"), Some("b")));
    }

    #[test]
    fn an_empty_value_is_not_a_missing_one() {
        let stream = Labels::empty();
        let mut row = RowLabels::new(&stream);
        row.set_parsed("x", "");
        let by = SeriesLabels::By(vec!["x".to_owned(), "y".to_owned()]);
        assert_eq!(row.grouped(&by).to_string(), r#"{x=""}"#);
        assert_eq!(row.grouped(&SeriesLabels::None).len(), 0);
    }
}
