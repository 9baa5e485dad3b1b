//! Warnings and infos that come with an answer.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::parse::ast::Span;

/// Most notes of one kind that an answer carries, as Prometheus' API does.
const NOTES_MAX: usize = 10;

/// Collects notes from parallel work; the same note at the same place counts once.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<BTreeSet<(bool, u32, String)>>);

impl Notes {
    /// Adds a warning about the expression at `span`.
    pub(crate) fn warn(&self, span: Span, text: impl Into<String>) {
        self.add(true, span, text.into());
    }

    /// Adds an info about the expression at `span`.
    pub(crate) fn info(&self, span: Span, text: impl Into<String>) {
        self.add(false, span, text.into());
    }

    fn add(&self, warning: bool, span: Span, text: String) {
        let mut notes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        notes.insert((warning, span.start, text));
    }

    /// Returns (warnings, infos) in words, with line and column.
    pub(crate) fn finish(self, input: &str) -> (Vec<String>, Vec<String>) {
        let notes = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for (warning, start, text) in notes {
            let (line, column) = Span { start, end: start }.line_column(input);
            let (list, word) = if warning { (&mut warnings, "warning") } else { (&mut infos, "info") };
            list.push(format!("PromQL {word}: {text} ({line}:{column})"));
        }
        for (list, word) in [(&mut warnings, "warning"), (&mut infos, "info")] {
            let more = list.len().saturating_sub(NOTES_MAX);
            if more > 0 {
                list.truncate(NOTES_MAX);
                list.push(format!("{more} more {word} annotations omitted"));
            }
        }
        (warnings, infos)
    }
}
