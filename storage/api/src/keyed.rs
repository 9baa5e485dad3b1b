//! Series told by a key, so that labels the store knows already need not be decoded.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;

use model::LabelError;

/// Bytes of a maker's secret; what the hash wants at least is 136.
const SECRET_BYTES: usize = 192;

/// Stands for the bytes that a client told a series' labels by. The same key always means the same labels; the same
/// labels may have several keys, as a client may write them in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeriesKey(pub u128);

/// What stands for the labels of a series that was pushed by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyed {
    /// The key.
    pub key: SeriesKey,
    /// What the batch's [`LabelSource`] knows the series by.
    pub token: u64,
}

/// A label's name and value, borrowed where that is possible.
pub type LabelPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Makes keys: hashes of 128 bits under a random secret, so that nobody can make up two label sets that share a key. Use
/// one maker per form in which labels come, as the same bytes may mean other labels in another form.
#[derive(Clone)]
pub struct KeyMaker {
    secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaker")
    }
}

impl Default for KeyMaker {
    /// Returns a maker with a new secret.
    fn default() -> Self {
        let random = RandomState::new();
        let mut secret = [0; SECRET_BYTES];
        for (i, word) in secret.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&random.hash_one(i).to_le_bytes());
        }
        Self { secret }
    }
}

impl KeyMaker {
    /// Returns the key of labels that are told by `bytes`.
    #[must_use]
    pub fn key(&self, bytes: &[u8]) -> SeriesKey {
        SeriesKey(xxhash_rust::xxh3::xxh3_128_with_secret(bytes, &self.secret))
    }

    /// Returns the key of labels that are told by several parts, in this order: a resource, a scope, a name.
    #[must_use]
    pub fn join<const N: usize>(&self, parts: [SeriesKey; N]) -> SeriesKey {
        // A part is always of the same length, so that no two lists of parts are the same bytes.
        let parts = parts.map(|part| part.0.to_le_bytes());
        self.key(parts.as_flattened())
    }
}

/// Why the labels of a keyed series are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFault {
    /// The series is not taken; the rest of the batch is.
    Refused {
        /// A short word, as in [`Rejection`](crate::Rejection).
        reason: &'static str,
        /// What is wrong, in words.
        detail: String,
    },
    /// The whole request makes no sense, and nothing of it is taken.
    Malformed(String),
}

/// Decodes the labels of series that were pushed by key, when the store does not know the key.
pub trait LabelSource<'a>: fmt::Debug + Sync {
    /// Appends the labels of the series that was pushed with `token`, in any order; pairs with an empty value are as
    /// good as none.
    ///
    /// # Errors
    /// When they are no labels, or more than the receiver allows.
    fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelFault>;
}

