//! Waiting for a condition, with a deadline.

use std::time::Duration;

/// Longest wait for what should happen soon; generous, since it only costs time when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value.
///
/// # Panics
/// After [`DEADLINE`], with what was waited for.
#[track_caller]
pub(crate) fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(POLL).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{caller}: waited {DEADLINE:?} in vain for {what}"))
    }
}
