//! What end-to-end tests stand on: the built binary in a fresh directory, senders, queries, a seeded random.

pub(crate) mod logs;
pub(crate) mod metrics;
mod random;
mod server;
mod wait;

pub(crate) use random::Random;
pub(crate) use server::{Answer, Builder, Server, daybook};
pub(crate) use wait::{DEADLINE, until};

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a test outside of the process sends what a client would send")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("milliseconds fit")
}

/// Returns a file or folder of the test data beside the project; `None`, with a message, where it is missing.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("skipped: {} is not here", found.display());
    None
}

/// Ends a test that cannot run here: with a message, or with a failure where `DAYBOOK_TEST_ALL` demands every test.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("DAYBOOK_TEST_ALL").is_none(), "DAYBOOK_TEST_ALL is set, but {why}");
    println!("skipped: {why}");
}
