//! Why an expression could not be read.

use super::ast::Span;

/// The message about a selector that would select every series.
pub(super) const EMPTY_SELECTOR: &str = "vector selector must contain at least one non-empty matcher";

/// An error with its place: `1:5: parse error: unexpected end of input`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", place(*line, *column))]
pub struct ParseError {
    /// Where in the expression, in bytes.
    pub span: Span,
    /// The line, from 1; 0 when there is no text that could have a place.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, line: 1, column: span.start as usize + 1, message: message.into() }
    }

    /// Returns whether it is about a selector without any matcher that refuses the empty string.
    pub fn is_empty_selector(&self) -> bool {
        self.message == EMPTY_SELECTOR
    }

    /// Fills in line and column.
    pub(crate) fn locate(mut self, input: &str) -> Self {
        (self.line, self.column) = if input.is_empty() { (0, 0) } else { self.span.line_column(input) };
        self
    }
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { "unknown position".to_owned() } else { format!("{line}:{column}") }
}
