//! One signal to stop, handed down to every part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells tasks to stop and waits for them. Clones are the same signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    pending: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Shutdown {
    /// Returns a signal that was not given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Says whether the signal was given.
    #[must_use]
    pub fn started(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for the signal. Cancel safe.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// Returns the token, for libraries that want one.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task that [`finish`](Self::finish) waits for, under a name for the log. A panic in it is logged.
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.to_owned();
        *self.pending.lock().entry(name.clone()).or_default() += 1;
        let pending = Arc::clone(&self.pending);
        let guard = Pending { name, pending };
        self.tracker.spawn(async move {
            let guard = guard;
            task.await;
            drop(guard);
        });
    }

    /// Gives the signal and waits for all tasks, at most `deadline`. Returns the names of those still running then.
    pub async fn finish(&self, deadline: Duration) -> Vec<String> {
        self.start();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        self.pending.lock().keys().cloned().collect()
    }
}

/// Keeps a task's name in the list until the task ends, however it ends.
struct Pending {
    name: String,
    pending: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "task panicked");
        }
        let mut pending = self.pending.lock();
        if let Some(count) = pending.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finish_names_who_is_late() {
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        shutdown.spawn("prompt", async move { inner.wait().await });
        shutdown.spawn("late", std::future::pending());
        assert_eq!(shutdown.finish(Duration::from_secs(5)).await, vec!["late".to_owned()]);
    }
}
