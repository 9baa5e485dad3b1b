//! Where appends wait for room in a full head.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Wakes those who wait for a flush. Appends block a thread of their own anyway, so waiting does so too; how many wait is
/// bounded by whoever lets requests in, and each for [`Options::full_head_wait`](crate::Options::full_head_wait) at most.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Guards the look at the head that decides whether to wait: no flush ends unseen between look and wait. It comes
    /// before `state` in the order of locks.
    inner: Mutex<Inner>,
    changed: Condvar,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last flush failed: the next one is some time off, and nobody waits for it.
    flush_failed: bool,
    is_closed: bool,
}

impl Room {
    /// Tries until it works, each time that something changed, for `wait` at most; returns what the last try gave.
    pub(crate) fn wait_for<T, E>(&self, wait: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let deadline = Instant::now() + wait;
        // Counted before the look, so that whoever makes room later sees that someone waits.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut inner = self.inner.lock();
        let result = loop {
            let result = attempt();
            let is_over = inner.flush_failed || inner.is_closed || Instant::now() >= deadline;
            if result.is_ok() || is_over {
                break result;
            }
            self.changed.wait_until(&mut inner, deadline);
        };
        drop(inner);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// Tells that a flush ended.
    pub(crate) fn flushed(&self, failed: bool) {
        self.inner.lock().flush_failed = failed;
        self.changed.notify_all();
    }

    /// Tells that a batch on its way took less than it had reserved, or nothing.
    pub(crate) fn released(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.inner.lock());
            self.changed.notify_all();
        }
    }

    /// Lets everyone who waits go.
    pub(crate) fn close(&self) {
        self.inner.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Returns how many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    /// Waits beside `then`, which makes it end.
    fn waits_until(room: &Room, is_free: &AtomicUsize, then: impl FnOnce()) -> Result<(), ()> {
        let attempt = || if is_free.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(()) };
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| room.wait_for(LONG, attempt));
            while room.waiting() == 0 {
                std::thread::yield_now();
            }
            then();
            waiter.join().unwrap()
        })
    }

    #[test]
    fn a_flush_that_made_room_lets_an_append_in() {
        let (room, is_free) = (Room::default(), AtomicUsize::new(0));
        let free = || {
            is_free.store(1, Ordering::SeqCst);
            room.flushed(false);
        };
        assert_eq!(waits_until(&room, &is_free, free), Ok(()));
        assert_eq!(room.waiting(), 0);
    }

    #[test]
    fn a_failed_flush_and_a_closed_store_end_the_wait() {
        let (room, never) = (Room::default(), AtomicUsize::new(0));
        assert_eq!(waits_until(&room, &never, || room.flushed(true)), Err(()));
        assert_eq!(room.wait_for(LONG, || Err::<(), _>(())), Err(()), "nobody waits while flushes fail");
        room.flushed(false);
        assert_eq!(waits_until(&room, &never, || room.close()), Err(()));
    }

    #[test]
    fn the_wait_ends_by_itself() {
        assert_eq!(Room::default().wait_for(Duration::from_millis(5), || Err::<(), _>(())), Err(()));
    }
}
