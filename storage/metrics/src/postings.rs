//! Which series pass a list of matchers, for anything that can look label values up.

use model::{MatchOp, Matcher};
use roaring::RoaringBitmap;
use storage_api::Result;

/// Looks up series by label; the ids are those of one place: a shard of the head, or a block.
pub(crate) trait Postings {
    /// Returns every series.
    fn all(&self) -> RoaringBitmap;

    /// Returns the series with this label.
    fn equal(&self, name: &str, value: &str) -> Result<RoaringBitmap>;

    /// Returns the series whose value of `name` is accepted; those without the label are not asked for.
    fn accepted(&self, name: &str, accept: &mut dyn FnMut(&str) -> bool) -> Result<RoaringBitmap>;

    /// Returns the label names.
    fn names(&self) -> Vec<&str>;

    /// Returns the values of `name` that at least one of `series` has.
    fn values(&self, name: &str, series: &RoaringBitmap) -> Result<Vec<String>>;
}

/// Returns the series that pass all `matchers`.
pub(crate) fn find(postings: &impl Postings, matchers: &[Matcher]) -> Result<RoaringBitmap> {
    let mut found: Option<RoaringBitmap> = None;
    // Matchers that a missing label passes cannot be looked up, but what fails them can.
    let (excluding, including): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|matcher| matcher.matches_empty());
    for matcher in including {
        let series = include(postings, matcher)?;
        let both = match found.take() {
            Some(have) => have & series,
            None => series,
        };
        if both.is_empty() {
            return Ok(both);
        }
        found = Some(both);
    }
    let mut found = found.unwrap_or_else(|| postings.all());
    for matcher in excluding {
        if found.is_empty() {
            break;
        }
        if matcher.op == MatchOp::Regex && matcher.value == ".*" {
            continue;
        }
        found -= match matcher.op {
            MatchOp::NotEqual => postings.equal(&matcher.name, &matcher.value)?,
            MatchOp::Equal | MatchOp::Regex | MatchOp::NotRegex => {
                postings.accepted(&matcher.name, &mut |value| !matcher.matches(value))?
            }
        };
    }
    Ok(found)
}

/// Returns the series that pass all matchers of at least one selector; every series when there is no selector.
pub(crate) fn find_any(postings: &impl Postings, selectors: &[Vec<Matcher>]) -> Result<RoaringBitmap> {
    if selectors.is_empty() {
        return Ok(postings.all());
    }
    let mut found = RoaringBitmap::new();
    for matchers in selectors {
        found |= find(postings, matchers)?;
    }
    Ok(found)
}

fn include(postings: &impl Postings, matcher: &Matcher) -> Result<RoaringBitmap> {
    if let Some(values) = matcher.literal_alternatives() {
        let mut series = RoaringBitmap::new();
        for value in values {
            series |= postings.equal(&matcher.name, value)?;
        }
        return Ok(series);
    }
    let any = matcher.op == MatchOp::Regex && matcher.value == ".+";
    postings.accepted(&matcher.name, &mut |value| any || matcher.matches(value))
}
