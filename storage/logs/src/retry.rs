//! Remembers recent batches, so that a client's retry is stored once.

use std::collections::{HashMap, VecDeque};

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
    /// Stored ones, oldest first, with their time of arrival.
    order: VecDeque<(u128, i64)>,
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
    pub(crate) fn settle(&self, hash: u128, arrival: i64, is_stored: bool) {
        if hash == NO_HASH {
            return;
        }
        let mut inner = self.inner.lock();
        inner.states.remove(&hash);
        if is_stored {
            inner.remember(hash, arrival, self.limit);
        }
        drop(inner);
        self.settled.notify_all();
    }

    /// Adds a batch found in the WAL; says whether it is new.
    pub(crate) fn restore(&self, hash: u128, arrival: i64) -> bool {
        hash == NO_HASH || self.inner.lock().remember(hash, arrival, self.limit)
    }

    /// Forgets the stored ones: an equal batch is a new one from now on.
    pub(crate) fn forget(&self) {
        let mut inner = self.inner.lock();
        inner.states.retain(|_, is_stored| !*is_stored);
        inner.order.clear();
    }

    /// Returns the stored ones, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<(u128, i64)> {
        self.inner.lock().order.iter().copied().collect()
    }
}

impl Inner {
    fn remember(&mut self, hash: u128, arrival: i64, limit: usize) -> bool {
        let is_new = self.states.insert(hash, true) != Some(true);
        if is_new {
            self.order.push_back((hash, arrival));
        }
        while self.order.len() > limit {
            if let Some((oldest, _)) = self.order.pop_front() {
                self.states.remove(&oldest);
            }
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_batch_is_a_repeat_until_it_is_forgotten() {
        let recent = Recent::new(2);
        for hash in [1, 2, 3] {
            assert_eq!(recent.begin(hash), Verdict::New);
            recent.settle(hash, 0, true);
        }
        assert_eq!(recent.begin(3), Verdict::Repeat);
        assert_eq!(recent.begin(1), Verdict::New, "only the last two are known");
        recent.settle(1, 0, false);
        assert_eq!(recent.begin(1), Verdict::New, "it was not stored");
    }

    #[test]
    fn a_batch_without_hash_is_always_new() {
        let recent = Recent::new(2);
        recent.begin(1);
        recent.settle(1, 0, true);
        for _ in 0..3 {
            assert_eq!(recent.begin(NO_HASH), Verdict::New);
            recent.settle(NO_HASH, 0, true);
            assert!(recent.restore(NO_HASH, 0));
        }
        assert_eq!(recent.begin(1), Verdict::Repeat, "it takes nobody's place");
    }

    #[test]
    fn a_repeat_waits_for_the_first_and_tries_itself_when_that_failed() {
        let recent = Recent::new(2);
        assert_eq!(recent.begin(1), Verdict::New);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| recent.begin(1));
            recent.settle(1, 0, false);
            assert_eq!(other.join().unwrap(), Verdict::New);
        });
    }
}
