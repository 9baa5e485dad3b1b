//! Reads the records of a logs request in JSON one by one, into one record that is used again for each.
//!
//! Only requests of the usual form are read so: resource before scopes, scope before records, no field twice, values of
//! one kind. Any other, and any that is at fault, is told to be [`Unusual`], and is for the decoder.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use model::Value;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::logs::{List, Map, Resource, Scope};
use super::scalar::{Base64, Choice, Int, Many, Object, Real, Text};
use crate::logs::{InvalidFields, resource_from_otlp, scope_from_otlp};
use crate::logs_wire::{LogsVisitor, Unusual, set_severity, set_times};
use crate::record_space::{RecordSpace, set_text};
use crate::value::value_from_otlp;

/// Shows a request in JSON to `visitor`; returns what was taken as "none".
///
/// # Errors
/// When the request is not of the usual form. What was shown before is to be forgotten.
pub fn read_logs_json(body: &[u8], visitor: &mut dyn LogsVisitor) -> Result<InvalidFields, Unusual> {
    let mut walk = Walk {
        visitor,
        space: RecordSpace::default(),
        invalid: InvalidFields::default(),
        schemas: schemas(body)?.into_iter(),
        scope_schemas: Vec::new().into_iter(),
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Message::<Request>(&mut walk, PhantomData).deserialize(&mut deserializer).map_err(|_| Unusual)?;
    deserializer.end().map_err(|_| Unusual)?;
    Ok(walk.invalid)
}

/// The schema URLs of a resource and of its scopes, which senders write behind the records.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Schemas {
    #[serde(alias = "schema_url")]
    schema_url: Text,
    #[serde(alias = "scope_logs")]
    scope_logs: Many<ScopeSchema>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeSchema {
    #[serde(alias = "schema_url")]
    schema_url: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RequestSchemas {
    #[serde(alias = "resource_logs")]
    resource_logs: Many<Schemas>,
}

/// Finds the schema URLs by a pass over the request that reads nothing else; none when there is no such name in it.
fn schemas(body: &[u8]) -> Result<Vec<Schemas>, Unusual> {
    let has = |name: &str| memchr::memmem::find(body, name.as_bytes()).is_some();
    if !has("schemaUrl") && !has("schema_url") {
        return Ok(Vec::new());
    }
    let Object(request) = serde_json::from_slice::<Object<RequestSchemas>>(body).map_err(|_| Unusual)?;
    Ok(request.resource_logs.into_vec())
}

struct Walk<'v> {
    visitor: &'v mut dyn LogsVisitor,
    space: RecordSpace,
    invalid: InvalidFields,
    /// Of the resources that are left.
    schemas: std::vec::IntoIter<Schemas>,
    /// Of the resource's scopes that are left.
    scope_schemas: std::vec::IntoIter<ScopeSchema>,
}

/// How the fields of a kind of message are read.
trait Fields {
    fn read<'de, A: MapAccess<'de>>(walk: &mut Walk<'_>, fields: A) -> Result<(), A::Error>;
}

/// Reads a message of a kind.
struct Message<'w, 'v, K>(&'w mut Walk<'v>, PhantomData<K>);

impl<'de, K: Fields> DeserializeSeed<'de> for Message<'_, '_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, K: Fields> Visitor<'de> for Message<'_, '_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<(), A::Error> {
        K::read(self.0, fields)
    }
}

/// Reads a list of messages of a kind; `null` is the empty one.
struct Messages<'w, 'v, K>(&'w mut Walk<'v>, PhantomData<K>);

impl<'de, K: Fields> DeserializeSeed<'de> for Messages<'_, '_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, K: Fields> Visitor<'de> for Messages<'_, '_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Message::<K>(self.0, PhantomData))?.is_some() {}
        Ok(())
    }
}

fn unusual<E: Error>(what: &'static str) -> E {
    E::custom(what)
}

struct Request;

impl Fields for Request {
    fn read<'de, A: MapAccess<'de>>(walk: &mut Walk<'_>, mut fields: A) -> Result<(), A::Error> {
        let mut seen = 0;
        while let Some(name) = next_name(&mut fields)? {
            match name.as_ref() {
                "resourceLogs" | "resource_logs" => {
                    once(&mut seen, 1)?;
                    fields.next_value_seed(Messages::<ResourceLogs>(walk, PhantomData))?;
                }
                _ => skip(&mut fields)?,
            }
        }
        Ok(())
    }
}

struct ResourceLogs;

