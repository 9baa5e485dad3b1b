//! Functions that change or compare labels.

use std::borrow::Cow;
use std::cmp::Ordering;

use model::{Labels, METRIC_NAME};
use storage_api::QueryContext;

use crate::error::{Error, Result};
use crate::parse::text::{INVALID_MARK, quote};
use crate::value::{Merger, Series};

/// Checks a label name: any text that is not empty.
///
/// # Errors
/// The name in quotes, as it was written.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(INVALID_MARK) { Err(quote(name)) } else { Ok(()) }
}

fn checked<'a>(name: &'a str, what: &str, function: &str) -> Result<&'a str> {
    match check_name(name) {
        Ok(()) => Ok(name),
        Err(quoted) => {
            let bare = quoted.trim_matches('"');
            Err(Error::evaluation(format!("invalid {what} label name in {function}(): {bare}")))
        }
    }
}

/// Gives each series new labels and unites those that then have the same.
fn relabel(
    vector: Vec<Series>,
    target: &str,
    context: &QueryContext,
    change: impl Fn(&Labels) -> Result<Option<Labels>>,
) -> Result<Vec<Series>> {
    let mut merger = Merger::by_kind();
    for mut series in vector {
        if let Some(labels) = change(&series.labels)? {
            context.charge_memory(labels.size_bytes() as u64)?;
            series.labels = labels;
            if target == METRIC_NAME {
                series.drop_name = false;
            }
        }
        merger.push(series)?;
    }
    Ok(merger.finish())
}

/// `label_replace(vector, target, replacement, source, pattern)`.
pub(super) fn replace(vector: Vec<Series>, args: &[Cow<'_, str>], context: &QueryContext) -> Result<Vec<Series>> {
    let [target, replacement, source, pattern] = args else {
        return Err(Error::evaluation("label_replace expects four texts"));
    };
    let invalid = || Error::evaluation(format!("invalid regular expression in label_replace(): {pattern}"));
    let regex = model::pattern::anchored_over_lines(pattern).map_err(|_| invalid())?;
    let target = checked(target, "destination", "label_replace")?;
    // Each reference may stand for the whole value.
    let references = replacement.matches('$').count() as u64;
    relabel(vector, target, context, |labels| {
        let before = labels.get(source).unwrap_or("");
        let Some(captures) = regex.captures(before) else { return Ok(None) };
        let most = references.saturating_mul(before.len() as u64).saturating_add(replacement.len() as u64);
        context.charge_memory(most)?;
        let mut value = String::new();
        captures.expand(replacement, &mut value);
        context.release_memory(most);
        Ok(Some(labels.to_builder().set(target, &value).build()))
    })
}

/// `label_join(vector, target, separator, source…)`.
pub(super) fn join(vector: Vec<Series>, args: &[Cow<'_, str>], context: &QueryContext) -> Result<Vec<Series>> {
    let [target, separator, sources @ ..] = args else {
        return Err(Error::evaluation("label_join expects two texts or more"));
    };
    for source in sources {
        checked(source, "source", "label_join")?;
    }
    let target = checked(target, "destination", "label_join")?;
    relabel(vector, target, context, |labels| {
        let values: Vec<&str> = sources.iter().map(|source| labels.get(source).unwrap_or("")).collect();
        let most = values.iter().map(|value| (value.len() + separator.len()) as u64).sum();
        context.charge_memory(most)?;
        let value = values.join(separator.as_ref());
        context.release_memory(most);
        Ok(Some(labels.to_builder().set(target, &value).build()))
    })
}

/// Sorts by the values of `names` in natural order (`a2` before `a10`), then by all labels.
///
/// Prometheus' comparison of values contradicts itself for empty values and for numbers with leading zeros; short lists
/// are sorted as it does it, by insertion, so that these stand where it puts them.
pub(super) fn sort(vector: &mut [Series], names: &[Cow<'_, str>], descending: bool) {
    /// Up to here Go sorts by insertion.
    const INSERTION_MAX: usize = 12;
    let in_order = |order: Ordering| if descending { order.reverse() } else { order };
    if vector.len() > INSERTION_MAX {
        // Those without the label come last, and first the other way round.
        let compare_one = |a: &Labels, b: &Labels, name: &str| {
            let (a, b) = (a.get(name).unwrap_or(""), b.get(name).unwrap_or(""));
            a.is_empty().cmp(&b.is_empty()).then_with(|| natural(a, b))
        };
        vector.sort_by(|a, b| {
            let (a, b) = (&a.labels, &b.labels);
            let by_names = names.iter().map(|name| compare_one(a, b, name)).find(|order| order.is_ne());
            in_order(by_names.unwrap_or_else(|| a.cmp(b)))
        });
        return;
    }
    let before = |a: &Labels, b: &Labels| {
        for name in names {
            let (left, right) = (a.get(name).unwrap_or(""), b.get(name).unwrap_or(""));
            if left != right {
                return precedes(left, right) != descending;
            }
        }
        in_order(a.cmp(b)).is_lt()
    };
    for i in 1..vector.len() {
        for j in (1..=i).rev() {
            if !before(&vector[j].labels, &vector[j - 1].labels) {
                break;
            }
            vector.swap(j, j - 1);
        }
    }
}

/// Says whether `a` comes before `b`, run by run of digits and of other characters.
fn precedes(a: &str, b: &str) -> bool {
    let runs = |text: &str| -> Vec<String> {
        text.as_bytes()
            .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
            .map(|run| String::from_utf8_lossy(run).into_owned())
            .collect()
    };
    let (a, b) = (runs(a), runs(b));
    for (i, left) in a.iter().enumerate() {
        let Some(right) = b.get(i) else { return false };
        let are_equal = match (left.parse::<i64>(), right.parse::<i64>()) {
            (Ok(left), Ok(right)) if left != right => return left < right,
            (Ok(_), Ok(_)) => true,
            _ => left == right,
        };
        if !are_equal {
            return left < right;
        }
        if i + 1 == a.len() || i + 1 == b.len() {
            return i + 1 == a.len();
        }
    }
    false
}

/// Compares text with runs of digits as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (n, m) = (digits(a), digits(b));
            let strip = |run: &[u8]| run.iter().copied().skip_while(|c| *c == b'0').collect::<Vec<u8>>();
            let (left, right) = (strip(&a[..n]), strip(&b[..m]));
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(&right)).then(n.cmp(&m));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[n..], &b[m..]);
        } else if x != y {
            return x.cmp(y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
    a.len().cmp(&b.len())
}

/// Writes labels as Prometheus' messages do: `{__name__="up", job="a"}`.
pub(super) fn spell(labels: &Labels) -> String {
    let parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_counts() {
        let check = |a, b| assert_eq!((natural(a, b), natural(b, a)), (Ordering::Less, Ordering::Greater), "{a} {b}");
        check("a2", "a10");
        check("1", "1a");
        check("v1.9.0", "v1.10.0");
        check("", "0");
        assert_eq!(natural("x01", "x01"), Ordering::Equal);
    }
}
