//! Memory for the rows of batches, kept from one request to the next.

use parking_lot::Mutex;
use storage_api::KeyedRows;

/// Most spaces that are kept; as many requests as that are worked on at once on usual machines.
const SPACES_MAX: usize = 8;
/// A larger space is given back to the system.
const SPACE_BYTES_MAX: usize = 1 << 20;

/// Spaces for rows. The lock is never held over anything else.
#[derive(Debug, Default)]
pub(crate) struct RowSpaces(Mutex<Vec<KeyedRows>>);

impl RowSpaces {
    /// Returns empty rows, with memory if there is some left over.
    pub(crate) fn take(&self) -> KeyedRows {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Takes empty rows back.
    pub(crate) fn give_back(&self, rows: KeyedRows) {
        if rows.capacity_bytes() <= SPACE_BYTES_MAX {
            let mut spaces = self.0.lock();
            if spaces.len() < SPACES_MAX {
                spaces.push(rows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_spaces_are_not_kept() {
        let spaces = RowSpaces::default();
        let mut rows = KeyedRows::default();
        rows.reserve(10, 10);
        let small = rows.capacity_bytes();
        spaces.give_back(rows);
        assert_eq!(spaces.take().capacity_bytes(), small);
        let mut rows = KeyedRows::default();
        rows.reserve(SPACE_BYTES_MAX, 0);
        spaces.give_back(rows);
        assert_eq!(spaces.take().capacity_bytes(), 0);
    }
}
