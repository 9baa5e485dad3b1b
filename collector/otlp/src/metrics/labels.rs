//! The label set of a data point: attributes, resource, scope.

use std::borrow::Cow;

use model::METRIC_NAME;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::name::label_name;
use super::{LabelLimits, Options, Refused};
use crate::value::any_text;

/// One label.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Labels that all points of one resource, or one scope, share.
#[derive(Debug, Default, Clone)]
pub(super) struct Shared<'a> {
    /// They lose against an attribute of the same name.
    pub(super) weak: Vec<Label<'a>>,
    /// They win.
    pub(super) strong: Vec<Label<'a>>,
}

/// Returns `job` and `instance`, and the promoted attributes.
pub(super) fn resource_labels<'a>(resource: Option<&'a Resource>, options: &Options) -> Shared<'a> {
    let mut shared = Shared::default();
    let Some(resource) = resource else { return shared };
    let get = |name: &str| resource.attributes.iter().find(|pair| pair.key == name).map(|pair| text(pair));
    for name in &options.promoted_resource_attributes {
        if let Some(pair) = resource.attributes.iter().find(|pair| pair.key == *name) {
            shared.weak.push((label_name(&pair.key), text(pair)));
        }
    }
    if let Some(name) = get("service.name") {
        let job = match get("service.namespace") {
            Some(namespace) if !namespace.is_empty() => Cow::Owned(format!("{namespace}/{name}")),
            _ => name,
        };
        shared.strong.push((Cow::Borrowed("job"), job));
    }
    if let Some(instance) = get("service.instance.id") {
        shared.strong.push((Cow::Borrowed("instance"), instance));
    }
    shared
}

/// Returns `otel_scope_*`.
pub(super) fn scope_labels<'a>(
    scope: Option<&'a InstrumentationScope>,
    schema_url: &'a str,
    options: &Options,
) -> Vec<Label<'a>> {
    let mut labels: Vec<Label<'a>> = Vec::new();
    if !options.scope_labels {
        return labels;
    }
    labels.push((Cow::Borrowed("otel_scope_schema_url"), Cow::Borrowed(schema_url)));
    if let Some(scope) = scope {
        labels.push((Cow::Borrowed("otel_scope_name"), Cow::Borrowed(&scope.name)));
        labels.push((Cow::Borrowed("otel_scope_version"), Cow::Borrowed(&scope.version)));
        for pair in &scope.attributes {
            let name = label_name(&pair.key);
            labels.push((Cow::Owned(format!("otel_scope_{name}")), text(pair)));
        }
    }
    labels.retain(|(_, value)| !value.is_empty());
    labels
}

/// Returns the labels of `target_info`, or `None` when it would tell nothing: no attribute beside those that identify
/// the target, or no target.
pub(super) fn target_labels<'a>(
    resource: Option<&'a Resource>,
    shared: &Shared<'a>,
) -> Result<Option<Vec<Label<'a>>>, Refused> {
    const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];
    let Some(resource) = resource else { return Ok(None) };
    if shared.strong.is_empty() {
        return Ok(None);
    }
    let others = resource.attributes.iter().filter(|pair| !IDENTIFYING.contains(&pair.key.as_str()));
    let mut labels = merged(others)?;
    if labels.is_empty() {
        return Ok(None);
    }
    for (name, value) in &shared.strong {
        set(&mut labels, name.clone(), value.clone());
    }
    set(&mut labels, Cow::Borrowed(METRIC_NAME), Cow::Borrowed("target_info"));
    Ok(Some(labels))
}

/// Returns the labels of a data point without its name, sorted.
pub(super) fn point_labels<'a>(
    attributes: &'a [KeyValue],
    resource: &Shared<'a>,
    scope: &[Label<'a>],
) -> Result<Vec<Label<'a>>, Refused> {
    let mut labels = merged(attributes.iter())?;
    for (name, value) in &resource.weak {
        if labels.binary_search_by(|(have, _)| have.cmp(name)).is_err() {
            set(&mut labels, name.clone(), value.clone());
        }
    }
    for (name, value) in scope.iter().chain(&resource.strong) {
        set(&mut labels, name.clone(), value.clone());
    }
    Ok(labels)
}

/// Sanitises the names. Values of keys that become one name are joined by `;` in the order of the keys, as the
/// specification says.
fn merged<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Result<Vec<Label<'a>>, Refused> {
    let mut named: Vec<(Cow<'a, str>, &'a KeyValue)> = attributes.map(|pair| (label_name(&pair.key), pair)).collect();
    named.sort_by(|a, b| (&a.0, &a.1.key).cmp(&(&b.0, &b.1.key)));
    let mut labels: Vec<Label<'a>> = Vec::with_capacity(named.len() + 6);
    for (name, pair) in named {
        if name.is_empty() {
            return Err(Refused::new("empty_label_name", || "an attribute has an empty name".to_owned()));
        }
        match labels.last_mut() {
            Some((last, value)) if *last == name => {
                let joined = value.to_mut();
                joined.push(';');
                joined.push_str(&text(pair));
            }
            _ => labels.push((name, text(pair))),
        }
    }
    labels.retain(|(_, value)| !value.is_empty());
    Ok(labels)
}

fn text(pair: &KeyValue) -> Cow<'_, str> {
    any_text(pair.value.as_ref())
}

/// Sets a label in a sorted set; an empty value removes it.
pub(super) fn set<'a>(labels: &mut Vec<Label<'a>>, name: Cow<'a, str>, value: Cow<'a, str>) {
    match labels.binary_search_by(|(have, _)| have.cmp(&name)) {
        Ok(at) if value.is_empty() => drop(labels.remove(at)),
        Ok(at) => labels[at].1 = value,
        Err(_) if value.is_empty() => {}
        Err(at) => labels.insert(at, (name, value)),
    }
}

/// Tests a label set against the limits.
pub(super) fn check(labels: &[Label<'_>], metric: &str, limits: &LabelLimits) -> Result<(), Refused> {
    if labels.len() > limits.labels_max {
        return Err(Refused::new("too_many_labels", || {
            format!("a series of {:?} has {} labels, the limit is {}", short(metric), labels.len(), limits.labels_max)
        }));
    }
    if metric.len() > limits.value_bytes_max {
        return Err(Refused::new("label_value_too_long", || {
            format!("a metric's name has {} bytes, the limit is {}", metric.len(), limits.value_bytes_max)
        }));
    }
    for (name, value) in labels {
        if name.len() > limits.name_bytes_max {
            return Err(Refused::new("label_name_too_long", || {
                let limit = limits.name_bytes_max;
                format!("a label name of {:?} has {} bytes, the limit is {limit}", short(metric), name.len())
            }));
        }
        if value.len() > limits.value_bytes_max {
            return Err(Refused::new("label_value_too_long", || {
                let limit = limits.value_bytes_max;
                format!(
                    "label {name:?} of {:?} has a value of {} bytes, the limit is {limit}",
                    short(metric),
                    value.len()
                )
            }));
        }
    }
    Ok(())
}

/// Cuts a text for a message.
pub(super) fn short(text: &str) -> &str {
    let end = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}
