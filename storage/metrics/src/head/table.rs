//! The series of a shard, in pieces that never move: growing neither copies them nor needs their memory twice.

use super::series::Series;

/// Series in a piece; those that came one after the other lie together.
const PIECE: usize = 256;

/// Series by their place.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// All but the last one are full.
    pieces: Vec<Vec<Series>>,
}

impl SeriesTable {
    pub(crate) fn len(&self) -> usize {
        let before = self.pieces.len().saturating_sub(1) * PIECE;
        before + self.pieces.last().map_or(0, Vec::len)
    }

    pub(crate) fn push(&mut self, series: Series) {
        match self.pieces.last_mut().filter(|piece| piece.len() < PIECE) {
            Some(piece) => piece.push(series),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(series);
                self.pieces.push(piece);
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&Series> {
        self.pieces.get(place / PIECE)?.get(place % PIECE)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Series> {
        self.pieces.get_mut(place / PIECE)?.get_mut(place % PIECE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Series> {
        self.pieces.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;
    use crate::head::series::Logged;
    use crate::record::SeriesId;

    #[test]
    fn series_are_found_at_their_place() {
        let mut table = SeriesTable::default();
        assert_eq!((table.len(), table.get(0).is_none()), (0, true));
        let labels = |n: usize| Labels::from_pairs([("n", n.to_string())]);
        for n in 0..2 * PIECE + 1 {
            assert_eq!(table.len(), n);
            table.push(Series::new(labels(n), Logged::new(SeriesId(n as u32))));
        }
        for place in [0, PIECE - 1, PIECE, 2 * PIECE] {
            assert_eq!(table.get(place).unwrap().labels, labels(place));
            assert_eq!(table.get_mut(place).unwrap().logged.id, SeriesId(place as u32));
        }
        assert!(table.get(2 * PIECE + 1).is_none());
        assert!(table.iter().enumerate().all(|(place, series)| series.labels == labels(place)));
        assert_eq!(table.iter().count(), table.len());
    }
}
