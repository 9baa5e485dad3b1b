//! OTLP's log record.

use crate::{Timestamp, Value};

/// Who emitted: OTLP's resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// Attributes in the order they came.
    pub attributes: Vec<(String, Value)>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// OTLP's schema URL; empty when not given.
    pub schema_url: String,
}

impl Resource {
    /// Returns the attribute called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }
}

/// Which instrumentation library emitted: OTLP's scope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Attributes in the order they came.
    pub attributes: Vec<(String, Value)>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// OTLP's schema URL; empty when not given.
    pub schema_url: String,
}

/// One log record, whole, as OTLP's data model has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogRecord {
    /// When it happened; 0 when the sender does not know.
    pub timestamp: Timestamp,
    /// When it was first seen; 0 when not given.
    pub observed_timestamp: Timestamp,
    /// OTLP's severity number, 1-24; 0 when not given.
    pub severity_number: u8,
    /// The severity as the source wrote it; may be empty.
    pub severity_text: String,
    /// The message: text or structured.
    pub body: Value,
    /// Attributes in the order they came.
    pub attributes: Vec<(String, Value)>,
    /// How many attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// OTLP's flags; the low 8 bits are the W3C trace flags.
    pub flags: u32,
    /// The trace it belongs to; all zero when none.
    pub trace_id: [u8; 16],
    /// The span it belongs to; all zero when none.
    pub span_id: [u8; 8],
    /// OTLP's event name; empty when it is no event.
    pub event_name: String,
}

impl LogRecord {
    /// Returns a rough count of the bytes kept, for memory budgets.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(name, value)| 24 + name.len() + value.size_bytes()).sum();
        160 + self.severity_text.len() + self.event_name.len() + self.body.size_bytes() + attributes
    }
}

/// Returns the short name of an OTLP severity number (`INFO`, `INFO2`, …); `""` outside 1-24.
#[must_use]
pub fn severity_text(number: u8) -> &'static str {
    const NAMES: [&str; 24] = [
        "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4", "INFO", "INFO2", "INFO3",
        "INFO4", "WARN", "WARN2", "WARN3", "WARN4", "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2", "FATAL3",
        "FATAL4",
    ];
    number.checked_sub(1).and_then(|i| NAMES.get(usize::from(i))).copied().unwrap_or("")
}
