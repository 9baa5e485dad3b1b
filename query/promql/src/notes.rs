//! Warnings and infos that come with an answer.

use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::DateTime;

use crate::number::{format_short, format_significant};
use crate::parse::ast::Span;
use crate::parse::text::quote;

/// Most notes of one kind that an answer carries, as Prometheus' API does.
const NOTES_MAX: usize = 10;

/// Collects notes from parallel work; the same note counts once, at the place where it came last.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<BTreeMap<(bool, String), (u32, Detail)>>);

/// What a note gathers over all its occasions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Detail {
    /// Nothing.
    Plain,
    /// How often it was so.
    Occasions(u64),
    /// Which buckets fell, by how much, how often and when.
    Falls {
        /// The first and the last upper bound of a bucket that fell.
        buckets: (f64, f64),
        /// The largest fall.
        most: f64,
        /// At how many steps and series.
        count: u64,
        /// The first and the last such step in milliseconds.
        at_ms: (i64, i64),
    },
}

impl Detail {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Occasions(a), Self::Occasions(b)) => Self::Occasions(a + b),
            (
                Self::Falls { buckets, most, count, at_ms },
                Self::Falls { buckets: others, most: other_most, count: other_count, at_ms: other_at },
            ) => Self::Falls {
                buckets: (buckets.0.min(others.0), buckets.1.max(others.1)),
                most: most.max(other_most),
                count: count + other_count,
                at_ms: (at_ms.0.min(other_at.0), at_ms.1.max(other_at.1)),
            },
            (one, _) => one,
        }
    }

    fn spell(self) -> String {
        match self {
            Self::Plain | Self::Occasions(..=1) => String::new(),
            Self::Occasions(n) => format!(" ({n} occurrences)"),
            Self::Falls { buckets, most, count, at_ms } => format!(
                ", from buckets {} to {}, with a max diff of {}, over {count} samples from {} to {}",
                format_short(buckets.0),
                format_short(buckets.1),
                format_significant(most, 2),
                spell_time(at_ms.0),
                spell_time(at_ms.1),
            ),
        }
    }
}

fn spell_time(ms: i64) -> String {
    DateTime::from_timestamp(ms / 1000, 0).map_or_else(String::new, |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl Notes {
    /// Adds a warning about the expression at `span`.
    pub(crate) fn warn(&self, span: Span, text: impl Into<String>) {
        self.add(true, span, text.into(), Detail::Plain);
    }

    /// Adds an info about the expression at `span`.
    pub(crate) fn info(&self, span: Span, text: impl Into<String>) {
        self.add(false, span, text.into(), Detail::Plain);
    }

    /// Adds a warning or an info with what is to be gathered.
    pub(crate) fn add(&self, warning: bool, span: Span, text: String, detail: Detail) {
        let mut notes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slot = notes.entry((warning, text));
        slot.and_modify(|(start, have)| {
            // What gathers occasions stays where it was first.
            if detail == Detail::Plain {
                *start = span.start;
            }
            *have = have.join(detail);
        })
        .or_insert((span.start, detail));
    }

    /// Adds all notes of `others`.
    pub(crate) fn append(&self, others: Self) {
        let others = others.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for ((warning, text), (start, detail)) in others {
            self.add(warning, Span { start, end: start }, text, detail);
        }
    }

    /// Returns (warnings, infos) in words, with line and column, by their places.
    pub(crate) fn finish(self, input: &str) -> (Vec<String>, Vec<String>) {
        let notes = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut notes: Vec<_> =
            notes.into_iter().map(|((warning, text), (at, detail))| (at, warning, text, detail)).collect();
        notes.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for (start, warning, text, detail) in notes {
            let (line, column) = Span { start, end: start }.line_column(input);
            let (list, word) = if warning { (&mut warnings, "warning") } else { (&mut infos, "info") };
            list.push(format!("PromQL {word}: {text}{} ({line}:{column})", detail.spell()));
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

/// Returns ` for metric name "x"`, or nothing where the name is not known.
pub(crate) fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quote(name)) }
}
