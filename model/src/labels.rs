//! A label set: sorted names, no repeats, one shared allocation.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: names and values sorted by name, without repeats and without empty values.
///
/// A clone costs one reference count. Order is that of Prometheus: name, then value, pair by pair, and a set that is
/// a prefix of another comes first.
#[derive(Clone)]
pub struct Labels(
    /// One allocation, as there are millions of sets: a byte that says in how many bytes the numbers are written, the
    /// number of labels, the lengths of each name and value, and all names and values. Numbers have 7 bits a byte, so that
    /// all of it is text.
    Arc<str>,
);

/// Why a label set could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The same name came twice.
    #[error("label {name:?} is given twice")]
    Repeated {
        /// The name in question.
        name: String,
    },
    /// A name was empty.
    #[error("a label with value {value:?} has an empty name")]
    EmptyName {
        /// The value that came with it.
        value: String,
    },
}

impl Labels {
    /// Returns the empty label set.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_sorted(std::iter::empty())
    }

    /// Builds a label set from pairs in any order. Empty values are left out; of repeated names the last one wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a label set from pairs in any order and refuses what [`Labels::from_pairs`] would mend.
    ///
    /// # Errors
    /// [`LabelError::Repeated`] and [`LabelError::EmptyName`]. An empty value means "no such label" and is left out.
    pub fn try_from_pairs(pairs: &mut [(&str, &str)]) -> Result<Self, LabelError> {
        pairs.sort_unstable();
        for pair in pairs.iter() {
            if pair.0.is_empty() {
                return Err(LabelError::EmptyName { value: pair.1.to_owned() });
            }
        }
        for two in pairs.windows(2) {
            if let [(a, _), (b, _)] = two
                && a == b
            {
                return Err(LabelError::Repeated { name: (*a).to_owned() });
            }
        }
        Ok(Self::from_sorted(pairs.iter().copied().filter(|(_, value)| !value.is_empty())))
    }

    /// Builds a label set from pairs that are already sorted by name, without repeats or empty values.
    ///
    /// # Panics
    /// With debug assertions, when the names are not strictly ascending.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // Taken out, as the iterator may build sets of its own.
        let mut scratch = SCRATCH.take();
        scratch.clear();
        for (name, value) in pairs {
            scratch.push(name, value);
        }
        let labels = Self(scratch.finish().into());
        if scratch.all.capacity() <= SCRATCH_BYTES_MAX {
            SCRATCH.set(scratch);
        }
        labels
    }

    /// Returns the value of `name`, or `None` when the set has no such label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        // Label sets are short: a walk beats a binary search.
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Returns the value of `__name__`, or `""`.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Iterates over (name, value), by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + '_ {
        self.pairs()
    }

    fn pairs(&self) -> Pairs<'_> {
        let (width, rest) = self.0.split_at(1);
        let width = width.bytes().map(usize::from).sum();
        let (count, rest) = rest.split_at(width);
        let (lengths, text) = rest.split_at(number(count.as_bytes()) * 2 * width);
        Pairs { width, lengths: lengths.as_bytes(), text }
    }

    /// Returns the number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    /// Says whether the set has no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes that the set keeps allocated, for memory budgets.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        // Two counters, and what an allocation takes beside.
        self.0.len() + 32
    }

    /// Starts a changed copy.
    #[must_use]
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// Returns the set without the metric name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        self.filtered(|name| name != METRIC_NAME)
    }

    /// Returns the set with only the labels whose name `keep` accepts.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }
}

/// Reads a number of 7 bits a byte, the lowest first.
#[inline]
fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 7 | usize::from(*byte))
}

fn push_number(out: &mut String, width: usize, number: usize) {
    for place in 0..width {
        // 7 bits are ASCII.
        out.push(char::from((number >> (7 * place)) as u8 & 0x7f));
    }
}

/// Goes over the labels of a set.
struct Pairs<'a> {
    width: usize,
    lengths: &'a [u8],
    text: &'a str,
}

impl<'a> Pairs<'a> {
    #[inline]
    fn part(&mut self) -> Option<&'a str> {
        let (length, lengths) = self.lengths.split_at_checked(self.width)?;
        self.lengths = lengths;
        let length = if let [length] = length { usize::from(*length) } else { number(length) };
        let (part, text) = self.text.split_at(length);
        self.text = text;
        Some(part)
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.part()?, self.part()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.lengths.len() / (2 * self.width);
        (count, Some(count))
    }
}

impl ExactSizeIterator for Pairs<'_> {}

/// A larger scratch is given back.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Each thread builds many sets.
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// What a set is put together in.
#[derive(Default)]
struct Scratch {
    lengths: Vec<usize>,
    text: String,
    all: String,
}

impl Scratch {
    fn clear(&mut self) {
        self.lengths.clear();
        self.text.clear();
        self.all.clear();
    }

    fn push(&mut self, name: &str, value: &str) {
        debug_assert!(self.last_name().is_none_or(|last| last < name), "label names must ascend: {name:?}");
        self.lengths.extend([name.len(), value.len()]);
        self.text.push_str(name);
        self.text.push_str(value);
    }

