//! The label set of a data point: attributes, resource, scope.

use std::borrow::Cow;

use model::METRIC_NAME;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message as _;

use super::wire::{Any, Malformed, Pair, Repeated, Scope};
use super::{LabelLimits, LabelNaming, Options, Promoted, Refused};
use crate::value::{any_text, base64, double_text};

/// One label.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The attributes that name the target; they become `job` and `instance`.
const IDENTIFYING: [&[u8]; 3] = [b"service.name", b"service.namespace", b"service.instance.id"];

/// Labels that all points of one resource share, both lists sorted.
#[derive(Debug, Default, Clone)]
pub(super) struct Shared<'a> {
    /// They lose against an attribute of the same name.
    pub(super) weak: Vec<Label<'a>>,
    /// They win.
    pub(super) strong: Vec<Label<'a>>,
}

/// Reads a list of attributes.
pub(super) fn pairs<'a>(attributes: Repeated<'a>, out: &mut Vec<Pair<'a>>) -> Result<(), Malformed> {
    let mut attributes = attributes.iter();
    while let Some(attribute) = attributes.next()? {
        out.push(Pair::read(attribute)?);
    }
    Ok(())
}

/// Returns `job` and `instance`, and the promoted attributes.
pub(super) fn resource_labels<'a>(attributes: &[Pair<'a>], options: &Options) -> Result<Shared<'a>, Refused> {
    let naming = options.label_naming();
    let mut shared = Shared::default();
    for pair in attributes {
        let is = |name: &String| name.as_bytes() == pair.key;
        let promoted = match &options.promoted {
            Promoted::Only(names) => names.iter().any(is),
            Promoted::AllBut(names) => !names.iter().any(is),
        };
        // An attribute without a name is told of when `target_info` cannot have it.
        if promoted && !pair.key.is_empty() {
            set(&mut shared.weak, naming.name(utf8(pair.key)?), text(pair.value)?);
        }
    }
    let get = |name: &[u8]| {
        let pair = attributes.iter().find(|pair| pair.key == name);
        pair.map(|pair| text(pair.value)).transpose()
    };
    if let Some(instance) = get(b"service.instance.id")? {
        set(&mut shared.strong, Cow::Borrowed("instance"), instance);
    }
    if let Some(name) = get(b"service.name")? {
        let job = match get(b"service.namespace")? {
            Some(namespace) if !namespace.is_empty() => Cow::Owned(format!("{namespace}/{name}")),
            _ => name,
        };
        set(&mut shared.strong, Cow::Borrowed("job"), job);
    }
    Ok(shared)
}

/// Returns `otel_scope_*`.
pub(super) fn scope_labels<'a>(scope: &Scope<'a>, options: &Options) -> Result<Vec<Label<'a>>, Refused> {
    let mut labels: Vec<Label<'a>> = Vec::new();
    if !options.scope_labels {
        return Ok(labels);
    }
    let naming = options.label_naming();
    for pair in &scope.attributes {
        let name = format!("otel_scope_{}", utf8(pair.key)?);
        set(&mut labels, Cow::Owned(naming.name(&name).into_owned()), text(pair.value)?);
    }
    for (name, value) in [
        ("otel_scope_name", scope.name),
        ("otel_scope_version", scope.version),
        ("otel_scope_schema_url", scope.schema_url),
    ] {
        // An attribute must not stand for what is not there.
        set(&mut labels, Cow::Borrowed(name), Cow::Borrowed(utf8(value)?));
    }
    Ok(labels)
}

/// Returns the labels of `target_info`, or `None` when it would tell nothing: no attribute beside those that identify
/// the target, or no target.
pub(super) fn target_labels<'a>(
    attributes: &[Pair<'a>],
    shared: &Shared<'a>,
    options: &Options,
) -> Result<Option<Vec<Label<'a>>>, Refused> {
    let identifies = |pair: &Pair<'_>| IDENTIFYING.contains(&pair.key);
    if shared.strong.is_empty() || attributes.iter().all(identifies) {
        return Ok(None);
    }
    let mut told: Vec<Pair<'a>> = attributes.to_vec();
    told.retain(|pair| options.keep_identifying || !identifies(pair));
    let mut labels = merged(&told, options.label_naming())?;
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
    attributes: &[Pair<'a>],
    resource: &Shared<'a>,
    scope: &[Label<'a>],
    naming: LabelNaming,
) -> Result<Vec<Label<'a>>, Refused> {
    let mut labels = merged(attributes, naming)?;
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

/// Translates the names. Values of keys that become one name are joined by `;` in the order of the keys, as the
/// specification says.
fn merged<'a>(attributes: &[Pair<'a>], naming: LabelNaming) -> Result<Vec<Label<'a>>, Refused> {
    let mut named: Vec<(Cow<'a, str>, &Pair<'a>)> = Vec::with_capacity(attributes.len());
    for pair in attributes {
        if pair.key.is_empty() {
            return Err(Refused::new("empty_label_name", || "an attribute has an empty name".to_owned()));
        }
        named.push((naming.name(utf8(pair.key)?), pair));
    }
    named.sort_by(|a, b| (&a.0, &a.1.key).cmp(&(&b.0, &b.1.key)));
    let mut labels: Vec<Label<'a>> = Vec::with_capacity(named.len() + 6);
    for (name, pair) in named {
        let value = text(pair.value)?;
        match labels.last_mut() {
            Some((last, joined)) if *last == name => {
                let joined = joined.to_mut();
                joined.push(';');
                joined.push_str(&value);
            }
            _ => labels.push((name, value)),
        }
    }
    labels.retain(|(_, value)| !value.is_empty());
    Ok(labels)
}

/// Returns text that is text.
#[inline]
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Refused> {
    if bytes.is_empty() {
        return Ok("");
    }
    std::str::from_utf8(bytes).map_err(|_| {
        let detail = || format!("{:?} is not valid UTF-8", short(&String::from_utf8_lossy(bytes)));
        Refused::new("invalid_utf8", detail)
    })
}

/// Returns an attribute's value as text.
pub(super) fn text(any: Any<'_>) -> Result<Cow<'_, str>, Refused> {
    Ok(match any {
        Any::Empty => Cow::Borrowed(""),
        Any::Text(bytes) => Cow::Borrowed(utf8(bytes)?),
        Any::Bool(true) => Cow::Borrowed("true"),
        Any::Bool(false) => Cow::Borrowed("false"),
        Any::Int(number) => Cow::Owned(number.to_string()),
        Any::Double(number) => Cow::Owned(double_text(number)),
        Any::Bytes(bytes) => Cow::Owned(base64(bytes)),
        Any::Nested(message) => match AnyValue::decode(message) {
            Ok(any) => Cow::Owned(any_text(Some(&any)).into_owned()),
            Err(error) => {
                return Err(Refused::new("invalid_attribute", || format!("a list or map cannot be read: {error}")));
            }
        },
    })
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
