//! Where tests make I/O fail: each step that changes what is on disk passes a point. Without tests a point is nothing.

#[cfg(not(test))]
pub(crate) use off::Faults;
#[cfg(test)]
pub(crate) use on::Faults;

#[cfg(not(test))]
mod off {
    use std::io;

    /// What shall fail: nothing.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Faults;

    impl Faults {
        /// Returns what shall fail on this thread.
        pub(crate) fn current() -> Self {
            Self
        }

        /// Passes a point.
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "in tests it may fail")]
        pub(crate) fn pass(self, _: &'static str) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod on {
    use std::cell::RefCell;
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    thread_local! {
        static CURRENT: RefCell<Faults> = RefCell::new(Faults::default());
    }

    /// What shall fail. Clones share it, so that threads of one piece of work can.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Faults(Arc<Mutex<Plan>>);

    #[derive(Debug, Default)]
    struct Plan {
        /// Points that still succeed; `None` for all.
        left: Option<u64>,
        /// Whether those behind the first one that fails do so, too, as on a full disk.
        stays: bool,
        /// Those that failed.
        failed: Vec<&'static str>,
    }

    impl Faults {
        /// Returns what shall fail on this thread.
        pub(crate) fn current() -> Self {
            CURRENT.with_borrow(Clone::clone)
        }

        /// Lets so many points succeed. Then one fails as a broken disk does, or, when it `stays`, all as on a full disk.
        pub(crate) fn fail_after(left: u64, stays: bool) {
            *Self::current().0.lock() = Plan { left: Some(left), stays, failed: Vec::new() };
        }

        /// Lets everything succeed again, and returns the points that failed.
        pub(crate) fn heal() -> Vec<&'static str> {
            std::mem::take(&mut *Self::current().0.lock()).failed
        }

        /// Passes a point.
        pub(crate) fn pass(&self, point: &'static str) -> io::Result<()> {
            let mut plan = self.0.lock();
            match plan.left {
                Some(0) if plan.stays || plan.failed.is_empty() => {
                    plan.failed.push(point);
                    let kind = if plan.stays { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
                    Err(io::Error::new(kind, format!("{point} fails on purpose")))
                }
                Some(left) => {
                    plan.left = Some(left.saturating_sub(1));
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }
}
