//! OTLP's `AnyValue`.

/// A typed value as OTLP's data model has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Text.
    Str(String),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list of values.
    Array(Vec<Value>),
    /// Names and values in the order they came; names may repeat, though OTLP says they should not.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Returns the text, when the value is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Says whether there is no value.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns a rough count of the bytes kept, for memory budgets.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        32 + match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Double(_) => 0,
            Self::Str(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(values) => values.iter().map(Self::size_bytes).sum(),
            Self::Map(pairs) => pairs.iter().map(|(name, value)| 24 + name.len() + value.size_bytes()).sum(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}
