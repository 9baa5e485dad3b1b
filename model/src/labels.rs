//! A label set: sorted names, no repeats, one shared allocation per part.

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
pub struct Labels(Arc<Inner>);

struct Inner {
    /// All names and values, one after the other.
    text: Box<str>,
    /// Where each name and each value ends in `text`, in bytes; two entries per label.
    ends: Box<[u32]>,
}

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
        let mut text = String::new();
        let mut ends = Vec::new();
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|last| last < name), "label names must ascend: {last:?}, {name:?}");
            last = Some(name);
            text.push_str(name);
            ends.push(u32::try_from(text.len()).expect("a label set is far below 4 GiB"));
            text.push_str(value);
            ends.push(u32::try_from(text.len()).expect("a label set is far below 4 GiB"));
        }
        Self(Arc::new(Inner { text: text.into(), ends: ends.into() }))
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
        let ends = &self.0.ends;
        let text = &self.0.text;
        (0..self.len()).map(move |i| {
            let start = if i == 0 { 0 } else { ends[2 * i - 1] as usize };
            let middle = ends[2 * i] as usize;
            let end = ends[2 * i + 1] as usize;
            (part(text, start, middle), part(text, middle, end))
        })
    }

    /// Returns the number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len() / 2
    }

    /// Says whether the set has no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// Returns the bytes that the set keeps allocated, for memory budgets.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.text.len() + self.0.ends.len() * 4 + 48
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

fn part(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).expect("ends lie on the borders of the strings that were pushed")
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.ends == other.0.ends && self.0.text == other.0.text)
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
        self.0.ends.hash(state);
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