impl Fields for ResourceLogs {
    fn read<'de, A: MapAccess<'de>>(walk: &mut Walk<'_>, mut fields: A) -> Result<(), A::Error> {
        let Schemas { schema_url: Text(mut schema_url), scope_logs } = walk.schemas.next().unwrap_or_default();
        walk.scope_schemas = scope_logs.into_vec().into_iter();
        let (mut seen, mut resource) = (0, None);
        while let Some(name) = next_name(&mut fields)? {
            match name.as_ref() {
                "resource" if seen & 1 << 2 == 0 => {
                    once(&mut seen, 1)?;
                    resource = fields.next_value::<Option<Resource>>()?.map(Into::into);
                }
                "resource" => return Err(unusual("a resource behind its scopes")),
                "scopeLogs" | "scope_logs" => {
                    once(&mut seen, 2)?;
                    let resource = resource_from_otlp(resource.take(), std::mem::take(&mut schema_url));
                    walk.visitor.resource(&Arc::new(resource));
                    fields.next_value_seed(Messages::<ScopeLogs>(walk, PhantomData))?;
                }
                "schemaUrl" | "schema_url" => {
                    once(&mut seen, 3)?;
                    fields.next_value::<Text>()?;
                }
                _ => skip(&mut fields)?,
            }
        }
        Ok(())
    }
}

struct ScopeLogs;

impl Fields for ScopeLogs {
    fn read<'de, A: MapAccess<'de>>(walk: &mut Walk<'_>, mut fields: A) -> Result<(), A::Error> {
        let ScopeSchema { schema_url: Text(mut schema_url) } = walk.scope_schemas.next().unwrap_or_default();
        let (mut seen, mut scope) = (0, None);
        while let Some(name) = next_name(&mut fields)? {
            match name.as_ref() {
                "scope" if seen & 1 << 2 == 0 => {
                    once(&mut seen, 1)?;
                    scope = fields.next_value::<Option<Scope>>()?.map(Into::into);
                }
                "scope" => return Err(unusual("a scope behind its records")),
                "logRecords" | "log_records" => {
                    once(&mut seen, 2)?;
                    let scope = scope_from_otlp(scope.take(), std::mem::take(&mut schema_url));
                    walk.visitor.scope(&Arc::new(scope));
                    fields.next_value_seed(Messages::<Record>(walk, PhantomData))?;
                }
                "schemaUrl" | "schema_url" => {
                    once(&mut seen, 3)?;
                    fields.next_value::<Text>()?;
                }
                _ => skip(&mut fields)?,
            }
        }
        Ok(())
    }
}

struct Record;

impl Fields for Record {
    fn read<'de, A: MapAccess<'de>>(walk: &mut Walk<'_>, mut fields: A) -> Result<(), A::Error> {
        walk.space.clear();
        let mut seen = 0;
        let (mut time, mut observed, mut severity) = (Int::default(), Int::default(), 0);
        while let Some(name) = next_name(&mut fields)? {
            let record = walk.space.record_mut();
            let field = match name.as_ref() {
                "timeUnixNano" | "time_unix_nano" => {
                    time = fields.next_value()?;
                    1
                }
                "observedTimeUnixNano" | "observed_time_unix_nano" => {
                    observed = fields.next_value()?;
                    2
                }
                "severityNumber" | "severity_number" => {
                    severity = fields.next_value::<Choice<SeverityNumber>>()?.0;
                    3
                }
                "severityText" | "severity_text" => {
                    fields.next_value_seed(FillText(&mut record.severity_text))?;
                    4
                }
                "body" => {
                    fields.next_value_seed(FillValue(&mut record.body))?;
                    BODY
                }
                "attributes" => {
                    fields.next_value_seed(Messages::<Attribute>(walk, PhantomData))?;
                    6
                }
                "droppedAttributesCount" | "dropped_attributes_count" => {
                    record.dropped_attributes_count = fields.next_value::<Int<u32>>()?.0;
                    7
                }
                "flags" => {
                    record.flags = fields.next_value::<Int<u32>>()?.0;
                    8
                }
                "traceId" | "trace_id" => {
                    fields.next_value_seed(FillId(&mut record.trace_id, &mut walk.invalid.trace_ids))?;
                    9
                }
                "spanId" | "span_id" => {
                    fields.next_value_seed(FillId(&mut record.span_id, &mut walk.invalid.span_ids))?;
                    10
                }
                "eventName" | "event_name" => {
                    fields.next_value_seed(FillText(&mut record.event_name))?;
                    11
                }
                _ => {
                    skip(&mut fields)?;
                    continue;
                }
            };
            once(&mut seen, field)?;
        }
        let record = walk.space.record_mut();
        if seen & 1 << BODY == 0 {
            record.body = Value::Null;
        }
        if let Err(nanos) = set_times(record, time.0, observed.0) {
            walk.visitor.out_of_range(nanos);
            return Ok(());
        }
        set_severity(record, severity, &mut walk.invalid);
        walk.visitor.record(walk.space.finish());
        Ok(())
    }
}

