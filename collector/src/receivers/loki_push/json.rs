//! Loki's push in JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use collector_otlp::set_text;
use model::Labels;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::super::loki_labels;
use super::{Push, WHAT, time};
use crate::error::{Refusal, Result as Refusable};

/// Reads a request: `{"streams": [..]}`.
pub(super) fn read(body: &[u8], push: Push<'_, '_>) -> Refusable<()> {
    let mut reader = Reader { push, body, nanos: Ok(0), name: String::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = reader.part::<Request>().deserialize(&mut deserializer).and_then(|()| deserializer.end());
    read.map_err(|error| Refusal::Malformed { what: WHAT, cause: error.to_string() })
}

struct Reader<'p, 'i> {
    push: Push<'p, 'i>,
    body: &'p [u8],
    /// The entry's time, or what is wrong with it.
    nanos: Result<i64, String>,
    /// The name of a field of metadata, while it is not known whether there is another one.
    name: String,
}

impl<'p, 'i> Reader<'p, 'i> {
    fn part<K: Kind>(&mut self) -> Part<'_, 'p, 'i, K> {
        Part(self, PhantomData)
    }

    /// Takes the entry that was read.
    fn entry<E: Error>(&mut self) -> Result<(), E> {
        match std::mem::replace(&mut self.nanos, Ok(0)) {
            Ok(nanos) => self.push.record(nanos),
            Err(detail) => self.push.intake.reject("invalid_timestamp", || detail),
        }
        // Why is told by the intake; nothing more needs to be read.
        if self.push.intake.is_over() { Err(E::custom("the request is refused")) } else { Ok(()) }
    }

    /// Reads entries that came before the labels of their stream.
    fn late<K: Kind, E: Error>(&mut self, raw: Option<&RawValue>) -> Result<(), E> {
        let Some(text) = raw.map(RawValue::get) else { return Ok(()) };
        let body = self.body;
        let read = self.part::<K>().deserialize(&mut serde_json::Deserializer::from_str(text));
        read.map_err(|error| {
            // With the place in the body, as every other error.
            let start = text.as_ptr().addr().saturating_sub(body.as_ptr().addr());
            let before = body.get(..start).unwrap_or_default();
            let (line, column) = (error.line(), error.column());
            let message = error.to_string();
            let what = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
            let lines = before.iter().filter(|byte| **byte == b'\n').count();
            let in_line = before.iter().rev().take_while(|byte| **byte != b'\n').count();
            let column = if line == 1 { column + in_line } else { column };
            E::custom(format_args!("{what} at line {} column {column}", line + lines))
        })
    }
}

/// A kind of list or object, and how it is read.
trait Kind {
    const EXPECTED: &'static str;
    const IS_LIST: bool;

    fn list<'de, A: SeqAccess<'de>>(_: &mut Reader<'_, '_>, _: A) -> Result<(), A::Error> {
        Err(A::Error::invalid_type(Unexpected::Seq, &Self::EXPECTED))
    }

    fn object<'de, A: MapAccess<'de>>(_: &mut Reader<'_, '_>, _: A) -> Result<(), A::Error> {
        Err(A::Error::invalid_type(Unexpected::Map, &Self::EXPECTED))
    }
}

/// A list or object that is to be read.
struct Part<'r, 'p, 'i, K>(&'r mut Reader<'p, 'i>, PhantomData<K>);

impl<'de, K: Kind> DeserializeSeed<'de> for Part<'_, '_, '_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if K::IS_LIST { deserializer.deserialize_seq(self) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de, K: Kind> Visitor<'de> for Part<'_, '_, '_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        K::list(self.0, list)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<(), A::Error> {
        K::object(self.0, fields)
    }
}

fn read_all<'de, K: Kind, A: SeqAccess<'de>>(reader: &mut Reader<'_, '_>, mut list: A) -> Result<(), A::Error> {
    while list.next_element_seed(reader.part::<K>())?.is_some() {}
    Ok(())
}

/// Notes that a field came; it may not come again.
fn once<E: Error>(seen: &mut bool, field: &'static str) -> Result<(), E> {
    if std::mem::replace(seen, true) { Err(E::duplicate_field(field)) } else { Ok(()) }
}

struct Request;

impl Kind for Request {
    const EXPECTED: &'static str = "an object with streams";
    const IS_LIST: bool = false;

