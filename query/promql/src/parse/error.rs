//! Why an expression could not be read.

use super::ast::Span;

/// An error with its place: `1:5: parse error: unexpected end of input`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    /// Where in the expression, in bytes.
    pub span: Span,
    /// The line, from 1.
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

    /// Fills in line and column.
    pub(crate) fn locate(mut self, input: &str) -> Self {
        (self.line, self.column) = self.span.line_column(input);
        self
    }
}
