//! The keys that requests told series by, so that the labels of known ones are not decoded again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use parking_lot::{RwLock, RwLockReadGuard};
use storage_api::SeriesKey;

use super::SeriesRef;
use super::shard::PassThrough;

/// Memory of a key and its place, with the room that a table keeps free.
pub(super) const KEY_BYTES: u64 = 36;
/// More keys than this, and than twice the series, are forgotten all at once: a client that writes the labels of a series
/// in ever new ways would fill the memory with them.
const KEYS_MIN: usize = 1 << 16;

/// A key in the table. It is a hash already; half of it finds the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u32; 4]);

impl Key {
    fn new(key: SeriesKey) -> Self {
        // In words of 32 bits a key and its series take 20 bytes.
        Self([0, 32, 64, 96].map(|shift| (key.0 >> shift) as u32))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, ..] = self.0;
        state.write_u64(u64::from(a) | u64::from(b) << 32);
    }
}

type Table = HashMap<Key, SeriesRef, BuildHasherDefault<PassThrough>>;

/// Series of one head by the keys that requests told them by. The lock is taken after none but the gate, and none is
/// taken inside.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    table: RwLock<Table>,
}

/// How the number of keys changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub(super) learnt: u64,
    pub(super) forgotten: u64,
}

/// The keys, for the rows of one request.
#[derive(Debug)]
pub(crate) struct KnownKeys<'k>(RwLockReadGuard<'k, Table>);

impl KnownKeys<'_> {
    pub(crate) fn get(&self, key: SeriesKey) -> Option<SeriesRef> {
        self.0.get(&Key::new(key)).copied()
    }
}

impl Keys {
    pub(crate) fn read(&self) -> KnownKeys<'_> {
        KnownKeys(self.table.read())
    }

    /// Notes keys of series of a head that has so many.
    pub(super) fn learn(&self, series: u64, keys: impl IntoIterator<Item = (SeriesKey, SeriesRef)>) -> Change {
        let mut table = self.table.write();
        let keys_max = KEYS_MIN.max(usize::try_from(series).unwrap_or(usize::MAX).saturating_mul(2));
        let mut change = Change::default();
        for (key, series) in keys {
            if table.len() >= keys_max {
                change.forgotten += table.len() as u64;
                table.clear();
            }
            change.learnt += u64::from(table.insert(Key::new(key), series).is_none());
        }
        change
    }

    /// Returns how many keys there are.
    pub(crate) fn len(&self) -> u64 {
        self.table.read().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_forgotten_when_there_are_too_many() {
        let keys = Keys::default();
        let key = |n: usize| SeriesKey(n as u128 * 0x1_0000_0000_0000_0001);
        let all = (0..KEYS_MIN).map(|n| (key(n), SeriesRef(n as u32)));
        let learnt = |learnt, forgotten| Change { learnt, forgotten };
        assert_eq!(keys.learn(0, all), learnt(KEYS_MIN as u64, 0));
        assert_eq!((keys.len(), keys.read().get(key(7))), (KEYS_MIN as u64, Some(SeriesRef(7))));
        let (one_more, two_more) = ((key(KEYS_MIN), SeriesRef(0)), (key(KEYS_MIN + 1), SeriesRef(9)));
        assert_eq!(keys.learn(KEYS_MIN as u64, [one_more, one_more]), learnt(1, 0), "twice the series may be known");
        assert_eq!(keys.learn(1, [two_more]), learnt(1, KEYS_MIN as u64 + 1));
        assert_eq!((keys.len(), keys.read().get(key(7))), (1, None));
        assert_eq!(keys.read().get(two_more.0), Some(two_more.1));
    }
}