    fn object<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, mut fields: A) -> Result<(), A::Error> {
        let mut has_streams = false;
        while let Some(Text(name)) = fields.next_key()? {
            if name == "streams" {
                once(&mut has_streams, "streams")?;
                fields.next_value_seed(reader.part::<Streams>())?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Streams;

impl Kind for Streams {
    const EXPECTED: &'static str = "a list of streams";
    const IS_LIST: bool = true;

    fn list<'de, A: SeqAccess<'de>>(reader: &mut Reader<'_, '_>, list: A) -> Result<(), A::Error> {
        read_all::<Stream, A>(reader, list)
    }
}

/// Labels, and entries in the form of today, of old, or both. Of two kinds of labels `stream` counts; entries of old come last.
struct Stream;

impl Kind for Stream {
    const EXPECTED: &'static str = "an object with labels and entries";
    const IS_LIST: bool = false;

    fn object<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, mut fields: A) -> Result<(), A::Error> {
        let [mut has_stream, mut has_labels, mut has_values, mut has_entries, mut is_open] = [false; 5];
        let mut labels: Option<String> = None;
        let (mut values, mut entries): (Option<&RawValue>, Option<&RawValue>) = (None, None);
        while let Some(Text(name)) = fields.next_key()? {
            match name.as_ref() {
                "stream" => {
                    once(&mut has_stream, "stream")?;
                    if let Some(Pairs(pairs)) = fields.next_value()? {
                        let mut pairs: Vec<_> =
                            pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
                        reader.push.stream(Labels::try_from_pairs(&mut pairs).map_err(|error| error.to_string()));
                        is_open = true;
                    }
                }
                "labels" => {
                    once(&mut has_labels, "labels")?;
                    labels = fields.next_value()?;
                }
                "values" => {
                    once(&mut has_values, "values")?;
                    if is_open {
                        fields.next_value_seed(reader.part::<Values>())?;
                    } else {
                        values = Some(fields.next_value()?);
                    }
                }
                "entries" => {
                    once(&mut has_entries, "entries")?;
                    entries = Some(fields.next_value()?);
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        if !is_open {
            reader.push.stream(labels.map_or_else(|| Ok(Labels::empty()), |text| loki_labels::parse(&text)));
        }
        reader.late::<Values, A::Error>(values)?;
        reader.late::<OldEntries, A::Error>(entries)
    }
}

struct Values;

impl Kind for Values {
    const EXPECTED: &'static str = "a list of entries";
    const IS_LIST: bool = true;

    fn list<'de, A: SeqAccess<'de>>(reader: &mut Reader<'_, '_>, list: A) -> Result<(), A::Error> {
        read_all::<Entry, A>(reader, list)
    }
}

/// `["<nanoseconds>", "<line>", {metadata}]`.
struct Entry;

impl Kind for Entry {
    const EXPECTED: &'static str = "[\"<nanoseconds>\", \"<line>\"], and maybe an object of metadata";
    const IS_LIST: bool = true;

    fn list<'de, A: SeqAccess<'de>>(reader: &mut Reader<'_, '_>, mut list: A) -> Result<(), A::Error> {
        let missing = |at| A::Error::invalid_length(at, &"a timestamp and a line");
        reader.push.space.clear();
        list.next_element_seed(Fill(|text: &str| reader.nanos = time::parse(text)))?.ok_or_else(|| missing(0))?;
        let body = &mut reader.push.space.record_mut().body;
        list.next_element_seed(Fill(|text: &str| set_text(body, text)))?.ok_or_else(|| missing(1))?;
        let has_metadata = list.next_element_seed(reader.part::<Metadata>())?.is_some();
        if has_metadata && list.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(4, &"at most a timestamp, a line and metadata"));
        }
        reader.entry()
    }
}

/// An object of texts.
struct Metadata;

impl Kind for Metadata {
    const EXPECTED: &'static str = "an object whose values are strings";
    const IS_LIST: bool = false;

    fn object<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, mut fields: A) -> Result<(), A::Error> {
        while fields.next_key_seed(Fill(|text: &str| text.clone_into(&mut reader.name)))?.is_some() {
            let (name, value) = reader.push.space.next_attribute();
            std::mem::swap(name, &mut reader.name);
            fields.next_value_seed(Fill(|text: &str| set_text(value, text)))?;
        }
        Ok(())
    }
}

struct OldEntries;

impl Kind for OldEntries {
    const EXPECTED: &'static str = "a list of entries";
    const IS_LIST: bool = true;

    fn list<'de, A: SeqAccess<'de>>(reader: &mut Reader<'_, '_>, list: A) -> Result<(), A::Error> {
        read_all::<OldEntry, A>(reader, list)
    }
}

/// The form before Loki 1.0: `{"ts": "<RFC 3339>", "line": "<line>"}`.
struct OldEntry;

impl Kind for OldEntry {
    const EXPECTED: &'static str = "an object with ts and line";
    const IS_LIST: bool = false;

    fn object<'de, A: MapAccess<'de>>(reader: &mut Reader<'_, '_>, mut fields: A) -> Result<(), A::Error> {
        reader.push.space.clear();
        let [mut has_time, mut has_line, mut has_metadata] = [false; 3];
        while let Some(Text(name)) = fields.next_key()? {
            match name.as_ref() {
                "ts" | "timestamp" => {
                    once(&mut has_time, "ts")?;
                    fields.next_value_seed(Fill(|text: &str| reader.nanos = time::parse(text)))?;
                }
                "line" => {
                    once(&mut has_line, "line")?;
                    let body = &mut reader.push.space.record_mut().body;
                    fields.next_value_seed(Fill(|text: &str| set_text(body, text)))?;
                }
                "structuredMetadata" => {
                    once(&mut has_metadata, "structuredMetadata")?;
                    fields.next_value_seed(reader.part::<Metadata>())?;
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        for (has, name) in [(has_time, "ts"), (has_line, "line")] {
            if !has {
                return Err(A::Error::missing_field(name));
            }
        }
        reader.entry()
    }
}

/// Gives a text away, wherever it lies.
struct Fill<F>(F);

impl<'de, F: FnOnce(&str)> DeserializeSeed<'de> for Fill<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: FnOnce(&str)> Visitor<'_> for Fill<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        (self.0)(text);
        Ok(())
    }
}

/// Text that is borrowed where it has no escapes; serde's own `Cow` never borrows inside lists.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON object of texts, in the order they come.
#[derive(Debug, Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
