//! Remembers recent batches, so that a client's retry is stored once.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::{Condvar, Mutex};

use crate::codec::NO_HASH;

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new; whoever got this says [`Recent::settle`] later.
    New,
    /// It is stored already.
    Repeat,
}

/// A batch that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) hash: u128,
    /// When it came.
    pub(crate) arrival: i64,
    /// The first and the last timestamp of its records.
    pub(crate) times: (i64, i64),
    /// A bit for each of its streams; several may share one.
    pub(crate) streams: u64,
}

impl Remembered {
    /// Says whether it may have records of one of these streams, from the first to the last of these times.
    pub(crate) fn overlaps(&self, (first, last): (i64, i64), streams: u64) -> bool {
        self.times.0 <= last && first <= self.times.1 && self.streams & streams != 0
    }
}

/// Returns the bit of a stream, by its encoded labels.
pub(crate) fn stream_bit(encoded: &[u8]) -> u64 {
    1 << (xxhash_rust::xxh3::xxh3_64(encoded) % 64)
}

/// The hashes of recent batches.
#[derive(Debug)]
pub(crate) struct Recent {
    limit: usize,
    inner: Mutex<Inner>,
    /// Wakes those who wait for an equal batch that is under way.
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether the batch is stored; else it is under way.
    states: HashMap<u128, bool>,
    /// Stored ones, oldest first.
    order: VecDeque<Remembered>,
}

impl Recent {
    /// Remembers the last `limit` batches.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default(), settled: Condvar::new() }
    }

    /// Asks about a batch. Waits while an equal one is under way.
    pub(crate) fn begin(&self, hash: u128) -> Verdict {
        if hash == NO_HASH {
            return Verdict::New;
        }
        let mut inner = self.inner.lock();
        loop {
            match inner.states.get(&hash) {
                Some(true) => return Verdict::Repeat,
                Some(false) => self.settled.wait(&mut inner),
                None => {
                    inner.states.insert(hash, false);
                    return Verdict::New;
                }
            }
        }
    }

    /// Tells what became of a batch that was [`Verdict::New`].
    pub(crate) fn settle(&self, batch: Remembered, is_stored: bool) {
        if batch.hash == NO_HASH {
            return;
        }
        let mut inner = self.inner.lock();
        inner.states.remove(&batch.hash);
        if is_stored {
            inner.remember(batch, self.limit);
        }
        drop(inner);
        self.settled.notify_all();
    }

    /// Adds a batch found in the WAL; says whether it is new.
    pub(crate) fn restore(&self, batch: Remembered) -> bool {
        batch.hash == NO_HASH || self.inner.lock().remember(batch, self.limit)
    }

    /// Remembers these, oldest first, and no others. Nobody appends meanwhile.
    pub(crate) fn replace(&self, batches: Vec<Remembered>) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        for batch in batches {
            inner.remember(batch, self.limit);
        }
    }

    /// Forgets these stored ones: an equal batch is a new one from now on.
    pub(crate) fn forget(&self, hashes: &HashSet<u128>) {
        let mut inner = self.inner.lock();
        inner.states.retain(|hash, is_stored| !*is_stored || !hashes.contains(hash));
        inner.order.retain(|batch| !hashes.contains(&batch.hash));
    }

    /// Returns the stored ones, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<Remembered> {
        self.inner.lock().order.iter().copied().collect()
    }
}

impl Inner {
    fn remember(&mut self, batch: Remembered, limit: usize) -> bool {
        let is_new = self.states.insert(batch.hash, true) != Some(true);
        if is_new {
            self.order.push_back(batch);
        }
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.states.remove(&oldest.hash);
            }
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hash: u128, first: i64, last: i64) -> Remembered {
        Remembered { hash, arrival: 0, times: (first, last), streams: 0b110 }
    }

    fn batch(hash: u128) -> Remembered {
        at(hash, 0, 0)
    }

    #[test]
    fn a_stored_batch_is_a_repeat_until_it_is_forgotten() {
        let recent = Recent::new(2);
        for hash in [1, 2, 3] {
            assert_eq!(recent.begin(hash), Verdict::New);
            recent.settle(batch(hash), true);
        }
        assert_eq!(recent.begin(3), Verdict::Repeat);
        assert_eq!(recent.begin(1), Verdict::New, "only the last two are known");
        recent.settle(batch(1), false);
        assert_eq!(recent.begin(1), Verdict::New, "it was not stored");
        recent.forget(&HashSet::from([1, 3]));
        assert_eq!((recent.begin(2), recent.begin(3)), (Verdict::Repeat, Verdict::New));
        assert_eq!(recent.snapshot(), [batch(2)]);
        recent.settle(batch(1), true);
        assert_eq!(recent.begin(1), Verdict::Repeat, "one that is under way is not forgotten");
        recent.replace(vec![batch(7)]);
        assert_eq!((recent.begin(7), recent.begin(2)), (Verdict::Repeat, Verdict::New));
    }

    #[test]
    fn a_batch_without_hash_is_always_new() {
        let recent = Recent::new(2);
        recent.begin(1);
        recent.settle(batch(1), true);
        for _ in 0..3 {
            assert_eq!(recent.begin(NO_HASH), Verdict::New);
            recent.settle(batch(NO_HASH), true);
            assert!(recent.restore(batch(NO_HASH)));
        }
        assert_eq!(recent.begin(1), Verdict::Repeat, "it takes nobody's place");
    }

    #[test]
    fn a_repeat_waits_for_the_first_and_tries_itself_when_that_failed() {
        let recent = Recent::new(2);
        assert_eq!(recent.begin(1), Verdict::New);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| recent.begin(1));
            recent.settle(batch(1), false);
            assert_eq!(other.join().unwrap(), Verdict::New);
        });
    }

    #[test]
    fn a_batch_is_touched_by_deletes_in_its_streams_and_times() {
        let one = at(1, 10, 20);
        for times in [(20, 30), (0, 10), (15, 15), (0, 99)] {
            assert!(one.overlaps(times, 0b010) && one.overlaps(times, u64::MAX) && !one.overlaps(times, 0b1001));
        }
        assert!(!one.overlaps((21, 30), u64::MAX) && !one.overlaps((0, 9), u64::MAX));
    }
}
