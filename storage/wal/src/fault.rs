//! Failures on demand, for tests of what a full or failing disk does to the log and to its users.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Makes writes and fsyncs of one log fail. Clones share the switches; by default nothing fails.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Switches>);

#[derive(Debug)]
struct Switches {
    /// Bytes that may still be written; `u64::MAX` for any number.
    bytes_left: AtomicU64,
    sync_fails: AtomicBool,
}

impl Default for Faults {
    fn default() -> Self {
        Self(Arc::new(Switches { bytes_left: AtomicU64::new(u64::MAX), sync_fails: AtomicBool::new(false) }))
    }
}

impl Faults {
    /// Lets `bytes` more be written, then the disk is "full"; `u64::MAX` makes space without end.
    pub fn fill_disk_after(&self, bytes: u64) {
        self.0.bytes_left.store(bytes, Ordering::SeqCst);
    }

    /// Makes every fsync fail, or succeed again.
    pub fn fail_sync(&self, fails: bool) {
        self.0.sync_fails.store(fails, Ordering::SeqCst);
    }

    /// Takes up to `wanted` bytes from those that may still be written, and returns how many; for other files of the same
    /// disk.
    #[must_use]
    pub fn allow(&self, wanted: usize) -> usize {
        let left = self.0.bytes_left.load(Ordering::SeqCst);
        if left == u64::MAX {
            return wanted;
        }
        let allowed = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.0.bytes_left.fetch_sub(allowed as u64, Ordering::SeqCst);
        allowed
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.0.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("an fsync that fails on purpose"));
        }
        Ok(())
    }
}
