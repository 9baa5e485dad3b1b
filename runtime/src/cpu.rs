//! A bounded pool for work that burns CPU, so that I/O workers stay free.

use std::sync::Arc;

/// Each thread's stack. Evaluators recurse over trees up to their depth limits, and `rayon` nests stolen work on top.
const STACK_BYTES: usize = 16 << 20;

/// A fixed number of threads for decoding, search and evaluation. Clones share them.
#[derive(Debug, Clone)]
pub struct CpuPool(Arc<rayon::ThreadPool>);

/// The pool could not start its threads.
#[derive(Debug, thiserror::Error)]
#[error("the CPU pool could not start {threads} threads")]
pub struct StartError {
    threads: usize,
    #[source]
    source: rayon::ThreadPoolBuildError,
}

impl CpuPool {
    /// Starts `threads` threads, one per core for 0.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, StartError> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .stack_size(STACK_BYTES)
            .thread_name(|i| format!("cpu-{i}"))
            .build()
            .map(|pool| Self(Arc::new(pool)))
            .map_err(|source| StartError { threads, source })
    }

    /// Runs `work` inside the pool and waits; `rayon`'s parallel iterators in it use the pool's threads. Not for async code.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }

    /// Runs `work` in the pool and returns its result; `None` when it panicked. Dropping the future does not stop the work.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.0.spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // The receiver is gone when the caller was cancelled; nothing is lost then.
            if let Ok(value) = result {
                drop(send.send(value));
            }
        });
        receive.await.ok()
    }

    /// Returns the number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_the_pool_goes_on() {
        let pool = CpuPool::new(1).unwrap();
        assert_eq!(pool.run(|| -> u32 { panic!("on purpose") }).await, None);
        assert_eq!(pool.run(|| 7).await, Some(7));
    }
}