/// Brings the labels from `first` on into the form that a store takes: sorted by name, without empty values.
///
/// # Errors
/// [`LabelError`] for a repeated or empty name; the labels from `first` on are gone then.
pub fn sort_labels(labels: &mut Vec<LabelPair<'_>>, first: usize) -> Result<(), LabelError> {
    let added = labels.get(first..).unwrap_or_default();
    if added.iter().any(|(_, value)| value.is_empty()) {
        let mut place = 0;
        labels.retain(|(_, value)| {
            place += 1;
            place <= first || !value.is_empty()
        });
    }
    let added = labels.get_mut(first..).unwrap_or_default();
    if !added.is_sorted_by(|a, b| a.0 < b.0) {
        added.sort_unstable();
    }
    let mut error = None;
    let mut last: Option<&str> = None;
    for (name, value) in added.iter() {
        if name.is_empty() {
            error = Some(LabelError::EmptyName { value: value.to_string() });
        } else if last == Some(name) {
            error = Some(LabelError::Repeated { name: name.to_string() });
        }
        last = Some(name);
    }
    match error {
        None => Ok(()),
        Some(error) => {
            labels.truncate(first);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Matcher, Sample};

    use super::*;
    use crate::fake::FakeMetrics;
    use crate::{Error, MetricAppender as _, MetricBatch, MetricQuerier as _, MillisRange, QueryContext};

    /// Knows a few tokens.
    #[derive(Debug)]
    struct Source;

    impl<'a> LabelSource<'a> for Source {
        fn labels(&self, token: u64, out: &mut Vec<LabelPair<'a>>) -> Result<(), LabelFault> {
            out.push(("__name__".into(), "up".into()));
            match token {
                0 => out.push(("a".into(), "1".into())),
                1 => out.push(("__name__".into(), "up".into())),
                2 => return Err(LabelFault::Refused { reason: "invalid_utf8", detail: "no text".to_owned() }),
                _ => return Err(LabelFault::Malformed("cut off".to_owned())),
            }
            Ok(())
        }
    }

    fn sample(value: f64) -> [Sample; 1] {
        [Sample { timestamp_ms: 1, value }]
    }

    #[test]
    fn a_fake_decodes_the_labels_of_keyed_series() {
        let (store, maker, source) = (FakeMetrics::default(), KeyMaker::default(), Source);
        let mut batch = MetricBatch::with_source(&source);
        batch.push([("__name__".into(), "down".into())], sample(1.0)).unwrap();
        for token in 0..3 {
            batch.push_keyed(maker.key(&[token]), token.into(), sample(2.0));
        }
        let report = store.append(&batch).unwrap();
        let rejections: Vec<_> = report.rejections.iter().map(|one| (one.reason, one.count)).collect();
        assert_eq!((report.accepted, rejections), (2, vec![("duplicate_label", 1), ("invalid_utf8", 1)]));
        let names = Matcher::equal("a", "1");
        let found = store.series(&[vec![names]], MillisRange::ALL, &QueryContext::default()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].metric_name(), "up");
    }

    #[test]
    fn labels_that_make_no_sense_refuse_the_batch() {
        let (store, maker, source) = (FakeMetrics::default(), KeyMaker::default(), Source);
        let mut batch = MetricBatch::with_source(&source);
        batch.push_keyed(maker.key(b"x"), 3, sample(1.0));
        assert!(matches!(store.append(&batch), Err(Error::Invalid(cause)) if cause == "cut off"));
        let mut batch = MetricBatch::default();
        batch.push_keyed(maker.key(b"x"), 0, sample(1.0));
        assert!(matches!(store.append(&batch), Err(Error::Invalid(_))));
    }

    #[test]
    fn keys_depend_on_bytes_order_and_secret() {
        let maker = KeyMaker::default();
        let (a, b) = (maker.key(b"a"), maker.key(b"b"));
        assert_eq!(a, maker.clone().key(b"a"));
        assert_ne!(a, b);
        assert_ne!(maker.join([a, b]), maker.join([b, a]));
        assert_ne!(maker.join([a]), a);
        assert_ne!(KeyMaker::default().key(b"a"), a);
        let long = vec![7; 1000];
        assert_ne!(maker.key(&long), maker.key(&long[1..]));
    }

    #[track_caller]
    fn check(labels: &[(&'static str, &'static str)], expected: Result<&[(&str, &str)], LabelError>) {
        let pair = |(name, value): &(&'static str, &'static str)| (Cow::from(*name), Cow::from(*value));
        let mut sorted: Vec<LabelPair<'_>> = vec![("z".into(), "".into())];
        sorted.extend(labels.iter().map(pair));
        let result = sort_labels(&mut sorted, 1);
        assert_eq!(sorted[0], ("z".into(), "".into()), "what came before stays");
        let got: Vec<_> = sorted[1..].iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        match expected {
            Ok(expected) => assert_eq!((result, got.as_slice()), (Ok(()), expected)),
            Err(error) => assert_eq!((result, got.as_slice()), (Err(error), [].as_slice())),
        }
    }

    #[test]
    fn labels_are_sorted_and_checked() {
        check(&[], Ok(&[]));
        check(&[("b", "1"), ("a", "2"), ("c", "")], Ok(&[("a", "2"), ("b", "1")]));
        check(&[("b", ""), ("b", "1")], Ok(&[("b", "1")]));
        check(&[("b", "1"), ("a", "1"), ("b", "2")], Err(LabelError::Repeated { name: "b".to_owned() }));
        check(&[("b", "1"), ("", "x")], Err(LabelError::EmptyName { value: "x".to_owned() }));
    }
}
