//! Exemplars, as Prometheus keeps them.

use std::borrow::Cow;
use std::fmt::Write as _;

use model::{Exemplar, Labels, Sample, Timestamp};

use super::labels::{text, utf8};
use super::wire::{self, Malformed, Pair, Repeated};
use super::{Refused, Report};
use crate::InvalidFields;

/// Most characters of an exemplar's labels, names and values together. Source: OpenMetrics 1.0, "Exemplars".
const LABEL_CHARS_MAX: usize = 128;

/// Returns the exemplars that can be kept, in the order they came; the others are in the report. One without a time has
/// the point's.
pub(super) fn exemplars(
    messages: Repeated<'_>,
    point_ms: i64,
    report: &mut Report,
) -> Result<Vec<Exemplar>, Malformed> {
    let mut kept = Vec::new();
    if messages.stretch().is_empty() {
        return Ok(kept);
    }
    let mut messages = messages.iter();
    while let Some(message) = messages.next()? {
        match exemplar(message, point_ms, &mut report.invalid)? {
            Ok(exemplar) => kept.push(exemplar),
            Err(refused) => report.dropped_beside(refused),
        }
    }
    Ok(kept)
}

fn exemplar(
    message: &[u8],
    point_ms: i64,
    invalid: &mut InvalidFields,
) -> Result<Result<Exemplar, Refused>, Malformed> {
    let exemplar = wire::Exemplar::read(message)?;
    let mut pairs = Vec::new();
    let mut attributes = exemplar.attributes.iter();
    while let Some(attribute) = attributes.next()? {
        pairs.push(Pair::read(attribute)?);
    }
    let Some(value) = exemplar.value else {
        return Ok(Err(Refused::new("exemplar_no_value", || "an exemplar has no value".to_owned())));
    };
    let Ok(nanos) = i64::try_from(exemplar.time) else {
        let detail = || format!("an exemplar has the time {} ns, after the year 2262", exemplar.time);
        return Ok(Err(Refused::new("exemplar_timestamp_out_of_range", detail)));
    };
    let timestamp_ms = if nanos == 0 { point_ms } else { Timestamp(nanos).as_millis() };
    let trace_id = id::<16>(exemplar.trace_id, &mut invalid.trace_ids);
    let ids = [("trace_id", trace_id), ("span_id", id::<8>(exemplar.span_id, &mut invalid.span_ids))];
    Ok(labels(&ids, &pairs).map(|labels| Exemplar { labels, sample: Sample { timestamp_ms, value } }))
}

/// Returns the ids and, when all of it is short enough, the attributes.
fn labels(ids: &[(&str, Option<String>)], pairs: &[Pair<'_>]) -> Result<Labels, Refused> {
    let ids = ids.iter().filter_map(|(name, id)| Some((Cow::Borrowed(*name), Cow::Borrowed(id.as_deref()?))));
    let ids: Vec<(Cow<'_, str>, Cow<'_, str>)> = ids.collect();
    let mut chars: usize = ids.iter().map(|(name, id)| name.len() + id.len()).sum();
    let mut labels = Vec::with_capacity(pairs.len() + ids.len());
    for pair in pairs {
        let named = utf8(pair.key).and_then(|key| Ok((Cow::Borrowed(key), text(pair.value)?)));
        let (key, value) = named.map_err(|refused| Refused { reason: "exemplar_invalid_utf8", ..refused })?;
        if key.is_empty() {
            let detail = || "an exemplar has an attribute with an empty name".to_owned();
            return Err(Refused::new("exemplar_empty_label_name", detail));
        }
        chars += key.chars().count() + value.chars().count();
        labels.push((key, value));
    }
    if chars > LABEL_CHARS_MAX {
        labels.clear();
    }
    // The ids come last, so that no attribute of the same name replaces them.
    labels.extend(ids);
    Ok(Labels::from_pairs(labels))
}

/// Returns an id in hex; none when it is empty, of a wrong length or zero.
fn id<const N: usize>(bytes: &[u8], invalid: &mut u64) -> Option<String> {
    if bytes.len() != N {
        *invalid += u64::from(!bytes.is_empty());
        return None;
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut hex = String::with_capacity(2 * N);
    for byte in bytes {
        write!(hex, "{byte:02x}").expect("writing to memory succeeds");
    }
    Some(hex)
}
