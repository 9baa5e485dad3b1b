//! The columns of `rows.parquet`, a page of them at a time.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, AsArray, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt8Array, UInt32Array,
};
use arrow::datatypes::{
    DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType, UInt8Type, UInt32Type,
};

use crate::codec::Malformed;
use crate::json;

/// The kind of body that is text as it is.
pub(crate) const BODY_STR: &str = "str";

/// One row, all texts borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowView<'a> {
    pub(crate) timestamp: i64,
    pub(crate) observed_timestamp: i64,
    pub(crate) severity_number: u8,
    pub(crate) severity_text: &'a str,
    /// Text, or typed JSON when `body_type` is another one than [`BODY_STR`].
    pub(crate) body: &'a str,
    pub(crate) body_type: &'a str,
    /// Typed JSON; empty when there are none.
    pub(crate) attributes: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) flags: u32,
    pub(crate) event_name: &'a str,
    pub(crate) dropped_attributes_count: u32,
}

/// Returns the line that a query sees: text as it is, anything else as JSON.
pub(crate) fn line_of<'a>(body_type: &str, body: &'a str) -> Result<Cow<'a, str>, Malformed> {
    if body_type == BODY_STR {
        return Ok(Cow::Borrowed(body));
    }
    Ok(Cow::Owned(json::display(&json::parse_value(body)?)))
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn nanos() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Names and types of the columns.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", nanos(), false),
        Field::new(OBSERVED_DELAY_COLUMN, DataType::Int64, true),
        Field::new("stream_id", DataType::UInt64, false),
        Field::new("stream", dictionary(), false),
        Field::new("severity_number", DataType::UInt8, false),
        Field::new("severity_text", dictionary(), true),
        Field::new("body", DataType::Utf8, false),
        Field::new("body_type", dictionary(), false),
        Field::new("attributes", DataType::Utf8, true),
        Field::new("resource", dictionary(), true),
        Field::new("scope", dictionary(), true),
        Field::new("trace_id", DataType::FixedSizeBinary(16), true),
        Field::new("span_id", DataType::FixedSizeBinary(8), true),
        Field::new("flags", DataType::UInt32, false),
        Field::new("event_name", dictionary(), true),
        Field::new("dropped_attributes_count", DataType::UInt32, false),
    ]))
});

/// The column that every reader needs.
pub(super) const TIMESTAMP_COLUMN: &str = "timestamp";
/// Nanoseconds from the timestamp to the observed one: most senders observe after a time that hardly varies, so that this
/// takes a fraction of a second timestamp.
pub(super) const OBSERVED_DELAY_COLUMN: &str = "observed_delay_ns";
/// What stood in its place in the first version.
pub(super) const OBSERVED_COLUMN: &str = "observed_timestamp";
/// The columns that make a line.
pub(super) const LINE_COLUMNS: [&str; 2] = ["body", "body_type"];
/// The columns that rows are counted by.
pub(super) const SEVERITY_COLUMNS: [&str; 2] = ["severity_number", "severity_text"];
/// The columns that only other readers need: the catalog has them.
pub(super) const STREAM_COLUMNS: [&str; 2] = ["stream_id", "stream"];

/// Decoded columns; those that were not read give empty texts and zeros.
#[derive(Debug)]
pub(crate) struct Columns {
    batch: RecordBatch,
}

/// Typed columns, found once.
#[derive(Debug)]
pub(crate) struct ColumnsRef<'a> {
    timestamp: &'a TimestampNanosecondArray,
    observed_delay: Option<&'a Int64Array>,
    /// In blocks of the first version, instead.
    observed_timestamp: Option<&'a TimestampNanosecondArray>,
    severity_number: Option<&'a UInt8Array>,
    severity_text: Option<Texts<'a>>,
    body: Option<&'a StringArray>,
    body_type: Option<Texts<'a>>,
    attributes: Option<&'a StringArray>,
    resource: Option<Texts<'a>>,
    scope: Option<Texts<'a>>,
    trace_id: Option<&'a FixedSizeBinaryArray>,
    span_id: Option<&'a FixedSizeBinaryArray>,
    flags: Option<&'a UInt32Array>,
    event_name: Option<Texts<'a>>,
    dropped: Option<&'a UInt32Array>,
}

#[derive(Debug, Clone, Copy)]
struct Texts<'a> {
    keys: &'a Int32Array,
    values: &'a StringArray,
}

impl<'a> Texts<'a> {
    fn get(self, i: usize) -> &'a str {
        if self.keys.is_null(i) {
            return "";
        }
        let key = usize::try_from(self.keys.value(i)).unwrap_or(usize::MAX);
        if key < self.values.len() && self.values.is_valid(key) { self.values.value(key) } else { "" }
    }
}