    fn last_name(&self) -> Option<&str> {
        let [.., name, value] = self.lengths.as_slice() else { return None };
        let start = self.text.len() - name - value;
        self.text.get(start..start + name)
    }

    fn finish(&mut self) -> &str {
        let count = self.lengths.len() / 2;
        let largest = self.lengths.iter().copied().fold(count, usize::max);
        let width = (1..).find(|width| largest >> (7 * width) == 0).unwrap_or(1);
        self.all.reserve(1 + width * (1 + self.lengths.len()) + self.text.len());
        push_number(&mut self.all, 1, width);
        push_number(&mut self.all, width, count);
        self.lengths.iter().for_each(|length| push_number(&mut self.all, width, *length));
        self.all.push_str(&self.text);
        &self.all
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.iter().cmp(other.iter()) }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Prints the set as PromQL writes a series: `name{label="value"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        f.write_str(name)?;
        let mut rest = self.iter().filter(|(n, _)| *n != METRIC_NAME).peekable();
        if rest.peek().is_none() && !name.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (i, (name, value)) in rest.enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Collects and changes labels, then [`build`](LabelsBuilder::build)s the set.
#[derive(Debug, Default, Clone)]
pub struct LabelsBuilder {
    /// Sorted by name, no repeats.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(have, _)| have.as_str().cmp(name)) {
            Ok(i) if value.is_empty() => drop(self.pairs.remove(i)),
            Ok(i) => value.clone_into(&mut self.pairs[i].1),
            Err(_) if value.is_empty() => {}
            Err(i) => self.pairs.insert(i, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes `name` where it is there.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Returns the value of `name`, or `None`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let i = self.pairs.binary_search_by(|(have, _)| have.as_str().cmp(name)).ok()?;
        Some(&self.pairs[i].1)
    }

    /// Keeps the labels whose name `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, _)| keep(name));
        self
    }

    /// Returns the label set.
    #[must_use]
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_empty_values_left_out() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("__name__", "up")]);
        assert_eq!(labels.to_string(), r#"up{a="1", b="2"}"#);
        assert_eq!(labels.get("c"), None);
        assert_eq!(labels.len(), 3);
    }

    #[test]
    fn a_repeated_name_is_refused_by_name() {
        let error = Labels::try_from_pairs(&mut [("a", "1"), ("b", "2"), ("a", "3")]).unwrap_err();
        assert_eq!(error.to_string(), r#"label "a" is given twice"#);
    }

    #[test]
    fn order_is_pair_by_pair_and_a_prefix_comes_first() {
        let short = Labels::from_pairs([("a", "1")]);
        let long = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let other = Labels::from_pairs([("a", "2")]);
        assert!(short < long && long < other);
    }

    #[test]
    fn sets_with_the_same_text_but_other_borders_differ() {
        assert_ne!(Labels::from_pairs([("ab", "c")]), Labels::from_pairs([("a", "bc")]));
    }

    #[track_caller]
    fn check_lengths(lengths: impl IntoIterator<Item = usize>) {
        let lengths: Vec<usize> = lengths.into_iter().collect();
        let pairs: Vec<_> = lengths.iter().enumerate().map(|(i, n)| (format!("n{i:05}"), "v".repeat(*n))).collect();
        let labels = Labels::from_sorted(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        assert!(labels.iter().eq(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
        assert_eq!(
            (labels.len(), labels.iter().len(), labels.is_empty()),
            (pairs.len(), pairs.len(), pairs.is_empty())
        );
        assert!(labels == Labels::from_pairs(pairs));
    }

    #[test]
    fn labels_of_any_number_and_length_come_back() {
        check_lengths([]);
        check_lengths([1]);
        check_lengths([127, 1]);
        check_lengths([1, 128]);
        check_lengths([16_383]);
        check_lengths([16_384, 1, 7]);
        check_lengths([3 << 20]);
        check_lengths(1..127);
        check_lengths(1..129);
    }

    #[test]
    fn a_set_may_be_built_while_another_one_is() {
        let pairs = ["1", "2"].map(|value| (value, Labels::from_pairs([("inner", value)])));
        let outer = Labels::from_sorted(pairs.iter().map(|(name, inner)| {
            assert_eq!(inner, &Labels::from_sorted([("inner", *name)]));
            (*name, inner.get("inner").unwrap())
        }));
        assert_eq!(outer.to_string(), r#"{1="1", 2="2"}"#);
    }

    #[test]
    fn builder_changes_and_removes() {
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]);
        let mut builder = labels.to_builder();
        builder.set("a", "9").remove("b").set("c", "3");
        assert_eq!(builder.build().to_string(), r#"{a="9", c="3"}"#);
    }

    #[test]
    fn non_ascii_labels_come_back_whole() {
        let labels = Labels::from_pairs([("이름", "결제"), ("x", "é")]);
        assert_eq!(labels.get("이름"), Some("결제"));
        assert_eq!(labels.get("x"), Some("é"));
    }
}
