//! Which rows of a part are wanted, and what of them: so that a store decodes no more than that.

use std::fmt;
use std::str::Utf8Error;

use model::TimeRange;

use crate::{Error, LogRows, MetadataColumn, Result, TextColumn};

/// Lines as they lie in memory, one after the other; between them there may be other bytes.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    spans: &'a [(u32, u32)],
}

impl<'a> Lines<'a> {
    /// Looks at lines: where each begins and ends in `bytes`. They ascend and do not overlap.
    #[must_use]
    pub fn new(bytes: &'a [u8], spans: &'a [(u32, u32)]) -> Self {
        Self { bytes, spans }
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Says whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns all bytes, to search them at once; a hit counts only when it lies in a line as a whole.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns where line `row` begins and ends in the bytes.
    #[must_use]
    pub fn span(&self, row: usize) -> Option<(usize, usize)> {
        self.spans.get(row).map(|(start, end)| (*start as usize, *end as usize))
    }

    /// Returns the bytes of line `row`; none when there is no such row.
    #[must_use]
    pub fn line_bytes(&self, row: usize) -> &'a [u8] {
        self.span(row).and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }

    /// Returns line `row`; an empty one when there is no such row.
    ///
    /// # Errors
    /// When it is no UTF-8: the store's bytes are damaged.
    pub fn line(&self, row: usize) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.line_bytes(row))
    }

    /// Returns the first row from `from` on that ends behind byte `at`.
    #[must_use]
    pub fn row_after(&self, from: usize, at: usize) -> usize {
        from + self.spans.get(from..).map_or(0, |spans| spans.partition_point(|(_, end)| *end as usize <= at))
    }
}

/// A test of lines that a store may make before it decodes anything else of a row.
pub trait LineFilter: Send + Sync + fmt::Debug {
    /// Returns the numbers of the lines that pass, ascending.
    ///
    /// # Errors
    /// When a line that is looked at is no UTF-8.
    fn passing(&self, lines: Lines<'_>) -> Result<Vec<u32>, Utf8Error>;

    /// Returns what tells this filter from others: those of one key pass the same lines. A store may remember by it which
    /// lines of an immutable page passed.
    fn key(&self) -> &str;
}

/// Which fields of [`LogRows::metadata`] are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataSelect<'a> {
    /// None: the column may be empty.
    None,
    /// These; there may be others.
    Only(&'a [String]),
    /// All.
    All,
}

/// Which rows of a part are wanted, and what of them.
#[derive(Debug, Clone, Copy)]
pub struct RowSelect<'a> {
    /// Only rows in here; half open.
    pub range: TimeRange,
    /// Only rows whose line passes.
    pub filter: Option<&'a dyn LineFilter>,
    /// Rows that have another value of this metadata field, or none, may be left out: (name, value).
    pub field: Option<(&'a str, &'a str)>,
    /// Most rows; of more, those at the end that [`newest`](Self::newest) says. With a [`field`](Self::field) there may be
    /// more.
    pub rows_max: usize,
    /// Whether the last rows are wanted rather than the first ones when there are more than wanted.
    pub newest: bool,
    /// Whether [`LogRows::lines`] is needed; without it that column may be empty.
    pub with_lines: bool,
    /// What of the metadata is needed.
    pub metadata: MetadataSelect<'a>,
}

impl RowSelect<'_> {
    /// All rows with all there is of them.
    pub const ALL: Self = Self {
        range: TimeRange::ALL,
        filter: None,
        field: None,
        rows_max: usize::MAX,
        newest: false,
        with_lines: true,
        metadata: MetadataSelect::All,
    };

    /// Cuts ascending row numbers down to the most that are wanted.
    pub fn cut(&self, rows: &mut Vec<u32>, rows_max: usize) {
        if rows.len() <= rows_max {
            return;
        }
        if self.newest {
            rows.drain(..rows.len() - rows_max);
        } else {
            rows.truncate(rows_max);
        }
    }

    /// Leaves of decoded rows those that are wanted.
    ///
    /// # Errors
    /// What the filter says of lines that are no text, which those of [`LogRows`] always are.
    pub fn narrow(&self, rows: LogRows) -> Result<LogRows> {
        let mut wanted = match self.filter {
            Some(filter) => {
                let spans = rows.lines.spans();
                let passing = filter.passing(Lines::new(rows.lines.text().as_bytes(), &spans));
                passing.map_err(|error| Error::Invalid(format!("a line is no text: {error}")))?
            }
            None => (0..u32::try_from(rows.len()).unwrap_or(u32::MAX)).collect(),
        };
        wanted.retain(|row| rows.timestamps.get(*row as usize).is_some_and(|at| self.range.contains(*at)));
        self.cut(&mut wanted, self.rows_max);
        Ok(if wanted.len() == rows.len() { rows } else { rows.picked(&wanted) })
    }
}