impl Columns {
    pub(super) fn new(batch: RecordBatch) -> Self {
        Self { batch }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// Finds the columns.
    ///
    /// # Errors
    /// When one has another type than it was written with.
    pub(crate) fn open(&self) -> Result<ColumnsRef<'_>, Malformed> {
        let wrong = Malformed("columns of the known types");
        let column = |name: &str| self.batch.column_by_name(name);
        let texts = |name: &str| -> Result<Option<Texts<'_>>, Malformed> {
            let Some(column) = column(name) else { return Ok(None) };
            let column = column.as_dictionary_opt::<Int32Type>().ok_or(wrong)?;
            let values = column.values().as_string_opt::<i32>().ok_or(wrong)?;
            Ok(Some(Texts { keys: column.keys(), values }))
        };
        let times = |name: &str| column(name).map(|c| c.as_primitive_opt::<TimestampNanosecondType>().ok_or(wrong));
        let numbers = |name: &str| column(name).map(|c| c.as_primitive_opt::<UInt32Type>().ok_or(wrong)).transpose();
        let ids = |name: &str| column(name).map(|c| c.as_fixed_size_binary_opt().ok_or(wrong)).transpose();
        let strings = |name: &str| column(name).map(|c| c.as_string_opt::<i32>().ok_or(wrong));
        Ok(ColumnsRef {
            timestamp: times("timestamp").ok_or(wrong)??,
            observed_delay: column(OBSERVED_DELAY_COLUMN)
                .map(|c| c.as_primitive_opt::<Int64Type>().ok_or(wrong))
                .transpose()?,
            observed_timestamp: times(OBSERVED_COLUMN).transpose()?,
            severity_number: column("severity_number")
                .map(|c| c.as_primitive_opt::<UInt8Type>().ok_or(wrong))
                .transpose()?,
            severity_text: texts("severity_text")?,
            body: strings("body").transpose()?,
            body_type: texts("body_type")?,
            attributes: strings("attributes").transpose()?,
            resource: texts("resource")?,
            scope: texts("scope")?,
            trace_id: ids("trace_id")?,
            span_id: ids("span_id")?,
            flags: numbers("flags")?,
            event_name: texts("event_name")?,
            dropped: numbers("dropped_attributes_count")?,
        })
    }
}

impl<'a> ColumnsRef<'a> {
    pub(crate) fn timestamps(&self) -> &'a [i64] {
        self.timestamp.values()
    }

    /// Returns severity number of row `i`, which must be there, and the key of its text, which stays the same for equal
    /// texts within these columns, mostly.
    pub(crate) fn severity(&self, i: usize) -> (u8, Option<i32>) {
        let number = self.severity_number.map_or(0, |column| column.value(i));
        let text = self.severity_text.filter(|texts| texts.keys.is_valid(i)).map(|texts| texts.keys.value(i));
        (number, text)
    }

    /// Returns the text of such a key.
    pub(crate) fn severity_text(&self, key: Option<i32>) -> &'a str {
        let (Some(texts), Some(key)) = (self.severity_text, key.and_then(|key| usize::try_from(key).ok())) else {
            return "";
        };
        if key < texts.values.len() && texts.values.is_valid(key) { texts.values.value(key) } else { "" }
    }

    fn observed(&self, i: usize) -> i64 {
        match self.observed_delay.filter(|column| column.is_valid(i)) {
            Some(column) => self.timestamp.value(i).wrapping_add(column.value(i)),
            None => self.observed_timestamp.filter(|column| column.is_valid(i)).map_or(0, |column| column.value(i)),
        }
    }

    /// Returns row `i`, which must be there.
    pub(crate) fn row(&self, i: usize) -> RowView<'a> {
        let text = |texts: Option<Texts<'a>>| texts.map_or("", |texts| texts.get(i));
        let number = |column: Option<&'a UInt32Array>| column.map_or(0, |column| column.value(i));
        RowView {
            timestamp: self.timestamp.value(i),
            observed_timestamp: self.observed(i),
            severity_number: self.severity_number.map_or(0, |column| column.value(i)),
            severity_text: text(self.severity_text),
            body: self.body.map_or("", |column| column.value(i)),
            body_type: self.body_type.map_or(BODY_STR, |texts| texts.get(i)),
            attributes: self.attributes.filter(|c| c.is_valid(i)).map_or("", |c| c.value(i)),
            resource: text(self.resource),
            scope: text(self.scope),
            trace_id: id(self.trace_id, i),
            span_id: id(self.span_id, i),
            flags: number(self.flags),
            event_name: text(self.event_name),
            dropped_attributes_count: number(self.dropped),
        }
    }
}

fn id<const N: usize>(column: Option<&FixedSizeBinaryArray>, i: usize) -> [u8; N] {
    let value = column.filter(|column| column.is_valid(i)).map(|column| column.value(i));
    value.and_then(|value| value.try_into().ok()).unwrap_or([0; N])
}
