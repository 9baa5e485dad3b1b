//! `series`, `labels`, `label/<name>/values`, `metadata`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use query_wire::prometheus::{Metadata, MetadataEntry};
use storage_api::{MillisRange, QueryContext};

use super::answer;
use super::params::{Params, invalid};
use crate::Services;
use crate::error::{Error, Result};

const TRUNCATED: &str = "results truncated due to limit";

fn range(params: &Params) -> Result<MillisRange> {
    let min_ms = params.time_or("start", i64::MIN)?;
    let max_ms = params.time_or("end", i64::MAX)?;
    Ok(MillisRange { min_ms, max_ms })
}

/// Cuts a list to the limit, with a warning.
fn cut<T>(list: &mut Vec<T>, limit: usize, warnings: &mut Vec<String>) {
    if list.len() > limit {
        list.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
}

pub(super) async fn series(State(services): State<Services>, params: Params) -> Result<Response> {
    let selectors = params.selectors().map_err(|error| invalid("match[]", error))?;
    if selectors.is_empty() {
        return Err(Error::BadData("no match[] parameter provided".to_owned()));
    }
    let (range, limit) = (range(&params)?, params.limit("limit")?);
    let metrics = Arc::clone(&services.metrics);
    // The answer is made where queries are: it may be large.
    let work = move |context: &QueryContext| -> Result<String> {
        let mut found = metrics.series(&selectors, range, context)?;
        let mut warnings = context.take_warnings();
        cut(&mut found, limit, &mut warnings);
        let bytes: usize = found.iter().map(model::Labels::size_bytes).sum();
        context.charge_memory(bytes as u64)?;
        Ok(answer::label_sets(&found, &warnings))
    };
    Ok(answer::whole(services.run(services.context(), work).await??))
}

pub(super) async fn label_names(State(services): State<Services>, params: Params) -> Result<Response> {
    let (selectors, range, limit) = (params.selectors()?, range(&params)?, params.limit("limit")?);
    let metrics = Arc::clone(&services.metrics);
    let context = services.context();
    let notes = context.clone();
    let mut names = services.run(context, move |context| metrics.label_names(&selectors, range, context)).await??;
    let mut warnings = notes.take_warnings();
    cut(&mut names, limit, &mut warnings);
    answer::success(names, warnings)
}

pub(super) async fn label_values(
    State(services): State<Services>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response> {
    let name = unescape(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(Error::BadData(format!("invalid label name: {name:?}")));
    }
    let (selectors, range, limit) = (params.selectors()?, range(&params)?, params.limit("limit")?);
    let metrics = Arc::clone(&services.metrics);
    let context = services.context();
    let notes = context.clone();
    let work = move |context: &_| metrics.label_values(&name, &selectors, range, context);
    let mut values = services.run(context, work).await??;
    let mut warnings = notes.take_warnings();
    cut(&mut values, limit, &mut warnings);
    answer::success(values, warnings)
}

/// Reads a name in the escaping of Prometheus' paths: `U__my_2e_label` is `my.label`; `None` when it is not escaped so.
fn unescape(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        let (before, after) = rest.split_at_checked(at)?;
        out.push_str(before);
        let after = after.strip_prefix('_')?;
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (code, after) = after.split_once('_')?;
        if code.len() > 6 {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

pub(super) async fn metadata(State(services): State<Services>, params: Params) -> Result<Response> {
    let metric = params.get("metric").to_owned();
    let limit = signed_limit(&params, "limit")?;
    let per_metric = signed_limit(&params, "limit_per_metric")?;
    let metrics = Arc::clone(&services.metrics);
    let work = move |_: &_| metrics.metadata((!metric.is_empty()).then_some(metric.as_str()));
    let found = services.run(services.context(), work).await??;
    let mut all = Metadata::new();
    for one in found {
        if all.len() >= limit && !all.contains_key(&one.name) {
            break;
        }
        let entries = all.entry(one.name).or_default();
        let entry = MetadataEntry { kind: one.kind.as_str().to_owned(), help: one.help, unit: one.unit };
        if entries.len() < per_metric && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    answer::success(all, Vec::new())
}

/// A limit of which any value below zero means all.
fn signed_limit(params: &Params, name: &str) -> Result<usize> {
    let text = params.get(name);
    if text.is_empty() {
        return Ok(usize::MAX);
    }
    let number: i64 = text.parse().map_err(|_| Error::BadData(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escaped_names_are_read() {
        assert_eq!(unescape("U__my_2e_label").as_deref(), Some("my.label"));
        assert_eq!(unescape("U__a__b").as_deref(), Some("a_b"));
        assert_eq!(unescape("U___ac00_").as_deref(), Some("가"));
        assert_eq!(unescape("job"), None);
        assert_eq!(unescape("U__a_zz_"), None);
        assert_eq!(unescape("U__a_"), None);
    }
}