impl LogRows {
    /// Returns the rows of these numbers.
    #[must_use]
    fn picked(&self, rows: &[u32]) -> Self {
        let mut out = Self { has_levels: self.has_levels, ..Self::default() };
        for row in rows.iter().map(|row| *row as usize) {
            let Some(timestamp) = self.timestamps.get(row) else { continue };
            out.timestamps.push(*timestamp);
            if row < self.lines.len() {
                out.lines.push(self.lines.get(row));
            }
            if self.metadata != MetadataColumn::default() {
                out.metadata.push(self.metadata.get(row).iter().cloned());
            }
        }
        out
    }
}

impl TextColumn {
    /// Returns where each string begins and ends in the [`text`](Self::text).
    #[must_use]
    pub fn spans(&self) -> Vec<(u32, u32)> {
        let mut start = 0;
        self.ends().iter().map(|end| (std::mem::replace(&mut start, *end), *end)).collect()
    }

    /// Makes a column of pieces of bytes.
    ///
    /// # Errors
    /// When a piece is no UTF-8.
    pub fn from_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Self, Utf8Error> {
        let mut text = Vec::with_capacity(pieces.clone().map(<[u8]>::len).sum());
        let mut ends = Vec::with_capacity(pieces.size_hint().0);
        for piece in pieces.clone() {
            text.extend_from_slice(piece);
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        // All at once is faster than piece by piece; but two halves of a character could make a whole one then.
        let text = String::from_utf8(text).map_err(|error| error.utf8_error())?;
        if ends.iter().all(|end| text.is_char_boundary(*end as usize)) {
            return Ok(Self::from_parts(text, ends));
        }
        pieces.map(std::str::from_utf8).try_fold(Self::default(), |mut column, piece| {
            column.push(piece?);
            Ok(column)
        })
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[derive(Debug)]
    struct Holds(&'static str);

    impl LineFilter for Holds {
        fn passing(&self, lines: Lines<'_>) -> Result<Vec<u32>, Utf8Error> {
            let mut out = Vec::new();
            for row in 0..lines.len() {
                if lines.line(row)?.contains(self.0) {
                    out.push(u32::try_from(row).unwrap());
                }
            }
            Ok(out)
        }

        fn key(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn decoded_rows_are_narrowed() {
        let mut rows = LogRows::default();
        for (at, line) in [(1, "ab"), (2, "b"), (3, "c"), (4, "xb")] {
            rows.timestamps.push(Timestamp(at));
            rows.lines.push(line);
            rows.metadata.push([("n".into(), at.to_string().into())]);
        }
        let select = RowSelect { filter: Some(&Holds("b")), rows_max: 2, newest: true, ..RowSelect::ALL };
        let found = select.narrow(rows.clone()).unwrap();
        assert_eq!(found.timestamps, [Timestamp(2), Timestamp(4)]);
        assert_eq!((found.lines.get(0), found.lines.get(1), &*found.metadata.get(1)[0].1), ("b", "xb", "4"));
        let range = TimeRange::new(Timestamp(2), Timestamp(4));
        let select = RowSelect { range, rows_max: 1, ..RowSelect::ALL };
        assert_eq!(select.narrow(rows.clone()).unwrap().timestamps, [Timestamp(2)]);
        assert_eq!(RowSelect::ALL.narrow(rows.clone()).unwrap(), rows);
    }

    #[test]
    fn pieces_must_each_be_text() {
        let column = TextColumn::from_pieces(["é".as_bytes(), b"", b"x"].into_iter()).unwrap();
        assert_eq!((column.len(), column.get(0), column.get(1), column.get(2)), (3, "é", "", "x"));
        // Together these two would be an é.
        assert!(TextColumn::from_pieces([&[0xc3][..], &[0xa9][..]].into_iter()).is_err());
        assert!(TextColumn::from_pieces([&[0xff][..]].into_iter()).is_err());
    }

    #[test]
    fn a_byte_belongs_to_the_row_that_ends_behind_it() {
        let spans = [(4, 6), (10, 10), (14, 15)];
        let lines = Lines::new(b"....ab........c", &spans);
        assert_eq!((lines.row_after(0, 0), lines.row_after(0, 5), lines.row_after(0, 6)), (0, 0, 1));
        assert_eq!((lines.row_after(1, 14), lines.row_after(2, 15)), (2, 3));
        assert_eq!((lines.line(0).unwrap(), lines.line(1).unwrap(), lines.line(9).unwrap()), ("ab", "", ""));
    }
}
