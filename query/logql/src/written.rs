//! Lines that are written as they pass, without label sets between: for answers of any number of them.

use model::Timestamp;

use crate::eval::Entry;
use crate::row::RowLabels;

/// A line that passed.
#[derive(Debug)]
pub struct PassedLine<'a> {
    /// When.
    pub timestamp: Timestamp,
    /// The line, as the pipeline left it.
    pub line: &'a str,
    pub(crate) labels: &'a RowLabels<'a>,
}

/// Pairs by name, each name once.
pub type SortedPairs<'a> = Vec<(&'a str, &'a str)>;

impl PassedLine<'_> {
    /// Returns all labels: what [`CategorizedLabels::all`](crate::CategorizedLabels::all) holds.
    #[must_use]
    pub fn all(&self) -> SortedPairs<'_> {
        self.labels.all_sorted()
    }

    /// Returns the labels of the stream, those beside the line and those out of it, as
    /// [`CategorizedLabels`](crate::CategorizedLabels) has them.
    #[must_use]
    pub fn categorized(&self) -> [SortedPairs<'_>; 3] {
        self.labels.categorized_sorted()
    }
}

/// Writes lines.
pub trait LineWriter: Sync {
    /// Writes a line.
    fn write(&self, out: &mut Vec<u8>, line: &PassedLine<'_>);
}

/// What was written of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenLine {
    /// When the line was.
    pub timestamp: Timestamp,
    /// What was written.
    pub bytes: Vec<u8>,
}

impl Entry for WrittenLine {
    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn size_bytes(&self) -> u64 {
        (std::mem::size_of::<Self>() + self.bytes.capacity()) as u64
    }
}