/// The number of the body among the fields of a record.
const BODY: u32 = 5;

/// An attribute of a record.
struct Attribute;

impl Fields for Attribute {
    fn read<'de, A: MapAccess<'de>>(walk: &mut Walk<'_>, mut fields: A) -> Result<(), A::Error> {
        let (mut seen, pair) = (0, walk.space.next_attribute());
        while let Some(name) = next_name(&mut fields)? {
            match name.as_ref() {
                "key" => {
                    once(&mut seen, 1)?;
                    fields.next_value_seed(FillText(&mut pair.0))?;
                }
                "value" => {
                    once(&mut seen, 2)?;
                    fields.next_value_seed(FillValue(&mut pair.1))?;
                }
                _ => skip(&mut fields)?,
            }
        }
        if seen & 1 << 1 == 0 {
            pair.0.clear();
        }
        if seen & 1 << 2 == 0 {
            pair.1 = Value::Null;
        }
        Ok(())
    }
}

/// Puts text into a string that is used again; `null` is the empty one.
struct FillText<'s>(&'s mut String);

impl<'de> DeserializeSeed<'de> for FillText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FillText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(text);
        Ok(())
    }
}

/// Puts an id in hex into its place, all zero when it has another length, which is counted; `null` is none.
struct FillId<'i, const N: usize>(&'i mut [u8; N], &'i mut u64);

impl<'de, const N: usize> DeserializeSeed<'de> for FillId<'_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for FillId<'_, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id in hex")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; N];
        let pairs = text.as_bytes().chunks(2);
        let length = pairs.len();
        let mut out = bytes.iter_mut();
        for pair in pairs {
            let [high, low] = pair else { return Err(unusual("half a byte")) };
            let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(unusual("no hex digit")) };
            if let Some(out) = out.next() {
                *out = high << 4 | low;
            }
        }
        if length == N {
            *self.0 = bytes;
        } else {
            *self.1 += u64::from(length > 0);
        }
        Ok(())
    }
}

/// Puts an `AnyValue` into its place, whose memory is used again where it can be.
struct FillValue<'v>(&'v mut Value);

impl<'de> DeserializeSeed<'de> for FillValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FillValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        *self.0 = Value::Null;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut is_set = false;
        while let Some(name) = next_name(&mut fields)? {
            let any = match name.as_ref() {
                "stringValue" | "string_value" => {
                    fields.next_value_seed(FillString(self.0))?;
                    None
                }
                "boolValue" | "bool_value" => Some(fields.next_value::<Option<bool>>()?.map(Any::BoolValue)),
                "intValue" | "int_value" => {
                    Some(fields.next_value::<Option<Int<i64>>>()?.map(|number| Any::IntValue(number.0)))
                }
                "doubleValue" | "double_value" => {
                    Some(fields.next_value::<Option<Real>>()?.map(|number| Any::DoubleValue(number.0)))
                }
                "arrayValue" | "array_value" => Some(fields.next_value::<Option<List>>()?.map(Into::into)),
                "kvlistValue" | "kvlist_value" => Some(fields.next_value::<Option<Map>>()?.map(Into::into)),
                "bytesValue" | "bytes_value" => {
                    Some(fields.next_value::<Option<Base64>>()?.map(|bytes| Any::BytesValue(bytes.0)))
                }
                _ => {
                    skip(&mut fields)?;
                    continue;
                }
            };
            if std::mem::replace(&mut is_set, true) {
                return Err(unusual("values of two kinds"));
            }
            if let Some(value) = any {
                *self.0 = value_from_otlp(common::AnyValue { value });
            }
        }
        if !is_set {
            *self.0 = Value::Null;
        }
        Ok(())
    }
}

/// Makes a value text; `null` is no value.
struct FillString<'v>(&'v mut Value);

impl<'de> DeserializeSeed<'de> for FillString<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FillString<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        *self.0 = Value::Null;
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        set_text(self.0, text);
        Ok(())
    }
}

/// The name of a field.
struct Name<'n>(Cow<'n, str>);

impl<'de: 'n, 'n> Deserialize<'de> for Name<'n> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

fn next_name<'de, A: MapAccess<'de>>(fields: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    Ok(fields.next_key::<Name<'de>>()?.map(|Name(name)| name))
}

fn skip<'de, A: MapAccess<'de>>(fields: &mut A) -> Result<(), A::Error> {
    fields.next_value::<IgnoredAny>().map(drop)
}

/// Notes that a field came; it may not come again.
fn once<E: Error>(seen: &mut u32, field: u32) -> Result<(), E> {
    if *seen & 1 << field != 0 {
        return Err(unusual("a field twice"));
    }
    *seen |= 1 << field;
    Ok(())
}

#[cfg(test)]
mod tests;
